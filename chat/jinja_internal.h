/* Shared by the files of the Jinja engine: tokens, syntax tree, compiled template and the state of one render.
 *
 *     source -- jinja_lex.c --> tokens -- jinja_parse*.c --> tree -- jinja_scope.c --> template
 *     template + context -- jinja_exec.c (statements), jinja_eval.c (expressions) --> text
 */
#ifndef TANDEM_CHAT_JINJA_INTERNAL_H
#define TANDEM_CHAT_JINJA_INTERNAL_H

#include "chat/jinja.h"
#include "chat/jinja_value.h"

#define JINJA_MAX_SOURCE  ((size_t)1 << 20)
#define JINJA_MAX_NESTING 100 /* of statements and expressions in the source */
/* Of evaluation: macros that call themselves, recursive loops. A level takes some 400 bytes of stack, so that 256 KB
 * always suffice. */
#define JINJA_MAX_DEPTH 600

/* ---- tokens ---- */
enum token_type {
    T_EOF,
    T_DATA,
    T_VARIABLE_BEGIN,
    T_VARIABLE_END,
    T_BLOCK_BEGIN,
    T_BLOCK_END,
    T_NAME,
    T_STRING,
    T_INT,
    T_FLOAT,
    T_ADD,
    T_SUB,
    T_MUL,
    T_DIV,
    T_FLOORDIV,
    T_MOD,
    T_POW,
    T_TILDE,
    T_LPAREN,
    T_RPAREN,
    T_LBRACKET,
    T_RBRACKET,
    T_LBRACE,
    T_RBRACE,
    T_EQ,
    T_NE,
    T_LT,
    T_LE,
    T_GT,
    T_GE,
    T_ASSIGN,
    T_DOT,
    T_COLON,
    T_PIPE,
    T_COMMA,
    T_SEMICOLON
};

struct token {
    enum token_type type;
    uint32_t line;
    struct str text; /* data, name, or the decoded string */
    int64_t i;
    double f;
};

struct jtokens {
    struct token *items; /* ends with T_EOF */
    size_t n, cap;
};

/* Appends the tokens of source (valid UTF-8, newlines normalized) to *out; texts lie in source or in the arena. The
 * caller frees out->items, on failure too. */
NODISCARD bool jinja__lex(struct str source, struct arena *arena, struct jtokens *out, struct error *err);

/* Source as jinja2 reads it: \r\n and \r become \n, one newline at the end is dropped. */
NODISCARD bool jinja__normalize(struct str source, struct arena *arena, struct str *out, struct error *err);

/* ---- syntax tree ---- */
enum node_kind {
    N_CONST,
    N_NAME,
    N_LIST,
    N_TUPLE,
    N_DICT,    /* items: key, value, key, value ... */
    N_AND,     /* items */
    N_OR,      /* items */
    N_NOT,     /* a */
    N_NEG,     /* a */
    N_POS,     /* a */
    N_CHAIN,   /* items[0] ops[0] items[1] ops[1] ...: from left to right */
    N_COMPARE, /* likewise, chained as Python does */
    N_CONCAT,  /* items */
    N_COND,    /* b if a else c; c may be NULL */
    N_ATTR,    /* a.text */
    N_ITEM,    /* a[b] */
    N_SLICE,   /* a[items[0]:items[1]:items[2]], any of them NULL */
    N_CALL,    /* a(call) */
    N_FILTER,  /* a|text(call); a is NULL in filter and set blocks */
    N_TEST,    /* a is text(call) */
    N_NSREF,   /* target of an assignment: name.text */
    S_TEXT,    /* text */
    S_PRINT,   /* a */
    S_IF,      /* items: conditions; bodies; the one more body is the else part */
    S_FOR,
    S_SET,          /* a = b */
    S_SET_BLOCK,    /* a: target, b: filter or NULL, body */
    S_MACRO,        /* macro */
    S_CALL_BLOCK,   /* macro, b: the call */
    S_FILTER_BLOCK, /* b: filter, body */
    S_WITH,         /* items: targets and values by turns, body */
    S_BLOCK,        /* body */
    S_GENERATION,   /* body */
    S_AUTOESCAPE,   /* a, body */
    S_BREAK,
    S_CONTINUE,
    S_REFUSED /* include, import, from, extends: text says which */
};

struct body {
    struct node **items;
    size_t n;
    uint32_t *unset; /* names which are undefined in this scope until it sets them, whatever outer scopes hold */
    size_t n_unset;
};

