/* Random test models: weights are a counter-based function of (seed, tensor name, element), the same in
 * tools/parity/random_model.py, so that neither weights nor a training framework are needed to run a parity test.
 *
 * Element i of tensor `name`: Philox4x32-10 with counter (i mod 2^32, i / 2^32, 0, 0) and as key the first eight bytes,
 * two little-endian u32, of SHA-256("seed:" + decimal seed + ":" + name); u = (word 0 >> 8) * 2^-24;
 * value = f32(offset + std * sqrt(3) * (2 u - 1)), computed in f64: uniform with that standard deviation.
 *
 * A model is described by JSON:
 *
 *     {"seed": 7,
 *      "metadata": {"general.architecture": ["str", "llama"], "llama.block_count": ["u32", 2],
 *                   "llama.rope.freq_base": ["f32", 10000.0], "x.windows": ["i32[]", [1, 2]]},
 *      "tensors": [{"name": "output_norm.weight", "shape": [64], "dtype": "F32", "std": 0.1, "offset": 1.0}],
 *      "vocab_size": 320}
 *
 * Types are those of GGUF (u8 i8 u16 i16 u32 i32 u64 i64 f32 f64 bool str), "[]" after one makes an array. Shapes are
 * outermost first. dtype defaults to F32, std to 1, offset to 0, seed to 0. "values": [...] instead of std and offset
 * makes a vector of F32 of just these. A member "folder" is random_folder.h's.
 * The tokenizer's metadata is copied from another model when one is given; else, unless the metadata has a
 * tokenizer.ggml.model, it is a byte-level vocabulary without merges: ids 0-255 are the bytes, 256 <|endoftext|> (BOS
 * and EOS), 257 <|im_start|>, 258 <|im_end|>, 259 <|pad|>, then unused tokens up to vocab_size (default 260). */
#ifndef TANDEM_TESTS_SUPPORT_RANDOM_MODEL_H
#define TANDEM_TESTS_SUPPORT_RANDOM_MODEL_H

#include "tensor/gguf_writer.h"

struct random_tensor {
    uint64_t seed;
    const char *name;
    double std, offset;
};

/* Elements [first, first + n) of the tensor. */
void random_tensor_values(const struct random_tensor *t, uint64_t first, size_t n, float *out);

/* Metadata of another model whose keys begin with the prefix. */
void copy_meta(struct gguf_writer *w, const struct model_file *from, const char *prefix);

struct random_model;

/* A writer filled as the JSON says; the weights are made while it writes. tokenizer_from may be NULL and need not
 * outlive the call. */
NODISCARD struct random_model *random_model_create(struct str config, const struct model_file *tokenizer_from,
                                                   struct error *err);
void random_model_free(struct random_model *m);
struct gguf_writer *random_model_writer(struct random_model *m); /* lives as long as m */

#endif
