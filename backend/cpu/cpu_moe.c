/* op_moe: the router's choice, then one expert after the other over the rows that chose it. Rows are gathered, run
 * through the gated MLP as any batch is, and added to their outputs in the order of the experts' numbers, so that a
 * row's bits do not depend on the rows beside it. */
#include "backend/cpu/cpu_internal.h"

#include <math.h>
#include <string.h>

/* What the router chose: expert [n_rows, n_used], weight likewise. */
struct routes {
    int *experts;
    float *weights;
};

static bool better(const float *logits, int a, int b)
{
    return logits[a] > logits[b]; /* candidates come in ascending order: the lower one keeps its place in a tie */
}

/* The n_used best of a row, best first. */
static void choose(const float *logits, const struct moe_params *p, int *chosen)
{
    int n = 0;
    for (int e = 0; e < p->n_experts; e++) {
        int at = n;
        while (at > 0 && better(logits, e, chosen[at - 1]))
            at--;
        if (at == p->n_used)
            continue;
        int last = n < p->n_used ? n++ : p->n_used - 1;
        memmove(chosen + at + 1, chosen + at, (size_t)(last - at) * sizeof *chosen);
        chosen[at] = e;
    }
}

/* Softmax over all experts at the chosen ones, in their order; divided by their sum where the model wants it. */
static void weigh(const float *logits, const struct moe_params *p, const int *chosen, float *weights)
{
    float max = logits[chosen[0]], total = 0, taken = 0;
    for (int e = 0; e < p->n_experts; e++)
        total += expf(logits[e] - max);
    for (int i = 0; i < p->n_used; i++) {
        weights[i] = expf(logits[chosen[i]] - max) / total;
        taken += weights[i];
    }
    for (int i = 0; p->norm_weights && i < p->n_used; i++)
        weights[i] /= taken;
}

static bool route(struct cpu_backend *be, const struct tensor *logits, const struct moe_params *p, struct routes *r)
{
    size_t n = (size_t)logits->n_rows * (size_t)p->n_used;
    r->experts = cpu__alloc(be, n * sizeof *r->experts);
    r->weights = cpu__alloc(be, n * sizeof *r->weights);
    if (!r->experts || !r->weights)
        return false;
    for (int t = 0; t < logits->n_rows; t++) {
        const float *row = logits->f32 + (size_t)t * (size_t)logits->n_cols;
        choose(row, p, r->experts + t * p->n_used);
        weigh(row, p, r->experts + t * p->n_used, r->weights + t * p->n_used);
    }
    return true;
}

/* One expert of a stack: each is a part of its own (cpu_weight.c). */
struct window {
    struct weight weight;
    struct weight_part part;
};

static void open_window(const struct weight *stack, int expert, struct window *w)
{
    w->part = stack->parts[expert];
    w->part.first_row = 0;
    w->weight = (struct weight){.n_out = w->part.n_rows, .n_in = stack->n_in, .parts = &w->part, .n_parts = 1};
}

/* Where expert e stands among a row's choices; -1: not chosen. */
static int place_of(const struct routes *r, const struct moe_params *p, int row, int e)
{
    for (int i = 0; i < p->n_used; i++) {
        if (r->experts[row * p->n_used + i] == e)
            return i;
    }
    return -1;
}

static struct tensor *gather(struct cpu_backend *be, const struct tensor *x, const int *rows, int n)
{
    struct tensor *y = cpu__tensor(be, n, x->n_cols);
    size_t n_cols = (size_t)x->n_cols;
    for (int i = 0; y && i < n; i++)
        memcpy(y->f32 + (size_t)i * n_cols, x->f32 + (size_t)rows[i] * n_cols, n_cols * sizeof(float));
    return y;
}

static void add_weighted(float *out, const float *y, float weight, int n)
{
    for (int i = 0; i < n; i++)
        out[i] += weight * y[i];
}

/* out += weight * expert(x) for the rows that chose it. */
static bool run_expert(struct cpu_backend *be, const struct tensor *x, const struct moe_weights *w,
                       const struct moe_params *p, const struct routes *r, int e, int *rows, struct tensor *out)
{
    struct window gate, up, down;
    int n = 0;
    for (int t = 0; t < x->n_rows; t++) {
        if (place_of(r, p, t, e) >= 0)
            rows[n++] = t;
    }
    if (n == 0)
        return true;
    open_window(w->gate, e, &gate);
    open_window(w->up, e, &up);
    open_window(w->down, e, &down);
    struct tensor *y = gather(be, x, rows, n);
    y = y ? cpu__mlp_gated(&be->base, y, &gate.weight, &up.weight, &down.weight, p->act) : NULL;
    for (int i = 0; y && i < n; i++) {
        float weight = p->scale * r->weights[rows[i] * p->n_used + place_of(r, p, rows[i], e)];
        add_weighted(out->f32 + (size_t)rows[i] * (size_t)out->n_cols, y->f32 + (size_t)i * (size_t)y->n_cols, weight,
                     out->n_cols);
    }
    return y != NULL;
}

static bool fits(const struct tensor *x, const struct moe_weights *w, const struct moe_params *p)
{
    bool counts = p->n_used >= 1 && p->n_used <= p->n_experts && (int)w->router->n_out == p->n_experts;
    return counts && w->gate->n_parts == p->n_experts && w->up->n_parts == p->n_experts &&
           w->down->n_parts == p->n_experts && (int)w->down->parts[0].n_rows == x->n_cols;
}

struct tensor *cpu__moe(struct backend *base, struct tensor *x, const struct moe_weights *w, const struct moe_params *p)
{
    struct cpu_backend *be = cpu__of(base);
    struct tensor *logits = NULL;
    struct routes r;
    if (!x)
        return NULL;
    if (!fits(x, w, p))
        return cpu__fail(be, ERR_INTERNAL, "The weights of a mixture are not one part for each of its experts.");
    cpu__linear(base, x, 1, &w->router, NULL, &logits);
    struct tensor *out = logits ? cpu__tensor(be, x->n_rows, x->n_cols) : NULL;
    int *rows = out ? cpu__alloc(be, (size_t)x->n_rows * sizeof *rows) : NULL;
    if (!rows || !route(be, logits, p, &r))
        return NULL;
    memset(out->f32, 0, (size_t)x->n_rows * (size_t)x->n_cols * sizeof(float));
    for (int e = 0; e < p->n_experts; e++) {
        if (!run_expert(be, x, w, p, &r, e, rows, out))
            return NULL;
    }
    return out;
}
