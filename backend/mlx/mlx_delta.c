/* States and the gated delta rule. A state is a few arrays of MLX's, which never change: a copy of a page names the
 * same ones, and a step that goes on from a page makes others. */
#include "backend/mlx/mlx_internal.h"
#include "backend/state.h"

#include <math.h>
#include <stdlib.h>

/* ---- pages ---- */

static int32_t *tag_of(void *arg, int group, uint32_t page)
{
    return &((struct mlx_backend *)arg)->groups[group].states[page].tag;
}

static bool state_group_of(struct mlx_backend *be, int group, struct state_group *out)
{
    const struct mlx_kv_group *g = &be->groups[group];
    *out = (struct state_group){
        .group = group, .page_tokens = MLX_PAGE_TOKENS, .n_pages = g->n_pages, .arg = be, .tag = tag_of};
    return g->spec.state_size > 0;
}

bool mlx__states_bind(struct mlx_kv_group *g)
{
    g->states = calloc(g->n_pages + 1, sizeof *g->states);
    for (size_t i = 0; g->states && i < g->n_pages; i++)
        g->states[i].tag = KV_NO_STATE;
    return g->states;
}

void mlx__state_drop(struct mlx_backend *be, int group, uint32_t page)
{
    struct mlx_kv_group *g = &be->groups[group];
    struct mlx_state *state = &g->states[page];
    for (int i = 0; state->layers && i < g->spec.n_layers; i++) {
        mlx_drop(state->layers[i].s);
        mlx_drop(state->layers[i].inputs);
    }
    free(state->layers);
    *state = (struct mlx_state){.tag = KV_NO_STATE};
}

static struct mlx_state_layer *layers_of(struct mlx_backend *be, int group, uint32_t page)
{
    struct mlx_kv_group *g = &be->groups[group];
    struct mlx_state *state = &g->states[page];
    if (!state->layers)
        state->layers = calloc((size_t)g->spec.n_layers, sizeof *state->layers);
    if (!state->layers)
        mlx_fail(be->m, ERR_NO_MEMORY, "there is no memory for a state");
    return state->layers;
}

void mlx__state_copy(struct mlx_backend *be, int group, uint32_t src, uint32_t dst)
{
    struct mlx_kv_group *g = &be->groups[group];
    const struct mlx_state *from = &g->states[src];
    mlx__state_drop(be, group, dst);
    struct mlx_state_layer *to = from->layers ? layers_of(be, group, dst) : NULL;
    for (int i = 0; to && i < g->spec.n_layers; i++)
        to[i] = (struct mlx_state_layer){mlx_hold(be->m, from->layers[i].s), mlx_hold(be->m, from->layers[i].inputs)};
    g->states[dst].tag = to ? from->tag : KV_NO_STATE;
}

bool mlx__states_check(struct mlx_backend *be, const struct batch *batch, struct error *err)
{
    struct state_group states;
    for (int g = 0; g < be->n_groups; g++) {
        if (state_group_of(be, g, &states) && !state_check(&states, batch, err))
            return false;
    }
    return true;
}

void mlx__states_forget(struct mlx_backend *be, const struct batch *batch)
{
    struct state_group states;
    for (int g = 0; g < be->n_groups; g++) {
        if (state_group_of(be, g, &states))
            state_forget(&states, batch);
    }
}

void mlx__states_remember(struct mlx_backend *be, const struct batch *batch)
{
    struct state_group states;
    for (int g = 0; g < be->n_groups; g++) {
        if (state_group_of(be, g, &states))
            state_remember(&states, batch);
    }
}

/* ---- what the step wrote ---- */

static void add_page(const struct mlx_kv_group *g, uint32_t page, struct mlx_array **out, size_t *n)
{
    const struct mlx_state_layer *layers = g->states[page].layers;
    for (int i = 0; layers && i < g->spec.n_layers; i++) {
        if (out && layers[i].s)
            out[*n] = layers[i].s;
        *n += layers[i].s != NULL;
        if (out && layers[i].inputs)
            out[*n] = layers[i].inputs;
        *n += layers[i].inputs != NULL;
    }
}

