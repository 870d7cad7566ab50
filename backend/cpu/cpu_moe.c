/* op_moe: the router's choice, then one expert after the other over the rows that chose it. Rows are gathered, run
 * through the gated MLP as any batch is, and added to their outputs in the order of the experts' numbers, so that a
 * row's bits do not depend on the rows beside it. */
#include "backend/cpu/cpu_internal.h"

#include <math.h>
#include <string.h>

/* ---- the router ---- */

/* What the router chose: expert [n_rows, n_used], weight likewise. */
struct routes {
    int *experts;
    float *weights;
};

/* Of one row; scratch of the router. */
struct scores {
    const float *logits;              /* [n_experts] */
    const float *choice_bias;         /* likewise, or NULL */
    float *score, *choice;            /* likewise */
    float *groups;                    /* [n_groups] */
    int *best_groups, *best_in_group; /* [n_groups_used], [group_top] */
};

/* The k best of n values, best first. */
static void choose(const float *values, int n, int k, int *chosen)
{
    int n_chosen = 0;
    for (int i = 0; i < n; i++) {
        int at = n_chosen; /* candidates come in ascending order: the lower one keeps its place in a tie */
        while (at > 0 && values[i] > values[chosen[at - 1]])
            at--;
        if (at == k)
            continue;
        int last = n_chosen < k ? n_chosen++ : k - 1;
        memmove(chosen + at + 1, chosen + at, (size_t)(last - at) * sizeof *chosen);
        chosen[at] = i;
    }
}

static float largest(const float *x, int n)
{
    float max = x[0];
    for (int i = 1; i < n; i++)
        max = x[i] > max ? x[i] : max;
    return max;
}

static void score(const struct moe_params *p, const struct scores *s)
{
    float max = largest(s->logits, p->n_experts), total = 0;
    for (int e = 0; e < p->n_experts; e++) {
        switch (p->score) {
        case MOE_SOFTMAX:
            s->score[e] = expf(s->logits[e] - max);
            break;
        case MOE_SIGMOID:
            s->score[e] = 1 / (1 + expf(-s->logits[e]));
            break;
        case MOE_SOFTMAX_CHOSEN:
            s->score[e] = s->logits[e];
            break;
        }
        total += s->score[e];
    }
    for (int e = 0; p->score == MOE_SOFTMAX && e < p->n_experts; e++)
        s->score[e] /= total;
}

/* What experts are compared by. A score grows with the logit: where it alone decides, the logits do, of which fewer are
 * equal. */
static void prepare_choice(const struct moe_params *p, const struct scores *s)
{
    bool by_logit = !s->choice_bias && (p->n_groups <= 1 || p->group_top == 1);
    for (int e = 0; e < p->n_experts; e++)
        s->choice[e] = by_logit ? s->logits[e] : s->score[e] + (s->choice_bias ? s->choice_bias[e] : 0);
}

/* Experts of the groups that are left out are never chosen. */
static void leave_groups(const struct moe_params *p, const struct scores *s)
{
    int size = p->n_experts / p->n_groups, n = 0;
    for (int g = 0; g < p->n_groups; g++) {
        choose(s->choice + g * size, size, p->group_top, s->best_in_group);
        s->groups[g] = 0;
        for (int i = 0; i < p->group_top; i++)
            s->groups[g] += s->choice[g * size + s->best_in_group[i]];
    }
    choose(s->groups, p->n_groups, p->n_groups_used, s->best_groups);
    for (int e = 0; e < p->n_experts; e++) {
        bool stays = false;
        for (n = 0; n < p->n_groups_used; n++)
            stays = stays || s->best_groups[n] == e / size;
        s->choice[e] = stays ? s->choice[e] : -INFINITY;
    }
}

/* A sum that could be zero, or nearly: what transformers divides by is at least this much. */
#define LEAST_SUM 1e-20f

