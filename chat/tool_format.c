/* The table of tool-call formats. Above each syntax stands where it is specified: the model's chat template
 * ("template", as published with the model) and, where the template shows only half of it, another implementation
 * that reads it. */
#include "base/array.h"
#include "chat/output_internal.h"

#define JSON_KEYS  .shape = CALL_JSON, .name_key = "name", .arguments_key = "arguments"
#define LLAMA_KEYS .shape = CALL_JSON, .name_key = "name", .arguments_key = "parameters"
#define LINES      {.single = true, .after_open = "\n", .before_close = "\n", .between = "\n"}

/* ---- JSON between markers ---- */

/* Hermes 2 Pro, Qwen 2.5, Qwen 3, EXAONE 4, SmolLM3, Granite 4, ERNIE 4.5: templates. Arguments may come first
 * (Hermes' own examples). */
#define HERMES      {JSON_KEYS, .open = "<tool_call>", .close = "</tool_call>", .layout = LINES}
/* Nemotron Nano v2, Llama-Nemotron Super 1.5: templates. */
#define NEMOTRON    {JSON_KEYS, .list = true, .open = "<TOOLCALL>", .close = "</TOOLCALL>"}
/* Granite 3.x: template; Phi-4-mini: template, with a closing marker. */
#define GRANITE     {JSON_KEYS, .list = true, .open = "<|tool_call|>", .close = "<|/tool_call|>"}
/* Granite 20B function calling: model card, vllm/tool_parsers/granite_20b_fc_tool_parser.py. */
#define GRANITE_20B {JSON_KEYS, .open = "<function_call>", .close = "</function_call>", .layout = {.single = true}}
/* MiniMax M1: template, one object a line; Jamba, Hunyuan A13B, Apriel: templates, an array. */
#define TOOL_CALLS                                           \
    {JSON_KEYS, .open = "<tool_calls>", .close = "</tool_calls>", \
     .layout = {.after_open = "\n", .between = "\n", .before_close = "\n"}}
#define TOOL_CALLS_LIST {JSON_KEYS, .list = true, .open = "<tool_calls>", .close = "</tool_calls>"}
/* Command R7B, Command A: templates. */
#define COHERE                                                                                             \
    {.shape = CALL_JSON, .list = true, .name_key = "tool_name", .arguments_key = "parameters",             \
     .open = "<|START_ACTION|>", .close = "<|END_ACTION|>"}
/* InternLM 2.5: template, vllm/tool_parsers/internlm2_tool_parser.py. */
#define INTERNLM                                                                     \
    {LLAMA_KEYS, .open = "<|action_start|><|plugin|>", .close = "<|action_end|>", \
     .layout = {.single = true, .after_open = "\n"}}
/* Firefunction v2: template; Phi-4-mini under vLLM: examples/tool_chat_template_phi4_mini.jinja. */
#define FUNCTOOLS {JSON_KEYS, .list = true, .open = "functools"}
/* Mistral 7B v0.3 to Nemo: template and docs.mistral.ai (tokenizers v2, v3): an array with ids of 9 characters. */
#define MISTRAL_LIST {JSON_KEYS, .list = true, .open = "[TOOL_CALLS]"}
/* Llama 3.1: github.com/meta-llama/llama-models, models/llama3_1/prompt_format.md; with custom tools the marker is
 * often left out, and then the name tells a call from an answer that is JSON. */
#define LLAMA_TAG     {LLAMA_KEYS, .open = "<|python_tag|>", .layout = {.between = "; "}}
#define BARE_JSON     {LLAMA_KEYS, .known_only = true, .open = "", .layout = {.between = "; "}}
/* xLAM 2: template; an array and nothing else. */
#define BARE_LIST     {JSON_KEYS, .known_only = true, .list = true, .open = ""}
#define FENCED_JSON   {JSON_KEYS, .known_only = true, .open = "```json", .close = "```"}

/* ---- a name, then JSON ---- */

/* Llama 3.1 (prompt_format.md, "user-defined custom tool calling"), Functionary v3.1: template. */
#define FUNCTION_TAG                                                                           \
    {.shape = CALL_NAMED, .open = "<function=", .name_ends = {{">", MARK_ENDS}}, .end = {"</function>"}, \
     .layout = {.single = true}}
/* Mistral Small 3.2, Magistral, Devstral (tokenizers v11, v13): template, mistral-common's instruct tokenizer; the id
 * only in v11. Where the special token [ARGS] was dropped from the text, the brace ends the name. */
