/* The gateway's models: one engine process per loaded model, started, watched and restarted here; the names under which
 * models answer; metrics. Owns the KV pools' memory. Everything on the loop's thread.
 *
 *     gateway_create -> gateway_add_model (returns at once; the engine loads in its process) -> gateway_ready
 *                    or gateway_set_models (again whenever the list changes): models that are loaded on demand
 *     SIGTERM: gateway_drain(g, timeout, on_drained) -> gateway_close(g, on_closed)
 *
 * A model that is loaded on demand is read (tokenizer, template, configuration) when it is first asked for, by a
 * worker, or, where it has to be made first (choose), by a thread of its own:
 *
 *     m = gateway_model_find(g, name); served_model_hold(m);
 *     gateway_open(m, on_open, arg)      at once when it is read already; then its pipeline and its admission are there
 *     served_model_release(m)            when nothing of the caller uses it any more
 *
 * What is read stays in memory for as long as the model is in the list. Its engine comes and goes by the rules of
 * gateway/model_manager.h; jobs that are submitted meanwhile wait, in their order (gateway/engine_child.h). */
#ifndef TANDEM_GATEWAY_GATEWAY_H
#define TANDEM_GATEWAY_GATEWAY_H

#include "base/arena.h"
#include "base/loop.h"
#include "base/sys_pressure.h"
#include "gateway/admission.h"
#include "gateway/api_keys.h"
#include "gateway/metrics.h"
#include "gateway/restart.h"
#include "gateway/warm.h"
#include "gateway/watchdog.h"
#include "model/model.h"
#include "pipeline/generation.h"

struct gateway;
struct served_model;

struct gateway_options {
    struct loop *loop;
    const char *program;           /* what to exec for `tandem engine`; NULL: sys_self_path */
    struct restart_policy restart; /* of engines that are lost */
    struct watchdog_limits watchdog;
    int64_t engine_grace_ms;   /* for an engine to exit by itself, before SIGKILL */
    uint32_t retry_limit;      /* engines that may be lost under a request without a new token of it */
    uint64_t memory;           /* bytes for all engines; 0: no limit, which only one model that is always loaded has */
    int64_t rows_patience_ms;  /* how long rows of batches wait until a model is loaded for them as for requests */
    const char *pressure_file; /* NULL: the system says how short memory is; see pressure.h */
    struct mcp_host *mcp;      /* tools for requests that want them; outlives the gateway; NULL: none */
    struct api_keys *keys;     /* what requests generate is charged to them; outlive the gateway; NULL: none */
    /* A model's state has changed; may be NULL. */
    void (*on_state)(void *arg, struct served_model *m);
    void *on_state_arg;
};
struct gateway_options gateway_options_default(void);

#define SERVED_DEFAULT_SEQUENCES 64

/* What is loaded of a model on demand. */
struct model_choice {
    char path[4096];
    int bits;        /* as precision_bits below */
    char why[240];   /* as precision_why */
    bool to_be_made; /* it is not there yet, and nobody asked to make it */
};

struct model_bringing {                                         /* how a download is watched; called on its thread */
    void (*progress)(void *arg, uint64_t done, uint64_t total); /* bytes */
    bool (*stops)(void *arg);                                   /* true: it is to end soon */
    void *arg;
};

