/* WordPiece as BERT has it: BertNormalizer, BertPreTokenizer and the greedy longest match of tokenizers (0.23,
 * normalizers/bert.rs, pre_tokenizers/bert.rs, models/wordpiece). */
#include "text/tokenizer_internal.h"

#include "base/utf8.h"
#include "text/unicode.h"

#include <utf8proc.h>

#define MAX_PREFIX 32
#define MAX_CHARS  1000000

bool wordpiece__init(struct wordpiece *w, const struct vocab *v, const struct model_file *file, struct arena *arena,
                     struct error *err)
{
    int64_t max_chars;
    *w = (struct wordpiece){.vocab = v, .unk = -1};
    struct str prefix = meta_str_or(file, WORDPIECE_PREFIX_KEY, STR("##"));
    if (prefix.len > MAX_PREFIX)
        return error_set(err, ERR_UNSUPPORTED, "the prefix of word pieces has %zu bytes, more than %d", prefix.len,
                         MAX_PREFIX);
    w->prefix = arena_str(arena, prefix);
    if (!meta_int_or(file, "tokenizer.wordpiece.max_chars", 1, MAX_CHARS, 100, &max_chars, err) ||
        !meta_bool_or(file, "tokenizer.wordpiece.lowercase", true, &w->lowercase, err) ||
        !meta_bool_or(file, "tokenizer.wordpiece.strip_accents", w->lowercase, &w->strip_accents, err) ||
        !meta_bool_or(file, "tokenizer.wordpiece.clean_text", true, &w->clean_text, err) ||
        !meta_bool_or(file, "tokenizer.wordpiece.chinese_chars", true, &w->chinese_chars, err))
        return false;
    w->max_chars = (size_t)max_chars;
    return true;
}

/* ---- characters ---- */

static bool is_space(uint32_t c)
{
    return c == '\t' || c == '\n' || c == '\r' || (unicode_class(c) & UC_SPACE) != 0;
}

/* Unassigned code points are none of these. */
static bool is_other(uint32_t c)
{
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);
    return category == UTF8PROC_CATEGORY_CC || category == UTF8PROC_CATEGORY_CF || category == UTF8PROC_CATEGORY_CS ||
           category == UTF8PROC_CATEGORY_CO;
}

/* Dropped by clean_text. */
static bool is_control(uint32_t c)
{
    return c == 0 || c == 0xFFFD || (c != '\t' && c != '\n' && c != '\r' && is_other(c));
}

static bool is_punctuation(uint32_t c)
{
    return (unicode_class(c) & UC_PUNCT) != 0;
}

static bool is_chinese(uint32_t c)
{
    static const uint32_t ranges[][2] = {{0x4E00, 0x9FFF},   {0x3400, 0x4DBF},   {0x20000, 0x2A6DF},
                                         {0x2A700, 0x2B73F}, {0x2B740, 0x2B81F}, {0x2B920, 0x2CEAF},
                                         {0xF900, 0xFAFF},   {0x2F800, 0x2FA1F}};
    for (size_t i = 0; i < ARRAY_LEN(ranges); i++)
        if (c >= ranges[i][0] && c <= ranges[i][1])
            return true;
    return false;
}

/* ---- normalization ---- */

static void put(struct buf *out, uint32_t c)
{
    char bytes[4];
    buf_append(out, (struct str){bytes, utf8_encode(c, bytes)});
}

static void put_lower(const struct wordpiece *w, uint32_t c, struct buf *out)
{
    if (w->lowercase && c == 0x130) { /* the one character whose lower case is two */
        put(out, 'i');
        put(out, 0x307);
        return;
    }
    put(out, w->lowercase ? (uint32_t)utf8proc_tolower((utf8proc_int32_t)c) : c);
}

/* The character without its accents: its canonical decomposition, of which nonspacing marks are dropped. */
static void put_stripped(const struct wordpiece *w, uint32_t c, struct buf *out)
{
    utf8proc_int32_t parts[32];
    int boundary = 0;
    if (!w->strip_accents || c < 0x80) {
        put_lower(w, c, out);
        return;
    }
    utf8proc_ssize_t n =
        utf8proc_decompose_char((utf8proc_int32_t)c, parts, ARRAY_LEN(parts), UTF8PROC_DECOMPOSE, &boundary);
    for (utf8proc_ssize_t i = 0; i < n && i < (utf8proc_ssize_t)ARRAY_LEN(parts); i++)
        if (utf8proc_category(parts[i]) != UTF8PROC_CATEGORY_MN)
            put_lower(w, (uint32_t)parts[i], out);
}

