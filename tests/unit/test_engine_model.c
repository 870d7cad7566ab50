/* The whole engine on models: random small ones (one KV group, two with a window, one of convolutions, and one of
 * states) and SmolLM2 where it is there. What a job gets, to the digest of each row's logits, is the same alone and
 * among others, whole and in chunks, with one thread and two, with hits, preempted, and resumed. */
#include "tests/support/engine_run.h"
#include "tests/support/vocab_file.h"

#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define MAX_JOBS   32
#define MAX_PROMPT 160

struct workload {
    struct job jobs[MAX_JOBS];
    int32_t prompts[MAX_JOBS][MAX_PROMPT];
    struct job_bias bias[2];
    int32_t stops[2], breakers[1];
    uint32_t n;
};

static uint32_t below(uint32_t at, uint32_t what, uint32_t n)
{
    return (uint32_t)(rng_uniform(77, at, what, 0, RNG_SAMPLE) * n);
}

static void mix_sampling(struct workload *w, uint32_t i)
{
    struct job *job = &w->jobs[i];
    struct sampling *s = &job->sampling;
    s->temperature = i % 4 == 0 ? 0 : 0.5f + (float)(i % 5) / 4;
    s->top_p = i % 3 == 1 ? 0.9f : 1;
    s->top_k = i % 5 == 2 ? 40 : 0;
    s->min_p = i % 7 == 3 ? 0.02f : 0;
    s->repetition_penalty = i % 6 == 4 ? 1.2f : 1;
    s->presence_penalty = i % 6 == 5 ? 0.5f : 0;
    s->frequency_penalty = i % 5 == 4 ? 0.3f : 0;
    s->dry_multiplier = i % 8 == 6 ? 0.8f : 0;
    s->xtc_probability = i % 9 == 7 ? 0.5f : 0;
    s->typical_p = i % 10 == 8 ? 0.9f : 1;
    s->top_n_sigma = i % 11 == 9 ? 1.5f : -1;
    if (i % 4 == 1) {
        job->bias = w->bias;
        job->n_bias = 2;
    }
    if (i % 5 == 3) {
        job->stop_ids = w->stops;
        job->n_stop_ids = 2;
        job->min_tokens = 3;
    }
    job->dry_breakers = w->breakers;
    job->n_dry_breakers = 1;
}

/* n_vocab: ids below it are used; prompts share prefixes of many lengths. */
static struct workload *make_workload(uint32_t n, uint32_t n_vocab, uint32_t max_prompt, uint32_t max_tokens)
{
    struct workload *w = calloc(1, sizeof *w);
    w->n = n;
    w->bias[0] = (struct job_bias){5, 4};
    w->bias[1] = (struct job_bias){9, -100};
    w->stops[0] = 20;
    w->stops[1] = 30;
    for (uint32_t i = 0; i < n; i++) {
        struct job *job = &w->jobs[i];
        uint32_t shared = below(i, 1, max_prompt);
        *job =
            (struct job){.id = i + 1, .n_choices = i % 8 == 5 ? 4 : 1, .seed = i * 31, .sampling = sampling_default()};
        job->prompt = w->prompts[i];
        job->n_prompt = i == 3 ? max_prompt : i == 4 ? 64 : 1 + below(i, 0, max_prompt);
        for (uint32_t k = 0; k < job->n_prompt; k++) {
            w->prompts[i][k] = (int32_t)(k < shared ? (k * 7) % n_vocab : below(i * 1000 + k, 2, n_vocab));
        }
        job->max_tokens = 1 + below(i, 3, max_tokens);
        job->flags = JOB_DIGEST | (i % 2 ? JOB_LOGPROBS : 0) | (i % 9 == 2 ? JOB_PROMPT_LOGPROBS : 0) |
                     (i % 3 ? JOB_IGNORE_EOS : 0);
        job->n_top = i % 2 ? 3 : 0;
        mix_sampling(w, i);
    }
    return w;
}

static void assert_same(const struct workload *w, const struct toy_log *got, const struct toy_log *want,
                        const char *how)
{
    for (uint32_t i = 0; i < w->n; i++) {
        uint64_t id = w->jobs[i].id;
        if (got->jobs[id].failed || !toy_same(&got->jobs[id], &want->jobs[id], w->jobs[i].n_choices)) {
            fail_msg("job %llu differs %s", (unsigned long long)id, how);
        }
    }
}

