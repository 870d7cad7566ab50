/* Numbers and padding as format specifications of str.format and conversions of the % operator ask for them. Digits are
 * those of printf; notation, separators and signs follow Python's format mini-language. */
#include "base/utf8.h"
#include "chat/jinja_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

struct number_text {
    char sign;
    const char *prefix;
    char digits[512]; /* a double has at most 309 digits before the point, JINJA_MAX_PRECISION after it */
    size_t n, n_whole;
};

static void fill_with(struct buf *b, uint32_t c, int64_t n)
{
    char utf8[4];
    size_t size = utf8_encode(c, utf8);
    for (int64_t i = 0; i < n; i++) {
        buf_append_bytes(b, utf8, size);
    }
}

bool jinja__pad(struct render *r, struct str text, const struct jspec *spec, char default_align)
{
    int64_t missing = spec->width - (int64_t)jinja__n_chars(text);
    char align = spec->align ? spec->align : default_align;
    missing = missing < 0 ? 0 : missing;
    int64_t left = align == '<' ? 0 : align == '^' ? missing / 2 : missing;
    fill_with(jinja__text(r), spec->fill, left);
    buf_append(jinja__text(r), text);
    fill_with(jinja__text(r), spec->fill, missing - left);
    return jinja__charge_bytes(r, (size_t)missing + text.len);
}

/* The digits with separators; zeros in front, which are grouped too, until there are `width` characters. */
static void put_grouped(struct buf *b, const struct number_text *t, const struct jspec *spec, int64_t width)
{
    size_t group = spec->grouping == '_' && strchr("box", spec->type | 32) && spec->type ? 4 : 3;
    int64_t rest = width - (int64_t)(t->n - t->n_whole); /* for the whole part */
    size_t whole = t->n_whole;
    if (spec->grouping && t->n_whole) {
        while ((int64_t)(whole + (whole - 1) / group) < rest) {
            whole++;
        }
    }
    for (size_t left = whole; left > 0; left--) {
        buf_putc(b, left > t->n_whole ? '0' : t->digits[t->n_whole - left]);
        if (spec->grouping && left > 1 && (left - 1) % group == 0) {
            buf_putc(b, spec->grouping);
        }
    }
    buf_append_bytes(b, t->digits + t->n_whole, t->n - t->n_whole);
}

static bool put_number(struct render *r, const struct number_text *t, const struct jspec *spec)
{
    char sign[4];
    size_t mark = jinja__text_begin(r);
    struct jspec s = *spec;
    struct jval text;
    struct buf *b = jinja__text(r);
    snprintf(sign, sizeof sign, "%s%s", t->sign ? (char[2]){t->sign, '\0'} : "", t->prefix);
    if (s.zero && !s.align) {
        s.fill = '0';
        s.align = '=';
    }
    if (s.align == '=') {
        s.width -= (int64_t)strlen(sign);
        put_grouped(b, t, &s, s.fill == '0' ? s.width : 0);
        if (!jinja__text_end(r, mark, &text)) {
            return false;
        }
        buf_puts(jinja__text(r), sign);
        s.align = '>';
        return jinja__pad(r, text.s, &s, '>');
    }
    buf_puts(b, sign);
    put_grouped(b, t, &s, 0);
    return jinja__text_end(r, mark, &text) && jinja__pad(r, text.s, &s, '>');
}

static char sign_of(bool negative, const struct jspec *spec)
{
    return negative ? '-' : spec->sign == '+' || spec->sign == ' ' ? spec->sign : '\0';
}

static bool format_int(struct render *r, int64_t v, const struct jspec *spec)
{
    struct number_text t = {.sign = sign_of(v < 0, spec), .prefix = ""};
    uint64_t left = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
    char kind = (char)(spec->type | 32), reversed[80];
    unsigned base = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 10;
    const char *names = spec->type == 'X' ? "0123456789ABCDEF" : "0123456789abcdef";
    size_t n = 0;
    do {
        reversed[n++] = names[left % base];
        left /= base;
    } while (left);
    size_t zeros = spec->precision > (int64_t)n ? (size_t)spec->precision - n : 0;
    memset(t.digits, '0', zeros);
    for (size_t i = 0; i < n; i++) {
        t.digits[zeros + i] = reversed[n - 1 - i];
    }
    t.n = t.n_whole = zeros + n;
    if (spec->alternate && base != 10) {
        t.prefix = spec->type == 'X' ? "0X" : base == 16 ? "0x" : base == 8 ? "0o" : "0b";
    }
    return put_number(r, &t, spec);
}

