#include "text/tokenizer_export.h"

#include "base/array.h"
#include "base/json.h"
#include "base/limits.h"
#include "text/pretokenizer.h"
#include "text/tokenizer_json.h"
#include "text/tokenizer_json_internal.h"
#include "text/vocab.h"

#include <stdio.h>
#include <stdlib.h>

#define TYPE_UNKNOWN      2
#define TYPE_CONTROL      3
#define TYPE_USER_DEFINED 4
#define TYPE_UNUSED       5
#define TYPE_BYTE         6
#define PAD_NAME          32
#define MAX_MERGES        ((size_t)1 << 23)

/* ---- to GGUF ---- */

struct padded { /* arrays that are as long as the vocabulary */
    struct str *tokens;
    int32_t *types;
    float *scores;
    char (*names)[PAD_NAME];
    size_t n;
};

static void release_padded(struct padded *p)
{
    free(p->tokens);
    free(p->types);
    free(p->scores);
    free(p->names);
}

static double score_at(const struct meta_value *scores, size_t i)
{
    double v = 0;
    return meta_array_float(scores, i, &v) ? v : 0;
}

static bool pad(const struct model_file *from, int n_vocab, struct padded *p, struct error *err)
{
    struct meta_value tokens = meta_get(from, "tokenizer.ggml.tokens");
    struct meta_value types = meta_get(from, "tokenizer.ggml.token_type"),
                      scores = meta_get(from, "tokenizer.ggml.scores");
    *p = (struct padded){.n = (size_t)n_vocab};
    if (tokens.n > p->n)
        return error_set(err, ERR_FORMAT, "The tokenizer has %zu tokens, but the embedding has %d rows.", tokens.n,
                         n_vocab);
    p->tokens = calloc(p->n, sizeof(*p->tokens));
    p->types = calloc(p->n, sizeof(*p->types));
    p->scores = calloc(p->n, sizeof(*p->scores));
    p->names = calloc(p->n, sizeof(*p->names));
    if (!p->tokens || !p->types || !p->scores || !p->names)
        return error_set(err, ERR_NO_MEMORY, "There is no memory for a vocabulary of %d tokens.", n_vocab);
    for (size_t i = 0; i < p->n; i++) {
        int64_t type = TYPE_UNUSED;
        if (i >= tokens.n || !meta_array_str(&tokens, i, &p->tokens[i])) {
            snprintf(p->names[i], PAD_NAME, "[PAD%zu]", i);
            p->tokens[i] = str_of(p->names[i]);
        } else if (!meta_array_int(&types, i, &type)) {
            type = 1;
        }
        p->types[i] = (int32_t)type;
        p->scores[i] = i < scores.n ? (float)score_at(&scores, i) : 0;
    }
    return true;
}

/* What the arrays above replace, and ids: those of no token are left out, the others are u32, as llama.cpp reads them.
 */
static void copy_value(struct gguf_writer *w, struct str key, const struct meta_value *v, const struct padded *p)
{
    char name[96];
    if (str_eq(key, STR("tokenizer.ggml.tokens"))) {
        gguf_put_str_array(w, "tokenizer.ggml.tokens", p->tokens, p->n);
    } else if (str_eq(key, STR("tokenizer.ggml.token_type"))) {
        gguf_put_array(w, "tokenizer.ggml.token_type", GGUF_I32, p->types, p->n);
    } else if (str_eq(key, STR("tokenizer.ggml.scores"))) {
        gguf_put_array(w, "tokenizer.ggml.scores", GGUF_F32, p->scores, p->n);
    } else if (str_ends(key, STR("_token_id")) && v->type == META_INT) {
        snprintf(name, sizeof(name), STR_FMT, STR_ARG(key));
        if (v->i >= 0)
            gguf_put_int(w, name, GGUF_U32, v->i);
    } else {
        gguf_put_value(w, key, v);
    }
}

