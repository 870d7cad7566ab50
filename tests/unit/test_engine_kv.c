/* KV pages against a model that keeps plain lists: no page has two owners, none overlaps another's bytes, all come
 * back. */
#include "engine/kv.h"

#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MAX_PAGES 4096

struct naive {
    struct kv_geometry geometry;
    struct kv_pool *kv;
    uint32_t refs[KV_MAX_GROUPS][MAX_PAGES];
    bool cached[KV_MAX_GROUPS][MAX_PAGES];
    uint64_t released[KV_MAX_GROUPS][MAX_PAGES]; /* when the last reference went */
    uint64_t now, n_evicted;
    uint32_t draws;
    uint8_t *withdrawn; /* [pool_size] bytes that were given back; NULL: the pool is never limited */
    uint64_t n_withdrawn;
};

static uint32_t below(struct naive *m, uint32_t n)
{
    return (uint32_t)(rng_uniform(7, m->draws++, 0, 0, RNG_SAMPLE) * n);
}

/* owner: group << 16 | page */
static void evict(void *arg, int group, uint32_t owner)
{
    struct naive *m = arg;
    uint32_t page = owner & 0xffff;
    assert_int_equal(owner >> 16, group);
    assert_true(m->cached[group][page] && m->refs[group][page] == 0);
    for (int g = 0; g < m->geometry.n_groups && !m->withdrawn; g++) { /* nothing unreferenced is older */
        for (uint32_t i = 0; i < kv_n_pages(m->kv, g); i++) {
            assert_false(m->cached[g][i] && !m->refs[g][i] && m->released[g][i] < m->released[group][page]);
        }
    }
    m->cached[group][page] = false;
    m->n_evicted++;
    kv_uncache_page(m->kv, group, page);
}

static void recount(struct naive *m)
{
    const uint32_t *expected[KV_MAX_GROUPS];
    struct error err = {0};
    for (int g = 0; g < KV_MAX_GROUPS; g++) {
        expected[g] = m->refs[g];
    }
    if (!kv_check(m->kv, expected, &err)) {
        fail_msg("%s", err.msg);
    }
}

/* Every byte belongs to at most one page that is referenced or cached. */
static void no_overlap(const struct naive *m)
{
    uint8_t *used = calloc(m->geometry.pool_size, 1);
    for (int g = 0; g < m->geometry.n_groups; g++) {
        size_t size = m->geometry.page_size[g];
        for (uint32_t i = 0; i < kv_n_pages(m->kv, g); i++) {
            for (size_t b = 0; (m->refs[g][i] || m->cached[g][i]) && b < size; b++) {
                assert_true(i * size + b < m->geometry.pool_size);
                assert_int_equal(used[i * size + b]++, 0);
            }
        }
    }
    free(used);
}

static void take_page(struct naive *m, int g)
{
    uint32_t need[KV_MAX_GROUPS] = {0};
    need[g] = 1;
    bool possible = kv_can_alloc(m->kv, need);
    uint32_t page = kv_alloc(m->kv, g);
    assert_true(page != KV_PAGE_NONE || !possible);
    assert_true(page == KV_PAGE_NONE || possible || m->withdrawn); /* what is about to be withdrawn is not promised */
    if (page != KV_PAGE_NONE) {
        assert_true(m->refs[g][page] == 0 && !m->cached[g][page]);
        m->refs[g][page] = 1;
    }
}

/* ---- limits ---- */

static void withdraw(void *arg, size_t offset, size_t size)
{
    struct naive *m = arg;
    for (int g = 0; g < m->geometry.n_groups; g++) { /* nothing of it is in use */
        for (uint32_t i = 0; i < kv_n_pages(m->kv, g); i++) {
            size_t begin = i * m->geometry.page_size[g], end = begin + m->geometry.page_size[g];
            assert_false(begin < offset + size && offset < end && (m->refs[g][i] || m->cached[g][i]));
        }
    }
    memset(m->withdrawn + offset, 1, size);
    m->n_withdrawn++;
}

