#include "engine/kv_disk_internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/sys_file.h"

#include <stdlib.h>

#define NONE          KV_DISK_NONE
#define BUFFERS_LEAST 4
#define BUFFERS_MOST  1024
#define SMALL_OPS     256 /* operations without a buffer that may wait */
#define STOP_NS       1000000000
#define GROW_EARLY    32  /* it is asked for when so few slots are free: more than a step's blocks */
#define GROW_AGAIN    256 /* what there was no room for may fit after so many blocks made room for others */

/* ---- operations ---- */

static bool push(struct kv_disk *d, struct queue *q, struct kv_disk_op *op)
{
    char token = 0;
    op->epoch = d->epoch;
    if (!queue_push(q, op)) {
        return false;
    }
    queue_push(d->work, &token); /* it has room for as many as both others together */
    return true;
}

/* Writing may take half of the buffers, so that reads never wait for a slow disk to take what it was given. */
static uint32_t take_buffer(struct kv_disk *d, bool writes)
{
    if (writes && d->n_writing >= d->n_buffers / 2) {
        return NONE;
    }
    for (uint32_t i = 0; i < d->n_buffers; i++) {
        struct kv_disk_buffer *b = &d->buffers[i];
        if (b->used) {
            continue;
        }
        b->memory = b->memory ? b->memory : malloc(d->layout.payload_size);
        if (!b->memory) {
            return NONE;
        }
        b->used = true;
        b->writes = writes;
        d->n_writing += writes;
        d->n_queued++;
        atomic_store(&b->cancelled, false);
        return i;
    }
    return NONE;
}

static void release_buffer(struct kv_disk *d, uint32_t buffer)
{
    struct kv_disk_buffer *b = &d->buffers[buffer];
    b->used = false;
    d->n_writing -= b->writes;
    d->n_queued--;
}

/* ---- life ---- */

static bool create_queues(struct kv_disk *d, struct error *err)
{
    size_t payload = d->layout.payload_size, n = d->n_buffers;
    d->buffers = calloc(n, sizeof *d->buffers);
    d->reads = queue_create(sizeof(struct kv_disk_op), n);
    d->writes = queue_create(sizeof(struct kv_disk_op), n + SMALL_OPS);
    d->work = queue_create(1, 2 * n + SMALL_OPS);
    d->done = queue_create(sizeof(struct kv_disk_op), n + SMALL_OPS); /* each has a buffer, or is one of those */
    return (d->buffers && d->reads && d->writes && d->work && d->done) ||
           error_set(err, ERR_NO_MEMORY, "There is no memory to keep blocks of %zu bytes on disk.", payload);
}

/* Heads only, a segment's at a time. */
static bool read_heads(struct kv_disk *d, struct error *err)
{
    uint8_t *heads = malloc((size_t)KV_DISK_SEGMENT * KV_DISK_SLOT_HEAD);
    uint32_t n_slots = d->store.n_slots, n;
    uint64_t latest = 0;
    bool ok = heads || error_set(err, ERR_NO_MEMORY, "There is no memory to read what is on disk.");
    kv_disk__index_grow(&d->index, n_slots);
    for (uint32_t first = 0; ok && first < d->index.n_slots; first += n) {
        n = d->index.n_slots - first < KV_DISK_SEGMENT ? d->index.n_slots - first : KV_DISK_SEGMENT;
        if (!file_read_at(d->store.fd, kv_disk__head_offset(&d->layout, first), heads, (size_t)n * KV_DISK_SLOT_HEAD)) {
            d->stats.errors++;
            continue; /* those blocks are not found */
        }
        for (uint32_t i = 0; i < n; i++) {
            struct kv_disk_head head;
            if (kv_disk__get_slot_head(&d->layout, first + i, heads + (size_t)i * KV_DISK_SLOT_HEAD, &head)) {
                kv_disk__index_found(&d->index, first + i, &head);
                d->cost_ns = head.generation >= latest ? head.cost_ns : d->cost_ns;
                latest = head.generation >= latest ? head.generation : latest;
            }
        }
    }
    free(heads);
    return ok && kv_disk__index_order(&d->index, err);
}

