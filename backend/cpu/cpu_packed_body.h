/* Products with packed weights, for any vector width: the body of the files that define an instruction set's primitives
 * and include cpu_codes_body.h, and then this once. Not a header of its own.
 *
 * A tile is up to PANELS panels (each VL rows, cpu_pack.h) by up to TOKENS tokens. A vector of codes is decoded once
 * and multiplied with a chunk of each token; PANELS x TOKENS accumulators keep the multipliers busy. Each (row, token)
 * goes through the same steps whatever else is in the tile:
 *
 *     a = sum of codes times q of a group (or half a group), exact in integers, in any order
 *     f = f + (a * scale) * d
 *     f = f + offset * (sum of the group's activations)
 *
 * Primitives expected besides those of the codes:
 *     vf, vf_zero vf_fma vf_splat vf_store vf_load: a vector of VL floats, with the operators of C
 *     vf_load_f16 vf_load_bf16 vf_load_u8 vf_load_i8: VL of them as floats; vf_of_i32(vi)
 *     vi_zero vi_splat32 vi_sll32
 *     TILE_SHAPES(X, n): X(n, tokens, panels) of every tile, most tokens first, then most panels; each number of
 *     tokens ends with 1 panel. With few tokens memory is the limit, and one panel is one stream of it: two at once are
 *     read at half the rate.
 *     WIDE_SHIFT: how codes of 8 bits become what is multiplied, see enum code_kind
 *     MULTIPLY: the function for the products of chunks, multiply of cpu_codes_body.h or one like it */

/* ---- scales ---- */

/* Of one panel: for each half of the group, or [0] for the whole. */
struct panel_scales {
    vf scale[2], offset[2];
};

INLINE bool has_offsets(const struct code_spec s)
{
    return s.scales == PACK_F16_MIN || s.scales == PACK_K32_MIN || s.scales == PACK_K16_MIN ||
           s.scales == PACK_HEAD_MIN;
}

INLINE bool has_head(const struct code_spec s)
{
    return s.scales >= PACK_K32_MIN;
}

/* f: affine groups have their length, and the type of their scales, from the matrix. They are looked at once per
 * super-block and panel, the same way each time; kernels of their own for each would be nine times as many. */
INLINE int head_size(const struct code_spec s, const struct pack_format *f)
{
    if (s.scales == PACK_HEAD_MIN)
        return f->zeros ? 3 * VL : f->head_type == DTYPE_F32 ? 8 * VL : 4 * VL;
    return !has_head(s) ? 0 : s.scales == PACK_K32 || s.scales == PACK_K16 ? 2 * VL : 4 * VL;
}

INLINE int groups_of_super(const struct code_spec s, const struct pack_format *f)
{
    return s.scales == PACK_HEAD_MIN ? f->super_len / 32 : has_head(s) ? 8 : 1;
}

INLINE int scales_size(const struct code_spec s)
{
    switch (s.scales) {
    case PACK_F16_MIN:
        return 4 * VL;
    case PACK_E8M0:
    case PACK_K32:
        return VL;
    case PACK_F32_256:
    case PACK_HEAD_MIN:
        return 0;
    default:
        return 2 * VL;
    }
}

/* d and m of affine groups whose zeros are bytes, behind d in 16 bits */
INLINE void load_zeros_head(const struct pack_format *f, const uint8_t *p, vf head[2])
{
    const float add = (float)f->zero_add;
    head[0] = f->head_type == DTYPE_F16 ? vf_load_f16(p) : vf_load_bf16(p);
    head[1] = vf_zero() - head[0] * (vf_load_u8(p + 2 * VL) + vf_splat(&add));
}

/* d and m of affine groups */
INLINE void load_typed_head(enum dtype type, const uint8_t *p, vf head[2])
{
    if (type == DTYPE_F16) {
        head[0] = vf_load_f16(p);
        head[1] = vf_load_f16(p + 2 * VL);
    } else if (type == DTYPE_BF16) {
        head[0] = vf_load_bf16(p);
        head[1] = vf_load_bf16(p + 2 * VL);
    } else {
        head[0] = vf_load(p);
        head[1] = vf_load(p + 4 * VL);
    }
}

