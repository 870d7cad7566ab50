/* Who may wait for a model. A request is refused at once, before anything is spent on it, where as many wait as may, or
 * where it would wait longer than it has time. The gateway decides from what it knows itself and from what the engine
 * said last; it asks nobody. The loop's thread.
 *
 *     admission_full(a, n, err)             before a request is read: is there no place for anybody?
 *     admission_enter(a, &request, err)     once it is: takes its places
 *     admission_leave(a, n)                 its generation has begun, or it came to nothing
 *
 * A place is one prompt's. Those that run take none: as many may come as there is room for, and max_waiting more. */
#ifndef TANDEM_GATEWAY_ADMISSION_H
#define TANDEM_GATEWAY_ADMISSION_H

#include "gateway/throughput.h"
#include "pipeline/load.h"

struct admission;

struct admission_options {
    struct pipeline *pipeline; /* outlives it */
    const char *model;         /* for messages; outlives it */
    uint32_t max_waiting, max_sequences;
    int64_t default_timeout_ms, queue_timeout_ms, first_token_timeout_ms; /* 0: none */
    const uint64_t
        *n_late; /* [GEN_LIMIT_COUNT] requests ended because their time was over; outlives it; NULL: unknown */
};

NODISCARD struct admission *admission_create(const struct admission_options *options, struct error *err);
void admission_free(struct admission *a);

void admission_note_stats(struct admission *a, const struct engine_stats *stats);
void admission_note_ready(struct admission *a, bool ready); /* an engine takes jobs, or none does */

/* n_more: requests that are being read, and may be for this model. True: *err is OVERLOADED, with retry_after_s. */
NODISCARD bool admission_full(struct admission *a, uint64_t n_more, struct error *err);
struct admission_request {
    uint64_t n_jobs;
    int32_t priority;
    int64_t timeout_ms; /* its own; 0: the default */
};
/* OVERLOADED, with retry_after_s, when as many wait as may or it would wait longer than it has time. */
NODISCARD bool admission_enter(struct admission *a, const struct admission_request *r, struct error *err);
void admission_leave(struct admission *a, uint64_t n_jobs);

/* ---- what it decides from ---- */

struct admission_view {
    uint64_t n_waiting;   /* prompts that wait, those being prepared included */
    uint64_t n_before;    /* of them, those that go first */
    double tokens_before; /* theirs */
    uint64_t n_free;      /* prompts that could start at once */
    bool ready;           /* else an engine is loading, or none runs */
    double rate;          /* tokens a second; 0: not known */
    uint64_t n_running;   /* sequences that share the engine */
    double tokens_each;   /* of a request in the mean: prompt and answer */
};
/* Milliseconds until a request that comes now would start; 0: at once, or nobody knows. */
int64_t admission_wait_ms(const struct admission_view *v);
int64_t admission_service_ms(const struct admission_view *v); /* from then until it ends, in the mean */

struct admission_status {
    struct admission_view view;
    uint32_t max_waiting;
    int64_t wait_ms;                         /* of a request of priority 0 */
    uint64_t n_refused_full, n_refused_late; /* in all */
};
struct admission_status admission_status(struct admission *a);

#endif
