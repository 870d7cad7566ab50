/* One GET to the Hub or its storage: redirects followed by hand, failures tried again, a cut range gone on with where
 * it was cut. Asynchronous, on the client's loop.
 *
 * The token goes to the endpoint's own scheme, host and port, and nowhere else: a redirect to another place is a
 * request without it. From https to http no redirect is followed.
 *
 * Tried again are: no connection, a broken one, a time-out, 408, 429, 5xx; after a wait drawn evenly from 0 to 0.3 s
 * that doubles up to 20 s ("full jitter"), or what Retry-After says, up to FETCH_MAX_WAIT_S. After FETCH_ATTEMPTS in a
 * row without a new byte it fails: some seconds where nothing has ever come, a minute in the middle of a file. What is
 * no file is not tried again once a part of it has come. */
#ifndef TANDEM_HUB_FETCH_H
#define TANDEM_HUB_FETCH_H

#include "base/loop.h"
#include "http/client.h"
#include "hub/settings.h"

#define FETCH_ATTEMPTS       6
#define FETCH_ATTEMPTS_LATER 12  /* of a file of which something has come: a line that is down comes back */
#define FETCH_MAX_WAIT_S     120 /* a server that wants more is told of in the error */
#define FETCH_URL_MAX        8192

struct hub_fetch;

struct hub_fetch_context { /* what all fetches of a client share */
    struct loop *loop;
    struct http_client *http;
    const struct hub_settings *settings;
};

struct hub_fetch_options {
    const char *url;      /* at the endpoint, absolute */
    const char *location; /* where an earlier one was led to: asked first; NULL: none. 401 and 403 lead back to url */
    const char *what;     /* for errors: "owner/name"; lives as long as the fetch */
    bool ranged;          /* bytes [from, from + size) of a file of `total`; else the whole reply, of at most `size` */
    uint64_t from, size, total;
    /* on_data: only what was asked for, in order. on_done, once: err NULL, all of it has come. The fetch is to be freed
     * then, or later. NOT_IMPLEMENTED: the server has no ranges. */
    void (*on_data)(void *arg, struct str piece);
    void (*on_done)(void *arg, const struct error *err);
    void (*on_wait)(void *arg, const struct error *err, int64_t wait_ms); /* before another attempt; may be NULL */
    void *arg;
};

/* NULL: what is wrong with the URL, or no memory. No callback comes from inside. */
NODISCARD struct hub_fetch *hub_fetch_start(const struct hub_fetch_context *c, const struct hub_fetch_options *options,
                                            struct error *err);
void hub_fetch_free(struct hub_fetch *f); /* ends it without a callback; NULL is fine */
/* Where the last redirect led to; the URL itself when there was none. Lives as long as the fetch. */
const char *hub_fetch_location(const struct hub_fetch *f);

/* ---- for tests ---- */

bool hub_same_origin(const char *a, const char *b);
/* The absolute URL of a Location header beside the URL that sent it. FORBIDDEN: from https to http; FORMAT: no URL.
 */
NODISCARD bool hub_follow(const char *from, struct str location, char out[FETCH_URL_MAX], struct error *err);
/* "bytes 0-99/1000" is of [from, from + size) and total. */
bool hub_content_range_is(struct str value, uint64_t from, uint64_t size, uint64_t total);

#endif