/* d and -dmin of a super-block */
INLINE void load_head(const struct code_spec s, const struct pack_format *f, const uint8_t *p, vf head[2])
{
    if (s.scales == PACK_HEAD_MIN) {
        if (f->zeros)
            load_zeros_head(f, p, head);
        else
            load_typed_head(f->head_type, p, head);
        return;
    }
    head[0] = s.scales == PACK_F32_256 ? vf_load(p) : vf_load_f16(p);
    head[1] = vf_zero();
    if (has_offsets(s))
        head[1] = vf_zero() - vf_load_f16(p + 2 * VL);
}

/* VL bytes, and numbers of 16 bits: what scales of a byte become before they are floats. A loop over lanes would stay
 * one, and cost more than the group's products. */
typedef uint8_t v_u8 __attribute__((vector_size(VL)));
typedef uint16_t v_u16 __attribute__((vector_size(2 * VL)));
typedef int16_t v_i16 __attribute__((vector_size(2 * VL)));

INLINE v_u16 widen_u8(const uint8_t *p)
{
    v_u8 bytes;
    memcpy(&bytes, p, sizeof(bytes));
    return __builtin_convertvector(bytes, v_u16);
}

/* 2^(e - 128) as bf16: the exponent is e - 1, or of the subnormal e = 0 and 1 the fraction (e + 1) / 4, whichever is
 * larger; 128 more, so that nothing is negative before the end. */
INLINE vf load_e8m0(const uint8_t *p)
{
    v_i16 e = (v_i16)widen_u8(p), normal = e << 7, subnormal = (e << 5) + 160, larger = normal > subnormal;
    v_i16 bits = ((normal & larger) | (subnormal & ~larger)) - 128;
    return vf_load_bf16(&bits);
}

/* Half of a number of e4m3: 2^7 of the f16 with its bits in place. At the top e4m3 has NaN, which takes a bit more. */
INLINE vf load_e4m3_half(const uint8_t *p)
{
    static const float half_range = 0x1p7f;
    v_u16 b = widen_u8(p), magnitude = b & 0x7f;
    v_u16 bits = (b & 0x80) << 8 | magnitude << 7 | ((magnitude + 1) & 0x80) << 7;
    return vf_load_f16(&bits) * vf_splat(&half_range);
}

INLINE void load_nibble_scales(const uint8_t *p, const vf head[2], struct panel_scales *o, int half)
{
    uint8_t scale[VL], offset[VL];
    for (int i = 0; i < VL; i++) {
        scale[i] = p[i] & 15;
        offset[i] = p[i] >> 4;
    }
    o->scale[half] = head[0] * vf_load_u8(scale);
    o->offset[half] = head[1] * vf_load_u8(offset);
}

INLINE void load_scales(const struct code_spec s, const uint8_t *p, const vf head[2], struct panel_scales *o)
{
    switch (s.scales) {
    case PACK_F16:
        o->scale[0] = vf_load_f16(p);
        break;
    case PACK_F16_MIN:
        o->scale[0] = vf_load_f16(p);
        o->offset[0] = vf_load_f16(p + 2 * VL);
        break;
    case PACK_E8M0:
        o->scale[0] = load_e8m0(p);
        break;
    case PACK_E4M3:
        o->scale[0] = load_e4m3_half(p);
        o->scale[1] = load_e4m3_half(p + VL);
        break;
    case PACK_K32_MIN:
        o->scale[0] = head[0] * vf_load_u8(p);
        o->offset[0] = head[1] * vf_load_u8(p + VL);
        break;
    case PACK_K32:
        o->scale[0] = head[0] * vf_load_i8(p);
        break;
    case PACK_K16:
        o->scale[0] = head[0] * vf_load_i8(p);
        o->scale[1] = head[0] * vf_load_i8(p + VL);
        break;
    case PACK_K16_MIN:
        load_nibble_scales(p, head, o, 0);
        load_nibble_scales(p + VL, head, o, 1);
        break;
    case PACK_F32_256:
        o->scale[0] = head[0];
        break;
    case PACK_HEAD_MIN:
        o->scale[0] = head[0];
        o->offset[0] = head[1];
        break;
    }
}

