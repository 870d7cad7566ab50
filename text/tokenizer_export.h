/* A model's tokenizer in the form of the other container: a folder's tokenizer.json as metadata of a GGUF file, and the
 * metadata as the JSON files of a folder. Any thread. */
#ifndef TANDEM_TEXT_TOKENIZER_EXPORT_H
#define TANDEM_TEXT_TOKENIZER_EXPORT_H

#include "base/buf.h"
#include "tensor/gguf_writer.h"

/* Puts tokenizer.* for a vocabulary of n_vocab: tokens that the folder does not name are unused ones, as the converters
 * of GGUF files have them. Chat templates too. Errors as of tokenizer_json_translate; FORMAT: more tokens than n_vocab.
 */
NODISCARD bool tokenizer_export_gguf(const struct model_file *folder, struct gguf_writer *w, int n_vocab,
                                     struct error *err);

/* tokenizer.json and tokenizer_config.json of a GGUF file's tokenizer. SentencePiece's BPE gets merges of all pairs
 * that make a piece, by their scores. UNSUPPORTED: it is Unigram or WordPiece, or a pre-tokenizer that this program
 * cannot write. */
NODISCARD bool tokenizer_export_json(const struct model_file *gguf, struct buf *tokenizer, struct buf *config,
                                     struct error *err);

#endif
