/* Prefix cache: which pages hold the K and V of which tokens. A block is page_tokens consecutive positions, aligned;
 * its key is SHA-256 over its parent's key and its token ids, and the first parent (the root) covers everything else
 * that shapes K and V: model, adapter, KV type, the tenant's salt. A node holds a block's page in each group, as far as
 * they are still there.
 *
 *     root -> key(block 0) -> key(block 1) -> ...      the chain is walked by keys; nodes have no links to each other
 *
 * A hit of n blocks needs the pages of all n blocks in full groups, and in window groups those that the next position
 * still sees. A group of states (backend.h) counts as one with a window of 2: its page of exactly the last block, so
 * that hits end only where somebody left a state. Pages are evicted by kv.h in the order in which they were released;
 * holders release children before their parents, so a parent is never older than its child and chains are cut from the
 * end.
 *
 * With seals (kv_seal.h) the pages outlive the engine: every page that comes to hold a block is sealed, its seal goes
 * before it may be written again, and what an engine before this one had sealed is adopted. Such pages are checked
 * once, before the first hit that takes them. Among them may be parts of blocks: the first n positions of one that was
 * being filled. A part has a key and a node of its own and no children; it is never found as a block of a longer chain,
 * only as a chain of its own that is one block long (prefix_match, prefix_verify and prefix_take of its key alone).
 *
 * A node may also be expected: somebody is computing its block. Whoever needs it can wait instead of computing it too.
 * One thread, the engine's. */
#ifndef TANDEM_ENGINE_PREFIX_CACHE_H
#define TANDEM_ENGINE_PREFIX_CACHE_H

#include "base/hash.h"
#include "engine/kv.h"
#include "engine/kv_seal.h"

struct prefix_cache;

struct prefix_cache_options {
    struct kv_pool *kv; /* outlives the cache, which becomes its on_evict */
    int n_groups;
    int window[KV_MAX_GROUPS]; /* positions a query sees, its own included; 0: all */
    uint32_t page_tokens;
    uint32_t n_nodes; /* at most; beyond, blocks are simply not remembered */
};
NODISCARD struct prefix_cache *prefix_cache_create(const struct prefix_cache_options *options, struct error *err);
void prefix_cache_free(struct prefix_cache *c);

/* What the keys of a tenant's blocks begin with. adapter: the digest of that which they are computed with; NULL: none.
 */
struct sha256 prefix_root(struct prefix_cache *c, const struct sha256 *root, uint64_t salt,
                          const struct sha256 *adapter);
/* ids: [page_tokens] */
struct sha256 prefix_key(struct prefix_cache *c, const struct sha256 *parent, const int32_t *ids);
/* Of the part of a block: ids [n], n less than page_tokens. No block's key is the same. */
struct sha256 prefix_part_key(struct prefix_cache *c, const struct sha256 *parent, const int32_t *ids, uint32_t n);

struct prefix_match {
    uint32_t n_blocks; /* longest usable hit */
    uint32_t n_chain;  /* longest chain: all blocks whose pages in full groups are here, usable or not */
    bool expected;     /* the block after the longest chain is being computed by somebody */
    uint32_t wait_for; /* index of that block's key */
};
/* keys: [n] of a prompt's whole blocks, in order. */
struct prefix_match prefix_match(const struct prefix_cache *c, const struct sha256 *keys, uint32_t n);
/* The same with blocks that are not here but could be brought here, all groups' pages of them: has(arg, key). Such a
 * hit needs every block of it in either place. */
struct prefix_match prefix_match_with(const struct prefix_cache *c, const struct sha256 *keys, uint32_t n,
                                      bool (*has)(const void *arg, const struct sha256 *key), const void *arg);
/* The page that holds this block in a group, or KV_PAGE_NONE. */
uint32_t prefix_page(const struct prefix_cache *c, const struct sha256 *key, int group);
/* The same with a reference, unless its bytes would have to be checked first. */
uint32_t prefix_take_page(struct prefix_cache *c, const struct sha256 *key, int group);
/* Takes a reference to every page of a hit of n_blocks blocks: tables[g][i], KV_PAGE_NONE where it is no longer seen.
 */
void prefix_take(struct prefix_cache *c, const struct sha256 *keys, uint32_t n_blocks,
                 uint32_t *const tables[KV_MAX_GROUPS]);

/* The page holds this block now, the depth-th of its chain, and its bytes are complete (the caller keeps its
 * reference). Nothing happens when the block has one already. */
void prefix_insert(struct prefix_cache *c, const struct sha256 *key, uint32_t depth, int group, uint32_t page);
void prefix_forget(struct prefix_cache *c, const struct sha256 *key); /* none of its pages is to be used again */
void prefix_clear(struct prefix_cache *c); /* forgets everything; pages in use stay with those who use them */

/* Counted: every expect that gave true is followed by one unexpect, whether the block was inserted or not. False: the
 * cache has no node left. */
NODISCARD bool prefix_expect(struct prefix_cache *c, const struct sha256 *key);
void prefix_unexpect(struct prefix_cache *c, const struct sha256 *key);
bool prefix_expected(const struct prefix_cache *c, const struct sha256 *key);
/* Somebody waits for an expected block and would take a hit that ends with it: whoever computes it finds it wanted, and
 * keeps the states behind it. For as long as it is expected. */
void prefix_want(struct prefix_cache *c, const struct sha256 *key);
bool prefix_wanted(const struct prefix_cache *c, const struct sha256 *key);

/* Before the first insert: takes over the blocks that the seals know, and seals its own from now on; the seals outlive
 * it. Returns how many blocks, parts left out. */
uint32_t prefix_adopt(struct prefix_cache *c, struct kv_seals *seals);
/* The longest adopted part of the block with these ids [n]: how many positions, and its key; 0: there is none. Without
 * any part in the cache it costs nothing. */
uint32_t prefix_find_part(struct prefix_cache *c, const struct sha256 *parent, const int32_t *ids, uint32_t n,
                          struct sha256 *key);

enum prefix_trust {
    PREFIX_SOUND,     /* take the hit */
    PREFIX_BROKEN,    /* a page was not what its seal says; it is forgotten, with what followed: match again */
    PREFIX_UNFINISHED /* come again with a new budget */
};
/* To be asked before a hit of n_blocks is taken: checks the adopted pages in it that were not checked yet, while
 * *budget (bytes) lasts; one page in any case. keys: [n_keys], n_keys at least n_blocks. */
enum prefix_trust prefix_verify(struct prefix_cache *c, const struct sha256 *keys, uint32_t n_keys, uint32_t n_blocks,
                                size_t *budget);
bool prefix_is_adopted(const struct prefix_cache *c, const struct sha256 *key); /* another engine computed it */

/* First block that position `next` and those after it may still see in a group with this window. */
uint32_t prefix_first_visible(uint32_t next, int window, uint32_t page_tokens);

/* Every node's pages are known to kv as its own, and they are sealed; else only parts are, of pages that are in use,
 * and hold what their seals say (tests). */
NODISCARD bool prefix_check(const struct prefix_cache *c, struct error *err);

#endif
