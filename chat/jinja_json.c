/* JSON in both directions: the caller's context to values, and the tojson filter, which is Python's json.dumps. */
#include "base/utf8.h"
#include "chat/jinja_internal.h"

#include <stdlib.h>

/* ---- from JSON ---- */

static bool list_from_json(struct render *r, const struct json *v, int depth, struct jval *out)
{
    struct jlist_builder b = {0};
    for (size_t i = 0; i < json_len(v); i++) {
        struct jval item;
        if (!jinja__from_json(r, json_at(v, i), depth + 1, &item) || !jinja__push(r, &b, &item)) {
            return false;
        }
    }
    return jinja__list(r, &b, J_LIST, out);
}

static bool dict_from_json(struct render *r, const struct json *v, int depth, struct jval *out)
{
    struct jdict *d = jinja__dict(r, json_len(v));
    struct json_iter it = json_members(v);
    while (d && json_next(&it)) {
        struct jval key = jval_str(it.key), value;
        if (!jinja__from_json(r, it.value, depth + 1, &value) || !jinja__dict_put(r, d, &key, &value)) {
            return false;
        }
    }
    *out = (struct jval){.type = J_DICT, .dict = d};
    return d != NULL;
}

bool jinja__from_json(struct render *r, const struct json *v, int depth, struct jval *out)
{
    if (depth > JINJA_MAX_VALUE_DEPTH) {
        return jinja__fail(r, "a value is nested deeper than %d levels.", JINJA_MAX_VALUE_DEPTH);
    }
    switch (json_type(v)) {
    case JSON_NULL:
        *out = jval_none();
        return true;
    case JSON_BOOL:
        *out = jval_bool(json_bool(v));
        return true;
    case JSON_INT:
        *out = jval_int(json_int(v));
        return true;
    case JSON_DOUBLE:
        *out = jval_float(json_double(v));
        return true;
    case JSON_STRING:
        *out = jval_str(json_str(v));
        return true;
    case JSON_ARRAY:
        return list_from_json(r, v, depth, out);
    case JSON_OBJECT:
        return dict_from_json(r, v, depth, out);
    }
    return false;
}

/* ---- tojson ---- */

struct dumper {
    struct render *r;
    bool ascii, sort, pretty;
    struct str indent, item, key; /* one level of indentation; separators */
};

static void put_escape(struct buf *b, uint32_t c)
{
    static const char names[] = "\"\\\n\r\t\b\f", escapes[] = "\"\\nrtbf";
    const char *named = c && c < 0x80 ? strchr(names, (int)c) : NULL;
    if (named) {
        buf_putc(b, '\\');
        buf_putc(b, escapes[named - names]);
    } else if (c < 0x10000) {
        buf_printf(b, "\\u%04x", (unsigned)c);
    } else {
        buf_printf(b, "\\u%04x\\u%04x", (unsigned)(0xD800 + ((c - 0x10000) >> 10)),
                   (unsigned)(0xDC00 + ((c - 0x10000) & 0x3FF)));
    }
}

static void dump_string(const struct dumper *d, struct str s)
{
    struct buf *b = &d->r->scratch;
    buf_putc(b, '"');
    for (size_t i = 0, n; i < s.len; i += n) {
        uint32_t c = (unsigned char)s.ptr[i];
        n = c < 0x80 ? 1 : utf8_decode(str_slice(s, i, s.len), &c);
        if (c == '"' || c == '\\' || c < 0x20 || (d->ascii && c > 0x7E)) {
            put_escape(b, c);
        } else {
            buf_append_bytes(b, s.ptr + i, n);
        }
    }
    buf_putc(b, '"');
}

static void dump_float(const struct dumper *d, double f)
{
    char text[JINJA_FLOAT_SIZE];
    struct buf *b = &d->r->scratch;
    if (f != f) {
        buf_puts(b, "NaN");
    } else if (f - f != 0) {
        buf_puts(b, f > 0 ? "Infinity" : "-Infinity");
    } else {
        buf_append(b, jinja__float_text(f, text));
    }
}

/* What has one word or number as its JSON; false for all other types. */
static bool dump_scalar(const struct dumper *d, const struct jval *v)
{
    struct buf *b = &d->r->scratch;
    switch (v->type) {
    case J_NONE:
        buf_puts(b, "null");
        return true;
    case J_BOOL:
        buf_puts(b, v->b ? "true" : "false");
        return true;
    case J_INT:
        buf_printf(b, "%lld", (long long)v->i);
        return true;
    case J_FLOAT:
        dump_float(d, v->f);
        return true;
    default:
        return false;
    }
}

static bool dump(const struct dumper *d, const struct jval *v, int depth);

static void new_line(const struct dumper *d, int depth)
{
    if (d->pretty) {
        buf_putc(&d->r->scratch, '\n');
        for (int i = 0; i < depth; i++) {
            buf_append(&d->r->scratch, d->indent);
        }
    }
}

static bool dump_list(const struct dumper *d, const struct jlist *list, int depth)
{
    struct buf *b = &d->r->scratch;
    buf_putc(b, '[');
    for (size_t i = 0; i < list->n; i++) {
        buf_append(b, i ? d->item : (struct str){NULL, 0});
        new_line(d, depth + 1);
        if (!dump(d, &list->items[i], depth + 1)) {
            return false;
        }
    }
    if (list->n) {
        new_line(d, depth);
    }
    buf_putc(b, ']');
    return true;
}

