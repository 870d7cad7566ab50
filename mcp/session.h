/* One connection with a server, from its start to its loss: agreement on a revision of the protocol, requests and their
 * answers, what the server says and asks by itself. It owns the transport; it is never restarted (mcp_server.c makes a
 * new one). Everything on the loop's thread.
 *
 *     created -> on_ready (revision and capabilities are known) -> on_closed (broken, why)
 *     session_close, at any time -> on_gone, last of all: it is freed
 *
 * No event and no callback is called from inside session_create or session_request. In one, everything may be called.
 */
#ifndef TANDEM_MCP_SESSION_H
#define TANDEM_MCP_SESSION_H

#include "base/loop.h"
#include "http/client.h"
#include "mcp/config.h"
#include "mcp/revision.h"

#define SESSION_PROBE_MS 2000 /* for a server that may not know server/discover and stays silent */
#define SESSION_CHECK_MS 5000 /* for a sign of life after a time-out */

struct session;
struct transport;
struct transport_events;
struct json;

enum mcp_list { MCP_TOOLS, MCP_RESOURCES, MCP_TEMPLATES, MCP_PROMPTS, MCP_N_LISTS };

struct session_events {
    void (*on_ready)(void *arg);
    void (*on_changed)(void *arg, enum mcp_list which); /* MCP_RESOURCES: templates too */
    void (*on_closed)(void *arg, const struct error *why);
    void (*on_gone)(void *arg);
    void *arg;
};

struct session_options {
    struct loop *loop;
    struct http_client *http;               /* outlives it, as config does */
    const struct mcp_server_config *config; /* its kind is not looked at: */
    enum mcp_transport_kind kind;           /* not MCP_HTTP_AUTO */
    const char *version;                    /* of this program */
    bool legacy;                            /* it is known not to speak a modern revision */
    int64_t start_timeout_ms;
    struct session_events events;
    /* NULL: the transport of that kind. Else this one's, for tests. */
    struct transport *(*connect)(void *arg, const struct transport_events *events, struct error *err);
    void *connect_arg;
};

/* NOT_FOUND, INVALID, IO, NO_MEMORY: it could not even be begun. */
NODISCARD struct session *session_create(const struct session_options *options, struct error *err);
void session_close(struct session *s, bool force); /* requests without an answer end without a callback */

const struct mcp_revision *session_revision(const struct session *s); /* NULL before on_ready */
bool session_has(const struct session *s, enum mcp_list which);       /* by its capabilities */
int session_pid(const struct session *s);                             /* 0: no process */
const char *session_server(const struct session *s); /* "name version", as it calls itself; for display */
/* A process that ended at the first message, which it may not have known: the next one is to be asked otherwise. In
 * on_closed. */
bool session_died_of_probe(const struct session *s);

/* result: an object, a view until the callback returns; NULL: err says why. An error that the server answered with has
 * the code INVALID or NOT_IMPLEMENTED, and its message. */
typedef void (*session_done)(void *arg, const struct json *result, const struct error *err);
typedef void (*session_progress)(void *arg, double progress, double total, struct str message);

struct session_request { /* copied */
    const char *method;
    struct str members;           /* of params, JSON without the braces; may be empty */
    struct str name;              /* what the request is about, for header fields; {NULL,0}: nothing */
    struct mcp_pairs headers;     /* Mcp-Param-* */
    int64_t timeout_ms;           /* 0: none. Progress starts it anew, up to ten times as long */
    session_progress on_progress; /* may be NULL */
    session_done done;
    void *arg;
};

/* An id, or 0: OVERLOADED (LIMIT_MCP_PENDING), UNAVAILABLE, TOO_LARGE, NO_MEMORY. */
NODISCARD uint64_t session_request(struct session *s, const struct session_request *r, struct error *err);
void session_cancel(struct session *s, uint64_t id); /* no callback; the server is told */

#endif
