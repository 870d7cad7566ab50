/* Nodes lie in one array; hash buckets chain them by index; unused ones form a free list. A node lives while it has a
 * page or is expected. */
#include "engine/prefix_cache.h"

#include <assert.h>
#include <stdlib.h>

#define NONE UINT32_MAX

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

/* ---- nodes ---- */

static uint32_t *bucket_of(const struct prefix_cache *c, const struct sha256 *key)
{
    uint32_t h;
    memcpy(&h, key->bytes, sizeof h); /* a digest is its own hash */
    return &c->buckets[h & c->mask];
}

static struct node *find(const struct prefix_cache *c, const struct sha256 *key)
{
    uint32_t i = *bucket_of(c, key);
    while (i != NONE && memcmp(&c->nodes[i].key, key, sizeof *key) != 0) {
        i = c->nodes[i].next;
    }
    return i == NONE ? NULL : &c->nodes[i];
}

static bool is_part(const struct prefix_cache *c, const struct node *n)
{
    return n->n_tokens != c->options.page_tokens;
}

/* NULL: no node is left, or this is one of another number of positions, which no engine makes. */
static struct node *find_or_add(struct prefix_cache *c, const struct sha256 *key, uint32_t n_tokens)
{
    struct node *n = find(c, key);
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
    c->n_parts += is_part(c, n);
    return n;
}

static bool is_empty(const struct prefix_cache *c, const struct node *n)
{
    for (int g = 0; g < c->options.n_groups; g++) {
        if (n->pages[g] != KV_PAGE_NONE) {
            return false;
        }
    }
    return n->n_expected == 0;
}

static void remove_if_empty(struct prefix_cache *c, struct node *n)
{
    if (!is_empty(c, n)) {
        return;
    }
    uint32_t i = (uint32_t)(n - c->nodes), *link = bucket_of(c, &n->key);
    while (*link != i) {
        link = &c->nodes[*link].next;
    }
    *link = n->next;
    c->n_parts -= is_part(c, n);
    n->used = false;
    n->next = c->free_node;
    c->free_node = i;
}

/* The only places where a page becomes a node's, or ceases to be: give_page, drop_page and adopt_page. */

static void give_page(struct prefix_cache *c, struct node *n, uint32_t depth, int group, uint32_t page)
{
    n->pages[group] = page;
    kv_cache_page(c->options.kv, group, page, (uint32_t)(n - c->nodes));
    if (c->seals) {
        kv_seal_put(c->seals, group, page, &n->key, depth);
    }
}

static bool is_unverified(const struct node *n, int group)
{
    return n->unverified >> group & 1;
}

static void set_verified(struct prefix_cache *c, struct node *n, int group)
{
    c->n_unverified -= is_unverified(n, group);
    n->unverified &= (uint8_t) ~(1u << group);
}

static void drop_page(struct prefix_cache *c, struct node *n, int group)
{
    if (n->pages[group] != KV_PAGE_NONE) {
        set_verified(c, n, group);
        n->adopted &= (uint8_t) ~(1u << group);
        if (c->seals) { /* before anybody may write to it */
            kv_seal_remove(c->seals, group, n->pages[group]);
        }
        kv_uncache_page(c->options.kv, group, n->pages[group]);
        n->pages[group] = KV_PAGE_NONE;
    }
}

static void drop_pages(struct prefix_cache *c, struct node *n)
{
    for (int g = 0; g < c->options.n_groups; g++) {
        drop_page(c, n, g);
    }
    remove_if_empty(c, n);
}

/* Without its page in a full group a node is no use, and neither are its other pages; a part is none without any of
 * them. Somebody may hold one of them, beside pages of its own in the full groups: it stays with them, and is nobody
 * else's any more. */
