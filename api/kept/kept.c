#include "api/kept/kept_internal.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>

/* The name that requests are kept under: those of one key are not seen by another. */
struct str api__exchange_key(const struct app *a, const struct http_exchange *x)
{
    return str_of(api_keys_name(a->options.keys, api__key_of(x)));
}

/* ---- the set ---- */

static void tick(void *arg)
{
    struct kept_set *set = arg;
    kept__resume_waiting(set);
    kept__save(set);
    if (!set->first) {
        set->ticking = false;
        loop_timer_stop(set->timer);
    }
}

void kept__tick_soon(struct kept_set *set)
{
    if (!set->ticking) {
        set->ticking = true;
        loop_timer_start(set->timer, KEPT_SAVE_MS, KEPT_SAVE_MS);
    }
}

struct kept_set *api__kept_create(struct app *a)
{
    struct kept_set *set = calloc(1, sizeof *set);
    if (!set) {
        return NULL;
    }
    set->app = a;
    set->journal = a->options.journal;
    set->timer = loop_timer_create(a->loop, tick, set);
    if (!set->timer) {
        free(set);
        return NULL;
    }
    return set;
}

struct kept *kept__create(struct kept_set *set, struct str id, struct str key_name, struct str model)
{
    struct kept *k = calloc(1, sizeof *k);
    if (!k) {
        return NULL;
    }
    k->set = set;
    k->expires_s = INT64_MAX;
    snprintf(k->id, sizeof k->id, STR_FMT, STR_ARG(id));
    snprintf(k->key_name, sizeof k->key_name, STR_FMT, STR_ARG(key_name));
    snprintf(k->model, sizeof k->model, STR_FMT, STR_ARG(model));
    buf_init(&k->details, KIB(64));
    buf_init(&k->result, LIMIT_HTTP_REPLY);
    k->prev = set->last;
    if (set->last) {
        set->last->next = k;
    } else {
        set->first = k;
    }
    set->last = k;
    kept__tick_soon(set);
    return k;
}

static void free_kept(struct kept *k)
{
    struct kept_set *set = k->set;
    struct call *c = k->call;
    if (k->prev) {
        k->prev->next = k->next;
    } else {
        set->first = k->next;
    }
    if (k->next) {
        k->next->prev = k->prev;
    } else {
        set->last = k->prev;
    }
    set->n_waiting -= k->phase == KEPT_WAITING;
    generation_free(k->generation);
    buf_release(&k->details);
    buf_release(&k->result);
    free(k->saved);
    free(k->sending);
    free(k);
    if (c) {
        api__call_free(c); /* last: it may be what the app's end waits for */
    }
}

void api__kept_free(struct kept_set *set)
{
    if (set) {
        while (set->first) {
            free_kept(set->first);
        }
        loop_timer_free(set->timer);
        free(set);
    }
}

struct kept *api__kept_find(struct kept_set *set, struct str id, struct str key_name)
{
    for (struct kept *k = set->first; k; k = k->next) {
        if (k->phase != KEPT_DONE && str_eq(str_of(k->id), id) && str_eq(str_of(k->key_name), key_name)) {
            return k;
        }
    }
    return NULL;
}

void kept__release(struct kept *k)
{
    if (k->phase == KEPT_DONE && !k->readers && !k->in_save && !k->feeding) {
        free_kept(k);
    }
}

size_t kept__n_choices(const struct kept *k)
{
    size_t n_turns = generation_n_turns(k->generation);
    return n_turns ? n_turns : k->n_choices;
}

uint64_t kept__n_tokens(const struct kept *k)
{
    uint64_t n = 0;
    for (size_t i = 0; k->generation && i < kept__n_choices(k); i++) {
        uint32_t best_of = k->call->request.best_of;
        n += generation_choice(k->generation, i / best_of, (uint32_t)(i % best_of))->n_tokens;
    }
    return n;
}

/* ---- its end ---- */

static bool has_live_reader(const struct kept *k)
{
    for (const struct gen_reply *r = k->readers; r; r = r->next_reader) {
        if (r->live) {
            return true;
        }
    }
    return false;
}

void kept__end(struct kept *k, enum journal_state state)
{
    k->set->n_running -= k->phase == KEPT_RUNNING;
    k->phase = KEPT_ENDED;
    k->state = state;
    k->dirty = true;
    kept__save(k->set);
}

/* As it is now, to go on when the program is started again. */
static void put_aside(struct kept *k)
{
    kept__end(k, kept__n_tokens(k) ? JOURNAL_RUNNING : JOURNAL_QUEUED);
}

static void requeue(struct kept *k, const struct error *why)
{
    snprintf(k->reason, sizeof k->reason, "%s", why->msg);
    k->requeue = true;
    kept__end(k, JOURNAL_QUEUED);
}

/* What may succeed later is tried again, unless its own client waits for an answer and gets the error. */
void kept__fail(struct kept *k, const struct error *why)
{
    bool lost = why->code == ERR_ENGINE_LOST && ++k->n_lost < KEPT_LOST_MAX;
    bool again = why->code == ERR_OVERLOADED || why->code == ERR_UNAVAILABLE || lost;
    if (again && k->set->stopping) {
        put_aside(k);
    } else if (again && !has_live_reader(k) && clock_wall_s() < k->expires_s) {
        requeue(k, why);
    } else {
        k->error = *why;
        kept__end(k, JOURNAL_FAILED);
    }
}

