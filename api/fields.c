#include "api/fields.h"

#include <math.h>
#include <stdio.h>

/* A bound of an integer field; (double)INT64_MAX is one more than INT64_MAX. */
static int64_t whole_bound(double bound)
{
    return bound >= 0x1p63 ? INT64_MAX : (int64_t)bound;
}

static bool range_error(struct error *err, const struct field *f, const struct json *v)
{
    struct str text = str_slice(json_number_text(v), 0, 40);
    if (f->kind == FIELD_FLOAT || f->kind == FIELD_SECONDS) {
        return error_set_param(err, ERR_INVALID, f->name,
                               "Invalid value for '%s': expected a value from %.10g to %.10g, but got " STR_FMT ".",
                               f->name, f->min, f->max, STR_ARG(text));
    }
    return error_set_param(err, ERR_INVALID, f->name,
                           "Invalid value for '%s': expected a value from %lld to %lld, but got " STR_FMT ".", f->name,
                           (long long)whole_bound(f->min), (long long)whole_bound(f->max), STR_ARG(text));
}

static void *slot(const struct decoding *d, const struct field *f)
{
    return (char *)d->target + f->offset;
}

/* Members of struct sampling are of one size: X(name, type) says so. */
#define X(name, type, ...) _Static_assert(sizeof(type) == sizeof(float), "of one size");
SAMPLING_TABLE(X)
#undef X

static void note_given(const struct decoding *d, const struct field *f)
{
    if (d->request) {
        uintptr_t at = (uintptr_t)slot(d, f) - (uintptr_t)&d->request->sampling; /* huge: of something else */
        if (at < sizeof d->request->sampling) {
            d->request->sampling_given |= 1u << at / sizeof(float);
        }
    }
}

/* 7, and 7.0 or 7e2 too. */
static bool is_whole(const struct json *v)
{
    return json_type(v) == JSON_INT || (json_type(v) == JSON_DOUBLE && json_double(v) == floor(json_double(v)));
}

static bool decode_int(struct decoding *d, const struct field *f, const struct json *v, struct error *err)
{
    if (!is_whole(v)) {
        return field_type_error(err, f->name, "an integer", v);
    }
    double number = json_double(v);
    if (json_type(v) == JSON_DOUBLE && !(number > -0x1p63 && number < 0x1p63)) {
        return range_error(err, f, v);
    }
    int64_t value = json_type(v) == JSON_INT ? json_int(v) : (int64_t)number;
    if ((double)value < f->min || (double)value > f->max) {
        return range_error(err, f, v);
    }
    if (f->kind == FIELD_I32) {
        *(int32_t *)slot(d, f) = (int32_t)value;
        note_given(d, f);
    } else if (f->kind == FIELD_U32) {
        *(uint32_t *)slot(d, f) = (uint32_t)value;
    } else {
        *(int64_t *)slot(d, f) = value;
    }
    return true;
}

/* The nearest, but nothing above 0 becomes 0, which stands for no limit. */
static int64_t milliseconds(double seconds)
{
    int64_t ms = llround(seconds * 1000);
    return ms == 0 && seconds > 0 ? 1 : ms;
}

static bool decode_number(struct decoding *d, const struct field *f, const struct json *v, struct error *err)
{
    double value = json_double(v);
    if (json_type(v) != JSON_INT && json_type(v) != JSON_DOUBLE) {
        return field_type_error(err, f->name, "a number", v);
    }
    if (!isfinite(value) || value < f->min || value > f->max) {
        return range_error(err, f, v);
    }
    if (f->kind == FIELD_SECONDS) {
        *(int64_t *)slot(d, f) = milliseconds(value);
    } else {
        *(float *)slot(d, f) = (float)value;
        note_given(d, f);
    }
    return true;
}

static bool decode_str(struct decoding *d, const struct field *f, const struct json *v, struct error *err)
{
    if (json_type(v) != JSON_STRING) {
        return field_type_error(err, f->name, "a string", v);
    }
    if (f->max > 0 && (double)json_str(v).len > f->max) {
        return error_set_param(err, ERR_INVALID, f->name,
                               "Invalid value for '%s': expected at most %.0f bytes, but got %zu.", f->name, f->max,
                               json_str(v).len);
    }
    *(struct str *)slot(d, f) = json_str(v);
    return true;
}

