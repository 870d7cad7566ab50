/* `tandem serve`: the gateway process. */
#include "api/app.h"
#include "api/warm_file.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/sys_proc.h"
#include "base/sys_service.h"
#include "cli/announce.h"
#include "cli/commands.h"
#include "cli/model_hub.h"
#include "cli/model_path.h"
#include "cli/models_list.h"
#include "cli/precision.h"
#include "cli/reload.h"
#include "engine/fault.h"
#include "gateway/memory_need.h"
#include "http/host.h"
#include "http/listener.h"
#include "pipeline/mcp/mcp_host.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#define KEY_VARIABLE  "TANDEM_API_KEY"
#define OTLP_FLUSH_MS 2000 /* for the last spans, at the end */
#define SERVE_WORKERS 1    /* beside an engine that wants the cores; requests are parsed one by one */

struct server {
    const struct options *options;
    struct loop *loop;
    struct gateway *gateway;
    struct app *app;
    struct api_keys *keys;
    struct reload reload;
    struct otlp *otlp;       /* NULL: no spans are sent */
    int n_closing;           /* of gateway, MCP servers and exporter, what is not closed yet */
    struct journal *journal; /* NULL: none */
    struct mcp_host *mcp;    /* NULL: none */
    struct warm_list warm;
    uv_signal_t sigterm, sigint, sighup;
    bool ends_with_terminal; /* SIGHUP may mean that it is gone */
    bool stopping, announced, failed;
    int64_t started_ms;
    struct error failure;
    bool many;                                             /* models are loaded on demand */
    struct models_list models;                             /* those, until the gateway has them */
    struct hub_settings hub;                               /* with --pull use or ask */
    bool pulls, asks;                                      /* with the one or the other; with the other */
    struct precision_found precision;                      /* of the one */
    char path[MODEL_PATH_MAX], draft_path[MODEL_PATH_MAX]; /* of the one; empty: no draft model */
    struct service service;
    struct announcer *announcer;
    int sockets[SERVICE_MAX_SOCKETS]; /* [n_sockets] opened by the service manager */
    int n_sockets;
};

/* ---- shutting down: drain, close the API, close the engines, leave the loop ---- */

static void on_part_closed(struct server *s)
{
    if (--s->n_closing) {
        return;
    }
    uv_close((uv_handle_t *)&s->sigterm, NULL);
    uv_close((uv_handle_t *)&s->sigint, NULL);
    uv_close((uv_handle_t *)&s->sighup, NULL);
    loop_stop(s->loop);
}

static void on_mcp_closed(void *arg)
{
    struct server *s = arg;
    mcp_host_free(s->mcp);
    s->mcp = NULL;
    on_part_closed(s);
}

static void on_gateway_closed(void *arg)
{
    struct server *s = arg;
    s->gateway = NULL;
    announcer_free(s->announcer);
    s->announcer = NULL;
    if (s->mcp) {
        mcp_host_close(s->mcp, on_mcp_closed, s);
    } else {
        on_part_closed(s);
    }
}

static void on_otlp_closed(void *arg)
{
    struct server *s = arg;
    s->otlp = NULL;
    on_part_closed(s);
}

/* Every request has ended: the last spans go out while the engines leave. */
static void on_app_closed(void *arg)
{
    struct server *s = arg;
    s->app = NULL;
    s->n_closing = 1 + (s->otlp != NULL);
    journal_close(s->journal);
    s->journal = NULL;
    gateway_close(s->gateway, on_gateway_closed, s);
    if (s->otlp) {
        otlp_close(s->otlp, OTLP_FLUSH_MS, on_otlp_closed, s);
    }
}

static void on_drained(void *arg)
{
    struct server *s = arg;
    if (s->app) {
        app_close(s->app, on_app_closed, s);
    } else {
        on_app_closed(s);
    }
}

static void stop(struct server *s, int64_t drain_ms)
{
    s->stopping = true;
    announcer_stopping(s->announcer);
    if (s->app) {
        app_stop_accepting(s->app);
    }
    gateway_drain(s->gateway, drain_ms, on_drained, s);
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct server *s = handle->data;
    if (s->stopping) {
        LOG_WARN("second signal: leaving at once", NULL);
        _Exit(128 + number); /* engines end with their sockets */
    }
    int64_t drain_ms = s->reload.options.drain_timeout_ms;
    LOG_INFO("stopping", "signal=%d drain_ms=%lld", number, (long long)drain_ms);
    stop(s, drain_ms);
}

/* The same signal says that the terminal in which the server was started has been closed: then it ends, unless it was
 * told not to (nohup). */
