/* What the files of the mlx backend share: the backend, its tensors, weights, and slabs of KV. All C above mlx_shim.h.
 *
 * A step builds MLX's graph; step_end drops the step's handles and enqueues the graph once. Values of a step are
 * [rows, cols] in the activations' type. Legend: t row of the batch (token), h head, d width of a head. */
#ifndef TANDEM_BACKEND_MLX_MLX_INTERNAL_H
#define TANDEM_BACKEND_MLX_MLX_INTERNAL_H

#include "backend/mlx/mlx_plan.h"
#include "backend/mlx/mlx_shim.h"
#include "base/arena.h"

/* Positions of a page: what MLX's fused attention likes to read at once, and the step by which mlx-lm grows its cache.
 */
#define MLX_PAGE_TOKENS 256

struct tensor {
    struct mlx_array *a; /* [n_rows, n_cols], or by heads [n_rows * n_cols / head_dim, head_dim] */
    int n_rows, n_cols;
    int head_dim;                /* 0: not by heads */
    struct mlx_samples *samples; /* of op_sample, else NULL */
};

/* Samples of one step; held until the end of the following step. Rows that the graph can sample are lazy; the others
 * are computed on the host from their logits by the cpu backend's sampler. */
struct mlx_samples {
    struct tensor handle;
    struct mlx_array *ids, *lse; /* i32 [n], f32 [n] (finite or not); NULL when all rows are the host's */
    int n;
    bool *on_host;                 /* [n] */
    struct sample_result *results; /* [n] of the host's rows */
    int cap;
};

/* One adapter's part of a weight: [n_in, rank], [rank, n_out], scaled; a.w NULL: it has none. */
struct mlx_adapter {
    struct mlx_matrix a, b;
};

/* Rows of a step by adapter. */
struct mlx_adapted_rows {
    int adapter, first, n; /* in the sorted order */
};
struct mlx_adapted {
    struct mlx_adapted_rows groups[BACKEND_MAX_ADAPTERS + 1];
    int n_groups;
    bool in_order;                  /* rows are sorted as they are */
    struct mlx_array *order, *back; /* i32 [n_rows]: the sorted rows; where each row is among them. Not when in_order */
};

struct weight {
    struct weight_info info;
    bool stacked;                 /* a tensor of three axes */
    struct mlx_adapter *adapters; /* [BACKEND_MAX_ADAPTERS], of number 1 first; NULL: never had any */
    struct mlx_matrix matrix;     /* w NULL: a vector */
    struct mlx_array *vector;     /* [n] */
    struct mlx_array *exact;      /* the same in f32; NULL where vector is, and of vectors above MLX_MAX_EXACT */
    struct mlx_array *raised;     /* vector + raised_by, made when a norm first wants it */
    float raised_by;
    char layout[96];
};

/* ---- KV ----
 *
 * A slab holds consecutive blocks of one sequence in one group, for all layers of the group, in one piece, so that
 * attention reads it as it lies:
 *
 *     slab      | block first | first + 1 | ... | room |        [1, kv heads, cap * 256, d] for K, for V, each layer
 *     pages        17            4           -                   pages[i]: the page that block is accounted as
 *
 * A step wants the blocks of each sequence in one slab with room for its rows; where they are not (a hit's pages were
 * copied from another sequence, or there is no room) a new slab is put together and takes over the pages. */
struct slab {
    int group, first_block, n_blocks, cap_blocks, n_live;
    uint32_t *pages;           /* [cap_blocks]; KV_PAGE_NONE: freed */
    struct mlx_array **k, **v; /* [n_layers] held; NULL entries where the group keeps none */
};

struct page_home {
    struct slab *slab; /* NULL: nothing is known of the page */
    int at;            /* block within the slab */
};

/* A page of a state group: of each layer S [value heads, k_dim, v_dim] and the inputs [n_taps - 1, columns] of the last
 * positions, f32, held; NULL: the layer was never written. Pages name the same arrays where one is the other's copy. */
struct mlx_state_layer {
    struct mlx_array *s, *inputs;
};
struct mlx_state {
    struct mlx_state_layer *layers; /* [n_layers] or NULL */
    int32_t tag;
};

