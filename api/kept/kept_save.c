/* What is new of all kept requests becomes one transaction; one at a time is on its way. What was sent counts as saved
 * when the journal says so, and is sent again when it does not. */
#include "api/kept/kept_internal.h"

#include "base/array.h"
#include "base/clock.h"
#include "base/limits.h"
#include "pipeline/saved_tokens.h"

#include <stdlib.h>

#define SAVE_MAX MIB(64) /* bytes of one transaction's tokens; the rest goes with the next */

static const struct choice *choice_at(const struct kept *k, size_t i)
{
    uint32_t best_of = k->call->request.best_of;
    return generation_choice(k->generation, i / best_of, (uint32_t)(i % best_of));
}

static bool choice_is_new(const struct kept *k, size_t i)
{
    const struct choice *c = choice_at(k, i);
    return c->n_tokens > k->saved[i].n || (c->finish != FINISH_NONE && !k->saved[i].finished);
}

static bool scores_are_new(const struct kept *k)
{
    const struct gen_request *r = &k->call->request;
    for (size_t i = 0; i < r->n_jobs; i++) {
        if (!generation_scores(k->generation, i)) {
            return false;
        }
    }
    return !k->scores_saved;
}

/* "running" once an engine has taken it. */
static enum journal_state state_now(const struct kept *k)
{
    if (k->phase == KEPT_RUNNING) {
        return generation_phase(k->generation) == GEN_QUEUED && kept__n_tokens(k) == 0 ? JOURNAL_QUEUED
                                                                                       : JOURNAL_RUNNING;
    }
    return k->state;
}

static bool needs_save(const struct kept *k)
{
    bool working = k->phase == KEPT_RUNNING || k->phase == KEPT_ENDED;
    if (k->phase != KEPT_WAITING && !working) {
        return false;
    }
    if (k->dirty || (working && state_now(k) != k->saved_state)) {
        return true;
    }
    for (size_t i = 0; k->generation && i < kept__n_choices(k); i++) {
        if (choice_is_new(k, i)) {
            return true;
        }
    }
    return k->generation && (scores_are_new(k) || kept__calls_are_new(k));
}

/* ---- making one ---- */

static bool pack(struct arena *arena, const struct choice_token *tokens, size_t n, bool logprobs,
                 struct journal_tokens *row)
{
    struct buf data;
    buf_init(&data, SAVE_MAX);
    saved_tokens_pack(&data, tokens, n, logprobs);
    row->n = (uint32_t)n;
    row->data = data.failed ? (struct str){0} : arena_str(arena, buf_view(&data));
    buf_release(&data);
    return row->data.ptr != NULL;
}

static bool pack_choice(struct kept *k, size_t i, struct arena *arena, struct journal_tokens *row)
{
    const struct gen_request *r = &k->call->request;
    const struct choice *c = choice_at(k, i);
    size_t first = k->saved[i].n, prompt = i / r->best_of;
    bool logprobs = generation_job(k->generation, prompt)->flags & (JOB_LOGPROBS | JOB_DIGEST);
    *row = (struct journal_tokens){.prompt = (uint32_t)prompt,
                                   .choice = (uint32_t)(i % r->best_of),
                                   .first = (uint32_t)first,
                                   .finish = c->finish,
                                   .stop_id = c->stop_id};
    k->sending[i] = (struct gen_mark){.n = (uint32_t)c->n_tokens, .finished = c->finish != FINISH_NONE};
    return pack(arena, c->tokens + first, c->n_tokens - first, logprobs, row);
}

static bool pack_scores(struct kept *k, struct arena *arena, struct journal_tokens *rows, size_t *n)
{
    const struct gen_request *r = &k->call->request;
    for (size_t i = 0; i < r->n_jobs; i++) {
        struct journal_tokens *row = &rows[(*n)++];
        *row = (struct journal_tokens){.prompt = (uint32_t)i, .choice = JOURNAL_PROMPT_SCORES, .stop_id = -1};
        if (!pack(arena, generation_scores(k->generation, i), r->jobs[i].n_prompt, true, row)) {
            return false;
        }
    }
    k->scores_sending = true;
    return true;
}

static bool add_tokens(struct kept *k, struct arena *arena, struct journal_update *u)
{
    size_t n_rows = kept__n_choices(k) + k->call->request.n_jobs + kept__n_calls(k);
    struct journal_tokens *rows = arena_alloc_array(arena, n_rows, sizeof *rows);
    if (!rows) {
        return false;
    }
    memcpy(k->sending, k->saved, k->n_choices * sizeof *k->sending);
    for (size_t i = 0; i < kept__n_choices(k); i++) {
        if (choice_is_new(k, i) && !pack_choice(k, i, arena, &rows[u->n_tokens++])) {
            return false;
        }
    }
    u->tokens = rows;
    return kept__pack_calls(k, arena, rows, &u->n_tokens) &&
           (!scores_are_new(k) || pack_scores(k, arena, rows, &u->n_tokens));
}

/* What changes meanwhile must not change under the writing thread. */
static bool copy(struct arena *arena, struct str from, struct str *out)
{
    *out = from.len ? arena_str(arena, from) : (struct str){0};
    return from.len == 0 || out->ptr;
}

