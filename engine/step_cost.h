/* What a step will take, learned from what steps took. Time is taken to be a sum of costs, none negative:
 *
 *     a step as such, one of more than a row, each row, each row beyond COST_BEND_1 and beyond COST_BEND_2 (few rows
 *     ride along while the weights are read), each sampled row, each position read by attention, in decode and prefill
 *
 * The costs are the non-negative least squares of relative errors over decayed sums, kept apart by size of step: a
 * thousand decode steps do not wash out what is known of large prefills. What steps have not told apart yet is held to
 * be cheap for the rows and dear for the step, so that a caller who wants another row tries it and learns. A step that
 * took far longer than expected (another process had the core) counts as one that took some longer. When all steps take
 * longer, or less long, than they did (cores come and go), that shows at once in a pace by which all costs are
 * multiplied, also those of sizes that do not occur now. What the sum gets wrong of steps that decode and prefill at
 * once, whose bounds on each other it does not know, is a factor of their own.
 *
 *     struct step_cost c;
 *     step_cost_init(&c);
 *     step_cost_note(&c, &shape, ns);            after every step
 *     ns = step_cost_of(&c, &another_shape);     0 until something is known
 *     ns = step_cost_bound(&c, &another_shape, weights_size);
 *
 * A plain value, pure: time comes from the caller. */
#ifndef TANDEM_ENGINE_STEP_COST_H
#define TANDEM_ENGINE_STEP_COST_H

#include <stdbool.h>
#include <stdint.h>

#define COST_BEND_1 8
#define COST_BEND_2 32

struct step_shape {
    double decode_rows, prefill_rows;
    double sampled_rows;                /* of either */
    double decode_reads, prefill_reads; /* positions that the rows attend to, summed over the rows */
};

enum step_feature {
    COST_STEP,
    COST_MANY,
    COST_ROWS,
    COST_ROWS_1,
    COST_ROWS_2,
    COST_SAMPLED,
    COST_DECODE_READS,
    COST_PREFILL_READS,
    COST_FEATURES
};

#define COST_SIZES 18 /* sizes of steps: 1 row, 2, up to 4, 8 ... */

struct cost_sums { /* of steps of one size, each divided by its time: products of features, and features */
    double n, products[COST_FEATURES][COST_FEATURES], sums[COST_FEATURES];
};

struct step_cost {
    struct cost_sums sizes[COST_SIZES];
    double ns[COST_FEATURES]; /* of each feature's unit, at pace 1 */
    double pace;              /* of late: what steps took, by what they should have taken */
    double mixed;             /* the same of steps of decode and prefill rows, beyond the pace */
    uint64_t n_steps;         /* noted */
};

void step_cost_init(struct step_cost *c);
void step_cost_note(struct step_cost *c, const struct step_shape *shape, double ns);
double step_cost_of(const struct step_cost *c, const struct step_shape *shape);
/* What the step may take for all that is known: the same where a step of as many rows was noted, else not less than on
 * a slow machine, reckoned from the bytes of the model's weights. */
double step_cost_bound(const struct step_cost *c, const struct step_shape *shape, double weights_size);

#endif
