/* When what happened to one request. Status, timings in answers and metrics all read it here, so that they agree:
 *
 *     received --prepare-- submitted --queue-- admitted --prefill-- first token --decode-- last token   ended
 *
 * How long the engine let it wait the engine says itself; all else is seen from here. A request of several prompts or
 * choices has one line too: it is admitted with its first prompt, its prefill ends when each prompt has given a token,
 * and decoding goes from the first token of all to the last. Times are monotonic microseconds, given by the caller.
 * Owned by one thread. */
#ifndef TANDEM_PIPELINE_GEN_CLOCK_H
#define TANDEM_PIPELINE_GEN_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

/* Microseconds; -1: has not begun. What has begun and not ended counts up to now. */
struct gen_timings {
    int64_t prepare_us; /* reading the request: JSON, template, tokens; waiting for a worker included */
    int64_t queue_us;   /* waiting for the engine */
    int64_t prefill_us, decode_us;
    int64_t ttft_us;  /* received to first token; -1 until there is one */
    int64_t total_us; /* since it was received */
};

struct gen_clock { /* private; 0: has not happened */
    int64_t received_us, submitted_us, admitted_us, prefilled_us, first_us, last_us, ended_us;
    uint32_t n_unfilled; /* prompts that have given no token */
    uint64_t n_tokens;
    struct {
        int64_t at_us;
        uint64_t n_tokens;
    } marks[2]; /* at least GEN_RATE_US apart, newest last */
};

#define GEN_RATE_US 1000000 /* the present rate is that of the last one to two of these */

void gen_clock_start(struct gen_clock *c, int64_t received_us, int64_t now_us, uint32_t n_prompts);
/* A prompt was admitted after queue_us of waiting. Only the first counts. */
void gen_clock_admitted(struct gen_clock *c, int64_t now_us, uint64_t queue_us);
/* n more tokens; first_of_prompt: none of this prompt's had come. */
void gen_clock_tokens(struct gen_clock *c, int64_t now_us, uint64_t n, bool first_of_prompt);
void gen_clock_end(struct gen_clock *c, int64_t now_us);

/* One that has ended, as gen_clock_read once gave it. */
void gen_clock_restore(struct gen_clock *c, const struct gen_timings *t, int64_t now_us);

struct gen_timings gen_clock_read(const struct gen_clock *c, int64_t now_us);
double gen_clock_rate(const struct gen_clock *c, int64_t now_us); /* tokens a second now */

#endif
