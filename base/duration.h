/* Durations as people write them: "5m", "1h30m", "300ms", "1.5s"; a number alone is seconds. Any thread. */
#ifndef TANDEM_BASE_DURATION_H
#define TANDEM_BASE_DURATION_H

#include "base/str.h"

#include <stdint.h>

#define DURATION_MAX_MS INT64_C(3153600000000) /* 100 years; longer ones are that */

/* Milliseconds; -1 for every negative one, which stands for "for ever" where durations say how long something stays.
 * False: it is none. Units: h, m, s, ms. */
bool duration_parse(struct str text, int64_t *ms);

#endif
