/* Shared by config.c (what both containers say), config_gguf.c and config_folder.c (what only one says, or says in its
 * own way) and config_keys.c (the names of keys). */
#ifndef TANDEM_MODEL_CONFIG_INTERNAL_H
#define TANDEM_MODEL_CONFIG_INTERNAL_H

#include "model/family.h"

/* Bounds of the shapes: far above any model, and such that products of two of them fit an int. */
#define CONFIG_MAX_HEADS    4096
#define CONFIG_MAX_HEAD_DIM 4096
#define CONFIG_MAX_EMBD     (1 << 20)
#define CONFIG_MAX_FF       (1 << 22)

/* GGUF's divisors of RoPE's angles: Llama 3's scaling as the converter works it out; LongRoPE's two sets. */
#define ROPE_FREQS_TENSOR "rope_freqs.weight"
#define ROPE_LONG_TENSOR  "rope_factors_long.weight"
#define ROPE_SHORT_TENSOR "rope_factors_short.weight"

/* What is asked, whatever it is called. Only some are known to both containers: see config_keys.c. */
enum config_key {
    KEY_LAYERS,
    KEY_EMBD,
    KEY_FF,
    KEY_HEADS,
    KEY_KV_HEADS,
    KEY_K_DIM,
    KEY_V_DIM,
    KEY_CONTEXT,
    KEY_MAX_LENGTH,
    KEY_VOCAB,
    KEY_NORM_EPS,
    KEY_LAYER_NORM_EPS,
    KEY_QK_NORM,
    KEY_PARALLEL,
    KEY_CAUSAL,
    KEY_BIDIRECTIONAL,
    KEY_ATTN_SCALE,
    KEY_ATTN_Q_SCALAR,
    KEY_ATTN_SOFTCAP,
    KEY_FINAL_SOFTCAP,
    KEY_ATTN_BIAS,
    KEY_OUT_BIAS,
    KEY_MLP_BIAS,
    KEY_TIED,
    KEY_ACT,
    KEY_WINDOW,
    KEY_WINDOW_PERIOD, /* in GGUF also an array: a flag per layer */
    KEY_WINDOW_USED,
    KEY_WINDOW_FROM,
    KEY_LAYER_TYPES,
    KEY_ROPE_LAYERS,
    KEY_NOPE_PERIOD,
    KEY_EMBD_SCALE,
    KEY_RESIDUAL_SCALE,
    KEY_LOGIT_DIVISOR,
    KEY_LOGIT_FACTOR,
    KEY_DEPTH_SCALE,
    KEY_BASE_EMBD,
    KEY_EXPERTS,
    KEY_EXPERTS_USED,
    KEY_EXPERT_FF,
    KEY_EXPERT_NORM,
    KEY_EXPERT_SCALE,
    KEY_EXPERT_GATING,
    KEY_EXPERT_STEP,
    KEY_DENSE_LAYERS,
    KEY_EXPERT_GROUPS,
    KEY_EXPERT_GROUPS_USED,
    KEY_EXPERT_METHOD,
    KEY_EXPERT_SCORING,
    KEY_SWIGLU_ALPHA,
    KEY_SWIGLU_LIMIT,
    KEY_EXTRA_LAYERS,
    KEY_CONV_TAPS,
    KEY_CONV_BIAS,
    KEY_CONV_ATTENDING,
    KEY_FULL_PERIOD,
    KEY_DELTA_K_HEADS,
    KEY_DELTA_V_HEADS,
    KEY_DELTA_K_DIM,
    KEY_DELTA_V_DIM,
    KEY_DELTA_VALUES,
    KEY_DELTA_TAPS,
    KEY_SHARED_FF,
    KEY_FF_ADJUSTED,
    KEY_FF_FACTOR,
    KEY_FF_MULTIPLE,
    KEY_LATENT,
    KEY_Q_LATENT,
    KEY_HEAD_ROPE,
    KEY_HEAD_NOPE,
    KEY_HEAD_K,
    KEY_HEAD_V,
    KEY_KV_SHARED,
    KEY_STREAMS,
    KEY_STREAM_ACTIVE,
    KEY_STREAM_SCALED,
    KEY_LAUREL_RANK,
    KEY_LAYER_INPUT,
    KEY_LAYER_VOCAB,
    KEY_SPARSITY, /* an array; folders: shares, GGUF: deviations */
    KEY_TEMPERED,
    KEY_TEMPER_SCALE,
    KEY_TEMPER_LENGTH,
    KEY_ROPE_PAIRS,
    KEY_ROT_DIM,
    KEY_ROT_SHARE,
    KEY_ROPE_BASE,
    KEY_ROPE_LOCAL_BASE,
    KEY_ROPE_LOCAL_TYPE,
    KEY_ROPE_TYPE,
    KEY_ROPE_FACTOR,
    KEY_ROPE_FACTOR_LEGACY,
    KEY_ROPE_ORIGINAL,
    KEY_ROPE_LOW_FREQ,
    KEY_ROPE_HIGH_FREQ,
    KEY_YARN_FAST,
    KEY_YARN_SLOW,
    KEY_YARN_EXT,
    KEY_YARN_MSCALE,
    KEY_YARN_MSCALE_ALL,
    KEY_YARN_ATTN_FACTOR,
    KEY_YARN_TRUNCATE,
    KEY_LONGROPE_ATTN_FACTOR,
    KEY_LONGROPE_LONG,
    KEY_LONGROPE_SHORT,
    KEY_COUNT
};

