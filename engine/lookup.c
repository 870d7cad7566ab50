#include "engine/lookup.h"

#include "base/limits.h"

#include <stdlib.h>
#include <string.h>

#define NEAR_WINDOW 64 /* tokens behind the place where the text was lost: some lines */
#define NEAR_AGE    64 /* tokens of output after which that place is forgotten */
#define NEAR_BONUS  2  /* a match there is worth one elsewhere that is so much longer */
#define FIRM_LENGTH 8  /* a match of this length is followed without looking for a longer one */
#define LOST_LENGTH 3  /* a place that was followed for less is not worth coming back to */
#define MAX_TOKENS  (2 * LIMIT_CONTEXT + 1)
#define BORDER      (-1) /* between prediction and prompt: no token */

/* Kinds of guesses: by length of the match, first those of plain matches, then those near a place that was lost. The
 * priors are shares measured over answers of prose, lists, code and edits at temperatures 0 and 1, rounded down. */
#define N_LENGTHS 8
static const float prior[ACCEPTANCE_KINDS] = {0.1f, 0.3f, 0.5f,  0.65f, 0.75f, 0.85f, 0.9f,  0.95f,
                                              0.2f, 0.5f, 0.65f, 0.75f, 0.8f,  0.87f, 0.93f, 0.93f};

struct cursor {
    uint32_t at, length; /* as in struct ngram_match; length 0: there is no guess */
    bool near;
};

struct lookup {
    struct ngram index;
    int32_t *ids; /* [n] of [cap] */
    uint32_t n, cap;
    uint32_t first; /* the prompt begins here; ids before it are the prediction and its border */
    struct cursor cursor;
    uint32_t lost, lost_age; /* position of the last guess that was wrong; lost_age NEAR_AGE: none */
    struct acceptance acceptance;
    bool broken; /* memory failed */
};

static uint32_t kind_of(bool near, uint32_t length)
{
    static const uint8_t bounds[N_LENGTHS - 1] = {1, 2, 3, 5, 8, 14, 24};
    uint32_t kind = 0;
    while (kind < N_LENGTHS - 1 && length > bounds[kind]) {
        kind++;
    }
    return near ? N_LENGTHS + kind : kind;
}

/* ---- memory ---- */

static bool reserve(struct lookup *l, uint32_t n)
{
    uint32_t cap = l->cap ? l->cap : 256;
    while (cap < n) {
        cap += cap / 2;
    }
    int32_t *ids = cap > l->cap ? realloc(l->ids, cap * sizeof *ids) : l->ids;
    if (!ids || n > MAX_TOKENS) {
        return false;
    }
    l->ids = ids;
    l->cap = cap;
    return true;
}

struct lookup *lookup_create(const int32_t *prediction, uint32_t n_prediction)
{
    struct lookup *l = calloc(1, sizeof *l);
    if (!l || !reserve(l, n_prediction + 2)) {
        free(l);
        return NULL;
    }
    ngram_init(&l->index, NGRAM_TRIES);
    l->lost_age = NEAR_AGE;
    if (n_prediction) {
        memcpy(l->ids, prediction, n_prediction * sizeof *prediction);
        l->ids[n_prediction] = BORDER;
        l->n = l->first = n_prediction + 1;
        l->cursor = (struct cursor){.at = 0, .length = 1, .near = true}; /* the answer may begin as predicted */
        l->lost_age = 0;                                                 /* or with some words before it */
    }
    return l;
}

void lookup_free(struct lookup *l)
{
    if (l) {
        ngram_release(&l->index);
        free(l->ids);
        free(l);
    }
}

uint32_t lookup_n_read(const struct lookup *l)
{
    return l->n - l->first;
}

/* ---- following ---- */

/* A guess at this position is one of its region: what follows a prediction's end is not known. */
static bool has_guess(const struct lookup *l, uint32_t at)
{
    return at < l->n && l->ids[at] != BORDER;
}

/* The longest match that ends within the window behind the place that was lost; of equal ones the first. */
static struct cursor find_near(const struct lookup *l)
{
    struct cursor best = {.near = true};
    if (l->lost_age >= NEAR_AGE) {
        return best;
    }
    for (uint32_t i = l->lost; i < l->lost + NEAR_WINDOW && has_guess(l, i); i++) {
        if (l->ids[i] == l->ids[l->n - 1] && has_guess(l, i + 1)) {
            uint32_t length = ngram_common(l->ids, l->n, i + 1);
            best.at = length > best.length ? i + 1 : best.at;
            best.length = length > best.length ? length : best.length;
        }
    }
    return best;
}

static struct cursor find(const struct lookup *l)
{
    struct cursor near = find_near(l);
    struct ngram_match match = ngram_find(&l->index, l->ids, l->n);
    bool far = match.length > 0 && has_guess(l, match.at) && (match.length > near.length + NEAR_BONUS || !near.length);
    return far ? (struct cursor){.at = match.at, .length = match.length} : near;
}

/* A guess of the token was made and is compared with it. */
static void compare(struct lookup *l, int32_t id)
{
    struct cursor *c = &l->cursor;
    bool held = l->ids[c->at] == id;
    acceptance_note(&l->acceptance, kind_of(c->near, c->length), held);
    if (held) {
        c->at++;
        c->length++;
        return;
    }
    if (c->near || c->length >= LOST_LENGTH) {
        l->lost = c->at;
        l->lost_age = 0;
    }
    c->length = 0;
}

/* While the match is short, a longer one may turn up. */
static void look_again(struct lookup *l)
{
    struct cursor *c = &l->cursor;
    if (c->length && !has_guess(l, c->at)) {
        c->length = 0;
    }
    if (c->length < FIRM_LENGTH) {
        struct cursor found = find(l);
        *c = found.length > c->length ? found : *c;
    }
}

static void add(struct lookup *l, int32_t id)
{
    l->ids[l->n++] = id;
    l->broken = l->broken || !ngram_extend(&l->index, l->ids, l->n);
}

void lookup_read(struct lookup *l, const int32_t *ids, uint32_t n_prompt, uint32_t n)
{
    l->broken = l->broken || !reserve(l, l->first + n);
    if (l->broken || lookup_n_read(l) >= n) {
        return;
    }
    if (lookup_n_read(l) < n_prompt) {
        uint32_t from = lookup_n_read(l), end = n < n_prompt ? n : n_prompt;
        memcpy(l->ids + l->n, ids + from, (end - from) * sizeof *ids);
        l->n += end - from;
        l->broken = !ngram_extend(&l->index, l->ids, l->n);
        if (!l->broken && l->first == 0) {
            look_again(l);
        }
    }
    while (lookup_n_read(l) < n && !l->broken) {
        int32_t id = ids[lookup_n_read(l)];
        if (l->cursor.length) {
            compare(l, id);
        }
        l->lost_age += l->lost_age < NEAR_AGE;
        add(l, id);
        look_again(l);
    }
}

/* ---- guessing ---- */

uint32_t lookup_guess(const struct lookup *l, uint32_t max, double min_p, int32_t *ids, float *p)
{
    const struct cursor *c = &l->cursor;
    double all = 1;
    uint32_t i = 0;
    for (; i < max && c->length && !l->broken; i++) {
        uint32_t at = c->at + i;
        if (at < l->n && !has_guess(l, at)) {
            break;
        }
        all *= acceptance_of(&l->acceptance, prior, kind_of(c->near, c->length + i));
        if (all < min_p) {
            break;
        }
        ids[i] = at < l->n ? l->ids[at] : ids[at - l->n]; /* beyond the text's end it repeats what it just guessed */
        p[i] = (float)all;
    }
    return i;
}
