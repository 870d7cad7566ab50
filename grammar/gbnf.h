/* llama.cpp's grammar notation (GBNF) to llguidance's Lark: CONSTRAINT_LARK's text. All of its syntax: rules with
 * "::=", alternation, groups, literals, character classes with ranges and negation, ".", the repetitions ? * + {m} {m,}
 * {m,n}, tokens as <[id]> and <name> (their negation by id only), comments, and its escapes (\n \r \t \\ \" \[ \] \xHH
 * \uHHHH \UHHHHHHHH). The rule `root` is the answer.
 *
 * GBNF speaks of characters, llguidance of lexemes, each as long as it can be. Rules that do not lead back to
 * themselves are one regular expression, which means the same in both. Of the others, the parts that are regular become
 * lexemes where that does not change what the grammar allows; where it might, their single characters do, which costs
 * more for each token. */
#ifndef TANDEM_GRAMMAR_GBNF_H
#define TANDEM_GRAMMAR_GBNF_H

#include "base/buf.h"

#define GBNF_MAX_NODES 65536 /* literals, classes, references, groups and repetitions of one grammar */
#define GBNF_MAX_DEPTH 64    /* groups within groups */
#define GBNF_MAX_COUNT 65535 /* of a repetition */

/* Appends the Lark grammar to out, which bounds it. INVALID says what is wrong at which line and column (in
 * characters); TOO_LARGE past the limits above or out's; NO_MEMORY. Any thread. */
NODISCARD bool gbnf_to_lark(struct str gbnf, struct buf *out, struct error *err);

#endif
