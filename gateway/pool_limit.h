/* How much of its KV pool an engine may use while memory is short. Pure: what comes out depends on what goes in.
 *
 * Under pressure the pool is cut below what it holds, again and again while the pressure lasts: cached pages go, and
 * where it is critical running sequences too. When it was calm for a while the pool grows back step by step. */
#ifndef TANDEM_GATEWAY_POOL_LIMIT_H
#define TANDEM_GATEWAY_POOL_LIMIT_H

#include "base/sys_pressure.h"

#include <stdbool.h>
#include <stddef.h>

struct pool_limit_state {
    size_t size;                    /* of the pool, bytes */
    size_t limit;                   /* of it for use; size: all */
    bool urgent;                    /* the last change was for critical pressure */
    int64_t changed_ms, pressed_ms; /* monotonic: when it was changed; when there was pressure last */
};

void pool_limit_init(struct pool_limit_state *s, size_t size);

/* held: bytes of the pool with referenced or cached pages, as last known. True: limit has changed. */
bool pool_limit_update(struct pool_limit_state *s, enum pressure_level level, size_t held, int64_t now_ms);

#endif
