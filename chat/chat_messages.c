/* Messages as clients send them, to messages as the template takes them: roles, content as string or parts, names of
 * tool results, and the names under which templates look for reasoning. Members that are null are left out, as
 * transformers does it. Tool calls are the business of chat_calls.c. */
#include "chat/chat_template_internal.h"

#include "base/array.h"

#include <stdio.h>

struct message { /* one message on its way into the context */
    const struct chat_template *t;
    const struct json *json;
    const struct json *call;    /* whose result this is, or NULL */
    size_t call_index;          /* its place in its message */
    const struct json *thought; /* reasoning that goes into the content, or NULL */
    size_t index;
    bool open; /* its text gets the tag of continue_final_message */
};

static bool is_text_part(const struct json *part)
{
    return json_type(part) == JSON_OBJECT && json_type(json_get(part, "text")) == JSON_STRING;
}

/* The text of a content that is a string or a list of text parts; parts are joined by newlines. */
static bool content_text(const struct json *content, struct buf *out)
{
    if (json_type(content) == JSON_STRING) {
        buf_append(out, json_str(content));
        return true;
    }
    for (size_t i = 0; i < json_len(content); i++) {
        const struct json *part = json_at(content, i);
        buf_puts(out, i ? "\n" : "");
        if (json_type(part) == JSON_STRING) {
            buf_append(out, json_str(part));
        } else if (is_text_part(part)) {
            buf_append(out, json_str(json_get(part, "text")));
        } else {
            return false;
        }
    }
    return true;
}

/* The last part that has text, whose text continue_final_message goes on with; the length when there is none. */
static size_t last_text_part(const struct json *content)
{
    for (size_t i = json_len(content); i-- > 0;) {
        if (is_text_part(json_at(content, i))) {
            return i;
        }
    }
    return json_len(content);
}

static enum chat_parts parts_of(const struct chat_template *t, const struct json *message)
{
    static const struct {
        struct str name;
        enum chat_role role;
    } roles[] = {{STR("system"), CHAT_SYSTEM},
                 {STR("developer"), CHAT_SYSTEM},
                 {STR("assistant"), CHAT_ASSISTANT},
                 {STR("tool"), CHAT_TOOL}};
    struct str name = json_str(json_get(message, "role"));
    for (size_t i = 0; i < ARRAY_LEN(roles); i++) {
        if (str_eq(name, roles[i].name)) {
            return t->parts[roles[i].role];
        }
    }
    return t->parts[CHAT_USER];
}

static bool takes_parts(const struct chat_template *t, const struct json *message, const struct json *content)
{
    return json_type(content) == JSON_ARRAY && parts_of(t, message) != CHAT_PARTS_JOINED;
}

static void put_open_text(struct json_writer *w, struct str text, bool open, struct buf *scratch)
{
    if (!open) {
        json_put_str(w, text);
        return;
    }
    buf_clear(scratch);
    buf_append(scratch, text);
    buf_puts(scratch, CHAT_CONTINUE_TAG);
    json_put_str(w, buf_view(scratch));
}

/* A part as it is, but for the text that stays open. */
static void put_part(struct json_writer *w, const struct json *part, bool open, struct buf *scratch)
{
    if (json_type(part) != JSON_OBJECT) {
        json_put_json(w, part);
        return;
    }
    struct json_iter it = json_members(part);
    json_begin_object(w);
    while (json_next(&it)) {
        json_key(w, it.key.ptr);
        if (open && str_eq(it.key, STR("text"))) {
            put_open_text(w, json_str(it.value), true, scratch);
        } else {
            json_put_json(w, it.value);
        }
    }
    json_end_object(w);
}

static void put_parts(const struct message *m, const struct json *content, struct json_writer *w, struct buf *scratch)
{
    size_t open = m->open ? last_text_part(content) : json_len(content);
    for (size_t i = 0; i < json_len(content); i++) {
        put_part(w, json_at(content, i), i == open, scratch);
    }
}

static void put_text_part(const struct message *m, struct str text, struct json_writer *w, struct buf *scratch)
{
    json_begin_object(w);
    json_member_cstr(w, "type", "text");
    json_key(w, "text");
    put_open_text(w, text, m->open, scratch);
    json_end_object(w);
}

