/* The op interface: what a model needs from a machine. Models are written once against it; two very different
 * implementations stand behind it: `cpu` computes each op at once on a thread pool, `mlx` builds a lazy graph and
 * evaluates it once per step. Hence the rules:
 *   - Ops take and return handles (struct tensor *). No op assumes that its result is in memory; only the read_* calls
 *     bring values to the host.
 *   - Handles live until step_end of the step that made them, except the token ids that `sample` returns: they
 *     live until the end of the following step, which may name them as its input before anyone has read them.
 *   - Ops are as large as a fused kernel wants them (attention over pages, gated MLP, several linears of one input).
 *   - A failed op (memory, device) makes the step failed and returns NULL; ops given NULL return NULL; step_end reports
 *     the first failure. So models need no checks between ops.
 *   - Output rows depend on their own inputs only, reduced in one fixed order: not on the number of rows, the chunking
 * or the threads (batch invariance; exact bits promised for `cpu`). One thread, the engine's, calls everything here
 * after creation. Values are f32 unless a backend keeps them otherwise.
 *
 *     backend_step_begin(be, &batch);
 *     x = op_embed(be, embedding, scale);  ...  logits = op_linear(be, op_rows(be, x), output, NULL);
 *     ids = op_sample(be, logits, rows, n_rows);
 *     if (!backend_step_end(be, err)) ...
 *     backend_read_samples(be, ids, results);
 */
#ifndef TANDEM_BACKEND_BACKEND_H
#define TANDEM_BACKEND_BACKEND_H

#include "tensor/model_file.h"

struct backend;
struct tensor; /* a value of the current step: [rows, cols] or token ids [rows] */
struct weight; /* a resident parameter in the backend's own layout: matrix [n_out, n_in] or vector [n] */

/* ---- parameters ---- */

/* The matrices of one parameter, stacked along n_out when there are several (same n_in); tensors of three axes count as
 * matrices stacked already. Several vectors of one length are one vector, one after the other. Resident size stays
 * within 5% of the file's; the view's memory may be used in place, so it must live as long as the weight. bias-like and
 * norm vectors are matrices of one row. FORMAT or UNSUPPORTED names the tensor. */
struct weight_info {
    size_t n_out, n_in;
    size_t resident_size; /* bytes that this weight keeps in memory, mapped ones included */
    bool mapped;          /* used in place from the file */
    const char *layout;   /* "Q4_1 in place", "f32 vector" ... for `tandem inspect` */
};

/* ---- adapters ----
 *
 * Low-rank adapters (Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021): for rows of a sequence
 * with adapter k, a weight w stands for w + scale b a of that adapter. Weights without a part of it stay as they are.
 */
#define BACKEND_MAX_ADAPTERS     64  /* numbers: 1 to this */
#define BACKEND_MAX_ADAPTER_RANK 512 /* what is larger is hardly low: rank x (n_in + n_out) values of each weight */
struct adapter_part {
    const struct tensor_view *a; /* [rank, n_in] */
    const struct tensor_view *b; /* [n_out, rank] */
    float scale;                 /* finite */
};

/* ---- KV cache ---- */

/* KV_Q8: each position's K and V of a head in groups of KV_GROUP elements: int8 codes and one f16 scale. K is kept as
 * its difference from the first key of each KV_OFFSET_TOKENS, which is kept as f16. */
enum kv_type { KV_F32, KV_F16, KV_Q8, KV_TYPE_COUNT };
#define KV_GROUP         32
#define KV_OFFSET_TOKENS 32

/* Layers of equal shape and equal retention. A page holds page_tokens consecutive positions of one sequence for all
 * layers of its group; its inner layout is the backend's.
 *
 * Layers that keep a state of fixed size instead of positions (linear attention) form a state group. A page of it is
 * the state of all its layers behind one position, and which that is: entry i of a block table is the state behind the
 * last row of block i that has been computed. Tables are sparse: KV_PAGE_NONE where nobody needs the state. A step
 * reads the page of the block of position start - 1 (none when start is 0: the state is zero), which has to be that of
 * exactly start, and writes each page that the table has for the blocks of its rows; the last of these blocks has one.
 */
