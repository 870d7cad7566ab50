/* Formatting: the % operator on strings, str.format and the format specifications of both. */
#include "base/utf8.h"
#include "chat/jinja_internal.h"

#include <math.h>

#define MAX_WIDTH ((int64_t)1 << 24)

/* ---- the % operator ---- */

struct percent {
    struct render *r;
    struct str format;
    size_t at;
    const struct jval *values; /* what stands right of the operator */
    size_t used;
    bool is_tuple, used_mapping;
    const struct jval *named; /* of "%(name)s" */
};

static bool next_value(struct percent *p, struct jval *out)
{
    size_t n = p->is_tuple ? p->values->list->n : 1;
    if (p->named) { /* once: a width of "*" takes it, too */
        *out = *p->named;
        p->named = NULL;
        return true;
    }
    if (p->used >= n || p->used_mapping) {
        return jinja__fail(p->r, "not enough arguments for format string");
    }
    *out = p->is_tuple ? p->values->list->items[p->used] : *p->values;
    p->used++;
    return true;
}

static char at_char(const struct percent *p)
{
    return p->at < p->format.len ? p->format.ptr[p->at] : '\0';
}

static bool read_mapping(struct percent *p)
{
    p->named = NULL;
    if (at_char(p) != '(') {
        return true;
    }
    size_t start = ++p->at, depth = 1;
    for (; depth && p->at < p->format.len; p->at++) {
        depth += at_char(p) == '(';
        depth -= at_char(p) == ')';
    }
    if (depth) {
        return jinja__fail(p->r, "incomplete format key");
    }
    if (p->values->type != J_DICT) {
        return jinja__fail(p->r, "format requires a mapping");
    }
    struct str name = str_slice(p->format, start, p->at - 1);
    p->named = jinja__dict_get(p->r, p->values->dict, name);
    p->used_mapping = true;
    return p->named || jinja__fail(p->r, "KeyError: '" STR_FMT "'", STR_ARG(name));
}

static bool read_number(struct percent *p, int64_t *out, bool *negative)
{
    struct jval v;
    *negative = false;
    if (at_char(p) == '*') {
        p->at++;
        if (!next_value(p, &v) || !jinja__arg_int(p->r, &v, 0, out)) {
            return jinja__fail(p->r, "* wants int");
        }
        *negative = *out < 0;
        *out = *out < 0 ? (*out == INT64_MIN ? MAX_WIDTH + 1 : -*out) : *out;
    } else {
        for (*out = 0; at_char(p) >= '0' && at_char(p) <= '9'; p->at++) {
            *out = *out > MAX_WIDTH ? *out : *out * 10 + (at_char(p) - '0');
        }
    }
    return *out <= MAX_WIDTH || jinja__fail(p->r, "width too big");
}

static bool read_conversion(struct percent *p, struct jspec *spec)
{
    bool negative;
    *spec = (struct jspec){.fill = ' ', .precision = -1};
    if (!read_mapping(p)) {
        return false;
    }
    for (char c; (c = at_char(p)) && strchr("-+ #0", c); p->at++) {
        spec->align = c == '-' ? '<' : spec->align;
        spec->sign = c == '+' || (c == ' ' && spec->sign != '+') ? c : spec->sign;
        spec->alternate |= c == '#';
        spec->zero |= c == '0';
    }
    if (!read_number(p, &spec->width, &negative)) {
        return false;
    }
    spec->align = negative ? '<' : spec->align;
    if (at_char(p) == '.') {
        p->at++;
        if (!read_number(p, &spec->precision, &negative)) {
            return false;
        }
        spec->precision = negative ? 0 : spec->precision;
    }
    p->at += at_char(p) && strchr("hlL", at_char(p)); /* one length modifier, without effect */
    spec->type = at_char(p);
    p->at++;
    return spec->type || jinja__fail(p->r, "incomplete format");
}

static bool put_text_value(struct percent *p, const struct jval *v, struct jspec *spec)
{
    struct jval text;
    size_t mark = jinja__text_begin(p->r);
    bool ok = spec->type == 'r' ? jinja__put_repr(p->r, v, 0) : jinja__put_str(p->r, v);
    if (!ok || !jinja__text_end(p->r, mark, &text)) {
        return false;
    }
    if (spec->precision >= 0) {
        text.s = str_slice(text.s, 0, jinja__offset(text.s, (size_t)spec->precision));
    }
    return jinja__pad(p->r, text.s, spec, '>');
}

