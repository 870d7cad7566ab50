/* Several engines may share a folder: of one model and build only one writes, and all together keep to the folder's
 * limit. Whoever opens, grows or removes a store holds the lock on DIR/lock meanwhile; a store's own lock says that it
 * has a writer. Stores that nobody writes to any more (another build's, another model's) are removed, the longest
 * unused first, when somebody else needs their room. */
#include "engine/kv_disk_internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/sys_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAME_PREFIX "tandem-kv"
#define NAME_SUFFIX ".pages"
#define LOCK_NAME   "lock"
#define GROW_SIZE   ((uint64_t)64 << 20) /* at once: few system calls, little set aside in vain */
#define GROW_SLOTS  16                   /* at least, when slots are large */
#define KEEP_SHARE  32                   /* of the file system one part in so many stays free ... */
#define KEEP_MOST   ((uint64_t)1 << 30)  /* ... but no more than this */

#define LOCK_POLL_MS 10
#define OPEN_WAIT_MS 5000
#define GROW_WAIT_MS 200 /* reads wait behind it */

static bool failed(struct error *err, const char *what, const char *name)
{
    return error_set(err, ERR_IO, "%s '%s' could not be %s: %s.",
                     strcmp(name, LOCK_NAME) == 0 ? "The lock" : "The file", name, what, strerror(errno));
}

/* ---- the folder ---- */

/* Parents as any folder; the last one is nobody else's: it will hold what people wrote. */
bool kv_disk_make_dir(const char *dir, struct error *err)
{
    char parent[4096];
    size_t len = strlen(dir);
    if (len == 0 || len >= sizeof parent) {
        return error_set(err, ERR_INVALID, "The path has %zu bytes; 1 to %zu are possible.", len, sizeof parent - 1);
    }
    memcpy(parent, dir, len + 1);
    while (len > 1 && parent[len - 1] == '/') {
        parent[--len] = '\0';
    }
    char *slash = strrchr(parent, '/');
    if (mkdir(parent, 0700) == 0 || errno == EEXIST) {
        return true;
    }
    if (errno != ENOENT || !slash || slash == parent) {
        return error_set(err, ERR_IO, "The folder could not be made: %s.", strerror(errno));
    }
    *slash = '\0';
    if (!dir_make(parent, err)) {
        return false;
    }
    *slash = '/';
    return mkdir(parent, 0700) == 0 || errno == EEXIST ||
           error_set(err, ERR_IO, "The folder could not be made: %s.", strerror(errno));
}

/* Whoever can write to the folder can put words into the model's mouth. */
static bool check_dir(int fd, struct error *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0) {
        return error_set(err, ERR_IO, "The folder could not be looked at: %s.", strerror(errno));
    }
    if (st.st_uid != geteuid() && st.st_uid != 0) {
        return error_set(err, ERR_INVALID, "The folder belongs to user %ld; it has to be one's own (%ld).",
                         (long)st.st_uid, (long)geteuid());
    }
    if (st.st_mode & (S_IWGRP | S_IWOTH)) {
        return error_set(err, ERR_INVALID,
                         "Others may write to the folder (mode %03o), so what it holds could not be trusted; "
                         "'chmod go-w' it.",
                         (unsigned)(st.st_mode & 0777));
    }
    return true;
}

static bool open_dir(struct kv_disk_store *s, const char *dir, struct error *err)
{
    if (!kv_disk_make_dir(dir, err)) {
        return false;
    }
    s->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->dir_fd < 0) {
        return error_set(err, ERR_IO, "The folder could not be opened: %s.", strerror(errno));
    }
    return check_dir(s->dir_fd, err);
}

/* ---- files of the folder ---- */

