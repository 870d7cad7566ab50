#include "gateway/metrics_internal.h"

#include "base/array.h"
#include "base/clock.h"
#include "base/sys_memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Upper bounds: vLLM's, so that histograms of both can be added up, and finer ones below them, where small models and
 * hits of the prefix cache are. Seconds: */
static const double ttft_bounds[] = {0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75,
                                     1,     2.5,    5,     7.5,  10,   20,   40,   80,   160, 640,  2560};
static const double token_bounds[] = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3,
                                      0.4,    0.5,   0.75,   1,     2.5,  5,     7.5,  10,    20,  40,   80};
static const double request_bounds[] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2,  0.3, 0.5,
                                        0.8,   1,      1.5,   2,    2.5,   5,    10,  15,   20,  30,
                                        40,    50,     60,    120,  240,   480,  960, 1920, 7680};
/* Counts: */
static const double count_bounds[] = {1,    2,    5,     10,    20,    50,     100,    200,    500,    1000,
                                      2000, 5000, 10000, 20000, 50000, 100000, 200000, 500000, 1000000};
static const double choice_bounds[] = {1, 2, 5, 10, 20, 50};

static const struct {
    const double *bounds;
    int n;
} histograms[HISTOGRAM_COUNT] = {
#define X(id, bounds, what) {bounds, (int)ARRAY_LEN(bounds)},
    METRICS_HISTOGRAM_TABLE(X)
#undef X
};

struct metrics *metrics_create(void)
{
    struct metrics *m = calloc(1, sizeof *m);
    if (m) {
        m->server.start_ns = (uint64_t)clock_wall_ms() * 1000000;
    }
    return m;
}

void metrics_free(struct metrics *m)
{
    free(m);
}

/* The row of all for whom there is none. */
static bool is_shared(int model)
{
    return model == METRICS_MAX_MODELS - 1;
}

int metrics_add_model(struct metrics *m, const char *model)
{
    for (int i = 0; i < m->n_models; i++) {
        if (strcmp(m->models[i].name, model) == 0 || is_shared(i)) {
            return i;
        }
    }
    struct model_metrics *mm = &m->models[m->n_models];
    snprintf(mm->name, sizeof mm->name, "%s", is_shared(m->n_models) ? METRICS_OTHER_MODELS : model);
    for (int i = 0; i < HISTOGRAM_COUNT; i++) {
        histogram_init(&mm->histograms[i], histograms[i].bounds, histograms[i].n);
    }
    return m->n_models++;
}

/* ---- what the pipeline tells ---- */

static void observe(struct model_metrics *m, enum metrics_histogram which, double value, uint64_t n)
{
    histogram_add(&m->histograms[which], value, n);
}

static double seconds(int64_t us)
{
    return (double)us * 1e-6;
}

static void observe_latency(struct model_metrics *m, enum metrics_latency which, int64_t us, uint64_t n)
{
    percentiles_add(&m->latencies[which], clock_ms(), us, n);
}

static void started(void *arg, const struct gen_request *r)
{
    struct model_metrics *m = arg;
    m->started++;
    observe(m, HISTOGRAM_CHOICES, r->n, 1);
    if (r->max_tokens > 0) {
        observe(m, HISTOGRAM_MAX_TOKENS, (double)r->max_tokens, 1);
    }
}

/* How long a row of a batch is behind others says nothing of what clients see. */
static bool somebody_waits(const struct gen_request *r)
{
    return r->priority < JOB_PRIORITY_IDLE;
}

static void admitted(void *arg, const struct gen_request *r, uint64_t n_prompt, uint64_t n_cached, int64_t queue_us)
{
    struct model_metrics *m = arg;
    m->prompt_tokens += n_prompt;
    m->cached_tokens += n_cached;
    if (queue_us >= 0 && somebody_waits(r)) {
        observe(m, HISTOGRAM_QUEUE, seconds(queue_us), 1);
        observe_latency(m, METRICS_LATENCY_QUEUE, queue_us, 1);
    }
}

