/* Arguments that are JSON, on their way: an object as it was written, or a string that holds one. Line breaks and other
 * control characters inside strings, which models write and JSON forbids, become escapes. */
#include "chat/output_internal.h"

void output__args_begin(struct output_parser *p)
{
    p->args = (struct output_args){.seen = true};
}

/* Bytes of the object itself: handed on up to where it ends or goes wrong. Returns how many it took. */
static size_t feed_object(struct output_parser *p, struct json_follow *f, struct str s)
{
    struct output_args *a = &p->args;
    size_t from = 0, i = 0;
    enum json_step r = JSON_STEP_MORE;
    for (; i < s.len && r == JSON_STEP_MORE; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        if (c < 0x20 && output__json_in_string(f)) {
            output__emit_args(p, str_slice(s, from, i));
            output__emit_escaped(p, str_slice(s, i, i + 1));
            from = i + 1;
            continue;
        }
        r = output__json_step(f, s.ptr[i]);
    }
    if (r == JSON_STEP_BAD) {
        a->bad = true;
        i--;
    }
    a->complete = r == JSON_STEP_END;
    output__emit_args(p, str_slice(s, from, i));
    a->wrote = a->wrote || i;
    return i;
}

static struct str trim_left(struct str s)
{
    while (s.len && output__space(*s.ptr)) {
        s = str_slice(s, 1, s.len);
    }
    return s;
}

/* What a string holds, unescaped. It may be anything, and is handed on; only an object is complete. */
static void feed_inner(struct output_parser *p, struct str s)
{
    struct output_args *a = &p->args;
    if (!a->wrote) {
        s = trim_left(s);
        a->bad = s.len && *s.ptr != '{';
    }
    if (!a->bad && !a->complete) {
        s = str_slice(s, feed_object(p, &a->inner, s), s.len);
    }
    s = a->bad ? s : trim_left(s);
    if (s.len) {
        a->bad = a->wrote = true;
        a->complete = false;
        output__emit_args(p, s);
    }
}

static size_t feed_string(struct output_parser *p, struct str s)
{
    struct output_args *a = &p->args;
    struct buf text;
    buf_init(&text, p->in.max);
    enum json_step r = JSON_STEP_MORE;
    size_t i = 0;
    for (; i < s.len && r == JSON_STEP_MORE; i++) {
        char bytes[8];
        size_t n;
        r = output__unescape_step(&a->escape, s.ptr[i], bytes, &n);
        buf_append_bytes(&text, bytes, n);
    }
    output__fail(p, &text, "arguments");
    feed_inner(p, buf_view(&text));
    buf_release(&text);
    if (r == JSON_STEP_MORE) {
        return i;
    }
    a->ended = true;
    a->broken = r == JSON_STEP_BAD;
    a->bad = a->bad || a->broken;
    a->complete = a->complete && !a->bad;
    return a->broken ? i - 1 : i;
}

static size_t feed_null(struct output_parser *p, struct str s)
{
    struct output_args *a = &p->args;
    size_t i = 0;
    enum json_step r = JSON_STEP_MORE;
    while (i < s.len && r == JSON_STEP_MORE) {
        r = output__json_step(&a->outer, s.ptr[i]);
        i += r != JSON_STEP_BAD;
    }
    a->ended = r != JSON_STEP_MORE;
    if (r == JSON_STEP_BAD) {
        a->bad = true;
        output__emit_args(p, str_slice(STR("null"), 0, 4 - strlen(a->outer.word))); /* what looked like it */
    }
    return i;
}

size_t output__args_feed(struct output_parser *p, struct str s)
{
    struct output_args *a = &p->args;
    if (a->mode == ARGS_BEGIN && s.len) {
        char c = *s.ptr;
        if (c == '"') {
            a->mode = ARGS_STRING;
            return 1 + output__args_feed(p, str_slice(s, 1, s.len)); /* once */
        }
        if (c != '{' && c != 'n') {
            a->bad = a->ended = true;
            return 0;
        }
        a->mode = c == '{' ? ARGS_OBJECT : ARGS_NULL;
    }
    if (a->mode == ARGS_STRING) {
        return feed_string(p, s);
    }
    if (a->mode == ARGS_NULL) {
        return feed_null(p, s);
    }
    size_t n = feed_object(p, &a->outer, s);
    a->ended = a->complete || a->bad;
    return n;
}

enum step output__args_state(struct output_parser *p, output_state then)
{
    struct output_args *a = &p->args;
    size_t end = p->base + p->in.len;
    if (p->at == end) {
        return STEP_WAIT;
    }
    struct str s = output__bytes(p, (struct output_range){p->at, end});
    size_t written = p->out.len;
    p->at += output__args_feed(p, s);
    p->done = p->at;
    if (p->out.len > written) {
        p->queue[p->n_queue - 1].piece.source_end = p->at;
    }
    if (!a->ended) {
        return STEP_WAIT;
    }
    if (a->broken || (a->bad && a->mode != ARGS_STRING)) {
        return output__bad(p);
    }
    return output__go(p, then);
}

void output__args_end(struct output_parser *p)
{
    struct output_args *a = &p->args;
    bool none = !a->seen || a->mode == ARGS_NULL || (a->mode == ARGS_STRING && !a->wrote && !a->bad);
    if (none) {
        output__emit_args(p, STR("{}"));
        a->complete = true;
    }
}
