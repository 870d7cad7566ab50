/* Statements, scopes, and the render itself. */
#include "chat/jinja_internal.h"

#include "base/hash.h"

#include <stdarg.h>
#include <stdio.h>

/* ---- errors and budgets ---- */

bool jinja__fail(struct render *r, const char *fmt, ...)
{
    char message[200];
    va_list args;
    va_start(args, fmt);
    vsnprintf(message, sizeof message, fmt, args);
    va_end(args);
    return error_set(r->err, ERR_INVALID, "template line %u: %s", r->line, message);
}

bool jinja__fail_undefined(struct render *r, const struct jval *undefined)
{
    const struct jundefined *u = undefined->undefined;
    if (u->hint.len) {
        return jinja__fail(r, STR_FMT, STR_ARG(u->hint));
    }
    size_t mark = jinja__text_begin(r);
    struct jval name;
    if (!jinja__put_repr(r, &u->name, 0) || !jinja__text_end(r, mark, &name)) {
        return false;
    }
    if (!u->object) {
        return jinja__fail(r, STR_FMT " is undefined", STR_ARG(name.s));
    }
    if (u->name.type == J_STRING) {
        return jinja__fail(r, "'%s' has no attribute " STR_FMT, u->object, STR_ARG(name.s));
    }
    return jinja__fail(r, "%s has no element " STR_FMT, u->object, STR_ARG(name.s));
}

bool jinja__charge(struct render *r, uint64_t steps)
{
    if (steps > r->steps_left) {
        r->steps_left = 0;
        return error_set(r->err, ERR_TOO_LARGE, "template line %u: the template takes more steps than it may.",
                         r->line);
    }
    r->steps_left -= steps;
    return true;
}

bool jinja__charge_bytes(struct render *r, size_t bytes)
{
    return jinja__charge(r, bytes / 32);
}

bool jinja__charge_search(struct render *r, struct str in, struct str what)
{
    return jinja__charge(r, in.len / 16 + in.len / 32 * (what.len / 16));
}

void *jinja__alloc(struct render *r, size_t n, size_t size)
{
    void *memory = arena_alloc_array(r->arena, n, size);
    if (!memory) {
        error_set(r->err, ERR_TOO_LARGE, "template line %u: the template takes more memory than it may.", r->line);
    }
    return memory;
}

bool jinja__enter(struct render *r)
{
    if (++r->depth > JINJA_MAX_DEPTH) {
        return jinja__fail(r, "the template nests deeper than %d levels.", JINJA_MAX_DEPTH);
    }
    return true;
}

void jinja__leave(struct render *r)
{
    r->depth--;
}

bool jinja__emit(struct render *r, struct str text)
{
    struct buf *to = r->captures ? &r->scratch : r->out;
    size_t used = r->captures ? r->scratch.len : r->out->len - r->out_start;
    if (text.len > r->max_output - used) {
        return error_set(r->err, ERR_TOO_LARGE, "template line %u: the output has more than %zu bytes.", r->line,
                         r->max_output);
    }
    buf_append(to, text);
    return jinja__charge_bytes(r, text.len) && (!to->failed || buf_ok(to, "rendered template", r->err));
}

/* ---- scopes ---- */

struct scope *jinja__scope(struct render *r, struct scope *parent)
{
    struct scope *s = jinja__alloc(r, 1, sizeof *s);
    if (s) {
        s->parent = parent;
    }
    return s;
}

static struct binding *find_binding(struct scope *s, uint32_t name)
{
    for (uint32_t i = 0; i < s->n; i++) {
        if (s->vars[i].name == name) {
            return &s->vars[i];
        }
    }
    return NULL;
}

bool jinja__bind(struct render *r, struct scope *s, uint32_t name, const struct jval *v)
{
    if (!s) {
        r->globals[name] = *v;
        return true;
    }
    struct binding *b = find_binding(s, name);
    if (!b) {
        if (s->n == s->cap) {
            uint32_t cap = s->cap ? s->cap * 2 : 4;
            struct binding *vars = jinja__alloc(r, cap, sizeof *vars);
            if (!vars || !jinja__charge(r, s->n)) {
                return false;
            }
            if (s->n) {
                memcpy(vars, s->vars, s->n * sizeof *vars);
            }
            s->vars = vars;
            s->cap = cap;
        }
        b = &s->vars[s->n++];
        b->name = name;
    }
    b->value = *v;
    return true;
}

