/* What steps take, learned from made-up machines: one whose time is reading weights until rows are many, one whose time
 * is rows; with noise, with steps that were held up, with a change of the machine. */
#include "engine/step_cost.h"

#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

struct machine {
    double weights, row, sample, decode_read, prefill_read; /* ns */
    bool overlaps;                                          /* rows are computed while weights are read */
};

static const struct machine reading = {4e6, 0.45e6, 0.1e6, 300, 500, true};
static const struct machine computing = {12e6, 3.3e6, 0.2e6, 900, 1200, false};

static double time_of(const struct machine *m, const struct step_shape *s)
{
    double rows = m->row * (s->decode_rows + s->prefill_rows);
    double both = m->overlaps && rows < m->weights ? m->weights : m->overlaps ? rows : m->weights + rows;
    return both + m->sample * s->sampled_rows + m->decode_read * s->decode_reads + m->prefill_read * s->prefill_reads;
}

struct bench {
    struct step_cost cost;
    uint32_t at; /* of the random numbers */
};

static double uniform(struct bench *b)
{
    return rng_uniform(11, b->at++, 0, 0, RNG_SAMPLE);
}

static uint32_t below(struct bench *b, uint32_t n)
{
    return (uint32_t)(uniform(b) * n);
}

static struct step_shape decode(double rows, double context)
{
    return (struct step_shape){rows, 0, rows, rows * context, 0};
}

static struct step_shape mixed(double rows, double context, double prefill, double prefill_context)
{
    return (struct step_shape){rows, prefill, rows + (prefill > 0), rows * context, prefill * prefill_context};
}

/* Up to a tenth more than the machine needs; one step in twenty is held up for three times as long. */
static void note(struct bench *b, const struct machine *m, struct step_shape shape)
{
    double noise = 1 + 0.1 * uniform(b) + (below(b, 20) == 0 ? 3 : 0);
    step_cost_note(&b->cost, &shape, time_of(m, &shape) * noise);
}

static void assert_close(const struct bench *b, const struct machine *m, struct step_shape shape, double tolerance)
{
    double got = step_cost_of(&b->cost, &shape), expected = 1.05 * time_of(m, &shape);
    if (got < expected * (1 - tolerance) || got > expected * (1 + tolerance)) {
        fail_msg("%g + %g rows: %g ms instead of %g", shape.decode_rows, shape.prefill_rows, got / 1e6, expected / 1e6);
    }
}

/* What a server does: a prompt, one stream, some guesses, then many streams with prompts among them. */
static void learn(struct bench *b, const struct machine *m)
{
    step_cost_init(&b->cost);
    struct step_shape cold = mixed(0, 0, 40, 20);
    step_cost_note(&b->cost, &cold, 10 * time_of(m, &cold));
    for (uint32_t i = 0; i < 100; i++) {
        note(b, m, decode(1, 40 + i));
    }
    note(b, m, mixed(0, 0, 60, 30));
    for (uint32_t i = 0; i < 200; i++) {
        note(b, m, decode(1 + below(b, 10), 140 + below(b, 100)));
    }
    for (uint32_t i = 0; i < 300; i++) {
        note(b, m, mixed(16, 200 + i, below(b, 3) ? below(b, 240) : 0, below(b, 1000)));
    }
}

static void check_all(const struct bench *b, const struct machine *m)
{
    for (int rows = 1; rows <= 16; rows += rows < 4 ? 1 : 4) {
        assert_close(b, m, decode(rows, 250), 0.2);
    }
    for (int prefill = 0; prefill <= 240; prefill += 40) {
        assert_close(b, m, mixed(16, 300, prefill, 500), 0.15);
    }
}

static void learns_a_machine(void **state)
{
    const struct machine *machines[] = {&reading, &computing};
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct bench b = {0};
        learn(&b, machines[i]);
        check_all(&b, machines[i]);
    }
}

/* What rows of a guess cost beside one stream is what decides about guesses. */
static void knows_what_another_row_costs(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        const struct machine *m = i ? &computing : &reading;
        struct bench b = {0};
        learn(&b, m);
        struct step_shape one = decode(1, 250), two = decode(2, 250), five = decode(5, 250);
        double row = (step_cost_of(&b.cost, &five) - step_cost_of(&b.cost, &one)) / 4;
        double true_row = (time_of(m, &five) - time_of(m, &one)) / 4;
        assert_true(row < 1.5 * true_row + 0.03 * time_of(m, &one));
        assert_true(row > 0.6 * true_row - 0.03 * time_of(m, &one));
        assert_true(step_cost_of(&b.cost, &two) >= step_cost_of(&b.cost, &one));
    }
}

