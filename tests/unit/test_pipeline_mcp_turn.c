/* A turn with calls: what its events say of whose tools they are, and the messages that it becomes. */
#include "pipeline/mcp/mcp_turn.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct fixture {
    struct gen_mcp_tool tools[2];
    struct gen_mcp mcp;
    struct mcp_turn turn;
    uint32_t n_own, n_mcp;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    f->tools[0] = (struct gen_mcp_tool){.name = STR("a__read"), .own_name = STR("read"), .server = STR("a")};
    f->tools[1] = (struct gen_mcp_tool){.name = STR("find"), .own_name = STR("find"), .server = STR("b")};
    f->mcp = (struct gen_mcp){.tools = f->tools, .n_tools = 2};
    mcp_turn_init(&f->turn);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    mcp_turn_release(&f->turn);
    free(f);
    return 0;
}

static struct gen_event take(struct fixture *f, struct gen_event e)
{
    struct error err = {0};
    if (!mcp_turn_take(&f->turn, &f->mcp, &e, &f->n_own, &f->n_mcp, &err)) {
        fail_msg("take: %s", err.msg);
    }
    return e;
}

/* A call in the events that a choice gives; returns its CALL. */
static struct gen_event call(struct fixture *f, const char *id, const char *name, const char *arguments, bool valid)
{
    struct gen_call c = {.id = str_of(id), .name = str_of(name), .index = 7};
    size_t half = strlen(arguments) / 2;
    struct gen_event begun = take(f, (struct gen_event){.kind = GEN_CALL, .call = c});
    take(f, (struct gen_event){.kind = GEN_ARGUMENTS, .call = c, .text = {arguments, half}});
    take(f, (struct gen_event){.kind = GEN_ARGUMENTS, .call = c, .text = str_of(arguments + half)});
    c.valid = valid;
    c.fault = valid ? (struct str){0} : STR("it is wrong.");
    struct gen_event ended = take(f, (struct gen_event){.kind = GEN_CALL_END, .call = c});
    assert_int_equal(ended.call.index, begun.call.index);
    assert_true(str_eq(ended.call.server, begun.call.server));
    return begun;
}

static void expect_messages(const struct fixture *f, const char *expected)
{
    struct buf out;
    buf_init(&out, MIB(1));
    struct json_writer w = json_writer(&out);
    json_begin_array(&w);
    mcp_turn_put_messages(&f->turn, &w);
    json_end_array(&w);
    buf_putc(&out, '\0');
    assert_string_equal(out.data, expected);
    buf_release(&out);
}

static void test_whose_tools(void **state)
{
    struct fixture *f = *state;
    struct gen_event e = call(f, "1", "a__read", "{}", true);
    assert_true(str_eq(e.call.server, STR("a")) && str_eq(e.call.own_name, STR("read")) && e.call.index == 0);
    e = call(f, "2", "clock", "{}", true);
    assert_null(e.call.server.ptr);
    assert_int_equal(e.call.index, 0); /* the first of its kind */
    e = call(f, "3", "find", "{}", true);
    assert_int_equal(e.call.index, 1);
    assert_int_equal(mcp_turn_n_of(&f->turn, true), 2);
    assert_int_equal(mcp_turn_n_of(&f->turn, false), 1);
    mcp_turn_clear(&f->turn);
    e = call(f, "4", "find", "{}", true);
    assert_int_equal(e.call.index, 2); /* through all turns */
    assert_int_equal(mcp_turn_n_of(&f->turn, true), 1);
}

static void test_messages(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    take(f, (struct gen_event){.kind = GEN_REASONING, .text = STR("Hm.")});
    take(f, (struct gen_event){.kind = GEN_DELTA, .text = STR("I ")});
    take(f, (struct gen_event){.kind = GEN_DELTA, .text = STR("look.")});
    call(f, "1", "a__read", "{\"p\":\"\\\"x\"}", true);
    call(f, "2", "find", "{\"q\":", false);
    mcp_turn_answer(&f->turn, 1, true, STR("it is wrong."));
    mcp_turn_answer(&f->turn, 0, false, STR("text"));
    assert_true(mcp_turn_ok(&f->turn, &err));
    expect_messages(f,
                    "[{\"role\":\"assistant\",\"content\":\"I look.\",\"reasoning_content\":\"Hm.\",\"tool_calls\":["
                    "{\"id\":\"1\",\"type\":\"function\",\"function\":{\"name\":\"a__read\",\"arguments\":\"{\\\"p\\\":"
                    "\\\"\\\\\\\"x\\\"}\"}},"
                    "{\"id\":\"2\",\"type\":\"function\",\"function\":{\"name\":\"find\",\"arguments\":\"{}\"}}]},"
                    "{\"role\":\"tool\",\"tool_call_id\":\"1\",\"name\":\"a__read\",\"content\":\"text\"},"
                    "{\"role\":\"tool\",\"tool_call_id\":\"2\",\"name\":\"find\",\"content\":\"it is wrong.\"}]");
    struct gen_call c = mcp_turn_call(&f->turn, 1);
    assert_false(c.valid);
    assert_true(str_eq(c.arguments, STR("{\"q\":")) && str_eq(c.server, STR("b")));
}

static void test_no_calls(void **state)
{
    struct fixture *f = *state;
    take(f, (struct gen_event){.kind = GEN_DELTA, .text = STR("Yes.")});
    expect_messages(f, "[{\"role\":\"assistant\",\"content\":\"Yes.\"}]");
}

static void test_too_many_calls(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    for (int i = 0; i < LIMIT_TURN_CALLS; i++) {
        call(f, "1", "find", "{}", true);
    }
    struct gen_event e = {.kind = GEN_CALL, .call = {.id = STR("1"), .name = STR("find")}};
    assert_false(mcp_turn_take(&f->turn, &f->mcp, &e, &f->n_own, &f->n_mcp, &err));
    assert_int_equal(err.code, ERR_TOO_LARGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_whose_tools, setup, teardown),
        cmocka_unit_test_setup_teardown(test_messages, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_calls, setup, teardown),
        cmocka_unit_test_setup_teardown(test_too_many_calls, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
