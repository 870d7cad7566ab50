/* `tandem bench MODEL`: prefill, decoding and whole batches through an engine in this process, beside what the
 * machine's limits allow. */
#include "backend/timed.h"
#include "base/limits.h"
#include "base/sys_memory.h"
#include "cli/bench_engine.h"
#include "cli/bench_limits.h"
#include "cli/bench_report.h"
#include "cli/commands.h"
#include "cli/model_path.h"
#include "model/cost.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_REPEATS 1000
#define MAX_GAPS    ((size_t)1 << 20) /* times between tokens of one row that percentiles are taken of */

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
    [COLUMN_FIRST] = {"first_token_ms", "first ms", 8, false},
    [COLUMN_GAP_50] = {"inter_token_ms_p50", "ITL p50", 7, false},
    [COLUMN_GAP_95] = {"inter_token_ms_p95", "p95 ms", 7, false},
    [COLUMN_GAP_99] = {"inter_token_ms_p99", NULL, 0, false},
    [COLUMN_BOUND] = {"bound_tokens_per_s", "bound", 7, false},
    [COLUMN_PERCENT] = {"bound_percent", "%", 4, false},
    [COLUMN_LIMIT] = {"limit", "limit", -7, false},
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

enum bench_test { TEST_PREFILL, TEST_DECODE, TEST_BATCH, TEST_COUNT };
static const char *const test_names[TEST_COUNT] = {"prefill", "decode", "batch"};

struct model_bench {
    const struct options *options;
    char path[MODEL_PATH_MAX];
    bool tests[TEST_COUNT];
    struct bench_list prompts, contexts, streams, batch_prompts, threads;
    int gen, repeat;

    struct engine_options engine_options;
    struct decoder_config config;
    struct decoder_cost cost;
    struct cost_kv kv;
    bool is_cpu; /* else neither limits nor the times of ops are known */
    struct bench_limits limits;
    struct report *report;
    struct op_times times;

    struct bench_engine *engine; /* of the running round */
    const struct cpu_limits *limit;
    double *gaps; /* [MAX_GAPS] */
};

/* ---- bounds ---- */

/* How long the limits make it last at least, in seconds. */
struct bound {
    double weights, kv, products, attention; /* each alone */
    double all;                              /* memory and arithmetic at the same time */
};

static void add_step(const struct model_bench *m, const struct cost_step *step, double times, struct bound *b)
{
    struct step_cost cost = decoder_step_cost(&m->cost, &m->config, &m->kv, step);
    const double *limit = m->limit->per_second;
    double weights = cost.weight_bytes / limit[CPU_LIMIT_READ], kv = cost.kv_bytes / limit[CPU_LIMIT_READ];
    double products = cost.weight_macs / limit[CPU_LIMIT_INT4], attention = cost.attention_macs / limit[CPU_LIMIT_F32];
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
    return b->products > b->attention ? "int8" : "f32";
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
           op_seconds(m, TIMED_moe);
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
        row[COLUMN_TEST].text = test_names[test];
        row[COLUMN_THREADS].number = n_threads;
        row[COLUMN_STREAMS].number = n_streams;
    }
    return row;
}

static void put_rates(double *rates, int n, struct report_cell *row)
{
    struct bench_stats stats = bench_stats_of(rates, (size_t)n);
    row[COLUMN_RATE].number = stats.median;
    row[COLUMN_MIN].number = stats.min;
    row[COLUMN_MAX].number = stats.max;
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
    double rates[MAX_REPEATS], first_ms[MAX_REPEATS], seconds; /* seconds: of a run, mean */
    size_t n_gaps;
};

