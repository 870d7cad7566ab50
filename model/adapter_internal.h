/* Shared by adapter_file.c (what an adapter's file holds), adapter_config.c (what adapter_config.json says) and
 * adapter.c (how it becomes a model's). */
#ifndef TANDEM_MODEL_ADAPTER_INTERNAL_H
#define TANDEM_MODEL_ADAPTER_INTERNAL_H

#include "base/json.h"
#include "model/adapter.h"

#define ADAPTER_CONFIG     "adapter_config.json"
#define ADAPTER_WEIGHTS    "adapter_model.safetensors"
#define ADAPTER_MAX_CONFIG ((size_t)1 << 20) /* bytes */
#define ADAPTER_MAX_VALUES 65536             /* JSON values of it */

/* One tensor of the base model that is changed. */
struct adapter_pair {
    struct str name; /* without what stands for the halves: "model.layers.0.self_attn.q_proj" of PEFT, without
                        ".weight"; "blk.0.attn_q.weight" of GGUF */
    const struct tensor_view *a, *b;
    float scale;
};

struct adapter_file {
    struct model_file *tensors;
    struct json *config;        /* of PEFT, else NULL */
    struct adapter_pair *pairs; /* [facts.n_parts] */
    struct adapter_facts facts;
    struct str arch; /* general.architecture of GGUF */
};

/* ---- adapter_config.json ---- */

struct adapter_config {
    int rank;
    double alpha;
    bool rslora;
    const struct json *rank_pattern, *alpha_pattern; /* objects, or NULL */
};

/* UNSUPPORTED names what is not done, FORMAT a field that is missing or no such value. */
NODISCARD bool adapter__read_config(const struct json *root, struct adapter_config *out, struct error *err);

/* What a pattern says of a module, the first entry that matches it; fallback where none does. PEFT takes keys as
 * regular expressions for the whole name or its end behind a dot; those that are more than names, '.' and a '^' in
 * front were refused by adapter__read_config. */
double adapter__pattern_of(const struct json *pattern, struct str module, double fallback);

#endif
