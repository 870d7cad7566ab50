/* Anthropic's Messages API without a server: bodies to the messages, tools and parameters that the pipeline gets, and
 * what is refused, by which name. */
#include "api/anthropic/anthropic.h"

#include "base/array.h"
#include "tests/support/api_bench.h"
#include "tests/support/failing_memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static const struct messages_request *decode(struct api_bench *f, const char *body)
{
    if (!api_bench_decode(f, api__decode_messages, body)) {
        fail_msg("%s: %s", body, f->err.msg);
    }
    return f->call.extra;
}

/* A body whose only interesting member is `member`. */
static const struct messages_request *decode_member(struct api_bench *f, const char *member)
{
    char body[4096];
    snprintf(body, sizeof body, "{'max_tokens':100,'messages':[{'role':'user','content':'a'}],%s}", member);
    return decode(f, body);
}

static void expect_messages(struct api_bench *f, const char *members, const char *expected)
{
    char body[8192];
    snprintf(body, sizeof body, "{'max_tokens':100,%s}", members);
    decode(f, body);
    api_bench_expect(f, f->call.request.messages, expected);
}

static void expect_refused(struct api_bench *f, const char *body, enum error_code code, const char *param,
                           const char *words)
{
    if (api_bench_decode(f, api__decode_messages, body)) {
        fail_msg("%s was accepted", body);
    }
    if (f->err.code != code || strcmp(f->err.param, param) != 0 || !strstr(f->err.msg, words)) {
        fail_msg("%s: code %d, param '%s': %s", body, (int)f->err.code, f->err.param, f->err.msg);
    }
}

static void expect_member_refused(struct api_bench *f, const char *member, enum error_code code, const char *param,
                                  const char *words)
{
    char body[4096];
    snprintf(body, sizeof body, "{'max_tokens':100,'messages':[{'role':'user','content':'a'}],%s}", member);
    expect_refused(f, body, code, param, words);
}

static void expect_message_refused(struct api_bench *f, const char *messages, enum error_code code, const char *param,
                                   const char *words)
{
    char body[4096];
    snprintf(body, sizeof body, "{'max_tokens':100,'messages':[%s]}", messages);
    expect_refused(f, body, code, param, words);
}

/* ---- turns ---- */

static void strings_and_blocks(void **state)
{
    struct api_bench *f = *state;
    expect_messages(f, "'system':'Be terse.','messages':[{'role':'user','content':'a'}]",
                    "[{'role':'system','content':'Be terse.'},{'role':'user','content':'a'}]");
    expect_messages(f,
                    "'system':[{'type':'text','text':'x','cache_control':{'type':'ephemeral'}},{'type':'text',"
                    "'text':'y'}],'messages':[{'role':'user','content':[{'type':'text','text':'a'},"
                    "{'type':'text','text':''},{'type':'text','text':'b'}]}]",
                    "[{'role':'system','content':'x\\ny'},{'role':'user','content':'a\\nb'}]");
    assert_true(((const struct messages_request *)f->call.extra)->marks_cache);
    expect_messages(f, "'system':'','messages':[{'role':'user','content':''}]", "[{'role':'user','content':''}]");
    assert_true(f->call.request.add_generation_prompt && !f->call.request.continue_final_message);
}

static void one_role_is_one_turn(void **state)
{
    struct api_bench *f = *state;
    expect_messages(f,
                    "'messages':[{'role':'user','content':'a'},{'role':'user','content':'b'},"
                    "{'role':'assistant','content':'c'},{'role':'assistant','content':[{'type':'text','text':'d'}]},"
                    "{'role':'user','content':'e'}]",
                    "[{'role':'user','content':'a\\nb'},{'role':'assistant','content':'c\\nd'},"
                    "{'role':'user','content':'e'}]");
    expect_messages(f,
                    "'system':'x','messages':[{'role':'system','content':'y'},{'role':'user','content':'a'},"
                    "{'role':'system','content':'z'},{'role':'user','content':'b'}]",
                    "[{'role':'system','content':'x\\ny'},{'role':'user','content':'a'},"
                    "{'role':'system','content':'z'},{'role':'user','content':'b'}]");
}

#define REMINDER(text) "<system-reminder>\\n" text "\\n</system-reminder>"

