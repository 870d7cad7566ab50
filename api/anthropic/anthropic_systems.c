/* Messages of the role system between others. Their place stays the same from turn to turn, so what lies before them is
 * found in the prefix cache, as it would not be if they were moved to the top. */
#include "api/anthropic/anthropic.h"

#include "api/openai/openai_tools.h"
#include "base/limits.h"

/* As Claude Code marks what it says itself in a user's message. */
#define TAG_OPEN  "<system-reminder>\n"
#define TAG_CLOSE "\n</system-reminder>"

static bool has_role(const struct json *message, struct str role)
{
    return str_eq(json_str(json_get(message, "role")), role);
}

static size_t count_first_systems(const struct json *messages)
{
    size_t n = 0;
    while (n < json_len(messages) && has_role(json_at(messages, n), STR("system"))) {
        n++;
    }
    return n;
}

static bool has_later_systems(const struct json *messages, size_t from)
{
    for (size_t i = from; i < json_len(messages); i++) {
        if (has_role(json_at(messages, i), STR("system"))) {
            return true;
        }
    }
    return false;
}

static void add_text(struct buf *text, const struct json *message)
{
    bool system = has_role(message, STR("system"));
    buf_puts(text, text->len ? "\n" : "");
    buf_puts(text, system ? TAG_OPEN : "");
    buf_append(text, json_str(json_get(message, "content")));
    buf_puts(text, system ? TAG_CLOSE : "");
}

static bool is_run(const struct json *messages, size_t i)
{
    const struct json *message = json_at(messages, i);
    return i < json_len(messages) && (has_role(message, STR("user")) || has_role(message, STR("system")));
}

/* One message of the user, of those of the user and the system that follow each other from *i on; *i is then behind
 * them. */
static bool put_run(const struct json *messages, size_t *i, struct json_writer *w, struct error *err)
{
    struct buf text;
    buf_init(&text, LIMIT_REQUEST_ARENA);
    for (; is_run(messages, *i); ++*i) {
        add_text(&text, json_at(messages, *i));
    }
    openai_put_message(w, STR("user"), buf_view(&text));
    bool ok = buf_ok(&text, "the request", err);
    buf_release(&text);
    return ok;
}

bool anthropic__fold_systems(struct gen_request *r, struct error *err)
{
    size_t n = json_len(r->messages), i = count_first_systems(r->messages);
    if (!has_later_systems(r->messages, i)) {
        return true;
    }
    struct buf out;
    buf_init(&out, LIMIT_REQUEST_ARENA);
    struct json_writer w = json_writer(&out);
    bool ok = true;
    json_begin_array(&w);
    for (size_t first = 0; first < i; first++) {
        json_put_json(&w, json_at(r->messages, first));
    }
    while (ok && i < n) {
        if (is_run(r->messages, i)) {
            ok = put_run(r->messages, &i, &w, err);
        } else {
            json_put_json(&w, json_at(r->messages, i++));
        }
    }
    json_end_array(&w);
    ok = ok && anthropic__own_json(r, &out, &r->messages, err);
    buf_release(&out);
    return ok;
}