/* False: it does not fit into this transaction. */
static bool add_update(struct save *s, struct kept *k)
{
    struct journal_update *u = &s->updates[s->n];
    *u = (struct journal_update){.id = str_of(k->id),
                                 .state_only = !k->generation,
                                 .forget_starts = k->phase == KEPT_ENDED,
                                 .forget_tokens = k->forget_tokens,
                                 .state = state_now(k),
                                 .n_generated = kept__n_tokens(k),
                                 .error = k->error,
                                 .result = buf_view(&k->result)};
    if (!copy(s->arena, str_of(k->fingerprint), &u->fingerprint) ||
        !copy(s->arena, str_of(k->resumed_from), &u->resumed_from) || !copy(s->arena, str_of(k->reason), &u->reason) ||
        !copy(s->arena, buf_view(&k->details), &u->details)) {
        return false;
    }
    k->scores_sending = k->scores_saved;
    k->tokens_sent = k->generation != NULL;
    if (k->generation && !add_tokens(k, s->arena, u)) {
        return false;
    }
    k->saved_state = u->state;
    k->dirty = false;
    k->in_save = true;
    k->end_sent = k->phase == KEPT_ENDED;
    s->kept[s->n++] = k;
    return true;
}

static size_t count(const struct kept_set *set)
{
    size_t n = 0;
    for (const struct kept *k = set->first; k; k = k->next) {
        n += needs_save(k);
    }
    return n;
}

static bool make_save(struct kept_set *set, size_t n)
{
    struct save *s = &set->save;
    *s = (struct save){.arena = arena_create(2 * SAVE_MAX)};
    if (!s->arena) {
        return false;
    }
    s->updates = arena_alloc_array(s->arena, n, sizeof *s->updates);
    s->kept = arena_alloc_array(s->arena, n, sizeof(struct kept *));
    for (struct kept *k = set->first; s->updates && s->kept && k && s->n < n; k = k->next) {
        if (needs_save(k) && !add_update(s, k)) {
            break;
        }
    }
    return s->n > 0;
}

/* ---- what comes of it ---- */

static void take_back(struct kept *k)
{
    k->dirty = true;
    k->end_sent = false;
}

static void saved(struct kept *k)
{
    if (k->tokens_sent) {
        memcpy(k->saved, k->sending, k->n_choices * sizeof *k->saved);
        k->scores_saved = k->scores_sending;
        k->forget_tokens = false;
        kept__calls_saved(k);
    }
}

/* Nobody is left who could try again. */
static bool gives_up(const struct kept *k, bool ok)
{
    return !ok && k->set->stopping && k->phase == KEPT_ENDED;
}

/* Somebody waits for it: an end, or a call. */
static bool is_urgent(const struct kept *k)
{
    return k->phase == KEPT_ENDED || (k->phase == KEPT_RUNNING && generation_calls_due(k->generation));
}

static bool has_urgent(const struct kept_set *set)
{
    for (const struct kept *k = set->first; k; k = k->next) {
        if (is_urgent(k)) {
            return true;
        }
    }
    return false;
}

/* Those that are recorded go out. */
static void make_calls(struct kept_set *set)
{
    for (struct kept *k = set->first; k; k = k->next) {
        if (k->phase == KEPT_RUNNING && generation_calls_due(k->generation)) {
            generation_make_calls(k->generation);
        }
    }
}

static void on_saved(void *arg, struct journal_answer *answer)
{
    struct kept_set *set = arg;
    struct save s = set->save;
    struct app *a = set->app;
    bool ok = answer->ok;
    struct error why = answer->error;
    set->saving = false;
    set->save_ms = ok ? 0 : clock_ms() + KEPT_RETRY_MS;
    for (size_t i = 0; i < s.n; i++) {
        struct kept *k = s.kept[i];
        k->in_save = false;
        (ok ? saved : take_back)(k);
        if (k->end_sent || gives_up(k, ok)) { /* its end may have come after this was made: then another one has it */
            kept__finished(k, ok, &why);
        } else {
            kept__feed(k);
            kept__release(k);
        }
    }
    arena_free(s.arena);
    if (ok) {
        make_calls(set);
    }
    if (ok && has_urgent(set)) {
        kept__save(set);
    }
    api__release(a);
}

static void on_refused(void *arg)
{
    struct kept_set *set = arg;
    struct journal_answer answer = {.error = set->refused};
    on_saved(set, &answer);
}

/* Ends are saved at once; tokens when a while has gone by, so that there are many. */
void kept__save(struct kept_set *set)
{
    size_t n = count(set);
    if (set->saving || n == 0 || clock_ms() < set->save_ms) {
        return;
    }
    if (!make_save(set, n)) {
        arena_free(set->save.arena);
        return;
    }
    set->saving = true;
    api__hold(set->app);
    struct journal_done done = {on_saved, set};
    if (!journal_update(set->journal, set->save.updates, set->save.n, done, &set->refused)) {
        loop_defer(set->app->loop, on_refused, set); /* not from inside whoever called */
    }
}
