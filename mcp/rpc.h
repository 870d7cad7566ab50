/* JSON-RPC 2.0 as MCP uses it: what a message is, and writing one. No transport, no state. Any thread.
 *
 * Writing a request:
 *     rpc_begin(&w, 7, "tools/call");                 {"jsonrpc":"2.0","id":7,"method":"tools/call","params":{
 *     json_member_cstr(&w, "name", "search");         members of params
 *     rpc_end(&w);                                    }}
 */
#ifndef TANDEM_MCP_RPC_H
#define TANDEM_MCP_RPC_H

#include "base/json.h"

#define RPC_METHOD_NOT_FOUND (-32601)
/* Of MCP 2026-07-28; they are known to come from a server that speaks it. */
#define RPC_HEADER_MISMATCH     (-32020)
#define RPC_MISSING_CAPABILITY  (-32021)
#define RPC_UNSUPPORTED_VERSION (-32022)

enum rpc_kind { RPC_REQUEST, RPC_NOTIFICATION, RPC_RESULT, RPC_ERROR };

struct rpc_message { /* views into the tree */
    enum rpc_kind kind;
    struct str method;         /* REQUEST, NOTIFICATION */
    const struct json *params; /* theirs; NULL: none */
    const struct json *id;     /* REQUEST: string or integer */
    uint64_t call;             /* RESULT, ERROR: the id, which is a number of ours; 0: null, or none that we give */
    const struct json *result; /* RESULT: an object */
    int64_t code;              /* ERROR */
    struct str text;           /* ERROR: its message, maybe empty */
    const struct json *data;   /* ERROR; NULL: none */
};

/* The tree of a message's text, bounded by limits.h; json_free. PROTOCOL says what is wrong. */
NODISCARD struct json *rpc_parse(struct str text, struct error *err);
/* Messages of a tree: 1, or the length of a batch (2025-03-26). PROTOCOL: empty, too long, or no object. */
NODISCARD bool rpc_count(const struct json *tree, size_t *n, struct error *err);
/* PROTOCOL: it is no JSON-RPC message. */
NODISCARD bool rpc_read(const struct json *tree, size_t i, struct rpc_message *out, struct error *err);

void rpc_begin(struct json_writer *w, uint64_t id, const char *method); /* id 0: a notification */
void rpc_end(struct json_writer *w);

/* Whole answers to a request of theirs. */
void rpc_answer_empty(struct buf *out, const struct json *id);
void rpc_answer_error(struct buf *out, const struct json *id, int code, const char *message);

#endif
