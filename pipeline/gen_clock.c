#include "pipeline/gen_clock.h"

void gen_clock_start(struct gen_clock *c, int64_t received_us, int64_t now_us, uint32_t n_prompts)
{
    bool known = received_us > 0 && received_us <= now_us;
    *c = (struct gen_clock){
        .received_us = known ? received_us : now_us, .submitted_us = now_us, .n_unfilled = n_prompts};
}

void gen_clock_admitted(struct gen_clock *c, int64_t now_us, uint64_t queue_us)
{
    int64_t most_us =
        now_us - c->submitted_us; /* clocks of two processes: it cannot have waited longer than we know it */
    if (c->admitted_us == 0) {
        c->admitted_us = queue_us < (uint64_t)most_us ? c->submitted_us + (int64_t)queue_us : now_us;
    }
}

void gen_clock_tokens(struct gen_clock *c, int64_t now_us, uint64_t n, bool first_of_prompt)
{
    c->n_tokens += n;
    c->last_us = now_us;
    if (first_of_prompt && c->n_unfilled > 0 && --c->n_unfilled == 0) {
        c->prefilled_us = now_us;
    }
    if (c->first_us == 0) {
        c->first_us = c->marks[0].at_us = c->marks[1].at_us = now_us;
        c->marks[0].n_tokens = c->marks[1].n_tokens = c->n_tokens;
    } else if (now_us - c->marks[1].at_us >= GEN_RATE_US) {
        c->marks[0] = c->marks[1];
        c->marks[1].at_us = now_us;
        c->marks[1].n_tokens = c->n_tokens;
    }
}

void gen_clock_end(struct gen_clock *c, int64_t now_us)
{
    if (c->ended_us == 0) {
        c->ended_us = now_us;
    }
}

struct gen_timings gen_clock_read(const struct gen_clock *c, int64_t now_us)
{
    int64_t until_us = c->ended_us ? c->ended_us : now_us;
    int64_t admitted_us = c->admitted_us ? c->admitted_us : until_us;
    int64_t prefilled_us = c->prefilled_us ? c->prefilled_us : until_us;
    return (struct gen_timings){
        .prepare_us = c->submitted_us - c->received_us,
        .queue_us = admitted_us - c->submitted_us,
        .prefill_us = c->admitted_us ? prefilled_us - c->admitted_us : -1,
        .decode_us = c->first_us ? c->last_us - c->first_us : -1,
        .ttft_us = c->first_us ? c->first_us - c->received_us : -1,
        .total_us = until_us - c->received_us,
    };
}

double gen_clock_rate(const struct gen_clock *c, int64_t now_us)
{
    int64_t elapsed_us = now_us - c->marks[0].at_us;
    bool counting = c->first_us && elapsed_us > 0;
    return counting ? (double)(c->n_tokens - c->marks[0].n_tokens) * 1e6 / (double)elapsed_us : 0;
}

void gen_clock_restore(struct gen_clock *c, const struct gen_timings *t, int64_t now_us)
{
    int64_t received_us = now_us - t->total_us, submitted_us = received_us + t->prepare_us;
    *c = (struct gen_clock){.received_us = received_us, .submitted_us = submitted_us, .ended_us = now_us};
    c->admitted_us = t->prefill_us >= 0 ? submitted_us + t->queue_us : 0;
    c->prefilled_us = t->ttft_us >= 0 && c->admitted_us ? c->admitted_us + t->prefill_us : 0;
    c->first_us = t->ttft_us >= 0 ? received_us + t->ttft_us : 0;
    c->last_us = c->first_us ? c->first_us + t->decode_us : 0;
}