static void change_limit(struct naive *m)
{
    size_t size = below(m, 3) ? below(m, (uint32_t)m->geometry.pool_size) : m->geometry.pool_size;
    uint32_t referenced = (uint32_t)kv_counts(m->kv).referenced;
    kv_set_limit(m->kv, size);
    while (below(m, 4) && kv_shrink(m->kv, 1)) {
    }
    assert_int_equal(kv_counts(m->kv).referenced, referenced);
}

static void one_operation(struct naive *m)
{
    int g = (int)below(m, (uint32_t)m->geometry.n_groups);
    uint32_t page = below(m, kv_n_pages(m->kv, g));
    uint32_t *refs = &m->refs[g][page];
    bool *cached = &m->cached[g][page];
    m->now++;
    switch (below(m, 8)) {
    case 0:
    case 1:
        take_page(m, g);
        break;
    case 2:
        if (*refs || *cached) {
            kv_retain(m->kv, g, page);
            (*refs)++;
        }
        break;
    case 3:
        if (*refs && !*cached) {
            kv_cache_page(m->kv, g, page, (uint32_t)g << 16 | page);
            *cached = true;
        }
        break;
    case 4:
        if (*cached && below(m, 4) == 0) {
            *cached = false;
            kv_uncache_page(m->kv, g, page);
        }
        break;
    default:
        if (*refs) {
            (*refs)--; /* before it, for whoever is told of what is withdrawn */
            m->released[g][page] = m->now;
            kv_release(m->kv, g, page);
        }
    }
    assert_int_equal(kv_refs(m->kv, g, page), *refs);
    assert_int_equal(kv_is_cached(m->kv, g, page), *cached);
}

/* A pool like the one that is lost, with the pages that were cached there, in any order; what contradicts them or lies
 * across slabs is refused. */
static void adopt_all(struct naive *m)
{
    struct naive *old = calloc(1, sizeof *old);
    struct error err = {0};
    uint32_t n_adopted = 0, n_refused = 0;
    *old = *m;
    memset(m->refs, 0, sizeof m->refs);
    memset(m->cached, 0, sizeof m->cached);
    kv_pool_free(m->kv);
    m->kv = kv_pool_create(&m->geometry, &err);
    kv_on_evict(m->kv, evict, m);
    for (int pass = 0; pass < 2; pass++) { /* first those that were there, then all others */
        for (uint32_t k = 0; k < 2000; k++) {
            int g = (int)below(m, (uint32_t)m->geometry.n_groups);
            uint32_t page = below(m, kv_n_pages(m->kv, g) + 2);
            bool was = page < kv_n_pages(m->kv, g) && old->cached[g][page];
            if (pass == 0 && !was) {
                continue;
            }
            bool twice = page < kv_n_pages(m->kv, g) && m->cached[g][page];
            bool ok = kv_adopt_page(m->kv, g, page, (uint32_t)g << 16 | page);
            assert_true(!ok || !twice);
            assert_true(pass > 0 || ok == !twice);
            assert_true(!ok || page < kv_n_pages(m->kv, g));
            if (ok) {
                m->cached[g][page] = true;
                m->released[g][page] = ++m->now;
            }
            n_adopted += ok;
            n_refused += !ok;
        }
        recount(m);
        no_overlap(m);
    }
    assert_true(n_adopted > 10 && n_refused > 10);
    free(old);
}

