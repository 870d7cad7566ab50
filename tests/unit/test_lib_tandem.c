/* The library as a program sees it: models, requests, events, answers; many threads at once; every kind of error. On
 * random models. */
#include "base/clock.h"
#include "base/json.h"
#include "base/sys_file.h"
#include "tests/support/library_run.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>

static const char weather_tool[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"weather\",\"parameters\":{\"type\":\"object\",\"properties\":"
    "{\"city\":{\"enum\":[\"Paris\",\"Rome\"]}},\"required\":[\"city\"],\"additionalProperties\":false}}}]";

/* ---- what it says of itself ---- */

static void versions(void **state)
{
    (void)state;
    assert_int_equal(tandem_api_version(), TANDEM_API_VERSION);
    assert_non_null(strchr(tandem_version(), '.'));
    assert_string_equal(tandem_code_name(TANDEM_CONTEXT_EXCEEDED), "CONTEXT_EXCEEDED");
    assert_string_equal(tandem_code_name(TANDEM_INTERNAL), "INTERNAL");
    assert_string_equal(tandem_code_name((enum tandem_code)999), "INTERNAL");
}

static void the_model_is_described(void **state)
{
    struct fixture *f = *state;
    struct tandem_model_info info = {.size = sizeof info};
    tandem_model_get_info(f->model, &info);
    assert_int_equal(info.size, sizeof info);
    assert_string_equal(info.architecture, "llama");
    assert_int_equal(info.n_vocab, 320);
    assert_int_equal(info.n_context, 512);
    assert_true(info.has_chat_template);
    assert_string_equal(info.tool_format, "hermes");
    assert_int_equal(strlen(info.fingerprint), 16);
    assert_int_equal(info.eos, 256);
    assert_true(info.n_params > 0 && info.weights_size > 0 && info.kv_size > 0);
}

/* A program of an older header has smaller structs: what lies behind them is left alone. */
static void structs_may_be_smaller_or_larger(void **state)
{
    struct fixture *f = *state;
    struct tandem_model_info info;
    struct tandem_error error = {0};
    memset(&info, 0xAA, sizeof info);
    info.size = offsetof(struct tandem_model_info, fingerprint);
    tandem_model_get_info(f->model, &info);
    assert_string_equal(info.architecture, "llama");
    assert_int_equal(((unsigned char *)&info.fingerprint)[0], 0xAA);
    struct {
        struct tandem_model_info known;
        const char *later;
    } newer_info;
    memset(&newer_info, 0xAA, sizeof newer_info);
    newer_info.known.size = sizeof newer_info;
    tandem_model_get_info(f->model, &newer_info.known);
    assert_string_equal(newer_info.known.architecture, "llama");
    assert_null(newer_info.later);
    struct {
        struct tandem_request known;
        uint64_t later;
    } newer;
    tandem_request_init(&newer.known, sizeof newer);
    assert_int_equal(newer.known.size, sizeof newer);
    assert_int_equal(newer.later, 0);
    newer.known.prompt = "a";
    newer.known.max_tokens = 2;
    tandem_answer_free(must_answer(f->model, &newer.known));
    newer.later = 1; /* this library cannot know what it means */
    assert_null(tandem_generate_wait(f->model, &newer.known, &error));
    assert_int_equal(error.code, TANDEM_UNSUPPORTED);
    assert_string_equal(error.param, "size");
    newer.known.size = 0;
    assert_null(tandem_generate_wait(f->model, &newer.known, &error));
    assert_int_equal(error.code, TANDEM_INVALID);
}

/* ---- text ---- */

static void text_becomes_tokens_and_back(void **state)
{
    struct fixture *f = *state;
    static const char text[] = "na\xC3\xAFve";
    size_t n, size;
    int32_t *ids = tandem_tokenize(f->model, text, SIZE_MAX, 0, &n, NULL);
    assert_int_equal(n, sizeof text - 1);
    char *back = tandem_detokenize(f->model, ids, n, 0, &size, NULL);
    assert_int_equal(size, sizeof text - 1);
    assert_string_equal(back, text);
    tandem_free(ids);
    tandem_free(back);
    ids = tandem_tokenize(f->model, "<|im_end|>xyz", 10, TANDEM_PARSE_SPECIAL, &n, NULL);
    assert_int_equal(n, 1);
    assert_int_equal(ids[0], 258);
    back = tandem_detokenize(f->model, ids, n, TANDEM_SKIP_SPECIAL, &size, NULL);
    assert_int_equal(size, 0);
    assert_string_equal(back, "");
    tandem_free(ids);
    tandem_free(back);
    ids = tandem_tokenize(f->model, "", 0, 0, &n, NULL);
    assert_non_null(ids);
    assert_int_equal(n, 0);
    tandem_free(ids);
}

static void tokens_outside_the_vocabulary_are_refused(void **state)
{
    struct fixture *f = *state;
    struct tandem_error error = {0};
    assert_null(tandem_detokenize(f->model, (int32_t[]){1, 320}, 2, 0, NULL, &error));
    assert_int_equal(error.code, TANDEM_INVALID);
    assert_string_equal(error.param, "ids");
}

static void unknown_flags_are_refused(void **state)
{
    struct fixture *f = *state;
    struct tandem_error error = {0};
    size_t n;
    assert_null(tandem_tokenize(f->model, "x", SIZE_MAX, TANDEM_SKIP_SPECIAL, &n, &error));
    assert_string_equal(error.param, "flags");
    memset(&error, 0, sizeof error);
    assert_null(tandem_detokenize(f->model, (int32_t[]){1}, 1, TANDEM_SKIP_SPECIAL | 8, NULL, &error));
    assert_string_equal(error.param, "flags");
    assert_non_null(strstr(error.message, "0x8"));
}

static void a_chat_is_rendered(void **state)
{
    struct fixture *f = *state;
    struct tandem_error error = {0};
    size_t size;
    struct tandem_message message = {"user", "Hi \"you\""};
    struct tandem_request r = chat_of(&message, 8);
    char *text = tandem_render_chat(f->model, &r, &size, NULL);
    assert_string_equal(text, "<|im_start|>user\nHi \"you\"<|im_end|>\n<|im_start|>assistant\n");
    assert_int_equal(size, strlen(text));
    tandem_free(text);
    r.thinking = 1;
    r.tools_json = weather_tool;
    text = tandem_render_chat(f->model, &r, NULL, NULL);
    assert_non_null(strstr(text, "<tools>weather</tools>"));
    assert_non_null(strstr(text, "<think>"));
    tandem_free(text);
    r = request_of("x", 1);
    assert_null(tandem_render_chat(f->model, &r, &size, &error));
    assert_string_equal(error.param, "messages");
}

/* ---- answers ---- */

static void equal_seeds_give_equal_answers(void **state)
{
    struct fixture *f = *state;
    struct tandem_request r = request_of("Once upon a time", 24);
    struct tandem_answer *a = must_answer(f->model, &r), *b = must_answer(f->model, &r);
    size_t size;
    assert_string_equal(tandem_answer_text(a, 0, &size), tandem_answer_text(b, 0, NULL));
    assert_int_equal(size, strlen(tandem_answer_text(a, 0, NULL)));
    assert_int_equal(tandem_answer_finish(a, 0), TANDEM_FINISH_LENGTH);
    assert_int_equal(tandem_answer_usage(a).prompt, 16);
    assert_int_equal(tandem_answer_usage(a).completion, 24);
    assert_null(tandem_answer_text(a, 1, &size));
    assert_int_equal(tandem_answer_finish(a, 1), TANDEM_FINISH_NONE);
    assert_int_equal(tandem_answer_n_calls(a, 1), 0);
    r.seed = 8;
    struct tandem_answer *other = must_answer(f->model, &r);
    assert_string_not_equal(tandem_answer_text(a, 0, NULL), tandem_answer_text(other, 0, NULL));
    tandem_answer_free(a);
    tandem_answer_free(b);
    tandem_answer_free(other);
}

static void several_choices(void **state)
{
    struct fixture *f = *state;
    struct tandem_request r = request_of("Once", 12);
    r.n_choices = 3;
    struct tandem_answer *a = must_answer(f->model, &r);
    assert_string_not_equal(tandem_answer_text(a, 0, NULL), tandem_answer_text(a, 1, NULL));
    assert_non_null(tandem_answer_text(a, 2, NULL));
    assert_int_equal(tandem_answer_usage(a).completion, 36);
    tandem_answer_free(a);
}

static void ids_and_text_are_the_same_prompt(void **state)
{
    struct fixture *f = *state;
    struct tandem_request text = request_of("abc", 10), ids = request_of(NULL, 10);
    int32_t abc[] = {'a', 'b', 'c'};
    ids.prompt_ids = abc;
    ids.n_prompt_ids = 3;
    struct tandem_answer *a = must_answer(f->model, &text), *b = must_answer(f->model, &ids);
    assert_string_equal(tandem_answer_text(a, 0, NULL), tandem_answer_text(b, 0, NULL));
    tandem_answer_free(a);
    tandem_answer_free(b);
}

static void a_schema_binds_the_answer(void **state)
{
    struct fixture *f = *state;
    struct tandem_request r = request_of("Answer: ", 64);
    r.ignore_eos = false;
    r.json_schema = "{\"enum\":[\"yes\",\"no\"]}";
    struct tandem_answer *a = must_answer(f->model, &r);
    const char *text = tandem_answer_text(a, 0, NULL);
    assert_true(strcmp(text, "\"yes\"") == 0 || strcmp(text, "\"no\"") == 0);
    assert_int_equal(tandem_answer_finish(a, 0), TANDEM_FINISH_STOP);
    tandem_answer_free(a);
    r.json_schema = NULL;
    r.regex = "[ab]{5}";
    a = must_answer(f->model, &r);
    assert_int_equal(strspn(tandem_answer_text(a, 0, NULL), "ab"), 5);
    tandem_answer_free(a);
    r.regex = NULL;
    r.choices_json = "[\"left\",\"right\"]";
    a = must_answer(f->model, &r);
    text = tandem_answer_text(a, 0, NULL);
    assert_true(strcmp(text, "left") == 0 || strcmp(text, "right") == 0);
    tandem_answer_free(a);
}

static void calls_are_taken_apart(void **state)
{
    struct fixture *f = *state;
    struct tandem_message message = {"user", "Weather?"};
    struct tandem_request r = chat_of(&message, 200);
    struct tandem_call call = {.size = sizeof call};
    struct tandem_error error = {0};
    r.ignore_eos = false;
    r.tools_json = weather_tool;
    r.tool_choice = "required";
    r.parallel_tool_calls = false;
    r.thinking_budget = 0;
    struct tandem_answer *a = must_answer(f->model, &r);
    assert_int_equal(tandem_answer_n_calls(a, 0), 1);
    assert_int_equal(tandem_answer_finish(a, 0), TANDEM_FINISH_CALLS);
    assert_true(tandem_answer_get_call(a, 0, 0, &call));
    assert_false(tandem_answer_get_call(a, 0, 1, &call));
    assert_string_equal(call.name, "weather");
    assert_int_equal(strncmp(call.id, "call_", 5), 0);
    assert_null(call.fault);
    struct error err = {0};
    struct json *arguments = json_parse(str_of(call.arguments), 8, &err);
    struct str city = json_str(json_get(arguments, "city"));
    assert_true(str_eq(city, STR("Paris")) || str_eq(city, STR("Rome")));
    json_free(arguments);
    tandem_answer_free(a);
    r.tool_name = "missing";
    assert_null(tandem_generate_wait(f->model, &r, &error));
    assert_string_equal(error.param, "tool_name");
}

static void reasoning_is_taken_apart(void **state)
{
    struct fixture *f = *state;
    struct tandem_message message = {"user", "Think."};
    struct tandem_request r = chat_of(&message, 64);
    r.thinking = 1;
    r.thinking_budget = 10;
    struct tandem_answer *a = must_answer(f->model, &r);
    size_t reasoning, text;
    const char *what = tandem_answer_reasoning(a, 0, &reasoning);
    assert_true(reasoning > 0);
    assert_null(strstr(what, "think>"));
    tandem_answer_text(a, 0, &text);
    assert_true(text > 0);
    assert_true(tandem_answer_usage(a).reasoning >= 10);
    tandem_answer_free(a);
}

/* ---- events ---- */

struct seen {
    struct tandem_model *model; /* for callbacks that use it */
    struct tandem_generation *generation;
    char text[4096]; /* as much of it as there is room for */
    size_t size;
    int n_text, n_finish, n_end;
    enum tandem_finish finish;
    int stop_after; /* texts; 0: never */
    int sleep_ms;   /* in each callback */
    bool failed;
    struct tandem_error error;
    atomic_int n_events;
};

static bool see(void *arg, const struct tandem_event *e)
{
    struct seen *s = arg;
    assert_int_equal(e->size, sizeof *e);
    assert_int_equal(s->n_end, 0); /* it is the last */
    if (s->sleep_ms) {
        clock_sleep_ms(s->sleep_ms);
    }
    if (e->kind == TANDEM_EVENT_TEXT) {
        assert_int_equal(e->text[e->text_size], 0);
        if (s->size + e->text_size < sizeof s->text) {
            memcpy(s->text + s->size, e->text, e->text_size + 1);
            s->size += e->text_size;
        }
        s->n_text++;
    } else if (e->kind == TANDEM_EVENT_FINISH) {
        s->finish = e->finish;
        s->n_finish++;
    } else if (e->kind == TANDEM_EVENT_END) {
        s->n_end++;
        s->failed = e->error != NULL;
        if (e->error) {
            s->error = *e->error;
        }
    }
    atomic_fetch_add(&s->n_events, 1);
    return !s->stop_after || s->n_text < s->stop_after;
}

static void events_come_in_order(void **state)
{
    struct fixture *f = *state;
    struct seen s = {0};
    struct tandem_request r = request_of("Once upon a time", 24);
    struct tandem_answer *whole = must_answer(f->model, &r);
    struct tandem_generation *g = must_start(f->model, &r, see, &s);
    must_end(g);
    assert_true(tandem_generation_wait(g, 0));
    assert_string_equal(s.text, tandem_answer_text(whole, 0, NULL));
    assert_true(s.n_text > 1);
    assert_int_equal(s.n_finish, 1);
    assert_int_equal(s.n_end, 1);
    assert_false(s.failed);
    tandem_generation_cancel(g); /* too late: nothing */
    tandem_generation_free(g);
    tandem_answer_free(whole);
}

static void a_stop_ends_it(void **state)
{
    struct fixture *f = *state;
    struct tandem_request r = request_of("Once upon a time", 40);
    struct tandem_answer *whole = must_answer(f->model, &r);
    char stop[2] = {tandem_answer_text(whole, 0, NULL)[5], '\0'};
    const char *stops[] = {stop};
    if ((unsigned char)stop[0] < 0x80) {
        r.stops = stops;
        r.n_stops = 1;
        struct tandem_answer *cut = must_answer(f->model, &r);
        assert_int_equal(tandem_answer_finish(cut, 0), TANDEM_FINISH_STOP);
        assert_null(strstr(tandem_answer_text(cut, 0, NULL), stop));
        tandem_answer_free(cut);
    }
    tandem_answer_free(whole);
}

static void a_callback_stops_it(void **state)
{
    struct fixture *f = *state;
    struct seen s = {.stop_after = 3};
    struct tandem_request r = request_of("Go on", LONG_TOKENS);
    struct tandem_generation *g = must_start(f->model, &r, see, &s);
    must_end(g);
    assert_int_equal(s.n_text, 3);
    assert_int_equal(s.n_finish, 1);
    assert_int_equal(s.finish, TANDEM_FINISH_CANCELLED);
    assert_int_equal(s.n_end, 1);
    assert_false(s.failed);
    tandem_generation_free(g);
}

static void wait_for_events(struct seen *s, int n)
{
    int64_t until = clock_ms() + PATIENCE_MS;
    while (atomic_load(&s->n_events) < n && clock_ms() < until) {
        clock_sleep_ms(1);
    }
    assert_true(atomic_load(&s->n_events) >= n);
}

static void another_thread_cancels_it(void **state)
{
    struct fixture *f = *state;
    struct seen s = {.sleep_ms = 2};
    struct tandem_request r = request_of("Go on", LONG_TOKENS);
    struct tandem_generation *g = must_start(f->model, &r, see, &s);
    assert_false(tandem_generation_wait(g, 0));
    wait_for_events(&s, 2);
    tandem_generation_cancel(g);
    must_end(g);
    assert_int_equal(s.finish, TANDEM_FINISH_CANCELLED);
    assert_true(s.n_text < LONG_TOKENS);
    tandem_generation_free(g);
}

static void no_callback_comes_after_free(void **state)
{
    struct fixture *f = *state;
    struct seen s = {.sleep_ms = 1};
    struct tandem_request r = request_of("Go on", LONG_TOKENS);
    struct tandem_generation *g = must_start(f->model, &r, see, &s);
    wait_for_events(&s, 1);
    tandem_generation_free(g);
    int n = atomic_load(&s.n_events);
    clock_sleep_ms(30);
    assert_int_equal(atomic_load(&s.n_events), n);
    assert_int_equal(s.n_end, 0);
}

/* ---- while another callback runs ---- */

struct gate { /* a callback stays in its first event until it is opened */
    atomic_bool inside, open;
    enum tandem_event_kind kind; /* the first of this kind */
    int n_end;
    bool late;
};

static bool stay(void *arg, const struct tandem_event *e)
{
    struct gate *gate = arg;
    int64_t until = clock_ms() + 20000;
    gate->n_end += e->kind == TANDEM_EVENT_END;
    if (e->kind == gate->kind && !atomic_exchange(&gate->inside, true)) {
        while (!atomic_load(&gate->open) && clock_ms() < until) {
            clock_sleep_ms(1);
        }
        gate->late = clock_ms() >= until;
    }
    return true;
}

static void wait_until_inside(struct gate *gate)
{
    int64_t until = clock_ms() + PATIENCE_MS;
    while (!atomic_load(&gate->inside) && clock_ms() < until) {
        clock_sleep_ms(1);
    }
    assert_true(atomic_load(&gate->inside));
}

static void freeing_waits_for_no_other_callback(void **state)
{
    struct fixture *f = *state;
    struct gate gate = {.kind = TANDEM_EVENT_TEXT};
    struct seen s = {0};
    struct tandem_request r = request_of("Go on", LONG_TOKENS);
    struct tandem_generation *running = must_start(f->model, &r, see, &s);
    struct tandem_generation *other = must_start(f->model, &r, stay, &gate);
    wait_until_inside(&gate);
    int n = atomic_load(&s.n_events);
    tandem_generation_free(running);
    atomic_store(&gate.open, true);
    tandem_generation_cancel(other);
    must_end(other);
    assert_false(gate.late);
    assert_int_equal(atomic_load(&s.n_events), n);
    tandem_generation_free(other);
}

static void what_is_cancelled_before_it_begins_says_so(void **state)
{
    struct fixture *f = *state;
    struct gate gate = {.kind = TANDEM_EVENT_TEXT};
    struct seen s = {0};
    struct tandem_request r = request_of("Go on", LONG_TOKENS);
    struct tandem_generation *other = must_start(f->model, &r, stay, &gate);
    wait_until_inside(&gate);
    r.n_choices = 2;
    struct tandem_generation *g = must_start(f->model, &r, see, &s);
    tandem_generation_cancel(g);
    atomic_store(&gate.open, true);
    must_end(g);
    assert_int_equal(s.n_finish, 2);
    assert_int_equal(s.finish, TANDEM_FINISH_CANCELLED);
    assert_int_equal(s.n_end, 1);
    assert_false(s.failed);
    tandem_generation_free(g);
    tandem_generation_free(other);
}

/* What a callback may do: start, cancel, free; and what it may not: wait. */
static bool use_everything(void *arg, const struct tandem_event *e)
{
    struct seen *s = arg;
    struct tandem_error error = {0};
    struct tandem_request r = request_of("b", 2);
    (void)e;
    assert_null(tandem_generate_wait(s->model, &r, &error));
    assert_int_equal(error.code, TANDEM_INVALID);
    struct seen *inner = calloc(1, sizeof *inner);
    struct tandem_generation *g = must_start(s->model, &r, see, inner);
    assert_false(tandem_generation_wait(g, -1));
    tandem_generation_cancel(g);
    tandem_generation_free(g); /* no event of it comes, so what it would get may go */
    free(inner);
    tandem_model_free(s->model); /* nothing */
    tandem_generation_free(s->generation);
    atomic_fetch_add(&s->n_events, 1);
    return true;
}

static bool wait_for_handle(void *arg, const struct tandem_event *e)
{
    struct seen *s = arg;
    while (!__atomic_load_n(&s->generation, __ATOMIC_ACQUIRE)) {
        clock_sleep_ms(1);
    }
    return use_everything(s, e);
}

static void a_callback_may_use_the_library(void **state)
{
    struct fixture *f = *state;
    struct seen s = {.model = f->model};
    struct tandem_request r = request_of("Go on", LONG_TOKENS);
    struct tandem_generation *g = must_start(f->model, &r, wait_for_handle, &s);
    __atomic_store_n(&s.generation, g, __ATOMIC_RELEASE);
    wait_for_events(&s, 1);
    tandem_answer_free(must_answer(f->model, &r)); /* everything before it is over */
    assert_int_equal(atomic_load(&s.n_events), 1);
}

/* ---- many at once ---- */

#define N_THREADS 8
#define N_ROUNDS  4

struct worker {
    struct tandem_model *model;
    int index;
    char *alone[N_ROUNDS];
    bool same;
};

static struct tandem_request round_request(int worker, int round, char prompt[64])
{
    snprintf(prompt, 64, "Thread %d, round %d:", worker, round);
    struct tandem_request r = request_of(prompt, 8 + 5 * (worker % 4));
    r.seed = (uint64_t)(100 * worker + round);
    return r;
}

static void *work(void *arg)
{
    struct worker *w = arg;
    char prompt[64];
    w->same = true;
    for (int i = 0; i < N_ROUNDS; i++) {
        struct tandem_request r = round_request(w->index, i, prompt);
        struct tandem_answer *a = tandem_generate_wait(w->model, &r, NULL);
        w->same = w->same && a && strcmp(tandem_answer_text(a, 0, NULL), w->alone[i]) == 0;
        tandem_answer_free(a);
    }
    return NULL;
}

static void threads_get_the_bytes_that_each_gets_alone(void **state)
{
    struct fixture *f = *state;
    struct worker workers[N_THREADS];
    pthread_t threads[N_THREADS];
    char prompt[64];
    for (int i = 0; i < N_THREADS; i++) {
        workers[i] = (struct worker){.model = f->model, .index = i};
        for (int k = 0; k < N_ROUNDS; k++) {
            struct tandem_request r = round_request(i, k, prompt);
            struct tandem_answer *a = must_answer(f->model, &r);
            workers[i].alone[k] = strdup(tandem_answer_text(a, 0, NULL));
            tandem_answer_free(a);
        }
    }
    for (int i = 0; i < N_THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (int i = 0; i < N_THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_true(workers[i].same);
        for (int k = 0; k < N_ROUNDS; k++) {
            free(workers[i].alone[k]);
        }
    }
}

struct loader {
    const char *path;
    struct tandem_model *model;
    char *text;
};

static void *load_and_answer(void *arg)
{
    struct loader *l = arg;
    struct tandem_model_options o = small_options();
    struct tandem_request r = request_of("Once upon a time", 24);
    l->model = tandem_model_load(l->path, &o, NULL);
    struct tandem_answer *a = l->model ? tandem_generate_wait(l->model, &r, NULL) : NULL;
    l->text = a ? strdup(tandem_answer_text(a, 0, NULL)) : NULL;
    tandem_answer_free(a);
    return NULL;
}

static void models_are_loaded_side_by_side(void **state)
{
    struct fixture *f = *state;
    struct loader loaders[3];
    pthread_t threads[3];
    struct tandem_request r = request_of("Once upon a time", 24);
    struct tandem_answer *expected = must_answer(f->model, &r);
    for (int i = 0; i < 3; i++) {
        loaders[i] = (struct loader){.path = f->path};
        assert_int_equal(pthread_create(&threads[i], NULL, load_and_answer, &loaders[i]), 0);
    }
    for (int i = 0; i < 3; i++) {
        pthread_join(threads[i], NULL);
    }
    for (int i = 0; i < 3; i++) {
        tandem_model_free(loaders[i].model);
        assert_non_null(loaders[i].text);
        assert_string_equal(loaders[i].text, tandem_answer_text(expected, 0, NULL));
        free(loaders[i].text);
    }
    tandem_answer_free(expected);
}

static void *free_model(void *arg)
{
    tandem_model_free(arg);
    return NULL;
}

static void a_model_is_freed_under_its_generations(void **state)
{
    struct fixture *f = *state;
    struct tandem_model *model = load(f->path);
    struct seen seen[6] = {0};
    struct tandem_generation *g[6];
    struct tandem_request r = request_of("Go on", LONG_TOKENS);
    for (int i = 0; i < 6; i++) {
        g[i] = must_start(model, &r, see, &seen[i]);
    }
    wait_for_events(&seen[0], 1);
    tandem_model_free(model);
    for (int i = 0; i < 6; i++) {
        assert_true(tandem_generation_wait(g[i], 0));
        assert_int_equal(seen[i].n_end, 1);
        assert_false(seen[i].failed);
        tandem_generation_free(g[i]);
    }
}

/* The callback that the model is freed under is that of one that was cancelled: what else runs is ended all the same.
 * It waits for its turn, so that nothing but the cancelling is told of it. */
static void a_model_is_freed_while_a_callback_runs(void **state)
{
    struct fixture *f = *state;
    struct tandem_model_options o = small_options();
    struct gate gate = {.kind = TANDEM_EVENT_FINISH};
    struct seen s = {0};
    struct tandem_request r = request_of("Go on", LONG_TOKENS);
    o.max_sequences = 1;
    struct tandem_model *model = tandem_model_load(f->path, &o, NULL);
    assert_non_null(model);
    r.n_choices = 16; /* one after another: much longer than the gate is shut */
    struct tandem_generation *running = must_start(model, &r, see, &s);
    r.n_choices = 1;
    struct tandem_generation *waiting = must_start(model, &r, stay, &gate);
    wait_for_events(&s, 1);
    tandem_generation_cancel(waiting);
    wait_until_inside(&gate);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, free_model, model), 0);
    clock_sleep_ms(50);
    atomic_store(&gate.open, true);
    pthread_join(thread, NULL);
    assert_true(tandem_generation_wait(running, 0) && tandem_generation_wait(waiting, 0));
    assert_int_equal(s.n_end, 1);
    assert_int_equal(gate.n_end, 1);
    tandem_generation_free(running);
    tandem_generation_free(waiting);
}

