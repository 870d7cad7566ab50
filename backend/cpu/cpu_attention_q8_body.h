/* Attention over a page of int8 codes (KV_Q8), for any vector width: included once, by cpu_attention_body.h. Not a
 * header of its own.
 *
 * Both products are sums of pairs: queries, or probabilities times the scales of V, become 16-bit codes with a factor
 * for each group (KV_GROUP), and a page's codes lie so that what is multiplied with a pair lies side by side:
 *
 *     K  [k_dim / 2][keys][2]      k[d][j], k[d + 1][j]
 *     V  [keys / 2][v_dim][2]      v[j][c], v[j + 1][c]
 *
 * Sums of a group are exact in 32 bits: at most 32 products of 32767 * 127. So what is lost is lost by rounding to 16
 * bits of the largest in the group; against that of 8 bits it is nothing.
 *
 * Primitives: vcodes vcodes_load(p): 2 VL bytes as 16 bits; vpair vpair_zero vpair_dot(sums, vi two codes in each lane,
 * vcodes) vf_of_pairs; vf_store_i16. PAIR_SHAPES as SUM_SHAPES. */

struct pair_sum {
    const int16_t *a; /* [n, a_stride] */
    size_t a_stride;
    const float *factors; /* of a: [n, factors_stride] */
    size_t factors_stride;
    const int8_t *b; /* [end, b_stride] pairs */
    size_t b_stride;
    ptrdiff_t next; /* as in struct page_sum */
    int begin, end; /* pairs */
    float *out;     /* [n, out_stride], to whole vectors */
    size_t out_stride;
    const float *scales, *keep;
};

INLINE vf pair_end(const enum sum_end end, const struct pair_sum *p, size_t i, size_t column, vpair sum)
{
    const float *out = p->out + i * p->out_stride + column;
    vf s = vf_of_pairs(sum) * vf_splat(&p->factors[i * p->factors_stride]);
    return end == SUM_SCALED ? vf_fma(s, vf_load(p->scales + column), vf_load(out))
                             : vf_fma(vf_load(out), vf_splat(&p->keep[i]), s);
}

INLINE void pair_tile(const enum sum_end end, const struct pair_sum *p, const int row, const int column,
                      const int n_rows, const int n_vectors)
{
    vpair sums[SUM_MAX_QUERIES][SUM_MAX_VECTORS];
    const int16_t *a = p->a + (size_t)row * p->a_stride;
    UNROLL for (int i = 0; i < n_rows; i++) UNROLL for (int v = 0; v < n_vectors; v++) sums[i][v] = vpair_zero();
    for (int k = p->begin; k < p->end; k++) {
        const int8_t *at = p->b + 2 * ((size_t)k * p->b_stride + (size_t)column);
        __builtin_prefetch(at + p->next, 0, 2);
        if (n_rows > n_vectors) { /* the fewer of the two stay in registers */
            vcodes b[SUM_MAX_VECTORS];
            UNROLL for (int v = 0; v < n_vectors; v++) b[v] = vcodes_load(at + 2 * v * VL);
            UNROLL for (int i = 0; i < n_rows; i++)
            {
                vi x = vi_splat32(&a[(size_t)i * p->a_stride + 2 * (size_t)k]);
                UNROLL for (int v = 0; v < n_vectors; v++) sums[i][v] = vpair_dot(sums[i][v], x, b[v]);
            }
        } else {
            vi x[SUM_MAX_QUERIES];
            UNROLL for (int i = 0; i < n_rows; i++) x[i] = vi_splat32(&a[(size_t)i * p->a_stride + 2 * (size_t)k]);
            UNROLL for (int v = 0; v < n_vectors; v++)
            {
                vcodes b = vcodes_load(at + 2 * v * VL);
                UNROLL for (int i = 0; i < n_rows; i++) sums[i][v] = vpair_dot(sums[i][v], x[i], b);
            }
        }
    }
    UNROLL for (int i = 0; i < n_rows; i++) UNROLL for (int v = 0; v < n_vectors; v++)
    {
        size_t r = (size_t)(row + i), c = (size_t)(column + v * VL);
        vf_store(p->out + r * p->out_stride + c, pair_end(end, p, r, c, sums[i][v]));
    }
}

