/* The scheduler with a group of states, on the toy model: where hits end, what is kept for them and what is not, and
 * what is computed again when a step fails. That answers stay the same, whatever happens, is in
 * test_engine_scheduler.c; the toy aborts where the contract of backend.h is broken. */
#include "engine/kv_internal.h"
#include "engine/scheduler_internal.h"
#include "tests/support/engine_bench.h"

#include "base/array.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define PAGE       4    /* tokens */
#define STATE_SIZE 1200 /* bytes: K and V of ten blocks, almost */
#define EVERY      10

struct bench {
    struct engine_config config;
    struct toy toy;
    struct toy_log *log;
    struct scheduler *s;
};

static struct engine_config config_of(size_t n_states)
{
    struct engine_config config = toy_config(0);
    toy_add_states(&config, STATE_SIZE);
    config.geometry.pool_size = n_states * STATE_SIZE;
    config.n_context = 400;
    return config;
}

static void open_with(struct bench *b, const struct engine_config *config)
{
    b->config = *config;
    b->s = bench_scheduler(&b->toy, &b->config, bench_mode, &b->log);
    assert_int_equal(b->s->state_every, config->geometry.n_groups == 1 ? 1 : EVERY);
}

static void open_bench(struct bench *b)
{
    struct engine_config config = config_of(200);
    open_with(b, &config);
}

static void close_bench(struct bench *b)
{
    scheduler_free(b->s);
    toy_release(&b->toy);
    toy_log_release(b->log);
    free(b->log);
}

static bool step(struct bench *b)
{
    bool ran = scheduler_step(b->s);
    bench_check(b->s, b->log);
    return ran;
}

static void run_all(struct bench *b)
{
    for (int idle = 0; !scheduler_idle(b->s);) {
        idle = step(b) ? 0 : idle + 1;
        assert_true(idle < 10);
    }
    assert_int_equal(scheduler_stats(b->s)->pages_referenced, 0);
}

/* ---- jobs ---- */

static int32_t texts[20][400];

/* Text 0 is the plain one; the others leave it at `common`. */
static const int32_t *text_of(uint32_t number, uint32_t common)
{
    for (uint32_t i = 0; i < 400; i++) {
        texts[number][i] = 1 + (int32_t)(i < common ? i % 41 : (i * 7 + number * 13) % 47);
    }
    return texts[number];
}

static struct job job_of(uint64_t id, const int32_t *prompt, uint32_t n_prompt, uint32_t max_tokens)
{
    return (struct job){.id = id,
                        .n_choices = 1,
                        .seed = 5,
                        .prompt = prompt,
                        .n_prompt = n_prompt,
                        .max_tokens = max_tokens,
                        .flags = JOB_IGNORE_EOS,
                        .sampling = sampling_default()};
}

static void submit(struct bench *b, const struct job *job)
{
    bench_submit(b->s, &b->config, job);
}

static uint32_t ask(struct bench *b, const struct job *job)
{
    submit(b, job);
    run_all(b);
    return b->log->jobs[job->id].n_cached;
}

/* What it must get: alone, without a cache. */
static void check_answer(const struct bench *b, const struct job *job)
{
    struct engine_config config = b->config;
    struct toy_mode mode = bench_mode;
    struct bench alone;
    struct job same = *job;
    same.accepted = NULL;
    config.prefix_cache = false;
    bench_mode.lazy = bench_mode.kv_private = false;
    open_with(&alone, &config);
    submit(&alone, &same);
    run_all(&alone);
    assert_true(toy_same(&b->log->jobs[job->id], &alone.log->jobs[job->id], job->n_choices));
    close_bench(&alone);
    bench_mode = mode;
}

/* Pages of states that are cached. */
static uint32_t n_states(const struct bench *b)
{
    int group = b->config.geometry.n_groups - 1;
    uint32_t n = 0;
    for (uint32_t i = 0; i < kv_n_pages(b->s->kv, group); i++) {
        n += kv_is_cached(b->s->kv, group, i);
    }
    return n;
}

/* ---- hits ---- */

/* The same prompt once more: its last token at least is computed, from the last border before it. */
static void hits_end_before_the_last_token(void **state)
{
    (void)state;
    for (uint32_t n = 39; n <= 42; n++) {
        struct bench b;
        open_bench(&b);
        struct job first = job_of(1, text_of(0, 400), n, 5), second = job_of(2, texts[0], n, 5);
        assert_int_equal(ask(&b, &first), 0);
        uint64_t rows = b.toy.n_rows;
        assert_int_equal(ask(&b, &second), (n - 1) / PAGE * PAGE);
        assert_int_equal(b.toy.n_rows - rows, n - b.log->jobs[2].n_cached + 4);
        check_answer(&b, &second);
        close_bench(&b);
    }
}