static void *cancel_until_it_ends(void *arg)
{
    struct tandem_generation *g = arg;
    do {
        tandem_generation_cancel(g);
    } while (!tandem_generation_wait(g, 0));
    tandem_generation_free(g);
    return NULL;
}

/* Handles outlive their model, and may be used while it goes. */
static void handles_are_used_while_the_model_is_freed(void **state)
{
    struct fixture *f = *state;
    struct seen seen[4];
    pthread_t threads[4];
    struct tandem_request r = request_of("Go on", LONG_TOKENS);
    for (int round = 0; round < 10; round++) {
        struct tandem_model *model = load(f->path);
        for (int i = 0; i < 4; i++) {
            seen[i] = (struct seen){0};
            struct tandem_generation *g = must_start(model, &r, see, &seen[i]);
            assert_int_equal(pthread_create(&threads[i], NULL, cancel_until_it_ends, g), 0);
        }
        tandem_model_free(model);
        for (int i = 0; i < 4; i++) {
            pthread_join(threads[i], NULL);
            assert_int_equal(seen[i].n_end, 1);
        }
    }
}

/* ---- errors ---- */

static void models_that_cannot_be_loaded(void **state)
{
    struct fixture *f = *state;
    struct tandem_error error = {0};
    struct error err = {0};
    char *text = temp_dir_file(&f->dir, "text.gguf");
    assert_true(file_write_atomic(text, STR("this is no model"), &err));
    struct {
        const char *path, *backend, *kv_type, *template, *tool_format, *speculation;
        uint64_t kv_memory;
        enum tandem_code code;
    } cases[] = {
        {NULL, NULL, NULL, NULL, NULL, NULL, 0, TANDEM_INVALID},
        {"/nowhere/model.gguf", NULL, NULL, NULL, NULL, NULL, 0, TANDEM_NOT_FOUND},
        {text, NULL, NULL, NULL, NULL, NULL, 0, TANDEM_BAD_FORMAT},
        {f->path, "abacus", NULL, NULL, NULL, NULL, 0, TANDEM_INVALID},
        {f->path, NULL, "f4", NULL, NULL, NULL, 0, TANDEM_INVALID},
        {f->path, NULL, NULL, "{% if %}", NULL, NULL, 0, TANDEM_INVALID},
        {f->path, NULL, NULL, NULL, "semaphore", NULL, 0, TANDEM_INVALID},
        {f->path, NULL, NULL, NULL, NULL, "often", 0, TANDEM_INVALID},
        {f->path, NULL, NULL, NULL, NULL, NULL, 1024, TANDEM_INVALID},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct tandem_model_options o = small_options();
        o.backend = cases[i].backend;
        o.kv_type = cases[i].kv_type;
        o.chat_template = cases[i].template;
        o.tool_format = cases[i].tool_format;
        o.speculation = cases[i].speculation;
        o.kv_memory = cases[i].kv_memory;
        struct tandem_model *m = tandem_model_load(cases[i].path, &o, &error);
        if (m || error.code != cases[i].code || !error.message[0]) {
            fail_msg("case %d: %s (%s)", (int)i, error.message, tandem_code_name(error.code));
        }
        assert_null(tandem_model_load(cases[i].path, &o, NULL));
    }
    struct tandem_model_options none = {0};
    assert_null(tandem_model_load(f->path, &none, &error));
    assert_string_equal(error.param, "size");
    tandem_model_free(NULL);
    free(text);
}

