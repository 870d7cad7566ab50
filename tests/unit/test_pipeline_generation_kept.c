/* Generations that are restored, replayed and followed, over a port that the test plays: whatever the place at which
 * one is cut, the pieces are the whole. */
#include "pipeline/generation_kept.h"

#include "pipeline/saved_tokens.h"
#include "tests/support/pipeline_bench.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MAX_TOKENS  160
#define MAX_CHOICES 2

struct fixture {
    struct pipeline_bench bench;
    struct gen_request requests[2], *request; /* the present one, and the one before */
};

/* Reasoning between <think> and </think>, calls as Hermes wrote them. */
static const char template_source[] =
    "{% for t in tools %}<tool_call>{\"name\": {{ t.function.name }}, \"arguments\": {} }</tool_call>{% endfor %}"
    "{% for m in messages %}{{ m.content }}{% endfor %}{% if enable_thinking %}<think>{% else %}</think>{% endif %}";

/* An answer as an engine would send it. */
struct answer {
    const char *name, *text[MAX_CHOICES];
    uint32_t n;
    enum finish_reason finish; /* STOP: by an end-of-text id behind the text */
    const char *stop;
    bool logprobs, echo;
    bool chat; /* of a chat with tools, whose prompt has opened the reasoning */
};

#define CALL(name, arguments) "<tool_call>{\"name\": \"" name "\", \"arguments\": " arguments "}</tool_call>"
static const struct answer answers[] = {
    {"plain", {"Hello, world"}, 1, FINISH_LENGTH, NULL, false, false, false},
    {"end of text", {"Hello, world"}, 1, FINISH_STOP, NULL, false, false, false},
    {"characters of several bytes",
     {"a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80z"},
     1,
     FINISH_STOP,
     NULL,
     true,
     false,
     false},
    {"half a character at the end", {"ab\xe2\x82"}, 1, FINISH_STOP, NULL, true, false, false},
    {"half a character, cut", {"ab\xe2\x82"}, 1, FINISH_LENGTH, NULL, false, false, false},
    {"a stop string", {"some words STOP and more"}, 1, FINISH_LENGTH, "STOP", true, false, false},
    {"nearly a stop string", {"STO STOO ST"}, 1, FINISH_STOP, "STOP", true, false, false},
    {"logprobs", {"Hello, world"}, 1, FINISH_STOP, NULL, true, false, false},
    {"echo", {"Hello, world"}, 1, FINISH_STOP, NULL, false, true, false},
    {"two choices", {"first STO answer", "second \xc3\xa9"}, 2, FINISH_STOP, "STOP", true, false, false},
    {"nothing", {""}, 1, FINISH_STOP, NULL, true, false, false},
    {"reasoning", {"why not</think>\n\nso be it"}, 1, FINISH_STOP, NULL, true, false, true},
    {"reasoning, cut", {"why not</thi"}, 1, FINISH_LENGTH, NULL, true, false, true},
    {"a call", {"hm</think>So: " CALL("add", "{\"a\": [1, 2]}")}, 1, FINISH_STOP, NULL, true, false, true},
    {"without logprobs", {"hm</think>So: " CALL("add", "{\"a\": 1}")}, 1, FINISH_STOP, NULL, false, false, true},
    {"two calls",
     {"</think>" CALL("add", "{}") "\n" CALL("sub", "{\"b\": 3}")},
     1,
     FINISH_STOP,
     NULL,
     true,
     false,
     true},
    {"a call, cut",
     {"</think>"
      "<tool_call>{\"name\": \"add\", \"arguments\": {\"a\": \"x"},
     1,
     FINISH_LENGTH,
     NULL,
     true,
     false,
     true},
    {"a stop string in a call",
     {"</think>" CALL("add", "{\"a\": \"STOP\"}")},
     1,
     FINISH_STOP,
     "STOP",
     true,
     false,
     true},
    {"nearly a call", {"</think>a <tool_cal"}, 1, FINISH_LENGTH, NULL, true, false, true},
    {"two chats", {"x</think>" CALL("add", "{}"), "yy</think>text"}, 2, FINISH_STOP, "STOP", true, false, true},
};
#define N_ANSWERS (sizeof answers / sizeof answers[0])

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    pipeline_bench_open_chat(&f->bench, template_source);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    pipeline_bench_close(&f->bench);
    free(f);
    return 0;
}

