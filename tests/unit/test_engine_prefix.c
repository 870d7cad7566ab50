/* The prefix cache alone: chains of keys, windows, eviction from the end, expectation. */
#include "engine/prefix_cache.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define PAGE_TOKENS 4
#define N_BLOCKS    10

struct bench {
    struct kv_geometry geometry;
    struct kv_pool *kv;
    struct prefix_cache *cache;
    struct sha256 keys[N_BLOCKS];
    uint32_t pages[KV_MAX_GROUPS][N_BLOCKS];
};

static void open_bench(struct bench *b, int n_groups, int window, size_t n_pages)
{
    struct error err = {0};
    int32_t ids[PAGE_TOKENS];
    *b = (struct bench){.geometry = {.n_groups = n_groups, .page_size = {64, 64}, .pool_size = 64 * n_pages}};
    b->kv = kv_pool_create(&b->geometry, &err);
    struct prefix_cache_options options = {
        .kv = b->kv, .n_groups = n_groups, .page_tokens = PAGE_TOKENS, .n_nodes = 32};
    options.window[n_groups - 1] = window;
    b->cache = prefix_cache_create(&options, &err);
    assert_non_null(b->cache);
    struct sha256 parent = sha256_of("root", 4);
    for (int32_t i = 0; i < N_BLOCKS; i++) {
        for (int k = 0; k < PAGE_TOKENS; k++) {
            ids[k] = 7; /* equal blocks: only their parents differ */
        }
        parent = b->keys[i] = prefix_key(b->cache, &parent, ids);
    }
}

static void close_bench(struct bench *b)
{
    struct error err = {0};
    assert_true(prefix_check(b->cache, &err));
    assert_true(kv_check(b->kv, NULL, &err));
    prefix_cache_free(b->cache);
    kv_pool_free(b->kv);
}

static void fill(struct bench *b, uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i < to; i++) {
        for (int g = 0; g < b->geometry.n_groups; g++) {
            b->pages[g][i] = kv_alloc(b->kv, g);
            assert_int_not_equal(b->pages[g][i], KV_PAGE_NONE);
            prefix_insert(b->cache, &b->keys[i], i, g, b->pages[g][i]);
        }
    }
}

static void release(struct bench *b, int group, uint32_t from, uint32_t to)
{
    for (uint32_t i = to; i > from; i--) {
        kv_release(b->kv, group, b->pages[group][i - 1]);
    }
}

static uint32_t match(const struct bench *b, uint32_t n)
{
    return prefix_match(b->cache, b->keys, n).n_blocks;
}

static void chains(void **state)
{
    (void)state;
    struct bench b;
    uint32_t table[N_BLOCKS];
    uint32_t *const tables[KV_MAX_GROUPS] = {table};
    open_bench(&b, 1, 0, 20);
    assert_int_equal(match(&b, N_BLOCKS), 0);
    fill(&b, 0, 6);
    assert_int_equal(match(&b, N_BLOCKS), 6);
    assert_int_equal(match(&b, 4), 4);
    release(&b, 0, 0, 6);
    prefix_take(b.cache, b.keys, 6, tables);
    for (uint32_t i = 0; i < 6; i++) {
        assert_int_equal(table[i], b.pages[0][i]);
        assert_int_equal(kv_refs(b.kv, 0, table[i]), 1);
    }
    release(&b, 0, 0, 6);
    prefix_forget(b.cache, &b.keys[2]);
    assert_int_equal(match(&b, N_BLOCKS), 2);
    prefix_clear(b.cache);
    assert_int_equal(match(&b, N_BLOCKS), 0);
    assert_int_equal(kv_counts(b.kv).cached, 0);
    close_bench(&b);
}

/* The pool is full of an unreferenced chain; every page taken shortens it from its end. */
static void children_are_evicted_before_parents(void **state)
{
    (void)state;
    struct bench b;
    open_bench(&b, 1, 0, N_BLOCKS);
    fill(&b, 0, N_BLOCKS);
    release(&b, 0, 0, N_BLOCKS);
    for (uint32_t i = N_BLOCKS; i > 0; i--) {
        assert_int_equal(match(&b, N_BLOCKS), i);
        assert_int_not_equal(kv_alloc(b.kv, 0), KV_PAGE_NONE);
    }
    assert_int_equal(match(&b, N_BLOCKS), 0);
    assert_int_equal(kv_alloc(b.kv, 0), KV_PAGE_NONE);
    close_bench(&b);
}

/* A hit needs what its next token sees: with a window of 9 and pages of 4, the last 3 pages, but all in the full group.
 */
