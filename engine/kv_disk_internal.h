/* Shared by the files of the disk tier only:
 *
 *     kv_disk.c         what the engine's thread does: offers, reads, what has ended
 *     kv_disk_io.c      what the tier's thread does: one read or write after another
 *     kv_disk_index.c   which slot holds which block, and the order in which they go
 *     kv_disk_store.c   the folder: names, locks, growth, room among other stores
 *     kv_disk_format.c  bytes of a store:
 *
 *     | file head, 4 KiB | segment 0 | segment 1 | ... |
 *     segment  = | 1024 slot heads of 128 bytes | 1024 slots |       the last one may end early
 *     slot     = | page of group 0 | page of group 1 | ... |         padded to 4 KiB
 *
 * A slot is written in three steps: its head is zeroed, then its pages are written, then its head with the checksums of
 * the pages and one of its own. Whatever a crash leaves of that is a slot without a valid head or pages that do not fit
 * it. Heads lie together so that opening a store reads them in a few long strides. */
#ifndef TANDEM_ENGINE_KV_DISK_INTERNAL_H
#define TANDEM_ENGINE_KV_DISK_INTERNAL_H

#include "base/queue.h"
#include "engine/kv_disk.h"

#include <pthread.h>
#include <stdatomic.h>

#define KV_DISK_FILE_HEAD 4096
#define KV_DISK_SLOT_HEAD 128
#define KV_DISK_SEGMENT   1024
#define KV_DISK_MAX_SLOTS (1u << 20)
#define KV_DISK_NONE      UINT32_MAX

/* ---- kv_disk_format.c ---- */

struct kv_disk_layout {
    struct sha256 identity;
    uint32_t page_tokens;
    int n_groups;
    size_t page_size[KV_MAX_GROUPS], offset[KV_MAX_GROUPS]; /* of each group's page in a slot */
    size_t payload_size, slot_size;                         /* all pages; rounded up */
    uint64_t seed;                                          /* of head checksums: heads of other stores do not fit */
};

struct kv_disk_head { /* what a slot's head says */
    struct sha256 key;
    uint64_t generation; /* order of last use: higher later */
    uint32_t depth;
    uint64_t cost_ns;
    uint64_t sums[KV_MAX_GROUPS]; /* XXH3 of each page, seeded by key and group */
};

/* TOO_LARGE: pages of such sizes cannot be addressed. */
NODISCARD bool kv_disk__layout_init(struct kv_disk_layout *l, const struct kv_disk_options *options, struct error *err);
void kv_disk__put_file_head(const struct kv_disk_layout *l, uint8_t out[KV_DISK_FILE_HEAD]);
void kv_disk__put_slot_head(const struct kv_disk_layout *l, uint32_t slot, const struct kv_disk_head *head,
                            uint8_t out[KV_DISK_SLOT_HEAD]);
/* False: these bytes are no head of this slot of this store. */
bool kv_disk__get_slot_head(const struct kv_disk_layout *l, uint32_t slot, const uint8_t in[KV_DISK_SLOT_HEAD],
                            struct kv_disk_head *head);
uint64_t kv_disk__page_sum(const struct kv_disk_layout *l, const struct sha256 *key, int group, const void *page);
uint64_t kv_disk__head_offset(const struct kv_disk_layout *l, uint32_t slot);
uint64_t kv_disk__slot_offset(const struct kv_disk_layout *l, uint32_t slot);
uint64_t kv_disk__file_size(const struct kv_disk_layout *l, uint32_t n_slots);  /* of a store with so many slots */
uint32_t kv_disk__slots_in(const struct kv_disk_layout *l, uint64_t file_size); /* whole slots of such a file */

/* ---- kv_disk_index.c: the engine's thread ---- */

enum kv_disk_state { KV_DISK_FREE, KV_DISK_WRITING, KV_DISK_READY };

struct kv_disk_slot {
    struct sha256 key;
    uint64_t generation;
    uint32_t depth;
    uint32_t serial;       /* +1 each time it is taken: tells what was asked of it before */
    uint32_t next;         /* in its bucket, or on the free list */
    uint32_t newer, older; /* by last use */
    enum kv_disk_state state;
};

struct kv_disk_index {
    struct kv_disk_slot *slots; /* [n_slots] of [n_max] */
    uint32_t n_slots, n_max;
    uint32_t *buckets; /* [mask + 1] */
    uint32_t mask;
    uint32_t free_slot, n_free, n_ready;
    uint32_t newest, oldest;
    uint64_t generation; /* the highest given out */
};

