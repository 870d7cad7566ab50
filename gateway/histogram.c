#include "gateway/histogram.h"

#include <assert.h>

void histogram_init(struct histogram *h, const double *bounds, int n)
{
    assert(n <= HISTOGRAM_MAX_BOUNDS);
    *h = (struct histogram){.bounds = bounds, .n = n};
}

void histogram_add(struct histogram *h, double value, uint64_t n)
{
    int i = 0;
    while (i < h->n && value > h->bounds[i]) {
        i++;
    }
    h->counts[i] += n;
    h->sum += value * (double)n;
}
