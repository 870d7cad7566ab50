/* str() and repr() of values, and strings being built. */
#include "base/array.h"
#include "base/utf8.h"
#include "chat/jinja_internal.h"
#include "text/unicode.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

size_t jinja__text_begin(struct render *r)
{
    return r->scratch.len;
}

struct buf *jinja__text(struct render *r)
{
    return &r->scratch;
}

bool jinja__text_end(struct render *r, size_t mark, struct jval *out)
{
    if (!buf_ok(&r->scratch, "text of the template", r->err)) {
        return false;
    }
    struct str text = str_slice(buf_view(&r->scratch), mark, r->scratch.len);
    bool ok = jinja__copy_string(r, text, out);
    buf_truncate(&r->scratch, mark);
    return ok;
}

/* Python's repr: the shortest digits that read back the same, in plain notation for exponents from -4 to 15. */
struct str jinja__float_text(double v, char out[JINJA_FLOAT_SIZE])
{
    char digits[32];
    if (v != v || v - v != 0) {
        const char *name = v != v ? "nan" : v > 0 ? "inf" : "-inf";
        snprintf(out, JINJA_FLOAT_SIZE, "%s", name);
        return str_of(out);
    }
    for (int precision = fabs(v) < DBL_MIN ? 0 : 14; precision <= 16; precision++) { /* subnormals have few digits */
        snprintf(digits, sizeof digits, "%.*e", precision, v);
        if (strtod(digits, NULL) == v) {
            break;
        }
    }
    char *e = strchr(digits, 'e');
    long exponent = strtol(e + 1, NULL, 10);
    char *end = e, *first = digits + (digits[0] == '-');
    while (end - 1 > first && end[-1] == '0') { /* a zero keeps its only digit */
        end--;
    }
    end -= end[-1] == '.';
    int n_digits = (int)(end - digits) - (digits[0] == '-') - (memchr(digits, '.', (size_t)(end - digits)) != NULL);
    if (exponent >= -4 && exponent < 16) {
        int decimals = n_digits - 1 - (int)exponent;
        snprintf(out, JINJA_FLOAT_SIZE, "%.*f", decimals > 0 ? decimals : 1, v);
    } else {
        snprintf(out, JINJA_FLOAT_SIZE, "%.*se%c%02ld", (int)(end - digits), digits, exponent < 0 ? '-' : '+',
                 labs(exponent));
    }
    return str_of(out);
}

static bool printable(uint32_t c)
{
    return c == ' ' || (unicode_class(c) & (UC_L | UC_M | UC_N | UC_P | UC_S));
}

