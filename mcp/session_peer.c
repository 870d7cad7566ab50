/* What a server says and asks by itself. */
#include "mcp/session_internal.h"

#include "base/array.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"

void session__request_of_peer(struct session *s, const struct rpc_message *m)
{
    struct buf text;
    buf_init(&text, LIMIT_MCP_MESSAGE);
    if (str_eq(m->method, STR("ping"))) {
        rpc_answer_empty(&text, m->id);
    } else { /* sampling, roots, elicitation: nothing that we said we could do */
        rpc_answer_error(&text, m->id, RPC_METHOD_NOT_FOUND, "This client does not support that method.");
    }
    if (!text.failed) {
        session__send(s, buf_view(&text));
    }
    buf_release(&text);
}

/* ---- notifications ---- */

static void on_list_changed(struct session *s, enum mcp_list which)
{
    if (s->ready) {
        s->options.events.on_changed(s->options.events.arg, which);
    }
}

static void on_tools(struct session *s, const struct json *params)
{
    (void)params;
    on_list_changed(s, MCP_TOOLS);
}

static void on_resources(struct session *s, const struct json *params)
{
    (void)params;
    on_list_changed(s, MCP_RESOURCES);
}

static void on_prompts(struct session *s, const struct json *params)
{
    (void)params;
    on_list_changed(s, MCP_PROMPTS);
}

static enum log_level level_of(const struct json *params)
{
    static const struct {
        const char *name;
        enum log_level level;
    } levels[] = {{"debug", LOG_LEVEL_DEBUG},  {"info", LOG_LEVEL_INFO},      {"notice", LOG_LEVEL_INFO},
                  {"warning", LOG_LEVEL_WARN}, {"error", LOG_LEVEL_ERROR},    {"critical", LOG_LEVEL_ERROR},
                  {"alert", LOG_LEVEL_ERROR},  {"emergency", LOG_LEVEL_ERROR}};
    const struct json *v = json_get(params, "level");
    for (size_t i = 0; i < ARRAY_LEN(levels); i++) {
        if (str_eq(json_str(v), str_of(levels[i].name))) {
            return levels[i].level;
        }
    }
    return LOG_LEVEL_INFO;
}

static void on_log(struct session *s, const struct json *params)
{
    struct buf text;
    uint64_t left_out = 0;
    const struct json *data = json_get(params, "data");
    if (!log_limit_take(&s->log, clock_ms(), &left_out)) {
        return;
    }
    buf_init(&text, LIMIT_MCP_MESSAGE);
    if (json_type(data) == JSON_STRING) {
        buf_append(&text, json_str(data));
    } else {
        json_print(&text, data);
    }
    log_limit_write(level_of(params), "mcp server says", s->options.config->name, buf_view(&text), left_out);
    buf_release(&text);
}

/* It may end our subscription; requests of its own we have answered at once. */
static void on_cancelled(struct session *s, const struct json *params)
{
    const struct json *id = json_get(params, "requestId");
    struct pending *p = json_type(id) == JSON_INT && s->listen && (uint64_t)json_int(id) == s->listen
                            ? session__find(s, s->listen)
                            : NULL;
    struct error err = {0};
    if (p) {
        error_set(&err, ERR_CANCELLED, "the server has ended the subscription.");
        session__end_pending(p, NULL, &err);
    }
}

static const struct {
    const char *method;
    void (*take)(struct session *s, const struct json *params);
} notifications[] = {
    {"notifications/progress", session__progress},      {"notifications/message", on_log},
    {"notifications/tools/list_changed", on_tools},     {"notifications/resources/list_changed", on_resources},
    {"notifications/prompts/list_changed", on_prompts}, {"notifications/cancelled", on_cancelled}};

void session__notification(struct session *s, const struct rpc_message *m)
{
    for (size_t i = 0; i < ARRAY_LEN(notifications); i++) {
        if (str_eq(m->method, str_of(notifications[i].method))) {
            notifications[i].take(s, m->params);
            return;
        }
    } /* others mean nothing to us */
}
