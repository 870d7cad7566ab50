/* What a step of a model has to read and to multiply: the numbers that measured speeds are compared with. Read off the
 * file and the configuration; no backend computes anything.
 *
 * Weights count as the file stores them, once per step: every matrix and vector, the embedding table only by the rows
 * that are looked up (or whole, when it is the output head too), and of a mixture's experts as many as a step's rows
 * are expected to choose. K and V count once per sequence and step; states once as they are read and once as they are
 * written. Multiply-adds are those the decoder does: behind
 * the last layer's attention only rows whose logits are wanted go on. A step without logits counts all layers, also
 * those behind the last K and V, which it leaves out. */
#ifndef TANDEM_MODEL_COST_H
#define TANDEM_MODEL_COST_H

#include "model/model.h"

struct macs { /* multiply-adds */
    double all;
    double floats; /* of these, with weights in f32, f16, bf16, f8 or mxfp8 */
};

struct decoder_cost {
    double layer_bytes;    /* of weights that every step reads: all but those below */
    double head_bytes;     /* output norm aside: the output head, which a step without logits does not read */
    double embd_row_bytes; /* a row of the embedding, unless it is the head, and of the table of per-layer inputs */
    double expert_bytes;   /* of all experts of all layers */
    int n_experts, n_experts_used;
    struct macs row;  /* products of weights with a row */
    struct macs tail; /* besides, with a row whose logits are wanted: the last layer behind its attention */
    struct macs head; /* likewise: the output head */
};

/* Of an unfit file (decoder_config_read refuses it) the result is undefined. */
void decoder_cost_read(const struct model_file *file, const struct decoder_config *c, struct decoder_cost *out);

/* Sequences that are all alike. */
struct cost_step {
    int n_seqs;
    int start, n_rows; /* of each sequence: positions [start, start + n_rows) */
    int n_out;         /* of each sequence: rows whose logits are wanted */
};

struct step_work {
    double weight_bytes, kv_bytes;
    struct macs weight_macs;
    double attention_macs;
};

/* groups: [n_groups], the configuration's (decoder_kv_groups), what a position of each takes in its pages, or the whole
 * of a state, and the layers that read them, which are more than have them where layers share K and V. */
struct cost_kv {
    int n_groups;
    struct kv_group_spec groups[KV_MAX_GROUPS];
    double position_bytes[KV_MAX_GROUPS], state_bytes[KV_MAX_GROUPS];
    int n_readers[KV_MAX_GROUPS];
};
void cost_kv_read(const struct decoder_config *c, enum kv_type type, const struct backend *be, struct cost_kv *out);

struct step_work decoder_step_work(const struct decoder_cost *cost, const struct decoder_config *c,
                                   const struct cost_kv *kv, const struct cost_step *step);

#endif
