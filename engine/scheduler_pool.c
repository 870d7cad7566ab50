/* How much of the pool is for use, and what running sequences will need of it.
 *
 * A limit below the pool's size is approached a part per step, so that no step waits long for the system to take memory
 * back. The sequence that is longest now always has room, whatever the limit: the limit follows it, step by step.
 *
 * Admission looks ahead. A sequence that is admitted into the last pages takes them from those that run, whose answers
 * still grow; the youngest then gives way, is prefilled again, and with a full queue this never ends. So room is left
 * for the answers: as long as those before were, in the mean, and longer by a factor that rises whenever somebody had
 * to give way all the same. With a factor as high as it gets everybody has room for max_tokens. */
#include "engine/scheduler_internal.h"

#include "base/array.h"
#include "base/limits.h"
#include "engine/engine_internal.h"

#define RESIZE_STEP      MIB(64) /* given back in one step: tens of milliseconds at most */
#define EXPECTED_FIRST   128     /* tokens of an answer, before any has ended */
#define EXPECTED_WEIGHT  0.125   /* of the newest answer in the mean */
#define SHORTAGE_FACTOR  1.5     /* when somebody gave way ... */
#define SHORTAGE_MOST    64.0
#define SHORTAGE_RECOVER 0.95 /* ... and of what it is above 1 with each answer that ends */

void scheduler__init_pool(struct scheduler *s)
{
    s->pool.limit = UINT64_MAX;
    s->output.expected = EXPECTED_FIRST;
    s->output.factor = 1;
}

/* ---- size ---- */

static uint32_t longest_now(const struct request *r)
{
    uint32_t longest = 0;
    for (uint32_t i = 0; i < r->job->n_choices; i++) {
        const struct sequence *q = &r->sequences[i];
        longest = q->state != SEQUENCE_DONE && q->n_tokens > longest ? q->n_tokens : longest;
    }
    return longest;
}

/* What any request needs to go on alone: its tokens, and a step's worth more. */
static size_t least_size(const struct scheduler *s)
{
    uint32_t need[KV_MAX_GROUPS] = {0}, longest = 0;
    for (const struct request *r = s->requests; r; r = r->next) {
        uint32_t n = longest_now(r);
        longest = n > longest ? n : longest;
    }
    longest = min_u32(longest + s->config->max_batch_tokens, s->config->n_context);
    engine__pages_needed(s->config, longest, need);
    return kv_geometry_size(&s->config->geometry, need);
}

void scheduler_on_discard(struct scheduler *s, void (*fn)(void *arg, size_t offset, size_t size), void *arg)
{
    kv_on_withdraw(s->kv, fn, arg);
}

void scheduler_limit_pool(struct scheduler *s, uint64_t size, bool urgent)
{
    bool all = size >= s->config->geometry.pool_size;
    s->pool.limit = all ? UINT64_MAX : size;
    s->pool.urgent = urgent && !all;
    s->pool.moving = true;
}

bool scheduler_is_resizing(const struct scheduler *s)
{
    return s->pool.moving;
}

/* The youngest give way, except for the last. */
static void preempt_for_limit(struct scheduler *s, size_t size)
{
    while (s->n_running > 1 && kv_usable_size(s->kv) > size && !kv_shrink(s->kv, RESIZE_STEP)) {
        scheduler__preempt(s, s->running[s->n_running - 1]);
    }
}

void scheduler__resize_pool(struct scheduler *s)
{
    if (s->pool.limit == UINT64_MAX && !s->pool.moving) {
        return;
    }
    size_t least = least_size(s);
    size_t size = s->pool.limit > SIZE_MAX ? SIZE_MAX : (size_t)s->pool.limit;
    size = size > least ? size : least;
    kv_set_limit(s->kv, size);
    s->pool.moving = kv_shrink(s->kv, RESIZE_STEP);
    if (s->pool.urgent && !s->pool.moving) {
        preempt_for_limit(s, size);
    }
}

/* ---- growth ---- */

static uint32_t expected_growth(const struct scheduler *s, const struct sequence *q)
{
    double expected = s->output.expected * s->output.factor, most = q->request->job->max_tokens;
    uint32_t wanted = (uint32_t)(expected < most ? expected : most), have = sequence_n_output(q);
    return s->config->reserve_output && wanted > have ? wanted - have : 0;
}

/* Siblings that start from this prompt when it is computed. */
static uint32_t n_followers(const struct scheduler *s, const struct sequence *q)
{
    const struct request *r = q->request;
    uint32_t n = 0;
    if (!s->config->reserve_output || s->x->kv_private || sequence_n_output(q) > 0 || (r->leader && r->leader != q)) {
        return 0;
    }
    for (uint32_t i = 0; i < r->job->n_choices; i++) {
        n += &r->sequences[i] != q && r->sequences[i].state == SEQUENCE_WAITING;
    }
    return n;
}

void scheduler__add_growth(const struct scheduler *s, const struct sequence *q, uint32_t need[KV_MAX_GROUPS])
{
    uint32_t growth = expected_growth(s, q), room = s->config->n_context - q->n_tokens;
    growth = min_u32(growth, room);
    scheduler__add_need(s, q, q->n_tokens + 1 + growth, need);
    for (uint32_t n = n_followers(s, q), g = 0; n > 0 && g < (uint32_t)s->n_groups; g++) {
        need[g] += n * (s->config->state[g] ? scheduler__states_needed(q) : growth / s->config->page_tokens + 2);
    }
}

void scheduler__note_output(struct scheduler *s, const struct sequence *q)
{
    s->output.expected += EXPECTED_WEIGHT * ((double)sequence_n_output(q) - s->output.expected);
    s->output.factor = 1 + SHORTAGE_RECOVER * (s->output.factor - 1);
}

void scheduler__note_shortage(struct scheduler *s)
{
    double factor = s->output.factor * SHORTAGE_FACTOR;
    s->output.factor = factor < SHORTAGE_MOST ? factor : SHORTAGE_MOST;
}