struct bad_request {
    const char *param;
    enum tandem_code code;
    void (*spoil)(struct tandem_request *r);
};

#define SPOILS(name, statement)                \
    static void name(struct tandem_request *r) \
    {                                          \
        statement;                             \
    }

static const char *const empty_stop[] = {""};
static const struct tandem_message no_content[] = {{"user", NULL}}, bad_role[] = {{"wizard", "x"}};

SPOILS(no_prompt, r->prompt = NULL)
SPOILS(two_prompts, r->messages_json = "[]")
SPOILS(zero_tokens, r->max_tokens = 0)
SPOILS(too_many_tokens, r->max_tokens = 4000)
SPOILS(hot, r->temperature = 1000)
SPOILS(no_choice, r->n_choices = 0)
SPOILS(many_choices, r->n_choices = 65)
SPOILS(stop_without_text, (r->stops = empty_stop, r->n_stops = 1))
SPOILS(many_stops, (r->stops = empty_stop, r->n_stops = 17))
static const struct tandem_bias strong[] = {{5, 101}}, no_number[] = {{5, NAN}};
SPOILS(stops_of_nothing, r->n_stops = 1)
SPOILS(strong_bias, (r->bias = strong, r->n_bias = 1))
SPOILS(bias_of_no_number, (r->bias = no_number, r->n_bias = 1))
SPOILS(messages_of_nothing, (r->prompt = NULL, r->n_messages = 2))
SPOILS(negative_time, r->timeout_ms = -1)
SPOILS(endless_thought, r->thinking_budget = (int64_t)1 << 32)
SPOILS(idle, r->priority = 1000001)
SPOILS(bad_schema, r->json_schema = "{\"type\":")
SPOILS(schema_of_no_object, r->json_schema = "[]")
SPOILS(bad_regex, r->regex = "(")
SPOILS(two_formats, (r->regex = "a", r->json_object = true))
SPOILS(bad_grammar, r->grammar = "start: %%%")
SPOILS(no_strings, r->choices_json = "[]")
SPOILS(tools_without_chat, r->tools_json = weather_tool)
SPOILS(message_without_text, (r->prompt = NULL, r->messages = no_content, r->n_messages = 1))
SPOILS(unknown_role, (r->prompt = NULL, r->messages = bad_role, r->n_messages = 1))
SPOILS(messages_of_no_json, (r->prompt = NULL, r->messages_json = "{"))
SPOILS(no_messages, (r->prompt = NULL, r->messages_json = "[]"))
SPOILS(bad_tool, (r->prompt = NULL, r->messages_json = "[{\"role\":\"user\",\"content\":\"x\"}]",
                  r->tools_json = "[{\"type\":\"function\"}]"))
