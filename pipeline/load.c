#include "pipeline/load.h"

#include "pipeline/generation_internal.h"

struct counting {
    struct pipeline_load load;
    int32_t priority;
    double expected_output;
};

static void count_waiting(struct counting *c, const struct job *job)
{
    double most = (double)job->max_tokens * job->n_choices;
    c->load.jobs_waiting++;
    if (job->priority <= c->priority) {
        c->load.jobs_before++;
        c->load.tokens_before += job->n_prompt + (most < c->expected_output ? most : c->expected_output);
    }
}

static bool count(void *arg, struct generation *g)
{
    struct counting *c = arg;
    if (g->failed || g->request->unobserved || g->request->priority >= JOB_PRIORITY_IDLE) {
        return true;
    }
    for (size_t i = 0; i < g->request->n_jobs; i++) {
        if (g->prompts[i].admitted) {
            c->load.sequences_running += g->prompts[i].n_running;
        } else if (g->prompts[i].n_running > 0) {
            count_waiting(c, &g->request->jobs[i]);
        }
    }
    return true;
}

struct pipeline_load pipeline_load(struct pipeline *p, int32_t priority, double expected_output)
{
    struct counting c = {.priority = priority, .expected_output = expected_output};
    pipeline_each(p, count, &c);
    return c.load;
}
