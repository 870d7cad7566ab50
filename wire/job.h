/* What a request is to an engine: token ids, parameters, a seed. The same struct is what pipeline submits, what a
 * SUBMIT frame carries and what the engine admits. And what comes back: struct engine_event. No text, no API, no JSON.
 *
 * A job is one prompt with n choices; a completion request with several prompts makes several jobs. Its state is its
 * tokens: to resume a job in a new engine is to submit it again with `accepted` filled. */
#ifndef TANDEM_WIRE_JOB_H
#define TANDEM_WIRE_JOB_H

#include "base/error.h"
#include "base/hash.h"
#include "base/str.h"

#include <stddef.h>

enum job_kind { JOB_GENERATE, JOB_SCORE, JOB_EMBED, JOB_ENCODE, JOB_TRANSCRIBE, JOB_SYNTHESIZE, JOB_KIND_COUNT };

#define JOB_MAX_STOP_IDS     64
#define JOB_MAX_DRY_BREAKERS 64
#define JOB_MAX_BIAS         1024
#define JOB_MAX_TOP          20
#define WIRE_MAX_ADAPTERS    64 /* of one engine: BACKEND_MAX_ADAPTERS, at most */

/* Sampling parameters: one table for the frame codec, the APIs' fields, `tandem run`'s options and their docs.
 * X(name, C type, default, min, max, what it does) — bounds inclusive. */
#define SAMPLING_TABLE(X)                                                                                            \
    X(temperature, float, 1, 0, 100, "0 is greedy")                                                                  \
    X(top_p, float, 1, 0, 1, "nucleus: smallest set of tokens with at least this probability")                       \
    X(top_k, int32_t, 0, -1, 1048576, "keep the k most likely tokens; 0 or -1: all")                                 \
    X(min_p, float, 0, 0, 1, "drop tokens less likely than this times the most likely")                              \
    X(typical_p, float, 1, 0, 1, "locally typical sampling; 1: off")                                                 \
    X(top_n_sigma, float, -1, -1, 100, "keep logits within n standard deviations of the highest; -1: off")           \
    X(presence_penalty, float, 0, -2, 2, "subtracted once from tokens already generated")                            \
    X(frequency_penalty, float, 0, -2, 2, "subtracted per occurrence among generated tokens")                        \
    X(repetition_penalty, float, 1, 0.01, 10, "divides or multiplies logits of tokens in prompt and output; 1: off") \
    X(xtc_probability, float, 0, 0, 1, "chance of excluding top choices")                                            \
    X(xtc_threshold, float, 0.1, 0, 1, "what counts as a top choice; above 0.5: off")                                \
    X(dry_multiplier, float, 0, 0, 100, "strength of the DRY repetition penalty; 0: off")                            \
    X(dry_base, float, 1.75, 1, 16, "growth of the DRY penalty per repeated token")                                  \
    X(dry_allowed_length, int32_t, 2, 0, 4096, "longest repetition without DRY penalty")                             \
    X(dry_penalty_last_n, int32_t, -1, -1, 1048576, "tokens that DRY looks back; -1: all, 0: off")

struct sampling {
#define X(name, type, fallback, min, max, help) type name;
    SAMPLING_TABLE(X)
#undef X
};

struct sampling sampling_default(void);

struct job_bias {
    int32_t id;
    float bias;
};

struct job_accepted {   /* tokens of one choice that were already sent to the client */
    const int32_t *ids; /* [n] */
    uint32_t n;
    bool done; /* the choice has ended (also for reasons that only the gateway knows): no event of it is wanted */
};

/* Whether tokens are guessed and then checked several at a time. It changes what an answer costs, never the answer. */
enum speculation {
    SPECULATION_DEFAULT, /* as the engine was told */
    SPECULATION_OFF,
    SPECULATION_AUTO, /* where it is expected to pay */
    SPECULATION_ON,   /* whenever there is a guess */
    SPECULATION_COUNT
};
NODISCARD bool speculation_parse(struct str name, enum speculation *out, struct error *err); /* auto, off or on */

/* A job of this priority or above has nobody who waits for it at the other end of a connection: while it runs, it gives
 * way to any that is more urgent. */
#define JOB_PRIORITY_IDLE 1000001

