/* What the Hub says of a repository at a revision (/api/models/ID/revision/REV?blobs=true): its commit and its files.
 * A snapshot of the cache is described in the same way. Every name is checked (hub/name.h) before anybody sees it. */
#ifndef TANDEM_HUB_LISTING_H
#define TANDEM_HUB_LISTING_H

#include "base/arena.h"
#include "hub/name.h"

struct hub_file {
    struct str path; /* in the repository; NUL-terminated */
    uint64_t size;
    char etag[HUB_ETAG_MAX + 1]; /* SHA-256 of the content, or of a small file the git blob's SHA-1; "" in a snapshot */
};

struct hub_listing {
    char commit[HUB_COMMIT_SIZE + 1];
    struct hub_file *files; /* [n], sorted by path */
    size_t n;
    bool gated; /* somebody has to ask for access */
};

/* Strings live in the arena. FORMAT: it is no such reply, or names a file that no repository can have. */
NODISCARD bool hub_listing_parse(struct str json, struct arena *arena, struct hub_listing *out, struct error *err);
void hub_listing_sort(struct hub_listing *l);
/* NULL: there is no such file. */
const struct hub_file *hub_listing_find(const struct hub_listing *l, struct str path);

/* ---- /api/models?search= ---- */

struct hub_found {
    struct str repo; /* NUL-terminated; a valid name */
    int64_t downloads, likes;
    bool gated, gguf, safetensors; /* by its tags */
};

struct hub_search {
    struct hub_found *items; /* [n], as they came */
    size_t n;
};

NODISCARD bool hub_search_parse(struct str json, struct arena *arena, struct hub_search *out, struct error *err);

#endif
