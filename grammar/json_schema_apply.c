/* Applicators: keywords with subschemas. What they say about a value is what the subschemas say; only where a choice
 * fails do they speak for themselves. */
#include "grammar/json_schema_run_internal.h"

/* ---- objects ---- */

static const struct member_rule *find_named(const struct members *m, struct str key)
{
    size_t low = 0, high = m->n_named;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = str_cmp(key, m->named[middle].key);
        if (order == 0) {
            return &m->named[middle];
        }
        low = order > 0 ? middle + 1 : low;
        high = order < 0 ? middle : high;
    }
    return NULL;
}

/* A member that no schema allows, with the names that are. */
static bool fail_unknown(struct run *r, struct frame *f, const char *keyword, struct str key, const struct members *m)
{
    struct buf names;
    if (!r->why || !json_schema__spend(r, 8)) {
        return false;
    }
    buf_init(&names, KIB(2));
    for (size_t i = 0; m && i < m->n_named && names.len < 160; i++) {
        buf_printf(&names, "%s'" STR_FMT "'", i ? ", " : "", STR_ARG(m->named[i].key));
        if (names.len >= 160 && i + 1 < m->n_named) {
            buf_puts(&names, ", ...");
        }
    }
    json_schema__fail(r, f, keyword, "must not have the property '" STR_FMT "'%s%s.", STR_ARG(key),
                      names.len ? "; it may have " : "", names.len ? names.data : "");
    buf_release(&names);
    return false;
}

static bool check_member(struct run *r, struct frame *f, const struct members *m, const struct json_iter *it, size_t i)
{
    struct subject part = {.value = it->value};
    struct path way = {f->path, it->key, 0};
    const struct member_rule *named = find_named(m, it->key);
    bool known = named != NULL;
    if (named && !json_schema__apply_part(r, f, named->node, &part, &way)) {
        return false;
    }
    for (size_t p = 0; p < m->n_patterns; p++) {
        bool matches = json_schema__regex_matches(r, m->patterns[p].regex, it->key);
        known = known || matches;
        if (json_schema__stopped(r) || (matches && !json_schema__apply_part(r, f, m->patterns[p].node, &part, &way))) {
            return false;
        }
    }
    if (!known && m->additional) {
        if (m->additional->is_bool && !m->additional->allows) {
            return fail_unknown(r, f, "additionalProperties", it->key, m);
        }
        known = json_schema__apply_part(r, f, m->additional, &part, &way);
        if (!known) {
            return false;
        }
    }
    if (known) {
        json_schema__mark(r, f, i);
    }
    return true;
}

bool json_schema__check_members(struct run *r, struct frame *f, const struct rule *rule)
{
    struct json_iter it = json_members(f->subject.value);
    for (size_t i = 0; json_next(&it); i++) {
        if (!json_schema__spend(r, 1 + it.key.len / 64) || !check_member(r, f, rule->u.members, &it, i)) {
            return false;
        }
    }
    return true;
}

bool json_schema__check_names(struct run *r, struct frame *f, const struct rule *rule)
{
    for (struct json_iter it = json_members(f->subject.value); json_next(&it);) {
        struct subject name = {.name = it.key, .is_name = true};
        if (!json_schema__test_part(r, f, rule->u.node, &name, f->path)) {
            return json_schema__fail(r, f, "propertyNames", "must not have a property with the name '" STR_FMT "'.",
                                     STR_ARG(it.key));
        }
    }
    return true;
}

bool json_schema__check_unevaluated_members(struct run *r, struct frame *f, const struct rule *rule)
{
    struct json_iter it = json_members(f->subject.value);
    for (size_t i = 0; json_next(&it); i++) {
        struct subject part = {.value = it.value};
        struct path way = {f->path, it.key, 0};
        if (!json_schema__spend(r, 1)) {
            return false;
        }
        if (json_schema__is_marked(r, f, i)) {
            continue;
        }
        if (rule->u.node->is_bool && !rule->u.node->allows) {
            return fail_unknown(r, f, "unevaluatedProperties", it.key, NULL);
        }
        if (!json_schema__apply_part(r, f, rule->u.node, &part, &way)) {
            return false;
        }
    }
    json_schema__mark_all(r, f);
    return true;
}

/* ---- arrays ---- */

static bool check_item(struct run *r, struct frame *f, const struct node *node, size_t i)
{
    struct subject part = {.value = json_at(f->subject.value, i)};
    struct path way = {f->path, {NULL, 0}, i};
    return json_schema__apply_part(r, f, node, &part, &way);
}

static bool fail_item(struct run *r, struct frame *f, const char *keyword, size_t i)
{
    return json_schema__fail(r, f, keyword, "must have at most %zu items, but has %zu.", i, json_len(f->subject.value));
}

bool json_schema__check_items(struct run *r, struct frame *f, const struct rule *rule)
{
    size_t n = json_len(f->subject.value), n_first = rule->u.items.n_first;
    const struct node *rest = rule->u.items.rest;
    if (rest && rest->is_bool && !rest->allows && n > n_first) {
        return fail_item(r, f, n_first && rule->keyword->drafts == DRAFT_BOTH ? "additionalItems" : "items", n_first);
    }
    for (size_t i = 0; i < n; i++) {
        const struct node *node = i < n_first ? rule->u.items.first[i] : rest;
        if (!node) {
            break;
        }
        if (!check_item(r, f, node, i)) {
            return false;
        }
        json_schema__mark(r, f, i);
    }
    return true;
}

