#include "text/tokenizer_json.h"

#include "base/array.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/utf8.h"
#include "tensor/gguf_writer.h"
#include "text/added_tokens.h"
#include "text/tokenizer_json_internal.h"
#include "text/vocab.h"

#include <stdio.h>
#include <stdlib.h>

#define MAX_DEPTH  64
#define MAX_VALUES ((size_t)16 << 20) /* tokens, merges and their parts, several times over */

/* tokenizer.ggml.token_type */
enum gguf_kind { KIND_NORMAL = 1, KIND_UNKNOWN, KIND_CONTROL, KIND_USER_DEFINED, KIND_UNUSED, KIND_BYTE };

size_t tokenizer_json_max(size_t json_size)
{
    return 4 * json_size + MIB(16);
}

/* ---- the vocabulary ---- */

static bool add_piece(struct translation *t, struct str piece, int64_t id, struct error *err)
{
    if (id < 0 || id >= (int64_t)LIMIT_VOCAB)
        return error_set(err, ERR_FORMAT, "tokenizer.json: the id %lld of '" STR_FMT "' is not from 0 to %u.",
                         (long long)id, STR_ARG(str_slice(piece, 0, 60)), LIMIT_VOCAB - 1);
    size_t need = (size_t)id + 1;
    if (need > t->cap) {
        size_t cap = t->cap, kinds = t->cap;
        if (!array_reserve(&t->pieces, &cap, need, LIMIT_VOCAB, "tokens", err) ||
            !array_reserve(&t->kinds, &kinds, need, LIMIT_VOCAB, "tokens", err))
            return false;
        size_t both = cap < kinds ? cap : kinds;
        memset(t->pieces + t->cap, 0, (both - t->cap) * sizeof *t->pieces);
        memset(t->kinds + t->cap, 0, (both - t->cap) * sizeof *t->kinds);
        t->cap = both;
    }
    t->n = need > t->n ? need : t->n;
    t->pieces[id] = piece;
    t->kinds[id] = KIND_NORMAL;
    return true;
}

static bool read_vocab_object(struct translation *t, const struct json *vocab, struct error *err)
{
    struct json_iter it = json_members(vocab);
    while (json_next(&it)) {
        if (json_type(it.value) != JSON_INT)
            return error_set(err, ERR_FORMAT, "tokenizer.json: model.vocab has to map tokens to integers.");
        if (!add_piece(t, it.key, json_int(it.value), err))
            return false;
    }
    return true;
}

/* Unigram: [[piece, log probability], ...] */
static bool read_vocab_list(struct translation *t, const struct json *vocab, struct error *err)
{
    size_t n = json_len(vocab);
    t->scores = calloc(n + 1, sizeof *t->scores);
    t->n_scores = n;
    if (!t->scores)
        return error_set(err, ERR_NO_MEMORY, "There is no memory for a vocabulary of %zu tokens.", n);
    for (size_t i = 0; i < n; i++) {
        const struct json *pair = json_at(vocab, i), *piece = json_at(pair, 0), *score = json_at(pair, 1);
        enum json_type type = json_type(score);
        if (json_len(pair) != 2 || json_type(piece) != JSON_STRING || (type != JSON_DOUBLE && type != JSON_INT))
            return error_set(err, ERR_FORMAT, "tokenizer.json: entry %zu of model.vocab has to be a token and a score.",
                             i);
        if (!add_piece(t, json_str(piece), (int64_t)i, err))
            return false;
        t->scores[i] = json_double(score);
    }
    return true;
}

static bool read_vocab(struct translation *t, struct error *err)
{
    const struct json *vocab = json_get(t->model, "vocab");
    if (json_type(vocab) == JSON_OBJECT)
        return read_vocab_object(t, vocab, err);
    if (json_type(vocab) == JSON_ARRAY)
        return read_vocab_list(t, vocab, err);
    return error_set(err, ERR_FORMAT, "tokenizer.json has no model.vocab.");
}

static bool read_added(struct translation *t, struct error *err)
{
    const struct json *list = json_get(t->root, "added_tokens");
    for (size_t i = 0; i < json_len(list); i++) {
        const struct json *added = json_at(list, i), *id = json_get(added, "id"), *content = json_get(added, "content");
        if (json_type(id) != JSON_INT || json_type(content) != JSON_STRING || json_str(content).len == 0)
            return error_set(err, ERR_FORMAT, "tokenizer.json: added token %zu has no id or no content.", i);
        if (!add_piece(t, json_str(content), json_int(id), err))
            return false;
        t->kinds[json_int(id)] = json_bool(json_get(added, "special")) ? KIND_CONTROL : KIND_USER_DEFINED;
    }
    return true;
}

