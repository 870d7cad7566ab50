/* The engine's thread around the scheduler. Other threads reach it by one bounded queue of commands; it waits there
 * when nothing is to be computed. */
#include "engine/engine_internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/queue.h"
#include "base/sys_proc.h"
#include "engine/adapters.h"
#include "engine/replay.h"
#include "engine/scheduler.h"
#include "engine/stats.h"
#include "wire/engine_watch.h"
#include "wire/frame.h"

#include <pthread.h>
#include <stdlib.h>

#define COMMANDS_BESIDE_JOBS 4096 /* cancels and the like that may wait for the end of a step */
#define BLOCKED_WAIT_MS      5    /* when requests wait but none can start (paused) */
#define FULL_WAIT_MS         1
#define REPLAY_WAIT_MS       50 /* how often the deadlines of replays are looked at, at least */

enum command_kind {
    COMMAND_SUBMIT,
    COMMAND_CANCEL,
    COMMAND_CLEAR_CACHE,
    COMMAND_DRAIN,
    COMMAND_DISK,
    COMMAND_LIMIT_POOL,
    COMMAND_REPLAYED,
    COMMAND_CONSTRAINED,
    COMMAND_ADAPT
};

struct command {
    enum command_kind kind;
    struct request *request; /* SUBMIT: owned */
    uint64_t job;            /* CANCEL */
    uint32_t choice;
    void (*on_idle)(void *arg); /* DRAIN */
    void *arg;
    struct pool_limit pool; /* LIMIT_POOL */
    char *data;             /* REPLAYED: owned */
    size_t size;
    struct constrained *constrained; /* CONSTRAINED: owned */
    struct adapter_change *change;   /* ADAPT: owned */
};

struct engine {
    struct engine_config config;
    struct engine_info info;
    struct executor *executor;
    struct kv_disk *disk;   /* NULL: none */
    struct kv_seals *seals; /* NULL: none */
    void (*release)(void *resources);
    void *resources;
    struct scheduler *scheduler;
    struct replay *replay;           /* NULL: none */
    struct constrainer *constrainer; /* NULL: no tokenizer, so no constraints */
    struct adapters adapters;
    struct queue *commands;
    struct stats_snapshot stats;
    atomic_uint n_unstarted;
    atomic_bool stop, draining, paused;
    struct engine_watch *watch; /* NULL: nobody watches */
    pthread_t thread;
    bool started;
    void (*on_fatal)(void *arg, const struct error *why);
    void *on_fatal_arg;
    /* The engine's thread only. */
    void (*on_idle)(void *arg);
    void *on_idle_arg;
    bool reported_idle;
};

/* ---- creation ---- */

static bool copy_eog(struct engine *e, const struct engine_config *config)
{
    int32_t *ids = malloc((config->n_eog_ids + 1) * sizeof *ids);
    if (ids && config->n_eog_ids) {
        memcpy(ids, config->eog_ids, config->n_eog_ids * sizeof *ids);
    }
    e->config.eog_ids = ids;
    return ids != NULL;
}

/* The tier's thread. A full queue wakes the engine by itself. */
static void on_disk(void *arg)
{
    struct engine *e = arg;
    (void)queue_push(e->commands, &(struct command){.kind = COMMAND_DISK});
}

static bool make_scheduler(struct engine *e, struct error *err)
{
    e->scheduler = scheduler_create(&e->config, e->executor, err);
    if (e->scheduler && e->disk) {
        kv_disk_on_ready(e->disk, on_disk, e);
        scheduler_set_disk(e->scheduler, e->disk);
    }
    if (e->scheduler && e->seals) {
        scheduler_set_seals(e->scheduler, e->seals);
    }
    return e->scheduler != NULL;
}

/* For commands that must not get lost: a full queue is emptied at the end of the running step. False: it is closed. */
static bool push(struct engine *e, const struct command *c)
{
    while (!queue_push(e->commands, c)) {
        if (queue_closed(e->commands)) {
            return false;
        }
        clock_sleep_ms(FULL_WAIT_MS);
    }
    return true;
}

/* Threads of the replay. */
static bool on_replayed(void *arg, char *data, size_t size)
{
    return push(arg, &(struct command){.kind = COMMAND_REPLAYED, .data = data, .size = size});
}

