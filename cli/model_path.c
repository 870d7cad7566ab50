#include "cli/model_path.h"

#include "base/array.h"
#include "base/limits.h"
#include "base/sys_file.h"
#include "cli/model_hub.h"
#include "hub/registry.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#define MODELS_MAX 4096

struct names {
    char **items;
    size_t n, cap;
};

bool models_folder(char *out, size_t size)
{
    const char *given = getenv("TANDEM_MODELS");
    char cache[MODEL_PATH_MAX];
    int n = -1;
    if (given && given[0]) {
        n = snprintf(out, size, "%s", given);
    } else if (sys_cache_dir(cache, sizeof cache)) {
        n = snprintf(out, size, "%s/models", cache);
    }
    return n > 0 && (size_t)n < size;
}

/* "name-00002-of-00003.gguf", but not the first of its file. */
static bool is_later_shard(struct str name)
{
    static const char pattern[] = "-#####-of-#####.gguf";
    size_t n = sizeof pattern - 1;
    if (name.len <= n) {
        return false;
    }
    struct str tail = str_slice(name, name.len - n, name.len);
    for (size_t i = 0; i < n; i++) {
        bool digit = tail.ptr[i] >= '0' && tail.ptr[i] <= '9';
        if (pattern[i] == '#' ? !digit : tail.ptr[i] != pattern[i]) {
            return false;
        }
    }
    return !str_starts(tail, STR("-00001-"));
}

/* Whether PATH, or PATH/name, is a folder with a model in it. */
static bool is_model_folder(const char *path, const char *name)
{
    char config[2 * MODEL_PATH_MAX];
    int n = snprintf(config, sizeof config, "%s/%s/config.json", path, name);
    return n > 0 && (size_t)n < sizeof config && file_exists(config);
}

