/* Built-in prompts for `tandem bench-serve`: plain English of common words, or code, about as many tokens as asked for
 * (a common word or a full stop counts as one). A prompt is a function of (set, seed, index) alone, and prompts of
 * different indexes differ from their first words on, so that no prefix cache helps but where the set wants one. Any
 * thread. */
#ifndef TANDEM_CLI_LOADGEN_PROMPTS_H
#define TANDEM_CLI_LOADGEN_PROMPTS_H

#include "base/buf.h"

enum loadgen_prompt_set {
    LOADGEN_SET_SHORT,         /* one question */
    LOADGEN_SET_CHAT,          /* a system message, earlier turns, a question */
    LOADGEN_SET_CODE,          /* a function, and a change to make */
    LOADGEN_SET_LONG,          /* a document, and a question about it */
    LOADGEN_SET_SHARED_PREFIX, /* the same long system message for all, each with its own question */
};

struct loadgen_prompts {
    enum loadgen_prompt_set set;
    int prompt_tokens; /* about; of the whole prompt without what the chat template adds */
    uint64_t seed;
};

NODISCARD bool loadgen_prompt_set_parse(const char *name, enum loadgen_prompt_set *out, struct error *err);
const char *loadgen_prompt_set_name(enum loadgen_prompt_set set);
int loadgen_prompt_set_tokens(enum loadgen_prompt_set set);     /* the set's own length of a prompt */
int loadgen_prompt_set_max_tokens(enum loadgen_prompt_set set); /* and of an answer */

/* Appends prompt `index`: a JSON array of chat messages, or its text as a JSON string. */
void loadgen_prompt_messages(const struct loadgen_prompts *p, uint64_t index, struct buf *out);
void loadgen_prompt_text(const struct loadgen_prompts *p, uint64_t index, struct buf *out);

#endif
