/* The table of tool-call formats. Above each syntax stands where it is specified: the model's chat template
 * ("template", as published with the model) and, where the template shows only half of it, another implementation
 * that reads it. */
#include "base/array.h"
#include "chat/output_internal.h"

#define JSON_KEYS  .shape = CALL_JSON, .name_key = "name", .arguments_key = "arguments"
#define LLAMA_KEYS .shape = CALL_JSON, .name_key = "name", .arguments_key = "parameters"

/* ---- JSON between markers ---- */

/* Hermes 2 Pro, Qwen 2.5, Qwen 3, EXAONE 4, SmolLM3, Granite 4, ERNIE 4.5: templates. Arguments may come first
 * (Hermes' own examples). Small ones, Qwen2.5-Coder above all, leave the tags out or write a Markdown block instead. */
static const struct call_syntax hermes = {
    JSON_KEYS,
    .open = "<tool_call>",
    .close = "</tool_call>",
    .layout = {.single = true, .after_open = "\n", .before_close = "\n", .between = "\n"},
};
/* Nemotron Nano v2, Llama-Nemotron Super 1.5: templates. */
static const struct call_syntax nemotron = {
    JSON_KEYS,
    .list = true,
    .open = "<TOOLCALL>",
    .close = "</TOOLCALL>",
};
/* Granite 3.x: template; Phi-4-mini: template, with a closing marker. */
static const struct call_syntax granite = {
    JSON_KEYS,
    .list = true,
    .open = "<|tool_call|>",
    .close = "<|/tool_call|>",
};
/* Granite 20B function calling: model card, vllm/tool_parsers/granite_20b_fc_tool_parser.py. */
static const struct call_syntax granite_20b = {
    JSON_KEYS,
    .open = "<function_call>",
    .close = "</function_call>",
    .layout = {.single = true},
};
/* MiniMax M1: template, one object a line; Jamba, Hunyuan A13B, Apriel: templates, an array. */
static const struct call_syntax tool_calls = {
    JSON_KEYS,
    .open = "<tool_calls>",
    .close = "</tool_calls>",
    .layout = {.after_open = "\n", .between = "\n", .before_close = "\n"},
};
static const struct call_syntax tool_calls_list = {
    JSON_KEYS,
    .list = true,
    .open = "<tool_calls>",
    .close = "</tool_calls>",
};
/* Command R7B, Command A: templates. */
static const struct call_syntax cohere = {
    .shape = CALL_JSON,
    .list = true,
    .name_key = "tool_name",
    .arguments_key = "parameters",
    .open = "<|START_ACTION|>",
    .close = "<|END_ACTION|>",
};
/* InternLM 2.5: template, vllm/tool_parsers/internlm2_tool_parser.py. */
static const struct call_syntax internlm = {
    LLAMA_KEYS,
    .open = "<|action_start|><|plugin|>",
    .close = "<|action_end|>",
    .layout = {.single = true, .after_open = "\n"},
};
/* Apertus: template; the tool's name is the key of its arguments. */
static const struct call_syntax apertus = {
    .shape = CALL_JSON,
    .list = true,
    .open = "<|tools_prefix|>",
    .close = "<|tools_suffix|>",
};
/* GigaChat 3: template, vllm/tool_parsers/gigachat3_tool_parser.py; the call is a message of its own. */
static const struct call_syntax gigachat = {
    JSON_KEYS,
    .open = "<|message_sep|>\n\nfunction call<|role_sep|>",
    .layout = {.single = true, .after_open = "\n"},
};
static const struct call_syntax gigachat_role = {
    JSON_KEYS,
    .open = "function call<|role_sep|>",
    .layout = {.single = true, .after_open = "\n"},
};
/* GigaChat 3.1: template. */
static const struct call_syntax gigachat_31 = {
    JSON_KEYS,
    .open = "<|function_call|>",
    .layout = {.single = true},
};
/* Firefunction v2: template; Phi-4-mini under vLLM: examples/tool_chat_template_phi4_mini.jinja. */
static const struct call_syntax functools = {
    JSON_KEYS,
    .list = true,
    .open = "functools",
};
/* Mistral 7B v0.3 to Nemo: template and docs.mistral.ai (tokenizers v2, v3): an array with ids of 9 characters. */
static const struct call_syntax mistral_list = {
    JSON_KEYS,
    .list = true,
    .open = "[TOOL_CALLS]",
};
/* Llama 3.1: github.com/meta-llama/llama-models, models/llama3_1/prompt_format.md; with custom tools the marker is
 * often left out, and then the name tells a call from an answer that is JSON. */