static void random_operations(void **state)
{
    (void)state;
    static const struct kv_geometry geometries[] = {
        {1, {64}, 64 * 40 + 17},          {2, {48, 80}, 240 * 7 + 30},     /* a common multiple */
        {2, {1009, 1013}, 1013 * 16 * 6},                                  /* none: borders cut pages */
        {3, {24, 40, 60}, 120 * 12},      {2, {70, 2000}, 2000 * 12 + 90}, /* slabs are pages of the second */
    };
    for (size_t i = 0; i < sizeof geometries / sizeof geometries[0]; i++) {
        struct error err = {0};
        struct naive *m = calloc(1, sizeof *m);
        m->geometry = geometries[i];
        m->kv = kv_pool_create(&m->geometry, &err);
        assert_non_null(m->kv);
        kv_on_evict(m->kv, evict, m);
        for (int k = 0; k < 20000; k++) {
            one_operation(m);
            if (k % 50 == 0) {
                recount(m);
                no_overlap(m);
            }
        }
        assert_true(m->n_evicted > 100);
        for (int life = 0; life < 5; life++) {
            adopt_all(m);
            for (int k = 0; k < 1000; k++) {
                one_operation(m);
                if (k % 50 == 0) {
                    recount(m);
                    no_overlap(m);
                }
            }
        }
        for (int g = 0; g < m->geometry.n_groups; g++) {
            for (uint32_t page = 0; page < kv_n_pages(m->kv, g); page++) {
                for (; m->refs[g][page]; m->refs[g][page]--) {
                    kv_release(m->kv, g, page);
                    m->released[g][page] = ++m->now;
                }
            }
        }
        kv_evict_all(m->kv);
        recount(m);
        assert_int_equal(kv_counts(m->kv).referenced + kv_counts(m->kv).cached, 0);
        kv_pool_free(m->kv);
        free(m);
    }
}

/* The same while the limit goes up and down. In the end it is reached, and the whole pool comes back. */
static void limits_come_and_go(void **state)
{
    (void)state;
    static const struct kv_geometry geometries[] = {
        {1, {64}, 64 * 40 + 17}, {2, {48, 80}, 240 * 7 + 30}, {2, {1009, 1013}, 1013 * 16 * 6}};
    for (size_t i = 0; i < sizeof geometries / sizeof geometries[0]; i++) {
        struct error err = {0};
        struct naive *m = calloc(1, sizeof *m);
        m->geometry = geometries[i];
        m->withdrawn = calloc(m->geometry.pool_size, 1);
        m->kv = kv_pool_create(&m->geometry, &err);
        kv_on_evict(m->kv, evict, m);
        kv_on_withdraw(m->kv, withdraw, m);
        size_t whole = kv_usable_size(m->kv);
        for (int k = 0; k < 20000; k++) {
            if (below(m, 40) == 0) {
                change_limit(m);
            }
            one_operation(m);
            if (k % 50 == 0) {
                recount(m);
                no_overlap(m);
            }
        }
        print_message("  %llu slabs were withdrawn\n", (unsigned long long)m->n_withdrawn);
        assert_true(m->n_withdrawn > 0);
        kv_set_limit(m->kv, 0);
        for (int g = 0; g < m->geometry.n_groups; g++) {
            for (uint32_t page = 0; page < kv_n_pages(m->kv, g); page++) {
                while (m->refs[g][page]) {
                    m->refs[g][page]--;
                    kv_release(m->kv, g, page);
                }
            }
        }
        assert_false(kv_shrink(m->kv, SIZE_MAX)); /* nothing is left to do */
        recount(m);
        assert_true(kv_usable_size(m->kv) <= whole / (i == 0 ? 40 : 6)); /* one slab */
        assert_true(kv_counts(m->kv).withdrawn > 0);
        kv_set_limit(m->kv, SIZE_MAX);
        assert_int_equal(kv_usable_size(m->kv), whole);
        recount(m);
        kv_pool_free(m->kv);
        free(m->withdrawn);
        free(m);
    }
}

