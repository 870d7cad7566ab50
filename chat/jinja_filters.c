/* Filters over strings and numbers, and the table of all filters. */
#include "base/array.h"
#include "base/utf8.h"
#include "chat/jinja_internal.h"
#include "chat/jinja_unicode.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* str(v), but a string that is marked as HTML stays so. */
static bool soft_str(struct render *r, const struct jval *v, struct jval *out)
{
    if (v->type == J_STRING) {
        *out = *v;
        return true;
    }
    return jinja__to_str(r, v, out);
}

/* str(v).name(arg...) */
static bool call_method(struct render *r, const struct jval *v, const char *name, const struct jval *arg, size_t n,
                        struct jval *out)
{
    struct jval text;
    struct jargs args = {.positional = arg, .n_positional = n};
    return soft_str(r, v, &text) && jinja__call_builtin(r, jinja__find_method(&text, str_of(name)), &text, &args, out);
}

/* ---- strings ---- */

BUILTIN(f_upper)
{
    UNUSED;
    return call_method(r, self, "upper", NULL, 0, out);
}

BUILTIN(f_lower)
{
    UNUSED;
    return call_method(r, self, "lower", NULL, 0, out);
}

BUILTIN(f_capitalize)
{
    UNUSED;
    return call_method(r, self, "capitalize", NULL, 0, out);
}

BUILTIN(f_trim)
{
    (void)raw;
    return call_method(r, self, "strip", arg, arg[0].type != J_ABSENT, out);
}

BUILTIN(f_center)
{
    struct jval width = arg[0].type == J_ABSENT ? jval_int(80) : arg[0];
    (void)raw;
    return call_method(r, self, "center", &width, 1, out);
}

BUILTIN(f_string)
{
    UNUSED;
    return soft_str(r, self, out);
}

BUILTIN(f_safe)
{
    UNUSED;
    bool ok = soft_str(r, self, out);
    out->markup = true;
    return ok;
}

BUILTIN(f_escape)
{
    UNUSED;
    return jinja__escape(r, self, out);
}

BUILTIN(f_forceescape)
{
    struct jval plain;
    UNUSED;
    return jinja__to_str(r, self, &plain) && jinja__escape(r, &plain, out);
}

BUILTIN(f_replace)
{
    struct jval text, parts[3];
    size_t n = 2;
    (void)raw;
    if (!jinja__to_str(r, self, &text) || !jinja__to_str(r, &arg[0], &parts[0]) ||
        !jinja__to_str(r, &arg[1], &parts[1])) {
        return false;
    }
    if (arg[2].type != J_ABSENT && arg[2].type != J_NONE) {
        parts[n++] = arg[2];
    }
    return call_method(r, &text, "replace", parts, n, out);
}

static bool begins_word(uint32_t c)
{
    return c == '-' || c == '(' || c == '{' || c == '[' || c == '<' || jinja__is_space(c);
}

/* Not str.title(): only white space and opening brackets and hyphens begin a word. */
BUILTIN(f_title)
{
    struct jval text;
    UNUSED;
    if (!soft_str(r, self, &text)) {
        return false;
    }
    size_t mark = jinja__text_begin(r), i = 0;
    while (i < text.s.len) {
        uint32_t c;
        size_t first = utf8_decode(str_slice(text.s, i, text.s.len), &c), end = i + first;
        bool separator = begins_word(c);
        while (end < text.s.len) {
            size_t n = utf8_decode(str_slice(text.s, end, text.s.len), &c);
            if (begins_word(c) != separator) {
                break;
            }
            end += n;
        }
        jinja__put_case(jinja__text(r), str_slice(text.s, i, i + first), CASE_UPPER);
        jinja__put_case(jinja__text(r), str_slice(text.s, i + first, end), CASE_LOWER);
        i = end;
    }
    return jinja__charge_bytes(r, 8 * text.s.len) && jinja__text_end(r, mark, out);
}

BUILTIN(f_wordcount)
{
    struct jval text;
    int64_t n = 0;
    bool inside = false;
    UNUSED;
    if (!soft_str(r, self, &text)) {
        return false;
    }
    for (size_t i = 0; i < text.s.len;) {
        uint32_t c;
        i += utf8_decode(str_slice(text.s, i, text.s.len), &c);
        n += !inside && jinja__is_word(c);
        inside = jinja__is_word(c);
    }
    *out = jval_int(n);
    return jinja__charge_bytes(r, 4 * text.s.len);
}

