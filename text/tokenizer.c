#include "text/tokenizer.h"

#include "base/limits.h"
#include "base/utf8.h"
#include "text/detokenizer.h"
#include "text/tokenizer_internal.h"
#include "text/tokenizer_json.h"
#include "text/unicode.h"

#include <stdlib.h>

#define TOKENIZER_ARENA GIB(1) /* a vocabulary of LIMIT_VOCAB long pieces with its tables fits */
#define CACHE_FROM      512    /* bytes of text from which clearing the word cache pays */

/* ---- creation ---- */

static bool load_model(struct tokenizer *t, const struct model_file *file, struct error *err)
{
    struct str model;
    if (!meta_str(file, "tokenizer.ggml.model", &model, err))
        return false;
    if (str_eq(model, STR("gpt2")))
        t->model = MODEL_BPE;
    else if (str_eq(model, STR("llama")))
        t->model = MODEL_SPM;
    else if (str_eq(model, STR("t5")))
        t->model = MODEL_UNIGRAM;
    else if (str_eq(model, STR("wordpiece")))
        t->model = MODEL_WORDPIECE;
    else
        return error_set(err, ERR_UNSUPPORTED,
                         "the tokenizer model '" STR_FMT "' is not supported (gpt2, llama, t5 and wordpiece are)",
                         STR_ARG(str_slice(model, 0, 80)));
    enum vocab_style style = t->model == MODEL_BPE         ? VOCAB_BYTE_LEVEL
                             : t->model == MODEL_WORDPIECE ? VOCAB_WORDPIECE
                                                           : VOCAB_SENTENCEPIECE;
    if (!vocab_load(&t->vocab, file, style, t->arena, err))
        return false;
    if (t->model == MODEL_BPE)
        return bpe__init(&t->bpe, &t->vocab, file, t->arena, err);
    if (t->model == MODEL_SPM)
        return spm__init(&t->spm, &t->vocab, file, err);
    if (t->model == MODEL_WORDPIECE)
        return wordpiece__init(&t->wordpiece, &t->vocab, file, t->arena, err);
    return unigram__init(&t->unigram, &t->vocab, file, t->arena, err);
}

/* A folder's tokenizer.json in the words of GGUF; the tokenizer keeps nothing of it. */
static struct tokenizer *from_folder(const struct model_file *folder, struct error *err)
{
    struct str json = model_file_document(folder, "tokenizer.json");
    struct tokenizer *t = NULL;
    struct model_file *translated = NULL;
    struct buf bytes;
    if (json.len == 0) {
        error_set(err, ERR_UNSUPPORTED,
                  "The folder has no tokenizer.json; other kinds of tokenizer files are not read.");
        return NULL;
    }
    buf_init(&bytes, tokenizer_json_max(json.len));
    if (tokenizer_json_translate(json, folder, &bytes, err))
        translated = model_file_open_memory(bytes.data, bytes.len, err);
    if (translated)
        t = tokenizer_from_model_file(translated, err);
    model_file_close(translated);
    buf_release(&bytes);
    return t;
}

struct tokenizer *tokenizer_from_model_file(const struct model_file *file, struct error *err)
{
    if (model_file_is_folder(file))
        return from_folder(file, err);
    struct arena *arena = arena_create(TOKENIZER_ARENA);
    struct tokenizer *t = arena ? arena_alloc(arena, sizeof *t) : NULL;
    if (!t) {
        arena_free(arena);
        (void)error_set(err, ERR_NO_MEMORY, "no memory for a tokenizer");
        return NULL;
    }
    t->arena = arena;
    if (!load_model(t, file, err) || !special__load(t, file, err) ||
        !added_tokens_init(&t->added, &t->vocab, file, t->arena, err)) {
        arena_free(arena);
        return NULL;
    }
    t->spm.unk = t->unigram.unk = t->wordpiece.unk = t->special.unk;
    return t;
}

void tokenizer_free(struct tokenizer *t)
{
    if (t)
        arena_free(t->arena);
}

/* ---- what the models share ---- */

bool tokenizer__push_slow(struct token_list *list, struct error *err)
{
    size_t max = list->max ? list->max : LIMIT_CONTEXT;
    if (!array_reserve(&list->ids, &list->cap, list->n + 1, max, "tokens of the text", err))
        return false;
    list->cap = list->cap < max ? list->cap : max; /* the first block may be larger; pushes look at cap alone */
    return true;
}

void token_list_release(struct token_list *list)
{
    free(list->ids);
    *list = (struct token_list){.max = list->max};
}

