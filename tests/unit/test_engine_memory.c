/* Memory that fails while an engine works: every allocation of some steps in turn, one at a time. Each request gets all
 * it should, or fails with NO_MEMORY alone; the books balance; nothing ends but that. */
#include "tests/support/failing_memory.h"

#include "tests/support/engine_bench.h"
#include "tests/support/engine_run.h"

#include "base/limits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define N_JOBS 6

static int32_t prompts[N_JOBS + 1][120];

static struct job job_of(uint64_t id, uint32_t n_vocab)
{
    for (uint32_t i = 0; i < 120; i++) {
        prompts[id][i] = 3 + (int32_t)((i < 24 ? i * 7 : id * 31 + i * 11) % (n_vocab - 4));
    }
    return (struct job){.id = id,
                        .n_choices = id == 3 ? 3 : 1,
                        .seed = id,
                        .prompt = prompts[id],
                        .n_prompt = 30 + (uint32_t)id * 12,
                        .max_tokens = 24,
                        .speculation = id % 2 ? SPECULATION_ON : SPECULATION_OFF,
                        .flags = JOB_IGNORE_EOS | (id == 4 ? JOB_PROMPT_LOGPROBS : 0),
                        .sampling = sampling_default()};
}

struct world {
    const struct engine_config *config;
    struct executor *x;
    struct scheduler *s;
    struct kv_seals *seals; /* NULL: none */
    struct toy_log *log;
};

static void open_world_over(struct world *w, const struct engine_config *config, struct executor *x,
                            const struct kv_seal_options *sealed)
{
    struct error err = {0};
    *w = (struct world){.config = config, .x = x, .log = calloc(1, sizeof *w->log)};
    w->s = scheduler_create(config, x, &err);
    assert_non_null(w->s);
    if (sealed) {
        assert_non_null(w->seals = kv_seals_open(sealed, &err));
        scheduler_set_seals(w->s, w->seals);
    }
    scheduler_set_sink(w->s, toy_sink, w->log);
    for (uint64_t i = 1; i <= N_JOBS; i++) {
        struct job job = job_of(i, config->n_vocab);
        bench_submit(w->s, config, &job);
    }
}

static void open_world(struct world *w, const struct engine_config *config, struct executor *x)
{
    open_world_over(w, config, x, NULL);
}

static void close_world(struct world *w)
{
    scheduler_free(w->s);
    kv_seals_close(w->seals);
    toy_log_release(w->log);
    free(w->log);
}

/* Memory for the log is not to fail: whoever reads events is somebody else. */
static void quiet_sink(void *arg, const struct engine_event *events, size_t n)
{
    long kept = fail_at, counted = n_allocations;
    fail_at = -1;
    toy_sink(arg, events, n);
    fail_at = kept;
    n_allocations = counted;
}

/* Runs to the end; the n-th allocation fails, with `burst` also those right behind it. Returns how many there were. */
static long run(struct world *w, long n, int burst)
{
    int idle = 0;
    scheduler_set_sink(w->s, quiet_sink, w->log);
    n_allocations = 0;
    fail_at = n;
    while (!scheduler_idle(w->s)) {
        long before = n_allocations;
        idle = scheduler_step(w->s) ? 0 : idle + 1;
        if (burst > 0 && before <= fail_at && n_allocations > fail_at) {
            burst--;
            fail_at = n_allocations; /* the next one too */
        }
        long kept = fail_at, counted = n_allocations;
        fail_at = -1;
        bench_check(w->s, w->log);
        fail_at = kept;
        n_allocations = counted;
        assert_true(idle < 1000);
    }
    fail_at = -1;
    return n_allocations;
}

static void compare(const struct world *w, const struct world *expected, uint32_t *n_failed)
{
    for (uint64_t id = 1; id <= N_JOBS; id++) {
        const struct toy_job *job = &w->log->jobs[id];
        if (job->failed) {
            assert_int_equal(job->failed, ERR_NO_MEMORY);
            (*n_failed)++;
        } else if (!toy_same(job, &expected->log->jobs[id], id == 3 ? 3 : 1)) {
            fail_msg("job %d got something else", (int)id);
        }
    }
    const struct engine_stats *stats = scheduler_stats(w->s);
    assert_int_equal(stats->pages_referenced, 0);
    assert_int_equal(stats->jobs_finished, N_JOBS);
}

static void torture(const struct engine_config *config, struct executor *x, long stride)
{
    struct world expected, w;
    uint32_t n_failed = 0;
    open_world(&expected, config, x);
    long n = run(&expected, -1, 0);
    assert_true(n > 20 || !CAN_FAIL);
    for (long at = 0; CAN_FAIL && at < n; at += stride) {
        open_world(&w, config, x);
        run(&w, at, at % 3 == 0 ? 2 : 0);
        compare(&w, &expected, &n_failed);
        close_world(&w);
    }
    assert_int_equal(n_failed, 0); /* somebody else always runs, or the next try succeeds */
    close_world(&expected);
}

