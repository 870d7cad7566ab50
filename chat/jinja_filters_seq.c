/* Filters over sequences and mappings. */
#include "chat/jinja_internal.h"

static bool iterator_value(struct render *r, const struct jiterator *it, struct jval *out)
{
    struct jiterator *copy = jinja__alloc(r, 1, sizeof *copy);
    if (copy) {
        *copy = *it;
    }
    *out = (struct jval){.type = J_ITERATOR, .iterator = copy};
    return copy != NULL;
}

/* Strings in lower case, everything else as it is. */
static bool fold(struct render *r, bool case_sensitive, struct jval *v)
{
    struct jval folded;
    if (case_sensitive || v->type != J_STRING) {
        return true;
    }
    if (!jinja__call_builtin(r, jinja__find_filter(STR("lower")), v, &(struct jargs){0}, &folded)) {
        return false;
    }
    *v = folded;
    return true;
}

/* ---- sorting: a stable merge sort, since comparing may fail ---- */

struct sortable {
    struct jval key, value;
};

static bool merge(struct render *r, struct sortable *to, const struct sortable *a, size_t n_a, const struct sortable *b,
                  size_t n_b, bool reverse)
{
    size_t i = 0, k = 0;
    while (i < n_a && k < n_b) {
        bool second;
        if (!(reverse ? jinja__less(r, &a[i].key, &b[k].key, 0, &second)
                      : jinja__less(r, &b[k].key, &a[i].key, 0, &second))) {
            return false;
        }
        to[i + k] = second ? b[k] : a[i];
        k += second;
        i += !second;
    }
    for (; i < n_a; i++) {
        to[i + k] = a[i];
    }
    for (; k < n_b; k++) {
        to[i + k] = b[k];
    }
    return true;
}

static bool sort(struct render *r, struct sortable *items, size_t n, bool reverse)
{
    struct sortable *other = jinja__alloc(r, n + 1, sizeof *other), *from = items, *to = other;
    if (!other) {
        return false;
    }
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t i = 0; i < n; i += 2 * width) {
            size_t n_a = n - i < width ? n - i : width, n_b = n - i - n_a < width ? n - i - n_a : width;
            if (!merge(r, to + i, from + i, n_a, from + i + n_a, n_b, reverse)) {
                return false;
            }
        }
        struct sortable *done = to;
        to = from;
        from = done;
    }
    if (from != items) {
        memcpy(items, from, n * sizeof *items);
    }
    return jinja__charge(r, n);
}

/* The values of sorted items as a list. */
static bool values_of(struct render *r, const struct sortable *items, size_t n, struct jval *out)
{
    struct jlist_builder b = {.items = jinja__alloc(r, n + 1, sizeof *b.items), .n = n};
    if (!b.items) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        b.items[i] = items[i].value;
    }
    return jinja__list(r, &b, J_LIST, out);
}

/* A list of the values at "path,path,..." of an item, by which it is sorted. */
static bool sort_key(struct render *r, const struct jval *item, const struct jval *paths, bool case_sensitive,
                     struct jval *out)
{
    struct jlist_builder b = {0};
    struct str rest = paths->type == J_STRING ? paths->s : STR("");
    for (bool more = true; more;) {
        struct jval path = *paths, v;
        size_t comma = paths->type == J_STRING ? str_find_char(rest, ',') : STR_NPOS;
        more = comma != STR_NPOS;
        if (paths->type == J_STRING) {
            path = jval_str(str_slice(rest, 0, more ? comma : rest.len));
            rest = str_slice(rest, more ? comma + 1 : rest.len, rest.len);
        }
        if (!jinja__getpath(r, item, &path, NULL, &v) || !fold(r, case_sensitive, &v) || !jinja__push(r, &b, &v)) {
            return false;
        }
    }
    return jinja__list(r, &b, J_LIST, out);
}

