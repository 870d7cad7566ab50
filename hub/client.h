/* The Hub's API, one request after another; each blocks until it is answered, on a loop of the client's own.
 *
 *     struct hub_client *c = hub_client_create(&(struct hub_client_options){.settings = &settings}, err);
 *     hub_client_listing(c, "owner/name", "main", arena, &listing, err);
 *     hub_client_read(c, "owner/name", listing.commit, file, 0, 4096, &out, err);
 *     hub_client_free(c);
 *
 * Failures are tried again as hub/fetch.h says; errors say what to do: UNAUTHENTICATED, FORBIDDEN (gated: where to ask
 * for access), NOT_FOUND (repository, revision or file), UNAVAILABLE (also offline). One thread. */
#ifndef TANDEM_HUB_CLIENT_H
#define TANDEM_HUB_CLIENT_H

#include "hub/fetch.h"
#include "hub/listing.h"

struct hub_client;

struct hub_client_options {
    const struct hub_settings *settings; /* the caller's, and has to outlive the client */
    const char *user_agent;              /* NULL: none; copied */
    /* Before another attempt, for people to see; may be NULL. */
    void (*on_wait)(void *arg, const struct error *err, int64_t wait_ms);
    /* Asked every HUB_STOP_POLL_MS while something is under way: true ends it, with CANCELLED; may be NULL. */
    bool (*stops)(void *arg);
    void *arg;
};

#define HUB_STOP_POLL_MS 100

NODISCARD struct hub_client *hub_client_create(const struct hub_client_options *options, struct error *err);
void hub_client_free(struct hub_client *c); /* NULL is fine */

NODISCARD bool hub_client_listing(struct hub_client *c, const char *repo, const char *revision, struct arena *arena,
                                  struct hub_listing *out, struct error *err);
/* Models by words of their names and tags, those first that are downloaded most. */
NODISCARD bool hub_client_search(struct hub_client *c, struct str words, int limit, struct arena *arena,
                                 struct hub_search *out, struct error *err);
/* Bytes [from, from + size) of a file, appended to out; cut to the file's end. */
NODISCARD bool hub_client_read(struct hub_client *c, const char *repo, const char *commit, const struct hub_file *file,
                               uint64_t from, uint64_t size, struct buf *out, struct error *err);

/* ---- for hub/download.c ---- */

const struct hub_fetch_context *hub_client_context(const struct hub_client *c);
const struct hub_client_options *hub_client_options(const struct hub_client *c);
/* Where a file is asked for. */
NODISCARD bool hub_client_file_url(const struct hub_client *c, const char *repo, const char *commit, struct str path,
                                   struct buf *out, struct error *err);
/* Is it to be stopped, or has it been while its loop ran? Then *err is CANCELLED. */
bool hub_client_stops(struct hub_client *c, struct error *err);
/* UNAVAILABLE, saying how to go online again. */
NODISCARD bool hub_client_may_ask(const struct hub_client *c, const char *what, struct error *err);

#endif
