/* OpenAI's older form of tools in conversations: an assistant's `function_call`, and the role `function` that answers
 * it. Templates know the newer form only. */
#ifndef TANDEM_API_OPENAI_LEGACY_H
#define TANDEM_API_OPENAI_LEGACY_H

#include "base/arena.h"
#include "base/json.h"

/* Checked messages with tool_calls and the role tool instead; messages itself where there is nothing old. What is made
 * lives in the arena. NULL: err. */
NODISCARD const struct json *openai_modern_messages(const struct json *messages, struct arena *arena,
                                                    struct error *err);

#endif
