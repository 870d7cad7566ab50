/* The event loop of a process as the layers above http see it: timers, wake-ups from other threads, and a small worker
 * pool for work that must not stall the loop (templates, tokenizing, JSON of big requests). A thin layer over libuv, so
 * that api/ and pipeline/ need not know it. Everything but loop_signal_send is called on the loop's thread. */
#ifndef TANDEM_BASE_LOOP_H
#define TANDEM_BASE_LOOP_H

#include "base/arena.h"
#include "base/error.h"

struct uv_loop_s;
struct loop;

NODISCARD struct loop *loop_create(int n_workers,
                                   struct error *err); /* n_workers >= 1; they run below normal priority */
void loop_run(struct loop *l);                         /* until loop_stop */
void loop_stop(struct loop *l);                        /* from the loop's thread */
void loop_free(struct loop *l);            /* joins the workers; all timers and signals must be freed by then */
struct uv_loop_s *loop_uv(struct loop *l); /* for http and gateway */

/* fn(arg) on a worker, then done(arg) on the loop's thread. Never fails: the queue grows by one small node. */
void loop_work(struct loop *l, void (*fn)(void *arg), void (*done)(void *arg), void *arg);
/* Likewise, before all that loop_work has queued: for what is short and decides whether there will be more. */
void loop_work_first(struct loop *l, void (*fn)(void *arg), void (*done)(void *arg), void *arg);
/* Likewise on a thread of its own, below normal priority too: for what takes minutes, while workers are to do other
 * things. loop_free waits for it, so it has to be told when it is to end early. */
void loop_work_alone(struct loop *l, void (*fn)(void *arg), void (*done)(void *arg), void *arg);
int loop_work_queued(const struct loop *l);
/* Frees an arena (NULL is fine), at once or, where that would be felt by what else the loop does, on a worker: the tree
 * of a large JSON body has a node for each value. Its clean-up handlers must not mind the thread. */
void loop_free_arena(struct loop *l, struct arena *a);

struct loop_timer;
struct loop_timer *loop_timer_create(struct loop *l, void (*fn)(void *arg), void *arg); /* NULL when memory fails */
void loop_timer_start(struct loop_timer *t, int64_t delay_ms, int64_t repeat_ms);       /* repeat 0: once; restarts */
void loop_timer_stop(struct loop_timer *t);
void loop_timer_free(struct loop_timer *t); /* NULL is fine; fn is not called after it */

struct loop_signal; /* a wake-up: sends before the loop gets to it are merged into one call */
struct loop_signal *loop_signal_create(struct loop *l, void (*fn)(void *arg), void *arg);
void loop_signal_send(struct loop_signal *s); /* any thread; async-signal-safe */
void loop_signal_free(struct loop_signal *s);

/* fn(arg) from the loop, soon, not from inside the caller. */
void loop_defer(struct loop *l, void (*fn)(void *arg), void *arg);

#endif
