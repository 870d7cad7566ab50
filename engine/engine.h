/* An engine: one served model, its scheduler, KV pages, prefix cache and step loop. It gets jobs (token ids and
 * parameters) and emits events. It knows no HTTP, no text of requests, no process: `tandem engine` wraps it in a
 * process (engine/process.h), lib/ runs it in the caller's.
 *
 *     struct engine *e = engine_create(&options, err);        loads the model
 *     engine_start(e, sink, arg, err);                        starts the step thread
 *     engine_submit(e, &job, err); ... events come through the sink ...
 *     engine_free(e);                                         stops and joins
 *
 * Threads: submit, cancel, stats from any thread; the sink is called on the step thread and must not block. */
#ifndef TANDEM_ENGINE_ENGINE_H
#define TANDEM_ENGINE_ENGINE_H

#include "backend/backend.h"
#include "model/model.h"
#include "wire/frame.h"

struct engine;
struct fault; /* engine/fault.h */

struct engine_options {
    const char *model_path;
    const char *const *overrides; /* [n_overrides] --override-kv */
    int n_overrides;
    const char *rope_scaling; /* NULL: what the model says */
    struct backend_options backend;
    enum kv_type kv_type; /* default KV_F16 */
    uint8_t *pool;        /* KV memory that somebody else owns (the gateway); NULL: the engine takes its own */
    /* Gives bytes of the pool back to the system: they hold nothing any more. The step thread; NULL: they are kept. */
    void (*discard)(void *arg, size_t offset, size_t size);
    void *discard_arg;
    size_t pool_size;     /* bytes of KV; at least one sequence of max_context or of ENGINE_MIN_CONTEXT must fit */
    uint8_t *seals;       /* memory for seals of the pool's pages (kv_seal.h), which has the same owner and outlives
                             the engine with it; NULL: none, and nothing is adopted */
    size_t seals_size;    /* its bytes; 64 for each page, and some for the table */
    uint32_t max_context; /* 0: the model's, as far as the pool holds one sequence of it */
    uint32_t max_batch_tokens;    /* rows of a step; 0: ENGINE_DEFAULT_BATCH_TOKENS */
    uint32_t max_sequences;       /* running at once; 0: ENGINE_DEFAULT_SEQUENCES */
    uint32_t max_waiting;         /* jobs in the queue; one more is OVERLOADED; 0: ENGINE_DEFAULT_WAITING */
    uint32_t prefill_chunk;       /* prompt tokens of one sequence in a step; 0: as many as fit */
    bool prefix_cache;            /* default true: set by engine_options_default */
    bool reserve_output;          /* admission leaves room for what answers are expected to grow to; default true */
    const char *kv_disk_dir;      /* folder of the prefix cache's disk tier; NULL: none */
    uint64_t kv_disk_size;        /* bytes that all stores in it may take */
    enum speculation speculation; /* of jobs that leave it open; default AUTO */
    uint32_t max_drafts;  /* guessed tokens of a sequence in a step, up to DRAFT_MAX; 0: ENGINE_DEFAULT_DRAFTS */
    float max_itl_factor; /* how much longer prompts may make a step than those who decode need; 0: any;
                             default ENGINE_DEFAULT_ITL_FACTOR */
    const char *draft_model_path;     /* guesses tokens too; NULL: none */
    size_t draft_pool_size;           /* bytes of its KV; 0: an eighth of pool_size */
    const char *const *adapter_paths; /* [n_adapter_paths] files and folders that adapters may be loaded from: what its
                                         process may read */
    int n_adapter_paths;
    const char *script_path; /* test builds: forward and sample are replaced by this script */
    const char *build;       /* goes into engine_info and the fingerprint */
    bool replay;             /* jobs with bad numbers are computed once more (engine/replay.h); default true */
    int64_t replay_idle_ms;  /* after so long without any, what that took is freed; 0: REPLAY_IDLE_MS */
    struct fault *fault;     /* test builds: what goes wrong on purpose; outlives the engine; NULL: nothing */
    void (*progress)(void *arg, float fraction);
    void *progress_arg;
};

