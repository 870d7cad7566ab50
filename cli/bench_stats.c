#include "cli/bench_stats.h"

#include "base/array.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define NS_PER_MS   1e6
#define NS_PER_S    1e9
#define MAX_BUCKETS ((size_t)1 << 20) /* seconds of a run that are told apart; a day has 86,400 */

/* ---- names ---- */

static const struct {
    const char *name;
    int better;
} scalars[BENCH_N_SCALARS] = {
#define X(member, name, better) {name, better},
    BENCH_SCALARS(X)
#undef X
};

static const char *const latency_names[BENCH_N_LATENCIES] = {
#define X(member, name) name,
    BENCH_LATENCIES(X)
#undef X
};

static const char *const part_names[BENCH_N_PARTS] = {"mean", "min", "p50", "p95", "p99", "max"};

static const size_t offsets[BENCH_N_SCALARS + BENCH_N_LATENCIES] = {
#define X(member, name, better) offsetof(struct bench_figures, member),
    BENCH_SCALARS(X)
#undef X
#define X(member, name) offsetof(struct bench_figures, member),
        BENCH_LATENCIES(X)
#undef X
};

static double *slot(struct bench_figures *f, int i)
{
    int latency = (i - BENCH_N_SCALARS) / BENCH_N_PARTS, part = (i - BENCH_N_SCALARS) % BENCH_N_PARTS;
    size_t offset =
        i < BENCH_N_SCALARS ? offsets[i] : offsets[BENCH_N_SCALARS + latency] + (size_t)part * sizeof(double);
    return (double *)(void *)((char *)f + offset);
}

double bench_figure(const struct bench_figures *f, int i)
{
    return *slot((struct bench_figures *)f, i);
}

double bench_latency_part(const struct bench_figures *f, enum bench_latency latency, enum bench_part part)
{
    return bench_figure(f, BENCH_N_SCALARS + (int)latency * BENCH_N_PARTS + (int)part);
}

const char *bench_latency_name(enum bench_latency latency)
{
    return latency_names[latency];
}

const char *bench_part_name(enum bench_part part)
{
    return part_names[part];
}

const char *bench_figure_name(int i, char *out, size_t size)
{
    if (i < BENCH_N_SCALARS) {
        snprintf(out, size, "%s", scalars[i].name);
    } else {
        i -= BENCH_N_SCALARS;
        snprintf(out, size, "%s_%s_ms", latency_names[i / BENCH_N_PARTS], part_names[i % BENCH_N_PARTS]);
    }
    return out;
}

int bench_figure_better(int i)
{
    return i < BENCH_N_SCALARS ? scalars[i].better : -1;
}

/* ---- service level ---- */

bool bench_slo_parse(const char *text, struct bench_slo *out, struct error *err)
{
    struct str rest = str_of(text), part;
    double *const limits[BENCH_N_LATENCIES] = {&out->ttft, &out->itl, &out->tpot, &out->e2e};
    *out = (struct bench_slo){0};
    while (text && str_split(&rest, ',', &part)) {
        size_t equals = str_find_char(part, '=');
        double *limit = NULL, ms;
        for (size_t i = 0; i < BENCH_N_LATENCIES; i++) {
            limit = str_eq(str_slice(part, 0, equals), str_of(latency_names[i])) ? limits[i] : limit;
        }
        if (!limit || equals == STR_NPOS || !str_to_f64(str_slice(part, equals + 1, part.len), &ms) || ms <= 0) {
            return error_set(err, ERR_INVALID,
                             "--slo: '%.*s' is none of ttft=MS, itl=MS, tpot=MS, e2e=MS with more than 0 ms.",
                             part.len > 60 ? 60 : (int)part.len, part.ptr);
        }
        *limit = ms;
    }
    return true;
}

bool bench_slo_given(const struct bench_slo *slo)
{
    return slo->ttft > 0 || slo->itl > 0 || slo->tpot > 0 || slo->e2e > 0;
}

/* ---- values ---- */

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void bench_sort(double *values, size_t n)
{
    if (n) {
        qsort(values, n, sizeof *values, by_size);
    }
}

double bench_percentile(const double *sorted, size_t n, double q)
{
    if (n == 0) {
        return NAN;
    }
    double at = q / 100 * (double)(n - 1);
    size_t low = (size_t)at, high = low + 1 < n ? low + 1 : low;
    return sorted[low] + (at - (double)low) * (sorted[high] - sorted[low]);
}