/* Where a template takes them at the beginning only. */
static void systems_between_messages(void **state)
{
    struct api_bench *f = *state;
    static const struct {
        const char *messages, *expected;
    } cases[] = {
        {"[{'role':'user','content':'a'},{'role':'system','content':'s'},{'role':'user','content':'b'},"
         "{'role':'assistant','content':'c'},{'role':'user','content':'d'}]",
         "[{'role':'system','content':'x'},{'role':'user','content':'a\\n" REMINDER(
             "s") "\\nb'},"
                  "{'role':'assistant','content':'c'},{'role':'user','content':'d'}]"},
        {"[{'role':'user','content':'a'},{'role':'assistant','content':[{'type':'tool_use','id':'toolu_1','name':'f',"
         "'input':{}}]},{'role':'user','content':[{'type':'tool_result','tool_use_id':'toolu_1','content':'r'}]},"
         "{'role':'system','content':'s'}]",
         "[{'role':'system','content':'x'},{'role':'user','content':'a'},{'role':'assistant','content':null,'tool_"
         "calls':"
         "[{'id':'call_1','type':'function','function':{'name':'f','arguments':'{}'}}]},{'role':'tool','tool_call_id':"
         "'call_1','name':'f','content':'r'},{'role':'user','content':'" REMINDER("s") "'}]"},
        {"[{'role':'system','content':'y'},{'role':'user','content':'a'}]",
         "[{'role':'system','content':'x\\ny'},{'role':'user','content':'a'}]"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char body[4096];
        snprintf(body, sizeof body, "{'max_tokens':100,'system':'x','messages':%s}", cases[i].messages);
        decode(f, body);
        assert_true(anthropic__fold_systems(&f->call.request, &f->err));
        api_bench_expect(f, f->call.request.messages, cases[i].expected);
    }
}

static void prefill(void **state)
{
    struct api_bench *f = *state;
    expect_messages(f, "'messages':[{'role':'user','content':'a'},{'role':'assistant','content':'The answer is ('}]",
                    "[{'role':'user','content':'a'},{'role':'assistant','content':'The answer is ('}]");
    assert_true(f->call.request.continue_final_message && !f->call.request.add_generation_prompt);
    expect_messages(f, "'messages':[{'role':'user','content':'a'},{'role':'assistant','content':''}]",
                    "[{'role':'user','content':'a'}]");
    assert_true(f->call.request.add_generation_prompt && !f->call.request.continue_final_message);
}

static void tool_turns(void **state)
{
    struct api_bench *f = *state;
    expect_messages(
        f,
        "'messages':[{'role':'user','content':'a'},{'role':'assistant','content':[{'type':'text','text':'I look.'},"
        "{'type':'tool_use','id':'toolu_1','name':'look','input':{'where':'\\u00e4','n':1.50}},"
        "{'type':'tool_use','id':'x-2','name':'list','input':{},'cache_control':{'type':'ephemeral','ttl':'1h'}}]},"
        "{'role':'user','content':[{'type':'text','text':'and now?'},"
        "{'type':'tool_result','tool_use_id':'x-2','is_error':true,'content':'none'},"
        "{'type':'tool_result','tool_use_id':'toolu_1','content':[{'type':'text','text':'p'},{'type':'text',"
        "'text':'q'}]}]}]",
        "[{'role':'user','content':'a'},{'role':'assistant','content':'I look.','tool_calls':[{'id':'call_1',"
        "'type':'function','function':{'name':'look','arguments':'{\\'where\\':\\'\u00e4\\',\\'n\\':1.50}'}},"
        "{'id':'x-2','type':'function','function':{'name':'list','arguments':'{}'}}]},"
        "{'role':'tool','tool_call_id':'x-2','name':'list','content':'Error:\\nnone'},"
        "{'role':'tool','tool_call_id':'call_1','name':'look','content':'p\\nq'},"
        "{'role':'user','content':'and now?'}]");
    expect_messages(f,
                    "'messages':[{'role':'user','content':'a'},{'role':'assistant','content':[{'type':'tool_use',"
                    "'id':'toolu_1','name':'look','input':{}}]},{'role':'user','content':[{'type':'tool_result',"
                    "'tool_use_id':'toolu_1'}]}]",
                    "[{'role':'user','content':'a'},{'role':'assistant','content':null,'tool_calls':[{'id':'call_1',"
                    "'type':'function','function':{'name':'look','arguments':'{}'}}]},"
                    "{'role':'tool','tool_call_id':'call_1','name':'look','content':''}]");
}

/* What an answer had: two turns of the model and more, in one message. */
static void mcp_turns(void **state)
{
    struct api_bench *f = *state;
    expect_messages(
        f,
        "'messages':[{'role':'user','content':'q'},{'role':'assistant','content':[{'type':'text','text':'I look.'},"
        "{'type':'mcp_tool_use','id':'mcptoolu_1','name':'read','server_name':'s','input':{'a':1}},"
        "{'type':'tool_use','id':'toolu_2','name':'clock','input':{}},"
        "{'type':'mcp_tool_result','tool_use_id':'mcptoolu_1','is_error':false,'content':[{'type':'text','text':'r'}]}]"
        "},"
        "{'role':'user','content':[{'type':'tool_result','tool_use_id':'toolu_2','content':'noon'}]}]",
        "[{'role':'user','content':'q'},{'role':'assistant','content':'I look.','tool_calls':["
        "{'id':'call_1','type':'function','function':{'name':'read','arguments':'{\\'a\\':1}'}},"
        "{'id':'call_2','type':'function','function':{'name':'clock','arguments':'{}'}}]},"
        "{'role':'tool','tool_call_id':'call_1','name':'read','content':'r'},"
        "{'role':'tool','tool_call_id':'call_2','name':'clock','content':'noon'}]");
    expect_messages(f,
                    "'messages':[{'role':'user','content':'q'},{'role':'assistant','content':["
                    "{'type':'mcp_tool_use','id':'mcptoolu_1','name':'read','server_name':'s','input':{}},"
                    "{'type':'mcp_tool_result','tool_use_id':'mcptoolu_1','is_error':true,'content':'no'},"
                    "{'type':'text','text':'So.'}]},{'role':'user','content':'on'}]",
                    "[{'role':'user','content':'q'},{'role':'assistant','content':null,'tool_calls':["
                    "{'id':'call_1','type':'function','function':{'name':'read','arguments':'{}'}}]},"
                    "{'role':'tool','tool_call_id':'call_1','name':'read','content':'Error:\\nno'},"
                    "{'role':'assistant','content':'So.'},{'role':'user','content':'on'}]");
    decode(f, "{'max_tokens':100,'messages':[{'role':'user','content':'q'},{'role':'assistant','content':["
              "{'type':'mcp_tool_use','id':'mcptoolu_1','name':'read','server_name':'s','input':{}},"
              "{'type':'mcp_tool_result','tool_use_id':'mcptoolu_1','is_error':true,'content':'not called'}]}]}");
    assert_true(f->call.request.add_generation_prompt && !f->call.request.continue_final_message); /* it goes on */
}

static void thinking_turns(void **state)
{
    struct api_bench *f = *state;
    char signature[SIGNATURE_SIZE], body[2048];
    anthropic__sign(STR("Hm."), signature);
    snprintf(body, sizeof body,
             "'messages':[{'role':'user','content':'a'},{'role':'assistant','content':[{'type':'thinking',"
             "'thinking':'Hm.','signature':'%s'},{'type':'redacted_thinking','data':'xx'},{'type':'text',"
             "'text':'b'}]},{'role':'user','content':'c'}]",
             signature);
    expect_messages(f, body,
                    "[{'role':'user','content':'a'},{'role':'assistant','content':'b','reasoning_content':'Hm.'},"
                    "{'role':'user','content':'c'}]");
    snprintf(body, sizeof body,
             "{'role':'user','content':'a'},{'role':'assistant','content':[{'type':'thinking','thinking':'Hm!',"
             "'signature':'%s'}]},{'role':'user','content':'c'}",
             signature);
    expect_message_refused(f, body, ERR_INVALID, "messages[1].content[0]", "passed back");
    expect_messages(f,
                    "'messages':[{'role':'user','content':'a'},{'role':'assistant','content':[{'type':'thinking',"
                    "'thinking':'Other.','signature':'EuYBCkQ'},{'type':'text','text':'b'}]},"
                    "{'role':'user','content':'c'}]",
                    "[{'role':'user','content':'a'},{'role':'assistant','content':'b','reasoning_content':'Other.'},"
                    "{'role':'user','content':'c'}]");
}

#define THOUGHTS                                                                                                   \
    "'messages':[{'role':'user','content':'a'},{'role':'assistant','content':[{'type':'thinking','thinking':'T1'," \
    "'signature':''},{'type':'text','text':'b'}]},{'role':'user','content':'c'},{'role':'assistant','content':["   \
    "{'type':'thinking','thinking':'T2','signature':''},{'type':'text','text':'d'}]},{'role':'user','content':'e'}]"

static void thinking_is_cleared_as_asked(void **state)
{
    struct api_bench *f = *state;
    const char *all = "[{'role':'user','content':'a'},{'role':'assistant','content':'b','reasoning_content':'T1'},"
                      "{'role':'user','content':'c'},{'role':'assistant','content':'d','reasoning_content':'T2'},"
                      "{'role':'user','content':'e'}]";
    expect_messages(f, "'context_management':{'edits':[{'type':'clear_thinking_20251015','keep':'all'}]}," THOUGHTS,
                    all);
    assert_int_equal(((const struct messages_request *)f->call.extra)->n_cleared_turns, 0);
    expect_messages(f, THOUGHTS, all);
    expect_messages(f, "'context_management':{'edits':[{'type':'clear_thinking_20251015'}]}," THOUGHTS,
                    "[{'role':'user','content':'a'},{'role':'assistant','content':'b'},{'role':'user','content':'c'},"
                    "{'role':'assistant','content':'d','reasoning_content':'T2'},{'role':'user','content':'e'}]");
    const struct messages_request *m = f->call.extra;
    assert_int_equal(m->n_cleared_turns, 1);
    assert_true(str_eq(m->cleared, STR("T1")));
}

static void volatile_lines(void **state)
{
    struct api_bench *f = *state;
    const char *body = "'system':[{'type':'text','text':'x-anthropic-billing-header: cc_version=2; cch=65abc;'},"
                       "{'type':'text','text':'You are terse.\\nx-anthropic-billing-header: stays'}],"
                       "'messages':[{'role':'user','content':'a'}]";
    expect_messages(f, body,
                    "[{'role':'system','content':'You are terse.\\nx-anthropic-billing-header: stays'},"
                    "{'role':'user','content':'a'}]");
    assert_int_equal(f->call.n_volatile, 1);
    expect_messages(
        f,
        "'system':'X-Anthropic-Billing-Header: a\\nx-anthropic-billing-header: b','messages':[{'role':'user',"
        "'content':'a'}]",
        "[{'role':'user','content':'a'}]");
    assert_int_equal(f->call.n_volatile, 2);
    f->app.options.drop_volatile_lines = false;
    expect_messages(f, "'system':'x-anthropic-billing-header: a','messages':[{'role':'user','content':'a'}]",
                    "[{'role':'system','content':'x-anthropic-billing-header: a'},{'role':'user','content':'a'}]");
    assert_int_equal(f->call.n_volatile, 0);
}

static void blocks_that_are_refused(void **state)
{
    struct api_bench *f = *state;
    static const char *const unsupported[] = {"image",
                                              "document",
                                              "search_result",
                                              "server_tool_use",
                                              "web_search_tool_result",
                                              "container_upload",
                                              "mcp_tool_listing",
                                              "new_one"};
    for (size_t i = 0; i < ARRAY_LEN(unsupported); i++) {
        char messages[256];
        snprintf(messages, sizeof messages,
                 "{'role':'user','content':[{'type':'text','text':'a'},{'type':'%s','source':{}}]}", unsupported[i]);
        expect_message_refused(f, messages, ERR_UNSUPPORTED, "messages[0].content[1]", unsupported[i]);
    }
    const char *use = "{'role':'user','content':'a'},{'role':'assistant','content':[{'type':'tool_use','id':'t',"
                      "'name':'n','input':{}}]}";
    char messages[1024];
    snprintf(messages, sizeof messages, "%s,%s", use,
             "{'role':'user','content':[{'type':'tool_result','tool_use_id':'t','content':[{'type':'image'}]}]}");
    expect_message_refused(f, messages, ERR_UNSUPPORTED, "messages[2].content[0].content[0]", "image");
    snprintf(messages, sizeof messages, "%s,%s", use,
             "{'role':'user','content':[{'type':'tool_result','tool_use_id':'u'}]}");
    expect_message_refused(f, messages, ERR_INVALID, "messages[2].content[0]", "unexpected `tool_use_id`");
    snprintf(messages, sizeof messages, "%s,%s", use,
             "{'role':'user','content':[{'type':'tool_result','tool_use_id':'t'},{'type':'tool_result',"
             "'tool_use_id':'t'}]}");
    expect_message_refused(f, messages, ERR_INVALID, "messages[2].content[1]", "single result");
    expect_message_refused(f, use, ERR_INVALID, "messages", "without `tool_result`");
}

static void shapes_that_are_refused(void **state)
{
    struct api_bench *f = *state;
    static const struct {
        const char *messages, *param, *words;
    } cases[] = {
        {"", "messages", "1 to"},
        {"1", "messages[0]", "an object"},
        {"{'content':'a'}", "messages[0].role", "Missing"},
        {"{'role':'tool','content':'a'}", "messages[0].role", "'tool'"},
        {"{'role':'user'}", "messages[0].content", "Missing"},
        {"{'role':'user','content':1}", "messages[0].content", "a string or an array"},
        {"{'role':'user','content':['a']}", "messages[0].content[0]", "a content block"},
        {"{'role':'user','content':[{'text':'a'}]}", "messages[0].content[0].type", "Missing"},
        {"{'role':'user','content':[{'type':'text'}]}", "messages[0].content[0].text", "Missing"},
        {"{'role':'user','content':[{'type':'text','text':1}]}", "messages[0].content[0].text", "a string"},
        {"{'role':'user','content':[{'type':'text','text':'a','cache_control':{'type':'persistent'}}]}",
         "messages[0].content[0].cache_control", "ephemeral"},
        {"{'role':'user','content':[{'type':'tool_use','id':'a','name':'b','input':{}}]}", "messages[0].content[0]",
         "role 'user'"},
        {"{'role':'assistant','content':[{'type':'tool_result','tool_use_id':'a'}]}", "messages[0].content[0]",
         "role 'assistant'"},
        {"{'role':'assistant','content':[{'type':'tool_use','id':'a','name':'b','input':'{}'}]}",
         "messages[0].content[0].input", "an object"},
        {"{'role':'assistant','content':[{'type':'thinking','thinking':'a','signature':''}]}", "messages",
         "cannot be `thinking`"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        expect_message_refused(f, cases[i].messages, ERR_INVALID, cases[i].param, cases[i].words);
    }
    expect_refused(f, "{'max_tokens':1}", ERR_INVALID, "messages", "Missing");
    expect_refused(f, "{'messages':[{'role':'user','content':'a'}]}", ERR_INVALID, "max_tokens", "Missing");
    expect_member_refused(f, "'system':[{'type':'image'}]", ERR_UNSUPPORTED, "system[0]", "image");
}

static void a_turn_has_so_many_calls(void **state)
{
    struct api_bench *f = *state;
    struct buf body;
    buf_init(&body, MIB(1));
    for (int n = LIMIT_TURN_CALLS; n <= LIMIT_TURN_CALLS + 1; n++) {
        buf_clear(&body);
        buf_puts(&body, "{'max_tokens':1,'messages':[{'role':'assistant','content':[");
        for (int i = 0; i < n; i++) {
            buf_printf(&body, "%s{'type':'tool_use','id':'t%d','name':'n','input':{}}", i ? "," : "", i);
        }
        buf_puts(&body, "]},{'role':'user','content':[");
        for (int i = 0; i < n; i++) {
            buf_printf(&body, "%s{'type':'tool_result','tool_use_id':'t%d'}", i ? "," : "", i);
        }
        buf_puts(&body, "]}]}");
        assert_true(api_bench_decode(f, api__decode_messages, body.data) == (n == LIMIT_TURN_CALLS));
    }
    assert_non_null(strstr(f->err.msg, "at most 256"));
    buf_release(&body);
}

/* ---- tools ---- */

static void tools(void **state)
{
    struct api_bench *f = *state;
    decode_member(f, "'tools':[{'name':'get_x','description':'Gets.','input_schema':{'type':'object','properties':{'a':"
                     "{'type':'string'}}},'cache_control':{'type':'ephemeral'},'eager_input_streaming':true},"
                     "{'type':'custom','name':'b','input_schema':{},'strict':true,'defer_loading':false,"
                     "'allowed_callers':['direct']}]");
    api_bench_expect(
        f, f->call.request.tools,
        "[{'type':'function','function':{'name':'get_x','description':'Gets.','parameters':{'type':'object',"
        "'properties':{'a':{'type':'string'}}}}},{'type':'function','function':{'name':'b','parameters':{},"
        "'strict':true}}]");
    assert_true(((const struct messages_request *)f->call.extra)->marks_cache);
    decode_member(f, "'tools':[]");
    assert_null(f->call.request.tools);
}

static void tools_that_are_refused(void **state)
{
    struct api_bench *f = *state;
    static const char *const types[] = {"web_search_20250305", "bash_20250124",    "text_editor_20250728",
                                        "computer_20251124",   "advisor_20260301", "code_execution_20250825"};
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        char member[128];
        snprintf(member, sizeof member, "'tools':[{'type':'%s','name':'x'}]", types[i]);
        expect_member_refused(f, member, ERR_UNSUPPORTED, "tools[0].type", types[i]);
    }
    expect_member_refused(f, "'tools':[{'name':'a b','input_schema':{}}]", ERR_INVALID, "tools[0].name", "letters");
    expect_member_refused(f, "'tools':[{'input_schema':{}}]", ERR_INVALID, "tools[0].name", "letters");
    expect_member_refused(f, "'tools':[{'name':'a'}]", ERR_INVALID, "tools[0].input_schema", "Missing");
    expect_member_refused(f, "'tools':[{'name':'a','input_schema':1}]", ERR_INVALID, "tools[0].input_schema",
                          "a JSON schema");
    expect_member_refused(f, "'tools':[{'name':'a','input_schema':{},'defer_loading':true}]", ERR_UNSUPPORTED,
                          "tools[0].defer_loading", "defer_loading");
    expect_member_refused(f, "'tools':[{'name':'a','input_schema':{}},{'name':'a','input_schema':{}}]", ERR_INVALID,
                          "tools", "'a' comes twice");
    expect_member_refused(f, "'tools':[1]", ERR_INVALID, "tools[0]", "an object");
}

static void tool_choices(void **state)
{
    struct api_bench *f = *state;
    const struct gen_request *r = &f->call.request;
#define TOOL "'tools':[{'name':'a','input_schema':{}}]"
    decode_member(f, TOOL);
    assert_true(r->tool_choice == GEN_TOOLS_AUTO && r->parallel_tool_calls);
    decode_member(f, TOOL ",'tool_choice':{'type':'auto','disable_parallel_tool_use':true}");
    assert_true(r->tool_choice == GEN_TOOLS_AUTO && !r->parallel_tool_calls);
    decode_member(f, TOOL ",'tool_choice':{'type':'any'}");
    assert_true(r->tool_choice == GEN_TOOLS_REQUIRED && r->parallel_tool_calls);
    decode_member(f, TOOL ",'tool_choice':{'type':'none'}");
    assert_int_equal(r->tool_choice, GEN_TOOLS_NONE);
    decode_member(f, TOOL ",'tool_choice':{'type':'tool','name':'a'}");
    assert_true(r->tool_choice == GEN_TOOLS_NAMED && str_eq(r->tool_name, STR("a")));
    expect_member_refused(f, TOOL ",'tool_choice':{'type':'tool','name':'b'}", ERR_INVALID, "tool_choice.name", "'b'");
    expect_member_refused(f, TOOL ",'tool_choice':{'type':'tool'}", ERR_INVALID, "tool_choice.name", "Missing");
    expect_member_refused(f, "'tool_choice':{'type':'any'}", ERR_INVALID, "tool_choice", "has none");
    expect_member_refused(f, TOOL ",'tool_choice':'auto'", ERR_INVALID, "tool_choice", "an object");
    expect_member_refused(f, TOOL ",'tool_choice':{'type':'some'}", ERR_INVALID, "tool_choice.type", "'some'");
}

/* ---- fields ---- */

static void thinking_field(void **state)
{
    struct api_bench *f = *state;
    const struct gen_request *r = &f->call.request;
    decode_member(f, "'top_k':3");
    assert_true(r->thinking == -1 && r->thinking_budget == -1);
    decode_member(f, "'thinking':{'type':'enabled','budget_tokens':2048}");
    assert_true(r->thinking == 1 && r->thinking_budget == 2048);
    assert_false(decode_member(f, "'thinking':{'type':'adaptive','display':'summarized'}")->omit_thinking);
    assert_true(r->thinking == 1 && r->thinking_budget == -1);
    decode_member(f, "'thinking':{'type':'disabled'}");
    assert_true(r->thinking == 0 && r->thinking_budget == -1);
    assert_true(decode_member(f, "'thinking':{'type':'adaptive','display':'omitted'}")->omit_thinking);
    expect_member_refused(f, "'thinking':{'type':'enabled'}", ERR_INVALID, "thinking.budget_tokens", "Missing");
    expect_member_refused(f, "'thinking':{'type':'adaptive','budget_tokens':5}", ERR_INVALID, "thinking.budget_tokens",
                          "enabled");
    expect_member_refused(f, "'thinking':{'type':'between_tools'}", ERR_UNSUPPORTED, "thinking.type", "between_tools");
    expect_member_refused(f, "'thinking':{'type':'adaptive','display':'updates'}", ERR_UNSUPPORTED, "thinking.display",
                          "updates");
    expect_member_refused(f, "'thinking':true", ERR_INVALID, "thinking", "an object");
}

static void output_fields(void **state)
{
    struct api_bench *f = *state;
    const struct gen_request *r = &f->call.request;
    decode_member(f, "'output_config':{'effort':'max','format':{'type':'json_schema','schema':{'type':'object'}}}");
    assert_true(str_eq(r->reasoning_effort, STR("high")));
    assert_int_equal(r->format.kind, GEN_FORMAT_SCHEMA);
    api_bench_expect(f, r->format.schema, "{'type':'object'}");
    decode_member(f, "'output_config':{'effort':'low','format':null,'task_budget':null}");
    assert_true(str_eq(r->reasoning_effort, STR("low")) && r->format.kind == GEN_FORMAT_TEXT);
    decode_member(f, "'output_format':{'type':'json_schema','schema':{}}");
    assert_int_equal(r->format.kind, GEN_FORMAT_SCHEMA);
    expect_member_refused(f, "'output_config':{'effort':'huge'}", ERR_INVALID, "output_config.effort", "\"xhigh\"");
    expect_member_refused(f, "'output_config':{'format':{'type':'xml'}}", ERR_UNSUPPORTED, "output_config.format",
                          "json_schema");
    expect_member_refused(f, "'output_config':{'format':{'type':'json_schema'}}", ERR_INVALID, "output_config.format",
                          "schema");
    expect_member_refused(f, "'output_config':{'task_budget':{'type':'tokens','total':9}}", ERR_UNSUPPORTED,
                          "output_config.task_budget", "task_budget");
}

static void a_format_has_so_many_bytes(void **state)
{
    struct api_bench *f = *state;
    struct buf body;
    buf_init(&body, 2 * LIMIT_SCHEMA_SIZE);
    buf_puts(&body, "{'max_tokens':1,'messages':[{'role':'user','content':'a'}],'output_config':{'format':"
                    "{'type':'json_schema','schema':{'description':'");
    while (body.len < LIMIT_SCHEMA_SIZE + 200) { /* what stands around the schema is shorter */
        buf_puts(&body, "more of it; ");
    }
    buf_puts(&body, "'}}}}");
    assert_true(buf_ok(&body, "body", &(struct error){0}));
    assert_false(api_bench_decode(f, api__decode_messages, body.data));
    assert_string_equal(f->err.param, "output_config.format");
    assert_non_null(strstr(f->err.msg, "is larger than"));
    buf_release(&body);
}

static void sampling_and_stops(void **state)
{
    struct api_bench *f = *state;
    const struct gen_request *r = &f->call.request;
    decode_member(f, "'temperature':0.5,'top_p':0.9,'top_k':7,'stop_sequences':['x','yy'],'seed':5,'stream':true,"
                     "'cache_salt':'s','speculation':'off'");
    assert_float_equal(r->sampling.temperature, 0.5, 1e-6);
    assert_float_equal(r->sampling.top_p, 0.9, 1e-6);
    assert_int_equal(r->sampling.top_k, 7);
    assert_int_equal(r->n_stops, 2);
    assert_true(str_eq(r->stops[1], STR("yy")) && r->has_seed && r->seed == 5 && r->stream && r->cache_salt);
    assert_true(r->clip_max_tokens && r->max_tokens == 100 && r->n == 1);
    expect_member_refused(f, "'stop_sequences':'x'", ERR_INVALID, "stop_sequences", "an array of strings");
    expect_member_refused(f, "'stop_sequences':['']", ERR_INVALID, "stop_sequences", "1 to 256");
    expect_member_refused(f, "'top_p':2", ERR_INVALID, "top_p", "from 0 to 1");
}

static void nothing_but_the_cache(void **state)
{
    struct api_bench *f = *state;
    const struct messages_request *m = decode(f, "{'max_tokens':0,'messages':[{'role':'user','content':'a'}]}");
    assert_true(m->warm_only && f->call.request.max_tokens == 1);
    expect_refused(f, "{'max_tokens':0,'stream':true,'messages':[{'role':'user','content':'a'}]}", ERR_INVALID,
                   "max_tokens", "'stream'");
}

static void other_fields(void **state)
{
    struct api_bench *f = *state;
    decode_member(f, "'metadata':{'user_id':'u'},'service_tier':'auto','container':null,'inference_geo':null,"
                     "'betas':['a-1'],'speed':'standard','cache_control':{'type':'ephemeral'},'mcp_servers':[],"
                     "'diagnostics':{'previous_message_id':null},'user_profile_id':'u','fallbacks':null,"
                     "'context_management':{'edits':[]},'what':1,'n':2");
    assert_string_equal(f->call.ignored.data, "what, n");
    assert_false(((const struct messages_request *)f->call.extra)->asks_diagnostics);
    assert_true(decode_member(f, "'diagnostics':{'previous_message_id':'msg_1'}")->asks_diagnostics);
    static const char *const refused[][2] = {{"'container':'c'", "container"},
                                             {"'inference_geo':'eu'", "inference_geo"},
                                             {"'speed':'fast'", "speed"},
                                             {"'service_tier':'priority'", "service_tier"},
                                             {"'mcp_servers':[{'type':'url','name':'x'}]", "mcp_servers"},
                                             {"'thread':{'type':'create'}", "thread"},
                                             {"'compaction':{'type':'summarize'}", "compaction"},
                                             {"'fallbacks':[{'model':'m'}]", "fallbacks"}};
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        expect_member_refused(f, refused[i][0], ERR_UNSUPPORTED, refused[i][1], refused[i][1]);
    }
    expect_member_refused(f, "'context_management':{'edits':[{'type':'clear_tool_uses_20250919'}]}", ERR_UNSUPPORTED,
                          "context_management.edits[0]", "clear_tool_uses_20250919");
    expect_member_refused(f, "'context_management':{'edits':[{'type':'clear_thinking_20251015','keep':'some'}]}",
                          ERR_INVALID, "context_management.edits[0]", "thinking_turns");
    f->app.options.strict_fields = true;
    expect_member_refused(f, "'what':1", ERR_UNKNOWN_FIELD, "what", "what");
    expect_member_refused(f, "'background':true", ERR_UNSUPPORTED, "background", "--journal");
}

