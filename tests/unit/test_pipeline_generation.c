/* Generations over a port that the test plays: what goes out for what comes in. */
#include "pipeline/deadlines.h"
#include "pipeline/load.h"
#include "tests/support/pipeline_bench.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct fixture {
    struct pipeline_bench bench;
    struct gen_request request;
    struct generation *g;
    struct buf text[8];
    enum finish_reason finish[8];
    struct gen_event last;
    int n_deltas, n_ready, n_tokens;
    struct { /* by the observer */
        int n_started, n_first, n_finished;
        uint64_t n_prompt, n_cached, n_tokens, n_intervals;
        int64_t queue_us;
        struct gen_outcome outcome;
    } seen;
};

static void see_started(void *arg, const struct gen_request *r)
{
    (void)r;
    ((struct fixture *)arg)->seen.n_started++;
}

static void see_admitted(void *arg, const struct gen_request *r, uint64_t n_prompt, uint64_t n_cached, int64_t queue_us)
{
    struct fixture *f = arg;
    (void)r;
    f->seen.n_prompt += n_prompt;
    f->seen.n_cached += n_cached;
    f->seen.queue_us = queue_us >= 0 ? queue_us : f->seen.queue_us;
}

static void see_first(void *arg, const struct gen_request *r, int64_t ttft_us)
{
    (void)r;
    assert_true(ttft_us >= 0);
    ((struct fixture *)arg)->seen.n_first++;
}

static void see_tokens(void *arg, const struct gen_request *r, uint64_t n, int64_t itl_us)
{
    struct fixture *f = arg;
    (void)r;
    f->seen.n_tokens += n;
    f->seen.n_intervals += itl_us >= 0 ? n : 0;
}

static void see_finished(void *arg, const struct gen_request *r, const struct gen_outcome *outcome)
{
    struct fixture *f = arg;
    (void)r;
    f->seen.n_finished++;
    f->seen.outcome = *outcome;
}

static void on_ready(void *arg)
{
    ((struct fixture *)arg)->n_ready++;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct pipeline_observer observer = {.started = see_started,
                                         .admitted = see_admitted,
                                         .first_token = see_first,
                                         .tokens = see_tokens,
                                         .finished = see_finished,
                                         .arg = f};
    pipeline_bench_open(&f->bench, &observer);
    for (int i = 0; i < 8; i++) {
        buf_init(&f->text[i], 1 << 20);
    }
    gen_request_init(&f->request, arena_create(1 << 20), GEN_PROMPTS);
    f->request.prompts = arena_alloc_array(f->request.arena, 4, sizeof *f->request.prompts);
    f->request.prompts[0].text = STR("ab");
    f->request.n_prompts = 1;
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    if (f->g) {
        generation_free(f->g);
    } else {
        arena_free(f->request.arena);
    }
    pipeline_bench_close(&f->bench);
    for (int i = 0; i < 8; i++) {
        buf_release(&f->text[i]);
    }
    free(f);
    return 0;
}

static void start(struct fixture *f)
{
    struct error err = {0};
    if (!pipeline_prepare(f->bench.pipeline, &f->request, &err)) {
        fail_msg("prepare: %s", err.msg);
    }
    f->g = generation_start(f->bench.pipeline, &f->request, on_ready, f, &err);
    assert_non_null(f->g);
}

static void send_event(struct fixture *f, struct engine_event event)
{
    pipeline_bench_send(&f->bench, event);
}

static void send_from(struct fixture *f, int job, uint32_t choice, uint32_t index, const char *text,
                      enum finish_reason finish)
{
    pipeline_bench_tokens(&f->bench, job, choice, index, text, finish);
}

static void take_all(struct fixture *f, int64_t now_ms)
{
    struct gen_event e;
    while (generation_next(f->g, now_ms, &e)) {
        if (e.kind == GEN_DELTA) {
            assert_true(e.index < 8);
            buf_append(&f->text[e.index], e.text);
            f->n_deltas++;
            f->n_tokens += (int)e.n_tokens;
        } else if (e.kind == GEN_FINISH) {
            f->finish[e.index] = e.finish;
        }
        f->last = e;
    }
}

static void expect_text(struct fixture *f, int index, const char *text)
{
    assert_string_equal(f->text[index].data ? f->text[index].data : "", text);
}

