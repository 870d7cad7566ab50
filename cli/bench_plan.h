/* What `tandem bench-serve` is to do, read off its options: the points of the sweep and how long each is. Any thread.
 */
#ifndef TANDEM_CLI_BENCH_PLAN_H
#define TANDEM_CLI_BENCH_PLAN_H

#include "cli/bench_stats.h"

#define BENCH_MAX_POINTS      64
#define BENCH_MAX_CONCURRENCY 10000
#define BENCH_MAX_RATE        100000.0

struct bench_plan {
    enum bench_api api;
    struct bench_point points[BENCH_MAX_POINTS]; /* [n_points] ascending, all of one mode */
    int n_points;
    struct bench_slo slo;
    struct bench_workload_options workload; /* views of the options' strings */
    uint64_t seed;                          /* drawn when none is given */
};

/* INVALID names the option at fault. */
NODISCARD bool bench_plan_parse(const struct bench_serve_options *o, struct bench_plan *out, struct error *err);

/* Without --concurrency and --rate: a replay when the workload has times, else 1, 2, 4, 8, 16 in flight. */
void bench_plan_default_points(struct bench_plan *plan, bool timed);

/* Requests of a point; 0: as many as the duration takes. */
uint64_t bench_plan_requests(const struct bench_serve_options *o, const struct bench_point *p);

#endif
