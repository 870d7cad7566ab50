/* Lines at the top of a system prompt that differ in every request and say nothing to a model. Claude Code puts a
 * checksum of the request there, behind which no cached prefix would be found. */
#ifndef TANDEM_API_VOLATILE_LINES_H
#define TANDEM_API_VOLATILE_LINES_H

#include "base/str.h"

#define VOLATILE_LINES(X)                                                                       \
    X("x-anthropic-billing-header:") /* what they begin with, whatever its case; for --help too \
                                      */

/* Bytes of those that the text begins with, line ends included, and how many they are, added to *n. Further down such a
 * line is left alone: it may be what the conversation is about. */
size_t volatile_lines_at(struct str text, uint64_t *n);

#endif
