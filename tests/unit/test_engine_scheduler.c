/* The scheduler step by step on the toy model: what a job gets must not depend on who is beside it, on chunks, pages,
 * preemption or hits; and after every step the books must balance. */
#include "tests/support/engine_bench.h"
#include "tests/support/temp_dir.h"

#include "base/clock.h"
#include "base/rng.h"
#include "engine/scheduler.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static bool with_disk;   /* and whether each has a disk tier, empty at first */
static bool with_states; /* and a group of states, a page of which is as large as two blocks */

struct bench {
    struct engine_config config;
    struct toy toy;
    struct toy_log *log;
    struct scheduler *s;
    struct kv_disk *disk;
    struct temp_dir dir;
};

static void open_disk(struct bench *b)
{
    struct error err = {0};
    struct kv_disk_options options = {.dir = b->dir.path,
                                      .max_size = 1 << 20, /* some two hundred blocks: they make room for others */
                                      .page_tokens = b->config.page_tokens,
                                      .n_groups = b->config.geometry.n_groups};
    memcpy(options.page_size, b->config.geometry.page_size, sizeof options.page_size);
    temp_dir_make(&b->dir);
    b->disk = kv_disk_create(&options, &err);
    if (!b->disk) {
        fail_msg("%s", err.msg);
    }
    b->config.disk_always = true;
    scheduler_set_disk(b->s, b->disk);
}

static void bench_init(struct bench *b, const struct engine_config *config)
{
    *b = (struct bench){.config = *config};
    if (with_states) {
        toy_add_states(&b->config, 240);
    }
    b->s = bench_scheduler(&b->toy, &b->config, bench_mode, &b->log);
    if (with_disk) {
        open_disk(b);
    }
}

static void bench_release(struct bench *b)
{
    scheduler_free(b->s);
    if (b->disk) {
        kv_disk_free(b->disk);
        temp_dir_remove(&b->dir);
    }
    toy_release(&b->toy);
    toy_log_release(b->log);
    free(b->log);
}

static void check(struct bench *b)
{
    bench_check(b->s, b->log);
}

static void submit(struct bench *b, const struct job *job)
{
    bench_submit(b->s, &b->config, job);
}

/* One step, with a recount behind it. */
static bool step(struct bench *b)
{
    bool ran = scheduler_step(b->s);
    check(b);
    return ran;
}

/* Until all that was offered to the disk is there, however slow it is. */
static void settle_disk(struct bench *b)
{
    while (kv_disk_stats(b->disk).queued > 0) {
        clock_sleep_ms(1);
        step(b);
    }
}

static void run_all(struct bench *b)
{
    int idle = 0;
    while (!scheduler_idle(b->s)) {
        idle = step(b) ? 0 : idle + 1;
        assert_true(idle < (with_disk ? 60000 : 10)); /* no progress: a deadlock */
        if (idle && with_disk) {
            clock_sleep_ms(1); /* what it waits for is being read */
        }
    }
    const struct engine_stats *stats = scheduler_stats(b->s);
    assert_int_equal(stats->pages_referenced, 0);
    assert_int_equal(stats->running, 0);
    assert_int_equal(stats->waiting, 0);
}

/* ---- random jobs ---- */

struct random_jobs {
    struct job jobs[TOY_MAX_JOBS];
    int32_t *prompts;
    uint32_t n;
};

static uint32_t below(uint64_t seed, uint32_t at, uint32_t what, uint32_t n)
{
    return (uint32_t)(rng_uniform(seed, at, what, 9, RNG_SAMPLE) * n);
}

/* Prompts share prefixes of random lengths, so that hits, waits and forks happen. */
static struct random_jobs *random_jobs(uint64_t seed, uint32_t n, uint32_t max_prompt, uint32_t max_tokens)
{
    struct random_jobs *r = calloc(1, sizeof *r);
    r->n = n;
    r->prompts = calloc((size_t)n * max_prompt, sizeof *r->prompts);
    for (uint32_t i = 0; i < n; i++) {
        struct job *job = &r->jobs[i];
        uint32_t shared = below(seed, i, 1, max_prompt);
        int32_t *prompt = r->prompts + (size_t)i * max_prompt;
        *job = (struct job){.id = i + 1, .n_choices = 1, .seed = seed * 1000 + i, .sampling = sampling_default()};
        job->n_prompt = 1 + below(seed, i, 0, max_prompt);
        job->prompt = prompt;
        for (uint32_t k = 0; k < job->n_prompt; k++) {
            prompt[k] = (int32_t)(k < shared ? k % 50 : below(seed, i * 1000 + k, 2, 50));
        }
        job->n_choices = below(seed, i, 3, 4) == 0 ? 1 + below(seed, i, 4, 4) : 1;
        job->max_tokens = 1 + below(seed, i, 5, max_tokens);
        job->min_tokens = below(seed, i, 6, 4) == 0 ? below(seed, i, 7, job->max_tokens + 1) : 0;
        job->priority = (int32_t)below(seed, i, 8, 3) - 1;
        job->flags = (below(seed, i, 10, 3) == 0 ? JOB_LOGPROBS : 0) | (below(seed, i, 11, 6) == 0 ? JOB_NO_CACHE : 0) |
                     (below(seed, i, 12, 5) == 0 ? JOB_PROMPT_LOGPROBS : 0) | JOB_DIGEST |
                     (below(seed, i, 13, 3) == 0 ? JOB_IGNORE_EOS : 0) | JOB_PROGRESS;
        if (bench_mode.lazy && i % 4) /* logprobs and digests want the host */
            job->flags &= ~(uint32_t)(JOB_LOGPROBS | JOB_DIGEST);
    }
    return r;
}

static void random_jobs_free(struct random_jobs *r)
{
    free(r->prompts);
    free(r);
}

