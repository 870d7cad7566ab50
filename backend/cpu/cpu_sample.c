/* op_sample: rows side by side on the pool, each by cpu_sampler.h. */
#include "backend/cpu/cpu_internal.h"
#include "backend/cpu/cpu_sampler.h"

#include <string.h>

struct sample_args {
    const struct cpu_backend *be;
    const struct tensor *logits;
    const struct sample_row *rows;
    const struct tensor *out;
};

static void sample_rows(void *arg, int first, int end, int thread)
{
    const struct sample_args *a = arg;
    struct sample_result *results = a->out->samples;
    for (int i = first; i < end; i++) {
        const float *x = a->logits->f32 + (size_t)a->rows[i].logits_row * (size_t)a->logits->n_cols;
        cpu_sampler_run(x, a->logits->n_cols, &a->rows[i], cpu__thread_scratch(a->be, thread), &results[i]);
        a->out->ids[i] = results[i].id;
    }
}

static struct tensor *ids_tensor(struct cpu_backend *be, int n)
{
    struct tensor *out = cpu__alloc_ids(be, sizeof *out);
    if (!out)
        return NULL;
    *out = (struct tensor){.n_rows = n, .n_cols = 1};
    out->ids = cpu__alloc_ids(be, (size_t)n * sizeof *out->ids);
    out->samples = cpu__alloc_ids(be, (size_t)n * sizeof(struct sample_result));
    return out->ids && out->samples ? out : NULL;
}

struct tensor *cpu__sample(struct backend *base, struct tensor *logits, const struct sample_row *rows, int n)
{
    struct cpu_backend *be = cpu__of(base);
    if (!logits)
        return NULL;
    if (!logits->f32 || n < 0)
        return cpu__fail(be, ERR_INTERNAL, "Sampling takes logits.");
    for (int i = 0; i < n; i++) {
        if (rows[i].logits_row < 0 || rows[i].logits_row >= logits->n_rows)
            return cpu__fail(be, ERR_INTERNAL, "A row to sample lies outside the logits.");
    }
    struct tensor *out = ids_tensor(be, n);
    if (!out || !cpu__scratch(be, cpu_sampler_scratch_size(logits->n_cols)))
        return NULL;
    struct sample_args args = {be, logits, rows, out};
    cpu__for_rows(be, n, (size_t)logits->n_cols, sample_rows, &args);
    return out;
}

bool cpu__read_samples(struct backend *base, struct tensor *ids, struct sample_result *results, struct error *err)
{
    (void)base;
    if (!ids || !ids->samples)
        return error_set(err, ERR_INTERNAL, "The step has no samples to read.");
    memcpy(results, ids->samples, (size_t)ids->n_rows * sizeof *results);
    return true;
}
