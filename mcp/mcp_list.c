/* A server's lists: read page by page, and again when the server says that one has changed. The old list stays until
 * the new one is complete. */
#include "mcp/mcp_internal.h"

#include "base/limits.h"
#include "base/log.h"
#include "mcp/policy.h"

#include <stdlib.h>
#include <string.h>

#define LIST_TIMEOUT_MS 30000

static const struct list_kind {
    const char *method, *member;
} kinds[MCP_N_LISTS] = {
    [MCP_TOOLS] = {"tools/list", "tools"},
    [MCP_RESOURCES] = {"resources/list", "resources"},
    [MCP_TEMPLATES] = {"resources/templates/list", "resourceTemplates"},
    [MCP_PROMPTS] = {"prompts/list", "prompts"},
};

static void request_page(struct server *s, enum mcp_list which, struct str cursor);

/* A server without its tools is of no use; without another list it is. */
static void give_up(struct server *s, enum mcp_list which, const struct error *why)
{
    struct error err = *why;
    struct server_list *l = &s->lists[which];
    buf_release(&l->pages);
    l->again = false;
    if (which == MCP_TOOLS && s->state != MCP_READY && err.code != ERR_NOT_IMPLEMENTED) {
        error_wrap(&err, "its list of tools could not be read");
        server__fail(s, &err);
        return;
    }
    LOG_WARN("mcp list could not be read", "server=%s list=%s error=\"%s\"", s->config->name, kinds[which].member,
             err.msg);
    server__listed(s, which);
}

static bool finish(struct server_list *l, struct error *err)
{
    struct buf whole;
    buf_init(&whole, LIMIT_MCP_LIST + 2);
    buf_putc(&whole, '[');
    buf_append(&whole, buf_view(&l->pages));
    buf_putc(&whole, ']');
    struct json *tree = buf_ok(&whole, "a list", err)
                            ? json_parse_bounded(buf_view(&whole), LIMIT_MCP_DEPTH, LIMIT_MCP_VALUES, err)
                            : NULL;
    buf_release(&whole);
    if (tree) {
        json_free(l->tree);
        l->tree = tree;
    }
    return tree != NULL;
}

static void complete(struct server *s, enum mcp_list which)
{
    struct server_list *l = &s->lists[which];
    struct error err = {0};
    if (which == MCP_TOOLS) { /* they are views into the tree that goes */
        s->n_tools = 0;
    }
    bool ok = finish(l, &err);
    if (which == MCP_TOOLS && !server__read_tools(s, &err)) {
        ok = false;
    }
    buf_release(&l->pages);
    if (which == MCP_TOOLS) {
        mcp__merge_tools(s->mcp);
    }
    if (!ok) {
        give_up(s, which, &err);
        return;
    }
    bool again = l->again;
    l->again = false;
    server__listed(s, which);
    if (again && s->session && !s->lost) {
        server__fetch(s, which);
    }
}

static bool add_page(struct server_list *l, const struct json *items, struct error *err)
{
    for (size_t i = 0; i < json_len(items); i++) {
        if (l->pages.len) {
            buf_putc(&l->pages, ',');
        }
        json_print(&l->pages, json_at(items, i));
    }
    return buf_ok(&l->pages, "a list", err);
}

static void on_page(void *arg, const struct json *result, const struct error *failure)
{
    struct server_list *l = arg;
    struct server *s = l->server;
    enum mcp_list which = (enum mcp_list)(l - s->lists);
    struct error err = {0};
    const struct json *items = json_get(result, kinds[which].member), *cursor = json_get(result, "nextCursor");
    l->request = 0;
    if (failure) {
        give_up(s, which, failure);
        return;
    }
    if (json_type(items) != JSON_ARRAY) {
        error_set(&err, ERR_PROTOCOL, "the answer to '%s' has no array '%s'.", kinds[which].method,
                  kinds[which].member);
        give_up(s, which, &err);
    } else if (!add_page(l, items, &err)) {
        give_up(s, which, &err);
    } else if (!json_str(cursor).len) {
        complete(s, which);
    } else if (++l->n_pages >= LIMIT_MCP_PAGES) {
        error_set(&err, ERR_TOO_LARGE, "the list has more than %d pages.", LIMIT_MCP_PAGES);
        give_up(s, which, &err);
    } else {
        request_page(s, which, json_str(cursor));
    }
}

