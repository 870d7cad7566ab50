/* Shared by what makes a model of files: model_file.c (what a model is), model_meta.c (its metadata), gguf_reader.c and
 * safetensors_reader.c (one file each), model_folder*.c (a folder of files). */
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

/* What meta_value.items points to, whatever the container. */
struct meta_items {
    enum gguf_type type;    /* of the items */
    const uint8_t *data;    /* packed items, any alignment; not of strings */
    const struct str *strs; /* strings only: [n] */
};

/* One file with tensors: everything points into data or the arena. */
struct model_shard {
    struct mapped_file map; /* zero when opened over memory */
    const uint8_t *data;    /* [size] */
    size_t size;
    size_t data_offset;          /* of the tensor data; what is before it is header, metadata and tensor directory */
    struct tensor_view *tensors; /* [n_tensors] in file order */
    size_t n_tensors;
    uint32_t version;       /* of GGUF; else 0 */
    struct meta_table meta; /* of GGUF; else empty */
};

/* Read header, metadata and tensor directory of shard->data (data and size set by the caller) and check all of it;
 * touch no tensor data. gguf_read: GGUF_KEY_* of the shard itself are the caller's to check. */
NODISCARD bool gguf_read(struct model_shard *shard, struct arena *arena, struct error *err);
NODISCARD bool safetensors_read(struct model_shard *shard, struct arena *arena, struct error *err);

/* Values of packed array items: p has gguf__type_size bytes at any address. Integer and float types respectively. */
int64_t gguf__int(enum gguf_type type, const uint8_t *p);
double gguf__float(enum gguf_type type, const uint8_t *p);
size_t gguf__type_size(enum gguf_type type); /* 0 for strings and arrays */

struct model_document { /* a file of a folder that holds no tensors */
    struct str name;
    struct str text;
    struct mapped_file map; /* zero when opened over memory */
};

struct model_file {
    struct arena *arena;
    char *path;
    bool is_folder;
    struct model_shard *shards; /* [n_shards] */
    size_t n_shards;
    struct model_document *documents; /* [n_documents]; none of a GGUF file */
    size_t n_documents;
    struct meta_table *meta;     /* the first shard's, or the folder's */
    struct tensor_view *tensors; /* [n_tensors] of all shards, in order */
    size_t n_tensors;
    struct name_index names;
    struct str overrides[LIMIT_GGUF_OVERRIDES]; /* as given; part of the digest */
    size_t n_overrides;
};

/* An empty model with room for n_shards shards and n_documents documents, all zero. NULL when memory fails. */
NODISCARD struct model_file *model_file__create(const char *path, size_t n_shards, size_t n_documents,
                                                struct error *err);

/* One with a shard of which data and size are set, and which is to be read: over memory; or the next of f, mapped. */
NODISCARD struct model_file *model_file__over_memory(const void *data, size_t size, struct error *err);
NODISCARD struct model_shard *model_file__map_shard(struct model_file *f, const char *path, struct error *err);

/* The name of a shard, "PREFIX-00001-of-00003.gguf", taken apart and made; numbers are not checked. */
struct split_name {
    struct str prefix; /* with the folder */
    int64_t no;        /* from 1 */
    int64_t count;
};
bool model_file__split_name(struct str path, struct split_name *out); /* false: it does not end like a shard's */
bool model_file__shard_path(const struct split_name *name, int64_t no, char *out, size_t size); /* false: too long */

/* All shards' tensors as one list, with their index. At most max tensors, no name twice. */
NODISCARD bool model_file__join(struct model_file *f, size_t max, struct error *err);

/* Names are printable, valid UTF-8 of at most LIMIT_GGUF_NAME bytes. */
bool tensor__name_valid(struct str name);

/* Sorts spans by offset and sets the data pointers: every tensor inside the data section, at a multiple of alignment,
 * none over another. */
struct tensor_span {
    uint64_t offset; /* in the data section */
    size_t index;    /* of the tensor */
};
NODISCARD bool tensor__place(struct model_shard *shard, struct tensor_span *spans, uint64_t alignment,
                             struct error *err);

/* NULL when absent. */
const struct meta_value *meta__find(const struct meta_table *table, struct str key);

/* Range-checked integer of one table, for the reader's own keys. A missing key gives the fallback. */
NODISCARD bool meta__int_or(const struct meta_table *table, const char *key, int64_t min, int64_t max, int64_t fallback,
                            int64_t *out, struct error *err);

#endif
