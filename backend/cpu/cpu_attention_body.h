/* Attention over one page, for any vector width: the body of the files that define an instruction set's primitives
 * (cpu_packed_body.h, cpu_vector_body.h) and then include this once, behind cpu_vector_body.h. Not a header of its own.
 *
 * Both products of attention have one shape: out[i][c] = sum over k of a[i][k] b[k][c], b being a page's K (transposed,
 * so that c is a key) or its V (c is an element of the value). A tile of some queries by some vectors of columns stays
 * in registers while k goes by; queries share the loads of b. Each out[i][c] is summed in the order of k, whatever the
 * tile.
 *
 * Primitives: SUM_SHAPES(X, n): X(n, queries, vectors) of every tile, most queries first, then most vectors; each
 * number of queries ends with 1 vector. SUM_MAX_QUERIES, SUM_MAX_VECTORS: of any. */

/* ---- sums over a page's rows ---- */

enum sum_end {              /* what becomes of a sum s of query i at column c */
               SUM_STORE,   /* out = s */
               SUM_SCALED,  /* out = out + s * scales[c]: a group of K's codes */
               SUM_DECAYED, /* out = out * keep[i] + s: V onto what there was */
};

struct page_sum {
    const float *a; /* [n, a_stride] */
    size_t a_stride;
    const void *b; /* [end, b_stride] */
    size_t b_stride;
    ptrdiff_t next; /* bytes from b to what will be b: a page is too short for the processor to foresee the next */
    int begin, end; /* of k */
    float *out;     /* [n, out_stride], to whole vectors */
    size_t out_stride;
    const float *keep;
};

#define KV_ELEMENT(type) ((type) == KV_F32 ? 4u : 2u) /* bytes */

INLINE vf load_kv(const enum kv_type type, const void *p, size_t i)
{
    return type == KV_F32 ? vf_load((const float *)p + i) : vf_load_f16((const uint16_t *)p + i);
}

/* n < VL elements, the rest 0 */
INLINE vf load_kv_n(const enum kv_type type, const void *p, size_t i, int n)
{
    uint8_t lanes[4 * VL] = {0};
    memcpy(lanes, (const uint8_t *)p + i * KV_ELEMENT(type), (size_t)n * KV_ELEMENT(type));
    return load_kv(type, lanes, 0);
}

INLINE vf sum_end(const enum sum_end end, const struct page_sum *p, size_t i, size_t column, vf sum)
{
    const float *out = p->out + i * p->out_stride + column;
    return end == SUM_DECAYED ? vf_fma(vf_load(out), vf_splat(&p->keep[i]), sum) : sum;
}

INLINE void sum_tile(const enum kv_type type, const enum sum_end end, const struct page_sum *p, const int row,
                     const int column, const int n_rows, const int n_vectors)
{
    vf sums[SUM_MAX_QUERIES][SUM_MAX_VECTORS];
    const float *a = p->a + (size_t)row * p->a_stride;
    UNROLL for (int i = 0; i < n_rows; i++) UNROLL for (int v = 0; v < n_vectors; v++) sums[i][v] = vf_zero();
    for (int k = p->begin; k < p->end; k++) {
        size_t at = (size_t)k * p->b_stride + (size_t)column;
        __builtin_prefetch((const uint8_t *)p->b + p->next + at * KV_ELEMENT(type), 0, 2);
        if (n_rows > n_vectors) { /* the fewer of the two stay in registers */
            vf b[SUM_MAX_VECTORS];
            UNROLL for (int v = 0; v < n_vectors; v++) b[v] = load_kv(type, p->b, at + (size_t)(v * VL));
            UNROLL for (int i = 0; i < n_rows; i++)
            {
                vf x = vf_splat(&a[(size_t)i * p->a_stride + (size_t)k]);
                UNROLL for (int v = 0; v < n_vectors; v++) sums[i][v] = vf_fma(x, b[v], sums[i][v]);
            }
        } else {
            vf x[SUM_MAX_QUERIES];
            UNROLL for (int i = 0; i < n_rows; i++) x[i] = vf_splat(&a[(size_t)i * p->a_stride + (size_t)k]);
            UNROLL for (int v = 0; v < n_vectors; v++)
            {
                vf b = load_kv(type, p->b, at + (size_t)(v * VL));
                UNROLL for (int i = 0; i < n_rows; i++) sums[i][v] = vf_fma(x[i], b, sums[i][v]);
            }
        }
    }
    UNROLL for (int i = 0; i < n_rows; i++) UNROLL for (int v = 0; v < n_vectors; v++)
    {
        size_t r = (size_t)(row + i), c = (size_t)(column + v * VL);
        vf_store(p->out + r * p->out_stride + c, sum_end(end, p, r, c, sums[i][v]));
    }
}

