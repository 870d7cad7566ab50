#include "engine/constrainer.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/queue.h"
#include "base/sys_proc.h"

#include <pthread.h>
#include <stdlib.h>

struct constrainer {
    struct constrainer_options options;
    struct queue *orders; /* of struct job *, owned */
    pthread_t thread;
    bool started; /* the engine's thread */
    /* its own thread's */
    struct constraint_vocab *vocab; /* NULL: nobody has asked for one */
    struct constraint_cache *cache;
};

/* ---- one job ---- */

static bool make_state(struct constrained *c, struct constraint *constraint, const struct job *job, uint32_t choice)
{
    const struct job_accepted *known = job->accepted ? &job->accepted[choice] : NULL;
    if (known && known->done) {
        return true;
    }
    c->states[choice] = constraint_state_create(constraint, &c->error);
    return c->states[choice] && (!known || constraint_state_replay(c->states[choice], known->ids, known->n, &c->error));
}

static struct constrained *alloc_constrained(const struct job *job)
{
    struct constrained *c = calloc(1, sizeof *c + job->n_choices * sizeof(struct constraint_state *));
    if (c) {
        c->job = job->id;
        c->n_choices = job->n_choices;
    }
    return c;
}

struct constrained *constrained_create(struct constraint_cache *cache, const struct job *job)
{
    int64_t start_ns = clock_ns();
    struct str spec = {job->constraint, job->constraint_size};
    struct constrained *c = alloc_constrained(job);
    struct constraint *constraint = c ? constraint_cache_get(cache, spec, NULL, &c->error) : NULL;
    for (uint32_t i = 0; constraint && i < job->n_choices; i++) {
        if (!make_state(c, constraint, job, i)) {
            break;
        }
    }
    constraint_release(constraint);
    if (c) {
        c->compile_ns = (uint64_t)(clock_ns() - start_ns);
    }
    return c;
}

void constrained_free(struct constrained *c)
{
    for (uint32_t i = 0; c && i < c->n_choices; i++) {
        constraint_state_free(c->states[i]);
    }
    free(c);
}

/* ---- the thread ---- */

static bool make_vocab(struct constrainer *c, struct error *err)
{
    struct constraint_vocab_options options = {.n_vocab = (int32_t)c->options.n_vocab, .canonical = true};
    int64_t start_ms = clock_ms();
    if (c->cache) {
        return true;
    }
    if (!c->vocab && !(c->vocab = constraint_vocab_create(c->options.tokenizer, &options, err))) {
        return false;
    }
    c->cache = constraint_cache_create(c->vocab);
    if (!c->cache) {
        return error_set(err, ERR_NO_MEMORY, "There is no memory for constraints.");
    }
    LOG_INFO("vocabulary of constraints ready", "tokens=%d load_ms=%lld", (int)constraint_vocab_size(c->vocab),
             (long long)(clock_ms() - start_ms));
    return true;
}

static struct constrained *make(struct constrainer *c, const struct job *job)
{
    struct error err = {0};
    if (make_vocab(c, &err)) {
        return constrained_create(c->cache, job);
    }
    struct constrained *failed = alloc_constrained(job);
    if (failed) {
        failed->error = err;
    }
    return failed;
}

static void *work(void *arg)
{
    struct constrainer *c = arg;
    struct job *job;
    struct error why = {0};
    sys_name_thread("constrainer");
    sys_lower_priority();
    if (!make_vocab(c, &why)) { /* it is tried again for each job */
        LOG_WARN("the vocabulary of constraints is made later", "reason=\"%s\"", why.msg);
    }
    while (!queue_closed(c->orders)) {
        if (!queue_wait(c->orders, &job, -1)) {
            continue;
        }
        struct constrained *made;
        while (!(made = make(c, job)) && !queue_closed(c->orders)) {
            clock_sleep_ms(10); /* the job waits for memory, as it would in the queue */
        }
        if (made && !c->options.deliver(c->options.arg, made)) {
            constrained_free(made);
        }
        free(job);
    }
    return NULL;
}

/* ---- life ---- */

struct constrainer *constrainer_create(const struct constrainer_options *options, struct error *err)
{
    struct constrainer *c = calloc(1, sizeof *c);
    if (c && (c->orders = queue_create(sizeof(struct job *), options->max_waiting))) {
        c->options = *options;
        return c;
    }
    free(c);
    error_set(err, ERR_NO_MEMORY, "There is no memory for constraints.");
    return NULL;
}

void constrainer_free(struct constrainer *c)
{
    struct job *job;
    if (!c) {
        return;
    }
    queue_close(c->orders);
    if (c->started) {
        pthread_join(c->thread, NULL);
    }
    while (queue_pop(c->orders, &job)) {
        free(job);
    }
    queue_free(c->orders);
    constraint_cache_free(c->cache);
    constraint_vocab_free(c->vocab);
    free(c);
}

bool constrainer_start(struct constrainer *c, struct error *err)
{
    int rc = c->started ? 0 : pthread_create(&c->thread, NULL, work, c);
    c->started = rc == 0;
    return c->started || error_set(err, ERR_NO_MEMORY, "The thread that compiles constraints could not be started: %s.",
                                   strerror(rc));
}

/* Of the job only what names it and what its choices have: the prompt says nothing here. */
bool constrainer_push(struct constrainer *c, const struct job *job, struct error *err)
{
    struct job order = {.id = job->id,
                        .n_choices = job->n_choices,
                        .sampling = job->sampling,
                        .accepted = job->accepted,
                        .constraint = job->constraint,
                        .constraint_size = job->constraint_size};
    if (!constrainer_start(c, err)) {
        return false;
    }
    struct job *copy = job_copy(&order);
    if (!copy) {
        return error_set(err, ERR_NO_MEMORY, "There is no memory for the constraint of a request.");
    }
    if (queue_push(c->orders, &copy)) {
        return true;
    }
    free(copy);
    return error_set(err, ERR_OVERLOADED, "Too many requests wait for their grammars to be compiled. Try again later.");
}