static void every_allocation_of_the_scheduler(void **state)
{
    (void)state;
    struct engine_config config = toy_config(600);
    struct toy toy;
    for (int states = 0; states < 2; states++) {
        if (states) {
            toy_add_states(&config, 240);
        }
        toy_init(&toy, &config);
        torture(&config, &toy.base, 1);
        toy_release(&toy);
    }
}

/* Over what a scheduler left that was lost in the middle of prompts, parts of blocks among it. */
static void every_allocation_over_adopted_pages(void **state)
{
    (void)state;
    struct engine_config config = toy_config(600);
    struct world expected, w;
    struct toy toy;
    uint32_t n_failed = 0;
    config.prefill_chunk = 13; /* not a whole number of blocks */
    toy_init(&toy, &config);
    open_world(&expected, &config, &toy.base);
    run(&expected, -1, 0);
    size_t pool_size = config.geometry.pool_size, table_size = 100032;
    uint8_t *table = aligned_alloc(64, table_size), *pool = (uint8_t *)toy.kv;
    uint8_t *kept_table = malloc(table_size), *kept_pool = malloc(pool_size);
    struct kv_seal_options sealed = {.memory = table,
                                     .size = table_size,
                                     .pool = pool,
                                     .pool_size = pool_size,
                                     .page_tokens = config.page_tokens,
                                     .n_groups = config.geometry.n_groups,
                                     .sum = toy_sum,
                                     .sum_arg = &toy};
    memcpy(sealed.page_size, config.geometry.page_size, sizeof sealed.page_size);
    memset(table, 0, table_size);
    open_world_over(&w, &config, &toy.base, &sealed);
    for (int i = 0; i < 3; i++) {
        scheduler_step(w.s);
    }
    close_world(&w);
    memcpy(kept_table, table, table_size);
    memcpy(kept_pool, pool, pool_size);
    long n = 0;
    for (long at = -1; at < (CAN_FAIL ? n : 0); at++) {
        memcpy(table, kept_table, table_size);
        memcpy(pool, kept_pool, pool_size);
        open_world_over(&w, &config, &toy.base, &sealed);
        long count = run(&w, at, at % 3 == 0 ? 2 : 0);
        n = at < 0 ? count : n;
        compare(&w, &expected, &n_failed);
        assert_true(at >= 0 || scheduler_stats(w.s)->adopted_tokens % config.page_tokens != 0); /* parts too */
        assert_int_equal(scheduler_stats(w.s)->adopted_blocks_dropped, 0);
        close_world(&w);
    }
    assert_int_equal(n_failed, 0);
    close_world(&expected);
    toy_release(&toy);
    free(table);
    free(kept_table);
    free(kept_pool);
}

/* A step that never gets its memory: it is made smaller and smaller; at last only the one that is alone fails. */
static bool no_step(struct executor *x, const struct executor_step *step, struct tensor **ids, struct error *err)
{
    (void)x;
    (void)step;
    (void)ids;
    return error_set(err, ERR_NO_MEMORY, "There is no memory for the values of this step.");
}

static struct executor_ops refusing_ops;

static void no_memory_at_all(void **state)
{
    (void)state;
    struct engine_config config = toy_config(600);
    struct toy toy;
    struct world w;
    toy_init(&toy, &config);
    refusing_ops = *toy.base.ops;
    refusing_ops.step = no_step;
    toy.base.ops = &refusing_ops;
    open_world(&w, &config, &toy.base);
    int steps = 0;
    while (!scheduler_idle(w.s)) {
        scheduler_step(w.s);
        bench_check(w.s, w.log);
        assert_true(++steps < 200);
    }
    for (uint64_t id = 1; id <= N_JOBS; id++) {
        assert_int_equal(w.log->jobs[id].failed, ERR_NO_MEMORY);
        assert_non_null(strstr(w.log->jobs[id].error.msg, "alone"));
    }
    close_world(&w);
    toy_release(&toy);
}

/* Memory for so many rows and so many sequences, and no more: everybody gets through. */
static const struct executor_ops *roomy_ops;
static int most_rows, most_seqs;

static bool small_step(struct executor *x, const struct executor_step *step, struct tensor **ids, struct error *err)
{
    if (step->batch->n_rows > most_rows || step->batch->n_seqs > most_seqs) {
        return error_set(err, ERR_NO_MEMORY, "There is no memory for the values of this step.");
    }
    return roomy_ops->step(x, step, ids, err);
}

