/* Generations that outlive whoever asked for them. Tokens are all there is to keep: a generation that was cut off goes
 * on from them, one that is complete is read again from them, and any number of readers follow one that runs.
 *
 *     g = generation_restore(p, request, &saved, on_ready, arg, err);   goes on where the saved tokens end
 *     g = generation_replay(p, request, &saved, err);                   complete: only to be taken
 *     f = generation_follow(g, on_ready, arg, err);                     a reader of its own
 *     on_ready of g:  if (generation_catch_up(f, NULL)) ... generation_next(f, ...)
 *
 * A request with tools of MCP servers has several turns (mcp/mcp_loop.h), and what is to be kept of it are their tokens
 * and what became of its calls. Whoever keeps it asks generation_calls_due in on_ready, records that these calls were
 * begun, says so in their `saved`, and lets them go out with generation_make_calls. Its events are had by following it.
 *
 * A follower has its own text and its own place; it shares the request, so its leader must outlive it. It is not among
 * the pipeline's running generations and may be freed at any time. */
#ifndef TANDEM_PIPELINE_GENERATION_KEPT_H
#define TANDEM_PIPELINE_GENERATION_KEPT_H

#include "pipeline/choice.h"
#include "pipeline/generation.h"

struct gen_saved_choice {
    const int32_t *ids;                   /* [n] */
    const struct token_logprob *logprobs; /* [n] or NULL */
    uint32_t n;
    enum finish_reason finish; /* NONE: it runs */
    int32_t stop_id;
};

#define GEN_SAVED_TURNS 101 /* of a request at most: MCP_HOST_MAX_TURNS, and one that could not begin */

struct gen_saved_call {         /* of the tool of an MCP server */
    struct str tool, arguments; /* as the model wrote them */
    bool answered, is_error;    /* not answered: it was begun */
    struct str text;
    enum finish_reason finish; /* the answer ended with this behind the turn's calls; NONE: it goes on */
    bool out_of_turns;
};

struct gen_saved_calls { /* of one turn, in their order */
    const struct gen_saved_call *items;
    size_t n;
};

struct gen_saved_prompt {
    uint32_t max_tokens; /* 0: as it was prepared */
    uint32_t n_cached;
    const struct token_logprob *scores; /* [n_scores] of the prompt's tokens: all of them or none */
    uint32_t n_scores;
};

struct gen_saved {                          /* everything lies in the request's arena */
    const struct gen_saved_prompt *prompts; /* [n_jobs] */
    const struct gen_saved_choice *choices; /* [n_jobs * best_of] */
    /* Of a request with tools of MCP servers prompts and choices are those of its turns, [n_turns]. More of them may
     * have had calls: their tokens were lost. */
    const struct gen_saved_calls *calls; /* [n_called] */
    size_t n_turns, n_called;
    bool damaged;       /* there was more; what calls became of that nobody knows */
    struct error error; /* what it ended with; code NONE: nothing */
    bool has_timings;
    struct gen_timings timings;
};

/* generation_start with tokens that are there already: what it generates is what an undisturbed one would have (same
 * model, backend and seed). It may be complete at once; on_ready is not called for that. */
NODISCARD struct generation *generation_restore(struct pipeline *p, struct gen_request *request,
                                                const struct gen_saved *saved, void (*on_ready)(void *arg), void *arg,
                                                struct error *err);

/* generation_start of one that goes on whoever reads it. */
NODISCARD struct generation *generation_start_kept(struct pipeline *p, struct gen_request *request,
                                                   void (*on_ready)(void *arg), void *arg, struct error *err);

/* One that has ended, for its events. What neither ended nor failed counts as failed. on_ready: there may be more of it
 * now; only where it has several turns, which are prepared again. */
NODISCARD struct generation *generation_replay(struct pipeline *p, struct gen_request *request,
                                               const struct gen_saved *saved, void (*on_ready)(void *arg), void *arg,
                                               struct error *err);

struct gen_mark { /* how far a choice may be shown; of one with MCP tools: a turn */
    uint32_t n;   /* tokens */
    bool finished;
    uint32_t n_results; /* so many of the turn's calls have results to show, or are the client's */
    bool ended;         /* if the answer ends behind them, that may be shown */
};

NODISCARD struct generation *generation_follow(const struct generation *leader, void (*on_ready)(void *arg), void *arg,
                                               struct error *err);
/* Copies what is new in its leader, choice by choice up to marks [n_jobs * best_of], or those of all its turns; NULL:
 * everything, its failure too. A first mark of UINT32_MAX tokens: everything but the end. Marks of turns count until
 * the next call. True when there is something new to take. */
bool generation_catch_up(struct generation *follower, const struct gen_mark *marks);

/* Its reader has each choice up to this place already, in the order of OpenAI's index; before anything was taken. One
 * place stands for all choices. INVALID: another number of places. Not with best_of above n. */
NODISCARD bool generation_skip(struct generation *g, const struct gen_place *after, size_t n_after, struct error *err);
/* Reads places: "17", "17,4" for two choices, "17.1": 17 tokens and the first piece of what comes next. At most max of
 * them go to out. False: it is nothing of the kind, or too many. */
NODISCARD bool gen_places_read(struct str text, struct gen_place *out, size_t max, size_t *n);
/* Appends what would have to be skipped to go on from here, as gen_places_read takes it. False, and out is untouched:
 * there is no way to say it, since the echo of a choice was taken and nothing behind it. */
NODISCARD bool generation_position(const struct generation *g, struct buf *out);

/* ---- what is to be saved ---- */
/* Where it has turns, prompt is one of those. */
const struct choice *generation_choice(const struct generation *g, size_t prompt, uint32_t choice);
uint32_t generation_n_cached(const struct generation *g, size_t prompt);
const struct job *generation_job(const struct generation *g, size_t prompt);
size_t generation_n_turns(const struct generation *g); /* so far; 0: it has no MCP tools */
/* The calls of a turn (mcp_turn.h). */
struct mcp_turn *generation_turn(const struct generation *g, size_t turn);
/* What the answer ends with behind a turn's calls; NONE: it goes on, or nobody knows yet. */
enum finish_reason generation_turn_end(const struct generation *g, size_t turn, bool *out_of_turns);
bool generation_calls_due(const struct generation *g); /* some wait for the record that they were begun */
void generation_make_calls(struct generation *g);      /* those whose `saved` is not 0; may call on_ready */
/* Logprobs of the prompt's tokens, [n_prompt], as choice tokens; NULL: not asked for, or not there yet. */
const struct choice_token *generation_scores(const struct generation *g, size_t prompt);

#endif
