#include "pipeline/generation_kept.h"

#include "base/array.h"
#include "base/clock.h"
#include "pipeline/generation_internal.h"

#include <stdlib.h>

#define COPY_TOKENS 64 /* at a time, from a leader to a follower */

static bool has_logprobs(const struct generation *g, size_t prompt)
{
    return g->request->jobs[prompt].flags & (JOB_LOGPROBS | JOB_DIGEST);
}

/* Feeds one choice as an engine would. The token that ends it must come with its end. */
static bool feed(struct generation *g, size_t prompt, uint32_t choice, const struct engine_event *event,
                 struct error *err)
{
    struct choice *c = generation__choice(g, prompt, choice);
    bool stopped, ran = c->finish == FINISH_NONE;
    if (!ran) {
        return true;
    }
    if (!choice_accept(c, event, clock_ms(), &stopped, err)) {
        return false;
    }
    g->prompts[prompt].n_running -= c->finish != FINISH_NONE;
    return true;
}

/* ---- restore and replay ---- */

static bool restore_score(struct prompt_state *prompt, uint32_t i, const struct token_logprob *from)
{
    prompt->n_scores = i + 1;
    return choice_token_score(&prompt->scores[i], from);
}

static bool restore_scores(struct prompt_state *prompt, uint32_t n_prompt, const struct gen_saved_prompt *saved)
{
    if (!prompt->scores || saved->n_scores != n_prompt) {
        return true;
    }
    for (uint32_t i = 0; i < n_prompt; i++) {
        if (!restore_score(prompt, i, &saved->scores[i])) {
            return false;
        }
    }
    return true;
}

static bool restore_choice(struct generation *g, size_t prompt, uint32_t choice, const struct gen_saved_choice *saved,
                           struct error *err)
{
    struct engine_event event = {.kind = ENGINE_TOKENS,
                                 .choice = choice,
                                 .n = saved->n,
                                 .ids = saved->ids,
                                 .logprobs = saved->logprobs,
                                 .finish = saved->finish,
                                 .stop_id = saved->stop_id};
    return feed(g, prompt, choice, &event, err);
}

/* at: where it is in what was saved. */
static bool restore_prompt(struct generation *g, size_t prompt, const struct gen_saved *saved, size_t at,
                           struct error *err)
{
    const struct gen_saved_prompt *p = &saved->prompts[at];
    const struct gen_saved_choice *choices = saved->choices + at * g->request->best_of;
    struct job *job = &g->request->jobs[prompt];
    g->prompts[prompt].n_cached = p->n_cached;
    job->max_tokens = p->max_tokens ? p->max_tokens : job->max_tokens;
    for (uint32_t k = 0; k < g->request->best_of; k++) {
        if (!restore_choice(g, prompt, k, &choices[k], err)) {
            return false;
        }
        g->prompts[prompt].restored |= choices[k].n > 0;
    }
    if (!restore_scores(&g->prompts[prompt], job->n_prompt, p)) {
        return error_set(err, ERR_NO_MEMORY, "no memory for the logprobs of a prompt.");
    }
    return true;
}

bool generation__restore_turn(struct generation *g, const struct gen_saved *saved, size_t turn, struct error *err)
{
    bool ok = restore_prompt(g, 0, saved, turn, err);
    g->recovery.n_tokens = generation__n_tokens(g);
    return ok;
}

static struct generation *create_kept(struct pipeline *p, struct gen_request *request, const struct gen_saved *saved,
                                      void (*on_ready)(void *arg), void *arg, struct error *err)
{
    return generation__with_turns(generation__create(p, request, on_ready, arg, err), true, saved, err);
}

/* What was saved of it may be more than its first turn. */
static struct generation *drained(struct generation *g)
{
    if (g && g->mcp) {
        mcp_loop_drain(g->mcp);
    }
    return g;
}

struct generation *generation_start_kept(struct pipeline *p, struct gen_request *request, void (*on_ready)(void *arg),
                                         void *arg, struct error *err)
{
    return drained(generation__begin(create_kept(p, request, NULL, on_ready, arg, err), err));
}

