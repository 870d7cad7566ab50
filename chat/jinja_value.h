/* Values of a template at run time: what Python's objects are to jinja2. Immutable but for namespaces, cyclers,
 * joiners, loops and iterators, which are shared by reference. All memory comes from the arena of the render
 * (constants: of the template); nothing is freed before it. Strings are UTF-8 views; lengths and indexes that templates
 * see count code points. One render belongs to one thread. */
#ifndef TANDEM_CHAT_JINJA_VALUE_H
#define TANDEM_CHAT_JINJA_VALUE_H

#include "base/arena.h"
#include "base/buf.h"

/* Containers nested deeper than this can be built, but not printed, compared or serialized. */
#define JINJA_MAX_VALUE_DEPTH 200

enum jtype {
    J_ABSENT, /* no value: an argument that was not given, a variable that is not bound */
    J_UNDEFINED,
    J_NONE,
    J_BOOL,
    J_INT,
    J_FLOAT,
    J_STRING,
    J_LIST,
    J_TUPLE,
    J_DICT,
    J_VIEW, /* dict.keys(), .values(), .items() */
    J_RANGE,
    J_ITERATOR,
    J_NAMESPACE,
    J_MACRO,
    J_FUNCTION,
    J_METHOD,
    J_LOOP,
    J_CYCLER,
    J_JOINER
};

struct render;
struct jval;

struct jval {
    uint8_t type;   /* enum jtype */
    uint8_t markup; /* J_STRING: marked as safe HTML, which shows when it is joined to other strings */
    union {
        bool b;
        int64_t i;
        double f;
        struct str s;
        const struct jundefined *undefined; /* NULL: a name that has no value yet */
        const struct jlist *list;           /* J_LIST, J_TUPLE */
        struct jdict *dict;                 /* J_DICT, J_NAMESPACE */
        const struct jview *view;
        const struct jrange *range;
        struct jiterator *iterator;
        const struct jmacro *macro;
        const struct jbuiltin *function;
        const struct jmethod *method;
        struct jloop *loop;
        struct jcycler *cycler;
        struct jjoiner *joiner;
    };
};

struct jlist {
    const struct jval *items;
    size_t n;
    bool group; /* a tuple of groupby: its items are also .grouper and .list */
};

struct jpair {
    struct jval key, value;
    uint64_t hash;
};

struct jdict { /* in order of insertion; only namespaces change after they were made */
    struct jpair *pairs;
    size_t n, cap;
    uint32_t *slots; /* open addressing, 1 + index of the pair; NULL for small dicts */
    size_t n_slots;  /* a power of 2 */
};

enum jview_kind { J_KEYS, J_VALUES, J_ITEMS };
struct jview {
    const struct jdict *dict;
    enum jview_kind kind;
};

struct jrange {
    int64_t start, stop, step; /* step != 0 */
    size_t n;
};

struct jundefined { /* why there is no value */
    struct str hint;
    const char *object; /* type that lacks it ("dict object"), or NULL: a variable */
    struct jval name;   /* of the attribute, or the element asked for */
};

struct jmethod {
    const struct jbuiltin *function;
    struct jval self;
};

struct jcycler {
    const struct jval *items;
    size_t n, at;
};

struct jjoiner {
    struct jval separator;
    bool used;
};

/* Arguments of a call as they were written. */
struct jkeyword {
    struct str name;
    struct jval value;
};
struct jargs {
    const struct jval *positional;
    const struct jkeyword *keywords;
    size_t n_positional, n_keywords;
};

/* A function of the engine. params: names in order, blanks between; "name?" is optional, a leading "/" takes no
 * keywords, a trailing "*" takes any further arguments (in raw). arg: [JINJA_MAX_PARAMS], J_ABSENT where not given.
 * self: what a filter, test or method is applied to. */
#define JINJA_MAX_PARAMS 6
struct jbuiltin {
    const char *name;
    const char *params;
    bool (*fn)(struct render *r, const struct jval *self, const struct jval *arg, const struct jargs *raw,
               struct jval *out);
};

static inline struct jval jval_none(void)
{
    return (struct jval){.type = J_NONE};
}

static inline struct jval jval_bool(bool b)
{
    return (struct jval){.type = J_BOOL, .b = b};
}

static inline struct jval jval_int(int64_t i)
{
    return (struct jval){.type = J_INT, .i = i};
}

static inline struct jval jval_float(double f)
{
    return (struct jval){.type = J_FLOAT, .f = f};
}

static inline struct jval jval_str(struct str s) /* the bytes have to live as long as the render */
{
    return (struct jval){.type = J_STRING, .s = s};
}

static inline bool jval_is_int(const struct jval *v) /* Python's bool is an int */
{
    return v->type == J_INT || v->type == J_BOOL;
}

static inline bool jval_is_number(const struct jval *v)
{
    return jval_is_int(v) || v->type == J_FLOAT;
}

static inline int64_t jval_to_int(const struct jval *v) /* of what jval_is_int */
{
    return v->type == J_BOOL ? (int64_t)v->b : v->i;
}

