/* The loops of cpu_peak.h for any vector width: included by the files that define an instruction set's primitives, once
 * each. Not a header of its own.
 *
 * Primitives expected:
 *     vi, vf                    vectors of integers and of f32
 *     vi_load, vi_xor, vi_splat8(value), vf_splat(value), vi_of_f32(vf)
 *     vi_dot(acc, x, w)         acc + x . w, of bytes, in lanes of 32 bits
 *     vf_fma(a, b, c)           a b + c
 *     DOT_CHAINS, FMA_CHAINS    independent chains: latency times instructions per cycle at least, all in registers,
 *                               at most as many as UNROLL unrolls
 */
#define READ_STREAMS 4   /* a prefetcher follows several at once, and none of them waits for another */
#define READ_RUN     256 /* bytes of a stream between two of another: whole cache lines */

_Static_assert(CPU_PEAK_READ_STEP % (READ_STREAMS * READ_RUN) == 0, "streams are of equal length");

INLINE uint64_t fold(const vi *vectors, const int n)
{
    uint64_t words[sizeof(vi) / 8], sum = 0;
    vi all = vectors[0];
    UNROLL for (int i = 1; i < n; i++) all = vi_xor(all, vectors[i]);
    memcpy(words, &all, sizeof(words));
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        sum += words[i];
    return sum;
}

static uint64_t read_memory(const void *data, size_t size)
{
    const uint8_t *bytes = data;
    size_t stream = size / READ_STREAMS;
    vi acc[2 * READ_STREAMS];
    UNROLL for (int i = 0; i < 2 * READ_STREAMS; i++) acc[i] = vi_splat8(0);
    for (size_t at = 0; at < stream; at += READ_RUN) {
        UNROLL for (int s = 0; s < READ_STREAMS; s++)
        {
            const uint8_t *p = bytes + (size_t)s * stream + at;
            UNROLL for (size_t i = 0; i < READ_RUN / sizeof(vi); i++) acc[2 * s + (int)(i % 2)] =
                vi_xor(acc[2 * s + (int)(i % 2)], vi_load(p + i * sizeof(vi)));
        }
    }
    return fold(acc, 2 * READ_STREAMS);
}

static uint64_t multiply_int8(int64_t rounds)
{
    vi acc[DOT_CHAINS], w = vi_splat8(3);
    UNROLL for (int i = 0; i < DOT_CHAINS; i++) acc[i] = vi_splat8((int)rounds + i);
    for (int64_t r = 0; r < rounds; r++) {
        UNROLL for (int i = 0; i < DOT_CHAINS; i++) acc[i] = vi_dot(acc[i], acc[i], w);
    }
    return fold(acc, DOT_CHAINS);
}

static uint64_t multiply_f32(int64_t rounds)
{
    vf acc[FMA_CHAINS], w = vf_splat(-0x1p-30f); /* the sums hardly move: no denormals, no infinities */
    vi bits[FMA_CHAINS];
    UNROLL for (int i = 0; i < FMA_CHAINS; i++) acc[i] = vf_splat((float)(rounds + i));
    for (int64_t r = 0; r < rounds; r++) {
        UNROLL for (int i = 0; i < FMA_CHAINS; i++) acc[i] = vf_fma(acc[i], w, acc[i]);
    }
    UNROLL for (int i = 0; i < FMA_CHAINS; i++) bits[i] = vi_of_f32(acc[i]);
    return fold(bits, FMA_CHAINS);
}

#define INT8_LOOP(what)                                  \
    {                                                    \
        multiply_int8, DOT_CHAINS *(int)sizeof(vi), what \
    }
#define F32_LOOP(what)                                        \
    {                                                         \
        multiply_f32, FMA_CHAINS *(int)(sizeof(vf) / 4), what \
    }