static const struct json *parse(struct arena *arena, const char *text)
{
    struct error err = {0};
    struct json *root = json_keep(json_parse(str_of(text), 0, &err), arena, "test", &err);
    assert_non_null(root);
    return root;
}

/* Another f->request, prepared, in an arena of its own. */
static void prepare(struct fixture *f, const struct answer *a)
{
    struct error err = {0};
    struct gen_request *r = f->request == &f->requests[0] ? &f->requests[1] : &f->requests[0];
    f->request = r;
    gen_request_init(r, arena_create(1 << 20), a->chat ? GEN_CHAT : GEN_PROMPTS);
    snprintf(r->id, sizeof r->id, "chatcmpl-1");
    r->has_seed = true;
    if (a->chat) {
        r->messages = parse(r->arena, "[{\"role\": \"user\", \"content\": \"hi\"}]");
        r->tools = parse(r->arena, "[{\"type\": \"function\", \"function\": {\"name\": \"add\"}}, "
                                   "{\"type\": \"function\", \"function\": {\"name\": \"sub\"}}]");
        r->thinking = 1;
    }
    r->prompts = arena_alloc_array(r->arena, 1, sizeof *r->prompts);
    r->prompts[0].text = STR("ab");
    r->n_prompts = 1;
    r->n = a->n;
    r->max_tokens = MAX_TOKENS;
    r->logprobs = a->logprobs;
    r->n_top = 2;
    r->echo = a->echo;
    if (a->stop) {
        struct str *stops = arena_alloc_array(r->arena, 1, sizeof *stops);
        stops[0] = str_of(a->stop);
        r->stops = stops;
        r->n_stops = 1;
    }
    if (!pipeline_prepare(f->bench.pipeline, r, &err)) {
        fail_msg("%s", err.msg);
    }
}

/* ---- what an engine sends ---- */

static uint32_t n_sent(const struct answer *a, uint32_t choice)
{
    return (uint32_t)strlen(a->text[choice]) + (a->finish == FINISH_STOP);
}

/* Tokens [from, to) of a choice, and its end when that is among them. */
static void send_tokens(struct fixture *f, const struct answer *a, uint32_t choice, uint32_t from, uint32_t to)
{
    int32_t ids[MAX_TOKENS];
    struct token_logprob logprobs[MAX_TOKENS];
    struct token_top tops[MAX_TOKENS][2];
    uint32_t n_text = (uint32_t)strlen(a->text[choice]), total = n_sent(a, choice);
    for (uint32_t i = from; i < to; i++) {
        int32_t id = i < n_text ? (uint8_t)a->text[choice][i] : BENCH_EOS;
        struct token_top *top = tops[i - from];
        top[0] = (struct token_top){id, -0.25f * (float)i};
        top[1] = (struct token_top){id ^ 1, -7.5f};
        ids[i - from] = id;
        logprobs[i - from] = (struct token_logprob){id, top[0].logprob, 1, 2, top, 0};
    }
    struct engine_event event = {.kind = ENGINE_TOKENS,
                                 .job = pipeline_bench_last(&f->bench)->id,
                                 .choice = choice,
                                 .index = from,
                                 .n = to - from,
                                 .ids = ids,
                                 .logprobs = a->logprobs ? logprobs : NULL,
                                 .finish = to == total ? a->finish : FINISH_NONE,
                                 .stop_id = to == total && a->finish == FINISH_STOP ? BENCH_EOS : -1};
    pipeline_bench_send(&f->bench, event);
}

/* ---- what somebody gets ---- */

struct got {                 /* of each choice */
    struct buf text, tokens; /* text: marked with what it is of, but for the answer's own */
    enum gen_event_kind last;
    enum finish_reason finish;
    uint32_t n_calls;
    uint64_t n_reasoning;
    bool valid; /* the last call */
};