struct keyword_node {
    struct str name;
    struct node *value;
};

struct call_node {
    struct node **positional;
    struct keyword_node *keywords;
    size_t n_positional, n_keywords;
    struct node *star, *star_star; /* *args and **kwargs, or NULL */
};

struct for_node {
    struct node *target, *iter, *test;
    struct body body, orelse;
    bool recursive;
};

struct macro_node { /* macros, and the bodies of call blocks */
    struct str name;
    uint32_t name_id;
    uint32_t *params; /* name ids */
    struct str *param_names;
    struct node **defaults; /* [n_params], NULL: none */
    size_t n_params;
    struct body body;
    bool uses_caller, uses_kwargs, uses_varargs;
    bool has_caller_param, anonymous;
};

struct node {
    enum node_kind kind;
    uint32_t line;
    struct node *a, *b, *c;
    struct node **items;
    size_t n;
    union {
        const uint8_t *ops; /* enum jop, n - 1 of them */
        struct jval value;
        uint32_t name; /* index into the template's names */
        struct call_node *call;
        struct for_node *loop;
        struct macro_node *macro;
        struct body *bodies; /* S_IF: n + 1; others: 1 */
    };
    struct str text;                 /* N_NAME, N_ATTR, N_FILTER, N_TEST, N_NSREF, S_TEXT */
    const struct jbuiltin *function; /* N_FILTER, N_TEST: NULL when unknown, which fails when it is reached */
};

struct jname {
    struct str text;
    const struct jbuiltin *global; /* function of that name or NULL */
    bool is_block;                 /* a block has this name */
};

struct jinja_template {
    struct arena *arena;
    struct str source;
    struct body body;
    struct jname *names;
    size_t n_names;
    uint32_t caller, kwargs, varargs, loop; /* name ids that the engine itself binds */
};

/* Names while a template is compiled: an open-addressing table over the list. */
struct jnames {
    struct jname *items;
    size_t n, cap;
    uint32_t *slots; /* 1 + id */
    size_t n_slots;
};
NODISCARD bool jinja__intern(struct jnames *names, struct str text, uint32_t *id, struct error *err);

struct parser {
    struct arena *arena;
    struct error *err;
    const struct token *at; /* the current token */
    struct jnames *names;
    int depth;
};
NODISCARD bool jinja__parse(struct parser *p, struct body *out);

/* The parser's parts, shared by its two files. Each returns NULL or false with the error set. */
bool jinja__syntax(struct parser *p, uint32_t line, const char *fmt, ...) PRINTF_FORMAT(3, 4);
struct node *jinja__node(struct parser *p, enum node_kind kind, uint32_t line);
void *jinja__parse_alloc(struct parser *p, size_t n, size_t size);
bool jinja__at_name(const struct parser *p, const char *name); /* the current token is this name */
bool jinja__skip_name(struct parser *p, const char *name);     /* and if so, goes on */
bool jinja__skip(struct parser *p, enum token_type type);      /* likewise for a type */
NODISCARD bool jinja__expect(struct parser *p, enum token_type type, struct token *out); /* out may be NULL */
const char *jinja__describe(const struct token *t, char *buf, size_t size);
NODISCARD bool jinja__parse_name(struct parser *p, uint32_t *id, struct str *text); /* a name one may assign to */
struct node *jinja__parse_expression(struct parser *p);
enum tuple_flags { TUPLE_NO_COND = 1, TUPLE_PARENS = 2, TUPLE_TARGET = 4, TUPLE_NAMESPACE = 8 };
struct node *jinja__parse_tuple(struct parser *p, int flags, const char *end_name); /* end_name may be NULL */
struct node *jinja__parse_filter(struct parser *p, struct node *of, bool first_inline);

struct node_list { /* grows in the arena */
    struct node **items;
    size_t n, cap;
};
NODISCARD bool jinja__add(struct parser *p, struct node_list *list, struct node *node);

/* Scopes as jinja2's compiler sees them: which names each body leaves unset at its start, which macros see `caller`,
 * `kwargs` and `varargs`; and what only a compiler finds: unknown filters, break outside loops. */
NODISCARD bool jinja__analyze(struct jinja_template *t, struct error *err);

/* ---- rendering ---- */
struct binding {
    uint32_t name;
    struct jval value;
};

struct scope { /* NULL stands for the outermost scope, which is render.globals */
    struct scope *parent;
    struct binding *vars;
    uint32_t n, cap;
    bool captured; /* a macro refers to it: it may not be used again for the next turn of its loop */
};

