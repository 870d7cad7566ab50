/* Attributes, elements and slices, with the sandbox's rules: what begins with an underscore and what would change a
 * list or dict is as good as missing, and using it is an error. v.name looks for attributes first and elements second,
 * v[name] the other way round. */
#include "chat/jinja_internal.h"

#include <stdio.h>

static const char *object_name(const struct jval *v)
{
    static const char *const names[] = {
        [J_ABSENT] = "None",
        [J_UNDEFINED] = "jinja2.runtime.Undefined object",
        [J_NONE] = "None",
        [J_BOOL] = "bool object",
        [J_INT] = "int object",
        [J_FLOAT] = "float object",
        [J_STRING] = "str object",
        [J_LIST] = "list object",
        [J_TUPLE] = "tuple object",
        [J_DICT] = "dict object",
        [J_VIEW] = "dict view object",
        [J_RANGE] = "range object",
        [J_ITERATOR] = "generator object",
        [J_NAMESPACE] = "jinja2.utils.Namespace object",
        [J_MACRO] = "jinja2.runtime.Macro object",
        [J_FUNCTION] = "function object",
        [J_METHOD] = "method object",
        [J_LOOP] = "jinja2.runtime.LoopContext object",
        [J_CYCLER] = "jinja2.utils.Cycler object",
        [J_JOINER] = "jinja2.utils.Joiner object",
    };
    return names[v->type];
}

static bool missing(struct render *r, const struct jval *v, const struct jval *name, struct jval *out)
{
    return jinja__undefined(r, &(struct jundefined){.object = object_name(v), .name = *name}, out);
}

static bool unsafe(struct render *r, const struct jval *v, struct str name, struct jval *out)
{
    char hint[160];
    struct jval text;
    snprintf(hint, sizeof hint, "access to attribute '" STR_FMT "' of '%s' object is unsafe.",
             STR_ARG(str_slice(name, 0, 64)), jinja__type_name(v));
    return jinja__copy_string(r, str_of(hint), &text) && jinja__undefined(r, &(struct jundefined){.hint = text.s}, out);
}

static bool loop_attribute(struct render *r, struct jloop *l, struct str name, struct jval *out, bool *found)
{
    static const char *const names[] = {"index",    "index0",    "first", "depth",    "depth0",  "length",
                                        "revindex", "revindex0", "last",  "nextitem", "previtem"};
    size_t which = 0;
    bool done = false;
    int64_t length = 0;
    while (which < sizeof names / sizeof *names && !str_eq(name, str_of(names[which]))) {
        which++;
    }
    *found = which < sizeof names / sizeof *names;
    if (which >= 5 && which <= 7 && !jinja__loop_length(r, l, &length)) {
        return false;
    }
    if ((which == 8 || which == 9) && !jinja__loop_peek(r, l, &done)) {
        return false;
    }
    switch (which) {
    case 2:
        *out = jval_bool(l->index0 == 0);
        return true;
    case 8:
        *out = jval_bool(done);
        return true;
    case 9:
        *out = l->after;
        return !done || jinja__undefined_hint(r, "there is no next item", out);
    case 10:
        *out = l->before;
        return l->index0 > 0 || jinja__undefined_hint(r, "there is no previous item", out);
    default:
        break;
    }
    const int64_t numbers[] = {
        l->index0 + 1, l->index0, 0, l->depth0 + 1, l->depth0, length, length - l->index0, length - l->index0 - 1};
    if (*found) {
        *out = jval_int(numbers[which]);
    }
    return true;
}

static bool macro_attribute(struct render *r, const struct macro_node *m, struct str name, struct jval *out,
                            bool *found)
{
    *found = true;
    if (str_eq(name, STR("name"))) {
        *out = m->anonymous ? jval_none() : jval_str(m->name);
    } else if (str_eq(name, STR("catch_kwargs"))) {
        *out = jval_bool(m->uses_kwargs);
    } else if (str_eq(name, STR("catch_varargs"))) {
        *out = jval_bool(m->uses_varargs);
    } else if (str_eq(name, STR("caller"))) {
        *out = jval_bool(m->uses_caller);
    } else if (str_eq(name, STR("arguments"))) {
        struct jlist_builder b = {0};
        for (size_t i = 0; i < m->n_params; i++) {
            struct jval param = jval_str(m->param_names[i]);
            if (!jinja__push(r, &b, &param)) {
                return false;
            }
        }
        return jinja__list(r, &b, J_TUPLE, out);
    } else {
        *found = false;
    }
    return true;
}

