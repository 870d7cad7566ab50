/* Models that are loaded on demand. What is read of a model's file is read by a worker or a thread of its own, before
 * anything but its names is there; a model that leaves the list lives on until its last request, and whoever holds it,
 * is gone. */
#include "gateway/gateway_internal.h"

#include "base/log.h"

#include <stdlib.h>
#include <string.h>

/* ---- who waits ---- */

void gateway__add_waiter(struct model_waiters *w, void (*fn)(void *arg, const struct error *err), void *arg)
{
    struct error err = {0};
    struct model_waiter *waiter = fn ? malloc(sizeof *waiter) : NULL;
    if (!fn) {
        return;
    }
    if (!waiter) {
        error_set(&err, ERR_NO_MEMORY, "no memory to wait for a model.");
        fn(arg, &err);
        return;
    }
    *waiter = (struct model_waiter){.fn = fn, .arg = arg};
    if (w->last) {
        w->last->next = waiter;
    } else {
        w->first = waiter;
    }
    w->last = waiter;
}

void gateway__tell(struct model_waiters *w, const struct error *err)
{
    struct model_waiter *waiter = w->first;
    *w = (struct model_waiters){0}; /* those told may wait again */
    while (waiter) {
        struct model_waiter *next = waiter->next;
        waiter->fn(waiter->arg, err);
        free(waiter);
        waiter = next;
    }
}

/* ---- reading a model ---- */

struct reading {
    struct served_model *model;
    struct reading *next; /* that is to be made */
    bool makes;
    bool ok;
    struct error err;
};

static bool note_progress(void *arg, double fraction)
{
    struct served_model *m = arg;
    int before = atomic_exchange(&m->opening_permille, (int)(1000 * fraction));
    if ((int)(1000 * fraction) / 100 > before / 100) {
        LOG_INFO("model is being made", "model=%s percent=%d", m->names[0], (int)(100 * fraction));
    }
    return !atomic_load(&m->gateway->ends);
}

static bool choose(struct reading *r)
{
    struct served_model *m = r->model;
    const struct served_model_options *o = &m->options;
    m->choice = (struct model_choice){0};
    return !o->choose || o->choose(o->choose_arg, m->gateway->options.memory, r->makes ? note_progress : NULL, m,
                                   &m->choice, &r->err);
}

static void read_model(void *arg)
{
    struct reading *r = arg;
    r->ok = choose(r) && (r->model->choice.to_be_made || gateway__read_model(r->model, &r->err));
}

/* The file that was read is the one that its engine loads. */
static bool make_parts(struct served_model *m, struct error *err)
{
    const char *source = m->options.model_path;
    if (m->choice.path[0]) {
        m->options.model_path = m->choice.path;
        m->options.precision_bits = m->choice.bits;
        m->options.precision_why = m->choice.why;
    }
    bool ok = gateway__make_parts(m, err);
    m->options.model_path = ok ? m->options.model_path : source;
    return ok;
}

static void on_read(void *arg);

/* One at a time: each takes all cores. */
static void make_next(struct gateway *g)
{
    if (g->first_making) {
        loop_work_alone(g->options.loop, read_model, on_read, g->first_making);
    }
}

static void queue_making(struct gateway *g, struct reading *r)
{
    struct reading **end = &g->first_making;
    while (*end) {
        end = &(*end)->next;
    }
    r->makes = true;
    *end = r;
    if (g->first_making == r) {
        make_next(g);
    }
}

static void end_reading(struct reading *r)
{
    struct gateway *g = r->model->gateway;
    if (r->makes) {
        g->first_making = r->next;
        make_next(g);
    }
    free(r);
}

static void on_read(void *arg)
{
    struct reading *r = arg;
    struct served_model *m = r->model;
    struct gateway *g = m->gateway;
    struct error err = r->err;
    if (r->ok && m->choice.to_be_made) {
        queue_making(g, r);
        return;
    }
    bool ok = r->ok && make_parts(m, &err);
    end_reading(r);
    m->opening = false;
    m->open_failure = (struct error){0};
    if (!ok) {
        gateway__free_parts(m);
        gateway__forget_file(m);
        LOG_ERROR("model cannot be read", "model=%s error=\"%s\"", m->names[0], err.msg);
        error_set(&m->open_failure, ERR_UNAVAILABLE, "model '%.60s' cannot be loaded: %.150s", m->names[0], err.msg);
    }
    err = m->open_failure;
    gateway__tell(&m->for_open, ok ? NULL : &err);
    gateway__manage_soon(g);
    served_model_release(m);
    gateway__hold(g, false); /* the gateway may be gone with it */
}

static void begin_reading(struct served_model *m)
{
    struct reading *r = calloc(1, sizeof *r);
    struct error err = {0};
    if (!r) {
        error_set(&err, ERR_NO_MEMORY, "no memory to read a model.");
        gateway__tell(&m->for_open, &err);
        return;
    }
    *r = (struct reading){.model = m};
    m->opening = true;
    atomic_store(&m->opening_permille, 0);
    served_model_hold(m);
    gateway__hold(m->gateway, true);
    loop_work_first(m->gateway->options.loop, read_model, on_read, r);
}

void gateway_open(struct served_model *m, void (*fn)(void *arg, const struct error *err), void *arg)
{
    if (m->open) {
        fn(arg, NULL);
        return;
    }
    gateway__add_waiter(&m->for_open, fn, arg);
    if (!m->opening) {
        begin_reading(m);
    }
}

