/* What happens to generations when engines are lost under them: they go on from their tokens, whoever is the cause is
 * found and stopped. */
#include "tests/support/pipeline_bench.h"

#include "base/clock.h"
#include "pipeline/recovery.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MAX_CLIENTS 8

struct client {
    struct gen_request request;
    struct generation *g;
    struct buf text;
    struct gen_event last;
    bool leave_on_error; /* frees its generation when it fails, as a client does that has gone */
    bool reads_nothing;
};

struct fixture {
    struct pipeline_bench bench;
    struct client clients[MAX_CLIENTS];
    int n_resumed;
    int64_t pause_us; /* the last one */
};

static void see_resumed(void *arg, const struct gen_request *r, int64_t pause_us)
{
    struct fixture *f = arg;
    (void)r;
    assert_true(pause_us >= 0);
    f->n_resumed++;
    f->pause_us = pause_us;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct pipeline_observer observer = {.resumed = see_resumed, .arg = f};
    pipeline_bench_open(&f->bench, &observer);
    *state = f;
    return 0;
}

static void leave(struct client *c)
{
    generation_free(c->g);
    c->g = NULL;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < MAX_CLIENTS; i++) {
        leave(&f->clients[i]);
        buf_release(&f->clients[i].text);
    }
    pipeline_bench_close(&f->bench);
    free(f);
    return 0;
}

static void on_ready(void *arg)
{
    struct client *c = arg;
    struct gen_event e;
    while (c->g && !c->reads_nothing && generation_next(c->g, 0, &e)) {
        c->last = e;
        if (c->last.kind == GEN_DELTA) {
            buf_append(&c->text, c->last.text);
        }
        if (c->last.kind == GEN_ERROR && c->leave_on_error) {
            leave(c);
        }
    }
}

/* The request of client i, over the prompt given. */
static bool ask(struct fixture *f, int i, const char *prompt, uint32_t n, struct error *err)
{
    struct client *c = &f->clients[i];
    buf_init(&c->text, 1 << 16);
    gen_request_init(&c->request, arena_create(1 << 20), GEN_PROMPTS);
    c->request.prompts = arena_alloc_array(c->request.arena, 1, sizeof *c->request.prompts);
    c->request.prompts[0].text = str_of(prompt);
    c->request.n_prompts = 1;
    c->request.n = n;
    c->request.max_tokens = 20;
    assert_true(pipeline_prepare(f->bench.pipeline, &c->request, err));
    c->g = generation_start(f->bench.pipeline, &c->request, on_ready, c, err);
    if (!c->g) {
        arena_free(c->request.arena);
    }
    return c->g != NULL;
}

static void must_ask(struct fixture *f, int i, const char *prompt)
{
    struct error err = {0};
    assert_true(ask(f, i, prompt, 1, &err));
}

static void tokens(struct fixture *f, int job, uint32_t index, const char *text, enum finish_reason finish)
{
    pipeline_bench_tokens(&f->bench, job, 0, index, text, finish);
}

static void lose(struct fixture *f, enum error_code code)
{
    struct engine_event lost = {.kind = ENGINE_LOST};
    error_set(&lost.error, code, "gone.");
    pipeline_bench_send(&f->bench, lost);
}

static const struct job *job_at(const struct fixture *f, int i)
{
    assert_true(i < f->bench.port.n_jobs);
    return f->bench.port.jobs[i];
}

static void expect_text(const struct fixture *f, int client, const char *text)
{
    const struct buf *b = &f->clients[client].text;
    assert_int_equal(b->len, strlen(text));
    assert_memory_equal(b->data ? b->data : "", text, b->len);
}

/* ---- going on ---- */

