/* An engine's adapters: loaded and dropped between steps, jobs that find theirs or do not, pages that are not shared.
 * On the toy model, which is told of adapters and adapts nothing. */
#include "tests/support/engine_run.h"

#include "base/queue.h"
#include "model/adapter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define GOOD 2 /* its number */

struct answer {
    uint32_t number;
    enum error_code code;
};

struct bench {
    struct engine_config config;
    struct toy toy; /* with ops of ours */
    struct executor_ops ops;
    struct engine_run run;
    struct temp_dir dir;
    struct queue *answers;
    struct sha256 digest;
};

/* ---- an adapter on disk: one part of rank 1 ---- */

static void write_file(const struct temp_dir *dir, const char *name, const void *head, size_t n_head, const void *bytes,
                       size_t n)
{
    char *path = temp_dir_file(dir, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(head, 1, n_head, f), n_head);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
    free(path);
}

static void write_adapter(const struct temp_dir *dir, float value)
{
    static const char config[] =
        "{\"peft_type\": \"LORA\", \"r\": 1, \"lora_alpha\": 2, \"target_modules\": [\"q_proj\"]}";
    char head[512] = {0};
    float values[8];
    int n = snprintf(head + 8, sizeof head - 8,
                     "{\"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight\": {\"dtype\": \"F32\", "
                     "\"shape\": [1, 4], \"data_offsets\": [0, 16]}, "
                     "\"base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight\": {\"dtype\": \"F32\", "
                     "\"shape\": [4, 1], \"data_offsets\": [16, 32]}}");
    n = (n + 7) / 8 * 8;
    for (int i = 8; i < n + 8; i++) {
        head[i] = head[i] ? head[i] : ' ';
    }
    head[0] = (char)(n & 0xff);
    head[1] = (char)(n >> 8);
    for (int i = 0; i < 8; i++) {
        values[i] = value;
    }
    write_file(dir, "adapter_config.json", config, sizeof config - 1, "", 0);
    write_file(dir, "adapter_model.safetensors", head, (size_t)n + 8, values, sizeof values);
}

/* ---- an engine that takes adapters ---- */

static bool load_adapter(struct executor *x, const struct adapter_file *file, int number, struct error *err)
{
    (void)x;
    assert_int_equal(adapter_file_facts(file)->rank, 1);
    return number != 7 || error_set(err, ERR_FORMAT, "It does not fit.");
}

static void drop_adapter(struct executor *x, int number)
{
    (void)x;
    (void)number;
}

static void open_bench(struct bench *b, bool takes_adapters)
{
    struct error err = {0};
    *b = (struct bench){.config = toy_config(600)};
    toy_init(&b->toy, &b->config);
    b->ops = *b->toy.base.ops;
    b->ops.load_adapter = takes_adapters ? load_adapter : NULL;
    b->ops.drop_adapter = takes_adapters ? drop_adapter : NULL;
    b->toy.base.ops = &b->ops;
    b->answers = queue_create(sizeof(struct answer), 16);
    temp_dir_make(&b->dir);
    write_adapter(&b->dir, 1);
    struct adapter_file *file = adapter_file_open(b->dir.path, &err);
    assert_non_null(file);
    b->digest = adapter_file_facts(file)->digest;
    adapter_file_close(file);
    struct engine_parts parts = {.config = b->config, .executor = &b->toy.base};
    struct engine *engine = engine__assemble(&parts, &err);
    assert_non_null(engine);
    engine_run_start(&b->run, engine);
}

static void close_bench(struct bench *b)
{
    engine_run_release(&b->run);
    toy_release(&b->toy);
    temp_dir_remove(&b->dir);
    queue_free(b->answers);
}

static void take_answer(void *arg, uint32_t number, const struct error *err)
{
    struct bench *b = arg;
    assert_true(queue_push(b->answers, &(struct answer){number, err->code}));
}

static enum error_code order(struct bench *b, uint32_t number, const char *path)
{
    struct adapter_order o = {.number = number, .digest = b->digest};
    struct error err = {0};
    struct answer a;
    snprintf(o.path, sizeof o.path, "%s", path);
    assert_true(engine_adapt(b->run.engine, &o, take_answer, b, &err));
    assert_true(queue_wait(b->answers, &a, 10000));
    assert_int_equal(a.number, number);
    return a.code;
}