SPOILS(tool_without_tools,
       (r->prompt = NULL, r->messages_json = "[{\"role\":\"user\",\"content\":\"x\"}]", r->tool_choice = "required"))

static const struct bad_request bad_requests[] = {
    {"prompt", TANDEM_INVALID, no_prompt},
    {"prompt", TANDEM_INVALID, two_prompts},
    {"max_tokens", TANDEM_INVALID, zero_tokens},
    {"prompt", TANDEM_CONTEXT_EXCEEDED, too_many_tokens},
    {"temperature", TANDEM_INVALID, hot},
    {"n_choices", TANDEM_INVALID, no_choice},
    {"n_choices", TANDEM_INVALID, many_choices},
    {"stops", TANDEM_INVALID, stop_without_text},
    {"stops", TANDEM_INVALID, many_stops},
    {"stops", TANDEM_INVALID, stops_of_nothing},
    {"bias", TANDEM_INVALID, strong_bias},
    {"bias", TANDEM_INVALID, bias_of_no_number},
    {"messages", TANDEM_INVALID, messages_of_nothing},
    {"timeout_ms", TANDEM_INVALID, negative_time},
    {"thinking_budget", TANDEM_INVALID, endless_thought},
    {"priority", TANDEM_INVALID, idle},
    {"json_schema", TANDEM_INVALID, bad_schema},
    {"json_schema", TANDEM_INVALID, schema_of_no_object},
    {"regex", TANDEM_INVALID, bad_regex},
    {"regex", TANDEM_INVALID, two_formats},
    {"grammar", TANDEM_INVALID, bad_grammar},
    {"choices", TANDEM_INVALID, no_strings},
    {"tools", TANDEM_INVALID, tools_without_chat},
    {"messages[0].content", TANDEM_INVALID, message_without_text},
    {"messages[0].role", TANDEM_INVALID, unknown_role},
    {"messages", TANDEM_INVALID, messages_of_no_json},
    {"messages", TANDEM_INVALID, no_messages},
    {"tools[0].function", TANDEM_INVALID, bad_tool},
    {"tool_choice", TANDEM_INVALID, tool_without_tools},
};

