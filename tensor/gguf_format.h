/* Constants of the GGUF container, versions 2 and 3 (ggml's docs/gguf.md). Little-endian throughout:
 *
 *     "GGUF" | version u32 | n_tensors u64 | n_keys u64
 *     n_keys times     key string | type u32 | value       (array value: item type u32 | n u64 | items)
 *     n_tensors times  name string | n_dims u32 | dims u64[n_dims], innermost first | type u32 | offset u64
 *     padding to the alignment | tensor data, each tensor at its offset, a multiple of the alignment
 *
 * A string is its length as u64 and that many bytes. */
#ifndef TANDEM_TENSOR_GGUF_FORMAT_H
#define TANDEM_TENSOR_GGUF_FORMAT_H

#define GGUF_MAGIC             "GGUF"
#define GGUF_VERSION           3
#define GGUF_DEFAULT_ALIGNMENT 32
#define GGUF_KEY_ALIGNMENT     "general.alignment"
#define GGUF_KEY_SPLIT_NO      "split.no"
#define GGUF_KEY_SPLIT_COUNT   "split.count"
#define GGUF_KEY_SPLIT_TENSORS "split.tensors.count"

/* X(name, type number, bytes of a value or 0 when they vary) */
#define GGUF_TYPE_TABLE(X) \
    X(U8, 0, 1)            \
    X(I8, 1, 1)            \
    X(U16, 2, 2)           \
    X(I16, 3, 2)           \
    X(U32, 4, 4)           \
    X(I32, 5, 4)           \
    X(F32, 6, 4)           \
    X(BOOL, 7, 1)          \
    X(STRING, 8, 0)        \
    X(ARRAY, 9, 0)         \
    X(U64, 10, 8)          \
    X(I64, 11, 8)          \
    X(F64, 12, 8)

enum gguf_type {
#define X(name, number, size) GGUF_##name = number,
    GGUF_TYPE_TABLE(X)
#undef X
        GGUF_TYPE_COUNT
};

#endif