/* A regular file right in the folder, our own and under no other name; -1 and errno otherwise. */
static int open_file(const struct kv_disk_store *s, const char *name, int flags)
{
    struct stat st;
    int fd = openat(s->dir_fd, name, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    if (fd < 0) {
        return -1;
    }
    bool ours = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 1 && st.st_uid == geteuid();
    if (!ours) {
        close(fd);
        errno = EPERM;
        return -1;
    }
    return fd;
}

static bool is_store_name(const char *name)
{
    struct str n = str_of(name);
    return str_starts(n, STR(NAME_PREFIX)) && str_ends(n, STR(NAME_SUFFIX));
}

struct others { /* stores beside this one */
    uint64_t size;
    char idle[80]; /* the longest unused of those that nobody writes to; "": none */
    time_t idle_since;
};

static void look_at(const struct kv_disk_store *s, const char *name, struct others *o)
{
    struct stat st;
    if (fstatat(s->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode)) {
        return;
    }
    o->size += (uint64_t)st.st_size;
    int fd = strlen(name) < sizeof o->idle ? open_file(s, name, O_RDWR) : -1;
    if (fd >= 0) {
        if ((!o->idle[0] || st.st_mtime < o->idle_since) && file_lock(fd) == FILE_LOCKED) {
            snprintf(o->idle, sizeof o->idle, "%s", name);
            o->idle_since = st.st_mtime;
        }
        close(fd);
    }
}

static bool look_around(const struct kv_disk_store *s, struct others *o)
{
    int fd = openat(s->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    *o = (struct others){0};
    if (!dir) {
        if (fd >= 0) {
            close(fd);
        }
        return false;
    }
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (is_store_name(entry->d_name) && strcmp(entry->d_name, s->name) != 0) {
            look_at(s, entry->d_name, o);
        }
    }
    closedir(dir);
    return true;
}

/* The bytes that this store may have: what the limit leaves beside the others, of which idle ones are removed while
 * less than `wanted` is left. Under the folder's lock. */
static uint64_t make_room(const struct kv_disk_store *s, uint64_t wanted)
{
    struct others o;
    while (look_around(s, &o)) {
        uint64_t room = s->max_size > o.size ? s->max_size - o.size : 0;
        if (room >= wanted || !o.idle[0]) {
            return room;
        }
        if (unlinkat(s->dir_fd, o.idle, 0) != 0) {
            LOG_WARN("an unused disk cache could not be removed", "file=\"%s\" error=\"%s\"", o.idle, strerror(errno));
            return room;
        }
        LOG_INFO("unused disk cache removed", "file=\"%s\"", o.idle);
    }
    return 0;
}

/* ---- the store ---- */

/* The head is the one expected, or nothing in the file counts: it is of a version that had the same name, or a crash
 * left it behind before it had a head. It gets one with its first slots. */
static bool has_head(const struct kv_disk_store *s)
{
    uint8_t wanted[KV_DISK_FILE_HEAD], found[KV_DISK_FILE_HEAD];
    kv_disk__put_file_head(s->layout, wanted);
    return file_read_at(s->fd, 0, found, sizeof found) && memcmp(wanted, found, sizeof wanted) == 0;
}

static bool write_head(const struct kv_disk_store *s)
{
    uint8_t head[KV_DISK_FILE_HEAD];
    kv_disk__put_file_head(s->layout, head);
    return file_write_at(s->fd, 0, head, sizeof head);
}

/* Slots that the file has, cut to whole ones and to what the folder's limit leaves. */
static bool fit(struct kv_disk_store *s, struct error *err)
{
    struct stat st;
    if (fstat(s->fd, &st) != 0) {
        return failed(err, "looked at", s->name);
    }
    uint64_t size = has_head(s) ? (uint64_t)st.st_size : 0;
    if (s->read_only) {
        s->n_slots = kv_disk__slots_in(s->layout, size);
        return true;
    }
    uint64_t room = make_room(s, size);
    s->n_slots = kv_disk__slots_in(s->layout, room < size ? room : size);
    return ftruncate(s->fd, (off_t)kv_disk__file_size(s->layout, s->n_slots)) == 0 || failed(err, "cut", s->name);
}

/* For reading alone when somebody else writes to it. */
static bool open_locked(struct kv_disk_store *s, struct error *err)
{
    s->fd = open_file(s, s->name, O_RDWR | O_CREAT);
    if (s->fd < 0) {
        return failed(err, "opened", s->name);
    }
    enum file_lock got = file_lock(s->fd);
    s->read_only = got == FILE_BUSY;
    return got != FILE_NO_LOCKS || failed(err, "locked", s->name);
}

/* Others hold it for milliseconds, unless they were stopped in the middle. */
static bool lock_folder(const struct kv_disk_store *s, int64_t wait_ms)
{
    enum file_lock got = file_lock(s->lock_fd);
    for (; got == FILE_BUSY && wait_ms > 0; wait_ms -= LOCK_POLL_MS) {
        clock_sleep_ms(LOCK_POLL_MS);
        got = file_lock(s->lock_fd);
    }
    return got == FILE_LOCKED;
}

static bool open_in_folder(struct kv_disk_store *s, struct error *err)
{
    s->lock_fd = open_file(s, LOCK_NAME, O_RDWR | O_CREAT);
    if (s->lock_fd < 0) {
        return failed(err, "opened", LOCK_NAME);
    }
    if (!lock_folder(s, OPEN_WAIT_MS)) {
        return failed(err, "taken", LOCK_NAME);
    }
    bool ok = open_locked(s, err) && fit(s, err);
    file_unlock(s->lock_fd);
    return ok;
}

bool kv_disk__store_open(struct kv_disk_store *s, const struct kv_disk_layout *layout, const char *dir,
                         uint64_t max_size, struct error *err)
{
    char hex[2 * SHA256_SIZE + 1];
    *s = (struct kv_disk_store){.layout = layout, .dir_fd = -1, .lock_fd = -1, .fd = -1, .max_size = max_size};
    sha256_hex(&layout->identity, hex);
    snprintf(s->name, sizeof s->name, NAME_PREFIX "1-%.32s" NAME_SUFFIX, hex);
    if (kv_disk__slots_in(layout, max_size) == 0) {
        return error_set(err, ERR_INVALID,
                         "The limit of %llu bytes is too small: a store with one block of this model takes %llu.",
                         (unsigned long long)max_size, (unsigned long long)kv_disk__file_size(layout, 1));
    }
    return open_dir(s, dir, err) && open_in_folder(s, err);
}

void kv_disk__store_close(struct kv_disk_store *s)
{
    int *const fds[] = {&s->fd, &s->lock_fd, &s->dir_fd};
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++) {
        if (*fds[i] >= 0) {
            close(*fds[i]);
        }
        *fds[i] = -1;
    }
}

