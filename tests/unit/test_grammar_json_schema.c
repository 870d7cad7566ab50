/* The JSON Schema validator. The official test suite runs in tests/parity/check_json_schema.py; here are keywords one
 * by one, what is special to Tandem (messages, limits, errors), and threads. */
#include "base/limits.h"
#include "base/utf8.h"
#include "grammar/json_schema.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STACK (2 << 20) /* their frames are larger */
#else
#define STACK (512 << 10)
#endif

#define DRAFT_7 "\"$schema\":\"http://json-schema.org/draft-07/schema#\","

static struct json *parse(const char *text)
{
    struct error err = {0};
    struct json *v = json_parse(str_of(text), 200, &err);
    if (!v) {
        fail_msg("%s: %s", text, err.msg);
    }
    return v;
}

static struct json_schema *compile(const char *text, const struct json_schema_options *o)
{
    struct error err = {0};
    struct json *v = parse(text);
    struct json_schema *s = json_schema_compile(v, o, &err);
    if (!s) {
        fail_msg("%s: %s", text, err.msg);
    }
    json_free(v); /* the schema needs it no more */
    return s;
}

static bool valid(const struct json_schema *s, const char *value, struct json_schema_problem *why)
{
    struct json *v = parse(value);
    bool ok = json_schema_validate(s, v, why);
    assert_int_equal(json_schema_validate(s, v, NULL), ok);
    json_free(v);
    return ok;
}

struct row {
    const char *schema;
    const char *good, *bad; /* arrays of values */
};

static void expect_all(const struct json_schema *s, const struct row *row, const char *values, bool want)
{
    struct json *list = parse(values);
    for (size_t i = 0; i < json_len(list); i++) {
        struct json_schema_problem why;
        bool ok = json_schema_validate(s, json_at(list, i), &why);
        if (ok != want || (!ok && why.code != ERR_INVALID)) {
            fail_msg("%s: item %zu of %s is %s: %s", row->schema, i, values, ok ? "valid" : "not valid", why.msg);
        }
        if (!ok) {
            assert_true(why.keyword[0] && why.msg[0] && utf8_valid(str_of(why.msg)) && utf8_valid(str_of(why.at)));
        }
    }
    json_free(list);
}

static void run_rows(const struct row *rows, size_t n, const struct json_schema_options *o)
{
    for (size_t i = 0; i < n; i++) {
        struct json_schema *s = compile(rows[i].schema, o);
        expect_all(s, &rows[i], rows[i].good, true);
        expect_all(s, &rows[i], rows[i].bad, false);
        json_schema_free(s);
    }
}
#define ROWS(rows) rows, sizeof rows / sizeof *rows

