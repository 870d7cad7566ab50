/* The tests of `tandem bench`: runs, what they come to, and what the limits would allow. */
#include "cli/bench_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum bench_column {
    COLUMN_TEST,
    COLUMN_THREADS,
    COLUMN_STREAMS,
    COLUMN_PROMPT,
    COLUMN_CONTEXT,
    COLUMN_GEN,
    COLUMN_RATE,
    COLUMN_MIN,
    COLUMN_MAX,
    COLUMN_DECODE_RATE,
    COLUMN_FIRST,
    COLUMN_GAP_50,
    COLUMN_GAP_95,
    COLUMN_GAP_99,
    COLUMN_BOUND,
    COLUMN_PERCENT,
    COLUMN_LIMIT,
    COLUMN_INT8,
    COLUMN_INT8_WHOLE,
    COLUMN_F32,
    COLUMN_BOUND_WEIGHTS,
    COLUMN_BOUND_KV,
    COLUMN_BOUND_PRODUCTS,
    COLUMN_BOUND_ATTENTION,
    COLUMN_OPS,
    COLUMN_COUNT = COLUMN_OPS + TIMED_OP_COUNT
};

static const struct report_column columns[COLUMN_COUNT] = {
    [COLUMN_TEST] = {"test", "test", -8, false},
    [COLUMN_THREADS] = {"threads", "threads", 7, true},
    [COLUMN_STREAMS] = {"streams", "streams", 7, true},
    [COLUMN_PROMPT] = {"prompt", "prompt", 6, true},
    [COLUMN_CONTEXT] = {"context", "context", 7, true},
    [COLUMN_GEN] = {"gen", "gen", 4, true},
    [COLUMN_RATE] = {"tokens_per_s", "tokens/s", 8, false},
    [COLUMN_MIN] = {"tokens_per_s_min", "min", 7, false},
    [COLUMN_MAX] = {"tokens_per_s_max", "max", 7, false},
    [COLUMN_DECODE_RATE] = {"decode_tokens_per_s", NULL, 0, false},
    [COLUMN_FIRST] = {"first_token_ms", "first ms", 8, false},
    [COLUMN_GAP_50] = {"inter_token_ms_p50", "ITL p50", 7, false},
    [COLUMN_GAP_95] = {"inter_token_ms_p95", "p95 ms", 7, false},
    [COLUMN_GAP_99] = {"inter_token_ms_p99", NULL, 0, false},
    [COLUMN_BOUND] = {"bound_tokens_per_s", "bound", 7, false},
    [COLUMN_PERCENT] = {"bound_percent", "%", 4, false},
    [COLUMN_LIMIT] = {"limit", "limit", -9, false},
    [COLUMN_INT8] = {"products_int8_percent", "int8 %", 6, false},
    [COLUMN_INT8_WHOLE] = {"whole_int8_percent", "whole %", 7, false},
    [COLUMN_F32] = {"attention_f32_percent", "f32 %", 5, false},
    [COLUMN_BOUND_WEIGHTS] = {"bound_weights_ms", NULL, 0, false},
    [COLUMN_BOUND_KV] = {"bound_kv_ms", NULL, 0, false},
    [COLUMN_BOUND_PRODUCTS] = {"bound_products_ms", NULL, 0, false},
    [COLUMN_BOUND_ATTENTION] = {"bound_attention_ms", NULL, 0, false},
#define X(op) [COLUMN_OPS + TIMED_##op] = {#op "_ms", NULL, 0, false},
    TIMED_OP_TABLE(X)
#undef X
};

const char *const bench__test_names[TEST_COUNT] = {"prefill", "decode", "batch"};

struct report *bench__report(const struct report_files *files, struct error *err)
{
    return report_create(columns, COLUMN_COUNT, files, err);
}

/* ---- bounds ---- */

/* How long the limits make it last at least, in seconds. */
struct bound {
    double weights, kv, products, attention; /* each alone */
    double all;                              /* memory and arithmetic at the same time */
};

