/* A generation's handle: started and pulled on the event thread, cancelled and waited for from any. */
#include "lib/tandem_internal.h"

#include "base/clock.h"
#include "base/limits.h"
#include "base/sys_locale.h"

#include <stdlib.h>

static void release(struct tandem_generation *g)
{
    if (atomic_fetch_sub(&g->n_owners, 1) == 1) {
        struct tandem_model *model = g->model;
        queue_free(g->done);
        buf_release(&g->text);
        free(g);
        model__release(model);
    }
}

/* ---- events, on the event thread ---- */

static void link_in(struct tandem_generation *g)
{
    g->next = g->model->first;
    if (g->next) {
        g->next->prev = g;
    }
    g->model->first = g;
}

static void unlink_it(struct tandem_generation *g)
{
    *(g->prev ? &g->prev->next : &g->model->first) = g->next;
    if (g->next) {
        g->next->prev = g->prev;
    }
}

/* Nobody is told of what comes after the callback said that it is enough, but how it ended. Either this sees that the
 * handle is released, or who releases it sees that this is calling. */
static void call_back(struct tandem_generation *g, const struct tandem_event *event)
{
    bool ends = event->kind == TANDEM_EVENT_FINISH || event->kind == TANDEM_EVENT_END;
    atomic_store(&g->calling, true);
    if (!atomic_load(&g->released) && (ends || !atomic_load(&g->stopped))) {
        void *inside = sys_locale_use(g->model->locale_outside);
        if (!g->on_event(g->arg, event)) {
            atomic_store(&g->stopped, true);
        }
        sys_locale_use(inside);
    }
    atomic_store(&g->calling, false);
}

static struct tandem_usage usage_of(const struct gen_usage *u)
{
    return (struct tandem_usage){.prompt = u->prompt_tokens,
                                 .cached = u->cached_tokens,
                                 .completion = u->completion_tokens,
                                 .reasoning = u->n_reasoning};
}

static enum tandem_finish finish_of(const struct gen_event *e)
{
    switch (e->finish) {
    case FINISH_STOP:
        return e->n_calls ? TANDEM_FINISH_CALLS : TANDEM_FINISH_STOP;
    case FINISH_LENGTH:
        return TANDEM_FINISH_LENGTH;
    case FINISH_CANCELLED:
        return TANDEM_FINISH_CANCELLED;
    default:
        return TANDEM_FINISH_ERROR;
    }
}

/* A view as a text that ends with a NUL: copied behind what is in g->text, so that an event may have several. The
 * buffer has room for all of them before the first is copied. */
static const char *text_of(struct tandem_generation *g, struct str text)
{
    char *at = text.ptr ? buf_extend(&g->text, text.len + 1) : NULL;
    if (at) {
        memcpy(at, text.ptr, text.len);
        at[text.len] = '\0';
    }
    return at;
}

static bool make_room(struct tandem_generation *g, const struct gen_event *e)
{
    buf_clear(&g->text);
    size_t size = e->text.len + e->stop.len + e->call.id.len + e->call.name.len + e->call.fault.len + 8;
    if (!buf_extend(&g->text, size)) {
        return false;
    }
    buf_truncate(&g->text, 0);
    return true;
}

static void give_text(struct tandem_generation *g, const struct gen_event *e, struct tandem_event *out)
{
    if (e->text.len) {
        out->text = text_of(g, e->text);
        out->text_size = e->text.len;
        call_back(g, out);
    }
}

static void give_call(struct tandem_generation *g, const struct gen_event *e, struct tandem_event *out)
{
    out->call = e->call.index;
    out->call_id = text_of(g, e->call.id);
    out->call_name = text_of(g, e->call.name);
    if (out->kind == TANDEM_EVENT_ARGUMENTS) {
        give_text(g, e, out);
        return;
    }
    if (out->kind == TANDEM_EVENT_CALL_END && !e->call.valid) {
        out->call_fault = text_of(g, e->call.fault);
    }
    call_back(g, out);
}

static void give_finish(struct tandem_generation *g, const struct gen_event *e, struct tandem_event *out)
{
    out->finish = finish_of(e);
    out->stop = e->stop.len ? text_of(g, e->stop) : NULL;
    out->usage = usage_of(&e->usage);
    call_back(g, out);
}

static const struct {
    enum tandem_event_kind kind; /* without give: none of these */
    void (*give)(struct tandem_generation *g, const struct gen_event *e, struct tandem_event *out);
} kinds[] = {
    [GEN_DELTA] = {TANDEM_EVENT_TEXT, give_text},
    [GEN_REASONING] = {TANDEM_EVENT_REASONING, give_text},
    [GEN_CALL] = {TANDEM_EVENT_CALL, give_call},
    [GEN_ARGUMENTS] = {TANDEM_EVENT_ARGUMENTS, give_call},
    [GEN_CALL_END] = {TANDEM_EVENT_CALL_END, give_call},
    [GEN_FINISH] = {TANDEM_EVENT_FINISH, give_finish},
    [GEN_ERROR] = {TANDEM_EVENT_END, NULL}, /* the last kind: see end */
};

/* END, and the thread's part of the handle goes. */
static void end(struct tandem_generation *g, const struct gen_usage *usage, const struct error *why)
{
    struct tandem_error error;
    adapter__release(g->model, &g->request);
    bool failed = why->code != ERR_NONE && why->code != ERR_CANCELLED;
    if (failed) {
        error__give(&error, why);
    }
    struct tandem_event out = {
        .size = sizeof out, .kind = TANDEM_EVENT_END, .usage = usage_of(usage), .error = failed ? &error : NULL};
    call_back(g, &out);
    queue_close(g->done);
    release(g);
}