static void put_templates(const struct model_file *folder, struct gguf_writer *w)
{
    for (size_t i = 0; i < model_file_n_meta(folder); i++) {
        struct str key = model_file_meta_key(folder, i);
        struct meta_value v = model_file_meta_at(folder, i);
        char name[160];
        snprintf(name, sizeof(name), STR_FMT, STR_ARG(key));
        if (str_starts(key, STR("tokenizer.chat_template")) && v.type == META_STRING && key.len < sizeof(name))
            gguf_put_str(w, name, v.s);
    }
}

bool tokenizer_export_gguf(const struct model_file *folder, struct gguf_writer *w, int n_vocab, struct error *err)
{
    struct str json = model_file_document(folder, "tokenizer.json");
    struct padded p = {0};
    struct buf made;
    if (json.len == 0)
        return error_set(err, ERR_NOT_FOUND, "The folder has no tokenizer.json.");
    buf_init(&made, tokenizer_json_max(json.len));
    bool ok = tokenizer_json_translate(json, folder, &made, err);
    struct model_file *from = ok ? model_file_open_memory(made.data, made.len, err) : NULL;
    ok = from && pad(from, n_vocab, &p, err);
    for (size_t i = 0; ok && i < model_file_n_meta(from); i++) {
        struct str key = model_file_meta_key(from, i);
        struct meta_value v = model_file_meta_at(from, i);
        if (str_starts(key, STR("tokenizer.")))
            copy_value(w, key, &v, &p);
    }
    if (ok)
        put_templates(folder, w);
    model_file_close(from);
    release_padded(&p);
    buf_release(&made);
    return ok;
}

/* ---- to JSON ---- */

struct source {
    const struct model_file *file;
    struct meta_value tokens, types, merges, scores;
    const struct pretokenizer *pre; /* BPE over bytes; NULL: SentencePiece's */
    int64_t bos, eos, unk;
    bool add_bos, add_eos, nfc, ignore_merges, space_prefix;
};

static struct str token_at(const struct source *s, int64_t i)
{
    struct str token = STR("");
    return i >= 0 && (uint64_t)i < s->tokens.n && meta_array_str(&s->tokens, (size_t)i, &token) ? token : STR("");
}

static int64_t type_at(const struct source *s, size_t i)
{
    int64_t type;
    return meta_array_int(&s->types, i, &type) ? type : 1;
}

static bool read_byte_level(struct source *s, struct str pre, struct error *err)
{
    s->pre = pretokenizer_find(pre);
    if (!s->pre || s->merges.item_type != META_STRING)
        return error_set(err, ERR_UNSUPPORTED,
                         "The pre-tokenizer '" STR_FMT "' is unknown, or the tokenizer has no merges.",
                         STR_ARG(str_slice(pre, 0, 40)));
    return meta_bool_or(s->file, "tokenizer.ggml.add_bos_token", s->pre->add_bos, &s->add_bos, err) &&
           meta_bool_or(s->file, "tokenizer.json.nfc", s->pre->nfc, &s->nfc, err) &&
           meta_bool_or(s->file, "tokenizer.json.ignore_merges", s->pre->ignore_merges, &s->ignore_merges, err);
}

static bool read_sentencepiece(struct source *s, struct error *err)
{
    if (s->scores.n < s->tokens.n)
        return error_set(err, ERR_FORMAT, "tokenizer.ggml.scores should be an array of %zu numbers.", s->tokens.n);
    return meta_bool_or(s->file, "tokenizer.ggml.add_bos_token", true, &s->add_bos, err) &&
           meta_bool_or(s->file, "tokenizer.ggml.add_space_prefix", true, &s->space_prefix, err);
}

