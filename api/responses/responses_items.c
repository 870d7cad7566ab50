/* Items of a response's input. Each kind is checked when the request is decoded, so that whoever reads it later need
 * not look again. */
#include "api/responses/responses.h"

#include "api/openai/openai_tools.h"
#include "base/array.h"

#include <stdio.h>

enum kind {
    ITEM_MESSAGE,
    ITEM_CALL,
    ITEM_OUTPUT,
    ITEM_REASONING,
    ITEM_MCP_CALL,
    ITEM_MCP_LIST,
    ITEM_REFERENCE,
    ITEM_KINDS,
    ITEM_UNKNOWN
};

static const struct {
    const char *type, *id_prefix;
} kinds[ITEM_KINDS] = {
    [ITEM_MESSAGE] = {"message", "msg"},
    [ITEM_CALL] = {"function_call", "fc"},
    [ITEM_OUTPUT] = {"function_call_output", "fco"},
    [ITEM_REASONING] = {"reasoning", "rs"},
    [ITEM_MCP_CALL] = {"mcp_call", "mcp"},
    [ITEM_MCP_LIST] = {"mcp_list_tools", "mcpl"},
    [ITEM_REFERENCE] = {"item_reference", "ref"},
};

/* A message may leave its type out, and so may a reference. */
static enum kind kind_of(const struct json *item)
{
    struct str type = json_str(json_get(item, "type"));
    for (int i = 0; i < ITEM_KINDS; i++) {
        if (str_eq(type, str_of(kinds[i].type))) {
            return i;
        }
    }
    if (type.len == 0 && json_get(item, "role")) {
        return ITEM_MESSAGE;
    }
    return type.len == 0 && json_get(item, "id") ? ITEM_REFERENCE : ITEM_UNKNOWN;
}

