/* Compiling: names, and the scopes that jinja2's compiler gives to them.
 *
 * jinja2 decides at compile time where a name comes from. What shows at run time: a name that a body sets without
 * having read it before, and that no outer body mentions, is undefined in that body until it is set, even when the
 * caller gave a variable of that name. All other names are looked up in the body, in the bodies around it, then among
 * the caller's variables. So each body gets a list of its unset names, and lookup at run time goes through the scopes.
 * [jinja2/idtracking.py; a mention inside an if never makes a name unset] */
#include "base/array.h"
#include "base/hash.h"
#include "base/utf8.h"
#include "chat/jinja_internal.h"

#include <stdlib.h>

#define MAX_TEMPLATE_MEMORY ((size_t)256 << 20)

/* ---- names ---- */

static bool grow_slots(struct jnames *names, struct error *err)
{
    size_t n = names->n_slots ? names->n_slots * 2 : 64;
    uint32_t *slots = calloc(n, sizeof *slots);
    if (!slots) {
        return error_set(err, ERR_NO_MEMORY, "no memory for the template's names.");
    }
    for (size_t i = 0; i < names->n; i++) {
        size_t at = xxh3(names->items[i].text.ptr, names->items[i].text.len, 0) & (n - 1);
        while (slots[at]) {
            at = (at + 1) & (n - 1);
        }
        slots[at] = (uint32_t)i + 1;
    }
    free(names->slots);
    names->slots = slots;
    names->n_slots = n;
    return true;
}

bool jinja__intern(struct jnames *names, struct str text, uint32_t *id, struct error *err)
{
    if ((names->n + 1) * 2 > names->n_slots && !grow_slots(names, err)) {
        return false;
    }
    size_t at = xxh3(text.ptr, text.len, 0) & (names->n_slots - 1);
    for (; names->slots[at]; at = (at + 1) & (names->n_slots - 1)) {
        if (str_eq(names->items[names->slots[at] - 1].text, text)) {
            *id = names->slots[at] - 1;
            return true;
        }
    }
    if (!array_reserve(&names->items, &names->cap, names->n + 1, JINJA_MAX_SOURCE, "names of the template", err)) {
        return false;
    }
    names->slots[at] = (uint32_t)names->n + 1;
    *id = (uint32_t)names->n;
    names->items[names->n++] = (struct jname){.text = text, .global = jinja__find_global(text)};
    return true;
}

/* ---- scopes ---- */

/* A name that a frame has come to know, and which frame knew it before. */
struct mention {
    uint32_t name, known_before;
};

struct frame {
    const struct frame *parent;
    uint32_t level;  /* from 1 */
    size_t first;    /* of its mentions */
    int branches;    /* ifs around what is being visited */
    bool in_loop;    /* break and continue mean something */
    bool inside_for; /* some loop is around, perhaps outside a macro */
    struct macro_node *macro;
    struct body *body;
    size_t unset_cap;
};

struct analysis {
    struct jinja_template *t;
    struct error *err;
    uint32_t *known; /* [n_names] level of the innermost frame that knows the name; 0: none */
    struct mention *mentions;
    size_t n_mentions, mentions_cap;
    int depth;
};

static bool refuse(struct analysis *a, uint32_t line, const char *message)
{
    return error_set(a->err, ERR_INVALID, "template line %u: %s", line, message);
}

static bool mention(struct analysis *a, const struct frame *f, uint32_t name)
{
    if (!array_reserve(&a->mentions, &a->mentions_cap, a->n_mentions + 1, SIZE_MAX / 64, "names", a->err)) {
        return false;
    }
    a->mentions[a->n_mentions++] = (struct mention){name, a->known[name]};
    a->known[name] = f->level;
    return true;
}

static bool load(struct analysis *a, struct frame *f, uint32_t name)
{
    for (const struct frame *at = f; at; at = at->parent) {
        if (at->macro) {
            at->macro->uses_caller |= name == a->t->caller;
            at->macro->uses_kwargs |= name == a->t->kwargs;
            at->macro->uses_varargs |= name == a->t->varargs;
        }
    }
    return a->known[name] || mention(a, f, name);
}

