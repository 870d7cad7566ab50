#include "api/openai/openai_tools.h"

#include "base/array.h"

#include <stdio.h>

static struct gen_request *request_of(struct decoding *d)
{
    return d->target;
}

bool openai_parse_tools(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    if (json_type(v) != JSON_ARRAY) {
        return field_type_error(err, name, "an array", v);
    }
    request_of(d)->tools = json_len(v) ? v : NULL;
    return request_check_tools(v, name, err);
}

/* ---- as chat completions have them ---- */

void openai_put_message(struct json_writer *w, struct str role, struct str content)
{
    json_begin_object(w);
    json_member_str(w, "role", role);
    json_member_str(w, "content", content);
    json_end_object(w);
}

void openai_put_tool(struct json_writer *w, const struct openai_tool *t)
{
    json_begin_object(w);
    json_member_cstr(w, "type", "function");
    json_key(w, "function");
    json_begin_object(w);
    json_member_str(w, "name", t->name);
    if (t->description.ptr) {
        json_member_str(w, "description", t->description);
    }
    json_key(w, "parameters");
    if (t->parameters) {
        json_put_json(w, t->parameters);
    } else {
        json_put_raw(w, STR("{\"type\":\"object\",\"properties\":{}}"));
    }
    if (t->strict) {
        json_member_bool(w, "strict", true);
    }
    json_end_object(w);
    json_end_object(w);
}

void openai_put_call(struct json_writer *w, struct str id, struct str name, struct str arguments)
{
    json_begin_object(w);
    json_member_str(w, "id", id);
    json_member_cstr(w, "type", "function");
    json_key(w, "function");
    json_begin_object(w);
    json_member_str(w, "name", name);
    json_member_str(w, "arguments", arguments);
    json_end_object(w);
    json_end_object(w);
}

/* ---- lists that are made ---- */

/* JSON text as a value that lives as long as the arena. */
static const struct json *keep(struct arena *arena, const struct buf *text, struct error *err)
{
    struct json *root = buf_ok(text, "tools", err) ? json_parse(buf_view(text), LIMIT_JSON_DEPTH, err) : NULL;
    return json_keep(root, arena, "the request", err);
}

/* The older form of tools: functions without anything around them. */
bool openai_parse_functions(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    struct gen_request *r = request_of(d);
    struct buf text;
    bool ok = true;
    if (json_type(v) != JSON_ARRAY) {
        return field_type_error(err, name, "an array", v);
    }
    if (json_len(v) == 0 || !request_check_tool_count(name, json_len(v), err)) {
        return json_len(v) == 0;
    }
    buf_init(&text, LIMIT_HTTP_BODY);
    struct json_writer w = json_writer(&text);
    json_begin_array(&w);
    for (size_t i = 0; ok && i < json_len(v); i++) {
        char where[64];
        snprintf(where, sizeof where, "functions[%zu]", i);
        ok = request_check_function(json_at(v, i), where, err);
        json_begin_object(&w);
        json_member_cstr(&w, "type", "function");
        json_member_json(&w, "function", json_at(v, i));
        json_end_object(&w);
    }
    json_end_array(&w);
    const struct json *tools = ok ? keep(d->arena, &text, err) : NULL;
    buf_release(&text);
    if (!tools || !request_check_tool_names(tools, name, err)) {
        return false;
    }
    r->tools = tools;
    r->legacy_functions = true;
    r->parallel_tool_calls = false; /* its answer has room for one */
    return true;
}

/* ---- the choice among them ---- */

static bool bad_choice(struct error *err, const char *param, const char *what)
{
    return error_set_param(err, ERR_INVALID, param, "Invalid value for '%s': expected %s.", param, what);
}

static bool parse_mode(struct gen_request *r, const struct json *v, const char *name, struct error *err)
{
    static const struct {
        const char *name;
        enum gen_tool_choice choice;
    } modes[] = {{"auto", GEN_TOOLS_AUTO}, {"none", GEN_TOOLS_NONE}, {"required", GEN_TOOLS_REQUIRED}};
    for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
        if (str_eq(json_str(v), str_of(modes[i].name))) {
            r->tool_choice = modes[i].choice;
            return true;
        }
    }
    return bad_choice(err, name, "\"none\", \"auto\", \"required\", or an object");
}

static const struct json *allowed_tools(const struct json *choice)
{
    bool is_allowed = str_eq(json_str(json_get(choice, "type")), STR("allowed_tools"));
    return is_allowed ? json_get(choice, "allowed_tools") : NULL;
}

/* {"mode": "auto" or "required", "tools": [{"type": "function", "function": {"name"}}, ...]} */
static bool parse_allowed(struct gen_request *r, const struct json *allowed, struct error *err)
{
    const struct json *mode = json_get(allowed, "mode"), *tools = json_get(allowed, "tools");
    bool required = str_eq(json_str(mode), STR("required"));
    if (!required && !str_eq(json_str(mode), STR("auto"))) {
        return bad_choice(err, "tool_choice.allowed_tools.mode", "\"auto\" or \"required\"");
    }
    if (json_type(tools) != JSON_ARRAY || json_len(tools) == 0) {
        return bad_choice(err, "tool_choice.allowed_tools.tools", "an array of tools, not empty");
    }
    for (size_t i = 0; i < json_len(tools); i++) {
        char param[64];
        snprintf(param, sizeof param, "tool_choice.allowed_tools.tools[%zu]", i);
        if (!gen_tool_name(json_at(tools, i)).len) {
            return bad_choice(err, param, "an object with 'type' and 'function.name'");
        }
    }
    r->tool_choice = required ? GEN_TOOLS_REQUIRED : GEN_TOOLS_AUTO;
    r->only_allowed = true;
    return true;
}

