#include "pipeline/deadlines.h"

#include "pipeline/generation_internal.h"
#include "pipeline/recovery.h"

static const struct {
    const char *name, *what, *limit;
} limits[GEN_LIMIT_COUNT] = {
#define X(id, name, what, limit) {name, what, limit},
    GEN_LIMIT_TABLE(X)
#undef X
};

const char *gen_limit_name(enum gen_limit limit)
{
    return limits[limit].name;
}

void gen_limit_error(enum gen_limit which, int64_t ms, struct error *err)
{
    error_set(err, ERR_DEADLINE, "The request %s within %lld ms, its limit %s.", limits[which].what, (long long)ms,
              limits[which].limit);
}

int64_t gen_limits_deadline_ms(const int64_t ms[GEN_LIMIT_COUNT], int64_t received_us, enum gen_limit *which)
{
    int64_t earliest = INT64_MAX;
    for (int i = 0; i < GEN_LIMIT_COUNT; i++) {
        int64_t at = received_us / 1000 + ms[i];
        if (ms[i] > 0 && at < earliest) {
            earliest = at;
            *which = (enum gen_limit)i;
        }
    }
    return earliest;
}

/* Of those that hold; 0: it does not. */
static int64_t limit_ms(const struct generation *g, enum gen_limit which)
{
    const struct gen_request *r = g->request;
    if (which == GEN_LIMIT_TOTAL) {
        return r->timeout_ms;
    }
    if (r->unobserved || r->background) { /* nobody waits for it */
        return 0;
    }
    if (which == GEN_LIMIT_QUEUE) {
        return g->clock.admitted_us ? 0 : r->queue_timeout_ms;
    }
    return g->clock.first_us ? 0 : r->first_token_timeout_ms;
}

int64_t generation_deadline_ms(const struct generation *g, enum gen_limit *which)
{
    int64_t holding[GEN_LIMIT_COUNT];
    if (g->failed || generation_complete(g)) {
        return INT64_MAX;
    }
    for (int i = 0; i < GEN_LIMIT_COUNT; i++) {
        holding[i] = limit_ms(g, (enum gen_limit)i);
    }
    return gen_limits_deadline_ms(holding, g->clock.received_us, which);
}

/* ---- of all ---- */

struct search {
    int64_t earliest;
    enum gen_limit which;
    struct generation *g;
};

static bool look(void *arg, struct generation *g)
{
    struct search *s = arg;
    enum gen_limit which = GEN_LIMIT_TOTAL;
    int64_t at = generation_deadline_ms(g, &which);
    if (at < s->earliest) {
        *s = (struct search){.earliest = at, .which = which, .g = g};
    }
    return true;
}

static struct search search(struct pipeline *p)
{
    struct search s = {.earliest = INT64_MAX};
    pipeline_each(p, look, &s);
    return s;
}

int64_t pipeline_next_deadline_ms(struct pipeline *p)
{
    return search(p).earliest;
}

static void expire(struct generation *g, enum gen_limit which)
{
    struct error late = {0};
    gen_limit_error(which, limit_ms(g, which), &late);
    generation_fail(g, &late);
}

/* One after another from the beginning: who is told of an end may free any generation. */
void pipeline_expire(struct pipeline *p, int64_t now_ms, uint64_t counts[GEN_LIMIT_COUNT])
{
    for (struct search s = search(p); s.earliest <= now_ms; s = search(p)) {
        counts[s.which]++;
        expire(s.g, s.which);
    }
    recovery_go_on(p); /* one that was tried alone may have ended */
}