bool jinja__unset(struct render *r, struct scope *s, const struct body *body)
{
    struct jval none = {.type = J_UNDEFINED};
    for (size_t i = 0; i < body->n_unset; i++) {
        if (!jinja__bind(r, s, body->unset[i], &none)) {
            return false;
        }
    }
    return true;
}

bool jinja__lookup(struct render *r, struct scope *s, uint32_t name, struct jval *out)
{
    const struct jname *n = &r->t->names[name];
    const struct jval *v = NULL;
    for (; s && !v; s = s->parent) {
        struct binding *b = find_binding(s, name);
        v = b ? &b->value : NULL;
        if (!jinja__charge(r, s->n / 8)) {
            return false;
        }
    }
    v = v ? v : r->globals[name].type ? &r->globals[name] : &r->context[name];
    if (v->type == J_ABSENT && n->global) {
        *out = (struct jval){.type = J_FUNCTION, .function = n->global};
        return true;
    }
    if (v->type == J_ABSENT || (v->type == J_UNDEFINED && !v->undefined)) {
        return jinja__undefined(r, &(struct jundefined){.name = jval_str(n->text)}, out);
    }
    *out = *v;
    return true;
}

static bool set_attribute(struct render *r, const struct node *target, const struct jval *v, struct scope *scope)
{
    struct jval ns, key = jval_str(target->text);
    if (!jinja__lookup(r, scope, target->name, &ns)) {
        return false;
    }
    if (ns.type != J_NAMESPACE) {
        return jinja__fail(r, "cannot assign attribute on non-namespace object");
    }
    if (target->text.ptr[0] == '_') {
        return jinja__fail(
            r, "templates cannot store underscore-prefixed attributes on a namespace, but got '" STR_FMT "'.",
            STR_ARG(target->text));
    }
    return jinja__dict_put(r, ns.dict, &key, v);
}

static bool unpack(struct render *r, const struct node *target, const struct jval *v, struct scope *scope)
{
    struct jlist_builder b = {0};
    if (!jinja__iterable(v)) {
        return jinja__fail(r, "cannot unpack non-iterable %s object", jinja__type_name(v));
    }
    if (jval_is_sequence(v)) {
        b.n = v->list->n;
    } else if (!jinja__collect(r, v, &b)) {
        return false;
    }
    if (b.n != target->n) {
        return jinja__fail(r, "%s values to unpack (expected %zu, got %zu)",
                           b.n > target->n ? "too many" : "not enough", target->n, b.n);
    }
    const struct jval *items = jval_is_sequence(v) ? v->list->items : b.items;
    for (size_t i = 0; i < target->n; i++) {
        if (!jinja__assign(r, target->items[i], &items[i], scope)) {
            return false;
        }
    }
    return true;
}

bool jinja__assign(struct render *r, const struct node *target, const struct jval *v, struct scope *scope)
{
    r->line = target->line;
    switch (target->kind) {
    case N_NAME:
        return jinja__bind(r, scope, target->name, v);
    case N_NSREF:
        return set_attribute(r, target, v, scope);
    default:
        return unpack(r, target, v, scope);
    }
}

/* ---- loops ---- */

bool jinja__loop_peek(struct render *r, struct jloop *l, bool *done)
{
    if (!l->peeked) {
        if (!jinja__next(r, l->it, &l->after, &l->ended)) {
            return false;
        }
        l->peeked = true;
    }
    *done = l->ended;
    return true;
}

bool jinja__loop_length(struct render *r, struct jloop *l, int64_t *out)
{
    size_t n;
    if (l->length < 0 && l->iterable.type != J_ITERATOR && jinja__length(&l->iterable, &n)) {
        l->length = (int64_t)n;
    }
    if (l->length < 0) { /* an iterator says how long it was only at its end */
        struct jlist_builder rest = {0};
        struct jval source = {.type = J_ITERATOR, .iterator = l->it}, list;
        if (!jinja__collect(r, &source, &rest) || !jinja__list(r, &rest, J_LIST, &list) ||
            !jinja__iter(r, &list, &l->it)) {
            return false;
        }
        l->length = (int64_t)rest.n + l->index0 + 1 + (l->peeked && !l->ended);
    }
    *out = l->length;
    return true;
}

static bool loop_next(struct render *r, struct jloop *l, bool *done)
{
    struct jval item;
    if (!jinja__loop_peek(r, l, done)) {
        return false;
    }
    item = l->after;
    l->peeked = *done; /* at the end it stays */
    if (!*done) {
        l->index0++;
        l->before = l->current;
        l->current = item;
    }
    return true;
}