/* A conversation: each turn finds all of the one before but for its last, incomplete block. */
static void turns_of_a_conversation(void **state)
{
    (void)state;
    struct bench b;
    int32_t turn[300];
    uint32_t n = 17;
    open_bench(&b);
    memcpy(turn, text_of(0, 400), sizeof turn);
    for (uint64_t id = 1; id <= 6; id++) {
        struct job job = job_of(id, turn, n, 20 + (uint32_t)id);
        uint32_t n_cached = ask(&b, &job), n_before = n - 5 - (id == 1 ? 12 : 0);
        assert_int_equal(n_cached, id == 1 ? 0 : (n_before - 1) / PAGE * PAGE); /* the last token was not computed */
        check_answer(&b, &job);
        memcpy(turn + n, b.log->jobs[id].choices[0].ids, job.max_tokens * sizeof *turn);
        n += job.max_tokens;
        for (int i = 0; i < 5; i++) {
            turn[n++] = 7 + i;
        }
    }
    close_bench(&b);
}

/* The end of a prompt is written in another way when it is history: where it lies across a border, the one before is
 * there. */
static void another_end_of_the_prompt(void **state)
{
    (void)state;
    for (uint32_t n = 41; n <= 44; n++) {
        struct bench b;
        int32_t turn[400];
        open_bench(&b);
        struct job first = job_of(1, text_of(0, 400), n, 3), second = job_of(2, turn, n + 30, 3);
        memcpy(turn, text_of(3, n - 3), sizeof turn);
        ask(&b, &first);
        assert_true(ask(&b, &second) + 2 * PAGE > n - 3);
        check_answer(&b, &second);
        close_bench(&b);
    }
}

/* Of prompts with one beginning the first does not know of the others; the second leaves a state where they part; the
 * third starts from it. */
static void common_beginnings(void **state)
{
    (void)state;
    struct bench b;
    open_bench(&b);
    struct job jobs[] = {job_of(1, text_of(1, 62), 100, 3), job_of(2, text_of(2, 62), 90, 3),
                         job_of(3, text_of(3, 62), 110, 3)};
    assert_int_equal(ask(&b, &jobs[0]), 0);
    assert_int_equal(ask(&b, &jobs[1]), EVERY * PAGE); /* on the way */
    assert_int_equal(ask(&b, &jobs[2]), 60);
    for (int i = 0; i < 3; i++) {
        check_answer(&b, &jobs[i]);
    }
    close_bench(&b);
}

/* What had to be computed again although its K and V were there is there once, and is as young as who computed it. */
static void nothing_is_there_twice(void **state)
{
    (void)state;
    struct bench b;
    open_bench(&b);
    struct job first = job_of(1, text_of(1, 139), 150, 2), second = job_of(2, text_of(2, 139), 150, 30);
    ask(&b, &first);
    uint64_t before = b.s->kv->bytes_cached;
    submit(&b, &second);
    while (b.log->jobs[2].choices[0].n < 2) {
        step(&b);
    }
    uint32_t n_shared = 0;
    for (uint32_t i = 0; i < 139 / PAGE; i++) {
        n_shared += kv_refs(b.s->kv, 0, prefix_page(b.s->cache, &b.s->running[0]->keys[i], 0)) == 1;
    }
    assert_int_equal(n_shared, 139 / PAGE);
    run_all(&b);
    check_answer(&b, &second);
    /* The pages behind the common blocks, and states: where they part, two of the prompt's end, on the way, at the end.
     */
    uint32_t n_new = 179 / PAGE - 139 / PAGE;
    assert_int_equal(b.s->kv->bytes_cached - before, 5 * STATE_SIZE + n_new * (48 + 80));
    close_bench(&b);
}

/* Those that arrive together compute their common beginning once: whoever computes it keeps the state that others wait
 * for. */
static void a_beginning_in_progress_is_awaited(void **state)
{
    (void)state;
    struct engine_config config = config_of(300);
    struct bench b;
    config.max_batch_tokens = 16;
    config.max_sequences = 16;
    open_with(&b, &config);
    for (uint32_t i = 0; i < 16; i++) {
        struct job job = job_of(i + 1, text_of(i, 97), 116, 2);
        submit(&b, &job);
    }
    run_all(&b);
    assert_int_equal(b.toy.n_rows, 116 + 15 * 20 + 16);
    for (uint64_t i = 2; i <= 16; i++) {
        assert_int_equal(b.log->jobs[i].n_cached, 96);
    }
    struct job last = job_of(17, text_of(17, 97), 116, 2);
    assert_int_equal(ask(&b, &last), 96);
    check_answer(&b, &last);
    close_bench(&b);
}

/* ---- what is kept ---- */

/* On the way through a long prompt and a long answer one state in so many blocks is kept, one at the end of the prompt
 * (two where its last tokens lie across a border) and one at the end of all. */
