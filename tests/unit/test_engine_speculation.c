/* Guessed tokens on the toy model: whatever is guessed, by whom, and whatever comes between, a job gets what it gets
 * without guesses; the books balance after every step; and guesses and prompts get rows where they pay, on machines
 * whose time is made up. */
#include "tests/support/engine_bench.h"

#include "base/rng.h"
#include "engine/drafter_model.h"
#include "engine/scheduler.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

struct bench {
    struct engine_config config, draft_config;
    struct toy toy, draft_toy;
    struct drafter *drafter; /* NULL: without a draft model */
    struct toy_log *log;
    struct scheduler *s;
};

static void bench_init(struct bench *b, const struct engine_config *config)
{
    *b = (struct bench){.config = *config};
    b->s = bench_scheduler(&b->toy, &b->config, bench_mode, &b->log);
}

/* A draft model that samples as the toy does, with a pool of so many pages. */
static void add_draft_model(struct bench *b, size_t pool_pages)
{
    struct error err = {0};
    b->draft_config = b->config;
    b->draft_config.geometry.pool_size = pool_pages * 80;
    toy_init_mode(&b->draft_toy, &b->draft_config, (struct toy_mode){.blind = bench_mode.blind});
    struct model_drafter_options o = {.executor = &b->draft_toy.base,
                                      .geometry = b->draft_config.geometry,
                                      .page_tokens = b->config.page_tokens,
                                      .n_context = b->config.n_context,
                                      .n_vocab = b->config.n_vocab,
                                      .n_target_vocab = b->config.n_vocab,
                                      .max_sequences = b->config.max_sequences,
                                      .max_rows = b->config.max_batch_tokens};
    b->drafter = model_drafter_create(&o, &err);
    if (!b->drafter) {
        fail_msg("%s", err.msg);
    }
    scheduler_add_drafter(b->s, b->drafter);
}

static void bench_release(struct bench *b)
{
    scheduler_free(b->s);
    toy_release(&b->toy);
    if (b->drafter) {
        toy_release(&b->draft_toy);
    }
    toy_log_release(b->log);
    free(b->log);
}

static void submit(struct bench *b, const struct job *job)
{
    bench_submit(b->s, &b->config, job);
}

/* One step, with a recount behind it. */
static bool step(struct bench *b)
{
    struct error err = {0};
    bool ran = scheduler_step(b->s);
    bench_check(b->s, b->log);
    if (b->drafter && !model_drafter_check(b->drafter, &err)) {
        fail_msg("%s", err.msg);
    }
    return ran;
}

static void run_all(struct bench *b)
{
    int idle = 0;
    while (!scheduler_idle(b->s)) {
        idle = step(b) ? 0 : idle + 1;
        assert_true(idle < 10); /* no progress: a deadlock */
    }
    assert_int_equal(scheduler_stats(b->s)->pages_referenced, 0);
}

/* ---- random jobs, with predictions ---- */

#define MAX_JOBS 60

struct jobs {
    struct job jobs[MAX_JOBS];
    int32_t *prompts, *predictions;
    uint32_t n, max_prompt, max_tokens;
    struct toy_log *expected; /* of each alone, without guesses */
};

static uint32_t below(uint64_t seed, uint32_t at, uint32_t what, uint32_t n)
{
    return (uint32_t)(rng_uniform(seed, at, what, 8, RNG_SAMPLE) * n);
}

static void make_job(struct jobs *j, uint64_t seed, uint32_t i)
{
    struct job *job = &j->jobs[i];
    uint32_t shared = below(seed, i, 1, j->max_prompt);
    int32_t *prompt = j->prompts + (size_t)i * j->max_prompt;
    *job = (struct job){.id = i + 1, .n_choices = 1, .seed = seed * 1000 + i, .sampling = sampling_default()};
    job->n_prompt = 1 + below(seed, i, 0, j->max_prompt);
    job->prompt = prompt;
    for (uint32_t k = 0; k < job->n_prompt; k++) {
        prompt[k] = (int32_t)(k < shared ? k % 50 : below(seed, i * 1000 + k, 2, 50));
    }
    job->n_choices = below(seed, i, 3, 4) == 0 ? 1 + below(seed, i, 4, 4) : 1;
    job->max_tokens = 1 + below(seed, i, 5, j->max_tokens);
    job->min_tokens = below(seed, i, 6, 4) == 0 ? below(seed, i, 7, job->max_tokens + 1) : 0;
    job->priority = (int32_t)below(seed, i, 8, 3) - 1;
    job->flags = (below(seed, i, 10, 3) == 0 ? JOB_LOGPROBS : 0) | (below(seed, i, 11, 6) == 0 ? JOB_NO_CACHE : 0) |
                 (below(seed, i, 12, 5) == 0 ? JOB_PROMPT_LOGPROBS : 0) | JOB_DIGEST |
                 (below(seed, i, 13, 3) ? JOB_IGNORE_EOS : 0);
    job->n_top = job->flags & JOB_LOGPROBS ? 3 : 0;
}

