/* Targets of bench-serve: what a word means, labels, keys. */
#include "cli/loadgen_target.h"

#include "base/array.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

struct fixture {
    struct arena *arena;
    struct options options;
    struct loadgen_target *targets;
    int n;
    struct error err;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    f->arena = arena_create(1 << 20);
    unsetenv("TANDEM_BENCH_API_KEY");
    unsetenv("OPENAI_API_KEY");
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    arena_free(f->arena);
    free(f);
    return 0;
}

static bool parse(struct fixture *f, enum loadgen_api api)
{
    f->err = (struct error){0};
    return loadgen_targets_parse(&f->options, api, f->arena, &f->targets, &f->n, &f->err);
}

static void words(struct fixture *f, const char *first, const char *second, const char *third)
{
    const char *const all[] = {first, second, third};
    f->options.arguments.n = 0;
    for (size_t i = 0; i < ARRAY_LEN(all) && all[i]; i++) {
        f->options.arguments.items[f->options.arguments.n++] = all[i];
    }
}

static void a_word_is_a_url_with_what_belongs_to_it(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *word, *label, *url, *models, *model;
    } cases[] = {
        {"localhost", "localhost", "http://localhost/v1/chat/completions", "http://localhost/v1/models", NULL},
        {"127.0.0.1:8000", "127.0.0.1:8000", "http://127.0.0.1:8000/v1/chat/completions",
         "http://127.0.0.1:8000/v1/models", NULL},
        {"http://h:1/", "h:1", "http://h:1/v1/chat/completions", "http://h:1/v1/models", NULL},
        {"https://h/openai/v1", "h", "https://h/openai/v1/chat/completions", "https://h/openai/v1/models", NULL},
        {"https://h/openai/v1//", "h", "https://h/openai/v1/chat/completions", "https://h/openai/v1/models", NULL},
        {"http://h/v1/chat/completions", "h", "http://h/v1/chat/completions", "http://h/v1/models", NULL},
        {"http://h/v1/chat/completions?api-version=1", "h", "http://h/v1/chat/completions?api-version=1",
         "http://h/v1/models?api-version=1", NULL},
        {"a=h:1", "a", "http://h:1/v1/chat/completions", "http://h:1/v1/models", NULL},
        {"my server=http://h#org/model-1:q4", "my server", "http://h/v1/chat/completions", "http://h/v1/models",
         "org/model-1:q4"},
        {"h:1#a=b", "h:1", "http://h:1/v1/chat/completions", "http://h:1/v1/models", "a=b"},
        {"http://h/x?y=z", "h", "http://h/x/chat/completions?y=z", "http://h/x/models?y=z", NULL},
        {"http://[::1]:8000", "[::1]:8000", "http://[::1]:8000/v1/chat/completions", "http://[::1]:8000/v1/models",
         NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        words(f, cases[i].word, NULL, NULL);
        if (!parse(f, LOADGEN_CHAT)) {
            fail_msg("%s: %s", cases[i].word, f->err.msg);
        }
        assert_int_equal(f->n, 1);
        assert_string_equal(f->targets[0].label, cases[i].label);
        assert_string_equal(f->targets[0].url, cases[i].url);
        assert_string_equal(f->targets[0].models_url, cases[i].models);
        assert_true(!f->targets[0].model == !cases[i].model);
        if (cases[i].model) {
            assert_string_equal(f->targets[0].model, cases[i].model);
        }
        assert_null(f->targets[0].auth);
    }
}

static void the_api_chooses_the_endpoint(void **state)
{
    struct fixture *f = *state;
    words(f, "h", "http://i/v1/completions", NULL);
    assert_true(parse(f, LOADGEN_COMPLETIONS));
    assert_string_equal(f->targets[0].url, "http://h/v1/completions");
    assert_string_equal(f->targets[1].url, "http://i/v1/completions");
    assert_string_equal(f->targets[1].models_url, "http://i/v1/models");
    assert_false(parse(f, LOADGEN_CHAT));
    assert_non_null(strstr(f->err.msg, "endpoint of --api completions"));
    words(f, "http://i/v1/chat/completions", NULL, NULL);
    assert_false(parse(f, LOADGEN_COMPLETIONS));
    assert_non_null(strstr(f->err.msg, "endpoint of --api chat"));
}

