/* The tables of formats: names, detection from what chat templates show, markers, triggers, prompts that open the
 * reasoning, and grammars. Whether llguidance takes the grammars: tests/parity/check_tool_grammar.py. */
#include "base/array.h"
#include "base/utf8.h"
#include "chat/reasoning_format.h"
#include "chat/tool_format.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* Parts of templates as published, enough to tell them apart. */
static const struct {
    const char *source, *tools, *reasoning; /* NULL: none */
} templates[] = {
    {"{% for m in messages %}{{ m.content }}{% endfor %}", NULL, NULL},
    {"{% if tools %}{{ tools | tojson }}{% endif %}", "generic", NULL},
    {"<tools>{{ tool | tojson }}</tools> within <tool_call></tool_call> XML tags:\\n<tool_call>\\n{\\\"name\\\": "
     "<function-name>, \\\"arguments\\\"",
     "hermes", NULL},
    {"{%- if '</think>' in content %} <tool_call>\\n{\"name\": ", "hermes", "think"},
    {"<tool_call>\\n<function=example_function_name>\\n<parameter=example_parameter_1>", "qwen3-coder", NULL},
    {"'Environment: ipython' <|start_header_id|>ipython {\"name\": function name, \"parameters\": dictionary", "llama3",
     NULL},
    {"{{- '<|python_tag|>' }} <|start_header_id|> ipython <function=example_function_name>{{", "functionary-v3.1",
     NULL},
    {"{{ '>>>all\\n' + m.content }} >>>${recipient}", "functionary-v3.2", NULL},
    {"[TOOL_CALLS] [' {{ tool_call.function|tojson }}", "mistral", NULL},
    {"[TOOL_CALLS]' + name + '[ARGS]' [THINK] [/THINK]", "mistral-v11", "mistral"},
    {"<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>' + tool['type'] + '<｜tool▁sep｜>' + name + '\\n' + '```json' "
     "<think>",
     "deepseek-v3", "think"},
    {"<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>' + name + '<｜tool▁sep｜>' '</think>'", "deepseek-v3.1", "think"},
    {"{%- set dsml_token = \"｜DSML｜\" -%} <think>", "deepseek-v3.2", "think"},
    {"<|tool_calls_section_begin|> <|im_middle|> </think>", "kimi-k2", "kimi-k2"},
    {"{{ '<|im_system|>tool_declare<|im_middle|>' -}}", "kimi-k2", NULL},
    {"<tool_call>{function-name}\\n<arg_key>{arg-key-1}</arg_key> <think></think>", "glm", "think"},
    {"<minimax:tool_call> <invoke name= '\\n<response>' '<think>' ~ '\\n' </think>", "minimax-m2", "think"},
    {"{%- set toolcall_begin_token = '<seed:tool_call>' %} '<seed:think>' <function= <parameter=", "seed-oss",
     "seed-oss"},
    {"<｜tool_calls_begin｜> <steptml:invoke name= <think>", "step3", "think"},
    {"<|start_of_role|> <|tool_call|> <think></think> <response></response>", "granite", "granite"},
    {"Here is my thought process:", NULL, "granite-3.2"},
    {"<TOOLCALL>[{{\"name\": </TOOLCALL> '<think>'", "nemotron", "think"},
    {"<|START_ACTION|>[ <|START_THINKING|>", "cohere", "cohere"},
    {"<|tool_call>call:' + name + '{' }<tool_call|> <|channel>thought <channel|>", "gemma4", "gemma"},
    {"<start_function_call>call:", "functiongemma", NULL},
    {"<|channel|>analysis<|message|> <|start|>assistant", "harmony", "harmony"},
    {"[{\"name\": \"tool_call_name\", \"arguments\":", "xlam", NULL},
    {"<tool_calls> <think> <answer> <|startoftext|>", "tool-calls-list", "hunyuan"},
    {"List of tools: <|tool_list_start|>[", "lfm2", NULL},
    {"{%- if xml_tools %} <think>", "hermes", "think"},
    {"'<|tools_prefix|>' '<|inner_prefix|>'", "apertus", "apertus"},
    {"<|message_sep|> <|role_sep|> function call", "gigachat3", NULL},
    {"<function_calls> <think>", "olmo3", "think"},
};

