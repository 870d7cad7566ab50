/* Parts copied out of tensors that hold them otherwise than the decoder takes them (enum weight_layout). Values stay as
 * they are, but for blocks of a quantized type whose rows become columns: those are expanded to f32. */
#include "model/model_internal.h"

#include "base/array.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- rows stay rows ---- */

static uint64_t row_of(const struct part_place *p, uint64_t block, uint64_t i)
{
    uint64_t n_parts = (uint64_t)p->n_parts, within = p->first + i;
    if (p->layout == LAYOUT_ALTERNATING_ROWS)
        within = i * n_parts + (uint64_t)p->index;
    return block * p->block + within;
}

/* Rows of `size` bytes from src to dst, which is moved behind them. */
static const uint8_t *gather_rows(const struct part_place *p, const void *src, size_t size, uint8_t **dst)
{
    const uint8_t *begin = *dst, *from = src;
    uint64_t n_blocks = p->n_blocks ? p->n_blocks : 1;
    for (uint64_t b = 0; b < n_blocks; b++) {
        for (uint64_t i = 0; i < p->rows; i++, *dst += size)
            memcpy(*dst, from + row_of(p, b, i) * size, size);
    }
    return begin;
}

struct row_sizes { /* bytes of a row */
    size_t data, scales, biases;
};

static bool sizes_of(const struct tensor_view *t, uint64_t cols, struct row_sizes *s)
{
    const struct group_quant *q = &t->quant;
    *s = (struct row_sizes){0};
    if (t->type != DTYPE_GROUPED)
        return dtype_size(t->type, (size_t)cols, &s->data);
    s->data = grouped_row_size(q->bits, cols);
    s->scales = group_scales_size(q, 1, cols) / (q->biases ? 2 : 1);
    s->biases = q->biases ? s->scales : 0;
    return true;
}

static bool copy_rows(const struct part_place *p, const struct tensor_view *t, struct tensor_view *out, void **memory)
{
    uint64_t n_rows = (p->n_blocks ? p->n_blocks : 1) * p->rows;
    struct row_sizes s;
    size_t size;
    if (!sizes_of(t, p->cols, &s) || !size_mul((size_t)n_rows, s.data + s.scales + s.biases, &size))
        return false;
    uint8_t *at = *memory = malloc(size);
    if (!at)
        return false;
    out->size = (size_t)n_rows * s.data;
    out->data = gather_rows(p, t->data, s.data, &at);
    if (s.scales)
        out->quant.scales = gather_rows(p, t->quant.scales, s.scales, &at);
    if (s.biases)
        out->quant.biases = gather_rows(p, t->quant.biases, s.biases, &at);
    return true;
}

/* ---- columns become rows ---- */

/* One row of the tensor: its element of column i goes to row i of the part. */
struct scatter {
    const struct part_place *p;
    size_t item; /* bytes of an element */
    uint8_t *dst;
};

static uint64_t column_of(const struct part_place *p, uint64_t i)
{
    if (p->layout == LAYOUT_ALTERNATING_COLUMNS)
        return i * (uint64_t)p->n_parts + (uint64_t)p->index;
    return p->layout == LAYOUT_COLUMNS ? p->first + i : i;
}

static void scatter_row(const struct scatter *s, const uint8_t *row, uint64_t block, uint64_t column)
{
    const struct part_place *p = s->p;
    uint8_t *dst = s->dst + (block * p->rows * p->cols + column) * s->item;
    for (uint64_t i = 0; i < p->rows; i++, dst += p->cols * s->item)
        memcpy(dst, row + column_of(p, i) * s->item, s->item);
}

static bool copy_columns(const struct part_place *p, const struct tensor_view *t, struct tensor_view *out,
                         void **memory)
{
    const struct dtype_info *info = dtype_info(t->type);
    struct tensor_view matrix = tensor_as_matrix(t);
    uint64_t n_blocks = p->n_blocks ? p->n_blocks : 1, stride = p->turned ? p->block : p->cols;
    bool plain = t->type != DTYPE_GROUPED && !info->quantized;
    size_t item = plain ? (size_t)info->block_size : sizeof(float), size, n_columns = (size_t)matrix.shape[1];
    float *expanded = malloc(n_columns * sizeof(float));
    bool ok = size_mul((size_t)(n_blocks * p->rows), (size_t)p->cols * item, &size);
    struct scatter s = {p, item, ok ? malloc(size) : NULL};
    *memory = s.dst;
    for (uint64_t r = 0; expanded && s.dst && r < n_blocks * p->cols; r++) {
        uint64_t row = r / p->cols * stride + r % p->cols;
        if (!plain)
            tensor_row_to_f32(&matrix, row, expanded);
        const uint8_t *src = (const uint8_t *)t->data + row * n_columns * item;
        scatter_row(&s, plain ? src : (const uint8_t *)expanded, r / p->cols, r % p->cols);
    }
    ok = expanded && s.dst;
    free(expanded);
    out->type = plain ? t->type : DTYPE_F32;
    out->quant = (struct group_quant){0};
    out->data = *memory;
    out->size = ok ? size : 0;
    return ok;
}

/* ---- logarithms ---- */

static bool copy_logs(const struct tensor_view *t, struct tensor_view *out, void **memory)
{
    size_t n = (size_t)t->shape[0], size;
    if (!size_mul(n, sizeof(float), &size))
        return false;
    float *values = *memory = malloc(size);
    if (!values)
        return false;
    tensor_row_to_f32(t, 0, values);
    for (size_t i = 0; i < n; i++)
        values[i] = -expf(values[i]);
    out->type = DTYPE_F32;
    out->data = *memory;
    out->size = size;
    return true;
}

/* ---- any ---- */

static bool copy(const struct part_place *p, const struct tensor_view *t, struct tensor_view *out, void **memory)
{
    if (p->layout == LAYOUT_LOGS)
        return copy_logs(t, out, memory);
    bool columns = p->turned || p->layout == LAYOUT_COLUMNS || p->layout == LAYOUT_ALTERNATING_COLUMNS;
    return columns ? copy_columns(p, t, out, memory) : copy_rows(p, t, out, memory);
}

bool weights__copy_part(const struct part_place *p, const struct tensor_view *t, struct tensor_view *out, void **memory,
                        struct error *err)
{
    bool columns = p->turned || p->layout == LAYOUT_COLUMNS || p->layout == LAYOUT_ALTERNATING_COLUMNS;
    *out = *t;
    *memory = NULL;
    if (!columns && t->type == DTYPE_GROUPED && t->quant.packing)
        return error_set(err, ERR_UNSUPPORTED, "Rows of the tensor '" STR_FMT "' are not taken apart: it is packed.",
                         STR_ARG(str_slice(t->name, 0, 100)));
    if (!copy(p, t, out, memory)) {
        free(*memory);
        *memory = NULL;
        return error_set(err, ERR_NO_MEMORY, "There is no memory for a copy of the tensor '" STR_FMT "'.",
                         STR_ARG(str_slice(t->name, 0, 100)));
    }
    uint64_t n_rows = (p->n_blocks ? p->n_blocks : 1) * p->rows;
    out->n_dims = p->vector ? 1 : p->n_blocks ? 3 : 2;
    uint64_t shapes[3][TENSOR_MAX_DIMS] = {
        {n_rows, 1, 1, 1}, {p->rows, p->cols, 1, 1}, {p->n_blocks, p->rows, p->cols, 1}};
    memcpy(out->shape, shapes[out->n_dims - 1], sizeof(out->shape));
    return true;
}
