/* Seals of pages: what a new engine may find in the table of a lost one, whatever state it is in, and what the prefix
 * cache makes of it. */
#include "engine/kv_seal.h"

#include "base/rng.h"
#include "base/sys_shm.h"
#include "engine/prefix_cache.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define PAGE_TOKENS 4
#define N_BLOCKS    12
#define HEAD_SUMMED 168 /* bytes of the head that its checksum covers, and itself */
#define HEAD_SIZE   256
#define ENTRY_SIZE  64

struct bench {
    struct kv_seal_options options;
    uint8_t *pool;
    uint32_t n_summed, n_read; /* positions: those that were asked for as written, and as they are */
    struct kv_seals *seals;
    struct kv_pool *kv;
    struct prefix_cache *cache;
    struct sha256 keys[N_BLOCKS]; /* of one chain */
};

/* ---- bench ---- */

static void open_seals(struct bench *b)
{
    struct error err = {0};
    kv_seals_close(b->seals);
    b->seals = kv_seals_open(&b->options, &err);
    if (!b->seals) {
        fail_msg("%s", err.msg);
    }
}

/* A position is a part in PAGE_TOKENS of its page. */
static uint64_t sum_positions(void *arg, int group, uint32_t page, uint32_t from, uint32_t to, uint64_t seed,
                              bool written)
{
    struct bench *b = arg;
    size_t size = b->options.page_size[group], each = size / PAGE_TOKENS;
    *(written ? &b->n_summed : &b->n_read) += to - from;
    for (uint32_t i = from; i < to; i++) {
        seed = xxh3(b->options.pool + page * size + i * each, each, seed);
    }
    return seed;
}

/* Two groups whose pages of 48 and 80 bytes share slabs of 240. */
static void open_bench(struct bench *b, uint32_t n_slabs, size_t n_entries)
{
    *b = (struct bench){.options = {.size = HEAD_SIZE + n_entries * ENTRY_SIZE,
                                    .pool_size = n_slabs * 240,
                                    .page_tokens = PAGE_TOKENS,
                                    .n_groups = 2,
                                    .page_size = {48, 80},
                                    .sum = sum_positions,
                                    .sum_arg = b}};
    b->options.memory = aligned_alloc(64, b->options.size);
    memset(b->options.memory, 0, b->options.size);
    b->options.pool = b->pool = malloc(b->options.pool_size);
    for (size_t i = 0; i < b->options.pool_size; i++) {
        b->pool[i] = (uint8_t)(rng_uniform(3, i, 0, 0, RNG_SAMPLE) * 256);
    }
    for (uint32_t i = 0; i < N_BLOCKS; i++) {
        b->keys[i] = sha256_of(&i, sizeof i);
    }
    open_seals(b);
}

static void drop_cache(struct bench *b)
{
    prefix_cache_free(b->cache);
    kv_pool_free(b->kv);
    b->cache = NULL;
    b->kv = NULL;
}

static void close_bench(struct bench *b)
{
    drop_cache(b);
    kv_seals_close(b->seals);
    free(b->options.memory);
    free(b->pool);
}

static void check(const struct bench *b)
{
    struct error err = {0};
    if (!prefix_check(b->cache, &err) || !kv_check(b->kv, NULL, &err)) {
        fail_msg("%s", err.msg);
    }
}

/* A new engine: everything but the memory. Returns how many blocks it adopted. */
static uint32_t restart(struct bench *b, int window)
{
    struct error err = {0};
    struct kv_geometry geometry = {.n_groups = 2, .page_size = {48, 80}, .pool_size = b->options.pool_size};
    struct prefix_cache_options options = {.n_groups = 2, .window = {0, window}, .page_tokens = PAGE_TOKENS};
    drop_cache(b);
    open_seals(b);
    options.kv = b->kv = kv_pool_create(&geometry, &err);
    options.n_nodes = kv_n_pages(b->kv, 0) + kv_n_pages(b->kv, 1);
    b->cache = prefix_cache_create(&options, &err);
    assert_non_null(b->cache);
    uint32_t n = prefix_adopt(b->cache, b->seals);
    check(b);
    return n;
}

static void fill(struct bench *b, uint32_t n)
{
    uint32_t pages[2][N_BLOCKS];
    for (uint32_t i = 0; i < n; i++) {
        for (int g = 0; g < 2; g++) {
            pages[g][i] = kv_alloc(b->kv, g);
            assert_int_not_equal(pages[g][i], KV_PAGE_NONE);
            memset(b->pool + pages[g][i] * b->options.page_size[g], (int)(i + 1) * 10 + g, b->options.page_size[g]);
            prefix_insert(b->cache, &b->keys[i], i, g, pages[g][i]);
        }
    }
    for (uint32_t i = n; i > 0; i--) {
        for (int g = 0; g < 2; g++) {
            kv_release(b->kv, g, pages[g][i - 1]);
        }
    }
    check(b);
}

