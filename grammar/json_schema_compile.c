/* What each keyword's value must be, and what becomes of it. */
#include "grammar/json_schema_compile_internal.h"

#include <stdio.h>
#include <stdlib.h>

static void *alloc(struct compiler *c, size_t n, size_t size)
{
    void *p = arena_alloc_array(c->schema->arena, n ? n : 1, size);
    if (!p) {
        json_schema__full(c);
    }
    return p;
}

static bool wrong(struct compiler *c, const struct node *n, const struct rule *rule, const char *wanted,
                  const struct json *v)
{
    return json_schema__refuse(c, n, rule->keyword->name, "expected %s, got %s.", wanted, json_type_name(json_type(v)));
}

/* Text of v for messages. */
static bool show(struct compiler *c, struct rule *rule, const struct json *v, size_t max)
{
    struct buf text;
    buf_init(&text, LIMIT_SCHEMA_SIZE * 8);
    json_schema__show(&text, v, max);
    rule->shown = text.failed ? (struct str){NULL, 0} : arena_str(c->schema->arena, buf_view(&text));
    buf_release(&text);
    return rule->shown.ptr || json_schema__full(c);
}

/* ---- types and values ---- */

static unsigned type_named(struct str name)
{
    for (int type = JSON_NULL; type <= JSON_OBJECT; type++) {
        if (str_eq(name, str_of(json_type_name(type)))) {
            return type == JSON_DOUBLE ? TYPE_NUMBER : TYPE_BIT(type);
        }
    }
    return 0;
}

bool json_schema__compile_type(struct compiler *c, struct node *n, struct rule *rule, const struct json *v)
{
    bool list = json_type(v) == JSON_ARRAY;
    size_t n_types = list ? json_len(v) : 1;
    for (size_t i = 0; i < n_types; i++) {
        unsigned bits = type_named(json_str(list ? json_at(v, i) : v));
        if (!bits) {
            return json_schema__refuse(c, n, "type",
                                       "expected null, boolean, integer, number, string, array or object.");
        }
        rule->u.types |= bits;
    }
    if (!n_types) {
        return json_schema__refuse(c, n, "type", "expected at least one type.");
    }
    return show(c, rule, v, 120);
}

static bool put_literal(struct compiler *c, struct literal *out, const struct json *v)
{
    struct buf bytes;
    buf_init(&bytes, LIMIT_SCHEMA_SCRATCH);
    bool ok = json_schema__canonical(&bytes, &(struct subject){.value = v}, c->err);
    if (ok) {
        out->bytes = arena_str(c->schema->arena, buf_view(&bytes));
        ok = out->bytes.ptr || json_schema__full(c);
    }
    buf_release(&bytes);
    return ok;
}

static int by_bytes(const void *a, const void *b)
{
    return str_cmp(((const struct literal *)a)->bytes, ((const struct literal *)b)->bytes);
}

bool json_schema__compile_enum(struct compiler *c, struct node *n, struct rule *rule, const struct json *v)
{
    bool constant = str_eq(str_of(rule->keyword->name), STR("const"));
    if (!constant && json_type(v) != JSON_ARRAY) {
        return wrong(c, n, rule, "an array", v);
    }
    rule->u.literals.n = constant ? 1 : json_len(v);
    rule->u.literals.items = alloc(c, rule->u.literals.n, sizeof *rule->u.literals.items);
    bool ok = rule->u.literals.items != NULL;
    for (size_t i = 0; i < rule->u.literals.n && ok; i++) {
        ok = put_literal(c, &rule->u.literals.items[i], constant ? v : json_at(v, i));
    }
    if (ok) {
        qsort(rule->u.literals.items, rule->u.literals.n, sizeof *rule->u.literals.items, by_bytes);
    }
    return ok && show(c, rule, v, 200);
}

bool json_schema__compile_number(struct compiler *c, struct node *n, struct rule *rule, const struct json *v)
{
    bool divisor = str_eq(str_of(rule->keyword->name), STR("multipleOf"));
    if (!(TYPE_BIT(json_type(v)) & TYPE_NUMBER)) {
        return wrong(c, n, rule, "a number", v);
    }
    if (!show(c, rule, v, 60)) {
        return false;
    }
    if (!json_number_text(v).len) {
        return error_set(c->err, ERR_NO_MEMORY, "no memory for the text of a number.");
    }
    struct str text = arena_str(c->schema->arena, json_number_text(v)); /* the tree's own is a cache */
    if (!text.ptr) {
        return json_schema__full(c);
    }
    rule->u.number = json_schema__decimal(text);
    if (divisor && (rule->u.number.negative || rule->u.number.n == 0)) {
        return json_schema__refuse(c, n, "multipleOf", "expected a number above 0.");
    }
    if (divisor && rule->u.number.n > DECIMAL_DIVISOR) {
        return json_schema__refuse(c, n, "multipleOf", "at most %d digits are supported.", DECIMAL_DIVISOR);
    }
    return true;
}

