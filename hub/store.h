/* One repository of the cache (hub/cache.h), opened for writing: contents are brought into blobs/ETAG.incomplete, which
 * always is a beginning of the file, and get their name once they are whole and checked; then snapshots link to them.
 *
 *     struct hub_store *s = hub_store_open(cache, "owner/name", err);
 *     if (!hub_store_has(s, etag, size)) {
 *         hub_store_begin(s, etag, &part, err);      part.fd, part.size: what is there already
 *         ... append to part.fd ...
 *         hub_store_finish(s, &part, err);           or hub_store_drop(s, &part), or hub_store_leave(&part)
 *     }
 *     hub_store_link(s, commit, "config.json", etag, err) && hub_store_ref(s, "main", commit, err);
 *     hub_store_free(s);
 *
 * Names that break the rules of hub/name.h are INVALID. Everything below the cache is opened without following links.
 * Other errors are IO and name what could not be made. One thread. */
#ifndef TANDEM_HUB_STORE_H
#define TANDEM_HUB_STORE_H

#include "base/sys_file.h"
#include "hub/cache.h"

struct hub_store;

/* Makes the folders that are not there. */
NODISCARD struct hub_store *hub_store_open(const char *cache, const char *repo, struct error *err);
void hub_store_free(struct hub_store *s); /* NULL is fine */

bool hub_store_has(const struct hub_store *s, const char *etag, uint64_t size); /* with this size */
uint64_t hub_store_partial(const struct hub_store *s, const char *etag);        /* bytes of what has begun to come */
bool hub_store_space(const struct hub_store *s, uint64_t *available);           /* false: the system does not say */

struct hub_part {
    int fd, lock; /* open for reading and writing; lock -1: the file system has none */
    char etag[HUB_ETAG_MAX + 1];
    uint64_t size; /* when it was opened */
};

/* Waits as long as another program brings the same, and as waiting(arg), if not NULL, says true, which is asked before
 * and now and then; CANCELLED. */
NODISCARD bool hub_store_begin(struct hub_store *s, const char *etag, bool (*waiting)(void *arg), void *arg,
                               struct hub_part *out, struct error *err);
/* All three close it. finish: to the disk, then under its name. */
NODISCARD bool hub_store_finish(struct hub_store *s, struct hub_part *part, struct error *err);
void hub_store_drop(struct hub_store *s, struct hub_part *part); /* removes what has come */
void hub_store_leave(struct hub_part *part);                     /* for the next time */

NODISCARD bool hub_store_snapshot(struct hub_store *s, const char *commit, struct error *err); /* its folder */
NODISCARD bool hub_store_link(struct hub_store *s, const char *commit, struct str path, const char *etag,
                              struct error *err);
/* A commit as revision needs none. */
NODISCARD bool hub_store_ref(struct hub_store *s, const char *revision, const char *commit, struct error *err);

#endif