/* The ids of the added tokens with each flag that text/added_tokens.h knows. */
static bool put_added_flags(struct translation *t, struct error *err)
{
    const struct json *list = json_get(t->root, "added_tokens");
    int32_t *ids = calloc(json_len(list) + 1, sizeof *ids);
    for (size_t flag = 0; ids && added_token_flags[flag]; flag++) {
        char key[64];
        size_t n = 0;
        for (size_t i = 0; i < json_len(list); i++) {
            const struct json *added = json_at(list, i);
            if (json_bool(json_get(added, added_token_flags[flag])))
                ids[n++] = (int32_t)json_int(json_get(added, "id"));
        }
        snprintf(key, sizeof key, ADDED_TOKENS_KEY "%s", added_token_flags[flag]);
        if (n)
            gguf_put_array(t->w, key, GGUF_I32, ids, n);
    }
    free(ids);
    return ids || error_set(err, ERR_NO_MEMORY, "There is no memory for the added tokens of tokenizer.json.");
}

/* Ids that nobody has, and pieces that stand twice: an added token that the model's vocabulary has under another id. */
static bool fill_holes(struct translation *t, struct error *err)
{
    t->hole_names = calloc(t->n + 1, sizeof *t->hole_names);
    if (!t->hole_names)
        return error_set(err, ERR_NO_MEMORY, "There is no memory for a vocabulary of %zu tokens.", t->n);
    for (size_t i = 0; i < t->n; i++) {
        if (t->kinds[i] != 0)
            continue;
        int len = snprintf(t->hole_names[i], sizeof t->hole_names[i], "<|unused_%zu|>", i);
        t->pieces[i] = (struct str){t->hole_names[i], (size_t)len};
        t->kinds[i] = KIND_UNUSED;
    }
    return true;
}

static bool is_byte_piece(struct str piece)
{
    return piece.len == 6 && str_starts(piece, STR("<0x")) && piece.ptr[5] == '>';
}

static void mark_kinds(struct translation *t)
{
    bool bytes = json_bool(json_get(t->model, "byte_fallback"));
    for (size_t i = 0; i < t->n; i++) {
        if (t->kinds[i] == KIND_NORMAL && bytes && is_byte_piece(t->pieces[i]))
            t->kinds[i] = KIND_BYTE;
        if (t->kinds[i] <= KIND_CONTROL && t->unk == (int64_t)i)
            t->kinds[i] = KIND_UNKNOWN;
    }
}

int64_t tokenizer_json__find(const struct translation *t, struct str piece)
{
    for (size_t i = t->n; piece.len && i > 0; i--) { /* special tokens are mostly at the end */
        if (str_eq(t->pieces[i - 1], piece))
            return (int64_t)i - 1;
    }
    return -1;
}

/* ---- merges ---- */

static bool merge_parts(const struct json *merge, struct str *left, struct str *right)
{
    if (json_type(merge) == JSON_ARRAY) {
        *left = json_str(json_at(merge, 0));
        *right = json_str(json_at(merge, 1));
        return json_len(merge) == 2 && left->len && right->len;
    }
    struct str text = json_type(merge) == JSON_STRING ? json_str(merge) : STR("");
    size_t space = text.len ? str_find_char(str_slice(text, 1, text.len), ' ') : STR_NPOS;
    if (space == STR_NPOS || space + 2 >= text.len)
        return false;
    *left = str_slice(text, 0, space + 1);
    *right = str_slice(text, space + 2, text.len);
    return true;
}

/* "left right", as GGUF has them; strings are as they are. */
static bool put_merges(struct translation *t, struct error *err)
{
    const struct json *merges = json_get(t->model, "merges");
    size_t n = json_len(merges), at = 0;
    struct str *items = calloc(n + 1, sizeof *items), left, right;
    buf_init(&t->merge_text, tokenizer_json_max(t->size));
    bool ok = items != NULL || error_set(err, ERR_NO_MEMORY, "There is no memory for %zu merges.", n);
    for (size_t i = 0; ok && i < n; i++) {
        ok = merge_parts(json_at(merges, i), &left, &right) ||
             error_set(err, ERR_FORMAT, "tokenizer.json: merge %zu is not two parts.", i);
        if (ok) {
            buf_append(&t->merge_text, left);
            buf_putc(&t->merge_text, ' ');
            buf_append(&t->merge_text, right);
            items[i].len = left.len + right.len + 1;
        }
    }
    ok = ok && buf_ok(&t->merge_text, "merges of tokenizer.json", err);
    for (size_t i = 0; ok && i < n; at += items[i++].len)
        items[i].ptr = t->merge_text.data + at;
    if (ok)
        gguf_put_str_array(t->w, "tokenizer.ggml.merges", items, n);
    free(items);
    return ok;
}

