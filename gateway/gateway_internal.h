/* Shared by the files of the gateway's models only:
 *
 *     gateway.c         life: drain, close, memory pressure; whether it is ready
 *     gateway_add.c     a model is added: what is read of its file, and the parts that serve it
 *     gateway_open.c    models that are loaded on demand: read when they are asked for, listed anew, freed
 *     gateway_manage.c  their engines: what the model manager decides is done, and it is told what happens
 *     gateway_adapters.c  adapters of models: read, named, loaded and unloaded at run time
 *     gateway_events.c  what those parts report: an engine's state and statistics, requests that begin and end
 *     served_model.c    the names that a model answers to, and what can be seen of it */
#ifndef TANDEM_GATEWAY_GATEWAY_INTERNAL_H
#define TANDEM_GATEWAY_GATEWAY_INTERNAL_H

#include "gateway/deadline_timer.h"
#include "gateway/engine_child.h"
#include "gateway/gateway.h"
#include "gateway/memory_need.h"
#include "gateway/model_manager.h"
#include "gateway/pool_limit.h"
#include "gateway/pressure.h"

#include <stdatomic.h>

#define GATEWAY_MAX_MODELS 256 /* in the list; those that still go are not counted */
#define MODEL_MAX_NAMES    32

struct model_waiter { /* somebody who is told when something is done */
    struct model_waiter *next;
    void (*fn)(void *arg, const struct error *err);
    void *arg;
};

struct reading;         /* gateway_open.c */
struct adapter_loading; /* gateway_adapters.c */

struct named_adapter { /* one of the options; views of them */
    struct str name;
    const char *path;
    struct adapter_facts facts;
};

struct model_waiters { /* first come, first told; zeroed is empty */
    struct model_waiter *first, *last;
};

struct served_model {
    struct gateway *gateway;
    struct model_slot slot;
    struct memory_need need;
    bool open, opening; /* its parts below are there; a worker reads it */
    bool retired;       /* it is in the list no more, and freed when nothing of it is left */
    bool was_ready;     /* once at least */
    size_t n_refs;
    struct model_choice choice;  /* of options.choose; a thread's while it is opening */
    atomic_int opening_permille; /* of what choose makes */
    bool bringing;               /* likewise */
    atomic_bool stop_bringing;
    atomic_ullong brought, to_bring; /* bytes */
    struct error open_failure;
    struct model_waiters for_open, for_load, for_unload;
    struct served_model_options options; /* strings are the caller's, who keeps them */
    char file_name[256];                 /* without folder and ".gguf" */
    const char *names[MODEL_MAX_NAMES];
    size_t n_names;
    int64_t created_s;
    uint64_t disk_size; /* of a file; 0: it is a folder */
    struct model_file *file;
    struct tokenizer *tokenizer;
    struct chat_template *chat;
    struct output_formats formats;
    struct decoder_config config;
    struct named_adapter named[WIRE_MAX_ADAPTERS]; /* [n_named] as they were read with it */
    int n_named;
    struct adapter_set adapters;
    struct adapter_loading *loadings; /* that wait for its engine */
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
    struct pressure *pressure;                       /* from the first model on */
    struct served_model *models[GATEWAY_MAX_MODELS]; /* [n_models] the list */
    size_t n_models;
    struct served_model *retired[MANAGER_MAX_SLOTS - GATEWAY_MAX_MODELS]; /* [n_retired] */
    size_t n_retired;
    struct model_manager manager;
    struct loop_timer *manage_timer; /* NULL: no model was ever added */
    bool due_now;                    /* it rings as soon as the loop gets to it */
    double load_s;
    uint64_t n_failed_loads;
    int64_t started_ms;
    bool draining, drained;         /* drained: who waits for a load or an unload is not kept waiting any more */
    atomic_bool ends;               /* what makes models is to stop */
    struct reading *first_making;   /* of models that have to be made; the first of them is under way */
    struct reading *first_bringing; /* of models that have to be brought, and are not yet */
    size_t n_bringing;              /* under way */
    struct loop_timer *drain_timer;
    int64_t drain_until_ms;
    void (*on_drained)(void *arg);
    void *on_drained_arg;
    size_t n_held;    /* uses of pipelines by workers; closing waits for them */
    size_t n_reading; /* models that are read, made or brought; likewise */
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

/* A model with its names and nothing else; its strings are options' or, with an arena, its own. */
struct served_model *gateway__create_model(struct gateway *g, const struct served_model_options *options,
                                           struct error *err);
NODISCARD bool gateway__read_model(struct served_model *m, struct error *err); /* its file; any thread */
void gateway__forget_file(struct served_model *m);                             /* what that has read */
NODISCARD bool gateway__make_parts(struct served_model *m, struct error *err); /* all else; it is open then */
void gateway__free_parts(struct served_model *m);
void gateway__free_model(struct served_model *m); /* NULL is fine; its engine is closed */

/* ---- gateway_open.c ---- */

void gateway__tell(struct model_waiters *w, const struct error *err); /* and none is left; err NULL: it is done */
/* fn NULL: nothing. No memory: fn is called at once with that. */
void gateway__add_waiter(struct model_waiters *w, void (*fn)(void *arg, const struct error *err), void *arg);
void gateway__sweep(struct gateway *g); /* frees what is retired and done */

/* ---- gateway_manage.c ---- */

NODISCARD bool gateway__start_manager(struct gateway *g, struct error *err);
void gateway__manage_soon(struct gateway *g);         /* something has changed that the manager should know */
void gateway__model_wanted(void *arg);                /* arg: the served_model of which a job waits */
void gateway__engine_changed(struct served_model *m); /* its child's state */

/* ---- gateway_adapters.c ---- */

NODISCARD bool gateway__read_adapters(struct served_model *m, struct error *err); /* of its options; any thread */
NODISCARD bool gateway__add_adapters(struct served_model *m, struct error *err);  /* what that has read, and limits */
void gateway__adapters_changed(void *arg); /* arg: the served_model; who waits for its adapters is told */
void gateway__refuse_adapters(struct served_model *m, const struct error *err); /* who waits for them hears this */
struct served_model *gateway__find_with_adapter(struct gateway *g, struct str name, struct str *adapter);

/* ---- gateway_events.c: callbacks; arg is the served_model, of free_arena the gateway ---- */

void gateway__child_state(void *arg);
void gateway__take_stats(void *arg, const struct engine_stats *stats);
void gateway__generation_begun(void *arg, const struct generation *g);
void gateway__generation_finished(void *arg, const struct gen_request *r, const struct gen_outcome *outcome);
void gateway__free_arena(void *arg, struct arena *a);
void gateway__hold(void *arg, bool held); /* likewise */

/* ---- served_model.c ---- */

struct served_model *gateway__find_base(struct gateway *g, struct str name); /* without adapters */
bool gateway__has_model(const struct gateway *g, struct str name);           /* one has exactly this name */

NODISCARD bool gateway__collect_names(struct served_model *m, struct error *err);

#endif
