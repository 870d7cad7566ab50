/* Packing goes group by group: a row's 32 codes and its scales are taken out of the file's block into a plain form,
 * then spread over the panel, and the reverse for reading a row back. Block layouts: tensor/dtype_dequantize.c. Four
 * bytes (a chunk) are handled as one little-endian word; codes are masked before they are shifted, so nothing crosses
 * bytes. */
#include "backend/cpu/cpu_pack.h"

#include "base/array.h"
#include "tensor/group_packed.h"

#include <string.h>

static const float iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
/* e2m1, doubled: GGUF's has one zero, MLX's has two */
static const float mxfp4_values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
static const float e2m1_values[16] = {0, 1, 2, 3, 4, 6, 8, 12, -0.0f, -1, -2, -3, -4, -6, -8, -12};

static const struct {
    enum dtype type;
    enum group_mode mode; /* with bits: of type GROUPED */
    int bits;
    struct pack_format format; /* of affine groups without what they say themselves */
} formats[] = {
    {DTYPE_Q4_0, 0, 0, {PACK_Q4_0, 4, 0, 8, NULL, PACK_F16, 32, 0, false, 0}},
    {DTYPE_Q4_1, 0, 0, {PACK_Q4_1, 4, 0, 0, NULL, PACK_F16_MIN, 32, 0, false, 0}},
    {DTYPE_Q5_0, 0, 0, {PACK_Q5_0, 4, 1, 16, NULL, PACK_F16, 32, 0, false, 0}},
    {DTYPE_Q5_1, 0, 0, {PACK_Q5_1, 4, 1, 0, NULL, PACK_F16_MIN, 32, 0, false, 0}},
    {DTYPE_Q8_0, 0, 0, {PACK_Q8_0, 8, 0, 0, NULL, PACK_F16, 32, 0, false, 0}},
    {DTYPE_Q2_K, 0, 0, {PACK_Q2_K, 2, 0, 0, NULL, PACK_K16_MIN, 256, 0, false, 0}},
    {DTYPE_Q3_K, 0, 0, {PACK_Q3_K, 2, 1, 4, NULL, PACK_K16, 256, 0, false, 0}},
    {DTYPE_Q4_K, 0, 0, {PACK_Q4_K, 4, 0, 0, NULL, PACK_K32_MIN, 256, 0, false, 0}},
    {DTYPE_Q5_K, 0, 0, {PACK_Q5_K, 4, 1, 0, NULL, PACK_K32_MIN, 256, 0, false, 0}},
    {DTYPE_Q6_K, 0, 0, {PACK_Q6_K, 4, 2, 32, NULL, PACK_K16, 256, 0, false, 0}},
    {DTYPE_Q8_K, 0, 0, {PACK_Q8_K, 8, 0, 0, NULL, PACK_F32_256, 256, 0, false, 0}},
    {DTYPE_IQ4_NL, 0, 0, {PACK_IQ4_NL, 4, 0, 0, iq4_values, PACK_F16, 32, 0, false, 0}},
    {DTYPE_IQ4_XS, 0, 0, {PACK_IQ4_XS, 4, 0, 0, iq4_values, PACK_K32, 256, 0, false, 0}},
    {DTYPE_MXFP4, 0, 0, {PACK_MXFP4, 4, 0, 0, mxfp4_values, PACK_E8M0, 32, 0, false, 0}},
    {DTYPE_GROUPED, GROUP_MXFP4, 4, {PACK_MXFP4, 4, 0, 0, e2m1_values, PACK_E8M0, 32, 0, false, 0}},
    {DTYPE_GROUPED, GROUP_NVFP4, 4, {PACK_NVFP4, 4, 0, 0, e2m1_values, PACK_E4M3, 32, 0, false, 0}},
    {DTYPE_GROUPED, GROUP_AFFINE, 2, {PACK_AFFINE2, 2, 0, 0, NULL, PACK_HEAD_MIN, 0, 0, false, 0}},
    {DTYPE_GROUPED, GROUP_AFFINE, 3, {PACK_AFFINE3, 2, 1, 0, NULL, PACK_HEAD_MIN, 0, 0, false, 0}},
    {DTYPE_GROUPED, GROUP_AFFINE, 4, {PACK_AFFINE4, 4, 0, 0, NULL, PACK_HEAD_MIN, 0, 0, false, 0}},
    {DTYPE_GROUPED, GROUP_AFFINE, 5, {PACK_AFFINE5, 4, 1, 0, NULL, PACK_HEAD_MIN, 0, 0, false, 0}},
    {DTYPE_GROUPED, GROUP_AFFINE, 6, {PACK_AFFINE6, 4, 2, 0, NULL, PACK_HEAD_MIN, 0, 0, false, 0}},
    {DTYPE_GROUPED, GROUP_AFFINE, 8, {PACK_AFFINE8, 8, 0, -128, NULL, PACK_HEAD_MIN, 0, 0, false, 0}},
};