static int32_t prompt[100];

static void submit(struct bench *b, uint64_t id, uint32_t adapter, uint32_t max_tokens)
{
    struct job job = {.id = id,
                      .n_choices = 1,
                      .prompt = prompt,
                      .n_prompt = 100,
                      .max_tokens = max_tokens,
                      .flags = JOB_IGNORE_EOS,
                      .adapter = adapter,
                      .adapter_digest = b->digest,
                      .sampling = sampling_default()};
    engine_run_submit(&b->run, &job);
}

/* ---- tests ---- */

static void jobs_find_theirs(void **state)
{
    struct bench b;
    (void)state;
    open_bench(&b, true);
    assert_int_equal(order(&b, GOOD, b.dir.path), ERR_NONE);
    assert_int_equal(order(&b, 7, b.dir.path), ERR_FORMAT);
    assert_int_equal(order(&b, 8, "/nothing/here"), ERR_NOT_FOUND);
    for (uint64_t id = 1; id <= 4; id++) { /* one after another, so that each could find the pages of those before */
        submit(&b, id, id % 2 ? 0 : GOOD, 4);
        engine_run_wait(&b.run, (uint32_t)id);
    }
    submit(&b, 5, 7, 4);
    submit(&b, 6, 3, 4);
    b.digest.bytes[0] ^= 1;
    submit(&b, 7, GOOD, 4);
    assert_int_equal(order(&b, GOOD, b.dir.path), ERR_FORMAT); /* not what it has to be */
    engine_run_wait(&b.run, 7);
    engine_run_close(&b.run);
    const struct toy_job *jobs = b.run.log->jobs;
    for (uint64_t id = 1; id <= 4; id++) {
        assert_int_equal(jobs[id].choices[0].finish, FINISH_LENGTH);
        assert_true((jobs[id].n_cached > 0) == (id > 2)); /* pages of the model are none of the adapter, and back */
    }
    for (uint64_t id = 5; id <= 7; id++) {
        assert_int_equal(jobs[id].failed, ERR_MODEL_NOT_FOUND);
    }
    close_bench(&b);
}

static void dropped_under_a_job(void **state)
{
    struct bench b;
    struct engine_stats stats;
    (void)state;
    open_bench(&b, true);
    b.toy.delay_ms = 5;
    assert_int_equal(order(&b, GOOD, b.dir.path), ERR_NONE);
    submit(&b, 1, GOOD, 90);
    submit(&b, 2, 0, 20);
    do {
        engine_stats(b.run.engine, &stats);
    } while (stats.running < 2);
    assert_int_equal(order(&b, GOOD, ""), ERR_NONE);
    submit(&b, 3, GOOD, 4);
    engine_run_wait(&b.run, 3);
    engine_run_close(&b.run);
    assert_int_equal(b.run.log->jobs[1].failed, ERR_MODEL_NOT_FOUND);
    assert_int_equal(b.run.log->jobs[2].choices[0].finish, FINISH_LENGTH);
    assert_int_equal(b.run.log->jobs[3].failed, ERR_MODEL_NOT_FOUND);
    close_bench(&b);
}

static void ends_while_one_is_read(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        struct bench b;
        struct error err = {0};
        open_bench(&b, true);
        struct adapter_order o = {.number = GOOD, .digest = b.digest};
        snprintf(o.path, sizeof o.path, "%s", b.dir.path);
        assert_true(engine_adapt(b.run.engine, &o, take_answer, &b, &err));
        engine_run_close(&b.run); /* it is loaded, or nobody hears of it */
        close_bench(&b);
    }
}

static void without_weights(void **state)
{
    struct bench b;
    struct error err = {0};
    struct adapter_order o = {.number = GOOD, .path = "/x"};
    (void)state;
    open_bench(&b, false);
    assert_false(engine_adapt(b.run.engine, &o, take_answer, &b, &err));
    assert_int_equal(err.code, ERR_UNSUPPORTED);
    close_bench(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(jobs_find_theirs),
        cmocka_unit_test(dropped_under_a_job),
        cmocka_unit_test(ends_while_one_is_read),
        cmocka_unit_test(without_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