static bool read_source(const struct model_file *gguf, struct source *s, struct error *err)
{
    struct str model = meta_str_or(gguf, "tokenizer.ggml.model", STR(""));
    bool spm = str_eq(model, STR("llama"));
    *s = (struct source){.file = gguf,
                         .tokens = meta_get(gguf, "tokenizer.ggml.tokens"),
                         .types = meta_get(gguf, "tokenizer.ggml.token_type"),
                         .merges = meta_get(gguf, "tokenizer.ggml.merges"),
                         .scores = meta_get(gguf, "tokenizer.ggml.scores")};
    if (!spm && !str_eq(model, STR("gpt2")))
        return error_set(err, ERR_UNSUPPORTED,
                         "A tokenizer of the kind '" STR_FMT "' is not written as tokenizer.json; BPE is.",
                         STR_ARG(str_slice(model, 0, 40)));
    if (s->tokens.type != META_ARRAY || s->tokens.item_type != META_STRING || s->tokens.n > LIMIT_VOCAB)
        return error_set(err, ERR_FORMAT, "tokenizer.ggml.tokens should be an array of at most %u strings.",
                         LIMIT_VOCAB);
    return (spm ? read_sentencepiece(s, err)
                : read_byte_level(s, meta_str_or(gguf, "tokenizer.ggml.pre", STR("default")), err)) &&
           meta_int_or(gguf, "tokenizer.ggml.bos_token_id", -1, LIMIT_VOCAB, spm ? 1 : -1, &s->bos, err) &&
           meta_bool_or(gguf, "tokenizer.ggml.add_eos_token", false, &s->add_eos, err) &&
           meta_int_or(gguf, "tokenizer.ggml.eos_token_id", -1, LIMIT_VOCAB, spm ? 2 : -1, &s->eos, err) &&
           meta_int_or(gguf, "tokenizer.ggml.unknown_token_id", -1, LIMIT_VOCAB, spm ? 0 : -1, &s->unk, err);
}

static void put_added(struct json_writer *w, const struct source *s)
{
    json_key(w, "added_tokens");
    json_begin_array(w);
    for (size_t i = 0; i < s->tokens.n; i++) {
        int64_t type = type_at(s, i);
        if (type != TYPE_CONTROL && type != TYPE_USER_DEFINED && (s->pre || type != TYPE_UNKNOWN))
            continue;
        json_begin_object(w);
        json_member_int(w, "id", (int64_t)i);
        json_member_str(w, "content", token_at(s, (int64_t)i));
        json_member_bool(w, "single_word", false);
        json_member_bool(w, "lstrip", false);
        json_member_bool(w, "rstrip", false);
        json_member_bool(w, "normalized", false);
        json_member_bool(w, "special", type != TYPE_USER_DEFINED);
        json_end_object(w);
    }
    json_end_array(w);
}

static void put_typed(struct json_writer *w, const char *key, const char *type)
{
    json_key(w, key);
    json_begin_object(w);
    json_member_cstr(w, "type", type);
    if (strcmp(type, "ByteLevel") == 0) {
        json_member_bool(w, "add_prefix_space", false);
        json_member_bool(w, "trim_offsets", true);
        json_member_bool(w, "use_regex", true);
    }
    json_end_object(w);
}

static void put_template_item(struct json_writer *w, const char *kind, struct str id, int type)
{
    json_begin_object(w);
    json_key(w, kind);
    json_begin_object(w);
    json_member_str(w, "id", id);
    json_member_int(w, "type_id", type);
    json_end_object(w);
    json_end_object(w);
}

static void put_special(struct json_writer *w, const struct source *s, int64_t id)
{
    struct str token = token_at(s, id);
    char name[LIMIT_GGUF_NAME + 1];
    snprintf(name, sizeof(name), STR_FMT, STR_ARG(token));
    json_key(w, name);
    json_begin_object(w);
    json_member_str(w, "id", token);
    json_key(w, "ids");
    json_begin_array(w);
    json_put_int(w, id);
    json_end_array(w);
    json_key(w, "tokens");
    json_begin_array(w);
    json_put_str(w, token);
    json_end_array(w);
    json_end_object(w);
}