BUILTIN(f_sort)
{
    bool reverse = jinja__arg_bool(&arg[0], false), case_sensitive = jinja__arg_bool(&arg[1], false);
    struct jlist_builder b = {0};
    (void)raw;
    if (!jinja__collect(r, self, &b)) {
        return false;
    }
    struct sortable *items = jinja__alloc(r, b.n + 1, sizeof *items);
    for (size_t i = 0; items && i < b.n; i++) {
        items[i].value = b.items[i];
        if (!sort_key(r, &b.items[i], &arg[2], case_sensitive, &items[i].key)) {
            return false;
        }
    }
    return items && sort(r, items, b.n, reverse) && values_of(r, items, b.n, out);
}

BUILTIN(f_dictsort)
{
    bool case_sensitive = jinja__arg_bool(&arg[0], false), reverse = jinja__arg_bool(&arg[2], false);
    struct str by;
    (void)raw;
    if (!jinja__arg_str(r, &arg[1], STR("key"), &by)) {
        return false;
    }
    bool by_value = str_eq(by, STR("value"));
    if (!by_value && !str_eq(by, STR("key"))) {
        return jinja__fail(r, "You can only sort by either \"key\" or \"value\"");
    }
    if (self->type != J_DICT) {
        return self->type == J_UNDEFINED
                   ? jinja__fail_undefined(r, self)
                   : jinja__fail(r, "'%s' object has no attribute 'items'", jinja__type_name(self));
    }
    size_t n = self->dict->n;
    struct sortable *items = jinja__alloc(r, n + 1, sizeof *items);
    for (size_t i = 0; items && i < n; i++) {
        const struct jpair *p = &self->dict->pairs[i];
        items[i].key = by_value ? p->value : p->key;
        if (!jinja__pair(r, &p->key, &p->value, &items[i].value) || !fold(r, case_sensitive, &items[i].key)) {
            return false;
        }
    }
    return items && sort(r, items, n, reverse) && values_of(r, items, n, out);
}

static bool add_group(struct render *r, struct jlist_builder *groups, const struct jval *grouper,
                      const struct jlist_builder *members)
{
    struct jval list, group;
    if (!jinja__list(r, members, J_LIST, &list) || !jinja__pair(r, grouper, &list, &group)) {
        return false;
    }
    ((struct jlist *)group.list)->group = true;
    return jinja__push(r, groups, &group);
}

BUILTIN(f_groupby)
{
    bool case_sensitive = jinja__arg_bool(&arg[2], false);
    struct jlist_builder b = {0}, groups = {0}, members = {0};
    struct jval grouper = jval_none();
    (void)raw;
    if (!jinja__collect(r, self, &b)) {
        return false;
    }
    struct sortable *items = jinja__alloc(r, b.n + 1, sizeof *items);
    for (size_t i = 0; items && i < b.n; i++) {
        items[i].value = b.items[i];
        if (!jinja__getpath(r, &b.items[i], &arg[0], &arg[1], &items[i].key) ||
            !fold(r, case_sensitive, &items[i].key)) {
            return false;
        }
    }
    if (!items || !sort(r, items, b.n, false)) {
        return false;
    }
    for (size_t i = 0; i < b.n; i++) {
        bool same = false;
        if (i && !jinja__equal(r, &items[i].key, &items[i - 1].key, 0, &same)) {
            return false;
        }
        if (!same) {
            if (i && !add_group(r, &groups, &grouper, &members)) {
                return false;
            }
            members = (struct jlist_builder){0};
            if (!jinja__getpath(r, &items[i].value, &arg[0], &arg[1], &grouper)) { /* in its own case */
                return false;
            }
        }
        if (!jinja__push(r, &members, &items[i].value)) {
            return false;
        }
    }
    return (!b.n || add_group(r, &groups, &grouper, &members)) && jinja__list(r, &groups, J_LIST, out);
}

/* ---- one value out of many ---- */

