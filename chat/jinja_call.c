/* Calls: arguments are bound to the parameters of builtins and macros as Python and jinja2 do it. */
#include "chat/jinja_internal.h"

/* ---- arguments of builtins ---- */

bool jinja__arg_int(struct render *r, const struct jval *arg, int64_t fallback, int64_t *out)
{
    *out = fallback;
    if (arg->type == J_ABSENT) {
        return true;
    }
    if (!jval_is_int(arg)) {
        return jinja__fail(r, "'%s' object cannot be interpreted as an integer", jinja__type_name(arg));
    }
    *out = jval_to_int(arg);
    return true;
}

bool jinja__arg_str(struct render *r, const struct jval *arg, struct str fallback, struct str *out)
{
    *out = fallback;
    if (arg->type == J_ABSENT) {
        return true;
    }
    if (arg->type != J_STRING) {
        return jinja__fail(r, "expected a str, got '%s'", jinja__type_name(arg));
    }
    *out = arg->s;
    return true;
}

bool jinja__arg_bool(const struct jval *arg, bool fallback)
{
    return arg->type == J_ABSENT ? fallback : jinja__truth(arg);
}

const struct jkeyword *jinja__keyword(const struct jargs *args, struct str name)
{
    for (size_t i = 0; i < args->n_keywords; i++) {
        if (str_eq(args->keywords[i].name, name)) {
            return &args->keywords[i];
        }
    }
    return NULL;
}

/* The next name of a parameter list such as "/ a b? *", without its mark. */
struct param {
    struct str name;
    bool optional;
};

static bool next_param(const char **list, struct param *out)
{
    while (**list == ' ' || **list == '/') {
        (*list)++;
    }
    const char *start = *list;
    while (**list && **list != ' ') {
        (*list)++;
    }
    struct str name = {start, (size_t)(*list - start)};
    out->optional = str_ends(name, STR("?"));
    out->name = str_slice(name, 0, name.len - out->optional);
    return name.len > 0 && *start != '*';
}

static bool bind_builtin(struct render *r, const struct jbuiltin *b, const struct jargs *args, struct jval *arg)
{
    const char *list = b->params;
    bool keywords = *list != '/', rest = strchr(list, '*') != NULL;
    size_t n = 0, used = 0;
    struct param p;
    for (; next_param(&list, &p); n++) {
        const struct jkeyword *k = keywords ? jinja__keyword(args, p.name) : NULL;
        arg[n] = (struct jval){.type = J_ABSENT};
        if (n < args->n_positional) {
            if (k) {
                return jinja__fail(r, "%s() got multiple values for argument '" STR_FMT "'", b->name, STR_ARG(p.name));
            }
            arg[n] = args->positional[n];
        } else if (k) {
            arg[n] = k->value;
            used++;
        } else if (!p.optional) {
            return jinja__fail(r, "%s() missing 1 required positional argument: '" STR_FMT "'", b->name,
                               STR_ARG(p.name));
        }
    }
    for (size_t i = n; i < JINJA_MAX_PARAMS; i++) {
        arg[i] = (struct jval){.type = J_ABSENT};
    }
    if (args->n_positional > n && !rest) {
        return jinja__fail(r, "%s() takes at most %zu arguments (%zu given)", b->name, n, args->n_positional);
    }
    if (args->n_keywords > used && !rest) {
        return jinja__fail(r, "%s() got an unexpected keyword argument", b->name);
    }
    return true;
}

bool jinja__call_builtin(struct render *r, const struct jbuiltin *b, const struct jval *self, const struct jargs *args,
                         struct jval *out)
{
    struct jval arg[JINJA_MAX_PARAMS];
    bool ok = jinja__enter(r) && bind_builtin(r, b, args, arg) && b->fn(r, self, arg, args, out);
    jinja__leave(r);
    return ok;
}

/* ---- macros ---- */

static bool keywords_dict(struct render *r, const struct jargs *args, const bool *used, struct jval *out)
{
    struct jdict *d = jinja__dict(r, args->n_keywords);
    for (size_t i = 0; d && i < args->n_keywords; i++) {
        struct jval key = jval_str(args->keywords[i].name);
        if (!used[i] && !jinja__dict_put(r, d, &key, &args->keywords[i].value)) {
            return false;
        }
    }
    *out = (struct jval){.type = J_DICT, .dict = d};
    return d != NULL;
}

static bool bind_rest(struct render *r, const struct macro_node *m, const struct jargs *args, const bool *used,
                      struct scope *scope)
{
    struct jval v;
    if (m->uses_kwargs) {
        if (!keywords_dict(r, args, used, &v) || !jinja__bind(r, scope, r->t->kwargs, &v)) {
            return false;
        }
    } else {
        for (size_t i = 0; i < args->n_keywords; i++) {
            if (!used[i]) {
                return jinja__fail(r, "macro '" STR_FMT "' takes no keyword argument '" STR_FMT "'", STR_ARG(m->name),
                                   STR_ARG(args->keywords[i].name));
            }
        }
    }
    bool more = args->n_positional > m->n_params;
    if (m->uses_varargs) {
        struct jlist_builder rest = {0};
        for (size_t i = m->n_params; i < args->n_positional; i++) {
            if (!jinja__push(r, &rest, &args->positional[i])) {
                return false;
            }
        }
        return jinja__list(r, &rest, J_TUPLE, &v) && jinja__bind(r, scope, r->t->varargs, &v);
    }
    return !more ||
           jinja__fail(r, "macro '" STR_FMT "' takes not more than %zu argument(s)", STR_ARG(m->name), m->n_params);
}

