/* One walk that writes while it reads. Recursion goes down the JSON text, whose depth the parser has bounded;
 * references are not followed but queued, so that each place they lead to is written once, as a definition. */
#include "grammar/schema_widen_internal.h"

#include "base/array.h"
#include "base/limits.h"
#include "grammar/json_pointer.h"

#include <stdlib.h>

#define POINTER_SIZE KIB(64)
#define PATTERN_SIZE KIB(64)
#define MAX_COUNT    1e9 /* that is written as a whole number though it came as 2.0 */
/* One space, or a line break and an indentation: what any writer of JSON puts between tokens. */
#define WHITE_SPACE "{\"whitespace_pattern\":\" |\\\\r?\\\\n[ \\\\t]{0,64}\"}"

struct target {
    const struct json *schema;
    struct str pointer; /* in the arena */
};

struct walk {
    const struct json *root;
    const struct schema_widen_options *options;
    struct arena *arena;
    struct json_writer w;
    struct buf path;        /* pointer to where the walk is */
    struct target *targets; /* [n_targets] of references */
    struct str *drops;      /* [n_drops] */
    size_t n_targets, targets_cap, n_drops, drops_cap, n_more;
    struct error *err;
};

/* A keyword's place: what it is called, its schema, and what it has there. */
struct member {
    const char *name;
    const struct json *schema, *value;
};

static bool write_schema(struct walk *k, const struct json *schema);

/* ---- places ---- */

static size_t enter(struct walk *k, struct str part)
{
    size_t before = k->path.len;
    json_pointer_put(&k->path, part);
    return before;
}

static size_t enter_index(struct walk *k, size_t i)
{
    size_t before = k->path.len;
    buf_printf(&k->path, "/%zu", i);
    return before;
}

static bool refuse(struct walk *k, enum error_code code, const char *why)
{
    const char *field = k->options->field;
    struct str at = buf_view(&k->path);
    at = at.len > 100 ? str_slice(at, at.len - 100, at.len) : at;
    if (!field) {
        return error_set(k->err, code, "The schema at '" STR_FMT "': %s.", STR_ARG(at), why);
    }
    return error_set_param(k->err, code, field, "%s: the schema at '" STR_FMT "': %s.", field, STR_ARG(at), why);
}

/* What is where the walk is cannot be enforced: an error when it must be, else noted. */
static bool drop(struct walk *k, const char *why)
{
    struct str here = buf_view(&k->path);
    if (k->options->binding) {
        return refuse(k, ERR_UNSUPPORTED, why);
    }
    for (size_t i = 0; i < k->n_drops; i++) {
        if (str_eq(k->drops[i], here)) {
            return true;
        }
    }
    if (k->n_drops == LIMIT_SCHEMA_DROPS) {
        k->n_more++;
        return true;
    }
    if (!array_reserve(&k->drops, &k->drops_cap, k->n_drops + 1, LIMIT_SCHEMA_DROPS, "what a schema leaves out",
                       k->err)) {
        return false;
    }
    struct str copy = arena_str(k->arena, here);
    if (!copy.ptr) {
        return arena_full(k->arena, "schema", k->err);
    }
    k->drops[k->n_drops++] = copy;
    return true;
}

/* ---- references ---- */

static bool add_target(struct walk *k, const struct json *schema, struct str ref, size_t *index)
{
    for (*index = 0; *index < k->n_targets; ++*index) {
        if (k->targets[*index].schema == schema) {
            return true;
        }
    }
    if (!array_reserve(&k->targets, &k->targets_cap, k->n_targets + 1, LIMIT_SCHEMA_REFS, "references of a schema",
                       k->err)) {
        return false;
    }
    struct str pointer = arena_str(k->arena, str_slice(ref, 1, ref.len));
    if (!pointer.ptr) {
        return arena_full(k->arena, "schema", k->err);
    }
    k->targets[k->n_targets++] = (struct target){schema, pointer};
    return true;
}

static bool write_ref(struct walk *k, const struct member *m)
{
    struct str ref = json_str(m->value);
    size_t index;
    char text[40];
    const struct json *target = json_type(m->value) == JSON_STRING ? schema__resolve(k->root, ref) : NULL;
    if (!target) {
        return drop(k, "$ref is followed only to a place in the same schema that is there");
    }
    if (target == k->root) {
        snprintf(text, sizeof text, "#");
    } else if (!add_target(k, target, ref, &index)) {
        return false;
    } else {
        snprintf(text, sizeof text, "#/$defs/r%zu", index);
    }
    json_member_cstr(&k->w, "$ref", text);
    return true;
}