static bool start_thread(struct kv_disk *d, struct error *err)
{
    int rc = pthread_create(&d->thread, NULL, kv_disk__thread, d);
    d->started = rc == 0;
    return d->started ||
           error_set(err, ERR_NO_MEMORY, "The thread of the disk cache could not be started: %s.", strerror(rc));
}

static bool open_store(struct kv_disk *d, const struct kv_disk_options *o, struct error *err)
{
    if (!kv_disk__store_open(&d->store, &d->layout, o->dir, o->max_size, err)) {
        return false;
    }
    d->read_only = d->store.read_only;
    d->may_grow = !d->read_only;
    if (!d->read_only && d->store.n_slots == 0) {
        kv_disk__store_grow(&d->store); /* nothing is to be missed for want of a first slot */
    }
    uint32_t n_max = kv_disk__slots_in(&d->layout, o->max_size);
    n_max = n_max > d->store.n_slots ? n_max : d->store.n_slots;
    if (!kv_disk__index_init(&d->index, n_max, err) || !read_heads(d, err)) {
        return false;
    }
    LOG_INFO("disk cache", "file=\"%s/%s\" blocks=%u limit=%u block_bytes=%zu%s", o->dir, d->store.name,
             d->index.n_ready, n_max, d->layout.slot_size, d->read_only ? " read_only=true" : "");
    if (d->read_only) {
        LOG_WARN("disk cache is only read: another engine writes to it", "file=\"%s\"", d->store.name);
    } else if (d->store.n_slots == 0) {
        LOG_WARN("disk cache has no room: its folder or file system is full", "file=\"%s\"", d->store.name);
    }
    return true;
}

struct kv_disk *kv_disk_create(const struct kv_disk_options *o, struct error *err)
{
    struct kv_disk *d = calloc(1, sizeof *d);
    if (!d) {
        error_set(err, ERR_NO_MEMORY, "There is no memory for a disk cache.");
        return NULL;
    }
    d->store = (struct kv_disk_store){.dir_fd = -1, .lock_fd = -1, .fd = -1};
    d->last_read = NONE;
    bool ok = kv_disk__layout_init(&d->layout, o, err);
    if (ok) {
        size_t n = (o->buffer_size ? o->buffer_size : KV_DISK_BUFFER_SIZE) / d->layout.payload_size;
        n = n < BUFFERS_LEAST ? BUFFERS_LEAST : n > BUFFERS_MOST ? BUFFERS_MOST : n;
        d->n_buffers = (uint32_t)n;
        ok = create_queues(d, err) && open_store(d, o, err) && start_thread(d, err);
    }
    if (!ok) {
        kv_disk_free(d);
        return NULL;
    }
    return d;
}

/* Heads as they are in the file, with the order of use as it is now. False: nothing changed. */
static bool renew_heads(const struct kv_disk *d, uint32_t first, uint32_t n, uint8_t *heads)
{
    bool changed = false;
    for (uint32_t i = 0; i < n; i++) {
        const struct kv_disk_slot *s = &d->index.slots[first + i];
        uint8_t *raw = heads + (size_t)i * KV_DISK_SLOT_HEAD;
        struct kv_disk_head head;
        if (s->state == KV_DISK_READY && kv_disk__get_slot_head(&d->layout, first + i, raw, &head) &&
            head.generation != s->generation && memcmp(&head.key, &s->key, sizeof s->key) == 0) {
            head.generation = s->generation;
            kv_disk__put_slot_head(&d->layout, first + i, &head, raw);
            changed = true;
        }
    }
    return changed;
}

/* The order of use is only kept in memory; after a crash, blocks are as old as when they were written. */
static void save_order(struct kv_disk *d)
{
    uint8_t *heads = malloc((size_t)KV_DISK_SEGMENT * KV_DISK_SLOT_HEAD);
    uint32_t n;
    bool ok = heads && !d->read_only && !d->off;
    for (uint32_t first = 0; ok && first < d->index.n_slots; first += n) {
        uint64_t at = kv_disk__head_offset(&d->layout, first);
        n = d->index.n_slots - first < KV_DISK_SEGMENT ? d->index.n_slots - first : KV_DISK_SEGMENT;
        ok = file_read_at(d->store.fd, at, heads, (size_t)n * KV_DISK_SLOT_HEAD) &&
             (!renew_heads(d, first, n, heads) || file_write_at(d->store.fd, at, heads, (size_t)n * KV_DISK_SLOT_HEAD));
    }
    free(heads);
}