static uint32_t n_found(const struct bench *b)
{
    uint32_t n;
    (void)kv_seals_found(b->seals, &n);
    return n;
}

static uint32_t match(const struct bench *b)
{
    return prefix_match(b->cache, b->keys, N_BLOCKS).n_blocks;
}

static enum prefix_trust verify(struct bench *b, uint32_t n_blocks)
{
    size_t budget = SIZE_MAX;
    return prefix_verify(b->cache, b->keys, N_BLOCKS, n_blocks, &budget);
}

static uint8_t *bytes_of(struct bench *b, uint32_t block, int group)
{
    return b->pool + prefix_page(b->cache, &b->keys[block], group) * b->options.page_size[group];
}

/* ---- the table ---- */

static void what_is_sealed_is_found(void **state)
{
    (void)state;
    struct bench b;
    uint32_t n;
    open_bench(&b, 10, 200);
    assert_int_equal(n_found(&b), 0); /* all zeroes */
    kv_seal_put(b.seals, 0, 7, &b.keys[0], 0);
    kv_seal_put(b.seals, 1, 2, &b.keys[5], 5);
    kv_seal_put(b.seals, 0, 3, &b.keys[5], 5);
    kv_seal_put(b.seals, 0, 9, &b.keys[2], 2);
    kv_seal_remove(b.seals, 0, 9);
    assert_int_equal(kv_seals_count(b.seals), 3);
    open_seals(&b);
    const struct kv_seal *found = kv_seals_found(b.seals, &n);
    assert_int_equal(n, 3);
    assert_true(found[0].depth == 5 && found[0].group == 0 && found[0].page == 3);
    assert_true(found[1].depth == 5 && found[1].group == 1 && found[1].page == 2);
    assert_true(found[2].depth == 0 && found[2].page == 7 && sha256_equal(&found[2].key, &b.keys[0]));
    assert_true(kv_seal_holds(b.seals, 0, 7, &b.keys[0]));
    assert_false(kv_seal_holds(b.seals, 0, 7, &b.keys[1]));
    assert_false(kv_seal_holds(b.seals, 0, 9, &b.keys[2]));
    assert_false(kv_seal_holds(b.seals, 1, 4000000000u, &b.keys[2]));
    b.pool[7 * 48 + 47] ^= 1;
    assert_false(kv_seal_holds(b.seals, 0, 7, &b.keys[0]));
    kv_seals_void(b.options.memory, b.options.size);
    open_seals(&b);
    assert_int_equal(n_found(&b), 0);
    close_bench(&b);
}

