/* Schemas and values from outside. Input: {"schema": ..., "data": [...]}, with "format": true to assert formats;
 * without "schema" the whole input is both. What compiles validates everything in bounded time, twice the same, with or
 * without somebody who asks why. */
#include "base/utf8.h"
#include "grammar/json_schema.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STEPS 200000

static void require(bool ok)
{
    if (!ok) {
        abort();
    }
}

static void validate(const struct json_schema *s, const struct json *value)
{
    struct json_schema_problem why, again;
    bool ok = json_schema_validate(s, value, &why);
    require(json_schema_validate(s, value, &again) == ok);
    require(why.code == again.code && str_eq(str_of(why.msg), str_of(again.msg)));
    require(ok == (why.code == ERR_NONE));
    require(why.code == ERR_NONE || (why.msg[0] && utf8_valid(str_of(why.msg)) && utf8_valid(str_of(why.at))));
    require(why.code != ERR_INVALID || why.keyword[0]);
    if (why.code == ERR_NONE || why.code == ERR_INVALID) {
        require(json_schema_validate(s, value, NULL) == ok);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = {0};
    struct json *root = json_parse((struct str){(const char *)data, size}, 100, &err);
    const struct json *schema = json_has(root, "schema") ? json_get(root, "schema") : root;
    const struct json *values = json_get(root, "data");
    struct json_schema_options o = {.assert_format = json_bool(json_get(root, "format")), .max_steps = STEPS};
    struct json_schema *s = root ? json_schema_compile(schema, &o, &err) : NULL;
    require(s || (err.code != ERR_NONE && err.msg[0] && utf8_valid(str_of(err.msg))));
    if (s) {
        validate(s, root);
        validate(s, schema);
    }
    for (size_t i = 0; s && i < json_len(values); i++) {
        validate(s, json_at(values, i));
    }
    json_schema_free(s);
    json_free(root);
    return 0;
}
