/* The tests of jinja2: what may follow "is". */
#include "chat/jinja_internal.h"

BUILTIN(is_defined)
{
    UNUSED;
    *out = jval_bool(self->type != J_UNDEFINED);
    return true;
}

BUILTIN(is_undefined)
{
    UNUSED;
    *out = jval_bool(self->type == J_UNDEFINED);
    return true;
}

BUILTIN(is_none)
{
    UNUSED;
    *out = jval_bool(self->type == J_NONE);
    return true;
}

BUILTIN(is_boolean)
{
    UNUSED;
    *out = jval_bool(self->type == J_BOOL);
    return true;
}

BUILTIN(is_true)
{
    UNUSED;
    *out = jval_bool(self->type == J_BOOL && self->b);
    return true;
}

BUILTIN(is_false)
{
    UNUSED;
    *out = jval_bool(self->type == J_BOOL && !self->b);
    return true;
}

BUILTIN(is_integer)
{
    UNUSED;
    *out = jval_bool(self->type == J_INT);
    return true;
}

BUILTIN(is_float)
{
    UNUSED;
    *out = jval_bool(self->type == J_FLOAT);
    return true;
}

BUILTIN(is_number)
{
    UNUSED;
    *out = jval_bool(jval_is_number(self));
    return true;
}

BUILTIN(is_string)
{
    UNUSED;
    *out = jval_bool(self->type == J_STRING);
    return true;
}

BUILTIN(is_mapping)
{
    UNUSED;
    *out = jval_bool(self->type == J_DICT);
    return true;
}

BUILTIN(is_sequence)
{
    UNUSED;
    *out = jval_bool(self->type == J_STRING || jval_is_sequence(self) || self->type == J_DICT ||
                     self->type == J_RANGE || self->type == J_UNDEFINED);
    return true;
}

BUILTIN(is_iterable)
{
    UNUSED;
    *out = jval_bool(jinja__iterable(self));
    return true;
}

BUILTIN(is_callable)
{
    UNUSED;
    *out = jval_bool(self->type == J_FUNCTION || self->type == J_METHOD || self->type == J_MACRO ||
                     self->type == J_JOINER || self->type == J_LOOP || self->type == J_UNDEFINED);
    return true;
}

BUILTIN(is_escaped)
{
    UNUSED;
    *out = jval_bool(self->type == J_STRING && self->markup);
    return true;
}

BUILTIN(is_sameas)
{
    (void)r;
    (void)raw;
    *out = jval_bool(jinja__same(self, &arg[0]));
    return true;
}

static bool remainder_is(struct render *r, const struct jval *v, const struct jval *divisor, int64_t wanted,
                         struct jval *out)
{
    struct jval rest, want = jval_int(wanted);
    bool same;
    if (!jinja__arith(r, OP_MOD, v, divisor, &rest) || !jinja__equal(r, &rest, &want, 0, &same)) {
        return false;
    }
    *out = jval_bool(same);
    return true;
}

BUILTIN(is_odd)
{
    struct jval two = jval_int(2);
    UNUSED;
    return remainder_is(r, self, &two, 1, out);
}

BUILTIN(is_even)
{
    struct jval two = jval_int(2);
    UNUSED;
    return remainder_is(r, self, &two, 0, out);
}

BUILTIN(is_divisibleby)
{
    (void)raw;
    return remainder_is(r, self, &arg[0], 0, out);
}

static bool has_case(struct render *r, const struct jval *v, const char *method, struct jval *out)
{
    struct jval text, bound;
    return jinja__to_str(r, v, &text) && jinja__getattr(r, &text, str_of(method), &bound) &&
           jinja__call(r, &bound, &(struct jargs){0}, out);
}

BUILTIN(is_lower)
{
    UNUSED;
    return has_case(r, self, "islower", out);
}

BUILTIN(is_upper)
{
    UNUSED;
    return has_case(r, self, "isupper", out);
}

BUILTIN(is_filter)
{
    UNUSED;
    *out = jval_bool(self->type == J_STRING && jinja__find_filter(self->s));
    return true;
}

BUILTIN(is_test)
{
    UNUSED;
    *out = jval_bool(self->type == J_STRING && jinja__find_test(self->s));
    return true;
}

static bool compare(struct render *r, enum jop op, const struct jval *a, const struct jval *b, struct jval *out)
{
    bool holds;
    if (!jinja__compare(r, op, a, b, &holds)) {
        return false;
    }
    *out = jval_bool(holds);
    return true;
}

BUILTIN(is_eq)
{
    (void)raw;
    return compare(r, OP_EQ, self, &arg[0], out);
}

BUILTIN(is_ne)
{
    (void)raw;
    return compare(r, OP_NE, self, &arg[0], out);
}

BUILTIN(is_lt)
{
    (void)raw;
    return compare(r, OP_LT, self, &arg[0], out);
}

BUILTIN(is_le)
{
    (void)raw;
    return compare(r, OP_LE, self, &arg[0], out);
}

BUILTIN(is_gt)
{
    (void)raw;
    return compare(r, OP_GT, self, &arg[0], out);
}

BUILTIN(is_ge)
{
    (void)raw;
    return compare(r, OP_GE, self, &arg[0], out);
}

BUILTIN(is_in)
{
    (void)raw;
    return compare(r, OP_IN, self, &arg[0], out);
}

const struct jbuiltin *jinja__find_test(struct str name)
{
    static const struct jbuiltin tests[] = {{"defined", "", is_defined},
                                            {"undefined", "", is_undefined},
                                            {"none", "", is_none},
                                            {"boolean", "", is_boolean},
                                            {"true", "", is_true},
                                            {"false", "", is_false},
                                            {"integer", "", is_integer},
                                            {"float", "", is_float},
                                            {"number", "", is_number},
                                            {"string", "", is_string},
                                            {"mapping", "", is_mapping},
                                            {"sequence", "", is_sequence},
                                            {"iterable", "", is_iterable},
                                            {"callable", "/", is_callable},
                                            {"escaped", "", is_escaped},
                                            {"sameas", "other", is_sameas},
                                            {"odd", "", is_odd},
                                            {"even", "", is_even},
                                            {"divisibleby", "num", is_divisibleby},
                                            {"lower", "", is_lower},
                                            {"upper", "", is_upper},
                                            {"filter", "", is_filter},
                                            {"test", "", is_test},
                                            {"in", "seq", is_in},
                                            {"==", "/ other", is_eq},
                                            {"eq", "/ other", is_eq},
                                            {"equalto", "/ other", is_eq},
                                            {"!=", "/ other", is_ne},
                                            {"ne", "/ other", is_ne},
                                            {"<", "/ other", is_lt},
                                            {"lt", "/ other", is_lt},
                                            {"lessthan", "/ other", is_lt},
                                            {"<=", "/ other", is_le},
                                            {"le", "/ other", is_le},
                                            {">", "/ other", is_gt},
                                            {"gt", "/ other", is_gt},
                                            {"greaterthan", "/ other", is_gt},
                                            {">=", "/ other", is_ge},
                                            {"ge", "/ other", is_ge},
                                            {NULL, NULL, NULL}};
    return jinja__find_in(tests, name);
}