static void stop_thread(struct kv_disk *d)
{
    struct kv_disk_read ignored;
    atomic_store(&d->stop_ns, clock_ns() + STOP_NS);
    atomic_store(&d->stopping, true);
    queue_close(d->work); /* what is in it is still taken */
    pthread_join(d->thread, NULL);
    while (kv_disk_next(d, &ignored)) { /* which blocks were written */
    }
    if (d->clear_again) {
        (void)!kv_disk__store_clear(&d->store);
    } else {
        save_order(d);
    }
}

void kv_disk_free(struct kv_disk *d)
{
    if (!d) {
        return;
    }
    if (d->started) {
        stop_thread(d);
    }
    for (uint32_t i = 0; d->buffers && i < d->n_buffers; i++) {
        free(d->buffers[i].memory);
    }
    kv_disk__store_close(&d->store);
    kv_disk__index_release(&d->index);
    free(d->buffers);
    queue_free(d->work);
    queue_free(d->reads);
    queue_free(d->writes);
    queue_free(d->done);
    free(d);
}

void kv_disk_on_ready(struct kv_disk *d, void (*fn)(void *arg), void *arg)
{
    d->ready = fn;
    d->ready_arg = arg;
}

/* ---- writing ---- */

static void ask_for_growth(struct kv_disk *d)
{
    struct kv_disk_op op = {.work = KV_DISK_GROW};
    if (d->may_grow && !d->growing && d->index.n_slots < d->index.n_max) {
        d->growing = push(d, d->writes, &op);
    }
}

/* A slot for a child of this parent: a free one, or that of the block unused for the longest time once the store cannot
 * grow. NONE also when that is the parent itself: the store is full of one chain. */
static uint32_t take_slot(struct kv_disk *d, const struct kv_disk_block *block, uint32_t parent)
{
    struct kv_disk_index *x = &d->index;
    if (x->n_free <= GROW_EARLY) {
        ask_for_growth(d);
    }
    if (x->n_free == 0) {
        uint32_t oldest = x->oldest;
        if (d->growing || oldest == NONE || oldest == parent || x->slots[oldest].state != KV_DISK_READY) {
            return NONE;
        }
        kv_disk__index_remove(x, oldest);
        d->stats.recycled++;
        d->may_grow |= ++d->n_recycled_since % GROW_AGAIN == 0;
    }
    return kv_disk__index_add(x, &block->key, parent, block->depth);
}

static bool write_block(struct kv_disk *d, const struct kv_disk_block *block, uint32_t parent)
{
    uint32_t buffer = take_buffer(d, true);
    uint32_t slot = buffer == NONE ? NONE : take_slot(d, block, parent);
    if (slot == NONE) {
        if (buffer != NONE) {
            release_buffer(d, buffer);
        }
        return false;
    }
    for (int g = 0; g < d->layout.n_groups; g++) {
        memcpy(d->buffers[buffer].memory + d->layout.offset[g], block->pages[g], d->layout.page_size[g]);
    }
    const struct kv_disk_slot *s = &d->index.slots[slot];
    struct kv_disk_op op = {
        .work = KV_DISK_WRITE,
        .slot = slot,
        .serial = s->serial,
        .buffer = buffer,
        .head = {.key = block->key, .generation = s->generation, .depth = block->depth, .cost_ns = block->cost_ns}};
    if (!push(d, d->writes, &op)) {
        kv_disk__index_remove(&d->index, slot);
        release_buffer(d, buffer);
        return false;
    }
    d->cost_ns = block->cost_ns ? block->cost_ns : d->cost_ns;
    return true;
}

