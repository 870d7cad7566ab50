#include "text/tokenizer_internal.h"

#include <stddef.h>

/* Special ids: from their metadata keys, else by the names that the families give their tokens. Among several names the
 * first in the table that the vocabulary has wins. */

/* Names that running text (HTML, say) may well hold: only tokens that the file itself marks as added count. */
static bool is_ambiguous(struct str name)
{
    return !str_starts(name, STR("<|")) && !str_starts(name, STR("<\xEF\xBD\x9C")); /* U+FF5C, DeepSeek's bar */
}

static const char *const eot_names[] = {"<|eot_id|>",
                                        "<|im_end|>",
                                        "<|end|>",
                                        "<end_of_turn>",
                                        "<|endoftext|>",
                                        "<|end_of_text|>",
                                        "<EOT>",
                                        "_<EOT>",
                                        "[EOT]",
                                        "<\xEF\xBD\x9C"
                                        "end\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>",
                                        "<end_of_utterance>",
                                        NULL};
static const char *const eom_names[] = {"<|eom_id|>", NULL};
static const char *const fim_prefix_names[] = {"<|fim_prefix|>",
                                               "<fim-prefix>",
                                               "<fim_prefix>",
                                               "<\xEF\xBD\x9C"
                                               "fim\xE2\x96\x81"
                                               "begin\xEF\xBD\x9C>",
                                               "<PRE>",
                                               "\xE2\x96\x81<PRE>",
                                               "<|code_prefix|>",
                                               "<|prefix|>",
                                               NULL};
static const char *const fim_suffix_names[] = {"<|fim_suffix|>",
                                               "<fim-suffix>",
                                               "<fim_suffix>",
                                               "<\xEF\xBD\x9C"
                                               "fim\xE2\x96\x81hole\xEF\xBD\x9C>",
                                               "<SUF>",
                                               "\xE2\x96\x81<SUF>",
                                               "<|code_suffix|>",
                                               "<|suffix|>",
                                               NULL};
static const char *const fim_middle_names[] = {"<|fim_middle|>",
                                               "<fim-middle>",
                                               "<fim_middle>",
                                               "<\xEF\xBD\x9C"
                                               "fim\xE2\x96\x81"
                                               "end\xEF\xBD\x9C>",
                                               "<MID>",
                                               "\xE2\x96\x81<MID>",
                                               "<|code_middle|>",
                                               "<|middle|>",
                                               NULL};
static const char *const fim_pad_names[] = {"<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]", NULL};
static const char *const fim_rep_names[] = {"<|fim_repo|>", "<|repo_name|>", "<fim-repo>",
                                            "<REPO>",       "<reponame>",    NULL};
static const char *const fim_sep_names[] = {"<|file_sep|>", NULL};

/* More tokens that end a generation. */
static const char *const eog_names[] = {"<|eot_id|>",
                                        "<|im_end|>",
                                        "<|end|>",
                                        "<|return|>",
                                        "<|call|>",
                                        "<|flush|>",
                                        "<|calls|>",
                                        "<end_of_turn>",
                                        "<|endoftext|>",
                                        "</s>",
                                        "<|eom_id|>",
                                        "<EOT>",
                                        "_<EOT>",
                                        "[EOT]",
                                        "[EOS]",
                                        "<|end_of_text|>",
                                        "<end_of_utterance>",
                                        "<eos>",
                                        "<turn|>",
                                        "<|tool_response>",
                                        "<\xEF\xBD\x9C"
                                        "end\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>",
                                        "[e~[",
                                        NULL};

#define KEY(name) "tokenizer.ggml." name

static const struct {
    const char *key, *old_key;
    size_t offset; /* of the id in struct special_tokens */
    int spm_default, unigram_default;
    const char *const *names;
} roles[] = {
    {KEY("bos_token_id"), NULL, offsetof(struct special_tokens, bos), 1, -1, NULL},
    {KEY("eos_token_id"), NULL, offsetof(struct special_tokens, eos), 2, 1, NULL},
    {KEY("eot_token_id"), NULL, offsetof(struct special_tokens, eot), -1, -1, eot_names},
    {KEY("eom_token_id"), NULL, offsetof(struct special_tokens, eom), -1, -1, eom_names},
    {KEY("unknown_token_id"), NULL, offsetof(struct special_tokens, unk), 0, 2, NULL},
    {KEY("seperator_token_id"), KEY("separator_token_id"), offsetof(struct special_tokens, sep), -1, -1, NULL},
    {KEY("padding_token_id"), NULL, offsetof(struct special_tokens, pad), -1, 0, NULL},
    {KEY("mask_token_id"), NULL, offsetof(struct special_tokens, mask), -1, -1, NULL},
    {KEY("fim_pre_token_id"), KEY("prefix_token_id"), offsetof(struct special_tokens, fim_prefix), -1, -1,
     fim_prefix_names},
    {KEY("fim_suf_token_id"), KEY("suffix_token_id"), offsetof(struct special_tokens, fim_suffix), -1, -1,
     fim_suffix_names},
    {KEY("fim_mid_token_id"), KEY("middle_token_id"), offsetof(struct special_tokens, fim_middle), -1, -1,
     fim_middle_names},
    {KEY("fim_pad_token_id"), NULL, offsetof(struct special_tokens, fim_pad), -1, -1, fim_pad_names},
    {KEY("fim_rep_token_id"), NULL, offsetof(struct special_tokens, fim_rep), -1, -1, fim_rep_names},
    {KEY("fim_sep_token_id"), NULL, offsetof(struct special_tokens, fim_sep), -1, -1, fim_sep_names},
};

