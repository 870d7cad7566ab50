/* What the engine says of a generation's jobs: tokens into its choices, logprobs into its prompts. */
#include "pipeline/generation_internal.h"

#include "base/clock.h"
#include "pipeline/adapter_set.h"

static void observe_tokens(struct generation *g, struct prompt_state *prompt, struct choice *c, uint64_t n)
{
    const struct pipeline_observer *o = generation__observer(g);
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
    struct choice *c = generation__choice(g, index, event->choice);
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
            generation__end(g);
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
    const struct pipeline_observer *o = generation__observer(g);
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
        generation__choice(g, index, event->choice)->preempted = true;
        g->n_preemptions++;
    }
}

static void take_replayed(struct generation *g, size_t index, const struct engine_event *event)
{
    g->prompts[index].replayed = true;
    if (g->request->adapter) {
        adapter_fingerprint(&g->request->adapter_digest, event->fingerprint, g->fingerprint);
    } else {
        memcpy(g->fingerprint, event->fingerprint, sizeof g->fingerprint);
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
        take_replayed(g, index, event);
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
