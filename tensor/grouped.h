/* Group-quantized matrices as MLX writes them (mlx_lm convert): codes, and scales (and biases) in tensors beside them.
 *
 *     codes    [..., n, k * bits / 32] u32   each row is one little-endian, LSB-first stream of codes along k
 *     scales   [..., n, k / group_size]      F32, F16 or BF16 (affine), U8 (the others)
 *     biases   likewise; affine only
 *
 *     affine   value = scale * code + bias                bits 2, 3, 4, 5, 6 or 8; groups of 32, 64 or 128
 *     mxfp4    value = 2^(scale - 127) * e2m1(code)       bits 4, groups of 32
 *     mxfp8    value = 2^(scale - 127) * e4m3(code)       bits 8, groups of 32
 *     nvfp4    value = e4m3(scale) * e2m1(code)           bits 4, groups of 16
 *
 * Equal to mx.dequantize in f32, bit for bit: affine products and sums are rounded one after the other, in f32.
 *
 * Affine groups that other programs pack otherwise, with zeros instead of biases, have a packing: tensor/group_packed.h
 * says where their codes and scales lie, and biases are NULL. */
#ifndef TANDEM_TENSOR_GROUPED_H
#define TANDEM_TENSOR_GROUPED_H

#include "tensor/dtype.h"

enum group_mode { GROUP_AFFINE, GROUP_MXFP4, GROUP_MXFP8, GROUP_NVFP4, GROUP_MODE_COUNT };

struct group_packing; /* tensor/group_packed.h */

struct group_quant {
    enum group_mode mode;
    int bits, group_size;                /* 0: no grouped tensor */
    enum dtype scale_type;               /* of scales and biases */
    const void *scales;                  /* [rows, k / group_size], rows contiguous, any alignment */
    const void *biases;                  /* likewise; NULL but for affine */
    const struct group_packing *packing; /* NULL: as MLX packs; else, of the whole tensor: */
    uint64_t first_row;                  /* the tensor's, that is the first of the view */
    const uint32_t *columns;             /* [k] the tensor's column that is the view's column i; NULL: i itself */
};

const char *group_mode_name(enum group_mode mode); /* "affine", as in config.json */
NODISCARD bool group_mode_parse(const char *name, enum group_mode *out);

/* Whether the combination of mode, bits and group_size is one of the table above. */
bool group_quant_valid(const struct group_quant *q);

/* Codes [first, first + n) of a row: codes: [n]. bits: 2 to 8. The stream starts at `row`. */
void grouped_codes(const uint8_t *row, int bits, size_t first, size_t n, uint8_t *codes);

/* Bytes of one row of codes; k is a multiple of 32. */
static inline size_t grouped_row_size(int bits, uint64_t k)
{
    return (size_t)(k / 8) * (size_t)bits;
}

/* Bytes of scales, and of biases or zeros, of a matrix [rows, k]. */
size_t group_scales_size(const struct group_quant *q, uint64_t rows, uint64_t k);

/* Row `row` of codes [rows, k] to f32. */
void grouped_row_to_f32(const struct group_quant *q, const void *codes, uint64_t row, uint64_t k, float *dst);

extern const float grouped_e2m1_values[16];

#endif
