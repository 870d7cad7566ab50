#include "text/vocab.h"

#include "base/array.h"
#include "base/hash.h"
#include "base/limits.h"
#include "base/rng.h"
#include "base/utf8.h"
#include "text/tokenizer_internal.h"

#include <math.h>
#include <stdio.h>

/* ---- bytes as letters ---- */

/* Bytes that stand for themselves: ! to ~, U+00A1 to U+00AC, U+00AE to U+00FF. The other 68 follow from U+0100 on. */
static bool is_own_letter(unsigned byte)
{
    return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

uint32_t vocab_letter_of_byte(uint8_t byte)
{
    if (is_own_letter(byte))
        return byte;
    if (byte <= 0x20)
        return 0x100u + byte;
    return byte == 0xAD ? 0x143 : 0x100u + 0x21 + (byte - 0x7Fu);
}

int vocab_byte_of_letter(uint32_t letter)
{
    if (letter < 0x100)
        return is_own_letter(letter) ? (int)letter : -1;
    if (letter <= 0x120)
        return (int)(letter - 0x100);
    if (letter == 0x143)
        return 0xAD;
    return letter < 0x143 ? (int)(letter - 0x121 + 0x7F) : -1;
}

int32_t vocab_byte_id(const struct vocab *v, uint8_t byte)
{
    char name[8];
    struct str piece = {name, 0};
    if (v->style == VOCAB_BYTE_LEVEL) {
        piece.len = utf8_encode(vocab_letter_of_byte(byte), name);
        return vocab_find(v, piece);
    }
    piece.len = (size_t)snprintf(name, sizeof name, "<0x%02X>", byte);
    int32_t id = vocab_find(v, piece);
    return id >= 0 && v->kinds[id] == TOKEN_BYTE ? id : -1;
}

/* ---- what a piece stands for ---- */

/* A piece that is spelled in letters alone becomes their bytes; another stays as it is. */
static size_t text_of_letters(struct str piece, char *out)
{
    size_t n = 0;
    for (size_t i = 0; i < piece.len;) {
        uint32_t letter;
        i += utf8_decode(str_slice(piece, i, piece.len), &letter);
        int byte = letter == UTF8_INVALID ? -1 : vocab_byte_of_letter(letter);
        if (byte < 0) {
            memcpy(out, piece.ptr, piece.len);
            return piece.len;
        }
        out[n++] = (char)byte;
    }
    return n;
}

static size_t text_of_sentencepiece(struct str piece, char *out)
{
    size_t n = 0;
    for (size_t i = 0; i < piece.len;) {
        bool space = str_starts(str_slice(piece, i, piece.len), STR("\xE2\x96\x81"));
        out[n++] = space ? ' ' : piece.ptr[i];
        i += space ? 3 : 1;
    }
    return n;
}

static int name_digit(char c) /* capitals only */
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool byte_of_name(struct str piece, char *out) /* "<0x0A>" */
{
    if (piece.len != 6 || !str_starts(piece, STR("<0x")) || piece.ptr[5] != '>')
        return false;
    int high = name_digit(piece.ptr[3]), low = name_digit(piece.ptr[4]);
    if (high < 0 || low < 0)
        return false;
    *out = (char)(high * 16 + low);
    return true;
}

/* out has room for piece.len + 1 bytes: only word pieces are longer than their text, by a space. */
static size_t text_of_piece(const struct vocab *v, int32_t id, struct str word_prefix, char *out)
{
    struct str piece = vocab_piece(v, id);
    enum token_kind kind = (enum token_kind)v->kinds[id];
    if (v->style == VOCAB_WORDPIECE)
        return wordpiece__text(piece, word_prefix, out);
    if (kind == TOKEN_NORMAL || kind == TOKEN_UNUSED)
        return v->style == VOCAB_BYTE_LEVEL ? text_of_letters(piece, out) : text_of_sentencepiece(piece, out);
    if (kind == TOKEN_BYTE && byte_of_name(piece, out))
        return 1;
    memcpy(out, piece.ptr, piece.len); /* added tokens stand for themselves */
    return piece.len;
}

/* ---- loading ---- */

static bool load_pieces(struct vocab *v, const struct meta_value *tokens, struct arena *arena, struct error *err)
{
    size_t total = 0;
    struct str piece;
    for (size_t i = 0; i < v->n; i++) {
        if (!meta_array_str(tokens, i, &piece))
            return error_set(err, ERR_FORMAT, "token %zu is not a string", i);
        if (!piece.len)
            return error_set(err, ERR_FORMAT, "token %zu has an empty piece", i);
        if (piece.len > UINT32_MAX - total)
            return error_set(err, ERR_FORMAT, "the vocabulary's pieces exceed 4 GiB");
        total += piece.len;
        v->max_piece = piece.len > v->max_piece ? piece.len : v->max_piece;
    }
    v->pieces = arena_alloc(arena, total + 1);
    v->texts = arena_alloc(arena, total + v->n + 1);
    v->piece_at = arena_alloc_array(arena, v->n + 1, sizeof *v->piece_at);
    v->text_at = arena_alloc_array(arena, v->n + 1, sizeof *v->text_at);
    if (!v->pieces || !v->texts || !v->piece_at || !v->text_at)
        return arena_full(arena, "tokenizer", err);
    uint32_t at = 0;
    for (size_t i = 0; i < v->n; i++) {
        (void)meta_array_str(tokens, i, &piece);
        v->piece_at[i] = at;
        memcpy(v->pieces + at, piece.ptr, piece.len);
        at += (uint32_t)piece.len;
    }
    v->piece_at[v->n] = at;
    return true;
}

static bool load_kinds(struct vocab *v, const struct model_file *file, struct arena *arena, struct error *err)
{
    static const uint8_t of_type[] = {TOKEN_NORMAL,       TOKEN_NORMAL, TOKEN_UNKNOWN, TOKEN_CONTROL,
                                      TOKEN_USER_DEFINED, TOKEN_UNUSED, TOKEN_BYTE}; /* GGUF counts from 1 */
    v->kinds = arena_alloc(arena, v->n);
    if (!v->kinds)
        return arena_full(arena, "tokenizer", err);
    struct meta_value types = meta_get(file, "tokenizer.ggml.token_type");
    if (types.type == META_NONE)
        return true; /* all NORMAL */
    if (types.type != META_ARRAY || types.n < v->n)
        return error_set(err, ERR_FORMAT, "tokenizer.ggml.token_type should be an array of %zu types", v->n);
    for (size_t i = 0; i < v->n; i++) {
        int64_t type;
        if (!meta_array_int(&types, i, &type) || type < 0 || type >= (int64_t)ARRAY_LEN(of_type))
            return error_set(err, ERR_FORMAT, "token %zu has an unknown type in tokenizer.ggml.token_type", i);
        v->kinds[i] = of_type[type];
    }
    return true;
}

static bool load_scores(struct vocab *v, const struct model_file *file, struct arena *arena, struct error *err)
{
    struct meta_value scores = meta_get(file, "tokenizer.ggml.scores");
    if (scores.type == META_NONE)
        return true;
    if (scores.type != META_ARRAY || scores.n < v->n)
        return error_set(err, ERR_FORMAT, "tokenizer.ggml.scores should be an array of %zu numbers", v->n);
    v->scores = arena_alloc_array(arena, v->n, sizeof *v->scores);
    if (!v->scores)
        return arena_full(arena, "tokenizer", err);
    for (size_t i = 0; i < v->n; i++) {
        double score;
        int64_t whole;
        if (!meta_array_float(&scores, i, &score)) {
            if (!meta_array_int(&scores, i, &whole))
                return error_set(err, ERR_FORMAT, "the score of token %zu is not a number", i);
            score = (double)whole;
        }
        if (!isfinite(score) || fabs(score) > 1e30)
            return error_set(err, ERR_FORMAT, "the score of token %zu is not finite", i);
        v->scores[i] = score + 0.0; /* no negative zero: scores are ordered by their bits */
    }
    return true;
}

static bool index_pieces(struct vocab *v, struct arena *arena, struct error *err)
{
    size_t n_slots = 2;
    while (n_slots < 2 * v->n)
        n_slots *= 2;
    v->slot_mask = n_slots - 1;
    v->slots = arena_alloc_array(arena, n_slots, sizeof *v->slots);
    if (!v->slots)
        return arena_full(arena, "tokenizer", err);
    for (size_t i = 0; i < n_slots; i++)
        v->slots[i].id = -1;
    for (size_t i = 0; i < v->n; i++) {
        struct str piece = vocab_piece(v, (int32_t)i);
        uint64_t hash = xxh3(piece.ptr, piece.len, v->seed);
        size_t at = hash & v->slot_mask;
        for (; v->slots[at].id >= 0; at = (at + 1) & v->slot_mask)
            if (v->slots[at].tag == hash >> 32 && str_eq(vocab_piece(v, v->slots[at].id), piece))
                return error_set(err, ERR_FORMAT, "tokens %d and %zu have the same piece", (int)v->slots[at].id, i);
        v->slots[at] = (struct vocab_slot){(uint32_t)(hash >> 32), (int32_t)i};
    }
    return true;
}

int32_t vocab_find(const struct vocab *v, struct str piece)
{
    if (!piece.len || piece.len > v->max_piece)
        return -1;
    uint64_t hash = xxh3(piece.ptr, piece.len, v->seed);
    for (size_t at = hash & v->slot_mask; v->slots[at].id >= 0; at = (at + 1) & v->slot_mask)
        if (v->slots[at].tag == hash >> 32 && str_eq(vocab_piece(v, v->slots[at].id), piece))
            return v->slots[at].id;
    return -1;
}

bool vocab_load(struct vocab *v, const struct model_file *file, enum vocab_style style, struct arena *arena,
                struct error *err)
{
    struct meta_value tokens = meta_get(file, "tokenizer.ggml.tokens");
    if (tokens.type != META_ARRAY || tokens.item_type != META_STRING || !tokens.n)
        return error_set(err, ERR_FORMAT,
                         "the model has no vocabulary: tokenizer.ggml.tokens should be an array of strings");
    if (tokens.n > LIMIT_VOCAB)
        return error_set(err, ERR_FORMAT, "the vocabulary has %zu tokens, more than %u", tokens.n, LIMIT_VOCAB);
    *v = (struct vocab){.n = tokens.n, .style = style, .seed = rng_entropy64()};
    if (!load_pieces(v, &tokens, arena, err) || !load_kinds(v, file, arena, err) || !load_scores(v, file, arena, err) ||
        !index_pieces(v, arena, err))
        return false;
    struct str word_prefix = meta_str_or(file, WORDPIECE_PREFIX_KEY, STR("##"));
    uint32_t at = 0;
    for (size_t i = 0; i < v->n; i++) {
        v->text_at[i] = at;
        at += (uint32_t)text_of_piece(v, (int32_t)i, word_prefix, v->texts + at);
    }
    v->text_at[v->n] = at;
    return true;
}