bool pack_format_of(const struct tensor_view *matrix, struct pack_format *out)
{
    const struct group_quant *q = &matrix->quant;
    bool grouped = matrix->type == DTYPE_GROUPED;
    for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
        if (formats[i].type != matrix->type || (grouped && (formats[i].mode != q->mode || formats[i].bits != q->bits)))
            continue;
        *out = formats[i].format;
        if (out->scales == PACK_HEAD_MIN) {
            out->super_len = q->group_size;
            out->head_type = q->scale_type;
            out->zeros = q->packing != NULL;
            out->zero_add = q->packing ? q->packing->zero_add : 0;
        }
        return !q->packing || packed_in_order(q);
    }
    return false;
}

/* ---- sizes ---- */

/* An array of `width` bytes a row for each of a scale's fields: d then m, sc then mn. */
struct field_layout {
    uint8_t n, width;
};

/* Of a super-block's head, and of a group's scales. */
static const struct {
    struct field_layout head, group;
} fields[] = {
    [PACK_F16] = {{0, 0}, {1, 2}},      [PACK_F16_MIN] = {{0, 0}, {2, 2}}, [PACK_E8M0] = {{0, 0}, {1, 1}},
    [PACK_E4M3] = {{0, 0}, {2, 1}},     [PACK_K32_MIN] = {{2, 2}, {2, 1}}, [PACK_K32] = {{1, 2}, {1, 1}},
    [PACK_K16] = {{1, 2}, {2, 1}},      [PACK_K16_MIN] = {{2, 2}, {2, 1}}, [PACK_F32_256] = {{1, 4}, {0, 0}},
    [PACK_HEAD_MIN] = {{2, 0}, {0, 0}}, /* the width is head_type's */
};

static struct field_layout head_fields(const struct pack_format *f)
{
    struct field_layout head = fields[f->scales].head;
    if (f->scales == PACK_HEAD_MIN) {
        head.n = f->zeros ? 1 : 2; /* zeros come behind */
        head.width = (uint8_t)dtype_info(f->head_type)->block_size;
    }
    return head;
}

size_t pack_head_size(const struct pack_format *f, int rows)
{
    struct field_layout head = head_fields(f);
    return (size_t)rows * (head.n * (size_t)head.width + f->zeros);
}

size_t pack_scales_size(const struct pack_format *f, int rows)
{
    struct field_layout group = fields[f->scales].group;
    return (size_t)rows * group.n * group.width;
}

size_t pack_group_size(const struct pack_format *f, int rows)
{
    return pack_scales_size(f, rows) + (size_t)rows * 4 * (size_t)(f->low_bits + f->high_bits);
}

size_t pack_panel_size(const struct pack_format *f, int rows, int n_in)
{
    size_t super_size = pack_head_size(f, rows) + (size_t)(f->super_len / 32) * pack_group_size(f, rows);
    return super_size * (size_t)(n_in / f->super_len);
}

/* ---- one row's group in plain form ---- */

struct plain_group {
    uint8_t bits[32];  /* as stored: before the offset or the table; 8 bits are two's complement */
    uint8_t head[8];   /* d, dmin; f32 d; or d, m */
    uint8_t zero;      /* of formats that have zeros */
    uint8_t scales[4]; /* as enum pack_scales lists them */
};

static uint32_t load32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

static void store32(uint8_t *p, uint32_t v)
{
    memcpy(p, &v, sizeof(v));
}

/* 16 bytes: elements 0-15 in low nibbles, 16-31 in high ones */
static void take_nibbles(const uint8_t *qs, uint8_t *bits)
{
    for (int l = 0; l < 16; l++) {
        bits[l] = qs[l] & 15;
        bits[l + 16] = qs[l] >> 4;
    }
}

