#include "base/sys_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <mach-o/dyld.h>
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
        n = snprintf(out, size, "%s/Library/Caches/tandem", home);
    }
    return n > 0 && (size_t)n < size;
}

bool sys_self_path(char *out, size_t size)
{
    uint32_t room = (uint32_t)size;
    return _NSGetExecutablePath(out, &room) == 0;
}

void file_prefetch(int fd, uint64_t offset, uint64_t size)
{
    struct radvisory advice = {.ra_offset = (off_t)offset, .ra_count = size > INT_MAX ? INT_MAX : (int)size};
    fcntl(fd, F_RDADVISE, &advice);
}

bool file_reserve(int fd, uint64_t from, uint64_t size)
{
    fstore_t store = {.fst_flags = F_ALLOCATEALL,
                      .fst_posmode = F_PEOFPOSMODE, /* behind the file's end, which is at `from` */
                      .fst_length = (off_t)(size > from ? size - from : 0)};
    if (size <= from) {
        return true;
    }
    return (fcntl(fd, F_PREALLOCATE, &store) == 0 || errno == ENOTSUP) && ftruncate(fd, (off_t)size) == 0;
}