/* One after the other, without a cache. */
static void run_alone(const struct engine_options *options, const struct workload *w, struct engine_run *r)
{
    struct engine_options o = *options;
    o.prefix_cache = false;
    engine_run_open(r, &o);
    for (uint32_t i = 0; i < w->n; i++) {
        engine_run_submit(r, &w->jobs[i]);
        engine_run_wait(r, i + 1);
    }
    engine_run_close(r);
}

static void run_together(const struct engine_options *o, const struct workload *w, struct engine_run *r,
                         struct engine_stats *stats)
{
    engine_run_open(r, o);
    engine_pause(r->engine, true);
    for (uint32_t i = 0; i < w->n; i++) {
        engine_run_submit(r, &w->jobs[i]);
    }
    engine_pause(r->engine, false);
    engine_run_wait(r, w->n);
    engine_stats(r->engine, stats);
    engine_run_close(r);
}

static size_t pool_for(const char *path, uint32_t n_tokens)
{
    struct error err = {0};
    struct decoder_config config;
    struct model_file *file = model_file_open(path, &err);
    assert_non_null(file);
    assert_true(decoder_config_read(file, &config, &err));
    model_file_close(file);
    return engine_kv_bytes(&config, KV_F16, 64, n_tokens);
}

struct variant {
    const char *name;
    int n_threads;
    uint32_t chunk, max_batch_tokens;
    bool small_pool; /* holds little more than one sequence */
    bool no_cache;
};

static void check_variant(const struct engine_options *options, const struct variant *v, const struct workload *w,
                          const struct toy_log *alone)
{
    struct engine_options o = *options;
    struct engine_run r;
    struct engine_stats stats;
    o.backend.cpu.n_threads = v->n_threads;
    o.prefill_chunk = v->chunk;
    o.max_batch_tokens = v->max_batch_tokens;
    o.prefix_cache = !v->no_cache;
    if (v->small_pool) {
        o.pool_size = pool_for(o.model_path, 256);
    }
    run_together(&o, w, &r, &stats);
    print_message("  %s: %llu steps, %llu mixed, %llu cached, %llu preempted\n", v->name,
                  (unsigned long long)stats.steps, (unsigned long long)stats.steps_mixed,
                  (unsigned long long)stats.cached_tokens, (unsigned long long)stats.preemptions);
    assert_same(w, r.log, alone, v->name);
    assert_true(!v->small_pool || stats.preemptions > 0);
    assert_true(v->no_cache || stats.cached_tokens > 0);
    assert_true(stats.steps_mixed > 0);
    engine_run_release(&r);
}

static void check_invariance(const struct engine_options *options, const struct workload *w)
{
    static const struct variant variants[] = {
        {"together", 1, 0, 256, false, false},    {"two threads", 2, 0, 64, false, false},
        {"chunks of 7", 1, 7, 256, false, false}, {"chunks without cache", 2, 7, 40, false, true},
        {"preempted", 1, 0, 64, true, false},
    };
    struct engine_run alone;
    run_alone(options, w, &alone);
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++) {
        check_variant(options, &variants[i], w, alone.log);
    }
    engine_run_release(&alone);
}

static void check_resume(const struct engine_options *options, const struct workload *w)
{
    struct engine_run alone, resumed;
    struct job_accepted accepted[MAX_JOBS][4];
    run_alone(options, w, &alone);
    engine_run_open(&resumed, options);
    for (uint32_t i = 0; i < w->n; i++) {
        struct job job = w->jobs[i];
        for (uint32_t k = 0; k < job.n_choices; k++) {
            const struct toy_choice *c = &alone.log->jobs[job.id].choices[k];
            accepted[i][k] = (struct job_accepted){.ids = c->ids, .n = below(i, 10 + k, c->n + 1)};
        }
        job.accepted = accepted[i];
        engine_run_submit(&resumed, &job);
    }
    engine_run_wait(&resumed, w->n);
    engine_run_close(&resumed);
    for (uint32_t i = 0; i < w->n; i++) {
        for (uint32_t k = 0; k < w->jobs[i].n_choices; k++) {
            const struct toy_choice *want = &alone.log->jobs[i + 1].choices[k];
            const struct toy_choice *got = &resumed.log->jobs[i + 1].choices[k];
            assert_int_equal(got->n, want->n);
            assert_int_equal(got->finish, want->finish);
            for (uint32_t t = accepted[i][k].n; t < want->n; t++) {
                assert_int_equal(got->ids[t], want->ids[t]);
                assert_true(got->digests[t] == want->digests[t] && got->logprobs[t] == want->logprobs[t]);
            }
        }
    }
    engine_run_release(&alone);
    engine_run_release(&resumed);
}

