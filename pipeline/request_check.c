#include "pipeline/request_check.h"

#include "base/array.h"
#include "pipeline/gen_request.h"

#include <stdio.h>

const char *field_type_name(const struct json *v)
{
    static const char *const names[] = {"null",     "a boolean", "an integer", "a number",
                                        "a string", "an array",  "an object"};
    return names[json_type(v)];
}

bool field_type_error(struct error *err, const char *name, const char *expected, const struct json *got)
{
    return error_set_param(err, ERR_INVALID, name, "Invalid type for '%s': expected %s, but got %s instead.", name,
                           expected, field_type_name(got));
}

bool field_missing_error(struct error *err, const char *name)
{
    return error_set_param(err, ERR_INVALID, name, "Missing required parameter: '%s'.", name);
}

/* ---- messages ---- */

static const char *const roles[] = {"system", "developer", "user", "assistant", "tool", "function"};

static bool known_role(struct str role)
{
    for (size_t i = 0; i < ARRAY_LEN(roles); i++) {
        if (str_eq(role, str_of(roles[i]))) {
            return true;
        }
    }
    return false;
}

/* A member that is a string. where: "messages[0]", or what lies in it. */
static bool check_string(const struct json *object, const char *where, const char *member, bool required,
                         struct error *err)
{
    char param[128];
    const struct json *v = json_get(object, member);
    snprintf(param, sizeof param, "%s.%s", where, member);
    if (json_is_null(v)) {
        return !required || field_missing_error(err, param);
    }
    return json_type(v) == JSON_STRING || field_type_error(err, param, "a string", v);
}

static bool check_part(const struct json *part, size_t message, size_t index, struct error *err)
{
    char param[64];
    snprintf(param, sizeof param, "messages[%zu].content[%zu]", message, index);
    if (json_type(part) != JSON_OBJECT) {
        return field_type_error(err, param, "an object", part);
    }
    if (!check_string(part, param, "type", true, err)) {
        return false;
    }
    const struct json *type = json_get(part, "type");
    if (str_eq(json_str(type), STR("text")) || str_eq(json_str(type), STR("refusal"))) {
        return check_string(part, param, json_str(type).ptr, true, err); /* it lies in a member of that name */
    }
    return error_set_param(err, ERR_UNSUPPORTED, param,
                           "This model reads text only; a content part of type '%.40s' is not supported.",
                           json_str(type).ptr);
}

static bool check_content(const struct json *message, size_t index, bool may_be_null, struct error *err)
{
    char param[64];
    const struct json *content = json_get(message, "content");
    snprintf(param, sizeof param, "messages[%zu].content", index);
    if (json_type(content) == JSON_STRING || (json_is_null(content) && may_be_null)) {
        return true;
    }
    if (json_is_null(content)) {
        return field_missing_error(err, param);
    }
    if (json_type(content) != JSON_ARRAY) {
        return field_type_error(err, param, "a string or an array of content parts", content);
    }
    for (size_t i = 0; i < json_len(content); i++) {
        if (!check_part(json_at(content, i), index, i, err)) {
            return false;
        }
    }
    return true;
}

static bool check_tool_calls(const struct json *calls, size_t index, struct error *err)
{
    char param[64];
    snprintf(param, sizeof param, "messages[%zu].tool_calls", index);
    if (json_is_null(calls)) {
        return true;
    }
    if (json_type(calls) != JSON_ARRAY) {
        return field_type_error(err, param, "an array", calls);
    }
    for (size_t i = 0; i < json_len(calls); i++) {
        const struct json *function = json_get(json_at(calls, i), "function");
        if (json_type(json_get(function, "name")) != JSON_STRING ||
            json_type(json_get(function, "arguments")) != JSON_STRING) {
            return error_set_param(err, ERR_INVALID, param,
                                   "'%s[%zu].function' needs the strings 'name' and 'arguments'.", param, i);
        }
    }
    return true;
}

/* The older form of one call. */
static bool check_function_call(const struct json *call, size_t index, struct error *err)
{
    char param[64];
    snprintf(param, sizeof param, "messages[%zu].function_call", index);
    if (json_is_null(call)) {
        return true;
    }
    if (json_type(call) != JSON_OBJECT) {
        return field_type_error(err, param, "an object", call);
    }
    return check_string(call, param, "name", true, err) && check_string(call, param, "arguments", true, err);
}

static bool check_assistant(const struct json *message, const char *where, size_t index, struct error *err)
{
    return check_tool_calls(json_get(message, "tool_calls"), index, err) &&
           check_function_call(json_get(message, "function_call"), index, err) &&
           check_string(message, where, "reasoning_content", false, err) &&
           check_string(message, where, "reasoning", false, err);
}

static bool check_message(const struct json *message, size_t index, struct error *err)
{
    char param[64];
    snprintf(param, sizeof param, "messages[%zu]", index);
    if (json_type(message) != JSON_OBJECT) {
        return field_type_error(err, param, "an object", message);
    }
    if (!check_string(message, param, "role", true, err) || !check_string(message, param, "name", false, err) ||
        !check_string(message, param, "tool_call_id", false, err)) {
        return false;
    }
    const struct json *role = json_get(message, "role");
    if (!known_role(json_str(role))) {
        snprintf(param, sizeof param, "messages[%zu].role", index);
        return error_set_param(
            err, ERR_INVALID, param,
            "Invalid value for '%s': '%.40s' is none of system, developer, user, assistant, tool, function.", param,
            json_str(role).ptr);
    }
    bool assistant = str_eq(json_str(role), STR("assistant"));
    bool calls = !json_is_null(json_get(message, "tool_calls")) || !json_is_null(json_get(message, "function_call"));
    return check_content(message, index, assistant && calls, err) && check_assistant(message, param, index, err);
}

