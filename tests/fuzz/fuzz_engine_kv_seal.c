/* A table of seals in any state, and the prefix cache that adopts from it. The input is a program: pages are sealed
 * as no engine would (one key twice, one place for two groups, parts with the keys of blocks) and bytes of table and
 * pool overwritten; an engine
 * starts over that, perhaps with another pool, and uses its cache; and so on, three times. Nothing that is taken may be
 * unchecked, and the books must balance. */
#include "engine/prefix_cache.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define N_KEYS      12
#define N_SLABS     12
#define POOL_SIZE   (N_SLABS * 240)
#define TABLE_SIZE  (256 + 64 * 64)
#define PAGE_TOKENS 4
#define WINDOW      9

static const int32_t ids[PAGE_TOKENS] = {4, 3, 2, 1};

struct world {
    _Alignas(64) uint8_t table[TABLE_SIZE];
    uint8_t pool[POOL_SIZE];
    struct sha256 keys[N_KEYS];
    struct sha256 parts[PAGE_TOKENS]; /* of n positions behind the first block; [0]: of 1 again */
    const uint8_t *data;
    size_t left;
    /* Those of one engine. */
    struct kv_seal_options options;
    struct kv_seals *seals;
    struct kv_pool *kv;
    struct prefix_cache *cache;
    uint32_t held[2][N_KEYS];
    uint32_t filled[2]; /* pages that are being filled */
};

static uint32_t next(struct world *w)
{
    if (w->left == 0) {
        return 0;
    }
    w->left--;
    return *w->data++;
}

static void stop_if(bool wrong)
{
    if (wrong) {
        abort();
    }
}

static uint64_t sum(void *arg, int group, uint32_t page, uint32_t from, uint32_t to, uint64_t seed, bool written)
{
    const struct world *w = arg;
    size_t size = w->options.page_size[group], each = size / PAGE_TOKENS;
    (void)written;
    stop_if(from > to || to > PAGE_TOKENS || (page + 1) * size > w->options.pool_size);
    for (uint32_t i = from; i < to; i++) {
        seed = xxh3(w->pool + page * size + i * each, each, seed);
    }
    return seed;
}

/* ---- what the lost engine left ---- */

static void seal(struct world *w)
{
    uint32_t a = next(w), page = next(w), depth = next(w);
    const struct sha256 *key = &w->keys[(a >> 1) % N_KEYS];
    int group = a & 1;
    if (page >= w->options.pool_size / w->options.page_size[group]) {
        return;
    }
    if (a >> 6) {
        struct sha256 part = a >> 7 ? *key : w->parts[depth % PAGE_TOKENS];
        kv_seal_put_part(w->seals, group, page, &part, depth, 1 + depth % (PAGE_TOKENS - 1));
    } else {
        kv_seal_put(w->seals, group, page, key, depth);
    }
}

static void overwrite(struct world *w)
{
    uint32_t where = next(w) << 8 | next(w), value = next(w);
    w->table[where % TABLE_SIZE] = (uint8_t)value;
}

static void overwrite_page(struct world *w)
{
    uint32_t where = next(w) << 8 | next(w);
    w->pool[where % POOL_SIZE] ^= 1;
}

static void leave_something(struct world *w)
{
    for (uint32_t n = next(w); n > 0 && w->left > 0; n--) {
        switch (next(w) % 4) {
        case 0:
        case 1:
            seal(w);
            break;
        case 2:
            overwrite(w);
            break;
        default:
            overwrite_page(w);
        }
    }
}

/* ---- an engine ---- */

static void check(const struct world *w)
{
    struct error err = {0};
    stop_if(!prefix_check(w->cache, &err) || !kv_check(w->kv, NULL, &err));
}

static void open_seals(struct world *w)
{
    struct error err = {0};
    w->seals = kv_seals_open(&w->options, &err);
    stop_if(!w->seals);
}

static void page_freed(void *arg, int group, uint32_t page)
{
    struct world *w = arg;
    kv_seal_remove(w->seals, group, page);
}

static void start(struct world *w, int window)
{
    struct error err = {0};
    struct kv_geometry geometry = {.n_groups = 2, .page_size = {48, 80}, .pool_size = w->options.pool_size};
    struct prefix_cache_options options = {.n_groups = 2, .window = {0, window}, .page_tokens = PAGE_TOKENS};
    open_seals(w);
    options.kv = w->kv = kv_pool_create(&geometry, &err);
    stop_if(!w->kv);
    options.n_nodes = kv_n_pages(w->kv, 0) + kv_n_pages(w->kv, 1);
    w->cache = prefix_cache_create(&options, &err);
    stop_if(!w->cache);
    stop_if(prefix_adopt(w->cache, w->seals) > options.n_nodes);
    memset(w->held, 0xff, sizeof w->held);
    memset(w->filled, 0xff, sizeof w->filled);
    kv_on_free(w->kv, page_freed, w);
    check(w);
}

static void stop(struct world *w)
{
    prefix_cache_free(w->cache);
    kv_pool_free(w->kv);
    kv_seals_close(w->seals);
}

static void take_page(struct world *w, int group, uint32_t i, bool insert)
{
    uint32_t *held = &w->held[group][i];
    if (*held != KV_PAGE_NONE) {
        kv_release(w->kv, group, *held);
        *held = KV_PAGE_NONE;
        return;
    }
    *held = kv_alloc(w->kv, group);
    if (*held != KV_PAGE_NONE) {
        memset(w->pool + *held * w->options.page_size[group], (int)i, w->options.page_size[group]);
        if (insert) {
            prefix_insert(w->cache, &w->keys[i], i, group, *held);
        }
    }
}

