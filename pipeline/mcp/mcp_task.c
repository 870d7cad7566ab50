/* Calls: sent, timed, logged, counted. */
#include "base/clock.h"
#include "base/log.h"
#include "pipeline/mcp/mcp_host_internal.h"

#include <stdio.h>
#include <stdlib.h>

#define LOGGED_MAX KIB(2) /* bytes of arguments, and of a result, in the log */

struct mcp_task {
    struct mcp_host *host;
    struct mcp_task *prev, *next;
    uint64_t id;
    struct mcp_usage *usage;
    int64_t started_us;
    char server[LIMIT_MCP_SERVER_NAME + 1], tool[LIMIT_MCP_TOOL_NAME + 1], request_id[REQUEST_ID_MAX + 1];
    void (*done)(void *arg, const struct mcp_answer *answer);
    void *arg;
};

const char *mcp_outcome_name(enum mcp_outcome outcome)
{
    static const char *const names[MCP_CALL_COUNT] = {
#define X(id, name, what) name,
        MCP_OUTCOME_TABLE(X)
#undef X
    };
    return names[outcome];
}

/* ---- its end ---- */

void mcp_host__forget(struct mcp_task *t)
{
    struct mcp_host *h = t->host;
    *(t->prev ? &t->prev->next : &h->tasks) = t->next;
    if (t->next) {
        t->next->prev = t->prev;
    }
    free(t);
}

static void note(const struct mcp_task *t, enum mcp_outcome outcome, struct str text)
{
    int64_t us = clock_us() - t->started_us;
    t->usage->calls[outcome]++;
    t->usage->call_ns += (uint64_t)us * 1000;
    LOG_INFO("mcp call", "request=%s server=%s tool=%s outcome=%s ms=%lld", t->request_id, t->server, t->tool,
             mcp_outcome_name(outcome), (long long)us / 1000);
    if (t->host->options.log_content && text.len) {
        LOG_INFO("mcp result", "request=%s tool=%s text=\"" STR_FMT "\"", t->request_id, t->tool,
                 STR_ARG(str_slice(text, 0, LOGGED_MAX)));
    }
}

static enum mcp_outcome outcome_of(const struct mcp_result *result)
{
    switch (result->error.code) {
    case ERR_NONE:
        return result->is_error ? MCP_CALL_TOOL_ERROR : MCP_CALL_OK;
    case ERR_DEADLINE:
        return MCP_CALL_TIMEOUT;
    case ERR_INVALID:
        return MCP_CALL_INVALID;
    default:
        return MCP_CALL_FAILED;
    }
}

static void on_result(void *arg, const struct mcp_result *result)
{
    struct mcp_task *t = arg;
    struct mcp_answer answer = {.is_error = result->is_error, .text = result->text, .structured = result->structured};
    void (*done)(void *, const struct mcp_answer *) = t->done;
    void *done_arg = t->arg;
    note(t, outcome_of(result), result->text);
    mcp_host__forget(t);
    done(done_arg, &answer);
}

void mcp_task_cancel(struct mcp_task *t)
{
    mcp_call_cancel(t->host->mcp, t->id);
    note(t, MCP_CALL_CANCELLED, STR(""));
    mcp_host__forget(t);
}

/* ---- its beginning ---- */

/* The name that the model was shown may be another tool's by now. */
static bool find_tool(const struct mcp_host *h, const struct gen_mcp_tool *tool, struct error *err)
{
    struct mcp_tool_info info;
    if (mcp_find_tool(h->mcp, tool->name, &info) && str_eq(info.own_name, tool->own_name) &&
        str_eq(str_of(h->config.servers[info.server].name), tool->server)) {
        return true;
    }
    return error_set(err, ERR_NOT_FOUND, "the MCP server '" STR_FMT "' has no tool '" STR_FMT "' any more.",
                     STR_ARG(tool->server), STR_ARG(str_slice(tool->own_name, 0, 64)));
}

static bool start(struct mcp_task *t, const struct mcp_call_request *call, struct error *err)
{
    struct mcp_host *h = t->host;
    struct mcp_call_options options = {
        .tool = call->tool.name, .arguments = call->arguments, .done = on_result, .arg = t};
    if (h->options.log_content) {
        LOG_INFO("mcp arguments", "request=%s tool=%s text=\"" STR_FMT "\"", t->request_id, t->tool,
                 STR_ARG(str_slice(call->arguments, 0, LOGGED_MAX)));
    }
    t->id = find_tool(h, &call->tool, err) ? mcp_call(h->mcp, &options, err) : 0;
    return t->id != 0;
}

static struct mcp_task task_of(struct mcp_host *h, const char *request_id, const struct gen_mcp_tool *tool)
{
    struct mcp_task t = {.host = h, .usage = &h->usage[mcp_host__server(h, tool->server)], .started_us = clock_us()};
    snprintf(t.server, sizeof t.server, STR_FMT, STR_ARG(tool->server));
    snprintf(t.tool, sizeof t.tool, STR_FMT, STR_ARG(tool->name));
    snprintf(t.request_id, sizeof t.request_id, "%s", request_id);
    return t;
}

struct mcp_task *mcp_host_call(struct mcp_host *h, const struct mcp_call_request *call, struct error *err)
{
    struct mcp_task *t = malloc(sizeof *t);
    if (!t) {
        error_set(err, ERR_NO_MEMORY, "no memory for a call.");
        return NULL;
    }
    *t = task_of(h, call->request_id, &call->tool);
    t->done = call->done;
    t->arg = call->arg;
    t->next = h->tasks;
    if (t->next) {
        t->next->prev = t;
    }
    h->tasks = t;
    if (!start(t, call, err)) {
        note(t, MCP_CALL_FAILED, STR(""));
        mcp_host__forget(t);
        return NULL;
    }
    return t;
}

void mcp_host_note_invalid(struct mcp_host *h, const char *request_id, const struct gen_mcp_tool *tool)
{
    struct mcp_task t = task_of(h, request_id, tool);
    note(&t, MCP_CALL_INVALID, STR(""));
}
