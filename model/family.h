/* Families of decoder models: one row each, that says how metadata and tensor names of both containers map onto struct
 * decoder_config. Adding a family is adding a row to families.c and, where its tensors are named as no other family's,
 * rows of names. Constant data; any thread. */
#ifndef TANDEM_MODEL_FAMILY_H
#define TANDEM_MODEL_FAMILY_H

#include "base/array.h"
#include "model/model.h"

/* The parameters of a decoder. Which of them a model has follows from its configuration (weights_parts.c). */
enum model_part {
    PART_NONE,
    PART_EMBD,
    PART_OUTPUT_NORM,
    PART_OUTPUT_NORM_BIAS,
    PART_OUTPUT,
    PART_LAYER_EMBD, /* per-layer inputs of all layers: the table, the projection of the embedding, its norm */
    PART_LAYER_PROJ,
    PART_LAYER_PROJ_NORM,
    PART_STREAMS_IN, /* for each stream but the first [n_embd, n_embd]: of the embedding; to the output */
    PART_STREAMS_OUT,
    PART_FIRST_OF_LAYER,
    PART_STREAM_ROUTER = PART_FIRST_OF_LAYER,
    PART_STREAM_ROUTER_NORM,
    PART_STREAM_PREDICT, /* for each pair of streams [n_streams] */
    PART_ATTN_NORM,
    PART_ATTN_NORM_BIAS,
    PART_CONV_IN,   /* of layers that convolve instead of attending: what gives b, c and u, see backend.h */
    PART_CONV_TAPS, /* [n_conv_taps, n_embd], one vector */
    PART_DELTA_Q,   /* of layers of the delta rule: see struct delta_input and delta_weights of backend.h */
    PART_DELTA_K,
    PART_DELTA_V,
    PART_DELTA_GATES,
    PART_DELTA_TAPS,
    PART_DELTA_RATE,
    PART_DELTA_BIAS,
    PART_Q,
    PART_K,
    PART_V,
    PART_Q_BIAS,
    PART_K_BIAS,
    PART_V_BIAS,
    PART_Q_NORM,
    PART_K_NORM,
    PART_SINKS,
    PART_Q_LATENT, /* the latent of Q: what it is made by, its norm; and Q of it */
    PART_Q_LATENT_NORM,
    PART_Q_OF_LATENT,
    PART_KV_LATENT, /* of K and V together, and the rotated part of K, which needs none */
    PART_KV_LATENT_NORM,
    PART_K_OF_LATENT, /* for each head [n_latent, nope_dim]: turns its Q to where the latent is */
    PART_ATTN_OUT,    /* from here on: behind the attention, or the convolution */
    PART_V_OF_LATENT, /* for each head [head_v_dim, n_latent] */
    PART_ATTN_OUT_BIAS,
    PART_ATTN_GATE, /* of what the heads give */
    PART_LAUREL_LEFT,
    PART_LAUREL_RIGHT,
    PART_LAUREL_NORM,
    PART_STREAM_CORRECT, /* for each stream [n_streams] */
    PART_STREAM_SCALE,
    PART_INPUT_GATE, /* of the layer's own input */
    PART_INPUT_PROJ,
    PART_INPUT_NORM,
    PART_CONV_OUT,
    PART_DELTA_NORM, /* of what each value head gives */
    PART_DELTA_GATE, /* of all of it */
    PART_DELTA_OUT,
    PART_ATTN_POST_NORM,
    PART_MLP_NORM,
    PART_MLP_NORM_BIAS,
    PART_GATE,
    PART_UP,
    PART_UP_BIAS,
    PART_DOWN,
    PART_DOWN_BIAS,
    PART_MLP_POST_NORM,
    PART_ROUTER,
    PART_ROUTER_BIAS,
    PART_CHOICE_BIAS,
    PART_EXPERT_GATE, /* of all experts, stacked */
    PART_EXPERT_UP,
    PART_EXPERT_DOWN,
    PART_EXPERT_GATE_BIAS, /* likewise, one vector */
    PART_EXPERT_UP_BIAS,
    PART_EXPERT_DOWN_BIAS,
    PART_SHARED_GATE, /* of the experts that all rows take, as one */
    PART_SHARED_UP,
    PART_SHARED_DOWN,
    PART_SHARED_ROUTER,
    PART_COUNT
};

/* ---- names of tensors (names.c) ---- */

/* How the parts of a tensor lie in it, where they are not simply rows one after the other. Such are copied. */
enum weight_layout {
    LAYOUT_ROWS,
    LAYOUT_ALTERNATING_ROWS,    /* the first of each part, the second of each part, ... */
    LAYOUT_COLUMNS,             /* [n_in, n_out]: the parts' columns one after the other */
    LAYOUT_ALTERNATING_COLUMNS, /* both */
    LAYOUT_FIRST_TURNED,        /* rows, but those of the first part are its columns */
    LAYOUT_HEADS,               /* rows, head by head: a head's of each part one after the other. Not copied */
    LAYOUT_KEY_HEADS,           /* likewise, by key head of the delta rule */
    LAYOUT_LOGS,                /* a vector: logarithms of what is less than 0, without the sign */
};
#define WEIGHT_ROW_PARTS 4

