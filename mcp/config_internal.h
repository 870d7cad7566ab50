/* What config.c (members of a server) and config_expand.c (variables in values) share. */
#ifndef TANDEM_MCP_CONFIG_INTERNAL_H
#define TANDEM_MCP_CONFIG_INTERNAL_H

#include "mcp/config.h"

struct config_reader {
    mcp_getenv lookup;
    void *lookup_arg;
    struct arena *arena;
};

/* A NUL-terminated copy of value with its variables filled in; NULL on failure. */
NODISCARD const char *config__expand(const struct config_reader *r, struct str value, struct error *err);

#endif
