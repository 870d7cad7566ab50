/* Block-quantized rows of GGUF as MLX's groups of 32: the same codes, and scales and biases in f32 for the caller to
 * round. Values: scale * code + bias, equal to dtype_to_f32 bit for bit while scale and bias stay f32 (Q4_K and Q5_K:
 * to the rounding of scale * code). */
#ifndef TANDEM_BACKEND_MLX_MLX_REPACK_H
#define TANDEM_BACKEND_MLX_MLX_REPACK_H

#include "tensor/model_file.h"

/* Row `row` of a matrix [rows, k] of a format that mlx_plan repacks with affine groups: codes [k * bits / 8] bytes of
 * MLX's stream, scales and biases [k / 32]. */
void mlx_repack_row(const struct tensor_view *t, uint64_t row, int bits, uint8_t *codes, float *scales, float *biases);

/* The same of MXFP4: scales [k / 32] bytes. */
void mlx_repack_mxfp4_row(const struct tensor_view *t, uint64_t row, uint8_t *codes, uint8_t *scales);

/* x [k] to affine 8 bits in groups of 32: codes [k], scales and biases [k / 32]. */
void mlx_requantize_row(const float *x, uint64_t k, uint8_t *codes, float *scales, float *biases);

#endif