/* 32 bytes, one element of each */
static void take_field(const uint8_t *qs, int shift, int mask, uint8_t *bits)
{
    for (int l = 0; l < 32; l++)
        bits[l] = (uint8_t)((qs[l] >> shift) & mask);
}

static void add_field(const uint8_t *qs, int shift, int mask, int to, uint8_t *bits)
{
    for (int l = 0; l < 32; l++)
        bits[l] |= (uint8_t)(((qs[l] >> shift) & mask) << to);
}

static void add_fifth_bits(uint32_t qh, uint8_t *bits)
{
    for (int l = 0; l < 32; l++)
        bits[l] |= (uint8_t)(((qh >> l) & 1) << 4);
}

static void take_scale_min(const uint8_t packed[12], int g, uint8_t out[2])
{
    if (g < 4) {
        out[0] = packed[g] & 63;
        out[1] = packed[g + 4] & 63;
    } else {
        out[0] = (uint8_t)((packed[g + 4] & 15) | ((packed[g - 4] >> 2) & 0x30));
        out[1] = (uint8_t)((packed[g + 4] >> 4) | ((packed[g] >> 2) & 0x30));
    }
}

static uint8_t q3_k_scale(const uint8_t *scales, int g)
{
    int low = (scales[g % 8] >> (4 * (g / 8))) & 15;
    int high = (scales[8 + g % 4] >> (2 * (g / 4))) & 3;
    return (uint8_t)((low | high << 4) - 32);
}

static uint8_t iq4_xs_scale(const uint8_t *block, int g)
{
    int scales_h = block[2] | block[3] << 8;
    int low = (block[4 + g / 2] >> (4 * (g % 2))) & 15;
    return (uint8_t)((low | ((scales_h >> (2 * g)) & 3) << 4) - 32);
}

/* Formats of 256 columns: group g of the block. */
static void take_super(enum dtype type, const uint8_t *b, int g, struct plain_group *o)
{
    switch (type) {
    case DTYPE_Q2_K:
        memcpy(o->head, b + 80, 4);
        memcpy(o->scales, b + 2 * g, 2);
        take_field(b + 16 + 32 * (g / 4), 2 * (g % 4), 3, o->bits);
        break;
    case DTYPE_Q3_K:
        memcpy(o->head, b + 108, 2);
        o->scales[0] = q3_k_scale(b + 96, 2 * g);
        o->scales[1] = q3_k_scale(b + 96, 2 * g + 1);
        take_field(b + 32 + 32 * (g / 4), 2 * (g % 4), 3, o->bits);
        add_field(b, g, 1, 2, o->bits);
        break;
    case DTYPE_Q4_K:
        memcpy(o->head, b, 4);
        take_scale_min(b + 4, g, o->scales);
        take_field(b + 16 + 32 * (g / 2), 4 * (g % 2), 15, o->bits);
        break;
    case DTYPE_Q5_K:
        memcpy(o->head, b, 4);
        take_scale_min(b + 4, g, o->scales);
        take_field(b + 48 + 32 * (g / 2), 4 * (g % 2), 15, o->bits);
        add_field(b + 16, g, 1, 4, o->bits);
        break;
    case DTYPE_Q6_K:
        memcpy(o->head, b + 208, 2);
        memcpy(o->scales, b + 192 + 2 * g, 2);
        take_field(b + 64 * (g / 4) + 32 * (g % 2), 4 * (g % 4 / 2), 15, o->bits);
        add_field(b + 128 + 32 * (g / 4), 2 * (g % 4), 3, 4, o->bits);
        break;
    case DTYPE_Q8_K:
        memcpy(o->head, b, 4);
        memcpy(o->bits, b + 4 + 32 * g, 32);
        break;
    case DTYPE_IQ4_XS:
        memcpy(o->head, b, 2);
        o->scales[0] = iq4_xs_scale(b, g);
        take_nibbles(b + 8 + 16 * g, o->bits);
        break;
    default:
        break;
    }
}

