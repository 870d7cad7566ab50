#include "engine/kv_internal.h"

#include "base/array.h"

#include <stdlib.h>

/* ---- geometry ---- */

static size_t gcd(size_t a, size_t b)
{
    while (b) {
        size_t t = a % b;
        a = b;
        b = t;
    }
    return a;
}

#define SLAB_ROUGH_PAGES  16 /* of every group but the largest, at least: one in so many is lost at the borders */
#define SLAB_MAX_MULTIPLE 2  /* of a slab like that: the common multiple of all sizes is used up to there */

/* Whole pages of the largest group, as few as the others allow: where a page of one is worth hundreds of another's (a
 * state beside K and V of a block), slabs are still no larger than that page. */
static size_t rough_slab(const struct kv_geometry *g)
{
    size_t largest = g->page_size[0], next = 0;
    for (int i = 1; i < g->n_groups; i++) {
        size_t size = g->page_size[i], less = size < largest ? size : largest;
        largest = size > largest ? size : largest;
        next = less > next ? less : next;
    }
    return (SLAB_ROUGH_PAGES * next + largest - 1) / largest * largest;
}

/* The common multiple of all page sizes wastes nothing; layers of one model usually have one. */
static size_t slab_size_of(const struct kv_geometry *g)
{
    size_t size = g->page_size[0], rough = rough_slab(g);
    for (int i = 1; i < g->n_groups; i++) {
        size_t factor = g->page_size[i] / gcd(size, g->page_size[i]);
        if (!size_mul(size, factor, &size) || size / rough > SLAB_MAX_MULTIPLE) {
            return rough;
        }
    }
    return size;
}

static uint32_t min_per_slab(size_t slab_size, size_t page_size)
{
    uint32_t n = (uint32_t)(slab_size / page_size);
    return slab_size % page_size ? n - 1 : n;
}

static size_t slabs_for(const struct kv_geometry *g, const uint32_t need[KV_MAX_GROUPS])
{
    size_t slab_size = slab_size_of(g), used = 0;
    for (int i = 0; i < g->n_groups; i++) {
        uint32_t per_slab = min_per_slab(slab_size, g->page_size[i]);
        used += ((size_t)need[i] + per_slab - 1) / per_slab;
    }
    return used;
}

bool kv_geometry_fits(const struct kv_geometry *g, const uint32_t need[KV_MAX_GROUPS])
{
    return slabs_for(g, need) <= g->pool_size / slab_size_of(g);
}

size_t kv_geometry_size(const struct kv_geometry *g, const uint32_t need[KV_MAX_GROUPS])
{
    size_t size;
    return size_mul(slabs_for(g, need), slab_size_of(g), &size) ? size : SIZE_MAX;
}

/* ---- lists ---- */

static void append(struct kv_link *links, struct kv_list *list, uint32_t at)
{
    links[at] = (struct kv_link){.prev = list->tail, .next = KV_NONE};
    *(list->tail == KV_NONE ? &list->head : &links[list->tail].next) = at;
    list->tail = at;
}

static void take_out(struct kv_link *links, struct kv_list *list, uint32_t at)
{
    struct kv_link l = links[at];
    *(l.prev == KV_NONE ? &list->head : &links[l.prev].next) = l.next;
    *(l.next == KV_NONE ? &list->tail : &links[l.next].prev) = l.prev;
}

void kv__move_slab(struct kv_pool *kv, struct kv_list *from, struct kv_list *to, uint32_t slab)
{
    take_out(kv->slab_links, from, slab);
    append(kv->slab_links, to, slab);
}

/* An unreferenced cached page, the youngest of them. */
static void lru_append(struct kv_pool *kv, int group, uint32_t id)
{
    append(kv->page_links, &kv->lru, id);
    kv->bytes_cached += kv->groups[group].page_size;
}

static void lru_take_out(struct kv_pool *kv, int group, uint32_t id)
{
    take_out(kv->page_links, &kv->lru, id);
    kv->bytes_cached -= kv->groups[group].page_size;
}

/* ---- creation ---- */

