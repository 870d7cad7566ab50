/* `tandem pull`, `rm`, `search` and `alias`. */
#include "cli/commands.h"
#include "cli/model_hub.h"

#include "base/json.h"
#include "base/limits.h"
#include "base/sys_file.h"
#include "hub/registry.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OUT_MAX MIB(16)

/* ---- references ---- */

/* An alias of one counts too. What is no repository cannot be brought or removed. */
static bool read_repo(const char *command, const char *text, struct hub_reference *out, struct error *err)
{
    char path[MODEL_PATH_MAX], reference[MODEL_PATH_MAX];
    struct hub_registry registry;
    if (!text) {
        return error_set(err, ERR_INVALID,
                         "`tandem %s` needs a model of the Hub: owner/name, with @revision and "
                         ":precision or :file behind it where wanted.",
                         command);
    }
    struct arena *arena = arena_create(2 * LIMIT_REGISTRY_FILE);
    const char *alias = NULL;
    bool ok = arena || error_set(err, ERR_NO_MEMORY, "no memory for the registry.");
    if (ok && !strchr(text, '/')) {
        ok = hub_registry_path(path, sizeof path, err) && hub_registry_read(path, arena, &registry, err);
        alias = ok ? hub_registry_find(&registry, text) : NULL;
    }
    snprintf(reference, sizeof reference, "%s", alias ? alias : text);
    arena_free(arena);
    if (!ok || !hub_reference_parse(reference, out, err)) {
        return false;
    }
    return out->kind == HUB_REPO ||
           error_set(err, ERR_INVALID, "'%.100s' is no model of the Hub; expected owner/name, or an alias of one.",
                     text);
}

/* ---- pull ---- */

int command_pull(const struct options *o)
{
    struct error err = {0};
    struct hub_reference r;
    struct model_hub hub = {0};
    struct hub_pulled pulled = {0};
    char size[24];
    if (!read_repo("pull", o->model, &r, &err)) {
        return command_fail(&err);
    }
    bool ok = model_hub_open(&hub, r.repo, &err) && model_hub_pull(&hub, &r, &pulled, &err);
    model_hub_close(&hub);
    if (!ok) {
        return command_fail(&err);
    }
    hub_size_text(pulled.brought, size);
    printf("%s\n", pulled.cached.path);
    fprintf(stderr, pulled.brought ? "tandem: %s of %s have come.\n" : "tandem: all of it was here already.\n", size,
            r.repo);
    return 0;
}

/* ---- rm ---- */

int command_rm(const struct options *o)
{
    struct error err = {0};
    struct hub_reference r;
    struct hub_settings settings;
    struct hub_removed removed;
    char size[24];
    if (!read_repo("rm", o->model, &r, &err) || !hub_settings_read(&settings, &err) ||
        !hub_cache_remove(settings.cache, &r, &removed, &err)) {
        return command_fail(&err);
    }
    hub_size_text(removed.size, size);
    printf("%s removed: %zu files, %s freed\n", o->model, removed.n_files, size);
    return 0;
}

/* ---- search ---- */

static void print_out(struct buf *out)
{
    fwrite(out->data ? out->data : "", 1, out->len, stdout);
    buf_release(out);
}

static const char *formats_of(const struct hub_found *f)
{
    return f->gguf && f->safetensors ? "gguf, safetensors" : f->gguf ? "gguf" : f->safetensors ? "safetensors" : "-";
}

static void found_json(const struct hub_search *s, struct buf *out)
{
    struct json_writer w = json_writer(out);
    json_begin_array(&w);
    for (size_t i = 0; i < s->n; i++) {
        const struct hub_found *f = &s->items[i];
        json_begin_object(&w);
        json_member_str(&w, "name", f->repo);
        json_member_int(&w, "downloads", f->downloads);
        json_member_int(&w, "likes", f->likes);
        json_member_bool(&w, "gguf", f->gguf);
        json_member_bool(&w, "safetensors", f->safetensors);
        json_member_bool(&w, "gated", f->gated);
        json_end_object(&w);
    }
    json_end_array(&w);
    buf_putc(out, '\n');
}

static void found_text(const struct hub_search *s, struct buf *out)
{
    if (s->n) {
        buf_printf(out, "%-64s %12s  %s\n", "model", "downloads", "formats");
    }
    for (size_t i = 0; i < s->n; i++) {
        const struct hub_found *f = &s->items[i];
        buf_printf(out, "%-64s %12lld  %s%s\n", f->repo.ptr, (long long)f->downloads, formats_of(f),
                   f->gated ? ", gated" : "");
    }
    if (s->n == 0) {
        buf_puts(out, "nothing found\n");
    }
}

