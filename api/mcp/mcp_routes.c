/* GET /v1/mcp/servers, GET /v1/mcp/tools, POST /v1/mcp/execute. */
#include "api/mcp/mcp_api.h"

#define AT(member) offsetof(struct execution, member)

/* ---- looking ---- */

static void reply_list(struct app *a, struct http_exchange *x, void (*put)(const struct mcp_host *h, struct buf *out))
{
    struct buf out;
    buf_init(&out, LIMIT_HTTP_REPLY);
    struct json_writer w = json_writer(&out);
    json_begin_object(&w);
    json_member_cstr(&w, "object", "list");
    json_key(&w, "data");
    if (a->options.mcp) {
        put(a->options.mcp, &out);
    } else {
        buf_puts(&out, "[]");
    }
    json_end_object(&w);
    api__reply_json(x, &out);
}

void api__mcp_servers(struct app *a, struct http_exchange *x, struct str rest)
{
    (void)rest;
    reply_list(a, x, mcp_host_put_servers);
}

void api__mcp_tools(struct app *a, struct http_exchange *x, struct str rest)
{
    (void)rest;
    reply_list(a, x, mcp_host_put_tools);
}

/* ---- one call: decoded, its tool chosen on the loop, checked by a worker, made ---- */

struct execution { /* in the call's arena */
    struct str server, tool, name;
    const struct json *arguments;
    const struct gen_mcp_tool *chosen;
    struct str text; /* of the arguments */
    struct call *call;
    struct mcp_task *task; /* NULL: it is not under way */
};

static bool parse_arguments(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    ((struct execution *)d->target)->arguments = v;
    return json_type(v) == JSON_OBJECT || field_type_error(err, name, "an object", v);
}

const struct field api__mcp_execute_fields[] = {
    {"server", FIELD_STR, AT(server), 0, 0, NULL, NULL, NULL, "the server whose tool it is; needed where two have one"},
    {"tool", FIELD_STR, AT(tool), 0, 0, NULL, NULL, NULL, "the tool, by its name here or by its server's; required"},
    {"name", FIELD_STR, AT(name), 0, 0, NULL, NULL, NULL, "the same"},
    {"arguments", FIELD_CUSTOM, 0, 0, 0, parse_arguments, NULL, "object", "what its schema wants; default {}"},
    {0},
};

static struct execution *of(const struct call *c)
{
    return (struct execution *)(uintptr_t)c->extra;
}

bool api__decode_mcp_execute(struct call *c, struct error *err)
{
    struct execution *e = arena_alloc(c->arena, sizeof *e);
    if (!e) {
        return arena_full(c->arena, "the request", err);
    }
    *e = (struct execution){.call = c};
    struct decoding d = api__decoding(c, e);
    api__init_request(c, &c->request, GEN_CHAT, "mcp-");
    if (!api__decode_body(c, &d, c->body, err)) {
        return false;
    }
    e->tool = e->tool.len ? e->tool : e->name;
    c->extra = e;
    c->request.mcp.wanted = true;
    c->request.mcp.field = e->server.len ? "server" : "tool";
    struct gen_mcp_server server = {.name = e->server};
    return (e->tool.len || field_missing_error(err, "tool")) &&
           (!e->server.len || api__add_mcp_server(&c->request, &server, "server", err)) &&
           api__settle_mcp(c, &c->request, err);
}

bool api__work_mcp_execute(struct call *c, struct error *err)
{
    struct execution *e = of(c);
    struct buf text;
    if (!mcp_host_define(&c->request, err)) {
        return false;
    }
    e->chosen = mcp_tool_find(&c->request, e->tool, err);
    if (!e->chosen || !mcp_tool_check(e->chosen, e->arguments, err)) {
        return false;
    }
    buf_init(&text, LIMIT_HTTP_BODY);
    if (e->arguments) {
        json_print(&text, e->arguments);
    }
    e->text = buf_ok(&text, "the arguments", err) ? arena_str(c->arena, buf_view(&text)) : (struct str){0};
    buf_release(&text);
    return e->text.ptr || (!err->code && arena_full(c->arena, "the request", err));
}

static void put_answer(const struct execution *e, const struct mcp_answer *answer, struct buf *out)
{
    struct json_writer w = json_writer(out);
    json_begin_object(&w);
    json_member_cstr(&w, "server", e->chosen->server.ptr);
    json_member_str(&w, "tool", e->chosen->own_name);
    json_key(&w, "content");
    json_begin_array(&w);
    json_begin_object(&w);
    json_member_cstr(&w, "type", "text");
    json_member_str(&w, "text", answer->text);
    json_end_object(&w);
    json_end_array(&w);
    json_member_bool(&w, "is_error", answer->is_error);
    json_key(&w, "structured_content");
    if (answer->structured.ptr) {
        json_put_raw(&w, answer->structured);
    } else {
        json_put_null(&w);
    }
    json_end_object(&w);
}

static void on_answer(void *arg, const struct mcp_answer *answer)
{
    struct execution *e = arg;
    struct call *c = e->call;
    struct http_exchange *x = c->x;
    put_answer(e, answer, &c->reply);
    api__call_headers(c);
    api__reply_json(x, &c->reply);
    api__call_free(c);
}

static void on_gone(void *arg)
{
    struct execution *e = arg;
    mcp_task_cancel(e->task);
    e->call->x = NULL;
    api__call_free(e->call);
}

void api__finish_mcp_execute(struct call *c)
{
    struct execution *e = of(c);
    struct error err = {0};
    struct mcp_call_request call = {
        .request_id = c->request.request_id, .tool = *e->chosen, .arguments = e->text, .done = on_answer, .arg = e};
    e->task = mcp_host_call(c->app->options.mcp, &call, &err);
    if (!e->task) {
        api__refuse(c, &err);
        return;
    }
    http_on_gone(c->x, on_gone, e);
}