static bool open_loop(struct render *r, const struct for_node *n, const struct jval *iterable, struct scope *scope,
                      struct jloop *l)
{
    l->node = n;
    l->iterable = *iterable;
    l->scope = scope;
    l->index0 = l->length = -1;
    if (!jinja__iter(r, iterable, &l->it)) {
        return false;
    }
    if (n->test) {
        struct jiterator *filter = jinja__alloc(r, 1, sizeof *filter);
        struct scope *inner = jinja__scope(r, scope);
        if (!filter || !inner) {
            return false;
        }
        *filter = (struct jiterator){.kind = IT_LOOP_TEST, .inner = l->it, .loop = n, .scope = inner};
        l->it = filter;
        l->iterable = (struct jval){.type = J_ITERATOR, .iterator = filter};
    }
    return true;
}

/* One turn: a scope with the loop variable and the targets. */
static enum flow loop_turn(struct render *r, struct jloop *l, struct scope *scope)
{
    const struct for_node *n = l->node;
    struct jval self = {.type = J_LOOP, .loop = l}, item = l->current;
    if (!jinja__charge(r, 1) || !jinja__bind(r, scope, r->t->loop, &self) ||
        !jinja__assign(r, n->target, &item, scope) || !jinja__unset(r, scope, &n->body)) {
        return FLOW_ERROR;
    }
    return jinja__exec(r, &n->body, scope);
}

bool jinja__run_loop(struct render *r, const struct for_node *n, const struct jval *iterable, struct scope *scope,
                     int64_t depth0, enum flow *flow)
{
    struct jloop *l = jinja__alloc(r, 1, sizeof *l);
    struct scope *turn = NULL;
    bool done = false, broke = false, finished = false;
    *flow = FLOW_NORMAL;
    if (!l || !open_loop(r, n, iterable, scope, l)) {
        return false;
    }
    l->depth0 = depth0;
    while (!broke) {
        if (!loop_next(r, l, &done)) {
            return false;
        }
        if (done) {
            break;
        }
        if (turn && !turn->captured) {
            turn->n = 0;
        } else if (!(turn = jinja__scope(r, scope))) {
            return false;
        }
        enum flow after = loop_turn(r, l, turn);
        if (after == FLOW_ERROR) {
            return false;
        }
        broke = after == FLOW_BREAK;
        finished |= after == FLOW_NORMAL;
    }
    /* jinja2 takes the else part when no turn was finished: also when they were left by break or continue. */
    if (!finished && n->orelse.n) {
        struct scope *inner = jinja__scope(r, scope);
        if (!inner || !jinja__unset(r, inner, &n->orelse)) {
            return false;
        }
        *flow = jinja__exec(r, &n->orelse, inner);
    }
    return *flow != FLOW_ERROR;
}

static enum flow exec_for(struct render *r, const struct node *n, struct scope *scope)
{
    struct jval iterable;
    enum flow flow;
    if (!jinja__eval(r, n->loop->iter, scope, &iterable) || !jinja__run_loop(r, n->loop, &iterable, scope, 0, &flow)) {
        return FLOW_ERROR;
    }
    return flow;
}

/* ---- other statements ---- */

bool jinja__capture(struct render *r, const struct body *body, struct scope *scope, struct jval *out)
{
    size_t mark = jinja__text_begin(r);
    r->captures++;
    bool ok = jinja__unset(r, scope, body) && jinja__exec(r, body, scope) != FLOW_ERROR;
    r->captures--;
    return ok && jinja__text_end(r, mark, out);
}

/* Text of a body in a scope of its own. A break or continue in it drops the text and goes on outside. */
static enum flow capture_block(struct render *r, const struct body *body, struct scope *outer, struct jval *out)
{
    size_t mark = jinja__text_begin(r);
    struct scope *scope = jinja__scope(r, outer);
    if (!scope || !jinja__unset(r, scope, body)) {
        return FLOW_ERROR;
    }
    r->captures++;
    enum flow flow = jinja__exec(r, body, scope);
    r->captures--;
    if (flow == FLOW_BREAK || flow == FLOW_CONTINUE) {
        buf_truncate(&r->scratch, mark);
    } else if (flow == FLOW_NORMAL && !jinja__text_end(r, mark, out)) {
        flow = FLOW_ERROR;
    }
    return flow;
}

static enum flow flow_of(bool ok)
{
    return ok ? FLOW_NORMAL : FLOW_ERROR;
}

