/* Events made by hand to Anthropic's Message objects and to the events of its streams. */
#include "api/anthropic/anthropic.h"

#include "base/array.h"
#include "tests/support/api_bench.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static const struct messages_request plain = {.keep_thinking = -1};

struct fact_options {
    const struct messages_request *request;
    uint32_t page_tokens;
    bool clipped;
};

static struct message_facts facts(struct fact_options o)
{
    return (struct message_facts){.id = "msg_1",
                                  .model = "m",
                                  .fingerprint = "",
                                  .resumed_from = "",
                                  .request = o.request ? o.request : &plain,
                                  .page_tokens = o.page_tokens,
                                  .clipped = o.clipped};
}

#define USAGE                                                                               \
    {                                                                                       \
        .prompt_tokens = 100, .cached_tokens = 32, .completion_tokens = 7, .n_reasoning = 3 \
    }
static const struct gen_usage usage = USAGE;

#define TEXT(t)                                           \
    {                                                     \
        .kind = GEN_DELTA, .text = STR(t), .usage = USAGE \
    }
#define THINK(t)                                              \
    {                                                         \
        .kind = GEN_REASONING, .text = STR(t), .usage = USAGE \
    }
#define ARGS(t)                                                                                      \
    {                                                                                                \
        .kind = GEN_ARGUMENTS, .text = STR(t), .call = {.id = STR("call_abc"), .name = STR("look") } \
    }
#define CALL(i, n)                                                \
    {                                                             \
        .kind = GEN_CALL, .call = {.id = STR(i), .name = STR(n) } \
    }
#define CALL_END             \
    {                        \
        .kind = GEN_CALL_END \
    }
#define FINISH(...)                                                                  \
    {                                                                                \
        .kind = GEN_FINISH, .usage = USAGE, .last = true, .stop_id = -1, __VA_ARGS__ \
    }
#define DONE                             \
    {                                    \
        .kind = GEN_DONE, .usage = USAGE \
    }
#define EVENTS(...) ((const struct gen_event[]){__VA_ARGS__}), ARRAY_LEN(((const struct gen_event[]){__VA_ARGS__}))

static void write_body(struct api_bench *f, struct fact_options o, const struct gen_event *events, size_t n,
                       struct buf *out)
{
    struct message_writer w;
    struct message_facts all = facts(o);
    (void)f;
    message_writer_init(&w, &all);
    for (size_t i = 0; i < n; i++) {
        message_gather(&w, &events[i]);
    }
    message_body(&w, &usage, out);
    message_writer_release(&w);
}

static void expect_body(struct api_bench *f, struct fact_options o, const struct gen_event *events, size_t n,
                        const char *member, const char *expected)
{
    struct buf out;
    struct error err = {0};
    buf_init(&out, MIB(1));
    write_body(f, o, events, n, &out);
    struct json *v = json_parse(buf_view(&out), 0, &err);
    if (!v) {
        fail_msg("%s: %s", out.data, err.msg);
    }
    api_bench_expect(f, json_get(v, member), expected);
    json_free(v);
    buf_release(&out);
}

static void bodies(void **state)
{
    struct api_bench *f = *state;
    char signature[SIGNATURE_SIZE], expected[1024];
    anthropic__sign(STR("Let me see."), signature);
    snprintf(expected, sizeof expected,
             "[{'type':'thinking','thinking':'Let me see.','signature':'%s'},{'type':'text','text':'I look.'},"
             "{'type':'tool_use','id':'toolu_abc','name':'look','input':{'at':[1,2]}},"
             "{'type':'tool_use','id':'mine','name':'list','input':{}}]",
             signature);
    expect_body(f, (struct fact_options){0},
                EVENTS(THINK("Let me "), THINK("see."), TEXT("I "), TEXT(""), TEXT("look."), CALL("call_abc", "look"),
                       ARGS("{\"at\":"), ARGS("[1,2]}"), CALL_END, CALL("mine", "list"), CALL_END,
                       FINISH(.finish = FINISH_STOP, .n_calls = 2)),
                "content", expected);
    expect_body(f, (struct fact_options){0}, EVENTS(FINISH(.finish = FINISH_STOP)), "content", "[]");
    expect_body(f, (struct fact_options){0},
                EVENTS(CALL("call_abc", "look"), ARGS("{\"at\":\"he"), FINISH(.finish = FINISH_LENGTH, .n_calls = 1)),
                "content",
                "[{'type':'tool_use','id':'toolu_abc','name':'look','input':{'INVALID_JSON':'{\\'at\\':\\'he'}}]");
    static const struct messages_request omit = {.omit_thinking = true};
    snprintf(expected, sizeof expected, "[{'type':'thinking','thinking':'','signature':'%s'}]", signature);
    expect_body(f, (struct fact_options){.request = &omit}, EVENTS(THINK("Let me see."), FINISH(.finish = FINISH_STOP)),
                "content", expected);
}

