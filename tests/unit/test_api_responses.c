/* OpenAI's Responses and Ollama's bodies without a server: to the messages, tools and parameters that the pipeline
 * gets, how items are listed and dropped, and what is refused, by which name. */
#include "api/ollama/ollama.h"
#include "api/responses/responses.h"
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

static void decode(struct api_bench *f, api_decoder *d, const char *body)
{
    if (!api_bench_decode(f, d, body)) {
        fail_msg("%s: %s", body, f->err.msg);
    }
}

static void must_refuse(struct api_bench *f, api_decoder *d, const char *body, const char *param)
{
    assert_true(api_bench_open(f, d, body));
    if (d(&f->call, &f->err)) {
        fail_msg("%s was accepted", body);
    }
    if (strcmp(f->err.param, param) != 0) {
        fail_msg("%s: param '%s': %s", body, f->err.param, f->err.msg);
    }
}

static const struct json *messages(struct api_bench *f, size_t n_dropped)
{
    const struct json *made = responses_messages(&f->call, n_dropped, &f->err);
    if (!made) {
        fail_msg("%s", f->err.msg);
    }
    return made;
}

/* ---- items to messages ---- */

static void test_text(void **state)
{
    struct api_bench *f = *state;
    decode(f, api__decode_responses, "{'input':'Hi','instructions':'Be brief.','max_output_tokens':7}");
    api_bench_expect(f, messages(f, 0), "[{'role':'system','content':'Be brief.'},{'role':'user','content':'Hi'}]");
    assert_int_equal(f->call.request.max_tokens, 7);
    assert_true(f->call.request.stepwise);
    assert_false(f->call.request.detach || f->call.attached); /* no journal: nothing is stored */
}

#define TURN                                                                                            \
    "{'type':'reasoning','id':'rs_1','summary':[],'content':[{'type':'reasoning_text','text':'Hm.'}]}," \
    "{'type':'message','role':'assistant','content':[{'type':'output_text','text':'I look.'}]},"        \
    "{'type':'function_call','call_id':'c1','name':'f','arguments':'{}'},"                              \
    "{'type':'function_call','call_id':'c2','name':'g','arguments':'{}'},"                              \
    "{'type':'function_call_output','call_id':'c1','output':'1'},"                                      \
    "{'type':'function_call_output','call_id':'c2','output':[{'type':'input_text','text':'2'}]}"

static void test_turns(void **state)
{
    struct api_bench *f = *state;
    decode(f, api__decode_responses,
           "{'input':[{'role':'user','content':'Go'}," TURN
           ",{'role':'user','content':[{'type':'input_text','text':'a'},{'type':'input_text','text':'b'}]}]}");
    api_bench_expect(
        f, messages(f, 0),
        "[{'role':'user','content':'Go'},{'role':'assistant','content':'I look.','reasoning_content':'Hm.',"
        "'tool_calls':[{'id':'c1','type':'function','function':{'name':'f','arguments':'{}'}},"
        "{'id':'c2','type':'function','function':{'name':'g','arguments':'{}'}}]},"
        "{'role':'tool','tool_call_id':'c1','content':'1'},{'role':'tool','tool_call_id':'c2','content':'2'},"
        "{'role':'user','content':[{'type':'text','text':'a'},{'type':'text','text':'b'}]}]");
}

/* Outputs go with their calls; what the user said last and system messages stay. */
static void test_mcp_items(void **state)
{
    struct api_bench *f = *state;
    decode(f, api__decode_responses,
           "{'input':[{'role':'user','content':'Go'},{'type':'mcp_list_tools','server_label':'s','tools':[]},"
           "{'type':'mcp_call','id':'mcp_1','server_label':'s','name':'f','arguments':'{}','output':'r','error':null},"
           "{'type':'mcp_call','id':'mcp_2','server_label':'s','name':'g','arguments':'{}','output':null,"
           "'error':{'type':'mcp_tool_execution_error','content':[{'type':'text','text':'bad'}]}},"
           "{'type':'message','role':'assistant','content':[{'type':'output_text','text':'So.'}]}]}");
    api_bench_expect(
        f, messages(f, 0),
        "[{'role':'user','content':'Go'},{'role':'assistant','content':'','tool_calls':["
        "{'id':'mcp_1','type':'function','function':{'name':'f','arguments':'{}'}},"
        "{'id':'mcp_2','type':'function','function':{'name':'g','arguments':'{}'}}]},"
        "{'role':'tool','tool_call_id':'mcp_1','content':'r'},{'role':'tool','tool_call_id':'mcp_2','content':'bad'},"
        "{'role':'assistant','content':'So.'}]");
    assert_true(responses_has_mcp_list(&f->call, STR("s")));
    assert_false(responses_has_mcp_list(&f->call, STR("t")));
}

