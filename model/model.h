/* Decoder language models: configuration from metadata, weights into a backend, the forward pass of a ragged batch.
 * One decoder implementation, driven by struct decoder_config; a family is one row of a table that maps names and
 * metadata of both containers, GGUF files and folders, onto it (model/families.c). Not here: KV pages (the caller's,
 * engine/kv), sampling (a backend op), tokens.
 *
 *     struct decoder_config config;
 *     if (!decoder_config_read(file, &config, err)) ...
 *     struct model *m = model_load(be, file, &(struct model_load_options){.config = &config, .kv_type = KV_F16}, err);
 *     n_groups = decoder_kv_groups(&config, KV_F16, groups, layer_group, layer_index);
 *     if (!be->ops->kv_bind(be, groups, n_groups, pool, pool_size, err)) ...
 *     for each step: step_begin(&batch); logits = model_forward(m, &batch); ... step_end();
 *
 * The engine's thread owns a model; the configuration alone is const and may be read by any thread (the gateway reads
 * it to plan memory). */
#ifndef TANDEM_MODEL_MODEL_H
#define TANDEM_MODEL_MODEL_H

#include "backend/backend.h"

#define MODEL_MAX_LAYERS  512
#define MODEL_MAX_EXPERTS 1024

/* LINEAR: Chen et al., "Extending context window ... via positional interpolation", 2023. LLAMA3: Llama 3.1's
 * smoothing between two wavelengths. YARN: Peng et al., "YaRN", 2023. LONGROPE: Ding et al., "LongRoPE", 2024, whose
 * two sets of divisors come with the model. All computed as transformers does. */
enum rope_scaling_kind {
    ROPE_SCALING_NONE,
    ROPE_SCALING_LINEAR,
    ROPE_SCALING_LLAMA3,
    ROPE_SCALING_YARN,
    ROPE_SCALING_LONGROPE
};
struct rope_scaling {
    enum rope_scaling_kind kind;
    double factor;                            /* > 0: how much longer the context became; not of longrope */
    int original_context;                     /* not of linear: trained positions; 0: the model's n_context */
    double low_freq_factor, high_freq_factor; /* llama3 */
    double beta_fast, beta_slow, ext_factor; /* yarn: rotations where the ramp begins and ends; share of the ramp (1) */
    double attn_factor;                      /* yarn, longrope: of cos and sin */
    bool unrounded;                          /* yarn: the ramp begins and ends between pairs */
};

struct rope_config { /* Gemma 3 has two: global and local layers */
    double base;
    struct rope_scaling scaling;
};

