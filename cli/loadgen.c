/* A request's way: launch (loop) -> pieces gathered (loop) -> on_done: the next one is launched (loop) -> its answer is
 * read and checked (worker) -> its sample is filled (loop). The run is over when none is left anywhere. */
#include "cli/loadgen.h"

#include "base/array.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/rng.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#define GAPS_MAX       ((size_t)1 << 28)
#define PROGRESS_MS    100
#define GIVE_UP_AFTER  32 /* requests in a row that found nobody, beyond those in flight */
#define LATEST_ARRIVAL (INT64_MAX / 4)

struct arrivals { /* of a Poisson run */
    uint64_t seed, n;
    double mean_s, at_s;
};

struct loadgen {
    struct loadgen_options o;
    struct loadgen_run *run;
    struct loop_timer *arrival_timer, *progress_timer;
    struct request *requests; /* in flight */
    struct arrivals arrivals;
    int64_t began_ns, next_due_ns; /* next_due_ns: from the beginning; not of a closed load */
    uint64_t n_sent, n_in_flight, n_reading, n_done, n_failed, n_tokens;
    uint64_t n_unanswered; /* in a row: no connection */
    bool stopping, no_memory;
};

struct request {
    struct loadgen *load;
    struct request *prev, *next;
    struct http_call *call;
    struct buf body;
    struct loadgen_reply reply;
    struct loadgen_answer answer;
    struct loadgen_sample sample;
    int64_t sent_at_ns; /* by clock_ns, as the arrivals */
    struct error complaint;
};

/* ---- arrivals ---- */

static double next_arrival_s(struct arrivals *a)
{
    double u = rng_uniform(a->seed, (uint32_t)a->n, (uint32_t)(a->n >> 32), 0, RNG_SAMPLE);
    a->n++;
    a->at_s -= a->mean_s * log1p(-u);
    return a->at_s;
}

/* n_requests 0: there is nothing to scale to. */
static struct arrivals arrivals_of(uint64_t seed, double rate, uint64_t n_requests)
{
    struct arrivals a = {.seed = seed, .mean_s = 1 / rate}, whole = a;
    for (uint64_t i = 0; i < n_requests; i++) {
        next_arrival_s(&whole);
    }
    if (whole.at_s > 0) {
        a.mean_s *= (double)n_requests / rate / whole.at_s;
    }
    return a;
}

void loadgen_poisson_times(uint64_t seed, double rate, uint64_t n_requests, double *out, size_t n)
{
    struct arrivals a = arrivals_of(seed, rate, n_requests);
    for (size_t i = 0; i < n; i++) {
        out[i] = next_arrival_s(&a);
    }
}

static int64_t draw_due_ns(struct loadgen *load)
{
    double s = load->o.point.mode == LOADGEN_POISSON ? next_arrival_s(&load->arrivals)
                                                     : loadgen_workload_at_ms(load->o.workload, load->n_sent) / 1e3;
    double ns = s * 1e9;
    return ns < (double)LATEST_ARRIVAL ? (int64_t)ns : LATEST_ARRIVAL;
}

/* ---- what is known of the whole ---- */

static int64_t elapsed_ns(const struct loadgen *load)
{
    return clock_ns() - load->began_ns;
}

static bool all_sent(const struct loadgen *load)
{
    int64_t at = load->o.point.mode == LOADGEN_CLOSED ? elapsed_ns(load) : load->next_due_ns;
    return load->stopping || (load->o.n_requests && load->n_sent >= load->o.n_requests) ||
           (load->o.duration_ns && at >= load->o.duration_ns);
}

static void leave_when_over(struct loadgen *load)
{
    if (load->n_in_flight == 0 && load->n_reading == 0 && all_sent(load)) {
        loop_stop(load->o.loop);
    }
}

static void on_progress(void *arg)
{
    struct loadgen *load = arg;
    struct loadgen_progress p = {
        .n_done = load->n_done,
        .n_total = load->o.n_requests,
        .n_failed = load->n_failed,
        .n_in_flight = load->n_in_flight,
        .n_tokens = load->n_tokens,
        .elapsed_s = (double)elapsed_ns(load) / 1e9,
        .duration_s = (double)load->o.duration_ns / 1e9,
    };
    load->o.on_progress(load->o.arg, &p);
}

static void give_up(struct loadgen *load, bool no_memory)
{
    load->no_memory = load->no_memory || no_memory;
    load->stopping = true;
}

