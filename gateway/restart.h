/* When the next engine of a model is started after one was lost: exponential backoff with full jitter, and a budget
 * beyond which the model counts as failed for a while. A plain value, pure: time and chance come from the caller. */
#ifndef TANDEM_GATEWAY_RESTART_H
#define TANDEM_GATEWAY_RESTART_H

#include <stdbool.h>
#include <stdint.h>

#define RESTART_MAX_LOSSES 64 /* remembered, and the most that limit may be */

struct restart_policy {
    int64_t initial_ms, max_ms; /* the longest wait before the second start in a row; and before any */
    double multiplier;          /* from one to the next, at least 1 */
    int limit;                  /* losses within window_ms after which the model counts as failed ... */
    int64_t window_ms;
    int64_t retry_ms; /* ... and is tried again after this */
};

struct restart {
    int64_t losses_ms[RESTART_MAX_LOSSES]; /* ring of times */
    int n_losses, step;                    /* step: starts in this series */
};

/* An engine was lost now. productive: it had given tokens, so a series of losses, if there was one, is over; hopeless:
 * another one would end the same way. Returns the milliseconds to wait; *failed: the budget is spent. random: any 64
 * bits. The first start of a series is at once: most losses are singles. */
int64_t restart_after(struct restart *r, const struct restart_policy *policy, int64_t now_ms, bool productive,
                      bool hopeless, uint64_t random, bool *failed);

#endif
