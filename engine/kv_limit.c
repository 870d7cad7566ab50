/* Beyond the limit (n_usable > limit) the next slabs that become empty are withdrawn instead of serving anybody: so
 * many of the idle ones do not count in kv_can_alloc. */
#include "engine/kv_internal.h"

void kv_on_withdraw(struct kv_pool *kv, void (*fn)(void *arg, size_t offset, size_t size), void *arg)
{
    kv->on_withdraw = fn;
    kv->on_withdraw_arg = arg;
}

size_t kv_usable_size(const struct kv_pool *kv)
{
    return kv->n_usable * kv->slab_size;
}

void kv__withdraw(struct kv_pool *kv, uint32_t slab)
{
    kv__move_slab(kv, &kv->unassigned, &kv->withdrawn, slab);
    kv->slabs[slab].group = KV_WITHDRAWN;
    kv->n_usable--;
    kv->n_idle--;
    kv->bytes_withdrawn += kv->slab_size;
    if (kv->on_withdraw) {
        kv->on_withdraw(kv->on_withdraw_arg, slab * kv->slab_size, kv->slab_size);
    }
}

void kv_set_limit(struct kv_pool *kv, size_t size)
{
    size_t n = size / kv->slab_size;
    kv->limit = n < 1 ? 1 : n > kv->n_slabs ? kv->n_slabs : (uint32_t)n;
    while (kv->n_usable < kv->limit) {
        uint32_t slab = kv->withdrawn.head;
        kv__move_slab(kv, &kv->withdrawn, &kv->unassigned, slab);
        kv->slabs[slab].group = KV_UNASSIGNED;
        kv->n_usable++;
        kv->n_idle++;
    }
}

/* The idle slab of the page that was used longest ago; KV_NONE: there is none. */
static uint32_t oldest_idle(const struct kv_pool *kv)
{
    for (uint32_t id = kv->lru.head; id != KV_NONE; id = kv->page_links[id].next) {
        const struct kv_slab *s = kv__slab_of(kv, kv__group_of(kv, id), id);
        if (s->n_referenced == 0) {
            return (uint32_t)(s - kv->slabs);
        }
    }
    return KV_NONE;
}

/* All that an idle slab has is cached or free; with its last page it is withdrawn or unassigned. */
static void empty_slab(struct kv_pool *kv, uint32_t slab)
{
    int group = kv->slabs[slab].group;
    const struct kv_group *g = &kv->groups[group];
    uint32_t end = kv__slab_end(kv, group, slab);
    for (uint32_t i = kv__slab_first(kv, group, slab); i < end && kv->slabs[slab].group == group; i++) {
        if (kv->pages[g->first_id + i].owner != KV_NONE) {
            kv__evict(kv, g->first_id + i);
        }
    }
}

bool kv_shrink(struct kv_pool *kv, size_t most)
{
    uint32_t least = kv->n_usable > most / kv->slab_size ? kv->n_usable - (uint32_t)(most / kv->slab_size) : 0;
    for (uint32_t slab; kv->n_usable > kv->limit && kv->n_usable >= least;) {
        if (kv->unassigned.head != KV_NONE) {
            kv__withdraw(kv, kv->unassigned.tail);
        } else if ((slab = oldest_idle(kv)) != KV_NONE) {
            empty_slab(kv, slab);
        } else {
            return false;
        }
    }
    return kv->n_usable > kv->limit;
}