static void expect(struct jobs *j, const struct engine_config *config)
{
    struct toy_mode together = bench_mode;
    struct engine_config alone = *config;
    alone.geometry.pool_size = 400 * 80;
    alone.prefix_cache = false;
    alone.speculation = SPECULATION_OFF;
    bench_mode.lazy = bench_mode.kv_private = false;
    j->expected = calloc(1, sizeof *j->expected);
    for (uint32_t i = 0; i < j->n; i++) {
        struct bench b;
        uint64_t id = j->jobs[i].id;
        bench_init(&b, &alone);
        submit(&b, &j->jobs[i]);
        run_all(&b);
        j->expected->jobs[id] = b.log->jobs[id];
        memset(&b.log->jobs[id], 0, sizeof b.log->jobs[id]);
        bench_release(&b);
    }
    bench_mode = together;
}

/* Predictions of the first choice: right, wrong from somewhere on, with tokens replaced, left out and put in, or noise.
 */
static void predict(struct jobs *j, uint64_t seed)
{
    for (uint32_t i = 0; i < j->n; i++) {
        struct job *job = &j->jobs[i];
        const struct toy_choice *c = &j->expected->jobs[job->id].choices[0];
        uint32_t kind = below(seed, i, 20, 6), n = 0;
        int32_t *to = j->predictions + (size_t)i * 2 * (j->max_tokens + 8);
        for (uint32_t k = 0; k < c->n; k++) {
            uint32_t dice = below(seed, i * 1000 + k, 21, 8);
            bool edit = (kind == 1 && dice == 0) || (kind == 2 && k > c->n / 2) || kind == 3;
            if (edit && dice % 3 == 1) {
                continue;
            }
            to[n++] = edit ? (int32_t)below(seed, i * 1000 + k, 22, 50) : c->ids[k];
            if (edit && dice % 3 == 2) {
                to[n++] = c->ids[k];
            }
        }
        for (uint32_t k = 0; kind != 4 && k < 8; k++) { /* longer than the answer will be */
            to[n++] = (int32_t)below(seed, i * 1000 + k, 23, 50);
        }
        job->prediction = n ? to : NULL;
        job->n_prediction = n;
    }
}

static struct jobs *make_jobs(uint64_t seed, uint32_t n, uint32_t max_prompt, uint32_t max_tokens,
                              const struct engine_config *config)
{
    struct jobs *j = calloc(1, sizeof *j);
    *j = (struct jobs){.n = n, .max_prompt = max_prompt, .max_tokens = max_tokens};
    j->prompts = calloc((size_t)n * max_prompt, sizeof *j->prompts);
    j->predictions = calloc((size_t)n * 2 * (max_tokens + 8), sizeof *j->predictions);
    for (uint32_t i = 0; i < n; i++) {
        make_job(j, seed, i);
    }
    expect(j, config);
    predict(j, seed);
    return j;
}

static void jobs_free(struct jobs *j)
{
    toy_log_release(j->expected);
    free(j->expected);
    free(j->prompts);
    free(j->predictions);
    free(j);
}

/* The jobs together, a few arriving per step; draft_pages 0: no draft model. */
static struct engine_stats together(const struct engine_config *config, const struct jobs *j, size_t draft_pages,
                                    uint32_t wrong_one_in)
{
    struct bench b;
    bench_init(&b, config);
    if (draft_pages) {
        add_draft_model(&b, draft_pages);
        b.draft_toy.wrong_one_in = wrong_one_in;
    }
    for (uint32_t i = 0, at = 0; i < j->n; at++) {
        for (uint32_t k = below(j->n, at, 30, 4); k > 0 && i < j->n; k--) {
            submit(&b, &j->jobs[i++]);
        }
        step(&b);
    }
    run_all(&b);
    for (uint32_t i = 0; i < j->n; i++) {
        uint64_t id = j->jobs[i].id;
        if (!toy_same(&b.log->jobs[id], &j->expected->jobs[id], j->jobs[i].n_choices)) {
            fail_msg("job %llu got something else than alone without guesses", (unsigned long long)id);
        }
    }
    struct engine_stats stats = *scheduler_stats(b.s);
    assert_true(stats.spec_accepted_tokens <= stats.spec_draft_tokens);
    assert_int_equal(stats.running + stats.waiting, 0);
    bench_release(&b);
    return stats;
}

/* ---- the same, whatever is guessed ---- */

static void guesses_change_nothing(void **state)
{
    (void)state;
    static const uint32_t chunks[] = {0, 1, 7};
    uint64_t n_drafted = 0, n_accepted = 0;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct engine_config config = toy_config(600);
        struct jobs *j = make_jobs(seed, 40, 60, 60, &config);
        config.speculation = SPECULATION_ON;
        for (size_t i = 0; i < 3; i++) {
            config.prefill_chunk = chunks[i];
            config.prefix_cache = i != 1;
            struct engine_stats stats = together(&config, j, 0, 0);
            n_drafted += stats.spec_draft_tokens;
            n_accepted += stats.spec_accepted_tokens;
            assert_int_equal(stats.steps_ahead, 0);
        }
        config.prefill_chunk = 0;
        config.max_drafts = DRAFT_MAX; /* a guess of several pages */
        (void)together(&config, j, 0, 0);
        config.max_batch_tokens = 3; /* fewer rows than sequences */
        (void)together(&config, j, 0, 0);
        config.max_batch_tokens = 32;
        config.speculation = SPECULATION_AUTO;
        (void)together(&config, j, 0, 0);
        jobs_free(j);
    }
    assert_true(n_accepted > 1000);
    assert_true(n_drafted - n_accepted > 1000);
}