static void got_init(struct got got[MAX_CHOICES])
{
    for (int i = 0; i < MAX_CHOICES; i++) {
        got[i] = (struct got){0};
        buf_init(&got[i].text, 1 << 16);
        buf_init(&got[i].tokens, 1 << 16);
    }
}

static void got_release(struct got got[MAX_CHOICES])
{
    for (int i = 0; i < MAX_CHOICES; i++) {
        buf_release(&got[i].text);
        buf_release(&got[i].tokens);
    }
}

static void take(const struct gen_event *e, struct got got[MAX_CHOICES])
{
    static const char *const marks[] = {[GEN_DELTA] = "", [GEN_REASONING] = "{R}", [GEN_ARGUMENTS] = "{A}"};
    struct got *g = &got[e->index];
    if (e->kind == GEN_CALL || e->kind == GEN_CALL_END) {
        buf_printf(&g->text, "{%s %u " STR_FMT " " STR_FMT " %d}", e->kind == GEN_CALL ? "call" : "end", e->call.index,
                   STR_ARG(e->call.id), STR_ARG(e->call.name), e->call.valid);
    } else if (e->kind >= GEN_DELTA && e->kind < GEN_FINISH) {
        buf_puts(&g->text, e->kind == g->last ? "" : marks[e->kind]);
        buf_append(&g->text, e->text);
    }
    g->last = e->kind;
    if (e->kind >= GEN_DELTA && e->kind < GEN_FINISH) {
        for (size_t i = 0; i < e->n_tokens; i++) {
            const struct gen_token *t = &e->tokens[i];
            buf_printf(&g->tokens, "%d@%zu:%g,%d,%g ", t->id, t->text_offset, (double)t->logprob, t->top[1].id,
                       (double)t->top[1].logprob);
        }
    } else if (e->kind == GEN_FINISH) {
        g->n_calls = e->n_calls;
        g->valid = e->call.valid;
        g->n_reasoning = e->usage.n_reasoning;
        g->finish = e->finish;
    }
}

static void take_all(struct generation *g, struct got got[MAX_CHOICES])
{
    struct gen_event e = {0};
    while (generation_next(g, 0, &e)) {
        take(&e, got);
    }
}

static void expect_same(const struct got whole[MAX_CHOICES], const struct got pieces[MAX_CHOICES], const char *name)
{
    for (int i = 0; i < MAX_CHOICES; i++) {
        if (!str_eq(buf_view(&whole[i].text), buf_view(&pieces[i].text)) ||
            !str_eq(buf_view(&whole[i].tokens), buf_view(&pieces[i].tokens)) || whole[i].finish != pieces[i].finish ||
            whole[i].n_calls != pieces[i].n_calls || whole[i].valid != pieces[i].valid ||
            whole[i].n_reasoning != pieces[i].n_reasoning) {
            fail_msg("%s, choice %d: '" STR_FMT "' " STR_FMT " became '" STR_FMT "' " STR_FMT, name, i,
                     STR_ARG(buf_view(&whole[i].text)), STR_ARG(buf_view(&whole[i].tokens)),
                     STR_ARG(buf_view(&pieces[i].text)), STR_ARG(buf_view(&pieces[i].tokens)));
        }
    }
}

static struct generation *start(struct fixture *f)
{
    struct error err = {0};
    pipeline_bench_forget_jobs(&f->bench);
    struct generation *g = generation_start(f->bench.pipeline, f->request, NULL, NULL, &err);
    assert_non_null(g);
    return g;
}

static struct generation *follow(const struct generation *g)
{
    struct error err = {0};
    struct generation *follower = generation_follow(g, NULL, NULL, &err);
    assert_non_null(follower);
    return follower;
}

/* What an undisturbed reader gets. */
static void take_whole(struct fixture *f, const struct answer *a, struct got got[MAX_CHOICES])
{
    prepare(f, a);
    struct generation *g = start(f);
    for (uint32_t k = 0; k < a->n; k++) {
        send_tokens(f, a, k, 0, n_sent(a, k));
    }
    got_init(got);
    take_all(g, got);
    generation_free(g);
}