static struct engine_options options_for(const char *path, uint32_t n_tokens)
{
    struct engine_options o = engine_options_default();
    o.model_path = path;
    o.max_context = 384;
    o.pool_size = pool_for(path, n_tokens);
    o.backend.cpu.n_threads = 1;
    return o;
}

static void check_random_model(const char *name)
{
    struct temp_dir dir;
    temp_dir_make(&dir);
    char *path = engine_random_model(&dir, name);
    struct workload *w = make_workload(MAX_JOBS, 256, MAX_PROMPT, 60);
    struct engine_options o = options_for(path, 384 * 16 + 2048);
    check_invariance(&o, w);
    check_resume(&o, w);
    free(w);
    free(path);
    temp_dir_remove(&dir);
}

static void one_group(void **state)
{
    (void)state;
    check_random_model("llama-plain");
}

static void two_groups(void **state)
{
    (void)state;
    check_random_model("gemma3");
}

/* Guesses that turn out wrong leave nothing behind in what convolutions keep. */
static void check_guesses(const struct engine_options *options, const struct workload *w)
{
    struct engine_options o = *options;
    struct engine_run alone, guessed;
    struct engine_stats stats;
    o.speculation = SPECULATION_OFF;
    run_alone(&o, w, &alone);
    o.speculation = SPECULATION_ON;
    run_together(&o, w, &guessed, &stats);
    print_message("  %llu tokens guessed, %llu of them right\n", (unsigned long long)stats.spec_draft_tokens,
                  (unsigned long long)stats.spec_accepted_tokens);
    assert_true(stats.spec_draft_tokens > stats.spec_accepted_tokens);
    assert_same(w, guessed.log, alone.log, "with guesses");
    engine_run_release(&alone);
    engine_run_release(&guessed);
}

/* An engine after another finds its pages, in memory that outlived it or on disk, and goes on from them. */
static void check_next_engine(const struct engine_options *options, const struct workload *w, bool disk)
{
    struct engine_options o = *options;
    struct engine_run alone, first, next;
    struct engine_stats stats;
    struct temp_dir dir;
    size_t size = (o.pool_size + 63) / 64 * 64, seals_size = size / 64;
    uint8_t *pool = aligned_alloc(64, size), *seals = calloc(1, seals_size);
    assert_true(pool && seals);
    temp_dir_make(&dir);
    run_alone(&o, w, &alone);
    if (disk) {
        o.kv_disk_dir = dir.path;
        o.kv_disk_size = (uint64_t)64 << 20;
    } else {
        o.pool = pool;
        o.seals = seals;
        o.seals_size = seals_size;
    }
    run_together(&o, w, &first, &stats);
    run_together(&o, w, &next, &stats);
    print_message("  %llu tokens from the cache, %llu adopted, %llu blocks from disk\n",
                  (unsigned long long)stats.cached_tokens, (unsigned long long)stats.adopted_tokens,
                  (unsigned long long)stats.disk_blocks_read);
    assert_true(disk ? stats.disk_blocks_read + stats.disk_loads_declined > 0 : stats.adopted_tokens > 0);
    assert_same(w, next.log, alone.log, disk ? "with pages from disk" : "with adopted pages");
    engine_run_release(&alone);
    engine_run_release(&first);
    engine_run_release(&next);
    temp_dir_remove(&dir);
    free(pool);
    free(seals);
}

static void convolutions(void **state)
{
    (void)state;
    struct temp_dir dir;
    temp_dir_make(&dir);
    char *path = engine_random_model(&dir, "lfm2");
    struct workload *w = make_workload(MAX_JOBS, 256, MAX_PROMPT, 60);
    struct engine_options o = options_for(path, 384 * 16 + 2048);
    check_invariance(&o, w);
    check_resume(&o, w);
    check_guesses(&o, w);
    check_next_engine(&o, w, false);
    check_next_engine(&o, w, true);
    free(w);
    free(path);
    temp_dir_remove(&dir);
}

