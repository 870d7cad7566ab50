/* Items of a response's input. Each kind is checked when the request is decoded, so that whoever reads it later need
 * not look again. */
#include "api/responses/responses_items.h"

#include "base/array.h"

#include <stdio.h>

static const struct {
    const char *type, *id_prefix;
} kinds[RESPONSES_KINDS] = {
    [RESPONSES_MESSAGE] = {"message", "msg"},
    [RESPONSES_CALL] = {"function_call", "fc"},
    [RESPONSES_OUTPUT] = {"function_call_output", "fco"},
    [RESPONSES_REASONING] = {"reasoning", "rs"},
    [RESPONSES_MCP_CALL] = {"mcp_call", "mcp"},
    [RESPONSES_MCP_LIST] = {"mcp_list_tools", "mcpl"},
    [RESPONSES_REFERENCE] = {"item_reference", "ref"},
};

/* A message may leave its type out, and so may a reference. */
enum responses_kind responses_kind(const struct json *item)
{
    struct str type = json_str(json_get(item, "type"));
    for (int i = 0; i < RESPONSES_KINDS; i++) {
        if (str_eq(type, str_of(kinds[i].type))) {
            return i;
        }
    }
    if (type.len == 0 && json_get(item, "role")) {
        return RESPONSES_MESSAGE;
    }
    return type.len == 0 && json_get(item, "id") ? RESPONSES_REFERENCE : RESPONSES_UNKNOWN;
}

/* ---- checking ---- */

static bool need_string(const struct json *object, const char *where, const char *name, struct error *err)
{
    char param[128];
    const struct json *v = json_get(object, name);
    snprintf(param, sizeof param, "%s.%s", where, name);
    if (json_is_null(v)) {
        return field_missing_error(err, param);
    }
    return json_type(v) == JSON_STRING || field_type_error(err, param, "a string", v);
}

/* The member that a part's text lies in; NULL: it has none. */
static const char *text_member(struct str type)
{
    static const char *const with_text[] = {"input_text", "output_text", "reasoning_text", "summary_text", "text"};
    for (size_t i = 0; i < ARRAY_LEN(with_text); i++) {
        if (str_eq(type, str_of(with_text[i]))) {
            return "text";
        }
    }
    return str_eq(type, STR("refusal")) ? "refusal" : NULL;
}

struct str responses_part_text(const struct json *part)
{
    const char *name = text_member(responses_str(part, "type"));
    return name ? responses_str(part, name) : STR("");
}

static bool check_part(const struct json *part, const char *where, struct error *err)
{
    if (json_type(part) != JSON_OBJECT) {
        return field_type_error(err, where, "an object", part);
    }
    if (!need_string(part, where, "type", err)) {
        return false;
    }
    const char *text = text_member(responses_str(part, "type"));
    if (!text) {
        return error_set_param(err, ERR_UNSUPPORTED, where,
                               "This model reads text only; a content part of type '%.40s' is not supported.",
                               responses_str(part, "type").ptr);
    }
    return need_string(part, where, text, err);
}

static bool check_parts(const struct json *parts, const char *where, const char *name, struct error *err)
{
    char param[128];
    if (json_type(parts) != JSON_ARRAY) {
        snprintf(param, sizeof param, "%s.%s", where, name);
        return json_is_null(parts) ? field_missing_error(err, param)
                                   : field_type_error(err, param, "an array of content parts", parts);
    }
    for (size_t i = 0; i < json_len(parts); i++) {
        snprintf(param, sizeof param, "%s.%s[%zu]", where, name, i);
        if (!check_part(json_at(parts, i), param, err)) {
            return false;
        }
    }
    return true;
}

/* A string, or parts with text. */
static bool check_text(const struct json *item, const char *where, const char *name, struct error *err)
{
    const struct json *v = json_get(item, name);
    return json_type(v) == JSON_STRING || check_parts(v, where, name, err);
}

static bool check_message(const struct json *item, const char *where, struct error *err)
{
    static const char *const roles[] = {"user", "assistant", "system", "developer"};
    char param[64];
    if (!need_string(item, where, "role", err)) {
        return false;
    }
    for (size_t i = 0; i < ARRAY_LEN(roles); i++) {
        if (str_eq(responses_str(item, "role"), str_of(roles[i]))) {
            return check_text(item, where, "content", err);
        }
    }
    snprintf(param, sizeof param, "%.50s.role", where);
    return error_set_param(err, ERR_INVALID, param,
                           "Invalid value for '%s': '%.40s' is none of user, assistant, system, developer.", param,
                           responses_str(item, "role").ptr);
}

