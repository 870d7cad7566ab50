/* How much of what a server says goes into our log: so many lines a second, and then how many were left out. A plain
 * value; time comes from the caller. */
#ifndef TANDEM_MCP_LOG_LIMIT_H
#define TANDEM_MCP_LOG_LIMIT_H

#include <stdbool.h>
#include <stdint.h>

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

#endif
