/* WordPiece as BERT has it: BertNormalizer, BertPreTokenizer and the greedy longest match of tokenizers (0.23,
 * normalizers/bert.rs, pre_tokenizers/bert.rs, models/wordpiece). */
#include "text/tokenizer_internal.h"

#include "base/utf8.h"
#include "text/unicode.h"

#include <stdlib.h>
#include <utf8proc.h>

#define MAX_PREFIX 32
#define MAX_CHARS  1000000
#define MAX_GROWTH 8 /* bytes of normalized text per byte of text: 5/3 by spaces, 3 by NFD, 3/2 by lower case */

/* ---- creation ---- */

/* Longer pieces than VOCAB_MAX_MATCHED_PIECE match nothing: they bound the work for each byte of text. */
static bool build_trie(struct wordpiece *w, const struct vocab *v, struct arena *arena, struct error *err)
{
    struct trie_item *items = calloc(v->n, sizeof *items);
    size_t n = 0;
    if (!items)
        return error_set(err, ERR_NO_MEMORY, "no memory for %zu pieces", v->n);
    for (size_t i = 0; i < v->n; i++) {
        struct str piece = vocab_piece(v, (int32_t)i);
        if (v->kinds[i] != TOKEN_UNUSED && piece.len <= VOCAB_MAX_MATCHED_PIECE)
            items[n++] = (struct trie_item){piece, (int32_t)i};
    }
    bool ok = trie_init(&w->pieces, items, n, arena, err);
    free(items);
    return ok;
}

static void find_inner_root(struct wordpiece *w, struct str prefix)
{
    w->inner_root = 0;
    w->has_inner = true;
    for (size_t i = 0; w->has_inner && i < prefix.len; i++) {
        w->inner_root = trie_step(&w->pieces, w->inner_root, (uint8_t)prefix.ptr[i]);
        w->has_inner = w->inner_root != TRIE_NONE;
    }
}

bool wordpiece__init(struct wordpiece *w, const struct vocab *v, const struct model_file *file, struct arena *arena,
                     struct error *err)
{
    int64_t max_chars;
    *w = (struct wordpiece){.unk = -1};
    struct str prefix = meta_str_or(file, WORDPIECE_PREFIX_KEY, STR("##"));
    if (prefix.len > MAX_PREFIX)
        return error_set(err, ERR_UNSUPPORTED, "the prefix of word pieces has %zu bytes, more than %d", prefix.len,
                         MAX_PREFIX);
    if (!meta_int_or(file, "tokenizer.wordpiece.max_chars", 1, MAX_CHARS, 100, &max_chars, err) ||
        !meta_bool_or(file, "tokenizer.wordpiece.lowercase", true, &w->lowercase, err) ||
        !meta_bool_or(file, "tokenizer.wordpiece.strip_accents", w->lowercase, &w->strip_accents, err) ||
        !meta_bool_or(file, "tokenizer.wordpiece.clean_text", true, &w->clean_text, err) ||
        !meta_bool_or(file, "tokenizer.wordpiece.chinese_chars", true, &w->chinese_chars, err) ||
        !build_trie(w, v, arena, err))
        return false;
    find_inner_root(w, prefix);
    w->max_chars = (size_t)max_chars;
    return true;
}

/* ---- characters ---- */