static void requests_that_cannot_be_run(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof bad_requests / sizeof bad_requests[0]; i++) {
        const struct bad_request *bad = &bad_requests[i];
        struct tandem_request r = request_of("x", 4);
        struct tandem_error error = {0};
        struct seen s = {0};
        bad->spoil(&r);
        struct tandem_generation *g = tandem_generate(f->model, &r, see, &s, &error);
        if (g || error.code != bad->code || strcmp(error.param, bad->param) != 0) {
            fail_msg("case %d: '%s' %s (%s)", (int)i, error.param, error.message, tandem_code_name(error.code));
        }
        assert_int_equal(atomic_load(&s.n_events), 0);
        assert_null(tandem_generate(f->model, &r, see, &s, NULL));
    }
    struct tandem_error error = {0};
    struct tandem_request fine = request_of("x", 4);
    assert_null(tandem_generate(f->model, &fine, NULL, NULL, &error));
    assert_string_equal(error.param, "on_event");
    tandem_generation_free(NULL);
    tandem_answer_free(NULL);
    tandem_free(NULL);
}

static void its_time_may_be_over(void **state)
{
    struct fixture *f = *state;
    struct seen s = {.sleep_ms = 5};
    struct tandem_request r = request_of("Go on", LONG_TOKENS);
    r.timeout_ms = 1;
    struct tandem_generation *g = must_start(f->model, &r, see, &s);
    must_end(g);
    assert_true(s.failed);
    assert_int_equal(s.error.code, TANDEM_DEADLINE);
    tandem_generation_free(g);
}

