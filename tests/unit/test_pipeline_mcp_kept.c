/* Turns of a generation that is kept: they go on in another program, and are read from any place of theirs. */
#include "pipeline/generation_kept.h"
#include "pipeline/mcp/mcp_turn.h"
#include "tests/support/pipeline_mcp.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static int setup(void **state)
{
    *state = mcp_bench_open(3);
    return 0;
}

#define FIRST  "I look." CALL("look", "{\"text\": \"x\"}") CALL("echo", "{\"text\": \"y\"}")
#define SECOND "More." CALL("look", "{\"text\": \"z\"}")
#define LAST   "Done."
static const char *const texts[] = {FIRST, SECOND, LAST};

static void start_kept(struct mcp_bench *f)
{
    struct error err = {0};
    mcp_bench_prepare(f);
    f->g = generation_start_kept(f->bench.pipeline, &f->request, mcp_bench_on_ready, f, &err);
    assert_non_null(f->g);
}

/* Bytes [from, to) of what a turn says, and its end where that is among them. */
static void send_part(struct mcp_bench *f, const char *text, uint32_t from, uint32_t to)
{
    char piece[256];
    bool all = to == strlen(text);
    for (uint32_t at = from; at < to; at += 40) {
        uint32_t n = to - at < 40 ? to - at : 40;
        snprintf(piece, sizeof piece, "%.*s", (int)n, text + at);
        pipeline_bench_tokens(&f->bench, f->bench.port.n_jobs - 1, 0, at, piece,
                              all && at + n == to ? FINISH_STOP : FINISH_NONE);
    }
}

static struct gen_saved_call saved_call_of(struct arena *arena, const struct mcp_turn_call *c,
                                           enum finish_reason finish)
{
    return (struct gen_saved_call){.tool = arena_str(arena, buf_view(&c->name)),
                                   .arguments = arena_str(arena, buf_view(&c->arguments)),
                                   .answered = c->answered,
                                   .is_error = c->is_error,
                                   .text = arena_str(arena, buf_view(&c->result)),
                                   .finish = finish};
}

/* What a journal would have of it now; tokens of the last turn up to n. */
static struct gen_saved *save(const struct mcp_bench *f, struct arena *arena)
{
    size_t n = generation_n_turns(f->g);
    struct gen_saved_prompt *prompts = arena_alloc_array(arena, n, sizeof *prompts);
    struct gen_saved_choice *choices = arena_alloc_array(arena, n, sizeof *choices);
    struct gen_saved_calls *calls = arena_alloc_array(arena, n, sizeof *calls);
    struct gen_saved *saved = arena_alloc(arena, sizeof *saved);
    for (size_t t = 0; t < n; t++) {
        const struct choice *c = generation_choice(f->g, t, 0);
        const struct mcp_turn *turn = generation_turn(f->g, t);
        bool out_of_turns;
        int32_t *ids = arena_alloc_array(arena, c->n_tokens + 1, sizeof *ids);
        for (size_t i = 0; i < c->n_tokens; i++) {
            ids[i] = c->tokens[i].id;
        }
        prompts[t] = (struct gen_saved_prompt){.n_cached = generation_n_cached(f->g, t)};
        choices[t] = (struct gen_saved_choice){
            .ids = ids, .n = (uint32_t)c->n_tokens, .finish = c->finish, .stop_id = c->stop_id};
        struct gen_saved_call *items = arena_alloc_array(arena, turn->n_calls + 1, sizeof *items);
        for (size_t i = 0; i < turn->n_calls && (turn->calls[i].answered || turn->calls[i].saved); i++) {
            items[i] = saved_call_of(arena, &turn->calls[i], generation_turn_end(f->g, t, &out_of_turns));
            calls[t].n++;
        }
        calls[t].items = items;
    }
    *saved = (struct gen_saved){.prompts = prompts, .choices = choices, .calls = calls, .n_turns = n, .n_called = n};
    return saved;
}

/* Those that wait are recorded; go: and go out. */
static void record_calls(struct mcp_bench *f, bool go)
{
    struct mcp_turn *turn = generation_turn(f->g, generation_n_turns(f->g) - 1);
    for (size_t i = 0; i < turn->n_calls; i++) {
        turn->calls[i].saved = turn->calls[i].due;
    }
    if (go) {
        generation_make_calls(f->g);
    }
}