/* ---- one request ---- */

static void link_request(struct request *r)
{
    struct loadgen *load = r->load;
    r->next = load->requests;
    if (r->next) {
        r->next->prev = r;
    }
    load->requests = r;
    load->n_in_flight++;
}

static void unlink_request(struct request *r)
{
    struct loadgen *load = r->load;
    if (r->prev) {
        r->prev->next = r->next;
    } else {
        load->requests = r->next;
    }
    if (r->next) {
        r->next->prev = r->prev;
    }
    load->n_in_flight--;
}

static void free_request(struct request *r)
{
    buf_release(&r->body);
    loadgen_reply_release(&r->reply);
    loadgen_answer_release(&r->answer);
    free(r);
}

static void add_failure(struct loadgen_run *run, const struct loadgen_answer *a)
{
    int i = 0;
    while (i < run->n_failures &&
           !(run->failures[i].outcome == a->outcome && run->failures[i].status == a->status &&
             (i == LOADGEN_MAX_FAILURES - 1 || strcmp(run->failures[i].message, a->message) == 0))) {
        i++;
    }
    i = i == LOADGEN_MAX_FAILURES ? i - 1 : i;
    if (i == run->n_failures) {
        run->failures[i] = (struct loadgen_failure){.outcome = a->outcome, .status = a->status};
        memcpy(run->failures[i].message, a->message, sizeof a->message);
        run->n_failures++;
    }
    run->failures[i].n++;
}

static void add_example(struct loadgen_run *run, const struct request *r)
{
    if (run->n_examples < LOADGEN_MAX_EXAMPLES) {
        struct loadgen_example *e = &run->examples[run->n_examples++];
        e->line = r->sample.index % loadgen_workload_lines(r->load->o.workload) + 1; /* only lines have checks */
        loadgen_clean_text(str_of(r->complaint.msg), e->complaint, sizeof e->complaint);
        loadgen_clean_text(buf_view(&r->answer.text), e->text, sizeof e->text);
    }
}

static bool add_sample(struct loadgen_run *run, const struct request *r)
{
    const struct loadgen_answer *a = &r->answer;
    struct error err;
    if (!array_reserve(&run->samples, &run->samples_cap, run->n_samples + 1, LOADGEN_MAX_REQUESTS, "requests", &err) ||
        !array_reserve(&run->gaps, &run->gaps_cap, run->n_gaps + a->n_gaps, GAPS_MAX, "token events", &err)) {
        return false;
    }
    struct loadgen_sample *s = &run->samples[run->n_samples++];
    *s = r->sample;
    if (a->outcome == LOADGEN_OK && a->n_gaps) {
        s->gaps_at = run->n_gaps;
        s->n_gaps = a->n_gaps;
        memcpy(run->gaps + run->n_gaps, a->gaps, a->n_gaps * sizeof *a->gaps);
        run->n_gaps += a->n_gaps;
    }
    return true;
}

/* Times of the answer on the run's clock; a request that failed has ended when the transfer did. */
static void fill_sample(struct request *r)
{
    const struct loadgen_answer *a = &r->answer;
    struct loadgen_sample *s = &r->sample;
    int64_t began = r->load->began_ns;
    bool ok = a->outcome == LOADGEN_OK;
    s->outcome = a->outcome;
    s->status = a->status;
    s->first_ns = ok && a->first_ns ? a->first_ns - began : 0;
    s->last_ns = ok && a->last_ns ? a->last_ns - began : 0;
    s->end_ns = ok ? a->end_ns - began : s->end_ns;
    s->has_usage = a->has_usage;
    s->prompt_tokens = a->prompt_tokens;
    s->completion_tokens = a->completion_tokens;
    s->cached_tokens = a->cached_tokens;
}

static void on_read(void *arg)
{
    struct request *r = arg;
    struct loadgen *load = r->load;
    load->n_reading--;
    fill_sample(r);
    if (r->answer.outcome == LOADGEN_OK) {
        load->n_tokens += r->answer.completion_tokens;
        memcpy(load->run->fingerprint, r->answer.fingerprint, sizeof load->run->fingerprint);
    } else if (r->answer.outcome != LOADGEN_INTERRUPTED) {
        load->n_failed++;
        add_failure(load->run, &r->answer);
    }
    if (r->sample.verdict == LOADGEN_FAILED) {
        add_example(load->run, r);
    }
    if (r->answer.outcome != LOADGEN_INTERRUPTED && !add_sample(load->run, r)) {
        give_up(load, true);
    }
    free_request(r);
    leave_when_over(load);
}