/* ---- schemas within schemas ---- */

static bool write_one(struct walk *k, const struct member *m)
{
    json_key(&k->w, m->name);
    return write_schema(k, m->value);
}

static bool write_items(struct walk *k, const struct json *list)
{
    for (size_t i = 0; i < json_len(list); i++) {
        size_t before = enter_index(k, i);
        if (!write_schema(k, json_at(list, i))) {
            return false;
        }
        buf_truncate(&k->path, before);
    }
    return true;
}

static bool is_list(struct walk *k, const struct json *list)
{
    return json_type(list) == JSON_ARRAY || refuse(k, ERR_INVALID, "an array of schemas is expected");
}

static bool write_list(struct walk *k, const struct member *m)
{
    if (!is_list(k, m->value)) {
        return false;
    }
    json_key(&k->w, m->name);
    json_begin_array(&k->w);
    if (!write_items(k, m->value)) {
        return false;
    }
    json_end_array(&k->w);
    return true;
}

static bool write_one_or_list(struct walk *k, const struct member *m)
{
    return json_type(m->value) == JSON_ARRAY ? write_list(k, m) : write_one(k, m);
}

static bool write_key(struct walk *k, struct str key)
{
    json_key(&k->w, key.ptr);
    return true;
}

static bool write_keyed(struct walk *k, const struct member *m, bool (*put_key)(struct walk *, struct str))
{
    if (json_type(m->value) != JSON_OBJECT) {
        return refuse(k, ERR_INVALID, "an object of schemas is expected");
    }
    json_key(&k->w, m->name);
    json_begin_object(&k->w);
    for (struct json_iter it = json_members(m->value); json_next(&it);) {
        size_t before = enter(k, it.key);
        if (!put_key(k, it.key) || !write_schema(k, it.value)) {
            return false;
        }
        buf_truncate(&k->path, before);
    }
    json_end_object(&k->w);
    return true;
}

static bool write_map(struct walk *k, const struct member *m)
{
    return write_keyed(k, m, write_key);
}

/* ---- allOf, with what other keywords become beside it ---- */

static bool write_options(struct walk *k, const struct json *list)
{
    if (json_type(list) == JSON_ARRAY && !schema__exclusive(k->root, list) &&
        !drop(k, "oneOf is enforced only where its options are seen to exclude each other")) {
        return false;
    }
    return write_list(k, &(struct member){.name = "anyOf", .value = list});
}

/* oneOf becomes anyOf, and some formats patterns: beside one of their own they go into allOf. */
static bool one_of_is_apart(const struct json *schema)
{
    return json_get(schema, "oneOf") && json_get(schema, "anyOf");
}

static bool format_is_apart(const struct json *schema)
{
    return json_get(schema, "pattern") && schema__format_pattern(json_str(json_get(schema, "format")));
}

static bool write_apart(struct walk *k, const struct json *schema)
{
    if (format_is_apart(schema)) {
        json_begin_object(&k->w);
        json_member_cstr(&k->w, "pattern", schema__format_pattern(json_str(json_get(schema, "format"))));
        json_end_object(&k->w);
    }
    if (!one_of_is_apart(schema)) {
        return true;
    }
    size_t before = enter(k, STR("oneOf"));
    json_begin_object(&k->w);
    if (!write_options(k, json_get(schema, "oneOf"))) {
        return false;
    }
    json_end_object(&k->w);
    buf_truncate(&k->path, before);
    return true;
}

static bool write_all_of(struct walk *k, const struct json *schema)
{
    const struct json *list = json_get(schema, "allOf");
    if (!list && !one_of_is_apart(schema) && !format_is_apart(schema)) {
        return true;
    }
    json_key(&k->w, "allOf");
    json_begin_array(&k->w);
    size_t before = enter(k, STR("allOf"));
    if (list && (!is_list(k, list) || !write_items(k, list))) {
        return false;
    }
    buf_truncate(&k->path, before);
    if (!write_apart(k, schema)) {
        return false;
    }
    json_end_array(&k->w);
    return true;
}

static bool write_at_the_end(struct walk *k, const struct member *m)
{
    (void)k;
    (void)m;
    return true;
}

static bool write_one_of(struct walk *k, const struct member *m)
{
    return one_of_is_apart(m->schema) || write_options(k, m->value);
}

/* ---- strings ---- */

