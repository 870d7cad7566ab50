#include "cli/models_list.h"

#include "base/array.h"
#include "base/duration.h"
#include "base/hash.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/sys_file.h"
#include "cli/model_hub.h"
#include "cli/model_path.h"
#include "cli/precision.h"
#include "tensor/model_paths.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define DEFAULT_KEEP_ALIVE_MS 300000
#define MODEL_MEMORY          MIB(1) /* of its options and strings */
#define FILE_MEMORY           MIB(16)
#define NAMES_MAX             (MODELS_NAMES_MAX + 1)

bool models_list_wanted(const struct options *o)
{
    return !o->model || o->arguments.n > 0 || o->models;
}

struct served_model_options served_options(const struct options *o, const char *path, const char *draft_path)
{
    return (struct served_model_options){
        .model_path = path,
        .names = o->names.items,
        .n_names = o->names.n,
        .chat_template_path = o->chat_template,
        .tool_format = o->tool_format,
        .reasoning_format = o->reasoning_format,
        .overrides = o->overrides.items,
        .n_overrides = o->overrides.n,
        .rope_scaling = o->rope_scaling,
        .backend = options_backend(o),
        .kv_type = o->kv_type,
        .n_threads = (int)o->threads,
        .kv_memory = o->kv_memory,
        .max_context = (uint32_t)o->max_context,
        .max_batch_tokens = (uint32_t)o->max_batch_tokens,
        .max_sequences = (uint32_t)o->max_sequences,
        .max_waiting = (uint32_t)o->max_waiting,
        .prefill_chunk = (uint32_t)o->prefill_chunk,
        .prefix_cache = o->prefix_cache,
        .reserve_output = o->reserve_output,
        .kv_disk_dir = o->kv_disk_dir,
        .kv_disk_gb = (double)o->kv_disk_gb,
        .warm_wait = o->warm_wait,
        .speculation = o->speculation,
        .draft_model_path = draft_path,
        .max_draft_tokens = (uint32_t)o->max_draft_tokens,
        .draft_kv_memory = o->draft_kv_memory,
        .max_itl_factor = (double)o->max_itl_factor,
        .loras = o->loras.items,
        .n_loras = o->loras.n,
        .lora_dir = o->lora_dir,
        .lora_max = (uint32_t)o->lora_max,
        .lora_memory = o->lora_memory,
        .script_path = o->script,
        .fault = o->fault,
        .sandbox = o->sandbox,
        .log_level = o->log_level,
        .log_format = o->log_format,
        .default_sampling = o->sampling,
        .default_max_tokens = o->max_tokens,
        .default_timeout_ms = o->default_timeout_ms,
        .queue_timeout_ms = o->queue_timeout_ms,
        .first_token_timeout_ms = o->first_token_timeout_ms,
    };
}

/* ---- one model ---- */

struct kept { /* in the model's arena: what its served_model_options are views of */
    struct options options;
    const char *names[NAMES_MAX];
    char path[MODEL_PATH_MAX], draft_path[MODEL_PATH_MAX];
    /* Of those that are not here, until they are: the model's and its draft model's. */
    struct hub_reference remote[2];
    const struct hub_settings *settings;
};

/* The text of an option from an arena that goes, in one that stays. Those of the command line live anyway. */
static bool keep_strings(struct arena *arena, struct options *o, struct error *err)
{
    return options_keep_model_strings(o, arena) || arena_full(arena, "the options of a model", err);
}

/* A file that was replaced is another version. */
static uint64_t version_of(const char *path, uint64_t text, int64_t keep_alive_ms)
{
    struct stat st = {0};
    if (stat(path, &st) != 0) {
        st = (struct stat){0};
    }
    uint64_t parts[] = {text, (uint64_t)keep_alive_ms, (uint64_t)st.st_mtime, (uint64_t)st.st_size};
    return xxh3(path, strlen(path), xxh3(parts, sizeof parts, 0));
}

/* On a worker or a thread of the gateway's: the model itself, or one of fewer bits that is made of it. It is to fit
 * into the budget alone; what else is loaded then goes or waits as the model manager says. */