static bool dump_key(const struct dumper *d, const struct jval *key)
{
    struct buf *b = &d->r->scratch;
    if (key->type == J_STRING) {
        dump_string(d, key->s);
        return true;
    }
    buf_putc(b, '"');
    bool ok = dump_scalar(d, key);
    buf_putc(b, '"');
    return ok || jinja__fail(d->r, "keys must be str, int, float, bool or None, not %s", jinja__type_name(key));
}

/* The pairs of a dict by key, as a new array. */
static const struct jpair *sorted_pairs(struct render *r, const struct jdict *d)
{
    struct jpair *pairs = jinja__alloc(r, d->n + 1, sizeof *pairs);
    for (size_t i = 0; pairs && i < d->n; i++) { /* insertion from the back: keys are mostly few */
        size_t at = i;
        bool less = true;
        while (at > 0) {
            if (!jinja__less(r, &d->pairs[i].key, &pairs[at - 1].key, 0, &less)) {
                return NULL;
            }
            if (!less) {
                break;
            }
            pairs[at] = pairs[at - 1];
            at--;
        }
        pairs[at] = d->pairs[i];
    }
    return pairs;
}

static bool dump_dict(const struct dumper *d, const struct jdict *dict, int depth)
{
    struct buf *b = &d->r->scratch;
    const struct jpair *pairs = d->sort ? sorted_pairs(d->r, dict) : dict->pairs;
    if (d->sort && !pairs) {
        return false;
    }
    buf_putc(b, '{');
    for (size_t i = 0; i < dict->n; i++) {
        buf_append(b, i ? d->item : (struct str){NULL, 0});
        new_line(d, depth + 1);
        if (!dump_key(d, &pairs[i].key)) {
            return false;
        }
        buf_append(b, d->key);
        if (!dump(d, &pairs[i].value, depth + 1)) {
            return false;
        }
    }
    if (dict->n) {
        new_line(d, depth);
    }
    buf_putc(b, '}');
    return true;
}

static bool dump(const struct dumper *d, const struct jval *v, int depth)
{
    if (depth > JINJA_MAX_VALUE_DEPTH) {
        return jinja__fail(d->r, "a value is nested deeper than %d levels.", JINJA_MAX_VALUE_DEPTH);
    }
    uint64_t extra = (d->pretty ? (uint64_t)depth : 0) + (v->type == J_FLOAT ? JINJA_FLOAT_STEPS : 0);
    if (!jinja__charge(d->r, 1 + extra)) {
        return false;
    }
    switch (v->type) {
    case J_STRING:
        dump_string(d, v->s);
        return jinja__charge_bytes(d->r, v->s.len);
    case J_LIST:
    case J_TUPLE:
        return dump_list(d, v->list, depth);
    case J_DICT:
        return dump_dict(d, v->dict, depth);
    default:
        return dump_scalar(d, v) ||
               jinja__fail(d->r, "Object of type %s is not JSON serializable", jinja__type_name(v));
    }
}

static bool given(const struct jval *v)
{
    return v->type != J_ABSENT && v->type != J_NONE;
}

static bool read_indent(struct dumper *d, const struct jval *v)
{
    if (!given(v)) {
        return true;
    }
    d->pretty = true;
    if (v->type == J_STRING) {
        d->indent = v->s;
        return true;
    }
    if (!jval_is_int(v)) {
        return jinja__fail(d->r, "can't multiply sequence by non-int of type '%s'", jinja__type_name(v));
    }
    int64_t n = jval_to_int(v);
    if (n > 1024) {
        return jinja__fail(d->r, "tojson takes an indent of at most 1024.");
    }
    n = n < 0 ? 0 : n;
    char *spaces = jinja__alloc(d->r, (size_t)n + 1, 1);
    if (!spaces) {
        return false;
    }
    memset(spaces, ' ', (size_t)n);
    d->indent = (struct str){spaces, (size_t)n};
    return true;
}

static bool read_separators(struct dumper *d, const struct jval *v)
{
    d->item = d->pretty ? STR(",") : STR(", ");
    d->key = STR(": ");
    if (!given(v)) {
        return true;
    }
    if (!jval_is_sequence(v) || v->list->n != 2 || v->list->items[0].type != J_STRING ||
        v->list->items[1].type != J_STRING) {
        return jinja__fail(d->r, "tojson takes two strings as separators.");
    }
    d->item = v->list->items[0].s;
    d->key = v->list->items[1].s;
    return true;
}

bool jinja__tojson(struct render *r, const struct jval *self, const struct jval *arg, const struct jargs *raw,
                   struct jval *out)
{
    struct dumper d = {.r = r, .ascii = jinja__arg_bool(&arg[0], false), .sort = jinja__arg_bool(&arg[3], false)};
    (void)raw;
    if (!read_indent(&d, &arg[1]) || !read_separators(&d, &arg[2])) {
        return false;
    }
    size_t mark = jinja__text_begin(r);
    return dump(&d, self, 0) && jinja__text_end(r, mark, out);
}