static bool add_unset(struct analysis *a, struct frame *f, uint32_t name)
{
    struct body *b = f->body;
    if (b->n_unset == f->unset_cap) {
        size_t cap = f->unset_cap ? f->unset_cap * 2 : 4;
        uint32_t *ids = arena_alloc_array(a->t->arena, cap, sizeof *ids);
        if (!ids) {
            return arena_full(a->t->arena, "template", a->err);
        }
        if (b->n_unset) {
            memcpy(ids, b->unset, b->n_unset * sizeof *ids);
        }
        b->unset = ids;
        f->unset_cap = cap;
    }
    b->unset[b->n_unset++] = name;
    return true;
}

static bool store(struct analysis *a, struct frame *f, uint32_t name)
{
    if (a->known[name] == f->level) {
        return true;
    }
    bool unset = !a->known[name] && f->branches == 0 && f->body;
    return mention(a, f, name) && (!unset || add_unset(a, f, name));
}

static bool param(struct analysis *a, struct frame *f, uint32_t name)
{
    return a->known[name] == f->level || mention(a, f, name);
}

static bool too_deep(struct analysis *a, uint32_t line)
{
    return a->depth > JINJA_MAX_DEPTH && !refuse(a, line, "nested too deeply.");
}

static bool collect_expr(struct analysis *a, struct frame *f, const struct node *n);

static bool collect_items(struct analysis *a, struct frame *f, const struct node *n)
{
    for (size_t i = 0; i < n->n; i++) {
        if (!collect_expr(a, f, n->items[i])) {
            return false;
        }
    }
    return true;
}

static bool collect_call(struct analysis *a, struct frame *f, const struct call_node *call)
{
    for (size_t i = 0; i < call->n_positional; i++) {
        if (!collect_expr(a, f, call->positional[i])) {
            return false;
        }
    }
    for (size_t i = 0; i < call->n_keywords; i++) {
        if (!collect_expr(a, f, call->keywords[i].value)) {
            return false;
        }
    }
    return collect_expr(a, f, call->star) && collect_expr(a, f, call->star_star);
}

/* Unknown filters are an error at once, but inside an if, or an inline if, only when they are reached. */
static bool check_function(struct analysis *a, const struct frame *f, const struct node *n)
{
    if (n->function || f->branches > 0) {
        return true;
    }
    return error_set(a->err, ERR_INVALID, "template line %u: No %s named '" STR_FMT "'.", n->line,
                     n->kind == N_FILTER ? "filter" : "test", STR_ARG(n->text));
}

static bool collect_parts(struct analysis *a, struct frame *f, const struct node *n)
{
    switch (n->kind) {
    case N_NAME:
    case N_NSREF:
        return load(a, f, n->name);
    case N_FILTER:
    case N_TEST:
        return check_function(a, f, n) && collect_expr(a, f, n->a) && collect_call(a, f, n->call);
    case N_CALL:
        return collect_expr(a, f, n->a) && collect_call(a, f, n->call);
    default:
        return collect_expr(a, f, n->a) && collect_expr(a, f, n->b) && collect_expr(a, f, n->c) &&
               collect_items(a, f, n);
    }
}

static bool collect_expr(struct analysis *a, struct frame *f, const struct node *n)
{
    if (!n) {
        return true;
    }
    a->depth++;
    f->branches += n->kind == N_COND;
    bool ok = !too_deep(a, n->line) && collect_parts(a, f, n);
    f->branches -= n->kind == N_COND;
    a->depth--;
    return ok;
}

static bool collect_target(struct analysis *a, struct frame *f, const struct node *n,
                           bool (*as)(struct analysis *, struct frame *, uint32_t))
{
    if (n->kind == N_NSREF) {
        return load(a, f, n->name);
    }
    if (n->kind == N_NAME) {
        if (f->inside_for && n->name == a->t->loop) {
            return refuse(a, n->line, "Can't assign to special loop variable in for-loop target");
        }
        return as(a, f, n->name);
    }
    for (size_t i = 0; i < n->n; i++) {
        if (!collect_target(a, f, n->items[i], as)) {
            return false;
        }
    }
    return true;
}

static bool collect_body(struct analysis *a, struct frame *f, const struct body *b);

static bool collect_if(struct analysis *a, struct frame *f, const struct node *n)
{
    f->branches++; /* also the conditions, whose unknown filters wait until they are reached */
    bool ok = true;
    for (size_t i = 0; ok && i <= n->n; i++) {
        ok = (i == n->n || collect_expr(a, f, n->items[i])) && collect_body(a, f, &n->bodies[i]);
    }
    f->branches--;
    return ok;
}

