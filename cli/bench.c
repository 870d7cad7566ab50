/* `tandem bench MODEL`: prefill, decoding and whole batches through an engine in this process, beside what the
 * machine's limits allow. */
#include "base/limits.h"
#include "base/sys_memory.h"
#include "cli/bench_internal.h"
#include "cli/commands.h"
#include "cli/precision.h"

#include <stdlib.h>
#include <string.h>

/* ---- options ---- */

static bool parse_tests(struct model_bench *m, struct error *err)
{
    struct str rest = str_of(m->options->tests), word;
    while (str_split(&rest, ',', &word)) {
        int i = 0;
        while (i < TEST_COUNT && !str_eq(word, str_of(bench__test_names[i]))) {
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

/* Lists of tests that are not asked for are checked all the same. */
static bool parse_lists(struct model_bench *m, struct error *err)
{
    const struct options *o = m->options;
    struct bench_range prompt = {"--prompt", 1, LIMIT_CONTEXT}, batch = {"--batch-prompt", 1, LIMIT_CONTEXT};
    struct bench_range streams = {"--streams", 1, BENCH_MAX_STREAMS};
    struct bench_range context = {"--context", m->tests[TEST_DECODE] ? m->gen + 1 : 1, LIMIT_CONTEXT};
    return bench_threads_parse(o->thread_list, "0", &m->threads, err) &&
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

/* The file to measure: the model's own, or one of fewer bits that is made of it. */
static bool find_precision(struct model_bench *m, struct error *err)
{
    struct precision_found found;
    struct precision_wanted wanted = precision_wanted_by(m->options, m->engine_options.kv_type, 1, 1);
    if (!precision_resolve(m->path, &wanted, NULL, NULL, &found, err)) {
        return false;
    }
    memcpy(m->path, found.path, sizeof m->path);
    return true;
}

static bool configure(struct model_bench *m, struct error *err)
{
    const struct options *o = m->options;
    struct engine_options *e = &m->engine_options;
    struct backend_words words = options_backend(o);
    *e = engine_options_default();
    if (!model_path_resolve(o->model, m->path, err) || !backend_options_parse(&words, &e->backend, err) ||
        !kv_type_parse(o->kv_type, &e->kv_type, err) || !find_precision(m, err) || !parse_tests(m, err) ||
        !parse_lists(m, err)) {
        return false;
    }
    e->model_path = m->path;
    e->overrides = o->overrides.items;
    e->n_overrides = o->overrides.n;
    e->rope_scaling = o->rope_scaling;
    e->max_batch_tokens = (uint32_t)o->max_batch_tokens;
    e->prefill_chunk = (uint32_t)o->prefill_chunk;
    e->speculation = SPECULATION_OFF; /* greedy answers to random prompts repeat themselves */
    e->build = tandem_build();
    e->backend.op_times = &m->times;
    return find_backend(m, err) && read_model(m, err) && size_pool(m, err);
}

/* ---- the command ---- */

static bool run_round(struct model_bench *m, int n_threads, struct error *err)
{
    m->engine_options.backend.cpu.n_threads = n_threads;
    m->limit = bench_limits_of(&m->limits, n_threads);
    m->engine = bench_engine_create(&m->engine_options, err);
    bool ok = m->engine && bench__run(m, n_threads, err);
    bench_engine_free(m->engine);
    m->engine = NULL;
    return ok;
}

static bool write_report(const struct model_bench *m, struct error *err)
{
    struct buf head;
    struct json_writer w = json_writer(&head);
    buf_init(&head, MIB(1));
    bench_limits_put(&m->limits, &w);
    json_member_cstr(&w, "model", m->path);
    json_member_cstr(&w, "kv_type", kv_type_name(m->engine_options.kv_type));
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
    m->gaps = malloc(BENCH_MAX_GAPS * sizeof *m->gaps);
    if (!m->gaps) {
        return error_set(err, ERR_NO_MEMORY, "There is no memory for the times between tokens.");
    }
    bench_limits_print(&m->limits, m->options);
    m->report = bench__report(&files, err);
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
        error_set(&err, ERR_INVALID,
                  "`tandem bench` needs a model: a path, a name such as smollm2:135m, or owner/name.");
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
