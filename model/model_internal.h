/* Shared by weights.c (the parameters of a model) and decoder.c (its forward pass). */
#ifndef TANDEM_MODEL_MODEL_INTERNAL_H
#define TANDEM_MODEL_MODEL_INTERNAL_H

#include "model/family.h"

/* A decoder's parameters by part; NULL where the configuration has none. */
struct decoder_weights {
    struct weight *global[PART_FIRST_OF_LAYER]; /* [PART_NONE] is NULL */
    struct weight *(*layers)[PART_COUNT];       /* [n_layers][PART_COUNT] */
    size_t resident_size;
};

/* Every tensor of the file has to be a part that the configuration has, or one that the family knows and does not need.
 * FORMAT names the first that is neither. */
NODISCARD bool weights__check_names(const struct decoder_config *c, const struct weight_names *names,
                                    const struct model_file *file, struct error *err);

/* Fills *w, zeroed by the caller; on failure too it has to be released. */
NODISCARD bool weights__load(struct decoder_weights *w, struct backend *be, const struct weight_names *names,
                             const struct model_file *file, const struct model_load_options *options,
                             struct error *err);
void weights__release(struct decoder_weights *w, struct backend *be, int n_layers);

#endif
