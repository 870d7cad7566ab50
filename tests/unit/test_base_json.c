/* Strict reading and writing of JSON. */
#include "base/array.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <math.h>

static struct json *parse(const char *text)
{
    struct error err;
    struct json *root = json_parse(str_of(text), 0, &err);
    if (!root) {
        fail_msg("%s: %s", text, err.msg);
    }
    return root;
}

static void expect_error(struct str text, int depth, const char *part)
{
    struct error err = {0};
    struct json *root = json_parse(text, depth, &err);
    if (root || !strstr(err.msg, part)) {
        fail_msg("%.*s: expected an error with '%s', got '%s'", (int)text.len, text.ptr, part,
                 root ? "a value" : err.msg);
    }
    assert_int_equal(err.code, ERR_INVALID);
}

static void refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        " ",
        "{",
        "[",
        "[1",
        "[1,",
        "{\"a\"",
        "{\"a\":",
        "{\"a\":1",
        "{\"a\":1,",
        "\"",
        "\"a",
        "\"\\",
        "\"\\u",
        "\"\\u12",
        "NaN",
        "nan",
        "Infinity",
        "-Infinity",
        "inf",
        "-inf",
        "+1",
        "01",
        "-01",
        "00",
        "-",
        ".5",
        "1.",
        "1.e5",
        "1e",
        "1e+",
        "0x10",
        "1_000",
        "--1",
        "'a'",
        "[1,]",
        "{\"a\":1,}",
        "[,1]",
        "[1,,2]",
        "{,}",
        "{\"a\" 1}",
        "{\"a\":1 \"b\":2}",
        "{a:1}",
        "{'a':1}",
        "{1:2}",
        "{\"a\":1:2}",
        "[1 2]",
        "[1}",
        "{\"a\":1]",
        "]",
        "}",
        "1 2",
        "[] []",
        "nullx",
        "null x",
        "tru",
        "True",
        "TRUE",
        "NULL",
        "None",
        "/* c */1",
        "1/* c */",
        "//c\n1",
        "[1]//",
        "#c\n1",
        "\"\\x41\"",
        "\"\\'\"",
        "\"\\a\"",
        "\"\t\"",
        "\"\n\"",
        "\"\x01\"",
        "\"\\u00g0\"",
        "\"\\ud800\"",
        "\"\\udc00\"",
        "\"\\ud800\\u0041\"",
        "\"\\ud800x\"",
        "\"\\ud800\\ud800\"",
        "{\"\\ud800\":1}",
        "1e999",
        "-1e999",
        "1e400",
        "\xEF\xBB\xBF"
        "1",
        "\f1",
        "\v1",
        "\xC2\xA0"
        "1",
        "{\"a\\u0000b\":1}",
        "\"a\" \"b\"",
        "undefined",
        "[1]]",
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        expect_error(str_of(texts[i]), 0, "");
    }
    expect_error(STR("1\0"), 0, "");
    expect_error(STR("\0"), 0, "");
    expect_error(STR("\"a\0b\""), 0, "control character");
    expect_error(STR("[1\0]"), 0, "");
    expect_error(STR("\"\xFF\""), 0, "UTF-8");
    expect_error(STR("\"\xED\xA0\x80\""), 0, "UTF-8");
    expect_error((struct str){NULL, 0}, 0, "value is expected");
}

static void errors_have_lines_and_columns(void **state)
{
    (void)state;
    expect_error(STR("{\n  \"a\": 1,\n  \"b\": x\n}"), 0, "line 3, column 8");
    expect_error(STR("{\"a\":1,\n\"a\":2}"), 0, "line 2");
    expect_error(STR("{\"a\":1,\n\"a\":2}"), 0, "duplicate key 'a'");
    expect_error(STR("[[\n[1]]]"), 2, "line 2, column 1");
    expect_error(STR("[[\n[1]]]"), 2, "nested deeper than 2");
}

