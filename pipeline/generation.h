/* A generation in flight: jobs on an engine, per choice the tokens accepted so far, the detokenizer, stop strings. It
 * is pulled: tokens are its buffer, events are made when somebody takes them, so a slow reader costs bytes, not steps.
 * The loop's thread owns it.
 *
 *     g = generation_start(pipeline, request, on_ready, arg, err);
 *     on_ready: while (generation_next(g, now, &event)) encode(event);
 *     generation_free(g)        cancels what still runs
 *
 * Event order per choice: (DELTA | REASONING | CALL ARGUMENTS* CALL_END)*, FINISH. PROMPT_LOGPROBS before the first of
 * them. Last of all: DONE or ERROR, once.
 *
 * A request with tools of MCP servers has several turns (mcp/mcp_loop.h): a RESULT for each call of such a tool, behind
 * all calls of its turn and in their order, then what the next turn says. */
#ifndef TANDEM_PIPELINE_GENERATION_H
#define TANDEM_PIPELINE_GENERATION_H

#include "pipeline/gen_request.h"
#include "pipeline/pipeline.h"

enum gen_event_kind {
    GEN_PROGRESS,        /* prompt tokens prefilled so far; only with return_progress */
    GEN_PROMPT_LOGPROBS, /* all prompt tokens of one prompt */
    GEN_DELTA,           /* text (whole UTF-8; maybe empty when only logprobs came) of one choice */
    GEN_REASONING,       /* more of a choice's reasoning, like DELTA */
    GEN_CALL,            /* a choice begins a tool call: its id and name */
    GEN_ARGUMENTS,       /* more of that call's arguments, JSON text */
    GEN_CALL_END,        /* that call's arguments have ended */
    GEN_RESULT,          /* what became of the call of an MCP tool */
    GEN_FINISH,          /* one choice has ended */
    GEN_DONE,            /* everything has ended; usage is final */
    GEN_ERROR            /* the generation ends here with an error */
};

struct gen_top {
    int32_t id;
    float logprob;
    struct str bytes; /* of the token; need not be whole UTF-8 */
};

struct gen_token { /* one token with its logprob */
    int32_t id;
    float logprob; /* NAN for the first prompt token */
    int32_t rank;
    struct str bytes;   /* the token's own bytes */
    size_t text_offset; /* in characters of the choice's text, as OpenAI's completions count it */
    uint32_t n_top;
    const struct gen_top *top; /* [n_top] */
    uint64_t digest;
};

/* A tool call of a choice, complete with CALL_END. */
struct gen_call {
    uint32_t index;       /* among the choice's, from 0; calls of MCP tools are counted by themselves */
    struct str id, name;  /* id: unique, "call_" and 24 letters; APIs with another prefix replace "call_" */
    bool valid;           /* CALL_END: its arguments are JSON and obey the tool's schema */
    struct str fault;     /* CALL_END, not valid: why, a sentence */
    struct str server;    /* the tool is that of this MCP server; {NULL,0}: the client's */
    struct str own_name;  /* likewise: what that calls it */
    struct str arguments; /* RESULT: all of them */
    int64_t sent_us;      /* RESULT: when the call went out (clock_us); 0: this process did not make it */
    int64_t took_us;
};