static bool bind_caller(struct render *r, const struct jargs *args, bool *used, struct scope *scope)
{
    const struct jkeyword *k = jinja__keyword(args, STR("caller"));
    struct jval v;
    if (k) {
        used[k - args->keywords] = true;
        v = k->value;
    }
    if (!k || v.type == J_NONE) {
        struct jundefined why = {.hint = STR("No caller defined"), .name = jval_str(STR("caller"))};
        if (!jinja__undefined(r, &why, &v)) {
            return false;
        }
    }
    return jinja__bind(r, scope, r->t->caller, &v);
}

/* Parameters that were given nothing: their defaults, which may use the parameters before them. */
static bool bind_defaults(struct render *r, const struct macro_node *m, const bool *given, struct scope *scope)
{
    for (size_t i = 0; i < m->n_params; i++) {
        struct jval v;
        if (given[i]) {
            continue;
        }
        if (m->defaults[i]) {
            if (!jinja__eval(r, m->defaults[i], scope, &v)) {
                return false;
            }
        } else {
            struct jval hint;
            size_t mark = jinja__text_begin(r);
            buf_printf(jinja__text(r), "parameter '" STR_FMT "' was not provided", STR_ARG(m->param_names[i]));
            if (!jinja__text_end(r, mark, &hint) || !jinja__undefined(r, &(struct jundefined){.hint = hint.s}, &v)) {
                return false;
            }
        }
        if (!jinja__bind(r, scope, m->params[i], &v)) {
            return false;
        }
    }
    return true;
}

static bool bind_params(struct render *r, const struct macro_node *m, const struct jargs *args, bool *given, bool *used,
                        struct scope *scope)
{
    for (size_t i = 0; i < m->n_params; i++) {
        const struct jkeyword *k = i < args->n_positional ? NULL : jinja__keyword(args, m->param_names[i]);
        given[i] = i < args->n_positional || k;
        if (k) {
            used[k - args->keywords] = true;
        }
        if (given[i] && !jinja__bind(r, scope, m->params[i], k ? &k->value : &args->positional[i])) {
            return false;
        }
    }
    return true;
}

bool jinja__call_macro(struct render *r, const struct jmacro *macro, const struct jargs *args, struct jval *out)
{
    const struct macro_node *m = macro->node;
    struct scope *scope = jinja__scope(r, macro->scope);
    bool *given = jinja__alloc(r, m->n_params + 1, sizeof *given);
    bool *used = jinja__alloc(r, args->n_keywords + 1, sizeof *used);
    if (!scope || !given || !used) {
        return false;
    }
    bool ok = jinja__enter(r) && bind_params(r, m, args, given, used, scope) &&
              (!m->uses_caller || m->has_caller_param || bind_caller(r, args, used, scope)) &&
              bind_rest(r, m, args, used, scope) && bind_defaults(r, m, given, scope) &&
              jinja__capture(r, &m->body, scope, out);
    jinja__leave(r);
    return ok;
}

/* ---- anything ---- */

static bool call_loop(struct render *r, const struct jloop *loop, const struct jargs *args, struct jval *out)
{
    enum flow flow;
    if (args->n_positional != 1 || args->n_keywords) {
        return jinja__fail(r, "loop() takes exactly one argument (%zu given)", args->n_positional);
    }
    if (!loop->node->recursive) {
        return jinja__fail(r, "The loop must have the 'recursive' marker to be called recursively.");
    }
    size_t mark = jinja__text_begin(r);
    r->captures++;
    bool ok =
        jinja__enter(r) && jinja__run_loop(r, loop->node, &args->positional[0], loop->scope, loop->depth0 + 1, &flow);
    jinja__leave(r);
    r->captures--;
    return ok && jinja__text_end(r, mark, out);
}

static bool call_joiner(struct jjoiner *j, struct jval *out)
{
    *out = j->used ? j->separator : jval_str(STR(""));
    j->used = true;
    return true;
}

bool jinja__call(struct render *r, const struct jval *callee, const struct jargs *args, struct jval *out)
{
    switch (callee->type) {
    case J_UNDEFINED:
        return jinja__fail_undefined(r, callee);
    case J_FUNCTION:
        return jinja__call_builtin(r, callee->function, NULL, args, out);
    case J_METHOD:
        return jinja__call_builtin(r, callee->method->function, &callee->method->self, args, out);
    case J_MACRO:
        return jinja__call_macro(r, callee->macro, args, out);
    case J_LOOP:
        return call_loop(r, callee->loop, args, out);
    case J_JOINER:
        return call_joiner(callee->joiner, out);
    default:
        return jinja__fail(r, "'%s' object is not callable", jinja__type_name(callee));
    }
}
