/* A model as one view: opening (also of split files), tensors by name, digest. */
#include "tensor/model_file_internal.h"
#include "tensor/model_folder.h"

#include "base/array.h"
#include "base/hash.h"
#include "base/limits.h"
#include "base/utf8.h"

#include <stdio.h>
#include <stdlib.h>

/* "-00001-of-00003.gguf" */
#define SPLIT_SUFFIX_LEN 20

static bool digits5(struct str s, int64_t *out)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] < '0' || s.ptr[i] > '9')
            return false;
    }
    return s.len == 5 && str_to_i64(s, out);
}

bool model_file__split_name(struct str path, struct split_name *out)
{
    if (path.len < SPLIT_SUFFIX_LEN)
        return false;
    struct str suffix = str_slice(path, path.len - SPLIT_SUFFIX_LEN, path.len);
    out->prefix = str_slice(path, 0, path.len - SPLIT_SUFFIX_LEN);
    return suffix.ptr[0] == '-' && digits5(str_slice(suffix, 1, 6), &out->no) &&
           str_eq(str_slice(suffix, 6, 10), STR("-of-")) && digits5(str_slice(suffix, 10, 15), &out->count) &&
           str_eq(str_slice(suffix, 15, 20), STR(".gguf"));
}

bool model_file__shard_path(const struct split_name *name, int64_t no, char *out, size_t size)
{
    int n = snprintf(out, size, STR_FMT "-%05d-of-%05d.gguf", STR_ARG(name->prefix), (int)no, (int)name->count);
    return n > 0 && (size_t)n < size;
}

/* NULL when the arena is full. */
static char *shard_path(struct arena *arena, const struct split_name *name, int64_t no)
{
    size_t size = name->prefix.len + SPLIT_SUFFIX_LEN + 1;
    char *path = arena_alloc(arena, size);
    return path && model_file__shard_path(name, no, path, size) ? path : NULL;
}

/* The file's own name is enough: the caller knows the folder, and the sentence has to fit. */
static bool wrap_path(const char *path, struct error *err)
{
    struct str name = str_path_name(str_of(path));
    return error_wrap(err, "model file '" STR_FMT "'", STR_ARG(str_slice(name, 0, utf8_cut(name, 80))));
}

struct model_file *model_file__create(const char *path, size_t n_shards, size_t n_documents, struct error *err)
{
    struct arena *arena = arena_create(LIMIT_GGUF_INDEX);
    struct model_file *f = arena ? arena_alloc(arena, sizeof(*f)) : NULL;
    if (f) {
        f->arena = arena;
        f->path = arena_strdup(arena, str_of(path));
        f->shards = arena_alloc_array(arena, n_shards, sizeof(*f->shards));
        f->documents = arena_alloc_array(arena, n_documents, sizeof(*f->documents));
    }
    if (!f || !f->path || !f->shards || !f->documents) {
        error_set(err, ERR_NO_MEMORY, "There is no memory to open a model file.");
        arena_free(arena);
        return NULL;
    }
    f->meta = &f->shards[0].meta;
    return f;
}

struct model_file *model_file__over_memory(const void *data, size_t size, struct error *err)
{
    struct model_file *f = model_file__create("(memory)", 1, 0, err);
    if (!f)
        return NULL;
    f->n_shards = 1;
    f->shards[0].data = data;
    f->shards[0].size = size;
    return f;
}

struct model_shard *model_file__map_shard(struct model_file *f, const char *path, struct error *err)
{
    struct model_shard *shard = &f->shards[f->n_shards];
    if (!mapped_file_open(path, &shard->map, err))
        return NULL;
    f->n_shards++;
    shard->data = shard->map.data;
    shard->size = shard->map.size;
    return shard;
}

static bool open_shard(struct model_file *f, const char *path, struct error *err)
{
    struct model_shard *shard = model_file__map_shard(f, path, err);
    return shard && (gguf_read(shard, f->arena, err) || wrap_path(path, err));
}

bool model_file__join(struct model_file *f, size_t max, struct error *err)
{
    for (size_t i = 0; i < f->n_shards; i++)
        f->n_tensors += f->shards[i].n_tensors; /* bounded: each has its tensors in the arena */
    if (f->n_tensors > max)
        return error_set(err, ERR_FORMAT, "The shards together have %zu tensors, more than the maximum of %zu.",
                         f->n_tensors, max);
    f->tensors = f->shards[0].tensors;
    if (f->n_shards > 1)
        f->tensors = arena_alloc_array(f->arena, f->n_tensors + 1, sizeof(*f->tensors));
    if (!f->tensors || !name_index_init(&f->names, f->arena, f->n_tensors))
        return arena_full(f->arena, "index of a model file", err);
    size_t n = 0;
    for (size_t i = 0; i < f->n_shards; i++) {
        for (size_t j = 0; j < f->shards[i].n_tensors; j++, n++) {
            f->tensors[n] = f->shards[i].tensors[j];
            if (!name_index_add(&f->names, f->tensors[n].name, n))
                return error_set(err, ERR_FORMAT, "The model has the tensor '" STR_FMT "' twice.",
                                 STR_ARG(f->tensors[n].name));
        }
    }
    return true;
}

