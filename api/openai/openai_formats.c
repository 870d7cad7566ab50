/* What the answer has to look like, by whichever name it is asked for: OpenAI's response_format, vLLM's guided_* and
 * structured_outputs, llama.cpp's grammar and json_schema. A request has one of them. */
#include "api/openai/openai_tools.h"

#include "base/array.h"
#include "base/limits.h"
#include "pipeline/structural_tag.h"

#include <stdio.h>

static struct gen_request *request_of(struct decoding *d)
{
    return d->target;
}

static bool expected(struct error *err, const char *param, const char *what, const struct json *v)
{
    return json_is_null(v) ? field_missing_error(err, param) : field_type_error(err, param, what, v);
}

/* The format of the field that was read before this one, unless that was text. */
static bool take_field(struct gen_request *r, enum gen_format kind, const char *field, struct error *err)
{
    if (r->format.kind != GEN_FORMAT_TEXT) {
        return error_set_param(err, ERR_INVALID, field, "'%s' and '%s' both say what the answer looks like; give one.",
                               field, r->format.field);
    }
    r->format = (struct gen_answer_format){.kind = kind, .field = field};
    return true;
}

static bool take_schema(struct gen_request *r, const struct json *schema, const char *field, struct error *err)
{
    r->format.schema = schema;
    r->format.strict = true;
    return request_check_schema(schema, field, err);
}

/* JSON in a text, as a value that lives as long as the request. */
static const struct json *parse_text(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    struct error why = {0};
    struct json *root = json_parse(json_str(v), LIMIT_JSON_DEPTH, &why);
    if (!root) {
        error_set_param(err, ERR_INVALID, name, "Invalid value for '%s': the text is no JSON: %s", name, why.msg);
        return NULL;
    }
    return json_keep(root, d->arena, "the request", err);
}

/* vLLM's clients also send a schema as text. */
static bool parse_schema(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    struct gen_request *r = request_of(d);
    const struct json *schema = json_type(v) == JSON_STRING ? parse_text(d, v, name, err) : v;
    return schema && take_field(r, GEN_FORMAT_SCHEMA, name, err) && take_schema(r, schema, name, err);
}

static bool take_text(struct gen_request *r, const struct json *v, const char *field, struct error *err)
{
    if (json_type(v) != JSON_STRING) {
        return expected(err, field, "a string", v);
    }
    r->format.text = json_str(v);
    return (r->format.text.len > 0 && r->format.text.len <= LIMIT_GRAMMAR_SIZE) ||
           error_set_param(err, ERR_INVALID, field, "Invalid value for '%s': expected a text of 1 to %d bytes.", field,
                           (int)LIMIT_GRAMMAR_SIZE);
}

static bool parse_regex(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    return take_field(request_of(d), GEN_FORMAT_REGEX, name, err) && take_text(request_of(d), v, name, err);
}

static bool parse_gbnf(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    return take_field(request_of(d), GEN_FORMAT_GBNF, name, err) && take_text(request_of(d), v, name, err);
}

/* Lark or GBNF: only GBNF's rules have "::=". */
static bool parse_grammar(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    bool gbnf = str_find(json_str(v), STR("::=")) != STR_NPOS;
    return take_field(request_of(d), gbnf ? GEN_FORMAT_GBNF : GEN_FORMAT_LARK, name, err) &&
           take_text(request_of(d), v, name, err);
}

static bool parse_choice(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    struct gen_request *r = request_of(d);
    size_t n = json_len(v);
    if (!take_field(r, GEN_FORMAT_CHOICE, name, err)) {
        return false;
    }
    if (json_type(v) != JSON_ARRAY) {
        return expected(err, name, "an array of strings", v);
    }
    for (size_t i = 0; i < n; i++) {
        if (json_type(json_at(v, i)) != JSON_STRING) {
            return field_type_error(err, name, "an array of strings", json_at(v, i));
        }
    }
    r->format.schema = v;
    return (n > 0 && n <= LIMIT_CHOICE_STRINGS) ||
           error_set_param(err, ERR_INVALID, name, "Invalid value for '%s': expected 1 to %d strings, but got %zu.",
                           name, LIMIT_CHOICE_STRINGS, n);
}

static bool parse_object(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    if (json_type(v) != JSON_BOOL) {
        return field_type_error(err, name, "a boolean", v);
    }
    return !json_bool(v) || take_field(request_of(d), GEN_FORMAT_JSON, name, err);
}

/* ---- the fields ---- */

bool openai_parse_guided(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    static const struct {
        const char *field;
        bool (*parse)(struct decoding *d, const struct json *v, const char *name, struct error *err);
    } fields[] = {{"guided_json", parse_schema},     {"guided_regex", parse_regex}, {"guided_choice", parse_choice},
                  {"guided_grammar", parse_grammar}, {"json_schema", parse_schema}, {"grammar", parse_gbnf}};
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        if (str_eq(str_of(name), str_of(fields[i].field))) {
            return fields[i].parse(d, v, fields[i].field, err);
        }
    }
    return field_type_error(err, name, "another field", v);
}

