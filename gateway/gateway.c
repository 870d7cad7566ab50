#include "gateway/gateway.h"

#include "base/array.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/sys_file.h"
#include "base/sys_memory.h"
#include "gateway/deadline_timer.h"
#include "gateway/engine_arguments.h"
#include "gateway/engine_child.h"
#include "gateway/pool_limit.h"
#include "gateway/pressure.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define GATEWAY_MAX_MODELS    METRICS_MAX_MODELS
#define MODEL_MAX_NAMES       32
#define MODEL_MAX_TEMPLATE    MIB(1)
#define KV_SHARE              4 /* default: one part in so many of the memory left */
#define KV_MIN_SIZE           MIB(32)
#define KV_ROUND              MIB(2)
#define GATEWAY_DRAIN_POLL_MS 50
#define DEFAULT_SEQUENCES     64
#define DEFAULT_WAITING       1024

struct served_model {
    struct gateway *gateway;
    struct served_model_options options; /* strings are the caller's, who keeps them */
    char file_name[256];                 /* without folder and ".gguf" */
    const char *names[MODEL_MAX_NAMES];
    size_t n_names;
    int64_t created_s;
    struct model_file *file;
    struct tokenizer *tokenizer;
    struct chat_template *chat;
    struct decoder_config config;
    struct engine_child *child;
    struct pipeline *pipeline;
    struct warmer *warmer; /* NULL: no warm prompts */
    struct admission *admission;
    struct deadline_timer deadlines;
    struct pool_limit_state pool_limit;
    struct engine_stats stats;
    int64_t stats_ms; /* when they came; 0: never */
    int metrics_index;
    int seen_restarts;
};

struct gateway {
    struct gateway_options options;
    struct metrics *metrics;
    struct pressure *pressure; /* from the first model on */
    struct served_model *models[GATEWAY_MAX_MODELS];
    size_t n_models;
    int64_t started_ms;
    bool draining;
    struct loop_timer *drain_timer;
    int64_t drain_until_ms;
    void (*on_drained)(void *arg);
    void *on_drained_arg;
    size_t n_closing;
    void (*on_closed)(void *arg);
    void *on_closed_arg;
};

struct gateway_options gateway_options_default(void)
{
    return (struct gateway_options){
        .restart =
            {.initial_ms = 200, .max_ms = 10000, .multiplier = 2, .limit = 10, .window_ms = 60000, .retry_ms = 30000},
        .watchdog = {.stopped_ms = WATCHDOG_STOPPED_MS, .hang_ms = WATCHDOG_HUNG_MS},
        .engine_grace_ms = 3000,
        .retry_limit = PIPELINE_RETRY_LIMIT,
    };
}

struct gateway *gateway_create(const struct gateway_options *options, struct error *err)
{
    struct gateway *g = calloc(1, sizeof *g);
    if (!g || !(g->metrics = metrics_create())) {
        free(g);
        error_set(err, ERR_NO_MEMORY, "no memory for the gateway.");
        return NULL;
    }
    g->options = *options;
    g->started_ms = clock_ms();
    return g;
}

/* ---- adding a model ---- */

static void name_of_file(const char *path, char *out, size_t size)
{
    const char *base = strrchr(path, '/');
    struct str name = str_of(base ? base + 1 : path);
    if (str_ends(name, STR(".gguf"))) {
        name.len -= strlen(".gguf");
    }
    snprintf(out, size, STR_FMT, STR_ARG(name));
}

static bool collect_names(struct served_model *m, struct error *err)
{
    const struct served_model_options *o = &m->options;
    name_of_file(o->model_path, m->file_name, sizeof m->file_name);
    if (o->n_names + 1 > MODEL_MAX_NAMES) {
        return error_set(err, ERR_INVALID, "a model can be served under at most %d names, %d are given.",
                         MODEL_MAX_NAMES - 1, o->n_names);
    }
    for (int i = 0; i < o->n_names; i++) {
        m->names[m->n_names++] = o->names[i];
    }
    m->names[m->n_names++] = m->file_name;
    return true;
}

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
    return m->tokenizer && load_template(m, err);
}

