/* Messages as clients send them, to messages as the template takes them: roles, content as string or parts, arguments
 * of tool calls as object, and the names under which templates look for reasoning. */
#include "chat/chat_template_internal.h"

#include <stdio.h>

#define ARGUMENTS_DEPTH 64

struct message { /* one message on its way into the context */
    const struct chat_template *t;
    const struct json *json;
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

static bool takes_parts(const struct chat_template *t, const struct json *content)
{
    return json_type(content) == JSON_ARRAY && (t->caps.content_parts || t->parts_only);
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
    json_begin_array(w);
    for (size_t i = 0; i < json_len(content); i++) {
        put_part(w, json_at(content, i), i == open, scratch);
    }
    json_end_array(w);
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
    } else if (m->t->parts_only) {
        json_begin_array(w);
        json_begin_object(w);
        json_key(w, "type");
        json_put_cstr(w, "text");
        json_key(w, "text");
        put_open_text(w, buf_view(&text), m->open, scratch);
        json_end_object(w);
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
    if (json_is_null(content)) {
        bool calls = json_len(json_get(m->json, "tool_calls")) > 0;
        if (calls && m->t->null_content) {
            json_put_null(w);
        } else {
            json_put_cstr(w, "");
        }
    } else if (takes_parts(m->t, content)) {
        put_parts(m, content, w, &scratch);
    } else if (json_type(content) == JSON_STRING || json_type(content) == JSON_ARRAY) {
        ok = put_text(m, content, w, &scratch, err);
    } else {
        json_put_json(w, content);
    }
    ok = ok && buf_ok(&scratch, "content of a message", err);
    buf_release(&scratch);
    return ok;
}

/* Clients send arguments as JSON in a string; templates mostly want the object. What is no JSON object stays a string.
 */
static void put_arguments(const struct chat_template *t, const struct json *arguments, struct json_writer *w)
{
    struct error ignored = {0};
    struct str text = json_str(arguments);
    if (t->arguments_string || json_type(arguments) != JSON_STRING) {
        json_put_json(w, arguments);
        return;
    }
    if (str_trim(text).len == 0) {
        json_begin_object(w);
        json_end_object(w);
        return;
    }
    struct json *object = json_parse(text, ARGUMENTS_DEPTH, &ignored);
    json_put_json(w, json_type(object) == JSON_OBJECT ? object : arguments);
    json_free(object);
}

static void put_function(const struct chat_template *t, const struct json *function, struct json_writer *w)
{
    struct json_iter it = json_members(function);
    json_begin_object(w);
    while (json_next(&it)) {
        json_key(w, it.key.ptr);
        if (str_eq(it.key, STR("arguments"))) {
            put_arguments(t, it.value, w);
        } else {
            json_put_json(w, it.value);
        }
    }
    json_end_object(w);
}

static void put_tool_calls(const struct chat_template *t, const struct json *calls, struct json_writer *w)
{
    if (json_type(calls) != JSON_ARRAY) {
        json_put_json(w, calls);
        return;
    }
    json_begin_array(w);
    for (size_t i = 0; i < json_len(calls); i++) {
        const struct json *call = json_at(calls, i);
        struct json_iter it = json_members(call);
        json_begin_object(w);
        while (json_next(&it)) {
            json_key(w, it.key.ptr);
            if (str_eq(it.key, STR("function")) && json_type(it.value) == JSON_OBJECT) {
                put_function(t, it.value, w);
            } else {
                json_put_json(w, it.value);
            }
        }
        json_end_object(w);
    }
    json_end_array(w);
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

static bool put_member(const struct message *m, struct str key, const struct json *value, struct json_writer *w,
                       struct error *err)
{
    json_key(w, key.ptr);
    if (str_eq(key, STR("role")) && !m->t->caps.developer_role && str_eq(json_str(value), STR("developer"))) {
        json_put_cstr(w, "system");
    } else if (str_eq(key, STR("content"))) {
        return put_content(m, value, w, err);
    } else if (str_eq(key, STR("tool_calls"))) {
        put_tool_calls(m->t, value, w);
    } else {
        json_put_json(w, value);
    }
    return true;
}

static bool put_message(const struct message *m, struct json_writer *w, struct error *err)
{
    const struct json *reasoning = reasoning_of(m->json);
    struct json_iter it = json_members(m->json);
    bool thinking = false, content = false;
    while (json_next(&it)) {
        thinking |= str_eq(it.key, STR("thinking"));
        content |= str_eq(it.key, STR("content"));
    }
    json_begin_object(w);
    if (reasoning && !thinking) {
        json_key(w, "thinking");
        json_put_json(w, reasoning);
    }
    it = json_members(m->json);
    while (json_next(&it)) {
        if (str_eq(it.key, STR("reasoning_content")) && reasoning) {
            continue;
        }
        if (!put_member(m, it.key, it.value, w, err)) {
            return false;
        }
    }
    if (!content) {
        json_key(w, "content");
        if (!put_content(m, NULL, w, err)) {
            return false;
        }
    }
    if (reasoning) {
        json_key(w, "reasoning_content");
        json_put_json(w, reasoning);
    }
    json_end_object(w);
    return true;
}

bool chat__put_messages(const struct chat_template *t, const struct chat_render *r, struct json_writer *w,
                        struct error *err)
{
    size_t n = json_len(r->messages);
    json_begin_array(w);
    for (size_t i = 0; i < n; i++) {
        struct message m = {
            .t = t, .json = json_at(r->messages, i), .index = i, .open = r->continue_final_message && i + 1 == n};
        if (json_type(m.json) != JSON_OBJECT) {
            return error_set_param(err, ERR_INVALID, "messages", "messages[%zu] is not an object.", i);
        }
        if (!put_message(&m, w, err)) {
            return false;
        }
    }
    json_end_array(w);
    return true;
}

bool chat__final_text(const struct chat_template *t, const struct chat_render *r, struct buf *out, struct error *err)
{
    const struct json *last = json_at(r->messages, json_len(r->messages) - 1), *content = json_get(last, "content");
    bool found = !json_is_null(content);
    if (found && takes_parts(t, content)) {
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