/* The reasoning as a part of its own before those of the content. */
static bool put_thought(const struct message *m, const struct json *content, struct json_writer *w, struct error *err)
{
    struct buf scratch;
    buf_init(&scratch, CHAT_MAX_CONTEXT);
    json_key(w, "content");
    json_begin_array(w);
    json_begin_object(w);
    json_member_cstr(w, "type", "thinking");
    json_member_json(w, "thinking", m->thought);
    json_end_object(w);
    if (json_type(content) == JSON_ARRAY) {
        put_parts(m, content, w, &scratch);
    } else if (json_type(content) == JSON_STRING && (json_str(content).len || m->open)) {
        put_text_part(m, json_str(content), w, &scratch);
    }
    json_end_array(w);
    bool ok = buf_ok(&scratch, "content of a message", err);
    buf_release(&scratch);
    return ok;
}

static bool put_text(const struct message *m, const struct json *content, struct json_writer *w, struct buf *scratch,
                     struct error *err)
{
    struct buf text;
    buf_init(&text, CHAT_MAX_CONTEXT);
    bool ok = content_text(content, &text);
    if (!ok) {
        char param[48];
        snprintf(param, sizeof param, "messages[%zu].content", m->index);
        error_set_param(err, ERR_INVALID, param, "%s has a part that is no text; this model takes text only.", param);
    } else if (parts_of(m->t, m->json) == CHAT_PARTS_ONLY) {
        json_begin_array(w);
        put_text_part(m, buf_view(&text), w, scratch);
        json_end_array(w);
    } else {
        put_open_text(w, buf_view(&text), m->open, scratch);
    }
    ok = ok && buf_ok(&text, "content of a message", err);
    buf_release(&text);
    return ok;
}

static bool put_content(const struct message *m, const struct json *content, struct json_writer *w, struct error *err)
{
    struct buf scratch;
    bool ok = true;
    buf_init(&scratch, CHAT_MAX_CONTEXT);
    json_key(w, "content");
    if (json_is_null(content)) {
        json_put_cstr(w, "");
    } else if (takes_parts(m->t, m->json, content)) {
        json_begin_array(w);
        put_parts(m, content, w, &scratch);
        json_end_array(w);
    } else if (json_type(content) == JSON_STRING || json_type(content) == JSON_ARRAY) {
        ok = put_text(m, content, w, &scratch, err);
    } else {
        json_put_json(w, content);
    }
    ok = ok && buf_ok(&scratch, "content of a message", err);
    buf_release(&scratch);
    return ok;
}

/* Content beside tool calls that says nothing, in the form that the template takes; false when there is more to it. */
static bool put_empty_content(const struct message *m, struct json_writer *w)
{
    const struct json *content = json_get(m->json, "content");
    bool empty = json_is_null(content) || (json_type(content) == JSON_STRING && json_str(content).len == 0);
    if (!empty || m->open || json_len(json_get(m->json, "tool_calls")) == 0 || m->t->empty == CHAT_EMPTY_STRING) {
        return false;
    }
    if (m->t->empty == CHAT_EMPTY_NULL) {
        json_member_null(w, "content");
    }
    return true;
}

/* Reasoning under the first of its names that is there. */
static const struct json *reasoning_of(const struct json *message)
{
    static const char *const names[] = {"reasoning_content", "thinking", "reasoning"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const struct json *v = json_get(message, names[i]);
        if (!json_is_null(v)) {
            return v;
        }
    }
    return NULL;
}

/* A member other than the content. */
static void put_member(const struct message *m, struct str key, const struct json *value, struct json_writer *w)
{
    bool calls = str_eq(key, STR("tool_calls"));
    if (json_is_null(value) || (calls && json_len(value) == 0)) {
        return;
    }
    json_key(w, key.ptr);
    if (str_eq(key, STR("role")) && !m->t->caps.developer_role && str_eq(json_str(value), STR("developer"))) {
        json_put_cstr(w, "system");
    } else if (calls) {
        chat__put_calls(m->t, value, w);
    } else if (str_eq(key, STR("tool_call_id"))) {
        chat__put_id(m->t, value, m->call, m->call_index, w);
    } else {
        json_put_json(w, value);
    }
}

