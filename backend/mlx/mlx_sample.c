/* Sampling. Greedy rows, and rows with temperature, top-k, top-p and min-p alone, stay in the graph, so that the next
 * step can be enqueued before anyone has read them. Every other row is the host's: its logits are read and sampled by
 * the cpu backend's sampler, which makes the step wait. */
#include "backend/cpu/cpu_sampler.h"
#include "backend/mlx/mlx_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* On a CPU, sorting a large vocabulary in the graph costs more than it saves to go on without waiting. */
#define CPU_SORT_MAX 8192

static bool is_lazy(const struct mlx_backend *be, const struct sample_row *r, int n_vocab)
{
    bool may_sort = mlx_on_gpu(be->m) || n_vocab <= CPU_SORT_MAX;
    bool plain = r->score_id < 0 && !r->want_logprob && r->n_top == 0 && !r->want_digest && r->n_bias == 0 &&
                 r->n_banned == 0 && !r->mask;
    bool penalties =
        r->repetition_penalty != 1 || r->presence_penalty != 0 || r->frequency_penalty != 0 || r->dry_multiplier != 0;
    bool filters = r->typical_p != 1 || r->top_n_sigma > 0 || r->xtc_probability > 0;
    return plain && !penalties && (r->temperature == 0 || (may_sort && !filters));
}

static bool reserve(struct mlx_backend *be, struct mlx_samples *s, int n)
{
    if (n <= s->cap)
        return true;
    bool *on_host = realloc(s->on_host, (size_t)n * sizeof *on_host);
    s->on_host = on_host ? on_host : s->on_host;
    struct sample_result *results = realloc(s->results, (size_t)n * sizeof *results);
    s->results = results ? results : s->results;
    if (!on_host || !results) {
        mlx_fail(be->m, ERR_NO_MEMORY, "there is no memory for samples");
        return false;
    }
    s->cap = n;
    return true;
}

static void clear(struct mlx_samples *s)
{
    mlx_drop(s->ids);
    mlx_drop(s->lse);
    s->ids = s->lse = NULL;
    s->n = 0;
}

void mlx__samples_release(struct mlx_samples *s)
{
    clear(s);
    free(s->on_host);
    free(s->results);
}

/* ---- in the graph ---- */

/* [n] parameters, one array for each. */
struct columns {
    float *temperature, *top_p, *min_p, *uniform;
    int32_t *top_k;
};

static void set_column(const struct columns *c, int i, const struct sample_row *r, int n_vocab)
{
    bool greedy = r->temperature == 0;
    c->temperature[i] = greedy ? 1 : r->temperature;
    c->top_p[i] = r->top_p;
    c->min_p[i] = r->min_p;
    c->uniform[i] = (float)r->uniform;
    c->top_k[i] = greedy ? 1 : r->top_k > 0 && r->top_k < n_vocab ? r->top_k : n_vocab;
}

static struct mlx_array *draw(struct mlx_backend *be, struct mlx_array *logits, const struct sample_row *rows, int n)
{
    struct mlx_shape shape = {1, {n}};
    int n_vocab = mlx_dim(logits, -1);
    float *values = malloc((size_t)n * 5 * sizeof *values);
    if (!values) {
        mlx_fail(be->m, ERR_NO_MEMORY, "there is no memory for samples");
        return NULL;
    }
    struct columns c = {values, values + n, values + 2 * n, values + 3 * n, (int32_t *)(void *)(values + 4 * n)};
    for (int i = 0; i < n; i++)
        set_column(&c, i, &rows[i], n_vocab);
    struct mlx_sampling p = {.temperature = mlx_copy(be->m, c.temperature, shape, MLX_F32),
                             .top_p = mlx_copy(be->m, c.top_p, shape, MLX_F32),
                             .min_p = mlx_copy(be->m, c.min_p, shape, MLX_F32),
                             .uniform = mlx_copy(be->m, c.uniform, shape, MLX_F32),
                             .top_k = mlx_copy(be->m, c.top_k, shape, MLX_I32)};
    free(values);
    return mlx_sample(be->m, logits, &p);
}

static bool all_greedy(const struct sample_row *rows, const bool *on_host, int n)
{
    for (int i = 0; i < n; i++) {
        if (!on_host[i] && rows[i].temperature != 0)
            return false;
    }
    return true;
}

/* ---- on the host ---- */

static bool sample_on_host(struct mlx_backend *be, struct mlx_array *logits, const struct sample_row *rows,
                           struct mlx_samples *s)
{
    int n_vocab = mlx_dim(logits, -1);
    size_t scratch_size = (cpu_sampler_scratch_size(n_vocab) + 63) / 64 * 64;
    float *values = malloc((size_t)s->n * (size_t)n_vocab * sizeof *values);
    void *scratch = aligned_alloc(64, scratch_size);
    bool ok = values && scratch;
    if (!ok)
        mlx_fail(be->m, ERR_NO_MEMORY, "there is no memory for samples");
    ok = ok && mlx_read_f32(be->m, logits, values, (size_t)s->n * (size_t)n_vocab);
    for (int i = 0; ok && i < s->n; i++) {
        if (s->on_host[i])
            cpu_sampler_run(values + (size_t)i * (size_t)n_vocab, n_vocab, &rows[i], scratch, &s->results[i]);
    }
    free(values);
    free(scratch);
    return ok;
}

