/* The text of a configuration of MCP servers, with some variables set. */
#include "base/limits.h"
#include "mcp/config.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok) {
        __builtin_trap();
    }
}

static const char *lookup(void *arg, const char *name)
{
    (void)arg;
    return strcmp(name, "A") == 0 ? "value of a" : strcmp(name, "EMPTY") == 0 ? "" : NULL;
}

static void check_server(const struct mcp_server_config *s)
{
    check(s->name[0] && strlen(s->name) <= LIMIT_MCP_SERVER_NAME);
    check(s->kind == MCP_STDIO ? s->command && s->command[0] && !s->url : s->url && !s->command);
    check(s->timeout_ms >= 1 && s->timeout_ms <= MCP_MAX_TIMEOUT_MS);
    check(s->args.n <= LIMIT_MCP_WORDS && s->env.n <= LIMIT_MCP_WORDS && s->headers.n <= LIMIT_MCP_WORDS);
    for (size_t i = 0; i < s->env.n; i++) {
        check(s->env.items[i].value && strncmp(s->env.items[i].name, "LD_", 3) != 0);
    }
    for (size_t i = 0; i < s->headers.n; i++) {
        check(!strpbrk(s->headers.items[i].value, "\r\n"));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = {0};
    struct mcp_config config;
    struct arena *arena = arena_create(MIB(4));
    if (!arena) {
        return 0;
    }
    bool ok = mcp_config_read((struct str){(const char *)data, size}, lookup, NULL, arena, &config, &err);
    check(ok ? err.code == ERR_NONE : err.code != ERR_NONE && err.msg[0]);
    for (size_t i = 0; ok && i < config.n; i++) {
        check_server(&config.servers[i]);
    }
    arena_free(arena);
    return 0;
}
