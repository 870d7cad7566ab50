/* The n-gram index beside a search of the whole text, on random texts of few and of many different tokens. */
#include "engine/ngram.h"

#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define N 3000

static uint32_t below(uint64_t seed, uint32_t at, uint32_t n)
{
    return (uint32_t)(rng_uniform(seed, at, 0, 0, RNG_SAMPLE) * n);
}

/* The longest match, the newest of equal ones; of matches of 3 and more when there are any. */
static struct ngram_match search(const int32_t *ids, uint32_t n)
{
    struct ngram_match best = {0};
    for (uint32_t at = n - 1; at > 0; at--) {
        uint32_t length = ngram_common(ids, n, at);
        if (length > best.length) {
            best = (struct ngram_match){at, length};
        }
    }
    return best;
}

/* Random tokens, with pieces of what stood before. */
static void make_text(uint64_t seed, uint32_t n_vocab, int32_t *ids)
{
    for (uint32_t i = 0; i < N; i++) {
        ids[i] = (int32_t)below(seed, i, n_vocab);
        if (i > 50 && below(seed + 1000, i, 20) == 0) {
            uint32_t from = below(seed + 2000, i, i - 45), n = 1 + below(seed + 3000, i, 45);
            for (uint32_t k = 0; k < n && i < N; k++) {
                ids[i++] = ids[from + k];
            }
            i--;
        }
    }
}

static void as_a_search(void **state)
{
    (void)state;
    static const uint32_t vocabularies[] = {2, 5, 50, 1000, 49152};
    int32_t *ids = calloc(N, sizeof *ids);
    for (uint32_t v = 0; v < 5; v++) {
        struct ngram g;
        ngram_init(&g, UINT32_MAX);
        make_text(v, vocabularies[v], ids);
        for (uint32_t n = 1, step = 1; n <= N; n += step, step = 1 + below(v, n, 4)) {
            struct ngram_match expected = search(ids, n), got;
            assert_true(ngram_extend(&g, ids, n));
            got = ngram_find(&g, ids, n);
            assert_int_equal(got.length, expected.length);
            assert_int_equal(got.at, expected.at);
        }
        ngram_release(&g);
    }
    free(ids);
}

/* With few tries a match is still one, and a long one is found where its n-grams are rare. */
static void tries_are_bounded(void **state)
{
    (void)state;
    struct ngram g;
    int32_t *ids = calloc(N, sizeof *ids);
    make_text(7, 5, ids);
    ngram_init(&g, 4);
    for (uint32_t n = 1; n <= N; n++) {
        assert_true(ngram_extend(&g, ids, n));
        struct ngram_match m = ngram_find(&g, ids, n);
        assert_true(m.at < n);
        if (m.length) {
            assert_int_equal(m.length, ngram_common(ids, n, m.at));
        }
    }
    for (uint32_t i = 0; i < 5; i++) {
        ids[100 + i] = ids[N - 5 + i] = 1000 + (int32_t)i;
    }
    ngram_release(&g);
    assert_true(ngram_extend(&g, ids, N));
    struct ngram_match m = ngram_find(&g, ids, N);
    assert_int_equal(m.at, 105);
    assert_int_equal(m.length, 5);
    ngram_release(&g);
    free(ids);
}

/* Beyond the window old places are forgotten, new ones found, and memory does not grow. */
static void window(void **state)
{
    (void)state;
    enum { LONG = 3 * NGRAM_WINDOW };
    struct ngram g;
    int32_t *ids = calloc(LONG, sizeof *ids);
    ngram_init(&g, NGRAM_TRIES);
    for (uint32_t i = 0; i < LONG; i++) {
        ids[i] = (int32_t)i;
    }
    uint32_t old = LONG - NGRAM_WINDOW - 100, recent = LONG - NGRAM_WINDOW / 2;
    for (uint32_t n = 1; n < LONG; n += 977) {
        assert_true(ngram_extend(&g, ids, n));
    }
    for (uint32_t i = 0; i < 4; i++) {
        ids[LONG - 4 + i] = ids[old - 4 + i];
    }
    assert_true(ngram_extend(&g, ids, LONG));
    assert_int_equal(g.cap, NGRAM_WINDOW);
    assert_int_equal(ngram_find(&g, ids, LONG).length, 0);
    for (uint32_t i = 0; i < 4; i++) {
        ids[LONG - 4 + i] = ids[recent - 4 + i];
    }
    assert_int_equal(ngram_find(&g, ids, LONG).at, recent);
    ngram_release(&g);
    /* A long text at once: only its last part is worth indexing. */
    assert_true(ngram_extend(&g, ids, LONG));
    assert_int_equal(ngram_find(&g, ids, LONG).at, recent);
    ngram_release(&g);
    free(ids);
}

static void nothing_yet(void **state)
{
    (void)state;
    static const int32_t ids[] = {5, 6, 5, 5};
    struct ngram g;
    ngram_init(&g, NGRAM_TRIES);
    assert_int_equal(ngram_find(&g, ids, 1).length, 0);
    assert_true(ngram_extend(&g, ids, 1));
    assert_int_equal(ngram_find(&g, ids, 1).length, 0);
    assert_true(ngram_extend(&g, ids, 3));
    assert_int_equal(ngram_find(&g, ids, 3).at, 1);
    assert_true(ngram_extend(&g, ids, 4));
    assert_int_equal(ngram_find(&g, ids, 4).at, 3); /* the newest of equal ones: what follows is known */
    ngram_release(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_a_search),
        cmocka_unit_test(tries_are_bounded),
        cmocka_unit_test(window),
        cmocka_unit_test(nothing_yet),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
