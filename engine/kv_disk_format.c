#include "engine/kv_disk_internal.h"

#include "base/array.h"

#include <assert.h>

#define MAGIC       "TANDEMKV"
#define VERSION     1
#define SLOT_MAGIC  0x31564b54u /* "TKV1" */
#define ALIGN       4096
#define MAX_COUNTER (UINT64_MAX >> 1) /* of a generation read from a file: there is always a higher one */
#define HEADS_SIZE  ((uint64_t)KV_DISK_SEGMENT * KV_DISK_SLOT_HEAD)

/* Bytes are little-endian, as everywhere (CONTRIBUTING.md). */
struct file_head {
    char magic[8];
    uint32_t version, page_tokens, n_groups, slot_head_size, segment_slots, unused;
    uint64_t slot_size;
    uint64_t page_size[KV_MAX_GROUPS];
    struct sha256 identity;
    uint64_t sum; /* of all before it */
};

struct slot_head {
    uint32_t magic, depth;
    uint64_t generation;
    struct sha256 key;
    uint64_t cost_ns;
    uint64_t sums[KV_MAX_GROUPS];
    uint64_t sum; /* of all before it, seeded by the store and the slot's number */
};
static_assert(sizeof(struct slot_head) == KV_DISK_SLOT_HEAD, "a slot's head has a fixed size in the file");
static_assert(sizeof(struct file_head) <= KV_DISK_FILE_HEAD, "the file's head fits into its place");

bool kv_disk__layout_init(struct kv_disk_layout *l, const struct kv_disk_options *o, struct error *err)
{
    size_t size = 0, ignored;
    *l = (struct kv_disk_layout){.identity = o->identity, .page_tokens = o->page_tokens, .n_groups = o->n_groups};
    memcpy(&l->seed, o->identity.bytes, sizeof l->seed);
    bool ok = true;
    for (int g = 0; g < o->n_groups; g++) {
        l->page_size[g] = o->page_size[g];
        l->offset[g] = size;
        ok = ok && size_add(size, o->page_size[g], &size);
    }
    l->payload_size = size;
    l->slot_size = (size + ALIGN - 1) / ALIGN * ALIGN;
    /* Offsets of all slots there may be fit into the system's signed ones. */
    ok = ok && size > 0 && l->slot_size >= size && size_mul(l->slot_size, 2 * (size_t)KV_DISK_MAX_SLOTS, &ignored);
    return ok || error_set(err, ERR_TOO_LARGE, "KV blocks of %zu bytes cannot be kept on disk.", size);
}

void kv_disk__put_file_head(const struct kv_disk_layout *l, uint8_t out[KV_DISK_FILE_HEAD])
{
    struct file_head head = {.magic = MAGIC,
                             .version = VERSION,
                             .page_tokens = l->page_tokens,
                             .n_groups = (uint32_t)l->n_groups,
                             .slot_head_size = KV_DISK_SLOT_HEAD,
                             .segment_slots = KV_DISK_SEGMENT,
                             .slot_size = l->slot_size,
                             .identity = l->identity};
    for (int g = 0; g < l->n_groups; g++) {
        head.page_size[g] = l->page_size[g];
    }
    head.sum = xxh3(&head, offsetof(struct file_head, sum), 0);
    memset(out, 0, KV_DISK_FILE_HEAD);
    memcpy(out, &head, sizeof head);
}

static uint64_t slot_sum(const struct kv_disk_layout *l, uint32_t slot, const struct slot_head *head)
{
    return xxh3(head, offsetof(struct slot_head, sum), l->seed + slot);
}

void kv_disk__put_slot_head(const struct kv_disk_layout *l, uint32_t slot, const struct kv_disk_head *head,
                            uint8_t out[KV_DISK_SLOT_HEAD])
{
    struct slot_head raw = {.magic = SLOT_MAGIC,
                            .depth = head->depth,
                            .generation = head->generation,
                            .key = head->key,
                            .cost_ns = head->cost_ns};
    memcpy(raw.sums, head->sums, sizeof raw.sums);
    raw.sum = slot_sum(l, slot, &raw);
    memcpy(out, &raw, sizeof raw);
}

bool kv_disk__get_slot_head(const struct kv_disk_layout *l, uint32_t slot, const uint8_t in[KV_DISK_SLOT_HEAD],
                            struct kv_disk_head *head)
{
    struct slot_head raw;
    memcpy(&raw, in, sizeof raw);
    if (raw.magic != SLOT_MAGIC || raw.sum != slot_sum(l, slot, &raw) || raw.generation > MAX_COUNTER) {
        return false;
    }
    *head =
        (struct kv_disk_head){.key = raw.key, .generation = raw.generation, .depth = raw.depth, .cost_ns = raw.cost_ns};
    memcpy(head->sums, raw.sums, sizeof head->sums);
    return true;
}

uint64_t kv_disk__page_sum(const struct kv_disk_layout *l, const struct sha256 *key, int group, const void *page)
{
    uint64_t seed;
    memcpy(&seed, key->bytes, sizeof seed);
    return xxh3(page, l->page_size[group], seed + (uint64_t)group);
}

static uint64_t segment_offset(const struct kv_disk_layout *l, uint32_t segment)
{
    return KV_DISK_FILE_HEAD + segment * (HEADS_SIZE + (uint64_t)KV_DISK_SEGMENT * l->slot_size);
}

uint64_t kv_disk__head_offset(const struct kv_disk_layout *l, uint32_t slot)
{
    return segment_offset(l, slot / KV_DISK_SEGMENT) + (uint64_t)(slot % KV_DISK_SEGMENT) * KV_DISK_SLOT_HEAD;
}

uint64_t kv_disk__slot_offset(const struct kv_disk_layout *l, uint32_t slot)
{
    return segment_offset(l, slot / KV_DISK_SEGMENT) + HEADS_SIZE + (uint64_t)(slot % KV_DISK_SEGMENT) * l->slot_size;
}

uint64_t kv_disk__file_size(const struct kv_disk_layout *l, uint32_t n_slots)
{
    return n_slots ? kv_disk__slot_offset(l, n_slots - 1) + l->slot_size : 0;
}

uint32_t kv_disk__slots_in(const struct kv_disk_layout *l, uint64_t file_size)
{
    uint32_t low = 0, high = KV_DISK_MAX_SLOTS; /* low fits, everything above high does not */
    while (low < high) {
        uint32_t middle = low + (high - low + 1) / 2;
        if (kv_disk__file_size(l, middle) <= file_size) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    return low;
}
