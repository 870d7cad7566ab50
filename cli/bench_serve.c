/* `tandem bench-serve`: measures OpenAI-compatible servers. Asks each target one thing first, warms it up, then goes
 * through the points of the sweep; at each the targets take turns, as often as the point is repeated. */
#include "cli/commands.h"
#include "cli/loadgen_export.h"
#include "cli/loadgen_html.h"
#include "cli/loadgen_plan.h"
#include "cli/loadgen_probe.h"
#include "cli/loadgen_progress.h"
#include "cli/loadgen_report.h"

#include "base/clock.h"
#include "base/sys_cpu.h"
#include "base/sys_file.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <uv.h>

#define REPORT_MAX      ((size_t)1 << 30)
#define MAX_DESCRIPTORS 65536
#define WARMUP_STREAMS  8
#define RETRY_MS        250
#define EXIT_FAILURES   1 /* measured, but some requests failed or some answers did not pass their check */
#define EXIT_INTERRUPT  130

/* Which requests of a prompt set go where: no two runs of one target have a prompt in common, or a prefix cache would
 * make the later one look good; all targets get the same. A workload's file is what it is, and begins again each time.
 */
enum { SLICE_PROBE, SLICE_WARMUP, SLICE_RUNS };
#define SLICE_BITS 32

struct bench_serve {
    const struct bench_serve_options *o;
    struct loadgen_plan plan;
    struct arena *arena;
    struct loop *loop;
    struct http_client *client;
    struct loadgen_workload *workload;
    struct loadgen_target *targets; /* [result.n_targets] */
    struct loadgen_probe *probe;
    struct loadgen *load; /* the run that is going on */
    struct loadgen_screen screen;
    struct loadgen_result result;
    uv_signal_t sigint, sigterm;
    char workload_text[300];
    char processor[128];
};

/* ---- Ctrl-C: what was measured is reported; a second one leaves at once ---- */

static void on_signal(uv_signal_t *handle, int number)
{
    struct bench_serve *b = handle->data;
    (void)number;
    if (b->result.interrupted) {
        loadgen_screen_clear(&b->screen);
        _Exit(EXIT_INTERRUPT);
    }
    b->result.interrupted = true;
    loadgen_probe_stop(b->probe);
    if (b->load) {
        loadgen_stop(b->load);
    } else {
        loop_stop(b->loop); /* a question, or the pause before the next one */
    }
}

/* ---- runs ---- */

static uint64_t slice(const struct bench_serve *b, uint64_t n)
{
    return loadgen_workload_lines(b->workload) ? 0 : n << SLICE_BITS;
}

static struct loadgen_options load_options(struct bench_serve *b, int target)
{
    return (struct loadgen_options){.loop = b->loop,
                                    .client = b->client,
                                    .target = &b->targets[target],
                                    .workload = b->workload,
                                    .seed = b->plan.seed,
                                    .timeout_ms = (int64_t)(1000 * (double)b->o->timeout_s),
                                    .stream = b->o->stream,
                                    .on_progress = loadgen_screen_show,
                                    .arg = &b->screen};
}

static bool run_load(struct bench_serve *b, const struct loadgen_options *options, struct loadgen_run *run,
                     struct error *err)
{
    *run = (struct loadgen_run){0};
    b->load = loadgen_create(options, err);
    bool ok = b->load && loadgen_run(b->load, run, err);
    loadgen_free(b->load);
    b->load = NULL;
    return ok;
}

/* Asks for the model, then for one answer. */
static bool probe_target(struct bench_serve *b, int target, struct error *err)
{
    struct loadgen_options options = load_options(b, target);
    struct loadgen_run run;
    options.point = (struct loadgen_point){LOADGEN_CLOSED, 1};
    options.n_requests = 1;
    options.first_index = slice(b, SLICE_PROBE);
    if (!loadgen_probe_model(b->probe, &b->targets[target], b->arena, err)) {
        return false;
    }
    bool ok = run_load(b, &options, &run, err) &&
              (run.interrupted || loadgen_probe_judge(&run, &b->targets[target], b->arena, err));
    loadgen_run_release(&run);
    return ok;
}