/* What a tensor of one name holds: a part, or several parts' rows one after the other. Experts are a third axis, the
 * outermost; or "*" in the name stands for an expert's number, and there is one tensor for each. Heads that have a
 * matrix each are a third axis too, or blocks of rows. A norm of Q or
 * K may be one for each head likewise. */
struct weight_row {
    const char *name; /* of parts outside layers: the whole name; else what follows the layer's number */
    enum model_part parts[WEIGHT_ROW_PARTS]; /* PART_NONE at the end */
};

struct weight_rows {
    const struct weight_row *rows; /* [n] */
    size_t n;
};
#define WEIGHT_ROWS(array)      \
    {                           \
        array, ARRAY_LEN(array) \
    }

struct layout_row { /* of a name in the rows beside it; others are LAYOUT_ROWS */
    const char *name;
    enum weight_layout layout;
};

/* How one file names its tensors. A part may have several names; a file has it under one of them. */
struct weight_names {
    const char *prefix;                  /* before the names outside layers and before layer_prefix: "model." */
    const char *head_prefix;             /* in its place before the output head: "" */
    const char *layer_prefix;            /* "blk.", "layers." */
    struct weight_rows sets[2];          /* the family's own, which come first; the container's */
    const struct layout_row *layouts[2]; /* likewise; each ends with a NULL name; may be NULL */
    const char *const *unused;           /* patterns of tensors that may be there and are not needed; NULL at the end */
    bool qkv_by_kv_head; /* rows of Q, K and V in one tensor come by KV head: Q's of the heads that use it, K's, V's */
};

struct decoder_family;
struct weight_names weight_names_of(const struct decoder_family *family, const struct model_file *file);
/* As a new file or folder has them. */
struct weight_names weight_names_for(const struct decoder_family *family, bool of_folder);

/* Sets the prefixes of a folder's names to the i-th place that a decoder has in folders: alone, or inside a multimodal
 * model. False behind the last. */
bool weight_names_within(struct weight_names *folder, size_t i);

/* The i-th name's row of a part; NULL behind the last. */
const struct weight_row *weight_row(const struct weight_names *names, enum model_part part, size_t i);

/* Name of the tensor of a row, cut to fit; layer and expert are ignored where the name has none. Returns buf. */
const char *weight_name(const struct weight_names *names, const struct weight_row *row, int layer, int expert,
                        char *buf, size_t size);

/* A bias beside a matrix that another program has packed, of zeros: packers of GPTQ write one where the model has none
 * (vLLM's loaders of decoders leave them out too). */
bool weight_is_idle_bias(const struct model_file *file, const struct tensor_view *t);

/* The row under whose name the file has a part (that of its first expert); NULL when it has none. */
const struct weight_row *weight_find(const struct weight_names *names, const struct model_file *file,
                                     enum model_part part, int layer);
/* That tensor. */
const struct tensor_view *weight_tensor(const struct weight_names *names, const struct model_file *file,
                                        enum model_part part, int layer);
bool weight_row_per_expert(const struct weight_row *row);
enum weight_layout weight_row_layout(const struct weight_names *names, const struct weight_row *row);

/* The row, layer (-1 outside layers) and expert (-1 for none) that a tensor's name means; NULL when it names none. */
const struct weight_row *weight_name_parse(const struct weight_names *names, struct str name, int *layer, int *expert);

/* ---- families ---- */

/* Which layers have the window, in a folder; GGUF: a period, or a flag per layer. */
enum window_rule {
    WINDOW_NONE,
    WINDOW_ALL,    /* every layer */
    WINDOW_PERIOD, /* all but the last layer of each period */
    WINDOW_FROM,   /* layers from max_window_layers on */
    WINDOW_NOPE,   /* layers without RoPE */
    WINDOW_ROPE    /* layers with RoPE */
};

struct folder_defaults { /* of keys that config.json may lack, as the classes of transformers have them; 0: required or
                            derived */
    int n_heads, n_kv_heads, k_dim, n_context;
    bool norm_experts;         /* norm_topk_prob */
    double norm_eps, q_scalar; /* q_scalar: query_pre_attn_scalar, q.k is divided by its root */
    double rot_share;          /* of the dimensions of a head, that rotate */
    double logit_scale;        /* of logit_factor */
    bool attn_bias;            /* what attention_bias is when it is missing */
};

