/* `tandem bench-kernels`: every op by shape, type and number of tokens, beside the machine's limits. */
#include "cli/bench_kernels_internal.h"

#include "base/array.h"
#include "base/clock.h"
#include "cli/commands.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SAMPLE_NS   3000000 /* of a sample: enough for the clock, short enough for many cases */
#define MAX_REPEATS 1000
/* Steps of decoding alone, of some streams, of an engine's full step, and beyond. */
#define DEFAULT_TOKENS "1,2,4,8,16,64,256,512"

enum kernel_column {
    COLUMN_OP,
    COLUMN_SHAPE,
    COLUMN_TYPE,
    COLUMN_TOKENS,
    COLUMN_CONTEXT,
    COLUMN_THREADS,
    COLUMN_MEDIAN,
    COLUMN_MIN,
    COLUMN_MAX,
    COLUMN_MACS,
    COLUMN_BYTES,
    COLUMN_BOUND,
    COLUMN_PERCENT,
    COLUMN_LIMIT,
    COLUMN_COUNT
};

static const struct report_column columns[COLUMN_COUNT] = {
    [COLUMN_OP] = {"op", "op", -13, false},
    [COLUMN_SHAPE] = {"shape", "shape", -25, false},
    [COLUMN_TYPE] = {"type", "type", -9, false},
    [COLUMN_TOKENS] = {"tokens", "tokens", 6, true},
    [COLUMN_CONTEXT] = {"context", "context", 7, true},
    [COLUMN_THREADS] = {"threads", "threads", 7, true},
    [COLUMN_MEDIAN] = {"us", "us", 9, false},
    [COLUMN_MIN] = {"us_min", "min", 9, false},
    [COLUMN_MAX] = {"us_max", "max", 9, false},
    [COLUMN_MACS] = {"gmacs_per_s", "GMAC/s", 7, false},
    [COLUMN_BYTES] = {"gb_per_s", "GB/s", 6, false},
    [COLUMN_BOUND] = {"bound_us", "bound us", 9, false},
    [COLUMN_PERCENT] = {"bound_percent", "%", 4, false},
    [COLUMN_LIMIT] = {"limit", " limit", -6, false},
};

/* ---- one case ---- */

bool kernels__wanted(const struct kernel_bench *k, const char *op, const char *shape)
{
    const struct options *o = k->options;
    return bench_words_match(o->op, op) && (!shape || bench_words_match(o->shape, shape));
}

static bool add_row(struct kernel_bench *k, const struct kernel_case *c, const struct bench_stats *ns,
                    struct error *err)
{
    struct report_cell *row = report_row(k->report, err);
    const char *shape = row ? report_text(k->report, c->shape) : NULL;
    if (!shape) {
        return row == NULL ? false : error_set(err, ERR_NO_MEMORY, "There is no memory for a row of the report.");
    }
    double read_ns = c->bytes / k->limits->per_second[CPU_LIMIT_READ] * 1e9;
    double compute_ns = c->macs / k->limits->per_second[c->compute] * 1e9;
    double bound_ns = fmax(read_ns, compute_ns);
    row[COLUMN_OP].text = c->op;
    row[COLUMN_SHAPE].text = shape;
    row[COLUMN_TYPE].text = c->type ? c->type : "f32";
    row[COLUMN_TOKENS].number = c->tokens;
    row[COLUMN_CONTEXT].number = c->context ? c->context : NAN;
    row[COLUMN_THREADS].number = k->limits->n_threads;
    row[COLUMN_MEDIAN].number = ns->median / 1e3;
    row[COLUMN_MIN].number = ns->min / 1e3;
    row[COLUMN_MAX].number = ns->max / 1e3;
    row[COLUMN_MACS].number = c->macs > 0 ? c->macs / ns->median : NAN;
    row[COLUMN_BYTES].number = c->bytes > 0 ? c->bytes / ns->median : NAN;
    if (bound_ns > 0) {
        row[COLUMN_BOUND].number = bound_ns / 1e3;
        row[COLUMN_PERCENT].number = 100 * bound_ns / ns->median;
        row[COLUMN_LIMIT].text = cpu_limit_info(read_ns > compute_ns ? CPU_LIMIT_READ : c->compute)->name;
    }
    report_show(k->report);
    k->n_cases++;
    return true;
}

bool kernels__measure(struct kernel_bench *k, const struct kernel_case *c, kernel_sample *sample, void *arg,
                      int max_loops, struct error *err)
{
    double samples[MAX_REPEATS];
    int64_t ns;
    if (!kernels__wanted(k, c->op, NULL)) {
        return true;
    }
    /* The first touches memory, the second tells how many calls a sample takes. */
    if (!sample(arg, 1, &ns, err) || !sample(arg, 1, &ns, err)) {
        return false;
    }
    int64_t wanted = SAMPLE_NS / (ns > 0 ? ns : 1) + 1;
    int loops = wanted < max_loops ? (int)wanted : max_loops;
    for (int i = 0; i < k->repeat; i++) {
        if (!sample(arg, loops, &ns, err)) {
            return false;
        }
        samples[i] = (double)ns / loops;
    }
    struct bench_stats stats = bench_stats_of(samples, (size_t)k->repeat);
    return add_row(k, c, &stats, err);
}

/* ---- inputs ---- */

float kernels__random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (float)(int32_t)(*state >> 32) * 0x1p-31f;
}

float kernels__random_logit(uint64_t *state)
{
    float u = kernels__random(state);
    return copysignf(-2 * logf(1.00001f - fabsf(u)), u);
}