static bool warm_up(struct bench_serve *b, int target, struct error *err)
{
    struct loadgen_options options = load_options(b, target);
    struct loadgen_run run;
    int64_t n = b->o->warmup;
    options.point = (struct loadgen_point){LOADGEN_CLOSED, (double)(n < WARMUP_STREAMS ? n : WARMUP_STREAMS)};
    options.n_requests = (uint64_t)n;
    options.first_index = slice(b, SLICE_WARMUP);
    bool ok = n == 0 || run_load(b, &options, &run, err);
    if (n) {
        loadgen_run_release(&run);
    }
    return ok;
}

static void stop_loop(void *arg)
{
    loop_stop(arg);
}

/* Lets the loop run for a while, so that Ctrl-C is heard. */
static void pause_for(struct bench_serve *b, int64_t ms)
{
    struct loop_timer *timer = loop_timer_create(b->loop, stop_loop, b->loop);
    if (timer) {
        loop_timer_start(timer, ms, 0);
        loop_run(b->loop);
    }
    loop_timer_free(timer);
}

/* Asks again for as long as --wait allows a target whose server, or whose model, is not there yet. */
static bool await_target(struct bench_serve *b, int target, struct error *err)
{
    int64_t until_ms = clock_ms() + (int64_t)(1000 * (double)b->o->wait_s);
    while (!probe_target(b, target, err)) {
        if (err->code != ERR_UNAVAILABLE || clock_ms() >= until_ms) {
            return false;
        }
        pause_for(b, RETRY_MS);
        if (b->result.interrupted) {
            break;
        }
    }
    return true;
}

static bool prepare_targets(struct bench_serve *b, struct error *err)
{
    char what[160];
    for (int i = 0; i < b->result.n_targets && !b->result.interrupted; i++) {
        snprintf(what, sizeof what, "asking %.100s", b->targets[i].label);
        loadgen_screen_begin(&b->screen, what);
        if (!await_target(b, i, err) || (!b->result.interrupted && !warm_up(b, i, err))) {
            return false;
        }
    }
    loadgen_screen_clear(&b->screen);
    return true;
}

static bool run_point(struct bench_serve *b, int point, int repeat, int target, struct error *err)
{
    struct loadgen_measured *m = loadgen_result_run(&b->result, point, repeat, target);
    struct loadgen_options options = load_options(b, target);
    char what[160], where[80];
    options.point = b->plan.points[point];
    options.n_requests = loadgen_plan_requests(b->o, &options.point);
    options.duration_ns = (int64_t)((double)b->o->duration_s * 1e9);
    options.first_index = slice(b, (uint64_t)(SLICE_RUNS + point * b->result.n_repeats + repeat));
    options.seed = b->plan.seed + (uint64_t)repeat;
    snprintf(what, sizeof what, "%s, %.60s", loadgen_point_name(&options.point, where, sizeof where),
             b->targets[target].label);
    loadgen_screen_begin(&b->screen, what);
    m->done = true;
    if (!run_load(b, &options, &m->run, err)) {
        return false;
    }
    loadgen_figures_of(&m->run, &b->plan.slo, &m->figures);
    loadgen_screen_end(&b->screen, &m->figures);
    return true;
}

static bool run_all(struct bench_serve *b, struct error *err)
{
    const struct loadgen_result *r = &b->result;
    for (int p = 0; p < r->n_points; p++) {
        for (int i = 0; i < r->n_repeats; i++) {
            for (int t = 0; t < r->n_targets && !r->interrupted; t++) {
                if (!run_point(b, p, i, t, err)) {
                    return false;
                }
            }
        }
    }
    return true;
}

/* ---- reports ---- */

static bool is_stdout(const char *path)
{
    return path && strcmp(path, "-") == 0;
}