static bool allocate(struct kv_pool *kv, size_t n_pages, struct error *err)
{
    kv->pages = calloc(n_pages ? n_pages : 1, sizeof *kv->pages);
    kv->page_links = calloc(n_pages ? n_pages : 1, sizeof *kv->page_links);
    kv->slabs = calloc(kv->n_slabs, sizeof *kv->slabs);
    kv->slab_links = calloc(kv->n_slabs, sizeof *kv->slab_links);
    if (!kv->pages || !kv->page_links || !kv->slabs || !kv->slab_links) {
        return error_set(err, ERR_NO_MEMORY, "There is no memory for the books of %zu KV pages.", n_pages);
    }
    for (size_t i = 0; i < n_pages; i++) {
        kv->pages[i].owner = KV_NONE;
    }
    for (uint32_t i = 0; i < kv->n_slabs; i++) {
        kv->slabs[i] = (struct kv_slab){.group = KV_UNASSIGNED, .free_head = KV_NONE};
        append(kv->slab_links, &kv->unassigned, i);
    }
    return true;
}

struct kv_pool *kv_pool_create(const struct kv_geometry *g, struct error *err)
{
    size_t slab_size = slab_size_of(g), n_slabs = g->pool_size / slab_size, n_pages = 0;
    if (n_slabs == 0) {
        error_set(err, ERR_INVALID, "The KV pool of %zu bytes is smaller than its smallest unit of %zu.", g->pool_size,
                  slab_size);
        return NULL;
    }
    struct kv_pool *kv = calloc(1, sizeof *kv);
    if (!kv) {
        error_set(err, ERR_NO_MEMORY, "There is no memory for the books of the KV pool.");
        return NULL;
    }
    kv->n_groups = g->n_groups;
    kv->slab_size = slab_size;
    kv->n_slabs = kv->n_idle = kv->n_usable = kv->limit = (uint32_t)n_slabs;
    kv->unassigned = kv->withdrawn = kv->lru = (struct kv_list){KV_NONE, KV_NONE};
    for (int i = 0; i < g->n_groups; i++) {
        size_t size = g->page_size[i], n = n_slabs * slab_size / size;
        kv->groups[i] = (struct kv_group){.page_size = size,
                                          .first_id = (uint32_t)n_pages,
                                          .n_pages = (uint32_t)n,
                                          .min_per_slab = min_per_slab(slab_size, size),
                                          .slabs = {KV_NONE, KV_NONE}};
        kv->largest_page = size > kv->largest_page ? size : kv->largest_page;
        n_pages += n;
    }
    if (n_pages >= KV_NONE || n_slabs >= KV_NONE) {
        error_set(err, ERR_INVALID, "The KV pool of %zu bytes has more pages than can be counted.", g->pool_size);
    } else if (allocate(kv, n_pages, err)) {
        return kv;
    }
    kv_pool_free(kv);
    return NULL;
}

void kv_pool_free(struct kv_pool *kv)
{
    if (kv) {
        free(kv->pages);
        free(kv->page_links);
        free(kv->slabs);
        free(kv->slab_links);
        free(kv);
    }
}

/* ---- pages and slabs ---- */

static uint32_t id_of(const struct kv_pool *kv, int group, uint32_t page)
{
    return kv->groups[group].first_id + page;
}

int kv__group_of(const struct kv_pool *kv, uint32_t id)
{
    int group = kv->n_groups - 1;
    while (id < kv->groups[group].first_id) {
        group--;
    }
    return group;
}

struct kv_slab *kv__slab_of(const struct kv_pool *kv, int group, uint32_t id)
{
    const struct kv_group *g = &kv->groups[group];
    return &kv->slabs[(id - g->first_id) * g->page_size / kv->slab_size];
}

uint32_t kv__slab_first(const struct kv_pool *kv, int group, uint32_t slab)
{
    size_t page_size = kv->groups[group].page_size;
    return (uint32_t)((slab * kv->slab_size + page_size - 1) / page_size);
}

uint32_t kv__slab_end(const struct kv_pool *kv, int group, uint32_t slab)
{
    return (uint32_t)((slab + 1) * kv->slab_size / kv->groups[group].page_size);
}

uint32_t kv__slab_pages(const struct kv_pool *kv, const struct kv_slab *s)
{
    uint32_t slab = (uint32_t)(s - kv->slabs);
    return kv__slab_end(kv, s->group, slab) - kv__slab_first(kv, s->group, slab);
}

