#include "hub/cache_internal.h"

#include "base/array.h"
#include "base/limits.h"
#include "base/sys_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- folders ---- */

void cache__folder_of(const char *repo, char out[CACHE_FOLDER_MAX])
{
    const char *slash = strchr(repo, '/');
    snprintf(out, CACHE_FOLDER_MAX, "models--%.*s--%s", (int)(slash - repo), repo, slash + 1);
}

bool cache__repo_of(const char *folder, char out[HUB_REPO_MAX + 1])
{
    struct error ignored = {0};
    struct str name = str_of(folder);
    if (!str_starts(name, STR("models--"))) {
        return false;
    }
    name = str_slice(name, strlen("models--"), name.len);
    size_t at = str_find(name, STR("--"));
    if (at == STR_NPOS || name.len > HUB_REPO_MAX) {
        return false;
    }
    snprintf(out, HUB_REPO_MAX + 1, "%.*s/%s", (int)at, name.ptr, name.ptr + at + 2);
    return hub_repo_check(str_of(out), &ignored);
}

int cache__open_dir(int dir, const char *name)
{
    return openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | (dir == AT_FDCWD ? 0 : O_NOFOLLOW));
}

int cache__open_repo(const char *cache, const char *repo, const char *below)
{
    char folder[CACHE_FOLDER_MAX];
    cache__folder_of(repo, folder);
    int root = cache__open_dir(AT_FDCWD, cache);
    int dir = root >= 0 ? cache__open_dir(root, folder) : -1;
    int fd = dir >= 0 ? cache__open_dir(dir, below) : -1;
    int reason = errno;
    if (dir >= 0) {
        close(dir);
    }
    if (root >= 0) {
        close(root);
    }
    errno = reason;
    return fd;
}

/* ---- walking through one ---- */

struct walk {
    bool (*visit)(void *arg, const struct cache_entry *e);
    void *arg;
    char path[HUB_PATH_MAX]; /* of what is looked at */
    bool left_out;
};

static bool walk_dir(struct walk *w, int dir, size_t len, int depth);

static bool walk_entry(struct walk *w, int dir, const char *name, size_t len, int depth)
{
    struct stat st;
    int n = snprintf(w->path + len, sizeof w->path - len, "%s%s", len ? "/" : "", name);
    bool fits = n > 0 && (size_t)n < sizeof w->path - len;
    if (!fits || fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
        w->left_out = w->left_out || !fits || errno != ENOENT; /* which has just gone */
        return true;
    }
    if (S_ISDIR(st.st_mode)) {
        int below = depth < CACHE_DEPTH_MAX ? cache__open_dir(dir, name) : -1;
        w->left_out = w->left_out || below < 0;
        return below < 0 || walk_dir(w, below, len + (size_t)n, depth + 1);
    }
    struct cache_entry e = {.dir = dir, .name = name, .path = w->path, .is_link = S_ISLNK(st.st_mode)};
    return (!e.is_link && !S_ISREG(st.st_mode)) || w->visit(w->arg, &e);
}

/* Takes the descriptor. */
static bool walk_dir(struct walk *w, int dir, size_t len, int depth)
{
    DIR *d = fdopendir(dir);
    bool ok = d != NULL;
    if (!d) {
        close(dir);
    }
    for (struct dirent *entry; ok && (entry = readdir(d));) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            ok = walk_entry(w, dir, entry->d_name, len, depth);
        }
    }
    if (d) {
        closedir(d);
    }
    return ok;
}

bool cache__walk(int dir, bool (*visit)(void *arg, const struct cache_entry *e), void *arg, bool *all)
{
    struct walk w = {.visit = visit, .arg = arg};
    bool ok = walk_dir(&w, dir, 0, 1);
    if (all && w.left_out) {
        *all = false;
    }
    return ok;
}

bool cache__blob_of(const struct cache_entry *e, char out[256])
{
    char target[PATH_MAX];
    ssize_t n = e->is_link ? readlinkat(e->dir, e->name, target, sizeof target - 1) : -1;
    if (n <= 0) {
        return false;
    }
    struct str rest = {target, (size_t)n}, up = STR("../");
    while (str_starts(rest, up)) {
        rest = str_slice(rest, up.len, rest.len);
    }
    struct str blobs = STR("blobs/"), name = str_slice(rest, blobs.len, rest.len);
    if (!str_starts(rest, blobs) || name.len == 0 || name.len > 255 || str_find_char(name, '/') != STR_NPOS) {
        return false;
    }
    snprintf(out, 256, STR_FMT, STR_ARG(name));
    return true;
}

