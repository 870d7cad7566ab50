/* Rotary position embedding. The angle is position * inv_freq rounded to f32, as transformers computes it; its cosine
 * and sine are taken in f64 and rounded, once per row and step, and shared by all layers and heads. */
#include "backend/cpu/cpu_internal.h"

#include <math.h>
#include <stdlib.h>

struct angle_args {
    const struct rope_cache *cache;
    const int32_t *positions;
};

static void angle_rows(void *arg, int first, int end, int thread)
{
    const struct angle_args *a = arg;
    size_t n = (size_t)a->cache->rot_dim / 2;
    (void)thread;
    for (size_t t = (size_t)first; t < (size_t)end; t++) {
        for (size_t i = 0; i < n; i++) {
            double angle = (double)((float)a->positions[t] * a->cache->inv_freq[i]);
            a->cache->cos[t * n + i] = (float)cos(angle) * a->cache->attn_factor;
            a->cache->sin[t * n + i] = (float)sin(angle) * a->cache->attn_factor;
        }
    }
}

static bool reserve(struct cpu_backend *be, struct rope_cache *cache, size_t n)
{
    if (2 * n <= cache->cap)
        return true;
    float *floats = malloc(2 * n * sizeof(float));
    if (!floats) {
        cpu__fail(be, ERR_NO_MEMORY, "There is no memory for the angles of this step.");
        return false;
    }
    free(cache->cos);
    cache->cos = floats;
    cache->cap = 2 * n;
    return true;
}

/* cos for n values (a sine and a cosine) costs about as much as this many simple operations */
#define ANGLE_WORK 64

static const struct rope_cache *angles(struct cpu_backend *be, const struct rope_params *p)
{
    for (int i = 0; i < be->n_ropes; i++) {
        const struct rope_cache *c = &be->ropes[i];
        if (c->inv_freq == p->inv_freq && c->rot_dim == p->rot_dim && c->attn_factor == p->attn_factor)
            return c;
    }
    if (be->n_ropes == ROPE_CACHES)
        be->n_ropes--; /* more kinds than any model has: the last is made again */
    struct rope_cache *cache = &be->ropes[be->n_ropes];
    size_t n = (size_t)be->batch->n_rows * (size_t)(p->rot_dim / 2);
    if (!reserve(be, cache, n))
        return NULL;
    cache->inv_freq = p->inv_freq;
    cache->rot_dim = p->rot_dim;
    cache->attn_factor = p->attn_factor;
    cache->sin = cache->cos + n;
    be->n_ropes++;
    struct angle_args args = {cache, be->batch->positions};
    cpu__for_rows(be, be->batch->n_rows, (size_t)p->rot_dim * ANGLE_WORK, angle_rows, &args);
    return cache;
}

struct rope_args {
    const struct cpu_kernel_table *kernels;
    struct tensor *x;
    const struct rope_cache *cache;
    const struct rope_params *p;
};

static void rope_rows(void *arg, int first, int end, int thread)
{
    const struct rope_args *a = arg;
    size_t n = (size_t)a->p->rot_dim / 2;
    (void)thread;
    for (size_t t = (size_t)first; t < (size_t)end; t++) {
        float *row = a->x->f32 + t * (size_t)a->x->n_cols;
        for (size_t h = 0; h < (size_t)a->p->n_heads; h++)
            a->kernels->rope(row + h * (size_t)a->p->head_dim, a->cache->cos + t * n, a->cache->sin + t * n, a->p->kind,
                             a->p->rot_dim);
    }
}

struct tensor *cpu__rope(struct backend *base, struct tensor *x, const struct rope_params *p)
{
    struct cpu_backend *be = cpu__of(base);
    if (!x)
        return NULL;
    if (p->rot_dim > p->head_dim || p->rot_dim % 2 != 0 || x->n_cols != p->n_heads * p->head_dim ||
        x->n_rows != be->batch->n_rows)
        return cpu__fail(be, ERR_INTERNAL, "The rotation does not fit its input.");
    const struct rope_cache *cache = angles(be, p);
    if (!cache)
        return NULL;
    struct rope_args args = {be->kernels, x, cache, p};
    cpu__for_rows(be, x->n_rows, (size_t)x->n_cols, rope_rows, &args);
    x->q8 = NULL;
    return x;
}
