#include "cli/loadgen_stats.h"

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
} scalars[LOADGEN_N_SCALARS] = {
#define X(member, name, better) {name, better},
    LOADGEN_SCALARS(X)
#undef X
};

static const char *const latency_names[LOADGEN_N_LATENCIES] = {
#define X(member, name) name,
    LOADGEN_LATENCIES(X)
#undef X
};

static const char *const part_names[LOADGEN_N_PARTS] = {"mean", "min", "p50", "p95", "p99", "max"};

static const size_t offsets[LOADGEN_N_SCALARS + LOADGEN_N_LATENCIES] = {
#define X(member, name, better) offsetof(struct loadgen_figures, member),
    LOADGEN_SCALARS(X)
#undef X
#define X(member, name) offsetof(struct loadgen_figures, member),
        LOADGEN_LATENCIES(X)
#undef X
};

static double *slot(struct loadgen_figures *f, int i)
{
    int latency = (i - LOADGEN_N_SCALARS) / LOADGEN_N_PARTS, part = (i - LOADGEN_N_SCALARS) % LOADGEN_N_PARTS;
    size_t offset =
        i < LOADGEN_N_SCALARS ? offsets[i] : offsets[LOADGEN_N_SCALARS + latency] + (size_t)part * sizeof(double);
    return (double *)(void *)((char *)f + offset);
}

double loadgen_figure(const struct loadgen_figures *f, int i)
{
    return *slot((struct loadgen_figures *)f, i);
}

double loadgen_latency_part(const struct loadgen_figures *f, enum loadgen_latency latency, enum loadgen_part part)
{
    return loadgen_figure(f, LOADGEN_N_SCALARS + (int)latency * LOADGEN_N_PARTS + (int)part);
}

const char *loadgen_latency_name(enum loadgen_latency latency)
{
    return latency_names[latency];
}

const char *loadgen_part_name(enum loadgen_part part)
{
    return part_names[part];
}

const char *loadgen_figure_name(int i, char *out, size_t size)
{
    if (i < LOADGEN_N_SCALARS) {
        snprintf(out, size, "%s", scalars[i].name);
    } else {
        i -= LOADGEN_N_SCALARS;
        snprintf(out, size, "%s_%s_ms", latency_names[i / LOADGEN_N_PARTS], part_names[i % LOADGEN_N_PARTS]);
    }
    return out;
}

int loadgen_figure_better(int i)
{
    return i < LOADGEN_N_SCALARS ? scalars[i].better : -1;
}

/* ---- service level ---- */

