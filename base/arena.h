/* Arena: memory of one request (or one load), freed in one call, with clean-up handlers for what is not memory.
 * Bounded: an allocation past the maximum returns NULL. Memory is zeroed. Owned by one thread at a time. */
#ifndef TANDEM_BASE_ARENA_H
#define TANDEM_BASE_ARENA_H

#include "base/error.h"
#include "base/str.h"

struct arena;

struct arena *arena_create(size_t max_size); /* NULL when memory fails */
void arena_free(struct arena *a);            /* handlers in reverse order, then the memory; NULL is fine */
void arena_clear(struct arena *a);           /* the same, but the arena stays usable and keeps one block */

void *arena_alloc(struct arena *a, size_t size);                 /* aligned for any type; NULL when full */
void *arena_alloc_array(struct arena *a, size_t n, size_t size); /* NULL on overflow or when full */
char *arena_strdup(struct arena *a, struct str s);               /* NUL-terminated copy */
struct str arena_str(struct arena *a, struct str s);             /* copy as a view; {NULL,0} when full */

/* fn(arg) runs when the arena is cleared or freed. False when full: the caller still owns arg. */
NODISCARD bool arena_defer(struct arena *a, void (*fn)(void *), void *arg);

size_t arena_used(const struct arena *a); /* bytes handed out, for accounting */

/* Sets *err to TOO_LARGE with the arena's maximum; for `if (!p) return arena_full(a, "request", err);`. */
bool arena_full(const struct arena *a, const char *what, struct error *err);

#endif
