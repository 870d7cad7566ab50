/* Shared by the files of the gateway's models only:
 *
 *     gateway.c         life: drain, close, memory pressure; whether it is ready
 *     gateway_add.c     a model is added: what is read of its file, its pool, and the parts that serve it
 *     gateway_events.c  what those parts report: an engine's state and statistics, requests that begin and end
 *     served_model.c    the names that a model answers to, and what can be seen of it */
#ifndef TANDEM_GATEWAY_GATEWAY_INTERNAL_H
#define TANDEM_GATEWAY_GATEWAY_INTERNAL_H

#include "gateway/deadline_timer.h"
#include "gateway/engine_child.h"
#include "gateway/gateway.h"
#include "gateway/pool_limit.h"
#include "gateway/pressure.h"

#define GATEWAY_MAX_MODELS METRICS_MAX_MODELS
#define MODEL_MAX_NAMES    32

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
    struct output_formats formats;
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
    size_t n_held; /* uses of pipelines by workers; closing waits for them */
    size_t n_closing;
    void (*on_closed)(void *arg);
    void *on_closed_arg;
};

/* ---- gateway.c ---- */

NODISCARD bool gateway__watch_pressure(struct gateway *g, struct error *err); /* it is watched from now on */
void gateway__closed_part(void *gateway);                                     /* one of n_closing */
/* The model's engine uses as much of its pool as memory allows at this level. */
void gateway__limit_pool(struct served_model *m, enum pressure_level level);

/* ---- gateway_add.c ---- */

/* Bytes of one position, windows as if they were full. */
size_t gateway__kv_token_size(const struct served_model *m, enum kv_type type);
void gateway__free_model(struct served_model *m); /* NULL is fine; its engine is closed */

/* ---- gateway_events.c: callbacks; arg is the served_model, of free_arena the gateway ---- */

void gateway__child_state(void *arg);
void gateway__take_stats(void *arg, const struct engine_stats *stats);
void gateway__generation_begun(void *arg, const struct generation *g);
void gateway__generation_finished(void *arg, const struct gen_request *r, const struct gen_outcome *outcome);
void gateway__free_arena(void *arg, struct arena *a);
void gateway__hold(void *arg, bool held); /* likewise */

/* ---- served_model.c ---- */

NODISCARD bool gateway__collect_names(struct served_model *m, struct error *err);

#endif
