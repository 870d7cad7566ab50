/* Figures of a run of `tandem bench-serve`; docs/BENCH_SERVE.md defines each. Where `vllm bench serve` has a figure of
 * the same name, it is computed the same way, but for what is said there.
 *
 * A struct of figures is an array of doubles with names: reports, ratios and medians walk the table instead of knowing
 * each. NAN: there is nothing to report. Any thread. */
#ifndef TANDEM_CLI_LOADGEN_STATS_H
#define TANDEM_CLI_LOADGEN_STATS_H

#include "cli/loadgen.h"

struct loadgen_slo { /* a service level in ms; 0: no limit */
    double ttft, itl, tpot, e2e;
};

/* "ttft=500,itl=50,tpot=50,e2e=10000" or some of them; NULL: none at all. INVALID names the part at fault. */
NODISCARD bool loadgen_slo_parse(const char *text, struct loadgen_slo *out, struct error *err);
bool loadgen_slo_given(const struct loadgen_slo *slo);

struct loadgen_dist { /* of a latency, in ms */
    double mean, min, p50, p95, p99, max;
};

/* X(member, name, higher is better: 1, lower: -1, neither: 0) */
#define LOADGEN_SCALARS(X)                           \
    X(completed, "completed", 0)                     \
    X(failed, "failed", -1)                          \
    X(duration_s, "duration_s", 0)                   \
    X(requests_per_s, "requests_per_s", 1)           \
    X(output_tokens_per_s, "output_tokens_per_s", 1) \
    X(total_tokens_per_s, "total_tokens_per_s", 1)   \
    X(peak_tokens_per_s, "peak_tokens_per_s", 1)     \
    X(prompt_tokens, "prompt_tokens_mean", 0)        \
    X(output_tokens, "output_tokens_mean", 0)        \
    X(cached_share, "cached_share", 1)               \
    X(good_share, "good_share", 1)                   \
    X(good_requests_per_s, "good_requests_per_s", 1) \
    X(checks_passed, "checks_passed", 0)             \
    X(checks_failed, "checks_failed", -1)            \
    X(peak_in_flight, "peak_in_flight", 0)           \
    X(counted_share, "counted_share", 0)             \
    X(send_delay_ms, "send_delay_p99_ms", 0)         \
    X(client_cpu, "client_cpu", 0)

#define LOADGEN_LATENCIES(X) \
    X(ttft, "ttft")          \
    X(itl, "itl")            \
    X(tpot, "tpot")          \
    X(e2e, "e2e")

struct loadgen_figures {
#define X(member, name, better) double member;
    LOADGEN_SCALARS(X)
#undef X
#define X(member, name) struct loadgen_dist member;
    LOADGEN_LATENCIES(X)
#undef X
};

enum loadgen_scalar {
#define X(member, name, better) LOADGEN_SCALAR_##member,
    LOADGEN_SCALARS(X)
#undef X
        LOADGEN_N_SCALARS
};

enum loadgen_latency {
#define X(member, name) LOADGEN_LATENCY_##member,
    LOADGEN_LATENCIES(X)
#undef X
        LOADGEN_N_LATENCIES
};

enum loadgen_part { LOADGEN_MEAN, LOADGEN_MIN, LOADGEN_P50, LOADGEN_P95, LOADGEN_P99, LOADGEN_MAX, LOADGEN_N_PARTS };

/* Scalars first, then the parts of each latency. */
#define LOADGEN_N_FIGURES (LOADGEN_N_SCALARS + LOADGEN_N_LATENCIES * LOADGEN_N_PARTS)

/* Figure i < LOADGEN_N_FIGURES: its value, its name ("ttft_p50_ms") and whether more of it is better. */
double loadgen_figure(const struct loadgen_figures *f, int i);
const char *loadgen_figure_name(int i, char *out, size_t size);
int loadgen_figure_better(int i);                               /* 1: more, -1: less, 0: neither */
const char *loadgen_latency_name(enum loadgen_latency latency); /* "ttft" */
const char *loadgen_part_name(enum loadgen_part part);          /* "p50" */
double loadgen_latency_part(const struct loadgen_figures *f, enum loadgen_latency latency, enum loadgen_part part);

void loadgen_figures_of(const struct loadgen_run *run, const struct loadgen_slo *slo, struct loadgen_figures *out);

/* Figure by figure the median of several runs. */
void loadgen_figures_median(const struct loadgen_figures *runs, size_t n, struct loadgen_figures *out);
/* Figure by figure value / base. */
void loadgen_figures_ratio(const struct loadgen_figures *value, const struct loadgen_figures *base,
                           struct loadgen_figures *out);

/* The latency of one request in ms; NAN when it has none (failed, no stream, a single token). For itl the 95th
 * percentile of its own gaps. */
double loadgen_sample_latency(const struct loadgen_run *run, const struct loadgen_sample *s,
                              enum loadgen_latency latency);
bool loadgen_sample_good(const struct loadgen_run *run, const struct loadgen_sample *s, const struct loadgen_slo *slo);

/* Percentile q (0 to 100) of sorted values by linear interpolation, numpy's default; NAN when there are none. */
double loadgen_percentile(const double *sorted, size_t n, double q);
void loadgen_sort(double *values, size_t n); /* ascending */

/* All values of a latency in a run, sorted; the gaps themselves for itl. NULL when there are none or memory fails;
 * free(). */
double *loadgen_latency_values(const struct loadgen_run *run, enum loadgen_latency latency, size_t *n);

#endif
