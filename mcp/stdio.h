/* A server as a child process: messages are lines on its standard input and output; its standard error goes to our log,
 * so many lines a second. No shell; an environment of its own (mcp/policy.h); a process group of its own, so that what
 * it starts ends with it. It ends when its input is closed; else it is told to (SIGTERM), and then killed. */
#ifndef TANDEM_MCP_STDIO_H
#define TANDEM_MCP_STDIO_H

#include "base/loop.h"
#include "mcp/transport.h"

#define STDIO_GRACE_MS 2000 /* from the end of its input to SIGTERM, and from there to SIGKILL */

/* config outlives the transport. NOT_FOUND, INVALID (the program), IO, NO_MEMORY. */
NODISCARD struct transport *stdio_create(struct loop *loop, const struct mcp_server_config *config,
                                         const struct transport_events *events, struct error *err);
int stdio_pid(const struct transport *t); /* 0: it has ended */

#endif