void kernels__batch_init(struct kernel_batch *b, int n_rows)
{
    for (int i = 0; i < n_rows; i++) {
        b->ids[i] = i % BENCH_INPUT_ROWS;
        b->positions[i] = i;
    }
    b->out_row = n_rows - 1;
    b->seq = (struct batch_seq){.n_rows = n_rows, .n_pages = n_rows};
    b->batch = (struct batch){.n_rows = n_rows,
                              .ids = b->ids,
                              .positions = b->positions,
                              .n_seqs = 1,
                              .seqs = &b->seq,
                              .n_out = 1,
                              .out_rows = &b->out_row};
}

bool kernels__input_init(struct kernel_input *in, struct backend *be, int n_cols, float (*draw)(uint64_t *state),
                         struct error *err)
{
    size_t n = (size_t)BENCH_INPUT_ROWS * (size_t)n_cols;
    uint64_t state = 7;
    *in = (struct kernel_input){.values = aligned_alloc(64, (n * sizeof(float) + 63) / 64 * 64)};
    if (!in->values) {
        return error_set(err, ERR_NO_MEMORY, "There is no memory for %zu numbers.", n);
    }
    for (size_t i = 0; i < n; i++) {
        in->values[i] = draw(&state);
    }
    struct tensor_view view = {.name = STR("input"),
                               .type = DTYPE_F32,
                               .n_dims = 2,
                               .shape = {BENCH_INPUT_ROWS, (uint64_t)n_cols, 1, 1},
                               .data = in->values,
                               .size = n * sizeof(float)};
    in->table = be->ops->weight_create(be, &(const struct tensor_view *){&view}, 1, err);
    return in->table != NULL;
}

void kernels__input_release(struct kernel_input *in, struct backend *be)
{
    if (in->table) {
        be->ops->weight_free(be, in->table);
    }
    free(in->values);
}

/* ---- the command ---- */

static const struct kernel_group *const groups[] = {&kernels__linear, &kernels__attention, &kernels__row_ops};

static bool run_rounds(struct kernel_bench *k, const struct bench_limits *limits, struct error *err)
{
    /* --type alone asks for products with weights */
    size_t n_groups = k->options->type && !k->options->op ? 1 : ARRAY_LEN(groups);
    for (int i = 0; i < limits->n; i++) {
        k->limits = &limits->of[i];
        k->cpu.n_threads = k->limits->n_threads;
        for (size_t g = 0; g < n_groups; g++) {
            if (!groups[g]->run(k, err)) {
                return false;
            }
        }
    }
    return k->n_cases > 0 ||
           error_set(err, ERR_INVALID, "No case fits --op, --type, --shape and --tokens together; see docs/BENCH.md.");
}

static bool is_known(enum kernel_name kind, struct str word)
{
    const char *name;
    for (size_t g = 0; g < ARRAY_LEN(groups); g++) {
        for (size_t i = 0; (name = groups[g]->name(kind, i)) != NULL; i++) {
            if (bench_word_matches(word, name)) {
                return true;
            }
        }
    }
    return kind == KERNEL_SHAPE && kernels__is_matrix(word);
}

static bool check_words(const char *option, enum kernel_name kind, const char *text, struct error *err)
{
    struct str rest = str_of(text), word;
    bool all = text && kind == KERNEL_TYPE && strcmp(text, "all") == 0;
    while (text && !all && str_split(&rest, ',', &word)) {
        if (word.len == 0 || !is_known(kind, word)) {
            return error_set(err, ERR_INVALID,
                             "%s: nothing begins with '" STR_FMT "'; docs/BENCH.md lists what there is.", option,
                             STR_ARG(str_slice(word, 0, 60)));
        }
    }
    return true;
}

static bool parse_options(struct kernel_bench *k, struct bench_list *threads, struct error *err)
{
    const struct options *o = k->options;
    return check_words("--op", KERNEL_OP, o->op, err) && check_words("--type", KERNEL_TYPE, o->type, err) &&
           check_words("--shape", KERNEL_SHAPE, o->shape, err) &&
           check_words("--kv-type", KERNEL_KV_TYPE, o->kv_types, err) &&
           bench_threads_parse(o->thread_list, "1,0", threads, err) &&
           bench_list_parse(o->tokens ? o->tokens : DEFAULT_TOKENS,
                            &(struct bench_range){"--tokens", 1, BENCH_MAX_TOKENS}, &k->tokens, err) &&
           cpu_kernels_parse(o->cpu_kernels, &k->cpu.kernels, err);
}

static bool write_report(const struct kernel_bench *k, const struct bench_limits *limits, struct error *err)
{
    struct buf head;
    struct json_writer w = json_writer(&head);
    buf_init(&head, (size_t)1 << 20);
    bench_limits_put(limits, &w);
    bool ok = buf_ok(&head, "the report's head", err) && report_write(k->report, buf_view(&head), err);
    buf_release(&head);
    return ok;
}

static bool run(const struct options *o, struct error *err)
{
    struct kernel_bench k = {.options = o, .repeat = (int)o->repeat, .cpu = {.spin_us = -1}};
    struct bench_limits limits;
    struct bench_list threads;
    struct report_files files = {o->json_file, o->csv_file};
    if (!parse_options(&k, &threads, err) || !bench_limits_measure(&k.cpu, &threads, &limits, err)) {
        return false;
    }
    bench_limits_print(&limits, o);
    k.report = report_create(columns, COLUMN_COUNT, &files, err);
    bool ok = k.report && run_rounds(&k, &limits, err) && write_report(&k, &limits, err);
    report_free(k.report);
    return ok;
}

int command_bench_kernels(const struct options *o)
{
    struct error err = {0};
    if (o->model) {
        error_set(&err, ERR_INVALID, "`tandem bench-kernels` takes no model; `tandem bench MODEL` measures one.");
        return command_fail(&err);
    }
    return run(o, &err) ? 0 : command_fail(&err);
}