static bool on_bad_numbers(void *arg, const struct bad_job *bad, struct error *err)
{
    struct engine *e = arg;
    return replay_push(e->replay, bad, adapters_find(&e->adapters, bad->job->adapter), err);
}

static bool make_replay(struct engine *e, const struct engine_options *o, struct error *err)
{
    struct replay_options options = {.n_context = e->config.n_context,
                                     .weights_size = e->info.weights_size,
                                     .idle_ms = o ? o->replay_idle_ms : 0,
                                     .deliver = on_replayed,
                                     .arg = e};
    if (!o) {
        return true;
    }
    options.engine = *o;
    e->replay = replay_create(&options, err);
    if (e->replay) {
        scheduler_on_bad_numbers(e->scheduler, on_bad_numbers, e);
    }
    return e->replay != NULL;
}

/* The constrainer's thread. */
static bool on_constrained(void *arg, struct constrained *c)
{
    return push(arg, &(struct command){.kind = COMMAND_CONSTRAINED, .constrained = c});
}

static bool make_constrainer(struct engine *e, const struct tokenizer *tokenizer, struct error *err)
{
    struct constrainer_options options = {.tokenizer = tokenizer,
                                          .n_vocab = e->config.n_vocab,
                                          .max_waiting = e->config.max_waiting,
                                          .deliver = on_constrained,
                                          .arg = e};
    e->config.constraints = tokenizer != NULL;
    e->constrainer = tokenizer ? constrainer_create(&options, err) : NULL;
    return !tokenizer || e->constrainer;
}

/* The thread that reads adapters, or whoever gave the order. */
static bool on_adapter(void *arg, struct adapter_change *change)
{
    return push(arg, &(struct command){.kind = COMMAND_ADAPT, .change = change});
}

void engine__free_drafter(struct drafter *d)
{
    if (d) {
        d->ops->free(d);
    }
}

struct engine *engine__assemble(const struct engine_parts *parts, struct error *err)
{
    struct engine *e = calloc(1, sizeof *e);
    if (!e) {
        kv_disk_free(parts->disk);
        kv_seals_close(parts->seals);
        engine__free_drafter(parts->drafter);
        parts->executor->ops->free(parts->executor);
        if (parts->release) {
            parts->release(parts->resources);
        }
        error_set(err, ERR_NO_MEMORY, "There is no memory for an engine.");
        return NULL;
    }
    e->config = parts->config;
    e->info = parts->info;
    e->executor = parts->executor;
    e->disk = parts->disk;
    e->seals = parts->seals;
    e->release = parts->release;
    e->resources = parts->resources;
    adapters_init(&e->adapters, e->executor, on_adapter, e);
    e->commands = queue_create(sizeof(struct command), (size_t)e->config.max_waiting + COMMANDS_BESIDE_JOBS);
    bool ok = copy_eog(e, &parts->config) && e->commands;
    if (!ok) {
        error_set(err, ERR_NO_MEMORY, "There is no memory for an engine.");
    }
    if (!ok || !make_scheduler(e, err) || !make_replay(e, parts->replay, err) ||
        !make_constrainer(e, parts->tokenizer, err)) {
        engine__free_drafter(parts->drafter);
        engine_free(e);
        return NULL;
    }
    if (parts->drafter) {
        scheduler_add_drafter(e->scheduler, parts->drafter);
    }
    scheduler_count_unstarted(e->scheduler, &e->n_unstarted);
    scheduler_on_discard(e->scheduler, parts->discard, parts->discard_arg);
    scheduler_set_sizes(e->scheduler, e->info.weights_size);
    stats_publish(&e->stats, scheduler_stats(e->scheduler));
    return e;
}

static void drop_commands(struct engine *e)
{
    struct command c;
    while (e->commands && queue_pop(e->commands, &c)) {
        request_free(c.request);
        free(c.data);
        constrained_free(c.constrained);
        adapters_drop_change(c.change);
    }
}

void engine_stop(struct engine *e)
{
    if (e->started) {
        atomic_store(&e->stop, true);
        queue_close(e->commands);
        pthread_join(e->thread, NULL);
        e->started = false;
    }
}