static void duplicates_are_compared_unescaped(void **state)
{
    (void)state;
    expect_error(STR("{\"a\":1,\"b\":{},\"a\":2}"), 0, "duplicate key 'a'");
    expect_error(STR("{\"a\":1,\"\\u0061\":2}"), 0, "duplicate");
    expect_error(STR("{\"\\n\":1,\"\\u000A\":2}"), 0, "duplicate");
    expect_error(STR("{\"\\ud83d\\ude00\":1,\"\xF0\x9F\x98\x80\":2}"), 0, "duplicate");
    expect_error(STR("{\"\":1,\"\":2}"), 0, "duplicate");
    expect_error(STR("[{\"x\":[{\"a\":1,\"b\":[],\"a\":2}]}]"), 0, "duplicate");
    json_free(parse("{\"a\":{\"a\":{\"a\":1}},\"A\":[{\"a\":1},{\"a\":1}],\"a \":1,\"\":2}"));
}

static void depth_is_bounded(void **state)
{
    (void)state;
    char text[2 * 600 + 1];
    struct error err;
    for (int limit = 1; limit <= 512; limit = limit < 34 ? limit + 1 : limit * 2 - 4) {
        for (int depth = limit; depth <= limit + 1; depth++) {
            memset(text, '[', (size_t)depth);
            memset(text + depth, ']', (size_t)depth);
            struct json *root = json_parse((struct str){text, 2 * (size_t)depth}, limit, &err);
            assert_int_equal(root != NULL, depth <= limit);
            json_free(root);
        }
    }
    memset(text, '[', 33);
    memset(text + 33, ']', 33);
    expect_error((struct str){text, 66}, 0, "32 levels");
    expect_error((struct str){text + 1, 64 + 1}, 0, "nothing may follow");
}

static void scalars_at_the_top(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum json_type type;
    } cases[] = {{"null", JSON_NULL},    {" true\n", JSON_BOOL}, {"0", JSON_INT},        {"-1 ", JSON_INT},
                 {"\t1.0", JSON_DOUBLE}, {"1e5\r", JSON_DOUBLE}, {"\"x\"", JSON_STRING}, {" [ ] ", JSON_ARRAY},
                 {"{ }", JSON_OBJECT},   {"-0", JSON_INT}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct json *root = parse(cases[i].text);
        assert_int_equal(json_type(root), cases[i].type);
        json_free(root);
    }
    struct json *root = parse("null");
    assert_true(json_is_null(root));
    assert_null(json_str(root).ptr);
    assert_null(json_number_text(root).ptr);
    assert_int_equal(json_len(root), 0);
    json_free(root);
    root = parse("\"\\u0001null\""); /* spells the marker of a null document */
    assert_int_equal(json_type(root), JSON_STRING);
    assert_int_equal(json_str(root).len, 5);
    json_free(root);
    json_free(NULL);
    assert_string_equal(json_type_name(JSON_DOUBLE), "number");
}

static void integers_of_64_bits(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t value;
    } exact[] = {{"9223372036854775807", INT64_MAX},
                 {"-9223372036854775808", INT64_MIN},
                 {"9007199254740993", 9007199254740993}};
    for (size_t i = 0; i < ARRAY_LEN(exact); i++) {
        struct json *root = parse(exact[i].text);
        assert_int_equal(json_type(root), JSON_INT);
        assert_true(json_int(root) == exact[i].value);
        assert_true(str_eq(json_number_text(root), str_of(exact[i].text)));
        json_free(root);
    }
    static const char *const wide[] = {"9223372036854775808",
                                       "-9223372036854775809",
                                       "18446744073709551615",
                                       "18446744073709551616",
                                       "-100000000000000000000000000000",
                                       "12345678901234567890123"};
    for (size_t i = 0; i < ARRAY_LEN(wide); i++) {
        struct json *root = parse(wide[i]);
        assert_int_equal(json_type(root), JSON_DOUBLE);
        assert_true(json_double(root) == strtod(wide[i], NULL));
        assert_true(str_eq(json_number_text(root), str_of(wide[i])));
        json_free(root);
    }
    struct json *root = parse(
        "{\"a\":[99999999999999999999, 1, -99999999999999999999],\"99999999999999999999\":\"99999999999999999999\"}");
    struct buf out;
    buf_init(&out, 1000);
    json_print(&out, root);
    assert_string_equal(
        out.data,
        "{\"a\":[99999999999999999999,1,-99999999999999999999],\"99999999999999999999\":\"99999999999999999999\"}");
    buf_release(&out);
    json_free(root);
}

