/* The functions of llguidance's C interface that Tandem calls. A matcher belongs to one thread at a time; a tokenizer
 * may be used by any number, and by matchers that are cloned at the same time. No call unwinds into C: a panic inside
 * is an error of the matcher. Memory that cannot be had ends the process. */
#ifndef TANDEM_GRAMMAR_LLGUIDANCE_ABI_H
#define TANDEM_GRAMMAR_LLGUIDANCE_ABI_H

#include "grammar/llguidance_structs.h"

struct LlgTokenizer *llg_new_tokenizer_v2(const struct LlgTokenizerInitV2 *init, char *error_string,
                                          size_t error_string_len);
void llg_free_tokenizer(struct LlgTokenizer *tok);
/* Writes at most output_tokens_len ids; returns how many there are. */
size_t llg_tokenize_bytes(const struct LlgTokenizer *tok, const uint8_t *bytes, size_t bytes_len,
                          uint32_t *output_tokens, size_t output_tokens_len);

/* Never NULL; type is "lark", "json_schema" or "regex". */
struct LlgMatcher *llg_new_matcher(const struct LlgConstraintInit *init, const char *constraint_type, const char *data);
/* 0: it compiles; 1: with a warning; -1: it does not, and why. */
int32_t llg_validate_grammar(const struct LlgConstraintInit *init, const char *constraint_type, const char *data,
                             char *message, size_t message_len);
struct LlgMatcher *llg_clone_matcher(const struct LlgMatcher *matcher);
void llg_free_matcher(struct LlgMatcher *matcher);
const char *llg_matcher_get_error(struct LlgMatcher *matcher); /* NULL: none */
bool llg_matcher_is_error(const struct LlgMatcher *matcher);
size_t llg_matcher_get_mask_byte_size(const struct LlgMatcher *matcher);
int32_t llg_matcher_compute_mask_into(struct LlgMatcher *matcher, uint32_t *mask_dest, size_t mask_byte_len);
int32_t llg_matcher_consume_token(struct LlgMatcher *matcher, uint32_t token);
int32_t llg_matcher_consume_tokens(struct LlgMatcher *matcher, const uint32_t *tokens, size_t n_tokens);
int32_t llg_matcher_validate_tokens(struct LlgMatcher *matcher, const uint32_t *tokens, size_t n_tokens);
bool llg_matcher_is_accepting(struct LlgMatcher *matcher);
bool llg_matcher_is_stopped(const struct LlgMatcher *matcher);
const char *llg_get_version(void);

#endif