static void test_one_answer(void **state)
{
    struct fixture *f = *state;
    f->request.max_tokens = 10;
    start(f);
    assert_int_equal(f->bench.port.jobs[0]->n_prompt, 2);
    assert_int_equal(f->bench.port.jobs[0]->max_tokens, 10);
    send_from(f, 0, 0, 0, "he", FINISH_NONE);
    take_all(f, 0);
    expect_text(f, 0, "he");
    send_from(f, 0, 0, 2, "llo", FINISH_STOP);
    take_all(f, 0);
    expect_text(f, 0, "hello");
    assert_int_equal(f->finish[0], FINISH_STOP);
    assert_int_equal(f->last.kind, GEN_DONE);
    assert_int_equal(f->last.usage.completion_tokens, 6); /* the end of text counts, but does not show */
    assert_int_equal(f->n_ready, 2);
    assert_int_equal(f->bench.port.n_cancels, 0);
}

static void test_known_tokens_are_dropped_and_gaps_end_the_engine(void **state)
{
    struct fixture *f = *state;
    start(f);
    send_from(f, 0, 0, 0, "abc", FINISH_NONE);
    send_from(f, 0, 0, 1, "bcd", FINISH_NONE); /* a resumed engine repeats itself */
    take_all(f, 0);
    expect_text(f, 0, "abcd");
    send_from(f, 0, 0, 6, "x", FINISH_NONE);
    take_all(f, 0);
    expect_text(f, 0, "abcd");
    assert_int_equal(f->last.kind, GEN_DELTA); /* it waits for the loss, and goes on after it */
    assert_int_equal(f->bench.port.n_distrusts, 1);
}

static void test_stop_string_across_tokens(void **state)
{
    struct fixture *f = *state;
    struct str stops[] = {STR("END")};
    f->request.stops = stops;
    f->request.n_stops = 1;
    start(f);
    send_from(f, 0, 0, 0, "oneE", FINISH_NONE);
    take_all(f, 0);
    expect_text(f, 0, "one"); /* the E is held back */
    send_from(f, 0, 0, 4, "N", FINISH_NONE);
    send_from(f, 0, 0, 5, "Dx", FINISH_NONE);
    take_all(f, 0);
    expect_text(f, 0, "one");
    assert_int_equal(f->finish[0], FINISH_STOP);
    assert_int_equal(f->bench.port.n_cancels, 1);
    assert_int_equal(f->bench.port.cancelled_job, f->bench.port.jobs[0]->id);
    assert_int_equal(f->last.kind, GEN_DONE);
}

static void test_held_back_text_comes_at_the_end(void **state)
{
    struct fixture *f = *state;
    struct str stops[] = {STR("END")};
    f->request.stops = stops;
    f->request.n_stops = 1;
    start(f);
    send_from(f, 0, 0, 0, "oneEN", FINISH_LENGTH);
    take_all(f, 0);
    expect_text(f, 0, "oneEN");
    assert_int_equal(f->finish[0], FINISH_LENGTH);
}

static void test_min_tokens_holds_for_stop_strings(void **state)
{
    struct fixture *f = *state;
    struct str stops[] = {STR("x")};
    f->request.stops = stops;
    f->request.n_stops = 1;
    f->request.min_tokens = 3;
    start(f);
    send_from(f, 0, 0, 0, "axbxc", FINISH_NONE);
    take_all(f, 0);
    expect_text(f, 0, "axb");
}

static void test_characters_come_whole(void **state)
{
    struct fixture *f = *state;
    start(f);
    const char *text = "\xF0\x9F\x98\x80\xE4\xBD\xA0";
    for (uint32_t i = 0; i < 7; i++) {
        char byte[2] = {text[i], 0};
        send_from(f, 0, 0, i, byte, FINISH_NONE);
        take_all(f, 0);
        assert_int_equal(f->text[0].len, i < 3 ? 0 : i < 6 ? 4 : 7);
    }
}

/* One token an event, whenever it is taken: as "text|text|". */
static void list_events(struct fixture *f)
{
    struct gen_event e;
    while (generation_next(f->g, 0, &e)) {
        if (e.kind == GEN_DELTA && e.text.len) {
            buf_append(&f->text[1], e.text);
            buf_putc(&f->text[1], '|');
        }
    }
}