static bool choose(const void *arg, uint64_t budget, bool (*progress)(void *progress_arg, double fraction),
                   void *progress_arg, struct model_choice *out, struct error *err)
{
    const struct kept *k = arg;
    struct precision_found found;
    enum kv_type type;
    if (!kv_type_parse(k->options.kv_type, &type, err)) {
        return false;
    }
    struct precision_wanted wanted =
        precision_wanted_by(&k->options, type, PRECISION_SERVE_SEQUENCES, SERVED_DEFAULT_SEQUENCES);
    wanted.memory = budget;
    wanted.on_demand = true;
    wanted.draft_path = k->draft_path[0] ? k->draft_path : NULL;
    bool is_there = true;
    bool ok = progress ? precision_resolve(k->path, &wanted, progress, progress_arg, &found, err)
                       : precision_find(k->path, &wanted, &found, &is_there, err);
    if (!ok) {
        return false;
    }
    out->to_be_made = !is_there;
    snprintf(out->path, sizeof out->path, "%s", found.path);
    snprintf(out->why, sizeof out->why, "%s", found.why);
    out->bits = found.bits;
    return true;
}

/* ---- bringing ---- */

static bool take_brought(struct kept *k, int i, const struct hub_cached *c, struct error *err)
{
    int n = snprintf(i ? k->draft_path : k->path, MODEL_PATH_MAX, "%s", c->path);
    k->remote[i] = (struct hub_reference){.kind = HUB_PATH};
    return n < MODEL_PATH_MAX || error_set(err, ERR_INVALID, "the path in the cache is too long.");
}

/* It may have come by another way meanwhile. */
static bool is_here(void *arg, struct error *err)
{
    struct kept *k = arg;
    bool here = true;
    for (int i = 0; i < 2; i++) {
        struct hub_cached cached;
        if (k->remote[i].kind != HUB_REPO) {
            continue;
        }
        if (!model_hub_cached(k->settings->cache, &k->remote[i], &cached, err)) {
            return false;
        }
        if (cached.state != HUB_COMPLETE) {
            here = false;
        } else if (!take_brought(k, i, &cached, err)) {
            return false;
        }
    }
    return here;
}

static bool bring(void *arg, const struct model_bringing *b, struct error *err)
{
    struct kept *k = arg;
    struct model_hub_watch watch = {.progress = b->progress, .stops = b->stops, .arg = b->arg};
    bool ok = true;
    for (int i = 0; ok && i < 2; i++) {
        struct model_hub hub = {0};
        struct hub_pulled pulled;
        if (k->remote[i].kind == HUB_REPO) {
            ok = model_hub_open_with(&hub, k->settings, &watch, err) &&
                 model_hub_pull(&hub, &k->remote[i], &pulled, err) && take_brought(k, i, &pulled.cached, err);
            model_hub_close(&hub);
        }
    }
    return ok;
}

struct model_source {
    const struct models_entry *entry;
    const char *path;                  /* NULL: it is to be found by entry->model */
    const struct hub_reference *asked; /* instead: entry->model is this repository, and nothing else; NULL: it is not */
    int64_t keep_alive_ms;
    const struct models_bring *bring;
};

/* *later.kind HUB_REPO: it is not here, and is brought when it is used; then out is empty. */
static bool find_one(const char *model, const struct models_bring *bring, char out[MODEL_PATH_MAX],
                     struct hub_reference *later, struct error *err)
{
    bool is_remote = false;
    *later = (struct hub_reference){.kind = HUB_PATH};
    if (!bring->settings) {
        return bring->now ? model_path_resolve(model, out, err) : model_path_here(model, out, err);
    }
    if (!model_path_find(model, out, later, &is_remote, err)) {
        return false;
    }
    later->kind = is_remote ? HUB_REPO : HUB_PATH;
    return true;
}

static bool find(struct kept *k, const struct model_source *source, struct error *err)
{
    const struct options *o = &k->options;
    if (source->asked) {
        k->remote[0] = *source->asked;
    } else if (source->path) {
        snprintf(k->path, sizeof k->path, "%s", source->path);
    } else if (!find_one(source->entry->model, source->bring, k->path, &k->remote[0], err)) {
        return false;
    }
    return !o->draft_model || find_one(o->draft_model, source->bring, k->draft_path, &k->remote[1], err);
}

