/* Guesses from what a text repeats: copies, copies with edits, loops, a client's prediction; and what their hit rates
 * teach. */
#include "engine/lookup.h"

#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MAX 8

static uint32_t below(uint64_t seed, uint32_t at, uint32_t n)
{
    return (uint32_t)(rng_uniform(seed, at, 0, 0, RNG_SAMPLE) * n);
}

/* Reads the text token by token behind n_prompt and counts the tokens whose guess was right. */
static uint32_t count_right(struct lookup *l, const int32_t *ids, uint32_t n_prompt, uint32_t n)
{
    uint32_t right = 0;
    int32_t guess[MAX];
    float p[MAX];
    for (uint32_t i = n_prompt; i < n; i++) {
        lookup_read(l, ids, n_prompt, i);
        assert_int_equal(lookup_n_read(l), i);
        uint32_t n_guesses = lookup_guess(l, MAX, 0, guess, p);
        assert_true(n_guesses <= MAX);
        for (uint32_t k = 0; k < n_guesses; k++) {
            assert_true(guess[k] >= 0 && p[k] > 0 && p[k] < 1 && (k == 0 || p[k] < p[k - 1]));
        }
        right += n_guesses > 0 && guess[0] == ids[i];
    }
    return right;
}

static struct lookup *create(const int32_t *prediction, uint32_t n)
{
    struct lookup *l = lookup_create(prediction, n);
    assert_non_null(l);
    return l;
}

/* Distinct tokens, so that every repetition is one on purpose. */
static void fill(int32_t *ids, uint32_t n, int32_t first)
{
    for (uint32_t i = 0; i < n; i++) {
        ids[i] = first + (int32_t)i;
    }
}

static void copies_are_followed(void **state)
{
    (void)state;
    int32_t ids[230];
    fill(ids, 130, 1000);
    memcpy(ids + 130, ids + 20, 100 * sizeof *ids);
    struct lookup *l = create(NULL, 0);
    assert_int_equal(count_right(l, ids, 130, 230), 99); /* all but the first */
    lookup_free(l);
}

static void several_tokens_are_guessed(void **state)
{
    (void)state;
    int32_t ids[140], guess[MAX];
    float p[MAX];
    fill(ids, 130, 1000);
    memcpy(ids + 130, ids + 20, 10 * sizeof *ids);
    struct lookup *l = create(NULL, 0);
    lookup_read(l, ids, 130, 140);
    assert_int_equal(lookup_guess(l, 5, 0, guess, p), 5);
    assert_memory_equal(guess, ids + 30, 5 * sizeof *ids);
    assert_int_equal(lookup_guess(l, 5, 0.999 * (double)p[2], guess, p), 3); /* stops where it becomes less likely */
    lookup_free(l);
}

/* One token replaced, some left out, some put in: the copy goes on after few wrong guesses. */
static void edits_are_survived(void **state)
{
    (void)state;
    int32_t ids[400];
    uint32_t n = 200;
    fill(ids, 200, 1000);
    for (uint32_t i = 0; i < 180; i++) {
        if (i == 40) {
            ids[n++] = 5; /* replaced */
            continue;
        }
        if (i == 80) {
            i += 6; /* left out */
        }
        if (i == 120) {
            ids[n++] = 6; /* put in */
            ids[n++] = 7;
        }
        ids[n++] = 1000 + (int32_t)i;
    }
    struct lookup *l = create(NULL, 0);
    uint32_t right = count_right(l, ids, 200, n);
    assert_true(right >= n - 200 - 1 - 2 - 1 - 3 - 1); /* the first; the new tokens and those behind them */
    lookup_free(l);
}

/* A text that goes round is guessed beyond its own end. */
static void loops_are_guessed(void **state)
{
    (void)state;
    int32_t ids[40], guess[MAX], expected[MAX] = {1, 2, 3, 1, 2, 3, 1, 2};
    float p[MAX];
    for (uint32_t i = 0; i < 40; i++) {
        ids[i] = 1 + (int32_t)(i % 3);
    }
    struct lookup *l = create(NULL, 0);
    lookup_read(l, ids, 6, 39);
    assert_int_equal(lookup_guess(l, MAX, 0, guess, p), MAX);
    assert_memory_equal(guess, expected, sizeof expected);
    lookup_free(l);
}

