#include "base/sys_file.h"

#include "base/rng.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static bool open_regular(const char *path, int *fd, size_t *size, struct error *err)
{
    struct stat st;
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a named pipe must not hold us up before it is refused */
    if (*fd < 0) {
        return error_set(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "'%s' could not be opened: %s.", path,
                         strerror(errno));
    }
    if (fstat(*fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        close(*fd);
        return error_set(err, ERR_IO, "'%s' is not a regular file.", path);
    }
    *size = (size_t)st.st_size;
    return true;
}

bool mapped_file_open(const char *path, struct mapped_file *out, struct error *err)
{
    int fd;
    *out = (struct mapped_file){0};
    if (!open_regular(path, &fd, &out->size, err)) {
        return false;
    }
    if (out->size) {
        void *data = mmap(NULL, out->size, PROT_READ, MAP_SHARED, fd, 0);
        if (data == MAP_FAILED) {
            error_set(err, ERR_IO, "'%s' could not be mapped: %s.", path, strerror(errno));
            close(fd);
            *out = (struct mapped_file){0};
            return false;
        }
        out->data = data;
    }
    close(fd);
    return true;
}

void mapped_file_close(struct mapped_file *f)
{
    if (f->data) {
        munmap((void *)f->data, f->size);
    }
    *f = (struct mapped_file){0};
}

void mapped_file_drop(const struct mapped_file *f, size_t offset, size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t from = (offset + page - 1) / page * page, to = (offset + size) / page * page;
    if (f->data && offset + size >= offset && offset + size <= f->size && to > from) {
        madvise((char *)f->data + from, to - from, MADV_DONTNEED); /* posix_madvise's DONTNEED does nothing on Linux */
    }
}

void mapped_file_prefetch(const struct mapped_file *f, size_t offset, size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), from = offset / page * page;
    if (f->data && offset < f->size && size <= f->size - offset) {
        posix_madvise((char *)f->data + from, offset + size - from, POSIX_MADV_WILLNEED);
    }
}

bool file_read(const char *path, size_t max_size, struct buf *out, struct error *err)
{
    int fd;
    size_t size;
    buf_init(out, max_size);
    if (!open_regular(path, &fd, &size, err)) {
        return false;
    }
    bool ok = true;
    char block[16384];
    for (ssize_t n; ok && (n = read(fd, block, sizeof block)) != 0;) {
        if (n < 0 && errno != EINTR) {
            ok = error_set(err, ERR_IO, "'%s' could not be read: %s.", path, strerror(errno));
        } else if (n > 0) {
            buf_append_bytes(out, block, (size_t)n);
            ok = buf_ok(out, path, err);
        }
    }
    close(fd);
    if (!ok) {
        buf_release(out);
    }
    return ok;
}

static bool write_all(int fd, struct str content)
{
    while (content.len) {
        ssize_t n = write(fd, content.ptr, content.len);
        if (n < 0 && errno != EINTR) {
            return false;
        }
        content = str_slice(content, n > 0 ? (size_t)n : 0, content.len);
    }
    return true;
}

bool file_write_atomic(const char *path, struct str content, struct error *err)
{
    char temporary[4096];
    int n = snprintf(temporary, sizeof temporary, "%s.%08x", path, (unsigned)rng_entropy64());
    if (n < 0 || n >= (int)sizeof temporary) {
        return error_set(err, ERR_INVALID, "the path '%.100s...' is too long.", path);
    }
    int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        return error_set(err, ERR_IO, "'%s' could not be made: %s.", temporary, strerror(errno));
    }
    bool ok = write_all(fd, content) && fsync(fd) == 0;
    int reason = errno;
    if (close(fd) != 0 && ok) {
        ok = false;
        reason = errno;
    }
    if (ok && rename(temporary, path) != 0) {
        ok = false;
        reason = errno;
    }
    if (!ok) {
        unlink(temporary);
        error_set(err, ERR_IO, "'%s' could not be written: %s.", path, strerror(reason));
    }
    return ok;
}

bool file_exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

bool dir_exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

bool dir_make(const char *path, struct error *err)
{
    char part[4096];
    size_t len = strlen(path);
    if (len >= sizeof part) {
        return error_set(err, ERR_INVALID, "the path '%.100s...' is too long.", path);
    }
    for (size_t i = 1; i <= len; i++) {
        if (path[i] == '/' || path[i] == '\0') {
            memcpy(part, path, i);
            part[i] = '\0';
            int reason = mkdir(part, 0777) != 0 ? errno : 0;
            if (reason && !dir_exists(part)) { /* EROFS and others also come for folders that exist */
                return error_set(err, ERR_IO, "the folder '%s' could not be made: %s.", part, strerror(reason));
            }
        }
    }
    return dir_exists(path) || error_set(err, ERR_IO, "'%s' is not a folder.", path);
}

/* ---- parts of open files ---- */

bool file_read_at(int fd, uint64_t offset, void *out, size_t size)
{
    char *to = out;
    while (size > 0) {
        ssize_t n = pread(fd, to, size, (off_t)offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            errno = n == 0 ? ENODATA : errno;
            return false;
        }
        to += n;
        offset += (uint64_t)n;
        size -= (size_t)n;
    }
    return true;
}

bool file_write_at(int fd, uint64_t offset, const void *data, size_t size)
{
    const char *from = data;
    while (size > 0) {
        ssize_t n = pwrite(fd, from, size, (off_t)offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            errno = n == 0 ? EIO : errno;
            return false;
        }
        from += n;
        offset += (uint64_t)n;
        size -= (size_t)n;
    }
    return true;
}

bool file_cut(int fd, uint64_t size)
{
    return size <= INT64_MAX && ftruncate(fd, (off_t)size) == 0;
}

enum file_lock file_lock(int fd)
{
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
        return FILE_LOCKED;
    }
    return errno == EWOULDBLOCK ? FILE_BUSY : FILE_NO_LOCKS;
}

void file_unlock(int fd)
{
    flock(fd, LOCK_UN);
}

bool file_space(int fd, struct file_space *out)
{
    struct statvfs st;
    if (fstatvfs(fd, &st) != 0) {
        return false;
    }
    *out = (struct file_space){.total = (uint64_t)st.f_frsize * st.f_blocks,
                               .available = (uint64_t)st.f_frsize * st.f_bavail};
    return true;
}

bool sys_config_dir(char *out, size_t size)
{
    const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    int n = -1;
    if (config && config[0] == '/') {
        n = snprintf(out, size, "%s/tandem", config);
    } else if (home && home[0]) {
        n = snprintf(out, size, "%s/.config/tandem", home);
    }
    return n > 0 && (size_t)n < size;
}
