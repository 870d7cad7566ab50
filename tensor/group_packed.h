/* Grouped matrices [n, k] as other programs than MLX pack them: a zero for each group instead of a bias, and codes that
 * need not lie along a row. Codes are read where they lie; nothing is copied. Words are 32 bits, little-endian, and
 * hold 32 / bits codes, the first in the lowest bits.
 *
 *     PACKED_AWQ    codes  [k, n / 8]           words along n; of 8 rows in the order 0, 2, 4, 6, 1, 3, 5, 7
 *                   zeros  [groups, n / 8]      likewise
 *                   scales [groups, n]
 *     PACKED_GPTQ   codes  [k * bits / 32, n]   words along k
 *                   zeros  [groups, n * bits / 32]
 *                   scales [groups, n]
 *     PACKED_ROWS   codes  [n, k * bits / 32]   words along k
 *                   zeros  [n * bits / 32, groups]
 *                   scales [n, groups]
 *
 *     value = scale * code + -(scale * zero), in f32
 *
 * which is (code - zero) * scale and exact, since scales are F16 or BF16. Sources: AutoAWQ's awq/utils/packing_utils.py
 * (unpack_awq, reverse_awq_order, dequantize_gemm); AutoGPTQ's nn_modules/qlinear/qlinear_cuda.py (pack, forward);
 * compressed-tensors' compressors/quantized_compressors/pack_quantized.py (pack_to_int32). */
#ifndef TANDEM_TENSOR_GROUP_PACKED_H
#define TANDEM_TENSOR_GROUP_PACKED_H

#include "base/str.h"
#include "tensor/grouped.h"

enum packed_order { PACKED_AWQ, PACKED_GPTQ, PACKED_ROWS, PACKED_ORDER_COUNT };

struct group_packing { /* of a whole tensor; a view of some of its rows has group_quant.first_row */
    enum packed_order order;
    uint64_t n, k;
    const void *zeros; /* NULL: 2^(bits - 1) everywhere */
    int zero_add;      /* 1: a zero is one more than what is stored; only with zeros */
    const void *g_idx; /* [k] I32, any alignment: the group of each column; NULL: column / group_size */
};

/* "AWQ", "GPTQ", "pack-quantized" */
const char *packed_order_name(enum packed_order order);

/* Whether bits are ones that are read: 4, and 8 but of AWQ; and with them group_size: a multiple of 32 that divides k.
 */
bool packed_bits_valid(enum packed_order order, int bits);
bool packed_valid(const struct group_quant *q, uint64_t k);

/* Columns [first, first + n) of a row of the view: their codes. codes: of the whole tensor. */
void packed_codes(const struct group_quant *q, const void *codes, uint64_t row, size_t first, size_t n, uint8_t *out);

/* Of a group of a row: the scale's bytes, and the zero as it is stored (0 to 255), without zero_add. */
const uint8_t *packed_scale(const struct group_quant *q, uint64_t row, size_t group);
int packed_zero(const struct group_quant *q, uint64_t row, size_t group);

/* The same row's values. */
void packed_row_to_f32(const struct group_quant *q, const void *codes, uint64_t row, float *dst);

struct affine_row { /* where it goes */
    uint8_t *stream;
    float *scales, *biases;
};

/* Columns [first, first + 32) of a row whose columns lie in the order of their groups, as MLX has them: into the row's
 * stream [k * bits / 8] bytes of codes, and its scales and biases [k / group_size] of groups of group_size columns, a
 * divisor of its own. Rows side by side share words: quick is who takes the same columns of some rows, then the next.
 */
void packed_to_affine(const struct group_quant *q, const void *codes, uint64_t row, size_t first, int group_size,
                      const struct affine_row *out);
int packed_mlx_group(const struct group_quant *q); /* the largest group that MLX has and that divides q's */

/* ---- columns in the order of their groups ---- */

/* Every group number is one of a group that there is; else FORMAT. name: the tensor's, for the message. */
NODISCARD bool packed_check_groups(const struct group_quant *q, struct str name, struct error *err);

/* Group numbers are those of columns that lie in the order of their groups, or there are none. */
bool packed_in_order(const struct group_quant *q);

/* columns: [k], for group_quant.columns: those of the first group, in order, then those of the next. False: a group has
 * not as many columns as a group has, or there is no memory. */
NODISCARD bool packed_sort_columns(const struct group_quant *q, uint32_t *columns);
bool packed_can_sort(const struct group_quant *q); /* it would say true */

#endif
