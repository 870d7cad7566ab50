/* Tools of MCP servers of requests that are kept. Which they were when the request came stands before its body:
 *
 *     [[[name, its server's name for it, server], ...], "definitions", body]
 *
 * so that it can be made again, and read again, whatever servers have or say by then. No client's body is an array. */
#include "api/mcp/mcp_api.h"

bool api__keep_mcp(struct call *c, struct error *err)
{
    const struct gen_mcp *m = &c->request.mcp;
    struct buf out;
    if (!m->wanted) {
        return true;
    }
    buf_init(&out, LIMIT_REQUEST_ARENA);
    struct json_writer w = json_writer(&out);
    json_begin_array(&w);
    json_begin_array(&w);
    for (size_t i = 0; i < m->n_tools; i++) {
        json_begin_array(&w);
        json_put_str(&w, m->tools[i].name);
        json_put_str(&w, m->tools[i].own_name);
        json_put_str(&w, m->tools[i].server);
        json_end_array(&w);
    }
    json_end_array(&w);
    json_put_str(&w, m->definitions);
    json_put_raw(&w, c->text);
    json_end_array(&w);
    bool ok = buf_ok(&out, "the request with its tools", err);
    struct str text = ok ? arena_str(c->arena, buf_view(&out)) : (struct str){0};
    buf_release(&out);
    c->text = text.ptr ? text : c->text;
    return text.ptr || (ok && arena_full(c->arena, "the request", err));
}

const struct json *api__kept_body(struct call *c)
{
    if (!c->rebuilt || json_type(c->body) != JSON_ARRAY || json_type(json_at(c->body, 0)) != JSON_ARRAY) {
        return NULL;
    }
    const struct json *kept = c->body;
    c->body = (struct json *)(uintptr_t)json_at(kept, 2);
    return kept;
}

bool api__restore_mcp(struct call *c, const struct json *kept, struct error *err)
{
    struct gen_mcp *m = &c->request.mcp;
    const struct json *names = json_at(kept, 0);
    m->tools = arena_alloc_array(c->arena, json_len(names) + 1, sizeof *m->tools);
    if (!m->tools) {
        return arena_full(c->arena, "the request", err);
    }
    m->wanted = true;
    m->n_tools = json_len(names);
    for (size_t i = 0; i < m->n_tools; i++) {
        const struct json *t = json_at(names, i);
        m->tools[i] = (struct gen_mcp_tool){
            .name = json_str(json_at(t, 0)), .own_name = json_str(json_at(t, 1)), .server = json_str(json_at(t, 2))};
    }
    m->definitions = json_str(json_at(kept, 1));
    return true;
}
