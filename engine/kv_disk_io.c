/* The tier's thread: one operation after another, reads before writes, since a request waits for them. It sees an
 * operation, the memory of its buffer and the store; the index is the engine's. Writes, erasures and growth keep their
 * order; a read never names a slot that an operation before it changes, and checks what it gets in any case. */
#include "engine/kv_disk_internal.h"

#include "base/clock.h"
#include "base/sys_file.h"
#include "base/sys_proc.h"

#include <errno.h>

static void refuse(struct kv_disk_op *op)
{
    op->result = KV_DISK_REFUSED;
    op->reason = errno;
}

static bool read_pages(struct kv_disk *d, const struct kv_disk_op *op, const struct kv_disk_head *head, bool *right)
{
    const struct kv_disk_layout *l = &d->layout;
    uint64_t slot = kv_disk__slot_offset(l, op->slot);
    uint8_t *memory = d->buffers[op->buffer].memory;
    *right = true;
    for (int g = 0; g < l->n_groups && *right; g++) {
        uint8_t *page = memory + l->offset[g];
        if (!(op->groups >> g & 1)) {
            continue;
        }
        if (!file_read_at(d->store.fd, slot + l->offset[g], page, l->page_size[g])) {
            return false;
        }
        *right = kv_disk__page_sum(l, &head->key, g, page) == head->sums[g];
    }
    return true;
}

static void run_read(struct kv_disk *d, struct kv_disk_op *op)
{
    uint8_t raw[KV_DISK_SLOT_HEAD];
    struct kv_disk_head head;
    int64_t start = clock_ns();
    bool right = false;
    if (atomic_load(&d->buffers[op->buffer].cancelled) || atomic_load(&d->stopping)) {
        op->result = KV_DISK_CANCELLED;
        return;
    }
    bool ok = file_read_at(d->store.fd, kv_disk__head_offset(&d->layout, op->slot), raw, sizeof raw);
    if (ok && kv_disk__get_slot_head(&d->layout, op->slot, raw, &head) &&
        memcmp(&head.key, &op->head.key, sizeof head.key) == 0) {
        ok = read_pages(d, op, &head, &right);
    }
    if (!ok && errno != ENODATA) {
        refuse(op);
    } else {
        op->result = right ? KV_DISK_OK : KV_DISK_BAD;
    }
    op->ns = clock_ns() - start;
}

static bool put_head(struct kv_disk *d, uint32_t slot, const uint8_t head[KV_DISK_SLOT_HEAD])
{
    return file_write_at(d->store.fd, kv_disk__head_offset(&d->layout, slot), head, KV_DISK_SLOT_HEAD);
}

static bool erase(struct kv_disk *d, uint32_t slot)
{
    static const uint8_t nothing[KV_DISK_SLOT_HEAD];
    return put_head(d, slot, nothing);
}

static void run_write(struct kv_disk *d, struct kv_disk_op *op)
{
    const struct kv_disk_layout *l = &d->layout;
    const uint8_t *memory = d->buffers[op->buffer].memory;
    uint8_t raw[KV_DISK_SLOT_HEAD];
    if (atomic_load(&d->stopping) && clock_ns() > atomic_load(&d->stop_ns)) {
        op->result = KV_DISK_CANCELLED;
        return;
    }
    for (int g = 0; g < l->n_groups; g++) {
        op->head.sums[g] = kv_disk__page_sum(l, &op->head.key, g, memory + l->offset[g]);
    }
    kv_disk__put_slot_head(l, op->slot, &op->head, raw);
    if (erase(d, op->slot) && file_write_at(d->store.fd, kv_disk__slot_offset(l, op->slot), memory, l->payload_size) &&
        put_head(d, op->slot, raw)) {
        op->result = KV_DISK_OK;
    } else {
        refuse(op);
    }
}

static void run(struct kv_disk *d, struct kv_disk_op *op)
{
    switch (op->work) {
    case KV_DISK_READ:
        run_read(d, op);
        break;
    case KV_DISK_WRITE:
        run_write(d, op);
        break;
    case KV_DISK_PREFETCH:
        file_prefetch(d->store.fd, kv_disk__slot_offset(&d->layout, op->slot), d->layout.payload_size);
        return;
    case KV_DISK_ERASE:
        atomic_fetch_add(&d->n_failed, erase(d, op->slot) ? 0 : 1);
        return;
    case KV_DISK_CLEAR:
        atomic_fetch_add(&d->n_failed, kv_disk__store_clear(&d->store) ? 0 : 1);
        return;
    case KV_DISK_GROW:
        kv_disk__store_grow(&d->store);
        op->n_slots = d->store.n_slots;
        break;
    }
    queue_push(d->done, op); /* there is room for everything that can be on its way: kv_disk_create */
}

void *kv_disk__thread(void *disk)
{
    struct kv_disk *d = disk;
    struct kv_disk_op op;
    char token;
    sys_name_thread("kv-disk");
    while (queue_wait(d->work, &token, -1)) {
        if (!queue_pop(d->reads, &op) && !queue_pop(d->writes, &op)) {
            continue;
        }
        run(d, &op);
        if (d->ready && (op.work == KV_DISK_READ || queue_len(d->work) == 0)) {
            d->ready(d->ready_arg);
        }
    }
    return NULL;
}