#define ENGINE_DEFAULT_BATCH_TOKENS 256
#define ENGINE_DEFAULT_SEQUENCES    64
#define ENGINE_DEFAULT_WAITING      1024
#define ENGINE_MIN_CONTEXT          256
#define ENGINE_DEFAULT_DRAFTS       15 /* 16 rows of one sequence: about as many as ride along while weights are read */
#define ENGINE_DEFAULT_ITL_FACTOR   1.8f

struct engine_options engine_options_default(void);

NODISCARD struct engine *engine_create(const struct engine_options *options, struct error *err);

/* All events of one step at once; pointers live until the call returns. */
typedef void engine_sink(void *arg, const struct engine_event *events, size_t n);
NODISCARD bool engine_start(struct engine *e, engine_sink *sink, void *arg, struct error *err);
/* Begins to make what constraints need, on a thread of low priority: else the first job with one waits for it. Before
 * engine_start, if at all. */
void engine_prepare_constraints(struct engine *e);
void engine_free(struct engine *e); /* running jobs end without further events */
void engine_stop(struct engine *e); /* ends the step thread only, behind its step; engine_free does it too */

const struct engine_info *engine_info(const struct engine *e);

/* Copies the job and queues it. INVALID, CONTEXT_EXCEEDED: can never run. OVERLOADED: the queue is full. After true,
 * events follow until a TOKENS event with a finish for every choice, or FAILED. */
NODISCARD bool engine_submit(struct engine *e, const struct job *job, struct error *err);
/* Ends a job or one choice of it (choice WIRE_ALL_CHOICES: all): a TOKENS event with FINISH_CANCELLED follows unless it
 * had finished. Unknown ids are ignored. A queued job is cancelled too, and only the one named. */
void engine_cancel(struct engine *e, uint64_t job, uint32_t choice);
void engine_clear_cache(struct engine *e);
/* At most so many bytes of the pool are for use, but always enough for the sequence that is longest now: cached pages
 * go first, what is free is given back. Urgent: the youngest are preempted too. */
void engine_limit_pool(struct engine *e, uint64_t size, bool urgent);
/* Loads or drops an adapter of its model (wire/frame.h): the file is read by a thread of its own, and its weights are
 * there, or gone, between two steps. Jobs name it by number and digest; those that have one when it goes fail, with
 * MODEL_NOT_FOUND. One thread, one order at a time: done says when it is carried out, on a thread of the engine.
 * UNSUPPORTED, NO_MEMORY: it is not, and done is not called. */
NODISCARD bool engine_adapt(struct engine *e, const struct adapter_order *order,
                            void (*done)(void *arg, uint32_t number, const struct error *err), void *arg,
                            struct error *err);
/* While paused nothing new is admitted; what runs goes on. For a sink whose reader does not keep up. Any thread, also
 * in the sink. */
void engine_pause(struct engine *e, bool paused);
/* Takes no new jobs; on_idle runs on the step thread when the last has finished. */
void engine_drain(struct engine *e, void (*on_idle)(void *arg), void *arg);
void engine_stats(struct engine *e, struct engine_stats *out); /* a snapshot, without waiting for a step */

/* fn(arg, why) on the step thread when the backend's device has failed (DEVICE): no further step is made, and nobody
 * hears of it but by fn. Without it the requests of such a step fail. Before engine_start. */
void engine_on_fatal(struct engine *e, void (*fn)(void *arg, const struct error *why), void *arg);

/* Its thread writes turns, busy and expected_ns there from now on (wire/engine_watch.h). Before engine_start; outlives
 * the engine; NULL: nobody watches. */
struct engine_watch;
void engine_set_watch(struct engine *e, struct engine_watch *watch);

/* How many bytes of KV a configuration needs for n_tokens of one sequence, windows counted. Any thread; no engine
 * needed. */
size_t engine_kv_bytes(const struct decoder_config *config, enum kv_type type, int page_tokens, uint32_t n_tokens);

#endif
