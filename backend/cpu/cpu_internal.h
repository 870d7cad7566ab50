/* What the files of the cpu backend share: the backend, its tensors, weights, step memory and pages.
 *
 * Every op runs at once: split into tiles over the pool, joined before the op returns. Only the engine's thread is in
 * here; tiles see const data and write disjoint outputs. Legend: t row of the batch (token), k input column, n output
 * column (weight row), g group of 32 columns, h head. */
#ifndef TANDEM_BACKEND_CPU_CPU_INTERNAL_H
#define TANDEM_BACKEND_CPU_CPU_INTERNAL_H

#include "backend/backend.h"
#include "backend/cpu/cpu_kernels.h"
#include "base/pool.h"

#include <stdatomic.h>

#define CPU_ALIGN 64 /* of everything that kernels read with vectors: a cache line, an AVX-512 register */

/* ---- tensors ---- */

/* A value of the step; the struct and what it points to lie in the step's memory, except those of sampled ids. */
struct tensor {
    int n_rows, n_cols;
    float *f32;           /* [n_rows, n_cols]; NULL for ids */
    struct act_group *q8; /* [n_rows, n_cols / 32]: the same rows quantized; NULL until an op needs them */
    int32_t *ids;         /* [n_rows] of op_sample; NULL for others */
    void *samples;        /* [n_rows] struct sample_result of op_sample; NULL for others */
    size_t mark;          /* position in the step's memory behind it, for keep */
};

/* ---- memory of a step ---- */

#define STEP_MEMORY_MAX_BLOCKS 64

/* Bump allocation over blocks that stay from step to step. Not zeroed. */
struct step_memory {
    struct step_block {
        uint8_t *data;
        size_t size;
        size_t start; /* position of its first byte: sum of the sizes before it */
    } blocks[STEP_MEMORY_MAX_BLOCKS];
    int n_blocks;
    size_t used; /* position of the next byte */
};

void step_memory_reset(struct step_memory *m);
void step_memory_release(struct step_memory *m);

struct cpu_backend;

/* CPU_ALIGN-aligned bytes that live until step_end (or until keep). NULL: memory failed and the step is marked so. */
void *cpu__alloc(struct cpu_backend *be, size_t size);

/* The same, living until the end of the following step: what op_sample returns. */
void *cpu__alloc_ids(struct cpu_backend *be, size_t size);

/* A tensor of f32 with room for [n_rows, n_cols] values. NULL: memory failed and the step is marked so. */
struct tensor *cpu__tensor(struct cpu_backend *be, int n_rows, int n_cols);

/* Makes the step failed with this error when it is the first; for `return cpu__fail(be, code, "...")`. */
void *cpu__fail(struct cpu_backend *be, enum error_code code, const char *what);

/* At least size bytes of scratch for each thread, aligned; valid until the next call. False: memory failed and the step
 * is marked so. Engine's thread only. */
NODISCARD bool cpu__scratch(struct cpu_backend *be, size_t size);
size_t cpu__scratch_size(const struct backend *be);

/* ---- memory of weights ---- */

/* Weights lie one behind the other in chunks of large pages; a chunk goes when its last weight does. */
struct weight_chunk {
    struct weight_chunk *next;
    uint8_t *data;
    size_t size, used;
    size_t n_weights;
};

/* size bytes, CPU_ALIGN-aligned, uninitialized, in *chunk; NULL: no memory. cpu_weight_memory.c */
void *cpu__weight_alloc(struct cpu_backend *be, size_t size, struct weight_chunk **chunk);
void cpu__weight_release(struct cpu_backend *be, struct weight_chunk *chunk); /* one weight of it; NULL is fine */

/* ---- KV pages ---- */