/* Group g of a block at b. */
static void take_blocked(enum dtype type, const uint8_t *b, int g, struct plain_group *o)
{
    switch (type) {
    case DTYPE_Q4_0:
    case DTYPE_IQ4_NL:
        memcpy(o->scales, b, 2);
        take_nibbles(b + 2, o->bits);
        break;
    case DTYPE_Q4_1:
        memcpy(o->scales, b, 4);
        take_nibbles(b + 4, o->bits);
        break;
    case DTYPE_Q5_0:
        memcpy(o->scales, b, 2);
        take_nibbles(b + 6, o->bits);
        add_fifth_bits(load32(b + 2), o->bits);
        break;
    case DTYPE_Q5_1:
        memcpy(o->scales, b, 4);
        take_nibbles(b + 8, o->bits);
        add_fifth_bits(load32(b + 4), o->bits);
        break;
    case DTYPE_Q8_0:
        memcpy(o->scales, b, 2);
        memcpy(o->bits, b + 2, 32);
        break;
    case DTYPE_MXFP4:
        o->scales[0] = b[0];
        take_nibbles(b + 1, o->bits);
        break;
    default:
        take_super(type, b, g, o);
        break;
    }
}

/* 32 codes of a row's stream, which begin with a byte: 8 codes are as many bytes as a code has bits. */
static void take_stream(const uint8_t *stream, int bits, uint8_t *codes)
{
    for (int i = 0; i < 32; i += 8, stream += bits) {
        uint64_t word = 0;
        memcpy(&word, stream, (size_t)bits);
        for (int l = 0; l < 8; l++)
            codes[i + l] = (uint8_t)(word >> (l * bits) & ((1u << bits) - 1));
    }
}

static void take_packed(const struct tensor_view *m, size_t row, size_t g, struct plain_group *o)
{
    const struct group_quant *q = &m->quant;
    size_t group = 32 * g / (size_t)q->group_size;
    packed_codes(q, m->data, row, 32 * g, 32, o->bits);
    memcpy(o->head, packed_scale(q, row, group), (size_t)dtype_info(q->scale_type)->block_size);
    o->zero = (uint8_t)packed_zero(q, row, group);
}

/* Columns [32 g, 32 g + 32) of a row of type GROUPED as MLX has it. */
static void take_stored(const struct tensor_view *m, size_t row, size_t g, struct plain_group *o)
{
    const struct group_quant *q = &m->quant;
    size_t n_in = (size_t)m->shape[1], group_len = (size_t)q->group_size;
    size_t at = row * (n_in / group_len) + 32 * g / group_len, size = (size_t)dtype_info(q->scale_type)->block_size;
    take_stream((const uint8_t *)m->data + row * grouped_row_size(q->bits, n_in) + 4 * g * (size_t)q->bits, q->bits,
                o->bits);
    if (q->mode == GROUP_AFFINE) {
        memcpy(o->head, (const uint8_t *)q->scales + at * size, size);
        memcpy(o->head + size, (const uint8_t *)q->biases + at * size, size);
    } else {
        memcpy(o->scales, (const uint8_t *)q->scales + at, 32 / group_len);
    }
}

static void take_grouped(const struct tensor_view *m, size_t row, size_t g, struct plain_group *o)
{
    if (m->quant.packing)
        take_packed(m, row, g, o);
    else
        take_stored(m, row, g, o);
    for (int i = 0; m->quant.bits == 8 && i < 32; i++)
        o->bits[i] ^= 0x80; /* less 128 */
}

static void take_group(const struct tensor_view *m, size_t row, size_t g, struct plain_group *o)
{
    const struct dtype_info *info = dtype_info(m->type);
    if (m->type == DTYPE_GROUPED) {
        take_grouped(m, row, g, o);
        return;
    }
    size_t n_blocks = (size_t)m->shape[1] / (size_t)info->block_len, per_block = (size_t)info->block_len / 32;
    const uint8_t *block = (const uint8_t *)m->data + (row * n_blocks + g / per_block) * (size_t)info->block_size;
    take_blocked(m->type, block, (int)(g % per_block), o);
}

/* ---- panels ---- */

/* `bits` bits (2, 4 or 8) of each code from bit `shift` on, to or from `at`: a row's place in the first vector. */
static void put_bits(const uint8_t *codes, int bits, int shift, uint8_t *at, size_t vector_size)
{
    int per_byte = 8 / bits;
    uint32_t mask = 0x01010101u * ((1u << bits) - 1);
    for (int v = 0; v < 8 / per_byte; v++, at += vector_size) {
        uint32_t word = 0;
        for (int i = 0; i < per_byte; i++)
            word |= ((load32(codes + 4 * (v * per_byte + i)) >> shift) & mask) << (bits * i);
        store32(at, word);
    }
}

