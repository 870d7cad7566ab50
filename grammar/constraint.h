/* Constraints while decoding: from a spec (grammar/constraint_spec.h) to the mask of the tokens that may come next.
 * Owns llguidance's tokenizers and matchers; the sampler applies the masks, and the engine decides when to ask.
 *
 *     vocab = constraint_vocab_create(tokenizer, &options, err);            once per model
 *     cache = constraint_cache_create(vocab);
 *     c = constraint_cache_get(cache, spec_bytes, "response_format", err);  any thread; not in a step
 *     s = constraint_state_create(c, err);                                  one per choice; not in a step
 *     constraint_state_replay(s, ids, n, err);                              to resume
 *     each step: if (constraint_state_mask(s, mask, err) == 1) ...sample with mask...
 *                constraint_state_accept(s, id, err);
 *
 * A state is a pure function of its constraint and the ids accepted. It is an automaton:
 *
 *     START -----> THINK <----> FREE        START: the first token opens the reasoning or is the grammar's (binding)
 *       |            |            | trigger  THINK: up to think_end, or forced_end when the budget is used up
 *       |            v            v          FREE: any text; of a lazy grammar, or of none
 *       +-------> (GAP) ---> CONSTRAINED --> DONE
 *
 * GAP: behind the reasoning two tokens of white space may come that the grammar knows nothing of, since models are used
 * to write them there. DONE: nothing but an end of generation. Whatever ends a generation is allowed exactly when the
 * grammar may end; with a binding grammar never inside the reasoning. */
#ifndef TANDEM_GRAMMAR_CONSTRAINT_H
#define TANDEM_GRAMMAR_CONSTRAINT_H

#include "grammar/constraint_spec.h"
#include "text/tokenizer.h"

/* ---- vocabulary: const, shared, any thread ---- */

/* What one grammar may cost, in llguidance's units: how it bounds the time of a call. */
struct constraint_limits {
    uint32_t compile_ms;   /* until a grammar is refused, whatever it still does */
    uint64_t compile_fuel; /* 50,000 a millisecond */
    uint64_t mask_fuel;    /* of one mask: 14,000 a millisecond */
    size_t mask_items;     /* of one mask: 20,000 a millisecond */
    size_t lexer_states;   /* of one state: 1 to 2 KiB each */
    size_t grammar_size;   /* symbols */
};

struct constraint_vocab_options {
    int32_t n_vocab; /* width of the model's logits, at least the tokenizer's vocabulary; 0: as wide. The ids between
                        are never allowed */
    /* Text that a grammar forces is written in the tokens that the tokenizer would make of it, where it is of a kind
     * that gives text back byte for byte (byte-level BPE): better text, as models saw it. Off: any tokens. */
    bool canonical;
    struct constraint_limits limits; /* zeros: the defaults of constraint_vocab.c */
};

struct constraint_vocab;
/* Keeps the tokenizer, which outlives it. Takes about half a second for 150,000 tokens. */
NODISCARD struct constraint_vocab *constraint_vocab_create(const struct tokenizer *t,
                                                           const struct constraint_vocab_options *options,
                                                           struct error *err);
void constraint_vocab_free(struct constraint_vocab *v);          /* outlives its constraints; waits for grammars whose
                                                                    compiling was given up */
int32_t constraint_vocab_size(const struct constraint_vocab *v); /* n_vocab */
/* uint32_t of a mask: the ids that are allowed, as base/bits.h has them; bits past n_vocab are clear. */
size_t constraint_vocab_mask_words(const struct constraint_vocab *v);

/* ---- constraints: const, counted, any thread ---- */

struct constraint;
/* Compiles a grammar, bounded by the vocabulary's limits. INVALID for what is wrong in it, with its place where it has
 * one and `field` (a request's, or NULL) as param and in front; UNSUPPORTED for what costs too much, time included;
 * OVERLOADED while too many are compiled. Takes a thread with a stack by the grammar's size meanwhile. Not in a step.
 */
NODISCARD struct constraint *constraint_compile(const struct constraint_vocab *v, const struct constraint_spec *spec,
                                                const char *field, struct error *err);
struct constraint *constraint_retain(struct constraint *c); /* c */
void constraint_release(struct constraint *c);              /* NULL is fine */

#define CONSTRAINT_CACHE_SIZE 64 /* constraints kept though nobody uses them */

struct constraint_cache; /* of compiled constraints by digest; the least recently used goes first; any thread */
struct constraint_cache *constraint_cache_create(const struct constraint_vocab *v); /* NULL when memory fails */
void constraint_cache_free(struct constraint_cache *cache);
/* Of an encoded spec. Release it. Two threads that ask for the same new one may both compile it. */
NODISCARD struct constraint *constraint_cache_get(struct constraint_cache *cache, struct str spec, const char *field,
                                                  struct error *err);

/* ---- states: one thread at a time ---- */

struct constraint_state;
NODISCARD struct constraint_state *constraint_state_create(struct constraint *c, struct error *err); /* retains c */
void constraint_state_free(struct constraint_state *s);

/* The tokens that may come next. 1: mask [constraint_vocab_mask_words] says which; 0: all may, and mask is not written
 * to; -1: the constraint cannot be kept up (UNSUPPORTED: it ran out of fuel), which ends the request: a state that has
 * failed fails for ever. */
NODISCARD int constraint_state_mask(struct constraint_state *s, uint32_t *mask, struct error *err);

/* The token that was written next. False for one that the last mask had not allowed (INTERNAL), and for a failed state.
 */
NODISCARD bool constraint_state_accept(struct constraint_state *s, int32_t id, struct error *err);
NODISCARD bool constraint_state_replay(struct constraint_state *s, const int32_t *ids, size_t n, struct error *err);

/* No mask applies, and none is needed to say so: what comes next may be guessed, or sampled before this is asked again.
 */
bool constraint_state_is_free(const struct constraint_state *s);

int32_t constraint_state_forced(const struct constraint_state *s); /* the only token that may come next; -1: several, or
                                                                      only a mask can say */
bool constraint_state_can_stop(struct constraint_state *s);        /* the generation may end here */
bool constraint_state_done(const struct constraint_state *s);      /* and nothing else may come */
bool constraint_state_thinking(const struct constraint_state *s);  /* inside the reasoning */

#endif