static void wrong_words_are_refused(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *word, *message;
    } cases[] = {
        {"", "names no host"},
        {"http://", "names no host"},
        {"a=", "names no host"},
        {"=h", "a label has 1 to 40 bytes"},
        {"a234567890123456789012345678901234567890x=h", "a label has 1 to 40 bytes"},
        {"h#", "no model behind"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        words(f, cases[i].word, NULL, NULL);
        assert_false(parse(f, LOADGEN_CHAT));
        assert_int_equal(f->err.code, ERR_INVALID);
        if (!strstr(f->err.msg, cases[i].message)) {
            fail_msg("'%s': %s", cases[i].word, f->err.msg);
        }
    }
    char *word = malloc(3000);
    memset(word, 'h', 2999);
    word[2999] = '\0';
    words(f, word, NULL, NULL);
    assert_false(parse(f, LOADGEN_CHAT));
    assert_non_null(strstr(f->err.msg, "more than 2000 bytes"));
    free(word);
    words(f, NULL, NULL, NULL);
    assert_false(parse(f, LOADGEN_CHAT));
    assert_non_null(strstr(f->err.msg, "needs what to measure"));
}

static void labels_are_unique(void **state)
{
    struct fixture *f = *state;
    words(f, "h:1#a", "h:1#b", "h:1#b");
    assert_true(parse(f, LOADGEN_CHAT));
    assert_string_equal(f->targets[0].label, "h:1");
    assert_string_equal(f->targets[1].label, "h:1#b");
    assert_string_equal(f->targets[2].label, "h:1 (2)");
    words(f, "h:1", "h:1=h:2", "h:1");
    assert_true(parse(f, LOADGEN_CHAT));
    assert_string_equal(f->targets[0].label, "h:1"); /* ':' comes before '=': a strange host, not a label */
    words(f, "a=h:1", "a=h:2", NULL);
    assert_false(parse(f, LOADGEN_CHAT));
    assert_non_null(strstr(f->err.msg, "two targets have the label 'a'"));
}

static void targets_and_models_may_come_from_options(void **state)
{
    struct fixture *f = *state;
    f->options.bench_serve.targets = (struct option_list){.items = {"a=h:1", "b=h:2#mine"}, .n = 2};
    f->options.bench_serve.model = "usual";
    assert_true(parse(f, LOADGEN_CHAT));
    assert_int_equal(f->n, 2);
    assert_string_equal(f->targets[0].model, "usual");
    assert_string_equal(f->targets[1].model, "mine");
    words(f, "c=h:3", NULL, NULL); /* arguments replace them */
    assert_true(parse(f, LOADGEN_CHAT));
    assert_int_equal(f->n, 1);
    assert_string_equal(f->targets[0].label, "c");
}

static void keys_come_from_the_environment(void **state)
{
    struct fixture *f = *state;
    struct option_list *names = &f->options.bench_serve.api_key_env;
    words(f, "a=h:1", "b=h:2", NULL);
    setenv("OPENAI_API_KEY", "usual", 1);
    assert_true(parse(f, LOADGEN_CHAT));
    assert_string_equal(f->targets[0].auth, "Bearer usual");
    setenv("TANDEM_BENCH_API_KEY", "ours", 1);
    assert_true(parse(f, LOADGEN_CHAT));
    assert_string_equal(f->targets[1].auth, "Bearer ours");

    setenv("TEST_KEY_A", "for a", 1);
    setenv("TEST_KEY", "for all", 1);
    *names = (struct option_list){.items = {"a=TEST_KEY_A"}, .n = 1};
    assert_true(parse(f, LOADGEN_CHAT));
    assert_string_equal(f->targets[0].auth, "Bearer for a");
    assert_null(f->targets[1].auth); /* another server's key is not given to it */
    *names = (struct option_list){.items = {"TEST_KEY", "a=TEST_KEY_A"}, .n = 2};
    assert_true(parse(f, LOADGEN_CHAT));
    assert_string_equal(f->targets[0].auth, "Bearer for a");
    assert_string_equal(f->targets[1].auth, "Bearer for all");

    *names = (struct option_list){.items = {"TEST_KEY_NONE"}, .n = 1};
    assert_false(parse(f, LOADGEN_CHAT));
    assert_non_null(strstr(f->err.msg, "'TEST_KEY_NONE' is not set"));
    *names = (struct option_list){.items = {"c=TEST_KEY"}, .n = 1};
    assert_false(parse(f, LOADGEN_CHAT));
    assert_non_null(strstr(f->err.msg, "names no target"));
}

static void apis_have_names(void **state)
{
    struct fixture *f = *state;
    enum loadgen_api api;
    assert_true(loadgen_api_parse("chat", &api, &f->err) && api == LOADGEN_CHAT);
    assert_true(loadgen_api_parse("completions", &api, &f->err) && api == LOADGEN_COMPLETIONS);
    assert_false(loadgen_api_parse("responses", &api, &f->err));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_word_is_a_url_with_what_belongs_to_it),
        TEST(the_api_chooses_the_endpoint),
        TEST(wrong_words_are_refused),
        TEST(labels_are_unique),
        TEST(targets_and_models_may_come_from_options),
        TEST(keys_come_from_the_environment),
        TEST(apis_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
