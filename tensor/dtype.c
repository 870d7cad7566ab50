#include "tensor/dtype_internal.h"

#include "base/array.h"

#include <assert.h>

static const struct dtype_info infos[DTYPE_COUNT] = {
#define X(name, id, block_len, block_size) {#name, id, block_len, block_size, (block_len) > 1},
    DTYPE_TABLE(X)
#undef X
};

/* Types that exist in GGUF files, or once did, and are not read. */
static const struct {
    uint32_t gguf_id;
    const char *name;
} refused[] = {
    {4, "Q4_2"},        {5, "Q4_3"},        {9, "Q8_1"},        {16, "IQ2_XXS"}, {17, "IQ2_XS"},
    {18, "IQ3_XXS"},    {19, "IQ1_S"},      {21, "IQ3_S"},      {22, "IQ2_S"},   {29, "IQ1_M"},
    {31, "Q4_0_4_4"},   {32, "Q4_0_4_8"},   {33, "Q4_0_8_8"},   {34, "TQ1_0"},   {35, "TQ2_0"},
    {36, "IQ4_NL_4_4"}, {37, "IQ4_NL_4_8"}, {38, "IQ4_NL_8_8"}, {40, "NVFP4"},   {41, "Q1_0"},
};

const int8_t dtype__iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
const int8_t dtype__mxfp4_values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

const struct dtype_info *dtype_info(enum dtype type)
{
    assert((unsigned)type < DTYPE_COUNT);
    return &infos[type];
}

bool dtype_from_gguf(uint32_t gguf_id, enum dtype *out, struct error *err)
{
    for (int i = 0; i < DTYPE_COUNT; i++) {
        if (infos[i].gguf_id >= 0 && (uint32_t)infos[i].gguf_id == gguf_id) {
            *out = (enum dtype)i;
            return true;
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        if (refused[i].gguf_id == gguf_id)
            return error_set(err, ERR_UNSUPPORTED, "The tensor type %s is not supported.", refused[i].name);
    }
    return error_set(err, ERR_UNSUPPORTED, "The tensor type number %u is unknown.", (unsigned)gguf_id);
}

bool dtype_from_name(const char *name, enum dtype *out)
{
    for (int i = 0; i < DTYPE_COUNT; i++) {
        if (strcmp(infos[i].name, name) == 0) {
            *out = (enum dtype)i;
            return true;
        }
    }
    return false;
}

bool dtype_size(enum dtype type, uint64_t n, size_t *size)
{
    const struct dtype_info *info = dtype_info(type);
    uint64_t block_len = (uint64_t)info->block_len, block_size = (uint64_t)info->block_size;
    if (n % block_len != 0 || block_size == 0)
        return false;
    uint64_t n_blocks = n / block_len;
    if (n_blocks > SIZE_MAX / block_size)
        return false;
    *size = (size_t)(n_blocks * block_size);
    return true;
}

static float float_of_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof(f));
    return f;
}

static uint32_t bits_of_float(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof(bits));
    return bits;
}

float f16_to_f32(uint16_t h)
{
    return dtype__f16(h);
}

uint16_t f32_to_f16(float f)
{
    uint32_t bits = bits_of_float(f);
    uint32_t sign = (bits >> 16) & 0x8000;
    uint32_t magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000)
        return (uint16_t)(sign | 0x7e00 | ((magnitude >> 13) & 0x1ff));
    if (magnitude >= 0x477ff000) /* 65520: half way between the largest f16 and 2^16 */
        return (uint16_t)(sign | 0x7c00);
    if (magnitude < 0x38800000) { /* below 2^-14: adding 0.5, whose unit in the last place is 2^-24, rounds */
        uint32_t rounded = bits_of_float(float_of_bits(magnitude) + 0.5f);
        return (uint16_t)(sign | (rounded - 0x3f000000));
    }
    magnitude += 0x0fff + ((magnitude >> 13) & 1);
    return (uint16_t)(sign | ((magnitude - (112u << 23)) >> 13));
}

float f8_e4m3_to_f32(uint8_t b)
{
    uint32_t sign = (uint32_t)(b & 0x80) << 24;
    uint32_t magnitude = b & 0x7f;
    if (magnitude == 0x7f)
        return float_of_bits(sign | 0x7fc00000);
    if (magnitude < 8) /* zero or subnormal: a multiple of 2^-9 */
        return float_of_bits(sign | bits_of_float((float)magnitude * 0x1p-9f));
    return float_of_bits(sign | ((magnitude << 20) + (120u << 23))); /* exponent bias 7 becomes 127 */
}

float bf16_to_f32(uint16_t h)
{
    return float_of_bits((uint32_t)h << 16);
}

uint16_t f32_to_bf16(float f)
{
    uint32_t bits = bits_of_float(f);
    if ((bits & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(bits >> 16 | 64);
    return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

float dtype__e8m0_half(uint8_t e)
{
    return float_of_bits(e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23);
}
