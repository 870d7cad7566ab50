/* Expressions of the tree to values. Recursion follows the tree and the calls of macros; its depth is bounded by
 * JINJA_MAX_DEPTH, so helpers with large frames stay out of jinja__eval itself. */
#include "chat/jinja_internal.h"

static bool eval_items(struct render *r, const struct node *n, struct scope *scope, struct jval *out)
{
    struct jlist_builder b = {.items = jinja__alloc(r, n->n + 1, sizeof *b.items), .n = n->n};
    if (!b.items) {
        return false;
    }
    for (size_t i = 0; i < n->n; i++) {
        if (!jinja__eval(r, n->items[i], scope, &b.items[i])) {
            return false;
        }
    }
    return jinja__list(r, &b, n->kind == N_LIST ? J_LIST : J_TUPLE, out);
}

static bool eval_dict(struct render *r, const struct node *n, struct scope *scope, struct jval *out)
{
    struct jdict *d = jinja__dict(r, n->n / 2);
    for (size_t i = 0; d && i < n->n; i += 2) {
        struct jval key, value;
        if (!jinja__eval(r, n->items[i], scope, &key) || !jinja__eval(r, n->items[i + 1], scope, &value) ||
            !jinja__dict_put(r, d, &key, &value)) {
            return false;
        }
    }
    *out = (struct jval){.type = J_DICT, .dict = d};
    return d != NULL;
}

/* The first operand that decides, or the last one. */
static bool eval_logic(struct render *r, const struct node *n, struct scope *scope, struct jval *out)
{
    for (size_t i = 0; i < n->n; i++) {
        if (!jinja__eval(r, n->items[i], scope, out)) {
            return false;
        }
        if (jinja__truth(out) == (n->kind == N_OR)) {
            break;
        }
    }
    return true;
}

static bool eval_chain(struct render *r, const struct node *n, struct scope *scope, struct jval *out)
{
    struct jval left, right;
    if (!jinja__eval(r, n->items[0], scope, &left)) {
        return false;
    }
    for (size_t i = 1; i < n->n; i++) {
        if (!jinja__eval(r, n->items[i], scope, &right) ||
            !jinja__arith(r, (enum jop)n->ops[i - 1], &left, &right, out)) {
            return false;
        }
        left = *out;
    }
    return true;
}

static bool eval_compare(struct render *r, const struct node *n, struct scope *scope, struct jval *out)
{
    struct jval left, right;
    bool holds = true;
    if (!jinja__eval(r, n->items[0], scope, &left)) {
        return false;
    }
    for (size_t i = 1; holds && i < n->n; i++) {
        if (!jinja__eval(r, n->items[i], scope, &right) ||
            !jinja__compare(r, (enum jop)n->ops[i - 1], &left, &right, &holds)) {
            return false;
        }
        left = right;
    }
    *out = jval_bool(holds);
    return true;
}

static bool eval_concat(struct render *r, const struct node *n, struct scope *scope, struct jval *out)
{
    struct jval item, text;
    *out = jval_str(STR(""));
    for (size_t i = 0; i < n->n; i++) {
        struct jval left = *out;
        if (!jinja__eval(r, n->items[i], scope, &item) || !jinja__to_str(r, &item, &text)) {
            return false;
        }
        if (i == 0) {
            *out = text;
        } else if (!jinja__concat(r, left.s, text.s, out)) {
            return false;
        }
    }
    return true;
}

static bool eval_cond(struct render *r, const struct node *n, struct scope *scope, struct jval *out)
{
    struct jval cond, hint;
    if (!jinja__eval(r, n->a, scope, &cond)) {
        return false;
    }
    if (jinja__truth(&cond)) {
        return jinja__eval(r, n->b, scope, out);
    }
    if (n->c) {
        return jinja__eval(r, n->c, scope, out);
    }
    size_t mark = jinja__text_begin(r);
    buf_printf(jinja__text(r),
               "the inline if-expression on line %u evaluated to false and no else section was defined.", n->line);
    return jinja__text_end(r, mark, &hint) && jinja__undefined(r, &(struct jundefined){.hint = hint.s}, out);
}

static bool eval_slice(struct render *r, const struct node *n, struct scope *scope, struct jval *out)
{
    struct jval of, bounds[3] = {{.type = J_ABSENT}, {.type = J_ABSENT}, {.type = J_ABSENT}};
    if (!jinja__eval(r, n->a, scope, &of)) {
        return false;
    }
    for (int i = 0; i < 3; i++) {
        if (n->items[i] && !jinja__eval(r, n->items[i], scope, &bounds[i])) {
            return false;
        }
    }
    return jinja__slice(r, &of, bounds, out);
}

/* ---- calls ---- */

struct arg_builder {
    struct jlist_builder positional;
    struct jkeyword *keywords;
    size_t n_keywords;
};

static bool add_keyword(struct render *r, struct arg_builder *b, struct str name, const struct jval *v)
{
    for (size_t i = 0; i < b->n_keywords; i++) {
        if (str_eq(b->keywords[i].name, name)) {
            return jinja__fail(r, "got multiple values for keyword argument '" STR_FMT "'", STR_ARG(name));
        }
    }
    b->keywords[b->n_keywords++] = (struct jkeyword){name, *v};
    return true;
}