static void join_words(const struct options *o, struct buf *out)
{
    buf_puts(out, o->model);
    for (int i = 0; i < o->arguments.n; i++) {
        buf_printf(out, " %s", o->arguments.items[i]);
    }
}

static bool search(const struct options *o, struct buf *out, struct error *err)
{
    struct model_hub hub = {0};
    struct hub_search found;
    struct buf words;
    struct arena *arena = arena_create(LIMIT_HUB_ARENA);
    buf_init(&words, KIB(2));
    join_words(o, &words);
    bool ok = (arena || error_set(err, ERR_NO_MEMORY, "no memory to search.")) &&
              buf_ok(&words, "what is searched for", err) && model_hub_open(&hub, "search", err) &&
              hub_client_search(hub.client, buf_view(&words), (int)o->n_search, arena, &found, err);
    if (ok && o->json) {
        found_json(&found, out);
    } else if (ok) {
        found_text(&found, out);
    }
    model_hub_close(&hub);
    buf_release(&words);
    arena_free(arena);
    return ok && buf_ok(out, "what the Hub found", err);
}

int command_search(const struct options *o)
{
    struct error err = {0};
    struct buf out;
    if (!o->model) {
        error_set(&err, ERR_INVALID, "`tandem search` needs words to search for.");
        return command_fail(&err);
    }
    buf_init(&out, OUT_MAX);
    if (!search(o, &out, &err)) {
        buf_release(&out);
        return command_fail(&err);
    }
    print_out(&out);
    return 0;
}

/* ---- alias ---- */

static bool list_aliases(const char *path, bool json, struct buf *out, struct error *err)
{
    struct hub_registry registry;
    struct arena *arena = arena_create(2 * LIMIT_REGISTRY_FILE);
    struct json_writer w = json_writer(out);
    if (!arena) {
        return error_set(err, ERR_NO_MEMORY, "no memory for the registry.");
    }
    bool ok = hub_registry_read(path, arena, &registry, err);
    if (ok && json) {
        json_begin_object(&w);
    }
    for (size_t i = 0; ok && i < registry.n; i++) {
        if (json) {
            json_member_cstr(&w, registry.aliases[i].name, registry.aliases[i].reference);
        } else {
            buf_printf(out, "%-32s %s\n", registry.aliases[i].name, registry.aliases[i].reference);
        }
    }
    if (ok && json) {
        json_end_object(&w);
        buf_putc(out, '\n');
    } else if (ok && registry.n == 0) {
        buf_puts(out, "no aliases yet; `tandem alias NAME MODEL` makes one\n");
    }
    arena_free(arena);
    return ok && buf_ok(out, "the list of aliases", err);
}

/* A path is kept whole, since an alias is used from any folder. */
static bool set_alias(const char *path, const char *name, const char *model, struct error *err)
{
    char whole[PATH_MAX];
    bool is_path = file_exists(model) || dir_exists(model);
    return hub_registry_set(path, name, is_path && realpath(model, whole) ? whole : model, err);
}

static bool change_alias(const struct options *o, const char *path, struct error *err)
{
    if (o->remove) {
        return o->arguments.n == 0 ? hub_registry_remove(path, o->model, err)
                                   : error_set(err, ERR_INVALID, "--remove takes the name of an alias alone.");
    }
    if (o->arguments.n != 1) {
        return error_set(err, ERR_INVALID, "`tandem alias` takes a name and a model, or nothing to list them.");
    }
    return set_alias(path, o->model, o->arguments.items[0], err);
}

int command_alias(const struct options *o)
{
    struct error err = {0};
    char path[MODEL_PATH_MAX];
    struct buf out;
    if (!hub_registry_path(path, sizeof path, &err)) {
        return command_fail(&err);
    }
    if (o->model && o->json) {
        error_set(&err, ERR_INVALID, "--json lists all aliases: it has no effect with the name of one.");
        return command_fail(&err);
    }
    if (o->model) {
        return change_alias(o, path, &err) ? 0 : command_fail(&err);
    }
    if (o->remove) {
        error_set(&err, ERR_INVALID, "--remove needs the name of an alias.");
        return command_fail(&err);
    }
    buf_init(&out, OUT_MAX);
    if (!list_aliases(path, o->json, &out, &err)) {
        buf_release(&out);
        return command_fail(&err);
    }
    print_out(&out);
    return 0;
}
