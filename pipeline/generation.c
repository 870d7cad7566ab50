/* The state of a generation is what its choices hold. Engine events go in through generation__event; what comes out is
 * computed in generation_next from what has not been taken, choice after choice, so nothing is queued twice. */
#include "base/array.h"
#include "base/clock.h"
#include "base/utf8.h"
#include "pipeline/generation_internal.h"
#include "wire/frame.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

void generation__notify(struct generation *g)
{
    if (g->on_ready) {
        g->on_ready(g->arg);
    }
}

static struct choice *choice_of(const struct generation *g, size_t prompt, uint32_t choice)
{
    return &g->choices[prompt * g->request->best_of + choice];
}

static const struct pipeline_observer *observer_of(const struct generation *g)
{
    static const struct pipeline_observer nobody = {0};
    return g->request->unobserved ? &nobody : &pipeline_options(g->pipeline)->observer;
}

/* ---- start and end ---- */

void generation__forget_job(struct generation *g, size_t index)
{
    struct prompt_state *prompt = &g->prompts[index];
    if (prompt->routed) {
        pipeline__remove_route(g->pipeline, &prompt->route);
        prompt->routed = false;
    }
}

void generation__withdraw(struct generation *g)
{
    struct engine_port *port = pipeline_options(g->pipeline)->port;
    for (size_t i = 0; i < g->request->n_jobs; i++) {
        if (g->prompts[i].routed) {
            port->ops->cancel(port, g->prompts[i].route.job, WIRE_ALL_CHOICES);
            generation__forget_job(g, i);
        }
    }
}

void generation__release(struct generation *g)
{
    for (size_t i = 0; g->choices && i < g->n_choices; i++) {
        choice_release(&g->choices[i]);
    }
    for (size_t i = 0; g->prompts && i < g->request->n_jobs; i++) {
        for (uint32_t k = 0; g->prompts[i].scores && k < g->request->jobs[i].n_prompt; k++) {
            free(g->prompts[i].scores[k].top);
        }
        free(g->prompts[i].scores);
        buf_release(&g->prompts[i].echo);
        free(g->prompts[i].order);
    }
    free(g->prompts);
    free(g->choices);
    free(g->tokens);
    free(g->tops);
    free(g);
}

static bool allocate(struct generation *g)
{
    struct gen_request *r = g->request;
    g->n_choices = r->n_jobs * r->best_of;
    g->prompts = calloc(r->n_jobs, sizeof g->prompts[0]);
    g->choices = calloc(g->n_choices, sizeof g->choices[0]);
    if (!g->prompts || !g->choices) {
        g->n_choices = 0;
        return false;
    }
    for (size_t i = 0; i < g->n_choices; i++) {
        choice_init(&g->choices[i], r, pipeline_options(g->pipeline)->tokenizer);
    }
    for (size_t i = 0; i < g->n_choices; i++) {
        const struct job *job = &r->jobs[i / r->best_of];
        if (!choice_predict(&g->choices[i], job->prediction, job->n_prediction)) {
            return false;
        }
    }
    for (size_t i = 0; i < r->n_jobs; i++) {
        struct prompt_state *prompt = &g->prompts[i];
        prompt->n_running = r->best_of;
        prompt->order = calloc(r->n, sizeof prompt->order[0]);
        bool scored = r->jobs[i].flags & JOB_PROMPT_LOGPROBS;
        prompt->scores = scored ? calloc(r->jobs[i].n_prompt, sizeof prompt->scores[0]) : NULL;
        if (!prompt->order || (scored && !prompt->scores)) {
            return false;
        }
        for (uint32_t k = 0; k < r->n; k++) {
            prompt->order[k] = k;
        }
        prompt->ordered = r->best_of <= r->n;
    }
    return true;
}

struct generation *generation__create(struct pipeline *p, struct gen_request *request, void (*on_ready)(void *arg),
                                      void *arg, struct error *err)
{
    struct generation *g = calloc(1, sizeof *g);
    if (!g) {
        error_set(err, ERR_NO_MEMORY, "no memory for a request.");
        return NULL;
    }
    g->pipeline = p;
    g->request = request;
    g->on_ready = on_ready;
    g->arg = arg;
    gen_clock_start(&g->clock, request->received_us, clock_us(), (uint32_t)request->n_jobs);
    if (!allocate(g)) {
        error_set(err, ERR_NO_MEMORY, "no memory for the state of a request.");
        generation__release(g);
        return NULL;
    }
    return g;
}

