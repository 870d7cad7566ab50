/* Adapters of served models: those that the options name, read with the model; those that are loaded and unloaded at
 * run time, from one folder; who waits for that; and which of them a name means. */
#include "gateway/gateway_internal.h"

#include "base/limits.h"
#include "base/log.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_ADAPTERS 16       /* of a model, unless --lora names more */
#define DEFAULT_MEMORY   MIB(256) /* for those that are loaded at run time */

/* ---- those that the options name ---- */

bool gateway__read_adapters(struct served_model *m, struct error *err)
{
    const struct served_model_options *o = &m->options;
    m->n_named = 0;
    if (o->n_loras > WIRE_MAX_ADAPTERS) {
        return error_set(err, ERR_INVALID, "--lora: at most %d adapters are possible, but %d are named.",
                         WIRE_MAX_ADAPTERS, o->n_loras);
    }
    for (int i = 0; i < o->n_loras; i++) {
        struct named_adapter *named = &m->named[i];
        if (!adapter_option_split(o->loras[i], &named->name, &named->path, err)) {
            return false;
        }
        if (!adapter_facts_read(named->path, &named->facts, err)) {
            return error_wrap(err, "--lora '%.200s'", o->loras[i]);
        }
        m->n_named++;
    }
    return true;
}

static uint64_t memory_limit(const struct served_model_options *o, uint64_t named)
{
    return o->lora_memory ? o->lora_memory : named + (o->lora_dir ? DEFAULT_MEMORY : 0);
}

uint64_t gateway_adapter_memory(const struct served_model_options *options)
{
    uint64_t named = 0;
    for (int i = 0; options->lora_memory == 0 && i < options->n_loras; i++) {
        struct error ignored = {0};
        struct adapter_facts facts;
        struct str name;
        const char *path;
        bool ok = adapter_option_split(options->loras[i], &name, &path, &ignored) &&
                  adapter_facts_read(path, &facts, &ignored);
        named += ok ? facts.memory_size : 0;
    }
    return memory_limit(options, named);
}

/* What the limits are where nobody has said. */
static void set_limits(struct served_model *m)
{
    const struct served_model_options *o = &m->options;
    uint64_t named = 0;
    for (int i = 0; i < m->n_named; i++) {
        named += m->named[i].facts.memory_size;
    }
    uint32_t least = m->n_named > DEFAULT_ADAPTERS ? (uint32_t)m->n_named : DEFAULT_ADAPTERS;
    m->adapters.max_adapters = o->lora_max ? o->lora_max : o->n_loras || o->lora_dir ? least : 0;
    m->adapters.max_size = memory_limit(o, named);
}

bool gateway__add_adapters(struct served_model *m, struct error *err)
{
    set_limits(m);
    for (int i = 0; i < m->n_named; i++) {
        const struct named_adapter *named = &m->named[i];
        if (!adapter_set_add(&m->adapters, named->name, named->path, &named->facts, err)) {
            return error_wrap(err, "--lora '" STR_FMT "'", STR_ARG(named->name));
        }
    }
    return true;
}

/* ---- names ---- */

/* A model that was not read yet has those that its options name. */
static bool has_adapter(const struct served_model *m, struct str name)
{
    const struct served_model_options *o = &m->options;
    struct error ignored;
    if (m->open) {
        return adapter_set_find(&m->adapters, name) != NULL;
    }
    for (int i = 0; i < o->n_loras; i++) {
        struct str own;
        const char *path;
        if (adapter_option_split(o->loras[i], &own, &path, &ignored) && str_eq(own, name)) {
            return true;
        }
    }
    return false;
}

static struct served_model *only_model_with(const struct gateway *g, struct str adapter)
{
    struct served_model *found = NULL;
    for (size_t i = 0; i < g->n_models; i++) {
        if (has_adapter(g->models[i], adapter)) {
            if (found) {
                return NULL; /* which of them is not said */
            }
            found = g->models[i];
        }
    }
    return found;
}

/* Where the name of an adapter begins in "base:adapter"; names of adapters have no ':', those of models may. */
static size_t colon_of(struct str name)
{
    size_t at = name.len;
    while (at > 0 && name.ptr[at - 1] != ':') {
        at--;
    }
    return at;
}

struct served_model *gateway__find_with_adapter(struct gateway *g, struct str name, struct str *adapter)
{
    size_t at = colon_of(name);
    struct str last = str_slice(name, at, name.len);
    struct served_model *m = at > 1 ? gateway__find_base(g, str_slice(name, 0, at - 1)) : NULL;
    m = m && !has_adapter(m, last) ? NULL : m;
    if (!m && at == 0) {
        m = only_model_with(g, name);
    }
    *adapter = m ? last : (struct str){0};
    return m;
}

struct served_adapter *served_model_adapter(struct served_model *m, struct str name)
{
    return adapter_set_find(&m->adapters, name);
}

const struct adapter_set *served_model_adapters(const struct served_model *m)
{
    return &m->adapters;
}