static void counting_needs_no_length(void **state)
{
    struct api_bench *f = *state;
    assert_true(api_bench_decode(f, api__decode_count,
                                 "{'system':'x','messages':[{'role':'user','content':'a'}],'tools':[{'name':'a',"
                                 "'input_schema':{}}],'thinking':{'type':'adaptive'}}"));
    api_bench_expect(f, f->call.request.messages, "[{'role':'system','content':'x'},{'role':'user','content':'a'}]");
    assert_true(json_len(f->call.request.tools) == 1 && f->call.request.thinking == 1);
    assert_true(api_bench_decode(f, api__decode_count, "{'messages':[{'role':'user','content':'a'}],'max_tokens':9}"));
    assert_string_equal(f->call.ignored.data, "max_tokens");
}

/* ---- memory ---- */

static void every_allocation_may_fail(void **state)
{
    struct api_bench *f = *state;
    if (!CAN_FAIL) {
        skip();
    }
    const char *body =
        "{'max_tokens':9,'system':'x','tools':[{'name':'a','input_schema':{'type':'object'}}],"
        "'stop_sequences':['x']," THOUGHTS ",'context_management':{'edits':[{'type':'clear_thinking_20251015'}]}}";
    bool done = false;
    for (long n = 0; !done; n++) {
        struct error err = {0};
        assert_true(api_bench_open(f, api__decode_messages, body));
        n_allocations = 0;
        fail_at = n;
        done = api__decode_messages(&f->call, &err);
        fail_at = -1;
        assert_true(done || err.msg[0]);
        assert_true(n < 10000);
    }
}

