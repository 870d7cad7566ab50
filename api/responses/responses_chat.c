/* Items of a response's input as chat messages, and which of them may be dropped where they do not fit. */
#include "api/openai/openai_tools.h"
#include "api/responses/responses_items.h"
#include "base/array.h"

static bool in_context(const struct call *c, struct str id)
{
    for (size_t i = 0; i < responses_n_context(c); i++) {
        if (str_eq(responses_str(json_at(responses_of(c)->context, i), "id"), id)) {
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
        buf_append(out, responses_part_text(part));
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
        json_begin_object(w);
        json_member_cstr(w, "type", "text");
        json_member_str(w, "text", responses_part_text(part));
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
    if (str_eq(responses_str(item, "role"), STR("assistant"))) {
        if (chat->has_content || chat->n_calls) {
            end_turn(chat);
        }
        chat->in_turn = chat->has_content = true;
        append_text(&chat->content, json_get(item, "content"));
        return;
    }
    end_turn(chat);
    json_begin_object(w);
    json_member_str(w, "role", responses_str(item, "role"));
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
    openai_put_call(&w, responses_str(item, "call_id"), responses_str(item, "name"), responses_str(item, "arguments"));
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
    put_output(&chat->w, responses_str(item, "call_id"), json_get(item, "output"));
}

/* Call and result in one. Several in a row count as calls of one turn. */
static void add_mcp_call(struct chat *chat, const struct json *item)
{
    struct json_writer calls = {.out = &chat->calls, .need_comma = chat->n_calls > 0};
    struct json_writer results = {.out = &chat->results, .need_comma = chat->results.len > 0};
    const struct json *output = json_get(item, "output"), *content = json_get(json_get(item, "error"), "content");
    chat->in_turn = true;
    chat->n_calls++;
    openai_put_call(&calls, responses_str(item, "id"), responses_str(item, "name"), responses_str(item, "arguments"));
    put_output(&results, responses_str(item, "id"), output ? output : content);
}

static void add_nothing(struct chat *chat, const struct json *item)
{
    (void)chat;
    (void)item;
}

static bool add_item(struct chat *chat, const struct json *item, struct error *err)
{
    static void (*const add[RESPONSES_REFERENCE])(struct chat * chat, const struct json *item) = {
        [RESPONSES_MESSAGE] = add_message,     [RESPONSES_CALL] = add_call,         [RESPONSES_OUTPUT] = add_output,
        [RESPONSES_REASONING] = add_reasoning, [RESPONSES_MCP_CALL] = add_mcp_call, [RESPONSES_MCP_LIST] = add_nothing};
    if (item && responses_kind(item) == RESPONSES_REFERENCE) {
        return in_context(chat->call, responses_str(item, "id")) ||
               error_set_param(err, ERR_NOT_FOUND, "input", "Item with id '" STR_FMT "' not found.",
                               STR_ARG(str_slice(responses_str(item, "id"), 0, 80)));
    }
    if (item) {
        add[responses_kind(item)](chat, item);
        return true;
    }
    end_turn(chat);
    openai_put_message(&chat->w, STR("user"), json_str(responses_of(chat->call)->input));
    return true;
}

/* ---- what may be dropped ---- */

/* Everything from the last thing that the user said on stays; where that is not there, the last item. */
static size_t first_kept(const struct call *c)
{
    size_t n = responses_n_items(c);
    for (size_t i = n; i > 0; i--) {
        const struct json *item = responses_item_at(c, i - 1);
        if (!item || responses_has_role(item, "user")) {
            return i - 1;
        }
    }
    return n ? n - 1 : 0;
}

static bool may_drop(const struct call *c, size_t i, size_t kept)
{
    const struct json *item = responses_item_at(c, i);
    return i < kept && !responses_has_role(item, "system") && !responses_has_role(item, "developer");
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
    const struct json *item = responses_item_at(c, i);
    if (n_items_gone == 0 || !item || responses_kind(item) != RESPONSES_OUTPUT) {
        return false;
    }
    for (size_t k = 0; k < i && k < n_items_gone; k++) {
        const struct json *other = responses_item_at(c, k);
        if (other && responses_kind(other) == RESPONSES_CALL &&
            str_eq(responses_str(other, "call_id"), responses_str(item, "call_id"))) {
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
        } else if (!is_orphan(c, i, gone) && !add_item(chat, responses_item_at(c, i), err)) {
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