/* Everything the decoder does is chosen here; there is no test of the family's name elsewhere. */
struct decoder_config {
    const char *arch;                            /* the family's name, "llama"; static storage */
    int n_layers, n_embd, n_vocab, n_context;    /* n_context: positions that the model takes, scaling included */
    int n_heads, n_kv_heads, k_dim, v_dim, n_ff; /* k_dim, v_dim: per head; n_heads is a multiple of n_kv_heads */
    int n_experts, n_experts_used, n_ff_expert;  /* 0: no mixture; used: per token; n_ff is of layers without */
    uint8_t layer_experts[MODEL_MAX_LAYERS];     /* the layer's MLP is a mixture of experts */
    bool expert_norm_weights;                    /* those of the experts used sum up to 1 */
    float expert_scale;                          /* of the mixture's output; 1: none */
    enum moe_score expert_score;                 /* what experts are weighed by: see struct moe_params */
    int expert_groups, expert_groups_used, expert_group_top; /* groups 0: none */
    bool expert_weigh_input, expert_router_bias, expert_choice_bias, expert_bias;
    int n_ff_shared;    /* of the experts that all rows take, together; 0: there are none */
    bool shared_expert; /* there are */
    bool shared_gated;  /* what they give is multiplied by the sigmoid of a product of its own */
    enum norm_kind norm_kind;
    float norm_eps, norm_weight_offset;
    bool norm_bias;           /* of the norms before attention, MLP and output */
    bool pre_norm, post_norm; /* norms before attention and MLP; norms of their outputs before the residual add */
    bool parallel;            /* attention and MLP have the same input, one norm before both */
    bool qk_norm;             /* before RoPE */
    bool qk_norm_row;         /* over all heads at once; else each by itself */
    bool qk_norm_plain;       /* after RoPE, without weights, in layers that rotate (Llama 4) */
    bool v_norm;              /* each head of V, without weights */
    bool attn_gated;          /* what the heads give is multiplied by the sigmoid of a product of the layer's input */
    bool attn_sinks;          /* heads have a logit that takes probability and gives nothing */
    /* Multi-head latent attention (DeepSeek-V2, 2024): K and V of all heads are products of one latent vector of each
     * position, which is what is kept, with the part of K that rotates, as K of one head; V is the latent. k_dim is
     * n_latent + rot_dim then, v_dim n_latent, n_kv_heads 1. */
    bool latent, q_latent;    /* q_latent: Q is the product of a latent too */
    int n_latent, n_q_latent; /* elements of both */
    int nope_dim, head_v_dim; /* of a head: Q that does not rotate, V before the output's product */
    bool qk_norm_heads;       /* each by itself with weights of its own; else with those that all share */
    bool qkv_bias, out_bias, mlp_bias;
    enum rope_kind rope_kind;
    int rot_dim;                          /* even, at most k_dim */
    uint8_t layer_nope[MODEL_MAX_LAYERS]; /* the layer rotates nothing */
    struct rope_config rope, rope_local;  /* local: layers with a window, where it differs */
    bool has_rope_local;
    bool rope_freq_factors; /* the file's rope_freqs.weight divides the angles of `rope` (Llama 3 scaling in GGUF) */
    float attn_scale;       /* of q.k */
    float attn_softcap, final_softcap; /* 0: none */
    int window;                        /* of windowed layers: positions a query sees, its own included; 0: none */
    uint8_t layer_windowed[MODEL_MAX_LAYERS];
    bool window_chunked; /* see attention_params.chunked */
    float temper_scale;  /* of layers that rotate nothing, see attention_params; 0: none */
    int temper_length;
    int n_kv_shared; /* of the last layers: they use K and V of the last layer of their kind before them */
    /* AltUp: a row is n_streams vectors, of which the active one goes through each layer (model/decoder_streams.c). The
     * rest of this paragraph is of such models only. */
    int n_streams, active_stream;           /* 0: no streams; else 2 to MAX_STREAMS */
    bool stream_scaled;                     /* the active stream is multiplied by a vector before per-layer inputs */
    bool laurel;                            /* LAuReL: a low-rank branch beside attention */
    int laurel_rank;                        /* of its two products */
    bool layer_inputs;                      /* per-layer inputs: vectors of tokens that each layer has for itself */
    int n_layer_input, n_layer_vocab;       /* elements of each; tokens that have some */
    uint8_t layer_sparse[MODEL_MAX_LAYERS]; /* of the MLP's gate only what is above a cutoff goes on */
    float sparsity[MODEL_MAX_LAYERS];       /* there: the cutoff, in deviations above the mean */
    /* Layers that convolve over the last n_conv_taps positions (LFM2's short convolution) instead of attending. */
    uint8_t layer_conv[MODEL_MAX_LAYERS];
    int n_conv_taps; /* 0: no layer does */
    /* Layers of the gated delta rule (Qwen3-Next), whose state takes the place of K and V. */
    uint8_t layer_delta[MODEL_MAX_LAYERS];
    struct delta_params delta; /* zeros: no layer is */
    int n_extra_layers;        /* a folder's layers behind the last, for guesses of more than one token; left alone */
    enum activation act;
    bool mlp_gated;
    float embd_scale;                  /* of the embedding's output; 1: none */
    float residual_scale, logit_scale; /* of what attention and MLP add, and of the logits; 1: none */
    bool tied_embeddings;              /* the output head is the embedding table */
};