static const struct call_syntax llama_tag = {
    LLAMA_KEYS,
    .open = "<|python_tag|>",
    .layout = {.between = "; "},
};
static const struct call_syntax bare_json = {
    LLAMA_KEYS,
    .known_only = true,
    .open = "",
    .layout = {.between = "; "},
};
/* xLAM 2: template; an array and nothing else. */
static const struct call_syntax bare_list = {
    JSON_KEYS,
    .known_only = true,
    .list = true,
    .open = "",
};
static const struct call_syntax fenced_json = {
    JSON_KEYS,
    .known_only = true,
    .open = "```json",
    .close = "```",
};

/* ---- a name, then JSON ---- */

/* Llama 3.1 (prompt_format.md, "user-defined custom tool calling"), Functionary v3.1: template. */
static const struct call_syntax function_tag = {
    .shape = CALL_NAMED,
    .open = "<function=",
    .name_ends = {{">", MARK_ENDS}},
    .end = {"</function>"},
    .layout = {.single = true},
};
/* Mistral Small 3.2, Magistral, Devstral (tokenizers v11, v13): template, mistral-common's instruct tokenizer; the id
 * only in v11. Where the special token [ARGS] was dropped from the text, the brace ends the name. */
static const struct call_syntax mistral_args = {
    .shape = CALL_NAMED,
    .open = "[TOOL_CALLS]",
    .name_ends = {{"[ARGS]", MARK_ENDS}, {"[CALL_ID]", MARK_ID}, {"{", MARK_KEEPS}},
    .layout = {.single = true},
};
/* DeepSeek V3, R1: template. */
static const struct call_syntax deepseek_v3 = {
    .shape = CALL_NAMED,
    .open = "<｜tool▁calls▁begin｜>",
    .close = "<｜tool▁calls▁end｜>",
    .item = "<｜tool▁call▁begin｜>function<｜tool▁sep｜>",
    .name_ends = {{"\n```json", MARK_ENDS}},
    .end = {"```", "<｜tool▁call▁end｜>"},
    .layout = {.after_name = "\n", .before_end = "\n", .between = "\n"},
};
/* DeepSeek V3.1: template. */
static const struct call_syntax deepseek_v31 = {
    .shape = CALL_NAMED,
    .open = "<｜tool▁calls▁begin｜>",
    .close = "<｜tool▁calls▁end｜>",
    .item = "<｜tool▁call▁begin｜>",
    .name_ends = {{"<｜tool▁sep｜>", MARK_ENDS}},
    .end = {"<｜tool▁call▁end｜>"},
};
/* Kimi K2: docs/tool_call_guidance.md of the model's repository. */
static const struct call_syntax kimi = {
    .shape = CALL_NAMED,
    .qualified = true,
    .open = "<|tool_calls_section_begin|>",
    .close = "<|tool_calls_section_end|>",
    .item = "<|tool_call_begin|>",
    .name_ends = {{"<|tool_call_argument_begin|>", MARK_ENDS}},
    .end = {"<|tool_call_end|>"},
};
/* Functionary v3.2: template (">>>" and the recipient; the prompt ends with the first ">>>"). */
static const struct call_syntax functionary = {
    .shape = CALL_NAMED,
    .known_only = true,
    .open = ">>>",
    .name_ends = {{"\n", MARK_ENDS}},
    .layout = {.single = true},
};
static const struct call_syntax functionary_first = {
    .shape = CALL_NAMED,
    .known_only = true,
    .open = "",
    .name_ends = {{"\n", MARK_ENDS}},
    .layout = {.between = ">>>"},
};
/* gpt-oss: github.com/openai/harmony, docs/format.md. */
static const struct call_syntax harmony = {
    .shape = CALL_HARMONY,
    .open = "<|channel|>commentary to=functions.",
};

/* ---- arguments between tags ---- */

#define QWEN_TAGS                                                                  \
    .shape = CALL_TAGGED, .name_ends = {{">", MARK_ENDS}}, .end = {"</function>"}, \
    .key = "<parameter=", .key_ends = {{">", MARK_ENDS}}, .value_end = "</parameter>"
/* Qwen3-Coder, Nemotron 3, Step 3.5: templates; the outer tag is left out now and then
 * (vllm/tool_parsers/qwen3coder_tool_parser.py). */