static void goes_on_from_its_tokens(void **state)
{
    struct fixture *f = *state;
    must_ask(f, 0, "ab");
    tokens(f, 0, 0, "he", FINISH_NONE);
    lose(f, ERR_ENGINE_LOST);
    assert_int_equal(f->bench.port.n_jobs, 2);
    assert_true(job_at(f, 1)->id != job_at(f, 0)->id);
    assert_int_equal(job_at(f, 1)->seed, job_at(f, 0)->seed);
    assert_int_equal(job_at(f, 1)->accepted[0].n, 2);
    assert_int_equal(job_at(f, 1)->accepted[0].ids[1], 'e');
    assert_int_equal(generation_phase(f->clients[0].g), GEN_RECOVERING);
    tokens(f, 0, 2, "XX", FINISH_NONE); /* of the job that is gone */
    assert_int_equal(f->n_resumed, 0);
    tokens(f, 1, 2, "llo", FINISH_STOP);
    expect_text(f, 0, "hello");
    assert_int_equal(f->clients[0].last.kind, GEN_DONE);
    assert_int_equal(f->clients[0].last.usage.completion_tokens, 6);
    assert_int_equal(f->n_resumed, 1);
}

static void a_pause_begins_with_the_first_loss(void **state)
{
    struct fixture *f = *state;
    must_ask(f, 0, "ab");
    lose(f, ERR_ENGINE_LOST);
    clock_sleep_ms(5);
    lose(f, ERR_ENGINE_LOST);
    tokens(f, f->bench.port.n_jobs - 1, 0, "x", FINISH_STOP);
    assert_int_equal(f->n_resumed, 1);
    assert_true(f->pause_us >= 5000);
}

static void a_request_without_tokens_begins_again(void **state)
{
    struct fixture *f = *state;
    must_ask(f, 0, "ab");
    lose(f, ERR_ENGINE_LOST);
    assert_null(job_at(f, 1)->accepted);
    tokens(f, 1, 0, "x", FINISH_STOP);
    expect_text(f, 0, "x");
}

static void choices_that_have_ended_are_not_wanted_again(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    assert_true(ask(f, 0, "ab", 3, &err));
    pipeline_bench_tokens(&f->bench, 0, 1, 0, "yes", FINISH_STOP);
    pipeline_bench_tokens(&f->bench, 0, 2, 0, "n", FINISH_NONE);
    lose(f, ERR_ENGINE_LOST);
    const struct job_accepted *a = job_at(f, 1)->accepted;
    assert_false(a[0].done);
    assert_int_equal(a[0].n, 0);
    assert_true(a[1].done);
    assert_false(a[2].done);
    assert_int_equal(a[2].n, 1);
}

static void time_that_is_gone_is_gone(void **state)
{
    struct fixture *f = *state;
    struct client *c = &f->clients[0];
    struct error err = {0};
    c->request.timeout_ms = 0;
    assert_true(ask(f, 0, "ab", 1, &err));
    c->request.jobs[0].timeout_ms = 60000; /* as if it had been asked for */
    lose(f, ERR_ENGINE_LOST);
    uint32_t left = job_at(f, 1)->timeout_ms;
    assert_true(left > 0 && left <= 60000);
}

static void a_model_that_has_failed_ends_them(void **state)
{
    struct fixture *f = *state;
    must_ask(f, 0, "ab");
    must_ask(f, 1, "cd");
    lose(f, ERR_UNAVAILABLE);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(f->clients[i].last.kind, GEN_ERROR);
        assert_int_equal(f->clients[i].last.error.code, ERR_UNAVAILABLE);
    }
    assert_int_equal(f->bench.port.n_jobs, 2);
}

static void who_cannot_be_submitted_again_hears_why(void **state)
{
    struct fixture *f = *state;
    must_ask(f, 0, "ab");
    must_ask(f, 1, "cd");
    f->clients[0].leave_on_error = f->clients[1].leave_on_error = true;
    error_set(&f->bench.port.refuse, ERR_OVERLOADED, "full.");
    lose(f, ERR_ENGINE_LOST);
    for (int i = 0; i < 2; i++) {
        assert_null(f->clients[i].g);
        assert_int_equal(f->clients[i].last.error.code, ERR_OVERLOADED);
    }
}

