/* The life of a generation: what it has, how it begins, how it ends. */
#include "pipeline/generation_internal.h"

#include "base/clock.h"
#include "wire/frame.h"

#include <stdlib.h>

void generation__notify(struct generation *g)
{
    if (g->mcp) {
        mcp_loop_drain(g->mcp);
    }
    if (g->on_ready) {
        g->on_ready(g->arg);
    }
}

struct choice *generation__choice(const struct generation *g, size_t prompt, uint32_t choice)
{
    return &g->choices[prompt * g->request->best_of + choice];
}

const struct pipeline_observer *generation__observer(const struct generation *g)
{
    static const struct pipeline_observer nobody = {0};
    return g->request->unobserved ? &nobody : &pipeline_options(g->pipeline)->observer;
}

/* ---- its state ---- */

void generation__release_turn(const struct gen_request *r, struct prompt_state *prompts, struct choice *choices)
{
    for (size_t i = 0; choices && i < r->n_jobs * r->best_of; i++) {
        choice_release(&choices[i]);
    }
    for (size_t i = 0; prompts && i < r->n_jobs; i++) {
        for (uint32_t k = 0; prompts[i].scores && k < r->jobs[i].n_prompt; k++) {
            free(prompts[i].scores[k].top);
        }
        free(prompts[i].scores);
        buf_release(&prompts[i].echo);
        free(prompts[i].order);
    }
    free(prompts);
    free(choices);
}

void generation__release(struct generation *g)
{
    (void)mcp_loop_free(g->mcp);
    mcp_follow_free(g->mcp_follow);
    generation__release_turn(g->request, g->prompts, g->choices);
    free(g->tokens);
    free(g->tops);
    free(g);
}

static bool out_of_memory(struct error *err)
{
    return error_set(err, ERR_NO_MEMORY, "no memory for the state of a request.");
}

static bool allocate_choices(struct generation *g, struct error *err)
{
    const struct gen_request *r = g->request;
    for (size_t i = 0; i < g->n_choices; i++) {
        const struct job *job = &r->jobs[i / r->best_of];
        struct choice *c = &g->choices[i];
        choice_init(c, r, pipeline_options(g->pipeline)->tokenizer);
        if (!choice_take_apart(c, (uint32_t)(i / r->best_of), (uint32_t)(i % r->best_of), err)) {
            return false;
        }
        if (!choice_predict(c, job->prediction, job->n_prediction)) {
            return out_of_memory(err);
        }
    }
    return true;
}