/* The 95th percentile of one answer's gaps. */
static double own_gaps_p95(const struct bench_run *run, const struct bench_sample *s)
{
    double *gaps = s->n_gaps ? malloc(s->n_gaps * sizeof *gaps) : NULL;
    double p95 = NAN;
    if (gaps) {
        for (size_t i = 0; i < s->n_gaps; i++) {
            gaps[i] = (double)run->gaps[s->gaps_at + i] / NS_PER_MS;
        }
        bench_sort(gaps, s->n_gaps);
        p95 = bench_percentile(gaps, s->n_gaps, 95);
    }
    free(gaps);
    return p95;
}

double bench_sample_latency(const struct bench_run *run, const struct bench_sample *s, enum bench_latency latency)
{
    bool streamed = s->first_ns > 0;
    if (s->outcome != BENCH_OK) {
        return NAN;
    }
    switch (latency) {
    case BENCH_LATENCY_ttft:
        return streamed ? (double)(s->first_ns - s->sent_ns) / NS_PER_MS : NAN;
    case BENCH_LATENCY_itl:
        return own_gaps_p95(run, s);
    case BENCH_LATENCY_tpot:
        return streamed && s->completion_tokens > 1
                   ? (double)(s->end_ns - s->first_ns) / NS_PER_MS / (double)(s->completion_tokens - 1)
                   : NAN;
    default:
        return (double)(s->end_ns - s->sent_ns) / NS_PER_MS;
    }
}

/* What a request does not have (a gap, with one token) cannot be too long. */
bool bench_sample_good(const struct bench_run *run, const struct bench_sample *s, const struct bench_slo *slo)
{
    const double limits[BENCH_N_LATENCIES] = {slo->ttft, slo->itl, slo->tpot, slo->e2e};
    bool good = s->outcome == BENCH_OK;
    for (int i = 0; i < BENCH_N_LATENCIES && good; i++) {
        good = limits[i] <= 0 || !(bench_sample_latency(run, s, (enum bench_latency)i) > limits[i]);
    }
    return good;
}

double *bench_latency_values(const struct bench_run *run, enum bench_latency latency, size_t *n)
{
    bool gaps = latency == BENCH_LATENCY_itl;
    size_t most = gaps ? run->n_gaps : run->n_samples;
    double *values = most ? malloc(most * sizeof *values) : NULL;
    *n = 0;
    for (size_t i = 0; values && i < most; i++) {
        double v = gaps ? (double)run->gaps[i] / NS_PER_MS : bench_sample_latency(run, &run->samples[i], latency);
        if (!isnan(v)) {
            values[(*n)++] = v;
        }
    }
    if (values) {
        bench_sort(values, *n);
    }
    return values;
}

static struct bench_dist dist_of(const double *sorted, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += sorted[i];
    }
    return (struct bench_dist){.mean = n ? sum / (double)n : NAN,
                               .min = n ? sorted[0] : NAN,
                               .p50 = bench_percentile(sorted, n, 50),
                               .p95 = bench_percentile(sorted, n, 95),
                               .p99 = bench_percentile(sorted, n, 99),
                               .max = n ? sorted[n - 1] : NAN};
}

/* ---- figures of a run ---- */

struct sums {
    uint64_t completed, failed, good, counted, passed, checks_failed;
    uint64_t prompt, output, cached, with_usage;
};

static struct sums sum_up(const struct bench_run *run, const struct bench_slo *slo)
{
    struct sums t = {0};
    for (size_t i = 0; i < run->n_samples; i++) {
        const struct bench_sample *s = &run->samples[i];
        if (s->outcome != BENCH_OK) {
            t.failed++;
            continue;
        }
        t.completed++;
        t.good += bench_slo_given(slo) && bench_sample_good(run, s, slo);
        t.counted += !s->has_usage;
        t.with_usage += s->has_usage;
        t.prompt += s->prompt_tokens;
        t.output += s->completion_tokens;
        t.cached += s->cached_tokens;
        t.passed += s->verdict == BENCH_PASSED;
        t.checks_failed += s->verdict == BENCH_FAILED;
    }
    return t;
}

/* vLLM's: token events in whole seconds from the first request's start, the fullest one. */
static double peak_tokens(const struct bench_run *run)
{
    size_t n = (size_t)((double)run->duration_ns / NS_PER_S) + 2;
    n = n < MAX_BUCKETS ? n : MAX_BUCKETS;
    uint64_t *buckets = calloc(n, sizeof *buckets), most = 0;
    bool streamed = false;
    for (size_t i = 0; buckets && i < run->n_samples; i++) {
        const struct bench_sample *s = &run->samples[i];
        int64_t at = s->first_ns;
        for (size_t k = 0; s->first_ns > 0 && k <= s->n_gaps; k++) {
            size_t second = (size_t)((double)at / NS_PER_S);
            buckets[second < n ? second : n - 1]++;
            at += k < s->n_gaps ? run->gaps[s->gaps_at + k] : 0;
            streamed = true;
        }
    }
    for (size_t i = 0; buckets && i < n; i++) {
        most = buckets[i] > most ? buckets[i] : most;
    }
    free(buckets);
    return streamed ? (double)most : NAN;
}