/* ---- errors ---- */

static void errors(void **state)
{
    struct api_bench *f = *state;
    struct buf out;
    struct error err = {0};
    buf_init(&out, KIB(4));
    error_set_param(&err, ERR_INVALID, "messages[0]", "messages[0]: no.");
    api__write_anthropic_error(&out, &err, "req_1");
    assert_true(
        str_eq(buf_view(&out), api_bench_json(f, "{'type':'error','error':{'type':'invalid_request_error','message':"
                                                 "'messages[0]: no.'},'request_id':'req_1'}")));
    buf_clear(&out);
    error_set_param(&err, ERR_UNSUPPORTED, "tools[0].defer_loading", "Unsupported value.");
    api__write_anthropic_error(&out, &err, "");
    assert_true(
        str_eq(buf_view(&out), api_bench_json(f, "{'type':'error','error':{'type':'invalid_request_error','message':"
                                                 "'tools[0].defer_loading: Unsupported value.'}}")));
    buf_clear(&out);
    error_set_param(&err, ERR_UNSUPPORTED, "thread", "thread: no.");
    api__write_anthropic_error(&out, &err, "");
    assert_true(
        str_eq(buf_view(&out), api_bench_json(f, "{'type':'error','error':{'type':'invalid_request_error','message':"
                                                 "'thread: no.','details':{'error_code':"
                                                 "'thread_unsupported_request'}}}")));
    buf_clear(&out);
    error_set_param(&err, ERR_CONTEXT_EXCEEDED, "messages", "prompt is too long: 9 tokens > 8 maximum");
    api__write_anthropic_error(&out, &err, "");
    assert_non_null(strstr(out.data, "\"message\":\"prompt is too long: 9 tokens > 8 maximum\""));
    buf_release(&out);
}