static void texts_of_numbers(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "1.0",   "1e2", "1E+2", "0.10", "-0.0", "1e0", "5e0", "123456789012345678e0", "100000000000000000000.0",
        "1e-400"};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct json *root = parse(texts[i]);
        assert_int_equal(json_type(root), JSON_DOUBLE);
        assert_true(json_double(root) == strtod(texts[i], NULL));
        assert_true(str_eq(json_number_text(root), str_of(texts[i])));
        json_free(root);
    }
    struct json *root = parse("\"1\"");
    assert_null(json_number_text(root).ptr);
    json_free(root);
}

static void strings_keep_every_byte(void **state)
{
    (void)state;
    struct json *root = parse("\"a\\u0000b\\ud83d\\ude00\\u20ac\\n\\/\\\"\xC3\xA9\"");
    assert_true(str_eq(json_str(root), STR("a\0b\xF0\x9F\x98\x80\xE2\x82\xAC\n/\"\xC3\xA9")));
    assert_int_equal(json_str(root).ptr[json_str(root).len], '\0');
    json_free(root);
}

/* One of every 16 escaped code points of the planes above the first, each with a few around the border cases. */
static void escaped_pairs_are_characters(void **state)
{
    (void)state;
    for (uint32_t c = 0x10000; c <= 0x10FFFF; c += (c & 0xF800) == 0xD800 ? 1 : 16) {
        char text[64], bytes[4];
        uint32_t high = 0xD800 + ((c - 0x10000) >> 10), low = 0xDC00 + ((c - 0x10000) & 0x3FF);
        size_t n = utf8_encode(c, bytes);
        snprintf(text, sizeof text, "{\"k\\u%04x\\u%04X\":\"\\u%04X\\u%04x\"}", high, low, high, low);
        struct json *root = parse(text);
        struct json_iter it = json_members(root);
        assert_true(json_next(&it));
        assert_true(it.key.len == n + 1 && memcmp(it.key.ptr + 1, bytes, n) == 0);
        assert_true(str_eq(json_str(it.value), (struct str){bytes, n}));
        json_free(root);
    }
}

static void strings_of_arrays_are_found(void **state)
{
    (void)state;
    struct json *list = parse("[1,\"ab\",null,\"a\"]");
    assert_true(json_lists(list, STR("a")) && json_lists(list, STR("ab")));
    assert_false(json_lists(list, STR("b")) || json_lists(list, STR("1")) || json_lists(list, STR("")));
    json_free(list);
}

static void access_of_the_wrong_type_is_harmless(void **state)
{
    (void)state;
    struct json *root = parse("{\"n\":null,\"a\":[1,null],\"s\":\"x\",\"b\":true}");
    assert_null(json_get(root, "n"));
    assert_null(json_get(root, "absent"));
    assert_null(json_get(json_get(root, "a"), "x"));
    assert_null(json_get(NULL, "x"));
    assert_true(json_has(root, "n") && json_has(root, "a"));
    assert_false(json_has(root, "absent") || json_has(json_get(root, "a"), "x") || json_has(NULL, "x"));
    assert_false(json_lists(root, STR("x")) || json_lists(json_get(root, "a"), STR("")) || json_lists(NULL, STR("")));
    assert_null(json_at(root, 0));
    assert_null(json_at(json_get(root, "a"), 1));
    assert_null(json_at(json_get(root, "a"), 2));
    assert_int_equal(json_len(json_get(root, "s")), 0);
    assert_null(json_str(json_get(root, "a")).ptr);
    assert_true(json_bool(json_get(root, "b")));
    assert_int_equal(json_int(json_at(json_get(root, "a"), 0)), 1);
    struct json_iter it = json_members(json_get(root, "a"));
    assert_false(json_next(&it));
    json_free(root);
}