/* The host's ids take their places among the lazy ones. */
static struct mlx_array *merge_ids(struct mlx_backend *be, struct mlx_array *lazy, const struct mlx_samples *s)
{
    int32_t *ids = malloc((size_t)s->n * 2 * sizeof *ids), *from = ids + s->n;
    if (!ids) {
        mlx_fail(be->m, ERR_NO_MEMORY, "there is no memory for samples");
        return NULL;
    }
    for (int i = 0; i < s->n; i++) {
        ids[i] = s->on_host[i] ? s->results[i].id : 0;
        from[i] = s->on_host[i] ? -1 : i;
    }
    struct mlx_shape shape = {1, {s->n}};
    struct mlx_array *host = mlx_copy(be->m, ids, shape, MLX_I32);
    struct mlx_array *merged = lazy ? mlx_choose_ids(be->m, host, mlx_copy(be->m, from, shape, MLX_I32), lazy) : host;
    free(ids);
    return merged;
}

/* ---- both ---- */

/* Rows of the logits in the order of `rows`, f32. */
static struct mlx_array *gather(struct mlx_backend *be, struct tensor *logits, const struct sample_row *rows, int n)
{
    int32_t *at = malloc((size_t)n * sizeof *at);
    bool in_order = logits->n_rows == n;
    if (!at) {
        mlx_fail(be->m, ERR_NO_MEMORY, "there is no memory for samples");
        return NULL;
    }
    for (int i = 0; i < n; i++) {
        at[i] = rows[i].logits_row;
        in_order = in_order && at[i] == i;
        if (at[i] < 0 || at[i] >= logits->n_rows)
            mlx_fail(be->m, ERR_INTERNAL, "a row to sample lies outside the logits");
    }
    struct mlx_array *x = mlx_cast(be->m, logits->a, MLX_F32);
    if (!in_order)
        x = mlx_take(be->m, x, mlx_copy(be->m, at, (struct mlx_shape){1, {n}}, MLX_I32), 0);
    free(at);
    return mlx_ok(be->m) ? x : NULL;
}

struct tensor *mlx__sample(struct backend *base, struct tensor *logits, const struct sample_row *rows, int n)
{
    struct mlx_backend *be = mlx__of(base);
    struct mlx_samples *s = &be->samples[be->step & 1];
    int n_host = 0;
    clear(s);
    if (!logits || n < 1 || !reserve(be, s, n))
        return NULL;
    s->n = n;
    be->samples_step = be->step;
    for (int i = 0; i < n; i++)
        n_host += s->on_host[i] = !is_lazy(be, &rows[i], logits->n_cols);
    struct mlx_array *x = gather(be, logits, rows, n), *ids = NULL;
    if (!x || (n_host && !sample_on_host(be, x, rows, s)))
        return NULL;
    if (n_host < n) {
        ids = all_greedy(rows, s->on_host, n) ? mlx_argmax(be->m, x) : draw(be, x, rows, n);
        s->lse = mlx_hold(be->m, mlx_logsumexp(be->m, x));
    }
    s->ids = mlx_hold(be->m, n_host ? merge_ids(be, ids, s) : ids);
    s->handle = (struct tensor){.a = s->ids, .n_rows = n, .n_cols = 1, .samples = s};
    return s->ids ? &s->handle : NULL;
}

bool mlx__read_samples(struct backend *base, struct tensor *ids, struct sample_result *results, struct error *err)
{
    struct mlx_backend *be = mlx__of(base);
    struct mlx_samples *s = ids ? ids->samples : NULL;
    if (!s || s->n == 0)
        return error_set(err, ERR_INTERNAL, "The step has no samples to read.");
    int32_t *read = malloc((size_t)s->n * sizeof *read);
    float *lse = malloc((size_t)s->n * sizeof *lse);
    bool ok = read && lse;
    if (!ok)
        mlx_fail(be->m, ERR_NO_MEMORY, "there is no memory for samples");
    ok = ok && (!s->lse ||
                (mlx_read_i32(be->m, s->ids, read, (size_t)s->n) && mlx_read_f32(be->m, s->lse, lse, (size_t)s->n)));
    for (int i = 0; ok && i < s->n; i++)
        results[i] =
            s->on_host[i] ? s->results[i] : (struct sample_result){.id = read[i], .finite = isfinite(lse[i]) != 0};
    free(read);
    free(lse);
    return mlx_take_error(be->m, err) && (ok || error_set(err, ERR_INTERNAL, "The samples could not be read."));
}
