/* What a choice may write, as the bytes that a SUBMIT frame carries (struct job: constraint, constraint_size): a
 * grammar, when it begins to hold, and how reasoning comes before it. Made by the pipeline, compiled by
 * grammar/constraint.h. Plain values: the views belong to whoever filled them.
 *
 * Without triggers a grammar is binding: it holds for the whole answer, or for all that follows the reasoning. With
 * triggers (a lazy grammar: automatic tool calls) the answer is free text until one of them was written; what follows
 * obeys the grammar, to the end. */
#ifndef TANDEM_GRAMMAR_CONSTRAINT_SPEC_H
#define TANDEM_GRAMMAR_CONSTRAINT_SPEC_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/hash.h"

#define CONSTRAINT_SPEC_VERSION 1

enum constraint_kind {
    CONSTRAINT_NONE,        /* only a thinking budget */
    CONSTRAINT_LARK,        /* llguidance's Lark, with %json inside; its rule `start` is the answer */
    CONSTRAINT_JSON_SCHEMA, /* as grammar/schema_widen.h leaves it; not in general what a client sent */
    CONSTRAINT_REGEX,       /* of the `regex` crate of Rust; the whole answer matches */
    CONSTRAINT_CHOICE,      /* a JSON array of strings: the answer is one of them */
    CONSTRAINT_KIND_COUNT
};

struct constraint_ids {
    const int32_t *ids; /* [n] */
    uint32_t n;
};

struct constraint_spec {
    enum constraint_kind kind;
    struct str grammar;
    const struct str *triggers; /* [n_triggers] texts; none is empty */
    uint32_t n_triggers;
    /* Reasoning: tokens that begin and end it; think_start may be empty when it is open from the beginning. n 0 of
     * both: the model does not reason. A binding grammar holds from the first token when the first is not think_start.
     */
    struct constraint_ids think_start, think_end;
    bool think_open;                  /* the prompt has opened it */
    int32_t think_budget;             /* tokens of reasoning at most; -1: no limit */
    struct constraint_ids forced_end; /* written when the budget is used up; think_end when n is 0 */
};

struct constraint_spec constraint_spec_none(void); /* kind NONE, no limit */

/* Counts, sizes and values by themselves: INVALID or TOO_LARGE. Not whether the grammar compiles. */
NODISCARD bool constraint_spec_check(const struct constraint_spec *spec, struct error *err);

/* Checks, and appends at most LIMIT_CONSTRAINT bytes. */
NODISCARD bool constraint_spec_encode(const struct constraint_spec *spec, struct buf *out, struct error *err);

/* Arrays in the arena, texts as views into bytes. PROTOCOL for what constraint_spec_encode would not have written. */
NODISCARD bool constraint_spec_decode(struct str bytes, struct arena *arena, struct constraint_spec *spec,
                                      struct error *err);

struct sha256 constraint_spec_digest(struct str bytes); /* of an encoded one: equal ones behave the same */

#endif
