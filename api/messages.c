/* Validation of OpenAI's message objects, before a template sees them. */
#include "api/api_internal.h"

#include "base/array.h"

#include <stdio.h>

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

bool api__check_messages(const struct json *messages, struct error *err)
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
