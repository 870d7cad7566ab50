/* What becomes of running generations when their engine is lost. A generation's state is its tokens, which the gateway
 * has: its jobs are submitted again with `accepted` filled, and its client sees a pause.
 *
 * A request may be the cause of the loss. Tokens tell: whoever has a new one since the loss before is not it. Requests
 * under which two engines in a row were lost without a new token are suspects, and go on one at a time, each alone in
 * the engine, until it has a token more; the others wait meanwhile. Who ends the engine RECOVERY_ALONE times while it
 * is alone is quarantined: it fails with QUARANTINED, and so does the same prompt for the next ten minutes, before it
 * gets to an engine.
 *
 *     loss: note each generation -> suspects? one of them is tried : all are submitted
 *     token of, or end of, the one that is tried: the next suspect is tried; after the last all go on
 *
 * Everything on the loop's thread; used by the pipeline's files only. */
#ifndef TANDEM_PIPELINE_RECOVERY_H
#define TANDEM_PIPELINE_RECOVERY_H

#include "wire/job.h"

struct generation;
struct pipeline;
struct gen_request;

#define RECOVERY_SUSPECT 2  /* losses in a row without a new token that make a suspect */
#define RECOVERY_ALONE   2  /* of them alone in the engine that make the cause */
#define QUARANTINE_MAX   64 /* prompts remembered */
#define QUARANTINE_MS    600000

struct quarantine { /* digests of prompts that end engines */
    uint64_t digests[QUARANTINE_MAX];
    int64_t until_ms[QUARANTINE_MAX]; /* ring */
    uint32_t n;
};

struct recovery {
    struct generation *tried; /* alone in the engine; NULL: nobody is */
    bool turn_due;            /* it is done: the next one's turn comes with recovery_go_on */
    bool turning;             /* that is being looked for */
    uint64_t n_losses;        /* of engines */
    struct quarantine quarantine;
};

struct recovery_state { /* of one generation */
    bool waits;         /* its jobs are to be submitted (again) when its turn comes */
    uint32_t n_losses;  /* engines lost under it */
    uint32_t n_futile;  /* of them in a row without a new token */
    uint32_t n_alone;   /* of those while it was alone */
    uint64_t noted;     /* the recovery's n_losses when it was last looked at */
    uint64_t n_tokens;  /* that it had at the last loss */
    int64_t lost_us;    /* since when it waits for its next token; 0: it does not */
};

/* QUARANTINED when a prompt of the request is. */
NODISCARD bool recovery_allows(struct pipeline *p, const struct gen_request *r, struct error *err);
/* Whether a new generation has to wait for its turn; then it is submitted when it has come. */
bool recovery_holds(const struct pipeline *p);

/* The engine was lost: every generation hears of it. ENGINE_LOST in the event means that another engine follows; any
 * other error ends them all. Generations may be freed meanwhile. */
void recovery_lose(struct pipeline *p, const struct engine_event *event);
/* Every generation leaves the engine and is submitted again: pipeline_requeue. Generations may be freed meanwhile. */
void recovery_requeue(struct pipeline *p);
/* To be called when no list of generations is being walked. */
void recovery_go_on(struct pipeline *p);
/* The generation has a new token. */
void recovery_note_token(struct generation *g);
/* It has ended, in whatever way, or is about to be freed. */
void recovery_note_end(struct generation *g);

#endif