static void stop_reasons(void **state)
{
    struct api_bench *f = *state;
    static const struct messages_request warm = {.warm_only = true};
    const struct {
        struct fact_options options;
        struct gen_event finish;
        const char *reason, *sequence;
    } cases[] = {
        {{0}, FINISH(.finish = FINISH_STOP), "'end_turn'", "null"},
        {{0}, {.kind = GEN_FINISH, .finish = FINISH_STOP, .stop_id = 5}, "'end_turn'", "null"},
        {{0}, FINISH(.finish = FINISH_LENGTH), "'max_tokens'", "null"},
        {{.clipped = true}, FINISH(.finish = FINISH_LENGTH), "'model_context_window_exceeded'", "null"},
        {{.clipped = true}, FINISH(.finish = FINISH_STOP), "'end_turn'", "null"},
        {{0}, FINISH(.finish = FINISH_STOP, .stop = STR("END")), "'stop_sequence'", "'END'"},
        {{0}, FINISH(.finish = FINISH_STOP, .n_calls = 1), "'tool_use'", "null"},
        {{0}, FINISH(.finish = FINISH_LENGTH, .n_calls = 1), "'max_tokens'", "null"},
        {{0}, FINISH(.finish = FINISH_CANCELLED), "'pause_turn'", "null"},
        {{.request = &warm}, FINISH(.finish = FINISH_STOP), "'max_tokens'", "null"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        expect_body(f, cases[i].options, &cases[i].finish, 1, "stop_reason", cases[i].reason);
        expect_body(f, cases[i].options, &cases[i].finish, 1, "stop_sequence", cases[i].sequence);
    }
}

#define THINKING_7 "3"
#define THINKING_0 "0"
#define USAGE_JSON(input, created, read, output)                                                             \
    "{'input_tokens':" #input ",'cache_creation_input_tokens':" #created ",'cache_read_input_tokens':" #read \
    ",'cache_creation':{'ephemeral_5m_input_tokens':" #created                                               \
    ",'ephemeral_1h_input_tokens':0},'output_tokens':" #output                                               \
    ",'output_tokens_details':{'thinking_tokens':" THINKING_##output "},'service_tier':'standard'}"

#define DELTA_USAGE_JSON(input, created, read, output)                                                       \
    "{'input_tokens':" #input ",'cache_creation_input_tokens':" #created ",'cache_read_input_tokens':" #read \
    ",'output_tokens':" #output ",'output_tokens_details':{'thinking_tokens':" THINKING_##output "}}"

static void usage_adds_up(void **state)
{
    struct api_bench *f = *state;
    static const struct messages_request marks = {.marks_cache = true};
    static const struct messages_request warm = {.warm_only = true, .marks_cache = true};
    const struct gen_event finish = FINISH(.finish = FINISH_STOP);
    const struct gen_event warmed[] = {TEXT("dropped"), FINISH(.finish = FINISH_LENGTH)};
    expect_body(f, (struct fact_options){.page_tokens = 16}, &finish, 1, "usage", USAGE_JSON(68, 0, 32, 7));
    expect_body(f, (struct fact_options){.request = &marks, .page_tokens = 16}, &finish, 1, "usage",
                USAGE_JSON(4, 64, 32, 7));
    expect_body(f, (struct fact_options){.request = &marks}, &finish, 1, "usage", USAGE_JSON(68, 0, 32, 7));
    expect_body(f, (struct fact_options){.request = &warm, .page_tokens = 16}, warmed, 2, "usage",
                USAGE_JSON(4, 64, 32, 0));
    expect_body(f, (struct fact_options){.request = &warm, .page_tokens = 16}, warmed, 2, "content", "[]");
    expect_body(f, (struct fact_options){.request = &marks, .page_tokens = 33}, &finish, 1, "usage",
                USAGE_JSON(2, 66, 32, 7)); /* the page of the last token found is not written again */
}

static void edits_and_diagnostics(void **state)
{
    struct api_bench *f = *state;
    uint64_t n_tokens = 12;
    const struct messages_request m = {
        .has_edits = true, .n_cleared_turns = 2, .n_cleared_tokens = &n_tokens, .asks_diagnostics = true};
    const struct messages_request none = {.has_edits = true, .n_cleared_tokens = &n_tokens};
    const struct gen_event finish = FINISH(.finish = FINISH_STOP);
    expect_body(f, (struct fact_options){.request = &m}, &finish, 1, "context_management",
                "{'applied_edits':[{'type':'clear_thinking_20251015','cleared_thinking_turns':2,"
                "'cleared_input_tokens':12}]}");
    expect_body(f, (struct fact_options){.request = &m}, &finish, 1, "diagnostics",
                "{'cache_miss_reason':{'type':'unavailable'}}");
    expect_body(f, (struct fact_options){.request = &none}, &finish, 1, "context_management", "{'applied_edits':[]}");
    expect_body(f, (struct fact_options){0}, &finish, 1, "context_management", "null");
}

static void write_stream(struct fact_options o, const struct gen_event *events, size_t n, struct buf *out)
{
    struct message_writer w;
    struct message_facts all = facts(o);
    message_writer_init(&w, &all);
    for (size_t i = 0; i < n; i++) {
        message_stream_event(&w, &events[i], out);
    }
    message_writer_release(&w);
}

/* One line per event: its JSON; its name has to be its type. */
static void expect_stream(struct api_bench *f, struct fact_options o, const struct gen_event *events, size_t n,
                          const char *const *expected, size_t n_expected)
{
    struct buf out;
    size_t i = 0;
    buf_init(&out, MIB(1));
    write_stream(o, events, n, &out);
    struct str rest = buf_view(&out);
    for (; rest.len; i++) {
        struct error err = {0};
        size_t line = str_find_char(rest, '\n'), end = str_find(rest, STR("\n\n"));
        assert_true(str_starts(rest, STR("event: ")) && line != STR_NPOS && end != STR_NPOS && line < end);
        struct str name = str_slice(rest, strlen("event: "), line), data = str_slice(rest, line + 1, end);
        assert_true(str_starts(data, STR("data: ")));
        struct json *v = json_parse(str_slice(data, strlen("data: "), data.len), 0, &err);
        assert_non_null(v);
        assert_true(str_eq(json_str(json_get(v, "type")), name));
        assert_true(i < n_expected);
        api_bench_expect(f, v, expected[i]);
        json_free(v);
        rest = str_slice(rest, end + 2, rest.len);
    }
    assert_int_equal(i, n_expected);
    buf_release(&out);
}

#define START                                                                                                       \
    "{'type':'message_start','message':{'id':'msg_1','type':'message','role':'assistant','model':'m','content':[]," \
    "'stop_reason':null,'stop_sequence':null,'usage':" USAGE_JSON(68, 0, 32, 0) "}}",                               \
        "{'type':'ping'}"
#define STOP(reason)                                                                           \
    "{'type':'message_delta','delta':{'stop_reason':'" reason                                  \
    "','stop_sequence':null,'stop_details':null},'usage':" DELTA_USAGE_JSON(68, 0, 32, 7) "}", \
        "{'type':'message_stop'}"

static void streams(void **state)
{
    struct api_bench *f = *state;
    char signature[SIGNATURE_SIZE], signed_delta[256];
    anthropic__sign(STR("Hm. So."), signature);
    snprintf(signed_delta, sizeof signed_delta,
             "{'type':'content_block_delta','index':0,'delta':{'type':'signature_delta','signature':'%s'}}", signature);
    const char *const expected[] = {
        START,
        "{'type':'content_block_start','index':0,'content_block':{'type':'thinking','thinking':'','signature':''}}",
        "{'type':'content_block_delta','index':0,'delta':{'type':'thinking_delta','thinking':'Hm.'}}",
        "{'type':'content_block_delta','index':0,'delta':{'type':'thinking_delta','thinking':' So.'}}",
        signed_delta,
        "{'type':'content_block_stop','index':0}",
        "{'type':'content_block_start','index':1,'content_block':{'type':'text','text':''}}",
        "{'type':'content_block_delta','index':1,'delta':{'type':'text_delta','text':'I look.'}}",
        "{'type':'content_block_stop','index':1}",
        "{'type':'content_block_start','index':2,'content_block':{'type':'tool_use','id':'toolu_abc','name':'look',"
        "'input':{}}}",
        "{'type':'content_block_delta','index':2,'delta':{'type':'input_json_delta','partial_json':'{\\'at\\':'}}",
        "{'type':'content_block_delta','index':2,'delta':{'type':'input_json_delta','partial_json':'1}'}}",
        "{'type':'content_block_stop','index':2}",
        STOP("tool_use"),
    };
    const struct gen_event progress = {.kind = GEN_PROGRESS, .usage = {.prompt_tokens = 100, .cached_tokens = 32}};
    expect_stream(f, (struct fact_options){0},
                  EVENTS(progress, progress, THINK("Hm."), THINK(" So."), TEXT(""), TEXT("I look."),
                         CALL("call_abc", "look"), ARGS("{\"at\":"), ARGS("1}"), CALL_END,
                         FINISH(.finish = FINISH_STOP, .n_calls = 1), DONE),
                  expected, ARRAY_LEN(expected));
}

static void empty_and_omitted_streams(void **state)
{
    struct api_bench *f = *state;
    static const struct messages_request omit = {.omit_thinking = true};
    char signature[SIGNATURE_SIZE], signed_delta[256];
    const char *const nothing[] = {START, STOP("end_turn")};
    expect_stream(f, (struct fact_options){0}, EVENTS(FINISH(.finish = FINISH_STOP), DONE), nothing,
                  ARRAY_LEN(nothing));
    anthropic__sign(STR("Hm."), signature);
    snprintf(signed_delta, sizeof signed_delta,
             "{'type':'content_block_delta','index':0,'delta':{'type':'signature_delta','signature':'%s'}}", signature);
    const char *const omitted[] = {
        START,
        "{'type':'content_block_start','index':0,'content_block':{'type':'thinking','thinking':'','signature':''}}",
        signed_delta,
        "{'type':'content_block_stop','index':0}",
        STOP("end_turn"),
    };
    expect_stream(f, (struct fact_options){.request = &omit},
                  EVENTS(THINK("H"), THINK("m."), FINISH(.finish = FINISH_STOP), DONE), omitted, ARRAY_LEN(omitted));
}

/* Who reads again from inside a call's arguments gets their rest as a block of its own. */
static void a_stream_from_the_middle(void **state)
{
    struct api_bench *f = *state;
    const char *const expected[] = {
        "{'type':'message_start','message':{'id':'msg_1','type':'message','role':'assistant','model':'m','content':[],"
        "'stop_reason':null,'stop_sequence':null,'usage':" USAGE_JSON(0, 0, 0, 0) "}}",
        "{'type':'ping'}",
        "{'type':'content_block_start','index':0,'content_block':{'type':'tool_use','id':'toolu_abc','name':'look',"
        "'input':{}}}",
        "{'type':'content_block_delta','index':0,'delta':{'type':'input_json_delta','partial_json':'1}'}}",
        "{'type':'content_block_stop','index':0}",
        STOP("tool_use"),
    };
    expect_stream(f, (struct fact_options){0},
                  EVENTS(ARGS("1}"), CALL_END, FINISH(.finish = FINISH_STOP, .n_calls = 1), DONE), expected,
                  ARRAY_LEN(expected));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, api_bench_setup, api_bench_teardown)
        TEST(bodies),
        TEST(stop_reasons),
        TEST(usage_adds_up),
        TEST(edits_and_diagnostics),
        TEST(streams),
        TEST(empty_and_omitted_streams),
        TEST(a_stream_from_the_middle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
