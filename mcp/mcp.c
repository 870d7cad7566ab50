#include "mcp/mcp_internal.h"

#include "base/limits.h"
#include "http/client.h"

#include <stdlib.h>
#include <string.h>

#define START_TIMEOUT_MS 60000
#define RETRY_MS         1000
#define RETRY_MAX_MS     300000

static const char *const state_names[] = {[MCP_DISABLED] = "disabled",
                                          [MCP_STARTING] = "starting",
                                          [MCP_READY] = "ready",
                                          [MCP_FAILED] = "failed",
                                          [MCP_RECONNECTING] = "reconnecting"};

const char *mcp_state_name(enum mcp_state state)
{
    return state_names[state];
}

/* ---- changes ---- */

static void tell_change(void *arg)
{
    struct mcp *m = arg;
    m->change_deferred = false;
    if (!m->closing && m->options.on_change) {
        m->options.on_change(m->options.arg);
    }
}

void mcp__changed(struct mcp *m)
{
    if (!m->change_deferred && !m->closing) {
        m->change_deferred = true;
        loop_defer(m->loop, tell_change, m);
    }
}

/* ---- tools of all servers ---- */

static int by_name(const void *a, const void *b)
{
    return strcmp((*(struct tool *const *)a)->name.merged, (*(struct tool *const *)b)->name.merged);
}

/* In memory for the most that there can be, so that this cannot fail: names and scratch for them, two words a tool. */
static bool reserve_names(struct mcp *m)
{
    m->by_name = calloc(m->config->n * LIMIT_MCP_TOOLS + 1, 3 * sizeof(void *));
    return m->by_name != NULL;
}

void mcp__merge_tools(struct mcp *m)
{
    size_t most = m->config->n * LIMIT_MCP_TOOLS, n = 0;
    struct mcp_name **names = (struct mcp_name **)(void *)(m->by_name + most), **order = names + most;
    for (size_t i = 0; i < m->config->n; i++) {
        for (size_t k = 0; k < m->servers[i].n_tools; k++, n++) {
            m->by_name[n] = &m->servers[i].tools[k];
            names[n] = &m->servers[i].tools[k].name;
        }
    }
    names_merge(names, n, order);
    qsort(m->by_name, n, sizeof *m->by_name, by_name);
    m->n_tools = n;
    m->generation++;
    mcp__changed(m);
}

static size_t server_of(const struct mcp *m, const struct tool *t)
{
    size_t i = 0;
    while (t < m->servers[i].tools || t >= m->servers[i].tools + m->servers[i].n_tools || !m->servers[i].n_tools) {
        i++;
    }
    return i;
}

/* n_tools: there is none of that name. */
static size_t find_tool(const struct mcp *m, struct str name)
{
    size_t i = 0;
    while (i < m->n_tools && !str_eq(str_of(m->by_name[i]->name.merged), name)) {
        i++;
    }
    return i;
}

const struct tool *mcp__find_tool(const struct mcp *m, struct str name, struct server **server)
{
    size_t i = find_tool(m, name);
    if (i == m->n_tools) {
        return NULL;
    }
    *server = &m->servers[server_of(m, m->by_name[i])];
    return m->by_name[i];
}

size_t mcp_n_tools(const struct mcp *m)
{
    return m->n_tools;
}

void mcp_tool_at(const struct mcp *m, size_t i, struct mcp_tool_info *out)
{
    const struct tool *t = m->by_name[i];
    *out = (struct mcp_tool_info){.name = t->name.merged,
                                  .own_name = t->name.tool,
                                  .server = server_of(m, t),
                                  .read_only = t->read_only,
                                  .idempotent = t->idempotent};
}

bool mcp_find_tool(const struct mcp *m, struct str name, struct mcp_tool_info *out)
{
    size_t i = find_tool(m, name);
    if (i < m->n_tools) {
        mcp_tool_at(m, i, out);
    }
    return i < m->n_tools;
}

uint64_t mcp_generation(const struct mcp *m)
{
    return m->generation;
}

