/* llguidance's tokenizer from ours. Its tokens are byte strings; a byte 0xFF in front marks those that no text gives:
 * control tokens, which a Lark grammar names as <[id]> or, where their name has that form, as <|name|>. User-defined
 * tokens ("<tool_call>" of many vocabularies) are their text like any other. */
#include "grammar/constraint_internal.h"

#include "base/limits.h"
#include "base/utf8.h"

#include <stdlib.h>

#define SPECIAL_MARK   '\xFF'
#define NO_TOKEN       UINT32_MAX /* llguidance's INVALID_TOKEN */
#define TOKENS_SIZE    MIB(512)
#define MAX_EOG        64
#define CANONICAL_TEXT MIB(1) /* a grammar forces no more at once */

static const struct constraint_limits default_limits = {
    .compile_ms = 5000,
    .compile_fuel = 1000000,
    .mask_fuel = 200000,
    .mask_items = 50000,
    .lexer_states = 100000,
    .grammar_size = 25000,
};

/* ---- tokens ---- */

static bool is_special(const struct constraint_vocab *v, int32_t id)
{
    enum token_kind kind = tokenizer_kind(v->tokenizer, id);
    return kind == TOKEN_CONTROL || kind == TOKEN_UNKNOWN || tokenizer_is_eog(v->tokenizer, id);
}

static bool is_space(struct str bytes)
{
    for (size_t i = 0; i < bytes.len; i++) {
        if (!strchr(" \n\r\t", bytes.ptr[i]) || bytes.ptr[i] == '\0') {
            return false;
        }
    }
    return bytes.len > 0;
}

/* Appends a token's bytes as llguidance wants them, and notes what is to be known of it. */
static void add_token(struct constraint_vocab *v, int32_t id, struct buf *bytes)
{
    struct str text = tokenizer_bytes(v->tokenizer, id);
    if (tokenizer_is_eog(v->tokenizer, id)) {
        bits_add(v->eog, id);
    } else {
        bits_add(v->all, id);
    }
    if (is_special(v, id)) {
        buf_putc(bytes, SPECIAL_MARK);
        buf_append(bytes, text);
        return;
    }
    if (tokenizer_kind(v->tokenizer, id) == TOKEN_UNUSED) {
        return; /* no bytes: never allowed */
    }
    buf_append(bytes, text);
    if (is_space(text)) {
        bits_add(v->space, id);
    }
    if (text.len == 1) {
        v->byte_ids[(uint8_t)text.ptr[0]] = id;
    }
}

/* ---- canonical tokens of a text ---- */

/* Whether the ids are the bytes, one for one: the tokenizer replaces what is no UTF-8. */
static bool gives_back(const struct constraint_vocab *v, const struct token_list *list, struct str bytes)
{
    size_t at = 0;
    for (size_t i = 0; i < list->n; i++) {
        struct str text = tokenizer_bytes(v->tokenizer, list->ids[i]);
        if (is_special(v, list->ids[i]) || !str_starts(str_slice(bytes, at, bytes.len), text)) {
            return false;
        }
        at += text.len;
    }
    return at == bytes.len;
}

/* One token per byte: what is left where the tokenizer cannot help. Needs no memory. */
static size_t byte_by_byte(const struct constraint_vocab *v, struct str bytes, uint32_t *out, size_t cap)
{
    size_t n = 0;
    for (size_t i = 0; i < bytes.len; i++) {
        int32_t id = v->byte_ids[(uint8_t)bytes.ptr[i]];
        if (id >= 0 && n++ < cap) {
            out[n - 1] = (uint32_t)id;
        }
    }
    return n;
}

/* How much of the bytes, from the first on, is UTF-8. */
static size_t valid_prefix(struct str bytes)
{
    size_t n = 0;
    uint32_t c;
    while (n < bytes.len) {
        size_t size = utf8_decode(str_slice(bytes, n, bytes.len), &c);
        if (c == UTF8_INVALID) {
            break;
        }
        n += size;
    }
    return n;
}

/* llguidance cuts texts anywhere, also inside characters: what is UTF-8 is the tokenizer's, the rest goes byte by byte.
 */
static size_t tokenize(const void *user_data, const uint8_t *bytes, size_t size, uint32_t *out, size_t cap)
{
    const struct constraint_vocab *v = user_data;
    struct str rest = {(const char *)bytes, size};
    struct token_list list = {.max = CANONICAL_TEXT};
    struct error err = {0};
    size_t n = 0;
    while (rest.len) {
        size_t len = valid_prefix(rest);
        struct str part = str_slice(rest, 0, len ? len : 1);
        list.n = 0;
        if (len && len <= CANONICAL_TEXT &&
            tokenizer_encode(v->tokenizer, part, (struct encode_options){0}, &list, &err) &&
            gives_back(v, &list, part)) {
            for (size_t i = 0; i < list.n && n + i < cap; i++) {
                out[n + i] = (uint32_t)list.ids[i];
            }
            n += list.n;
        } else {
            n += byte_by_byte(v, part, out + (n < cap ? n : cap), n < cap ? cap - n : 0);
        }
        rest = str_slice(rest, part.len, rest.len);
    }
    token_list_release(&list);
    return n;
}