/* ---- tiles ---- */

/* What the sums of a token's products begin with, so that they end as those of the codes. */
INLINE vi first_sum(const struct code_spec s, const struct act_group *x, const int half)
{
    const int less = s.kind == CODE_SIGNED ? WIDE_SHIFT : s.shift, more = s.kind == CODE_SIGNED ? s.shift : 0;
    if (less == more)
        return vi_zero();
    if (more > 0) {
        int32_t sum = x->minus_q * -(1 << more);
        return vi_splat32(&sum);
    }
    return vi_sll32(vi_splat32(halves(s) == 2 ? &x->minus_q16[half] : &x->minus_q), less);
}

/* Half a group (or a whole): f[p][t] moves on by its products. */
INLINE void run_chunks(const struct code_spec s, const uint8_t *const *codes, vi table, const struct panel_scales *sc,
                       const struct act_group *const *x, const int half, const int n_panels, const int n_tokens,
                       vf f[PANELS][TOKENS])
{
    const int n_chunks = 8 / halves(s), begin = half * n_chunks;
    vi acc[PANELS][TOKENS];
    UNROLL for (int t = 0; t < n_tokens; t++)
    {
        vi start = first_sum(s, x[t], half);
        UNROLL for (int p = 0; p < n_panels; p++) acc[p][t] = start;
    }
    MULTIPLY(s, codes, table, x, begin, n_chunks, n_panels, n_tokens, acc);
    UNROLL for (int t = 0; t < n_tokens; t++)
    {
        vf d = vf_splat(&x[t]->d), sum = vf_splat(halves(s) == 2 ? &x[t]->sum16[half] : &x[t]->sum);
        UNROLL for (int p = 0; p < n_panels; p++)
        {
            f[p][t] = vf_fma(vf_of_i32(acc[p][t]) * sc[p].scale[half], d, f[p][t]);
            if (has_offsets(s))
                f[p][t] = vf_fma(sc[p].offset[half], sum, f[p][t]);
        }
    }
}

INLINE void run_group(const struct code_spec s, const uint8_t **at, vi table, vf head[PANELS][2],
                      const struct act_group *const *x, const int n_panels, const int n_tokens, vf f[PANELS][TOKENS])
{
    struct panel_scales sc[PANELS];
    const uint8_t *codes[PANELS];
    UNROLL for (int p = 0; p < n_panels; p++)
    {
        load_scales(s, at[p], head[p], &sc[p]);
        codes[p] = at[p] + scales_size(s);
        at[p] = codes[p] + (s.low + s.high) * VECTOR_SIZE;
    }
    UNROLL for (int half = 0; half < halves(s); half++) run_chunks(s, codes, table, sc, x, half, n_panels, n_tokens, f);
}

/* n: rows of the panel that the tile has; only a matrix's last panel has fewer than VL */
INLINE void store_rows(float *out, vf v, int n, const float *bias)
{
    if (n >= VL) {
        if (bias)
            v = v + vf_load(bias);
        vf_store(out, v);
        return;
    }
    float lanes[VL];
    vf_store(lanes, v);
    for (int i = 0; i < n; i++)
        out[i] = bias ? lanes[i] + bias[i] : lanes[i];
}

