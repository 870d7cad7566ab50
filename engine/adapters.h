/* The adapters that an engine has of its model, by number: what is read of their files is read by a thread, what is put
 * beside the weights is put there by the engine's between two steps.
 *
 *     adapters_init(&a, executor, push, arg);
 *     adapters_order(&a, &order, done, arg, err);          one at a time
 *     push: the engine's queue -> adapters_apply(&a, data)
 *     adapters_check(&a, job, err)                         whether a job finds its adapter
 *     adapters_release(&a);                                after the engine's thread has ended
 *
 * Threads: as said at each function. */
#ifndef TANDEM_ENGINE_ADAPTERS_H
#define TANDEM_ENGINE_ADAPTERS_H

#include "engine/executor.h"
#include "wire/frame.h"

#include <pthread.h>

struct adapter_change; /* one that is ready to be made */

struct loaded_adapter {
    struct adapter_order order; /* that brought it */
    size_t memory_size;         /* bytes that the backend keeps of it, about */
};

/* Whoever gave an order hears when it is done, or why it could not be: on the engine's thread or on the one that reads.
 */
typedef void adapters_done(void *arg, uint32_t number, const struct error *err);

struct adapters {
    struct executor *executor;
    /* Takes the change to adapters_apply on the engine's thread; false: the engine ends, and the change is the
     * caller's. */
    bool (*push)(void *arg, struct adapter_change *change);
    void *arg;
    /* Whoever gives orders. */
    pthread_t reader;
    bool reading; /* to be joined */
    /* The engine's thread. */
    struct adapter_change *loaded[WIRE_MAX_ADAPTERS + 1]; /* [.] by number: what brought it, owned; NULL: none */
};

/* x outlives it. */
void adapters_init(struct adapters *a, struct executor *x, bool (*push)(void *arg, struct adapter_change *change),
                   void *arg);
void adapters_release(struct adapters *a);

/* One thread; the next order follows the done of the one before, which is always called unless this fails. UNSUPPORTED:
 * what this engine computes has no weights. */
NODISCARD bool adapters_order(struct adapters *a, const struct adapter_order *order, adapters_done *done, void *arg,
                              struct error *err);

/* The engine's thread, between two steps. Takes the change. The number whose adapter goes with it, for which no job may
 * be left; 0: none does. */
uint32_t adapters_leaving(const struct adapter_change *change);
void adapters_apply(struct adapters *a, struct adapter_change *change);
void adapters_drop_change(struct adapter_change *change); /* it is not made, and nobody hears of it; NULL is fine */

/* The engine's thread. The one of this number, until another change is made; NULL: there is none. */
const struct loaded_adapter *adapters_find(const struct adapters *a, uint32_t number);

/* The engine's thread. MODEL_NOT_FOUND: the adapter of the job is not there, or is another one by now. */
NODISCARD bool adapters_check(const struct adapters *a, const struct job *job, struct error *err);

#endif