static void on_hangup(uv_signal_t *handle, int number)
{
    struct server *s = handle->data;
    if (s->ends_with_terminal && !sys_has_terminal()) {
        if (!s->stopping) {
            on_signal(handle, number);
        }
    } else if (!s->stopping && s->app) {
        announcer_reloading(s->announcer);
        announcer_reloaded(s->announcer, reload_all(&s->reload) ? NULL : "a part was not reloaded: see the log");
    }
}

/* ---- starting ---- */

static bool is_loopback(struct str where)
{
    struct http_host host;
    return str_starts(where, STR("unix:")) || (http_host_parse(where, &host) && http_host_is_loopback(&host));
}

/* Of a descriptor that was handed over, what it listens on; one that does not listen is refused when it is opened. */
static bool is_local(const char *where)
{
    int fd;
    char address[160];
    if (!listener_fd_of(where, &fd)) {
        return is_loopback(str_of(where));
    }
    return !listener_describe(fd, address, sizeof address) || is_loopback(str_of(address));
}

static bool check_bind(const struct server *s, const struct option_list *listen, struct error *err)
{
    for (int i = 0; i < listen->n; i++) {
        if (!is_local(listen->items[i]) && !api_keys_n(s->keys) && !s->options->insecure_no_auth) {
            return error_set(err, ERR_INVALID,
                             "listening on %.60s would open the server to other machines, and it has no keys: give it "
                             "some (--api-keys FILE or " KEY_VARIABLE "), or --insecure-no-auth to do it all the same.",
                             listen->items[i]);
        }
    }
    return true;
}

/* The variable goes from the environment, so that neither engines nor the list of processes show it. */
static bool read_keys(struct server *s, struct error *err)
{
    const struct options *o = s->options;
    char *list = getenv(KEY_VARIABLE);
    s->keys = api_keys_create();
    if (!s->keys) {
        return error_set(err, ERR_NO_MEMORY, "no memory for API keys.");
    }
    if (list && !api_keys_set_list(s->keys, list, err)) {
        return error_wrap(err, KEY_VARIABLE);
    }
    unsetenv(KEY_VARIABLE);
    if (o->api_keys && !api_keys_read_file(s->keys, o->api_keys, err)) {
        return false;
    }
    if (o->cache_salt_per_key && !api_keys_n(s->keys)) {
        return error_set(err, ERR_INVALID,
                         "--cache-salt-per-key needs keys: give --api-keys FILE or " KEY_VARIABLE ".");
    }
    if (o->cache_salt_per_key && o->warm_prompts) {
        return error_set(err, ERR_INVALID,
                         "--warm-prompts have no key: with --cache-salt-per-key no request would find them.");
    }
    return true;
}

static void on_state(void *arg, struct served_model *m)
{
    struct server *s = arg;
    enum model_state state = served_model_state(m);
    announcer_look(s->announcer);
    if (state == MODEL_READY && !s->announced) {
        s->announced = true;
        LOG_INFO("ready", "model=%s start_ms=%lld", served_model_name(m), (long long)(clock_ms() - s->started_ms));
    }
    /* A model that never was ready and cannot be loaded: there is nothing to serve. */
    if (!s->many && state == MODEL_FAILED && !served_model_info(m) && !s->stopping) {
        s->failed = true;
        s->failure = *served_model_failure(m);
        stop(s, 0);
    }
}

