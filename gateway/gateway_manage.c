/* Engines by the model manager's decisions. It is asked from a timer only, never from inside of what has changed, so
 * that nothing it does comes as a surprise to whoever caused it. */
#include "gateway/gateway_internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "pipeline/load.h"

#define DRAIN_POLL_MS 20  /* while somebody waits for the last job of an engine; turns with MCP tools end unheard */
#define IDLE_POLL_MS  100 /* while answers are still being taken, which nobody tells the end of */

static struct served_model *model_of(struct model_slot *slot)
{
    return (struct served_model *)(void *)((char *)slot - offsetof(struct served_model, slot));
}

/* ---- what the manager decides ---- */

static void refuse(struct served_model *m)
{
    struct error err = {0};
    const struct model_manager *manager = &m->gateway->manager;
    error_set(&err, ERR_NO_ROOM,
              "model '%.60s' needs %llu MiB of memory, and %llu MiB are allowed (--memory)%s; it can never be loaded.",
              m->names[0], (unsigned long long)(m->slot.size >> 20), (unsigned long long)(manager->budget >> 20),
              model_manager_pinned(manager, &m->slot) ? " for it and the pinned models" : "");
    engine_child_refuse(m->child, &err);
    gateway__tell(&m->for_load, &err);
}

static void act(void *arg, struct model_slot *slot, enum slot_act what)
{
    struct served_model *m = model_of(slot);
    (void)arg;
    switch (what) {
    case SLOT_LOAD:
        LOG_INFO("model is loaded", "model=%s need_mib=%llu waiting=%u", m->names[0],
                 (unsigned long long)(slot->size >> 20), slot->n_queued);
        engine_child_start(m->child);
        break;
    case SLOT_HOLD:
        engine_child_hold(m->child, true);
        break;
    case SLOT_RESUME:
        engine_child_hold(m->child, false);
        break;
    case SLOT_UNLOAD:
        engine_child_stop(m->child);
        break;
    case SLOT_REFUSE:
        refuse(m);
        break;
    }
}

/* ---- a look ---- */

static int64_t sooner(int64_t a, int64_t b)
{
    return a < 0 || b < a ? b : a;
}

static void refresh(struct served_model *m)
{
    uint32_t waiting = engine_child_n_waiting(m->child);
    struct pipeline_load load = pipeline_load(m->pipeline, 0, 0);
    size_t jobs = pipeline_n_jobs(m->pipeline);
    m->slot.n_queued = waiting;
    m->slot.n_rows = engine_child_n_rows(m->child);
    m->slot.asked = load.jobs_waiting || load.sequences_running;
    m->slot.n_running = (uint32_t)(jobs > waiting ? jobs - waiting : 0);
    m->slot.in_use = pipeline_n_running(m->pipeline) > 0;
}

/* Somebody else has unloaded it again, or it could not be loaded, or the server leaves. */
static void tell_those_in_vain(struct served_model *m)
{
    struct error err = {0};
    if (m->gateway->drained) {
        error_set(&err, ERR_UNAVAILABLE, "The server is shutting down.");
        gateway__tell(&m->for_load, &err);
        gateway__tell(&m->for_unload, &err);
        gateway__refuse_adapters(m, &err);
    } else if (m->for_load.first && m->slot.state == SLOT_OUT && m->slot.ticket == 0) {
        error_set(&err, ERR_UNAVAILABLE, "model '%.60s' was unloaded again before it was ready.", m->names[0]);
        gateway__tell(&m->for_load, &err);
    }
    if (m->slot.state == SLOT_IN && engine_child_state(m->child) == MODEL_READY) {
        gateway__tell(&m->for_load, NULL);
    }
}

static int64_t poll_in_ms(const struct served_model *m)
{
    if (m->slot.state == SLOT_DRAINING) {
        return DRAIN_POLL_MS;
    }
    return m->slot.state == SLOT_IN && m->slot.in_use && m->slot.keep_alive_ms >= 0 ? IDLE_POLL_MS : -1;
}

static void manage(void *arg)
{
    struct gateway *g = arg;
    for (size_t i = 0; i < g->manager.n; i++) {
        struct served_model *m = model_of(g->manager.slots[i]);
        if (m->open) {
            refresh(m);
        }
        if (m->slot.state == SLOT_OUT) {
            gateway__tell(&m->for_unload, NULL);
        }
    }
    int64_t due_ms = model_manager_look(&g->manager, clock_ms(), act, NULL);
    for (size_t i = 0; i < g->manager.n; i++) {
        struct served_model *m = model_of(g->manager.slots[i]);
        int64_t poll_ms = m->open ? poll_in_ms(m) : -1;
        if (m->open) {
            tell_those_in_vain(m);
        }
        due_ms = poll_ms >= 0 ? sooner(due_ms, poll_ms) : due_ms;
    }
    gateway__sweep(g);
    if (due_ms >= 0 && !g->due_now) {
        loop_timer_start(g->manage_timer, due_ms > 0 ? due_ms : 1, 0);
    }
}

