/* The scheduler: requests in, one ragged step after another, events out. Owns the requests, the KV pages and the prefix
 * cache; borrows the executor. One thread, the engine's, calls everything here.
 *
 *     s = scheduler_create(&config, executor, err);
 *     scheduler_set_sink(s, sink, arg);
 *     scheduler_accept(s, request_create(&config, &job, err));
 *     while (!scheduler_idle(s)) scheduler_step(s);
 *
 * One step: admit from the queue -> choose rows (decode first, then prefill up to the budget) -> find pages, preempting
 * if need be -> forward and sample -> accept tokens, emit events. What a sequence gets does not depend on when its rows
 * are computed, with whom, or in which pieces. */
#ifndef TANDEM_ENGINE_SCHEDULER_H
#define TANDEM_ENGINE_SCHEDULER_H

#include "engine/engine.h"
#include "engine/executor.h"
#include "engine/kv_disk.h"
#include "engine/request.h"

#include <stdatomic.h>

struct scheduler;
struct drafter;

/* config and x outlive it. */
NODISCARD struct scheduler *scheduler_create(const struct engine_config *config, struct executor *x, struct error *err);
void scheduler_free(struct scheduler *s); /* what is not finished ends without events */
/* A disk tier under its prefix cache, for an executor with page_data; outlives it. Before the first request. */
void scheduler_set_disk(struct scheduler *s, struct kv_disk *disk);
void scheduler_set_sink(struct scheduler *s, engine_sink *sink, void *arg);

void scheduler_accept(struct scheduler *s, struct request *r); /* takes r */
void scheduler_cancel(struct scheduler *s, uint64_t job, uint32_t choice);
void scheduler_clear_cache(struct scheduler *s);
void scheduler_pause(struct scheduler *s, bool paused); /* admits nothing while paused; what runs goes on */

/* Another drafter, dearer than those there are; takes it, at most one. Before the first step. Without it tokens are
 * guessed from the text alone. */
void scheduler_add_drafter(struct scheduler *s, struct drafter *d);

/* One step; false when there was nothing to compute. Events go out before it returns. */
bool scheduler_step(struct scheduler *s);
void scheduler_emit_stats(struct scheduler *s); /* a STATS event, at once */
bool scheduler_idle(const struct scheduler *s); /* no request is left */

/* Requests that were accepted and have not started nor ended: *n is decremented with each that does. */
void scheduler_count_unstarted(struct scheduler *s, atomic_uint *n);
/* Before each step *word says how many nanoseconds it is expected to take, 0 where that is not known. */
void scheduler_set_expected(struct scheduler *s, _Atomic uint64_t *word);
const struct engine_stats *scheduler_stats(struct scheduler *s);      /* valid until the next step */
void scheduler_set_sizes(struct scheduler *s, uint64_t weights_size); /* for the statistics */

/* Recounts pages, references, queue and cache (tests). */
NODISCARD bool scheduler_check(const struct scheduler *s, struct error *err);

#endif