/* Every job alone, in a pool of its own, without a cache: what it must get anywhere. */
static struct toy_log *expected_of(const struct engine_config *config, const struct random_jobs *jobs)
{
    struct toy_log *all = calloc(1, sizeof *all);
    struct engine_config alone = *config;
    alone.geometry.pool_size = 400 * 80;
    alone.prefix_cache = false;
    alone.prefill_chunk = 0;
    alone.max_batch_tokens = 64;
    struct toy_mode together_mode = bench_mode;
    bool together_disk = with_disk;
    with_disk = false;
    bench_mode.lazy = bench_mode.kv_private = false; /* what is computed does not depend on it */
    for (uint32_t i = 0; i < jobs->n; i++) {
        struct bench b;
        bench_init(&b, &alone);
        submit(&b, &jobs->jobs[i]);
        run_all(&b);
        uint64_t id = jobs->jobs[i].id;
        all->jobs[id] = b.log->jobs[id];
        memset(&b.log->jobs[id], 0, sizeof b.log->jobs[id]);
        bench_release(&b);
    }
    bench_mode = together_mode;
    with_disk = together_disk;
    return all;
}

static void log_free(struct toy_log *log)
{
    toy_log_release(log);
    free(log);
}

static void assert_as_expected(const struct bench *b, const struct random_jobs *jobs, const struct toy_log *expected)
{
    for (uint32_t i = 0; i < jobs->n; i++) {
        uint64_t id = jobs->jobs[i].id;
        if (!toy_same(&b->log->jobs[id], &expected->jobs[id], jobs->jobs[i].n_choices)) {
            fail_msg("job %llu got something else than alone", (unsigned long long)id);
        }
        assert_int_equal(b->log->jobs[id].n_started, 1);
        if (jobs->jobs[i].flags & JOB_PROMPT_LOGPROBS) {
            assert_int_equal(b->log->jobs[id].n_scored, jobs->jobs[i].n_prompt);
            assert_int_equal(b->log->jobs[id].n_cached, 0);
        }
    }
}

/* Every step is of one phase, and so is its time. */
static void assert_phases_add_up(const struct engine_stats *stats)
{
    assert_int_equal(stats->steps_decode + stats->steps_prefill + stats->steps_mixed, stats->steps);
    assert_true(stats->step_decode_ns + stats->step_prefill_ns + stats->step_mixed_ns == stats->step_ns);
    assert_true((stats->steps_decode > 0) == (stats->step_decode_ns > 0));
}

static void assert_preemptions_are_told(const struct bench *b, const struct engine_stats *stats)
{
    uint64_t n = 0;
    for (size_t i = 0; i < TOY_MAX_JOBS; i++) {
        n += b->log->jobs[i].n_preempted;
    }
    assert_true(with_disk ? n <= stats->preemptions : n == stats->preemptions); /* reading from disk is waiting */
}

/* Runs the jobs together, arriving a few per step. */
static void together(const struct engine_config *config, const struct random_jobs *jobs, const struct toy_log *expected,
                     struct engine_stats *stats)
{
    struct bench b;
    bench_init(&b, config);
    for (uint32_t i = 0, at = 0; i < jobs->n; at++) {
        for (uint32_t k = below(jobs->n, at, 20, 5); k > 0 && i < jobs->n; k--) {
            submit(&b, &jobs->jobs[i++]);
        }
        step(&b);
    }
    run_all(&b);
    assert_as_expected(&b, jobs, expected);
    *stats = *scheduler_stats(b.s);
    assert_phases_add_up(stats);
    assert_preemptions_are_told(&b, stats);
    bench_release(&b);
}

static void batch_invariance(void **state)
{
    (void)state;
    uint64_t n_ahead = 0;
    static const uint32_t chunks[] = {0, 1, 7};
    for (uint64_t seed = 1; seed <= 4; seed++) {
        struct engine_config config = toy_config(600);
        struct random_jobs *jobs = random_jobs(seed, 40, 60, 40);
        struct toy_log *expected = expected_of(&config, jobs);
        struct engine_stats stats;
        for (size_t i = 0; i < 3; i++) {
            config.prefill_chunk = chunks[i];
            config.prefix_cache = true;
            together(&config, jobs, expected, &stats);
            assert_int_equal(stats.jobs_admitted, 40);
            assert_int_equal(stats.jobs_finished, 40);
            assert_true(stats.cached_tokens > 0 && stats.cache_hits > 0);
            assert_true(stats.steps_mixed > 0);
            config.prefix_cache = false;
            together(&config, jobs, expected, &stats);
            assert_int_equal(stats.cached_tokens, 0);
            n_ahead += stats.steps_ahead;
        }
        config.max_batch_tokens = 3; /* fewer rows than sequences */
        config.prefix_cache = true;
        together(&config, jobs, expected, &stats);
        log_free(expected);
        random_jobs_free(jobs);
    }
    assert_int_equal(n_ahead > 0, bench_mode.lazy);
}

static void preemption_is_exact(void **state)
{
    (void)state;
    uint64_t n_preemptions = 0, n_evicted = 0, n_from_disk = 0;
    for (uint64_t seed = 11; seed <= 16; seed++) {
        struct engine_config config = toy_config(60); /* little more than one of the longest */
        struct random_jobs *jobs = random_jobs(seed, 30, 20, 150);
        for (uint32_t i = 0; i < jobs->n; i++) {
            jobs->jobs[i].flags |= JOB_IGNORE_EOS; /* long answers, which admission cannot foresee */
        }
        struct toy_log *expected = expected_of(&config, jobs);
        struct engine_stats stats;
        config.prefill_chunk = seed % 2 ? 5 : 0;
        together(&config, jobs, expected, &stats);
        n_preemptions += stats.preemptions;
        n_evicted += stats.pages_evicted;
        n_from_disk += stats.disk_tokens;
        config.prefix_cache = false;
        together(&config, jobs, expected, &stats);
        n_preemptions += stats.preemptions;
        log_free(expected);
        random_jobs_free(jobs);
    }
    assert_true(n_preemptions > 50);
    assert_true(n_evicted > 0);
    assert_int_equal(n_from_disk > 0, with_disk);
}

static struct job plain_job(uint64_t id, uint32_t n_prompt, uint32_t max_tokens);

