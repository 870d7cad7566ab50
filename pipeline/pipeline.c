#include "pipeline/generation_internal.h"

#include <stdlib.h>

static void on_wake(void *arg)
{
    pipeline_pump(arg);
}

struct pipeline *pipeline_create(const struct pipeline_options *options, struct error *err)
{
    struct pipeline *p = calloc(1, sizeof *p);
    if (!p) {
        error_set(err, ERR_NO_MEMORY, "no memory for a pipeline.");
        return NULL;
    }
    p->options = *options;
    p->grammars = grammar_check_create(options->tokenizer);
    if (!p->grammars) {
        error_set(err, ERR_NO_MEMORY, "no memory for a pipeline.");
        free(p);
        return NULL;
    }
    if (!marker_ids_init(&p->markers, &options->formats, options->tokenizer, err)) {
        grammar_check_free(p->grammars);
        free(p);
        return NULL;
    }
    p->next_job = 1;
    options->port->wake = on_wake;
    options->port->wake_arg = p;
    return p;
}

void pipeline_prepare_constraints(struct pipeline *p)
{
    grammar_check_begin(p->grammars);
}

void pipeline_free(struct pipeline *p)
{
    if (p) {
        p->options.port->wake = NULL;
        marker_ids_release(&p->markers);
        grammar_check_free(p->grammars);
        free(p);
    }
}

const struct pipeline_options *pipeline_options(const struct pipeline *p)
{
    return &p->options;
}

uint32_t pipeline_n_context(const struct pipeline *p)
{
    const struct engine_info *info = p->options.port->ops->info(p->options.port);
    return info && info->n_context < p->options.n_context ? info->n_context : p->options.n_context;
}

uint64_t pipeline_next_job_id(struct pipeline *p)
{
    return p->next_job++;
}

void pipeline__free_arena(struct pipeline *p, struct arena *a)
{
    if (p->options.free_arena) {
        p->options.free_arena(p->options.free_arena_arg, a);
    } else {
        arena_free(a);
    }
}

void pipeline__hold(struct pipeline *p, bool held)
{
    if (p->options.hold) {
        p->options.hold(p->options.hold_arg, held);
    }
}

/* ---- running generations and their jobs ---- */

void pipeline__add_route(struct pipeline *p, struct job_route *route)
{
    struct job_route **bucket = &p->routes[route->job % PIPELINE_ROUTES];
    route->next = *bucket;
    *bucket = route;
    p->n_routes++;
}

void pipeline__remove_route(struct pipeline *p, struct job_route *route)
{
    for (struct job_route **at = &p->routes[route->job % PIPELINE_ROUTES]; *at; at = &(*at)->next) {
        if (*at == route) {
            *at = route->next;
            p->n_routes--;
            return;
        }
    }
}

static struct job_route *find_route(struct pipeline *p, uint64_t job)
{
    struct job_route *route = p->routes[job % PIPELINE_ROUTES];
    while (route && route->job != job) {
        route = route->next;
    }
    return route;
}

void pipeline__add_generation(struct pipeline *p, struct generation *g)
{
    g->prev = p->last;
    g->next = NULL;
    *(p->last ? &p->last->next : &p->first) = g;
    p->last = g;
    p->n_running++;
    if (p->options.on_begun) {
        p->options.on_begun(p->options.on_begun_arg, g);
    }
}

void pipeline__remove_generation(struct pipeline *p, struct generation *g)
{
    *(g->prev ? &g->prev->next : &p->first) = g->next;
    *(g->next ? &g->next->prev : &p->last) = g->prev;
    p->n_running--;
    if (p->current == g) {
        p->current = NULL;
    }
}

void pipeline_each(struct pipeline *p, bool (*each)(void *arg, struct generation *g), void *arg)
{
    for (struct generation *g = p->first, *next; g; g = next) {
        next = g->next;
        if (!each(arg, g)) {
            return;
        }
    }
}

struct generation *pipeline_find(struct pipeline *p, struct str id)
{
    for (struct generation *g = p->first; g && id.len; g = g->next) {
        if (str_eq(str_of(g->request->id), id) || str_eq(str_of(g->request->request_id), id)) {
            return g;
        }
    }
    return NULL;
}

size_t pipeline_n_running(const struct pipeline *p)
{
    return p->n_running;
}

size_t pipeline_n_jobs(const struct pipeline *p)
{
    return p->n_routes;
}

/* ---- events ---- */

void pipeline_requeue(struct pipeline *p)
{
    recovery_requeue(p);
}

void pipeline_fail_all(struct pipeline *p, const struct error *why)
{
    recovery_lose(p, &(struct engine_event){.kind = ENGINE_LOST, .error = *why});
}

static void route_event(struct pipeline *p, const struct engine_event *event)
{
    if (event->kind == ENGINE_STATS) {
        if (p->options.on_stats) {
            p->options.on_stats(p->options.on_stats_arg, event->stats);
        }
        return;
    }
    if (event->kind == ENGINE_LOST) {
        recovery_lose(p, event);
        return;
    }
    struct job_route *route = find_route(p, event->job);
    if (!route) {
        return; /* cancelled and forgotten: its last events are still on their way */
    }
    struct generation *g = route->generation;
    if (generation__event(g, route->index, event)) {
        generation__notify(g);
    }
}

void pipeline_pump(struct pipeline *p)
{
    if (p->pumping) {
        return; /* a handler of an event submitted or cancelled something: the loop below goes on */
    }
    p->pumping = true;
    const struct engine_event *event;
    while ((event = p->options.port->ops->next(p->options.port))) {
        route_event(p, event);
    }
    p->pumping = false;
    recovery_go_on(p);
}