static void keywords(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"true", "[1,null]", "[]"},
        {"false", "[]", "[1,null]"},
        {"{}", "[1,null]", "[]"},
        {"{\"type\":\"integer\"}", "[1,1.0,1e2,100000000000000000000000]", "[1.5,\"1\",null,1e-1]"},
        {"{\"type\":[\"null\",\"number\"]}", "[null,1,1.5]", "[true,[],\"\"]"},
        {"{\"const\":{\"a\":[1,2.0]}}", "[{\"a\":[1.0,2]}]", "[{\"a\":[1]},{\"a\":[2,1]},{},null]"},
        {"{\"const\":null}", "[null]", "[0,false,\"\"]"},
        {"{\"enum\":[1,\"a\",false,{\"x\":1,\"y\":2}]}", "[1.0,\"a\",false,{\"y\":2,\"x\":1}]",
         "[0,\"b\",true,null,\"1\"]"},
        {"{\"enum\":[]}", "[]", "[1]"},
        {"{\"enum\":[12345678901234567890123]}", "[12345678901234567890123]", "[12345678901234567890124]"},
        {"{\"multipleOf\":0.01}", "[0.07,1.1,4.02,19.99,0,-0.3,1e300,\"x\"]", "[0.075,0.001,1e-300]"},
        {"{\"multipleOf\":3}", "[9,3e20,-6,123456789012345678901234567890]", "[10,1e20,4.5]"},
        {"{\"multipleOf\":1e-8}", "[12391239123,1e308]", "[1e-9]"},
        {"{\"minimum\":9007199254740993}", "[9007199254740993,1e16]", "[9007199254740992]"},
        {"{\"maximum\":1.5,\"exclusiveMinimum\":-1}", "[1.5,1.50,-0.99]", "[1.51,-1,-1.0]"},
        {"{\"exclusiveMaximum\":0.1}", "[0.09999999999999999999999]", "[0.1,0.10,1e-1]"},
        {"{\"minLength\":2,\"maxLength\":3.0}", "[\"ab\",\"\\ud83d\\ude00\\u00e4\",1]",
         "[\"a\",\"abcd\",\"\\ud83d\\ude00\"]"},
        {"{\"pattern\":\"^a+$\"}", "[\"aa\",1]", "[\"aab\",\"a\\n\",\"\"]"},
        {"{\"minItems\":1,\"maxItems\":2}", "[[1],[1,2],{}]", "[[],[1,2,3]]"},
        {"{\"uniqueItems\":true}", "[[1,2],[{\"a\":1},{\"a\":2}],[1,true],[],[[1],[2]]]",
         "[[1,1.0],[{\"a\":1,\"b\":2},{\"b\":2,\"a\":1}],[null,0,null]]"},
        {"{\"uniqueItems\":false}", "[[1,1]]", "[]"},
        {"{\"prefixItems\":[{\"type\":\"string\"}],\"items\":{\"type\":\"integer\"}}", "[[\"a\",1,2],[],[\"a\"]]",
         "[[1],[\"a\",\"b\"]]"},
        {"{\"prefixItems\":[true,true],\"items\":false}", "[[1,2]]", "[[1,2,3]]"},
        {"{\"contains\":{\"const\":1}}", "[[2,1]]", "[[],[2]]"},
        {"{\"contains\":{\"const\":1},\"minContains\":0,\"maxContains\":1}", "[[],[1],[2]]", "[[1,1]]"},
        {"{\"contains\":{\"const\":1},\"minContains\":2}", "[[1,1]]", "[[1]]"},
        {"{\"required\":[\"a\"]}", "[{\"a\":null},[]]", "[{},{\"b\":1}]"},
        {"{\"minProperties\":1,\"maxProperties\":1}", "[{\"a\":1}]", "[{},{\"a\":1,\"b\":2}]"},
        {"{\"properties\":{\"a\":{\"type\":\"null\"}},\"patternProperties\":{\"^b\":{\"type\":\"integer\"}},"
         "\"additionalProperties\":{\"type\":\"string\"}}",
         "[{\"a\":null,\"b1\":2,\"c\":\"x\"}]", "[{\"a\":1},{\"bb\":\"x\"},{\"c\":1}]"},
        {"{\"additionalProperties\":false,\"properties\":{\"a\":true}}", "[{},{\"a\":1}]", "[{\"b\":1}]"},
        {"{\"propertyNames\":{\"maxLength\":1}}", "[{\"a\":1}]", "[{\"ab\":1}]"},
        {"{\"dependentRequired\":{\"a\":[\"b\"]}}", "[{\"a\":1,\"b\":2},{\"b\":1},{}]", "[{\"a\":1}]"},
        {"{\"dependentSchemas\":{\"a\":{\"required\":[\"b\"]}}}", "[{\"a\":1,\"b\":2},{}]", "[{\"a\":1}]"},
        {"{\"dependencies\":{\"a\":[\"b\"],\"c\":{\"maxProperties\":1}}}", "[{\"a\":1,\"b\":2},{\"c\":1}]",
         "[{\"a\":1},{\"c\":1,\"d\":1}]"},
        {"{\"allOf\":[{\"minimum\":1},{\"maximum\":2}]}", "[1,2]", "[0,3]"},
        {"{\"anyOf\":[{\"type\":\"string\"},{\"minimum\":2}]}", "[\"a\",2]", "[1]"},
        {"{\"oneOf\":[{\"minimum\":1},{\"minimum\":2}]}", "[1]", "[0,2]"},
        {"{\"not\":{\"type\":\"string\"}}", "[1]", "[\"a\"]"},
        {"{\"if\":{\"minimum\":10},\"then\":{\"multipleOf\":10},\"else\":{\"multipleOf\":2}}", "[20,4]", "[11,3]"},
        {"{\"$defs\":{\"a\":{\"type\":\"integer\"}},\"$ref\":\"#/$defs/a\",\"minimum\":2}", "[2]", "[1,\"a\"]"},
        {"{\"properties\":{\"n\":{\"$ref\":\"#\"}},\"required\":[\"v\"]}", "[{\"v\":1,\"n\":{\"v\":1}}]",
         "[{\"v\":1,\"n\":{}}]"},
        {"{\"allOf\":[{\"properties\":{\"a\":true}}],\"unevaluatedProperties\":false}", "[{\"a\":1}]", "[{\"b\":1}]"},
        {"{\"if\":{\"properties\":{\"a\":{\"const\":1}}},\"unevaluatedProperties\":false}", "[{\"a\":1},{}]",
         "[{\"a\":2},{\"a\":1,\"b\":1}]"},
        {"{\"anyOf\":[{\"prefixItems\":[true]},{\"contains\":{\"const\":2}}],\"unevaluatedItems\":false}",
         "[[1],[1,2],[2]]", "[[1,3],[1,2,3]]"},
    };
    run_rows(ROWS(rows), NULL);
}