/* Bytes that the pool was said to hold nothing in: whoever reads them gets other tokens than alone. */
static void clobber(void *arg, size_t offset, size_t size)
{
    struct bench *b = arg;
    memset((char *)b->toy.kv + offset, 0xa5, size);
}

/* A limit that goes up and down under them, now and then urgently: everybody gets what it gets alone. */
static void limits_change_nothing(void **state)
{
    (void)state;
    uint64_t n_given_back = 0, n_preemptions = 0;
    for (uint64_t seed = 41; seed <= 44; seed++) {
        struct engine_config config = toy_config(150);
        struct random_jobs *jobs = random_jobs(seed, 30, 40, 60);
        struct toy_log *expected = expected_of(&config, jobs);
        struct bench b;
        config.reserve_output = seed % 2;
        bench_init(&b, &config);
        if (!bench_mode.lazy) { /* there a step may still be on its way */
            scheduler_on_discard(b.s, clobber, &b);
        }
        for (uint32_t i = 0, at = 0; i < jobs->n || !scheduler_idle(b.s); at++) {
            assert_true(at < 20000);
            if (i < jobs->n && below(seed, at, 20, 3) == 0) {
                submit(&b, &jobs->jobs[i++]);
            }
            if (below(seed, at, 21, 8) == 0) {
                scheduler_limit_pool(b.s, below(seed, at, 22, 16000), below(seed, at, 23, 2));
            }
            step(&b);
        }
        assert_as_expected(&b, jobs, expected);
        n_given_back += scheduler_stats(b.s)->pages_given_back;
        n_preemptions += scheduler_stats(b.s)->preemptions;
        scheduler_limit_pool(b.s, 0, false);
        while (scheduler_is_resizing(b.s)) {
            step(&b);
        }
        assert_true(scheduler_stats(b.s)->kv_usable_size < scheduler_stats(b.s)->kv_size / 4);
        scheduler_limit_pool(b.s, UINT64_MAX, false);
        step(&b);
        assert_true(scheduler_stats(b.s)->kv_usable_size + 240 > scheduler_stats(b.s)->kv_size);
        bench_release(&b);
        log_free(expected);
        random_jobs_free(jobs);
    }
    assert_true(n_given_back > (with_states ? 300 : 1000) && n_preemptions > 0); /* in pages of the largest group */
}

/* A warning takes cached pages only; what is critical takes pages of those that run too, but for one. */
static void limits_spare_who_runs(void **state)
{
    (void)state;
    for (int urgent = 0; urgent < 2; urgent++) {
        struct engine_config config = toy_config(400);
        struct bench b;
        bench_init(&b, &config);
        static int32_t prompts[5][80];
        for (uint64_t id = 1; id <= 5; id++) {
            struct job job = plain_job(id, 80, id == 1 ? 1 : 60);
            for (int k = 0; k < 80; k++) {
                prompts[id - 1][k] = (int32_t)((id * 7 + (uint64_t)k) % 40);
            }
            job.prompt = prompts[id - 1];
            submit(&b, &job);
            if (id == 1) {
                run_all(&b); /* leaves its pages in the cache */
            }
        }
        while (scheduler_stats(b.s)->running < 4 || scheduler_stats(b.s)->generated_tokens < 20) {
            step(&b);
        }
        uint64_t n_cached = scheduler_stats(b.s)->pages_cached;
        assert_true(n_cached > 0);
        scheduler_limit_pool(b.s, 0, urgent);
        step(&b);
        step(&b);
        const struct engine_stats *stats = scheduler_stats(b.s);
        assert_true(stats->pages_cached < n_cached); /* but for those beside pages that are in use */
        assert_true(stats->pages_given_back > 0);
        assert_int_equal(stats->preemptions, urgent ? 3 : 0);
        assert_int_equal(stats->running, urgent ? 1 : 4);
        run_all(&b); /* all of them finish */
        for (uint64_t id = 2; id <= 5; id++) {
            assert_int_equal(b.log->jobs[id].choices[0].n, 60);
        }
        bench_release(&b);
    }
}

/* Many long answers in a pool that holds a few: with room kept for them nobody gives way, once it is known how long
 * they get; without, they do again and again. */
static void room_for_answers_is_kept(void **state)
{
    (void)state;
    uint64_t n_preemptions[2];
    for (int reserve = 0; reserve < 2; reserve++) {
        struct engine_config config = toy_config(110);
        struct bench b;
        config.reserve_output = reserve;
        config.prefix_cache = false;
        bench_init(&b, &config);
        for (uint64_t id = 1; id <= 60; id++) {
            struct job job = plain_job(id, 20, 100 + (uint32_t)(id * 7 % 80));
            submit(&b, &job);
        }
        run_all(&b);
        n_preemptions[reserve] = scheduler_stats(b.s)->preemptions;
        bench_release(&b);
    }
    print_message("  %llu preemptions without, %llu with\n", (unsigned long long)n_preemptions[0],
                  (unsigned long long)n_preemptions[1]);
    assert_true(n_preemptions[0] > 10);
    assert_true(n_preemptions[1] <= 2);
}

/* Of a group with a window little room is kept for who decodes, however many rows a prompt's step may have: the pool
 * holds all eight at once, and nobody gives way. */
static void room_in_windows_is_for_decoding(void **state)
{
    (void)state;
    struct engine_config config = toy_config(240);
    struct bench b;
    uint64_t most = 0;
    config.reserve_output = true;
    config.prefix_cache = false;
    config.max_batch_tokens = 256;
    bench_init(&b, &config);
    for (uint64_t id = 1; id <= 48; id++) {
        struct job job = plain_job(id, 20, 100);
        job.flags |= JOB_IGNORE_EOS;
        submit(&b, &job);
    }
    while (!scheduler_idle(b.s)) {
        const struct engine_stats *stats = scheduler_stats(b.s);
        assert_true(step(&b));
        if (stats->jobs_finished >= 16 && stats->waiting > 0) { /* how long answers get is known */
            most = stats->running > most ? stats->running : most;
        }
    }
    assert_int_equal(most, config.max_sequences);
    assert_true(scheduler_stats(b.s)->preemptions <= 2);
    bench_release(&b);
}