static void through_preemption(void **state)
{
    (void)state;
    uint64_t n_preemptions = 0, n_accepted = 0;
    for (uint64_t seed = 11; seed <= 14; seed++) {
        struct engine_config config = toy_config(60); /* little more than one of the longest */
        struct jobs *j = make_jobs(seed, 30, 20, 150, &config);
        config.speculation = SPECULATION_ON;
        config.prefix_cache = seed % 2;
        struct engine_stats stats = together(&config, j, seed % 3 ? 0 : 40, 7);
        n_preemptions += stats.preemptions;
        n_accepted += stats.spec_accepted_tokens;
        jobs_free(j);
    }
    assert_true(n_preemptions > 20);
    assert_true(n_accepted > 500);
}

/* One group without a window, and one with a window alone. */
static void other_groups(void **state)
{
    (void)state;
    for (int windowed = 0; windowed < 2; windowed++) {
        struct engine_config config = toy_config(60);
        config.geometry.n_groups = 1;
        config.window[0] = windowed ? 9 : 0;
        struct jobs *j = make_jobs(21, 30, 60, 60, &config);
        config.speculation = SPECULATION_ON;
        config.max_drafts = 13; /* more than the window and a page */
        assert_true(together(&config, j, 0, 0).spec_accepted_tokens > 100);
        assert_true(together(&config, j, 100, 5).spec_accepted_tokens > 100);
        jobs_free(j);
    }
}

/* A draft model that is always right, often wrong, mostly wrong; with enough pages and with few. */
static void draft_models_change_nothing(void **state)
{
    (void)state;
    static const uint32_t wrong[] = {0, 4, 1}, pages[] = {600, 60, 30};
    for (uint64_t seed = 31; seed <= 33; seed++) {
        struct engine_config config = toy_config(600);
        struct jobs *j = make_jobs(seed, 40, 60, 60, &config);
        for (uint32_t i = 0; i < j->n; i++) {
            j->jobs[i].n_prediction = i % 3 ? 0 : j->jobs[i].n_prediction;
        }
        config.speculation = SPECULATION_ON;
        for (int i = 0; i < 3; i++) {
            config.prefill_chunk = i == 1 ? 5 : 0;
            struct engine_stats stats = together(&config, j, pages[i], wrong[i]);
            assert_true(stats.spec_model_draft_tokens > (wrong[i] == 1 ? 10 : 100)); /* who is never right is left */
            assert_true(stats.draft_rows > stats.spec_model_draft_tokens);
            if (wrong[i] == 0) { /* but for what the text itself guessed, and for ends */
                assert_true(stats.spec_model_accepted_tokens * 10 > stats.spec_model_draft_tokens * 9);
            } else {
                assert_true(stats.spec_model_accepted_tokens < stats.spec_model_draft_tokens);
            }
        }
        config.speculation = SPECULATION_AUTO;
        (void)together(&config, j, 300, 4);
        jobs_free(j);
    }
}

/* Submitted again with its first k tokens, a job gives the rest. */
static void resume_is_exact(void **state)
{
    (void)state;
    struct engine_config config = toy_config(600);
    struct jobs *j = make_jobs(41, 30, 40, 40, &config);
    struct job_accepted accepted[30][4];
    struct bench b;
    config.speculation = SPECULATION_ON;
    bench_init(&b, &config);
    add_draft_model(&b, 200);
    for (uint32_t i = 0; i < j->n; i++) {
        struct job job = j->jobs[i];
        for (uint32_t k = 0; k < job.n_choices; k++) {
            const struct toy_choice *c = &j->expected->jobs[job.id].choices[k];
            accepted[i][k] = (struct job_accepted){.ids = c->ids, .n = below(41, i, 40 + k, c->n + 1)};
        }
        job.accepted = accepted[i];
        submit(&b, &job);
        step(&b);
    }
    run_all(&b);
    for (uint32_t i = 0; i < j->n; i++) {
        for (uint32_t k = 0; k < j->jobs[i].n_choices; k++) {
            const struct toy_choice *got = &b.log->jobs[i + 1].choices[k], *want = &j->expected->jobs[i + 1].choices[k];
            assert_int_equal(got->n, want->n);
            assert_int_equal(got->finish, want->finish);
            for (uint32_t t = accepted[i][k].n; t < want->n; t++) {
                assert_int_equal(got->ids[t], want->ids[t]);
            }
        }
    }
    bench_release(&b);
    jobs_free(j);
}

