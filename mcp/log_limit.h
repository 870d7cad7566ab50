/* How much of what a server says goes into our log: so many lines a second, and then how many were left out. A plain
 * value; time comes from the caller.
 *
 *     if (log_limit_take(&l, clock_ms(), &left_out)) {
 *         log_limit_write(LOG_LEVEL_INFO, "mcp server says", name, text, left_out);
 *     } */
#ifndef TANDEM_MCP_LOG_LIMIT_H
#define TANDEM_MCP_LOG_LIMIT_H

#include "base/log.h"

#define LOG_LIMIT_LINES 20 /* a second */

struct log_limit {
    int64_t second;
    int n;
    uint64_t left_out;
};

/* May one more line be written? *left_out: how many were not since the last one. */
static inline bool log_limit_take(struct log_limit *l, int64_t now_ms, uint64_t *left_out)
{
    if (now_ms / 1000 != l->second) {
        l->second = now_ms / 1000;
        l->n = 0;
    }
    if (l->n >= LOG_LIMIT_LINES) {
        l->left_out++;
        return false;
    }
    l->n++;
    *left_out = l->left_out;
    l->left_out = 0;
    return true;
}

static inline void log_limit_write(enum log_level level, const char *event, const char *server, struct str text,
                                   uint64_t left_out)
{
    struct log_field fields[] = {log_str("server", str_of(server)), log_str("text", text),
                                 log_int("left_out", (int64_t)left_out)};
    log_fields(level, event, fields, left_out ? 3 : 2);
}

#endif
