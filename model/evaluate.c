#include "model/evaluate.h"

#include <math.h>
#include <stdlib.h>

struct scorer {
    struct text_run *runs[2]; /* the second may be NULL */
    float *logits[2];         /* [TEXT_RUN_ROWS, n_vocab] */
    size_t n_vocab;
    float *kl; /* [n_tokens] */
    double loss[2], kl_sum;
    size_t n_tokens, n_same;
    struct error *err;
};

/* Log-sum-exp; NaN where a logit is not finite. */
static double log_sum(const float *x, size_t n, size_t *top)
{
    double sum = 0;
    *top = 0;
    for (size_t i = 1; i < n; i++)
        *top = x[i] > x[*top] ? i : *top;
    for (size_t i = 0; i < n; i++)
        sum += exp((double)x[i] - (double)x[*top]);
    return (double)x[*top] + log(sum);
}

static double divergence(const float *p, double p_lse, const float *q, double q_lse, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        double lp = (double)p[i] - p_lse;
        sum += exp(lp) * (lp - ((double)q[i] - q_lse));
    }
    return sum > 0 ? sum : 0; /* rounding */
}

static bool score(struct scorer *s, size_t row, int32_t target)
{
    double lse[2] = {0};
    size_t top[2] = {0};
    for (int m = 0; m < 2 && s->runs[m]; m++) {
        const float *x = s->logits[m] + row * s->n_vocab;
        lse[m] = log_sum(x, s->n_vocab, &top[m]);
        if (!isfinite(lse[m]))
            return error_set(s->err, ERR_INTERNAL, "The model's logits are not finite.");
        s->loss[m] += lse[m] - (double)x[target];
    }
    if (s->runs[1]) {
        const float *q = s->logits[0] + row * s->n_vocab, *p = s->logits[1] + row * s->n_vocab;
        double kl = divergence(p, lse[1], q, lse[0], s->n_vocab);
        s->kl[s->n_tokens] = (float)kl;
        s->kl_sum += kl;
        s->n_same += top[0] == top[1];
    }
    s->n_tokens++;
    return true;
}

/* ids: [n] of a window; those from `first` on are scored. */
static bool run_window(struct scorer *s, const int32_t *ids, int n, int first)
{
    for (int at = 0; at < n; at += TEXT_RUN_ROWS) {
        int rows = n - at < TEXT_RUN_ROWS ? n - at : TEXT_RUN_ROWS;
        int out_from = first - 1 > at ? first - 1 : at; /* row i predicts token i + 1 */
        int n_out = at + rows > out_from ? at + rows - out_from : 0;
        for (int m = 0; m < 2 && s->runs[m]; m++) {
            if (!text_run_rows(s->runs[m], ids + at, at, rows, n_out, s->logits[m], s->err))
                return false;
        }
        for (int i = 0; i < n_out && out_from + i + 1 < n; i++) {
            if (!score(s, (size_t)i, ids[out_from + i + 1]))
                return false;
        }
    }
    return true;
}

static bool run_all(struct scorer *s, const int32_t *ids, size_t n, const struct evaluate_options *o,
                    struct evaluation *out)
{
    int lead = o->bos >= 0;
    int32_t *window = malloc((size_t)o->window * sizeof(*window));
    size_t room = (size_t)(o->window - lead), done = lead ? 0 : 1; /* tokens that are scored, or never will be */
    bool ok = window || error_set(s->err, ERR_NO_MEMORY, "There is no memory for a window of tokens.");
    for (size_t at = 0; ok && done < n; at += (size_t)o->stride) {
        size_t len = n - at < room ? n - at : room;
        if (lead)
            window[0] = o->bos;
        memcpy(window + lead, ids + at, len * sizeof(*window));
        ok = run_window(s, window, (int)len + lead, (int)(done - at) + lead);
        done = at + len;
        out->n_windows++;
        if (o->progress)
            o->progress(o->arg, (double)done / (double)n);
    }
    free(window);
    return ok;
}

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void conclude(struct scorer *s, struct evaluation *out)
{
    double n = (double)s->n_tokens;
    out->n_tokens = s->n_tokens;
    out->loss = s->loss[0] / n;
    out->perplexity = exp(out->loss);
    out->compared = s->runs[1] != NULL;
    if (!out->compared)
        return;
    out->other_loss = s->loss[1] / n;
    out->other_perplexity = exp(out->other_loss);
    qsort(s->kl, s->n_tokens, sizeof(*s->kl), by_value);
    out->kl_mean = s->kl_sum / n;
    out->kl_p99 = (double)s->kl[(size_t)((n - 1) * 0.99 + 0.5)];
    out->kl_max = (double)s->kl[s->n_tokens - 1];
    out->same_top = (double)s->n_same / n;
}

static bool check(const struct scorer *s, const int32_t *ids, size_t n, const struct evaluate_options *o)
{
    if (o->window < 2 || o->stride < 1 || o->stride > o->window - (o->bos >= 0))
        return error_set(s->err, ERR_INVALID, "A window of %d tokens and a stride of %d do not go together.", o->window,
                         o->stride);
    if (n < 2)
        return error_set(s->err, ERR_INVALID, "The text has %zu tokens; two are the least.", n);
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0 || (size_t)ids[i] >= s->n_vocab)
            return error_set(s->err, ERR_INVALID, "Token %d is outside the model's vocabulary of %zu.", (int)ids[i],
                             s->n_vocab);
    }
    if (s->runs[1] && (size_t)text_run_config(s->runs[1])->n_vocab != s->n_vocab)
        return error_set(s->err, ERR_INVALID, "The two models have vocabularies of %zu and %d tokens.", s->n_vocab,
                         text_run_config(s->runs[1])->n_vocab);
    return true;
}

bool evaluate_text(struct text_run *r, struct text_run *other, const int32_t *ids, size_t n,
                   const struct evaluate_options *o, struct evaluation *out, struct error *err)
{
    struct scorer s = {.runs = {r, other}, .n_vocab = (size_t)text_run_config(r)->n_vocab, .err = err};
    *out = (struct evaluation){0};
    if (!check(&s, ids, n, o))
        return false;
    s.kl = malloc(n * sizeof(*s.kl));
    bool ok = s.kl != NULL;
    for (int m = 0; m < 2 && s.runs[m]; m++) {
        s.logits[m] = malloc(TEXT_RUN_ROWS * s.n_vocab * sizeof(float));
        ok = ok && s.logits[m];
    }
    if (!ok)
        error_set(err, ERR_NO_MEMORY, "There is no memory for the logits of %d tokens.", TEXT_RUN_ROWS);
    ok = ok && run_all(&s, ids, n, o, out);
    if (ok)
        conclude(&s, out);
    free(s.kl);
    free(s.logits[0]);
    free(s.logits[1]);
    return ok;
}
