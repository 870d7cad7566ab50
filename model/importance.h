/* How much each input column of a model's matrices matters: the mean of the squares of what goes through it, over a
 * text that was run. The quantizer weighs errors by it. Kept by part and layer, whatever the tensors are called; the
 * experts of a layer share theirs. */
#ifndef TANDEM_MODEL_IMPORTANCE_H
#define TANDEM_MODEL_IMPORTANCE_H

#include "model/family.h"

struct importance;

NODISCARD struct importance *importance_create(const struct decoder_config *c, struct error *err);
void importance_free(struct importance *m); /* NULL is fine */

/* Adds rows of x [n_rows, k] to the sums of a part. False when memory fails, or k is not what it was. */
NODISCARD bool importance_add(struct importance *m, enum model_part part, int layer, const float *x, size_t n_rows,
                              size_t k);

/* [k] means of squares, or NULL where nothing was gathered. m may be NULL. */
const float *importance_of(const struct importance *m, enum model_part part, int layer, size_t k);

/* Nothing was gathered of the part, or of so many columns. */
bool importance_suits(const struct importance *m, enum model_part part, int layer, size_t k);

/* A text file: a header line, and one line for each part and layer. IO, FORMAT (line and what is wrong). Columns are
 * counted by who uses it (importance_suits). */
NODISCARD bool importance_write(const struct importance *m, const char *path, struct error *err);
NODISCARD struct importance *importance_parse(struct str text, const char *name, const struct decoder_config *c,
                                              struct error *err); /* name: of the file, for messages */
NODISCARD struct importance *importance_read(const char *path, const struct decoder_config *c, struct error *err);

#endif