NODISCARD bool kv_disk__index_init(struct kv_disk_index *x, uint32_t n_max, struct error *err);
void kv_disk__index_release(struct kv_disk_index *x);
void kv_disk__index_reset(struct kv_disk_index *x); /* no slots */
void kv_disk__index_grow(struct kv_disk_index *x, uint32_t n_slots);
uint32_t kv_disk__index_find(const struct kv_disk_index *x, const struct sha256 *key); /* KV_DISK_NONE: not here */
/* Takes a free slot for a block that is to be written: just older than its parent's slot, or the newest when that is
 * NONE. KV_DISK_NONE: none is free. */
uint32_t kv_disk__index_add(struct kv_disk_index *x, const struct sha256 *key, uint32_t parent, uint32_t depth);
void kv_disk__index_ready(struct kv_disk_index *x, uint32_t slot);
void kv_disk__index_remove(struct kv_disk_index *x, uint32_t slot); /* the slot is free */
void kv_disk__index_touch(struct kv_disk_index *x, uint32_t slot);
/* Blocks found in a store: added one by one, slots all free before, then put in order. Of two with one key the later
 * used stays. */
void kv_disk__index_found(struct kv_disk_index *x, uint32_t slot, const struct kv_disk_head *head);
NODISCARD bool kv_disk__index_order(struct kv_disk_index *x, struct error *err);
NODISCARD bool kv_disk__index_check(const struct kv_disk_index *x, struct error *err);

/* ---- kv_disk_store.c: the engine's thread while the store is opened and closed, the tier's in between ---- */

struct kv_disk_store {
    const struct kv_disk_layout *layout;
    int dir_fd, lock_fd, fd;
    char name[80];
    uint64_t max_size;
    uint32_t n_slots; /* that the file has room for */
    bool read_only;
};

NODISCARD bool kv_disk__store_open(struct kv_disk_store *s, const struct kv_disk_layout *layout, const char *dir,
                                   uint64_t max_size, struct error *err);
void kv_disk__store_close(struct kv_disk_store *s); /* fine on a store that did not open */
/* More slots, as far as the folder's limit and the file system allow; stores that nobody has open make room. */
void kv_disk__store_grow(struct kv_disk_store *s);
NODISCARD bool kv_disk__store_clear(struct kv_disk_store *s); /* no slots; false: errno says why */

/* ---- kv_disk_io.c ---- */

enum kv_disk_work { KV_DISK_READ, KV_DISK_WRITE, KV_DISK_PREFETCH, KV_DISK_ERASE, KV_DISK_GROW, KV_DISK_CLEAR };
enum kv_disk_result { KV_DISK_OK, KV_DISK_BAD /* not what it should be */, KV_DISK_REFUSED, KV_DISK_CANCELLED };

struct kv_disk_op {
    enum kv_disk_work work;
    uint32_t slot, serial; /* of the slot when it was asked for */
    uint32_t epoch;        /* clears before it */
    uint32_t buffer;       /* READ, WRITE: whose memory holds the payload */
    uint32_t groups;       /* READ: bit set */
    uint64_t ticket;       /* READ */
    uint32_t tag;
    struct kv_disk_head head; /* WRITE: sums are made by the tier's thread; READ: the key */
    /* filled in when it has ended */
    enum kv_disk_result result;
    int reason; /* REFUSED: errno */
    int64_t ns;
    uint32_t n_slots; /* GROW */
};

struct kv_disk_buffer {
    uint8_t *memory; /* [payload_size]; NULL until it is needed for the first time */
    atomic_bool cancelled;
    uint64_t ticket;
    bool used, writes; /* the engine's thread only */
};

struct kv_disk {
    struct kv_disk_layout layout; /* const once created */
    struct kv_disk_store store;
    struct kv_disk_buffer *buffers; /* [n_buffers] */
    uint32_t n_buffers;
    struct queue *work;           /* a byte for each operation in the two below: what the thread waits for */
    struct queue *reads, *writes; /* of struct kv_disk_op; reads go first */
    struct queue *done;           /* READ, WRITE and GROW come back */
    void (*ready)(void *arg);
    void *ready_arg;
    pthread_t thread;
    bool started;
    atomic_bool stopping;
    _Atomic int64_t stop_ns; /* once stopping: nothing is written after it */
    atomic_uint n_failed;    /* erasures and clears that the system refused */

    /* The engine's thread only. */
    struct kv_disk_index index;
    uint32_t epoch, n_writing, n_queued;
    bool read_only, off;       /* off: the system refused a write */
    bool may_grow, growing;    /* growing: it was asked for */
    bool clear_again;          /* there was no room to queue it */
    uint32_t last_read;        /* buffer of what kv_disk_next gave out, or NONE */
    uint32_t n_recycled_since; /* blocks that made room since growth was last tried */
    uint64_t cost_ns;
    struct kv_disk_stats stats;
};

void *kv_disk__thread(void *disk);

#endif
