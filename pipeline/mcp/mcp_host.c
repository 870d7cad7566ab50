#include "pipeline/mcp/mcp_host_internal.h"

#include <stdlib.h>

/* ---- life ---- */

static bool create_parts(struct mcp_host *h, struct error *err)
{
    struct mcp_options options = {.version = h->options.version};
    h->arena = arena_create(LIMIT_REQUEST_ARENA);
    if (!h->arena) {
        return error_set(err, ERR_NO_MEMORY, "no memory for MCP servers.");
    }
    if (!mcp_config_read_file(h->options.config_path, h->arena, &h->config, err)) {
        return false;
    }
    h->usage = arena_alloc_array(h->arena, h->config.n + 1, sizeof *h->usage);
    if (!h->usage) {
        return arena_full(h->arena, "MCP servers", err);
    }
    memset(h->usage, 0, (h->config.n + 1) * sizeof *h->usage);
    h->mcp = mcp_create(h->options.loop, &h->config, &options, err);
    return h->mcp != NULL;
}

struct mcp_host *mcp_host_create(const struct mcp_host_options *options, struct error *err)
{
    struct mcp_host *h = calloc(1, sizeof *h);
    if (!h) {
        error_set(err, ERR_NO_MEMORY, "no memory for MCP servers.");
        return NULL;
    }
    h->options = *options;
    if (!create_parts(h, err)) {
        mcp_host_free(h);
        return NULL;
    }
    return h;
}

void mcp_host_close(struct mcp_host *h, void (*on_closed)(void *arg), void *arg)
{
    mcp_close(h->mcp, on_closed, arg);
}

void mcp_host_free(struct mcp_host *h)
{
    if (h) {
        mcp_free(h->mcp);
        while (h->tasks) { /* of calls that ended without a word */
            mcp_host__forget(h->tasks);
        }
        arena_free(h->arena);
        free(h);
    }
}

const struct mcp_host_options *mcp_host_options(const struct mcp_host *h)
{
    return &h->options;
}

/* ---- looking ---- */

void mcp_host_put_servers(const struct mcp_host *h, struct buf *out)
{
    mcp_put_status(h->mcp, out);
}

static void put_tool(const struct mcp_host *h, struct json_writer *w, size_t i, const struct json *definition)
{
    const struct json *function = json_get(definition, "function");
    struct mcp_tool_info info;
    mcp_tool_at(h->mcp, i, &info);
    json_begin_object(w);
    json_member_cstr(w, "server", h->config.servers[info.server].name);
    json_member_cstr(w, "name", info.name);
    json_member_str(w, "tool", info.own_name);
    json_member_json(w, "description", json_get(function, "description"));
    json_member_json(w, "input_schema", json_get(function, "parameters"));
    json_member_json(w, "annotations", json_get(definition, "annotations"));
    json_end_object(w);
}

void mcp_host_put_tools(const struct mcp_host *h, struct buf *out)
{
    struct error ignored = {0};
    struct buf text;
    buf_init(&text, LIMIT_HTTP_REPLY);
    mcp_tools(h->mcp, NULL, NULL, &text);
    struct json *list = text.failed ? NULL : json_parse(buf_view(&text), LIMIT_MCP_DEPTH + 8, &ignored);
    struct json_writer w = json_writer(out);
    json_begin_array(&w);
    for (size_t i = 0; i < json_len(list); i++) {
        put_tool(h, &w, i, json_at(list, i));
    }
    json_end_array(&w);
    json_free(list);
    buf_release(&text);
}

size_t mcp_host__server(const struct mcp_host *h, struct str name)
{
    size_t i;
    return mcp_find_server(h->mcp, name, &i) ? i : h->config.n;
}

bool mcp_host_find_server(const struct mcp_host *h, struct str name, const char **url)
{
    size_t i = mcp_host__server(h, name);
    *url = i < h->config.n ? h->config.servers[i].url : NULL;
    return i < h->config.n;
}

/* ---- metrics ---- */

size_t mcp_host_n_servers(const struct mcp_host *h)
{
    return h->config.n;
}

const char *mcp_host_server_name(const struct mcp_host *h, size_t i)
{
    return h->config.servers[i].name;
}

const struct mcp_usage *mcp_host_usage(const struct mcp_host *h, size_t i)
{
    return &h->usage[i];
}

uint64_t mcp_host_n_turns(const struct mcp_host *h)
{
    return h->n_turns;
}

void mcp_host_note_turn(struct mcp_host *h)
{
    h->n_turns++;
}
