/* Values: truth, length, equality and order as Python has them, and their making. */
#include "base/utf8.h"
#include "chat/jinja_internal.h"

const char *jinja__type_name(const struct jval *v)
{
    static const char *const names[] = {[J_ABSENT] = "NoneType",
                                        [J_UNDEFINED] = "Undefined",
                                        [J_NONE] = "NoneType",
                                        [J_BOOL] = "bool",
                                        [J_INT] = "int",
                                        [J_FLOAT] = "float",
                                        [J_STRING] = "str",
                                        [J_LIST] = "list",
                                        [J_TUPLE] = "tuple",
                                        [J_DICT] = "dict",
                                        [J_VIEW] = "dict_items",
                                        [J_RANGE] = "range",
                                        [J_ITERATOR] = "generator",
                                        [J_NAMESPACE] = "Namespace",
                                        [J_MACRO] = "Macro",
                                        [J_FUNCTION] = "function",
                                        [J_METHOD] = "method",
                                        [J_LOOP] = "LoopContext",
                                        [J_CYCLER] = "Cycler",
                                        [J_JOINER] = "Joiner"};
    static const char *const views[] = {"dict_keys", "dict_values", "dict_items"};
    if (v->type == J_VIEW) {
        return views[v->view->kind];
    }
    return v->type == J_STRING && v->markup ? "Markup" : names[v->type];
}

bool jinja__truth(const struct jval *v)
{
    size_t n;
    switch (v->type) {
    case J_ABSENT:
    case J_UNDEFINED:
    case J_NONE:
        return false;
    case J_BOOL:
        return v->b;
    case J_INT:
        return v->i != 0;
    case J_FLOAT:
        return v->f != 0;
    case J_LOOP:
        return true;
    default:
        return !jinja__length(v, &n) || n > 0;
    }
}

bool jinja__length(const struct jval *v, size_t *n)
{
    switch (v->type) {
    case J_UNDEFINED:
        *n = 0;
        return true;
    case J_STRING:
        *n = jinja__n_chars(v->s);
        return true;
    case J_LIST:
    case J_TUPLE:
        *n = v->list->n;
        return true;
    case J_DICT:
        *n = v->dict->n;
        return true;
    case J_VIEW:
        *n = v->view->dict->n;
        return true;
    case J_RANGE:
        *n = v->range->n;
        return true;
    default:
        return false;
    }
}

/* -1, 0 or 1; 2 when one is not a number. Exact also where a double can not hold the integer. */
static int compare_int_float(int64_t i, double f)
{
    if (f != f) {
        return 2;
    }
    if (f >= 9223372036854775808.0) {
        return -1;
    }
    if (f < -9223372036854775808.0) {
        return 1;
    }
    int64_t whole = (int64_t)f; /* toward zero */
    if (i != whole) {
        return i < whole ? -1 : 1;
    }
    double part = f - (double)whole;
    return part > 0 ? -1 : part < 0;
}

static int compare_numbers(const struct jval *a, const struct jval *b)
{
    if (jval_is_int(a) && jval_is_int(b)) {
        int64_t x = jval_to_int(a), y = jval_to_int(b);
        return x < y ? -1 : x > y;
    }
    if (jval_is_int(a)) {
        return compare_int_float(jval_to_int(a), b->f);
    }
    if (jval_is_int(b)) {
        int c = compare_int_float(jval_to_int(b), a->f);
        return c == 2 ? 2 : -c;
    }
    return a->f < b->f ? -1 : a->f > b->f ? 1 : a->f == b->f ? 0 : 2;
}

static bool deep(struct render *r, int depth)
{
    return depth > JINJA_MAX_VALUE_DEPTH &&
           !jinja__fail(r, "a value is nested deeper than %d levels.", JINJA_MAX_VALUE_DEPTH);
}

static bool equal_lists(struct render *r, const struct jval *a, const struct jval *b, int depth, bool *out)
{
    *out = a->list->n == b->list->n;
    for (size_t i = 0; *out && i < a->list->n; i++) {
        if (!jinja__equal(r, &a->list->items[i], &b->list->items[i], depth + 1, out)) {
            return false;
        }
    }
    return true;
}

static bool equal_dicts(struct render *r, const struct jdict *a, const struct jdict *b, int depth, bool *out)
{
    *out = a->n == b->n;
    for (size_t i = 0; *out && i < a->n; i++) {
        const struct jval *other;
        if (!jinja__dict_find(r, b, &a->pairs[i].key, &other)) {
            return false;
        }
        *out = other != NULL;
        if (other && !jinja__equal(r, &a->pairs[i].value, other, depth + 1, out)) {
            return false;
        }
    }
    return true;
}

