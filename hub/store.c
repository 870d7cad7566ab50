#include "hub/store.h"

#include "base/clock.h"
#include "base/rng.h"
#include "hub/cache_internal.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOCK_POLL_MS 200
#define PART_SIZE    (HUB_ETAG_MAX + 16) /* "ETAG.incomplete" */

/* What marks a folder as one that backups may leave out (bford.info/cachedir); huggingface_hub writes it too. */
static const char tag_text[] = "Signature: 8a477f597d28d172789f06886806bc55\n"
                               "# This file is a cache directory tag created by tandem.\n"
                               "# For information about cache directory tags, see: https://bford.info/cachedir/\n";

struct hub_store {
    int repo, blobs, snapshots, refs, locks;
};

/* ---- folders ---- */

/* Opens a folder of `dir`, made if it is not there; -1 with errno. */
static int make_dir(int dir, const char *name)
{
    if (mkdirat(dir, name, 0777) != 0 && errno != EEXIST) {
        return -1;
    }
    return cache__open_dir(dir, name);
}

static void close_fd(int fd)
{
    if (fd >= 0) {
        close(fd);
    }
}

static void write_tag(int root)
{
    int fd = openat(root, "CACHEDIR.TAG", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd >= 0) {
        ssize_t n = write(fd, tag_text, sizeof tag_text - 1); /* a hint to backups: without it nothing else changes */
        (void)n;
        close(fd);
    }
}

static bool open_folders(struct hub_store *s, int root, const char *folder)
{
    int all_locks = make_dir(root, ".locks");
    s->locks = all_locks >= 0 ? make_dir(all_locks, folder) : -1;
    close_fd(all_locks);
    s->repo = s->locks >= 0 ? make_dir(root, folder) : -1;
    s->blobs = s->repo >= 0 ? make_dir(s->repo, "blobs") : -1;
    s->snapshots = s->blobs >= 0 ? make_dir(s->repo, "snapshots") : -1;
    s->refs = s->snapshots >= 0 ? make_dir(s->repo, "refs") : -1;
    return s->refs >= 0;
}

struct hub_store *hub_store_open(const char *cache, const char *repo, struct error *err)
{
    char folder[CACHE_FOLDER_MAX];
    if (!hub_repo_check(str_of(repo), err)) {
        return NULL;
    }
    cache__folder_of(repo, folder);
    struct hub_store *s = malloc(sizeof *s);
    if (!s) {
        error_set(err, ERR_NO_MEMORY, "no memory to open the cache.");
        return NULL;
    }
    *s = (struct hub_store){-1, -1, -1, -1, -1};
    if (!dir_make(cache, err)) {
        hub_store_free(s);
        return NULL;
    }
    int root = cache__open_dir(AT_FDCWD, cache);
    bool ok = root >= 0 && open_folders(s, root, folder);
    if (!ok) {
        error_set(err, ERR_IO, "the folder of '%s' in the cache '%.100s' could not be opened: %s.", repo, cache,
                  errno == ELOOP || errno == ENOTDIR ? "a link or a file is in its place" : strerror(errno));
        hub_store_free(s);
        s = NULL;
    } else {
        write_tag(root);
    }
    close_fd(root);
    return s;
}

void hub_store_free(struct hub_store *s)
{
    if (s) {
        close_fd(s->repo);
        close_fd(s->blobs);
        close_fd(s->snapshots);
        close_fd(s->refs);
        close_fd(s->locks);
        free(s);
    }
}

/* ---- contents ---- */

static void part_name(const char *etag, char out[PART_SIZE])
{
    assert(hub_is_etag(str_of(etag)));
    snprintf(out, PART_SIZE, "%s.incomplete", etag);
}

/* A blob may be a link of huggingface_hub's into its store that repositories share. */
bool hub_store_has(const struct hub_store *s, const char *etag, uint64_t size)
{
    struct stat st;
    return fstatat(s->blobs, etag, &st, 0) == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size == size;
}