static void a_model_has_a_template_of_its_own(void **state)
{
    struct fixture *f = *state;
    struct tandem_message message = {"user", "Hi"};
    struct tandem_request r = chat_of(&message, 4);
    struct tandem_model_info info = {.size = sizeof info};
    struct tandem_model *m = tandem_model_load(f->path, NULL, NULL); /* with all defaults */
    assert_non_null(m);
    tandem_model_get_info(m, &info);
    assert_true(info.has_chat_template);
    assert_null(info.reasoning_format);
    tandem_answer_free(must_answer(m, &r));
    tandem_model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(versions),
        cmocka_unit_test(the_model_is_described),
        cmocka_unit_test(structs_may_be_smaller_or_larger),
        cmocka_unit_test(text_becomes_tokens_and_back),
        cmocka_unit_test(tokens_outside_the_vocabulary_are_refused),
        cmocka_unit_test(unknown_flags_are_refused),
        cmocka_unit_test(a_chat_is_rendered),
        cmocka_unit_test(equal_seeds_give_equal_answers),
        cmocka_unit_test(several_choices),
        cmocka_unit_test(ids_and_text_are_the_same_prompt),
        cmocka_unit_test(a_schema_binds_the_answer),
        cmocka_unit_test(calls_are_taken_apart),
        cmocka_unit_test(reasoning_is_taken_apart),
        cmocka_unit_test(events_come_in_order),
        cmocka_unit_test(a_stop_ends_it),
        cmocka_unit_test(a_callback_stops_it),
        cmocka_unit_test(another_thread_cancels_it),
        cmocka_unit_test(no_callback_comes_after_free),
        cmocka_unit_test(freeing_waits_for_no_other_callback),
        cmocka_unit_test(what_is_cancelled_before_it_begins_says_so),
        cmocka_unit_test(a_callback_may_use_the_library),
        cmocka_unit_test(threads_get_the_bytes_that_each_gets_alone),
        cmocka_unit_test(models_are_loaded_side_by_side),
        cmocka_unit_test(a_model_is_freed_under_its_generations),
        cmocka_unit_test(a_model_is_freed_while_a_callback_runs),
        cmocka_unit_test(handles_are_used_while_the_model_is_freed),
        cmocka_unit_test(models_that_cannot_be_loaded),
        cmocka_unit_test(requests_that_cannot_be_run),
        cmocka_unit_test(its_time_may_be_over),
        cmocka_unit_test(a_model_has_a_template_of_its_own),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
