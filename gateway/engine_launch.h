/* Starts `tandem engine`: the words of its command line, and what it inherits. Descriptors 3 to 6 of the new process
 * are its socket, the KV pool, the watchdog's words and the seals of the pool's pages. */
#ifndef TANDEM_GATEWAY_ENGINE_LAUNCH_H
#define TANDEM_GATEWAY_ENGINE_LAUNCH_H

#include "gateway/engine_memory.h"

#include <uv.h>

#define LAUNCH_MAX_ARGUMENTS 128 /* of the model, the NULL behind them included */

struct engine_launch {
    const char *program;          /* NULL: this one */
    const char *const *arguments; /* NULL behind the last; at most LAUNCH_MAX_ARGUMENTS with it */
    const struct engine_memory *memory;
    int socket_fd; /* the engine's end */
    uint32_t epoch;
    uv_exit_cb on_exit;
};

/* *process is used by libuv until it is closed, also when this fails but for an error of the program's path, of which
 * *spawned tells. */
NODISCARD bool engine_launch(uv_loop_t *loop, uv_process_t *process, const struct engine_launch *launch, bool *spawned,
                             struct error *err);

#endif
