#include "text/pretokenizer.h"

#include "base/array.h"
#include "text/pretokenizer_internal.h"

/* Stages, named after what they match. */

#define RUNS(...)                            \
    {                                        \
        .next = pre__class_runs, __VA_ARGS__ \
    }

static const struct pre_range newlines[] = {{'\n', '\n'}, {'\r', '\r'}};
static const struct pre_range cjk_wide[] = {{0x800, 0x9FA5}, {0xAC00, 0xD7FF}};  /* [一-龥ࠀ-一가-퟿] */
static const struct pre_range cjk_kana[] = {{0x3040, 0x30FF}, {0x4E00, 0x9FA5}}; /* [一-龥぀-ゟ゠-ヿ] */
static const struct pre_range deepseek_punctuation[] = {/* [!-/:-~！-／：-～‘-‟　-。] */
                                                        {0x21, 0x2F},     {0x3A, 0x7E},     {0x2018, 0x201F},
                                                        {0x3000, 0x3002}, {0xFF01, 0xFF0F}, {0xFF1A, 0xFF5E}};

static const struct pre_stage each_newline = RUNS(.ranges = newlines, .n_ranges = 2, .max = 1);
static const struct pre_stage each_numeric = RUNS(.mask = UC_NUMERIC, .max = 1);
static const struct pre_stage three_n = RUNS(.mask = UC_N, .max = 3);
static const struct pre_stage punctuation_runs = RUNS(.mask = UC_PUNCT);
static const struct pre_stage space_letters = RUNS(.mask = UC_L, .lead_space = true);
static const struct pre_stage space_punctuation = RUNS(.mask = UC_P, .lead_space = true);
static const struct pre_stage deepseek_letter_runs =
    RUNS(.ranges = pre__deepseek_letters, .n_ranges = PRE__N_DEEPSEEK_LETTERS, .lead_space = true);
static const struct pre_stage deepseek_punctuation_runs =
    RUNS(.ranges = deepseek_punctuation, .n_ranges = ARRAY_LEN(deepseek_punctuation), .lead_space = true);
static const struct pre_stage cjk_wide_runs = RUNS(.ranges = cjk_wide, .n_ranges = ARRAY_LEN(cjk_wide));
static const struct pre_stage cjk_kana_runs = RUNS(.ranges = cjk_kana, .n_ranges = ARRAY_LEN(cjk_kana));
static const struct pre_stage final_space = {.next = pre__final_space};
static const struct pre_stage byte_digit_runs = {.next = pre__byte_digits};
static const struct pre_stage byte_digit_triples = {.next = pre__byte_digits, .max = 3};

static const struct pre_stage gpt2 = {.next = pre__gpt2};
static const struct pre_stage llama3 = {.next = pre__cl100k, .contractions = true, .max_digits = 3, .tail = "\r\n"};
static const struct pre_stage qwen2 = {.next = pre__cl100k, .contractions = true, .max_digits = 1, .tail = "\r\n"};
static const struct pre_stage qwen35 = {
    .next = pre__cl100k, .contractions = true, .max_digits = 1, .tail = "\r\n", .marks_in_words = true};
static const struct pre_stage seed_coder = {.next = pre__cl100k, .contractions = true, .max_digits = 1, .tail = ""};
static const struct pre_stage minicpm5 = {.next = pre__cl100k, .contractions = true, .tail = "\r\n"};
static const struct pre_stage tekken = {.next = pre__cased, .max_digits = 1, .tail = "\r\n/"};
static const struct pre_stage gpt4o = {.next = pre__cased, .contractions = true, .max_digits = 3, .tail = "\r\n/"};
static const struct pre_stage deepseek3 = {.next = pre__deepseek3};

/* The names are those that the GGUF converters write. A file without one is taken for GPT-2's lineage. */
#define STAGES(...) .stages = {__VA_ARGS__}

