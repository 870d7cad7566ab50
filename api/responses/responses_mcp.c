/* Tools of the type "mcp": what a request says of them, and their items. Servers are the operator's: a request names
 * them by their label, and brings no address, token or connector of its own. */
#include "api/mcp/mcp_api.h"
#include "api/responses/responses.h"

#include <stdio.h>

/* ---- a request's ---- */

struct mcp_tool {
    struct gen_mcp_server server;
    struct str url;
    bool never; /* needs approval */
};

static bool parse_filter_names(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    struct mcp_tool *t = d->target;
    t->server.tools = v;
    return json_type(v) == JSON_ARRAY || field_type_error(err, name, "an array of tools' names", v);
}

/* An array of names, or an object with such an array and a flag. */
static bool parse_allowed(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    static const struct field members[] = {
        {"tool_names", FIELD_CUSTOM, 0, 0, 0, parse_filter_names, NULL, NULL, NULL},
        {"read_only", FIELD_BOOL, offsetof(struct mcp_tool, server.read_only), 0, 0, NULL, NULL, NULL, NULL},
        {0},
    };
    return json_type(v) == JSON_OBJECT ? fields_decode_members(d, v, name, members, err)
                                       : parse_filter_names(d, v, name, err);
}

static bool parse_approval(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    struct mcp_tool *t = d->target;
    t->never = str_eq(json_str(v), STR("never"));
    return t->never ||
           error_set_param(err, ERR_UNSUPPORTED, name,
                           "Unsupported value for '%s': this server asks nobody before it calls a tool; only "
                           "\"never\" is supported.",
                           name);
}

static const struct field mcp_fields[] = {
    {"type", FIELD_DEFAULT, 0, 0, 0, NULL, "\"mcp\"", NULL, NULL},
    {"server_label", FIELD_STR, offsetof(struct mcp_tool, server.name), 0, 0, NULL, NULL, NULL, NULL},
    {"server_url", FIELD_STR, offsetof(struct mcp_tool, url), 0, 0, NULL, NULL, NULL, NULL},
    {"server_description", FIELD_HINT, 0, 0, 0, NULL, NULL, NULL, NULL},
    {"allowed_tools", FIELD_CUSTOM, 0, 0, 0, parse_allowed, NULL, NULL, NULL},
    {"require_approval", FIELD_CUSTOM, 0, 0, 0, parse_approval, NULL, NULL, NULL},
    {"authorization", FIELD_DEFAULT, 0, 0, 0, NULL, "", NULL, NULL},
    {"headers", FIELD_DEFAULT, 0, 0, 0, NULL, "{}", NULL, NULL},
    {"connector_id", FIELD_DEFAULT, 0, 0, 0, NULL, "", NULL, NULL},
    {"tunnel_id", FIELD_DEFAULT, 0, 0, 0, NULL, "", NULL, NULL},
    {"defer_loading", FIELD_DEFAULT, 0, 0, 0, NULL, "false", NULL, NULL},
    {"allowed_callers", FIELD_DEFAULT, 0, 0, 0, NULL, "[\"direct\"]", NULL, NULL},
    {0},
};

bool responses_is_mcp(const struct json *tool)
{
    return str_eq(json_str(json_get(tool, "type")), STR("mcp"));
}

bool responses_take_mcp(struct decoding *d, const struct json *tool, const char *where, struct error *err)
{
    struct responses_request *r = d->target;
    struct mcp_tool t = {0};
    struct decoding members = *d;
    char param[64];
    members.target = &t;
    if (!fields_decode_members(&members, tool, where, mcp_fields, err)) {
        return false;
    }
    if (!t.server.name.len) {
        snprintf(param, sizeof param, "%.40s.server_label", where);
        return field_missing_error(err, param);
    }
    if (!t.never) {
        snprintf(param, sizeof param, "%.40s.require_approval", where);
        return error_set_param(err, ERR_UNSUPPORTED, param,
                               "'%s' has to be \"never\": without it each call would need an approval, for which this "
                               "server asks nobody.",
                               param);
    }
    r->request.mcp.field = "tools";
    return api__add_mcp_server(&r->request, &t.server, where, err);
}