enum job_flag {
    JOB_IGNORE_EOS = 1 << 0,
    JOB_LOGPROBS = 1 << 1,        /* logprob of each sampled id; n_top more of them */
    JOB_PROMPT_LOGPROBS = 1 << 2, /* PROMPT_LOGPROBS events; n_prompt_top each; takes no prefix hits */
    JOB_PROGRESS = 1 << 3,        /* PROGRESS events while the prompt is prefilled */
    JOB_DIGEST = 1 << 4,          /* digest of each sampled row's logits (test builds; refused otherwise) */
    JOB_NO_CACHE = 1 << 5         /* neither takes nor leaves pages in the prefix cache */
};

struct job {
    uint64_t id; /* chosen by the submitter; unique among its jobs for ever */
    enum job_kind kind;
    uint32_t flags;        /* enum job_flag */
    uint32_t prompt_index; /* of this prompt in its request: part of the random counter */
    uint32_t n_choices;    /* 1 to LIMIT_CHOICES */
    int32_t priority;      /* lower first; 0 */
    uint32_t timeout_ms;   /* from submission to the last token; 0: none */
    uint64_t waited_us;    /* for an engine, before this one got it: part of the queue time that STARTED reports */
    uint64_t seed;
    uint64_t cache_salt; /* prefix-cache hits do not cross salts */
    /* Number under which the engine was given its adapter, 1 to WIRE_MAX_ADAPTERS; 0: none. With the digest of that: an
     * engine whose adapter of this number is another one refuses the job. */
    uint32_t adapter;
    struct sha256 adapter_digest;

    const int32_t *prompt; /* [n_prompt], at least 1, ids in the vocabulary */
    uint32_t n_prompt;
    uint32_t max_tokens; /* new tokens per choice, at least 1 unless only the prompt is scored; n_prompt + max_tokens <=
                            context */
    uint32_t min_tokens; /* end-of-text and stop ids are banned before */
    uint32_t n_top, n_prompt_top; /* 0 to JOB_MAX_TOP */

    struct sampling sampling;
    const struct job_bias *bias; /* [n_bias] */
    uint32_t n_bias;
    const int32_t *stop_ids; /* [n_stop_ids], besides the model's end-of-generation ids */
    uint32_t n_stop_ids;
    const int32_t *dry_breakers; /* [n_dry_breakers] */
    uint32_t n_dry_breakers;
    const struct job_accepted *accepted; /* [n_choices] or NULL: resume */
    const int32_t *prediction;           /* [n_prediction] what the client expects of the answer: only guesses */
    uint32_t n_prediction;
    enum speculation speculation;
    const void *constraint; /* [constraint_size] bounded constraint spec, opaque here; NULL: none */
    uint32_t constraint_size;
};

/* Checks counts and ranges that need no model (the codec and the engine both call it). INVALID names the field. */
NODISCARD bool job_check(const struct job *job, struct error *err);

/* A deep copy in one allocation; free() it. NULL when memory fails. */
struct job *job_copy(const struct job *job);

/* ---- what comes back ---- */

enum finish_reason {
    FINISH_NONE,
    FINISH_STOP /* end of generation or stop id */,
    FINISH_LENGTH,
    FINISH_CANCELLED,
    FINISH_ERROR
};
const char *finish_reason_name(enum finish_reason r);

enum engine_event_kind {
    ENGINE_STARTED,  /* a job was admitted, once: n_cached prompt tokens come from the prefix cache, and it waited
                        queue_us. It goes out with what its first step gave, so when it comes says nothing */
    ENGINE_PROGRESS, /* n_done of the prompt's tokens are prefilled (JOB_PROGRESS) */
    ENGINE_PROMPT,   /* logprobs of prompt tokens [index, index + n) (JOB_PROMPT_LOGPROBS), in pieces, in order; the
                        first begins at 0, whose token nothing precedes: its rank is 0 */
    ENGINE_TOKENS,   /* tokens of one choice */
    ENGINE_FAILED,   /* the job ends with `error`; no more events of it */
    ENGINE_STATS,    /* counters of the engine; at most 10 a second, and one when it becomes idle */
    /* A choice lost its pages: it waits again, and all of its tokens are prefilled again. */
    ENGINE_PREEMPTED,
    ENGINE_LOST, /* the engine is gone: every job submitted to it and not finished is lost (`error` says why). Made by
                    the port, never by an engine */
    /* Logits of the job were no finite numbers: the tokens that follow are computed by another engine, on the reference
     * kernels, whose `fingerprint` this is. Once, before the first of them. */
    ENGINE_REPLAYED
};
#define ENGINE_EVENT_KINDS (ENGINE_REPLAYED + 1)

