/* Schedulers that are lost at any step, without any cleaning up, and those that follow them over the same pages: with
 * what was accepted so far, every job goes on as if nothing had happened, and next to nothing is computed again. */
#include "engine/scheduler_internal.h"
#include "tests/support/engine_bench.h"
#include "tests/support/temp_dir.h"

#include "base/array.h"
#include "base/clock.h"
#include "base/rng.h"
#include "base/sys_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define N_JOBS     8
#define N_CHOICES  3
#define N_TOKENS   40
#define TABLE_SIZE 400000 /* for all pages of the largest pool here */
#define PAGE       4      /* tokens */

static bool with_disk, with_states, without_parts;

struct bench {
    struct engine_config config;
    struct toy toy; /* whose memory outlives schedulers */
    uint8_t *table;
    size_t table_size;
    struct temp_dir dir;
    /* Those of one incarnation. */
    struct scheduler *s;
    struct kv_seals *seals;
    struct kv_disk *disk;
    struct toy_log *log;

    struct job jobs[N_JOBS];
    int32_t prompts[N_JOBS][150];
    int32_t *tokens[N_JOBS][N_CHOICES]; /* accepted so far */
    struct job_accepted accepted[N_JOBS][N_CHOICES];
};

static uint32_t below(uint64_t seed, uint32_t at, uint32_t n)
{
    return (uint32_t)(rng_uniform(seed, at, 0, 9, RNG_SAMPLE) * n);
}

/* Prompts of 100 to 149 tokens, some of which share a prefix. */
static void make_jobs(struct bench *b)
{
    for (uint32_t i = 0; i < N_JOBS; i++) {
        struct job *job = &b->jobs[i];
        *job = (struct job){.id = i + 1,
                            .n_choices = i % 3 == 1 ? N_CHOICES : 1,
                            .seed = i,
                            .prompt = b->prompts[i],
                            .n_prompt = 100 + below(1, i, 50),
                            .max_tokens = N_TOKENS,
                            .flags = JOB_IGNORE_EOS | (i % 2 ? JOB_LOGPROBS | JOB_DIGEST : 0),
                            .speculation = i % 4 == 3 ? SPECULATION_ON : SPECULATION_OFF,
                            .sampling = sampling_default()};
        for (uint32_t k = 0; k < job->n_prompt; k++) {
            b->prompts[i][k] = (int32_t)(k < 37 && i % 2 ? 1 + k : 1 + below(i + 2, k, 49));
        }
    }
}

static void open_bench(struct bench *b, size_t pool_pages)
{
    memset(b, 0, sizeof *b);
    b->config = toy_config(pool_pages);
    b->config.max_sequences = N_JOBS * N_CHOICES;
    if (with_states) {
        toy_add_states(&b->config, 240);
    }
    toy_init_mode(&b->toy, &b->config, bench_mode);
    b->table_size = TABLE_SIZE;
    b->table = aligned_alloc(64, b->table_size);
    memset(b->table, 0, b->table_size);
    if (with_disk) {
        temp_dir_make(&b->dir);
    }
    make_jobs(b);
}

static void open_disk(struct bench *b)
{
    struct error err = {0};
    struct kv_disk_options options = {.dir = b->dir.path, .max_size = 8 << 20, .page_tokens = PAGE, .n_groups = 2};
    memcpy(options.page_size, b->config.geometry.page_size, sizeof options.page_size);
    b->config.disk_always = true;
    b->disk = kv_disk_create(&options, &err);
    assert_non_null(b->disk);
    scheduler_set_disk(b->s, b->disk);
}

/* Bytes that are given back to the system. */
static void clobber(void *arg, size_t offset, size_t size)
{
    struct bench *b = arg;
    memset((char *)b->toy.kv + offset, 0xa5, size);
}

