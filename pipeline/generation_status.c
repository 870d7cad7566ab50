/* What a generation says of itself. */
#include "pipeline/generation_internal.h"

const struct gen_request *generation_request(const struct generation *g)
{
    return g->request;
}

const char *generation_fingerprint(const struct generation *g)
{
    return g->fingerprint[0] ? g->fingerprint : NULL;
}

bool generation_failed(const struct generation *g, struct error *err)
{
    if (g->failed) {
        *err = g->error;
    }
    return g->failed;
}

bool generation_complete(const struct generation *g)
{
    for (size_t i = 0; i < g->request->n_jobs; i++) {
        if (g->prompts[i].n_running > 0) {
            return false;
        }
    }
    return !g->mcp || mcp_loop_ended(g->mcp);
}

uint64_t generation__n_tokens(const struct generation *g)
{
    uint64_t n = 0;
    for (size_t i = 0; i < g->n_choices; i++) {
        n += g->choices[i].n_tokens;
    }
    return n;
}

void generation__add_choice(struct gen_usage *usage, const struct choice *c)
{
    usage->completion_tokens += c->n_tokens;
    usage->n_accepted_prediction += c->prediction.n_accepted;
    usage->n_rejected_prediction += c->prediction.n - c->prediction.n_accepted;
    usage->n_reasoning += c->output ? choice_output_reasoning(c->output) : 0;
    usage->n_begun += c->n_tokens > 0;
    usage->n_drafted += c->n_drafted;
    usage->n_held += c->n_held;
    usage->n_replayed += c->n_replayed;
}

/* Of the turns that are over. */
static struct gen_usage past_of(const struct generation *g)
{
    return g->mcp ? *mcp_loop_past(g->mcp) : g->mcp_follow ? *mcp_follow_past(g->mcp_follow) : (struct gen_usage){0};
}

void generation__usage(const struct generation *g, struct gen_usage *usage)
{
    *usage = past_of(g);
    for (size_t i = 0; i < g->request->n_jobs; i++) {
        usage->prompt_tokens += g->request->jobs[i].n_prompt;
        usage->cached_tokens += g->prompts[i].n_cached;
    }
    for (size_t i = 0; i < g->n_choices; i++) {
        generation__add_choice(usage, &g->choices[i]);
    }
}

void generation_timings(const struct generation *g, int64_t now_us, struct gen_timings *timings,
                        struct gen_usage *usage)
{
    *timings = gen_clock_read(&g->clock, now_us);
    generation__usage(g, usage);
}

const char *gen_phase_name(enum gen_phase phase)
{
    static const char *const names[GEN_PHASE_COUNT] = {"queued",    "prefill",    "decode", "calling",
                                                       "preempted", "recovering", "ended"};
    return names[phase];
}

/* Does none of its choices run, because each that has not ended was preempted? */
static bool all_preempted(const struct generation *g)
{
    size_t n_preempted = 0;
    for (size_t i = 0; i < g->n_choices; i++) {
        if (g->choices[i].finish == FINISH_NONE && !g->choices[i].preempted) {
            return false;
        }
        n_preempted += g->choices[i].finish == FINISH_NONE;
    }
    return n_preempted > 0;
}

enum gen_phase generation_phase(const struct generation *g)
{
    if (g->failed || generation_complete(g)) {
        return GEN_ENDED;
    }
    if (g->mcp && mcp_loop_calls(g->mcp)) {
        return GEN_CALLING;
    }
    if (g->recovery.lost_us) {
        return GEN_RECOVERING;
    }
    bool admitted = false, answered = false;
    for (size_t i = 0; i < g->request->n_jobs; i++) {
        admitted |= g->prompts[i].admitted;
        answered |= g->prompts[i].answered;
    }
    if (!admitted) {
        return GEN_QUEUED;
    }
    if (g->n_preemptions && all_preempted(g)) {
        return GEN_PREEMPTED;
    }
    return answered ? GEN_DECODE : GEN_PREFILL;
}

static const struct choice *first_choice(const struct generation *g)
{
    return &g->choices[g->prompts[0].ordered ? g->prompts[0].order[0] : 0];
}

enum finish_reason generation_finish(const struct generation *g)
{
    return g->failed ? FINISH_ERROR : first_choice(g)->finish;
}

struct str generation_text(const struct generation *g)
{
    const struct choice *c = first_choice(g);
    return str_slice(buf_view(&c->text), 0, c->safe);
}

static int64_t left_ms(const struct generation *g, int64_t now_us)
{
    int64_t timeout_ms = g->request->timeout_ms, left = timeout_ms - (now_us - g->clock.received_us) / 1000;
    return timeout_ms == 0 ? -1 : left > 0 ? left : 0;
}

void generation_status(const struct generation *g, int64_t now_us, struct gen_status *out)
{
    *out = (struct gen_status){
        .phase = generation_phase(g),
        .n_preemptions = g->n_preemptions,
        .n_engine_losses = g->recovery.n_losses,
        .token_rate = gen_clock_rate(&g->clock, now_us),
        .left_ms = left_ms(g, now_us),
    };
    generation_timings(g, now_us, &out->timings, &out->usage);
    struct gen_usage past = past_of(g);
    out->n_prefilled = past.prompt_tokens;
    out->max_tokens = past.completion_tokens;
    for (size_t i = 0; i < g->request->n_jobs; i++) {
        out->n_prefilled += g->prompts[i].n_done;
        out->max_tokens += (uint64_t)g->request->jobs[i].max_tokens * g->request->best_of;
    }
    if (out->timings.prefill_us > 0) {
        out->prompt_rate =
            (double)(out->n_prefilled - out->usage.cached_tokens) * 1e6 / (double)out->timings.prefill_us;
    }
}
