/* An executor that reads its tokens from a script instead of a model: for answers that no small model would give. All
 * else is the engine as it is. Test builds only; engine_create refuses it otherwise.
 *
 *     {"rules": [{"match": "weather", "text": "It rains.", "delay_ms": 5}, ...], "default": {"text": "Hello."}}
 *
 * The first rule that matches a job's prompt gives its answers; without one, `default` (an empty answer when there is
 * none). Of a rule:
 *     match          text inside the decoded prompt, control tokens included, or {"ids": [...]}: these ids in a row
 *     text, texts, ids   the answer as text, one text per choice (choice modulo their number), or token ids
 *     delay_ms       time of each token; those of one choice in a step (guessed ones) come one after another, of
 * several choices the longest counts first_delay_ms likewise, of the first one then           behind the answer: "eos"
 * (default), "length" (the answer again and again), "fail" (logits that are no numbers), "crash" (the process aborts),
 * "hang" (the step does not return)
 *
 * A token that a job's constraint forbids is logged as an error, and the job fails. */
#ifndef TANDEM_ENGINE_SCRIPT_H
#define TANDEM_ENGINE_SCRIPT_H

#include "engine/executor.h"
#include "text/tokenizer.h"

/* tokenizer outlives it. INVALID names what is wrong in the file. */
NODISCARD struct executor *script_executor_create(const char *path, const struct tokenizer *tokenizer,
                                                  struct error *err);

#endif