/* split.count, split.no and split.tensors.count of one shard against what was opened. */
static bool check_shard(const struct model_file *f, size_t i, struct error *err)
{
    const struct meta_table *meta = &f->shards[i].meta;
    int64_t count = 0, no = 0, n_tensors = 0;
    if (!meta__int_or(meta, GGUF_KEY_SPLIT_COUNT, 0, INT64_MAX, 0, &count, err) ||
        !meta__int_or(meta, GGUF_KEY_SPLIT_NO, 0, INT64_MAX, 0, &no, err) ||
        !meta__int_or(meta, GGUF_KEY_SPLIT_TENSORS, 0, INT64_MAX, (int64_t)f->n_tensors, &n_tensors, err))
        return false;
    count = count == 0 ? 1 : count; /* tools that merge shards leave a zero */
    if (f->n_shards == 1 && count > 1)
        return error_set(
            err, ERR_FORMAT,
            "The file is shard %lld of %lld of a model, but its name does not end in -00001-of-%05lld.gguf.",
            (long long)no + 1, (long long)count, (long long)count);
    if (count != (int64_t)f->n_shards)
        return error_set(err, ERR_FORMAT, "Shard %zu says that the model has %lld shards, its name says %zu.", i + 1,
                         (long long)count, f->n_shards);
    if (no != (int64_t)i)
        return error_set(err, ERR_FORMAT, "Shard %zu says that it is number %lld.", i + 1, (long long)no + 1);
    if (n_tensors != (int64_t)f->n_tensors)
        return error_set(err, ERR_FORMAT, "Shard %zu says that the model has %lld tensors, but the shards have %zu.",
                         i + 1, (long long)n_tensors, f->n_tensors);
    return true;
}

static bool finish_open(struct model_file *f, struct error *err)
{
    if (!model_file__join(f, LIMIT_GGUF_TENSORS, err))
        return false;
    for (size_t i = 0; i < f->n_shards; i++) {
        if (!check_shard(f, i, err))
            return false;
    }
    return true;
}

/* Checks the name of a shard: numbers in range, and the first one. */
static bool check_split_name(const struct split_name *name, const char *path, struct error *err)
{
    struct str file = str_path_name(str_of(path));
    if (name->count < 1 || name->count > LIMIT_GGUF_SHARDS || name->no < 1 || name->no > name->count)
        return error_set(err, ERR_INVALID, "The file name '" STR_FMT "' gives an impossible shard number or count.",
                         STR_ARG(str_slice(file, 0, 100)));
    if (name->no != 1) {
        size_t prefix_len = file.len - SPLIT_SUFFIX_LEN;
        return error_set(err, ERR_INVALID,
                         "This is shard %d of %d: open the first, '" STR_FMT
                         "-00001-of-%05d.gguf', which brings in the rest.",
                         (int)name->no, (int)name->count,
                         STR_ARG(str_slice(file, 0, prefix_len > 100 ? 100 : prefix_len)), (int)name->count);
    }
    return true;
}

struct model_file *model_file_open(const char *path, struct error *err)
{
    if (dir_exists(path))
        return model_folder_open(path, err);
    struct split_name name = {.count = 1};
    bool split = model_file__split_name(str_of(path), &name);
    if (!split)
        name.count = 1;
    else if (!check_split_name(&name, path, err))
        return NULL;
    struct model_file *f = model_file__create(path, (size_t)name.count, 0, err);
    if (!f)
        return NULL;
    bool ok = true;
    for (int64_t no = 1; ok && no <= name.count; no++) {
        const char *shard = no == 1 ? path : shard_path(f->arena, &name, no);
        ok = shard ? open_shard(f, shard, err) : arena_full(f->arena, "index of a model file", err);
    }
    if (ok && !finish_open(f, err))
        ok = wrap_path(path, err);
    if (!ok) {
        model_file_close(f);
        return NULL;
    }
    return f;
}

struct model_file *model_file_open_memory(const void *data, size_t size, struct error *err)
{
    struct model_file *f = model_file__over_memory(data, size, err);
    if (!f)
        return NULL;
    if (!gguf_read(&f->shards[0], f->arena, err) || !finish_open(f, err)) {
        model_file_close(f);
        return NULL;
    }
    return f;
}

