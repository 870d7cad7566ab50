#include "engine/process_sandbox.h"

#include "base/arena.h"
#include "base/array.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/sys_file.h"
#include "base/sys_memory.h"
#include "engine/kv_disk.h"
#include "tensor/model_paths.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#define MAX_PATHS     16384
#define MAX_FILES     256  /* files are mapped and closed */
#define MAX_FILES_GPU 4096 /* drivers open device files as they go */

struct paths {
    struct arena *arena;
    const char **items;
    size_t n;
};

static void add_path(void *arg, const char *path)
{
    struct paths *p = arg;
    const char *copy = p->n < MAX_PATHS ? arena_strdup(p->arena, str_of(path)) : NULL;
    if (copy) { /* else it cannot be opened later, and the model's reader says so */
        p->items[p->n++] = copy;
    }
}

static bool find_read(const struct engine_options *o, struct paths *p, struct error *err)
{
    p->items = arena_alloc_array(p->arena, MAX_PATHS, sizeof *p->items);
    if (!p->items) {
        return error_set(err, ERR_NO_MEMORY, "There is no memory to confine the engine.");
    }
    model_paths_each(o->model_path, add_path, p);
    if (o->draft_model_path) {
        model_paths_each(o->draft_model_path, add_path, p);
    }
    if (o->script_path) {
        add_path(p, o->script_path);
    }
    for (int i = 0; i < o->n_adapter_paths; i++) {
        model_paths_each(o->adapter_paths[i], add_path, p);
    }
    return true;
}

/* MLX on a GPU reads headers and libraries from wherever it is installed, and its drivers what they like. It is not
 * loaded to find out: libraries may start threads when they are, which would be outside. */
static bool may_be_mlx(const struct backend_options *o)
{
    return o->kind == BACKEND_MLX ||
           (o->kind == BACKEND_AUTO && o->mlx.device != MLX_DEVICE_CPU && mlx_backend_present());
}

/* Code that MLX and CUDA compiled once (mlx/backend/cuda/jit_module.cpp; CUDA's programming guide, CUDA_CACHE_PATH). */
static void find_written_by_mlx(struct paths *p)
{
    static const char *const variables[] = {"MLX_PTX_CACHE_DIR", "CUDA_CACHE_PATH"};
    const char *temporary = getenv("TMPDIR"), *home = getenv("HOME");
    char path[PATH_MAX];
    struct error ignored = {0};
    for (size_t i = 0; i < ARRAY_LEN(variables); i++) {
        if (getenv(variables[i])) {
            add_path(p, getenv(variables[i]));
        }
    }
    snprintf(path, sizeof path, "%s/mlx", temporary && temporary[0] ? temporary : "/tmp");
    if (dir_make(path, &ignored)) {
        add_path(p, path);
    }
    if (home && home[0]) {
        snprintf(path, sizeof path, "%s/.nv", home);
        add_path(p, path);
    }
}

static bool find_written(const struct engine_options *o, bool mlx, struct paths *p, struct error *err)
{
    p->items = arena_alloc_array(p->arena, MAX_PATHS, sizeof *p->items);
    if (!p->items) {
        return error_set(err, ERR_NO_MEMORY, "There is no memory to confine the engine.");
    }
    if (mlx) {
        find_written_by_mlx(p);
    }
    if (o->kv_disk_dir && o->prefix_cache && !o->script_path && o->backend.kind != BACKEND_MLX) { /* else refused */
        if (!kv_disk_make_dir(o->kv_disk_dir, err)) {
            return error_wrap(err, "--kv-disk-dir '%s'", o->kv_disk_dir);
        }
        add_path(p, o->kv_disk_dir);
    }
    return true;
}

bool process_sandbox(const struct engine_options *options, struct sandbox_state *state, struct error *err)
{
    struct arena *arena = arena_create(MIB(64));
    if (!arena) {
        return error_set(err, ERR_NO_MEMORY, "There is no memory to confine the engine.");
    }
    bool mlx = may_be_mlx(&options->backend);
    struct paths read = {.arena = arena}, written = {.arena = arena};
    bool ok = find_read(options, &read, err) && find_written(options, mlx, &written, err);
    if (ok) {
        struct sandbox_profile profile = {
            .read = read.items,
            .n_read = read.n,
            .write = written.items,
            .n_write = written.n,
            .read_all = mlx,
            .devices = mlx,
            /* No max_processes: it would count what else this user runs. Threads are bounded by memory. */
            .max_files = mlx ? MAX_FILES_GPU : MAX_FILES,
            /* Twice what there is, and what threads' stacks reserve: more private memory is a mistake, or the work of a
             * file made to cause it. Drivers reserve as they like. */
            .max_memory = mlx ? 0 : 2 * sys_memory().total + GIB(4),
        };
        sandbox_enter(&profile, state);
        LOG_INFO("sandbox", "in_force=\"%s\" profile=%s missing=\"%s\"", state->text, mlx ? "mlx" : "cpu",
                 state->missing);
    }
    arena_free(arena);
    return ok;
}