static void test_steps_do_not_depend_on_when_they_are_taken(void **state)
{
    static const char text[] = "one\xF0\x9F\x98\x80"
                               "EN two";
    static const char expected[] = "o|n|e|\xF0\x9F\x98\x80|E|N| |t|w|o|";
    struct fixture *f = *state;
    struct str stops[] = {STR("END")};
    f->request.stops = stops;
    f->request.n_stops = 1;
    f->request.stepwise = true;
    start(f);
    send_from(f, 0, 0, 0, text, FINISH_LENGTH);
    list_events(f);
    expect_text(f, 1, expected);
}

static void test_steps_as_they_come(void **state)
{
    static const char text[] = "one\xF0\x9F\x98\x80"
                               "EN two";
    struct fixture *f = *state;
    struct str stops[] = {STR("END")};
    f->request.stops = stops;
    f->request.n_stops = 1;
    f->request.stepwise = true;
    start(f);
    for (uint32_t i = 0; i + 1 < sizeof text; i++) {
        char byte[2] = {text[i], 0};
        send_from(f, 0, 0, i, byte, i + 2 < sizeof text ? FINISH_NONE : FINISH_LENGTH);
        list_events(f);
    }
    expect_text(f, 1, "o|n|e|\xF0\x9F\x98\x80|E|N| |t|w|o|");
}

static void test_best_of_gives_the_best_first(void **state)
{
    struct fixture *f = *state;
    f->request.n = 2;
    f->request.best_of = 3;
    start(f);
    assert_int_equal(f->bench.port.jobs[0]->n_choices, 3);
    assert_true(f->bench.port.jobs[0]->flags & JOB_LOGPROBS);
    send_from(f, 0, 2, 0, "worst", FINISH_LENGTH);
    send_from(f, 0, 1, 0, "middle", FINISH_LENGTH);
    take_all(f, 0);
    assert_int_equal(f->n_deltas, 0); /* nothing is known before the last has ended */
    send_from(f, 0, 0, 0, "best", FINISH_LENGTH);
    take_all(f, 0);
    expect_text(f, 0, "best");
    expect_text(f, 1, "middle");
    expect_text(f, 2, "");
    assert_int_equal(f->last.usage.completion_tokens, 15);
}

static void test_echo(void **state)
{
    struct fixture *f = *state;
    f->request.echo = true;
    f->request.prompts[0].text = STR("\xC3\xA9!");
    start(f);
    send_from(f, 0, 0, 0, "x", FINISH_LENGTH);
    take_all(f, 0);
    expect_text(f, 0, "\xC3\xA9!x");
}

static void test_flush_intervals(void **state)
{
    struct fixture *f = *state;
    f->request.interval_tokens = 3;
    start(f);
    send_from(f, 0, 0, 0, "a", FINISH_NONE);
    take_all(f, 0);
    expect_text(f, 0, "a"); /* the first comes at once */
    send_from(f, 0, 0, 1, "bc", FINISH_NONE);
    take_all(f, 0);
    expect_text(f, 0, "a");
    send_from(f, 0, 0, 3, "d", FINISH_NONE);
    take_all(f, 0);
    expect_text(f, 0, "abcd");
    send_from(f, 0, 0, 4, "e", FINISH_LENGTH);
    take_all(f, 0);
    expect_text(f, 0, "abcde"); /* the end waits for nothing */
}

static void test_a_failed_job_ends_the_generation(void **state)
{
    struct fixture *f = *state;
    f->request.prompts[1].text = STR("cd");
    f->request.n_prompts = 2;
    start(f);
    assert_int_equal(f->bench.port.n_jobs, 2);
    struct engine_event failed = {.kind = ENGINE_FAILED, .job = f->bench.port.jobs[0]->id};
    error_set(&failed.error, ERR_DEADLINE, "too late.");
    send_event(f, failed);
    take_all(f, 0);
    assert_int_equal(f->last.kind, GEN_ERROR);
    assert_int_equal(f->last.error.code, ERR_DEADLINE);
    assert_int_equal(f->bench.port.cancelled_job, f->bench.port.jobs[1]->id); /* the other one is not left running */
}

