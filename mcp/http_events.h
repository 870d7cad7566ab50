/* HTTP with SSE as 2024-11-05 has it: one GET stream brings everything that the server says, and in its first event the
 * address to which messages are posted. Deprecated since 2025-03-26; old servers know nothing else. */
#ifndef TANDEM_MCP_HTTP_EVENTS_H
#define TANDEM_MCP_HTTP_EVENTS_H

#include "base/loop.h"
#include "http/client.h"
#include "mcp/transport.h"

/* config and http outlive the transport. INVALID (the URL), NO_MEMORY. */
NODISCARD struct transport *http_events_create(struct loop *loop, struct http_client *http,
                                               const struct mcp_server_config *config,
                                               const struct transport_events *events, struct error *err);

#endif