struct kv_group_spec {
    int n_layers;
    int n_kv_heads;
    int k_dim, v_dim; /* per head; one of them may be 0 */
    enum kv_type type;
    int window;        /* positions a query sees including its own; 0: all. Of a state group 2: the one before it */
    size_t state_size; /* bytes of a layer's state, floats; 0: K and V of each position. Else the other sizes are 0 */
    size_t base;       /* kv_bind: where the group's pages begin in the pool; page i is at base + i * kv_page_size */
};
#define KV_MAX_GROUPS 8
#define KV_PAGE_NONE  UINT32_MAX

/* ---- batch: one ragged step ---- */

struct batch_seq {
    int32_t first_row, n_rows;            /* rows of this sequence in the batch, consecutive positions */
    int32_t start;                        /* position of the first of them; all positions before it are in its pages */
    const uint32_t *pages[KV_MAX_GROUPS]; /* block tables: page index of positions [i * page_tokens, ...); entries that
                                             have left a window are KV_PAGE_NONE */
    int32_t n_pages;                      /* entries of each table: covers start + n_rows positions */
    int32_t adapter;                      /* number of the adapter of its rows; 0: none */
};

struct batch {
    int32_t n_rows;
    const int32_t *ids; /* [n_rows] token ids */
    const int32_t
        *prev_row; /* [n_rows] or NULL: where >= 0, the id is entry prev_row[i] of prev_ids instead of ids[i] */
    struct tensor *prev_ids;  /* from the previous step's op_sample, or NULL */
    const int32_t *positions; /* [n_rows] */
    int32_t n_seqs;
    const struct batch_seq *seqs; /* [n_seqs], rows in order, covering all rows */
    int32_t n_out;
    const int32_t *out_rows; /* [n_out] rows whose logits are wanted, ascending, none twice */
};

/* ---- parameters of ops ---- */

enum norm_kind { NORM_RMS, NORM_LAYER };
struct norm_params {
    enum norm_kind kind;
    float eps;
    float weight_offset; /* added to each weight: 1 for Gemma weights as its checkpoints store them; GGUF has it applied
                          */
    int n_groups;        /* each row is n_groups vectors normed by themselves (QK-norm: heads); 1: the whole row. The
                          weight is as long as a vector, for all of them, or as the row: each has its own */
};

enum rope_kind { ROPE_NORM /* pairs (2i, 2i+1) */, ROPE_NEOX /* pairs (i, i + dim/2) */ };
struct rope_params {
    enum rope_kind kind;
    int n_heads, head_dim;
    int rot_dim;           /* leading dims of each head that rotate */
    const float *inv_freq; /* [rot_dim / 2] angle per position, scaling already applied; lives as long as the model */
    float attn_factor;     /* cos and sin are multiplied by it (YaRN); 1 otherwise */
};

struct attention_params {
    int n_heads, n_kv_heads, k_dim, v_dim;
    float scale;   /* of q.k */
    float softcap; /* 0: none; otherwise cap * tanh(s / cap) */
    int window;    /* as in the group; 0: all */
    bool chunked;  /* the window is no distance: a query sees the positions of its own stretch of `window`, up to it */
    bool causal;
    struct weight *sinks; /* [n_heads] or NULL: an extra logit per head that takes probability only */
    /* q at position p is multiplied by 1 + temper_scale * log(1 + floor((p + 1) / temper_length)); scale 0: by 1 */
    float temper_scale;
    int temper_length;
};

/* CLAMPED_SWIGLU is of gated MLPs only, and of gate and up together: g * sigmoid(1.702 g) * (u + 1) with
 * g = min(gate, 7), u = up between -7 and 7 (gpt-oss). */
enum activation { ACT_SILU, ACT_GELU, ACT_GELU_TANH, ACT_RELU, ACT_RELU2, ACT_CLAMPED_SWIGLU };
#define SWIGLU_ALPHA 1.702f
#define SWIGLU_LIMIT 7.0f

enum moe_score {
    MOE_SOFTMAX,        /* over all experts */
    MOE_SOFTMAX_CHOSEN, /* over the experts chosen, which are those with the largest logits */
    MOE_SIGMOID,
};

/* A mixture of gated MLPs:
 *
 *     s = score(x router^T + router_bias)            of every expert
 *     c = s + choice_bias                            what is chosen by
 *     the n_groups_used best of n_groups equal runs of experts stay; a group is worth the sum of its group_top best c
 *     the n_used experts with the largest c of those are taken
 *     weight = s, divided by the sum over those taken (norm_weights), times scale
 *     out = sum of weight * mlp_gated(x)             or, with weigh_input, of mlp_gated(weight * x)
 *
 * Among equals the lower number wins, of groups as of experts; experts are added in the order of their numbers. */
