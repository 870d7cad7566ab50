/* Two halves. The book of jobs, on the engine's thread: what their clients have got, who has ended. And a worker with
 * the second engine, on a thread of its own. Commands go down by a queue, events come up as frames, like between
 * processes: they are copies that nobody has to lock. */
#include "engine/replay.h"

#include "base/array.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/queue.h"
#include "base/sys_memory.h"
#include "base/sys_proc.h"
#include "engine/fault.h"
#include "wire/frame.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define EPOCH        1
#define MAX_COMMANDS (4 * REPLAY_MAX_JOBS)
#define FRAMES_MAX   MIB(64)
#define SPARE_MEMORY MIB(64) /* besides the weights: pages, logits, tokenizer */

struct entry {
    uint64_t job; /* 0: free */
    bool announced;
    int64_t deadline_ns;
    uint32_t n_choices, n_scored;
    uint64_t ended; /* bit per choice */
    uint32_t n_output[LIMIT_CHOICES];
    char at[24];
};

enum order_kind { ORDER_RUN, ORDER_CANCEL };
struct order {
    enum order_kind kind;
    struct job *job;                /* RUN: owned */
    struct loaded_adapter *adapter; /* RUN: owned, the job's; NULL: none */
    uint64_t id;                    /* CANCEL */
    uint32_t choice;
};

struct replay {
    struct replay_options options;
    char *strings; /* what options.engine points to */
    const char **overrides;
    /* The engine's thread. */
    struct entry entries[REPLAY_MAX_JOBS];
    uint32_t n_entries;
    struct arena *arena; /* of the events of one delivery */
    /* The worker's. */
    struct queue *orders;
    pthread_t thread;
    bool started;
    struct engine *engine;                         /* NULL: not loaded */
    struct queue *adapted;                         /* of struct error: how the change of its adapters ended */
    struct sha256 adapters[WIRE_MAX_ADAPTERS + 1]; /* of the engine's, by number; zero: none */
    struct fault *fault;
    atomic_uint n_jobs;
    atomic_bool lost_events; /* some could not be brought up: nobody would wait for what does not come */
};

static void release_order(const struct order *o)
{
    free(o->job);
    free(o->adapter);
}

/* ---- worker ---- */

static void deliver(struct replay *r, const struct engine_event *events, size_t n)
{
    struct buf frames;
    struct error err = {0};
    size_t size;
    buf_init(&frames, FRAMES_MAX);
    if (!frame_put_events(&frames, EPOCH, events, n, &err)) {
        LOG_ERROR("events of a replay are lost", "error=\"%s\"", err.msg);
        buf_release(&frames);
        atomic_store(&r->lost_events, true);
        return;
    }
    char *data = buf_take(&frames, &size);
    if (data && !r->options.deliver(r->options.arg, data, size)) {
        free(data);
    }
}

static void take_events(void *arg, const struct engine_event *events, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (events[i].kind != ENGINE_STATS) {
            deliver(arg, &events[i], 1);
        }
    }
}

static void deliver_failure(struct replay *r, uint64_t job, const struct error *why)
{
    struct engine_event failed = {.kind = ENGINE_FAILED, .job = job, .stop_id = -1, .error = *why};
    deliver(r, &failed, 1);
}

/* Loading what does not fit would get the process killed, and all of its streams with it. */
static bool check_memory(uint64_t size, const char *what, struct error *err)
{
    uint64_t need = size + SPARE_MEMORY, available = sys_memory().available;
    return available == 0 || available >= need ||
           error_set(err, ERR_NO_MEMORY, "%llu MiB of memory are available, and loading %s once more takes %llu.",
                     (unsigned long long)(available >> 20), what, (unsigned long long)(need >> 20));
}