bool served_model_is_open(const struct served_model *m)
{
    return m->open;
}

void served_model_hold(struct served_model *m)
{
    m->n_refs++;
}

void served_model_release(struct served_model *m)
{
    if (m && --m->n_refs == 0 && m->retired) {
        gateway__manage_soon(m->gateway);
    }
}

/* ---- the list ---- */

static struct served_model *find_same(const struct gateway *g, const struct served_model_options *o)
{
    for (size_t i = 0; i < g->n_models; i++) {
        const struct served_model_options *have = &g->models[i]->options;
        if (have->on_demand && have->version == o->version && strcmp(have->names[0], o->names[0]) == 0) {
            return g->models[i];
        }
    }
    return NULL;
}

static bool check_list(const struct gateway *g, const struct served_model_options *models, size_t n, struct error *err)
{
    if (n > GATEWAY_MAX_MODELS) {
        return error_set(err, ERR_INVALID, "at most %d models can be served, %zu are given.", GATEWAY_MAX_MODELS, n);
    }
    if (g->n_retired + g->n_models > sizeof g->retired / sizeof g->retired[0]) {
        return error_set(err, ERR_UNAVAILABLE, "%zu models of earlier lists still have requests. Try again later.",
                         g->n_retired);
    }
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < i; k++) {
            if (strcmp(models[i].names[0], models[k].names[0]) == 0) {
                return error_set(err, ERR_INVALID, "two models have the name '%.100s'.", models[i].names[0]);
            }
        }
    }
    return true;
}

/* No new requests, since its name finds it no more; it goes as soon as it has nothing to do. */
static void retire(struct served_model *m)
{
    struct gateway *g = m->gateway;
    LOG_INFO("model leaves the list", "model=%s", m->names[0]);
    m->retired = true;
    m->slot.pinned = false;
    m->slot.keep_alive_ms = 0;
    m->slot.load_asked = false;
    g->retired[g->n_retired++] = m;
}

static void on_preload_read(void *arg, const struct error *err)
{
    struct served_model *m = arg;
    if (!err && !m->retired) {
        gateway_load(m, NULL, NULL);
    }
}

/* next: [n] models, kept or new. */
static void take_list(struct gateway *g, struct served_model *const *next, size_t n)
{
    for (size_t i = 0; i < g->n_models; i++) {
        bool stays = false;
        for (size_t k = 0; k < n; k++) {
            stays = stays || next[k] == g->models[i];
        }
        if (!stays) {
            retire(g->models[i]);
        }
    }
    memcpy(g->models, next, n * sizeof next[0]);
    g->n_models = n;
}

static void begin_model(struct served_model *m)
{
    bool added = model_manager_add(&m->gateway->manager, &m->slot); /* both lists are bounded: there is room */
    LOG_INFO("model in the list", "model=%s path=%s%s%s", m->names[0], m->options.model_path,
             m->options.pinned ? " pinned" : "", m->options.preload ? " preload" : "");
    if (added && (m->options.pinned || m->options.preload)) {
        gateway_open(m, on_preload_read, m);
    }
}

bool gateway_set_models(struct gateway *g, const struct served_model_options *models, size_t n, struct error *err)
{
    struct served_model *next[GATEWAY_MAX_MODELS];
    bool is_new[GATEWAY_MAX_MODELS];
    size_t i = 0;
    bool ok = check_list(g, models, n, err) && gateway__start_manager(g, err) && gateway__watch_pressure(g, err);
    for (; ok && i < n; i++) {
        next[i] = find_same(g, &models[i]);
        is_new[i] = !next[i];
        next[i] = next[i] ? next[i] : gateway__create_model(g, &models[i], err);
        ok = next[i] != NULL;
    }
    for (size_t k = 0; !ok && k < i; k++) {
        if (is_new[k] && next[k]) {
            next[k]->options.arena = NULL; /* still the caller's */
            gateway__free_model(next[k]);
        }
    }
    if (!ok) {
        return false;
    }
    take_list(g, next, n);
    for (size_t k = 0; k < n; k++) {
        if (is_new[k]) {
            begin_model(next[k]);
        } else {
            arena_free(models[k].arena);
        }
    }
    gateway__manage_soon(g);
    return true;
}

/* ---- those that have left it ---- */

static bool is_done(const struct served_model *m)
{
    if (m->n_refs > 0 || m->opening || m->for_open.first || m->for_load.first || m->for_unload.first) {
        return false;
    }
    enum model_state state = m->open ? engine_child_state(m->child) : MODEL_UNLOADED;
    bool gone = state == MODEL_UNLOADED || state == MODEL_FAILED;
    return gone && (!m->open || (pipeline_n_running(m->pipeline) == 0 && engine_child_n_waiting(m->child) == 0));
}

void gateway__sweep(struct gateway *g)
{
    for (size_t i = 0; i < g->n_retired;) {
        if (g->n_held == 0 && is_done(g->retired[i])) { /* held: a worker may use any of the pipelines */
            LOG_INFO("model is gone", "model=%s", g->retired[i]->names[0]);
            gateway__free_model(g->retired[i]);
            g->retired[i] = g->retired[--g->n_retired];
        } else {
            i++;
        }
    }
}
