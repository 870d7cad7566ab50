/* Element types of tensors: plain ones and the block-quantized formats of GGUF (ggml). One table: name, block length,
 * block size. Block layouts are those of ggml's ggml-common.h; dequantization equals the `gguf` Python package bit for
 * bit. */
#ifndef TANDEM_TENSOR_DTYPE_H
#define TANDEM_TENSOR_DTYPE_H

#include "base/error.h"

#include <stddef.h>

/* X(name, GGUF type id or -1, elements of a block, bytes of a block). Types without an id come from safetensors files
 * only. GROUPED stands for codes with scales beside them (tensor/grouped.h): its bits are the tensor's own. */
#define DTYPE_TABLE(X)      \
    X(F32, 0, 1, 4)         \
    X(F16, 1, 1, 2)         \
    X(Q4_0, 2, 32, 18)      \
    X(Q4_1, 3, 32, 20)      \
    X(Q5_0, 6, 32, 22)      \
    X(Q5_1, 7, 32, 24)      \
    X(Q8_0, 8, 32, 34)      \
    X(Q2_K, 10, 256, 84)    \
    X(Q3_K, 11, 256, 110)   \
    X(Q4_K, 12, 256, 144)   \
    X(Q5_K, 13, 256, 176)   \
    X(Q6_K, 14, 256, 210)   \
    X(Q8_K, 15, 256, 292)   \
    X(IQ4_NL, 20, 32, 18)   \
    X(IQ4_XS, 23, 256, 136) \
    X(I8, 24, 1, 1)         \
    X(I16, 25, 1, 2)        \
    X(I32, 26, 1, 4)        \
    X(I64, 27, 1, 8)        \
    X(F64, 28, 1, 8)        \
    X(BF16, 30, 1, 2)       \
    X(MXFP4, 39, 32, 17)    \
    X(U8, -1, 1, 1)         \
    X(U16, -1, 1, 2)        \
    X(U32, -1, 1, 4)        \
    X(U64, -1, 1, 8)        \
    X(BOOL, -1, 1, 1)       \
    X(F8_E4M3, -1, 1, 1)    \
    X(GROUPED, -1, 1, 0)

enum dtype {
#define X(name, id, block_len, block_size) DTYPE_##name,
    DTYPE_TABLE(X)
#undef X
        DTYPE_COUNT
};

struct dtype_info {
    const char *name; /* "Q4_K" */
    int gguf_id;
    int block_len;  /* elements */
    int block_size; /* bytes */
    bool quantized; /* blocks with scales; not F16 or BF16 */
};

const struct dtype_info *dtype_info(enum dtype type); /* never NULL for a valid type; static storage */

/* Maps a GGUF type id. UNSUPPORTED names the type where it is known (IQ2_XXS, TQ1_0 ...), else its number. */
NODISCARD bool dtype_from_gguf(uint32_t gguf_id, enum dtype *out, struct error *err);

/* The type of a name as dtype_info gives it ("Q4_K", letter case as there); false when there is none. */
NODISCARD bool dtype_from_name(const char *name, enum dtype *out);

/* Bytes of n elements; n must be a multiple of the block length. False on overflow or a broken block. */
NODISCARD bool dtype_size(enum dtype type, uint64_t n, size_t *size);

/* src: n / block_len packed blocks, any alignment; dst: [n] f32. n a multiple of the block length. Integer types
 * convert by value. Never fails; every bit pattern of src has a defined result: a NaN scale makes NaNs, whose sign and
 * payload are unspecified (F32 and BF16 keep theirs). */
void dtype_to_f32(enum dtype type, const void *src, size_t n, float *dst);

/* Quantizes src: [n] f32 to dst: n / block_len blocks, n a multiple of the block length. For tests and tools: round to
 * nearest with the extreme of each group as its scale, no search. F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 and MXFP4 are
 * those of the gguf package bit for bit. Non-finite elements give defined, useless blocks. False for integers and F64,
 * which it does not write. */
NODISCARD bool dtype_from_f32(enum dtype type, const float *src, size_t n, void *dst);

float f8_e4m3_to_f32(uint8_t b); /* exact; OCP FP8 E4M3: no infinities, 0x7F and 0xFF are NaN */
float f16_to_f32(uint16_t h);    /* exact; a signalling NaN becomes quiet, as the hardware's conversions make it */
uint16_t f32_to_f16(float f);    /* round to nearest even; overflow to infinity; NaNs become quiet */
float bf16_to_f32(uint16_t h);   /* exact, all bits kept */
uint16_t f32_to_bf16(float f);   /* round to nearest even; NaNs become quiet */

#endif
