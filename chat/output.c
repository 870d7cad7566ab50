/* The parser's ground: bytes that came, pieces that go, and the life of a call. What is what lies in the states of
 * output_text.c and of the shapes. */
#include "base/array.h"
#include "base/limits.h"
#include "chat/output_internal.h"

#include <stdlib.h>

/* A byte of a value may become six of JSON: \u0001. */
#define OUT_MAX   (LIMIT_OUTPUT_TEXT * 6 + 4096)
#define QUEUE_MAX (LIMIT_OUTPUT_TEXT)

/* ---- bytes ---- */

struct str output__bytes(const struct output_parser *p, struct output_range r)
{
    return str_slice(buf_view(&p->in), r.from - p->base, r.to - p->base);
}

static size_t fed(const struct output_parser *p)
{
    return p->base + p->in.len;
}

int output__peek(const struct output_parser *p)
{
    return p->at < fed(p) ? (unsigned char)p->in.data[p->at - p->base] : -1;
}

enum match output__match_at(const struct output_parser *p, size_t at, const char *text)
{
    size_t len = strlen(text), there = fed(p) - at;
    size_t n = there < len ? there : len;
    if (n && memcmp(p->in.data + (at - p->base), text, n) != 0) {
        return MATCH_NO;
    }
    if (n == len) {
        return MATCH_YES;
    }
    return p->ended && !p->syntax ? MATCH_NO : MATCH_PARTIAL; /* half a marker of a call that was cut off stays one */
}

enum match output__match_any(const struct output_parser *p, const char *const *texts, size_t n, size_t *which)
{
    enum match result = MATCH_NO;
    for (size_t i = 0; i < n; i++) {
        enum match m = output__given(texts[i]) ? output__match_at(p, p->at, texts[i]) : MATCH_NO;
        if (m == MATCH_YES) {
            *which = i;
            return m;
        }
        result = m == MATCH_PARTIAL ? m : result;
    }
    return result;
}

bool output__skip_space(struct output_parser *p)
{
    int c;
    while ((c = output__peek(p)) >= 0 && output__space((char)c)) {
        p->at++;
    }
    return c >= 0;
}

enum match output__take(struct output_parser *p, const char *text)
{
    size_t at = p->at;
    enum match m = output__match_at(p, at, text);
    while (m == MATCH_NO && at < fed(p) && output__space(p->in.data[at - p->base])) {
        m = output__match_at(p, ++at, text);
    }
    if (m == MATCH_YES) {
        p->at = at + strlen(text);
    }
    return m;
}

/* ---- pieces ---- */

void output__fail(struct output_parser *p, const struct buf *b, const char *what)
{
    if (!p->failed) {
        p->failed = !buf_ok(b, what, &p->err);
    }
}

static struct output_entry *new_entry(struct output_parser *p)
{
    if (p->failed ||
        !array_reserve(&p->queue, &p->cap_queue, p->n_queue + 1, QUEUE_MAX, "pieces of an output", &p->err)) {
        p->failed = true;
        return NULL;
    }
    return &p->queue[p->n_queue++];
}

static bool joins(const struct output_parser *p, enum output_kind kind)
{
    return p->n_queue > p->next && p->queue[p->n_queue - 1].piece.kind == kind &&
           (kind == OUTPUT_TEXT || kind == OUTPUT_REASONING || kind == OUTPUT_ARGUMENTS);
}

/* Texts are appended to `out` in the order of their pieces, so what continues the last piece lies right behind it. */
static struct output_range put(struct output_parser *p, struct str s)
{
    size_t from = p->out.len;
    buf_append(&p->out, s);
    output__fail(p, &p->out, "output");
    return (struct output_range){from, p->out.len};
}

static void emit(struct output_parser *p, enum output_kind kind, struct str text, struct str id)
{
    bool more = joins(p, kind);
    struct output_entry *e = more ? &p->queue[p->n_queue - 1] : new_entry(p);
    if (!e) {
        return;
    }
    struct output_range r = put(p, text);
    if (more) {
        e->text.to = r.to;
    } else {
        *e = (struct output_entry){.piece = {.kind = kind, .call = p->n_calls}, .text = r};
        e->id = id.ptr ? put(p, id) : (struct output_range){0, 0};
    }
    e->piece.source_end = p->at;
}