struct decoder_family {
    const char *name;
    const char *gguf;           /* general.architecture, and the prefix of its keys; NULL: files say another family's */
    const char *model_types[2]; /* of config.json; NULL: none */
    const char *hf_class;       /* of architectures where model_type is missing: "Llama" of "LlamaForCausalLM" */
    struct weight_rows gguf_rows, folder_rows;              /* names of its own */
    const struct layout_row *gguf_layouts, *folder_layouts; /* of these; NULL: all are rows */
    bool folder_qkv_by_kv_head;                             /* see weight_names */
    enum rope_kind rope_kind;                               /* in GGUF; folders rotate halves */
    bool max_length;        /* in folders model_max_length is the context, where it is there */
    bool folder_rope_kind;  /* rope_kind holds for folders too, unless rope_interleave says otherwise */
    double rope_base;       /* when the file has none */
    double rope_local_base; /* of windowed layers when the file has none; 0: they rotate like the others */
    int nope_period;        /* the last layer of each rotates nothing; 0: all rotate */
    bool nope_full;         /* where some layers have a window, the others rotate nothing */
    enum norm_kind norm_kind;
    bool norm_bias, pre_norm, post_norm, qk_norm, qk_norm_row, qk_norm_heads;
    bool qk_norm_asked;  /* folders: qk_norm, where use_qk_norm or qk_layernorm is true; GGUF: as the tensors are */
    bool parallel;       /* see decoder_config */
    bool parallel_asked; /* folders: where use_parallel_residual is true; GGUF: where there is no norm before the MLP */
    bool qkv_bias;       /* in folders, where attention_bias is not asked; GGUF: as the tensors are */
    bool out_bias_asked; /* in folders: by attention_out_bias; else attention_bias speaks of the output too */
    bool mlp_gated;
    enum activation act;
    bool gelu_is_tanh;         /* folders that say "gelu" mean its tanh form */
    bool embd_scale_sqrt;      /* the embedding is multiplied by sqrt(n_embd) */
    bool multipliers;          /* Granite's scales of embedding, residuals, attention and logits are read */
    bool depth_scales;         /* MiniCPM's of embedding, residuals and logits, in folders made of the model's shape */
    bool logit_factor;         /* logit_scale is read, a factor */
    bool tied;                 /* in folders, when the file does not say */
    int window, window_period; /* when the file has none: the last layer of each period sees all, the others the
                                  window; period 0: every layer has the window */
    enum window_rule window_rule;
    bool window_optional;              /* use_sliding_window has to be true */
    float attn_softcap, final_softcap; /* when the file has none */
    int attn_scale_embd_layers;        /* the size with this many layers scales q.k by 1 / sqrt(n_embd / n_heads), the
                                          others by 1 / sqrt(k_dim); GGUF has no key for it */
    float folder_norm_offset;          /* norm weights lack it in folders, see norm_params.weight_offset */
    bool experts;                      /* may be a mixture */
    bool experts_norm_asked;           /* in folders norm_topk_prob says whether weights of experts are normed */
    bool experts_raw;                  /* they are not, where the file does not say or is not asked */
    bool experts_by_tensors;           /* in folders too, a layer has experts when it has a router */
    bool experts_weigh_input;          /* see moe_params */
    enum moe_score experts_score;      /* of folders, and of GGUF files that do not say */
    bool attn_sinks, latent;           /* as the fields of decoder_config */
    bool v_norm;                       /* likewise */
    bool streams;                      /* AltUp, per-layer inputs, sparse gates, shared K and V: config_streams.c */
    bool attn_unscaled;                /* q.k is not scaled */
    bool qk_norm_plain;                /* likewise, where use_qk_norm does not say otherwise */
    bool yarn_unrounded;               /* in GGUF, which has no key for it */
    bool window_chunked;               /* likewise */
    bool tempered;                     /* queries of layers without RoPE are tempered, where the folder wants it */
    bool convs;                        /* some layers are short convolutions */
    bool deltas;                       /* some layers are of the delta rule: config_delta.c */
    bool attn_gated;                   /* as the field of decoder_config */
    bool ff_adjusted;                  /* folders: two thirds of the width that they say, rounded up, is the MLP's */
    struct folder_defaults folder;
};

/* Those that are mixtures of experts, families_experts.c; the last of all. */
extern const struct decoder_family decoder_expert_families[];
extern const size_t decoder_n_expert_families;

const struct decoder_family *decoder_family_at(size_t i);               /* i < decoder_n_families() */
const struct decoder_family *decoder_family_find(struct str name);      /* by its name; NULL when unknown */
const struct decoder_family *decoder_family_gguf(struct str arch);      /* by general.architecture */
const struct decoder_family *decoder_family_type(struct str type);      /* by model_type */
const struct decoder_family *decoder_family_class(struct str hf_class); /* by an entry of architectures */

#endif