void model_file_close(struct model_file *f)
{
    if (!f)
        return;
    for (size_t i = 0; i < f->n_shards; i++)
        mapped_file_close(&f->shards[i].map);
    for (size_t i = 0; i < f->n_documents; i++)
        mapped_file_close(&f->documents[i].map);
    arena_free(f->arena);
}

const char *model_file_path(const struct model_file *f)
{
    return f->path;
}

bool model_file_is_folder(const struct model_file *f)
{
    return f->is_folder;
}

struct str model_file_document(const struct model_file *f, const char *name)
{
    for (size_t i = 0; i < f->n_documents; i++) {
        if (str_eq(f->documents[i].name, str_of(name)))
            return f->documents[i].text;
    }
    return STR("");
}

int model_file_version(const struct model_file *f)
{
    return (int)f->shards[0].version;
}

size_t model_file_size(const struct model_file *f)
{
    size_t size = 0;
    for (size_t i = 0; i < f->n_shards; i++)
        size += f->shards[i].size;
    return size;
}

/* ---- tensors ---- */

size_t model_file_n_tensors(const struct model_file *f)
{
    return f->n_tensors;
}

const struct tensor_view *model_file_tensor_at(const struct model_file *f, size_t i)
{
    return &f->tensors[i];
}

const struct tensor_view *model_file_tensor(const struct model_file *f, const char *name)
{
    size_t i;
    return name_index_find(&f->names, str_of(name), &i) ? &f->tensors[i] : NULL;
}

/* The mapping a tensor lies in, and where; NULL for memory that was not mapped here. */
static const struct mapped_file *mapping_of(const struct model_file *f, const struct tensor_view *t, size_t *offset)
{
    uintptr_t at = (uintptr_t)t->data;
    for (size_t i = 0; i < f->n_shards; i++) {
        const struct mapped_file *map = &f->shards[i].map;
        uintptr_t start = (uintptr_t)map->data;
        if (map->data && at >= start && at - start < map->size) {
            *offset = (size_t)(at - start);
            return map;
        }
    }
    return NULL;
}

void model_file_drop(const struct model_file *f, const struct tensor_view *t)
{
    size_t offset;
    const struct mapped_file *map = mapping_of(f, t, &offset);
    if (map)
        mapped_file_drop(map, offset, t->size);
}

void model_file_prefetch(const struct model_file *f, const struct tensor_view *t)
{
    size_t offset;
    const struct mapped_file *map = mapping_of(f, t, &offset);
    if (map)
        mapped_file_prefetch(map, offset, t->size);
}

/* ---- digest ---- */

#define DIGEST_SAMPLES     4
#define DIGEST_SAMPLE_SIZE 1024

static void digest_tensor(struct sha256_ctx *ctx, const struct tensor_view *t)
{
    const uint8_t *data = t->data;
    if (t->size <= DIGEST_SAMPLES * DIGEST_SAMPLE_SIZE) {
        sha256_update(ctx, data, t->size);
        return;
    }
    size_t step = (t->size - DIGEST_SAMPLE_SIZE) / (DIGEST_SAMPLES - 1);
    for (size_t i = 0; i < DIGEST_SAMPLES; i++)
        sha256_update(ctx, data + i * step, DIGEST_SAMPLE_SIZE);
}

static void digest_size(struct sha256_ctx *ctx, uint64_t size)
{
    sha256_update(ctx, &size, sizeof(size));
}

static void digest_text(struct sha256_ctx *ctx, struct str text)
{
    digest_size(ctx, text.len);
    if (text.len > 0)
        sha256_update(ctx, text.ptr, text.len);
}

void model_file_digest(const struct model_file *f, uint8_t out[32])
{
    struct sha256_ctx *ctx = sha256_create();
    sha256_start(ctx);
    for (size_t i = 0; i < f->n_shards; i++) {
        const struct model_shard *shard = &f->shards[i];
        digest_size(ctx, shard->size);
        sha256_update(ctx, shard->data, shard->data_offset);
    }
    for (size_t i = 0; i < f->n_documents; i++) {
        digest_text(ctx, f->documents[i].name);
        digest_text(ctx, f->documents[i].text);
    }
    for (size_t i = 0; i < f->n_shards; i++) { /* not f->tensors: scales have become part of others there */
        for (size_t j = 0; j < f->shards[i].n_tensors; j++)
            digest_tensor(ctx, &f->shards[i].tensors[j]);
    }
    for (size_t i = 0; i < f->n_overrides; i++)
        sha256_update(ctx, f->overrides[i].ptr, f->overrides[i].len + 1); /* with its NUL: a separator */
    struct sha256 digest = sha256_finish(ctx);
    memcpy(out, digest.bytes, sizeof(digest.bytes));
    sha256_free(ctx);
}
