/* One server's life:
 *
 *     STARTING --session ready, tools listed--> READY --lost--> RECONNECTING --pause--> (another try) READY ...
 *         \--lost--> FAILED --pause--> STARTING ...
 *
 * A pause begins when the old session is gone (its process has ended), so that never two run. Pauses double with each
 * try, with jitter; a server that was ready for a while begins at the first one again. */
#include "mcp/mcp_internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/rng.h"

#include <stdio.h>
#include <string.h>

#define STEADY_MS 10000 /* ready for so long, and what ends then is no series */

static void set_state(struct server *s, enum mcp_state state)
{
    s->state = state;
    mcp__changed(s->mcp);
}

/* ---- loss ---- */

/* Half of the pause is sure, the other half is chance. */
static int64_t pause_ms(struct server *s)
{
    int64_t pause = s->mcp->options.retry_ms, most = s->mcp->options.retry_max_ms;
    for (int i = 0; i < s->step && pause < most; i++) {
        pause *= 2;
    }
    pause = pause < most ? pause : most;
    s->step++;
    return pause / 2 + (int64_t)(rng_entropy64() % (uint64_t)(pause / 2 + 1));
}

static void plan_next(struct server *s)
{
    if (s->mcp->closing) {
        mcp__finish_close(s->mcp);
        return;
    }
    int64_t pause = s->at_once ? 0 : pause_ms(s);
    s->at_once = false;
    s->next_try_ms = clock_ms() + pause;
    loop_timer_start(s->timer, pause, 0);
    mcp__changed(s->mcp);
}

/* An old server refuses the first message of the newer transport. */
static void change_transport(struct server *s, const struct error *why)
{
    bool refused = why->code == ERR_INVALID || why->code == ERR_NOT_FOUND || why->code == ERR_BAD_METHOD;
    if (s->config->kind != MCP_HTTP_AUTO || s->was_ready) {
        return;
    }
    s->at_once = s->kind == MCP_HTTP && refused;
    s->kind = s->at_once ? MCP_SSE : MCP_HTTP;
    s->refused = s->at_once ? *why : s->refused;
}

/* After two transports in vain, the first one's reason is the better one. */
static void note_failure(struct server *s, const struct error *why)
{
    s->failure = *why;
    if (s->refused.code) {
        error_set(&s->failure, s->refused.code, "%.150s And with the older transport: %.60s", s->refused.msg, why->msg);
        s->refused = (struct error){0};
    }
}

static void lose(struct server *s, const struct error *why)
{
    bool steady = s->state == MCP_READY && clock_ms() - s->ready_ms >= STEADY_MS;
    s->lost = true;
    s->step = steady ? 0 : s->step;
    change_transport(s, why);
    server__stop_lists(s);
    if (!s->at_once) {
        note_failure(s, why);
        s->n_restarts++;
        set_state(s, s->was_ready ? MCP_RECONNECTING : MCP_FAILED);
    }
    server__fail_calls(s, why);
}

static void on_closed(void *arg, const struct error *why)
{
    struct server *s = arg;
    if (!s->lost) {
        s->legacy = s->legacy || session_died_of_probe(s->session);
        lose(s, why);
    }
}

void server__fail(struct server *s, const struct error *why)
{
    if (!s->lost && s->session) {
        LOG_WARN("mcp server given up", "server=%s error=\"%s\"", s->config->name, why->msg);
        lose(s, why);
        session_close(s->session, true);
    }
}

static void on_gone(void *arg)
{
    struct server *s = arg;
    s->session = NULL;
    plan_next(s);
}

/* ---- getting ready ---- */

static void on_ready(void *arg)
{
    struct server *s = arg;
    s->revision = session_revision(s->session)->name;
    snprintf(s->name, sizeof s->name, "%s", session_server(s->session));
    if (!session_has(s->session, MCP_TOOLS)) {
        server__listed(s, MCP_TOOLS);
    }
    for (int i = 0; i < MCP_N_LISTS && !s->lost; i++) {
        if (session_has(s->session, i)) {
            server__fetch(s, i);
        }
    }
}

void server__listed(struct server *s, enum mcp_list which)
{
    if (which == MCP_TOOLS && s->state != MCP_READY && !s->lost) {
        s->ready_ms = clock_ms();
        s->was_ready = true;
        s->failure = s->refused = (struct error){0};
        LOG_INFO("mcp tools listed", "server=%s tools=%zu hidden=%zu", s->config->name, s->n_tools, s->n_hidden);
        set_state(s, MCP_READY);
    }
    mcp__changed(s->mcp);
}

static void on_changed(void *arg, enum mcp_list which)
{
    struct server *s = arg;
    if (s->lost) {
        return;
    }
    if (session_has(s->session, which)) {
        server__fetch(s, which);
    }
    if (which == MCP_RESOURCES && !s->lost && session_has(s->session, MCP_TEMPLATES)) {
        server__fetch(s, MCP_TEMPLATES);
    }
}

void server__start(struct server *s)
{
    struct error err = {0};
    struct mcp *m = s->mcp;
    struct session_options options = {.loop = m->loop,
                                      .http = m->http,
                                      .config = s->config,
                                      .kind = s->kind,
                                      .version = m->options.version,
                                      .legacy = s->legacy,
                                      .start_timeout_ms = m->options.start_timeout_ms,
                                      .events = {on_ready, on_changed, on_closed, on_gone, s}};
    s->next_try_ms = -1;
    s->lost = false;
    set_state(s, s->was_ready ? MCP_RECONNECTING : MCP_STARTING);
    s->session = session_create(&options, &err);
    if (!s->session) {
        LOG_WARN("mcp server could not be started", "server=%s error=\"%s\"", s->config->name, err.msg);
        lose(s, &err);
        plan_next(s);
    }
}

void server__close(struct server *s)
{
    loop_timer_stop(s->timer);
    server__drop_calls(s);
    server__stop_lists(s);
    if (s->session && !s->lost) {
        s->lost = true;
        session_close(s->session, false);
    } else if (s->session) {
        session_close(s->session, true); /* it is on its way; nobody is to hear of it */
    }
}
