/* The heap and the linear search merge alike: against the definition, one pair at a time. */
#include "text/merge.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

/* Symbols are numbers modulo 16, found from their text; a pair merges by a table that a seed fills. */
struct rules {
    uint32_t key[64][64]; /* 0: does not merge */
    int32_t id[64][64];
};

static bool pair(const void *model, struct str word, const struct symbol *l, const struct symbol *r, uint32_t *key,
                 int32_t *id)
{
    const struct rules *rules = model;
    (void)word;
    *key = rules->key[l->id][r->id];
    *id = rules->id[l->id][r->id];
    return *key != 0;
}

static uint32_t next(uint32_t *x)
{
    *x = *x * 1664525u + 1013904223u;
    return *x >> 8;
}

static size_t merge_by_definition(const struct rules *rules, int32_t *ids, size_t n)
{
    for (;;) {
        size_t best = n;
        for (size_t i = 0; i + 1 < n; i++)
            if (rules->key[ids[i]][ids[i + 1]] &&
                (best == n || rules->key[ids[i]][ids[i + 1]] < rules->key[ids[best]][ids[best + 1]]))
                best = i;
        if (best == n)
            return n;
        ids[best] = rules->id[ids[best]][ids[best + 1]];
        memmove(&ids[best + 1], &ids[best + 2], (n - best - 2) * sizeof *ids);
        n--;
    }
}

static void check(const struct rules *rules, uint32_t *x, size_t n, struct merge_scratch *s)
{
    struct error err = {0};
    int32_t ids[400];
    char text[400] = {0};
    assert_true(merge_reserve(s, n, &err));
    for (size_t i = 0; i < n; i++) {
        ids[i] = (int32_t)(next(x) % 8);
        s->symbols[i] = (struct symbol){(uint32_t)i, 1, ids[i]};
    }
    s->n = n;
    assert_true(merge_symbols(s, (struct str){text, n}, pair, rules, &err));
    size_t want = merge_by_definition(rules, ids, n);
    assert_int_equal(s->n, want);
    uint32_t at = 0;
    for (size_t i = 0; i < want; i++) {
        assert_int_equal(s->symbols[i].id, ids[i]);
        assert_int_equal(s->symbols[i].at, at); /* they still cover the word */
        at += s->symbols[i].len;
    }
    assert_int_equal(at, n);
}

static void test_against_definition(void **state)
{
    (void)state;
    uint32_t x = 11;
    struct merge_scratch s = {0};
    struct rules *rules = malloc(sizeof *rules);
    assert_non_null(rules);
    for (int round = 0; round < 60; round++) {
        for (int l = 0; l < 64; l++)
            for (int r = 0; r < 64; r++) {
                /* keys are unique to what the pair makes, as ranks are; few pairs merge, so that words stay long */
                rules->key[l][r] = next(&x) % 3 ? 0 : 1 + (uint32_t)(l * 64 + r);
                rules->id[l][r] = 8 + (int32_t)(next(&x) % 56);
            }
        for (size_t n = 0; n <= 12; n++)
            check(rules, &x, n, &s);
        check(rules, &x, 40, &s);
        check(rules, &x, 41, &s);
        check(rules, &x, 100 + next(&x) % 300, &s);
    }
    free(rules);
    merge_scratch_release(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_against_definition)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