struct mlx_kv_group {
    struct kv_group_spec spec;
    enum mlx_dtype type;
    struct page_home *homes;  /* [n_pages]; NULL: a state group */
    struct mlx_state *states; /* [n_pages]; NULL: another group */
    size_t n_pages;
};

/* One RoPE of the model. */
struct rope_angles {
    const float *inv_freq;
    struct mlx_array *wavelengths, *partner; /* held; see struct mlx_angles */
};
#define MLX_MAX_ANGLES 4

/* cos and sin of the step's rows for n_heads heads. */
struct rope_table {
    const float *inv_freq;
    int n_heads;
    struct mlx_array *cos, *sin;
};
#define MLX_MAX_TABLES (2 * MLX_MAX_ANGLES)

struct mlx_backend {
    struct backend base;
    struct mlx_context *m;
    struct mlx_backend_options options;
    enum mlx_type type; /* of activations; AUTO until the first matrix is there */
    char description[160];

    struct mlx_kv_group groups[KV_MAX_GROUPS];
    int n_groups;
    struct rope_angles angles[MLX_MAX_ANGLES];
    int n_angles;
    struct rope_table tables[MLX_MAX_TABLES]; /* of the running step */
    int n_tables;

    /* The running step. */
    const struct batch *batch;                       /* NULL: none */
    struct arena *tensors;                           /* struct tensor of the step */
    struct mlx_adapted *adapted_rows, *adapted_outs; /* of its rows, of its out_rows; NULL: none has an adapter */
    struct slab **slabs;                             /* [n_seqs * n_groups] of the batch; NULL: of a state group */
    size_t slabs_cap;
    struct mlx_array **masks; /* [n_seqs * n_groups] made when first wanted */
    size_t masks_cap;
    struct mlx_array **parts; /* [2 * n_seqs + 1] scratch of an op */
    size_t parts_cap;
    struct mlx_array *offsets;     /* i32 [n_rows]: positions */
    struct mlx_array *conv_rows;   /* i32 [n_rows, n_taps], made when first wanted; see mlx_conv.c */
    struct mlx_array *attended;    /* output of the last attention or convolution: all pages written hang on it */
    struct mlx_samples samples[2]; /* alternate from step to step */
    unsigned step;
    unsigned samples_step; /* the last one that sampled */
};

static inline struct mlx_backend *mlx__of(struct backend *be)
{
    return (struct mlx_backend *)be; /* base is the first member */
}

enum mlx_dtype mlx__activations(const struct mlx_backend *be);

/* The tensor as [n_rows, n_cols]; NULL for NULL. */
struct mlx_array *mlx__flat(struct mlx_backend *be, struct tensor *t);
/* A tensor of the step; NULL for NULL. */
struct tensor *mlx__tensor(struct mlx_backend *be, struct mlx_array *a, int n_rows, int n_cols);

/* The batch's ids, i32 [n_rows], those of the previous step among them. */
struct mlx_array *mlx__batch_ids(struct mlx_backend *be);

/* mlx_weight.c */
struct weight *mlx__weight_create(struct backend *be, const struct tensor_view *const *views, int n_views,
                                  struct error *err);
void mlx__weight_free(struct backend *be, struct weight *w);
struct weight_info mlx__weight_info(const struct weight *w);
struct mlx_array *mlx__vector(const struct weight *w); /* NULL for NULL */
/* In f32, where it is not longer than there are experts: else in the activations' type. */
#define MLX_MAX_EXACT 1024
struct mlx_array *mlx__exact(const struct weight *w);

struct weight *mlx__table_create(struct backend *be, const struct tensor_view *view, struct error *err);

/* mlx_adapt.c */
bool mlx__weight_adapt(struct backend *be, struct weight *w, int adapter, const struct adapter_part *part,
                       struct error *err);
void mlx__weight_drop_adapters(struct weight *w);
/* Sorts the rows of a batch by adapter. Failures are the step's. */
void mlx__adapt_begin(struct mlx_backend *be, const struct batch *batch);
/* x w^T + bias for n_rows rows of the batch or all of its out_rows, with what adapters add. */
struct mlx_array *mlx__product(struct mlx_backend *be, struct mlx_array *x, int n_rows, const struct weight *w,
                               const struct weight *bias);