/* A scheduler over whatever is in the memory. */
static void start(struct bench *b)
{
    struct error err = {0};
    struct kv_seal_options options = {.memory = b->table,
                                      .size = b->table_size,
                                      .pool = (const uint8_t *)b->toy.kv,
                                      .pool_size = b->config.geometry.pool_size,
                                      .page_tokens = PAGE,
                                      .n_groups = b->config.geometry.n_groups,
                                      .sum = without_parts ? NULL : toy_sum,
                                      .sum_arg = &b->toy};
    memcpy(options.page_size, b->config.geometry.page_size, sizeof options.page_size);
    b->s = scheduler_create(&b->config, &b->toy.base, &err);
    b->seals = kv_seals_open(&options, &err);
    if (!b->s || !b->seals) {
        fail_msg("%s", err.msg);
    }
    if (with_disk) {
        open_disk(b);
    }
    scheduler_set_seals(b->s, b->seals);
    b->toy.pages = b->s->kv;
    b->log = calloc(1, sizeof *b->log);
    scheduler_set_sink(b->s, toy_sink, b->log);
    if (!bench_mode.lazy) { /* there a step may still be on its way */
        scheduler_on_discard(b->s, clobber, b);
    }
    bench_check(b->s, b->log);
}

static void submit_all(struct bench *b)
{
    for (uint32_t i = 0; i < N_JOBS; i++) {
        struct job job = b->jobs[i];
        job.accepted = b->accepted[i];
        bench_submit(b->s, &b->config, &job);
    }
}

static bool step(struct bench *b)
{
    bool ran = scheduler_step(b->s);
    bench_check(b->s, b->log);
    if (!ran && with_disk) {
        clock_sleep_ms(1); /* what it waits for is being read */
    }
    return ran;
}

/* What a gateway remembers. */
static void take_accepted(struct bench *b)
{
    for (uint32_t i = 0; i < N_JOBS; i++) {
        for (uint32_t k = 0; k < b->jobs[i].n_choices; k++) {
            const struct toy_choice *c = &b->log->jobs[i + 1].choices[k];
            struct job_accepted *a = &b->accepted[i][k];
            if (c->n > a->n) {
                b->tokens[i][k] = realloc(b->tokens[i][k], c->n * sizeof(int32_t));
                memcpy(b->tokens[i][k] + a->n, c->ids + a->n, (c->n - a->n) * sizeof(int32_t));
                *a = (struct job_accepted){.ids = b->tokens[i][k], .n = c->n};
            }
        }
    }
}

/* The memory of the process goes; the pool and the table stay as they are. */
static void lose(struct bench *b)
{
    uint8_t *before = malloc(b->table_size);
    memcpy(before, b->table, b->table_size);
    take_accepted(b);
    scheduler_free(b->s);
    kv_disk_free(b->disk);
    kv_seals_close(b->seals);
    assert_memory_equal(before, b->table, b->table_size);
    toy_log_release(b->log);
    free(b->log);
    free(before);
    b->s = NULL;
    b->disk = NULL;
}

static void close_bench(struct bench *b)
{
    if (b->s) {
        lose(b);
    }
    for (uint32_t i = 0; i < N_JOBS; i++) {
        for (uint32_t k = 0; k < N_CHOICES; k++) {
            free(b->tokens[i][k]);
        }
    }
    if (with_disk) {
        temp_dir_remove(&b->dir);
    }
    toy_release(&b->toy);
    free(b->table);
}

static void run_all(struct bench *b)
{
    int64_t until_ms = clock_ms() + 60000;
    while (!scheduler_idle(b->s)) {
        step(b);
        assert_true(clock_ms() < until_ms);
    }
}

static bool all_started(const struct bench *b, uint32_t n_tokens)
{
    for (uint32_t i = 0; i < N_JOBS; i++) {
        for (uint32_t k = 0; k < b->jobs[i].n_choices; k++) {
            if (b->log->jobs[i + 1].choices[k].n < n_tokens) {
                return false;
            }
        }
    }
    return true;
}

static void assert_same(const struct bench *got, const struct bench *want)
{
    for (uint32_t i = 0; i < N_JOBS; i++) {
        for (uint32_t k = 0; k < want->jobs[i].n_choices; k++) {
            const struct job_accepted *a = &got->accepted[i][k], *w = &want->accepted[i][k];
            assert_int_equal(a->n, N_TOKENS);
            assert_int_equal(w->n, N_TOKENS);
            assert_memory_equal(a->ids, w->ids, N_TOKENS * sizeof(int32_t));
        }
    }
}

