/* Logprobs of an event's tokens as JSON: {"token", "logprob", "bytes", "top_logprobs": [{...}]}. */
#ifndef TANDEM_API_LOGPROBS_H
#define TANDEM_API_LOGPROBS_H

#include "base/json.h"
#include "pipeline/generation.h"

/* Appends one object per token, separated by commas, also from what out holds already. */
void logprobs_put(struct buf *out, const struct gen_event *e);

#endif