static const struct pretokenizer table[] = {
    {.name = "gpt-2",
     .aliases = "default phi-2 jina-es jina-de jina-v2-es jina-v2-de gigachat a.x-4.0 mellum exaone4 jais trillion "
                "granite-docling",
     STAGES(&gpt2)},
    {.name = "mpt", .aliases = "olmo", STAGES(&gpt2), .nfc = true},
    {.name = "smollm", .aliases = "starcoder refact codeshell exaone minerva-7b mellum2", STAGES(&each_numeric, &gpt2)},
    {.name = "command-r", .aliases = "", STAGES(&each_numeric, &gpt2), .nfc = true},
    {.name = "llama-bpe",
     .aliases = "llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano",
     STAGES(&llama3),
     .ignore_merges = true,
     .add_bos = true},
    {.name = "dbrx", .aliases = "smaug-bpe chatglm-bpe", STAGES(&llama3)},
    {.name = "glm4", .aliases = "glm5", STAGES(&llama3), .ignore_merges = true},
    {.name = "minicpm5", .aliases = "", STAGES(&three_n, &minicpm5), .ignore_merges = true},
    {.name = "qwen2", .aliases = "deepseek-r1-qwen megrez kormo f2llmv2", STAGES(&qwen2), .nfc = true},
    {.name = "stablelm2", .aliases = "hunyuan solar-open grok-2 bailingmoe bailingmoe2 llada-moe", STAGES(&qwen2)},
    {.name = "qwen35", .aliases = "", STAGES(&qwen35), .nfc = true},
    {.name = "seed-coder", .aliases = "", STAGES(&seed_coder)},
    {.name = "deepseek-llm",
     .aliases = "",
     STAGES(&each_newline, &deepseek_letter_runs, &deepseek_punctuation_runs, &final_space, &cjk_wide_runs,
            &each_numeric)},
    {.name = "deepseek-coder",
     .aliases = "",
     STAGES(&each_newline, &space_letters, &space_punctuation, &cjk_wide_runs, &each_numeric)},
    {.name = "deepseek-v3",
     .aliases = "deepseek-r1 hunyuan-dense joyai-llm hy_v4",
     STAGES(&three_n, &cjk_kana_runs, &deepseek3)},
    {.name = "tekken", .aliases = "", STAGES(&tekken), .ignore_merges = true, .add_bos = true},
    {.name = "gpt-4o", .aliases = "llama4 kanana2 talkie minimax-m2", STAGES(&gpt4o)},
    {.name = "falcon", .aliases = "", STAGES(&punctuation_runs, &gpt2, &byte_digit_runs, &byte_digit_triples)},
};

static bool has_word(const char *words, struct str word)
{
    struct str rest = str_of(words), part;
    while (rest.len && str_split(&rest, ' ', &part))
        if (str_eq(part, word))
            return true;
    return false;
}

const struct pretokenizer *pretokenizer_find(struct str name)
{
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (str_eq(str_of(table[i].name), name) || has_word(table[i].aliases, name))
            return &table[i];
    return NULL;
}

struct pre_walk pre_walk_start(const struct pretokenizer *pre, struct str text)
{
    struct pre_walk walk = {.pre = pre, .text = text};
    while (walk.n_stages < PRE_MAX_STAGES && pre->stages[walk.n_stages])
        walk.n_stages++;
    walk.end[0] = text.len;
    return walk;
}

bool pre_walk_next(struct pre_walk *walk, struct str *piece)
{
    size_t at = walk->at, depth = walk->n_stages;
    if (at >= walk->text.len)
        return false;
    /* The outermost stages whose piece is not used up keep their end; the others cut anew. */
    while (depth > 0 && walk->end[depth] <= at)
        depth--;
    for (; depth < walk->n_stages; depth++) {
        const struct pre_stage *stage = walk->pre->stages[depth];
        walk->end[depth + 1] = stage->next(stage, (struct str){walk->text.ptr, walk->end[depth]}, at);
    }
    walk->at = walk->end[walk->n_stages];
    *piece = (struct str){walk->text.ptr + at, walk->at - at};
    return true;
}