/* Page layout, for each layer, then each KV head of a group:
 *     K transposed  [k_dim][CPU_PAGE_TOKENS]   scores of 32 keys are whole vectors, each element of q is a broadcast
 *       KV_Q8: its scales, f16 [groups of k_dim][CPU_PAGE_TOKENS]
 *     V             [CPU_PAGE_TOKENS][v_dim]   outputs are whole vectors, each probability is a broadcast
 *       KV_Q8: its scales, f16 [groups of v_dim][CPU_PAGE_TOKENS]
 * Of a state group: for each layer its state, as cpu_delta.c draws it; then the tag, int32. */
struct kv_group {
    struct kv_group_spec spec;
    size_t head_size; /* bytes of K and V of one head of one layer; 0: a state group */
    size_t page_size;
    uint8_t *base;  /* page i is at base + i * page_size */
    size_t n_pages; /* that fit in the pool */
    uint64_t *sums; /* [n_pages][CPU_PAGE_TOKENS] of what was written, 0: not known; NULL: they are not kept */
};

/* K and V of one head of one layer in a page. */
struct kv_head {
    uint8_t *k, *v;
    uint16_t *k_scales, *v_scales, *k_offsets; /* of KV_Q8; k_offsets: [k_dim] */
};

static inline size_t cpu__kv_element(enum kv_type type)
{
    return type == KV_F32 ? 4 : type == KV_F16 ? 2 : 1;
}

/* Elements of a vector that lie side by side: int8 is multiplied in pairs. */
static inline int cpu__kv_run(enum kv_type type)
{
    return type == KV_Q8 ? 2 : 1;
}

/* ---- weights ---- */

/* Rows of one type; one expert of a stack of experts. */
struct weight_part {
    enum dtype type;
    struct group_quant quant; /* of type GROUPED */
    struct pack_format pack;  /* super_len != 0: data is panels (cpu_pack.h) of the table's pack_rows; else rows as in
                                 the file */
    const uint8_t *data;
    struct weight_chunk *chunk; /* that data lies in; NULL: it is the file's, or the weight's vector */
    uint32_t *columns;          /* [n_in] of the input, in the order in which panels have them; owned. NULL: as it is */
    size_t first_row, n_rows;
    size_t first_panel; /* of ADAPT_PANEL rows, over the parts before it: where adapters have its columns */
};

/* One adapter's part of a weight: the product with a gives u, that with b what is added. */
struct weight_adapter {
    int rank;     /* 0: it has none */
    float factor; /* of u: the part's scale, and the powers of two that a and b were divided by */
    uint16_t *a;  /* f16 [rank, n_in] */
    uint16_t *b;  /* f16, in panels, see struct adapt_tile, of each part of the weight; in a's allocation */
};

struct weight {
    size_t n_out, n_in;
    struct weight_part *parts; /* [n_parts] */
    int n_parts;
    float *vector;                   /* [n_in] of a weight of one row, owned; else NULL */
    bool stacked;                    /* parts are matrices of a tensor of three axes */
    struct weight_adapter *adapters; /* [BACKEND_MAX_ADAPTERS], of number 1 first; NULL: never had any */
    struct weight_info info;
    char layout[96];
};

/* ---- the backend ---- */

/* cos and sin of the rows' angles, made once per step and parameters. */
struct rope_cache {
    const float *inv_freq;
    int rot_dim;
    float attn_factor;
    float *cos, *sin; /* [n_rows, rot_dim / 2] each, in one allocation that stays from step to step */
    size_t cap;       /* floats of both */
};
#define ROPE_CACHES 4

/* Rows that have the same adapter: order[first], order[first + 1] ... */
struct adapter_group {
    int adapter, first, n;
};
struct adapter_rows {
    struct adapter_group *groups; /* [n_groups] */
    int n_groups;
    int *order; /* [n] rows with an adapter: group by group, ascending within each */
    int n;
};

struct cpu_backend {
    struct backend base;
    const struct cpu_kernel_table *kernels;
    struct pool *pool;
    bool shares_pool; /* it is another backend's */
    int n_threads;
    char description[64];
    bool has_quantized; /* some weight wants quantized activations: norms make them at once */
    struct weight_chunk *chunks;

