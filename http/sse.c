#include "http/sse.h"

/* Bytes of the first line of s; *skip: with its line end. */
static size_t first_line(struct str s, size_t *skip)
{
    size_t n = 0;
    while (n < s.len && s.ptr[n] != '\n' && s.ptr[n] != '\r') {
        n++;
    }
    bool pair = n + 1 < s.len && s.ptr[n] == '\r' && s.ptr[n + 1] == '\n';
    *skip = n == s.len ? n : n + 1 + pair;
    return n;
}

static void put_lines(struct buf *out, const char *prefix, struct str s)
{
    size_t skip, n;
    bool ended; /* the line had an end, so another one follows, if only an empty one */
    do {
        n = first_line(s, &skip);
        ended = skip > n;
        buf_puts(out, prefix);
        buf_append(out, str_slice(s, 0, n));
        buf_putc(out, '\n');
        s = str_slice(s, skip, s.len);
    } while (ended);
    buf_putc(out, '\n');
}

void sse_data(struct buf *out, struct str payload)
{
    put_lines(out, "data: ", payload);
}

void sse_begin(struct buf *out)
{
    buf_append(out, STR("data: "));
}

void sse_end(struct buf *out)
{
    buf_append(out, STR("\n\n"));
}

void sse_event(struct buf *out, const char *name, struct str payload)
{
    if (name) {
        buf_puts(out, "event: ");
        buf_puts(out, name);
        buf_putc(out, '\n');
    }
    sse_data(out, payload);
}

void sse_comment(struct buf *out, struct str text)
{
    put_lines(out, ": ", text);
}
