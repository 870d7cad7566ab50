/* The scheduler over a disk tier: hits that outlive a restart, others that go on meanwhile, readings that end early,
 * decisions for and against reading. Answers never depend on any of it. */
#include "engine/scheduler_internal.h"
#include "tests/support/engine_bench.h"
#include "tests/support/temp_dir.h"

#include "base/clock.h"
#include "base/sys_file.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#define PAGE     4 /* tokens */
#define N_PROMPT 300
#define WAIT_MS  60000

static struct temp_dir dir;
static int32_t prompt[N_PROMPT];

static int set_up(void **state)
{
    (void)state;
    temp_dir_make(&dir);
    for (int i = 0; i < N_PROMPT; i++) {
        prompt[i] = 1 + i * i % 47;
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    temp_dir_remove(&dir);
    return 0;
}

struct bench {
    struct engine_config config;
    struct toy toy;
    struct toy_log *log;
    struct scheduler *s;
    struct kv_disk *disk;
    atomic_bool stalled; /* the tier's thread waits where it says that something has ended */
};

static void maybe_stall(void *arg)
{
    struct bench *b = arg;
    while (atomic_load(&b->stalled)) {
        clock_sleep_ms(1);
    }
}

static struct engine_config config_of(size_t pool_pages)
{
    struct engine_config config = toy_config(pool_pages);
    config.n_context = 400;
    config.disk_always = true;
    return config;
}

static void open_bench(struct bench *b, const struct engine_config *config, bool disk)
{
    struct error err = {0};
    struct kv_disk_options options = {.dir = dir.path,
                                      .max_size = 8 << 20,
                                      .page_tokens = config->page_tokens,
                                      .n_groups = config->geometry.n_groups};
    *b = (struct bench){.config = *config};
    b->s = bench_scheduler(&b->toy, &b->config, (struct toy_mode){0}, &b->log);
    if (disk) {
        memcpy(options.page_size, config->geometry.page_size, sizeof options.page_size);
        b->disk = kv_disk_create(&options, &err);
        assert_non_null(b->disk);
        kv_disk_on_ready(b->disk, maybe_stall, b);
        scheduler_set_disk(b->s, b->disk);
    }
}

static void close_bench(struct bench *b)
{
    atomic_store(&b->stalled, false);
    scheduler_free(b->s);
    kv_disk_free(b->disk);
    toy_release(&b->toy);
    toy_log_release(b->log);
    free(b->log);
}

static const struct engine_stats *stats(struct bench *b)
{
    return scheduler_stats(b->s);
}

static bool step(struct bench *b)
{
    bool ran = scheduler_step(b->s);
    bench_check(b->s, b->log);
    return ran;
}

static void run_all(struct bench *b)
{
    int64_t until_ms = clock_ms() + WAIT_MS;
    while (!scheduler_idle(b->s)) {
        if (!step(b)) {
            assert_true(clock_ms() < until_ms);
            clock_sleep_ms(1);
        }
    }
}

/* Until everything is written. */
static void settle(struct bench *b)
{
    int64_t until_ms = clock_ms() + WAIT_MS;
    while (stats(b)->disk_queued > 0) {
        assert_true(clock_ms() < until_ms);
        step(b);
        clock_sleep_ms(1);
    }
}

static struct job job_of(uint64_t id, uint32_t n_prompt)
{
    return (struct job){.id = id,
                        .n_choices = 1,
                        .seed = 5,
                        .prompt = prompt,
                        .n_prompt = n_prompt,
                        .max_tokens = 6,
                        .flags = JOB_IGNORE_EOS,
                        .sampling = sampling_default()};
}

static void submit(struct bench *b, const struct job *job)
{
    bench_submit(b->s, &b->config, job);
}

static void ask(struct bench *b, uint64_t id, uint32_t n_prompt)
{
    struct job job = job_of(id, n_prompt);
    submit(b, &job);
    run_all(b);
}

/* What a job must get: alone, without any cache. */
static void check_answer(const struct bench *b, const struct job *job)
{
    struct engine_config config = b->config;
    struct bench alone;
    config.prefix_cache = false;
    config.geometry.pool_size = 900 * 80;
    open_bench(&alone, &config, false);
    submit(&alone, job);
    run_all(&alone);
    assert_true(toy_same(&b->log->jobs[job->id], &alone.log->jobs[job->id], job->n_choices));
    close_bench(&alone);
}

static void check_plain(const struct bench *b, uint64_t id, uint32_t n_prompt)
{
    struct job job = job_of(id, n_prompt);
    check_answer(b, &job);
}

/* A folder that holds the blocks of a prompt of n tokens. */
static void fill_folder(const struct engine_config *config, uint32_t n)
{
    struct bench b;
    open_bench(&b, config, true);
    ask(&b, 1, n);
    settle(&b);
    assert_true(stats(&b)->disk_blocks >= n / PAGE);
    assert_int_equal(stats(&b)->disk_blocks_skipped, 0);
    close_bench(&b);
}

/* ---- hits ---- */

/* A restarted engine computes of a prompt what a running one would: at a page's border the last token, else the rest.
 */
static void hits_after_restart(void **state)
{
    (void)state;
    for (int windowed = 0; windowed < 3; windowed++) { /* a full and a window group, one of each alone */
        struct engine_config config = config_of(600);
        config.geometry.n_groups = windowed ? 1 : 2;
        config.window[0] = windowed == 2 ? 9 : 0;
        fill_folder(&config, 121);
        for (uint32_t n = 99; n <= 101; n++) {
            struct bench b;
            open_bench(&b, &config, true);
            ask(&b, 2, n);
            check_plain(&b, 2, n);
            assert_int_equal(b.log->jobs[2].n_cached, n == 99 ? 96 : n == 100 ? 99 : 100);
            assert_int_equal(b.log->jobs[2].n_started, 1);
            assert_int_equal(b.toy.n_rows, n - b.log->jobs[2].n_cached + 5);
            assert_int_equal(stats(&b)->disk_loads, 1);
            assert_int_equal(stats(&b)->disk_loads_abandoned, 0);
            assert_int_equal(stats(&b)->cache_hits, 1);
            assert_int_equal(stats(&b)->cache_queries, 1);
            /* A window group needs its last blocks only, and nothing else was read. */
            assert_int_equal(stats(&b)->disk_blocks_read, windowed == 2 ? 3 : n / PAGE);
            ask(&b, 3, n); /* now it is in memory */
            assert_int_equal(stats(&b)->disk_blocks_read, windowed == 2 ? 3 : n / PAGE);
            assert_int_equal(b.log->jobs[3].n_cached, b.log->jobs[2].n_cached);
            check_plain(&b, 3, n);
            close_bench(&b);
        }
        tear_down(NULL);
        set_up(NULL);
    }
}

static void sixteen_read_once(void **state)
{
    (void)state;
    struct engine_config config = config_of(1500);
    config.max_sequences = 16;
    fill_folder(&config, 200);
    struct bench b;
    int32_t prompts[16][204];
    open_bench(&b, &config, true);
    for (uint32_t i = 0; i < 16; i++) {
        struct job job = job_of(i + 1, 204);
        memcpy(prompts[i], prompt, sizeof prompts[i]);
        prompts[i][202] = (int32_t)i + 1;
        job.prompt = prompts[i];
        submit(&b, &job);
    }
    run_all(&b);
    assert_int_equal(stats(&b)->disk_blocks_read, 50);
    assert_int_equal(stats(&b)->disk_loads, 1);
    assert_int_equal(stats(&b)->cached_tokens, 16 * 200);
    assert_int_equal(stats(&b)->disk_tokens, 200);
    assert_int_equal(b.toy.n_rows, 16 * (4 + 5));
    for (uint32_t i = 0; i < 16; i++) {
        struct job job = job_of(i + 1, 204);
        job.prompt = prompts[i];
        check_answer(&b, &job);
    }
    close_bench(&b);
}

/* What was evicted from memory comes back, beside what was not. */
static void evicted_blocks_come_back(void **state)
{
    (void)state;
    struct engine_config config = config_of(50);
    struct bench b;
    int32_t other[160];
    open_bench(&b, &config, true);
    ask(&b, 1, 160);
    settle(&b);
    for (uint32_t i = 0; i < 160; i++) {
        other[i] = (int32_t)(7 + i * 3) % 50;
    }
    for (uint32_t n = 60; n <= 160; n += 20) { /* more and more of the first prompt's pages go */
        struct job job = job_of(n, n);
        job.prompt = other;
        submit(&b, &job);
        run_all(&b);
        check_answer(&b, &job);
        uint64_t rows = b.toy.n_rows;
        ask(&b, n + 1, 160);
        check_plain(&b, n + 1, 160);
        assert_int_equal(b.toy.n_rows - rows, 1 + 5); /* never computed again */
    }
    assert_true(stats(&b)->pages_evicted > 0 && stats(&b)->disk_tokens > 0);
    close_bench(&b);
}

/* Scores want every row, and jobs without the cache stay without it. */
static void some_take_no_hits(void **state)
{
    (void)state;
    struct engine_config config = config_of(600);
    fill_folder(&config, 100);
    struct bench b;
    open_bench(&b, &config, true);
    struct job job = job_of(2, 100);
    job.flags |= JOB_NO_CACHE;
    submit(&b, &job);
    run_all(&b);
    job = job_of(3, 100);
    job.flags |= JOB_PROMPT_LOGPROBS;
    submit(&b, &job);
    run_all(&b);
    job = job_of(4, 100);
    job.cache_salt = 9;
    submit(&b, &job);
    run_all(&b);
    for (int i = 2; i <= 4; i++) {
        assert_int_equal(b.log->jobs[i].n_cached, 0);
    }
    assert_int_equal(stats(&b)->disk_loads, 0);
    close_bench(&b);
}

static void choices_after_a_load(void **state)
{
    (void)state;
    struct engine_config config = config_of(600);
    fill_folder(&config, 100);
    struct bench b;
    open_bench(&b, &config, true);
    struct job job = job_of(2, 100);
    job.n_choices = 4;
    submit(&b, &job);
    run_all(&b);
    check_answer(&b, &job);
    assert_int_equal(b.log->jobs[2].n_cached, 99);
    assert_int_equal(stats(&b)->disk_loads, 1);
    close_bench(&b);
}

/* ---- while it is being read ---- */

/* The tier gives one block and then nothing. */
static void begin_stalled(struct bench *b, const struct engine_config *config)
{
    open_bench(b, config, true);
    atomic_store(&b->stalled, true);
    struct job job = job_of(2, 200);
    submit(b, &job);
    int64_t until_ms = clock_ms() + WAIT_MS;
    while (stats(b)->disk_blocks_read == 0) {
        assert_true(clock_ms() < until_ms);
        step(b);
    }
    assert_int_equal(stats(b)->running, 1);
    assert_int_equal(b->log->jobs[2].n_started, 0);
}

static void others_go_on(void **state)
{
    (void)state;
    struct engine_config config = config_of(900);
    struct bench b;
    int32_t other[50];
    fill_folder(&config, 200);
    begin_stalled(&b, &config);
    for (uint32_t i = 0; i < 50; i++) {
        other[i] = 49 - (int32_t)i % 40;
    }
    struct job job = job_of(3, 50), same = job_of(4, 200);
    job.prompt = other;
    submit(&b, &same); /* waits for the same blocks */
    submit(&b, &job);
    for (int i = 0; i < 20; i++) {
        step(&b);
    }
    assert_int_equal(b.log->jobs[3].choices[0].finish, FINISH_LENGTH);
    assert_int_equal(b.log->jobs[2].n_started + b.log->jobs[4].n_started, 0);
    assert_int_equal(stats(&b)->waiting, 1);
    atomic_store(&b.stalled, false);
    run_all(&b);
    assert_int_equal(b.log->jobs[2].n_cached, 199);
    assert_int_equal(b.log->jobs[4].n_cached, 199);
    assert_int_equal(stats(&b)->disk_loads, 1);
    check_plain(&b, 2, 200);
    check_plain(&b, 4, 200);
    close_bench(&b);
}

static void cancelled_while_reading(void **state)
{
    (void)state;
    struct engine_config config = config_of(900);
    struct bench b;
    fill_folder(&config, 200);
    begin_stalled(&b, &config);
    struct job same = job_of(4, 200);
    submit(&b, &same);
    step(&b);
    scheduler_cancel(b.s, 2, 0);
    step(&b); /* the next one begins, with what has come */
    assert_int_equal(b.log->jobs[2].choices[0].finish, FINISH_CANCELLED);
    assert_int_equal(stats(&b)->disk_loads, 2);
    atomic_store(&b.stalled, false);
    run_all(&b);
    check_plain(&b, 4, 200);
    assert_int_equal(b.log->jobs[4].n_cached, 199);
    assert_int_equal(stats(&b)->pages_referenced, 0);
    close_bench(&b);
}

static void cleared_while_reading(void **state)
{
    (void)state;
    struct engine_config config = config_of(900);
    struct bench b;
    fill_folder(&config, 200);
    begin_stalled(&b, &config);
    scheduler_clear_cache(b.s);
    assert_int_equal(stats(&b)->disk_blocks, 0);
    atomic_store(&b.stalled, false);
    run_all(&b);
    check_plain(&b, 2, 200);
    assert_int_equal(stats(&b)->disk_loads_abandoned, 1);
    assert_true(b.log->jobs[2].n_cached < 199);
    settle(&b);
    close_bench(&b);
    open_bench(&b, &config, true); /* what it computed then is there again */
    ask(&b, 2, 200);
    check_plain(&b, 2, 200);
    close_bench(&b);
}

/* Pages set aside for a reading are taken like those of any other sequence. */
static void preempted_while_reading(void **state)
{
    (void)state;
    struct engine_config config = config_of(80);
    struct bench b;
    fill_folder(&config, 200);
    open_bench(&b, &config, true);
    struct job urgent = job_of(3, 40), job = job_of(2, 200);
    int32_t other[40];
    for (uint32_t i = 0; i < 40; i++) {
        other[i] = 3;
    }
    urgent.prompt = other;
    urgent.max_tokens = 300;
    urgent.priority = -1;
    submit(&b, &urgent);
    step(&b);
    atomic_store(&b.stalled, true);
    submit(&b, &job);
    for (int i = 0; i < 400 && stats(&b)->preemptions == 0; i++) {
        step(&b);
    }
    assert_true(stats(&b)->preemptions > 0);
    atomic_store(&b.stalled, false);
    run_all(&b);
    check_answer(&b, &urgent);
    check_answer(&b, &job);
    close_bench(&b);
}

/* ---- when reading does not pay ---- */

static void silence_is_not_waited_for(void **state)
{
    (void)state;
    struct engine_config config = config_of(900);
    struct bench b;
    fill_folder(&config, 200);
    config.disk_always = false;
    open_bench(&b, &config, true);
    b.s->costs.token_ns = 200000; /* 200 tokens: 40 ms, of which it waits 10 */
    b.s->costs.block_ns = 1;
    atomic_store(&b.stalled, true);
    ask(&b, 2, 200);
    check_plain(&b, 2, 200);
    assert_int_equal(stats(&b)->disk_loads, 1);
    assert_int_equal(stats(&b)->disk_loads_abandoned, 1);
    assert_int_equal(stats(&b)->disk_tokens, 0);
    close_bench(&b);
}

static void slow_disks_are_left_alone(void **state)
{
    (void)state;
    struct engine_config config = config_of(900);
    struct bench b;
    fill_folder(&config, 200);
    config.disk_always = false;
    open_bench(&b, &config, true);
    uint32_t n = 0;
    do { /* each refusal makes the next one less likely: it is tried again in the end */
        b.s->costs.token_ns = 1e9;
        b.s->costs.block_ns = n == 0 ? 2 * 1e9 * PAGE : b.s->costs.block_ns;
        kv_evict_all(b.s->kv);
        ask(&b, ++n, 200);
        check_plain(&b, n, 200);
    } while (stats(&b)->disk_loads == 0 && n < 100);
    assert_int_equal(n, 7); /* 0.875 to the 6th is the first below a half */
    assert_int_equal(stats(&b)->disk_loads_declined, 6);
    assert_int_equal(stats(&b)->disk_tokens, 200);
    close_bench(&b);
}

/* ---- damage ---- */

static void damage_a_block(uint32_t slot)
{
    char path[600] = "";
    DIR *entries = opendir(dir.path);
    for (struct dirent *e; (e = readdir(entries));) {
        if (strstr(e->d_name, ".pages")) {
            snprintf(path, sizeof path, "%s/%s", dir.path, e->d_name);
        }
    }
    closedir(entries);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0 && file_write_at(fd, 4096 + 1024 * 128 + (uint64_t)slot * 4096 + 5, "?", 1) && close(fd) == 0);
}