/* The program ends, and the next one has what was kept. */
static void restart(struct mcp_bench *f, bool replay)
{
    struct error err = {0};
    struct arena *arena = arena_create(MIB(16));
    struct gen_saved *saved = save(f, arena);
    mcp_bench_free_generation(f);
    mcp_bench_run_until(f, mcp_bench_is_unheld);
    mcp_bench_init_request(f, arena);
    mcp_bench_prepare(f);
    f->g = replay ? generation_replay(f->bench.pipeline, &f->request, saved, mcp_bench_on_ready, f, &err)
                  : generation_restore(f->bench.pipeline, &f->request, saved, mcp_bench_on_ready, f, &err);
    if (!f->g) {
        fail_msg("restored: %s", err.msg);
    }
}

static void put_event(struct buf *out, const struct gen_event *e)
{
    if (e->kind == GEN_DELTA || e->kind == GEN_ARGUMENTS) {
        buf_append(out, e->text);
    } else if (e->kind == GEN_CALL) {
        buf_printf(out, "<%u " STR_FMT " " STR_FMT ">", e->call.index, STR_ARG(e->call.name), STR_ARG(e->call.id));
    } else if (e->kind == GEN_RESULT) {
        buf_printf(out, "[%u " STR_FMT "%s " STR_FMT "]", e->call.index, STR_ARG(e->call.id),
                   e->is_error ? " error" : "", STR_ARG(e->text));
    } else if (e->kind == GEN_FINISH || e->kind == GEN_ERROR) {
        buf_printf(out, "{%d %s}", (int)e->finish, e->error.msg);
    } else if (e->kind == GEN_DONE) {
        buf_printf(out, "(%d)", (int)e->usage.completion_tokens);
    }
}

/* All that a reader has from a place on. */
static void read_from(struct mcp_bench *f, struct gen_place place, struct buf *out)
{
    struct error err = {0};
    struct gen_event e;
    struct generation *reader = generation_follow(f->g, NULL, NULL, &err);
    assert_non_null(reader);
    assert_true(generation_skip(reader, &place, 1, &err));
    (void)generation_catch_up(reader, NULL);
    while (generation_next(reader, clock_ms(), &e)) {
        put_event(out, &e);
    }
    generation_free(reader);
}

static size_t turns_wanted;

static bool has_turns(const struct mcp_bench *f)
{
    return generation_n_turns(f->g) >= turns_wanted && !generation_calls_due(f->g) &&
           (turns_wanted == 1 ||
            pipeline_bench_last(&f->bench)->n_prompt == generation_job(f->g, turns_wanted - 1)->n_prompt);
}

static bool has_answers(const struct mcp_bench *f)
{
    const struct mcp_turn *turn = generation_turn(f->g, turns_wanted - 1);
    for (size_t i = 0; i < turn->n_calls; i++) {
        if (!turn->calls[i].answered) {
            return false;
        }
    }
    return turn->n_calls > 0;
}

static void wait_for_turn(struct mcp_bench *f, size_t n)
{
    turns_wanted = n;
    mcp_bench_run_until(f, has_turns);
}

static bool calls_wait(const struct mcp_bench *f)
{
    return generation_calls_due(f->g);
}

enum cut { NOWHERE, IN_TEXT, BEFORE_CALLS, IN_CALLS, BEHIND_RESULTS };

/* The three turns, with a restart at one place of one of them. */
static void converse(struct mcp_bench *f, size_t cut_turn, enum cut cut)
{
    start_kept(f);
    for (size_t t = 0; t < 3; t++) {
        uint32_t n = (uint32_t)strlen(texts[t]), half = n / 2;
        enum cut here = t == cut_turn ? cut : NOWHERE;
        wait_for_turn(f, t + 1);
        send_part(f, texts[t], 0, half);
        if (here == IN_TEXT) {
            restart(f, false);
            wait_for_turn(f, t + 1);
        }
        send_part(f, texts[t], half, n);
        if (t == 2) {
            break;
        }
        assert_true(generation_calls_due(f->g));
        record_calls(f, here != IN_CALLS && here != BEFORE_CALLS);
        if (here == BEFORE_CALLS) { /* nothing was recorded of them */
            struct mcp_turn *turn = generation_turn(f->g, t);
            for (size_t i = 0; i < turn->n_calls; i++) {
                turn->calls[i].saved = 0;
            }
        }
        if (here == BEFORE_CALLS || here == IN_CALLS) {
            restart(f, false);
            mcp_bench_run_until(f, calls_wait); /* those that may be made again */
            record_calls(f, true);
        } else if (here == BEHIND_RESULTS) {
            turns_wanted = t + 1;
            mcp_bench_run_until(f, has_answers);
            restart(f, false);
        }
    }
    assert_true(generation_complete(f->g));
}