/* Is the value, printed, among the texts? */
static bool accepted(const char *accepts, const struct json *v)
{
    struct buf text;
    struct str rest = str_of(accepts), part;
    bool found = false;
    buf_init(&text, 4096);
    json_print(&text, v);
    while (!text.failed && str_split(&rest, ' ', &part)) {
        found = found || str_eq(part, buf_view(&text));
    }
    buf_release(&text);
    return found;
}

static bool decode_default(const struct field *f, const struct json *v, struct error *err)
{
    if (accepted(f->accepts, v)) {
        return true;
    }
    return error_set_param(err, ERR_UNSUPPORTED, f->name, "Unsupported value for '%s': this server supports only %s%s.",
                           f->name, f->accepts[0] ? "the default: " : "null", f->accepts);
}

static bool decode_field(struct decoding *d, const struct field *f, const struct json *v, struct error *err)
{
    switch (f->kind) {
    case FIELD_BOOL:
        if (json_type(v) != JSON_BOOL) {
            return field_type_error(err, f->name, "a boolean", v);
        }
        *(bool *)slot(d, f) = json_bool(v);
        return true;
    case FIELD_I32:
    case FIELD_U32:
    case FIELD_I64:
        return decode_int(d, f, v, err);
    case FIELD_SECONDS:
    case FIELD_FLOAT:
        return decode_number(d, f, v, err);
    case FIELD_STR:
        return decode_str(d, f, v, err);
    case FIELD_CUSTOM:
        return f->parse(d, v, f->name, err);
    case FIELD_HINT:
        return !f->parse || f->parse(d, v, f->name, err);
    case FIELD_DEFAULT:
        break;
    }
    return decode_default(f, v, err);
}

static const struct field *find_field(struct str name, const struct field *const *tables, int n_tables)
{
    for (int t = 0; t < n_tables; t++) {
        for (const struct field *f = tables[t]; f->name; f++) {
            if (str_eq(str_of(f->name), name)) {
                return f;
            }
        }
    }
    return NULL;
}

static bool unknown_field(struct decoding *d, struct str name, struct error *err)
{
    char shown[64];
    snprintf(shown, sizeof shown, STR_FMT, STR_ARG(name));
    if (d->strict) {
        return error_set_param(err, ERR_UNKNOWN_FIELD, shown, "Unknown field '%s'; with --strict-fields it is refused.",
                               shown);
    }
    if (d->ignored->len) {
        buf_puts(d->ignored, ", ");
    }
    for (const char *c = shown; *c; c++) { /* it goes into a header */
        buf_putc(d->ignored, *c > 0x20 && *c < 0x7F && *c != ',' ? *c : '?');
    }
    return true;
}

bool fields_decode(struct decoding *d, const struct json *object, const struct field *const *tables, int n_tables,
                   struct error *err)
{
    if (json_type(object) != JSON_OBJECT) {
        return error_set(err, ERR_INVALID, "The request body must be a JSON object, but it is %s.",
                         field_type_name(object));
    }
    struct json_iter it = json_members(object);
    while (json_next(&it)) {
        const struct field *f = find_field(it.key, tables, n_tables);
        if (!f) {
            if (!unknown_field(d, it.key, err)) {
                return false;
            }
        } else if (!json_is_null(it.value) && !decode_field(d, f, it.value, err)) {
            return false;
        }
    }
    return true;
}

bool fields_decode_members(struct decoding *d, const struct json *v, const char *name, const struct field *members,
                           struct error *err)
{
    const struct field *tables[] = {members};
    char param[64];
    if (json_type(v) != JSON_OBJECT) {
        return field_type_error(err, name, "an object", v);
    }
    if (fields_decode(d, v, tables, 1, err)) {
        return true;
    }
    snprintf(param, sizeof param, "%s.%.40s", name, err->param);
    memcpy(err->param, param, sizeof param);
    return false;
}
