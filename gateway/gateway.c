#include "gateway/gateway_internal.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdlib.h>

#define GATEWAY_DRAIN_POLL_MS 50

struct gateway_options gateway_options_default(void)
{
    return (struct gateway_options){
        .restart =
            {.initial_ms = 200, .max_ms = 10000, .multiplier = 2, .limit = 10, .window_ms = 60000, .retry_ms = 30000},
        .watchdog = {.stopped_ms = WATCHDOG_STOPPED_MS, .hang_ms = WATCHDOG_HUNG_MS},
        .engine_grace_ms = 3000,
        .retry_limit = PIPELINE_RETRY_LIMIT,
    };
}

struct gateway *gateway_create(const struct gateway_options *options, struct error *err)
{
    struct gateway *g = calloc(1, sizeof *g);
    if (!g || !(g->metrics = metrics_create())) {
        free(g);
        error_set(err, ERR_NO_MEMORY, "no memory for the gateway.");
        return NULL;
    }
    g->options = *options;
    g->started_ms = clock_ms();
    return g;
}

/* ---- memory pressure ---- */

void gateway__limit_pool(struct served_model *m, enum pressure_level level)
{
    uint64_t held = metrics_page_bytes(&m->stats, m->stats.pages_referenced + m->stats.pages_cached);
    if (!pool_limit_update(&m->pool_limit, level, (size_t)held, clock_ms())) {
        return;
    }
    struct pool_limit limit = {.size = m->pool_limit.limit, .urgent = m->pool_limit.urgent};
    LOG_INFO("KV pool limited", "model=%s pressure=%s mib=%zu of_mib=%zu", m->names[0], pressure_level_name(level),
             m->pool_limit.limit >> 20, m->pool_limit.size >> 20);
    engine_child_limit_pool(m->child, &limit);
}

static void on_pressure(void *arg, enum pressure_level level)
{
    struct gateway *g = arg;
    for (size_t i = 0; i < gateway_n_present(g); i++) {
        if (gateway_present_at(g, i)->open) {
            gateway__limit_pool(gateway_present_at(g, i), level);
        }
    }
}

bool gateway__watch_pressure(struct gateway *g, struct error *err)
{
    struct pressure_options options = {
        .loop = g->options.loop, .file = g->options.pressure_file, .on_level = on_pressure, .arg = g};
    return g->pressure || (g->pressure = pressure_create(&options, err));
}

/* ---- drain and close ---- */

/* Nobody waits for it. */
static void end_warming(struct gateway *g)
{
    for (size_t i = 0; i < g->n_models; i++) {
        if (g->models[i]->warmer) {
            warmer_end(g->models[i]->warmer);
        }
    }
}

/* Loading may take longer than anybody has left. */
static void note_drained(struct gateway *g)
{
    g->drained = true;
    if (g->manage_timer) {
        gateway__manage_soon(g);
    }
}

static void stop_drain(struct gateway *g)
{
    loop_timer_free(g->drain_timer);
    g->drain_timer = NULL;
}

/* An end without a word would look like a complete answer. */
static void fail_running(struct gateway *g)
{
    struct error why = {0};
    error_set(&why, ERR_UNAVAILABLE, "The server is shutting down and this request took too long.");
    for (size_t i = 0; i < gateway_n_present(g); i++) {
        if (gateway_present_at(g, i)->open) {
            pipeline_fail_all(gateway_present_at(g, i)->pipeline, &why);
        }
    }
}

static void poll_drain(void *arg)
{
    struct gateway *g = arg;
    size_t running = 0;
    for (size_t i = 0; i < gateway_n_present(g); i++) {
        const struct served_model *m = gateway_present_at(g, i);
        running += m->open ? pipeline_n_running(m->pipeline) : m->for_open.first != NULL; /* who waits will run */
    }
    if (running == 0 || clock_ms() >= g->drain_until_ms) {
        if (running) {
            LOG_WARN("drain time is over", "running=%zu", running);
            fail_running(g);
        }
        stop_drain(g);
        note_drained(g);
        g->on_drained(g->on_drained_arg);
    }
}

void gateway_drain(struct gateway *g, int64_t timeout_ms, void (*on_drained)(void *arg), void *arg)
{
    g->draining = true;
    atomic_store(&g->ends, true); /* requests that wait for a model to be made would wait too long */
    end_warming(g);
    g->on_drained = on_drained;
    g->on_drained_arg = arg;
    g->drain_until_ms = clock_ms() + timeout_ms;
    g->drain_timer = loop_timer_create(g->options.loop, poll_drain, g);
    if (!g->drain_timer) {
        note_drained(g);
        loop_defer(g->options.loop, on_drained, arg);
        return;
    }
    loop_timer_start(g->drain_timer, 0, GATEWAY_DRAIN_POLL_MS);
}

