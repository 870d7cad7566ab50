/* Shared by export.c (which tensors), export_rows.c (what is in them), export_write.c (files), export_gguf.c and
 * export_folder.c (what the containers say of the model). */
#ifndef TANDEM_MODEL_EXPORT_INTERNAL_H
#define TANDEM_MODEL_EXPORT_INTERNAL_H

#include "base/arena.h"
#include "base/buf.h"
#include "model/config_internal.h"
#include "model/export.h"

#define EXPORT_NAME_SIZE 192

struct segment {
    struct tensor_view view; /* a matrix, or a vector */
    uint64_t n;              /* rows; elements of a vector. More than the view has: the first, so often */
    int heads;               /* not 0: rows of each head change places */
};

struct target {
    char name[EXPORT_NAME_SIZE];
    enum model_part part;
    int layer, n_dims;
    uint64_t shape[TENSOR_MAX_DIMS];
    uint64_t n_rows, k;
    struct segment *segments; /* [n_segments] */
    int n_segments;
    struct plan_choice choice;
    bool kept;               /* grouped, with the codes of the source */
    const float *importance; /* [k] or NULL */
    void *vector;            /* the data, of one axis */
    struct exporter *x;
    struct target *next;
};

struct exporter { /* one run of export_write or export_size */
    const struct model_file *file;
    const struct export_options *o;
    struct decoder_config config;
    struct decoder_config parts; /* the same, with K and V in all layers where the file has some in all */
    const struct decoder_family *source_family, *family;
    struct weight_names names, target_names;
    struct arena *arena;
    enum dtype floats; /* of a folder */
    bool same;         /* container */
    bool to_halves;    /* permuted: to a folder's rotation of halves; else to neighbours */
    bool permutes;     /* Q and K change */
    float norm_shift;  /* added to norm weights */
    struct target *first, **last;
    uint64_t rows_done, rows_total; /* of elements, for progress */
    struct tensor_view *views;      /* of the part at hand: of experts, heads, or streams */
    float *scratch;                 /* [threads, max_k] */
    size_t max_k;
    uint8_t *scales, *biases; /* of the grouped tensor being written */
    struct error *err;
};

/* Of the delta rule: the first layer that attends is the last of so many. */
int export__full_period(const struct decoder_config *c);

/* Bytes of a row as it is written; of its scales (and as many of its biases), where it is grouped. */
size_t export__row_size(const struct target *t);
size_t export__scales_row(const struct target *t);

/* Makes the rows [first, first + n) of a target's matrix. False: progress says that nobody wants them any more. */
NODISCARD bool export__fill_rows(struct target *t, uint64_t first, uint64_t n, void *dst, struct error *err);
NODISCARD bool export__make_vector(struct exporter *x, struct target *t);

/* All targets are known. (export_write.c) */
NODISCARD bool export__write_gguf(struct exporter *x, const char *path);
NODISCARD bool export__write_folder(struct exporter *x, const char *folder);

/* The family whose form a model takes in the other container, where the two have different ones. */
const struct decoder_family *export__family(const struct model_file *file, const struct decoder_config *c,
                                            enum export_container container);

/* Metadata of a GGUF file made of a folder, but for the tokenizer. */
NODISCARD bool export__gguf_metadata(const struct model_file *file, const struct decoder_config *c,
                                     const struct decoder_family *family, struct gguf_writer *w, struct error *err);

/* Llama 3's and LongRoPE's divisors as GGUF has them; arrays of rot_dim / 2. */
#define EXPORT_MAX_DIVISORS (CONFIG_MAX_HEAD_DIM / 2)
void export__llama3_divisors(const struct rope_config *rope, int rot_dim, float *out);

/* A module of a folder that is quantized. */
struct export_module {
    const char *name; /* "model.layers.0.self_attn.q_proj" */
    int bits, group_size;
};

/* config.json: the folder's own with the quantization noted, or one made of a GGUF file's metadata. floats: the type of
 * what is not quantized. modules: [n]; none: nothing is quantized. */
NODISCARD bool export__config_json(const struct model_file *file, const struct decoder_config *c,
                                   const struct decoder_family *family, enum dtype floats,
                                   const struct export_module *modules, size_t n, struct buf *out, struct error *err);

#endif