static bool indentation(struct render *r, const struct jval *width, struct jval *out)
{
    struct jval four = jval_int(4), blank = jval_str(STR(" "));
    if (width->type == J_STRING) {
        *out = *width;
        return true;
    }
    return jinja__arith(r, OP_MUL, &blank, width->type == J_ABSENT ? &four : width, out);
}

BUILTIN(f_indent)
{
    struct jval indent, lines, text;
    bool first = jinja__arg_bool(&arg[1], false), blank = jinja__arg_bool(&arg[2], false);
    (void)raw;
    if (self->type != J_STRING) {
        return self->type == J_UNDEFINED ? jinja__fail_undefined(r, self)
                                         : jinja__fail(r, "indent takes a string, not '%s'", jinja__type_name(self));
    }
    if (!indentation(r, &arg[0], &indent) || !jinja__concat(r, self->s, STR("\n"), &text) ||
        !call_method(r, &text, "splitlines", NULL, 0, &lines)) {
        return false;
    }
    size_t mark = jinja__text_begin(r);
    struct buf *b = jinja__text(r);
    for (size_t i = 0; i < lines.list->n; i++) {
        struct str line = lines.list->items[i].s;
        buf_puts(b, i ? "\n" : "");
        if (i == 0 ? first : blank || line.len) {
            buf_append(b, indent.s);
        }
        buf_append(b, line);
    }
    bool ok = jinja__text_end(r, mark, out);
    out->markup = self->markup;
    return ok;
}

BUILTIN(f_truncate)
{
    int64_t length, leeway;
    struct str end;
    size_t n, n_end;
    bool kill_words = jinja__arg_bool(&arg[1], false);
    struct jval none = {.type = J_ABSENT};
    (void)raw;
    if (!jinja__arg_int(r, &arg[0], 255, &length) || !jinja__arg_str(r, &arg[2], STR("..."), &end) ||
        !jinja__arg_int(r, arg[3].type == J_NONE ? &none : &arg[3], 5, &leeway)) {
        return false;
    }
    n_end = jinja__n_chars(end);
    if (length < (int64_t)n_end || leeway < 0) {
        return jinja__fail(r, "expected length >= %zu, got %lld", n_end, (long long)length);
    }
    if (!jinja__length(self, &n)) {
        return jinja__fail(r, "object of type '%s' has no len()", jinja__type_name(self));
    }
    if (leeway > INT64_MAX - length || (int64_t)n <= length + leeway) {
        *out = *self;
        return true;
    }
    if (self->type != J_STRING) {
        return jinja__fail(r, "truncate takes a string, not '%s'", jinja__type_name(self));
    }
    struct str cut = str_slice(self->s, 0, jinja__offset(self->s, (size_t)(length - (int64_t)n_end)));
    for (size_t i = cut.len; !kill_words && i-- > 0;) {
        if (cut.ptr[i] == ' ') {
            cut = str_slice(cut, 0, i);
            break;
        }
    }
    bool ok = jinja__charge_bytes(r, self->s.len) && jinja__concat(r, cut, end, out);
    out->markup = self->markup;
    return ok;
}

BUILTIN(f_format)
{
    struct jval text, values;
    struct jlist_builder b = {.n = raw->n_positional};
    (void)arg;
    if (raw->n_positional && raw->n_keywords) {
        return jinja__fail(r, "can't handle positional and keyword arguments at the same time");
    }
    if (raw->n_keywords) {
        struct jdict *d = jinja__dict(r, raw->n_keywords);
        for (size_t i = 0; d && i < raw->n_keywords; i++) {
            struct jval key = jval_str(raw->keywords[i].name);
            if (!jinja__dict_put(r, d, &key, &raw->keywords[i].value)) {
                return false;
            }
        }
        values = (struct jval){.type = J_DICT, .dict = d};
        return d && soft_str(r, self, &text) && jinja__percent(r, &text, &values, out);
    }
    b.items = jinja__alloc(r, b.n + 1, sizeof *b.items);
    if (!b.items) {
        return false;
    }
    for (size_t i = 0; i < b.n; i++) {
        b.items[i] = raw->positional[i];
    }
    return jinja__list(r, &b, J_TUPLE, &values) && soft_str(r, self, &text) && jinja__percent(r, &text, &values, out);
}