/* Rows row .. row + n_rows (at most n_panels panels) by tokens t0 .. t0 + n_tokens. */
INLINE void packed_tile(const struct code_spec s, const struct linear_tile *tile, const int row, const int t0,
                        const int n_panels, const int n_tokens)
{
    const struct pack_format *format = tile->pack;
    const int n_groups = tile->n_in / 32, super = groups_of_super(s, format);
    const int super_size = head_size(s, format) + super * (scales_size(s) + (s.low + s.high) * VECTOR_SIZE);
    const size_t panel_size = (size_t)(n_groups / super) * (size_t)super_size;
    const struct act_group *x[TOKENS];
    const uint8_t *at[PANELS];
    vf f[PANELS][TOKENS], head[PANELS][2];
    const vi table = s.table ? vi_table(s.table) : vi_zero();
    UNROLL for (int t = 0; t < n_tokens; t++) x[t] = tile->q8 + (size_t)(t0 + t) * (size_t)n_groups;
    UNROLL for (int p = 0; p < n_panels; p++)
    {
        at[p] = tile->weights + (size_t)((tile->first_row + row) / VL + p) * panel_size;
        UNROLL for (int t = 0; t < n_tokens; t++) f[p][t] = vf_zero();
    }
    for (int g = 0; g < n_groups; g += super) {
        UNROLL for (int p = 0; p < n_panels; p++)
        {
            head[p][0] = head[p][1] = vf_zero();
            if (has_head(s))
                load_head(s, format, at[p], head[p]);
            at[p] += head_size(s, format);
        }
        for (int i = 0; i < super; i++) {
            run_group(s, at, table, head, x, n_panels, n_tokens, f);
            UNROLL for (int t = 0; t < n_tokens; t++) x[t]++;
        }
    }
    UNROLL for (int p = 0; p < n_panels; p++)
    {
        int first = row + p * VL, n = tile->n_rows - first < VL ? tile->n_rows - first : VL;
        UNROLL for (int t = 0; t < n_tokens; t++) store_rows(tile->out + (size_t)(t0 + t) * tile->out_stride + first,
                                                             f[p][t], n, tile->bias ? tile->bias + first : NULL);
    }
}

/* A tile of one format and shape: rows from `row` on, tokens from t on. Functions of their own, so that the compiler
 * gives each the registers it needs. */
typedef void tile_fn(const struct linear_tile *tile, int row, int t);
struct tile_kernel {
    int n_tokens, n_panels;
    tile_fn *fn;
};

/* A few panels for all tokens, before the next few: they stay in the first-level cache while tiles of several shapes
 * pass over them. */
#define BLOCK_PANELS 4

static void packed_block(const struct tile_kernel *k, const struct linear_tile *tile, int begin, int row_end)
{
    for (int t = 0, end; t < tile->n_t; t = end) {
        int n_tokens = k->n_tokens, row = begin;
        end = t + (tile->n_t - t) / n_tokens * n_tokens;
        for (; k->n_tokens == n_tokens; k++) {
            for (; row + (k->n_panels - 1) * VL < row_end; row += k->n_panels * VL) {
                for (int i = t; i < end; i += n_tokens)
                    k->fn(tile, row, i);
            }
        }
    }
}

static void packed_linear(const struct tile_kernel *kernels, const struct linear_tile *tile)
{
    const int block = BLOCK_PANELS * VL;
    for (int row = 0; row < tile->n_rows; row += block)
        packed_block(kernels, tile, row, row + block < tile->n_rows ? row + block : tile->n_rows);
}

