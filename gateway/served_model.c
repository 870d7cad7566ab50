#include "gateway/gateway_internal.h"

#include "base/clock.h"
#include "tensor/model_paths.h"

#include <stdio.h>
#include <string.h>

/* ---- names ---- */

bool gateway__collect_names(struct served_model *m, struct error *err)
{
    const struct served_model_options *o = &m->options;
    snprintf(m->file_name, sizeof m->file_name, STR_FMT, STR_ARG(model_path_stem(str_of(o->model_path))));
    if (o->n_names + 1 > MODEL_MAX_NAMES) {
        return error_set(err, ERR_INVALID, "a model can be served under at most %d names, %d are given.",
                         MODEL_MAX_NAMES - 1, o->n_names);
    }
    for (int i = 0; i < o->n_names; i++) {
        if (!o->names[i][0]) {
            return error_set(err, ERR_INVALID, "--served-model-name: a name must not be empty.");
        }
        m->names[m->n_names++] = o->names[i];
    }
    if (!o->on_demand) { /* such a list says itself under which names */
        m->names[m->n_names++] = m->file_name;
    }
    return true;
}

/* A pattern is no name to show: the first that is none, at the latest the file's. */
const char *served_model_name(const struct served_model *m)
{
    for (size_t i = 0; i < m->n_names; i++) {
        if (!strpbrk(m->names[i], "*?")) {
            return m->names[i];
        }
    }
    return m->file_name;
}

size_t served_model_n_names(const struct served_model *m)
{
    return m->n_names;
}

const char *served_model_name_at(const struct served_model *m, size_t i)
{
    return m->names[i];
}

static bool answers_to(const struct served_model *m, struct str name)
{
    for (size_t i = 0; i < m->n_names; i++) {
        if (str_match(str_of(m->names[i]), name)) {
            return true;
        }
    }
    return !m->options.on_demand && str_eq(str_path_name(str_of(m->options.model_path)), name);
}

bool gateway__has_model(const struct gateway *g, struct str name)
{
    for (size_t i = 0; i < g->n_models; i++) {
        for (size_t k = 0; k < g->models[i]->n_names; k++) {
            if (str_eq(str_of(g->models[i]->names[k]), name)) {
                return true;
            }
        }
    }
    return false;
}

/* A model's own name goes before that of an adapter, and that before a pattern. */
struct served_model *gateway_model_find(struct gateway *g, struct str name, struct str *adapter)
{
    struct str found = {0};
    struct served_model *m = gateway__has_model(g, name) ? NULL : gateway__find_with_adapter(g, name, &found);
    if (adapter) {
        *adapter = found;
    }
    return m ? m : gateway__find_base(g, name);
}

struct served_model *gateway__find_base(struct gateway *g, struct str name)
{
    if (g->n_models && (name.len == 0 || str_eq(name, STR("default")))) {
        return g->models[0];
    }
    for (size_t i = 0; i < g->n_models; i++) {
        if (answers_to(g->models[i], name)) {
            return g->models[i];
        }
    }
    return NULL;
}

/* ---- looking ---- */

const char *model_state_name(enum model_state s)
{
    static const char *const names[] = {"unloaded", "loading", "ready", "restarting", "failed", "unloading"};
    return names[s];
}

const struct served_model_options *served_model_options(const struct served_model *m)
{
    return &m->options;
}

struct pipeline *served_model_pipeline(struct served_model *m)
{
    return m->pipeline;
}

enum model_state served_model_state(const struct served_model *m)
{
    if (!m->open) {
        return m->opening ? MODEL_LOADING : m->open_failure.msg[0] ? MODEL_FAILED : MODEL_UNLOADED;
    }
    enum model_state state = engine_child_state(m->child);
    return state == MODEL_READY && m->slot.state == SLOT_DRAINING ? MODEL_UNLOADING : state;
}

float served_model_load_fraction(const struct served_model *m)
{
    uint64_t done, total;
    if (served_model_is_brought(m, &done, &total)) {
        return total ? (float)done / (float)total : 0;
    }
    return m->open ? engine_child_load_fraction(m->child) : (float)atomic_load(&m->opening_permille) / 1000;
}

const struct error *served_model_failure(const struct served_model *m)
{
    return m->open ? engine_child_failure(m->child) : &m->open_failure;
}

const struct engine_info *served_model_info(const struct served_model *m)
{
    return m->open ? engine_child_info(m->child) : NULL;
}

const struct engine_stats *served_model_stats(const struct served_model *m)
{
    return &m->stats;
}

int64_t served_model_stats_age_ms(const struct served_model *m)
{
    return m->stats_ms ? clock_ms() - m->stats_ms : -1;
}

const struct decoder_config *served_model_config(const struct served_model *m)
{
    return &m->config;
}

const struct model_file *served_model_file(const struct served_model *m)
{
    return m->file;
}

int64_t served_model_created_s(const struct served_model *m)
{
    return m->created_s;
}

uint64_t served_model_disk_size(const struct served_model *m)
{
    return m->open ? model_file_size(m->file) : m->disk_size;
}

int served_model_restarts(const struct served_model *m)
{
    return engine_child_restarts(m->child);
}

int served_model_pid(const struct served_model *m)
{
    return engine_child_pid(m->child);
}

bool served_model_clear_cache(struct served_model *m)
{
    return engine_child_clear_cache(m->child);
}

struct admission *served_model_admission(struct served_model *m)
{
    return m->admission;
}

size_t served_model_pool_limit(const struct served_model *m)
{
    return m->pool_limit.limit;
}

const uint64_t *served_model_late(const struct served_model *m)
{
    return m->deadlines.n_late;
}

const struct warmer *served_model_warmer(const struct served_model *m)
{
    return m->warmer;
}

int served_model_metrics(const struct served_model *m)
{
    return m->metrics_index;
}