bool loadgen_slo_parse(const char *text, struct loadgen_slo *out, struct error *err)
{
    struct str rest = str_of(text), part;
    double *const limits[LOADGEN_N_LATENCIES] = {&out->ttft, &out->itl, &out->tpot, &out->e2e};
    *out = (struct loadgen_slo){0};
    while (text && str_split(&rest, ',', &part)) {
        size_t equals = str_find_char(part, '=');
        double *limit = NULL, ms;
        for (size_t i = 0; i < LOADGEN_N_LATENCIES; i++) {
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

bool loadgen_slo_given(const struct loadgen_slo *slo)
{
    return slo->ttft > 0 || slo->itl > 0 || slo->tpot > 0 || slo->e2e > 0;
}

/* ---- values ---- */

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void loadgen_sort(double *values, size_t n)
{
    if (n) {
        qsort(values, n, sizeof *values, by_size);
    }
}

double loadgen_percentile(const double *sorted, size_t n, double q)
{
    if (n == 0) {
        return NAN;
    }
    double at = q / 100 * (double)(n - 1);
    size_t low = (size_t)at, high = low + 1 < n ? low + 1 : low;
    return sorted[low] + (at - (double)low) * (sorted[high] - sorted[low]);
}

/* The 95th percentile of one answer's gaps. */
static double own_gaps_p95(const struct loadgen_run *run, const struct loadgen_sample *s)
{
    double *gaps = s->n_gaps ? malloc(s->n_gaps * sizeof *gaps) : NULL;
    double p95 = NAN;
    if (gaps) {
        for (size_t i = 0; i < s->n_gaps; i++) {
            gaps[i] = (double)run->gaps[s->gaps_at + i] / NS_PER_MS;
        }
        loadgen_sort(gaps, s->n_gaps);
        p95 = loadgen_percentile(gaps, s->n_gaps, 95);
    }
    free(gaps);
    return p95;
}

double loadgen_sample_latency(const struct loadgen_run *run, const struct loadgen_sample *s,
                              enum loadgen_latency latency)
{
    bool streamed = s->first_ns > 0;
    if (s->outcome != LOADGEN_OK) {
        return NAN;
    }
    switch (latency) {
    case LOADGEN_LATENCY_ttft:
        return streamed ? (double)(s->first_ns - s->sent_ns) / NS_PER_MS : NAN;
    case LOADGEN_LATENCY_itl:
        return own_gaps_p95(run, s);
    case LOADGEN_LATENCY_tpot:
        return streamed && s->completion_tokens > 1
                   ? (double)(s->end_ns - s->first_ns) / NS_PER_MS / (double)(s->completion_tokens - 1)
                   : NAN;
    default:
        return (double)(s->end_ns - s->sent_ns) / NS_PER_MS;
    }
}

/* What a request does not have (a gap, with one token) cannot be too long. */
bool loadgen_sample_good(const struct loadgen_run *run, const struct loadgen_sample *s, const struct loadgen_slo *slo)
{
    const double limits[LOADGEN_N_LATENCIES] = {slo->ttft, slo->itl, slo->tpot, slo->e2e};
    bool good = s->outcome == LOADGEN_OK;
    for (int i = 0; i < LOADGEN_N_LATENCIES && good; i++) {
        good = limits[i] <= 0 || !(loadgen_sample_latency(run, s, (enum loadgen_latency)i) > limits[i]);
    }
    return good;
}

double *loadgen_latency_values(const struct loadgen_run *run, enum loadgen_latency latency, size_t *n)
{
    bool gaps = latency == LOADGEN_LATENCY_itl;
    size_t most = gaps ? run->n_gaps : run->n_samples;
    double *values = most ? malloc(most * sizeof *values) : NULL;
    *n = 0;
    for (size_t i = 0; values && i < most; i++) {
        double v = gaps ? (double)run->gaps[i] / NS_PER_MS : loadgen_sample_latency(run, &run->samples[i], latency);
        if (!isnan(v)) {
            values[(*n)++] = v;
        }
    }
    if (values) {
        loadgen_sort(values, *n);
    }
    return values;
}

static struct loadgen_dist dist_of(const double *sorted, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += sorted[i];
    }
    return (struct loadgen_dist){.mean = n ? sum / (double)n : NAN,
                                 .min = n ? sorted[0] : NAN,
                                 .p50 = loadgen_percentile(sorted, n, 50),
                                 .p95 = loadgen_percentile(sorted, n, 95),
                                 .p99 = loadgen_percentile(sorted, n, 99),
                                 .max = n ? sorted[n - 1] : NAN};
}

/* ---- figures of a run ---- */

struct sums {
    uint64_t completed, failed, good, counted, passed, checks_failed;
    uint64_t prompt, output, cached, with_usage;
};

static struct sums sum_up(const struct loadgen_run *run, const struct loadgen_slo *slo)
{
    struct sums t = {0};
    for (size_t i = 0; i < run->n_samples; i++) {
        const struct loadgen_sample *s = &run->samples[i];
        if (s->outcome != LOADGEN_OK) {
            t.failed++;
            continue;
        }
        t.completed++;
        t.good += loadgen_slo_given(slo) && loadgen_sample_good(run, s, slo);
        t.counted += !s->has_usage;
        t.with_usage += s->has_usage;
        t.prompt += s->prompt_tokens;
        t.output += s->completion_tokens;
        t.cached += s->cached_tokens;
        t.passed += s->verdict == LOADGEN_PASSED;
        t.checks_failed += s->verdict == LOADGEN_FAILED;
    }
    return t;
}

/* vLLM's: token events in whole seconds from the first request's start, the fullest one. */
static double peak_tokens(const struct loadgen_run *run)
{
    size_t n = (size_t)((double)run->duration_ns / NS_PER_S) + 2;
    n = n < MAX_BUCKETS ? n : MAX_BUCKETS;
    uint64_t *buckets = calloc(n, sizeof *buckets), most = 0;
    bool streamed = false;
    for (size_t i = 0; buckets && i < run->n_samples; i++) {
        const struct loadgen_sample *s = &run->samples[i];
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
static double peak_in_flight(const struct loadgen_run *run)
{
    size_t n = run->n_samples, sent = 0, ended = 0, most = 0;
    double *starts = malloc((n + 1) * sizeof *starts), *ends = malloc((n + 1) * sizeof *ends);
    if (starts && ends) {
        for (size_t i = 0; i < n; i++) {
            starts[i] = (double)run->samples[i].sent_ns;
            ends[i] = (double)run->samples[i].end_ns;
        }
        loadgen_sort(starts, n);
        loadgen_sort(ends, n);
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

static double send_delay_p99(const struct loadgen_run *run)
{
    double *delays = run->n_samples ? malloc(run->n_samples * sizeof *delays) : NULL;
    double p99 = NAN;
    if (delays) {
        for (size_t i = 0; i < run->n_samples; i++) {
            delays[i] = (double)(run->samples[i].sent_ns - run->samples[i].due_ns) / NS_PER_MS;
        }
        loadgen_sort(delays, run->n_samples);
        p99 = loadgen_percentile(delays, run->n_samples, 99);
    }
    free(delays);
    return p99;
}

static double quotient(double a, double b)
{
    return b > 0 ? a / b : NAN;
}

void loadgen_figures_of(const struct loadgen_run *run, const struct loadgen_slo *slo, struct loadgen_figures *out)
{
    struct sums t = sum_up(run, slo);
    double s = (double)run->duration_ns / NS_PER_S, completed = (double)t.completed;
    bool has_slo = loadgen_slo_given(slo), has_checks = t.passed + t.checks_failed > 0;
    struct loadgen_dist *const dists[LOADGEN_N_LATENCIES] = {&out->ttft, &out->itl, &out->tpot, &out->e2e};
    *out = (struct loadgen_figures){
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
    for (int i = 0; i < LOADGEN_N_LATENCIES; i++) {
        size_t n;
        double *values = loadgen_latency_values(run, (enum loadgen_latency)i, &n);
        *dists[i] = dist_of(values, n);
        free(values);
    }
}

void loadgen_figures_median(const struct loadgen_figures *runs, size_t n, struct loadgen_figures *out)
{
    double *values = malloc((n + 1) * sizeof *values);
    for (int i = 0; i < LOADGEN_N_FIGURES; i++) {
        size_t k = 0;
        for (size_t r = 0; values && r < n; r++) {
            double v = loadgen_figure(&runs[r], i);
            if (!isnan(v)) {
                values[k++] = v;
            }
        }
        if (values) {
            loadgen_sort(values, k);
        }
        *slot(out, i) = values ? loadgen_percentile(values, k, 50) : NAN;
    }
    free(values);
}

void loadgen_figures_ratio(const struct loadgen_figures *value, const struct loadgen_figures *base,
                           struct loadgen_figures *out)
{
    for (int i = 0; i < LOADGEN_N_FIGURES; i++) {
        *slot(out, i) = quotient(loadgen_figure(value, i), loadgen_figure(base, i));
    }
}
