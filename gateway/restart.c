#include "gateway/restart.h"

static bool spent(struct restart *r, const struct restart_policy *policy, int64_t now_ms)
{
    r->losses_ms[r->n_losses++ % RESTART_MAX_LOSSES] = now_ms;
    int recent = 0;
    for (int i = 0; i < RESTART_MAX_LOSSES && i < r->n_losses; i++) {
        recent += now_ms - r->losses_ms[i] <= policy->window_ms;
    }
    return recent > policy->limit;
}

static double ceiling_ms(const struct restart *r, const struct restart_policy *policy)
{
    double ceiling = (double)policy->initial_ms;
    for (int i = 1; i < r->step && ceiling < (double)policy->max_ms; i++) {
        ceiling *= policy->multiplier;
    }
    return ceiling < (double)policy->max_ms ? ceiling : (double)policy->max_ms;
}

int64_t restart_after(struct restart *r, const struct restart_policy *policy, int64_t now_ms, bool productive,
                      bool hopeless, uint64_t random, bool *failed)
{
    r->step = productive ? 0 : r->step;
    *failed = spent(r, policy, now_ms) || hopeless;
    if (*failed) {
        return policy->retry_ms;
    }
    int64_t delay = r->step == 0 ? 0 : (int64_t)(random % (uint64_t)(ceiling_ms(r, policy) + 1));
    r->step++;
    return delay;
}
