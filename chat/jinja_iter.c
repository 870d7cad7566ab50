/* Iterators. What jinja2 makes as generators (map, select, unique, batch, ...) is computed item by item here too, and
 * is used up by iterating over it. */
#include "base/utf8.h"
#include "chat/jinja_internal.h"

bool jinja__iterable(const struct jval *v)
{
    switch (v->type) {
    case J_UNDEFINED:
    case J_STRING:
    case J_LIST:
    case J_TUPLE:
    case J_DICT:
    case J_VIEW:
    case J_RANGE:
    case J_ITERATOR:
    case J_LOOP:
        return true;
    default:
        return false;
    }
}

bool jinja__iter(struct render *r, const struct jval *v, struct jiterator **out)
{
    if (v->type == J_ITERATOR) {
        *out = v->iterator;
        return true;
    }
    if (v->type == J_LOOP) {
        return jinja__fail(r, "iterating over a loop object is not supported.");
    }
    if (!jinja__iterable(v)) {
        return jinja__fail(r, "'%s' object is not iterable", jinja__type_name(v));
    }
    struct jiterator *it = jinja__alloc(r, 1, sizeof *it);
    if (!it) {
        return false;
    }
    it->source = *v;
    it->kind = v->type == J_STRING      ? IT_CHARS
               : jval_is_sequence(v)    ? IT_ITEMS
               : v->type == J_RANGE     ? IT_RANGE
               : v->type == J_UNDEFINED ? IT_EMPTY
                                        : IT_DICT;
    it->view = v->type == J_VIEW ? v->view->kind : J_KEYS;
    *out = it;
    return true;
}

static bool next_char(struct jiterator *it, struct jval *out)
{
    struct str s = it->source.s;
    if (it->at >= s.len) {
        return false;
    }
    size_t n = jinja__offset(str_slice(s, it->at, s.len), 1);
    *out = jval_str(str_slice(s, it->at, it->at + n)); /* not marked as HTML, even where the string is */
    it->at += n;
    return true;
}

static bool next_pair(struct render *r, struct jiterator *it, struct jval *out, bool *done)
{
    const struct jdict *d = it->source.type == J_VIEW ? it->source.view->dict : it->source.dict;
    *done = it->at >= d->n;
    if (*done) {
        return true;
    }
    const struct jpair *p = &d->pairs[it->reverse ? d->n - 1 - it->at : it->at];
    it->at++;
    if (it->view == J_ITEMS) {
        return jinja__pair(r, &p->key, &p->value, out);
    }
    *out = it->view == J_KEYS ? p->key : p->value;
    return true;
}

static void next_reversed(struct jiterator *it, struct jval *out, bool *done)
{
    size_t n = it->source.type == J_RANGE ? it->source.range->n : it->source.list->n;
    *done = it->at >= n;
    if (!*done) {
        size_t i = n - 1 - it->at++;
        *out = it->source.type == J_RANGE ? jinja__range_at(it->source.range, i) : it->source.list->items[i];
    }
}

static bool next_mapped(struct render *r, struct jiterator *it, struct jval *out, bool *done)
{
    struct jval item;
    if (!jinja__next(r, it->inner, &item, done) || *done) {
        return *done;
    }
    if (it->name.type == J_ABSENT) {
        return jinja__getpath(r, &item, &it->path, &it->fallback, out);
    }
    const struct jbuiltin *filter = it->name.type == J_STRING ? jinja__find_filter(it->name.s) : NULL;
    if (!filter) {
        return jinja__fail(r, "No filter named '" STR_FMT "'.", STR_ARG(it->name.s));
    }
    return jinja__call_builtin(r, filter, &item, &it->args, out);
}

static bool selected(struct render *r, struct jiterator *it, const struct jval *item, bool *out)
{
    struct jval subject = *item, result;
    if (it->by_attribute && !jinja__getpath(r, item, &it->path, NULL, &subject)) {
        return false;
    }
    if (it->name.type == J_ABSENT) {
        *out = jinja__truth(&subject) != it->negate;
        return true;
    }
    const struct jbuiltin *test = it->name.type == J_STRING ? jinja__find_test(it->name.s) : NULL;
    if (!test) {
        return jinja__fail(r, "No test named '" STR_FMT "'.", STR_ARG(it->name.s));
    }
    if (!jinja__call_builtin(r, test, &subject, &it->args, &result)) {
        return false;
    }
    *out = jinja__truth(&result) != it->negate;
    return true;
}

static bool next_selected(struct render *r, struct jiterator *it, struct jval *out, bool *done)
{
    for (bool take = false; !take;) {
        if (!jinja__next(r, it->inner, out, done)) {
            return false;
        }
        if (*done) {
            return true;
        }
        if (!selected(r, it, out, &take)) {
            return false;
        }
    }
    return true;
}

/* The condition of a loop sees the loop's targets and what is around the loop. */
static bool next_passing(struct render *r, struct jiterator *it, struct jval *out, bool *done)
{
    for (;;) {
        struct jval passes;
        if (!jinja__next(r, it->inner, out, done) || *done) {
            return *done;
        }
        if (!it->scope->captured) {
            it->scope->n = 0;
        }
        if (!jinja__assign(r, it->loop->target, out, it->scope) ||
            !jinja__eval(r, it->loop->test, it->scope, &passes)) {
            return false;
        }
        if (jinja__truth(&passes)) {
            return true;
        }
    }
}