static void parts(void **state)
{
    (void)state;
    struct bench b;
    struct kv_seal seal;
    uint32_t n;
    open_bench(&b, 10, 200);
    assert_true(kv_seals_parts(b.seals));
    kv_seal_put_part(b.seals, 1, 4, &b.keys[0], 6, 2);
    assert_true(kv_seal_get(b.seals, 1, 4, &seal));
    assert_true(seal.n_tokens == 2 && seal.depth == 6 && seal.page == 4 && seal.group == 1);
    assert_true(kv_seal_holds(b.seals, 1, 4, &b.keys[0]));
    assert_false(kv_seal_holds(b.seals, 1, 4, &b.keys[1]));
    uint8_t *page = b.pool + (size_t)4 * 80;
    for (size_t i = 0; i < 80; i++) { /* of what it does not cover anything may change */
        page[i] ^= 0x20;
        assert_int_equal(kv_seal_holds(b.seals, 1, 4, &b.keys[0]), i >= 40);
        page[i] ^= i < 40 ? 0x20 : 0;
    }
    kv_seal_put_part(b.seals, 1, 4, &b.keys[1], 6, 3); /* another takes its place, and goes on from its sum */
    assert_true(kv_seal_holds(b.seals, 1, 4, &b.keys[1]) && !kv_seal_holds(b.seals, 1, 4, &b.keys[0]));
    assert_int_equal(b.n_summed, 2 + 1);
    kv_seal_put_part(b.seals, 1, 4, &b.keys[1], 6, 3);
    assert_int_equal(b.n_summed, 2 + 1); /* it is there already */
    kv_seal_put_part(b.seals, 1, 4, &b.keys[2], 6, 1);
    assert_int_equal(b.n_summed, 2 + 1 + 1); /* fewer than before: begun anew */
    assert_true(kv_seal_holds(b.seals, 1, 4, &b.keys[2]));
    kv_seal_put(b.seals, 1, 4, &b.keys[3], 6);
    assert_true(kv_seal_get(b.seals, 1, 4, &seal) && seal.n_tokens == PAGE_TOKENS);
    kv_seal_put_part(b.seals, 1, 4, &b.keys[4], 6, 3); /* what was sealed whole is no beginning */
    assert_int_equal(b.n_summed, 2 + 1 + 1 + 3);
    assert_true(kv_seal_holds(b.seals, 1, 4, &b.keys[4]));
    kv_seal_put(b.seals, 0, 0, &b.keys[5], 6);
    kv_seal_put_part(b.seals, 0, 1, &b.keys[6], 6, 1);
    kv_seal_put_part(b.seals, 0, 2, &b.keys[7], 6, 1);
    kv_seal_remove(b.seals, 0, 2);
    assert_false(kv_seal_get(b.seals, 0, 2, &seal));
    kv_seal_put_part(b.seals, 0, 2, &b.keys[7], 6, 2);
    assert_int_equal(b.n_summed, 2 + 1 + 1 + 3 + 1 + 1 + 2); /* nothing is left of a seal that is gone */
    kv_seal_remove(b.seals, 0, 2);
    open_seals(&b);
    const struct kv_seal *found = kv_seals_found(b.seals, &n);
    assert_int_equal(n, 3); /* of one depth, the fewer positions the older */
    assert_true(found[0].n_tokens == 1 && found[1].n_tokens == 3 && found[2].n_tokens == PAGE_TOKENS);
    close_bench(&b);
}

/* Without checksums of positions parts are neither sealed nor believed. */
static void no_parts(void **state)
{
    (void)state;
    struct bench b;
    struct kv_seal seal;
    open_bench(&b, 10, 200);
    kv_seal_put_part(b.seals, 0, 3, &b.keys[0], 6, 2);
    kv_seal_put(b.seals, 0, 4, &b.keys[1], 6);
    b.options.sum = NULL;
    open_seals(&b);
    assert_int_equal(n_found(&b), 1);
    assert_false(kv_seals_parts(b.seals) || kv_seal_get(b.seals, 0, 3, &seal));
    kv_seal_put_part(b.seals, 0, 3, &b.keys[0], 6, 2);
    assert_false(kv_seal_get(b.seals, 0, 3, &seal) || kv_seal_holds(b.seals, 0, 3, &b.keys[0]));
    close_bench(&b);
}

/* Only what was the last table here is believed, not what was there before it. */
static void other_identities_find_nothing(void **state)
{
    (void)state;
    struct bench b;
    open_bench(&b, 10, 200);
    struct kv_seal_options own = b.options, others[] = {own, own, own, own};
    others[0].identity.bytes[31] ^= 1;
    others[1].page_size[1] = 120;
    others[2].page_tokens = 8;
    others[3].n_groups = 1;
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        kv_seal_put(b.seals, 0, 7, &b.keys[0], 0);
        open_seals(&b);
        assert_int_equal(n_found(&b), 1);
        b.options = others[i];
        open_seals(&b);
        assert_int_equal(n_found(&b), 0);
        open_seals(&b); /* an engine of the other kind that did nothing */
        assert_int_equal(n_found(&b), 0);
        b.options = own;
        open_seals(&b);
        assert_int_equal(n_found(&b), 0);
    }
    close_bench(&b);
}

/* The table with these bytes: what is found is one of two entries, or nothing. */
static void try_table(struct bench *b, const uint8_t *table, bool a_is_whole, bool b_is_whole)
{
    uint32_t n;
    memcpy(b->options.memory, table, b->options.size);
    open_seals(b);
    const struct kv_seal *found = kv_seals_found(b->seals, &n);
    assert_int_equal(n, a_is_whole || b_is_whole);
    assert_true(n == 0 || sha256_equal(&found[0].key, &b->keys[a_is_whole ? 0 : 1]));
}