static void test_dropping(void **state)
{
    struct api_bench *f = *state;
    decode(f, api__decode_responses,
           "{'input':[{'role':'system','content':'S'},{'role':'user','content':'Go'}," TURN
           ",{'role':'user','content':'Now'},{'role':'assistant','content':'Yes'}]}");
    assert_int_equal(responses_n_droppable(&f->call), 7);
    api_bench_expect(
        f, messages(f, 4),
        "[{'role':'system','content':'S'},{'role':'assistant','content':'','tool_calls':[{'id':'c2','type':"
        "'function','function':{'name':'g','arguments':'{}'}}]},{'role':'tool','tool_call_id':'c2','content':"
        "'2'},{'role':'user','content':'Now'},{'role':'assistant','content':'Yes'}]");
    api_bench_expect(f, messages(f, 7),
                     "[{'role':'system','content':'S'},{'role':'user','content':'Now'},{'role':'assistant','content':"
                     "'Yes'}]");
}

/* What the journal has of one that follows another. */
static void test_context(void **state)
{
    struct api_bench *f = *state;
    char room[64];
    assert_true(
        api_bench_open(f, api__decode_responses,
                       "[{'input':[{'id':'msg_x'},{'type':'item_reference','id':'msg_1'},{'role':'user','content'"
                       ":'Now'}],'instructions':'I'},[{'id':'msg_1','type':'message','role':'assistant','content'"
                       ":[{'type':'output_text','text':'Before'}]}],{'msg_x':{'id':'msg_x','type':'message',"
                       "'role':'user','content':'Meant'}}]"));
    assert_false(api__decode_responses(&f->call, &f->err)); /* from a client it is no request */
    f->call.rebuilt = true;
    f->err = (struct error){0};
    assert_true(api__decode_responses(&f->call, &f->err));
    api_bench_expect(
        f, messages(f, 0),
        "[{'role':'system','content':'I'},{'role':'assistant','content':'Before'},{'role':'user','content':"
        "'Meant'},{'role':'user','content':'Now'}]");
    assert_int_equal(responses_n_items(&f->call), 4);
    struct str id = responses_item_id(&f->call, 3, room, sizeof room);
    char maker[64];
    assert_true(responses_maker(id, maker, sizeof maker));
    assert_string_equal(maker, f->call.request.id);
    assert_false(responses_maker(STR("msg_x"), maker, sizeof maker));
    assert_false(responses_maker(STR("msg_0123456789abcdef01234567800G"), maker, sizeof maker));
}

static void test_unknown_reference(void **state)
{
    struct api_bench *f = *state;
    decode(f, api__decode_responses, "{'input':[{'type':'item_reference','id':'msg_none'}]}");
    assert_null(responses_messages(&f->call, 0, &f->err));
    assert_int_equal(f->err.code, ERR_NOT_FOUND);
}

/* ---- fields ---- */

static void test_tools(void **state)
{
    struct api_bench *f = *state;
    decode(f, api__decode_responses,
           "{'input':'x','tools':[{'type':'function','name':'f','description':'d','parameters':{'type':'object'},"
           "'strict':true},{'type':'function','name':'g'}],'tool_choice':{'type':'allowed_tools','mode':'required',"
           "'tools':[{'type':'function','name':'g'}]}}");
    assert_int_equal(f->call.request.tool_choice, GEN_TOOLS_REQUIRED);
    api_bench_expect(f, f->call.request.tools,
                     "[{'type':'function','function':{'name':'g','parameters':{'type':'object','properties':{}}}}]");
    decode(f, api__decode_responses,
           "{'input':'x','tools':[{'type':'function','name':'f','strict':true}],'tool_choice':{'type':'function',"
           "'name':'f'}}");
    assert_int_equal(f->call.request.tool_choice, GEN_TOOLS_NAMED);
    api_bench_expect(f, json_get(json_at(f->call.request.tools, 0), "function"),
                     "{'name':'f','parameters':{'type':'object','properties':{}},'strict':true}");
}

