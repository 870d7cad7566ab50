/* Files of a model folder by name: on disk, or given in memory. */
#include "tensor/model_folder_internal.h"

#include "base/array.h"

#include <dirent.h>
#include <stdlib.h>

#define PATH_SIZE KIB(8)

/* "FOLDER/name" in *out, which the caller releases in any case. */
static bool path_of(const struct folder_source *source, const char *name, struct buf *out, struct error *err)
{
    buf_init(out, PATH_SIZE);
    buf_printf(out, "%s%s%s", source->path, name[0] ? "/" : "", name);
    return buf_ok(out, "path of a model folder", err);
}

static const struct model_folder_file *file_in_memory(const struct folder_source *source, const char *name)
{
    for (size_t i = 0; i < source->n_files; i++) {
        if (strcmp(source->files[i].name, name) == 0)
            return &source->files[i];
    }
    return NULL;
}

bool folder__has(const struct folder_source *source, const char *name)
{
    struct error ignored;
    struct buf path;
    if (!source->path)
        return file_in_memory(source, name) != NULL;
    bool has = path_of(source, name, &path, &ignored) && file_exists(path.data);
    buf_release(&path);
    return has;
}

static bool open_mapped(const struct folder_source *source, const char *name, struct mapped_file *map,
                        struct error *err)
{
    struct buf path;
    bool ok = path_of(source, name, &path, err) && mapped_file_open(path.data, map, err);
    buf_release(&path);
    return ok;
}

bool folder__open(const struct folder_source *source, const char *name, size_t max_size, struct mapped_file *map,
                  struct str *content, struct error *err)
{
    *map = (struct mapped_file){0};
    if (source->path) {
        if (!open_mapped(source, name, map, err))
            return false;
        *content = (struct str){(const char *)map->data, map->size};
    } else {
        const struct model_folder_file *file = file_in_memory(source, name);
        if (!file)
            return error_set(err, ERR_NOT_FOUND, "There is no file '%.96s'.", name);
        *content = file->content;
    }
    if (content->len > max_size) {
        mapped_file_close(map);
        return error_set(err, ERR_TOO_LARGE, "'%.96s' has %zu bytes, more than the maximum of %zu.", name, content->len,
                         max_size);
    }
    return true;
}

/* ---- listing ---- */

static int compare_names(const void *a, const void *b)
{
    return str_cmp(*(const struct str *)a, *(const struct str *)b);
}

struct collector {
    struct folder_names *out;
    struct arena *arena;
    struct str suffix;
    size_t max;
    struct error *err;
};

static bool collect(struct collector *c, const char *file_name)
{
    struct str name = str_of(file_name);
    if (name.ptr[0] == '.' || name.len <= c->suffix.len || !str_ends(name, c->suffix) ||
        str_find_char(name, '/') != STR_NPOS)
        return true;
    if (c->out->n == c->max)
        return error_set(c->err, ERR_TOO_LARGE, "There are more than %zu files *" STR_FMT ".", c->max,
                         STR_ARG(c->suffix));
    struct str copy = arena_str(c->arena, name);
    c->out->items[c->out->n++] = copy;
    return copy.ptr || arena_full(c->arena, "index of a model folder", c->err);
}

/* A folder that is not there holds nothing. */
static bool collect_on_disk(const struct folder_source *source, const char *inside, struct collector *c)
{
    struct buf path;
    bool ok = path_of(source, inside, &path, c->err);
    DIR *dir = ok ? opendir(path.data) : NULL;
    for (struct dirent *entry; dir && ok && (entry = readdir(dir));)
        ok = collect(c, entry->d_name);
    if (dir)
        closedir(dir);
    buf_release(&path);
    return ok;
}

static bool collect_in_memory(const struct folder_source *source, const char *inside, struct collector *c)
{
    size_t skip = strlen(inside);
    bool ok = true;
    for (size_t i = 0; ok && i < source->n_files; i++) {
        const char *name = source->files[i].name;
        if (strncmp(name, inside, skip) == 0 && (skip == 0 || name[skip] == '/'))
            ok = collect(c, name + skip + (skip > 0));
    }
    return ok;
}

bool folder__list(const struct folder_source *source, const char *inside, const char *suffix, size_t max,
                  struct arena *arena, struct folder_names *out, struct error *err)
{
    struct collector c = {.out = out, .arena = arena, .suffix = str_of(suffix), .max = max, .err = err};
    *out = (struct folder_names){.items = arena_alloc_array(arena, max, sizeof(*out->items))};
    if (!out->items)
        return arena_full(arena, "index of a model folder", err);
    if (source->path ? !collect_on_disk(source, inside, &c) : !collect_in_memory(source, inside, &c))
        return false;
    qsort(out->items, out->n, sizeof(*out->items), compare_names);
    return true;
}
