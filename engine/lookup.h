/* Guesses how a text goes on from where its last tokens stood before: in what the client predicted, in the prompt, in
 * the output so far. A cursor follows one earlier place as long as that is right; when it was wrong, the text is looked
 * for near the place where it was lost first (an edit: some tokens replaced, left out or put in), then everywhere.
 *
 *     ids     | prediction | -1 | prompt ................ | output .......... |
 *                    ^ cursor: ids[at] is the guess, at + 1 what would follow ...
 *
 * Every token of the output is compared with the guess of it, whether anybody asked for one: so it is known how often
 * guesses hold, by the length of what agrees before them, without computing anything for it.
 *
 * Bounded: one copy of the ids and what ngram.h says; O(1) per token. One caller at a time. When memory fails it only
 * stops guessing. */
#ifndef TANDEM_ENGINE_LOOKUP_H
#define TANDEM_ENGINE_LOOKUP_H

#include "engine/acceptance.h"
#include "engine/ngram.h"

struct lookup;

/* prediction: [n_prediction], copied; may be empty. NULL: no memory. */
struct lookup *lookup_create(const int32_t *prediction, uint32_t n_prediction);
void lookup_free(struct lookup *l);

/* Tokens from [lookup_n_read, n) are added; ids: [n] prompt and output. Those before n_prompt teach nothing. */
void lookup_read(struct lookup *l, const int32_t *ids, uint32_t n_prompt, uint32_t n);
uint32_t lookup_n_read(const struct lookup *l);

/* What may come next: up to max tokens to ids, and to p the probability that each and all before it are right. Stops
 * where that falls below min_p. Returns their number. */
uint32_t lookup_guess(const struct lookup *l, uint32_t max, double min_p, int32_t *ids, float *p);

#endif
