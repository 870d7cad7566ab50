/* Calls of one server: so many run, the others wait in order. A call ends with `done`, or silently when it is
 * cancelled; its memory goes before `done` is called, so that everything is possible there. */
#include "mcp/mcp_internal.h"

#include "base/clock.h"
#include "base/limits.h"
#include "mcp/content.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the list ---- */

static void unlink_call(struct call *c)
{
    struct server *s = c->server;
    *(c->prev ? &c->prev->next : &s->calls) = c->next;
    *(c->next ? &c->next->prev : &s->last_call) = c->prev;
    *(c->request ? &s->n_running : &s->n_waiting) -= 1;
}

static void free_call(struct call *c)
{
    loop_timer_free(c->timer);
    buf_release(&c->members);
    arena_free(c->arena);
    free(c);
}

static void link_call(struct server *s, struct call *c)
{
    c->server = s;
    c->prev = s->last_call;
    *(c->prev ? &c->prev->next : &s->calls) = c;
    s->last_call = c;
    s->n_waiting++;
    s->n_calls++;
}

/* ---- results ---- */

static void finish(struct call *c, const struct mcp_result *result)
{
    void (*done)(void *arg, const struct mcp_result *) = c->done;
    void *arg = c->arg;
    unlink_call(c);
    free_call(c);
    done(arg, result);
}

static void finish_with_error(struct call *c, const struct error *why)
{
    struct mcp_result result = {.is_error = true, .error = *why};
    error_wrap(&result.error, "MCP server '%s'", c->server->config->name);
    result.text = str_of(result.error.msg);
    c->server->n_failed++;
    finish(c, &result);
}

static bool read_answer(const struct call *c, const struct json *answer, struct buf *text, struct buf *structured,
                        struct error *err)
{
    size_t most = c->server->mcp->options.max_result;
    const struct json *whole = c->is_tool ? json_get(answer, "structuredContent") : answer;
    buf_init(text, LIMIT_MCP_MESSAGE + KIB(64));
    buf_init(structured, c->is_tool ? most : LIMIT_MCP_MESSAGE);
    if (c->is_tool && !content_text(answer, most, text, err)) {
        return false;
    }
    if (whole) {
        json_print(structured, whole);
    }
    return buf_ok(structured, "the structured result of a tool", err);
}

static void on_answer(void *arg, const struct json *answer, const struct error *err)
{
    struct call *c = arg;
    struct server *s = c->server;
    struct buf text, structured;
    struct error why = {0};
    if (err) {
        finish_with_error(c, err);
    } else {
        bool ok = read_answer(c, answer, &text, &structured, &why);
        struct mcp_result result = {.is_error = c->is_tool && content_is_error(answer),
                                    .text = buf_view(&text),
                                    .structured = buf_view(&structured)};
        if (ok) {
            finish(c, &result);
        } else {
            finish_with_error(c, &why);
        }
        buf_release(&text);
        buf_release(&structured);
    }
    server__run_calls(s);
}

static void on_progress(void *arg, double progress, double total, struct str message)
{
    struct call *c = arg;
    if (c->on_progress) {
        c->on_progress(c->arg, progress, total, message);
    }
}

/* ---- running ---- */

static bool send_call(struct call *c, struct error *err)
{
    struct server *s = c->server;
    int64_t left = c->timeout_ms - (clock_ms() - c->started_ms);
    uint64_t request = session_request(s->session,
                                       &(struct session_request){.method = c->method,
                                                                 .members = buf_view(&c->members),
                                                                 .name = c->name,
                                                                 .headers = c->headers,
                                                                 .timeout_ms = left > 0 ? left : 1,
                                                                 .on_progress = c->is_tool ? on_progress : NULL,
                                                                 .done = on_answer,
                                                                 .arg = c},
                                       err);
    if (!request) {
        return false;
    }
    loop_timer_stop(c->timer);
    c->request = request;
    s->n_waiting--;
    s->n_running++;
    return true;
}

static struct call *next_waiting(const struct server *s)
{
    struct call *c = s->calls;
    while (c && c->request) {
        c = c->next;
    }
    return c;
}