static bool number_attribute(const struct jval *v, struct str name, struct jval *out)
{
    if (str_eq(name, STR("real")) || (str_eq(name, STR("numerator")) && v->type != J_FLOAT)) {
        *out = v->type == J_FLOAT ? *v : jval_int(jval_to_int(v));
        return true;
    }
    if (str_eq(name, STR("imag"))) {
        *out = v->type == J_FLOAT ? jval_float(0) : jval_int(0);
        return true;
    }
    *out = jval_int(1);
    return str_eq(name, STR("denominator")) && v->type != J_FLOAT;
}

static bool range_attribute(const struct jrange *range, struct str name, struct jval *out)
{
    bool start = str_eq(name, STR("start")), stop = str_eq(name, STR("stop"));
    *out = jval_int(start ? range->start : stop ? range->stop : range->step);
    return start || stop || str_eq(name, STR("step"));
}

static bool cycler_attribute(struct render *r, const struct jcycler *c, struct str name, struct jval *out, bool *found)
{
    *found = true;
    if (str_eq(name, STR("current"))) {
        *out = c->items[c->at];
    } else if (str_eq(name, STR("pos"))) {
        *out = jval_int((int64_t)c->at);
    } else if (str_eq(name, STR("items"))) {
        struct jlist_builder b = {.n = c->n};
        struct jval *copy = jinja__alloc(r, c->n, sizeof *copy);
        if (!copy) {
            return false;
        }
        memcpy(copy, c->items, c->n * sizeof *copy);
        b.items = copy;
        return jinja__list(r, &b, J_TUPLE, out);
    } else {
        *found = false;
    }
    return true;
}

/* Attributes that are values; methods are found in their tables. */
static bool data_attribute(struct render *r, const struct jval *v, struct str name, struct jval *out, bool *found)
{
    const struct jval *member;
    switch (v->type) {
    case J_NAMESPACE:
        member = jinja__dict_get(r, v->dict, name);
        *found = member != NULL;
        *out = member ? *member : jval_none();
        return true;
    case J_LOOP:
        return loop_attribute(r, v->loop, name, out, found);
    case J_MACRO:
        return macro_attribute(r, v->macro->node, name, out, found);
    case J_CYCLER:
        return cycler_attribute(r, v->cycler, name, out, found);
    case J_JOINER:
        *found = str_eq(name, STR("sep")) || str_eq(name, STR("used"));
        *out = str_eq(name, STR("sep")) ? v->joiner->separator : jval_bool(v->joiner->used);
        return true;
    case J_TUPLE:
        *found = v->list->group && (str_eq(name, STR("grouper")) || str_eq(name, STR("list")));
        *out = *found ? v->list->items[str_eq(name, STR("list"))] : jval_none();
        return true;
    case J_RANGE:
        *found = range_attribute(v->range, name, out);
        return true;
    case J_BOOL:
    case J_INT:
    case J_FLOAT:
        *found = number_attribute(v, name, out);
        return true;
    default:
        *found = false;
        return true;
    }
}

bool jinja__attribute(struct render *r, const struct jval *v, struct str name, struct jval *out, bool *found)
{
    if (v->type == J_UNDEFINED) {
        return jinja__fail_undefined(r, v);
    }
    if (!data_attribute(r, v, name, out, found)) {
        return false;
    }
    if (*found) {
        return true;
    }
    const struct jbuiltin *function = v->type == J_NAMESPACE ? NULL : jinja__find_method(v, name);
    *found = function != NULL;
    if (!function) {
        return true;
    }
    if (!function->fn) {
        return unsafe(r, v, name, out);
    }
    struct jmethod *method = jinja__alloc(r, 1, sizeof *method);
    if (!method) {
        return false;
    }
    *method = (struct jmethod){function, *v};
    *out = (struct jval){.type = J_METHOD, .method = method};
    return true;
}

static bool hashable(const struct jval *v, int depth)
{
    if (v->type == J_TUPLE) {
        for (size_t i = 0; i < v->list->n && depth < JINJA_MAX_VALUE_DEPTH; i++) {
            if (!hashable(&v->list->items[i], depth + 1)) {
                return false;
            }
        }
        return depth < JINJA_MAX_VALUE_DEPTH;
    }
    return v->type != J_LIST && v->type != J_DICT && v->type != J_VIEW;
}