struct moe_params {
    int n_experts, n_used;
    bool norm_weights;
    float scale; /* 1: none */
    enum activation act;
    enum moe_score score;
    int n_groups, n_groups_used, group_top; /* n_groups 0 or 1: none */
    bool weigh_input;
};
/* Experts are stacked along n_out: gate and up [n_experts * n_ff, n_in], down [n_experts * n_in, n_ff]; likewise their
 * biases, which are one row: [n_experts * n_ff], [n_experts * n_in]. */
struct moe_weights {
    struct weight *router; /* [n_experts, n_in] */
    struct weight *gate, *up, *down;
    struct weight *router_bias, *choice_bias;       /* [n_experts]; NULL: none */
    struct weight *gate_bias, *up_bias, *down_bias; /* all, or all NULL */
};

/* Streams of a row (AltUp, Baykal et al., "Alternating Updates for Efficient Transformers", 2023): n vectors one after
 * the other, one of which, the active one, goes through the layer. */
struct stream_params {
    int n, active;
    float scale; /* of what the router gives, before its tanh */
};
#define MAX_STREAMS 8

#define MAX_CONV_TAPS 64 /* positions that a short convolution sees: far above any model */

/* A gated delta rule behind a convolution (Yang et al., "Gated Delta Networks", 2024; the linear attention of
 * Qwen3-Next). Each column of q, k and v is convolved over n_taps positions and goes through silu. q and k of each head
 * are divided by their lengths, sqrt(sum of squares + DELTA_LENGTH_EPS), and q by sqrt(k_dim). A value head has a state
 * S [k_dim, v_dim], zero before the first position, and takes q and k of key head h n_k_heads / n_v_heads; at each
 * position
 *
 *     S = exp(rate softplus(a + bias)) S
 *     S = S + k (sigmoid(b) (v - S^T k))^T
 *     out = S^T q
 *
 * In f32, position after position: where a step begins leaves no trace. */
#define DELTA_LENGTH_EPS 1e-6f
struct delta_params {
    int n_k_heads, n_v_heads; /* the latter a multiple of the former */
    int k_dim, v_dim, n_taps; /* dims per head; taps 1 to MAX_CONV_TAPS */
};
struct delta_input {
    struct tensor *q, *k, *v; /* [n_rows, n_k_heads * k_dim] twice, [n_rows, n_v_heads * v_dim] */
    struct tensor *gates;     /* [n_rows, 2 n_v_heads]: of each key head b of its value heads, then a of them */
};
struct delta_weights {
    struct weight *taps; /* [n_taps, columns of q, k and v], one vector */
    struct weight *rate; /* [n_v_heads], less than 0 */
    struct weight *bias; /* [n_v_heads] */
};

/* ---- sampling ----
 * Order: raw logits -> repetition -> DRY -> presence, frequency -> bias -> mask, min_tokens -> top-n-sigma ->
 * temperature (0: argmax, lowest id wins ties) -> top-k -> typical -> top-p -> min-p -> XTC -> one uniform by inverse
 * CDF in (logit descending, id ascending) order, sums in f64. Reported logprobs are the log-softmax of the raw logits.
 */

struct logit_bias {
    int32_t id;
    float bias;
};

#define SAMPLE_MAX_TOP    20
#define SAMPLE_MAX_BANNED 32 /* beyond, use the mask */

struct sample_row {
    int32_t logits_row; /* row of the logits tensor */
    /* Score only: no draw; the result's id is `score_id` with its logprob (prompt logprobs). -1: sample. */
    int32_t score_id;
    int32_t n_top;     /* top logprobs wanted, 0 to SAMPLE_MAX_TOP */
    bool want_logprob; /* logprob and rank of the sampled id */
    bool want_digest;  /* of the raw logits row (tests) */

    float temperature, top_p, min_p, typical_p, top_n_sigma;       /* neutral: 1 (0 = greedy), 1, 0, 1, -1 */
    int32_t top_k;                                                 /* <= 0: all */
    float repetition_penalty, presence_penalty, frequency_penalty; /* neutral 1, 0, 0 */
    float xtc_probability, xtc_threshold;                          /* neutral 0, 0.1 */
    float dry_multiplier, dry_base;                                /* neutral 0, 1.75 */
    int32_t dry_allowed_length, dry_range;                         /* 2, -1 (all) */
    const int32_t *dry_breakers;                                   /* [n_dry_breakers] ids that break a sequence */
    int32_t n_dry_breakers;

