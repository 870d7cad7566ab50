/* A server that a test plays: a session over a transport without a way. What the session sends is kept; what the test
 * says is a message of the server. */
#ifndef TANDEM_TESTS_SUPPORT_MCP_PEER_H
#define TANDEM_TESTS_SUPPORT_MCP_PEER_H

#include "mcp/session.h"
#include "mcp/transport.h"

struct peer {
    struct transport transport; /* the first member */
    struct loop *loop;
    struct session *session; /* NULL: gone */
    struct mcp_server_config config;
    struct buf sent; /* messages, each followed by LF */
    bool refuses;    /* to send */
    bool ready, gone, forced;
    int n_cancelled;
    int n_changed[MCP_N_LISTS];
    struct error closed;                /* on_closed's */
    void (*on_closing)(struct peer *p); /* called in on_closed; NULL: nothing */
};

/* kind, legacy and config.protocol shape the session. */
void peer_start(struct peer *p, enum mcp_transport_kind kind, const char *protocol);
void peer_say(struct peer *p, const char *text);                                        /* a message of the server */
void peer_become_ready(struct peer *p, const char *revision, const char *capabilities); /* whatever it takes */
void peer_run(struct peer *p, int64_t ms);                                              /* the loop */
void peer_end(struct peer *p);

#endif
