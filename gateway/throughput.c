#include "gateway/throughput.h"

#include <math.h>

#define MEMORY_S    15.0 /* seconds of computing after which a sum counts for a third */
#define LEAST_S     0.2  /* of computing, and ... */
#define LEAST_ENDED 3    /* prompts, before anything is said */

/* What was served: tokens from the prefix cache too, since what waits will find some there as well. */
static double prompt_served(const struct engine_stats *s)
{
    return (double)s->rows_prefill + (double)s->cached_tokens;
}

static bool is_later(const struct engine_stats *now, const struct engine_stats *before)
{
    return now->step_ns >= before->step_ns && now->steps >= before->steps &&
           now->jobs_finished >= before->jobs_finished;
}

void throughput_note(struct throughput *t, const struct engine_stats *now)
{
    const struct engine_stats *before = &t->last;
    if (t->has_last && is_later(now, before)) {
        double seconds = (double)(now->step_ns - before->step_ns) * 1e-9, keep = exp(-seconds / MEMORY_S);
        t->seconds = keep * t->seconds + seconds;
        t->steps = keep * t->steps + (double)(now->steps - before->steps);
        t->prompt_tokens = keep * t->prompt_tokens + prompt_served(now) - prompt_served(before);
        t->output_tokens = keep * t->output_tokens + (double)(now->generated_tokens - before->generated_tokens);
        t->admitted = keep * t->admitted + (double)(now->jobs_admitted - before->jobs_admitted);
        t->n_finished += now->jobs_finished - before->jobs_finished;
        t->finished = keep * t->finished + (double)(now->jobs_finished - before->jobs_finished);
    }
    t->last = *now;
    t->has_last = true;
}

void throughput_lost(struct throughput *t)
{
    t->has_last = false;
}

bool throughput_known(const struct throughput *t)
{
    return t->seconds >= LEAST_S && t->n_finished >= LEAST_ENDED && t->admitted > 0;
}

static double known(const struct throughput *t, double sum, double n)
{
    return throughput_known(t) && n > 0 ? sum / n : 0;
}

double throughput_rate(const struct throughput *t)
{
    return known(t, t->prompt_tokens + t->output_tokens, t->seconds);
}

double throughput_prompt(const struct throughput *t)
{
    return known(t, t->prompt_tokens, t->admitted);
}

double throughput_output(const struct throughput *t)
{
    return known(t, t->output_tokens, t->finished);
}

double throughput_step(const struct throughput *t)
{
    return known(t, t->seconds, t->steps);
}