static void draft_7(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"{" DRAFT_7 "\"items\":[{\"type\":\"string\"}],\"additionalItems\":{\"type\":\"integer\"}}", "[[\"a\",1],[]]",
         "[[1],[\"a\",\"b\"]]"},
        {"{" DRAFT_7 "\"items\":[true],\"additionalItems\":false}", "[[1]]", "[[1,2]]"},
        {"{" DRAFT_7 "\"items\":{\"type\":\"integer\"},\"additionalItems\":false}", "[[1,2]]", "[[\"a\"]]"},
        {"{" DRAFT_7 "\"definitions\":{\"a\":{\"$id\":\"#here\",\"type\":\"null\"}},\"properties\":{\"x\":"
         "{\"$ref\":\"#here\",\"type\":\"string\"}}}",
         "[{\"x\":null}]", "[{\"x\":\"a\"}]"},
        {"{" DRAFT_7 "\"prefixItems\":[false],\"minContains\":\"no\",\"unevaluatedItems\":false}", "[[1]]", "[]"},
        {"{" DRAFT_7 "\"dependencies\":{\"a\":[\"b\"]}}", "[{\"a\":1,\"b\":2}]", "[{\"a\":1}]"},
    };
    run_rows(ROWS(rows), NULL);
}

static void references(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"{\"$id\":\"http://x.org/a/b.json\",\"$defs\":{\"c\":{\"$id\":\"../"
         "c.json\",\"$anchor\":\"n\",\"type\":\"null\"}},"
         "\"items\":{\"$ref\":\"http://x.org/c.json\"},\"prefixItems\":[{\"$ref\":\"/c.json#n\"}]}",
         "[[null,null]]", "[[1],[null,1]]"},
        {"{\"$defs\":{\"a/b~c%\":{\"type\":\"null\"}},\"$ref\":\"#/$defs/a~1b~0c%25\"}", "[null]", "[1]"},
        {"{\"x\":[{\"y\":{\"type\":\"null\"}}],\"$ref\":\"#/x/0/y\"}", "[null]", "[1]"},
        {"{\"$id\":\"urn:uuid:1\",\"$defs\":{\"a\":{\"type\":\"null\"}},\"$ref\":\"urn:uuid:1#/$defs/a\"}", "[null]",
         "[1]"},
        {"{\"$ref\":\"https://json-schema.org/draft/2020-12/schema\"}", "[{\"type\":\"string\"},true,{\"allOf\":[{}]}]",
         "[{\"type\":\"strin\"},1,{\"allOf\":[{\"minLength\":-1}]},{\"properties\":{\"a\":{\"items\":3}}}]"},
        {"{" DRAFT_7 "\"$ref\":\"http://json-schema.org/draft-07/schema#\"}", "[{\"type\":\"string\"},true]",
         "[{\"type\":\"strin\"},{\"items\":{\"maxItems\":1.5}}]"},
        {"{\"$id\":\"http://x.org/"
         "strict\",\"$dynamicAnchor\":\"node\",\"$ref\":\"tree\",\"unevaluatedProperties\":false,"
         "\"$defs\":{\"t\":{\"$id\":\"tree\",\"$dynamicAnchor\":\"node\",\"properties\":{\"data\":true,\"sub\":"
         "{\"items\":{\"$dynamicRef\":\"#node\"}}}}}}",
         "[{\"data\":1,\"sub\":[{\"data\":2}]}]", "[{\"sub\":[{\"daat\":1}]},{\"x\":1}]"},
    };
    run_rows(ROWS(rows), NULL);
    struct json *other = parse("{\"$defs\":{\"s\":{\"type\":\"string\"}}}");
    struct json_schema_document document = {STR("http://y.org/other"), other};
    struct json_schema_options o = {.documents = &document, .n_documents = 1};
    static const struct row given[] = {{"{\"$ref\":\"http://y.org/other#/$defs/s\"}", "[\"a\"]", "[1]"}};
    run_rows(ROWS(given), &o);
    json_free(other);
}

