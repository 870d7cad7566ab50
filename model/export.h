/* Writes a model anew: in the other container, in another precision, or both. Names and metadata go through the tables
 * of families; rows of Q and K are permuted, and norms shifted, where the two containers differ. A GGUF file that is
 * made of a GGUF file keeps its metadata; a folder made of a folder keeps its JSON files, with the quantization noted
 * in config.json. What the target cannot say of a model is UNSUPPORTED: the metadata that was made is read back and
 * compared with the source's.
 *
 * The tokenizer is text/'s: a callback puts its metadata (GGUF), or the caller writes its files (folder).
 *
 *     struct export_options o = {.container = EXPORT_GGUF, .precision = p, .pool = pool, .tokenizer = put_tokenizer};
 *     if (!export_write(file, "out.gguf", &o, err)) ... */
#ifndef TANDEM_MODEL_EXPORT_H
#define TANDEM_MODEL_EXPORT_H

#include "base/pool.h"
#include "model/importance.h"
#include "model/quantize_plan.h"
#include "tensor/gguf_writer.h"

enum export_container { EXPORT_GGUF, EXPORT_FOLDER };

struct export_options {
    enum export_container container;
    struct precision precision;
    const struct importance *importance; /* of columns; NULL: all alike */
    struct pool *pool;                   /* rows are made in parallel */
    /* Puts tokenizer.* into a GGUF file that is made of a folder, for n_vocab tokens. */
    bool (*tokenizer)(void *arg, struct gguf_writer *w, int n_vocab, struct error *err);
    /* Of the rows, from the calling thread; false: it ends with CANCELLED, and nothing appears. May be NULL. */
    bool (*progress)(void *arg, double fraction);
    void *arg; /* of both */
};

/* path: a file (GGUF), which appears when it is complete; or a folder that is there, into which model.safetensors and
 * config.json go. Errors name the tensor, the key or the file. */
NODISCARD bool export_write(const struct model_file *file, const char *path, const struct export_options *o,
                            struct error *err);

/* Bytes of all tensors that it would write: exact but for the alignment of each. */
NODISCARD bool export_size(const struct model_file *file, enum export_container container, struct precision precision,
                           uint64_t *size, struct error *err);

/* Whether the target has the groups of the source in another form: a folder as MLX has them, of one that another
 * program has packed. With PRECISION_KEEP their codes stay; scales, and biases made of zeros, are in the scales' type.
 * Matrices whose columns are not in the order of their groups become floats. */
bool export_repacks(const struct model_file *file, enum export_container container);

/* Whether a matrix of the model is in quantized blocks or groups already. */
bool export_is_quantized(const struct model_file *file);

#endif