static void first_token(void *arg, const struct gen_request *r, int64_t ttft_us)
{
    struct model_metrics *m = arg;
    if (somebody_waits(r)) {
        observe(m, HISTOGRAM_TTFT, seconds(ttft_us), 1);
        observe_latency(m, METRICS_LATENCY_TTFT, ttft_us, 1);
    }
}

/* Several tokens at once share the time since the one before. */
static void tokens(void *arg, const struct gen_request *r, uint64_t n, int64_t itl_us)
{
    struct model_metrics *m = arg;
    (void)r;
    m->generated_tokens += n;
    if (itl_us >= 0) {
        observe(m, HISTOGRAM_INTER_TOKEN, seconds(itl_us) / (double)n, n);
        observe_latency(m, METRICS_LATENCY_INTER_TOKEN, itl_us / (int64_t)n, n);
    }
}

static void resumed(void *arg, const struct gen_request *r, int64_t pause_us)
{
    struct model_metrics *m = arg;
    (void)r;
    m->resumed++;
    observe(m, HISTOGRAM_RECOVERY, seconds(pause_us), 1);
}

/* What only an answer has that got as far as its first token. */
static void observe_answer(struct model_metrics *m, const struct gen_outcome *o)
{
    const struct gen_timings *t = &o->timings;
    observe(m, HISTOGRAM_PREFILL, seconds(t->prefill_us), 1);
    observe(m, HISTOGRAM_DECODE, seconds(t->decode_us), 1);
    observe(m, HISTOGRAM_INFERENCE, seconds(t->prefill_us + t->decode_us), 1);
    observe(m, HISTOGRAM_COMPUTED, (double)(o->usage.prompt_tokens - o->usage.cached_tokens), 1);
    if (o->longest > 1) {
        observe(m, HISTOGRAM_PER_TOKEN, seconds(t->decode_us) / (double)(o->longest - 1), 1);
    }
}

static void finished(void *arg, const struct gen_request *r, const struct gen_outcome *o)
{
    struct model_metrics *m = arg;
    (void)r;
    m->finished[o->reason]++;
    m->quarantined += o->error && o->error->code == ERR_QUARANTINED;
    observe(m, HISTOGRAM_E2E, seconds(o->timings.total_us), 1);
    observe_latency(m, METRICS_LATENCY_E2E, o->timings.total_us, 1);
    observe(m, HISTOGRAM_PROMPT, (double)o->usage.prompt_tokens, 1);
    observe(m, HISTOGRAM_GENERATED, (double)o->usage.completion_tokens, 1);
    observe(m, HISTOGRAM_LONGEST, (double)o->longest, 1);
    if (o->timings.ttft_us >= 0) {
        observe_answer(m, o);
    }
}

struct pipeline_observer metrics_observer(struct metrics *m, int model)
{
    return (struct pipeline_observer){.started = started,
                                      .admitted = admitted,
                                      .first_token = first_token,
                                      .tokens = tokens,
                                      .resumed = resumed,
                                      .finished = finished,
                                      .arg = &m->models[model]};
}

/* ---- what the engine and the gateway tell ---- */

void metrics_engine_stats(struct metrics *m, int model, const struct engine_stats *stats)
{
    if (!is_shared(model)) {
        m->models[model].live = *stats;
    }
}

void metrics_engine_totals(const struct metrics *m, int model, struct engine_stats *out)
{
    const struct model_metrics *mm = &m->models[model];
    uint64_t live[sizeof mm->live / sizeof(uint64_t)], sum[ARRAY_LEN(live)];
    memcpy(live, &mm->live, sizeof live);
    memcpy(sum, &mm->gone, sizeof sum); /* its gauges are 0 */
    for (size_t i = 0; i < ARRAY_LEN(live); i++) {
        sum[i] += live[i];
    }
    memcpy(out, sum, sizeof sum);
}

/* Of its gauges nothing is left; the rest are counts. */
void metrics_engine_ended(struct metrics *m, int model)
{
    struct model_metrics *mm = &m->models[model];
#define X(name) mm->live.name = 0;
    ENGINE_STATS_GAUGES(X)
#undef X
    metrics_engine_totals(m, model, &mm->gone);
    mm->live = (struct engine_stats){0};
}