    const int32_t *history; /* [n_prompt + n_output]: the tokens before this one */
    int32_t n_prompt, n_output;
    const struct logit_bias *bias; /* [n_bias], ids in range and unique */
    int32_t n_bias;
    const int32_t *banned; /* [n_banned]: logit -inf (end-of-text before min_tokens) */
    int32_t n_banned;
    const uint32_t *mask;        /* bit per id, 1 = allowed, [ceil(n_vocab / 32)]; NULL: all */
    double uniform, xtc_uniform; /* drawn on the host, one per purpose */
};

struct top_logprob {
    int32_t id;
    float logprob;
};

struct sample_result {
    int32_t id;
    float logprob;
    int32_t rank; /* 1 = the most likely; ties count as better when their id is lower */
    bool finite;  /* false: the row held a NaN or no finite value; id is then meaningless */
    int32_t n_top;
    struct top_logprob top[SAMPLE_MAX_TOP]; /* logit descending, id ascending */
    uint64_t digest;                        /* XXH3 of the raw f32 row, when asked */
};

/* ---- the interface ---- */

struct backend_ops {
    const char *name; /* "cpu" */
    /* step_end only enqueues; read_* wait. The engine may then begin the next step before it reads this one. */
    bool lazy;
    /* A page is written into and read for one sequence at a time: sequences that share a prefix need copies of its
     * pages (kv_copy_page), also those that the cache holds. For backends whose attention wants each sequence's K and V
     * in one piece. */
    bool kv_private;
    const char *(*describe)(
        const struct backend *be); /* "cpu avx512-vnni, 2 threads": kernel set; part of the fingerprint */
    void (*free)(struct backend *be);

    struct weight *(*weight_create)(struct backend *be, const struct tensor_view *const *views, int n_views,
                                    struct error *err);
    void (*weight_free)(struct backend *be, struct weight *w);
    struct weight_info (*weight_info)(const struct weight *w);
    /* A matrix of which rows are looked up only (embed_add): used where it lies in the file, if its type allows. */
    struct weight *(*table_create)(struct backend *be, const struct tensor_view *view, struct error *err);
    /* Between steps: the part of adapter number `adapter` for w, instead of the one that was there; NULL: it has none
     * any more. a and b are copied: by cpu as f16, each divided by a power of two, by mlx in the activations' type. Ops
     * that multiply by w as one matrix honour it for rows of that adapter: linear, mlp, mlp_gated. FORMAT: shapes that
     * do not fit, a value that is not finite; UNSUPPORTED: tensors of three axes (experts, heads), which take none; on
     * failure w is as before. */
    bool (*weight_adapt)(struct backend *be, struct weight *w, int adapter, const struct adapter_part *part,
                         struct error *err);

    int (*kv_page_tokens)(const struct backend *be);
    size_t (*kv_page_size)(const struct backend *be, const struct kv_group_spec *spec);
    /* Hands over the memory of all pages. page_offset(group, index) = groups[group].base + index * kv_page_size; the
     * pool belongs to the caller. A backend that keeps KV elsewhere uses the page indexes only. Called once after the
     * model is loaded. */
    bool (*kv_bind)(struct backend *be, const struct kv_group_spec *groups, int n_groups, uint8_t *pool,
                    size_t pool_size, struct error *err);
    void (*kv_copy_page)(struct backend *be, int group, uint32_t src, uint32_t dst,
                         int n_tokens); /* the first n_tokens positions */
    /* Where a page lies in memory that the host may read and write between steps: kv_page_size bytes, all of its K and
     * V and nothing else. NULL of backends that keep K and V where the host cannot reach them. */
    void *(*kv_page)(struct backend *be, int group, uint32_t page);
    /* A checksum of positions [from, to) of a page, all of their bytes in it and no others', that goes on from `seed`:
     * the sum of [a, c) is that of [b, c) seeded with the sum of [a, b). written: of what steps and kv_copy_page wrote
     * there, where that was kept; what else may have come there since is then not seen. Without, what is there is read.
     * Between steps; not of groups of states. NULL with kv_page. */
    uint64_t (*kv_sum)(struct backend *be, int group, uint32_t page, int from, int to, uint64_t seed, bool written);
    /* After kv_bind: what steps write is summed up as they write it, as far as it does not fill a page at once, so that
     * kv_sum need not look at it again. NO_MEMORY: nothing is kept. NULL with kv_sum. */
    bool (*kv_keep_sums)(struct backend *be, struct error *err);
    /* Nobody needs the page's contents any more: it is neither referenced nor cached. NULL where that frees nothing. */
    void (*kv_free_page)(struct backend *be, int group, uint32_t page);