static bool write_report(const char *path, const char *option, struct buf *text, struct error *err)
{
    bool ok = buf_ok(text, "the report", err);
    if (ok && is_stdout(path)) {
        ok = (fwrite(text->data, 1, text->len, stdout) == text->len && fflush(stdout) == 0) ||
             error_set(err, ERR_IO, "standard output cannot be written.");
    } else if (ok) {
        ok = file_write_atomic(path, buf_view(text), err);
    }
    buf_release(text);
    return ok || error_wrap(err, "%s", option);
}

/* Each report that was asked for; one that fails does not keep the others from being written. */
static bool write_reports(struct bench_serve *b, struct error *err)
{
    const struct bench_serve_options *o = b->o;
    struct buf text;
    bool ok = true;
    FILE *tables = is_stdout(o->json) || is_stdout(o->csv) || is_stdout(o->html) ? stderr : stdout;
    buf_init(&text, REPORT_MAX);
    loadgen_report_text(&b->result, &text);
    fputs(text.data ? text.data : "", tables);
    fflush(tables);
    buf_release(&text);
    if (o->json) {
        loadgen_export_json(&b->result, o->details, &text);
        ok = write_report(o->json, "--json", &text, err) && ok;
    }
    if (o->csv) {
        loadgen_export_csv(&b->result, &text);
        ok = write_report(o->csv, "--csv", &text, err) && ok;
    }
    if (o->html) {
        loadgen_html(&b->result, &text);
        ok = write_report(o->html, "--html", &text, err) && ok;
    }
    return ok;
}

/* A folder that is missing would be noticed only after all the measuring. */
static bool check_report_path(const char *path, const char *option, struct error *err)
{
    const char *slash = path ? strrchr(path, '/') : NULL;
    char folder[4096];
    if (!slash || slash == path) {
        return true;
    }
    if ((size_t)(slash - path) >= sizeof folder) {
        return error_set(err, ERR_INVALID, "%s: the path is too long.", option);
    }
    snprintf(folder, sizeof folder, "%.*s", (int)(slash - path), path);
    return dir_exists(folder) || error_set(err, ERR_NOT_FOUND, "%s: there is no folder '%.160s'.", option, folder);
}

/* ---- start ---- */

static void describe_workload(struct bench_serve *b)
{
    const struct loadgen_workload_options *w = &b->plan.workload;
    int tokens = w->prompts.prompt_tokens ? w->prompts.prompt_tokens : loadgen_prompt_set_tokens(w->prompts.set);
    long long max_tokens = w->max_tokens ? w->max_tokens : loadgen_prompt_set_max_tokens(w->prompts.set);
    char *out = b->workload_text;
    size_t size = sizeof b->workload_text;
    if (w->path) {
        snprintf(out, size, "Workload %.200s, %zu requests, %s API", w->path, loadgen_workload_lines(b->workload),
                 loadgen_api_name(w->api));
    } else {
        snprintf(out, size, "Prompt set %s, about %d prompt tokens, up to %lld tokens an answer%s, %s API",
                 loadgen_prompt_set_name(w->prompts.set), tokens, max_tokens, w->ignore_eos ? " (all of them)" : "",
                 loadgen_api_name(w->api));
    }
}

static void fill_facts(struct bench_serve *b)
{
    describe_workload(b);
    b->result.facts = (struct loadgen_facts){.version = tandem_build(),
                                             .processor = sys_cpu_name(b->processor, sizeof b->processor),
                                             .workload = b->workload_text,
                                             .n_processors = sys_cpu_usable(),
                                             .started_s = clock_wall_s(),
                                             .seed = b->plan.seed,
                                             .api = b->plan.api,
                                             .stream = b->o->stream,
                                             .n_requests = b->o->requests,
                                             .n_warmup = b->o->warmup,
                                             .duration_s = (double)b->o->duration_s};
}