/* The beginning and the end of a text. */
static void put_template(struct json_writer *w, const struct source *s, bool begin, bool end)
{
    json_key(w, "post_processor");
    json_begin_object(w);
    json_member_cstr(w, "type", "TemplateProcessing");
    for (int pair = 0; pair < 2; pair++) {
        json_key(w, pair ? "pair" : "single");
        json_begin_array(w);
        if (begin)
            put_template_item(w, "SpecialToken", token_at(s, s->bos), 0);
        put_template_item(w, "Sequence", STR("A"), 0);
        if (pair)
            put_template_item(w, "Sequence", STR("B"), 1);
        if (end)
            put_template_item(w, "SpecialToken", token_at(s, s->eos), pair);
        json_end_array(w);
    }
    json_key(w, "special_tokens");
    json_begin_object(w);
    if (begin)
        put_special(w, s, s->bos);
    if (end && !(begin && s->eos == s->bos))
        put_special(w, s, s->eos);
    json_end_object(w);
    json_end_object(w);
}

static bool put_vocab(struct json_writer *w, const struct source *s, struct error *err)
{
    struct buf name;
    buf_init(&name, MIB(1));
    json_key(w, "vocab");
    json_begin_object(w);
    bool ok = true;
    for (size_t i = 0; ok && i < s->tokens.n; i++) {
        buf_clear(&name);
        buf_append(&name, token_at(s, (int64_t)i));
        ok = buf_ok(&name, "a token", err);
        if (ok)
            json_member_int(w, name.data ? name.data : "", (int64_t)i);
    }
    json_end_object(w);
    buf_release(&name);
    return ok;
}

static void put_merges(struct json_writer *w, const struct source *s)
{
    json_key(w, "merges");
    json_begin_array(w);
    for (size_t i = 0; i < s->merges.n; i++) {
        struct str merge = STR("");
        if (meta_array_str(&s->merges, i, &merge))
            json_put_str(w, merge);
    }
    json_end_array(w);
}

/* ---- merges from scores ---- */

struct merge { /* the first `cut` bytes of a piece, and the rest */
    double score;
    int32_t id;
    uint32_t cut;
};

struct merge_list {
    struct merge *items; /* [n] of [cap] */
    size_t n, cap;
    struct str *pieces; /* [tokens]; empty: takes part in no merge */
    struct piece_index index;
};

static int by_score(const void *a, const void *b)
{
    const struct merge *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    if (x->id != y->id)
        return x->id < y->id ? -1 : 1;
    return (x->cut > y->cut) - (x->cut < y->cut);
}

/* Where the piece is cut in two that are pieces. */
static bool add_cuts(struct merge_list *l, size_t id, double score, struct error *err)
{
    struct str piece = l->pieces[id];
    for (size_t cut = 1; cut < piece.len; cut++) {
        if (((unsigned char)piece.ptr[cut] & 0xC0) == 0x80 ||
            piece_index_find(&l->index, str_slice(piece, 0, cut)) < 0 ||
            piece_index_find(&l->index, str_slice(piece, cut, piece.len)) < 0)
            continue;
        if (!array_reserve(&l->items, &l->cap, l->n + 1, MAX_MERGES, "merges of a tokenizer", err))
            return false;
        l->items[l->n++] = (struct merge){score, (int32_t)id, (uint32_t)cut};
    }
    return true;
}

/* Any two pieces that make a piece may merge, those first whose whole has the highest score. */
static bool list_merges(const struct source *s, struct merge_list *l, struct error *err)
{
    *l = (struct merge_list){.pieces = calloc(s->tokens.n + 1, sizeof(*l->pieces))};
    if (!l->pieces)
        return error_set(err, ERR_NO_MEMORY, "There is no memory for the merges of a tokenizer.");
    for (size_t i = 0; i < s->tokens.n; i++) {
        int64_t type = type_at(s, i);
        bool merges = type != TYPE_UNKNOWN && type != TYPE_CONTROL && type != TYPE_BYTE;
        l->pieces[i] = merges ? token_at(s, (int64_t)i) : STR("");
    }
    if (!piece_index_init(&l->index, l->pieces, s->tokens.n))
        return error_set(err, ERR_NO_MEMORY, "There is no memory for the merges of a tokenizer.");
    for (size_t i = 0; i < s->tokens.n; i++) {
        double score = score_at(&s->scores, i);
        if (l->pieces[i].len <= VOCAB_MAX_MATCHED_PIECE && score > VOCAB_UNREACHABLE && !add_cuts(l, i, score, err))
            return false;
    }
    if (l->n)
        qsort(l->items, l->n, sizeof(*l->items), by_score);
    return true;
}

