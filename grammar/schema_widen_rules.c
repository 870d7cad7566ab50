#include "grammar/constraint_internal.h"
#include "grammar/schema_widen_internal.h"

#include "base/array.h"
#include "base/limits.h"
#include "grammar/json_pointer.h"

#define MAX_OPTIONS    256 /* of a oneOf that are compared with each other */
#define MAX_LOOK_DEPTH 8   /* properties of properties, and references, that are looked into for it */
#define MAX_TRIED      KIB(64)
#define MAX_EXACT      9007199254740992.0 /* of whole numbers of type double */
#define EXACT_STEP     1024               /* whose multiples are all exact, up to those of int64 */

/* ---- references ---- */

/* One part of a pointer in a URI fragment: %xx first, then ~1 and ~0. False when it does not fit. */
static bool unescape(struct str part, char *out, size_t cap, size_t *len)
{
    size_t n = 0, used;
    for (size_t i = 0; i < part.len; i += used) {
        if (n + 1 == cap) {
            return false;
        }
        out[n++] = (char)percent_byte(str_slice(part, i, part.len), &used);
    }
    *len = json_pointer_unescape(out, n);
    out[*len] = '\0';
    return true;
}

const struct json *schema__resolve(const struct json *root, struct str ref)
{
    const struct json *at = root;
    struct str rest = str_slice(ref, 1, ref.len), part;
    char name[1024];
    size_t len;
    if (!str_starts(ref, STR("#")) || (rest.len && rest.ptr[0] != '/')) {
        return NULL; /* another document, or an anchor */
    }
    rest = str_slice(rest, 1, rest.len);
    if (ref.len <= 2) {
        return root; /* "#" and, as llguidance has it, "#/" */
    }
    bool more = true;
    while (more && at) {
        size_t end = str_find_char(rest, '/');
        part = str_slice(rest, 0, end);
        more = end != STR_NPOS;
        rest = more ? str_slice(rest, end + 1, rest.len) : (struct str){NULL, 0};
        uint64_t index;
        if (!unescape(part, name, sizeof name, &len)) {
            return NULL;
        }
        if (json_type(at) == JSON_ARRAY) {
            at =
                str_to_u64((struct str){name, len}, &index) && index < json_len(at) ? json_at(at, (size_t)index) : NULL;
        } else {
            at = json_type(at) == JSON_OBJECT ? json_get(at, name) : NULL;
        }
    }
    return at;
}

/* ---- values that two schemas share ---- */

enum type_bit {
    TYPE_NULL = 1,
    TYPE_BOOLEAN = 2,
    TYPE_NUMBER = 4,
    TYPE_STRING = 8,
    TYPE_ARRAY = 16,
    TYPE_OBJECT = 32,
    TYPE_ANY = 63
};

static unsigned type_of_name(struct str name)
{
    static const struct {
        const char *name;
        unsigned bit;
    } types[] = {{"null", TYPE_NULL},     {"boolean", TYPE_BOOLEAN}, {"number", TYPE_NUMBER}, {"integer", TYPE_NUMBER},
                 {"string", TYPE_STRING}, {"array", TYPE_ARRAY},     {"object", TYPE_OBJECT}};
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        if (str_eq(name, str_of(types[i].name))) {
            return types[i].bit;
        }
    }
    return TYPE_ANY;
}

static unsigned types_of(const struct json *schema)
{
    const struct json *type = json_get(schema, "type");
    unsigned bits = 0;
    if (json_type(type) == JSON_STRING) {
        return type_of_name(json_str(type));
    }
    if (json_type(type) != JSON_ARRAY) {
        return TYPE_ANY;
    }
    for (size_t i = 0; i < json_len(type); i++) {
        bits |= type_of_name(json_str(json_at(type, i)));
    }
    return bits;
}

/* The values that a schema lists: const as a list of one. */
static size_t n_listed(const struct json *schema)
{
    if (json_get(schema, "const")) {
        return 1;
    }
    const struct json *list = json_get(schema, "enum");
    return json_type(list) == JSON_ARRAY ? json_len(list) : 0;
}

