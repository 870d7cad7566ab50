#include "engine/prefix_cache_internal.h"

#include <stdlib.h>

#define NONE UINT32_MAX

/* ---- nodes ---- */

static uint32_t *bucket_of(const struct prefix_cache *c, const struct sha256 *key)
{
    uint32_t h;
    memcpy(&h, key->bytes, sizeof h); /* a digest is its own hash */
    return &c->buckets[h & c->mask];
}

struct node *prefix__find(const struct prefix_cache *c, const struct sha256 *key)
{
    uint32_t i = *bucket_of(c, key);
    while (i != NONE && memcmp(&c->nodes[i].key, key, sizeof *key) != 0) {
        i = c->nodes[i].next;
    }
    return i == NONE ? NULL : &c->nodes[i];
}

struct node *prefix__find_or_add(struct prefix_cache *c, const struct sha256 *key, uint32_t n_tokens)
{
    struct node *n = prefix__find(c, key);
    if (n || c->free_node == NONE) {
        return n && n->n_tokens == n_tokens ? n : NULL;
    }
    uint32_t i = c->free_node, *bucket = bucket_of(c, key);
    n = &c->nodes[i];
    c->free_node = n->next;
    *n = (struct node){.key = *key, .next = *bucket, .n_tokens = n_tokens, .used = true};
    for (int g = 0; g < KV_MAX_GROUPS; g++) {
        n->pages[g] = KV_PAGE_NONE;
    }
    *bucket = i;
    c->n_parts += prefix__is_part(c, n);
    return n;
}

bool prefix__is_empty(const struct prefix_cache *c, const struct node *n)
{
    for (int g = 0; g < c->options.n_groups; g++) {
        if (n->pages[g] != KV_PAGE_NONE) {
            return false;
        }
    }
    return n->n_expected == 0;
}

void prefix__remove_if_empty(struct prefix_cache *c, struct node *n)
{
    if (!prefix__is_empty(c, n)) {
        return;
    }
    uint32_t i = (uint32_t)(n - c->nodes), *link = bucket_of(c, &n->key);
    while (*link != i) {
        link = &c->nodes[*link].next;
    }
    *link = n->next;
    c->n_parts -= prefix__is_part(c, n);
    n->used = false;
    n->next = c->free_node;
    c->free_node = i;
}

/* The only places where a page becomes a node's, or ceases to be: give_page, drop_page and adopt_page
 * (prefix_adopt.c). */

static void give_page(struct prefix_cache *c, struct node *n, uint32_t depth, int group, uint32_t page)
{
    n->pages[group] = page;
    kv_cache_page(c->options.kv, group, page, (uint32_t)(n - c->nodes));
    if (c->seals) {
        kv_seal_put(c->seals, group, page, &n->key, depth);
    }
}

void prefix__set_verified(struct prefix_cache *c, struct node *n, int group)
{
    c->n_unverified -= prefix__is_unverified(n, group);
    n->unverified &= (uint8_t) ~(1u << group);
}

static void drop_page(struct prefix_cache *c, struct node *n, int group)
{
    if (n->pages[group] != KV_PAGE_NONE) {
        prefix__set_verified(c, n, group);
        n->adopted &= (uint8_t) ~(1u << group);
        if (c->seals) { /* before anybody may write to it */
            kv_seal_remove(c->seals, group, n->pages[group]);
        }
        kv_uncache_page(c->options.kv, group, n->pages[group]);
        n->pages[group] = KV_PAGE_NONE;
    }
}

void prefix__drop_pages(struct prefix_cache *c, struct node *n)
{
    for (int g = 0; g < c->options.n_groups; g++) {
        drop_page(c, n, g);
    }
    prefix__remove_if_empty(c, n);
}

/* Without its page in a full group a node is no use, and neither are its other pages; a part is none without any of
 * them. Somebody may hold one of them, beside pages of its own in the full groups: it stays with them, and is nobody
 * else's any more. */
void prefix__evict(struct prefix_cache *c, struct node *n, int group)
{
    if (prefix__needs(c, n, group)) {
        prefix__drop_pages(c, n);
    } else {
        drop_page(c, n, group);
        prefix__remove_if_empty(c, n);
    }
}

static void on_evict(void *arg, int group, uint32_t owner)
{
    struct prefix_cache *c = arg;
    prefix__evict(c, &c->nodes[owner], group);
}

/* ---- creation ---- */

