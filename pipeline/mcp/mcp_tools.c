/* Which tools of MCP servers a request has: chosen on the loop, where the servers are; put beside the client's own by
 * whoever prepares it. */
#include "pipeline/mcp/mcp_host_internal.h"

#include "base/log.h"
#include "grammar/json_schema.h"

/* ---- what it wants ---- */

struct choosing {
    const struct mcp_host *h;
    struct gen_request *r;
};

static struct str server_name(const struct mcp_host *h, const struct mcp_tool_info *tool)
{
    return str_of(h->config.servers[tool->server].name);
}

static bool selects(const struct gen_mcp_server *s, const struct mcp_tool_info *tool)
{
    const struct json *enabled = json_get(json_get(s->configs, tool->own_name.ptr), "enabled");
    bool on = enabled ? json_bool(enabled) : !s->others_off;
    return on && (!s->tools || json_lists(s->tools, tool->own_name)) && (!s->read_only || tool->read_only == 1);
}

static bool is_wanted(void *arg, const struct mcp_tool_info *tool)
{
    const struct choosing *c = arg;
    const struct gen_mcp *m = &c->r->mcp;
    for (size_t i = 0; i < m->n_servers; i++) {
        if (str_eq(m->servers[i].name, server_name(c->h, tool))) {
            return selects(&m->servers[i], tool);
        }
    }
    return m->n_servers == 0;
}

static bool has_tool(const struct mcp_host *h, size_t server, struct str own_name)
{
    struct mcp_tool_info info;
    for (size_t i = 0; i < mcp_n_tools(h->mcp); i++) {
        mcp_tool_at(h->mcp, i, &info);
        if (info.server == server && str_eq(info.own_name, own_name)) {
            return true;
        }
    }
    return false;
}

/* One that is asked for by name has to be there. Later it may fail: then its calls do. */
static bool check_server(const struct mcp_host *h, const struct gen_mcp_server *wanted, const char *field,
                         struct error *err)
{
    struct mcp_server_status status;
    size_t i;
    if (!mcp_find_server(h->mcp, wanted->name, &i)) {
        return error_set_param(err, ERR_INVALID, field, "no MCP server '%.60s' is configured here.", wanted->name.ptr);
    }
    mcp_server_status(h->mcp, i, &status);
    if (status.state == MCP_DISABLED) {
        return error_set_param(err, ERR_INVALID, field, "the MCP server '%s' is disabled here.", status.name);
    }
    if (status.state == MCP_STARTING || status.state == MCP_FAILED) {
        return error_set(err, ERR_UNAVAILABLE, "the MCP server '%s' is not ready: %s", status.name,
                         status.failure ? status.failure->msg : "it is starting.");
    }
    for (size_t k = 0; k < json_len(wanted->tools); k++) {
        struct str name = json_str(json_at(wanted->tools, k));
        if (!has_tool(h, i, name)) {
            return error_set_param(err, ERR_INVALID, field, "the MCP server '%s' has no tool '%.80s'.", status.name,
                                   name.ptr);
        }
    }
    return true;
}

/* ---- as they are now ---- */

static bool copy_names(const struct choosing *c, struct error *err)
{
    const struct mcp_host *h = c->h;
    struct gen_mcp *m = &c->r->mcp;
    struct arena *a = c->r->arena;
    struct mcp_tool_info info;
    m->tools = arena_alloc_array(a, mcp_n_tools(h->mcp) + 1, sizeof *m->tools);
    m->n_tools = 0;
    for (size_t i = 0; m->tools && i < mcp_n_tools(h->mcp); i++) {
        mcp_tool_at(h->mcp, i, &info);
        if (!is_wanted((void *)(uintptr_t)c, &info)) {
            continue;
        }
        struct gen_mcp_tool *t = &m->tools[m->n_tools++];
        *t = (struct gen_mcp_tool){.name = arena_str(a, str_of(info.name)),
                                   .own_name = arena_str(a, info.own_name),
                                   .server = server_name(h, &info)}; /* the configuration outlives requests */
        if (!t->name.ptr || !t->own_name.ptr) {
            return arena_full(a, "the request", err);
        }
    }
    return m->tools || arena_full(a, "the request", err);
}

bool mcp_host_choose(const struct mcp_host *h, struct gen_request *r, struct error *err)
{
    struct choosing c = {h, r};
    struct buf text;
    for (size_t i = 0; i < r->mcp.n_servers; i++) {
        if (!check_server(h, &r->mcp.servers[i], gen_mcp_field(&r->mcp), err)) {
            return false;
        }
    }
    buf_init(&text, LIMIT_HTTP_BODY);
    mcp_tools(h->mcp, is_wanted, &c, &text);
    bool ok = copy_names(&c, err) && buf_ok(&text, "the tools of MCP servers", err);
    if (ok) {
        r->mcp.definitions = arena_str(r->arena, buf_view(&text));
        ok = r->mcp.definitions.ptr || arena_full(r->arena, "the request", err);
    }
    buf_release(&text);
    return ok;
}

bool mcp_host_is_starting(const struct mcp_host *h, struct str server)
{
    struct mcp_server_status status;
    size_t i = mcp_host__server(h, server);
    if (i == h->config.n) {
        return false;
    }
    mcp_server_status(h->mcp, i, &status);
    return status.state == MCP_STARTING;
}

const char *mcp_host_starting(const struct mcp_host *h, const struct gen_request *r)
{
    for (size_t i = 0; i < r->mcp.n_tools; i++) {
        if (mcp_host_is_starting(h, r->mcp.tools[i].server)) {
            return r->mcp.tools[i].server.ptr;
        }
    }
    return NULL;
}

