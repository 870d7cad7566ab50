#include "text/tokenizer_internal.h"

#include "base/utf8.h"

/* SentencePiece BPE (Kudo and Richardson 2018, bpe_model.cc): symbols are characters; the adjacent pair whose
 * concatenation is the piece with the highest score merges first. Characters that stay unknown become byte tokens. */

/* Control, unknown and byte tokens come from elsewhere than from merging text. */
static bool is_mergeable(const struct vocab *v, int32_t id)
{
    enum token_kind kind = (enum token_kind)v->kinds[id];
    return kind == TOKEN_NORMAL || kind == TOKEN_USER_DEFINED || kind == TOKEN_UNUSED;
}

static int32_t find_mergeable(const struct vocab *v, struct str piece)
{
    int32_t id = vocab_find(v, piece);
    return id >= 0 && is_mergeable(v, id) ? id : -1;
}

/* A float's bits as an unsigned number that falls as the score rises. */
static uint32_t key_of_score(float score)
{
    uint32_t bits;
    memcpy(&bits, &score, sizeof bits);
    bits = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    return ~bits;
}

static bool pair_score(const void *model, struct str word, const struct symbol *l, const struct symbol *r,
                       uint32_t *key, int32_t *id)
{
    const struct vocab *v = ((const struct spm *)model)->vocab;
    *id = find_mergeable(v, (struct str){word.ptr + l->at, r->at + r->len - l->at});
    if (*id < 0 || v->scores[*id] <= VOCAB_UNREACHABLE)
        return false;
    *key = key_of_score((float)v->scores[*id]);
    return true;
}

bool spm__init(struct spm *s, const struct vocab *v, const struct model_file *file, struct error *err)
{
    *s = (struct spm){.vocab = v, .unk = -1, .all_bytes = true};
    if (!v->scores)
        return error_set(err, ERR_FORMAT, "a SentencePiece vocabulary needs tokenizer.ggml.scores");
    if (!space_prefix__init(&s->prefix, file, err))
        return false;
    for (int byte = 0; byte < 256; byte++) {
        s->byte_id[byte] = vocab_byte_id(v, (uint8_t)byte);
        s->all_bytes = s->all_bytes && s->byte_id[byte] >= 0;
    }
    s->by_word = tokenizer__pieces_keep_to_words(v);
    return true;
}

static bool push_unknown(const struct spm *s, struct str bytes, struct encode_state *state, struct error *err)
{
    bool spelled = true;
    for (size_t i = 0; i < bytes.len; i++)
        spelled = spelled && s->byte_id[(uint8_t)bytes.ptr[i]] >= 0;
    for (size_t i = 0; spelled && i < bytes.len; i++)
        if (!tokenizer__push(state->out, s->byte_id[(uint8_t)bytes.ptr[i]], err))
            return false;
    if (spelled || s->unk < 0)
        return true;
    struct token_list *out = state->out; /* a run of unknown characters is one token */
    return (out->n > state->start && out->ids[out->n - 1] == s->unk) || tokenizer__push(out, s->unk, err);
}

static bool encode_word(const struct spm *s, struct str word, struct encode_state *state, struct error *err)
{
    struct merge_scratch *merge = &state->merge;
    if (!merge_reserve(merge, word.len, err))
        return false;
    merge->n = 0;
    for (size_t at = 0; at < word.len;) {
        uint32_t code_point;
        size_t len = utf8_decode(str_slice(word, at, word.len), &code_point);
        merge->symbols[merge->n++] = (struct symbol){(uint32_t)at, (uint32_t)len, -1};
        at += len;
    }
    if (!merge_symbols(merge, word, pair_score, s, err))
        return false;
    for (size_t i = 0; i < merge->n; i++) {
        const struct symbol *symbol = &merge->symbols[i];
        struct str bytes = {word.ptr + symbol->at, symbol->len};
        int32_t id = symbol->id >= 0 ? symbol->id : find_mergeable(s->vocab, bytes);
        if (!(id >= 0 ? tokenizer__push(state->out, id, err) : push_unknown(s, bytes, state, err)))
            return false;
    }
    return true;
}

static bool encode_cached(const struct spm *s, struct str word, struct encode_state *state, struct error *err)
{
    bool hit = false;
    size_t first = state->out->n;
    if (!s->all_bytes) /* what an unknown character becomes depends on its neighbours */
        return encode_word(s, word, state, err);
    if (!tokenizer__cached(state, word, &hit, err))
        return false;
    if (hit)
        return true;
    if (!encode_word(s, word, state, err))
        return false;
    tokenizer__remember(state, word, first);
    return true;
}

bool spm__encode(const struct spm *s, struct str text, struct encode_state *state, struct error *err)
{
    struct buf *escaped = &state->normalized;
    buf_clear(escaped);
    if (text.len && s->prefix.on)
        buf_puts(escaped, SPACE_SYMBOL);
    for (size_t at = 0; at < text.len;) {
        size_t blank = str_find_char(str_slice(text, at, text.len), ' ');
        size_t end = blank == STR_NPOS ? text.len : at + blank;
        buf_append(escaped, str_slice(text, at, end));
        if (end < text.len)
            buf_puts(escaped, SPACE_SYMBOL);
        at = end + 1;
    }
    if (!buf_ok(escaped, "text", err))
        return false;
    struct str whole = space_prefix__cut(&s->prefix, buf_view(escaped), state->inner);
    if (!s->by_word)
        return encode_word(s, whole, state, err);
    for (size_t at = 0; at < whole.len;)
        if (!encode_cached(s, tokenizer__next_word(whole, &at), state, err))
            return false;
    return true;
}
