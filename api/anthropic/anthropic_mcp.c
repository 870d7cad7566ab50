/* The MCP connector as Anthropic has it: `mcp_servers`, and of `tools` the toolsets, one for each of those servers.
 * Servers are the operator's: a request names them, and brings no address or token of its own. The older form, in which
 * `mcp_servers` alone says it, with a tool_configuration, is understood too. */
#include "api/anthropic/anthropic.h"
#include "api/mcp/mcp_api.h"

#include <stdio.h>

static bool parse_object(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    (void)d;
    return json_type(v) == JSON_OBJECT || field_type_error(err, name, "an object", v);
}

static bool parse_names(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    (void)d;
    return json_type(v) == JSON_ARRAY || field_type_error(err, name, "an array of tools' names", v);
}

/* Members are read where they are needed; here they are checked. */
struct definition {
    struct str name, url;
    bool enabled;
};

static const struct field configuration_fields[] = {
    {"enabled", FIELD_BOOL, offsetof(struct definition, enabled), 0, 0, NULL, NULL, NULL, NULL},
    {"defer_loading", FIELD_DEFAULT, 0, 0, 0, NULL, "false", NULL, NULL},
    {"allowed_tools", FIELD_CUSTOM, 0, 0, 0, parse_names, NULL, NULL, NULL},
    {0},
};

static const struct field server_fields[] = {
    {"type", FIELD_DEFAULT, 0, 0, 0, NULL, "\"url\"", NULL, NULL},
    {"name", FIELD_STR, offsetof(struct definition, name), 0, 0, NULL, NULL, NULL, NULL},
    {"url", FIELD_STR, offsetof(struct definition, url), 0, 0, NULL, NULL, NULL, NULL},
    {"authorization_token", FIELD_DEFAULT, 0, 0, 0, NULL, "", NULL, NULL},
    {"tool_configuration", FIELD_CUSTOM, 0, 0, 0, parse_object, NULL, NULL, NULL},
    {0},
};

static const struct field toolset_fields[] = {
    {"type", FIELD_DEFAULT, 0, 0, 0, NULL, "\"mcp_toolset\"", NULL, NULL},
    {"mcp_server_name", FIELD_STR, offsetof(struct definition, name), 0, 0, NULL, NULL, NULL, NULL},
    {"default_config", FIELD_CUSTOM, 0, 0, 0, parse_object, NULL, NULL, NULL},
    {"configs", FIELD_CUSTOM, 0, 0, 0, parse_object, NULL, NULL, NULL},
    {"cache_control", FIELD_HINT, 0, 0, 0, NULL, NULL, NULL, NULL},
    {"tools", FIELD_DEFAULT, 0, 0, 0, NULL, "", NULL, NULL},
    {0},
};

/* Decodes object's members, found at `where`, into *out. */
static bool decode(const struct decoding *body, const struct json *object, const char *where,
                   const struct field *fields, struct definition *out, struct error *err)
{
    struct decoding d = *body;
    *out = (struct definition){.enabled = true};
    d.target = out;
    return fields_decode_members(&d, object, where, fields, err);
}

static bool missing(const char *where, const char *member, struct error *err)
{
    char param[64];
    snprintf(param, sizeof param, "%.40s.%.20s", where, member);
    return field_missing_error(err, param);
}

/* ---- toolsets ---- */

static bool is_toolset(const struct json *tool)
{
    return str_eq(json_str(json_get(tool, "type")), STR("mcp_toolset"));
}

/* {"tool": {"enabled": false}, ...} */
static bool check_configs(const struct decoding *d, const struct json *configs, const char *where, struct error *err)
{
    struct definition ignored;
    for (struct json_iter it = json_members(configs); configs && json_next(&it);) {
        char at[48];
        snprintf(at, sizeof at, "%.20s.configs.%.16s", where, it.key.ptr);
        if (!decode(d, it.value, at, configuration_fields, &ignored, err)) {
            return false;
        }
    }
    return true;
}