static struct word_slot *cache_slot(struct encode_state *state, struct str word)
{
    uint64_t parts[3] = {0, 0, word.len};
    memcpy(parts, word.ptr, word.len < 16 ? word.len : 16);
    if (word.len > 16)
        memcpy((char *)parts + 16, word.ptr + 16, word.len - 16); /* at most 6 bytes: the length stays mixed in */
    uint64_t hash = (parts[0] ^ parts[2] * 0xC2B2AE3D27D4EB4Fu) * 0x9E3779B97F4A7C15u;
    hash = (hash ^ hash >> 29 ^ parts[1]) * 0xBF58476D1CE4E5B9u;
    return &state->cache[hash >> 53]; /* 11 bits: WORD_CACHE_SLOTS */
}

bool tokenizer__cached(struct encode_state *state, struct str word, bool *hit, struct error *err)
{
    *hit = false;
    if (!state->cache || word.len > WORD_CACHE_MAX)
        return true;
    const struct word_slot *slot = cache_slot(state, word);
    if (slot->len != word.len || memcmp(slot->bytes, word.ptr, word.len) != 0)
        return true;
    *hit = true;
    for (size_t i = 0; i < slot->n_ids; i++)
        if (!tokenizer__push(state->out, state->out->ids[slot->at + i], err))
            return false;
    return true;
}

void tokenizer__remember(struct encode_state *state, struct str word, size_t first_id)
{
    size_t n_ids = state->out->n - first_id;
    if (!state->cache || word.len > WORD_CACHE_MAX || first_id > UINT32_MAX)
        return;
    struct word_slot *slot = cache_slot(state, word);
    memcpy(slot->bytes, word.ptr, word.len);
    slot->len = (uint8_t)word.len;
    slot->n_ids = (uint8_t)n_ids; /* at most one per byte */
    slot->at = (uint32_t)first_id;
}

bool tokenizer__pieces_keep_to_words(const struct vocab *v)
{
    for (size_t i = 0; i < v->n; i++) {
        struct str piece = vocab_piece(v, (int32_t)i);
        size_t end = 0;
        if (v->kinds[i] == TOKEN_CONTROL || v->kinds[i] == TOKEN_UNKNOWN || v->kinds[i] == TOKEN_BYTE)
            continue;
        (void)tokenizer__next_word(piece, &end);
        if (end < piece.len)
            return false;
    }
    return true;
}

struct str tokenizer__next_word(struct str text, size_t *at)
{
    const size_t symbol = sizeof SPACE_SYMBOL - 1;
    size_t start = *at, end = start;
    while (str_starts(str_slice(text, end, text.len), STR(SPACE_SYMBOL)))
        end += symbol;
    size_t next = str_find(str_slice(text, end, text.len), STR(SPACE_SYMBOL));
    *at = next == STR_NPOS ? text.len : end + next;
    return str_slice(text, start, *at);
}

bool space_prefix__init(struct space_prefix *p, const struct model_file *file, struct error *err)
{
    return meta_bool_or(file, "tokenizer.ggml.add_space_prefix", true, &p->on, err) &&
           meta_bool_or(file, "tokenizer.json.prefix_first_only", false, &p->first_only, err) &&
           meta_bool_or(file, "tokenizer.json.prefix_unless_space", false, &p->unless_space, err);
}

struct str space_prefix__cut(const struct space_prefix *p, struct str normalized, bool inner)
{
    struct str rest = str_slice(normalized, sizeof SPACE_SYMBOL - 1, normalized.len);
    bool unwanted = (p->first_only && inner) || (p->unless_space && str_starts(rest, STR(SPACE_SYMBOL)));
    return p->on && unwanted ? rest : normalized;
}

/* ---- encoding ---- */

static bool encode_fragment(const struct tokenizer *t, struct str text, struct encode_state *state, struct error *err)
{
    if (!text.len)
        return true;
    state->start = state->out->n;
    if (t->model == MODEL_BPE)
        return bpe__encode(&t->bpe, text, state, err);
    if (t->model == MODEL_SPM)
        return spm__encode(&t->spm, text, state, err);
    if (t->model == MODEL_WORDPIECE)
        return wordpiece__encode(&t->wordpiece, text, state, err);
    return unigram__encode(&t->unigram, text, state, err);
}

/* Added tokens cut the text: leftmost first, the longest at each place. Those that are plain text for this call still
 * take their bytes, so that no other added token is found inside them; so does `tokenizers`. */
static bool encode_text(const struct tokenizer *t, struct str text, bool parse_special, struct encode_state *state,
                        struct error *err)
{
    struct added_match m;
    size_t from = 0; /* start of the fragment */
    for (size_t at = 0; added_tokens_next(&t->added, text, at, &m); at = m.end) {
        if (!parse_special && t->vocab.kinds[m.id] != TOKEN_USER_DEFINED)
            continue;
        size_t start = m.span_start > from ? m.span_start : from;
        if (!encode_fragment(t, str_slice(text, from, start), state, err) || !tokenizer__push(state->out, m.id, err))
            return false;
        from = m.span_end;
        state->inner = true;
    }
    return encode_fragment(t, str_slice(text, from < text.len ? from : text.len, text.len), state, err);
}