bool request_check_messages(const struct json *messages, struct error *err)
{
    size_t n = json_len(messages);
    if (n == 0 || n > LIMIT_MESSAGES) {
        return error_set_param(err, ERR_INVALID, "messages",
                               "Invalid value for 'messages': 1 to %d messages are allowed, but got %zu.",
                               LIMIT_MESSAGES, n);
    }
    for (size_t i = 0; i < n; i++) {
        if (!check_message(json_at(messages, i), i, err)) {
            return false;
        }
    }
    return true;
}

/* ---- tools ---- */

static bool expected(struct error *err, const char *param, const char *what, const struct json *got)
{
    return json_is_null(got) ? field_missing_error(err, param) : field_type_error(err, param, what, got);
}

bool request_is_name(struct str name, size_t max)
{
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
        if (!ok) {
            return false;
        }
    }
    return name.len > 0 && name.len <= max;
}

bool request_check_name(const struct json *v, const char *param, struct error *err)
{
    if (json_type(v) != JSON_STRING) {
        return expected(err, param, "a string", v);
    }
    return request_is_name(json_str(v), REQUEST_NAME_MAX) ||
           error_set_param(err, ERR_INVALID, param,
                           "Invalid value for '%s': expected 1 to %d letters, digits, '_' and '-', but got '%.80s'.",
                           param, REQUEST_NAME_MAX, json_str(v).ptr);
}

bool request_check_schema(const struct json *v, const char *param, struct error *err)
{
    struct buf text;
    if (json_is_null(v)) {
        return true;
    }
    if (json_type(v) != JSON_OBJECT) {
        return field_type_error(err, param, "an object", v);
    }
    buf_init(&text, LIMIT_SCHEMA_SIZE);
    json_print(&text, v);
    bool no_memory = text.no_memory, ok = !text.failed;
    buf_release(&text);
    if (no_memory) {
        return error_set(err, ERR_NO_MEMORY, "no memory for a schema.");
    }
    return ok || error_set_param(err, ERR_TOO_LARGE, param,
                                 "'%s' is larger than %d bytes of JSON, the limit of one "
                                 "schema.",
                                 param, (int)LIMIT_SCHEMA_SIZE);
}

static bool check_type(const struct json *v, const char *param, enum json_type type, const char *what,
                       struct error *err)
{
    return json_is_null(v) || json_type(v) == type || field_type_error(err, param, what, v);
}

bool request_check_function(const struct json *function, const char *where, struct error *err)
{
    char param[64];
    if (json_type(function) != JSON_OBJECT) {
        return expected(err, where, "an object", function);
    }
    snprintf(param, sizeof param, "%s.name", where);
    if (!request_check_name(json_get(function, "name"), param, err)) {
        return false;
    }
    snprintf(param, sizeof param, "%s.description", where);
    if (!check_type(json_get(function, "description"), param, JSON_STRING, "a string", err)) {
        return false;
    }
    snprintf(param, sizeof param, "%s.strict", where);
    if (!check_type(json_get(function, "strict"), param, JSON_BOOL, "a boolean", err)) {
        return false;
    }
    snprintf(param, sizeof param, "%s.parameters", where);
    return request_check_schema(json_get(function, "parameters"), param, err);
}

static bool check_tool(const struct json *tools, size_t i, struct error *err)
{
    char param[64];
    const struct json *tool = json_at(tools, i), *type = json_get(tool, "type");
    snprintf(param, sizeof param, "tools[%zu]", i);
    if (json_type(tool) != JSON_OBJECT) {
        return expected(err, param, "an object", tool);
    }
    snprintf(param, sizeof param, "tools[%zu].type", i);
    if (json_type(type) != JSON_STRING) {
        return expected(err, param, "a string", type);
    }
    if (!str_eq(json_str(type), STR("function"))) {
        return error_set_param(err, ERR_UNSUPPORTED, param,
                               "Unsupported value for '%s': only tools of type 'function' are supported, not '%.40s'.",
                               param, json_str(type).ptr);
    }
    snprintf(param, sizeof param, "tools[%zu].function", i);
    return request_check_function(json_get(tool, "function"), param, err);
}

bool request_check_tool_count(const char *name, size_t n, struct error *err)
{
    return n <= LIMIT_TOOLS ||
           error_set_param(err, ERR_INVALID, name, "Invalid value for '%s': at most %d are allowed, but got %zu.", name,
                           LIMIT_TOOLS, n);
}

bool request_check_tool_names(const struct json *tools, const char *name, struct error *err)
{
    struct str names[LIMIT_TOOLS];
    size_t n = json_len(tools);
    for (size_t i = 0; i < n; i++) {
        names[i] = gen_tool_name(json_at(tools, i));
        for (size_t k = 0; k < i; k++) {
            if (str_eq(names[i], names[k])) {
                return error_set_param(err, ERR_INVALID, name, "Invalid value for '%s': two are named '%s'.", name,
                                       names[i].ptr);
            }
        }
    }
    return true;
}

bool request_check_tools(const struct json *tools, const char *name, struct error *err)
{
    if (json_type(tools) != JSON_ARRAY) {
        return field_type_error(err, name, "an array", tools);
    }
    if (!request_check_tool_count(name, json_len(tools), err)) {
        return false;
    }
    for (size_t i = 0; i < json_len(tools); i++) {
        if (!check_tool(tools, i, err)) {
            return false;
        }
    }
    return request_check_tool_names(tools, name, err);
}
