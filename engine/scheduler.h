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

#include "engine/constrainer.h"
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
/* Its pages outlive it: it adopts those that the seals know (kv_seal.h), and seals its own; the seals outlive it. For
 * an executor whose pages lie where the seals were told. Before the first request, and only with a prefix cache. */
void scheduler_set_seals(struct scheduler *s, struct kv_seals *seals);
void scheduler_set_sink(struct scheduler *s, engine_sink *sink, void *arg);

/* A job taken out of the scheduler because logits of it were no finite numbers, to be computed once more by somebody
 * else: a copy that has the tokens of its choices as `accepted`, takes no hits and makes no guesses. */
struct bad_job {
    struct job *job;     /* free() */
    uint64_t ended;      /* bit per choice: it had ended, and has no `accepted` */
    uint32_t n_scored;   /* logprobs of the prompt that were sent */
    int64_t deadline_ns; /* 0: none; the job has no timeout of its own */
    char at[24];         /* "token 12" */
};
/* fn is called behind the step, when all events of the job so far have been sent. True: it has taken the job, whose
 * further events come by scheduler_pass. Without it, and when it gives false, the job fails with BAD_NUMBERS. */
void scheduler_on_bad_numbers(struct scheduler *s, bool (*fn)(void *arg, const struct bad_job *bad, struct error *err),
                              void *arg);
/* An event of such a job, counted and sent. last: the job ends with it. */
void scheduler_pass(struct scheduler *s, const struct engine_event *event, bool last);

void scheduler_accept(struct scheduler *s, struct request *r); /* takes r */
/* The states of a job's constraint, which it has been waiting for since it was accepted; or why there are none. Takes
 * c.
 */
void scheduler_constrained(struct scheduler *s, struct constrained *c);
void scheduler_fail(struct scheduler *s, uint64_t job, const struct error *why); /* unless it has ended */
void scheduler_fail_adapter(struct scheduler *s, uint32_t number); /* every job that has this one, which goes */
void scheduler_cancel(struct scheduler *s, uint64_t job, uint32_t choice);
void scheduler_clear_cache(struct scheduler *s);
/* At most so many bytes of the pool are for use: see engine_limit_pool. Steps bring it about, also those in which
 * nothing is computed, a part each: scheduler_is_resizing until they are done. */
void scheduler_limit_pool(struct scheduler *s, uint64_t size, bool urgent);
bool scheduler_is_resizing(const struct scheduler *s);
/* fn is told of bytes of the pool that hold nothing any more; NULL: nobody. */
void scheduler_on_discard(struct scheduler *s, void (*fn)(void *arg, size_t offset, size_t size), void *arg);
void scheduler_pause(struct scheduler *s, bool paused); /* admits nothing while paused; what runs goes on */

/* Another drafter, dearer than those there are; takes it, at most one. Before the first step. Without it tokens are
 * guessed from the text alone. */
void scheduler_add_drafter(struct scheduler *s, struct drafter *d);

/* One step; false when there was nothing to compute. Events go out before it returns. */
bool scheduler_step(struct scheduler *s);
void scheduler_emit_stats(struct scheduler *s); /* a STATS event, at once */
bool scheduler_idle(const struct scheduler *s); /* no request is left */

/* From now on a step that fails because of the device (DEVICE) fails nobody: it is kept, and no further step is to be
 * made. NULL: none has. */
void scheduler_keep_device_error(struct scheduler *s);
const struct error *scheduler_device_error(const struct scheduler *s);

/* Requests that were accepted and have not started nor ended: *n is decremented with each that does. */
void scheduler_count_unstarted(struct scheduler *s, atomic_uint *n);
/* Before each step *word says how many nanoseconds it is expected to take (step_cost_bound). */
void scheduler_set_expected(struct scheduler *s, _Atomic uint64_t *word);
const struct engine_stats *scheduler_stats(struct scheduler *s);      /* valid until the next step */
void scheduler_set_sizes(struct scheduler *s, uint64_t weights_size); /* for the statistics, and what is expected */

/* Recounts pages, references, queue and cache (tests). */
NODISCARD bool scheduler_check(const struct scheduler *s, struct error *err);

#endif