/* ---- a snapshot ---- */

struct collector {
    struct hub_listing *out;
    struct arena *arena;
    const char *folder, *root; /* paths of the snapshot, and of the cache without links */
    size_t cap;
    struct error *err;
};

/* Whether what the path leads to is a regular file in the cache; its size. */
static bool is_inside(const struct collector *c, const char *path, uint64_t *size)
{
    char whole[HUB_PATH_MAX + HUB_FILE_MAX + 2], target[PATH_MAX];
    struct stat st;
    int n = snprintf(whole, sizeof whole, "%s/%s", c->folder, path);
    size_t len = strlen(c->root);
    if (n < 0 || (size_t)n >= sizeof whole || !realpath(whole, target) || strncmp(target, c->root, len) != 0 ||
        target[len] != '/' || lstat(target, &st) != 0 || !S_ISREG(st.st_mode)) {
        return false;
    }
    *size = (uint64_t)st.st_size;
    return true;
}

static bool collect(void *arg, const struct cache_entry *e)
{
    struct collector *c = arg;
    struct error ignored = {0};
    uint64_t size;
    if (!hub_file_check(str_of(e->path), &ignored) || !is_inside(c, e->path, &size)) {
        return true;
    }
    if (!array_reserve(&c->out->files, &c->cap, c->out->n + 1, LIMIT_HUB_FILES, "files of a snapshot", c->err)) {
        return false;
    }
    struct hub_file *f = &c->out->files[c->out->n];
    *f = (struct hub_file){.path = arena_str(c->arena, str_of(e->path)), .size = size};
    c->out->n++;
    return f->path.ptr || arena_full(c->arena, "files of a snapshot", c->err);
}

static bool snapshot_path(const char *cache, const char *repo, const char *commit, char out[HUB_PATH_MAX])
{
    char folder[CACHE_FOLDER_MAX];
    cache__folder_of(repo, folder);
    int n = snprintf(out, HUB_PATH_MAX, "%s/%s/snapshots/%s", cache, folder, commit);
    return n > 0 && n < HUB_PATH_MAX;
}

static int open_snapshot(const char *cache, const char *repo, const char *commit)
{
    int snapshots = cache__open_repo(cache, repo, "snapshots");
    int dir = snapshots >= 0 ? cache__open_dir(snapshots, commit) : -1;
    if (snapshots >= 0) {
        close(snapshots);
    }
    return dir;
}

/* The files that were collected, in the arena. */
static bool keep_files(struct hub_listing *l, struct arena *arena, struct error *err)
{
    struct hub_file *files = arena_alloc_array(arena, l->n + 1, sizeof *files);
    if (files && l->n) {
        memcpy(files, l->files, l->n * sizeof *files);
    }
    free(l->files);
    l->files = files;
    l->n = files ? l->n : 0;
    return files || arena_full(arena, "files of a snapshot", err);
}

bool hub_cache_listing(const char *cache, const char *repo, const char *commit, struct arena *arena,
                       struct hub_listing *out, struct error *err)
{
    char folder[HUB_PATH_MAX], root[PATH_MAX];
    struct error found = {0}; /* while walking */
    struct collector c = {.out = out, .arena = arena, .folder = folder, .root = root, .err = &found};
    *out = (struct hub_listing){0};
    snprintf(out->commit, sizeof out->commit, "%s", commit);
    if (!snapshot_path(cache, repo, commit, folder)) {
        return error_set(err, ERR_INVALID, "the path of the cache is too long.");
    }
    int dir = realpath(cache, root) ? open_snapshot(cache, repo, commit) : -1;
    if (dir >= 0 && !cache__walk(dir, collect, &c, NULL)) {
        free(out->files);
        *out = (struct hub_listing){0};
        if (found.code) {
            *err = found;
            return false;
        }
        return error_set(err, ERR_IO, "the folder '%.160s' could not be read: %s.", folder, strerror(errno));
    }
    if (!keep_files(out, arena, err)) {
        return false;
    }
    hub_listing_sort(out);
    return true;
}

/* ---- revisions ---- */