static bool load(struct replay *r, struct error *err)
{
    struct engine_options o = r->options.engine;
    int64_t start_ms = clock_ms();
    if (r->engine) {
        return true;
    }
    if (!check_memory(r->options.weights_size, "it", err)) {
        return false;
    }
    r->engine = engine_create(&o, err);
    if (r->engine && !engine_start(r->engine, take_events, r, err)) {
        engine_free(r->engine);
        r->engine = NULL;
    }
    if (r->engine) {
        LOG_INFO("engine for replays ready", "load_ms=%lld backend=\"%s\"", (long long)(clock_ms() - start_ms),
                 engine_info(r->engine)->backend);
    }
    return r->engine != NULL;
}

static void unload(struct replay *r)
{
    if (r->engine) {
        engine_free(r->engine);
        r->engine = NULL;
        memset(r->adapters, 0, sizeof r->adapters);
        LOG_INFO("engine for replays put away", NULL);
    }
}

/* Threads of the second engine. */
static void on_adapted(void *arg, uint32_t number, const struct error *err)
{
    struct replay *r = arg;
    (void)number;
    (void)!queue_push(r->adapted, err); /* one change at a time: there is room */
}

/* Another one of its number has no jobs left: they have ended, or their cancels were passed on before this. */
static bool load_adapter(struct replay *r, const struct loaded_adapter *adapter, struct error *err)
{
    struct error why = {0};
    if (!adapter || sha256_equal(&r->adapters[adapter->order.number], &adapter->order.digest)) {
        return true;
    }
    r->adapters[adapter->order.number] = (struct sha256){0};
    if (!check_memory(adapter->memory_size, "its adapter", err) ||
        !engine_adapt(r->engine, &adapter->order, on_adapted, r, err)) {
        return false;
    }
    if (!queue_wait(r->adapted, &why, -1)) {
        return error_set(err, ERR_CANCELLED, "the engine ends.");
    }
    if (why.code) {
        *err = why;
        return error_wrap(err, "its adapter");
    }
    r->adapters[adapter->order.number] = adapter->order.digest;
    return true;
}

static bool start_job(struct replay *r, const struct order *o, struct error *err)
{
    struct engine_event replayed = {.kind = ENGINE_REPLAYED, .job = o->job->id, .stop_id = -1};
    if (!load(r, err) || !load_adapter(r, o->adapter, err)) {
        return false;
    }
    snprintf(replayed.fingerprint, sizeof replayed.fingerprint, "%s", engine_info(r->engine)->fingerprint);
    deliver(r, &replayed, 1);
    return engine_submit(r->engine, o->job, err);
}

static void run_job(struct replay *r, const struct order *o)
{
    struct error err = {0}, why = {0};
    if (!start_job(r, o, &err)) {
        error_set(&why, ERR_BAD_NUMBERS,
                  "The model gave logits that are not finite numbers, and the request could not be tried again on the "
                  "reference kernels: %s",
                  err.msg);
        deliver_failure(r, o->job->id, &why);
    }
    release_order(o);
}

static void *work(void *arg)
{
    struct replay *r = arg;
    struct order o;
    int64_t idle_ms = r->options.idle_ms ? r->options.idle_ms : REPLAY_IDLE_MS;
    sys_name_thread("replay");
    sys_lower_priority(); /* the threads that it starts inherit it where threads have a priority of their own */
    while (!queue_closed(r->orders)) {
        if (!queue_wait(r->orders, &o, r->engine ? idle_ms : -1)) {
            if (atomic_load(&r->n_jobs) == 0) {
                unload(r);
            }
        } else if (o.kind == ORDER_RUN) {
            run_job(r, &o);
        } else if (r->engine) {
            engine_cancel(r->engine, o.id, o.choice);
        }
    }
    return NULL;
}

/* ---- life ---- */

static size_t room_of(const char *text)
{
    return text ? strlen(text) + 1 : 0;
}

static const char *keep(char **at, const char *text)
{
    const char *kept = *at;
    if (!text) {
        return NULL;
    }
    memcpy(*at, text, strlen(text) + 1);
    *at += strlen(text) + 1;
    return kept;
}

