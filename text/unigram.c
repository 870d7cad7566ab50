#include "text/tokenizer_internal.h"

#include "base/limits.h"
#include "base/utf8.h"

#include <float.h>
#include <stdlib.h>

/* Unigram (Kudo 2018): the segmentation with the highest sum of scores, by Viterbi over a trie of all pieces. A
 * character that no piece covers alone may become the unknown token, at a score 10 below the worst piece. Sums are f64,
 * as in `tokenizers`. */

#define UNKNOWN_PENALTY 10.0
#define MAX_EXPANSION   64 /* bytes of normalized text per byte of text; the largest real rule has 11 */

static bool is_matched(enum token_kind kind)
{
    return kind == TOKEN_NORMAL || kind == TOKEN_USER_DEFINED;
}

static bool build_trie(struct unigram *u, struct arena *arena, struct error *err)
{
    const struct vocab *v = u->vocab;
    struct trie_item *items = calloc(v->n, sizeof *items);
    size_t n = 0;
    double min_score = DBL_MAX;
    if (!items)
        return error_set(err, ERR_NO_MEMORY, "no memory for %zu pieces", v->n);
    for (size_t i = 0; i < v->n; i++) {
        struct str piece = vocab_piece(v, (int32_t)i);
        if (!is_matched((enum token_kind)v->kinds[i]) || piece.len > VOCAB_MAX_MATCHED_PIECE)
            continue;
        items[n++] = (struct trie_item){piece, (int32_t)i};
        if (v->kinds[i] == TOKEN_NORMAL && v->scores[i] < min_score)
            min_score = v->scores[i];
    }
    u->unk_score = (n ? min_score : 0.0) - UNKNOWN_PENALTY;
    bool ok = trie_init(&u->pieces, items, n, arena, err);
    free(items);
    return ok;
}

bool unigram__init(struct unigram *u, const struct vocab *v, const struct model_file *file, struct arena *arena,
                   struct error *err)
{
    *u = (struct unigram){.vocab = v, .unk = -1};
    if (!v->scores)
        return error_set(err, ERR_FORMAT, "a Unigram vocabulary needs tokenizer.ggml.scores");
    if (!space_prefix__init(&u->prefix, file, err) ||
        !meta_bool_or(file, "tokenizer.ggml.remove_extra_whitespaces", false, &u->remove_extra_spaces, err) ||
        !charsmap__init(&u->charsmap, file, arena, err))
        return false;
    u->by_word = tokenizer__pieces_keep_to_words(v);
    return build_trie(u, arena, err);
}

/* ---- normalization ---- */

struct normalizer {
    const struct unigram *u;
    struct buf *out;
    bool after_space; /* the text so far is empty or ends with a space: another one is extra */
};

static void put_normalized(struct normalizer *n, struct str part)
{
    for (size_t i = 0; i < part.len; i++) {
        bool space = part.ptr[i] == ' ';
        if (!space)
            buf_putc(n->out, part.ptr[i]);
        else if (!(n->u->remove_extra_spaces && n->after_space))
            buf_puts(n->out, SPACE_SYMBOL);
        n->after_space = space;
    }
}

static bool normalize(const struct unigram *u, struct str text, bool prefix, struct buf *out, struct error *err)
{
    struct normalizer n = {u, out, true};
    const size_t symbol = sizeof SPACE_SYMBOL - 1;
    buf_clear(out);
    out->max = text.len * MAX_EXPANSION + 64;
    if (prefix)
        buf_puts(out, SPACE_SYMBOL);
    size_t start = out->len;
    for (size_t at = 0; at < text.len && !out->failed;) {
        struct str part;
        uint32_t code_point;
        size_t len = charsmap__match(&u->charsmap, text, at, &part);
        if (!len) {
            len = utf8_decode(str_slice(text, at, text.len), &code_point);
            part = str_slice(text, at, at + len);
        }
        put_normalized(&n, part);
        at += len;
    }
    if (!buf_ok(out, "normalized text", err))
        return false;
    while (u->remove_extra_spaces && out->len >= start + symbol && str_ends(buf_view(out), STR(SPACE_SYMBOL)))
        buf_truncate(out, out->len - symbol);
    if (u->remove_extra_spaces && out->len == start)
        buf_clear(out); /* nothing but spaces: no prefix either */
    return true;
}