static bool read_count(struct compiler *c, const struct node *n, const char *keyword, const struct json *v, size_t *out)
{
    struct str text = json_number_text(v);
    struct decimal d = json_schema__decimal(text);
    if ((TYPE_BIT(json_type(v)) & TYPE_NUMBER) && !text.len) {
        return error_set(c->err, ERR_NO_MEMORY, "no memory for the text of a number.");
    }
    if (!(TYPE_BIT(json_type(v)) & TYPE_NUMBER) || d.negative || !json_schema__decimal_is_integer(&d)) {
        return json_schema__refuse(c, n, keyword, "expected an integer that is not negative.");
    }
    *out = json_schema__decimal_to_count(&d);
    return true;
}

bool json_schema__compile_count(struct compiler *c, struct node *n, struct rule *rule, const struct json *v)
{
    return read_count(c, n, rule->keyword->name, v, &rule->u.count);
}

bool json_schema__compile_flag(struct compiler *c, struct node *n, struct rule *rule, const struct json *v)
{
    rule->u.count = json_bool(v);
    return json_type(v) == JSON_BOOL || wrong(c, n, rule, "true or false", v);
}

/* ---- strings ---- */

static const struct regex *regex_of(struct compiler *c, const struct node *n, const char *keyword, struct str pattern)
{
    struct error err = {0};
    const struct regex *regex = json_schema__regex_compile(c->schema, pattern, &err);
    if (!regex && err.code == ERR_INVALID) {
        json_schema__refuse(c, n, keyword, "%s", err.msg);
    } else if (!regex) {
        *c->err = err;
    }
    return regex;
}

bool json_schema__compile_pattern(struct compiler *c, struct node *n, struct rule *rule, const struct json *v)
{
    if (json_type(v) != JSON_STRING) {
        return wrong(c, n, rule, "a regular expression", v);
    }
    rule->u.regex = regex_of(c, n, "pattern", json_str(v));
    return rule->u.regex && show(c, rule, v, 120);
}

bool json_schema__compile_format(struct compiler *c, struct node *n, struct rule *rule, const struct json *v)
{
    if (json_type(v) != JSON_STRING) {
        return wrong(c, n, rule, "a name", v);
    }
    rule->u.format = c->options->assert_format ? json_schema__format(json_str(v)) : NULL;
    rule->shown = json_str(v);
    return true;
}

/* ---- keys ---- */

static bool read_keys(struct compiler *c, const struct node *n, const char *keyword, const struct json *v,
                      struct str **keys)
{
    *keys = alloc(c, json_len(v), sizeof **keys);
    bool strings = json_type(v) == JSON_ARRAY;
    for (size_t i = 0; i < json_len(v) && strings && *keys; i++) {
        strings = json_type(json_at(v, i)) == JSON_STRING;
        (*keys)[i] = json_str(json_at(v, i));
    }
    if (!strings) {
        return json_schema__refuse(c, n, keyword, "expected an array of strings.");
    }
    return *keys != NULL;
}

bool json_schema__compile_required(struct compiler *c, struct node *n, struct rule *rule, const struct json *v)
{
    rule->u.keys.n = json_len(v);
    return read_keys(c, n, "required", v, &rule->u.keys.items);
}

/* dependentRequired has arrays of keys, dependentSchemas schemas, dependencies both. */
bool json_schema__compile_dependents(struct compiler *c, struct node *n, struct rule *rule, const struct json *v)
{
    const char *keyword = rule->keyword->name;
    bool arrays = !str_eq(str_of(keyword), STR("dependentSchemas"));
    bool schemas = !str_eq(str_of(keyword), STR("dependentRequired"));
    size_t i = 0;
    if (json_type(v) != JSON_OBJECT) {
        return wrong(c, n, rule, "an object", v);
    }
    struct dependent *items = alloc(c, json_len(v), sizeof *items);
    if (!items) {
        return false;
    }
    for (struct json_iter it = json_members(v); json_next(&it); i++) {
        struct str *keys = NULL;
        bool is_array = !schemas || (arrays && json_type(it.value) == JSON_ARRAY);
        if (is_array && !read_keys(c, n, keyword, it.value, &keys)) {
            return false;
        }
        items[i] = (struct dependent){.key = it.key, .required = keys, .n_required = keys ? json_len(it.value) : 0};
        items[i].node = is_array ? NULL : json_schema__child(c, n, (struct way){keyword, it.key}, it.value);
        if (!is_array && !items[i].node) {
            return false;
        }
    }
    rule->u.dependents.items = items;
    rule->u.dependents.n = i;
    return true;
}