/* The content in whatever form it takes, with its key, or nothing. */
static bool put_some_content(const struct message *m, const struct json *content, struct json_writer *w,
                             struct error *err)
{
    if (m->thought) {
        return put_thought(m, content, w, err);
    }
    return put_empty_content(m, w) || put_content(m, content, w, err);
}

/* The members in their order, but for the content that is not there. */
static bool put_members(const struct message *m, const struct json *reasoning, struct json_writer *w, struct error *err)
{
    bool content = false;
    struct json_iter it = json_members(m->json);
    while (json_next(&it)) {
        if (str_eq(it.key, STR("content"))) {
            content = true;
            if (!put_some_content(m, it.value, w, err)) {
                return false;
            }
        } else if (!reasoning || !str_eq(it.key, STR("reasoning_content"))) {
            put_member(m, it.key, it.value, w);
        }
    }
    return content || put_some_content(m, NULL, w, err);
}

/* Whether the template takes reasoning as a part, and the message has it elsewhere. */
static bool thinks_in_parts(const struct message *m, const struct json *reasoning)
{
    const struct json *first = json_at(json_get(m->json, "content"), 0);
    return m->t->thinking_parts && json_type(reasoning) == JSON_STRING &&
           str_eq(json_str(json_get(m->json, "role")), STR("assistant")) &&
           !str_eq(json_str(json_get(first, "type")), STR("thinking"));
}

static bool put_message(struct message *m, struct json_writer *w, struct error *err)
{
    const struct json *reasoning = reasoning_of(m->json);
    m->thought = thinks_in_parts(m, reasoning) ? reasoning : NULL;
    json_begin_object(w);
    if (reasoning && json_is_null(json_get(m->json, "thinking"))) {
        json_member_json(w, "thinking", reasoning);
    }
    if (!put_members(m, reasoning, w, err)) {
        return false;
    }
    if (m->call && json_is_null(json_get(m->json, "name"))) {
        json_member_json(w, "name", json_get(json_get(m->call, "function"), "name"));
    }
    if (reasoning) {
        json_member_json(w, "reasoning_content", reasoning);
    }
    json_end_object(w);
    return true;
}

bool chat__put_messages(const struct chat_template *t, const struct chat_render *r, struct json_writer *w,
                        struct error *err)
{
    size_t n = json_len(r->messages);
    struct chat_calls made = {0};
    json_begin_array(w);
    for (size_t i = 0; i < n; i++) {
        struct message m = {
            .t = t, .json = json_at(r->messages, i), .index = i, .open = r->continue_final_message && i + 1 == n};
        if (json_type(m.json) != JSON_OBJECT) {
            return error_set_param(err, ERR_INVALID, "messages", "messages[%zu] is not an object.", i);
        }
        if (str_eq(json_str(json_get(m.json, "role")), STR("tool"))) {
            m.call = chat__called(&made, json_get(m.json, "tool_call_id"), &m.call_index);
        }
        if (!put_message(&m, w, err)) {
            return false;
        }
        const struct json *calls = json_get(m.json, "tool_calls");
        made = json_len(calls) ? (struct chat_calls){.calls = calls} : made;
    }
    json_end_array(w);
    return true;
}

bool chat__final_text(const struct chat_template *t, const struct chat_render *r, struct buf *out, struct error *err)
{
    const struct json *last = json_at(r->messages, json_len(r->messages) - 1), *content = json_get(last, "content");
    bool found = !json_is_null(content);
    if (found && takes_parts(t, last, content)) {
        size_t i = last_text_part(content);
        found = i < json_len(content);
        if (found) {
            buf_append(out, json_str(json_get(json_at(content, i), "text")));
        }
    } else if (found) {
        found = content_text(content, out);
    }
    if (!found) {
        return error_set_param(err, ERR_INVALID, "continue_final_message",
                               "continue_final_message is set, but the final message has no text to continue.");
    }
    return buf_ok(out, "final message", err);
}
