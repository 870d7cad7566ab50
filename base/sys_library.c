#define _GNU_SOURCE /* dladdr */

#include "base/sys_library.h"

#include <dlfcn.h>
#include <stdio.h>
#include <unistd.h>

void *sys_library_open(const char *path, struct error *err)
{
    if (access(path, R_OK) != 0) {
        error_set(err, ERR_NOT_FOUND, "There is no shared object '%.160s'.", path);
        return NULL;
    }
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        const char *why = dlerror();
        error_set(err, ERR_UNSUPPORTED, "The shared object could not be loaded: %s", why ? why : "no reason is given");
    }
    return library;
}

void *sys_library_symbol(void *library, const char *name)
{
    return dlsym(library, name);
}

bool sys_library_own_path(char *out, size_t size)
{
    static const char here = 0;
    Dl_info info;
    if (!dladdr(&here, &info) || !info.dli_fname) {
        return false;
    }
    int n = snprintf(out, size, "%s", info.dli_fname);
    return n > 0 && (size_t)n < size;
}
