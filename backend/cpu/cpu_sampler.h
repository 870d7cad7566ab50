/* The sampling op on one row of logits: a pure function of its arguments, to the bit, on every machine. Knows nothing
 * of the rest of the backend. Order of the steps and neutral parameters: backend.h.
 *
 *     void *scratch = aligned_alloc(64, cpu_sampler_scratch_size(n_vocab));
 *     cpu_sampler_run(logits, n_vocab, &row, scratch, &result);
 *
 * What backend.h leaves open:
 *   - Not finite: a row with a NaN or +inf, without any finite value, or without any that mask, bias and bans leave.
 * -inf is an ordinary value otherwise. The result's id is then 0 (so a step may be queued behind it).
 *   - Penalties keep finite logits finite (they are held to +-FLT_MAX), so they alone never forbid a token; bias of
 * -inf does. Nothing revives a logit of -inf.
 *   - DRY: a repetition is the longest run of tokens at the end of the history that also stands before an earlier
 *     occurrence of the token, within the last dry_range tokens; it never spans a breaker, and breakers are never
 *     penalized. Length n >= dry_allowed_length (at least 1) costs dry_multiplier * dry_base^(n - dry_allowed_length);
 * n is counted up to CPU_DRY_MAX_MATCH. A base below 1 turns DRY off.
 *   - After temperature a token has a weight (cpu_math.h): probability before division by the total, exact to 2^-43 of
 * the most likely token's. Weight 0 (29.8 nats below it) is never drawn and enters no filter.
 *   - top-k: k best by (logit descending, id ascending). Typical: shortest prefix in order of |-log p - H| (as f32,
 * ties by id) with at least typical_p of the total. Top-p: likewise in logit order. min-p: weight >= min_p * the
 * largest left. XTC: of the tokens with weight >= threshold * what is left, all but the last in logit order go; never
 * with a threshold over 0.5. Each filter's total is what the filter before it left; each leaves at least one token.
 *   - The draw takes the first token in logit order at which the running sum exceeds floor(uniform * total).
 *   - logprob is reported when wanted, when scoring, and when top logprobs are; rank for the first two. A token with a
 *     logit of -inf has a logprob of -inf and is never among the top. What is not wanted is 0.
 *   - Ids outside the vocabulary (history, bias, banned, breakers) are ignored; such a score_id is not finite.
 */
#ifndef TANDEM_BACKEND_CPU_CPU_SAMPLER_H
#define TANDEM_BACKEND_CPU_CPU_SAMPLER_H

#include "backend/backend.h"

#define CPU_DRY_MAX_MATCH 4096 /* tokens: bounds memory; base^4096 is past f32 from 1.022 on */

/* Bytes of scratch, 1 <= n_vocab <= LIMIT_VOCAB: 20 per token and a little. */
size_t cpu_sampler_scratch_size(int n_vocab);

/* logits: [n_vocab], unaligned, not written. scratch: 16-aligned, contents irrelevant, not shared with a call that runs
 * at the same time. Any thread. Never fails but by result->finite. */
void cpu_sampler_run(const float *logits, int n_vocab, const struct sample_row *row, void *scratch,
                     struct sample_result *result);

#endif
