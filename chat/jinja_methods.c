/* Methods of lists, tuples, dicts, ranges, loops, cyclers and numbers, and the tables of all methods. What would change
 * a value is listed without a function: the sandbox forbids it. */
#include "base/array.h"
#include "chat/jinja_internal.h"

#include <math.h>

/* ---- lists, tuples and ranges ---- */

BUILTIN(list_count)
{
    struct jlist_builder b = {0};
    int64_t n = 0;
    (void)raw;
    if (!jinja__collect(r, self, &b)) {
        return false;
    }
    for (size_t i = 0; i < b.n; i++) {
        bool same;
        if (!jinja__equal(r, &b.items[i], &arg[0], 0, &same)) {
            return false;
        }
        n += same;
    }
    *out = jval_int(n);
    return true;
}

BUILTIN(list_index)
{
    struct jlist_builder b = {0};
    int64_t start, stop;
    (void)raw;
    if (!jinja__collect(r, self, &b) || !jinja__arg_int(r, &arg[1], 0, &start) ||
        !jinja__arg_int(r, &arg[2], INT64_MAX, &stop)) {
        return false;
    }
    int64_t n = (int64_t)b.n;
    start = start < -n ? 0 : start < 0 ? start + n : start;
    stop = stop < -n ? 0 : stop < 0 ? stop + n : stop > n ? n : stop;
    for (int64_t i = start; i < stop; i++) {
        bool same;
        if (!jinja__equal(r, &b.items[i], &arg[0], 0, &same)) {
            return false;
        }
        if (same) {
            *out = jval_int(i);
            return true;
        }
    }
    return jinja__fail(r, "the value is not in the list");
}

BUILTIN(copy_self)
{
    UNUSED;
    *out = *self; /* values do not change: a copy is the value itself */
    return true;
}

/* ---- dicts ---- */

static bool view(struct render *r, const struct jval *self, enum jview_kind kind, struct jval *out)
{
    struct jview *v = jinja__alloc(r, 1, sizeof *v);
    if (v) {
        *v = (struct jview){self->dict, kind};
    }
    *out = (struct jval){.type = J_VIEW, .view = v};
    return v != NULL;
}

BUILTIN(dict_keys)
{
    UNUSED;
    return view(r, self, J_KEYS, out);
}

BUILTIN(dict_values)
{
    UNUSED;
    return view(r, self, J_VALUES, out);
}

BUILTIN(dict_items)
{
    UNUSED;
    return view(r, self, J_ITEMS, out);
}

BUILTIN(dict_get)
{
    const struct jval *found;
    (void)raw;
    if (!jinja__dict_find(r, self->dict, &arg[0], &found)) {
        return false;
    }
    *out = found ? *found : arg[1].type == J_ABSENT ? jval_none() : arg[1];
    return true;
}

BUILTIN(dict_fromkeys)
{
    struct jlist_builder b = {0};
    struct jdict *d = jinja__dict(r, 0);
    struct jval value = arg[1].type == J_ABSENT ? jval_none() : arg[1];
    (void)self;
    (void)raw;
    if (!d || !jinja__collect(r, &arg[0], &b)) {
        return false;
    }
    for (size_t i = 0; i < b.n; i++) {
        if (!jinja__dict_put(r, d, &b.items[i], &value)) {
            return false;
        }
    }
    *out = (struct jval){.type = J_DICT, .dict = d};
    return true;
}

/* ---- loops and cyclers ---- */

BUILTIN(loop_cycle)
{
    (void)arg;
    if (raw->n_positional == 0) {
        return jinja__fail(r, "no items for cycling given");
    }
    *out = raw->positional[(size_t)self->loop->index0 % raw->n_positional];
    return true;
}

BUILTIN(loop_changed)
{
    struct jlist_builder b = {.n = raw->n_positional};
    struct jval values;
    bool same = false;
    (void)arg;
    b.items = jinja__alloc(r, b.n + 1, sizeof *b.items);
    if (!b.items) {
        return false;
    }
    for (size_t i = 0; i < b.n; i++) {
        b.items[i] = raw->positional[i];
    }
    if (!jinja__list(r, &b, J_TUPLE, &values) || !jinja__equal(r, &values, &self->loop->changed, 0, &same)) {
        return false;
    }
    self->loop->changed = values;
    *out = jval_bool(!same);
    return true;
}