static bool check_call(const struct json *item, const char *where, struct error *err)
{
    return need_string(item, where, "call_id", err) && need_string(item, where, "name", err) &&
           need_string(item, where, "arguments", err);
}

static bool check_output(const struct json *item, const char *where, struct error *err)
{
    return need_string(item, where, "call_id", err) && check_text(item, where, "output", err);
}

static bool check_reasoning(const struct json *item, const char *where, struct error *err)
{
    const struct json *content = json_get(item, "content"), *summary = json_get(item, "summary");
    return (json_is_null(content) || check_parts(content, where, "content", err)) &&
           (json_is_null(summary) || check_parts(summary, where, "summary", err));
}

/* One that has not ended has neither output nor error. */
static bool check_mcp_call(const struct json *item, const char *where, struct error *err)
{
    char param[128];
    const struct json *output = json_get(item, "output");
    snprintf(param, sizeof param, "%s.output", where);
    return need_string(item, where, "id", err) && need_string(item, where, "name", err) &&
           need_string(item, where, "arguments", err) && need_string(item, where, "server_label", err) &&
           (json_is_null(output) || json_type(output) == JSON_STRING ||
            field_type_error(err, param, "a string", output));
}

static bool check_mcp_list(const struct json *item, const char *where, struct error *err)
{
    return need_string(item, where, "server_label", err);
}

static bool check_reference(const struct json *item, const char *where, struct error *err)
{
    return need_string(item, where, "id", err);
}

static bool check_item(const struct json *item, const char *where, struct error *err)
{
    static bool (*const checks[RESPONSES_KINDS])(const struct json *item, const char *where, struct error *err) = {
        [RESPONSES_MESSAGE] = check_message,    [RESPONSES_CALL] = check_call,
        [RESPONSES_OUTPUT] = check_output,      [RESPONSES_REASONING] = check_reasoning,
        [RESPONSES_MCP_CALL] = check_mcp_call,  [RESPONSES_MCP_LIST] = check_mcp_list,
        [RESPONSES_REFERENCE] = check_reference};
    if (json_type(item) != JSON_OBJECT) {
        return field_type_error(err, where, "an object", item);
    }
    enum responses_kind kind = responses_kind(item);
    if (kind != RESPONSES_UNKNOWN) {
        return checks[kind](item, where, err);
    }
    if (json_is_null(json_get(item, "type"))) {
        return need_string(item, where, "type", err);
    }
    return error_set_param(err, ERR_UNSUPPORTED, where,
                           "Items of type '" STR_FMT "' are not supported: this server has no such tool.",
                           STR_ARG(str_slice(responses_str(item, "type"), 0, 40)));
}

bool responses_check_items(const struct json *items, struct error *err)
{
    size_t n = json_len(items);
    if (n == 0 || n > LIMIT_MESSAGES) {
        return error_set_param(err, ERR_INVALID, "input",
                               "Invalid value for 'input': 1 to %d items are allowed, but got %zu.", LIMIT_MESSAGES, n);
    }
    for (size_t i = 0; i < n; i++) {
        char where[32];
        snprintf(where, sizeof where, "input[%zu]", i);
        if (!check_item(json_at(items, i), where, err)) {
            return false;
        }
    }
    return true;
}

bool responses_check_earlier(const struct json *context, const struct json *references, struct error *err)
{
    bool ok = (!context || json_type(context) == JSON_ARRAY) && (!references || json_type(references) == JSON_OBJECT);
    for (size_t i = 0; ok && i < json_len(context); i++) {
        ok = check_item(json_at(context, i), "context", err);
    }
    for (struct json_iter it = json_members(references); ok && references && json_next(&it);) {
        ok = check_item(it.value, "references", err);
    }
    if (!ok && !err->code) {
        error_set(err, ERR_INVALID, "The conversation of a stored response is no list of items.");
    }
    return ok;
}

/* ---- the items of a request ---- */

bool responses_has_role(const struct json *item, const char *role)
{
    return item && responses_kind(item) == RESPONSES_MESSAGE && str_eq(responses_str(item, "role"), str_of(role));
}

size_t responses_n_context(const struct call *c)
{
    return json_len(responses_of(c)->context);
}

size_t responses_n_items(const struct call *c)
{
    const struct json *input = responses_of(c)->input;
    return responses_n_context(c) + (json_type(input) == JSON_STRING ? 1 : json_len(input));
}

