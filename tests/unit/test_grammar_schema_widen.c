/* What is kept, rewritten, left out and refused of JSON Schemas; that what comes out compiles and enforces the rest. */
#include "tests/support/failing_memory.h"
#include "tests/support/grammar_vocab.h"

#include "base/array.h"
#include "base/limits.h"
#include "grammar/schema_widen.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static struct grammar_vocab vocab;

struct widened {
    struct json *schema;
    struct arena *arena;
    struct buf out;
    struct schema_drops drops;
    struct error err;
    bool ok;
};

static struct widened widen(const char *text, bool binding)
{
    struct widened w = {.arena = arena_create(MIB(1))};
    struct error err = {0};
    struct schema_widen_options o = {.binding = binding, .field = binding ? "format" : NULL, .vocab = vocab.vocab};
    w.schema = json_parse(str_of(text), 0, &err);
    if (!w.schema) {
        fail_msg("%s: %s", text, err.msg);
    }
    buf_init(&w.out, MIB(1));
    w.ok = schema_widen(w.schema, &o, w.arena, &w.out, &w.drops, &w.err);
    return w;
}

static void release(struct widened *w)
{
    json_free(w->schema);
    arena_free(w->arena);
    buf_release(&w->out);
}

static const struct {
    const char *schema, *dropped[3], *yes[4], *no[4];
} examples[] = {
    {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\",\"description\":\"x\"}},\"required\":[\"a\"],"
     "\"additionalProperties\":false,\"title\":\"T\",\"$schema\":\"http://json-schema.org/draft-07/schema#\"}",
     {NULL},
     {"{\"a\":1}", "{\n  \"a\": 12\n}"},
     {"{}", "{\"a\":1,\"b\":2}", "{  \"a\":1}"}}, /* two spaces: the white space is bounded */
    {"true", {NULL}, {"1", "{}", "[\"a\"]"}, {"a"}},
    {"{\"type\":\"array\",\"items\":{\"type\":\"string\",\"not\":{\"const\":\"a\"}},\"uniqueItems\":true,\"minItems\":"
     "1}",
     {"/items/not", "/uniqueItems"},
     {"[\"a\",\"a\"]"},
     {"[]", "[1]"}},
    {"{\"uniqueItems\":false,\"type\":\"array\"}", {NULL}, {"[1,1]"}, {"{}"}},
    {"{\"if\":{\"type\":\"string\"},\"then\":{\"minLength\":2},\"else\":false,\"enum\":[\"a\",1]}",
     {"/if"},
     {"\"a\"", "1"},
     {"\"b\"", "2"}},
    {"{\"$ref\":\"#/$defs/~01%01\",\"$defs\":{\"~1\\u0001\":{\"type\":\"null\"}}}", {NULL}, {"null"}, {"1"}},
    {"{\"$ref\":\"#/$defs/a~1b%25/properties/x\",\"$defs\":{\"a/"
     "b%\":{\"properties\":{\"x\":{\"type\":\"array\",\"items\":"
     "{\"$ref\":\"#/$defs/n\"}}}},\"n\":{\"anyOf\":[{\"type\":\"null\"},{\"$ref\":\"#/$defs/a~1b%25/properties/"
     "x\"}]}}}",
     {NULL},
     {"[]", "[null,[[],null]]"},
     {"null", "[1]"}},
    {"{\"type\":\"object\",\"properties\":{\"n\":{\"anyOf\":[{\"$ref\":\"#\"},{\"type\":\"null\"}]}},\"required\":["
     "\"n\"]}",
     {NULL},
     {"{\"n\":null}", "{\"n\":{\"n\":null}}"},
     {"{\"n\":1}"}},
    {"{\"properties\":{\"a\":{\"$ref\":\"other.json#/x\"},\"b\":{\"$ref\":\"#/nowhere\"},\"c\":{\"$ref\":\"#name\"}}}",
     {"/properties/a/$ref", "/properties/b/$ref", "/properties/c/$ref"},
     {"{\"a\":1}"},
     {"{\"a\"}"}},
    {"{\"oneOf\":[{\"$ref\":\"#/$defs/a\"},{\"$ref\":\"#/$defs/"
     "b\"}],\"$defs\":{\"a\":{\"type\":\"object\",\"properties\":"
     "{\"k\":{\"const\":\"a\"}},\"required\":[\"k\"]},\"b\":{\"type\":\"object\",\"properties\":{\"k\":{\"enum\":["
     "\"b\","
     "\"c\"]}},\"required\":[\"k\"]}}}",
     {NULL}, /* they exclude each other */
     {"{\"k\":\"a\"}", "{\"k\":\"c\"}"},
     {"{\"k\":\"d\"}", "{}"}},
    {"{\"oneOf\":[{\"type\":\"integer\"},{\"type\":\"string\"},{\"type\":[\"null\",\"boolean\"]}]}",
     {NULL},
     {"1", "\"a\"", "null"},
     {"[]"}},
    {"{\"oneOf\":[{\"minimum\":1},{\"maximum\":9}],\"type\":\"integer\"}", {"/oneOf"}, {"5", "0", "10"}, {"\"a\""}},
    {"{\"oneOf\":[{\"const\":1},{\"const\":1.0}]}", {"/oneOf"}, {"1"}, {"2"}},
    {"{\"type\":\"string\",\"format\":\"idn-email\"}", {"/format"}, {"\"a\""}, {"1"}},
    {"{\"type\":\"integer\",\"format\":\"int32\"}", {NULL}, {"1"}, {"1.5"}},
    {"{\"type\":\"string\",\"format\":\"date\"}", {NULL}, {"\"2024-02-29\""}, {"\"2024-13-01\"", "\"a\""}},
    {"{\"type\":\"string\",\"pattern\":\"^a(?=b)\"}", {"/pattern"}, {"\"x\""}, {"1"}},
    {"{\"type\":\"string\",\"pattern\":\"(a)\\\\1\"}", {"/pattern"}, {"\"x\""}, {"1"}},
    {"{\"type\":\"string\",\"pattern\":\"a(b\"}", {"/pattern"}, {"\"x\""}, {"1"}}, /* does not compile */
    {"{\"type\":\"string\",\"pattern\":\"^[a-c]+$\",\"maxLength\":2}",
     {NULL},
     {"\"ab\""},
     {"\"abc\"", "\"d\"", "\"\""}},
    {"{\"type\":\"object\",\"patternProperties\":{\"^a\":{\"type\":\"null\"},\"b$\":{}},\"additionalProperties\":"
     "false}",
     {"/patternProperties", "/additionalProperties"}, /* "ab" matches both */
     {"{\"x\":1}", "{\"a\":1}"},
     {"[]"}},
    {"{\"type\":\"object\",\"patternProperties\":{\"^a\":{\"type\":\"null\"},\"^b\":{}},\"additionalProperties\":"
     "false}",
     {NULL},
     {"{\"a1\":null,\"b\":1}", "{}"},
     {"{\"a\":1}", "{\"c\":1}"}},
    {"{\"type\":\"object\",\"properties\":{\"a\":{},\"b\":{}},\"required\":[\"a\"],\"maxProperties\":1}",
     {"/maxProperties"},
     {"{\"a\":1,\"b\":1}"},
     {"{}"}},
    {"{\"type\":\"object\",\"properties\":{\"a\":{},\"b\":{}},\"minProperties\":1,\"additionalProperties\":false}",
     {NULL},
     {"{\"a\":1}", "{\"b\":1}", "{\"a\":1,\"b\":1}"},
     {"{}"}},
    {"{\"type\":\"object\",\"additionalProperties\":{\"type\":\"integer\"},\"minProperties\":1,\"maxProperties\":2}",
     {NULL},
     {"{\"a\":1}", "{\"a\":1,\"b\":2}"},
     {"{}", "{\"a\":1,\"b\":2,\"c\":3}", "{\"a\":null}"}},
    {"{\"type\":\"array\",\"items\":[{\"type\":\"null\"},{\"type\":\"integer\"}],\"additionalItems\":false}",
     {NULL},
     {"[]", "[null]", "[null,1]"},
     {"[1]", "[null,1,1]"}},
    {"{\"type\":\"array\",\"items\":{\"type\":\"integer\"},\"minItems\":2,\"maxItems\":1000000000}",
     {NULL},
     {"[1,2]", "[1,2,3]"},
     {"[1]"}},
    /* oneOf is anyOf beside an anyOf of its own */
    {"{\"type\":\"integer\",\"anyOf\":[{\"minimum\":3}],\"oneOf\":[{\"maximum\":5}],\"allOf\":[{\"multipleOf\":2}]}",
     {NULL},
     {"4"},
     {"2", "6", "5"}},
    {"{\"allOf\":[true,{\"anyOf\":[true],\"oneOf\":[{\"minimum\":1},{\"maximum\":9}]}]}",
     {"/allOf/1/oneOf"},
     {"5"},
     {"a"}},
    {"{\"enum\":[1,[{\"a\":12345678901234567890}]]}", {"/enum"}, {"2"}, {"a"}},
    {"{\"const\":9007199254740993}", {"/const"}, {"1"}, {"a"}},
    {"{\"type\":\"integer\",\"minimum\":9007199254740993,\"maximum\":9223372036854775807}",
     {NULL},
     {"9007199254742016", "9223372036854774784"},
     {"9007199254740992", "9223372036854775808", "1"}},
    {"{\"type\":\"array\",\"minItems\":1.0,\"maxItems\":2.0,\"items\":{\"type\":\"integer\"}}",
     {NULL},
     {"[1]", "[1,2]"},
     {"[]", "[1,2,3]"}},
    /* the days there are, and no leap seconds */
    {"{\"type\":\"string\",\"format\":\"date\"}",
     {NULL},
     {"\"2024-02-29\"", "\"2000-02-29\"", "\"2023-11-30\"", "\"0104-02-29\""},
     {"\"2023-02-29\"", "\"1900-02-29\"", "\"2023-11-31\"", "\"0000-01-01\""}},
    {"{\"type\":\"string\",\"format\":\"time\"}",
     {NULL},
     {"\"23:59:59Z\"", "\"00:00:00.25+01:00\""},
     {"\"23:58:60Z\"", "\"24:00:00Z\"", "\"12:00:00\""}},
    {"{\"type\":\"string\",\"format\":\"date-time\",\"pattern\":\"^19\"}",
     {NULL},
     {"\"1999-12-31T23:59:59Z\""},
     {"\"2000-12-31T23:59:59Z\"", "\"1999-12-31T23:59:60Z\"", "\"19\""}},
    /* ECMA-262's patterns are not Rust's */
    {"{\"type\":\"string\",\"pattern\":\"^.\\\\S$\"}", {NULL}, {"\"ab\""}, {"\"\\rb\"", "\"a\xEF\xBB\xBF\"", "\"a \""}},
    {"{\"type\":\"string\",\"pattern\":\"^[[a&&b]$\"}", {NULL}, {"\"[\"", "\"&\"", "\"a\""}, {"\"c\""}},
    {"{\"type\":\"string\",\"pattern\":\"^[^\\\\S]\\\\D$\"}",
     {NULL},
     {"\" a\""},
     {"\"aa\"", "\" 1\"", "\" \xD9\xA1\""}},
    {"{\"type\":\"string\",\"pattern\":\"^a(?<stop>b)\\\\/[\\\\b]\\\\cA$\"}",
     {NULL},
     {"\"ab/\\b\\u0001\""},
     {"\"a/\\b\\u0001\""}},
    {"{\"type\":\"string\",\"pattern\":\"[]\"}", {"/pattern"}, {"\"x\""}, {"1"}},
    {"{\"type\":\"string\",\"pattern\":\"[a--b]\"}", {"/pattern"}, {"\"x\""}, {"1"}},
    {"{\"type\":\"string\",\"pattern\":\"\\\\Ab\"}", {"/pattern"}, {"\"x\""}, {"1"}},
    {"{\"type\":\"object\",\"patternProperties\":{\"^.$\":{\"type\":\"null\"}},\"additionalProperties\":false}",
     {NULL},
     {"{\"a\":null}"},
     {"{\"\\r\":null}"}},
    {"{\"x-guidance\":{\"lenient\":true},\"type\":\"null\"}", {NULL}, {"null"}, {"1"}}, /* not the client's to choose */
};

