/* Which MCP servers there are: a file in the form that other programs use too, and what is ours in it.
 *
 *     {"mcpServers": {
 *         "files": {"command": "mcp-server-filesystem", "args": ["/data"], "env": {"LOG": "${LOG:-info}"}},
 *         "search": {"url": "https://example.com/mcp", "headers": {"Authorization": "Bearer ${SEARCH_TOKEN}"},
 *                    "allow": ["search_*"], "timeout": 20000}
 *     }}
 *
 * ${NAME} and ${NAME:-default} stand for variables of the environment in `command`, `args`, values of `env`, `cwd`,
 * `url` and values of `headers`. Values may be secrets: no message shows them. A member that is not known is an error;
 * errors name the line. */
#ifndef TANDEM_MCP_CONFIG_H
#define TANDEM_MCP_CONFIG_H

#include "base/arena.h"

#define MCP_DEFAULT_TIMEOUT_MS 60000
#define MCP_MAX_TIMEOUT_MS     3600000

enum mcp_transport_kind {
    MCP_STDIO,
    MCP_HTTP,     /* streamable HTTP */
    MCP_SSE,      /* the older HTTP with SSE, of 2024-11-05 */
    MCP_HTTP_AUTO /* the first of the two that answers */
};
const char *mcp_transport_name(enum mcp_transport_kind kind); /* "stdio", "http", "sse", "http or sse" */

struct mcp_pair {
    const char *name, *value;
};

struct mcp_words {
    const char *const *items; /* [n] */
    size_t n;
};

struct mcp_pairs {
    const struct mcp_pair *items; /* [n] */
    size_t n;
};

struct mcp_server_config {
    const char *name; /* 1 to LIMIT_MCP_SERVER_NAME letters, digits, '_', '-' */
    enum mcp_transport_kind kind;
    const char *command; /* MCP_STDIO */
    struct mcp_words args;
    struct mcp_pairs env;
    const char *cwd; /* NULL: that of this process */
    const char *url; /* the others */
    struct mcp_pairs headers;
    struct mcp_words allow, deny; /* patterns of tools' names; no allow: all. deny wins */
    const char *protocol;         /* the one revision to speak; NULL: found out */
    int64_t timeout_ms;           /* of a call */
    bool disabled;
};

struct mcp_config {
    const struct mcp_server_config *servers; /* [n] */
    size_t n;
};

/* The value of a variable or NULL. */
typedef const char *(*mcp_getenv)(void *arg, const char *name);

/* Everything lives in the arena. INVALID names line and member; lookup NULL: the environment of this process. */
NODISCARD bool mcp_config_read(struct str text, mcp_getenv lookup, void *lookup_arg, struct arena *arena,
                               struct mcp_config *out, struct error *err);
NODISCARD bool mcp_config_read_file(const char *path, struct arena *arena, struct mcp_config *out, struct error *err);

#endif