static inline double jval_to_float(const struct jval *v) /* of what jval_is_number */
{
    return v->type == J_FLOAT ? v->f : (double)jval_to_int(v);
}

static inline bool jval_is_sequence(const struct jval *v)
{
    return v->type == J_LIST || v->type == J_TUPLE;
}

/* ---- errors and budgets (jinja_render.c): each returns false, so that callers can return it ---- */
bool jinja__fail(struct render *r, const char *fmt, ...) PRINTF_FORMAT(2, 3);
bool jinja__fail_undefined(struct render *r, const struct jval *undefined); /* "'x' is undefined" */
NODISCARD bool jinja__charge(struct render *r, uint64_t steps);             /* TOO_LARGE when the budget is spent */
NODISCARD bool jinja__charge_bytes(struct render *r, size_t bytes);         /* steps for work on that many bytes */
NODISCARD bool jinja__charge_search(struct render *r, struct str in, struct str what); /* looking for it everywhere */
void *jinja__alloc(struct render *r, size_t n, size_t size); /* zeroed; NULL with the error set */

/* ---- values (jinja_value.c) ---- */
const char *jinja__type_name(const struct jval *v); /* as Python's messages say it: "str", "dict", "NoneType" */
bool jinja__truth(const struct jval *v);
bool jinja__length(const struct jval *v, size_t *n); /* false: it has no len() */
NODISCARD bool jinja__equal(struct render *r, const struct jval *a, const struct jval *b, int depth, bool *out);
NODISCARD bool jinja__less(struct render *r, const struct jval *a, const struct jval *b, int depth, bool *out);
NODISCARD bool jinja__contains(struct render *r, const struct jval *container, const struct jval *item, bool *out);
bool jinja__same(const struct jval *a, const struct jval *b); /* Python's `is`, as far as it is defined */

/* ---- dicts (jinja_dict.c) ---- */
struct jdict *jinja__dict(struct render *r, size_t cap); /* NULL with the error set */
NODISCARD bool jinja__dict_put(struct render *r, struct jdict *d, const struct jval *key, const struct jval *value);
NODISCARD bool jinja__dict_find(struct render *r, const struct jdict *d, const struct jval *key,
                                const struct jval **out); /* *out NULL: not there; fails on unhashable keys */
const struct jval *jinja__dict_get(struct render *r, const struct jdict *d, struct str key);
NODISCARD bool jinja__hash(struct render *r, const struct jval *v, int depth, uint64_t *out);

/* ---- making values (jinja_value.c) ---- */
struct jlist_builder {
    struct jval *items;
    size_t n, cap;
};
NODISCARD bool jinja__push(struct render *r, struct jlist_builder *b, const struct jval *v);
NODISCARD bool jinja__list(struct render *r, const struct jlist_builder *b, enum jtype type, struct jval *out);
NODISCARD bool jinja__pair(struct render *r, const struct jval *a, const struct jval *b, struct jval *out); /* tuple */
NODISCARD bool jinja__copy_string(struct render *r, struct str s, struct jval *out);
NODISCARD bool jinja__undefined(struct render *r, const struct jundefined *why, struct jval *out);
NODISCARD bool jinja__undefined_hint(struct render *r, const char *hint, struct jval *out);
NODISCARD bool jinja__range(struct render *r, int64_t start, int64_t stop, int64_t step, struct jval *out);
static inline struct jval jinja__range_at(const struct jrange *range, size_t i)
{
    return jval_int((int64_t)((uint64_t)range->start + (uint64_t)i * (uint64_t)range->step));
}

/* ---- text (jinja_text.c): strings are built at the end of the render's scratch buffer ----
 *     size_t mark = jinja__text_begin(r);
 *     buf_append(jinja__text(r), ...);
 *     return jinja__text_end(r, mark, out);
 */
size_t jinja__text_begin(struct render *r);
struct buf *jinja__text(struct render *r);
NODISCARD bool jinja__text_end(struct render *r, size_t mark, struct jval *out);
NODISCARD bool jinja__put_str(struct render *r, const struct jval *v);                  /* appends str(v) */
NODISCARD bool jinja__put_repr(struct render *r, const struct jval *v, int depth);      /* appends repr(v) */
NODISCARD bool jinja__to_str(struct render *r, const struct jval *v, struct jval *out); /* a J_STRING */
NODISCARD bool jinja__concat(struct render *r, struct str a, struct str b, struct jval *out);
#define JINJA_FLOAT_SIZE  32
#define JINJA_FLOAT_STEPS 16                                        /* what writing a number with exact digits costs */
struct str jinja__float_text(double v, char out[JINJA_FLOAT_SIZE]); /* repr() of a float */
NODISCARD bool jinja__escape(struct render *r, const struct jval *v, struct jval *out); /* markupsafe.escape */
NODISCARD bool jinja__tojson(struct render *r, const struct jval *self, const struct jval *arg, const struct jargs *raw,
                             struct jval *out);