static bool extreme(struct render *r, const struct jval *self, const struct jval *arg, bool max, struct jval *out)
{
    bool case_sensitive = jinja__arg_bool(&arg[0], false), any = false, done = false;
    struct jiterator *it;
    struct jval item, key, best_key = jval_none();
    if (!jinja__iter(r, self, &it)) {
        return false;
    }
    for (;;) {
        bool better = true;
        if (!jinja__next(r, it, &item, &done)) {
            return false;
        }
        if (done) {
            break;
        }
        if (!jinja__getpath(r, &item, &arg[1], NULL, &key) || !fold(r, case_sensitive, &key)) {
            return false;
        }
        if (any && !(max ? jinja__less(r, &best_key, &key, 0, &better) : jinja__less(r, &key, &best_key, 0, &better))) {
            return false;
        }
        if (better) {
            best_key = key;
            *out = item;
        }
        any = true;
    }
    return any || jinja__undefined_hint(r, "No aggregated item, sequence was empty.", out);
}

BUILTIN(f_min)
{
    (void)raw;
    return extreme(r, self, arg, false, out);
}

BUILTIN(f_max)
{
    (void)raw;
    return extreme(r, self, arg, true, out);
}

BUILTIN(f_sum)
{
    struct jiterator *it;
    struct jval item, v, total = arg[1].type == J_ABSENT ? jval_int(0) : arg[1];
    bool done = false;
    (void)raw;
    if (total.type == J_STRING) {
        return jinja__fail(r, "sum() can't sum strings [use ''.join(seq) instead]");
    }
    if (!jinja__iter(r, self, &it)) {
        return false;
    }
    for (;;) {
        if (!jinja__next(r, it, &item, &done)) {
            return false;
        }
        if (done) {
            *out = total;
            return true;
        }
        if (!jinja__getpath(r, &item, &arg[0], NULL, &v) || !jinja__arith(r, OP_ADD, &total, &v, out)) {
            return false;
        }
        total = *out;
    }
}

BUILTIN(f_first)
{
    struct jiterator *it;
    bool done;
    UNUSED;
    if (!jinja__iter(r, self, &it) || !jinja__next(r, it, out, &done)) {
        return false;
    }
    return !done || jinja__undefined_hint(r, "No first item, sequence was empty.", out);
}

static bool reversed(struct render *r, const struct jval *v, struct jval *out)
{
    struct jiterator it = {.source = *v};
    struct jlist_builder b = {0}, back = {0};
    switch (v->type) {
    case J_LIST:
    case J_TUPLE:
    case J_RANGE:
        it.kind = IT_REVERSED;
        break;
    case J_DICT:
    case J_VIEW:
        it.kind = IT_DICT;
        it.reverse = true;
        it.view = v->type == J_VIEW ? v->view->kind : J_KEYS;
        break;
    case J_STRING:
        if (!jinja__collect(r, v, &b)) {
            return false;
        }
        for (size_t i = b.n; i-- > 0;) {
            b.items[i].markup = v->markup; /* read by index, which keeps the mark */
            if (!jinja__push(r, &back, &b.items[i])) {
                return false;
            }
        }
        it.kind = IT_ITEMS;
        if (!jinja__list(r, &back, J_LIST, &it.source)) {
            return false;
        }
        break;
    default:
        it.kind = IT_EMPTY;
        break;
    }
    return iterator_value(r, &it, out);
}

BUILTIN(f_last)
{
    struct jval back;
    bool done;
    UNUSED;
    if (!jinja__iterable(self) || self->type == J_ITERATOR) {
        return jinja__fail(r, "'%s' object is not reversible", jinja__type_name(self));
    }
    if (!reversed(r, self, &back) || !jinja__next(r, back.iterator, out, &done)) {
        return false;
    }
    return !done || jinja__undefined_hint(r, "No last item, sequence was empty.", out);
}

