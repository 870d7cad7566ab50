/* Renders templates for the parity checks. Standard input: one JSON object per line,
 *     {"template": "...", "context": {...}, "now": 0}                                        the engine alone
 *     {"template": "...", "chat": {"messages": [...], "tools": [...], "kwargs": {...}, "add_generation_prompt": true,
 *      "continue_final_message": false}, "now": 0}                                            a chat
 * A chat without "template" takes that of the chat before it.
 * Standard output: per line {"text": "..."} or {"error": "...", "code": "INVALID"}. With --caps: the capabilities that
 * were found by probing the template. */
#include "chat/chat_template.h"

#include <stdio.h>
#include <stdlib.h>

#define MAX_LINE ((size_t)256 << 20)

static bool read_line(FILE *in, struct buf *line)
{
    int c;
    buf_clear(line);
    while ((c = getc(in)) != EOF && c != '\n') {
        buf_putc(line, (char)c);
    }
    return c != EOF || line->len > 0;
}

static bool render_plain(const struct json *job, struct buf *out, struct error *err)
{
    struct jinja_template *t = jinja_compile(json_str(json_get(job, "template")), err);
    bool ok = t && jinja_render(t, json_get(job, "context"), json_int(json_get(job, "now")), NULL, out, err);
    jinja_free(t);
    return ok;
}

static bool render_chat(const struct json *job, struct chat_template **kept, struct buf *out, struct error *err)
{
    const struct json *chat = json_get(job, "chat"), *template = json_get(job, "template");
    if (template) {
        chat_template_free(*kept);
        *kept = chat_template_create(json_str(template), NULL, err);
    }
    struct chat_render r = {.messages = json_get(chat, "messages"),
                            .tools = json_get(chat, "tools"),
                            .kwargs = json_get(chat, "kwargs"),
                            .add_generation_prompt = json_bool(json_get(chat, "add_generation_prompt")),
                            .continue_final_message = json_bool(json_get(chat, "continue_final_message")),
                            .now_s = json_int(json_get(job, "now"))};
    return *kept && chat_template_render(*kept, &r, out, err);
}

static bool print_caps(const struct json *job, struct buf *out, struct error *err)
{
    struct chat_template *t = chat_template_create(json_str(json_get(job, "template")), NULL, err);
    if (t) {
        struct chat_caps c = chat_template_caps(t);
        buf_printf(out, "system %d developer %d parts %d tools %d calls %d tool %d reasoning %d", c.system_role,
                   c.developer_role, c.content_parts, c.tools, c.tool_calls, c.tool_role, c.reasoning);
    }
    chat_template_free(t);
    return t != NULL;
}

static void answer(struct str line, bool caps, struct chat_template **kept)
{
    struct error err = {0};
    struct buf out, reply;
    buf_init(&out, MAX_LINE);
    buf_init(&reply, 8 * MAX_LINE);
    struct json *job = json_parse(line, 300, &err);
    bool ok = job && (caps                    ? print_caps(job, &out, &err)
                      : json_get(job, "chat") ? render_chat(job, kept, &out, &err)
                                              : render_plain(job, &out, &err));
    struct json_writer w = json_writer(&reply);
    json_begin_object(&w);
    json_key(&w, ok ? "text" : "error");
    json_put_str(&w, ok ? buf_view(&out) : str_of(err.msg));
    if (!ok) {
        json_key(&w, "code");
        json_put_cstr(&w, error_info(err.code)->name);
    }
    json_end_object(&w);
    printf("%s\n", reply.data);
    json_free(job);
    buf_release(&out);
    buf_release(&reply);
}

int main(int argc, char **argv)
{
    struct buf line;
    struct chat_template *kept = NULL;
    bool caps = argc > 1 && str_eq(str_of(argv[1]), STR("--caps"));
    buf_init(&line, MAX_LINE);
    while (read_line(stdin, &line)) {
        answer(buf_view(&line), caps, &kept);
    }
    chat_template_free(kept);
    buf_release(&line);
    return 0;
}
