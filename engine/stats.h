/* A snapshot of the statistics that one thread writes and any thread reads without waiting: a sequence lock over atomic
 * words. The writer makes the count odd, writes the words, makes it even; a reader that saw an odd or a changed count
 * reads again. Words are released and acquired, so a reader that got a new word also sees the count move. */
#ifndef TANDEM_ENGINE_STATS_H
#define TANDEM_ENGINE_STATS_H

#include "wire/job.h"

#include <stdatomic.h>

#define STATS_WORDS (sizeof(struct engine_stats) / sizeof(uint64_t))

struct stats_snapshot {
    _Atomic uint64_t count;
    _Atomic uint64_t words[STATS_WORDS];
};

void stats_publish(struct stats_snapshot *s, const struct engine_stats *stats); /* one thread */
void stats_read(struct stats_snapshot *s, struct engine_stats *out);            /* any thread */

#endif
