/* Figures of a run of `tandem bench-serve`; docs/BENCH_SERVE.md defines each. Where `vllm bench serve` has a figure of
 * the same name, it is computed the same way, but for what is said there.
 *
 * A struct of figures is an array of doubles with names: reports, ratios and medians walk the table instead of knowing
 * each. NAN: there is nothing to report. Any thread. */
#ifndef TANDEM_CLI_BENCH_STATS_H
#define TANDEM_CLI_BENCH_STATS_H

#include "cli/bench_load.h"

struct bench_slo { /* a service level in ms; 0: no limit */
    double ttft, itl, tpot, e2e;
};

/* "ttft=500,itl=50,tpot=50,e2e=10000" or some of them; NULL: none at all. INVALID names the part at fault. */
NODISCARD bool bench_slo_parse(const char *text, struct bench_slo *out, struct error *err);
bool bench_slo_given(const struct bench_slo *slo);

struct bench_dist { /* of a latency, in ms */
    double mean, min, p50, p95, p99, max;
};

/* X(member, name, higher is better: 1, lower: -1, neither: 0) */
#define BENCH_SCALARS(X)                             \
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

#define BENCH_LATENCIES(X) \
    X(ttft, "ttft")        \
    X(itl, "itl")          \
    X(tpot, "tpot")        \
    X(e2e, "e2e")

struct bench_figures {
#define X(member, name, better) double member;
    BENCH_SCALARS(X)
#undef X
#define X(member, name) struct bench_dist member;
    BENCH_LATENCIES(X)
#undef X
};

enum bench_scalar {
#define X(member, name, better) BENCH_SCALAR_##member,
    BENCH_SCALARS(X)
#undef X
        BENCH_N_SCALARS
};

enum bench_latency {
#define X(member, name) BENCH_LATENCY_##member,
    BENCH_LATENCIES(X)
#undef X
        BENCH_N_LATENCIES
};

enum bench_part { BENCH_MEAN, BENCH_MIN, BENCH_P50, BENCH_P95, BENCH_P99, BENCH_MAX, BENCH_N_PARTS };

/* Scalars first, then the parts of each latency. */
#define BENCH_N_FIGURES (BENCH_N_SCALARS + BENCH_N_LATENCIES * BENCH_N_PARTS)

/* Figure i < BENCH_N_FIGURES: its value, its name ("ttft_p50_ms") and whether more of it is better. */
double bench_figure(const struct bench_figures *f, int i);
const char *bench_figure_name(int i, char *out, size_t size);
int bench_figure_better(int i);                             /* 1: more, -1: less, 0: neither */
const char *bench_latency_name(enum bench_latency latency); /* "ttft" */
const char *bench_part_name(enum bench_part part);          /* "p50" */
double bench_latency_part(const struct bench_figures *f, enum bench_latency latency, enum bench_part part);

void bench_figures_of(const struct bench_run *run, const struct bench_slo *slo, struct bench_figures *out);

/* Figure by figure the median of several runs. */
void bench_figures_median(const struct bench_figures *runs, size_t n, struct bench_figures *out);
/* Figure by figure value / base. */
void bench_figures_ratio(const struct bench_figures *value, const struct bench_figures *base,
                         struct bench_figures *out);

/* The latency of one request in ms; NAN when it has none (failed, no stream, a single token). For itl the 95th
 * percentile of its own gaps. */
double bench_sample_latency(const struct bench_run *run, const struct bench_sample *s, enum bench_latency latency);
bool bench_sample_good(const struct bench_run *run, const struct bench_sample *s, const struct bench_slo *slo);

/* Percentile q (0 to 100) of sorted values by linear interpolation, numpy's default; NAN when there are none. */
double bench_percentile(const double *sorted, size_t n, double q);
void bench_sort(double *values, size_t n); /* ascending */

/* All values of a latency in a run, sorted; the gaps themselves for itl. NULL when there are none or memory fails;
 * free(). */
double *bench_latency_values(const struct bench_run *run, enum bench_latency latency, size_t *n);

#endif
