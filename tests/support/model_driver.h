/* Runs a model without the engine, for tests: one backend, KV pages in plain memory, each sequence's pages in order.
 *
 *     struct model_driver d;
 *     struct model_driver_options o = {.file = file, .kernels = CPU_KERNELS_REFERENCE, .kv_type = KV_F32,
 *                                      .n_positions = 256, .n_seqs = 1};
 *     if (!model_driver_open(&d, &o, &err)) ...
 *     model_driver_text(&d, ids, n, 64, positions, n_positions, logits);
 *     model_driver_close(&d);
 *
 * Failures of steps end the test; only opening returns an error, since tests of broken models want it. */
#ifndef TANDEM_TESTS_SUPPORT_MODEL_DRIVER_H
#define TANDEM_TESTS_SUPPORT_MODEL_DRIVER_H

#include "model/model.h"

struct model_driver_options {
    const struct model_file *file;       /* lives as long as the driver */
    const struct decoder_config *config; /* NULL: as the file says */
    bool mlx; /* the mlx backend on its CPU device, activations in f32; kernels and n_threads are not used */
    enum cpu_kernels kernels;
    enum kv_type kv_type;
    int n_threads; /* 0: all */
    int n_positions, n_seqs;
};

struct model_driver {
    struct backend *be;
    struct model *model;
    struct decoder_config config;
    int n_groups, n_pages, n_seqs, page_tokens;
    struct kv_group_spec groups[KV_MAX_GROUPS];
    uint32_t *tables[KV_MAX_GROUPS]; /* [n_seqs * n_pages] */
    uint8_t *pool;
    int adapter; /* of all rows of model_driver_text and model_driver_greedy; 0: none */
};

/* Rows of one sequence in a step: ids at positions start, start + 1 ...; logits of the rows listed in out. */
struct driver_rows {
    int seq, start, n;
    const int32_t *ids; /* [n] */
    int n_out;
    const int32_t *out; /* [n_out] ascending, from 0 */
    int adapter;        /* 0: none */
};

/* *err and false when the backend, the configuration or the model cannot be had; nothing to close then. */
NODISCARD bool model_driver_open(struct model_driver *d, const struct model_driver_options *o, struct error *err);
void model_driver_close(struct model_driver *d);

/* One step; logits: [sum of n_out, n_vocab] in order, or NULL when none is wanted. */
void model_driver_step(struct model_driver *d, const struct driver_rows *rows, int n_rows, float *logits);

/* Sequence 0 from its start, `chunk` tokens a step. positions: ascending; logits: [n_positions, n_vocab]. */
void model_driver_text(struct model_driver *d, const int32_t *ids, int n, int chunk, const int32_t *positions,
                       int n_positions, float *logits);

struct driver_prompt {
    const int32_t *ids;
    int n;
    int32_t *output; /* [n_output] */
};

/* The greedy continuation of n_prompts <= n_seqs prompts, prefilled in chunks, then decoded in one batch. Ties: the
 * lowest id. */
void model_driver_greedy(struct model_driver *d, const struct driver_prompt *prompts, int n_prompts, int n_output,
                         int chunk);

#endif