static const struct call_syntax qwen_coder = {
    QWEN_TAGS,
    .newlines = true,
    .open = "<tool_call>",
    .close = "</tool_call>",
    .item = "<function=",
    .layout = {.single = true,
               .after_open = "\n",
               .after_name = "\n",
               .after_value = "\n",
               .between = "\n",
               .before_close = "\n"},
};
static const struct call_syntax qwen_coder_bare = {
    QWEN_TAGS, .newlines = true, .open = "<function=", .close = "</tool_call>", .layout = {.single = true},
};
/* Seed-OSS: template. */
static const struct call_syntax seed = {
    QWEN_TAGS,
    .open = "<seed:tool_call>",
    .close = "</seed:tool_call>",
    .item = "<function=",
    .layout = {.single = true,
               .after_open = "\n",
               .after_name = "\n",
               .after_value = "\n",
               .between = "\n",
               .before_close = "\n"},
};
/* GLM 4.5 to 4.7: templates; 4.7 has no line breaks. */
static const struct call_syntax glm = {
    .shape = CALL_TAGGED,
    .open = "<tool_call>",
    .close = "</tool_call>",
    .name_ends = {{"\n", MARK_ENDS}, {"<arg_key>", MARK_KEEPS}, {"</tool_call>", MARK_KEEPS}},
    .key = "<arg_key>",
    .key_ends = {{"</arg_key>", MARK_ENDS}},
    .value = "<arg_value>",
    .value_end = "</arg_value>",
    .layout = {.single = true, .after_key = "\n", .after_value = "\n", .between = "\n"},
};
/* MiniMax M2: template. */
static const struct call_syntax minimax = {
    .shape = CALL_TAGGED,
    .open = "<minimax:tool_call>",
    .close = "</minimax:tool_call>",
    .item = "<invoke name=\"",
    .name_ends = {{"\">", MARK_ENDS}},
    .end = {"</invoke>"},
    .key = "<parameter name=\"",
    .key_ends = {{"\">", MARK_ENDS}},
    .value_end = "</parameter>",
    .layout = {.after_open = "\n", .after_name = "\n", .after_value = "\n", .between = "\n", .before_close = "\n"},
};
/* DeepSeek V3.2: encoding/encoding_dsv32.py of the model's repository; V4 calls its block tool_calls. */
static const struct call_syntax dsml = {
    .shape = CALL_TAGGED,
    .open = "<｜DSML｜function_calls>",
    .close = "</｜DSML｜function_calls>",
    .item = "<｜DSML｜invoke name=\"",
    .name_ends = {{"\">", MARK_ENDS}},
    .end = {"</｜DSML｜invoke>"},
    .key = "<｜DSML｜parameter name=\"",
    .key_ends = {{"\" string=\"true\">", MARK_STRING}, {"\" string=\"false\">", MARK_VALUE}, {"\">", MARK_ENDS}},
    .value_end = "</｜DSML｜parameter>",
    .layout = {.after_open = "\n", .after_name = "\n", .after_value = "\n", .between = "\n", .before_close = "\n"},
};
static const struct call_syntax dsml_v4 = {
    .shape = CALL_TAGGED,
    .open = "<｜DSML｜tool_calls>",
    .close = "</｜DSML｜tool_calls>",
    .item = "<｜DSML｜invoke name=\"",
    .name_ends = {{"\">", MARK_ENDS}},
    .end = {"</｜DSML｜invoke>"},
    .key = "<｜DSML｜parameter name=\"",
    .key_ends = {{"\" string=\"true\">", MARK_STRING}, {"\" string=\"false\">", MARK_VALUE}, {"\">", MARK_ENDS}},
    .value_end = "</｜DSML｜parameter>",
    .layout = {.after_open = "\n", .after_name = "\n", .after_value = "\n", .between = "\n", .before_close = "\n"},
};
/* Step-3: template, vllm/tool_parsers/step3_tool_parser.py. */
static const struct call_syntax step3 = {
    .shape = CALL_TAGGED,
    .open = "<｜tool_calls_begin｜>",
    .close = "<｜tool_calls_end｜>",
    .item = "<｜tool_call_begin｜>function<｜tool_sep｜><steptml:invoke name=\"",
    .name_ends = {{"\">", MARK_ENDS}},
    .end = {"</steptml:invoke>", "<｜tool_call_end｜>"},
    .key = "<steptml:parameter name=\"",
    .key_ends = {{"\">", MARK_ENDS}},
    .value_end = "</steptml:parameter>",
};