/* Its client is slow and has not taken the error yet. */
static void who_has_failed_does_not_go_on(void **state)
{
    struct fixture *f = *state;
    struct error late = {0};
    must_ask(f, 0, "ab");
    error_set(&late, ERR_DEADLINE, "late.");
    f->clients[0].reads_nothing = true;
    generation_fail(f->clients[0].g, &late);
    lose(f, ERR_ENGINE_LOST);
    assert_int_equal(f->bench.port.n_jobs, 1);
    f->clients[0].reads_nothing = false;
    on_ready(&f->clients[0]);
    assert_int_equal(f->clients[0].last.error.code, ERR_DEADLINE);
}

/* ---- finding the cause ---- */

/* Client 1 of three ends every engine that has it; the others give a token each time. */
static void the_cause_is_found_and_the_others_go_on(void **state)
{
    struct fixture *f = *state;
    static const char *const prompts[] = {"aa", "bad", "cc"};
    struct error err = {0};
    for (int i = 0; i < 3; i++) {
        must_ask(f, i, prompts[i]);
    }
    lose(f, ERR_ENGINE_LOST); /* nobody has a token: all go on */
    assert_int_equal(f->bench.port.n_jobs, 6);
    tokens(f, 3, 0, "x", FINISH_NONE);
    tokens(f, 5, 0, "z", FINISH_NONE);
    lose(f, ERR_ENGINE_LOST); /* twice without a token: client 1 goes on alone */
    assert_int_equal(f->bench.port.n_jobs, 7);
    assert_int_equal(job_at(f, 6)->prompt[0], 'b');
    must_ask(f, 3, "dd"); /* a new one waits as well */
    assert_int_equal(f->bench.port.n_jobs, 7);
    lose(f, ERR_ENGINE_LOST);
    assert_int_equal(f->bench.port.n_jobs, 8); /* once more, and once is not twice */
    assert_int_equal(job_at(f, 7)->prompt[0], 'b');
    lose(f, ERR_ENGINE_LOST);
    assert_int_equal(f->clients[1].last.kind, GEN_ERROR);
    assert_int_equal(f->clients[1].last.error.code, ERR_QUARANTINED);
    assert_int_equal(f->bench.port.n_jobs, 11);
    tokens(f, 8, 1, "y", FINISH_STOP);
    tokens(f, 9, 1, "w", FINISH_STOP);
    tokens(f, 10, 0, "v", FINISH_STOP);
    expect_text(f, 0, "xy");
    expect_text(f, 2, "zw");
    expect_text(f, 3, "v");
    assert_false(ask(f, 4, "bad", 1, &err)); /* and is not let in again */
    assert_int_equal(err.code, ERR_QUARANTINED);
    must_ask(f, 5, "good");
}

static void the_innocent_are_tried_one_by_one(void **state)
{
    struct fixture *f = *state;
    must_ask(f, 0, "aa");
    must_ask(f, 1, "bb");
    lose(f, ERR_ENGINE_LOST);
    lose(f, ERR_ENGINE_LOST); /* both are suspects */
    assert_int_equal(f->bench.port.n_jobs, 5);
    assert_int_equal(job_at(f, 4)->prompt[0], 'a');
    tokens(f, 4, 0, "x", FINISH_NONE); /* it is not the cause: the other one, alone */
    assert_int_equal(f->bench.port.cancelled_job, job_at(f, 4)->id);
    assert_int_equal(f->bench.port.n_jobs, 6);
    assert_int_equal(job_at(f, 5)->prompt[0], 'b');
    tokens(f, 5, 0, "y", FINISH_NONE); /* nor is it: all go on */
    assert_int_equal(f->bench.port.n_jobs, 8);
    assert_int_equal(job_at(f, 6)->accepted[0].n, 1);
    tokens(f, 6, 1, "x", FINISH_STOP);
    tokens(f, 7, 1, "y", FINISH_STOP);
    expect_text(f, 0, "xx");
    expect_text(f, 1, "yy");
}

