/* Finds the first of several texts in a stream of bytes, however it is cut: an Aho-Corasick automaton as one table.
 * Const after creation; the caller keeps the state, a number. */
#ifndef TANDEM_GRAMMAR_TRIGGER_SCAN_H
#define TANDEM_GRAMMAR_TRIGGER_SCAN_H

#include "base/error.h"
#include "base/str.h"

struct trigger_scan;

/* texts: [n], none empty, at most LIMIT_TRIGGERS of LIMIT_TRIGGER_SIZE bytes; copied. NULL: NO_MEMORY. */
NODISCARD struct trigger_scan *trigger_scan_create(const struct str *texts, size_t n, struct error *err);
void trigger_scan_free(struct trigger_scan *s);

/* Feeds bytes from *state on (0 at the beginning) and leaves the new state there. Returns how many bytes were fed up to
 * the end of the first text that ends in them, or STR_NPOS; where one text is the end or the beginning of another, the
 * one that ends first. */
size_t trigger_scan_feed(const struct trigger_scan *s, uint32_t *state, struct str bytes);

/* Whether a text may end behind these bytes, from some state: it ends with them, or they with it. */
bool trigger_scan_may_end(const struct trigger_scan *s, struct str bytes);

#endif
