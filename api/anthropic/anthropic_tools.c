/* Tools: {"name", "description", "input_schema"} to OpenAI's {"type": "function", "function": {...}}. Tools of a type
 * other than "custom" run at Anthropic, or are known to its models by training: neither is there. */
#include "api/anthropic/anthropic.h"

#include "api/openai/openai_tools.h"

#include <stdio.h>

struct tool { /* members of one */
    struct str name, description;
    const struct json *schema, *cache_control;
    bool strict;
};

#define AT(member) offsetof(struct tool, member)

static bool parse_schema(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    ((struct tool *)d->target)->schema = v;
    return json_type(v) == JSON_OBJECT || field_type_error(err, name, "an object: a JSON schema", v);
}

static bool parse_cache_control(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    (void)name;
    (void)err;
    ((struct tool *)d->target)->cache_control = v;
    return true;
}

static const struct field tool_fields[] = {
    {"type", FIELD_DEFAULT, 0, 0, 0, NULL, "\"custom\"", NULL, NULL},
    {"name", FIELD_STR, AT(name), 0, LIMIT_TOOL_NAME, NULL, NULL, NULL, NULL},
    {"description", FIELD_STR, AT(description), 0, 0, NULL, NULL, NULL, NULL},
    {"input_schema", FIELD_CUSTOM, 0, 0, 0, parse_schema, NULL, NULL, NULL},
    {"strict", FIELD_BOOL, AT(strict), 0, 0, NULL, NULL, NULL, NULL},
    {"cache_control", FIELD_CUSTOM, 0, 0, 0, parse_cache_control, NULL, NULL, NULL},
    {"defer_loading", FIELD_DEFAULT, 0, 0, 0, NULL, "false", NULL, NULL},
    {"allowed_callers", FIELD_DEFAULT, 0, 0, 0, NULL, "[\"direct\"]", NULL, NULL},
    {"eager_input_streaming", FIELD_HINT, 0, 0, 0, NULL, NULL, NULL, NULL}, /* arguments are sent as they come anyway */
    {"input_examples", FIELD_HINT, 0, 0, 0, NULL, NULL, NULL, NULL},
    {0},
};

/* Of the tools before it, which are at most LIMIT_TOOLS. */
static bool is_taken(const struct json *tools, size_t n, struct str name)
{
    for (size_t i = 0; i < n; i++) {
        if (str_eq(json_str(json_get(json_at(tools, i), "name")), name)) {
            return true;
        }
    }
    return false;
}

/* Its type says more of a tool that is not there than the first of its fields that is missing. */
static bool check_type(const struct json *v, const char *where, struct error *err)
{
    const struct json *type = json_get(v, "type");
    char param[48];
    if (json_type(type) != JSON_STRING || str_eq(json_str(type), STR("custom"))) {
        return true;
    }
    snprintf(param, sizeof param, "%s.type", where);
    return error_set_param(err, ERR_UNSUPPORTED, param,
                           "%s: this server has no tools of its own, so '%.60s' is not supported; only tools of type "
                           "'custom' with a 'name' and an 'input_schema' are.",
                           param, json_str(type).ptr);
}

static bool decode_tool(const struct decoding *body, const struct json *v, const char *where, struct tool *t,
                        struct error *err)
{
    char param[64];
    struct decoding d = *body;
    d.target = t;
    if (json_type(v) != JSON_OBJECT) {
        return field_type_error(err, where, "an object", v);
    }
    if (!check_type(v, where, err) || !fields_decode_members(&d, v, where, tool_fields, err)) {
        return false;
    }
    if (!request_is_name(t->name, LIMIT_TOOL_NAME)) {
        snprintf(param, sizeof param, "%s.name", where);
        return error_set_param(err, ERR_INVALID, param,
                               "%s: a name of 1 to %d letters, digits, '_' and '-' is expected.", param,
                               LIMIT_TOOL_NAME);
    }
    if (!t->schema) {
        snprintf(param, sizeof param, "%s.input_schema", where);
        return field_missing_error(err, param);
    }
    snprintf(param, sizeof param, "%s.cache_control", where);
    return anthropic__check_cache_control(body->target, t->cache_control, param, err);
}

static bool put_tool(struct json_writer *w, const struct tool *t, const char *where, struct error *err)
{
    char param[64];
    snprintf(param, sizeof param, "%s.input_schema", where);
    struct str description = t->description.len ? t->description : (struct str){NULL, 0};
    openai_put_tool(w, &(struct openai_tool){t->name, description, t->schema, t->strict});
    return request_check_schema(t->schema, param, err);
}

static bool put_tools(const struct decoding *d, struct json_writer *w, struct error *err)
{
    const struct messages_request *m = d->target;
    size_t n = json_len(m->tools);
    json_begin_array(w);
    for (size_t i = 0; i < n; i++) {
        char where[32];
        struct tool t = {0};
        snprintf(where, sizeof where, "tools[%zu]", i);
        if (str_eq(json_str(json_get(json_at(m->tools, i), "type")), STR("mcp_toolset"))) {
            continue; /* anthropic_mcp.c */
        }
        if (!decode_tool(d, json_at(m->tools, i), where, &t, err)) {
            return false;
        }
        if (is_taken(m->tools, i, t.name)) {
            return error_set_param(err, ERR_INVALID, "tools",
                                   "tools: Tool names must be unique; '" STR_FMT "' comes twice.",
                                   STR_ARG(str_slice(t.name, 0, LIMIT_TOOL_NAME)));
        }
        if (!put_tool(w, &t, where, err)) {
            return false;
        }
    }
    json_end_array(w);
    return true;
}

static bool check_choice(const struct messages_request *m, struct error *err)
{
    const struct gen_request *r = &m->request;
    bool calls = r->tool_choice == GEN_TOOLS_REQUIRED || r->tool_choice == GEN_TOOLS_NAMED;
    if (r->mcp.wanted) {
        return true; /* when the tools of its servers are known */
    }
    if (calls && json_len(m->tools) == 0) {
        return error_set_param(err, ERR_INVALID, "tool_choice",
                               "tool_choice: a tool has to be called, but 'tools' has none.");
    }
    if (r->tool_choice == GEN_TOOLS_NAMED && !is_taken(m->tools, json_len(m->tools), r->tool_name)) {
        return error_set_param(err, ERR_INVALID, "tool_choice.name",
                               "tool_choice.name: no tool in 'tools' has the name '" STR_FMT "'.",
                               STR_ARG(str_slice(r->tool_name, 0, 80)));
    }
    return true;
}

bool anthropic__convert_tools(const struct decoding *d, struct error *err)
{
    struct messages_request *m = d->target;
    size_t n = json_len(m->tools);
    struct buf text;
    if (n > LIMIT_TOOLS) {
        return error_set_param(err, ERR_INVALID, "tools",
                               "Invalid value for 'tools': at most %d tools are allowed, but got %zu.", LIMIT_TOOLS, n);
    }
    if (!check_choice(m, err)) {
        return false;
    }
    if (n == 0) {
        return true;
    }
    buf_init(&text, LIMIT_REQUEST_ARENA);
    struct json_writer w = json_writer(&text);
    bool ok = put_tools(d, &w, err) && anthropic__own_json(&m->request, &text, &m->request.tools, err);
    buf_release(&text);
    return ok;
}
