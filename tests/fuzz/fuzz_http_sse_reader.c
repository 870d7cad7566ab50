/* The reader of server-sent events over arbitrary bytes: whatever the pieces, the same events and the same error, and
 * each event within its bound and without what ends a line.
 * The input has the form of pieces.h. */
#include "http/sse_reader.h"
#include "tests/fuzz/pieces.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAX_EVENT 512

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

static void read_all(struct str input, struct pieces *pieces, struct buf *out)
{
    struct sse_reader r;
    struct error err = {0};
    enum sse_read what = SSE_READ_MORE;
    sse_reader_init(&r, MAX_EVENT);
    while (input.len > 0 && what != SSE_READ_ERROR) {
        struct str piece = next_piece(pieces, &input);
        struct sse_incoming event;
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
    return whole_and_in_pieces(data, size, read_all);
}
