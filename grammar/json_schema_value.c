/* Exact numbers and equality. A number is compared as the decimal that was written: doubles would call 0.3 no multiple
 * of 0.1, and two long integers equal. */
#include "grammar/json_schema_internal.h"

#include "base/utf8.h"

#include <stdlib.h>

#define EXPONENT_MAX ((int64_t)1 << 50) /* beyond this it stays: no JSON text has that many digits */

static int digit_at(const struct decimal *d, size_t i)
{
    return d->digits[i < d->dot ? i : i + 1] - '0';
}

static int64_t exponent_of(struct str s) /* "e-12" */
{
    int64_t value = 0;
    bool negative = s.len > 1 && s.ptr[1] == '-';
    for (size_t i = 1; i < s.len; i++) {
        if (s.ptr[i] >= '0' && s.ptr[i] <= '9' && value < EXPONENT_MAX) {
            value = value * 10 + (s.ptr[i] - '0');
        }
    }
    return negative ? -value : value;
}

struct decimal json_schema__decimal(struct str number)
{
    struct decimal d = {.negative = number.len && number.ptr[0] == '-'};
    struct str s = str_slice(number, d.negative, number.len);
    size_t end = 0;
    while (end < s.len && s.ptr[end] != 'e' && s.ptr[end] != 'E') {
        end++;
    }
    int64_t exponent = exponent_of(str_slice(s, end, s.len));
    s = str_slice(s, 0, end);
    size_t dot = str_find_char(s, '.');
    size_t whole = dot == STR_NPOS ? s.len : dot, first = 0;
    while (first < s.len && (s.ptr[first] == '0' || s.ptr[first] == '.')) {
        first++;
    }
    while (s.len > first && (s.ptr[s.len - 1] == '0' || s.ptr[s.len - 1] == '.')) {
        s.len--;
    }
    if (first == s.len) {
        return (struct decimal){0};
    }
    bool inside = first < whole && whole < s.len;
    d.digits = s.ptr + first;
    d.n = s.len - first - inside;
    d.dot = inside ? whole - first : d.n;
    d.exponent = exponent + (first < whole ? (int64_t)(whole - first) : -(int64_t)(first - whole - 1));
    return d;
}

static int magnitude_cmp(const struct decimal *a, const struct decimal *b)
{
    if (a->n == 0 || b->n == 0) {
        return (a->n > 0) - (b->n > 0);
    }
    if (a->exponent != b->exponent) {
        return a->exponent < b->exponent ? -1 : 1;
    }
    for (size_t i = 0; i < a->n && i < b->n; i++) {
        if (digit_at(a, i) != digit_at(b, i)) {
            return digit_at(a, i) - digit_at(b, i);
        }
    }
    return (a->n > b->n) - (a->n < b->n);
}

int json_schema__decimal_cmp(const struct decimal *a, const struct decimal *b)
{
    if (a->negative != b->negative) {
        return a->negative ? -1 : 1;
    }
    return a->negative ? magnitude_cmp(b, a) : magnitude_cmp(a, b);
}

bool json_schema__decimal_is_integer(const struct decimal *d)
{
    return d->n == 0 || d->exponent >= (int64_t)d->n;
}

size_t json_schema__decimal_to_count(const struct decimal *d)
{
    size_t value = 0;
    if (d->n == 0) {
        return 0;
    }
    if (d->exponent > DECIMAL_DIVISOR) {
        return SIZE_MAX;
    }
    for (int64_t i = 0; i < d->exponent; i++) {
        value = value * 10 + (i < (int64_t)d->n ? (size_t)digit_at(d, (size_t)i) : 0);
    }
    return value;
}

/* With value = A * 10^p and divisor = B * 10^q, A and B integers that do not end in 0: for p < q A would have to. */
bool json_schema__decimal_is_multiple(const struct decimal *value, const struct decimal *divisor)
{
    uint64_t b = 0, rest = 0;
    if (value->n == 0) {
        return true;
    }
    int64_t zeros = (value->exponent - (int64_t)value->n) - (divisor->exponent - (int64_t)divisor->n);
    if (zeros < 0) {
        return false;
    }
    for (size_t i = 0; i < divisor->n; i++) {
        b = b * 10 + (uint64_t)digit_at(divisor, i);
    }
    for (size_t i = 0; i < value->n; i++) {
        rest = (rest * 10 + (uint64_t)digit_at(value, i)) % b;
    }
    /* b has fewer than 64 factors of 2 and of 5: more zeros than that change nothing. */
    for (int64_t i = 0; i < zeros && i < 64 && rest; i++) {
        rest = rest * 10 % b;
    }
    return rest == 0;
}

enum json_type json_schema__type(const struct subject *v)
{
    enum json_type type = v->is_name ? JSON_STRING : json_type(v->value);
    if (type == JSON_DOUBLE) {
        struct decimal d = json_schema__decimal(json_number_text(v->value));
        return json_schema__decimal_is_integer(&d) ? JSON_INT : JSON_DOUBLE;
    }
    return type;
}

struct str json_schema__text(const struct subject *v)
{
    return v->is_name ? v->name : json_str(v->value);
}

/* ---- the canonical form: a letter for the type, then what can be read in one way only ---- */

