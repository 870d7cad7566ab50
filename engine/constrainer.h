/* Constraints of jobs, compiled off the engine's thread: a thread of its own, below normal priority, decodes and
 * compiles the spec of a job, or finds it compiled (grammar/constraint.h's cache), makes a state for each choice and
 * feeds it the tokens that the choice has already. Meanwhile the job waits (scheduler_constrained ends that). The
 * vocabulary that all of them share is made as the thread begins: with the first job, or before.
 *
 *     c = constrainer_create(&options, err);            costs nothing yet
 *     constrainer_start(c, err);                        if the first job is not to wait for the vocabulary
 *     constrainer_push(c, job, err);                    the engine's thread
 *     deliver: the engine's queue -> scheduler_constrained(s, constrained)
 *     constrainer_free(c);                              behind everything that was delivered
 *
 * Threads: the engine's calls everything here, or who has it before that begins; `deliver` is called on the
 * constrainer's. */
#ifndef TANDEM_ENGINE_CONSTRAINER_H
#define TANDEM_ENGINE_CONSTRAINER_H

#include "grammar/constraint.h"
#include "wire/job.h"

/* What came of a job's constraint. Plain; constrained_free frees it with the states that are left in it. */
struct constrained {
    uint64_t job;
    uint64_t compile_ns;
    struct error error; /* code NONE: there was none */
    uint32_t n_choices;
    struct constraint_state *states[]; /* [n_choices] NULL: the choice has ended */
};

/* Never NULL but when memory fails, which has no job to tell of it. Any thread, not in a step. */
struct constrained *constrained_create(struct constraint_cache *cache, const struct job *job);
void constrained_free(struct constrained *c); /* NULL is fine */

struct constrainer_options {
    const struct tokenizer *tokenizer; /* outlives it */
    uint32_t n_vocab;                  /* of the model's logits */
    uint32_t max_waiting;              /* jobs at once */
    /* Takes c. May wait; false: the engine ends, and c is the caller's again. */
    bool (*deliver)(void *arg, struct constrained *c);
    void *arg;
};

struct constrainer;
NODISCARD struct constrainer *constrainer_create(const struct constrainer_options *options, struct error *err);
void constrainer_free(struct constrainer *c); /* deliver must not wait any more. NULL is fine */

NODISCARD bool constrainer_start(struct constrainer *c, struct error *err); /* NO_MEMORY */

/* Copies what it needs of the job. OVERLOADED, NO_MEMORY. */
NODISCARD bool constrainer_push(struct constrainer *c, const struct job *job, struct error *err);

#endif
