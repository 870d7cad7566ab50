/* The share of a prediction beside a plain computation of the longest common subsequence. */
#include "pipeline/prediction.h"

#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define MAX 300

static uint32_t below(uint64_t seed, uint32_t at, uint32_t n)
{
    return (uint32_t)(rng_uniform(seed, at, 0, 0, RNG_SAMPLE) * n);
}

/* lcs: [n + 1] of the answer so far with each beginning of the prediction. */
static void add_plainly(uint32_t *lcs, const int32_t *ids, uint32_t n, int32_t id)
{
    uint32_t diagonal = 0;
    for (uint32_t i = 1; i <= n; i++) {
        uint32_t above = lcs[i], longer = above > lcs[i - 1] ? above : lcs[i - 1];
        lcs[i] = ids[i - 1] == id ? diagonal + 1 : longer;
        diagonal = above;
    }
}

static void as_computed_plainly(void **state)
{
    (void)state;
    static const uint32_t lengths[] = {0, 1, 2, 63, 64, 65, 127, 128, 129, MAX};
    for (uint32_t k = 0; k < 10; k++) {
        for (uint32_t n_vocab = 1; n_vocab < 200; n_vocab = n_vocab * 3 + 1) {
            int32_t ids[MAX];
            uint32_t lcs[MAX + 1] = {0}, n = lengths[k];
            struct prediction p;
            for (uint32_t i = 0; i < n; i++) {
                ids[i] = (int32_t)below(n_vocab, i, n_vocab);
            }
            assert_true(prediction_init(&p, ids, n));
            for (uint32_t i = 0; i < 2 * MAX; i++) {
                int32_t id = (int32_t)below(77 + n_vocab, i, n_vocab);
                prediction_add(&p, id);
                add_plainly(lcs, ids, n, id);
                assert_int_equal(p.n_accepted, lcs[n]);
            }
            prediction_release(&p);
        }
    }
}

static void right_but_for_an_edit(void **state)
{
    (void)state;
    int32_t ids[200];
    struct prediction p;
    for (int i = 0; i < 200; i++) {
        ids[i] = i;
    }
    assert_true(prediction_init(&p, ids, 200));
    for (int i = 0; i < 200; i++) {
        prediction_add(&p, i == 70 ? 1000 : i);
    }
    assert_int_equal(p.n_accepted, 199);
    prediction_release(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(as_computed_plainly), cmocka_unit_test(right_but_for_an_edit)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