static void damaged_blocks_are_computed(void **state)
{
    (void)state;
    struct engine_config config = config_of(900);
    struct bench b;
    fill_folder(&config, 200);
    damage_a_block(30);
    open_bench(&b, &config, true);
    ask(&b, 2, 200);
    check_plain(&b, 2, 200);
    assert_int_equal(stats(&b)->disk_blocks_dropped, 1);
    assert_int_equal(stats(&b)->disk_loads_abandoned, 1);
    assert_true(b.log->jobs[2].n_cached <= 120);
    settle(&b);
    close_bench(&b);
    open_bench(&b, &config, true); /* it was written anew */
    ask(&b, 2, 200);
    check_plain(&b, 2, 200);
    assert_int_equal(b.log->jobs[2].n_cached, 199);
    assert_int_equal(stats(&b)->disk_blocks_dropped, 0);
    close_bench(&b);
}

/* Pages of logits that were no numbers are gone from the disk too. */
static void bad_numbers_do_not_last(void **state)
{
    (void)state;
    struct engine_config config = config_of(900);
    struct bench b;
    open_bench(&b, &config, true);
    b.toy.bad_job = 1;
    ask(&b, 1, 200);
    assert_int_equal(b.log->jobs[1].failed, ERR_BAD_NUMBERS);
    settle(&b);
    assert_int_equal(stats(&b)->disk_blocks, 0);
    close_bench(&b);
    open_bench(&b, &config, true);
    ask(&b, 2, 200);
    assert_int_equal(b.log->jobs[2].n_cached, 0);
    close_bench(&b);
}

