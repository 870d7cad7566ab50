/* Header fields of a request to a server, collected. */
#ifndef TANDEM_MCP_HTTP_FIELDS_H
#define TANDEM_MCP_HTTP_FIELDS_H

#include "base/arena.h"
#include "http/message.h"
#include "mcp/config.h"

struct http_fields {
    struct arena *arena;
    struct http_header *items; /* [n] */
    size_t n, cap;
    bool failed;
};

void http_fields_init(struct http_fields *f, struct mcp_pairs configured); /* failed: no memory, now or later */
void http_fields_release(struct http_fields *f);
void http_fields_add(struct http_fields *f, const char *name, struct str value); /* the value is copied */
/* The value in the form of 2026-07-28 (mcp/http_text.h). */
void http_fields_add_encoded(struct http_fields *f, const char *name, struct str value);

#endif
