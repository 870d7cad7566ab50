#include "cli/loadgen_check.h"

#include "base/array.h"
#include "base/limits.h"

#include <regex.h>
#include <stdio.h>

#define MAX_WORDS 64 /* of one list */

struct demand { /* one string of one member */
    const struct demand_kind *kind;
    struct str value;
    regex_t *regex; /* of kind regex */
    struct demand *next;
};

struct loadgen_check {
    struct demand *demands;
};

struct demand_kind {
    const char *name;
    bool takes_list;
    bool (*holds)(const struct demand *d, struct str text, const char *finish_reason);
    const char *complaint; /* with the value behind it */
};

/* ---- the kinds ---- */

static bool contains(const struct demand *d, struct str text, const char *finish_reason)
{
    (void)finish_reason;
    return str_find(text, d->value) != STR_NPOS;
}

static bool contains_not(const struct demand *d, struct str text, const char *finish_reason)
{
    return !contains(d, text, finish_reason);
}

static bool equals(const struct demand *d, struct str text, const char *finish_reason)
{
    (void)finish_reason;
    return str_eq(str_trim(text), str_trim(d->value));
}

static bool matches(const struct demand *d, struct str text, const char *finish_reason)
{
    struct buf copy; /* regexec wants a NUL behind it */
    (void)finish_reason;
    buf_init(&copy, SIZE_MAX);
    buf_append(&copy, text);
    bool found = !copy.failed && regexec(d->regex, copy.data ? copy.data : "", 0, NULL, 0) == 0;
    buf_release(&copy);
    return found;
}

static bool finishes(const struct demand *d, struct str text, const char *finish_reason)
{
    (void)text;
    return str_eq(d->value, str_of(finish_reason));
}

static bool is_json(const struct demand *d, struct str text, const char *finish_reason)
{
    struct error ignored;
    struct json *root = json_parse(text, LIMIT_JSON_DEPTH, &ignored);
    (void)d;
    (void)finish_reason;
    json_free(root);
    return root != NULL;
}

static const struct demand_kind kinds[] = {
    {"contains", true, contains, "the answer does not contain"},
    {"not_contains", true, contains_not, "the answer contains"},
    {"equals", false, equals, "the answer is not"},
    {"regex", false, matches, "the answer does not match"},
    {"finish_reason", false, finishes, "the finish reason is not"},
};
static const struct demand_kind json_kind = {"json", false, is_json, "the answer is not valid"};

/* ---- reading ---- */

static bool refuse(const char *name, const char *expected, const struct json *got, struct error *err)
{
    return error_set(err, ERR_INVALID, "'check.%s': expected %s, but got %s.", name, expected,
                     json_type_name(json_type(got)));
}

static void free_regex(void *regex)
{
    regfree(regex);
}

static bool compile(struct demand *d, struct arena *arena, struct error *err)
{
    char why[120];
    d->regex = arena_alloc(arena, sizeof *d->regex);
    if (!d->regex) {
        return arena_full(arena, "the workload", err);
    }
    int rc = regcomp(d->regex, d->value.ptr, REG_EXTENDED | REG_NOSUB);
    if (rc != 0) {
        regerror(rc, d->regex, why, sizeof why);
        return error_set(err, ERR_INVALID, "'check.regex' is no regular expression: %s.", why);
    }
    if (!arena_defer(arena, free_regex, d->regex)) {
        regfree(d->regex);
        return arena_full(arena, "the workload", err);
    }
    return true;
}

static bool add_demand(struct loadgen_check *c, const struct demand_kind *kind, struct str value, struct arena *arena,
                       struct error *err)
{
    struct demand *d = arena_alloc(arena, sizeof *d);
    struct str copy = {arena_strdup(arena, value), value.len};
    if (!d || !copy.ptr) {
        return arena_full(arena, "the workload", err);
    }
    if (memchr(copy.ptr, '\0', copy.len)) {
        return error_set(err, ERR_INVALID, "'check.%s': a NUL character is not possible.", kind->name);
    }
    *d = (struct demand){.kind = kind, .value = copy, .next = c->demands};
    c->demands = d;
    return kind->holds != matches || compile(d, arena, err);
}

static bool read_member(struct loadgen_check *c, const struct demand_kind *kind, const struct json *v,
                        struct arena *arena, struct error *err)
{
    const char *expected = kind->takes_list ? "a string or a list of strings" : "a string";
    if (json_type(v) == JSON_STRING) {
        return add_demand(c, kind, json_str(v), arena, err);
    }
    if (!kind->takes_list || json_type(v) != JSON_ARRAY) {
        return refuse(kind->name, expected, v, err);
    }
    if (json_len(v) > MAX_WORDS) {
        return error_set(err, ERR_INVALID, "'check.%s' has more than %d strings.", kind->name, MAX_WORDS);
    }
    for (size_t i = 0; i < json_len(v); i++) {
        if (json_type(json_at(v, i)) != JSON_STRING) {
            return refuse(kind->name, expected, json_at(v, i), err);
        }
        if (!add_demand(c, kind, json_str(json_at(v, i)), arena, err)) {
            return false;
        }
    }
    return true;
}

static const struct demand_kind *find_kind(struct str name)
{
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (str_eq(name, str_of(kinds[i].name))) {
            return &kinds[i];
        }
    }
    return NULL;
}

static bool read_json_member(struct loadgen_check *c, const struct json *v, struct arena *arena, struct error *err)
{
    if (json_type(v) != JSON_BOOL) {
        return refuse("json", "true or false", v, err);
    }
    return !json_bool(v) || add_demand(c, &json_kind, STR("JSON"), arena, err);
}

struct loadgen_check *loadgen_check_create(const struct json *spec, struct arena *arena, struct error *err)
{
    struct loadgen_check *c = arena_alloc(arena, sizeof *c);
    if (!c) {
        arena_full(arena, "the workload", err);
        return NULL;
    }
    if (json_type(spec) != JSON_OBJECT) {
        error_set(err, ERR_INVALID, "'check': expected an object, but got %s.", json_type_name(json_type(spec)));
        return NULL;
    }
    for (struct json_iter it = json_members(spec); json_next(&it);) {
        const struct demand_kind *kind = find_kind(it.key);
        bool ok = str_eq(it.key, STR("json")) ? read_json_member(c, it.value, arena, err)
                  : kind                      ? read_member(c, kind, it.value, arena, err)
                                              : error_set(err, ERR_INVALID,
                                                          "'check.%.40s': there is no such check; there are contains, not_contains, "
                                                                               "equals, regex, finish_reason, json.",
                                                          it.key.ptr);
        if (!ok) {
            return NULL;
        }
    }
    return c;
}

bool loadgen_check_passes(const struct loadgen_check *c, struct str text, const char *finish_reason, struct error *err)
{
    for (const struct demand *d = c->demands; d; d = d->next) {
        if (!d->kind->holds(d, text, finish_reason)) {
            return error_set(err, ERR_INVALID, "%s '%.80s'.", d->kind->complaint, d->value.ptr);
        }
    }
    return true;
}
