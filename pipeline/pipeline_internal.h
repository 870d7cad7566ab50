/* Shared by pipeline.c, prepare.c and generation.c only. */
#ifndef TANDEM_PIPELINE_PIPELINE_INTERNAL_H
#define TANDEM_PIPELINE_PIPELINE_INTERNAL_H

#include "pipeline/generation.h"
#include "pipeline/pipeline.h"
#include "pipeline/recovery.h"

#define PIPELINE_ROUTES 1024 /* buckets of the table job id -> generation */

/* One job of a generation as the pipeline finds it by its id; part of the generation. */
struct job_route {
    uint64_t job;
    struct generation *generation;
    size_t index; /* of the job in its request */
    struct job_route *next;
};

struct pipeline {
    struct pipeline_options options;
    uint64_t next_job;
    struct job_route *routes[PIPELINE_ROUTES]; /* by job % PIPELINE_ROUTES: ids are consecutive */
    struct generation *first, *last;           /* running, oldest first */
    size_t n_running;
    bool pumping;
    struct generation *current; /* the one that is getting an event; NULL once it was freed meanwhile */
    struct recovery recovery;
};

void pipeline__add_route(struct pipeline *p, struct job_route *route);
void pipeline__remove_route(struct pipeline *p, struct job_route *route);
void pipeline__add_generation(struct pipeline *p, struct generation *g);
void pipeline__remove_generation(struct pipeline *p, struct generation *g);

/* One event of job `index`; returns true when the generation has something new to take. */
bool generation__event(struct generation *g, size_t index, const struct engine_event *event);
void generation__notify(struct generation *g);
/* Gives all that is not done to the engine, from where it is. False: nothing of it is there. */
NODISCARD bool generation__submit(struct generation *g, struct error *err);
void generation__withdraw(struct generation *g);                 /* from the engine; its state stays */
void generation__forget_job(struct generation *g, size_t index); /* the engine has none of it any more */
/* True: the ERROR event is new and can be taken. */
bool generation__fail(struct generation *g, const struct error *error);
struct generation **generation__next_link(struct generation *g);
struct generation **generation__prev_link(struct generation *g);

#endif
