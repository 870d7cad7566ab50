#include "tensor/model_paths.h"

#include "tensor/model_folder_internal.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#define MAX_LINKS 8192 /* of a folder; models have a thousand shards at most */

struct visitor {
    void (*each)(void *arg, const char *path);
    void *arg;
    int n_links;
};

static bool is_link_to_file(const char *path)
{
    struct stat itself, target;
    return lstat(path, &itself) == 0 && S_ISLNK(itself.st_mode) && stat(path, &target) == 0 && S_ISREG(target.st_mode);
}

static bool join(char out[PATH_MAX], const char *folder, const char *name)
{
    int n = snprintf(out, PATH_MAX, "%s/%s", folder, name);
    return n > 0 && n < PATH_MAX;
}

static void visit_links(struct visitor *v, const char *folder)
{
    char path[PATH_MAX];
    DIR *dir = opendir(folder);
    for (struct dirent *entry; dir && v->n_links < MAX_LINKS && (entry = readdir(dir));) {
        if (join(path, folder, entry->d_name) && is_link_to_file(path)) {
            v->n_links++;
            v->each(v->arg, path);
        }
    }
    if (dir) {
        closedir(dir);
    }
}

static void visit_folder(struct visitor *v, const char *folder)
{
    char below[PATH_MAX];
    v->each(v->arg, folder);
    visit_links(v, folder);
    if (join(below, folder, FOLDER_TEMPLATES)) {
        visit_links(v, below);
    }
}

void model_paths_each(const char *path, void (*each)(void *arg, const char *path), void *arg)
{
    struct visitor v = {each, arg, 0};
    struct split_name name;
    char shard[PATH_MAX];
    if (dir_exists(path)) {
        visit_folder(&v, path);
        return;
    }
    each(arg, path);
    if (!model_file__split_name(str_of(path), &name) || name.count > LIMIT_GGUF_SHARDS) {
        return;
    }
    for (int64_t no = 1; no <= name.count; no++) {
        if (model_file__shard_path(&name, no, shard, sizeof shard)) {
            each(arg, shard);
        }
    }
}

struct str model_path_stem(struct str path)
{
    struct str name = str_path_name(path), suffix = STR(".gguf");
    return str_ends(name, suffix) ? str_slice(name, 0, name.len - suffix.len) : name;
}
