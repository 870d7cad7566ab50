/* Where the writers of containers put their bytes: a file that appears when it is complete, or a buffer. */
#ifndef TANDEM_TENSOR_TENSOR_SINK_H
#define TANDEM_TENSOR_TENSOR_SINK_H

#include "tensor/gguf_writer.h"

#include <stdio.h>

struct tensor_sink { /* file or buf */
    FILE *file;
    struct buf *buf;
    const char *name; /* of the file */
    struct error *err;
};

NODISCARD bool tensor_sink__write(struct tensor_sink *s, const void *data, size_t size);
NODISCARD bool tensor_sink__pad(struct tensor_sink *s, uint64_t n); /* zeros */

/* Bytes of a tensor; INVALID when shape and type do not go together. */
NODISCARD bool tensor_sink__size(const struct gguf_tensor *t, size_t *size, struct error *err);

/* t->data, or what t->fill gives, row by row; size as above. */
NODISCARD bool tensor_sink__tensor(struct tensor_sink *s, const struct gguf_tensor *t, size_t size);

/* Runs write(writer, sink) over "PATH.part", which gets its name at the end, or goes away on failure. */
NODISCARD bool tensor_sink__file(const char *path, bool (*write)(const void *writer, struct tensor_sink *s),
                                 const void *writer, struct error *err);

#endif
