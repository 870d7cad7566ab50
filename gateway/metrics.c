/* Histograms count into fixed buckets; percentiles are read off them by linear interpolation, as Prometheus does. */
#include "gateway/metrics.h"

#include "base/sys_memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define METRICS_MAX_MODELS 16
#define MAX_BUCKETS        20

/* Upper bounds in seconds. */
static const double ttft_bounds[] = {0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5,
                                     0.75,  1,    2.5,  5,    7.5,  10,   20,  40,   80};
static const double itl_bounds[] = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1,
                                    0.15,   0.2,   0.3,    0.4,   0.5,  0.75,  1,    2.5};
static const double e2e_bounds[] = {0.05, 0.1, 0.25, 0.5, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 300};

struct histogram {
    const double *bounds; /* [n] seconds */
    int n;
    uint64_t counts[MAX_BUCKETS + 1]; /* the last: beyond all bounds */
    uint64_t total;
    double sum;
};

struct model_metrics {
    const char *name;
    struct histogram ttft, inter_token, e2e;
    uint64_t started, finished[FINISH_ERROR + 1], prompt_tokens, generated_tokens, restarts;
    struct metrics_model_now now;
    struct engine_stats stats; /* as last received; counters begin anew with each engine process */
};

struct metrics {
    struct model_metrics models[METRICS_MAX_MODELS];
    int n_models;
    struct metrics_http_now http;
};

struct metrics *metrics_create(void)
{
    return calloc(1, sizeof(struct metrics));
}

void metrics_free(struct metrics *m)
{
    free(m);
}

static struct histogram histogram(const double *bounds, size_t n)
{
    return (struct histogram){.bounds = bounds, .n = (int)n};
}

int metrics_add_model(struct metrics *m, const char *model)
{
    int index = m->n_models < METRICS_MAX_MODELS ? m->n_models++ : METRICS_MAX_MODELS - 1;
    m->models[index] = (struct model_metrics){
        .name = model,
        .ttft = histogram(ttft_bounds, sizeof ttft_bounds / sizeof ttft_bounds[0]),
        .inter_token = histogram(itl_bounds, sizeof itl_bounds / sizeof itl_bounds[0]),
        .e2e = histogram(e2e_bounds, sizeof e2e_bounds / sizeof e2e_bounds[0]),
    };
    return index;
}

static void observe(struct histogram *h, double seconds, uint64_t n)
{
    int i = 0;
    while (i < h->n && seconds > h->bounds[i]) {
        i++;
    }
    h->counts[i] += n;
    h->total += n;
    h->sum += seconds * (double)n;
}

/* ---- what the pipeline tells ---- */

static void started(void *arg, const struct gen_request *r)
{
    struct model_metrics *m = arg;
    (void)r;
    m->started++;
}

static void first_token(void *arg, const struct gen_request *r, int64_t ttft_us)
{
    struct model_metrics *m = arg;
    (void)r;
    observe(&m->ttft, (double)ttft_us * 1e-6, 1);
}

static void inter_token(void *arg, const struct gen_request *r, int64_t itl_us, uint32_t n)
{
    struct model_metrics *m = arg;
    (void)r;
    observe(&m->inter_token, (double)itl_us * 1e-6 / n, n);
}

static void finished(void *arg, const struct gen_request *r, enum finish_reason reason, const struct error *err,
                     uint64_t n_prompt, uint64_t n_generated, int64_t e2e_us)
{
    struct model_metrics *m = arg;
    (void)r;
    (void)err;
    m->finished[reason]++;
    m->prompt_tokens += n_prompt;
    m->generated_tokens += n_generated;
    observe(&m->e2e, (double)e2e_us * 1e-6, 1);
}

struct pipeline_observer metrics_observer(struct metrics *m, int model)
{
    return (struct pipeline_observer){.started = started,
                                      .first_token = first_token,
                                      .inter_token = inter_token,
                                      .finished = finished,
                                      .arg = &m->models[model]};
}

void metrics_engine_restart(struct metrics *m, int model)
{
    m->models[model].restarts++;
}

void metrics_set_model(struct metrics *m, int model, const struct metrics_model_now *now)
{
    m->models[model].now = *now;
    m->models[model].stats = *now->stats;
}

void metrics_set_http(struct metrics *m, const struct metrics_http_now *now)
{
    m->http = *now;
}

/* ---- percentiles ---- */

static int64_t percentile(const struct histogram *h, double p)
{
    double rank = p * (double)h->total, seen = 0;
    for (int i = 0; i < h->n && h->total; i++) {
        if (seen + (double)h->counts[i] >= rank && h->counts[i]) {
            double low = i ? h->bounds[i - 1] : 0, share = (rank - seen) / (double)h->counts[i];
            return (int64_t)((low + (h->bounds[i] - low) * share) * 1e6);
        }
        seen += (double)h->counts[i];
    }
    return h->total ? (int64_t)(h->bounds[h->n - 1] * 1e6) : -1;
}

static struct metrics_latency latency(const struct histogram *h)
{
    return (struct metrics_latency){percentile(h, 0.5), percentile(h, 0.95), percentile(h, 0.99)};
}

