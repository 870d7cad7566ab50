/* The ops that treat each row by itself, on activations that lie in caches as they do in a step: embed, norm, add,
 * rope, sample. No bound is given: they are bound by neither memory nor multiply-adds. */
#include "cli/bench_kernels_internal.h"

#include "base/array.h"
#include "base/clock.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_OUTPUT  ((size_t)64 << 20) /* of a step's results */
#define MAX_SAMPLED 64                 /* rows that are sampled at once: an engine's default sequences */
#define ROPE_DIM    64

struct row_op;

struct row_work {
    struct backend *be;
    const struct row_op *op;
    int n_cols;
    struct kernel_input input;
    void *zeros; /* what the weights are made of */
    struct weight *vector;
    struct weight *quantized; /* its being there makes norms quantize what they write */
    struct kernel_batch batch;
    float inv_freq[ROPE_DIM / 2];
    struct sample_row rows[MAX_SAMPLED];
};

enum row_kind { ROW_PLAIN, ROW_QUANTIZED /* the backend holds a weight that takes quantized inputs */, ROW_SAMPLED };

struct row_op {
    const char *name;
    void (*call)(struct row_work *w, struct tensor *x);
    enum row_kind kind;
};

/* ---- ops ---- */

static void call_embed(struct row_work *w, struct tensor *x)
{
    (void)x;
    op_embed(w->be, w->input.table, 1);
}

static void call_norm(struct row_work *w, struct tensor *x)
{
    struct norm_params p = {.kind = NORM_RMS, .eps = 1e-5f, .n_groups = 1};
    op_norm(w->be, x, w->vector, NULL, &p);
}

static void call_add(struct row_work *w, struct tensor *x)
{
    op_add(w->be, x, x);
    op_scale(w->be, x, 0.5f); /* back to where it was */
}

static void call_rope(struct row_work *w, struct tensor *x)
{
    struct rope_params p = {.kind = ROPE_NEOX,
                            .n_heads = w->n_cols / ROPE_DIM,
                            .head_dim = ROPE_DIM,
                            .rot_dim = ROPE_DIM,
                            .inv_freq = w->inv_freq,
                            .attn_factor = 1};
    op_rope(w->be, x, &p);
}

static void call_sample(struct row_work *w, struct tensor *x)
{
    w->be->ops->sample(w->be, x, w->rows, w->batch.batch.n_rows);
}

static const struct row_op row_ops[] = {
    {"embed", call_embed, ROW_PLAIN},
    {"norm", call_norm, ROW_PLAIN},
    {"norm_q8", call_norm, ROW_QUANTIZED},
    {"add_scale", call_add, ROW_PLAIN},
    {"rope", call_rope, ROW_PLAIN},
    {"sample_greedy", call_sample, ROW_SAMPLED},
    {"sample_top_p", call_sample, ROW_SAMPLED},
};

struct row_shape {
    const char *name;
    int n_cols;
    bool vocabulary;
};

static const struct row_shape row_shapes[] = {
    {"smollm2-135m.576", 576, false},    {"qwen2.5-0.5b.896", 896, false},     {"llama-8b.4096", 4096, false},
    {"smollm2-135m.vocab", 49152, true}, {"qwen2.5-0.5b.vocab", 151936, true},
};

/* ---- one op on one shape ---- */

static void release_work(struct row_work *w)
{
    kernels__input_release(&w->input, w->be);
    if (w->vector) {
        w->be->ops->weight_free(w->be, w->vector);
    }
    if (w->quantized) {
        w->be->ops->weight_free(w->be, w->quantized);
    }
    w->be->ops->free(w->be);
    free(w->zeros);
    free(w);
}

static struct weight *make_weight(const struct row_work *w, enum dtype type, uint64_t n_rows, struct error *err)
{
    struct tensor_view view = {
        .name = STR("weight"),
        .type = type,
        .n_dims = n_rows > 1 ? 2 : 1,
        .shape = {n_rows > 1 ? n_rows : (uint64_t)w->n_cols, n_rows > 1 ? (uint64_t)w->n_cols : 1, 1, 1},
        .data = w->zeros};
    if (!dtype_size(type, n_rows * (uint64_t)w->n_cols, &view.size)) {
        error_set(err, ERR_INTERNAL, "Rows of %d columns are no whole blocks.", w->n_cols);
        return NULL;
    }
    return w->be->ops->weight_create(w->be, &(const struct tensor_view *){&view}, 1, err);
}

