/* The table of reasoning formats: what models write around their reasoning, by their chat templates. */
#include "base/array.h"
#include "chat/output_internal.h"

/* In the order of detection. */
static const struct reasoning_format formats[] = {
    /* gpt-oss: github.com/openai/harmony, docs/format.md */
    {"harmony", "gpt-oss openai", .signs = {.both = {"<|channel|>", "<|message|>"}},
     .starts = {"<|channel|>analysis<|message|>"}, .ends = {"<|end|>"}, .harmony = true,
     .markers = {"<|start|>", "<|channel|>", "<|message|>", "<|constrain|>", "<|end|>", "<|call|>", "<|return|>"}},
    /* Gemma 4: template */
    {"gemma", "gemma4", .signs = {.both = {"<|channel>", "<channel|>"}}, .starts = {"<|channel>thought\n"},
     .ends = {"<channel|>"}, .markers = {"<|channel>", "<channel|>"}},
    /* Magistral 1.1 and later: template; 1.0 has <think> in its system prompt */
    {"mistral", "magistral", .signs = {.both = {"[THINK]"}}, .starts = {"[THINK]"}, .ends = {"[/THINK]"},
     .markers = {"[THINK]", "[/THINK]"}},
    /* Seed-OSS: template; without a budget for thinking the prompt opens both */
    {"seed-oss", NULL, .signs = {.both = {"<seed:think>"}},
     .starts = {"<seed:think>", "<seed:think><seed:cot_budget_reflect>"}, .ends = {"</seed:think>"},
     .markers = {"<seed:think>", "</seed:think>", "<seed:cot_budget_reflect>", "</seed:cot_budget_reflect>"}},
    /* Command R7B, Command A Reasoning: templates */
    {"cohere", "command-a command-r7b", .signs = {.both = {"<|START_THINKING|>"}}, .starts = {"<|START_THINKING|>"},
     .ends = {"<|END_THINKING|>"}, .answer = {"<|START_RESPONSE|>", "<|END_RESPONSE|>"}, .ends_at_call = true,
     .markers = {"<|START_THINKING|>", "<|END_THINKING|>", "<|START_RESPONSE|>", "<|END_RESPONSE|>"}},
    /* Granite 3.2: its template asks for these sentences (vllm/reasoning/granite_reasoning_parser.py) */
    {"granite-3.2", NULL, .signs = {.both = {"Here is my thought process"}},
     .starts = {"Here is my thought process:", "Here's my thought process:"},
     .ends = {"Here is my response:", "Here's my response:"}},
    /* Granite 3.3: template */
    {"granite", "granite-3.3", .signs = {.both = {"<response>", "<|start_of_role|>"}}, .starts = {"<think>"},
     .ends = {"</think>"}, .answer = {"<response>", "</response>"}, .markers = {"<think>", "</think>"}},
    /* Hunyuan A13B: template */
    {"hunyuan", "hunyuan-a13b", .signs = {.both = {"<answer>", "<|startoftext|>"}}, .starts = {"<think>"},
     .ends = {"</think>"}, .answer = {"<answer>", "</answer>"}, .markers = {"<think>", "</think>"}},
    /* Apertus: template; it calls tools in the midst of it */
    {"apertus", NULL, .signs = {.both = {"<|inner_prefix|>"}}, .starts = {"<|inner_prefix|>"},
     .ends = {"<|inner_suffix|>"}, .ends_at_call = true, .markers = {"<|inner_prefix|>", "<|inner_suffix|>"}},
    /* Apriel 1.5 and 1.6: template */
    {"apriel", NULL, .signs = {.both = {"[BEGIN FINAL RESPONSE]"}}, .starts = {"Here are my reasoning steps:"},
     .ends = {"[BEGIN FINAL RESPONSE]"}, .answer = {NULL, "[END FINAL RESPONSE]"},
     .markers = {"[BEGIN FINAL RESPONSE]", "[END FINAL RESPONSE]"}},
    /* EXAONE Deep: template */
    {"exaone-deep", NULL, .signs = {.both = {"<thought>"}}, .starts = {"<thought>"}, .ends = {"</thought>"},
     .markers = {"<thought>", "</thought>"}},
    /* Kimi-VL Thinking: template */
    {"kimi-vl", NULL, .signs = {.both = {"◁think▷"}}, .starts = {"◁think▷"}, .ends = {"◁/think▷"},
     .markers = {"◁think▷", "◁/think▷"}},
    /* Kimi K2 Thinking: template; calls end its reasoning (vllm/reasoning/kimi_k2_reasoning_parser.py) */
    {"kimi-k2", "kimi", .signs = {.both = {"</think>", "<|im_middle|>"}}, .starts = {"<think>"}, .ends = {"</think>"},
     .ends_at_call = true, .markers = {"<think>", "</think>"}},
    /* QwQ, Qwen 3, DeepSeek R1 to V3.2, GLM 4.5 to 4.7, MiniMax, Nemotron, EXAONE 4, SmolLM3, Olmo 3, ERNIE 4.5,
     * Step-3: templates. Some prompts open it, some answers do. */
    {"think", "qwq qwen3 deepseek-r1 deepseek-v3.1 glm glm4.5 minimax-m2 nemotron exaone4 smollm3 olmo3 step3",
     .signs = {.both = {"</think>"}, .instead = "<think>"}, .starts = {"<think>"}, .ends = {"</think>"},
     .markers = {"<think>", "</think>"}},
};

const struct reasoning_format *reasoning_format_find(struct str name)
{
    for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
        if (tool_format__names(formats[i].name, formats[i].aliases, name)) {
            return &formats[i];
        }
    }
    return NULL;
}

const struct reasoning_format *reasoning_format_detect(struct str source)
{
    for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
        if (tool_format__shows(&formats[i].signs, source)) {
            return &formats[i];
        }
    }
    return NULL;
}

const char *reasoning_format_name(const struct reasoning_format *f)
{
    return f->name;
}

size_t reasoning_format_count(void)
{
    return ARRAY_LEN(formats);
}

const struct reasoning_format *reasoning_format_at(size_t i)
{
    return &formats[i];
}

const char *const *reasoning_format_markers(const struct reasoning_format *f, size_t *n)
{
    *n = tool_format__count(f->markers, ARRAY_LEN(f->markers));
    return f->markers;
}

const char *reasoning_format_start(const struct reasoning_format *f)
{
    return f->starts[0];
}

const char *reasoning_format_end(const struct reasoning_format *f)
{
    return f->ends[0];
}

bool reasoning_format_is_open(const struct reasoning_format *f, struct str rendered)
{
    struct str s = str_trim(rendered);
    for (size_t i = 0; i < ARRAY_LEN(f->starts) && f->starts[i]; i++) {
        if (str_ends(s, str_trim(str_of(f->starts[i])))) {
            return true;
        }
    }
    return false;
}