static void add_step(const struct model_bench *m, const struct cost_step *step, double times, struct bound *b)
{
    struct step_work cost = decoder_step_work(&m->cost, &m->config, &m->kv, step);
    const double *limit = m->limit->per_second;
    double weights = cost.weight_bytes / limit[CPU_LIMIT_READ], kv = cost.kv_bytes / limit[CPU_LIMIT_READ];
    const struct macs *macs = &cost.weight_macs;
    double products = (macs->all - macs->floats) / limit[CPU_LIMIT_INT4] + macs->floats / limit[CPU_LIMIT_F32];
    double attention = cost.attention_macs / limit[CPU_LIMIT_F32];
    b->weights += times * weights;
    b->kv += times * kv;
    b->products += times * products;
    b->attention += times * attention;
    b->all += times * fmax(weights + kv, products + attention);
}

static void add_prefill(const struct model_bench *m, int n_streams, int n_prompt, struct bound *b)
{
    int chunk = (int)bench_engine_info(m->engine)->max_batch_tokens / n_streams;
    chunk = chunk > 0 ? chunk : 1;
    for (int at = 0; at < n_prompt; at += chunk) {
        int n = n_prompt - at < chunk ? n_prompt - at : chunk;
        add_step(m, &(struct cost_step){n_streams, at, n, at + n == n_prompt}, 1, b);
    }
}

/* The steps behind the first token: n_gen - 1 of them, as many times the one in the middle. */
static void add_decode(const struct model_bench *m, int n_streams, int context, int n_gen, struct bound *b)
{
    add_step(m, &(struct cost_step){n_streams, context - n_gen / 2 - 1, 1, 1}, n_gen - 1, b);
}

static const char *limit_name(const struct bound *b)
{
    double memory = b->weights + b->kv, arithmetic = b->products + b->attention;
    if (memory > arithmetic) {
        return b->weights > b->kv ? "weights" : "kv";
    }
    return b->products > b->attention ? "products" : "attention";
}

static void put_bound(const struct model_bench *m, const struct bound *b, double n_tokens, struct report_cell *row)
{
    if (!m->limit) {
        return;
    }
    row[COLUMN_BOUND].number = n_tokens / b->all;
    row[COLUMN_PERCENT].number = 100 * row[COLUMN_RATE].number / row[COLUMN_BOUND].number;
    row[COLUMN_LIMIT].text = limit_name(b);
    row[COLUMN_BOUND_WEIGHTS].number = 1e3 * b->weights;
    row[COLUMN_BOUND_KV].number = 1e3 * b->kv;
    row[COLUMN_BOUND_PRODUCTS].number = 1e3 * b->products;
    row[COLUMN_BOUND_ATTENTION].number = 1e3 * b->attention;
}

/* ---- ops ---- */

static double op_seconds(const struct model_bench *m, enum timed_op op)
{
    return (double)m->times.ns[op] / 1e9 / m->repeat;
}

/* Products with weights, what is fused with them included. */
static double products_seconds(const struct model_bench *m)
{
    return op_seconds(m, TIMED_linear) + op_seconds(m, TIMED_mlp_gated) + op_seconds(m, TIMED_mlp) +
           op_seconds(m, TIMED_moe) + op_seconds(m, TIMED_linear_heads);
}

static void start_op_times(struct model_bench *m, bool on)
{
    m->times = (struct op_times){.on = on && m->is_cpu};
}

static void put_op_times(const struct model_bench *m, struct report_cell *row)
{
    for (int i = 0; i < TIMED_OP_COUNT && m->times.on; i++) {
        row[COLUMN_OPS + i].number = 1e3 * op_seconds(m, (enum timed_op)i);
    }
}

/* "    linear 58%, mlp_gated 30%, ... rest 1%" of the time that a run took. */
static void note_shares(const struct model_bench *m, double run_seconds)
{
    char line[400] = "        ";
    double rest = 100;
    for (int i = 0; i < TIMED_OP_COUNT; i++) {
        double share = 100 * op_seconds(m, (enum timed_op)i) / run_seconds;
        size_t n = strlen(line);
        rest -= share;
        if (share >= 0.05) {
            snprintf(line + n, sizeof line - n, " %s %.1f%%,", timed_op_name((enum timed_op)i), share);
        }
    }
    size_t n = strlen(line);
    snprintf(line + n, sizeof line - n, " rest %.1f%%", rest);
    report_note(m->report, line);
}

/* ---- rows ---- */

static struct report_cell *new_row(const struct model_bench *m, enum bench_test test, int n_threads, int n_streams,
                                   struct error *err)
{
    struct report_cell *row = report_row(m->report, err);
    if (row) {
        row[COLUMN_TEST].text = bench__test_names[test];
        row[COLUMN_THREADS].number = n_threads;
        row[COLUMN_STREAMS].number = n_streams;
    }
    return row;
}