struct metrics_latency metrics_ttft(const struct metrics *m, int model)
{
    return latency(&m->models[model].ttft);
}

struct metrics_latency metrics_inter_token(const struct metrics *m, int model)
{
    return latency(&m->models[model].inter_token);
}

/* ---- text format ---- */

static void head(struct buf *out, const char *name, const char *kind, const char *help)
{
    buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind);
}

static void label_value(struct buf *out, const char *value)
{
    for (; *value; value++) {
        if (*value == '"' || *value == '\\' || *value == '\n') {
            buf_putc(out, '\\');
        }
        buf_putc(out, *value == '\n' ? 'n' : *value);
    }
}

static void sample(struct buf *out, const char *name, const struct model_metrics *m, uint64_t value)
{
    buf_printf(out, "%s{model=\"", name);
    label_value(out, m->name);
    buf_printf(out, "\"} %llu\n", (unsigned long long)value);
}

static void write_histogram(const struct metrics *m, struct buf *out, const char *name, const char *help, size_t offset)
{
    head(out, name, "histogram", help);
    for (int k = 0; k < m->n_models; k++) {
        const struct model_metrics *model = &m->models[k];
        const struct histogram *h = (const struct histogram *)((const char *)model + offset);
        uint64_t seen = 0;
        for (int i = 0; i <= h->n; i++) {
            seen += h->counts[i];
            buf_printf(out, "%s_bucket{model=\"", name);
            label_value(out, model->name);
            if (i < h->n) {
                buf_printf(out, "\",le=\"%g\"} %llu\n", h->bounds[i], (unsigned long long)seen);
            } else {
                buf_printf(out, "\",le=\"+Inf\"} %llu\n", (unsigned long long)seen);
            }
        }
        buf_printf(out, "%s_sum{model=\"", name);
        label_value(out, model->name);
        buf_printf(out, "\"} %.9g\n%s_count{model=\"", h->sum, name);
        label_value(out, model->name);
        buf_printf(out, "\"} %llu\n", (unsigned long long)h->total);
    }
}

static uint64_t all_rows(const struct engine_stats *s)
{
    return s->rows_decode + s->rows_prefill;
}

static uint64_t sampled_rows(const struct engine_stats *s)
{
    return s->generated_tokens;
}

/* Buckets of powers of two, counted by the engine, like the sum of what they count. */
static void write_rows(const struct metrics *m, struct buf *out, const char *name, const char *help, size_t offset,
                       uint64_t (*sum)(const struct engine_stats *s))
{
    head(out, name, "histogram", help);
    for (int k = 0; k < m->n_models; k++) {
        const struct model_metrics *model = &m->models[k];
        const uint64_t *counts = (const uint64_t *)((const char *)&model->stats + offset);
        uint64_t seen = 0;
        for (int i = 0; i < ENGINE_ROWS_BUCKETS; i++) {
            seen += counts[i];
            buf_printf(out, "%s_bucket{model=\"", name);
            label_value(out, model->name);
            if (i + 1 < ENGINE_ROWS_BUCKETS) {
                buf_printf(out, "\",le=\"%d\"} %llu\n", 1 << i, (unsigned long long)seen);
            } else {
                buf_printf(out, "\",le=\"+Inf\"} %llu\n", (unsigned long long)seen);
            }
        }
        buf_printf(out, "%s_sum{model=\"", name);
        label_value(out, model->name);
        buf_printf(out, "\"} %llu\n%s_count{model=\"", (unsigned long long)sum(&model->stats), name);
        label_value(out, model->name);
        buf_printf(out, "\"} %llu\n", (unsigned long long)seen);
    }
}

struct series { /* one number per model */
    const char *name, *kind, *help;
    size_t offset; /* of a uint64_t in struct model_metrics */
};

#define OF(member) offsetof(struct model_metrics, member)
#define ENGINE_GAUGES                                                                               \
    " running waiting pages_total pages_referenced pages_cached kv_size weights_size scratch_size " \
    "disk_blocks disk_size disk_limit_size disk_queued "

static const struct series series[] = {
    {"tandem_requests_total", "counter", "Requests accepted.", OF(started)},
    {"tandem_prompt_tokens_total", "counter", "Prompt tokens of finished requests.", OF(prompt_tokens)},
    {"tandem_generated_tokens_total", "counter", "Tokens generated for finished requests.", OF(generated_tokens)},
    {"tandem_engine_restarts_total", "counter", "Engine processes lost.", OF(restarts)},
    {"tandem_requests_in_progress", "gauge", "Requests accepted and not finished.", OF(now.requests)},
};

static void write_series(const struct metrics *m, struct buf *out)
{
    for (size_t i = 0; i < sizeof series / sizeof series[0]; i++) {
        head(out, series[i].name, series[i].kind, series[i].help);
        for (int k = 0; k < m->n_models; k++) {
            sample(out, series[i].name, &m->models[k],
                   *(const uint64_t *)((const char *)&m->models[k] + series[i].offset));
        }
    }
}

