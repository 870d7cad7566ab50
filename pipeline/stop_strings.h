/* Stop strings in a growing text. The match that ends first wins, and among those the one that begins first, so that
 * the result does not depend on how the text arrived. Text that may still become a stop string is held back. */
#ifndef TANDEM_PIPELINE_STOP_STRINGS_H
#define TANDEM_PIPELINE_STOP_STRINGS_H

#include "base/str.h"

struct stop_match {
    size_t begin, end; /* bytes of the text */
    size_t which;      /* index of the stop string */
};

/* Looks for a match that ends in (checked, text.len] and begins at or after `from`; everything before `checked` was
 * searched before. */
bool stop_strings_find(const struct str *stops, size_t n_stops, struct str text, size_t from, size_t checked,
                       struct stop_match *match);

/* How many bytes of text are safe to show: all but the longest tail (beginning at or after `from`) that is a proper
 * prefix of a stop string. */
size_t stop_strings_safe(const struct str *stops, size_t n_stops, struct str text, size_t from);

#endif