static bool make_weights(struct row_work *w, struct error *err)
{
    w->zeros = calloc((size_t)w->n_cols * 2, sizeof(float)); /* more than two rows of Q8_0 take */
    if (!w->zeros) {
        return error_set(err, ERR_NO_MEMORY, "There is no memory for a norm's weight.");
    }
    w->vector = make_weight(w, DTYPE_F32, 1, err);
    if (w->vector && w->op->kind == ROW_QUANTIZED) {
        w->quantized = make_weight(w, DTYPE_Q8_0, 2, err);
        return w->quantized != NULL;
    }
    return w->vector != NULL;
}

static void fill_params(struct row_work *w)
{
    bool greedy = strcmp(w->op->name, "sample_greedy") == 0;
    for (int i = 0; i < ROPE_DIM / 2; i++) {
        w->inv_freq[i] = powf(10000.0f, -2.0f * (float)i / ROPE_DIM);
    }
    for (int i = 0; i < MAX_SAMPLED; i++) {
        w->rows[i] = (struct sample_row){.logits_row = i,
                                         .score_id = -1,
                                         .temperature = greedy ? 0 : 0.8f,
                                         .top_p = greedy ? 1 : 0.95f,
                                         .typical_p = 1,
                                         .top_n_sigma = -1,
                                         .repetition_penalty = 1,
                                         .uniform = (i + 0.5) / MAX_SAMPLED};
    }
}

static struct row_work *make_work(const struct kernel_bench *k, const struct row_op *op, int n_cols, struct error *err)
{
    struct row_work *w = calloc(1, sizeof *w);
    if (!w) {
        error_set(err, ERR_NO_MEMORY, "There is no memory for a benchmark.");
        return NULL;
    }
    w->op = op;
    w->n_cols = n_cols;
    w->be = cpu_backend_create(&k->cpu, err);
    if (!w->be) {
        free(w);
        return NULL;
    }
    float (*draw)(uint64_t *) = op->kind == ROW_SAMPLED ? kernels__random_logit : kernels__random;
    fill_params(w);
    if (make_weights(w, err) && kernels__input_init(&w->input, w->be, n_cols, draw, err)) {
        return w;
    }
    release_work(w);
    return NULL;
}

static bool sample_row_op(void *arg, int loops, int64_t *ns, struct error *err)
{
    struct row_work *w = arg;
    if (!w->be->ops->step_begin(w->be, &w->batch.batch, err)) {
        return false;
    }
    struct tensor *x = op_embed(w->be, w->input.table, 1);
    w->op->call(w, x); /* the first of a step makes what the others share, such as the angles of RoPE */
    int64_t start = clock_ns();
    for (int i = 0; i < loops; i++) {
        w->op->call(w, x);
    }
    *ns = clock_ns() - start;
    return w->be->ops->step_end(w->be, err);
}

static bool measure_shape(struct kernel_bench *k, const struct row_op *op, const struct row_shape *shape,
                          struct error *err)
{
    struct row_work *w = make_work(k, op, shape->n_cols, err);
    bool ok = w != NULL;
    for (int i = 0; ok && i < k->tokens.n; i++) {
        int n_tokens = k->tokens.items[i];
        size_t out_size = (size_t)n_tokens * (size_t)shape->n_cols * 2 * sizeof(float);
        struct kernel_case c = {.op = op->name, .shape = shape->name, .tokens = n_tokens};
        if (op->kind == ROW_SAMPLED && n_tokens > MAX_SAMPLED) {
            continue;
        }
        kernels__batch_init(&w->batch, n_tokens);
        ok = kernels__measure(k, &c, sample_row_op, w, (int)(MAX_OUTPUT / out_size) + 1, err);
    }
    if (w) {
        release_work(w);
    }
    return ok;
}

static bool run_row_ops(struct kernel_bench *k, struct error *err)
{
    for (size_t i = 0; i < ARRAY_LEN(row_ops); i++) {
        for (size_t s = 0; s < ARRAY_LEN(row_shapes); s++) {
            bool fits = (row_ops[i].kind == ROW_SAMPLED) == row_shapes[s].vocabulary;
            if (fits && kernels__wanted(k, row_ops[i].name, row_shapes[s].name) &&
                !measure_shape(k, &row_ops[i], &row_shapes[s], err)) {
                return false;
            }
        }
    }
    return true;
}

static const char *row_op_name(enum kernel_name kind, size_t i)
{
    if (kind == KERNEL_OP) {
        return i < ARRAY_LEN(row_ops) ? row_ops[i].name : NULL;
    }
    return kind == KERNEL_SHAPE && i < ARRAY_LEN(row_shapes) ? row_shapes[i].name : NULL;
}

const struct kernel_group kernels__row_ops = {row_op_name, run_row_ops};