/* As "%.*g" with this precision, in the notation with an exponent from 10 to the power of `limit`. */
static void general_digits(struct number_text *t, double v, const struct jspec *spec, int precision, long limit)
{
    snprintf(t->digits, sizeof t->digits, "%.*e", precision - 1, v);
    char *e = strchr(t->digits, 'e');
    long exponent = e ? strtol(e + 1, NULL, 10) : 0;
    char tail[8] = "";
    if (!e) { /* inf or nan */
        return;
    }
    if (exponent >= -4 && exponent < limit) {
        snprintf(t->digits, sizeof t->digits, "%.*f", (int)(precision - 1 - exponent), v);
    } else {
        snprintf(tail, sizeof tail, "%s", e);
        *e = '\0';
    }
    size_t n = strlen(t->digits);
    if (!spec->alternate && strchr(t->digits, '.')) {
        while (t->digits[n - 1] == '0') {
            n--;
        }
        n -= t->digits[n - 1] == '.';
    }
    memcpy(t->digits + n, tail, sizeof tail);
    if (!spec->type && !tail[0] && !strchr(t->digits, '.')) {
        memcpy(t->digits + n, ".0", sizeof ".0");
    }
}

static void upper_case(char *s)
{
    for (; *s; s++) {
        *s = (char)(*s >= 'a' && *s <= 'z' ? *s ^ 0x20 : *s);
    }
}

static void float_digits(struct number_text *t, double v, const struct jspec *spec)
{
    char text[JINJA_FLOAT_SIZE];
    int precision = spec->precision < 0 ? 6 : (int)spec->precision, general = precision ? precision : 1;
    switch (spec->type) {
    case 'e':
    case 'E':
        snprintf(t->digits, sizeof t->digits, "%.*e", precision, v);
        break;
    case 'f':
    case 'F':
    case '%':
        snprintf(t->digits, sizeof t->digits, "%.*f%s", precision, v, spec->type == '%' ? "%" : "");
        break;
    case '\0':
        if (spec->precision < 0) {
            snprintf(t->digits, sizeof t->digits, STR_FMT, STR_ARG(jinja__float_text(v, text)));
        } else { /* a digit stands behind the point: the exponent comes one digit earlier */
            general_digits(t, v, spec, general, general - 1);
        }
        break;
    default: /* g, G, n */
        general_digits(t, v, spec, general, general);
        break;
    }
    if (spec->type >= 'E' && spec->type <= 'G') {
        upper_case(t->digits);
    }
}

static bool format_float(struct render *r, double v, const struct jspec *spec)
{
    struct number_text t = {.sign = sign_of(signbit(v) && v == v, spec), .prefix = ""};
    v = spec->type == '%' ? fabs(v) * 100 : fabs(v);
    float_digits(&t, v, spec);
    t.n = strlen(t.digits);
    if (!jinja__charge(r, JINJA_FLOAT_STEPS + t.n / 8)) {
        return false;
    }
    t.n_whole = strspn(t.digits, "0123456789");
    if (spec->alternate && t.n_whole && t.digits[t.n_whole] != '.') { /* a point even without digits behind it */
        memmove(t.digits + t.n_whole + 1, t.digits + t.n_whole, t.n - t.n_whole);
        t.digits[t.n_whole] = '.';
        t.n++;
    }
    return put_number(r, &t, spec);
}

bool jinja__format_number(struct render *r, const struct jval *v, const struct jspec *spec)
{
    char utf8[4];
    bool as_int = !spec->type || strchr("dboxXn", spec->type);
    if (spec->type == 'c') {
        int64_t c = jval_is_int(v) ? jval_to_int(v) : -1;
        size_t n = c >= 0 && c <= 0x10FFFF ? utf8_encode((uint32_t)c, utf8) : 0;
        return n ? jinja__pad(r, (struct str){utf8, n}, spec, '<') : jinja__fail(r, "%%c arg not in range(0x110000)");
    }
    if (jval_is_int(v) && as_int) {
        return format_int(r, jval_to_int(v), spec);
    }
    if (spec->type && !strchr("eEfFgGn%", spec->type)) {
        return jinja__fail(r, "Unknown format code '%c' for object of type '%s'", spec->type, jinja__type_name(v));
    }
    return format_float(r, jval_to_float(v), spec);
}
