/* Tokens of a choice as bytes, for who keeps them on a disk, and back. Little endian; a version and flags first, then
 * per token: id i32; with logprobs: logprob f32, rank i32, digest u64, n_top u8, and n_top times id i32, logprob f32.
 * Pure; any thread. */
#ifndef TANDEM_PIPELINE_SAVED_TOKENS_H
#define TANDEM_PIPELINE_SAVED_TOKENS_H

#include "pipeline/choice.h"

/* Appends tokens [0, n). Without logprobs only their ids. */
void saved_tokens_pack(struct buf *out, const struct choice_token *tokens, size_t n, bool logprobs);

/* The n tokens in data: ids [n], and logprobs [n] or NULL as they were packed; both in the arena. PROTOCOL: data is not
 * n packed tokens. */
NODISCARD bool saved_tokens_unpack(struct str data, size_t n, struct arena *arena, int32_t **ids,
                                   struct token_logprob **logprobs, struct error *err);

#endif