const struct json *responses_item_at(const struct call *c, size_t i)
{
    const struct responses_request *r = responses_of(c);
    if (i < responses_n_context(c)) {
        return json_at(r->context, i);
    }
    if (json_type(r->input) == JSON_STRING) {
        return NULL;
    }
    const struct json *item = json_at(r->input, i - responses_n_context(c));
    const struct json *meant =
        responses_kind(item) == RESPONSES_REFERENCE ? json_get(r->references, responses_str(item, "id").ptr) : NULL;
    return meant ? meant : item;
}

bool responses_has_mcp_list(const struct call *c, struct str server)
{
    for (size_t i = 0; i < responses_n_items(c); i++) {
        const struct json *item = responses_item_at(c, i);
        if (item && responses_kind(item) == RESPONSES_MCP_LIST && str_eq(responses_str(item, "server_label"), server)) {
            return true;
        }
    }
    return false;
}

/* ---- listing ---- */

bool responses_maker(struct str item_id, char *out, size_t size)
{
    size_t dash = str_find_char(item_id, '_');
    struct str digits = str_slice(item_id, dash == STR_NPOS ? item_id.len : dash + 1, item_id.len);
    bool ok = digits.len == RESPONSES_ID_DIGITS + 4;
    for (size_t i = 0; ok && i < digits.len; i++) {
        ok = (digits.ptr[i] >= '0' && digits.ptr[i] <= '9') || (digits.ptr[i] >= 'a' && digits.ptr[i] <= 'f');
    }
    if (ok) {
        snprintf(out, size, "resp_" STR_FMT, STR_ARG(str_slice(digits, 0, RESPONSES_ID_DIGITS)));
    }
    return ok;
}

struct str responses_item_id(const struct call *c, size_t i, char *room, size_t size)
{
    const struct json *item = responses_item_at(c, i);
    struct str own = item ? responses_str(item, "id") : (struct str){0};
    enum responses_kind kind = item ? responses_kind(item) : RESPONSES_MESSAGE;
    if (own.len || i < responses_n_context(c)) {
        return own;
    }
    int n = snprintf(room, size, "%s_%.*s%04zx", kinds[kind].id_prefix, RESPONSES_ID_DIGITS,
                     c->request.id + strlen("resp_"), RESPONSES_INPUT_PLACE + i - responses_n_context(c));
    return (struct str){room, n > 0 && (size_t)n < size ? (size_t)n : 0};
}

static void list_part(struct json_writer *w, bool assistant, struct str text)
{
    json_begin_object(w);
    json_member_cstr(w, "type", assistant ? "output_text" : "input_text");
    json_member_str(w, "text", text);
    if (assistant) {
        json_member_raw(w, "annotations", STR("[]"));
    }
    json_end_object(w);
}

static void list_message(struct json_writer *w, const struct call *c, const struct json *item)
{
    const struct json *content = json_get(item, "content");
    bool assistant = item && responses_has_role(item, "assistant");
    json_member_str(w, "role", item ? responses_str(item, "role") : STR("user"));
    json_key(w, "content");
    json_begin_array(w);
    if (!item || json_type(content) == JSON_STRING) {
        list_part(w, assistant, item ? json_str(content) : json_str(responses_of(c)->input));
    }
    for (size_t i = 0; i < json_len(content) && json_type(content) == JSON_ARRAY; i++) {
        const struct json *part = json_at(content, i);
        list_part(w, assistant, responses_part_text(part));
    }
    json_end_array(w);
}

static void list_members(struct json_writer *w, const struct json *item, const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct json *v = json_get(item, names[i]);
        if (!json_is_null(v)) {
            json_member_json(w, names[i], v);
        }
    }
}

void responses_put_item(struct json_writer *w, const struct call *c, size_t i)
{
    static const char *const names[] = {"call_id", "name",         "arguments", "output",
                                        "content", "server_label", "error",     "tools"};
    char room[64];
    const struct json *item = responses_item_at(c, i);
    enum responses_kind kind = item ? responses_kind(item) : RESPONSES_MESSAGE;
    json_begin_object(w);
    json_member_str(w, "id", responses_item_id(c, i, room, sizeof room));
    json_member_cstr(w, "type", kinds[kind].type);
    if (kind != RESPONSES_REFERENCE) {
        json_member_cstr(w, "status", "completed");
    }
    if (kind == RESPONSES_MESSAGE) {
        list_message(w, c, item);
    } else {
        list_members(w, item, names, ARRAY_LEN(names));
    }
    if (kind == RESPONSES_REASONING) {
        json_key(w, "summary");
        if (json_type(json_get(item, "summary")) == JSON_ARRAY) {
            json_put_json(w, json_get(item, "summary"));
        } else {
            json_put_raw(w, STR("[]"));
        }
    }
    json_end_object(w);
}