static bool equal_ranges(const struct jrange *a, const struct jrange *b)
{
    return a->n == b->n && (a->n == 0 || a->start == b->start) && (a->n < 2 || a->step == b->step);
}

bool jinja__same(const struct jval *a, const struct jval *b)
{
    if (a->type != b->type) {
        return false;
    }
    switch (a->type) {
    case J_ABSENT:
    case J_NONE:
        return true;
    case J_BOOL:
        return a->b == b->b;
    case J_INT:
        return a->i == b->i;
    case J_FLOAT:
        return a->f == b->f;
    case J_STRING:
        return str_eq(a->s, b->s) && a->markup == b->markup;
    default:
        return a->list == b->list; /* all others are pointers */
    }
}

bool jinja__equal(struct render *r, const struct jval *a, const struct jval *b, int depth, bool *out)
{
    if (deep(r, depth) || !jinja__charge(r, 1)) {
        return false;
    }
    if (jval_is_number(a) && jval_is_number(b)) {
        *out = compare_numbers(a, b) == 0;
        return true;
    }
    if (a->type != b->type) {
        *out = false;
        return true;
    }
    switch (a->type) {
    case J_UNDEFINED:
    case J_NONE:
        *out = true;
        return true;
    case J_STRING:
        *out = str_eq(a->s, b->s);
        return jinja__charge_bytes(r, *out ? a->s.len : 0);
    case J_LIST:
    case J_TUPLE:
        return equal_lists(r, a, b, depth, out);
    case J_DICT:
        return equal_dicts(r, a->dict, b->dict, depth, out);
    case J_RANGE:
        *out = equal_ranges(a->range, b->range);
        return true;
    default:
        *out = jinja__same(a, b);
        return true;
    }
}

static bool less_lists(struct render *r, const struct jval *a, const struct jval *b, int depth, bool *out)
{
    const struct jlist *x = a->list, *y = b->list;
    for (size_t i = 0; i < x->n && i < y->n; i++) {
        bool same;
        if (!jinja__equal(r, &x->items[i], &y->items[i], depth + 1, &same)) {
            return false;
        }
        if (!same) {
            return jinja__less(r, &x->items[i], &y->items[i], depth + 1, out);
        }
    }
    *out = x->n < y->n;
    return true;
}

bool jinja__less(struct render *r, const struct jval *a, const struct jval *b, int depth, bool *out)
{
    if (deep(r, depth) || !jinja__charge(r, 1)) {
        return false;
    }
    if (jval_is_number(a) && jval_is_number(b)) {
        *out = compare_numbers(a, b) == -1;
        return true;
    }
    if (a->type == J_UNDEFINED || b->type == J_UNDEFINED) {
        return jinja__fail_undefined(r, a->type == J_UNDEFINED ? a : b);
    }
    if (a->type == J_STRING && b->type == J_STRING) {
        *out = str_cmp(a->s, b->s) < 0; /* the order of UTF-8 is that of code points */
        return jinja__charge_bytes(r, a->s.len < b->s.len ? a->s.len : b->s.len);
    }
    if (a->type == b->type && jval_is_sequence(a)) {
        return less_lists(r, a, b, depth, out);
    }
    return jinja__fail(r, "'<' not supported between instances of '%s' and '%s'", jinja__type_name(a),
                       jinja__type_name(b));
}

static bool contains_item(struct render *r, const struct jval *container, const struct jval *item, bool *out)
{
    struct jiterator *it;
    struct jval v;
    bool done;
    *out = false;
    if (!jinja__iter(r, container, &it)) {
        return false;
    }
    while (!*out) {
        if (!jinja__next(r, it, &v, &done)) {
            return false;
        }
        if (done) {
            break;
        }
        if (!jinja__equal(r, &v, item, 0, out)) {
            return false;
        }
    }
    return true;
}

bool jinja__contains(struct render *r, const struct jval *container, const struct jval *item, bool *out)
{
    const struct jval *found;
    switch (container->type) {
    case J_STRING:
        if (item->type != J_STRING) {
            return jinja__fail(r, "'in <string>' requires string as left operand, not %s", jinja__type_name(item));
        }
        *out = jinja__charge_search(r, container->s, item->s) && str_find(container->s, item->s) != STR_NPOS;
        return jinja__charge(r, 0);
    case J_DICT:
        if (!jinja__dict_find(r, container->dict, item, &found)) {
            return false;
        }
        *out = found != NULL;
        return true;
    default:
        if (!jinja__iterable(container)) {
            return jinja__fail(r, "argument of type '%s' is not iterable", jinja__type_name(container));
        }
        return contains_item(r, container, item, out);
    }
}