    bool (*step_begin)(struct backend *be, const struct batch *batch,
                       struct error *err);                   /* batch lives until step_end */
    bool (*step_end)(struct backend *be, struct error *err); /* evaluates what is not yet computed */
    /* All handles that this step made after x are dead, but for sampled ids: an eager backend uses their memory again.
     * Called after each layer with the residual stream; never needed for the result. */
    void (*keep)(struct backend *be, struct tensor *x);

    struct tensor *(*embed)(struct backend *be, struct weight *table,
                            float scale); /* the batch's ids: [n_rows, n_in] */
    /* (rows of the table * scale + x) * factor; ids that the table lacks take its first row; may reuse x */
    struct tensor *(*embed_add)(struct backend *be, struct weight *table, float scale, struct tensor *x, float factor);
    struct tensor *(*rows)(struct backend *be, struct tensor *x); /* the batch's out_rows of x */
    void (*linear)(struct backend *be, struct tensor *x, int n, struct weight *const *weights,
                   struct weight *const *biases,
                   struct tensor **outs); /* outs[i] = x weights[i]^T + biases[i]; biases or its entries may be NULL */
    struct tensor *(*norm)(struct backend *be, struct tensor *x, struct weight *weight, struct weight *bias,
                           const struct norm_params *p);
    struct tensor *(*add)(struct backend *be, struct tensor *a, struct tensor *b); /* may reuse a: a is dead after it */
    struct tensor *(*scale)(struct backend *be, struct tensor *x, float factor);   /* likewise */
    struct tensor *(*softcap)(struct backend *be, struct tensor *x, float cap);    /* likewise: cap * tanh(x / cap) */
    struct tensor *(*rope)(struct backend *be, struct tensor *x, const struct rope_params *p); /* likewise */
    /* x * sigmoid(gate), gate [n_rows, 1] or of x's shape; may reuse x */
    struct tensor *(*gate)(struct backend *be, struct tensor *x, struct tensor *gate);
    /* Rows are n_heads vectors one after the other. cut: columns [first, first + n) of each of them; join: each of a
     * with that of b behind it; linear_heads: each times a matrix of its own, w [n_heads * n_out, n_in], a stack. */
    struct tensor *(*cut)(struct backend *be, struct tensor *x, int n_heads, int first, int n);
    struct tensor *(*join)(struct backend *be, struct tensor *a, struct tensor *b, int n_heads);
    struct tensor *(*linear_heads)(struct backend *be, struct tensor *x, struct weight *w, int n_heads);
    /* x times a vector, column by column; y added to the vectors of x from the first-th on, x being n_heads of them.
     * May reuse x. */
    struct tensor *(*multiply)(struct backend *be, struct tensor *x, struct weight *vector);
    struct tensor *(*add_each)(struct backend *be, struct tensor *x, int n_heads, int first, struct tensor *y);
    /* act(gate) * up, may reuse gate. With sparsity: of relu(gate - (mean + *sparsity * deviation)), both of the row.
     */
    struct tensor *(*activate_mul)(struct backend *be, struct tensor *gate, struct tensor *up, enum activation act,
                                   const float *sparsity);
    /* Each of y's vectors, which are as long as x, times rms(x) / rms(itself), this one at least 1e-5 when squared. May
     * reuse y. */
    struct tensor *(*match)(struct backend *be, struct tensor *x, struct tensor *y);
    /* With m = tanh(routed * scale), routed [n_rows, n]; both may reuse x, [n_rows, n * width]:
     * predict: x_i + sum over j of (m . coefs[i * n + j]) x_j, coefs [n * n * n]
     * correct: x_i + (1 + m . coefs[i]) (y - x_active), coefs [n * n] */
    struct tensor *(*stream_predict)(struct backend *be, struct tensor *x, struct tensor *routed, struct weight *coefs,
                                     const struct stream_params *p);
    struct tensor *(*stream_correct)(struct backend *be, struct tensor *x, struct tensor *y, struct tensor *routed,
                                     struct weight *coefs, const struct stream_params *p);
    void (*kv_write)(struct backend *be, int group, int layer, struct tensor *k,
                     struct tensor *v); /* layer within the group */
    struct tensor *(*attention)(struct backend *be, int group, int layer, struct tensor *q,
                                const struct attention_params *p); /* reads K, V from the pages */
    /* A gated short convolution of each column by itself. x [n_rows, 3 n] is b, c and u of each row one behind the
     * other. v = b u goes to the pages; at position p comes out c times the sum over j of taps[j] v[p - n_taps + 1 +
     * j], v being 0 before the first position. taps [n_taps, n] is one vector. The group keeps f32, as V alone (k_dim
     * 0, v_dim n), and its window is n_taps. */
    struct tensor *(*short_conv)(struct backend *be, int group, int layer, struct tensor *x, struct weight *taps);
    /* [n_rows, n_v_heads * v_dim]. Of a state group, whose state_size is delta_state_size: S of the value heads, and q,
     * k and v of the last n_taps - 1 positions before the convolution. NULL of backends that lack it. */
    struct tensor *(*delta_net)(struct backend *be, int group, int layer, const struct delta_input *x,
                                const struct delta_weights *w, const struct delta_params *p);
    struct tensor *(*mlp_gated)(struct backend *be, struct tensor *x, struct weight *gate, struct weight *up,
                                struct weight *down, enum activation act);
    struct tensor *(*mlp)(struct backend *be, struct tensor *x, struct weight *up, struct weight *up_bias,
                          struct weight *down, struct weight *down_bias, enum activation act);
    struct tensor *(*moe)(struct backend *be, struct tensor *x, const struct moe_weights *w,
                          const struct moe_params *p);
    /* ids [n]. rows and what they point to live until the samples are read. */
    struct tensor *(*sample)(struct backend *be, struct tensor *logits, const struct sample_row *rows, int n);

