/* Row-wise ops between products: vectors times a vector, gates that are thinned out, streams of AltUp. Sums over a row
 * are made in LANES partial sums, which are added in one order, whatever the instruction set. */
#include "backend/cpu/cpu_internal.h"

#include <math.h>
#include <string.h>

#define LANES 16

struct stream_args {
    const struct cpu_backend *be;
    struct tensor *x;               /* what is changed */
    const struct tensor *y, *other; /* by op */
    const float *vector;
    const struct stream_params *p;
    enum activation act;
    const float *sparsity;
    int first; /* vector */
};

static float *row_of(const struct tensor *t, int row)
{
    return t->f32 + (size_t)row * (size_t)t->n_cols;
}

static float sum_lanes(const float *lanes)
{
    float sum = 0;
    for (int i = 0; i < LANES; i++)
        sum += lanes[i];
    return sum;
}

static float mean_of(const float *x, size_t n)
{
    float lanes[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (size_t k = 0; k < LANES; k++)
            lanes[k] += x[i + k];
    }
    for (; i < n; i++)
        lanes[i % LANES] += x[i];
    return sum_lanes(lanes) / (float)n;
}

/* Of the squares of what x is more than `from`. */
static float mean_square(const float *x, float from, size_t n)
{
    float lanes[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (size_t k = 0; k < LANES; k++)
            lanes[k] += (x[i + k] - from) * (x[i + k] - from);
    }
    for (; i < n; i++)
        lanes[i % LANES] += (x[i] - from) * (x[i] - from);
    return sum_lanes(lanes) / (float)n;
}

/* ---- vectors ---- */

static void multiply_rows(void *arg, int first, int end, int thread)
{
    const struct stream_args *a = arg;
    (void)thread;
    for (int t = first; t < end; t++)
        a->be->kernels->mul(row_of(a->x, t), row_of(a->x, t), a->vector, (size_t)a->x->n_cols);
}

struct tensor *cpu__multiply(struct backend *base, struct tensor *x, struct weight *vector)
{
    struct cpu_backend *be = cpu__of(base);
    if (!x)
        return NULL;
    if (!vector || !vector->vector || vector->n_in != (size_t)x->n_cols)
        return cpu__fail(be, ERR_INTERNAL, "A tensor is multiplied by a vector of another length.");
    struct stream_args args = {.be = be, .x = x, .vector = vector->vector};
    cpu__for_rows(be, x->n_rows, (size_t)x->n_cols, multiply_rows, &args);
    x->q8 = NULL;
    return x;
}

static void add_each_rows(void *arg, int first, int end, int thread)
{
    const struct stream_args *a = arg;
    int n = a->y->n_cols;
    (void)thread;
    for (int t = first; t < end; t++) {
        for (int at = a->first * n; at < a->x->n_cols; at += n)
            a->be->kernels->add(row_of(a->x, t) + at, row_of(a->y, t), (size_t)n);
    }
}

struct tensor *cpu__add_each(struct backend *base, struct tensor *x, int n_heads, int first, struct tensor *y)
{
    struct cpu_backend *be = cpu__of(base);
    if (!x || !y)
        return NULL;
    if (x->n_rows != y->n_rows || (long)y->n_cols * n_heads != x->n_cols || first < 0 || first > n_heads)
        return cpu__fail(be, ERR_INTERNAL, "A vector is added to vectors of another length.");
    struct stream_args args = {.be = be, .x = x, .y = y, .first = first};
    cpu__for_rows(be, x->n_rows, (size_t)x->n_cols, add_each_rows, &args);
    x->q8 = NULL;
    return x;
}

/* ---- gates ---- */

/* What is left of a row of numbers from a normal distribution: the share above its quantile. */
static void thin_out(float *x, float sparsity, size_t n)
{
    float mean = mean_of(x, n), cutoff = mean + sparsity * sqrtf(mean_square(x, mean, n));
    for (size_t i = 0; i < n; i++)
        x[i] = x[i] > cutoff ? x[i] - cutoff : 0;
}

static void activate_rows(void *arg, int first, int end, int thread)
{
    const struct stream_args *a = arg;
    size_t n = (size_t)a->x->n_cols;
    (void)thread;
    for (int t = first; t < end; t++) {
        float *x = row_of(a->x, t);
        if (a->sparsity)
            thin_out(x, *a->sparsity, n);
        a->be->kernels->activate_mul(x, row_of(a->y, t), a->act, n);
    }
}

struct tensor *cpu__activate_mul(struct backend *base, struct tensor *gate, struct tensor *up, enum activation act,
                                 const float *sparsity)
{
    struct cpu_backend *be = cpu__of(base);
    if (!gate || !up)
        return NULL;
    if (gate->n_rows != up->n_rows || gate->n_cols != up->n_cols)
        return cpu__fail(be, ERR_INTERNAL, "A gate has another shape than what it is for.");
    struct stream_args args = {.be = be, .x = gate, .y = up, .act = act, .sparsity = sparsity};
    cpu__for_rows(be, gate->n_rows, (size_t)gate->n_cols * 8, activate_rows, &args);
    gate->q8 = NULL;
    return gate;
}

/* ---- streams ---- */

#define MATCH_LEAST 1e-5f /* of a mean square */

static void match_rows(void *arg, int first, int end, int thread)
{
    const struct stream_args *a = arg;
    size_t n = (size_t)a->other->n_cols;
    (void)thread;
    for (int t = first; t < end; t++) {
        float wanted = sqrtf(mean_square(row_of(a->other, t), 0, n));
        float *y = row_of(a->x, t), *behind = y + a->x->n_cols;
        for (; y < behind; y += n) {
            float square = mean_square(y, 0, n);
            float factor = wanted / sqrtf(square > MATCH_LEAST ? square : MATCH_LEAST);
            a->be->kernels->scale(y, factor, n);
        }
    }
}

