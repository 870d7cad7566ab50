/* Growing arrays of plain values, bounded. The caller keeps pointer, count and capacity in its own struct:
 *
 *     struct token_list { int32_t *items; size_t n, cap; };
 *     if (!array_reserve(&list.items, &list.cap, list.n + 1, LIMIT_TOKENS, "prompt tokens", err)) ...
 *     list.items[list.n++] = id;
 */
#ifndef TANDEM_BASE_ARRAY_H
#define TANDEM_BASE_ARRAY_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

/* Makes room for at least `need` items: capacity doubles, up to max. Past max: TOO_LARGE naming `what`; NO_MEMORY when
 * memory fails. Items stay where they are on failure. */
#define array_reserve(items, cap, need, max, what, err) \
    array__reserve((void **)(items), (cap), (need), (max), sizeof **(items), (what), (err))

NODISCARD bool array__reserve(void **items, size_t *cap, size_t need, size_t max, size_t item_size, const char *what,
                              struct error *err);

/* Checked arithmetic: false on overflow, *out untouched. */
NODISCARD bool size_mul(size_t a, size_t b, size_t *out);
NODISCARD bool size_add(size_t a, size_t b, size_t *out);

static inline uint32_t min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

#endif