/* ---- other notations ---- */

#define PYTHON \
    .shape = CALL_EXPRESSION, .name_ends = {{"(", MARK_ENDS}, {".call(", MARK_ENDS}}, .closer = ')', .assign = '='
/* Llama 4, Llama 3.2: prompt_format.md of each in llama-models ("zero shot function calling"). */
static const struct call_syntax llama4 = {
    PYTHON,
    .list = true,
    .open = "<|python_start|>",
    .close = "<|python_end|>",
};
static const struct call_syntax bare_python = {
    PYTHON,
    .known_only = true,
    .list = true,
    .open = "",
};
/* Llama 3.1's built-in tools: <|python_tag|>brave_search.call(query="..."). */
static const struct call_syntax llama_builtin = {
    PYTHON,
    .known_only = true,
    .open = "<|python_tag|>",
    .layout = {.single = true},
};
/* LFM2: template and model card. */
static const struct call_syntax lfm2 = {
    PYTHON,
    .list = true,
    .open = "<|tool_call_start|>",
    .close = "<|tool_call_end|>",
};
/* Olmo 3: template; a call a line. */
static const struct call_syntax olmo3 = {
    PYTHON,
    .repeats = true,
    .open = "<function_calls>",
    .close = "</function_calls>",
    .layout = {.after_open = "\n", .between = "\n", .before_close = "\n"},
};
/* Gemma 2 and 3 have no format of their own; ai.google.dev's function-calling guide asks for Python in a block. */
static const struct call_syntax tool_code = {
    PYTHON,          .known_only = true,
    .repeats = true, .open = "```tool_code",
    .close = "```",  .layout = {.after_open = "\n", .between = "\n", .before_close = "\n"},
};
#define GEMMA_CALL \
    .shape = CALL_EXPRESSION, .item = "call:", .name_ends = {{"{", MARK_ENDS}}, .closer = '}', .assign = ':'
/* FunctionGemma: template, ai.google.dev "FunctionGemma formatting and best practices". */
static const struct call_syntax functiongemma = {
    GEMMA_CALL,
    .quote = "<escape>",
    .open = "<start_function_call>",
    .close = "<end_function_call>",
    .layout = {.single = true},
};
/* Gemma 4: template. */
static const struct call_syntax gemma4 = {
    GEMMA_CALL, .quote = "<|\"|>", .open = "<|tool_call>", .close = "<tool_call|>", .layout = {.single = true},
};

/* ---- rows ---- */