bool generation__begin(struct generation *g, struct error *err)
{
    if (!recovery_allows(g->pipeline, g->request, err)) {
        return false;
    }
    g->recovery.waits = recovery_holds(g->pipeline);
    if (!g->recovery.waits && !generation__submit(g, err)) {
        return false;
    }
    pipeline__add_generation(g->pipeline, g);
    if (observer_of(g)->started) {
        observer_of(g)->started(observer_of(g)->arg, g->request);
    }
    return true;
}

struct generation *generation_start(struct pipeline *p, struct gen_request *request, void (*on_ready)(void *arg),
                                    void *arg, struct error *err)
{
    struct generation *g = generation__create(p, request, on_ready, arg, err);
    if (g && !generation__begin(g, err)) {
        generation__release(g);
        g = NULL;
    }
    return g;
}

/* ---- what metrics see ---- */

static void add_choice(struct gen_usage *usage, const struct choice *c)
{
    usage->completion_tokens += c->n_tokens;
    usage->n_accepted_prediction += c->prediction.n_accepted;
    usage->n_rejected_prediction += c->prediction.n - c->prediction.n_accepted;
    usage->n_begun += c->n_tokens > 0;
    usage->n_drafted += c->n_drafted;
    usage->n_held += c->n_held;
    usage->n_replayed += c->n_replayed;
}

void generation__usage(const struct generation *g, struct gen_usage *usage)
{
    *usage = (struct gen_usage){0};
    for (size_t i = 0; i < g->request->n_jobs; i++) {
        usage->prompt_tokens += g->request->jobs[i].n_prompt;
        usage->cached_tokens += g->prompts[i].n_cached;
    }
    for (size_t i = 0; i < g->n_choices; i++) {
        add_choice(usage, &g->choices[i]);
    }
}

static uint64_t longest_choice(const struct generation *g)
{
    uint64_t longest = 0;
    for (size_t i = 0; i < g->n_choices; i++) {
        longest = g->choices[i].n_tokens > longest ? g->choices[i].n_tokens : longest;
    }
    return longest;
}

static void observe_end(struct generation *g)
{
    if (g->observed_end) {
        return;
    }
    g->observed_end = true;
    gen_clock_end(&g->clock, clock_us());
    enum finish_reason reason = g->choices[0].finish == FINISH_NONE ? FINISH_CANCELLED : g->choices[0].finish;
    struct gen_outcome outcome = {.reason = g->failed ? FINISH_ERROR : reason,
                                  .error = g->failed ? &g->error : NULL,
                                  .longest = longest_choice(g)};
    generation_timings(g, clock_us(), &outcome.timings, &outcome.usage);
    if (observer_of(g)->finished) {
        observer_of(g)->finished(observer_of(g)->arg, g->request, &outcome);
    }
    const struct pipeline_options *o = pipeline_options(g->pipeline);
    if (o->on_finished) {
        o->on_finished(o->on_finished_arg, g->request, &outcome);
    }
}

static void observe_tokens(struct generation *g, struct prompt_state *prompt, struct choice *c, uint64_t n)
{
    const struct pipeline_observer *o = observer_of(g);
    int64_t now = clock_us(), itl_us = c->last_token_us ? now - c->last_token_us : -1;
    bool first = g->clock.first_us == 0;
    gen_clock_tokens(&g->clock, now, n, !prompt->answered);
    prompt->answered = true;
    c->preempted = false;
    c->last_token_us = now;
    if (g->recovery.lost_us && o->resumed) {
        o->resumed(o->arg, g->request, now - g->recovery.lost_us);
    }
    if (first && o->first_token) {
        o->first_token(o->arg, g->request, now - g->clock.received_us);
    }
    if (o->tokens) {
        o->tokens(o->arg, g->request, n, itl_us);
    }
}

void generation_free(struct generation *g)
{
    if (!g) {
        return;
    }
    if (g->follows) {
        generation__release(g);
        return;
    }
    generation__withdraw(g);
    observe_end(g);
    recovery_note_end(g);
    if (!g->detached) {
        pipeline__remove_generation(g->pipeline, g);
    }
    const struct pipeline_options *o = pipeline_options(g->pipeline);
    struct arena *arena = g->request->arena;
    generation__release(g);
    if (o->free_arena) {
        o->free_arena(o->free_arena_arg, arena);
    } else {
        arena_free(arena);
    }
}