bool responses_settle_mcp(const struct call *c, struct responses_request *r, struct error *err)
{
    for (size_t i = 0; i < json_len(r->tools); i++) {
        const struct json *tool = json_at(r->tools, i);
        char where[48];
        snprintf(where, sizeof where, "tools[%zu]", i);
        if (responses_is_mcp(tool) && !api__check_mcp_server(c, json_str(json_get(tool, "server_label")),
                                                             json_get(tool, "server_url"), where, err)) {
            return false;
        }
    }
    r->request.mcp.max_calls = r->max_tool_calls;
    return api__settle_mcp(c, &r->request, err);
}

/* ---- items ---- */

/* A call that went wrong has an error instead of its output. */
static void put_outcome(struct json_writer *w, const struct gen_event *e)
{
    bool ended = e->kind == GEN_RESULT;
    json_key(w, "output");
    if (ended && !e->is_error) {
        json_put_str(w, e->text);
    } else {
        json_put_null(w);
    }
    json_key(w, "error");
    if (!ended || !e->is_error) {
        json_put_null(w);
        return;
    }
    json_begin_object(w);
    json_member_cstr(w, "type", "mcp_tool_execution_error");
    json_key(w, "content");
    json_begin_array(w);
    json_begin_object(w);
    json_member_cstr(w, "type", "text");
    json_member_str(w, "text", e->text);
    json_end_object(w);
    json_end_array(w);
    json_end_object(w);
}

void responses_put_mcp_call(struct json_writer *w, const char *id, const struct gen_event *e)
{
    bool ended = e->kind == GEN_RESULT;
    json_begin_object(w);
    json_member_cstr(w, "id", id);
    json_member_cstr(w, "type", "mcp_call");
    json_member_cstr(w, "status", !ended ? "in_progress" : e->is_error ? "failed" : "completed");
    json_member_str(w, "server_label", e->call.server);
    json_member_str(w, "name", e->call.own_name);
    json_member_str(w, "arguments", ended ? e->call.arguments : STR(""));
    json_member_null(w, "approval_request_id");
    put_outcome(w, e);
    json_end_object(w);
}

static void put_listed(struct json_writer *w, const struct gen_mcp_tool *t)
{
    const struct json *function = json_get(t->definition, "function");
    json_begin_object(w);
    json_member_str(w, "name", t->own_name);
    json_member_json(w, "description", json_get(function, "description"));
    json_member_json(w, "input_schema", json_get(function, "parameters"));
    json_member_json(w, "annotations", json_get(t->definition, "annotations"));
    json_end_object(w);
}

void responses_put_mcp_list(struct json_writer *w, const char *id, const struct gen_mcp *mcp, struct str server,
                            bool whole)
{
    json_begin_object(w);
    json_member_cstr(w, "id", id);
    json_member_cstr(w, "type", "mcp_list_tools");
    json_member_str(w, "server_label", server);
    json_key(w, "tools");
    json_begin_array(w);
    for (size_t i = 0; whole && i < mcp->n_tools; i++) {
        if (str_eq(mcp->tools[i].server, server)) {
            put_listed(w, &mcp->tools[i]);
        }
    }
    json_end_array(w);
    json_member_null(w, "error");
    json_end_object(w);
}

/* Of the server of tool i: no tool before it is of the same one, and the client does not have the list already. */
bool responses_lists_mcp(const struct call *c, size_t i)
{
    const struct gen_mcp_tool *tools = c->request.mcp.tools;
    for (size_t k = 0; k < i; k++) {
        if (str_eq(tools[k].server, tools[i].server)) {
            return false;
        }
    }
    return !responses_has_mcp_list(c, tools[i].server);
}