static void read_answer(void *arg) /* on the worker */
{
    struct request *r = arg;
    const struct loadgen_check *check = loadgen_workload_check(r->load->o.workload, r->sample.index);
    loadgen_answer_read(&r->reply, r->load->o.stream, &r->answer);
    if (check && r->answer.outcome == LOADGEN_OK) {
        bool passes = loadgen_check_passes(check, buf_view(&r->answer.text), r->answer.finish_reason, &r->complaint);
        r->sample.verdict = passes ? LOADGEN_PASSED : LOADGEN_FAILED;
    }
}

/* The transfer is over. */
static void hand_over(struct request *r, const struct error *failure)
{
    struct loadgen *load = r->load;
    r->reply.failure = failure ? *failure : r->reply.failure;
    r->sample.end_ns = elapsed_ns(load);
    load->n_unanswered = failure && failure->code == ERR_UNAVAILABLE ? load->n_unanswered + 1 : 0;
    if (load->n_unanswered > GIVE_UP_AFTER + load->n_in_flight) {
        load->run->gave_up = true;
        give_up(load, false);
    }
    unlink_request(r);
    load->n_done++;
    load->n_reading++;
    buf_release(&r->body);
    loop_work(load->o.loop, read_answer, on_read, r);
}

static void on_headers(void *arg, const struct http_reply *reply)
{
    struct request *r = arg;
    struct str type = http_reply_header(reply, "content-type");
    r->reply.status = reply->status;
    loadgen_clean_text(http_reply_header(reply, "server"), r->load->run->server, sizeof r->load->run->server);
    r->reply.is_stream = str_eq_nocase(str_slice(type, 0, 17), STR("text/event-stream"));
}

static void on_data(void *arg, const struct http_reply *reply, struct str piece)
{
    struct request *r = arg;
    if (!loadgen_reply_add(&r->reply, piece, reply->received_ns) && !r->reply.failure.code) {
        error_set(&r->reply.failure, ERR_NO_MEMORY, "no memory for the answer.");
    }
}

static void launch_next(struct loadgen *load);

static void on_done(void *arg, const struct http_reply *reply, const struct error *err)
{
    struct request *r = arg;
    struct loadgen *load = r->load;
    (void)reply;
    hand_over(r, err);
    if (load->o.point.mode == LOADGEN_CLOSED && !all_sent(load)) {
        launch_next(load);
    }
    leave_when_over(load);
}

static bool start_call(struct request *r, struct error *err)
{
    const struct loadgen_options *o = &r->load->o;
    const struct http_header headers[] = {
        {STR("Content-Type"), STR("application/json")},
        {STR("Authorization"), str_of(o->target->auth)},
    };
    loadgen_workload_body(o->workload, r->sample.index, o->target->model, &r->body);
    if (!buf_ok(&r->body, "the request", err)) {
        return false;
    }
    struct http_call_options call = {
        .method = "POST",
        .url = o->target->url,
        .headers = headers,
        .n_headers = o->target->auth ? 2 : 1,
        .body = buf_view(&r->body),
        .timeout_ms = o->timeout_ms,
        .events = {.on_headers = on_headers, .on_data = on_data, .on_done = on_done, .arg = r},
    };
    r->sent_at_ns = clock_ns();
    r->sample.sent_ns = r->sent_at_ns - r->load->began_ns;
    return (r->call = http_call_start(o->client, &call, err)) != NULL;
}

static void launch_next(struct loadgen *load)
{
    struct error err;
    struct request *r = calloc(1, sizeof *r);
    if (!r) {
        give_up(load, true);
        return;
    }
    r->load = load;
    r->sample.index = load->o.first_index + load->n_sent;
    r->sample.due_ns = load->o.point.mode == LOADGEN_CLOSED ? elapsed_ns(load) : load->next_due_ns;
    buf_init(&r->body, LOADGEN_BODY_MAX);
    loadgen_reply_init(&r->reply);
    load->n_sent++;
    link_request(r);
    if (!start_call(r, &err)) { /* a URL, a key or a body that cannot be sent: none ever will */
        give_up(load, false);
        hand_over(r, &err);
    }
}

/* ---- the run ---- */

