/* A model over one text, without an engine: its own backend, and KV pages for one sequence in plain memory. For
 * evaluation and calibration. The caller's thread.
 *
 *     struct text_run *r = text_run_create(&(struct text_run_options){.file = file, .backend = options}, err);
 *     for each chunk: text_run_rows(r, ids + at, at, n, n, logits, err)
 *     text_run_free(r); */
#ifndef TANDEM_MODEL_TEXT_RUN_H
#define TANDEM_MODEL_TEXT_RUN_H

#include "model/importance.h"

#define TEXT_RUN_ROWS 64 /* most rows of a step */

struct text_run_options {
    const struct model_file *file; /* outlives the run */
    struct backend_options backend;
    enum kv_type kv_type;
    int n_positions;               /* 1 to what the model takes */
    struct importance *importance; /* gathered meanwhile, on the cpu backend (calibrate.h); NULL: none */
};

struct text_run;

NODISCARD struct text_run *text_run_create(const struct text_run_options *o, struct error *err);
void text_run_free(struct text_run *r); /* NULL is fine */
const struct decoder_config *text_run_config(const struct text_run *r);

/* Ids at positions start, start + 1 ...; start is 0, which forgets what was before, or where the last call ended.
 * n: 1 to TEXT_RUN_ROWS. logits: [n_out, n_vocab] of the last n_out rows. */
NODISCARD bool text_run_rows(struct text_run *r, const int32_t *ids, int start, int n, int n_out, float *logits,
                             struct error *err);

#endif
