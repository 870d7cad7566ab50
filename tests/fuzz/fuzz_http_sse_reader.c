/* The reader of server-sent events over arbitrary bytes: whatever the pieces, the same events and the same error, and
 * each event within its bound and without what ends a line.
 *
 * The first byte says how many piece sizes follow (0 to 15), each a byte; the pieces repeat over the rest. */
#include "http/sse_reader.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAX_EVENT 512

static void check(bool ok)
{
    if (!ok) {
        abort();
    }
}

static void describe(const struct sse_incoming *e, struct buf *out)
{
    check(e->name.len > 0 && e->name.len <= MAX_EVENT && e->data.len <= MAX_EVENT && e->id.len <= MAX_EVENT);
    check(str_find_char(e->data, '\r') == STR_NPOS && str_find_char(e->name, '\n') == STR_NPOS);
    check(str_find_char(e->id, '\0') == STR_NPOS && str_find_char(e->id, '\n') == STR_NPOS);
    buf_printf(out, "%zu %zu %zu ", e->name.len, e->data.len, e->id.len);
    buf_append(out, e->name);
    buf_append(out, e->data);
    buf_append(out, e->id);
}

static void read_all(struct str input, const uint8_t *sizes, size_t n_sizes, struct buf *out)
{
    struct sse_reader r;
    struct error err = {0};
    enum sse_read what = SSE_READ_MORE;
    sse_reader_init(&r, MAX_EVENT);
    for (size_t from = 0, k = 0; from < input.len && what != SSE_READ_ERROR; k++) {
        size_t n = n_sizes ? (size_t)sizes[k % n_sizes] + 1 : input.len;
        struct str piece = str_slice(input, from, from + n);
        struct sse_incoming event;
        from += piece.len;
        while ((what = sse_reader_next(&r, &piece, &event, &err)) == SSE_READ_EVENT) {
            describe(&event, out);
        }
        check(what == SSE_READ_ERROR || piece.len == 0);
    }
    check((what == SSE_READ_ERROR) == (err.code != ERR_NONE) && r.retry_ms >= -1);
    buf_printf(out, "%d %s %lld", what, err.msg, (long long)r.retry_ms);
    sse_reader_release(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t n = size ? data[0] % 16 : 0;
    if (size < n + 1) {
        return 0;
    }
    struct str input = {(const char *)data + 1 + n, size - 1 - n};
    struct buf whole, pieces;
    buf_init(&whole, SIZE_MAX);
    buf_init(&pieces, SIZE_MAX);
    read_all(input, NULL, 0, &whole);
    read_all(input, data + 1, n, &pieces);
    check(str_eq(buf_view(&whole), buf_view(&pieces)));
    buf_release(&whole);
    buf_release(&pieces);
    return 0;
}