    struct kv_group groups[KV_MAX_GROUPS];
    int n_groups;

    const struct batch *batch;                /* of the running step, else NULL */
    struct adapter_rows adapted, adapted_out; /* of its rows, of its out_rows; n 0: no row has an adapter */
    bool failed;                              /* the running step; error says why */
    struct error error;
    struct step_memory memory;
    struct step_memory ids_memory[2]; /* alternate from step to step */
    unsigned step;
    struct rope_cache ropes[ROPE_CACHES];
    int n_ropes;
    uint8_t *scratch;    /* [n_threads, scratch_size] */
    size_t scratch_size; /* of each thread */
};

static inline struct cpu_backend *cpu__of(struct backend *be)
{
    return (struct cpu_backend *)be; /* base is the first member */
}

static inline void *cpu__thread_scratch(const struct cpu_backend *be, int thread)
{
    return be->scratch + (size_t)thread * be->scratch_size;
}

/* ---- ops, by file ---- */

/* cpu_sample.c. One result per entry of rows; the handle has ids and samples. */
struct tensor *cpu__sample(struct backend *be, struct tensor *logits, const struct sample_row *rows, int n);
bool cpu__read_samples(struct backend *be, struct tensor *ids, struct sample_result *results, struct error *err);

/* cpu_weight.c */
struct weight *cpu__weight_create(struct backend *be, const struct tensor_view *const *views, int n_views,
                                  struct error *err);
struct weight *cpu__table_create(struct backend *be, const struct tensor_view *view, struct error *err);
void cpu__weight_free(struct backend *be, struct weight *w);
struct weight_info cpu__weight_info(const struct weight *w);

/* cpu_adapt.c */

bool cpu__weight_adapt(struct backend *be, struct weight *w, int adapter, const struct adapter_part *part,
                       struct error *err);
void cpu__weight_drop_adapters(struct weight *w);

/* Which rows of the step have adapters. False: memory failed. */
NODISCARD bool cpu__adapt_begin(struct cpu_backend *be);

/* What is added to a product x w^T for rows with an adapter, that far: x a^T, scaled. */
struct adapt_delta {
    const struct weight *w;
    const struct adapter_rows *rows; /* NULL: nothing is added */
    float *u;                        /* group i's from groups[i].first * max_rank on: [n, rank of its adapter] */
    size_t max_rank;
};
/* The deltas of an op's products of one x. They are made by tiles of their own, which the op's run on the pool begins
 * with: tile i of n_tiles, then the products'. */
struct adapt_shrinks {
    struct adapt_delta *deltas; /* of each weight */
    int n_tiles;
    const struct cpu_backend *be;
    int n_in;
    struct shrink *items; /* [n], by first_tile */
    int n;
    atomic_int n_left; /* tiles that are not done */
};
/* Plans those of n products of x (which needs its f32 where any is to be made) with weights. In the step's memory.
 * False: memory failed. */
NODISCARD bool cpu__adapt_plan(struct cpu_backend *be, const struct tensor *x, int n, struct weight *const *weights,
                               struct adapt_shrinks *out);
void cpu__adapt_shrink(struct adapt_shrinks *s, int tile, int thread);
/* Whether any row of an x of n_rows has an adapter with a part for w. */
bool cpu__adapts(const struct cpu_backend *be, int n_rows, const struct weight *w);

/* cpu__run_tile for tokens from `token` on, and what adapters of the i-th weight add to it. first_row is a multiple of
 * ADAPT_PANEL. */
void cpu__adapt_tile(const struct adapt_shrinks *s, int i, const struct weight_part *part, int token,
                     const struct linear_tile *tile);

/* cpu_linear.c */