static void a_suspect_that_leaves_ends_its_turn(void **state)
{
    struct fixture *f = *state;
    must_ask(f, 0, "aa");
    must_ask(f, 1, "bb");
    lose(f, ERR_ENGINE_LOST);
    lose(f, ERR_ENGINE_LOST);
    leave(&f->clients[0]);
    assert_int_equal(f->bench.port.n_jobs, 6);
    assert_int_equal(job_at(f, 5)->prompt[0], 'b');
    tokens(f, 5, 0, "y", FINISH_STOP); /* its last token ends the turn too */
    expect_text(f, 1, "y");
    must_ask(f, 2, "cc");
    assert_int_equal(f->bench.port.n_jobs, 7);
}

/* The first suspect has no time left when its turn comes: the second one is alone all the same. */
static void a_suspect_that_fails_ends_its_turn(void **state)
{
    struct fixture *f = *state;
    static const char *const prompts[] = {"aa", "bb", "cc"};
    for (int i = 0; i < 3; i++) {
        must_ask(f, i, prompts[i]);
    }
    lose(f, ERR_ENGINE_LOST);
    assert_int_equal(f->bench.port.n_jobs, 6);
    f->clients[0].request.jobs[0].timeout_ms = 1;
    clock_sleep_ms(3);
    lose(f, ERR_ENGINE_LOST);
    assert_int_equal(f->clients[0].last.error.code, ERR_DEADLINE);
    assert_int_equal(f->bench.port.n_jobs, 7);
    assert_int_equal(job_at(f, 6)->prompt[0], 'b');
    leave(&f->clients[1]);
    assert_int_equal(f->bench.port.n_jobs, 8);
    assert_int_equal(job_at(f, 7)->prompt[0], 'c');
}

static void tokens_between_losses_clear_a_request(void **state)
{
    struct fixture *f = *state;
    must_ask(f, 0, "aa");
    for (int i = 0; i < 30 && f->clients[0].last.kind != GEN_ERROR; i++) {
        int job = f->bench.port.n_jobs - 1;
        if (i % 3 == 2) { /* often enough not to be the cause */
            tokens(f, job, (uint32_t)(i / 3), "x", FINISH_NONE);
        }
        lose(f, ERR_ENGINE_LOST);
    }
    assert_int_not_equal(f->clients[0].last.kind, GEN_ERROR);
    for (int i = 0; i < RECOVERY_SUSPECT + RECOVERY_ALONE; i++) {
        assert_int_not_equal(f->clients[0].last.kind, GEN_ERROR);
        lose(f, ERR_ENGINE_LOST);
    }
    assert_int_equal(f->clients[0].last.error.code, ERR_QUARANTINED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(goes_on_from_its_tokens, setup, teardown),
        cmocka_unit_test_setup_teardown(a_pause_begins_with_the_first_loss, setup, teardown),
        cmocka_unit_test_setup_teardown(a_request_without_tokens_begins_again, setup, teardown),
        cmocka_unit_test_setup_teardown(choices_that_have_ended_are_not_wanted_again, setup, teardown),
        cmocka_unit_test_setup_teardown(time_that_is_gone_is_gone, setup, teardown),
        cmocka_unit_test_setup_teardown(a_model_that_has_failed_ends_them, setup, teardown),
        cmocka_unit_test_setup_teardown(who_cannot_be_submitted_again_hears_why, setup, teardown),
        cmocka_unit_test_setup_teardown(who_has_failed_does_not_go_on, setup, teardown),
        cmocka_unit_test_setup_teardown(the_cause_is_found_and_the_others_go_on, setup, teardown),
        cmocka_unit_test_setup_teardown(the_innocent_are_tried_one_by_one, setup, teardown),
        cmocka_unit_test_setup_teardown(a_suspect_that_leaves_ends_its_turn, setup, teardown),
        cmocka_unit_test_setup_teardown(a_suspect_that_fails_ends_its_turn, setup, teardown),
        cmocka_unit_test_setup_teardown(tokens_between_losses_clear_a_request, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
