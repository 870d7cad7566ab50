/* Counts of values under fixed upper bounds, as Prometheus wants them. A plain value; owned by one thread. */
#ifndef TANDEM_GATEWAY_HISTOGRAM_H
#define TANDEM_GATEWAY_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_MAX_BOUNDS 32

struct histogram {
    const double *bounds; /* [n] ascending, at most HISTOGRAM_MAX_BOUNDS; static storage */
    int n;
    uint64_t
        counts[HISTOGRAM_MAX_BOUNDS + 1]; /* of values up to their bound and above the one before; last: above all */
    double sum;
};

void histogram_init(struct histogram *h, const double *bounds, int n);
void histogram_add(struct histogram *h, double value, uint64_t n); /* n times the value */

#endif
