/* Jobs whose logits were no finite numbers, computed once more, from their tokens: by a second, small engine over the
 * same model file, on the cpu backend's reference kernels, with pages of its own for one sequence, no prefix cache, no
 * disk, no guesses, and one thread below normal priority. It is made when the first such job comes and thrown away
 * after a while without any. The adapter of a job is read again, from where its engine has it, and kept as long as the
 * second engine. What that finds not finite again is the job's failure.
 *
 *     r = replay_create(&options, err);              costs nothing yet
 *     replay_push(r, &bad, adapter, err);            from the scheduler, behind its step
 *     deliver: the engine's queue -> replay_take(r, data, size, each, arg)
 *     replay_expire(r, now_ns, each, arg)            now and then, while replay_busy(r)
 *     replay_free(r)
 *
 * Events come with the job's id and the right indexes, ENGINE_REPLAYED before the first tokens; `last` says that the
 * job has ended. What its client has got already, or cancelled, does not come again.
 *
 * Threads: the engine's calls everything here; `deliver` is called on threads of the replay. A thread of its own loads
 * the model, so the engine never waits. */
#ifndef TANDEM_ENGINE_REPLAY_H
#define TANDEM_ENGINE_REPLAY_H

#include "engine/adapters.h"
#include "engine/scheduler.h"

struct replay;

struct replay_options {
    struct engine_options engine; /* of the engine that it stands in for; what they point to is copied */
    uint32_t n_context;           /* that this one serves; 0: the model's */
    uint64_t weights_size;        /* so much memory must be available before the model is loaded once more */
    int64_t idle_ms;              /* thrown away after so long without work; 0: REPLAY_IDLE_MS */
    /* Takes data, which replay_take wants on the engine's thread. May wait; false: the engine ends, and data is the
     * caller's again. */
    bool (*deliver)(void *arg, char *data, size_t size);
    void *arg;
};

#define REPLAY_IDLE_MS  60000
#define REPLAY_MAX_JOBS 64 /* at once; one more fails */

NODISCARD struct replay *replay_create(const struct replay_options *options, struct error *err);
void replay_free(struct replay *r); /* what runs ends without events; deliver must not wait any more. NULL is fine */

/* Takes bad->job. adapter: the job's, copied; NULL: it has none. False: too many are there, no memory; the job is the
 * caller's. */
NODISCARD bool replay_push(struct replay *r, const struct bad_job *bad, const struct loaded_adapter *adapter,
                           struct error *err);

typedef void replay_sink(void *arg, const struct engine_event *event, bool last);
void replay_take(struct replay *r, char *data, size_t size, replay_sink *each, void *arg); /* frees data */
/* FINISH_CANCELLED for what has not ended of it; nothing when the job is not here. */
void replay_cancel(struct replay *r, uint64_t job, uint32_t choice, replay_sink *each, void *arg);
void replay_expire(struct replay *r, int64_t now_ns, replay_sink *each, void *arg); /* deadlines that have passed */
bool replay_busy(const struct replay *r);                                           /* some job is here; NULL: none */

#endif
