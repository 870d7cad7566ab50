/* Quantization by search: f32 rows to blocks of GGUF, or to codes in groups as MLX has them, with the least error that
 * a search of scales (and minima) finds,
 *
 *     error = sum over elements of importance[column] * (x - dequantized)^2.
 *
 * dtype_from_f32 rounds to nearest instead and is what tests want. Each block (group) stands for itself, so that rows
 * may be quantized by any thread in any order to the same bits. Non-finite elements give defined, useless blocks. Any
 * thread; no memory is taken. */
#ifndef TANDEM_TENSOR_QUANTIZE_H
#define TANDEM_TENSOR_QUANTIZE_H

#include "tensor/grouped.h"

/* Whether quantize_row writes the type: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K. */
bool quantize_type_known(enum dtype type);

/* x: [n]; importance: [n], of each column, finite and not negative, or NULL: all alike; dst: packed blocks. n is a
 * multiple of the block length. */
void quantize_row(enum dtype type, const float *x, size_t n, const float *importance, void *dst);

/* Affine groups: bits 2, 3, 4, 5, 6 or 8, group_size 32, 64 or 128, scale_type F32, F16 or BF16 of q are read; n is a
 * multiple of the group size. codes: grouped_row_size bytes; scales, biases: [n / group_size] of scale_type. */
void quantize_affine_row(const struct group_quant *q, const float *x, size_t n, const float *importance, void *codes,
                         void *scales, void *biases);

#endif
