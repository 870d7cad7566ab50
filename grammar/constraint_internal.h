/* Shared by grammar/constraint*.c. */
#ifndef TANDEM_GRAMMAR_CONSTRAINT_INTERNAL_H
#define TANDEM_GRAMMAR_CONSTRAINT_INTERNAL_H

#include "base/bits.h"
#include "grammar/constraint.h"
#include "grammar/llguidance_abi.h"
#include "grammar/trigger_scan.h"

#include <stdatomic.h>

struct compile_gate; /* threads that compile; owned by a vocabulary */

struct constraint_vocab {
    const struct tokenizer *tokenizer;
    struct LlgTokenizer *llg;
    struct compile_gate *gate;
    struct constraint_limits limits;
    int32_t n_vocab, n_tokens; /* n_tokens: those that the tokenizer has */
    size_t n_words;            /* of a mask */
    uint32_t *eog;             /* [n_words] ends of generation */
    uint32_t *space;           /* [n_words] tokens of nothing but white space */
    uint32_t *all;             /* [n_words] all but the ends of generation */
    int32_t byte_ids[256];     /* canonical: the token of a single byte, or -1 */
};

enum gate_result {
    GATE_COMPILED,
    GATE_REFUSED, /* the matcher says why */
    GATE_LATE,
    GATE_BUSY,
    GATE_NO_MEMORY
};

struct compile_gate *constraint__gate_create(void); /* NULL when memory fails */
void constraint__gate_free(struct compile_gate *g); /* waits for those left behind */
/* Compiles the text, which it takes, within the vocabulary's limits; the matcher to *out when it was compiled or
 * refused. */
enum gate_result constraint__gate_compile(const struct constraint_vocab *v, const char *type, struct buf *text,
                                          struct LlgMatcher **out);

/* Behind `fed` bytes of token `id` a trigger may end, and the rest of it is no beginning of the grammar: a token that
 * must not be written where that is so. */
struct bad_end {
    int32_t id;
    uint32_t fed;
};

struct id_list {
    int32_t *ids;     /* [n] */
    uint32_t *border; /* [n] of ids[0..i]: how long its longest proper prefix is that is its suffix too */
    uint32_t n;
};

struct constraint {
    atomic_uint n_owners;
    const struct constraint_vocab *vocab;
    struct LlgMatcher *matcher;    /* at its beginning, to be cloned; NULL for CONSTRAINT_NONE */
    struct trigger_scan *triggers; /* NULL: binding, or CONSTRAINT_NONE */
    struct bad_end *bad_ends;      /* [n_bad_ends] by id */
    size_t n_bad_ends, bad_ends_cap;
    bool bad_at_once; /* one of them holds a whole trigger: it is bad though nothing of a trigger was written before */
    struct id_list think_start, think_end, forced_end;
    bool think_open;
    int32_t think_budget;
};

/* Behind the trigger a token goes on: is the rest of it a beginning of what the matcher allows, and then its tokens
 * into ids; the count, or 0. */
#define CONSTRAINT_REST_MAX 256 /* bytes; a longer rest of a token is not allowed */
size_t constraint__rest_tokens(const struct constraint *c, struct LlgMatcher *m, struct str rest,
                               uint32_t ids[CONSTRAINT_REST_MAX]);

/* Would the token end a trigger where the triggers' automaton is in this state? */
bool constraint__is_bad_end(const struct constraint *c, const struct bad_end *bad, uint32_t trigger);

struct LlgConstraintInit constraint__init(const struct constraint_vocab *v); /* with its limits */

/* Words that say that something costs too much, not that it is wrong. */
bool constraint__is_cost(struct str reason);
/* llguidance's words in one line; its "3(7): " as "line 3, column 7: ", or left out. */
void constraint__reason(const char *words, bool with_place, char *out, size_t size);

#endif
