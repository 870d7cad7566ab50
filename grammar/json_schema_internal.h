/* What the files of json_schema share. A schema becomes nodes, one per (sub)schema; a node has rules, one per keyword
 * that says something; a rule's keyword is a row of the table of keywords, with the function that compiles it and the
 * one that checks it.
 *
 *     json_schema ── nodes ── rules ──> keyword {compile, check}
 *         │            └────> resource (base URI, draft, dynamic anchors)
 *         └─ documents (own copies of the trees; the rules point into them)
 *
 * Nothing recurses in compilation: nodes wait in a queue, references in a list until all that is there is known. */
#ifndef TANDEM_GRAMMAR_JSON_SCHEMA_INTERNAL_H
#define TANDEM_GRAMMAR_JSON_SCHEMA_INTERNAL_H

#include "base/arena.h"
#include "base/array.h"
#include "base/limits.h"
#include "grammar/json_schema.h"

/* ---- values: exact numbers, and a form of values in which equal means equal bytes (json_schema_value.c) ---- */

/* +-0.d1d2...dn times 10^exponent; d1 and dn are not 0; zero has n == 0. Points into the text it was read from. */
struct decimal {
    const char *digits;
    size_t n, dot; /* digit i is digits[i], or digits[i + 1] from the dot on */
    int64_t exponent;
    bool negative;
};

struct decimal json_schema__decimal(struct str number);
int json_schema__decimal_cmp(const struct decimal *a, const struct decimal *b);
bool json_schema__decimal_is_integer(const struct decimal *d);
size_t json_schema__decimal_to_count(const struct decimal *d); /* of an integer >= 0; SIZE_MAX when it is larger */
/* Whether value is an integer times divisor, which is not 0 and has at most DECIMAL_DIVISOR digits. */
#define DECIMAL_DIVISOR 18
bool json_schema__decimal_is_multiple(const struct decimal *value, const struct decimal *divisor);

/* A part of a value: an item or member, or the name of a member, which is a string without a value of its own. */
struct subject {
    const struct json *value;
    struct str name;
    bool is_name;
};

/* Appends bytes that are equal exactly when the values are equal as JSON Schema has it (1.0 is 1, the order of members
 * does not matter). TOO_LARGE when v is nested too deeply or out is full. */
NODISCARD bool json_schema__canonical(struct buf *out, const struct subject *v, struct error *err);

/* Types as bits: 1 << enum json_type; JSON_INT stands for the numbers that are integers. */
#define TYPE_BIT(type) (1u << (type))
#define TYPE_NUMBER    (TYPE_BIT(JSON_INT) | TYPE_BIT(JSON_DOUBLE))
#define TYPE_STRING    TYPE_BIT(JSON_STRING)
#define TYPE_ARRAY     TYPE_BIT(JSON_ARRAY)
#define TYPE_OBJECT    TYPE_BIT(JSON_OBJECT)
#define TYPE_ANY       0x7fu

enum json_type json_schema__type(const struct subject *v);            /* JSON_INT also for 1.0 */
struct str json_schema__text(const struct subject *v);                /* of a string */
void json_schema__describe(struct buf *out, const struct subject *v); /* a few words: string "abc", an array of 3 */
void json_schema__show(struct buf *out, const struct json *v, size_t max); /* its JSON, cut to about max bytes */

/* ---- URIs (json_schema_uri.c) ---- */

struct str json_schema__uri_resolve(struct arena *a, struct str base, struct str reference); /* {NULL, 0}: a is full */
struct str json_schema__uri_unescape(struct arena *a, struct str s);                         /* %41; likewise */

/* ---- patterns (json_schema_pattern.c) ---- */

struct regex;
struct compiler;
struct run;
struct frame;

/* INVALID with what is wrong with the pattern. Owned by the schema. */
NODISCARD struct regex *json_schema__regex_compile(struct json_schema *s, struct str pattern, struct error *err);
void json_schema__regex_free(struct regex *all);
bool json_schema__regex_is_valid(struct str pattern); /* for `format` */
/* False also when the run was stopped. */
bool json_schema__regex_matches(struct run *r, const struct regex *regex, struct str text);
void json_schema__matcher_free(struct run *r);

/* ---- formats (json_schema_format.c, json_schema_format_time.c) ---- */

typedef bool json_schema_format_fn(struct str s);
json_schema_format_fn *json_schema__format(struct str name); /* NULL when it is unknown */
bool json_schema__is_date_time(struct str s);
bool json_schema__is_date(struct str s);
bool json_schema__is_time(struct str s);
bool json_schema__is_duration(struct str s);

/* ---- the compiled schema ---- */

enum draft { DRAFT_7 = 1, DRAFT_2020 = 2, DRAFT_BOTH = 3 };