/* A reader that leaves after so many events and comes back with the place that the last one told. */
static void read_twice(struct fixture *f, const struct answer *a, int n_events, struct got pieces[MAX_CHOICES])
{
    struct error err = {0};
    struct gen_event e;
    struct buf place;
    struct gen_place after[MAX_CHOICES] = {{0, 0}};
    uint32_t sent[MAX_CHOICES] = {0};
    size_t n_after = 1;
    bool busy = true;
    prepare(f, a);
    struct generation *g = start(f), *reader = follow(g);
    assert_true(generation_skip(reader, after, 1, &err));
    buf_init(&place, 1 << 10);
    while (busy) { /* token by token, as a slow engine would */
        busy = false;
        for (uint32_t k = 0; k < a->n; k++) {
            if (sent[k] < n_sent(a, k)) {
                send_tokens(f, a, k, sent[k], sent[k] + 1);
                sent[k]++;
                busy = true;
            }
        }
        (void)generation_catch_up(reader, NULL);
        while (n_events > 0 && generation_next(reader, 0, &e)) {
            take(&e, pieces);
            n_events--;
            buf_clear(&place);
            if (generation_position(reader, &place)) {
                assert_true(gen_places_read(buf_view(&place), after, MAX_CHOICES, &n_after));
            } else if (n_events == 0) {
                buf_clear(&pieces[e.index].text); /* an echo has no place behind it: it comes again */
            }
        }
    }
    generation_free(reader);
    reader = follow(g);
    assert_true(generation_skip(reader, after, n_after, &err));
    (void)generation_catch_up(reader, NULL);
    take_all(reader, pieces);
    generation_free(reader);
    generation_free(g);
    buf_release(&place);
}

static void test_a_reader_may_come_back_after_every_event(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < N_ANSWERS; i++) {
        struct got whole[MAX_CHOICES], pieces[MAX_CHOICES];
        take_whole(f, &answers[i], whole);
        for (int n_events = 0; n_events < 120; n_events++) {
            got_init(pieces);
            read_twice(f, &answers[i], n_events, pieces);
            expect_same(whole, pieces, answers[i].name);
            got_release(pieces);
        }
        got_release(whole);
    }
}

/* ---- saving and restoring ---- */

/* What is there of g, through its packed form, in the arena of another request. */
static struct gen_saved *save(const struct generation *g, struct arena *arena, bool logprobs)
{
    const struct gen_request *r = generation_request(g);
    struct gen_saved *saved = arena_alloc(arena, sizeof *saved);
    struct gen_saved_prompt *prompts = arena_alloc_array(arena, 1, sizeof *prompts);
    struct gen_saved_choice *choices = arena_alloc_array(arena, r->n, sizeof *choices);
    struct error err = {0};
    for (uint32_t k = 0; k < r->n; k++) {
        const struct choice *c = generation_choice(g, 0, k);
        struct buf data;
        int32_t *ids;
        struct token_logprob *tokens;
        buf_init(&data, 1 << 16);
        saved_tokens_pack(&data, c->tokens, c->n_tokens, logprobs);
        if (!saved_tokens_unpack(buf_view(&data), c->n_tokens, arena, &ids, &tokens, &err)) {
            fail_msg("%s", err.msg);
        }
        choices[k] = (struct gen_saved_choice){ids, tokens, (uint32_t)c->n_tokens, c->finish, c->stop_id};
        buf_release(&data);
    }
    *saved = (struct gen_saved){.prompts = prompts, .choices = choices};
    return saved;
}