/* ---- making ---- */

bool jinja__push(struct render *r, struct jlist_builder *b, const struct jval *v)
{
    if (b->n == b->cap) {
        size_t cap = b->cap ? b->cap * 2 : 8;
        struct jval *items = jinja__alloc(r, cap, sizeof *items);
        if (!items) {
            return false;
        }
        if (b->n) {
            memcpy(items, b->items, b->n * sizeof *items);
        }
        b->items = items;
        b->cap = cap;
    }
    b->items[b->n++] = *v;
    return jinja__charge(r, 1);
}

bool jinja__list(struct render *r, const struct jlist_builder *b, enum jtype type, struct jval *out)
{
    struct jlist *list = jinja__alloc(r, 1, sizeof *list);
    if (!list) {
        return false;
    }
    *list = (struct jlist){b->items, b->n, false};
    *out = (struct jval){.type = (uint8_t)type, .list = list};
    return true;
}

bool jinja__pair(struct render *r, const struct jval *a, const struct jval *b, struct jval *out)
{
    struct jlist_builder pair = {.items = jinja__alloc(r, 2, sizeof *pair.items), .n = 2};
    if (!pair.items) {
        return false;
    }
    pair.items[0] = *a;
    pair.items[1] = *b;
    return jinja__list(r, &pair, J_TUPLE, out);
}

bool jinja__copy_string(struct render *r, struct str s, struct jval *out)
{
    char *copy = jinja__alloc(r, s.len + 1, 1);
    if (!copy) {
        return false;
    }
    if (s.len) {
        memcpy(copy, s.ptr, s.len);
    }
    *out = jval_str((struct str){copy, s.len});
    return jinja__charge_bytes(r, s.len);
}

bool jinja__undefined(struct render *r, const struct jundefined *why, struct jval *out)
{
    struct jundefined *copy = jinja__alloc(r, 1, sizeof *copy);
    if (!copy) {
        return false;
    }
    *copy = *why;
    *out = (struct jval){.type = J_UNDEFINED, .undefined = copy};
    return true;
}

bool jinja__undefined_hint(struct render *r, const char *hint, struct jval *out)
{
    return jinja__undefined(r, &(struct jundefined){.hint = str_of(hint)}, out);
}

bool jinja__range(struct render *r, int64_t start, int64_t stop, int64_t step, struct jval *out)
{
    struct jrange *range = jinja__alloc(r, 1, sizeof *range);
    if (!range) {
        return false;
    }
    bool empty = step > 0 ? start >= stop : start <= stop;
    uint64_t span = step > 0 ? (uint64_t)stop - (uint64_t)start : (uint64_t)start - (uint64_t)stop;
    uint64_t stride = step > 0 ? (uint64_t)step : 0 - (uint64_t)step;
    *range = (struct jrange){start, stop, step, empty ? 0 : (size_t)((span - 1) / stride + 1)};
    *out = (struct jval){.type = J_RANGE, .range = range};
    return true;
}

/* ---- code points ---- */

size_t jinja__n_chars(struct str s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++) {
        n += ((unsigned char)s.ptr[i] & 0xC0) != 0x80;
    }
    return n;
}

size_t jinja__offset(struct str s, size_t chars)
{
    size_t i = 0;
    while (i < s.len) {
        if (((unsigned char)s.ptr[i] & 0xC0) != 0x80 && chars-- == 0) {
            break;
        }
        i++;
    }
    return i;
}

bool jinja__is_space(uint32_t c)
{
    if (c < 0x80) {
        return c == ' ' || (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x1F);
    }
    return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
           c == 0x202F || c == 0x205F || c == 0x3000;
}

static bool strips(struct str one, struct str chars)
{
    uint32_t c;
    if (chars.ptr) {
        return str_find(chars, one) != STR_NPOS;
    }
    utf8_decode(one, &c);
    return jinja__is_space(c);
}

struct str jinja__strip(struct str s, struct str chars, bool left, bool right)
{
    while (left && s.len) {
        size_t n = jinja__offset(s, 1);
        if (!strips(str_slice(s, 0, n), chars)) {
            break;
        }
        s = str_slice(s, n, s.len);
    }
    while (right && s.len) {
        size_t at = s.len - 1;
        while (at > 0 && ((unsigned char)s.ptr[at] & 0xC0) == 0x80) {
            at--;
        }
        if (!strips(str_slice(s, at, s.len), chars)) {
            break;
        }
        s = str_slice(s, 0, at);
    }
    return s;
}