static bool take_toolset(const struct decoding *d, const struct json *v, const char *where, struct error *err)
{
    struct messages_request *m = d->target;
    struct definition set, defaults = {.enabled = true};
    const struct json *config = json_get(v, "default_config"), *configs = json_get(v, "configs");
    char at[48];
    snprintf(at, sizeof at, "%.24s.default_config", where);
    if (!decode(d, v, where, toolset_fields, &set, err) ||
        (config && !decode(d, config, at, configuration_fields, &defaults, err)) ||
        !check_configs(d, configs, where, err)) {
        return false;
    }
    if (!set.name.len) {
        return missing(where, "mcp_server_name", err);
    }
    if (!json_lists(m->mcp_names, set.name)) {
        return error_set_param(err, ERR_INVALID, where, "%s: 'mcp_servers' has no server '%.60s'.", where,
                               set.name.ptr);
    }
    m->request.mcp.field = "mcp_servers";
    struct gen_mcp_server server = {.name = set.name, .configs = configs, .others_off = !defaults.enabled};
    return api__add_mcp_server(&m->request, &server, "tools", err);
}

/* ---- servers ---- */

static bool take_server(const struct call *c, const struct decoding *d, size_t i, struct json_writer *names,
                        bool by_itself, struct error *err)
{
    struct messages_request *m = d->target;
    const struct json *v = json_at(m->mcp_servers, i), *config = json_get(v, "tool_configuration");
    struct definition server, options = {.enabled = true};
    char where[40], at[64];
    snprintf(where, sizeof where, "mcp_servers[%zu]", i);
    snprintf(at, sizeof at, "%.40s.tool_configuration", where);
    if (!decode(d, v, where, server_fields, &server, err) ||
        (config && !decode(d, config, at, configuration_fields, &options, err))) {
        return false;
    }
    if (!server.name.len) {
        return missing(where, "name", err);
    }
    json_put_str(names, server.name);
    if (!api__check_mcp_server(c, server.name, json_get(v, "url"), where, err) || !by_itself || !options.enabled) {
        return !err->code;
    }
    m->request.mcp.field = "mcp_servers";
    struct gen_mcp_server wanted = {.name = server.name, .tools = json_get(config, "allowed_tools")};
    return api__add_mcp_server(&m->request, &wanted, "mcp_servers", err);
}

static bool take_servers(const struct call *c, const struct decoding *d, bool by_themselves, struct error *err)
{
    struct messages_request *m = d->target;
    struct buf names;
    bool ok = true;
    buf_init(&names, LIMIT_HTTP_BODY);
    struct json_writer w = json_writer(&names);
    json_begin_array(&w);
    for (size_t i = 0; ok && i < json_len(m->mcp_servers); i++) {
        ok = take_server(c, d, i, &w, by_themselves, err);
    }
    json_end_array(&w);
    ok = ok && anthropic__own_json(&m->request, &names, &m->mcp_names, err);
    buf_release(&names);
    return ok;
}

static bool each_is_used(const struct messages_request *m, struct error *err)
{
    for (size_t i = 0; i < json_len(m->mcp_names); i++) {
        struct str name = json_str(json_at(m->mcp_names, i));
        bool used = false;
        for (size_t k = 0; k < m->request.mcp.n_servers; k++) {
            used = used || str_eq(m->request.mcp.servers[k].name, name);
        }
        if (!used) {
            return error_set_param(err, ERR_INVALID, "mcp_servers",
                                   "mcp_servers: '%.60s' has no toolset in 'tools'; each server needs exactly one.",
                                   name.ptr);
        }
    }
    return true;
}

bool anthropic__convert_mcp(const struct call *c, const struct decoding *d, struct error *err)
{
    struct messages_request *m = d->target;
    size_t n_sets = 0, n = json_len(m->tools);
    for (size_t i = 0; i < n; i++) {
        n_sets += is_toolset(json_at(m->tools, i));
    }
    if (!take_servers(c, d, n_sets == 0, err)) {
        return false;
    }
    for (size_t i = 0; n_sets && i < n; i++) {
        char where[32];
        snprintf(where, sizeof where, "tools[%zu]", i);
        if (is_toolset(json_at(m->tools, i)) && !take_toolset(d, json_at(m->tools, i), where, err)) {
            return false;
        }
    }
    return (n_sets == 0 || each_is_used(m, err)) && api__settle_mcp(c, &m->request, err);
}
