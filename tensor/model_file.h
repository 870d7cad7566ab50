/* A model on disk as one view, whatever its container: metadata by key and tensors by name. A container is a GGUF file
 * (also a split one), or a folder with safetensors and JSON files as Hugging Face and MLX write them. Everything here
 * points into the mapped file(s) and is const; nothing read from the file is trusted before it was checked.
 *
 * A folder's metadata keys are paths into its JSON files:
 *     config.hidden_size, config.rope_scaling.factor, config.layer_types (array)      config.json
 *     generation_config.eos_token_id                                                  generation_config.json
 *     tokenizer_config.bos_token, tokenizer_config.chat_template                      tokenizer_config.json
 *     tokenizer.chat_template, tokenizer.chat_template.NAME                           chat_template.jinja, the files of
 *         additional_chat_templates, chat_template.json or tokenizer_config.json: the template, wherever it was
 * Scalars and arrays of one scalar type are values; null, empty and mixed arrays are absent; members of objects, and of
 * objects in arrays (by index), have paths of their own. The files themselves are documents (model_file_document).
 * A matrix whose .weight has .scales (and .biases) beside it is one tensor of type GROUPED, named .weight.
 *
 *     struct model_file *file = model_file_open(path, err);
 *     int64_t n_layers;
 *     if (!file || !meta_int(file, "llama.block_count", 1, 1024, &n_layers, err)) ...
 *     const struct tensor_view *t = model_file_tensor(file, "blk.0.attn_q.weight");
 *
 * Thread-safe once opened. */
#ifndef TANDEM_TENSOR_MODEL_FILE_H
#define TANDEM_TENSOR_MODEL_FILE_H

#include "base/str.h"
#include "tensor/dtype.h"
#include "tensor/grouped.h"

#define TENSOR_MAX_DIMS 4

struct tensor_view {
    struct str name;
    enum dtype type;
    int n_dims;
    uint64_t shape[TENSOR_MAX_DIMS]; /* outermost first, as in numpy: a GGUF matrix with ne = {K, N} has shape {N, K};
                                        unused trailing entries are 1 */
    const void *data;                /* row-major, rows contiguous; GGUF aligns it to 32, other containers to nothing */
    size_t size;                     /* bytes */
    struct group_quant quant;        /* of type GROUPED: what data's codes mean; else zero */
};

enum meta_type { META_NONE, META_INT, META_FLOAT, META_BOOL, META_STRING, META_ARRAY };

struct meta_value { /* one metadata value; integers of all widths are META_INT (u64 beyond int64 is refused) */
    enum meta_type type;
    enum meta_type item_type; /* of META_ARRAY: INT, FLOAT, BOOL or STRING; nested arrays are refused */
    size_t n;                 /* items of META_ARRAY */
    int64_t i;
    double f;
    bool b;
    struct str s;
    const void *items;    /* private to the reader: use meta_array_* */
    uint32_t source_type; /* private to reader and writer: the type number in the file, for copies of equal width */
};

struct model_file;

/* Opens a folder, or one .gguf; for "-00001-of-0000N.gguf" all N shards beside it. The whole file is checked: header,
 * counts against the bytes left, types, offsets, overlaps of tensors, alignment. FORMAT names what is wrong and where.
 */
NODISCARD struct model_file *model_file_open(const char *path, struct error *err);

/* The same over memory (tests, fuzzing): data must live as long as the result. */
NODISCARD struct model_file *model_file_open_memory(const void *data, size_t size, struct error *err);
void model_file_close(struct model_file *f);

const char *model_file_path(const struct model_file *f); /* as given */
bool model_file_is_folder(const struct model_file *f);
/* Text of a JSON file of a folder ("tokenizer.json"), UTF-8 not yet checked; empty when there is none. */
struct str model_file_document(const struct model_file *f, const char *name);
int model_file_version(const struct model_file *f); /* GGUF version; 0 of a folder */
size_t model_file_size(const struct model_file *f); /* bytes of all shards */
/* Digest over metadata, tensor directory and a sample of the data: the identity of the weights for caches. */
void model_file_digest(const struct model_file *f, uint8_t out[32]);

size_t model_file_n_tensors(const struct model_file *f);
const struct tensor_view *model_file_tensor_at(const struct model_file *f, size_t i);      /* in file order */
const struct tensor_view *model_file_tensor(const struct model_file *f, const char *name); /* NULL when absent */
/* Rows [first, first + n) along the outermost axis, as a view of its own: data and scales move along. In range. */
struct tensor_view tensor_rows(const struct tensor_view *t, uint64_t first, uint64_t n);
/* All axes but the last as one: [a, b, k] becomes [a * b, k]. */
struct tensor_view tensor_as_matrix(const struct tensor_view *t);
/* One row (of tensor_as_matrix) to f32, whatever the type; dst: [shape of the last axis]. */
void tensor_row_to_f32(const struct tensor_view *t, uint64_t row, float *dst);
/* "Q4_K", "F8_E4M3", "affine 4 bits in groups of 64", "mxfp4". Returns buf. */
const char *tensor_type_name(const struct tensor_view *t, char *buf, size_t size);

/* Advice to the system about a tensor's pages: no longer needed (they come back from the file when read again), or
 * soon. Nothing happens for a model opened over memory. */
void model_file_drop(const struct model_file *f, const struct tensor_view *t);
void model_file_prefetch(const struct model_file *f, const struct tensor_view *t);

size_t model_file_n_meta(const struct model_file *f);
struct str model_file_meta_key(const struct model_file *f, size_t i);
struct meta_value model_file_meta_at(const struct model_file *f, size_t i);
struct meta_value meta_get(const struct model_file *f, const char *key); /* type META_NONE when absent */

/* Typed access. `*_or` gives the fallback when the key is absent and FORMAT when it is there with another type or out
 * of range; the plain form wants it there. Ranges are inclusive. */
NODISCARD bool meta_int(const struct model_file *f, const char *key, int64_t min, int64_t max, int64_t *out,
                        struct error *err);
NODISCARD bool meta_int_or(const struct model_file *f, const char *key, int64_t min, int64_t max, int64_t fallback,
                           int64_t *out, struct error *err);
NODISCARD bool meta_float_or(const struct model_file *f, const char *key, double fallback, double *out,
                             struct error *err); /* finite; integers accepted */
NODISCARD bool meta_bool_or(const struct model_file *f, const char *key, bool fallback, bool *out, struct error *err);
NODISCARD bool meta_str(const struct model_file *f, const char *key, struct str *out, struct error *err);
struct str meta_str_or(const struct model_file *f, const char *key,
                       struct str fallback); /* fallback also on another type */

/* Items of an array value; i < v->n; false when the item has another type than asked. */
bool meta_array_int(const struct meta_value *v, size_t i, int64_t *out);
bool meta_array_float(const struct meta_value *v, size_t i, double *out);
bool meta_array_bool(const struct meta_value *v, size_t i, bool *out);
bool meta_array_str(const struct meta_value *v, size_t i,
                    struct str *out); /* O(1): an index is built when the file is opened */

/* --override-kv KEY=TYPE:VALUE with TYPE int, float, bool or str. Before anything reads the file. */
NODISCARD bool model_file_override(struct model_file *f, const char *spec, struct error *err);

#endif