/* A page of the slab became referenced. */
static void note_referenced(struct kv_pool *kv, struct kv_slab *s)
{
    struct kv_group *g = &kv->groups[s->group];
    kv->bytes_referenced += g->page_size;
    if (s->n_referenced++ == 0) {
        kv->n_idle--;
        g->spare += kv__slab_pages(kv, s) - 1;
    } else {
        g->spare--;
    }
}

static void note_unreferenced(struct kv_pool *kv, struct kv_slab *s)
{
    struct kv_group *g = &kv->groups[s->group];
    kv->bytes_referenced -= g->page_size;
    if (--s->n_referenced == 0) {
        kv->n_idle++;
        g->spare -= kv__slab_pages(kv, s) - 1;
    } else {
        g->spare++;
    }
}

static void push_free(struct kv_pool *kv, struct kv_slab *s, uint32_t id)
{
    struct kv_group *g = &kv->groups[s->group];
    uint32_t slab = (uint32_t)(s - kv->slabs);
    if (kv->on_free) {
        kv->on_free(kv->on_free_arg, s->group, id - g->first_id);
    }
    kv->page_links[id].next = s->free_head;
    s->free_head = id;
    if (s->n_free++ == 0) {
        append(kv->slab_links, &g->slabs, slab);
    }
    if (s->n_free == kv__slab_pages(kv, s)) { /* empty: any group may have it */
        kv__move_slab(kv, &g->slabs, &kv->unassigned, slab);
        *s = (struct kv_slab){.group = KV_UNASSIGNED, .free_head = KV_NONE};
        if (kv->n_usable > kv->limit) {
            kv__withdraw(kv, slab);
        }
    }
}

static uint32_t pop_free(struct kv_pool *kv, struct kv_slab *s)
{
    struct kv_group *g = &kv->groups[s->group];
    uint32_t id = s->free_head;
    s->free_head = kv->page_links[id].next;
    if (--s->n_free == 0) {
        take_out(kv->slab_links, &g->slabs, (uint32_t)(s - kv->slabs));
    }
    return id;
}

/* Out of the middle of the free list: its slab is gone through. */
static void take_free(struct kv_pool *kv, struct kv_slab *s, uint32_t id)
{
    uint32_t *link = &s->free_head;
    while (*link != id) {
        link = &kv->page_links[*link].next;
    }
    *link = kv->page_links[id].next;
    kv->page_links[id].next = s->free_head;
    s->free_head = id; /* its head, from where it is taken */
    pop_free(kv, s);
}

static void assign_slab(struct kv_pool *kv, uint32_t slab, int group)
{
    struct kv_group *g = &kv->groups[group];
    struct kv_slab *s = &kv->slabs[slab];
    kv__move_slab(kv, &kv->unassigned, &g->slabs, slab);
    s->group = group;
    uint32_t first = kv__slab_first(kv, group, slab);
    for (uint32_t i = kv__slab_end(kv, group, slab); i > first; i--) { /* the lowest is taken first */
        kv->page_links[g->first_id + i - 1].next = s->free_head;
        s->free_head = g->first_id + i - 1;
        s->n_free++;
    }
}

void kv__evict(struct kv_pool *kv, uint32_t id)
{
    size_t before = kv->bytes_cached;
    kv->on_evict(kv->on_evict_arg, kv__group_of(kv, id), kv->pages[id].owner);
    kv->bytes_evicted += before - kv->bytes_cached;
}

uint32_t kv_alloc(struct kv_pool *kv, int group)
{
    struct kv_group *g = &kv->groups[group];
    while (g->slabs.head == KV_NONE && kv->unassigned.head == KV_NONE) {
        if (kv->lru.head == KV_NONE) {
            return KV_PAGE_NONE;
        }
        kv__evict(kv, kv->lru.head);
    }
    if (g->slabs.head == KV_NONE) {
        assign_slab(kv, kv->unassigned.head, group);
    }
    struct kv_slab *s = &kv->slabs[g->slabs.head];
    uint32_t id = pop_free(kv, s);
    kv->pages[id].refs = 1;
    note_referenced(kv, s);
    return id - g->first_id;
}

void kv_retain(struct kv_pool *kv, int group, uint32_t page)
{
    uint32_t id = id_of(kv, group, page);
    struct kv_page *p = &kv->pages[id];
    if (p->refs++ == 0) { /* it was cached: only such pages can be named without a reference */
        lru_take_out(kv, group, id);
        note_referenced(kv, kv__slab_of(kv, group, id));
    }
}