/* The rank of the first merge that makes each piece, as a score; what no merge makes is not made. */
static bool score_by_merges(struct translation *t, struct error *err)
{
    const struct json *merges = json_get(t->model, "merges");
    struct piece_index index;
    struct buf both;
    free(t->scores); /* of a vocabulary that is a list, as Unigram's */
    t->n_scores = t->n;
    t->scores = calloc(t->n + 1, sizeof *t->scores);
    buf_init(&both, MIB(1));
    bool ok = t->scores && piece_index_init(&index, t->pieces, t->n);
    if (!ok) {
        buf_release(&both);
        return error_set(err, ERR_NO_MEMORY, "There is no memory for the scores of %zu tokens.", t->n);
    }
    for (size_t i = 0; i < t->n; i++)
        t->scores[i] = VOCAB_UNREACHABLE;
    for (size_t i = json_len(merges); ok && i > 0; i--) { /* the first of several is the last to write */
        struct str left, right;
        ok = merge_parts(json_at(merges, i - 1), &left, &right) ||
             error_set(err, ERR_FORMAT, "tokenizer.json: merge %zu is not two parts.", i - 1);
        buf_clear(&both);
        buf_append(&both, ok ? left : STR(""));
        buf_append(&both, ok ? right : STR(""));
        int64_t id = ok ? piece_index_find(&index, buf_view(&both)) : -1;
        if (ok && id < 0)
            ok = error_set(err, ERR_FORMAT, "tokenizer.json: merge %zu makes no token of the vocabulary.", i - 1);
        if (ok)
            t->scores[id] = -(double)(i - 1);
    }
    buf_release(&both);
    piece_index_release(&index);
    return ok;
}

/* ---- writing ---- */

static void put_vocab(struct translation *t)
{
    gguf_put_str_array(t->w, "tokenizer.ggml.tokens", t->pieces, t->n);
    gguf_put_array(t->w, "tokenizer.ggml.token_type", GGUF_I32, t->kinds, t->n);
    if (!t->scores)
        return;
    if (t->n_scores < t->n) { /* added tokens have none */
        double *all = realloc(t->scores, t->n * sizeof *all);
        if (!all)
            return;
        memset(all + t->n_scores, 0, (t->n - t->n_scores) * sizeof *all);
        t->scores = all;
    }
    gguf_put_array(t->w, "tokenizer.ggml.scores", GGUF_F64, t->scores, t->n);
}

static bool translate_model(struct translation *t, struct error *err)
{
    struct str type = json_str(json_get(t->model, "type"));
    if (type.len == 0)
        type = json_get(t->model, "merges")                           ? STR("BPE")
               : json_type(json_get(t->model, "vocab")) == JSON_ARRAY ? STR("Unigram")
                                                                      : STR("WordPiece");
    if (str_eq(type, STR("Unigram")))
        return tokenizer_json__unigram(t, err);
    if (str_eq(type, STR("WordPiece")))
        return tokenizer_json__wordpiece(t, err);
    if (!str_eq(type, STR("BPE")))
        return error_set(err, ERR_UNSUPPORTED,
                         "tokenizer.json: the model '" STR_FMT "' is not supported (BPE, Unigram and WordPiece are).",
                         STR_ARG(str_slice(type, 0, 40)));
    if (json_str(json_get(t->model, "continuing_subword_prefix")).len ||
        json_str(json_get(t->model, "end_of_word_suffix")).len)
        return error_set(err, ERR_UNSUPPORTED,
                         "tokenizer.json: BPE with prefixes or suffixes of words is not supported.");
    if (tokenizer_json__is_byte_level(t))
        return tokenizer_json__byte_level(t, err) && put_merges(t, err);
    return tokenizer_json__sentencepiece(t, err) && score_by_merges(t, err);
}

static bool read_unknown(struct translation *t, struct error *err)
{
    const struct json *id = json_get(t->model, "unk_id");
    struct str name = json_str(json_get(t->model, "unk_token"));
    t->unk = json_type(id) == JSON_INT ? json_int(id) : tokenizer_json__find(t, name);
    return t->unk < (int64_t)t->n ||
           error_set(err, ERR_FORMAT, "tokenizer.json: model.unk_id is outside the vocabulary.");
}

static bool translate(struct translation *t, struct buf *out, struct error *err)
{
    t->model = json_get(t->root, "model");
    if (json_type(t->model) != JSON_OBJECT)
        return error_set(err, ERR_FORMAT, "tokenizer.json has no model.");
    if (!read_vocab(t, err) || !read_added(t, err) || !fill_holes(t, err) || !read_unknown(t, err))
        return false;
    mark_kinds(t);
    if (!translate_model(t, err) || !tokenizer_json__specials(t, err) || !put_added_flags(t, err))
        return false;
    put_vocab(t);
    return gguf_write_buf(t->w, out, err);
}

bool tokenizer_json_translate(struct str json, const struct model_file *hints, struct buf *out, struct error *err)
{
    struct translation t = {.hints = hints, .size = json.len, .unk = -1};
    t.root = json_parse_bounded(json, MAX_DEPTH, MAX_VALUES, err);
    t.w = gguf_writer_create();
    bool ok = t.root && (t.w || error_set(err, ERR_NO_MEMORY, "There is no memory for a tokenizer."));
    ok = ok && translate(&t, out, err);
    if (!t.root) {
        err->code = err->code == ERR_NO_MEMORY ? ERR_NO_MEMORY : ERR_FORMAT;
        error_wrap(err, "tokenizer.json");
    }
    free(t.pieces);
    free(t.kinds);
    free(t.scores);
    free(t.hole_names);
    buf_release(&t.merge_text);
    buf_release(&t.charsmap);
    gguf_writer_free(t.w);
    json_free(t.root);
    return ok;
}