/* It was cancelled before anything of it began: what a running one would say. */
static void give_cancelled(struct tandem_generation *g)
{
    for (uint32_t i = 0; i < g->request.n; i++) {
        struct tandem_event out = {
            .size = sizeof out, .kind = TANDEM_EVENT_FINISH, .choice = i, .finish = TANDEM_FINISH_CANCELLED};
        call_back(g, &out);
    }
}

/* False: it has ended, and g may be gone. */
static bool take(struct tandem_generation *g, const struct gen_event *e)
{
    static const struct error none;
    struct error no_memory = {0};
    bool ends = e->kind == GEN_DONE || e->kind == GEN_ERROR, room = ends || make_room(g, e);
    if (!room) {
        error_set(&no_memory, ERR_NO_MEMORY, "There was no memory for a piece of text.");
    }
    if (ends || !room) {
        struct gen_usage usage = e->usage;
        struct error why = !room ? no_memory : e->kind == GEN_ERROR ? e->error : none;
        generation_free(g->running);
        g->running = NULL;
        unlink_it(g);
        end(g, &usage, &why);
        return false;
    }
    if (kinds[e->kind].give) {
        struct tandem_event out = {.size = sizeof out, .kind = kinds[e->kind].kind, .choice = e->index};
        kinds[e->kind].give(g, e, &out);
    }
    return true;
}

static void on_ready(void *arg)
{
    struct tandem_generation *g = arg;
    struct gen_event e;
    if (g->pulling) {
        return; /* cancelled below: the loop there goes on */
    }
    g->pulling = true;
    do {
        if (atomic_load(&g->stopped) && !g->cancelled) {
            g->cancelled = true;
            generation_cancel(g->running);
        }
        if (!generation_next(g->running, clock_ms(), &e)) {
            g->pulling = false;
            return;
        }
    } while (take(g, &e));
}

void generation__begin_here(struct tandem_generation *g)
{
    struct gen_usage none = {0};
    struct error why = {0};
    if (atomic_load(&g->stopped) || atomic_load(&g->model->closing)) {
        give_cancelled(g);
    } else {
        g->running = generation_start(g->model->pipeline, &g->request, on_ready, g, &why);
    }
    if (g->running) {
        link_in(g);
    } else {
        arena_free(g->request.arena);
        end(g, &none, &why);
    }
}

void generation__cancel_here(struct tandem_generation *g)
{
    atomic_store(&g->stopped, true);
    on_ready(g);
}

/* ---- any thread ---- */

static struct tandem_generation *create(struct tandem_model *model, tandem_event_fn *on_event, void *arg,
                                        struct error *err)
{
    struct tandem_generation *g = calloc(1, sizeof *g);
    struct queue *done = g ? queue_create(1, 1) : NULL;
    if (!done) {
        free(g);
        error_set(err, ERR_NO_MEMORY, "There is no memory for a generation.");
        return NULL;
    }
    atomic_fetch_add(&model->n_owners, 1);
    g->model = model;
    g->on_event = on_event;
    g->arg = arg;
    g->done = done;
    buf_init(&g->text, LIMIT_OUTPUT_TEXT);
    atomic_init(&g->n_owners, 1);
    return g;
}

static bool hand_over(struct tandem_generation *g, struct error *err)
{
    atomic_store(&g->n_owners, 2);
    if (queue_push(g->model->inbox, &g)) {
        loop_signal_send(g->model->signal);
        return true;
    }
    atomic_store(&g->n_owners, 1);
    if (queue_closed(g->model->inbox)) {
        return error_set(err, ERR_CANCELLED, "The model is being freed.");
    }
    return error_set(err, ERR_OVERLOADED, "%d generations wait to begin, and no more may.", MODEL_INBOX);
}

/* What is done on the caller's thread. */
static bool begin(struct tandem_generation *g, const struct tandem_request *request, struct error *err)
{
    void *outside = sys_locale_use(g->model->locale);
    bool ok = request__read(g->model, request, &g->request, err) &&
              pipeline_prepare(g->model->pipeline, &g->request, err) && hand_over(g, err);
    sys_locale_use(outside);
    return ok;
}

struct tandem_generation *tandem_generate(struct tandem_model *model, const struct tandem_request *request,
                                          tandem_event_fn *on_event, void *arg, struct tandem_error *error)
{
    struct error err = {0};
    struct tandem_generation *g = NULL;
    if (on_event) {
        g = create(model, on_event, arg, &err);
    } else {
        error_set_param(&err, ERR_INVALID, "on_event", "A generation needs a function that takes its events.");
    }
    if (g && begin(g, request, &err)) {
        return g;
    }
    if (g) {
        adapter__release(model, &g->request);
        arena_free(g->request.arena);
        release(g);
    }
    error__give(error, &err);
    return NULL;
}

void tandem_generation_cancel(struct tandem_generation *generation)
{
    if (!queue_closed(generation->done)) {
        atomic_store(&generation->stopped, true);
        loop_signal_send(generation->model->signal);
    }
}

bool tandem_generation_wait(const struct tandem_generation *generation, int64_t timeout_ms)
{
    char nothing;
    if (!queue_closed(generation->done) && !model__is_own_thread(generation->model)) {
        (void)!queue_wait(generation->done, &nothing, timeout_ms);
    }
    return queue_closed(generation->done);
}

void tandem_generation_free(struct tandem_generation *generation)
{
    if (!generation) {
        return;
    }
    atomic_store(&generation->released, true);
    tandem_generation_cancel(generation);
    if (atomic_load(&generation->calling)) {
        tandem_generation_wait(generation, -1);
    }
    release(generation);
}
