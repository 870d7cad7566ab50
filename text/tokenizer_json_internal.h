/* Shared by tokenizer_json.c (vocabulary, merges, the whole) and tokenizer_json_steps.c (normalizers, pre-tokenizers,
 * post-processors, special tokens). */
#ifndef TANDEM_TEXT_TOKENIZER_JSON_INTERNAL_H
#define TANDEM_TEXT_TOKENIZER_JSON_INTERNAL_H

#include "base/json.h"
#include "tensor/gguf_writer.h"

struct translation {
    struct json *root;
    const struct json *model;
    const struct model_file *hints;
    size_t size; /* of the JSON */
    struct gguf_writer *w;
    struct str *pieces; /* [n] of [cap]; views into the JSON or hole_names */
    int32_t *kinds;     /* [n] of [cap]; 0: nobody has the id */
    size_t n, cap;
    double *scores; /* [n_scores] or NULL */
    size_t n_scores;
    char (*hole_names)[24]; /* [n] */
    struct buf merge_text, charsmap;
    int64_t unk; /* -1: none */
};

/* The id of a piece, -1 when there is none. */
int64_t tokenizer_json__find(const struct translation *t, struct str piece);

/* Each puts the metadata of its kind but for vocabulary, merges and scores. */
bool tokenizer_json__is_byte_level(const struct translation *t);
NODISCARD bool tokenizer_json__byte_level(struct translation *t, struct error *err);
NODISCARD bool tokenizer_json__sentencepiece(struct translation *t, struct error *err);
NODISCARD bool tokenizer_json__unigram(struct translation *t, struct error *err);
NODISCARD bool tokenizer_json__wordpiece(struct translation *t, struct error *err);
/* bos, eos and the others, and what a text gets before and behind it. */
NODISCARD bool tokenizer_json__specials(struct translation *t, struct error *err);

/* Writes the pre-tokenizer that a value of tokenizer.ggml.pre stands for; false, and nothing, when there is none. */
bool tokenizer_json__put_pretokenizer(struct json_writer *w, const char *name);

/* SentencePiece's normalization in base64, into t->charsmap. */
NODISCARD bool tokenizer_json__charsmap(struct translation *t, struct str base64, struct error *err);

/* Pieces by their text, for many look-ups. */
struct piece_index {
    const struct str *pieces;
    int32_t *slots; /* [mask + 1], open addressing; -1: free */
    size_t mask;
    uint64_t seed;
};
NODISCARD bool piece_index_init(struct piece_index *x, const struct str *pieces, size_t n);
int64_t piece_index_find(const struct piece_index *x, struct str piece);
void piece_index_release(struct piece_index *x);

#endif
