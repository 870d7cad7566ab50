/* Tools of MCP servers in requests of any API, and the routes about them:
 *
 *     mcp_fields.c   how a request asks for them, and what it cannot have besides
 *     mcp_kept.c     which they were, in the journal
 *     mcp_routes.c   /v1/mcp/servers, /v1/mcp/tools, /v1/mcp/execute */
#ifndef TANDEM_API_MCP_H
#define TANDEM_API_MCP_H

#include "api/api_internal.h"
#include "pipeline/mcp/mcp_host.h"

/* ---- decoding; any thread ---- */

/* The field `mcp` of a request whose target begins with its struct gen_request: true, false, or names of servers. */
bool api__parse_mcp(struct decoding *d, const struct json *v, const char *name, struct error *err);
/* Adds a server to those that r wants. INVALID: it is among them already, or there are too many. */
NODISCARD bool api__add_mcp_server(struct gen_request *r, const struct gen_mcp_server *server, const char *param,
                                   struct error *err);
/* A server as a request describes it may only be one that is configured: url, where there is one, has to be its own. */
NODISCARD bool api__check_mcp_server(const struct call *c, struct str server, const struct json *url, const char *param,
                                     struct error *err);
/* Once all fields are decoded: gives r the tools that all requests have. UNSUPPORTED: there are no servers here, or r
 * asks for something that cannot go with them. */
NODISCARD bool api__settle_mcp(const struct call *c, struct gen_request *r, struct error *err);

/* ---- requests that are kept; any thread ---- */

/* What is kept of c, once its tools are chosen: c->text gets them. */
NODISCARD bool api__keep_mcp(struct call *c, struct error *err);
/* The way back: c->body becomes the body, and what stood before it is api__restore_mcp's, once that is decoded. NULL:
 * nothing did, the request has no such tools. */
const struct json *api__kept_body(struct call *c);
NODISCARD bool api__restore_mcp(struct call *c, const struct json *kept, struct error *err);

/* ---- the loop ---- */

NODISCARD bool api__choose_mcp(struct call *c, struct error *err); /* before c's work: the tools as they are now */

/* ---- routes ---- */

extern const struct field api__mcp_execute_fields[];
void api__mcp_servers(struct app *a, struct http_exchange *x, struct str rest);
void api__mcp_tools(struct app *a, struct http_exchange *x, struct str rest);
bool api__decode_mcp_execute(struct call *c, struct error *err);
bool api__work_mcp_execute(struct call *c, struct error *err);
void api__finish_mcp_execute(struct call *c);

#endif