static void patterns(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"{\"pattern\":\"^\\\\d$\"}", "[\"7\"]", "[\"\\u0967\",\"7\\n\"]"},
        {"{\"pattern\":\"^\\\\s\\\\S$\"}", "[\"\\u2003x\",\" x\",\"\\ufeffx\"]", "[\"xx\",\" \\u00a0\"]"},
        {"{\"pattern\":\"^[\\\\s\\\\S]{2}$\"}", "[\"\\n\\u3000\"]", "[\"a\"]"},
        {"{\"pattern\":\"^\\\\u{1F600}\\\\ud83d\\\\ude00\\\\x41\\\\cJ$\"}", "[\"\\ud83d\\ude00\\ud83d\\ude00A\\n\"]",
         "[\"A\"]"},
        {"{\"pattern\":\"^\\\\p{Letter}\\\\p{Script=Greek}$\"}", "[\"\\u00e4\\u03b1\"]", "[\"1\\u03b1\",\"aa\"]"},
        {"{\"pattern\":\"^[[:alpha:]]$\"}", "[\":]\",\"a]\"]", "[\"x\"]"},
        {"{\"pattern\":\"^x{,2}$\"}", "[\"x{,2}\"]", "[\"xx\"]"},
        {"{\"pattern\":\"^(?<a>x)\\\\k<a>(?=y)\"}", "[\"xxy\"]", "[\"xx\"]"},
        {"{\"pattern\":\"^.$\"}", "[\"\\ud83d\\ude00\"]", "[\"\\n\",\"\"]"},
        {"{\"pattern\":\"(?i)^a$\"}", "[\"A\"]", "[\"b\"]"},
        {"{\"pattern\":\"[^]\"}", "[\"\\n\"]", "[\"\"]"},
        {"{\"pattern\":\"^\\\\(+[(]*$\"}", "[\"(\",\"((\"]", "[\"\",\"a\"]"},
        {"{\"patternProperties\":{\"^\\u00e4\":false}}", "[{\"a\":1}]", "[{\"\\u00e4b\":1}]"},
    };
    run_rows(ROWS(rows), NULL);
}