struct token_logprob {
    int32_t id;
    float logprob;
    int32_t rank;
    uint32_t n_top;
    const struct token_top *top; /* [n_top] logit descending */
    uint64_t digest;             /* 0 unless JOB_DIGEST */
};
struct token_top {
    int32_t id;
    float logprob;
};

/* Cumulative since the engine started, but for the gauges below. One table: struct, codec, metrics. X(name, what) */
#define ENGINE_STATS_TABLE(X)                                                           \
    X(steps, "forward passes")                                                          \
    X(steps_decode, "forward passes that held decode rows only")                        \
    X(steps_prefill, "forward passes that held prompt rows only")                       \
    X(steps_mixed, "forward passes that held prefill and decode rows")                  \
    X(steps_ahead, "forward passes enqueued before the one before them was read")       \
    X(rows_decode, "decode rows computed, those of guessed tokens included")            \
    X(rows_prefill, "prompt rows computed")                                             \
    X(prompt_tokens, "prompt tokens of admitted jobs")                                  \
    X(queried_tokens, "prompt tokens of jobs that looked into the prefix cache")        \
    X(cached_tokens, "prompt tokens taken from the prefix cache")                       \
    X(generated_tokens, "tokens sampled and emitted")                                   \
    X(jobs_admitted, "jobs admitted")                                                   \
    X(jobs_finished, "jobs finished, whatever the reason")                              \
    X(jobs_failed, "jobs that ended with an error")                                     \
    X(preemptions, "sequences whose pages were taken and that were prefilled again")    \
    X(pages_evicted, "cached pages dropped to make room")                               \
    X(cache_hits, "admissions that found part of their prompt in the prefix cache")     \
    X(cache_queries, "admissions that looked")                                          \
    X(adopted_blocks, "blocks in memory taken over from an engine before this one")     \
    X(adopted_tokens, "tokens, of prompt or answer, that admissions found in them")     \
    X(adopted_blocks_dropped, "adopted blocks that were damaged and not used")          \
    X(step_ns, "time in steps")                                                         \
    X(step_decode_ns, "time in steps of decode rows only")                              \
    X(step_prefill_ns, "time in steps of prompt rows only")                             \
    X(step_mixed_ns, "time in steps of both")                                           \
    X(host_ns, "time in steps outside the backend")                                     \
    X(spec_drafts, "drafts checked: sequences and steps with guessed tokens")           \
    X(spec_draft_tokens, "guessed tokens checked")                                      \
    X(spec_accepted_tokens, "guessed tokens that were right")                           \
    X(spec_model_draft_tokens, "of the guessed tokens, those of the draft model")       \
    X(spec_model_accepted_tokens, "of the right ones, those of the draft model")        \
    X(draft_rows, "rows computed by the draft model")                                   \
    X(draft_ns, "time in the draft model")                                              \
    X(constraints, "jobs whose constraints were compiled, or found compiled")           \
    X(constraint_compile_ns, "time in that, beside the steps")                          \
    X(masks, "masks of tokens that may come next, computed for constraints")            \
    X(mask_ns, "time in them, in steps")                                                \
    X(running, "sequences running now")                                                 \
    X(waiting, "jobs waiting now")                                                      \
    X(starved, "1 while a job waits because the pool has no room for it")               \
    X(pages_total, "KV pages the pool holds now, in units of the largest group's page") \
    X(pages_referenced, "pages that running sequences hold now")                        \
    X(pages_cached, "unreferenced pages kept for prefix hits now")                      \
    X(kv_size, "bytes of the KV pool")                                                  \
    X(kv_usable_size, "bytes of it that are for use now: less under memory pressure")   \
    X(pages_given_back, "KV pages given back to the system under memory pressure")      \
    X(disk_blocks, "blocks in the disk cache now")                                      \
    X(disk_size, "bytes that they take")                                                \
    X(disk_limit_size, "bytes that they may take at most")                              \
    X(disk_queued, "blocks on their way to or from the disk now")                       \
    X(disk_blocks_written, "blocks written to the disk cache")                          \
    X(disk_blocks_read, "blocks read from it")                                          \
    X(disk_blocks_recycled, "its blocks that made room for others")                     \
    X(disk_blocks_skipped, "blocks not written: the disk did not keep up")              \
    X(disk_blocks_dropped, "its blocks that were damaged and not used")                 \
    X(disk_errors, "reads and writes of the disk cache that failed")                    \
    X(disk_loads, "admissions that read part of their prompt from the disk cache")      \
    X(disk_loads_declined, "admissions for which computing was quicker than reading")   \
    X(disk_loads_abandoned, "readings given up: too slow, or a block was not usable")   \
    X(disk_tokens, "prompt tokens taken from the disk cache; cached_tokens has them")   \
    X(replays, "jobs whose logits were no finite numbers, computed once more")          \
    X(replays_failed, "of them, those that failed again")                               \
    X(replaying, "jobs being computed once more now")                                   \
    X(memory_shortages, "steps that found no memory and were made smaller")             \
    X(weights_size, "bytes of weights")                                                 \
    X(scratch_size, "bytes of step memory now; 0 where the backend does not say")       \
    X(resident_size, "resident bytes of the engine's process, mapped weights and KV included")

