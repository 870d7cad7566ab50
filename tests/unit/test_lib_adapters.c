/* Adapters of the library's models: each request has its own, whatever else runs, comes or goes; names, limits, errors.
 */
#include "tests/support/library_run.h"
#include "tests/support/model_adapter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>

#define N_KINDS     3 /* of answers: of the model, of the first adapter, of the second */
#define MAX_LOADED  64
#define N_TOKENS    24
#define N_THREADS   6
#define N_TURNS     40
#define TEXT_SIZE   4096
#define FINGERPRINT 16

struct bench {
    struct fixture *f;
    char *path[N_KINDS];           /* [0]: NULL */
    char text[N_KINDS][TEXT_SIZE]; /* what each answers to the one prompt */
};

static struct tandem_request request_with(const char *adapter, int64_t max_tokens)
{
    struct tandem_request r = request_of("Once upon a time", max_tokens);
    r.adapter = adapter;
    return r;
}

static void must_load(struct bench *b, const char *name, int kind)
{
    struct tandem_error error;
    if (!tandem_model_load_adapter(b->f->model, name, b->path[kind], &error)) {
        fail_msg("%s", error.message);
    }
}

static void must_unload(struct bench *b, const char *name)
{
    assert_true(tandem_model_unload_adapter(b->f->model, name, NULL));
}

static void answers(struct bench *b, const char *adapter, int kind)
{
    struct tandem_request r = request_with(adapter, N_TOKENS);
    struct tandem_answer *a = must_answer(b->f->model, &r);
    assert_string_equal(tandem_answer_text(a, 0, NULL), b->text[kind]);
    tandem_answer_free(a);
}

static void note_answer(struct bench *b, const char *adapter, int kind)
{
    struct tandem_request r = request_with(adapter, N_TOKENS);
    struct tandem_answer *a = must_answer(b->f->model, &r);
    snprintf(b->text[kind], TEXT_SIZE, "%s", tandem_answer_text(a, 0, NULL));
    tandem_answer_free(a);
}

static int setup(void **state)
{
    struct bench *b = calloc(1, sizeof *b);
    group_setup((void **)&b->f);
    b->path[1] = temp_dir_file(&b->f->dir, "one.gguf");
    b->path[2] = temp_dir_file(&b->f->dir, "two.gguf");
    random_adapter_write("llama-linear", 1, b->path[1]);
    random_adapter_write("llama-linear", 2, b->path[2]);
    note_answer(b, NULL, 0);
    for (int i = 1; i < N_KINDS; i++) {
        must_load(b, "x", i);
        note_answer(b, "x", i);
        must_unload(b, "x");
    }
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct bench *b = *state;
    free(b->path[1]);
    free(b->path[2]);
    group_teardown((void **)&b->f);
    free(b);
    return 0;
}

/* ---- answers ---- */

static void each_request_has_its_own(void **state)
{
    struct bench *b = *state;
    static const char *const names[N_KINDS] = {NULL, "one", "two"};
    assert_string_not_equal(b->text[0], b->text[1]);
    assert_string_not_equal(b->text[0], b->text[2]);
    assert_string_not_equal(b->text[1], b->text[2]);
    must_load(b, "one", 1);
    must_load(b, "two", 2);
    for (int turn = 0; turn < 2; turn++) { /* again, from the prefix cache */
        for (int i = 0; i < N_KINDS; i++) {
            answers(b, names[i], i);
        }
    }
    must_unload(b, "one");
    answers(b, "two", 2);
    must_unload(b, "two");
    answers(b, NULL, 0);
}

struct text_seen {
    char text[TEXT_SIZE];
    size_t size;
    bool failed;
};

static bool gather(void *arg, const struct tandem_event *e)
{
    struct text_seen *s = arg;
    if (e->kind == TANDEM_EVENT_TEXT && s->size + e->text_size < sizeof s->text) {
        memcpy(s->text + s->size, e->text, e->text_size + 1);
        s->size += e->text_size;
    }
    s->failed = s->failed || (e->kind == TANDEM_EVENT_END && e->error);
    return true;
}