void mcp_tools(const struct mcp *m, bool (*wanted)(void *arg, const struct mcp_tool_info *tool), void *arg,
               struct buf *out)
{
    struct json_writer w = json_writer(out);
    struct mcp_tool_info info;
    json_begin_array(&w);
    for (size_t i = 0; i < m->n_tools; i++) {
        mcp_tool_at(m, i, &info);
        if (!wanted || wanted(arg, &info)) {
            tool_put_openai(m->by_name[i], &w);
        }
    }
    json_end_array(&w);
}

/* ---- life ---- */

static void on_timer(void *arg)
{
    server__start(arg);
}

static bool prepare(struct mcp *m, struct error *err)
{
    m->servers = calloc(m->config->n + 1, sizeof *m->servers);
    if (!m->servers || !reserve_names(m)) {
        return error_set(err, ERR_NO_MEMORY, "no memory for MCP servers.");
    }
    for (size_t i = 0; i < m->config->n; i++) {
        struct server *s = &m->servers[i];
        s->mcp = m;
        s->config = &m->config->servers[i];
        s->kind = s->config->kind == MCP_HTTP_AUTO ? MCP_HTTP : s->config->kind;
        s->state = s->config->disabled ? MCP_DISABLED : MCP_STARTING;
        s->next_try_ms = -1;
        for (int k = 0; k < MCP_N_LISTS; k++) {
            s->lists[k].server = s;
        }
        s->timer = loop_timer_create(m->loop, on_timer, s);
        if (!s->timer) {
            return error_set(err, ERR_NO_MEMORY, "no memory for MCP servers.");
        }
    }
    m->http = http_client_create(
        loop_uv(m->loop), &(struct http_client_options){.user_agent = "tandem", .ca_file = m->options.ca_file}, err);
    return m->http != NULL;
}

static void set_defaults(struct mcp_options *o)
{
    o->max_result = o->max_result ? o->max_result : LIMIT_MCP_RESULT;
    o->max_calls = o->max_calls ? o->max_calls : LIMIT_MCP_CALLS;
    o->start_timeout_ms = o->start_timeout_ms ? o->start_timeout_ms : START_TIMEOUT_MS;
    o->retry_ms = o->retry_ms ? o->retry_ms : RETRY_MS;
    o->retry_max_ms = o->retry_max_ms ? o->retry_max_ms : RETRY_MAX_MS;
    o->version = o->version ? o->version : "0";
}

struct mcp *mcp_create(struct loop *loop, const struct mcp_config *config, const struct mcp_options *options,
                       struct error *err)
{
    struct mcp *m = calloc(1, sizeof *m);
    if (!m) {
        error_set(err, ERR_NO_MEMORY, "no memory for MCP servers.");
        return NULL;
    }
    m->loop = loop;
    m->config = config;
    m->options = *options;
    set_defaults(&m->options);
    if (!prepare(m, err)) {
        mcp_free(m);
        return NULL;
    }
    for (size_t i = 0; i < config->n; i++) {
        if (!config->servers[i].disabled) {
            loop_timer_start(m->servers[i].timer, 0, 0);
        }
    }
    return m;
}

static void tell_closed(void *arg)
{
    struct mcp *m = arg;
    m->on_closed(m->on_closed_arg); /* may free m */
}

void mcp__finish_close(struct mcp *m)
{
    for (size_t i = 0; i < m->config->n; i++) {
        if (m->servers[i].session) {
            return;
        }
    }
    if (!m->close_deferred) {
        m->close_deferred = true;
        loop_defer(m->loop, tell_closed, m);
    }
}

void mcp_close(struct mcp *m, void (*on_closed)(void *arg), void *arg)
{
    m->closing = true;
    m->on_closed = on_closed;
    m->on_closed_arg = arg;
    for (size_t i = 0; i < m->config->n; i++) {
        server__close(&m->servers[i]);
    }
    mcp__finish_close(m);
}

void mcp_free(struct mcp *m)
{
    if (!m) {
        return;
    }
    for (size_t i = 0; m->servers && i < m->config->n; i++) {
        loop_timer_free(m->servers[i].timer);
        server__free_lists(&m->servers[i]);
    }
    http_client_free(m->http);
    free(m->servers);
    free(m->by_name);
    free(m);
}