/* What is said about one model has no meaning with many. */
static bool check_many(const struct options *o, struct error *err)
{
    const struct {
        bool given;
        const char *name, *instead;
    } wrong[] = {
        {o->names.n > 0, "--served-model-name", "\"names\" in the file of --models"},
        {o->warm_prompts != NULL, "--warm-prompts", "a server with one model"},
        {o->loras.n > 0, "--lora", "\"lora\" among the \"options\" of a model in the file of --models"},
        {o->kv_disk_dir != NULL, "--kv-disk-dir", "a folder for each model in the file of --models"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        if (wrong[i].given) {
            return error_set(err, ERR_INVALID, "%s is for one model that is always loaded: use %s.", wrong[i].name,
                             wrong[i].instead);
        }
    }
    return true;
}

static bool check_model_options(const struct options *o, struct error *err)
{
    uint64_t disk_size;
    if (!options_kv_disk(o, &disk_size, err)) {
        return false;
    }
    if (o->warm_wait && !o->warm_prompts) {
        return error_set(err, ERR_INVALID, "--warm-wait waits for the prompts of --warm-prompts: name their file.");
    }
    if (o->warm_prompts && !o->prefix_cache) {
        return error_set(err, ERR_INVALID,
                         "--warm-prompts needs the prefix cache, which --prefix-cache off leaves out.");
    }
    return true;
}

static bool add_models(struct server *s, struct error *err)
{
    const struct options *o = s->options;
    if (!check_model_options(o, err)) {
        return false;
    }
    if (s->many) {
        bool ok = gateway_set_models(s->gateway, s->models.items, s->models.n, err);
        s->models.n = ok ? 0 : s->models.n; /* they are the gateway's */
        return ok;
    }
    struct served_model_options m = served_options(o, s->path, s->draft_path[0] ? s->draft_path : NULL);
    if (o->names.n == 0 && model_path_is_name(o->model)) { /* its file is named after a commit, or a blob */
        m.names = &o->model;
        m.n_names = 1;
    }
    m.warm = s->warm.n ? &s->warm : NULL;
    m.kv_memory = s->precision.kv_memory ? s->precision.kv_memory : o->kv_memory;
    m.precision_bits = s->precision.bits;
    m.precision_why = s->precision.why;
    return gateway_add_model(s->gateway, &m, err);
}

struct places {
    struct option_list list;
    char texts[SERVICE_MAX_SOCKETS][300];
};

/* What the service manager has opened; else --listen; else --host and --port. */
static void find_places(const struct server *s, struct places *p)
{
    const struct options *o = s->options;
    p->list = o->listen;
    if (s->n_sockets) {
        p->list.n = 0;
    }
    for (int i = 0; i < s->n_sockets; i++) {
        snprintf(p->texts[i], sizeof p->texts[i], "fd:%d", s->sockets[i]);
        p->list.items[p->list.n++] = p->texts[i];
    }
    if (p->list.n == 0) {
        snprintf(p->texts[0], sizeof p->texts[0], strchr(o->host, ':') ? "[%.250s]:%lld" : "%.250s:%lld", o->host,
                 (long long)o->port);
        p->list.items[p->list.n++] = p->texts[0];
    }
}

/* With the URL that clients ask, where it listens on TCP. */
static void say_listening(const struct options *o, const char *place, int port)
{
    char address[300];
    int fd;
    if (!listener_fd_of(place, &fd) || !listener_describe(fd, address, sizeof address)) {
        snprintf(address, sizeof address, "%s", place);
    }
    struct str host = str_of(address);
    while (host.len && host.ptr[host.len - 1] != ':') {
        host.len--;
    }
    host = str_slice(host, 0, host.len ? host.len - 1 : 0);
    if (str_starts(str_of(address), STR("unix:"))) {
        LOG_INFO("listening", "address=%s", address);
    } else {
        LOG_INFO("listening", "address=%s port=%d url=%s://" STR_FMT ":%d", address, port,
                 o->tls_cert ? "https" : "http", STR_ARG(host), port);
    }
}

static struct served_model *ask_for_model(void *arg, struct str name, struct error *err)
{
    struct server *s = arg;
    struct served_model_options options;
    bool is_one;
    struct served_model *m = NULL;
    if (models_list_ask(s->options, &s->hub, name, &options, &is_one, err) && is_one) {
        m = gateway_add_asked(s->gateway, &options, err);
    }
    if (!m) {
        arena_free(options.arena);
    }
    return m;
}

static bool start_app(struct server *s, struct error *err)
{
    const struct options *o = s->options;
    struct places places;
    find_places(s, &places);
    struct option_list listen = places.list;
    struct app_options a = app_options_default();
    a.gateway = s->gateway;
    a.listen = listen.items;
    a.n_listen = listen.n;
    a.strict_fields = o->strict_fields;
    a.drop_volatile_lines = o->drop_volatile_lines;
    a.version = tandem_build();
    a.otlp = s->otlp;
    a.log_content = o->log_content;
    a.tls = (struct tls_files){.cert_path = o->tls_cert, .key_path = o->tls_key};
    a.journal = s->journal;
    a.max_file = (uint64_t)o->file_max_mb << 20;
    a.max_files = (uint64_t)o->files_max_mb << 20;
    a.batch_max_rows = (uint64_t)o->batch_max_rows;
    a.batch_max_running = (size_t)o->batch_max_running;
    a.batch_patience_ms = o->batch_patience_ms;
    a.ask_for_model = s->asks ? ask_for_model : NULL;
    a.ask_arg = s;
    a.mcp = s->mcp;
    a.keys = s->keys;
    a.cache_salt_per_key = o->cache_salt_per_key;
    reload_app_options(o, &a);
    if (!check_bind(s, &listen, err) || !(s->app = app_create(&a, err))) {
        return false;
    }
    for (int i = 0; i < listen.n; i++) {
        say_listening(o, listen.items[i], app_port(s->app, i));
    }
    s->reload = (struct reload){.app = s->app,
                                .keys = s->keys,
                                .options = *o,
                                .gateway = s->gateway,
                                .hub = s->pulls ? &s->hub : NULL,
                                .models = s->many ? s->options : NULL};
    return true;
}

static bool open_journal(struct server *s, struct error *err)
{
    const struct options *o = s->options;
    bool full = strcmp(o->journal_sync, "full") == 0;
    if (!o->journal) {
        return true;
    }
    if (!full && strcmp(o->journal_sync, "normal") != 0) {
        return error_set(err, ERR_INVALID, "--journal-sync: expected normal or full, but got '%.60s'.",
                         o->journal_sync);
    }
    struct journal_options j = {.loop = s->loop,
                                .dir = o->journal,
                                .full_sync = full,
                                .max_size = (uint64_t)o->journal_max_mb << 20,
                                .max_age_s = (int64_t)(o->journal_max_age_hours * 3600)};
    s->journal = journal_open(&j, err);
    return s->journal != NULL;
}

static void watch_signal(struct server *s, uv_signal_t *handle, int number, uv_signal_cb fn)
{
    uv_signal_init(loop_uv(s->loop), handle);
    handle->data = s;
    uv_signal_start(handle, fn, number);
}

static bool show_quantizing(void *arg, double fraction)
{
    int *shown = arg; /* tenths */
    if ((int)(10 * fraction) > *shown) {
        *shown = (int)(10 * fraction);
        LOG_INFO("quantizing", "percent=%d", 10 * *shown);
    }
    return true;
}

/* The file to serve: the model's own, or one of fewer bits that is made of it. */
static bool find_precision(struct server *s, char path[MODEL_PATH_MAX], struct error *err)
{
    const struct options *o = s->options;
    enum kv_type type;
    int shown = 0;
    if (o->script || !kv_type_parse(o->kv_type, &type, err)) {
        return o->script != NULL;
    }
    struct precision_wanted wanted = precision_wanted_by(o, type, PRECISION_SERVE_SEQUENCES, SERVED_DEFAULT_SEQUENCES);
    wanted.draft_path = s->draft_path[0] ? s->draft_path : NULL;
    if (!precision_resolve(path, &wanted, show_quantizing, &shown, &s->precision, err)) {
        return false;
    }
    memcpy(path, s->precision.path, MODEL_PATH_MAX);
    return true;
}

static void watch_signals(struct server *s)
{
    struct sigaction hangup;
    s->ends_with_terminal = sigaction(SIGHUP, NULL, &hangup) == 0 && hangup.sa_handler != SIG_IGN && sys_has_terminal();
    watch_signal(s, &s->sigterm, SIGTERM, on_signal);
    watch_signal(s, &s->sigint, SIGINT, on_signal);
    watch_signal(s, &s->sighup, SIGHUP, on_hangup);
}

static bool start_otlp(struct server *s, struct error *err)
{
    struct otlp_options options = {.loop = s->loop,
                                   .endpoint = s->options->otlp_endpoint,
                                   .headers = getenv("OTEL_EXPORTER_OTLP_HEADERS"),
                                   .service_name = getenv("OTEL_SERVICE_NAME"),
                                   .version = tandem_version(),
                                   .sample = (double)s->options->otlp_sample};
    if (!s->options->otlp_endpoint) {
        return true;
    }
    s->otlp = otlp_create(&options, err);
    return s->otlp || error_wrap(err, "--otlp-endpoint");
}

static bool start_mcp(struct server *s, struct error *err)
{
    const struct options *o = s->options;
    struct mcp_host_options options = {.loop = s->loop,
                                       .config_path = o->mcp_config,
                                       .version = tandem_version(),
                                       .max_turns = o->mcp_max_turns,
                                       .by_default = o->mcp_default,
                                       .log_content = o->log_content};
    if (!o->mcp_config) {
        return !o->mcp_default ||
               error_set(err, ERR_INVALID, "--mcp-default needs servers: name their file with --mcp-config.");
    }
    s->mcp = mcp_host_create(&options, err);
    return s->mcp || error_wrap(err, "--mcp-config");
}

static bool start(struct server *s, struct error *err)
{
    const struct options *o = s->options;
    struct gateway_options g = gateway_options_default();
    g.loop = s->loop;
    g.restart = (struct restart_policy){.initial_ms = o->retry_initial_ms,
                                        .max_ms = o->retry_max_ms,
                                        .multiplier = (double)o->retry_multiplier,
                                        .limit = (int)o->restart_limit,
                                        .window_ms = o->restart_window_ms,
                                        .retry_ms = o->restart_retry_ms};
    g.retry_limit = (uint32_t)o->retry_limit;
    g.rows_patience_ms = o->batch_patience_ms;
    g.watchdog = (struct watchdog_limits){.stopped_ms = o->heartbeat_timeout_ms, .hang_ms = o->hang_timeout_ms};
    g.on_state = on_state;
    g.on_state_arg = s;
    g.pressure_file = s->options->pressure_file;
    g.keys = s->keys;
    g.memory = o->memory ? o->memory : s->models.memory;
    g.memory = g.memory || !s->many ? g.memory : memory_default_budget();
    if (!start_mcp(s, err)) {
        return false;
    }
    g.mcp = s->mcp;
    s->gateway = gateway_create(&g, err);
    if (!s->gateway) {
        return false;
    }
    s->announcer = announcer_create(s->gateway, &s->service);
    if (!start_otlp(s, err) || !open_journal(s, err) || !start_app(s, err) || !add_models(s, err)) {
        return false;
    }
    app_resume(s->app);
    return true;
}

static void release(struct server *s)
{
    models_list_release(&s->models);
    warm_list_release(&s->warm);
    reload_release(&s->reload);
    api_keys_free(s->keys);
    memory_wipe(s->hub.token, sizeof s->hub.token);
}

/* The token is read now: it goes from the environment. */
static bool find_pull(struct server *s, struct error *err)
{
    const char *when = s->options->pull;
    s->asks = strcmp(when, "ask") == 0;
    s->pulls = s->asks || strcmp(when, "use") == 0;
    if (!s->pulls && strcmp(when, "start") != 0) {
        return error_set(err, ERR_INVALID, "--pull: expected start, use or ask, but got '%.60s'.", when);
    }
    return !s->pulls || (hub_settings_read(&s->hub, err) && hub_settings_read_token(&s->hub, err));
}

/* What it serves: one model, or a list of them. */
static bool find_models(struct server *s, struct error *err)
{
    const struct options *o = s->options;
    s->many = models_list_wanted(o);
    if (s->many) {
        struct models_bring bring = {.now = true};
        if (!check_many(o, err) || !find_pull(s, err)) {
            return false;
        }
        bring.settings = s->pulls ? &s->hub : NULL;
        if (!models_list_make(o, &bring, &s->models, err)) {
            return false;
        }
        return s->models.n > 0 || s->asks ||
               error_set(err, ERR_INVALID,
                         "`tandem serve` needs a model: a path, or a name such as smollm2:135m. There is none in the "
                         "models folder, and --models names none.");
    }
    if (strcmp(o->pull, "start") != 0) {
        return error_set(err, ERR_INVALID, "--pull has no effect with one model, which is loaded at the start.");
    }
    if (o->keep_alive) {
        return error_set(err, ERR_INVALID, "--keep-alive has no effect with one model, which is always loaded.");
    }
    return model_path_resolve(o->model, s->path, err) &&
           (!o->draft_model || model_path_resolve(o->draft_model, s->draft_path, err)) &&
           find_precision(s, s->path, err);
}

int command_serve(const struct options *o)
{
    struct error err = {0};
    struct server s = {.options = o, .reload.options = *o, .started_ms = clock_ms()};
    enum speculation checked;
    struct fault *fault = NULL;
    bool understood = fault_create(o->fault, &fault, &err);
    fault_free(fault);
    if (!understood) {
        return command_fail(&err);
    }
    service_init(&s.service);
    s.n_sockets = service_sockets(s.sockets);
    if (!find_models(&s, &err) || !options_speculation(o, &checked, &err) ||
        (o->warm_prompts && !warm_file_read(o->warm_prompts, &s.warm, &err)) || !read_keys(&s, &err) ||
        !(s.loop = loop_create(SERVE_WORKERS, &err))) {
        release(&s);
        return command_fail(&err);
    }
    model_hub_forget_token();
    watch_signals(&s);
    if (!start(&s, &err)) {
        s.failed = true;
        s.failure = err;
        if (!s.gateway) {
            return command_fail(&err);
        }
        stop(&s, 0);
    }
    loop_run(s.loop);
    loop_free(s.loop);
    release(&s);
    return s.failed ? command_fail(&s.failure) : 0;
}
