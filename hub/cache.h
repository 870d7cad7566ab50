/* The cache folder of huggingface_hub, read and pruned: what it has downloaded is found here, and the other way round
 * (hub/store.h writes).
 *
 *     CACHE/models--owner--name/refs/main                  text: the commit of that branch
 *                              /snapshots/COMMIT/FILE      link to ../../blobs/ETAG, relative
 *                              /blobs/ETAG                 content; ETAG.incomplete while it is being brought
 *     CACHE/.locks/models--owner--name/ETAG.lock           held meanwhile
 *
 * Folders are opened one below the other without following links; the file that a link in a snapshot leads to has to
 * lie in the cache, or it counts as not there. Any thread; another program may change the folder meanwhile. */
#ifndef TANDEM_HUB_CACHE_H
#define TANDEM_HUB_CACHE_H

#include "hub/choose.h"
#include "hub/settings.h"

enum hub_state { HUB_ABSENT, HUB_INCOMPLETE, HUB_COMPLETE };

struct hub_cached {
    enum hub_state state;
    char commit[HUB_COMMIT_SIZE + 1];
    char path[HUB_PATH_MAX]; /* of the GGUF file, or of the snapshot's folder; of HUB_COMPLETE */
    bool is_folder;
    char precision[HUB_PRECISION_MAX + 1]; /* as in hub_choice */
    uint64_t size;                         /* of the files that are there */
    char missing[HUB_FILE_MAX + 1];        /* of HUB_INCOMPLETE: one of the files that lack; "" when no name is known */
    /* From hub_cache_each: how it is named. */
    bool is_main;   /* the revision main leads to its snapshot; else only the commit names it */
    bool is_second; /* of its precision another file comes first; only its path names it */
};

/* What the cache has for a reference of kind HUB_REPO. False: it cannot be read, or holds no memory. A revision that is
 * no commit is looked up in refs. */
NODISCARD bool hub_cache_find(const char *cache, const struct hub_reference *r, enum hub_folder_use folder,
                              struct hub_cached *out, struct error *err);

/* The files of a snapshot, sizes followed through links; empty when there is no such snapshot. */
NODISCARD bool hub_cache_listing(const char *cache, const char *repo, const char *commit, struct arena *arena,
                                 struct hub_listing *out, struct error *err);

/* Every model of every snapshot: calls each(arg, repo, cached). Sorted by repository. A missing cache holds none. */
NODISCARD bool hub_cache_each(const char *cache, void (*each)(void *arg, const char *repo, const struct hub_cached *c),
                              void *arg, struct error *err);

struct hub_removed {
    size_t n_files; /* contents, not links */
    uint64_t size;
};

/* Removes the repository; with a revision that snapshot alone; with a file or precision only its files. Contents that
 * another snapshot links to stay. NOT_FOUND: there is nothing to remove. */
NODISCARD bool hub_cache_remove(const char *cache, const struct hub_reference *r, struct hub_removed *out,
                                struct error *err);

#endif
