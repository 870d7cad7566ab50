#include "mcp/names.h"

#include "base/hash.h"

#include <stdio.h>
#include <stdlib.h>

static bool is_plain(char c)
{
    return c == '_' || c == '-' || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

bool names_is_plain(struct str name, size_t most)
{
    bool ok = name.len > 0 && name.len <= most;
    for (size_t i = 0; ok && i < name.len; i++) {
        ok = is_plain(name.ptr[i]);
    }
    return ok;
}

/* Where something was lost, the digest of what it was makes the difference. */
static void put_digest(struct mcp_name *name)
{
    struct sha256 digest;
    char hex[2 * SHA256_SIZE + 1], tail[16], text[LIMIT_MCP_SERVER_NAME + 1 + 512];
    int n = snprintf(text, sizeof text, STR_FMT "/" STR_FMT, STR_ARG(name->server), STR_ARG(name->tool));
    digest = sha256_of(text, n < (int)sizeof text ? (size_t)n : sizeof text - 1);
    sha256_hex(&digest, hex);
    snprintf(tail, sizeof tail, "_%.8s", hex);
    size_t len = strlen(name->merged), most = LIMIT_MCP_TOOL_NAME - strlen(tail);
    len = len < most ? len : most;
    snprintf(name->merged + len, sizeof name->merged - len, "%s", tail);
}

static void qualify(struct mcp_name *name)
{
    int n =
        snprintf(name->merged, sizeof name->merged, STR_FMT "__" STR_FMT, STR_ARG(name->server), STR_ARG(name->tool));
    for (char *c = name->merged; *c; c++) {
        *c = is_plain(*c) ? *c : '_';
    }
    if (n >= (int)sizeof name->merged) {
        put_digest(name);
    }
}

/* ---- order ---- */

static int by_tool(const void *a, const void *b)
{
    return str_cmp((*(struct mcp_name *const *)a)->tool, (*(struct mcp_name *const *)b)->tool);
}

static int by_merged(const void *a, const void *b)
{
    return strcmp((*(struct mcp_name *const *)a)->merged, (*(struct mcp_name *const *)b)->merged);
}

/* A tool of one server may be called what another one's is called after merging: both get a digest. */
static void separate(struct mcp_name **order, size_t n)
{
    qsort(order, n, sizeof *order, by_merged);
    for (size_t i = 0; i < n;) {
        size_t end = i + 1;
        while (end < n && strcmp(order[i]->merged, order[end]->merged) == 0) {
            end++;
        }
        for (size_t k = i; end - i > 1 && k < end; k++) {
            qualify(order[k]);
            put_digest(order[k]);
        }
        i = end;
    }
}

void names_merge(struct mcp_name *const *names, size_t n, struct mcp_name **order)
{
    if (n == 0) {
        return;
    }
    memcpy(order, names, n * sizeof *order);
    qsort(order, n, sizeof *order, by_tool);
    for (size_t i = 0; i < n; i++) {
        bool shared = (i > 0 && str_eq(order[i]->tool, order[i - 1]->tool)) ||
                      (i + 1 < n && str_eq(order[i]->tool, order[i + 1]->tool));
        if (shared || !names_is_plain(order[i]->tool, LIMIT_MCP_TOOL_NAME)) {
            qualify(order[i]);
        } else {
            snprintf(order[i]->merged, sizeof order[i]->merged, STR_FMT, STR_ARG(order[i]->tool));
        }
    }
    separate(order, n);
}