/* One entry half overwritten by another, in whatever order; and each of its bits. */
static void tear_entries(bool parts)
{
    struct bench b;
    open_bench(&b, 10, 200);
    size_t size = b.options.size, at = HEAD_SIZE + 3 * ENTRY_SIZE;
    uint8_t *before = malloc(size), *after = malloc(size), *mixed = malloc(size);
    if (parts) {
        kv_seal_put_part(b.seals, 0, 3, &b.keys[0], 8, 2);
        memcpy(before, b.options.memory, size);
        kv_seal_put_part(b.seals, 0, 3, &b.keys[1], 8, 3);
    } else {
        kv_seal_put(b.seals, 0, 3, &b.keys[0], 8);
        memcpy(before, b.options.memory, size);
        b.pool[3 * 48] ^= 0x55;
        kv_seal_put(b.seals, 0, 3, &b.keys[1], 9);
    }
    memcpy(after, b.options.memory, size);
    assert_memory_equal(before, after, at);
    assert_memory_equal(before + at + ENTRY_SIZE, after + at + ENTRY_SIZE, size - at - ENTRY_SIZE);
    for (size_t cut = 0; cut <= ENTRY_SIZE; cut++) {
        for (int tail = 0; tail < 2; tail++) { /* the new bytes come from the front, or from the end */
            memcpy(mixed, before, size);
            memcpy(mixed + at + (tail ? cut : 0), after + at + (tail ? cut : 0), tail ? ENTRY_SIZE - cut : cut);
            try_table(&b, mixed, memcmp(mixed, before, size) == 0, memcmp(mixed, after, size) == 0);
        }
        memcpy(mixed, after, size); /* as it is written: no state yet */
        memset(mixed + at + cut, 0, ENTRY_SIZE - cut);
        try_table(&b, mixed, false, cut == ENTRY_SIZE || memcmp(mixed, after, size) == 0);
    }
    for (size_t bit = 0; bit < (size_t)ENTRY_SIZE * 8; bit++) {
        memcpy(mixed, after, size);
        mixed[at + bit / 8] ^= (uint8_t)(1u << bit % 8);
        try_table(&b, mixed, false, false);
    }
    memcpy(mixed, after, size); /* the entry of another page, and of another group */
    memcpy(mixed + at + ENTRY_SIZE, mixed + at, ENTRY_SIZE);
    memcpy(mixed + at + (size_t)125 * ENTRY_SIZE, mixed + at, ENTRY_SIZE);
    try_table(&b, mixed, false, true);
    free(before);
    free(after);
    free(mixed);
    close_bench(&b);
}

static void torn_entries_are_none(void **state)
{
    (void)state;
    tear_entries(false);
    tear_entries(true);
}

static void damaged_heads_begin_anew(void **state)
{
    (void)state;
    struct bench b;
    open_bench(&b, 10, 200);
    size_t size = b.options.size;
    uint8_t *whole = malloc(size), *table = malloc(size);
    kv_seal_put(b.seals, 0, 3, &b.keys[1], 8);
    memcpy(whole, b.options.memory, size);
    for (size_t i = 0; i < HEAD_SIZE; i++) {
        memcpy(table, whole, size);
        table[i] ^= 0xff;
        memcpy(b.options.memory, table, size);
        open_seals(&b);
        assert_true(n_found(&b) == 0 || i >= HEAD_SUMMED); /* behind it: how many entries are looked at */
        kv_seal_put(b.seals, 1, 2, &b.keys[4], 1);
        open_seals(&b);
        assert_true(n_found(&b) >= 1); /* it works again */
    }
    memset(b.options.memory, 0xff, size);
    open_seals(&b);
    assert_int_equal(n_found(&b), 0);
    free(whole);
    free(table);
    close_bench(&b);
}

static void needs_some_memory(void **state)
{
    (void)state;
    struct bench b;
    struct error err = {0};
    open_bench(&b, 10, 200);
    b.options.size = HEAD_SIZE + ENTRY_SIZE - 1;
    assert_null(kv_seals_open(&b.options, &err));
    assert_int_equal(err.code, ERR_INVALID);
    kv_seals_void(b.options.memory, 10);
    b.options.size = HEAD_SIZE + ENTRY_SIZE; /* one page of the group whose pages are smaller */
    open_seals(&b);
    assert_true(kv_seal_covers(b.seals, 0, 0) && !kv_seal_covers(b.seals, 0, 1) && !kv_seal_covers(b.seals, 1, 0));
    close_bench(&b);
}

/* ---- killed ---- */

#define KILL_PAGES  16
#define KILL_ROUNDS 60

struct victim {
    atomic_ulong n_writes; /* of the child that is to be killed */
    uint8_t pool[KILL_PAGES * 4096];
    uint8_t seals[HEAD_SIZE + KILL_PAGES * ENTRY_SIZE];
};

static uint64_t sum_of_victim(void *arg, int group, uint32_t page, uint32_t from, uint32_t to, uint64_t seed,
                              bool written)
{
    const struct victim *v = arg;
    (void)group;
    (void)written;
    for (uint32_t i = from; i < to; i++) {
        seed = xxh3(v->pool + page * (size_t)4096 + i * (size_t)1024, 1024, seed);
    }
    return seed;
}

