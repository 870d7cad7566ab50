/* Finds and loads the shared object that holds the mlx backend. Part of the program and of the library; the object
 * holds the rest of this folder. */
#include "backend/mlx/mlx_plugin.h"

#include "base/sys_file.h"
#include "base/sys_library.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#define OBJECT "tandem_mlx.so"

/* From the folders of what this is part of, the program or libtandem, and of the program: it need not be Tandem's. */
static const struct {
    bool (*path)(char *out, size_t size);
    const char *from;
} places[] = {{sys_library_own_path, ""},        /* built */
              {sys_library_own_path, "tandem/"}, /* installed */
              {sys_self_path, ""},
              {sys_self_path, "../lib/tandem/"}};

struct plugin {
    bool (*check)(size_t ops_size, struct error *err);
    struct backend *(*create)(const struct mlx_backend_options *options, struct error *err);
    const char *(*version)(void);
};

#define N_PLACES (sizeof places / sizeof places[0])

/* False: the system does not say where that is. Code is not looked for in the folder that happens to be the process's.
 */
static bool path_at(size_t place, char out[PATH_MAX + 32])
{
    char self[PATH_MAX];
    char *slash = places[place].path(self, sizeof self) ? strrchr(self, '/') : NULL;
    if (!slash)
        return false;
    slash[1] = '\0';
    snprintf(out, PATH_MAX + 32, "%s%s" OBJECT, self, places[place].from);
    return true;
}

bool mlx_backend_present(void)
{
    char path[PATH_MAX + 32];
    bool found = false;
    for (size_t i = 0; i < N_PLACES && !found; i++) {
        found = path_at(i, path) && file_exists(path);
    }
    return found;
}

static void *open_object(struct error *err)
{
    char path[PATH_MAX + 32];
    for (size_t i = 0; i < N_PLACES; i++) {
        struct error why = {0};
        if (!path_at(i, path))
            continue;
        void *library = sys_library_open(path, &why);
        if (library)
            return library;
        if (why.code != ERR_NOT_FOUND) {
            *err = why;
            return NULL;
        }
    }
    error_set(err, ERR_UNSUPPORTED,
              "This Tandem was built without the mlx backend (" OBJECT " is not beside the program). `make mlx` brings "
              "MLX and builds it.");
    return NULL;
}

static bool load(struct plugin *p, struct error *err)
{
    void *library = open_object(err);
    if (!library)
        return error_wrap(err, "backend mlx");
    void *check = sys_library_symbol(library, "mlx_plugin_check");
    void *create = sys_library_symbol(library, "mlx_plugin_create");
    void *version = sys_library_symbol(library, "mlx_plugin_version");
    if (!check || !create || !version)
        return error_set(err, ERR_UNSUPPORTED, "backend mlx: " OBJECT " is not of this program.");
    /* POSIX lets a pointer to an object hold one to a function; ISO C has no cast for it. */
    memcpy(&p->check, &check, sizeof check);
    memcpy(&p->create, &create, sizeof create);
    memcpy(&p->version, &version, sizeof version);
    return p->check(sizeof(struct backend_ops), err) || error_wrap(err, "backend mlx");
}

struct backend *mlx_backend_create(const struct mlx_backend_options *options, struct error *err)
{
    struct plugin p;
    if (!load(&p, err))
        return NULL;
    struct backend *be = p.create(options, err);
    if (!be)
        error_wrap(err, "backend mlx");
    return be;
}

bool mlx_backend_available(struct error *why)
{
    struct plugin p;
    return load(&p, why);
}

const char *mlx_backend_version(void)
{
    struct plugin p;
    struct error err = {0};
    return load(&p, &err) ? p.version() : NULL;
}
