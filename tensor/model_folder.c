/* Folders of safetensors and JSON files: which files there are, and how they make one model. */
#include "tensor/model_folder_internal.h"

#include "base/array.h"
#include "base/utf8.h"

#include <stdio.h>
#include <stdlib.h>

/* Everything that is read of a folder besides its tensors. */
static const struct {
    const char *name;
    size_t max_size;
} documents[] = {
    {FOLDER_CONFIG, LIMIT_FOLDER_JSON},           {FOLDER_GENERATION, LIMIT_FOLDER_JSON},
    {FOLDER_TOKENIZER_CONFIG, LIMIT_FOLDER_JSON}, {FOLDER_TEMPLATE, LIMIT_FOLDER_JSON},
    {FOLDER_TEMPLATE_JSON, LIMIT_FOLDER_JSON},    {"special_tokens_map.json", LIMIT_FOLDER_JSON},
    {"added_tokens.json", LIMIT_FOLDER_JSON},     {"tokenizer.json", LIMIT_FOLDER_DOCUMENT},
    {FOLDER_INDEX, LIMIT_FOLDER_INDEX},
};

struct json *folder__parse(struct str text, const char *name, struct error *err)
{
    struct json *root = json_parse_bounded(text, 0, LIMIT_FOLDER_VALUES, err);
    if (!root) {
        err->code = err->code == ERR_NO_MEMORY ? ERR_NO_MEMORY : ERR_FORMAT;
        error_wrap(err, "%s", name);
        return NULL;
    }
    if (json_type(root) != JSON_OBJECT) {
        error_set(err, ERR_FORMAT, "%s: The JSON is %s instead of an object.", name, json_type_name(json_type(root)));
        json_free(root);
        return NULL;
    }
    return root;
}

/* ---- documents ---- */

static bool add_document(struct folder *folder, struct str name, size_t max_size, struct error *err)
{
    struct model_document *d = &folder->f->documents[folder->f->n_documents];
    if (!folder__open(&folder->source, name.ptr, max_size, &d->map, &d->text, err))
        return false;
    d->name = name;
    folder->f->n_documents++;
    return true;
}

static bool add_templates(struct folder *folder, struct error *err)
{
    struct arena *arena = folder->f->arena;
    struct folder_names names;
    if (!folder__list(&folder->source, FOLDER_TEMPLATES, ".jinja", LIMIT_FOLDER_TEMPLATES, arena, &names, err))
        return false;
    for (size_t i = 0; i < names.n; i++) {
        size_t size = sizeof(FOLDER_TEMPLATES) + 1 + names.items[i].len;
        char *name = arena_alloc(arena, size);
        if (!name)
            return arena_full(arena, "index of a model folder", err);
        snprintf(name, size, FOLDER_TEMPLATES "/" STR_FMT, STR_ARG(names.items[i]));
        if (!add_document(folder, str_of(name), LIMIT_FOLDER_JSON, err))
            return false;
    }
    return true;
}

/* NULL and true when there is none. */
static bool parse_document(const struct folder *folder, const char *name, struct json **out, struct error *err)
{
    const struct model_file *f = folder->f;
    for (size_t i = 0; i < f->n_documents; i++) {
        if (str_eq(f->documents[i].name, str_of(name))) {
            *out = folder__parse(f->documents[i].text, name, err);
            return *out != NULL;
        }
    }
    return true;
}

static bool read_documents(struct folder *folder, struct error *err)
{
    if (!folder__has(&folder->source, FOLDER_CONFIG))
        return error_set(err, ERR_NOT_FOUND, "The folder holds no " FOLDER_CONFIG ".");
    for (size_t i = 0; i < ARRAY_LEN(documents); i++) {
        struct str name = str_of(documents[i].name);
        if (folder__has(&folder->source, name.ptr) && !add_document(folder, name, documents[i].max_size, err))
            return false;
    }
    return add_templates(folder, err) && parse_document(folder, FOLDER_CONFIG, &folder->config, err) &&
           parse_document(folder, FOLDER_GENERATION, &folder->generation, err) &&
           parse_document(folder, FOLDER_TOKENIZER_CONFIG, &folder->tokenizer, err) &&
           parse_document(folder, FOLDER_TEMPLATE_JSON, &folder->template_json, err);
}

/* ---- shards ---- */

