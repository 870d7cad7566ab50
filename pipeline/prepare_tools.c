/* Schemas of a request's tools, used twice: compiled in full, for whoever checks the arguments of a call; and as far as
 * decoding can enforce them, in the definitions that a grammar of calls is made of. */
#include "base/log.h"
#include "grammar/schema_widen.h"
#include "pipeline/pipeline_internal.h"

#include <stdio.h>

static const struct json *function_at(const struct gen_request *r, size_t i)
{
    return json_get(json_at(r->tools, i), "function");
}

bool pipeline__is_strict(const struct gen_request *r, size_t i)
{
    return json_bool(json_get(function_at(r, i), "strict"));
}

static void field_of(const struct gen_request *r, size_t i, char *out, size_t size)
{
    snprintf(out, size, r->legacy_functions ? "functions[%zu].parameters" : "tools[%zu].function.parameters", i);
}

/* ---- what they are kept by ---- */

bool pipeline__find_keys(struct gen_request *r, struct error *err)
{
    size_t n = json_len(r->tools);
    if (!gen_request_has_tools(r)) {
        return true;
    }
    struct schema_key *keys = arena_alloc_array(r->arena, n, sizeof *keys);
    for (size_t i = 0; keys && i < n; i++) {
        if (!grammar_check_key(json_get(function_at(r, i), "parameters"), &keys[i], err)) {
            return false;
        }
    }
    r->tool_keys = keys;
    return keys || arena_full(r->arena, "request", err);
}

void pipeline__put_keys(const struct gen_request *r, struct json_writer *w)
{
    for (size_t i = 0; r->tool_keys && i < json_len(r->tools); i++) {
        char hex[2 * SHA256_SIZE + 1];
        sha256_hex(&r->tool_keys[i].digest, hex);
        json_put_str(w, json_str(json_get(function_at(r, i), "name")));
        json_put_bool(w, pipeline__is_strict(r, i));
        json_put_cstr(w, hex);
    }
}

/* ---- checking arguments ---- */

/* Without one that compiles arguments are not checked, unless that was asked for. */
static bool compile_one(const struct pipeline *p, struct gen_request *r, const struct json_schema **out, size_t i,
                        struct error *err)
{
    const struct json *parameters = json_get(function_at(r, i), "parameters");
    struct str name = json_str(json_get(function_at(r, i), "name"));
    struct error why = {0};
    if (json_is_null(parameters)) {
        return true;
    }
    const struct json_schema *schema = grammar_check_schema(p->grammars, parameters, &r->tool_keys[i], r->arena, &why);
    out[i] = schema;
    if (!schema && why.code == ERR_NO_MEMORY) {
        *err = why;
        return false;
    }
    if (!schema && pipeline__is_strict(r, i)) {
        char field[64];
        field_of(r, i, field, sizeof field);
        return error_set_param(err, why.code, field, "Invalid schema for '%s': %s", field, why.msg);
    }
    if (!schema) {
        LOG_WARN("arguments of a tool are not checked", "request=%s tool=\"" STR_FMT "\" reason=\"%s\"", r->id,
                 STR_ARG(name), why.msg);
    }
    return true;
}

bool pipeline__compile_schemas(const struct pipeline *p, struct gen_request *r, struct error *err)
{
    size_t n = json_len(r->tools);
    if (!r->tool_format || n == 0) {
        return true;
    }
    const struct json_schema **schemas = arena_alloc_array(r->arena, n, sizeof(const struct json_schema *));
    for (size_t i = 0; schemas && i < n; i++) {
        if (!compile_one(p, r, schemas, i, err)) {
            return false;
        }
    }
    r->tool_schemas = schemas;
    return schemas || arena_full(r->arena, "request", err);
}

/* ---- what was left out ---- */

bool pipeline__note_drops(struct gen_request *r, struct str where, const struct schema_drops *drops, struct error *err)
{
    struct buf text;
    buf_init(&text, LIMIT_SCHEMA_SIZE);
    buf_append(&text, r->widened);
    for (size_t i = 0; i < drops->n; i++) {
        buf_printf(&text, "%s" STR_FMT ":" STR_FMT, text.len ? ", " : "", STR_ARG(where), STR_ARG(drops->pointers[i]));
    }
    if (drops->n_more) {
        buf_printf(&text, ", " STR_FMT ": %zu more", STR_ARG(where), drops->n_more);
    }
    bool ok = buf_ok(&text, "what was left out of schemas", err);
    if (ok && text.len > r->widened.len) {
        r->widened = arena_str(r->arena, buf_view(&text));
        ok = r->widened.ptr || arena_full(r->arena, "request", err);
    }
    buf_release(&text);
    return ok;
}

/* ---- definitions for a grammar ---- */

static bool widen_one(const struct pipeline *p, struct gen_request *r, size_t i, struct json_writer *w,
                      struct error *err)
{
    const struct json *parameters = json_get(function_at(r, i), "parameters");
    struct str name = json_str(json_get(function_at(r, i), "name"));
    struct schema_drops drops = {0};
    struct buf schema;
    char field[64];
    field_of(r, i, field, sizeof field);
    struct schema_widen_options o = {
        .binding = pipeline__is_strict(r, i), .field = field, .vocab = grammar_check_vocab(p->grammars, err)};
    if (!o.vocab) {
        return false;
    }
    json_begin_object(w);
    json_member_cstr(w, "type", "function");
    json_key(w, "function");
    json_begin_object(w);
    json_member_str(w, "name", name);
    bool ok = true;
    if (!json_is_null(parameters)) {
        buf_init(&schema, LIMIT_SCHEMA_SIZE);
        ok = schema_widen(parameters, &o, r->arena, &schema, &drops, err) && buf_ok(&schema, field, err) &&
             pipeline__note_drops(r, name, &drops, err);
        if (ok) {
            json_member_raw(w, "parameters", buf_view(&schema));
        }
        buf_release(&schema);
    }
    json_end_object(w);
    json_end_object(w);
    return ok;
}

static bool is_callable(const struct gen_request *r, size_t i)
{
    return r->tool_choice != GEN_TOOLS_NAMED || str_eq(json_str(json_get(function_at(r, i), "name")), r->tool_name);
}

const struct json *pipeline__enforced_tools(const struct pipeline *p, struct gen_request *r, struct error *err)
{
    struct buf text;
    struct json *root = NULL;
    bool ok = true;
    buf_init(&text, LIMIT_HTTP_BODY);
    struct json_writer w = json_writer(&text);
    json_begin_array(&w);
    for (size_t i = 0; ok && i < json_len(r->tools); i++) {
        ok = !is_callable(r, i) || widen_one(p, r, i, &w, err);
    }
    json_end_array(&w);
    if (ok && buf_ok(&text, "the schemas of tools", err)) {
        root = json_parse(buf_view(&text), LIMIT_SCHEMA_DEPTH, err);
    }
    buf_release(&text);
    return json_keep(root, r->arena, "request", err);
}
