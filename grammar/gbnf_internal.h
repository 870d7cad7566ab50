/* Shared by grammar/gbnf*.c: a grammar as a tree of nodes in one array, children as lists of siblings. */
#ifndef TANDEM_GRAMMAR_GBNF_INTERNAL_H
#define TANDEM_GRAMMAR_GBNF_INTERNAL_H

#include "grammar/gbnf.h"

#include "base/limits.h"

#define GBNF_MAX_RULES 2048
#define GBNF_NONE      UINT32_MAX
#define GBNF_MANY      UINT32_MAX /* no maximum */

enum gbnf_kind {
    GBNF_ALT,    /* children: its alternatives, all GBNF_SEQ */
    GBNF_SEQ,    /* children: its parts */
    GBNF_CHARS,  /* a literal: code points [from, from + n) of chars */
    GBNF_CLASS,  /* pairs of code points, first and last; `negated` */
    GBNF_REF,    /* of rule `from` */
    GBNF_REPEAT, /* its child, from `from` to `n` times */
    GBNF_TOKEN   /* bytes [from, from + n) of the text: "<...>"; `negated` */
};

struct byte_set {
    uint64_t bits[4];
};

struct gbnf_node {
    uint8_t kind;
    bool negated;
    bool regular;          /* leads to no rule that leads back to itself, and to no token */
    bool nullable;         /* may be empty */
    uint8_t named;         /* by the writer: enum in gbnf_write.c */
    uint32_t child, next;  /* first child, next sibling; GBNF_NONE */
    uint32_t from, n;      /* as its kind says */
    struct byte_set first; /* bytes that it may begin with */
    /* Of regular ones, or more than these: bytes that a whole text of it could go on with; all but those of `first`. */
    struct byte_set more, rest;
    struct byte_set follow; /* of parts that may become lexemes: bytes that may come behind */
};

struct gbnf_rule {
    struct str name;
    uint32_t body;          /* a GBNF_ALT; GBNF_NONE: only referred to so far */
    uint32_t at;            /* offset of the first reference or definition */
    struct byte_set follow; /* bytes that may come behind it */
};

struct gbnf {
    struct str text;
    struct gbnf_node *nodes;
    struct gbnf_rule *rules;
    uint32_t *chars; /* code points of literals and classes */
    size_t n_nodes, nodes_cap, n_rules, rules_cap, n_chars, chars_cap;
    uint32_t root;
    bool by_char; /* for the writer: lexemes are single characters */
};

bool gbnf__parse(struct gbnf *g, struct error *err); /* g->text into the rest; the caller releases it */
void gbnf__release(struct gbnf *g);

/* Fills what nodes and rules say of themselves. */
void gbnf__analyse(struct gbnf *g);
/* Whether the regular parts of the rules that are not regular may be lexemes: none that is whole could go on, as itself
 * or as another, with a byte that may follow it. */
bool gbnf__lexemes_are_safe(const struct gbnf *g);

#endif