/* In the order of detection: a template may hold strings of several rows, the more special comes first. */
static const struct tool_format formats[] = {
    {"harmony", "gpt-oss openai", .signs = {.both = {"<|channel|>", "<|message|>"}}, .syntaxes = {&harmony},
     .markers = {"<|start|>", "<|channel|>", "<|message|>", "<|constrain|>", "<|end|>", "<|call|>", "<|return|>"}},
    {"gemma4", NULL, .signs = {.both = {"<|tool_call>", "<tool_call|>"}}, .syntaxes = {&gemma4},
     .markers = {"<|tool_call>", "<tool_call|>", "<|\"|>"}},
    {"functiongemma", NULL, .signs = {.both = {"<start_function_call>"}}, .syntaxes = {&functiongemma},
     .markers = {"<start_function_call>", "<end_function_call>", "<escape>"}},
    {"deepseek-v3.2", "deepseek-v4", .signs = {.both = {"｜DSML｜"}}, .syntaxes = {&dsml, &dsml_v4},
     .markers = {"｜DSML｜"}},
    {"deepseek-v3", "deepseek-r1", .signs = {.both = {"<｜tool▁calls▁begin｜>", "```json"}},
     .syntaxes = {&deepseek_v3, &deepseek_v31},
     .markers = {"<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>",
                 "<｜tool▁calls▁end｜>"}},
    {"deepseek-v3.1", NULL, .signs = {.both = {"<｜tool▁calls▁begin｜>"}}, .canonical = 1,
     .syntaxes = {&deepseek_v3, &deepseek_v31},
     .markers = {"<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>",
                 "<｜tool▁calls▁end｜>"}},
    {"step3", NULL, .signs = {.both = {"<｜tool_calls_begin｜>"}}, .syntaxes = {&step3},
     .markers = {"<｜tool_calls_begin｜>", "<｜tool_call_begin｜>", "<｜tool_sep｜>", "<｜tool_call_end｜>",
                 "<｜tool_calls_end｜>"}},
    {"kimi-k2", "kimi", .signs = {.both = {"<|tool_calls_section_begin|>"}, .instead = "tool_declare<|im_middle|>"},
     .syntaxes = {&kimi},
     .markers = {"<|tool_calls_section_begin|>", "<|tool_call_begin|>", "<|tool_call_argument_begin|>",
                 "<|tool_call_end|>", "<|tool_calls_section_end|>"}},
    {"minimax-m2", NULL, .signs = {.both = {"<minimax:tool_call>"}}, .syntaxes = {&minimax},
     .markers = {"<minimax:tool_call>", "</minimax:tool_call>"}},
    {"seed-oss", NULL, .signs = {.both = {"<seed:tool_call>"}}, .syntaxes = {&seed},
     .markers = {"<seed:tool_call>", "</seed:tool_call>"}},
    {"glm", "glm4.5 glm45 glm4.7 glm47", .signs = {.both = {"<arg_key>"}}, .syntaxes = {&glm, &hermes},
     .markers = {"<tool_call>", "</tool_call>", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"}},
    {"qwen3-coder", "qwen3_coder nemotron3 step3.5", .signs = {.both = {"<function=", "<parameter="}},
     .syntaxes = {&qwen_coder, &hermes, &qwen_coder_bare}, .markers = {"<tool_call>", "</tool_call>"}},
    {"functionary-v3.2", NULL, .signs = {.both = {">>>all"}}, .answer = {"all\n", ">>>all\n"},
     .syntaxes = {&functionary_first, &functionary}, .markers = {">>>"}},
    {"functionary-v3.1", NULL, .signs = {.both = {"<function="}},
     .syntaxes = {&function_tag, &llama_tag, &llama_builtin}, .markers = {"<|python_tag|>"}},
    {"mistral-v11", "mistral-v13 magistral devstral", .signs = {.both = {"[TOOL_CALLS]", "[ARGS]"}},
     .syntaxes = {&mistral_args, &mistral_list}, .markers = {"[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"}},
    {"mistral", "mistral-v3", .signs = {.both = {"[TOOL_CALLS]"}}, .syntaxes = {&mistral_list, &mistral_args},
     .markers = {"[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"}},
    {"nemotron", NULL, .signs = {.both = {"<TOOLCALL>"}}, .syntaxes = {&nemotron},
     .markers = {"<TOOLCALL>", "</TOOLCALL>"}},
    {"granite", "granite3 phi4-mini", .signs = {.both = {"<|tool_call|>"}, .instead = "<|/tool|>"},
     .syntaxes = {&granite}, .markers = {"<|tool_call|>", "<|/tool_call|>"}},
    {"granite-20b-fc", NULL, .signs = {.both = {"<function_call>"}}, .syntaxes = {&granite_20b},
     .markers = {"<function_call>"}},
    {"cohere", "command-r7b command-a", .signs = {.both = {"<|START_ACTION|>"}}, .syntaxes = {&cohere},
     .markers = {"<|START_ACTION|>", "<|END_ACTION|>"}},
    {"lfm2", NULL, .signs = {.both = {"<|tool_call_start|>"}, .instead = "List of tools: "}, .syntaxes = {&lfm2},
     .markers = {"<|tool_call_start|>", "<|tool_call_end|>"}},
    {"olmo3", NULL, .signs = {.both = {"<function_calls>"}}, .syntaxes = {&olmo3},
     .markers = {"<function_calls>", "</function_calls>"}},
    {"apertus", NULL, .signs = {.both = {"<|tools_prefix|>"}}, .syntaxes = {&apertus},
     .markers = {"<|tools_prefix|>", "<|tools_suffix|>"}},
    {"gigachat3.1", NULL, .signs = {.both = {"<|role_sep|>", "<|function_call|>"}}, .syntaxes = {&gigachat_31},
     .markers = {"<|function_call|>"}},
    {"gigachat3", NULL, .signs = {.both = {"<|role_sep|>", "function call"}}, .syntaxes = {&gigachat, &gigachat_role},
     .markers = {"<|message_sep|>", "<|role_sep|>"}},
    {"internlm2", NULL, .signs = {.both = {"<|action_start|>"}}, .syntaxes = {&internlm},
     .markers = {"<|action_start|>", "<|plugin|>", "<|action_end|>"}},
    {"minimax-m1", NULL, .signs = {.both = {"<tool_calls>", "<beginning_of_sentence>"}}, .syntaxes = {&tool_calls},
     .markers = {"<tool_calls>", "</tool_calls>"}},
    {"tool-calls-list", "jamba hunyuan apriel", .signs = {.both = {"<tool_calls>"}}, .syntaxes = {&tool_calls_list},
     .markers = {"<tool_calls>", "</tool_calls>"}},
    {"hermes", "qwen2.5 qwen3 exaone4 smollm3 granite4 ernie4.5",
     .signs = {.both = {"<tool_call>"}, .instead = "xml_tools"},
     .syntaxes = {&hermes, &qwen_coder, &bare_json, &fenced_json}, .markers = {"<tool_call>", "</tool_call>"}},
    {"functools", "firefunction-v2", .signs = {.both = {"functools["}}, .syntaxes = {&functools},
     .markers = {"functools"}},
    {"xlam", NULL, .signs = {.both = {"\"name\": \"tool_call_name\""}}, .syntaxes = {&bare_list, &fenced_json, &hermes},
     .markers = {"<tool_call>"}},
    {"llama4-pythonic", "pythonic llama3.2-pythonic", .signs = {.both = {"[func_name1(params_name1="}},
     .syntaxes = {&bare_python, &bare_json, &llama4, &llama_tag},
     .markers = {"<|python_start|>", "<|python_end|>", "<|python_tag|>"}},
    {"llama4", NULL, .signs = {.both = {"<|python_start|>"}}, .syntaxes = {&bare_json, &bare_python, &llama4},
     .markers = {"<|python_start|>", "<|python_end|>"}},
    {"llama3", "llama3.1 llama3.2 llama3.3", .signs = {.both = {"<|start_header_id|>", "ipython"}},
     .syntaxes = {&bare_json, &llama_tag, &llama_builtin, &function_tag, &bare_python}, .markers = {"<|python_tag|>"}},
    {"gemma", "gemma3 tool-code", .signs = {.both = {"tool_code"}},
     .syntaxes = {&tool_code, &fenced_json, &bare_python}, .markers = {"```tool_code"}},
    {"generic", NULL, .signs = {.both = {"tools"}},
     .syntaxes = {&hermes, &qwen_coder, &bare_json, &fenced_json, &function_tag},
     .markers = {"<tool_call>", "</tool_call>"}},
};

/* ---- access ---- */

bool tool_format__names(const char *name, const char *aliases, struct str wanted)
{
    struct str rest = str_of(aliases), one;
    if (str_eq(str_of(name), wanted)) {
        return true;
    }
    while (rest.len && str_split(&rest, ' ', &one)) {
        if (str_eq(one, wanted)) {
            return true;
        }
    }
    return false;
}

static bool shows(struct str source, const char *text)
{
    return text && str_find(source, str_of(text)) != STR_NPOS;
}

bool tool_format__shows(const struct template_signs *signs, struct str source)
{
    bool both = shows(source, signs->both[0]) && (!signs->both[1] || shows(source, signs->both[1]));
    return both || shows(source, signs->instead);
}

size_t tool_format__count(const char *const *texts, size_t max)
{
    size_t n = 0;
    while (n < max && texts[n]) {
        n++;
    }
    return n;
}

const struct tool_format *tool_format_find(struct str name)
{
    for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
        if (tool_format__names(formats[i].name, formats[i].aliases, name)) {
            return &formats[i];
        }
    }
    return NULL;
}

const struct tool_format *tool_format_detect(struct str source)
{
    for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
        if (tool_format__shows(&formats[i].signs, source)) {
            return &formats[i];
        }
    }
    return NULL;
}

const char *tool_format_name(const struct tool_format *f)
{
    return f->name;
}

size_t tool_format_count(void)
{
    return ARRAY_LEN(formats);
}

const struct tool_format *tool_format_at(size_t i)
{
    return &formats[i];
}

const char *const *tool_format_markers(const struct tool_format *f, size_t *n)
{
    *n = tool_format__count(f->markers, ARRAY_LEN(f->markers));
    return f->markers;
}

const char *const *tool_format_triggers(const struct tool_format *f, size_t *n)
{
    const struct call_syntax *s = f->syntaxes[f->canonical];
    *n = s->open[0] ? 1 : 0;
    return &s->open;
}
