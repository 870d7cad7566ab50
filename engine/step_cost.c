/* Least squares of relative errors: minimize the sum of (1 - cost . features / ns)^2. With x = features / ns the normal
 * equations are A cost = b, A = sum of x x^T, b = sum of x; a ridge on A's diagonal decides what A leaves open. They
 * are solved by coordinate descent from the last solution, each cost held at 0 or above (Franc, Hlavac and Navara,
 * "Sequential coordinate-wise algorithm for the non-negative least squares problem", 2005). */
#include "engine/step_cost.h"

#include <string.h>

#define SIZE_MEMORY 64.0 /* steps of a size after which an old one counts a third */
#define SWEEPS      16   /* of the descent for each step noted; it goes on with the next one */
#define SURPRISE    1.5  /* times the expected: what is longer counts as this much */
#define RELIEF      0.6  /* times the expected: a step this short shows that the ones before it were disturbed */
#define TRUSTED     8    /* steps of a size, before which no step is a surprise */
#define PACE_STEPS  32   /* over so many the pace is taken; at first, none is taken for so many */
#define MIXED_MOST  2.0  /* times as long as the sum says, or half */
#define WARM_UP     1    /* steps that are not counted: they bring the weights into memory */
/* A slow machine, for each byte of weights: 1 GB/s from its disk; 20 G multiply-adds a second of a byte and a row. */
#define SLOW_READ_NS 1.0
#define SLOW_ROW_NS  0.05

/* Units in which a feature counts for about as much as one more of another. */
static const double unit[COST_FEATURES] = {1, 1, 1, 1, 1, 1, 1.0 / 256, 1.0 / 256};
/* Of the ridge: the larger, the less of an undecided time is put down to the feature. */
static const double reluctance[COST_FEATURES] = {1e-4, 1e-2, 1e-3, 1e-2, 1e-2, 1, 1, 1};

void step_cost_init(struct step_cost *c)
{
    memset(c, 0, sizeof *c);
    c->pace = c->mixed = 1;
}

static double beyond(double rows, double bend)
{
    return rows > bend ? rows - bend : 0;
}

static void features_of(const struct step_shape *s, double f[COST_FEATURES])
{
    double rows = s->decode_rows + s->prefill_rows;
    f[COST_STEP] = 1;
    f[COST_MANY] = rows > 1;
    f[COST_ROWS] = rows;
    f[COST_ROWS_1] = beyond(rows, COST_BEND_1);
    f[COST_ROWS_2] = beyond(rows, COST_BEND_2);
    f[COST_SAMPLED] = s->sampled_rows;
    f[COST_DECODE_READS] = s->decode_reads * unit[COST_DECODE_READS];
    f[COST_PREFILL_READS] = s->prefill_reads * unit[COST_PREFILL_READS];
}

static bool is_mixed(const struct step_shape *s)
{
    return s->decode_rows > 0 && s->prefill_rows > 0;
}

double step_cost_of(const struct step_cost *c, const struct step_shape *shape)
{
    double f[COST_FEATURES], ns = 0;
    features_of(shape, f);
    for (int i = 0; i < COST_FEATURES; i++) {
        ns += c->ns[i] * f[i];
    }
    return ns * c->pace * (is_mixed(shape) ? c->mixed : 1);
}

static int size_of(const struct step_shape *shape)
{
    double rows = shape->decode_rows + shape->prefill_rows, bound = 1;
    int size = 0;
    for (; size < COST_SIZES - 1 && rows > bound; size++) {
        bound *= 2;
    }
    return size;
}

static bool knows_size(const struct step_cost *c, const struct step_shape *shape)
{
    for (int size = size_of(shape); size < COST_SIZES; size++) {
        if (c->sizes[size].n > 0) {
            return true;
        }
    }
    return false;
}

double step_cost_bound(const struct step_cost *c, const struct step_shape *shape, double weights_size)
{
    double rows = shape->decode_rows + shape->prefill_rows, expected = step_cost_of(c, shape);
    double slow = weights_size * (SLOW_READ_NS + rows * SLOW_ROW_NS);
    return knows_size(c, shape) || expected > slow ? expected : slow;
}

static void decay(struct cost_sums *s, double keep)
{
    s->n *= keep;
    for (int i = 0; i < COST_FEATURES; i++) {
        s->sums[i] *= keep;
        for (int k = 0; k < COST_FEATURES; k++) {
            s->products[i][k] *= keep;
        }
    }
}

static void add(struct cost_sums *s, const double f[COST_FEATURES], double ns)
{
    s->n++;
    for (int i = 0; i < COST_FEATURES; i++) {
        s->sums[i] += f[i] / ns;
        for (int k = 0; k < COST_FEATURES; k++) {
            s->products[i][k] += f[i] / ns * (f[k] / ns);
        }
    }
}

static void sum_up(const struct step_cost *c, struct cost_sums *all)
{
    memset(all, 0, sizeof *all);
    for (int size = 0; size < COST_SIZES; size++) {
        const struct cost_sums *s = &c->sizes[size];
        all->n += s->n;
        for (int i = 0; i < COST_FEATURES && s->n > 0; i++) {
            all->sums[i] += s->sums[i];
            for (int k = 0; k < COST_FEATURES; k++) {
                all->products[i][k] += s->products[i][k];
            }
        }
    }
}

static void solve(struct step_cost *c)
{
    struct cost_sums all;
    sum_up(c, &all);
    double scale = all.products[COST_STEP][COST_STEP] / all.n; /* mean of 1 / ns^2 */
    for (int sweep = 0; sweep < SWEEPS; sweep++) {
        for (int i = 0; i < COST_FEATURES; i++) {
            double rest = all.sums[i];
            for (int k = 0; k < COST_FEATURES; k++) {
                rest -= k == i ? 0 : all.products[i][k] * c->ns[k];
            }
            double ns = rest / (all.products[i][i] + reluctance[i] * scale);
            c->ns[i] = ns > 0 ? ns : 0;
        }
    }
}

static void follow_pace(struct step_cost *c, double ns, double expected)
{
    if (c->n_steps > WARM_UP + PACE_STEPS && expected > 0) {
        c->pace += (ns / expected - 1) * c->pace / PACE_STEPS; /* expected has the pace in it */
    }
}

static void follow_mixed(struct step_cost *c, double ns, double expected)
{
    double mixed = c->mixed + (ns / expected - 1) * c->mixed / PACE_STEPS;
    c->mixed = mixed > MIXED_MOST ? MIXED_MOST : mixed < 1 / MIXED_MOST ? 1 / MIXED_MOST : mixed;
}

void step_cost_note(struct step_cost *c, const struct step_shape *shape, double ns)
{
    struct cost_sums *s = &c->sizes[size_of(shape)];
    double f[COST_FEATURES], expected = step_cost_of(c, shape);
    if (!(ns > 0) || c->n_steps++ < WARM_UP) {
        return;
    }
    if (s->n >= TRUSTED && expected > 0 && ns > SURPRISE * expected) {
        ns = SURPRISE * expected;
    }
    decay(s, s->n > 1 && ns < RELIEF * expected ? 0.5 : 1 - 1 / SIZE_MEMORY);
    follow_pace(c, ns, expected);
    if (is_mixed(shape) && s->n >= TRUSTED && expected > 0) {
        follow_mixed(c, ns, expected);
    }
    features_of(shape, f);
    add(s, f, ns);
    solve(c);
}
