#define _GNU_SOURCE
#include "base/sys_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

bool sys_cache_dir(char *out, size_t size)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int n = -1;
    if (cache && cache[0] == '/') {
        n = snprintf(out, size, "%s/tandem", cache);
    } else if (home && home[0]) {
        n = snprintf(out, size, "%s/.cache/tandem", home);
    }
    return n > 0 && (size_t)n < size;
}

bool sys_self_path(char *out, size_t size)
{
    ssize_t n = readlink("/proc/self/exe", out, size);
    if (n <= 0 || (size_t)n >= size) {
        return false;
    }
    out[n] = '\0';
    /* Replaced while it runs: the kernel still knows the old file, which is the one that fits this process. */
    if (str_ends((struct str){out, (size_t)n}, STR(" (deleted)"))) {
        snprintf(out, size, "/proc/self/exe");
    }
    return true;
}

void file_prefetch(int fd, uint64_t offset, uint64_t size)
{
    posix_fadvise(fd, (off_t)offset, (off_t)size, POSIX_FADV_WILLNEED);
}

/* Not posix_fallocate, which writes zeros where the file system cannot set blocks aside. */
bool file_reserve(int fd, uint64_t from, uint64_t size)
{
    if (size <= from || fallocate(fd, 0, (off_t)from, (off_t)(size - from)) == 0) {
        return true;
    }
    return (errno == EOPNOTSUPP || errno == ENOSYS) && ftruncate(fd, (off_t)size) == 0;
}