BUILTIN(f_length)
{
    size_t n;
    int64_t turns;
    UNUSED;
    if (self->type == J_LOOP) {
        bool ok = jinja__loop_length(r, self->loop, &turns);
        *out = jval_int(turns);
        return ok;
    }
    if (!jinja__length(self, &n)) {
        return jinja__fail(r, "object of type '%s' has no len()", jinja__type_name(self));
    }
    *out = jval_int((int64_t)n);
    return jinja__charge_bytes(r, self->type == J_STRING ? self->s.len : 0);
}

BUILTIN(f_join)
{
    struct jiterator *it;
    struct jval separator = jval_str(STR("")), item, v;
    bool done = false;
    (void)raw;
    if ((arg[0].type != J_ABSENT && !jinja__to_str(r, &arg[0], &separator)) || !jinja__iter(r, self, &it)) {
        return false;
    }
    size_t mark = jinja__text_begin(r);
    for (bool first = true;; first = false) {
        if (!jinja__next(r, it, &item, &done)) {
            return false;
        }
        if (done) {
            return jinja__text_end(r, mark, out);
        }
        buf_append(jinja__text(r), first ? (struct str){NULL, 0} : separator.s);
        if (!jinja__getpath(r, &item, &arg[1], NULL, &v) || !jinja__put_str(r, &v)) {
            return false;
        }
    }
}

/* ---- many out of many ---- */

BUILTIN(f_list)
{
    struct jlist_builder b = {0};
    UNUSED;
    return jinja__collect(r, self, &b) && jinja__list(r, &b, J_LIST, out);
}

BUILTIN(f_reverse)
{
    struct jlist_builder b = {0};
    struct jval list, bounds[3] = {{.type = J_ABSENT}, {.type = J_ABSENT}, {.type = J_INT, .i = -1}};
    UNUSED;
    if (self->type == J_STRING) {
        return jinja__slice(r, self, bounds, out);
    }
    if (self->type == J_ITERATOR) {
        return jinja__collect(r, self, &b) && jinja__list(r, &b, J_LIST, &list) && jinja__slice(r, &list, bounds, out);
    }
    if (!jinja__iterable(self)) {
        return jinja__fail(r, "argument must be iterable");
    }
    return reversed(r, self, out);
}

BUILTIN(f_items)
{
    struct jiterator it = {.kind = self->type == J_UNDEFINED ? IT_EMPTY : IT_PAIRS, .source = *self, .view = J_ITEMS};
    UNUSED;
    return iterator_value(r, &it, out);
}

BUILTIN(f_unique)
{
    struct jiterator it = {.kind = IT_UNIQUE, .path = arg[1], .negate = !jinja__arg_bool(&arg[0], false)};
    (void)raw;
    it.seen = jinja__dict(r, 0);
    it.source = *self;
    return it.seen && iterator_value(r, &it, out);
}

static struct jval fill_of(const struct jval *arg)
{
    return arg->type == J_NONE ? (struct jval){.type = J_ABSENT} : *arg;
}

BUILTIN(f_batch)
{
    struct jiterator it = {.kind = IT_BATCH, .fallback = fill_of(&arg[1])};
    int64_t n = -1; /* a count that is no number is never reached */
    (void)raw;
    if ((jval_is_number(&arg[0]) || it.fallback.type != J_ABSENT) && !jinja__arg_int(r, &arg[0], 0, &n)) {
        return false;
    }
    if (n == 0) {
        return jinja__fail(r, "batch takes a count that is not 0.");
    }
    it.n = n < 0 ? SIZE_MAX : (size_t)n;
    it.fallback = n < 0 ? (struct jval){.type = J_ABSENT} : it.fallback;
    it.source = *self;
    return iterator_value(r, &it, out);
}

BUILTIN(f_slice)
{
    struct jiterator it = {.kind = IT_SLICE, .source = *self, .fallback = fill_of(&arg[1])};
    int64_t n;
    (void)raw;
    if (!jinja__arg_int(r, &arg[0], 0, &n)) {
        return false;
    }
    if (n == 0) {
        return jinja__fail(r, "integer division or modulo by zero");
    }
    it.n = n < 0 ? 0 : (size_t)n;
    return iterator_value(r, &it, out);
}

