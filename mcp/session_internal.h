/* What the files of a session share: session.c (life, messages in), session_request.c (requests), session_start.c
 * (agreement on a revision), session_peer.c (what the server says and asks by itself). */
#ifndef TANDEM_MCP_SESSION_INTERNAL_H
#define TANDEM_MCP_SESSION_INTERNAL_H

#include "mcp/log_limit.h"
#include "mcp/rpc.h"
#include "mcp/session.h"
#include "mcp/transport.h"

struct pending { /* a request without its answer */
    struct session *session;
    struct pending *prev, *next;
    uint64_t id;
    struct loop_timer *timer;
    int64_t timeout_ms, sent_ms, until_ms; /* until_ms: progress keeps it alive no longer */
    char method[32];
    session_progress on_progress;
    session_done done;
    void *arg;
};

struct session {
    struct session_options options;
    struct transport *transport;
    const struct mcp_revision *revision;
    bool has[MCP_N_LISTS], changes[MCP_N_LISTS], logs;
    bool ready, dead;  /* dead: broken or closed; nothing goes in or out */
    bool closed_by_us; /* no on_closed */
    bool died_of_probe;
    bool initializing;                            /* initialize was sent */
    struct error refused;                         /* ... and in vain, while the probe is not answered yet */
    uint64_t discover, initialize, check, listen; /* ids of requests of its own; 0: none */
    const struct rpc_message *answer;             /* within a callback: the message that it is called for; else NULL */
    uint64_t last_id, n_noise;
    int64_t heard_ms; /* when the last message came */
    struct pending *pending;
    size_t n_pending;
    struct loop_timer *probe_timer, *start_timer, *listen_timer;
    struct log_limit log;
    char server[128];
};

void session__fail(struct session *s, const struct error *why); /* broken: everybody hears of it */

/* session_request.c */
NODISCARD bool session__notify(struct session *s, const char *method, struct str members, struct error *err);
void session__send(struct session *s, struct str text); /* an answer */
struct pending *session__find(struct session *s, uint64_t id);
void session__end_pending(struct pending *p, const struct json *result, const struct error *err);
void session__drop_pending(struct session *s);
void session__cancel_silently(struct session *s, uint64_t *id); /* its answer is not looked at; *id becomes 0 */
void session__progress(struct session *s, const struct json *params);
void session__check(struct session *s); /* asks for a sign of life */

/* session_start.c */
bool session__prepare_start(struct session *s);
void session__start(struct session *s);
void session__listen(struct session *s);
void session__missed(struct session *s); /* lists may have changed */

/* session_peer.c */
void session__request_of_peer(struct session *s, const struct rpc_message *m);
void session__notification(struct session *s, const struct rpc_message *m);

#endif
