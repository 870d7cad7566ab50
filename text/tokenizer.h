/* Tokenizer: text to token ids and back, built from a model's metadata. Byte-level BPE (GPT-2 lineage), SentencePiece
 * BPE and Unigram; added and special tokens. Equal to Hugging Face `tokenizers` on the same vocabulary, byte for byte.
 * Const after creation: any number of threads may use it. No recursion on input, memory linear in the text. */
#ifndef TANDEM_TEXT_TOKENIZER_H
#define TANDEM_TEXT_TOKENIZER_H

#include "base/buf.h"
#include "tensor/model_file.h"

struct tokenizer;

enum token_kind { TOKEN_NORMAL, TOKEN_UNKNOWN, TOKEN_CONTROL, TOKEN_USER_DEFINED, TOKEN_UNUSED, TOKEN_BYTE };

/* Special ids; -1 where the model has none. */
struct special_tokens {
    int32_t bos, eos, eot, eom, unk, sep, pad, mask;
    int32_t fim_prefix, fim_suffix, fim_middle, fim_pad, fim_rep, fim_sep;
    bool add_bos, add_eos; /* what plain-text encoding adds */
};

/* Reads tokenizer.ggml.* metadata; keeps nothing of the file, which may be closed after. Special ids without a key are
 * found by the names that model families give them (text/special.c). UNSUPPORTED names an unknown model or
 * pre-tokenizer; FORMAT what is inconsistent. */
NODISCARD struct tokenizer *tokenizer_from_model_file(const struct model_file *file, struct error *err);
void tokenizer_free(struct tokenizer *t);

struct encode_options {
    bool add_special;   /* add BOS / EOS as the model wants them */
    bool parse_special; /* text of control tokens ("<|im_end|>") becomes their ids; otherwise it is plain text.
                           User-defined added tokens are always recognised. */
};

struct token_list { /* grown by the tokenizer, freed by the caller with token_list_release */
    int32_t *ids;
    size_t n, cap, max; /* max: refuse longer (TOO_LARGE); 0 means LIMIT_CONTEXT */
};
void token_list_release(struct token_list *list);

/* Appends the ids of text (at most 512 MiB); on failure out is as it was. TOO_LARGE past out->max. Linear in the text
 * but for words, which cost n log n. SentencePiece models put their space prefix before the text and behind each added
 * token, as the converters' reference does. A byte that no token stands for is dropped (byte-level) or becomes the
 * unknown token (SentencePiece). Invalid UTF-8 is encoded through U+FFFD as `tokenizers` does for byte strings decoded
 * with errors="replace". */
NODISCARD bool tokenizer_encode(const struct tokenizer *t, struct str text, struct encode_options options,
                                struct token_list *out, struct error *err);

int32_t tokenizer_n_vocab(const struct tokenizer *t);
enum token_kind tokenizer_kind(const struct tokenizer *t, int32_t id);
const struct special_tokens *tokenizer_special(const struct tokenizer *t);
bool tokenizer_is_eog(const struct tokenizer *t, int32_t id); /* ends a generation: eos, eot, eom and their like */
size_t tokenizer_eog_ids(const struct tokenizer *t, int32_t *out, size_t cap); /* count of all; writes at most cap */

/* The bytes a token stands for in running text (byte-level and byte tokens decoded, U+2581 as a space); control and
 * user-defined tokens give their own name. Valid as long as t. For ids outside the vocabulary: an empty view. */
struct str tokenizer_bytes(const struct tokenizer *t, int32_t id);
struct str tokenizer_piece(const struct tokenizer *t, int32_t id);   /* as stored in the vocabulary */
int32_t tokenizer_find(const struct tokenizer *t, struct str piece); /* id of a stored piece, or -1 */

const char *tokenizer_model_name(const struct tokenizer *t); /* "gpt2", "llama", "t5", "wordpiece" */
const char *tokenizer_pre_name(const struct tokenizer *t);   /* "smollm", "qwen2" ... */

/* All ids to text at once (as `tokenizers` decode with skip_special_tokens): appends to out. */
void tokenizer_decode(const struct tokenizer *t, const int32_t *ids, size_t n, bool skip_special, struct buf *out);

#endif
