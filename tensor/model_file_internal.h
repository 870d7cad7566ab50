/* Shared by model_file.c (what a model is), model_meta.c (its metadata) and gguf_reader.c (one GGUF file). */
#ifndef TANDEM_TENSOR_MODEL_FILE_INTERNAL_H
#define TANDEM_TENSOR_MODEL_FILE_INTERNAL_H

#include "base/arena.h"
#include "base/limits.h"
#include "base/sys_file.h"
#include "tensor/gguf_format.h"
#include "tensor/model_file.h"
#include "tensor/name_index.h"

struct meta_entry {
    struct str key;
    struct meta_value value;
};

struct meta_table {
    struct meta_entry *entries; /* [n], in file order; room for LIMIT_GGUF_OVERRIDES more */
    size_t n;
    struct name_index index;
};

/* What meta_value.items points to. */
struct gguf_array {
    enum gguf_type type;    /* of the items */
    const uint8_t *data;    /* packed items, any alignment; not of strings */
    const struct str *strs; /* strings only: [n] */
};

/* One file: everything points into data or the arena. */
struct gguf_file {
    const uint8_t *data;
    size_t size;
    size_t data_offset; /* of the tensor data; what is before it is header, metadata and tensor directory */
    uint32_t version;
    struct meta_table meta;
    struct tensor_view *tensors; /* [n_tensors] in directory order */
    size_t n_tensors;
};

/* Reads header, metadata and tensor directory of file->data (data and size set by the caller) and checks all of it;
 * touches no tensor data. */
NODISCARD bool gguf_read(struct gguf_file *file, struct arena *arena, struct error *err);

/* Values of packed array items: p has gguf__type_size bytes at any address. Integer and float types respectively. */
int64_t gguf__int(enum gguf_type type, const uint8_t *p);
double gguf__float(enum gguf_type type, const uint8_t *p);
size_t gguf__type_size(enum gguf_type type); /* 0 for strings and arrays */

struct model_shard {
    struct mapped_file map; /* zero when opened over memory */
    struct gguf_file gguf;
};

struct model_file {
    struct arena *arena;
    char *path;
    struct model_shard *shards; /* [n_shards] */
    size_t n_shards;
    struct meta_table *meta;     /* the first shard's */
    struct tensor_view *tensors; /* [n_tensors] of all shards, in order */
    size_t n_tensors;
    struct name_index names;
    struct str overrides[LIMIT_GGUF_OVERRIDES]; /* as given; part of the digest */
    size_t n_overrides;
};

/* NULL when absent. */
const struct meta_value *meta__find(const struct meta_table *table, struct str key);

/* Range-checked integer of one table, for the reader's own keys. A missing key gives the fallback. */
NODISCARD bool meta__int_or(const struct meta_table *table, const char *key, int64_t min, int64_t max, int64_t fallback,
                            int64_t *out, struct error *err);

#endif