struct prefix_cache *prefix_cache_create(const struct prefix_cache_options *options, struct error *err)
{
    uint32_t n_buckets = 16;
    struct prefix_cache *c = calloc(1, sizeof *c);
    if (!c) {
        error_set(err, ERR_NO_MEMORY, "There is no memory for the prefix cache.");
        return NULL;
    }
    while (n_buckets < options->n_nodes && n_buckets < 1u << 30) {
        n_buckets *= 2;
    }
    c->options = *options;
    c->mask = n_buckets - 1;
    c->nodes = calloc(options->n_nodes ? options->n_nodes : 1, sizeof *c->nodes);
    c->buckets = malloc((size_t)n_buckets * sizeof *c->buckets);
    c->sha = sha256_create();
    if (!c->nodes || !c->buckets) {
        prefix_cache_free(c);
        error_set(err, ERR_NO_MEMORY, "There is no memory for the %u entries of the prefix cache.", options->n_nodes);
        return NULL;
    }
    memset(c->buckets, 0xff, (size_t)n_buckets * sizeof *c->buckets);
    c->free_node = NONE;
    for (uint32_t i = options->n_nodes; i > 0; i--) {
        c->nodes[i - 1].next = c->free_node;
        c->free_node = i - 1;
    }
    for (int g = 0; g < options->n_groups; g++) {
        c->has_full |= options->window[g] == 0;
    }
    kv_on_evict(options->kv, on_evict, c);
    return c;
}

void prefix_cache_free(struct prefix_cache *c)
{
    if (c) {
        sha256_free(c->sha);
        free(c->nodes);
        free(c->buckets);
        free(c);
    }
}

/* ---- lookup ---- */

struct sha256 prefix_root(struct prefix_cache *c, const struct sha256 *root, uint64_t salt,
                          const struct sha256 *adapter)
{
    sha256_start(c->sha);
    sha256_update(c->sha, root, sizeof *root);
    sha256_update(c->sha, &salt, sizeof salt);
    if (adapter) { /* longer than any key without one */
        sha256_update(c->sha, adapter, sizeof *adapter);
    }
    return sha256_finish(c->sha);
}

static struct sha256 chain_key(struct prefix_cache *c, const struct sha256 *parent, const int32_t *ids, uint32_t n,
                               size_t n_mark)
{
    sha256_start(c->sha);
    sha256_update(c->sha, parent, sizeof *parent);
    sha256_update(c->sha, ids, n * sizeof *ids);
    sha256_update(c->sha, "", n_mark);
    return sha256_finish(c->sha);
}

struct sha256 prefix_key(struct prefix_cache *c, const struct sha256 *parent, const int32_t *ids)
{
    return chain_key(c, parent, ids, c->options.page_tokens, 0);
}

/* One byte longer than whole ids: nothing else that is hashed is as long as that. */
struct sha256 prefix_part_key(struct prefix_cache *c, const struct sha256 *parent, const int32_t *ids, uint32_t n)
{
    return chain_key(c, parent, ids, n, 1);
}

uint32_t prefix_first_visible(uint32_t next, int window, uint32_t page_tokens)
{
    /* One position more than the next token needs: a hit on a whole prompt computes its last token again. */
    return window == 0 || next < (uint32_t)window ? 0 : (next - (uint32_t)window) / page_tokens;
}

/* Whether a hit may end behind block i, whose run of pages in each group is run[g] blocks long. */
static bool is_usable(const struct prefix_cache *c, uint32_t i, const uint32_t run[KV_MAX_GROUPS])
{
    uint32_t next = (i + 1) * c->options.page_tokens;
    for (int g = 0; g < c->options.n_groups; g++) {
        uint32_t first = prefix_first_visible(next, c->options.window[g], c->options.page_tokens);
        if (run[g] < i + 1 - first) {
            return false;
        }
    }
    return true;
}

static bool has_all(const struct prefix_cache *c, const struct node *node)
{
    for (int g = 0; node && g < c->options.n_groups; g++) {
        if (node->pages[g] == KV_PAGE_NONE) {
            return false;
        }
    }
    return node != NULL;
}

static bool nowhere(const void *arg, const struct sha256 *key)
{
    (void)arg;
    (void)key;
    return false;
}

struct prefix_match prefix_match(const struct prefix_cache *c, const struct sha256 *keys, uint32_t n)
{
    return prefix_match_with(c, keys, n, nowhere, NULL);
}