void metrics_engine_lost(struct metrics *m, int model, enum engine_loss loss)
{
    metrics_engine_ended(m, model);
    m->models[model].restarts++;
    m->models[model].losses[loss]++;
}

void metrics_set_model(struct metrics *m, int model, const struct metrics_model_now *now)
{
    if (!is_shared(model)) {
        m->models[model].now = *now;
    }
}

void metrics_set_http(struct metrics *m, const struct metrics_http_now *now)
{
    m->server.http = *now;
}

void metrics_set_pressure(struct metrics *m, int level)
{
    m->server.pressure = (uint64_t)level;
}

void metrics_set_memory(struct metrics *m, const struct metrics_memory_now *now)
{
    m->server.memory = *now;
}

void metrics_set_access(struct metrics *m, const struct metrics_access_now *now)
{
    m->server.access = *now;
}

void metrics_set_keys(struct metrics *m, const struct api_keys *keys)
{
    m->keys = keys;
}

void metrics_set_mcp(struct metrics *m, const struct mcp_host *mcp)
{
    m->mcp = mcp;
    m->server.mcp_turns = mcp ? mcp_host_n_turns(mcp) : 0;
}

void metrics_set_otlp(struct metrics *m, const struct otlp_stats *stats)
{
    m->server.otlp = *stats;
}

void metrics_set_journal(struct metrics *m, const struct journal_stats *now)
{
    m->server.journal = *now;
}

void metrics_set_batches(struct metrics *m, const struct metrics_batches_now *now)
{
    m->server.batches = *now;
}

uint64_t metrics__engine_value(const struct model_metrics *m, const struct metrics_field *f)
{
    uint64_t live, gone;
    memcpy(&live, (const char *)&m->live + f->at, sizeof live);
    memcpy(&gone, (const char *)&m->gone + f->at, sizeof gone);
    return live + gone;
}

uint64_t metrics_page_bytes(const struct engine_stats *stats, uint64_t n_pages)
{
    double page_size = stats->pages_total ? (double)stats->kv_size / (double)stats->pages_total : 0;
    return (uint64_t)(page_size * (double)n_pages);
}

static void refresh_model(struct model_metrics *m)
{
    const struct engine_stats *s = &m->live;
    const uint64_t *phases = m->now.phases;
    m->running = phases[GEN_PREFILL] + phases[GEN_DECODE];
    m->waiting = phases[GEN_QUEUED] + phases[GEN_PREEMPTED] + phases[GEN_RECOVERING];
    m->in_progress = m->running + m->waiting + phases[GEN_CALLING] + phases[GEN_ENDED];
    m->ready = m->now.ready;
    m->computed_tokens = m->prompt_tokens - m->cached_tokens;
    m->kv_referenced_size = metrics_page_bytes(s, s->pages_referenced);
    m->kv_cached_size = metrics_page_bytes(s, s->pages_cached);
    m->kv_usage = s->pages_total ? (double)s->pages_referenced / (double)s->pages_total : 0;
}

void metrics__refresh(struct metrics *m)
{
    int n_descriptors = sys_open_descriptors();
    m->server.cpu_ns = (uint64_t)clock_cpu_ns();
    m->server.resident_size = sys_memory_resident();
    m->server.open_descriptors = n_descriptors < 0 ? 0 : (uint64_t)n_descriptors;
    for (int i = 0; i < m->n_models; i++) {
        refresh_model(&m->models[i]);
    }
}

/* ---- percentiles ---- */

const char *metrics_latency_name(enum metrics_latency which)
{
    static const char *const names[METRICS_LATENCY_COUNT] = {
#define X(id, name, what) name,
        METRICS_LATENCY_TABLE(X)
#undef X
    };
    return names[which];
}

struct quantiles metrics_latency_all(const struct metrics *m, int model, enum metrics_latency which)
{
    return percentiles_all(&m->models[model].latencies[which]);
}

struct quantiles metrics_latency_recent(const struct metrics *m, int model, enum metrics_latency which, int64_t now_ms)
{
    return percentiles_recent(&m->models[model].latencies[which], now_ms);
}