void served_model_adapter_id(const struct served_model *m, struct str adapter, char out[ADAPTER_ID_SIZE])
{
    snprintf(out, ADAPTER_ID_SIZE, "%s:" STR_FMT, served_model_name(m), STR_ARG(adapter));
}

void served_model_hold_adapter(struct served_model *m, struct served_adapter *a)
{
    m->adapters.n_requests++;
    a->n_requests++;
    adapter_set_hold(a);
}

void served_model_release_adapter(struct served_model *m, struct served_adapter *a)
{
    if (a) {
        adapter_set_release_one(&m->adapters, a);
        engine_child_adapters_changed(m->child); /* it may go now */
    }
}

static void put_names(struct gateway *g, char *out, size_t size)
{
    size_t len = 0;
    for (size_t i = 0; i < g->n_models; i++) {
        const struct served_model *m = g->models[i];
        const struct served_adapter *a;
        for (size_t k = 0; (a = adapter_set_at(&m->adapters, k)) && len < size; k++) {
            char id[ADAPTER_ID_SIZE];
            served_model_adapter_id(m, str_of(a->name), id);
            int n = snprintf(out + len, size - len, "%s%s", len ? ", " : "", id);
            len += n > 0 ? (size_t)n : 0;
        }
    }
}

bool gateway_model_missing(struct gateway *g, struct str name, struct error *err)
{
    char names[200] = "";
    put_names(g, names, sizeof names);
    return error_set_param(err, ERR_MODEL_NOT_FOUND, "model",
                           "The model '" STR_FMT "' does not exist; GET /v1/models lists those served%s%s%s.",
                           STR_ARG(str_slice(name, 0, 100)), names[0] ? " (adapters: " : "", names,
                           names[0] ? ")" : "");
}

/* ---- loaded at run time ---- */

struct adapter_loading {
    struct served_model *model;
    struct adapter_loading *next; /* of those that wait for the engine */
    char name[ADAPTER_NAME_MAX + 1];
    char asked[WIRE_ADAPTER_PATH], path[PATH_MAX];
    struct adapter_facts facts;
    bool ok;
    struct error err;
    uint32_t number;
    void (*fn)(void *arg, const struct error *err);
    void *arg;
};

static bool is_beneath(const char *path, const char *root)
{
    size_t n = strlen(root);
    return strncmp(path, root, n) == 0 && path[n] == '/';
}

static bool refuse_outside(struct error *err)
{
    return error_set_param(err, ERR_FORBIDDEN, "lora_path",
                           "adapters are loaded only from beneath the folder of --lora-dir, and links may not lead out "
                           "of it.");
}

static bool find_beneath(const char *root, const char *path, char out[PATH_MAX], struct error *err)
{
    if (!realpath(path, out)) {
        return error_set_param(err, errno == ENOENT || errno == ENOTDIR ? ERR_NOT_FOUND : ERR_INVALID, "lora_path",
                               "'%.150s' cannot be found: %s.", path, strerror(errno));
    }
    return is_beneath(out, root) || refuse_outside(err);
}

struct files_beneath {
    const char *root;
    bool ok;
    struct error *err;
};

static void check_file(void *arg, const char *path)
{
    struct files_beneath *f = arg;
    char whole[PATH_MAX];
    f->ok = f->ok && find_beneath(f->root, path, whole, f->err);
}

/* All that is opened with it, too: each of them may be a link. */
static bool check_files(const char *root, const char *path, struct error *err)
{
    struct files_beneath f = {.root = root, .ok = true, .err = err};
    adapter_paths_each(path, check_file, &f);
    return f.ok;
}

static bool goes_up(const char *path)
{
    struct str rest = str_of(path), part;
    while (str_split(&rest, '/', &part)) {
        if (str_eq(part, STR(".."))) {
            return true;
        }
    }
    return false;
}

/* A path is one in the folder of --lora-dir, or a whole one that leads there. What lies elsewhere is not looked at:
 * whether it is there is nobody's business. */
static bool resolve(struct adapter_loading *l, struct error *err)
{
    char root[PATH_MAX], path[PATH_MAX];
    const char *given = l->model->options.lora_dir;
    if (!realpath(given, root)) {
        return error_set(err, ERR_UNAVAILABLE, "the folder of --lora-dir cannot be read: %s.", strerror(errno));
    }
    bool whole = l->asked[0] == '/';
    if (goes_up(l->asked) || (whole && !is_beneath(l->asked, root) && !is_beneath(l->asked, given))) {
        return refuse_outside(err);
    }
    int n = whole ? snprintf(path, sizeof path, "%s", l->asked) : snprintf(path, sizeof path, "%s/%s", root, l->asked);
    if (n < 0 || n >= (int)sizeof path) {
        return error_set_param(err, ERR_INVALID, "lora_path", "the path is too long.");
    }
    return find_beneath(root, path, l->path, err) && check_files(root, l->path, err);
}