/* Half of the jobs are cancelled at random moments; nothing stays behind, in either pool. */
static void nothing_leaks(void **state)
{
    (void)state;
    struct engine_config config = toy_config(120);
    struct jobs *j = make_jobs(51, MAX_JOBS, 50, 60, &config);
    struct bench b;
    config.speculation = SPECULATION_ON;
    bench_init(&b, &config);
    add_draft_model(&b, 50);
    b.draft_toy.wrong_one_in = 5;
    for (uint32_t i = 0, at = 0; i < j->n || !scheduler_idle(b.s); at++) {
        for (uint32_t k = below(51, at, 40, 4); k > 0 && i < j->n; k--) {
            submit(&b, &j->jobs[i++]);
        }
        if (i > 0 && below(51, at, 41, 4) == 0) {
            scheduler_cancel(b.s, j->jobs[below(51, at, 42, i)].id, below(51, at, 43, 2) ? UINT32_MAX : 0);
        }
        step(&b);
    }
    assert_int_equal(scheduler_stats(b.s)->jobs_finished, j->n);
    assert_int_equal(scheduler_stats(b.s)->pages_referenced, 0);
    bench_release(&b);
    jobs_free(j);
}

/* ---- single behaviours ---- */

static int32_t plain_prompt[2000];

static struct job plain_job(uint64_t id, uint32_t n_prompt, uint32_t max_tokens)
{
    for (int i = 0; i < 2000; i++) {
        plain_prompt[i] = 1 + (i * i + i / 7) % 49;
    }
    return (struct job){.id = id,
                        .n_choices = 1,
                        .seed = id,
                        .prompt = plain_prompt,
                        .n_prompt = n_prompt,
                        .max_tokens = max_tokens,
                        .flags = JOB_IGNORE_EOS,
                        .speculation = SPECULATION_ON,
                        .sampling = sampling_default()};
}

/* The tokens of a job without guesses; [job->max_tokens], free() it. */
static int32_t *tokens_of(const struct engine_config *config, const struct job *job)
{
    struct bench b;
    struct job plain = *job;
    int32_t *ids = calloc(job->max_tokens, sizeof *ids);
    plain.speculation = SPECULATION_OFF;
    bench_init(&b, config);
    submit(&b, &plain);
    run_all(&b);
    memcpy(ids, b.log->jobs[job->id].choices[0].ids, b.log->jobs[job->id].choices[0].n * sizeof *ids);
    bench_release(&b);
    return ids;
}

/* With the answer predicted, steps give eight tokens each, and one event holds them. */
static void right_guesses_save_steps(void **state)
{
    (void)state;
    struct engine_config config = toy_config(600);
    struct job job = plain_job(1, 20, 80);
    int32_t *ids = tokens_of(&config, &job);
    struct bench b;
    job.prediction = ids;
    job.n_prediction = 80;
    bench_init(&b, &config);
    submit(&b, &job);
    run_all(&b);
    const struct engine_stats *stats = scheduler_stats(b.s);
    assert_memory_equal(b.log->jobs[1].choices[0].ids, ids, 80 * sizeof *ids);
    assert_int_equal(stats->steps, 1 + (79 + 7) / 8);
    assert_int_equal(stats->spec_accepted_tokens, stats->spec_draft_tokens);
    assert_int_equal(stats->generated_tokens, 80);
    assert_int_equal(b.log->n_events, 1 + stats->steps + b.log->n_stats);
    bench_release(&b);
    free(ids);
}

/* Ends inside of a guess: by a stop id, by the number of tokens, by the end of text. */
static void ends_inside_a_guess(void **state)
{
    (void)state;
    for (uint32_t at = 1; at < 20; at++) {
        struct engine_config config = toy_config(600);
        struct job job = plain_job(1, 20, 40);
        int32_t *ids = tokens_of(&config, &job);
        struct bench b;
        uint32_t first = at;
        for (first = 0; ids[first] != ids[at]; first++) {
        }
        job.prediction = ids;
        job.n_prediction = 40;
        job.stop_ids = &ids[at];
        job.n_stop_ids = 1;
        bench_init(&b, &config);
        submit(&b, &job);
        run_all(&b);
        const struct toy_choice *c = &b.log->jobs[1].choices[0];
        assert_int_equal(c->n, first + 1);
        assert_int_equal(c->finish, FINISH_STOP);
        assert_int_equal(c->stop_id, ids[at]);
        bench_release(&b);
        job.n_stop_ids = 0;
        job.max_tokens = at;
        bench_init(&b, &config);
        submit(&b, &job);
        run_all(&b);
        c = &b.log->jobs[1].choices[0];
        assert_int_equal(c->n, at);
        assert_int_equal(c->finish, FINISH_LENGTH);
        assert_int_equal(scheduler_stats(b.s)->spec_draft_tokens, scheduler_stats(b.s)->spec_accepted_tokens);
        bench_release(&b);
        free(ids);
    }
}

