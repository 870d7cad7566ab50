/* Assertions: keywords without subschemas. */
#include "grammar/json_schema_run_internal.h"

#include "base/hash.h"
#include "base/utf8.h"

#include <stdlib.h>

/* json_schema__fail with "must <what>, but is <value>." */
static bool fail_value(struct run *r, const struct frame *f, const char *keyword, const char *must, struct str what)
{
    struct buf value;
    if (!r->why || !json_schema__spend(r, 8)) {
        return false;
    }
    buf_init(&value, KIB(2));
    json_schema__describe(&value, &f->subject);
    json_schema__fail(r, f, keyword, "%s " STR_FMT ", but is " STR_FMT ".", must, STR_ARG(what),
                      STR_ARG(buf_view(&value)));
    buf_release(&value);
    return false;
}

bool json_schema__check_type(struct run *r, struct frame *f, const struct rule *rule)
{
    return (rule->u.types & TYPE_BIT(f->type)) || fail_value(r, f, "type", "must be of type", rule->shown);
}

/* Both are exact: 2.0 is 2. */
bool json_schema__check_enum(struct run *r, struct frame *f, const struct rule *rule)
{
    bool constant = str_eq(str_of(rule->keyword->name), STR("const"));
    struct buf bytes;
    size_t low = 0, high = rule->u.literals.n;
    int order = 1;
    buf_init(&bytes, LIMIT_SCHEMA_SCRATCH);
    if (!json_schema__canonical(&bytes, &f->subject, &r->stop) || !json_schema__spend(r, bytes.len / 64)) {
        buf_release(&bytes);
        return false;
    }
    while (low < high && order) {
        size_t middle = (low + high) / 2;
        order = str_cmp(buf_view(&bytes), rule->u.literals.items[middle].bytes);
        low = order > 0 ? middle + 1 : low;
        high = order < 0 ? middle : high;
    }
    buf_release(&bytes);
    return order == 0 || fail_value(r, f, rule->keyword->name, constant ? "must be" : "must be one of", rule->shown);
}

static struct decimal number_of(const struct frame *f)
{
    return json_schema__decimal(json_number_text(f->subject.value));
}

bool json_schema__check_multiple(struct run *r, struct frame *f, const struct rule *rule)
{
    struct decimal d = number_of(f);
    return json_schema__decimal_is_multiple(&d, &rule->u.number) ||
           fail_value(r, f, "multipleOf", "must be a multiple of", rule->shown);
}

bool json_schema__check_bound(struct run *r, struct frame *f, const struct rule *rule)
{
    static const struct {
        const char *keyword, *must;
        int sign; /* of what value - bound must not be */
        bool equal;
    } bounds[] = {{"minimum", "must be at least", -1, true},
                  {"maximum", "must be at most", 1, true},
                  {"exclusiveMinimum", "must be more than", -1, false},
                  {"exclusiveMaximum", "must be less than", 1, false}};
    size_t i = 0;
    while (i < ARRAY_LEN(bounds) - 1 && !str_eq(str_of(bounds[i].keyword), str_of(rule->keyword->name))) {
        i++;
    }
    struct decimal d = number_of(f);
    int order = json_schema__decimal_cmp(&d, &rule->u.number) * bounds[i].sign;
    return order < 0 || (order == 0 && bounds[i].equal) ||
           fail_value(r, f, bounds[i].keyword, bounds[i].must, rule->shown);
}

/* min and max of Length, Items and Properties. */
bool json_schema__check_size(struct run *r, struct frame *f, const struct rule *rule)
{
    const char *keyword = rule->keyword->name;
    bool is_min = str_starts(str_of(keyword), STR("min"));
    const char *unit = f->type == JSON_STRING ? "characters" : f->type == JSON_ARRAY ? "items" : "members";
    struct str text = json_schema__text(&f->subject);
    if (!json_schema__spend(r, text.len / 64)) {
        return false;
    }
    size_t size = f->type == JSON_STRING ? utf8_count(text) : json_len(f->subject.value);
    if (is_min ? size >= rule->u.count : size <= rule->u.count) {
        return true;
    }
    return json_schema__fail(r, f, keyword, "must have at %s %zu %s, but has %zu.", is_min ? "least" : "most",
                             rule->u.count, unit, size);
}

bool json_schema__check_pattern(struct run *r, struct frame *f, const struct rule *rule)
{
    return json_schema__regex_matches(r, rule->u.regex, json_schema__text(&f->subject)) ||
           fail_value(r, f, "pattern", "must match the pattern", rule->shown);
}

