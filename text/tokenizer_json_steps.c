/* tokenizer.json's pipelines: each step is recognised by its type and parameters, in tables. */
#include "text/tokenizer_json_internal.h"

#include "base/array.h"
#include "base/hash.h"
#include "base/limits.h"
#include "base/rng.h"
#include "text/pretokenizer.h"

#include <stdio.h>
#include <stdlib.h>

#define MAX_STEPS 8

/* A pipeline: the members of a Sequence, of Sequences in it too, or the one step; null is empty. */
struct steps {
    const struct json *items[MAX_STEPS];
    size_t n;
};

static bool unfold(const struct json *step, const char *list, struct steps *out, int depth, struct error *err)
{
    if (json_is_null(step))
        return true;
    if (str_eq(json_str(json_get(step, "type")), STR("Sequence"))) {
        const struct json *members = json_get(step, list);
        for (size_t i = 0; i < json_len(members); i++) {
            if (depth == 0 || !unfold(json_at(members, i), list, out, depth - 1, err))
                return error_set(err, ERR_UNSUPPORTED, "tokenizer.json: %s has sequences in sequences, or too many.",
                                 list);
        }
        return true;
    }
    if (out->n == MAX_STEPS)
        return error_set(err, ERR_UNSUPPORTED, "tokenizer.json: %s has more than %d steps.", list, MAX_STEPS);
    out->items[out->n++] = step;
    return true;
}

static bool read_steps(const struct translation *t, const char *which, const char *list, struct steps *out,
                       struct error *err)
{
    *out = (struct steps){0};
    return unfold(json_get(t->root, which), list, out, 2, err);
}

static bool is_type(const struct json *step, const char *type)
{
    return str_eq(json_str(json_get(step, "type")), str_of(type));
}

static bool refuse_step(const char *what, const struct json *step, struct error *err)
{
    return error_set(err, ERR_UNSUPPORTED,
                     "tokenizer.json: the %s '" STR_FMT "', with its parameters, is not supported here.", what,
                     STR_ARG(str_slice(json_str(json_get(step, "type")), 0, 40)));
}

static struct str pattern_of(const struct json *step, const char *kind)
{
    return json_str(json_get(json_get(step, "pattern"), kind));
}

/* true where the member is missing */
static bool flag_or(const struct json *step, const char *name, bool fallback)
{
    const struct json *v = json_get(step, name);
    return json_type(v) == JSON_BOOL ? json_bool(v) : fallback;
}

/* ---- BPE over bytes ---- */

/* Signatures of pre-tokenizers, step by step: S and a pattern that isolates its matches; D digits in runs, D1 each
 * alone; P punctuation; G ByteLevel with its own pattern, GPT-2's. ByteLevel without one is the end of every row. */