struct config_reader {
    const struct model_file *file;
    const struct decoder_family *family;
    struct weight_names names;
    bool folder;
    bool nested; /* folder: in config.json's text_config, where it has the key */
    struct error *err;
    char key[192]; /* full name of the last key that was asked for */
};

/* The value, and its full name in r->key; META_NONE when the file has it under none of its names (r->key is the first
 * of them then, or "" when the container knows no such key). */
struct meta_value config_get(struct config_reader *r, enum config_key key);
bool config_has(struct config_reader *r, enum config_key key);
const char *config_key_gguf(enum config_key key); /* what follows "<arch>." in GGUF; NULL: it has none */

/* Bounds are inclusive; FORMAT names the key. The plain form wants it there. */
NODISCARD bool config_int(struct config_reader *r, enum config_key key, int max, int *out); /* from 1 */
NODISCARD bool config_int_or(struct config_reader *r, enum config_key key, int min, int max, int fallback, int *out);
NODISCARD bool config_float_or(struct config_reader *r, enum config_key key, double min, double max, double fallback,
                               double *out);
NODISCARD bool config_f32_or(struct config_reader *r, enum config_key key, double max, double fallback,
                             float *out); /* from 0 */
NODISCARD bool config_bool_or(struct config_reader *r, enum config_key key, bool fallback, bool *out);
NODISCARD bool config_str_or(struct config_reader *r, enum config_key key, struct str fallback, struct str *out);

/* ---- by container ---- */

/* Sets r->family, and r->nested of a folder. UNSUPPORTED lists the families known. */
NODISCARD bool config_gguf_family(struct config_reader *r);
NODISCARD bool config_folder_family(struct config_reader *r);
bool config__unknown(struct config_reader *r, const char *what, struct str name); /* sets that error; false */

/* layer_windowed, c->window known and not 0. */
NODISCARD bool config_gguf_windows(struct config_reader *r, struct decoder_config *c);

/* In this order, after the shape: activation, layers without RoPE, windows, layers with experts, biases. */
NODISCARD bool config_folder_options(struct config_reader *r, struct decoder_config *c);

/* Multi-head latent attention: shapes of heads and latents, in place of those of K and V. (config_latent.c) */
NODISCARD bool config_latent(struct config_reader *r, struct decoder_config *c);

/* What comes with AltUp, of families that have streams: after the windows are known. (config_streams.c) */
NODISCARD bool config_streams(struct config_reader *r, struct decoder_config *c);

/* Mixtures of experts: counts, the router, which layers; folders: config_folder_options too. (config_experts.c) */
NODISCARD bool config_experts(struct config_reader *r, struct decoder_config *c);
NODISCARD bool config_folder_expert_layers(struct config_reader *r, struct decoder_config *c);

/* Which layers are of the special type; the others have to be "full_attention". types: of r->key. (config_folder.c) */
NODISCARD bool config_layer_types(struct config_reader *r, const struct meta_value *types, struct str special,
                                  int n_layers, uint8_t *is_special);

/* UNSUPPORTED: by r->key each layer is of the special type. (config_conv.c) */
NODISCARD bool config_some_attend(struct config_reader *r, const uint8_t *is_special, int n_layers);

/* Layers that are short convolutions: which, over how many positions; in GGUF the KV heads say which. (config_conv.c)
 */
NODISCARD bool config_gguf_convs(struct config_reader *r, struct decoder_config *c);
NODISCARD bool config_convs(struct config_reader *r, struct decoder_config *c);

/* Layers of the delta rule, of families that have some: which, and their shapes. (config_delta.c) */
NODISCARD bool config_deltas(struct config_reader *r, struct decoder_config *c);

/* RoPE: base, scaling, what rotates. (config_rope.c) */
NODISCARD bool config_rope(struct config_reader *r, struct decoder_config *c);

/* A reader for a file, its family found. */
NODISCARD bool config_reader_init(struct config_reader *r, const struct model_file *file, struct error *err);

/* The divisors of the global angles that the configuration wants, checked, into out [rot_dim / 2]; *n is 0 when it
 * wants none. n_served: see model_load_options. (rope_divisors.c) */
NODISCARD bool rope_divisors(const struct decoder_config *c, const struct model_file *file, int n_served, float *out,
                             int *n, struct error *err);

#endif