/* ---- search ---- */

struct best {
    double score; /* of the best segmentation of the text before this byte */
    uint32_t from;
    int32_t id; /* its last piece: [from, here) */
};

static void offer(struct best *best, double score, size_t from, int32_t id)
{
    if (score > best->score)
        *best = (struct best){score, (uint32_t)from, id};
}

/* best[0 .. word.len] over the characters of the word. */
static void search(const struct unigram *u, struct str word, struct best *best)
{
    const struct vocab *v = u->vocab;
    best[0] = (struct best){0.0, 0, -1};
    for (size_t i = 1; i <= word.len; i++)
        best[i] = (struct best){-DBL_MAX, 0, -1};
    for (size_t at = 0; at < word.len;) {
        uint32_t code_point, node = 0;
        size_t len = utf8_decode(str_slice(word, at, word.len), &code_point);
        bool covered = false; /* by a piece of exactly this character */
        for (size_t end = at; end < word.len;) {
            node = trie_step(&u->pieces, node, (uint8_t)word.ptr[end++]);
            if (node == TRIE_NONE)
                break;
            int32_t id = u->pieces.nodes[node].id;
            if (id < 0)
                continue;
            double score = v->kinds[id] == TOKEN_USER_DEFINED ? 0.0 : v->scores[id];
            offer(&best[end], best[at].score + score, at, id);
            covered = covered || end == at + len;
        }
        if (!covered)
            offer(&best[at + len], best[at].score + u->unk_score, at, u->unk);
        at += len;
    }
}

static bool emit(const struct unigram *u, struct str word, const struct best *best, struct encode_state *state,
                 struct error *err)
{
    struct token_list *out = state->out;
    size_t first = out->n;
    for (size_t at = word.len; at > 0; at = best[at].from)
        if (!tokenizer__push(out, best[at].id, err))
            return false;
    for (size_t i = first, j = out->n; i + 1 < j; i++) { /* backwards so far */
        int32_t id = out->ids[--j];
        out->ids[j] = out->ids[i];
        out->ids[i] = id;
    }
    size_t kept = first; /* a run of unknown tokens is one; without an unknown token it is nothing */
    for (size_t i = first; i < out->n; i++) {
        bool unknown = out->ids[i] == u->unk;
        bool again = unknown && kept > state->start && out->ids[kept - 1] == u->unk;
        if (!again && out->ids[i] >= 0)
            out->ids[kept++] = out->ids[i];
    }
    out->n = kept;
    return true;
}

static bool encode_word(const struct unigram *u, struct str word, struct encode_state *state, struct error *err)
{
    struct best small[256], *best = small;
    if (word.len >= ARRAY_LEN(small))
        best = malloc((word.len + 1) * sizeof *best);
    if (!best)
        return error_set(err, ERR_NO_MEMORY, "no memory for a word of %zu bytes", word.len);
    search(u, word, best);
    bool ok = emit(u, word, best, state, err);
    if (best != small)
        free(best);
    return ok;
}

bool unigram__encode(const struct unigram *u, struct str text, struct encode_state *state, struct error *err)
{
    if (!normalize(u, text, u->prefix.on, &state->normalized, err))
        return false;
    struct str whole = space_prefix__cut(&u->prefix, buf_view(&state->normalized), state->inner);
    if (whole.len >= UINT32_MAX)
        return error_set(err, ERR_TOO_LARGE, "the normalized text has more than 4 GiB");
    for (size_t at = 0; at < whole.len;) {
        struct str word = u->by_word ? tokenizer__next_word(whole, &at) : whole;
        if (!u->by_word)
            at = whole.len;
        if (!encode_word(u, word, state, err))
            return false;
    }
    return true;
}
