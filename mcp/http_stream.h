/* Streamable HTTP: each message is a POST, whose reply is JSON or a stream of events; with sessions (2025-03-26 to
 * 2025-11-25) also a GET stream for what the server says by itself, streams that are resumed where they broke off
 * (Last-Event-ID), and a DELETE at the end; without them (2026-07-28) header fields that mirror the message. */
#ifndef TANDEM_MCP_HTTP_STREAM_H
#define TANDEM_MCP_HTTP_STREAM_H

#include "base/loop.h"
#include "http/client.h"
#include "mcp/transport.h"

/* config and http outlive the transport. NO_MEMORY. */
NODISCARD struct transport *http_stream_create(struct loop *loop, struct http_client *http,
                                               const struct mcp_server_config *config,
                                               const struct transport_events *events, struct error *err);

#endif