static bool put_number_value(struct percent *p, const struct jval *v, struct jspec *spec)
{
    struct jval number = *v;
    bool integer = strchr("diuxXo", spec->type) != NULL;
    if (!jval_is_number(v)) {
        return v->type == J_UNDEFINED ? jinja__fail_undefined(p->r, v)
                                      : jinja__fail(p->r, "%%%c format: a real number is required, not %s", spec->type,
                                                    jinja__type_name(v));
    }
    if (integer && v->type == J_FLOAT) {
        if (!strchr("diu", spec->type)) {
            return jinja__fail(p->r, "%%%c format: an integer is required, not float", spec->type);
        }
        if (!(fabs(v->f) < 9.2e18)) {
            return jinja__fail(p->r, "integer overflow: the result has more than 64 bits.");
        }
        number = jval_int((int64_t)v->f);
    }
    if (spec->precision > JINJA_MAX_PRECISION) {
        return jinja__fail(p->r, "precision too big");
    }
    spec->type = spec->type == 'i' || spec->type == 'u' ? 'd' : spec->type;
    if (!integer) {
        number = jval_float(jval_to_float(v));
    }
    return jinja__format_number(p->r, &number, spec);
}

static bool put_conversion(struct percent *p)
{
    struct jspec spec;
    struct jval v;
    if (at_char(p) == '%') {
        buf_putc(jinja__text(p->r), '%');
        p->at++;
        return true;
    }
    if (!read_conversion(p, &spec) || !next_value(p, &v)) {
        return false;
    }
    if (spec.type == 's' || spec.type == 'r') {
        return put_text_value(p, &v, &spec);
    }
    if (spec.type == 'c') {
        if (v.type == J_STRING && jinja__n_chars(v.s) == 1) {
            return jinja__pad(p->r, v.s, &spec, '>');
        }
        spec.align = spec.align ? spec.align : '>';
        return jval_is_int(&v) ? jinja__format_number(p->r, &v, &spec) : jinja__fail(p->r, "%%c requires int or char");
    }
    if (!strchr("diuxXoeEfFgG", spec.type)) {
        return jinja__fail(p->r, "unsupported format character '%c'", spec.type);
    }
    return put_number_value(p, &v, &spec);
}

bool jinja__percent(struct render *r, const struct jval *format, const struct jval *values, struct jval *out)
{
    struct percent p = {.r = r, .format = format->s, .values = values, .is_tuple = values->type == J_TUPLE};
    struct jval escaped;
    if (format->markup && values->type == J_STRING) { /* a marked format escapes what goes into it */
        if (!jinja__escape(r, values, &escaped)) {
            return false;
        }
        p.values = &escaped;
    }
    size_t mark = jinja__text_begin(r);
    while (p.at < p.format.len) {
        size_t next = str_find_char(str_slice(p.format, p.at, p.format.len), '%');
        size_t end = next == STR_NPOS ? p.format.len : p.at + next;
        buf_append(jinja__text(r), str_slice(p.format, p.at, end));
        p.at = end + 1;
        if (end < p.format.len && !put_conversion(&p)) {
            return false;
        }
    }
    bool mapping =
        values->type == J_DICT || values->type == J_LIST || values->type == J_RANGE || values->type == J_UNDEFINED;
    if (!mapping && !p.used_mapping && p.used < (p.is_tuple ? values->list->n : 1)) {
        return jinja__fail(r, "not all arguments converted during string formatting");
    }
    bool ok = jinja__charge_bytes(r, p.format.len) && jinja__text_end(r, mark, out);
    out->markup = format->markup;
    return ok;
}

/* ---- str.format ---- */

struct formatter {
    struct render *r;
    const struct jargs *args;
    int64_t next; /* of automatic numbering; -1 after a number was written */
    bool escape;  /* the format is marked as HTML */
};

/* Reads the digits at *at; what is above MAX_WIDTH stays above it. */
static int64_t spec_digits(struct str s, size_t *at)
{
    int64_t v = 0;
    for (; *at < s.len && s.ptr[*at] >= '0' && s.ptr[*at] <= '9'; ++*at) {
        v = v > MAX_WIDTH ? v : v * 10 + (s.ptr[*at] - '0');
    }
    return v;
}

/* The character at *at when it is one of `set`, which is then passed; else NUL. */
static char spec_char(struct str s, size_t *at, const char *set)
{
    bool there = *at < s.len && s.ptr[*at] && strchr(set, s.ptr[*at]);
    return there ? s.ptr[(*at)++] : '\0';
}

/* "[[fill]align]" */
static void spec_align(struct str s, size_t *at, struct jspec *spec)
{
    uint32_t c = 0;
    size_t n = s.len ? utf8_decode(s, &c) : 0;
    spec->align = spec_char(s, &n, "<>=^");
    if (spec->align) {
        spec->fill = c;
        *at = n;
    } else {
        spec->align = spec_char(s, at, "<>=^");
    }
}