/* The token of that name, which becomes CONTROL where the file calls it NORMAL; -1 when there is none. */
static int32_t find_named(struct tokenizer *t, const char *name)
{
    int32_t id = vocab_find(&t->vocab, str_of(name));
    if (id < 0)
        return -1;
    if (t->vocab.kinds[id] == TOKEN_NORMAL) {
        if (is_ambiguous(str_of(name)))
            return -1;
        t->vocab.kinds[id] = TOKEN_CONTROL;
    }
    return id;
}

/* -1 stands for "none", also in the unsigned form some writers leave. */
static bool load_id(const struct tokenizer *t, const struct model_file *file, const char *key, int32_t *id,
                    struct error *err)
{
    struct meta_value value = meta_get(file, key);
    if (value.type == META_INT && (value.i == -1 || value.i == UINT32_MAX)) {
        *id = -1;
        return true;
    }
    int64_t found = *id;
    if (!meta_int_or(file, key, 0, (int64_t)t->vocab.n - 1, *id, &found, err))
        return false;
    *id = (int32_t)found;
    return true;
}

/* The id of a role whose key is missing and whose name is not known: what the original models of the kind use. */
static int32_t default_id(const struct tokenizer *t, size_t role)
{
    if (t->model == MODEL_BPE)
        return -1;
    for (size_t i = 0; roles[role].offset == offsetof(struct special_tokens, unk) && i < t->vocab.n; i++)
        if (t->vocab.kinds[i] == TOKEN_UNKNOWN)
            return (int32_t)i;
    if (t->model == MODEL_WORDPIECE)
        return -1;
    int id = t->model == MODEL_SPM ? roles[role].spm_default : roles[role].unigram_default;
    return id < (int64_t)t->vocab.n ? id : -1;
}

static bool load_ids(struct tokenizer *t, const struct model_file *file, struct error *err)
{
    for (size_t i = 0; i < ARRAY_LEN(roles); i++) {
        int32_t *slot = (int32_t *)(void *)((char *)&t->special + roles[i].offset);
        int32_t id = default_id(t, i);
        if ((roles[i].old_key && !load_id(t, file, roles[i].old_key, &id, err)) ||
            !load_id(t, file, roles[i].key, &id, err))
            return false;
        for (const char *const *name = roles[i].names; id < 0 && name && *name; name++)
            id = find_named(t, *name);
        *slot = id;
    }
    return true;
}

static bool load_flags(struct tokenizer *t, const struct model_file *file, struct error *err)
{
    struct special_tokens *s = &t->special;
    bool bos = t->model == MODEL_SPM || (t->model == MODEL_BPE && t->bpe.pre->add_bos);
    bool eos = t->model == MODEL_UNIGRAM;
    if (!meta_bool_or(file, KEY("add_bos_token"), bos, &s->add_bos, err) ||
        !meta_bool_or(file, KEY("add_eos_token"), eos, &s->add_eos, err))
        return false;
    s->add_bos = s->add_bos && s->bos >= 0;
    s->add_eos = s->add_eos && s->eos >= 0;
    return true;
}

static void add_eog(struct tokenizer *t, int32_t id)
{
    if (id >= 0 && !tokenizer_is_eog(t, id) && t->n_eog < ARRAY_LEN(t->eog))
        t->eog[t->n_eog++] = id;
}

static void drop_eog(struct tokenizer *t, int32_t id)
{
    for (size_t i = 0; i < t->n_eog; i++)
        if (t->eog[i] == id)
            t->eog[i] = t->eog[--t->n_eog];
}

static bool has_eog(const struct tokenizer *t, const char *name)
{
    int32_t id = vocab_find(&t->vocab, str_of(name));
    return id >= 0 && tokenizer_is_eog(t, id);
}

/* Ids that generation_config.json and config.json of a folder name. */
static void load_end_ids(struct tokenizer *t, const struct model_file *file)
{
    struct meta_value ids = meta_get(file, "tokenizer.json.end_ids");
    int64_t id;
    for (size_t i = 0; ids.type == META_ARRAY && i < ids.n; i++)
        if (meta_array_int(&ids, i, &id) && id < (int64_t)t->vocab.n)
            add_eog(t, (int32_t)id);
}

static void load_eog(struct tokenizer *t)
{
    const struct special_tokens *s = &t->special;
    const int32_t ids[] = {s->eos, s->eot, s->eom, s->fim_pad, s->fim_rep, s->fim_sep};
    for (size_t i = 0; i < ARRAY_LEN(ids); i++)
        add_eog(t, ids[i]);
    for (const char *const *name = eog_names; *name; name++)
        add_eog(t, find_named(t, *name));
    /* Harmony and its like: <|end|> ends a message, not the turn, which <|return|> or a call does. */
    bool calls = has_eog(t, "<|call|>") || has_eog(t, "<|calls|>");
    int32_t end = vocab_find(&t->vocab, STR("<|end|>"));
    if (end >= 0 && end != s->eos && calls && (has_eog(t, "<|return|>") || has_eog(t, "<|flush|>")))
        drop_eog(t, end);
    /* Gemma 4 ends a turn with <turn|>; its </s> is an HTML tag. */
    int32_t tag = vocab_find(&t->vocab, STR("</s>"));
    if (tag >= 0 && tag != s->eos && has_eog(t, "<|tool_response>"))
        drop_eog(t, tag);
}

bool special__load(struct tokenizer *t, const struct model_file *file, struct error *err)
{
    if (!load_ids(t, file, err) || !load_flags(t, file, err))
        return false;
    load_eog(t);
    load_end_ids(t, file);
    return true;
}