/* x with its rows quantized, when some part of the weights takes them so. False: memory failed. */
NODISCARD bool cpu__prepare_input(struct cpu_backend *be, struct tensor *x, int n, struct weight *const *weights);
NODISCARD bool cpu__quantize_input(struct cpu_backend *be, struct tensor *x); /* in any case */
bool cpu__takes_quantized(const struct weight_part *part);
/* A tensor whose column i is column columns[i] of x, not quantized. NULL: memory failed. */
struct tensor *cpu__sort_columns(struct cpu_backend *be, const struct tensor *x, const uint32_t *columns);
const float *cpu__vector(const struct weight *w); /* NULL for NULL */

/* Types that no kernel takes as they are: where they are not packed, their rows are decoded into scratch, some at a
 * time, and multiplied as f32. */
bool cpu__is_decoded(enum dtype type);
#define CPU_DECODED_ROWS 32 /* a multiple of every table's row_step */
/* Floats of scratch that a tile of n_in columns needs. */
static inline size_t cpu__tile_scratch(size_t n_in)
{
    return (CPU_DECODED_ROWS + 1) * n_in;
}
/* Computes a tile of rows of the part: tile->weights is its data, tile->pack its format. */
void cpu__run_tile(const struct cpu_backend *be, const struct weight_part *part, const struct linear_tile *tile);

/* How many weight rows and tokens a tile of a product has. */
struct tile_shape {
    int rows, tokens;
};
struct tile_shape cpu__tile_shape(const struct cpu_backend *be, size_t n_out, size_t n_in, int n_tokens);

struct tensor *cpu__embed(struct backend *be, struct weight *table, float scale);
struct tensor *cpu__embed_add(struct backend *be, struct weight *table, float scale, struct tensor *x, float factor);
void cpu__linear(struct backend *be, struct tensor *x, int n, struct weight *const *weights,
                 struct weight *const *biases, struct tensor **outs);

/* outs[i] are made already: [n_rows, n_out] */
void cpu__linear_into(struct cpu_backend *be, struct tensor *x, int n, struct weight *const *weights,
                      struct weight *const *biases, struct tensor **outs);

/* cpu_mlp.c */
struct tensor *cpu__mlp_gated(struct backend *be, struct tensor *x, struct weight *gate, struct weight *up,
                              struct weight *down, enum activation act);
struct tensor *cpu__mlp(struct backend *be, struct tensor *x, struct weight *up, struct weight *up_bias,
                        struct weight *down, struct weight *down_bias, enum activation act);

/* The same with biases, any of which may be NULL. */
struct gated_mlp {
    struct weight *gate, *up, *down;
    struct weight *gate_bias, *up_bias, *down_bias;
    enum activation act;
};
struct tensor *cpu__gated(struct cpu_backend *be, struct tensor *x, const struct gated_mlp *mlp);

/* cpu_heads.c */
struct tensor *cpu__cut(struct backend *be, struct tensor *x, int n_heads, int first, int n);
struct tensor *cpu__join(struct backend *be, struct tensor *a, struct tensor *b, int n_heads);
struct tensor *cpu__linear_heads(struct backend *be, struct tensor *x, struct weight *w, int n_heads);

/* cpu_streams.c */
struct tensor *cpu__multiply(struct backend *be, struct tensor *x, struct weight *vector);
struct tensor *cpu__add_each(struct backend *be, struct tensor *x, int n_heads, int first, struct tensor *y);
struct tensor *cpu__activate_mul(struct backend *be, struct tensor *gate, struct tensor *up, enum activation act,
                                 const float *sparsity);
struct tensor *cpu__match(struct backend *be, struct tensor *x, struct tensor *y);
struct tensor *cpu__stream_predict(struct backend *be, struct tensor *x, struct tensor *routed, struct weight *coefs,
                                   const struct stream_params *p);
struct tensor *cpu__stream_correct(struct backend *be, struct tensor *x, struct tensor *y, struct tensor *routed,
                                   struct weight *coefs, const struct stream_params *p);