/* refs/REVISION, which may be in folders of its own. */
static bool read_ref(const char *cache, const char *repo, const char *revision, char commit[HUB_COMMIT_SIZE + 1])
{
    char text[HUB_COMMIT_SIZE + 1];
    struct str rest = str_of(revision), part;
    int dir = cache__open_repo(cache, repo, "refs"), file = -1;
    while (dir >= 0 && str_split(&rest, '/', &part)) {
        char name[HUB_REVISION_MAX + 1];
        snprintf(name, sizeof name, STR_FMT, STR_ARG(part));
        int next = rest.len ? cache__open_dir(dir, name) : -1;
        file = rest.len ? -1 : openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        close(dir);
        dir = next;
    }
    ssize_t n = file >= 0 ? read(file, text, sizeof text) : -1; /* one byte more is no commit */
    if (file >= 0) {
        close(file);
    }
    while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == '\r')) {
        n--;
    }
    if (n != HUB_COMMIT_SIZE || !hub_is_commit((struct str){text, (size_t)n})) {
        return false;
    }
    memcpy(commit, text, HUB_COMMIT_SIZE);
    commit[HUB_COMMIT_SIZE] = '\0';
    return true;
}

static bool commit_of(const char *cache, const struct hub_reference *r, char commit[HUB_COMMIT_SIZE + 1])
{
    const char *revision = hub_reference_revision(r);
    if (hub_is_commit(str_of(revision))) {
        memcpy(commit, revision, HUB_COMMIT_SIZE + 1);
        return true;
    }
    return read_ref(cache, r->repo, revision, commit);
}

/* ---- finding ---- */

static bool has_partial(const char *cache, const char *repo)
{
    int fd = cache__open_repo(cache, repo, "blobs");
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    bool found = false;
    for (struct dirent *entry; dir && !found && (entry = readdir(dir));) {
        found = str_ends(str_of(entry->d_name), STR(".incomplete"));
    }
    if (dir) {
        closedir(dir);
    } else if (fd >= 0) {
        close(fd);
    }
    return found;
}

/* Weights that are there whole mean that the rest is, when Tandem brought them. Others may bring files in any order:
 * then a tokenizer that lacks, beside something that has not come whole, may still be to come. */
static void judge(const char *cache, const char *repo, const struct hub_listing *l, const struct hub_choice *c,
                  struct hub_cached *out)
{
    char folder[HUB_PATH_MAX];
    bool lacks = hub_choice_lacks(c, out->missing, sizeof out->missing);
    if (!lacks && c->is_folder && !hub_listing_find(l, STR("tokenizer.json")) && has_partial(cache, repo)) {
        snprintf(out->missing, sizeof out->missing, "tokenizer.json");
        lacks = true;
    }
    out->is_folder = c->is_folder;
    out->size = c->size;
    snprintf(out->precision, sizeof out->precision, STR_FMT, STR_ARG(c->precision));
    int n = -1;
    if (snapshot_path(cache, repo, l->commit, folder)) {
        n = snprintf(out->path, sizeof out->path, "%s%s" STR_FMT, folder, c->is_folder ? "" : "/", STR_ARG(c->main));
    }
    out->state = lacks || n < 0 || (size_t)n >= sizeof out->path ? HUB_INCOMPLETE : HUB_COMPLETE;
}

static bool is_there(const char *cache, const char *repo, const char *commit)
{
    int dir = open_snapshot(cache, repo, commit);
    if (dir >= 0) {
        close(dir);
    }
    return dir >= 0;
}

bool hub_cache_find(const char *cache, const struct hub_reference *r, enum hub_folder_use folder,
                    struct hub_cached *out, struct error *err)
{
    struct hub_listing l;
    struct hub_choice choice;
    struct error ignored = {0};
    *out = (struct hub_cached){.state = HUB_ABSENT};
    if (!commit_of(cache, r, out->commit) || !is_there(cache, r->repo, out->commit)) {
        return true;
    }
    struct arena *arena = arena_create(LIMIT_HUB_ARENA);
    if (!arena) {
        return error_set(err, ERR_NO_MEMORY, "no memory to look into the cache.");
    }
    bool ok = hub_cache_listing(cache, r->repo, out->commit, arena, &l, err);
    if (ok && hub_choose(&l, r, folder, arena, &choice, &ignored)) {
        judge(cache, r->repo, &l, &choice, out);
    } else if (ok && has_partial(cache, r->repo)) {
        out->state = HUB_INCOMPLETE;
    }
    arena_free(arena);
    return ok;
}

/* ---- all there is ---- */

struct names {
    char (*items)[HUB_REPO_MAX + 1];
    size_t n, cap;
};

