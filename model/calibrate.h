/* Gathers the importance of input columns while a model runs: the ops of its backend are replaced by ones that note
 * what goes into each matrix, and then do what they did. For a backend that computes at once (cpu).
 *
 *     struct calibration *c = calibration_attach(be, file, importance, err);    before model_load
 *     model_load(be, ...), steps
 *     calibration_detach(c);                                                             after model_free
 *
 * Of a gated MLP's ffn_down the input is worked out beside the fused op; that of the experts' ffn_down, which no op
 * shows, is not gathered, and the experts of a layer share their input's. The engine's thread. */
#ifndef TANDEM_MODEL_CALIBRATE_H
#define TANDEM_MODEL_CALIBRATE_H

#include "model/importance.h"

struct calibration;

/* file names the tensors; importance outlives it. */
NODISCARD struct calibration *calibration_attach(struct backend *be, const struct model_file *file,
                                                 struct importance *importance, struct error *err);
/* After a step: what was gathered is whole. Else NO_MEMORY, or a part has other columns than before. */
NODISCARD bool calibration_check(const struct calibration *c, struct error *err);
void calibration_detach(struct calibration *c); /* the backend's own ops again; NULL is fine */

#endif