#define TILE_FUNCTION(name, tokens, panels)                                                                          \
    static __attribute__((noinline)) void name##_##tokens##x##panels(const struct linear_tile *tile, int row, int t) \
    {                                                                                                                \
        packed_tile(name##_spec, tile, row, t, panels, tokens);                                                      \
    }
#define TILE_ENTRY(name, tokens, panels) {tokens, panels, name##_##tokens##x##panels},

#define PACKED_LINEAR(name, ...)                                                                  \
    static const struct code_spec name##_spec = {__VA_ARGS__};                                    \
    TILE_SHAPES(TILE_FUNCTION, name)                                                              \
    static const struct tile_kernel name##_tiles[] = {TILE_SHAPES(TILE_ENTRY, name){0, 0, NULL}}; \
    static void packed_##name(const struct linear_tile *tile)                                     \
    {                                                                                             \
        packed_linear(name##_tiles, tile);                                                        \
    }

static const int8_t iq4_table[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
static const int8_t mxfp4_table[16] = {16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4}; /* + 16 */

PACKED_LINEAR(q4_0, 4, 0, CODE_UNSIGNED, 3, NULL, PACK_F16, 8)
PACKED_LINEAR(q4_1, 4, 0, CODE_UNSIGNED, 0, NULL, PACK_F16_MIN, 8)
PACKED_LINEAR(q5_0, 4, 1, CODE_UNSIGNED, 4, NULL, PACK_F16, 4)
PACKED_LINEAR(q5_1, 4, 1, CODE_UNSIGNED, 0, NULL, PACK_F16_MIN, 4)
PACKED_LINEAR(q8_0, 8, 0, CODE_SIGNED, 0, NULL, PACK_F16, 1)
PACKED_LINEAR(q2_k, 2, 0, CODE_UNSIGNED, 0, NULL, PACK_K16_MIN, 4)
PACKED_LINEAR(q3_k, 2, 1, CODE_UNSIGNED, 2, NULL, PACK_K16, 4)
PACKED_LINEAR(q4_k, 4, 0, CODE_UNSIGNED, 0, NULL, PACK_K32_MIN, 8)
PACKED_LINEAR(q5_k, 4, 1, CODE_UNSIGNED, 0, NULL, PACK_K32_MIN, 4)
PACKED_LINEAR(q6_k, 4, 2, CODE_UNSIGNED, 5, NULL, PACK_K16, 2)
PACKED_LINEAR(q8_k, 8, 0, CODE_SIGNED, 0, NULL, PACK_F32_256, 1)
PACKED_LINEAR(iq4_nl, 4, 0, CODE_SIGNED, 0, iq4_table, PACK_F16, 1)
PACKED_LINEAR(iq4_xs, 4, 0, CODE_SIGNED, 0, iq4_table, PACK_K32, 1)
PACKED_LINEAR(mxfp4, 4, 0, CODE_UNSIGNED, 4, mxfp4_table, PACK_E8M0, 4)
PACKED_LINEAR(nvfp4, 4, 0, CODE_UNSIGNED, 4, mxfp4_table, PACK_E4M3, 4)
PACKED_LINEAR(affine2, 2, 0, CODE_UNSIGNED, 0, NULL, PACK_HEAD_MIN, 8)
PACKED_LINEAR(affine3, 2, 1, CODE_UNSIGNED, 0, NULL, PACK_HEAD_MIN, 8)
PACKED_LINEAR(affine4, 4, 0, CODE_UNSIGNED, 0, NULL, PACK_HEAD_MIN, 8)
PACKED_LINEAR(affine5, 4, 1, CODE_UNSIGNED, 0, NULL, PACK_HEAD_MIN, 4)
PACKED_LINEAR(affine6, 4, 2, CODE_UNSIGNED, 0, NULL, PACK_HEAD_MIN, 2)
PACKED_LINEAR(affine8, 8, 0, CODE_SIGNED, 7, NULL, PACK_HEAD_MIN, 1)

#define PACKED_TABLE                                                                                                \
    [PACK_Q4_0] = packed_q4_0, [PACK_Q4_1] = packed_q4_1, [PACK_Q5_0] = packed_q5_0, [PACK_Q5_1] = packed_q5_1,     \
    [PACK_Q8_0] = packed_q8_0, [PACK_Q2_K] = packed_q2_k, [PACK_Q3_K] = packed_q3_k, [PACK_Q4_K] = packed_q4_k,     \
    [PACK_Q5_K] = packed_q5_k, [PACK_Q6_K] = packed_q6_k, [PACK_Q8_K] = packed_q8_k, [PACK_IQ4_NL] = packed_iq4_nl, \
    [PACK_IQ4_XS] = packed_iq4_xs, [PACK_MXFP4] = packed_mxfp4, [PACK_NVFP4] = packed_nvfp4,                        \
    [PACK_AFFINE2] = packed_affine2, [PACK_AFFINE3] = packed_affine3, [PACK_AFFINE4] = packed_affine4,              \
    [PACK_AFFINE5] = packed_affine5, [PACK_AFFINE6] = packed_affine6, [PACK_AFFINE8] = packed_affine8