static bool print(struct render *r, const struct jval *v)
{
    struct jval text;
    if (v->type == J_UNDEFINED) {
        return true;
    }
    return jinja__to_str(r, v, &text) && jinja__emit(r, text.s);
}

/* What a filter or call block gives goes out as it is: it has to be a string. */
static bool print_string(struct render *r, const struct jval *v)
{
    return v->type == J_STRING ? jinja__emit(r, v->s)
                               : jinja__fail(r, "expected str instance, %s found", jinja__type_name(v));
}

static enum flow exec_print(struct render *r, const struct node *n, struct scope *scope)
{
    struct jval v;
    return flow_of(jinja__eval(r, n->a, scope, &v) && print(r, &v));
}

static enum flow exec_if(struct render *r, const struct node *n, struct scope *scope)
{
    struct jval test;
    size_t i = 0;
    for (; i < n->n; i++) {
        if (!jinja__eval(r, n->items[i], scope, &test)) {
            return FLOW_ERROR;
        }
        if (jinja__truth(&test)) {
            break;
        }
    }
    return jinja__exec(r, &n->bodies[i], scope);
}

static enum flow exec_set(struct render *r, const struct node *n, struct scope *scope)
{
    struct jval v;
    return flow_of(jinja__eval(r, n->b, scope, &v) && jinja__assign(r, n->a, &v, scope));
}

/* A filter over the text of a block, without the block's own names. */
static bool filter_text(struct render *r, const struct node *filter, struct scope *outer, struct jval *text)
{
    struct scope *scope = jinja__scope(r, outer);
    if (!scope) {
        return false;
    }
    if (filter->a) { /* the first of several filters is innermost */
        if (!filter_text(r, filter->a, outer, text)) {
            return false;
        }
    }
    struct node alone = *filter;
    alone.a = NULL;
    return jinja__eval(r, &alone, scope, text);
}

static enum flow exec_set_block(struct render *r, const struct node *n, struct scope *scope)
{
    struct jval text;
    enum flow flow = capture_block(r, n->bodies, scope, &text);
    if (flow != FLOW_NORMAL) {
        return flow;
    }
    return flow_of((!n->b || filter_text(r, n->b, scope, &text)) && jinja__assign(r, n->a, &text, scope));
}

static enum flow exec_filter_block(struct render *r, const struct node *n, struct scope *scope)
{
    struct jval text;
    enum flow flow = capture_block(r, n->bodies, scope, &text);
    if (flow != FLOW_NORMAL) {
        return flow;
    }
    return flow_of(filter_text(r, n->b, scope, &text) && print_string(r, &text));
}

static bool make_macro(struct render *r, const struct macro_node *m, struct scope *scope, struct jval *out)
{
    struct jmacro *macro = jinja__alloc(r, 1, sizeof *macro);
    if (!macro) {
        return false;
    }
    for (struct scope *s = scope; s && !s->captured; s = s->parent) {
        s->captured = true;
    }
    *macro = (struct jmacro){m, scope};
    *out = (struct jval){.type = J_MACRO, .macro = macro};
    return true;
}

static enum flow exec_macro(struct render *r, const struct node *n, struct scope *scope)
{
    struct jval macro;
    return flow_of(make_macro(r, n->macro, scope, &macro) && jinja__bind(r, scope, n->macro->name_id, &macro));
}

static enum flow exec_call_block(struct render *r, const struct node *n, struct scope *scope)
{
    struct jkeyword caller = {.name = STR("caller")};
    struct jval v;
    return flow_of(make_macro(r, n->macro, scope, &caller.value) && jinja__eval_call(r, n->b, scope, &caller, &v) &&
                   print(r, &v));
}

static enum flow exec_with(struct render *r, const struct node *n, struct scope *outer)
{
    struct scope *scope = jinja__scope(r, outer);
    if (!scope) {
        return FLOW_ERROR;
    }
    for (size_t i = 0; i < n->n; i += 2) {
        struct jval v;
        if (!jinja__eval(r, n->items[i + 1], outer, &v) || !jinja__assign(r, n->items[i], &v, scope)) {
            return FLOW_ERROR;
        }
    }
    return jinja__unset(r, scope, n->bodies) ? jinja__exec(r, n->bodies, scope) : FLOW_ERROR;
}

