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
/* Where a file has a part: views of one tensor's rows, or of one tensor for each expert, or of a stack's blocks. */
struct part_views {
    struct tensor_view *views;    /* [n]; the caller's, room for one or as many as there are experts */
    int n;                        /* 0: the configuration has no such part */
    const struct weight_row *row; /* whose names they were found under */
    bool stacked;                 /* experts */
};
NODISCARD bool weights__part_views(const struct decoder_config *c, const struct weight_names *names,
                                   const struct model_file *file, enum model_part part, int layer,
                                   struct part_views *out, struct error *err);

void weights__release(struct decoder_weights *w, struct backend *be, int n_layers);

#endif
