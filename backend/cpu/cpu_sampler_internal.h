/* Shared by the files of the sampler. Legend: x logits, n ids of the vocabulary, b block of SCAN_BLOCK ids. */
#ifndef TANDEM_BACKEND_CPU_CPU_SAMPLER_INTERNAL_H
#define TANDEM_BACKEND_CPU_CPU_SAMPLER_INTERNAL_H

#include "backend/cpu/cpu_math.h"
#include "backend/cpu/cpu_sampler.h"

#include <string.h>

/* ---- whole-row passes: cpu_sampler_scan.c ---- */

/* Ids whose maximum is kept, so that later passes skip what lies too low: 2,400 maxima for 152k ids. */
#define SCAN_BLOCK 64

struct logits {
    const float *x; /* [n] */
    int n;
    float max;
    float *block_max; /* [n_blocks] */
    int n_blocks;
};

/* Exponent of 2 for a logit: (x - max) / (temperature ln 2). */
struct scale {
    double max, factor;
};

static inline double scale_of(const struct scale *s, float x)
{
    return ((double)x - s->max) * s->factor;
}

/* Fills max and block_max. False: a NaN, +inf, or nothing finite. */
NODISCARD bool cpu_sampler__scan(struct logits *l);
int32_t cpu_sampler__argmax(const struct logits *l); /* lowest id of the largest */
/* Sum of the weights of all logits >= low. */
int64_t cpu_sampler__total(const struct logits *l, const struct scale *s, float low);
/* 1 + ids before id in (logit descending, id ascending) order. */
int32_t cpu_sampler__rank(const struct logits *l, int32_t id);
/* Mean and standard deviation (divided by n) of the finite logits, in f64 over four interleaved sums. */
void cpu_sampler__moments(const struct logits *l, double *mean, double *deviation);

/* ---- candidates: cpu_sampler_select.c ---- */

/* Ascending keys are (logit descending, id ascending): inverted order-preserving bits of the logit, then the id. */
struct candidate {
    uint64_t key;
    int64_t weight;
};

static inline uint64_t candidate_key(float x, int32_t id)
{
    float no_negative_zero = x + 0.0f;
    uint32_t bits;
    memcpy(&bits, &no_negative_zero, sizeof bits);
    uint32_t descending = bits & 0x80000000u ? bits : ~bits & 0x7fffffffu;
    return (uint64_t)descending << 32 | (uint32_t)id;
}

static inline int32_t candidate_id(uint64_t key)
{
    return (int32_t)(uint32_t)key;
}

static inline float candidate_logit(uint64_t key)
{
    uint32_t descending = (uint32_t)(key >> 32),
             bits = descending & 0x80000000u ? descending : ~descending & 0x7fffffffu;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* The k best of the logits >= low, fewer when there are fewer, in no order; weights are not set. c: [n + 1]. */
size_t cpu_sampler__best(const struct logits *l, size_t k, float low, struct candidate *c);

/* Everything from temperature on; the id drawn. l: scanned, something finite. raw_total: where the total of all weights
 * at temperature 1 goes when it comes up. c: [n + 1]. */
int32_t cpu_sampler__draw(const struct logits *l, const struct sample_row *row, struct candidate *c,
                          int64_t *raw_total);

/* ---- what changes logits: cpu_sampler_penalties.c ---- */

bool cpu_sampler__modifies(const struct sample_row *row);
/* slots: [n], matches: [CPU_DRY_MAX_MATCH]; both scratch. */
void cpu_sampler__modify(float *x, int n, const struct sample_row *row, int32_t *slots, int32_t *matches);

#endif