/* The repeats; `rate` makes one figure of a run. */
static bool repeat_run(struct model_bench *m, const struct bench_run *run, double (*rate)(const struct bench_times *),
                       struct samples *out, struct error *err)
{
    out->n_gaps = 0;
    out->seconds = 0;
    for (int i = 0; i < m->repeat; i++) {
        struct bench_times times;
        if (!bench_engine_run(m->engine, run, &times, err)) {
            return false;
        }
        out->rates[i] = rate(&times);
        out->first_ms[i] = bench_times_first_ms(&times);
        out->seconds += (double)run->n_streams * run->n_gen / bench_times_total_rate(&times) / m->repeat;
        out->n_gaps += bench_times_gaps(&times, m->gaps + out->n_gaps, MAX_GAPS - out->n_gaps);
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

static void put_prefill_shares(const struct model_bench *m, int n_prompt, const struct samples *s,
                               struct report_cell *row)
{
    struct cost_step step = {1, 0, n_prompt, 1};
    struct step_cost cost = decoder_step_cost(&m->cost, &m->config, &m->kv, &step);
    double products = products_seconds(m), attention = op_seconds(m, TIMED_attention);
    if (m->limit && products > 0 && attention > 0) {
        const double *limit = m->limit->per_second;
        row[COLUMN_INT8].number = 100 * cost.weight_macs / products / limit[CPU_LIMIT_INT8];
        row[COLUMN_INT8_WHOLE].number = 100 * cost.weight_macs / s->seconds / limit[CPU_LIMIT_INT8];
        row[COLUMN_F32].number = 100 * cost.attention_macs / attention / limit[CPU_LIMIT_F32];
    }
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
    for (int i = 0; i < m->repeat; i++) {
        s.rates[i] *= n_prompt;
    }
    row[COLUMN_PROMPT].number = n_prompt;
    put_rates(s.rates, m->repeat, row);
    row[COLUMN_FIRST].number = bench_stats_of(s.first_ms, (size_t)m->repeat).median;
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
    put_rates(s.rates, m->repeat, row);
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
    put_rates(s.rates, m->repeat, row);
    row[COLUMN_FIRST].number = bench_stats_of(s.first_ms, (size_t)m->repeat).median;
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

static bool run_tests(struct model_bench *m, int n_threads, struct error *err)
{
    for (int i = 0; i < m->prompts.n && m->tests[TEST_PREFILL]; i++) {
        if (!test_prefill(m, n_threads, m->prompts.items[i], err)) {
            return false;
        }
    }
    return (!m->tests[TEST_DECODE] || each_pair(m, n_threads, &m->contexts, test_decode, err)) &&
           (!m->tests[TEST_BATCH] || each_pair(m, n_threads, &m->batch_prompts, test_batch, err));
}

static bool run_round(struct model_bench *m, int n_threads, struct error *err)
{
    m->engine_options.backend.cpu.n_threads = n_threads;
    m->limit = bench_limits_of(&m->limits, n_threads);
    m->engine = bench_engine_create(&m->engine_options, err);
    bool ok = m->engine && run_tests(m, n_threads, err);
    bench_engine_free(m->engine);
    m->engine = NULL;
    return ok;
}

/* ---- options ---- */

static bool parse_tests(struct model_bench *m, struct error *err)
{
    struct str rest = str_of(m->options->tests), word;
    while (str_split(&rest, ',', &word)) {
        int i = 0;
        while (i < TEST_COUNT && !str_eq(word, str_of(test_names[i]))) {
            i++;
        }
        if (i == TEST_COUNT) {
            return error_set(err, ERR_INVALID, "--tests: '" STR_FMT "' is none of prefill, decode, batch.",
                             STR_ARG(str_slice(word, 0, 40)));
        }
        m->tests[i] = true;
    }
    return true;
}

static bool parse_lists(struct model_bench *m, struct error *err)
{
    const struct options *o = m->options;
    struct bench_range prompt = {"--prompt", 1, LIMIT_CONTEXT}, context = {"--context", m->gen + 1, LIMIT_CONTEXT};
    struct bench_range streams = {"--streams", 1, BENCH_MAX_STREAMS}, batch = {"--batch-prompt", 1, LIMIT_CONTEXT};
    return parse_tests(m, err) && bench_threads_parse(o->thread_list, "0", &m->threads, err) &&
           bench_list_parse(o->prompt, &prompt, &m->prompts, err) &&
           (bench_list_parse(o->context, &context, &m->contexts, err) || error_wrap(err, "with --gen %d", m->gen)) &&
           bench_list_parse(o->streams, &streams, &m->streams, err) &&
           bench_list_parse(o->batch_prompt, &batch, &m->batch_prompts, err);
}

static bool read_model(struct model_bench *m, struct error *err)
{
    const struct options *o = m->options;
    struct cpu_backend_options cpu = m->engine_options.backend.cpu;
    struct model_file *file = model_file_open(m->path, err);
    bool ok = file != NULL;
    for (int i = 0; ok && i < o->overrides.n; i++) {
        ok = model_file_override(file, o->overrides.items[i], err);
    }
    ok = ok && decoder_config_read(file, &m->config, err) &&
         (!o->rope_scaling || decoder_config_rope_scaling(&m->config, o->rope_scaling, err));
    cpu.n_threads = 1; /* it only says how large pages are */
    struct backend *be = ok ? cpu_backend_create(&cpu, err) : NULL;
    if (be) {
        decoder_cost_read(file, &m->config, &m->cost);
        cost_kv_read(&m->config, m->engine_options.kv_type, be, &m->kv);
        be->ops->free(be);
    }
    model_file_close(file);
    return be != NULL;
}

/* The longest sequence of each test, and all that run at once. */
static bool size_pool(struct model_bench *m, struct error *err)
{
    int n_streams = bench_list_max(&m->streams), longest = 0;
    struct {
        enum bench_test test;
        const char *option;
        int tokens, streams;
    } needs[TEST_COUNT] = {
        {TEST_PREFILL, "--prompt", bench_list_max(&m->prompts) + 1, 1},
        {TEST_DECODE, "--context", bench_list_max(&m->contexts), n_streams},
        {TEST_BATCH, "--batch-prompt and --gen", bench_list_max(&m->batch_prompts) + m->gen, n_streams},
    };
    double size = 0;
    for (int i = 0; i < TEST_COUNT; i++) {
        if (!m->tests[needs[i].test]) {
            continue;
        }
        if (needs[i].tokens > m->config.n_context) {
            return error_set(err, ERR_INVALID, "%s: sequences of %d tokens are too long: the model takes %d.",
                             needs[i].option, needs[i].tokens, m->config.n_context);
        }
        /* whole pages of any backend, and one more */
        uint32_t tokens = ((uint32_t)needs[i].tokens + 255) / 256 * 256 + 256;
        double bytes = (double)engine_kv_bytes(&m->config, m->engine_options.kv_type, 256, tokens) * needs[i].streams;
        size = bytes > size ? bytes : size;
        longest = needs[i].tokens > longest ? needs[i].tokens : longest;
    }
    size = size * 1.125 + (double)MIB(32); /* slabs at whose borders pages are lost */
    uint64_t available = sys_memory().available;
    if (size > 0.75 * (double)available) {
        return error_set(err, ERR_INVALID,
                         "--streams %d with sequences of %d tokens needs %.1f GiB of K and V; %.1f GiB of memory are "
                         "available.",
                         n_streams, longest, size / (double)GIB(1), (double)available / (double)GIB(1));
    }
    m->engine_options.pool_size = (size_t)size / MIB(1) * MIB(1);
    m->engine_options.max_sequences = (uint32_t)n_streams;
    m->engine_options.max_waiting = (uint32_t)n_streams + 1;
    return true;
}

/* Whether the engine will run on the cpu backend. */
static bool find_backend(struct model_bench *m, struct error *err)
{
    struct backend_options o = m->engine_options.backend;
    o.cpu.n_threads = 1;
    struct backend *be = backend_create(&o, err);
    if (!be) {
        return false;
    }
    m->is_cpu = strcmp(be->ops->name, "cpu") == 0;
    be->ops->free(be);
    return true;
}

static bool configure(struct model_bench *m, struct error *err)
{
    const struct options *o = m->options;
    struct engine_options *e = &m->engine_options;
    struct backend_words words = options_backend(o);
    *e = engine_options_default();
    if (!model_path_resolve(o->model, m->path, err) || !backend_options_parse(&words, &e->backend, err) ||
        !kv_type_parse(o->kv_type, &e->kv_type, err) || !parse_lists(m, err)) {
        return false;
    }
    e->model_path = m->path;
    e->overrides = o->overrides.items;
    e->n_overrides = o->overrides.n;
    e->rope_scaling = o->rope_scaling;
    e->max_batch_tokens = (uint32_t)o->max_batch_tokens;
    e->prefill_chunk = (uint32_t)o->prefill_chunk;
    e->build = tandem_build();
    e->backend.op_times = &m->times;
    return find_backend(m, err) && read_model(m, err) && size_pool(m, err);
}

/* ---- the command ---- */

static bool write_report(const struct model_bench *m, struct error *err)
{
    struct buf head;
    struct json_writer w = json_writer(&head);
    buf_init(&head, MIB(1));
    bench_limits_put(&m->limits, &w);
    json_key(&w, "model");
    json_put_cstr(&w, m->path);
    json_key(&w, "kv_type");
    json_put_cstr(&w, kv_type_name(m->engine_options.kv_type));
    bool ok = buf_ok(&head, "the report's head", err) && report_write(m->report, buf_view(&head), err);
    buf_release(&head);
    return ok;
}

static bool run(struct model_bench *m, struct error *err)
{
    struct report_files files = {m->options->json_file, m->options->csv_file};
    if (!configure(m, err) ||
        (m->is_cpu && !bench_limits_measure(&m->engine_options.backend.cpu, &m->threads, &m->limits, err))) {
        return false;
    }
    m->gaps = malloc(MAX_GAPS * sizeof *m->gaps);
    if (!m->gaps) {
        return error_set(err, ERR_NO_MEMORY, "There is no memory for the times between tokens.");
    }
    bench_limits_print(&m->limits, m->options);
    m->report = report_create(columns, COLUMN_COUNT, &files, err);
    bool ok = m->report != NULL;
    for (int i = 0; ok && i < m->threads.n; i++) {
        ok = run_round(m, m->threads.items[i], err);
    }
    return ok && write_report(m, err);
}

int command_bench(const struct options *o)
{
    struct error err = {0};
    if (!o->model) {
        error_set(&err, ERR_INVALID, "`tandem bench` needs a model: a path, or a name such as smollm2:135m.");
        return command_fail(&err);
    }
    struct model_bench *m = calloc(1, sizeof *m);
    if (!m) {
        error_set(&err, ERR_NO_MEMORY, "There is no memory for a benchmark.");
        return command_fail(&err);
    }
    m->options = o;
    m->gen = (int)o->gen;
    m->repeat = (int)o->repeat;
    int status = run(m, &err) ? 0 : command_fail(&err);
    report_free(m->report);
    free(m->gaps);
    free(m);
    return status;
}