/* ---- markup ---- */

static void put_quoted_url(struct buf *b, struct str s, bool query)
{
    static const char hex[] = "0123456789ABCDEF";
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
                     c == '.' || c == '-' || c == '~' || (c == '/' && !query);
        if (plain || (c == ' ' && query)) {
            buf_putc(b, plain ? (char)c : '+');
        } else {
            buf_putc(b, '%');
            buf_putc(b, hex[c >> 4]);
            buf_putc(b, hex[c & 15]);
        }
    }
}

static bool put_url_pair(struct render *r, const struct jval *pair)
{
    struct jlist_builder b = {0};
    struct jval text;
    if (!jinja__collect(r, pair, &b)) {
        return false;
    }
    if (b.n != 2) {
        return jinja__fail(r, "urlencode takes pairs of names and values.");
    }
    for (int i = 0; i < 2; i++) {
        if (!jinja__to_str(r, &b.items[i], &text) || !jinja__charge_bytes(r, 8 * text.s.len)) {
            return false;
        }
        put_quoted_url(jinja__text(r), text.s, true);
        buf_puts(jinja__text(r), i ? "" : "=");
    }
    return true;
}

BUILTIN(f_urlencode)
{
    struct jval text, pairs = *self;
    struct jlist_builder b = {0};
    UNUSED;
    if (self->type == J_STRING || !jinja__iterable(self)) {
        if (!jinja__to_str(r, self, &text)) {
            return false;
        }
        size_t mark = jinja__text_begin(r);
        put_quoted_url(jinja__text(r), text.s, false);
        return jinja__charge_bytes(r, 8 * text.s.len) && jinja__text_end(r, mark, out);
    }
    if (self->type == J_DICT) {
        struct jview *view = jinja__alloc(r, 1, sizeof *view);
        if (!view) {
            return false;
        }
        *view = (struct jview){self->dict, J_ITEMS};
        pairs = (struct jval){.type = J_VIEW, .view = view};
    }
    if (!jinja__collect(r, &pairs, &b)) {
        return false;
    }
    size_t mark = jinja__text_begin(r);
    for (size_t i = 0; i < b.n; i++) {
        buf_puts(jinja__text(r), i ? "&" : "");
        if (!put_url_pair(r, &b.items[i])) {
            return false;
        }
    }
    return jinja__text_end(r, mark, out);
}

static bool bad_attribute(struct str name)
{
    for (size_t i = 0; i < name.len; i++) {
        if (name.ptr[i] && strchr(" \t\n\r\f\v/>=", name.ptr[i])) {
            return true;
        }
    }
    return false;
}

BUILTIN(f_xmlattr)
{
    bool space = jinja__arg_bool(&arg[0], true), any = false;
    (void)raw;
    if (self->type != J_DICT) {
        return self->type == J_UNDEFINED ? jinja__fail_undefined(r, self)
                                         : jinja__fail(r, "xmlattr takes a dict, not '%s'", jinja__type_name(self));
    }
    size_t mark = jinja__text_begin(r);
    for (size_t i = 0; i < self->dict->n; i++) {
        const struct jpair *p = &self->dict->pairs[i];
        struct jval key, value;
        if (p->value.type == J_NONE || p->value.type == J_UNDEFINED) {
            continue;
        }
        if (p->key.type != J_STRING || bad_attribute(p->key.s)) {
            return jinja__fail(r, "Invalid character in attribute name");
        }
        if (!jinja__escape(r, &p->key, &key) || !jinja__escape(r, &p->value, &value)) {
            return false;
        }
        buf_puts(jinja__text(r), any || space ? " " : "");
        buf_append(jinja__text(r), key.s);
        buf_puts(jinja__text(r), "=\"");
        buf_append(jinja__text(r), value.s);
        buf_puts(jinja__text(r), "\"");
        any = true;
    }
    return jinja__text_end(r, mark, out);
}