/* Cut off after n tokens of each choice, restored, and gone on with. */
static void restore_at(struct fixture *f, const struct answer *a, uint32_t n, struct got pieces[MAX_CHOICES])
{
    struct error err = {0};
    prepare(f, a);
    struct generation *g = start(f);
    for (uint32_t k = 0; k < a->n; k++) {
        send_tokens(f, a, k, 0, n < n_sent(a, k) ? n : n_sent(a, k));
    }
    prepare(f, a);
    struct gen_saved *saved = save(g, f->request->arena, a->logprobs);
    generation_free(g);
    pipeline_bench_forget_jobs(&f->bench);
    g = generation_restore(f->bench.pipeline, f->request, saved, NULL, NULL, &err);
    assert_non_null(g);
    assert_int_equal(f->bench.port.n_jobs, !generation_complete(g));
    for (uint32_t k = 0; k < a->n && !generation_complete(g); k++) {
        static const struct job_accepted none = {0};
        const struct job_accepted *accepted =
            pipeline_bench_last(&f->bench)->accepted ? &pipeline_bench_last(&f->bench)->accepted[k] : &none;
        assert_int_equal(accepted->n, saved->choices[k].n);
        assert_int_equal(accepted->done, saved->choices[k].finish != FINISH_NONE);
        for (uint32_t i = 0; i < accepted->n; i++) {
            assert_int_equal(accepted->ids[i], saved->choices[k].ids[i]);
        }
        if (!accepted->done) {
            send_tokens(f, a, k, accepted->n, n_sent(a, k));
        }
    }
    take_all(g, pieces);
    generation_free(g);
}

static void test_goes_on_from_every_token(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < N_ANSWERS; i++) {
        struct got whole[MAX_CHOICES], pieces[MAX_CHOICES];
        take_whole(f, &answers[i], whole);
        for (uint32_t n = 0; n < 100; n++) {
            got_init(pieces);
            restore_at(f, &answers[i], n, pieces);
            expect_same(whole, pieces, answers[i].name);
            got_release(pieces);
        }
        got_release(whole);
    }
}

static void test_what_has_ended_is_read_again(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < N_ANSWERS; i++) {
        const struct answer *a = &answers[i];
        struct got whole[MAX_CHOICES], again[MAX_CHOICES];
        struct error err = {0};
        take_whole(f, a, whole);
        prepare(f, a);
        struct generation *g = start(f);
        for (uint32_t k = 0; k < a->n; k++) {
            send_tokens(f, a, k, 0, n_sent(a, k));
        }
        prepare(f, a);
        struct gen_saved *saved = save(g, f->request->arena, a->logprobs);
        generation_free(g);
        g = generation_replay(f->bench.pipeline, f->request, saved, NULL, NULL, &err);
        assert_non_null(g);
        assert_int_equal(pipeline_n_running(f->bench.pipeline), 0);
        got_init(again);
        take_all(g, again);
        expect_same(whole, again, a->name);
        got_release(again);
        got_release(whole);
        generation_free(g);
    }
}

static void test_marks_hold_back(void **state)
{
    struct fixture *f = *state;
    const struct answer *a = &answers[1];
    struct got got[MAX_CHOICES];
    struct gen_mark mark = {.n = 3};
    prepare(f, a);
    struct generation *g = start(f), *reader = follow(g);
    send_tokens(f, a, 0, 0, n_sent(a, 0));
    got_init(got);
    assert_true(generation_catch_up(reader, &mark));
    assert_false(generation_catch_up(reader, &mark)); /* nothing new */
    take_all(reader, got);
    assert_string_equal(got[0].text.data, "Hel");
    mark.n = n_sent(a, 0); /* its last token ended it: not without its end */
    assert_true(generation_catch_up(reader, &mark));
    take_all(reader, got);
    assert_string_equal(got[0].text.data, "Hello, world");
    assert_int_equal(got[0].finish, FINISH_NONE);
    mark.finished = true;
    assert_true(generation_catch_up(reader, &mark));
    take_all(reader, got);
    assert_int_equal(got[0].finish, FINISH_STOP);
    got_release(got);
    generation_free(reader);
    generation_free(g);
}