static bool is_model(const char *folder, struct str name)
{
    bool file = str_ends(name, STR(".gguf")) && !is_later_shard(name);
    return name.ptr[0] != '.' && (file || is_model_folder(folder, name.ptr));
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool add_name(struct names *list, const char *name, struct error *err)
{
    if (!array_reserve(&list->items, &list->cap, list->n + 1, MODELS_MAX, "models", err)) {
        return false;
    }
    char *copy = strdup(name);
    if (!copy) {
        return error_set(err, ERR_NO_MEMORY, "no memory for the names of models.");
    }
    list->items[list->n++] = copy;
    return true;
}

static void release(struct names *list)
{
    for (size_t i = 0; i < list->n; i++) {
        free(list->items[i]);
    }
    free(list->items);
}

/* Names in the folder that begin with prefix, sorted. A missing folder holds none. */
static bool find_names(const char *folder, struct str prefix, struct names *out, struct error *err)
{
    DIR *dir = opendir(folder);
    bool ok = true;
    for (struct dirent *entry; dir && ok && (entry = readdir(dir));) {
        struct str name = str_of(entry->d_name);
        if (str_starts(name, prefix) && is_model(folder, name)) {
            ok = add_name(out, entry->d_name, err);
        }
    }
    if (dir) {
        closedir(dir);
    }
    if (ok && out->n) {
        qsort(out->items, out->n, sizeof out->items[0], compare);
    }
    return ok;
}

/* The only one; or the one whose whole name is given, with or without ".gguf"; or nothing. */
static const char *only_fit(const struct names *found, struct str prefix)
{
    for (size_t i = 0; i < found->n; i++) {
        struct str rest = str_of(found->items[i] + prefix.len);
        if (found->n == 1 || rest.len == 0 || str_eq(rest, STR(".gguf"))) {
            return found->items[i];
        }
    }
    return NULL;
}

static bool choose(const char *model, struct str prefix, const char *folder, const struct names *found,
                   char out[MODEL_PATH_MAX], struct error *err)
{
    const char *fit = only_fit(found, prefix);
    if (found->n == 0) {
        return error_set(
            err, ERR_NOT_FOUND,
            "'%.80s' is neither a file nor the name of a model in %.80s; `tandem pull owner/name` brings one.", model,
            folder);
    }
    if (!fit) {
        return error_set(err, ERR_INVALID, "'%.60s' fits %zu models: %.50s, %.50s ... Name one of them.", model,
                         found->n, found->items[0], found->items[1]);
    }
    int n = snprintf(out, MODEL_PATH_MAX, "%s/%s", folder, fit);
    return n < MODEL_PATH_MAX || error_set(err, ERR_INVALID, "the path of '%.80s' is too long.", model);
}

/* As given, but of a folder without '/' at the end: the model is named after what follows the last one. */
static bool take_path(const char *model, char out[MODEL_PATH_MAX], struct error *err)
{
    size_t len = strlen(model);
    while (len > 1 && model[len - 1] == '/') {
        len--;
    }
    if (len >= MODEL_PATH_MAX) {
        return error_set(err, ERR_INVALID, "the path is too long.");
    }
    snprintf(out, MODEL_PATH_MAX, "%.*s", (int)len, model);
    return true;
}

/* ---- the registry ---- */

/* What an alias leads to, in out; *found false: there is none of this name. */
static bool find_alias(const char *model, char out[MODEL_PATH_MAX], bool *found, struct error *err)
{
    char path[MODEL_PATH_MAX];
    struct hub_registry registry;
    struct error ignored = {0};
    *found = false;
    if (strchr(model, '/') || !hub_short_check(model, &ignored) || !hub_registry_path(path, sizeof path, &ignored)) {
        return true;
    }
    struct arena *arena = arena_create(2 * LIMIT_REGISTRY_FILE);
    if (!arena) {
        return error_set(err, ERR_NO_MEMORY, "no memory for the registry.");
    }
    bool ok = hub_registry_read(path, arena, &registry, err);
    const char *reference = ok ? hub_registry_find(&registry, model) : NULL;
    *found = reference != NULL;
    snprintf(out, MODEL_PATH_MAX, "%s", reference ? reference : "");
    arena_free(arena);
    return ok;
}

/* ---- names ---- */

static bool resolve_name(const char *model, char out[MODEL_PATH_MAX], struct error *err)
{
    char folder[MODEL_PATH_MAX], prefix[256];
    struct names found = {0};
    if (!model[0] || strchr(model, '/') || strlen(model) >= sizeof prefix) {
        return error_set(err, ERR_NOT_FOUND, "there is no file '%.160s'.", model);
    }
    if (!models_folder(folder, sizeof folder)) {
        return error_set(err, ERR_NOT_FOUND, "there is no file '%.100s', and no home folder to look for models in.",
                         model);
    }
    snprintf(prefix, sizeof prefix, "%s", model);
    for (char *c = prefix; *c; c++) {
        *c = *c == ':' ? '-' : *c;
    }
    bool ok =
        find_names(folder, str_of(prefix), &found, err) && choose(model, str_of(prefix), folder, &found, out, err);
    release(&found);
    return ok;
}

/* ---- all of it ---- */

struct place {
    char path[MODEL_PATH_MAX]; /* "" of a repository */
    struct hub_reference reference;
};

static bool is_here(const char *model)
{
    return file_exists(model) || (model[0] && is_model_folder(model, "."));
}

/* What is no alias: a path, a repository, or a name of the models folder. */
static bool place_of(const char *model, struct place *out, struct error *err)
{
    struct error no_repo = {0};
    *out = (struct place){.reference = {.kind = HUB_PATH}};
    if (is_here(model)) {
        return take_path(model, out->path, err);
    }
    if (strchr(model, '/') && dir_exists(model)) {
        return error_set(err, ERR_NOT_FOUND, "the folder '%.160s' is no model: it holds no config.json.", model);
    }
    if (strchr(model, '/') && !hub_reference_parse(model, &out->reference, &no_repo)) {
        *err = no_repo;
        return error_wrap(err, "'%.80s' is neither a file nor a repository of the Hub", model);
    }
    return out->reference.kind == HUB_REPO || resolve_name(model, out->path, err);
}

static bool find_place(const char *model, struct place *out, struct error *err)
{
    char reference[MODEL_PATH_MAX];
    bool is_alias = false;
    if (!is_here(model) && !find_alias(model, reference, &is_alias, err)) {
        return false;
    }
    return is_alias ? place_of(reference, out, err) || error_wrap(err, "the alias '%.60s'", model)
                    : place_of(model, out, err);
}

static bool resolve(const struct place *p, char out[MODEL_PATH_MAX], struct error *err)
{
    return p->path[0] ? take_path(p->path, out, err) : model_hub_path(&p->reference, out, err);
}

bool model_path_resolve(const char *model, char out[MODEL_PATH_MAX], struct error *err)
{
    struct place place;
    return find_place(model, &place, err) && resolve(&place, out, err);
}

bool model_path_find(const char *model, char out[MODEL_PATH_MAX], struct hub_reference *reference, bool *is_remote,
                     struct error *err)
{
    struct place place;
    struct hub_settings settings;
    struct hub_cached cached;
    out[0] = '\0';
    *is_remote = false;
    if (!find_place(model, &place, err)) {
        return false;
    }
    *reference = place.reference;
    if (place.path[0]) {
        return take_path(place.path, out, err);
    }
    if (!hub_settings_read(&settings, err) || !model_hub_cached(settings.cache, reference, &cached, err)) {
        return false;
    }
    *is_remote = cached.state != HUB_COMPLETE;
    return *is_remote || take_path(cached.path, out, err);
}

bool model_path_here(const char *model, char out[MODEL_PATH_MAX], struct error *err)
{
    struct hub_reference reference;
    bool is_remote;
    if (!model_path_find(model, out, &reference, &is_remote, err)) {
        return false;
    }
    return !is_remote || error_set(err, ERR_NOT_FOUND,
                                   "'%.100s' is not here whole, and a running server does not wait for the Hub: bring "
                                   "it with `tandem pull %.100s`.",
                                   model, model);
}

bool model_path_is_name(const char *model)
{
    char reference[MODEL_PATH_MAX];
    struct hub_reference parsed;
    struct error ignored = {0};
    bool is_alias = false;
    if (is_here(model) || !find_alias(model, reference, &is_alias, &ignored)) {
        return false;
    }
    return is_alias || (hub_reference_parse(model, &parsed, &ignored) && parsed.kind == HUB_REPO);
}

bool models_each(void (*each)(void *arg, const char *path, const char *file), void *arg, struct error *err)
{
    char folder[MODEL_PATH_MAX], path[2 * MODEL_PATH_MAX];
    struct names found = {0};
    if (!models_folder(folder, sizeof folder)) {
        return error_set(err, ERR_NOT_FOUND, "there is no home folder to look for models in; set TANDEM_MODELS.");
    }
    bool ok = find_names(folder, STR(""), &found, err);
    for (size_t i = 0; ok && i < found.n; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, found.items[i]);
        each(arg, path, found.items[i]);
    }
    release(&found);
    return ok;
}