/* A script stands in for this engine's model too. */
static bool copy_strings(struct replay *r)
{
    struct engine_options *o = &r->options.engine;
    size_t size = 1 + room_of(o->model_path) + room_of(o->rope_scaling) + room_of(o->script_path) + room_of(o->build);
    for (int i = 0; i < o->n_overrides; i++) {
        size += room_of(o->overrides[i]);
    }
    char *at = r->strings = malloc(size);
    r->overrides = calloc((size_t)o->n_overrides + 1, sizeof *r->overrides);
    if (!at || !r->overrides) {
        return false;
    }
    for (int i = 0; i < o->n_overrides; i++) {
        r->overrides[i] = keep(&at, o->overrides[i]);
    }
    o->overrides = r->overrides;
    o->model_path = keep(&at, o->model_path);
    o->rope_scaling = keep(&at, o->rope_scaling);
    o->script_path = keep(&at, o->script_path);
    o->build = keep(&at, o->build);
    return true;
}

/* Its pool is as large as the other's, since that holds one sequence of the context for certain; memory that no page of
 * it was written to costs nothing. */
static void choose_options(struct replay *r)
{
    struct engine_options *o = &r->options.engine;
    o->backend = (struct backend_options){.kind = BACKEND_CPU,
                                          .cpu = {.kernels = CPU_KERNELS_REFERENCE, .n_threads = 1, .spin_us = 0}};
    o->pool = o->seals = NULL; /* they are the other's */
    o->seals_size = 0;
    o->discard = NULL;
    o->adapter_paths = NULL; /* what the process may read is decided */
    o->n_adapter_paths = 0;
    o->max_context = r->options.n_context;
    o->max_batch_tokens = o->prefill_chunk = 0;
    o->max_sequences = 1;
    o->max_waiting = REPLAY_MAX_JOBS;
    o->prefix_cache = o->replay = false;
    o->kv_disk_dir = o->draft_model_path = NULL;
    o->speculation = SPECULATION_OFF;
    o->progress = NULL;
    o->progress_arg = NULL;
    o->fault = r->fault = fault_for_replay(o->fault);
}

struct replay *replay_create(const struct replay_options *options, struct error *err)
{
    struct replay *r = calloc(1, sizeof *r);
    if (!r) {
        error_set(err, ERR_NO_MEMORY, "There is no memory for replays.");
        return NULL;
    }
    r->options = *options;
    choose_options(r);
    r->orders = queue_create(sizeof(struct order), MAX_COMMANDS);
    r->adapted = queue_create(sizeof(struct error), 1);
    if (!copy_strings(r) || !r->orders || !r->adapted) {
        replay_free(r);
        error_set(err, ERR_NO_MEMORY, "There is no memory for replays.");
        return NULL;
    }
    return r;
}

void replay_free(struct replay *r)
{
    struct order o;
    if (!r) {
        return;
    }
    if (r->started) {
        queue_close(r->orders);
        queue_close(r->adapted);
        pthread_join(r->thread, NULL);
    }
    engine_free(r->engine);
    while (r->orders && queue_pop(r->orders, &o)) {
        release_order(&o);
    }
    queue_free(r->orders);
    queue_free(r->adapted);
    arena_free(r->arena);
    fault_free(r->fault);
    free(r->strings);
    free(r->overrides);
    free(r);
}

/* ---- the book ---- */

static struct entry *find(struct replay *r, uint64_t job)
{
    for (uint32_t i = 0; i < REPLAY_MAX_JOBS; i++) {
        if (r->entries[i].n_choices && r->entries[i].job == job) {
            return &r->entries[i];
        }
    }
    return NULL;
}

static struct entry *find_free(struct replay *r)
{
    for (uint32_t i = 0; i < REPLAY_MAX_JOBS; i++) {
        if (r->entries[i].n_choices == 0) {
            return &r->entries[i];
        }
    }
    return NULL;
}

static bool all_ended(const struct entry *e)
{
    uint64_t all = e->n_choices == 64 ? UINT64_MAX : ((uint64_t)1 << e->n_choices) - 1;
    return (e->ended & all) == all;
}

static void close_entry(struct replay *r, struct entry *e)
{
    *e = (struct entry){0};
    r->n_entries--;
    atomic_fetch_sub(&r->n_jobs, 1);
}