static void test_a_replay_is_told(void **state)
{
    struct fixture *f = *state;
    start(f);
    send_from(f, 0, 0, 0, "ab", FINISH_NONE);
    take_all(f, 0);
    assert_null(generation_fingerprint(f->g));
    send_event(f, (struct engine_event){
                      .kind = ENGINE_REPLAYED, .job = f->bench.port.jobs[0]->id, .fingerprint = "0123456789abcdef"});
    send_from(f, 0, 0, 2, "cde", FINISH_LENGTH);
    take_all(f, 0);
    expect_text(f, 0, "abcde");
    assert_string_equal(generation_fingerprint(f->g), "0123456789abcdef");
    assert_int_equal(f->last.kind, GEN_DONE);
    assert_int_equal(f->last.usage.completion_tokens, 5);
    assert_int_equal(f->last.usage.n_replayed, 3);
}

static void test_cancel(void **state)
{
    struct fixture *f = *state;
    start(f);
    send_from(f, 0, 0, 0, "ab", FINISH_NONE);
    generation_cancel(f->g);
    take_all(f, 0);
    expect_text(f, 0, "ab");
    assert_int_equal(f->finish[0], FINISH_CANCELLED);
    assert_int_equal(f->last.kind, GEN_DONE);
    assert_int_equal(f->bench.port.n_cancels, 1);
}

static void test_limits_are_errors_that_name_the_field(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    f->request.max_tokens = 99; /* and two of the prompt: one more than the context */
    assert_false(pipeline_prepare(f->bench.pipeline, &f->request, &err));
    assert_int_equal(err.code, ERR_CONTEXT_EXCEEDED);
    assert_string_equal(err.param, "prompt");
    int32_t ids[] = {1, 260};
    f->request.prompts[0].ids = ids;
    f->request.prompts[0].n_ids = 2;
    assert_false(pipeline_prepare(f->bench.pipeline, &f->request, &err));
    assert_int_equal(err.code, ERR_INVALID);
    f->request.prompts[0].ids = NULL;
    f->request.has_suffix = true;
    assert_false(pipeline_prepare(f->bench.pipeline, &f->request, &err));
    assert_int_equal(err.code, ERR_UNSUPPORTED);
    assert_string_equal(err.param, "suffix");
    f->request.has_suffix = false;
    f->request.max_tokens = 90;
    f->request.truncate_prompt_tokens = 1;
    assert_true(pipeline_prepare(f->bench.pipeline, &f->request, &err));
    assert_int_equal(f->request.jobs[0].n_prompt, 1);
    assert_int_equal(f->request.jobs[0].prompt[0], 'b');
    assert_int_equal(f->request.n_truncated[0], 1);
}

/* As Anthropic's API has it: max_tokens is no promise of the context, only a prompt that fills it is refused. */
static void test_max_tokens_may_be_clipped(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    f->request.clip_max_tokens = true;
    f->request.max_tokens = 1000000;
    assert_true(pipeline_prepare(f->bench.pipeline, &f->request, &err));
    assert_int_equal(f->request.jobs[0].max_tokens, 98); /* of 100, two are the prompt's */
    f->request.max_tokens = 97;
    assert_true(pipeline_prepare(f->bench.pipeline, &f->request, &err));
    assert_int_equal(f->request.jobs[0].max_tokens, 97);
    int32_t *ids = arena_alloc_array(f->request.arena, 100, sizeof *ids);
    f->request.prompts[0].ids = ids;
    f->request.prompts[0].n_ids = 99;
    assert_true(pipeline_prepare(f->bench.pipeline, &f->request, &err));
    assert_int_equal(f->request.jobs[0].max_tokens, 1);
    f->request.prompts[0].n_ids = 100;
    assert_false(pipeline_prepare(f->bench.pipeline, &f->request, &err));
    assert_int_equal(err.code, ERR_CONTEXT_EXCEEDED);
    assert_string_equal(err.msg, "prompt is too long: 100 tokens > 99 maximum");
}

