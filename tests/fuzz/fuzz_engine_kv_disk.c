/* Heads of a store of the disk tier. The first byte chooses: 0 slot heads as they lie in a file; otherwise the same
 * with checksums put right, which random bytes never have. Whatever is found must make an index whose books balance,
 * before and after blocks come, go and are used as the rest of the bytes says. */
#include "engine/kv_disk_internal.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define N_SLOTS 64

static void check(const struct kv_disk_index *x)
{
    struct error err = {0};
    if (!kv_disk__index_check(x, &err)) {
        abort();
    }
}

/* The head that these bytes would be if their checksum were right. */
static void put_right(const struct kv_disk_layout *l, uint32_t slot, const uint8_t in[KV_DISK_SLOT_HEAD],
                      uint8_t out[KV_DISK_SLOT_HEAD])
{
    struct kv_disk_head head = {0};
    memcpy(&head.depth, in + 4, 4);
    memcpy(&head.generation, in + 8, 8);
    memcpy(head.key.bytes, in + 16, SHA256_SIZE);
    head.key.bytes[0] &= 3; /* so that keys meet */
    memcpy(&head.cost_ns, in + 48, 8);
    memcpy(head.sums, in + 56, sizeof head.sums);
    kv_disk__put_slot_head(l, slot, &head, out);
}

static void find_blocks(const struct kv_disk_layout *l, struct kv_disk_index *x, bool raw, const uint8_t *data,
                        uint32_t n)
{
    struct error err = {0};
    kv_disk__index_grow(x, n);
    for (uint32_t i = 0; i < n; i++) {
        uint8_t bytes[KV_DISK_SLOT_HEAD], again[KV_DISK_SLOT_HEAD];
        struct kv_disk_head head;
        memcpy(bytes, data + (size_t)i * KV_DISK_SLOT_HEAD, sizeof bytes);
        if (!raw) {
            put_right(l, i, bytes, bytes);
        }
        if (!kv_disk__get_slot_head(l, i, bytes, &head)) {
            continue;
        }
        kv_disk__put_slot_head(l, i, &head, again);
        if (memcmp(bytes, again, sizeof bytes) != 0) {
            abort(); /* what is read is what was written */
        }
        kv_disk__index_found(x, i, &head);
    }
    if (!kv_disk__index_order(x, &err)) {
        abort();
    }
}

static void use(struct kv_disk_index *x, const uint8_t *data, size_t size)
{
    for (size_t i = 0; i + 1 < size; i += 2) {
        struct sha256 key = {{data[i + 1] & 3, data[i + 1] >> 2}};
        uint32_t slot = kv_disk__index_find(x, &key), oldest = x->oldest;
        if (data[i] % 4 == 0 && slot == KV_DISK_NONE) {
            slot = kv_disk__index_add(x, &key, data[i] & 4 ? x->newest : KV_DISK_NONE, data[i]);
            if (slot != KV_DISK_NONE && data[i] & 8) {
                kv_disk__index_ready(x, slot);
            }
        } else if (data[i] % 4 == 1 && slot != KV_DISK_NONE) {
            kv_disk__index_touch(x, slot);
        } else if (data[i] % 4 == 2 && oldest != KV_DISK_NONE) {
            kv_disk__index_remove(x, oldest);
        } else if (data[i] % 4 == 3) {
            kv_disk__index_grow(x, x->n_slots + data[i + 1] % 3);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kv_disk_options options = {.page_tokens = 32, .n_groups = 2, .page_size = {5000, 700}};
    struct kv_disk_layout layout;
    struct kv_disk_index index;
    struct error err = {0};
    if (size == 0 || !kv_disk__layout_init(&layout, &options, &err)) {
        return 0;
    }
    uint32_t n = (uint32_t)((size - 1) / KV_DISK_SLOT_HEAD);
    n = n < N_SLOTS ? n : N_SLOTS;
    if (!kv_disk__index_init(&index, N_SLOTS, &err)) {
        return 0;
    }
    find_blocks(&layout, &index, data[0] == 0, data + 1, n);
    check(&index);
    use(&index, data + 1 + (size_t)n * KV_DISK_SLOT_HEAD, size - 1 - (size_t)n * KV_DISK_SLOT_HEAD);
    check(&index);
    kv_disk__index_reset(&index);
    kv_disk__index_grow(&index, N_SLOTS);
    check(&index);
    kv_disk__index_release(&index);
    return 0;
}
