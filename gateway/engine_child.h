/* The engine process of one model as the gateway keeps it: started with backoff, spoken to in frames, restarted when it
 * is lost, ended with the gateway. It is an engine_port. Jobs that come while it loads wait here and go out with its
 * HELLO; jobs in flight when it is lost get one ENGINE_LOST event. It is watched (gateway/watchdog.h): one that stops
 * or hangs is killed. Everything on the loop's thread.
 *
 *   UNLOADED -> LOADING -> READY -> (lost) RESTARTING -> LOADING ...  after too many losses FAILED, tried again later:
 *   within the policy's window, or in a row without being ready, however long loading takes
 *   from any of them, when told to: UNLOADING -> UNLOADED
 *
 * Jobs wait here in every state but READY and FAILED, and while the engine is held; they go out in the order they came.
 *
 * The KV pool's memory belongs to the gateway and outlives the process: it is passed on to each new engine
 * (gateway/engine_memory.h), and given back to the system while there is none. */
#ifndef TANDEM_GATEWAY_ENGINE_CHILD_H
#define TANDEM_GATEWAY_ENGINE_CHILD_H

#include "base/limits.h"
#include "base/loop.h"
#include "gateway/engine_loss.h"
#include "gateway/gateway.h"
#include "pipeline/adapter_set.h"
#include "pipeline/engine_port.h"
#include "wire/frame.h"

struct engine_child;

#define ENGINE_CHILD_MAX_UNREAD MIB(256)

struct engine_child_options {
    const struct gateway_options *gateway; /* loop, program, restart policy; outlives the child */
    const char *const *arguments;          /* [n_arguments] of `tandem engine` for this model; copied */
    int n_arguments;
    const char *name; /* for the log; outlives the child */
    size_t pool_size;
    int64_t
        stop_grace_ms;    /* for an engine that is stopped, which has nothing to do, before SIGKILL; 0: the gateway's */
    size_t max_unread;    /* bytes sent that it has not read; 0: ENGINE_CHILD_MAX_UNREAD */
    uint32_t max_waiting; /* jobs, but for rows, that may wait while it loads, in at most half of max_unread */
    void (*on_state)(void *arg); /* state, info or failure changed */
    void *on_state_arg;
    /* A job waits here; its arg is that of on_state. NULL: nobody cares. */
    void (*on_wait)(void *arg);
    /* What each engine is given before it is ready, and what changes while it is; outlives the child. NULL: nothing. */
    struct adapter_set *adapters;
    void (*on_adapter)(void *arg); /* an order was carried out, or could not be; its arg is that of on_state */
    /* After a failure that counts it is started again by itself, when the restart policy says; else others start it,
     * jobs are refused for so long, and wait again then. */
    bool tries_again;
};

NODISCARD struct engine_child *engine_child_create(const struct engine_child_options *options, struct error *err);
void engine_child_start(struct engine_child *c); /* UNLOADED or FAILED */
/* Held: jobs that come wait here, and those that the engine has go on. Not held: those that wait go to it. */
void engine_child_hold(struct engine_child *c, bool held);
/* No engine will be started for the jobs that wait: they fail with this, as do those of one that runs. */
void engine_child_refuse(struct engine_child *c, const struct error *why);
/* Ends the process as closing does, in any state; UNLOADED once it is gone and the pool's memory is the system's again.
 * Jobs that wait here stay; the engine may have none. */
void engine_child_stop(struct engine_child *c);
/* Ends the process (it exits when its socket closes; killed after a grace period); on_closed once it is gone. */
void engine_child_close(struct engine_child *c, void (*on_closed)(void *arg), void *arg);
void engine_child_free(struct engine_child *c); /* after on_closed */

struct engine_port *engine_child_port(struct engine_child *c);
enum model_state engine_child_state(const struct engine_child *c);
float engine_child_load_fraction(const struct engine_child *c);
const struct error *engine_child_failure(const struct engine_child *c);
const struct engine_info *engine_child_info(
    const struct engine_child *c); /* NULL until the first HELLO; the last known after */
int engine_child_pid(const struct engine_child *c);
uint32_t engine_child_n_waiting(const struct engine_child *c); /* jobs that wait here */
uint32_t engine_child_n_rows(const struct engine_child *c);    /* of them: rows of batches */
int engine_child_restarts(const struct engine_child *c);
enum engine_loss engine_child_loss(const struct engine_child *c); /* the last one; LOSS_COUNT: none */
/* How much of the pool this engine and those after it may use (wire/frame.h). */
void engine_child_limit_pool(struct engine_child *c, const struct pool_limit *limit);
void engine_child_adapters_changed(struct engine_child *c); /* its set: the engine is told */
bool engine_child_clear_cache(struct engine_child *c);      /* false: no engine is ready, the next one does it */

#endif