bool openai_parse_tool_choice(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    struct gen_request *r = request_of(d);
    if (json_type(v) == JSON_STRING) {
        return parse_mode(r, v, name, err);
    }
    if (json_type(v) != JSON_OBJECT) {
        return field_type_error(err, name, "a string or an object", v);
    }
    if (allowed_tools(v)) {
        return parse_allowed(r, allowed_tools(v), err);
    }
    if (!str_eq(json_str(json_get(v, "type")), STR("function")) || !gen_tool_name(v).len) {
        return bad_choice(err, name,
                          "{\"type\": \"function\", \"function\": {\"name\": ...}} or one of type \"allowed_tools\"");
    }
    r->tool_choice = GEN_TOOLS_NAMED;
    r->tool_name = gen_tool_name(v);
    return true;
}

bool openai_parse_function_call(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    struct gen_request *r = request_of(d);
    struct str function = json_str(json_get(v, "name"));
    if (json_type(v) == JSON_OBJECT && function.len) {
        r->tool_choice = GEN_TOOLS_NAMED;
        r->tool_name = function;
        return true;
    }
    bool none = str_eq(json_str(v), STR("none"));
    if (!none && !str_eq(json_str(v), STR("auto"))) {
        return bad_choice(err, name, "\"none\", \"auto\", or {\"name\": ...}");
    }
    r->tool_choice = none ? GEN_TOOLS_NONE : GEN_TOOLS_AUTO;
    return true;
}

/* ---- fields together ---- */

static bool unknown_tool(struct error *err, const char *param, struct str name)
{
    return error_set_param(err, ERR_INVALID, param, "Invalid value for '%s': the request has no tool '%.80s'.", param,
                           name.ptr);
}

static bool check_allowed(const struct json *tools, const struct json *list, struct error *err)
{
    for (size_t i = 0; i < json_len(list); i++) {
        if (!gen_tool_find(tools, gen_tool_name(json_at(list, i)))) {
            return unknown_tool(err, "tool_choice.allowed_tools.tools", gen_tool_name(json_at(list, i)));
        }
    }
    return true;
}

/* The model is shown those that it may call, in their order. */
static bool keep_allowed(struct gen_request *r, const struct json *list, struct error *err)
{
    struct buf text;
    if (!check_allowed(r->tools, list, err)) {
        return false;
    }
    buf_init(&text, LIMIT_HTTP_BODY);
    struct json_writer w = json_writer(&text);
    json_begin_array(&w);
    for (size_t i = 0; i < json_len(r->tools); i++) {
        if (gen_tool_find(list, gen_tool_name(json_at(r->tools, i)))) {
            json_put_json(&w, json_at(r->tools, i));
        }
    }
    json_end_array(&w);
    r->tools = keep(r->arena, &text, err);
    buf_release(&text);
    return r->tools != NULL;
}

bool openai_check_tools(struct gen_request *r, const struct json *body, struct error *err)
{
    const char *choice = json_is_null(json_get(body, "tool_choice")) ? "function_call" : "tool_choice";
    const struct json *allowed = allowed_tools(json_get(body, "tool_choice"));
    if (json_len(json_get(body, "tools")) && json_len(json_get(body, "functions"))) {
        return error_set_param(err, ERR_INVALID, "functions", "'functions' and 'tools' exclude each other.");
    }
    if (!r->tools && !r->mcp.wanted &&
        (r->tool_choice == GEN_TOOLS_REQUIRED || r->tool_choice == GEN_TOOLS_NAMED || allowed)) {
        return error_set_param(err, ERR_INVALID, choice, "'%s' asks for a tool, but the request has none.", choice);
    }
    if (r->tool_choice == GEN_TOOLS_NAMED && !r->mcp.wanted && !gen_tool_find(r->tools, r->tool_name)) {
        return unknown_tool(err, choice, r->tool_name);
    }
    return !allowed || keep_allowed(r, json_get(allowed, "tools"), err);
}

/* ---- reasoning ---- */

bool openai_parse_effort(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    static const char *const efforts[] = {"none", "minimal", "low", "medium", "high", "xhigh"};
    if (json_type(v) != JSON_STRING) {
        return field_type_error(err, name, "a string", v);
    }
    for (size_t i = 0; i < ARRAY_LEN(efforts); i++) {
        if (str_eq(json_str(v), str_of(efforts[i]))) {
            request_of(d)->reasoning_effort = json_str(v);
            return true;
        }
    }
    return error_set_param(err, ERR_INVALID, name,
                           "Invalid value for '%s': '%.40s' is none of none, minimal, low, medium, high, xhigh.", name,
                           json_str(v).ptr);
}

bool openai_parse_thinking(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    request_of(d)->thinking = json_bool(v);
    return json_type(v) == JSON_BOOL || field_type_error(err, name, "a boolean", v);
}