static void members_come_in_source_order(void **state)
{
    (void)state;
    struct json *root = parse("{\"z\":1,\"a\":null,\"m\":{}}");
    static const char *const keys[] = {"z", "a", "m"};
    size_t n = 0;
    for (struct json_iter it = json_members(root); json_next(&it); n++) {
        assert_true(str_eq(it.key, str_of(keys[n])));
        assert_true((it.value == NULL) == (n == 1)); /* a null member is there, with no value */
    }
    assert_int_equal(n, 3);
    assert_int_equal(json_len(root), 3);
    json_free(root);
}

static void print_gives_the_source_back(void **state)
{
    (void)state;
    static const char text[] =
        "{\"z\":[1,2.50,-3e5,true,false,null,\"\\u0000\\\"\\\\\\n\xE2\x82\xAC\"],\"a\":{},\"b\":[],\"\\n\":[[{}]]}";
    struct json *root = parse(text);
    struct buf out;
    buf_init(&out, 1000);
    json_print(&out, root);
    assert_string_equal(out.data, text);
    buf_release(&out);
    json_free(root);
}

static void many_keys_are_near_linear(void **state)
{
    (void)state;
    struct buf text;
    struct error err;
    int64_t took[2];
    for (int round = 0; round < 2; round++) {
        int n = round ? 200000 : 50000;
        buf_init(&text, (size_t)16 << 20);
        buf_putc(&text, '{');
        for (int i = 0; i < n; i++) {
            buf_printf(&text, "%s\"key%d\":%d", i ? "," : "", i, i);
        }
        buf_putc(&text, '}');
        int64_t start = clock_ns();
        struct json *root = json_parse(buf_view(&text), 0, &err);
        took[round] = clock_ns() - start;
        assert_non_null(root);
        assert_int_equal(json_len(root), n);
        assert_int_equal(json_int(json_get(root, "key777")), 777);
        json_free(root);
        buf_truncate(&text, text.len - 1);
        buf_puts(&text, ",\"key5\":0}");
        expect_error(buf_view(&text), 0, "duplicate key 'key5'");
        buf_release(&text);
    }
    assert_true(took[1] < 16 * took[0] + 50000000); /* four times the keys; quadratic would be sixteen */
}

static void lines_of_paths(void **state)
{
    (void)state;
    static const char text[] =
        "{\n \"a\": {\n  \"x\": [1, \"]}\", {\"q\":[]}],\n  \"b\": [\n   {},\n   0,\n   {\"c\":\n    5}\n  ]\n },\n"
        " \"\\u0063\": true,\n \"d\": -1.5e3}";
    static const struct {
        const char *path;
        int line;
    } cases[] = {{"", 1},       {"a", 2},        {"a.b", 4},      {"a.b[0]", 5},  {"a.b[1]", 6},
                 {"a.b[2]", 7}, {"a.b[2].c", 8}, {"c", 11},       {"d", 12},      {"a.x[2].q", 3},
                 {"e", 0},      {"a.b[3]", 0},   {"a.b[2].d", 0}, {"c.x", 0},     {"c[0]", 0},
                 {"[0]", 0},    {"a.b[", 0},     {"a.b[x]", 0},   {"a.b[99]", 0}, {"a.x[2].q[0]", 0}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int line = json_line_of((struct str){text, sizeof text - 1}, cases[i].path);
        if (line != cases[i].line) {
            fail_msg("'%s': line %d, expected %d", cases[i].path, line, cases[i].line);
        }
    }
    for (size_t n = 0; n < sizeof text - 1; n++) { /* cut anywhere: no crash, and nothing read beyond the end */
        char *part = malloc(n + 1);
        memcpy(part, text, n);
        (void)json_line_of((struct str){part, n}, "a.b[2].c");
        (void)json_line_of((struct str){part, n}, "d");
        free(part);
    }
}