/* What was decoded with guesses is in the prefix cache as it would be without, and no wrong guess is. */
static void cached_pages_are_right(void **state)
{
    (void)state;
    struct engine_config config = toy_config(600);
    struct job job = plain_job(1, 10, 61);
    int32_t *ids = tokens_of(&config, &job), prediction[61], turn[80];
    struct bench b;
    memcpy(prediction, ids, sizeof prediction);
    for (int i = 5; i < 61; i += 9) {
        prediction[i] = 1 + prediction[i] % 48;
    }
    job.prediction = prediction;
    job.n_prediction = 61;
    bench_init(&b, &config);
    submit(&b, &job);
    run_all(&b);
    assert_true(scheduler_stats(b.s)->spec_accepted_tokens > 20);
    assert_true(scheduler_stats(b.s)->spec_draft_tokens > scheduler_stats(b.s)->spec_accepted_tokens);
    memcpy(turn, plain_prompt, 10 * sizeof *turn);
    memcpy(turn + 10, ids, 61 * sizeof *turn);
    memcpy(turn + 71, plain_prompt, 9 * sizeof *turn);
    struct job second = plain_job(2, 80, 20);
    second.prompt = turn;
    int32_t *expected = tokens_of(&config, &second);
    submit(&b, &second);
    run_all(&b);
    assert_int_equal(b.log->jobs[2].n_cached, 68); /* whole pages of 70 computed tokens */
    assert_memory_equal(b.log->jobs[2].choices[0].ids, expected, 20 * sizeof *ids);
    bench_release(&b);
    free(ids);
    free(expected);
}

/* Numbers that are not finite fail a job where its own tokens lead to them, not where a wrong guess does. */
static void bad_numbers_of_guesses(void **state)
{
    (void)state;
    struct engine_config config = toy_config(600);
    struct job job = plain_job(1, 10, 40);
    int32_t *ids = tokens_of(&config, &job), prediction[40];
    int32_t never = 49;
    while (never > 0) { /* a token that the answer does not have */
        uint32_t i = 0;
        while (i < 40 && ids[i] != never) {
            i++;
        }
        if (i == 40) {
            break;
        }
        never--;
    }
    assert_true(never > 0);
    memcpy(prediction, ids, sizeof prediction);
    prediction[12] = prediction[20] = never;
    job.prediction = prediction;
    job.n_prediction = 40;
    struct bench b;
    bench_init(&b, &config);
    plain_prompt[0] = plain_prompt[0] == never ? 1 : plain_prompt[0];
    b.toy.bad_id = never;
    submit(&b, &job);
    run_all(&b);
    if (b.log->jobs[1].failed == ERR_NONE) { /* the prompt did not hold the token */
        assert_memory_equal(b.log->jobs[1].choices[0].ids, ids, sizeof prediction);
    }
    bench_release(&b);
    for (uint32_t at = 11; at < 20; at++) { /* a right guess: the tokens before it come, then the failure */
        uint32_t first = 0;
        while (ids[first] != ids[at]) {
            first++;
        }
        memcpy(prediction, ids, sizeof prediction);
        if (ids[at] == 0) {
            continue; /* the toy's word for none */
        }
        bench_init(&b, &config);
        submit(&b, &job);
        step(&b);
        b.toy.bad_id = ids[at];
        run_all(&b);
        assert_int_equal(b.log->jobs[1].failed, ERR_BAD_NUMBERS);
        assert_int_equal(b.log->jobs[1].choices[0].n, first + 1);
        bench_release(&b);
    }
    free(ids);
}

/* A step that does not fit into memory because of its guesses is made without them, also for a single sequence. */
static void memory_is_enough_without_guesses(void **state)
{
    (void)state;
    struct engine_config config = toy_config(600);
    struct job job = plain_job(1, 10, 60);
    int32_t *ids = tokens_of(&config, &job);
    struct bench b;
    job.prediction = ids;
    job.n_prediction = 60;
    bench_init(&b, &config);
    submit(&b, &job);
    step(&b);
    step(&b);
    assert_true(scheduler_stats(b.s)->spec_draft_tokens > 0);
    b.toy.fail_next = ERR_NO_MEMORY;
    run_all(&b);
    assert_int_equal(b.log->jobs[1].choices[0].n, 60);
    assert_memory_equal(b.log->jobs[1].choices[0].ids, ids, 60 * sizeof *ids);
    assert_int_equal(scheduler_stats(b.s)->preemptions, 0);
    bench_release(&b);
    free(ids);
}

/* In a pool that holds one sequence to its last token, guesses take nobody's pages and nothing starts again. */
static void pages_are_for_tokens(void **state)
{
    (void)state;
    struct engine_config config = toy_config(51);
    config.geometry.n_groups = 1;
    config.window[0] = 0;
    config.prefix_cache = false;
    struct job job = plain_job(1, 20, 180); /* 200 positions, 50 pages */
    int32_t *ids = tokens_of(&config, &job);
    struct bench b;
    job.prediction = ids;
    job.n_prediction = 180;
    bench_init(&b, &config);
    submit(&b, &job);
    run_all(&b);
    assert_memory_equal(b.log->jobs[1].choices[0].ids, ids, 180 * sizeof *ids);
    assert_int_equal(scheduler_stats(b.s)->preemptions, 0);
    bench_release(&b);
    free(ids);
}

