#include "hub/pull.h"

#include "base/limits.h"
#include "hub/download.h"

#include <stdio.h>

struct pull {
    struct hub_client *client;
    const struct hub_reference *r;
    struct hub_pull_options o;
    enum hub_folder_use folder;
    struct hub_listing listing;
    struct hub_choice choice;
    struct hub_store *store;
    struct hub_progress progress;
    uint64_t found; /* of the file that comes now: bytes that were there already */
};

static void show(struct pull *p)
{
    if (p->o.on_progress) {
        p->o.on_progress(p->o.arg, &p->progress);
    }
}

static void on_bytes(void *arg, uint64_t n)
{
    struct pull *p = arg;
    uint64_t found = n < p->found ? n : p->found;
    p->found -= found;
    p->progress.done += n;
    p->progress.brought += n - found;
    p->progress.waiting = false;
    show(p);
}

static void on_lost(void *arg, uint64_t n)
{
    struct pull *p = arg;
    p->progress.done -= n < p->progress.done ? n : p->progress.done;
    show(p);
}

static void on_busy(void *arg)
{
    struct pull *p = arg;
    p->progress.waiting = true;
    show(p);
}

/* ---- room ---- */

static bool check_room(struct pull *p, struct error *err)
{
    uint64_t needed = 0, available;
    for (size_t i = 0; i < p->choice.n; i++) {
        const struct hub_file *f = p->choice.files[i];
        uint64_t there = hub_store_has(p->store, f->etag, f->size) ? f->size : hub_store_partial(p->store, f->etag);
        needed += there < f->size ? f->size - there : 0;
    }
    if (needed == 0 || !hub_store_space(p->store, &available)) {
        return true;
    }
    uint64_t room = available > PULL_RESERVE ? available - PULL_RESERVE : 0;
    return needed <= room ||
           error_set(
               err, ERR_IO,
               "there is no room for %s: %.1f GiB have still to come, and %.1f GiB are free in the cache (HF_HOME). "
               "`tandem list` and `tandem rm` show and free some.",
               p->r->repo, (double)needed / (double)GIB(1), (double)room / (double)GIB(1));
}

/* ---- files ---- */

static bool bring_content(struct pull *p, const struct hub_file *f, struct error *err)
{
    struct hub_download d = {.client = p->client,
                             .store = p->store,
                             .repo = p->r->repo,
                             .commit = p->listing.commit,
                             .file = f,
                             .on_bytes = on_bytes,
                             .on_lost = on_lost,
                             .on_busy = on_busy,
                             .arg = p};
    if (hub_store_has(p->store, f->etag, f->size)) {
        p->found = f->size;
        on_bytes(p, f->size);
        return true;
    }
    p->found = hub_store_partial(p->store, f->etag);
    return hub_download_run(&d, err);
}

static bool bring_file(struct pull *p, const struct hub_file *f, struct error *err)
{
    p->progress.file = f->path.ptr;
    if (!bring_content(p, f, err) || !hub_store_link(p->store, p->listing.commit, f->path, f->etag, err)) {
        return false;
    }
    p->progress.n_done++;
    return true;
}

/* A name that led nowhere leads to what has begun to come; one that led to a whole model moves when this one is whole.
 */
static bool begin(struct pull *p, struct error *err)
{
    struct hub_cached before;
    const char *revision = hub_reference_revision(p->r), *cache = hub_client_context(p->client)->settings->cache;
    if (!hub_cache_find(cache, p->r, p->folder, &before, err) ||
        !hub_store_snapshot(p->store, p->listing.commit, err)) {
        return false;
    }
    return before.state == HUB_COMPLETE || hub_store_ref(p->store, revision, p->listing.commit, err);
}

static bool bring_files(struct pull *p, struct error *err)
{
    p->progress.total = p->choice.size;
    p->progress.n_files = p->choice.n;
    bool ok = check_room(p, err) && begin(p, err);
    for (size_t i = 0; ok && i < p->choice.n; i++) {
        ok = bring_file(p, p->choice.files[i], err);
    }
    p->progress.file = NULL;
    if (ok) {
        show(p);
    }
    return ok && hub_store_ref(p->store, hub_reference_revision(p->r), p->listing.commit, err);
}

/* ---- all of it ---- */

/* The GGUF file, when both are there and the folder is not wanted. */
static bool choose(struct pull *p, struct arena *arena, struct error *err)
{
    bool ok = hub_choose(&p->listing, p->r, HUB_FOLDER_LAST, arena, &p->choice, err);
    bool both = ok && hub_choice_is_open(&p->listing, p->r, &p->choice);
    bool wants = true;
    if (both && p->o.wants_folder && !p->o.wants_folder(p->o.arg, &p->listing, &wants, err)) {
        return false;
    }
    p->folder = wants ? HUB_FOLDER_FIRST : HUB_FOLDER_LAST;
    if (both && wants) {
        ok = hub_choose(&p->listing, p->r, HUB_FOLDER_FIRST, arena, &p->choice, err);
    }
    return ok || error_wrap(err, "%s", p->r->repo);
}

static bool check_parts(const struct pull *p, struct error *err)
{
    char missing[HUB_FILE_MAX + 1];
    return !hub_choice_lacks(&p->choice, missing, sizeof missing) ||
           error_set(err, ERR_NOT_FOUND, "%s lacks a part of the model: %.100s.", p->r->repo, missing);
}

/* The cache holds a folder without a tokenizer for one that has not come whole, as long as something else has not. */
static bool is_whole(const struct pull *p, const struct hub_cached *c)
{
    bool only_tokenizer = c->path[0] && strcmp(c->missing, "tokenizer.json") == 0;
    return c->state == HUB_COMPLETE || (only_tokenizer && !hub_listing_find(&p->listing, STR("tokenizer.json")));
}

static bool take_result(const struct pull *p, struct hub_pulled *out, struct error *err)
{
    const char *cache = hub_client_context(p->client)->settings->cache;
    out->brought = p->progress.brought;
    if (!hub_cache_find(cache, p->r, p->folder, &out->cached, err)) {
        return false;
    }
    return is_whole(p, &out->cached) ||
           error_set(err, ERR_IO, "%s was brought, but is not found in the cache '%.100s'.", p->r->repo, cache);
}

bool hub_pull(struct hub_client *c, const struct hub_reference *r, const struct hub_pull_options *options,
              struct hub_pulled *out, struct error *err)
{
    struct pull p = {.client = c, .r = r, .o = *options};
    struct arena *arena = arena_create(LIMIT_HUB_ARENA);
    if (!arena) {
        return error_set(err, ERR_NO_MEMORY, "no memory to bring a model.");
    }
    bool ok = hub_client_listing(c, r->repo, hub_reference_revision(r), arena, &p.listing, err);
    ok = ok && choose(&p, arena, err) && check_parts(&p, err) &&
         (p.store = hub_store_open(hub_client_context(c)->settings->cache, r->repo, err)) && bring_files(&p, err) &&
         take_result(&p, out, err);
    hub_store_free(p.store);
    arena_free(arena);
    return ok;
}