static bool fill(struct served_model_options *out, const struct model_source *source, struct error *err)
{
    const struct models_entry *e = source->entry;
    struct arena *arena = out->arena;
    struct kept *k = arena_alloc(arena, sizeof *k);
    if (!k) {
        return arena_full(arena, "the options of a model", err);
    }
    k->options = e->options;
    k->remote[0].kind = k->remote[1].kind = HUB_PATH;
    k->settings = source->bring ? source->bring->settings : NULL;
    if (!keep_strings(arena, &k->options, err) || !find(k, source, err)) {
        return false;
    }
    int n = 0;
    k->names[n++] = arena_strdup(arena, str_of(e->name));
    for (int i = 0; i < e->aliases.n; i++) {
        k->names[n++] = arena_strdup(arena, str_of(e->aliases.items[i]));
    }
    for (int i = 0; i < n; i++) {
        if (!k->names[i]) {
            return arena_full(arena, "the names of a model", err);
        }
    }
    bool has_draft = k->draft_path[0] || k->remote[1].kind == HUB_REPO;
    *out = served_options(&k->options, k->path, has_draft ? k->draft_path : NULL);
    out->arena = arena;
    out->names = k->names;
    out->n_names = n;
    out->on_demand = true;
    out->choose = e->options.script ? NULL : choose; /* a script computes nothing */
    out->choose_arg = k;
    if (k->remote[0].kind == HUB_REPO || k->remote[1].kind == HUB_REPO) {
        out->is_here = is_here;
        out->bring = bring;
        out->bring_arg = k;
    }
    out->asked_for = source->asked != NULL;
    out->pinned = e->pinned;
    out->preload = e->preload;
    out->keep_alive_ms = e->has_keep_alive ? e->keep_alive_ms : source->keep_alive_ms;
    /* What comes when it is used is the same before and after. */
    bool by_name = k->settings && model_path_is_name(e->model);
    out->version = version_of(by_name ? e->model : k->path, e->version, out->keep_alive_ms);
    return true;
}

struct making {
    const struct options *base;
    struct models_list *list;
    int64_t keep_alive_ms;
    struct error *err;
    const struct models_bring *bring;
    bool ok;
};

static bool add(struct making *m, const struct models_entry *e, const char *path)
{
    struct model_source source = {.entry = e, .path = path, .keep_alive_ms = m->keep_alive_ms, .bring = m->bring};
    struct served_model_options *out = &m->list->items[m->list->n];
    if (m->list->n == MODELS_FILE_MAX) {
        return error_set(m->err, ERR_INVALID, "at most %d models can be served.", MODELS_FILE_MAX);
    }
    *out = (struct served_model_options){.arena = arena_create(MODEL_MEMORY)};
    if (!out->arena) {
        return error_set(m->err, ERR_NO_MEMORY, "no memory for the list of models.");
    }
    m->list->n++; /* its arena is there to be released */
    return fill(out, &source, m->err) || error_wrap(m->err, "model '%s'", e->name);
}

/* ---- the three places ---- */

static bool add_named(struct making *m, const char *model)
{
    char path[MODEL_PATH_MAX], name[256];
    struct hub_reference later;
    if (!find_one(model, m->bring, path, &later, m->err)) {
        return false;
    }
    snprintf(name, sizeof name, STR_FMT, STR_ARG(model_path_stem(str_of(path))));
    bool named = model_path_is_name(model); /* its file is named after a commit, or a blob */
    struct models_entry e = {.name = named ? model : name, .model = model, .options = *m->base};
    return add(m, &e, later.kind == HUB_REPO ? NULL : path);
}

static bool add_command_line(struct making *m)
{
    bool ok = !m->base->model || add_named(m, m->base->model);
    for (int i = 0; ok && i < m->base->arguments.n; i++) {
        ok = add_named(m, m->base->arguments.items[i]);
    }
    return ok;
}

static bool is_taken(const struct models_list *l, const char *name, const char *path)
{
    for (size_t i = 0; i < l->n; i++) {
        bool same = l->items[i].model_path[0] && strcmp(l->items[i].model_path, path) == 0;
        for (int k = 0; k < l->items[i].n_names && !same; k++) {
            same = strcmp(l->items[i].names[k], name) == 0;
        }
        if (same) {
            return true;
        }
    }
    return false;
}

static void add_found(void *arg, const char *path, const char *file)
{
    struct making *m = arg;
    char name[256];
    snprintf(name, sizeof name, STR_FMT, STR_ARG(model_path_stem(str_of(file))));
    if (m->ok && !is_taken(m->list, name, path)) {
        struct models_entry e = {.name = name, .model = path, .options = *m->base};
        m->ok = add(m, &e, path);
    }
}

