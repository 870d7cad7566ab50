/* KV pages: one byte pool shared by several groups of layers whose pages differ in size. Page `i` of a group is the
 * bytes [i * page_size, (i + 1) * page_size) of the pool, so an index alone is an address. The pool is cut into slabs
 * of equal size; a slab belongs to one group at a time (or to none) and gives it the pages that lie wholly inside.
 *
 *     pool   |  slab 0 (group 0)  |  slab 1 (group 1)  |  slab 2 (none)  | ...
 *     pages  | 0 | 1 | 2 | 3 |    |     4    |    5    |                 |
 *
 * A page is free, referenced (by one or more block tables), or cached: known to the prefix cache. A cached page that
 * nobody references stays until its memory is needed; the longest unreferenced goes first. Referenced pages may be
 * cached too. Allocation, reference and release are O(1): each slab has its own free list, each group a list of slabs
 * that have free pages, and an empty slab goes back to all groups at once.
 *
 * The pool can have a limit below its size. Slabs beyond it are withdrawn: nobody gets pages of them, and whoever owns
 * the bytes is told that they may be given back to the system. What is referenced is never withdrawn, so a limit below
 * it is reached when pages are released.
 *
 * Only bookkeeping: the bytes belong to the backend. One thread, the engine's. */
#ifndef TANDEM_ENGINE_KV_H
#define TANDEM_ENGINE_KV_H

#include "backend/backend.h"

struct kv_pool;

struct kv_geometry {
    int n_groups;
    size_t page_size[KV_MAX_GROUPS];
    size_t pool_size;
};

/* The first groups' indexes may be absent where a slab border cuts a page. INVALID when not even one slab fits. */
NODISCARD struct kv_pool *kv_pool_create(const struct kv_geometry *geometry, struct error *err);
void kv_pool_free(struct kv_pool *kv);

/* Whether an empty pool of this geometry holds need[g] pages of every group at once. */
bool kv_geometry_fits(const struct kv_geometry *geometry, const uint32_t need[KV_MAX_GROUPS]);
/* Bytes of an empty pool that holds so many; SIZE_MAX: they cannot be counted. */
size_t kv_geometry_size(const struct kv_geometry *geometry, const uint32_t need[KV_MAX_GROUPS]);

/* A page with one reference, or KV_PAGE_NONE when all are referenced. May evict cached pages. */
uint32_t kv_alloc(struct kv_pool *kv, int group);
void kv_retain(struct kv_pool *kv, int group, uint32_t page);
void kv_release(struct kv_pool *kv, int group, uint32_t page); /* the last reference frees it or leaves it cached */
uint32_t kv_refs(const struct kv_pool *kv, int group, uint32_t page);

/* The prefix cache knows this page as part of its node `owner`: it stays when the last reference goes. */
void kv_cache_page(struct kv_pool *kv, int group, uint32_t page, uint32_t owner);
void kv_uncache_page(struct kv_pool *kv, int group, uint32_t page); /* frees it when nobody references it */
/* This very page becomes one that the prefix cache knows and nobody references, and the youngest of them; its slab
 * becomes the group's. False: another has it, or its bytes, or there is no such page. */
NODISCARD bool kv_adopt_page(struct kv_pool *kv, int group, uint32_t page, uint32_t owner);
bool kv_is_cached(const struct kv_pool *kv, int group, uint32_t page);

/* fn must uncache the page named (and may uncache others). Called by kv_alloc and kv_evict_all. */
void kv_on_evict(struct kv_pool *kv, void (*fn)(void *arg, int group, uint32_t owner), void *arg);
/* fn is told of every page that nobody references and the cache does not know any more. */
void kv_on_free(struct kv_pool *kv, void (*fn)(void *arg, int group, uint32_t page), void *arg);
void kv_evict_all(struct kv_pool *kv); /* every page that is cached and not referenced */

/* At most so many bytes of the pool are for use from now on, at least one slab. Raising it takes effect at once; the
 * rest is kv_shrink's, and of releases and evictions to come. */
void kv_set_limit(struct kv_pool *kv, size_t size);
/* Withdraws up to `most` bytes, rounded up to a slab, that are beyond the limit: free slabs, then those of which only
 * unreferenced cached pages are left, the longest unused first. False: nothing is left that could be withdrawn now. */
bool kv_shrink(struct kv_pool *kv, size_t most);
/* fn is told of bytes of the pool that hold nothing any more. They may be handed out again after kv_set_limit. */
void kv_on_withdraw(struct kv_pool *kv, void (*fn)(void *arg, size_t offset, size_t size), void *arg);
size_t kv_usable_size(const struct kv_pool *kv); /* bytes of the slabs that are not withdrawn */

/* Whether need[g] more pages of every group could be had at once, by evicting if need be. */
bool kv_can_alloc(const struct kv_pool *kv, const uint32_t need[KV_MAX_GROUPS]);

struct kv_counts { /* pages in units of the largest group's page, rounded up */
    uint64_t total, referenced, cached, evicted;
    uint64_t withdrawn; /* in all, those handed out again included */
};
struct kv_counts kv_counts(const struct kv_pool *kv);
uint32_t kv_n_pages(const struct kv_pool *kv, int group); /* indexes of a group: [0, n) */
size_t kv_page_size(const struct kv_pool *kv, int group);

/* Recounts everything (tests): expected[g][page] references, or NULL for any. False, with what is wrong in *err. */
NODISCARD bool kv_check(const struct kv_pool *kv, const uint32_t *const expected[KV_MAX_GROUPS], struct error *err);

#endif
