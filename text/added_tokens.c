#include "text/added_tokens.h"

#include "base/arena.h"
#include "base/array.h"
#include "base/utf8.h"
#include "text/unicode.h"

#include <stdio.h>
#include <stdlib.h>

enum added_flag { FLAG_LSTRIP = 1, FLAG_RSTRIP = 2, FLAG_SINGLE_WORD = 4 };
const char *const added_token_flags[] = {"lstrip", "rstrip", "single_word", NULL}; /* bits, from the lowest */

static bool is_added(int kind)
{
    return kind == TOKEN_CONTROL || kind == TOKEN_UNKNOWN || kind == TOKEN_USER_DEFINED;
}

static bool index_texts(struct added_tokens *a, const struct vocab *v, struct arena *arena, struct error *err)
{
    size_t n = 0;
    for (size_t i = 0; i < v->n; i++)
        n += is_added(v->kinds[i]);
    struct trie_item *items = calloc(n + 1, sizeof *items);
    if (!items)
        return error_set(err, ERR_NO_MEMORY, "no memory for %zu added tokens", n);
    bool ok = true;
    n = 0;
    for (size_t i = 0; ok && i < v->n; i++) {
        struct str piece = vocab_piece(v, (int32_t)i);
        if (!is_added(v->kinds[i]))
            continue;
        if (piece.len > VOCAB_MAX_MATCHED_PIECE)
            ok = error_set(err, ERR_FORMAT, "the added token %zu has %zu bytes, more than %d", i, piece.len,
                           VOCAB_MAX_MATCHED_PIECE);
        items[n++] = (struct trie_item){piece, (int32_t)i};
    }
    ok = ok && trie_init(&a->trie, items, n, arena, err);
    free(items);
    return ok;
}

static bool read_flag(struct added_tokens *a, size_t bit, const struct vocab *v, const struct model_file *file,
                      struct arena *arena, struct error *err)
{
    char key[64];
    snprintf(key, sizeof key, ADDED_TOKENS_KEY "%s", added_token_flags[bit]);
    struct meta_value ids = meta_get(file, key);
    for (size_t i = 0; ids.type == META_ARRAY && i < ids.n; i++) {
        int64_t id;
        if (!meta_array_int(&ids, i, &id) || id < 0 || id >= (int64_t)v->n)
            return error_set(err, ERR_FORMAT, "%s names a token outside the vocabulary", key);
        if (!a->flags && !(a->flags = arena_alloc_array(arena, v->n, 1)))
            return error_set(err, ERR_NO_MEMORY, "no memory for the flags of %zu tokens", v->n);
        a->flags[id] |= (uint8_t)(1u << bit);
    }
    return true;
}

bool added_tokens_init(struct added_tokens *a, const struct vocab *v, const struct model_file *file,
                       struct arena *arena, struct error *err)
{
    *a = (struct added_tokens){0};
    for (size_t bit = 0; added_token_flags[bit]; bit++) {
        if (!read_flag(a, bit, v, file, arena, err))
            return false;
    }
    return index_texts(a, v, arena, err);
}

/* ---- what stands beside a token ---- */

static unsigned class_behind(struct str text, size_t at, size_t *len) /* of the character that begins at `at` */
{
    uint32_t c;
    *len = utf8_decode(str_slice(text, at, text.len), &c);
    return c == UTF8_INVALID ? 0 : c == '_' ? UC_L : unicode_class(c);
}

static unsigned class_before(struct str text, size_t at, size_t *len) /* of the character that ends at `at` */
{
    size_t start = at - 1;
    while (start > 0 && ((unsigned char)text.ptr[start] & 0xC0) == 0x80)
        start--;
    return class_behind(text, start, len);
}

/* \w of regular expressions, but for the rare characters that are neither letters, marks nor numbers. */
static bool is_word(unsigned class)
{
    return (class & (UC_L | UC_M | UC_N)) != 0;
}

static bool stands_alone(struct str text, size_t start, size_t end)
{
    size_t len;
    return !(start > 0 && is_word(class_before(text, start, &len))) &&
           !(end < text.len && is_word(class_behind(text, end, &len)));
}

static size_t spaces_before(struct str text, size_t start, size_t least)
{
    size_t len;
    while (start > least && class_before(text, start, &len) & UC_SPACE)
        start -= len;
    return start;
}

static size_t spaces_behind(struct str text, size_t end)
{
    size_t len;
    while (end < text.len && class_behind(text, end, &len) & UC_SPACE)
        end += len;
    return end;
}

/* ---- matching ---- */

bool added_tokens_next(const struct added_tokens *a, struct str text, size_t from, struct added_match *m)
{
    for (size_t at = from; at < text.len; at++) {
        size_t len = a->trie.root_child[(uint8_t)text.ptr[at]] ? trie_longest(&a->trie, text, at, &m->id) : 0;
        if (!len)
            continue;
        unsigned flags = a->flags ? a->flags[m->id] : 0;
        m->start = m->span_start = at;
        m->end = m->span_end = at + len;
        if (flags & FLAG_SINGLE_WORD && !stands_alone(text, m->start, m->end)) {
            at += len - 1; /* its bytes are taken all the same */
            continue;
        }
        if (flags & FLAG_LSTRIP)
            m->span_start = spaces_before(text, m->start, from);
        if (flags & FLAG_RSTRIP)
            m->span_end = spaces_behind(text, m->end);
        return true;
    }
    return false;
}
