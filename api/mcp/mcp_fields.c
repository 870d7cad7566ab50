#include "api/mcp/mcp_api.h"

#include "base/array.h"
#include "pipeline/pipeline.h"

bool api__add_mcp_server(struct gen_request *r, const struct gen_mcp_server *server, const char *param,
                         struct error *err)
{
    struct gen_mcp *m = &r->mcp;
    for (size_t i = 0; i < m->n_servers; i++) {
        if (str_eq(m->servers[i].name, server->name)) {
            return error_set_param(err, ERR_INVALID, param, "Invalid value for '%s': '%.60s' is there twice.", param,
                                   server->name.ptr);
        }
    }
    if (m->n_servers == LIMIT_MCP_SERVERS) {
        return error_set_param(err, ERR_INVALID, param, "Invalid value for '%s': at most %d MCP servers are allowed.",
                               param, LIMIT_MCP_SERVERS);
    }
    if (!m->servers && !(m->servers = arena_alloc_array(r->arena, LIMIT_MCP_SERVERS, sizeof *m->servers))) {
        return arena_full(r->arena, "the request", err);
    }
    m->wanted = true;
    m->servers[m->n_servers++] = *server;
    return true;
}

bool api__parse_mcp(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    struct gen_request *r = d->target;
    if (json_type(v) == JSON_BOOL) {
        r->mcp.wanted = json_bool(v);
        r->mcp.declined = !json_bool(v);
        return true;
    }
    if (json_type(v) != JSON_ARRAY) {
        return field_type_error(err, name, "a boolean or an array of servers' names", v);
    }
    for (size_t i = 0; i < json_len(v); i++) {
        if (json_type(json_at(v, i)) != JSON_STRING) {
            return field_type_error(err, name, "an array of servers' names", json_at(v, i));
        }
        struct gen_mcp_server server = {.name = json_str(json_at(v, i))};
        if (!api__add_mcp_server(r, &server, name, err)) {
            return false;
        }
    }
    r->mcp.declined = json_len(v) == 0;
    return true;
}

bool api__check_mcp_server(const struct call *c, struct str server, const struct json *url, const char *param,
                           struct error *err)
{
    const struct mcp_host *host = c->app->options.mcp;
    const char *known = NULL;
    if (!host || c->rebuilt) {
        return true; /* api__settle_mcp says so; what was kept has its tools (mcp_kept.c) */
    }
    if (!mcp_host_find_server(host, server, &known)) {
        return error_set_param(err, ERR_INVALID, param,
                               "'%s': no MCP server '%.60s' is configured here; requests go only to those in the "
                               "server's --mcp-config.",
                               param, server.ptr);
    }
    return json_is_null(url) || (known && str_eq(json_str(url), str_of(known))) ||
           error_set_param(err, ERR_INVALID, param,
                           "'%s': a request may not name the address of an MCP server: '%.60s' is configured here with "
                           "another one; leave the address out.",
                           param, server.ptr);
}

/* ---- what goes together ---- */

/* What a request cannot have besides; NULL: nothing of it is there. */
static const char *obstacle(const struct gen_request *r)
{
    const struct {
        bool given;
        const char *name;
    } fields[] = {
        {r->n > 1, "n"},
        {r->best_of > 1, "best_of"},
        {r->prompt_logprobs, "prompt_logprobs"},
        {r->legacy_functions, "functions"},
        {r->raw_output, "raw_output"},
        {r->continue_final_message, "continue_final_message"},
        {r->only_allowed, "tool_choice.allowed_tools"}, /* of the client's; it would say nothing of the servers' */
    };
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        if (fields[i].given) {
            return fields[i].name;
        }
    }
    return NULL;
}

bool api__settle_mcp(const struct call *c, struct gen_request *r, struct error *err)
{
    const struct mcp_host *host = c->app->options.mcp;
    struct gen_mcp *m = &r->mcp;
    const char *bad = obstacle(r);
    if (!c->rebuilt && !m->wanted && !m->declined && !bad && host && mcp_host_options(host)->by_default) {
        m->wanted = m->by_default = r->tool_choice != GEN_TOOLS_NONE;
    }
    if (!m->wanted || (!host && c->rebuilt)) {
        return true;
    }
    if (!host) {
        return error_set_param(
            err, ERR_UNSUPPORTED, gen_mcp_field(m),
            "'%s' asks for tools of MCP servers, which are not available: this server was started without "
            "--mcp-config.",
            gen_mcp_field(m));
    }
    for (size_t i = 0; i < m->n_servers; i++) {
        if (!api__check_mcp_server(c, m->servers[i].name, NULL, gen_mcp_field(m), err)) {
            return false;
        }
    }
    return !bad ||
           error_set_param(err, ERR_UNSUPPORTED, bad, "'%s' is not available together with tools of MCP servers.", bad);
}

bool api__choose_mcp(struct call *c, struct error *err)
{
    struct gen_request *r = &c->request;
    if (!r->mcp.wanted) {
        return true;
    }
    if (r->mcp.by_default && !pipeline_options(served_model_pipeline(c->model))->formats.tools) {
        r->mcp.wanted = false; /* the model calls no tools, and nobody asked for them */
        return true;
    }
    return mcp_host_choose(c->app->options.mcp, r, err);
}
