/* Scripts: rules, choices, what comes behind an answer, and that pages and hits are really counted. With the tokenizer
 * of a random model, whose tokens are bytes. */
#include "tests/support/engine_run.h"

#include "base/clock.h"
#include "base/sys_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define EOS 256

struct bench {
    struct temp_dir dir;
    char *model, *script;
    struct engine_run run;
};

static bool open_engine(struct bench *b, const char *script, struct error *err)
{
    struct engine_options o = engine_options_default();
    temp_dir_make(&b->dir);
    b->model = engine_random_model(&b->dir, "llama-plain");
    b->script = temp_dir_file(&b->dir, "script.json");
    assert_true(file_write_atomic(b->script, str_of(script), err));
    o.model_path = b->model;
    o.script_path = b->script;
    o.pool_size = 1 << 22;
    o.backend.cpu.n_threads = 1;
    struct engine *engine = engine_create(&o, err);
    if (engine) {
        engine_run_start(&b->run, engine);
    }
    return engine != NULL;
}

static void open_bench(struct bench *b, const char *script)
{
    struct error err = {0};
    if (!open_engine(b, script, &err)) {
        fail_msg("%s", err.msg);
    }
}

static void close_files(struct bench *b)
{
    free(b->model);
    free(b->script);
    temp_dir_remove(&b->dir);
}

static void close_bench(struct bench *b)
{
    engine_run_release(&b->run);
    close_files(b);
}

static void ask(struct bench *b, uint64_t id, const char *prompt, uint32_t n_choices, uint32_t max_tokens)
{
    int32_t ids[256];
    struct job job = {.id = id,
                      .n_choices = n_choices,
                      .prompt = ids,
                      .n_prompt = (uint32_t)strlen(prompt),
                      .max_tokens = max_tokens,
                      .sampling = sampling_default()};
    for (uint32_t i = 0; i < job.n_prompt; i++) {
        ids[i] = (uint8_t)prompt[i];
    }
    uint32_t n_ended = atomic_load(&b->run.log->n_jobs_ended); /* before: it may end at once */
    engine_run_submit(&b->run, &job);
    engine_run_wait(&b->run, n_ended + 1);
}

static void assert_text(const struct bench *b, uint64_t id, uint32_t choice, const char *text,
                        enum finish_reason finish)
{
    const struct toy_choice *c = &b->run.log->jobs[id].choices[choice];
    size_t n = strlen(text);
    assert_int_equal(c->finish, finish);
    assert_int_equal(c->n, n + (finish == FINISH_STOP));
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(c->ids[i], (uint8_t)text[i]);
    }
    assert_true(finish != FINISH_STOP || (c->ids[n] == EOS && c->stop_id == EOS));
}

static void rules(void **state)
{
    (void)state;
    struct bench b;
    open_bench(&b, "{\"rules\": ["
                   "{\"match\": \"weather\", \"text\": \"It rains.\"},"
                   "{\"match\": {\"ids\": [65, 66]}, \"ids\": [1, 2, 3]},"
                   "{\"match\": \"choices\", \"texts\": [\"one\", \"two\"]},"
                   "{\"match\": \"again\", \"text\": \"ab\", \"then\": \"length\"},"
                   "{\"match\": \"nan\", \"text\": \"abc\", \"then\": \"fail\"}],"
                   "\"default\": {\"text\": \"Hello.\", \"first_delay_ms\": 1}}");
    ask(&b, 1, "What is the weather?", 1, 50);
    ask(&b, 2, "xAB", 1, 50);
    ask(&b, 3, "three choices", 3, 50);
    ask(&b, 4, "again", 1, 5);
    ask(&b, 5, "nan", 1, 50);
    ask(&b, 6, "something else", 1, 50);
    ask(&b, 7, "the weather in short", 1, 4);
    engine_run_close(&b.run);
    assert_text(&b, 1, 0, "It rains.", FINISH_STOP);
    assert_text(&b, 2, 0, "\1\2\3", FINISH_STOP);
    assert_text(&b, 3, 0, "one", FINISH_STOP);
    assert_text(&b, 3, 1, "two", FINISH_STOP);
    assert_text(&b, 3, 2, "one", FINISH_STOP);
    assert_text(&b, 4, 0, "ababa", FINISH_LENGTH);
    assert_int_equal(b.run.log->jobs[5].failed, ERR_BAD_NUMBERS);
    assert_int_equal(b.run.log->jobs[5].choices[0].n, 3);
    assert_text(&b, 6, 0, "Hello.", FINISH_STOP);
    assert_text(&b, 7, 0, "It r", FINISH_LENGTH);
    close_bench(&b);
}

static void pages_are_counted(void **state)
{
    (void)state;
    struct bench b;
    const char *prompt = "A prompt that is long enough to fill more than one page of the cache, and then some more.";
    struct engine_stats stats;
    open_bench(&b, "{\"default\": {\"text\": \"Yes.\"}}");
    ask(&b, 1, prompt, 1, 50);
    ask(&b, 2, prompt, 1, 50);
    engine_stats(b.run.engine, &stats);
    engine_run_close(&b.run);
    uint32_t page_tokens = 32;
    assert_int_equal(b.run.log->jobs[1].n_cached, 0);
    assert_int_equal(b.run.log->jobs[2].n_cached, strlen(prompt) / page_tokens * page_tokens);
    assert_true(stats.pages_cached >= 2);
    close_bench(&b);
}

static void timing(void **state)
{
    (void)state;
    struct bench b;
    open_bench(&b, "{\"default\": {\"text\": \"abcd\", \"delay_ms\": 10, \"first_delay_ms\": 40}}");
    int64_t start = clock_ms();
    ask(&b, 1, "x", 1, 50);
    int64_t took = clock_ms() - start;
    assert_true(took >= 40 + 4 * 10);
    close_bench(&b);
}

static void bad_scripts_are_named(void **state)
{
    (void)state;
    static const char *const scripts[] = {
        "{\"rules\": [{\"txt\": \"typo\"}]}",
        "{\"rules\": [{\"text\": \"x\", \"then\": \"explode\"}]}",
        "{\"default\": {\"text\": \"x\", \"delay_ms\": -1}}",
        "{\"default\": {\"texts\": []}}",
        "{",
    };
    for (size_t i = 0; i < sizeof scripts / sizeof scripts[0]; i++) {
        struct bench b;
        struct error err = {0};
        assert_false(open_engine(&b, scripts[i], &err));
        assert_int_equal(err.code, ERR_INVALID);
        close_files(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rules),
        cmocka_unit_test(pages_are_counted),
        cmocka_unit_test(timing),
        cmocka_unit_test(bad_scripts_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
