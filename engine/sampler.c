#include "engine/sampler.h"

#include "base/rng.h"

static struct sample_row neutral_row(int32_t logits_row)
{
    return (struct sample_row){.logits_row = logits_row,
                               .score_id = -1,
                               .temperature = 1,
                               .top_p = 1,
                               .typical_p = 1,
                               .top_n_sigma = -1,
                               .repetition_penalty = 1,
                               .xtc_threshold = 0.1f,
                               .dry_base = 1.75f,
                               .dry_allowed_length = 2,
                               .dry_range = -1};
}

static void set_parameters(struct sample_row *row, const struct sampling *s)
{
    row->temperature = s->temperature;
    row->top_p = s->top_p;
    row->top_k = s->top_k;
    row->min_p = s->min_p;
    row->typical_p = s->typical_p;
    row->top_n_sigma = s->top_n_sigma;
    row->presence_penalty = s->presence_penalty;
    row->frequency_penalty = s->frequency_penalty;
    row->repetition_penalty = s->repetition_penalty;
    row->xtc_probability = s->xtc_probability;
    row->xtc_threshold = s->xtc_threshold;
    row->dry_multiplier = s->dry_multiplier;
    row->dry_base = s->dry_base;
    row->dry_allowed_length = s->dry_allowed_length;
    row->dry_range = s->dry_penalty_last_n;
}

/* Output token number n_output; the history is the prompt and n_known tokens of output. */
static struct sample_row row_of(const struct sequence *q, uint32_t choice, int32_t logits_row, uint32_t n_output,
                                uint32_t n_known)
{
    const struct request *r = q->request;
    const struct job *job = r->job;
    bool below_min = n_output < job->min_tokens;
    struct sample_row row = neutral_row(logits_row);
    set_parameters(&row, &job->sampling);
    row.n_top = job->flags & JOB_LOGPROBS ? (int32_t)job->n_top : 0;
    row.want_logprob = job->flags & JOB_LOGPROBS;
    row.want_digest = job->flags & JOB_DIGEST;
    row.dry_breakers = job->dry_breakers;
    row.n_dry_breakers = (int32_t)job->n_dry_breakers;
    row.history = q->tokens;
    row.n_prompt = (int32_t)job->n_prompt;
    row.n_output = (int32_t)n_known;
    row.bias = r->bias;
    row.n_bias = (int32_t)r->n_bias;
    row.banned = r->banned;
    row.n_banned = below_min && !q->plan.mask ? (int32_t)r->n_banned : 0; /* a constraint's mask has them */
    row.mask = q->plan.mask ? q->plan.mask : below_min ? r->min_mask : NULL;
    row.uniform = rng_uniform(job->seed, n_output, choice, job->prompt_index, RNG_SAMPLE);
    row.xtc_uniform = rng_uniform(job->seed, n_output, choice, job->prompt_index, RNG_XTC);
    return row;
}

struct sample_row sampler_row(const struct sequence *q, uint32_t choice, int32_t logits_row)
{
    uint32_t n = sequence_n_output(q);
    return row_of(q, choice, logits_row, n, n);
}

struct sample_row sampler_row_after(const struct sequence *q, uint32_t choice, int32_t logits_row)
{
    uint32_t n = sequence_n_output(q);
    return row_of(q, choice, logits_row, n + 1, n);
}

struct sample_row sampler_draft_row(const struct sequence *q, uint32_t n, int32_t logits_row)
{
    n += sequence_n_output(q);
    return row_of(q, q->choice, logits_row, n, n);
}

struct sample_row sampler_score_row(const struct sequence *q, uint32_t index, int32_t logits_row)
{
    const struct job *job = q->request->job;
    struct sample_row row = neutral_row(logits_row);
    row.score_id = q->tokens[index];
    row.n_top = (int32_t)job->n_prompt_top;
    row.want_logprob = true;
    row.want_digest = job->flags & JOB_DIGEST;
    row.history = q->tokens;
    row.n_prompt = (int32_t)index;
    return row;
}