void output__emit_until(struct output_parser *p, size_t to)
{
    struct str s = output__bytes(p, (struct output_range){p->done, to});
    while (p->trim && s.len && output__space(*s.ptr)) {
        s = str_slice(s, 1, s.len);
    }
    size_t at = p->at;
    p->done = to;
    p->at = to;
    if (s.len) {
        p->trim = false;
        emit(p, p->reasoning ? OUTPUT_REASONING : OUTPUT_TEXT, s, (struct str){0});
    }
    p->at = at > to ? at : to;
}

void output__emit_args(struct output_parser *p, struct str text)
{
    if (text.len) {
        emit(p, OUTPUT_ARGUMENTS, text, (struct str){0});
    }
}

void output__emit_made(struct output_parser *p, struct buf *made)
{
    output__fail(p, made, "arguments");
    output__emit_args(p, buf_view(made));
    buf_release(made);
}

void output__emit_escaped(struct output_parser *p, struct str text)
{
    struct buf b;
    buf_init(&b, OUT_MAX);
    output__escape(&b, text);
    output__emit_made(p, &b);
}

/* ---- calls ---- */

const struct json *output__tool(const struct output_parser *p, struct str name)
{
    const struct json *all = p->options.definitions;
    for (size_t i = 0; i < json_len(all); i++) {
        const struct json *f = json_get(json_at(all, i), "function");
        const struct json *n = json_get(f, "name");
        if (json_type(n) == JSON_STRING && str_eq(json_str(n), name)) {
            return f;
        }
    }
    return NULL;
}

/* functions.NAME:INDEX, as some write a name; with an index the whole is the id. */
static struct str plain_name(struct str name, struct str *id)
{
    size_t colon = name.len;
    while (colon && name.ptr[colon - 1] >= '0' && name.ptr[colon - 1] <= '9') {
        colon--;
    }
    if (colon > 1 && colon < name.len && name.ptr[colon - 1] == ':') {
        *id = name;
        name.len = colon - 1;
    }
    return str_starts(name, STR("functions.")) ? str_slice(name, 10, name.len) : name;
}

/* A call that begins otherwise than its format wants is not bound while it is decoded: a strict tool is not called so.
 */
static bool is_loose(const struct output_parser *p, const struct json *tool)
{
    const struct tool_format *f = p->options.tools;
    return f && json_bool(json_get(tool, "strict")) && strcmp(p->syntax->open, f->syntaxes[f->canonical]->open) != 0;
}

bool output__commit(struct output_parser *p, struct str name, struct str id)
{
    if (p->syntax->qualified) {
        name = plain_name(name, &id);
    }
    const struct json *tool = output__tool(p, name);
    if (!name.len || (p->syntax->known_only && !tool) || is_loose(p, tool)) {
        return false;
    }
    p->schema = json_get(tool, "parameters");
    p->committed = p->calling = p->first = true;
    p->reasoning = false;
    p->done = p->at;
    emit(p, OUTPUT_CALL, name, id);
    return true;
}

enum step output__end_call(struct output_parser *p, bool complete, output_state then)
{
    p->done = p->at;
    emit(p, OUTPUT_CALL_END, (struct str){0}, (struct str){0});
    if (!p->failed) {
        p->queue[p->n_queue - 1].piece.complete = complete;
    }
    p->n_calls++;
    p->calling = false;
    p->trim = true;
    p->tail = 0;
    return output__go(p, then);
}

/* The next syntax with the same opener, where the block has no call yet. */
static const struct call_syntax *other_syntax(const struct output_parser *p)
{
    const struct call_syntax *const *all = p->options.tools->syntaxes;
    bool passed = false;
    for (size_t i = 0; !p->committed && i < CALL_SYNTAXES && all[i]; i++) {
        if (passed && strcmp(all[i]->open, p->syntax->open) == 0) {
            return all[i];
        }
        passed = passed || all[i] == p->syntax;
    }
    return NULL;
}

enum step output__reject(struct output_parser *p)
{
    const struct call_syntax *other = other_syntax(p);
    size_t open_end = p->candidate + strlen(p->syntax->open);
    if (other) {
        p->syntax = other;
        p->at = open_end;
        return output__go(p, output__begin_block);
    }
    if (!p->committed && p->at < open_end) {
        p->at = open_end;
    }
    output__emit_until(p, p->at);
    output__begin_text(p);
    p->fresh = false;
    return STEP_GO;
}

static enum step malformed(struct output_parser *p);

enum step output__bad(struct output_parser *p)
{
    if (!p->calling) {
        return output__reject(p);
    }
    p->done = p->at;
    return output__go(p, malformed);
}

static enum step leave(struct output_parser *p)
{
    p->at = p->done;
    p->reasoning = false;
    output__begin_text(p);
    p->fresh = p->trim = true;
    return STEP_GO;
}

