/* Seals: what the pages of a KV pool hold, kept beside the pool in memory that outlives the engine like it (the
 * gateway's). A page that comes to hold a block of the prefix cache is sealed; before anybody may write to it again its
 * seal goes. So after an engine was lost, at whatever instruction, a new one of the same identity finds in the table
 * which pages hold which blocks, and computes them no more.
 *
 * A page that is still being filled can be sealed too, as far as it is: such a part is the page's first positions, and
 * what is written behind them meanwhile is no matter. The next seal of the page takes its place; there is a moment in
 * which it has none.
 *
 *     struct kv_seals *s = kv_seals_open(&options, err);      foreign or damaged tables are begun anew
 *     found = kv_seals_found(s, &n);                          by an engine before this one
 *     if (kv_seal_holds(s, group, page, &key)) ...            before a page that was found is used: its checksum
 *     kv_seal_put(s, group, page, &key, depth);               the page's bytes are complete
 *     kv_seal_put_part(s, group, page, &key, depth, n);       its first n positions are, and stay as they are
 *     kv_seal_remove(s, group, page);                         from here on they may change
 *     kv_seals_close(s);                                      the table stays
 *
 *     memory   | head | entries of group 0's pages | entries of group 1's pages | ...
 *
 * Nothing in the table is trusted: whatever wrote it may have written anything. What is found has right checksums, a
 * group that there is and a page inside the pool; that its bytes are still those of its block is known only from
 * kv_seal_holds. An engine that uses the pool without sealing its pages calls kv_seals_void.
 *
 * The table may be too small for all pages (it has room for the lowest of each group); those behind it are not sealed.
 * One thread, the engine's; one engine at a time. */
#ifndef TANDEM_ENGINE_KV_SEAL_H
#define TANDEM_ENGINE_KV_SEAL_H

#include "backend/backend.h"
#include "base/hash.h"

struct kv_seals;

struct kv_seal_options {
    uint8_t *memory; /* [size] shared, aligned to 8 bytes, outlives the seals; all zeroes when nobody used it yet */
    size_t size;
    const uint8_t *pool; /* [pool_size] page i of a group is at i * page_size (kv.h); outlives the seals */
    size_t pool_size;
    struct sha256 identity; /* of all that shapes a page's bytes, beside the sizes below */
    uint32_t page_tokens;
    int n_groups;
    size_t page_size[KV_MAX_GROUPS];
    /* The checksum of positions [from, to) of a page, as kv_sum of backend.h. NULL: there are no seals of parts. */
    uint64_t (*sum)(void *arg, int group, uint32_t page, uint32_t from, uint32_t to, uint64_t seed, bool written);
    void *sum_arg;
};

struct kv_seal {
    struct sha256 key;
    uint32_t depth; /* of the block in its chain, as it was said */
    uint32_t page;
    uint32_t n_tokens; /* positions that it covers: page_tokens, or fewer of a part */
    int group;
};

/* INVALID: the memory has no room for a single page. */
NODISCARD struct kv_seals *kv_seals_open(const struct kv_seal_options *options, struct error *err);
void kv_seals_close(struct kv_seals *s);          /* NULL: nothing */
void kv_seals_void(uint8_t *memory, size_t size); /* nobody believes what it says any more */

/* [*n] sealed by an engine before this one, children before their parents, of one depth parts before whole blocks;
 * valid until the seals are closed. Keys and pages may appear more than once. Those that are not wanted are removed by
 * the caller. */
const struct kv_seal *kv_seals_found(const struct kv_seals *s, uint32_t *n);

void kv_seal_put(struct kv_seals *s, int group, uint32_t page, const struct sha256 *key, uint32_t depth);
bool kv_seals_parts(const struct kv_seals *s); /* parts can be sealed */
/* n_tokens: at least 1, fewer than page_tokens. Where the page was sealed with fewer, and nothing of that was written
 * again, only what came behind is summed up. */
void kv_seal_put_part(struct kv_seals *s, int group, uint32_t page, const struct sha256 *key, uint32_t depth,
                      uint32_t n_tokens);
void kv_seal_remove(struct kv_seals *s, int group, uint32_t page);
/* Whether the page is sealed as this block's (or this part's), and its bytes are what they were then. */
bool kv_seal_holds(const struct kv_seals *s, int group, uint32_t page, const struct sha256 *key);

bool kv_seal_covers(const struct kv_seals *s, int group, uint32_t page); /* the table has room for it */
/* What the page is sealed as now. False: it is not. */
bool kv_seal_get(const struct kv_seals *s, int group, uint32_t page, struct kv_seal *seal);
/* Pages that are sealed now, of them all; by going through the table (tests). */
uint32_t kv_seals_count(const struct kv_seals *s);

#endif