static void run_undisturbed(struct bench *b)
{
    open_bench(b, 2000);
    start(b);
    submit_all(b);
    run_all(b);
    assert_int_equal(scheduler_stats(b->s)->adopted_blocks, 0);
    lose(b);
}

/* Tokens of all sequences that were to go on when the last scheduler was lost, and how many those are. */
static uint64_t context_of(const struct bench *b, uint64_t *n_sequences)
{
    uint64_t n = 0;
    *n_sequences = 0;
    for (uint32_t i = 0; i < N_JOBS; i++) {
        for (uint32_t k = 0; k < b->jobs[i].n_choices; k++) {
            bool goes_on = b->accepted[i][k].n < N_TOKENS;
            *n_sequences += goes_on;
            n += goes_on ? b->jobs[i].n_prompt + b->accepted[i][k].n : 0;
        }
    }
    return n;
}

static uint32_t n_sealed_parts(const struct bench *b)
{
    struct kv_seal seal;
    uint32_t n = 0;
    for (int g = 0; g < b->config.geometry.n_groups; g++) {
        for (uint32_t i = 0; i < kv_n_pages(b->s->kv, g); i++) {
            n += kv_seal_get(b->seals, g, i, &seal) && seal.n_tokens < PAGE;
        }
    }
    return n;
}

static void nothing_is_computed_twice(void **state)
{
    (void)state;
    struct bench want, b;
    run_undisturbed(&want);
    for (uint32_t round = 0; round < 8; round++) {
        open_bench(&b, 2000);
        start(&b);
        submit_all(&b);
        while (!all_started(&b, 1 + 4 * round)) {
            step(&b);
        }
        lose(&b);
        uint64_t n_sequences, context = context_of(&b, &n_sequences);
        start(&b);
        submit_all(&b);
        while (!all_started(&b, 34)) {
            step(&b);
        }
        const struct engine_stats *stats = scheduler_stats(b.s);
        print_message("  %llu tokens, %llu adopted, %llu rows of prompts\n", (unsigned long long)context,
                      (unsigned long long)stats->adopted_tokens, (unsigned long long)stats->rows_prefill);
        assert_true(stats->adopted_blocks > 150);
        assert_int_equal(stats->adopted_blocks_dropped, 0);
        if (without_parts) {
            assert_true(stats->adopted_tokens * 100 >= context * 95);
            assert_true(stats->rows_prefill * 100 <= context * 5);
        } else { /* each of them computes its last token, whose K and V nobody had yet */
            assert_int_equal(stats->adopted_tokens + n_sequences, context);
            assert_int_equal(stats->rows_prefill, 0);
        }
        lose(&b); /* and once more, over pages of both */
        start(&b);
        submit_all(&b);
        run_all(&b);
        lose(&b);
        assert_same(&b, &want);
        close_bench(&b);
    }
    close_bench(&want);
}

static struct scheduler *stop_in_prompt(struct bench *b, const struct job *job, uint32_t n_computed)
{
    start(b);
    b->config.prefill_chunk = n_computed;
    bench_submit(b->s, &b->config, job);
    step(b);
    b->config.prefill_chunk = 0;
    return b->s;
}

/* Prompts that were cut anywhere go on there: what is behind the last whole block is a part too. Whoever has the same
 * beginning takes it as well, also one that ends there: its last token is computed again. */
