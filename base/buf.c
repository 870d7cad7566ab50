#include "base/buf.h"

#include "base/array.h"

#include <stdio.h>
#include <stdlib.h>

#define BUF_FIRST_CAP 256

void buf_init(struct buf *b, size_t max)
{
    *b = (struct buf){.max = max < SIZE_MAX ? max : SIZE_MAX - 1}; /* room for the NUL */
}

void buf_release(struct buf *b)
{
    free(b->data);
    *b = (struct buf){.max = b->max};
}

void buf_clear(struct buf *b)
{
    b->len = 0;
    b->failed = b->no_memory = false;
    if (b->data) {
        b->data[0] = '\0';
    }
}

/* Room for n more bytes and the NUL behind them. */
static bool grow(struct buf *b, size_t n)
{
    if (b->failed || n > b->max - b->len) {
        b->failed = true;
        return false;
    }
    size_t need = b->len + n + 1;
    if (need <= b->cap) {
        return true;
    }
    size_t cap = b->cap ? b->cap : BUF_FIRST_CAP;
    while (cap < need) {
        cap = cap > b->max / 2 ? b->max + 1 : cap * 2;
    }
    char *data = realloc(b->data, cap);
    if (!data) {
        b->failed = b->no_memory = true;
        return false;
    }
    b->data = data;
    b->cap = cap;
    return true;
}

/* Nearly every append finds room: that is looked for first. A failed buffer has none that counts. */
static inline char *extend(struct buf *b, size_t n)
{
    if ((b->failed || n >= b->cap - b->len || n > b->max - b->len) && !grow(b, n)) {
        return NULL;
    }
    char *at = b->data + b->len;
    b->len += n;
    b->data[b->len] = '\0';
    return at;
}

char *buf_extend(struct buf *b, size_t n)
{
    return extend(b, n);
}

void buf_append_bytes(struct buf *b, const void *bytes, size_t n)
{
    char *at = extend(b, n);
    if (at && n) {
        memcpy(at, bytes, n);
    }
}

void buf_append(struct buf *b, struct str s)
{
    buf_append_bytes(b, s.ptr, s.len);
}

void buf_puts(struct buf *b, const char *c_string)
{
    buf_append_bytes(b, c_string, strlen(c_string));
}

void buf_putc(struct buf *b, char c)
{
    char *at = extend(b, 1);
    if (at) {
        *at = c;
    }
}

void buf_put_uint(struct buf *b, uint64_t v)
{
    char text[20];
    size_t at = sizeof text;
    do {
        text[--at] = (char)('0' + v % 10);
        v /= 10;
    } while (v);
    buf_append_bytes(b, text + at, sizeof text - at);
}

void buf_vprintf(struct buf *b, const char *fmt, va_list args)
{
    va_list again;
    char shown[128]; /* most pieces are short: formatted once */
    va_copy(again, args);
    int n = vsnprintf(shown, sizeof shown, fmt, args);
    char *at = n < 0 ? NULL : buf_extend(b, (size_t)n);
    if (!at) {
        b->failed = true;
    } else if ((size_t)n < sizeof shown) {
        memcpy(at, shown, (size_t)n);
    } else {
        vsnprintf(at, (size_t)n + 1, fmt, again);
    }
    va_end(again);
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    buf_vprintf(b, fmt, args);
    va_end(args);
}

void buf_drop_front(struct buf *b, size_t n)
{
    n = n > b->len ? b->len : n;
    if (n) {
        memmove(b->data, b->data + n, b->len - n + 1);
        b->len -= n;
    }
}

void buf_truncate(struct buf *b, size_t len)
{
    if (len < b->len) {
        b->len = len;
        b->data[len] = '\0';
    }
}

bool buf_ok(const struct buf *b, const char *what, struct error *err)
{
    if (b->no_memory) {
        return error_set(err, ERR_NO_MEMORY, "no memory for %s beyond its first %zu bytes.", what, b->len);
    }
    return !b->failed || error_set(err, ERR_TOO_LARGE, "%s is larger than its limit of %zu bytes.", what, b->max);
}

struct str buf_view(const struct buf *b)
{
    return (struct str){b->data, b->len};
}

char *buf_take(struct buf *b, size_t *len)
{
    char *data = b->failed || b->len == 0 ? NULL : b->data;
    if (!data) {
        free(b->data);
    }
    *len = data ? b->len : 0;
    *b = (struct buf){.max = b->max};
    return data;
}

/* ---- array.h ---- */

bool size_mul(size_t a, size_t b, size_t *out)
{
    if (b && a > SIZE_MAX / b) {
        return false;
    }
    *out = a * b;
    return true;
}

bool size_add(size_t a, size_t b, size_t *out)
{
    if (a > SIZE_MAX - b) {
        return false;
    }
    *out = a + b;
    return true;
}

bool array__reserve(void **items, size_t *cap, size_t need, size_t max, size_t item_size, const char *what,
                    struct error *err)
{
    if (need <= *cap) {
        return true;
    }
    if (need > max) {
        return error_set(err, ERR_TOO_LARGE, "%s: %zu are more than the limit of %zu.", what, need, max);
    }
    size_t grown = *cap ? *cap : max < 16 ? max : 16, size;
    while (grown < need) {
        grown = grown > max / 2 ? max : grown * 2;
    }
    void *moved = size_mul(grown, item_size, &size) ? realloc(*items, size) : NULL;
    if (!moved) {
        return error_set(err, ERR_NO_MEMORY, "no memory for %zu %s.", grown, what);
    }
    *items = moved;
    *cap = grown;
    return true;
}