static int compare_names(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* Names in a folder (which it closes) that `accept` turns into names of its own; sorted. */
static bool find_names(int fd, bool (*accept)(const char *entry, char out[HUB_REPO_MAX + 1]), struct names *out,
                       struct error *err)
{
    DIR *dir = fdopendir(fd);
    bool ok = true;
    if (!dir) {
        close(fd);
    }
    for (struct dirent *entry; dir && ok && (entry = readdir(dir));) {
        char name[HUB_REPO_MAX + 1];
        if (accept(entry->d_name, name)) {
            ok = array_reserve(&out->items, &out->cap, out->n + 1, LIMIT_HUB_MODELS, "models of the cache", err);
            memcpy(ok ? out->items[out->n++] : name, name, ok ? sizeof name : 0);
        }
    }
    if (dir) {
        closedir(dir);
    }
    if (ok && out->n) {
        qsort(out->items, out->n, sizeof out->items[0], compare_names);
    }
    return ok;
}

static bool accept_commit(const char *entry, char out[HUB_REPO_MAX + 1])
{
    snprintf(out, HUB_REPO_MAX + 1, "%.*s", HUB_COMMIT_SIZE, entry);
    return hub_is_commit(str_of(entry));
}

struct each {
    const char *cache, *repo;
    const struct hub_listing *listing;
    bool is_main;
    struct str precision; /* of the choice before */
    void (*call)(void *arg, const char *repo, const struct hub_cached *c);
    void *arg;
    size_t n;
};

static void show_choice(void *arg, const struct hub_choice *c)
{
    struct each *e = arg;
    struct hub_cached cached = {.state = HUB_ABSENT, .is_main = e->is_main};
    memcpy(cached.commit, e->listing->commit, sizeof cached.commit);
    cached.is_second = c->precision.len && str_eq(c->precision, e->precision); /* they come in this order */
    e->precision = c->precision;
    judge(e->cache, e->repo, e->listing, c, &cached);
    e->call(e->arg, e->repo, &cached);
    e->n++;
}

static bool show_snapshot(struct each *e, const char *commit, struct error *err)
{
    struct hub_listing l;
    struct hub_choice choice;
    struct error ignored = {0};
    struct arena *arena = arena_create(LIMIT_HUB_ARENA);
    if (!arena) {
        return error_set(err, ERR_NO_MEMORY, "no memory to look into the cache.");
    }
    bool ok = hub_cache_listing(e->cache, e->repo, commit, arena, &l, err);
    e->listing = &l;
    e->precision = STR("");
    e->n = 0;
    if (ok) {
        struct hub_reference folder = {.kind = HUB_REPO, .precision = "safetensors"};
        if (hub_has_folder(&l) && hub_choose(&l, &folder, HUB_FOLDER_FIRST, arena, &choice, &ignored)) {
            show_choice(e, &choice);
        }
        hub_choose_each_gguf(&l, arena, show_choice, e);
    }
    if (ok && e->n == 0 && has_partial(e->cache, e->repo)) {
        struct hub_cached cached = {.state = HUB_INCOMPLETE, .is_main = e->is_main};
        memcpy(cached.commit, l.commit, sizeof cached.commit);
        for (size_t i = 0; i < l.n; i++) {
            cached.size += l.files[i].size;
        }
        e->call(e->arg, e->repo, &cached);
    }
    arena_free(arena);
    return ok;
}

static bool show_repo(struct each *e, struct error *err)
{
    struct names commits = {0};
    char main[HUB_COMMIT_SIZE + 1] = "";
    bool has_main = read_ref(e->cache, e->repo, HUB_MAIN_REVISION, main);
    int fd = cache__open_repo(e->cache, e->repo, "snapshots");
    bool ok = fd < 0 || find_names(fd, accept_commit, &commits, err);
    for (size_t i = 0; ok && i < commits.n; i++) {
        e->is_main = has_main && strcmp(main, commits.items[i]) == 0;
        ok = show_snapshot(e, commits.items[i], err);
    }
    free(commits.items);
    return ok;
}

bool hub_cache_each(const char *cache, void (*each)(void *arg, const char *repo, const struct hub_cached *c), void *arg,
                    struct error *err)
{
    struct each e = {.cache = cache, .call = each, .arg = arg};
    struct names repos = {0};
    int fd = cache__open_dir(AT_FDCWD, cache);
    if (fd < 0) {
        return errno == ENOENT || errno == ENOTDIR ||
               error_set(err, ERR_IO, "the cache '%.160s' could not be opened: %s.", cache, strerror(errno));
    }
    bool ok = find_names(fd, cache__repo_of, &repos, err);
    for (size_t i = 0; ok && i < repos.n; i++) {
        e.repo = repos.items[i];
        ok = show_repo(&e, err);
    }
    free(repos.items);
    return ok;
}