size_t mlx__states_written(struct mlx_backend *be, const struct batch *batch, struct mlx_array **out)
{
    size_t n = 0;
    for (int g = 0; g < be->n_groups; g++) {
        for (int i = 0; be->groups[g].states && i < batch->n_seqs; i++) {
            struct state_run run = {0};
            while (state_next(&batch->seqs[i], g, MLX_PAGE_TOKENS, &run))
                add_page(&be->groups[g], run.page, out, &n);
        }
    }
    return n;
}

/* ---- convolution ----
 *
 *     seen     for each sequence: the n_taps - 1 inputs before its rows, zeros before the text; its rows   [..., cols]
 */

struct delta_step {
    struct mlx_backend *be;
    const struct delta_params *p;
    int group, layer, keys, values, cols;
    struct mlx_array *seen;
    struct mlx_delta rows; /* of all sequences; state is not set */
};

static struct mlx_state_layer *state_before(const struct delta_step *d, const struct batch_seq *seq)
{
    uint32_t page = state_first(seq, d->group, MLX_PAGE_TOKENS);
    struct mlx_state_layer *layers = page == KV_PAGE_NONE ? NULL : d->be->groups[d->group].states[page].layers;
    return layers ? &layers[d->layer] : NULL;
}

static struct mlx_array *inputs_before(const struct delta_step *d, const struct batch_seq *seq)
{
    const struct mlx_state_layer *before = state_before(d, seq);
    if (before)
        return before->inputs;
    return mlx_zeros(d->be->m, (struct mlx_shape){2, {d->p->n_taps - 1, d->cols}}, MLX_F32);
}

/* x: f32 [n_rows, cols] */
static struct mlx_array *put_together(const struct delta_step *d, struct mlx_array *x)
{
    const struct batch *b = d->be->batch;
    int n = 0;
    if (d->p->n_taps == 1)
        return x;
    for (int i = 0; i < b->n_seqs; i++) {
        const struct batch_seq *seq = &b->seqs[i];
        if (seq->n_rows == 0)
            continue;
        d->be->parts[n++] = inputs_before(d, seq);
        d->be->parts[n++] = mlx_slice(d->be->m, x, 0, seq->first_row, seq->first_row + seq->n_rows);
    }
    return mlx_concat(d->be->m, d->be->parts, n, 0);
}

/* Where row 0 of a sequence meets the oldest tap in `seen`. */
static int first_seen(const struct delta_step *d, int seq)
{
    int at = 0;
    for (int i = 0; i < seq; i++)
        at += d->be->batch->seqs[i].n_rows > 0 ? d->p->n_taps - 1 + d->be->batch->seqs[i].n_rows : 0;
    return at;
}

/* What tap j multiplies, [n_rows, cols]. */
static struct mlx_array *at_tap(const struct delta_step *d, int j)
{
    const struct batch *b = d->be->batch;
    int n = 0;
    for (int i = 0; i < b->n_seqs; i++) {
        int at = first_seen(d, i) + j;
        if (b->seqs[i].n_rows > 0)
            d->be->parts[n++] = mlx_slice(d->be->m, d->seen, 0, at, at + b->seqs[i].n_rows);
    }
    return n == 1 ? d->be->parts[0] : mlx_concat(d->be->m, d->be->parts, n, 0);
}

static bool only_ones(const struct batch *b)
{
    for (int i = 0; i < b->n_seqs; i++) {
        if (b->seqs[i].n_rows != 1)
            return false;
    }
    return true;
}

/* Where each sequence has one row, `seen` has n_taps rows of each: three nodes for all of them. */
static struct mlx_array *convolve(const struct delta_step *d, struct weight *taps)
{
    struct mlx_context *m = d->be->m;
    struct mlx_array *by = mlx_cast(m, mlx__vector(taps), MLX_F32), *sum = NULL;
    int n_rows = d->be->batch->n_rows;
    by = mlx_reshape(m, by, (struct mlx_shape){2, {d->p->n_taps, d->cols}});
    if (only_ones(d->be->batch)) {
        struct mlx_array *windows = mlx_reshape(m, d->seen, (struct mlx_shape){3, {n_rows, d->p->n_taps, d->cols}});
        return mlx_activate(m, mlx_mix(m, mlx_multiply(m, windows, by), NULL), ACT_SILU);
    }
    for (int j = 0; j < d->p->n_taps; j++) {
        struct mlx_array *term = mlx_multiply(m, at_tap(d, j), mlx_slice(m, by, 0, j, j + 1));
        sum = sum ? mlx_add(m, sum, term) : term;
    }
    return mlx_activate(m, sum, ACT_SILU);
}

