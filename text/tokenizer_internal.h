/* Inside the tokenizer: the models (byte-level BPE, SentencePiece BPE, Unigram) and what they share while encoding. */
#ifndef TANDEM_TEXT_TOKENIZER_INTERNAL_H
#define TANDEM_TEXT_TOKENIZER_INTERNAL_H

#include "base/array.h"
#include "text/added_tokens.h"
#include "text/merge.h"
#include "text/pretokenizer.h"
#include "text/trie.h"
#include "text/vocab.h"

#define TOKENIZER_MAX_EOG 64

/* ---- one encode call ---- */

/* Words met before in this call, in one direct-mapped table: their ids are still in the output. Words longer than the
 * slot are not kept. */
#define WORD_CACHE_SLOTS 2048
#define WORD_CACHE_MAX   22

struct word_slot {
    char bytes[WORD_CACHE_MAX]; /* zero-padded */
    uint8_t len;                /* 0: free */
    uint8_t n_ids;
    uint32_t at; /* first id in the output */
};

struct encode_state {
    struct token_list *out;
    size_t start; /* ids of out that were there before the fragment */
    bool inner;   /* the fragment is behind an added token */
    struct merge_scratch merge;
    struct word_slot *cache; /* [WORD_CACHE_SLOTS], or NULL for short texts */
    struct buf normalized, piece;
};

bool tokenizer__push_slow(struct token_list *list, struct error *err);

NODISCARD static inline bool tokenizer__push(struct token_list *list, int32_t id, struct error *err)
{
    if (list->n == list->cap && !tokenizer__push_slow(list, err))
        return false;
    list->ids[list->n++] = id;
    return true;
}

/* ---- models ---- */

struct bpe_slot {
    int32_t left, right; /* left -1: free */
    uint32_t rank;
    int32_t merged;
};

struct bpe {
    const struct vocab *vocab;
    const struct pretokenizer *pre;
    struct bpe_slot *slots; /* [slot_mask + 1], open addressing */
    size_t slot_mask;
    bool nfc, ignore_merges;
    uint64_t factor;      /* of the hash: odd, drawn anew each time, so that no file can be made to collide */
    int32_t byte_id[256]; /* -1: the byte has no token and is dropped */
};

/* The space that SentencePiece models put before a text. */
struct space_prefix {
    bool on;
    bool first_only;   /* not behind added tokens */
    bool unless_space; /* not before a text that begins with a space itself */
};
NODISCARD bool space_prefix__init(struct space_prefix *p, const struct model_file *file, struct error *err);
/* Normalized text, which begins with the prefix when that is on, without it where it is not wanted. */
struct str space_prefix__cut(const struct space_prefix *p, struct str normalized, bool inner);

struct spm {
    const struct vocab *vocab;
    int32_t unk;
    int32_t byte_id[256]; /* -1: none */
    bool all_bytes;       /* every byte has a token */
    struct space_prefix prefix;
    bool by_word; /* no piece reaches from one word into the next, so that words merge on their own */
};

struct charsmap { /* SentencePiece's precompiled normalization: a double array over prefixes, and their replacements */
    const uint32_t *units; /* [n_units] */
    size_t n_units;
    struct str replacements; /* NUL-terminated strings one behind another, valid UTF-8 */
};

struct unigram {
    const struct vocab *vocab;
    struct trie pieces;
    struct charsmap charsmap;
    int32_t unk;
    double unk_score;
    struct space_prefix prefix;
    bool remove_extra_spaces;
    bool by_word;
};

struct wordpiece {
    struct trie pieces;
    uint32_t inner_root; /* node of the prefix of pieces that go on a word */
    bool has_inner;      /* there are such pieces */
    int32_t unk;
    size_t max_chars; /* a longer word is unknown */
    bool lowercase, strip_accents, clean_text, chinese_chars;
};
#define WORDPIECE_PREFIX_KEY "tokenizer.wordpiece.prefix"

enum tokenizer_model { MODEL_BPE, MODEL_SPM, MODEL_UNIGRAM, MODEL_WORDPIECE };

struct tokenizer {
    struct arena *arena;
    struct vocab vocab;
    enum tokenizer_model model;
    struct bpe bpe;
    struct spm spm;
    struct unigram unigram;
    struct wordpiece wordpiece;
    struct added_tokens added;
    struct special_tokens special;
    int32_t eog[TOKENIZER_MAX_EOG];
    size_t n_eog;
};

/* Each init reads what else the model needs from the file; vocab is loaded and outlives it. */
NODISCARD bool bpe__init(struct bpe *b, const struct vocab *v, const struct model_file *file, struct arena *arena,
                         struct error *err);
NODISCARD bool spm__init(struct spm *s, const struct vocab *v, const struct model_file *file, struct error *err);
NODISCARD bool unigram__init(struct unigram *u, const struct vocab *v, const struct model_file *file,
                             struct arena *arena, struct error *err);
NODISCARD bool wordpiece__init(struct wordpiece *w, const struct vocab *v, const struct model_file *file,
                               struct arena *arena, struct error *err);
NODISCARD bool charsmap__init(struct charsmap *c, const struct model_file *file, struct arena *arena,
                              struct error *err);

/* Appends the ids of a text between added tokens (valid UTF-8). The SentencePiece models put their space prefix before
 * each such text, as `tokenizers` does with the Prepend normalizer of Llama 2. */
NODISCARD bool bpe__encode(const struct bpe *b, struct str text, struct encode_state *state, struct error *err);
NODISCARD bool spm__encode(const struct spm *s, struct str text, struct encode_state *state, struct error *err);
NODISCARD bool unigram__encode(const struct unigram *u, struct str text, struct encode_state *state, struct error *err);

NODISCARD bool wordpiece__encode(const struct wordpiece *w, struct str text, struct encode_state *state,
                                 struct error *err);
/* What a piece stands for in running text, with the space before it; out: [piece.len + 1]. */
size_t wordpiece__text(struct str piece, struct str prefix, char *out);
/* Takes the spaces before punctuation and the like out of text[0 .. n) in place; the new length. */
size_t wordpiece__clean_up(char *text, size_t n);

/* The longest rule that text starts with at `at` (< text.len): its length and replacement; 0 when none applies. */
size_t charsmap__match(const struct charsmap *c, struct str text, size_t at, struct str *replacement);

/* Fills special and eog, and makes tokens that are special by name CONTROL where the file calls them NORMAL. */
NODISCARD bool special__load(struct tokenizer *t, const struct model_file *file, struct error *err);

/* A word of the cache: true and its ids appended when it was met before. */
NODISCARD bool tokenizer__cached(struct encode_state *state, struct str word, bool *hit, struct error *err);
void tokenizer__remember(struct encode_state *state, struct str word, size_t first_id); /* its ids end the output */

/* True when no piece that text can match has a U+2581 behind another character. */
bool tokenizer__pieces_keep_to_words(const struct vocab *v);

/* Next word of escaped text at *at: it ends before a U+2581 that follows another character. */
struct str tokenizer__next_word(struct str text, size_t *at);

/* SentencePiece models that put a space before the text: decoding takes it off again. */
bool tokenizer__drops_first_space(const struct tokenizer *t);

#define SPACE_SYMBOL "\xE2\x96\x81" /* U+2581 */

#endif
