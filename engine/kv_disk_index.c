/* Slots in one array; hash buckets chain them by number, free ones form a list, the others a list from the newest to
 * the oldest. */
#include "engine/kv_disk_internal.h"

#include <stdlib.h>

#define NONE KV_DISK_NONE

static uint32_t *bucket_of(const struct kv_disk_index *x, const struct sha256 *key)
{
    uint32_t h;
    memcpy(&h, key->bytes, sizeof h); /* a digest is its own hash */
    return &x->buckets[h & x->mask];
}

/* ---- order ---- */

static void link_older(struct kv_disk_index *x, uint32_t slot, uint32_t newer)
{
    struct kv_disk_slot *s = &x->slots[slot];
    s->newer = newer;
    s->older = newer == NONE ? x->newest : x->slots[newer].older;
    *(newer == NONE ? &x->newest : &x->slots[newer].older) = slot;
    *(s->older == NONE ? &x->oldest : &x->slots[s->older].newer) = slot;
}

static void unlink_slot(struct kv_disk_index *x, uint32_t slot)
{
    struct kv_disk_slot *s = &x->slots[slot];
    *(s->newer == NONE ? &x->newest : &x->slots[s->newer].older) = s->older;
    *(s->older == NONE ? &x->oldest : &x->slots[s->older].newer) = s->newer;
}

void kv_disk__index_touch(struct kv_disk_index *x, uint32_t slot)
{
    unlink_slot(x, slot);
    link_older(x, slot, NONE);
    x->slots[slot].generation = ++x->generation;
}

/* ---- life ---- */

bool kv_disk__index_init(struct kv_disk_index *x, uint32_t n_max, struct error *err)
{
    uint32_t n_buckets = 16;
    while (n_buckets < n_max) {
        n_buckets *= 2; /* n_max is at most KV_DISK_MAX_SLOTS */
    }
    *x = (struct kv_disk_index){.n_max = n_max, .mask = n_buckets - 1};
    x->slots = calloc(n_max ? n_max : 1, sizeof *x->slots);
    x->buckets = malloc(n_buckets * sizeof *x->buckets);
    if (!x->slots || !x->buckets) {
        return error_set(err, ERR_NO_MEMORY, "There is no memory for the index of %u blocks on disk.", n_max);
    }
    kv_disk__index_reset(x);
    return true;
}

void kv_disk__index_release(struct kv_disk_index *x)
{
    free(x->slots);
    free(x->buckets);
    *x = (struct kv_disk_index){0};
}

void kv_disk__index_reset(struct kv_disk_index *x)
{
    for (uint32_t i = 0; i < x->n_slots; i++) {
        x->slots[i].state = KV_DISK_FREE; /* serials stay: what was asked before is known as such */
    }
    memset(x->buckets, 0xff, ((size_t)x->mask + 1) * sizeof *x->buckets);
    x->free_slot = x->newest = x->oldest = NONE;
    x->n_slots = x->n_free = x->n_ready = 0;
}

static void push_free(struct kv_disk_index *x, uint32_t slot)
{
    x->slots[slot].state = KV_DISK_FREE;
    x->slots[slot].next = x->free_slot;
    x->free_slot = slot;
    x->n_free++;
}

void kv_disk__index_grow(struct kv_disk_index *x, uint32_t n_slots)
{
    uint32_t before = x->n_slots;
    n_slots = n_slots < x->n_max ? n_slots : x->n_max;
    for (uint32_t i = n_slots; i > before; i--) { /* the lowest is taken first */
        push_free(x, i - 1);
    }
    x->n_slots = n_slots > before ? n_slots : before;
}

/* ---- blocks ---- */

uint32_t kv_disk__index_find(const struct kv_disk_index *x, const struct sha256 *key)
{
    uint32_t i = *bucket_of(x, key);
    while (i != NONE && memcmp(&x->slots[i].key, key, sizeof *key) != 0) {
        i = x->slots[i].next;
    }
    return i;
}

static void put_into_bucket(struct kv_disk_index *x, uint32_t slot)
{
    uint32_t *bucket = bucket_of(x, &x->slots[slot].key);
    x->slots[slot].next = *bucket;
    *bucket = slot;
}

uint32_t kv_disk__index_add(struct kv_disk_index *x, const struct sha256 *key, uint32_t parent, uint32_t depth)
{
    uint32_t slot = x->free_slot;
    if (slot == NONE) {
        return NONE;
    }
    struct kv_disk_slot *s = &x->slots[slot];
    x->free_slot = s->next;
    x->n_free--;
    s->key = *key;
    s->depth = depth;
    s->serial++;
    s->state = KV_DISK_WRITING;
    s->generation = parent == NONE ? ++x->generation : x->slots[parent].generation;
    put_into_bucket(x, slot);
    link_older(x, slot, parent);
    return slot;
}

