/* The kernel table: what an instruction set provides to the ops. The reference table is plain C, always there, and the
 * oracle of the others. An op cuts its work into tiles, the kernels compute one tile on one thread.
 *
 * Bits: within one table, an output element depends on its own inputs only. A kernel may take any number of rows or
 * tokens at once, but reduces each element in one order; rows x 1 token and rows x many tokens agree exactly.
 *
 * Legend: t token (row of the batch), n weight row (output column), k input column, g group of 32 columns, j key. */
#ifndef TANDEM_BACKEND_CPU_CPU_KERNELS_H
#define TANDEM_BACKEND_CPU_CPU_KERNELS_H

#include "backend/backend.h"
#include "backend/cpu/cpu_pack.h"
#include "backend/cpu/cpu_peak.h"
#include "base/sys_cpu.h"

_Static_assert(KV_OFFSET_TOKENS == CPU_PAGE_TOKENS, "a page has one offset");

/* 32 columns of one row, quantized: one cache line. value[k] ~ d * q[k], |q| <= 127. A group with a non-finite value
 * has d NaN and q 0, so that all that depends on it becomes NaN. */
struct act_group {
    int8_t q[32];
    float d;
    float sum;       /* d * (sum of q) */
    float sum16[2];  /* d * (sum of q) of each half */
    int32_t minus_q; /* -(sum of q): accumulators of codes with an offset begin at a multiple of it */
    int32_t minus_q16[2];
    int32_t unused;
};
_Static_assert(sizeof(struct act_group) == 64, "one cache line");

/* A group whose largest magnitude is less counts as zero: its reciprocal would overflow. */
#define ACT_TINY 1e-35f

/* out[t][n] = sum over k of w[n][k] x[t][k], + bias[n], for all n_t tokens and the rows [first_row, first_row + n_rows)
 * of a weight matrix. first_row is a multiple of the table's row_step. */
struct linear_tile {
    enum dtype type;
    const struct pack_format *pack; /* of packed weights; NULL: rows as in the file */
    const uint8_t *weights;         /* of row 0 */
    int n_in;
    int first_row, n_rows;
    const struct act_group *q8; /* [n_t, n_in / 32] for packed weights, else */
    const float *x;             /* [n_t, n_in] */
    int n_t;
    float *out;           /* element [0][first_row] */
    size_t out_stride;    /* floats between tokens */
    const float *bias;    /* of first_row, or NULL */
    float *scratch;       /* [n_in] */
    const uint8_t *fetch; /* f16: as many bytes as the rows have are asked of memory while they are read, or NULL */
};
typedef void linear_fn(const struct linear_tile *tile);

/* Adapters: out[rows[t]][i] += sum over r of u[t][r] b[r][i], r ascending, for n_t tokens and n columns. b is f16, in
 * panels of ADAPT_PANEL columns, [panels][rank][ADAPT_PANEL], what is beyond n zero. */
#define ADAPT_PANEL 32
struct adapt_tile {
    const uint16_t *b; /* of the first column, which begins a panel */
    int rank;
    const float *u;  /* [n_t, rank] */
    const int *rows; /* [n_t], each at least first_row, none twice */
    int first_row, n_t, n;
    float *out;        /* of first_row */
    size_t out_stride; /* floats between rows */
};

static inline size_t kv_groups(int dim)
{
    return ((size_t)dim + KV_GROUP - 1) / KV_GROUP;
}

/* One page of one KV head. Keys [first, end) hold numbers; the others are read, and nothing comes of it. */
struct attention_page {
    enum kv_type type;
    int k_dim, v_dim;
    const void *k;                       /* [k_dim][CPU_PAGE_TOKENS]; KV_Q8: [k_dim / 2][CPU_PAGE_TOKENS][2] */
    const void *v;                       /* [CPU_PAGE_TOKENS][v_dim]; KV_Q8: [CPU_PAGE_TOKENS / 2][v_dim][2] */
    const uint16_t *k_scales, *v_scales; /* KV_Q8: f16 [groups of the dim][CPU_PAGE_TOKENS] */
    const uint16_t *k_offsets;           /* KV_Q8: f16 [k_dim], which every key of the page is more by */
    const void *next; /* K of a page like it, which is to come: fetched meanwhile; may be this one's */
    int first, end;
    float softcap; /* 0: none */
};

/* Queries of one KV head; the state of each moves on page by page:
 *   m' = max(m, max s); l' = l e^(m-m') + sum e^(s-m'); acc' = acc e^(m-m') + sum e^(s-m') v */