static struct kv_seal_options victim_options(struct victim *v)
{
    return (struct kv_seal_options){.memory = v->seals,
                                    .size = sizeof v->seals,
                                    .pool = v->pool,
                                    .pool_size = sizeof v->pool,
                                    .page_tokens = PAGE_TOKENS,
                                    .n_groups = 1,
                                    .page_size = {4096},
                                    .sum = sum_of_victim,
                                    .sum_arg = v};
}

static _Noreturn void write_for_ever(struct victim *v)
{
    struct kv_seal_options options = victim_options(v);
    struct error err = {0};
    struct kv_seals *s = kv_seals_open(&options, &err);
    if (!s) {
        _exit(1);
    }
    for (unsigned long n = 0;; n++) {
        uint32_t page = (uint32_t)(n * 7 % KILL_PAGES);
        struct sha256 key = {{(uint8_t)n, (uint8_t)(n >> 8), (uint8_t)(n >> 16)}};
        kv_seal_remove(s, 0, page);
        for (uint32_t i = 0; i < PAGE_TOKENS; i++) { /* position by position; now and then it is left as a part */
            memset(v->pool + page * (size_t)4096 + i * (size_t)1024, (int)((n + i) % 251), 1024);
            key.bytes[3] = (uint8_t)i;
            if (i < PAGE_TOKENS - 1) {
                kv_seal_put_part(s, 0, page, &key, (uint32_t)n, i + 1);
            } else if (n % 3) {
                kv_seal_put(s, 0, page, &key, (uint32_t)n);
            }
        }
        atomic_fetch_add(&v->n_writes, 1);
    }
}

/* Whenever it dies, a page that is sealed holds what its seal says. */
static void a_kill_leaves_no_lie(void **state)
{
    (void)state;
    struct shm shm;
    struct error err = {0};
    uint32_t n_sealed = 0, n_parts = 0;
    assert_true(shm_create(sizeof(struct victim), "test-seals", &shm, &err));
    struct victim *v = shm.data;
    for (uint32_t round = 0; round < KILL_ROUNDS; round++) {
        unsigned long until = atomic_load(&v->n_writes) + 50 + (unsigned long)(rng_uniform(9, round, 0, 0, 0) * 5000);
        pid_t pid = fork();
        if (pid == 0) {
            write_for_ever(v);
        }
        while (atomic_load(&v->n_writes) < until && waitpid(pid, NULL, WNOHANG) == 0) {
        }
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        struct kv_seal_options options = victim_options(v);
        struct kv_seals *s = kv_seals_open(&options, &err);
        uint32_t n;
        const struct kv_seal *found = kv_seals_found(s, &n);
        assert_true(n >= KILL_PAGES - 1); /* all but the one that was being written */
        for (uint32_t i = 0; i < n; i++) {
            assert_true(kv_seal_holds(s, 0, found[i].page, &found[i].key));
            n_parts += found[i].n_tokens < PAGE_TOKENS;
        }
        n_sealed += n;
        kv_seals_close(s);
    }
    assert_true(n_sealed >= KILL_ROUNDS * (KILL_PAGES - 1));
    assert_true(n_parts >= KILL_ROUNDS * KILL_PAGES / 5);
    shm_release(&shm);
}

/* ---- adoption ---- */

static void blocks_are_adopted(void **state)
{
    (void)state;
    struct bench b;
    uint32_t tables[2][N_BLOCKS];
    uint32_t *const both[KV_MAX_GROUPS] = {tables[0], tables[1]};
    open_bench(&b, 30, 400);
    assert_int_equal(restart(&b, 0), 0);
    fill(&b, 8);
    assert_int_equal(restart(&b, 0), 8);
    assert_int_equal(match(&b), 8);
    assert_int_equal(verify(&b, 8), PREFIX_SOUND);
    prefix_take(b.cache, b.keys, 8, both);
    for (uint32_t i = 0; i < 8; i++) {
        for (int g = 0; g < 2; g++) {
            assert_int_equal(b.pool[tables[g][i] * b.options.page_size[g]], (i + 1) * 10 + (uint32_t)g);
        }
        assert_true(prefix_is_adopted(b.cache, &b.keys[i]));
    }
    assert_false(prefix_is_adopted(b.cache, &b.keys[8]));
    assert_int_equal(restart(&b, 0), 8); /* lost again, while they were in use */
    prefix_clear(b.cache);
    check(&b);
    assert_int_equal(restart(&b, 0), 0); /* what left the cache is nobody's */
    close_bench(&b);
}

