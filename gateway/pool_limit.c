#include "gateway/pool_limit.h"

#define CUT_EVERY_MS  1500 /* what a cut brought is to be seen before the next one */
#define CALM_MS       5000 /* without pressure, before anything is given back to the engine */
#define GROW_EVERY_MS 2000
#define GROW_SHARE    8  /* one part in so many of the pool at a time */
#define LEAST_SHARE   16 /* it is not cut below one part in so many; the engine keeps what one sequence needs */
#define WARN_KEEP     0.75
#define CRITICAL_KEEP 0.5

void pool_limit_init(struct pool_limit_state *s, size_t size)
{
    *s = (struct pool_limit_state){.size = size, .limit = size};
}

/* Below what it holds: a limit above that would give nothing back. */
static bool cut(struct pool_limit_state *s, enum pressure_level level, size_t held, int64_t now_ms)
{
    double keep = level == PRESSURE_CRITICAL ? CRITICAL_KEEP : WARN_KEEP;
    size_t from = held < s->limit ? held : s->limit, least = s->size / LEAST_SHARE;
    size_t limit = (size_t)(keep * (double)from);
    limit = limit > least ? limit : least;
    bool urgent = level == PRESSURE_CRITICAL;
    if (s->changed_ms && now_ms - s->changed_ms < CUT_EVERY_MS && (s->urgent || !urgent)) {
        return false;
    }
    if (limit >= s->limit && (s->urgent || !urgent)) {
        return false;
    }
    s->limit = limit < s->limit ? limit : s->limit;
    s->urgent = urgent;
    s->changed_ms = now_ms;
    return true;
}

bool pool_limit_update(struct pool_limit_state *s, enum pressure_level level, size_t held, int64_t now_ms)
{
    if (level != PRESSURE_NONE) {
        s->pressed_ms = now_ms;
        return cut(s, level, held, now_ms);
    }
    if (s->limit >= s->size || now_ms - s->pressed_ms < CALM_MS || now_ms - s->changed_ms < GROW_EVERY_MS) {
        return false;
    }
    size_t step = s->size / GROW_SHARE;
    s->limit = s->limit < s->size - step ? s->limit + step : s->size;
    s->urgent = false;
    s->changed_ms = now_ms;
    return true;
}
