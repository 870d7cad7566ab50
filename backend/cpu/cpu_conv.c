/* Short convolutions over pages. A row's products are written to its page first, for all rows; then each row reads back
 * its own and those before it, from this step or an earlier one alike: where a prompt was cut leaves no trace. */
#include "backend/cpu/cpu_internal.h"

struct conv_args {
    const struct cpu_backend *be;
    const struct kv_group *group;
    int group_index, layer;
    const struct tensor *x; /* [n_rows, 3 n]: b, c, u */
    struct tensor *y;       /* [n_rows, n] */
    const float *taps;      /* [n_taps, n] */
    int n_taps;
};

/* Sequence by sequence over the rows [first, end). */
struct cursor {
    const struct batch_seq *seq;
    int row;
};

static struct cursor seek(const struct batch *batch, int row)
{
    const struct batch_seq *seq = batch->seqs;
    while (row >= seq->first_row + seq->n_rows)
        seq++;
    return (struct cursor){seq, row};
}

static void advance(struct cursor *c, int end)
{
    c->row++;
    while (c->row < end && c->row >= c->seq->first_row + c->seq->n_rows)
        c->seq++;
}

static int position_of(const struct cursor *c)
{
    return c->seq->start + c->row - c->seq->first_row;
}

/* Where the products of a position of the sequence lie: [n]. */
static float *kept(const struct conv_args *a, const struct batch_seq *seq, int position)
{
    uint32_t page = seq->pages[a->group_index][position / CPU_PAGE_TOKENS];
    struct kv_head head = cpu__kv_head(a->group, page, a->layer, 0);
    return (float *)(void *)head.v + (size_t)(position % CPU_PAGE_TOKENS) * (size_t)a->group->spec.v_dim;
}

static void write_products(void *arg, int first, int end, int thread)
{
    const struct conv_args *a = arg;
    size_t n = (size_t)a->y->n_cols;
    (void)thread;
    for (struct cursor c = seek(a->be->batch, first); c.row < end; advance(&c, end)) {
        const float *x = a->x->f32 + (size_t)c.row * 3 * n;
        int position = position_of(&c), i = position - c.seq->start;
        a->be->kernels->mul(kept(a, c.seq, position), x, x + 2 * n, n);
        cpu__kv_note_sums(a->group, c.seq, i, i + 1, c.seq->pages[a->group_index][position / CPU_PAGE_TOKENS], a->layer,
                          0);
    }
}

static void convolve_rows(void *arg, int first, int end, int thread)
{
    const struct conv_args *a = arg;
    size_t n = (size_t)a->y->n_cols;
    const float *seen[MAX_CONV_TAPS];
    (void)thread;
    for (struct cursor c = seek(a->be->batch, first); c.row < end; advance(&c, end)) {
        int oldest = position_of(&c) - a->n_taps + 1;
        for (int j = 0; j < a->n_taps; j++)
            seen[j] = oldest + j >= 0 ? kept(a, c.seq, oldest + j) : NULL;
        struct conv_row row = {.n_taps = a->n_taps,
                               .x = seen,
                               .taps = a->taps,
                               .taps_stride = n,
                               .gate = a->x->f32 + ((size_t)c.row * 3 + 1) * n,
                               .y = a->y->f32 + (size_t)c.row * n,
                               .n = n};
        a->be->kernels->convolve(&row);
    }
}

static bool fits(const struct cpu_backend *be, int group, int layer, const struct tensor *x, const struct weight *taps)
{
    const struct kv_group_spec *spec = &be->groups[group].spec;
    return group < be->n_groups && layer < spec->n_layers && spec->type == KV_F32 && spec->n_kv_heads == 1 &&
           spec->k_dim == 0 && spec->window >= 1 && spec->window <= MAX_CONV_TAPS && x->n_rows == be->batch->n_rows &&
           x->n_cols == 3 * spec->v_dim && taps->vector && taps->n_in == (size_t)spec->window * (size_t)spec->v_dim;
}

struct tensor *cpu__short_conv(struct backend *base, int group, int layer, struct tensor *x, struct weight *taps)
{
    struct cpu_backend *be = cpu__of(base);
    if (!x || !taps)
        return NULL;
    if (!fits(be, group, layer, x, taps))
        return cpu__fail(be, ERR_INTERNAL, "A short convolution does not fit its input or its KV group.");
    const struct kv_group *g = &be->groups[group];
    struct conv_args args = {
        be, g, group, layer, x, cpu__tensor(be, x->n_rows, g->spec.v_dim), taps->vector, g->spec.window};
    if (!args.y)
        return NULL;
    cpu__for_rows(be, x->n_rows, (size_t)g->spec.v_dim, write_products, &args);
    cpu__for_rows(be, x->n_rows, (size_t)g->spec.v_dim * (size_t)g->spec.window, convolve_rows, &args);
    return args.y;
}
