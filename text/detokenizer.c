#include "text/detokenizer.h"

#include "base/utf8.h"
#include "text/tokenizer_internal.h"

void detokenizer_init(struct detokenizer *d, const struct tokenizer *t, bool skip_special, bool continues_text)
{
    *d = (struct detokenizer){
        .tokenizer = t,
        .skip_special = skip_special,
        .at_start = !continues_text && tokenizer__drops_first_space(t),
    };
}

void detokenizer_show(struct detokenizer *d, const int32_t *ids, size_t n)
{
    d->shown = ids;
    d->n_shown = n;
}

static bool is_hidden(const struct detokenizer *d, int32_t id)
{
    enum token_kind kind = tokenizer_kind(d->tokenizer, id);
    if (!d->skip_special || (kind != TOKEN_CONTROL && kind != TOKEN_UNKNOWN)) {
        return false;
    }
    for (size_t i = 0; i < d->n_shown; i++) {
        if (d->shown[i] == id) {
            return false;
        }
    }
    return true;
}

static void put_invalid(struct buf *out)
{
    buf_puts(out, "\xEF\xBF\xBD");
}

/* Appends bytes with each maximal invalid part as U+FFFD. */
static void put_bytes(struct str bytes, struct buf *out)
{
    size_t valid = 0, at = 0; /* bytes [valid, at) are valid and not yet out */
    while (at < bytes.len) {
        uint32_t code_point;
        size_t len = utf8_decode(str_slice(bytes, at, bytes.len), &code_point);
        if (code_point == UTF8_INVALID) {
            buf_append(out, str_slice(bytes, valid, at));
            put_invalid(out);
            valid = at + len;
        }
        at += len;
    }
    buf_append(out, str_slice(bytes, valid, bytes.len));
}

static void hold(struct detokenizer *d, struct str tail)
{
    d->n_held = (uint8_t)tail.len; /* at most 3: a character's bytes less one */
    if (tail.len)
        memcpy(d->held, tail.ptr, tail.len);
}

/* Adds bytes one at a time to the incomplete character until it is whole or broken; returns how many it took. */
static size_t complete_held(struct detokenizer *d, struct str bytes, struct buf *out)
{
    size_t taken = 0;
    while (d->n_held && taken < bytes.len) {
        d->held[d->n_held] = (uint8_t)bytes.ptr[taken];
        struct str candidate = {(const char *)d->held, (size_t)d->n_held + 1};
        if (utf8_complete_prefix(candidate) == 0) { /* one character, still incomplete */
            d->n_held++;
            taken++;
            continue;
        }
        uint32_t code_point;
        if (utf8_decode(candidate, &code_point) == candidate.len && code_point != UTF8_INVALID) {
            buf_append(out, candidate);
            taken++;
        } else {
            put_invalid(out); /* what was held is one invalid part; the new byte starts afresh */
        }
        d->n_held = 0;
    }
    return taken;
}

static void clean_up_from(struct buf *out, size_t from)
{
    if (out->len > from)
        buf_truncate(out, from + wordpiece__clean_up(out->data + from, out->len - from));
}

void detokenizer_feed(struct detokenizer *d, int32_t id, struct buf *out)
{
    if (is_hidden(d, id))
        return;
    /* The first word piece is as stored: no space before it, and a prefix that nothing precedes stays. */
    bool first_piece = d->at_start && d->tokenizer->model == MODEL_WORDPIECE;
    struct str bytes = first_piece ? tokenizer_piece(d->tokenizer, id) : tokenizer_bytes(d->tokenizer, id);
    size_t before = out->len;
    if (!bytes.len)
        return;
    if (d->at_start && !first_piece && bytes.ptr[0] == ' ')
        bytes = str_slice(bytes, 1, bytes.len);
    d->at_start = false;
    bytes = str_slice(bytes, complete_held(d, bytes, out), bytes.len);
    if (!bytes.len)
        return;
    size_t whole = utf8_complete_prefix(bytes);
    put_bytes(str_slice(bytes, 0, whole), out);
    if (first_piece)
        clean_up_from(out, before);
    hold(d, str_slice(bytes, whole, bytes.len));
}

void detokenizer_finish(struct detokenizer *d, struct buf *out)
{
    if (d->n_held)
        put_invalid(out);
    d->n_held = 0;
}
