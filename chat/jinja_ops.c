/* Operators as Python has them: floor division, modulo with the divisor's sign, sequences that add and multiply.
 * Integers have 64 bits; what would not fit is an error. */
#include "chat/jinja_internal.h"

#include <math.h>

static bool overflow(struct render *r)
{
    return jinja__fail(r, "integer overflow: the result has more than 64 bits.");
}

static bool bad_operands(struct render *r, const char *op, const struct jval *a, const struct jval *b)
{
    if (a->type == J_UNDEFINED || b->type == J_UNDEFINED) {
        return jinja__fail_undefined(r, a->type == J_UNDEFINED ? a : b);
    }
    return jinja__fail(r, "unsupported operand type(s) for %s: '%s' and '%s'", op, jinja__type_name(a),
                       jinja__type_name(b));
}

static bool zero_division(struct render *r)
{
    return jinja__fail(r, "division by zero");
}

/* ---- integers ---- */

static bool int_floordiv(struct render *r, int64_t a, int64_t b, int64_t *quotient, int64_t *remainder)
{
    if (b == 0) {
        return zero_division(r);
    }
    if (a == INT64_MIN && b == -1) {
        *remainder = 0;
        *quotient = 0;
        return overflow(r);
    }
    *quotient = a / b;
    *remainder = a % b;
    if (*remainder != 0 && (*remainder < 0) != (b < 0)) {
        *quotient -= 1;
        *remainder += b;
    }
    return true;
}

static bool int_pow(struct render *r, int64_t base, int64_t exponent, struct jval *out)
{
    int64_t result = 1;
    if (exponent < 0) {
        if (base == 0) {
            return jinja__fail(r, "0.0 cannot be raised to a negative power");
        }
        *out = jval_float(pow((double)base, (double)exponent));
        return true;
    }
    if (base == 0 || base == 1 || base == -1) {
        *out = jval_int(exponent == 0 ? 1 : base == -1 && exponent % 2 == 0 ? 1 : base);
        return true;
    }
    for (; exponent > 0; exponent--) { /* at most 63 turns: the base is at least 2 */
        if (__builtin_mul_overflow(result, base, &result)) {
            return overflow(r);
        }
    }
    *out = jval_int(result);
    return true;
}

static bool int_arith(struct render *r, enum jop op, int64_t a, int64_t b, struct jval *out)
{
    int64_t v = 0, other;
    switch (op) {
    case OP_ADD:
        if (__builtin_add_overflow(a, b, &v)) {
            return overflow(r);
        }
        break;
    case OP_SUB:
        if (__builtin_sub_overflow(a, b, &v)) {
            return overflow(r);
        }
        break;
    case OP_MUL:
        if (__builtin_mul_overflow(a, b, &v)) {
            return overflow(r);
        }
        break;
    case OP_FLOORDIV:
        if (!int_floordiv(r, a, b, &v, &other)) {
            return false;
        }
        break;
    case OP_MOD:
        if (b == -1) {
            break; /* 0, also where the quotient would overflow */
        }
        if (!int_floordiv(r, a, b, &other, &v)) {
            return false;
        }
        break;
    case OP_DIV:
        if (b == 0) {
            return zero_division(r);
        }
        *out = jval_float((double)a / (double)b);
        return true;
    default:
        return int_pow(r, a, b, out);
    }
    *out = jval_int(v);
    return true;
}

/* ---- floats ---- */

/* Quotient and remainder as CPython's float_divmod computes them. */
static void float_divmod(double a, double b, double *quotient, double *remainder)
{
    double mod = fmod(a, b), div = (a - mod) / b;
    if (mod != 0) {
        if ((b < 0) != (mod < 0)) {
            mod += b;
            div -= 1;
        }
    } else {
        mod = copysign(0, b);
    }
    if (div != 0) {
        double whole = floor(div);
        *quotient = div - whole > 0.5 ? whole + 1 : whole;
    } else {
        *quotient = copysign(0, a / b);
    }
    *remainder = mod;
}

static bool float_pow(struct render *r, double a, double b, struct jval *out)
{
    if (a == 0 && b < 0) {
        return jinja__fail(r, "0.0 cannot be raised to a negative power");
    }
    if (a < 0 && b != floor(b) && a - a == 0 && b - b == 0) {
        return jinja__fail(r, "complex numbers are not supported.");
    }
    double v = pow(a, b);
    if (v - v != 0 && a - a == 0 && b - b == 0) {
        return jinja__fail(r, "(34, 'Numerical result out of range')");
    }
    *out = jval_float(v);
    return true;
}

static bool float_arith(struct render *r, enum jop op, double a, double b, struct jval *out)
{
    double quotient, remainder;
    if (b == 0 && (op == OP_DIV || op == OP_FLOORDIV || op == OP_MOD)) {
        return zero_division(r);
    }
    switch (op) {
    case OP_ADD:
        *out = jval_float(a + b);
        return true;
    case OP_SUB:
        *out = jval_float(a - b);
        return true;
    case OP_MUL:
        *out = jval_float(a * b);
        return true;
    case OP_DIV:
        *out = jval_float(a / b);
        return true;
    case OP_POW:
        return float_pow(r, a, b, out);
    default:
        float_divmod(a, b, &quotient, &remainder);
        *out = jval_float(op == OP_MOD ? remainder : quotient);
        return true;
    }
}

/* ---- sequences ---- */

static bool add_strings(struct render *r, const struct jval *a, const struct jval *b, struct jval *out)
{
    if (!a->markup && !b->markup) {
        return jinja__concat(r, a->s, b->s, out);
    }
    struct jval x, y;
    bool ok = jinja__escape(r, a, &x) && jinja__escape(r, b, &y) && jinja__concat(r, x.s, y.s, out);
    out->markup = true;
    return ok;
}

