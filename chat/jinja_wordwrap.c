/* The wordwrap filter: Python's textwrap.wrap on each line, without replacing white space or tabs. */
#include "base/utf8.h"
#include "chat/jinja_internal.h"
#include "chat/jinja_unicode.h"

struct wrapper {
    struct render *r;
    struct str text;   /* one line */
    const uint32_t *c; /* its code points */
    const size_t *at;  /* [n + 1] where they begin */
    size_t n;
    size_t width;
    bool break_long, break_hyphens;
    struct jlist_builder lines;
};

struct chunk {
    size_t from, to; /* code points */
};

static bool is_blank(uint32_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_letter(const struct wrapper *w, size_t i)
{
    static const uint32_t underscore = '_';
    return i < w->n && jinja__is_word(w->c[i]) &&
           (w->c[i] == underscore || !jinja__all_chars(str_slice(w->text, w->at[i], w->at[i + 1]), CHAR_DECIMAL));
}

static bool is_word_or_mark(const struct wrapper *w, size_t i)
{
    return jinja__is_word(w->c[i]) || (w->c[i] < 0x80 && w->c[i] && strchr("!\"'&.,?", (int)w->c[i]));
}

/* Two or more hyphens at i with a word character behind: where they end, or 0. */
static size_t dash_end(const struct wrapper *w, size_t i)
{
    size_t end = i;
    while (end < w->n && w->c[end] == '-') {
        end++;
    }
    return end - i >= 2 && end < w->n && jinja__is_word(w->c[end]) ? end : 0;
}

/* A hyphen at i after which a word may be broken: letters before it and letters behind. */
static bool breakable_hyphen(const struct wrapper *w, size_t i)
{
    if (i >= w->n || w->c[i] != '-' || i < 2 || !is_letter(w, i - 1)) {
        return false;
    }
    bool before = is_letter(w, i - 2) || (i >= 3 && w->c[i - 2] == '-' && is_letter(w, i - 3));
    bool behind =
        is_letter(w, i + 1) && (is_letter(w, i + 2) || (i + 2 < w->n && w->c[i + 2] == '-' && is_letter(w, i + 3)));
    return before && behind;
}

static size_t word_end(const struct wrapper *w, size_t from)
{
    size_t end = from + 1;
    if (!w->break_hyphens) {
        while (end < w->n && !is_blank(w->c[end])) {
            end++;
        }
        return end;
    }
    for (;; end++) {
        if (breakable_hyphen(w, end)) {
            return end + 1;
        }
        if (end == w->n || is_blank(w->c[end]) || (is_word_or_mark(w, end - 1) && dash_end(w, end))) {
            return end;
        }
    }
}

/* The chunk that begins at `from`; empty at the end of the text. */
static struct chunk next_chunk(const struct wrapper *w, size_t from)
{
    size_t end = from;
    if (from >= w->n) {
        return (struct chunk){w->n, w->n};
    }
    while (end < w->n && is_blank(w->c[end])) {
        end++;
    }
    if (end > from) {
        return (struct chunk){from, end};
    }
    if (w->break_hyphens && from > 0 && is_word_or_mark(w, from - 1) && (end = dash_end(w, from))) {
        return (struct chunk){from, end};
    }
    return (struct chunk){from, word_end(w, from)};
}

static bool chunk_blank(const struct wrapper *w, struct chunk c)
{
    return jinja__strip(str_slice(w->text, w->at[c.from], w->at[c.to]), (struct str){NULL, 0}, true, false).len == 0;
}

/* Where a word too long for a line is cut when `room` is left. */
static size_t cut_long(const struct wrapper *w, struct chunk c, size_t room)
{
    size_t end = c.from + room, hyphen = end;
    bool other = false;
    if (!w->break_hyphens || c.to - c.from <= room) {
        return end;
    }
    while (hyphen > c.from && w->c[hyphen - 1] != '-') {
        hyphen--;
    }
    for (size_t i = c.from; hyphen > c.from && i < hyphen - 1; i++) {
        other |= w->c[i] != '-';
    }
    return hyphen > c.from + 1 && other ? hyphen : end;
}

static bool push_line(struct wrapper *w, size_t from, size_t to)
{
    struct jval line = jval_str(str_slice(w->text, w->at[from], w->at[to]));
    return jinja__push(w->r, &w->lines, &line);
}

/* Takes the chunks of one line, *c being the first and then the one behind it. The line ends at *end, without a blank
 * chunk at its end. What is left of a chunk that was cut stays one chunk. */
static void take_line(const struct wrapper *w, struct chunk *c, size_t *end)
{
    size_t start = c->from, last = start; /* last: where the last chunk of the line begins */
    while (c->from < w->n && c->to - start <= w->width) {
        last = c->from;
        *c = next_chunk(w, c->to);
    }
    *end = c->from;
    if (c->from < w->n && c->to - c->from > w->width && (w->break_long || c->from == start)) {
        last = c->from;
        *end = w->break_long ? cut_long(w, *c, w->width - (c->from - start)) : c->to;
        *c = *end < c->to ? (struct chunk){*end, c->to} : next_chunk(w, *end);
    }
    if (*end > last && chunk_blank(w, (struct chunk){last, *end})) {
        *end = last;
    }
}

/* Chunks that follow each other are one stretch of the text, so a line is a pair of positions. */
static bool wrap_line(struct wrapper *w)
{
    size_t first = w->lines.n, end;
    struct chunk c = next_chunk(w, 0);
    while (c.from < w->n) {
        if (w->lines.n > first && chunk_blank(w, c)) {
            c = next_chunk(w, c.to);
        }
        size_t start = c.from;
        take_line(w, &c, &end);
        if ((end > start && !push_line(w, start, end)) || !jinja__charge(w->r, 1)) {
            return false;
        }
    }
    return true;
}

static bool wrap_text(struct wrapper *w, struct str line)
{
    uint32_t *c = jinja__alloc(w->r, line.len + 1, sizeof *c);
    size_t *at = jinja__alloc(w->r, line.len + 2, sizeof *at), n = 0;
    if (!c || !at || !jinja__charge_bytes(w->r, 16 * line.len)) {
        return false;
    }
    for (size_t i = 0; i < line.len; n++) {
        at[n] = i;
        i += utf8_decode(str_slice(line, i, line.len), &c[n]);
    }
    at[n] = line.len;
    w->text = line;
    w->c = c;
    w->at = at;
    w->n = n;
    return wrap_line(w);
}

bool jinja__wordwrap(struct render *r, const struct jval *self, const struct jval *arg, const struct jargs *raw,
                     struct jval *out)
{
    struct wrapper w = {
        .r = r, .break_long = jinja__arg_bool(&arg[1], true), .break_hyphens = jinja__arg_bool(&arg[3], true)};
    struct jval lines, none = {.type = J_ABSENT};
    struct str separator;
    int64_t width;
    (void)raw;
    if (self->type != J_STRING) {
        return self->type == J_UNDEFINED ? jinja__fail_undefined(r, self)
                                         : jinja__fail(r, "wordwrap takes a string, not '%s'", jinja__type_name(self));
    }
    if (!jinja__arg_int(r, &arg[0], 79, &width) ||
        !jinja__arg_str(r, arg[2].type == J_NONE ? &none : &arg[2], STR("\n"), &separator) ||
        !jinja__call_builtin(r, jinja__find_method(self, STR("splitlines")), self, &(struct jargs){0}, &lines)) {
        return false;
    }
    if (width <= 0) {
        return jinja__fail(r, "invalid width %lld (must be > 0)", (long long)width);
    }
    w.width = (size_t)width;
    size_t mark = jinja__text_begin(r);
    for (size_t i = 0; i < lines.list->n; i++) {
        buf_append(jinja__text(r), i ? separator : (struct str){NULL, 0});
        w.lines = (struct jlist_builder){0};
        if (!wrap_text(&w, lines.list->items[i].s)) {
            return false;
        }
        for (size_t k = 0; k < w.lines.n; k++) {
            buf_append(jinja__text(r), k ? separator : (struct str){NULL, 0});
            buf_append(jinja__text(r), w.lines.items[k].s);
        }
    }
    return jinja__text_end(r, mark, out);
}