static void on_arrival(void *arg)
{
    struct loadgen *load = arg;
    while (!all_sent(load) && load->next_due_ns <= elapsed_ns(load)) {
        launch_next(load);
        load->next_due_ns = all_sent(load) ? LATEST_ARRIVAL : draw_due_ns(load);
    }
    if (!all_sent(load)) {
        int64_t wait_ns = load->next_due_ns - elapsed_ns(load);
        loop_timer_start(load->arrival_timer, wait_ns > 0 ? wait_ns / 1000000 : 0, 0);
    }
    leave_when_over(load);
}

static void begin(struct loadgen *load)
{
    const struct loadgen_options *o = &load->o;
    load->began_ns = clock_ns();
    if (o->on_progress) {
        loop_timer_start(load->progress_timer, PROGRESS_MS, PROGRESS_MS);
    }
    if (o->point.mode == LOADGEN_CLOSED) {
        for (uint64_t i = 0; i < (uint64_t)o->point.load && !all_sent(load); i++) {
            launch_next(load);
        }
        return;
    }
    load->arrivals = arrivals_of(o->seed, o->point.mode == LOADGEN_POISSON ? o->point.load : 1,
                                 o->point.mode == LOADGEN_POISSON && !o->duration_ns ? o->n_requests : 0);
    load->next_due_ns = draw_due_ns(load);
    loop_timer_start(load->arrival_timer, 0, 0);
}

static double cpu_seconds(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)usage.ru_utime.tv_sec + (double)usage.ru_stime.tv_sec +
           ((double)usage.ru_utime.tv_usec + (double)usage.ru_stime.tv_usec) / 1e6;
}

static int by_sending(const void *a, const void *b)
{
    const struct loadgen_sample *x = a, *y = b;
    return (x->index > y->index) - (x->index < y->index);
}

static void finish(struct loadgen *load)
{
    struct loadgen_run *run = load->run;
    for (size_t i = 0; i < run->n_samples; i++) {
        run->duration_ns = run->samples[i].end_ns > run->duration_ns ? run->samples[i].end_ns : run->duration_ns;
    }
    if (run->n_samples) {
        qsort(run->samples, run->n_samples, sizeof *run->samples, by_sending);
    }
}

bool loadgen_run(struct loadgen *load, struct loadgen_run *run, struct error *err)
{
    double cpu_before = cpu_seconds();
    *run = (struct loadgen_run){0};
    load->run = run;
    begin(load);
    if (load->n_in_flight || load->n_reading || !all_sent(load)) {
        loop_run(load->o.loop);
    }
    loop_timer_stop(load->progress_timer);
    loop_timer_stop(load->arrival_timer);
    run->client_cpu_s = cpu_seconds() - cpu_before;
    finish(load);
    return !load->no_memory || error_set(err, ERR_NO_MEMORY, "no memory for the figures of the run.");
}

void loadgen_stop(struct loadgen *load)
{
    struct error cancelled;
    if (!load->run || load->run->interrupted) {
        return;
    }
    error_set(&cancelled, ERR_CANCELLED, "interrupted.");
    load->run->interrupted = true;
    load->run->duration_ns = elapsed_ns(load);
    load->stopping = true;
    for (struct request *r; (r = load->requests);) {
        if (r->call) {
            http_call_cancel(r->call);
        }
        hand_over(r, &cancelled);
    }
    leave_when_over(load);
}

struct loadgen *loadgen_create(const struct loadgen_options *options, struct error *err)
{
    struct loadgen *load = calloc(1, sizeof *load);
    if (load) {
        size_t lines = loadgen_workload_lines(options->workload);
        load->o = *options;
        if (options->point.mode == LOADGEN_REPLAY && (options->n_requests == 0 || options->n_requests > lines)) {
            load->o.n_requests = lines; /* once through the file */
        }
        load->arrival_timer = loop_timer_create(options->loop, on_arrival, load);
        load->progress_timer = loop_timer_create(options->loop, on_progress, load);
    }
    if (!load || !load->arrival_timer || !load->progress_timer) {
        loadgen_free(load);
        error_set(err, ERR_NO_MEMORY, "no memory for a run.");
        return NULL;
    }
    return load;
}

void loadgen_free(struct loadgen *load)
{
    if (load) {
        loop_timer_free(load->arrival_timer);
        loop_timer_free(load->progress_timer);
        free(load);
    }
}

void loadgen_run_release(struct loadgen_run *run)
{
    free(run->samples);
    free(run->gaps);
    run->samples = NULL;
    run->gaps = NULL;
}