static bool shard_name_valid(struct str name)
{
    bool ok = name.len > 0 && name.len < 256 && name.ptr[0] != '.' && str_ends(name, STR(".safetensors"));
    for (size_t i = 0; ok && i < name.len; i++)
        ok = name.ptr[i] > ' ' && name.ptr[i] <= '~' && name.ptr[i] != '/' && name.ptr[i] != '\\';
    return ok;
}

static int compare_names(const void *a, const void *b)
{
    return str_cmp(*(const struct str *)a, *(const struct str *)b);
}

/* The shards that the index names, sorted. */
static bool shards_of_index(const struct folder *folder, const struct json *map, struct folder_names *out,
                            struct error *err)
{
    struct arena *arena = folder->f->arena;
    struct name_index seen;
    *out = (struct folder_names){.items = arena_alloc_array(arena, LIMIT_GGUF_SHARDS, sizeof(*out->items))};
    if (!out->items || !name_index_init(&seen, arena, LIMIT_GGUF_SHARDS))
        return arena_full(arena, "index of a model folder", err);
    for (struct json_iter it = json_members(map); json_next(&it);) {
        struct str name = json_str(it.value);
        size_t ignored;
        if (!shard_name_valid(name))
            return error_set(err, ERR_FORMAT, FOLDER_INDEX ": the tensor '%.96s' is given no valid file name.",
                             it.key.ptr);
        if (name_index_find(&seen, name, &ignored))
            continue;
        if (out->n == LIMIT_GGUF_SHARDS)
            return error_set(err, ERR_FORMAT, FOLDER_INDEX ": there are more than %d shards.", LIMIT_GGUF_SHARDS);
        struct str copy = arena_str(arena, name);
        if (!copy.ptr)
            return arena_full(arena, "index of a model folder", err);
        out->items[out->n++] = copy;
        if (!name_index_add(&seen, copy, 0))
            return error_set(err, ERR_INTERNAL, "The index of shards is inconsistent.");
    }
    qsort(out->items, out->n, sizeof(*out->items), compare_names);
    return out->n > 0 || error_set(err, ERR_FORMAT, FOLDER_INDEX ": the weight_map is empty.");
}

/* A folder without an index has one file with tensors, of whatever name. */
static bool only_shard(const struct folder *folder, struct folder_names *out, struct error *err)
{
    if (!folder__list(&folder->source, "", ".safetensors", LIMIT_GGUF_SHARDS, folder->f->arena, out, err))
        return false;
    if (out->n == 0)
        return error_set(err, ERR_NOT_FOUND, "The folder holds no *.safetensors file.");
    if (out->n > 1)
        return error_set(err, ERR_FORMAT, "The folder holds %zu *.safetensors files, but no " FOLDER_INDEX ".", out->n);
    return true;
}

/* The sentence has to fit. */
static bool wrap_name(struct str name, struct error *err)
{
    return error_wrap(err, STR_FMT, STR_ARG(str_slice(name, 0, utf8_cut(name, 80))));
}

static bool open_shard(struct folder *folder, struct str name, struct error *err)
{
    struct model_shard *shard = &folder->f->shards[folder->f->n_shards];
    struct str content;
    if (!folder__open(&folder->source, name.ptr, SIZE_MAX, &shard->map, &content, err))
        return false;
    folder->f->n_shards++;
    shard->data = (const uint8_t *)content.ptr;
    shard->size = content.len;
    return safetensors_read(shard, folder->f->arena, err) || wrap_name(name, err);
}

static bool open_shards(struct folder *folder, const struct folder_names *names, struct error *err)
{
    struct model_file *f = folder->f;
    f->shards = arena_alloc_array(f->arena, names->n, sizeof(*f->shards));
    if (!f->shards)
        return arena_full(f->arena, "index of a model folder", err);
    for (size_t i = 0; i < names->n; i++) {
        if (!open_shard(folder, names->items[i], err))
            return false;
    }
    return model_file__join(f, LIMIT_FOLDER_TENSORS, err);
}

/* The shard of the tensor number i. */
static size_t shard_of(const struct model_file *f, size_t i)
{
    size_t shard = 0;
    while (i >= f->shards[shard].n_tensors)
        i -= f->shards[shard++].n_tensors;
    return shard;
}

