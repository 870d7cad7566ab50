/* Several MCP servers as one set of tools: connected, watched, restarted; their tools under names that models can be
 * shown; calls with time-outs, progress and cancelling. Everything on the loop's thread; nothing blocks. The program
 * must ignore SIGPIPE.
 *
 *     m = mcp_create(loop, &config, &(struct mcp_options){.version = "1.0", .on_change = changed, .arg = me}, err);
 *     mcp_tools(m, &json)                            OpenAI's tool objects of all servers that were ready once
 *     id = mcp_call(m, &(struct mcp_call_options){.tool = name, .arguments = json, .done = answered, .arg = me}, err);
 *     ... the loop runs: on_progress any number of times, done once; or mcp_call_cancel(m, id)
 *     mcp_close(m, closed, me); ... closed: mcp_free(m)
 *
 * A call never fails but by a result: what the server answered, or an error that says what happened to it. No callback
 * is called from inside a function, but that mcp_call_cancel may end another call that could not be sent; in a callback
 * everything may be called but mcp_free (in that of mcp_close it may be). */
#ifndef TANDEM_MCP_MCP_H
#define TANDEM_MCP_MCP_H

#include "base/loop.h"
#include "mcp/config.h"

struct mcp;
struct buf;

enum mcp_state {
    MCP_DISABLED, /* by the configuration */
    MCP_STARTING, /* connecting, or reading its list of tools for the first time */
    MCP_READY,
    MCP_FAILED,      /* it was never ready: why, and when it is tried again */
    MCP_RECONNECTING /* likewise, but it was; its tools are still listed */
};
const char *mcp_state_name(enum mcp_state state); /* "starting" */

struct mcp_options {                /* copied */
    const char *version;            /* of this program, for servers; static */
    const char *ca_file;            /* PEM, instead of the system's certificates; NULL */
    size_t max_result;              /* bytes of a result's text; 0: LIMIT_MCP_RESULT */
    int max_calls;                  /* at a time, of one server; 0: LIMIT_MCP_CALLS. Others wait their turn */
    int64_t start_timeout_ms;       /* 0: 60 s; `npx` may have to download first */
    int64_t retry_ms, retry_max_ms; /* first and longest pause before another try; 0: 1 s, 5 min */
    void (*on_change)(void *arg);   /* tools, or a state; soon after, once for several changes. May be NULL */
    void *arg;
};

/* The configuration outlives the registry. Servers are started at once, by the loop. NO_MEMORY. */
NODISCARD struct mcp *mcp_create(struct loop *loop, const struct mcp_config *config, const struct mcp_options *options,
                                 struct error *err);
/* Calls end without a callback; processes are told to end, and killed after a while. on_closed from the loop, once
 * nothing is left. */
void mcp_close(struct mcp *m, void (*on_closed)(void *arg), void *arg);
void mcp_free(struct mcp *m); /* after on_closed, or in it; NULL is fine */

/* ---- servers ---- */

struct mcp_server_status { /* views, valid until the loop goes on */
    const char *name;
    enum mcp_transport_kind transport; /* for MCP_HTTP_AUTO: the one that is spoken, once it is known */
    enum mcp_state state;
    const char *revision;     /* of the protocol; NULL: not known */
    const char *server;       /* as it calls itself, with its version; maybe "" */
    int pid;                  /* 0: none */
    size_t n_tools, n_hidden; /* n_hidden: not allowed, or not usable */
    size_t n_resources, n_templates, n_prompts;
    int n_running, n_waiting;   /* calls */
    uint64_t n_calls, n_failed; /* so far; n_failed: without an answer of the server */
    uint64_t n_restarts;
    const struct error *failure; /* the last one; NULL: none */
    int64_t next_try_ms;         /* from now; -1: none is planned */
};

size_t mcp_n_servers(const struct mcp *m);
void mcp_server_status(const struct mcp *m, size_t i, struct mcp_server_status *out);
bool mcp_find_server(const struct mcp *m, struct str name, size_t *i);
/* Appends all of them as a JSON array of objects, for a status route. Nothing in it is a secret. */
void mcp_put_status(const struct mcp *m, struct buf *out);

/* ---- tools ---- */

struct mcp_tool_info { /* views, valid until the loop goes on */
    const char *name;  /* as models see it: at most LIMIT_MCP_TOOL_NAME letters, digits, '_', '-' */
    struct str own_name;
    size_t server;
    int read_only, idempotent; /* hints of the server: 1, 0; -1: it says nothing */
};

size_t mcp_n_tools(const struct mcp *m);
void mcp_tool_at(const struct mcp *m, size_t i, struct mcp_tool_info *out);
bool mcp_find_tool(const struct mcp *m, struct str name, struct mcp_tool_info *out);
uint64_t mcp_generation(const struct mcp *m); /* another number with each change of the tools */
/* Appends a JSON array of OpenAI's tool objects, with the servers' annotations: those of which `wanted` says true, all
 * when it is NULL. Overflow shows in the buf. */
void mcp_tools(const struct mcp *m, bool (*wanted)(void *arg, const struct mcp_tool_info *tool), void *arg,
               struct buf *out);

/* ---- calls ---- */

struct mcp_result {        /* views, valid until the callback returns */
    bool is_error;         /* the tool says so, or there was no answer */
    struct str text;       /* the parts as text (mcp/content.h), or the error as a sentence */
    struct str structured; /* JSON, {NULL,0}: none; of a resource or a prompt: the whole result */
    struct error
        error; /* code NONE: the server answered. Else DEADLINE, UNAVAILABLE, PROTOCOL, TOO_LARGE, INVALID ... */
};

struct mcp_call_options { /* copied */
    struct str tool;      /* as models see it */
    struct str arguments; /* JSON object; empty: {} */
    int64_t timeout_ms;   /* waiting for its turn included; 0: the server's. Progress starts it anew, up to ten times as
                             long */
    void (*on_progress)(void *arg, double progress, double total, struct str message); /* may be NULL */
    void (*done)(void *arg, const struct mcp_result *result);
    void *arg;
};

/* An id, or 0: NOT_FOUND (no such tool), INVALID (arguments), OVERLOADED, UNAVAILABLE (its server is not ready),
 * NO_MEMORY. */
NODISCARD uint64_t mcp_call(struct mcp *m, const struct mcp_call_options *options, struct error *err);
void mcp_call_cancel(struct mcp *m, uint64_t id); /* done is not called; the server is told; 0 and old ids are fine */

/* ---- resources and prompts ---- */

enum mcp_kind { MCP_KIND_RESOURCES, MCP_KIND_TEMPLATES, MCP_KIND_PROMPTS };

/* Appends the JSON array that the server last gave ("[]" before that). */
void mcp_put_list(const struct mcp *m, size_t server, enum mcp_kind kind, struct buf *out);

struct mcp_get_options { /* copied */
    size_t server;
    struct str uri;                                           /* of a resource to read; else: */
    struct str prompt;                                        /* the name of a prompt to get */
    struct str arguments;                                     /* its arguments, a JSON object of strings; empty: none */
    int64_t timeout_ms;                                       /* 0: the server's */
    void (*done)(void *arg, const struct mcp_result *result); /* structured: the result */
    void *arg;
};

NODISCARD uint64_t mcp_get(struct mcp *m, const struct mcp_get_options *options, struct error *err);

#endif