/* What a statement says about names of its own frame; bodies that are frames of their own are left out. */
static bool collect_statement(struct analysis *a, struct frame *f, const struct node *n)
{
    switch (n->kind) {
    case S_PRINT:
        return collect_expr(a, f, n->a);
    case S_IF:
        return collect_if(a, f, n);
    case S_FOR:
        return collect_expr(a, f, n->loop->iter);
    case S_SET:
        return collect_expr(a, f, n->b) && collect_target(a, f, n->a, store);
    case S_SET_BLOCK:
        return collect_target(a, f, n->a, store);
    case S_MACRO:
        return store(a, f, n->macro->name_id);
    case S_CALL_BLOCK:
    case S_FILTER_BLOCK:
        return collect_expr(a, f, n->b);
    case S_WITH:
        for (size_t i = 1; i < n->n; i += 2) {
            if (!collect_expr(a, f, n->items[i])) {
                return false;
            }
        }
        return true;
    case S_BREAK:
    case S_CONTINUE:
        return f->in_loop || refuse(a, n->line, "break or continue outside of a loop");
    default:
        return true;
    }
}

static bool collect_body(struct analysis *a, struct frame *f, const struct body *b)
{
    a->depth++;
    bool ok = true;
    for (size_t i = 0; ok && i < b->n; i++) {
        ok = !too_deep(a, b->items[i]->line) && collect_statement(a, f, b->items[i]);
    }
    a->depth--;
    return ok;
}

static struct frame open_frame(const struct analysis *a, const struct frame *parent, struct body *body)
{
    return (struct frame){.parent = parent,
                          .level = parent ? parent->level + 1 : 1,
                          .first = a->n_mentions,
                          .in_loop = parent && parent->in_loop,
                          .inside_for = parent && parent->inside_for,
                          .body = body};
}

static void close_frame(struct analysis *a, const struct frame *f)
{
    while (a->n_mentions > f->first) {
        struct mention m = a->mentions[--a->n_mentions];
        a->known[m.name] = m.known_before;
    }
}

static bool descend(struct analysis *a, struct frame *f, const struct body *b);

/* The body of a frame whose parameters are known, and then the frames in it. */
static bool finish_frame(struct analysis *a, struct frame *f)
{
    bool ok = collect_body(a, f, f->body) && descend(a, f, f->body);
    close_frame(a, f);
    return ok;
}

static bool descend_for(struct analysis *a, const struct frame *outer, const struct node *n)
{
    struct frame test = open_frame(a, outer, NULL);
    test.inside_for = true;
    bool ok = collect_target(a, &test, n->loop->target, param) && collect_expr(a, &test, n->loop->test);
    close_frame(a, &test);
    struct frame body = open_frame(a, outer, &n->loop->body);
    body.in_loop = body.inside_for = true;
    ok =
        ok && collect_target(a, &body, n->loop->target, param) && param(a, &body, a->t->loop) && finish_frame(a, &body);
    struct frame orelse = open_frame(a, outer, &n->loop->orelse);
    orelse.inside_for = true;
    return ok && finish_frame(a, &orelse);
}

static bool descend_macro(struct analysis *a, const struct frame *outer, const struct node *n)
{
    struct macro_node *m = n->macro;
    struct frame f = open_frame(a, outer, &m->body);
    f.in_loop = false;
    bool ok = true, caller_default = false;
    for (size_t i = 0; ok && i < m->n_params; i++) {
        ok = param(a, &f, m->params[i]) && collect_expr(a, &f, m->defaults[i]);
        m->has_caller_param |= m->params[i] == a->t->caller;
        caller_default |= m->params[i] == a->t->caller && m->defaults[i];
    }
    f.macro = m;
    ok = ok && (m->has_caller_param || param(a, &f, a->t->caller)) && param(a, &f, a->t->kwargs) &&
         param(a, &f, a->t->varargs) && finish_frame(a, &f);
    if (ok && m->has_caller_param && m->uses_caller && !caller_default) {
        return refuse(a, n->line, "the special \"caller\" argument must be omitted or be given a default.");
    }
    for (size_t i = 0; i < m->n_params; i++) { /* a parameter of that name is an ordinary one */
        m->uses_kwargs &= m->params[i] != a->t->kwargs;
        m->uses_varargs &= m->params[i] != a->t->varargs;
    }
    return ok;
}

