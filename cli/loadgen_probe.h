/* Before `tandem bench-serve` measures: is anybody there, which model, and does one request work? What does not is said
 * at once, in one sentence, instead of being counted a hundred times. Runs the loop; the loop's thread. */
#ifndef TANDEM_CLI_LOADGEN_PROBE_H
#define TANDEM_CLI_LOADGEN_PROBE_H

#include "cli/loadgen.h"

struct loadgen_probe; /* a question that is being asked */

struct loadgen_probe *loadgen_probe_create(struct loop *loop, struct http_client *client); /* NULL when memory fails */
void loadgen_probe_free(struct loadgen_probe *p);
void loadgen_probe_stop(struct loadgen_probe *p); /* from a callback that also stops the loop: it ends with CANCELLED */

/* Fills target->model with the server's first one, unless it has one. UNAVAILABLE, UNAUTHENTICATED, NOT_FOUND ... name
 * the target and what it said. */
NODISCARD bool loadgen_probe_model(struct loadgen_probe *p, struct loadgen_target *target, struct arena *arena,
                                   struct error *err);

/* What a run of one request says of the target: false with the failure as an error, or target->fingerprint and
 * target->server filled. */
NODISCARD bool loadgen_probe_judge(const struct loadgen_run *run, struct loadgen_target *target, struct arena *arena,
                                   struct error *err);

#endif
