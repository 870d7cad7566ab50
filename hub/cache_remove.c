/* Removing from the cache. Links go first, then the contents that none of the links that are left leads to. */
#include "hub/cache_internal.h"

#include "base/array.h"
#include "base/limits.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAME_SIZE 256

struct blobs { /* names */
    char (*items)[NAME_SIZE];
    size_t n, cap;
    struct error *err;
};

static bool blobs_have(const struct blobs *b, const char *name)
{
    for (size_t i = 0; i < b->n; i++) {
        if (strcmp(b->items[i], name) == 0) {
            return true;
        }
    }
    return false;
}

static bool blobs_add(struct blobs *b, const char *name)
{
    if (!array_reserve(&b->items, &b->cap, b->n + 1, LIMIT_HUB_FILES, "contents to remove", b->err)) {
        return false;
    }
    snprintf(b->items[b->n++], NAME_SIZE, "%s", name);
    return true;
}

/* ---- whole folders ---- */

static void count_file(int dir, const char *name, struct hub_removed *out)
{
    struct stat st;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode)) {
        out->n_files++;
        out->size += (uint64_t)st.st_size;
    }
}

/* Never through a link. False: errno says why something is left. */
static bool remove_tree(int parent, const char *name, int depth, struct hub_removed *out)
{
    int fd = depth < CACHE_DEPTH_MAX ? cache__open_dir(parent, name) : -1;
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    bool ok = dir != NULL;
    if (!dir && fd >= 0) {
        close(fd);
    }
    if (depth >= CACHE_DEPTH_MAX) {
        errno = ENAMETOOLONG;
    }
    for (struct dirent *entry; ok && (entry = readdir(dir));) {
        struct stat st;
        const char *below = entry->d_name;
        if (strcmp(below, ".") == 0 || strcmp(below, "..") == 0 || fstatat(fd, below, &st, AT_SYMLINK_NOFOLLOW) != 0) {
            continue;
        }
        if (S_ISDIR(st.st_mode)) {
            ok = remove_tree(fd, below, depth + 1, out);
        } else {
            count_file(fd, below, out);
            ok = unlinkat(fd, below, 0) == 0;
        }
    }
    if (dir) {
        closedir(dir);
    }
    return ok && unlinkat(parent, name, AT_REMOVEDIR) == 0;
}

static bool remove_repo(const char *cache, const char *repo, struct hub_removed *out, struct error *err)
{
    char folder[CACHE_FOLDER_MAX];
    struct hub_removed locks = {0};
    cache__folder_of(repo, folder);
    int root = cache__open_dir(AT_FDCWD, cache);
    bool ok = root >= 0 && remove_tree(root, folder, 0, out);
    if (!ok) {
        error_set(err, ERR_IO, "'%.120s' could not be removed from the cache: %s.", repo, strerror(errno));
    }
    int all_locks = root >= 0 ? cache__open_dir(root, ".locks") : -1;
    if (ok && all_locks >= 0) {
        remove_tree(all_locks, folder, 0, &locks); /* what is left takes no room */
    }
    if (all_locks >= 0) {
        close(all_locks);
    }
    if (root >= 0) {
        close(root);
    }
    return ok;
}

/* ---- links ---- */

struct unlinking {
    const struct hub_choice *choice; /* NULL: every file */
    struct blobs gone;
    struct hub_removed *out;
};

static bool is_chosen(const struct hub_choice *c, const char *path)
{
    for (size_t i = 0; c && i < c->n; i++) {
        if (str_eq(c->files[i]->path, str_of(path))) {
            return true;
        }
    }
    return c == NULL;
}

static bool unlink_entry(void *arg, const struct cache_entry *e)
{
    struct unlinking *u = arg;
    char blob[NAME_SIZE];
    if (!is_chosen(u->choice, e->path)) {
        return true;
    }
    if (cache__blob_of(e, blob)) {
        if (!blobs_have(&u->gone, blob) && !blobs_add(&u->gone, blob)) {
            return false;
        }
    } else {
        count_file(e->dir, e->name, u->out); /* a copy instead of a link */
    }
    return unlinkat(e->dir, e->name, 0) == 0;
}

static bool keep_entry(void *arg, const struct cache_entry *e)
{
    struct blobs *kept = arg;
    char blob[NAME_SIZE];
    return !cache__blob_of(e, blob) || blobs_have(kept, blob) || blobs_add(kept, blob);
}

/* Contents that only removed links led to. */
static bool remove_blobs(const char *cache, const char *repo, const struct blobs *gone, struct hub_removed *out,
                         struct error *err)
{
    struct error found = {0};
    struct blobs kept = {.err = &found};
    int snapshots = cache__open_repo(cache, repo, "snapshots");
    bool all = true, ok = snapshots >= 0 && cache__walk(snapshots, keep_entry, &kept, &all);
    if (ok && !all) { /* what was not seen may link to any of them */
        ok = error_set(&found, ERR_IO, "contents of '%.120s' stay: another snapshot could not be read whole.", repo);
    }
    int dir = ok ? cache__open_repo(cache, repo, "blobs") : -1;
    for (size_t i = 0; dir >= 0 && i < gone->n; i++) {
        if (!blobs_have(&kept, gone->items[i])) {
            count_file(dir, gone->items[i], out);
            ok = (unlinkat(dir, gone->items[i], 0) == 0 || errno == ENOENT) && ok;
        }
    }
    if (!ok && found.code) {
        *err = found;
    } else if (!ok) {
        error_set(err, ERR_IO, "contents of '%.120s' could not be removed: %s.", repo, strerror(errno));
    }
    if (dir >= 0) {
        close(dir);
    }
    free(kept.items);
    return ok;
}