struct served_model_options {
    const char *model_path;
    /* Of models that are loaded on demand; gateway_set_models. */
    bool on_demand;
    bool pinned, preload;  /* pinned: loaded at the start, and never to make room; preload: loaded at the start */
    int64_t keep_alive_ms; /* of one that is not pinned: it goes after so long without requests; -1: never */
    /* What is loaded of it, found when it is first asked for, by a worker. budget: bytes for all engines; 0: no limit.
     * With progress it is made where it has to be, on a thread of its own, one model at a time; progress says false
     * when the gateway closes: then it fails soon. NULL: model_path as it is. */
    bool (*choose)(const void *arg, uint64_t budget, bool (*progress)(void *progress_arg, double fraction),
                   void *progress_arg, struct model_choice *out, struct error *err);
    const void *choose_arg; /* lives as long as the arena */
    /* Of one that may have to be brought from elsewhere before anything is read of it; NULL: it is here. is_here is
     * asked by a worker each time that it is read; bring runs on a thread of its own. Either writes where it is to
     * model_path. */
    bool (*is_here)(void *bring_arg, struct error *err);
    bool (*bring)(void *bring_arg, const struct model_bringing *b, struct error *err);
    void *bring_arg;          /* lives as long as the arena */
    bool asked_for;           /* no list names it: it leaves where it cannot be brought, and stays with new lists */
    uint64_t version;         /* of this definition: another one is another model under the same name */
    struct arena *arena;      /* of the strings here; the model's from gateway_set_models on; NULL: they outlive it */
    const char *const *names; /* [n_names] names and patterns ("claude-*") it answers to, besides "default" and, unless
                                 it is loaded on demand, its file's name */
    int n_names;
    const char *chat_template_path;             /* --chat-template; NULL: the model's own */
    const char *tool_format, *reasoning_format; /* as given: "auto", "none" or a name; NULL: auto */
    const char *const *overrides;
    int n_overrides;
    const char *rope_scaling;
    struct backend_words backend; /* as given on the command line */
    const char *kv_type;          /* likewise: "f16" */
    int n_threads;                /* 0: as many as usable */
    uint64_t kv_memory;           /* bytes; 0: 25% of what the system or cgroup leaves after the weights */
    int precision_bits;           /* what its weights were quantized to when it was loaded; 0: they are as they were */
    const char *precision_why;    /* a sentence; NULL: nobody chose; set by choose once the model is open */
    uint32_t max_context, max_batch_tokens, max_sequences, max_waiting, prefill_chunk;
    bool prefix_cache, reserve_output;
    const char *kv_disk_dir;      /* NULL: none */
    double kv_disk_gb;            /* 0: the engine's default */
    const struct warm_list *warm; /* NULL: none; outlives the gateway */
    bool warm_wait;               /* gateway_ready waits for the first time that they are all cached */
    const char *speculation;      /* as given: "auto" */
    const char *draft_model_path; /* NULL: none */
    uint32_t max_draft_tokens;
    uint64_t draft_kv_memory;
    double max_itl_factor;
    /* Adapters ("NAME=PATH") that it has from the start, and the folder beneath which others may be loaded at run time;
     * NULL: none may. [n_loras] */
    const char *const *loras;
    int n_loras;
    const char *lora_dir;
    uint32_t lora_max;    /* of them at once; 0: 16, or as many as are named */
    uint64_t lora_memory; /* bytes of all of them; 0: what the named ones take, and 256 MiB with lora_dir */
    const char *script_path, *fault;
    bool sandbox;                       /* the engine gives up what it does not need */
    const char *log_level, *log_format; /* of the engine's log; NULL: its defaults */
    struct sampling default_sampling;   /* of requests that say nothing */
    int64_t default_max_tokens, default_timeout_ms;
    int64_t queue_timeout_ms, first_token_timeout_ms; /* 0: none */
};

NODISCARD struct gateway *gateway_create(const struct gateway_options *options, struct error *err);
/* Reads the model's metadata, makes tokenizer, template, pool and pipeline, and starts the engine. It stays loaded. */
NODISCARD bool gateway_add_model(struct gateway *g, const struct served_model_options *options, struct error *err);
/* These are the models from now on, in this order; options->names[0] tells them apart. One that is there already in the
 * same version stays as it is. One that is not among them, or in another version, takes no new requests, finishes those
 * it has, and goes. INVALID: too many, or a name twice; then nothing has changed. The arenas are the gateway's when it
 * succeeds. */
NODISCARD bool gateway_set_models(struct gateway *g, const struct served_model_options *models, size_t n,
                                  struct error *err);

/* One more. Its arena is the gateway's when it succeeds. NULL: failed; OVERLOADED: the list is full. */
NODISCARD struct served_model *gateway_add_asked(struct gateway *g, const struct served_model_options *options,
                                                 struct error *err);

/* Nothing new is accepted (gateway_accepting is false); on_drained when no generation is left or the time is over: then
 * those that still run have been given an UNAVAILABLE error. */