static void test_a_refused_submit_leaves_the_request_to_the_caller(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    error_set(&f->bench.port.refuse, ERR_OVERLOADED, "full.");
    assert_true(pipeline_prepare(f->bench.pipeline, &f->request, &err));
    assert_null(generation_start(f->bench.pipeline, &f->request, on_ready, f, &err));
    assert_int_equal(err.code, ERR_OVERLOADED);
    assert_int_equal(pipeline_n_running(f->bench.pipeline), 0);
}

static void test_status_follows_the_engine(void **state)
{
    struct fixture *f = *state;
    struct gen_status s;
    f->request.n = 2;
    f->request.max_tokens = 10;
    f->request.timeout_ms = 60000;
    start(f);
    uint64_t job = f->bench.port.jobs[0]->id;
    assert_true(f->bench.port.jobs[0]->flags & JOB_PROGRESS);
    assert_int_equal(generation_phase(f->g), GEN_QUEUED);
    send_event(f, (struct engine_event){.kind = ENGINE_STARTED, .job = job, .n_cached = 1});
    generation_status(f->g, clock_ns() / 1000, &s);
    assert_int_equal(s.phase, GEN_PREFILL);
    assert_int_equal(s.n_prefilled, 1);
    assert_int_equal(s.usage.cached_tokens, 1);
    assert_int_equal(s.max_tokens, 20);
    assert_true(s.timings.ttft_us == -1 && s.timings.prefill_us >= 0 && s.left_ms > 0 && s.left_ms <= 60000);
    send_event(f, (struct engine_event){.kind = ENGINE_PROGRESS, .job = job, .n_done = 2});
    assert_int_equal(f->n_ready, 0); /* the client has not asked for it */
    send_from(f, 0, 0, 0, "a", FINISH_NONE);
    assert_int_equal(generation_phase(f->g), GEN_DECODE);
    send_event(f, (struct engine_event){.kind = ENGINE_PREEMPTED, .job = job, .choice = 0});
    assert_int_equal(generation_phase(f->g), GEN_DECODE); /* its other choice runs */
    send_event(f, (struct engine_event){.kind = ENGINE_PREEMPTED, .job = job, .choice = 1});
    send_event(f, (struct engine_event){.kind = ENGINE_PREEMPTED, .job = job, .choice = 7}); /* there is none */
    assert_int_equal(generation_phase(f->g), GEN_PREEMPTED);
    send_from(f, 0, 0, 1, "b", FINISH_LENGTH);
    generation_status(f->g, clock_ns() / 1000, &s);
    assert_int_equal(s.phase, GEN_PREEMPTED); /* of what is left all waits */
    assert_int_equal(s.n_preemptions, 2);
    assert_int_equal(s.n_prefilled, 2);
    assert_int_equal(s.usage.completion_tokens, 2);
    send_from(f, 0, 1, 0, "c", FINISH_LENGTH);
    assert_int_equal(generation_phase(f->g), GEN_ENDED);
    for (int i = 0; i < GEN_PHASE_COUNT; i++) {
        assert_true(strlen(gen_phase_name((enum gen_phase)i)) > 0);
    }
}

/* Queue time is what the engine says; tokens are those that count; an interval lies between two of one choice. */
static void test_observers_see_what_was_generated(void **state)
{
    struct fixture *f = *state;
    struct str stops[] = {STR("END")};
    f->request.stops = stops;
    f->request.n_stops = 1;
    f->request.n = 2;
    f->request.prompts[1].text = STR("cde");
    f->request.n_prompts = 2;
    start(f);
    assert_int_equal(f->seen.n_started, 1);
    for (int i = 0; i < 2; i++) {
        struct engine_event e = {
            .kind = ENGINE_STARTED, .job = f->bench.port.jobs[i]->id, .n_cached = 1, .queue_us = 0};
        send_event(f, e);
        e.n_cached = 0;
        send_event(f, e); /* an engine that resumes it: nothing of that counts again */
    }
    assert_int_equal(f->seen.n_prompt, 5);
    assert_int_equal(f->seen.n_cached, 2);
    assert_int_equal(f->seen.queue_us, 0);
    send_from(f, 0, 0, 0, "a", FINISH_NONE);
    send_from(f, 0, 0, 0, "ab", FINISH_NONE);     /* one of them is known */
    send_from(f, 0, 1, 0, "xENDyz", FINISH_NONE); /* two come behind the end */
    send_from(f, 0, 0, 2, "c", FINISH_LENGTH);
    send_from(f, 1, 0, 0, "d", FINISH_LENGTH);
    send_from(f, 1, 1, 0, "e", FINISH_LENGTH);
    take_all(f, 0);
    assert_int_equal(f->last.kind, GEN_DONE);
    assert_int_equal(f->last.usage.completion_tokens, 9);
    assert_int_equal(f->last.usage.n_begun, 4);
    assert_int_equal(f->seen.n_tokens, 9);
    assert_int_equal(f->seen.n_intervals, 2);
    assert_int_equal(f->seen.n_first, 1);
    assert_int_equal(f->seen.n_finished, 1);
    const struct gen_outcome *o = &f->seen.outcome;
    assert_int_equal(o->reason, FINISH_LENGTH);
    assert_null(o->error);
    assert_int_equal(o->longest, 4);
    assert_int_equal(o->usage.prompt_tokens, 5);
    assert_true(o->timings.total_us >= o->timings.ttft_us && o->timings.prefill_us >= 0);
    generation_free(f->g);
    f->g = NULL;
    assert_int_equal(f->seen.n_finished, 1);                           /* once */
    gen_request_init(&f->request, arena_create(1 << 20), GEN_PROMPTS); /* for the teardown */
}

