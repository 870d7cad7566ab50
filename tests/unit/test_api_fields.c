/* The table mechanism of request fields: every kind, at, inside and beyond its bounds, with every JSON type that is not
 * its own; null, unknown and repeated names; and what the messages name. */
#include "api/fields.h"

#include "base/utf8.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

struct target {
    bool flag;
    int32_t i32;
    uint32_t u32;
    int64_t i64, wide, ms;
    float number;
    struct str text, any_text;
    int n_parsed;
    char parsed_name[32];
};

#define AT(member) offsetof(struct target, member)

static bool parse_even(struct decoding *d, const struct json *value, const char *name, struct error *err)
{
    struct target *t = d->target;
    t->n_parsed++;
    snprintf(t->parsed_name, sizeof t->parsed_name, "%s", name);
    if (json_type(value) != JSON_INT) {
        return field_type_error(err, name, "an even integer", value);
    }
    return json_int(value) % 2 == 0 || error_set_param(err, ERR_INVALID, name, "'%s' must be even.", name);
}

static const struct field fields[] = {
    {"flag", FIELD_BOOL, AT(flag), 0, 0, NULL, NULL, NULL, NULL},
    {"i32", FIELD_I32, AT(i32), -5, 2147483647.0, NULL, NULL, NULL, NULL},
    {"u32", FIELD_U32, AT(u32), 1, 4294967295.0, NULL, NULL, NULL, NULL},
    {"i64", FIELD_I64, AT(i64), -1, 4096, NULL, NULL, NULL, NULL},
    {"wide", FIELD_I64, AT(wide), (double)INT64_MIN, (double)INT64_MAX, NULL, NULL, NULL, NULL},
    {"timeout", FIELD_SECONDS, AT(ms), 0.001, 86400, NULL, NULL, NULL, NULL},
    {"number", FIELD_FLOAT, AT(number), -2, 2, NULL, NULL, NULL, NULL},
    {"text", FIELD_STR, AT(text), 0, 8, NULL, NULL, NULL, NULL},
    {"any_text", FIELD_STR, AT(any_text), 0, 0, NULL, NULL, NULL, NULL},
    {"even", FIELD_CUSTOM, 0, 0, 0, parse_even, NULL, NULL, NULL},
    {"hint", FIELD_HINT, 0, 0, 0, NULL, NULL, NULL, NULL},
    {"even_hint", FIELD_HINT, 0, 0, 0, parse_even, NULL, NULL, NULL},
    {"tier", FIELD_DEFAULT, 0, 0, 0, NULL, "\"auto\" \"default\"", NULL, NULL},
    {"format", FIELD_DEFAULT, 0, 0, 0, NULL, "{\"type\":\"text\"}", NULL, NULL},
    {"audio", FIELD_DEFAULT, 0, 0, 0, NULL, "", NULL, NULL},
    {NULL, FIELD_BOOL, 0, 0, 0, NULL, NULL, NULL, NULL},
};

struct fixture {
    struct target target;
    struct buf ignored;
    struct error err;
    struct json *root; /* of the last decode; target.text is in it */
    bool strict;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    buf_init(&f->ignored, 4096);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    json_free(f->root);
    buf_release(&f->ignored);
    free(f);
    return 0;
}

static bool decode_with(struct fixture *f, const struct field *const *tables, int n_tables, const char *text)
{
    struct decoding d = {.target = &f->target, .ignored = &f->ignored, .strict = f->strict};
    struct error parse_err = {0};
    json_free(f->root);
    f->root = json_parse(str_of(text), 0, &parse_err);
    if (!f->root) {
        fail_msg("%s: %s", text, parse_err.msg);
    }
    f->err = (struct error){0};
    return fields_decode(&d, f->root, tables, n_tables, &f->err);
}

static bool decode(struct fixture *f, const char *text)
{
    const struct field *tables[] = {fields};
    return decode_with(f, tables, 1, text);
}

static void must_decode(struct fixture *f, const char *text)
{
    if (!decode(f, text)) {
        fail_msg("%s: %s", text, f->err.msg);
    }
    assert_string_equal(f->err.msg, "");
}