static bool add_star_star(struct render *r, struct arg_builder *b, const struct jval *v)
{
    if (v->type != J_DICT) {
        return v->type == J_UNDEFINED
                   ? jinja__fail_undefined(r, v)
                   : jinja__fail(r, "argument after ** must be a mapping, not %s", jinja__type_name(v));
    }
    for (size_t i = 0; i < v->dict->n; i++) {
        if (v->dict->pairs[i].key.type != J_STRING) {
            return jinja__fail(r, "keywords must be strings");
        }
        if (!add_keyword(r, b, v->dict->pairs[i].key.s, &v->dict->pairs[i].value)) {
            return false;
        }
    }
    return true;
}

bool jinja__eval_args(struct render *r, const struct call_node *call, struct scope *scope, const struct jkeyword *extra,
                      struct jargs *out)
{
    struct arg_builder b = {0};
    struct jval v, star_star = {.type = J_ABSENT};
    for (size_t i = 0; i < call->n_positional; i++) {
        if (!jinja__eval(r, call->positional[i], scope, &v) || !jinja__push(r, &b.positional, &v)) {
            return false;
        }
    }
    if (call->star && (!jinja__eval(r, call->star, scope, &v) || !jinja__collect(r, &v, &b.positional))) {
        return false;
    }
    if (call->star_star && !jinja__eval(r, call->star_star, scope, &star_star)) {
        return false;
    }
    size_t more = star_star.type == J_DICT ? star_star.dict->n : 0;
    if (call->n_keywords + more + (extra != NULL) > 0) {
        b.keywords = jinja__alloc(r, call->n_keywords + more + 1, sizeof *b.keywords);
        if (!b.keywords) {
            return false;
        }
    }
    for (size_t i = 0; i < call->n_keywords; i++) {
        if (!jinja__eval(r, call->keywords[i].value, scope, &v) || !add_keyword(r, &b, call->keywords[i].name, &v)) {
            return false;
        }
    }
    if (extra && !add_keyword(r, &b, extra->name, &extra->value)) {
        return false;
    }
    if (call->star_star && !add_star_star(r, &b, &star_star)) {
        return false;
    }
    *out = (struct jargs){b.positional.items, b.keywords, b.positional.n, b.n_keywords};
    return true;
}

bool jinja__eval_call(struct render *r, const struct node *n, struct scope *scope, const struct jkeyword *extra,
                      struct jval *out)
{
    struct jval callee;
    struct jargs args;
    if (!jinja__eval(r, n->a, scope, &callee) || !jinja__eval_args(r, n->call, scope, extra, &args)) {
        return false;
    }
    r->line = n->line;
    return jinja__call(r, &callee, &args, out);
}

static bool eval_function(struct render *r, const struct node *n, struct scope *scope, struct jval *out)
{
    struct jval self;
    struct jargs args;
    if (!n->function) {
        return jinja__fail(r, "No %s named '" STR_FMT "' found.", n->kind == N_FILTER ? "filter" : "test",
                           STR_ARG(n->text));
    }
    if (!n->a) { /* of a block: the caller has put its text there */
        self = *out;
    } else if (!jinja__eval(r, n->a, scope, &self)) {
        return false;
    }
    if (!jinja__eval_args(r, n->call, scope, NULL, &args)) {
        return false;
    }
    r->line = n->line;
    return jinja__call_builtin(r, n->function, &self, &args, out);
}

static bool eval_unary(struct render *r, const struct node *n, struct scope *scope, struct jval *out)
{
    struct jval v;
    if (!jinja__eval(r, n->a, scope, &v)) {
        return false;
    }
    if (n->kind == N_NOT) {
        *out = jval_bool(!jinja__truth(&v));
        return true;
    }
    return jinja__negate(r, n->kind == N_NEG, &v, out);
}

static bool eval_access(struct render *r, const struct node *n, struct scope *scope, struct jval *out)
{
    struct jval of, key;
    if (!jinja__eval(r, n->a, scope, &of)) {
        return false;
    }
    if (n->kind == N_ATTR) {
        return jinja__getattr(r, &of, n->text, out);
    }
    return jinja__eval(r, n->b, scope, &key) && jinja__getitem(r, &of, &key, out);
}

static bool eval_compound(struct render *r, const struct node *n, struct scope *scope, struct jval *out)
{
    switch (n->kind) {
    case N_LIST:
    case N_TUPLE:
        return eval_items(r, n, scope, out);
    case N_DICT:
        return eval_dict(r, n, scope, out);
    case N_AND:
    case N_OR:
        return eval_logic(r, n, scope, out);
    case N_NOT:
    case N_NEG:
    case N_POS:
        return eval_unary(r, n, scope, out);
    case N_CHAIN:
        return eval_chain(r, n, scope, out);
    case N_COMPARE:
        return eval_compare(r, n, scope, out);
    case N_CONCAT:
        return eval_concat(r, n, scope, out);
    case N_COND:
        return eval_cond(r, n, scope, out);
    case N_ATTR:
    case N_ITEM:
        return eval_access(r, n, scope, out);
    case N_SLICE:
        return eval_slice(r, n, scope, out);
    case N_CALL:
        return jinja__eval_call(r, n, scope, NULL, out);
    default:
        return eval_function(r, n, scope, out);
    }
}

bool jinja__eval(struct render *r, const struct node *n, struct scope *scope, struct jval *out)
{
    r->line = n->line;
    if (!jinja__charge(r, 1)) {
        return false;
    }
    if (n->kind == N_CONST) {
        *out = n->value;
        return true;
    }
    if (n->kind == N_NAME) {
        return jinja__lookup(r, scope, n->name, out);
    }
    bool ok = jinja__enter(r) && eval_compound(r, n, scope, out);
    jinja__leave(r);
    return ok;
}
