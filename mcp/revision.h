/* Revisions of the protocol and how they differ: one table. Const. */
#ifndef TANDEM_MCP_REVISION_H
#define TANDEM_MCP_REVISION_H

#include "base/str.h"

struct mcp_revision {
    const char *name;
    bool modern;  /* no sessions: each request carries revision and capabilities; server/discover, subscriptions */
    bool batches; /* a message may be an array of messages */
    bool header;  /* MCP-Protocol-Version is sent over HTTP */
};

size_t mcp_revision_count(void);
const struct mcp_revision *mcp_revision_at(size_t i);          /* the newest first */
const struct mcp_revision *mcp_revision_find(struct str name); /* NULL: not known */
const struct mcp_revision *mcp_revision_newest(bool modern);

#endif