/* Refused as `field`, with a message that is text and holds each of the words (NULL: no more). */
static void must_refuse(struct fixture *f, const char *text, enum error_code code, const char *field,
                        const char *const words[4])
{
    if (decode(f, text)) {
        fail_msg("%s was accepted", text);
    }
    if (f->err.code != code || strcmp(f->err.param, field) != 0) {
        fail_msg("%s: code %d, param '%s': %s", text, (int)f->err.code, f->err.param, f->err.msg);
    }
    for (int i = 0; i < 4 && words[i]; i++) {
        if (!strstr(f->err.msg, words[i])) {
            fail_msg("%s: '%s' is not in \"%s\"", text, words[i], f->err.msg);
        }
    }
}

#define WORDS(...) ((const char *const[4]){__VA_ARGS__})

/* ---- numbers ---- */

static void values_at_the_bounds_are_taken(void **state)
{
    struct fixture *f = *state;
    struct target *t = &f->target;
    must_decode(f, "{\"i32\": -5, \"u32\": 1, \"i64\": -1, \"number\": -2, \"timeout\": 0.001}");
    assert_true(t->i32 == -5 && t->u32 == 1 && t->i64 == -1 && t->ms == 1);
    assert_float_equal(t->number, -2, 0);
    must_decode(f, "{\"i32\": 2147483647, \"u32\": 4294967295, \"i64\": 4096, \"number\": 2, \"timeout\": 86400}");
    assert_true(t->i32 == INT32_MAX && t->u32 == UINT32_MAX && t->i64 == 4096 && t->ms == 86400000);
    assert_float_equal(t->number, 2, 0);
    must_decode(f, "{\"wide\": 9223372036854775807}");
    assert_true(t->wide == INT64_MAX);
    must_decode(f, "{\"wide\": -9223372036854775808}");
    assert_true(t->wide == INT64_MIN);
}

static void whole_numbers_may_be_written_as_decimals(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *text;
        int64_t value;
    } cases[] = {
        {"{\"i64\": 7}", 7},         {"{\"i64\": 7.0}", 7},  {"{\"i64\": 1e3}", 1000}, {"{\"i64\": 40E+2}", 4000},
        {"{\"i64\": 1200e-1}", 120}, {"{\"i64\": -0.0}", 0}, {"{\"i64\": -1.0}", -1},  {"{\"i64\": 0.001e3}", 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        f->target.i64 = 99;
        must_decode(f, cases[i].text);
        assert_int_equal(f->target.i64, cases[i].value);
    }
    must_decode(f, "{\"wide\": 4e15}");
    assert_true(f->target.wide == 4000000000000000);
    must_decode(f, "{\"wide\": 1e18}");
    assert_true(f->target.wide == 1000000000000000000);
}

static void numbers_beyond_their_bounds_name_field_and_bounds(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *text, *field, *low, *high, *got;
    } cases[] = {
        {"{\"i32\": -6}", "i32", "-5", "2147483647", "-6"},
        {"{\"i32\": 2147483648}", "i32", "-5", "2147483647", "2147483648"},
        {"{\"i32\": 1e300}", "i32", "-5", "2147483647", "1e300"},
        {"{\"i32\": -9223372036854775808}", "i32", "-5", "2147483647", "-9223372036854775808"},
        {"{\"u32\": 0}", "u32", "1", "4294967295", "but got 0"},
        {"{\"u32\": -1}", "u32", "1", "4294967295", "-1"},
        {"{\"u32\": 4294967296}", "u32", "1", "4294967295", "4294967296"},
        {"{\"u32\": 18446744073709551617}", "u32", "1", "4294967295", "18446744073709551617"},
        {"{\"i64\": -2}", "i64", "-1", "4096", "-2"},
        {"{\"i64\": 4097}", "i64", "-1", "4096", "4097"},
        {"{\"i64\": 4097.0}", "i64", "-1", "4096", "4097.0"},
        {"{\"i64\": 9223372036854775807}", "i64", "-1", "4096", "9223372036854775807"},
        {"{\"wide\": 9223372036854775808}", "wide", "-9223372036854775808", "9223372036854775807",
         "9223372036854775808"},
        {"{\"wide\": -9223372036854775809}", "wide", "-9223372036854775808", "9223372036854775807",
         "-9223372036854775809"},
        {"{\"wide\": 1e19}", "wide", "-9223372036854775808", "9223372036854775807", "1e19"},
        {"{\"number\": 2.001}", "number", "-2", "2", "2.001"},
        {"{\"number\": -2.5}", "number", "-2", "2", "-2.5"},
        {"{\"number\": 1e39}", "number", "-2", "2", "1e39"},
        {"{\"timeout\": 0}", "timeout", "0.001", "86400", "but got 0"},
        {"{\"timeout\": -1}", "timeout", "0.001", "86400", "-1"},
        {"{\"timeout\": 86400.5}", "timeout", "0.001", "86400", "86400.5"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char low[64], high[64];
        snprintf(low, sizeof low, "from %s to", cases[i].low);
        snprintf(high, sizeof high, " to %s,", cases[i].high);
        must_refuse(f, cases[i].text, ERR_INVALID, cases[i].field, WORDS(cases[i].field, low, high, cases[i].got));
    }
}

