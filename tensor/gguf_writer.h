/* Writes GGUF files (version 3, little-endian): metadata and tensors are added in the order in which they shall appear,
 * then the file is written in one pass.
 *
 *     struct gguf_writer *w = gguf_writer_create();
 *     gguf_put_str(w, "general.architecture", STR("llama"));
 *     gguf_put_int(w, "llama.block_count", GGUF_U32, 30);
 *     gguf_add_tensor(w, &(struct gguf_tensor){.name = "output_norm.weight", .type = DTYPE_F32, .n_dims = 1,
 *                                              .shape = {576}, .data = norm});
 *     if (!gguf_write_file(w, path, err)) ...
 *     gguf_writer_free(w);
 *
 * A failure while adding is kept and reported by the write. Keys and tensor names have to be unique and within the
 * reader's bounds; the reader refuses a file where they are not. Owned by one thread. */
#ifndef TANDEM_TENSOR_GGUF_WRITER_H
#define TANDEM_TENSOR_GGUF_WRITER_H

#include "base/buf.h"
#include "tensor/gguf_format.h"
#include "tensor/model_file.h"

struct gguf_writer;

struct gguf_writer *gguf_writer_create(void); /* NULL when memory fails */
void gguf_writer_free(struct gguf_writer *w); /* NULL is fine */

/* Keys and strings are copied. gguf_put_int: any integer type; v is cut to its width (a U64 takes the bits of v).
 * gguf_put_float: GGUF_F32 or GGUF_F64. */
void gguf_put_int(struct gguf_writer *w, const char *key, enum gguf_type type, int64_t v);
void gguf_put_float(struct gguf_writer *w, const char *key, enum gguf_type type, double v);
void gguf_put_bool(struct gguf_writer *w, const char *key, bool v);
void gguf_put_str(struct gguf_writer *w, const char *key, struct str v);

/* items: [n] values of the type's own width (bool: one byte, 0 or 1); not strings or arrays. */
void gguf_put_array(struct gguf_writer *w, const char *key, enum gguf_type type, const void *items, size_t n);
void gguf_put_str_array(struct gguf_writer *w, const char *key, const struct str *items, size_t n);

/* A value of another model, in the width it has there. */
void gguf_put_value(struct gguf_writer *w, struct str key, const struct meta_value *v);

/* A power of two, 32 when not called; also writes general.alignment. Before the first tensor. */
void gguf_set_alignment(struct gguf_writer *w, uint32_t alignment);

/* Fills rows [first, first + n) of a tensor, packed, in the tensor's dtype. Called in order, once per row. */
typedef bool gguf_fill_fn(void *user, uint64_t first, uint64_t n, void *dst, struct error *err);

struct gguf_tensor {
    const char *name; /* copied */
    enum dtype type;
    int n_dims;
    uint64_t shape[TENSOR_MAX_DIMS]; /* outermost first, as in struct tensor_view; rows are the last of n_dims */
    const void *data;                /* packed; lives until the write. Or NULL and: */
    gguf_fill_fn *fill;
    void *user;
};

void gguf_add_tensor(struct gguf_writer *w, const struct gguf_tensor *tensor);

/* The file appears under its name when it is complete (written beside it as "PATH.part" first). */
NODISCARD bool gguf_write_file(struct gguf_writer *w, const char *path, struct error *err);
NODISCARD bool gguf_write_buf(struct gguf_writer *w, struct buf *out, struct error *err); /* appends */

#endif