static void formats(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"{\"format\":\"date-time\"}", "[\"2024-02-29T23:59:60Z\",\"1990-12-31t15:59:60.5-08:00\",1]",
         "[\"2023-02-29T00:00:00Z\",\"2024-01-01\",\"2024-01-01T24:00:00Z\",\"2024-01-01T00:00:60Z\",\"2024-01-01T00:"
         "00:00\"]"},
        {"{\"format\":\"date\"}", "[\"2000-02-29\"]", "[\"1900-02-29\",\"2000-13-01\",\"2000-1-1\",\"\"]"},
        {"{\"format\":\"time\"}", "[\"10:00:00+01:30\"]", "[\"10:00:00\",\"10:00Z\"]"},
        {"{\"format\":\"duration\"}", "[\"P1Y2M3DT4H\",\"P4W\",\"PT1S\"]", "[\"P\",\"P1Y1W\",\"PT\",\"P1H\",\"P1D2\"]"},
        {"{\"format\":\"email\"}", "[\"a.b@c.de\",\"\\\"a b\\\"@c\",\"a@[127.0.0.1]\"]",
         "[\"a\",\"a..b@c\",\"@c\",\"a@\"]"},
        {"{\"format\":\"hostname\"}", "[\"a-b.example\"]", "[\"-a\",\"a_b\",\"\",\"a..b\"]"},
        {"{\"format\":\"ipv4\"}", "[\"127.0.0.1\"]", "[\"127.0.0\",\"256.0.0.1\",\"01.0.0.1\"]"},
        {"{\"format\":\"ipv6\"}", "[\"::1\",\"1:2:3:4:5:6:7:8\",\"::ffff:1.2.3.4\"]",
         "[\"1::2::3\",\"12345::\",\":1\",\"1:2\"]"},
        {"{\"format\":\"uri\"}", "[\"http://a.b/c?d#e\",\"urn:x:y\"]", "[\"//a\",\"http://a b\",\"a\\\\b\"]"},
        {"{\"format\":\"uri-reference\"}", "[\"/a\",\"#b\",\"http://x\"]", "[\"\\\\\\\\a\",\"#a\\\\b\"]"},
        {"{\"format\":\"uuid\"}", "[\"2EB8AA08-aa98-11ea-b4aa-73b441d16380\"]",
         "[\"2eb8aa08aa9811eab4aa73b441d16380\"]"},
        {"{\"format\":\"json-pointer\"}", "[\"\",\"/a~0b\"]", "[\"a\",\"/~2\"]"},
        {"{\"format\":\"regex\"}", "[\"a+\"]", "[\"(\",\"\\\\Z\"]"},
        {"{\"format\":\"unknown\"}", "[\"x\"]", "[]"},
    };
    static const struct row annotation[] = {{"{\"format\":\"ipv4\"}", "[\"no\"]", "[]"}};
    run_rows(ROWS(rows), &(struct json_schema_options){.assert_format = true});
    run_rows(ROWS(annotation), NULL);
}

/* ---- what is said ---- */

static void expect_why(const char *schema, const char *value, const char *at, const char *keyword, const char *part)
{
    struct json_schema *s = compile(schema, NULL);
    struct json_schema_problem why;
    assert_false(valid(s, value, &why));
    if (strcmp(why.at, at) != 0 || strcmp(why.keyword, keyword) != 0 || !strstr(why.msg, part)) {
        fail_msg("%s of %s: '%s' %s: %s", schema, value, why.at, why.keyword, why.msg);
    }
    json_schema_free(s);
}

static void messages(void **state)
{
    (void)state;
    expect_why("{\"type\":\"object\"}", "3", "", "type", "the value must be of type \"object\", but is the number 3.");
    expect_why("{\"properties\":{\"a/b\":{\"items\":{\"enum\":[\"x\",\"y\"]}}}}", "{\"a/b\":[\"x\",\"z\"]}", "/a~1b/1",
               "enum", "'/a~1b/1' must be one of [\"x\",\"y\"], but is the string \"z\".");
    expect_why("{\"required\":[\"city\"]}", "{}", "", "required", "must have the property 'city'");
    expect_why("{\"properties\":{\"a\":true,\"b\":true},\"additionalProperties\":false}", "{\"c\":1}", "",
               "additionalProperties", "must not have the property 'c'; it may have 'a', 'b'.");
    expect_why("{\"maxLength\":1}", "\"abc\"", "", "maxLength", "at most 1 characters, but has 3");
    expect_why("{\"uniqueItems\":true}", "[1,2,1]", "", "uniqueItems", "items 0 and 2 are equal");
    expect_why("{\"anyOf\":[{\"type\":\"null\"},{\"properties\":{\"x\":{\"minimum\":5}}}]}", "{\"x\":1}", "", "anyOf",
               "the closest: '/x' must be at least 5, but is the number 1.");
    expect_why("{\"oneOf\":[true,true]}", "1", "", "oneOf", "matches more");
    expect_why("{\"allOf\":[{\"anyOf\":[{\"items\":{\"minimum\":1}},true]},{\"maxItems\":0}]}", "[0]", "", "maxItems",
               "0 items");
}