static void numbers_with_many_digits_are_cut_in_messages(void **state)
{
    struct fixture *f = *state;
    char text[400], word[64];
    snprintf(text, sizeof text, "{\"i64\": 1%0300d}", 0);
    must_refuse(f, text, ERR_INVALID, "i64", WORDS("got 1000000000"));
    snprintf(word, sizeof word, "%.41s", text + 8);
    assert_null(strstr(f->err.msg, word));
}

static void fractions_are_no_integers(void **state)
{
    struct fixture *f = *state;
    static const char *const names[] = {"i32", "u32", "i64", "wide"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char text[64];
        snprintf(text, sizeof text, "{\"%s\": 1.5}", names[i]);
        must_refuse(f, text, ERR_INVALID, names[i], WORDS(names[i], "expected an integer", "got a number"));
        snprintf(text, sizeof text, "{\"%s\": 1e-3}", names[i]);
        must_refuse(f, text, ERR_INVALID, names[i], WORDS("expected an integer"));
    }
}

static void seconds_are_kept_as_milliseconds(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *text;
        int64_t ms;
    } cases[] = {
        {"{\"timeout\": 1}", 1000},
        {"{\"timeout\": 1.5}", 1500},
        {"{\"timeout\": 0.07}", 70},
        {"{\"timeout\": 1.1}", 1100},
        {"{\"timeout\": 0.0012}", 1},
        {"{\"timeout\": 4.001}", 4001},
        {"{\"timeout\": 86399.999}", 86399999},
        {"{\"timeout\": 0.57}", 570},
        {"{\"timeout\": 2e-3}", 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        must_decode(f, cases[i].text);
        if (f->target.ms != cases[i].ms) {
            fail_msg("%s: %d ms", cases[i].text, (int)f->target.ms);
        }
    }
}

/* ---- types ---- */

static void every_other_type_is_named(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *field, *expected, *fine; /* letters of the types that are fine */
    } kinds[] = {
        {"flag", "a boolean", "b"},       {"i32", "an integer", "i"},
        {"u32", "an integer", "i"},       {"i64", "an integer", "i"},
        {"timeout", "a number", "id"},    {"number", "a number", "id"},
        {"text", "a string", "s"},        {"any_text", "a string", "s"},
        {"even", "an even integer", "i"}, {"even_hint", "an even integer", "i"},
    };
    static const struct {
        char letter;
        const char *json, *got;
    } types[] = {{'b', "true", "a boolean"}, {'i', "2", "an integer"}, {'d', "1.25", "a number"},
                 {'s', "\"2\"", "a string"}, {'a', "[2]", "an array"}, {'o', "{\"a\":2}", "an object"},
                 {'s', "\"\"", "a string"},  {'a', "[]", "an array"},  {'o', "{}", "an object"}};
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        for (size_t t = 0; t < sizeof types / sizeof types[0]; t++) {
            char text[96], got[48];
            snprintf(text, sizeof text, "{\"%s\": %s}", kinds[k].field, types[t].json);
            snprintf(got, sizeof got, "but got %s", types[t].got);
            if (strchr(kinds[k].fine, types[t].letter)) {
                must_decode(f, text);
            } else {
                must_refuse(f, text, ERR_INVALID, kinds[k].field, WORDS(kinds[k].field, kinds[k].expected, got));
            }
        }
    }
}

static void null_is_absent(void **state)
{
    struct fixture *f = *state;
    struct target before;
    memset(&f->target, 0x5A, sizeof f->target);
    before = f->target;
    for (const struct field *field = fields; field->name; field++) {
        char text[64];
        snprintf(text, sizeof text, "{\"%s\": null}", field->name);
        must_decode(f, text);
    }
    must_decode(f, "{}");
    assert_memory_equal(&f->target, &before, sizeof before);
}

