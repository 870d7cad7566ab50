#include "base/rng.h"
#include "text/tokenizer_internal.h"
#include "text/unicode.h"

/* Byte-level BPE (GPT-2). Merges are looked up by the pair of ids; the rank is the merge's line in the file. */

#define MAX_MERGES (1u << 22)

static size_t slot_of(const struct bpe *b, int32_t left, int32_t right)
{
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    return (size_t)(key * b->factor >> 32) & b->slot_mask;
}

static struct bpe_slot *find_slot(const struct bpe *b, int32_t left, int32_t right) /* the pair's, or a free one */
{
    size_t at = slot_of(b, left, right);
    while (b->slots[at].left >= 0 && (b->slots[at].left != left || b->slots[at].right != right))
        at = (at + 1) & b->slot_mask;
    return &b->slots[at];
}

static bool add_merge(struct bpe *b, struct str merge, size_t rank, struct buf *both, struct error *err)
{
    size_t blank = str_find_char(str_slice(merge, 1, merge.len), ' ');
    if (blank == STR_NPOS)
        return error_set(err, ERR_FORMAT, "merge %zu is not a pair: '" STR_FMT "'", rank, STR_ARG(merge));
    struct str left = str_slice(merge, 0, blank + 1), right = str_slice(merge, blank + 2, merge.len);
    buf_clear(both);
    buf_append(both, left);
    buf_append(both, right);
    if (!buf_ok(both, "merge", err))
        return false;
    int32_t l = vocab_find(b->vocab, left), r = vocab_find(b->vocab, right), m = vocab_find(b->vocab, buf_view(both));
    if (l < 0 || r < 0 || m < 0)
        return error_set(err, ERR_FORMAT, "merge %zu ('" STR_FMT "') needs a token that the vocabulary lacks", rank,
                         STR_ARG(str_slice(merge, 0, 80)));
    *find_slot(b, l, r) = (struct bpe_slot){l, r, (uint32_t)rank, m}; /* the last of equal merges counts */
    return true;
}

static bool load_merges(struct bpe *b, const struct meta_value *merges, struct error *err)
{
    struct buf both;
    struct str merge;
    bool ok = true;
    buf_init(&both, b->vocab->max_piece);
    for (size_t i = 0; ok && i < merges->n; i++) {
        ok = meta_array_str(merges, i, &merge) && merge.len >= 3 && merge.len <= b->vocab->max_piece + 1;
        ok = ok ? add_merge(b, merge, i, &both, err)
                : error_set(err, ERR_FORMAT, "merge %zu does not spell a token of the vocabulary", i);
    }
    buf_release(&both);
    return ok;
}

static bool find_pretokenizer(struct bpe *b, const struct model_file *file, struct error *err)
{
    struct str name = meta_str_or(file, "tokenizer.ggml.pre", STR("default"));
    b->pre = pretokenizer_find(name.len ? name : STR("default"));
    if (!b->pre)
        return error_set(err, ERR_UNSUPPORTED, "the pre-tokenizer '" STR_FMT "' is not supported",
                         STR_ARG(str_slice(name, 0, 80)));
    return meta_bool_or(file, "tokenizer.json.nfc", b->pre->nfc, &b->nfc, err) &&
           meta_bool_or(file, "tokenizer.json.ignore_merges", b->pre->ignore_merges, &b->ignore_merges, err);
}

bool bpe__init(struct bpe *b, const struct vocab *v, const struct model_file *file, struct arena *arena,
               struct error *err)
{
    *b = (struct bpe){.vocab = v, .factor = rng_entropy64() | 1};
    struct meta_value merges = meta_get(file, "tokenizer.ggml.merges");
    if (!find_pretokenizer(b, file, err))
        return false;
    if (merges.type != META_ARRAY || (merges.n && merges.item_type != META_STRING))
        return error_set(err, ERR_FORMAT, "tokenizer.ggml.merges should be an array of strings");
    if (merges.n > MAX_MERGES)
        return error_set(err, ERR_FORMAT, "the tokenizer has %zu merges, more than %u", merges.n, MAX_MERGES);
    size_t n_slots = 2;
    while (n_slots < merges.n + merges.n / 2)
        n_slots *= 2;
    b->slot_mask = n_slots - 1;
    b->slots = arena_alloc_array(arena, n_slots, sizeof *b->slots);
    if (!b->slots)
        return arena_full(arena, "tokenizer", err);
    for (size_t i = 0; i < n_slots; i++)
        b->slots[i].left = -1;
    for (int byte = 0; byte < 256; byte++)
        b->byte_id[byte] = vocab_byte_id(v, (uint8_t)byte);
    return load_merges(b, &merges, err);
}

static bool pair_rank(const void *model, struct str word, const struct symbol *l, const struct symbol *r, uint32_t *key,
                      int32_t *id)
{
    (void)word;
    const struct bpe_slot *slot = find_slot(model, l->id, r->id);
    *key = slot->rank;
    *id = slot->merged;
    return slot->left >= 0;
}

/* A word that is a token as it stands, by its spelling in letters; -1 when it is none. */
static int32_t whole_token(const struct bpe *b, struct str word, struct buf *spelling)
{
    if (word.len > b->vocab->max_piece)
        return -1;
    buf_clear(spelling);
    for (size_t i = 0; i < word.len; i++) {
        uint32_t letter = vocab_letter_of_byte((uint8_t)word.ptr[i]);
        if (letter < 0x80) {
            buf_putc(spelling, (char)letter);
        } else {
            buf_putc(spelling, (char)(0xC0 | letter >> 6));
            buf_putc(spelling, (char)(0x80 | (letter & 0x3F)));
        }
    }
    int32_t id = spelling->failed ? -1 : vocab_find(b->vocab, buf_view(spelling));
    return id >= 0 && b->vocab->kinds[id] == TOKEN_NORMAL ? id : -1;
}

static bool encode_word(const struct bpe *b, struct str word, struct encode_state *state, struct error *err)
{
    struct merge_scratch *merge = &state->merge;
    if (b->ignore_merges) {
        int32_t id = whole_token(b, word, &state->piece);
        if (id >= 0)
            return tokenizer__push(state->out, id, err);
    }
    if (!merge_reserve(merge, word.len, err))
        return false;
    merge->n = 0;
    for (uint32_t i = 0; i < word.len; i++) {
        int32_t id = b->byte_id[(uint8_t)word.ptr[i]];
        if (id >= 0)
            merge->symbols[merge->n++] = (struct symbol){i, 1, id};
    }
    if (!merge_symbols(merge, word, pair_rank, b, err))
        return false;
    for (size_t i = 0; i < merge->n; i++)
        if (!tokenizer__push(state->out, merge->symbols[i].id, err))
            return false;
    return true;
}

bool bpe__encode(const struct bpe *b, struct str text, struct encode_state *state, struct error *err)
{
    struct str word;
    if (b->nfc && unicode_nfc_needed(text)) {
        buf_clear(&state->normalized);
        unicode_nfc(text, &state->normalized);
        if (!buf_ok(&state->normalized, "normalized text", err))
            return false;
        text = buf_view(&state->normalized);
    }
    struct pre_walk walk = pre_walk_start(b->pre, text);
    while (pre_walk_next(&walk, &word)) {
        bool hit;
        size_t first = state->out->n;
        if (!tokenizer__cached(state, word, &hit, err))
            return false;
        if (hit)
            continue;
        if (!encode_word(b, word, state, err))
            return false;
        tokenizer__remember(state, word, first);
    }
    return true;
}
