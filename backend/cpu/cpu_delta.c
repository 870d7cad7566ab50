/* The gated delta rule over states. First all rows by themselves: convolved, lengths taken off, gates worked out. Then
 * the recurrence, for each sequence and each DELTA_COLUMNS columns of a value head's state at once: they stay in the
 * fastest memory from the first row to the last, so that S is read and written once in a step.
 *
 * A layer's part of a page:
 *     S          [value heads][blocks of DELTA_COLUMNS columns, the last one narrower][k_dim][columns]
 *     inputs     [n_taps - 1][columns of q, k and v] of the last positions, oldest first; those before the text are
 *                never looked at */
#include "backend/cpu/cpu_internal.h"
#include "backend/state.h"

#include <math.h>
#include <string.h>

enum { Q, K, V, N_INPUTS };

struct delta_args {
    const struct cpu_backend *be;
    const struct kv_group *group;
    int group_index, layer;
    const struct delta_params *p;
    const struct tensor *inputs[N_INPUTS], *gates;
    size_t first_col[N_INPUTS], n_cols[N_INPUTS], cols; /* of q, k and v among their columns */
    const float *taps, *rate, *bias;
    struct tensor *x;       /* [n_rows, cols] convolved */
    struct tensor *factors; /* [n_rows, 2 n_v_heads]: decay, then beta */
    struct tensor *y;       /* [n_rows, n_v_heads * v_dim] */
};

static size_t state_floats(const struct delta_params *p)
{
    return (size_t)p->n_v_heads * (size_t)p->k_dim * (size_t)p->v_dim;
}

/* The layer's part of a page; NULL for no page. */
static float *state_of(const struct delta_args *a, uint32_t page)
{
    size_t at = (size_t)a->layer * kv_state_stride(&a->group->spec);
    return page == KV_PAGE_NONE ? NULL : (float *)(void *)(a->group->base + (size_t)page * a->group->page_size + at);
}

/* The inputs of the position `back` before the one behind the state; back from 1 to n_taps - 1. */
static float *kept(const struct delta_args *a, float *state, int back)
{
    return state + state_floats(a->p) + (size_t)(a->p->n_taps - 1 - back) * a->cols;
}

/* ---- rows by themselves ---- */

/* Where column 0 of an input lies at row `r` of the sequence, which may be one of the rows before it; NULL before the
 * text. */
static const float *input_at(const struct delta_args *a, const struct batch_seq *seq, float *before, int r, int input)
{
    if (seq->start + r < 0)
        return NULL;
    if (r < 0)
        return kept(a, before, -r) + a->first_col[input];
    return a->inputs[input]->f32 + (size_t)(seq->first_row + r) * a->n_cols[input];
}

static void convolve_row(const struct delta_args *a, const struct batch_seq *seq, float *before, int r)
{
    const float *seen[MAX_CONV_TAPS];
    float *x = a->x->f32 + (size_t)(seq->first_row + r) * a->cols;
    for (int input = Q; input < N_INPUTS; input++) {
        for (int j = 0; j < a->p->n_taps; j++)
            seen[j] = input_at(a, seq, before, r - a->p->n_taps + 1 + j, input);
        struct conv_row row = {.n_taps = a->p->n_taps,
                               .x = seen,
                               .taps = a->taps + a->first_col[input],
                               .taps_stride = a->cols,
                               .y = x + a->first_col[input],
                               .n = a->n_cols[input]};
        a->be->kernels->convolve(&row);
    }
    a->be->kernels->activate(x, ACT_SILU, a->cols);
}

/* Heads of q or k divided by their lengths, which are sqrt(k_dim) times the root of the mean that a norm takes off. */
static void take_lengths(const struct delta_args *a, float *x, float factor)
{
    size_t dim = (size_t)a->p->k_dim, n = (size_t)a->p->n_k_heads * dim;
    struct norm_params norm = {.kind = NORM_RMS, .eps = DELTA_LENGTH_EPS / (float)dim, .n_groups = 1};
    for (size_t at = 0; at < n; at += dim)
        a->be->kernels->norm(x + at, (int)dim, &norm, NULL, NULL, x + at);
    a->be->kernels->scale(x, factor, n);
}