static void strings_and_booleans(void **state)
{
    struct fixture *f = *state;
    must_decode(f, "{\"flag\": true, \"text\": \"12345678\"}");
    assert_true(f->target.flag);
    assert_true(str_eq(f->target.text, STR("12345678")));
    must_decode(f, "{\"flag\": false, \"text\": \"\", \"any_text\": \"a\\u0000b\"}");
    assert_false(f->target.flag);
    assert_int_equal(f->target.text.len, 0);
    assert_true(str_eq(f->target.any_text, STR("a\0b")));
    must_refuse(f, "{\"text\": \"123456789\"}", ERR_INVALID, "text", WORDS("'text'", "at most 8 bytes", "got 9"));
    must_refuse(f, "{\"text\": \"\\u00e9\\u00e9\\u00e9\\u00e9\\u00e9\"}", ERR_INVALID, "text", WORDS("got 10"));
}

/* ---- custom, hint, default ---- */

static void custom_fields_are_parsed_by_their_function(void **state)
{
    struct fixture *f = *state;
    must_decode(f, "{\"even\": 4}");
    assert_int_equal(f->target.n_parsed, 1);
    assert_string_equal(f->target.parsed_name, "even");
    must_decode(f, "{\"even_hint\": 4}");
    assert_string_equal(f->target.parsed_name, "even_hint");
    must_refuse(f, "{\"even\": 3}", ERR_INVALID, "even", WORDS("must be even"));
    must_refuse(f, "{\"even_hint\": 3}", ERR_INVALID, "even_hint", WORDS("must be even"));
    f->target.n_parsed = 0;
    must_decode(f, "{\"even\": null, \"hint\": {\"any\": [1, true, \"x\"]}}");
    assert_int_equal(f->target.n_parsed, 0);
}

static void unsupported_fields_take_only_their_default(void **state)
{
    struct fixture *f = *state;
    must_decode(f, "{\"tier\": \"auto\"}");
    must_decode(f, "{\"tier\": \"default\", \"format\": {\"type\": \"text\"}}");
    must_refuse(f, "{\"tier\": \"flex\"}", ERR_UNSUPPORTED, "tier",
                WORDS("'tier'", "only the default", "\"auto\" \"default\""));
    must_refuse(f, "{\"tier\": \"aut\"}", ERR_UNSUPPORTED, "tier", WORDS(NULL));
    must_refuse(f, "{\"tier\": \"\"}", ERR_UNSUPPORTED, "tier", WORDS(NULL));
    must_refuse(f, "{\"tier\": 1}", ERR_UNSUPPORTED, "tier", WORDS(NULL));
    must_refuse(f, "{\"format\": {\"type\": \"json_object\"}}", ERR_UNSUPPORTED, "format", WORDS("'format'"));
    must_refuse(f, "{\"audio\": false}", ERR_UNSUPPORTED, "audio", WORDS("'audio'", "only null"));
    must_refuse(f, "{\"audio\": \"\"}", ERR_UNSUPPORTED, "audio", WORDS("only null"));
}

static void a_large_value_is_not_the_default(void **state)
{
    struct fixture *f = *state;
    struct buf text;
    buf_init(&text, 100000);
    buf_puts(&text, "{\"tier\": \"");
    for (int i = 0; i < 50000; i++) {
        buf_putc(&text, 'a');
    }
    buf_puts(&text, "\"}");
    buf_putc(&text, '\0');
    must_refuse(f, text.data, ERR_UNSUPPORTED, "tier", WORDS("only the default"));
    buf_release(&text);
}

/* ---- unknown, repeated, several tables ---- */

static void unknown_fields_are_collected(void **state)
{
    struct fixture *f = *state;
    must_decode(f, "{\"zeta\": 1, \"i32\": 3, \"alpha\": null, \"flag \": {}}");
    assert_int_equal(f->target.i32, 3);
    assert_true(str_eq(buf_view(&f->ignored), STR("zeta, alpha, flag?")));
}

static void unknown_names_are_safe_in_a_header(void **state)
{
    struct fixture *f = *state;
    must_decode(f, "{\"a\\r\\nSet-Cookie: x\": 1, \"\\u00fc,y\": 1, \"\": 1}");
    for (size_t i = 0; i < f->ignored.len; i++) {
        assert_in_range((unsigned char)f->ignored.data[i], 0x20, 0x7E);
    }
    assert_true(str_starts(buf_view(&f->ignored), STR("a??Set-Cookie:?x, ???y, ")));
}