static void get_bits(uint8_t *codes, int bits, int shift, const uint8_t *at, size_t vector_size)
{
    int per_byte = 8 / bits;
    uint32_t mask = 0x01010101u * ((1u << bits) - 1);
    for (int c = 0; c < 8; c++) {
        uint32_t word = load32(at + (size_t)(c / per_byte) * vector_size) >> (bits * (c % per_byte));
        store32(codes + 4 * c, load32(codes + 4 * c) | (word & mask) << shift);
    }
}

/* Bit `shift` of each code: chunk c goes to bit c. */
static void put_high_bit(const uint8_t *codes, int shift, uint8_t *at)
{
    uint32_t word = 0;
    for (int c = 0; c < 8; c++)
        word |= ((load32(codes + 4 * c) >> shift) & 0x01010101u) << c;
    store32(at, word);
}

static void get_high_bit(uint8_t *codes, int shift, const uint8_t *at)
{
    uint32_t word = load32(at);
    for (int c = 0; c < 8; c++)
        store32(codes + 4 * c, load32(codes + 4 * c) | ((word >> c) & 0x01010101u) << shift);
}

static void put_fields(struct field_layout f, const uint8_t *values, int rows, int row, uint8_t *dst)
{
    for (int i = 0; i < f.n; i++)
        memcpy(dst + (size_t)(i * rows + row) * f.width, values + i * f.width, f.width);
}

static void get_fields(struct field_layout f, uint8_t *values, int rows, int row, const uint8_t *src)
{
    for (int i = 0; i < f.n; i++)
        memcpy(values + i * f.width, src + (size_t)(i * rows + row) * f.width, f.width);
}

static void put_head(const struct pack_format *f, const struct plain_group *plain, int rows, int row, uint8_t *dst)
{
    struct field_layout head = head_fields(f);
    put_fields(head, plain->head, rows, row, dst);
    if (f->zeros)
        dst[rows * head.n * head.width + row] = plain->zero;
}

static void get_head(const struct pack_format *f, struct plain_group *plain, int rows, int row, const uint8_t *src)
{
    struct field_layout head = head_fields(f);
    get_fields(head, plain->head, rows, row, src);
    if (f->zeros)
        plain->zero = src[rows * head.n * head.width + row];
}

static void put_codes(const struct pack_format *f, const uint8_t *codes, int rows, int row, uint8_t *group)
{
    size_t vector_size = (size_t)rows * 4;
    uint8_t *low = group + pack_scales_size(f, rows) + (size_t)row * 4;
    uint8_t *high = low + vector_size * (size_t)f->low_bits;
    put_bits(codes, f->low_bits, 0, low, vector_size);
    if (f->high_bits == 1)
        put_high_bit(codes, f->low_bits, high);
    else if (f->high_bits == 2)
        put_bits(codes, 2, f->low_bits, high, vector_size);
}

static void get_codes(const struct pack_format *f, uint8_t *codes, int rows, int row, const uint8_t *group)
{
    size_t vector_size = (size_t)rows * 4;
    const uint8_t *low = group + pack_scales_size(f, rows) + (size_t)row * 4;
    const uint8_t *high = low + vector_size * (size_t)f->low_bits;
    memset(codes, 0, 32);
    get_bits(codes, f->low_bits, 0, low, vector_size);
    if (f->high_bits == 1)
        get_high_bit(codes, f->low_bits, high);
    else if (f->high_bits == 2)
        get_bits(codes, 2, f->low_bits, high, vector_size);
}

void pack_panel(const struct pack_format *f, const struct tensor_view *matrix, size_t first, int rows, uint8_t *dst)
{
    int n_in = (int)matrix->shape[1], n_groups = f->super_len / 32;
    size_t left = (size_t)matrix->shape[0] - first;
    int used = left < (size_t)rows ? (int)left : rows;
    if (used < rows)
        memset(dst, 0, pack_panel_size(f, rows, n_in));
    for (int s = 0; s < n_in / f->super_len; s++) {
        uint8_t *group = dst + pack_head_size(f, rows);
        for (int g = 0; g < n_groups; g++, group += pack_group_size(f, rows)) {
            for (int r = 0; r < used; r++) {
                struct plain_group plain;
                take_group(matrix, first + (size_t)r, (size_t)(s * n_groups + g), &plain);
                if (g == 0)
                    put_head(f, &plain, rows, r, dst);
                put_fields(fields[f->scales].group, plain.scales, rows, r, group);
                put_codes(f, plain.bits, rows, r, group);
            }
        }
        dst = group;
    }
}

