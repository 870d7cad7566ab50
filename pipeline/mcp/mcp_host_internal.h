/* Shared by the files of the MCP host only:
 *
 *     mcp_host.c    its life, what is seen of it
 *     mcp_tools.c   which tools a request has
 *     mcp_task.c    calls */
#ifndef TANDEM_PIPELINE_MCP_HOST_INTERNAL_H
#define TANDEM_PIPELINE_MCP_HOST_INTERNAL_H

#include "mcp/mcp.h"
#include "pipeline/mcp/mcp_host.h"

struct mcp_host {
    struct mcp_host_options options;
    struct arena *arena; /* owns the configuration and the usage */
    struct mcp_config config;
    struct mcp *mcp;
    struct mcp_usage *usage; /* [config.n + 1]; the last: of servers of an earlier configuration, which nobody reads */
    uint64_t n_turns;
    struct mcp_task *tasks; /* under way */
};

size_t mcp_host__server(const struct mcp_host *h, struct str name); /* its place; config.n: there is none */
void mcp_host__forget(struct mcp_task *t);                          /* it leaves the list, and is freed */

#endif
