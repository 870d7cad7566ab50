/* What the registry's files share: mcp.c (life, tools of all), mcp_call.c (calls), mcp_server.c (one server's life),
 * mcp_list.c (its lists), mcp_status.c. */
#ifndef TANDEM_MCP_MCP_INTERNAL_H
#define TANDEM_MCP_MCP_INTERNAL_H

#include "base/json.h"
#include "mcp/mcp.h"
#include "mcp/session.h"
#include "mcp/tool.h"

struct server_list { /* server->lists[an enum mcp_list] */
    struct server *server;
    struct json *tree; /* array; NULL: none yet */
    struct buf pages;  /* of the list that is being read: items, separated by commas */
    uint64_t request;  /* 0: none */
    size_t n_pages;
    bool again; /* it has changed meanwhile */
};

struct call {
    struct server *server;
    struct call *prev, *next; /* of the server's, in order */
    uint64_t id, request;     /* request 0: waiting for its turn */
    struct loop_timer *timer; /* while it waits */
    int64_t timeout_ms, started_ms;
    const char *method;
    struct buf members; /* of params */
    struct arena *arena;
    struct str name; /* in it: for header fields */
    struct mcp_pairs headers;
    bool is_tool;
    void (*on_progress)(void *arg, double progress, double total, struct str message);
    void (*done)(void *arg, const struct mcp_result *result);
    void *arg;
};

struct server {
    struct mcp *mcp;
    const struct mcp_server_config *config;
    enum mcp_state state;
    enum mcp_transport_kind kind; /* the one that is tried or spoken */
    struct session *session;      /* NULL: none */
    bool lost;                    /* the session is broken, or given up; it is not gone yet */
    bool legacy;                  /* not to be asked for a modern revision */
    bool at_once;                 /* the next try needs no pause: it is another transport */
    struct error refused;         /* by the first of two transports that are tried; code NONE: it was not */
    bool was_ready;
    int step; /* of the pauses */
    int64_t ready_ms, next_try_ms;
    struct loop_timer *timer;
    struct error failure; /* code NONE: none */
    struct server_list lists[MCP_N_LISTS];
    struct tool *tools; /* [n_tools] */
    size_t n_tools, n_hidden;
    struct call *calls, *last_call;
    int n_running, n_waiting;
    uint64_t n_calls, n_failed, n_restarts;
    const char *revision;
    char name[128]; /* as it calls itself */
};

struct mcp {
    struct loop *loop;
    struct http_client *http;
    const struct mcp_config *config;
    struct mcp_options options;
    struct server *servers; /* [config->n] */
    struct tool **by_name;  /* [n_tools] in the order of their names */
    size_t n_tools;
    uint64_t generation, last_call;
    bool change_deferred, closing, close_deferred;
    void (*on_closed)(void *arg);
    void *on_closed_arg;
};

/* mcp.c */
void mcp__changed(struct mcp *m);      /* on_change, soon */
void mcp__merge_tools(struct mcp *m);  /* the tools of a server are others */
void mcp__finish_close(struct mcp *m); /* when nothing is left */
const struct tool *mcp__find_tool(const struct mcp *m, struct str name, struct server **server);

/* mcp_server.c */
void server__start(struct server *s);
void server__close(struct server *s);
void server__fail(struct server *s, const struct error *why); /* the session is given up, and made anew */
void server__listed(struct server *s, enum mcp_list which);   /* a list is complete */

/* mcp_list.c */
void server__fetch(struct server *s, enum mcp_list which);
void server__stop_lists(struct server *s);
void server__free_lists(struct server *s);
bool server__read_tools(struct server *s, struct error *err);

/* mcp_call.c */
void server__run_calls(struct server *s);                           /* those whose turn it is */
void server__fail_calls(struct server *s, const struct error *why); /* all */
void server__drop_calls(struct server *s);

#endif