struct map { /* strings to pointers; open addressing */
    struct map_slot *slots;
    size_t n, cap; /* cap is 0 or a power of two */
};

struct anchor {
    struct str name;
    const struct node *node;
    struct anchor *next;
};

struct resource { /* a schema with a URI of its own, and what lies in it but in no inner one */
    struct str uri;
    enum draft draft;
    const struct node *root;
    struct anchor *dynamic; /* $dynamicAnchor */
};

struct way { /* from a schema to one in it */
    const char *keyword;
    struct str name; /* of a property, or an index; {NULL, 0} when the keyword is all */
};

struct node {
    const struct json *json;
    struct resource *resource;
    const struct node *parent; /* and the way from there, for messages */
    struct way way;
    struct node *next; /* in the queue */
    struct rule *rules;
    size_t n_rules;
    bool is_bool, allows; /* the schemas true and false */
};

struct literal {
    struct str bytes; /* canonical */
};

struct member_rule {
    struct str key;
    const struct node *node;
};

struct pattern_rule {
    const struct regex *regex;
    struct str source;
    const struct node *node;
};

struct members {               /* properties, patternProperties and additionalProperties belong together */
    struct member_rule *named; /* sorted by key */
    struct pattern_rule *patterns;
    size_t n_named, n_patterns;
    const struct node *additional;
};

struct dependent {
    struct str key;
    const struct str *required;
    size_t n_required;
    const struct node *node; /* or this */
};

struct rule {
    const struct keyword *keyword;
    struct str shown; /* text for messages: the limit, the allowed values */
    union {
        unsigned types;
        size_t count;
        struct decimal number;
        const struct regex *regex;
        json_schema_format_fn *format;
        struct members *members;
        const struct node *node;
        struct {
            struct literal *items;
            size_t n;
        } literals;
        struct {
            struct str *items;
            size_t n;
        } keys;
        struct {
            struct dependent *items;
            size_t n;
        } dependents;
        struct {
            const struct node **items;
            size_t n;
        } nodes;
        struct { /* items: the first ones, then the rest */
            const struct node **first;
            size_t n_first;
            const struct node *rest;
        } items;
        struct {
            const struct node *test, *then, *otherwise;
        } condition;
        struct {
            const struct node *node;
            size_t min, max;
        } contains;
        struct {
            const struct node *target;
            struct str dynamic; /* its anchor, where the outermost one counts */
        } reference;
    } u;
};

struct json_schema {
    struct arena *arena;
    struct json *documents[LIMIT_SCHEMA_DOCUMENTS + 16]; /* own copies; 16: the metaschemas are 9 */
    size_t n_documents;
    struct regex *regexes;
    size_t regex_size;
    const struct node *root;
    uint64_t max_steps;
    bool tracks; /* there are unevaluated...: what was evaluated must be known */
};

/* ---- compilation (json_schema_index.c: what is where; json_schema_compile.c: keywords) ---- */

struct pending { /* a reference */
    struct pending *next;
    struct node *node;
    struct rule *rule;
    struct str text;
    bool dynamic;
};

struct compiler {
    struct json_schema *schema;
    const struct json_schema_options *options;
    struct map nodes;          /* by the address of their JSON */
    struct map uris;           /* nodes by URI, with "#anchor" */
    struct node *first, *last; /* nodes whose rules are to be made */
    struct pending *references;
    struct error *err;
};

struct keyword {
    const char *name;
    unsigned drafts;
    unsigned applies; /* types of values */
    bool together;    /* with the neighbour that has the same compile function */
    /* Reads the keyword's value into the rule; false and *c->err when it is wrong. */
    bool (*compile)(struct compiler *c, struct node *n, struct rule *rule, const struct json *v);
    bool (*check)(struct run *r, struct frame *f, const struct rule *rule); /* NULL: it only has subschemas */
};

NODISCARD bool json_schema__compile_all(struct compiler *c, const struct json *schema);
struct node *json_schema__child(struct compiler *c, const struct node *parent, struct way way, const struct json *v);
bool json_schema__compile_rules(struct compiler *c, struct node *n);
/* Sets INVALID or the like: "the schema at '/a/b' has a wrong `keyword`: ...". Returns false. */
bool json_schema__refuse(struct compiler *c, const struct node *n, const char *keyword, const char *fmt, ...)
    PRINTF_FORMAT(4, 5);
bool json_schema__full(struct compiler *c); /* the arena is */

extern const struct keyword json_schema__keywords[];
extern const size_t json_schema__n_keywords;
const char *json_schema__metaschema(struct str uri); /* its text, or NULL */

/* The map must have been zeroed; keys are not copied and must be new. */
NODISCARD bool json_schema__map_put(struct map *m, struct str key, void *value, struct error *err);
void *json_schema__map_get(const struct map *m, struct str key);
void json_schema__map_release(struct map *m);

#endif