static void parts_of_prompts(void **state)
{
    (void)state;
    struct bench b;
    for (uint32_t n = 1; n <= 31; n++) {
        for (uint32_t more = 0; more <= 2; more++) {
            open_bench(&b, 2000);
            struct job job = b.jobs[0];
            (void)stop_in_prompt(&b, &job, n);
            assert_int_equal(b.s->requests->sequences[0].n_computed, n);
            assert_int_equal(n_sealed_parts(&b), n % PAGE ? 2 : 0);
            lose(&b);
            start(&b);
            job.id = 2;
            job.n_prompt = n + more;
            bench_submit(b.s, &b.config, &job);
            step(&b);
            assert_int_equal(b.log->jobs[2].n_cached, more ? n : n - 1);
            run_all(&b);
            bool taken = n % PAGE > 1 || more; /* of a single position nothing would be left */
            assert_int_equal(n_sealed_parts(&b), n % PAGE && !taken ? 2 : 0);
            close_bench(&b);
        }
    }
}

/* Its page is what was promised: not written to by those who take it, not there for those who may not. */
static void who_takes_parts(void **state)
{
    (void)state;
    struct bench b;
    open_bench(&b, 2000);
    struct job job = b.jobs[0];
    (void)stop_in_prompt(&b, &job, 30);
    lose(&b);
    start(&b);
    job.id = 1;
    job.flags |= JOB_NO_CACHE;
    bench_submit(b.s, &b.config, &job);
    job.id = 2;
    job.flags = JOB_PROMPT_LOGPROBS;
    bench_submit(b.s, &b.config, &job);
    job.id = 3;
    job.flags = 0;
    job.cache_salt = 5;
    bench_submit(b.s, &b.config, &job);
    for (uint32_t i = 0; i < 3; i++) {
        step(&b);
    }
    for (uint32_t i = 1; i <= 3; i++) {
        assert_true(b.log->jobs[i].n_started == 1 && b.log->jobs[i].n_cached == 0);
    }
    assert_int_equal(scheduler_stats(b.s)->adopted_tokens, 0);
    run_all(&b);
    lose(&b);
    start(&b); /* the part is still there, behind its two blocks of whom others have nine more now */
    for (uint32_t i = 4; i <= 5; i++) {
        job = b.jobs[0];
        job.id = i;
        job.n_prompt = 31;
        bench_submit(b.s, &b.config, &job);
    }
    step(&b);
    assert_int_equal(b.log->jobs[4].n_cached, 30);
    run_all(&b);
    lose(&b);

    start(&b);
    job.id = 6;
    job.flags = JOB_NO_CACHE;
    bench_submit(b.s, &b.config, &job);
    while (b.log->jobs[6].choices[0].n < 3) {
        step(&b);
        assert_int_equal(n_sealed_parts(&b), 0);
    }
    close_bench(&b);
}

/* Also where the cache has the block from somebody else, and the page is nobody's but the sequence's. */
static void whole_blocks_are_no_parts(void **state)
{
    (void)state;
    struct bench b;
    open_bench(&b, 2000);
    b.config.prefill_chunk = 13;
    start(&b);
    for (uint32_t i = 1; i <= 2; i++) {
        struct job job = b.jobs[0];
        job.id = i;
        job.flags |= JOB_PROMPT_LOGPROBS; /* takes no hits */
        bench_submit(b.s, &b.config, &job);
    }
    for (uint32_t i = 1; i <= 3; i++) {
        step(&b);
        assert_int_equal(b.s->running[1]->n_computed, 13 * i);
        assert_int_equal(n_sealed_parts(&b), 2 * 2); /* one page of each group for each */
    }
    close_bench(&b);
}

/* A part whose page was damaged is computed again; behind its end nothing counts. */
static void damaged_parts(void **state)
{
    (void)state;
    struct bench b;
    for (int group = 0; group < 2; group++) {
        for (uint32_t word = 0; word < PAGE; word++) {
            open_bench(&b, 2000);
            struct job job = b.jobs[0];
            struct scheduler *s = stop_in_prompt(&b, &job, 30);
            uint32_t page = s->requests->sequences[0].tables[group][7];
            lose(&b);
            b.toy.kv[page * (b.config.geometry.page_size[group] / sizeof(uint64_t)) + word] ^= 1;
            start(&b);
            bench_submit(b.s, &b.config, &job);
            step(&b);
            assert_int_equal(b.log->jobs[1].n_cached, word < 2 ? 28 : 30);
            assert_int_equal(scheduler_stats(b.s)->adopted_blocks_dropped, word < 2);
            run_all(&b);
            close_bench(&b);
        }
    }
}