static void windows(void **state)
{
    (void)state;
    struct bench b;
    uint32_t full[N_BLOCKS], windowed[N_BLOCKS];
    uint32_t *const tables[KV_MAX_GROUPS] = {full, windowed};
    open_bench(&b, 2, 9, 40);
    assert_int_equal(prefix_first_visible(8, 9, PAGE_TOKENS), 0);
    assert_int_equal(prefix_first_visible(13, 9, PAGE_TOKENS), 1);
    fill(&b, 0, 8);
    release(&b, 1, 0, 8);
    for (uint32_t i = 0; i < 3; i++) {
        prefix_forget(b.cache, &b.keys[i]);
    }
    assert_int_equal(match(&b, N_BLOCKS), 0); /* forgetting takes the pages of all groups */
    close_bench(&b);

    open_bench(&b, 2, 9, 16);
    fill(&b, 0, 8);
    for (uint32_t i = 0; i < 8; i++) { /* in the order in which they leave a window */
        kv_release(b.kv, 1, b.pages[1][i]);
    }
    for (uint32_t i = 0; i < 3; i++) { /* takes the pages of the window group's blocks 0, 1 and 2 */
        assert_int_not_equal(kv_alloc(b.kv, 0), KV_PAGE_NONE);
    }
    assert_int_equal(match(&b, 8), 8);
    assert_int_equal(match(&b, 6), 6); /* sees blocks 3, 4, 5: 24 - 9 = 15 */
    assert_int_equal(match(&b, 5), 0); /* would see block 2 */
    prefix_take(b.cache, b.keys, 8, tables);
    assert_int_equal(windowed[4], KV_PAGE_NONE);
    assert_int_equal(windowed[5], b.pages[1][5]);
    assert_int_equal(full[0], b.pages[0][0]);
    assert_int_equal(kv_refs(b.kv, 0, full[0]), 2);
    assert_int_equal(kv_refs(b.kv, 1, windowed[7]), 1);
    close_bench(&b);
}

static void expectation(void **state)
{
    (void)state;
    struct bench b;
    open_bench(&b, 1, 0, 20);
    fill(&b, 0, 2);
    assert_true(prefix_expect(b.cache, &b.keys[2]));
    assert_true(prefix_expect(b.cache, &b.keys[2]));
    struct prefix_match m = prefix_match(b.cache, b.keys, N_BLOCKS);
    assert_int_equal(m.n_blocks, 2);
    assert_true(m.expected && m.wait_for == 2);
    m = prefix_match(b.cache, b.keys, 2); /* who needs no more does not wait */
    assert_false(m.expected);
    prefix_unexpect(b.cache, &b.keys[2]);
    assert_true(prefix_expected(b.cache, &b.keys[2]));
    prefix_unexpect(b.cache, &b.keys[2]);
    assert_false(prefix_expected(b.cache, &b.keys[2]));
    assert_false(prefix_match(b.cache, b.keys, N_BLOCKS).expected);
    close_bench(&b);
}

/* A group of states has pages of few blocks: hits end with them, chains go on behind them. What somebody waits for is
 * wanted for as long as somebody computes it. */
static void states(void **state)
{
    (void)state;
    struct bench b;
    uint32_t full[N_BLOCKS], states[N_BLOCKS];
    uint32_t *const tables[KV_MAX_GROUPS] = {full, states};
    open_bench(&b, 2, 2, 40);
    for (uint32_t i = 0; i < 8; i++) {
        for (int g = 0; g < (i == 2 || i == 5 ? 2 : 1); g++) {
            b.pages[g][i] = kv_alloc(b.kv, g);
            prefix_insert(b.cache, &b.keys[i], i, g, b.pages[g][i]);
        }
    }
    struct prefix_match m = prefix_match(b.cache, b.keys, N_BLOCKS);
    assert_int_equal(m.n_blocks, 6);
    assert_int_equal(m.n_chain, 8);
    m = prefix_match(b.cache, b.keys, 5);
    assert_int_equal(m.n_blocks, 3);
    assert_int_equal(m.n_chain, 5);
    assert_int_equal(match(&b, 2), 0);
    prefix_take(b.cache, b.keys, 6, tables);
    assert_int_equal(states[2], KV_PAGE_NONE);
    assert_int_equal(states[5], b.pages[1][5]);
    assert_int_equal(full[0], b.pages[0][0]);

    prefix_want(b.cache, &b.keys[5]);
    assert_false(prefix_wanted(b.cache, &b.keys[5])); /* nobody computes it */
    assert_true(prefix_expect(b.cache, &b.keys[5]));
    assert_true(prefix_expect(b.cache, &b.keys[5]));
    prefix_want(b.cache, &b.keys[5]);
    prefix_unexpect(b.cache, &b.keys[5]);
    assert_true(prefix_wanted(b.cache, &b.keys[5]));
    prefix_unexpect(b.cache, &b.keys[5]);
    assert_true(prefix_expect(b.cache, &b.keys[5]));
    assert_false(prefix_wanted(b.cache, &b.keys[5]));
    prefix_unexpect(b.cache, &b.keys[5]);
    close_bench(&b);
}

/* A block that is there already keeps its page; without nodes nothing is remembered, and nothing breaks. */
static void limits(void **state)
{
    (void)state;
    struct bench b;
    struct error err = {0};
    open_bench(&b, 1, 0, 20);
    fill(&b, 0, 1);
    uint32_t other = kv_alloc(b.kv, 0);
    prefix_insert(b.cache, &b.keys[0], 0, 0, other);
    assert_false(kv_is_cached(b.kv, 0, other));
    close_bench(&b);

    open_bench(&b, 1, 0, 20);
    struct prefix_cache_options options = {.kv = b.kv, .n_groups = 1, .page_tokens = PAGE_TOKENS, .n_nodes = 3};
    prefix_cache_free(b.cache);
    b.cache = prefix_cache_create(&options, &err);
    fill(&b, 0, 5);
    assert_int_equal(match(&b, N_BLOCKS), 3);
    assert_false(prefix_expect(b.cache, &b.keys[8]));
    close_bench(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chains),  cmocka_unit_test(children_are_evicted_before_parents),
        cmocka_unit_test(windows), cmocka_unit_test(expectation),
        cmocka_unit_test(states),  cmocka_unit_test(limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