static void little_memory(const struct engine_config *c)
{
    struct engine_config config = *c;
    struct world expected, w;
    struct toy toy;
    uint32_t n_failed = 0;
    toy_init(&toy, &config);
    open_world(&expected, &config, &toy.base);
    run(&expected, -1, 0);
    roomy_ops = toy.base.ops;
    refusing_ops = *roomy_ops;
    refusing_ops.step = small_step;
    toy.base.ops = &refusing_ops;
    static const int rooms[][2] = {{16, 8}, {16, 1}, {20, 3}, {31, 2}};
    for (size_t i = 0; i < 4; i++) {
        most_rows = rooms[i][0];
        most_seqs = rooms[i][1];
        open_world(&w, &config, &toy.base);
        run(&w, -1, 0);
        compare(&w, &expected, &n_failed);
        assert_int_equal(n_failed, 0);
        assert_true(scheduler_stats(w.s)->memory_shortages > 0);
        close_world(&w);
    }
    close_world(&expected);
    toy_release(&toy);
}

static void a_little_memory_is_enough(void **state)
{
    (void)state;
    struct engine_config config = toy_config(600);
    little_memory(&config);
    toy_add_states(&config, 240);
    little_memory(&config);
}

/* ---- a model on the cpu backend: its values, scratch and angles ---- */

struct real {
    struct temp_dir dir;
    struct model_file *file;
    struct backend *be;
    struct decoder_config decoder;
    struct model *model;
    struct kv_group_spec groups[KV_MAX_GROUPS];
    struct engine_config config;
    uint8_t *pool;
};

static void open_real(struct real *r, const char *name)
{
    struct error err = {0};
    struct backend_options options = {.kind = BACKEND_CPU, .cpu = {.n_threads = 1}};
    uint8_t layer_group[MODEL_MAX_LAYERS];
    uint16_t layer_index[MODEL_MAX_LAYERS];
    temp_dir_make(&r->dir);
    char *path = engine_random_model(&r->dir, name);
    assert_non_null(r->file = model_file_open(path, &err));
    assert_true(decoder_config_read(r->file, &r->decoder, &err));
    assert_non_null(r->be = backend_create(&options, &err));
    struct model_load_options load = {.config = &r->decoder, .kv_type = KV_F16, .n_served = 400};
    assert_non_null(r->model = model_load(r->be, r->file, &load, &err));
    r->config = toy_config(1);
    r->config.geometry = (struct kv_geometry){.pool_size = MIB(4)};
    r->config.geometry.n_groups = decoder_kv_groups(&r->decoder, KV_F16, r->groups, layer_group, layer_index);
    r->config.page_tokens = (uint32_t)r->be->ops->kv_page_tokens(r->be);
    r->config.n_vocab = (uint32_t)r->decoder.n_vocab;
    r->config.n_context = 300;
    for (int g = 0; g < r->config.geometry.n_groups; g++) {
        r->groups[g].base = 0;
        r->config.geometry.page_size[g] = r->be->ops->kv_page_size(r->be, &r->groups[g]);
        r->config.window[g] = r->groups[g].window;
    }
    r->pool = aligned_alloc(4096, MIB(4));
    assert_true(r->be->ops->kv_bind(r->be, r->groups, r->config.geometry.n_groups, r->pool, MIB(4), &err));
    free(path);
}

static void close_real(struct real *r)
{
    model_free(r->model);
    r->be->ops->free(r->be);
    model_file_close(r->file);
    free(r->pool);
    temp_dir_remove(&r->dir);
}

/* Step memory stays from step to step, so each run has a backend that has not computed yet. */
static void steps_of_a_model(void **state)
{
    (void)state;
    struct world expected, w;
    uint32_t n_failed = 0;
    long n = 0;
    for (long at = -1; at < (CAN_FAIL ? n : 0); at += at < 60 ? 1 : 7) {
        struct real r = {0};
        struct error err = {0};
        open_real(&r, "llama-plain");
        struct executor *x = executor_model_create(r.be, r.model, &err);
        assert_non_null(x);
        struct world *world = at < 0 ? &expected : &w;
        open_world(world, &r.config, x);
        long count = run(world, at, at % 3 == 0 ? 2 : 0);
        n = at < 0 ? count : n;
        if (at >= 0) {
            compare(&w, &expected, &n_failed);
            close_world(&w);
        } else { /* its books end with its executor */
            scheduler_free(expected.s);
            expected.s = NULL;
        }
        x->ops->free(x);
        close_real(&r);
    }
    assert_int_equal(n_failed, 0);
    close_world(&expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_of_the_scheduler),
        cmocka_unit_test(every_allocation_over_adopted_pages),
        cmocka_unit_test(no_memory_at_all),
        cmocka_unit_test(a_little_memory_is_enough),
        cmocka_unit_test(steps_of_a_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