/* What is wrong with a file that a request names is the request's fault. */
static void blame_request(struct error *err)
{
    if (err->code == ERR_FORMAT || err->code == ERR_UNSUPPORTED || err->code == ERR_IO) {
        err->code = ERR_INVALID;
    }
    snprintf(err->param, sizeof err->param, "lora_path");
}

static void read_adapter(void *arg)
{
    struct adapter_loading *l = arg;
    l->ok = resolve(l, &l->err);
    if (l->ok && !adapter_facts_read(l->path, &l->facts, &l->err)) {
        l->ok = false;
        blame_request(&l->err);
    }
}

static void finish(struct adapter_loading *l, const struct error *err)
{
    struct served_model *m = l->model;
    if (err) {
        LOG_WARN("adapter not loaded", "model=%s adapter=%s error=\"%s\"", m->names[0], l->name, err->msg);
    } else {
        LOG_INFO("adapter loaded", "model=%s adapter=%s rank=%d size=%llu", m->names[0], l->name, l->facts.rank,
                 (unsigned long long)l->facts.memory_size);
    }
    l->fn(l->arg, err);
    free(l);
    served_model_release(m);
}

void gateway__adapters_changed(void *arg)
{
    struct served_model *m = arg;
    enum model_state state = engine_child_state(m->child);
    bool waits = state == MODEL_READY || state == MODEL_LOADING || state == MODEL_RESTARTING;
    struct adapter_loading *l, **link = &m->loadings;
    while ((l = *link)) {
        struct served_adapter *a = m->adapters.items[l->number - 1];
        struct error err = {0};
        if (a && a->listed && !a->loaded && !a->refused && waits) {
            link = &l->next;
            continue;
        }
        *link = l->next;
        if (a && a->refused) {
            err = a->failure;
            blame_request(&err);
            adapter_set_unlist(&m->adapters, a);
        } else if (!a || !a->listed) {
            error_set(&err, ERR_UNAVAILABLE, "the adapter was unloaded again before it was loaded.");
        }
        finish(l, err.code ? &err : NULL);
        link = &m->loadings; /* others may have come or gone */
    }
}

void gateway__refuse_adapters(struct served_model *m, const struct error *err)
{
    struct adapter_loading *l;
    while ((l = m->loadings)) {
        m->loadings = l->next;
        finish(l, err);
    }
}

static void on_read(void *arg)
{
    struct adapter_loading *l = arg;
    struct served_model *m = l->model;
    struct gateway *g = m->gateway;
    struct served_adapter *a =
        l->ok ? adapter_set_add(&m->adapters, str_of(l->name), l->path, &l->facts, &l->err) : NULL;
    if (a) {
        l->number = a->number;
        l->next = m->loadings;
        m->loadings = l;
        engine_child_adapters_changed(m->child);
        gateway__adapters_changed(m);
    } else {
        struct error err = l->err;
        finish(l, &err);
    }
    gateway__manage_soon(g);
    gateway__hold(g, false); /* the gateway may be gone with it */
}

bool gateway_adapter_load(struct served_model *m, struct str name, struct str path,
                          void (*fn)(void *arg, const struct error *err), void *arg, struct error *err)
{
    if (!m->options.lora_dir) {
        return error_set_param(err, ERR_FORBIDDEN, "lora_path",
                               "adapters are loaded at run time from the folder of --lora-dir, which this server was "
                               "not given for this model.");
    }
    if (!adapter_name_check(name, "lora_name", err)) {
        return false;
    }
    if (path.len == 0 || path.len >= WIRE_ADAPTER_PATH || memchr(path.ptr, '\0', path.len)) {
        return error_set_param(err, ERR_INVALID, "lora_path", "a path has 1 to %d bytes.", WIRE_ADAPTER_PATH - 1);
    }
    if (gateway__has_model(m->gateway, name)) {
        return error_set_param(err, ERR_INVALID, "lora_name", "'" STR_FMT "' is the name of a model.", STR_ARG(name));
    }
    struct adapter_loading *l = calloc(1, sizeof *l);
    if (!l) {
        return error_set(err, ERR_NO_MEMORY, "no memory to load an adapter.");
    }
    *l = (struct adapter_loading){.model = m, .fn = fn, .arg = arg};
    snprintf(l->name, sizeof l->name, STR_FMT, STR_ARG(name));
    snprintf(l->asked, sizeof l->asked, STR_FMT, STR_ARG(path));
    served_model_hold(m);
    gateway__hold(m->gateway, true);
    loop_work_alone(m->gateway->options.loop, read_adapter, on_read, l);
    return true;
}

void gateway_adapter_unload(struct served_model *m, struct served_adapter *a)
{
    LOG_INFO("adapter unloaded", "model=%s adapter=%s users=%zu", m->names[0], a->name, a->n_users);
    adapter_set_unlist(&m->adapters, a);
    engine_child_adapters_changed(m->child);
    gateway__adapters_changed(m);
}