static bool normalize(const struct wordpiece *w, struct str text, struct buf *out, struct error *err)
{
    buf_clear(out);
    out->max = text.len * 20 + 64; /* a decomposition of a character has at most 18 times its bytes */
    for (size_t at = 0; at < text.len && !out->failed;) {
        uint32_t c;
        at += utf8_decode(str_slice(text, at, text.len), &c);
        if (w->clean_text && is_control(c))
            continue;
        c = w->clean_text && is_space(c) ? ' ' : c;
        bool apart = w->chinese_chars && is_chinese(c);
        if (apart)
            buf_putc(out, ' ');
        put_stripped(w, c, out);
        if (apart)
            buf_putc(out, ' ');
    }
    return buf_ok(out, "normalized text", err);
}

/* ---- words ---- */

/* The longest piece that the rest of the word starts with; its length, 0: none. */
static size_t longest(const struct wordpiece *w, struct str rest, bool first, struct buf *candidate, int32_t *id)
{
    size_t prefix = first ? 0 : w->prefix.len, end = rest.len;
    end = end > w->vocab->max_piece ? w->vocab->max_piece : end;
    buf_clear(candidate);
    if (!first)
        buf_append(candidate, w->prefix);
    buf_append(candidate, str_slice(rest, 0, end));
    for (; end > 0 && !candidate->failed; end--) {
        bool inside = end < rest.len && ((unsigned char)rest.ptr[end] & 0xC0) == 0x80;
        *id = inside ? -1 : vocab_find(w->vocab, (struct str){candidate->data, prefix + end});
        if (*id >= 0)
            return end;
    }
    return 0;
}

static size_t count_chars(struct str word)
{
    size_t n = 0;
    for (size_t i = 0; i < word.len; i++)
        n += ((unsigned char)word.ptr[i] & 0xC0) != 0x80;
    return n;
}

static bool push_unknown(const struct wordpiece *w, struct encode_state *state, struct error *err)
{
    return w->unk < 0 || tokenizer__push(state->out, w->unk, err);
}

/* A word of which some part matches nothing is unknown as a whole. */
static bool encode_word(const struct wordpiece *w, struct str word, struct encode_state *state, struct error *err)
{
    size_t before = state->out->n;
    if (count_chars(word) > w->max_chars)
        return push_unknown(w, state, err);
    for (size_t at = 0; at < word.len;) {
        int32_t id;
        size_t len = longest(w, str_slice(word, at, word.len), at == 0, &state->piece, &id);
        if (len == 0) {
            state->out->n = before;
            return push_unknown(w, state, err);
        }
        if (!tokenizer__push(state->out, id, err))
            return false;
        at += len;
    }
    return true;
}

/* Words end at spaces, which go, and around punctuation, each of which is a word. */
bool wordpiece__encode(const struct wordpiece *w, struct str text, struct encode_state *state, struct error *err)
{
    if (!normalize(w, text, &state->normalized, err))
        return false;
    struct str all = buf_view(&state->normalized);
    size_t start = 0, at = 0;
    while (at < all.len) {
        uint32_t c;
        size_t len = utf8_decode(str_slice(all, at, all.len), &c);
        bool space = is_space(c), punctuation = is_punctuation(c);
        if (space || punctuation) {
            if (at > start && !encode_word(w, str_slice(all, start, at), state, err))
                return false;
            if (punctuation && !encode_word(w, str_slice(all, at, at + len), state, err))
                return false;
            start = at + len;
        }
        at += len;
    }
    return start == all.len || encode_word(w, str_slice(all, start, all.len), state, err);
}

/* ---- back to text ---- */

size_t wordpiece__text(struct str piece, struct str prefix, char *out)
{
    static const char *const attached[] = {".", "?", "!", ",", "n't", "'m", "'s", "'ve", "'re"};
    bool space = true;
    if (prefix.len && str_starts(piece, prefix)) {
        piece = str_slice(piece, prefix.len, piece.len);
        space = false;
    }
    for (size_t i = 0; space && i < ARRAY_LEN(attached); i++)
        space = !str_starts(piece, str_of(attached[i]));
    if (space)
        out[0] = ' ';
    memcpy(out + space, piece.ptr, piece.len);
    return piece.len + space;
}