static void put_char_repr(struct buf *b, uint32_t c, struct str bytes, char quote)
{
    static const char names[] = "\n\r\t\\", escapes[] = "nrt\\";
    const char *named = c && c < 0x80 ? strchr(names, (int)c) : NULL;
    if (named) {
        buf_putc(b, '\\');
        buf_putc(b, escapes[named - names]);
    } else if (c == (uint32_t)quote) {
        buf_putc(b, '\\');
        buf_putc(b, quote);
    } else if (c < 0x20 || c == 0x7F || (c >= 0x80 && !printable(c))) {
        buf_printf(b, c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", (unsigned)c);
    } else {
        buf_append(b, bytes);
    }
}

static void put_string_repr(struct buf *b, struct str s)
{
    bool single = str_find_char(s, '\'') != STR_NPOS, both = single && str_find_char(s, '"') != STR_NPOS;
    char quote = single && !both ? '"' : '\'';
    buf_putc(b, quote);
    for (size_t i = 0; i < s.len;) {
        uint32_t c;
        size_t n = utf8_decode(str_slice(s, i, s.len), &c);
        put_char_repr(b, c, str_slice(s, i, i + n), quote);
        i += n;
    }
    buf_putc(b, quote);
}

static bool put_items(struct render *r, const struct jlist *list, const char *open, const char *close, int depth)
{
    buf_puts(&r->scratch, open);
    for (size_t i = 0; i < list->n; i++) {
        buf_puts(&r->scratch, i ? ", " : "");
        if (!jinja__put_repr(r, &list->items[i], depth + 1)) {
            return false;
        }
    }
    buf_puts(&r->scratch, close);
    return true;
}

static bool put_dict(struct render *r, const struct jdict *d, int depth)
{
    buf_putc(&r->scratch, '{');
    for (size_t i = 0; i < d->n; i++) {
        buf_puts(&r->scratch, i ? ", " : "");
        if (!jinja__put_repr(r, &d->pairs[i].key, depth + 1)) {
            return false;
        }
        buf_puts(&r->scratch, ": ");
        if (!jinja__put_repr(r, &d->pairs[i].value, depth + 1)) {
            return false;
        }
    }
    buf_putc(&r->scratch, '}');
    return true;
}

static bool put_view(struct render *r, const struct jval *v, int depth)
{
    const struct jdict *d = v->view->dict;
    buf_printf(&r->scratch, "%s([", jinja__type_name(v));
    for (size_t i = 0; i < d->n; i++) {
        bool items = v->view->kind == J_ITEMS, keys = v->view->kind != J_VALUES, values = v->view->kind != J_KEYS;
        buf_printf(&r->scratch, "%s%s", i ? ", " : "", items ? "(" : "");
        if (keys && !jinja__put_repr(r, &d->pairs[i].key, depth + 1)) {
            return false;
        }
        buf_puts(&r->scratch, items ? ", " : "");
        if (values && !jinja__put_repr(r, &d->pairs[i].value, depth + 1)) {
            return false;
        }
        buf_puts(&r->scratch, items ? ")" : "");
    }
    buf_puts(&r->scratch, "])");
    return true;
}

static void put_range(struct buf *b, const struct jrange *range)
{
    buf_printf(b, "range(%lld, %lld", (long long)range->start, (long long)range->stop);
    if (range->step != 1) {
        buf_printf(b, ", %lld", (long long)range->step);
    }
    buf_putc(b, ')');
}

static void put_iterator(struct buf *b, const struct jiterator *it)
{
    static const char *const names[] = {
        [IT_EMPTY] = "generator object sync_do_map", /* mostly */
        [IT_PAIRS] = "generator object do_items",          [IT_MAP] = "generator object sync_do_map",
        [IT_SELECT] = "generator object select_or_reject", [IT_UNIQUE] = "generator object sync_do_unique",
        [IT_BATCH] = "generator object do_batch",          [IT_SLICE] = "generator object sync_do_slice",
        [IT_REVERSED] = "list_reverseiterator object"};
    const char *name = it->kind < ARRAY_LEN(names) ? names[it->kind] : NULL;
    buf_printf(b, "<%s at 0x7f0000000000>", name ? name : "iterator object");
}

/* What has neither digits nor items. Python prints addresses for some of these; a fixed one, or none, stands for them.
 */
static bool put_object(struct render *r, const struct jval *v, int depth)
{
    struct buf *b = &r->scratch;
    int64_t length;
    switch (v->type) {
    case J_NAMESPACE:
        buf_puts(b, "<Namespace ");
        if (!put_dict(r, v->dict, depth)) {
            return false;
        }
        buf_putc(b, '>');
        break;
    case J_MACRO:
        if (v->macro->node->anonymous) {
            buf_puts(b, "<Macro anonymous>");
        } else {
            buf_printf(b, "<Macro '" STR_FMT "'>", STR_ARG(v->macro->node->name));
        }
        break;
    case J_LOOP:
        if (!jinja__loop_length(r, v->loop, &length)) {
            return false;
        }
        buf_printf(b, "<LoopContext %lld/%lld>", (long long)v->loop->index0 + 1, (long long)length);
        break;
    case J_ITERATOR:
        put_iterator(b, v->iterator);
        break;
    case J_FUNCTION:
        buf_printf(b, "<function %s>", v->function->name);
        break;
    case J_METHOD:
        buf_printf(b, "<built-in method %s of %s object>", v->method->function->name,
                   jinja__type_name(&v->method->self));
        break;
    default:
        buf_printf(b, "<%s object>", jinja__type_name(v));
        break;
    }
    return true;
}

bool jinja__put_repr(struct render *r, const struct jval *v, int depth)
{
    struct buf *b = &r->scratch;
    char number[JINJA_FLOAT_SIZE];
    if (depth > JINJA_MAX_VALUE_DEPTH) {
        return jinja__fail(r, "a value is nested deeper than %d levels.", JINJA_MAX_VALUE_DEPTH);
    }
    if (!jinja__charge(r, 1)) {
        return false;
    }
    switch (v->type) {
    case J_UNDEFINED:
        buf_puts(b, "Undefined");
        return true;
    case J_ABSENT:
    case J_NONE:
        buf_puts(b, "None");
        return true;
    case J_BOOL:
        buf_puts(b, v->b ? "True" : "False");
        return true;
    case J_INT:
        buf_printf(b, "%lld", (long long)v->i);
        return true;
    case J_FLOAT:
        buf_append(b, jinja__float_text(v->f, number));
        return jinja__charge(r, JINJA_FLOAT_STEPS);
    case J_STRING:
        buf_puts(b, v->markup ? "Markup(" : "");
        put_string_repr(b, v->s);
        buf_puts(b, v->markup ? ")" : "");
        return jinja__charge_bytes(r, v->s.len);
    case J_LIST:
        return put_items(r, v->list, "[", "]", depth);
    case J_TUPLE:
        return put_items(r, v->list, "(", v->list->n == 1 ? ",)" : ")", depth);
    case J_DICT:
        return put_dict(r, v->dict, depth);
    case J_VIEW:
        return put_view(r, v, depth);
    case J_RANGE:
        put_range(b, v->range);
        return true;
    default:
        return put_object(r, v, depth);
    }
}

bool jinja__put_str(struct render *r, const struct jval *v)
{
    if (v->type == J_UNDEFINED) {
        return true;
    }
    if (v->type == J_STRING) {
        buf_append(&r->scratch, v->s);
        return jinja__charge_bytes(r, v->s.len);
    }
    return jinja__put_repr(r, v, 0);
}

bool jinja__to_str(struct render *r, const struct jval *v, struct jval *out)
{
    if (v->type == J_STRING) {
        *out = jval_str(v->s);
        return true;
    }
    size_t mark = jinja__text_begin(r);
    return jinja__put_str(r, v) && jinja__text_end(r, mark, out);
}

/* a + b. A string that was itself made by adding to the last one made grows in place: building a text piece by piece in
 * a loop takes time and memory linear in its length. Strings that end earlier in the same bytes are not touched. */
bool jinja__concat(struct render *r, struct str a, struct str b, struct jval *out)
{
    size_t len;
    if (!size_add(a.len, b.len, &len) || len > r->max_output) {
        return error_set(r->err, ERR_TOO_LARGE, "template line %u: a string has more than %zu bytes.", r->line,
                         r->max_output);
    }
    if (!jinja__charge_bytes(r, b.len)) {
        return false;
    }
    bool extends = a.len && a.ptr == r->tail.ptr && a.len == r->tail.len;
    if (!extends || len > r->tail.cap) {
        size_t cap = extends ? len * 2 : len;
        char *ptr = jinja__alloc(r, cap, 1);
        if (!ptr || !jinja__charge_bytes(r, a.len)) {
            return false;
        }
        if (a.len) {
            memcpy(ptr, a.ptr, a.len);
        }
        r->tail.ptr = ptr;
        r->tail.cap = cap;
    }
    if (b.len) {
        memcpy(r->tail.ptr + a.len, b.ptr, b.len);
    }
    r->tail.len = len;
    *out = jval_str((struct str){r->tail.ptr, len});
    return true;
}

bool jinja__escape(struct render *r, const struct jval *v, struct jval *out)
{
    struct jval text;
    if (v->type == J_STRING && v->markup) {
        *out = *v;
        return true;
    }
    if (!jinja__to_str(r, v, &text)) {
        return false;
    }
    size_t mark = jinja__text_begin(r);
    struct buf *b = jinja__text(r);
    for (size_t i = 0; i < text.s.len; i++) {
        char c = text.s.ptr[i];
        const char *name = c == '&'    ? "&amp;"
                           : c == '<'  ? "&lt;"
                           : c == '>'  ? "&gt;"
                           : c == '"'  ? "&#34;"
                           : c == '\'' ? "&#39;"
                                       : NULL;
        if (name) {
            buf_puts(b, name);
        } else {
            buf_putc(b, c);
        }
    }
    bool ok = jinja__charge_bytes(r, text.s.len) && jinja__text_end(r, mark, out);
    out->markup = true;
    return ok;
}