void generation_cancel(struct generation *g)
{
    generation__withdraw(g);
    for (size_t i = 0; i < g->n_choices; i++) {
        if (g->choices[i].finish == FINISH_NONE) {
            choice_finish(&g->choices[i], FINISH_CANCELLED);
        }
    }
    for (size_t i = 0; i < g->request->n_jobs; i++) {
        g->prompts[i].n_running = 0;
    }
    observe_end(g);
    recovery_note_end(g);
    generation__notify(g); /* no engine event will; it may free g */
}

bool generation_failed(const struct generation *g, struct error *err)
{
    if (g->failed) {
        *err = g->error;
    }
    return g->failed;
}

/* ---- events of the engine ---- */

bool generation__fail(struct generation *g, const struct error *error)
{
    if (g->failed || g->ended) {
        return false;
    }
    g->failed = true;
    g->error = *error;
    generation__withdraw(g);
    observe_end(g);
    recovery_note_end(g);
    return true;
}

void generation_fail(struct generation *g, const struct error *why)
{
    if (!generation_complete(g) && generation__fail(g, why)) {
        generation__notify(g);
    }
}

uint64_t generation__n_tokens(const struct generation *g)
{
    uint64_t n = 0;
    for (size_t i = 0; i < g->n_choices; i++) {
        n += g->choices[i].n_tokens;
    }
    return n;
}

bool generation_complete(const struct generation *g)
{
    for (size_t i = 0; i < g->request->n_jobs; i++) {
        if (g->prompts[i].n_running > 0) {
            return false;
        }
    }
    return true;
}

/* The engine sent what cannot be: it is given up, and the generation goes on in the next one. Other errors, and engines
 * that cannot be replaced, end the generation. */
static bool lose_trust(struct generation *g, const struct error *err)
{
    struct engine_port *port = pipeline_options(g->pipeline)->port;
    if (err->code != ERR_PROTOCOL || !port->ops->distrust) {
        return generation__fail(g, err);
    }
    port->ops->distrust(port, err);
    return false;
}

static bool take_tokens(struct generation *g, size_t index, const struct engine_event *event)
{
    struct prompt_state *prompt = &g->prompts[index];
    struct engine_port *port = pipeline_options(g->pipeline)->port;
    struct error err = {0};
    bool stopped = false;
    if (event->choice >= g->request->best_of) {
        error_set(&err, ERR_PROTOCOL, "the engine named choice %u of %u.", event->choice, g->request->best_of);
        return lose_trust(g, &err);
    }
    struct choice *c = choice_of(g, index, event->choice);
    if (c->finish != FINISH_NONE) {
        return false; /* what the engine sent before it knew of a stop string or a cancel */
    }
    size_t n_before = c->n_tokens;
    if (!choice_accept(c, event, clock_ms(), &stopped, &err)) {
        return lose_trust(g, &err);
    }
    if (c->n_tokens > n_before) {
        observe_tokens(g, prompt, c, c->n_tokens - n_before);
        c->n_replayed += prompt->replayed ? c->n_tokens - n_before : 0;
        recovery_note_token(g);
    }
    if (stopped && event->finish == FINISH_NONE) {
        port->ops->cancel(port, event->job, event->choice);
    }
    if (c->finish != FINISH_NONE && --prompt->n_running == 0) {
        generation__forget_job(g, index);
        if (generation_complete(g)) {
            observe_end(g);
            recovery_note_end(g);
        }
    }
    return true;
}

static bool take_prompt_logprobs(struct generation *g, size_t index, const struct engine_event *event)
{
    struct prompt_state *prompt = &g->prompts[index];
    uint32_t n_prompt = g->request->jobs[index].n_prompt;
    struct error err = {0};
    if (!prompt->scores || !event->logprobs || event->index > n_prompt || event->n > n_prompt - event->index) {
        error_set(&err, ERR_PROTOCOL, "the engine scored prompt tokens that were not asked for.");
        return lose_trust(g, &err);
    }
    for (uint32_t i = 0; i < event->n; i++) {
        if (!choice_token_score(&prompt->scores[event->index + i], &event->logprobs[i])) {
            error_set(&err, ERR_NO_MEMORY, "no memory for the logprobs of a prompt.");
            return generation__fail(g, &err);
        }
    }
    uint32_t end = event->index + event->n;
    prompt->n_scores = end > prompt->n_scores ? end : prompt->n_scores;
    return prompt->n_scores == n_prompt;
}