static void test_detection(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(templates); i++) {
        const struct tool_format *t = tool_format_detect(str_of(templates[i].source));
        const struct reasoning_format *r = reasoning_format_detect(str_of(templates[i].source));
        const char *tools = t ? tool_format_name(t) : "none", *reasoning = r ? reasoning_format_name(r) : "none";
        const char *want_tools = templates[i].tools ? templates[i].tools : "none";
        const char *want_reasoning = templates[i].reasoning ? templates[i].reasoning : "none";
        if (strcmp(tools, want_tools) != 0 || strcmp(reasoning, want_reasoning) != 0) {
            fail_msg("%s: %s and %s, want %s and %s", templates[i].source, tools, reasoning, want_tools,
                     want_reasoning);
        }
    }
}

static void test_names(void **state)
{
    (void)state;
    for (size_t i = 0; i < tool_format_count(); i++) {
        const struct tool_format *f = tool_format_at(i);
        size_t n;
        assert_ptr_equal(tool_format_find(str_of(tool_format_name(f))), f);
        const char *const *markers = tool_format_markers(f, &n);
        for (size_t k = 0; k < n; k++) {
            assert_true(markers[k][0] && utf8_valid(str_of(markers[k])));
        }
        const char *const *triggers = tool_format_triggers(f, &n);
        assert_true(n <= 1 && (n == 0 || triggers[0][0]));
    }
    for (size_t i = 0; i < reasoning_format_count(); i++) {
        const struct reasoning_format *f = reasoning_format_at(i);
        assert_ptr_equal(reasoning_format_find(str_of(reasoning_format_name(f))), f);
        assert_true(reasoning_format_start(f)[0] && reasoning_format_end(f)[0]);
    }
    assert_string_equal(tool_format_name(tool_format_find(STR("qwen3"))), "hermes");
    assert_string_equal(tool_format_name(tool_format_find(STR("llama3.2"))), "llama3");
    assert_string_equal(reasoning_format_name(reasoning_format_find(STR("deepseek-r1"))), "think");
    assert_null(tool_format_find(STR("")));
    assert_null(tool_format_find(STR("qwen3 exaone4")));
    assert_null(reasoning_format_find(STR("none")));
}

