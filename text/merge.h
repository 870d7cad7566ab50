/* The merge loop of both kinds of BPE: a word is a row of symbols; the adjacent pair with the lowest key (the leftmost
 * of equals) becomes one symbol, until no pair can merge. A short word is searched directly; a long one through a heap,
 * so that n symbols cost O(n log n). */
#ifndef TANDEM_TEXT_MERGE_H
#define TANDEM_TEXT_MERGE_H

#include "base/error.h"
#include "base/str.h"

struct symbol {
    uint32_t at, len; /* bytes within the word */
    int32_t id;       /* token, or -1 when the bytes are none */
};

/* Whether l and r merge: the pair's key (lower merges first) and the token of both together. */
typedef bool merge_pair_fn(const void *model, struct str word, const struct symbol *l, const struct symbol *r,
                           uint32_t *key, int32_t *id);

struct merge_candidate {
    uint32_t key, left, size; /* size: bytes of the pair when it was found; another size now means it is gone */
    int32_t id;
};

struct merge_scratch {      /* of one encode call; all zero at first */
    struct symbol *symbols; /* the word; filled by the caller, then the result */
    size_t n, symbols_cap;
    uint32_t *next, *prev; /* neighbours of a symbol while merging */
    size_t next_cap, prev_cap;
    struct merge_candidate *heap;
    size_t n_heap, heap_cap;
};

void merge_scratch_release(struct merge_scratch *s);
NODISCARD bool merge_reserve(struct merge_scratch *s, size_t n_symbols, struct error *err); /* room for a word */

/* Merges symbols[0..n) of the word. */
NODISCARD bool merge_symbols(struct merge_scratch *s, struct str word, merge_pair_fn *pair, const void *model,
                             struct error *err);

#endif
