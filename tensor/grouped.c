#include "tensor/grouped.h"

#include "tensor/dtype_internal.h"
#include "tensor/group_packed.h"

#include <assert.h>

const float grouped_e2m1_values[16] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6, -0.0f, -0.5f, -1, -1.5f, -2, -3, -4, -6};

static const char *const mode_names[GROUP_MODE_COUNT] = {
    [GROUP_AFFINE] = "affine",
    [GROUP_MXFP4] = "mxfp4",
    [GROUP_MXFP8] = "mxfp8",
    [GROUP_NVFP4] = "nvfp4",
};

const char *group_mode_name(enum group_mode mode)
{
    return mode_names[mode];
}

bool group_mode_parse(const char *name, enum group_mode *out)
{
    for (int i = 0; i < GROUP_MODE_COUNT; i++) {
        if (strcmp(name, mode_names[i]) == 0) {
            *out = (enum group_mode)i;
            return true;
        }
    }
    return false;
}

size_t group_scales_size(const struct group_quant *q, uint64_t rows, uint64_t k)
{
    size_t item = (size_t)dtype_info(q->scale_type)->block_size, n = (size_t)(rows * (k / (uint64_t)q->group_size));
    if (q->packing)
        return n * item + (q->packing->zeros ? n * (size_t)q->bits / 8 : 0);
    return n * item * (q->biases ? 2 : 1);
}

static bool affine_valid(const struct group_quant *q)
{
    bool bits = q->bits == 8 || (q->bits >= 2 && q->bits <= 6);
    bool group = q->group_size == 32 || q->group_size == 64 || q->group_size == 128;
    return bits && group;
}

bool group_quant_valid(const struct group_quant *q)
{
    switch (q->mode) {
    case GROUP_AFFINE:
        return affine_valid(q);
    case GROUP_MXFP4:
        return q->bits == 4 && q->group_size == 32;
    case GROUP_MXFP8:
        return q->bits == 8 && q->group_size == 32;
    case GROUP_NVFP4:
        return q->bits == 4 && q->group_size == 16;
    case GROUP_MODE_COUNT:
        break;
    }
    return false;
}

void grouped_codes(const uint8_t *row, int bits, size_t first, size_t n, uint8_t *codes)
{
    size_t at = first * (size_t)bits;
    for (size_t i = 0; i < n; i++, at += (size_t)bits) {
        unsigned shift = (unsigned)(at & 7), word = row[at >> 3];
        if (shift + (unsigned)bits > 8) /* only then is there another byte of this row */
            word |= (unsigned)row[(at >> 3) + 1] << 8;
        codes[i] = (uint8_t)(word >> shift & ((1u << bits) - 1));
    }
}

static float e8m0(uint8_t e)
{
    return 2 * dtype__e8m0_half(e);
}

static float code_value(enum group_mode mode, uint8_t code)
{
    return mode == GROUP_MXFP8 ? f8_e4m3_to_f32(code) : grouped_e2m1_values[code];
}

#define CODES_AT_ONCE 128 /* the largest group */

static void affine_group(const struct group_quant *q, const uint8_t *codes, size_t group, float *dst)
{
    size_t size = (size_t)dtype_info(q->scale_type)->block_size;
    float scale, bias;
    dtype_to_f32(q->scale_type, (const uint8_t *)q->scales + group * size, 1, &scale);
    dtype_to_f32(q->scale_type, (const uint8_t *)q->biases + group * size, 1, &bias);
    for (int i = 0; i < q->group_size; i++) {
        float product = scale * (float)codes[i];
        dst[i] = product + bias;
    }
}

static void float_group(const struct group_quant *q, const uint8_t *codes, size_t group, float *dst)
{
    uint8_t e = ((const uint8_t *)q->scales)[group];
    float scale = q->mode == GROUP_NVFP4 ? f8_e4m3_to_f32(e) : e8m0(e);
    for (int i = 0; i < q->group_size; i++)
        dst[i] = scale * code_value(q->mode, codes[i]);
}

void grouped_row_to_f32(const struct group_quant *q, const void *codes, uint64_t row, uint64_t k, float *dst)
{
    const uint8_t *stream = (const uint8_t *)codes + row * grouped_row_size(q->bits, k);
    size_t n_groups = (size_t)k / (size_t)q->group_size;
    uint8_t group[CODES_AT_ONCE];
    if (q->packing) {
        packed_row_to_f32(q, codes, row, dst);
        return;
    }
    assert(group_quant_valid(q));
    for (size_t g = 0; g < n_groups; g++, dst += q->group_size) {
        grouped_codes(stream, q->bits, g * (size_t)q->group_size, (size_t)q->group_size, group);
        if (q->mode == GROUP_AFFINE)
            affine_group(q, group, row * n_groups + g, dst);
        else
            float_group(q, group, row * n_groups + g, dst);
    }
}