/* mlx_kv.c */
int mlx__kv_page_tokens(const struct backend *be);
size_t mlx__kv_page_size(const struct backend *be, const struct kv_group_spec *spec);
bool mlx__kv_bind(struct backend *be, const struct kv_group_spec *groups, int n_groups, uint8_t *pool, size_t pool_size,
                  struct error *err);
void mlx__kv_copy_page(struct backend *be, int group, uint32_t src, uint32_t dst, int n_tokens);
void mlx__kv_free_page(struct backend *be, int group, uint32_t page);
void mlx__kv_release(struct mlx_backend *be);
/* Every sequence of the batch has its blocks in one slab (be->slabs) with room for its rows. */
NODISCARD bool mlx__kv_prepare(struct mlx_backend *be, const struct batch *batch, struct error *err);

/* mlx_attention.c */
struct slab *mlx__slab_of(const struct mlx_backend *be, int seq, int group);
/* Rows of K, or of V, to the slabs of their sequences. */
bool mlx__write_rows(struct mlx_backend *be, int group, int layer, struct tensor *x, bool values);
void mlx__kv_write(struct backend *be, int group, int layer, struct tensor *k, struct tensor *v);
struct tensor *mlx__attention(struct backend *be, int group, int layer, struct tensor *q,
                              const struct attention_params *p);
struct tensor *mlx__rope(struct backend *be, struct tensor *x, const struct rope_params *p);

/* mlx_conv.c */
struct tensor *mlx__short_conv(struct backend *be, int group, int layer, struct tensor *x, struct weight *taps);

/* mlx_delta.c */
bool mlx__states_bind(struct mlx_kv_group *g); /* false: no memory */
void mlx__state_drop(struct mlx_backend *be, int group, uint32_t page);
void mlx__state_copy(struct mlx_backend *be, int group, uint32_t src, uint32_t dst);
NODISCARD bool mlx__states_check(struct mlx_backend *be, const struct batch *batch, struct error *err);
void mlx__states_forget(struct mlx_backend *be, const struct batch *batch);
void mlx__states_remember(struct mlx_backend *be, const struct batch *batch);
/* The arrays of the pages that a batch writes; returns their number. out may be NULL: they are counted. */
size_t mlx__states_written(struct mlx_backend *be, const struct batch *batch, struct mlx_array **out);
struct tensor *mlx__delta_net(struct backend *be, int group, int layer, const struct delta_input *x,
                              const struct delta_weights *w, const struct delta_params *p);

/* mlx_moe.c */
struct tensor *mlx__moe(struct backend *be, struct tensor *x, const struct moe_weights *w, const struct moe_params *p);
struct tensor *mlx__cut(struct backend *be, struct tensor *x, int n_heads, int first, int n);
struct tensor *mlx__join(struct backend *be, struct tensor *a, struct tensor *b, int n_heads);
struct tensor *mlx__linear_heads(struct backend *be, struct tensor *x, struct weight *w, int n_heads);

/* mlx_streams.c */
struct tensor *mlx__embed_add(struct backend *be, struct weight *table, float scale, struct tensor *x, float factor);
struct tensor *mlx__multiply(struct backend *be, struct tensor *x, struct weight *vector);
struct tensor *mlx__add_each(struct backend *be, struct tensor *x, int n_heads, int first, struct tensor *y);
struct tensor *mlx__activate_mul(struct backend *be, struct tensor *gate, struct tensor *up, enum activation act,
                                 const float *sparsity);
struct tensor *mlx__match(struct backend *be, struct tensor *x, struct tensor *y);
struct tensor *mlx__stream_predict(struct backend *be, struct tensor *x, struct tensor *routed, struct weight *coefs,
                                   const struct stream_params *p);
struct tensor *mlx__stream_correct(struct backend *be, struct tensor *x, struct tensor *y, struct tensor *routed,
                                   struct weight *coefs, const struct stream_params *p);

/* mlx_sample.c */
struct tensor *mlx__sample(struct backend *be, struct tensor *logits, const struct sample_row *rows, int n);
bool mlx__read_samples(struct backend *be, struct tensor *ids, struct sample_result *results, struct error *err);
void mlx__samples_release(struct mlx_samples *s);

#endif
