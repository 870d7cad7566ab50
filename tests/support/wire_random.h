/* Random jobs and events for codec tests, and deep comparison of two. Everything allocated lives in the arena. */
#ifndef TANDEM_TESTS_SUPPORT_WIRE_RANDOM_H
#define TANDEM_TESTS_SUPPORT_WIRE_RANDOM_H

#include "base/arena.h"
#include "wire/job.h"

struct wire_random { /* a counter-based stream: the same seed gives the same values */
    uint64_t seed;
    uint32_t next;
};
uint32_t wire_random_below(struct wire_random *r, uint32_t n);

void wire_random_job(struct wire_random *r, struct arena *arena, struct job *out); /* passes job_check */
void wire_random_event(struct wire_random *r, struct arena *arena, struct engine_event *out);
bool wire_jobs_equal(const struct job *a, const struct job *b);
bool wire_events_equal(const struct engine_event *a, const struct engine_event *b);

#endif
