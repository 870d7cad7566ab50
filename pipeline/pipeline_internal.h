/* Shared by the files of pipeline/ only; those that look into generations include generation_internal.h. */
#ifndef TANDEM_PIPELINE_PIPELINE_INTERNAL_H
#define TANDEM_PIPELINE_PIPELINE_INTERNAL_H

#include "pipeline/grammar_check.h"
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
    struct marker_ids markers; /* of options.formats */
    struct grammar_check *grammars;
    uint64_t next_job;
    struct job_route *routes[PIPELINE_ROUTES]; /* by job % PIPELINE_ROUTES: ids are consecutive */
    size_t n_routes;                           /* in that table */
    struct generation *first, *last;           /* running, oldest first */
    size_t n_running;
    bool pumping;
    struct generation *current; /* where a walk over them goes on; NULL once that one was freed meanwhile */
    struct recovery recovery;
};

void pipeline__add_route(struct pipeline *p, struct job_route *route);
void pipeline__remove_route(struct pipeline *p, struct job_route *route);
void pipeline__add_generation(struct pipeline *p, struct generation *g);
void pipeline__remove_generation(struct pipeline *p, struct generation *g);

void pipeline__free_arena(struct pipeline *p, struct arena *a);
void pipeline__hold(struct pipeline *p, bool held);

/* ---- prepare_chat.c: what is special about GEN_CHAT, for pipeline_prepare ---- */

/* What the client said of reasoning, in whichever field: 1, 0; -1: nothing. */
int pipeline__thinking(const struct gen_request *r);
/* Once r->rendered is there: the formats that its answer is taken apart by. */
NODISCARD bool pipeline__choose_output(const struct pipeline *p, struct gen_request *r, struct error *err);

/* ---- prepare_constraint.c ---- */

/* What binds the answers, of all inputs: an encoded spec in the arena, or an empty one. It compiles. UNSUPPORTED and
 * INVALID name the field. */
NODISCARD bool pipeline__constrain(const struct pipeline *p, struct gen_request *r, struct str *out, struct error *err);

/* ---- prepare_tools.c ---- */

bool pipeline__is_strict(const struct gen_request *r, size_t i); /* tool i */
/* r->tool_keys: schemas come with every request, and are printed and digested once. */
NODISCARD bool pipeline__find_keys(struct gen_request *r, struct error *err);
/* Appends to an array what a grammar of calls depends on. */
void pipeline__put_keys(const struct gen_request *r, struct json_writer *w);
/* r->tool_schemas, for arguments. */
NODISCARD bool pipeline__compile_schemas(const struct pipeline *p, struct gen_request *r, struct error *err);
/* The tools that may be called, with the schemas that can be enforced; in the arena. */
NODISCARD const struct json *pipeline__enforced_tools(const struct pipeline *p, struct gen_request *r,
                                                      struct error *err);
struct schema_drops;
/* Adds them to r->widened. */
NODISCARD bool pipeline__note_drops(struct gen_request *r, struct str where, const struct schema_drops *drops,
                                    struct error *err);

#endif
