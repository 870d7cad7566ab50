/* Percentiles of durations, of all time and of the last minute, in bounded memory. Durations are counted in buckets
 * that are a thirty-second to a sixteenth of their value wide (16 to an octave), of which percentiles are read by
 * interpolation: within 6.25% of the true one, whatever the number of values.
 *
 *     all   | counts of all buckets |
 *     ring  | 5 s | 5 s | ... 13 slots ... | 5 s, the present one |      the last minute: 60 to 65 s
 *
 * A plain value, zeroed is empty; owned by one thread. */
#ifndef TANDEM_GATEWAY_PERCENTILES_H
#define TANDEM_GATEWAY_PERCENTILES_H

#include <stdint.h>

#define PERCENTILES_BUCKETS 528 /* up to 2^36 us, 19 hours; longer ones count as that */
#define PERCENTILES_SLOTS   13
#define PERCENTILES_SLOT_MS 5000

struct percentiles {
    uint64_t all[PERCENTILES_BUCKETS];
    struct {
        int64_t id; /* monotonic time / PERCENTILES_SLOT_MS + 1; 0: never used */
        uint32_t counts[PERCENTILES_BUCKETS];
    } ring[PERCENTILES_SLOTS];
};

struct quantiles { /* microseconds; -1 when there was nothing */
    int64_t p50, p95, p99;
    uint64_t n; /* values they are of */
};

void percentiles_add(struct percentiles *p, int64_t now_ms, int64_t us, uint64_t n); /* n times; us below 0 is 0 */
struct quantiles percentiles_all(const struct percentiles *p);
struct quantiles percentiles_recent(const struct percentiles *p, int64_t now_ms);

#endif