static void widened_schemas_enforce_the_rest(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(examples); i++) {
        struct widened w = widen(examples[i].schema, false);
        size_t n = 0;
        if (!w.ok) {
            fail_msg("%s: %s", examples[i].schema, w.err.msg);
        }
        for (; n < 3 && examples[i].dropped[n]; n++) {
            if (n >= w.drops.n || !str_eq(w.drops.pointers[n], str_of(examples[i].dropped[n]))) {
                fail_msg("%s: '%s' is not left out", examples[i].schema, examples[i].dropped[n]);
            }
        }
        if (w.drops.n != n) {
            fail_msg("%s: '" STR_FMT "' is left out", examples[i].schema, STR_ARG(w.drops.pointers[n]));
        }
        struct constraint *c = grammar_compile(&vocab, CONSTRAINT_JSON_SCHEMA, w.out.data);
        for (size_t j = 0; j < 4 && examples[i].yes[j]; j++) {
            if (!grammar_accepts(c, &vocab, str_of(examples[i].yes[j]))) {
                fail_msg("%s\n%s\nmust accept '%s'", examples[i].schema, w.out.data, examples[i].yes[j]);
            }
        }
        for (size_t j = 0; j < 4 && examples[i].no[j]; j++) {
            if (grammar_accepts(c, &vocab, str_of(examples[i].no[j]))) {
                fail_msg("%s\n%s\nmust not accept '%s'", examples[i].schema, w.out.data, examples[i].no[j]);
            }
        }
        constraint_release(c);
        release(&w);
    }
}