static bool write_format(struct walk *k, const struct member *m)
{
    static const char *const known[] = {"duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"};
    static const char *const unknown[] = {"idn-email",    "idn-hostname",          "uri-reference",
                                          "iri",          "iri-reference",         "uri-template",
                                          "json-pointer", "relative-json-pointer", "regex"};
    struct str format = json_str(m->value);
    const char *pattern = schema__format_pattern(format);
    if (pattern && !format_is_apart(m->schema)) {
        json_member_cstr(&k->w, "pattern", pattern);
    }
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (str_eq(format, str_of(known[i]))) {
            json_member_cstr(&k->w, "format", known[i]);
            return true;
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(unknown); i++) {
        if (str_eq(format, str_of(unknown[i]))) {
            return drop(k, "this format cannot be enforced");
        }
    }
    return true; /* an annotation */
}

static bool write_pattern(struct walk *k, const struct member *m)
{
    if (json_type(m->value) != JSON_STRING) {
        return refuse(k, ERR_INVALID, "a pattern is a string");
    }
    struct buf text;
    buf_init(&text, PATTERN_SIZE);
    const char *fault = schema__pattern_problem(k->options->vocab, m->schema, json_str(m->value), &text);
    bool ok = fault ? drop(k, fault) : buf_ok(&text, "pattern", k->err);
    if (!fault) {
        json_member_str(&k->w, "pattern", buf_view(&text));
    }
    buf_release(&text);
    return ok;
}

static bool write_pattern_key(struct walk *k, struct str pattern)
{
    struct buf text;
    buf_init(&text, PATTERN_SIZE);
    (void)schema__rewrite_pattern(pattern, &text);
    json_key(&k->w, text.data ? text.data : "");
    bool ok = buf_ok(&text, "pattern", k->err);
    buf_release(&text);
    return ok;
}

/* ---- objects ---- */

static bool write_pattern_map(struct walk *k, const struct member *m)
{
    bool map = json_type(m->value) == JSON_OBJECT;
    const char *fault = map ? schema__pattern_map_problem(k->options->vocab, m->value) : NULL;
    return fault ? drop(k, fault) : write_keyed(k, m, write_pattern_key);
}

/* Beside patternProperties that are left out, what is additional is not known. */
static bool write_additional(struct walk *k, const struct member *m)
{
    const struct json *patterns = json_get(m->schema, "patternProperties");
    if (json_type(patterns) == JSON_OBJECT && schema__pattern_map_problem(k->options->vocab, patterns)) {
        return drop(k, "additionalProperties depends on patternProperties that cannot be enforced");
    }
    return write_one(k, m);
}

/* ---- values ---- */

static bool write_value(struct walk *k, const struct member *m)
{
    json_member_json(&k->w, m->name, m->value);
    return true;
}

/* const, enum, multipleOf. */
static bool write_exact(struct walk *k, const struct member *m)
{
    return schema__has_long_number(m->value)
               ? drop(k, "numbers of more than 15 digits cannot be enforced to the last one")
               : write_value(k, m);
}

/* llguidance has numbers of type double. */
static bool write_bound(struct walk *k, const struct member *m, bool lower)
{
    int64_t inner;
    if (!schema__inner_bound(m->value, lower, &inner)) {
        return write_value(k, m);
    }
    json_member_int(&k->w, m->name, inner);
    return true;
}

static bool write_lower(struct walk *k, const struct member *m)
{
    return write_bound(k, m, true);
}

static bool write_upper(struct walk *k, const struct member *m)
{
    return write_bound(k, m, false);
}

/* 2.0 is 2; what is neither is for llguidance to refuse. */
static bool write_whole(struct walk *k, const struct member *m)
{
    double d = json_type(m->value) == JSON_DOUBLE ? json_double(m->value) : -1;
    if (d < 0 || d > MAX_COUNT || d > (double)(int64_t)d) {
        return write_value(k, m);
    }
    json_member_int(&k->w, m->name, (int64_t)d);
    return true;
}

static bool write_count(struct walk *k, const struct member *m)
{
    return schema__counts_enforced(m->schema)
               ? write_whole(k, m)
               : drop(k, "the number of properties is enforced only where all listed ones are required");
}

static bool write_unique(struct walk *k, const struct member *m)
{
    return !json_bool(m->value) || drop(k, "uniqueItems cannot be enforced");
}

static bool write_never(struct walk *k, const struct member *m)
{
    (void)m;
    return drop(k, "this keyword cannot be enforced");
}

/* ---- the table ---- */