    /* Before step_end. [rows, cols] */
    bool (*read_f32)(struct backend *be, struct tensor *t, float *dst, size_t n, struct error *err);
    bool (*read_samples)(struct backend *be, struct tensor *ids, struct sample_result *results,
                         struct error *err); /* [n] */
    /* Time spent in evaluation and in waiting for it since creation; the rest of a step is the host's. NULL of backends
     * that are not lazy: all of their time is evaluation. */
    uint64_t (*eval_ns)(const struct backend *be);
    /* Bytes of step memory and scratch that it holds, besides weights and KV. NULL where that is not known. */
    size_t (*scratch_size)(const struct backend *be);
};

struct backend { /* first member of every implementation */
    const struct backend_ops *ops;
};

/* ---- the cpu backend ---- */

/* Positions of a KV page, and the block in which attention is reduced. 32 keys are whole vectors in every instruction
 * set, K of a 64-wide f16 head fills one page of the system, and a sequence wastes 16 positions on average. */
#define CPU_PAGE_TOKENS 32

/* AVX2 and AVX512 are of x86-64; NEON (with SDOT) and I8MM (SMMLA too) of arm64. */
enum cpu_kernels {
    CPU_KERNELS_AUTO,
    CPU_KERNELS_REFERENCE,
    CPU_KERNELS_AVX2,
    CPU_KERNELS_AVX512,
    CPU_KERNELS_NEON,
    CPU_KERNELS_I8MM,
    CPU_KERNELS_COUNT
};

struct cpu_backend_options {
    enum cpu_kernels kernels;   /* AUTO: the best this processor has; another that it lacks: UNSUPPORTED */
    int n_threads;              /* 0: sys_cpu_usable() */
    int spin_us;                /* see pool.h; -1: default */
    struct backend *threads_of; /* another cpu backend, whose threads serve both; it lives longer, and the two never
                                   compute at the same time. NULL: threads of its own */
};
NODISCARD struct backend *cpu_backend_create(const struct cpu_backend_options *options, struct error *err);
/* What the backend makes of a tensor, for `tandem inspect`: "int8 panels", "in place". Static storage. */
const char *cpu_layout_of(const struct tensor_view *t);
NODISCARD bool cpu_kernels_parse(const char *name, enum cpu_kernels *out, struct error *err);
NODISCARD bool kv_type_parse(const char *name, enum kv_type *out, struct error *err);
const char *kv_type_name(enum kv_type type);       /* "f16" */
size_t kv_vector_size(enum kv_type type, int dim); /* bytes of one position's K or V of a head, scales included */
size_t kv_position_size(const struct kv_group_spec *spec); /* bytes of a position in all layers of the group */

