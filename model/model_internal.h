/* Shared by weights*.c (the parameters of a model), decoder.c (its forward pass) and adapter.c (what is added to them).
 */
#ifndef TANDEM_MODEL_MODEL_INTERNAL_H
#define TANDEM_MODEL_MODEL_INTERNAL_H

#include "model/family.h"

/* A decoder's parameters by part; NULL where the configuration has none. */
struct decoder_weights {
    struct weight *global[PART_FIRST_OF_LAYER]; /* [PART_NONE] is NULL */
    struct weight *(*layers)[PART_COUNT];       /* [n_layers][PART_COUNT] */
    size_t resident_size;
    void **copies; /* [n_copies] memory of parts that the file holds otherwise, where the backend uses it in place */
    size_t n_copies, copies_cap;
};

struct model {
    struct backend *be;
    struct decoder_config config;
    const struct decoder_family *family;
    bool from_folder; /* its file was one */
    struct decoder_weights weights;
    float *inv_freq[2];        /* [rot_dim / 2] each: of config.rope, of config.rope_local where there is one */
    float rope_attn_factor[2]; /* likewise */
    uint8_t layer_group[MODEL_MAX_LAYERS];
    uint16_t layer_index[MODEL_MAX_LAYERS];
};

/* ---- parts (weights_parts.c) ---- */

bool weights__has_part(const struct decoder_config *c, enum model_part part, int layer); /* layer: of parts in layers */
bool weights__is_vector(enum model_part part);
bool weights__is_taps(enum model_part part); /* of a convolution */
bool weights__is_kv(enum model_part part);   /* K or V are made by it, or normed */
/* The part's shape, or that of each block of it; a vector has one column. */
uint64_t weights__part_rows(const struct decoder_config *c, enum model_part part);
uint64_t weights__part_cols(const struct decoder_config *c, enum model_part part);
/* Blocks of a part that has one for each expert, head or stream, or pair of streams; 0 of others. */
uint64_t weights__n_blocks(const struct decoder_config *c, enum model_part part);
/* Tensors of a part whose name has a number: of experts, of heads, or of streams. */
int weights__n_pieces(const struct decoder_config *c, enum model_part part);

/* ---- where they are in a file ---- */

/* Where a part is in a tensor. */
struct part_place {
    uint64_t n_blocks;     /* of a stack: experts, heads; 0: none */
    uint64_t rows, cols;   /* of the part, or of each block of it; a vector has one column */
    uint64_t first, block; /* rows of a block of the tensor before it, and all of them; columns, where the layout has
                              columns */
    int index, n_parts;    /* which of the tensor's parts */
    enum weight_layout layout;
    bool vector;
    bool flat;   /* blocks are no axis of their own: they follow one another */
    bool turned; /* its rows are the tensor's columns, in a tensor of rows */
};

/* Of the part in a tensor named as the row says. */
struct part_place weights__place_of(const struct decoder_config *c, const struct weight_names *names,
                                    const struct weight_row *row, enum model_part part);

/* The part as the decoder takes it: *out, in *memory, which the caller frees. The tensor's shape is checked. NO_MEMORY.
 */
NODISCARD bool weights__copy_part(const struct part_place *p, const struct tensor_view *t, struct tensor_view *out,
                                  void **memory, struct error *err);

/* Every tensor of the file has to be a part that the configuration has, or one that the family knows and does not need.
 * FORMAT names the first that is neither. */
NODISCARD bool weights__check_names(const struct decoder_config *c, const struct weight_names *names,
                                    const struct model_file *file, struct error *err);

/* Views that a part may take. */
size_t weights__max_views(const struct decoder_config *c);

/* Fills *w, zeroed by the caller; on failure too it has to be released. */
NODISCARD bool weights__load(struct decoder_weights *w, struct backend *be, const struct weight_names *names,
                             const struct model_file *file, const struct model_load_options *options,
                             struct error *err);
/* Where a file has a part: views of one tensor's rows, or of one tensor for each expert, or of a stack's blocks. */
struct part_views {
    struct tensor_view *views;    /* [n]; the caller's, with room for as many as there are experts, heads, streams */
    int n;                        /* 0: the configuration has no such part */
    const struct weight_row *row; /* whose names they were found under */
    bool stacked;                 /* experts */
};
NODISCARD bool weights__part_views(const struct decoder_config *c, const struct weight_names *names,
                                   const struct model_file *file, enum model_part part, int layer,
                                   struct part_views *out, struct error *err);

void weights__release(struct decoder_weights *w, struct backend *be, int n_layers);

/* ---- the forward pass ---- */

/* One layer of one step. */
struct layer {
    struct backend *be;
    const struct model *m;
    const struct decoder_config *c;
    struct weight *const *w;     /* [PART_COUNT] */
    struct tensor *layer_inputs; /* [n_rows, n_layers * n_layer_input], of all rows of the step, or NULL */
    int number;
    bool last;
    bool last_kept; /* the last that writes K and V */
};

struct tensor *decoder__norm(const struct layer *l, struct tensor *x, enum model_part part, int n_groups);

/* Streams (decoder_streams.c). Legend: s streams, e n_embd.
 * begin: per-layer inputs of all layers (*inputs, NULL where there are none) and the streams [n_rows, s * e] of the
 * embedding x. predict: streams as the layer before left them become what they are taken for. active: the one of them
 * that goes through the layer, [n_rows, e]. correct: streams after the layer, whose output is y, for as many rows as go
 * on. end: one vector of all streams. predict and correct change their streams in place where the backend does. */
struct tensor *streams__begin(const struct model *m, struct tensor *x, struct tensor **inputs);
struct tensor *streams__predict(const struct layer *l, struct tensor *streams);
struct tensor *streams__active(const struct layer *l, struct tensor *streams);
struct tensor *streams__correct(const struct layer *l, struct tensor *streams, struct tensor *y);
struct tensor *streams__end(const struct model *m, struct tensor *streams);

/* LAuReL: (x + h + norm(h left right)) / sqrt(2), x with attention added, h its input. */
struct tensor *streams__laurel(const struct layer *l, struct tensor *x, struct tensor *h);

/* A gated MLP of which only the largest gates go on. */
struct tensor *streams__sparse_mlp(const struct layer *l, struct tensor *h);

#endif