static bool take_progress(struct generation *g, size_t index, uint32_t n_done)
{
    struct prompt_state *prompt = &g->prompts[index];
    prompt->n_done = n_done;
    prompt->progress_pending = g->request->return_progress;
    return prompt->progress_pending;
}

/* Again when the job was resumed by another engine: how long it waited and what it found in a cache are the first's. */
static bool take_started(struct generation *g, size_t index, const struct engine_event *event)
{
    struct prompt_state *prompt = &g->prompts[index];
    const struct pipeline_observer *o = observer_of(g);
    bool first = g->clock.admitted_us == 0;
    if (prompt->admitted) {
        return false;
    }
    prompt->admitted = true;
    prompt->n_cached = prompt->restored ? prompt->n_cached : event->n_cached;
    gen_clock_admitted(&g->clock, clock_us(), event->queue_us);
    if (o->admitted) {
        o->admitted(o->arg, g->request, g->request->jobs[index].n_prompt, event->n_cached,
                    first ? g->clock.admitted_us - g->clock.submitted_us : -1);
    }
    return take_progress(g, index, event->n_cached);
}

static void take_preempted(struct generation *g, size_t index, const struct engine_event *event)
{
    if (event->choice < g->request->best_of) {
        choice_of(g, index, event->choice)->preempted = true;
        g->n_preemptions++;
    }
}

bool generation__event(struct generation *g, size_t index, const struct engine_event *event)
{
    switch (event->kind) {
    case ENGINE_STARTED:
        return take_started(g, index, event);
    case ENGINE_PREEMPTED:
        take_preempted(g, index, event);
        return false;
    case ENGINE_PROGRESS:
        return take_progress(g, index, event->n_done);
    case ENGINE_REPLAYED:
        g->prompts[index].replayed = true;
        memcpy(g->fingerprint, event->fingerprint, sizeof g->fingerprint);
        return false;
    case ENGINE_PROMPT:
        return take_prompt_logprobs(g, index, event);
    case ENGINE_TOKENS:
        return take_tokens(g, index, event);
    case ENGINE_FAILED:
        generation__forget_job(g, index);
        return generation__fail(g, &event->error);
    case ENGINE_LOST: /* recovery_lose */
    case ENGINE_STATS:
        break;
    }
    return false;
}

/* ---- events for the API ---- */

/* Best first by mean logprob per token, as OpenAI defines best_of; the lower choice wins a tie. */
static double score_of(const struct choice *c)
{
    return c->n_tokens ? c->sum_logprob / (double)c->n_tokens : -INFINITY;
}

static void order_choices(struct generation *g, size_t prompt)
{
    struct prompt_state *state = &g->prompts[prompt];
    uint32_t best_of = g->request->best_of;
    for (uint32_t k = 0; k < g->request->n; k++) {
        uint32_t best = UINT32_MAX;
        for (uint32_t i = 0; i < best_of; i++) {
            bool taken = false;
            for (uint32_t j = 0; j < k; j++) {
                taken = taken || state->order[j] == i;
            }
            if (!taken &&
                (best == UINT32_MAX || score_of(choice_of(g, prompt, i)) > score_of(choice_of(g, prompt, best)))) {
                best = i;
            }
        }
        state->order[k] = best;
    }
    state->ordered = true;
}

static bool wants_tokens(const struct generation *g)
{
    return g->request->logprobs || g->request->return_token_ids || g->request->digest;
}

static bool reserve_scratch(struct generation *g, size_t n_tokens, size_t n_tops)
{
    struct error ignored = {0};
    return array_reserve(&g->tokens, &g->cap_tokens, n_tokens, LIMIT_CONTEXT, "tokens", &ignored) &&
           array_reserve(&g->tops, &g->cap_tops, n_tops, (size_t)LIMIT_CONTEXT * JOB_MAX_TOP, "logprobs", &ignored);
}

