/* Scratch, the order of things, and what is reported. */
#include "backend/cpu/cpu_sampler.h"

#include "backend/cpu/cpu_sampler_internal.h"
#include "base/hash.h"

#include <float.h>
#include <math.h>

/* Scratch: candidates [n + 1], whose memory also holds the penalties' slots [n]; block maxima of the raw and the
 * changed row; DRY's matches; the changed row [n]. */
struct sampler {
    const struct sample_row *row;
    struct sample_result *result;
    struct logits raw, changed;
    struct candidate *candidates;
    int32_t *matches;
    float *work;
    int64_t raw_total; /* of the weights of the raw row at temperature 1; 0: not yet known */
};

static size_t blocks_of(int n_vocab)
{
    return ((size_t)n_vocab + SCAN_BLOCK - 1) / SCAN_BLOCK;
}

size_t cpu_sampler_scratch_size(int n_vocab)
{
    size_t n = (size_t)n_vocab;
    return (n + 1) * sizeof(struct candidate) + 2 * blocks_of(n_vocab) * sizeof(float) +
           CPU_DRY_MAX_MATCH * sizeof(int32_t) + n * sizeof(float);
}

static void lay_out(struct sampler *s, const float *logits, int n_vocab, void *scratch)
{
    s->candidates = scratch;
    float *maxima = (float *)(s->candidates + n_vocab + 1);
    s->matches = (int32_t *)(maxima + 2 * blocks_of(n_vocab));
    s->work = (float *)(s->matches + CPU_DRY_MAX_MATCH);
    s->raw = (struct logits){.x = logits, .n = n_vocab, .block_max = maxima};
    s->changed = (struct logits){.x = s->work, .n = n_vocab, .block_max = maxima + blocks_of(n_vocab)};
}

/* False: nothing is left to sample. */
static bool choose(struct sampler *s)
{
    const struct sample_row *row = s->row;
    if (!cpu_sampler__modifies(row)) {
        s->result->id = cpu_sampler__draw(&s->raw, row, s->candidates, &s->raw_total);
        return true;
    }
    memcpy(s->work, s->raw.x, (size_t)s->raw.n * sizeof(float));
    cpu_sampler__modify(s->work, s->raw.n, row, (int32_t *)s->candidates, s->matches);
    if (!cpu_sampler__scan(&s->changed))
        return false;
    int64_t unused;
    s->result->id = cpu_sampler__draw(&s->changed, row, s->candidates, &unused);
    return true;
}

/* log of the sum of exp(x - max) over the raw row */
static double log_sum(struct sampler *s)
{
    struct scale unscaled = {s->raw.max, CPU_LOG2_E};
    if (s->raw_total == 0)
        s->raw_total = cpu_sampler__total(&s->raw, &unscaled, -INFINITY);
    return cpu_log((double)s->raw_total / (double)CPU_WEIGHT_ONE);
}

static float logprob(const struct sampler *s, float x, double log_of_sum)
{
    return (float)((double)x - (double)s->raw.max - log_of_sum);
}

static void report_top(struct sampler *s, double log_of_sum)
{
    int n_top = s->row->n_top < SAMPLE_MAX_TOP ? s->row->n_top : SAMPLE_MAX_TOP;
    struct candidate *c = s->candidates;
    int n = (int)cpu_sampler__best(&s->raw, (size_t)n_top, -FLT_MAX, c);
    for (int i = 1; i < n; i++) {
        struct candidate e = c[i];
        int at = i;
        for (; at > 0 && c[at - 1].key > e.key; at--)
            c[at] = c[at - 1];
        c[at] = e;
    }
    for (int i = 0; i < n; i++) {
        int32_t id = candidate_id(c[i].key);
        s->result->top[i] = (struct top_logprob){id, logprob(s, s->raw.x[id], log_of_sum)};
    }
    s->result->n_top = n;
}

static void report(struct sampler *s)
{
    bool of_id = s->row->want_logprob || s->row->score_id >= 0;
    if (!of_id && s->row->n_top <= 0)
        return;
    double log_of_sum = log_sum(s);
    s->result->logprob = logprob(s, s->raw.x[s->result->id], log_of_sum);
    if (of_id)
        s->result->rank = cpu_sampler__rank(&s->raw, s->result->id);
    if (s->row->n_top > 0)
        report_top(s, log_of_sum);
}

void cpu_sampler_run(const float *logits, int n_vocab, const struct sample_row *row, void *scratch,
                     struct sample_result *result)
{
    struct sampler s = {.row = row, .result = result};
    memset(result, 0, sizeof *result);
    lay_out(&s, logits, n_vocab, scratch);
    if (row->want_digest)
        result->digest = xxh3(logits, (size_t)n_vocab * sizeof(float), 0);
    if (!cpu_sampler__scan(&s.raw))
        return;
    if (row->score_id >= 0) {
        if (row->score_id >= n_vocab)
            return;
        result->id = row->score_id;
    } else if (!choose(&s)) {
        return;
    }
    result->finite = true;
    report(&s);
}
