/* What an engine process keeps of its rights: it reads its models and writes below its disk cache, has no network,
 * starts no programs. For struct engine_options of `tandem engine`. */
#ifndef TANDEM_ENGINE_PROCESS_SANDBOX_H
#define TANDEM_ENGINE_PROCESS_SANDBOX_H

#include "base/sys_sandbox.h"
#include "engine/engine.h"

/* Before the process has a second thread and before it reads a model. The folder of the disk cache is made if it is
 * missing, since its place could not be written to afterwards. An engine on MLX gets a wider profile: any file may be
 * read, and MLX's and its drivers' caches may be written; so does one with backend `auto` when MLX is there. */
NODISCARD bool process_sandbox(const struct engine_options *options, struct sandbox_state *state, struct error *err);

#endif
