/* Fits of one group of elements to evenly spaced levels, for quantize.c: the search of scale and minimum. */
#ifndef TANDEM_TENSOR_QUANTIZE_FIT_H
#define TANDEM_TENSOR_QUANTIZE_FIT_H

#include <stdbool.h>
#include <stdint.h>

#define FIT_MAX 256 /* elements of a group */

struct fit_group {
    const float *x, *w; /* [n] elements and their weights; n a multiple of 8, at most FIT_MAX */
    int n;
    float lo, hi; /* codes are integers from lo to hi */
};

/* x is about scale * q + min. */
struct fit {
    float scale, min;
};

/* Sums over the group with codes q = the nearest to (x - min) / scale. */
struct fit_sums {
    double q, qq, xq, w, x, xx; /* of w q, w q^2, w x q, w, w x, w x^2 */
};
struct fit_sums fit_sums(const struct fit_group *g, struct fit f);

/* sum of w (x - (scale q + min))^2 */
double fit_error(const struct fit_group *g, struct fit f);

/* The nearest codes, minus `lo`: from 0. */
void fit_codes(const struct fit_group *g, struct fit f, uint8_t *codes);

/* The best scale found with min 0; of either sign. */
struct fit fit_scale(const struct fit_group *g);

/* The best scale (not negative) and minimum found; below_zero: the minimum is at most 0. lo is 0. */
struct fit fit_affine(const struct fit_group *g, bool below_zero);

#endif