#define MISTRAL_ARGS                                                                                          \
    {.shape = CALL_NAMED, .open = "[TOOL_CALLS]",                                                             \
     .name_ends = {{"[ARGS]", MARK_ENDS}, {"[CALL_ID]", MARK_ID}, {"{", MARK_KEEPS}}, .layout = {.single = true}}
/* DeepSeek V3, R1: template. */
#define DEEPSEEK_V3                                                                                         \
    {.shape = CALL_NAMED, .open = "<｜tool▁calls▁begin｜>", .close = "<｜tool▁calls▁end｜>",              \
     .item = "<｜tool▁call▁begin｜>function<｜tool▁sep｜>", .name_ends = {{"\n```json", MARK_ENDS}},      \
     .end = {"```", "<｜tool▁call▁end｜>"},                                                               \
     .layout = {.after_name = "\n", .before_end = "\n", .between = "\n"}}
/* DeepSeek V3.1: template. */
#define DEEPSEEK_V31                                                                                \
    {.shape = CALL_NAMED, .open = "<｜tool▁calls▁begin｜>", .close = "<｜tool▁calls▁end｜>",      \
     .item = "<｜tool▁call▁begin｜>", .name_ends = {{"<｜tool▁sep｜>", MARK_ENDS}},               \
     .end = {"<｜tool▁call▁end｜>"}}
/* Kimi K2: docs/tool_call_guidance.md of the model's repository. */
#define KIMI                                                                                              \
    {.shape = CALL_NAMED, .qualified = true, .open = "<|tool_calls_section_begin|>",                      \
     .close = "<|tool_calls_section_end|>", .item = "<|tool_call_begin|>",                                \
     .name_ends = {{"<|tool_call_argument_begin|>", MARK_ENDS}}, .end = {"<|tool_call_end|>"}}
/* Functionary v3.2: template (">>>" and the recipient; the prompt ends with the first ">>>"). */
#define FUNCTIONARY(opener) \
    {.shape = CALL_NAMED, .known_only = true, .open = (opener), .name_ends = {{"\n", MARK_ENDS}}, \
     .layout = {.single = true}}
/* gpt-oss: github.com/openai/harmony, docs/format.md. */
#define HARMONY {.shape = CALL_HARMONY, .open = "<|channel|>commentary to=functions."}

/* ---- arguments between tags ---- */

#define QWEN_TAGS                                                                                         \
    .shape = CALL_TAGGED, .name_ends = {{">", MARK_ENDS}}, .end = {"</function>"}, .key = "<parameter=",  \
    .key_ends = {{">", MARK_ENDS}}, .value_end = "</parameter>"
/* Qwen3-Coder, Nemotron 3, Step 3.5: templates; the outer tag is left out now and then
 * (vllm/tool_parsers/qwen3coder_tool_parser.py). */
#define QWEN_CODER                                                                            \
    {QWEN_TAGS, .newlines = true, .open = "<tool_call>", .close = "</tool_call>", .item = "<function=", \
     .layout = {.single = true, .after_open = "\n", .after_name = "\n", .after_value = "\n",  \
                .between = "\n", .before_close = "\n"}}
#define QWEN_CODER_BARE {QWEN_TAGS, .newlines = true, .open = "<function=", .close = "</tool_call>"}
/* Seed-OSS: template. */
#define SEED                                                                                              \
    {QWEN_TAGS, .open = "<seed:tool_call>", .close = "</seed:tool_call>", .item = "<function=",           \
     .layout = {.single = true, .after_open = "\n", .after_name = "\n", .after_value = "\n",              \
                .between = "\n", .before_close = "\n"}}
/* GLM 4.5 to 4.7: templates; 4.7 has no line breaks. */
#define GLM                                                                                        \
    {.shape = CALL_TAGGED, .open = "<tool_call>", .close = "</tool_call>",                         \
     .name_ends = {{"\n", MARK_ENDS}, {"<arg_key>", MARK_KEEPS}, {"</tool_call>", MARK_KEEPS}},    \
     .key = "<arg_key>", .key_ends = {{"</arg_key>", MARK_ENDS}}, .value = "<arg_value>",          \
     .value_end = "</arg_value>",                                                                  \
     .layout = {.single = true, .after_key = "\n", .after_value = "\n", .between = "\n"}}