static bool add_lists(struct render *r, const struct jval *a, const struct jval *b, struct jval *out)
{
    size_t n = a->list->n + b->list->n;
    struct jlist_builder items = {.items = jinja__alloc(r, n + 1, sizeof *items.items), .n = n};
    if (!items.items || !jinja__charge(r, n)) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        items.items[i] = i < a->list->n ? a->list->items[i] : b->list->items[i - a->list->n];
    }
    return jinja__list(r, &items, (enum jtype)a->type, out);
}

static bool repeat_string(struct render *r, const struct jval *s, size_t times, struct jval *out)
{
    if (s->s.len && times > r->max_output / s->s.len) {
        return error_set(r->err, ERR_TOO_LARGE, "template line %u: a string has more than %zu bytes.", r->line,
                         r->max_output);
    }
    size_t len = s->s.len * times;
    char *text = jinja__charge(r, len / 32 + (s->s.len > 1 ? times / 8 : 0)) ? jinja__alloc(r, len + 1, 1) : NULL;
    if (!text) {
        return false;
    }
    if (s->s.len == 1) {
        memset(text, s->s.ptr[0], len);
    }
    for (size_t i = 0; s->s.len > 1 && i < len; i += s->s.len) {
        memcpy(text + i, s->s.ptr, s->s.len);
    }
    *out = jval_str((struct str){text, len});
    out->markup = s->markup;
    return true;
}

static bool repeat_list(struct render *r, const struct jval *v, size_t times, struct jval *out)
{
    size_t n;
    if (__builtin_mul_overflow(v->list->n, times, &n)) {
        return error_set(r->err, ERR_TOO_LARGE, "template line %u: the list is too long.", r->line);
    }
    struct jlist_builder items = {.n = n};
    if (!jinja__charge(r, n) || !(items.items = jinja__alloc(r, n ? n : 1, sizeof *items.items))) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        items.items[i] = v->list->items[i % v->list->n];
    }
    return jinja__list(r, &items, (enum jtype)v->type, out);
}

static bool multiply_sequence(struct render *r, const struct jval *a, const struct jval *b, struct jval *out)
{
    const struct jval *seq = jval_is_int(b) ? a : b, *times = jval_is_int(b) ? b : a;
    int64_t n = jval_to_int(times);
    n = n < 0 ? 0 : n;
    return seq->type == J_STRING ? repeat_string(r, seq, (size_t)n, out) : repeat_list(r, seq, (size_t)n, out);
}

static bool multiplies(const struct jval *seq, const struct jval *times)
{
    return (seq->type == J_STRING || jval_is_sequence(seq)) && jval_is_int(times);
}

bool jinja__arith(struct render *r, enum jop op, const struct jval *a, const struct jval *b, struct jval *out)
{
    static const char *const names[] = {"+", "-", "*", "/", "//", "%", "** or pow()"};
    if (jval_is_int(a) && jval_is_int(b)) {
        return int_arith(r, op, jval_to_int(a), jval_to_int(b), out);
    }
    if (jval_is_number(a) && jval_is_number(b)) {
        return float_arith(r, op, jval_to_float(a), jval_to_float(b), out);
    }
    if (op == OP_ADD && a->type == J_STRING && b->type == J_STRING) {
        return add_strings(r, a, b, out);
    }
    if (op == OP_ADD && jval_is_sequence(a) && a->type == b->type) {
        return add_lists(r, a, b, out);
    }
    if (op == OP_MUL && (multiplies(a, b) || multiplies(b, a))) {
        return multiply_sequence(r, a, b, out);
    }
    if (op == OP_MOD && a->type == J_STRING) {
        return jinja__percent(r, a, b, out);
    }
    return bad_operands(r, names[op], a, b);
}

bool jinja__negate(struct render *r, bool minus, const struct jval *v, struct jval *out)
{
    int64_t i;
    if (v->type == J_FLOAT) {
        *out = jval_float(minus ? -v->f : v->f);
        return true;
    }
    if (!jval_is_int(v)) {
        return v->type == J_UNDEFINED
                   ? jinja__fail_undefined(r, v)
                   : jinja__fail(r, "bad operand type for unary %c: '%s'", minus ? '-' : '+', jinja__type_name(v));
    }
    if (__builtin_sub_overflow(0, jval_to_int(v), &i)) {
        return overflow(r);
    }
    *out = jval_int(minus ? i : jval_to_int(v));
    return true;
}

bool jinja__compare(struct render *r, enum jop op, const struct jval *a, const struct jval *b, bool *out)
{
    bool ok, nan = (a->type == J_FLOAT && a->f != a->f) || (b->type == J_FLOAT && b->f != b->f);
    *out = false;
    switch (op) {
    case OP_EQ:
    case OP_NE:
        ok = jinja__equal(r, a, b, 0, out);
        *out = (op == OP_EQ) == *out;
        return ok;
    case OP_LT:
        return jinja__less(r, a, b, 0, out);
    case OP_GT:
        return jinja__less(r, b, a, 0, out);
    case OP_LE:
    case OP_GE:
        ok = op == OP_LE ? jinja__less(r, b, a, 0, out) : jinja__less(r, a, b, 0, out);
        *out = !*out && !(nan && jval_is_number(a) && jval_is_number(b));
        return ok;
    default:
        ok = jinja__contains(r, b, a, out);
        *out = (op == OP_IN) == *out;
        return ok;
    }
}