static const struct json *listed(const struct json *schema, size_t i)
{
    const struct json *only = json_get(schema, "const");
    return only ? only : json_at(json_get(schema, "enum"), i);
}

/* True unless the two are surely different. */
static bool may_equal(const struct json *a, const struct json *b)
{
    enum json_type x = json_type(a), y = json_type(b);
    bool x_number = x == JSON_INT || x == JSON_DOUBLE, y_number = y == JSON_INT || y == JSON_DOUBLE;
    if (x_number && y_number) {
        double d = json_double(a), e = json_double(b);
        return !(d < e || d > e);
    }
    if (x != y) {
        return false;
    }
    return x == JSON_STRING ? str_eq(json_str(a), json_str(b)) : x == JSON_BOOL ? json_bool(a) == json_bool(b) : true;
}

static bool lists_differ(const struct json *a, const struct json *b)
{
    size_t n = n_listed(a), m = n_listed(b);
    if (n == 0 || m == 0 || n * m > MAX_OPTIONS * MAX_OPTIONS) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < m; j++) {
            if (may_equal(listed(a, i), listed(b, j))) {
                return false;
            }
        }
    }
    return true;
}

static const struct json *behind_refs(const struct json *root, const struct json *schema)
{
    for (int i = 0; i < MAX_LOOK_DEPTH && json_type(json_get(schema, "$ref")) == JSON_STRING; i++) {
        const struct json *target = schema__resolve(root, json_str(json_get(schema, "$ref")));
        if (!target) {
            break;
        }
        schema = target;
    }
    return schema;
}

static bool exclude(const struct json *root, const struct json *a, const struct json *b, int depth);

/* A property that one of two objects must have, and that no value suits in both. */
static bool property_differs(const struct json *root, const struct json *a, const struct json *b,
                             const struct json *required, int depth)
{
    const struct json *pa = json_get(a, "properties"), *pb = json_get(b, "properties");
    for (size_t i = 0; i < json_len(required); i++) {
        struct str name = json_str(json_at(required, i));
        const struct json *x = name.ptr ? json_get(pa, name.ptr) : NULL, *y = name.ptr ? json_get(pb, name.ptr) : NULL;
        if (x && y && exclude(root, x, y, depth + 1)) {
            return true;
        }
    }
    return false;
}

static bool exclude(const struct json *root, const struct json *a, const struct json *b, int depth)
{
    a = behind_refs(root, a);
    b = behind_refs(root, b);
    if (depth > MAX_LOOK_DEPTH || json_type(a) != JSON_OBJECT || json_type(b) != JSON_OBJECT) {
        return json_type(a) == JSON_BOOL ? !json_bool(a) : json_type(b) == JSON_BOOL && !json_bool(b);
    }
    if ((types_of(a) & types_of(b)) == 0 || lists_differ(a, b)) {
        return true;
    }
    if (types_of(a) != TYPE_OBJECT || types_of(b) != TYPE_OBJECT) {
        return false;
    }
    return property_differs(root, a, b, json_get(a, "required"), depth) ||
           property_differs(root, a, b, json_get(b, "required"), depth);
}

bool schema__exclusive(const struct json *root, const struct json *list)
{
    size_t n = json_len(list);
    if (n > MAX_OPTIONS) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        for (size_t j = i + 1; j < n; j++) {
            if (!exclude(root, json_at(list, i), json_at(list, j), 0)) {
                return false;
            }
        }
    }
    return true;
}

/* ---- counts of properties ---- */

static bool is_one(double n)
{
    return n > 0.5 && n < 1.5;
}

