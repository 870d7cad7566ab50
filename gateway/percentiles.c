#include "gateway/percentiles.h"

#include <string.h>

#define SUB_BITS   4 /* 2^SUB_BITS buckets to an octave */
#define SUB        (1 << SUB_BITS)
#define MAX_OCTAVE 35

/* Values below 16 have a bucket each; from there on the bucket is the octave and the four bits below its leading one.
 */
static int bucket_of(uint64_t us)
{
    int octave = SUB_BITS;
    if (us < SUB) {
        return (int)us;
    }
    while (octave < MAX_OCTAVE && us >> (octave + 1)) {
        octave++;
    }
    uint64_t sub = us >> (octave - SUB_BITS);
    return (octave - SUB_BITS) * SUB + (int)(sub < 2 * SUB ? sub : 2 * SUB - 1);
}

static double low_of(int bucket)
{
    int octave = bucket < SUB ? 0 : bucket / SUB - 1;
    return (double)((uint64_t)(bucket - octave * SUB) << octave);
}

_Static_assert((MAX_OCTAVE - SUB_BITS + 2) * SUB == PERCENTILES_BUCKETS, "the last bucket is the last");

void percentiles_add(struct percentiles *p, int64_t now_ms, int64_t us, uint64_t n)
{
    int64_t id = now_ms / PERCENTILES_SLOT_MS + 1;
    int at = (int)(id % PERCENTILES_SLOTS), bucket = bucket_of(us < 0 ? 0 : (uint64_t)us);
    if (p->ring[at].id != id) {
        p->ring[at].id = id;
        memset(p->ring[at].counts, 0, sizeof p->ring[at].counts);
    }
    p->all[bucket] += n;
    p->ring[at].counts[bucket] += (uint32_t)n;
}

/* The value that a share of them does not exceed. Within a bucket they count as evenly spread. */
static int64_t quantile(const uint64_t *counts, uint64_t total, double share)
{
    double rank = share * (double)total, seen = 0;
    for (int i = 0; i < PERCENTILES_BUCKETS; i++) {
        double here = (double)counts[i];
        if (counts[i] && seen + here >= rank) {
            double low = low_of(i), high = low_of(i + 1);
            return (int64_t)(low + (high - low) * (rank - seen) / here);
        }
        seen += here;
    }
    return -1;
}

static struct quantiles quantiles_of(const uint64_t *counts)
{
    uint64_t n = 0;
    for (int i = 0; i < PERCENTILES_BUCKETS; i++) {
        n += counts[i];
    }
    return (struct quantiles){quantile(counts, n, 0.5), quantile(counts, n, 0.95), quantile(counts, n, 0.99), n};
}

struct quantiles percentiles_all(const struct percentiles *p)
{
    return quantiles_of(p->all);
}

struct quantiles percentiles_recent(const struct percentiles *p, int64_t now_ms)
{
    int64_t id = now_ms / PERCENTILES_SLOT_MS + 1;
    uint64_t sum[PERCENTILES_BUCKETS] = {0};
    for (int slot = 0; slot < PERCENTILES_SLOTS; slot++) {
        if (p->ring[slot].id == 0 || p->ring[slot].id <= id - PERCENTILES_SLOTS || p->ring[slot].id > id) {
            continue;
        }
        for (int i = 0; i < PERCENTILES_BUCKETS; i++) {
            sum[i] += p->ring[slot].counts[i];
        }
    }
    return quantiles_of(sum);
}
