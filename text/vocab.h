/* Vocabulary: the pieces of a tokenizer as the file stores them, what they stand for in text, their kinds and scores,
 * and the way back from a piece to its id. Everything is copied out of the file. Const after loading. */
#ifndef TANDEM_TEXT_VOCAB_H
#define TANDEM_TEXT_VOCAB_H

#include "base/arena.h"
#include "text/tokenizer.h"

/* Longest piece that is matched against text byte by byte (added tokens, Unigram): bounds the work per byte of text. */
#define VOCAB_MAX_MATCHED_PIECE 1024

/* Score of a piece that no merge makes: it stands for itself only where it is one character or an added token. */
#define VOCAB_UNREACHABLE (-1e29)

enum vocab_style {
    VOCAB_BYTE_LEVEL,    /* pieces spell bytes as GPT-2's letters */
    VOCAB_SENTENCEPIECE, /* U+2581 is a space; <0xNN> of kind BYTE is a byte */
    VOCAB_WORDPIECE,     /* a space before each piece but those that go on a word and some punctuation */
};

struct vocab_slot {
    uint32_t tag; /* upper half of the piece's hash */
    int32_t id;   /* -1: free */
};

struct vocab {
    size_t n, max_piece; /* tokens; bytes of the longest piece */
    enum vocab_style style;
    char *pieces, *texts;         /* all pieces, and all texts, one behind another */
    uint32_t *piece_at, *text_at; /* [n + 1] offsets */
    uint8_t *kinds;               /* [n] enum token_kind */
    double *scores;               /* [n] finite; NULL when the file has none */
    struct vocab_slot *slots;     /* [slot_mask + 1] open addressing, at most half full */
    size_t slot_mask;
    uint64_t seed; /* of the hash: drawn anew each time, so that no file can be made to collide */
};

/* Reads tokenizer.ggml.tokens, token_type and scores. All memory is the arena's. */
NODISCARD bool vocab_load(struct vocab *v, const struct model_file *file, enum vocab_style style, struct arena *arena,
                          struct error *err);

int32_t vocab_find(const struct vocab *v, struct str piece); /* id or -1 */

static inline struct str vocab_piece(const struct vocab *v, int32_t id) /* id in range */
{
    return (struct str){v->pieces + v->piece_at[id], v->piece_at[id + 1] - v->piece_at[id]};
}

static inline struct str vocab_text(const struct vocab *v, int32_t id) /* id in range */
{
    return (struct str){v->texts + v->text_at[id], v->text_at[id + 1] - v->text_at[id]};
}

/* GPT-2's letters for bytes: printable Latin-1 stands for itself, the rest for U+0100 on. */
uint32_t vocab_letter_of_byte(uint8_t byte);
int vocab_byte_of_letter(uint32_t letter); /* -1 for other characters */

/* The id of the byte's own piece: one letter, or <0xNN> of kind BYTE; -1 when there is none. */
int32_t vocab_byte_id(const struct vocab *v, uint8_t byte);

#endif
