/* From a generation's state to jobs: the first time, and again when it goes on in another engine. */
#include "pipeline/generation_internal.h"

#include "base/clock.h"

#include <stdlib.h>

/* The tokens of all choices, as ids: accepted [n_choices], and the ids behind it. One block; NULL: no memory. */
static struct job_accepted *accepted_of(const struct choice *choices, uint32_t n)
{
    size_t n_ids = 0;
    for (uint32_t i = 0; i < n; i++) {
        n_ids += choices[i].n_tokens;
    }
    struct job_accepted *accepted = malloc(n * sizeof *accepted + n_ids * sizeof(int32_t));
    int32_t *ids = accepted ? (int32_t *)(accepted + n) : NULL;
    for (uint32_t i = 0; accepted && i < n; i++) {
        accepted[i] = (struct job_accepted){ids, (uint32_t)choices[i].n_tokens, choices[i].finish != FINISH_NONE};
        for (size_t k = 0; k < choices[i].n_tokens; k++) {
            *ids++ = choices[i].tokens[k].id;
        }
    }
    return accepted;
}

static bool has_begun(const struct choice *choices, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        if (choices[i].n_tokens > 0 || choices[i].finish != FINISH_NONE) {
            return true;
        }
    }
    return false;
}

/* Of the time that the request has, so much is left; 0: it has no limit. */
static bool time_left(const struct generation *g, uint32_t timeout_ms, uint32_t *left, struct error *err)
{
    int64_t gone_ms = (clock_us() - g->clock.submitted_us) / 1000;
    *left = timeout_ms;
    if (timeout_ms == 0) {
        return true;
    }
    if (gone_ms >= timeout_ms) {
        return error_set(err, ERR_DEADLINE,
                         "The request did not finish within %u ms, its limit in all ('timeout', --timeout-ms).",
                         timeout_ms);
    }
    *left = timeout_ms - (uint32_t)gone_ms;
    return true;
}

/* The port's engine computes it now. */
static void forget_replay(struct generation *g, struct prompt_state *prompt)
{
    prompt->replayed = false;
    for (size_t i = 0; i < g->request->n_jobs; i++) {
        if (g->prompts[i].replayed) {
            return;
        }
    }
    g->fingerprint[0] = '\0';
}

static bool submit_job(struct generation *g, size_t index, struct error *err)
{
    struct engine_port *port = pipeline_options(g->pipeline)->port;
    struct prompt_state *prompt = &g->prompts[index];
    const struct choice *choices = generation__choice(g, index, 0);
    struct job job = g->request->jobs[index];
    struct job_accepted *accepted = NULL;
    if (!time_left(g, job.timeout_ms, &job.timeout_ms, err)) {
        return false;
    }
    if (has_begun(choices, g->request->best_of)) {
        accepted = accepted_of(choices, g->request->best_of);
        if (!accepted) {
            return error_set(err, ERR_NO_MEMORY, "no memory to go on with a request.");
        }
    }
    job.id = pipeline_next_job_id(g->pipeline);
    job.accepted = accepted;
    if (prompt->scores && prompt->n_scores >= job.n_prompt) {
        job.flags &= ~(uint32_t)JOB_PROMPT_LOGPROBS;
    }
    bool ok = port->ops->submit(port, &job, err);
    free(accepted);
    if (ok) {
        prompt->route = (struct job_route){.job = job.id, .generation = g, .index = index};
        prompt->routed = true;
        forget_replay(g, prompt);
        pipeline__add_route(g->pipeline, &prompt->route);
    }
    return ok;
}

bool generation__submit(struct generation *g, struct error *err)
{
    for (size_t i = 0; i < g->request->n_jobs; i++) {
        if (g->prompts[i].n_running > 0 && !submit_job(g, i, err)) {
            generation__withdraw(g);
            return false;
        }
    }
    return true;
}