struct tensor *cpu__match(struct backend *base, struct tensor *x, struct tensor *y)
{
    struct cpu_backend *be = cpu__of(base);
    if (!x || !y)
        return NULL;
    if (x->n_rows != y->n_rows || y->n_cols % x->n_cols != 0)
        return cpu__fail(be, ERR_INTERNAL, "Vectors are matched with one of another length.");
    struct stream_args args = {.be = be, .x = y, .other = x};
    cpu__for_rows(be, y->n_rows, (size_t)y->n_cols * 2, match_rows, &args);
    y->q8 = NULL;
    return y;
}

/* out[i] = coefs[i] . tanh(routed * scale) */
static void mix_coefs(const struct stream_args *a, int row, int n_out, float *out)
{
    const float *routed = row_of(a->other, row), *coefs = a->vector;
    float modalities[MAX_STREAMS];
    int n = a->p->n;
    for (int k = 0; k < n; k++)
        modalities[k] = tanhf(routed[k] * a->p->scale);
    for (int i = 0; i < n_out; i++, coefs += n) {
        out[i] = 0;
        for (int k = 0; k < n; k++)
            out[i] += coefs[k] * modalities[k];
    }
}

/* LANES elements of each stream, from x on, width apart; what is behind `some` of them is no number of a stream. */
static void predict_lanes(float *x, size_t width, size_t some, int n, const float *coefs)
{
    float old[MAX_STREAMS][LANES] = {{0}};
    for (int i = 0; i < n; i++)
        memcpy(old[i], x + (size_t)i * width, some * sizeof(float));
    for (int i = 0; i < n; i++) {
        float sum[LANES] = {0};
        for (int j = 0; j < n; j++) {
            float coef = coefs[i * n + j];
            for (size_t k = 0; k < LANES; k++)
                sum[k] += coef * old[j][k];
        }
        for (size_t k = 0; k < LANES; k++)
            sum[k] += old[i][k];
        memcpy(x + (size_t)i * width, sum, some * sizeof(float));
    }
}

static void predict_rows(void *arg, int first, int end, int thread)
{
    const struct stream_args *a = arg;
    int n = a->p->n;
    size_t width = (size_t)(a->x->n_cols / n);
    (void)thread;
    for (int t = first; t < end; t++) {
        float coefs[MAX_STREAMS * MAX_STREAMS];
        mix_coefs(a, t, n * n, coefs);
        for (size_t e = 0; e < width; e += LANES)
            predict_lanes(row_of(a->x, t) + e, width, width - e < LANES ? width - e : LANES, n, coefs);
    }
}

static void correct_rows(void *arg, int first, int end, int thread)
{
    const struct stream_args *a = arg;
    int n = a->p->n;
    size_t width = (size_t)(a->x->n_cols / n);
    float *news = cpu__thread_scratch(a->be, thread);
    for (int t = first; t < end; t++) {
        float coefs[MAX_STREAMS], *x = row_of(a->x, t), *active = x + (size_t)a->p->active * width;
        const float *y = row_of(a->y, t);
        mix_coefs(a, t, n, coefs);
        for (size_t e = 0; e < width; e++)
            news[e] = y[e] - active[e];
        for (int i = 0; i < n; i++, x += width) {
            float coef = 1 + coefs[i];
            for (size_t e = 0; e < width; e++)
                x[e] += coef * news[e];
        }
    }
}

static bool streams_fit(const struct tensor *x, const struct tensor *routed, const struct weight *coefs, int n_coefs,
                        const struct stream_params *p)
{
    return p->n > 0 && p->n <= MAX_STREAMS && p->active >= 0 && p->active < p->n && x->n_cols % p->n == 0 &&
           routed->n_rows == x->n_rows && routed->n_cols == p->n && coefs && coefs->vector &&
           coefs->n_in == (size_t)(n_coefs * p->n);
}

struct tensor *cpu__stream_predict(struct backend *base, struct tensor *x, struct tensor *routed, struct weight *coefs,
                                   const struct stream_params *p)
{
    struct cpu_backend *be = cpu__of(base);
    if (!x || !routed)
        return NULL;
    if (!streams_fit(x, routed, coefs, p->n * p->n, p))
        return cpu__fail(be, ERR_INTERNAL, "The streams of a row do not fit what predicts them.");
    struct stream_args args = {.x = x, .other = routed, .vector = coefs->vector, .p = p};
    cpu__for_rows(be, x->n_rows, (size_t)(x->n_cols * p->n), predict_rows, &args);
    x->q8 = NULL;
    return x;
}

struct tensor *cpu__stream_correct(struct backend *base, struct tensor *x, struct tensor *y, struct tensor *routed,
                                   struct weight *coefs, const struct stream_params *p)
{
    struct cpu_backend *be = cpu__of(base);
    if (!x || !y || !routed)
        return NULL;
    if (!streams_fit(x, routed, coefs, p->n, p) || y->n_rows != x->n_rows || y->n_cols != x->n_cols / p->n)
        return cpu__fail(be, ERR_INTERNAL, "The streams of a row do not fit what corrects them.");
    if (!cpu__scratch(be, (size_t)y->n_cols * sizeof(float)))
        return NULL;
    struct stream_args args = {.be = be, .x = x, .y = y, .other = routed, .vector = coefs->vector, .p = p};
    cpu__for_rows(be, x->n_rows, (size_t)x->n_cols * 2, correct_rows, &args);
    x->q8 = NULL;
    return x;
}