void kv_release(struct kv_pool *kv, int group, uint32_t page)
{
    uint32_t id = id_of(kv, group, page);
    struct kv_page *p = &kv->pages[id];
    if (--p->refs > 0) {
        return;
    }
    struct kv_slab *s = kv__slab_of(kv, group, id);
    note_unreferenced(kv, s);
    if (p->owner == KV_NONE) {
        push_free(kv, s, id);
    } else {
        lru_append(kv, group, id);
    }
}

uint32_t kv_refs(const struct kv_pool *kv, int group, uint32_t page)
{
    return kv->pages[id_of(kv, group, page)].refs;
}

void kv_cache_page(struct kv_pool *kv, int group, uint32_t page, uint32_t owner)
{
    kv->pages[id_of(kv, group, page)].owner = owner;
}

void kv_uncache_page(struct kv_pool *kv, int group, uint32_t page)
{
    uint32_t id = id_of(kv, group, page);
    struct kv_page *p = &kv->pages[id];
    p->owner = KV_NONE;
    if (p->refs == 0) {
        lru_take_out(kv, group, id);
        push_free(kv, kv__slab_of(kv, group, id), id);
    }
}

bool kv_adopt_page(struct kv_pool *kv, int group, uint32_t page, uint32_t owner)
{
    const struct kv_group *g = &kv->groups[group];
    if (page >= g->n_pages || page * g->page_size / kv->slab_size != ((page + 1) * g->page_size - 1) / kv->slab_size) {
        return false;
    }
    uint32_t id = id_of(kv, group, page);
    struct kv_page *p = &kv->pages[id];
    struct kv_slab *s = kv__slab_of(kv, group, id);
    if (s->group == KV_UNASSIGNED) {
        assign_slab(kv, (uint32_t)(s - kv->slabs), group);
    } else if (s->group != group || p->refs || p->owner != KV_NONE) {
        return false;
    }
    take_free(kv, s, id);
    p->owner = owner;
    lru_append(kv, group, id);
    return true;
}

bool kv_is_cached(const struct kv_pool *kv, int group, uint32_t page)
{
    return kv->pages[id_of(kv, group, page)].owner != KV_NONE;
}

void kv_on_evict(struct kv_pool *kv, void (*fn)(void *arg, int group, uint32_t owner), void *arg)
{
    kv->on_evict = fn;
    kv->on_evict_arg = arg;
}

void kv_on_free(struct kv_pool *kv, void (*fn)(void *arg, int group, uint32_t page), void *arg)
{
    kv->on_free = fn;
    kv->on_free_arg = arg;
}

void kv_evict_all(struct kv_pool *kv)
{
    while (kv->lru.head != KV_NONE) {
        kv__evict(kv, kv->lru.head);
    }
}

bool kv_can_alloc(const struct kv_pool *kv, const uint32_t need[KV_MAX_GROUPS])
{
    uint64_t slabs = 0;
    for (int i = 0; i < kv->n_groups; i++) {
        const struct kv_group *g = &kv->groups[i];
        if (need[i] > g->spare) {
            slabs += (need[i] - g->spare + g->min_per_slab - 1) / g->min_per_slab;
        }
    }
    uint32_t beyond = kv->n_usable > kv->limit ? kv->n_usable - kv->limit : 0;
    return slabs <= (kv->n_idle > beyond ? kv->n_idle - beyond : 0);
}

struct kv_counts kv_counts(const struct kv_pool *kv)
{
    size_t unit = kv->largest_page;
    return (struct kv_counts){.total = kv->n_slabs * kv->slab_size / unit,
                              .referenced = (kv->bytes_referenced + unit - 1) / unit,
                              .cached = (kv->bytes_cached + unit - 1) / unit,
                              .evicted = (kv->bytes_evicted + unit - 1) / unit,
                              .withdrawn = (kv->bytes_withdrawn + unit - 1) / unit};
}

uint32_t kv_n_pages(const struct kv_pool *kv, int group)
{
    return kv->groups[group].n_pages;
}

size_t kv_page_size(const struct kv_pool *kv, int group)
{
    return kv->groups[group].page_size;
}