/* The last n_lanes < VL columns of a query. */
INLINE void sum_tail(const enum kv_type type, const enum sum_end end, const struct page_sum *p, int row, int column,
                     int n_lanes)
{
    size_t r = (size_t)row, c = (size_t)column;
    vf sum = vf_zero();
    for (int k = p->begin; k < p->end; k++)
        sum = vf_fma(vf_splat(&p->a[r * p->a_stride + (size_t)k]),
                     load_kv_n(type, p->b, (size_t)k * p->b_stride + c, n_lanes), sum);
    vf_store(p->out + r * p->out_stride + c, sum_end(end, p, r, c, sum));
}

struct sum_kind {
    enum kv_type type;
    enum sum_end end;
};
typedef void sum_fn(const void *sum, int row, int column);
struct sum_kernel {
    int n_queries, n_vectors;
    sum_fn *fn;
};

#define SUM_FUNCTION(name, queries, vectors)                                                                 \
    static __attribute__((noinline)) void name##_##queries##x##vectors(const void *sum, int row, int column) \
    {                                                                                                        \
        sum_tile(name##_sum.type, name##_sum.end, sum, row, column, queries, vectors);                       \
    }
#define SUM_ENTRY(name, queries, vectors) {queries, vectors, name##_##queries##x##vectors},

/* name(p, n, column, n_columns): columns [column, n_columns) of n queries */
#define PAGE_SUM(name, type, end)                                                                \
    static const struct sum_kind name##_sum = {type, end};                                       \
    SUM_SHAPES(SUM_FUNCTION, name)                                                               \
    static const struct sum_kernel name##_kernels[] = {SUM_SHAPES(SUM_ENTRY, name){0, 0, NULL}}; \
    static void name(const struct page_sum *p, int n, int column, int n_columns)                 \
    {                                                                                            \
        int whole = column + (n_columns - column) / VL * VL;                                     \
        sum_all(name##_kernels, p, n, column, whole);                                            \
        for (int i = 0; whole < n_columns && i < n; i++)                                         \
            sum_tail(type, end, p, i, whole, n_columns - whole);                                 \
    }

static void sum_all(const struct sum_kernel *k, const void *sum, int n, int column, int end)
{
    for (int row = 0; row < n;) {
        int n_queries = k->n_queries, c = column;
        if (row + n_queries > n) { /* fewer are left: the next shape */
            k++;
            continue;
        }
        for (const struct sum_kernel *shape = k; shape->n_queries == n_queries; shape++) {
            for (; c + shape->n_vectors * VL <= end; c += shape->n_vectors * VL)
                shape->fn(sum, row, c);
        }
        row += n_queries;
    }
}

PAGE_SUM(scores_f32, KV_F32, SUM_STORE)
PAGE_SUM(scores_f16, KV_F16, SUM_STORE)
PAGE_SUM(values_f32, KV_F32, SUM_DECAYED)
PAGE_SUM(values_f16, KV_F16, SUM_DECAYED)

#include "backend/cpu/cpu_attention_q8_body.h"

/* ---- scores ---- */

static void score_page(const struct attention_page *page, const struct attention_queries *q)
{
    if (page->type == KV_Q8) {
        score_groups(page, q);
        return;
    }
    struct page_sum p = {.a = q->q,
                         .a_stride = (size_t)page->k_dim,
                         .b = page->k,
                         .b_stride = CPU_PAGE_TOKENS,
                         .next = (const uint8_t *)page->next - (const uint8_t *)page->k,
                         .end = page->k_dim,
                         .out = q->scores,
                         .out_stride = CPU_PAGE_TOKENS};
    (page->type == KV_F16 ? scores_f16 : scores_f32)(&p, q->n, 0, CPU_PAGE_TOKENS);
}

/* ---- softmax ---- */

#define KEY_VECTORS (CPU_PAGE_TOKENS / VL)

static void mask(float *s, int first, int end)
{
    for (int j = 0; j < first; j++)
        s[j] = -INFINITY;
    for (int j = end; j < CPU_PAGE_TOKENS; j++)
        s[j] = -INFINITY;
}

/* Scores of one query to probabilities relative to the new maximum; what the state so far is multiplied with. A query
 * that sees none of the page stays as it is. */
INLINE float softmax_page(const struct attention_page *page, const struct attention_queries *q, int i)
{
    float *s = q->scores + (size_t)i * CPU_PAGE_TOKENS;
    if (q->first[i] >= q->end[i]) {
        memset(s, 0, CPU_PAGE_TOKENS * sizeof(float));
        return 1;
    }
    if (page->softcap > 0)
        softcap(s, page->softcap, CPU_PAGE_TOKENS);
    if (q->first[i] > 0 || q->end[i] < CPU_PAGE_TOKENS)
        mask(s, q->first[i], q->end[i]);
    vf top = vf_load(s), sum = vf_zero();
    UNROLL for (int v = 1; v < KEY_VECTORS; v++) top = vf_max(top, vf_load(s + v * VL));
    float lanes[VL], m = vf_max_lane(top);
    m = m > q->m[i] ? m : q->m[i];
    vf_store(lanes, vf_exp(vf_set1(q->m[i] - m)));
    UNROLL for (int v = 0; v < KEY_VECTORS; v++)
    {
        vf p = vf_exp(vf_load(s + v * VL) - vf_set1(m));
        vf_store(s + v * VL, p);
        sum = sum + p;
    }
    q->m[i] = m;
    q->l[i] = q->l[i] * lanes[0] + vf_sum(sum);
    return lanes[0];
}

/* ---- values ---- */

static void add_values(const struct attention_page *page, const struct attention_queries *q)
{
    if (page->type == KV_Q8) {
        add_groups(page, q);
        return;
    }
    struct page_sum p = {.a = q->scores,
                         .a_stride = CPU_PAGE_TOKENS,
                         .b = page->v,
                         .b_stride = (size_t)page->v_dim,
                         .next = (const uint8_t *)page->next - (const uint8_t *)page->k,
                         .begin = page->first,
                         .end = page->end,
                         .out = q->acc,
                         .out_stride = q->v_stride,
                         .keep = q->keep};
    (page->type == KV_F16 ? values_f16 : values_f32)(&p, q->n, 0, page->v_dim);
}

static void attend(const struct attention_page *page, const struct attention_queries *q)
{
    score_page(page, q);
    for (int i = 0; i < q->n; i++)
        q->keep[i] = softmax_page(page, q, i);
    add_values(page, q);
}

/* ---- joining ---- */

static void join(const struct attention_queries *to, const struct attention_queries *from)
{
    for (int i = 0; i < to->n; i++) {
        float m = to->m[i] > from->m[i] ? to->m[i] : from->m[i], factors[2][VL];
        if (from->l[i] == 0) /* it saw nothing */
            continue;
        vf_store(factors[0], vf_exp(vf_set1(to->m[i] - m)));
        vf_store(factors[1], vf_exp(vf_set1(from->m[i] - m)));
        to->m[i] = m;
        to->l[i] = to->l[i] * factors[0][0] + from->l[i] * factors[1][0];
        float *acc = to->acc + (size_t)i * to->v_stride;
        const float *other = from->acc + (size_t)i * from->v_stride;
        for (size_t d = 0; d < to->v_stride; d += VL)
            vf_store(acc + d,
                     vf_fma(vf_load(other + d), vf_splat(&factors[1][0]), vf_load(acc + d) * vf_splat(&factors[0][0])));
    }
}