/* A generation of several turns has taken its own events: its answer is had by following it. */
static bool make_result(struct kept *k, struct error *err)
{
    struct generation *f = NULL;
    if (generation_n_turns(k->generation)) {
        f = generation_follow(k->generation, NULL, NULL, err);
        if (!f) {
            return false;
        }
        (void)generation_catch_up(f, NULL);
    }
    bool ok = api__reply_body(k->call, f ? f : k->generation, &k->result, err);
    generation_free(f);
    return ok;
}

static void complete(struct kept *k)
{
    struct error err = {0};
    bool cancelled = generation_finish(k->generation) == FINISH_CANCELLED;
    const char *fingerprint = generation_fingerprint(k->generation);
    if (fingerprint) {
        snprintf(k->fingerprint, sizeof k->fingerprint, "%s", fingerprint);
    }
    api__put_details(&k->details, &k->call->request, k->generation);
    if (make_result(k, &err)) {
        kept__end(k, cancelled ? JOURNAL_CANCELLED : JOURNAL_COMPLETED);
    } else {
        buf_release(&k->result);
        k->error = err;
        kept__end(k, JOURNAL_FAILED);
    }
}

void kept__finished(struct kept *k, bool ok, const struct error *err)
{
    struct kept_set *set = k->set;
    if (k->requeue && !set->stopping) {
        struct kept *again = kept__create(set, str_of(k->id), str_of(k->key_name), str_of(k->model));
        if (again) {
            again->phase = KEPT_WAITING;
            again->background = k->background;
            again->expires_s = k->expires_s;
            again->n_lost = k->n_lost;
            memcpy(again->reason, k->reason, sizeof again->reason);
            again->retry_ms = clock_ms() + KEPT_RETRY_MS;
            set->n_waiting++;
        }
    }
    LOG_INFO("kept request saved", "id=%s state=%s tokens=%llu", k->id, journal_state_name(k->state),
             (unsigned long long)kept__n_tokens(k));
    k->phase = KEPT_DONE;
    if (k->on_cancelled) {
        void (*done)(void *, bool, const struct error *) = k->on_cancelled;
        k->on_cancelled = NULL;
        done(k->on_cancelled_arg, ok, err);
    }
    kept__feed(k);
    kept__release(k);
}

/* ---- its generation ---- */

/* Tokens of two engines that need not agree in every bit: the answer says so. */
static void note_fingerprint(struct kept *k)
{
    const char *fingerprint = api__call_fingerprint(k->call, k->call->adapter_fingerprint);
    if (k->has_fingerprint || !fingerprint[0] || kept__n_tokens(k) <= k->n_restored) {
        return;
    }
    k->has_fingerprint = true;
    k->starts = 0;
    api__put_details(&k->details, &k->call->request, k->generation);
    if (strcmp(k->fingerprint, fingerprint) == 0) {
        return;
    }
    if (k->fingerprint[0]) {
        memcpy(k->resumed_from, k->fingerprint, sizeof k->resumed_from);
        memcpy(k->call->resumed_from, k->fingerprint, sizeof k->call->resumed_from);
    }
    memcpy(k->fingerprint, fingerprint, sizeof k->fingerprint);
}

/* How far a reader sees; NULL: everything. The client that sent the request sees tokens at once; where what it was told
 * of is to be there for its next request, not their end before that is saved. */
static const struct gen_mark *marks_of(const struct kept *k, const struct gen_reply *r, bool all)
{
    static const struct gen_mark no_end = {.n = UINT32_MAX};
    if (all || (r->live && !r->encoder->numbered)) {
        return NULL;
    }
    return r->live ? &no_end : k->saved;
}

static void feed(struct kept *k, bool only_live)
{
    struct error why;
    bool all = k->phase == KEPT_DONE || journal_failing(k->set->journal, &why);
    bool outer = k->feeding;
    k->feeding = true;
    for (struct gen_reply *r = k->readers, *next; r; r = next) {
        next = r->next_reader;
        if ((r->live || !only_live) && generation_catch_up(r->generation, marks_of(k, r, all))) {
            api__reply_ready(r); /* it may leave */
        }
    }
    k->feeding = outer;
}

void kept__feed(struct kept *k)
{
    feed(k, false);
}

static void note_turn(struct kept *k)
{
    if (k->n_turns != generation_n_turns(k->generation)) {
        k->n_turns = generation_n_turns(k->generation);
        k->dirty = true;
        api__put_details(&k->details, &k->call->request, k->generation);
    }
}

static void settle(struct kept *k)
{
    struct error why;
    if (k->phase != KEPT_RUNNING) {
        return;
    }
    note_turn(k);
    if (generation_calls_due(k->generation)) {
        kept__save(k->set); /* they go out when it is saved that they do */
    } else if (generation_failed(k->generation, &why)) {
        kept__fail(k, &why);
    } else if (generation_complete(k->generation)) {
        complete(k);
    }
}

