#include "gateway/engine_launch.h"

#include "base/array.h"
#include "base/sys_file.h"

#include <stdio.h>
#include <string.h>

enum inherited { SOCKET_FD = 3, POOL_FD, WATCH_FD, SEALS_FD, N_INHERITED }; /* in words(), as numbers too */

static bool program_path(const struct engine_launch *launch, char *out, size_t size, struct error *err)
{
    if (launch->program) {
        snprintf(out, size, "%s", launch->program);
        return true;
    }
    return sys_self_path(out, size) || error_set(err, ERR_IO, "the path of this program could not be found.");
}

static bool start(uv_loop_t *loop, uv_process_t *process, const struct engine_launch *launch, const char *const *argv,
                  bool *spawned, struct error *err)
{
    const struct engine_memory *m = launch->memory;
    uv_stdio_container_t stdio[] = {
        {.flags = UV_IGNORE},
        {.flags = UV_INHERIT_FD, .data.fd = 2}, /* an engine has nothing to say on standard output */
        {.flags = UV_INHERIT_FD, .data.fd = 2},
        [SOCKET_FD] = {.flags = UV_INHERIT_FD, .data.fd = launch->socket_fd},
        [POOL_FD] = {.flags = UV_INHERIT_FD, .data.fd = m->pool.fd},
        [WATCH_FD] = {.flags = UV_INHERIT_FD, .data.fd = m->watch.fd},
        [SEALS_FD] = {.flags = UV_INHERIT_FD, .data.fd = m->seals.fd},
    };
    uv_process_options_t options = {
        .file = argv[0], .args = (char **)argv, .stdio = stdio, .stdio_count = N_INHERITED, .exit_cb = launch->on_exit};
    int rc = uv_spawn(loop, process, &options);
    *spawned = true;
    return rc == 0 || error_set(err, ERR_IO, "the engine process could not be started: %s.", uv_strerror(rc));
}

bool engine_launch(uv_loop_t *loop, uv_process_t *process, const struct engine_launch *launch, bool *spawned,
                   struct error *err)
{
    char program[4096], epoch[16], pool_size[32], seals_size[32];
    *spawned = false;
    if (!program_path(launch, program, sizeof program, err)) {
        return false;
    }
    snprintf(epoch, sizeof epoch, "%u", launch->epoch);
    snprintf(pool_size, sizeof pool_size, "%zu", launch->memory->pool.size);
    snprintf(seals_size, sizeof seals_size, "%zu", launch->memory->seals.size);
    const char *words[] = {program,        "engine",   "--socket-fd", "3",  "--pool-fd",  "4",
                           "--pool-size",  pool_size,  "--watch-fd",  "5",  "--seals-fd", "6",
                           "--seals-size", seals_size, "--epoch",     epoch};
    const char *argv[ARRAY_LEN(words) + LAUNCH_MAX_ARGUMENTS];
    memcpy(argv, words, sizeof words);
    memcpy(argv + ARRAY_LEN(words), launch->arguments, LAUNCH_MAX_ARGUMENTS * sizeof argv[0]);
    return start(loop, process, launch, argv, spawned, err);
}
