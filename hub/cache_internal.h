/* Shared by cache.c (finding), cache_remove.c and store.c (writing): folders opened without following links. */
#ifndef TANDEM_HUB_CACHE_INTERNAL_H
#define TANDEM_HUB_CACHE_INTERNAL_H

#include "hub/cache.h"

#define CACHE_FOLDER_MAX (HUB_REPO_MAX + 16)
#define CACHE_DEPTH_MAX  64 /* folders of what is walked through; each takes a descriptor meanwhile */

/* "models--owner--name" of a valid repository, and back: false when it is none. */
void cache__folder_of(const char *repo, char out[CACHE_FOLDER_MAX]);
bool cache__repo_of(const char *folder, char out[HUB_REPO_MAX + 1]);

/* A folder in another one, never through a link; -1 with errno. dir AT_FDCWD: `name` is the user's path, whose links
 * are followed. */
int cache__open_dir(int dir, const char *name);
/* CACHE/models--owner--name and a folder of it; -1 with errno. */
int cache__open_repo(const char *cache, const char *repo, const char *below);

/* Calls visit for every file and link below the folder (which it closes), with its path from there and the folder it is
 * in; links to folders are not followed. Until visit returns false, or memory fails: both are false. *all, if not NULL,
 * becomes false when something was left out, since it could not be opened or lies deeper than any of ours: other
 * programs may have put it there. */
struct cache_entry {
    int dir;
    const char *name, *path;
    bool is_link;
};
bool cache__walk(int dir, bool (*visit)(void *arg, const struct cache_entry *e), void *arg, bool *all);

/* The blob that a link of a snapshot leads to ("../../blobs/ETAG"); false: it is another kind of link. */
bool cache__blob_of(const struct cache_entry *e, char out[256]);

#endif
