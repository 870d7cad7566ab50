#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/sys_file.h"
#include "gateway/engine_arguments.h"
#include "gateway/gateway_internal.h"

#include <stdlib.h>
#include <sys/stat.h>

#define MODEL_MAX_TEMPLATE MIB(1)
#define STOP_GRACE_MS      100 /* it may still make masks of constraints, which nobody waits for; pages on disk count */
#define DEFAULT_WAITING    1024

static uint32_t or_default(uint32_t value, uint32_t fallback)
{
    return value ? value : fallback;
}

/* ---- its file ---- */

static bool load_template(struct served_model *m, struct error *err)
{
    if (m->options.chat_template_path) {
        struct buf text = {0};
        bool ok = file_read(m->options.chat_template_path, MODEL_MAX_TEMPLATE, &text, err) &&
                  (m->chat = chat_template_create(buf_view(&text), m->tokenizer, err));
        buf_release(&text);
        return ok || error_wrap(err, "--chat-template '%s'", m->options.chat_template_path);
    }
    struct error why = {0};
    m->chat = chat_template_from_model_file(m->file, m->tokenizer, &why);
    if (!m->chat) {
        LOG_WARN("no usable chat template: chat requests will be refused", "model=%s error=\"%s\"", m->names[0],
                 why.msg);
    }
    return true;
}

bool gateway__read_model(struct served_model *m, struct error *err)
{
    const struct served_model_options *o = &m->options;
    m->file = model_file_open(m->choice.path[0] ? m->choice.path : o->model_path, err);
    if (!m->file) {
        return false;
    }
    for (int i = 0; i < o->n_overrides; i++) {
        if (!model_file_override(m->file, o->overrides[i], err)) {
            return false;
        }
    }
    if (!decoder_config_read(m->file, &m->config, err) ||
        (o->rope_scaling && !decoder_config_rope_scaling(&m->config, o->rope_scaling, err))) {
        return false;
    }
    m->tokenizer = tokenizer_from_model_file(m->file, err);
    return m->tokenizer && load_template(m, err) &&
           output_formats_choose(o->tool_format, o->reasoning_format, m->chat, &m->formats, err) &&
           gateway__read_adapters(m, err);
}

void gateway__forget_file(struct served_model *m)
{
    chat_template_free(m->chat);
    tokenizer_free(m->tokenizer);
    model_file_close(m->file);
    m->chat = NULL;
    m->tokenizer = NULL;
    m->file = NULL;
    m->formats = (struct output_formats){0};
}

/* ---- what serves it ---- */

/* The queue that counts is the gateway's (admission.h): an engine takes all that it lets through, and those that run.
 */
static uint32_t engine_waiting(const struct served_model_options *o)
{
    return or_default(o->max_waiting, DEFAULT_WAITING) + or_default(o->max_sequences, SERVED_DEFAULT_SEQUENCES) +
           LIMIT_PROMPTS;
}

/* With the limit of adapters, also where nobody has said it. */
static bool plan_memory(struct served_model *m, struct error *err)
{
    struct served_model_options o = m->options;
    o.lora_memory = m->adapters.max_size;
    return memory_need(&o, m->file, &m->config, m->gateway->options.memory, &m->need, err);
}

static bool make_child(struct served_model *m, struct error *err)
{
    const struct served_model_options *o = &m->options;
    struct engine_arguments arguments;
    struct engine_child_options options = {.gateway = &m->gateway->options,
                                           .name = m->names[0],
                                           .max_waiting = engine_waiting(o),
                                           .on_state = gateway__child_state,
                                           .on_state_arg = m,
                                           .on_wait = gateway__model_wanted,
                                           .adapters = &m->adapters,
                                           .on_adapter = gateway__adapters_changed,
                                           .stop_grace_ms = o->kv_disk_dir ? 0 : STOP_GRACE_MS,
                                           .tries_again = !o->on_demand};
    if (!engine_arguments_fill(&arguments, o, options.max_waiting, err)) {
        return false;
    }
    options.arguments = arguments.items;
    options.n_arguments = arguments.n;
    if (!gateway__add_adapters(m, err) || !plan_memory(m, err)) {
        return false;
    }
    options.pool_size = m->need.pool_size;
    m->slot.size = m->need.total;
    pool_limit_init(&m->pool_limit, options.pool_size);
    m->child = engine_child_create(&options, err);
    return m->child != NULL;
}

static bool make_admission(struct served_model *m, struct error *err)
{
    const struct served_model_options *o = &m->options;
    struct admission_options options = {.pipeline = m->pipeline,
                                        .model = served_model_name(m),
                                        .max_waiting = or_default(o->max_waiting, DEFAULT_WAITING),
                                        .max_sequences = or_default(o->max_sequences, SERVED_DEFAULT_SEQUENCES),
                                        .default_timeout_ms = o->default_timeout_ms,
                                        .queue_timeout_ms = o->queue_timeout_ms,
                                        .first_token_timeout_ms = o->first_token_timeout_ms,
                                        .n_late = m->deadlines.n_late};
    m->admission = admission_create(&options, err);
    return m->admission != NULL;
}