static void test_format(void **state)
{
    struct api_bench *f = *state;
    decode(f, api__decode_responses,
           "{'input':'x','text':{'format':{'type':'json_schema','name':'n','schema':{'type':'object'}}}}");
    assert_int_equal(f->call.request.format.kind, GEN_FORMAT_SCHEMA);
    assert_string_equal(f->call.request.format.field, "text.format");
    decode(f, api__decode_responses, "{'input':'x','text':{'format':{'type':'json_object'}}}");
    assert_int_equal(f->call.request.format.kind, GEN_FORMAT_JSON);
    decode(f, api__decode_responses, "{'input':'x','reasoning':{'effort':'none'}}");
    assert_true(str_eq(f->call.request.reasoning_effort, STR("none")));
}

static void test_refusals(void **state)
{
    static const char *const cases[][2] = {
        {"{}", "input"},
        {"{'input':[{'content':'x'}]}", "input[0].type"},
        {"{'input':[{'role':'user'}]}", "input[0].content"},
        {"{'input':[{'role':'user','content':[{'type':'input_file','file_id':'f'}]}]}", "input[0].content[0]"},
        {"{'input':[{'type':'function_call_output','output':'x'}]}", "input[0].call_id"},
        {"{'input':[{'type':'reasoning','content':[{'type':'input_text'}]}]}", "input[0].content[0].text"},
        {"{'input':'x','tools':[{'type':'mcp','server_label':'s'}]}", "tools[0].require_approval"},
        {"{'input':'x','tools':[{'type':'mcp','server_label':'s','require_approval':'always'}]}",
         "tools[0].require_approval"},
        {"{'input':'x','tools':[{'type':'mcp','require_approval':'never'}]}", "tools[0].server_label"},
        {"{'input':'x','tools':[{'type':'mcp','server_label':'s','require_approval':'never'}]}", "tools"},
        {"{'input':'x','mcp':'s'}", "mcp"},
        {"{'input':[{'type':'mcp_call','id':'mcp_1','name':'f','arguments':'{}'}]}", "input[0].server_label"},
        {"{'input':[{'type':'mcp_approval_response','approval_request_id':'a','approve':true}]}", "input[0]"},
        {"{'input':'x','tools':[{'type':'function','name':'a b'}]}", "tools[0].name"},
        {"{'input':'x','tools':[{'type':'function','name':'f','defer_loading':true}]}", "tools[0].defer_loading"},
        {"{'input':'x','text':{'format':{'type':'grammar'}}}", "text.format"},
        {"{'input':'x','text':{'format':{'type':'json_schema','schema':{}}}}", "text.format.name"},
        {"{'input':'x','text':{'format':{'type':'json_schema','name':'a b','schema':{}}}}", "text.format.name"},
        {"{'input':'x','text':{'format':{'type':'json_schema','name':'n'}}}", "text.format.schema"},
        {"{'input':'x','text':{'format':{'type':'json_schema','name':'n','schema':7}}}", "text.format.schema"},
        {"{'input':'x','text':{'format':{'type':'json_schema','name':'n','schema':{},'strict':'yes'}}}",
         "text.format.strict"},
        {"{'input':'x','reasoning':{'effort':'most'}}", "reasoning.effort"},
        {"{'input':'x','background':true}", "background"},
        {"{'input':'x','max_tool_calls':0}", "max_tool_calls"},
        {"{'input':'x','metadata':{'a':7}}", "metadata"},
        {"{'previous_response_id':'resp_1'}", "previous_response_id"},
    };
    struct api_bench *f = *state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        must_refuse(f, api__decode_responses, cases[i][0], cases[i][1]);
    }
}

/* ---- the object ---- */