/* The request's wish goes before the engine's; where steps run ahead, auto means off. */
static void wishes(void **state)
{
    (void)state;
    static const enum speculation given[] = {SPECULATION_DEFAULT, SPECULATION_OFF, SPECULATION_ON};
    for (int engine = 0; engine < 3; engine++) {
        for (int request = 0; request < 3; request++) {
            struct engine_config config = toy_config(600);
            struct job job = plain_job(1, 10, 30);
            int32_t *ids = tokens_of(&config, &job);
            struct bench b;
            config.speculation = given[engine];
            job.prediction = ids;
            job.n_prediction = 30;
            job.speculation = given[request];
            bench_init(&b, &config);
            submit(&b, &job);
            run_all(&b);
            bool on = given[request] ? given[request] == SPECULATION_ON : given[engine] == SPECULATION_ON;
            assert_int_equal(scheduler_stats(b.s)->spec_draft_tokens > 0, on);
            assert_int_equal(scheduler_stats(b.s)->steps_ahead > 0, bench_mode.lazy && !on);
            bench_release(&b);
            free(ids);
        }
    }
    if (bench_mode.lazy) {
        struct engine_config config = toy_config(600);
        struct job job = plain_job(1, 10, 30);
        struct bench b;
        job.speculation = SPECULATION_AUTO;
        bench_init(&b, &config);
        submit(&b, &job);
        run_all(&b);
        assert_true(scheduler_stats(b.s)->steps_ahead > 0);
        bench_release(&b);
    }
}

/* A draft model whose step fails is not asked again; answers go on. */
static void a_broken_draft_model(void **state)
{
    (void)state;
    struct engine_config config = toy_config(600);
    struct job job = plain_job(1, 10, 60);
    int32_t *ids = tokens_of(&config, &job);
    struct bench b;
    bench_init(&b, &config);
    add_draft_model(&b, 100);
    submit(&b, &job);
    for (int i = 0; i < 3; i++) {
        step(&b);
    }
    uint64_t n_steps = b.draft_toy.n_steps;
    assert_true(n_steps > 0);
    b.draft_toy.fail_next = ERR_INTERNAL;
    run_all(&b);
    assert_int_equal(b.draft_toy.n_steps, n_steps + 1);
    assert_memory_equal(b.log->jobs[1].choices[0].ids, ids, 60 * sizeof *ids);
    bench_release(&b);
    free(ids);
}

/* A prompt longer than a step is caught up with in pieces, beside the stream's own steps. */
static void draft_models_catch_up(void **state)
{
    (void)state;
    struct engine_config config = toy_config(600);
    config.max_batch_tokens = 16;
    struct job job = plain_job(1, 150, 40);
    int32_t *ids = tokens_of(&config, &job);
    struct bench b;
    bench_init(&b, &config);
    add_draft_model(&b, 100);
    submit(&b, &job);
    run_all(&b);
    assert_true(b.draft_toy.max_rows <= 16);
    assert_true(scheduler_stats(b.s)->spec_model_accepted_tokens > 15);
    assert_memory_equal(b.log->jobs[1].choices[0].ids, ids, 40 * sizeof *ids);
    bench_release(&b);
    free(ids);
}

/* ---- what pays, on made-up machines ---- */

/* Weights are read for 4 ms, in which 8 rows are computed; a sample is 0.05 ms. */
static uint64_t reading(const struct executor_step *step)
{
    uint64_t rows = 500000u * (uint64_t)step->batch->n_rows;
    return (rows > 4000000 ? rows : 4000000) + 50000u * (uint64_t)step->n_samples;
}

/* Each row takes as long as the first. */
static uint64_t computing(const struct executor_step *step)
{
    return 2000000u * (uint64_t)step->batch->n_rows + 100000;
}

/* A tenth of a row's time on the machine that reads. */
static uint64_t small(const struct executor_step *step)
{
    return 300000u + 30000u * (uint64_t)step->batch->n_rows;
}

struct trial {
    uint64_t (*cost)(const struct executor_step *step);
    uint32_t n_streams, n_tokens;
    uint32_t edit_every; /* of the prediction; 0: it is right; 1: noise */
    size_t draft_pages;
    uint32_t draft_wrong_one_in;
};