void server__run_calls(struct server *s)
{
    struct call *c;
    struct error err = {0};
    while (s->session && !s->lost && s->n_running < s->mcp->options.max_calls && (c = next_waiting(s))) {
        if (!send_call(c, &err)) {
            finish_with_error(c, &err);
        }
    }
}

/* Those that are there now: what a callback begins meanwhile is for the next session. */
void server__fail_calls(struct server *s, const struct error *why)
{
    for (int n = s->n_running + s->n_waiting; n > 0 && s->calls; n--) {
        finish_with_error(s->calls, why);
    }
}

void server__drop_calls(struct server *s)
{
    while (s->calls) {
        struct call *c = s->calls;
        unlink_call(c);
        free_call(c);
    }
}

static void on_timeout(void *arg)
{
    struct call *c = arg;
    struct error err = {0};
    error_set(&err, ERR_DEADLINE, "the call waited %lld ms for its turn.", (long long)c->timeout_ms);
    finish_with_error(c, &err);
}

/* mcp_call may be called where callbacks are not expected: the loop sends it, soon. */
static void on_turn(void *arg)
{
    struct call *c = arg;
    struct server *s = c->server;
    loop_timer_free(c->timer);
    c->timer = loop_timer_create(s->mcp->loop, on_timeout, c);
    if (!c->timer) {
        struct error err = {0};
        error_set(&err, ERR_NO_MEMORY, "no memory for a call.");
        finish_with_error(c, &err);
        return;
    }
    loop_timer_start(c->timer, c->timeout_ms, 0);
    server__run_calls(s);
}

/* ---- beginning ---- */

static bool check_server(const struct server *s, struct error *err)
{
    if (s->state != MCP_READY || s->lost) {
        return error_set(err, ERR_UNAVAILABLE, "MCP server '%s' is not ready (%s)%s%.120s", s->config->name,
                         mcp_state_name(s->state), s->failure.code ? ": " : ".", s->failure.msg);
    }
    if (s->n_waiting >= LIMIT_MCP_WAITING) {
        return error_set(err, ERR_OVERLOADED, "%d calls to MCP server '%s' wait for their turn already.",
                         LIMIT_MCP_WAITING, s->config->name);
    }
    return true;
}

static struct call *create_call(struct server *s, int64_t timeout_ms, struct error *err)
{
    struct call *c = calloc(1, sizeof *c);
    struct loop_timer *timer = c ? loop_timer_create(s->mcp->loop, on_turn, c) : NULL;
    if (!timer || !(c->arena = arena_create(MIB(1)))) {
        loop_timer_free(timer);
        free(c);
        error_set(err, ERR_NO_MEMORY, "no memory for a call.");
        return NULL;
    }
    c->timer = timer;
    c->timeout_ms = timeout_ms ? timeout_ms : s->config->timeout_ms;
    c->started_ms = clock_ms();
    buf_init(&c->members, LIMIT_MCP_MESSAGE);
    return c;
}

static uint64_t begin(struct server *s, struct call *c)
{
    c->id = ++s->mcp->last_call;
    link_call(s, c);
    loop_timer_start(c->timer, 0, 0);
    return c->id;
}

static struct json *parse_arguments(struct str text, struct error *err)
{
    struct json *tree = json_parse_bounded(text.len ? text : STR("{}"), LIMIT_JSON_DEPTH, LIMIT_MCP_VALUES, err);
    if (!tree) {
        error_wrap(err, "the arguments are no JSON");
    } else if (json_type(tree) != JSON_OBJECT) {
        error_set(err, ERR_INVALID, "the arguments must be a JSON object, not %s.", json_type_name(json_type(tree)));
        json_free(tree);
        tree = NULL;
    }
    return tree;
}