/* What the file system can spare. */
static uint64_t space_left(const struct kv_disk_store *s)
{
    struct file_space space;
    if (!file_space(s->fd, &space)) {
        return UINT64_MAX; /* writing will tell */
    }
    uint64_t keep = space.total / KEEP_SHARE < KEEP_MOST ? space.total / KEEP_SHARE : KEEP_MOST;
    return space.available > keep ? space.available - keep : 0;
}

static void grow_locked(struct kv_disk_store *s)
{
    uint64_t step = GROW_SIZE / s->layout->slot_size, size = kv_disk__file_size(s->layout, s->n_slots);
    step = step > GROW_SLOTS ? step : GROW_SLOTS;
    uint64_t most = s->n_slots + step < KV_DISK_MAX_SLOTS ? s->n_slots + step : KV_DISK_MAX_SLOTS;
    uint64_t wanted = kv_disk__file_size(s->layout, (uint32_t)most), left = space_left(s);
    uint64_t room = make_room(s, wanted < s->max_size ? wanted : s->max_size);
    room = room < wanted ? room : wanted;
    room = left < room - (size < room ? size : room) ? size + left : room;
    uint32_t n = kv_disk__slots_in(s->layout, room);
    if (n <= s->n_slots) {
        return;
    }
    if (file_reserve(s->fd, size, kv_disk__file_size(s->layout, n)) && (size > 0 || write_head(s))) {
        s->n_slots = n;
    } else {
        LOG_WARN("the disk cache cannot grow", "file=\"%s\" blocks=%u error=\"%s\"", s->name, s->n_slots,
                 strerror(errno));
        (void)!ftruncate(s->fd, (off_t)size);
    }
}

void kv_disk__store_grow(struct kv_disk_store *s)
{
    if (lock_folder(s, GROW_WAIT_MS)) {
        grow_locked(s);
        file_unlock(s->lock_fd);
    }
}

bool kv_disk__store_clear(struct kv_disk_store *s)
{
    s->n_slots = 0;
    return ftruncate(s->fd, 0) == 0;
}