/* MiniMax M2: template. */
#define MINIMAX                                                                                             \
    {.shape = CALL_TAGGED, .open = "<minimax:tool_call>", .close = "</minimax:tool_call>",                  \
     .item = "<invoke name=\"", .name_ends = {{"\">", MARK_ENDS}}, .end = {"</invoke>"},                    \
     .key = "<parameter name=\"", .key_ends = {{"\">", MARK_ENDS}}, .value_end = "</parameter>",            \
     .layout = {.after_open = "\n", .after_name = "\n", .after_value = "\n", .between = "\n",               \
                .before_close = "\n"}}
/* DeepSeek V3.2: encoding/encoding_dsv32.py of the model's repository; V4 calls its block tool_calls. */
#define DSML(block)                                                                                           \
    {.shape = CALL_TAGGED, .open = "<｜DSML｜" block ">", .close = "</｜DSML｜" block ">",                    \
     .item = "<｜DSML｜invoke name=\"", .name_ends = {{"\">", MARK_ENDS}}, .end = {"</｜DSML｜invoke>"},      \
     .key = "<｜DSML｜parameter name=\"",                                                                     \
     .key_ends = {{"\" string=\"true\">", MARK_STRING}, {"\" string=\"false\">", MARK_VALUE}, {"\">", MARK_ENDS}}, \
     .value_end = "</｜DSML｜parameter>",                                                                     \
     .layout = {.after_open = "\n", .after_name = "\n", .after_value = "\n", .between = "\n",                 \
                .before_close = "\n"}}
/* Step-3: template, vllm/tool_parsers/step3_tool_parser.py. */
#define STEP3                                                                                             \
    {.shape = CALL_TAGGED, .open = "<｜tool_calls_begin｜>", .close = "<｜tool_calls_end｜>",             \
     .item = "<｜tool_call_begin｜>function<｜tool_sep｜><steptml:invoke name=\"",                        \
     .name_ends = {{"\">", MARK_ENDS}}, .end = {"</steptml:invoke>", "<｜tool_call_end｜>"},              \
     .key = "<steptml:parameter name=\"", .key_ends = {{"\">", MARK_ENDS}},                               \
     .value_end = "</steptml:parameter>"}

/* ---- other notations ---- */

#define PYTHON .shape = CALL_EXPRESSION, .name_ends = {{"(", MARK_ENDS}, {".call(", MARK_ENDS}}, .closer = ')', .assign = '='
/* Llama 4, Llama 3.2: prompt_format.md of each in llama-models ("zero shot function calling"). */
#define LLAMA4        {PYTHON, .list = true, .open = "<|python_start|>", .close = "<|python_end|>"}
#define BARE_PYTHON   {PYTHON, .known_only = true, .list = true, .open = ""}
/* Llama 3.1's built-in tools: <|python_tag|>brave_search.call(query="..."). */
#define LLAMA_BUILTIN {PYTHON, .known_only = true, .open = "<|python_tag|>"}
/* LFM2: template and model card. */
#define LFM2          {PYTHON, .list = true, .open = "<|tool_call_start|>", .close = "<|tool_call_end|>"}
/* Olmo 3: template; a call a line. */
#define OLMO3                                                                                     \
    {PYTHON, .repeats = true, .open = "<function_calls>", .close = "</function_calls>",           \
     .layout = {.after_open = "\n", .between = "\n", .before_close = "\n"}}
/* Gemma 2 and 3 have no format of their own; ai.google.dev's function-calling guide asks for Python in a block. */
#define TOOL_CODE                                                                                 \
    {PYTHON, .known_only = true, .repeats = true, .open = "```tool_code", .close = "```",         \
     .layout = {.after_open = "\n", .between = "\n", .before_close = "\n"}}
#define GEMMA_CALL .shape = CALL_EXPRESSION, .item = "call:", .name_ends = {{"{", MARK_ENDS}}, .closer = '}', .assign = ':'
/* FunctionGemma: template, ai.google.dev "FunctionGemma formatting and best practices". */
#define FUNCTIONGEMMA                                                                             \
    {GEMMA_CALL, .quote = "<escape>", .open = "<start_function_call>", .close = "<end_function_call>", \
     .layout = {.single = true}}
/* Gemma 4: template. */
#define GEMMA4                                                                                    \
    {GEMMA_CALL, .quote = "<|\"|>", .open = "<|tool_call>", .close = "<tool_call|>", .layout = {.single = true}}