static bool is_space(uint32_t c)
{
    return (unicode_class(c) & UC_SPACE) != 0;
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

/* Letters that came after utf8proc's Unicode but are in that of `tokenizers` (17): code points [first, last] and their
 * lower case's distance. */
static uint32_t lower(uint32_t c)
{
    static const struct {
        uint32_t first, last;
        int32_t distance;
    } late[] = {{0x1C89, 0x1C89, 1},      {0xA7CB, 0xA7CB, 0x264 - 0xA7CB},
                {0xA7CC, 0xA7CC, 1},      {0xA7CE, 0xA7CE, 1},
                {0xA7D2, 0xA7D2, 1},      {0xA7D4, 0xA7D4, 1},
                {0xA7DA, 0xA7DA, 1},      {0xA7DC, 0xA7DC, 0x19B - 0xA7DC},
                {0x10D50, 0x10D65, 0x20}, {0x16EA0, 0x16EB8, 0x1B}};
    if (c < 0x80)
        return c >= 'A' && c <= 'Z' ? c + 0x20 : c;
    for (size_t i = 0; c >= late[0].first && i < ARRAY_LEN(late); i++)
        if (c >= late[i].first && c <= late[i].last)
            return (uint32_t)((int32_t)c + late[i].distance);
    return (uint32_t)utf8proc_tolower((utf8proc_int32_t)c);
}

/* ---- normalization ---- */

static void put(struct buf *out, uint32_t c)
{
    char bytes[4];
    buf_append(out, (struct str){bytes, utf8_encode(c, bytes)});
}

/* Spaces for all white space and around Chinese characters; what is not text goes. */
static void clean(const struct wordpiece *w, struct str text, struct buf *out)
{
    for (size_t at = 0; at < text.len && !out->failed;) {
        uint32_t c;
        at += utf8_decode(str_slice(text, at, text.len), &c);
        if (w->clean_text && unicode_class(c) & UC_BERT_DROP)
            continue;
        bool apart = w->chinese_chars && is_chinese(c);
        if (apart)
            buf_putc(out, ' ');
        put(out, w->clean_text && is_space(c) ? ' ' : c);
        if (apart)
            buf_putc(out, ' ');
    }
}

/* Drops the marks of decomposed text, and makes it lower case character by character: a sigma at the end of a word is
 * a sigma like others. */
static void fold(const struct wordpiece *w, struct str text, struct buf *out)
{
    for (size_t at = 0; at < text.len && !out->failed;) {
        uint32_t c;
        at += utf8_decode(str_slice(text, at, text.len), &c);
        if (w->strip_accents && unicode_class(c) & UC_BERT_MARK)
            continue;
        put(out, w->lowercase ? lower(c) : c);
        if (w->lowercase && c == 0x130) /* the one character whose lower case is two */
            put(out, 0x307);
    }
}

/* *out stays valid until the next call with the state. */
static bool normalize(const struct wordpiece *w, struct str text, struct encode_state *state, struct str *out,
                      struct error *err)
{
    struct buf *from = &state->normalized, *to = &state->piece;
    buf_clear(from);
    buf_clear(to);
    from->max = to->max = text.len * MAX_GROWTH + 64;
    clean(w, text, from);
    if (w->strip_accents) {
        unicode_nfd(buf_view(from), to);
        if (!buf_ok(from, "normalized text", err) || !buf_ok(to, "normalized text", err))
            return false;
        buf_clear(from);
        fold(w, buf_view(to), from);
        to = from;
    } else {
        fold(w, buf_view(from), to);
    }
    *out = buf_view(to);
    return buf_ok(from, "normalized text", err) && buf_ok(to, "normalized text", err);
}

/* ---- words ---- */

/* Length of the longest piece that the rest of the word starts with; 0: none. */
static size_t longest(const struct wordpiece *w, struct str rest, bool first, int32_t *id)
{
    uint32_t node = first ? 0 : w->inner_root;
    size_t found = 0;
    for (size_t i = 0; (first || w->has_inner) && i < rest.len; i++) {
        node = trie_step(&w->pieces, node, (uint8_t)rest.ptr[i]);
        if (node == TRIE_NONE)
            break;
        if (w->pieces.nodes[node].id >= 0) {
            found = i + 1;
            *id = w->pieces.nodes[node].id;
        }
    }
    return found;
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
        int32_t id = -1;
        size_t len = longest(w, str_slice(word, at, word.len), at == 0, &id);
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
    struct str all;
    if (!normalize(w, text, state, &all, err))
        return false;
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

static size_t replace_all(char *text, size_t n, struct str from, struct str to) /* to is no longer than from */
{
    size_t kept = 0;
    for (size_t at = 0; at < n;) {
        if (str_starts((struct str){text + at, n - at}, from)) {
            memcpy(text + kept, to.ptr, to.len);
            kept += to.len;
            at += from.len;
        } else {
            text[kept++] = text[at++];
        }
    }
    return kept;
}

size_t wordpiece__clean_up(char *text, size_t n)
{
    static const char *const rules[][2] = {/* in this order, each over the whole text */
                                           {" .", "."},   {" ?", "?"},     {" !", "!"},    {" ,", ","},
                                           {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},  {" do not", " don't"},
                                           {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
    for (size_t i = 0; i < ARRAY_LEN(rules); i++)
        n = replace_all(text, n, str_of(rules[i][0]), str_of(rules[i][1]));
    return n;
}

size_t wordpiece__text(struct str piece, struct str prefix, char *out)
{
    bool inner = str_starts(piece, prefix);
    if (inner)
        piece = str_slice(piece, prefix.len, piece.len);
    else
        *out = ' ';
    memcpy(out + !inner, piece.ptr, piece.len);
    return wordpiece__clean_up(out, piece.len + !inner);
}