/* State groups: bytes of a layer's part of a page, and of a page, which has a tag behind the layers: the position that
 * its state is behind, or KV_NO_STATE. The same in every backend; 0 where they would be more than KV_MAX_STATE. */
#define KV_MAX_STATE ((size_t)1 << 31)
#define KV_NO_STATE  (-1)
size_t delta_state_size(const struct delta_params *p);
size_t kv_state_stride(const struct kv_group_spec *spec);
size_t kv_state_page_size(const struct kv_group_spec *spec);

/* ---- the mlx backend ---- */

/* Where MLX computes, and in what type activations and K and V are. AUTO: the first GPU, else the CPU; f32 on the CPU,
 * the weights' own type on a GPU. */
enum mlx_device { MLX_DEVICE_AUTO, MLX_DEVICE_CPU, MLX_DEVICE_GPU };
enum mlx_type { MLX_TYPE_AUTO, MLX_TYPE_F32, MLX_TYPE_F16, MLX_TYPE_BF16 };

struct mlx_backend_options {
    enum mlx_device device;
    enum mlx_type type;
    size_t memory_limit; /* bytes that MLX may hold; 0: the device's recommended working set, or none */
    size_t cache_limit;  /* bytes of freed buffers it keeps; 0: a share of the former */
};

/* Loads the shared object that holds the backend, beside the program or in ../lib/tandem. UNSUPPORTED says what is
 * missing: the object, MLX's library, or a library of another version than the one it was built for. */
NODISCARD struct backend *mlx_backend_create(const struct mlx_backend_options *options, struct error *err);
bool mlx_backend_available(struct error *why); /* false and why not; loads the library, no device is opened */
bool mlx_backend_present(void);                /* the object is there, whatever it is worth; nothing is loaded */
const char *mlx_backend_version(void);         /* of the library found, "0.32.4", or NULL */
/* As cpu_layout_of, with activations of this type (not AUTO); the rule is in backend/mlx/mlx_plan.h. Returns buf. */
const char *mlx_layout_of(const struct tensor_view *t, enum mlx_type type, char *buf, size_t size);

/* ---- either ---- */

/* AUTO: mlx where its object is there and finds a GPU, else cpu. */
enum backend_kind { BACKEND_AUTO, BACKEND_CPU, BACKEND_MLX };

struct op_times; /* backend/timed.h */

struct backend_options {
    enum backend_kind kind;
    struct cpu_backend_options cpu;
    struct mlx_backend_options mlx;
    struct op_times *op_times; /* not NULL: how long ops take is noted there, where the backend is not lazy */
};
NODISCARD struct backend *backend_create(const struct backend_options *options, struct error *err);

/* The words of the command line; INVALID lists them. NULL: the fields stay as they are. */
struct backend_words {
    const char *backend, *cpu_kernels, *mlx_device, *mlx_type;
};
NODISCARD bool backend_options_parse(const struct backend_words *words, struct backend_options *out, struct error *err);

/* ---- short names for models ---- */
static inline struct tensor *op_embed(struct backend *be, struct weight *table, float scale)
{
    return be->ops->embed(be, table, scale);
}
static inline void op_keep(struct backend *be, struct tensor *x)
{
    be->ops->keep(be, x);
}
static inline struct tensor *op_rows(struct backend *be, struct tensor *x)
{
    return be->ops->rows(be, x);
}
static inline struct tensor *op_linear(struct backend *be, struct tensor *x, struct weight *w, struct weight *bias)
{
    struct tensor *out = NULL;
    be->ops->linear(be, x, 1, &w, &bias, &out);
    return out;
}
static inline struct tensor *op_norm(struct backend *be, struct tensor *x, struct weight *w, struct weight *bias,
                                     const struct norm_params *p)
{
    return be->ops->norm(be, x, w, bias, p);
}
static inline struct tensor *op_add(struct backend *be, struct tensor *a, struct tensor *b)
{
    return be->ops->add(be, a, b);
}
static inline struct tensor *op_scale(struct backend *be, struct tensor *x, float factor)
{
    return be->ops->scale(be, x, factor);
}
static inline struct tensor *op_softcap(struct backend *be, struct tensor *x, float cap)
{
    return be->ops->softcap(be, x, cap);
}
static inline struct tensor *op_rope(struct backend *be, struct tensor *x, const struct rope_params *p)
{
    return be->ops->rope(be, x, p);
}

#endif