static bool put_score_merges(struct json_writer *w, const struct source *s, struct error *err)
{
    struct merge_list l;
    bool ok = list_merges(s, &l, err);
    json_key(w, "merges");
    json_begin_array(w);
    for (size_t i = 0; ok && i < l.n; i++) {
        struct str piece = l.pieces[l.items[i].id];
        json_begin_array(w);
        json_put_str(w, str_slice(piece, 0, l.items[i].cut));
        json_put_str(w, str_slice(piece, l.items[i].cut, piece.len));
        json_end_array(w);
    }
    json_end_array(w);
    piece_index_release(&l.index);
    free(l.pieces);
    free(l.items);
    return ok;
}

static bool has_bytes(const struct source *s)
{
    for (size_t i = 0; i < s->tokens.n; i++) {
        if (type_at(s, i) == TYPE_BYTE)
            return true;
    }
    return false;
}

static bool put_model(struct json_writer *w, const struct source *s, struct error *err)
{
    struct str unk = s->pre ? STR("") : token_at(s, s->unk);
    bool ok;
    json_key(w, "model");
    json_begin_object(w);
    json_member_cstr(w, "type", "BPE");
    json_member_null(w, "dropout");
    if (unk.len)
        json_member_str(w, "unk_token", unk);
    else
        json_member_null(w, "unk_token");
    json_member_null(w, "continuing_subword_prefix");
    json_member_null(w, "end_of_word_suffix");
    json_member_bool(w, "fuse_unk", !s->pre);
    json_member_bool(w, "byte_fallback", !s->pre && has_bytes(s));
    json_member_bool(w, "ignore_merges", s->ignore_merges);
    ok = put_vocab(w, s, err);
    if (ok && s->pre)
        put_merges(w, s);
    else if (ok)
        ok = put_score_merges(w, s, err);
    json_end_object(w);
    return ok;
}

/* ---- SentencePiece's spaces ---- */

#define SPACE_SYMBOL "\xE2\x96\x81"

static void put_replace(struct json_writer *w, const char *from, const char *to)
{
    json_begin_object(w);
    json_member_cstr(w, "type", "Replace");
    json_key(w, "pattern");
    json_begin_object(w);
    json_member_cstr(w, "String", from);
    json_end_object(w);
    json_member_cstr(w, "content", to);
    json_end_object(w);
}

static void put_plain(struct json_writer *w, const char *type)
{
    json_begin_object(w);
    json_member_cstr(w, "type", type);
    json_end_object(w);
}

static void put_spaces(struct json_writer *w, const struct source *s)
{
    json_key(w, "normalizer");
    json_begin_object(w);
    json_member_cstr(w, "type", "Sequence");
    json_key(w, "normalizers");
    json_begin_array(w);
    if (s->space_prefix) {
        json_begin_object(w);
        json_member_cstr(w, "type", "Prepend");
        json_member_cstr(w, "prepend", SPACE_SYMBOL);
        json_end_object(w);
    }
    put_replace(w, " ", SPACE_SYMBOL);
    json_end_array(w);
    json_end_object(w);
    json_member_null(w, "pre_tokenizer");
    json_key(w, "decoder");
    json_begin_object(w);
    json_member_cstr(w, "type", "Sequence");
    json_key(w, "decoders");
    json_begin_array(w);
    put_replace(w, SPACE_SYMBOL, " ");
    put_plain(w, "ByteFallback");
    put_plain(w, "Fuse");
    if (s->space_prefix) {
        json_begin_object(w);
        json_member_cstr(w, "type", "Strip");
        json_member_cstr(w, "content", " ");
        json_member_int(w, "start", 1);
        json_member_int(w, "stop", 0);
        json_end_object(w);
    }
    json_end_array(w);
    json_end_object(w);
}