static struct generation *create_restored(struct pipeline *p, struct gen_request *request,
                                          const struct gen_saved *saved, void (*on_ready)(void *arg), void *arg,
                                          struct error *err)
{
    struct generation *g = create_kept(p, request, saved, on_ready, arg, err);
    for (size_t i = 0; g && i < request->n_jobs; i++) {
        if (!restore_prompt(g, i, saved, i, err)) {
            generation__release(g);
            g = NULL;
        }
    }
    if (g) {
        g->recovery.n_tokens = generation__n_tokens(g); /* none of them speaks for it if it loses an engine */
    }
    return g;
}

struct generation *generation_restore(struct pipeline *p, struct gen_request *request, const struct gen_saved *saved,
                                      void (*on_ready)(void *arg), void *arg, struct error *err)
{
    return drained(generation__begin(create_restored(p, request, saved, on_ready, arg, err), err));
}

void generation__fail_replay(struct generation *g, const struct gen_saved *saved)
{
    g->failed = true;
    if (saved->error.code) {
        g->error = saved->error;
    } else {
        error_set(&g->error, ERR_INTERNAL, "the rest of this answer was lost.");
    }
}

static void on_replayed(void *arg)
{
    struct generation *f = arg;
    if (generation_catch_up(f, NULL)) {
        generation__notify(f);
    }
}

/* One of several turns is followed by its only reader. */
static struct generation *follow_replay(struct generation *g, void (*on_ready)(void *arg), void *arg, struct error *err)
{
    struct generation *f = generation_follow(g, on_ready, arg, err);
    if (!f) {
        generation__release(g);
        return NULL;
    }
    f->owns = g;
    g->on_ready = on_replayed;
    g->arg = f;
    (void)drained(g);
    (void)generation_catch_up(f, NULL);
    return f;
}

struct generation *generation_replay(struct pipeline *p, struct gen_request *request, const struct gen_saved *saved,
                                     void (*on_ready)(void *arg), void *arg, struct error *err)
{
    struct generation *g = create_restored(p, request, saved, NULL, NULL, err);
    if (!g) {
        return NULL;
    }
    g->detached = true;
    g->observed_end = true;
    if (!g->mcp && (saved->error.code || !generation_complete(g))) {
        generation__fail_replay(g, saved);
    }
    if (saved->has_timings) {
        gen_clock_restore(&g->clock, &saved->timings, clock_us());
    }
    return g->mcp ? follow_replay(g, on_ready, arg, err) : g;
}

/* ---- followers ---- */

struct generation *generation_follow(const struct generation *leader, void (*on_ready)(void *arg), void *arg,
                                     struct error *err)
{
    struct gen_request *r = leader->mcp ? mcp_loop_request(leader->mcp, 0) : leader->request;
    struct generation *f = generation__create(leader->pipeline, r, on_ready, arg, err);
    if (f && leader->mcp && !(f->mcp_follow = mcp_follow_create(f, leader->mcp, err))) {
        generation__release(f);
        return NULL;
    }
    if (f) {
        f->follows = leader;
        f->observed_end = true; /* its leader is what is observed */
    }
    return f;
}

/* What a follower copies: its leader's, or that of the turn that it reads. */
static const struct choice *source_choice(const struct generation *f, size_t prompt, uint32_t choice)
{
    return f->mcp_follow ? mcp_loop_choice(f->follows->mcp, mcp_follow_turn(f->mcp_follow))
                         : generation__choice(f->follows, prompt, choice);
}

static const struct prompt_state *source_prompt(const struct generation *f, size_t prompt)
{
    return f->mcp_follow ? mcp_loop_prompt(f->follows->mcp, mcp_follow_turn(f->mcp_follow))
                         : &f->follows->prompts[prompt];
}

static struct token_logprob logprob_of(const struct choice_token *t)
{
    return (struct token_logprob){t->id, t->logprob, t->rank, t->n_top, t->top, t->digest};
}