static void on_evict(void *arg, int group, uint32_t owner)
{
    struct prefix_cache *c = arg;
    struct node *n = &c->nodes[owner];
    if (c->options.window[group] == 0 || is_part(c, n)) {
        drop_pages(c, n);
    } else {
        drop_page(c, n, group);
        remove_if_empty(c, n);
    }
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

struct sha256 prefix_key(struct prefix_cache *c, const struct sha256 *parent, const int32_t *ids)
{
    sha256_start(c->sha);
    sha256_update(c->sha, parent, sizeof *parent);
    sha256_update(c->sha, ids, c->options.page_tokens * sizeof *ids);
    return sha256_finish(c->sha);
}

/* One byte longer than whole ids: nothing else that is hashed is as long as that. */
struct sha256 prefix_part_key(struct prefix_cache *c, const struct sha256 *parent, const int32_t *ids, uint32_t n)
{
    sha256_start(c->sha);
    sha256_update(c->sha, parent, sizeof *parent);
    sha256_update(c->sha, ids, n * sizeof *ids);
    sha256_update(c->sha, "", 1);
    return sha256_finish(c->sha);
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
        const struct node *node = find(c, &keys[i]);
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
    const struct node *node = find(c, key);
    return node ? node->pages[group] : KV_PAGE_NONE;
}

uint32_t prefix_take_page(struct prefix_cache *c, const struct sha256 *key, int group)
{
    const struct node *node = find(c, key);
    if (!node || node->pages[group] == KV_PAGE_NONE || is_unverified(node, group)) {
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
        const struct node *node = find(c, &keys[i]);
        for (int g = 0; g < c->options.n_groups; g++) {
            uint32_t first = prefix_first_visible(n_blocks * page_tokens, c->options.window[g], page_tokens);
            tables[g][i] = i < first ? KV_PAGE_NONE : node->pages[g];
            if (i >= first) {
                assert(!is_unverified(node, g));
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
    struct node *n = find_or_add(c, key, c->options.page_tokens);
    if (n && n->pages[group] == KV_PAGE_NONE) {
        give_page(c, n, depth, group, page);
    }
}

void prefix_forget(struct prefix_cache *c, const struct sha256 *key)
{
    struct node *n = find(c, key);
    if (n) {
        drop_pages(c, n);
    }
}

void prefix_clear(struct prefix_cache *c)
{
    for (uint32_t i = 0; i < c->options.n_nodes; i++) {
        if (c->nodes[i].used) {
            drop_pages(c, &c->nodes[i]);
        }
    }
}

bool prefix_expect(struct prefix_cache *c, const struct sha256 *key)
{
    struct node *n = find_or_add(c, key, c->options.page_tokens);
    if (n) {
        n->n_expected++;
    }
    return n != NULL;
}

void prefix_unexpect(struct prefix_cache *c, const struct sha256 *key)
{
    struct node *n = find(c, key);
    if (n && n->n_expected > 0) {
        n->n_expected--;
        n->wanted = n->wanted && n->n_expected > 0;
        remove_if_empty(c, n);
    }
}

bool prefix_expected(const struct prefix_cache *c, const struct sha256 *key)
{
    const struct node *n = find(c, key);
    return n && n->n_expected > 0;
}

void prefix_want(struct prefix_cache *c, const struct sha256 *key)
{
    struct node *n = find(c, key);
    if (n && n->n_expected > 0) {
        n->wanted = true;
    }
}

bool prefix_wanted(const struct prefix_cache *c, const struct sha256 *key)
{
    const struct node *n = find(c, key);
    return n && n->wanted;
}

/* ---- pages that outlive the engine ---- */

/* Two entries of one block, or of one place, are nothing that an engine leaves behind; the first of them stays. */
static bool adopt_page(struct prefix_cache *c, const struct kv_seal *seal)
{
    struct node *n = find_or_add(c, &seal->key, seal->n_tokens);
    if (!n) {
        return false;
    }
    bool ok = n->pages[seal->group] == KV_PAGE_NONE &&
              kv_adopt_page(c->options.kv, seal->group, seal->page, (uint32_t)(n - c->nodes));
    if (ok) {
        n->pages[seal->group] = seal->page;
        n->unverified |= (uint8_t)(1u << seal->group);
        n->adopted |= (uint8_t)(1u << seal->group);
        c->n_unverified++;
    }
    remove_if_empty(c, n);
    return ok;
}

/* Or any, of a part. */
static bool lacks_full_page(const struct prefix_cache *c, const struct node *n)
{
    for (int g = 0; g < c->options.n_groups; g++) {
        if ((c->options.window[g] == 0 || is_part(c, n)) && n->pages[g] == KV_PAGE_NONE) {
            return true;
        }
    }
    return false;
}

uint32_t prefix_adopt(struct prefix_cache *c, struct kv_seals *seals)
{
    uint32_t n_found, n_blocks = 0;
    const struct kv_seal *found = kv_seals_found(seals, &n_found);
    c->seals = seals;
    for (uint32_t i = 0; i < n_found; i++) {
        if (!adopt_page(c, &found[i])) {
            kv_seal_remove(seals, found[i].group, found[i].page);
        }
    }
    for (uint32_t i = 0; i < c->options.n_nodes; i++) {
        struct node *n = &c->nodes[i];
        if (n->used && lacks_full_page(c, n)) { /* as on_evict says */
            drop_pages(c, n);
        }
        n_blocks += n->used && !is_part(c, n);
    }
    return n_blocks;
}

uint32_t prefix_find_part(struct prefix_cache *c, const struct sha256 *parent, const int32_t *ids, uint32_t n,
                          struct sha256 *key)
{
    for (n = n < c->options.page_tokens ? n : c->options.page_tokens - 1; n > 0 && c->n_parts > 0; n--) {
        *key = prefix_part_key(c, parent, ids, n);
        const struct node *node = find(c, key);
        if (node && node->n_tokens == n) {
            return n;
        }
    }
    return 0;
}

/* What follows a block that is gone is of no use until somebody computes the block, and then computes it too. */
static void forget_unverified(struct prefix_cache *c, const struct sha256 *keys, uint32_t n_keys)
{
    for (uint32_t i = 0; i < n_keys; i++) {
        struct node *n = find(c, &keys[i]);
        if (n && n->unverified) {
            drop_pages(c, n);
        }
    }
}

static enum prefix_trust verify_page(struct prefix_cache *c, struct node *n, int group, size_t *budget)
{
    size_t size = kv_page_size(c->options.kv, group);
    if (*budget == 0) {
        return PREFIX_UNFINISHED;
    }
    *budget -= size < *budget ? size : *budget;
    if (!kv_seal_holds(c->seals, group, n->pages[group], &n->key)) {
        on_evict(c, group, (uint32_t)(n - c->nodes)); /* nobody holds what nobody could take */
        return PREFIX_BROKEN;
    }
    set_verified(c, n, group);
    return PREFIX_SOUND;
}

enum prefix_trust prefix_verify(struct prefix_cache *c, const struct sha256 *keys, uint32_t n_keys, uint32_t n_blocks,
                                size_t *budget)
{
    uint32_t page_tokens = c->options.page_tokens, next = n_blocks * page_tokens;
    enum prefix_trust trust = PREFIX_SOUND;
    for (uint32_t i = 0; i < n_blocks && c->n_unverified > 0; i++) {
        struct node *n = find(c, &keys[i]);
        for (int g = 0; n && g < c->options.n_groups && trust == PREFIX_SOUND; g++) {
            bool seen = i >= prefix_first_visible(next, c->options.window[g], page_tokens);
            trust = seen && is_unverified(n, g) ? verify_page(c, n, g, budget) : trust;
        }
        if (trust == PREFIX_BROKEN && lacks_full_page(c, n)) {
            forget_unverified(c, keys + i + 1, n_keys - i - 1);
        }
        if (trust != PREFIX_SOUND) {
            return trust;
        }
    }
    return PREFIX_SOUND;
}

bool prefix_is_adopted(const struct prefix_cache *c, const struct sha256 *key)
{
    const struct node *n = find(c, key);
    return n && n->adopted;
}

/* ---- recount ---- */

static bool wrong(struct error *err, const char *what, uint32_t node)
{
    return error_set(err, ERR_INTERNAL, "Node %u of the prefix cache %s.", node, what);
}

static bool check_node(const struct prefix_cache *c, uint32_t i, uint32_t *n_unverified, uint32_t *n_sealed,
                       struct error *err)
{
    const struct node *n = &c->nodes[i];
    if (find(c, &n->key) != n) {
        return wrong(err, "is not found by its key", i);
    }
    if (is_empty(c, n)) {
        return wrong(err, "is empty", i);
    }
    for (int g = 0; g < c->options.n_groups; g++) {
        uint32_t page = n->pages[g];
        if (page == KV_PAGE_NONE) {
            if ((n->unverified | n->adopted) >> g & 1) {
                return wrong(err, "knows something of a page that it does not have", i);
            }
            continue;
        }
        if (!kv_is_cached(c->options.kv, g, page)) {
            return wrong(err, "names a page that is not cached", i);
        }
        bool covered = c->seals && kv_seal_covers(c->seals, g, page);
        if (covered && !is_unverified(n, g) && !kv_seal_holds(c->seals, g, page, &n->key)) {
            return wrong(err, "has a page without its seal", i);
        }
        *n_unverified += is_unverified(n, g);
        *n_sealed += covered;
    }
    return true;
}

/* A page that is not the cache's is sealed only while somebody fills it. */
static bool check_seals(const struct prefix_cache *c, uint32_t n_expected, struct error *err)
{
    const struct kv_pool *kv = c->options.kv;
    struct kv_seal s = {0};
    uint32_t n_sealed = 0;
    for (int g = 0; g < c->options.n_groups; g++) {
        for (uint32_t i = 0; i < kv_n_pages(kv, g); i++) {
            bool sealed = kv_seal_get(c->seals, g, i, &s), cached = kv_is_cached(kv, g, i);
            bool filled = s.n_tokens < c->options.page_tokens && kv_refs(kv, g, i) > 0;
            if (sealed && !cached && !(filled && kv_seal_holds(c->seals, g, i, &s.key))) {
                return error_set(err, ERR_INTERNAL, "Page %u of group %d has a seal that is not true.", i, g);
            }
            n_sealed += sealed && cached;
        }
    }
    return n_sealed == n_expected ||
           error_set(err, ERR_INTERNAL, "%u cached pages are sealed, not %u.", n_sealed, n_expected);
}

bool prefix_check(const struct prefix_cache *c, struct error *err)
{
    uint32_t n_unverified = 0, n_sealed = 0, n_parts = 0;
    for (uint32_t i = 0; i < c->options.n_nodes; i++) {
        if (c->nodes[i].used && !check_node(c, i, &n_unverified, &n_sealed, err)) {
            return false;
        }
        n_parts += c->nodes[i].used && is_part(c, &c->nodes[i]);
    }
    if (n_unverified != c->n_unverified || n_parts != c->n_parts) {
        return error_set(err, ERR_INTERNAL,
                         "The prefix cache counts %u pages to be checked and %u parts, not %u and %u.", c->n_unverified,
                         c->n_parts, n_unverified, n_parts);
    }
    return !c->seals || check_seals(c, n_sealed, err);
}