bool json_schema__check_contains(struct run *r, struct frame *f, const struct rule *rule)
{
    size_t n = json_len(f->subject.value), found = 0, min = rule->u.contains.min, max = rule->u.contains.max;
    for (size_t i = 0; i < n && !json_schema__stopped(r); i++) {
        struct subject part = {.value = json_at(f->subject.value, i)};
        struct path way = {f->path, {NULL, 0}, i};
        if (json_schema__test_part(r, f, rule->u.contains.node, &part, &way)) {
            json_schema__mark(r, f, i);
            found++;
        }
    }
    if (found < min) {
        return json_schema__fail(r, f, min == 1 ? "contains" : "minContains",
                                 "must have at least %zu items of the kind that `contains` describes, but has %zu.",
                                 min, found);
    }
    if (found > max) {
        return json_schema__fail(r, f, "maxContains",
                                 "must have at most %zu items of the kind that `contains` describes, but has %zu.", max,
                                 found);
    }
    return true;
}

bool json_schema__check_unevaluated_items(struct run *r, struct frame *f, const struct rule *rule)
{
    for (size_t i = 0; i < json_len(f->subject.value); i++) {
        if (!json_schema__spend(r, 1)) {
            return false;
        }
        if (json_schema__is_marked(r, f, i)) {
            continue;
        }
        if (rule->u.node->is_bool && !rule->u.node->allows) {
            return json_schema__fail(r, f, "unevaluatedItems", "must not have item %zu.", i);
        }
        if (!check_item(r, f, rule->u.node, i)) {
            return false;
        }
    }
    json_schema__mark_all(r, f);
    return true;
}

/* ---- the same value ---- */

/* $dynamicRef: the outermost schema of the dynamic scope that has the anchor. */
static const struct node *outermost(struct run *r, const struct frame *f, const struct rule *rule)
{
    const struct node *found = rule->u.reference.target;
    const struct resource *last = NULL;
    if (!json_schema__spend(r, (size_t)r->nested / 16)) {
        return found;
    }
    for (; f; f = f->outer) {
        const struct resource *resource = f->node->resource;
        for (const struct anchor *a = resource != last ? resource->dynamic : NULL; a; a = a->next) {
            if (!json_schema__spend(r, 1)) {
                return found;
            }
            found = str_eq(a->name, rule->u.reference.dynamic) ? a->node : found;
        }
        last = resource;
    }
    return found;
}

bool json_schema__check_reference(struct run *r, struct frame *f, const struct rule *rule)
{
    return json_schema__apply(r, f, rule->u.reference.dynamic.ptr ? outermost(r, f, rule) : rule->u.reference.target);
}

bool json_schema__check_all(struct run *r, struct frame *f, const struct rule *rule)
{
    for (size_t i = 0; i < rule->u.nodes.n; i++) {
        if (!json_schema__apply(r, f, rule->u.nodes.items[i])) {
            return false;
        }
    }
    return true;
}

/* How many alternatives hold; stops after `enough`. *closest gets what keeps the value from one of them: of the one
 * that went deepest into it. */
static size_t count_holding(struct run *r, struct frame *f, const struct rule *rule, size_t enough,
                            struct json_schema_problem *closest)
{
    struct json_schema_problem *outer = r->why;
    int outer_depth = r->why_depth;
    size_t n = 0;
    r->why = outer ? closest : NULL;
    r->why_depth = -1;
    for (size_t i = 0; i < rule->u.nodes.n && n < enough && !json_schema__stopped(r); i++) {
        n += json_schema__apply(r, f, rule->u.nodes.items[i]);
    }
    r->why = outer;
    r->why_depth = outer_depth;
    return n;
}

static bool fail_choice(struct run *r, struct frame *f, const struct rule *rule,
                        const struct json_schema_problem *closest)
{
    return json_schema__fail(r, f, rule->keyword->name, "must match %s of the %zu alternatives of %s; the closest: %s",
                             str_eq(str_of(rule->keyword->name), STR("oneOf")) ? "exactly one" : "one", rule->u.nodes.n,
                             rule->keyword->name, closest->msg);
}

bool json_schema__check_any(struct run *r, struct frame *f, const struct rule *rule)
{
    struct json_schema_problem closest = {0};
    bool all = f->n_parts > 0; /* every one that holds evaluates parts */
    size_t n = count_holding(r, f, rule, all ? rule->u.nodes.n : 1, &closest);
    return n > 0 || fail_choice(r, f, rule, &closest);
}

bool json_schema__check_one(struct run *r, struct frame *f, const struct rule *rule)
{
    struct json_schema_problem closest = {0};
    size_t n = count_holding(r, f, rule, 2, &closest);
    if (n > 1) {
        return json_schema__fail(r, f, "oneOf",
                                 "must match exactly one of the %zu alternatives of oneOf, but matches more.",
                                 rule->u.nodes.n);
    }
    return n == 1 || fail_choice(r, f, rule, &closest);
}

bool json_schema__check_not(struct run *r, struct frame *f, const struct rule *rule)
{
    bool holds = json_schema__test(r, f, rule->u.node);
    return !holds || json_schema__fail(r, f, "not", "must not be what the schema excludes.");
}

bool json_schema__check_if(struct run *r, struct frame *f, const struct rule *rule)
{
    bool holds = json_schema__test(r, f, rule->u.condition.test);
    const struct node *next = holds ? rule->u.condition.then : rule->u.condition.otherwise;
    return !json_schema__stopped(r) && (!next || json_schema__apply(r, f, next));
}