/* ---- rows by themselves ---- */

/* Heads of q or k divided by their lengths, times a factor. */
static struct mlx_array *take_lengths(const struct delta_step *d, struct mlx_array *x, float factor)
{
    struct mlx_context *m = d->be->m;
    int n_rows = d->be->batch->n_rows;
    struct norm_params p = {.kind = NORM_RMS, .eps = DELTA_LENGTH_EPS / (float)d->p->k_dim};
    x = mlx_reshape(m, x, (struct mlx_shape){2, {n_rows * d->p->n_k_heads, d->p->k_dim}});
    x = mlx_scale(m, mlx_norm(m, x, NULL, NULL, &p), factor);
    return mlx_reshape(m, x, (struct mlx_shape){2, {n_rows, d->keys}});
}

/* One of the two gates of each value head: [n_rows, n_v_heads] */
static struct mlx_array *gate_of(const struct delta_step *d, struct mlx_array *gates, int which)
{
    struct mlx_context *m = d->be->m;
    int n_rows = d->be->batch->n_rows, per_key = d->p->n_v_heads / d->p->n_k_heads;
    struct mlx_array *all = mlx_reshape(m, gates, (struct mlx_shape){4, {n_rows, d->p->n_k_heads, 2, per_key}});
    return mlx_reshape(m, mlx_slice(m, all, 2, which, which + 1), (struct mlx_shape){2, {n_rows, d->p->n_v_heads}});
}

static void prepare(struct delta_step *d, const struct delta_input *x, const struct delta_weights *w)
{
    struct mlx_backend *be = d->be;
    struct mlx_context *m = be->m;
    struct mlx_array *inputs[3] = {mlx__flat(be, x->q), mlx__flat(be, x->k), mlx__flat(be, x->v)};
    float root = 1 / sqrtf((float)d->p->k_dim);
    d->seen = put_together(d, mlx_cast(m, mlx_concat(m, inputs, 3, 1), MLX_F32));
    struct mlx_array *y = convolve(d, w->taps), *gates = mlx_cast(m, mlx__flat(be, x->gates), MLX_F32);
    struct mlx_array *a = mlx_add(m, gate_of(d, gates, 1), mlx_cast(m, mlx__exact(w->bias), MLX_F32));
    d->rows = (struct mlx_delta){
        .q = take_lengths(d, mlx_slice(m, y, 1, 0, d->keys), root * root),
        .k = take_lengths(d, mlx_slice(m, y, 1, d->keys, 2 * d->keys), root),
        .v = mlx_slice(m, y, 1, 2 * d->keys, d->cols),
        .decay = mlx_multiply(m, mlx_softplus(m, a), mlx_cast(m, mlx__exact(w->rate), MLX_F32)),
        .beta = mlx_sigmoid(m, gate_of(d, gates, 0)),
    };
}

/* ---- the recurrence ---- */

/* The state behind a run of a sequence, to its page. */
static void keep_state(const struct delta_step *d, int seq, const struct state_run *run, struct mlx_array *s)
{
    struct mlx_context *m = d->be->m;
    struct mlx_state_layer *layers = layers_of(d->be, d->group, run->page);
    int at = first_seen(d, seq) + run->to;
    struct mlx_array *inputs = NULL;
    if (d->p->n_taps > 1) /* contiguous: not a view that keeps all of `seen` */
        inputs = mlx_contiguous(m, mlx_slice(m, d->seen, 0, at, at + d->p->n_taps - 1));
    if (!layers || !mlx_ok(m))
        return;
    struct mlx_state_layer was = layers[d->layer];
    layers[d->layer] = (struct mlx_state_layer){mlx_hold(m, s), inputs ? mlx_hold(m, inputs) : NULL};
    mlx_drop(was.s);
    mlx_drop(was.inputs);
}

static struct mlx_array *rows_of(const struct delta_step *d, struct mlx_array *x, int first, int end)
{
    return first == 0 && end == d->be->batch->n_rows ? x : mlx_slice(d->be->m, x, 0, first, end);
}