static void binding_schemas_are_refused_at_the_first_place(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(examples); i++) {
        struct widened w = widen(examples[i].schema, true);
        const char *first = examples[i].dropped[0];
        assert_int_equal(w.ok, first == NULL);
        if (first) {
            assert_int_equal(w.err.code, ERR_UNSUPPORTED);
            assert_string_equal(w.err.param, "format");
            if (str_find(str_of(w.err.msg), str_of(first)) == STR_NPOS) {
                fail_msg("%s: '%s' has no '%s'", examples[i].schema, w.err.msg, first);
            }
            assert_true(str_starts(str_of(w.err.msg), STR("format: ")));
        }
        release(&w);
    }
}

static void what_is_no_schema_is_an_error(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "1",
        "{\"properties\":[]}",
        "{\"anyOf\":{}}",
        "{\"items\":3}",
        "{\"properties\":{\"a\":\"string\"}}",
        "{\"pattern\":1}",
        "{\"allOf\":[1]}",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct widened w = widen(bad[i], false);
        assert_false(w.ok);
        assert_int_equal(w.err.code, ERR_INVALID);
        release(&w);
    }
}

static void what_is_left_out_is_bounded(void **state)
{
    (void)state;
    struct buf text;
    buf_init(&text, MIB(1));
    buf_puts(&text, "{\"properties\":{");
    for (int i = 0; i < LIMIT_SCHEMA_DROPS + 10; i++) {
        buf_printf(&text, "%s\"p%d\":{\"not\":{}}", i ? "," : "", i);
    }
    buf_puts(&text, "}}");
    struct widened w = widen(text.data, false);
    assert_true(w.ok);
    assert_int_equal(w.drops.n, LIMIT_SCHEMA_DROPS);
    assert_int_equal(w.drops.n_more, 10);
    release(&w);
    buf_release(&text);
}