/* ---- the whole ---- */

static bool put_byte_level(struct json_writer *w, const struct source *s, struct error *err)
{
    if (s->nfc)
        put_typed(w, "normalizer", "NFC");
    else
        json_member_null(w, "normalizer");
    json_key(w, "pre_tokenizer");
    if (!tokenizer_json__put_pretokenizer(w, s->pre->name))
        return error_set(err, ERR_UNSUPPORTED, "The pre-tokenizer '%s' is not written as tokenizer.json.",
                         s->pre->name);
    put_typed(w, "decoder", "ByteLevel");
    return true;
}

static bool put_tokenizer(const struct source *s, struct buf *out, struct error *err)
{
    struct json_writer w = json_writer(out);
    json_begin_object(&w);
    json_member_cstr(&w, "version", "1.0");
    json_member_null(&w, "truncation");
    json_member_null(&w, "padding");
    put_added(&w, s);
    if (!s->pre)
        put_spaces(&w, s);
    else if (!put_byte_level(&w, s, err))
        return false;
    bool begin = s->add_bos && token_at(s, s->bos).len > 0, end = s->add_eos && token_at(s, s->eos).len > 0;
    if (begin || end)
        put_template(&w, s, begin, end);
    else
        json_member_null(&w, "post_processor");
    if (!put_model(&w, s, err))
        return false;
    json_end_object(&w);
    return buf_ok(out, "tokenizer.json", err);
}

static void put_named_template(struct json_writer *w, struct str name, struct str text)
{
    json_begin_object(w);
    json_member_str(w, "name", name);
    json_member_str(w, "template", text);
    json_end_object(w);
}

/* One alone, or a list where there are others beside it. */
static void put_chat_templates(struct json_writer *w, const struct model_file *file)
{
    const struct str prefix = STR("tokenizer.chat_template.");
    struct str chat = meta_str_or(file, "tokenizer.chat_template", STR(""));
    bool list = false;
    for (size_t i = 0; i < model_file_n_meta(file); i++) {
        struct str key = model_file_meta_key(file, i);
        struct meta_value v = model_file_meta_at(file, i);
        if (!str_starts(key, prefix) || key.len == prefix.len || v.type != META_STRING)
            continue;
        if (!list) {
            json_key(w, "chat_template");
            json_begin_array(w);
            if (chat.len)
                put_named_template(w, STR("default"), chat);
        }
        put_named_template(w, str_slice(key, prefix.len, key.len), v.s);
        list = true;
    }
    if (list)
        json_end_array(w);
    else if (chat.len)
        json_member_str(w, "chat_template", chat);
}

static bool put_config(const struct source *s, struct buf *out, struct error *err)
{
    static const char *const tokens[][2] = {{"bos_token", "tokenizer.ggml.bos_token_id"},
                                            {"eos_token", "tokenizer.ggml.eos_token_id"},
                                            {"pad_token", "tokenizer.ggml.padding_token_id"},
                                            {"unk_token", "tokenizer.ggml.unknown_token_id"}};
    struct json_writer w = json_writer(out);
    json_begin_object(&w);
    json_member_cstr(&w, "tokenizer_class", "PreTrainedTokenizerFast");
    json_member_bool(&w, "add_bos_token", s->add_bos);
    json_member_bool(&w, "clean_up_tokenization_spaces", false);
    for (size_t i = 0; i < ARRAY_LEN(tokens); i++) {
        struct meta_value id = meta_get(s->file, tokens[i][1]);
        struct str token = id.type == META_INT ? token_at(s, id.i) : STR("");
        if (token.len)
            json_member_str(&w, tokens[i][0], token);
    }
    put_chat_templates(&w, s->file);
    json_end_object(&w);
    return buf_ok(out, "tokenizer_config.json", err);
}

bool tokenizer_export_json(const struct model_file *gguf, struct buf *tokenizer, struct buf *config, struct error *err)
{
    struct source s;
    return read_source(gguf, &s, err) && put_tokenizer(&s, tokenizer, err) && put_config(&s, config, err);
}
