/* Ends generations of one pipeline whose time is over (pipeline/deadlines.h), by a timer of the loop. */
#ifndef TANDEM_GATEWAY_DEADLINE_TIMER_H
#define TANDEM_GATEWAY_DEADLINE_TIMER_H

#include "base/loop.h"
#include "pipeline/deadlines.h"

struct deadline_timer {
    struct pipeline *pipeline; /* outlives it */
    struct loop_timer *timer;
    int64_t at_ms;                    /* when it rings; INT64_MAX: never */
    uint64_t n_late[GEN_LIMIT_COUNT]; /* generations ended, in all */
};

NODISCARD bool deadline_timer_init(struct deadline_timer *d, struct loop *loop, struct error *err);
void deadline_timer_release(struct deadline_timer *d); /* fine when zeroed */
/* A generation has begun. */
void deadline_timer_note(struct deadline_timer *d, const struct generation *g);

#endif
