/* Shared by the files of an engine as the gateway keeps it:
 *
 *     engine_child.c       what it is: started, watched, lost, started again, closed
 *     engine_child_port.c  what it is told: frames to it, jobs that wait for it; its engine_port
 *     engine_child_read.c  what it says: frames from it
 *
 * One incarnation of the engine is one epoch: a socket pair, a process and the bytes between them. */
#ifndef TANDEM_GATEWAY_ENGINE_CHILD_INTERNAL_H
#define TANDEM_GATEWAY_ENGINE_CHILD_INTERNAL_H

#include "gateway/engine_child.h"
#include "gateway/engine_launch.h"
#include "gateway/restart.h"
#include "gateway/waiting_jobs.h"
#include "gateway/watchdog.h"
#include "pipeline/event_inbox.h"

#include <uv.h>

#define CHILD_READ_SIZE KIB(256)

struct engine_child {
    struct engine_port port; /* first: the port is the child */
    struct engine_child_options options;
    char *arguments[LAUNCH_MAX_ARGUMENTS];
    struct engine_memory memory;

    enum model_state state;
    uint32_t epoch;
    float load_fraction;
    struct error failure; /* why it is not ready */
    struct engine_info info;
    bool has_info;
    int n_restarts;
    int n_unready; /* incarnations in a row that never were ready, since it last failed or was stopped */
    struct restart restart;
    enum engine_loss loss; /* the last one; LOSS_COUNT: none yet */

    uv_process_t process;
    uv_pipe_t socket;
    bool process_alive, socket_open; /* handles in use until their close callback ran */
    bool process_exited;
    int exit_signal;
    uint64_t oom_kills; /* that the system had counted when it was started */
    struct watchdog watchdog;
    struct loop_timer *watch_timer;
    struct buf in;
    char *read_buffer; /* [CHILD_READ_SIZE] */
    struct event_inbox inbox;
    struct engine_event lost;
    bool lost_pending;
    bool productive;              /* it has given tokens */
    bool greeted;                 /* this one has said HELLO: while the socket is open it can be told things */
    bool fatal;                   /* it said itself that it cannot go on */
    enum engine_loss given_up;    /* why what it still says is not read; LOSS_COUNT: it is */
    bool clear_cache;             /* asked for while no engine could hear it */
    struct pool_limit pool_limit; /* size 0: none was ever set */

    struct waiting_jobs waiting;
    bool held;                /* jobs that come wait, though it is READY */
    bool stopping;            /* UNLOADED comes next */
    int64_t again_ms;         /* FAILED, unless it tries again by itself: until then jobs are refused */
    struct loop_timer *timer; /* while something of an incarnation is left: grace; else backoff */
    bool closing, finish_deferred;
    void (*on_closed)(void *arg);
    void *on_closed_arg;
};

/* ---- engine_child.c ---- */

void engine_child__set_state(struct engine_child *c, enum model_state state);
/* The engine cannot be trusted any more: its process ends, and the exit does the rest. */
void engine_child__give_up(struct engine_child *c, enum engine_loss loss, const struct error *why);
/* What is left of the incarnation may end by itself for a while; then it is ended. */
void engine_child__start_grace(struct engine_child *c);
void engine_child__close_socket(struct engine_child *c);

/* ---- engine_child_port.c ---- */

void engine_child__init_port(struct engine_child *c);
void engine_child__release_port(struct engine_child *c);
void engine_child__wake(struct engine_child *c); /* the port's next has something */
/* What an engine that said HELLO is told before it is ready; then the jobs that waited, in the order they came. When
 * that fails the whole incarnation is given up: the jobs get its ENGINE_LOST. */
NODISCARD bool engine_child__send_settings(struct engine_child *c, struct error *err);
/* The next order for its adapters, if there is one. */
NODISCARD bool engine_child__send_adapter(struct engine_child *c, struct error *err);
NODISCARD bool engine_child__send_waiting(struct engine_child *c, struct error *err);

/* ---- engine_child_read.c ---- */

void engine_child__start_reading(struct engine_child *c); /* of an incarnation whose socket has just been opened */

#endif
