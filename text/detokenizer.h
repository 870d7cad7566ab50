/* Streaming detokenizer: ids in, whole UTF-8 characters out. An incomplete sequence is held back until it is complete;
 * one that cannot be completed comes out as U+FFFD per maximal invalid subpart. The concatenation of what comes out
 * equals tokenizer_decode of all ids, whatever the chunking. State is small and a pure function of the ids fed. Owned
 * by one thread. */
#ifndef TANDEM_TEXT_DETOKENIZER_H
#define TANDEM_TEXT_DETOKENIZER_H

#include "text/tokenizer.h"

struct detokenizer {
    const struct tokenizer *tokenizer;
    bool skip_special;    /* control tokens produce nothing, but for those that are shown */
    const int32_t *shown; /* [n_shown] */
    size_t n_shown;
    bool at_start;   /* SentencePiece: the dummy prefix space of the very first token is dropped */
    uint8_t held[4]; /* bytes of an incomplete character */
    uint8_t n_held;
};

/* continues_text: the ids follow a prompt, so that a leading space of the first token belongs to the text. */
void detokenizer_init(struct detokenizer *d, const struct tokenizer *t, bool skip_special, bool continues_text);
/* Control tokens that produce their text all the same: markers that who reads the text looks for. A few; they outlive
 * d. Before the first id is fed. */
void detokenizer_show(struct detokenizer *d, const int32_t *ids, size_t n);
void detokenizer_feed(struct detokenizer *d, int32_t id, struct buf *out); /* appends what became whole */
void detokenizer_finish(struct detokenizer *d, struct buf *out);           /* flushes what never became whole */

#endif