static const struct {
    const char *name; /* of text/pretokenizer.h */
    const char *steps[MAX_STEPS];
} known[] = {
    {"gpt-2", {"G"}},
    {"smollm", {"D1", "G"}},
    {"llama-bpe",
     {"S(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
      "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}},
    {"qwen2",
     {"S(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "
      "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}},
    {"qwen35",
     {"S(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| "
      "?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}},
    {"seed-coder",
     {"S(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1}| "
      "?[^\\s\\p{L}\\p{N}]+|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}},
    {"minicpm5",
     {"S\\p{N}{1,3}", "S(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}+| "
                      "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}},
    {"tekken",
     {"S[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+|[^\\r\\n\\p{L}\\p{N}]"
      "?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*|\\p{N}| "
      "?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}},
    {"gpt-4o",
     {"S[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t|'re|'ve|'m|'"
      "ll|'d)?|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'"
      "ve|'m|'ll|'d)?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}},
    {"deepseek-coder",
     {"S[\r\n]", "S\\s?\\p{L}+", "S\\s?\\p{P}+",
      "S[\xE4\xB8\x80-\xE9\xBE\xA5\xE0\xA0\x80-\xE4\xB8\x80\xEA\xB0\x80-\xED\x9F\xBF]+", "D1"}},
    {"deepseek-v3",
     {"S\\p{N}{1,3}", "S[\xE4\xB8\x80-\xE9\xBE\xA5\xE3\x81\x80-\xE3\x82\x9F\xE3\x82\xA0-\xE3\x83\xBF]+",
      "S[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| "
      "?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}},
    {"falcon", {"PContiguous", "G", "D", "S[0-9][0-9][0-9]"}},
    /* The same, as others write them. Possessive quantifiers in front of what cannot match their class, and one line
     * break behind greedy spaces, change no match. */
    {"llama-bpe",
     {"S'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}{1,3}| "
      "?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+"}},
    {"qwen2",
     {"S'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}| "
      "?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+"}},
    {"gpt-2", {"S's|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"}},
};

static void put_step(struct json_writer *w, const char *step)
{
    bool split = step[0] == 'S', digits = step[0] == 'D', punctuation = step[0] == 'P';
    json_begin_object(w);
    json_member_cstr(w, "type", split ? "Split" : digits ? "Digits" : punctuation ? "Punctuation" : "ByteLevel");
    if (split) {
        json_key(w, "pattern");
        json_begin_object(w);
        json_member_cstr(w, "Regex", step + 1);
        json_end_object(w);
        json_member_cstr(w, "behavior", "Isolated");
        json_member_bool(w, "invert", false);
    } else if (digits) {
        json_member_bool(w, "individual_digits", step[1] == '1');
    } else if (punctuation) {
        json_member_cstr(w, "behavior", step + 1);
    } else {
        json_member_bool(w, "add_prefix_space", false);
        json_member_bool(w, "trim_offsets", true);
        json_member_bool(w, "use_regex", step[0] == 'G');
    }
    json_end_object(w);
}

bool tokenizer_json__put_pretokenizer(struct json_writer *w, const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        bool letters = false; /* ByteLevel is among the steps */
        if (strcmp(known[i].name, name) != 0)
            continue;
        json_begin_object(w);
        json_member_cstr(w, "type", "Sequence");
        json_key(w, "pretokenizers");
        json_begin_array(w);
        for (size_t k = 0; k < MAX_STEPS && known[i].steps[k]; k++) {
            letters = letters || known[i].steps[k][0] == 'G';
            put_step(w, known[i].steps[k]);
        }
        if (!letters)
            put_step(w, "");
        json_end_array(w);
        json_end_object(w);
        return true;
    }
    return false;
}

/* The step's signature; "" for one that does nothing; NULL for one that is not known. */
static const char *signature(const struct json *step, char *buf, size_t size)
{
    struct str behavior = json_str(json_get(step, "behavior")), regex = pattern_of(step, "Regex");
    bool invert = json_bool(json_get(step, "invert"));
    if (is_type(step, "ByteLevel"))
        return json_bool(json_get(step, "add_prefix_space")) ? NULL : flag_or(step, "use_regex", true) ? "G" : "";
    if (is_type(step, "Digits"))
        return json_bool(json_get(step, "individual_digits")) ? "D1" : "D";
    if (is_type(step, "Punctuation"))
        return str_eq(behavior, STR("Contiguous")) ? "PContiguous" : NULL;
    /* a pattern that matches everything isolates, also when what does not match is removed */
    bool isolates = (str_eq(behavior, STR("Isolated")) && !invert) || (str_eq(behavior, STR("Removed")) && invert);
    if (!is_type(step, "Split") || !isolates || regex.len == 0 || regex.len + 2 > size)
        return NULL;
    snprintf(buf, size, "S" STR_FMT, STR_ARG(regex));
    return buf;
}

static bool row_matches(size_t row, const struct steps *steps)
{
    char buf[2048];
    size_t at = 0;
    for (size_t i = 0; i < steps->n; i++) {
        const char *own = signature(steps->items[i], buf, sizeof buf);
        if (own && own[0] == '\0')
            continue;
        if (!own || at == MAX_STEPS || !known[row].steps[at] || strcmp(own, known[row].steps[at++]) != 0)
            return false;
    }
    return at == MAX_STEPS || known[row].steps[at] == NULL;
}

static const char *find_known(const struct steps *steps)
{
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (row_matches(i, steps))
            return known[i].name;
    }
    return NULL;
}

static bool has_step(const struct translation *t, const char *which, const char *list, const char *type)
{
    struct steps steps;
    struct error ignored = {0};
    if (!read_steps(t, which, list, &steps, &ignored))
        return false;
    for (size_t i = 0; i < steps.n; i++) {
        if (is_type(steps.items[i], type))
            return true;
    }
    return false;
}

bool tokenizer_json__is_byte_level(const struct translation *t)
{
    return has_step(t, "pre_tokenizer", "pretokenizers", "ByteLevel") ||
           has_step(t, "decoder", "decoders", "ByteLevel");
}

bool tokenizer_json__byte_level(struct translation *t, struct error *err)
{
    struct steps steps, normalizers;
    bool nfc = false;
    if (!read_steps(t, "pre_tokenizer", "pretokenizers", &steps, err) ||
        !read_steps(t, "normalizer", "normalizers", &normalizers, err))
        return false;
    for (size_t i = 0; i < normalizers.n; i++) {
        if (!is_type(normalizers.items[i], "NFC"))
            return refuse_step("normalizer", normalizers.items[i], err);
        nfc = true;
    }
    const char *name = find_known(&steps);
    if (!name)
        return steps.n ? refuse_step("pre-tokenizer", steps.items[0], err)
                       : error_set(err, ERR_UNSUPPORTED, "tokenizer.json: BPE over bytes without a pre-tokenizer.");
    gguf_put_str(t->w, "tokenizer.ggml.model", STR("gpt2"));
    gguf_put_str(t->w, "tokenizer.ggml.pre", str_of(name));
    gguf_put_bool(t->w, "tokenizer.json.nfc", nfc);
    gguf_put_bool(t->w, "tokenizer.json.ignore_merges", json_bool(json_get(t->model, "ignore_merges")));
    return true;
}

/* ---- spaces as U+2581 ---- */

#define SPACE_SYMBOL STR("\xE2\x96\x81")

struct spacing {
    bool prefix;     /* a space before each text */
    bool first_only; /* only at the beginning, not behind added tokens */
    bool unless;     /* not before a text that begins with one */
    bool collapse;   /* runs of spaces become one, those at the ends go */
};

static bool read_metaspace(const struct json *step, struct spacing *s, struct error *err)
{
    struct str scheme = json_str(json_get(step, "prepend_scheme"));
    if (!str_eq(json_str(json_get(step, "replacement")), SPACE_SYMBOL))
        return refuse_step("pre-tokenizer", step, err);
    if (scheme.len == 0) /* old files */
        scheme = flag_or(step, "add_prefix_space", true) ? STR("always") : STR("never");
    s->prefix = !str_eq(scheme, STR("never"));
    s->first_only = str_eq(scheme, STR("first"));
    s->unless = true;
    return true;
}

static bool replaces(const struct json *step, const char *kind, struct str pattern, struct str content)
{
    return is_type(step, "Replace") && str_eq(pattern_of(step, kind), pattern) &&
           str_eq(json_str(json_get(step, "content")), content);
}

/* Prepend, Replace " ": Llama's. Replace " {2,}": T5's and XLM-R's, with Precompiled before it. */
static bool read_normalizer(struct translation *t, const struct json *step, struct spacing *s, struct error *err)
{
    if (is_type(step, "Prepend") && str_eq(json_str(json_get(step, "prepend")), SPACE_SYMBOL)) {
        s->prefix = true;
        return true;
    }
    if (replaces(step, "String", STR(" "), SPACE_SYMBOL))
        return true;
    if (replaces(step, "Regex", STR(" {2,}"), STR(" ")) || replaces(step, "Regex", STR(" {2,}"), SPACE_SYMBOL)) {
        s->collapse = true;
        return true;
    }
    if (is_type(step, "Precompiled"))
        return tokenizer_json__charsmap(t, json_str(json_get(step, "precompiled_charsmap")), err);
    return refuse_step("normalizer", step, err);
}

static bool read_spacing(struct translation *t, struct spacing *s, struct error *err)
{
    struct steps normalizers, steps;
    if (!read_steps(t, "normalizer", "normalizers", &normalizers, err) ||
        !read_steps(t, "pre_tokenizer", "pretokenizers", &steps, err))
        return false;
    for (size_t i = 0; i < normalizers.n; i++) {
        if (!read_normalizer(t, normalizers.items[i], s, err))
            return false;
    }
    for (size_t i = 0; i < steps.n; i++) {
        bool splits = is_type(steps.items[i], "Split") && str_eq(pattern_of(steps.items[i], "String"), STR(" "));
        if (is_type(steps.items[i], "WhitespaceSplit")) {
            s->collapse = true;
        } else if (splits) {
            continue; /* Gemma's: no space is left to split at */
        } else if (!is_type(steps.items[i], "Metaspace")) {
            return refuse_step("pre-tokenizer", steps.items[i], err);
        } else if (!read_metaspace(steps.items[i], s, err)) {
            return false;
        }
    }
    return true;
}

static void put_spacing(struct translation *t, const struct spacing *s)
{
    gguf_put_bool(t->w, "tokenizer.ggml.add_space_prefix", s->prefix);
    gguf_put_bool(t->w, "tokenizer.json.prefix_first_only", s->first_only);
    gguf_put_bool(t->w, "tokenizer.json.prefix_unless_space", s->unless);
    gguf_put_bool(t->w, "tokenizer.ggml.remove_extra_whitespaces", s->collapse);
}

bool tokenizer_json__sentencepiece(struct translation *t, struct error *err)
{
    struct spacing s = {0};
    if (!read_spacing(t, &s, err))
        return false;
    if (s.collapse || t->charsmap.len)
        return error_set(err, ERR_UNSUPPORTED,
                         "tokenizer.json: BPE over characters that changes spaces or characters.");
    gguf_put_str(t->w, "tokenizer.ggml.model", STR("llama"));
    put_spacing(t, &s);
    return true;
}

bool tokenizer_json__unigram(struct translation *t, struct error *err)
{
    struct spacing s = {0};
    if (!read_spacing(t, &s, err))
        return false;
    gguf_put_str(t->w, "tokenizer.ggml.model", STR("t5"));
    put_spacing(t, &s);
    if (t->charsmap.len)
        gguf_put_array(t->w, "tokenizer.ggml.precompiled_charsmap", GGUF_U8, t->charsmap.data, t->charsmap.len);
    return true;
}

static int base64_value(char c)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *found = c ? strchr(letters, c) : NULL;
    return found ? (int)(found - letters) : -1;
}

bool tokenizer_json__charsmap(struct translation *t, struct str base64, struct error *err)
{
    unsigned word = 0, bits = 0;
    buf_release(&t->charsmap);
    buf_init(&t->charsmap, base64.len + 1);
    for (size_t i = 0; i < base64.len && base64.ptr[i] != '='; i++) {
        int value = base64_value(base64.ptr[i]);
        if (value < 0)
            return error_set(err, ERR_FORMAT, "tokenizer.json: precompiled_charsmap is not base64.");
        word = word << 6 | (unsigned)value;
        bits += 6;
        if (bits >= 8)
            buf_putc(&t->charsmap, (char)(word >> (bits -= 8) & 255));
    }
    return buf_ok(&t->charsmap, "precompiled_charsmap", err);
}

/* ---- WordPiece ---- */

static bool put_bert_normalizer(struct translation *t, const struct json *step, struct error *err)
{
    if (step && !is_type(step, "BertNormalizer"))
        return refuse_step("normalizer", step, err);
    bool lowercase = step && flag_or(step, "lowercase", true);
    gguf_put_bool(t->w, "tokenizer.wordpiece.lowercase", lowercase);
    gguf_put_bool(t->w, "tokenizer.wordpiece.strip_accents", step && flag_or(step, "strip_accents", lowercase));
    gguf_put_bool(t->w, "tokenizer.wordpiece.clean_text", step && flag_or(step, "clean_text", true));
    gguf_put_bool(t->w, "tokenizer.wordpiece.chinese_chars", step && flag_or(step, "handle_chinese_chars", true));
    return true;
}

bool tokenizer_json__wordpiece(struct translation *t, struct error *err)
{
    struct steps normalizers, steps;
    const struct json *max = json_get(t->model, "max_input_chars_per_word");
    struct str prefix = json_str(json_get(t->model, "continuing_subword_prefix"));
    if (!read_steps(t, "normalizer", "normalizers", &normalizers, err) ||
        !read_steps(t, "pre_tokenizer", "pretokenizers", &steps, err))
        return false;
    if (normalizers.n > 1)
        return refuse_step("normalizer", normalizers.items[1], err);
    if (steps.n != 1 || !is_type(steps.items[0], "BertPreTokenizer"))
        return steps.n ? refuse_step("pre-tokenizer", steps.items[0], err)
                       : error_set(err, ERR_UNSUPPORTED, "tokenizer.json: WordPiece without a pre-tokenizer.");
    gguf_put_str(t->w, "tokenizer.ggml.model", STR("wordpiece"));
    gguf_put_str(t->w, "tokenizer.wordpiece.prefix", prefix);
    gguf_put_int(t->w, "tokenizer.wordpiece.max_chars", GGUF_I64, json_type(max) == JSON_INT ? json_int(max) : 100);
    return put_bert_normalizer(t, normalizers.n ? normalizers.items[0] : NULL, err);
}

/* ---- special tokens ---- */

static void put_id(struct translation *t, const char *key, int64_t id)
{
    gguf_put_int(t->w, key, GGUF_I64, id >= 0 && id < (int64_t)t->n ? id : -1);
}

/* A token that tokenizer_config.json names, as a string or as an object with its content; -1: none. */
static int64_t named(const struct translation *t, const char *which)
{
    char key[80];
    if (!t->hints)
        return -1;
    snprintf(key, sizeof key, "tokenizer_config.%s", which);
    struct meta_value v = meta_get(t->hints, key);
    if (v.type != META_STRING) {
        snprintf(key, sizeof key, "tokenizer_config.%s.content", which);
        v = meta_get(t->hints, key);
    }
    return v.type == META_STRING ? tokenizer_json__find(t, v.s) : -1;
}

static int64_t configured(const struct translation *t, const char *key)
{
    struct meta_value v = t->hints ? meta_get(t->hints, key) : (struct meta_value){0};
    int64_t first;
    if (v.type == META_INT)
        return v.i;
    return v.type == META_ARRAY && v.n > 0 && meta_array_int(&v, 0, &first) ? first : -1;
}

/* The first that says something. */
static int64_t either(int64_t a, int64_t b)
{
    return a >= 0 ? a : b;
}

#define MAX_ENDS 32

static void add_end(int32_t *ends, size_t *n, int64_t id)
{
    if (id >= 0 && id < (int64_t)LIMIT_VOCAB && *n < MAX_ENDS)
        ends[(*n)++] = (int32_t)id;
}

/* All ids that end a text, by generation_config.json and config.json. */
static void put_ends(struct translation *t)
{
    static const char *const keys[] = {"generation_config.eos_token_id", "config.eos_token_id"};
    int32_t ends[MAX_ENDS];
    size_t n = 0;
    for (size_t k = 0; t->hints && k < ARRAY_LEN(keys); k++) {
        struct meta_value v = meta_get(t->hints, keys[k]);
        int64_t id;
        if (v.type == META_INT)
            add_end(ends, &n, v.i);
        for (size_t i = 0; v.type == META_ARRAY && i < v.n; i++) {
            if (meta_array_int(&v, i, &id))
                add_end(ends, &n, id);
        }
    }
    if (n)
        gguf_put_array(t->w, "tokenizer.json.end_ids", GGUF_I32, ends, n);
}

/* What a post-processor puts around a text: at most one token before and one behind it; -1: none. */
struct frame {
    int64_t before, behind;
};

static bool read_template(const struct translation *t, const struct json *step, struct frame *f, struct error *err)
{
    const struct json *single = json_get(step, "single");
    bool seen = false;
    for (size_t i = 0; i < json_len(single); i++) {
        const struct json *special = json_get(json_at(single, i), "SpecialToken");
        int64_t *slot = seen ? &f->behind : &f->before;
        if (!special) {
            seen = true;
            continue;
        }
        if (*slot >= 0)
            return error_set(err, ERR_UNSUPPORTED, "tokenizer.json: the template puts several tokens on one side.");
        *slot = tokenizer_json__find(t, json_str(json_get(special, "id")));
    }
    return true;
}

static int64_t pair_id(const struct json *step, const char *which)
{
    const struct json *id = json_at(json_get(step, which), 1); /* ["[CLS]", 101] */
    return json_type(id) == JSON_INT ? json_int(id) : -1;
}

static bool read_frame(const struct translation *t, struct frame *f, struct error *err)
{
    struct steps steps;
    *f = (struct frame){-1, -1};
    if (!read_steps(t, "post_processor", "processors", &steps, err))
        return false;
    for (size_t i = 0; i < steps.n; i++) {
        const struct json *step = steps.items[i];
        if (is_type(step, "TemplateProcessing")) {
            if (!read_template(t, step, f, err))
                return false;
        } else if (is_type(step, "BertProcessing") || is_type(step, "RobertaProcessing")) {
            *f = (struct frame){pair_id(step, "cls"), pair_id(step, "sep")};
        } else if (!is_type(step, "ByteLevel")) {
            return refuse_step("post-processor", step, err);
        }
    }
    return true;
}

bool tokenizer_json__specials(struct translation *t, struct error *err)
{
    struct frame f;
    if (!read_frame(t, &f, err))
        return false;
    int64_t bos = either(named(t, "bos_token"), configured(t, "config.bos_token_id"));
    int64_t eos = either(named(t, "eos_token"), configured(t, "config.eos_token_id"));
    put_id(t, "tokenizer.ggml.bos_token_id",
           either(f.before, bos)); /* what is put before a text is what it begins with */
    put_id(t, "tokenizer.ggml.eos_token_id", either(f.behind, eos));
    put_id(t, "tokenizer.ggml.unknown_token_id", either(t->unk, named(t, "unk_token")));
    put_id(t, "tokenizer.ggml.padding_token_id", named(t, "pad_token"));
    put_id(t, "tokenizer.ggml.seperator_token_id", named(t, "sep_token"));
    put_id(t, "tokenizer.ggml.mask_token_id", named(t, "mask_token"));
    gguf_put_bool(t->w, "tokenizer.ggml.add_bos_token", f.before >= 0);
    gguf_put_bool(t->w, "tokenizer.ggml.add_eos_token", f.behind >= 0);
    put_ends(t);
    return true;
}

/* ---- pieces by their text ---- */

bool piece_index_init(struct piece_index *x, const struct str *pieces, size_t n)
{
    size_t n_slots = 2;
    while (n_slots < 2 * n)
        n_slots *= 2;
    *x = (struct piece_index){.pieces = pieces, .mask = n_slots - 1, .seed = rng_entropy64()};
    x->slots = malloc(n_slots * sizeof *x->slots);
    if (!x->slots)
        return false;
    for (size_t i = 0; i < n_slots; i++)
        x->slots[i] = -1;
    for (size_t i = 0; i < n; i++) {
        size_t at = xxh3(pieces[i].ptr, pieces[i].len, x->seed) & x->mask;
        while (x->slots[at] >= 0)
            at = (at + 1) & x->mask;
        x->slots[at] = (int32_t)i;
    }
    return true;
}

int64_t piece_index_find(const struct piece_index *x, struct str piece)
{
    for (size_t at = xxh3(piece.ptr, piece.len, x->seed) & x->mask; x->slots[at] >= 0; at = (at + 1) & x->mask) {
        if (str_eq(x->pieces[x->slots[at]], piece))
            return x->slots[at];
    }
    return -1;
}

void piece_index_release(struct piece_index *x)
{
    free(x->slots);
}