void gateway_drain(struct gateway *g, int64_t timeout_ms, void (*on_drained)(void *arg), void *arg);
bool gateway_accepting(const struct gateway *g);
/* Ends the engines; on_closed when all are gone; the gateway is freed after it. */
void gateway_close(struct gateway *g, void (*on_closed)(void *arg), void *arg);

enum model_state {
    MODEL_UNLOADED, /* no engine, and none is wanted or there is no memory for it yet */
    MODEL_LOADING,
    MODEL_READY,
    MODEL_RESTARTING, /* lost, waits for its next start */
    MODEL_FAILED,
    MODEL_UNLOADING /* takes nothing new; goes when it has finished what runs */
};
const char *model_state_name(enum model_state s);

/* Every model is ready that is to be loaded at the start or always, and it is not draining. Takes no engine lock. */
bool gateway_ready(const struct gateway *g, struct error *why_not);
struct metrics *gateway_metrics(struct gateway *g);
enum pressure_level gateway_pressure(const struct gateway *g); /* how short memory is */
struct loop *gateway_loop(struct gateway *g);
int64_t gateway_uptime_ms(const struct gateway *g);

/* ---- models that come and go ---- */

/* fn(arg, NULL) once the model is read, at once or later; else with why it is not: UNAVAILABLE, or MODEL_NOT_FOUND
 * where it was to be brought, and there is no such thing. The model is held. */
void gateway_open(struct served_model *m, void (*fn)(void *arg, const struct error *err), void *arg);
bool served_model_is_open(const struct served_model *m);
/* It is brought now: how far it is, in bytes. */
bool served_model_is_brought(const struct served_model *m, uint64_t *done, uint64_t *total);
void served_model_hold(struct served_model *m);
void served_model_release(struct served_model *m); /* NULL is fine; it may be freed with it */

/* Loads it, or waits while it loads; the model is open. fn(arg, NULL) when it is ready, from the loop and not from
 * here; else why not: UNAVAILABLE, also once the gateway has drained, or NO_ROOM when it can never fit. fn NULL:
 * nobody waits for it. */
void gateway_load(struct served_model *m, void (*fn)(void *arg, const struct error *err), void *arg);
/* Unloads it once what its engine runs has ended, or, with force, at once: what ran waits then. One that is brought is
 * stopped; who waits for it is told. What waits has it
 * loaded again. fn(arg, NULL) when no engine is left, from the loop and not from here; UNAVAILABLE as above. */
void gateway_unload(struct served_model *m, bool force, void (*fn)(void *arg, const struct error *err), void *arg);
/* Until it is unloaded it stays for so long without requests instead of what its options say; 0: it goes after those it
 * has, even a pinned one; -1: it stays. A pinned one takes no notice of other values. */
void served_model_keep_alive(struct served_model *m, int64_t ms);

struct memory_plan { /* bytes */
    uint64_t budget; /* 0: no limit */
    uint64_t used;   /* planned for engines that are there, come or go */
    uint64_t pinned;
    uint64_t n_loads, n_evictions, n_idle_unloads; /* so far; evictions: to make room */
    size_t n_waiting;                              /* models that wait to be loaded */
    double load_s;                                 /* of all loads that succeeded */
    uint64_t n_failed_loads;
};
struct memory_plan gateway_memory_plan(const struct gateway *g);

struct memory_need;
const struct memory_need *served_model_need(const struct served_model *m); /* of one that is open */
bool served_model_is_pinned(const struct served_model *m);
int64_t served_model_keep_alive_ms(const struct served_model *m); /* as it is now; -1: it stays */
int64_t served_model_idle_ms(const struct served_model *m);       /* since it had something to do; -1: it has */
uint32_t served_model_n_queued(const struct served_model *m);     /* jobs that wait outside of an engine */

size_t gateway_n_models(const struct gateway *g);
struct served_model *gateway_model_at(struct gateway *g, size_t i);
/* Likewise with those behind them that have left the list and still have something to do. */
size_t gateway_n_present(const struct gateway *g);
struct served_model *gateway_present_at(struct gateway *g, size_t i);
/* By a request's `model`: empty or "default": the first; a name; "base:adapter", or the name of an adapter that only
 * one model has; a pattern or the file's name; NULL: unknown. *adapter (NULL: not wanted): the adapter's name, a view
 * of name; empty: none. */
