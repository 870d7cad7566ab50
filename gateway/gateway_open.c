/* Models that are loaded on demand. What is read of a model's file is read by a worker or a thread of its own, before
 * anything but its names is there; a model that leaves the list lives on until its last request, and whoever holds it,
 * is gone. */
#include "gateway/gateway_internal.h"

#include "base/array.h"
#include "base/log.h"

#include <stdio.h>
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

#define BRINGING_MAX 4 /* models at a time: each has a thread and a few connections */

struct reading {
    struct served_model *model;
    struct reading *next; /* that is to be made, or brought */
    bool makes, brings;   /* it is to be brought first */
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
    const struct served_model_options *o = &r->model->options;
    struct error not_here = {0};
    r->brings = o->bring && !o->is_here(o->bring_arg, &not_here);
    if (r->brings) {
        r->err = not_here;
        r->ok = not_here.code == ERR_NONE; /* else it cannot even be looked for */
        return;
    }
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
static void queue_bringing(struct gateway *g, struct reading *r);
static void bring_next(struct gateway *g);

static void append(struct reading **list, struct reading *r)
{
    while (*list) {
        list = &(*list)->next;
    }
    *list = r;
}

/* One at a time: each takes all cores. */
static void make_next(struct gateway *g)
{
    if (g->first_making) {
        loop_work_alone(g->options.loop, read_model, on_read, g->first_making);
    }
}

static void queue_making(struct gateway *g, struct reading *r)
{
    r->makes = true;
    append(&g->first_making, r);
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

static void leave_list(struct served_model *m);

/* Closing waits for it. */
static void note_reading(struct gateway *g, bool begins)
{
    g->n_reading += begins ? 1 : (size_t)-1;
    if (!begins && g->on_closed) {
        gateway__closed_part(g);
    }
}

/* failure NULL: it is open. */
static void finish(struct served_model *m, const struct error *failure)
{
    struct gateway *g = m->gateway;
    m->opening = m->bringing = false;
    m->open_failure = failure ? *failure : (struct error){0};
    struct error err = m->open_failure;
    if (failure && m->options.asked_for && !m->retired) {
        leave_list(m);
    }
    gateway__tell(&m->for_open, failure ? &err : NULL);
    gateway__manage_soon(g);
    served_model_release(m);
    note_reading(g, false); /* the gateway may be gone with it */
}

static void on_read(void *arg)
{
    struct reading *r = arg;
    struct served_model *m = r->model;
    struct error err = r->err, failure = {0};
    if (r->ok && r->brings) {
        queue_bringing(m->gateway, r);
        return;
    }
    if (r->ok && m->choice.to_be_made) {
        queue_making(m->gateway, r);
        return;
    }
    bool ok = r->ok && make_parts(m, &err);
    end_reading(r);
    if (!ok) {
        gateway__free_parts(m);
        gateway__forget_file(m);
        LOG_ERROR("model cannot be read", "model=%s error=\"%s\"", m->names[0], err.msg);
        error_set(&failure, ERR_UNAVAILABLE, "model '%.60s' cannot be loaded: %.150s", m->names[0], err.msg);
    }
    finish(m, ok ? NULL : &failure);
}

/* ---- bringing ---- */

static void note_bytes(void *arg, uint64_t done, uint64_t total)
{
    struct served_model *m = arg;
    atomic_store(&m->brought, done);
    atomic_store(&m->to_bring, total);
}

static bool is_to_stop(void *arg)
{
    struct served_model *m = arg;
    return atomic_load(&m->stop_bringing) || atomic_load(&m->gateway->ends);
}

static void bring(void *arg)
{
    struct reading *r = arg;
    struct served_model *m = r->model;
    struct model_bringing b = {.progress = note_bytes, .stops = is_to_stop, .arg = m};
    r->ok = !is_to_stop(m) && m->options.bring(m->options.bring_arg, &b, &r->err);
    if (!r->ok && r->err.code == ERR_NONE) {
        error_set(&r->err, ERR_CANCELLED, "The download was stopped.");
    }
}

static void on_brought(void *arg)
{
    struct reading *r = arg;
    struct served_model *m = r->model;
    struct gateway *g = m->gateway;
    g->n_bringing--;
    bring_next(g);
    m->bringing = false;
    if (r->ok) {
        LOG_INFO("model is brought", "model=%s bytes=%llu", m->names[0], (unsigned long long)atomic_load(&m->to_bring));
        r->err = (struct error){0};
        loop_work_first(g->options.loop, read_model, on_read, r);
        return;
    }
    struct error failure = {0};
    bool unknown = r->err.code == ERR_NOT_FOUND;
    LOG_ERROR("model cannot be brought", "model=%s error=\"%s\"", m->names[0], r->err.msg);
    error_set(&failure, unknown ? ERR_MODEL_NOT_FOUND : ERR_UNAVAILABLE,
              "model '%.60s' cannot be brought from the Hub: %.300s", m->names[0], r->err.msg);
    end_reading(r);
    finish(m, &failure);
}

/* Each takes a thread of its own, and waits most of the time. */
static void bring_next(struct gateway *g)
{
    while (g->first_bringing && g->n_bringing < BRINGING_MAX) {
        struct reading *r = g->first_bringing;
        g->first_bringing = r->next;
        r->next = NULL;
        g->n_bringing++;
        loop_work_alone(g->options.loop, bring, on_brought, r);
    }
}

static void queue_bringing(struct gateway *g, struct reading *r)
{
    struct served_model *m = r->model;
    LOG_INFO("model is brought from the Hub", "model=%s", m->names[0]);
    m->bringing = true;
    atomic_store(&m->stop_bringing, false);
    atomic_store(&m->brought, 0);
    atomic_store(&m->to_bring, 0);
    append(&g->first_bringing, r);
    bring_next(g);
}

bool served_model_is_brought(const struct served_model *m, uint64_t *done, uint64_t *total)
{
    *done = atomic_load(&m->brought);
    *total = atomic_load(&m->to_bring);
    return m->bringing;
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
    note_reading(m->gateway, true);
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

/* Whoever leaves the list has a place among those that have left it: n of them may be all. */
static bool may_leave(const struct gateway *g, size_t n)
{
    return g->n_retired + n <= ARRAY_LEN(g->retired);
}

static bool check_list(const struct gateway *g, const struct served_model_options *models, size_t n, struct error *err)
{
    if (n > GATEWAY_MAX_MODELS) {
        return error_set(err, ERR_INVALID, "at most %d models can be served, %zu are given.", GATEWAY_MAX_MODELS, n);
    }
    if (!may_leave(g, g->n_models)) {
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

/* A model that only a request has named. */
static void leave_list(struct served_model *m)
{
    struct gateway *g = m->gateway;
    size_t kept = 0;
    for (size_t i = 0; i < g->n_models; i++) {
        if (g->models[i] != m) {
            g->models[kept++] = g->models[i];
        }
    }
    if (kept < g->n_models) {
        g->n_models = kept;
        retire(m);
    }
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

struct served_model *gateway_add_asked(struct gateway *g, const struct served_model_options *options, struct error *err)
{
    if (g->n_models == GATEWAY_MAX_MODELS || !may_leave(g, g->n_models + 1)) {
        error_set(err, ERR_OVERLOADED, "at most %d models can be served; as many are, or still have requests.",
                  GATEWAY_MAX_MODELS);
        return NULL;
    }
    struct served_model *m = gateway__create_model(g, options, err);
    if (m) {
        g->models[g->n_models++] = m;
        begin_model(m);
    }
    return m;
}

/* Behind the n of a new list: those that requests have asked for, and that it does not name. Returns how many there
 * are then. */
static size_t add_asked(const struct gateway *g, struct served_model **next, bool *is_new, size_t n)
{
    for (size_t i = 0; i < g->n_models && n < GATEWAY_MAX_MODELS; i++) {
        bool named = !g->models[i]->options.asked_for;
        for (size_t k = 0; k < n && !named; k++) {
            named = strcmp(next[k]->names[0], g->models[i]->names[0]) == 0;
        }
        if (!named) {
            is_new[n] = false;
            next[n++] = g->models[i];
        }
    }
    return n;
}

bool gateway_set_models(struct gateway *g, const struct served_model_options *models, size_t n, struct error *err)
{
    struct served_model *next[GATEWAY_MAX_MODELS];
    bool is_new[GATEWAY_MAX_MODELS];
    size_t i = 0, n_listed = n;
    bool ok = check_list(g, models, n, err) && gateway__start_manager(g, err) && gateway__watch_pressure(g, err);
    for (; ok && i < n; i++) {
        next[i] = find_same(g, &models[i]);
        is_new[i] = !next[i];
        next[i] = next[i] ? next[i] : gateway__create_model(g, &models[i], err);
        ok = next[i] != NULL;
    }
    n = ok ? add_asked(g, next, is_new, i) : n;
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
        } else if (k < n_listed) {
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