static bool fill_tokens(struct generation *g, const struct choice_token *from, size_t n, struct gen_event *event)
{
    const struct tokenizer *tokenizer = pipeline_options(g->pipeline)->tokenizer;
    size_t n_tops = 0, at = 0;
    for (size_t i = 0; i < n; i++) {
        n_tops += from[i].n_top;
    }
    if (!reserve_scratch(g, n, n_tops)) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        const struct choice_token *t = &from[i];
        g->tokens[i] = (struct gen_token){
            .id = t->id,
            .logprob = t->logprob,
            .rank = t->rank,
            .bytes = tokenizer_bytes(tokenizer, t->id),
            .text_offset = t->char_begin,
            .n_top = t->n_top,
            .top = g->tops + at,
            .digest = t->digest,
        };
        for (uint32_t k = 0; k < t->n_top; k++) {
            g->tops[at++] = (struct gen_top){t->top[k].id, t->top[k].logprob, tokenizer_bytes(tokenizer, t->top[k].id)};
        }
    }
    event->tokens = g->tokens;
    event->n_tokens = n;
    return true;
}

static bool next_progress(struct generation *g, struct gen_event *event)
{
    for (size_t i = 0; i < g->request->n_jobs; i++) {
        struct prompt_state *prompt = &g->prompts[i];
        if (prompt->progress_pending) {
            prompt->progress_pending = false;
            event->kind = GEN_PROGRESS;
            event->prompt = (uint32_t)i;
            event->index = (uint32_t)i * g->request->n;
            event->n_done = prompt->n_done;
            event->n_total = g->request->jobs[i].n_prompt;
            event->n_cached = prompt->n_cached;
            return true;
        }
    }
    return false;
}

static bool scores_ready(const struct generation *g, size_t prompt)
{
    const struct prompt_state *state = &g->prompts[prompt];
    return !state->scores || state->n_scores >= g->request->jobs[prompt].n_prompt ||
           g->request->jobs[prompt].n_prompt == 1;
}

static bool next_prompt_logprobs(struct generation *g, size_t prompt, struct gen_event *event)
{
    struct prompt_state *state = &g->prompts[prompt];
    const struct job *job = &g->request->jobs[prompt];
    if (!state->scores || state->scores_taken || !scores_ready(g, prompt)) {
        return false;
    }
    const struct tokenizer *tokenizer = pipeline_options(g->pipeline)->tokenizer;
    state->scores_taken = true;
    state->n_scores = job->n_prompt;
    uint32_t chars = 0;
    for (uint32_t i = 0; i < job->n_prompt; i++) {
        state->scores[i].id = job->prompt[i];
        state->scores[i].char_begin = chars;
        chars += (uint32_t)utf8_count(tokenizer_bytes(tokenizer, job->prompt[i]));
    }
    state->scores[0].logprob = NAN;
    event->kind = GEN_PROMPT_LOGPROBS;
    event->prompt = (uint32_t)prompt;
    event->index = (uint32_t)prompt * g->request->n;
    return fill_tokens(g, state->scores, job->n_prompt, event);
}

static bool flush_due(const struct generation *g, const struct choice *c, int64_t now_ms)
{
    const struct gen_request *r = g->request;
    bool by_tokens = r->interval_tokens > 1, by_time = r->interval_ms > 0;
    if (g->failed || c->finish != FINISH_NONE || c->released_tokens == 0 || (!by_tokens && !by_time)) {
        return true;
    }
    return (by_tokens && choice_pending_tokens(c) >= (size_t)r->interval_tokens) ||
           (by_time && now_ms - c->first_pending_ms >= r->interval_ms);
}

static bool next_delta(struct generation *g, struct choice *c, int64_t now_ms, struct gen_event *event)
{
    if (!choice_has_pending(c, wants_tokens(g)) || !flush_due(g, c, now_ms)) {
        return false;
    }
    size_t first, n;
    event->kind = GEN_DELTA;
    event->text = choice_take(c, &first, &n);
    return !wants_tokens(g) || fill_tokens(g, c->tokens + first, n, event);
}

/* The prompt as the client gave it; as its tokens say where it gave tokens or some were cut. */
static void make_echo(struct generation *g, size_t prompt)
{
    const struct gen_request *r = g->request;
    struct prompt_state *state = &g->prompts[prompt];
    buf_init(&state->echo, GIB(1));
    if (r->input == GEN_PROMPTS && !r->prompts[prompt].ids && r->n_truncated[prompt] == 0) {
        buf_append(&state->echo, r->prompts[prompt].text);
    } else {
        tokenizer_decode(pipeline_options(g->pipeline)->tokenizer, r->jobs[prompt].prompt, r->jobs[prompt].n_prompt,
                         false, &state->echo);
    }
    state->echo_chars = utf8_count(buf_view(&state->echo));
}