static void writer_makes_json(void **state)
{
    (void)state;
    struct buf out;
    struct error err;
    buf_init(&out, 10000);
    struct json_writer w = json_writer(&out);
    struct json *part = parse("{\"p\":[1]}");
    json_begin_object(&w);
    json_member_str(&w, "id", STR("a\"\\\x01\x1F\x7F/\b\t\n\f\r\0z"));
    json_member_cstr(&w, "none", NULL);
    json_key(&w, "list");
    json_begin_array(&w);
    json_begin_array(&w);
    json_end_array(&w);
    json_put_int(&w, INT64_MIN);
    json_put_int(&w, 0);
    json_put_uint(&w, UINT64_MAX);
    json_put_bool(&w, false);
    json_put_null(&w);
    json_put_json(&w, part);
    json_put_raw(&w, STR("{\"r\":0}"));
    json_end_array(&w);
    json_key(&w, "k\"");
    json_begin_object(&w);
    json_end_object(&w);
    json_end_object(&w);
    assert_true(buf_ok(&out, "x", &err));
    assert_string_equal(out.data,
                        "{\"id\":\"a\\\"\\\\\\u0001\\u001f\\u007f/\\b\\t\\n\\f\\r\\u0000z\",\"none\":null,\"list\":[[],"
                        "-9223372036854775808,0,18446744073709551615,false,null,{\"p\":[1]},{\"r\":0}],\"k\\\"\":{}}");
    json_free(part);
    json_free(parse(out.data));
    buf_release(&out);
}

static void writer_repairs_utf8(void **state)
{
    (void)state;
    struct buf out;
    buf_init(&out, 1000);
    json_quote(&out, STR("a\xFFz\xE2\x82\xF0\x9F\x98\x80\xC3"));
    assert_string_equal(out.data, "\"a\xEF\xBF\xBDz\xEF\xBF\xBD\xF0\x9F\x98\x80\xEF\xBF\xBD\"");
    buf_release(&out);
}

static void doubles_read_back_the_same(void **state)
{
    (void)state;
    static const struct {
        double value;
        const char *text;
    } cases[] = {{0.1, "0.1"},
                 {1, "1.0"},
                 {-0.0, "-0.0"},
                 {0.30000000000000004, "0.30000000000000004"},
                 {1e100, "1e+100"},
                 {5e-324, "4.94066e-324"},
                 {1.0 / 3, "0.3333333333333333"},
                 {-2.5, "-2.5"},
                 {INFINITY, "null"},
                 {NAN, "null"},
                 {123456789, "123456789.0"}};
    struct buf out;
    buf_init(&out, 1000);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct json_writer w = json_writer(&out);
        buf_clear(&out);
        json_put_double(&w, cases[i].value);
        assert_string_equal(out.data, cases[i].text);
    }
    uint64_t x = 88172645463325252u;
    for (int i = 0; i < 200000; i++) {
        double value;
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        memcpy(&value, &x, sizeof value);
        struct json_writer w = json_writer(&out);
        buf_clear(&out);
        json_put_double(&w, value);
        assert_true(isfinite(value) ? strtod(out.data, NULL) == value : strcmp(out.data, "null") == 0);
    }
    buf_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refused),
        cmocka_unit_test(errors_have_lines_and_columns),
        cmocka_unit_test(duplicates_are_compared_unescaped),
        cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(scalars_at_the_top),
        cmocka_unit_test(integers_of_64_bits),
        cmocka_unit_test(texts_of_numbers),
        cmocka_unit_test(strings_keep_every_byte),
        cmocka_unit_test(escaped_pairs_are_characters),
        cmocka_unit_test(strings_of_arrays_are_found),
        cmocka_unit_test(access_of_the_wrong_type_is_harmless),
        cmocka_unit_test(members_come_in_source_order),
        cmocka_unit_test(print_gives_the_source_back),
        cmocka_unit_test(many_keys_are_near_linear),
        cmocka_unit_test(lines_of_paths),
        cmocka_unit_test(writer_makes_json),
        cmocka_unit_test(writer_repairs_utf8),
        cmocka_unit_test(doubles_read_back_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