struct sorted {
    struct str key;
    const struct json *value;
};

static int by_key(const void *a, const void *b)
{
    return str_cmp(((const struct sorted *)a)->key, ((const struct sorted *)b)->key);
}

static void put_text(struct buf *out, struct str s)
{
    buf_putc(out, 's');
    buf_put_uint(out, s.len);
    buf_putc(out, ':');
    buf_append(out, s);
}

/* A number without a text: the tree found no memory to make it. */
static bool no_text(struct error *err)
{
    return error_set(err, ERR_NO_MEMORY, "no memory for the text of a number.");
}

static bool put_number(struct buf *out, struct str text, struct error *err)
{
    struct decimal d = json_schema__decimal(text);
    buf_puts(out, d.negative ? "-" : "+");
    for (size_t i = 0; i < d.n; i++) {
        buf_putc(out, (char)('0' + digit_at(&d, i)));
    }
    buf_printf(out, "e%lld;", (long long)d.exponent);
    return text.len || no_text(err);
}

static bool put_value(struct buf *out, const struct json *v, int depth, struct error *err);

static bool put_object(struct buf *out, const struct json *v, int depth, struct error *err)
{
    size_t n = json_len(v), i = 0;
    struct sorted *members = calloc(n ? n : 1, sizeof *members);
    bool ok = members != NULL;
    if (!ok) {
        return error_set(err, ERR_NO_MEMORY, "no memory to compare an object of %zu members.", n);
    }
    for (struct json_iter it = json_members(v); i < n && json_next(&it); i++) {
        members[i] = (struct sorted){it.key, it.value};
    }
    qsort(members, n, sizeof *members, by_key);
    buf_putc(out, '{');
    for (i = 0; i < n && ok; i++) {
        put_text(out, members[i].key);
        ok = put_value(out, members[i].value, depth, err);
    }
    buf_putc(out, '}');
    free(members);
    return ok;
}

static bool put_value(struct buf *out, const struct json *v, int depth, struct error *err)
{
    bool ok = true;
    if (depth >= LIMIT_SCHEMA_DEPTH) {
        return error_set(err, ERR_TOO_LARGE, "a value to compare is nested deeper than %d.", LIMIT_SCHEMA_DEPTH);
    }
    switch (json_type(v)) {
    case JSON_NULL:
        buf_putc(out, 'n');
        break;
    case JSON_BOOL:
        buf_putc(out, json_bool(v) ? 't' : 'f');
        break;
    case JSON_INT:
    case JSON_DOUBLE:
        ok = put_number(out, json_number_text(v), err);
        break;
    case JSON_STRING:
        put_text(out, json_str(v));
        break;
    case JSON_ARRAY:
        buf_putc(out, '[');
        for (size_t i = 0; i < json_len(v) && ok; i++) {
            ok = put_value(out, json_at(v, i), depth + 1, err);
        }
        buf_putc(out, ']');
        break;
    case JSON_OBJECT:
        ok = put_object(out, v, depth + 1, err);
        break;
    }
    return ok;
}

bool json_schema__canonical(struct buf *out, const struct subject *v, struct error *err)
{
    if (v->is_name) {
        put_text(out, v->name);
    } else if (!put_value(out, v->value, 0, err)) {
        return false;
    }
    return buf_ok(out, "a value to compare", err);
}

/* ---- for messages ---- */

#define SHOWN_TEXT 60

static void put_shown(struct buf *out, struct str json, size_t max)
{
    size_t cut = json.len <= max ? json.len : utf8_cut(json, max);
    buf_append(out, str_slice(json, 0, cut));
    if (cut < json.len) {
        buf_puts(out, "...");
    }
}

void json_schema__show(struct buf *out, const struct json *v, size_t max)
{
    struct buf text;
    buf_init(&text, LIMIT_SCHEMA_SIZE * 8);
    json_print(&text, v);
    put_shown(out, buf_view(&text), max);
    buf_release(&text);
}

void json_schema__describe(struct buf *out, const struct subject *v)
{
    enum json_type type = v->is_name ? JSON_STRING : json_type(v->value);
    struct buf quoted;
    struct str text;
    switch (type) {
    case JSON_NULL:
        buf_puts(out, "null");
        break;
    case JSON_BOOL:
        buf_puts(out, json_bool(v->value) ? "true" : "false");
        break;
    case JSON_INT:
    case JSON_DOUBLE:
        buf_puts(out, "the number ");
        put_shown(out, json_number_text(v->value), SHOWN_TEXT);
        break;
    case JSON_STRING:
        text = json_schema__text(v);
        buf_init(&quoted, 8 * SHOWN_TEXT);
        json_quote(&quoted, str_slice(text, 0, text.len <= SHOWN_TEXT ? text.len : utf8_cut(text, SHOWN_TEXT)));
        buf_puts(out, "the string ");
        buf_append(out, buf_view(&quoted));
        buf_puts(out, text.len > SHOWN_TEXT ? "..." : "");
        buf_release(&quoted);
        break;
    case JSON_ARRAY:
    case JSON_OBJECT:
        buf_printf(out, "an %s", json_type_name(type));
        break;
    }
}
