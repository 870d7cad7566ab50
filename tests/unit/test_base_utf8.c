/* UTF-8: every code point, the substitution examples of Unicode 3.9, and cuts at every byte. */
#include "base/array.h"
#include "base/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void every_code_point_round_trips(void **state)
{
    (void)state;
    for (uint32_t c = 0; c <= 0x110010; c++) {
        char bytes[4];
        uint32_t back;
        size_t n = utf8_encode(c, bytes);
        if ((c >= 0xD800 && c <= 0xDFFF) || c > 0x10FFFF) {
            assert_int_equal(n, 0);
            continue;
        }
        assert_int_equal(n, c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4);
        assert_int_equal(utf8_decode((struct str){bytes, n}, &back), n);
        assert_int_equal(back, c);
        for (size_t part = 1; part < n; part++) {
            assert_int_equal(utf8_decode((struct str){bytes, part}, &back), part);
            assert_true(back == UTF8_INVALID);
            assert_int_equal(utf8_complete_prefix((struct str){bytes, part}), 0);
        }
    }
}

static void halves_that_are_a_pair(void **state)
{
    (void)state;
    assert_int_equal(utf16_pair(0xD800, 0xDC00), 0x10000);
    assert_int_equal(utf16_pair(0xD83D, 0xDE00), 0x1F600);
    assert_int_equal(utf16_pair(0xDBFF, 0xDFFF), 0x10FFFF);
    static const uint32_t others[] = {0, 0x41, 0xD7FF, 0xE000, 0x10000, UTF8_INVALID};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        assert_true(utf16_pair(others[i], 0xDC00) == UTF8_INVALID);
        assert_true(utf16_pair(0xD800, others[i]) == UTF8_INVALID);
    }
    assert_true(utf16_pair(0xDC00, 0xD800) == UTF8_INVALID && utf16_pair(0xD800, 0xD800) == UTF8_INVALID);
}

/* A sequence is valid exactly when it is what utf8_encode gives for the value its bits spell. */
static void every_three_bytes(void **state)
{
    (void)state;
    size_t n_valid = 0;
    for (uint32_t x = 0; x < 1u << 24; x += 1 + (x & 0xFF) % 3) {
        char bytes[3] = {(char)(x >> 16), (char)(x >> 8), (char)x}, again[4];
        uint32_t c;
        size_t n = utf8_decode((struct str){bytes, 3}, &c);
        assert_in_range(n, 1, 3);
        if (c != UTF8_INVALID) {
            n_valid++;
            assert_int_equal(utf8_encode(c, again), n);
            assert_memory_equal(bytes, again, n);
        }
    }
    assert_true(n_valid > 1000000);
}

static void maximal_subparts(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t count;
    } cases[] = {
        {"\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41", 9},
        {"\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41", 9},
        {"\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42", 9},
        {"\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", 5},
    }; /* Unicode 15, tables 3-8 to 3-11 */
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(utf8_count(str_of(cases[i].bytes)), cases[i].count);
        assert_false(utf8_valid(str_of(cases[i].bytes)));
    }
    assert_true(utf8_valid(STR("h\xC3\xA9llo \xE2\x82\xAC \xF0\x9F\x98\x80\0")));
    assert_int_equal(utf8_count(STR("h\xC3\xA9llo \xE2\x82\xAC \xF0\x9F\x98\x80")), 9);
    assert_true(utf8_valid(STR("")));
}

static void complete_prefix_at_every_byte(void **state)
{
    (void)state;
    static const char text[] = "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80z";
    static const size_t whole[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11};
    for (size_t n = 0; n < ARRAY_LEN(whole); n++) {
        assert_int_equal(utf8_complete_prefix((struct str){text, n}), whole[n]);
        assert_int_equal(utf8_cut(STR("a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80z"), n), whole[n]);
    }
    /* bytes that nothing can complete are not held back */
    assert_int_equal(utf8_complete_prefix(STR("a\xFF")), 2);
    assert_int_equal(utf8_complete_prefix(STR("a\xC0")), 2);
    assert_int_equal(utf8_complete_prefix(STR("a\xE0\x80")), 3);
    assert_int_equal(utf8_complete_prefix(STR("\x80\x80\x80\x80")), 4);
    assert_int_equal(utf8_complete_prefix(STR("\xF5\x80\x80")), 3);
}

static void cut_goes_no_further_than_a_character(void **state)
{
    (void)state;
    assert_int_equal(utf8_cut(STR("\x80\x80\x80\x80\x80\x80\x80\x80"), 6), 6);
    assert_int_equal(utf8_cut(STR("a\x80\x80\x80"), 2), 2); /* no character is cut: these bytes are none */
    assert_int_equal(utf8_cut(STR("ab"), 9), 2);
    assert_int_equal(utf8_cut(STR("\xF0\x9F\x98\x80"), 3), 0);
    assert_int_equal(utf8_cut((struct str){NULL, 0}, 3), 0);
}

static void plain_text_has_nothing_that_terminals_obey(void **state)
{
    static const struct {
        const char *text, *plain;
    } rows[] = {{"a\n\tb \xc3\xa9\xe2\x82\xac~", "a\n\tb \xc3\xa9\xe2\x82\xac~"},
                {"\x1b[2J\r\x07\x7f", "?[2J???"},
                {"a\xc2\x9b"
                 "2J\xc2\xa0",
                 "a??2J\xc2\xa0"},
                {"\xff\xc3", "??"},
                {"", ""}};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[32];
        snprintf(text, sizeof text, "%s", rows[i].text);
        utf8_make_plain(text, strlen(text));
        assert_string_equal(text, rows[i].plain);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_point_round_trips),
        cmocka_unit_test(halves_that_are_a_pair),
        cmocka_unit_test(every_three_bytes),
        cmocka_unit_test(maximal_subparts),
        cmocka_unit_test(complete_prefix_at_every_byte),
        cmocka_unit_test(cut_goes_no_further_than_a_character),
        cmocka_unit_test(plain_text_has_nothing_that_terminals_obey),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
