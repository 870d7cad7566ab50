#include "engine/ngram.h"

#include <stdlib.h>

#define FIRST_CAP 256

static const uint32_t orders[NGRAM_TABLES] = {3, 1}; /* the longer n-gram is asked first */

void ngram_init(struct ngram *g, uint32_t tries)
{
    *g = (struct ngram){.tries = tries};
}

void ngram_release(struct ngram *g)
{
    for (int t = 0; t < NGRAM_TABLES; t++) {
        free(g->heads[t]);
        free(g->prev[t]);
    }
    *g = (struct ngram){.tries = g->tries};
}

/* Of the n-gram before a place. Multiplication by an odd constant mixes upwards, so the high bits are used. */
static uint32_t hash_of(const struct ngram *g, const int32_t *ids, uint32_t place, uint32_t order)
{
    uint64_t h = 0;
    for (uint32_t i = place - order; i < place; i++) {
        h = (h ^ (uint32_t)ids[i]) * 0x9e3779b97f4a7c15u;
        h ^= h >> 29;
    }
    return (uint32_t)((h * 0x9e3779b97f4a7c15u) >> 32) & (g->cap - 1);
}

static void insert(struct ngram *g, const int32_t *ids, uint32_t place)
{
    for (int t = 0; t < NGRAM_TABLES; t++) {
        if (place >= orders[t]) {
            uint32_t h = hash_of(g, ids, place, orders[t]);
            g->prev[t][place & (g->cap - 1)] = g->heads[t][h];
            g->heads[t][h] = place;
        }
    }
}

/* Tables of twice the size or more, with all places again: they have all been kept as long as the tables grow. */
static bool grow(struct ngram *g, const int32_t *ids, uint32_t n)
{
    struct ngram wider = {.cap = g->cap ? g->cap : FIRST_CAP, .tries = g->tries};
    bool ok = true;
    while (wider.cap < n && wider.cap < NGRAM_WINDOW) {
        wider.cap *= 2;
    }
    for (int t = 0; t < NGRAM_TABLES; t++) {
        wider.heads[t] = calloc(wider.cap, sizeof *wider.heads[t]);
        wider.prev[t] = calloc(wider.cap, sizeof *wider.prev[t]);
        ok = ok && wider.heads[t] && wider.prev[t];
    }
    if (!ok) {
        ngram_release(&wider);
        return false;
    }
    for (wider.n_places = 1; wider.n_places < g->n_places; wider.n_places++) {
        insert(&wider, ids, wider.n_places);
    }
    ngram_release(g);
    *g = wider;
    return true;
}

bool ngram_extend(struct ngram *g, const int32_t *ids, uint32_t n)
{
    bool full = n > g->cap && g->cap < NGRAM_WINDOW;
    if ((full || g->cap == 0) && !grow(g, ids, n)) {
        return false;
    }
    if (n > NGRAM_WINDOW && g->n_places < n - NGRAM_WINDOW) {
        g->n_places = n - NGRAM_WINDOW; /* older ones would be forgotten at once */
    }
    for (; g->n_places < n; g->n_places++) {
        insert(g, ids, g->n_places);
    }
    return true;
}

uint32_t ngram_common(const int32_t *ids, uint32_t n, uint32_t at)
{
    uint32_t most = at < NGRAM_LENGTH ? at : NGRAM_LENGTH, length = 0;
    while (length < most && ids[n - 1 - length] == ids[at - 1 - length]) {
        length++;
    }
    return length;
}

/* Along the chain of the n-gram at the text's end, newest place first, as far as the ring remembers it. A place that is
 * not older than the one before it stands where another chain has overwritten this one. */
static struct ngram_match walk(const struct ngram *g, int table, const int32_t *ids, uint32_t n)
{
    struct ngram_match best = {0};
    uint32_t place = g->heads[table][hash_of(g, ids, n, orders[table])];
    for (uint32_t tries = g->tries; place && g->n_places - place <= g->cap && tries > 0; tries--) {
        uint32_t length = ngram_common(ids, n, place), older = g->prev[table][place & (g->cap - 1)];
        if (length >= orders[table] && length > best.length) {
            best = (struct ngram_match){place, length};
        }
        place = older < place ? older : 0;
    }
    return best;
}

struct ngram_match ngram_find(const struct ngram *g, const int32_t *ids, uint32_t n)
{
    struct ngram_match best = {0};
    for (int t = 0; t < NGRAM_TABLES && best.length == 0 && g->cap; t++) {
        if (n >= orders[t]) {
            best = walk(g, t, ids, n);
        }
    }
    return best;
}
