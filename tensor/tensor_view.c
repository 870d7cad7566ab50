/* Tensors by rows, whatever they hold. */
#include "tensor/group_packed.h"
#include "tensor/model_file.h"

#include <stdio.h>

static uint64_t row_cols(const struct tensor_view *t)
{
    return t->shape[t->n_dims - 1];
}

static uint64_t n_rows(const struct tensor_view *t)
{
    uint64_t n = 1;
    for (int i = 0; i + 1 < t->n_dims; i++)
        n *= t->shape[i];
    return n;
}

static size_t row_size(const struct tensor_view *t)
{
    size_t size = 0;
    if (t->type == DTYPE_GROUPED)
        return grouped_row_size(t->quant.bits, row_cols(t));
    return dtype_size(t->type, row_cols(t), &size) ? size : 0; /* the reader has checked it */
}

struct tensor_view tensor_as_matrix(const struct tensor_view *t)
{
    struct tensor_view m = *t;
    m.n_dims = 2;
    m.shape[0] = n_rows(t);
    m.shape[1] = row_cols(t);
    m.shape[2] = m.shape[3] = 1;
    return m;
}

static const void *scales_at(const struct group_quant *q, const void *scales, uint64_t row, uint64_t k)
{
    size_t item = (size_t)dtype_info(q->scale_type)->block_size;
    return scales ? (const uint8_t *)scales + row * (k / (uint64_t)q->group_size) * item : NULL;
}

struct tensor_view tensor_rows(const struct tensor_view *t, uint64_t first, uint64_t n)
{
    struct tensor_view part = *t;
    uint64_t per_outer = t->n_dims > 1 ? n_rows(t) / t->shape[0] : 1;
    size_t size = t->n_dims > 1 ? row_size(t) : row_size(t) / (size_t)t->shape[0]; /* of plain elements in a vector */
    part.shape[0] = n;
    part.size = (size_t)(n * per_outer) * size;
    if (t->type == DTYPE_GROUPED && t->quant.packing) { /* rows need not lie together */
        part.quant.first_row += first * per_outer;
        return part;
    }
    part.data = (const uint8_t *)t->data + first * per_outer * size;
    if (t->type == DTYPE_GROUPED) {
        part.quant.scales = scales_at(&t->quant, t->quant.scales, first * per_outer, row_cols(t));
        part.quant.biases = scales_at(&t->quant, t->quant.biases, first * per_outer, row_cols(t));
    }
    return part;
}

void tensor_row_to_f32(const struct tensor_view *t, uint64_t row, float *dst)
{
    if (t->type == DTYPE_GROUPED)
        grouped_row_to_f32(&t->quant, t->data, row, row_cols(t), dst);
    else
        dtype_to_f32(t->type, (const uint8_t *)t->data + row * row_size(t), (size_t)row_cols(t), dst);
}

const char *tensor_type_name(const struct tensor_view *t, char *buf, size_t size)
{
    if (t->type != DTYPE_GROUPED)
        snprintf(buf, size, "%s", dtype_info(t->type)->name);
    else if (t->quant.mode != GROUP_AFFINE)
        snprintf(buf, size, "%s", group_mode_name(t->quant.mode));
    else if (t->quant.packing)
        snprintf(buf, size, "%s %d bits in groups of %d", packed_order_name(t->quant.packing->order), t->quant.bits,
                 t->quant.group_size);
    else
        snprintf(buf, size, "affine %d bits in groups of %d", t->quant.bits, t->quant.group_size);
    return buf;
}