static const int32_t ids[PAGE_TOKENS] = {5, 6, 7, 8};

/* Leaves 4 blocks, and the first n positions of the block with these ids behind them, sealed, not released. */
static void leave_part(struct bench *b, int window, uint32_t n)
{
    restart(b, window);
    prefix_clear(b->cache);
    fill(b, 4);
    struct sha256 key = prefix_part_key(b->cache, &b->keys[3], ids, n);
    for (int g = 0; g < 2; g++) {
        uint32_t page = kv_alloc(b->kv, g);
        memset(b->pool + page * b->options.page_size[g], 99 + g, b->options.page_size[g]);
        kv_seal_put_part(b->seals, g, page, &key, 4, n);
    }
    check(b);
}

static uint32_t find_part(struct bench *b, const int32_t *of, uint32_t n, struct sha256 *key)
{
    return prefix_find_part(b->cache, &b->keys[3], of, n, key);
}

static enum prefix_trust verify_part(struct bench *b, const struct sha256 *key)
{
    size_t budget = SIZE_MAX;
    return prefix_verify(b->cache, key, 1, 1, &budget);
}

static void parts_are_adopted(void **state)
{
    (void)state;
    static const int32_t others[PAGE_TOKENS] = {5, 6, 9, 8};
    struct bench b;
    struct sha256 key;
    uint32_t tables[2][1];
    uint32_t *const both[KV_MAX_GROUPS] = {tables[0], tables[1]};
    open_bench(&b, 30, 400);
    for (int window = 0; window <= 9; window += 3) {
        leave_part(&b, window, 3);
        assert_int_equal(find_part(&b, ids, 4, &key), 0); /* it is this engine's own */
        assert_int_equal(restart(&b, window), 4);
        assert_int_equal(match(&b), 4);
        assert_int_equal(find_part(&b, ids, 2, &key), 0);
        assert_int_equal(find_part(&b, others, 4, &key), 0);
        assert_int_equal(prefix_find_part(b.cache, &b.keys[2], ids, 4, &key), 0);
        assert_int_equal(find_part(&b, ids, 3, &key), 3);
        assert_int_equal(find_part(&b, ids, 4, &key), 3);
        assert_int_equal(prefix_match(b.cache, &key, 1).n_blocks, 1);
        assert_int_equal(verify_part(&b, &key), PREFIX_SOUND);
        prefix_take(b.cache, &key, 1, both);
        for (int g = 0; g < 2; g++) {
            assert_int_equal(b.pool[tables[g][0] * b.options.page_size[g]], 99 + g);
            assert_int_equal(kv_refs(b.kv, g, tables[g][0]), 1);
        }
        prefix_forget(b.cache, &key); /* the pages are left to who holds them */
        check(&b);
        assert_int_equal(find_part(&b, ids, 4, &key), 0);
        assert_int_equal(match(&b), 4);
        assert_int_equal(kv_seals_count(b.seals), 8);
    }
    close_bench(&b);
}

/* In a covered position; behind them nobody looks. A part is of no use without any of its pages. */
static void damaged_parts(void **state)
{
    (void)state;
    struct bench b;
    struct sha256 key;
    open_bench(&b, 30, 400);
    for (int g = 0; g < 2; g++) {
        for (int behind = 0; behind < 2; behind++) {
            leave_part(&b, 9, 2);
            restart(&b, 9);
            assert_int_equal(find_part(&b, ids, 4, &key), 2);
            size_t size = b.options.page_size[g];
            b.pool[prefix_page(b.cache, &key, g) * size + size / 2 - !behind] ^= 1;
            assert_int_equal(verify_part(&b, &key), behind ? PREFIX_SOUND : PREFIX_BROKEN);
            check(&b);
            assert_int_equal(find_part(&b, ids, 4, &key), behind ? 2 : 0);
            assert_int_equal(verify(&b, match(&b)), PREFIX_SOUND);
        }
        leave_part(&b, 9, 2); /* the engine was lost between the seals of two groups */
        key = prefix_part_key(b.cache, &b.keys[3], ids, 2);
        restart(&b, 9);
        kv_seal_remove(b.seals, g, prefix_page(b.cache, &key, g));
        restart(&b, 9);
        assert_int_equal(find_part(&b, ids, 4, &key), 0);
        assert_int_equal(kv_seals_count(b.seals), 8);
    }
    close_bench(&b);
}