/* The arguments behind the first `n` positional ones. */
static struct jargs skip_args(const struct jargs *raw, size_t n)
{
    struct jargs rest = *raw;
    rest.positional += n;
    rest.n_positional -= n;
    return rest;
}

/* map("filter", ...) or map(attribute="path", default=...) */
BUILTIN(f_map)
{
    struct jiterator it = {.kind = IT_MAP};
    const struct jkeyword *path = jinja__keyword(raw, STR("attribute")),
                          *fallback = jinja__keyword(raw, STR("default"));
    (void)arg;
    if (!jinja__truth(self)) {
        it.kind = IT_EMPTY;
        return iterator_value(r, &it, out);
    }
    if (raw->n_positional) {
        it.name = raw->positional[0];
        it.args = skip_args(raw, 1);
    } else if (path) {
        if (raw->n_keywords > 1u + (fallback != NULL)) {
            return jinja__fail(r, "map() got an unexpected keyword argument");
        }
        it.path = path->value;
        it.fallback = fallback ? fallback->value : (struct jval){.type = J_ABSENT};
    } else {
        return jinja__fail(r, "map requires a filter argument");
    }
    it.source = *self;
    return iterator_value(r, &it, out);
}

static bool select(struct render *r, const struct jval *self, const struct jargs *raw, struct jiterator it,
                   struct jval *out)
{
    size_t used = it.by_attribute;
    if (!jinja__truth(self)) {
        it.kind = IT_EMPTY;
        return iterator_value(r, &it, out);
    }
    if (raw->n_positional < used) {
        return jinja__fail(r, "Missing parameter for attribute name");
    }
    if (it.by_attribute) {
        it.path = raw->positional[0];
    }
    if (raw->n_positional > used) {
        it.name = raw->positional[used];
        it.args = skip_args(raw, used + 1);
    }
    it.source = *self;
    return iterator_value(r, &it, out);
}

BUILTIN(f_select)
{
    (void)arg;
    return select(r, self, raw, (struct jiterator){.kind = IT_SELECT}, out);
}

BUILTIN(f_reject)
{
    (void)arg;
    return select(r, self, raw, (struct jiterator){.kind = IT_SELECT, .negate = true}, out);
}

BUILTIN(f_selectattr)
{
    (void)arg;
    return select(r, self, raw, (struct jiterator){.kind = IT_SELECT, .by_attribute = true}, out);
}

BUILTIN(f_rejectattr)
{
    (void)arg;
    return select(r, self, raw, (struct jiterator){.kind = IT_SELECT, .by_attribute = true, .negate = true}, out);
}

const struct jbuiltin jinja__sequence_filters[] = {
    {"batch", "linecount fill_with?", f_batch},
    {"count", "/", f_length},
    {"dictsort", "case_sensitive? by? reverse?", f_dictsort},
    {"first", "", f_first},
    {"groupby", "attribute default? case_sensitive?", f_groupby},
    {"items", "", f_items},
    {"join", "d? attribute?", f_join},
    {"last", "", f_last},
    {"length", "/", f_length},
    {"list", "", f_list},
    {"map", "*", f_map},
    {"max", "case_sensitive? attribute?", f_max},
    {"min", "case_sensitive? attribute?", f_min},
    {"reject", "*", f_reject},
    {"rejectattr", "*", f_rejectattr},
    {"reverse", "", f_reverse},
    {"select", "*", f_select},
    {"selectattr", "*", f_selectattr},
    {"slice", "slices fill_with?", f_slice},
    {"sort", "reverse? case_sensitive? attribute?", f_sort},
    {"sum", "attribute? start?", f_sum},
    {"unique", "case_sensitive? attribute?", f_unique},
    {NULL, NULL, NULL},
};
