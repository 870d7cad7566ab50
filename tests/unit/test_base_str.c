/* Views: searching, splitting, strict numbers, patterns (against a plain recursive matcher). */
#include "base/array.h"
#include "base/clock.h"
#include "base/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void slices_are_clamped(void **state)
{
    (void)state;
    struct str s = STR("hello");
    assert_true(str_eq(str_slice(s, 1, 3), STR("el")));
    assert_true(str_eq(str_slice(s, 3, 99), STR("lo")));
    assert_int_equal(str_slice(s, 9, 2).len, 0);
    assert_int_equal(str_slice((struct str){NULL, 0}, 0, 5).len, 0);
    assert_int_equal(str_of(NULL).len, 0);
}

static void comparing(void **state)
{
    (void)state;
    assert_true(str_cmp(STR("a"), STR("ab")) < 0);
    assert_true(str_cmp(STR("b"), STR("ab")) > 0);
    assert_int_equal(str_cmp(STR("a\0b"), STR("a\0b")), 0);
    assert_true(str_cmp(STR("\x7F"), STR("\x80")) < 0);
    assert_int_equal(str_cmp((struct str){NULL, 0}, STR("")), 0);
    assert_true(str_eq_nocase(STR("Content-TYPE"), STR("content-type")));
    assert_false(str_eq_nocase(STR("a["), STR("A{"))); /* differ in the bit that letters differ in */
    assert_false(str_eq_nocase(STR("a"), STR("ab")));
    assert_true(str_starts(STR("abc"), STR("")) && str_ends(STR("abc"), STR("bc")) && !str_ends(STR("c"), STR("bc")));
}

static void finding(void **state)
{
    (void)state;
    assert_int_equal(str_find(STR("aaab"), STR("aab")), 1);
    assert_int_equal(str_find(STR("abc"), STR("c")), 2);
    assert_true(str_find(STR("abc"), STR("cd")) == STR_NPOS);
    assert_true(str_find(STR("ab"), STR("abc")) == STR_NPOS);
    assert_int_equal(str_find(STR("ab"), STR("")), 0);
    assert_int_equal(str_find(STR("a\0b"), STR("\0b")), 1);
    assert_true(str_find((struct str){NULL, 0}, STR("a")) == STR_NPOS);
    assert_int_equal(str_find_char(STR("a,b"), ','), 1);
    assert_true(str_find_char((struct str){NULL, 0}, ',') == STR_NPOS);
}

static void hexadecimal_digits_and_percent_encoding(void **state)
{
    (void)state;
    static const char digits[] = "0123456789abcdef", capitals[] = "0123456789ABCDEF";
    int n_digits = 0;
    for (int c = -128; c < 128; c++) {
        n_digits += hex_digit((char)c) >= 0;
    }
    assert_int_equal(n_digits, 22);
    for (int i = 0; i < 16; i++) {
        assert_true(hex_digit(digits[i]) == i && hex_digit(capitals[i]) == i);
    }
    uint32_t number = 7;
    assert_false(hex_number(STR("12g4"), 4, &number) || hex_number(STR("123"), 4, &number));
    assert_false(hex_number((struct str){NULL, 0}, 1, &number));
    assert_int_equal(number, 7);
    assert_true(hex_number(STR("00Ff1"), 4, &number) && number == 0xFF);
    assert_true(hex_number(STR("fffffffe"), 8, &number) && number == 0xFFFFFFFE);
    static const struct {
        struct str s;
        int byte;
        size_t used;
    } rows[] = {{STR("%41x"), 'A', 3}, {STR("%fF"), 0xFF, 3},      {STR("%4"), '%', 1},
                {STR("%4g"), '%', 1},  {STR("%\x10\x11"), '%', 1}, {STR("\xE9"), 0xE9, 1}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        size_t used;
        assert_int_equal(percent_byte(rows[i].s, &used), rows[i].byte);
        assert_int_equal(used, rows[i].used);
    }
}

static void trimming_and_splitting(void **state)
{
    (void)state;
    assert_true(str_eq(str_trim(STR(" \t a b\r\n")), STR("a b")));
    assert_int_equal(str_trim(STR(" \n")).len, 0);
    struct str rest = STR("a,,b,"), part;
    static const char *const expected[] = {"a", "", "b", ""};
    for (size_t i = 0; i < ARRAY_LEN(expected); i++) {
        assert_true(str_split(&rest, ',', &part));
        assert_true(str_eq(part, str_of(expected[i])));
    }
    assert_false(str_split(&rest, ',', &part));
}