/* Its object, or that as text, as vLLM's clients send it. */
static bool parse_structural_tag(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    struct gen_request *r = request_of(d);
    const struct json *tag = json_type(v) == JSON_STRING ? parse_text(d, v, name, err) : v;
    if (!tag || !take_field(r, GEN_FORMAT_STRUCTURAL_TAG, name, err)) {
        return false;
    }
    r->format.schema = tag;
    return structural_tag_check(tag, name, err);
}

static bool expect_default(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    (void)d;
    bool is_default = json_is_null(v) || (json_type(v) == JSON_BOOL && !json_bool(v));
    return is_default || error_set_param(err, ERR_UNSUPPORTED, name, "Unsupported value for '%s'.", name);
}

bool openai_parse_structured(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    static const struct {
        const char *key, *field;
        bool (*parse)(struct decoding *d, const struct json *v, const char *name, struct error *err);
    } members[] = {
        {"json", "structured_outputs.json", parse_schema},
        {"regex", "structured_outputs.regex", parse_regex},
        {"choice", "structured_outputs.choice", parse_choice},
        {"grammar", "structured_outputs.grammar", parse_grammar},
        {"json_object", "structured_outputs.json_object", parse_object},
        {"structural_tag", "structured_outputs.structural_tag", parse_structural_tag},
        {"whitespace_pattern", "structured_outputs.whitespace_pattern", expect_default},
        {"disable_fallback", "structured_outputs.disable_fallback", NULL},
        {"disable_any_whitespace", "structured_outputs.disable_any_whitespace", expect_default},
        {"disable_additional_properties", "structured_outputs.disable_additional_properties", expect_default}};
    struct json_iter it = json_members(v);
    if (json_type(v) != JSON_OBJECT) {
        return field_type_error(err, name, "an object", v);
    }
    while (json_next(&it)) {
        size_t i = 0;
        while (i < ARRAY_LEN(members) && !str_eq(it.key, str_of(members[i].key))) {
            i++;
        }
        if (i == ARRAY_LEN(members)) {
            return error_set_param(err, ERR_INVALID, name, "Invalid value for '%s': '%.40s' is not known there.", name,
                                   it.key.ptr);
        }
        bool given = !json_is_null(it.value) && members[i].parse;
        if (given && !members[i].parse(d, it.value, members[i].field, err)) {
            return false;
        }
    }
    return true;
}

bool openai_take_json_schema(struct gen_answer_format *format, const struct json *v, const char *where,
                             struct error *err)
{
    const struct json *schema = json_get(v, "schema"), *strict = json_get(v, "strict");
    char name_at[64], schema_at[64], strict_at[64];
    snprintf(name_at, sizeof name_at, "%s.name", where);
    snprintf(schema_at, sizeof schema_at, "%s.schema", where);
    snprintf(strict_at, sizeof strict_at, "%s.strict", where);
    if (json_type(v) != JSON_OBJECT) {
        return expected(err, where, "an object", v);
    }
    if (json_is_null(schema)) {
        return field_missing_error(err, schema_at);
    }
    if (!json_is_null(strict) && json_type(strict) != JSON_BOOL) {
        return field_type_error(err, strict_at, "a boolean", strict);
    }
    format->schema = schema;
    format->strict = json_bool(strict);
    return request_check_name(json_get(v, "name"), name_at, err) && request_check_schema(schema, schema_at, err);
}

/* llama.cpp takes a schema beside "json_object". */
static bool parse_json_object(struct gen_request *r, const struct json *v, struct error *err)
{
    const struct json *schema = json_get(v, "schema");
    if (json_is_null(schema)) {
        return true;
    }
    r->format.kind = GEN_FORMAT_SCHEMA;
    r->format.schema = schema;
    return request_check_schema(schema, "response_format.schema", err);
}

bool openai_parse_response_format(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    struct gen_request *r = request_of(d);
    struct str type = json_str(json_get(v, "type"));
    if (json_type(v) != JSON_OBJECT) {
        return field_type_error(err, name, "an object", v);
    }
    if (str_eq(type, STR("text"))) {
        return true;
    }
    if (str_eq(type, STR("json_object"))) {
        return take_field(r, GEN_FORMAT_JSON, name, err) && parse_json_object(r, v, err);
    }
    if (str_eq(type, STR("json_schema"))) {
        return take_field(r, GEN_FORMAT_SCHEMA, name, err) &&
               openai_take_json_schema(&r->format, json_get(v, "json_schema"), "response_format.json_schema", err);
    }
    if (str_eq(type, STR("structural_tag"))) {
        return parse_structural_tag(d, v, name, err);
    }
    return error_set_param(err, ERR_INVALID, "response_format.type",
                           "Invalid value for 'response_format.type': expected \"text\", \"json_object\", "
                           "\"json_schema\" or \"structural_tag\".");
}