static const struct keyword {
    const char *name;
    bool (*write)(struct walk *k, const struct member *m);
} keywords[] = {
    {"type", write_value},
    {"const", write_exact},
    {"enum", write_exact},
    {"required", write_value},
    {"minItems", write_whole},
    {"maxItems", write_whole},
    {"minLength", write_whole},
    {"maxLength", write_whole},
    {"minimum", write_lower},
    {"maximum", write_upper},
    {"exclusiveMinimum", write_lower},
    {"exclusiveMaximum", write_upper},
    {"multipleOf", write_exact},
    {"additionalItems", write_one},
    {"allOf", write_at_the_end},
    {"anyOf", write_list},
    {"prefixItems", write_list},
    {"properties", write_map},
    {"items", write_one_or_list},
    {"oneOf", write_one_of},
    {"$ref", write_ref},
    {"format", write_format},
    {"pattern", write_pattern},
    {"patternProperties", write_pattern_map},
    {"additionalProperties", write_additional},
    {"minProperties", write_count},
    {"maxProperties", write_count},
    {"uniqueItems", write_unique}, /* left out only when it is true */
    {"not", write_never},          /* llguidance cannot, as all of these */
    {"if", write_never},
    {"contains", write_never},
    {"propertyNames", write_never},
    {"dependencies", write_never},
    {"dependentRequired", write_never},
    {"dependentSchemas", write_never},
    {"unevaluatedItems", write_never},
    {"unevaluatedProperties", write_never},
    {"$dynamicRef", write_never},
    {"$recursiveRef", write_never},
};

static const struct keyword *find_keyword(struct str name)
{
    for (size_t i = 0; i < ARRAY_LEN(keywords); i++) {
        if (str_eq(name, str_of(keywords[i].name))) {
            return &keywords[i];
        }
    }
    return NULL;
}

static bool write_members(struct walk *k, const struct json *schema)
{
    for (struct json_iter it = json_members(schema); json_next(&it);) {
        const struct keyword *word = find_keyword(it.key);
        if (!word) {
            continue;
        }
        size_t before = enter(k, it.key);
        if (!word->write(k, &(struct member){word->name, schema, it.value})) {
            return false;
        }
        buf_truncate(&k->path, before);
    }
    return write_all_of(k, schema);
}

static bool write_schema(struct walk *k, const struct json *schema)
{
    if (json_type(schema) == JSON_BOOL) {
        json_put_bool(&k->w, json_bool(schema));
        return true;
    }
    if (json_type(schema) != JSON_OBJECT) {
        return refuse(k, ERR_INVALID, "a schema is an object or a boolean");
    }
    json_begin_object(&k->w);
    if (!write_members(k, schema)) {
        return false;
    }
    json_end_object(&k->w);
    return true;
}

/* ---- the whole ---- */

static bool write_targets(struct walk *k)
{
    if (k->n_targets == 0) {
        return true;
    }
    json_key(&k->w, "$defs");
    json_begin_object(&k->w);
    for (size_t i = 0; i < k->n_targets; i++) { /* grows while it is walked */
        struct target t = k->targets[i];
        char name[24];
        snprintf(name, sizeof name, "r%zu", i);
        json_key(&k->w, name);
        buf_clear(&k->path);
        buf_append(&k->path, t.pointer);
        if (!write_schema(k, t.schema)) {
            return false;
        }
    }
    json_end_object(&k->w);
    return true;
}

static bool write_root(struct walk *k)
{
    if (json_type(k->root) != JSON_OBJECT) {
        return write_schema(k, k->root);
    }
    json_begin_object(&k->w);
    if (!write_members(k, k->root) || !write_targets(k)) {
        return false;
    }
    json_member_raw(&k->w, "x-guidance", STR(WHITE_SPACE));
    json_end_object(&k->w);
    return true;
}

static bool take_drops(struct walk *k, struct schema_drops *drops)
{
    struct str *copy = NULL;
    if (!drops) {
        return true;
    }
    if (k->n_drops) {
        copy = arena_alloc_array(k->arena, k->n_drops, sizeof *copy);
        if (!copy) {
            return arena_full(k->arena, "schema", k->err);
        }
        memcpy(copy, k->drops, k->n_drops * sizeof *copy);
    }
    *drops = (struct schema_drops){copy, k->n_drops, k->n_more};
    return true;
}

bool schema_widen(const struct json *schema, const struct schema_widen_options *options, struct arena *arena,
                  struct buf *out, struct schema_drops *drops, struct error *err)
{
    struct walk k = {.root = schema, .options = options, .arena = arena, .w = json_writer(out), .err = err};
    buf_init(&k.path, POINTER_SIZE);
    bool ok = write_root(&k) && buf_ok(out, "schema", err) && buf_ok(&k.path, "place in the schema", err) &&
              take_drops(&k, drops);
    buf_release(&k.path);
    free(k.targets);
    free(k.drops);
    return ok;
}
