/* MLX's C++ API as this backend needs it: arrays by handle, ops that build the lazy graph, evaluation. The only C++ of
 * the tree is behind this header; no exception crosses it.
 *
 *     struct mlx_context *m = mlx_open(MLX_DEVICE_AUTO, err);
 *     struct mlx_array *y = mlx_add(m, a, b);        in the step's pool: valid until mlx_reset
 *     struct mlx_array *w = mlx_hold(m, y);          a reference of its own: valid until mlx_drop
 *     mlx_reset(m);                                  before evaluation: what only the pool holds may be overwritten in
 *     mlx_eval(m, &w, 1);                            place by what follows it
 *
 * Ops given NULL return NULL. The first failure since the last mlx_take_error is kept; ops go on returning NULL for
 * what failed. Legend: b batch, t token, h head, d width of a head, n output column, k input column. One thread at a
 * time. */
#ifndef TANDEM_BACKEND_MLX_MLX_SHIM_H
#define TANDEM_BACKEND_MLX_MLX_SHIM_H

#ifdef __cplusplus
extern "C" {
#endif

#include "backend/backend.h"

struct mlx_context; /* a device's stream, and the pool of the running step */
struct mlx_array;   /* a node of the graph or a value */

enum mlx_dtype { MLX_F32, MLX_F16, MLX_BF16, MLX_U32, MLX_I32, MLX_U8, MLX_BOOL };

#define MLX_MAX_DIMS 5
struct mlx_shape {
    int n;
    int dim[MLX_MAX_DIMS];
};

/* ---- the library and its device ---- */

const char *mlx_built_for(void); /* version of the headers, "0.32.4" */
const char *mlx_loaded(void);    /* version of the library that is loaded */

NODISCARD bool mlx_same_version(struct error *err); /* UNSUPPORTED names both */

/* UNSUPPORTED when there is no such device, or when the loaded library is not the one this was built for. */
NODISCARD struct mlx_context *mlx_open(enum mlx_device device, struct error *err);
void mlx_close(struct mlx_context *m); /* after all arrays were dropped */
bool mlx_on_gpu(const struct mlx_context *m);
const char *mlx_device_name(const struct mlx_context *m);
size_t mlx_working_set(const struct mlx_context *m); /* bytes that the device recommends to stay below; 0: unknown */

struct mlx_limits {
    size_t memory, cache, wired; /* bytes; wired 0: left as it is */
};
NODISCARD bool mlx_set_limits(struct mlx_context *m, const struct mlx_limits *limits, struct error *err);
size_t mlx_active_memory(void);
void mlx_clear_cache(void);

/* ---- handles, failures, evaluation ---- */

struct mlx_array *mlx_hold(struct mlx_context *m, struct mlx_array *a);
void mlx_drop(struct mlx_array *held); /* NULL is fine */
void mlx_reset(struct mlx_context *m); /* ends all handles that were not held */

void mlx_fail(struct mlx_context *m, enum error_code code, const char *what);
bool mlx_ok(const struct mlx_context *m);
bool mlx_take_error(struct mlx_context *m,
                    struct error *err); /* false and *err when something failed since the last call */

bool mlx_eval_async(struct mlx_context *m, struct mlx_array *const *arrays, size_t n); /* enqueues */
bool mlx_eval(struct mlx_context *m, struct mlx_array *const *arrays, size_t n);       /* and waits */
/* Waits for it and copies it out; n: elements expected. Values of other float types are converted. */
bool mlx_read_f32(struct mlx_context *m, struct mlx_array *a, float *dst, size_t n);
bool mlx_read_i32(struct mlx_context *m, struct mlx_array *a, int32_t *dst, size_t n);
uint64_t mlx_eval_ns(const struct mlx_context *m); /* spent in evaluation and waiting since it was opened */

/* ---- values ---- */

/* Memory that stays as it is for as long as the array: used in place where the device can, copied otherwise. */
struct mlx_array *mlx_map(struct mlx_context *m, const void *data, struct mlx_shape shape, enum mlx_dtype type);
struct mlx_array *mlx_copy(struct mlx_context *m, const void *data, struct mlx_shape shape, enum mlx_dtype type);
struct mlx_array *mlx_zeros(struct mlx_context *m, struct mlx_shape shape, enum mlx_dtype type);
struct mlx_array *mlx_cast(struct mlx_context *m, struct mlx_array *a, enum mlx_dtype type);
bool mlx_maps(void);                              /* mlx_map uses memory in place where it can; else it copies */
int mlx_dim(const struct mlx_array *a, int axis); /* negative axes count from the end */
size_t mlx_size(const struct mlx_array *a);       /* bytes */

/* ---- shapes ---- */

struct mlx_array *mlx_reshape(struct mlx_context *m, struct mlx_array *a, struct mlx_shape shape);
struct mlx_array *mlx_swap_axes(struct mlx_context *m, struct mlx_array *a, int i, int j);
struct mlx_array *mlx_slice(struct mlx_context *m, struct mlx_array *a, int axis, int begin, int end);
bool mlx_split(struct mlx_context *m, struct mlx_array *a, int n, struct mlx_array **out); /* axis 0 into n parts */
struct mlx_array *mlx_concat(struct mlx_context *m, struct mlx_array *const *arrays, int n, int axis);
struct mlx_array *mlx_contiguous(struct mlx_context *m, struct mlx_array *a);
/* *held becomes itself with [begin, begin + length of update) of an axis replaced; in place when nobody else holds it.
 */
bool mlx_update(struct mlx_context *m, struct mlx_array *held, struct mlx_array *update, int axis, int begin);
struct mlx_array *mlx_take(struct mlx_context *m, struct mlx_array *a, struct mlx_array *indices, int axis);
/* ids[i] where from[i] < 0, else prev[from[i]] */
struct mlx_array *mlx_choose_ids(struct mlx_context *m, struct mlx_array *ids, struct mlx_array *from,
                                 struct mlx_array *prev);

/* ids below n, 0 in place of the others */
struct mlx_array *mlx_limit_ids(struct mlx_context *m, struct mlx_array *ids, int n);

/* ---- weights ---- */

struct mlx_matrix {                        /* [n, k], or experts [e, n, k] */
    struct mlx_array *w, *scales, *biases; /* scales NULL: dense, and then w [k, n] or [e, k, n]: transposed */
    struct mlx_array *columns;             /* i32 [k]: those of the input, in w's order; NULL: as they are */
    int bits, group_size;
    enum group_mode mode;
};
struct mlx_array *mlx_linear(struct mlx_context *m, struct mlx_array *x, const struct mlx_matrix *w,
                             struct mlx_array *bias);
struct mlx_array *mlx_embed(struct mlx_context *m, const struct mlx_matrix *table, struct mlx_array *ids,
                            enum mlx_dtype type);
/* x [b, k], experts [b, e] numbers of the experts of each row: [b, e, n] */
struct mlx_array *mlx_expert_linear(struct mlx_context *m, struct mlx_array *x, const struct mlx_matrix *w,
                                    struct mlx_array *experts);

/* ---- ops ---- */

struct mlx_array *mlx_add(struct mlx_context *m, struct mlx_array *a, struct mlx_array *b);
struct mlx_array *mlx_multiply(struct mlx_context *m, struct mlx_array *a, struct mlx_array *b);
struct mlx_array *mlx_scale(struct mlx_context *m, struct mlx_array *a, float factor);
struct mlx_array *mlx_softcap(struct mlx_context *m, struct mlx_array *a, float cap); /* cap tanh(a / cap) */
struct mlx_array *mlx_activate(struct mlx_context *m, struct mlx_array *a, enum activation act);
/* act(gate) * up */
struct mlx_array *mlx_gated(struct mlx_context *m, struct mlx_array *gate, struct mlx_array *up, enum activation act);
struct mlx_array *mlx_sigmoid(struct mlx_context *m, struct mlx_array *a);
struct mlx_array *mlx_norm(struct mlx_context *m, struct mlx_array *a, struct mlx_array *weight, struct mlx_array *bias,
                           const struct norm_params *p); /* over the last axis; n_groups and offset are the caller's */
/* relu(a - (mean + sparsity * deviation)), both of the last axis */
struct mlx_array *mlx_thin_out(struct mlx_context *m, struct mlx_array *a, float sparsity);
/* y [b, i, n] with rms of x [b, n] */
struct mlx_array *mlx_match(struct mlx_context *m, struct mlx_array *x, struct mlx_array *y);
/* coefs [n, k] times tanh(routed * scale), routed [b, k]: [b, n], in routed's type */
struct mlx_array *mlx_stream_coefs(struct mlx_context *m, struct mlx_array *coefs, struct mlx_array *routed,
                                   float scale);
/* x [b, i, n] + coefs x, coefs [b, i * i] */
struct mlx_array *mlx_stream_predict(struct mlx_context *m, struct mlx_array *x, struct mlx_array *coefs);
/* x [b, i, n] + (1 + coefs) news, coefs [b, i], news [b, n] */
struct mlx_array *mlx_stream_correct(struct mlx_context *m, struct mlx_array *x, struct mlx_array *coefs,
                                     struct mlx_array *news);
struct mlx_array *mlx_subtract(struct mlx_context *m, struct mlx_array *a, struct mlx_array *b);
struct mlx_angles {
    struct mlx_array *offsets, *wavelengths; /* i32 [b] positions; [rot_dim / 2]: 1 / inv_freq */
    struct mlx_array *cos, *sin, *partner;   /* [b h, d] each; [d, d]: moves each element's partner to its place */
};
/* x [b, h, 1, d], by the fused kernel: a GPU's way. */
struct mlx_array *mlx_rope(struct mlx_context *m, struct mlx_array *x, const struct rope_params *p,
                           const struct mlx_angles *a);
/* x [b h, d]: x cos + partner(x) sin. On a CPU the fused op is a graph of thirty nodes. */
struct mlx_array *mlx_rotate(struct mlx_context *m, struct mlx_array *x, const struct mlx_angles *a);

struct mlx_attention {
    struct mlx_array *q, *k, *v; /* [1, h, t, d], [1, kv, t', d], [1, kv, t', d_v] */
    struct mlx_array *mask;      /* [t, t'] bool, or NULL */
    bool causal;                 /* the last query sees the last key, the one before it one less; no mask then */
    float scale, softcap;
    struct mlx_array *sinks; /* [h] or NULL */
};
struct mlx_array *mlx_attend(struct mlx_context *m, const struct mlx_attention *a); /* [1, h, t, d_v] */
/* One query that sees all keys: q [1, kv, h / kv, d], scaled; k, v as above. [1, kv, h / kv, d_v] */
struct mlx_array *mlx_attend_one(struct mlx_context *m, struct mlx_array *q, struct mlx_array *k, struct mlx_array *v);

/* [n, n_keys]: query i, at position start + i, sees keys at positions first + j up to its own, `window` of them (0:
 * all).
 */
struct mlx_array *mlx_window_mask(struct mlx_context *m, int start, int n, int first, int n_keys, int window);
/* The same, but a query sees the keys of its own stretch of `chunk` positions. */
struct mlx_array *mlx_chunk_mask(struct mlx_context *m, int start, int n, int first, int n_keys, int chunk);

struct mlx_routes {
    struct mlx_array *experts; /* [b, n_used] numbers, largest logit first */
    struct mlx_array *weights; /* [b, n_used] */
};
/* choice_bias: [n_experts] or NULL. The scale of p is part of the weights. */
struct mlx_routes mlx_route(struct mlx_context *m, struct mlx_array *logits, struct mlx_array *choice_bias,
                            const struct moe_params *p);
/* x [b, k], weights [b, e]: the rows weighted for each expert, [b, e, k] */
struct mlx_array *mlx_weigh(struct mlx_context *m, struct mlx_array *x, struct mlx_array *weights);
/* y [b, e, n], weights [b, e] or NULL: the (weighted) sums [b, n] */
struct mlx_array *mlx_mix(struct mlx_context *m, struct mlx_array *y, struct mlx_array *weights);

/* ---- the gated delta rule ---- */

/* At consecutive positions of one sequence, f32: heads of k are of length 1, those of q are scaled; decay is its
 * logarithm. */
struct mlx_delta {
    struct mlx_array *q, *k, *v;    /* [n, key heads * k_dim] twice, [n, value heads * v_dim] */
    struct mlx_array *decay, *beta; /* [n, value heads] */
    struct mlx_array *state;        /* [value heads, k_dim, v_dim] before the first of them */
};
/* [n, value heads * v_dim]; *state: behind the last. Over 64 positions at a time some 14 nodes, and some 60 besides. */
struct mlx_array *mlx_delta(struct mlx_context *m, const struct mlx_delta *in, const struct delta_params *p,
                            struct mlx_array **state);
struct mlx_array *mlx_softplus(struct mlx_context *m, struct mlx_array *a);

/* ---- sampling ---- */

struct mlx_sampling {                                        /* one entry for each row of logits [b, n] */
    struct mlx_array *temperature, *top_p, *min_p, *uniform; /* f32 [b] */
    struct mlx_array *top_k;                                 /* i32 [b]; n: all */
};
struct mlx_array *mlx_argmax(struct mlx_context *m, struct mlx_array *logits); /* i32 [b]; the lowest id wins ties */
struct mlx_array *mlx_sample(struct mlx_context *m, struct mlx_array *logits,
                             const struct mlx_sampling *s);                       /* i32 [b] */
struct mlx_array *mlx_logsumexp(struct mlx_context *m, struct mlx_array *logits); /* f32 [b] */

#ifdef __cplusplus
}
#endif

#endif