static bool copy_tokens(struct generation *f, size_t prompt, uint32_t choice, uint32_t until, bool finish,
                        struct error *err)
{
    const struct choice *from = source_choice(f, prompt, choice);
    struct choice *to = generation__choice(f, prompt, choice);
    int32_t ids[COPY_TOKENS];
    struct token_logprob logprobs[COPY_TOKENS];
    struct engine_event event = {.kind = ENGINE_TOKENS, .choice = choice, .ids = ids, .stop_id = -1};
    event.logprobs = has_logprobs(f, prompt) ? logprobs : NULL;
    do {
        event.index = (uint32_t)to->n_tokens;
        event.n = min_u32(until - event.index, COPY_TOKENS);
        for (uint32_t i = 0; i < event.n; i++) {
            const struct choice_token *t = &from->tokens[event.index + i];
            ids[i] = t->id;
            logprobs[i] = logprob_of(t);
        }
        if (finish && event.index + event.n == until) {
            event.finish = from->finish;
            event.stop_id = from->stop_id;
        }
        if (!feed(f, prompt, choice, &event, err)) {
            return false;
        }
    } while (to->finish == FINISH_NONE && to->n_tokens < until);
    to->n_replayed = from->n_replayed;
    to->n_drafted = from->n_drafted;
    to->n_held = from->n_held;
    return true;
}

/* The token that ended the leader's choice comes with its end, or not at all. */
static bool copy_choice(struct generation *f, size_t prompt, uint32_t choice, const struct gen_mark *mark, bool *news,
                        struct error *err)
{
    const struct choice *from = source_choice(f, prompt, choice);
    struct choice *to = generation__choice(f, prompt, choice);
    uint32_t n = (uint32_t)from->n_tokens;
    bool finish = from->finish != FINISH_NONE && (!mark || mark->finished);
    if (from->finish != FINISH_NONE && !finish && n > 0) {
        n--;
    }
    n = mark && mark->n < n ? mark->n : n;
    finish = finish && n == from->n_tokens;
    if (to->finish != FINISH_NONE || (n <= to->n_tokens && !finish)) {
        return true;
    }
    *news = true;
    return copy_tokens(f, prompt, choice, n, finish, err);
}

static bool copy_scores(struct generation *f, size_t prompt)
{
    const struct choice_token *from = f->mcp_follow ? NULL : generation_scores(f->follows, prompt);
    struct prompt_state *to = &f->prompts[prompt];
    uint32_t n = f->request->jobs[prompt].n_prompt;
    if (!from || !to->scores || to->n_scores == n) {
        return true;
    }
    for (uint32_t i = 0; i < n; i++) {
        struct token_logprob score = logprob_of(&from[i]);
        if (!restore_score(to, i, &score)) {
            return false;
        }
    }
    return true;
}

static bool copy_prompt(struct generation *f, size_t prompt, bool *news)
{
    const struct prompt_state *from = source_prompt(f, prompt);
    struct prompt_state *to = &f->prompts[prompt];
    bool moved = to->n_done != from->n_done || to->admitted != from->admitted;
    to->n_cached = from->n_cached;
    to->n_done = from->n_done;
    to->admitted = from->admitted;
    to->progress_pending |= moved && f->request->return_progress;
    *news |= moved && f->request->return_progress;
    return copy_scores(f, prompt);
}

bool generation__copy(struct generation *f, const struct gen_mark *marks, bool *news, struct error *err)
{
    for (size_t i = 0; i < f->request->n_jobs; i++) {
        if (!copy_prompt(f, i, news)) {
            return error_set(err, ERR_NO_MEMORY, "no memory for the logprobs of a prompt.");
        }
        for (uint32_t k = 0; k < f->request->best_of; k++) {
            if (!copy_choice(f, i, k, marks ? &marks[i * f->request->best_of + k] : NULL, news, err)) {
                return false;
            }
        }
    }
    return true;
}

bool generation_catch_up(struct generation *f, const struct gen_mark *marks)
{
    bool news = false;
    struct error err = {0};
    if (f->failed || f->ended) {
        return false;
    }
    f->clock = f->follows->clock;
    f->n_preemptions = f->follows->n_preemptions;
    memcpy(f->fingerprint, f->follows->fingerprint, sizeof f->fingerprint);
    if (f->mcp_follow) {
        return mcp_follow_catch_up(f->mcp_follow, marks);
    }
    if (!generation__copy(f, marks, &news, &err)) {
        f->failed = true;
        f->error = err;
    } else if (f->follows->failed && !marks) {
        f->failed = true;
        f->error = f->follows->error;
    }
    return news || f->failed;
}

/* ---- places ---- */