static bool start_worker(struct replay *r, struct error *err)
{
    if (!r->arena && !(r->arena = arena_create(8 * FRAMES_MAX))) {
        return error_set(err, ERR_NO_MEMORY, "there is no memory for its events.");
    }
    if (!r->started) {
        int rc = pthread_create(&r->thread, NULL, work, r);
        r->started = rc == 0;
        return rc == 0 || error_set(err, ERR_NO_MEMORY, "its thread could not be started: %s.", strerror(rc));
    }
    return true;
}

static bool open_entry(struct replay *r, const struct bad_job *bad, const struct loaded_adapter *adapter,
                       struct error *err)
{
    struct entry *e = find_free(r);
    struct order o = {.kind = ORDER_RUN, .job = bad->job};
    if (!e) {
        return error_set(err, ERR_OVERLOADED, "%d others wait for that already.", REPLAY_MAX_JOBS);
    }
    if (!start_worker(r, err)) {
        return false;
    }
    if (adapter && !(o.adapter = malloc(sizeof *o.adapter))) {
        return error_set(err, ERR_NO_MEMORY, "there is no memory for what its adapter is.");
    }
    if (adapter) {
        *o.adapter = *adapter;
    }
    if (!queue_push(r->orders, &o)) {
        free(o.adapter);
        return error_set(err, ERR_OVERLOADED, "too many others wait for that.");
    }
    return true;
}

bool replay_push(struct replay *r, const struct bad_job *bad, const struct loaded_adapter *adapter, struct error *err)
{
    struct error why = {0};
    struct entry entry = {.job = bad->job->id,
                          .deadline_ns = bad->deadline_ns,
                          .n_choices = bad->job->n_choices,
                          .n_scored = bad->n_scored,
                          .ended = bad->ended};
    for (uint32_t i = 0; bad->job->accepted && i < entry.n_choices; i++) {
        entry.n_output[i] = bad->job->accepted[i].n;
    }
    memcpy(entry.at, bad->at, sizeof entry.at);
    LOG_WARN("logits are not finite: the request is tried again", "job=%llu at=\"%s\"", (unsigned long long)entry.job,
             entry.at);
    atomic_fetch_add(&r->n_jobs, 1);
    if (!open_entry(r, bad, adapter, &why)) {
        atomic_fetch_sub(&r->n_jobs, 1);
        return error_set(err, ERR_BAD_NUMBERS,
                         "The model gave logits that are not finite numbers at %s of this request, and it could not be "
                         "tried again: %s",
                         entry.at, why.msg);
    }
    *find_free(r) = entry;
    r->n_entries++;
    return true;
}

static void order_cancel(struct replay *r, uint64_t job, uint32_t choice)
{
    /* A full queue: the job runs to its end, and nobody hears of it. */
    (void)!queue_push(r->orders, &(struct order){.kind = ORDER_CANCEL, .id = job, .choice = choice});
}

void replay_cancel(struct replay *r, uint64_t job, uint32_t choice, replay_sink *each, void *arg)
{
    struct entry *e = r ? find(r, job) : NULL;
    if (!e) {
        return;
    }
    order_cancel(r, job, choice);
    for (uint32_t i = 0; i < e->n_choices; i++) {
        if ((choice == i || choice == WIRE_ALL_CHOICES) && !(e->ended >> i & 1)) {
            struct engine_event event = {.kind = ENGINE_TOKENS,
                                         .job = job,
                                         .choice = i,
                                         .index = e->n_output[i],
                                         .finish = FINISH_CANCELLED,
                                         .stop_id = -1};
            e->ended |= (uint64_t)1 << i;
            each(arg, &event, all_ended(e));
        }
    }
    if (all_ended(e)) {
        close_entry(r, e);
    }
}

static void fail(struct replay *r, struct entry *e, const struct error *why, replay_sink *each, void *arg)
{
    struct engine_event failed = {.kind = ENGINE_FAILED, .job = e->job, .stop_id = -1, .error = *why};
    order_cancel(r, e->job, WIRE_ALL_CHOICES);
    close_entry(r, e);
    each(arg, &failed, true);
}