static void integers(void **state)
{
    (void)state;
    int64_t i = 42;
    uint64_t u = 42;
    static const char *const bad[] = {
        "", "-", "+1", " 1", "1 ", "1.0", "0x1", "9223372036854775808", "-9223372036854775809", "--1"};
    for (size_t k = 0; k < ARRAY_LEN(bad); k++) {
        assert_false(str_to_i64(str_of(bad[k]), &i));
        assert_int_equal(i, 42);
    }
    assert_true(str_to_i64(STR("-9223372036854775808"), &i) && i == INT64_MIN);
    assert_true(str_to_i64(STR("9223372036854775807"), &i) && i == INT64_MAX);
    assert_true(str_to_u64(STR("18446744073709551615"), &u) && u == UINT64_MAX);
    assert_false(str_to_u64(STR("18446744073709551616"), &u));
    assert_false(str_to_u64(STR("99999999999999999999999"), &u));
    assert_false(str_to_u64(STR("-1"), &u));
    assert_false(str_to_u64(STR("1\0"), &u));
}

static void floats(void **state)
{
    (void)state;
    double d = 42;
    static const char *const bad[] = {"",       ".",  "1e", "nan", "inf", "0x1p3", "1e999",
                                      "-1e999", " 1", "1 ", "+1",  "1,5", "1e5x"};
    for (size_t k = 0; k < ARRAY_LEN(bad); k++) {
        assert_false(str_to_f64(str_of(bad[k]), &d));
        assert_true(d == 42);
    }
    assert_true(str_to_f64(STR("-1.5e-3"), &d) && d == -1.5e-3);
    assert_true(str_to_f64(STR("0.1"), &d) && d == 0.1);
    assert_true(str_to_f64(str_slice(STR("2.75"), 0, 3), &d) && d == 2.7); /* the view ends, the memory does not */
}

static bool match_by_definition(struct str p, struct str s)
{
    if (p.len == 0) {
        return s.len == 0;
    }
    if (p.ptr[0] == '*') {
        return match_by_definition(str_slice(p, 1, p.len), s) ||
               (s.len && match_by_definition(p, str_slice(s, 1, s.len)));
    }
    return s.len && (p.ptr[0] == '?' || p.ptr[0] == s.ptr[0]) &&
           match_by_definition(str_slice(p, 1, p.len), str_slice(s, 1, s.len));
}

static void patterns_equal_the_definition(void **state)
{
    (void)state;
    for (unsigned seed = 0; seed < 200000; seed++) { /* every pattern of up to 5 of "*?ab" against texts of "ab" */
        char p[5], s[6];
        size_t n_p = seed % 6, n_s = seed / 6 % 7;
        unsigned x = seed * 2654435761u;
        for (size_t i = 0; i < n_p; i++, x = x * 1664525u + 1013904223u) {
            p[i] = "*?ab"[x >> 28 & 3];
        }
        for (size_t i = 0; i < n_s; i++, x = x * 1664525u + 1013904223u) {
            s[i] = "ab"[x >> 28 & 1];
        }
        struct str pattern = {p, n_p}, text = {s, n_s};
        assert_int_equal(str_match(pattern, text), match_by_definition(pattern, text));
    }
}

static void names_in_paths(void **state)
{
    (void)state;
    static const char *const cases[][2] = {{"a/b.gguf", "b.gguf"},
                                           {"b", "b"},
                                           {"/a/b//", "b"},
                                           {"a/", "a"},
                                           {"/a", "a"},
                                           {"/", "/"},
                                           {"//", "/"},
                                           {"", ""}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_true(str_eq(str_path_name(str_of(cases[i][0])), str_of(cases[i][1])));
    }
}

static void hostile_pattern_ends_soon(void **state)
{
    (void)state;
    char pattern[200], text[20000];
    for (size_t i = 0; i < sizeof pattern; i++) {
        pattern[i] = i % 2 ? 'a' : '*';
    }
    pattern[sizeof pattern - 1] = 'b';
    memset(text, 'a', sizeof text);
    int64_t start = clock_ms();
    assert_false(str_match((struct str){pattern, sizeof pattern}, (struct str){text, sizeof text}));
    assert_true(clock_ms() - start < 2000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slices_are_clamped),
        cmocka_unit_test(comparing),
        cmocka_unit_test(finding),
        cmocka_unit_test(names_in_paths),
        cmocka_unit_test(trimming_and_splitting),
        cmocka_unit_test(hexadecimal_digits_and_percent_encoding),
        cmocka_unit_test(integers),
        cmocka_unit_test(floats),
        cmocka_unit_test(patterns_equal_the_definition),
        cmocka_unit_test(hostile_pattern_ends_soon),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