/* All in one batch, and each text is the one that it is alone. */
static void in_one_batch(void **state)
{
    struct bench *b = *state;
    static const char *const names[] = {NULL, "one", "two", "one", NULL, "two"};
    static const int kinds[] = {0, 1, 2, 1, 0, 2};
    struct tandem_generation *g[6];
    struct text_seen *seen = calloc(6, sizeof *seen);
    must_load(b, "one", 1);
    must_load(b, "two", 2);
    for (int i = 0; i < 6; i++) {
        struct tandem_request r = request_with(names[i], N_TOKENS);
        g[i] = must_start(b->f->model, &r, gather, &seen[i]);
    }
    must_unload(b, "one"); /* they have it */
    for (int i = 0; i < 6; i++) {
        must_end(g[i]);
        assert_false(seen[i].failed);
        assert_string_equal(seen[i].text, b->text[kinds[i]]);
        tandem_generation_free(g[i]);
    }
    must_unload(b, "two");
    free(seen);
}

/* One that runs keeps what it has, whatever has the name by then. */
static void a_name_comes_again(void **state)
{
    struct bench *b = *state;
    struct text_seen alone = {0}, seen = {0};
    struct tandem_request r = request_with("x", LONG_TOKENS);
    must_load(b, "x", 1);
    struct tandem_generation *g = must_start(b->f->model, &r, gather, &alone);
    must_end(g);
    tandem_generation_free(g);
    g = must_start(b->f->model, &r, gather, &seen);
    must_unload(b, "x");
    must_load(b, "x", 2);
    answers(b, "x", 2);
    must_end(g);
    assert_string_equal(seen.text, alone.text);
    assert_memory_equal(seen.text, b->text[1], strlen(b->text[1]));
    tandem_generation_free(g);
    must_unload(b, "x");
}

/* ---- what there is ---- */

static void they_are_described(void **state)
{
    struct bench *b = *state;
    struct tandem_model_info model = {.size = sizeof model};
    struct tandem_adapter_info one = {.size = sizeof one}, two = {.size = sizeof two};
    struct tandem_request r = request_with("two", LONG_TOKENS);
    struct text_seen seen = {0};
    assert_false(tandem_model_get_adapter(b->f->model, 0, &one));
    must_load(b, "one", 1);
    must_load(b, "two", 2);
    struct tandem_generation *g = must_start(b->f->model, &r, gather, &seen);
    assert_true(tandem_model_get_adapter(b->f->model, 0, &one));
    assert_true(tandem_model_get_adapter(b->f->model, 1, &two));
    assert_false(tandem_model_get_adapter(b->f->model, 2, &one));
    assert_true(two.n_running <= 1);
    tandem_model_get_info(b->f->model, &model);
    assert_string_equal(one.name, "one");
    assert_string_equal(two.name, "two");
    assert_int_equal(one.rank, 16);
    assert_true(one.alpha > 0 && one.n_weights >= 28 && one.memory_size > 0 && one.n_running == 0);
    assert_int_equal(strlen(one.fingerprint), FINGERPRINT);
    assert_string_not_equal(one.fingerprint, two.fingerprint);
    assert_string_not_equal(one.fingerprint, model.fingerprint);
    tandem_generation_free(g);
    must_unload(b, "one");
    assert_true(tandem_model_get_adapter(b->f->model, 0, &two));
    assert_string_equal(two.name, "two");
    must_unload(b, "two");
    one.size = offsetof(struct tandem_adapter_info, rank); /* of an older header */
    one.rank = 77;
    must_load(b, "again", 1);
    assert_true(tandem_model_get_adapter(b->f->model, 0, &one));
    assert_string_equal(one.name, "again");
    assert_int_equal(one.rank, 77);
    must_unload(b, "again");
}