/* ---- beside the client's ---- */

static bool check_names(const struct gen_request *r, struct error *err)
{
    size_t n = json_len(r->tools) + r->mcp.n_tools;
    for (size_t i = 0; i < r->mcp.n_tools; i++) {
        struct str name = r->mcp.tools[i].name;
        if (gen_tool_find(r->tools, name)) {
            return error_set_param(err, ERR_INVALID, "tools",
                                   "the request's tool '%.64s' has the name of a tool of the MCP server '%s'; rename "
                                   "one of them, or leave that tool out.",
                                   name.ptr, r->mcp.tools[i].server.ptr);
        }
    }
    return n <= LIMIT_TOOLS ||
           error_set_param(err, ERR_INVALID, "tools",
                           "the request has %zu tools with those of the MCP servers; at most %d are allowed.", n,
                           LIMIT_TOOLS);
}

static bool check_choice(const struct gen_request *r, struct error *err)
{
    if (r->tool_choice == GEN_TOOLS_REQUIRED && json_len(r->tools) == 0) {
        return error_set_param(err, ERR_INVALID, "tool_choice",
                               "'tool_choice' asks for a tool, but the request has none.");
    }
    return r->tool_choice != GEN_TOOLS_NAMED || gen_tool_find(r->tools, r->tool_name) ||
           error_set_param(err, ERR_INVALID, "tool_choice",
                           "Invalid value for 'tool_choice': the request has no tool '%.80s'.", r->tool_name.ptr);
}

/* Without the annotations, which are not the model's business. */
static void put_definition(struct json_writer *w, const struct json *tool)
{
    json_begin_object(w);
    json_member_cstr(w, "type", "function");
    json_member_json(w, "function", json_get(tool, "function"));
    json_end_object(w);
}

static const struct json *join(struct gen_request *r, struct error *err)
{
    struct buf text;
    buf_init(&text, LIMIT_HTTP_BODY);
    struct json_writer w = json_writer(&text);
    json_begin_array(&w);
    for (size_t i = 0; i < json_len(r->tools); i++) {
        json_put_json(&w, json_at(r->tools, i));
    }
    for (size_t i = 0; i < r->mcp.n_tools; i++) {
        put_definition(&w, r->mcp.tools[i].definition);
    }
    json_end_array(&w);
    struct json *root = buf_ok(&text, "the tools", err) ? json_parse(buf_view(&text), LIMIT_MCP_DEPTH + 8, err) : NULL;
    buf_release(&text);
    return json_keep(root, r->arena, "the request", err);
}

bool mcp_host_define(struct gen_request *r, struct error *err)
{
    struct gen_mcp *m = &r->mcp;
    struct json *root = json_parse(m->definitions, LIMIT_MCP_DEPTH + 8, err);
    const struct json *list = json_keep(root, r->arena, "the request", err);
    for (size_t i = 0; list && i < m->n_tools; i++) {
        m->tools[i].definition = json_at(list, i);
    }
    return list != NULL;
}

bool mcp_host_merge(struct gen_request *r, struct error *err)
{
    struct gen_mcp *m = &r->mcp;
    if (!m->wanted || m->merged) {
        return true;
    }
    if (!mcp_host_define(r, err) || !check_names(r, err)) {
        return false;
    }
    r->tools = join(r, err);
    m->merged = true;
    return r->tools && check_choice(r, err);
}

/* ---- one of them ---- */

const struct gen_mcp_tool *mcp_tool_find(const struct gen_request *r, struct str name, struct error *err)
{
    const struct gen_mcp *m = &r->mcp;
    const struct gen_mcp_tool *found = NULL;
    size_t n = 0;
    for (size_t i = 0; i < m->n_tools; i++) {
        if (str_eq(m->tools[i].name, name)) {
            return &m->tools[i];
        }
        if (str_eq(m->tools[i].own_name, name)) {
            found = &m->tools[i];
            n++;
        }
    }
    if (n > 1) {
        error_set_param(err, ERR_INVALID, "tool", "%zu MCP servers have a tool '%.80s'; name the server too.", n,
                        name.ptr);
        return NULL;
    }
    if (!found) {
        error_set_param(err, ERR_NOT_FOUND, "tool", "no MCP server here has a tool '%.80s'.", name.ptr);
    }
    return found;
}

static bool validate(const struct json_schema *schema, const struct json *arguments, struct error *err)
{
    struct json_schema_problem why;
    return json_schema_validate(schema, arguments, &why) ||
           error_set_param(err, why.code, "arguments", "the arguments are not what the tool's schema wants: %s",
                           why.msg);
}

bool mcp_tool_check(const struct gen_mcp_tool *tool, const struct json *arguments, struct error *err)
{
    struct error why = {0};
    struct json_schema *schema =
        json_schema_compile(json_get(json_get(tool->definition, "function"), "parameters"), NULL, &why);
    struct json *none = arguments ? NULL : json_parse(STR("{}"), 0, err);
    if (!arguments && !none) {
        json_schema_free(schema);
        return false;
    }
    if (!schema) {
        LOG_WARN("arguments of a tool are not checked", "tool=\"" STR_FMT "\" reason=\"%s\"", STR_ARG(tool->name),
                 why.msg);
    }
    bool ok = !schema || validate(schema, arguments ? arguments : none, err);
    json_free(none);
    json_schema_free(schema);
    return ok;
}