/* They are the first to go, before the blocks that they follow. */
static void parts_are_evicted(void **state)
{
    (void)state;
    struct bench b;
    struct sha256 key;
    open_bench(&b, 4, 100); /* four blocks and a part take two slabs of the one and two of the other group */
    leave_part(&b, 0, 2);
    assert_int_equal(restart(&b, 0), 4);
    assert_int_equal(find_part(&b, ids, 4, &key), 2);
    while (find_part(&b, ids, 4, &key)) {
        assert_int_equal(match(&b), 4);
        assert_int_not_equal(kv_alloc(b.kv, 0), KV_PAGE_NONE);
        check(&b);
    }
    assert_true(kv_counts(b.kv).evicted > 0);
    kv_evict_all(b.kv);
    check(&b);
    assert_int_equal(kv_seals_count(b.seals), 0);
    close_bench(&b);
}

/* In a pool that is full of them, every page taken shortens the chain from its end. */
static void adopted_children_are_evicted_first(void **state)
{
    (void)state;
    struct bench b;
    open_bench(&b, 6, 100); /* pages of 10 blocks, four of a slab of the one and three of the other group */
    restart(&b, 0);
    uint32_t n = 0;
    while (n < N_BLOCKS && kv_can_alloc(b.kv, (const uint32_t[KV_MAX_GROUPS]){n + 1, n + 1})) {
        n++;
    }
    assert_true(n >= 6);
    fill(&b, n);
    assert_int_equal(restart(&b, 0), n);
    for (uint32_t last = n; last > 0;) {
        uint32_t now = match(&b);
        assert_true(now == last || now + 5 >= last); /* a slab at a time */
        for (uint32_t i = 0; i < now; i++) {
            assert_int_not_equal(prefix_page(b.cache, &b.keys[i], 0), KV_PAGE_NONE);
        }
        last = now;
        if (last > 0) {
            assert_int_not_equal(kv_alloc(b.kv, 0), KV_PAGE_NONE);
            check(&b);
        }
    }
    close_bench(&b);
}

/* Found at the first use and only then: a block that is damaged goes, and what follows it. */
static void damage_is_found_on_first_use(void **state)
{
    (void)state;
    struct bench b;
    open_bench(&b, 30, 400);
    for (uint32_t bad = 0; bad < 8; bad++) {
        for (int g = 0; g < 2; g++) {
            restart(&b, 0);
            prefix_clear(b.cache);
            fill(&b, 8);
            assert_int_equal(restart(&b, 0), 8);
            bytes_of(&b, bad, g)[b.options.page_size[g] - 1] ^= 0x10;
            assert_int_equal(verify(&b, bad), PREFIX_SOUND); /* who does not need it does not look */
            assert_int_equal(match(&b), 8);
            assert_int_equal(verify(&b, 8), PREFIX_BROKEN);
            check(&b);
            assert_int_equal(match(&b), bad);
            assert_int_equal(verify(&b, bad), PREFIX_SOUND);
            for (uint32_t i = bad; i < 8; i++) {
                assert_int_equal(prefix_page(b.cache, &b.keys[i], 0), KV_PAGE_NONE);
            }
            assert_int_equal(restart(&b, 0), bad);
        }
    }
    close_bench(&b);
}

/* Of a window group only what a hit sees is checked, and a page that is damaged costs the hits that see it. */
static void windows(void **state)
{
    (void)state;
    struct bench b;
    open_bench(&b, 30, 400);
    restart(&b, 9);
    fill(&b, 8);
    restart(&b, 9);
    bytes_of(&b, 4, 1)[0] ^= 1;
    assert_int_equal(match(&b), 8);
    assert_int_equal(verify(&b, 8), PREFIX_SOUND); /* sees blocks 5, 6 and 7 */
    restart(&b, 9);
    bytes_of(&b, 6, 1)[0] ^= 1;
    assert_int_equal(verify(&b, 8), PREFIX_BROKEN);
    assert_int_equal(match(&b), 6);                 /* 7 and 8 see it */
    assert_int_equal(verify(&b, 6), PREFIX_BROKEN); /* and it sees the one of above */
    assert_int_equal(match(&b), 4);
    assert_int_equal(verify(&b, 4), PREFIX_SOUND);
    check(&b);
    assert_int_not_equal(prefix_page(b.cache, &b.keys[7], 0), KV_PAGE_NONE); /* may be of use once they are there */
    close_bench(&b);
}

