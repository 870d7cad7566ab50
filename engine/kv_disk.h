/* The disk tier of the prefix cache: blocks (prefix_cache.h) in a file, where they outlive eviction and the engine.
 *
 *     DIR/lock                    held while the folder's files are opened, grown or removed
 *     DIR/tandem-kv1-ID.pages     a store: the blocks of one identity; its writer holds a lock on it
 *
 * Blocks are copied when they are offered and written behind by one thread, which also reads them; so no page of the
 * pool is ever held for the disk's sake: a slow disk takes no memory from running sequences, eviction stays in its
 * order, and what is written cannot change. What does not fit into the bounded buffers is not written. A block that is
 * read back is given out only when its checksums, its key and its store's identity are right; anything else is dropped
 * and counted. So a crash at any moment, a torn write or a damaged file cost hits, never a wrong answer.
 *
 *     d = kv_disk_create(&options, err);
 *     kv_disk_offer(d, &block);                               written behind
 *     if (kv_disk_has(d, &key)) kv_disk_read(d, &key, groups, ticket, tag);
 *     while (kv_disk_next(d, &read)) ... read.pages ...        later; a call of `ready` says when
 *
 * Blocks that were not used for the longest time make room for new ones; a parent is never older than its child, so
 * chains are cut from the end. One thread, the engine's, calls everything here; `ready` runs on the tier's thread. */
#ifndef TANDEM_ENGINE_KV_DISK_H
#define TANDEM_ENGINE_KV_DISK_H

#include "backend/backend.h"
#include "base/hash.h"

struct kv_disk;

struct kv_disk_options {
    const char *dir;   /* made, with mode 0700, when it is missing; nobody else may be able to write to it */
    uint64_t max_size; /* bytes of all stores in the folder, other models' too */
    /* Of everything that shapes the bytes of a page: model, types, kernels, build. */
    struct sha256 identity;
    uint32_t page_tokens;
    int n_groups;
    size_t page_size[KV_MAX_GROUPS];
    size_t buffer_size; /* bytes on their way to and from the disk; 0: KV_DISK_BUFFER_SIZE */
};
#define KV_DISK_BUFFER_SIZE ((size_t)64 << 20)

/* The folder, with mode 0700, and those above it; fine when it is there. kv_disk_create does it too. */
NODISCARD bool kv_disk_make_dir(const char *dir, struct error *err);

/* Opens or makes the store and reads what it holds, its heads only. When another process writes to the same store, this
 * one only reads it (and says so in the log). IO, INVALID (no room for even one block, a folder that others may write
 * to), NO_MEMORY. */
NODISCARD struct kv_disk *kv_disk_create(const struct kv_disk_options *options, struct error *err);
void kv_disk_free(struct kv_disk *d); /* writes what is queued, for at most a second; NULL is fine */
/* fn(arg) on the tier's thread whenever kv_disk_next may have something; before the first offer or read. */
void kv_disk_on_ready(struct kv_disk *d, void (*fn)(void *arg), void *arg);

struct kv_disk_block {
    struct sha256 key;
    const struct sha256 *parent; /* NULL: the first block of a prompt */
    uint32_t depth;              /* blocks before it */
    const void *pages[KV_MAX_GROUPS];
    uint64_t cost_ns; /* what computing it took, for kv_disk_cost_ns */
};
/* Copies the pages and queues them, unless the block is there, its parent is not (so it could not be found), the
 * buffers are full or the store takes nothing. */
void kv_disk_offer(struct kv_disk *d, const struct kv_disk_block *block);
/* The block is in use: it goes last. Children are to be touched before their parents. */
void kv_disk_touch(struct kv_disk *d, const struct sha256 *key);

bool kv_disk_has(const struct kv_disk *d, const struct sha256 *key);
/* The cost of the block written last, as it was told; 0: the store is empty. A first guess after a restart. */
uint64_t kv_disk_cost_ns(const struct kv_disk *d);
/* Queues reading the block's pages in the groups of the bit set. False: not now, the buffers are full, or it is not
 * there (any more). */
NODISCARD bool kv_disk_read(struct kv_disk *d, const struct sha256 *key, uint32_t groups, uint64_t ticket,
                            uint32_t tag);
void kv_disk_cancel(struct kv_disk *d, uint64_t ticket); /* those of its reads that have not begun come back not ok */
/* Advice: it will be read soon. */
void kv_disk_prefetch(struct kv_disk *d, const struct sha256 *key);

struct kv_disk_read { /* one read that has ended */
    uint64_t ticket;
    uint32_t tag;
    bool ok;                          /* else nothing was found that is worth anything */
    const void *pages[KV_MAX_GROUPS]; /* of the groups asked for; until the next call */
    int64_t ns;                       /* reading and checking it */
};
/* Also takes note of writes that have ended: to be called now and then. */
bool kv_disk_next(struct kv_disk *d, struct kv_disk_read *out);

void kv_disk_forget(struct kv_disk *d, const struct sha256 *key); /* it is not to be used again, by nobody */
void kv_disk_clear(struct kv_disk *d);                            /* all of them; a read-only store stays as it is */

struct kv_disk_stats {
    uint64_t blocks, size, limit; /* now: blocks that can be read, bytes of those and of the most there may be */
    uint64_t queued;              /* now: reads and writes on their way */
    uint64_t written, read;       /* blocks */
    uint64_t skipped;             /* not written: buffers full, no slot, or the parent was not */
    uint64_t recycled;            /* blocks that made room for others */
    uint64_t dropped;             /* blocks whose bytes were not what they should be */
    uint64_t errors;              /* reads and writes that the system refused */
};
struct kv_disk_stats kv_disk_stats(const struct kv_disk *d);

/* Recounts the books (tests). */
NODISCARD bool kv_disk_check(const struct kv_disk *d, struct error *err);

#endif