void kv_disk_offer(struct kv_disk *d, const struct kv_disk_block *block)
{
    if (kv_disk__index_find(&d->index, &block->key) != NONE) {
        return;
    }
    if (d->read_only || d->off || d->clear_again) {
        return;
    }
    uint32_t parent = block->parent ? kv_disk__index_find(&d->index, block->parent) : NONE;
    if ((block->parent && parent == NONE) || !write_block(d, block, parent)) {
        d->stats.skipped++;
    }
}

void kv_disk_touch(struct kv_disk *d, const struct sha256 *key)
{
    uint32_t slot = kv_disk__index_find(&d->index, key);
    if (slot != NONE) {
        kv_disk__index_touch(&d->index, slot);
    }
}

/* ---- reading ---- */

/* The slot of a block that can be read. */
static uint32_t find_ready(const struct kv_disk *d, const struct sha256 *key)
{
    uint32_t slot = kv_disk__index_find(&d->index, key);
    return slot != NONE && d->index.slots[slot].state == KV_DISK_READY ? slot : NONE;
}

bool kv_disk_has(const struct kv_disk *d, const struct sha256 *key)
{
    return find_ready(d, key) != NONE;
}

uint64_t kv_disk_cost_ns(const struct kv_disk *d)
{
    return d->cost_ns;
}

bool kv_disk_read(struct kv_disk *d, const struct sha256 *key, uint32_t groups, uint64_t ticket, uint32_t tag)
{
    uint32_t slot = find_ready(d, key), buffer = slot == NONE ? NONE : take_buffer(d, false);
    if (buffer == NONE) {
        return false;
    }
    struct kv_disk_op op = {.work = KV_DISK_READ,
                            .slot = slot,
                            .serial = d->index.slots[slot].serial,
                            .buffer = buffer,
                            .groups = groups,
                            .ticket = ticket,
                            .tag = tag,
                            .head = {.key = *key}};
    d->buffers[buffer].ticket = ticket;
    if (!push(d, d->reads, &op)) {
        release_buffer(d, buffer);
        return false;
    }
    return true;
}

static void cancel_reads(struct kv_disk *d, bool all, uint64_t ticket)
{
    for (uint32_t i = 0; i < d->n_buffers; i++) {
        struct kv_disk_buffer *b = &d->buffers[i];
        if (b->used && !b->writes && (all || b->ticket == ticket)) {
            atomic_store(&b->cancelled, true);
        }
    }
}

void kv_disk_cancel(struct kv_disk *d, uint64_t ticket)
{
    cancel_reads(d, false, ticket);
}

void kv_disk_prefetch(struct kv_disk *d, const struct sha256 *key)
{
    struct kv_disk_op op = {.work = KV_DISK_PREFETCH, .slot = find_ready(d, key)};
    if (op.slot != NONE) {
        (void)push(d, d->writes, &op); /* it is advice */
    }
}

/* ---- forgetting ---- */

/* Nothing is written before it. */
static void push_clear(struct kv_disk *d)
{
    struct kv_disk_op op = {.work = KV_DISK_CLEAR};
    d->clear_again = !push(d, d->writes, &op);
}

void kv_disk_clear(struct kv_disk *d)
{
    d->epoch++; /* what is on its way does not concern the index any more */
    kv_disk__index_reset(&d->index);
    cancel_reads(d, true, 0);
    d->growing = d->off = false;
    d->may_grow = !d->read_only;
    if (!d->read_only) {
        push_clear(d);
        ask_for_growth(d);
    }
}

void kv_disk_forget(struct kv_disk *d, const struct sha256 *key)
{
    uint32_t slot = kv_disk__index_find(&d->index, key);
    if (slot == NONE) {
        return;
    }
    struct kv_disk_op op = {.work = KV_DISK_ERASE, .slot = slot};
    kv_disk__index_remove(&d->index, slot); /* a write on its way comes before the erasure */
    if (!d->read_only && !push(d, d->writes, &op)) {
        kv_disk_clear(d); /* rather everything than what must not be used again */
    }
}

/* ---- what has ended ---- */