BUILTIN(cycler_next)
{
    struct jcycler *c = self->cycler;
    UNUSED;
    *out = c->items[c->at];
    c->at = (c->at + 1) % c->n;
    return true;
}

BUILTIN(cycler_reset)
{
    UNUSED;
    self->cycler->at = 0;
    *out = jval_none();
    return true;
}

/* ---- numbers ---- */

BUILTIN(float_is_integer)
{
    UNUSED;
    *out = jval_bool(self->f - self->f == 0 && self->f == floor(self->f));
    return true;
}

BUILTIN(int_bit_length)
{
    int64_t i = jval_to_int(self);
    uint64_t v = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
    int64_t n = 0;
    UNUSED;
    for (; v; v >>= 1) {
        n++;
    }
    *out = jval_int(n);
    return true;
}

/* ---- tables ---- */

static const struct jbuiltin list_methods[] = {
    {"index", "/ value start? stop?", list_index},
    {"count", "/ value", list_count},
    {"copy", "/", copy_self},
    {"append", "", NULL},
    {"clear", "", NULL},
    {"extend", "", NULL},
    {"insert", "", NULL},
    {"pop", "", NULL},
    {"remove", "", NULL},
    {"reverse", "", NULL},
    {"sort", "", NULL},
    {NULL, NULL, NULL},
};

static const struct jbuiltin tuple_methods[] = {
    {"index", "/ value start? stop?", list_index},
    {"count", "/ value", list_count},
    {NULL, NULL, NULL},
};

static const struct jbuiltin dict_methods[] = {
    {"get", "/ key default?", dict_get},
    {"items", "/", dict_items},
    {"keys", "/", dict_keys},
    {"values", "/", dict_values},
    {"copy", "/", copy_self},
    {"fromkeys", "/ iterable value?", dict_fromkeys},
    {"clear", "", NULL},
    {"pop", "", NULL},
    {"popitem", "", NULL},
    {"setdefault", "", NULL},
    {"update", "", NULL},
    {NULL, NULL, NULL},
};

static const struct jbuiltin loop_methods[] = {
    {"cycle", "*", loop_cycle}, {"changed", "*", loop_changed}, {NULL, NULL, NULL}};

static const struct jbuiltin cycler_methods[] = {
    {"next", "/", cycler_next}, {"reset", "/", cycler_reset}, {NULL, NULL, NULL}};

static const struct jbuiltin float_methods[] = {
    {"is_integer", "/", float_is_integer}, {"conjugate", "/", copy_self}, {NULL, NULL, NULL}};

static const struct jbuiltin int_methods[] = {
    {"bit_length", "/", int_bit_length}, {"conjugate", "/", copy_self}, {NULL, NULL, NULL}};

static const struct jbuiltin dict_class_methods[] = {{"fromkeys", "/ iterable value?", dict_fromkeys},
                                                     {NULL, NULL, NULL}};

const struct jbuiltin *jinja__find_method(const struct jval *v, struct str name)
{
    static const struct jbuiltin *const tables[] = {
        [J_BOOL] = int_methods,          [J_INT] = int_methods,     [J_FLOAT] = float_methods,
        [J_STRING] = jinja__str_methods, [J_LIST] = list_methods,   [J_TUPLE] = tuple_methods,
        [J_DICT] = dict_methods,         [J_RANGE] = tuple_methods, [J_LOOP] = loop_methods,
        [J_CYCLER] = cycler_methods,     [J_JOINER] = NULL};
    const struct jbuiltin *table = v->type < ARRAY_LEN(tables) ? tables[v->type] : NULL;
    if (v->type == J_FUNCTION && str_eq(str_of(v->function->name), STR("dict"))) {
        table = dict_class_methods;
    }
    return table ? jinja__find_in(table, name) : NULL;
}