/* Element number i, negative from the end. */
static bool element_at(const struct jval *v, int64_t i, struct jval *out)
{
    size_t n = 0;
    jinja__length(v, &n);
    i += i < 0 ? (int64_t)n : 0;
    if (i < 0 || (uint64_t)i >= n) {
        return false;
    }
    if (v->type == J_STRING) {
        size_t from = jinja__offset(v->s, (size_t)i);
        struct str tail = str_slice(v->s, from, v->s.len);
        *out = jval_str(str_slice(tail, 0, jinja__offset(tail, 1)));
        out->markup = v->markup;
    } else {
        *out = v->type == J_RANGE ? jinja__range_at(v->range, (size_t)i) : v->list->items[i];
    }
    return true;
}

/* obj[key] alone; *found false where Python raises TypeError or LookupError. */
static bool element(struct render *r, const struct jval *v, const struct jval *key, struct jval *out, bool *found)
{
    const struct jval *value;
    *found = false;
    switch (v->type) {
    case J_UNDEFINED:
        return jinja__fail_undefined(r, v);
    case J_DICT:
        if (!hashable(key, 0)) {
            return true;
        }
        if (!jinja__dict_find(r, v->dict, key, &value)) {
            return false;
        }
        *found = value != NULL;
        if (value) {
            *out = *value;
        }
        return true;
    case J_STRING:
    case J_LIST:
    case J_TUPLE:
    case J_RANGE:
        *found = jval_is_int(key) && element_at(v, jval_to_int(key), out);
        return v->type != J_STRING || jinja__charge_bytes(r, v->s.len);
    default:
        return true;
    }
}

bool jinja__getattr(struct render *r, const struct jval *v, struct str name, struct jval *out)
{
    struct jval key = jval_str(name);
    bool found;
    if (!jinja__attribute(r, v, name, out, &found)) {
        return false;
    }
    if (!found && !element(r, v, &key, out, &found)) {
        return false;
    }
    return found || missing(r, v, &key, out);
}

bool jinja__getitem(struct render *r, const struct jval *v, const struct jval *key, struct jval *out)
{
    bool found;
    if (!element(r, v, key, out, &found)) {
        return false;
    }
    if (!found && key->type == J_STRING && key->s.len && !jinja__attribute(r, v, key->s, out, &found)) {
        return false;
    }
    return found || missing(r, v, key, out);
}

static bool all_digits(struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] < '0' || s.ptr[i] > '9') {
            return false;
        }
    }
    return s.len > 0;
}

bool jinja__getpath(struct render *r, const struct jval *v, const struct jval *path, const struct jval *fallback,
                    struct jval *out)
{
    bool has_fallback = fallback && fallback->type != J_ABSENT && fallback->type != J_NONE;
    *out = *v;
    if (path->type == J_ABSENT || path->type == J_NONE) {
        return true;
    }
    if (path->type != J_STRING) {
        bool ok = jinja__getitem(r, v, path, out);
        *out = ok && has_fallback && out->type == J_UNDEFINED ? *fallback : *out;
        return ok;
    }
    struct str rest = path->s, part;
    bool more = true;
    while (more) {
        size_t dot = str_find_char(rest, '.');
        more = dot != STR_NPOS;
        part = str_slice(rest, 0, more ? dot : rest.len);
        rest = str_slice(rest, more ? dot + 1 : rest.len, rest.len);
        struct jval key = jval_str(part), from = *out;
        if (all_digits(part) && str_to_i64(part, &key.i)) {
            key = jval_int(key.i);
        }
        if (!jinja__getitem(r, &from, &key, out)) {
            return false;
        }
        *out = has_fallback && out->type == J_UNDEFINED ? *fallback : *out;
    }
    return true;
}

/* ---- slices ---- */

static bool read_bound(struct render *r, const struct jval *v, int64_t fallback, int64_t *out)
{
    *out = fallback;
    if (v->type == J_ABSENT || v->type == J_NONE) {
        return true;
    }
    if (!jval_is_int(v)) {
        return jinja__fail(r, "slice indices must be integers or None or have an __index__ method");
    }
    *out = jval_to_int(v);
    return true;
}

struct bounds { /* as PySlice_AdjustIndices leaves them */
    int64_t start, stop, step;
    size_t n;
};

static int64_t clamp_bound(int64_t i, int64_t length, bool backwards)
{
    if (i < 0) {
        i = i < -length ? -1 : i + length;
        return i < 0 ? (backwards ? -1 : 0) : i;
    }
    return i < length ? i : backwards ? length - 1 : length;
}

