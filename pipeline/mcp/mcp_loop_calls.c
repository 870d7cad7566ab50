/* The calls of a turn: made, recorded first where the loop is kept, answered, cancelled. */
#include "base/clock.h"
#include "pipeline/mcp/mcp_loop_internal.h"

#include <stdio.h>
#include <stdlib.h>

static void answer_error(struct mcp_loop *l, size_t call, const char *text)
{
    mcp_turn_answer(&l->turn, call, true, str_of(text));
}

/* How long it took is known when its answer is. */
static void note_end(struct mcp_turn_call *c)
{
    c->took_us = clock_us() - c->sent_us;
}

static void on_answer(void *arg, const struct mcp_answer *answer)
{
    struct running *r = arg;
    struct mcp_loop *l = r->loop;
    r->task = NULL;
    note_end(&l->turn.calls[r->call]);
    mcp_turn_answer(&l->turn, r->call, answer->is_error, answer->text);
    if (!l->stopped) {
        generation__notify(l->g);
    }
}

static void send_call(struct mcp_loop *l, size_t i)
{
    struct mcp_turn_call *c = &l->turn.calls[i];
    const struct gen_request *r = l->g->request;
    struct error err = {0};
    char text[sizeof err.msg + 16];
    l->running[i] = (struct running){.loop = l, .call = i};
    struct mcp_call_request call = {.request_id = r->request_id,
                                    .tool = *c->tool,
                                    .arguments = buf_view(&c->arguments),
                                    .done = on_answer,
                                    .arg = &l->running[i]};
    c->sent_us = clock_us();
    l->running[i].task = mcp_host_call(l->host, &call, &err);
    if (!l->running[i].task) {
        c->sent_us = 0;
        snprintf(text, sizeof text, "not called: %s", err.msg);
        answer_error(l, i, text);
    }
}

/* May it be made twice? Its server says so; nobody knows whether that is true. */
static bool is_repeatable(const struct gen_mcp_tool *tool)
{
    const struct json *hints = json_get(tool->definition, "annotations");
    return json_bool(json_get(hints, "readOnlyHint")) || json_bool(json_get(hints, "idempotentHint"));
}

static void make_call(struct mcp_loop *l, size_t i, const struct gen_saved_call *saved)
{
    struct mcp_turn_call *c = &l->turn.calls[i];
    const struct gen_request *r = l->g->request;
    if (saved && saved->answered) {
        l->n_made += c->valid;
        mcp_turn_answer(&l->turn, i, saved->is_error, saved->text);
        return;
    }
    if (!c->valid) {
        mcp_host_note_invalid(l->host, r->request_id, c->tool);
        mcp_turn_answer(&l->turn, i, true, buf_view(&c->fault));
        return;
    }
    if (r->mcp.max_calls > 0 && l->n_made >= r->mcp.max_calls) {
        answer_error(l, i, "not called: the request's limit of tool calls is reached.");
        return;
    }
    l->n_made++;
    if (saved && !is_repeatable(c->tool)) {
        answer_error(l, i,
                     "the server was restarted while this tool ran: it may or may not have done its work. It was not "
                     "called again.");
    } else if (!l->kept) {
        send_call(l, i);
    } else {
        c->due = !l->g->detached;
    }
}

void mcp_loop__make_calls(struct mcp_loop *l, const char *why_not)
{
    free(l->running);
    l->running = calloc(l->turn.n_calls, sizeof *l->running);
    why_not = l->running ? why_not : "not called: no memory.";
    for (size_t i = 0, n = 0; i < l->turn.n_calls; i++) {
        struct mcp_turn_call *c = &l->turn.calls[i];
        const struct gen_saved_call *saved = c->tool ? mcp_loop__saved_call(l, n, c) : NULL;
        n += c->tool != NULL;
        if (c->tool && why_not && !(saved && saved->answered)) {
            answer_error(l, i, why_not);
        } else if (c->tool) {
            make_call(l, i, saved);
        }
    }
}

bool mcp_loop_calls_due(const struct mcp_loop *l)
{
    for (size_t i = 0; l->phase == CALLING && i < l->turn.n_calls; i++) {
        if (l->turn.calls[i].due) {
            return true;
        }
    }
    return false;
}

void mcp_loop_make_calls(struct mcp_loop *l)
{
    bool any = false;
    for (size_t i = 0; l->phase == CALLING && i < l->turn.n_calls; i++) {
        struct mcp_turn_call *c = &l->turn.calls[i];
        if (c->due && c->saved) {
            c->due = false;
            any = true;
            send_call(l, i);
        }
    }
    if (any) {
        generation__notify(l->g); /* one may have its result already */
    }
}

void mcp_loop__cancel_calls(struct mcp_loop *l)
{
    for (size_t i = 0; l->phase == CALLING && l->running && i < l->turn.n_calls; i++) {
        bool waits = l->turn.calls[i].due || l->running[i].task;
        if (l->running[i].task) {
            mcp_task_cancel(l->running[i].task);
            note_end(&l->turn.calls[i]);
            l->running[i].task = NULL;
        }
        l->turn.calls[i].due = false;
        if (waits && !l->g->failed) { /* one that has failed may be tried again */
            answer_error(l, i, "cancelled.");
        }
    }
}