/* Made-up time of the streams' answers, after an answer that teaches what rows cost. */
static uint64_t run_trial(const struct trial *t, enum speculation speculation, struct engine_stats *stats)
{
    struct engine_config config = toy_config(2000);
    struct bench b;
    config.n_context = 1000;
    config.max_sequences = 16;
    config.max_batch_tokens = 64;
    config.max_drafts = 15;
    config.speculation = speculation;
    bench_init(&b, &config);
    b.toy.cost = t->cost;
    if (t->draft_pages) {
        add_draft_model(&b, t->draft_pages);
        b.draft_toy.cost = small;
        b.draft_toy.wrong_one_in = t->draft_wrong_one_in;
    }
    struct job warm = plain_job(99, 50, 30);
    warm.speculation = SPECULATION_DEFAULT;
    submit(&b, &warm);
    run_all(&b);
    int32_t *predictions[16] = {0};
    for (uint32_t i = 0; i < t->n_streams; i++) {
        struct job job = plain_job(1 + i, 20 + i, t->n_tokens);
        job.flags |= JOB_NO_CACHE;
        job.speculation = SPECULATION_DEFAULT;
        predictions[i] = tokens_of(&config, &job);
        for (uint32_t k = 0; t->edit_every && k < t->n_tokens; k += t->edit_every) {
            predictions[i][k] = 1 + (predictions[i][k] + 7 * (int32_t)k) % 48;
        }
        job.prediction = t->draft_pages ? NULL : predictions[i];
        job.n_prediction = t->draft_pages ? 0 : t->n_tokens;
        submit(&b, &job);
    }
    uint64_t before = b.toy.base.eval_ns + b.draft_toy.base.eval_ns;
    run_all(&b);
    uint64_t took = b.toy.base.eval_ns + b.draft_toy.base.eval_ns - before;
    *stats = *scheduler_stats(b.s);
    bench_release(&b);
    for (uint32_t i = 0; i < t->n_streams; i++) {
        free(predictions[i]);
    }
    return took;
}

static double gain_of(const struct trial *t, struct engine_stats *stats)
{
    struct engine_stats off;
    double without = (double)run_trial(t, SPECULATION_OFF, &off);
    assert_int_equal(off.spec_draft_tokens, 0);
    return without / (double)run_trial(t, SPECULATION_AUTO, stats);
}

static void auto_guesses_where_it_pays(void **state)
{
    (void)state;
    struct engine_stats stats;
    struct trial t = {.cost = reading, .n_streams = 1, .n_tokens = 400};
    assert_true(gain_of(&t, &stats) > 5); /* eight rows in the time of one */
    t.edit_every = 25;
    assert_true(gain_of(&t, &stats) > 2.5);
    t.edit_every = 1;
    assert_true(gain_of(&t, &stats) > 0.97);
    t = (struct trial){.cost = computing, .n_streams = 1, .n_tokens = 400, .edit_every = 25};
    assert_true(gain_of(&t, &stats) > 0.97);
    assert_true(stats.spec_draft_tokens < 100);
    t = (struct trial){.cost = reading, .n_streams = 16, .n_tokens = 100, .edit_every = 6};
    assert_true(gain_of(&t, &stats) > 0.97);
}

static void draft_models_are_asked_where_it_pays(void **state)
{
    (void)state;
    struct engine_stats stats;
    struct trial t = {.cost = reading, .n_streams = 1, .n_tokens = 400, .draft_pages = 400};
    assert_true(gain_of(&t, &stats) > 2);
    t.draft_wrong_one_in = 5;
    assert_true(gain_of(&t, &stats) > 1.3);
    t.draft_wrong_one_in = 1; /* it rests, for longer and longer */
    assert_true(gain_of(&t, &stats) > 0.93);
    assert_true(stats.spec_model_draft_tokens < 120);
    t = (struct trial){.cost = computing, .n_streams = 1, .n_tokens = 400, .draft_pages = 400, .draft_wrong_one_in = 3};
    assert_true(gain_of(&t, &stats) > 0.93);
}

/* ---- prompts beside streams ---- */

struct streams {
    struct bench b;
    uint32_t n;
    uint64_t last[16];   /* when each got its last token */
    uint64_t gaps[6000]; /* [n_gaps] between tokens */
    uint32_t n_gaps, seen[16];
};

static void streams_begin(struct streams *st, double factor)
{
    struct engine_config config = toy_config(20000);
    config.n_context = 4000;
    config.max_sequences = 64;
    config.max_batch_tokens = 256;
    config.prefix_cache = false;
    config.max_itl_factor = (float)factor;
    *st = (struct streams){.n = 16};
    bench_init(&st->b, &config);
    st->b.toy.cost = reading;
    for (uint32_t i = 0; i < st->n; i++) {
        struct job job = plain_job(1 + i, 30, 1000);
        job.speculation = SPECULATION_OFF;
        submit(&st->b, &job);
    }
    while (st->b.log->jobs[16].choices[0].n < 2) {
        scheduler_step(st->b.s);
    }
}