/* ---- back to f32 ---- */

struct affine {
    float d, m; /* value = d code + m, or d code - m for the K formats */
};

static float f16_at(const uint8_t *p)
{
    return f16_to_f32((uint16_t)(p[0] | p[1] << 8));
}

static float e8m0_half(uint8_t e)
{
    uint32_t bits = e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23;
    float f;
    memcpy(&f, &bits, sizeof(f));
    return f;
}

static struct affine head_of(const struct pack_format *f, const struct plain_group *p)
{
    struct affine a;
    dtype_to_f32(f->head_type, p->head, 1, &a.d);
    if (f->zeros)
        a.m = -(a.d * (float)(p->zero + f->zero_add));
    else
        dtype_to_f32(f->head_type, p->head + dtype_info(f->head_type)->block_size, 1, &a.m);
    return a;
}

/* Scale and offset of a half group, in the order of float operations that tensor_row_to_f32 has. */
static struct affine affine_of(const struct pack_format *f, const struct plain_group *p, int half)
{
    struct affine a = {0, 0};
    switch (f->scales) {
    case PACK_F16:
        a.d = f16_at(p->scales);
        break;
    case PACK_F16_MIN:
        a.d = f16_at(p->scales);
        a.m = f16_at(p->scales + 2);
        break;
    case PACK_E8M0:
        a.d = e8m0_half(p->scales[0]);
        break;
    case PACK_E4M3:
        a.d = 0.5f * f8_e4m3_to_f32(p->scales[half]);
        break;
    case PACK_K32_MIN:
        a.d = f16_at(p->head) * (float)p->scales[0];
        a.m = f16_at(p->head + 2) * (float)p->scales[1];
        break;
    case PACK_K32:
        a.d = f16_at(p->head) * (float)(int8_t)p->scales[0];
        break;
    case PACK_K16:
        a.d = f16_at(p->head) * (float)(int8_t)p->scales[half];
        break;
    case PACK_K16_MIN:
        a.d = f16_at(p->head) * (float)(p->scales[half] & 15);
        a.m = f16_at(p->head + 2) * (float)(p->scales[half] >> 4);
        break;
    case PACK_F32_256:
        memcpy(&a.d, p->head, sizeof(a.d));
        break;
    case PACK_HEAD_MIN:
        a = head_of(f, p);
        break;
    }
    return a;
}

static float code_of(const struct pack_format *f, uint8_t bits)
{
    if (f->table)
        return f->table[bits];
    return (float)((f->low_bits == 8 ? (int8_t)bits : bits) - f->offset);
}

static void values_of(const struct pack_format *f, const struct plain_group *p, float *dst)
{
    for (int half = 0; half < 2; half++) {
        struct affine a = affine_of(f, p, half);
        for (int i = 16 * half; i < 16 * half + 16; i++) {
            float v = a.d * code_of(f, p->bits[i]);
            if (f->scales == PACK_F16_MIN || f->scales == PACK_HEAD_MIN)
                v = v + a.m;
            else if (f->scales == PACK_K32_MIN || f->scales == PACK_K16_MIN)
                v = v - a.m;
            dst[i] = v;
        }
    }
}

void pack_unpack_row(const struct pack_format *f, const uint8_t *panel, int rows, int row, int n_in, float *dst)
{
    for (int s = 0; s < n_in / f->super_len; s++) {
        struct plain_group plain = {0};
        const uint8_t *group = panel + pack_head_size(f, rows);
        get_head(f, &plain, rows, row, panel);
        for (int g = 0; g < f->super_len / 32; g++, dst += 32, group += pack_group_size(f, rows)) {
            get_fields(fields[f->scales].group, plain.scales, rows, row, group);
            get_codes(f, plain.bits, rows, row, group);
            values_of(f, &plain, dst);
        }
        panel = group;
    }
}
