#include "mcp/tool.h"

#include "base/array.h"
#include "http/percent.h"

#include <stdio.h>

#define HEADER_KEY  "x-mcp-header"
#define FIELD_MAX   64
#define SAFE_NUMBER ((int64_t)1 << 53)

/* ---- x-mcp-header ---- */

static bool is_primitive(const struct json *schema)
{
    struct str name = json_str(json_get(schema, "type"));
    return str_eq(name, STR("string")) || str_eq(name, STR("integer")) || str_eq(name, STR("boolean"));
}

static bool bad_header(struct error *err, const char *what)
{
    return error_set(err, ERR_PROTOCOL, "an '" HEADER_KEY "' of its schema %s.", what);
}

static bool add_header(struct tool *t, const struct json *schema, const struct tool_header *at, struct error *err)
{
    struct str field = json_str(json_get(schema, HEADER_KEY));
    if (!is_token(field) || field.len > FIELD_MAX) {
        return bad_header(err, "is no name of a header field");
    }
    if (!is_primitive(schema)) {
        return bad_header(err, "belongs to what is neither a string, an integer nor a boolean");
    }
    for (size_t i = 0; i < t->n_headers; i++) {
        if (str_eq_nocase(t->headers[i].field, field)) {
            return bad_header(err, "is there twice");
        }
    }
    if (t->n_headers == TOOL_MAX_HEADERS) {
        return bad_header(err, "is one too many");
    }
    t->headers[t->n_headers] = *at;
    t->headers[t->n_headers++].field = field;
    return true;
}

/* Recursion is bounded by the room for a path. */
static bool read_headers(struct tool *t, const struct json *schema, struct tool_header *at, struct error *err)
{
    if (json_get(schema, HEADER_KEY) && (at->n_path == 0 || !add_header(t, schema, at, err))) {
        return at->n_path > 0 ? false : bad_header(err, "belongs to no parameter");
    }
    struct json_iter it = json_members(json_get(schema, "properties"));
    bool ok = true;
    while (ok && at->n_path < ARRAY_LEN(at->path) && json_next(&it)) {
        at->path[at->n_path++] = it.key;
        ok = json_type(it.value) != JSON_OBJECT || read_headers(t, it.value, at, err);
        at->n_path--;
    }
    return ok;
}

/* How many annotations there are anywhere: one that read_headers does not reach makes the tool invalid. Recursion is
 * bounded by the depth of a message (LIMIT_MCP_DEPTH). properties: v's keys are names of parameters. */
static size_t count_headers(const struct json *v, bool properties)
{
    size_t n = 0;
    struct json_iter it = json_members(v);
    while (json_type(v) == JSON_OBJECT && json_next(&it)) {
        n += !properties && str_eq(it.key, STR(HEADER_KEY));
        n += count_headers(it.value, !properties && str_eq(it.key, STR("properties")));
    }
    for (size_t i = 0; json_type(v) == JSON_ARRAY && i < json_len(v); i++) {
        n += count_headers(json_at(v, i), false);
    }
    return n;
}

/* ---- reading ---- */

static int read_hint(const struct json *annotations, const char *name)
{
    const struct json *v = json_get(annotations, name);
    return json_type(v) == JSON_BOOL ? json_bool(v) : -1;
}

bool tool_read(const struct json *definition, bool strict, struct tool *out, struct error *err)
{
    struct str name = json_str(json_get(definition, "name"));
    *out = (struct tool){.definition = definition, .schema = json_get(definition, "inputSchema")};
    if (!name.len || name.len > LIMIT_TOOL_NAME) {
        return error_set(err, ERR_PROTOCOL, "a tool has no 'name' of 1 to %d bytes.", LIMIT_TOOL_NAME);
    }
    if (json_type(out->schema) != JSON_OBJECT) {
        return error_set(err, ERR_PROTOCOL, "its 'inputSchema' is no object.");
    }
    const struct json *annotations = json_get(definition, "annotations");
    out->name.tool = name;
    out->read_only = read_hint(annotations, "readOnlyHint");
    out->idempotent = read_hint(annotations, "idempotentHint");
    struct tool_header at = {.n_path = 0};
    return !strict || (read_headers(out, out->schema, &at, err) &&
                       (out->n_headers == count_headers(out->schema, false) ||
                        bad_header(err, "is where no value of the arguments can be found")));
}

/* ---- showing ---- */

static void put_description(const struct tool *t, struct json_writer *w)
{
    const struct json *description = json_get(t->definition, "description"), *title = json_get(t->definition, "title");
    const struct json *shown = json_type(description) == JSON_STRING ? description : title;
    if (json_type(shown) == JSON_STRING) {
        json_member_json(w, "description", shown);
    }
}

void tool_put_openai(const struct tool *t, struct json_writer *w)
{
    const struct json *annotations = json_get(t->definition, "annotations");
    json_begin_object(w);
    json_member_cstr(w, "type", "function");
    json_key(w, "function");
    json_begin_object(w);
    json_member_cstr(w, "name", t->name.merged);
    put_description(t, w);
    json_member_json(w, "parameters", t->schema);
    json_end_object(w);
    if (json_type(annotations) == JSON_OBJECT) {
        json_member_json(w, "annotations", annotations);
    }
    json_end_object(w);
}

bool tool_header_value(const struct tool_header *h, const struct json *arguments, struct buf *out)
{
    char name[256];
    const struct json *v = arguments;
    for (size_t i = 0; i < h->n_path && v; i++) {
        int n = snprintf(name, sizeof name, STR_FMT, STR_ARG(h->path[i]));
        v = n < (int)sizeof name ? json_get(v, name) : NULL;
    }
    switch (json_type(v)) {
    case JSON_STRING:
        buf_append(out, json_str(v));
        return true;
    case JSON_BOOL:
        buf_puts(out, json_bool(v) ? "true" : "false");
        return true;
    case JSON_INT:
        buf_printf(out, "%lld", (long long)json_int(v));
        return json_int(v) > -SAFE_NUMBER && json_int(v) < SAFE_NUMBER;
    default:
        return false;
    }
}