static bool descend_scope(struct analysis *a, const struct frame *outer, const struct node *n)
{
    struct frame f = open_frame(a, outer, n->bodies);
    bool ok = true;
    f.in_loop &= n->kind != S_GENERATION && n->kind != S_BLOCK;
    if (n->kind == S_WITH) {
        for (size_t i = 0; ok && i < n->n; i += 2) {
            ok = collect_target(a, &f, n->items[i], param);
        }
    } else if (n->kind == S_SET_BLOCK) {
        ok = collect_expr(a, &f, n->b);
    } else if (n->kind == S_AUTOESCAPE) {
        ok = collect_expr(a, &f, n->a);
    }
    return ok && finish_frame(a, &f);
}

static bool descend_statement(struct analysis *a, struct frame *f, const struct node *n)
{
    bool ok = true;
    switch (n->kind) {
    case S_IF:
        for (size_t i = 0; ok && i <= n->n; i++) {
            ok = descend(a, f, &n->bodies[i]);
        }
        return ok;
    case S_FOR:
        return descend_for(a, f, n);
    case S_MACRO:
    case S_CALL_BLOCK:
        return descend_macro(a, f, n);
    case S_SET_BLOCK:
    case S_FILTER_BLOCK:
    case S_WITH:
    case S_BLOCK:
    case S_GENERATION:
    case S_AUTOESCAPE:
        return descend_scope(a, f, n);
    default:
        return true;
    }
}

static bool descend(struct analysis *a, struct frame *f, const struct body *b)
{
    bool ok = true;
    a->depth++;
    for (size_t i = 0; ok && i < b->n; i++) {
        ok = descend_statement(a, f, b->items[i]);
    }
    a->depth--;
    return ok;
}

bool jinja__analyze(struct jinja_template *t, struct error *err)
{
    struct analysis a = {.t = t, .err = err, .known = calloc(t->n_names + 1, sizeof *a.known)};
    bool ok = false;
    if (a.known) {
        struct frame root = open_frame(&a, NULL, &t->body);
        ok = finish_frame(&a, &root);
    } else {
        error_set(err, ERR_NO_MEMORY, "no memory for the template's names.");
    }
    free(a.known);
    free(a.mentions);
    return ok;
}

/* ---- compiling ---- */

/* The names that the engine binds by itself come first. */
static bool intern_special(struct jnames *names, struct jinja_template *t, struct error *err)
{
    return jinja__intern(names, STR("caller"), &t->caller, err) &&
           jinja__intern(names, STR("kwargs"), &t->kwargs, err) &&
           jinja__intern(names, STR("varargs"), &t->varargs, err) && jinja__intern(names, STR("loop"), &t->loop, err);
}

static bool keep_names(struct jinja_template *t, const struct jnames *names, struct error *err)
{
    t->names = arena_alloc_array(t->arena, names->n, sizeof *t->names);
    if (!t->names) {
        return arena_full(t->arena, "template", err);
    }
    memcpy(t->names, names->items, names->n * sizeof *t->names);
    t->n_names = names->n;
    return true;
}

static bool compile(struct jinja_template *t, struct str source, struct error *err)
{
    struct jtokens tokens = {0};
    struct jnames names = {0};
    struct str normalized;
    bool ok = jinja__normalize(source, t->arena, &normalized, err) && jinja__lex(normalized, t->arena, &tokens, err) &&
              intern_special(&names, t, err);
    if (ok) {
        struct parser p = {.arena = t->arena, .err = err, .at = tokens.items, .names = &names};
        ok = jinja__parse(&p, &t->body) && keep_names(t, &names, err) && jinja__analyze(t, err);
    }
    free(tokens.items);
    free(names.items);
    free(names.slots);
    return ok;
}

struct jinja_template *jinja_compile(struct str source, struct error *err)
{
    if (source.len > JINJA_MAX_SOURCE) {
        error_set(err, ERR_INVALID, "the template has %zu bytes, more than %zu.", source.len, JINJA_MAX_SOURCE);
        return NULL;
    }
    if (!utf8_valid(source)) {
        error_set(err, ERR_INVALID, "the template is not valid UTF-8.");
        return NULL;
    }
    struct arena *arena = arena_create(MAX_TEMPLATE_MEMORY);
    struct jinja_template *t = arena ? arena_alloc(arena, sizeof *t) : NULL;
    if (!t) {
        error_set(err, ERR_NO_MEMORY, "no memory for the template.");
        arena_free(arena);
        return NULL;
    }
    t->arena = arena;
    if (!compile(t, source, err)) {
        jinja_free(t);
        return NULL;
    }
    return t;
}

void jinja_free(struct jinja_template *t)
{
    if (t) {
        arena_free(t->arena);
    }
}
