/* Tools, tool calls and their results on the way into a template: what tools lack, arguments, ids, and the name of
 * what was called. */
#include "chat/chat_template_internal.h"

#include "base/hash.h"

#define ARGUMENTS_DEPTH 64
#define NINE            9 /* letters or digits of an id of Mistral's models */

/* A result is looked for among so many calls of one message, beside the one that is next: many results of many calls
 * would take a search each. */
#define MAX_SEARCHED 128

/* ---- tools ---- */

/* All but one, and but for those that are null: they count as absent. */
static void put_members(const struct json *object, const char *but, struct json_writer *w)
{
    struct json_iter it = json_members(object);
    while (json_next(&it)) {
        if (!str_eq(it.key, str_of(but)) && !json_is_null(it.value)) {
            json_member_json(w, it.key.ptr, it.value);
        }
    }
}

/* Parameters with type and properties, whatever is there. */
static void put_parameters(const struct json *parameters, struct json_writer *w)
{
    json_begin_object(w);
    if (json_is_null(json_get(parameters, "type"))) {
        json_member_cstr(w, "type", "object");
    }
    put_members(parameters, "", w);
    if (json_is_null(json_get(parameters, "properties"))) {
        json_key(w, "properties");
        json_begin_object(w);
        json_end_object(w);
    }
    json_end_object(w);
}

static void put_whole_function(const struct json *function, struct json_writer *w)
{
    const struct json *parameters = json_get(function, "parameters");
    json_begin_object(w);
    put_members(function, "parameters", w);
    if (json_is_null(json_get(function, "description"))) {
        json_member_cstr(w, "description", "");
    }
    json_key(w, "parameters");
    put_parameters(parameters, w);
    json_end_object(w);
}

static bool is_whole(const struct json *function)
{
    return json_type(function) != JSON_OBJECT ||
           (!json_is_null(json_get(function, "description")) &&
            !json_is_null(json_get(json_get(function, "parameters"), "properties")));
}

void chat__put_tools(const struct chat_template *t, const struct json *tools, struct json_writer *w)
{
    if (!t->whole_tools || json_type(tools) != JSON_ARRAY) {
        json_put_json(w, tools);
        return;
    }
    json_begin_array(w);
    for (size_t i = 0; i < json_len(tools); i++) {
        const struct json *tool = json_at(tools, i), *function = json_get(tool, "function");
        if (is_whole(function)) {
            json_put_json(w, tool);
            continue;
        }
        json_begin_object(w);
        put_members(tool, "function", w);
        json_key(w, "function");
        put_whole_function(function, w);
        json_end_object(w);
    }
    json_end_array(w);
}

/* ---- calls ---- */

static bool is_nine(struct str id)
{
    size_t n = 0;
    for (; n < id.len; n++) {
        char c = id.ptr[n];
        if (!((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'))) {
            return false;
        }
    }
    return n == NINE;
}

void chat__put_id(const struct chat_template *t, const struct json *id, const struct json *call, size_t index,
                  struct json_writer *w)
{
    struct str name = json_str(json_get(json_get(call, "function"), "name")), text = json_str(id);
    if (t->ids == CHAT_IDS_NINE && json_type(id) == JSON_STRING && !is_nine(text)) {
        struct sha256 digest = sha256_of(text.ptr, text.len);
        char hex[2 * SHA256_SIZE + 1];
        sha256_hex(&digest, hex);
        json_put_str(w, (struct str){hex, NINE});
    } else if (t->ids == CHAT_IDS_OWN && name.ptr) {
        struct buf own;
        buf_init(&own, CHAT_MAX_CONTEXT);
        buf_puts(&own, "functions.");
        buf_append(&own, name);
        buf_putc(&own, ':');
        buf_put_uint(&own, index);
        json_put_str(w, buf_view(&own));
        w->out->no_memory |= own.no_memory;
        w->out->failed |= own.failed;
        buf_release(&own);
    } else {
        json_put_json(w, id);
    }
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

static void put_call(const struct chat_template *t, const struct json *call, size_t index, struct json_writer *w)
{
    struct json_iter it = json_members(call);
    json_begin_object(w);
    while (json_next(&it)) {
        json_key(w, it.key.ptr);
        if (str_eq(it.key, STR("function")) && json_type(it.value) == JSON_OBJECT) {
            put_function(t, it.value, w);
        } else if (str_eq(it.key, STR("id"))) {
            chat__put_id(t, it.value, call, index, w);
        } else {
            json_put_json(w, it.value);
        }
    }
    json_end_object(w);
}

void chat__put_calls(const struct chat_template *t, const struct json *calls, struct json_writer *w)
{
    if (json_type(calls) != JSON_ARRAY) {
        json_put_json(w, calls);
        return;
    }
    json_begin_array(w);
    for (size_t i = 0; i < json_len(calls); i++) {
        put_call(t, json_at(calls, i), i, w);
    }
    json_end_array(w);
}

static bool has_id(const struct json *call, struct str id)
{
    const struct json *own = json_get(call, "id");
    return json_type(own) == JSON_STRING && str_eq(json_str(own), id);
}

/* Results mostly come in the order of their calls: the next one is tried first. */
const struct json *chat__called(struct chat_calls *c, const struct json *id, size_t *index)
{
    size_t n = json_len(c->calls);
    if (json_type(id) != JSON_STRING || n == 0) {
        return NULL;
    }
    bool found = c->next < n && has_id(json_at(c->calls, c->next), json_str(id));
    *index = found ? c->next : 0;
    for (size_t i = 0; !found && i < n && i < MAX_SEARCHED; i++) {
        found = has_id(json_at(c->calls, i), json_str(id));
        *index = i;
    }
    c->next = found ? *index + 1 : c->next;
    return found ? json_at(c->calls, *index) : NULL;
}
