#include "engine/kv_internal.h"

static bool wrong(struct error *err, const char *what, int group, uint32_t at)
{
    return error_set(err, ERR_INTERNAL, "The KV books are wrong: %s (group %d, at %u).", what, group, at);
}

static bool on_free_list(const struct kv_pool *kv, const struct kv_slab *s, uint32_t id)
{
    uint32_t at = s->free_head;
    while (at != KV_NONE && at != id) {
        at = kv->page_links[at].next;
    }
    return at == id;
}

static bool check_slab(const struct kv_pool *kv, uint32_t slab, uint32_t *n_cached, struct error *err)
{
    const struct kv_slab *s = &kv->slabs[slab];
    const struct kv_group *g = &kv->groups[s->group];
    uint32_t first = kv__slab_first(kv, s->group, slab), n_free = 0, n_referenced = 0;
    for (uint32_t i = first; i < kv__slab_end(kv, s->group, slab); i++) {
        const struct kv_page *p = &kv->pages[g->first_id + i];
        bool is_free = p->refs == 0 && p->owner == KV_NONE;
        if (is_free != on_free_list(kv, s, g->first_id + i)) {
            return wrong(err, "a page is on its slab's free list and used, or neither", s->group, i);
        }
        n_free += is_free;
        n_referenced += p->refs > 0;
        *n_cached += p->refs == 0 && p->owner != KV_NONE;
    }
    if (n_free != s->n_free || n_referenced != s->n_referenced) {
        return wrong(err, "the counts of a slab", s->group, slab);
    }
    return true;
}

static bool check_lru(const struct kv_pool *kv, uint32_t n_cached, struct error *err)
{
    uint32_t n = 0;
    for (uint32_t id = kv->lru.head; id != KV_NONE; id = kv->page_links[id].next, n++) {
        if (kv->pages[id].refs || kv->pages[id].owner == KV_NONE || n > n_cached) {
            return wrong(err, "a page on the list of unreferenced cached pages", kv__group_of(kv, id), id);
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
        n_idle += s->group == KV_UNASSIGNED || (s->group >= 0 && s->n_referenced == 0);
        n_usable += s->group != KV_WITHDRAWN;
        if (s->group < 0) {
            continue;
        }
        if (!check_slab(kv, i, &n_cached, err)) {
            return false;
        }
        if (s->n_referenced) {
            spare[s->group] += kv__slab_pages(kv, s) - s->n_referenced;
        }
        if (s->n_free == kv__slab_pages(kv, s)) {
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