/* One group without a window, and one with a window alone. */
static void other_groups(void **state)
{
    (void)state;
    for (int windowed = 0; windowed < 2; windowed++) {
        struct engine_config config = toy_config(60);
        config.geometry.n_groups = 1;
        config.window[0] = windowed ? 9 : 0;
        struct random_jobs *jobs = random_jobs(21, 30, 60, 40);
        struct toy_log *expected = expected_of(&config, jobs);
        struct engine_stats stats;
        together(&config, jobs, expected, &stats);
        assert_true(stats.cached_tokens > 0);
        log_free(expected);
        random_jobs_free(jobs);
    }
}

/* Submitted again with its first k tokens, a job gives the rest; also when it was complete. */
static void resume_is_exact(void **state)
{
    (void)state;
    struct engine_config config = toy_config(600);
    struct random_jobs *jobs = random_jobs(31, 30, 40, 20);
    struct toy_log *expected = expected_of(&config, jobs);
    struct bench b;
    bench_init(&b, &config);
    struct job_accepted accepted[30][4];
    for (uint32_t i = 0; i < jobs->n; i++) {
        struct job job = jobs->jobs[i];
        for (uint32_t k = 0; k < job.n_choices; k++) {
            const struct toy_choice *c = &expected->jobs[job.id].choices[k];
            accepted[i][k] = (struct job_accepted){c->ids, below(31, i, 30 + k, c->n + 1), false};
        }
        job.accepted = accepted[i];
        submit(&b, &job);
        if (i % 3 == 0) {
            step(&b);
        }
    }
    run_all(&b);
    for (uint32_t i = 0; i < jobs->n; i++) {
        uint64_t id = jobs->jobs[i].id;
        for (uint32_t k = 0; k < jobs->jobs[i].n_choices; k++) {
            const struct toy_choice *got = &b.log->jobs[id].choices[k], *want = &expected->jobs[id].choices[k];
            assert_int_equal(got->n, want->n);
            assert_int_equal(got->finish, want->finish);
            assert_int_equal(got->stop_id, want->stop_id);
            for (uint32_t t = accepted[i][k].n; t < want->n; t++) {
                assert_int_equal(got->ids[t], want->ids[t]);
                assert_true(got->digests[t] == want->digests[t]);
            }
        }
    }
    bench_release(&b);
    log_free(expected);
    random_jobs_free(jobs);
}

/* ---- single behaviours ---- */

static int32_t plain_prompt[300];

static struct job plain_job(uint64_t id, uint32_t n_prompt, uint32_t max_tokens)
{
    for (int i = 0; i < 300; i++) {
        plain_prompt[i] = 1 + i % 40;
    }
    return (struct job){.id = id,
                        .n_choices = 1,
                        .seed = id,
                        .prompt = plain_prompt,
                        .n_prompt = n_prompt,
                        .max_tokens = max_tokens,
                        .flags = JOB_IGNORE_EOS,
                        .sampling = sampling_default()};
}

/* The second of two equal prompts takes all but the last token from the cache, at a page border (a copy of the last
 * page) and one token before and behind it. */
static void whole_prompt_hits(void **state)
{
    (void)state;
    for (uint32_t n = 39; n <= 41; n++) {
        struct engine_config config = toy_config(600);
        struct bench b;
        bench_init(&b, &config);
        struct job first = plain_job(1, n, 5), second = plain_job(2, n, 5);
        second.seed = first.seed;
        submit(&b, &first);
        run_all(&b);
        uint64_t rows = b.toy.n_rows, copies = b.toy.n_copies;
        submit(&b, &second);
        run_all(&b);
        assert_true(toy_same(&b.log->jobs[1], &b.log->jobs[2], 1));
        assert_int_equal(b.log->jobs[2].n_cached, n == 39 ? 36 : n == 40 ? 39 : 40);
        assert_int_equal(b.toy.n_rows - rows, n - b.log->jobs[2].n_cached + 4);
        if (!bench_mode.kv_private) {
            assert_int_equal(b.toy.n_copies - copies, n == 40 ? 2 : 0); /* one page of each group */
        } else {
            assert_true(b.toy.n_copies - copies >= 9); /* all that a hit of 36 tokens sees */
        }
        scheduler_clear_cache(b.s);
        check(&b);
        assert_int_equal(scheduler_stats(b.s)->pages_cached, 0);
        struct job third = plain_job(3, n, 5);
        submit(&b, &third);
        run_all(&b);
        assert_int_equal(b.log->jobs[3].n_cached, 0);
        bench_release(&b);
    }
}

/* From the job's creation until it is admitted, and what it had waited before; once, whatever becomes of it later. */
static void queue_time_is_measured(void **state)
{
    (void)state;
    struct engine_config config = toy_config(600);
    struct bench b;
    config.max_sequences = 1;
    bench_init(&b, &config);
    struct job first = plain_job(1, 10, 5), second = plain_job(2, 10, 5);
    second.waited_us = 7000000;
    submit(&b, &first);
    submit(&b, &second);
    clock_sleep_ms(30);
    run_all(&b);
    assert_int_equal(b.log->jobs[1].n_started, 1);
    assert_true(b.log->jobs[1].queue_us >= 30000);
    assert_true(b.log->jobs[2].queue_us >= 7030000 && b.log->jobs[2].queue_us < (uint64_t)3600 * 1000000);
    bench_release(&b);
}

static void queried_and_saved_tokens_are_counted(void **state)
{
    (void)state;
    struct engine_config config = toy_config(600);
    struct bench b;
    bench_init(&b, &config);
    struct job first = plain_job(1, 41, 3), second = plain_job(2, 41, 3), without = plain_job(3, 41, 3);
    without.flags |= JOB_NO_CACHE;
    const struct job *jobs[] = {&first, &second, &without};
    for (int i = 0; i < 3; i++) {
        submit(&b, jobs[i]);
        run_all(&b);
    }
    assert_int_equal(scheduler_stats(b.s)->queried_tokens, 82);
    assert_int_equal(scheduler_stats(b.s)->cached_tokens, 40);
    bench_release(&b);
}