static void test_object(void **state)
{
    struct api_bench *f = *state;
    struct error failed = {.code = ERR_OVERLOADED, .msg = "Later."}, err = {0};
    decode(f, api__decode_responses, "{'input':'x','temperature':0.7,'top_p':0.95,'metadata':{'k':'v'},'user':'u'}");
    struct gen_usage usage = {.prompt_tokens = 5, .completion_tokens = 3, .cached_tokens = 2, .n_reasoning = 1};
    struct responses_view v = {.call = &f->call,
                               .status = "failed",
                               .model = "m",
                               .error = &failed,
                               .output = STR("{\"id\":\"a\"}"),
                               .usage = &usage};
    struct json_writer w = json_writer(&f->call.reply);
    responses_put_object(&w, &v);
    struct json *root = json_parse(buf_view(&f->call.reply), 0, &err);
    assert_non_null(root);
    api_bench_expect(f, json_get(root, "error"), "{'code':'rate_limit_exceeded','message':'Later.'}");
    api_bench_expect(f, json_get(root, "temperature"), "0.7");
    api_bench_expect(f, json_get(root, "top_p"), "0.95");
    api_bench_expect(f, json_get(root, "output"), "[{'id':'a'}]");
    api_bench_expect(f, json_get(root, "metadata"), "{'k':'v'}");
    api_bench_expect(
        f, json_get(root, "usage"),
        "{'input_tokens':5,'input_tokens_details':{'cached_tokens':2,'cache_write_tokens':0},'output_tokens':3,"
        "'output_tokens_details':{'reasoning_tokens':1},'total_tokens':8}");
    api_bench_expect(f, json_get(root, "store"), "false");
    api_bench_expect(f, json_get(root, "truncation"), "'disabled'");
    json_free(root);
}

/* What six digits round up is written with more of them too. */
static void test_object_floats(void **state)
{
    struct api_bench *f = *state;
    decode(f, api__decode_responses, "{'input':'x','temperature':0.12345679,'top_p':0.7654321}");
    struct responses_view v = {.call = &f->call, .status = "queued", .model = "m"};
    struct json_writer w = json_writer(&f->call.reply);
    responses_put_object(&w, &v);
    assert_true(str_find(buf_view(&f->call.reply), STR("\"temperature\":0.12345679,")) != STR_NPOS);
    assert_true(str_find(buf_view(&f->call.reply), STR("\"top_p\":0.7654321,")) != STR_NPOS);
}

/* ---- Ollama ---- */

static void test_ollama_chat(void **state)
{
    struct api_bench *f = *state;
    decode(f, api__decode_ollama_chat,
           "{'model':'m','messages':[{'role':'user','content':'x'},{'role':'assistant','thinking':'t','tool_calls':[{"
           "'function':{'name':'f','arguments':{'a':1}}}]},{'role':'tool','tool_name':'f','content':'1'}],'options':{"
           "'num_predict':5,'repeat_penalty':1.5,'seed':3,'stop':['a','b']},'think':true,'stream':false}");
    api_bench_expect(
        f, f->call.request.messages,
        "[{'role':'user','content':'x'},{'role':'assistant','content':'','reasoning_content':'t','tool_calls':[{"
        "'id':'call_1_0','type':'function','function':{'name':'f','arguments':'{\\'a\\':1}'}}]},{'role':'tool',"
        "'content':'1','name':'f'}]");
    assert_int_equal(f->call.request.max_tokens, 5);
    assert_int_equal(f->call.request.n_stops, 2);
    assert_int_equal(f->call.request.thinking, 1);
    assert_false(f->call.request.stream);
    assert_true(f->call.request.sampling.repetition_penalty == 1.5F);
}

static void test_ollama_generate(void **state)
{
    struct api_bench *f = *state;
    decode(f, api__decode_ollama_generate, "{'model':'m','prompt':'p','system':'s','format':'json'}");
    api_bench_expect(f, f->call.request.messages, "[{'role':'system','content':'s'},{'role':'user','content':'p'}]");
    assert_int_equal(f->call.request.format.kind, GEN_FORMAT_JSON);
    assert_true(f->call.request.stream);
    decode(f, api__decode_ollama_generate, "{'model':'m','prompt':'p','suffix':'s'}");
    assert_int_equal(f->call.request.input, GEN_PROMPTS);
    assert_true(f->call.request.has_suffix);
}

