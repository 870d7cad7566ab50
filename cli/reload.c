#include "cli/reload.h"

#include "base/log.h"
#include "cli/models_list.h"

#define OPTIONS_MEMORY MIB(4)

void reload_app_options(const struct options *o, struct app_options *out)
{
    out->stream_interval_ms = o->stream_interval_ms;
    out->stream_interval_tokens = o->stream_interval_tokens;
    out->limits = (struct http_limits){.max_body = (size_t)o->max_body,
                                       .max_upload = ((size_t)o->file_max_mb << 20) + KIB(64),
                                       .max_connections = (int)o->max_connections,
                                       .max_client_connections = (int)o->max_client_connections,
                                       .header_timeout_ms = o->header_timeout_ms,
                                       .body_timeout_ms = o->body_timeout_ms,
                                       .min_body_rate = o->min_body_rate ? o->min_body_rate : -1,
                                       .idle_timeout_ms = o->idle_timeout_ms,
                                       .stall_timeout_ms = o->stall_timeout_ms};
    out->keepalive_ms = o->keepalive_ms;
    out->access = (struct access_options){.allowed_hosts = o->allowed_hosts.items,
                                          .n_allowed_hosts = o->allowed_hosts.n,
                                          .cors_origins = o->cors_origins.items,
                                          .n_cors_origins = o->cors_origins.n};
}

static bool apply(struct reload *r, const struct options *next, struct error *err)
{
    struct app_options a = app_options_default();
    enum log_level level = LOG_LEVEL_INFO;
    reload_app_options(next, &a);
    if ((next->log_level && !log_level_parse(next->log_level, &level, err)) || !app_reload(r->app, &a, err)) {
        return false;
    }
    log_set_level(level);
    return true;
}

static bool read_options(struct reload *r, struct buf *fixed, struct error *err)
{
    struct options next;
    struct arena *arena = arena_create(OPTIONS_MEMORY);
    if (!arena) {
        return error_set(err, ERR_NO_MEMORY, "no memory to read the options.");
    }
    if (!options_reload(&r->options, arena, &next, fixed, err) || !apply(r, &next, err)) {
        arena_free(arena);
        return false;
    }
    /* What cannot change still has the strings of the start, which live as long as the program. */
    arena_free(r->arena);
    r->arena = arena;
    r->options = next;
    return true;
}

static bool reload_options(struct reload *r, struct error *err)
{
    struct buf fixed;
    buf_init(&fixed, KIB(4));
    bool ok = read_options(r, &fixed, err);
    if (ok && fixed.len) {
        LOG_WARN("changed options that need a restart", "options=\"%s\"", fixed.data);
    }
    buf_release(&fixed);
    return ok;
}

static bool reload_keys(struct reload *r, struct error *err)
{
    return !r->options.api_keys || api_keys_read_file(r->keys, r->options.api_keys, err);
}

static bool reload_tls(struct reload *r, struct error *err)
{
    return app_reload_tls(r->app, err);
}

static bool reload_models(struct reload *r, struct error *err)
{
    struct models_list list;
    if (!r->models) {
        return true;
    }
    /* Nothing is brought now: this is the loop that every stream goes through. */
    struct models_bring bring = {.settings = r->hub};
    bool ok =
        models_list_make(r->models, &bring, &list, err) && gateway_set_models(r->gateway, list.items, list.n, err);
    if (ok) {
        LOG_INFO("list of models", "models=%zu", list.n);
        list.n = 0; /* they are the gateway's */
    }
    models_list_release(&list);
    return ok;
}

static const struct {
    const char *what;
    bool (*reload)(struct reload *r, struct error *err);
} parts[] = {
    {"options", reload_options}, {"API keys", reload_keys}, {"certificates", reload_tls}, {"models", reload_models}};

bool reload_all(struct reload *r)
{
    bool all = true;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        struct error err = {0};
        if (!parts[i].reload(r, &err)) {
            all = false;
            LOG_ERROR("not reloaded, everything of it stays as it was", "what=\"%s\" error=\"%s\"", parts[i].what,
                      err.msg);
        }
    }
    app_count_reload(r->app, all);
    if (all) {
        LOG_INFO("reloaded", "keys=%zu", api_keys_n(r->keys));
    }
    return all;
}

void reload_release(struct reload *r)
{
    arena_free(r->arena);
}
