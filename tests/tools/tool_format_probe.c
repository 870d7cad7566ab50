/* Tool formats for the parity checks. Standard input: one JSON object per line,
 *     {"format": "hermes", "tools": [...], "text_first": true, "parallel": true, "after_trigger": false,
 *      "tokens": {"<tool_call>": 7}}                       writes the grammar
 *     {"format": "hermes", "tools": [...], "output": "..."}  takes an output apart
 *     {"template": "..."}                                  the formats that a chat template shows
 *     {}                                                   lists the formats with their markers and triggers
 * Standard output: per line {"grammar": "..."}, {"text": "...", "calls": [{"name", "arguments", "complete"}]},
 * {"tools": "hermes", "reasoning": null}, {"formats": [...]},
 * or {"error": "..."}. */
#include "chat/output.h"
#include "chat/reasoning_format.h"
#include "chat/tool_format.h"
#include "tests/support/read_line.h"

#include <stdio.h>

#define MAX_LINE   ((size_t)64 << 20)
#define MAX_TOKENS 32

static void put_list(struct json_writer *w, const char *key, const char *const *texts, size_t n)
{
    json_key(w, key);
    json_begin_array(w);
    for (size_t i = 0; i < n; i++) {
        json_put_cstr(w, texts[i]);
    }
    json_end_array(w);
}

static void list_formats(struct json_writer *w)
{
    json_key(w, "formats");
    json_begin_array(w);
    for (size_t i = 0; i < tool_format_count(); i++) {
        size_t n_markers, n_triggers;
        const struct tool_format *f = tool_format_at(i);
        const char *const *markers = tool_format_markers(f, &n_markers);
        const char *const *triggers = tool_format_triggers(f, &n_triggers);
        json_begin_object(w);
        json_member_cstr(w, "name", tool_format_name(f));
        put_list(w, "markers", markers, n_markers);
        put_list(w, "triggers", triggers, n_triggers);
        json_end_object(w);
    }
    json_end_array(w);
}

static bool put_grammar(const struct tool_format *f, const struct json *job, struct json_writer *w, struct error *err)
{
    struct tool_token tokens[MAX_TOKENS];
    struct tool_grammar g = {.definitions = json_get(job, "tools"),
                             .text_first = json_bool(json_get(job, "text_first")),
                             .parallel = json_bool(json_get(job, "parallel")),
                             .after_trigger = json_bool(json_get(job, "after_trigger")),
                             .tokens = tokens};
    struct json_iter it = json_members(json_get(job, "tokens"));
    while (g.n_tokens < MAX_TOKENS && json_next(&it)) {
        tokens[g.n_tokens++] = (struct tool_token){it.key.ptr, (int32_t)json_int(it.value)};
    }
    struct buf grammar;
    buf_init(&grammar, MAX_LINE);
    bool ok = tool_format_grammar(f, &g, &grammar, err);
    if (ok) {
        json_member_str(w, "grammar", buf_view(&grammar));
    }
    buf_release(&grammar);
    return ok;
}

static void put_calls(struct output_parser *p, struct json_writer *w, struct buf *text)
{
    struct output_piece piece;
    struct buf arguments;
    buf_init(&arguments, MAX_LINE);
    while (output_parser_next(p, &piece)) {
        if (piece.kind == OUTPUT_TEXT) {
            buf_append(text, piece.text);
        } else if (piece.kind == OUTPUT_ARGUMENTS) {
            buf_append(&arguments, piece.text);
        } else if (piece.kind == OUTPUT_CALL) {
            buf_clear(&arguments);
            json_begin_object(w);
            json_member_str(w, "name", piece.text);
        } else if (piece.kind == OUTPUT_CALL_END) {
            json_member_str(w, "arguments", buf_view(&arguments));
            json_member_bool(w, "complete", piece.complete);
            json_end_object(w);
        }
    }
    buf_release(&arguments);
}

static bool take_apart(const struct tool_format *f, const struct json *job, struct json_writer *w, struct error *err)
{
    struct output_options o = {.tools = f, .definitions = json_get(job, "tools")};
    struct output_parser *p = output_parser_create(&o, err);
    bool ok = p && output_parser_feed(p, json_str(json_get(job, "output")), err) && output_parser_end(p, err);
    if (ok) {
        struct buf text;
        buf_init(&text, MAX_LINE);
        json_key(w, "calls");
        json_begin_array(w);
        put_calls(p, w, &text);
        json_end_array(w);
        json_member_str(w, "text", buf_view(&text));
        buf_release(&text);
    }
    output_parser_free(p);
    return ok;
}

static void detect(struct str source, struct json_writer *w)
{
    const struct tool_format *t = tool_format_detect(source);
    const struct reasoning_format *r = reasoning_format_detect(source);
    json_member_cstr(w, "tools", t ? tool_format_name(t) : NULL);
    json_member_cstr(w, "reasoning", r ? reasoning_format_name(r) : NULL);
}

static void answer(struct str line)
{
    struct error err = {0};
    struct buf reply;
    buf_init(&reply, 8 * MAX_LINE);
    struct json *job = json_parse(line, 100, &err);
    const struct tool_format *f = tool_format_find(json_str(json_get(job, "format")));
    struct json_writer w = json_writer(&reply);
    json_begin_object(&w);
    bool ok = true;
    if (json_get(job, "template")) {
        detect(json_str(json_get(job, "template")), &w);
    } else if (job && !json_get(job, "format")) {
        list_formats(&w);
    } else if (!job || !f) {
        ok = job && error_set(&err, ERR_NOT_FOUND, "There is no such format.");
    } else {
        ok = json_get(job, "output") ? take_apart(f, job, &w, &err) : put_grammar(f, job, &w, &err);
    }
    if (!ok) {
        json_member_cstr(&w, "error", err.msg);
    }
    json_end_object(&w);
    printf("%s\n", reply.data);
    fflush(stdout);
    json_free(job);
    buf_release(&reply);
}

int main(void)
{
    struct buf line;
    buf_init(&line, MAX_LINE);
    while (read_line(stdin, &line)) {
        answer(buf_view(&line));
    }
    buf_release(&line);
    return 0;
}