static void checking_is_bounded(void **state)
{
    (void)state;
    struct bench b;
    open_bench(&b, 30, 400);
    restart(&b, 0);
    fill(&b, 8);
    restart(&b, 0);
    uint32_t n = 0;
    for (size_t budget = 200; prefix_verify(b.cache, b.keys, N_BLOCKS, 8, &budget) == PREFIX_UNFINISHED; budget = 200) {
        check(&b);
        n++;
        assert_true(n < 100);
    }
    assert_true(n >= 8 * (48 + 80) / 328); /* the last page of a step may exceed it */
    size_t none = 0;
    assert_int_equal(prefix_verify(b.cache, b.keys, N_BLOCKS, 8, &none), PREFIX_SOUND);
    close_bench(&b);
}

/* An engine that lost its memory comes back with less of it. */
static void smaller_pools_adopt_what_they_hold(void **state)
{
    (void)state;
    struct bench b;
    open_bench(&b, 30, 400);
    restart(&b, 0);
    fill(&b, 10);
    size_t whole = b.options.pool_size;
    b.options.pool_size = (size_t)5 * 240 + 100;
    uint32_t n = restart(&b, 0);
    assert_true(n > 0 && n < 10);
    assert_int_equal(match(&b), n); /* pages are taken from the lowest on */
    b.options.pool_size = whole;
    assert_int_equal(restart(&b, 0), n); /* the others may have been anybody's in the meantime */
    assert_int_equal(match(&b), n);
    assert_int_equal(verify(&b, n), PREFIX_SOUND);
    close_bench(&b);
}

static void small_tables_seal_what_they_hold(void **state)
{
    (void)state;
    struct bench b;
    open_bench(&b, 30, 12);
    restart(&b, 0);
    fill(&b, 10);
    uint32_t n = restart(&b, 0);
    assert_true(n > 0 && n < 10);
    assert_int_equal(verify(&b, match(&b)), PREFIX_SOUND);
    close_bench(&b);
}

/* What no engine writes: one of them stays, and the books balance. */
static void contradictions(void **state)
{
    (void)state;
    struct bench b;
    open_bench(&b, 30, 400);
    kv_seal_put(b.seals, 0, 0, &b.keys[0], 0); /* one key at two places */
    kv_seal_put(b.seals, 0, 1, &b.keys[0], 0);
    kv_seal_put(b.seals, 1, 3, &b.keys[0], 0);
    kv_seal_put(b.seals, 0, 15, &b.keys[1], 1); /* the same slab for two groups */
    kv_seal_put(b.seals, 1, 9, &b.keys[1], 1);
    kv_seal_put(b.seals, 1, 12, &b.keys[2], 2); /* a block without its page of the full group */
    kv_seal_put(b.seals, 0, 25, &b.keys[4], 4); /* no parent */
    kv_seal_put(b.seals, 1, 18, &b.keys[4], 4);
    kv_seal_put_part(b.seals, 0, 40, &b.keys[5], 4, 2); /* a part with the key of a block, and of another part */
    kv_seal_put(b.seals, 0, 41, &b.keys[5], 4);
    kv_seal_put_part(b.seals, 1, 21, &b.keys[5], 4, 3);
    uint32_t n = restart(&b, 9);
    assert_int_equal(n, 3);
    assert_int_equal(prefix_page(b.cache, &b.keys[0], 0), 0);
    assert_int_equal(prefix_page(b.cache, &b.keys[1], 0), 15);
    assert_int_equal(prefix_page(b.cache, &b.keys[1], 1), KV_PAGE_NONE);
    assert_int_equal(prefix_page(b.cache, &b.keys[2], 1), KV_PAGE_NONE);
    assert_int_equal(kv_seals_count(b.seals), 5);
    assert_int_equal(restart(&b, 9), 3);
    close_bench(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_sealed_is_found),
        cmocka_unit_test(parts),
        cmocka_unit_test(no_parts),
        cmocka_unit_test(other_identities_find_nothing),
        cmocka_unit_test(torn_entries_are_none),
        cmocka_unit_test(damaged_heads_begin_anew),
        cmocka_unit_test(needs_some_memory),
        cmocka_unit_test(a_kill_leaves_no_lie),
        cmocka_unit_test(blocks_are_adopted),
        cmocka_unit_test(parts_are_adopted),
        cmocka_unit_test(damaged_parts),
        cmocka_unit_test(parts_are_evicted),
        cmocka_unit_test(adopted_children_are_evicted_first),
        cmocka_unit_test(damage_is_found_on_first_use),
        cmocka_unit_test(windows),
        cmocka_unit_test(checking_is_bounded),
        cmocka_unit_test(smaller_pools_adopt_what_they_hold),
        cmocka_unit_test(small_tables_seal_what_they_hold),
        cmocka_unit_test(contradictions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