struct gen_event {
    enum gen_event_kind kind;
    uint32_t prompt, choice; /* choice within the prompt, renumbered by best_of */
    uint32_t index;          /* prompt * n + choice: OpenAI's index */
    struct str text;
    bool echo;         /* DELTA: the prompt's own text (request's echo), without tokens; the first of its choice */
    size_t echo_chars; /* DELTA: characters of the echoed prompt; tokens' text_offset does not count them */
    const struct gen_token *tokens; /* [n_tokens] of PROMPT_LOGPROBS; of DELTA and its like where the request wants
                                       logprobs, token ids or digests, else none */
    size_t n_tokens;
    enum finish_reason finish;
    struct str stop;                    /* FINISH_STOP by a stop string: which; else {NULL,0} */
    int32_t stop_id;                    /* FINISH_STOP by a token id: which; else -1 */
    uint32_t n_done, n_total, n_cached; /* PROGRESS */
    struct gen_usage usage; /* FINISH: of this choice; DONE: of all; others, with continuous_usage: so far */
    bool last;              /* FINISH: only DONE comes after it */
    struct gen_call call;   /* CALL, ARGUMENTS, CALL_END; FINISH, with n_calls: the last one */
    uint32_t n_calls;       /* FINISH: calls of the client's tools of this choice */
    bool is_error;          /* RESULT: text says what went wrong */
    bool out_of_turns;      /* FINISH with LENGTH: the request may have no more turns */
    struct error error;     /* ERROR */
};

struct generation;

/* request must be prepared; the generation takes over its arena (freed by generation_free). on_ready runs on the loop
 * when events may be there; never from inside generation_start. On failure the request stays the caller's. */
NODISCARD struct generation *generation_start(struct pipeline *p, struct gen_request *request,
                                              void (*on_ready)(void *arg), void *arg, struct error *err);

/* The next event, or false when there is none now. now_ms: monotonic; decides about flush intervals. Views live until
 * the next call. */
bool generation_next(struct generation *g, int64_t now_ms, struct gen_event *event);

/* Milliseconds until generation_next may have something that a flush interval holds back; -1: nothing is held back. */
int64_t generation_next_due(const struct generation *g, int64_t now_ms);

bool generation_complete(const struct generation *g); /* every choice has ended */

/* Has it failed? Then *err says why. The ERROR event is still to be taken. */
bool generation_failed(const struct generation *g, struct error *err);

/* FINISH_CANCELLED for what runs, then DONE. Calls on_ready, which may take them and free g. */
void generation_cancel(struct generation *g);
/* Ends it with this error unless it has ended; what runs of it is cancelled. Calls on_ready, which may free g. */
void generation_fail(struct generation *g, const struct error *why);
void generation_free(struct generation *g);

/* Its time so far, and its tokens; of all prompts and choices together. */
void generation_timings(const struct generation *g, int64_t now_us, struct gen_timings *timings,
                        struct gen_usage *usage);

/* The fingerprint under which the answer went on when another engine than the port's had to compute it; NULL: none had.
 * Valid while g lives, changes with its events. */
const char *generation_fingerprint(const struct generation *g);

/* ---- for status and registries ---- */
enum gen_phase {
    GEN_QUEUED,  /* none of its prompts was admitted; with MCP tools: of the turn at hand, and so on */
    GEN_PREFILL, /* no token has come */
    GEN_DECODE,
    GEN_CALLING,    /* tools of MCP servers run, or the prompt with their results is prepared */
    GEN_PREEMPTED,  /* its sequences lost their pages and wait */
    GEN_RECOVERING, /* its engine was lost; the next one has given it no token yet */
    GEN_ENDED,
    GEN_PHASE_COUNT
};
const char *gen_phase_name(enum gen_phase phase);

struct gen_status {
    enum gen_phase phase;
    struct gen_usage usage;
    struct gen_timings timings;
    uint64_t n_prefilled; /* prompt tokens, those from the cache included */
    uint64_t max_tokens;  /* that it may generate, all choices together */
    uint64_t n_preemptions;
    uint64_t n_engine_losses;       /* engines that were lost while it was theirs */
    double prompt_rate, token_rate; /* tokens a second: computed of the prompt while it was prefilled; generated now */
    int64_t left_ms;                /* until its deadline; -1: it has none */
};
void generation_status(const struct generation *g, int64_t now_us, struct gen_status *out);
enum gen_phase generation_phase(const struct generation *g);
enum finish_reason generation_finish(const struct generation *g); /* of its first choice; NONE: it has not ended */
struct str generation_text(const struct generation *g);           /* of its first choice, as far as it may be shown */
const struct gen_request *generation_request(const struct generation *g);

#endif
