#include "cli/model_hub.h"

#include "base/hash.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/sys_file.h"
#include "cli/commands.h"
#include "hub/remote.h"
#include "model/model.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- a client ---- */

bool model_hub_open(struct model_hub *h, const char *what, struct error *err)
{
    char agent[64];
    snprintf(agent, sizeof agent, "tandem/%s", tandem_version());
    *h = (struct model_hub){.client = NULL};
    hub_progress_init(&h->view, what);
    if (!hub_settings_read(&h->settings, err) || !hub_settings_read_token(&h->settings, err)) {
        return false;
    }
    h->client = hub_client_create(
        &(struct hub_client_options){
            .settings = &h->settings, .user_agent = agent, .on_wait = hub_progress_wait, .arg = &h->view},
        err);
    return h->client != NULL;
}

static void log_wait(void *arg, const struct error *err, int64_t wait_ms)
{
    (void)arg;
    LOG_WARN("the Hub is asked again", "error=\"%s\" wait_ms=%lld", err->msg, (long long)wait_ms);
}

static bool watched_stops(void *arg)
{
    const struct model_hub_watch *w = ((struct model_hub *)arg)->watch;
    return w->stops(w->arg);
}

bool model_hub_open_with(struct model_hub *h, const struct hub_settings *settings, const struct model_hub_watch *watch,
                         struct error *err)
{
    char agent[64];
    snprintf(agent, sizeof agent, "tandem/%s", tandem_version());
    *h = (struct model_hub){.settings = *settings, .watch = watch};
    h->client = hub_client_create(
        &(struct hub_client_options){
            .settings = &h->settings, .user_agent = agent, .on_wait = log_wait, .stops = watched_stops, .arg = h},
        err);
    return h->client != NULL;
}

void model_hub_close(struct model_hub *h)
{
    hub_client_free(h->client);
    hub_progress_end(&h->view); /* of one that shows nothing: nothing */
    memory_wipe(h->settings.token, sizeof h->settings.token);
    h->client = NULL;
}

/* ---- heads ---- */

/* Below the folder for temporary files, for this user alone. */
static bool make_folder(char out[HUB_PATH_MAX], struct error *err)
{
    const char *base = getenv("TMPDIR");
    int n = snprintf(out, HUB_PATH_MAX, "%s/tandem-heads-XXXXXX", base && base[0] ? base : "/tmp");
    return (n > 0 && n < HUB_PATH_MAX && mkdtemp(out)) ||
           error_set(err, ERR_IO, "no folder for the heads of a model could be made in '%.100s': %s.",
                     base && base[0] ? base : "/tmp", strerror(errno));
}

static bool open_heads(struct model_hub *h, const struct hub_reference *r, struct model_heads *out, struct error *err)
{
    char folder[HUB_PATH_MAX], path[HUB_PATH_MAX];
    if (!make_folder(folder, err)) {
        return false;
    }
    bool ok = hub_remote_heads(h->client, r->repo, &out->listing, &out->choice, folder, path, err) &&
              (out->file = model_file_open(path, err));
    hub_remote_clear(folder); /* the mapping stays */
    return ok;
}

/* On the way to the heads, which then say nothing of the model. */
static bool is_on_the_way(enum error_code code)
{
    return error_info(code)->retryable || code == ERR_IO || code == ERR_UNAUTHENTICATED || code == ERR_FORBIDDEN;
}

/* Opens the heads of the folder. *servable false: Tandem cannot serve what they say; they may be open all the same. */
static bool look_at_folder(struct model_hub *h, const struct hub_reference *r, struct model_heads *heads,
                           bool *servable, struct error *err)
{
    struct decoder_config config;
    struct error why_not = {0};
    *servable = hub_choose(&heads->listing, r, HUB_FOLDER_FIRST, heads->arena, &heads->choice, &why_not) &&
                open_heads(h, r, heads, &why_not) && decoder_config_read(heads->file, &config, &why_not);
    if (!*servable && is_on_the_way(why_not.code)) {
        *err = why_not;
        return false;
    }
    return true;
}

/* What hub_pull would take. */
static bool open_chosen(struct model_hub *h, const struct hub_reference *r, struct model_heads *out, struct error *err)
{
    bool servable = false;
    if (!hub_choose(&out->listing, r, HUB_FOLDER_LAST, out->arena, &out->choice, err)) {
        return error_wrap(err, "%s", r->repo);
    }
    if (!hub_choice_is_open(&out->listing, r, &out->choice)) {
        return open_heads(h, r, out, err);
    }
    if (!look_at_folder(h, r, out, &servable, err) || servable) {
        return servable;
    }
    model_file_close(out->file);
    out->file = NULL;
    return hub_choose(&out->listing, r, HUB_FOLDER_LAST, out->arena, &out->choice, err) && open_heads(h, r, out, err);
}

