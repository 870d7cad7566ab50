#include "cli/options_internal.h"

#include "base/array.h"

#include <ctype.h>

static bool parse_size(struct str text, double *out)
{
    static const char units[] = "KMGT";
    double factor = 1;
    if (text.len && (text.ptr[text.len - 1] == 'B' || text.ptr[text.len - 1] == 'b')) {
        text.len--;
    }
    bool binary = text.len && text.ptr[text.len - 1] == 'i';
    text.len -= binary;
    const char *unit = text.len ? strchr(units, toupper((unsigned char)text.ptr[text.len - 1])) : NULL;
    if (binary && !unit) {
        return false;
    }
    if (unit && *unit) {
        for (const char *u = units; u <= unit; u++) {
            factor *= 1024;
        }
        text.len--;
    }
    return str_to_f64(text, out) && (*out *= factor, true);
}

static bool parse_bool(struct str text, bool *out)
{
    static const struct str yes[] = {{"on", 2}, {"true", 4}, {"yes", 3}, {"1", 1}},
                            no[] = {{"off", 3}, {"false", 5}, {"no", 2}, {"0", 1}};
    for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
        if (str_eq(text, yes[i]) || str_eq(text, no[i])) {
            *out = str_eq(text, yes[i]);
            return true;
        }
    }
    return false;
}

static bool set_number(const struct option *o, const char *text, void *slot, const char *where, struct error *err)
{
    double value;
    int64_t whole;
    bool is_int = o->kind == OPTION_INT || o->kind == OPTION_I32;
    bool ok = is_int                   ? str_to_i64(str_of(text), &whole)
              : o->kind == OPTION_SIZE ? parse_size(str_of(text), &value)
                                       : str_to_f64(str_of(text), &value);
    if (is_int && ok) {
        value = (double)whole;
    }
    if (!ok || value < o->min || value > o->max) {
        return error_set(err, ERR_INVALID, "%s: expected %s from %.10g to %.10g, but got '%.60s'.", where,
                         is_int                   ? "an integer"
                         : o->kind == OPTION_SIZE ? "a size such as 512M"
                                                  : "a number",
                         o->min, o->max, text);
    }
    switch (o->kind) {
    case OPTION_INT:
        *(int64_t *)slot = whole;
        break;
    case OPTION_I32:
        *(int32_t *)slot = (int32_t)whole;
        break;
    case OPTION_SIZE:
        *(uint64_t *)slot = (uint64_t)value;
        break;
    default:
        *(float *)slot = (float)value;
        break;
    }
    return true;
}

bool options__set(const struct option *o, const char *text, struct options *out, const char *where, struct error *err)
{
    void *slot = (char *)out + o->offset;
    struct option_list *list;
    switch (o->kind) {
    case OPTION_STR:
        *(const char **)slot = text;
        return true;
    case OPTION_LIST:
        list = options__list(o, out);
        if (list->n == OPTIONS_MAX_LIST) {
            return error_set(err, ERR_INVALID, "%s: at most %d values are possible.", where, OPTIONS_MAX_LIST);
        }
        list->items[list->n++] = text;
        return true;
    case OPTION_BOOL:
        return parse_bool(str_of(text), slot) ||
               error_set(err, ERR_INVALID, "%s: expected on or off, but got '%.60s'.", where, text);
    default:
        return set_number(o, text, slot, where, err);
    }
}

struct option_list *options__list(const struct option *o, struct options *out)
{
    return (struct option_list *)(void *)((char *)out + o->offset);
}

/* ---- two values ---- */

static bool same_text(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static size_t value_size(enum option_kind kind)
{
    static const size_t sizes[] = {
        [OPTION_STR] = sizeof(char *),
        [OPTION_INT] = sizeof(int64_t),
        [OPTION_SIZE] = sizeof(uint64_t),
        [OPTION_FLOAT] = sizeof(float),
        [OPTION_I32] = sizeof(int32_t),
        [OPTION_BOOL] = sizeof(bool),
        [OPTION_LIST] = sizeof(struct option_list),
    };
    return sizes[kind];
}

bool options__equal(const struct option *o, const struct options *a, const struct options *b)
{
    const void *x = (const char *)a + o->offset, *y = (const char *)b + o->offset;
    const struct option_list *list = x, *other = y;
    if (o->kind == OPTION_STR) {
        return same_text(*(const char *const *)x, *(const char *const *)y);
    }
    if (o->kind != OPTION_LIST) {
        return memcmp(x, y, value_size(o->kind)) == 0;
    }
    bool same = list->n == other->n;
    for (int i = 0; same && i < list->n; i++) {
        same = same_text(list->items[i], other->items[i]);
    }
    return same;
}

void options__copy(const struct option *o, const struct options *from, struct options *to)
{
    memcpy((char *)to + o->offset, (const char *)from + o->offset, value_size(o->kind));
}
