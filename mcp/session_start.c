/* Which revision both speak. A server of 2026-07-28 is found by asking it (server/discover); one that refuses, or stays
 * silent for a while, is asked in the old way (initialize), over stdio without forgetting the first question: a process
 * that takes long to start answers both. */
#include "mcp/session_internal.h"

#include "base/array.h"
#include "base/log.h"

#include <stdio.h>
#include <string.h>

#define LISTEN_AGAIN_MS 5000

static void ignore(void *arg, const struct json *result, const struct error *err)
{
    (void)arg;
    (void)result;
    (void)err;
}

/* ---- agreed ---- */

static void read_capabilities(struct session *s, const struct json *result)
{
    static const char *const names[MCP_N_LISTS] = {
        [MCP_TOOLS] = "tools", [MCP_RESOURCES] = "resources", [MCP_TEMPLATES] = "resources", [MCP_PROMPTS] = "prompts"};
    const struct json *capabilities = json_get(result, "capabilities");
    for (int i = 0; i < MCP_N_LISTS; i++) {
        const struct json *v = json_get(capabilities, names[i]), *changes = json_get(v, "listChanged");
        s->has[i] = json_type(v) == JSON_OBJECT;
        s->changes[i] = json_type(changes) == JSON_BOOL && json_bool(changes);
    }
    s->logs = json_type(json_get(capabilities, "logging")) == JSON_OBJECT;
}

static void read_server_name(struct session *s, const struct json *info)
{
    struct str name = json_str(json_get(info, "name")), version = json_str(json_get(info, "version"));
    snprintf(s->server, sizeof s->server, "%.*s%s%.*s", STR_ARG(str_slice(name, 0, 80)), version.len ? " " : "",
             STR_ARG(str_slice(version, 0, 40)));
}

static bool say_initialized(struct session *s, struct error *err)
{
    return session__notify(s, "notifications/initialized", (struct str){NULL, 0}, err) &&
           (!s->logs || session_request(s,
                                        &(struct session_request){.method = "logging/setLevel",
                                                                  .members = STR("\"level\":\"info\""),
                                                                  .timeout_ms = SESSION_CHECK_MS,
                                                                  .done = ignore},
                                        err));
}

static void become_ready(struct session *s, const struct mcp_revision *revision)
{
    struct error err = {0};
    s->revision = revision;
    s->ready = true;
    loop_timer_stop(s->probe_timer);
    loop_timer_stop(s->start_timer);
    transport_established(s->transport, revision);
    if (revision->modern) {
        session__listen(s);
    } else if (!say_initialized(s, &err)) {
        session__fail(s, &err);
    }
    if (!s->dead) {
        LOG_INFO("mcp server ready", "server=%s revision=%s name=\"%s\"", s->options.config->name, revision->name,
                 s->server);
        s->options.events.on_ready(s->options.events.arg);
    }
}

/* ---- initialize: 2024-11-05 to 2025-11-25 ---- */

static void on_initialized(void *arg, const struct json *result, const struct error *err)
{
    struct session *s = arg;
    struct error why = {0};
    struct str name = json_str(json_get(result, "protocolVersion"));
    const struct mcp_revision *revision = mcp_revision_find(name);
    s->initialize = 0;
    if (err && s->discover) {
        s->refused = *err; /* the other question may still bring an answer */
        return;
    }
    if (err) {
        session__fail(s, err);
        return;
    }
    if (!revision || revision->modern) {
        error_set(&why, ERR_UNSUPPORTED, "the server speaks revision '%.*s' of the protocol, which is not known.",
                  STR_ARG(str_slice(name, 0, 40)));
        session__fail(s, &why);
        return;
    }
    session__cancel_silently(s, &s->discover);
    read_capabilities(s, result);
    read_server_name(s, json_get(result, "serverInfo"));
    become_ready(s, revision);
}

static void send_initialize(struct session *s)
{
    char members[256];
    struct error err = {0};
    const char *protocol = s->options.config->protocol;
    if (s->initializing) {
        return;
    }
    s->initializing = true;
    snprintf(
        members, sizeof members,
        "\"protocolVersion\":\"%s\",\"capabilities\":{},\"clientInfo\":{\"name\":\"tandem\",\"version\":\"%.60s\"}",
        protocol ? protocol : mcp_revision_newest(false)->name, s->options.version);
    s->initialize = session_request(
        s,
        &(struct session_request){.method = "initialize", .members = str_of(members), .done = on_initialized, .arg = s},
        &err);
    if (!s->initialize) {
        session__fail(s, &err);
    }
}

/* ---- server/discover: 2026-07-28 ---- */

/* The newest of a server's revisions that is known here. */
static const struct mcp_revision *choose(const struct json *supported)
{
    for (size_t i = 0; i < mcp_revision_count(); i++) {
        for (size_t k = 0; k < json_len(supported); k++) {
            const struct json *v = json_at(supported, k);
            if (str_eq(json_str(v), str_of(mcp_revision_at(i)->name))) {
                return mcp_revision_at(i);
            }
        }
    }
    return NULL;
}

static void on_refused_revision(struct session *s, const struct json *supported)
{
    struct error why = {0};
    const struct mcp_revision *revision = choose(supported);
    if (revision && !revision->modern && !s->options.config->protocol) {
        send_initialize(s);
        return;
    }
    error_set(&why, ERR_UNSUPPORTED, "the server speaks no revision of the protocol that is known here.");
    session__fail(s, &why);
}