/* ---- refs ---- */

static bool unlink_ref(void *arg, const struct cache_entry *e)
{
    const char *commit = arg;
    char text[HUB_COMMIT_SIZE + 1] = {0};
    int fd = openat(e->dir, e->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, HUB_COMMIT_SIZE) : -1;
    if (fd >= 0) {
        close(fd);
    }
    return n != HUB_COMMIT_SIZE || strcmp(text, commit) != 0 || unlinkat(e->dir, e->name, 0) == 0;
}

/* The folder of a snapshot without files, and the names that lead to it. */
static void remove_empty_snapshot(const char *cache, const char *repo, char *commit)
{
    struct hub_removed none = {0};
    int snapshots = cache__open_repo(cache, repo, "snapshots"), refs = cache__open_repo(cache, repo, "refs");
    if (snapshots >= 0) {
        remove_tree(snapshots, commit, 1, &none); /* what is left there takes no room */
        close(snapshots);
    }
    if (refs >= 0) {
        cache__walk(refs, unlink_ref, commit, NULL); /* a name that leads nowhere counts as not there */
    }
}

/* ---- one snapshot ---- */

static bool remove_chosen(const char *cache, const struct hub_reference *r, char *commit,
                          const struct hub_choice *choice, struct hub_removed *out, struct error *err)
{
    struct error found = {0};
    struct unlinking u = {.choice = choice, .gone = {.err = &found}, .out = out};
    int snapshots = cache__open_repo(cache, r->repo, "snapshots");
    int dir = snapshots >= 0 ? cache__open_dir(snapshots, commit) : -1;
    bool ok = dir >= 0 && cache__walk(dir, unlink_entry, &u, NULL);
    if (!ok && found.code) {
        *err = found;
    } else if (!ok) {
        error_set(err, ERR_IO, "'%.120s' could not be removed from the cache: %s.", r->repo, strerror(errno));
    }
    if (snapshots >= 0) {
        close(snapshots);
    }
    ok = ok && remove_blobs(cache, r->repo, &u.gone, out, err);
    free(u.gone.items);
    if (ok && !choice) {
        remove_empty_snapshot(cache, r->repo, commit);
    }
    return ok;
}

/* A snapshot besides this one. */
static bool has_other_snapshot(const char *cache, const char *repo, const char *commit)
{
    int fd = cache__open_repo(cache, repo, "snapshots");
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    bool found = false;
    if (!dir && fd >= 0) {
        close(fd);
    }
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        found = found || (hub_is_commit(str_of(entry->d_name)) && strcmp(entry->d_name, commit) != 0);
    }
    if (dir) {
        closedir(dir);
    }
    return found;
}

static bool remove_selected(const char *cache, const struct hub_reference *r, char *commit, struct hub_removed *out,
                            struct error *err)
{
    struct hub_listing l;
    struct hub_choice choice;
    struct arena *arena = arena_create(LIMIT_HUB_ARENA);
    if (!arena) {
        return error_set(err, ERR_NO_MEMORY, "no memory to look into the cache.");
    }
    bool ok = hub_cache_listing(cache, r->repo, commit, arena, &l, err) &&
              hub_choose(&l, r, HUB_FOLDER_FIRST, arena, &choice, err) &&
              remove_chosen(cache, r, commit, &choice, out, err);
    arena_free(arena);
    return ok;
}

static bool exists(const char *cache, const char *repo)
{
    int fd = cache__open_repo(cache, repo, ".");
    if (fd >= 0) {
        close(fd);
    }
    return fd >= 0;
}

bool hub_cache_remove(const char *cache, const struct hub_reference *r, struct hub_removed *out, struct error *err)
{
    struct hub_cached found;
    *out = (struct hub_removed){0};
    if (!exists(cache, r->repo)) {
        return error_set(err, ERR_NOT_FOUND, "the cache has no '%s'.", r->repo);
    }
    bool selected = r->file[0] || r->precision[0];
    if (!selected && !r->revision[0]) {
        return remove_repo(cache, r->repo, out, err);
    }
    if (!hub_cache_find(cache, r, HUB_FOLDER_FIRST, &found, err)) {
        return false;
    }
    if (!found.commit[0]) {
        return error_set(err, ERR_NOT_FOUND, "the cache has no '%s' at the revision '%.100s'.", r->repo,
                         hub_reference_revision(r));
    }
    if (selected) {
        return remove_selected(cache, r, found.commit, out, err) || error_wrap(err, "%s", r->repo);
    }
    if (!has_other_snapshot(cache, r->repo, found.commit)) {
        return remove_repo(cache, r->repo, out, err);
    }
    return remove_chosen(cache, r, found.commit, NULL, out, err);
}
