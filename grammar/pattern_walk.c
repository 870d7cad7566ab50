#include "grammar/pattern_walk_internal.h"

#include <string.h>

struct str pattern__rest(const struct pattern_walk *w)
{
    return str_slice(w->in, w->at, w->in.len);
}

int pattern__peek(const struct pattern_walk *w, size_t ahead)
{
    return w->at + ahead < w->in.len ? (unsigned char)w->in.ptr[w->at + ahead] : -1;
}

bool pattern__refuse(struct pattern_walk *w, size_t len, const char *fault)
{
    w->fault = fault;
    w->fault_len = len;
    return false;
}

bool pattern__put(struct pattern_walk *w, const char *text, size_t n_taken)
{
    buf_puts(w->out, text);
    w->at += n_taken;
    return true;
}

bool pattern__copy(struct pattern_walk *w, size_t n)
{
    buf_append(w->out, str_slice(w->in, w->at, w->at + n));
    w->at += n;
    return true;
}

static bool is_letter(int c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool put_control(struct pattern_walk *w)
{
    int letter = pattern__peek(w, 2);
    if (!is_letter(letter)) {
        return false;
    }
    buf_printf(w->out, "\\x{%x}", (unsigned)(letter & 0x1f));
    w->at += 3;
    return true;
}

bool pattern__put_escape(struct pattern_walk *w, const char *letters)
{
    int c = pattern__peek(w, 1);
    if (c == 'c') {
        return put_control(w);
    }
    if (c == '0') {
        return pattern__put(w, "\\x{0}", 2);
    }
    return c >= 0 && (!is_letter(c) || strchr(letters, c)) && pattern__copy(w, 2);
}

bool pattern__begin_class(struct pattern_walk *w)
{
    w->in_class = true;
    w->negated = pattern__peek(w, 1) == '^';
    return pattern__copy(w, w->negated ? 2 : 1);
}

bool pattern__put_in_class(struct pattern_walk *w, const char *special)
{
    int c = pattern__peek(w, 0);
    buf_puts(w->out, c > 0 && strchr(special, c) ? "\\" : "");
    w->in_class = c != ']';
    w->negated &= w->in_class;
    return pattern__copy(w, 1);
}
