/* How long a request may take: in all (its `timeout`, or the server's), until an engine begins with it, until its first
 * token. The limits hold here, whatever the engine does: where it loads, hangs or is stopped, too. Who owns a pipeline
 * asks for the next deadline, and calls pipeline_expire then. The loop's thread. */
#ifndef TANDEM_PIPELINE_DEADLINES_H
#define TANDEM_PIPELINE_DEADLINES_H

#include "pipeline/generation.h"

/* X(id, name in metrics, what was not done in time, what the limit is called) */
#define GEN_LIMIT_TABLE(X)                                                                          \
    X(QUEUE, "queue", "was not begun", "in the queue (--queue-timeout-ms)")                         \
    X(FIRST_TOKEN, "first_token", "gave no token", "to its first token (--first-token-timeout-ms)") \
    X(TOTAL, "total", "did not finish", "in all ('timeout', --timeout-ms)")
enum gen_limit {
#define X(id, name, what, limit) GEN_LIMIT_##id,
    GEN_LIMIT_TABLE(X)
#undef X
        GEN_LIMIT_COUNT
};
const char *gen_limit_name(enum gen_limit limit);
void gen_limit_error(enum gen_limit which, int64_t ms, struct error *err); /* DEADLINE: it was so many, and is over */

/* The earliest time, monotonic ms, at which a limit is over that holds now, and which; INT64_MAX: none holds, *which
 * stays. ms: by gen_limit, from received_us on; 0: it does not hold. */
int64_t gen_limits_deadline_ms(const int64_t ms[GEN_LIMIT_COUNT], int64_t received_us, enum gen_limit *which);
int64_t generation_deadline_ms(const struct generation *g, enum gen_limit *which);
int64_t pipeline_next_deadline_ms(struct pipeline *p); /* of all generations */

/* Ends every generation whose time is over with DEADLINE. counts[limit] grows by those. */
void pipeline_expire(struct pipeline *p, int64_t now_ms, uint64_t counts[GEN_LIMIT_COUNT]);

#endif