/* ---- creation ---- */

static bool create_llg(struct constraint_vocab *v, bool canonical, const struct buf *bytes, const uint32_t *lens,
                       struct error *err)
{
    int32_t eog[MAX_EOG];
    uint32_t extra[MAX_EOG];
    char why[200] = "";
    size_t n = tokenizer_eog_ids(v->tokenizer, eog, MAX_EOG);
    n = n < MAX_EOG ? n : MAX_EOG;
    for (size_t i = 0; i < n; i++) {
        extra[i] = (uint32_t)eog[i];
    }
    struct LlgTokenizerInitV2 init = {
        .struct_size = sizeof init,
        .vocab_size = (uint32_t)v->n_vocab,
        .tok_eos = n ? extra[0] : NO_TOKEN,
        .token_lens = lens,
        .token_bytes = (const uint8_t *)bytes->data,
        .tokenize_fn = canonical ? tokenize : NULL,
        .use_approximate_greedy_tokenize_fn = !canonical,
        .tokenize_user_data = v,
        .tok_eos_extra = n > 1 ? extra + 1 : NULL,
        .tok_eos_extra_count = n > 1 ? (uint32_t)n - 1 : 0,
    };
    v->llg = llg_new_tokenizer_v2(&init, why, sizeof why);
    return v->llg || error_set(err, ERR_UNSUPPORTED, "No constraints can be made for this vocabulary: %s.", why);
}

static bool load_tokens(struct constraint_vocab *v, bool canonical, struct error *err)
{
    bool ok = false;
    struct buf bytes;
    buf_init(&bytes, TOKENS_SIZE);
    uint32_t *lens = calloc((size_t)v->n_vocab, sizeof *lens);
    if (!lens) {
        error_set(err, ERR_NO_MEMORY, "There is no memory for the tokens of constraints.");
        goto out;
    }
    for (int32_t id = 0; id < v->n_tokens; id++) {
        size_t before = bytes.len;
        add_token(v, id, &bytes);
        lens[id] = (uint32_t)(bytes.len - before);
    }
    ok = buf_ok(&bytes, "vocabulary", err) && create_llg(v, canonical, &bytes, lens, err);
out:
    free(lens);
    buf_release(&bytes);
    return ok;
}

static void complete_limits(struct constraint_limits *l)
{
    l->compile_ms = l->compile_ms ? l->compile_ms : default_limits.compile_ms;
    l->compile_fuel = l->compile_fuel ? l->compile_fuel : default_limits.compile_fuel;
    l->mask_fuel = l->mask_fuel ? l->mask_fuel : default_limits.mask_fuel;
    l->mask_items = l->mask_items ? l->mask_items : default_limits.mask_items;
    l->lexer_states = l->lexer_states ? l->lexer_states : default_limits.lexer_states;
    l->grammar_size = l->grammar_size ? l->grammar_size : default_limits.grammar_size;
}

struct constraint_vocab *constraint_vocab_create(const struct tokenizer *t,
                                                 const struct constraint_vocab_options *options, struct error *err)
{
    struct constraint_vocab *v = calloc(1, sizeof *v);
    if (!v) {
        error_set(err, ERR_NO_MEMORY, "There is no memory for the tokens of constraints.");
        return NULL;
    }
    v->tokenizer = t;
    v->n_tokens = tokenizer_n_vocab(t);
    v->n_vocab = options->n_vocab ? options->n_vocab : v->n_tokens;
    v->limits = options->limits;
    complete_limits(&v->limits);
    memset(v->byte_ids, -1, sizeof v->byte_ids);
    if (v->n_vocab < v->n_tokens || v->n_vocab < 1 || v->n_vocab > (int32_t)LIMIT_VOCAB) {
        error_set(err, ERR_INVALID, "The model has %d logits for a vocabulary of %d tokens.", (int)v->n_vocab,
                  (int)v->n_tokens);
        goto fail;
    }
    v->n_words = bits_words((size_t)v->n_vocab);
    v->eog = calloc(v->n_words, sizeof *v->eog);
    v->space = calloc(v->n_words, sizeof *v->space);
    v->all = calloc(v->n_words, sizeof *v->all);
    v->gate = constraint__gate_create();
    if (!v->eog || !v->space || !v->all || !v->gate) {
        error_set(err, ERR_NO_MEMORY, "There is no memory for the tokens of constraints.");
        goto fail;
    }
    if (load_tokens(v, options->canonical && str_eq(str_of(tokenizer_model_name(t)), STR("gpt2")), err)) {
        return v;
    }
fail:
    constraint_vocab_free(v);
    return NULL;
}

void constraint_vocab_free(struct constraint_vocab *v)
{
    if (v) {
        constraint__gate_free(v->gate);
        if (v->llg) {
            llg_free_tokenizer(v->llg);
        }
        free(v->eog);
        free(v->space);
        free(v->all);
        free(v);
    }
}

int32_t constraint_vocab_size(const struct constraint_vocab *v)
{
    return v->n_vocab;
}

size_t constraint_vocab_mask_words(const struct constraint_vocab *v)
{
    return v->n_words;
}