/* At any step, again and again, in pools where pages are short: they are evicted, taken by others, preempted, and given
 * back to the system. */
static void lost_at_any_step(void **state)
{
    (void)state;
    struct bench want, b;
    uint64_t n_adopted = 0, n_given_back = 0;
    run_undisturbed(&want);
    for (uint32_t round = 0; round < 12; round++) {
        open_bench(&b, round % 2 ? 2000 : 260);
        b.config.verify_size = round % 4 < 2 ? 200 : 0; /* three pages: hits are taken some steps later */
        b.table_size = round % 3 ? TABLE_SIZE : 40000;  /* which does not have room for all */
        for (uint32_t life = 0;; life++) {
            uint32_t n_steps = below(50 + round, life, 60);
            start(&b);
            submit_all(&b);
            for (uint32_t i = 0; i < n_steps && !scheduler_idle(b.s); i++) {
                if (round % 3 == 2 && i % 8 == 7) {
                    scheduler_limit_pool(b.s, below(60 + round, i, 20000), i % 16 == 7);
                }
                step(&b);
            }
            n_adopted += scheduler_stats(b.s)->adopted_tokens;
            n_given_back += scheduler_stats(b.s)->pages_given_back;
            assert_int_equal(scheduler_stats(b.s)->adopted_blocks_dropped, 0);
            if (scheduler_idle(b.s)) {
                break;
            }
            lose(&b);
            assert_true(life < 200);
        }
        lose(&b);
        assert_same(&b, &want);
        close_bench(&b);
    }
    assert_true(n_adopted > 10000 && n_given_back > 100);
    close_bench(&want);
}

/* The lost engine wrote where it should not have. */
static void damage_is_computed_again(void **state)
{
    (void)state;
    struct bench want, b;
    run_undisturbed(&want);
    for (uint32_t round = 0; round < 10; round++) {
        open_bench(&b, 2000);
        start(&b);
        submit_all(&b);
        while (!all_started(&b, 20)) {
            step(&b);
        }
        lose(&b);
        uint8_t *bytes = round % 2 ? (uint8_t *)b.toy.kv : b.table;
        size_t size = round % 2 ? b.config.geometry.pool_size : b.table_size;
        for (uint32_t i = 0; i < 200; i++) { /* in pages, or in the table */
            bytes[below(70 + round, i, (uint32_t)size)] ^= (uint8_t)(1u << i % 8);
        }
        start(&b);
        submit_all(&b);
        run_all(&b);
        const struct engine_stats *stats = scheduler_stats(b.s);
        assert_true(round % 2 ? stats->adopted_blocks_dropped > 0 : stats->adopted_blocks_dropped == 0);
        lose(&b);
        assert_same(&b, &want);
        close_bench(&b);
    }
    close_bench(&want);
}

static void another_pool_size(void **state)
{
    (void)state;
    static const size_t pages[] = {2000, 300, 150, 900};
    struct bench want, b;
    run_undisturbed(&want);
    open_bench(&b, 2000);
    for (uint32_t i = 0; i < sizeof pages / sizeof pages[0]; i++) {
        b.config.geometry.pool_size = pages[i] * 80;
        start(&b);
        assert_true(i == 0 || scheduler_stats(b.s)->adopted_blocks > 0);
        submit_all(&b);
        while (!all_started(&b, 10 * (i + 1))) {
            step(&b);
        }
        lose(&b);
    }
    assert_same(&b, &want);
    close_bench(&b);
    close_bench(&want);
}