struct served_model *gateway_model_find(struct gateway *g, struct str name, struct str *adapter);
/* MODEL_NOT_FOUND, with the adapters that there are; false. */
bool gateway_model_missing(struct gateway *g, struct str name, struct error *err);

/* ---- adapters (pipeline/adapter_set.h) ---- */

struct served_adapter;
struct adapter_set;
const struct adapter_set *served_model_adapters(const struct served_model *m);
/* "base:adapter", under which requests find it and lists show it. */
#define ADAPTER_ID_SIZE 512
void served_model_adapter_id(const struct served_model *m, struct str adapter, char out[ADAPTER_ID_SIZE]);
/* Of a model that is open. NULL: it has none of this name. */
struct served_adapter *served_model_adapter(struct served_model *m, struct str name);
/* A request that was admitted with it keeps it until it ends, whatever becomes of its name. */
void served_model_hold_adapter(struct served_model *m, struct served_adapter *a);
void served_model_release_adapter(struct served_model *m, struct served_adapter *a); /* NULL is fine; it may be freed */
/* Reads an adapter beneath the folder of the options of a model that is open, and gives it to its engine; where there
 * is none, to the next. fn(arg, NULL) when it is there, later; else why not. FORBIDDEN: there is no such folder.
 * INVALID: the name, the path. Then fn is not called. */
NODISCARD bool gateway_adapter_load(struct served_model *m, struct str name, struct str path,
                                    void (*fn)(void *arg, const struct error *err), void *arg, struct error *err);
/* Bytes that the adapters of a model with these options may take: what they say, or those that they name, and room for
 * others where there is a folder. Those are read for it; what cannot be read counts nothing here: whoever adds the
 * model hears of it. Any thread. */
uint64_t gateway_adapter_memory(const struct served_model_options *options);
/* No request finds it any more; it goes when those that have it have ended. a may be freed. */
void gateway_adapter_unload(struct served_model *m, struct served_adapter *a);

const char *served_model_name(const struct served_model *m); /* the first name */
size_t served_model_n_names(const struct served_model *m);
const char *served_model_name_at(const struct served_model *m, size_t i);
const struct served_model_options *served_model_options(const struct served_model *m);
/* Of one that is open, like everything below but its state and what says that it can be asked of any. */
struct pipeline *served_model_pipeline(struct served_model *m);
enum model_state served_model_state(const struct served_model *m);
float served_model_load_fraction(const struct served_model *m);
const struct error *served_model_failure(
    const struct served_model *m); /* why it is restarting or failed, or could not be read; any model */
const struct engine_info *served_model_info(
    const struct served_model *m); /* NULL until ready once; the last known after */
const struct engine_stats *served_model_stats(const struct served_model *m); /* the last received */
int64_t served_model_stats_age_ms(const struct served_model *m);             /* -1: none was received */
const struct decoder_config *served_model_config(const struct served_model *m);
const struct model_file *served_model_file(const struct served_model *m); /* its metadata; lives as long as it */
int64_t served_model_created_s(const struct served_model *m); /* when its file was last changed; any model */
uint64_t served_model_disk_size(
    const struct served_model *m); /* of its file; of a folder: once it is open; any model */
int served_model_restarts(const struct served_model *m);
int served_model_pid(const struct served_model *m); /* of its engine; 0: none runs */
/* Drops what the prefix cache holds and nobody uses, in memory and on disk, before any job that is submitted later is
 * admitted. False: no engine is ready, so nothing lies in memory; the next one clears its disk before it takes a job.
 */
bool served_model_clear_cache(struct served_model *m);
struct admission *served_model_admission(struct served_model *m);
size_t served_model_pool_limit(const struct served_model *m); /* bytes of KV that its engine may use */
/* [GEN_LIMIT_COUNT] requests that ended because their time was over, by which (pipeline/deadlines.h). */
const uint64_t *served_model_late(const struct served_model *m);
const struct warmer *served_model_warmer(const struct served_model *m); /* NULL: no warm prompts */
int served_model_metrics(const struct served_model *m);                 /* its index in the metrics */

#endif
