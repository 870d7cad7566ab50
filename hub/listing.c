#include "hub/listing.h"

#include "base/json.h"
#include "base/limits.h"

#include <stdlib.h>

#define MAX_SIZE (INT64_C(1) << 50) /* of a file, and of all of them: sums stay in range */

static struct json *parse(struct str text, enum json_type type, struct error *err)
{
    struct json *root = json_parse_bounded(text, 0, LIMIT_HUB_VALUES, err);
    if (!root) {
        err->code = err->code == ERR_NO_MEMORY ? ERR_NO_MEMORY : ERR_FORMAT;
        error_wrap(err, "the Hub's reply");
        return NULL;
    }
    if (json_type(root) != type) {
        error_set(err, ERR_FORMAT, "the Hub's reply is %s instead of %s.", json_type_name(json_type(root)),
                  json_type_name(type));
        json_free(root);
        return NULL;
    }
    return root;
}

static struct str text_of(const struct json *object, const char *key)
{
    const struct json *v = json_get(object, key);
    return json_type(v) == JSON_STRING ? json_str(v) : STR("");
}

/* false, or how access is given: "auto", "manual". */
static bool is_gated(const struct json *object)
{
    const struct json *v = json_get(object, "gated");
    return json_type(v) == JSON_STRING || (json_type(v) == JSON_BOOL && json_bool(v));
}

/* ---- files ---- */

static bool read_size(const struct json *v, struct str name, uint64_t *out, struct error *err)
{
    if (json_type(v) != JSON_INT || json_int(v) < 0 || json_int(v) > MAX_SIZE) {
        return error_set(err, ERR_FORMAT, "the Hub gives no possible size of the file '" STR_FMT "'.",
                         STR_ARG(str_slice(name, 0, 80)));
    }
    *out = (uint64_t)json_int(v);
    return true;
}

/* What is kept outside of git is named by its SHA-256, anything else by git. */
static bool read_file(const struct json *v, struct arena *arena, struct hub_file *out, struct error *err)
{
    struct str name = text_of(v, "rfilename");
    const struct json *lfs = json_get(v, "lfs");
    bool is_lfs = json_type(lfs) == JSON_OBJECT;
    struct str etag = is_lfs ? text_of(lfs, "sha256") : text_of(v, "blobId");
    if (!hub_file_check(name, err)) {
        err->code = ERR_FORMAT;
        return error_wrap(err, "the Hub's list of files");
    }
    if (!hub_is_etag(etag) || (etag.len == HUB_ETAG_MAX) != is_lfs) {
        return error_set(err, ERR_FORMAT, "the Hub gives no checksum of the file '" STR_FMT "'.",
                         STR_ARG(str_slice(name, 0, 80)));
    }
    if (!read_size(json_get(is_lfs ? lfs : v, "size"), name, &out->size, err)) {
        return false;
    }
    memcpy(out->etag, etag.ptr, etag.len);
    out->path = arena_str(arena, name);
    return out->path.ptr || arena_full(arena, "the list of files", err);
}

static int compare(const void *a, const void *b)
{
    const struct hub_file *x = a, *y = b;
    return str_cmp(x->path, y->path);
}

void hub_listing_sort(struct hub_listing *l)
{
    if (l->n) {
        qsort(l->files, l->n, sizeof *l->files, compare);
    }
}

const struct hub_file *hub_listing_find(const struct hub_listing *l, struct str path)
{
    struct hub_file key = {.path = path};
    return l->n ? bsearch(&key, l->files, l->n, sizeof *l->files, compare) : NULL;
}

static bool read_files(const struct json *siblings, struct arena *arena, struct hub_listing *out, struct error *err)
{
    size_t n = json_len(siblings);
    if (json_type(siblings) != JSON_ARRAY || n > LIMIT_HUB_FILES) {
        return error_set(err, ERR_FORMAT, "the Hub lists no files, or more than %d.", LIMIT_HUB_FILES);
    }
    out->files = arena_alloc_array(arena, n + 1, sizeof *out->files);
    if (!out->files) {
        return arena_full(arena, "the list of files", err);
    }
    uint64_t size = 0;
    for (; out->n < n; out->n++) {
        if (!read_file(json_at(siblings, out->n), arena, &out->files[out->n], err)) {
            return false;
        }
        size += out->files[out->n].size;
        if (size > MAX_SIZE) {
            return error_set(err, ERR_FORMAT, "the Hub lists files of more than %lld bytes.", (long long)MAX_SIZE);
        }
    }
    hub_listing_sort(out);
    for (size_t i = 1; i < n; i++) {
        if (str_eq(out->files[i - 1].path, out->files[i].path)) {
            return error_set(err, ERR_FORMAT, "the Hub lists the file '" STR_FMT "' twice.",
                             STR_ARG(str_slice(out->files[i].path, 0, 80)));
        }
    }
    return true;
}

bool hub_listing_parse(struct str json, struct arena *arena, struct hub_listing *out, struct error *err)
{
    struct json *root = parse(json, JSON_OBJECT, err);
    struct str sha = text_of(root, "sha");
    *out = (struct hub_listing){.gated = is_gated(root)};
    bool ok = root != NULL;
    if (ok && !hub_is_commit(sha)) {
        ok = error_set(err, ERR_FORMAT, "the Hub's reply names no commit.");
    }
    if (ok) {
        memcpy(out->commit, sha.ptr, sha.len);
        ok = read_files(json_get(root, "siblings"), arena, out, err);
    }
    json_free(root);
    return ok;
}

/* ---- search ---- */

static int64_t count_of(const struct json *v, const char *key)
{
    const struct json *n = json_get(v, key);
    return json_type(n) == JSON_INT && json_int(n) > 0 ? json_int(n) : 0;
}

/* A name that is none of a repository here is left out: search also finds what has no owner. */
static bool read_found(const struct json *v, struct arena *arena, struct hub_search *out, struct error *err)
{
    struct error ignored = {0};
    const struct json *tags = json_get(v, "tags");
    struct str id = text_of(v, "id");
    if (!hub_repo_check(id, &ignored)) {
        return true;
    }
    struct hub_found *f = &out->items[out->n++];
    *f = (struct hub_found){
        .repo = arena_str(arena, id),
        .downloads = count_of(v, "downloads"),
        .likes = count_of(v, "likes"),
        .gated = is_gated(v),
        .gguf = json_lists(tags, STR("gguf")),
        .safetensors = json_lists(tags, STR("safetensors")),
    };
    return f->repo.ptr || arena_full(arena, "what the Hub found", err);
}

bool hub_search_parse(struct str json, struct arena *arena, struct hub_search *out, struct error *err)
{
    struct json *root = parse(json, JSON_ARRAY, err);
    *out = (struct hub_search){0};
    if (!root) {
        return false;
    }
    size_t n = json_len(root);
    n = n < LIMIT_HUB_MODELS ? n : LIMIT_HUB_MODELS;
    out->items = arena_alloc_array(arena, n + 1, sizeof *out->items);
    bool ok = out->items || arena_full(arena, "what the Hub found", err);
    for (size_t i = 0; ok && i < n; i++) {
        ok = read_found(json_at(root, i), arena, out, err);
    }
    json_free(root);
    return ok;
}