static void request_page(struct server *s, enum mcp_list which, struct str cursor)
{
    struct buf members;
    struct error err = {0};
    struct server_list *l = &s->lists[which];
    buf_init(&members, LIMIT_MCP_MESSAGE);
    if (cursor.len) {
        buf_puts(&members, "\"cursor\":");
        json_quote(&members, cursor);
    }
    l->request = members.failed ? (error_set(&err, ERR_NO_MEMORY, "no memory for a request."), 0)
                                : session_request(s->session,
                                                  &(struct session_request){.method = kinds[which].method,
                                                                            .members = buf_view(&members),
                                                                            .timeout_ms = LIST_TIMEOUT_MS,
                                                                            .done = on_page,
                                                                            .arg = l},
                                                  &err);
    buf_release(&members);
    if (!l->request) {
        give_up(s, which, &err);
    }
}

void server__fetch(struct server *s, enum mcp_list which)
{
    struct server_list *l = &s->lists[which];
    if (l->request) {
        l->again = true; /* what is being read may be old already */
        return;
    }
    buf_release(&l->pages);
    buf_init(&l->pages, LIMIT_MCP_LIST);
    l->n_pages = 0;
    request_page(s, which, (struct str){NULL, 0});
}

void server__stop_lists(struct server *s)
{
    for (int i = 0; i < MCP_N_LISTS; i++) {
        s->lists[i].request = 0;
        s->lists[i].again = false;
        buf_release(&s->lists[i].pages);
    }
}

void server__free_lists(struct server *s)
{
    server__stop_lists(s);
    for (int i = 0; i < MCP_N_LISTS; i++) {
        json_free(s->lists[i].tree);
        s->lists[i].tree = NULL;
    }
    free(s->tools);
    s->tools = NULL;
    s->n_tools = 0;
}

/* ---- tools ---- */

static bool is_known(const struct server *s, struct str name)
{
    for (size_t i = 0; i < s->n_tools; i++) {
        if (str_eq(s->tools[i].name.tool, name)) {
            return true;
        }
    }
    return false;
}

static void add_tool(struct server *s, const struct json *definition)
{
    struct error err = {0};
    struct tool *t = &s->tools[s->n_tools];
    if (s->n_tools == LIMIT_MCP_TOOLS) {
        error_set(&err, ERR_TOO_LARGE, "the server has more than %d tools.", LIMIT_MCP_TOOLS);
    } else if (tool_read(definition, s->kind != MCP_STDIO, t, &err)) {
        t->name.server = str_of(s->config->name);
        if (!is_known(s, t->name.tool) && policy_allows_tool(s->config, t->name.tool)) {
            s->n_tools++;
            return;
        }
    }
    s->n_hidden++;
    if (err.code) {
        struct str shown = json_str(json_get(definition, "name"));
        LOG_WARN("mcp tool left out", "server=%s tool=\"%.*s\" error=\"%s\"", s->config->name,
                 STR_ARG(str_slice(shown, 0, 100)), err.msg);
    }
}

bool server__read_tools(struct server *s, struct error *err)
{
    const struct json *items = s->lists[MCP_TOOLS].tree;
    s->tools = s->tools ? s->tools : calloc(LIMIT_MCP_TOOLS, sizeof *s->tools);
    s->n_tools = s->n_hidden = 0;
    if (!s->tools) {
        return error_set(err, ERR_NO_MEMORY, "no memory for the tools of a server.");
    }
    for (size_t i = 0; i < json_len(items); i++) {
        add_tool(s, json_at(items, i));
    }
    return true;
}
