#include "api/openai/openai_legacy.h"

#include "base/limits.h"

#include <stdio.h>

static bool is_function(const struct json *message)
{
    return str_eq(json_str(json_get(message, "role")), STR("function"));
}

static bool has_old(const struct json *messages)
{
    for (size_t i = 0; i < json_len(messages); i++) {
        const struct json *m = json_at(messages, i);
        if (is_function(m) || !json_is_null(json_get(m, "function_call"))) {
            return true;
        }
    }
    return false;
}

static void put_call(struct json_writer *w, const struct json *call, const char *id)
{
    json_key(w, "tool_calls");
    json_begin_array(w);
    json_begin_object(w);
    json_member_cstr(w, "id", id);
    json_member_cstr(w, "type", "function");
    json_member_json(w, "function", call);
    json_end_object(w);
    json_end_array(w);
}

/* id: of the last call, which the next result answers. */
static void put_message(struct json_writer *w, const struct json *m, size_t index, char id[32])
{
    struct json_iter it = json_members(m);
    json_begin_object(w);
    while (json_next(&it)) {
        if (str_eq(it.key, STR("function_call"))) {
            if (!json_is_null(it.value)) {
                snprintf(id, 32, "call_%zu", index);
                put_call(w, it.value, id);
            }
        } else if (is_function(m) && str_eq(it.key, STR("role"))) {
            json_member_cstr(w, "role", "tool");
            json_member_cstr(w, "tool_call_id", id);
        } else {
            json_member_json(w, it.key.ptr, it.value);
        }
    }
    json_end_object(w);
}

const struct json *openai_modern_messages(const struct json *messages, struct arena *arena, struct error *err)
{
    struct buf text;
    char id[32] = "call_0";
    if (!has_old(messages)) {
        return messages;
    }
    buf_init(&text, LIMIT_HTTP_BODY + MIB(1));
    struct json_writer w = json_writer(&text);
    json_begin_array(&w);
    for (size_t i = 0; i < json_len(messages); i++) {
        put_message(&w, json_at(messages, i), i, id);
    }
    json_end_array(&w);
    struct json *root = buf_ok(&text, "messages", err) ? json_parse(buf_view(&text), LIMIT_JSON_DEPTH + 4, err) : NULL;
    buf_release(&text);
    return json_keep(root, arena, "the request", err);
}