/* A connection is a descriptor, and the usual limit is 1,024; what cannot be had shows as requests that fail. */
static void allow_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        rlim_t most = limit.rlim_max < MAX_DESCRIPTORS ? limit.rlim_max : MAX_DESCRIPTORS;
        limit.rlim_cur = limit.rlim_cur > most ? limit.rlim_cur : most;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static bool read_options(struct bench_serve *b, const struct options *o, struct error *err)
{
    if (!loadgen_plan_parse(b->o, &b->plan, err) || !check_report_path(b->o->json, "--json", err) ||
        !check_report_path(b->o->csv, "--csv", err) || !check_report_path(b->o->html, "--html", err) ||
        !loadgen_targets_parse(o, b->plan.api, b->arena, &b->targets, &b->result.n_targets, err) ||
        !(b->workload = loadgen_workload_create(&b->plan.workload, err))) {
        return false;
    }
    loadgen_plan_default_points(&b->plan, loadgen_workload_timed(b->workload));
    b->result.slo = b->plan.slo;
    b->result.targets = b->targets;
    b->result.points = b->plan.points;
    b->result.n_points = b->plan.n_points;
    b->result.n_repeats = (int)b->o->repeat;
    fill_facts(b);
    return loadgen_result_init(&b->result, err);
}

static void watch_signal(struct bench_serve *b, uv_signal_t *handle, int number)
{
    uv_signal_init(loop_uv(b->loop), handle);
    handle->data = b;
    uv_signal_start(handle, on_signal, number);
}

static void forget_signal(uv_signal_t *handle)
{
    if (handle->data) {
        uv_close((uv_handle_t *)handle, NULL);
    }
}

static bool start(struct bench_serve *b, struct error *err)
{
    char agent[160];
    snprintf(agent, sizeof agent, "tandem-bench-serve/%.100s", tandem_version());
    struct http_client_options client = {.user_agent = agent, .ca_file = b->o->ca_file};
    if (!(b->loop = loop_create(1, err)) || !(b->client = http_client_create(loop_uv(b->loop), &client, err))) {
        return false;
    }
    watch_signal(b, &b->sigint, SIGINT);
    watch_signal(b, &b->sigterm, SIGTERM);
    allow_descriptors();
    return (b->probe = loadgen_probe_create(b->loop, b->client)) != NULL ||
           error_set(err, ERR_NO_MEMORY, "no memory to start.");
}

static void stop(struct bench_serve *b)
{
    loadgen_probe_free(b->probe);
    http_client_free(b->client);
    forget_signal(&b->sigint);
    forget_signal(&b->sigterm);
    loop_free(b->loop);
    loadgen_result_release(&b->result);
    loadgen_workload_free(b->workload);
    arena_free(b->arena);
}

static int measure(struct bench_serve *b, struct error *err)
{
    const struct loadgen_result *r = &b->result;
    loadgen_screen_init(&b->screen, b->o->quiet, 0);
    bool ok = prepare_targets(b, err);
    if (!ok || r->interrupted) {
        loadgen_screen_clear(&b->screen);
        return r->interrupted ? EXIT_INTERRUPT : command_fail(err);
    }
    loadgen_screen_init(&b->screen, b->o->quiet, r->n_points * r->n_repeats * r->n_targets);
    if (!run_all(b, err) || !write_reports(b, err)) {
        loadgen_screen_clear(&b->screen);
        return command_fail(err);
    }
    return r->interrupted                                                   ? EXIT_INTERRUPT
           : loadgen_result_failed(r) + loadgen_result_checks_failed(r) > 0 ? EXIT_FAILURES
                                                                            : 0;
}

int command_bench_serve(const struct options *o)
{
    struct error err = {0};
    struct bench_serve b = {.o = &o->bench_serve, .arena = arena_create((size_t)1 << 20)};
    if (!b.arena) {
        error_set(&err, ERR_NO_MEMORY, "no memory to start.");
        return command_fail(&err);
    }
    int status = read_options(&b, o, &err) && start(&b, &err) ? measure(&b, &err) : command_fail(&err);
    stop(&b);
    return status;
}