/* The last n_lanes < VL columns of a query. */
INLINE void pair_tail(const enum sum_end end, const struct pair_sum *p, int row, int column, int n_lanes)
{
    size_t r = (size_t)row, c = (size_t)column;
    vpair sum = vpair_zero();
    for (int k = p->begin; k < p->end; k++) {
        int8_t lanes[2 * VL] = {0};
        memcpy(lanes, p->b + 2 * ((size_t)k * p->b_stride + c), 2 * (size_t)n_lanes);
        sum = vpair_dot(sum, vi_splat32(&p->a[r * p->a_stride + 2 * (size_t)k]), vcodes_load(lanes));
    }
    vf_store(p->out + r * p->out_stride + c, pair_end(end, p, r, c, sum));
}

#define PAIR_FUNCTION(name, queries, vectors)                                                                \
    static __attribute__((noinline)) void name##_##queries##x##vectors(const void *sum, int row, int column) \
    {                                                                                                        \
        pair_tile(name##_end, sum, row, column, queries, vectors);                                           \
    }

/* name(p, n, column, n_columns): columns [column, n_columns) of n queries */
#define PAIR_SUM(name, end)                                                                       \
    static const enum sum_end name##_end = end;                                                   \
    PAIR_SHAPES(PAIR_FUNCTION, name)                                                              \
    static const struct sum_kernel name##_kernels[] = {PAIR_SHAPES(SUM_ENTRY, name){0, 0, NULL}}; \
    static void name(const struct pair_sum *p, int n, int column, int n_columns)                  \
    {                                                                                             \
        int whole = column + (n_columns - column) / VL * VL;                                      \
        sum_all(name##_kernels, p, n, column, whole);                                             \
        for (int i = 0; whole < n_columns && i < n; i++)                                          \
            pair_tail(end, p, i, whole, n_columns - whole);                                       \
    }

PAIR_SUM(scores_q8, SUM_SCALED)
PAIR_SUM(values_q8, SUM_DECAYED)

#define PAIR_TOP  32767
#define PAIR_TINY 1e-30f /* a group whose largest is less counts as zero: its reciprocal would be too large */

/* The factor of codes whose largest is `top`, and what makes codes of numbers. */
INLINE float pair_factor(float top, float *inverse)
{
    *inverse = top > PAIR_TINY ? PAIR_TOP / top : 0;
    return top > PAIR_TINY ? top * (1.0f / PAIR_TOP) : top * 0;
}

/* Where a number is not finite, neither is the factor. */
static void attend_prepare(const float *q, int n, int k_dim, int16_t *codes, float *factors)
{
    for (int i = 0; i < n; i++, q += k_dim) {
        for (int d = 0; d < k_dim; d += KV_GROUP, codes += KV_GROUP) {
            int len = k_dim - d < KV_GROUP ? k_dim - d : KV_GROUP;
            vf top = vf_zero(), check = vf_zero(); /* check: 0, or NaN */
            for (int k = 0; k < len; k += VL) {
                vf v = load_some(q + d + k, (size_t)(len - k));
                top = vf_max(vf_abs(v), top);
                check = vf_fma(v, vf_zero(), check);
            }
            float inverse;
            *factors++ = pair_factor(vf_max_lane(top), &inverse) + vf_sum(check);
            for (int k = 0; k < KV_GROUP; k += VL) {
                vf v = vf_zero();
                if (k < len)
                    v = load_some(q + d + k, (size_t)(len - k)) * vf_set1(inverse);
                vf_store_i16(codes + k, v);
            }
        }
    }
}

/* Those at `from` in a page, and at `next` bytes from there in the page that is to come. */
INLINE void load_group_scales(const uint16_t *from, ptrdiff_t next, float *scales)
{
    __builtin_prefetch((const uint8_t *)from + next, 0, 2);
    UNROLL for (int j = 0; j < CPU_PAGE_TOKENS; j += VL) vf_store(scales + j, vf_load_f16(from + j));
}

/* Of the keys that hold numbers; the others' are 0. Returns 0, or NaN where one is not finite. */
INLINE float load_value_scales(const struct attention_page *page, const uint16_t *from, ptrdiff_t next, float *scales)
{
    vf sum = vf_zero();
    load_group_scales(from, next, scales);
    for (int j = 0; j < page->first; j++)
        scales[j] = 0;
    for (int j = page->end; j < CPU_PAGE_TOKENS; j++)
        scales[j] = 0;
    UNROLL for (int j = 0; j < CPU_PAGE_TOKENS; j += VL) sum = vf_fma(vf_load(scales + j), vf_zero(), sum);
    return vf_sum(sum);
}

/* The products with what all keys of the page are more by. */
static void begin_scores(const struct attention_page *page, const struct attention_queries *q)
{
    size_t k_dim = (size_t)page->k_dim;
    __builtin_prefetch((const uint8_t *)page->k_offsets + ((const uint8_t *)page->next - (const uint8_t *)page->k), 0,
                       2);
    for (int i = 0; i < q->n; i++) {
        const float *x = q->q + (size_t)i * k_dim;
        float *scores = q->scores + (size_t)i * CPU_PAGE_TOKENS;
        vf sum = vf_zero();
        size_t d = 0;
        for (; d + VL <= k_dim; d += VL)
            sum = vf_fma(vf_load(x + d), vf_load_f16(page->k_offsets + d), sum);
        if (d < k_dim)
            sum = vf_fma(load_some(x + d, k_dim - d), load_kv_n(KV_F16, page->k_offsets, d, (int)(k_dim - d)), sum);
        vf all = vf_set1(vf_sum(sum));
        UNROLL for (int j = 0; j < CPU_PAGE_TOKENS; j += VL) vf_store(scores + j, all);
    }
}

/* Group after group: q.k of a group is the sum of codes times codes, times the scale of the query and that of the key.
 */
static void score_groups(const struct attention_page *page, const struct attention_queries *q)
{
    size_t n_groups = kv_groups(page->k_dim);
    float scales[CPU_PAGE_TOKENS] ALIGNED;
    struct pair_sum p = {.a = q->codes,
                         .a_stride = n_groups * KV_GROUP,
                         .factors_stride = n_groups,
                         .b = page->k,
                         .b_stride = CPU_PAGE_TOKENS,
                         .next = (const uint8_t *)page->next - (const uint8_t *)page->k,
                         .out = q->scores,
                         .out_stride = CPU_PAGE_TOKENS,
                         .scales = scales};
    begin_scores(page, q);
    for (size_t g = 0; g < n_groups; g++) {
        int end = (int)(g + 1) * KV_GROUP < page->k_dim ? (int)(g + 1) * KV_GROUP : page->k_dim;
        load_group_scales(page->k_scales + g * CPU_PAGE_TOKENS, p.next, scales);
        p.factors = q->factors + g;
        p.begin = (int)g * KV_GROUP / 2;
        p.end = end / 2;
        scores_q8(&p, q->n, 0, CPU_PAGE_TOKENS);
    }
}

/* A query's probabilities times a group's scales, as codes. */
static float weigh(const float *probabilities, const float *scales, int16_t *codes)
{
    vf weights[CPU_PAGE_TOKENS / VL], top = vf_zero();
    UNROLL for (int v = 0; v < CPU_PAGE_TOKENS / VL; v++)
    {
        weights[v] = vf_load(probabilities + v * VL) * vf_load(scales + v * VL);
        top = vf_max(weights[v], top);
    }
    float inverse, factor = pair_factor(vf_max_lane(top), &inverse);
    UNROLL for (int v = 0; v < CPU_PAGE_TOKENS / VL; v++) vf_store_i16(codes + v * VL, weights[v] * vf_set1(inverse));
    return factor;
}

static void add_groups(const struct attention_page *page, const struct attention_queries *q)
{
    float scales[CPU_PAGE_TOKENS] ALIGNED;
    struct pair_sum p = {.a = q->weights,
                         .a_stride = CPU_PAGE_TOKENS,
                         .factors = q->weight_factors,
                         .factors_stride = 1,
                         .b = page->v,
                         .b_stride = (size_t)page->v_dim,
                         .next = (const uint8_t *)page->next - (const uint8_t *)page->k,
                         .begin = page->first / 2,
                         .end = (page->end + 1) / 2,
                         .out = q->acc,
                         .out_stride = q->v_stride,
                         .keep = q->keep};
    for (int d = 0; d < page->v_dim; d += KV_GROUP) {
        float check =
            load_value_scales(page, page->v_scales + (size_t)(d / KV_GROUP) * CPU_PAGE_TOKENS, p.next, scales);
        for (int i = 0; i < q->n; i++) {
            size_t at = (size_t)i * CPU_PAGE_TOKENS;
            q->weight_factors[i] = weigh(q->scores + at, scales, q->weights + at) + check;
        }
        values_q8(&p, q->n, d, d + KV_GROUP < page->v_dim ? d + KV_GROUP : page->v_dim);
    }
}