bool json_schema__check_format(struct run *r, struct frame *f, const struct rule *rule)
{
    struct str text = json_schema__text(&f->subject);
    if (!json_schema__spend(r, text.len / 16)) {
        return false;
    }
    return rule->u.format(text) || fail_value(r, f, "format", "must have the format", rule->shown);
}

static bool has(struct run *r, const struct frame *f, struct str key)
{
    return json_schema__spend(r, 1 + key.len / 64) && strlen(key.ptr) == key.len && json_has(f->subject.value, key.ptr);
}

bool json_schema__check_required(struct run *r, struct frame *f, const struct rule *rule)
{
    for (size_t i = 0; i < rule->u.keys.n; i++) {
        struct str key = rule->u.keys.items[i];
        if (!has(r, f, key)) {
            return json_schema__fail(r, f, "required", "must have the property '" STR_FMT "'.", STR_ARG(key));
        }
    }
    return true;
}

bool json_schema__check_dependents(struct run *r, struct frame *f, const struct rule *rule)
{
    for (size_t i = 0; i < rule->u.dependents.n; i++) {
        const struct dependent *d = &rule->u.dependents.items[i];
        if (!has(r, f, d->key)) {
            continue;
        }
        for (size_t k = 0; k < d->n_required; k++) {
            if (!has(r, f, d->required[k])) {
                return json_schema__fail(r, f, rule->keyword->name,
                                         "must have the property '" STR_FMT "' because it has '" STR_FMT "'.",
                                         STR_ARG(d->required[k]), STR_ARG(d->key));
            }
        }
        if (d->node && !json_schema__apply(r, f, d->node)) {
            return false;
        }
    }
    return !json_schema__stopped(r);
}

/* ---- uniqueItems: items in the form in which equal means equal bytes, sorted by hash ---- */

struct item {
    uint64_t hash;
    size_t begin, len; /* in the bytes of all items */
    size_t index;
};

static int by_hash(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    int order = (x->hash > y->hash) - (x->hash < y->hash);
    return order ? order : (x->index > y->index) - (x->index < y->index);
}

static bool read_items(struct run *r, const struct json *array, struct item *items, struct buf *bytes)
{
    for (size_t i = 0; i < json_len(array); i++) {
        size_t begin = bytes->len;
        if (!json_schema__canonical(bytes, &(struct subject){.value = json_at(array, i)}, &r->stop) ||
            !json_schema__spend(r, 1 + (bytes->len - begin) / 64)) {
            return false;
        }
        items[i] = (struct item){xxh3(bytes->data + begin, bytes->len - begin, 0), begin, bytes->len - begin, i};
    }
    return true;
}

static bool find_twins(struct run *r, const struct item *items, size_t n, const struct buf *bytes, size_t twins[2])
{
    for (size_t i = 0; i < n; i++) {
        for (size_t j = i + 1; j < n && items[j].hash == items[i].hash; j++) {
            struct str a = str_slice(buf_view(bytes), items[i].begin, items[i].begin + items[i].len);
            struct str b = str_slice(buf_view(bytes), items[j].begin, items[j].begin + items[j].len);
            if (!json_schema__spend(r, 1 + a.len / 64) || str_eq(a, b)) {
                twins[0] = items[i].index;
                twins[1] = items[j].index;
                return true;
            }
        }
    }
    return false;
}

bool json_schema__check_unique(struct run *r, struct frame *f, const struct rule *rule)
{
    const struct json *array = f->subject.value;
    size_t n = json_len(array), twins[2] = {0, 0};
    if (!rule->u.count || n < 2) {
        return true;
    }
    struct item *items = n <= LIMIT_SCHEMA_SCRATCH / sizeof *items ? calloc(n, sizeof *items) : NULL;
    if (!items) {
        return json_schema__stop(r, ERR_NO_MEMORY, "no memory to compare %zu items.", n);
    }
    struct buf bytes;
    buf_init(&bytes, LIMIT_SCHEMA_SCRATCH);
    bool unique = read_items(r, array, items, &bytes);
    if (unique) {
        qsort(items, n, sizeof *items, by_hash);
        unique = !find_twins(r, items, n, &bytes, twins);
    }
    buf_release(&bytes);
    free(items);
    return (unique && !json_schema__stopped(r)) ||
           json_schema__fail(r, f, "uniqueItems", "must have no two equal items, but items %zu and %zu are equal.",
                             twins[0], twins[1]);
}