static void long_messages_are_cut_between_characters(void **state)
{
    (void)state;
    struct buf value;
    struct json_schema_problem why;
    struct json_schema *s = compile("{\"additionalProperties\":{\"enum\":[1]}}", NULL);
    for (size_t n = 200; n < 500; n++) {
        buf_init(&value, 1 << 16);
        buf_puts(&value, "{\"");
        for (size_t i = 0; i < n; i++) {
            buf_puts(&value, i % 7 ? "\xc3\xa4" : "~");
        }
        buf_puts(&value, "\":\"\xf0\x9f\x98\x80\"}");
        assert_false(valid(s, value.data, &why));
        assert_true(utf8_valid(str_of(why.at)) && utf8_valid(str_of(why.msg)));
        buf_release(&value);
    }
    json_schema_free(s);
}

static void expect_refused(const char *schema, enum error_code code, const char *part)
{
    struct error err = {0};
    struct json *v = parse(schema);
    struct json_schema *s = json_schema_compile(v, NULL, &err);
    json_free(v);
    if (s || err.code != code || !strstr(err.msg, part)) {
        fail_msg("%s: %s", schema, s ? "it compiles" : err.msg);
    }
}

static void wrong_schemas(void **state)
{
    (void)state;
    static const struct {
        const char *schema, *part;
    } rows[] = {
        {"3", "an object or a boolean"},
        {"{\"properties\":{\"a\":{\"items\":{\"type\":\"str\"}}}}", "'/properties/a/items' has a wrong `type`"},
        {"{\"allOf\":[true,{\"minimum\":\"1\"}]}", "'/allOf/1' has a wrong `minimum`: expected a number, got string"},
        {"{\"properties\":{\"a\":3}}", "`properties`: expected a schema"},
        {"{\"properties\":{\"a\":null}}", "`properties`"},
        {"{\"type\":null}", "`type`"},
        {"{\"items\":[true]}", "`items`"},
        {"{\"enum\":1}", "`enum`"},
        {"{\"multipleOf\":0}", "above 0"},
        {"{\"multipleOf\":1234567890123456789}", "18 digits"},
        {"{\"minLength\":-1}", "`minLength`"},
        {"{\"minLength\":1.5}", "`minLength`"},
        {"{\"maxContains\":\"1\"}", "`maxContains`"},
        {"{\"required\":[1]}", "`required`"},
        {"{\"required\":\"a\"}", "`required`"},
        {"{\"allOf\":[]}", "`allOf`"},
        {"{\"uniqueItems\":1}", "`uniqueItems`"},
        {"{\"pattern\":\"(\"}", "not understood"},
        {"{\"pattern\":\"\\\\Z\"}", "'\\Z' in the pattern is no escape of ECMA-262"},
        {"{\"pattern\":\"a++\"}", "repeats nothing"},
        {"{\"pattern\":\"\\\\(++\"}", "repeats nothing"},
        {"{\"pattern\":\"(+i)a\"}", "not understood"},
        {"{\"pattern\":\"(*LIMIT_MATCH=1)a\"}", "repeats nothing"},
        {"{\"pattern\":\"(?R)\"}", "is no group"},
        {"{\"pattern\":\"\\\\ud800\"}", "is no character"},
        {"{\"pattern\":\"\\\\u{110000}\"}", "is no character"},
        {"{\"patternProperties\":{\"[\":true}}", "`patternProperties`"},
        {"{\"$ref\":\"#/$defs/none\"}", "'#/$defs/none' leads to no schema"},
        {"{\"$ref\":\"http://example.com/x\"}", "nothing is fetched"},
        {"{\"$ref\":\"#/enum\",\"enum\":[1]}", "leads to no schema"},
        {"{\"$ref\":1}", "`$ref`"},
        {"{\"$id\":\"#x\"}", "has a fragment"},
        {"{\"$defs\":{\"a\":{\"$anchor\":\"x\"},\"b\":{\"$anchor\":\"x\"}}}", "is used twice"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        expect_refused(rows[i].schema, ERR_INVALID, rows[i].part);
    }
    expect_refused("{\"$schema\":\"http://json-schema.org/draft-04/schema#\"}", ERR_UNSUPPORTED, "2020-12 and 7");
}

/* ---- limits ---- */

static void expect_given_up(const char *schema, const char *value, const char *part)
{
    struct json_schema *s = compile(schema, NULL);
    struct json_schema_problem why;
    assert_false(valid(s, value, &why));
    if (why.code != ERR_TOO_LARGE || !strstr(why.msg, part)) {
        fail_msg("%s: %s", schema, why.msg);
    }
    json_schema_free(s);
}

static char *repeat(const char *head, const char *text, size_t n, const char *tail)
{
    struct buf b;
    buf_init(&b, (size_t)64 << 20);
    buf_puts(&b, head);
    for (size_t i = 0; i < n; i++) {
        buf_puts(&b, text);
    }
    buf_puts(&b, tail);
    size_t len;
    return buf_take(&b, &len);
}

static void endless(void **state)
{
    (void)state;
    expect_given_up("{\"$ref\":\"#\"}", "1", "refer to themselves");
    expect_given_up("{\"not\":{\"$ref\":\"#\"}}", "1", "refer to themselves");
    expect_given_up("{\"anyOf\":[{\"$ref\":\"#\"},true]}", "1", "refer to themselves");
    expect_given_up("{\"if\":{\"$ref\":\"#\"},\"else\":true}", "1", "refer to themselves");
    expect_given_up(
        "{\"$defs\":{\"a\":{\"allOf\":[{\"$ref\":\"#/$defs/b\"},{\"$ref\":\"#/$defs/b\"}]},\"b\":{\"allOf\":["
        "{\"$ref\":\"#/$defs/c\"},{\"$ref\":\"#/$defs/c\"}]},\"c\":{\"items\":{\"$ref\":\"#/$defs/a\"}}},"
        "\"$ref\":\"#/$defs/a\"}",
        "[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]", "10000000 steps");
}

static void patterns_are_charged(void **state)
{
    (void)state;
    char *text = repeat("\"", "a", 100000, "!\"");
    expect_given_up("{\"pattern\":\"^(a+)+$\"}", text, "validation was given up");
    expect_given_up("{\"pattern\":\"a*[bc]\"}", text, "validation was given up");
    expect_given_up("{\"pattern\":\"(a|aa)+$\"}", text, "validation was given up");
    struct json_schema *s = compile("{\"pattern\":\"^a+!$\"}", NULL);
    assert_true(valid(s, text, NULL));
    json_schema_free(s);
    free(text);
}

static void many_items_are_compared(void **state)
{
    (void)state;
    struct buf b;
    struct json_schema_problem why;
    struct json_schema *s = compile("{\"uniqueItems\":true}", NULL);
    buf_init(&b, (size_t)64 << 20);
    for (int i = 0; i < 100000; i++) {
        buf_printf(&b, "%s{\"id\":%d}", i ? "," : "[", i);
    }
    buf_puts(&b, "]");
    assert_true(valid(s, b.data, &why));
    b.len--;
    buf_puts(&b, ",{\"id\":77777.0}]");
    assert_false(valid(s, b.data, &why));
    assert_non_null(strstr(why.msg, "items 77777 and 100000 are equal"));
    buf_release(&b);
    json_schema_free(s);
}

static void fewer_steps(void **state)
{
    (void)state;
    struct json_schema *s =
        compile("{\"items\":{\"type\":\"integer\"}}", &(struct json_schema_options){.max_steps = 100});
    struct json_schema_problem why;
    char *many = repeat("[0", ",1", 100, "]");
    assert_true(valid(s, "[1,2,3]", &why));
    assert_false(valid(s, many, &why));
    assert_int_equal(why.code, ERR_TOO_LARGE);
    assert_non_null(strstr(why.msg, "more than 100 steps"));
    free(many);
    json_schema_free(s);
}

static void large_schemas(void **state)
{
    (void)state;
    char *wide = repeat("{\"enum\":[\"x\"", ",\"0123456789\"", 100000, "]}");
    expect_refused(wide, ERR_TOO_LARGE, "JSON Schema");
    free(wide);
    char *deep = repeat("", "{\"not\":", LIMIT_SCHEMA_DEPTH + 1, "true");
    char *closed = repeat(deep, "}", LIMIT_SCHEMA_DEPTH + 1, "");
    expect_refused(closed, ERR_TOO_LARGE, "JSON Schema");
    free(deep);
    free(closed);
    char *patterns = repeat("{\"allOf\":[true", ",{\"pattern\":\"(ab){900}\"}", 3000, "]}");
    expect_refused(patterns, ERR_TOO_LARGE, "patterns");
    free(patterns);
    char *pattern = repeat("{\"pattern\":\"", "a", LIMIT_SCHEMA_PATTERN + 1, "\"}");
    expect_refused(pattern, ERR_INVALID, "the pattern has 16385 bytes");
    free(pattern);
    char *nested = repeat("{\"pattern\":\"", "(", 5000, "\"}");
    expect_refused(nested, ERR_INVALID, "nested");
    free(nested);
}

/* The nested walk is bounded by the schema's limit, whatever the depth of the value. */
static void deep_values(void **state)
{
    (void)state;
    char *open = repeat("", "[", 199, "");
    char *value = repeat(open, "]", 199, "");
    expect_given_up("{\"const\":[]}", value, "nested deeper");
    expect_given_up("{\"$defs\":{\"a\":{\"items\":{\"$ref\":\"#\"}}},\"$ref\":\"#/$defs/a\"}", value,
                    "within each other");
    struct json_schema *s = compile("{\"items\":{\"$ref\":\"#\"},\"type\":\"array\"}", NULL);
    assert_true(valid(s, "[[[[[[[[]]]]]]]]", NULL));
    json_schema_free(s);
    free(open);
    free(value);
}

/* ---- threads ---- */

static void *validate_often(void *arg)
{
    const struct json_schema *s = arg;
    struct json *good = json_parse(STR("{\"a\":[1.0,\"xx\"]}"), 0, &(struct error){0});
    struct json *bad = json_parse(STR("{\"a\":[1.5,\"xx\"]}"), 0, &(struct error){0});
    bool ok = good && bad;
    for (int i = 0; i < 300 && ok; i++) {
        struct json_schema_problem why;
        ok = json_schema_validate(s, good, &why) && !json_schema_validate(s, bad, &why) && strcmp(why.at, "/a/0") == 0;
    }
    json_free(good);
    json_free(bad);
    return ok ? NULL : arg;
}

static void threads(void **state)
{
    (void)state;
    struct json_schema *s =
        compile("{\"properties\":{\"a\":{\"prefixItems\":[{\"enum\":[1,2.0]}],\"items\":{\"pattern\":"
                "\"^x+$\"},\"unevaluatedItems\":false,\"multipleOf\":0.1}}}",
                NULL);
    pthread_t ids[4];
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&ids[i], NULL, validate_often, s), 0);
    }
    for (size_t i = 0; i < 4; i++) {
        void *failed;
        pthread_join(ids[i], &failed);
        assert_null(failed);
    }
    json_schema_free(s);
}