/* Whether the slot still holds what the operation was about. */
static bool is_current(const struct kv_disk *d, const struct kv_disk_op *op)
{
    return op->epoch == d->epoch && d->index.slots[op->slot].serial == op->serial &&
           d->index.slots[op->slot].state != KV_DISK_FREE;
}

static void note_refusal(struct kv_disk *d, const struct kv_disk_op *op)
{
    d->stats.errors++;
    if (op->work == KV_DISK_WRITE && !d->off) {
        d->off = true;
        LOG_WARN("disk cache takes no more blocks: a write failed", "file=\"%s\" error=\"%s\"", d->store.name,
                 strerror(op->reason));
    }
}

static void end_write(struct kv_disk *d, const struct kv_disk_op *op)
{
    release_buffer(d, op->buffer);
    if (op->result == KV_DISK_REFUSED) {
        note_refusal(d, op);
    }
    if (op->result == KV_DISK_OK) {
        d->stats.written++;
    }
    if (!is_current(d, op)) {
        return;
    }
    if (op->result == KV_DISK_OK) {
        kv_disk__index_ready(&d->index, op->slot);
    } else {
        kv_disk__index_remove(&d->index, op->slot);
    }
}

/* What was bad or could not be read is not asked for again. */
static void end_read(struct kv_disk *d, const struct kv_disk_op *op, struct kv_disk_read *out)
{
    *out = (struct kv_disk_read){
        .ticket = op->ticket, .tag = op->tag, .ns = op->ns, .ok = op->result == KV_DISK_OK && op->epoch == d->epoch};
    d->last_read = op->buffer;
    d->stats.read += op->result == KV_DISK_OK;
    if (op->result == KV_DISK_REFUSED) {
        note_refusal(d, op);
    }
    if (op->result != KV_DISK_OK && op->result != KV_DISK_CANCELLED && is_current(d, op)) {
        d->stats.dropped++;
        kv_disk__index_remove(&d->index, op->slot);
    }
    for (int g = 0; out->ok && g < d->layout.n_groups; g++) {
        out->pages[g] = op->groups >> g & 1 ? d->buffers[op->buffer].memory + d->layout.offset[g] : NULL;
    }
}

static void end_growth(struct kv_disk *d, const struct kv_disk_op *op)
{
    if (op->epoch == d->epoch) {
        d->growing = false;
        d->may_grow = op->n_slots > d->index.n_slots;
        kv_disk__index_grow(&d->index, op->n_slots);
    }
}

bool kv_disk_next(struct kv_disk *d, struct kv_disk_read *out)
{
    struct kv_disk_op op;
    if (d->last_read != NONE) {
        release_buffer(d, d->last_read);
        d->last_read = NONE;
    }
    if (d->clear_again) {
        push_clear(d);
    }
    while (queue_pop(d->done, &op)) {
        if (op.work == KV_DISK_READ) {
            end_read(d, &op, out);
            return true;
        }
        if (op.work == KV_DISK_WRITE) {
            end_write(d, &op);
        } else {
            end_growth(d, &op);
        }
    }
    return false;
}

struct kv_disk_stats kv_disk_stats(const struct kv_disk *d)
{
    struct kv_disk_stats s = d->stats;
    s.blocks = d->index.n_ready;
    s.size = (uint64_t)d->index.n_ready * d->layout.slot_size;
    s.limit = (uint64_t)d->index.n_max * d->layout.slot_size;
    s.queued = d->n_queued;
    s.errors += atomic_load(&d->n_failed);
    return s;
}

bool kv_disk_check(const struct kv_disk *d, struct error *err)
{
    uint32_t n_writing = 0, n_queued = 0;
    for (uint32_t i = 0; i < d->n_buffers; i++) {
        n_queued += d->buffers[i].used;
        n_writing += d->buffers[i].used && d->buffers[i].writes;
    }
    if (n_writing != d->n_writing || n_queued != d->n_queued) {
        return error_set(err, ERR_INTERNAL, "The disk tier's buffers are wrong: %u of %u writing, %u of %u in all.",
                         n_writing, d->n_writing, n_queued, d->n_queued);
    }
    return kv_disk__index_check(&d->index, err);
}