static bool allocate(struct generation *g, struct error *err)
{
    struct gen_request *r = g->request;
    g->n_choices = r->n_jobs * r->best_of;
    g->prompts = calloc(r->n_jobs, sizeof g->prompts[0]);
    g->choices = calloc(g->n_choices, sizeof g->choices[0]);
    if (!g->prompts || !g->choices) {
        return out_of_memory(err);
    }
    if (!allocate_choices(g, err)) {
        return false;
    }
    for (size_t i = 0; i < r->n_jobs; i++) {
        struct prompt_state *prompt = &g->prompts[i];
        prompt->n_running = r->best_of;
        prompt->order = calloc(r->n, sizeof prompt->order[0]);
        bool scored = r->jobs[i].flags & JOB_PROMPT_LOGPROBS;
        prompt->scores = scored ? calloc(r->jobs[i].n_prompt, sizeof prompt->scores[0]) : NULL;
        if (!prompt->order || (scored && !prompt->scores)) {
            return out_of_memory(err);
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
    if (!allocate(g, err)) {
        generation__release(g);
        return NULL;
    }
    return g;
}

struct generation *generation__with_turns(struct generation *g, bool kept, const struct gen_saved *saved,
                                          struct error *err)
{
    bool loops = g && g->request->mcp.n_tools > 0;
    if (loops && !(g->mcp = mcp_loop_create(g, kept, saved, err))) {
        generation__release(g);
        return NULL;
    }
    return g;
}

/* ---- start ---- */

bool generation__begin_turn(struct generation *g, struct error *err)
{
    if (!recovery_allows(g->pipeline, g->request, err)) {
        return false;
    }
    g->recovery.waits = recovery_holds(g->pipeline);
    return g->recovery.waits || generation__submit(g, err);
}

struct generation *generation__begin(struct generation *g, struct error *err)
{
    if (!g) {
        return NULL;
    }
    if (!generation__begin_turn(g, err)) {
        generation__release(g);
        return NULL;
    }
    pipeline__add_generation(g->pipeline, g);
    const struct pipeline_observer *o = generation__observer(g);
    if (o->started) {
        o->started(o->arg, g->request);
    }
    return g;
}

struct generation *generation_start(struct pipeline *p, struct gen_request *request, void (*on_ready)(void *arg),
                                    void *arg, struct error *err)
{
    struct generation *g = generation__create(p, request, on_ready, arg, err);
    return generation__begin(generation__with_turns(g, false, NULL, err), err);
}

static bool renew(struct generation *g, struct error *err)
{
    g->prompts = NULL;
    g->choices = NULL;
    g->cursor = 0;
    g->recovery.n_tokens = 0;
    return allocate(g, err);
}

bool generation__follow_turn(struct generation *g, struct gen_request *next, struct error *err)
{
    struct generation before = *g;
    g->request = next;
    if (!renew(g, err)) {
        generation__release_turn(next, g->prompts, g->choices);
        *g = before;
        return false;
    }
    generation__release_turn(before.request, before.prompts, before.choices);
    return true;
}

bool generation__swap_turn(struct generation *g, const struct gen_request *next, struct prompt_state **prompts,
                           struct choice **choices, struct error *err)
{
    struct gen_request *r = g->request, asked = *r;
    struct generation before = *g;
    *r = *next;
    r->arena = asked.arena;
    r->max_tokens = asked.max_tokens; /* what was asked for; the jobs have what is left of it */
    if (!renew(g, err)) {
        generation__release_turn(r, g->prompts, g->choices);
        *r = asked;
        *g = before;
        return false;
    }
    *prompts = before.prompts;
    *choices = before.choices;
    return true;
}

/* ---- end ---- */

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
    outcome.later_prompt_tokens = g->mcp ? outcome.usage.prompt_tokens - mcp_loop_first_prompt(g->mcp) : 0;
    const struct pipeline_observer *observer = generation__observer(g);
    if (observer->finished) {
        observer->finished(observer->arg, g->request, &outcome);
    }
    const struct pipeline_options *o = pipeline_options(g->pipeline);
    if (o->on_finished) {
        o->on_finished(o->on_finished_arg, g->request, &outcome);
    }
}

void generation__end(struct generation *g)
{
    observe_end(g);
    recovery_note_end(g);
}

bool generation__fail(struct generation *g, const struct error *error)
{
    if (g->failed || g->ended) {
        return false;
    }
    g->failed = true;
    g->error = *error;
    if (g->mcp) {
        mcp_loop_stop(g->mcp);
    }
    generation__withdraw(g);
    generation__end(g);
    return true;
}

void generation_fail(struct generation *g, const struct error *why)
{
    if (!generation_complete(g) && generation__fail(g, why)) {
        generation__notify(g);
    }
}

void generation_cancel(struct generation *g)
{
    if (g->mcp) {
        mcp_loop_stop(g->mcp);
    }
    generation__withdraw(g);
    for (size_t i = 0; i < g->n_choices; i++) {
        if (g->choices[i].finish == FINISH_NONE) {
            choice_finish(&g->choices[i], FINISH_CANCELLED);
        }
    }
    for (size_t i = 0; i < g->request->n_jobs; i++) {
        g->prompts[i].n_running = 0;
    }
    generation__end(g);
    generation__notify(g); /* no engine event will; it may free g */
}

void generation_free(struct generation *g)
{
    if (!g) {
        return;
    }
    if (g->follows) {
        struct generation *own = g->owns;
        generation__release(g);
        generation_free(own);
        return;
    }
    if (g->mcp) {
        mcp_loop_stop(g->mcp);
    }
    generation__withdraw(g);
    generation__end(g);
    if (!g->detached) {
        pipeline__remove_generation(g->pipeline, g);
    }
    struct pipeline *p = g->pipeline;
    struct arena *arena = g->request->arena;
    bool is_read = mcp_loop_free(g->mcp);
    g->mcp = NULL;
    generation__release(g);
    if (!is_read) {
        pipeline__free_arena(p, arena);
    }
}