static void unknown_fields_are_refused_when_strict(void **state)
{
    struct fixture *f = *state;
    f->strict = true;
    must_decode(f, "{\"i32\": 1}");
    must_refuse(f, "{\"i32\": 2, \"temprature\": 1}", ERR_UNKNOWN_FIELD, "temprature", WORDS("'temprature'"));
    assert_int_equal(f->ignored.len, 0);
}

static void a_long_unknown_name_stays_text(void **state)
{
    struct fixture *f = *state;
    f->strict = true;
    for (int shift = 0; shift < 4; shift++) { /* every place inside a character of four bytes is cut once */
        struct buf text;
        buf_init(&text, 1000);
        buf_printf(&text, "{\"%.*s", shift, "xxx");
        for (int i = 0; i < 40; i++) {
            buf_puts(&text, "\xF0\x9F\x98\x80");
        }
        buf_puts(&text, "\": 1}");
        buf_putc(&text, '\0');
        assert_false(decode(f, text.data));
        buf_release(&text);
        assert_int_equal(f->err.code, ERR_UNKNOWN_FIELD);
        assert_true(utf8_valid(str_of(f->err.msg)));
        assert_true(utf8_valid(str_of(f->err.param)));
    }
}

static void repeated_names_do_not_come_here(void **state)
{
    (void)state;
    struct error err = {0};
    assert_null(json_parse(STR("{\"i32\": 1, \"i32\": 2}"), 0, &err));
    assert_int_equal(err.code, ERR_INVALID);
    err = (struct error){0};
    assert_null(json_parse(STR("{\"i32\": 1, \"i\\u00332\": 2}"), 0, &err));
    assert_non_null(strstr(err.msg, "i32"));
}

static void the_first_table_wins(void **state)
{
    struct fixture *f = *state;
    static const struct field narrow[] = {{"i32", FIELD_I32, AT(i32), 0, 10, NULL, NULL, NULL, NULL},
                                          {NULL, FIELD_BOOL, 0, 0, 0, NULL, NULL, NULL, NULL}};
    const struct field *tables[] = {narrow, fields};
    assert_true(decode_with(f, tables, 2, "{\"i32\": 10, \"flag\": true}"));
    assert_true(f->target.flag);
    assert_false(decode_with(f, tables, 2, "{\"i32\": 11}"));
    assert_non_null(strstr(f->err.msg, "from 0 to 10"));
    const struct field *turned[] = {fields, narrow};
    assert_true(decode_with(f, turned, 2, "{\"i32\": 11}"));
}

static void names_must_be_equal(void **state)
{
    struct fixture *f = *state;
    must_decode(f, "{\"I32\": 1, \"i3\": 1, \"i321\": 1}");
    assert_int_equal(f->target.i32, 0);
}

static void a_body_is_an_object(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *text, *got;
    } cases[] = {{"[]", "an array"},  {"\"x\"", "a string"}, {"1", "an integer"},
                 {"1.5", "a number"}, {"true", "a boolean"}, {"null", "null"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        must_refuse(f, cases[i].text, ERR_INVALID, "", WORDS("JSON object", cases[i].got));
    }
}

static void the_first_bad_field_ends_it(void **state)
{
    struct fixture *f = *state;
    must_refuse(f, "{\"u32\": 5, \"i32\": \"x\", \"i64\": \"y\"}", ERR_INVALID, "i32", WORDS("'i32'"));
    assert_int_equal(f->target.u32, 5);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(values_at_the_bounds_are_taken),
        TEST(whole_numbers_may_be_written_as_decimals),
        TEST(numbers_beyond_their_bounds_name_field_and_bounds),
        TEST(numbers_with_many_digits_are_cut_in_messages),
        TEST(fractions_are_no_integers),
        TEST(seconds_are_kept_as_milliseconds),
        TEST(every_other_type_is_named),
        TEST(null_is_absent),
        TEST(strings_and_booleans),
        TEST(custom_fields_are_parsed_by_their_function),
        TEST(unsupported_fields_take_only_their_default),
        TEST(a_large_value_is_not_the_default),
        TEST(unknown_fields_are_collected),
        TEST(unknown_names_are_safe_in_a_header),
        TEST(unknown_fields_are_refused_when_strict),
        TEST(a_long_unknown_name_stays_text),
        TEST(repeated_names_do_not_come_here),
        TEST(the_first_table_wins),
        TEST(names_must_be_equal),
        TEST(a_body_is_an_object),
        TEST(the_first_bad_field_ends_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