/* What decoding filled is a prefix too: the second turn of a conversation. */
static void decoded_pages_are_hit(void **state)
{
    (void)state;
    struct engine_config config = toy_config(600);
    struct bench b;
    bench_init(&b, &config);
    struct job first = plain_job(1, 10, 31);
    submit(&b, &first);
    run_all(&b);
    int32_t turn[60];
    memcpy(turn, plain_prompt, 10 * sizeof *turn);
    memcpy(turn + 10, b.log->jobs[1].choices[0].ids, 31 * sizeof *turn);
    struct job second = plain_job(2, 45, 3);
    memcpy(turn + 41, plain_prompt, 4 * sizeof *turn);
    second.prompt = turn;
    submit(&b, &second);
    run_all(&b);
    assert_int_equal(b.log->jobs[2].n_cached, 40); /* the last sampled token was never computed */
    bench_release(&b);
}

static void salts_do_not_mix(void **state)
{
    (void)state;
    struct engine_config config = toy_config(600);
    struct bench b;
    bench_init(&b, &config);
    for (uint64_t i = 1; i <= 3; i++) {
        struct job job = plain_job(i, 41, 3);
        job.cache_salt = i == 2;
        submit(&b, &job);
        run_all(&b);
    }
    assert_int_equal(b.log->jobs[2].n_cached, 0);
    assert_int_equal(b.log->jobs[3].n_cached, 40);
    bench_release(&b);
}

/* Requests that arrive together with one long prefix compute it once. */
static void prefix_in_progress_is_awaited(void **state)
{
    (void)state;
    struct engine_config config = toy_config(900);
    config.max_batch_tokens = 16;
    config.max_sequences = 16;
    struct bench b;
    int32_t prompts[16][104];
    bench_init(&b, &config);
    for (uint32_t i = 0; i < 16; i++) {
        struct job job = plain_job(i + 1, 104, 2);
        memcpy(prompts[i], plain_prompt, sizeof prompts[i]);
        prompts[i][103] = (int32_t)i + 1;
        job.prompt = prompts[i];
        submit(&b, &job);
    }
    run_all(&b);
    assert_int_equal(b.toy.n_rows, 104 + 15 * 4 + 16);
    assert_int_equal(scheduler_stats(b.s)->cached_tokens, 15 * 100);
    bench_release(&b);
}

/* When the one who computes the prefix is cancelled, the others go on without it. */
static void waiting_survives_a_cancel(void **state)
{
    (void)state;
    struct engine_config config = toy_config(900);
    config.max_batch_tokens = 8;
    struct bench b;
    bench_init(&b, &config);
    for (uint64_t i = 1; i <= 4; i++) {
        struct job job = plain_job(i, 100, 2);
        submit(&b, &job);
    }
    for (int i = 0; i < 5; i++) {
        step(&b);
    }
    assert_int_equal(scheduler_stats(b.s)->running, 1);
    assert_int_equal(scheduler_stats(b.s)->waiting, 3);
    scheduler_cancel(b.s, 1, UINT32_MAX);
    run_all(&b);
    assert_int_equal(b.log->jobs[1].choices[0].finish, FINISH_CANCELLED);
    for (int i = 2; i <= 4; i++) {
        assert_int_equal(b.log->jobs[i].choices[0].finish, FINISH_LENGTH);
    }
    assert_int_equal(b.log->jobs[2].n_cached, 40); /* what the first had computed */
    bench_release(&b);
}

/* n choices compute the prompt once, share its pages, and copy the last one when they write. */
static void choices_share_the_prompt(void **state)
{
    (void)state;
    struct engine_config config = toy_config(600);
    config.prefix_cache = false;
    struct bench b;
    bench_init(&b, &config);
    struct job job = plain_job(1, 30, 6);
    job.n_choices = 4;
    submit(&b, &job);
    run_all(&b);
    assert_int_equal(b.toy.n_rows, 30 + 4 * 5);
    assert_int_equal(b.toy.n_copies, 3 * 2); /* all but the last writer, one page of each group */
    const struct toy_choice *c = b.log->jobs[1].choices;
    assert_true(memcmp(c[0].ids, c[1].ids, 6 * 4) != 0 && memcmp(c[2].ids, c[3].ids, 6 * 4) != 0);
    bench_release(&b);

    config.max_sequences = 2; /* the others come later and compute the prompt again */
    bench_init(&b, &config);
    submit(&b, &job);
    run_all(&b);
    assert_int_equal(b.toy.n_rows, 2 * 30 + 4 * 5);
    bench_release(&b);
}

static void one_choice_is_cancelled(void **state)
{
    (void)state;
    struct engine_config config = toy_config(600);
    struct bench b;
    bench_init(&b, &config);
    struct job job = plain_job(1, 30, 20);
    job.n_choices = 3;
    submit(&b, &job);
    for (int i = 0; i < 5; i++) {
        step(&b);
    }
    scheduler_cancel(b.s, 1, 1);
    scheduler_cancel(b.s, 7, 0); /* nobody */
    run_all(&b);
    const struct toy_choice *c = b.log->jobs[1].choices;
    assert_int_equal(c[0].finish, FINISH_LENGTH);
    assert_int_equal(c[1].finish, FINISH_CANCELLED);
    assert_int_equal(c[1].n, 5);
    assert_int_equal(c[2].finish, FINISH_LENGTH);
    assert_int_equal(c[2].n, 20);
    bench_release(&b);
}

static void priorities_go_first(void **state)
{
    (void)state;
    struct engine_config config = toy_config(600);
    config.max_sequences = 1;
    config.prefix_cache = false;
    struct bench b;
    bench_init(&b, &config);
    for (uint64_t i = 1; i <= 6; i++) {
        struct job job = plain_job(i, 10, 3);
        job.priority = i == 5 ? -1 : i == 2 ? 1 : 0;
        submit(&b, &job);
    }
    run_all(&b);
    const struct toy_job *j = b.log->jobs;
    assert_true(j[5].start_seq < j[1].start_seq && j[1].start_seq < j[3].start_seq && j[3].start_seq < j[4].start_seq &&
                j[4].start_seq < j[6].start_seq && j[6].start_seq < j[2].start_seq);
    bench_release(&b);
}