static void test_open(void **state)
{
    (void)state;
    static const struct {
        const char *format, *prompt;
        bool open;
    } rows[] = {
        {"think", "<|im_start|>assistant\n<think>\n", true},
        {"think", "<|im_start|>assistant\n<think>", true},
        {"think", "<|im_start|>assistant\n<think>\n\n</think>\n\n", false},
        {"think", "What is <think>?<|im_end|>\n<|im_start|>assistant\n", false},
        {"think", "", false},
        {"mistral", "[/INST][THINK]", true},
        {"seed-oss", "assistant\n<seed:think><seed:cot_budget_reflect>", true},
        {"cohere", "<|CHATBOT_TOKEN|><|START_THINKING|>", true},
        {"harmony", "<|start|>assistant", false},
        {"harmony", "<|start|>assistant<|channel|>analysis<|message|>", true},
        {"gemma", "<|turn>model\n<|channel>thought\n<channel|>", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        bool open = reasoning_format_is_open(reasoning_format_find(str_of(rows[i].format)), str_of(rows[i].prompt));
        if (open != rows[i].open) {
            fail_msg("%s: %s", rows[i].format, rows[i].prompt);
        }
    }
}

/* ---- grammars ---- */

#define TOOL(name)                                                                                               \
    "[{\"function\":{\"name\":\"" name "\",\"parameters\":{\"type\":\"object\",\"properties\":{\"a\":{\"type\":" \
    "\"string\"},\"n\":{\"type\":\"integer\"}},\"required\":[\"a\"]}}}]"
#define SCHEMA                                                                                                      \
    "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\"},\"n\":{\"type\":\"integer\"}},\"required\":[" \
    "\"a\"]}"

#define WHITE_SPACE "\"x-guidance\":{\"whitespace_pattern\":\" |\\\\r?\\\\n[ \\\\t]{0,64}\"}"

static bool grammar(const char *format, const char *tools, const struct tool_grammar *wanted, struct buf *out,
                    struct error *err)
{
    struct tool_grammar g = *wanted;
    struct json *definitions = json_parse(str_of(tools), 0, err);
    assert_non_null(definitions);
    g.definitions = definitions;
    bool ok = tool_format_grammar(tool_format_find(str_of(format)), &g, out, err);
    json_free(definitions);
    return ok;
}

static void expect_grammar(const char *format, const struct tool_grammar *g, const char *want)
{
    struct error err = {0};
    struct buf out;
    buf_init(&out, 1 << 16);
    assert_true(grammar(format, TOOL("f"), g, &out, &err));
    assert_string_equal(out.data, want);
    buf_release(&out);
}

static void test_grammars(void **state)
{
    (void)state;
    static const struct tool_token tokens[] = {{"<tool_call>", 7}, {"</tool_call>", 8}};
    expect_grammar(
        "hermes", &(struct tool_grammar){.tokens = tokens, .n_tokens = 2, .parallel = true},
        "%llguidance {}\nstart: <[7]> \"\\n\" call \"\\n\" <[8]> ( \"\\n\" <[7]> \"\\n\" call \"\\n\" <[8]>)*\n"
        "call: call_0\ncall_0: %json {\"type\":\"object\",\"properties\":{\"name\":{\"const\":\"f\"},"
        "\"arguments\":" SCHEMA "},\"required\":[\"name\",\"arguments\"],\"additionalProperties\":false," WHITE_SPACE
        "}\n");
    expect_grammar(
        "deepseek-v3.1", &(struct tool_grammar){.after_trigger = true},
        "%llguidance {}\nstart: call \"<｜tool▁calls▁end｜>\"\ncall: call_0\ncall_0: \"<｜tool▁call▁begin｜>\""
        " \"f\" \"<｜tool▁sep｜>\" %json " SCHEMA " \"<｜tool▁call▁end｜>\"\n");
    expect_grammar("qwen3-coder", &(struct tool_grammar){.text_first = true},
                   "%llguidance {}\nstart: lead \"\\n\" call \"\\n\" \"</tool_call>\"\n"
                   "lead[suffix=\"<tool_call>\"]: /(?s:.*)/\ncall: call_0\n"
                   "text_value[suffix=\"</parameter>\"]: /(?s:.*)/\n"
                   "call_0: \"<function=\" \"f\" \">\" \"\\n\" p_0_0 p_0_1? \"</function>\"\n"
                   "p_0_0: \"<parameter=\" \"a\" \">\" \"\\n\" text_value \"\\n\"\n"
                   "p_0_1: \"<parameter=\" \"n\" \">\" \"\\n\" %json {\"type\":\"integer\"} \"\\n\" \"</parameter>\" "
                   "\"\\n\"\n");
}

static void test_no_grammar(void **state)
{
    (void)state;
    static const struct {
        const char *format, *tools;
        size_t room;
        enum error_code code;
    } rows[] = {
        {"hermes", "[]", 1 << 16, ERR_UNSUPPORTED},
        {"hermes", TOOL(""), 1 << 16, ERR_UNSUPPORTED},
        {"hermes", TOOL("a b"), 1 << 16, ERR_NONE},
        {"qwen3-coder", TOOL("a b"), 1 << 16, ERR_UNSUPPORTED},
        {"qwen3-coder", TOOL("a>"), 1 << 16, ERR_UNSUPPORTED},
        {"hermes", TOOL("f"), 100, ERR_TOO_LARGE},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = {0};
        struct buf out;
        buf_init(&out, rows[i].room);
        assert_int_equal(grammar(rows[i].format, rows[i].tools, &(struct tool_grammar){0}, &out, &err),
                         rows[i].code == ERR_NONE);
        assert_int_equal(err.code, rows[i].code);
        buf_release(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_detection), cmocka_unit_test(test_names),      cmocka_unit_test(test_open),
        cmocka_unit_test(test_grammars),  cmocka_unit_test(test_no_grammar),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
