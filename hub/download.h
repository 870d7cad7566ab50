/* The content of one file, from the Hub into the cache, checked.
 *
 * A large file comes in pieces over a few connections. Only the piece at the end of what is there is written as it
 * comes; those behind it wait in memory, at most DOWNLOAD_PIECES of them. So the file in the cache is a beginning of
 * the content at any time, whatever happens, and the next attempt, also huggingface_hub's, goes on behind it; and the
 * checksum is computed along the way. */
#ifndef TANDEM_HUB_DOWNLOAD_H
#define TANDEM_HUB_DOWNLOAD_H

#include "hub/client.h"
#include "hub/store.h"

#define DOWNLOAD_PIECE_SIZE  ((uint64_t)8 << 20) /* long enough that starting one costs nothing beside it */
#define DOWNLOAD_PIECES      8                   /* coming, or waiting in memory */
#define DOWNLOAD_CONNECTIONS 4

struct hub_download {
    struct hub_client *client;
    struct hub_store *store;
    const char *repo, *commit;
    const struct hub_file *file;
    void (*on_bytes)(void *arg, uint64_t n); /* have come and are on their way to the disk; also those found there */
    void (*on_lost)(void *arg, uint64_t n);  /* of those: to be brought again */
    void (*on_busy)(void *arg); /* another program brings the same: waiting for it, again and again; may be NULL */
    void *arg;
};

/* Blocks until the content lies in blobs/ETAG with the size and the checksum of the listing. FORMAT: it came otherwise.
 * After a wrong checksum nothing of it is left; else what has come stays for the next attempt, which finds out whether
 * it is right. IO names the disk's failure. */
NODISCARD bool hub_download_run(const struct hub_download *d, struct error *err);

#endif