/* Parameters that 2026-07-28 wants in header fields too. */
static bool put_headers(struct call *c, const struct tool *t, const struct json *arguments)
{
    struct mcp_pair *items = arena_alloc_array(c->arena, t->n_headers + 1, sizeof *items);
    size_t n = 0;
    bool ok = items != NULL;
    for (size_t i = 0; ok && i < t->n_headers; i++) {
        struct buf value, name;
        buf_init(&value, KIB(16));
        buf_init(&name, KIB(1));
        buf_puts(&name, "Mcp-Param-");
        buf_append(&name, t->headers[i].field);
        if (tool_header_value(&t->headers[i], arguments, &value)) {
            items[n].name = arena_strdup(c->arena, buf_view(&name));
            items[n].value = arena_strdup(c->arena, buf_view(&value));
            ok = !value.failed && !name.failed && items[n].name && items[n].value;
            n++;
        }
        buf_release(&value);
        buf_release(&name);
    }
    c->headers = (struct mcp_pairs){items, n};
    return ok;
}

static bool put_call(struct call *c, const struct tool *t, const struct json *arguments, struct error *err)
{
    struct json_writer w = json_writer(&c->members);
    c->method = "tools/call";
    c->is_tool = true;
    c->name = arena_str(c->arena, t->name.tool);
    json_member_str(&w, "name", t->name.tool);
    json_member_json(&w, "arguments", arguments);
    if (!c->name.ptr || !put_headers(c, t, arguments)) {
        return error_set(err, ERR_NO_MEMORY, "no memory for a call, or its arguments are too large.");
    }
    return buf_ok(&c->members, "the arguments of a call", err);
}

uint64_t mcp_call(struct mcp *m, const struct mcp_call_options *options, struct error *err)
{
    struct server *s = NULL;
    const struct tool *t = mcp__find_tool(m, options->tool, &s);
    if (!t) {
        error_set(err, ERR_NOT_FOUND, "there is no MCP tool '%.*s'.", STR_ARG(str_slice(options->tool, 0, 80)));
        return 0;
    }
    struct json *arguments = check_server(s, err) ? parse_arguments(options->arguments, err) : NULL;
    struct call *c = arguments ? create_call(s, options->timeout_ms, err) : NULL;
    uint64_t id = 0;
    if (c && put_call(c, t, arguments, err)) {
        c->on_progress = options->on_progress;
        c->done = options->done;
        c->arg = options->arg;
        id = begin(s, c);
    } else if (c) {
        free_call(c);
    }
    json_free(arguments);
    return id;
}

static bool put_get(struct call *c, const struct mcp_get_options *o, const struct json *arguments, struct error *err)
{
    struct json_writer w = json_writer(&c->members);
    bool prompt = o->prompt.len > 0;
    c->method = prompt ? "prompts/get" : "resources/read";
    c->name = arena_str(c->arena, prompt ? o->prompt : o->uri);
    json_member_str(&w, prompt ? "name" : "uri", prompt ? o->prompt : o->uri);
    if (prompt && o->arguments.len) {
        json_member_json(&w, "arguments", arguments);
    }
    if (!c->name.ptr) {
        return error_set(err, ERR_TOO_LARGE, "the name of what is asked for is too long.");
    }
    return buf_ok(&c->members, "a request", err);
}

uint64_t mcp_get(struct mcp *m, const struct mcp_get_options *options, struct error *err)
{
    struct server *s = &m->servers[options->server];
    struct json *arguments = check_server(s, err) ? parse_arguments(options->arguments, err) : NULL;
    struct call *c = arguments ? create_call(s, options->timeout_ms, err) : NULL;
    uint64_t id = 0;
    if (c && put_get(c, options, arguments, err)) {
        c->done = options->done;
        c->arg = options->arg;
        id = begin(s, c);
    } else if (c) {
        free_call(c);
    }
    json_free(arguments);
    return id;
}

void mcp_call_cancel(struct mcp *m, uint64_t id)
{
    for (size_t i = 0; id && i < m->config->n; i++) {
        struct server *s = &m->servers[i];
        struct call *c = s->calls;
        while (c && c->id != id) {
            c = c->next;
        }
        if (c) {
            uint64_t request = c->request;
            unlink_call(c);
            free_call(c);
            if (request && s->session && !s->lost) {
                session_cancel(s->session, request);
            }
            server__run_calls(s);
            return;
        }
    }
}
