/* Events of one step on their way to the sink, with the arrays that they point to. Fixed capacity: when it is full,
 * what is there goes out first. The engine's thread. */
#ifndef TANDEM_ENGINE_EVENTS_H
#define TANDEM_ENGINE_EVENTS_H

#include "backend/backend.h"
#include "engine/engine.h"

struct events {
    engine_sink *sink;
    void *arg;
    struct engine_event *items; /* [n] of [cap] */
    size_t n, cap;
    int32_t *ids; /* [n_ids] of [cap_samples] */
    struct token_logprob *logprobs;
    struct token_top *tops; /* JOB_MAX_TOP for each sample */
    size_t n_ids, n_logprobs, n_tops, cap_samples;
    struct engine_stats stats; /* what a STATS event points to */
};

/* n_samples: sampled rows of a step, at most. */
NODISCARD bool events_init(struct events *e, size_t n_samples, struct error *err);
void events_release(struct events *e);
void events_flush(struct events *e);

/* A zeroed event of this kind at the end, stop_id -1; valid until the next call. Flushes when full, so it comes before
 * the arrays it will point to. */
struct engine_event *events_add(struct events *e, enum engine_event_kind kind, uint64_t job);

/* Arrays for the event added last: at most as many per step as sampled rows, but one more of each prompt scored. */
const int32_t *events_id(struct events *e, int32_t id);
struct token_logprob *events_logprob(struct events *e, const struct sample_result *result, bool with_logprob);

#endif