static void test_the_last_end_is_marked(void **state)
{
    struct fixture *f = *state;
    struct gen_event e;
    int n_last = 0, n_finish = 0;
    f->request.n = 3;
    start(f);
    for (uint32_t i = 0; i < 3; i++) {
        send_from(f, 0, i, 0, "x", FINISH_LENGTH);
        while (generation_next(f->g, 0, &e)) {
            n_finish += e.kind == GEN_FINISH;
            n_last += e.last;
            assert_true(!e.last || (e.kind == GEN_FINISH && n_finish == 3));
        }
    }
    assert_int_equal(n_last, 1);
}

static void count_and_free(void *arg, struct arena *a)
{
    *(int *)arg += 1;
    arena_free(a);
}

static void test_the_arena_goes_to_who_frees_it(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    struct pipeline_options o = *pipeline_options(f->bench.pipeline);
    int n_freed = 0;
    o.free_arena = count_and_free;
    o.free_arena_arg = &n_freed;
    struct pipeline *p = pipeline_create(&o, &err);
    assert_non_null(p);
    assert_true(pipeline_prepare(p, &f->request, &err));
    f->g = generation_start(p, &f->request, on_ready, f, &err);
    assert_non_null(f->g);
    generation_free(f->g);
    f->g = NULL;
    assert_int_equal(n_freed, 1);
    pipeline_free(p);
    gen_request_init(&f->request, arena_create(1 << 20), GEN_PROMPTS); /* for the teardown */
}

/* ---- deadlines and load ---- */

static void test_each_limit_ends_what_it_is_for(void **state)
{
    struct fixture *f = *state;
    struct error why = {0};
    uint64_t counts[GEN_LIMIT_COUNT] = {0};
    enum gen_limit which = GEN_LIMIT_COUNT;
    start(f);
    f->request.received_us = 0; /* not looked at any more */
    int64_t begun = clock_ms();
    f->request.queue_timeout_ms = 1000;
    f->request.first_token_timeout_ms = 2000;
    f->request.timeout_ms = 3000;
    assert_in_range(generation_deadline_ms(f->g, &which), begun - 100, begun + 1000);
    assert_int_equal(which, GEN_LIMIT_QUEUE);
    pipeline_expire(f->bench.pipeline, begun + 500, counts);
    assert_false(generation_failed(f->g, &why));
    send_event(f, (struct engine_event){.kind = ENGINE_STARTED, .job = f->bench.port.jobs[0]->id});
    pipeline_expire(f->bench.pipeline, begun + 1500, counts); /* it was begun in time */
    assert_false(generation_failed(f->g, &why));
    generation_deadline_ms(f->g, &which);
    assert_int_equal(which, GEN_LIMIT_FIRST_TOKEN);
    send_from(f, 0, 0, 0, "a", FINISH_NONE);
    pipeline_expire(f->bench.pipeline, begun + 2500, counts);
    assert_false(generation_failed(f->g, &why));
    assert_int_equal(f->bench.port.n_cancels, 0);
    int n_ready = f->n_ready;
    pipeline_expire(f->bench.pipeline, begun + 3500, counts);
    assert_true(generation_failed(f->g, &why));
    assert_int_equal(why.code, ERR_DEADLINE);
    assert_non_null(strstr(why.msg, "3000 ms"));
    assert_non_null(strstr(why.msg, "--timeout-ms"));
    assert_int_equal(f->bench.port.n_cancels, 1); /* the engine stops */
    assert_int_equal(f->n_ready, n_ready + 1);
    assert_int_equal(counts[GEN_LIMIT_TOTAL], 1);
    assert_int_equal(counts[GEN_LIMIT_QUEUE] + counts[GEN_LIMIT_FIRST_TOKEN], 0);
    assert_true(pipeline_next_deadline_ms(f->bench.pipeline) == INT64_MAX);
    take_all(f, 0);
    assert_int_equal(f->last.kind, GEN_ERROR);
}

