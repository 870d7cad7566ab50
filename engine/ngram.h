/* N-gram index: where in a growing text of token ids its last few ids stood before. Two hash tables of n-grams (of 3
 * ids and of 1) with chains from each n-gram's newest place to its older ones, as deflate has them:
 *
 *     ids     a b c d x a b c          the text ends with a b c, which stood before at 0..2:
 *     place   0 1 2 3 4 5 6 7          match {at 3, length 3}, and d is a guess of what follows
 *
 * A place is the position behind an n-gram; it is indexed once the id at that position is known, so a match always has
 * an id that follows it. Each id costs O(1); a search looks at no more than `tries` places of each table, NGRAM_LENGTH
 * ids of each. Memory: 16 bytes for each of the last NGRAM_WINDOW ids, older places are forgotten.
 *
 * The ids are the caller's; what was indexed must not change. No thread of its own: one caller at a time. */
#ifndef TANDEM_ENGINE_NGRAM_H
#define TANDEM_ENGINE_NGRAM_H

#include "base/error.h"

#include <stdint.h>

#define NGRAM_LENGTH 32    /* longest match that is told from a longer one */
#define NGRAM_WINDOW 65536 /* ids; a power of two */
#define NGRAM_TRIES  32
#define NGRAM_TABLES 2

struct ngram {
    uint32_t *heads[NGRAM_TABLES]; /* [cap] hash -> newest place; 0: none */
    uint32_t *prev[NGRAM_TABLES];  /* [cap] place modulo cap -> the place before it with the same hash; 0: none */
    uint32_t cap;                  /* a power of two */
    uint32_t n_places;             /* places below it are indexed; 0 or 1: none is */
    uint32_t tries;
};

struct ngram_match {
    uint32_t at;     /* the match ends before this position, whose id is known */
    uint32_t length; /* ids that agree, up to NGRAM_LENGTH; 0: there is no match */
};

void ngram_init(struct ngram *g, uint32_t tries); /* takes no memory yet */
void ngram_release(struct ngram *g);

/* Indexes what came since the last call; ids: [n], the whole text. False: no memory; the index is as it was. */
NODISCARD bool ngram_extend(struct ngram *g, const int32_t *ids, uint32_t n);

/* The longest match of the end of the text with an indexed place; of equal ones the newest. Exact as long as no more
 * than `tries` places share an n-gram; one of 3 ids or more is preferred to all that `tries` hides. */
struct ngram_match ngram_find(const struct ngram *g, const int32_t *ids, uint32_t n);

/* How many ids before `at` equal those at the end of the text, up to NGRAM_LENGTH. */
uint32_t ngram_common(const int32_t *ids, uint32_t n, uint32_t at);

#endif
