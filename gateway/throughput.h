/* What an engine got done lately, from the statistics that it sends: what a wait is predicted from. Sums of the last
 * seconds in which it computed; older ones count less and less. A plain value, zeroed knows nothing; one thread. */
#ifndef TANDEM_GATEWAY_THROUGHPUT_H
#define TANDEM_GATEWAY_THROUGHPUT_H

#include "wire/job.h"

#include <stdbool.h>

struct throughput {
    double seconds, steps; /* in which it computed */
    double prompt_tokens, output_tokens, admitted, finished;
    uint64_t n_finished; /* in all */
    struct engine_stats last;
    bool has_last;
};

void throughput_note(struct throughput *t, const struct engine_stats *stats);
void throughput_lost(struct throughput *t); /* the next statistics are those of another engine */

/* Has enough been seen to say anything? Else the others give 0. */
bool throughput_known(const struct throughput *t);
double throughput_rate(const struct throughput *t);   /* tokens a second, those of prompts included */
double throughput_prompt(const struct throughput *t); /* tokens of a prompt, in the mean */
double throughput_output(const struct throughput *t); /* tokens of the answers to a prompt */
double throughput_step(const struct throughput *t);   /* seconds of a step: of a token of one sequence */

#endif