uint64_t hub_store_partial(const struct hub_store *s, const char *etag)
{
    struct stat st;
    char name[PART_SIZE];
    part_name(etag, name);
    bool there = fstatat(s->blobs, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode);
    return there ? (uint64_t)st.st_size : 0;
}

bool hub_store_space(const struct hub_store *s, uint64_t *available)
{
    struct file_space space;
    bool known = file_space(s->blobs, &space);
    *available = known ? space.available : 0;
    return known;
}

/* A file system without locks is one where nobody waits. */
static bool take_lock(struct hub_store *s, const char *etag, bool (*waiting)(void *arg), void *arg, int *lock,
                      struct error *err)
{
    char name[PART_SIZE];
    snprintf(name, sizeof name, "%s.lock", etag);
    *lock = openat(s->locks, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0664);
    if (*lock < 0) {
        return error_set(err, ERR_IO, "the lock '%s' could not be opened: %s.", name, strerror(errno));
    }
    while (file_lock(*lock) == FILE_BUSY) {
        if (waiting && !waiting(arg)) {
            close_fd(*lock);
            *lock = -1;
            return error_set(err, ERR_CANCELLED, "The download was stopped while another program brought the same.");
        }
        clock_sleep_ms(LOCK_POLL_MS);
    }
    return true;
}

