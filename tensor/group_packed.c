/* One description of where codes lie serves all orders: a word for 1 or 32 / bits columns, words of a row at a stride.
 */
#include "tensor/group_packed.h"

#include "tensor/dtype_internal.h"

#include <assert.h>
#include <stdlib.h>

static const uint8_t awq_shift[8] = {0, 16, 4, 20, 8, 24, 12, 28}; /* of each of eight rows in a word */

const char *packed_order_name(enum packed_order order)
{
    static const char *const names[PACKED_ORDER_COUNT] = {
        [PACKED_AWQ] = "AWQ", [PACKED_GPTQ] = "GPTQ", [PACKED_ROWS] = "pack-quantized"};
    return names[order];
}

bool packed_bits_valid(enum packed_order order, int bits)
{
    return bits == 4 || (bits == 8 && order != PACKED_AWQ);
}

bool packed_valid(const struct group_quant *q, uint64_t k)
{
    return q->mode == GROUP_AFFINE && packed_bits_valid(q->packing->order, q->bits) && q->group_size > 0 &&
           q->group_size % 32 == 0 && k % (uint64_t)q->group_size == 0;
}

static uint32_t word_at(const void *words, uint64_t i)
{
    uint32_t word;
    memcpy(&word, (const uint8_t *)words + 4 * i, sizeof(word));
    return word;
}

/* ---- codes ---- */

struct code_run {           /* of one row */
    uint64_t first, stride; /* words */
    unsigned columns_log2;  /* of a word */
    unsigned shift, step;   /* bits: of the first column of a word, and from one to the next */
};

static struct code_run run_of(const struct group_quant *q, uint64_t row)
{
    const struct group_packing *p = q->packing;
    unsigned bits = (unsigned)q->bits, columns_log2 = bits == 8 ? 2 : 3;
    switch (p->order) {
    case PACKED_AWQ:
        return (struct code_run){row / 8, p->n / 8, 0, awq_shift[row % 8], 0};
    case PACKED_GPTQ:
        return (struct code_run){row, p->n, columns_log2, 0, bits};
    default:
        return (struct code_run){row * (p->k * bits / 32), 1, columns_log2, 0, bits};
    }
}

void packed_codes(const struct group_quant *q, const void *codes, uint64_t row, size_t first, size_t n, uint8_t *out)
{
    struct code_run run = run_of(q, row + q->first_row);
    unsigned mask = (1u << q->bits) - 1, in_word = (1u << run.columns_log2) - 1;
    for (size_t i = 0; i < n; i++) {
        size_t column = q->columns ? q->columns[first + i] : first + i;
        uint32_t word = word_at(codes, run.first + (column >> run.columns_log2) * run.stride);
        out[i] = (uint8_t)(word >> (run.shift + (column & in_word) * run.step) & mask);
    }
}

/* ---- scales and zeros ---- */

static uint64_t n_groups(const struct group_quant *q)
{
    return q->packing->k / (uint64_t)q->group_size;
}

const uint8_t *packed_scale(const struct group_quant *q, uint64_t row, size_t group)
{
    const struct group_packing *p = q->packing;
    row += q->first_row;
    uint64_t at = p->order == PACKED_ROWS ? row * n_groups(q) + group : group * p->n + row;
    return (const uint8_t *)q->scales + at * (uint64_t)dtype_info(q->scale_type)->block_size;
}

int packed_zero(const struct group_quant *q, uint64_t row, size_t group)
{
    const struct group_packing *p = q->packing;
    unsigned bits = (unsigned)q->bits, per_word = 32 / bits;
    row += q->first_row;
    if (!p->zeros)
        return 1 << (bits - 1);
    uint64_t word = row / per_word, at = group * (p->n / per_word) + word;
    if (p->order == PACKED_ROWS)
        at = word * n_groups(q) + group;
    unsigned shift = p->order == PACKED_AWQ ? awq_shift[row % 8] : (unsigned)(row % per_word) * bits;
    return (int)(word_at(p->zeros, at) >> shift & ((1u << bits) - 1));
}

/* ---- values ---- */

struct affine {
    float scale, bias;
};

static struct affine affine_of(const struct group_quant *q, uint64_t row, size_t group)
{
    struct affine a;
    dtype_to_f32(q->scale_type, packed_scale(q, row, group), 1, &a.scale);
    float product = a.scale * (float)(packed_zero(q, row, group) + q->packing->zero_add);
    a.bias = -product;
    return a;
}