/* As many as there are numbers; one that is unloaded makes room for the next at once. */
static void as_many_as_there_may_be(void **state)
{
    struct bench *b = *state;
    struct tandem_error error;
    char name[16];
    for (int i = 0; i < MAX_LOADED; i++) {
        snprintf(name, sizeof name, "a%d", i);
        must_load(b, name, 1 + i % 2);
    }
    assert_false(tandem_model_load_adapter(b->f->model, "more", b->path[1], &error));
    assert_int_equal(error.code, TANDEM_INVALID);
    assert_string_equal(error.param, "name");
    must_unload(b, "a20");
    must_load(b, "more", 2);
    answers(b, "more", 2);
    answers(b, "a62", 1);
    must_unload(b, "more");
    for (int i = 0; i < MAX_LOADED; i++) {
        snprintf(name, sizeof name, "a%d", i);
        assert_true(tandem_model_unload_adapter(b->f->model, name, NULL) == (i != 20));
    }
}

/* ---- errors ---- */

static void refused(struct bench *b, const char *name, const char *path, enum tandem_code code, const char *param)
{
    struct tandem_error error = {0};
    assert_false(tandem_model_load_adapter(b->f->model, name, path, &error));
    if (error.code != code || (param && strcmp(error.param, param) != 0)) {
        fail_msg("'%s': %s %s: %s", name ? name : "NULL", tandem_code_name(error.code), error.param, error.message);
    }
}

static void names_and_files_that_are_refused(void **state)
{
    struct bench *b = *state;
    static const char *const bad[] = {NULL, "", "a:b", "a/b", ".a", "-a", "a b"};
    char *other = temp_dir_file(&b->f->dir, "other.gguf");
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        refused(b, bad[i], b->path[1], TANDEM_INVALID, "name");
    }
    refused(b, "a", NULL, TANDEM_INVALID, "path");
    refused(b, "a", "/nowhere/adapter.gguf", TANDEM_NOT_FOUND, NULL);
    refused(b, "a", b->f->path, TANDEM_BAD_FORMAT, NULL); /* a model */
    random_adapter_write("phi3-long", 0, other);
    refused(b, "a", other, TANDEM_BAD_FORMAT, NULL); /* it does not fit: only the engine sees that */
    must_load(b, "a", 1);                            /* the name is free */
    refused(b, "a", b->path[2], TANDEM_INVALID, "name");
    answers(b, "a", 1);
    must_unload(b, "a");
    free(other);
}

static void an_unknown_one(void **state)
{
    struct bench *b = *state;
    struct tandem_error error = {0};
    struct text_seen seen = {0};
    struct tandem_message message = {"user", "Hi"};
    struct tandem_request r = request_with("nobody", 4);
    assert_null(tandem_generate(b->f->model, &r, gather, &seen, &error));
    assert_int_equal(error.code, TANDEM_NOT_FOUND);
    assert_string_equal(error.param, "adapter");
    assert_non_null(strstr(error.message, "nobody"));
    r.prompt = NULL;
    r.messages = &message;
    r.n_messages = 1;
    memset(&error, 0, sizeof error);
    assert_null(tandem_render_chat(b->f->model, &r, NULL, &error));
    assert_string_equal(error.param, "adapter");
    memset(&error, 0, sizeof error);
    assert_false(tandem_model_unload_adapter(b->f->model, "nobody", &error));
    assert_int_equal(error.code, TANDEM_NOT_FOUND);
    assert_false(tandem_model_unload_adapter(b->f->model, NULL, NULL));
}

struct in_callback {
    struct bench *b;
    enum tandem_code code;
    bool unloaded;
};

static bool load_and_unload(void *arg, const struct tandem_event *e)
{
    struct in_callback *c = arg;
    struct tandem_error error = {0};
    (void)e;
    if (!c->code) {
        c->unloaded = !tandem_model_load_adapter(c->b->f->model, "y", c->b->path[2], &error) &&
                      tandem_model_unload_adapter(c->b->f->model, "x", NULL);
        c->code = error.code;
    }
    return true;
}

static void in_a_callback_nobody_waits(void **state)
{
    struct bench *b = *state;
    struct in_callback c = {.b = b};
    struct tandem_request r = request_with("x", 8);
    must_load(b, "x", 1);
    struct tandem_generation *g = must_start(b->f->model, &r, load_and_unload, &c);
    must_end(g);
    tandem_generation_free(g);
    assert_int_equal(c.code, TANDEM_INVALID);
    assert_true(c.unloaded);
    assert_false(tandem_model_unload_adapter(b->f->model, "x", NULL));
}

