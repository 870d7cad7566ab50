/* Shared by the files of the prefix cache only:
 *
 *     prefix_cache.c  nodes, keys, hits, inserts, expectations
 *     prefix_adopt.c  pages that an engine before this one has sealed
 *     prefix_check.c  recount for tests
 *
 * Nodes lie in one array; hash buckets chain them by index; unused ones form a free list. A node lives while it has a
 * page or is expected. */
#ifndef TANDEM_ENGINE_PREFIX_CACHE_INTERNAL_H
#define TANDEM_ENGINE_PREFIX_CACHE_INTERNAL_H

#include "engine/prefix_cache.h"

#include <assert.h>

struct node {
    struct sha256 key;
    uint32_t next; /* in its bucket, or on the free list */
    uint32_t n_expected;
    uint32_t n_tokens;             /* page_tokens, or fewer of a part */
    uint32_t pages[KV_MAX_GROUPS]; /* KV_PAGE_NONE: not here */
    uint8_t adopted, unverified;   /* bit sets of groups: from an engine before; nobody has looked at the bytes yet */
    bool used, wanted;
};
static_assert(KV_MAX_GROUPS <= 8, "groups fit into a node's bit set");

struct prefix_cache {
    struct prefix_cache_options options;
    bool has_full; /* some group sees all positions */
    struct sha256_ctx *sha;
    struct node *nodes; /* [options.n_nodes] */
    uint32_t free_node;
    uint32_t *buckets; /* [mask + 1] first node */
    uint32_t mask;
    struct kv_seals *seals; /* NULL: pages are not sealed */
    uint32_t n_unverified;  /* pages */
    uint32_t n_parts;       /* nodes */
};

static inline bool prefix__is_part(const struct prefix_cache *c, const struct node *n)
{
    return n->n_tokens != c->options.page_tokens;
}

/* Without its page in this group the node is no use. */
static inline bool prefix__needs(const struct prefix_cache *c, const struct node *n, int group)
{
    return c->options.window[group] == 0 || prefix__is_part(c, n);
}

static inline bool prefix__is_unverified(const struct node *n, int group)
{
    return n->unverified >> group & 1;
}

struct node *prefix__find(const struct prefix_cache *c, const struct sha256 *key); /* NULL: none */
/* NULL: no node is left, or this is one of another number of positions, which no engine makes. */
struct node *prefix__find_or_add(struct prefix_cache *c, const struct sha256 *key, uint32_t n_tokens);
bool prefix__is_empty(const struct prefix_cache *c, const struct node *n);
void prefix__remove_if_empty(struct prefix_cache *c, struct node *n);
void prefix__set_verified(struct prefix_cache *c, struct node *n, int group);
void prefix__drop_pages(struct prefix_cache *c, struct node *n);
/* Its page in the group goes, and with one that it needs all others. */
void prefix__evict(struct prefix_cache *c, struct node *n, int group);

#endif