static void undisturbed(struct mcp_bench *f, struct buf *out)
{
    buf_init(out, MIB(1));
    converse(f, 0, NOWHERE);
    read_from(f, (struct gen_place){0, 0}, out);
    assert_true(str_find(buf_view(out), STR("<x>")) != STR_NPOS && str_find(buf_view(out), STR("<z>")) != STR_NPOS);
}

static void begin_again(struct mcp_bench *f)
{
    mcp_bench_free_generation(f);
    mcp_bench_run_until(f, mcp_bench_is_unheld);
    mcp_bench_init_request(f, arena_create(MIB(16)));
}

/* Every place of an answer is a place to go on from: what comes behind it is the rest of the whole. */
static void test_kept_places(void **state)
{
    struct mcp_bench *f = *state;
    struct buf whole, rest;
    undisturbed(f, &whole);
    buf_init(&rest, MIB(1));
    size_t before = whole.len, n_same = 0, n_all = 0;
    for (uint32_t n = 0; n <= strlen(FIRST SECOND LAST) + 3; n++) {
        for (uint32_t pieces = 0; pieces < 5; pieces++) {
            buf_clear(&rest);
            read_from(f, (struct gen_place){n, pieces}, &rest);
            n_same += rest.len == before;
            n_all++;
            before = rest.len;
            if (!str_ends(buf_view(&whole), buf_view(&rest))) {
                fail_msg("behind %u.%u: " STR_FMT, n, pieces, STR_ARG(buf_view(&rest)));
            }
        }
    }
    assert_true(n_same < n_all && before < 16); /* the end comes every time */
    buf_release(&whole);
    buf_release(&rest);
}

static void test_kept_restarts(void **state)
{
    struct mcp_bench *f = *state;
    struct buf whole, again;
    undisturbed(f, &whole);
    uint64_t n_calls = mcp_host_usage(f->host, 0)->calls[MCP_CALL_OK];
    buf_init(&again, MIB(1));
    static const struct {
        size_t turn;
        enum cut cut;
    } cuts[] = {{0, IN_TEXT},      {0, BEFORE_CALLS}, {0, BEHIND_RESULTS}, {1, IN_TEXT},
                {1, BEFORE_CALLS}, {1, IN_CALLS},     {1, BEHIND_RESULTS}, {2, IN_TEXT}};
    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        begin_again(f);
        buf_clear(&again);
        converse(f, cuts[i].turn, cuts[i].cut);
        read_from(f, (struct gen_place){0, 0}, &again);
        if (!str_eq(buf_view(&again), buf_view(&whole))) {
            fail_msg("cut %zu: " STR_FMT "\ninstead of: " STR_FMT, i, STR_ARG(buf_view(&again)),
                     STR_ARG(buf_view(&whole)));
        }
        assert_int_equal(mcp_host_usage(f->host, 0)->calls[MCP_CALL_OK], n_calls * (i + 2)); /* none was made twice */
    }
    buf_release(&whole);
    buf_release(&again);
}

/* Of two calls that had begun one only reads. */
static void test_kept_restart_in_a_call(void **state)
{
    struct mcp_bench *f = *state;
    struct buf again;
    buf_init(&again, MIB(1));
    converse(f, 0, IN_CALLS);
    read_from(f, (struct gen_place){0, 0}, &again);
    assert_true(str_find(buf_view(&again), STR(" <x>]")) != STR_NPOS);
    assert_true(str_find(buf_view(&again), STR(" error the server was restarted while this tool ran")) != STR_NPOS);
    assert_true(str_find(buf_view(&again), STR("<y>")) == STR_NPOS);
    assert_int_equal(mcp_host_usage(f->host, 0)->calls[MCP_CALL_OK], 2);
    buf_release(&again);
}

/* Damage: what became of a call nobody knows, so it counts as begun. */
static void test_kept_damaged(void **state)
{
    struct mcp_bench *f = *state;
    struct error err = {0};
    start_kept(f);
    send_part(f, FIRST, 0, strlen(FIRST));
    struct arena *arena = arena_create(MIB(16));
    struct gen_saved *saved = save(f, arena);
    saved->damaged = true;
    mcp_bench_free_generation(f);
    mcp_bench_init_request(f, arena);
    mcp_bench_prepare(f);
    f->g = generation_restore(f->bench.pipeline, &f->request, saved, mcp_bench_on_ready, f, &err);
    assert_non_null(f->g);
    const struct mcp_turn *turn = generation_turn(f->g, 0);
    assert_int_equal(turn->n_calls, 2);
    assert_true(turn->calls[0].due && !turn->calls[0].answered);
    assert_true(turn->calls[1].answered && turn->calls[1].is_error);
}