/* What is not to be used again is not found again. */
static void what_was_forgotten_stays_so(void **state)
{
    (void)state;
    struct bench b;
    open_bench(&b, 2000);
    start(&b);
    b.toy.bad_job = 3;
    submit_all(&b);
    run_all(&b);
    assert_int_equal(b.log->jobs[3].failed, ERR_BAD_NUMBERS);
    lose(&b);
    start(&b);
    uint64_t n = scheduler_stats(b.s)->adopted_blocks;
    assert_true(n > 0);
    b.toy.bad_job = 0;
    bench_submit(b.s, &b.config, &b.jobs[2]);
    run_all(&b);
    assert_int_equal(b.log->jobs[3].n_cached, 0);
    scheduler_clear_cache(b.s);
    lose(&b);
    start(&b);
    assert_int_equal(scheduler_stats(b.s)->adopted_blocks, 0);
    close_bench(&b);
}

/* Nothing is known of what steps cost: a prompt does not hold up those who have waited for the engine. */
static void who_goes_on_comes_before_a_prompt(void **state)
{
    (void)state;
    struct bench b;
    int32_t prompt[150];
    uint32_t n_streams = 0;
    open_bench(&b, 2000);
    b.config.max_itl_factor = 3;
    b.config.max_drafts = 0;
    start(&b);
    submit_all(&b);
    while (!all_started(&b, 5)) {
        step(&b);
    }
    lose(&b);
    start(&b);
    for (uint32_t k = 0; k < ARRAY_LEN(prompt); k++) {
        prompt[k] = 1 + (int32_t)below(77, k, 49);
    }
    struct job long_one = b.jobs[0];
    long_one.id = N_JOBS + 1;
    long_one.prompt = prompt;
    long_one.n_prompt = ARRAY_LEN(prompt);
    bench_submit(b.s, &b.config, &long_one);
    submit_all(&b);
    uint64_t rows = b.toy.n_rows;
    step(&b);
    assert_true(all_started(&b, 1));
    for (uint32_t i = 0; i < N_JOBS; i++) {
        n_streams += b.jobs[i].n_choices;
    }
    assert_int_equal(b.toy.n_rows - rows, n_streams + 16); /* the prompt goes on all the same */
    close_bench(&b);
}

static int whole_blocks_only(void **state)
{
    without_parts = true;
    return bench_eager(state);
}

static int with_parts(void **state)
{
    without_parts = false;
    return bench_eager(state);
}

#define WITHOUT_PARTS(test) cmocka_unit_test_setup_teardown(test, whole_blocks_only, with_parts)

static int on_disk(void **state)
{
    with_disk = true;
    return bench_eager(state);
}

static int off_disk(void **state)
{
    (void)state;
    with_disk = false;
    return 0;
}

static int states(void **state)
{
    with_states = true;
    return bench_eager(state);
}

static int lazy_states(void **state)
{
    with_states = true;
    return bench_lazy_and_private(state);
}

static int no_states(void **state)
{
    with_states = false;
    return bench_eager(state);
}

#define WITH_STATES(test) cmocka_unit_test_setup_teardown(test, states, no_states)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_computed_twice),
        IN_OTHER_MODES(nothing_is_computed_twice),
        WITHOUT_PARTS(nothing_is_computed_twice),
        WITHOUT_PARTS(lost_at_any_step),
        cmocka_unit_test(parts_of_prompts),
        cmocka_unit_test_setup_teardown(parts_of_prompts, bench_private, bench_eager),
        cmocka_unit_test(who_takes_parts),
        cmocka_unit_test(whole_blocks_are_no_parts),
        cmocka_unit_test(damaged_parts),
        cmocka_unit_test(who_goes_on_comes_before_a_prompt),
        cmocka_unit_test(lost_at_any_step),
        IN_OTHER_MODES(lost_at_any_step),
        cmocka_unit_test_setup_teardown(lost_at_any_step, on_disk, off_disk),
        WITH_STATES(lost_at_any_step),
        cmocka_unit_test_setup_teardown(lost_at_any_step, lazy_states, no_states),
        WITH_STATES(damage_is_computed_again),
        WITH_STATES(another_pool_size),
        WITH_STATES(what_was_forgotten_stays_so),
        cmocka_unit_test(damage_is_computed_again),
        cmocka_unit_test_setup_teardown(damage_is_computed_again, on_disk, off_disk),
        cmocka_unit_test(another_pool_size),
        cmocka_unit_test(what_was_forgotten_stays_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