/* Of what is cached, the longest unused goes first, and only as much as must. */
static void shrinking_drops_the_oldest(void **state)
{
    (void)state;
    struct error err = {0};
    struct naive *m = calloc(1, sizeof *m);
    m->geometry = (struct kv_geometry){1, {64}, 64 * 8};
    m->kv = kv_pool_create(&m->geometry, &err);
    kv_on_evict(m->kv, evict, m);
    for (uint32_t i = 0; i < 6; i++) { /* two are free, one is referenced, five are cached */
        uint32_t page = kv_alloc(m->kv, 0);
        m->refs[0][page] = 1;
        kv_cache_page(m->kv, 0, page, page);
        m->cached[0][page] = true;
        if (i > 0) {
            kv_release(m->kv, 0, page);
            m->refs[0][page] = 0;
            m->released[0][page] = ++m->now;
        }
    }
    kv_set_limit(m->kv, 64 * 4);
    assert_true(kv_shrink(m->kv, 64)); /* a part of it */
    assert_int_equal(kv_usable_size(m->kv), 64 * 6);
    assert_int_equal(m->n_evicted, 0);
    assert_false(kv_shrink(m->kv, SIZE_MAX));
    assert_int_equal(m->n_evicted, 2); /* by `evict`, which looks whether any is older */
    assert_int_equal(kv_usable_size(m->kv), 64 * 4);
    kv_set_limit(m->kv, 64);
    assert_false(kv_shrink(m->kv, SIZE_MAX));
    assert_int_equal(m->n_evicted, 5);
    assert_int_equal(kv_usable_size(m->kv), 64); /* what is referenced stays */
    recount(m);
    assert_int_equal(kv_alloc(m->kv, 0), KV_PAGE_NONE);
    kv_pool_free(m->kv);
    free(m);
}

/* What can_alloc promises for several groups at once is there. */
static void can_alloc_is_true(void **state)
{
    (void)state;
    struct naive *m = calloc(1, sizeof *m);
    struct error err = {0};
    m->geometry = (struct kv_geometry){2, {48, 80}, 240 * 9};
    m->withdrawn = calloc(m->geometry.pool_size, 1);
    m->kv = kv_pool_create(&m->geometry, &err);
    kv_on_evict(m->kv, evict, m);
    for (int round = 0; round < 3000; round++) {
        for (int k = 0; k < 10; k++) {
            one_operation(m);
        }
        if (round >= 1500 && round % 10 == 0) { /* and with a limit that is not reached yet, too */
            kv_set_limit(m->kv, below(m, (uint32_t)m->geometry.pool_size + 1));
        }
        uint32_t need[KV_MAX_GROUPS] = {below(m, 12), below(m, 8)};
        if (!kv_can_alloc(m->kv, need)) {
            continue;
        }
        uint32_t taken[2][16];
        for (int g = 0; g < 2; g++) {
            for (uint32_t i = 0; i < need[g]; i++) {
                taken[g][i] = kv_alloc(m->kv, g);
                assert_int_not_equal(taken[g][i], KV_PAGE_NONE);
                m->refs[g][taken[g][i]] = 1;
            }
        }
        recount(m);
        for (int g = 0; g < 2; g++) {
            for (uint32_t i = 0; i < need[g]; i++) {
                m->refs[g][taken[g][i]] = 0;
                kv_release(m->kv, g, taken[g][i]);
            }
        }
    }
    kv_pool_free(m->kv);
    free(m->withdrawn);
    free(m);
}

static void empty_pools_fit_what_geometry_says(void **state)
{
    (void)state;
    struct kv_geometry geometry = {2, {48, 80}, 240 * 4};
    uint32_t fits[KV_MAX_GROUPS] = {10, 6}, one_more[KV_MAX_GROUPS] = {11, 6};
    struct error err = {0};
    assert_true(kv_geometry_fits(&geometry, fits));
    assert_false(kv_geometry_fits(&geometry, one_more));
    struct kv_pool *kv = kv_pool_create(&geometry, &err);
    assert_true(kv_can_alloc(kv, fits));
    assert_false(kv_can_alloc(kv, one_more));
    kv_pool_free(kv);
    geometry.pool_size = 239;
    assert_null(kv_pool_create(&geometry, &err));
    assert_int_equal(err.code, ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_operations),
        cmocka_unit_test(limits_come_and_go),
        cmocka_unit_test(shrinking_drops_the_oldest),
        cmocka_unit_test(can_alloc_is_true),
        cmocka_unit_test(empty_pools_fit_what_geometry_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