/* Requests in flight at once, over [sent, end). */
static double peak_in_flight(const struct bench_run *run)
{
    size_t n = run->n_samples, sent = 0, ended = 0, most = 0;
    double *starts = malloc((n + 1) * sizeof *starts), *ends = malloc((n + 1) * sizeof *ends);
    if (starts && ends) {
        for (size_t i = 0; i < n; i++) {
            starts[i] = (double)run->samples[i].sent_ns;
            ends[i] = (double)run->samples[i].end_ns;
        }
        bench_sort(starts, n);
        bench_sort(ends, n);
        for (; sent < n; sent++) {
            while (ended < n && ends[ended] <= starts[sent]) {
                ended++;
            }
            most = sent + 1 - ended > most ? sent + 1 - ended : most;
        }
    }
    free(starts);
    free(ends);
    return (double)most;
}

static double send_delay_p99(const struct bench_run *run)
{
    double *delays = run->n_samples ? malloc(run->n_samples * sizeof *delays) : NULL;
    double p99 = NAN;
    if (delays) {
        for (size_t i = 0; i < run->n_samples; i++) {
            delays[i] = (double)(run->samples[i].sent_ns - run->samples[i].due_ns) / NS_PER_MS;
        }
        bench_sort(delays, run->n_samples);
        p99 = bench_percentile(delays, run->n_samples, 99);
    }
    free(delays);
    return p99;
}

static double quotient(double a, double b)
{
    return b > 0 ? a / b : NAN;
}

void bench_figures_of(const struct bench_run *run, const struct bench_slo *slo, struct bench_figures *out)
{
    struct sums t = sum_up(run, slo);
    double s = (double)run->duration_ns / NS_PER_S, completed = (double)t.completed;
    bool has_slo = bench_slo_given(slo), has_checks = t.passed + t.checks_failed > 0;
    struct bench_dist *const dists[BENCH_N_LATENCIES] = {&out->ttft, &out->itl, &out->tpot, &out->e2e};
    *out = (struct bench_figures){
        .completed = completed,
        .failed = (double)t.failed,
        .duration_s = s,
        .requests_per_s = quotient(completed, s),
        .output_tokens_per_s = quotient((double)t.output, s),
        .total_tokens_per_s = quotient((double)(t.prompt + t.output), s),
        .peak_tokens_per_s = peak_tokens(run),
        .prompt_tokens = quotient((double)t.prompt, (double)t.with_usage),
        .output_tokens = quotient((double)t.output, completed),
        .cached_share = quotient((double)t.cached, (double)t.prompt),
        .good_share = has_slo ? quotient((double)t.good, completed + (double)t.failed) : NAN,
        .good_requests_per_s = has_slo ? quotient((double)t.good, s) : NAN,
        .checks_passed = has_checks ? (double)t.passed : NAN,
        .checks_failed = has_checks ? (double)t.checks_failed : NAN,
        .peak_in_flight = peak_in_flight(run),
        .counted_share = quotient((double)t.counted, completed),
        .send_delay_ms = send_delay_p99(run),
        .client_cpu = quotient(run->client_cpu_s, s),
    };
    for (int i = 0; i < BENCH_N_LATENCIES; i++) {
        size_t n;
        double *values = bench_latency_values(run, (enum bench_latency)i, &n);
        *dists[i] = dist_of(values, n);
        free(values);
    }
}

void bench_figures_median(const struct bench_figures *runs, size_t n, struct bench_figures *out)
{
    double *values = malloc((n + 1) * sizeof *values);
    for (int i = 0; i < BENCH_N_FIGURES; i++) {
        size_t k = 0;
        for (size_t r = 0; values && r < n; r++) {
            double v = bench_figure(&runs[r], i);
            if (!isnan(v)) {
                values[k++] = v;
            }
        }
        if (values) {
            bench_sort(values, k);
        }
        *slot(out, i) = values ? bench_percentile(values, k, 50) : NAN;
    }
    free(values);
}

void bench_figures_ratio(const struct bench_figures *value, const struct bench_figures *base, struct bench_figures *out)
{
    for (int i = 0; i < BENCH_N_FIGURES; i++) {
        *slot(out, i) = quotient(bench_figure(value, i), bench_figure(base, i));
    }
}