void kv_disk__index_ready(struct kv_disk_index *x, uint32_t slot)
{
    x->slots[slot].state = KV_DISK_READY;
    x->n_ready++;
}

void kv_disk__index_remove(struct kv_disk_index *x, uint32_t slot)
{
    struct kv_disk_slot *s = &x->slots[slot];
    uint32_t *link = bucket_of(x, &s->key);
    while (*link != slot) {
        link = &x->slots[*link].next;
    }
    *link = s->next;
    x->n_ready -= s->state == KV_DISK_READY;
    unlink_slot(x, slot);
    push_free(x, slot);
}

/* ---- what a store holds when it is opened ---- */

static void take_out_of_free(struct kv_disk_index *x)
{
    x->free_slot = NONE;
    x->n_free = 0;
    for (uint32_t i = x->n_slots; i > 0; i--) {
        if (x->slots[i - 1].state == KV_DISK_FREE) {
            push_free(x, i - 1);
        }
    }
}

void kv_disk__index_found(struct kv_disk_index *x, uint32_t slot, const struct kv_disk_head *head)
{
    struct kv_disk_slot *s = &x->slots[slot];
    uint32_t other = kv_disk__index_find(x, &head->key);
    if (other != NONE && x->slots[other].generation >= head->generation) {
        return;
    }
    if (other != NONE) {
        kv_disk__index_remove(x, other);
    }
    s->key = head->key;
    s->depth = head->depth;
    s->generation = head->generation;
    s->serial++;
    x->generation = head->generation > x->generation ? head->generation : x->generation;
    put_into_bucket(x, slot);
    link_older(x, slot, NONE);
    kv_disk__index_ready(x, slot);
}

struct age {
    uint64_t generation;
    uint32_t depth, slot;
};

/* Oldest first; of one generation the deepest, which is the farthest child. */
static int by_age(const void *a, const void *b)
{
    const struct age *p = a, *q = b;
    if (p->generation != q->generation) {
        return p->generation < q->generation ? -1 : 1;
    }
    if (p->depth != q->depth) {
        return p->depth > q->depth ? -1 : 1;
    }
    return p->slot < q->slot ? -1 : p->slot > q->slot;
}

bool kv_disk__index_order(struct kv_disk_index *x, struct error *err)
{
    uint32_t n = 0;
    struct age *ages = malloc(((size_t)x->n_ready + 1) * sizeof *ages);
    if (!ages) {
        return error_set(err, ERR_NO_MEMORY, "There is no memory to order %u blocks on disk.", x->n_ready);
    }
    for (uint32_t i = 0; i < x->n_slots; i++) {
        if (x->slots[i].state == KV_DISK_READY) {
            ages[n++] = (struct age){x->slots[i].generation, x->slots[i].depth, i};
        }
    }
    qsort(ages, n, sizeof *ages, by_age);
    x->newest = x->oldest = NONE;
    for (uint32_t i = 0; i < n; i++) {
        link_older(x, ages[i].slot, NONE);
    }
    free(ages);
    take_out_of_free(x);
    return true;
}

/* ---- recount ---- */

static bool wrong(struct error *err, const char *what, uint32_t slot)
{
    return error_set(err, ERR_INTERNAL, "The index of blocks on disk is wrong: %s (slot %u).", what, slot);
}

static uint32_t count_free(const struct kv_disk_index *x)
{
    uint32_t n = 0;
    for (uint32_t i = x->free_slot; i != NONE && n <= x->n_slots; i = x->slots[i].next) {
        n++;
    }
    return n;
}

bool kv_disk__index_check(const struct kv_disk_index *x, struct error *err)
{
    uint32_t n_used = 0, n_ready = 0, before = NONE;
    for (uint32_t i = x->newest; i != NONE; before = i, i = x->slots[i].older) {
        const struct kv_disk_slot *s = &x->slots[i];
        if (i >= x->n_slots || s->state == KV_DISK_FREE || s->newer != before || ++n_used > x->n_slots) {
            return wrong(err, "the order of last use", i);
        }
        if (kv_disk__index_find(x, &s->key) != i) {
            return wrong(err, "a block is not found by its key", i);
        }
        if (s->generation > x->generation) {
            return wrong(err, "a block is newer than the newest", i);
        }
        n_ready += s->state == KV_DISK_READY;
    }
    if (before != x->oldest || n_ready != x->n_ready) {
        return wrong(err, "the counts of blocks", n_ready);
    }
    return (count_free(x) == x->n_free && n_used + x->n_free == x->n_slots) || wrong(err, "the free slots", x->n_free);
}