static void write_finished(const struct metrics *m, struct buf *out)
{
    head(out, "tandem_requests_finished_total", "counter", "Requests finished, by reason.");
    for (int k = 0; k < m->n_models; k++) {
        for (int r = FINISH_STOP; r <= FINISH_ERROR; r++) {
            buf_puts(out, "tandem_requests_finished_total{model=\"");
            label_value(out, m->models[k].name);
            buf_printf(out, "\",reason=\"%s\"} %llu\n", finish_reason_name((enum finish_reason)r),
                       (unsigned long long)m->models[k].finished[r]);
        }
    }
}

/* The engine counts in its own units; Prometheus wants base units in the name, and _total for counters alone. */
static const struct unit {
    const char *ending, *name;
    double scale;
} units[] = {{"_ns", "_seconds", 1e-9}, {"_size", "_bytes", 1}, {"_total", "", 1}, {"", "", 1}};

static const struct unit *unit_of(struct str field)
{
    const struct unit *u = units;
    while (!str_ends(field, str_of(u->ending))) {
        u++;
    }
    return u;
}

static void write_engine_series(const struct metrics *m, struct buf *out, const char *field, const char *help,
                                size_t offset)
{
    char name[96], key[64];
    const struct unit *unit = unit_of(str_of(field));
    snprintf(key, sizeof key, " %s ", field);
    bool gauge = strstr(ENGINE_GAUGES, key) != NULL;
    snprintf(name, sizeof name, "tandem_engine_%.*s%s%s", (int)(strlen(field) - strlen(unit->ending)), field,
             unit->name, gauge ? "" : "_total");
    head(out, name, gauge ? "gauge" : "counter", help);
    for (int k = 0; k < m->n_models; k++) {
        uint64_t value = *(const uint64_t *)((const char *)&m->models[k].stats + offset);
        if (unit->scale == 1) { /* every digit */
            sample(out, name, &m->models[k], value);
            continue;
        }
        buf_printf(out, "%s{model=\"", name);
        label_value(out, m->models[k].name);
        buf_printf(out, "\"} %.15g\n", (double)value * unit->scale);
    }
}

static void write_process(const struct metrics *m, struct buf *out)
{
    int n_descriptors = sys_open_descriptors();
    head(out, "tandem_model_ready", "gauge", "1 when the model's engine answers.");
    for (int k = 0; k < m->n_models; k++) {
        sample(out, "tandem_model_ready", &m->models[k], m->models[k].now.ready);
    }
    const struct {
        const char *name, *kind, *help;
        uint64_t value;
    } plain[] = {
        {"tandem_http_connections_open", "gauge", "Connections open now.", m->http.connections_open},
        {"tandem_http_connections_total", "counter", "Connections accepted.", m->http.connections},
        {"tandem_http_requests_total", "counter", "HTTP requests read.", m->http.requests},
        {"tandem_http_received_bytes_total", "counter", "Bytes read.", m->http.bytes_in},
        {"tandem_http_sent_bytes_total", "counter", "Bytes written.", m->http.bytes_out},
        {"tandem_http_parse_errors_total", "counter", "Requests refused by the HTTP parser.", m->http.parse_errors},
        {"tandem_http_timeouts_total", "counter", "Connections closed by a time-out.", m->http.timeouts},
        {"process_resident_memory_bytes", "gauge", "Resident memory of the gateway.", sys_memory_resident()},
        {"process_open_fds", "gauge", "Open descriptors of the gateway.",
         n_descriptors < 0 ? 0 : (uint64_t)n_descriptors},
    };
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++) {
        head(out, plain[i].name, plain[i].kind, plain[i].help);
        buf_printf(out, "%s %llu\n", plain[i].name, (unsigned long long)plain[i].value);
    }
}

static void write_replies(const struct metrics *m, struct buf *out)
{
    head(out, "tandem_http_replies_total", "counter", "HTTP replies, by the first digit of their status.");
    for (int digit = 2; digit <= 5; digit++) {
        buf_printf(out, "tandem_http_replies_total{status=\"%dxx\"} %llu\n", digit,
                   (unsigned long long)m->http.replies[digit]);
    }
}

void metrics_write(const struct metrics *m, struct buf *out)
{
    write_series(m, out);
    write_finished(m, out);
    write_histogram(m, out, "tandem_time_to_first_token_seconds", "From acceptance to the first token.", OF(ttft));
    write_histogram(m, out, "tandem_inter_token_seconds", "Between tokens of one request.", OF(inter_token));
    write_histogram(m, out, "tandem_request_seconds", "From acceptance to the end.", OF(e2e));
    write_rows(m, out, "tandem_rows_per_step", "Rows of a forward pass.", offsetof(struct engine_stats, rows_per_step),
               all_rows);
    write_rows(m, out, "tandem_sampled_rows_per_step", "Sequences that got a token in a step.",
               offsetof(struct engine_stats, seqs_per_step), sampled_rows);
#define X(name, help) write_engine_series(m, out, #name, help ".", offsetof(struct engine_stats, name));
    ENGINE_STATS_TABLE(X)
#undef X
    write_replies(m, out);
    write_process(m, out);
}