struct jmacro {
    const struct macro_node *node;
    struct scope *scope; /* where it was defined */
};

enum jiterator_kind {
    IT_EMPTY,
    IT_ITEMS,
    IT_CHARS,
    IT_RANGE,
    IT_DICT,
    IT_REVERSED,
    IT_PAIRS, /* the items filter: fails at its first item when the source is no mapping */
    IT_MAP,
    IT_SELECT,
    IT_UNIQUE,
    IT_BATCH,
    IT_SLICE,
    IT_LOOP_TEST
};

struct jiterator {
    enum jiterator_kind kind;
    enum jview_kind view;    /* IT_DICT */
    struct jval source;      /* what is iterated over, or J_ABSENT */
    struct jiterator *inner; /* over the source; NULL before the first item */
    size_t at, n;
    bool negate, by_attribute; /* IT_SELECT */
    bool reverse;              /* IT_DICT, IT_RANGE, IT_CHARS */
    struct jval path, fallback, name;
    struct jargs args; /* IT_MAP, IT_SELECT: of the filter or test */
    struct jdict *seen;
    const struct for_node *loop; /* IT_LOOP_TEST */
    struct scope *scope;
};

struct jloop {
    const struct for_node *node;
    struct jval iterable;
    struct jiterator *it;
    struct scope *scope; /* around the loop */
    struct jval current, before, after;
    struct jval changed; /* J_ABSENT before the first call of changed() */
    bool peeked, ended;
    int64_t index0, length; /* length -1: not known yet */
    int64_t depth0;
};

struct render {
    const struct jinja_template *t;
    struct arena *arena;
    struct error *err;
    struct buf *out;
    size_t out_start, max_output;
    struct buf scratch; /* a stack of texts being built; captured output too */
    int captures;       /* > 0: output goes to scratch */
    uint64_t steps_left;
    int64_t now_s;
    uint64_t hash_seed;
    int depth;
    uint32_t line;
    struct jval *globals, *context; /* [t->n_names]: set at the top of the template; given by the caller */
    struct {
        char *ptr;
        size_t len, cap;
    } tail; /* the string made last by +, which grows in place when it is extended */
};

enum flow { FLOW_ERROR, FLOW_NORMAL, FLOW_BREAK, FLOW_CONTINUE };

enum flow jinja__exec(struct render *r, const struct body *body, struct scope *scope);
NODISCARD bool jinja__eval(struct render *r, const struct node *n, struct scope *scope, struct jval *out);
NODISCARD bool jinja__eval_args(struct render *r, const struct call_node *call, struct scope *scope,
                                const struct jkeyword *extra, struct jargs *out);
NODISCARD bool jinja__eval_call(struct render *r, const struct node *n, struct scope *scope,
                                const struct jkeyword *extra, struct jval *out);
NODISCARD bool jinja__enter(struct render *r); /* one level deeper; jinja__leave follows, also when it fails */
void jinja__leave(struct render *r);
NODISCARD bool jinja__emit(struct render *r, struct str text);

struct scope *jinja__scope(struct render *r, struct scope *parent); /* NULL with the error set */
NODISCARD bool jinja__bind(struct render *r, struct scope *scope, uint32_t name, const struct jval *v);
NODISCARD bool jinja__unset(struct render *r, struct scope *scope, const struct body *body);
NODISCARD bool jinja__lookup(struct render *r, struct scope *scope, uint32_t name, struct jval *out);
NODISCARD bool jinja__assign(struct render *r, const struct node *target, const struct jval *v, struct scope *scope);

/* Runs a body and gives the text it wrote. */
NODISCARD bool jinja__capture(struct render *r, const struct body *body, struct scope *scope, struct jval *out);
NODISCARD bool jinja__call_macro(struct render *r, const struct jmacro *macro, const struct jargs *args,
                                 struct jval *out);
NODISCARD bool jinja__run_loop(struct render *r, const struct for_node *n, const struct jval *iterable,
                               struct scope *scope, int64_t depth0, enum flow *flow);
/* The next item of a loop; *done at the end. Peeking keeps it for the next turn. */
NODISCARD bool jinja__loop_peek(struct render *r, struct jloop *loop, bool *done);
NODISCARD bool jinja__loop_length(struct render *r, struct jloop *loop, int64_t *out);

/* From JSON: strings are views into it. */
NODISCARD bool jinja__from_json(struct render *r, const struct json *v, int depth, struct jval *out);

#endif
