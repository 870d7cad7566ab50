/* One served model as the APIs use it: tokenizer, chat template, limits, defaults, and the port to its engine.
 *   pipeline_prepare    request -> token ids and jobs (pure; any worker thread)
 *   generation_start    jobs -> engine (the loop's thread)
 *   pipeline_pump       engine events -> generations (the loop's thread; set as the port's wake)
 */
#ifndef TANDEM_PIPELINE_PIPELINE_H
#define TANDEM_PIPELINE_PIPELINE_H

#include "chat/chat_template.h"
#include "pipeline/engine_port.h"
#include "pipeline/gen_clock.h"
#include "pipeline/gen_request.h"
#include "pipeline/output_formats.h"
#include "text/tokenizer.h"

struct pipeline;
struct generation;
struct mcp_host;

#define PIPELINE_RETRY_LIMIT 8

struct gen_usage {
    uint64_t prompt_tokens, completion_tokens, cached_tokens;
    uint64_t n_accepted_prediction, n_rejected_prediction; /* tokens of the request's prediction that are in the answer,
                                                               and the rest of them */
    uint64_t n_drafted, n_held; /* tokens that the engine guessed and checked, and those of them that were right */
    uint64_t n_begun;           /* choices that have a token */
    uint64_t n_reasoning;       /* of the completion's: those that came with reasoning; see choice_output.h */
    uint64_t n_replayed; /* tokens computed on the reference kernels, since numbers of the request were not finite */
};

/* How a request ended, for an observer. */
struct gen_outcome {
    enum finish_reason reason; /* of its first choice; ERROR: error says why */
    const struct error *error; /* NULL unless it failed */
    struct gen_usage usage;
    uint64_t later_prompt_tokens; /* of the usage's: of turns after the first */
    uint64_t longest;             /* tokens of its longest choice */
    struct gen_timings timings;
};

/* Called on the loop's thread; for metrics. All may be NULL. */
struct pipeline_observer {
    void (*started)(void *arg, const struct gen_request *r);
    /* One of its prompts was admitted. queue_us: how long the request waited; -1 but for its first prompt. */
    void (*admitted)(void *arg, const struct gen_request *r, uint64_t n_prompt, uint64_t n_cached, int64_t queue_us);
    void (*first_token)(void *arg, const struct gen_request *r, int64_t ttft_us);
    /* n tokens of one choice; itl_us since those before, -1 for its first. */
    void (*tokens)(void *arg, const struct gen_request *r, uint64_t n, int64_t itl_us);
    /* Its first token since an engine was lost under it, pause_us after the loss. */
    void (*resumed)(void *arg, const struct gen_request *r, int64_t pause_us);
    void (*finished)(void *arg, const struct gen_request *r, const struct gen_outcome *outcome);
    void *arg;
};

struct pipeline_options {
    const struct tokenizer *tokenizer; /* outlive the pipeline */
    const struct chat_template *chat;  /* NULL: the model has no template; chat requests are refused */
    struct output_formats formats;     /* of what the model writes; both NULL: text */
    struct engine_port *port;
    uint32_t n_context;         /* per sequence; replaced by engine_info's when that is known and smaller */
    int64_t default_max_tokens; /* -1: as far as the context goes */
    int64_t default_timeout_ms; /* 0: none */
    int64_t queue_timeout_ms, first_token_timeout_ms; /* 0: none; see deadlines.h */
    uint32_t retry_limit; /* engines that may be lost under a request without a new token; PIPELINE_RETRY_LIMIT */
    struct pipeline_observer observer;
    void (*on_stats)(void *arg, const struct engine_stats *stats); /* may be NULL */
    void *on_stats_arg;
    /* Called when a generation has begun; for whoever watches deadlines. May be NULL. */
    void (*on_begun)(void *arg, const struct generation *g);
    void *on_begun_arg;
    /* A request has ended, however it did, and whether or not its answer was taken; unobserved ones too. May be NULL.
     */
    void (*on_finished)(void *arg, const struct gen_request *r, const struct gen_outcome *outcome);
    void *on_finished_arg;
    /* Frees the arena of a request that has ended; NULL: arena_free. */
    void (*free_arena)(void *arg, struct arena *a);
    void *free_arena_arg;
    struct mcp_host *mcp; /* tools for requests that want them; outlives the pipeline; NULL: none */
    /* A worker uses the pipeline, or does no more: it is not freed meanwhile. With mcp only. */
    void (*hold)(void *arg, bool held);
    void *hold_arg;
};

NODISCARD struct pipeline *pipeline_create(const struct pipeline_options *options, struct error *err);
/* The model has been loaded: begins to make what constraints need, beside everything else. May be called again. */
void pipeline_prepare_constraints(struct pipeline *p);
void pipeline_free(struct pipeline *p); /* no generation may be left */
const struct pipeline_options *pipeline_options(const struct pipeline *p);
uint32_t pipeline_n_context(const struct pipeline *p);
uint64_t pipeline_next_job_id(struct pipeline *p);

/* Renders, tokenizes, checks and fills r->jobs. Errors name the field: CONTEXT_EXCEEDED with the wording OpenAI clients
 * look for ("This model's maximum context length is N tokens. However, you requested M tokens (P in the messages, C in
 * the completion)..."), INVALID for ids outside the vocabulary, UNSUPPORTED for a suffix on a model without
 * fill-in-the-middle tokens. */
NODISCARD bool pipeline_prepare(const struct pipeline *p, struct gen_request *r, struct error *err);

/* Text helpers of /tokenize, /detokenize, /apply-template: same code as requests. */
NODISCARD bool pipeline_render_chat(const struct pipeline *p, const struct gen_request *r, struct buf *out,
                                    struct error *err);

/* Drains the port and routes events. Set as port->wake by pipeline_create. */
void pipeline_pump(struct pipeline *p);

/* Running generations, oldest first: calls each(arg, g) until it returns false. */
void pipeline_each(struct pipeline *p, bool (*each)(void *arg, struct generation *g), void *arg);
/* By its object's id or its request's; of several, which clients may cause by giving one request id twice, the oldest.
 * NULL: none. */
struct generation *pipeline_find(struct pipeline *p, struct str id);
size_t pipeline_n_running(const struct pipeline *p);
size_t pipeline_n_jobs(const struct pipeline *p); /* that the port has, and that have not ended */
/* Takes every job back from the port and submits it again from where it is, oldest generation first: what runs in the
 * engine becomes something that waits for it, where the port keeps what comes. No loss, and none is counted. */
void pipeline_requeue(struct pipeline *p);
/* Ends every generation that has not finished with this error. Their jobs are not cancelled: the engine is to end. */
void pipeline_fail_all(struct pipeline *p, const struct error *why);

#endif
