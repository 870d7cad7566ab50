#include "engine/stats.h"

#include <string.h>

void stats_publish(struct stats_snapshot *s, const struct engine_stats *stats)
{
    uint64_t words[STATS_WORDS], count = atomic_load_explicit(&s->count, memory_order_relaxed);
    memcpy(words, stats, sizeof words);
    atomic_store_explicit(&s->count, count + 1, memory_order_relaxed);
    for (size_t i = 0; i < STATS_WORDS; i++) {
        atomic_store_explicit(&s->words[i], words[i], memory_order_release);
    }
    atomic_store_explicit(&s->count, count + 2, memory_order_release);
}

void stats_read(struct stats_snapshot *s, struct engine_stats *out)
{
    uint64_t words[STATS_WORDS], before, after;
    do {
        before = atomic_load_explicit(&s->count, memory_order_acquire);
        for (size_t i = 0; i < STATS_WORDS; i++) {
            words[i] = atomic_load_explicit(&s->words[i], memory_order_acquire);
        }
        after = atomic_load_explicit(&s->count, memory_order_relaxed);
    } while (before != after || before % 2);
    memcpy(out, words, sizeof words);
}