static void on_ready(void *arg)
{
    struct kept *k = arg;
    note_fingerprint(k);
    feed(k, true);
    settle(k);
}

static bool make_marks(struct kept *k, const struct gen_request *r, const struct gen_saved *saved)
{
    k->n_choices = r->mcp.n_tools ? GEN_SAVED_TURNS : r->n_jobs * r->best_of;
    k->saved = calloc(k->n_choices, sizeof *k->saved);
    k->sending = calloc(k->n_choices, sizeof *k->sending);
    size_t n = saved && r->mcp.n_tools ? saved->n_turns : k->n_choices;
    for (size_t i = 0; k->saved && saved && !k->forget_tokens && i < n; i++) {
        k->saved[i] = (struct gen_mark){.n = saved->choices[i].n, .finished = saved->choices[i].finish != FINISH_NONE};
    }
    k->scores_saved = saved && !k->forget_tokens && saved->prompts[0].n_scores > 0;
    return k->saved && k->sending;
}

bool kept__run(struct kept *k, struct call *c, const struct gen_saved *saved, struct error *err)
{
    struct pipeline *p = served_model_pipeline(c->model);
    if (!make_marks(k, &c->request, saved)) {
        return error_set(err, ERR_NO_MEMORY, "no memory for a request.");
    }
    k->generation = saved ? generation_restore(p, &c->request, saved, on_ready, k, err)
                          : generation_start_kept(p, &c->request, on_ready, k, err);
    api__leave_places(c);
    if (!k->generation) {
        return false;
    }
    c->arena = NULL; /* the generation's now */
    k->call = c;
    k->phase = KEPT_RUNNING;
    k->set->n_running++;
    settle(k);
    return true;
}

/* ---- its readers ---- */

bool api__kept_readable(const struct kept *k)
{
    return k->generation != NULL;
}

bool kept__add_reader(struct kept *k, struct call *c, const struct kept_reading *how, struct error *err)
{
    api__call_set_model(c, k->call->model);
    c->request = k->call->request;
    c->request.arena = NULL; /* all of it is the leader's */
    struct gen_reply *r = api__reply_create(c, k->call->route->encoder);
    struct generation *f = r ? generation_follow(k->generation, api__reply_ready, r, err) : NULL;
    bool ok = f != NULL;
    if (!r) {
        error_set(err, ERR_NO_MEMORY, "no memory for a reply.");
    } else if (ok && how->stream) {
        ok = generation_skip(f, how->after, how->n_after, err);
    }
    if (!ok) {
        generation_free(f);
        if (r) {
            api__reply_discard(r);
        }
        return false;
    }
    r->stream = how->stream;
    r->placed = how->stream && !r->encoder->numbered;
    r->again = !how->live;
    r->origin = k->call;
    r->kept = k;
    r->live = how->live;
    for (size_t i = 0; how->stream && i < r->n_choices; i++) {
        r->choices[i].started = !gen_place_is_start(how->after[how->n_after == 1 ? 0 : i]);
    }
    r->next_reader = k->readers;
    k->readers = r;
    api__reply_begin(r, f);
    return true;
}

bool api__kept_read(struct kept *k, struct call *c, const struct gen_place *after, size_t n_after, struct error *err)
{
    struct kept_reading how = {.stream = true, .after = after, .n_after = n_after};
    if (!kept__add_reader(k, c, &how, err)) {
        return false;
    }
    kept__feed(k);
    return true;
}

void kept__abandon(struct kept *k)
{
    if (k->phase != KEPT_RUNNING || k->readers) {
        return;
    }
    if (k->set->stopping) {
        put_aside(k);
    } else if (k->call->attached) {
        generation_cancel(k->generation); /* on_ready ends it */
    }
}

void api__kept_leave(struct kept *k, struct gen_reply *reader)
{
    struct gen_reply **at = &k->readers;
    while (*at != reader) {
        at = &(*at)->next_reader;
    }
    *at = reader->next_reader;
    kept__abandon(k);
    kept__release(k);
}

void api__kept_cancel(struct kept *k, void (*done)(void *arg, bool ok, const struct error *err), void *arg)
{
    struct error busy = {0};
    if (k->on_cancelled || (k->phase != KEPT_RUNNING && k->phase != KEPT_WAITING)) {
        error_set(&busy, ERR_UNAVAILABLE, "The request is on its way; try again in a moment.");
        done(arg, false, &busy);
        return;
    }
    k->on_cancelled = done;
    k->on_cancelled_arg = arg;
    if (k->phase == KEPT_RUNNING) {
        generation_cancel(k->generation); /* on_ready ends it */
    } else {
        k->set->n_waiting--;
        kept__end(k, JOURNAL_CANCELLED);
    }
}

/* ---- stopping ---- */

void api__kept_stop(struct kept_set *set)
{
    if (set->stopping) {
        return;
    }
    set->stopping = true;
    for (struct kept *k = set->first; k; k = k->next) {
        if (k->phase == KEPT_RUNNING && !k->readers) {
            put_aside(k);
        }
    }
}