static bool next_echo(struct generation *g, size_t prompt, struct choice *c, struct gen_event *event)
{
    struct prompt_state *state = &g->prompts[prompt];
    if (!g->request->echo || c->echo_taken) {
        return false;
    }
    if (!state->echo.max) {
        make_echo(g, prompt);
    }
    c->echo_taken = true;
    event->kind = GEN_DELTA;
    event->echo = true;
    event->text = buf_view(&state->echo);
    return true;
}

static bool everything_taken(const struct generation *g)
{
    for (size_t i = 0; i < g->request->n_jobs; i++) {
        for (uint32_t k = 0; k < g->request->n; k++) {
            if (!g->prompts[i].ordered || !choice_of(g, i, g->prompts[i].order[k])->finish_taken) {
                return false;
            }
        }
    }
    return true;
}

static void finish_event(struct generation *g, struct choice *c, struct gen_event *event)
{
    const struct job *job = &g->request->jobs[event->prompt];
    c->finish_taken = true;
    event->kind = GEN_FINISH;
    event->finish = c->finish;
    event->stop = c->stop;
    event->stop_id = c->stop_id;
    event->usage =
        (struct gen_usage){.prompt_tokens = job->n_prompt, .cached_tokens = g->prompts[event->prompt].n_cached};
    add_choice(&event->usage, c);
    event->last = everything_taken(g);
}

/* What the k-th choice to give out of a prompt has now. */
static bool next_of_choice(struct generation *g, size_t prompt, uint32_t k, int64_t now_ms, struct gen_event *event)
{
    struct prompt_state *state = &g->prompts[prompt];
    if (!state->ordered) {
        if (state->n_running > 0) {
            return false;
        }
        order_choices(g, prompt);
    }
    if (next_prompt_logprobs(g, prompt, event)) {
        return true;
    }
    if (state->scores && !state->scores_taken && state->n_running > 0) {
        return false; /* the prompt's logprobs come first */
    }
    struct choice *c = choice_of(g, prompt, state->order[k]);
    event->prompt = (uint32_t)prompt;
    event->choice = k;
    event->index = (uint32_t)prompt * g->request->n + k;
    if (next_echo(g, prompt, c, event)) {
        return true;
    }
    event->echo_chars = state->echo_chars;
    if (next_delta(g, c, now_ms, event)) {
        return true;
    }
    if (c->finish != FINISH_NONE && !c->finish_taken) {
        finish_event(g, c, event);
        return true;
    }
    return false;
}

static bool next_end(struct generation *g, struct gen_event *event)
{
    if (g->failed) {
        event->kind = GEN_ERROR;
        event->error = g->error;
    } else if (everything_taken(g)) {
        event->kind = GEN_DONE;
        generation__usage(g, &event->usage);
    } else {
        return false;
    }
    g->ended = true;
    return true;
}

bool generation_next(struct generation *g, int64_t now_ms, struct gen_event *event)
{
    *event = (struct gen_event){.stop_id = -1};
    if (g->request->continuous_usage) {
        generation__usage(g, &event->usage);
    }
    if (g->ended) {
        return false;
    }
    if (next_progress(g, event)) {
        return true;
    }
    size_t n = g->request->n_jobs * g->request->n;
    for (size_t turn = 0; turn < n; turn++) {
        size_t i = (g->cursor + turn) % n;
        if (next_of_choice(g, i / g->request->n, (uint32_t)(i % g->request->n), now_ms, event)) {
            g->cursor = event->kind == GEN_FINISH || event->kind == GEN_DELTA ? i + 1 : i;
            return true;
        }
    }
    return next_end(g, event);
}

int64_t generation_next_due(const struct generation *g, int64_t now_ms)
{
    const struct gen_request *r = g->request;
    int64_t due = -1;
    if (r->interval_ms <= 0 || g->ended) {
        return -1;
    }
    for (size_t i = 0; i < g->n_choices; i++) {
        const struct choice *c = &g->choices[i];
        if (c->finish == FINISH_NONE && choice_has_pending(c, wants_tokens(g))) {
            int64_t left = c->first_pending_ms + r->interval_ms - now_ms;
            left = left < 0 ? 0 : left;
            due = due < 0 || left < due ? left : due;
        }
    }
    return due;
}
