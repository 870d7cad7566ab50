#include "text/merge.h"

#include "base/array.h"

#include <stdlib.h>

#define SHORT_WORD 40 /* symbols; up to here a linear search beats the heap */
#define NO_SYMBOL  UINT32_MAX
#define NO_KEY     UINT32_MAX /* of pairs that do not merge; found keys are below */

void merge_scratch_release(struct merge_scratch *s)
{
    free(s->symbols);
    free(s->next);
    free(s->prev);
    free(s->heap);
    *s = (struct merge_scratch){0};
}

bool merge_reserve(struct merge_scratch *s, size_t n_symbols, struct error *err)
{
    return array_reserve(&s->symbols, &s->symbols_cap, n_symbols, UINT32_MAX - 1, "symbols of a word", err);
}

/* ---- short words ---- */

struct pair_state {
    uint32_t key;
    int32_t id;
};

static void merge_short(struct merge_scratch *s, struct str word, merge_pair_fn *pair, const void *model)
{
    struct symbol *symbols = s->symbols;
    struct pair_state pairs[SHORT_WORD]; /* pairs[i] is that of symbols i and i + 1 */
    size_t n = s->n;
    for (size_t i = 0; i + 1 < n; i++)
        if (!pair(model, word, &symbols[i], &symbols[i + 1], &pairs[i].key, &pairs[i].id))
            pairs[i].key = NO_KEY;
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            best = pairs[i].key < pairs[best].key ? i : best;
        if (pairs[best].key == NO_KEY)
            break;
        symbols[best].len = symbols[best + 1].at + symbols[best + 1].len - symbols[best].at;
        symbols[best].id = pairs[best].id;
        memmove(&symbols[best + 1], &symbols[best + 2], (n - best - 2) * sizeof *symbols);
        memmove(&pairs[best], &pairs[best + 1], (n - best - 2) * sizeof *pairs);
        n--;
        if (best > 0 &&
            !pair(model, word, &symbols[best - 1], &symbols[best], &pairs[best - 1].key, &pairs[best - 1].id))
            pairs[best - 1].key = NO_KEY;
        if (best + 1 < n && !pair(model, word, &symbols[best], &symbols[best + 1], &pairs[best].key, &pairs[best].id))
            pairs[best].key = NO_KEY;
    }
    s->n = n;
}

/* ---- long words ---- */

static bool is_before(const struct merge_candidate *a, const struct merge_candidate *b)
{
    return a->key != b->key ? a->key < b->key : a->left < b->left;
}

static void sift_down(struct merge_candidate *heap, size_t n, size_t at)
{
    struct merge_candidate item = heap[at];
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= n)
            break;
        if (child + 1 < n && is_before(&heap[child + 1], &heap[child]))
            child++;
        if (!is_before(&heap[child], &item))
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = item;
}

static void sift_up(struct merge_candidate *heap, size_t at)
{
    struct merge_candidate item = heap[at];
    while (at > 0 && is_before(&item, &heap[(at - 1) / 2])) {
        heap[at] = heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap[at] = item;
}

struct long_word {
    struct merge_scratch *s;
    struct str word;
    merge_pair_fn *pair;
    const void *model;
};

/* Extent of the pair: symbols need not touch when bytes between them are no token at all. */
static uint32_t pair_size(const struct symbol *l, const struct symbol *r)
{
    return r->at + r->len - l->at;
}

static bool find_candidate(const struct long_word *w, uint32_t left, struct merge_candidate *out)
{
    const struct merge_scratch *s = w->s;
    if (left == NO_SYMBOL || s->next[left] == NO_SYMBOL)
        return false;
    const struct symbol *l = &s->symbols[left], *r = &s->symbols[s->next[left]];
    *out = (struct merge_candidate){.left = left, .size = pair_size(l, r)};
    return w->pair(w->model, w->word, l, r, &out->key, &out->id);
}

/* Room was reserved: a merge takes one candidate off and adds at most two. */
static void push_candidate(const struct long_word *w, uint32_t left)
{
    struct merge_candidate found;
    if (find_candidate(w, left, &found)) {
        w->s->heap[w->s->n_heap] = found;
        sift_up(w->s->heap, w->s->n_heap++);
    }
}

static bool start_long(struct merge_scratch *s, struct error *err)
{
    size_t n = s->n;
    if (!array_reserve(&s->next, &s->next_cap, n, UINT32_MAX, "symbols of a word", err) ||
        !array_reserve(&s->prev, &s->prev_cap, n, UINT32_MAX, "symbols of a word", err) ||
        !array_reserve(&s->heap, &s->heap_cap, 2 * n, SIZE_MAX / 64, "merges of a word", err))
        return false;
    for (size_t i = 0; i < n; i++) {
        s->prev[i] = i ? (uint32_t)(i - 1) : NO_SYMBOL;
        s->next[i] = i + 1 < n ? (uint32_t)(i + 1) : NO_SYMBOL;
    }
    s->n_heap = 0;
    return true;
}

static void apply(const struct long_word *w, const struct merge_candidate *c)
{
    struct merge_scratch *s = w->s;
    uint32_t left = c->left, right = s->next[left];
    s->symbols[left].len = c->size;
    s->symbols[left].id = c->id;
    s->symbols[right].len = 0; /* gone */
    s->next[left] = s->next[right];
    if (s->next[left] != NO_SYMBOL)
        s->prev[s->next[left]] = left;
    push_candidate(w, s->prev[left]);
    push_candidate(w, left);
}

static bool is_current(const struct merge_scratch *s, const struct merge_candidate *c)
{
    return s->symbols[c->left].len && s->next[c->left] != NO_SYMBOL &&
           pair_size(&s->symbols[c->left], &s->symbols[s->next[c->left]]) == c->size;
}

static bool merge_long(const struct long_word *w, struct error *err)
{
    struct merge_scratch *s = w->s;
    if (!start_long(s, err))
        return false;
    for (uint32_t i = 0; i + 1 < s->n; i++)
        s->n_heap += find_candidate(w, i, &s->heap[s->n_heap]);
    for (size_t i = s->n_heap / 2; i-- > 0;)
        sift_down(s->heap, s->n_heap, i);
    while (s->n_heap) {
        struct merge_candidate top = s->heap[0];
        s->heap[0] = s->heap[--s->n_heap];
        if (s->n_heap)
            sift_down(s->heap, s->n_heap, 0);
        if (is_current(s, &top))
            apply(w, &top);
    }
    size_t kept = 0;
    for (size_t i = 0; i < s->n; i++)
        if (s->symbols[i].len)
            s->symbols[kept++] = s->symbols[i];
    s->n = kept;
    return true;
}

bool merge_symbols(struct merge_scratch *s, struct str word, merge_pair_fn *pair, const void *model, struct error *err)
{
    if (s->n < 2)
        return true;
    if (s->n <= SHORT_WORD) {
        merge_short(s, word, pair, model);
        return true;
    }
    return merge_long(&(struct long_word){s, word, pair, model}, err);
}
