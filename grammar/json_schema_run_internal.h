/* One validation: schemas applied to parts of a value, within each other. */
#ifndef TANDEM_GRAMMAR_JSON_SCHEMA_RUN_INTERNAL_H
#define TANDEM_GRAMMAR_JSON_SCHEMA_RUN_INTERNAL_H

#include "grammar/json_schema_internal.h"

struct matcher; /* PCRE2's memory */

struct path { /* the way from the whole value to a part of it */
    const struct path *up;
    struct str key;
    size_t index; /* when key.ptr is NULL */
};

struct run {
    const struct json_schema *schema;
    struct json_schema_problem *why; /* where problems are written; NULL: nobody asks */
    int why_depth;                   /* of the part that *why is about; -1: there is none yet */
    uint64_t steps;                  /* that are left */
    int nested;
    struct error stop; /* why validation was given up; NONE: it goes on */
    struct matcher *matcher;
    uint64_t *marks; /* a stack of bit sets: what has been evaluated in each frame's value */
    size_t n_marks, marks_cap;
};

struct frame { /* one schema applied to one part of the value */
    const struct node *node;
    struct subject subject;
    const struct path *path;
    const struct frame *outer; /* the dynamic scope */
    struct frame *marks_of;    /* the schema beside or around this one whose value it is too; NULL: none */
    size_t marks;              /* index of the first word of the set in run.marks */
    size_t n_parts;            /* items or members; 0 when they are not tracked */
    enum json_type type;
};

typedef bool json_schema_check_fn(struct run *r, struct frame *f, const struct rule *rule);

/* Both: false and r->stop set when there is no more. Whoever inverts or counts results looks at json_schema__stopped.
 */
bool json_schema__spend(struct run *r, size_t steps);
bool json_schema__stop(struct run *r, enum error_code code, const char *fmt, ...) PRINTF_FORMAT(3, 4);
static inline bool json_schema__stopped(const struct run *r)
{
    return r->stop.code != ERR_NONE;
}

/* Applies node to the value of f itself, which keeps what node has evaluated; with a message or without. */
bool json_schema__apply(struct run *r, struct frame *f, const struct node *node);
bool json_schema__test(struct run *r, struct frame *f, const struct node *node);
/* Applies node to a part of the value of f. */
bool json_schema__apply_part(struct run *r, struct frame *f, const struct node *node, const struct subject *part,
                             const struct path *way);
bool json_schema__test_part(struct run *r, struct frame *f, const struct node *node, const struct subject *part,
                            const struct path *way);

void json_schema__mark(struct run *r, const struct frame *f, size_t i); /* part i of f has been evaluated */
void json_schema__mark_all(struct run *r, const struct frame *f);
bool json_schema__is_marked(const struct run *r, const struct frame *f, size_t i);

/* Writes the problem down, unless there is one about a deeper part: "'/a/b' " or "the value ", then fmt. Returns false.
 */
bool json_schema__fail(struct run *r, const struct frame *f, const char *keyword, const char *fmt, ...)
    PRINTF_FORMAT(4, 5);

json_schema_check_fn json_schema__check_type, json_schema__check_enum, json_schema__check_multiple,
    json_schema__check_bound, json_schema__check_size, json_schema__check_pattern, json_schema__check_format,
    json_schema__check_required, json_schema__check_dependents, json_schema__check_unique;
json_schema_check_fn json_schema__check_members, json_schema__check_names, json_schema__check_items,
    json_schema__check_contains, json_schema__check_reference, json_schema__check_all, json_schema__check_any,
    json_schema__check_one, json_schema__check_not, json_schema__check_if, json_schema__check_unevaluated_items,
    json_schema__check_unevaluated_members;

#endif