static bool make_pipeline(struct served_model *m, struct error *err)
{
    const struct served_model_options *o = &m->options;
    uint32_t n_context = (uint32_t)m->config.n_context;
    m->metrics_index = metrics_add_model(m->gateway->metrics, served_model_name(m));
    struct pipeline_options options = {
        .tokenizer = m->tokenizer,
        .chat = m->chat,
        .formats = m->formats,
        .port = engine_child_port(m->child),
        .n_context = o->max_context && o->max_context < n_context ? o->max_context : n_context,
        .default_max_tokens = o->default_max_tokens,
        .default_timeout_ms = o->default_timeout_ms,
        .queue_timeout_ms = o->queue_timeout_ms,
        .first_token_timeout_ms = o->first_token_timeout_ms,
        .on_begun = gateway__generation_begun,
        .on_begun_arg = m,
        .retry_limit = m->gateway->options.retry_limit,
        .observer = metrics_observer(m->gateway->metrics, m->metrics_index),
        .on_stats = gateway__take_stats,
        .on_stats_arg = m,
        .on_finished = gateway__generation_finished,
        .on_finished_arg = m,
        .free_arena = gateway__free_arena,
        .free_arena_arg = m->gateway,
        .mcp = m->gateway->options.mcp,
        .hold = gateway__hold,
        .hold_arg = m->gateway,
    };
    m->pipeline = m->deadlines.pipeline = pipeline_create(&options, err);
    return m->pipeline != NULL;
}

static bool make_warmer(struct served_model *m, struct error *err)
{
    struct warmer_options options = {.loop = m->gateway->options.loop,
                                     .pipeline = m->pipeline,
                                     .list = m->options.warm,
                                     .model = served_model_name(m)};
    if (!m->options.warm || m->options.warm->n == 0) {
        return true;
    }
    m->warmer = warmer_create(&options, err);
    return m->warmer || error_wrap(err, "--warm-prompts");
}

/* ---- all of it ---- */

bool gateway__make_parts(struct served_model *m, struct error *err)
{
    m->open = make_child(m, err) && deadline_timer_init(&m->deadlines, m->gateway->options.loop, err) &&
              make_pipeline(m, err) && make_admission(m, err) && make_warmer(m, err);
    return m->open;
}

void gateway__free_parts(struct served_model *m)
{
    warmer_free(m->warmer);
    deadline_timer_release(&m->deadlines);
    admission_free(m->admission);
    pipeline_free(m->pipeline);
    engine_child_free(m->child);
    adapter_set_release(&m->adapters);
    m->warmer = NULL;
    m->admission = NULL;
    m->pipeline = NULL;
    m->child = NULL;
    m->open = false;
}

void gateway__free_model(struct served_model *m)
{
    if (m) {
        model_manager_remove(&m->gateway->manager, &m->slot);
        gateway__free_parts(m);
        gateway__forget_file(m);
        arena_free(m->options.arena);
        free(m);
    }
}

struct served_model *gateway__create_model(struct gateway *g, const struct served_model_options *options,
                                           struct error *err)
{
    struct stat st;
    struct served_model *m = calloc(1, sizeof *m);
    if (!m) {
        error_set(err, ERR_NO_MEMORY, "no memory for a model.");
        return NULL;
    }
    m->gateway = g;
    m->options = *options;
    bool found = stat(options->model_path, &st) == 0;
    m->created_s = found ? (int64_t)st.st_mtime : clock_wall_s();
    m->disk_size = found && S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
    m->slot.pinned = options->pinned || !options->on_demand;
    m->slot.keep_alive_ms = m->slot.pinned ? -1 : options->keep_alive_ms;
    if (!gateway__start_manager(g, err) || !gateway__collect_names(m, err)) {
        free(m);
        return NULL;
    }
    return m;
}

bool gateway_add_model(struct gateway *g, const struct served_model_options *options, struct error *err)
{
    struct served_model *m = gateway__create_model(g, options, err);
    if (!m) {
        return error_wrap(err, "model '%s'", options->model_path);
    }
    if (!gateway__watch_pressure(g, err) || !gateway__read_model(m, err) || !gateway__make_parts(m, err)) {
        goto failed;
    }
    if (g->n_models == GATEWAY_MAX_MODELS || !model_manager_add(&g->manager, &m->slot)) {
        error_set(err, ERR_INVALID, "at most %d models can be served.", GATEWAY_MAX_MODELS);
        goto failed;
    }
    if (!model_manager_fits(&g->manager, &m->slot)) {
        error_set(err, ERR_NO_ROOM, "it needs %llu MiB, and --memory allows %llu MiB.",
                  (unsigned long long)(m->need.total >> 20), (unsigned long long)(g->options.memory >> 20));
        goto failed;
    }
    g->models[g->n_models++] = m;
    gateway_load(m, NULL, NULL);
    return true;
failed:
    gateway__free_model(m);
    return error_wrap(err, "model '%s'", options->model_path);
}
