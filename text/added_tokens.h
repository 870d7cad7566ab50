/* Added tokens: texts that become one id wherever they stand, before the model sees what is between them. Some take the
 * spaces beside them too (lstrip, rstrip), or count only as a word of their own (single_word), as tokenizer.json says.
 * Source: added_vocabulary.rs of `tokenizers` 0.23. Const after added_tokens_init. */
#ifndef TANDEM_TEXT_ADDED_TOKENS_H
#define TANDEM_TEXT_ADDED_TOKENS_H

#include "tensor/model_file.h"
#include "text/trie.h"
#include "text/vocab.h"

/* The ids with each flag: arrays of metadata that tokenizer_json_translate writes, by the flag's name. */
#define ADDED_TOKENS_KEY "tokenizer.json.added_"

struct added_tokens {
    struct trie trie;
    uint8_t *flags; /* [n_vocab]; NULL: no token has any */
};

struct added_match {
    int32_t id;
    size_t start, end;           /* of the token's own text */
    size_t span_start, span_end; /* with the spaces that it takes */
};

extern const char *const added_token_flags[]; /* NULL-terminated: "lstrip" ... */

/* Control, unknown and user-defined tokens of v. FORMAT: one is too long, or an id of a flag is outside v. */
NODISCARD bool added_tokens_init(struct added_tokens *a, const struct vocab *v, const struct model_file *file,
                                 struct arena *arena, struct error *err);

/* The leftmost token of text (valid UTF-8) from `from` on, the longest where several begin; false: none. */
bool added_tokens_next(const struct added_tokens *a, struct str text, size_t from, struct added_match *m);

#endif