/* Before anything but single rows was seen, another row is held to be cheap: so it is tried. */
static void is_hopeful(void **state)
{
    (void)state;
    struct bench b = {0};
    step_cost_init(&b.cost);
    assert_true(step_cost_of(&b.cost, &(struct step_shape){1, 0, 1, 50, 0}) == 0);
    for (uint32_t i = 0; i < 50; i++) {
        note(&b, &computing, decode(1, 50 + i));
    }
    struct step_shape one = decode(1, 100), two = decode(2, 100);
    assert_close(&b, &computing, one, 0.1);
    assert_true(step_cost_of(&b.cost, &two) < 1.25 * step_cost_of(&b.cost, &one));
}

/* Hours of one stream do not wash out what is known of large steps. */
static void remembers(void **state)
{
    (void)state;
    struct bench b = {0};
    learn(&b, &computing);
    for (uint32_t i = 0; i < 20000; i++) {
        note(&b, &computing, decode(1, 40 + i % 1000));
    }
    check_all(&b, &computing);
}

/* Half as fast (a core is gone), and back again. */
static void follows(void **state)
{
    (void)state;
    struct bench b = {0};
    struct machine slow = computing;
    slow.weights *= 2;
    slow.row *= 2;
    slow.sample *= 2;
    slow.decode_read *= 2;
    learn(&b, &computing);
    for (uint32_t i = 0; i < 400; i++) {
        note(&b, &slow, decode(4, 200));
    }
    assert_close(&b, &slow, decode(4, 200), 0.15);
    for (uint32_t i = 0; i < 120; i++) {
        note(&b, &computing, decode(4, 200));
    }
    assert_close(&b, &computing, decode(4, 200), 0.15);
}

/* A machine on which prompts beside decoding rows cost more than both alone: the sum cannot say that, the bound of
 * mixed steps has to. Steps of decode alone keep their price. */
static void knows_mixed_steps(void **state)
{
    (void)state;
    struct bench b = {0};
    learn(&b, &computing);
    for (uint32_t i = 0; i < 400; i++) {
        struct step_shape shape = mixed(16, 300, 20 + below(&b, 40), 500);
        step_cost_note(&b.cost, &shape, 1.4 * time_of(&computing, &shape));
        shape = decode(16, 300);
        step_cost_note(&b.cost, &shape, time_of(&computing, &shape));
    }
    for (int prefill = 20; prefill <= 60; prefill += 10) {
        struct step_shape shape = mixed(16, 300, prefill, 500);
        double ratio = step_cost_of(&b.cost, &shape) / (1.4 * time_of(&computing, &shape));
        assert_true(ratio > 0.95 && ratio < 1.1);
    }
    struct step_shape alone = decode(16, 300);
    double ratio = step_cost_of(&b.cost, &alone) / time_of(&computing, &alone);
    assert_true(ratio > 0.9 && ratio < 1.1);
}

/* What was never seen may take as long as on a slow machine; then the machine's own times count. */
static void bounds_what_it_has_not_seen(void **state)
{
    (void)state;
    struct bench b = {0};
    struct step_shape one = decode(1, 100), prompt = mixed(0, 0, 512, 256);
    const double size = 98e6;
    step_cost_init(&b.cost);
    double first = step_cost_bound(&b.cost, &prompt, size);
    assert_true(first > 2e9 && first < 4e9);
    for (int i = 0; i < 20; i++) {
        note(&b, &computing, one);
    }
    assert_true(step_cost_bound(&b.cost, &one, size) == step_cost_of(&b.cost, &one));
    assert_true(step_cost_bound(&b.cost, &prompt, size) >= first);
    note(&b, &computing, prompt);
    assert_true(step_cost_bound(&b.cost, &prompt, size) == step_cost_of(&b.cost, &prompt));
    struct step_shape smaller = mixed(0, 0, 300, 150);
    assert_true(step_cost_bound(&b.cost, &smaller, size) == step_cost_of(&b.cost, &smaller));
}

/* Never negative, never less with more rows, whatever times come. */
static void is_sane(void **state)
{
    (void)state;
    struct bench b = {0};
    step_cost_init(&b.cost);
    for (uint32_t i = 0; i < 2000; i++) {
        struct step_shape shape = mixed(below(&b, 40), below(&b, 3000), below(&b, 300), below(&b, 3000));
        step_cost_note(&b.cost, &shape, below(&b, 10) ? 1e9 * uniform(&b) * uniform(&b) : 0);
        double last = 0;
        for (int rows = 1; rows < 100; rows += 9) {
            struct step_shape more = decode(rows, 100);
            double ns = step_cost_of(&b.cost, &more);
            assert_true(ns >= last && ns < 1e12);
            last = ns;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(learns_a_machine),  cmocka_unit_test(knows_what_another_row_costs),
        cmocka_unit_test(is_hopeful),        cmocka_unit_test(remembers),
        cmocka_unit_test(follows),           cmocka_unit_test(is_sane),
        cmocka_unit_test(knows_mixed_steps), cmocka_unit_test(bounds_what_it_has_not_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