static void fail_each_allocation(const char *text)
{
    struct error parsing = {0};
    struct json *schema = json_parse(str_of(text), 0, &parsing);
    bool ok = false;
    assert_non_null(schema);
    for (long n = 0; CAN_FAIL && !ok && n < 200; n++) {
        struct error err = {0};
        struct arena *arena = arena_create(MIB(1));
        struct schema_drops drops;
        struct buf out;
        buf_init(&out, MIB(1));
        n_allocations = 0;
        fail_at = n;
        ok = schema_widen(schema, &(struct schema_widen_options){0}, arena, &out, &drops, &err);
        fail_at = -1;
        assert_true(ok || err.code == ERR_NO_MEMORY || err.code == ERR_TOO_LARGE);
        buf_release(&out);
        arena_free(arena);
    }
    assert_true(ok || !CAN_FAIL);
    json_free(schema);
}

static void failing_allocations_are_errors(void **state)
{
    (void)state;
    fail_each_allocation(examples[5].schema);
    fail_each_allocation("{\"pattern\":\"^\\\\s.$\",\"format\":\"date\",\"anyOf\":[true],\"oneOf\":[true],"
                         "\"patternProperties\":{\"^a.\":{\"type\":\"null\"}}}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(widened_schemas_enforce_the_rest),
        cmocka_unit_test(binding_schemas_are_refused_at_the_first_place),
        cmocka_unit_test(what_is_no_schema_is_an_error),
        cmocka_unit_test(what_is_left_out_is_bounded),
        cmocka_unit_test(failing_allocations_are_errors),
    };
    grammar_vocab_open(&vocab, NULL);
    int n_failed = cmocka_run_group_tests(tests, NULL, NULL);
    grammar_vocab_close(&vocab);
    return n_failed;
}
