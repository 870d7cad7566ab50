/* The way to one server and back: messages out, messages in. Three kinds (mcp/stdio.h, mcp/http_stream.h,
 * mcp/http_events.h) behind one table of functions. It knows JSON-RPC ids as numbers only. Everything on the loop's
 * thread; no event is called from inside a function that creates, sends or cancels.
 *
 *     created -> on_open -> on_message ... -> on_closed (broken: nothing comes any more)
 *     transport_close, at any time -> on_gone, last of all: it is freed */
#ifndef TANDEM_MCP_TRANSPORT_H
#define TANDEM_MCP_TRANSPORT_H

#include "base/buf.h"
#include "mcp/config.h"
#include "mcp/revision.h"

struct outgoing {             /* copied */
    struct str text;          /* one message, without line ends */
    uint64_t id;              /* of a request; 0: a notification or an answer */
    const char *method;       /* of a request or notification; NULL: an answer */
    struct str name;          /* its params' name or uri, which 2026-07-28 wants in a header; {NULL,0}: none */
    struct mcp_pairs headers; /* likewise */
};

struct transport_events {
    void (*on_open)(void *arg);
    void (*on_message)(void *arg, struct str text);
    bool (*is_waiting)(void *arg, uint64_t id); /* for an answer to that request? */
    /* Over HTTP: no answer to this request will come. Ids that are not waited for may be named; 0: of no request, but
     * the server may be away. */
    void (*on_unanswered)(void *arg, uint64_t id, const struct error *why);
    void (*on_missed)(void *arg); /* over HTTP: for a while nobody listened to what the server says by itself */
    void (*on_closed)(void *arg, const struct error *why);
    void (*on_gone)(void *arg);
    void *arg;
};

struct transport;

struct transport_ops {
    bool (*send)(struct transport *t, const struct outgoing *m, struct error *err);
    void (*cancel)(struct transport *t, uint64_t id);
    void (*established)(struct transport *t, const struct mcp_revision *revision);
    void (*close)(struct transport *t, bool force);
};

struct transport { /* the first member of each kind */
    const struct transport_ops *ops;
    struct transport_events events;
    bool closing; /* transport_close was called: no event but on_gone */
};

/* UNAVAILABLE, OVERLOADED (it does not read), NO_MEMORY. */
static inline bool transport_send(struct transport *t, const struct outgoing *m, struct error *err)
{
    return t->ops->send(t, m, err);
}

/* The answer is not wanted any more: over HTTP, its stream is closed. */
static inline void transport_cancel(struct transport *t, uint64_t id)
{
    t->ops->cancel(t, id);
}

/* The revision is known: over HTTP it goes into a header from now on, and messages of the server are listened for. */
static inline void transport_established(struct transport *t, const struct mcp_revision *revision)
{
    t->ops->established(t, revision);
}

/* force: without letting the server end by itself. Once. */
static inline void transport_close(struct transport *t, bool force)
{
    t->closing = true;
    t->ops->close(t, force);
}

#endif