/* ---- code points ---- */
size_t jinja__n_chars(struct str s);
size_t jinja__offset(struct str s, size_t chars); /* bytes of the first `chars` code points */
bool jinja__is_space(uint32_t c);                 /* str.isspace(), and \s */
struct str jinja__strip(struct str s, struct str chars, bool left, bool right); /* chars.ptr NULL: white space */

/* ---- operators (jinja_ops.c, jinja_format.c, jinja_format_number.c) ---- */
enum jop {
    OP_ADD,
    OP_SUB,
    OP_MUL,
    OP_DIV,
    OP_FLOORDIV,
    OP_MOD,
    OP_POW,
    OP_EQ,
    OP_NE,
    OP_LT,
    OP_LE,
    OP_GT,
    OP_GE,
    OP_IN,
    OP_NOT_IN
};
NODISCARD bool jinja__arith(struct render *r, enum jop op, const struct jval *a, const struct jval *b,
                            struct jval *out);
NODISCARD bool jinja__compare(struct render *r, enum jop op, const struct jval *a, const struct jval *b, bool *out);
NODISCARD bool jinja__negate(struct render *r, bool minus, const struct jval *v, struct jval *out);
NODISCARD bool jinja__percent(struct render *r, const struct jval *format, const struct jval *values, struct jval *out);
NODISCARD bool jinja__str_format(struct render *r, const struct jval *format, const struct jargs *args,
                                 struct jval *out);
#define JINJA_MAX_PRECISION 100
struct jspec { /* a format specification of str.format, or a conversion of the % operator */
    uint32_t fill;
    char align, sign, grouping, type;
    bool alternate, zero;
    int64_t width, precision; /* precision -1: none */
};
/* spec->precision is JINJA_MAX_PRECISION at most. */
NODISCARD bool jinja__format_number(struct render *r, const struct jval *v, const struct jspec *spec);
bool jinja__pad(struct render *r, struct str text, const struct jspec *spec, char default_align);

/* ---- iteration (jinja_iter.c) ---- */
NODISCARD bool jinja__iter(struct render *r, const struct jval *v, struct jiterator **out); /* fails: not iterable */
NODISCARD bool jinja__next(struct render *r, struct jiterator *it, struct jval *out, bool *done);
NODISCARD bool jinja__collect(struct render *r, const struct jval *v, struct jlist_builder *out); /* all items */
bool jinja__iterable(const struct jval *v);

/* ---- attributes and elements (jinja_attr.c) ---- */
NODISCARD bool jinja__getattr(struct render *r, const struct jval *v, struct str name, struct jval *out); /* v.name */
NODISCARD bool jinja__getitem(struct render *r, const struct jval *v, const struct jval *key, struct jval *out);
NODISCARD bool jinja__slice(struct render *r, const struct jval *v, const struct jval bounds[3], struct jval *out);
/* The attribute alone, without falling back on elements; *found says whether there is one. */
NODISCARD bool jinja__attribute(struct render *r, const struct jval *v, struct str name, struct jval *out, bool *found);
/* By a path such as "a.b.0" or a number, as filters take it; none: v itself. */
NODISCARD bool jinja__getpath(struct render *r, const struct jval *v, const struct jval *path,
                              const struct jval *fallback, struct jval *out);

/* ---- calls (jinja_call.c) ---- */
NODISCARD bool jinja__call(struct render *r, const struct jval *callee, const struct jargs *args, struct jval *out);
NODISCARD bool jinja__call_builtin(struct render *r, const struct jbuiltin *b, const struct jval *self,
                                   const struct jargs *args, struct jval *out);
const struct jkeyword *jinja__keyword(const struct jargs *args, struct str name); /* NULL: not given */

/* A filter, a test or a method, for a table of them; the second is for what it does not look at. */
#define BUILTIN(name)                                                                                            \
    static bool name(struct render *r, const struct jval *self, const struct jval *arg, const struct jargs *raw, \
                     struct jval *out)
#define UNUSED ((void)r, (void)self, (void)arg, (void)raw)

/* ---- tables; a NULL name ends them ---- */
extern const struct jbuiltin jinja__sequence_filters[], jinja__str_methods[];
bool jinja__wordwrap(struct render *r, const struct jval *self, const struct jval *arg, const struct jargs *raw,
                     struct jval *out);
const struct jbuiltin *jinja__find_filter(struct str name);
const struct jbuiltin *jinja__find_test(struct str name);
const struct jbuiltin *jinja__find_global(struct str name);
const struct jbuiltin *jinja__find_method(const struct jval *v, struct str name); /* fn NULL: forbidden */
const struct jbuiltin *jinja__find_in(const struct jbuiltin *table, struct str name);

/* ---- arguments of builtins ---- */
NODISCARD bool jinja__arg_int(struct render *r, const struct jval *arg, int64_t fallback, int64_t *out);
NODISCARD bool jinja__arg_str(struct render *r, const struct jval *arg, struct str fallback, struct str *out);
bool jinja__arg_bool(const struct jval *arg, bool fallback);

#endif