static struct str member(const struct json *object, const char *name)
{
    return json_str(json_get(object, name));
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

static bool check_part(const struct json *part, const char *where, struct error *err)
{
    if (json_type(part) != JSON_OBJECT) {
        return field_type_error(err, where, "an object", part);
    }
    if (!need_string(part, where, "type", err)) {
        return false;
    }
    const char *text = text_member(member(part, "type"));
    if (!text) {
        return error_set_param(err, ERR_UNSUPPORTED, where,
                               "This model reads text only; a content part of type '%.40s' is not supported.",
                               member(part, "type").ptr);
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
        if (str_eq(member(item, "role"), str_of(roles[i]))) {
            return check_text(item, where, "content", err);
        }
    }
    snprintf(param, sizeof param, "%.50s.role", where);
    return error_set_param(err, ERR_INVALID, param,
                           "Invalid value for '%s': '%.40s' is none of user, assistant, system, developer.", param,
                           member(item, "role").ptr);
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
    static bool (*const checks[ITEM_KINDS])(const struct json *item, const char *where, struct error *err) = {
        check_message, check_call, check_output, check_reasoning, check_mcp_call, check_mcp_list, check_reference};
    if (json_type(item) != JSON_OBJECT) {
        return field_type_error(err, where, "an object", item);
    }
    enum kind kind = kind_of(item);
    if (kind != ITEM_UNKNOWN) {
        return checks[kind](item, where, err);
    }
    if (json_is_null(json_get(item, "type"))) {
        return need_string(item, where, "type", err);
    }
    return error_set_param(err, ERR_UNSUPPORTED, where,
                           "Items of type '" STR_FMT "' are not supported: this server has no such tool.",
                           STR_ARG(str_slice(member(item, "type"), 0, 40)));
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

static size_t n_context(const struct call *c)
{
    return json_len(responses_of(c)->context);
}

size_t responses_n_items(const struct call *c)
{
    const struct json *input = responses_of(c)->input;
    return n_context(c) + (json_type(input) == JSON_STRING ? 1 : json_len(input));
}

/* NULL: the input, which is a string. References are what they mean, as far as that is known. */
static const struct json *item_at(const struct call *c, size_t i)
{
    const struct responses_request *r = responses_of(c);
    if (i < n_context(c)) {
        return json_at(r->context, i);
    }
    if (json_type(r->input) == JSON_STRING) {
        return NULL;
    }
    const struct json *item = json_at(r->input, i - n_context(c));
    const struct json *meant = kind_of(item) == ITEM_REFERENCE ? json_get(r->references, member(item, "id").ptr) : NULL;
    return meant ? meant : item;
}

static bool in_context(const struct call *c, struct str id)
{
    for (size_t i = 0; i < n_context(c); i++) {
        if (str_eq(member(json_at(responses_of(c)->context, i), "id"), id)) {
            return true;
        }
    }
    return false;
}

/* ---- chat messages ---- */

struct chat { /* messages that are being written */
    struct buf out;
    struct json_writer w;
    bool in_turn; /* an assistant's turn is gathered: */
    struct buf reasoning, content, calls;
    struct buf results; /* messages with the results of MCP tools, behind the turn's */
    bool has_content;
    size_t n_calls;
    const struct call *call;
};

static void append_text(struct buf *out, const struct json *text)
{
    if (json_type(text) == JSON_STRING) {
        buf_append(out, json_str(text));
        return;
    }
    for (size_t i = 0; i < json_len(text); i++) {
        const struct json *part = json_at(text, i);
        const char *name = text_member(member(part, "type"));
        buf_append(out, name ? member(part, name) : (struct str){0});
    }
}

static void put_joined(struct json_writer *w, const struct json *text)
{
    struct buf joined;
    buf_init(&joined, LIMIT_HTTP_BODY);
    append_text(&joined, text);
    json_put_str(w, buf_view(&joined));
    buf_release(&joined);
}

/* One part is a string to the template, which all of them take; several stay several. */
static void put_content(struct json_writer *w, const struct json *content)
{
    if (json_type(content) == JSON_STRING || json_len(content) < 2) {
        put_joined(w, content);
        return;
    }
    json_begin_array(w);
    for (size_t i = 0; i < json_len(content); i++) {
        const struct json *part = json_at(content, i);
        const char *name = text_member(member(part, "type"));
        json_begin_object(w);
        json_member_cstr(w, "type", "text");
        json_member_str(w, "text", name ? member(part, name) : STR(""));
        json_end_object(w);
    }
    json_end_array(w);
}

/* What the assistant thought, said and called in one go is one message. */
static void end_turn(struct chat *chat)
{
    struct json_writer *w = &chat->w;
    if (!chat->in_turn) {
        return;
    }
    json_begin_object(w);
    json_member_cstr(w, "role", "assistant");
    json_member_str(w, "content", buf_view(&chat->content));
    if (chat->reasoning.len) {
        json_member_str(w, "reasoning_content", buf_view(&chat->reasoning));
    }
    if (chat->n_calls) {
        json_key(w, "tool_calls");
        json_begin_array(w);
        buf_append(w->out, buf_view(&chat->calls));
        json_end_array(w);
    }
    json_end_object(w);
    if (chat->results.len) {
        json_put_raw(w, buf_view(&chat->results));
    }
    buf_clear(&chat->results);
    buf_clear(&chat->reasoning);
    buf_clear(&chat->content);
    buf_clear(&chat->calls);
    chat->in_turn = chat->has_content = false;
    chat->n_calls = 0;
}

static void add_message(struct chat *chat, const struct json *item)
{
    struct json_writer *w = &chat->w;
    if (str_eq(member(item, "role"), STR("assistant"))) {
        if (chat->has_content || chat->n_calls) {
            end_turn(chat);
        }
        chat->in_turn = chat->has_content = true;
        append_text(&chat->content, json_get(item, "content"));
        return;
    }
    end_turn(chat);
    json_begin_object(w);
    json_member_str(w, "role", member(item, "role"));
    json_key(w, "content");
    put_content(w, json_get(item, "content"));
    json_end_object(w);
}

static void add_reasoning(struct chat *chat, const struct json *item)
{
    if (chat->has_content || chat->n_calls) {
        end_turn(chat);
    }
    chat->in_turn = true;
    const struct json *content = json_get(item, "content");
    append_text(&chat->reasoning, json_len(content) ? content : json_get(item, "summary"));
}

static void add_call(struct chat *chat, const struct json *item)
{
    struct json_writer w = {.out = &chat->calls, .need_comma = chat->n_calls > 0};
    chat->in_turn = true;
    chat->n_calls++;
    openai_put_call(&w, member(item, "call_id"), member(item, "name"), member(item, "arguments"));
}

static void put_output(struct json_writer *w, struct str call_id, const struct json *output)
{
    json_begin_object(w);
    json_member_cstr(w, "role", "tool");
    json_member_str(w, "tool_call_id", call_id);
    json_key(w, "content");
    put_joined(w, output);
    json_end_object(w);
}

static void add_output(struct chat *chat, const struct json *item)
{
    end_turn(chat);
    put_output(&chat->w, member(item, "call_id"), json_get(item, "output"));
}

/* Call and result in one. Several in a row count as calls of one turn. */
static void add_mcp_call(struct chat *chat, const struct json *item)
{
    struct json_writer calls = {.out = &chat->calls, .need_comma = chat->n_calls > 0};
    struct json_writer results = {.out = &chat->results, .need_comma = chat->results.len > 0};
    const struct json *output = json_get(item, "output"), *content = json_get(json_get(item, "error"), "content");
    chat->in_turn = true;
    chat->n_calls++;
    openai_put_call(&calls, member(item, "id"), member(item, "name"), member(item, "arguments"));
    put_output(&results, member(item, "id"), output ? output : content);
}

static void add_nothing(struct chat *chat, const struct json *item)
{
    (void)chat;
    (void)item;
}

static bool add_item(struct chat *chat, const struct json *item, struct error *err)
{
    static void (*const add[])(struct chat * chat, const struct json *item) = {
        add_message, add_call, add_output, add_reasoning, add_mcp_call, add_nothing};
    if (item && kind_of(item) == ITEM_REFERENCE) {
        return in_context(chat->call, member(item, "id")) ||
               error_set_param(err, ERR_NOT_FOUND, "input", "Item with id '" STR_FMT "' not found.",
                               STR_ARG(str_slice(member(item, "id"), 0, 80)));
    }
    if (item) {
        add[kind_of(item)](chat, item);
        return true;
    }
    end_turn(chat);
    openai_put_message(&chat->w, STR("user"), json_str(responses_of(chat->call)->input));
    return true;
}

bool responses_has_mcp_list(const struct call *c, struct str server)
{
    for (size_t i = 0; i < responses_n_items(c); i++) {
        const struct json *item = item_at(c, i);
        if (item && kind_of(item) == ITEM_MCP_LIST && str_eq(member(item, "server_label"), server)) {
            return true;
        }
    }
    return false;
}

/* ---- what may be dropped ---- */

static bool has_role(const struct json *item, const char *role)
{
    return item && kind_of(item) == ITEM_MESSAGE && str_eq(member(item, "role"), str_of(role));
}

/* Everything from the last thing that the user said on stays; where that is not there, the last item. */
static size_t first_kept(const struct call *c)
{
    size_t n = responses_n_items(c);
    for (size_t i = n; i > 0; i--) {
        const struct json *item = item_at(c, i - 1);
        if (!item || has_role(item, "user")) {
            return i - 1;
        }
    }
    return n ? n - 1 : 0;
}

static bool may_drop(const struct call *c, size_t i, size_t kept)
{
    const struct json *item = item_at(c, i);
    return i < kept && !has_role(item, "system") && !has_role(item, "developer");
}

size_t responses_n_droppable(const struct call *c)
{
    size_t n = 0, kept = first_kept(c);
    for (size_t i = 0; i < kept; i++) {
        n += may_drop(c, i, kept);
    }
    return n;
}

/* The output of a call that was dropped goes with it. */
static bool is_orphan(const struct call *c, size_t i, size_t n_items_gone)
{
    const struct json *item = item_at(c, i);
    if (n_items_gone == 0 || !item || kind_of(item) != ITEM_OUTPUT) {
        return false;
    }
    for (size_t k = 0; k < i && k < n_items_gone; k++) {
        const struct json *other = item_at(c, k);
        if (other && kind_of(other) == ITEM_CALL && str_eq(member(other, "call_id"), member(item, "call_id"))) {
            return true;
        }
    }
    return false;
}

static bool add_items(struct chat *chat, size_t n_dropped, struct error *err)
{
    const struct call *c = chat->call;
    size_t kept = first_kept(c), gone = 0, left = n_dropped;
    for (size_t i = 0; i < responses_n_items(c); i++) {
        if (left && may_drop(c, i, kept)) {
            left--;
            gone = i + 1;
        } else if (!is_orphan(c, i, gone) && !add_item(chat, item_at(c, i), err)) {
            return false;
        }
    }
    end_turn(chat);
    return true;
}

static void put_instructions(struct chat *chat)
{
    struct str text = responses_of(chat->call)->instructions;
    if (text.len) {
        openai_put_message(&chat->w, STR("system"), text);
    }
}

const struct json *responses_messages(const struct call *c, size_t n_dropped, struct error *err)
{
    struct chat chat = {.call = c};
    struct buf *all[] = {&chat.out, &chat.reasoning, &chat.content, &chat.calls, &chat.results};
    const struct json *messages = NULL;
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        buf_init(all[i], 2 * LIMIT_HTTP_BODY);
    }
    chat.w = json_writer(&chat.out);
    json_begin_array(&chat.w);
    put_instructions(&chat);
    bool ok = add_items(&chat, n_dropped, err);
    json_end_array(&chat.w);
    for (size_t i = 0; ok && i < ARRAY_LEN(all); i++) {
        ok = buf_ok(all[i], "the input", err);
    }
    if (ok) {
        messages = responses_keep_json(c->request.arena, buf_view(&chat.out), err);
    }
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        buf_release(all[i]);
    }
    return messages;
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
    const struct json *item = item_at(c, i);
    struct str own = item ? member(item, "id") : (struct str){0};
    enum kind kind = item ? kind_of(item) : ITEM_MESSAGE;
    if (own.len || i < n_context(c)) {
        return own;
    }
    int n = snprintf(room, size, "%s_%.*s%04zx", kinds[kind].id_prefix, RESPONSES_ID_DIGITS,
                     c->request.id + strlen("resp_"), RESPONSES_INPUT_PLACE + i - n_context(c));
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
    bool assistant = item && has_role(item, "assistant");
    json_member_str(w, "role", item ? member(item, "role") : STR("user"));
    json_key(w, "content");
    json_begin_array(w);
    if (!item || json_type(content) == JSON_STRING) {
        list_part(w, assistant, item ? json_str(content) : json_str(responses_of(c)->input));
    }
    for (size_t i = 0; i < json_len(content) && json_type(content) == JSON_ARRAY; i++) {
        const struct json *part = json_at(content, i);
        const char *name = text_member(member(part, "type"));
        list_part(w, assistant, name ? member(part, name) : STR(""));
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
    const struct json *item = item_at(c, i);
    enum kind kind = item ? kind_of(item) : ITEM_MESSAGE;
    json_begin_object(w);
    json_member_str(w, "id", responses_item_id(c, i, room, sizeof room));
    json_member_cstr(w, "type", kinds[kind].type);
    if (kind != ITEM_REFERENCE) {
        json_member_cstr(w, "status", "completed");
    }
    if (kind == ITEM_MESSAGE) {
        list_message(w, c, item);
    } else {
        list_members(w, item, names, ARRAY_LEN(names));
    }
    if (kind == ITEM_REASONING) {
        json_key(w, "summary");
        if (json_type(json_get(item, "summary")) == JSON_ARRAY) {
            json_put_json(w, json_get(item, "summary"));
        } else {
            json_put_raw(w, STR("[]"));
        }
    }
    json_end_object(w);
}