/* The text without what stands in angle brackets; an unclosed one ends the search. */
static void put_without_tags(struct buf *b, struct str s)
{
    for (;;) {
        size_t start = str_find_char(s, '<');
        struct str tag = str_slice(s, start == STR_NPOS ? s.len : start, s.len);
        bool comment = str_starts(tag, STR("<!--"));
        size_t from = comment ? 4 : 0;
        size_t end = comment ? str_find(str_slice(tag, from, tag.len), STR("-->")) : str_find_char(tag, '>');
        if (start == STR_NPOS || end == STR_NPOS) {
            buf_append(b, s);
            return;
        }
        buf_append(b, str_slice(s, 0, start));
        s = str_slice(tag, from + end + (comment ? 3 : 1), tag.len);
    }
}

/* What the number of a character reference stands for in HTML: Windows-1252 for the C1 controls, nothing (0) for what
 * is no character. */
static uint32_t referred(uint32_t number)
{
    static const uint16_t c1[32] = {0x20AC, 0x81,   0x201A, 0x192,  0x201E, 0x2026, 0x2020, 0x2021,
                                    0x2C6,  0x2030, 0x160,  0x2039, 0x152,  0x8D,   0x17D,  0x8F,
                                    0x90,   0x2018, 0x2019, 0x201C, 0x201D, 0x2022, 0x2013, 0x2014,
                                    0x2DC,  0x2122, 0x161,  0x203A, 0x153,  0x9D,   0x17E,  0x178};
    const uint32_t replacement = 0xFFFD;
    if (number == 0 || number > 0x10FFFF || (number >= 0xD800 && number < 0xE000)) {
        return replacement;
    }
    if (number >= 0x80 && number < 0xA0) {
        return c1[number - 0x80];
    }
    bool control = (number < 0x20 && !strchr("\t\n\f\r", (int)number)) || number == 0x7F;
    bool none = (number >= 0xFDD0 && number <= 0xFDEF) || (number & 0xFFFE) == 0xFFFE;
    return control || none ? 0 : number;
}

/* "&#65;" or "&#x41;", the semicolon may be missing. */
static size_t numeric_reference(struct str s, uint32_t *c)
{
    bool hex = str_starts(s, STR("&#x")) || str_starts(s, STR("&#X"));
    size_t i = hex ? 3 : 2, start = i;
    uint32_t number = 0;
    for (; i < s.len; i++) {
        char d = s.ptr[i];
        int digit = d >= '0' && d <= '9'                        ? d - '0'
                    : hex && (d | 32) >= 'a' && (d | 32) <= 'f' ? (d | 32) - 'a' + 10
                                                                : -1;
        if (digit < 0) {
            break;
        }
        number = number > 0x10FFFF ? number : number * (hex ? 16 : 10) + (uint32_t)digit;
    }
    *c = referred(number);
    return i == start ? 0 : i + (i < s.len && s.ptr[i] == ';');
}

/* A character reference at s: its length and character (0: none), or 0. Of the names only those of XML, and nbsp. */
static size_t reference(struct str s, uint32_t *c)
{
    static const struct {
        const char *name;
        uint32_t c;
    } names[] = {{"&apos;", '\''}, {"&amp", '&'}, {"&lt", '<'}, {"&gt", '>'}, {"&quot", '"'},
                 {"&nbsp", 0xA0},  {"&AMP", '&'}, {"&LT", '<'}, {"&GT", '>'}, {"&QUOT", '"'}};
    if (str_starts(s, STR("&#"))) {
        return numeric_reference(s, c);
    }
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        size_t n = strlen(names[i].name);
        if (str_starts(s, str_of(names[i].name))) {
            *c = names[i].c;
            return n + (i > 0 && n < s.len && s.ptr[n] == ';');
        }
    }
    return 0;
}

static void put_unescaped(struct buf *b, struct str s)
{
    for (size_t i = 0, n; i < s.len; i += n) {
        uint32_t c = 0;
        char utf8[4];
        n = s.ptr[i] == '&' ? reference(str_slice(s, i, s.len), &c) : 0;
        if (!n) {
            n = 1;
            buf_putc(b, s.ptr[i]);
        } else if (c) {
            buf_append_bytes(b, utf8, utf8_encode(c, utf8));
        }
    }
}