static void work_out_gates(const struct delta_args *a, size_t row)
{
    int n = a->p->n_v_heads, per_key = n / a->p->n_k_heads;
    const float *in = a->gates->f32 + row * 2 * (size_t)n;
    float *decay = a->factors->f32 + row * 2 * (size_t)n, *beta = decay + n;
    for (int h = 0; h < n; h++) {
        int at = h / per_key * 2 * per_key + h % per_key;
        float x = in[at + per_key] + a->bias[h];
        float softplus = x > 20 ? x : log1pf(expf(x));
        decay[h] = expf(a->rate[h] * softplus);
        beta[h] = 1 / (1 + expf(-in[at]));
    }
}

static void prepare_rows(void *arg, int first, int end, int thread)
{
    const struct delta_args *a = arg;
    const struct batch *batch = a->be->batch;
    float root = 1 / sqrtf((float)a->p->k_dim);
    (void)thread;
    for (int s = 0; s < batch->n_seqs; s++) {
        const struct batch_seq *seq = &batch->seqs[s];
        int to = end - seq->first_row < seq->n_rows ? end - seq->first_row : seq->n_rows;
        int r = first > seq->first_row ? first - seq->first_row : 0;
        float *before = r < to ? state_of(a, state_first(seq, a->group_index, CPU_PAGE_TOKENS)) : NULL;
        for (; r < to; r++) {
            size_t row = (size_t)(seq->first_row + r);
            float *x = a->x->f32 + row * a->cols;
            convolve_row(a, seq, before, r);
            take_lengths(a, x + a->first_col[Q], root * root);
            take_lengths(a, x + a->first_col[K], root);
            work_out_gates(a, row);
        }
    }
}

/* ---- the recurrence ---- */

/* Some columns of a head, over the rows of a run: `from` is the state before, NULL for zeros. */
static void run_columns(const struct delta_args *a, const struct batch_seq *seq, const struct state_run *run, int item,
                        const float *from)
{
    const struct delta_params *p = a->p;
    int n_blocks = (p->v_dim + DELTA_COLUMNS - 1) / DELTA_COLUMNS, h = item / n_blocks;
    int first = item % n_blocks * DELTA_COLUMNS, left = p->v_dim - first;
    size_t k_dim = (size_t)p->k_dim, v_dim = (size_t)p->v_dim, row = (size_t)(seq->first_row + run->from);
    size_t key = (size_t)(h / (p->n_v_heads / p->n_k_heads)) * k_dim, value = (size_t)h * v_dim + (size_t)first;
    size_t at = ((size_t)h * v_dim + (size_t)first) * k_dim;
    const float *x = a->x->f32 + row * a->cols;
    float *decay = a->factors->f32 + row * 2 * (size_t)p->n_v_heads + h;
    struct delta_columns c = {.n = run->to - run->from,
                              .k_dim = p->k_dim,
                              .width = left < DELTA_COLUMNS ? left : DELTA_COLUMNS,
                              .q = x + a->first_col[Q] + key,
                              .k = x + a->first_col[K] + key,
                              .v = x + a->first_col[V] + value,
                              .q_stride = a->cols,
                              .v_stride = a->cols,
                              .decay = decay,
                              .beta = decay + p->n_v_heads,
                              .gate_stride = 2 * (size_t)p->n_v_heads,
                              .to = state_of(a, run->page) + at,
                              .out = a->y->f32 + row * (size_t)a->y->n_cols + value,
                              .out_stride = (size_t)a->y->n_cols};
    if (!from)
        memset(c.to, 0, k_dim * (size_t)c.width * sizeof(float));
    c.from = from ? from + at : c.to;
    a->be->kernels->delta(&c);
}

/* Inputs of the positions before the end of the run: its own rows', or those that the state before it has kept. In
 * order: where the page is the same, what is overwritten is not needed any more. */
static void keep_inputs(const struct delta_args *a, const struct batch_seq *seq, const struct state_run *run,
                        float *from)
{
    float *to = state_of(a, run->page);
    for (int back = a->p->n_taps - 1; back >= 1; back--) {
        int r = run->to - back;
        float *dst = kept(a, to, back);
        if (r < run->from && from)
            memmove(dst, kept(a, from, run->from - r), a->cols * sizeof(float));
        else if (r < run->from)
            memset(dst, 0, a->cols * sizeof(float));
        for (int input = Q; r >= run->from && input < N_INPUTS; input++)
            memcpy(dst + a->first_col[input], input_at(a, seq, NULL, r, input), a->n_cols[input] * sizeof(float));
    }
}