static void predictions_are_followed(void **state)
{
    (void)state;
    int32_t prediction[100], ids[200];
    fill(prediction, 100, 1000);
    fill(ids, 50, 5000);
    /* As predicted, from the first token on. */
    memcpy(ids + 50, prediction, 100 * sizeof *ids);
    struct lookup *l = create(prediction, 100);
    assert_int_equal(count_right(l, ids, 50, 150), 100);
    lookup_free(l);
    /* Behind some other words, with an edit, and with words after it: nothing is guessed beyond the prediction's end.
     */
    fill(ids + 50, 10, 7000);
    memcpy(ids + 60, prediction, 100 * sizeof *ids);
    ids[100] = 3;
    fill(ids + 160, 10, 8000);
    l = create(prediction, 100);
    assert_int_equal(count_right(l, ids, 50, 170), 100 - 1 - 2);
    lookup_free(l);
    /* An empty one, and one of a token. */
    l = create(prediction, 0);
    assert_int_equal(count_right(l, ids, 50, 60), 0);
    lookup_free(l);
    l = create(prediction, 1);
    assert_int_equal(count_right(l, prediction, 1, 50), 0);
    lookup_free(l);
}

/* The probabilities follow what was right: on noise they fall below any use, on a copy they rise. */
static void rates_are_learned(void **state)
{
    (void)state;
    enum { N = 600 };
    int32_t *ids = calloc(2 * N, sizeof *ids), guess[MAX];
    float p[MAX];
    for (uint32_t i = 0; i < N; i++) {
        ids[i] = (int32_t)below(3, i, 20); /* so few that something always matches */
    }
    struct lookup *l = create(NULL, 0);
    lookup_read(l, ids, 10, N);
    assert_int_equal(lookup_guess(l, MAX, 0.25, guess, p), 0);
    fill(ids + N, N / 3, 100);
    for (uint32_t i = N / 3; i < N; i++) {
        ids[N + i] = ids[N + i - N / 3];
    }
    lookup_read(l, ids, 10, 2 * N - N / 3);
    assert_int_equal(lookup_guess(l, MAX, 0.8, guess, p), MAX);
    lookup_free(l);
    free(ids);
}

/* Read at once or token by token, after a preemption or a resume: the same guesses. */
static void pieces_do_not_matter(void **state)
{
    (void)state;
    enum { N = 400 };
    int32_t ids[N], a[MAX], b[MAX];
    float p[MAX], q[MAX];
    for (uint32_t i = 0; i < N; i++) {
        ids[i] = i > 60 && i % 50 < 30 ? ids[i - 47] : (int32_t)below(9, i, 300);
    }
    struct lookup *whole = create(ids, 30), *pieces = create(ids, 30);
    for (uint32_t n = 1; n < N; n += 1 + below(5, n, 40)) {
        lookup_read(pieces, ids, 100, n);
    }
    lookup_read(pieces, ids, 100, N);
    lookup_read(whole, ids, 100, N);
    lookup_read(whole, ids, 100, N);
    uint32_t n = lookup_guess(whole, MAX, 0, a, p);
    assert_int_equal(lookup_guess(pieces, MAX, 0, b, q), n);
    assert_memory_equal(a, b, n * sizeof *a);
    assert_memory_equal(p, q, n * sizeof *p);
    lookup_free(whole);
    lookup_free(pieces);
}

/* Random texts and predictions: never a guess that is no token of them. */
static void random_texts(void **state)
{
    (void)state;
    enum { N = 500 };
    int32_t ids[N], prediction[100];
    for (uint32_t seed = 0; seed < 200; seed++) {
        uint32_t n_vocab = 1 + below(seed, 0, 30), n_prediction = below(seed, 1, 100),
                 n_prompt = 1 + below(seed, 2, 100);
        for (uint32_t i = 0; i < N; i++) {
            ids[i] = (int32_t)below(seed + 1000, i, n_vocab);
        }
        for (uint32_t i = 0; i < n_prediction; i++) {
            prediction[i] = (int32_t)below(seed + 2000, i, n_vocab);
        }
        struct lookup *l = create(prediction, n_prediction);
        (void)count_right(l, ids, n_prompt, N);
        lookup_free(l);
    }
}

static void acceptance(void **state)
{
    (void)state;
    static const float prior[ACCEPTANCE_KINDS] = {0.5f, 0.9f};
    struct acceptance a = {0};
    assert_true(acceptance_of(&a, prior, 1) > 0.89 && acceptance_of(&a, prior, 1) < 0.91);
    for (int i = 0; i < 200; i++) {
        acceptance_note(&a, 0, i % 4 == 0);
    }
    assert_true(acceptance_of(&a, prior, 0) > 0.15 && acceptance_of(&a, prior, 0) < 0.4);
    for (int i = 0; i < 100; i++) {
        acceptance_note(&a, 0, true);
    }
    assert_true(acceptance_of(&a, prior, 0) > 0.85);
    assert_true(acceptance_of(&a, prior, 1) > 0.89); /* kinds do not mix */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copies_are_followed),
        cmocka_unit_test(several_tokens_are_guessed),
        cmocka_unit_test(edits_are_survived),
        cmocka_unit_test(loops_are_guessed),
        cmocka_unit_test(predictions_are_followed),
        cmocka_unit_test(rates_are_learned),
        cmocka_unit_test(pieces_do_not_matter),
        cmocka_unit_test(random_texts),
        cmocka_unit_test(acceptance),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