/* ---- subschemas ---- */

bool json_schema__compile_node(struct compiler *c, struct node *n, struct rule *rule, const struct json *v)
{
    rule->u.node = json_schema__child(c, n, (struct way){rule->keyword->name, {NULL, 0}}, v);
    return rule->u.node != NULL;
}

bool json_schema__compile_unevaluated(struct compiler *c, struct node *n, struct rule *rule, const struct json *v)
{
    c->schema->tracks = true;
    return json_schema__compile_node(c, n, rule, v);
}

static bool read_nodes(struct compiler *c, const struct node *n, const char *keyword, const struct json *v,
                       const struct node ***nodes)
{
    *nodes = alloc(c, json_len(v), sizeof **nodes);
    for (size_t i = 0; i < json_len(v); i++) {
        char number[24];
        int len = snprintf(number, sizeof number, "%zu", i);
        struct str name = arena_str(c->schema->arena, (struct str){number, (size_t)len});
        if (!*nodes || !name.ptr) {
            return json_schema__full(c);
        }
        (*nodes)[i] = json_schema__child(c, n, (struct way){keyword, name}, json_at(v, i));
        if (!(*nodes)[i]) {
            return false;
        }
    }
    return *nodes != NULL;
}

bool json_schema__compile_nodes(struct compiler *c, struct node *n, struct rule *rule, const struct json *v)
{
    if (json_type(v) != JSON_ARRAY || !json_len(v)) {
        return wrong(c, n, rule, "an array with schemas", v);
    }
    rule->u.nodes.n = json_len(v);
    return read_nodes(c, n, rule->keyword->name, v, &rule->u.nodes.items);
}

bool json_schema__compile_definitions(struct compiler *c, struct node *n, struct rule *rule, const struct json *v)
{
    if (json_type(v) != JSON_OBJECT) {
        return wrong(c, n, rule, "an object", v);
    }
    for (struct json_iter it = json_members(v); json_next(&it);) {
        if (!json_schema__child(c, n, (struct way){rule->keyword->name, it.key}, it.value)) {
            return false;
        }
    }
    return true;
}

/* A subschema that a keyword beside this one names; *out stays NULL when it is not there. */
static bool sibling(struct compiler *c, const struct node *n, const char *keyword, const struct node **out)
{
    bool here = json_has(n->json, keyword);
    *out = here ? json_schema__child(c, n, (struct way){keyword, {NULL, 0}}, json_get(n->json, keyword)) : NULL;
    return !here || *out;
}

bool json_schema__compile_if(struct compiler *c, struct node *n, struct rule *rule, const struct json *v)
{
    (void)v;
    return sibling(c, n, "if", &rule->u.condition.test) && sibling(c, n, "then", &rule->u.condition.then) &&
           sibling(c, n, "else", &rule->u.condition.otherwise);
}

bool json_schema__compile_contains(struct compiler *c, struct node *n, struct rule *rule, const struct json *v)
{
    (void)v;
    bool counted = n->resource->draft == DRAFT_2020;
    bool min = counted && json_has(n->json, "minContains"), max = counted && json_has(n->json, "maxContains");
    rule->u.contains.min = 1;
    rule->u.contains.max = SIZE_MAX;
    return sibling(c, n, "contains", &rule->u.contains.node) &&
           (!min || read_count(c, n, "minContains", json_get(n->json, "minContains"), &rule->u.contains.min)) &&
           (!max || read_count(c, n, "maxContains", json_get(n->json, "maxContains"), &rule->u.contains.max));
}

/* prefixItems and items of 2020-12; in draft 7 an array in items, and additionalItems, are the same. Compiled once, for
 * whichever keyword comes first. */
bool json_schema__compile_items(struct compiler *c, struct node *n, struct rule *rule, const struct json *v)
{
    bool draft_7 = n->resource->draft == DRAFT_7;
    const struct json *items = json_get(n->json, "items");
    bool list = draft_7 && json_type(items) == JSON_ARRAY;
    const char *prefix = draft_7 ? "items" : "prefixItems";
    const struct json *first = draft_7 ? (list ? items : NULL) : json_get(n->json, "prefixItems");
    (void)v;
    if (!draft_7 && json_has(n->json, prefix) && json_type(first) != JSON_ARRAY) {
        return json_schema__refuse(c, n, prefix, "expected an array of schemas.");
    }
    rule->u.items.n_first = json_len(first);
    if (first && !read_nodes(c, n, prefix, first, &rule->u.items.first)) {
        return false;
    }
    return sibling(c, n, list ? "additionalItems" : "items", &rule->u.items.rest);
}