/* cpu_moe.c */
struct tensor *cpu__moe(struct backend *be, struct tensor *x, const struct moe_weights *w, const struct moe_params *p);

/* cpu_norm.c */
struct tensor *cpu__norm(struct backend *be, struct tensor *x, struct weight *weight, struct weight *bias,
                         const struct norm_params *p);
struct tensor *cpu__add(struct backend *be, struct tensor *a, struct tensor *b);
struct tensor *cpu__scale(struct backend *be, struct tensor *x, float factor);
struct tensor *cpu__softcap(struct backend *be, struct tensor *x, float cap);
struct tensor *cpu__gate(struct backend *be, struct tensor *x, struct tensor *gate);
struct tensor *cpu__rows(struct backend *be, struct tensor *x);

/* fn over chunks of rows, on the pool when there is enough work: fn(arg, first row, end row, thread) */
typedef void row_fn(void *arg, int first, int end, int thread);
void cpu__for_rows(struct cpu_backend *be, int n_rows, size_t work_per_row, row_fn *fn, void *arg);

/* cpu_rope.c */
struct tensor *cpu__rope(struct backend *be, struct tensor *x, const struct rope_params *p);

/* cpu_kv.c */
int cpu__kv_page_tokens(const struct backend *be);
size_t cpu__kv_page_size(const struct backend *be, const struct kv_group_spec *spec);
bool cpu__kv_bind(struct backend *be, const struct kv_group_spec *groups, int n_groups, uint8_t *pool, size_t pool_size,
                  struct error *err);
struct kv_head cpu__kv_head(const struct kv_group *g, uint32_t page, int layer, int head);
bool cpu__kv_check_batch(struct cpu_backend *be, const struct batch *batch, struct error *err);
/* What the pages of state groups that the step writes hold: nothing from now on; the states behind its rows. */
void cpu__kv_forget(struct cpu_backend *be);
void cpu__kv_remember(struct cpu_backend *be);
void cpu__kv_copy_page(struct backend *be, int group, uint32_t src, uint32_t dst, int n_tokens);
/* Spreads large values over the n of a vector: a Hadamard transform of each block of the largest power of two that
 * divides n. It keeps dot products, so that keys of KV_Q8 are stored rotated and queries are rotated likewise: some
 * models (Qwen2.5) have elements of keys hundreds of times larger than the others, which int8 would lose beside them.
 */
void cpu__kv_rotate(float *x, int n);
void *cpu__kv_page(struct backend *be, int group, uint32_t page);
void cpu__kv_write(struct backend *be, int group, int layer, struct tensor *k, struct tensor *v);

/* cpu_kv_sum.c */
uint64_t cpu__kv_sum(struct backend *be, int group, uint32_t page, int from, int to, uint64_t seed, bool written);
bool cpu__kv_keep_sums(struct backend *be, struct error *err);
void cpu__kv_drop_sums(struct cpu_backend *be);
/* Rows [from, to) of a sequence, which lie in one page, were just written in this layer, for this head. Any thread, one
 * for each row; layers and heads in order. */
void cpu__kv_note_sums(const struct kv_group *g, const struct batch_seq *seq, int from, int to, uint32_t page,
                       int layer, int head);
void cpu__kv_copy_sums(const struct kv_group *g, uint32_t src, uint32_t dst, int n_tokens);

/* cpu_conv.c */
struct tensor *cpu__short_conv(struct backend *be, int group, int layer, struct tensor *x, struct weight *taps);

/* cpu_delta.c */
struct tensor *cpu__delta_net(struct backend *be, int group, int layer, const struct delta_input *x,
                              const struct delta_weights *w, const struct delta_params *p);

/* cpu_attention.c */
struct tensor *cpu__attention(struct backend *be, int group, int layer, struct tensor *q,
                              const struct attention_params *p);

#endif
