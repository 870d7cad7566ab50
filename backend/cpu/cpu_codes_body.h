/* Codes of packed weights (cpu_pack.h) and their products with activations, for any vector width: included by the files
 * that define an instruction set's primitives, once, before cpu_packed_body.h. Not a header of its own.
 *
 * Primitives expected:
 *     VL, vi                           lanes (= rows of a panel); a vector of 4 VL bytes
 *     PANELS, TOKENS                   of the largest tile; TILE_SHAPES: cpu_packed_body.h
 *     vi_load vi_and vi_or vi_splat8   vi_srl16 vi_sll16: by bits, in lanes of 16 bits or of 8 (the rest is masked)
 *     vi_table(p)                      16 bytes, repeated in each 128-bit lane; vi_lookup(table, indexes below 16)
 *     code_ready(w, kind)              codes as dot_step wants them
 *     act_chunk(q, c)                  activations of a group for dot_step at chunk c
 *     dot_step(&acc, &part, w, a, c, kind, first, last): acc += w . a, by way of part between first and last */

/* Codes as dot_step takes them. */
enum code_kind {
    CODE_UNSIGNED, /* code + offset, unsigned and at most 63 */
    CODE_SIGNED,   /* 8 bits; dot_step multiplies (code + 128) where WIDE_SHIFT is 7, the code itself where it is 0 */
};

struct code_spec {
    int low, high; /* bits */
    enum code_kind kind;
    int shift;           /* of CODE_UNSIGNED: the offset is 1 << shift; of CODE_SIGNED: the code is 1 << shift more than
                            the signed byte; 0: none */
    const int8_t *table; /* of CODE_SIGNED, or, with the offset added, of CODE_UNSIGNED; NULL: none */
    enum pack_scales scales;
    int run; /* chunks whose products may be summed in 16 bits */
};

#define VECTOR_SIZE (4 * VL)

INLINE vi decode(const struct code_spec s, const uint8_t *codes, vi table, const int c)
{
    vi x;
    if (s.low == 8)
        x = vi_load(codes + c * VECTOR_SIZE);
    else if (s.low == 4)
        x = vi_and(vi_srl16(vi_load(codes + c / 2 * VECTOR_SIZE), c % 2 * 4), vi_splat8(15));
    else
        x = vi_and(vi_srl16(vi_load(codes + c / 4 * VECTOR_SIZE), c % 4 * 2), vi_splat8(3));
    if (s.high == 1) {
        vi h = vi_load(codes + s.low * VECTOR_SIZE);
        h = c > s.low ? vi_srl16(h, c - s.low) : vi_sll16(h, s.low - c);
        x = vi_or(x, vi_and(h, vi_splat8(1 << s.low)));
    } else if (s.high == 2) {
        vi h = vi_load(codes + (s.low + c / 4) * VECTOR_SIZE);
        h = c % 4 == 3 ? vi_srl16(h, 2) : vi_sll16(h, 4 - c % 4 * 2);
        x = vi_or(x, vi_and(h, vi_splat8(0x30)));
    }
    return s.table ? vi_lookup(table, x) : x;
}

INLINE int halves(const struct code_spec s)
{
    return s.scales == PACK_K16 || s.scales == PACK_K16_MIN || s.scales == PACK_E4M3 ? 2 : 1;
}

/* acc[p][t] += codes . q over the chunks from `begin` on. x: the group of each token. */
INLINE void multiply(const struct code_spec s, const uint8_t *const *codes, vi table, const struct act_group *const *x,
                     const int begin, const int n_chunks, const int n_panels, const int n_tokens,
                     vi acc[PANELS][TOKENS])
{
    vi part[PANELS][TOKENS];
    UNROLL for (int c = begin; c < begin + n_chunks; c++)
    {
        vi w[PANELS];
        UNROLL for (int p = 0; p < n_panels; p++) w[p] = code_ready(decode(s, codes[p], table, c), s.kind);
        UNROLL for (int t = 0; t < n_tokens; t++)
        {
            vi a = act_chunk(x[t]->q, c);
            UNROLL for (int p = 0; p < n_panels; p++)
                dot_step(&acc[p][t], &part[p][t], w[p], a, c, s.kind, c % s.run == 0 || c == begin,
                         c % s.run == s.run - 1 || c == begin + n_chunks - 1);
        }
    }
}