BUILTIN(f_striptags)
{
    struct jval text, plain, words;
    UNUSED;
    if (!jinja__to_str(r, self, &text) || !jinja__charge_bytes(r, 4 * text.s.len)) {
        return false;
    }
    size_t mark = jinja__text_begin(r);
    put_without_tags(jinja__text(r), text.s);
    if (!jinja__text_end(r, mark, &plain) || !call_method(r, &plain, "split", NULL, 0, &words)) {
        return false;
    }
    for (size_t i = 0; i < words.list->n; i++) {
        buf_puts(jinja__text(r), i ? " " : "");
        put_unescaped(jinja__text(r), words.list->items[i].s);
    }
    return jinja__text_end(r, mark, out);
}

/* ---- numbers ---- */

BUILTIN(f_abs)
{
    UNUSED;
    if (self->type == J_FLOAT) {
        *out = jval_float(fabs(self->f));
        return true;
    }
    if (!jval_is_int(self)) {
        return jinja__fail(r, "bad operand type for abs(): '%s'", jinja__type_name(self));
    }
    *out = jval_int(jval_to_int(self));
    return out->i >= 0 || jinja__negate(r, true, self, out);
}

/* Digits of a number as Python writes them, underscores between digits removed; false when there is more than that. */
static bool plain_number(struct str s, char *out, size_t size)
{
    size_t n = 0;
    s = jinja__strip(s, (struct str){NULL, 0}, true, true);
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] == '_') {
            bool between = i > 0 && i + 1 < s.len && s.ptr[i - 1] != '_' && s.ptr[i + 1] != '_' &&
                           strchr("0123456789abcdefABCDEFxXoO", s.ptr[i - 1]) &&
                           strchr("0123456789abcdefABCDEF", s.ptr[i + 1]);
            if (!between) {
                return false;
            }
            continue;
        }
        if (n + 1 == size || s.ptr[i] == '\0' || jinja__is_space((unsigned char)s.ptr[i])) {
            return false;
        }
        out[n++] = s.ptr[i];
    }
    out[n] = '\0';
    return n > 0;
}

enum parsed { PARSED, NOT_A_NUMBER, TOO_BIG };

static enum parsed parse_int(struct str s, int64_t base, int64_t *out)
{
    char text[80], *end, *digits = text;
    bool ok = plain_number(s, text, sizeof text);
    digits += ok && (*digits == '-' || *digits == '+');
    char kind = ok && digits[0] == '0' ? (char)(digits[1] | 32) : '\0';
    int64_t prefix = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 0;
    if (prefix && (base == 0 || base == prefix)) {
        base = prefix;
        digits += 2;
    } else if (base == 0) {
        bool zeros = ok && digits[0] == '0' && strspn(digits, "0") != strlen(digits);
        ok = ok && !zeros;
        base = 10;
    }
    if (!ok || !*digits || *digits == '-' || *digits == '+' || strspn(digits, "xX") || base < 2 || base > 36) {
        return NOT_A_NUMBER;
    }
    unsigned long long v = strtoull(digits, &end, (int)base);
    if (*end) {
        return NOT_A_NUMBER;
    }
    bool minus = text[0] == '-';
    if (v > (unsigned long long)INT64_MAX + minus) {
        return TOO_BIG;
    }
    *out = minus ? (int64_t)(0 - v) : (int64_t)v;
    return PARSED;
}

static bool parse_float(struct str s, double *out)
{
    static const char *const words[] = {"inf", "infinity", "nan"};
    char text[400], *end;
    if (!plain_number(s, text, sizeof text)) {
        return false;
    }
    char *digits = text + (text[0] == '-' || text[0] == '+');
    bool word = false;
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        word |= str_eq_nocase(str_of(digits), str_of(words[i]));
    }
    if (!word && strspn(digits, "0123456789.eE+-") != strlen(digits)) {
        return false;
    }
    *out = strtod(text, &end);
    return *digits != '-' && *digits != '+' && *end == '\0' && end > text;
}

static bool float_to_int(struct render *r, double f, struct jval *out)
{
    if (f - f != 0) {
        return jinja__fail(r, "cannot convert float %s to integer", f != f ? "NaN" : "infinity");
    }
    if (!(fabs(f) < 9.2e18)) {
        return jinja__fail(r, "integer overflow: the result has more than 64 bits.");
    }
    *out = jval_int((int64_t)f);
    return true;
}