static bool is_read(const struct mcp_bench *f)
{
    return f->n_done + f->n_errors > 0;
}

/* What has ended is read again from what was saved, without anything being made; what is lost of it is an error. */
static void test_kept_replay(void **state)
{
    struct mcp_bench *f = *state;
    struct buf whole;
    undisturbed(f, &whole);
    uint64_t n_calls = mcp_host_usage(f->host, 0)->calls[MCP_CALL_OK];
    int n_jobs = f->bench.port.n_jobs;
    restart(f, true);
    mcp_bench_run_until(f, is_read);
    assert_true(f->n_done == 1 && f->finish.finish == FINISH_STOP && f->bench.port.n_jobs == n_jobs);
    mcp_bench_expect(&f->text, "I look.More.Done.");
    mcp_bench_expect(&f->results, "[0 <x>][1 <y>][2 <z>]");
    assert_int_equal(mcp_host_usage(f->host, 0)->calls[MCP_CALL_OK], n_calls);
    buf_release(&whole);
}

static void test_kept_replay_of_less(void **state)
{
    struct mcp_bench *f = *state;
    start_kept(f);
    send_part(f, FIRST, 0, strlen(FIRST));
    record_calls(f, true);
    turns_wanted = 1;
    mcp_bench_run_until(f, has_answers);
    restart(f, true);
    mcp_bench_run_until(f, is_read);
    assert_int_equal(f->n_errors, 1);
    mcp_bench_expect(&f->results, "[0 <x>][1 <y>]");
}

static void test_kept_cancelled(void **state)
{
    struct mcp_bench *f = *state;
    struct buf out;
    start_kept(f);
    send_part(f, FIRST, 0, strlen(FIRST));
    assert_true(generation_calls_due(f->g) && !generation_complete(f->g));
    generation_cancel(f->g);
    assert_true(generation_complete(f->g) && !generation_calls_due(f->g));
    buf_init(&out, MIB(1));
    read_from(f, (struct gen_place){0, 0}, &out);
    assert_true(str_find(buf_view(&out), STR(" error cancelled.]")) != STR_NPOS);
    assert_int_equal(mcp_host_usage(f->host, 0)->calls[MCP_CALL_OK], 0);
    restart(f, true);
    mcp_bench_run_until(f, is_read);
    assert_true(f->n_done == 1 && f->finish.finish == FINISH_CANCELLED);
    buf_release(&out);
}

/* Readers see what their marks show: no result before its turn's is saved, no end before that is. */
static void test_kept_marks(void **state)
{
    struct mcp_bench *f = *state;
    struct error err = {0};
    struct gen_event e;
    struct gen_mark marks[GEN_SAVED_TURNS] = {0};
    struct buf out, whole;
    buf_init(&out, MIB(1));
    undisturbed(f, &whole);
    struct generation *reader = generation_follow(f->g, NULL, NULL, &err);
    marks[0] = (struct gen_mark){.n = 6};
    for (int step = 0; step < 5; step++) {
        static const char *const shown[] = {"I look", "> error", "[0 ", "[1 ", "{1"};
        marks[0] = step == 0   ? (struct gen_mark){.n = 6}
                   : step == 1 ? (struct gen_mark){.n = 500, .finished = true}
                   : step == 2 ? (struct gen_mark){.n = 500, .finished = true, .n_results = 1}
                               : (struct gen_mark){.n = 500, .finished = true, .n_results = 2};
        marks[1] = marks[2] = step < 4 ? (struct gen_mark){0} : (struct gen_mark){500, true, 9, true};
        (void)generation_catch_up(reader, marks);
        while (generation_next(reader, clock_ms(), &e)) {
            put_event(&out, &e);
        }
        for (int i = 0; i < 5; i++) {
            bool found = str_find(buf_view(&out), str_of(shown[i])) != STR_NPOS;
            assert_int_equal(found, i == 1 ? 0 : i <= step);
        }
    }
    assert_true(str_eq(buf_view(&out), buf_view(&whole)));
    generation_free(reader);
    buf_release(&out);
    buf_release(&whole);
}

static int all_tests(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, mcp_bench_close)
    const struct CMUnitTest tests[] = {
        TEST(test_kept_places),    TEST(test_kept_restarts), TEST(test_kept_restart_in_a_call),
        TEST(test_kept_damaged),   TEST(test_kept_replay),   TEST(test_kept_replay_of_less),
        TEST(test_kept_cancelled), TEST(test_kept_marks),
    };
#undef TEST
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    return mcp_bench_main(argc, argv, all_tests);
}