static enum flow exec_scoped(struct render *r, const struct node *n, struct scope *outer)
{
    struct scope *scope = jinja__scope(r, n->kind == S_BLOCK ? NULL : outer);
    struct jval on;
    if (!scope || !jinja__unset(r, scope, n->bodies)) {
        return FLOW_ERROR;
    }
    if (n->kind == S_AUTOESCAPE) {
        if (!jinja__eval(r, n->a, scope, &on)) {
            return FLOW_ERROR;
        }
        if (jinja__truth(&on)) {
            return flow_of(jinja__fail(r, "autoescape is not supported."));
        }
    }
    return jinja__exec(r, n->bodies, scope);
}

static enum flow exec_node(struct render *r, const struct node *n, struct scope *scope)
{
    switch (n->kind) {
    case S_TEXT:
        return flow_of(jinja__emit(r, n->text));
    case S_PRINT:
        return exec_print(r, n, scope);
    case S_IF:
        return exec_if(r, n, scope);
    case S_FOR:
        return exec_for(r, n, scope);
    case S_SET:
        return exec_set(r, n, scope);
    case S_SET_BLOCK:
        return exec_set_block(r, n, scope);
    case S_MACRO:
        return exec_macro(r, n, scope);
    case S_CALL_BLOCK:
        return exec_call_block(r, n, scope);
    case S_FILTER_BLOCK:
        return exec_filter_block(r, n, scope);
    case S_WITH:
        return exec_with(r, n, scope);
    case S_BLOCK:
    case S_GENERATION:
    case S_AUTOESCAPE:
        return exec_scoped(r, n, scope);
    case S_BREAK:
        return FLOW_BREAK;
    case S_CONTINUE:
        return FLOW_CONTINUE;
    default:
        return flow_of(jinja__fail(r, "'" STR_FMT "' is not available: a chat template has no other templates.",
                                   STR_ARG(n->text)));
    }
}

enum flow jinja__exec(struct render *r, const struct body *body, struct scope *scope)
{
    enum flow flow = FLOW_NORMAL;
    if (!jinja__enter(r)) {
        flow = FLOW_ERROR;
    }
    for (size_t i = 0; i < body->n && flow == FLOW_NORMAL; i++) {
        r->line = body->items[i]->line;
        flow = jinja__charge(r, 1) ? exec_node(r, body->items[i], scope) : FLOW_ERROR;
    }
    jinja__leave(r);
    return flow;
}

/* ---- rendering ---- */

/* The caller's variables that the template names. */
static bool load_context(struct render *r, const struct json *context)
{
    const struct jinja_template *t = r->t;
    struct json_iter it = json_members(context);
    struct jdict *ids = jinja__dict(r, t->n_names + 1);
    r->globals = jinja__alloc(r, t->n_names + 1, sizeof *r->globals);
    r->context = jinja__alloc(r, t->n_names + 1, sizeof *r->context);
    if (!ids || !r->globals || !r->context) {
        return false;
    }
    for (size_t i = 0; i < t->n_names; i++) {
        struct jval key = jval_str(t->names[i].text), id = jval_int((int64_t)i);
        if (!jinja__dict_put(r, ids, &key, &id)) {
            return false;
        }
    }
    while (json_next(&it)) {
        const struct jval *id = jinja__dict_get(r, ids, it.key);
        if (id && !jinja__from_json(r, it.value, 0, &r->context[id->i])) {
            return false;
        }
    }
    return true;
}

static bool run(struct render *r, const struct json *context)
{
    r->line = 1;
    return load_context(r, context) && jinja__unset(r, NULL, &r->t->body) &&
           jinja__exec(r, &r->t->body, NULL) != FLOW_ERROR;
}

bool jinja_render(const struct jinja_template *t, const struct json *context, int64_t now_s,
                  const struct jinja_limits *limits, struct buf *out, struct error *err)
{
    struct jinja_limits l = limits ? *limits : (struct jinja_limits){0};
    size_t max_memory = l.max_memory ? l.max_memory : JINJA_DEFAULT_MEMORY;
    struct render r = {.t = t,
                       .arena = arena_create(max_memory),
                       .err = err,
                       .out = out,
                       .out_start = out->len,
                       .max_output = l.max_output ? l.max_output : JINJA_DEFAULT_OUTPUT,
                       .steps_left = l.max_steps ? l.max_steps : JINJA_DEFAULT_STEPS,
                       .now_s = now_s};
    if (!r.arena) {
        return error_set(err, ERR_NO_MEMORY, "no memory to render the template.");
    }
    r.hash_seed = xxh3(&r.arena, sizeof r.arena, (uint64_t)(uintptr_t)r.arena);
    buf_init(&r.scratch, r.max_output);
    bool ok = run(&r, context);
    buf_release(&r.scratch);
    arena_free(r.arena);
    return ok;
}