/* Who is less urgent leaves its place and its pages, goes on later, and says what it would have said undisturbed. */
static void urgent_ones_do_not_wait(void **state)
{
    (void)state;
    static const struct {
        uint32_t n_pages, max_sequences, n_prompt;
    } shapes[] = {{600, 2, 10} /* no place */, {0, 8, 60} /* no pages */};
    for (size_t k = 0; k < sizeof shapes / sizeof shapes[0]; k++) {
        struct engine_config config = toy_config(600);
        config.max_sequences = shapes[k].max_sequences;
        config.prefix_cache = false;
        struct bench b, alone;
        struct job idle[] = {plain_job(1, shapes[k].n_prompt, 30), plain_job(2, shapes[k].n_prompt, 30)};
        struct job urgent = plain_job(3, shapes[k].n_prompt, 4);
        bench_init(&alone, &config);
        submit(&alone, &idle[0]);
        submit(&alone, &idle[1]);
        run_all(&alone);
        if (shapes[k].n_pages == 0) { /* so many that two of them fit */
            config = toy_config(2 * (shapes[k].n_prompt + 36) / 4);
            config.max_sequences = shapes[k].max_sequences;
            config.prefix_cache = false;
        }
        bench_init(&b, &config);
        for (int i = 0; i < 2; i++) {
            idle[i].priority = JOB_PRIORITY_IDLE;
            submit(&b, &idle[i]);
        }
        for (int i = 0; i < 6; i++) {
            step(&b);
        }
        submit(&b, &urgent);
        uint32_t before = b.log->jobs[1].choices[0].n;
        int steps = 0;
        while (b.log->jobs[3].choices[0].finish == FINISH_NONE && steps < 20) {
            step(&b);
            steps++;
        }
        assert_int_equal(b.log->jobs[3].choices[0].n, 4);
        assert_true(before < 30 && b.log->jobs[2].choices[0].finish == FINISH_NONE);
        run_all(&b);
        for (int i = 1; i <= 2; i++) {
            const struct toy_choice *c = b.log->jobs[i].choices, *e = alone.log->jobs[i].choices;
            assert_int_equal(c->n, 30);
            assert_memory_equal(c->ids, e->ids, 30 * sizeof *c->ids);
        }
        assert_true(scheduler_stats(b.s)->preemptions >= 1);
        bench_release(&b);
        bench_release(&alone);
    }
}

/* A long prompt does not hold up running streams, nor a short prompt behind it, and is not starved by short ones. */
static void prefill_is_fair(void **state)
{
    (void)state;
    struct engine_config config = toy_config(900);
    config.max_batch_tokens = 16;
    config.prefix_cache = false;
    struct bench b;
    bench_init(&b, &config);
    struct job stream = plain_job(1, 4, 60), large = plain_job(2, 180, 2), small = plain_job(3, 7, 2);
    submit(&b, &stream);
    step(&b);
    submit(&b, &large);
    submit(&b, &small);
    uint32_t before = b.log->jobs[1].choices[0].n;
    step(&b);
    assert_int_equal(b.log->jobs[1].choices[0].n, before + 1);
    assert_int_equal(b.log->jobs[3].choices[0].n, 1); /* in the step of its arrival */
    int steps = 1;
    while (b.log->jobs[2].choices[0].n == 0) {
        struct job more = plain_job(10 + (uint64_t)steps, 9, 1);
        submit(&b, &more);
        step(&b);
        steps++;
    }
    assert_true(steps <= 180 / 7 + 1); /* half of the budget at least */
    assert_int_equal(b.log->jobs[1].choices[0].n, before + (uint32_t)steps);
    run_all(&b);
    bench_release(&b);
}

static void deadlines_pass(void **state)
{
    (void)state;
    struct engine_config config = toy_config(600);
    config.max_sequences = 1;
    struct bench b;
    bench_init(&b, &config);
    struct job running = plain_job(1, 10, 150), queued = plain_job(2, 10, 3), patient = plain_job(3, 10, 3);
    running.timeout_ms = 60;
    queued.timeout_ms = 30;
    patient.timeout_ms = 60000;
    submit(&b, &running);
    submit(&b, &queued);
    submit(&b, &patient);
    b.toy.delay_ms = 2;
    run_all(&b);
    assert_int_equal(b.log->jobs[1].failed, ERR_DEADLINE);
    assert_true(b.log->jobs[1].choices[0].n > 0);
    assert_int_equal(b.log->jobs[2].failed, ERR_DEADLINE);
    assert_int_equal(b.log->jobs[2].n_started, 0);
    assert_int_equal(b.log->jobs[3].choices[0].finish, FINISH_LENGTH);
    bench_release(&b);
}

static void stop_ids_and_min_tokens(void **state)
{
    (void)state;
    struct engine_config config = toy_config(600);
    struct bench b;
    bench_init(&b, &config);
    int32_t stops[40];
    for (int i = 0; i < 40; i++) {
        stops[i] = i + 5;
    }
    for (uint32_t n_stops = 20; n_stops <= 40; n_stops += 20) { /* few enough for a list, then a mask */
        struct job job = plain_job(n_stops, 10, 30);
        job.flags = 0;
        job.stop_ids = stops;
        job.n_stop_ids = n_stops;
        job.min_tokens = 12;
        submit(&b, &job);
        run_all(&b);
        const struct toy_choice *c = &b.log->jobs[n_stops].choices[0];
        assert_int_equal(c->finish, FINISH_STOP);
        assert_true(c->n > 12 && c->stop_id == c->ids[c->n - 1]);
        for (uint32_t i = 0; i < 12; i++) {
            assert_true(c->ids[i] != 0 && (c->ids[i] < 5 || c->ids[i] >= 5 + (int32_t)n_stops));
        }
    }
    bench_release(&b);
}