/* Those that have to wait for a place are read ahead; nothing else changes. */
static void queue_is_announced(void **state)
{
    (void)state;
    struct engine_config config = config_of(900);
    struct bench b;
    config.max_sequences = 1;
    fill_folder(&config, 200);
    open_bench(&b, &config, true);
    int32_t other[40] = {0};
    struct job first = job_of(2, 40), second = job_of(3, 200);
    first.prompt = other;
    submit(&b, &first);
    submit(&b, &second);
    step(&b);
    assert_true(b.s->queue && b.s->queue->read_ahead);
    run_all(&b);
    check_plain(&b, 3, 200);
    assert_int_equal(b.log->jobs[3].n_cached, 199);
    close_bench(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(hits_after_restart, set_up, tear_down),
        cmocka_unit_test_setup_teardown(sixteen_read_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(evicted_blocks_come_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(some_take_no_hits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(choices_after_a_load, set_up, tear_down),
        cmocka_unit_test_setup_teardown(others_go_on, set_up, tear_down),
        cmocka_unit_test_setup_teardown(cancelled_while_reading, set_up, tear_down),
        cmocka_unit_test_setup_teardown(cleared_while_reading, set_up, tear_down),
        cmocka_unit_test_setup_teardown(preempted_while_reading, set_up, tear_down),
        cmocka_unit_test_setup_teardown(silence_is_not_waited_for, set_up, tear_down),
        cmocka_unit_test_setup_teardown(slow_disks_are_left_alone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(damaged_blocks_are_computed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bad_numbers_do_not_last, set_up, tear_down),
        cmocka_unit_test_setup_teardown(queue_is_announced, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