BUILTIN(f_int)
{
    struct jval fallback = arg[0].type == J_ABSENT ? jval_int(0) : arg[0];
    const int64_t no_base = 1; /* one that no number has: then only the reading as a float is left */
    int64_t base = arg[1].type == J_ABSENT ? 10 : jval_is_int(&arg[1]) ? jval_to_int(&arg[1]) : no_base, i = 0;
    double f;
    (void)raw;
    if (jval_is_int(self)) {
        *out = jval_int(jval_to_int(self));
        return true;
    }
    if (self->type == J_FLOAT && self->f == self->f) {
        return float_to_int(r, self->f, out);
    }
    if (self->type == J_UNDEFINED) {
        return jinja__fail_undefined(r, self);
    }
    if (self->type == J_STRING) {
        enum parsed parsed = parse_int(self->s, base, &i);
        if (!jinja__charge_bytes(r, 8 * self->s.len)) {
            return false;
        }
        if (parsed == TOO_BIG) {
            return jinja__fail(r, "integer overflow: the result has more than 64 bits.");
        }
        if (parsed == PARSED) {
            *out = jval_int(i);
            return true;
        }
        if (parse_float(self->s, &f) && f - f == 0) {
            return float_to_int(r, f, out);
        }
    }
    *out = fallback;
    return true;
}

BUILTIN(f_float)
{
    double f;
    (void)raw;
    if (self->type == J_UNDEFINED) {
        return jinja__fail_undefined(r, self);
    }
    if (self->type == J_STRING && !jinja__charge_bytes(r, 8 * self->s.len)) {
        return false;
    }
    if (jval_is_number(self)) {
        *out = jval_float(jval_to_float(self));
    } else if (self->type == J_STRING && parse_float(self->s, &f)) {
        *out = jval_float(f);
    } else {
        *out = arg[0].type == J_ABSENT ? jval_float(0) : arg[0];
    }
    return true;
}

/* Half to even on the decimal digits, as round() has it: printf rounds the exact value that way. */
static double round_float(double v, int64_t precision)
{
    char text[512];
    if (v - v != 0 || precision > 330) {
        return v;
    }
    if (precision >= 0) {
        snprintf(text, sizeof text, "%.*f", (int)precision, v);
        return strtod(text, NULL);
    }
    double unit = pow(10, (double)-precision);
    return precision < -308 ? copysign(0, v) : nearbyint(v / unit) * unit;
}

static bool round_int(struct render *r, int64_t v, int64_t precision, struct jval *out)
{
    int64_t unit = 1;
    for (; precision < 0 && unit <= INT64_MAX / 10; precision++) {
        unit *= 10;
    }
    *out = jval_int(v);
    if (precision < 0) {
        *out = jval_int(0);
        return true;
    }
    int64_t rest = v % unit, half = unit / 2;
    if (unit == 1 || rest == 0) {
        return true;
    }
    int64_t down = v - rest, away = rest < 0 ? -unit : unit, size = rest < 0 ? -rest : rest;
    bool odd = (down / unit) % 2 != 0;
    *out = jval_int(down);
    if (size > half || (size == half && odd)) {
        struct jval a = jval_int(down), b = jval_int(away);
        return jinja__arith(r, OP_ADD, &a, &b, out);
    }
    return true;
}

BUILTIN(f_round)
{
    int64_t precision;
    struct str method;
    struct jval ten = jval_int(10), factor, scaled;
    (void)raw;
    if (!jinja__arg_str(r, &arg[1], STR("common"), &method)) {
        return false;
    }
    bool ceiling = str_eq(method, STR("ceil")), common = str_eq(method, STR("common"));
    if (!ceiling && !common && !str_eq(method, STR("floor"))) {
        return jinja__fail(r, "method must be common, ceil or floor");
    }
    if (!jval_is_number(self)) {
        return jinja__fail(r, "type %s doesn't define __round__ method", jinja__type_name(self));
    }
    if (common) {
        if (!jinja__arg_int(r, &arg[0], 0, &precision)) {
            return false;
        }
        if (jval_is_int(self)) {
            return round_int(r, jval_to_int(self), precision, out);
        }
        *out = jval_float(round_float(self->f, precision));
        return true;
    }
    struct jval exponent = arg[0].type == J_ABSENT ? jval_int(0) : arg[0];
    if (!jinja__arith(r, OP_POW, &ten, &exponent, &factor) || !jinja__arith(r, OP_MUL, self, &factor, &scaled)) {
        return false;
    }
    double whole = ceiling ? ceil(jval_to_float(&scaled)) : floor(jval_to_float(&scaled));
    struct jval number;
    return float_to_int(r, whole, &number) && jinja__arith(r, OP_DIV, &number, &factor, out);
}

