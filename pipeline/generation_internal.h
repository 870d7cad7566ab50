/* Shared by the files of pipeline/ that look into generations only:
 *
 *     generation.c         its life
 *     generation_submit.c  from its state to jobs
 *     generation_event.c   what the engine's events do to it
 *     generation_next.c    what its consumer takes
 *     generation_status.c  what it says of itself
 *     mcp/mcp_loop*.c      turns with tools of MCP servers
 *     mcp/mcp_follow.c     those of another generation
 *     generation_kept.c    those that outlive whoever asked for them
 *     pipeline.c           the list of those that run, and whose an event is
 *     recovery.c           what becomes of them when their engine is lost
 *     deadlines.c, load.c  those whose time is up; how much there is to do */
#ifndef TANDEM_PIPELINE_GENERATION_INTERNAL_H
#define TANDEM_PIPELINE_GENERATION_INTERNAL_H

#include "pipeline/choice.h"
#include "pipeline/mcp/mcp_follow.h"
#include "pipeline/mcp/mcp_loop.h"
#include "pipeline/pipeline_internal.h"

struct gen_mark;
struct gen_saved;

struct prompt_state { /* one job */
    struct job_route route;
    bool routed;               /* the engine knows the job */
    uint32_t n_cached, n_done; /* prompt tokens from the cache; prefilled, those included */
    bool admitted, answered;   /* the engine has begun with it; a token has come */
    bool replayed;             /* what comes now is computed by another engine: ENGINE_REPLAYED */
    bool restored;             /* tokens of it came from elsewhere: n_cached is what their engine found */
    bool progress_pending;
    struct choice_token *scores; /* [n_prompt] logprobs of the prompt, when asked for */
    uint32_t n_scores;           /* positions scored so far: [1, n_scores) */
    bool scores_taken;
    uint32_t n_running; /* choices that have not finished */
    uint32_t *order;    /* [n] choices to give out, best first; all of them unless best_of */
    bool ordered;
    struct buf echo; /* text of the prompt, once needed */
    size_t echo_chars;
};

struct generation {
    struct pipeline *pipeline;
    struct gen_request *request;
    void (*on_ready)(void *arg);
    void *arg;
    struct generation *prev, *next; /* the pipeline's */

    struct prompt_state *prompts; /* [n_jobs] */
    struct choice *choices;       /* [n_jobs * best_of] */
    size_t n_choices;
    size_t cursor;      /* choice to look at next: streams take turns */
    bool failed, ended; /* ended: DONE or ERROR was taken */
    struct error error;
    char fingerprint[17]; /* of another engine than the port's that computed some of it last; "": none */

    struct gen_clock clock;
    struct recovery_state recovery;
    uint64_t n_preemptions;
    struct mcp_loop *mcp;          /* NULL: it has one turn */
    struct mcp_follow *mcp_follow; /* NULL: likewise, or the turns are its own */
    bool observed_end;
    const struct generation *follows; /* the one that it copies; NULL: it has jobs of its own, or had */
    struct generation *owns;          /* the one that it follows is its own: a replay of several turns */
    bool detached;                    /* restored complete: it is not among the pipeline's running ones */
    struct gen_token *tokens;         /* scratch of the event at hand */
    size_t cap_tokens;
    struct gen_top *tops;
    size_t cap_tops;
};

void generation__notify(struct generation *g);
struct choice *generation__choice(const struct generation *g, size_t prompt, uint32_t choice);
const struct pipeline_observer *generation__observer(const struct generation *g); /* nobody, if it is not to be seen */

/* generation_start in two steps: everything but the jobs; then the jobs of the prompts that have choices running. */
struct generation *generation__create(struct pipeline *p, struct gen_request *request, void (*on_ready)(void *arg),
                                      void *arg, struct error *err);
/* With a loop of turns, where its request has tools of MCP servers (mcp_loop_create). Fails as generation__begin. */
NODISCARD struct generation *generation__with_turns(struct generation *g, bool kept, const struct gen_saved *saved,
                                                    struct error *err);
/* Releases it when it fails. g may be NULL: creating it has failed, and so does this. */
NODISCARD struct generation *generation__begin(struct generation *g, struct error *err);
void generation__release(struct generation *g); /* its state alone: nothing runs, the request stays */

/* Gives all that is not done to the engine, from where it is. False: nothing of it is there. */
NODISCARD bool generation__submit(struct generation *g, struct error *err);
void generation__withdraw(struct generation *g);                 /* from the engine; its state stays */
void generation__forget_job(struct generation *g, size_t index); /* the engine has none of it any more */

/* What the turn at hand has: generation_next of one without MCP tools. */
bool generation__next(struct generation *g, int64_t now_ms, struct gen_event *event);
/* The RESULT of a call that is answered. */
void generation__give_result(const struct generation *g, const struct mcp_turn *turn, size_t call,
                             struct gen_event *event);
/* The turn at hand is over: its state gives way to that of the next, and is the caller's. False: nothing has changed.
 */
NODISCARD bool generation__swap_turn(struct generation *g, const struct gen_request *next,
                                     struct prompt_state **prompts, struct choice **choices, struct error *err);
NODISCARD bool generation__begin_turn(struct generation *g, struct error *err);
/* What a turn had, whose request was r. */
void generation__release_turn(const struct gen_request *r, struct prompt_state *prompts, struct choice *choices);
/* A follower begins with another turn, whose request outlives it. */
NODISCARD bool generation__follow_turn(struct generation *g, struct gen_request *next, struct error *err);
/* What was saved of a turn becomes that of the one at hand. */
NODISCARD bool generation__restore_turn(struct generation *g, const struct gen_saved *saved, size_t turn,
                                        struct error *err);
/* What a follower can have of its leader, or of the turn that it reads, up to marks; *news: something of it is new.
 * False: it has failed. */
NODISCARD bool generation__copy(struct generation *f, const struct gen_mark *marks, bool *news, struct error *err);
/* One that is only read again has no end but this. */
void generation__fail_replay(struct generation *g, const struct gen_saved *saved);

/* One event of job `index`; returns true when the generation has something new to take. */
bool generation__event(struct generation *g, size_t index, const struct engine_event *event);
/* True: the ERROR event is new and can be taken. */
bool generation__fail(struct generation *g, const struct error *error);
/* It has ended, in whatever way: its observers hear of it, once, and whoever waits for it to end. */
void generation__end(struct generation *g);

uint64_t generation__n_tokens(const struct generation *g); /* generated so far, of all choices */
/* Tokens so far, of all prompts and choices. */
void generation__usage(const struct generation *g, struct gen_usage *usage);
void generation__add_choice(struct gen_usage *usage, const struct choice *c);

#endif