int packed_mlx_group(const struct group_quant *q)
{
    return q->group_size % 128 == 0 ? 128 : q->group_size % 64 == 0 ? 64 : 32;
}

void packed_to_affine(const struct group_quant *q, const void *codes, uint64_t row, size_t first, int group_size,
                      const struct affine_row *out)
{
    uint8_t some[32], *stream = out->stream + first * (size_t)q->bits / 8;
    packed_codes(q, codes, row, first, 32, some);
    for (int i = 0; i < 32; i += 8 / q->bits)
        *stream++ = q->bits == 8 ? some[i] : (uint8_t)(some[i] | some[i + 1] << 4);
    if (first % (size_t)group_size == 0) {
        struct affine a = affine_of(q, row, first / (size_t)q->group_size);
        out->scales[first / (size_t)group_size] = a.scale;
        out->biases[first / (size_t)group_size] = a.bias;
    }
}

/* Groups of columns that the file does not say otherwise of. */
static void run_to_f32(const struct group_quant *q, const void *codes, uint64_t row, float *dst)
{
    uint8_t some[32];
    for (size_t first = 0; first < (size_t)q->packing->k; first += 32) {
        struct affine a = affine_of(q, row, first / (size_t)q->group_size);
        packed_codes(q, codes, row, first, 32, some);
        for (int i = 0; i < 32; i++) {
            float product = a.scale * (float)some[i];
            dst[first + (size_t)i] = product + a.bias;
        }
    }
}

/* The group of a column as the file says; one that is not there is the last, so that nothing else is read. */
static size_t group_of(const struct group_quant *q, size_t column)
{
    uint64_t group = word_at(q->packing->g_idx, column), n = n_groups(q);
    return (size_t)(group < n ? group : n - 1);
}

void packed_row_to_f32(const struct group_quant *q, const void *codes, uint64_t row, float *dst)
{
    assert(packed_valid(q, q->packing->k));
    if (!q->packing->g_idx || q->columns) {
        run_to_f32(q, codes, row, dst);
        return;
    }
    for (size_t column = 0; column < (size_t)q->packing->k; column++) {
        struct affine a = affine_of(q, row, group_of(q, column));
        uint8_t code;
        packed_codes(q, codes, row, column, 1, &code);
        float product = a.scale * (float)code;
        dst[column] = product + a.bias;
    }
}

/* ---- columns in the order of their groups ---- */

bool packed_check_groups(const struct group_quant *q, struct str name, struct error *err)
{
    const struct group_packing *p = q->packing;
    for (uint64_t i = 0; p->g_idx && i < p->k; i++) {
        uint32_t group = word_at(p->g_idx, i);
        if (group >= n_groups(q))
            return error_set(err, ERR_FORMAT,
                             "The g_idx of the tensor '" STR_FMT "' puts column %llu into group %d; there are %llu "
                             "groups.",
                             STR_ARG(str_slice(name, 0, 96)), (unsigned long long)i, (int)group,
                             (unsigned long long)n_groups(q));
    }
    return true;
}

bool packed_in_order(const struct group_quant *q)
{
    const struct group_packing *p = q->packing;
    for (uint64_t i = 0; p->g_idx && !q->columns && i < p->k; i++) {
        if (word_at(p->g_idx, i) != i / (uint64_t)q->group_size)
            return false;
    }
    return true;
}

bool packed_sort_columns(const struct group_quant *q, uint32_t *columns)
{
    const struct group_packing *p = q->packing;
    uint64_t size = (uint64_t)q->group_size, n_full = 0;
    uint32_t *counts = calloc((size_t)n_groups(q), sizeof(*counts));
    bool ok = counts != NULL;
    for (uint64_t i = 0; ok && i < p->k; i++) {
        uint32_t group = word_at(p->g_idx, i);
        ok = group < n_groups(q) && counts[group] < size;
        if (ok)
            columns[group * size + counts[group]++] = (uint32_t)i;
        n_full += ok && counts[group] == size;
    }
    free(counts);
    return ok && n_full == n_groups(q);
}

bool packed_can_sort(const struct group_quant *q)
{
    uint32_t *columns = q->packing->g_idx ? malloc((size_t)q->packing->k * sizeof(*columns)) : NULL;
    bool can = columns && packed_sort_columns(q, columns);
    free(columns);
    return can;
}