/* One figure of each repeat, but of those where there is none. */
struct series {
    double items[BENCH_MAX_REPEATS];
    size_t n;
};

static void add_figure(struct series *s, double x)
{
    if (!isnan(x)) {
        s->items[s->n++] = x;
    }
}

static double median_of(struct series *s)
{
    return s->n > 0 ? bench_stats_of(s->items, s->n).median : NAN;
}

static void put_rates(struct series *rates, double factor, struct report_cell *row)
{
    if (rates->n > 0) {
        struct bench_stats stats = bench_stats_of(rates->items, rates->n);
        row[COLUMN_RATE].number = factor * stats.median;
        row[COLUMN_MIN].number = factor * stats.min;
        row[COLUMN_MAX].number = factor * stats.max;
    }
}

static void put_gaps(double *gaps, size_t n, struct report_cell *row)
{
    if (n > 0) {
        (void)bench_stats_of(gaps, n); /* sorts */
        row[COLUMN_GAP_50].number = bench_percentile(gaps, n, 50);
        row[COLUMN_GAP_95].number = bench_percentile(gaps, n, 95);
        row[COLUMN_GAP_99].number = bench_percentile(gaps, n, 99);
    }
}

/* What the repeats of one row came to. */
struct samples {
    struct series rates, first_ms, decode_rates;
    double seconds; /* of a run, mean */
    size_t n_gaps;
};

/* The repeats; `rate` makes one figure of a run. */
static bool repeat_run(struct model_bench *m, const struct bench_run *run, double (*rate)(const struct bench_times *),
                       struct samples *out, struct error *err)
{
    *out = (struct samples){0};
    for (int i = 0; i < m->repeat; i++) {
        struct bench_times times;
        if (!bench_engine_run(m->engine, run, &times, err)) {
            return false;
        }
        add_figure(&out->rates, rate(&times));
        add_figure(&out->first_ms, bench_times_first_ms(&times));
        add_figure(&out->decode_rates, bench_times_decode_rate(&times));
        out->seconds += (double)run->n_streams * run->n_gen / bench_times_total_rate(&times) / m->repeat;
        out->n_gaps += bench_times_gaps(&times, m->gaps + out->n_gaps, BENCH_MAX_GAPS - out->n_gaps);
        free(times.ns);
    }
    return true;
}

/* Once, without timing it. */
static bool warm_up(struct model_bench *m, const struct bench_run *run, struct error *err)
{
    struct bench_times times;
    if (!bench_engine_run(m->engine, run, &times, err)) {
        return false;
    }
    free(times.ns);
    return true;
}

static void finish_row(struct model_bench *m, const struct samples *s, struct report_cell *row)
{
    put_op_times(m, row);
    report_show(m->report);
    if (m->options->op_shares && m->times.on) {
        note_shares(m, s->seconds);
    }
}

/* ---- the tests ---- */

/* Of one prompt, from its submission to its first token. */
static double prefill_rate(const struct bench_times *t)
{
    return 1e3 / bench_times_first_ms(t);
}

/* Of the int8 limit only where most weights are block formats. */
static void put_prefill_shares(const struct model_bench *m, int n_prompt, const struct samples *s,
                               struct report_cell *row)
{
    struct cost_step step = {1, 0, n_prompt, 1};
    struct step_work cost = decoder_step_work(&m->cost, &m->config, &m->kv, &step);
    double products = products_seconds(m), attention = op_seconds(m, TIMED_attention);
    const struct macs *macs = &cost.weight_macs;
    if (!m->limit || products <= 0 || attention <= 0) {
        return;
    }
    if (macs->floats < macs->all / 2) {
        double limit = m->limit->per_second[CPU_LIMIT_INT8];
        row[COLUMN_INT8].number = 100 * macs->all / products / limit;
        row[COLUMN_INT8_WHOLE].number = 100 * macs->all / s->seconds / limit;
    }
    row[COLUMN_F32].number = 100 * cost.attention_macs / attention / m->limit->per_second[CPU_LIMIT_F32];
}

