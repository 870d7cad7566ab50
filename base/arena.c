/* Blocks of growing size in a list; a request larger than a quarter of the largest block gets one of its own. Zeroed by
 * calloc, so that fresh pages from the system are not written twice. */
#include "base/arena.h"

#include "base/array.h"

#include <stdlib.h>

#define ARENA_FIRST_BLOCK 4096
#define ARENA_MAX_BLOCK   ((size_t)1 << 20)

struct block {
    struct block *next;
    size_t size, used; /* of data */
    _Alignas(max_align_t) char data[];
};

struct deferred {
    void (*fn)(void *);
    void *arg;
    struct deferred *next;
};

struct arena {
    size_t max_size, used;
    struct block *blocks; /* newest first */
    struct deferred *deferred;
};

struct arena *arena_create(size_t max_size)
{
    struct arena *a = calloc(1, sizeof *a);
    if (a) {
        a->max_size = max_size;
    }
    return a;
}

static void run_deferred(struct arena *a)
{
    for (struct deferred *d; (d = a->deferred);) {
        a->deferred = d->next;
        d->fn(d->arg);
    }
}

static void free_blocks(struct block *b)
{
    for (struct block *next; b; b = next) {
        next = b->next;
        free(b);
    }
}

void arena_free(struct arena *a)
{
    if (a) {
        run_deferred(a);
        free_blocks(a->blocks);
        free(a);
    }
}

void arena_clear(struct arena *a)
{
    run_deferred(a);
    if (a->blocks) {
        free_blocks(a->blocks->next);
        a->blocks->next = NULL;
        memset(a->blocks->data, 0, a->blocks->used);
        a->blocks->used = 0;
    }
    a->used = 0;
}

static struct block *add_block(struct arena *a, size_t at_least)
{
    size_t size = a->blocks ? a->blocks->size : ARENA_FIRST_BLOCK / 2, total;
    size = size >= ARENA_MAX_BLOCK / 2 ? ARENA_MAX_BLOCK : size * 2;
    size = at_least > ARENA_MAX_BLOCK / 4 || size < at_least ? at_least : size;
    struct block *b = size_add(size, sizeof *b, &total) ? calloc(1, total) : NULL;
    if (b) {
        b->size = size;
        /* One that is used up at once goes behind the newest, whose room stays in use. */
        struct block **at = a->blocks && at_least > ARENA_MAX_BLOCK / 4 ? &a->blocks->next : &a->blocks;
        b->next = *at;
        *at = b;
    }
    return b;
}

void *arena_alloc(struct arena *a, size_t size)
{
    const size_t align = _Alignof(max_align_t);
    size = size ? size : 1;
    if (size > SIZE_MAX - align) {
        return NULL;
    }
    size = (size + align - 1) / align * align;
    if (size > a->max_size - a->used) {
        return NULL;
    }
    struct block *b = a->blocks;
    if (!b || size > b->size - b->used) {
        b = add_block(a, size);
    }
    if (!b) {
        return NULL;
    }
    void *at = b->data + b->used;
    b->used += size;
    a->used += size;
    return at;
}

void *arena_alloc_array(struct arena *a, size_t n, size_t size)
{
    size_t total;
    return size_mul(n, size, &total) ? arena_alloc(a, total) : NULL;
}

char *arena_strdup(struct arena *a, struct str s)
{
    char *copy = s.len < SIZE_MAX ? arena_alloc(a, s.len + 1) : NULL;
    if (copy && s.len) {
        memcpy(copy, s.ptr, s.len);
    }
    return copy;
}

struct str arena_str(struct arena *a, struct str s)
{
    char *copy = arena_strdup(a, s);
    return (struct str){copy, copy ? s.len : 0};
}

bool arena_defer(struct arena *a, void (*fn)(void *), void *arg)
{
    struct deferred *d = arena_alloc(a, sizeof *d);
    if (!d) {
        return false;
    }
    *d = (struct deferred){fn, arg, a->deferred};
    a->deferred = d;
    return true;
}

size_t arena_used(const struct arena *a)
{
    return a->used;
}

bool arena_full(const struct arena *a, const char *what, struct error *err)
{
    return error_set(err, ERR_TOO_LARGE, "%s needs more memory than its limit of %zu bytes.", what, a->max_size);
}