bool gateway_accepting(const struct gateway *g)
{
    return !g->draining;
}

void gateway__closed_part(void *gateway)
{
    struct gateway *g = gateway;
    if (g->n_closing && --g->n_closing) {
        return;
    }
    void (*on_closed)(void *) = g->on_closed;
    void *on_closed_arg = g->on_closed_arg;
    pressure_free(g->pressure);
    loop_timer_free(g->manage_timer);
    for (size_t i = 0; i < gateway_n_present(g); i++) {
        gateway__free_model(gateway_present_at(g, i));
    }
    metrics_free(g->metrics);
    free(g);
    on_closed(on_closed_arg);
}

static void close_model(struct served_model *m)
{
    struct gateway *g = m->gateway;
    if (m->open) {
        g->n_closing++;
        engine_child_close(m->child, gateway__closed_part, g);
    }
    if (m->warmer) {
        g->n_closing++;
        warmer_close(m->warmer, gateway__closed_part, g);
    }
}

void gateway_close(struct gateway *g, void (*on_closed)(void *arg), void *arg)
{
    g->draining = true;
    atomic_store(&g->ends, true);
    stop_drain(g);
    g->on_closed = on_closed;
    g->on_closed_arg = arg;
    g->n_closing = g->n_held + g->n_reading;
    if (g->manage_timer) {
        loop_timer_stop(g->manage_timer);
    }
    for (size_t i = 0; i < gateway_n_present(g); i++) {
        close_model(gateway_present_at(g, i));
    }
    if (g->n_closing == 0) {
        loop_defer(g->options.loop, gateway__closed_part, g);
    }
}

/* ---- looking ---- */

/* Models on demand count until they have been loaded as they are to be at the start; a pinned one whenever its engine
 * is not what it should be. */
static bool counts_for_ready(const struct served_model *m, enum model_state state)
{
    bool gone = state == MODEL_UNLOADED || state == MODEL_UNLOADING;
    if (m->was_ready && (gone || !m->slot.pinned)) { /* somebody has unloaded it: the next request loads it */
        return false;
    }
    return m->slot.pinned || m->options.preload;
}

static bool is_ready(const struct served_model *m, struct error *why_not)
{
    enum model_state state = served_model_state(m);
    if (!counts_for_ready(m, state)) {
        return true;
    }
    if (state == MODEL_LOADING || state == MODEL_UNLOADED) {
        return error_set(why_not, ERR_UNAVAILABLE, "model '%s' is loading (%d%%).", m->names[0],
                         (int)(100 * served_model_load_fraction(m)));
    }
    if (state != MODEL_READY) {
        return error_set(why_not, ERR_UNAVAILABLE, "model '%s' is %s: %s", m->names[0], model_state_name(state),
                         served_model_failure(m)->msg);
    }
    struct warmer_status warm = m->warmer ? warmer_status(m->warmer) : (struct warmer_status){0};
    if (m->options.warm_wait && m->warmer && warm.n_rounds == 0) {
        return error_set(why_not, ERR_UNAVAILABLE, "model '%s' is computing its warm prompts (%zu of %zu).",
                         m->names[0], warm.n_done, warm.n);
    }
    return true;
}

bool gateway_ready(const struct gateway *g, struct error *why_not)
{
    if (g->draining) {
        return error_set(why_not, ERR_UNAVAILABLE, "the server is shutting down.");
    }
    for (size_t i = 0; i < g->n_models; i++) {
        if (!is_ready(g->models[i], why_not)) {
            return false;
        }
    }
    return true;
}

struct metrics *gateway_metrics(struct gateway *g)
{
    return g->metrics;
}

enum pressure_level gateway_pressure(const struct gateway *g)
{
    return pressure_level(g->pressure);
}

struct loop *gateway_loop(struct gateway *g)
{
    return g->options.loop;
}

int64_t gateway_uptime_ms(const struct gateway *g)
{
    return clock_ms() - g->started_ms;
}

size_t gateway_n_models(const struct gateway *g)
{
    return g->n_models;
}

struct served_model *gateway_model_at(struct gateway *g, size_t i)
{
    return g->models[i];
}

size_t gateway_n_present(const struct gateway *g)
{
    return g->n_models + g->n_retired;
}

struct served_model *gateway_present_at(struct gateway *g, size_t i)
{
    return i < g->n_models ? g->models[i] : g->retired[i - g->n_models];
}
