/* From a job's sampling parameters to the backend's row: history, uniforms of this output index, bans. No state. */
#ifndef TANDEM_ENGINE_SAMPLER_H
#define TANDEM_ENGINE_SAMPLER_H

#include "engine/request.h"

/* The next token of q from logits row `logits_row`. choice: whose random numbers (a sibling samples from its leader's
 * tokens, which are the same prompt). Pointers of the row live as long as q's tokens stay unchanged. */
struct sample_row sampler_row(const struct sequence *q, uint32_t choice, int32_t logits_row);

/* The token after that one, which is not known yet: for rows that do not look at it. */
struct sample_row sampler_row_after(const struct sequence *q, uint32_t choice, int32_t logits_row);

/* The token behind the first n of the guesses that stand behind q's tokens, as if those were tokens of q already. */
struct sample_row sampler_draft_row(const struct sequence *q, uint32_t n, int32_t logits_row);

/* The logprob of prompt token `index` from the row of the position before it. */
struct sample_row sampler_score_row(const struct sequence *q, uint32_t index, int32_t logits_row);

#endif