/* ---- many threads ---- */

struct worker {
    struct bench *b;
    uint32_t seed;
    atomic_int *n_answers;
    const char *fault; /* NULL: none */
};

static uint32_t draw(struct worker *w, uint32_t n)
{
    w->seed = w->seed * 1664525 + 1013904223;
    return (w->seed >> 16) % n;
}

/* The name says what has it: "one..." or "two...". */
static void ask_for(struct worker *w, const char *name, int kind)
{
    struct tandem_error error = {0};
    struct tandem_request r = request_with(name, N_TOKENS);
    struct tandem_answer *a = tandem_generate_wait(w->b->f->model, &r, &error);
    if (!a) {
        w->fault = error.code == TANDEM_NOT_FOUND ? w->fault : "an answer failed";
        return;
    }
    if (strcmp(tandem_answer_text(a, 0, NULL), w->b->text[kind]) != 0) {
        w->fault = "an answer is another adapter's";
    }
    atomic_fetch_add(w->n_answers, 1);
    tandem_answer_free(a);
}

static void *come_and_go(void *arg)
{
    struct worker *w = arg;
    static const char *const names[] = {"one", "one-more", "two", "two-more"};
    for (int i = 0; i < N_TURNS && !w->fault; i++) {
        uint32_t which = draw(w, 4);
        int kind = which < 2 ? 1 : 2;
        struct tandem_error error = {0};
        switch (draw(w, 4)) {
        case 0:
            if (!tandem_model_load_adapter(w->b->f->model, names[which], w->b->path[kind], &error) &&
                error.code != TANDEM_INVALID) {
                w->fault = "it was not loaded";
            }
            break;
        case 1:
            (void)tandem_model_unload_adapter(w->b->f->model, names[which], NULL);
            break;
        default:
            ask_for(w, names[which], kind);
        }
    }
    return NULL;
}

static void they_come_and_go_under_requests(void **state)
{
    struct bench *b = *state;
    pthread_t threads[N_THREADS];
    struct worker workers[N_THREADS];
    struct tandem_adapter_info info = {.size = sizeof info};
    atomic_int n_answers = 0;
    must_load(b, "one", 1);
    must_load(b, "two", 2);
    for (uint32_t i = 0; i < N_THREADS; i++) {
        workers[i] = (struct worker){.b = b, .seed = i, .n_answers = &n_answers};
        assert_int_equal(pthread_create(&threads[i], NULL, come_and_go, &workers[i]), 0);
    }
    for (int i = 0; i < N_THREADS; i++) {
        pthread_join(threads[i], NULL);
        if (workers[i].fault) {
            fail_msg("%s", workers[i].fault);
        }
    }
    assert_true(atomic_load(&n_answers) > 0);
    while (tandem_model_get_adapter(b->f->model, 0, &info)) {
        must_unload(b, info.name);
    }
    answers(b, NULL, 0);
}

static void a_model_is_freed_with_them(void **state)
{
    struct bench *b = *state;
    struct bench other = {.f = &(struct fixture){.model = load(b->f->path)}, .path = {NULL, b->path[1], b->path[2]}};
    struct text_seen seen = {0};
    struct tandem_request r = request_with("x", LONG_TOKENS);
    must_load(&other, "x", 1);
    must_load(&other, "y", 2);
    struct tandem_generation *g = must_start(other.f->model, &r, gather, &seen);
    must_unload(&other, "x");
    tandem_model_free(other.f->model);
    assert_true(tandem_generation_wait(g, 0));
    assert_false(seen.failed);
    tandem_generation_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_request_has_its_own),
        cmocka_unit_test(in_one_batch),
        cmocka_unit_test(a_name_comes_again),
        cmocka_unit_test(they_are_described),
        cmocka_unit_test(as_many_as_there_may_be),
        cmocka_unit_test(names_and_files_that_are_refused),
        cmocka_unit_test(an_unknown_one),
        cmocka_unit_test(in_a_callback_nobody_waits),
        cmocka_unit_test(they_come_and_go_under_requests),
        cmocka_unit_test(a_model_is_freed_with_them),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
