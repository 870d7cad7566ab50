/* A tool as its server describes it, and as models are shown it: pure. Any thread. */
#ifndef TANDEM_MCP_TOOL_H
#define TANDEM_MCP_TOOL_H

#include "base/json.h"
#include "mcp/names.h"

#define TOOL_MAX_HEADERS 8

struct tool_header {    /* a parameter that goes into a header field too (2026-07-28, over HTTP) */
    struct str field;   /* behind "Mcp-Param-" */
    struct str path[8]; /* [n_path] names of members, from the arguments down */
    size_t n_path;
};

struct tool { /* views into the list's tree */
    struct mcp_name name;
    const struct json *definition;
    const struct json *schema; /* its inputSchema, an object */
    int read_only, idempotent; /* what its annotations say: 1, 0; -1: nothing */
    struct tool_header headers[TOOL_MAX_HEADERS];
    size_t n_headers;
};

/* definition: an item of a tools/list result. strict: over HTTP, where a wrong x-mcp-header makes a tool unusable. */
NODISCARD bool tool_read(const struct json *definition, bool strict, struct tool *out, struct error *err);

/* {"type":"function","function":{"name","description","parameters"},"annotations":{...}}; annotations as the server
 * gave them, left out where it gave none. */
void tool_put_openai(const struct tool *t, struct json_writer *w);

/* The value of a header field for these arguments, as text; false: they have none (or null) there. */
bool tool_header_value(const struct tool_header *h, const struct json *arguments, struct buf *out);

#endif
