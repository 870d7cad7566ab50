/* Shared by the files of the KV books only:
 *
 *     kv.c        pages: slabs that give them, lists, references, the cached ones
 *     kv_limit.c  how many slabs are for use, and which are withdrawn
 *     kv_check.c  recount for tests
 *
 * Ids: all pages of all groups lie in one array, group after group, so that a list may hold pages of any. A page is in
 * exactly one list, unless it is referenced: its slab's free pages, or the unreferenced cached ones (oldest first).
 *
 * Counts that answer kv_can_alloc without looking: a slab without referenced pages is idle (its pages are free or can
 * be evicted, so it can serve any group); `spare` counts what the other slabs of a group can still give that group. */
#ifndef TANDEM_ENGINE_KV_INTERNAL_H
#define TANDEM_ENGINE_KV_INTERNAL_H

#include "engine/kv.h"

#define KV_NONE UINT32_MAX /* instead of an id, a slab, a node */

#define KV_UNASSIGNED (-1) /* instead of a slab's group */
#define KV_WITHDRAWN  (-2)

struct kv_page {
    uint32_t refs;
    uint32_t owner; /* node of the prefix cache, KV_NONE: not cached */
};

struct kv_slab {
    int group; /* or KV_UNASSIGNED, KV_WITHDRAWN */
    uint32_t n_free, n_referenced;
    uint32_t free_head; /* page ids, linked by next alone */
};

struct kv_link {
    uint32_t prev, next;
};

struct kv_list {
    uint32_t head, tail;
};

struct kv_group {
    size_t page_size;
    uint32_t first_id, n_pages;
    uint32_t min_per_slab; /* pages that any slab gives at least */
    struct kv_list slabs;  /* assigned, with at least one free page */
    uint32_t spare;        /* pages in assigned slabs that are neither idle nor referenced */
};

struct kv_pool {
    int n_groups;
    struct kv_group groups[KV_MAX_GROUPS];
    struct kv_page *pages;      /* [sum of n_pages] */
    struct kv_link *page_links; /* [sum of n_pages] in the lru, or their slab's free pages */
    struct kv_slab *slabs;      /* [n_slabs] */
    struct kv_link *slab_links; /* [n_slabs] in a group's slabs with free pages, the unassigned or the withdrawn ones */
    size_t slab_size;
    uint32_t n_slabs, n_idle;
    uint32_t n_usable, limit;             /* slabs that are not withdrawn; that are for use */
    struct kv_list unassigned, withdrawn; /* slabs */
    struct kv_list lru;                   /* pages: cached, unreferenced */
    size_t largest_page, bytes_referenced, bytes_cached;
    uint64_t bytes_evicted, bytes_withdrawn;
    void (*on_evict)(void *arg, int group, uint32_t owner);
    void *on_evict_arg;
    void (*on_free)(void *arg, int group, uint32_t page); /* may be NULL */
    void *on_free_arg;
    void (*on_withdraw)(void *arg, size_t offset, size_t size); /* may be NULL */
    void *on_withdraw_arg;
};

void kv__move_slab(struct kv_pool *kv, struct kv_list *from, struct kv_list *to, uint32_t slab);
int kv__group_of(const struct kv_pool *kv, uint32_t id);
struct kv_slab *kv__slab_of(const struct kv_pool *kv, int group, uint32_t id);
/* Pages of a slab in a group, [first, end): those that lie wholly inside. */
uint32_t kv__slab_first(const struct kv_pool *kv, int group, uint32_t slab);
uint32_t kv__slab_end(const struct kv_pool *kv, int group, uint32_t slab);
uint32_t kv__slab_pages(const struct kv_pool *kv, const struct kv_slab *s); /* of its own group */
void kv__evict(struct kv_pool *kv, uint32_t id);
void kv__withdraw(struct kv_pool *kv, uint32_t slab); /* an unassigned one */

#endif