struct prefix_match prefix_match_with(const struct prefix_cache *c, const struct sha256 *keys, uint32_t n,
                                      bool (*has)(const void *arg, const struct sha256 *key), const void *arg)
{
    struct prefix_match m = {0};
    uint32_t run[KV_MAX_GROUPS] = {0};
    for (uint32_t i = 0; i < n; i++) {
        const struct node *node = prefix__find(c, &keys[i]);
        bool whole = true, elsewhere = !has_all(c, node) && has(arg, &keys[i]);
        for (int g = 0; g < c->options.n_groups; g++) {
            bool here = elsewhere || (node && node->pages[g] != KV_PAGE_NONE);
            run[g] = here ? run[g] + 1 : 0;
            whole &= here || c->options.window[g] != 0;
        }
        if (!whole || (!c->has_full && !node && !elsewhere)) {
            m.expected = node && node->n_expected > 0;
            m.wait_for = i;
            break;
        }
        m.n_chain = i + 1;
        if (is_usable(c, i, run)) {
            m.n_blocks = i + 1;
        }
    }
    return m;
}

uint32_t prefix_page(const struct prefix_cache *c, const struct sha256 *key, int group)
{
    const struct node *node = prefix__find(c, key);
    return node ? node->pages[group] : KV_PAGE_NONE;
}

uint32_t prefix_take_page(struct prefix_cache *c, const struct sha256 *key, int group)
{
    const struct node *node = prefix__find(c, key);
    if (!node || node->pages[group] == KV_PAGE_NONE || prefix__is_unverified(node, group)) {
        return KV_PAGE_NONE;
    }
    kv_retain(c->options.kv, group, node->pages[group]);
    return node->pages[group];
}

void prefix_take(struct prefix_cache *c, const struct sha256 *keys, uint32_t n_blocks,
                 uint32_t *const tables[KV_MAX_GROUPS])
{
    uint32_t page_tokens = c->options.page_tokens;
    for (uint32_t i = 0; i < n_blocks; i++) {
        const struct node *node = prefix__find(c, &keys[i]);
        for (int g = 0; g < c->options.n_groups; g++) {
            uint32_t first = prefix_first_visible(n_blocks * page_tokens, c->options.window[g], page_tokens);
            tables[g][i] = i < first ? KV_PAGE_NONE : node->pages[g];
            if (i >= first) {
                assert(!prefix__is_unverified(node, g));
                kv_retain(c->options.kv, g, node->pages[g]);
            }
        }
    }
}

/* ---- change ---- */

void prefix_insert(struct prefix_cache *c, const struct sha256 *key, uint32_t depth, int group, uint32_t page)
{
    if (kv_is_cached(c->options.kv, group, page)) {
        return;
    }
    struct node *n = prefix__find_or_add(c, key, c->options.page_tokens);
    if (n && n->pages[group] == KV_PAGE_NONE) {
        give_page(c, n, depth, group, page);
    }
}

void prefix_forget(struct prefix_cache *c, const struct sha256 *key)
{
    struct node *n = prefix__find(c, key);
    if (n) {
        prefix__drop_pages(c, n);
    }
}

void prefix_clear(struct prefix_cache *c)
{
    for (uint32_t i = 0; i < c->options.n_nodes; i++) {
        if (c->nodes[i].used) {
            prefix__drop_pages(c, &c->nodes[i]);
        }
    }
}

bool prefix_expect(struct prefix_cache *c, const struct sha256 *key)
{
    struct node *n = prefix__find_or_add(c, key, c->options.page_tokens);
    if (n) {
        n->n_expected++;
    }
    return n != NULL;
}

void prefix_unexpect(struct prefix_cache *c, const struct sha256 *key)
{
    struct node *n = prefix__find(c, key);
    if (n && n->n_expected > 0) {
        n->n_expected--;
        n->wanted = n->wanted && n->n_expected > 0;
        prefix__remove_if_empty(c, n);
    }
}

bool prefix_expected(const struct prefix_cache *c, const struct sha256 *key)
{
    const struct node *n = prefix__find(c, key);
    return n && n->n_expected > 0;
}

void prefix_want(struct prefix_cache *c, const struct sha256 *key)
{
    struct node *n = prefix__find(c, key);
    if (n && n->n_expected > 0) {
        n->wanted = true;
    }
}

bool prefix_wanted(const struct prefix_cache *c, const struct sha256 *key)
{
    const struct node *n = prefix__find(c, key);
    return n && n->wanted;
}
