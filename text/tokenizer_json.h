/* tokenizer.json of a Hugging Face folder, translated into the metadata by which GGUF files describe a tokenizer, so
 * that there is one loader. Translated are the kinds that language models use:
 *
 * - BPE over bytes: ByteLevel, with the pre-tokenizers of text/pretokenizer.h, recognised by their patterns' text; NFC;
 *   ignore_merges.
 * - BPE over characters, SentencePiece's: spaces as U+2581 by Prepend and Replace or by Metaspace; byte_fallback. Its
 *   pieces get scores that fall with the rank of the merge that makes them.
 * - Unigram: Metaspace; Precompiled; runs of spaces.
 * - WordPiece: BertNormalizer, BertPreTokenizer.
 *
 * Added tokens come with their flags, and with the model the ids that TemplateProcessing, BertProcessing and
 * RobertaProcessing put before and after a text, and the special tokens of tokenizer_config.json,
 * generation_config.json and config.json. Everything else is UNSUPPORTED, by its name; FORMAT names what is
 * inconsistent. Source: tokenizers 0.23. */
#ifndef TANDEM_TEXT_TOKENIZER_JSON_H
#define TANDEM_TEXT_TOKENIZER_JSON_H

#include "base/buf.h"
#include "tensor/model_file.h"

/* Appends a GGUF file without tensors to *out, which the caller has made with room (tokenizer_json_max) and releases.
 * hints: the folder, for what the other JSON files say; NULL: nothing. */
NODISCARD bool tokenizer_json_translate(struct str json, const struct model_file *hints, struct buf *out,
                                        struct error *err);
size_t tokenizer_json_max(size_t json_size); /* bytes that a translation may take */

#endif