static bool is_final(const struct session *s, const struct error *err)
{
    int64_t code = s->answer ? s->answer->code : 0;
    return err->code == ERR_UNAUTHENTICATED || err->code == ERR_FORBIDDEN || err->code == ERR_UNAVAILABLE ||
           code == RPC_HEADER_MISMATCH || code == RPC_MISSING_CAPABILITY || s->options.config->protocol;
}

static void on_discover_failed(struct session *s, const struct error *err)
{
    if (s->answer && s->answer->code == RPC_UNSUPPORTED_VERSION) {
        on_refused_revision(s, json_get(s->answer->data, "supported"));
    } else if (s->refused.code) {
        session__fail(s, &s->refused);
    } else if (is_final(s, err)) {
        session__fail(s, err);
    } else {
        send_initialize(s);
    }
}

static void on_discovered(void *arg, const struct json *result, const struct error *err)
{
    struct session *s = arg;
    const struct json *supported = json_get(result, "supportedVersions");
    const struct mcp_revision *revision = choose(supported);
    s->discover = 0;
    if (err) {
        on_discover_failed(s, err);
        return;
    }
    if (!revision || !revision->modern) {
        on_refused_revision(s, supported);
        return;
    }
    session__cancel_silently(s, &s->initialize);
    read_capabilities(s, result);
    const struct json *info = json_get(result, "serverInfo");
    info = info ? info : json_get(json_get(result, "_meta"), "io.modelcontextprotocol/serverInfo");
    read_server_name(s, info);
    become_ready(s, revision);
}

static void send_discover(struct session *s)
{
    struct error err = {0};
    s->discover = session_request(
        s, &(struct session_request){.method = "server/discover", .done = on_discovered, .arg = s}, &err);
    if (!s->discover) {
        session__fail(s, &err);
    }
}

/* ---- time ---- */

static void on_probe_timer(void *arg)
{
    send_initialize(arg);
}

static void on_start_timer(void *arg)
{
    struct session *s = arg;
    struct error why = {0};
    error_set(&why, ERR_DEADLINE, "the server did not get ready within %lld ms.",
              (long long)s->options.start_timeout_ms);
    session__fail(s, &why);
}

/* What has changed while nobody listened is not said again. */
void session__missed(struct session *s)
{
    static const enum mcp_list lists[] = {MCP_TOOLS, MCP_RESOURCES, MCP_PROMPTS};
    for (size_t i = 0; i < ARRAY_LEN(lists) && !s->dead; i++) {
        if (s->changes[lists[i]]) {
            s->options.events.on_changed(s->options.events.arg, lists[i]);
        }
    }
}

static void on_listen_timer(void *arg)
{
    session__listen(arg);
    session__missed(arg);
}

bool session__prepare_start(struct session *s)
{
    struct loop *l = s->options.loop;
    s->probe_timer = loop_timer_create(l, on_probe_timer, s);
    s->start_timer = loop_timer_create(l, on_start_timer, s);
    s->listen_timer = loop_timer_create(l, on_listen_timer, s);
    return s->probe_timer && s->start_timer && s->listen_timer;
}

void session__start(struct session *s)
{
    const char *protocol = s->options.config->protocol;
    const struct mcp_revision *fixed = protocol ? mcp_revision_find(str_of(protocol)) : NULL;
    bool legacy = fixed ? !fixed->modern : s->options.legacy || s->options.kind == MCP_SSE;
    if (legacy) {
        send_initialize(s);
        return;
    }
    send_discover(s);
    if (!fixed && !s->dead) {
        loop_timer_start(s->probe_timer, SESSION_PROBE_MS, 0);
    }
}

/* ---- what changes, of 2026-07-28 ---- */

static void on_listen_end(void *arg, const struct json *result, const struct error *err)
{
    struct session *s = arg;
    (void)result;
    s->listen = 0;
    if (!s->dead && (!err || (err->code != ERR_NOT_IMPLEMENTED && err->code != ERR_INVALID))) {
        loop_timer_start(s->listen_timer, LISTEN_AGAIN_MS, 0);
    }
}

void session__listen(struct session *s)
{
    static const struct {
        enum mcp_list list;
        const char *member;
    } kinds[] = {
        {MCP_TOOLS, "toolsListChanged"}, {MCP_RESOURCES, "resourcesListChanged"}, {MCP_PROMPTS, "promptsListChanged"}};
    char members[200];
    struct error err = {0};
    int n = snprintf(members, sizeof members, "\"notifications\":{");
    bool any = false;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (s->changes[kinds[i].list]) {
            n += snprintf(members + n, sizeof members - (size_t)n, "%s\"%s\":true", any ? "," : "", kinds[i].member);
            any = true;
        }
    }
    snprintf(members + n, sizeof members - (size_t)n, "}");
    if (!any || s->dead) {
        return;
    }
    s->listen = session_request(
        s,
        &(struct session_request){
            .method = "subscriptions/listen", .members = str_of(members), .done = on_listen_end, .arg = s},
        &err);
    if (!s->listen) {
        session__fail(s, &err);
    }
}