bool gen_places_read(struct str text, struct gen_place *out, size_t max, size_t *n)
{
    struct str part;
    for (*n = 0; str_split(&text, ',', &part); ++*n) {
        size_t dot = str_find_char(part, '.');
        uint64_t tokens, pieces = 0;
        bool ok = str_to_u64(str_slice(part, 0, dot == STR_NPOS ? part.len : dot), &tokens) &&
                  (dot == STR_NPOS || str_to_u64(str_slice(part, dot + 1, part.len), &pieces));
        if (!ok || *n == max || tokens > LIMIT_CONTEXT || pieces > LIMIT_CONTEXT) {
            return false;
        }
        out[*n] = (struct gen_place){(uint32_t)tokens, (uint32_t)pieces};
    }
    return true;
}

bool generation_skip(struct generation *g, const struct gen_place *after, size_t n_after, struct error *err)
{
    struct gen_request *r = g->request;
    size_t n = r->n_jobs * r->n;
    if (n_after != n && n_after != 1) {
        return error_set_param(err, ERR_INVALID, "after", "'after' has %zu places, but the answer has %zu choices.",
                               n_after, n);
    }
    if (r->best_of > r->n) {
        return error_set_param(err, ERR_INVALID, "stream",
                               "An answer with 'best_of' greater than 'n' cannot be streamed.");
    }
    for (size_t i = 0; i < n; i++) {
        struct gen_place skip = after[n_after == 1 ? 0 : i];
        if (g->mcp_follow) {
            mcp_follow_skip(g->mcp_follow, skip);
        } else {
            choice_skip(&g->choices[i], skip);
        }
        g->choices[i].echo_taken = !gen_place_is_start(skip);
        g->prompts[i / r->n].scores_taken |= !gen_place_is_start(skip);
    }
    return true;
}

static bool is_between(const struct choice *c)
{
    return c->echo_taken && gen_place_is_start(choice_position(c));
}

bool generation_position(const struct generation *g, struct buf *out)
{
    const struct gen_request *r = g->request;
    for (size_t i = 0; i < g->n_choices; i++) {
        if (is_between(&g->choices[i])) {
            return false;
        }
    }
    for (size_t i = 0; i < r->n_jobs * r->n; i++) {
        const struct prompt_state *prompt = &g->prompts[i / r->n];
        const struct choice *c = generation__choice(g, i / r->n, prompt->order[i % r->n]);
        if (i) {
            buf_putc(out, ',');
        }
        struct gen_place place = g->mcp_follow ? mcp_follow_place(g->mcp_follow) : choice_position(c);
        buf_put_uint(out, place.n);
        if (place.pieces) {
            buf_putc(out, '.');
            buf_put_uint(out, place.pieces);
        }
    }
    return true;
}

/* ---- what is to be saved ---- */

const struct choice *generation_choice(const struct generation *g, size_t prompt, uint32_t choice)
{
    return g->mcp ? mcp_loop_choice(g->mcp, prompt) : generation__choice(g, prompt, choice);
}

uint32_t generation_n_cached(const struct generation *g, size_t prompt)
{
    return g->mcp ? mcp_loop_prompt(g->mcp, prompt)->n_cached : g->prompts[prompt].n_cached;
}

const struct job *generation_job(const struct generation *g, size_t prompt)
{
    return g->mcp ? mcp_loop_request(g->mcp, prompt)->jobs : &g->request->jobs[prompt];
}

size_t generation_n_turns(const struct generation *g)
{
    return g->mcp ? mcp_loop_n_turns(g->mcp) : 0;
}

struct mcp_turn *generation_turn(const struct generation *g, size_t turn)
{
    return mcp_loop_turn(g->mcp, turn);
}

enum finish_reason generation_turn_end(const struct generation *g, size_t turn, bool *out_of_turns)
{
    return mcp_loop_turn_end(g->mcp, turn, out_of_turns);
}

bool generation_calls_due(const struct generation *g)
{
    return g->mcp && mcp_loop_calls_due(g->mcp);
}

void generation_make_calls(struct generation *g)
{
    mcp_loop_make_calls(g->mcp);
}

const struct choice_token *generation_scores(const struct generation *g, size_t prompt)
{
    const struct prompt_state *state = &g->prompts[prompt];
    return state->scores && state->n_scores >= g->request->jobs[prompt].n_prompt ? state->scores : NULL;
}