static void prompts_are_scored(void **state)
{
    (void)state;
    for (uint32_t n_prompt = 1; n_prompt <= 101; n_prompt += 50) {
        struct engine_config config = toy_config(900);
        config.max_batch_tokens = 90;
        struct bench b;
        bench_init(&b, &config);
        struct job warm = plain_job(1, n_prompt, 1), scored = plain_job(2, n_prompt, 0),
                   both = plain_job(3, n_prompt, 2);
        scored.flags = both.flags = JOB_PROMPT_LOGPROBS | JOB_IGNORE_EOS;
        both.n_choices = 3;
        submit(&b, &warm);
        run_all(&b);
        submit(&b, &scored);
        submit(&b, &both);
        run_all(&b);
        assert_int_equal(b.log->jobs[2].n_scored, n_prompt);
        assert_int_equal(b.log->jobs[3].n_scored, n_prompt);
        assert_true(b.log->jobs[2].score_sum == b.log->jobs[3].score_sum);
        assert_int_equal(b.log->jobs[2].choices[0].n, 0);
        assert_int_equal(b.log->jobs[2].choices[0].finish, FINISH_LENGTH);
        assert_int_equal(b.log->jobs[3].choices[2].n, 2);
        assert_int_equal(b.log->jobs[2].n_cached + b.log->jobs[3].n_cached, 0);
        bench_release(&b);
    }
}

static void bad_numbers_fail_one_job(void **state)
{
    (void)state;
    struct engine_config config = toy_config(600);
    struct bench b;
    bench_init(&b, &config);
    b.toy.bad_job = 2;
    for (uint64_t i = 1; i <= 3; i++) {
        struct job job = plain_job(i, 41, 4);
        submit(&b, &job);
    }
    run_all(&b);
    assert_int_equal(b.log->jobs[2].failed, ERR_BAD_NUMBERS);
    assert_int_equal(b.log->jobs[1].choices[0].finish, FINISH_LENGTH);
    assert_int_equal(b.log->jobs[3].choices[0].finish, FINISH_LENGTH);
    struct job last = plain_job(4, 41, 1);
    uint32_t in_use = b.log->jobs[3].n_cached;
    b.toy.bad_job = 4;
    submit(&b, &last);
    run_all(&b);
    b.toy.bad_job = 0;
    struct job after = plain_job(5, 41, 1);
    submit(&b, &after);
    run_all(&b);
    assert_true(in_use > 0);
    assert_int_equal(b.log->jobs[5].n_cached, 0); /* its prefix was forgotten */
    bench_release(&b);
}

static void failed_steps(void **state)
{
    (void)state;
    struct engine_config config = toy_config(600);
    struct random_jobs *jobs = random_jobs(41, 6, 30, 20);
    struct toy_log *expected = expected_of(&config, jobs);
    struct bench b;
    bench_init(&b, &config);
    for (uint32_t i = 0; i < 6; i++) {
        submit(&b, &jobs->jobs[i]);
    }
    for (int i = 0; !scheduler_idle(b.s);
         i++) { /* too little memory now and then: somebody gives way, nothing changes */
        b.toy.fail_next = i % 5 == 2 && scheduler_stats(b.s)->running > 1 ? ERR_NO_MEMORY : ERR_NONE;
        step(&b);
    }
    assert_as_expected(&b, jobs, expected);
    assert_true(scheduler_stats(b.s)->preemptions > 0);
    bench_release(&b);
    log_free(expected);
    random_jobs_free(jobs);

    bench_init(&b, &config);
    struct job first = plain_job(1, 10, 5), second = plain_job(2, 10, 5), third = plain_job(3, 10, 5);
    submit(&b, &first);
    submit(&b, &second);
    step(&b);
    b.toy.fail_next = ERR_INTERNAL;
    step(&b);
    submit(&b, &third);
    run_all(&b);
    assert_int_equal(b.log->jobs[1].failed, ERR_INTERNAL);
    assert_int_equal(b.log->jobs[3].choices[0].finish, FINISH_LENGTH);
    bench_release(&b);
}

/* Whoever watches must not take a large first step for a hang: before a step of its size is known, a slow machine's
 * time is expected of it, reckoned from the weights. */
static void first_steps_have_time(void **state)
{
    (void)state;
    struct engine_config config = toy_config(200);
    _Atomic uint64_t expected_ns = 0;
    struct bench b;
    bench_init(&b, &config);
    scheduler_set_sizes(b.s, 1000000000);
    scheduler_set_expected(b.s, &expected_ns);
    struct job one = plain_job(1, 1, 3), many = plain_job(2, 20, 1);
    submit(&b, &one);
    for (int i = 0; i < 3; i++) { /* the first is not noted */
        step(&b);
        assert_true(i == 2 ? expected_ns < 500000000 : expected_ns > 1000000000);
    }
    submit(&b, &many);
    step(&b);
    assert_true(expected_ns > 1500000000);
    bench_release(&b);
}

static void pausing_stops_admission_only(void **state)
{
    (void)state;
    struct engine_config config = toy_config(600);
    struct bench b;
    bench_init(&b, &config);
    struct job first = plain_job(1, 10, 5), second = plain_job(2, 10, 5);
    submit(&b, &first);
    step(&b);
    scheduler_pause(b.s, true);
    submit(&b, &second);
    for (int i = 0; i < 10; i++) {
        step(&b);
    }
    assert_int_equal(b.log->jobs[1].choices[0].finish, FINISH_LENGTH);
    assert_int_equal(b.log->jobs[2].n_started, 0);
    scheduler_pause(b.s, false);
    run_all(&b);
    assert_int_equal(b.log->jobs[2].choices[0].finish, FINISH_LENGTH);
    bench_release(&b);
}

