/* What a server from the configuration may be: which programs are started and with which environment, which headers
 * are sent, which of its tools are shown. Pure but for looking at the file system. Any thread. */
#ifndef TANDEM_MCP_POLICY_H
#define TANDEM_MCP_POLICY_H

#include "base/arena.h"
#include "mcp/config.h"

/* A program's absolute path, or its name to be found on PATH; no shell. INVALID. */
NODISCARD bool policy_check_command(const char *command, struct error *err);
/* A variable that may be set for a server: none of those that make a program load or run something else. INVALID. */
NODISCARD bool policy_check_variable(const char *name, struct error *err);
/* A header field that is not the client's own business, and whose value can be sent. INVALID; never shows the value. */
NODISCARD bool policy_check_header(const char *name, const char *value, struct error *err);

/* The absolute path of the program, in out. Only absolute folders of the PATH are looked at. NOT_FOUND, FORBIDDEN. */
NODISCARD bool policy_find_program(const char *command, const char *path, char *out, size_t size, struct error *err);

/* The whole environment of a server's process, NULL-terminated, "NAME=value": those of this process's variables
 * (environment, NULL-terminated) that are on the list of what is handed on, then env, which wins. NULL: the arena is
 * full. */
char **policy_environment(const char *const *environment, struct mcp_pairs env, struct arena *arena);

/* By the patterns of the configuration ('*' and '?'), on the name that the server gives. */
bool policy_allows_tool(const struct mcp_server_config *server, struct str tool);

#endif