/* out[*n_outs ...]: what each run of a sequence gives. */
static void advance(const struct delta_step *d, int seq, struct mlx_array **out, int *n_outs)
{
    const struct batch_seq *b = &d->be->batch->seqs[seq];
    const struct mlx_state_layer *before = state_before(d, b);
    struct mlx_shape shape = {3, {d->p->n_v_heads, d->p->k_dim, d->p->v_dim}};
    struct mlx_array *s = before ? before->s : mlx_zeros(d->be->m, shape, MLX_F32);
    struct state_run run = {0};
    while (state_next(b, d->group, MLX_PAGE_TOKENS, &run)) {
        int first = b->first_row + run.from, end = b->first_row + run.to;
        struct mlx_delta in = {.q = rows_of(d, d->rows.q, first, end),
                               .k = rows_of(d, d->rows.k, first, end),
                               .v = rows_of(d, d->rows.v, first, end),
                               .decay = rows_of(d, d->rows.decay, first, end),
                               .beta = rows_of(d, d->rows.beta, first, end),
                               .state = s};
        out[(*n_outs)++] = mlx_delta(d->be->m, &in, d->p, &s);
        keep_state(d, seq, &run, s);
    }
}

/* Runs of all sequences. */
static int count_runs(const struct delta_step *d)
{
    int n = 0;
    for (int i = 0; i < d->be->batch->n_seqs; i++) {
        struct state_run run = {0};
        while (state_next(&d->be->batch->seqs[i], d->group, MLX_PAGE_TOKENS, &run))
            n++;
    }
    return n;
}

static struct mlx_array *advance_all(const struct delta_step *d)
{
    int n = 0, cap = count_runs(d);
    struct mlx_array **outs = calloc((size_t)cap + 1, sizeof *outs), *all = NULL;
    if (!outs)
        mlx_fail(d->be->m, ERR_NO_MEMORY, "there is no memory for the runs of a step");
    for (int i = 0; outs && i < d->be->batch->n_seqs; i++)
        advance(d, i, outs, &n);
    if (mlx_ok(d->be->m))
        all = n == 1 ? outs[0] : mlx_concat(d->be->m, outs, n, 0);
    free(outs);
    return all;
}

/* ---- the op ---- */

static bool fits(const struct mlx_backend *be, int group, int layer, const struct delta_input *x,
                 const struct delta_weights *w, const struct delta_params *p)
{
    if (group >= be->n_groups || !state_fits_delta(&be->groups[group].spec, layer, p))
        return false;
    int keys = p->n_k_heads * p->k_dim, values = p->n_v_heads * p->v_dim;
    return x->q->n_cols == keys && x->k->n_cols == keys && x->v->n_cols == values &&
           x->gates->n_cols == 2 * p->n_v_heads && x->q->n_rows == be->batch->n_rows &&
           w->taps->info.n_in == (size_t)p->n_taps * (size_t)(2 * keys + values) &&
           w->rate->info.n_in == (size_t)p->n_v_heads && w->bias->info.n_in == (size_t)p->n_v_heads;
}

struct tensor *mlx__delta_net(struct backend *base, int group, int layer, const struct delta_input *x,
                              const struct delta_weights *w, const struct delta_params *p)
{
    struct mlx_backend *be = mlx__of(base);
    if (!x->q || !x->k || !x->v || !x->gates || !w->taps || !w->rate || !w->bias)
        return NULL;
    if (!fits(be, group, layer, x, w, p)) {
        mlx_fail(be->m, ERR_INTERNAL, "a delta rule does not fit its input or its state group");
        return NULL;
    }
    struct delta_step d = {.be = be,
                           .p = p,
                           .group = group,
                           .layer = layer,
                           .keys = p->n_k_heads * p->k_dim,
                           .values = p->n_v_heads * p->v_dim,
                           .cols = 2 * p->n_k_heads * p->k_dim + p->n_v_heads * p->v_dim};
    prepare(&d, x, w);
    struct mlx_array *y = mlx_cast(be->m, advance_all(&d), mlx__activations(be));
    return mlx__tensor(be, y, x->q->n_rows, d.values);
}