/* A thousand jobs of every kind through a small pool, a third of them cancelled at random moments. */
static void nothing_leaks(void **state)
{
    (void)state;
    struct engine_config config = toy_config(120);
    struct random_jobs *jobs = random_jobs(51, 1000, 50, 30);
    struct bench b;
    bench_init(&b, &config);
    for (uint32_t i = 0, at = 0; i < jobs->n || !scheduler_idle(b.s); at++) {
        for (uint32_t k = below(51, at, 40, 6); k > 0 && i < jobs->n; k--) {
            submit(&b, &jobs->jobs[i++]);
        }
        if (i > 0 && below(51, at, 41, 2)) {
            uint64_t id = jobs->jobs[i - 1 - below(51, at, 42, i < 30 ? i : 30)].id;
            scheduler_cancel(b.s, id, below(51, at, 43, 2) ? UINT32_MAX : below(51, at, 44, 3));
        }
        if (at % 97 == 0 && i < jobs->n / 2) {
            scheduler_clear_cache(b.s);
        }
        if (at % 50 == 0 && i > jobs->n / 2 && with_disk) { /* else a slow disk would hold nothing before the end */
            settle_disk(&b);
        }
        if (!step(&b) && with_disk) {
            clock_sleep_ms(1);
        }
    }
    const struct engine_stats *stats = scheduler_stats(b.s);
    assert_int_equal(stats->pages_referenced, 0);
    assert_int_equal(stats->jobs_finished, 1000);
    assert_int_equal(stats->jobs_failed, 0);
    assert_int_equal(stats->disk_tokens > 0, with_disk);
    scheduler_clear_cache(b.s);
    check(&b);
    assert_int_equal(scheduler_stats(b.s)->pages_cached, 0);
    bench_release(&b);
    random_jobs_free(jobs);
}

static int disk(void **state)
{
    with_disk = true;
    return bench_eager(state);
}

static int no_disk(void **state)
{
    with_disk = false;
    return bench_eager(state);
}

static int states(void **state)
{
    with_states = true;
    return bench_eager(state);
}

static int lazy_states(void **state)
{
    with_states = true;
    return bench_lazy(state);
}

static int private_states(void **state)
{
    with_states = true;
    return bench_lazy_and_private(state);
}

static int no_states(void **state)
{
    with_states = false;
    return bench_eager(state);
}

#define WITH_STATES(test)                                              \
    cmocka_unit_test_setup_teardown(test, states, no_states),          \
        cmocka_unit_test_setup_teardown(test, lazy_states, no_states), \
        cmocka_unit_test_setup_teardown(test, private_states, no_states)

#define ON_DISK(test) cmocka_unit_test_setup_teardown(test, disk, no_disk)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batch_invariance),
        cmocka_unit_test(preemption_is_exact),
        cmocka_unit_test(limits_change_nothing),
        cmocka_unit_test(limits_spare_who_runs),
        cmocka_unit_test(room_for_answers_is_kept),
        cmocka_unit_test(room_in_windows_is_for_decoding),
        cmocka_unit_test(other_groups),
        cmocka_unit_test(resume_is_exact),
        cmocka_unit_test(whole_prompt_hits),
        cmocka_unit_test(queue_time_is_measured),
        cmocka_unit_test(queried_and_saved_tokens_are_counted),
        cmocka_unit_test(decoded_pages_are_hit),
        cmocka_unit_test(salts_do_not_mix),
        cmocka_unit_test(prefix_in_progress_is_awaited),
        cmocka_unit_test(waiting_survives_a_cancel),
        cmocka_unit_test(choices_share_the_prompt),
        cmocka_unit_test(one_choice_is_cancelled),
        cmocka_unit_test(priorities_go_first),
        cmocka_unit_test(urgent_ones_do_not_wait),
        cmocka_unit_test(prefill_is_fair),
        cmocka_unit_test(deadlines_pass),
        cmocka_unit_test(stop_ids_and_min_tokens),
        cmocka_unit_test(prompts_are_scored),
        cmocka_unit_test(bad_numbers_fail_one_job),
        cmocka_unit_test(failed_steps),
        cmocka_unit_test(first_steps_have_time),
        cmocka_unit_test(pausing_stops_admission_only),
        cmocka_unit_test(nothing_leaks),
        IN_OTHER_MODES(batch_invariance),
        IN_OTHER_MODES(preemption_is_exact),
        IN_OTHER_MODES(limits_change_nothing),
        IN_OTHER_MODES(other_groups),
        IN_OTHER_MODES(resume_is_exact),
        IN_OTHER_MODES(whole_prompt_hits),
        IN_OTHER_MODES(waiting_survives_a_cancel),
        cmocka_unit_test_setup_teardown(one_choice_is_cancelled, bench_lazy, bench_eager),
        IN_OTHER_MODES(deadlines_pass),
        IN_OTHER_MODES(stop_ids_and_min_tokens),
        IN_OTHER_MODES(prompts_are_scored),
        IN_OTHER_MODES(bad_numbers_fail_one_job),
        IN_OTHER_MODES(failed_steps),
        IN_OTHER_MODES(nothing_leaks),
        WITH_STATES(batch_invariance),
        WITH_STATES(preemption_is_exact),
        WITH_STATES(limits_change_nothing),
        WITH_STATES(other_groups),
        WITH_STATES(resume_is_exact),
        WITH_STATES(waiting_survives_a_cancel),
        WITH_STATES(prompts_are_scored),
        WITH_STATES(bad_numbers_fail_one_job),
        WITH_STATES(failed_steps),
        WITH_STATES(nothing_leaks),
        ON_DISK(batch_invariance),
        ON_DISK(preemption_is_exact),
        ON_DISK(limits_change_nothing),
        ON_DISK(other_groups),
        ON_DISK(resume_is_exact),
        ON_DISK(whole_prompt_hits),
        ON_DISK(salts_do_not_mix),
        ON_DISK(prefix_in_progress_is_awaited),
        ON_DISK(waiting_survives_a_cancel),
        ON_DISK(choices_share_the_prompt),
        ON_DISK(deadlines_pass),
        ON_DISK(bad_numbers_fail_one_job),
        ON_DISK(failed_steps),
        ON_DISK(nothing_leaks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