/* What layers with states leave out is refused by name. */
static void check_refusals(const struct engine_options *options, const char *other)
{
    struct error err = {0};
    struct engine_options o = *options;
    o.draft_model_path = other;
    assert_null(engine_create(&o, &err));
    assert_int_equal(err.code, ERR_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "--draft-model is not possible with models of the architecture qwen3next"));
    o.draft_model_path = NULL;
    o.kv_disk_dir = "/tmp";
    o.kv_disk_size = (uint64_t)64 << 20;
    assert_null(engine_create(&o, &err));
    assert_int_equal(err.code, ERR_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "--kv-disk-dir is not possible with models of the architecture qwen3next"));
    o = *options;
    o.model_path = other;
    o.draft_model_path = options->model_path;
    assert_null(engine_create(&o, &err));
    assert_int_equal(err.code, ERR_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "of the architecture qwen3next guesses no tokens"));
}

static void states(void **state)
{
    (void)state;
    struct temp_dir dir;
    temp_dir_make(&dir);
    char *path = engine_random_model(&dir, "qwen3next"), *other = engine_random_model(&dir, "llama-plain");
    struct workload *w = make_workload(MAX_JOBS, 256, MAX_PROMPT, 60);
    struct engine_options o = options_for(path, 384 * 16 + 2048);
    check_invariance(&o, w);
    check_resume(&o, w);
    check_next_engine(&o, w, false);
    check_refusals(&o, other);
    free(w);
    free(path);
    free(other);
    temp_dir_remove(&dir);
}

static void smollm2(void **state)
{
    (void)state;
    char *path = real_model_path("smollm2-135m-instruct-q4_1.gguf");
    if (!path) {
        print_message("skip: the model is not there\n");
        skip();
    }
    struct workload *w = make_workload(12, 40000, 80, 12);
    struct engine_options o = options_for(path, 384 * 16 + 1024);
    struct engine_run alone, together;
    struct engine_stats stats;
    run_alone(&o, w, &alone);
    run_together(&o, w, &together, &stats);
    assert_same(w, together.log, alone.log, "together");
    o.prefill_chunk = 7;
    engine_run_release(&together);
    run_together(&o, w, &together, &stats);
    assert_same(w, together.log, alone.log, "in chunks of 7");
    engine_run_release(&together);
    engine_run_release(&alone);
    free(w);
    free(path);
}

static void what_it_says_of_itself(void **state)
{
    (void)state;
    struct temp_dir dir;
    struct error err = {0};
    temp_dir_make(&dir);
    char *path = engine_random_model(&dir, "llama-plain");
    struct engine_options o = options_for(path, 1000);
    o.build = "1.2.3";
    struct engine *e = engine_create(&o, &err);
    assert_non_null(e);
    const struct engine_info *info = engine_info(e);
    char fingerprint[17];
    memcpy(fingerprint, info->fingerprint, sizeof fingerprint);
    assert_int_equal(strlen(fingerprint), 16);
    assert_string_equal(info->arch, "llama");
    assert_string_equal(info->build, "1.2.3");
    assert_int_equal(info->n_context, 384);
    assert_int_equal(info->n_vocab, 320);
    assert_true(info->weights_size > 0 && info->n_params > 0 && info->kv_size == o.pool_size);
    engine_free(e);

    o.backend.cpu.n_threads = 2; /* no bits depend on it */
    e = engine_create(&o, &err);
    assert_string_equal(engine_info(e)->fingerprint, fingerprint);
    engine_free(e);
    o.kv_type = KV_F32;
    o.pool_size *= 2;
    e = engine_create(&o, &err);
    assert_string_not_equal(engine_info(e)->fingerprint, fingerprint);
    engine_free(e);

    o.kv_type = KV_F16;
    o.pool_size = pool_for(path, 320); /* the context is what the pool holds */
    e = engine_create(&o, &err);
    assert_int_equal(engine_info(e)->n_context, 320);
    engine_free(e);
    o.pool_size = pool_for(path, 100);
    assert_null(engine_create(&o, &err));
    assert_int_equal(err.code, ERR_INVALID);
    o.model_path = "/nonexistent.gguf";
    assert_null(engine_create(&o, &err));
    free(path);
    temp_dir_remove(&dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_it_says_of_itself), cmocka_unit_test(one_group), cmocka_unit_test(two_groups),
        cmocka_unit_test(convolutions),           cmocka_unit_test(states),    cmocka_unit_test(smollm2),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
