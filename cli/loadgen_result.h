/* What `tandem bench-serve` has measured, for its reports: every run of every target at every point, and how they came
 * about. Filled by the command, run by run; the reports only read it. */
#ifndef TANDEM_CLI_LOADGEN_RESULT_H
#define TANDEM_CLI_LOADGEN_RESULT_H

#include "cli/loadgen_stats.h"

struct loadgen_facts {                          /* for the head of a report; strings are the caller's */
    const char *version, *processor, *workload; /* workload: a sentence */
    int n_processors;
    int64_t started_s; /* seconds since 1970 */
    uint64_t seed;
    enum loadgen_api api;
    bool stream;
    int64_t n_requests, n_warmup; /* n_requests 0: chosen for each point */
    double duration_s;            /* 0: no limit */
};

struct loadgen_measured { /* one run */
    bool done;            /* it has happened, if only in part */
    struct loadgen_run run;
    struct loadgen_figures figures;
};

struct loadgen_result {
    struct loadgen_facts facts;
    struct loadgen_slo slo;
    const struct loadgen_target *targets; /* [n_targets] */
    const struct loadgen_point *points;   /* [n_points] */
    int n_targets, n_points, n_repeats;
    struct loadgen_measured *runs; /* [n_points][n_repeats][n_targets] */
    bool interrupted;
};

NODISCARD bool loadgen_result_init(struct loadgen_result *r, struct error *err); /* counts are set; makes the runs */
void loadgen_result_release(struct loadgen_result *r);

struct loadgen_measured *loadgen_result_run(const struct loadgen_result *r, int point, int repeat, int target);

/* Medians of what was measured of a target at a point; returns of how many runs. 0: *out is all NAN. */
int loadgen_result_summary(const struct loadgen_result *r, int point, int target, struct loadgen_figures *out);

/* "concurrency 8", "2.5 requests/s", "replay"; and without the unit. */
const char *loadgen_point_name(const struct loadgen_point *p, char *out, size_t size);
const char *loadgen_point_load(const struct loadgen_point *p, char *out, size_t size);
const char *loadgen_mode_name(enum loadgen_mode mode); /* "concurrency", "rate", "replay" */

/* A figure for people: "-" for NAN, about three digits, none of them behind the point from 100 on. */
const char *loadgen_number(double v, char *out, size_t size);

uint64_t loadgen_result_failed(const struct loadgen_result *r);        /* requests */
uint64_t loadgen_result_checks_failed(const struct loadgen_result *r); /* answers */

#endif