static bool test_prefill(struct model_bench *m, int n_threads, int n_prompt, struct error *err)
{
    struct bench_run run = {.n_streams = 1, .n_prompt = n_prompt, .n_gen = 1};
    struct samples s;
    struct bound bound = {0};
    start_op_times(m, false);
    if (!warm_up(m, &run, err)) {
        return false;
    }
    start_op_times(m, true);
    if (!repeat_run(m, &run, prefill_rate, &s, err)) {
        return false;
    }
    struct report_cell *row = new_row(m, TEST_PREFILL, n_threads, 1, err);
    if (!row) {
        return false;
    }
    row[COLUMN_PROMPT].number = n_prompt;
    put_rates(&s.rates, n_prompt, row);
    row[COLUMN_FIRST].number = median_of(&s.first_ms);
    if (m->limit) {
        add_prefill(m, 1, n_prompt, &bound);
    }
    put_bound(m, &bound, n_prompt, row);
    put_prefill_shares(m, n_prompt, &s, row);
    finish_row(m, &s, row);
    return true;
}

/* The prompts come out of the prefix cache, but for their last tokens: only decoding is timed. */
static bool test_decode(struct model_bench *m, int n_threads, int n_streams, int context, struct error *err)
{
    struct bench_run run = {n_streams, context - m->gen, m->gen, true};
    struct bench_run prime = {n_streams, context - m->gen, 1, true};
    struct samples s;
    struct bound bound = {0};
    start_op_times(m, false);
    if (!warm_up(m, &prime, err)) {
        return false;
    }
    start_op_times(m, m->options->op_shares);
    if (!repeat_run(m, &run, bench_times_decode_rate, &s, err)) {
        return false;
    }
    struct report_cell *row = new_row(m, TEST_DECODE, n_threads, n_streams, err);
    if (!row) {
        return false;
    }
    row[COLUMN_CONTEXT].number = context;
    row[COLUMN_GEN].number = m->gen;
    put_rates(&s.rates, 1, row);
    put_gaps(m->gaps, s.n_gaps, row);
    if (m->limit) {
        add_decode(m, n_streams, context, m->gen, &bound);
    }
    put_bound(m, &bound, (double)n_streams * (m->gen - 1), row);
    finish_row(m, &s, row);
    return true;
}

/* Everything from the submission to the last token, nothing cached. */
static bool test_batch(struct model_bench *m, int n_threads, int n_streams, int n_prompt, struct error *err)
{
    struct bench_run run = {n_streams, n_prompt, m->gen, false};
    struct samples s;
    struct bound bound = {0};
    start_op_times(m, m->options->op_shares);
    if (!repeat_run(m, &run, bench_times_total_rate, &s, err)) {
        return false;
    }
    struct report_cell *row = new_row(m, TEST_BATCH, n_threads, n_streams, err);
    if (!row) {
        return false;
    }
    row[COLUMN_PROMPT].number = n_prompt;
    row[COLUMN_GEN].number = m->gen;
    put_rates(&s.rates, 1, row);
    row[COLUMN_FIRST].number = median_of(&s.first_ms);
    row[COLUMN_DECODE_RATE].number = median_of(&s.decode_rates);
    put_gaps(m->gaps, s.n_gaps, row);
    if (m->limit) {
        add_prefill(m, n_streams, n_prompt, &bound);
        add_decode(m, n_streams, n_prompt + m->gen, m->gen, &bound);
    }
    put_bound(m, &bound, (double)n_streams * m->gen, row);
    finish_row(m, &s, row);
    return true;
}

static bool each_pair(struct model_bench *m, int n_threads, const struct bench_list *second,
                      bool (*test)(struct model_bench *, int, int, int, struct error *), struct error *err)
{
    for (int i = 0; i < m->streams.n; i++) {
        for (int k = 0; k < second->n; k++) {
            if (!test(m, n_threads, m->streams.items[i], second->items[k], err)) {
                return false;
            }
        }
    }
    return true;
}

bool bench__run(struct model_bench *m, int n_threads, struct error *err)
{
    for (int i = 0; i < m->prompts.n && m->tests[TEST_PREFILL]; i++) {
        if (!test_prefill(m, n_threads, m->prompts.items[i], err)) {
            return false;
        }
    }
    return (!m->tests[TEST_DECODE] || each_pair(m, n_threads, &m->contexts, test_decode, err)) &&
           (!m->tests[TEST_BATCH] || each_pair(m, n_threads, &m->batch_prompts, test_batch, err));
}