void engine_free(struct engine *e)
{
    if (!e) {
        return;
    }
    engine_stop(e);
    replay_free(e->replay); /* its threads push no more: the queue is closed */
    constrainer_free(e->constrainer);
    adapters_release(&e->adapters);
    drop_commands(e);
    scheduler_free(e->scheduler);
    kv_disk_free(e->disk);
    kv_seals_close(e->seals);
    queue_free(e->commands);
    e->executor->ops->free(e->executor);
    if (e->release) {
        e->release(e->resources);
    }
    free((int32_t *)e->config.eog_ids);
    free(e);
}

const struct engine_info *engine_info(const struct engine *e)
{
    return &e->info;
}

/* ---- the engine's thread ---- */

/* Of a job that is being replayed. */
static void pass(void *arg, const struct engine_event *event, bool last)
{
    struct engine *e = arg;
    e->reported_idle = e->reported_idle && !last;
    scheduler_pass(e->scheduler, event, last);
}

/* It waits for its constraint in the scheduler. */
static void submit(struct engine *e, struct request *r)
{
    uint64_t id = r->job->id;
    struct error err = {0};
    bool ok = adapters_check(&e->adapters, r->job, &err) &&
              (!r->unconstrained || constrainer_push(e->constrainer, r->job, &err));
    scheduler_accept(e->scheduler, r);
    if (!ok) {
        scheduler_fail(e->scheduler, id, &err);
    }
    e->reported_idle = false;
}

static void adapt(struct engine *e, struct adapter_change *change)
{
    uint32_t leaving = adapters_leaving(change);
    if (leaving) {
        scheduler_fail_adapter(e->scheduler, leaving);
    }
    adapters_apply(&e->adapters, change);
    e->reported_idle = false;
}

static void apply(struct engine *e, const struct command *c)
{
    switch (c->kind) {
    case COMMAND_SUBMIT:
        submit(e, c->request);
        break;
    case COMMAND_CANCEL:
        scheduler_cancel(e->scheduler, c->job, c->choice);
        replay_cancel(e->replay, c->job, c->choice, pass, e);
        break;
    case COMMAND_CLEAR_CACHE:
        scheduler_clear_cache(e->scheduler);
        e->reported_idle = false;
        break;
    case COMMAND_DRAIN:
        e->on_idle = c->on_idle;
        e->on_idle_arg = c->arg;
        break;
    case COMMAND_LIMIT_POOL:
        scheduler_limit_pool(e->scheduler, c->pool.size, c->pool.urgent);
        e->reported_idle = false;
        break;
    case COMMAND_DISK: /* the step looks; an idle engine says how the figures changed */
        e->reported_idle = false;
        break;
    case COMMAND_REPLAYED:
        replay_take(e->replay, c->data, c->size, pass, e);
        break;
    case COMMAND_CONSTRAINED:
        scheduler_constrained(e->scheduler, c->constrained);
        break;
    case COMMAND_ADAPT:
        adapt(e, c->change);
        break;
    }
}

/* For whoever watches: a turn has begun; it may take as long as one step, and the reading of the queue. */
static void begin_turn(struct engine *e)
{
    if (e->watch) {
        atomic_store(&e->watch->expected_ns, 0);
        atomic_fetch_add(&e->watch->turns, 1);
        atomic_store(&e->watch->busy, 1);
    }
}

static void wait_for_work(struct engine *e)
{
    bool idle = scheduler_idle(e->scheduler) && !scheduler_is_resizing(e->scheduler);
    struct command c;
    if (idle && !e->reported_idle) {
        e->reported_idle = true;
        scheduler_emit_stats(e->scheduler);
    }
    if (idle && e->on_idle && !replay_busy(e->replay)) {
        void (*on_idle)(void *) = e->on_idle;
        e->on_idle = NULL;
        on_idle(e->on_idle_arg);
    }
    if (e->watch) {
        atomic_store(&e->watch->busy, 0);
    }
    int64_t wait_ms = !idle ? BLOCKED_WAIT_MS : replay_busy(e->replay) ? REPLAY_WAIT_MS : -1;
    if (queue_wait(e->commands, &c, wait_ms)) {
        apply(e, &c);
    }
}

