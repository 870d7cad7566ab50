/* Rows are made when the writer asks for them, a few hundred KiB at once, on the pool: the model is never in memory.
 * Scales and biases of MLX's groups come with the codes, and wait for their turn. */
#include "model/export_internal.h"

#include "tensor/group_packed.h"
#include "tensor/quantize.h"

#include <assert.h>
#include <math.h>

/* Which row (or element) of a segment is the i-th of what is written. */
static uint64_t source_index(const struct exporter *x, const struct segment *s, uint64_t i)
{
    if (s->heads == 0)
        return s->view.n_dims == 2 && s->n > s->view.shape[0] ? 0 : i;
    uint64_t dim = s->n / (uint64_t)s->heads, head = i / dim, r = i % dim, half = dim / 2;
    uint64_t from = x->to_halves ? (r < half ? 2 * r : 2 * (r - half) + 1) : (r % 2) * half + r / 2;
    return head * dim + from;
}

static const struct segment *segment_at(const struct target *t, uint64_t *row)
{
    const struct segment *s = t->segments;
    while (*row >= s->n)
        *row -= s++->n;
    return s;
}

size_t export__row_size(const struct target *t)
{
    size_t size = 0;
    if (t->choice.type == DTYPE_GROUPED)
        return grouped_row_size(t->choice.bits, t->k);
    return dtype_size(t->choice.type, t->k, &size) ? size : 0;
}

struct job {
    struct target *t;
    uint64_t first;
    uint8_t *dst;
    size_t row_size;
};

/* Scales and biases of a row, which are in the order of rows; scratch: [k]. */
static void keep_row(const struct job *j, const struct tensor_view *view, uint64_t row, uint64_t at, uint8_t *dst,
                     float *scratch)
{
    const struct target *t = j->t;
    struct exporter *x = t->x;
    size_t n = (size_t)(t->k / (uint64_t)t->choice.group_size), size = export__scales_row(t);
    for (size_t first = 0; first < (size_t)t->k; first += 32)
        packed_to_affine(&view->quant, view->data, row, first, t->choice.group_size,
                         &(struct affine_row){dst, scratch, scratch + n});
    bool ok = dtype_from_f32(x->floats, scratch, n, x->scales + at * size) &&
              dtype_from_f32(x->floats, scratch + n, n, x->biases + at * size);
    assert(ok);
    (void)ok;
}

static void make_row(void *arg, int tile, int thread)
{
    struct job *j = arg;
    struct target *t = j->t;
    struct exporter *x = t->x;
    uint64_t at = j->first + (uint64_t)tile, row = at;
    uint8_t *dst = j->dst + (size_t)tile * j->row_size;
    float *values = x->scratch + (size_t)thread * x->max_k;
    const struct segment *s = segment_at(t, &row);
    size_t k = (size_t)t->k;
    if (t->kept) {
        keep_row(j, &s->view, source_index(x, s, row), at, dst, values);
        return;
    }
    tensor_row_to_f32(&s->view, source_index(x, s, row), values);
    if (t->choice.type == DTYPE_GROUPED) {
        struct group_quant q = {
            .mode = GROUP_AFFINE, .bits = t->choice.bits, .group_size = t->choice.group_size, .scale_type = x->floats};
        size_t size = export__scales_row(t);
        quantize_affine_row(&q, values, k, t->importance, dst, x->scales + at * size, x->biases + at * size);
    } else if (quantize_type_known(t->choice.type)) {
        quantize_row(t->choice.type, values, k, t->importance, dst);
    } else if (!dtype_from_f32(t->choice.type, values, k, dst)) {
        assert(!"a type that nobody writes");
    }
}

bool export__fill_rows(struct target *t, uint64_t first, uint64_t n, void *dst, struct error *err)
{
    struct exporter *x = t->x;
    struct job job = {t, first, dst, export__row_size(t)};
    pool_run(x->o->pool, make_row, &job, (int)n);
    x->rows_done += n * t->k;
    return !x->o->progress || x->o->progress(x->o->arg, (double)x->rows_done / (double)x->rows_total) ||
           error_set(err, ERR_CANCELLED, "the writing of a model was stopped at %s.", t->name);
}

size_t export__scales_row(const struct target *t)
{
    return (size_t)(t->k / (uint64_t)t->choice.group_size) * (size_t)dtype_info(t->x->floats)->block_size;
}

/* ---- vectors ---- */

static bool is_norm(enum model_part p)
{
    return p == PART_OUTPUT_NORM || p == PART_ATTN_NORM || p == PART_Q_NORM || p == PART_K_NORM ||
           p == PART_ATTN_POST_NORM || p == PART_MLP_NORM || p == PART_MLP_POST_NORM;
}

/* GGUF has rates of decay as they are, folders the logarithms of their negatives. */
static float as_written(const struct exporter *x, enum model_part part, float value)
{
    if (part == PART_DELTA_RATE && !x->same)
        return x->to_halves ? logf(-value) : -expf(value);
    return value + (is_norm(part) ? x->norm_shift : 0);
}

bool export__make_vector(struct exporter *x, struct target *t)
{
    float *values = arena_alloc_array(x->arena, (size_t)t->k, sizeof(*values));
    float *segment = arena_alloc_array(x->arena, (size_t)t->k, sizeof(*segment));
    t->vector = arena_alloc_array(x->arena, (size_t)t->k, sizeof(float));
    if (!values || !segment || !t->vector)
        return arena_full(x->arena, "vectors of a model", x->err);
    size_t at = 0;
    for (int i = 0; i < t->n_segments; i++) {
        const struct segment *s = &t->segments[i];
        tensor_row_to_f32(&s->view, 0, segment);
        for (uint64_t e = 0; e < s->n; e++)
            values[at++] = as_written(x, t->part, segment[source_index(x, s, e)]);
    }
    return dtype_from_f32(t->choice.type, values, (size_t)t->k, t->vector) ||
           error_set(x->err, ERR_INTERNAL, "The vector %s has no float type.", t->name);
}