/* ---- rows ---- */

#define S(...)       (const struct call_syntax[]){__VA_ARGS__}
#define SYNTAXES(...) .syntaxes = S(__VA_ARGS__), .n_syntaxes = sizeof(S(__VA_ARGS__)) / sizeof(struct call_syntax)
#define M(...)       (const char *const[]){__VA_ARGS__}
#define MARKERS(...) .markers = M(__VA_ARGS__), .n_markers = sizeof(M(__VA_ARGS__)) / sizeof(char *)

/* In the order of detection: a template may hold strings of several rows, the more special comes first. */
static const struct tool_format formats[] = {
    {"harmony", "gpt-oss openai", {"<|channel|>", "<|message|>"}, SYNTAXES(HARMONY),
     MARKERS("<|start|>", "<|channel|>", "<|message|>", "<|constrain|>", "<|end|>", "<|call|>", "<|return|>")},
    {"gemma4", NULL, {"<|tool_call>", "<tool_call|>"}, SYNTAXES(GEMMA4),
     MARKERS("<|tool_call>", "<tool_call|>", "<|\"|>")},
    {"functiongemma", NULL, {"<start_function_call>"}, SYNTAXES(FUNCTIONGEMMA),
     MARKERS("<start_function_call>", "<end_function_call>", "<escape>")},
    {"deepseek-v3.2", "deepseek-v4", {"｜DSML｜"}, SYNTAXES(DSML("function_calls"), DSML("tool_calls")),
     MARKERS("｜DSML｜")},
    {"deepseek-v3", "deepseek-r1", {"<｜tool▁calls▁begin｜>", "```json"}, SYNTAXES(DEEPSEEK_V3, DEEPSEEK_V31),
     MARKERS("<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>",
             "<｜tool▁calls▁end｜>")},
    {"deepseek-v3.1", NULL, {"<｜tool▁calls▁begin｜>"}, .canonical = 1,
     SYNTAXES(DEEPSEEK_V3, DEEPSEEK_V31),
     MARKERS("<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>",
             "<｜tool▁calls▁end｜>")},
    {"step3", NULL, {"<｜tool_calls_begin｜>"}, SYNTAXES(STEP3),
     MARKERS("<｜tool_calls_begin｜>", "<｜tool_call_begin｜>", "<｜tool_sep｜>", "<｜tool_call_end｜>",
             "<｜tool_calls_end｜>")},
    {"kimi-k2", "kimi", {"<|tool_calls_section_begin|>"}, SYNTAXES(KIMI),
     MARKERS("<|tool_calls_section_begin|>", "<|tool_call_begin|>", "<|tool_call_argument_begin|>",
             "<|tool_call_end|>", "<|tool_calls_section_end|>")},
    {"minimax-m2", NULL, {"<minimax:tool_call>"}, SYNTAXES(MINIMAX),
     MARKERS("<minimax:tool_call>", "</minimax:tool_call>")},
    {"seed-oss", NULL, {"<seed:tool_call>"}, SYNTAXES(SEED), MARKERS("<seed:tool_call>", "</seed:tool_call>")},
    {"glm", "glm4.5 glm45 glm4.7 glm47", {"<arg_key>"}, SYNTAXES(GLM, HERMES),
     MARKERS("<tool_call>", "</tool_call>", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>")},
    {"qwen3-coder", "qwen3_coder nemotron3 step3.5", {"<function=", "<parameter="},
     SYNTAXES(QWEN_CODER, HERMES, QWEN_CODER_BARE), MARKERS("<tool_call>", "</tool_call>")},
    {"functionary-v3.2", NULL, {">>>all"}, .answer = {"all\n", ">>>all\n"},
     SYNTAXES(FUNCTIONARY(">>>"), FUNCTIONARY("")), MARKERS(">>>")},
    {"functionary-v3.1", NULL, {"<function="}, SYNTAXES(FUNCTION_TAG, LLAMA_TAG, LLAMA_BUILTIN),
     MARKERS("<|python_tag|>")},
    {"mistral-v11", "mistral-v13 magistral devstral", {"[TOOL_CALLS]", "[ARGS]"},
     SYNTAXES(MISTRAL_ARGS, MISTRAL_LIST), MARKERS("[TOOL_CALLS]", "[CALL_ID]", "[ARGS]")},
    {"mistral", "mistral-v3", {"[TOOL_CALLS]"}, SYNTAXES(MISTRAL_LIST, MISTRAL_ARGS),
     MARKERS("[TOOL_CALLS]", "[CALL_ID]", "[ARGS]")},
    {"nemotron", NULL, {"<TOOLCALL>"}, SYNTAXES(NEMOTRON), MARKERS("<TOOLCALL>", "</TOOLCALL>")},
    {"granite", "granite3 phi4-mini", {"<|tool_call|>"}, SYNTAXES(GRANITE),
     MARKERS("<|tool_call|>", "<|/tool_call|>")},
    {"granite-20b-fc", NULL, {"<function_call>"}, SYNTAXES(GRANITE_20B), MARKERS("<function_call>")},
    {"cohere", "command-r7b command-a", {"<|START_ACTION|>"}, SYNTAXES(COHERE),
     MARKERS("<|START_ACTION|>", "<|END_ACTION|>")},
    {"lfm2", NULL, {"<|tool_call_start|>"}, SYNTAXES(LFM2), MARKERS("<|tool_call_start|>", "<|tool_call_end|>")},
    {"olmo3", NULL, {"<function_calls>"}, SYNTAXES(OLMO3), MARKERS("<function_calls>", "</function_calls>")},
    {"internlm2", NULL, {"<|action_start|>"}, SYNTAXES(INTERNLM),
     MARKERS("<|action_start|>", "<|plugin|>", "<|action_end|>")},
    {"minimax-m1", NULL, {"<tool_calls>", "<beginning_of_sentence>"}, SYNTAXES(TOOL_CALLS),
     MARKERS("<tool_calls>", "</tool_calls>")},
    {"tool-calls-list", "jamba hunyuan apriel", {"<tool_calls>"}, SYNTAXES(TOOL_CALLS_LIST),
     MARKERS("<tool_calls>", "</tool_calls>")},
    {"hermes", "qwen2.5 qwen3 exaone4 smollm3 granite4 ernie4.5", {"<tool_call>"}, SYNTAXES(HERMES, QWEN_CODER),
     MARKERS("<tool_call>", "</tool_call>")},
    {"functools", "firefunction-v2", {"functools["}, SYNTAXES(FUNCTOOLS), MARKERS("functools")},
    {"xlam", NULL, {"\"name\": \"tool_call_name\""}, SYNTAXES(BARE_LIST, FENCED_JSON, HERMES), MARKERS("<tool_call>")},
    {"llama4-pythonic", "pythonic llama3.2-pythonic", {"[func_name1(params_name1="},
     SYNTAXES(BARE_PYTHON, BARE_JSON, LLAMA4, LLAMA_TAG), MARKERS("<|python_start|>", "<|python_end|>", "<|python_tag|>")},
    {"llama4", NULL, {"<|python_start|>"}, SYNTAXES(BARE_JSON, BARE_PYTHON, LLAMA4),
     MARKERS("<|python_start|>", "<|python_end|>")},
    {"llama3", "llama3.1 llama3.2 llama3.3", {"<|start_header_id|>", "ipython"},
     SYNTAXES(BARE_JSON, LLAMA_TAG, LLAMA_BUILTIN, FUNCTION_TAG, BARE_PYTHON), MARKERS("<|python_tag|>")},
    {"gemma", "gemma3 tool-code", {"tool_code"}, SYNTAXES(TOOL_CODE, FENCED_JSON, BARE_PYTHON), MARKERS("```tool_code")},
    {"generic", NULL, {"tools"}, SYNTAXES(HERMES, QWEN_CODER, BARE_JSON, FENCED_JSON, FUNCTION_TAG),
     MARKERS("<tool_call>", "</tool_call>")},
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

bool tool_format__fits(const char *const *needs, size_t n_needs, const char *lacks, struct str source)
{
    for (size_t i = 0; i < n_needs && needs[i]; i++) {
        if (str_find(source, str_of(needs[i])) == STR_NPOS) {
            return false;
        }
    }
    return !lacks || str_find(source, str_of(lacks)) == STR_NPOS;
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
        if (tool_format__fits(formats[i].needs, ARRAY_LEN(formats[i].needs), formats[i].lacks, source)) {
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
    *n = f->n_markers;
    return f->markers;
}

const char *const *tool_format_triggers(const struct tool_format *f, size_t *n)
{
    const struct call_syntax *s = &f->syntaxes[f->canonical];
    *n = s->open[0] ? 1 : 0;
    return &s->open;
}