static void stream_step(struct streams *st)
{
    scheduler_step(st->b.s);
    for (uint32_t i = 0; i < st->n; i++) {
        uint32_t n = st->b.log->jobs[1 + i].choices[0].n;
        if (n > st->seen[i] && st->seen[i] && st->n_gaps < 6000) {
            st->gaps[st->n_gaps++] = st->b.toy.base.eval_ns - st->last[i];
        }
        if (n > st->seen[i]) {
            st->seen[i] = n;
            st->last[i] = st->b.toy.base.eval_ns;
        }
    }
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static double percentile(struct streams *st, double share)
{
    qsort(st->gaps, st->n_gaps, sizeof st->gaps[0], by_value);
    return (double)st->gaps[(uint32_t)(share * (st->n_gaps - 1))];
}

/* 95th percentile of the time between tokens while prompts of 1,000 tokens keep coming, over the median without any. */
static double slowdown(double factor, uint32_t *n_prompts)
{
    static struct streams st;
    streams_begin(&st, factor);
    for (int i = 0; i < 100; i++) {
        stream_step(&st);
    }
    double alone = percentile(&st, 0.5);
    st.n_gaps = 0;
    for (int i = 0; i < 200; i++) {
        if (i % 20 == 0) {
            struct job job = plain_job(100 + (uint64_t)i, 1000, 1);
            submit(&st.b, &job);
        }
        stream_step(&st);
    }
    double ratio = percentile(&st, 0.95) / alone;
    *n_prompts = 0;
    for (int i = 0; i < 200; i += 20) {
        *n_prompts += st.b.log->jobs[100 + i].choices[0].n;
    }
    bench_release(&st.b);
    return ratio;
}

static void prompts_do_not_stall_streams(void **state)
{
    (void)state;
    uint32_t n;
    assert_true(slowdown(0, &n) > 8); /* whole steps of prompts */
    assert_int_equal(n, 10);
    double bounded = slowdown(2.5, &n);
    assert_true(bounded <= 3 && bounded > 2); /* used, and kept */
    assert_true(n >= 3);                      /* and the prompts go on */
    assert_true(slowdown(1.1, &n) < 3);       /* the floor */
    assert_true(n >= 1);
}

/* Nobody is spared for a prompt that is more urgent than all who decode; and with nobody decoding it has all rows. */
static void urgent_prompts_have_all_rows(void **state)
{
    (void)state;
    for (int priority = -1; priority <= 1; priority++) {
        struct streams st;
        streams_begin(&st, 2.5);
        for (int i = 0; i < 50; i++) {
            stream_step(&st);
        }
        struct job job = plain_job(100, 1000, 1);
        job.priority = priority;
        submit(&st.b, &job);
        int n = 0;
        for (; st.b.log->jobs[100].choices[0].n == 0; n++) {
            stream_step(&st);
        }
        assert_true(priority < 0 ? n <= 5 : n > 20);
        bench_release(&st.b);
    }
}

/* Many prompts beside few streams: they are not held up for the sake of the few. */
static void crowds_count(void **state)
{
    (void)state;
    static const uint32_t crowds[] = {1, 8};
    int n[2] = {0};
    for (int i = 0; i < 2; i++) {
        struct engine_config config = toy_config(20000);
        struct bench b;
        config.n_context = 4000;
        config.max_batch_tokens = 256;
        config.max_sequences = 16;
        config.prefix_cache = false;
        config.max_itl_factor = 2.5f;
        bench_init(&b, &config);
        b.toy.cost = reading;
        struct job first = plain_job(1, 100, 1), second = plain_job(2, 100, 1), stream = plain_job(3, 10, 900);
        submit(&b, &first);
        run_all(&b);
        submit(&b, &second);
        run_all(&b);
        stream.speculation = SPECULATION_OFF;
        submit(&b, &stream);
        for (int k = 0; k < 60; k++) {
            step(&b);
        }
        for (uint32_t k = 0; k < crowds[i]; k++) {
            struct job job = plain_job(10 + k, 200, 1);
            submit(&b, &job);
        }
        uint64_t rows = b.toy.n_rows;
        while (b.toy.n_rows - rows < 200) {
            step(&b);
            n[i]++;
        }
        bench_release(&b);
    }
    assert_true(n[1] * 2 < n[0]);
}

#define IN_EVERY_MODE(test) cmocka_unit_test(test), IN_OTHER_MODES(test)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_EVERY_MODE(guesses_change_nothing),
        IN_EVERY_MODE(through_preemption),
        IN_EVERY_MODE(other_groups),
        IN_EVERY_MODE(draft_models_change_nothing),
        IN_EVERY_MODE(resume_is_exact),
        IN_EVERY_MODE(nothing_leaks),
        IN_EVERY_MODE(right_guesses_save_steps),
        IN_EVERY_MODE(ends_inside_a_guess),
        IN_EVERY_MODE(cached_pages_are_right),
        IN_EVERY_MODE(bad_numbers_of_guesses),
        IN_EVERY_MODE(memory_is_enough_without_guesses),
        IN_EVERY_MODE(pages_are_for_tokens),
        IN_EVERY_MODE(wishes),
        IN_EVERY_MODE(a_broken_draft_model),
        IN_EVERY_MODE(draft_models_catch_up),
        cmocka_unit_test(auto_guesses_where_it_pays),
        cmocka_unit_test(draft_models_are_asked_where_it_pays),
        cmocka_unit_test(prompts_do_not_stall_streams),
        cmocka_unit_test(urgent_prompts_have_all_rows),
        cmocka_unit_test(crowds_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