/* Reads <arch>.* keys of GGUF or config.* of a folder through the family's row, and from the tensor directory what no
 * key tells (size of the vocabulary, biases, tied embeddings). UNSUPPORTED lists the known architectures or names what
 * this model needs and Tandem lacks; FORMAT names the key. *out is undefined on failure. */
NODISCARD bool decoder_config_read(const struct model_file *file, struct decoder_config *out, struct error *err);

/* --rope-scaling none|linear:F|llama3:F|yarn:F[:ORIGINAL_CONTEXT]: replaces what the file says (rope_freqs.weight too)
 * for the layers that its scaling covers, and sets n_context to F times the original context. INVALID otherwise. */
NODISCARD bool decoder_config_rope_scaling(struct decoder_config *c, const char *spec, struct error *err);

/* LongRoPE: whether serving n_served positions (0: n_context) takes the divisors of long texts, for all requests alike;
 * transformers changes the angles of a text as it grows, which its cached K does not survive. False elsewhere. */
bool decoder_config_long_angles(const struct decoder_config *c, int n_served);

size_t decoder_n_families(void);
const char *decoder_family_name(size_t i); /* for messages and docs; i < decoder_n_families() */

/* The KV groups of a configuration; returns their number (<= KV_MAX_GROUPS). layer_group[i], layer_index[i]: where
 * layer i keeps its K and V (arrays of n_layers). */
int decoder_kv_groups(const struct decoder_config *c, enum kv_type type, struct kv_group_spec groups[KV_MAX_GROUPS],
                      uint8_t layer_group[MODEL_MAX_LAYERS], uint16_t layer_index[MODEL_MAX_LAYERS]);

bool decoder_has_states(const struct decoder_config *c); /* one of them is a state group */

/* Whether the layer has K and V of its own, in its pages; else those of an earlier layer are its. */
bool decoder_layer_keeps(const struct decoder_config *c, int layer);

/* Angles per position of a rope configuration, scaling applied: out [rot_dim / 2]; returns the factor of cos and sin.
 * divisors: [rot_dim / 2], of the angles, or NULL. In f32 in the order of transformers, so that angles of far positions
 * agree with it. */
float rope_inv_freq(const struct rope_config *rope, int rot_dim, int n_context, const float *divisors, float *out);

/* Whether the tensor of that name is a table of which rows are read where they lie: that of per-layer inputs. */
bool decoder_tensor_is_table(const struct model_file *file, const struct decoder_config *c, struct str name);

struct model;

struct model_load_options {
    const struct decoder_config *config; /* as read, possibly changed by options; copied */
    enum kv_type kv_type;
    int n_served; /* positions a request may take, which choose between LongRoPE's two sets once and for all requests;
                     0: config's n_context */
    void (*progress)(void *arg, float fraction); /* may be NULL; from the calling thread */
    void *arg;
};

/* Loads all weights of `file` (which must outlive the model) into the backend. FORMAT names a missing tensor or a wrong
 * shape; a tensor that no table entry asked for is a FORMAT error too unless the family lists it as known and unused.
 */
NODISCARD struct model *model_load(struct backend *be, const struct model_file *file,
                                   const struct model_load_options *options, struct error *err);
void model_free(struct model *m); /* NULL is fine; before the backend's free */
const struct decoder_config *model_config(const struct model *m);
size_t model_resident_size(const struct model *m);      /* bytes of weights */
uint64_t model_n_params(const struct model_file *file); /* elements of all tensors */

/* Forward pass of the batch given to step_begin: logits [n_out, n_vocab] (NULL when n_out is 0: the pages are filled
 * all the same; NULL too when an op failed, which step_end reports). */
struct tensor *model_forward(struct model *m, const struct batch *batch);

#endif
