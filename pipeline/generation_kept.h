/* Generations that outlive whoever asked for them. Tokens are all there is to keep: a generation that was cut off goes
 * on from them, one that is complete is read again from them, and any number of readers follow one that runs.
 *
 *     g = generation_restore(p, request, &saved, on_ready, arg, err);   goes on where the saved tokens end
 *     g = generation_replay(p, request, &saved, err);                   complete: only to be taken
 *     f = generation_follow(g, on_ready, arg, err);                     a reader of its own
 *     on_ready of g:  if (generation_catch_up(f, NULL)) ... generation_next(f, ...)
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

struct gen_saved_prompt {
    uint32_t max_tokens; /* 0: as it was prepared */
    uint32_t n_cached;
    const struct token_logprob *scores; /* [n_scores] of the prompt's tokens: all of them or none */
    uint32_t n_scores;
};

struct gen_saved {                          /* everything lies in the request's arena */
    const struct gen_saved_prompt *prompts; /* [n_jobs] */
    const struct gen_saved_choice *choices; /* [n_jobs * best_of] */
    struct error error;                     /* what it ended with; code NONE: nothing */
    bool has_timings;
    struct gen_timings timings;
};

/* generation_start with tokens that are there already: what it generates is what an undisturbed one would have (same
 * model, backend and seed). It may be complete at once; on_ready is not called for that. */
NODISCARD struct generation *generation_restore(struct pipeline *p, struct gen_request *request,
                                                const struct gen_saved *saved, void (*on_ready)(void *arg), void *arg,
                                                struct error *err);

/* One that has ended, for its events. What neither ended nor failed counts as failed. */
NODISCARD struct generation *generation_replay(struct pipeline *p, struct gen_request *request,
                                               const struct gen_saved *saved, struct error *err);

struct gen_mark { /* how far a choice may be shown */
    uint32_t n;   /* tokens */
    bool finished;
};

NODISCARD struct generation *generation_follow(const struct generation *leader, void (*on_ready)(void *arg), void *arg,
                                               struct error *err);
/* Copies what is new in its leader, choice by choice up to marks [n_jobs * best_of]; NULL: everything, its failure
 * too. True when there is something new to take. */
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
const struct choice *generation_choice(const struct generation *g, size_t prompt, uint32_t choice);
uint32_t generation_n_cached(const struct generation *g, size_t prompt);
/* Logprobs of the prompt's tokens, [n_prompt], as choice tokens; NULL: not asked for, or not there yet. */
const struct choice_token *generation_scores(const struct generation *g, size_t prompt);

#endif