static bool add_folder(struct making *m)
{
    struct error err = {0};
    m->ok = true;
    if (!models_each(add_found, m, &err)) {
        LOG_WARN("models folder cannot be read", "error=\"%s\"", err.msg);
    }
    return m->ok;
}

/* ---- all ---- */

static bool read_file(const struct options *base, struct arena *arena, struct models_file *file, struct error *err)
{
    struct buf text = {0};
    *file = (struct models_file){.folder = true};
    if (!base->models) {
        return true;
    }
    bool ok = file_read(base->models, MIB(4), &text, err) && models_file_parse(buf_view(&text), base, arena, file, err);
    buf_release(&text);
    return ok || error_wrap(err, "--models '%.100s'", base->models);
}

static bool find_keep_alive(const struct options *base, const struct models_file *file, int64_t *ms, struct error *err)
{
    *ms = file->has_keep_alive ? file->keep_alive_ms : DEFAULT_KEEP_ALIVE_MS;
    return !base->keep_alive || duration_parse(str_of(base->keep_alive), ms) ||
           error_set(err, ERR_INVALID, "--keep-alive: expected a duration such as 5m, but got '%.60s'.",
                     base->keep_alive);
}

static bool make(const struct options *base, const struct models_bring *bring, struct arena *arena,
                 struct models_list *out, struct error *err)
{
    struct models_file file;
    struct making m = {.base = base, .list = out, .err = err, .bring = bring};
    out->items = calloc(MODELS_FILE_MAX, sizeof *out->items);
    if (!out->items) {
        return error_set(err, ERR_NO_MEMORY, "no memory for the list of models.");
    }
    if (!read_file(base, arena, &file, err) || !find_keep_alive(base, &file, &m.keep_alive_ms, err) ||
        !add_command_line(&m)) {
        return false;
    }
    out->memory = file.memory;
    for (size_t i = 0; i < file.n; i++) {
        if (!add(&m, &file.entries[i], NULL)) {
            return error_wrap(err, "--models '%.100s'", base->models);
        }
    }
    return base->model || !file.folder || add_folder(&m);
}

bool models_list_make(const struct options *base, const struct models_bring *bring, struct models_list *out,
                      struct error *err)
{
    *out = (struct models_list){0};
    struct arena *arena = arena_create(FILE_MEMORY);
    if (!arena) {
        return error_set(err, ERR_NO_MEMORY, "no memory for the list of models.");
    }
    bool ok = make(base, bring, arena, out, err);
    arena_free(arena);
    return ok;
}

/* A name that a request has chosen: nothing on this machine's disk is reached by it but the cache of the Hub. */
static bool read_asked(struct str name, char text[HUB_REFERENCE_MAX + 1], struct hub_reference *r)
{
    struct error ignored = {0};
    if (name.len > HUB_REFERENCE_MAX || str_find_char(name, '*') != STR_NPOS || str_find_char(name, '?') != STR_NPOS) {
        return false;
    }
    snprintf(text, HUB_REFERENCE_MAX + 1, STR_FMT, STR_ARG(name));
    return strlen(text) == name.len && hub_reference_parse(text, r, &ignored) && r->kind == HUB_REPO;
}

bool models_list_ask(const struct options *base, const struct hub_settings *settings, struct str name,
                     struct served_model_options *out, bool *is_one, struct error *err)
{
    char text[HUB_REFERENCE_MAX + 1];
    struct hub_reference r;
    struct models_bring how = {.settings = settings};
    *out = (struct served_model_options){0};
    *is_one = read_asked(name, text, &r);
    if (!*is_one) {
        return true;
    }
    struct models_file file = {0};
    struct models_entry e = {.name = text, .model = text, .options = *base};
    struct model_source source = {.entry = &e, .asked = &r, .bring = &how};
    out->arena = arena_create(MODEL_MEMORY);
    if (!out->arena) {
        return error_set(err, ERR_NO_MEMORY, "no memory for a model.");
    }
    return find_keep_alive(base, &file, &source.keep_alive_ms, err) && fill(out, &source, err);
}

void models_list_release(struct models_list *l)
{
    for (size_t i = 0; i < l->n; i++) {
        arena_free(l->items[i].arena);
    }
    free(l->items);
    *l = (struct models_list){0};
}