static bool next_unique(struct render *r, struct jiterator *it, struct jval *out, bool *done)
{
    for (;;) {
        struct jval key;
        const struct jval *found;
        if (!jinja__next(r, it->inner, out, done) || *done) {
            return *done;
        }
        if (!jinja__getpath(r, out, &it->path, NULL, &key)) {
            return false;
        }
        if (it->negate && key.type == J_STRING) { /* without regard to case */
            struct jval lower;
            if (!jinja__call_builtin(r, jinja__find_filter(STR("lower")), &key, &(struct jargs){0}, &lower)) {
                return false;
            }
            key = lower;
        }
        if (!jinja__dict_find(r, it->seen, &key, &found)) {
            return false;
        }
        if (!found) {
            return jinja__dict_put(r, it->seen, &key, &key);
        }
    }
}

static bool next_batch(struct render *r, struct jiterator *it, struct jval *out, bool *done)
{
    struct jlist_builder b = {0};
    struct jval item;
    bool end = false;
    while (b.n < it->n && !end) {
        if (!jinja__next(r, it->inner, &item, &end) || (!end && !jinja__push(r, &b, &item))) {
            return false;
        }
    }
    *done = b.n == 0;
    while (b.n && b.n < it->n && it->fallback.type != J_ABSENT) {
        if (!jinja__push(r, &b, &it->fallback)) {
            return false;
        }
    }
    return *done || jinja__list(r, &b, J_LIST, out);
}

/* Column it->at of it->n: the first ones are longer by one where the items do not divide evenly. */
static bool next_slice(struct render *r, struct jiterator *it, struct jval *out, bool *done)
{
    const struct jlist *all = it->source.list;
    *done = it->at >= it->n;
    if (*done) {
        return true;
    }
    size_t each = all->n / it->n, longer = all->n % it->n, i = it->at++;
    size_t start = i * each + (i < longer ? i : longer), n = each + (i < longer);
    struct jlist_builder b = {0};
    for (size_t k = 0; k < n; k++) {
        if (!jinja__push(r, &b, &all->items[start + k])) {
            return false;
        }
    }
    if (i >= longer && it->fallback.type != J_ABSENT && !jinja__push(r, &b, &it->fallback)) {
        return false;
    }
    return jinja__list(r, &b, J_LIST, out);
}

/* Like a generator, an iterator looks at its source only when the first item is wanted. */
static bool start_lazy(struct render *r, struct jiterator *it)
{
    struct jlist_builder b = {0};
    if (it->kind == IT_PAIRS && it->source.type != J_DICT) {
        return jinja__fail(r, "Can only get item pairs from a mapping.");
    }
    if (it->kind == IT_SLICE && (!jinja__collect(r, &it->source, &b) || !jinja__list(r, &b, J_LIST, &it->source))) {
        return false;
    }
    return jinja__iter(r, &it->source, &it->inner);
}

static bool next_lazy(struct render *r, struct jiterator *it, struct jval *out, bool *done)
{
    if (!it->inner && !start_lazy(r, it)) {
        return false;
    }
    switch (it->kind) {
    case IT_PAIRS:
        return next_pair(r, it, out, done);
    case IT_MAP:
        return next_mapped(r, it, out, done);
    case IT_SELECT:
        return next_selected(r, it, out, done);
    case IT_UNIQUE:
        return next_unique(r, it, out, done);
    case IT_BATCH:
        return next_batch(r, it, out, done);
    case IT_SLICE:
        return next_slice(r, it, out, done);
    default:
        return next_passing(r, it, out, done);
    }
}

bool jinja__next(struct render *r, struct jiterator *it, struct jval *out, bool *done)
{
    bool ok;
    *done = false;
    if (!jinja__charge(r, 1)) {
        return false;
    }
    switch (it->kind) {
    case IT_EMPTY:
        *done = true;
        return true;
    case IT_ITEMS:
        *done = it->at >= it->source.list->n;
        if (!*done) {
            *out = it->source.list->items[it->at++];
        }
        return true;
    case IT_CHARS:
        *done = !next_char(it, out);
        return true;
    case IT_RANGE:
        *done = it->at >= it->source.range->n;
        if (!*done) {
            *out = jinja__range_at(it->source.range, it->at++);
        }
        return true;
    case IT_DICT:
        return next_pair(r, it, out, done);
    case IT_REVERSED:
        next_reversed(it, out, done);
        return true;
    default: /* iterators over iterators: their depth is what filters were chained */
        ok = jinja__enter(r) && next_lazy(r, it, out, done);
        jinja__leave(r);
        return ok;
    }
}

bool jinja__collect(struct render *r, const struct jval *v, struct jlist_builder *out)
{
    struct jiterator *it;
    struct jval item;
    bool done = false;
    if (!jinja__iter(r, v, &it)) {
        return false;
    }
    for (;;) {
        if (!jinja__next(r, it, &item, &done)) {
            return false;
        }
        if (done) {
            return true;
        }
        if (!jinja__push(r, out, &item)) {
            return false;
        }
    }
}
