/* The MCP servers of this program as requests use them: which of their tools a request has, calls of them, what is
 * counted of those. Owns the configuration and the client (mcp/mcp.h); all of a program's pipelines share one.
 *
 *     h = mcp_host_create(&options, err);                       its servers are started
 *     mcp_host_choose(h, request, err)                          loop: the tools as they are now, into the request
 *     mcp_host_merge(request, err)                              any thread: beside the client's own
 *     t = mcp_host_call(h, &call, err) ... done, or mcp_task_cancel(t)
 *     mcp_host_close(h, closed, me); ... closed: mcp_host_free(h)
 *
 * Everything on the loop's thread but for what says otherwise. */
#ifndef TANDEM_PIPELINE_MCP_HOST_H
#define TANDEM_PIPELINE_MCP_HOST_H

#include "base/buf.h"
#include "base/loop.h"
#include "pipeline/gen_request.h"

struct mcp_host;
struct mcp_task;

#define MCP_HOST_MAX_TURNS 100 /* the most that max_turns may be */

struct mcp_host_options {    /* copied */
    struct loop *loop;       /* outlives the host */
    const char *config_path; /* docs/MCP.md */
    const char *version;     /* of this program; static */
    int64_t max_turns;       /* of a model in one request: 1 to MCP_HOST_MAX_TURNS */
    bool by_default;         /* requests have the tools without asking */
    bool log_content;        /* arguments and results go to the log */
};

/* INVALID: what is wrong with the file. */
NODISCARD struct mcp_host *mcp_host_create(const struct mcp_host_options *options, struct error *err);
/* Servers are ended; on_closed from the loop. Calls end without a word. */
void mcp_host_close(struct mcp_host *h, void (*on_closed)(void *arg), void *arg);
void mcp_host_free(struct mcp_host *h); /* after on_closed, or in it; NULL is fine */
const struct mcp_host_options *mcp_host_options(const struct mcp_host *h);

/* ---- looking ---- */

void mcp_host_put_servers(const struct mcp_host *h, struct buf *out); /* a JSON array; nothing in it is a secret */
/* A JSON array of {"server", "name", "tool", "description", "input_schema", "annotations"}. */
void mcp_host_put_tools(const struct mcp_host *h, struct buf *out);
/* Is there a server of this name? *url: its address, NULL: it is a program. Any thread. */
bool mcp_host_find_server(const struct mcp_host *h, struct str name, const char **url);

/* ---- a request's tools ---- */

/* r->mcp's definitions and tools, by what it wants. INVALID: there is no such server or tool; UNAVAILABLE: one that it
 * names is not ready. */
NODISCARD bool mcp_host_choose(const struct mcp_host *h, struct gen_request *r, struct error *err);
/* r->tools: the client's, then those. Once; nothing where there are none. INVALID: two have one name, or there are too
 * many; or tool_choice names one that is not there. Any thread. */
NODISCARD bool mcp_host_merge(struct gen_request *r, struct error *err);

/* Is a server of r's tools starting, so that its tools may come yet? Its name; NULL: none is. */
const char *mcp_host_starting(const struct mcp_host *h, const struct gen_request *r);
bool mcp_host_is_starting(const struct mcp_host *h, struct str server);

/* What merging begins with: r->mcp.tools have their definitions. Any thread. */
NODISCARD bool mcp_host_define(struct gen_request *r, struct error *err);
/* By its name here, or as its server calls it. NOT_FOUND; INVALID: several have it. Any thread. */
NODISCARD const struct gen_mcp_tool *mcp_tool_find(const struct gen_request *r, struct str name, struct error *err);
/* Are the arguments (NULL: none) what its schema wants? INVALID says why not; those of a schema that cannot be compiled
 * are not checked. Any thread. */
NODISCARD bool mcp_tool_check(const struct gen_mcp_tool *tool, const struct json *arguments, struct error *err);

/* ---- calls ---- */

/* X(id, name in metrics and logs, what it means) */
#define MCP_OUTCOME_TABLE(X)                                                  \
    X(OK, "ok", "the tool has answered")                                      \
    X(TOOL_ERROR, "tool_error", "the tool says that it failed")               \
    X(INVALID, "invalid", "arguments that are not what its schema wants")     \
    X(TIMEOUT, "timeout", "no answer in time")                                \
    X(FAILED, "failed", "the server was not there, or its answer was no use") \
    X(CANCELLED, "cancelled", "the request ended before it")
enum mcp_outcome {
#define X(id, name, what) MCP_CALL_##id,
    MCP_OUTCOME_TABLE(X)
#undef X
        MCP_CALL_COUNT
};
const char *mcp_outcome_name(enum mcp_outcome outcome);

struct mcp_answer { /* views, valid until the callback returns */
    bool is_error;
    struct str text;       /* what the model is told */
    struct str structured; /* JSON, {NULL,0}: none */
};

struct mcp_call_request {   /* copied, but for the views */
    const char *request_id; /* for the log */
    struct gen_mcp_tool tool;
    struct str arguments; /* a JSON object, or empty */
    void (*done)(void *arg, const struct mcp_answer *answer);
    void *arg;
};

/* The call goes out; done comes later, once. NULL: it did not, and err says why. Its arguments are not checked. */
NODISCARD struct mcp_task *mcp_host_call(struct mcp_host *h, const struct mcp_call_request *call, struct error *err);
void mcp_task_cancel(struct mcp_task *t); /* done is not called; the server is told */
/* A call that never went out, since its arguments are wrong. */
void mcp_host_note_invalid(struct mcp_host *h, const char *request_id, const struct gen_mcp_tool *tool);

/* ---- metrics ---- */

struct mcp_usage { /* of one server */
    uint64_t calls[MCP_CALL_COUNT], call_ns;
};
size_t mcp_host_n_servers(const struct mcp_host *h);
const char *mcp_host_server_name(const struct mcp_host *h, size_t i);
const struct mcp_usage *mcp_host_usage(const struct mcp_host *h, size_t i);
uint64_t mcp_host_n_turns(const struct mcp_host *h); /* of models, that ended with calls of MCP tools */
void mcp_host_note_turn(struct mcp_host *h);

#endif