/* The index says of every tensor where it is. */
static bool check_index(const struct model_file *f, const struct json *map, const struct folder_names *names,
                        struct error *err)
{
    if (json_len(map) != f->n_tensors)
        return error_set(err, ERR_FORMAT, FOLDER_INDEX " has %zu tensors, but the shards have %zu.", json_len(map),
                         f->n_tensors);
    for (struct json_iter it = json_members(map); json_next(&it);) {
        size_t i;
        if (!name_index_find(&f->names, it.key, &i) || !str_eq(names->items[shard_of(f, i)], json_str(it.value)))
            return error_set(err, ERR_FORMAT,
                             FOLDER_INDEX " has the tensor '%.96s' in '%.60s', but that file does not hold it.",
                             it.key.ptr, json_str(it.value).ptr);
    }
    return true;
}

static bool open_indexed(struct folder *folder, const struct json *index, struct error *err)
{
    const struct json *map = json_get(index, "weight_map");
    struct folder_names names;
    if (json_type(map) != JSON_OBJECT)
        return error_set(err, ERR_FORMAT, FOLDER_INDEX ": weight_map is %s instead of an object.",
                         json_type_name(json_type(map)));
    return shards_of_index(folder, map, &names, err) && open_shards(folder, &names, err) &&
           check_index(folder->f, map, &names, err);
}

/* model.safetensors comes first, as with the reference implementation: an index may lie beside it all the same. */
static bool open_tensors(struct folder *folder, struct error *err)
{
    struct str weights = STR(FOLDER_WEIGHTS);
    struct folder_names names = {&weights, 1};
    if (folder__has(&folder->source, FOLDER_WEIGHTS))
        return open_shards(folder, &names, err);
    if (!folder__has(&folder->source, FOLDER_INDEX))
        return only_shard(folder, &names, err) && open_shards(folder, &names, err);
    struct json *index = folder__parse(model_file_document(folder->f, FOLDER_INDEX), FOLDER_INDEX, err);
    if (!index)
        return false;
    bool ok = open_indexed(folder, index, err);
    json_free(index);
    return ok;
}

/* ---- opening ---- */

static bool fill(struct folder *folder, struct error *err)
{
    return read_documents(folder, err) && open_tensors(folder, err) && folder__group(folder, err) &&
           folder__flatten(folder, err);
}

static struct model_file *open_source(const struct folder_source *source, const char *path, struct error *err)
{
    struct folder folder = {.source = *source};
    struct model_file *f = model_file__create(path, 0, ARRAY_LEN(documents) + LIMIT_FOLDER_TEMPLATES, err);
    if (!f)
        return NULL;
    folder.f = f;
    f->is_folder = true;
    f->meta = arena_alloc(f->arena, sizeof(*f->meta));
    bool ok = f->meta ? fill(&folder, err) : arena_full(f->arena, "index of a model folder", err);
    json_free(folder.config);
    json_free(folder.generation);
    json_free(folder.tokenizer);
    json_free(folder.template_json);
    if (!ok) {
        model_file_close(f);
        return NULL;
    }
    return f;
}

struct model_file *model_folder_open(const char *path, struct error *err)
{
    struct str name = str_path_name(str_of(path));
    struct model_file *f = open_source(&(struct folder_source){.path = path}, path, err);
    if (!f)
        error_wrap(err, "model folder '" STR_FMT "'", STR_ARG(str_slice(name, 0, utf8_cut(name, 80))));
    return f;
}

struct model_file *model_folder_open_memory(const struct model_folder_file *files, size_t n, struct error *err)
{
    return open_source(&(struct folder_source){.files = files, .n_files = n}, "(memory)", err);
}

/* ---- one file alone ---- */

static bool read_alone(struct model_file *f, struct error *err)
{
    struct model_shard *shard = &f->shards[0];
    return name_index_init(&shard->meta.index, f->arena, 0)
               ? safetensors_read(shard, f->arena, err) && model_file__join(f, LIMIT_FOLDER_TENSORS, err)
               : arena_full(f->arena, "index of a safetensors file", err);
}

struct model_file *safetensors_open_memory(const void *data, size_t size, struct error *err)
{
    struct model_file *f = model_file__over_memory(data, size, err);
    if (!f || read_alone(f, err))
        return f;
    model_file_close(f);
    return NULL;
}

struct model_file *safetensors_open(const char *path, struct error *err)
{
    struct model_file *f = model_file__create(path, 1, 0, err);
    if (!f)
        return NULL;
    if (model_file__map_shard(f, path, err) && (read_alone(f, err) || wrap_name(str_path_name(str_of(path)), err)))
        return f;
    model_file_close(f);
    return NULL;
}
