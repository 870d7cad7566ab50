/* Pages that outlive their engine: what was found sealed becomes nodes, whose bytes are compared with their seals
 * before the first hit that takes them. */
#include "engine/prefix_cache_internal.h"

/* Two entries of one block, or of one place, are nothing that an engine leaves behind; the first of them stays. */
static bool adopt_page(struct prefix_cache *c, const struct kv_seal *seal)
{
    struct node *n = prefix__find_or_add(c, &seal->key, seal->n_tokens);
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
    prefix__remove_if_empty(c, n);
    return ok;
}

static bool lacks_page(const struct prefix_cache *c, const struct node *n)
{
    for (int g = 0; g < c->options.n_groups; g++) {
        if (prefix__needs(c, n, g) && n->pages[g] == KV_PAGE_NONE) {
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
        if (n->used && lacks_page(c, n)) { /* as when one is evicted */
            prefix__drop_pages(c, n);
        }
        n_blocks += n->used && !prefix__is_part(c, n);
    }
    return n_blocks;
}

uint32_t prefix_find_part(struct prefix_cache *c, const struct sha256 *parent, const int32_t *ids, uint32_t n,
                          struct sha256 *key)
{
    for (n = n < c->options.page_tokens ? n : c->options.page_tokens - 1; n > 0 && c->n_parts > 0; n--) {
        *key = prefix_part_key(c, parent, ids, n);
        const struct node *node = prefix__find(c, key);
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
        struct node *n = prefix__find(c, &keys[i]);
        if (n && n->unverified) {
            prefix__drop_pages(c, n);
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
        prefix__evict(c, n, group); /* nobody holds what nobody could take */
        return PREFIX_BROKEN;
    }
    prefix__set_verified(c, n, group);
    return PREFIX_SOUND;
}

enum prefix_trust prefix_verify(struct prefix_cache *c, const struct sha256 *keys, uint32_t n_keys, uint32_t n_blocks,
                                size_t *budget)
{
    uint32_t page_tokens = c->options.page_tokens, next = n_blocks * page_tokens;
    enum prefix_trust trust = PREFIX_SOUND;
    for (uint32_t i = 0; i < n_blocks && c->n_unverified > 0; i++) {
        struct node *n = prefix__find(c, &keys[i]);
        for (int g = 0; n && g < c->options.n_groups && trust == PREFIX_SOUND; g++) {
            bool seen = i >= prefix_first_visible(next, c->options.window[g], page_tokens);
            trust = seen && prefix__is_unverified(n, g) ? verify_page(c, n, g, budget) : trust;
        }
        if (trust == PREFIX_BROKEN && lacks_page(c, n)) {
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
    const struct node *n = prefix__find(c, key);
    return n && n->adopted;
}