static void test_failures_reach_followers(void **state)
{
    struct fixture *f = *state;
    const struct answer *a = &answers[0];
    struct error why = {0}, err = {0};
    struct gen_mark mark = {.n = 2};
    prepare(f, a);
    struct generation *g = start(f), *reader = follow(g);
    send_tokens(f, a, 0, 0, 2);
    error_set(&why, ERR_BAD_NUMBERS, "no numbers.");
    struct engine_event failed = {.kind = ENGINE_FAILED, .job = pipeline_bench_last(&f->bench)->id, .error = why};
    pipeline_bench_send(&f->bench, failed);
    assert_true(generation_catch_up(reader, &mark));
    assert_false(generation_failed(reader, &err)); /* it is not saved yet */
    assert_true(generation_catch_up(reader, NULL));
    assert_true(generation_failed(reader, &err));
    assert_int_equal(err.code, ERR_BAD_NUMBERS);
    generation_free(reader);
    generation_free(g);
}

static void test_skip_counts_choices(void **state)
{
    struct fixture *f = *state;
    const struct gen_place after[3] = {{1, 0}, {2, 0}, {3, 1}};
    struct error err = {0};
    prepare(f, &answers[9]);
    struct generation *g = start(f);
    assert_false(generation_skip(g, after, 3, &err));
    assert_int_equal(err.code, ERR_INVALID);
    assert_string_equal(err.param, "after");
    assert_true(generation_skip(g, after, 2, &err));
    generation_free(g);
}

static void test_places_are_read(void **state)
{
    static const char *const bad[] = {"", "x", "1.", ".1", "1.2.3", "1,,2", "1,2,3,4", "-1", "99999999999"};
    struct gen_place places[3];
    size_t n;
    (void)state;
    assert_true(gen_places_read(STR("17,4.2,0"), places, 3, &n));
    assert_int_equal(n, 3);
    assert_true(places[0].n == 17 && places[0].pieces == 0 && places[1].n == 4 && places[1].pieces == 2);
    assert_true(gen_places_read((struct str){0}, places, 3, &n));
    assert_int_equal(n, 0);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (gen_places_read(str_of(bad[i]), places, 3, &n)) {
            fail_msg("'%s' was read", bad[i]);
        }
    }
}

static void test_cut_bytes_are_no_tokens(void **state)
{
    struct fixture *f = *state;
    struct token_top tops[2] = {{7, -1}, {8, -2}};
    struct choice_token tokens[3] = {{.id = 7, .logprob = -1, .rank = 1, .n_top = 2, .top = tops, .digest = 99},
                                     {.id = 9, .logprob = -3, .rank = 4},
                                     {.id = 11}};
    struct arena *arena = arena_create(1 << 20);
    struct error err = {0};
    struct token_logprob *logprobs;
    struct buf data;
    int32_t *ids;
    (void)f;
    for (int with_logprobs = 0; with_logprobs < 2; with_logprobs++) {
        buf_init(&data, 1 << 10);
        saved_tokens_pack(&data, tokens, 3, with_logprobs);
        assert_true(saved_tokens_unpack(buf_view(&data), 3, arena, &ids, &logprobs, &err));
        assert_true(ids[0] == 7 && ids[1] == 9 && ids[2] == 11);
        assert_int_equal(logprobs != NULL, with_logprobs);
        if (with_logprobs) {
            assert_true(logprobs[0].digest == 99 && logprobs[0].top[1].id == 8 && logprobs[1].rank == 4);
        }
        for (size_t n = 0; n < data.len; n++) {
            struct str cut = str_slice(buf_view(&data), 0, n);
            assert_false(saved_tokens_unpack(cut, 3, arena, &ids, &logprobs, &err));
        }
        buf_putc(&data, '\0');
        assert_false(saved_tokens_unpack(buf_view(&data), 3, arena, &ids, &logprobs, &err));
        buf_release(&data);
    }
    arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_reader_may_come_back_after_every_event, setup, teardown),
        cmocka_unit_test_setup_teardown(test_goes_on_from_every_token, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_has_ended_is_read_again, setup, teardown),
        cmocka_unit_test_setup_teardown(test_marks_hold_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_failures_reach_followers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_skip_counts_choices, setup, teardown),
        cmocka_unit_test(test_places_are_read),
        cmocka_unit_test_setup_teardown(test_cut_bytes_are_no_tokens, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
