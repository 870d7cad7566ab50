/* Fault points: what goes wrong on purpose, so that tests can see what becomes of it. Builds with TANDEM_TEST_HOOKS
 * only: fault_on.c; in others (fault_off.c) fault_create refuses. Whoever holds none holds NULL, and pays one test of a
 * pointer.
 *
 *     --fault 'nan:step=5,row=0'                       one row of the fifth step (or the first after it that has some)
 *     --fault 'segv:step=20,once=/tmp/x;frame-dup:nth=3'
 *
 *     SPEC   = FAULT [";" FAULT]...
 *     FAULT  = KIND [":" ITEM ["," ITEM]...]
 *     ITEM   = KEY "=" VALUE | "always" | "start"
 *
 * Kinds that strike in a step, on the step thread:
 *     nan                logits of a row are not finite
 *     alloc              the step finds no memory
 *     device             the backend's device fails
 *     hang               the step does not return; the heartbeat goes on
 *     stop               the process stops (SIGSTOP), heartbeat and all
 *     segv, kill, abort, exit   the process ends: by SIGSEGV, SIGKILL, abort(), exit with status=N (1)
 *     oom                it takes mb=N (64) MiB and is then ended like by the system when memory is exhausted
 * Kinds that strike when events go out, counting frames that hold tokens:
 *     frame-lost, frame-dup, frame-late (behind the next frame), frame-corrupt
 * When it starts:
 *     slow-start         it sleeps ms=N (1000) before it loads
 *
 * When it strikes:
 *     step=N, nth=N      at the N-th step or frame, or the first after it where it can; 1 unless given
 *     times=N            so often, each time it can; 1 unless given
 *     always             every time; nan also on the engine that replays (engine/replay.h)
 *     start              before it loads: kill, segv, abort, exit, hang, stop
 *     token=ID           only when a prompt that holds this token id is in the step; nan: only its rows
 *     row=N              nan: this row of those that are sampled; all unless given
 *     once=FILE          only while FILE is empty or not there; it gets a byte: not again after a restart
 *
 * Threads: each call says which. */
#ifndef TANDEM_ENGINE_FAULT_H
#define TANDEM_ENGINE_FAULT_H

#include "engine/executor.h"

struct fault;

/* NULL without an error when spec is NULL or empty. Before the process is confined: it opens the files of once=.
 * UNSUPPORTED in builds without test hooks; INVALID names what is not understood. */
NODISCARD bool fault_create(const char *spec, struct fault **out, struct error *err);
/* What a replaying engine does of it: NULL, or one of its own. f may be NULL. */
struct fault *fault_for_replay(const struct fault *f);
void fault_free(struct fault *f);

/* Before anything is loaded. */
void fault_start(struct fault *f);

/* An executor with its faults in front of x, which it owns; f outlives it. On failure x is freed. */
NODISCARD struct executor *fault_executor_create(struct executor *x, struct fault *f, struct error *err);

enum fault_frame { FAULT_FRAME_NONE, FAULT_FRAME_LOST, FAULT_FRAME_DUP, FAULT_FRAME_LATE, FAULT_FRAME_CORRUPT };
/* What becomes of a frame that holds tokens (step thread). */
enum fault_frame fault_frame(struct fault *f);

#endif