static void weigh(const struct moe_params *p, const struct scores *s, const int *chosen, float *weights)
{
    float max = -INFINITY, taken = 0;
    for (int i = 0; i < p->n_used; i++)
        max = s->logits[chosen[i]] > max ? s->logits[chosen[i]] : max;
    for (int i = 0; i < p->n_used; i++) {
        bool softmax = p->score == MOE_SOFTMAX_CHOSEN;
        weights[i] = softmax ? expf(s->logits[chosen[i]] - max) : s->score[chosen[i]];
        taken += weights[i];
    }
    for (int i = 0; i < p->n_used; i++) {
        if (p->norm_weights || p->score == MOE_SOFTMAX_CHOSEN)
            weights[i] /= taken + LEAST_SUM;
        weights[i] *= p->scale;
    }
}

static bool scores_alloc(struct cpu_backend *be, const struct moe_params *p, struct scores *s)
{
    size_t n = (size_t)p->n_experts, n_groups = (size_t)(p->n_groups > 0 ? p->n_groups : 1);
    s->score = cpu__alloc(be, n * sizeof(float));
    s->choice = cpu__alloc(be, n * sizeof(float));
    s->groups = cpu__alloc(be, n_groups * sizeof(float));
    s->best_groups = cpu__alloc(be, n_groups * sizeof(int));
    s->best_in_group = cpu__alloc(be, n * sizeof(int));
    return s->score && s->choice && s->groups && s->best_groups && s->best_in_group;
}

static bool route(struct cpu_backend *be, const struct tensor *logits, const struct moe_weights *w,
                  const struct moe_params *p, struct routes *r)
{
    size_t n = (size_t)logits->n_rows * (size_t)p->n_used;
    struct scores s = {.choice_bias = cpu__vector(w->choice_bias)};
    r->experts = cpu__alloc(be, n * sizeof *r->experts);
    r->weights = cpu__alloc(be, n * sizeof *r->weights);
    if (!r->experts || !r->weights || !scores_alloc(be, p, &s))
        return false;
    for (int t = 0; t < logits->n_rows; t++) {
        s.logits = logits->f32 + (size_t)t * (size_t)logits->n_cols;
        score(p, &s);
        prepare_choice(p, &s);
        if (p->n_groups > 1)
            leave_groups(p, &s);
        choose(s.choice, p->n_experts, p->n_used, r->experts + t * p->n_used);
        weigh(p, &s, r->experts + t * p->n_used, r->weights + t * p->n_used);
    }
    return true;
}

/* ---- experts ---- */

/* One expert of a stack: each is a part of its own (cpu_weight.c). */
struct window {
    struct weight weight;
    struct weight_part part;
};

static struct weight *open_window(const struct weight *stack, int expert, struct window *w)
{
    w->part = stack->parts[expert];
    w->part.first_row = 0;
    w->weight = (struct weight){.n_out = w->part.n_rows, .n_in = stack->n_in, .parts = &w->part, .n_parts = 1};
    return &w->weight;
}