bool schema__counts_enforced(const struct json *schema)
{
    const struct json *additional = json_get(schema, "additionalProperties");
    double min = json_double(json_get(schema, "minProperties")), n_required = 0, n_optional = 0;
    const struct json *max = json_get(schema, "maxProperties");
    for (struct json_iter it = json_members(json_get(schema, "properties")); json_next(&it);) {
        bool required = json_lists(json_get(schema, "required"), it.key);
        n_required += required;
        n_optional += !required;
    }
    if (n_optional == 0) {
        return true;
    }
    /* llguidance's special case: at most, at least or exactly one of the optional ones, and no others. */
    bool closed =
        json_type(additional) == JSON_BOOL && !json_bool(additional) && !json_get(schema, "patternProperties");
    return closed && min - n_required <= 1 && (!max || is_one(json_double(max) - n_required));
}

/* ---- numbers ---- */

bool schema__has_long_number(const struct json *value)
{
    bool number = json_type(value) == JSON_DOUBLE || json_type(value) == JSON_INT;
    if (number && (json_double(value) >= MAX_EXACT || json_double(value) <= -MAX_EXACT)) {
        return true;
    }
    bool found = false;
    for (size_t i = 0; json_type(value) == JSON_ARRAY && i < json_len(value) && !found; i++) {
        found = schema__has_long_number(json_at(value, i));
    }
    if (json_type(value) == JSON_OBJECT) {
        for (struct json_iter it = json_members(value); json_next(&it) && !found;) {
            found = schema__has_long_number(it.value);
        }
    }
    return found;
}

bool schema__inner_bound(const struct json *value, bool lower, int64_t *out)
{
    int64_t v = json_int(value), over = v % EXACT_STEP;
    if (json_type(value) != JSON_INT || !schema__has_long_number(value)) {
        return false;
    }
    *out = v - over; /* towards zero */
    if (over && lower == (v > 0)) {
        if (v > INT64_MAX - EXACT_STEP || v < INT64_MIN + EXACT_STEP) {
            return false;
        }
        *out += lower ? EXACT_STEP : -EXACT_STEP;
    }
    return true;
}

/* ---- patterns ---- */

static bool compiles(const struct constraint_vocab *v, const struct buf *schema)
{
    char why[8];
    struct LlgConstraintInit init = constraint__init(v);
    return !schema->failed && schema->data &&
           llg_validate_grammar(&init, "json_schema", schema->data, why, sizeof why) >= 0;
}

const char *schema__pattern_problem(const struct constraint_vocab *v, const struct json *schema, struct str pattern,
                                    struct buf *out)
{
    static const char *const beside[] = {"minLength", "maxLength"};
    struct buf tried;
    const char *fault = schema__rewrite_pattern(pattern, out);
    if (fault || !v) {
        return fault;
    }
    buf_init(&tried, MAX_TRIED);
    struct json_writer w = json_writer(&tried);
    json_begin_object(&w);
    json_member_cstr(&w, "type", "string");
    json_member_str(&w, "pattern", buf_view(out));
    for (size_t i = 0; i < ARRAY_LEN(beside); i++) {
        if (json_get(schema, beside[i])) {
            json_member_json(&w, beside[i], json_get(schema, beside[i]));
        }
    }
    json_end_object(&w);
    bool ok = !out->failed && compiles(v, &tried);
    buf_release(&tried);
    return ok ? NULL : "this pattern cannot be enforced";
}

const char *schema__pattern_map_problem(const struct constraint_vocab *v, const struct json *map)
{
    struct buf tried, key;
    buf_init(&tried, MAX_TRIED);
    buf_init(&key, MAX_TRIED);
    struct json_writer w = json_writer(&tried);
    const char *fault = NULL;
    json_begin_object(&w);
    json_key(&w, "patternProperties");
    json_begin_object(&w);
    for (struct json_iter it = json_members(map); json_next(&it) && !fault;) {
        buf_clear(&key);
        fault = schema__rewrite_pattern(it.key, &key);
        json_member_bool(&w, key.data ? key.data : "", true);
    }
    json_end_object(&w);
    json_end_object(&w);
    if (!fault && (key.failed || (v && !compiles(v, &tried)))) {
        fault = "these patterns do not compile, or are not seen to exclude each other";
    }
    buf_release(&key);
    buf_release(&tried);
    return fault;
}