bool model_hub_heads(struct model_hub *h, const struct hub_reference *r, struct model_heads *out, struct error *err)
{
    *out = (struct model_heads){.arena = arena_create(LIMIT_HUB_ARENA)};
    if (!out->arena) {
        return error_set(err, ERR_NO_MEMORY, "no memory to look at a model.");
    }
    return hub_client_listing(h->client, r->repo, hub_reference_revision(r), out->arena, &out->listing, err) &&
           open_chosen(h, r, out, err);
}

void model_heads_release(struct model_heads *heads)
{
    model_file_close(heads->file);
    arena_free(heads->arena);
    *heads = (struct model_heads){0};
}

/* ---- bringing ---- */

static bool folder_is_servable(void *hub, const struct hub_listing *l, bool *servable, struct error *err)
{
    struct model_hub *h = hub;
    struct model_heads heads = {.arena = arena_create(LIMIT_HUB_ARENA), .listing = *l};
    if (!heads.arena) {
        return error_set(err, ERR_NO_MEMORY, "no memory to look at a model.");
    }
    bool ok = look_at_folder(h, h->pulled, &heads, servable, err);
    model_heads_release(&heads);
    return ok;
}

static void show(void *hub, const struct hub_progress *p)
{
    struct model_hub *h = hub;
    if (h->watch) {
        h->watch->progress(h->watch->arg, p->done, p->total);
    } else {
        hub_progress_show(&h->view, p);
    }
}

bool model_hub_pull(struct model_hub *h, const struct hub_reference *r, struct hub_pulled *out, struct error *err)
{
    h->pulled = r;
    bool ok = hub_pull(h->client, r,
                       &(struct hub_pull_options){.wants_folder = folder_is_servable, .on_progress = show, .arg = h},
                       out, err);
    hub_progress_end(&h->view);
    h->pulled = NULL;
    return ok;
}

static bool is_servable(const char *path)
{
    struct error ignored = {0};
    struct decoder_config config;
    struct model_file *file = model_file_open(path, &ignored);
    bool ok = file && decoder_config_read(file, &config, &ignored);
    model_file_close(file);
    return ok;
}

bool model_hub_cached(const char *cache, const struct hub_reference *r, struct hub_cached *out, struct error *err)
{
    struct hub_cached gguf;
    if (!hub_cache_find(cache, r, HUB_FOLDER_FIRST, out, err)) {
        return false;
    }
    if (out->state != HUB_COMPLETE || !out->is_folder || r->precision[0]) {
        return true;
    }
    if (!hub_cache_find(cache, r, HUB_FOLDER_LAST, &gguf, err)) {
        return false;
    }
    if (gguf.state == HUB_COMPLETE && !gguf.is_folder && !is_servable(out->path)) {
        *out = gguf;
    }
    return true;
}

static bool take_path(const struct hub_cached *c, char out[MODEL_PATH_MAX], struct error *err)
{
    int n = snprintf(out, MODEL_PATH_MAX, "%s", c->path);
    return n < MODEL_PATH_MAX || error_set(err, ERR_INVALID, "the path in the cache is too long.");
}

bool model_hub_path(const struct hub_reference *r, char out[MODEL_PATH_MAX], struct error *err)
{
    struct hub_settings settings;
    struct hub_cached cached;
    struct hub_pulled pulled;
    struct model_hub hub = {0};
    if (!hub_settings_read(&settings, err) || !model_hub_cached(settings.cache, r, &cached, err)) {
        return false;
    }
    if (cached.state == HUB_COMPLETE) {
        return take_path(&cached, out, err);
    }
    bool ok = model_hub_open(&hub, r->repo, err) && model_hub_pull(&hub, r, &pulled, err) &&
              take_path(&pulled.cached, out, err);
    model_hub_close(&hub);
    return ok;
}

/* The text itself too: the system shows the memory that the variables began in, whatever has become of them. */
static void forget(const char *name)
{
    char *value = getenv(name);
    if (value) {
        memory_wipe(value, strlen(value));
        unsetenv(name);
    }
}

void model_hub_forget_token(void)
{
    forget("HF_TOKEN");
    forget("HUGGING_FACE_HUB_TOKEN");
}