/* "[[fill]align][sign][#][0][width][grouping][.precision][type]" */
static bool parse_spec(struct render *r, struct str s, struct jspec *spec)
{
    size_t i = 0;
    *spec = (struct jspec){.fill = ' ', .precision = -1};
    spec_align(s, &i, spec);
    bool fill_given = i > 1;
    spec->sign = spec_char(s, &i, "+- ");
    spec->alternate = spec_char(s, &i, "#") != '\0';
    spec->zero = spec_char(s, &i, "0") != '\0';
    spec->fill = spec->zero && !fill_given ? '0' : spec->fill;
    spec->width = spec_digits(s, &i);
    spec->grouping = spec_char(s, &i, ",_");
    if (spec_char(s, &i, ".")) {
        size_t start = i;
        spec->precision = spec_digits(s, &i);
        if (i == start) {
            return jinja__fail(r, "Format specifier missing precision");
        }
    }
    spec->type = i < s.len ? s.ptr[i++] : '\0';
    if (i < s.len) {
        return jinja__fail(r, "Invalid format specifier '" STR_FMT "'", STR_ARG(s));
    }
    return spec->width <= MAX_WIDTH || jinja__fail(r, "width too big");
}

static bool format_string(struct render *r, struct str s, struct jspec *spec)
{
    if (spec->type && spec->type != 's') {
        return jinja__fail(r, "Unknown format code '%c' for object of type 'str'", spec->type);
    }
    if (spec->sign || spec->alternate || spec->grouping || spec->align == '=') {
        return jinja__fail(r, "the format specification is not allowed for strings.");
    }
    if (spec->precision >= 0) {
        s = str_slice(s, 0, jinja__offset(s, (size_t)spec->precision));
    }
    return jinja__pad(r, s, spec, '<');
}

static bool format_value(struct render *r, const struct jval *v, struct str text)
{
    struct jspec spec;
    if (text.len == 0) {
        return jinja__put_str(r, v);
    }
    if (v->type != J_STRING && !jval_is_number(v)) {
        return jinja__fail(r, "unsupported format string passed to %s.__format__", jinja__type_name(v));
    }
    if (!parse_spec(r, text, &spec)) {
        return false;
    }
    if (v->type == J_STRING) {
        return format_string(r, v->s, &spec);
    }
    bool as_int = jval_is_int(v) && (!spec.type || strchr("dbcoxXn", spec.type));
    if (spec.grouping && spec.type && !strchr(spec.grouping == '_' ? "deEfFgG%boxX" : "deEfFgG%", spec.type)) {
        return jinja__fail(r, "Cannot specify '%c' with '%c'.", spec.grouping, spec.type);
    }
    if (as_int && spec.precision >= 0) {
        return jinja__fail(r, "Precision not allowed in integer format specifier");
    }
    if (spec.precision > JINJA_MAX_PRECISION) {
        return jinja__fail(r, "precision too big");
    }
    return jinja__format_number(r, v, &spec);
}

/* The argument that the first part of a field's name means. */
static bool first_value(struct formatter *f, struct str name, struct jval *out)
{
    int64_t i = 0;
    bool digits = name.len > 0 && name.ptr[0] >= '0' && name.ptr[0] <= '9' && str_to_i64(name, &i);
    if (name.len && !digits) {
        const struct jkeyword *k = jinja__keyword(f->args, name);
        if (!k) {
            return jinja__fail(f->r, "KeyError: '" STR_FMT "'", STR_ARG(name));
        }
        *out = k->value;
        return true;
    }
    if (digits ? f->next > 0 : f->next < 0) {
        return jinja__fail(f->r, "cannot switch between manual field specification and automatic field numbering");
    }
    if (digits) {
        f->next = -1;
    } else {
        i = f->next++;
    }
    if (i < 0 || (uint64_t)i >= f->args->n_positional) {
        return jinja__fail(f->r, "Replacement index %lld out of range for positional args tuple", (long long)i);
    }
    *out = f->args->positional[i];
    return true;
}

/* "name.attribute[element]" */
static bool field_value(struct formatter *f, struct str name, struct jval *out)
{
    size_t at = 0;
    while (at < name.len && name.ptr[at] != '.' && name.ptr[at] != '[') {
        at++;
    }
    if (!first_value(f, str_slice(name, 0, at), out)) {
        return false;
    }
    while (at < name.len) {
        struct jval of = *out, key;
        char kind = name.ptr[at];
        size_t start = ++at;
        while (at < name.len && (kind == '[' ? name.ptr[at] != ']' : name.ptr[at] != '.' && name.ptr[at] != '[')) {
            at++;
        }
        struct str part = str_slice(name, start, at);
        key = jval_str(part);
        if (part.len == 0 || (kind == '[' && at == name.len) || (kind != '.' && kind != '[')) {
            return jinja__fail(f->r, "Empty attribute in format string");
        }
        if (kind == '[') {
            int64_t i;
            key = str_to_i64(part, &i) && part.ptr[0] != '-' ? jval_int(i) : key;
            at++;
        }
        if (kind == '.' ? !jinja__getattr(f->r, &of, part, out) : !jinja__getitem(f->r, &of, &key, out)) {
            return false;
        }
    }
    return true;
}