BUILTIN(f_filesizeformat)
{
    static const char prefixes[] = "kMGTPEZY";
    bool binary = jinja__arg_bool(&arg[0], false);
    double base = binary ? 1024 : 1000, bytes, unit = base;
    char text[64];
    size_t i = 0;
    struct jval number = jval_int(0);
    if (jval_is_number(self)) {
        bytes = jval_to_float(self);
    } else if (self->type != J_STRING || !parse_float(self->s, &bytes)) {
        return jinja__fail(r, "could not convert to float: '%s'", jinja__type_name(self));
    }
    (void)raw;
    if (bytes == 1) {
        snprintf(text, sizeof text, "1 Byte");
    } else if (bytes < base) {
        if (!float_to_int(r, bytes, &number)) {
            return false;
        }
        snprintf(text, sizeof text, "%lld Bytes", (long long)number.i);
    } else {
        for (unit = base * base; bytes >= unit && i < 7; i++) {
            unit *= base;
        }
        char prefix = prefixes[i] == 'k' && binary ? 'K' : prefixes[i];
        snprintf(text, sizeof text, "%.1f %c%s", base * bytes / unit, prefix, binary ? "iB" : "B");
    }
    return jinja__copy_string(r, str_of(text), out);
}

/* ---- others ---- */

BUILTIN(f_default)
{
    bool replaces = self->type == J_UNDEFINED || (jinja__arg_bool(&arg[1], false) && !jinja__truth(self));
    (void)r;
    (void)raw;
    *out = !replaces ? *self : arg[0].type == J_ABSENT ? jval_str(STR("")) : arg[0];
    return true;
}

BUILTIN(f_attr)
{
    bool found;
    struct str name;
    (void)raw;
    if (!jinja__arg_str(r, &arg[0], STR(""), &name) || !jinja__attribute(r, self, name, out, &found)) {
        return false;
    }
    return found || jinja__undefined(r, &(struct jundefined){.object = jinja__type_name(self), .name = arg[0]}, out);
}

BUILTIN(f_refused)
{
    (void)self;
    (void)out;
    UNUSED;
    return jinja__fail(r, "the filters pprint, random and urlize are not supported.");
}

const struct jbuiltin *jinja__find_filter(struct str name)
{
    static const struct jbuiltin filters[] = {
        {"abs", "/", f_abs},
        {"attr", "name", f_attr},
        {"capitalize", "", f_capitalize},
        {"center", "width?", f_center},
        {"d", "default_value? boolean?", f_default},
        {"default", "default_value? boolean?", f_default},
        {"e", "/", f_escape},
        {"escape", "/", f_escape},
        {"filesizeformat", "binary?", f_filesizeformat},
        {"float", "default?", f_float},
        {"forceescape", "", f_forceescape},
        {"format", "*", f_format},
        {"indent", "width? first? blank?", f_indent},
        {"int", "default? base?", f_int},
        {"lower", "", f_lower},
        {"pprint", "*", f_refused},
        {"random", "*", f_refused},
        {"replace", "old new count?", f_replace},
        {"round", "precision? method?", f_round},
        {"safe", "", f_safe},
        {"string", "", f_string},
        {"striptags", "", f_striptags},
        {"title", "", f_title},
        {"tojson", "ensure_ascii? indent? separators? sort_keys?", jinja__tojson},
        {"trim", "chars?", f_trim},
        {"truncate", "length? killwords? end? leeway?", f_truncate},
        {"upper", "", f_upper},
        {"urlencode", "", f_urlencode},
        {"urlize", "*", f_refused},
        {"wordcount", "", f_wordcount},
        {"wordwrap", "width? break_long_words? wrapstring? break_on_hyphens?", jinja__wordwrap},
        {"xmlattr", "autospace?", f_xmlattr},
        {NULL, NULL, NULL},
    };
    const struct jbuiltin *found = jinja__find_in(filters, name);
    return found ? found : jinja__find_in(jinja__sequence_filters, name);
}