static void test_ollama_refusals(void **state)
{
    static const char *const cases[][2] = {
        {"{'prompt':'p','images':['A']}", "images"},
        {"{'prompt':'p','context':[1]}", "context"},
        {"{'prompt':'p','template':'x'}", "template"},
        {"{'prompt':'p','keep_alive':'soon'}", "keep_alive"},
        {"{'prompt':'p','think':'most'}", "think"},
        {"{'prompt':'p','format':'xml'}", "format"},
        {"{'prompt':'p','options':{'top_p':2}}", "options.top_p"},
        {"{'prompt':'p','options':{'stop':['']}}", "options.stop"},
        {"{'prompt':'p','raw':true,'system':'s'}", "system"},
    };
    struct api_bench *f = *state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        must_refuse(f, api__decode_ollama_generate, cases[i][0], cases[i][1]);
    }
    must_refuse(f, api__decode_ollama_chat, "{'messages':[{'role':'user','content':'x','images':['A']}]}",
                "messages[0].images");
    must_refuse(f, api__decode_ollama_chat, "{'messages':[{'role':'king','content':'x'}]}", "messages[0].role");
}

/* ---- memory ---- */

#if CAN_FAIL
static bool whole(struct api_bench *f, api_decoder *d, const char *body)
{
    bool ok = api_bench_decode(f, d, body);
    if (ok && d == api__decode_responses) {
        ok = responses_messages(&f->call, 0, &f->err) != NULL;
    }
    return ok;
}

static void test_no_memory(void **state)
{
    static const struct {
        api_decoder *decode;
        const char *body;
    } cases[] = {
        {api__decode_responses, "{'input':[{'role':'user','content':'Go'}," TURN
                                "],'tools':[{'type':'function','name':'f'}],'tool_choice':{'type':'allowed_tools',"
                                "'mode':'auto','tools':[{'type':'function','name':'f'}]}}"},
        {api__decode_ollama_chat, "{'messages':[{'role':'assistant','tool_calls':[{'function':{'name':'f','arguments':{"
                                  "'a':1}}}]}],'options':{'stop':['a']}}"},
        {api__decode_ollama_generate, "{'prompt':'p','raw':true}"},
    };
    struct api_bench *f = *state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        bool ok = false;
        (void)api_bench_json(f, cases[i].body); /* its memory is there */
        for (long n = 0; !ok; n++) {
            n_allocations = 0;
            fail_at = n;
            ok = whole(f, cases[i].decode, cases[i].body);
            fail_at = -1;
            assert_true(ok || n < 10000);
        }
    }
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_text, api_bench_setup, api_bench_teardown),
        cmocka_unit_test_setup_teardown(test_turns, api_bench_setup, api_bench_teardown),
        cmocka_unit_test_setup_teardown(test_mcp_items, api_bench_setup, api_bench_teardown),
        cmocka_unit_test_setup_teardown(test_dropping, api_bench_setup, api_bench_teardown),
        cmocka_unit_test_setup_teardown(test_context, api_bench_setup, api_bench_teardown),
        cmocka_unit_test_setup_teardown(test_unknown_reference, api_bench_setup, api_bench_teardown),
        cmocka_unit_test_setup_teardown(test_tools, api_bench_setup, api_bench_teardown),
        cmocka_unit_test_setup_teardown(test_format, api_bench_setup, api_bench_teardown),
        cmocka_unit_test_setup_teardown(test_refusals, api_bench_setup, api_bench_teardown),
        cmocka_unit_test_setup_teardown(test_object, api_bench_setup, api_bench_teardown),
        cmocka_unit_test_setup_teardown(test_object_floats, api_bench_setup, api_bench_teardown),
        cmocka_unit_test_setup_teardown(test_ollama_chat, api_bench_setup, api_bench_teardown),
        cmocka_unit_test_setup_teardown(test_ollama_generate, api_bench_setup, api_bench_teardown),
        cmocka_unit_test_setup_teardown(test_ollama_refusals, api_bench_setup, api_bench_teardown),
#if CAN_FAIL
        cmocka_unit_test_setup_teardown(test_no_memory, api_bench_setup, api_bench_teardown),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
