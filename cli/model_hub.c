#include "cli/model_hub.h"

#include "base/limits.h"
#include "base/sys_file.h"
#include "cli/commands.h"
#include "hub/remote.h"
#include "model/model.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- a client ---- */

bool model_hub_open(struct model_hub *h, const char *what, struct error *err)
{
    static const char agent[] = "tandem";
    hub_progress_init(&h->view, what);
    h->client = NULL;
    if (!hub_settings_read(&h->settings, err)) {
        return false;
    }
    h->client = hub_client_create(&(struct hub_client_options){.settings = &h->settings,
                                                               .user_agent = agent,
                                                               .on_wait = hub_progress_wait,
                                                               .arg = &h->view},
                                  err);
    return h->client != NULL;
}

void model_hub_close(struct model_hub *h)
{
    hub_client_free(h->client);
    hub_progress_end(&h->view);
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

bool model_hub_heads(struct model_hub *h, const struct hub_reference *r, struct model_heads *out, struct error *err)
{
    *out = (struct model_heads){.arena = arena_create(LIMIT_HUB_ARENA)};
    if (!out->arena) {
        return error_set(err, ERR_NO_MEMORY, "no memory to look at a model.");
    }
    bool ok = hub_client_listing(h->client, r->repo, hub_reference_revision(r), out->arena, &out->listing, err);
    ok = ok && (hub_choose(&out->listing, r, HUB_FOLDER_FIRST, out->arena, &out->choice, err) ||
                error_wrap(err, "%s", r->repo));
    return ok && open_heads(h, r, out, err);
}

void model_heads_release(struct model_heads *heads)
{
    model_file_close(heads->file);
    arena_free(heads->arena);
    *heads = (struct model_heads){0};
}

/* ---- which of both ---- */

static bool has_both(const struct hub_listing *l, struct arena *arena)
{
    struct hub_choice c;
    struct error ignored = {0};
    struct hub_reference any = {.kind = HUB_REPO};
    return hub_has_folder(l) && hub_choose(l, &any, HUB_FOLDER_LAST, arena, &c, &ignored) && !c.is_folder;
}

static bool folder_is_servable(struct model_hub *h, const struct hub_reference *r, struct model_heads *heads)
{
    struct decoder_config config;
    struct error why_not = {0};
    return hub_choose(&heads->listing, r, HUB_FOLDER_FIRST, heads->arena, &heads->choice, &why_not) &&
           open_heads(h, r, heads, &why_not) && decoder_config_read(heads->file, &config, &why_not);
}

bool model_hub_folder_use(struct model_hub *h, const struct hub_reference *r, enum hub_folder_use *out,
                          struct error *err)
{
    struct model_heads heads = {0};
    *out = HUB_FOLDER_FIRST;
    if (r->file[0] || r->precision[0]) {
        return true;
    }
    if (!(heads.arena = arena_create(LIMIT_HUB_ARENA))) {
        return error_set(err, ERR_NO_MEMORY, "no memory to look at a model.");
    }
    bool ok =
        hub_client_listing(h->client, r->repo, hub_reference_revision(r), heads.arena, &heads.listing, err);
    if (ok && has_both(&heads.listing, heads.arena) && !folder_is_servable(h, r, &heads)) {
        *out = HUB_FOLDER_LAST;
    }
    model_heads_release(&heads);
    return ok;
}

/* ---- bringing ---- */

bool model_hub_pull(struct model_hub *h, const struct hub_reference *r, struct hub_pulled *out, struct error *err)
{
    struct hub_pull_options o = {.on_progress = hub_progress_show, .arg = &h->view};
    bool ok = model_hub_folder_use(h, r, &o.folder, err) && hub_pull(h->client, r, &o, out, err);
    hub_progress_end(&h->view);
    return ok;
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
    if (!hub_settings_read(&settings, err) || !hub_cache_find(settings.cache, r, HUB_FOLDER_FIRST, &cached, err)) {
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
