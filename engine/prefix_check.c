/* The prefix cache against the books of the pool and the table of seals. */
#include "engine/prefix_cache_internal.h"

static bool wrong(struct error *err, const char *what, uint32_t node)
{
    return error_set(err, ERR_INTERNAL, "Node %u of the prefix cache %s.", node, what);
}

static bool check_node(const struct prefix_cache *c, uint32_t i, uint32_t *n_unverified, uint32_t *n_sealed,
                       struct error *err)
{
    const struct node *n = &c->nodes[i];
    if (prefix__find(c, &n->key) != n) {
        return wrong(err, "is not found by its key", i);
    }
    if (prefix__is_empty(c, n)) {
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
        if (covered && !prefix__is_unverified(n, g) && !kv_seal_holds(c->seals, g, page, &n->key)) {
            return wrong(err, "has a page without its seal", i);
        }
        *n_unverified += prefix__is_unverified(n, g);
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
        n_parts += c->nodes[i].used && prefix__is_part(c, &c->nodes[i]);
    }
    if (n_unverified != c->n_unverified || n_parts != c->n_parts) {
        return error_set(err, ERR_INTERNAL,
                         "The prefix cache counts %u pages to be checked and %u parts, not %u and %u.", c->n_unverified,
                         c->n_parts, n_unverified, n_parts);
    }
    return !c->seals || check_seals(c, n_sealed, err);
}
