/* Before `tandem bench-serve` measures: is anybody there, which model, and does one request work? What does not is said
 * at once, in one sentence, instead of being counted a hundred times. Runs the loop; the loop's thread. */
#ifndef TANDEM_CLI_BENCH_PROBE_H
#define TANDEM_CLI_BENCH_PROBE_H

#include "cli/bench_load.h"

struct bench_probe; /* a question that is being asked */

struct bench_probe *bench_probe_create(struct loop *loop, struct http_client *client); /* NULL when memory fails */
void bench_probe_free(struct bench_probe *p);
void bench_probe_stop(struct bench_probe *p); /* from a callback: the question ends with CANCELLED */

/* Fills target->model with the server's first one, unless it has one. UNAVAILABLE, UNAUTHENTICATED, NOT_FOUND ... name
 * the target and what it said. */
NODISCARD bool bench_probe_model(struct bench_probe *p, struct bench_target *target, struct arena *arena,
                                 struct error *err);

/* What a run of one request says of the target: false with the failure as an error, or target->fingerprint and
 * target->server filled. */
NODISCARD bool bench_probe_judge(const struct bench_run *run, struct bench_target *target, struct arena *arena,
                                 struct error *err);

#endif
