/* For targets of readers that take their input in pieces: whatever the pieces, the result has to be the same.
 *
 * The first byte says how many piece sizes follow (0 to 15), each a byte; the pieces repeat over the rest. */
#ifndef TANDEM_TESTS_FUZZ_PIECES_H
#define TANDEM_TESTS_FUZZ_PIECES_H

#include "base/buf.h"

#include <stdlib.h>

struct pieces {
    const uint8_t *sizes; /* [n], each by one less than it is */
    size_t n, at;         /* n 0: all at once */
};

static inline void check(bool ok)
{
    if (!ok) {
        abort();
    }
}

/* From the front of *rest. */
static inline struct str next_piece(struct pieces *p, struct str *rest)
{
    struct str piece = str_slice(*rest, 0, p->n ? (size_t)p->sizes[p->at++ % p->n] + 1 : rest->len);
    *rest = str_slice(*rest, piece.len, rest->len);
    return piece;
}

/* read writes into *out all that may not depend on the pieces. Returns what LLVMFuzzerTestOneInput does. */
static inline int whole_and_in_pieces(const uint8_t *data, size_t size,
                                      void (*read)(struct str input, struct pieces *p, struct buf *out))
{
    size_t n = size ? data[0] % 16 : 0;
    if (size < n + 1) {
        return 0;
    }
    struct pieces split = {.sizes = data + 1, .n = n}, none = {0};
    struct str input = {(const char *)data + 1 + n, size - 1 - n};
    struct buf whole, pieces;
    buf_init(&whole, SIZE_MAX);
    buf_init(&pieces, SIZE_MAX);
    read(input, &none, &whole);
    read(input, &split, &pieces);
    check(str_eq(buf_view(&whole), buf_view(&pieces)));
    buf_release(&whole);
    buf_release(&pieces);
    return 0;
}

#endif