static bool speaks(const char *path, const char *header)
{
    struct http_header headers[] = {{str_of(header), STR("x")}};
    struct http_request head = {.path = str_of(path), .headers = headers, .n_headers = header[0] ? 1 : 0};
    return api__speaks_anthropic(&head);
}

static void who_speaks_it(void **state)
{
    (void)state;
    assert_true(speaks("/v1/messages", "") && speaks("/v1/messages/count_tokens", "") && speaks("/v1/messages/x", ""));
    assert_true(speaks("/v1/models", "x-api-key") && speaks("/v1/models/a", "X-Api-Key"));
    assert_true(speaks("/v1/models", "anthropic-version") && speaks("/v1/other", "anthropic-version"));
    assert_false(speaks("/v1/messagesx", "") || speaks("/v1/models", "") || speaks("/v1/models", "authorization"));
    assert_false(speaks("/v1/chat/completions", "x-api-key"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, api_bench_setup, api_bench_teardown)
        TEST(strings_and_blocks),
        TEST(one_role_is_one_turn),
        TEST(systems_between_messages),
        TEST(prefill),
        TEST(tool_turns),
        TEST(mcp_turns),
        TEST(thinking_turns),
        TEST(thinking_is_cleared_as_asked),
        TEST(volatile_lines),
        TEST(blocks_that_are_refused),
        TEST(shapes_that_are_refused),
        TEST(a_turn_has_so_many_calls),
        TEST(tools),
        TEST(tools_that_are_refused),
        TEST(tool_choices),
        TEST(thinking_field),
        TEST(output_fields),
        TEST(a_format_has_so_many_bytes),
        TEST(sampling_and_stops),
        TEST(nothing_but_the_cache),
        TEST(other_fields),
        TEST(counting_needs_no_length),
        TEST(every_allocation_may_fail),
        TEST(errors),
        TEST(who_speaks_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
