/* What the text of a choice means: reasoning, answer, tool calls (chat/output.h), as events with the tokens that they
 * are made of. It takes the text of a choice as that is released, token by token, so that it stands at the same place
 * whatever the flush intervals were, and so that another reader can go on from any place:
 *
 *     steps    | token 0 | token 1 | token 2 | ... | end          a step gives pieces: none, one or several
 *     events   |---- reasoning ----|- call -|...                  neighbouring pieces of one kind become one event
 *     place    tokens whose pieces are all out, and the pieces of the next step that are
 *
 * Every token belongs to one event: the first one that reaches as far as its text does. So a token that is only a
 * marker, or white space that is dropped, or cut by a marker, goes with the event behind it; when there is none, with
 * an empty DELTA before the choice's FINISH. Reasoning tokens are those that came with REASONING: a marker that begins
 * it counts, the one that ends it counts to what follows.
 *
 * Its state is a function of the choice's tokens. Owned by the choice, the loop's thread. */
#ifndef TANDEM_PIPELINE_CHOICE_OUTPUT_H
#define TANDEM_PIPELINE_CHOICE_OUTPUT_H

#include "pipeline/generation.h"

struct choice;
struct choice_output;

/* A place in an answer: so many tokens, and so many pieces of what comes next. */
struct gen_place {
    uint32_t n, pieces;
};

static inline bool gen_place_is_start(struct gen_place p)
{
    return p.n == 0 && p.pieces == 0;
}

/* prompt, choice: whose calls these are, for their ids. */
NODISCARD struct choice_output *choice_output_create(const struct gen_request *r, uint32_t prompt, uint32_t choice,
                                                     struct error *err);
void choice_output_free(struct choice_output *o); /* NULL is fine */

/* Its reader has everything before this place: it is not given out. */
void choice_output_skip(struct choice_output *o, struct gen_place place);

/* The next event out of what the choice has released; kind, text and call of *event are set, and which tokens of the
 * choice belong to it. False: there is none now; or the parser has failed and err says why. Views live until the next
 * call. */
bool choice_output_next(struct choice_output *o, const struct choice *c, struct gen_event *event, size_t *first_token,
                        size_t *n_tokens, struct error *err);

/* The choice has ended and everything is out. */
bool choice_output_ended(const struct choice_output *o);
struct gen_place choice_output_place(const struct choice_output *o, const struct choice *c); /* of what is out */
uint64_t choice_output_reasoning(const struct choice_output *o);                             /* tokens */
uint32_t choice_output_calls(const struct choice_output *o);
struct gen_call choice_output_call(const struct choice_output *o); /* the one at hand, or the last; of n > 0 */

#endif