/* Whoever asked for it ends the engine; it does nothing any more. */
static bool device_failed(struct engine *e)
{
    const struct error *why = scheduler_device_error(e->scheduler);
    if (why) {
        e->on_fatal(e->on_fatal_arg, why);
    }
    return why != NULL;
}

static void *run(void *arg)
{
    struct engine *e = arg;
    struct command c;
    sys_name_thread("engine");
    while (!atomic_load(&e->stop)) {
        begin_turn(e);
        while (queue_pop(e->commands, &c)) {
            apply(e, &c);
        }
        scheduler_pause(e->scheduler, atomic_load(&e->paused));
        bool ran = scheduler_step(e->scheduler);
        if (device_failed(e)) {
            return NULL;
        }
        if (replay_busy(e->replay)) {
            replay_expire(e->replay, clock_ns(), pass, e);
        }
        stats_publish(&e->stats, scheduler_stats(e->scheduler));
        if (!ran) {
            wait_for_work(e);
        }
    }
    return NULL;
}

void engine_prepare_constraints(struct engine *e)
{
    struct error err = {0};
    if (e->constrainer && !constrainer_start(e->constrainer, &err)) {
        LOG_WARN("constraints are prepared later", "reason=\"%s\"", err.msg);
    }
}

bool engine_start(struct engine *e, engine_sink *sink, void *arg, struct error *err)
{
    scheduler_set_sink(e->scheduler, sink, arg);
    int rc = pthread_create(&e->thread, NULL, run, e);
    e->started = rc == 0;
    return e->started || error_set(err, ERR_NO_MEMORY, "The engine's thread could not be started: %s.", strerror(rc));
}

/* ---- any thread ---- */

bool engine_submit(struct engine *e, const struct job *job, struct error *err)
{
    if (atomic_load(&e->draining)) {
        return error_set(err, ERR_UNAVAILABLE, "The engine is being shut down and takes no new requests.");
    }
    struct command c = {.kind = COMMAND_SUBMIT, .request = request_create(&e->config, job, err)};
    if (!c.request) {
        return false;
    }
    if (atomic_fetch_add(&e->n_unstarted, 1) >= e->config.max_waiting || !queue_push(e->commands, &c)) {
        atomic_fetch_sub(&e->n_unstarted, 1);
        request_free(c.request);
        return error_set(err, ERR_OVERLOADED, "%u requests are waiting already. Try again later.",
                         e->config.max_waiting);
    }
    return true;
}

void engine_cancel(struct engine *e, uint64_t job, uint32_t choice)
{
    (void)push(e, &(struct command){.kind = COMMAND_CANCEL, .job = job, .choice = choice});
}

void engine_clear_cache(struct engine *e)
{
    (void)push(e, &(struct command){.kind = COMMAND_CLEAR_CACHE});
}

void engine_limit_pool(struct engine *e, uint64_t size, bool urgent)
{
    (void)push(e, &(struct command){.kind = COMMAND_LIMIT_POOL, .pool = {.size = size, .urgent = urgent}});
}

bool engine_adapt(struct engine *e, const struct adapter_order *order,
                  void (*done)(void *arg, uint32_t number, const struct error *err), void *arg, struct error *err)
{
    return adapters_order(&e->adapters, order, done, arg, err);
}

void engine_pause(struct engine *e, bool paused)
{
    atomic_store(&e->paused, paused);
}

void engine_drain(struct engine *e, void (*on_idle)(void *arg), void *arg)
{
    atomic_store(&e->draining, true);
    (void)push(e, &(struct command){.kind = COMMAND_DRAIN, .on_idle = on_idle, .arg = arg});
}

void engine_stats(struct engine *e, struct engine_stats *out)
{
    stats_read(&e->stats, out);
}

void engine_set_watch(struct engine *e, struct engine_watch *watch)
{
    e->watch = watch;
    scheduler_set_expected(e->scheduler, watch ? &watch->expected_ns : NULL);
}

void engine_on_fatal(struct engine *e, void (*fn)(void *arg, const struct error *why), void *arg)
{
    e->on_fatal = fn;
    e->on_fatal_arg = arg;
    scheduler_keep_device_error(e->scheduler);
}
