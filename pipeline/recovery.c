#include "pipeline/recovery.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "pipeline/generation_internal.h"

/* ---- quarantine ---- */

static uint64_t digest_of(const struct job *job)
{
    return xxh3(job->prompt, job->n_prompt * sizeof *job->prompt, 0);
}

static bool is_quarantined(const struct quarantine *q, uint64_t digest, int64_t now_ms)
{
    for (uint32_t i = 0; i < QUARANTINE_MAX && i < q->n; i++) {
        if (q->digests[i] == digest && now_ms < q->until_ms[i]) {
            return true;
        }
    }
    return false;
}

static void quarantine(struct quarantine *q, const struct gen_request *r, int64_t now_ms)
{
    for (size_t i = 0; i < r->n_jobs; i++) {
        uint32_t at = q->n++ % QUARANTINE_MAX;
        q->digests[at] = digest_of(&r->jobs[i]);
        q->until_ms[at] = now_ms + QUARANTINE_MS;
    }
}

bool recovery_allows(struct pipeline *p, const struct gen_request *r, struct error *err)
{
    const struct quarantine *q = &p->recovery.quarantine;
    for (size_t i = 0; q->n && i < r->n_jobs; i++) {
        if (is_quarantined(q, digest_of(&r->jobs[i]), clock_ms())) {
            return error_set(err, ERR_QUARANTINED,
                             "This prompt has ended the engine %d times and is refused for ten minutes after that.",
                             RECOVERY_ALONE);
        }
    }
    return true;
}

/* ---- a loss ---- */

/* It was in the lost engine. False: it does not go on, and *err says why. */
static bool survives(struct generation *g, const struct error *loss, struct error *err)
{
    struct pipeline *p = g->pipeline;
    struct recovery_state *s = &g->recovery;
    uint64_t n_tokens = generation__n_tokens(g);
    bool futile = n_tokens == s->n_tokens;
    s->n_losses++;
    s->n_futile = futile ? s->n_futile + 1 : 0;
    s->n_alone = !futile ? 0 : s->n_alone + (p->recovery.tried == g);
    s->n_tokens = n_tokens;
    s->lost_us = s->lost_us ? s->lost_us : clock_us();
    if (s->n_alone >= RECOVERY_ALONE) {
        quarantine(&p->recovery.quarantine, g->request, clock_ms());
        LOG_ERROR("request is quarantined", "id=%s request_id=%s losses=%u", g->request->id, g->request->request_id,
                  s->n_losses);
        return error_set(
            err, ERR_QUARANTINED,
            "This request ended the engine %u times, %d of them while it was alone, and is not tried again.",
            s->n_losses, RECOVERY_ALONE);
    }
    if (s->n_futile > p->options.retry_limit) {
        *err = *loss;
        return error_wrap(err, "%u engines were lost without a new token of this request", s->n_futile);
    }
    return true;
}

/* True: it has an error to be taken. */
static bool note_loss(struct generation *g, const struct error *loss)
{
    struct error err = *loss;
    bool in_engine = false;
    for (size_t i = 0; i < g->request->n_jobs; i++) {
        in_engine |= g->prompts[i].routed;
        generation__forget_job(g, i);
    }
    if (g->failed || generation_complete(g)) { /* it is only still to be taken */
        return false;
    }
    if (loss->code != ERR_ENGINE_LOST || (in_engine && !survives(g, loss, &err))) {
        return generation__fail(g, &err);
    }
    g->recovery.waits = true;
    return false;
}

/* ---- whose turn it is ---- */

static struct generation *first_waiting(const struct pipeline *p, uint32_t n_futile)
{
    struct generation *g = p->first;
    while (g && !(g->recovery.waits && g->recovery.n_futile >= n_futile)) {
        g = g->next;
    }
    return g;
}

/* False: it failed, and its consumer was told; it may be gone. */
static bool submit(struct generation *g)
{
    struct error err = {0};
    g->recovery.waits = false;
    if (generation__submit(g, &err)) {
        return true;
    }
    if (generation__fail(g, &err)) {
        generation__notify(g);
    }
    return false;
}

/* Oldest first, as they came. */
static void submit_all(struct pipeline *p)
{
    struct generation *g;
    size_t n = 0;
    while (!p->recovery.tried && (g = first_waiting(p, 0))) {
        n += submit(g);
    }
    if (n) {
        LOG_INFO("generations go on", "n=%zu losses=%llu", n, (unsigned long long)p->recovery.n_losses);
    }
}

/* Who cannot be submitted when its turn comes has ended it by that. */
static void next_turn(struct pipeline *p)
{
    struct recovery *r = &p->recovery;
    r->turning = true;
    do {
        r->turn_due = false;
        r->tried = first_waiting(p, RECOVERY_SUSPECT);
        if (r->tried) {
            LOG_WARN("request goes on alone", "id=%s request_id=%s losses=%u", r->tried->request->id,
                     r->tried->request->request_id, r->tried->recovery.n_losses);
            submit(r->tried);
        }
    } while (r->turn_due);
    r->turning = false;
    submit_all(p);
}

void recovery_go_on(struct pipeline *p)
{
    if (p->recovery.turn_due && !p->recovery.turning) {
        next_turn(p);
    }
}

/* Whoever was tried is done; at once, unless a list of generations is being walked. */
static void end_turn(struct pipeline *p)
{
    p->recovery.turn_due = true;
    if (!p->pumping) {
        recovery_go_on(p);
    }
}

bool recovery_holds(const struct pipeline *p)
{
    return p->recovery.tried != NULL;
}

void recovery_lose(struct pipeline *p, const struct engine_event *event)
{
    bool pumping = p->pumping;
    p->pumping = true; /* turns end after the loop */
    p->recovery.n_losses++;
    for (struct generation *g = p->first, *next; g; g = next) {
        next = g->next;
        if (g->recovery.noted == p->recovery.n_losses) {
            continue;
        }
        g->recovery.noted = p->recovery.n_losses;
        p->current = next; /* a notified generation may free itself, or the next one */
        if (note_loss(g, &event->error)) {
            generation__notify(g);
        }
        if (next && p->current != next) {
            next = p->first; /* the next one went away: begin again */
        }
    }
    p->pumping = pumping;
    next_turn(p);
}

static bool is_submitted(const struct generation *g)
{
    for (size_t i = 0; i < g->request->n_jobs; i++) {
        if (g->prompts[i].routed) {
            return true;
        }
    }
    return false;
}

void recovery_requeue(struct pipeline *p)
{
    for (struct generation *g = p->first; g; g = g->next) {
        if (is_submitted(g)) {
            generation__withdraw(g);
            g->recovery.waits = true;
        }
    }
    next_turn(p);
}

void recovery_note_token(struct generation *g)
{
    struct pipeline *p = g->pipeline;
    g->recovery.lost_us = 0;
    g->recovery.n_futile = g->recovery.n_alone = 0;
    if (p->recovery.tried == g) {
        generation__withdraw(g); /* the next one is to be alone as well */
        g->recovery.waits = true;
        end_turn(p);
    }
}

void recovery_note_end(struct generation *g)
{
    struct pipeline *p = g->pipeline;
    g->recovery.waits = false;
    if (p->recovery.tried == g) {
        end_turn(p);
    }
}