enum step output__close_block(struct output_parser *p)
{
    if (output__given(p->syntax->close)) {
        enum match m = output__take(p, p->syntax->close);
        if (m == MATCH_PARTIAL || (m == MATCH_NO && !output__skip_space(p))) {
            return STEP_WAIT;
        }
        p->done = m == MATCH_YES ? p->at : p->done;
    }
    return leave(p);
}

/* A call that is not as its format wants it: what comes is handed on up to a marker that ends it. */
static enum step malformed(struct output_parser *p)
{
    const struct call_syntax *s = p->syntax;
    const char *stops[] = {s->close, s->end[0], s->end[1], s->open, s->item};
    for (; p->at < fed(p); p->at++) {
        for (size_t i = 0; i < ARRAY_LEN(stops); i++) {
            enum match m = output__given(stops[i]) ? output__match_at(p, p->at, stops[i]) : MATCH_NO;
            if (m == MATCH_NO) {
                continue;
            }
            output__emit_args(p, output__bytes(p, (struct output_range){p->done, p->at}));
            p->done = p->at;
            if (m == MATCH_PARTIAL) {
                return STEP_WAIT;
            }
            return output__end_call(p, false, output__next_item);
        }
    }
    output__emit_args(p, output__bytes(p, (struct output_range){p->done, p->at}));
    p->done = p->at;
    return STEP_WAIT;
}

/* ---- life ---- */

static void drop_done(struct output_parser *p)
{
    if (p->done > p->base) {
        buf_drop_front(&p->in, p->done - p->base);
        p->base = p->done;
    }
}

struct output_parser *output_parser_create(const struct output_options *options, struct error *err)
{
    struct output_parser *p = calloc(1, sizeof *p);
    if (!p) {
        error_set(err, ERR_NO_MEMORY, "No memory for taking an output apart.");
        return NULL;
    }
    p->options = *options;
    buf_init(&p->in, LIMIT_OUTPUT_TEXT);
    buf_init(&p->out, OUT_MAX);
    buf_init(&p->text, LIMIT_OUTPUT_TEXT);
    output__prepare_text(p);
    if (options->in_reasoning && options->reasoning) {
        output__begin_reasoning(p);
    }
    output__harmony_begin(p);
    return p;
}

/* Nothing more comes. A block that has a call ends with it: the beginning of another one or of a marker is dropped.
 * What has none yet was not known to be a call, and is text. */
static void settle(struct output_parser *p)
{
    size_t end = fed(p);
    if (p->calling) {
        p->at = end;
        output__end_call(p, false, output__text);
    } else if (p->syntax && p->committed) {
        p->done = p->at = end;
    } else {
        p->at = end;
        output__emit_until(p, end);
    }
}

static bool run(struct output_parser *p, struct error *err)
{
    while (!p->failed && p->state(p) == STEP_GO) {
    }
    if (!p->failed && p->ended) {
        settle(p);
    }
    if (p->failed) {
        *err = p->err;
        return false;
    }
    drop_done(p);
    return true;
}

bool output_parser_feed(struct output_parser *p, struct str text, struct error *err)
{
    if (p->next == p->n_queue) {
        p->next = p->n_queue = 0;
        buf_clear(&p->out);
    }
    if (!p->failed && text.len > LIMIT_OUTPUT_TEXT - fed(p)) {
        p->failed = true;
        error_set(&p->err, ERR_TOO_LARGE, "An output has more than %zu bytes.", (size_t)LIMIT_OUTPUT_TEXT);
    }
    if (!p->failed) {
        buf_append(&p->in, text);
        output__fail(p, &p->in, "output");
    }
    return run(p, err);
}

bool output_parser_end(struct output_parser *p, struct error *err)
{
    p->ended = true;
    return output_parser_feed(p, (struct str){0}, err);
}

bool output_parser_next(struct output_parser *p, struct output_piece *piece)
{
    if (p->failed || p->next == p->n_queue) {
        return false;
    }
    const struct output_entry *e = &p->queue[p->next++];
    *piece = e->piece;
    piece->text = str_slice(buf_view(&p->out), e->text.from, e->text.to);
    piece->id = e->id.to ? str_slice(buf_view(&p->out), e->id.from, e->id.to) : (struct str){0};
    return true;
}

void output_parser_free(struct output_parser *p)
{
    if (p) {
        buf_release(&p->in);
        buf_release(&p->out);
        buf_release(&p->text);
        free(p->queue);
        free(p);
    }
}
