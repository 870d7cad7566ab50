#include "base/sys_file.h"

#include <mach-o/dyld.h>
#include <stdio.h>
#include <stdlib.h>

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