static bool adjust(struct render *r, const struct jval bounds[3], size_t n, struct bounds *b)
{
    int64_t length = (int64_t)n;
    if (!read_bound(r, &bounds[2], 1, &b->step)) {
        return false;
    }
    if (b->step == 0) {
        return jinja__fail(r, "slice step cannot be zero");
    }
    b->step = b->step == INT64_MIN ? -INT64_MAX : b->step;
    bool back = b->step < 0;
    if (!read_bound(r, &bounds[0], back ? INT64_MAX : 0, &b->start) ||
        !read_bound(r, &bounds[1], back ? INT64_MIN : INT64_MAX, &b->stop)) {
        return false;
    }
    b->start = clamp_bound(b->start, length, back);
    b->stop = clamp_bound(b->stop, length, back);
    b->n = 0;
    if (back ? b->stop < b->start : b->start < b->stop) {
        b->n = (size_t)(back ? (b->start - b->stop - 1) / -b->step + 1 : (b->stop - b->start - 1) / b->step + 1);
    }
    return true;
}

static bool slice_string(struct render *r, const struct jval *v, const struct bounds *b, struct jval *out)
{
    if (b->step == 1) {
        size_t from = jinja__offset(v->s, (size_t)b->start);
        struct str tail = str_slice(v->s, from, v->s.len);
        *out = jval_str(str_slice(tail, 0, jinja__offset(tail, b->n)));
        out->markup = v->markup;
        return true;
    }
    size_t mark = jinja__text_begin(r), chars = jinja__n_chars(v->s);
    size_t *at = jinja__alloc(r, chars + 1, sizeof *at); /* where each code point begins */
    if (!at) {
        return false;
    }
    for (size_t i = 0, c = 0; i < v->s.len; i++) {
        if (((unsigned char)v->s.ptr[i] & 0xC0) != 0x80) {
            at[c++] = i;
        }
    }
    at[chars] = v->s.len;
    for (size_t i = 0; i < b->n; i++) {
        size_t c = (size_t)(b->start + (int64_t)i * b->step);
        buf_append(jinja__text(r), str_slice(v->s, at[c], at[c + 1]));
    }
    bool ok = jinja__text_end(r, mark, out);
    out->markup = v->markup;
    return ok;
}

static bool slice_list(struct render *r, const struct jval *v, const struct bounds *b, struct jval *out)
{
    struct jlist_builder items = {.items = jinja__alloc(r, b->n + 1, sizeof *items.items), .n = b->n};
    if (!items.items || !jinja__charge(r, b->n)) {
        return false;
    }
    for (size_t i = 0; i < b->n; i++) {
        items.items[i] = v->list->items[b->start + (int64_t)i * b->step];
    }
    return jinja__list(r, &items, (enum jtype)v->type, out);
}

static bool slice_range(struct render *r, const struct jrange *range, const struct bounds *b, struct jval *out)
{
    /* Bounds stay within the range, which itself is limited: no overflow for ranges that have items. */
    int64_t step, start, stop;
    if (__builtin_mul_overflow(range->step, b->step, &step) || __builtin_mul_overflow(range->step, b->start, &start) ||
        __builtin_add_overflow(start, range->start, &start) || __builtin_mul_overflow(range->step, b->stop, &stop) ||
        __builtin_add_overflow(stop, range->start, &stop)) {
        return jinja__fail(r, "integer overflow: the result has more than 64 bits.");
    }
    return jinja__range(r, start, stop, step, out);
}

bool jinja__slice(struct render *r, const struct jval *v, const struct jval bounds[3], struct jval *out)
{
    struct bounds b = {0};
    size_t n = 0;
    if (v->type == J_UNDEFINED) {
        return jinja__fail_undefined(r, v);
    }
    if (v->type != J_STRING && !jval_is_sequence(v) && v->type != J_RANGE) {
        return jinja__fail(r, "'%s' object is not subscriptable by a slice", jinja__type_name(v));
    }
    jinja__length(v, &n);
    if (!adjust(r, bounds, n, &b) || !jinja__charge_bytes(r, v->type == J_STRING ? v->s.len : 0)) {
        return false;
    }
    switch (v->type) {
    case J_STRING:
        return slice_string(r, v, &b, out);
    case J_RANGE:
        return slice_range(r, v->range, &b, out);
    default:
        return slice_list(r, v, &b, out);
    }
}
