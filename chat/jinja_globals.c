/* Functions that every template can call. */
#include "chat/jinja_internal.h"

#include <time.h>

#define MAX_RANGE 100000 /* items; as jinja2's sandbox has it */

static bool fn_range(struct render *r, const struct jval *self, const struct jval *arg, const struct jargs *raw,
                     struct jval *out)
{
    int64_t v[3] = {0, 0, 1};
    (void)self;
    for (size_t i = 0; i < raw->n_positional; i++) {
        if (arg[i].type == J_UNDEFINED) {
            return jinja__fail_undefined(r, &arg[i]);
        }
        if (!jinja__arg_int(r, &arg[i], 0, &v[i])) {
            return false;
        }
    }
    if (raw->n_positional == 1) {
        v[1] = v[0];
        v[0] = 0;
    }
    if (v[2] == 0) {
        return jinja__fail(r, "range() arg 3 must not be zero");
    }
    if (!jinja__range(r, v[0], v[1], v[2], out)) {
        return false;
    }
    return out->range->n <= MAX_RANGE ||
           jinja__fail(r, "Range too big. The sandbox blocks ranges larger than MAX_RANGE (%d).", MAX_RANGE);
}

static bool put_pair(struct render *r, struct jdict *d, const struct jval *pair)
{
    struct jlist_builder b = {0};
    if (!jinja__collect(r, pair, &b)) {
        return false;
    }
    return b.n == 2 ? jinja__dict_put(r, d, &b.items[0], &b.items[1])
                    : jinja__fail(r, "dictionary update sequence element has length %zu; 2 is required", b.n);
}

/* dict(mapping or pairs, name=value ...) */
static struct jdict *make_dict(struct render *r, const struct jval *from, const struct jargs *raw)
{
    struct jdict *d = jinja__dict(r, raw->n_keywords);
    if (d && from->type == J_DICT) {
        for (size_t i = 0; i < from->dict->n; i++) {
            if (!jinja__dict_put(r, d, &from->dict->pairs[i].key, &from->dict->pairs[i].value)) {
                return NULL;
            }
        }
    } else if (d && from->type == J_UNDEFINED) { /* dict() asks it for keys() */
        jinja__fail_undefined(r, from);
        return NULL;
    } else if (d && from->type != J_ABSENT) {
        struct jlist_builder pairs = {0};
        if (!jinja__collect(r, from, &pairs)) {
            return NULL;
        }
        for (size_t i = 0; i < pairs.n; i++) {
            if (!put_pair(r, d, &pairs.items[i])) {
                return NULL;
            }
        }
    }
    for (size_t i = 0; d && i < raw->n_keywords; i++) {
        struct jval key = jval_str(raw->keywords[i].name);
        if (!jinja__dict_put(r, d, &key, &raw->keywords[i].value)) {
            return NULL;
        }
    }
    return d;
}

static bool fn_dict(struct render *r, const struct jval *self, const struct jval *arg, const struct jargs *raw,
                    struct jval *out)
{
    (void)self;
    if (raw->n_positional > 1) {
        return jinja__fail(r, "dict expected at most 1 argument, got %zu", raw->n_positional);
    }
    *out = (struct jval){.type = J_DICT, .dict = make_dict(r, &arg[0], raw)};
    return out->dict != NULL;
}

static bool fn_namespace(struct render *r, const struct jval *self, const struct jval *arg, const struct jargs *raw,
                         struct jval *out)
{
    if (!fn_dict(r, self, arg, raw, out)) {
        return false;
    }
    out->type = J_NAMESPACE;
    for (size_t i = 0; i < out->dict->n; i++) {
        const struct jval *key = &out->dict->pairs[i].key;
        if (key->type == J_STRING && key->s.len && key->s.ptr[0] == '_') {
            return jinja__fail(
                r, "templates cannot store underscore-prefixed attributes on a namespace, but got '" STR_FMT "'.",
                STR_ARG(key->s));
        }
    }
    return true;
}

static bool fn_cycler(struct render *r, const struct jval *self, const struct jval *arg, const struct jargs *raw,
                      struct jval *out)
{
    struct jcycler *c = jinja__alloc(r, 1, sizeof *c);
    (void)self;
    (void)arg;
    if (raw->n_positional == 0) {
        return jinja__fail(r, "at least one item has to be provided");
    }
    if (raw->n_keywords) {
        return jinja__fail(r, "cycler() got an unexpected keyword argument");
    }
    if (c) {
        *c = (struct jcycler){raw->positional, raw->n_positional, 0};
    }
    *out = (struct jval){.type = J_CYCLER, .cycler = c};
    return c != NULL;
}

