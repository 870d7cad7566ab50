#include "mcp/mcp_internal.h"

#include "base/clock.h"

size_t mcp_n_servers(const struct mcp *m)
{
    return m->config->n;
}

bool mcp_find_server(const struct mcp *m, struct str name, size_t *i)
{
    for (size_t k = 0; k < m->config->n; k++) {
        if (str_eq(str_of(m->config->servers[k].name), name)) {
            *i = k;
            return true;
        }
    }
    return false;
}

void mcp_server_status(const struct mcp *m, size_t i, struct mcp_server_status *out)
{
    const struct server *s = &m->servers[i];
    int64_t left = s->next_try_ms - clock_ms();
    *out = (struct mcp_server_status){
        .name = s->config->name,
        .transport = s->config->kind == MCP_HTTP_AUTO && !s->was_ready ? MCP_HTTP_AUTO : s->kind,
        .state = s->state,
        .revision = s->revision,
        .server = s->name,
        .pid = s->session ? session_pid(s->session) : 0,
        .n_tools = s->n_tools,
        .n_hidden = s->n_hidden,
        .n_resources = json_len(s->lists[MCP_RESOURCES].tree),
        .n_templates = json_len(s->lists[MCP_TEMPLATES].tree),
        .n_prompts = json_len(s->lists[MCP_PROMPTS].tree),
        .n_running = s->n_running,
        .n_waiting = s->n_waiting,
        .n_calls = s->n_calls,
        .n_failed = s->n_failed,
        .n_restarts = s->n_restarts,
        .failure = s->failure.code ? &s->failure : NULL,
        .next_try_ms = s->next_try_ms < 0 ? -1
                       : left > 0         ? left
                                          : 0,
    };
}

static void put_one(const struct mcp_server_status *s, struct json_writer *w)
{
    json_begin_object(w);
    json_member_cstr(w, "name", s->name);
    json_member_cstr(w, "transport", mcp_transport_name(s->transport));
    json_member_cstr(w, "state", mcp_state_name(s->state));
    json_member_cstr(w, "protocol", s->revision);
    json_member_cstr(w, "server", s->server);
    json_member_int(w, "pid", s->pid);
    json_member_uint(w, "tools", s->n_tools);
    json_member_uint(w, "hidden_tools", s->n_hidden);
    json_member_uint(w, "resources", s->n_resources);
    json_member_uint(w, "resource_templates", s->n_templates);
    json_member_uint(w, "prompts", s->n_prompts);
    json_member_int(w, "running_calls", s->n_running);
    json_member_int(w, "waiting_calls", s->n_waiting);
    json_member_uint(w, "calls", s->n_calls);
    json_member_uint(w, "failed_calls", s->n_failed);
    json_member_uint(w, "restarts", s->n_restarts);
    json_member_cstr(w, "error", s->failure ? s->failure->msg : NULL);
    json_key(w, "next_try_ms");
    if (s->next_try_ms < 0) {
        json_put_null(w);
    } else {
        json_put_int(w, s->next_try_ms);
    }
    json_end_object(w);
}

void mcp_put_status(const struct mcp *m, struct buf *out)
{
    struct json_writer w = json_writer(out);
    struct mcp_server_status status;
    json_begin_array(&w);
    for (size_t i = 0; i < m->config->n; i++) {
        mcp_server_status(m, i, &status);
        put_one(&status, &w);
    }
    json_end_array(&w);
}

void mcp_put_list(const struct mcp *m, size_t server, enum mcp_kind kind, struct buf *out)
{
    static const enum mcp_list lists[] = {
        [MCP_KIND_RESOURCES] = MCP_RESOURCES, [MCP_KIND_TEMPLATES] = MCP_TEMPLATES, [MCP_KIND_PROMPTS] = MCP_PROMPTS};
    const struct json *tree = m->servers[server].lists[lists[kind]].tree;
    if (tree) {
        json_print(out, tree);
    } else {
        buf_puts(out, "[]");
    }
}