/* A hit, as the scheduler takes it. */
static void hit(struct world *w, size_t budget)
{
    uint32_t tables[2][N_KEYS];
    uint32_t *const both[KV_MAX_GROUPS] = {tables[0], tables[1]};
    for (uint32_t rounds = 0; rounds < 1000; rounds++) {
        uint32_t n = prefix_match(w->cache, w->keys, N_KEYS).n_blocks;
        size_t left = budget;
        enum prefix_trust trust = prefix_verify(w->cache, w->keys, N_KEYS, n, &left);
        check(w);
        if (trust != PREFIX_SOUND) {
            continue;
        }
        prefix_take(w->cache, w->keys, n, both);
        for (uint32_t i = n; i > 0; i--) {
            for (int g = 0; g < 2; g++) {
                if (tables[g][i - 1] != KV_PAGE_NONE) {
                    kv_release(w->kv, g, tables[g][i - 1]);
                }
            }
        }
        return;
    }
    abort(); /* it went on for ever */
}

/* The longest part that there is, as the scheduler takes it. */
static void hit_part(struct world *w)
{
    uint32_t pages[2][1], n;
    uint32_t *const both[KV_MAX_GROUPS] = {pages[0], pages[1]};
    struct sha256 key;
    size_t all = SIZE_MAX;
    while ((n = prefix_find_part(w->cache, &w->keys[0], ids, PAGE_TOKENS, &key)) > 0) {
        enum prefix_trust trust = prefix_verify(w->cache, &key, 1, 1, &all);
        check(w);
        stop_if(n >= PAGE_TOKENS || trust == PREFIX_UNFINISHED);
        if (trust == PREFIX_SOUND) {
            prefix_take(w->cache, &key, 1, both);
            prefix_forget(w->cache, &key);
            for (int g = 0; g < 2; g++) {
                kv_release(w->kv, g, pages[g][0]);
            }
        }
    }
}

/* One page of each group is filled position by position; then it is left. */
static void fill(struct world *w, uint32_t a)
{
    uint32_t n = 1 + a % (PAGE_TOKENS - 1);
    for (int g = 0; g < 2; g++) {
        if (w->filled[g] == KV_PAGE_NONE) {
            w->filled[g] = kv_alloc(w->kv, g);
        }
        if (w->filled[g] == KV_PAGE_NONE) {
            return;
        }
        kv_seal_put_part(w->seals, g, w->filled[g], &w->parts[n], 1, n);
        if (a & 128) {
            kv_release(w->kv, g, w->filled[g]);
            w->filled[g] = KV_PAGE_NONE;
        }
    }
}

static void use(struct world *w)
{
    for (uint32_t n = next(w); n > 0 && w->left > 0; n--) {
        uint32_t a = next(w), key = (a >> 4) % N_KEYS;
        if (a >= 6 * 40) {
            hit_part(w);
            fill(w, next(w));
        }
        switch (a % 6) {
        case 0:
        case 1:
            take_page(w, a >> 3 & 1, key, a % 6);
            break;
        case 2:
            hit(w, 1 + next(w));
            break;
        case 3:
            prefix_forget(w->cache, &w->keys[key]);
            break;
        case 4:
            kv_evict_all(w->kv);
            break;
        default:
            hit(w, SIZE_MAX);
        }
        check(w);
    }
}

static void name_parts(struct world *w)
{
    struct error err = {0};
    struct kv_geometry geometry = {.n_groups = 1, .page_size = {48}, .pool_size = 48};
    struct prefix_cache_options options = {.kv = kv_pool_create(&geometry, &err), .n_groups = 1};
    options.page_tokens = PAGE_TOKENS;
    stop_if(!options.kv);
    struct prefix_cache *c = prefix_cache_create(&options, &err);
    stop_if(!c);
    for (uint32_t n = 0; n < PAGE_TOKENS; n++) {
        w->parts[n] = prefix_part_key(c, &w->keys[0], ids, n ? n : 1);
    }
    prefix_cache_free(c);
    kv_pool_free(options.kv);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct world *w = calloc(1, sizeof *w);
    if (!w) {
        return 0;
    }
    w->data = data;
    w->left = size;
    for (uint32_t i = 0; i < N_KEYS; i++) {
        w->keys[i].bytes[0] = (uint8_t)i;
    }
    name_parts(w);
    w->options = (struct kv_seal_options){.memory = w->table,
                                          .size = TABLE_SIZE - 64 * (size_t)(next(w) % 64),
                                          .pool = w->pool,
                                          .pool_size = POOL_SIZE,
                                          .page_tokens = PAGE_TOKENS,
                                          .n_groups = 2,
                                          .page_size = {48, 80},
                                          .sum = sum,
                                          .sum_arg = w};
    for (int life = 0; life < 3; life++) {
        open_seals(w);
        leave_something(w);
        kv_seals_close(w->seals);
        uint32_t a = next(w);
        w->options.pool_size = POOL_SIZE - (size_t)(a % (N_SLABS - 1)) * 240;
        start(w, a & 64 ? WINDOW : 0);
        use(w);
        stop(w);
    }
    free(w);
    return 0;
}