void replay_expire(struct replay *r, int64_t now_ns, replay_sink *each, void *arg)
{
    struct error why = {0};
    bool lost = r && atomic_exchange(&r->lost_events, false);
    for (uint32_t i = 0; r && r->n_entries && i < REPLAY_MAX_JOBS; i++) {
        struct entry *e = &r->entries[i];
        if (e->n_choices == 0) {
            continue;
        }
        if (lost) {
            error_set(&why, ERR_NO_MEMORY, "There is no memory for the events of this request.");
            fail(r, e, &why, each, arg);
        } else if (e->deadline_ns && e->deadline_ns <= now_ns) {
            error_set(&why, ERR_DEADLINE,
                      "The request did not finish in its time. It was being computed once more, since the model gave "
                      "logits that are not finite numbers at %s.",
                      e->at);
            fail(r, e, &why, each, arg);
        }
    }
}

bool replay_busy(const struct replay *r)
{
    return r && r->n_entries > 0;
}

/* ---- what comes up ---- */

struct taking {
    struct replay *r;
    replay_sink *each;
    void *arg;
};

static void take_tokens(struct taking *t, struct entry *e, const struct engine_event *event)
{
    uint64_t bit = (uint64_t)1 << event->choice;
    if (event->choice >= e->n_choices || e->ended & bit) {
        return;
    }
    e->n_output[event->choice] = event->index + event->n;
    e->ended |= event->finish != FINISH_NONE ? bit : 0;
    bool last = all_ended(e);
    t->each(t->arg, event, last);
    if (last) {
        close_entry(t->r, e);
    }
}

/* The prompt is scored from its beginning. */
static void take_scores(struct taking *t, struct entry *e, const struct engine_event *event)
{
    struct engine_event rest = *event;
    uint32_t known = e->n_scored > event->index ? e->n_scored - event->index : 0;
    if (known >= event->n) {
        return;
    }
    rest.index += known;
    rest.n -= known;
    rest.logprobs = rest.logprobs ? rest.logprobs + known : NULL;
    e->n_scored = rest.index + rest.n;
    t->each(t->arg, &rest, false);
}

static void take_failure(struct taking *t, struct entry *e, const struct engine_event *event)
{
    struct engine_event failed = *event;
    if (event->error.code == ERR_BAD_NUMBERS && e->announced) {
        error_set(&failed.error, ERR_BAD_NUMBERS,
                  "The model gave logits that are not finite numbers at %s of this request, and again when it was "
                  "computed once more on the reference kernels.",
                  e->at);
    }
    close_entry(t->r, e);
    t->each(t->arg, &failed, true);
}

static void take_event(void *arg, const struct engine_event *event)
{
    struct taking *t = arg;
    struct entry *e = find(t->r, event->job);
    if (!e) {
        return; /* it was cancelled, or its time is over */
    }
    switch (event->kind) {
    case ENGINE_REPLAYED:
        e->announced = true;
        t->each(t->arg, event, false);
        break;
    case ENGINE_TOKENS:
        take_tokens(t, e, event);
        break;
    case ENGINE_PROMPT:
        take_scores(t, e, event);
        break;
    case ENGINE_FAILED:
        take_failure(t, e, event);
        break;
    default: /* it has begun long ago */
        break;
    }
}

void replay_take(struct replay *r, char *data, size_t size, replay_sink *each, void *arg)
{
    struct taking t = {.r = r, .each = each, .arg = arg};
    struct str rest = {data, size};
    struct error err = {0};
    struct frame frame;
    size_t consumed;
    while (frame_parse(rest, &frame, &consumed, &err) == 1) {
        arena_clear(r->arena);
        if (!frame_get_events(&frame, r->arena, take_event, &t, &err)) {
            LOG_ERROR("events of a replay are lost", "error=\"%s\"", err.msg);
            atomic_store(&r->lost_events, true);
        }
        rest = str_slice(rest, consumed, rest.len);
    }
    free(data);
}