static int by_key(const void *a, const void *b)
{
    return str_cmp(((const struct member_rule *)a)->key, ((const struct member_rule *)b)->key);
}

static bool read_named(struct compiler *c, struct node *n, struct members *m, const struct json *v)
{
    m->named = alloc(c, json_len(v), sizeof *m->named);
    for (struct json_iter it = json_members(v); m->named && json_next(&it); m->n_named++) {
        const struct node *child = json_schema__child(c, n, (struct way){"properties", it.key}, it.value);
        m->named[m->n_named] = (struct member_rule){it.key, child};
        if (!child) {
            return false;
        }
    }
    if (m->named) {
        qsort(m->named, m->n_named, sizeof *m->named, by_key);
    }
    return m->named != NULL;
}

static bool read_patterns(struct compiler *c, struct node *n, struct members *m, const struct json *v)
{
    m->patterns = alloc(c, json_len(v), sizeof *m->patterns);
    for (struct json_iter it = json_members(v); m->patterns && json_next(&it); m->n_patterns++) {
        const struct regex *regex = regex_of(c, n, "patternProperties", it.key);
        const struct node *child =
            regex ? json_schema__child(c, n, (struct way){"patternProperties", it.key}, it.value) : NULL;
        m->patterns[m->n_patterns] = (struct pattern_rule){regex, it.key, child};
        if (!child) {
            return false;
        }
    }
    return m->patterns != NULL;
}

/* properties, patternProperties and additionalProperties: compiled once, for whichever comes first. */
bool json_schema__compile_members(struct compiler *c, struct node *n, struct rule *rule, const struct json *v)
{
    static const char *const keywords[] = {"properties", "patternProperties"};
    struct members *m = alloc(c, 1, sizeof *m);
    (void)v;
    rule->u.members = m;
    for (size_t i = 0; m && i < ARRAY_LEN(keywords); i++) {
        const struct json *value = json_get(n->json, keywords[i]);
        if (json_has(n->json, keywords[i]) && json_type(value) != JSON_OBJECT) {
            return json_schema__refuse(c, n, keywords[i], "expected an object.");
        }
        if (value && !(i ? read_patterns : read_named)(c, n, m, value)) {
            return false;
        }
    }
    return m && sibling(c, n, "additionalProperties", &m->additional);
}

bool json_schema__compile_reference(struct compiler *c, struct node *n, struct rule *rule, const struct json *v)
{
    if (json_type(v) != JSON_STRING) {
        return wrong(c, n, rule, "a URI reference", v);
    }
    struct pending *p = alloc(c, 1, sizeof *p);
    if (!p) {
        return false;
    }
    *p = (struct pending){.next = c->references,
                          .node = n,
                          .rule = rule,
                          .text = json_str(v),
                          .dynamic = str_eq(str_of(rule->keyword->name), STR("$dynamicRef"))};
    c->references = p;
    return true;
}

/* ---- a node ---- */

static bool says_something(const struct node *n, const struct keyword *k)
{
    bool alone = n->resource->draft == DRAFT_7 && json_has(n->json, "$ref");
    return (k->drafts & n->resource->draft) && (!alone || str_eq(str_of(k->name), STR("$ref"))) &&
           json_has(n->json, k->name);
}

/* Whether the rule before, of the same compile function, has read k with its own keyword. */
static bool is_read(const struct node *n, const struct keyword *k)
{
    return k->together && n->n_rules && n->rules[n->n_rules - 1].keyword->compile == k->compile;
}

bool json_schema__compile_rules(struct compiler *c, struct node *n)
{
    size_t n_members = json_len(n->json);
    n->rules = alloc(c, n_members, sizeof *n->rules); /* at most one each */
    for (size_t i = 0; n->rules && n_members && i < json_schema__n_keywords; i++) {
        const struct keyword *k = &json_schema__keywords[i];
        if (!says_something(n, k) || is_read(n, k)) {
            continue;
        }
        struct rule *rule = &n->rules[n->n_rules++];
        rule->keyword = k;
        if (!k->compile(c, n, rule, json_get(n->json, k->name))) {
            return false;
        }
        bool checked = k->check && (k->compile != json_schema__compile_format || rule->u.format);
        n->n_rules -= !checked;
    }
    return n->rules != NULL;
}
