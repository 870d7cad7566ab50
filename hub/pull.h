/* A model from the Hub into the cache: what is asked for is looked up, its files are chosen, room on the disk is
 * checked, then they come one after another, the small ones first. What is there already is not brought again.
 *
 *     hub_pull(client, &reference, &(struct hub_pull_options){.on_progress = show}, &pulled, err);
 */
#ifndef TANDEM_HUB_PULL_H
#define TANDEM_HUB_PULL_H

#include "hub/cache.h"
#include "hub/client.h"

#define PULL_RESERVE ((uint64_t)256 << 20) /* bytes that stay free on the disk */

struct hub_progress {
    const char *file;              /* that comes now; NULL: all has come */
    uint64_t done, total, brought; /* bytes of all files; brought: by this call, over the network */
    size_t n_done, n_files;
    bool waiting; /* for another program that brings the same file */
};

struct hub_pull_options {
    /* Of a repository with both, when the reference does not say: whether the folder is what to take, in *wants; NULL:
     * it is. False: that could not be found out, and nothing is taken. */
    bool (*wants_folder)(void *arg, const struct hub_listing *l, bool *wants, struct error *err);
    /* Once before the first file and after every few bytes; may be NULL. */
    void (*on_progress)(void *arg, const struct hub_progress *p);
    void *arg;
};

struct hub_pulled {
    struct hub_cached cached;
    uint64_t brought;
};

/* Blocks. UNAVAILABLE offline; IO: no room, or the cache cannot be written; CANCELLED: the client was stopped, and what
 * has come stays for the next time. */
NODISCARD bool hub_pull(struct hub_client *c, const struct hub_reference *r, const struct hub_pull_options *options,
                        struct hub_pulled *out, struct error *err);

#endif