static bool fn_joiner(struct render *r, const struct jval *self, const struct jval *arg, const struct jargs *raw,
                      struct jval *out)
{
    struct jjoiner *j = jinja__alloc(r, 1, sizeof *j);
    (void)self;
    (void)raw;
    if (j) {
        j->separator = arg[0].type == J_ABSENT ? jval_str(STR(", ")) : arg[0];
    }
    *out = (struct jval){.type = J_JOINER, .joiner = j};
    return j != NULL;
}

static bool fn_lipsum(struct render *r, const struct jval *self, const struct jval *arg, const struct jargs *raw,
                      struct jval *out)
{
    (void)self;
    (void)arg;
    (void)raw;
    (void)out;
    return jinja__fail(r, "lipsum() is not supported: a template gives the same text every time.");
}

static bool fn_raise_exception(struct render *r, const struct jval *self, const struct jval *arg,
                               const struct jargs *raw, struct jval *out)
{
    struct jval text;
    (void)self;
    (void)raw;
    (void)out;
    if (!jinja__to_str(r, &arg[0], &text)) {
        return false;
    }
    if (text.s.len == 0 || text.s.ptr[0] == '\0') {
        return jinja__fail(r, "raise_exception was called without a message.");
    }
    return error_set(r->err, ERR_INVALID, STR_FMT, STR_ARG(text.s));
}

/* "%f" is Python's alone: microseconds, which the clock given does not have. A full stop is put behind the format, so
 * that strftime gives 0 only where its result has no room. */
static bool expand_format(struct render *r, struct str format, char *out, size_t size)
{
    size_t n = 0;
    for (size_t i = 0; i < format.len && format.ptr[i]; i++) { /* it ends with a NUL, as in C */
        bool percent = format.ptr[i] == '%' && i + 1 < format.len && format.ptr[i + 1];
        struct str piece = str_slice(format, i, i + (percent ? 2 : 1));
        if (percent && piece.ptr[1] == 'f') {
            piece = STR("000000");
        }
        i += percent;
        if (piece.len + 1 >= size - n) {
            return jinja__fail(r, "the format of strftime_now is too long.");
        }
        memcpy(out + n, piece.ptr, piece.len);
        n += piece.len;
    }
    out[n] = '.';
    out[n + 1] = '\0';
    return true;
}

static bool fn_strftime_now(struct render *r, const struct jval *self, const struct jval *arg, const struct jargs *raw,
                            struct jval *out)
{
    struct str format;
    char expanded[512], text[1024];
    struct tm now;
    time_t seconds = (time_t)r->now_s;
    (void)self;
    (void)raw;
    if (!jinja__arg_str(r, &arg[0], STR(""), &format) || !expand_format(r, format, expanded, sizeof expanded)) {
        return false;
    }
    if (!localtime_r(&seconds, &now)) {
        return jinja__fail(r, "the time is out of range.");
    }
    size_t n = strftime(text, sizeof text, expanded, &now);
    return n ? jinja__copy_string(r, (struct str){text, n - 1}, out)
             : jinja__fail(r, "what strftime_now gives is too long.");
}

const struct jbuiltin *jinja__find_in(const struct jbuiltin *table, struct str name)
{
    for (; table->name; table++) {
        if (str_eq(name, str_of(table->name))) {
            return table;
        }
    }
    return NULL;
}

const struct jbuiltin *jinja__find_global(struct str name)
{
    static const struct jbuiltin globals[] = {{"range", "/ start stop? step?", fn_range},
                                              {"dict", "mapping? *", fn_dict},
                                              {"namespace", "mapping? *", fn_namespace},
                                              {"cycler", "*", fn_cycler},
                                              {"joiner", "sep?", fn_joiner},
                                              {"lipsum", "*", fn_lipsum},
                                              {"raise_exception", "message", fn_raise_exception},
                                              {"strftime_now", "format", fn_strftime_now},
                                              {NULL, NULL, NULL}};
    return jinja__find_in(globals, name);
}