struct attention_queries {
    int n;
    const float *q; /* [n, k_dim], scaled */
    float *acc;     /* [n, v_stride] */
    size_t v_stride;
    float *m, *l;           /* [n] */
    const int *first, *end; /* [n] keys of the page that each sees, within the page's; first >= end: none */
    float *scores, *keep;   /* scratch: [n, CPU_PAGE_TOKENS], [n] */
    /* KV_Q8: what attend_prepare made of q: [n, groups * KV_GROUP], [n, groups]; scratch: [n, CPU_PAGE_TOKENS], [n] */
    const int16_t *codes;
    const float *factors;
    int16_t *weights;
    float *weight_factors;
};
#define ATTENTION_LANES 16 /* v_stride is v_dim rounded up to it: whole vectors in every instruction set */

/* One row of a convolution of each column by itself: y[i] = gate[i] (sum over j of taps[j][i] x[j][i]), j in order. */
struct conv_row {
    int n_taps;
    const float *const *x; /* [n_taps] of n each; NULL: zeros */
    const float *taps;     /* [n_taps] of n each */
    size_t taps_stride;    /* floats from a tap to the next */
    const float *gate;     /* [n]; NULL: ones */
    float *y;              /* [n] */
    size_t n;
};

/* Columns of a head's state under the gated delta rule (backend.h), at n positions one after the other. Columns do not
 * see one another, so some of them stay in the fastest memory while the positions go by. */
#define DELTA_COLUMNS 16 /* whole vectors in every instruction set; with keys of 128, a fourth of a cache of 32 KiB */
struct delta_columns {
    int n, k_dim, width;       /* width: 1 to DELTA_COLUMNS */
    const float *q, *k, *v;    /* of the first position: [k_dim] twice, [width] */
    size_t q_stride, v_stride; /* floats from a position to the next; q_stride is k's too */
    const float *decay, *beta; /* likewise */
    size_t gate_stride;
    const float *from; /* [k_dim, width] before the first position */
    float *to;         /* behind the last; may be from */
    float *out;        /* [width] of the first position */
    size_t out_stride;
};

struct cpu_kernel_table {
    const char *name; /* "avx512-vnni" */
    enum cpu_kernels kind;
    bool (*usable)(const struct cpu_features *cpu);
    /* what the instruction set can do at most */
    const struct cpu_peak *peak;
    int pack_rows; /* rows that a packed weight interleaves; 0: quantized weights stay as in the file */
    int row_step;  /* tiles of linear begin at multiples of it */
    linear_fn *linear[DTYPE_COUNT]; /* rows as in the file, by x */
    linear_fn *packed[PACK_KINDS];  /* panels, by q8; all of them when pack_rows != 0 */

    void (*adapt)(const struct adapt_tile *tile);
    void (*quantize)(const float *x, int n, struct act_group *out); /* n a multiple of 32 */
    /* y[i] = norm(x)[i] * (w[i] + weight_offset) + b[i]; y may be x; w and b may be NULL */
    void (*norm)(const float *x, int n, const struct norm_params *p, const float *w, const float *b, float *y);
    void (*add)(float *a, const float *b, size_t n);                 /* a += b */
    void (*mul)(float *y, const float *a, const float *b, size_t n); /* y = a b; y may be a */
    void (*convolve)(const struct conv_row *row);
    void (*delta)(const struct delta_columns *columns); /* sums over k_dim in an order of the table's own */
    void (*scale)(float *a, float factor, size_t n);    /* a *= factor */
    void (*softcap)(float *a, float cap, size_t n);     /* a = cap tanh(a / cap) */
    void (*activate)(float *a, enum activation act, size_t n);
    /* a = act(a) b; CLAMPED_SWIGLU: as backend.h has it, which activate does not know */
    void (*activate_mul)(float *a, const float *b, enum activation act, size_t n);
    void (*rope)(float *head, const float *cos, const float *sin, enum rope_kind kind, int rot_dim); /* one head */
    /* KV_Q8: q [n, k_dim] as codes of 16 bits and a factor for each group of KV_GROUP. NULL where attend takes q. */
    void (*attend_prepare)(const float *q, int n, int k_dim, int16_t *codes, float *factors);
    void (*attend)(const struct attention_page *page, const struct attention_queries *queries);
    /* The states of the same queries over keys, and over keys behind those, become one. */
    void (*attend_join)(const struct attention_queries *to, const struct attention_queries *from);
    /* dst[(i / run) * stride + i % run] = x[i], run 1 or 2; KV_Q8: in groups, whose scales go to
     * scales[group * CPU_PAGE_TOKENS] */
    void (*kv_store)(enum kv_type type, const float *x, int n, void *dst, int stride, int run, uint16_t *scales);
};

/* The tables of this processor family, best first, the reference last; NULL ends the list. cpu_isa_<arch>.c. */
extern const struct cpu_kernel_table *const cpu__tables[];

extern const struct cpu_kernel_table cpu__reference_table;
extern const struct cpu_kernel_table cpu__avx2_table;
extern const struct cpu_kernel_table cpu__avx512_table;
extern const struct cpu_kernel_table cpu__neon_table;
extern const struct cpu_kernel_table cpu__neon_i8mm_table;

#endif
