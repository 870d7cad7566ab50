/* What backends share of adapters (backend.h): what a weight takes, and which rows of a batch have one. */
#ifndef TANDEM_BACKEND_ADAPT_H
#define TANDEM_BACKEND_ADAPT_H

#include "backend/backend.h"

/* Whether a weight takes this part under the number; NULL: it is dropped, which every weight takes. stacked: tensors of
 * three axes. INTERNAL: the number; UNSUPPORTED: a stack; FORMAT names the tensor whose shape, rank or size does not
 * fit. Values are not looked at. */
NODISCARD bool adapt_check_part(const struct weight_info *w, bool stacked, int adapter, const struct adapter_part *part,
                                struct error *err);

/* INTERNAL: a sequence names a number that cannot be. */
NODISCARD bool adapt_check_batch(const struct batch *b, struct error *err);
bool adapt_wanted(const struct batch *b); /* any row has an adapter */
/* Of each row, and of each row of out_rows; 0: none. rows: [n_rows], outs: [n_out] */
void adapt_rows(const struct batch *b, int32_t *rows, int32_t *outs);

#endif