/* Of one position, windows as if they were full. */
static size_t kv_token_size(const struct served_model *m, enum kv_type type)
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
    size_t token_size = kv_token_size(m, type);
    size_t context = m->options.max_context ? m->options.max_context : (size_t)m->config.n_context;
    size_t sequences = m->options.max_sequences ? m->options.max_sequences : DEFAULT_SEQUENCES;
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

static uint32_t or_default(uint32_t value, uint32_t fallback)
{
    return value ? value : fallback;
}

/* The queue that counts is the gateway's (admission.h): an engine takes all that it lets through, and those that run.
 */
static uint32_t engine_waiting(const struct served_model_options *o)
{
    return or_default(o->max_waiting, DEFAULT_WAITING) + or_default(o->max_sequences, DEFAULT_SEQUENCES) +
           LIMIT_PROMPTS;
}

static void on_child_state(void *arg);

static bool make_child(struct served_model *m, struct error *err)
{
    const struct served_model_options *o = &m->options;
    struct engine_arguments arguments;
    struct engine_child_options options = {.gateway = &m->gateway->options,
                                           .name = m->names[0],
                                           .max_waiting = engine_waiting(o),
                                           .on_state = on_child_state,
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

static void take_stats(void *arg, const struct engine_stats *stats)
{
    struct served_model *m = arg;
    m->stats = *stats;
    m->stats_ms = clock_ms();
    metrics_engine_stats(m->gateway->metrics, m->metrics_index, stats);
    admission_note_stats(m->admission, stats);
    if (m->warmer) {
        warmer_note_stats(m->warmer, stats);
    }
}

/* A request that failed before its first token did not run: its prompt is not charged. */
static void charge_key(void *arg, const struct gen_request *r, const struct gen_outcome *outcome)
{
    struct served_model *m = arg;
    struct api_keys *keys = m->gateway->options.keys;
    api_keys_charge(keys, r->api_key, outcome->usage.completion_tokens, clock_ms());
    if (outcome->error && outcome->usage.n_begun == 0) {
        api_keys_give_back(keys, r->api_key, outcome->usage.prompt_tokens, clock_ms());
    }
}

static void free_arena(void *arg, struct arena *a)
{
    struct gateway *g = arg;
    loop_free_arena(g->options.loop, a);
}

static void on_begun(void *arg, const struct generation *g)
{
    struct served_model *m = arg;
    deadline_timer_note(&m->deadlines, g);
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
    m->deadlines.pipeline = m->pipeline;
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
        .port = engine_child_port(m->child),
        .n_context = o->max_context && o->max_context < n_context ? o->max_context : n_context,
        .default_sampling = o->default_sampling,
        .default_max_tokens = o->default_max_tokens,
        .default_timeout_ms = o->default_timeout_ms,
        .queue_timeout_ms = o->queue_timeout_ms,
        .first_token_timeout_ms = o->first_token_timeout_ms,
        .on_begun = on_begun,
        .on_begun_arg = m,
        .retry_limit = m->gateway->options.retry_limit,
        .observer = metrics_observer(m->gateway->metrics, m->metrics_index),
        .on_stats = take_stats,
        .on_stats_arg = m,
        .on_finished = charge_key,
        .on_finished_arg = m,
        .free_arena = free_arena,
        .free_arena_arg = m->gateway,
    };
    m->pipeline = pipeline_create(&options, err);
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

static void served_model_free(struct served_model *m)
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

/* ---- memory pressure ---- */

static void limit_pool(struct served_model *m, enum pressure_level level)
{
    uint64_t held = metrics_page_bytes(&m->stats, m->stats.pages_referenced + m->stats.pages_cached);
    if (!pool_limit_update(&m->pool_limit, level, (size_t)held, clock_ms())) {
        return;
    }
    struct pool_limit limit = {.size = m->pool_limit.limit, .urgent = m->pool_limit.urgent};
    LOG_INFO("KV pool limited", "model=%s pressure=%s mib=%zu of_mib=%zu", m->names[0], pressure_level_name(level),
             m->pool_limit.limit >> 20, m->pool_limit.size >> 20);
    engine_child_limit_pool(m->child, &limit);
}

static void on_pressure(void *arg, enum pressure_level level)
{
    struct gateway *g = arg;
    for (size_t i = 0; i < g->n_models; i++) {
        limit_pool(g->models[i], level);
    }
}

static bool watch_pressure(struct gateway *g, struct error *err)
{
    struct pressure_options options = {
        .loop = g->options.loop, .file = g->options.pressure_file, .on_level = on_pressure, .arg = g};
    return g->pressure || (g->pressure = pressure_create(&options, err));
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
    if (!watch_pressure(g, err) || !collect_names(m, err) || !read_model(m, err) || !make_child(m, err) ||
        !deadline_timer_init(&m->deadlines, g->options.loop, err) || !make_pipeline(m, err) ||
        !make_admission(m, err) || !make_warmer(m, err)) {
        served_model_free(m);
        return error_wrap(err, "model '%s'", options->model_path);
    }
    g->models[g->n_models++] = m;
    engine_child_start(m->child);
    return true;
}

static void begin_warming(struct served_model *m)
{
    struct error ignored;
    enum kv_type type;
    if (m->warmer && !m->gateway->draining && kv_type_parse(m->options.kv_type, &type, &ignored)) {
        warmer_begin(m->warmer, engine_child_info(m->child)->kv_size / kv_token_size(m, type));
    }
}

static void limit_pool(struct served_model *m, enum pressure_level level);

static void on_child_state(void *arg)
{
    struct served_model *m = arg;
    int restarts = m->child ? engine_child_restarts(m->child) : 0;
    if (restarts > m->seen_restarts) {
        m->seen_restarts = restarts;
        if (engine_loss_info(engine_child_loss(m->child))->shrinks) {
            limit_pool(m, PRESSURE_WARN); /* the next one is not to end the same way; grows back like after pressure */
        }
#define X(name) m->stats.name = 0;
        ENGINE_STATS_GAUGES(X)
#undef X
        metrics_engine_lost(m->gateway->metrics, m->metrics_index, engine_child_loss(m->child));
    }
    if (m->child && m->admission) {
        admission_note_ready(m->admission, engine_child_state(m->child) == MODEL_READY);
    }
    if (m->child && engine_child_state(m->child) == MODEL_READY) {
        begin_warming(m);
    }
    if (m->child && m->gateway->options.on_state) {
        m->gateway->options.on_state(m->gateway->options.on_state_arg, m);
    }
}

/* ---- drain and close ---- */

/* Nobody waits for it. */
static void end_warming(struct gateway *g)
{
    for (size_t i = 0; i < g->n_models; i++) {
        if (g->models[i]->warmer) {
            warmer_end(g->models[i]->warmer);
        }
    }
}

static void stop_drain(struct gateway *g)
{
    loop_timer_free(g->drain_timer);
    g->drain_timer = NULL;
}

/* An end without a word would look like a complete answer. */
static void fail_running(struct gateway *g)
{
    struct error why = {0};
    error_set(&why, ERR_UNAVAILABLE, "The server is shutting down and this request took too long.");
    for (size_t i = 0; i < g->n_models; i++) {
        pipeline_fail_all(g->models[i]->pipeline, &why);
    }
}

static void poll_drain(void *arg)
{
    struct gateway *g = arg;
    size_t running = 0;
    for (size_t i = 0; i < g->n_models; i++) {
        running += pipeline_n_running(g->models[i]->pipeline);
    }
    if (running == 0 || clock_ms() >= g->drain_until_ms) {
        if (running) {
            LOG_WARN("drain time is over", "running=%zu", running);
            fail_running(g);
        }
        stop_drain(g);
        g->on_drained(g->on_drained_arg);
    }
}

void gateway_drain(struct gateway *g, int64_t timeout_ms, void (*on_drained)(void *arg), void *arg)
{
    g->draining = true;
    end_warming(g);
    g->on_drained = on_drained;
    g->on_drained_arg = arg;
    g->drain_until_ms = clock_ms() + timeout_ms;
    g->drain_timer = loop_timer_create(g->options.loop, poll_drain, g);
    if (!g->drain_timer) {
        loop_defer(g->options.loop, on_drained, arg);
        return;
    }
    loop_timer_start(g->drain_timer, 0, GATEWAY_DRAIN_POLL_MS);
}

bool gateway_accepting(const struct gateway *g)
{
    return !g->draining;
}

static void finish_close(void *arg)
{
    struct gateway *g = arg;
    if (g->n_closing && --g->n_closing) {
        return;
    }
    void (*on_closed)(void *) = g->on_closed;
    void *on_closed_arg = g->on_closed_arg;
    pressure_free(g->pressure);
    for (size_t i = 0; i < g->n_models; i++) {
        served_model_free(g->models[i]);
    }
    metrics_free(g->metrics);
    free(g);
    on_closed(on_closed_arg);
}

void gateway_close(struct gateway *g, void (*on_closed)(void *arg), void *arg)
{
    g->draining = true;
    stop_drain(g);
    g->on_closed = on_closed;
    g->on_closed_arg = arg;
    g->n_closing = g->n_models;
    for (size_t i = 0; i < g->n_models; i++) {
        engine_child_close(g->models[i]->child, finish_close, g);
        if (g->models[i]->warmer) {
            g->n_closing++;
            warmer_close(g->models[i]->warmer, finish_close, g);
        }
    }
    if (g->n_models == 0) {
        loop_defer(g->options.loop, finish_close, g);
    }
}

/* ---- looking ---- */

const char *model_state_name(enum model_state s)
{
    static const char *const names[] = {"loading", "ready", "restarting", "failed"};
    return names[s];
}

bool gateway_ready(const struct gateway *g, struct error *why_not)
{
    if (g->draining) {
        return error_set(why_not, ERR_UNAVAILABLE, "the server is shutting down.");
    }
    for (size_t i = 0; i < g->n_models; i++) {
        const struct served_model *m = g->models[i];
        enum model_state state = engine_child_state(m->child);
        if (state == MODEL_LOADING) {
            return error_set(why_not, ERR_UNAVAILABLE, "model '%s' is loading (%d%%).", m->names[0],
                             (int)(100 * engine_child_load_fraction(m->child)));
        }
        if (state != MODEL_READY) {
            return error_set(why_not, ERR_UNAVAILABLE, "model '%s' is %s: %s", m->names[0], model_state_name(state),
                             engine_child_failure(m->child)->msg);
        }
        struct warmer_status warm = m->warmer ? warmer_status(m->warmer) : (struct warmer_status){0};
        if (m->options.warm_wait && m->warmer && warm.n_rounds == 0) {
            return error_set(why_not, ERR_UNAVAILABLE, "model '%s' is computing its warm prompts (%zu of %zu).",
                             m->names[0], warm.n_done, warm.n);
        }
    }
    return true;
}

struct metrics *gateway_metrics(struct gateway *g)
{
    return g->metrics;
}

enum pressure_level gateway_pressure(const struct gateway *g)
{
    return pressure_level(g->pressure);
}

struct loop *gateway_loop(struct gateway *g)
{
    return g->options.loop;
}

int64_t gateway_uptime_ms(const struct gateway *g)
{
    return clock_ms() - g->started_ms;
}

size_t gateway_n_models(const struct gateway *g)
{
    return g->n_models;
}

struct served_model *gateway_model_at(struct gateway *g, size_t i)
{
    return g->models[i];
}

static bool answers_to(const struct served_model *m, struct str name)
{
    for (size_t i = 0; i < m->n_names; i++) {
        if (str_match(str_of(m->names[i]), name)) {
            return true;
        }
    }
    const char *base = strrchr(m->options.model_path, '/');
    return str_eq(str_of(base ? base + 1 : m->options.model_path), name);
}

struct served_model *gateway_model_find(struct gateway *g, struct str name)
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
    return engine_child_state(m->child);
}

float served_model_load_fraction(const struct served_model *m)
{
    return engine_child_load_fraction(m->child);
}

const struct error *served_model_failure(const struct served_model *m)
{
    return engine_child_failure(m->child);
}

const struct engine_info *served_model_info(const struct served_model *m)
{
    return engine_child_info(m->child);
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

int64_t served_model_created_s(const struct served_model *m)
{
    return m->created_s;
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