static void on_timer(void *arg)
{
    struct gateway *g = arg;
    g->due_now = false;
    manage(g);
}

bool gateway__start_manager(struct gateway *g, struct error *err)
{
    if (!g->manage_timer) {
        g->manager.budget = g->options.memory ? g->options.memory : UINT64_MAX;
        g->manager.patience_ms = g->options.rows_patience_ms;
        g->manage_timer = loop_timer_create(g->options.loop, on_timer, g);
    }
    return g->manage_timer || error_set(err, ERR_NO_MEMORY, "no memory for a timer.");
}

void gateway__manage_soon(struct gateway *g)
{
    if (!g->due_now && !g->on_closed) {
        g->due_now = true;
        loop_timer_start(g->manage_timer, 0, 0);
    }
}

/* ---- what the manager is told ---- */

void gateway__model_wanted(void *arg)
{
    struct served_model *m = arg;
    model_manager_want(&m->gateway->manager, &m->slot);
    gateway__manage_soon(m->gateway);
}

static void note_ready(struct served_model *m)
{
    struct gateway *g = m->gateway;
    bool loading = m->slot.state == SLOT_LOADING;
    model_manager_loaded(&g->manager, &m->slot, clock_ms());
    m->was_ready = true;
    g->load_s += loading ? (double)m->slot.load_ms / 1000 : 0;
}

static void note_out(struct served_model *m, const struct error *failure)
{
    struct gateway *g = m->gateway;
    bool loading = m->slot.state == SLOT_LOADING;
    model_manager_out(&g->manager, &m->slot);
    m->slot.keep_alive_ms = m->retired ? 0 : m->slot.pinned ? -1 : m->options.keep_alive_ms;
    m->stats = (struct engine_stats){0};
    m->stats_ms = 0;
    metrics_engine_ended(g->metrics, m->metrics_index);
    g->n_failed_loads += failure && loading;
    gateway__tell(&m->for_unload, NULL);
    if (failure) {
        struct error err = {0};
        error_set(&err, ERR_UNAVAILABLE, "model '%.60s' cannot be loaded: %.150s", m->names[0], failure->msg);
        gateway__tell(&m->for_load, &err);
    }
}

void gateway__engine_changed(struct served_model *m)
{
    enum model_state state = engine_child_state(m->child);
    if (state == MODEL_READY) {
        note_ready(m);
    } else if (state == MODEL_UNLOADED) {
        note_out(m, NULL);
    } else if (state == MODEL_FAILED && m->options.on_demand) {
        note_out(m, engine_child_failure(m->child));
    }
    gateway__manage_soon(m->gateway);
}

/* ---- what is asked for ---- */

void gateway_load(struct served_model *m, void (*fn)(void *arg, const struct error *err), void *arg)
{
    gateway__add_waiter(&m->for_load, fn, arg);
    model_manager_load(&m->gateway->manager, &m->slot);
    gateway__manage_soon(m->gateway);
}

void gateway_unload(struct served_model *m, bool force, void (*fn)(void *arg, const struct error *err), void *arg)
{
    gateway__add_waiter(&m->for_unload, fn, arg);
    atomic_store(&m->stop_bringing, true);
    if (m->open) {
        refresh(m);
        model_manager_unload(&m->gateway->manager, &m->slot);
    }
    if (m->open && force && m->slot.state != SLOT_OUT) {
        engine_child_hold(m->child, true);
        pipeline_requeue(m->pipeline);
    }
    gateway__manage_soon(m->gateway);
}

void served_model_keep_alive(struct served_model *m, int64_t ms)
{
    if (!m->retired && (ms == 0 || !m->slot.pinned)) {
        m->slot.keep_alive_ms = ms;
        gateway__manage_soon(m->gateway);
    }
}

/* ---- looking ---- */

struct memory_plan gateway_memory_plan(const struct gateway *g)
{
    const struct model_manager *m = &g->manager;
    return (struct memory_plan){.budget = g->options.memory,
                                .used = model_manager_used(m),
                                .pinned = model_manager_pinned(m, NULL),
                                .n_loads = m->n_loads,
                                .n_evictions = m->n_evictions,
                                .n_idle_unloads = m->n_idle_unloads,
                                .n_waiting = model_manager_n_waiting(m),
                                .load_s = g->load_s,
                                .n_failed_loads = g->n_failed_loads};
}

const struct memory_need *served_model_need(const struct served_model *m)
{
    return &m->need;
}

bool served_model_is_pinned(const struct served_model *m)
{
    return m->slot.pinned;
}

int64_t served_model_keep_alive_ms(const struct served_model *m)
{
    return m->slot.keep_alive_ms;
}

int64_t served_model_idle_ms(const struct served_model *m)
{
    bool busy = m->open && (pipeline_n_running(m->pipeline) > 0 || m->slot.state != SLOT_IN);
    return busy || !m->open ? -1 : clock_ms() - m->slot.used_ms;
}

uint32_t served_model_n_queued(const struct served_model *m)
{
    return m->open ? engine_child_n_waiting(m->child) : 0;
}
