/* Writes safetensors files: metadata and tensors are added in the order in which they shall appear, then the file is
 * written in one pass.
 *
 *     struct safetensors_writer *w = safetensors_writer_create();
 *     safetensors_put_metadata(w, "format", "pt");
 *     safetensors_add_tensor(w, &(struct gguf_tensor){.name = "model.norm.weight", .type = DTYPE_F32, .n_dims = 1,
 *                                                     .shape = {576}, .data = norm});
 *     if (!safetensors_write_file(w, path, err)) ...
 *     safetensors_writer_free(w);
 *
 * A failure while adding is kept and reported by the write. Names have to be unique and within the reader's bounds; the
 * reader refuses a file where they are not. Types that the format lacks (blocks of GGUF, GROUPED) are INVALID: a
 * grouped matrix is written as its codes (U32), scales and biases. Owned by one thread. */
#ifndef TANDEM_TENSOR_SAFETENSORS_WRITER_H
#define TANDEM_TENSOR_SAFETENSORS_WRITER_H

#include "tensor/gguf_writer.h"

struct safetensors_writer;

struct safetensors_writer *safetensors_writer_create(void); /* NULL when memory fails */
void safetensors_writer_free(struct safetensors_writer *w); /* NULL is fine */

/* Into __metadata__; both are copied. */
void safetensors_put_metadata(struct safetensors_writer *w, const char *key, const char *value);

/* The description of a tensor is the GGUF writer's, with data or a fill callback. */
void safetensors_add_tensor(struct safetensors_writer *w, const struct gguf_tensor *tensor);

/* The file appears under its name when it is complete (written beside it as "PATH.part" first). */
NODISCARD bool safetensors_write_file(struct safetensors_writer *w, const char *path, struct error *err);
NODISCARD bool safetensors_write_buf(struct safetensors_writer *w, struct buf *out, struct error *err); /* appends */

#endif
