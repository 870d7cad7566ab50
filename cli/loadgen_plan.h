/* What `tandem bench-serve` is to do, read off its options: the points of the sweep and how long each is. Any thread.
 */
#ifndef TANDEM_CLI_LOADGEN_PLAN_H
#define TANDEM_CLI_LOADGEN_PLAN_H

#include "cli/loadgen_stats.h"

#define LOADGEN_MAX_POINTS      64
#define LOADGEN_MAX_CONCURRENCY 10000
#define LOADGEN_MAX_RATE        100000.0

struct loadgen_plan {
    enum loadgen_api api;
    struct loadgen_point points[LOADGEN_MAX_POINTS]; /* [n_points] ascending, all of one mode */
    int n_points;
    struct loadgen_slo slo;
    struct loadgen_workload_options workload; /* views of the options' strings */
    uint64_t seed;                            /* drawn when none is given */
};

/* INVALID names the option at fault. */
NODISCARD bool loadgen_plan_parse(const struct bench_serve_options *o, struct loadgen_plan *out, struct error *err);

/* Without --concurrency and --rate: a replay when the workload has times, else 1, 2, 4, 8, 16 in flight. */
void loadgen_plan_default_points(struct loadgen_plan *plan, bool timed);

/* Requests of a point; 0: as many as the duration takes. */
uint64_t loadgen_plan_requests(const struct bench_serve_options *o, const struct loadgen_point *p);

#endif
