/* Names of tools of several servers, as models see them: a tool's own name where it is the only one of that name and
 * APIs allow it, else "server__tool", with what APIs do not allow replaced and what is too long cut, made unique by a
 * digest. Pure: the same servers and tools give the same names, in whichever order they come. Any thread. */
#ifndef TANDEM_MCP_NAMES_H
#define TANDEM_MCP_NAMES_H

#include "base/limits.h"
#include "base/str.h"

struct mcp_name {
    struct str server, tool;
    char merged[LIMIT_MCP_TOOL_NAME + 1]; /* letters, digits, '_', '-' */
};

/* 1 to `most` letters, digits, '_' and '-'. */
bool names_is_plain(struct str name, size_t most);

/* Fills merged of each; quadratic work is avoided by sorting pointers, so order[n] is scratch. */
void names_merge(struct mcp_name *const *names, size_t n, struct mcp_name **order);

#endif
