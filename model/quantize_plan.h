/* Which type a parameter gets when a model is written in another precision. The rule works from the parts of a decoder,
 * whatever their tensors are called:
 *
 *     part                                   8 bits          6 bits          4 bits
 *     vectors (norms, biases), routers       as they are     as they are     as they are
 *     output head, tied embedding            Q8_0   8        Q8_0   8        Q6_K   6
 *     embedding                              Q8_0   8        Q6_K   6        Q6_K   6
 *     values (attn_v)                        Q8_0   8        Q8_0   8        Q6_K   6
 *     ffn_down of some layers (see below)    Q8_0   8        Q6_K   6        Q6_K   6
 *     all other matrices                     Q8_0   8        Q6_K   6        Q4_K   4
 *
 * Left: the block type in GGUF; right: the bits of affine groups of 64 in a folder. Some layers: the first eighth, the
 * last eighth, and every third between them. Rows that are no multiple of 256 elements cannot be in K blocks and take
 * Q4_1, Q5_1 or Q8_0; groups are of 32 where 64 does not divide a row; what 32 does not divide stays in floats.
 * Experts, shared ones too, are as the MLP of a dense layer. Of models with streams: the table of per-layer inputs is
 * as an embedding; its projection, the streams' and both of LAuReL are as an output head; the streams' coefficients are
 * vectors. Taps of convolutions stay floats as vectors do. A type that is asked for by its name is every matrix's but
 * the routers' and the taps'. Pure functions; any thread. */
#ifndef TANDEM_MODEL_QUANTIZE_PLAN_H
#define TANDEM_MODEL_QUANTIZE_PLAN_H

#include "model/family.h"

/* Counts up when the rule, or the search that follows it, gives other bytes: part of the name of what is cached. */
#define QUANTIZE_RULE_VERSION 2

enum precision_kind {
    PRECISION_KEEP, /* floats as they are, what is quantized as floats */
    PRECISION_BITS, /* by the rule */
    PRECISION_TYPE  /* one type */
};

struct precision {
    enum precision_kind kind;
    int bits;        /* 8, 6 or 4 */
    enum dtype type; /* F32, F16, BF16, or what quantize_type_known */
};

/* "keep", "8", "6", "4", "f16", "q4_k" ...; INVALID lists them. */
NODISCARD bool precision_parse(const char *word, struct precision *out, struct error *err);
const char *precision_name(const struct precision *p, char *buf, size_t size); /* as parsed; returns buf */

struct plan_tensor {
    enum model_part part; /* the first, where a tensor has several */
    int layer, n_layers;
    bool tied;         /* the embedding is the output head */
    bool vector;       /* one axis */
    uint64_t k;        /* elements of a row */
    enum dtype source; /* GROUPED too */
};

struct plan_choice {
    enum dtype type;      /* GROUPED: bits and group_size */
    int bits, group_size; /* affine */
};

/* floats: the type of what is not quantized in a folder. */
struct plan_choice quantize_plan_gguf(const struct precision *p, const struct plan_tensor *t);
struct plan_choice quantize_plan_folder(const struct precision *p, const struct plan_tensor *t, enum dtype floats);

/* Whether a type is one of quantized blocks or groups. */
bool plan_is_quantized(enum dtype type);

#endif