static void few_states_are_kept(void **state)
{
    (void)state;
    struct bench b;
    open_bench(&b);
    struct job job = job_of(1, text_of(0, 400), 151, 200);
    submit(&b, &job);
    uint32_t most = 0;
    while (!scheduler_idle(b.s)) {
        step(&b);
        uint32_t held = 0;
        for (uint32_t i = 0; i < kv_n_pages(b.s->kv, 2); i++) {
            held += kv_refs(b.s->kv, 2, i) > 0;
        }
        most = held > most ? held : most;
    }
    assert_true(most <= (bench_mode.lazy ? STATES_DECODING + 1 : STATES_DECODING)); /* between steps */
    assert_int_equal(n_states(&b), 350 / PAGE / EVERY + 2 + 1);
    assert_int_equal(b.toy.n_copies, 0);
    close_bench(&b);

    open_bench(&b); /* nothing for others: nothing is kept */
    job.flags |= JOB_NO_CACHE;
    assert_int_equal(ask(&b, &job), 0);
    assert_int_equal(n_states(&b), 0);
    close_bench(&b);
}

/* States are worth what the K and V beside them take: half of the cache at most is theirs, when it is full. */
static void the_cache_is_shared(void **state)
{
    (void)state;
    struct engine_config config = config_of(60);
    struct bench b;
    open_with(&b, &config);
    for (uint32_t i = 0; i < 60; i++) {
        struct job job = job_of(i + 1, text_of(i % 19, i % 100), 100 + i, 60);
        submit(&b, &job);
    }
    run_all(&b);
    assert_true(scheduler_stats(b.s)->pages_evicted > 0);
    assert_true(n_states(&b) > 5 && n_states(&b) <= 35);
    close_bench(&b);
}

/* Choices share the state behind their prompt, and copy it when they go on, but for the last of them; where the prompt
 * ends at a border, nothing is copied. */
static void choices_share_states(void **state)
{
    (void)state;
    for (uint32_t n = 30; n <= 32; n++) {
        struct bench b;
        open_bench(&b);
        struct job job = job_of(1, text_of(0, 400), n, 9);
        job.n_choices = 4;
        ask(&b, &job);
        assert_int_equal(b.toy.n_rows, n + 4 * 8);
        assert_int_equal(b.toy.n_copies, n % PAGE ? 3 * 3 : 0);
        check_answer(&b, &job);
        close_bench(&b);
    }
}

/* ---- what goes wrong ---- */

/* What gave bad numbers leaves no state, also not at its end; neither beside other groups nor where there are none. */
static void bad_states_are_not_kept(void **state)
{
    (void)state;
    for (int alone = 0; alone < 2; alone++) {
        struct engine_config config = config_of(200);
        struct bench b;
        if (alone) {
            config.geometry.n_groups = 0;
            toy_add_states(&config, STATE_SIZE);
        }
        open_with(&b, &config);
        b.toy.bad_job = 1;
        struct job bad = job_of(1, text_of(0, 400), 41, 10), good = job_of(2, texts[0], 41, 10), again = good;
        assert_int_equal(ask(&b, &bad), 0);
        assert_int_equal(b.log->jobs[1].failed, ERR_BAD_NUMBERS);
        assert_int_equal(n_states(&b), 0);
        assert_int_equal(ask(&b, &good), 0);
        check_answer(&b, &good);
        again.id = 3;
        assert_int_equal(ask(&b, &again), 40);
        close_bench(&b);
    }
}

/* A step that found no memory has spoilt the states that it was to write: its rows, and those since the last border,
 * are computed again; nobody fails, and nobody begins anew. */
static void failed_steps_go_back_to_a_border(void **state)
{
    (void)state;
    struct bench b;
    open_bench(&b);
    struct job jobs[] = {job_of(1, text_of(1, 0), 50, 40), job_of(2, text_of(2, 0), 61, 40)};
    jobs[1].n_choices = 2;
    uint64_t n_failed = 0;
    submit(&b, &jobs[0]);
    submit(&b, &jobs[1]);
    for (int i = 0; !scheduler_idle(b.s); i++) {
        bool fails = i % 7 == 3 || i == 1;
        b.toy.fail_next = fails ? ERR_NO_MEMORY : ERR_NONE;
        n_failed += fails;
        step(&b);
    }
    assert_true(n_failed > 5);
    assert_int_equal(b.log->jobs[1].failed, ERR_NONE);
    assert_int_equal(b.log->jobs[2].failed, ERR_NONE);
    check_answer(&b, &jobs[0]);
    check_answer(&b, &jobs[1]);
    close_bench(&b);
}

