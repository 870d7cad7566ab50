/* The JSON Schema validator with its n-th allocation failing, for every n: the right answer or NO_MEMORY, in
 * compilation and in validation. The allocator is replaced for the whole program; with sanitizers, which bring their
 * own, it is skipped.
 * Copies of keys do not fail: json-c 0.16 does not look whether they have. */
#include "grammar/json_schema.h"
#include "tests/support/failing_memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#if CAN_FAIL
char *strdup(const char *s); /* takes the place of the C library's, which json-c calls */
char *strdup(const char *s)
{
    size_t size = strlen(s) + 1;
    char *copy = __libc_malloc(size);
    return copy ? memcpy(copy, s, size) : NULL;
}
#endif

static const char schema_text[] =
    "{\"$defs\":{\"p\":{\"$anchor\":\"p\",\"pattern\":\"^(a|b)+$\"}},\"type\":\"object\",\"properties\":{\"a\":{"
    "\"items\":"
    "{\"$ref\":\"#p\"},\"uniqueItems\":true},\"b\":{\"enum\":[{\"x\":1,\"y\":[2]},3]},\"c\":{\"anyOf\":[{\"type\":"
    "\"null\"},"
    "{\"minimum\":0.5}]}},\"patternProperties\":{\"^d\":{\"$ref\":\"https://json-schema.org/draft/2020-12/schema\"}},"
    "\"unevaluatedProperties\":false}";
static const char good_text[] = "{\"a\":[\"a\",\"b\"],\"b\":{\"y\":[2],\"x\":1.0},\"c\":1,\"d\":{\"type\":\"null\"}}";
static const char bad_text[] = "{\"a\":[\"a\",\"b\",\"ba\"],\"b\":3,\"c\":0.25}";

static struct json *parse(const char *text)
{
    struct error err = {0};
    struct json *v = json_parse(str_of(text), 0, &err);
    assert_non_null(v);
    return v;
}

/* The value is parsed anew for each n: its numbers' texts are made when they are asked for. */
static void validate_failing(const struct json_schema *s, const char *text, bool want)
{
    long total = 1;
    for (long n = -1; n < total; n++) {
        struct json_schema_problem why = {0};
        struct json *v = parse(text);
        n_allocations = 0;
        fail_at = n;
        bool ok = json_schema_validate(s, v, &why);
        total = n < 0 ? n_allocations : total;
        fail_at = -1;
        json_free(v);
        if (ok != want && why.code != ERR_NO_MEMORY) {
            fail_msg("allocation %ld of %s: %d, %s", n, text, ok, why.msg);
        }
    }
    assert_true(total > 3);
}

static void nth_allocation_fails(void **state)
{
    (void)state;
    if (!CAN_FAIL) {
        skip();
    }
    long total = 1, refused = 0;
    for (long n = -1; n < total; n++) {
        struct error err = {0};
        struct json *schema = parse(schema_text);
        n_allocations = 0;
        fail_at = n;
        struct json_schema *s = json_schema_compile(schema, NULL, &err);
        total = n < 0 ? n_allocations : total;
        fail_at = -1;
        json_free(schema);
        refused += !s;
        assert_true(s || err.code == ERR_NO_MEMORY || err.code == ERR_TOO_LARGE); /* TOO_LARGE: an arena says so */
        if (s && n < 0) {
            validate_failing(s, good_text, true);
            validate_failing(s, bad_text, false);
        }
        json_schema_free(s);
    }
    assert_true(total > 50 && refused > 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(nth_allocation_fails)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
