/* How long the head of a GGUF file is (header, metadata, directory of tensors), from a beginning of the file: for who
 * has to bring it from far away and wants no more. Counts and lengths alone are looked at; the reader checks the rest.
 */
#ifndef TANDEM_TENSOR_GGUF_HEAD_H
#define TANDEM_TENSOR_GGUF_HEAD_H

#include "base/error.h"

#include <stddef.h>

/* *needed <= size: the head ends within these bytes, at *needed. More: at least so many bytes of the file have to be
 * there before it can be said. FORMAT: it is no GGUF file, or its counts are beyond the reader's limits. */
NODISCARD bool gguf_head_size(const void *data, size_t size, uint64_t *needed, struct error *err);

#endif
