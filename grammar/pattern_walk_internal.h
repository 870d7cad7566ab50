/* Regular expressions of ECMA-262 as the ones of another language, from left to right: what the two that are written
 * here have in common (json_schema_pattern.c's for PCRE2, schema_pattern.c's for llguidance). Each part of the pattern
 * is taken from `in` and appended to `out`, as it is or as something else; functions that do so are true, and false
 * when the pattern is refused. */
#ifndef TANDEM_GRAMMAR_PATTERN_WALK_INTERNAL_H
#define TANDEM_GRAMMAR_PATTERN_WALK_INTERNAL_H

#include "base/buf.h"

/* \s without U+FEFF, for the inside of a class. */
#define PATTERN_SPACES \
    "\\x{9}-\\x{d}\\x{20}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"

struct pattern_walk {
    struct str in;
    size_t at;
    struct buf *out;
    bool in_class, negated; /* negated: of the class */
    const char *fault;      /* why the pattern is refused; NULL: it is not */
    size_t fault_len;       /* of what it is refused for, from `at` on */
};

struct str pattern__rest(const struct pattern_walk *w);
int pattern__peek(const struct pattern_walk *w, size_t ahead); /* a byte; -1: behind the end */

bool pattern__refuse(struct pattern_walk *w, size_t len, const char *fault); /* false */
bool pattern__put(struct pattern_walk *w, const char *text, size_t n_taken);
bool pattern__copy(struct pattern_walk *w, size_t n); /* the next n bytes as they are */

/* An escape that means the same in both languages: \0, \cX, whatever is no letter, and those letters. False: it is none
 * of these, and nothing is said about it yet. */
bool pattern__put_escape(struct pattern_walk *w, const char *letters);

bool pattern__begin_class(struct pattern_walk *w); /* "[" or "[^" */
/* One character of a class, or its end; with a backslash before those that the other language takes for something. */
bool pattern__put_in_class(struct pattern_walk *w, const char *special);

#endif