static void test_what_has_ended_is_not_late(void **state)
{
    struct fixture *f = *state;
    struct error why = {0};
    uint64_t counts[GEN_LIMIT_COUNT] = {0};
    f->request.timeout_ms = 1000;
    start(f);
    send_from(f, 0, 0, 0, "a", FINISH_LENGTH);
    pipeline_expire(f->bench.pipeline, clock_ms() + 100000, counts); /* its client may take it whenever it likes */
    assert_false(generation_failed(f->g, &why));
    assert_int_equal(counts[GEN_LIMIT_TOTAL], 0);
}

static void test_load_is_counted(void **state)
{
    struct fixture *f = *state;
    f->request.n = 2;
    f->request.max_tokens = 10;
    f->request.priority = 5;
    f->request.prompts[1].text = STR("cde");
    f->request.n_prompts = 2;
    start(f);
    struct pipeline_load load = pipeline_load(f->bench.pipeline, 5, 7);
    assert_int_equal(load.jobs_waiting, 2);
    assert_int_equal(load.jobs_before, 2);
    assert_true(load.tokens_before == 2 + 3 + 2 * 7);
    assert_true(pipeline_load(f->bench.pipeline, 5, 100).tokens_before ==
                2 + 3 + 2 * 20);                                             /* no more than they may have */
    assert_int_equal(pipeline_load(f->bench.pipeline, 4, 7).jobs_before, 0); /* more urgent than these */
    assert_int_equal(pipeline_load(f->bench.pipeline, 4, 7).jobs_waiting, 2);
    send_event(f, (struct engine_event){.kind = ENGINE_STARTED, .job = f->bench.port.jobs[0]->id});
    load = pipeline_load(f->bench.pipeline, 5, 7);
    assert_int_equal(load.jobs_waiting, 1);
    assert_int_equal(load.sequences_running, 2);
    send_from(f, 0, 1, 0, "a", FINISH_LENGTH);
    assert_int_equal(pipeline_load(f->bench.pipeline, 5, 7).sequences_running, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_one_answer),
        TEST(test_known_tokens_are_dropped_and_gaps_end_the_engine),
        TEST(test_stop_string_across_tokens),
        TEST(test_held_back_text_comes_at_the_end),
        TEST(test_min_tokens_holds_for_stop_strings),
        TEST(test_characters_come_whole),
        TEST(test_steps_do_not_depend_on_when_they_are_taken),
        TEST(test_steps_as_they_come),
        TEST(test_best_of_gives_the_best_first),
        TEST(test_echo),
        TEST(test_flush_intervals),
        TEST(test_a_failed_job_ends_the_generation),
        TEST(test_a_replay_is_told),
        TEST(test_cancel),
        TEST(test_status_follows_the_engine),
        TEST(test_observers_see_what_was_generated),
        TEST(test_the_last_end_is_marked),
        TEST(test_the_arena_goes_to_who_frees_it),
        TEST(test_each_limit_ends_what_it_is_for),
        TEST(test_what_has_ended_is_not_late),
        TEST(test_load_is_counted),
        TEST(test_limits_are_errors_that_name_the_field),
        TEST(test_max_tokens_may_be_clipped),
        TEST(test_a_refused_submit_leaves_the_request_to_the_caller),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