static bool format_into(struct formatter *f, struct str s, int depth);

struct field { /* "name!conversion:spec" */
    struct str name, spec;
    char conversion; /* NUL: none */
};

static bool split_field(struct render *r, struct str s, struct field *out)
{
    size_t end = 0;
    bool bracket = false;
    while (end < s.len && (bracket || (s.ptr[end] != ':' && s.ptr[end] != '!'))) {
        bracket = s.ptr[end] == '[' || (bracket && s.ptr[end] != ']');
        end++;
    }
    *out = (struct field){.name = str_slice(s, 0, end)};
    if (end < s.len && s.ptr[end] == '!') {
        out->conversion = end + 1 < s.len ? s.ptr[end + 1] : '?';
        end += 2;
        if (end < s.len && s.ptr[end] != ':') {
            return jinja__fail(r, "expected ':' after conversion specifier");
        }
    }
    out->spec = str_slice(s, end + 1, s.len);
    return true;
}

/* "!s" and "!r" */
static bool convert(struct render *r, char conversion, struct jval *v)
{
    size_t mark = jinja__text_begin(r);
    if (conversion != 's' && conversion != 'r') {
        return jinja__fail(r, "Unknown conversion specifier '%c'", conversion);
    }
    bool ok = conversion == 'r' ? jinja__put_repr(r, v, 0) : jinja__put_str(r, v);
    return ok && jinja__text_end(r, mark, v);
}

/* A value into a format that is marked as HTML. */
static bool format_escaped(struct render *r, const struct jval *v, struct str spec)
{
    struct jval text, escaped;
    size_t mark = jinja__text_begin(r);
    if (!format_value(r, v, spec) || !jinja__text_end(r, mark, &text)) {
        return false;
    }
    text.markup = v->type == J_STRING && v->markup;
    if (!jinja__escape(r, &text, &escaped)) {
        return false;
    }
    buf_append(jinja__text(r), escaped.s);
    return true;
}

/* One field: s is what stands between the braces. */
static bool format_field(struct formatter *f, struct str s, int depth)
{
    struct field field;
    struct jval v, spec = jval_str(STR(""));
    if (!split_field(f->r, s, &field) || !field_value(f, field.name, &v) ||
        (field.conversion && !convert(f->r, field.conversion, &v))) {
        return false;
    }
    size_t mark = jinja__text_begin(f->r);
    if (field.spec.len && (!format_into(f, field.spec, depth + 1) || !jinja__text_end(f->r, mark, &spec))) {
        return false;
    }
    return f->escape ? format_escaped(f->r, &v, spec.s) : format_value(f->r, &v, spec.s);
}

/* Where the field that begins behind the brace at `at` ends: the index of its closing brace, or STR_NPOS. */
static size_t field_end(struct str s, size_t at)
{
    int depth = 1;
    bool bracket = false, in_spec = false;
    for (size_t i = at + 1; i < s.len; i++) {
        char c = s.ptr[i];
        bracket = !in_spec && (c == '[' || (bracket && c != ']'));
        in_spec |= !bracket && (c == ':' || c == '!');
        depth += !bracket && c == '{';
        depth -= !bracket && c == '}';
        if (depth == 0) {
            return i;
        }
    }
    return STR_NPOS;
}

static bool format_into(struct formatter *f, struct str s, int depth)
{
    struct buf *b = jinja__text(f->r);
    if (depth > 1) {
        return jinja__fail(f->r, "Max string recursion exceeded");
    }
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        if (c != '{' && c != '}') {
            buf_putc(b, c);
            continue;
        }
        if (i + 1 < s.len && s.ptr[i + 1] == c) {
            buf_putc(b, c);
            i++;
            continue;
        }
        size_t end = c == '{' ? field_end(s, i) : STR_NPOS;
        if (end == STR_NPOS) {
            return jinja__fail(f->r, c == '{' ? "expected '}' before end of string"
                                              : "Single '}' encountered in format string");
        }
        if (!format_field(f, str_slice(s, i + 1, end), depth)) {
            return false;
        }
        i = end;
    }
    return jinja__charge_bytes(f->r, s.len);
}

bool jinja__str_format(struct render *r, const struct jval *format, const struct jargs *args, struct jval *out)
{
    struct formatter f = {.r = r, .args = args, .escape = format->markup};
    size_t mark = jinja__text_begin(r);
    bool ok = format_into(&f, format->s, 0) && jinja__text_end(r, mark, out);
    out->markup = format->markup;
    return ok;
}