bool hub_store_begin(struct hub_store *s, const char *etag, bool (*waiting)(void *arg), void *arg, struct hub_part *out,
                     struct error *err)
{
    struct stat st;
    char name[PART_SIZE];
    *out = (struct hub_part){.fd = -1, .lock = -1};
    if (!hub_is_etag(str_of(etag))) {
        return error_set(err, ERR_INVALID, "the name of a content in the cache is no checksum.");
    }
    part_name(etag, name);
    snprintf(out->etag, sizeof out->etag, "%s", etag);
    if (!take_lock(s, etag, waiting, arg, &out->lock, err)) {
        return false;
    }
    out->fd = openat(s->blobs, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0666);
    if (out->fd < 0 || fstat(out->fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        error_set(err, ERR_IO, "'%s' could not be opened in the cache: %s.", name,
                  out->fd < 0 ? strerror(errno) : "it is no regular file");
        hub_store_leave(out);
        return false;
    }
    out->size = (uint64_t)st.st_size;
    return true;
}

void hub_store_leave(struct hub_part *part)
{
    close_fd(part->fd);
    close_fd(part->lock);
    part->fd = part->lock = -1;
}

void hub_store_drop(struct hub_store *s, struct hub_part *part)
{
    char name[PART_SIZE];
    part_name(part->etag, name);
    unlinkat(s->blobs, name, 0);
    hub_store_leave(part);
}

bool hub_store_finish(struct hub_store *s, struct hub_part *part, struct error *err)
{
    char name[PART_SIZE];
    part_name(part->etag, name);
    bool ok = fsync(part->fd) == 0 && renameat(s->blobs, name, s->blobs, part->etag) == 0 && fsync(s->blobs) == 0;
    if (!ok) {
        error_set(err, ERR_IO, "'%s' could not be written to the cache: %s.", name, strerror(errno));
    }
    hub_store_leave(part);
    return ok;
}

/* ---- paths below a folder ---- */

struct place {
    int dir; /* of the last part; the caller closes it */
    int depth;
    char name[HUB_FILE_MAX + 1]; /* the last part */
};

/* Makes the folders of a path below `base`; false with errno. */
static bool make_place(int base, struct str path, struct place *out)
{
    struct str rest = path, part;
    *out = (struct place){.dir = fcntl(base, F_DUPFD_CLOEXEC, 0)};
    while (out->dir >= 0 && str_split(&rest, '/', &part)) {
        snprintf(out->name, sizeof out->name, STR_FMT, STR_ARG(part));
        if (rest.len) {
            int next = make_dir(out->dir, out->name);
            int reason = errno;
            close(out->dir);
            errno = reason;
            out->dir = next;
            out->depth++;
        }
    }
    return out->dir >= 0;
}

static void temporary_name(char out[32])
{
    snprintf(out, 32, ".tmp-%016llx", (unsigned long long)rng_entropy64());
}

/* ---- snapshots and refs ---- */

static int open_snapshot(struct hub_store *s, const char *commit, struct error *err)
{
    if (!hub_is_commit(str_of(commit))) {
        error_set(err, ERR_INVALID, "the name of a snapshot is no commit.");
        return -1;
    }
    int fd = make_dir(s->snapshots, commit);
    if (fd < 0) {
        error_set(err, ERR_IO, "the snapshot '%s' could not be made: %s.", commit, strerror(errno));
    }
    return fd;
}

bool hub_store_snapshot(struct hub_store *s, const char *commit, struct error *err)
{
    int fd = open_snapshot(s, commit, err);
    close_fd(fd);
    return fd >= 0;
}

/* The link appears in one step, in the place of whatever file was there. */
static bool put_link(const struct place *p, const char *target)
{
    char temporary[32], there[HUB_PATH_MAX];
    ssize_t n = readlinkat(p->dir, p->name, there, sizeof there);
    if (n > 0 && str_eq((struct str){there, (size_t)n}, str_of(target))) {
        return true;
    }
    temporary_name(temporary);
    if (symlinkat(target, p->dir, temporary) != 0) {
        return false;
    }
    if (renameat(p->dir, temporary, p->dir, p->name) != 0) {
        int reason = errno;
        unlinkat(p->dir, temporary, 0);
        errno = reason;
        return false;
    }
    return true;
}

/* "../../blobs/ETAG", with one "../" more for each folder that the file is in. */
static void target_of(const struct place *p, const char *etag, char *out, size_t size)
{
    size_t len = 0;
    for (int i = 0; i < p->depth + 2; i++) {
        len += (size_t)snprintf(out + len, size - len, "../");
    }
    snprintf(out + len, size - len, "blobs/%s", etag);
}

bool hub_store_link(struct hub_store *s, const char *commit, struct str path, const char *etag, struct error *err)
{
    char target[3 * (HUB_FILE_PARTS + 2) + HUB_ETAG_MAX + 8];
    struct place place = {.dir = -1};
    if (!hub_file_check(path, err)) {
        return false;
    }
    if (!hub_is_etag(str_of(etag))) {
        return error_set(err, ERR_INVALID, "the name of a content in the cache is no checksum.");
    }
    int snapshot = open_snapshot(s, commit, err);
    if (snapshot < 0) {
        return false;
    }
    bool ok = make_place(snapshot, path, &place);
    if (ok) {
        target_of(&place, etag, target, sizeof target);
        ok = put_link(&place, target);
    }
    if (!ok) {
        error_set(err, ERR_IO, "the link '" STR_FMT "' could not be made in the cache: %s.",
                  STR_ARG(str_slice(path, 0, 120)), strerror(errno));
    }
    close_fd(place.dir);
    close_fd(snapshot);
    return ok;
}

static bool put_text(const struct place *p, const char *text)
{
    char temporary[32];
    temporary_name(temporary);
    int fd = openat(p->dir, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    bool ok = fd >= 0 && file_write_at(fd, 0, text, strlen(text)) && fsync(fd) == 0;
    close_fd(fd);
    ok = ok && renameat(p->dir, temporary, p->dir, p->name) == 0;
    if (!ok && fd >= 0) {
        int reason = errno;
        unlinkat(p->dir, temporary, 0);
        errno = reason;
    }
    return ok;
}

bool hub_store_ref(struct hub_store *s, const char *revision, const char *commit, struct error *err)
{
    struct place place = {.dir = -1};
    if (!hub_revision_check(str_of(revision), err)) {
        return false;
    }
    if (!hub_is_commit(str_of(commit))) {
        return error_set(err, ERR_INVALID, "a revision leads to a commit.");
    }
    if (hub_is_commit(str_of(revision))) {
        return true;
    }
    bool ok = make_place(s->refs, str_of(revision), &place) && put_text(&place, commit);
    if (!ok) {
        error_set(err, ERR_IO, "the revision '%.100s' could not be kept in the cache: %s.", revision, strerror(errno));
    }
    close_fd(place.dir);
    return ok;
}
