#include "base/array.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/sys_file.h"
#include "base/sys_memory.h"
#include "gateway/engine_arguments.h"
#include "gateway/gateway_internal.h"

#include <stdlib.h>
#include <sys/stat.h>

#define MODEL_MAX_TEMPLATE MIB(1)
#define KV_SHARE           4 /* default: one part in so many of the memory left */
#define KV_MIN_SIZE        MIB(32)
#define KV_ROUND           MIB(2)
#define DEFAULT_SEQUENCES  64
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

static bool read_model(struct served_model *m, struct error *err)
{
    const struct served_model_options *o = &m->options;
    struct stat st;
    m->file = model_file_open(o->model_path, err);
    if (!m->file) {
        return false;
    }
    m->created_s = stat(o->model_path, &st) == 0 ? (int64_t)st.st_mtime : clock_wall_s();
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
           output_formats_choose(o->tool_format, o->reasoning_format, m->chat, &m->formats, err);
}

/* ---- its KV pool ---- */

size_t gateway__kv_token_size(const struct served_model *m, enum kv_type type)
{
    struct kv_group_spec groups[KV_MAX_GROUPS];
    uint8_t layer_group[MODEL_MAX_LAYERS];
    uint16_t layer_index[MODEL_MAX_LAYERS];
    int n = decoder_kv_groups(&m->config, type, groups, layer_group, layer_index);
    size_t token_size = 0;
    for (int i = 0; i < n; i++) {
        token_size += kv_position_size(&groups[i]);
    }
    return token_size;
}

/* No more KV than the sequences that may run at once could fill. */
static size_t kv_useful_size(const struct served_model *m, enum kv_type type)
{
    size_t token_size = gateway__kv_token_size(m, type);
    size_t context = m->options.max_context ? m->options.max_context : (size_t)m->config.n_context;
    size_t sequences = or_default(m->options.max_sequences, DEFAULT_SEQUENCES);
    size_t all;
    return size_mul(token_size, context, &all) && size_mul(all, sequences, &all) ? all : SIZE_MAX;
}

/* Of the draft model's weights; 0 when it cannot be read, which its engine will say. */
static uint64_t draft_size(const struct served_model *m)
{
    struct error ignored = {0};
    struct model_file *file =
        m->options.draft_model_path ? model_file_open(m->options.draft_model_path, &ignored) : NULL;
    uint64_t size = file ? model_file_size(file) : 0;
    model_file_close(file);
    return size;
}

static bool plan_pool(const struct served_model *m, size_t *pool_size, struct error *err)
{
    enum kv_type type;
    if (!kv_type_parse(m->options.kv_type, &type, err)) {
        return false;
    }
    size_t useful = kv_useful_size(m, type), size = m->options.kv_memory;
    if (size == 0) {
        uint64_t available = sys_memory().available, weights = model_file_size(m->file) + draft_size(m);
        size = (size_t)((available > weights ? available - weights : 0) / KV_SHARE);
        size = size < KV_MIN_SIZE ? KV_MIN_SIZE : size;
    }
    size = size > useful ? useful : size;
    *pool_size = (size + KV_ROUND - 1) / KV_ROUND * KV_ROUND;
    return true;
}

/* ---- what serves it ---- */

/* The queue that counts is the gateway's (admission.h): an engine takes all that it lets through, and those that run.
 */
static uint32_t engine_waiting(const struct served_model_options *o)
{
    return or_default(o->max_waiting, DEFAULT_WAITING) + or_default(o->max_sequences, DEFAULT_SEQUENCES) +
           LIMIT_PROMPTS;
}

static bool make_child(struct served_model *m, struct error *err)
{
    const struct served_model_options *o = &m->options;
    struct engine_arguments arguments;
    struct engine_child_options options = {.gateway = &m->gateway->options,
                                           .name = m->names[0],
                                           .max_waiting = engine_waiting(o),
                                           .on_state = gateway__child_state,
                                           .on_state_arg = m};
    if (!engine_arguments_fill(&arguments, o, options.max_waiting, err)) {
        return false;
    }
    options.arguments = arguments.items;
    options.n_arguments = arguments.n;
    if (!plan_pool(m, &options.pool_size, err)) {
        return false;
    }
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
                                        .max_sequences = or_default(o->max_sequences, DEFAULT_SEQUENCES),
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
        .default_sampling = o->default_sampling,
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

void gateway__free_model(struct served_model *m)
{
    if (m) {
        warmer_free(m->warmer);
        deadline_timer_release(&m->deadlines);
        admission_free(m->admission);
        pipeline_free(m->pipeline);
        engine_child_free(m->child);
        chat_template_free(m->chat);
        tokenizer_free(m->tokenizer);
        model_file_close(m->file);
        free(m);
    }
}

bool gateway_add_model(struct gateway *g, const struct served_model_options *options, struct error *err)
{
    if (g->n_models == GATEWAY_MAX_MODELS) {
        return error_set(err, ERR_INVALID, "at most %d models can be served.", GATEWAY_MAX_MODELS);
    }
    struct served_model *m = calloc(1, sizeof *m);
    if (!m) {
        return error_set(err, ERR_NO_MEMORY, "no memory for a model.");
    }
    m->gateway = g;
    m->options = *options;
    if (!gateway__watch_pressure(g, err) || !gateway__collect_names(m, err) || !read_model(m, err) ||
        !make_child(m, err) || !deadline_timer_init(&m->deadlines, g->options.loop, err) || !make_pipeline(m, err) ||
        !make_admission(m, err) || !make_warmer(m, err)) {
        gateway__free_model(m);
        return error_wrap(err, "model '%s'", options->model_path);
    }
    g->models[g->n_models++] = m;
    engine_child_start(m->child);
    return true;
}