static int items_of(const struct delta_params *p)
{
    return p->n_v_heads * ((p->v_dim + DELTA_COLUMNS - 1) / DELTA_COLUMNS);
}

/* Items of a sequence: blocks of columns, and the inputs that are kept. */
static void advance_items(void *arg, int first, int end, int thread)
{
    const struct delta_args *a = arg;
    int n_items = items_of(a->p) + 1;
    (void)thread;
    for (int i = first; i < end; i++) {
        const struct batch_seq *seq = &a->be->batch->seqs[i / n_items];
        struct state_run run = {0};
        float *from = seq->n_rows > 0 ? state_of(a, state_first(seq, a->group_index, CPU_PAGE_TOKENS)) : NULL;
        while (state_next(seq, a->group_index, CPU_PAGE_TOKENS, &run)) {
            if (i % n_items < n_items - 1)
                run_columns(a, seq, &run, i % n_items, from);
            else
                keep_inputs(a, seq, &run, from);
            from = state_of(a, run.page);
        }
    }
}

/* ---- the op ---- */

static bool is_vector(const struct weight *w, size_t n)
{
    return w->vector && w->n_in == n;
}

static bool is_shape(const struct tensor *t, int n_rows, size_t n_cols)
{
    return t->n_rows == n_rows && (size_t)t->n_cols == n_cols;
}

static bool fits(const struct cpu_backend *be, int group, int layer, const struct delta_input *x,
                 const struct delta_weights *w, const struct delta_params *p)
{
    if (group >= be->n_groups || !state_fits_delta(&be->groups[group].spec, layer, p))
        return false;
    size_t keys = (size_t)p->n_k_heads * (size_t)p->k_dim, values = (size_t)p->n_v_heads * (size_t)p->v_dim;
    size_t heads = (size_t)p->n_v_heads;
    int n_rows = be->batch->n_rows;
    return is_shape(x->q, n_rows, keys) && is_shape(x->k, n_rows, keys) && is_shape(x->v, n_rows, values) &&
           is_shape(x->gates, n_rows, 2 * heads) && is_vector(w->taps, (size_t)p->n_taps * (2 * keys + values)) &&
           is_vector(w->rate, heads) && is_vector(w->bias, heads);
}

static void run(struct cpu_backend *be, struct delta_args *a)
{
    const struct delta_params *p = a->p;
    size_t per_item = (size_t)p->k_dim * DELTA_COLUMNS * 2;
    size_t rows_each = be->batch->n_seqs > 0 ? (size_t)(a->x->n_rows / be->batch->n_seqs) : 0;
    cpu__for_rows(be, a->x->n_rows, a->cols * (size_t)(p->n_taps + 8), prepare_rows, a);
    cpu__for_rows(be, be->batch->n_seqs * (items_of(p) + 1), per_item * (rows_each + 1), advance_items, a);
}

struct tensor *cpu__delta_net(struct backend *base, int group, int layer, const struct delta_input *x,
                              const struct delta_weights *w, const struct delta_params *p)
{
    struct cpu_backend *be = cpu__of(base);
    if (!x->q || !x->k || !x->v || !x->gates || !w->taps || !w->rate || !w->bias)
        return NULL;
    if (!fits(be, group, layer, x, w, p))
        return cpu__fail(be, ERR_INTERNAL, "A delta rule does not fit its input or its state group.");
    struct delta_args a = {.be = be,
                           .group = &be->groups[group],
                           .group_index = group,
                           .layer = layer,
                           .p = p,
                           .inputs = {x->q, x->k, x->v},
                           .gates = x->gates,
                           .taps = w->taps->vector,
                           .rate = w->rate->vector,
                           .bias = w->bias->vector};
    for (int i = Q; i < N_INPUTS; i++) {
        a.first_col[i] = a.cols;
        a.n_cols[i] = (size_t)a.inputs[i]->n_cols;
        a.cols += a.n_cols[i];
    }
    a.y = cpu__tensor(be, x->q->n_rows, x->v->n_cols);
    a.x = cpu__tensor(be, x->q->n_rows, (int)a.cols);
    a.factors = cpu__tensor(be, x->q->n_rows, 2 * p->n_v_heads);
    if (!a.y || !a.x || !a.factors)
        return NULL;
    run(be, &a);
    return a.y;
}
