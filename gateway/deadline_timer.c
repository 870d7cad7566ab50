#include "gateway/deadline_timer.h"

#include "base/clock.h"

static void set(struct deadline_timer *d, int64_t at_ms)
{
    int64_t now_ms = clock_ms();
    d->at_ms = at_ms;
    if (at_ms == INT64_MAX) {
        loop_timer_stop(d->timer);
    } else { /* never at once: whoever begins a generation is still to hear of it */
        loop_timer_start(d->timer, at_ms > now_ms ? at_ms - now_ms : 1, 0);
    }
}

/* Deadlines that no longer hold ring for nothing; the next one is looked for then. */
static void ring(void *arg)
{
    struct deadline_timer *d = arg;
    d->at_ms = INT64_MAX;
    pipeline_expire(d->pipeline, clock_ms(), d->n_late);
    set(d, pipeline_next_deadline_ms(d->pipeline));
}

bool deadline_timer_init(struct deadline_timer *d, struct loop *loop, struct error *err)
{
    *d = (struct deadline_timer){.at_ms = INT64_MAX, .timer = loop_timer_create(loop, ring, d)};
    return d->timer || error_set(err, ERR_NO_MEMORY, "no memory for a timer.");
}

void deadline_timer_release(struct deadline_timer *d)
{
    loop_timer_free(d->timer);
    d->timer = NULL;
}

void deadline_timer_note(struct deadline_timer *d, const struct generation *g)
{
    enum gen_limit which;
    int64_t at_ms = generation_deadline_ms(g, &which);
    if (at_ms < d->at_ms) {
        set(d, at_ms);
    }
}