static bool encode_valid(const struct tokenizer *t, struct str text, bool parse_special, struct token_list *out,
                         struct error *err)
{
    struct encode_state state = {.out = out};
    buf_init(&state.normalized, 4 * text.len + 64);
    buf_init(&state.piece, 2 * t->vocab.max_piece + 2);
    if (text.len >= CACHE_FROM)
        state.cache = calloc(WORD_CACHE_SLOTS, sizeof *state.cache); /* without it encoding is only slower */
    bool ok = encode_text(t, text, parse_special, &state, err);
    free(state.cache);
    merge_scratch_release(&state.merge);
    buf_release(&state.normalized);
    buf_release(&state.piece);
    return ok;
}

static bool encode_any(const struct tokenizer *t, struct str text, bool parse_special, struct token_list *out,
                       struct error *err)
{
    if (utf8_valid(text))
        return encode_valid(t, text, parse_special, out, err);
    struct buf valid;
    buf_init(&valid, 3 * text.len);
    unicode_sanitize(text, &valid);
    bool ok = buf_ok(&valid, "text", err) && encode_valid(t, buf_view(&valid), parse_special, out, err);
    buf_release(&valid);
    return ok;
}

bool tokenizer_encode(const struct tokenizer *t, struct str text, struct encode_options options, struct token_list *out,
                      struct error *err)
{
    const struct special_tokens *s = &t->special;
    size_t before = out->n;
    if (text.len > INT32_MAX / 4)
        return error_set(err, ERR_TOO_LARGE, "the text has %zu bytes, more than can be tokenized at once", text.len);
    bool ok = !options.add_special || !s->add_bos || tokenizer__push(out, s->bos, err);
    ok = ok && encode_any(t, text, options.parse_special, out, err);
    ok = ok && (!options.add_special || !s->add_eos || tokenizer__push(out, s->eos, err));
    if (!ok)
        out->n = before;
    return ok;
}

/* ---- questions ---- */

static bool in_range(const struct tokenizer *t, int32_t id)
{
    return id >= 0 && (size_t)id < t->vocab.n;
}

int32_t tokenizer_n_vocab(const struct tokenizer *t)
{
    return (int32_t)t->vocab.n;
}

enum token_kind tokenizer_kind(const struct tokenizer *t, int32_t id)
{
    return in_range(t, id) ? (enum token_kind)t->vocab.kinds[id] : TOKEN_UNUSED;
}

const struct special_tokens *tokenizer_special(const struct tokenizer *t)
{
    return &t->special;
}

bool tokenizer_is_eog(const struct tokenizer *t, int32_t id)
{
    for (size_t i = 0; i < t->n_eog; i++)
        if (t->eog[i] == id)
            return true;
    return false;
}

size_t tokenizer_eog_ids(const struct tokenizer *t, int32_t *out, size_t cap)
{
    for (size_t i = 0; i < t->n_eog && i < cap; i++)
        out[i] = t->eog[i];
    return t->n_eog;
}

struct str tokenizer_bytes(const struct tokenizer *t, int32_t id)
{
    return in_range(t, id) ? vocab_text(&t->vocab, id) : (struct str){"", 0};
}

struct str tokenizer_piece(const struct tokenizer *t, int32_t id)
{
    return in_range(t, id) ? vocab_piece(&t->vocab, id) : (struct str){"", 0};
}

int32_t tokenizer_find(const struct tokenizer *t, struct str piece)
{
    return vocab_find(&t->vocab, piece);
}

const char *tokenizer_model_name(const struct tokenizer *t)
{
    static const char *const names[] = {
        [MODEL_BPE] = "gpt2", [MODEL_SPM] = "llama", [MODEL_UNIGRAM] = "t5", [MODEL_WORDPIECE] = "wordpiece"};
    return names[t->model];
}

const char *tokenizer_pre_name(const struct tokenizer *t)
{
    return t->model == MODEL_BPE ? t->bpe.pre->name : "default";
}

bool tokenizer__drops_first_space(const struct tokenizer *t)
{
    return (t->model == MODEL_SPM && t->spm.prefix.on) || (t->model == MODEL_UNIGRAM && t->unigram.prefix.on) ||
           t->model == MODEL_WORDPIECE;
}

void tokenizer_decode(const struct tokenizer *t, const int32_t *ids, size_t n, bool skip_special, struct buf *out)
{
    struct detokenizer d;
    detokenizer_init(&d, t, skip_special, false);
    for (size_t i = 0; i < n; i++)
        detokenizer_feed(&d, ids[i], out);
    detokenizer_finish(&d, out);
}