/* Biases of all experts are one vector. */
static struct weight *open_bias(const struct weight *all, int expert, int n_experts, struct window *w)
{
    if (!all)
        return NULL;
    size_t n = all->n_in / (size_t)n_experts;
    w->weight = (struct weight){.n_out = 1, .n_in = n, .vector = all->vector + (size_t)expert * n};
    return &w->weight;
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

static float weight_of(const struct routes *r, const struct moe_params *p, int row, int e)
{
    return r->weights[row * p->n_used + place_of(r, p, row, e)];
}

/* out += weight * y */
static void add_weighted(float *out, const float *y, float weight, int n)
{
    for (int i = 0; i < n; i++)
        out[i] += weight * y[i];
}

/* The rows that chose the expert, weighted where the model weighs what goes into it. */
static struct tensor *gather(struct cpu_backend *be, const struct tensor *x, const struct moe_params *p,
                             const struct routes *r, int e, const int *rows, int n)
{
    struct tensor *y = cpu__tensor(be, n, x->n_cols);
    size_t n_cols = (size_t)x->n_cols;
    for (int i = 0; y && i < n; i++) {
        memcpy(y->f32 + (size_t)i * n_cols, x->f32 + (size_t)rows[i] * n_cols, n_cols * sizeof(float));
        if (p->weigh_input)
            be->kernels->scale(y->f32 + (size_t)i * n_cols, weight_of(r, p, rows[i], e), n_cols);
    }
    return y;
}

static struct tensor *run_windows(struct cpu_backend *be, struct tensor *x, const struct moe_weights *w,
                                  const struct moe_params *p, int e)
{
    struct window windows[6];
    struct gated_mlp mlp = {.gate = open_window(w->gate, e, &windows[0]),
                            .up = open_window(w->up, e, &windows[1]),
                            .down = open_window(w->down, e, &windows[2]),
                            .gate_bias = open_bias(w->gate_bias, e, p->n_experts, &windows[3]),
                            .up_bias = open_bias(w->up_bias, e, p->n_experts, &windows[4]),
                            .down_bias = open_bias(w->down_bias, e, p->n_experts, &windows[5]),
                            .act = p->act};
    return cpu__gated(be, x, &mlp);
}

/* The rows that chose an expert, and what it makes of them added to their outputs. rows: [n_rows] scratch. */
static bool run_expert(struct cpu_backend *be, const struct tensor *x, const struct moe_weights *w,
                       const struct moe_params *p, const struct routes *r, int e, int *rows, struct tensor *out)
{
    int n = 0;
    for (int t = 0; t < x->n_rows; t++) {
        if (place_of(r, p, t, e) >= 0)
            rows[n++] = t;
    }
    if (n == 0)
        return true;
    struct tensor *y = gather(be, x, p, r, e, rows, n);
    y = y ? run_windows(be, y, w, p, e) : NULL;
    for (int i = 0; y && i < n; i++) {
        float weight = p->weigh_input ? 1 : weight_of(r, p, rows[i], e);
        add_weighted(out->f32 + (size_t)rows[i] * (size_t)out->n_cols, y->f32 + (size_t)i * (size_t)y->n_cols, weight,
                     out->n_cols);
    }
    return y != NULL;
}

/* ---- the op ---- */

static bool bias_fits(const struct weight *bias, size_t n)
{
    return !bias || (bias->vector && bias->n_in == n);
}

static bool groups_fit(const struct moe_params *p)
{
    if (p->n_groups <= 1)
        return true;
    int size = p->n_experts / p->n_groups;
    return p->n_experts % p->n_groups == 0 && p->n_groups_used >= 1 && p->n_groups_used <= p->n_groups &&
           p->group_top >= 1 && p->group_top <= size && p->n_used <= p->n_groups_used * size;
}

static bool fits(const struct tensor *x, const struct moe_weights *w, const struct moe_params *p)
{
    size_t n_experts = (size_t)p->n_experts;
    bool counts = p->n_used >= 1 && p->n_used <= p->n_experts && w->router->n_out == n_experts && groups_fit(p);
    bool biases = bias_fits(w->router_bias, n_experts) && bias_fits(w->choice_bias, n_experts) &&
                  bias_fits(w->gate_bias, w->gate->n_out) && bias_fits(w->up_bias, w->up->n_out) &&
                  bias_fits(w->down_bias, w->down->n_out);
    return counts && biases && w->gate->n_parts == p->n_experts && w->up->n_parts == p->n_experts &&
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
    cpu__linear(base, x, 1, &w->router, &w->router_bias, &logits);
    struct tensor *out = logits ? cpu__tensor(be, x->n_rows, x->n_cols) : NULL;
    int *rows = out ? cpu__alloc(be, (size_t)x->n_rows * sizeof *rows) : NULL;
    if (!rows || !route(be, logits, w, p, &r))
        return NULL;
    memset(out->f32, 0, (size_t)x->n_rows * (size_t)x->n_cols * sizeof(float));
    for (int e = 0; e < p->n_experts; e++) {
        if (!run_expert(be, x, w, p, &r, e, rows, out))
            return NULL;
    }
    return out;
}