/* The deepest walk that there is, within what a thread of macOS has. */
static void *walk_deep(void *arg)
{
    struct json_schema_problem why;
    const struct json_schema *s = arg;
    struct json *v = json_parse(STR("{}"), 0, &(struct error){0});
    bool given_up = v && !json_schema_validate(s, v, &why) && why.code == ERR_TOO_LARGE;
    json_free(v);
    return given_up ? NULL : arg;
}

static void small_stacks(void **state)
{
    (void)state;
    pthread_attr_t attributes;
    pthread_t id;
    void *failed = &id;
    struct json_schema *s = compile("{\"oneOf\":[{\"$ref\":\"#\"},true]}", NULL);
    assert_int_equal(pthread_attr_init(&attributes), 0);
    assert_int_equal(pthread_attr_setstacksize(&attributes, STACK), 0);
    assert_int_equal(pthread_create(&id, &attributes, walk_deep, s), 0);
    pthread_join(id, &failed);
    assert_null(failed);
    pthread_attr_destroy(&attributes);
    json_schema_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keywords),
        cmocka_unit_test(draft_7),
        cmocka_unit_test(references),
        cmocka_unit_test(patterns),
        cmocka_unit_test(formats),
        cmocka_unit_test(messages),
        cmocka_unit_test(long_messages_are_cut_between_characters),
        cmocka_unit_test(wrong_schemas),
        cmocka_unit_test(endless),
        cmocka_unit_test(patterns_are_charged),
        cmocka_unit_test(many_items_are_compared),
        cmocka_unit_test(fewer_steps),
        cmocka_unit_test(large_schemas),
        cmocka_unit_test(deep_values),
        cmocka_unit_test(threads),
        cmocka_unit_test(small_stacks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