/* Those of them that say how it is now. */
#define ENGINE_STATS_GAUGES(X) \
    X(running)                 \
    X(waiting)                 \
    X(starved)                 \
    X(pages_total)             \
    X(pages_referenced)        \
    X(pages_cached)            \
    X(kv_size)                 \
    X(kv_usable_size)          \
    X(weights_size)            \
    X(scratch_size)            \
    X(resident_size)           \
    X(disk_blocks)             \
    X(disk_size)               \
    X(disk_limit_size)         \
    X(disk_queued)             \
    X(replaying)

/* Histogram of rows per step: bucket i counts steps with at most 2^i rows, the last all others. */
#define ENGINE_ROWS_BUCKETS 16

struct engine_stats {
#define X(name, help) uint64_t name;
    ENGINE_STATS_TABLE(X)
#undef X
    uint64_t rows_per_step[ENGINE_ROWS_BUCKETS]; /* all rows */
    uint64_t seqs_per_step[ENGINE_ROWS_BUCKETS]; /* sampled rows (sequences that got a token) */
};

struct engine_event {
    enum engine_event_kind kind;
    uint64_t job;
    uint32_t choice;
    uint32_t index;     /* TOKENS, PROMPT: index of the first; a known index is dropped, a gap is a lost engine */
    uint32_t n;         /* TOKENS, PROMPT */
    const int32_t *ids; /* TOKENS: [n] */
    const struct token_logprob *logprobs; /* TOKENS, PROMPT: [n] or NULL */
    uint32_t n_drafted, n_held;           /* TOKENS: guesses checked for them, and how many were right */
    enum finish_reason finish;            /* TOKENS: not NONE: the last of this choice (n may be 0) */
    int32_t stop_id;                      /* TOKENS with FINISH_STOP: the id that ended it (it is among ids), else -1 */
    uint32_t n_cached, n_done;            /* STARTED, PROGRESS */
    uint64_t queue_us;                    /* STARTED: from submission to admission, the job's waited_us included */
    struct error error;                   /* FAILED, LOST */
    char fingerprint[17];                 /* REPLAYED */
    const struct engine_stats *stats;     /* STATS */
};

/* What an engine says of itself when it is ready: HELLO's payload. */
struct engine_info {
    char build[64]; /* version and build id of the program */
    char arch[32], backend[64],
        fingerprint[17]; /* fingerprint: 16 hex digits over build, model digest, backend, kernel set, KV type */
    uint8_t model_digest[32];
    uint32_t n_vocab, n_context /* per sequence, after --max-context and pool size */, max_sequences, max_batch_tokens,
        page_tokens;
    uint64_t weights_size, kv_size, n_params;
    uint32_t load_ms;
    char sandbox[96]; /* what confines its process: "landlock 7, seccomp ..."; "off"; "" in the gateway's own process */
};

#endif