/* Who had to give way goes on from its last border: but for the block that it was in, nothing is computed again. */
static void who_gave_way_goes_on(void **state)
{
    (void)state;
    struct engine_config config = config_of(200);
    struct bench b;
    config.max_sequences = 1;
    open_with(&b, &config);
    struct job idle = job_of(1, text_of(1, 0), 61, 80), urgent = job_of(2, text_of(2, 0), 30, 3);
    idle.priority = JOB_PRIORITY_IDLE;
    submit(&b, &idle);
    while (b.log->jobs[1].choices[0].n < 30) {
        step(&b);
    }
    submit(&b, &urgent);
    run_all(&b);
    assert_int_equal(scheduler_stats(b.s)->preemptions, 1);
    assert_in_range(b.toy.n_rows, 61 + 79 + 30 + 2, 61 + 79 + 30 + 2 + 2 * PAGE);
    check_answer(&b, &idle);
    close_bench(&b);
}

/* The smallest pool that is said to hold a sequence does, with every rest of its length and of its steps. */
static void the_least_pool_is_enough(void **state)
{
    (void)state;
    for (uint32_t chunk = 0; chunk <= 7; chunk++) {
        struct engine_config config = config_of(1);
        uint32_t need[KV_MAX_GROUPS] = {0};
        struct bench b;
        config.prefill_chunk = chunk;
        engine__pages_needed(&config, 150 + chunk, need);
        assert_int_equal(need[2], STATES_HELD);
        config.geometry.pool_size = kv_geometry_size(&config.geometry, need);
        assert_true(engine__longest(&config, 400) >= 150 + chunk);
        open_with(&b, &config);
        for (uint64_t id = 1; id <= 3; id++) {
            struct job job = job_of(id, text_of((uint32_t)id, 40), 100, 50 + chunk);
            submit(&b, &job);
        }
        run_all(&b);
        for (uint64_t id = 1; id <= 3; id++) {
            assert_int_equal(b.log->jobs[id].choices[0].n, 50 + chunk);
        }
        close_bench(&b);
    }
}

/* However long the texts, states of one sequence are few: all of these run at once. */
static void states_do_not_grow_with_the_text(void **state)
{
    (void)state;
    struct engine_config config = config_of(0);
    struct bench b;
    uint64_t most = 0;
    config.reserve_output = true;
    config.prefix_cache = false;
    config.geometry.pool_size = 37 * STATE_SIZE; /* two for each and two more, and K and V of 110 tokens */
    open_with(&b, &config);
    for (uint64_t id = 1; id <= 40; id++) {
        struct job job = job_of(id, text_of((uint32_t)id % 20, 0), 20, 90);
        submit(&b, &job);
    }
    while (!scheduler_idle(b.s)) {
        step(&b);
        most = scheduler_stats(b.s)->running > most ? scheduler_stats(b.s)->running : most;
    }
    assert_int_equal(most, config.max_sequences);
    assert_true(scheduler_stats(b.s)->preemptions <= 4);
    close_bench(&b);
}

/* Guesses cannot be taken back: there are none, also where they are asked for. */
static void nothing_is_guessed(void **state)
{
    (void)state;
    struct bench b;
    open_bench(&b);
    struct job first = job_of(1, text_of(0, 400), 50, 40), second = first;
    ask(&b, &first);
    second.id = 2;
    second.speculation = SPECULATION_ON;
    second.prediction = b.log->jobs[1].choices[0].ids;
    second.n_prediction = 40;
    ask(&b, &second);
    check_answer(&b, &second);
    assert_int_equal(scheduler_stats(b.s)->spec_drafts, 0);
    close_bench(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hits_end_before_the_last_token),
        IN_OTHER_MODES(hits_end_before_the_last_token),
        cmocka_unit_test(turns_of_a_conversation),
        IN_OTHER_MODES(turns_of_a_conversation),
        cmocka_unit_test(another_end_of_the_prompt),
        cmocka_unit_test(common_beginnings),
        IN_OTHER_MODES(common_beginnings),
        cmocka_unit_test(nothing_is_there_twice),
        cmocka_unit_test(a_beginning_in_progress_is_awaited),
        IN_OTHER_MODES(a_beginning_in_progress_is_awaited),
        cmocka_unit_test(few_states_are_kept),
        cmocka_unit_test_setup_teardown(few_states_are_kept, bench_lazy, bench_eager),
        cmocka_unit_test(the_cache_is_shared),
        cmocka_unit_test(choices_share_states),
        cmocka_unit_test(bad_states_are_not_kept),
        IN_OTHER_MODES(bad_states_are_not_kept),
        cmocka_unit_test(failed_steps_go_back_to_a_border),
        IN_OTHER_MODES(failed_steps_go_back_to_a_border),
        cmocka_unit_test(who_gave_way_goes_on),
        cmocka_unit_test(the_least_pool_is_enough),
        IN_OTHER_MODES(the_least_pool_is_enough),
        cmocka_unit_test(states_do_not_grow_with_the_text),
        cmocka_unit_test(nothing_is_guessed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
