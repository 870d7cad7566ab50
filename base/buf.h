/* Bounded, growing byte buffer. It is created with its maximum; an append past it, or one for which memory fails,
 * makes the buffer failed: later appends do nothing, and buf_ok says so once at the end of a series.
 *
 *     struct buf b;
 *     buf_init(&b, LIMIT_REPLY_SIZE);
 *     buf_puts(&b, "data: ");
 *     buf_append(&b, payload);
 *     if (!buf_ok(&b, "reply", err)) ...
 *     buf_release(&b);
 *
 * The bytes are always followed by a NUL that is not counted. Owned by one thread at a time. */
#ifndef TANDEM_BASE_BUF_H
#define TANDEM_BASE_BUF_H

#include "base/error.h"
#include "base/str.h"

#include <stdarg.h>

struct buf {
    char *data; /* NUL-terminated once anything was appended; NULL before */
    size_t len, cap, max;
    bool failed, no_memory; /* no_memory: that is why it failed */
};

void buf_init(struct buf *b, size_t max);
void buf_release(struct buf *b);
void buf_clear(struct buf *b); /* empty and not failed; keeps its memory */

void buf_append(struct buf *b, struct str s);
void buf_append_bytes(struct buf *b, const void *bytes, size_t n);
void buf_puts(struct buf *b, const char *c_string);
void buf_putc(struct buf *b, char c);
void buf_put_uint(struct buf *b, uint64_t v); /* decimal digits */
void buf_printf(struct buf *b, const char *fmt, ...) PRINTF_FORMAT(2, 3);
void buf_vprintf(struct buf *b, const char *fmt, va_list args);
char *buf_extend(struct buf *b, size_t n);    /* n uninitialised bytes at the end, or NULL when failed */
void buf_drop_front(struct buf *b, size_t n); /* removes the first n <= len bytes */
void buf_truncate(struct buf *b, size_t len); /* len <= b->len */

NODISCARD bool buf_ok(const struct buf *b, const char *what,
                      struct error *err); /* else TOO_LARGE, naming `what` and the maximum, or NO_MEMORY */
struct str buf_view(const struct buf *b); /* valid until the next change */
char *buf_take(struct buf *b,
               size_t *len); /* ownership leaves (free()); the buffer is empty after; NULL when failed or empty */

#endif
