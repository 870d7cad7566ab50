/* Ids: all pages of all groups lie in one array, group after group, so that a list may hold pages of any. A page is in
 * exactly one list, unless it is referenced: its slab's free pages, or the unreferenced cached ones (oldest first).
 *
 * Counts that answer kv_can_alloc without looking: a slab without referenced pages is idle (its pages are free or can
 * be evicted, so it can serve any group); `spare` counts what the other slabs of a group can still give that group.
 *
 * Beyond the limit (n_usable > limit) the next slabs that become empty are withdrawn instead of serving anybody: so
 * many of the idle ones do not count. */
#include "engine/kv.h"

#include "base/array.h"

#include <stdlib.h>

#define NONE UINT32_MAX

#define UNASSIGNED (-1) /* instead of a slab's group */
#define WITHDRAWN  (-2)

struct kv_page {
    uint32_t refs;
    uint32_t owner; /* node of the prefix cache, NONE: not cached */
};

struct kv_slab {
    int group; /* or UNASSIGNED, WITHDRAWN */
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

#define SLAB_MAX_PAGES   32 /* of the largest group: the common multiple is used while slabs stay this small */
#define SLAB_ROUGH_PAGES 16 /* otherwise; at most one page of each group in 16 is lost at the borders */

/* The common multiple of all page sizes wastes nothing; layers of one model usually have one. */
static size_t slab_size_of(const struct kv_geometry *g)
{
    size_t size = g->page_size[0], largest = g->page_size[0];
    for (int i = 1; i < g->n_groups; i++) {
        largest = g->page_size[i] > largest ? g->page_size[i] : largest;
    }
    for (int i = 1; i < g->n_groups; i++) {
        size_t factor = g->page_size[i] / gcd(size, g->page_size[i]);
        if (!size_mul(size, factor, &size) || size / largest > SLAB_MAX_PAGES) {
            return largest * SLAB_ROUGH_PAGES;
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
    links[at] = (struct kv_link){.prev = list->tail, .next = NONE};
    *(list->tail == NONE ? &list->head : &links[list->tail].next) = at;
    list->tail = at;
}

static void take_out(struct kv_link *links, struct kv_list *list, uint32_t at)
{
    struct kv_link l = links[at];
    *(l.prev == NONE ? &list->head : &links[l.prev].next) = l.next;
    *(l.next == NONE ? &list->tail : &links[l.next].prev) = l.prev;
}

static void move_slab(struct kv_pool *kv, struct kv_list *from, struct kv_list *to, uint32_t slab)
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
        kv->pages[i].owner = NONE;
    }
    for (uint32_t i = 0; i < kv->n_slabs; i++) {
        kv->slabs[i] = (struct kv_slab){.group = UNASSIGNED, .free_head = NONE};
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
    kv->unassigned = kv->withdrawn = kv->lru = (struct kv_list){NONE, NONE};
    for (int i = 0; i < g->n_groups; i++) {
        size_t size = g->page_size[i], n = n_slabs * slab_size / size;
        kv->groups[i] = (struct kv_group){.page_size = size,
                                          .first_id = (uint32_t)n_pages,
                                          .n_pages = (uint32_t)n,
                                          .min_per_slab = min_per_slab(slab_size, size),
                                          .slabs = {NONE, NONE}};
        kv->largest_page = size > kv->largest_page ? size : kv->largest_page;
        n_pages += n;
    }
    if (n_pages >= NONE || n_slabs >= NONE) {
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

static int group_of(const struct kv_pool *kv, uint32_t id)
{
    int group = kv->n_groups - 1;
    while (id < kv->groups[group].first_id) {
        group--;
    }
    return group;
}

static struct kv_slab *slab_of(const struct kv_pool *kv, int group, uint32_t id)
{
    const struct kv_group *g = &kv->groups[group];
    return &kv->slabs[(id - g->first_id) * g->page_size / kv->slab_size];
}

/* Pages of a slab in a group: those that lie wholly inside. */
static uint32_t slab_first(const struct kv_pool *kv, int group, uint32_t slab)
{
    size_t page_size = kv->groups[group].page_size;
    return (uint32_t)((slab * kv->slab_size + page_size - 1) / page_size);
}

static uint32_t slab_end(const struct kv_pool *kv, int group, uint32_t slab)
{
    return (uint32_t)((slab + 1) * kv->slab_size / kv->groups[group].page_size);
}

static uint32_t slab_pages(const struct kv_pool *kv, const struct kv_slab *s)
{
    uint32_t slab = (uint32_t)(s - kv->slabs);
    return slab_end(kv, s->group, slab) - slab_first(kv, s->group, slab);
}

/* A page of the slab became referenced. */
static void note_referenced(struct kv_pool *kv, struct kv_slab *s)
{
    struct kv_group *g = &kv->groups[s->group];
    kv->bytes_referenced += g->page_size;
    if (s->n_referenced++ == 0) {
        kv->n_idle--;
        g->spare += slab_pages(kv, s) - 1;
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
        g->spare -= slab_pages(kv, s) - 1;
    } else {
        g->spare++;
    }
}

/* An unassigned slab. */
static void withdraw(struct kv_pool *kv, uint32_t slab)
{
    move_slab(kv, &kv->unassigned, &kv->withdrawn, slab);
    kv->slabs[slab].group = WITHDRAWN;
    kv->n_usable--;
    kv->n_idle--;
    kv->bytes_withdrawn += kv->slab_size;
    if (kv->on_withdraw) {
        kv->on_withdraw(kv->on_withdraw_arg, slab * kv->slab_size, kv->slab_size);
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
    if (s->n_free == slab_pages(kv, s)) { /* empty: any group may have it */
        move_slab(kv, &g->slabs, &kv->unassigned, slab);
        *s = (struct kv_slab){.group = UNASSIGNED, .free_head = NONE};
        if (kv->n_usable > kv->limit) {
            withdraw(kv, slab);
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
    move_slab(kv, &kv->unassigned, &g->slabs, slab);
    s->group = group;
    uint32_t first = slab_first(kv, group, slab);
    for (uint32_t i = slab_end(kv, group, slab); i > first; i--) { /* the lowest is taken first */
        kv->page_links[g->first_id + i - 1].next = s->free_head;
        s->free_head = g->first_id + i - 1;
        s->n_free++;
    }
}

static void evict(struct kv_pool *kv, uint32_t id)
{
    size_t before = kv->bytes_cached;
    kv->on_evict(kv->on_evict_arg, group_of(kv, id), kv->pages[id].owner);
    kv->bytes_evicted += before - kv->bytes_cached;
}

uint32_t kv_alloc(struct kv_pool *kv, int group)
{
    struct kv_group *g = &kv->groups[group];
    while (g->slabs.head == NONE && kv->unassigned.head == NONE) {
        if (kv->lru.head == NONE) {
            return KV_PAGE_NONE;
        }
        evict(kv, kv->lru.head);
    }
    if (g->slabs.head == NONE) {
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
        note_referenced(kv, slab_of(kv, group, id));
    }
}

void kv_release(struct kv_pool *kv, int group, uint32_t page)
{
    uint32_t id = id_of(kv, group, page);
    struct kv_page *p = &kv->pages[id];
    if (--p->refs > 0) {
        return;
    }
    struct kv_slab *s = slab_of(kv, group, id);
    note_unreferenced(kv, s);
    if (p->owner == NONE) {
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
    p->owner = NONE;
    if (p->refs == 0) {
        lru_take_out(kv, group, id);
        push_free(kv, slab_of(kv, group, id), id);
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
    struct kv_slab *s = slab_of(kv, group, id);
    if (s->group == UNASSIGNED) {
        assign_slab(kv, (uint32_t)(s - kv->slabs), group);
    } else if (s->group != group || p->refs || p->owner != NONE) {
        return false;
    }
    take_free(kv, s, id);
    p->owner = owner;
    lru_append(kv, group, id);
    return true;
}

bool kv_is_cached(const struct kv_pool *kv, int group, uint32_t page)
{
    return kv->pages[id_of(kv, group, page)].owner != NONE;
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
    while (kv->lru.head != NONE) {
        evict(kv, kv->lru.head);
    }
}

/* ---- limit ---- */

void kv_on_withdraw(struct kv_pool *kv, void (*fn)(void *arg, size_t offset, size_t size), void *arg)
{
    kv->on_withdraw = fn;
    kv->on_withdraw_arg = arg;
}

size_t kv_usable_size(const struct kv_pool *kv)
{
    return kv->n_usable * kv->slab_size;
}

void kv_set_limit(struct kv_pool *kv, size_t size)
{
    size_t n = size / kv->slab_size;
    kv->limit = n < 1 ? 1 : n > kv->n_slabs ? kv->n_slabs : (uint32_t)n;
    while (kv->n_usable < kv->limit) {
        uint32_t slab = kv->withdrawn.head;
        move_slab(kv, &kv->withdrawn, &kv->unassigned, slab);
        kv->slabs[slab].group = UNASSIGNED;
        kv->n_usable++;
        kv->n_idle++;
    }
}

/* The idle slab of the page that was used longest ago; NONE: there is none. */
static uint32_t oldest_idle(const struct kv_pool *kv)
{
    for (uint32_t id = kv->lru.head; id != NONE; id = kv->page_links[id].next) {
        const struct kv_slab *s = slab_of(kv, group_of(kv, id), id);
        if (s->n_referenced == 0) {
            return (uint32_t)(s - kv->slabs);
        }
    }
    return NONE;
}

/* All that an idle slab has is cached or free; with its last page it is withdrawn or unassigned. */
static void empty_slab(struct kv_pool *kv, uint32_t slab)
{
    int group = kv->slabs[slab].group;
    const struct kv_group *g = &kv->groups[group];
    uint32_t end = slab_end(kv, group, slab);
    for (uint32_t i = slab_first(kv, group, slab); i < end && kv->slabs[slab].group == group; i++) {
        if (kv->pages[g->first_id + i].owner != NONE) {
            evict(kv, g->first_id + i);
        }
    }
}

bool kv_shrink(struct kv_pool *kv, size_t most)
{
    uint32_t least = kv->n_usable > most / kv->slab_size ? kv->n_usable - (uint32_t)(most / kv->slab_size) : 0;
    for (uint32_t slab; kv->n_usable > kv->limit && kv->n_usable >= least;) {
        if (kv->unassigned.head != NONE) {
            withdraw(kv, kv->unassigned.tail);
        } else if ((slab = oldest_idle(kv)) != NONE) {
            empty_slab(kv, slab);
        } else {
            return false;
        }
    }
    return kv->n_usable > kv->limit;
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

/* ---- recount ---- */

static bool wrong(struct error *err, const char *what, int group, uint32_t at)
{
    return error_set(err, ERR_INTERNAL, "The KV books are wrong: %s (group %d, at %u).", what, group, at);
}

static bool on_free_list(const struct kv_pool *kv, const struct kv_slab *s, uint32_t id)
{
    uint32_t at = s->free_head;
    while (at != NONE && at != id) {
        at = kv->page_links[at].next;
    }
    return at == id;
}

static bool check_slab(const struct kv_pool *kv, uint32_t slab, uint32_t *n_cached, struct error *err)
{
    const struct kv_slab *s = &kv->slabs[slab];
    const struct kv_group *g = &kv->groups[s->group];
    uint32_t first = slab_first(kv, s->group, slab), n_free = 0, n_referenced = 0;
    for (uint32_t i = first; i < slab_end(kv, s->group, slab); i++) {
        const struct kv_page *p = &kv->pages[g->first_id + i];
        bool is_free = p->refs == 0 && p->owner == NONE;
        if (is_free != on_free_list(kv, s, g->first_id + i)) {
            return wrong(err, "a page is on its slab's free list and used, or neither", s->group, i);
        }
        n_free += is_free;
        n_referenced += p->refs > 0;
        *n_cached += p->refs == 0 && p->owner != NONE;
    }
    if (n_free != s->n_free || n_referenced != s->n_referenced) {
        return wrong(err, "the counts of a slab", s->group, slab);
    }
    return true;
}

static bool check_lru(const struct kv_pool *kv, uint32_t n_cached, struct error *err)
{
    uint32_t n = 0;
    for (uint32_t id = kv->lru.head; id != NONE; id = kv->page_links[id].next, n++) {
        if (kv->pages[id].refs || kv->pages[id].owner == NONE || n > n_cached) {
            return wrong(err, "a page on the list of unreferenced cached pages", group_of(kv, id), id);
        }
    }
    return n == n_cached || wrong(err, "the number of unreferenced cached pages", 0, n);
}

static bool check_references(const struct kv_pool *kv, const uint32_t *const expected[], struct error *err)
{
    for (int i = 0; expected && i < kv->n_groups; i++) {
        for (uint32_t k = 0; expected[i] && k < kv->groups[i].n_pages; k++) {
            if (expected[i][k] != kv->pages[kv->groups[i].first_id + k].refs) {
                return wrong(err, "a page has another number of references than its holders", i, k);
            }
        }
    }
    return true;
}

bool kv_check(const struct kv_pool *kv, const uint32_t *const expected[KV_MAX_GROUPS], struct error *err)
{
    uint32_t n_cached = 0, n_idle = 0, n_usable = 0, spare[KV_MAX_GROUPS] = {0};
    for (uint32_t i = 0; i < kv->n_slabs; i++) {
        const struct kv_slab *s = &kv->slabs[i];
        n_idle += s->group == UNASSIGNED || (s->group >= 0 && s->n_referenced == 0);
        n_usable += s->group != WITHDRAWN;
        if (s->group < 0) {
            continue;
        }
        if (!check_slab(kv, i, &n_cached, err)) {
            return false;
        }
        if (s->n_referenced) {
            spare[s->group] += slab_pages(kv, s) - s->n_referenced;
        }
        if (s->n_free == slab_pages(kv, s)) {
            return wrong(err, "an empty slab was kept", s->group, i);
        }
    }
    for (int i = 0; i < kv->n_groups; i++) {
        if (spare[i] != kv->groups[i].spare) {
            return wrong(err, "the spare pages", i, spare[i]);
        }
    }
    if (n_idle != kv->n_idle) {
        return wrong(err, "the number of idle slabs", 0, n_idle);
    }
    if (n_usable != kv->n_usable || n_usable < kv->limit) {
        return wrong(err, "the number of slabs that are not withdrawn", 0, n_usable);
    }
    return check_references(kv, expected, err) && check_lru(kv, n_cached, err);
}
