/* Structural tags: text in which what stands between certain marks obeys a schema. As a grammar in Lark: stretches of
 * text that hold no trigger, each but the last followed by one, behind which comes the rest of a tag.
 *
 *     {"triggers": ["<f="], "structures": [{"begin": "<f=a>", "schema": {...}, "end": "</f>"}]}
 *
 *     start: part* TEXT?                          LEAD_0: FREE "<f="
 *     part: LEAD_0 (tag_0)                        tag_0: "a>" body_0 "</f>"
 *     FREE: ANY & ~(ANY "<f=" ANY)                body_0: %json {...} */
#include "pipeline/structural_tag.h"

#include "base/limits.h"

static bool bad(const char *field, const char *what, struct error *err)
{
    return error_set_param(err, ERR_INVALID, field, "Invalid value for '%s': a structural tag %s.", field, what);
}

/* SIZE_MAX: none begins it. */
static size_t trigger_of(const struct json *triggers, struct str begin)
{
    for (size_t i = 0; i < json_len(triggers); i++) {
        if (str_starts(begin, json_str(json_at(triggers, i)))) {
            return i;
        }
    }
    return SIZE_MAX;
}

static bool is_text(const struct json *v)
{
    return json_type(v) == JSON_STRING && json_str(v).len > 0;
}

static bool check_structure(const struct json *structure, const struct json *triggers, const char *field,
                            struct error *err)
{
    const struct json *begin = json_get(structure, "begin"), *end = json_get(structure, "end");
    if (!is_text(begin) || !is_text(end)) {
        return bad(field, "needs the texts 'begin' and 'end' in each of its structures", err);
    }
    if (json_type(json_get(structure, "schema")) != JSON_OBJECT) {
        return bad(field, "needs an object 'schema' in each of its structures", err);
    }
    return trigger_of(triggers, json_str(begin)) != SIZE_MAX ||
           bad(field, "has a structure whose 'begin' starts with none of its triggers", err);
}

bool structural_tag_check(const struct json *tag, const char *field, struct error *err)
{
    const struct json *structures = json_get(tag, "structures"), *triggers = json_get(tag, "triggers");
    size_t n = json_len(structures), n_triggers = json_len(triggers);
    if (json_type(structures) != JSON_ARRAY || n == 0 || n > LIMIT_TOOLS || json_type(triggers) != JSON_ARRAY ||
        n_triggers == 0 || n_triggers > LIMIT_TRIGGERS) {
        return bad(field, "has 'structures', 1 to 512, and 'triggers', 1 to 32", err);
    }
    for (size_t i = 0; i < n_triggers; i++) {
        if (!is_text(json_at(triggers, i))) {
            return bad(field, "has texts as triggers, none of them empty", err);
        }
    }
    for (size_t i = 0; i < n; i++) {
        if (!check_structure(json_at(structures, i), triggers, field, err)) {
            return false;
        }
    }
    return true;
}

static void put_text(const struct json *triggers, struct buf *out)
{
    buf_puts(out, "%llguidance {}\nstart: part* TEXT?\nANY: /(?s:.*)/\nTEXT: /(?s:.+)/ & FREE\nFREE: ANY & ~(");
    for (size_t i = 0; i < json_len(triggers); i++) {
        buf_puts(out, i ? " | ANY " : "ANY ");
        json_quote(out, json_str(json_at(triggers, i)));
        buf_puts(out, " ANY");
    }
    buf_puts(out, ")\npart:");
    for (size_t i = 0; i < json_len(triggers); i++) {
        buf_printf(out, "%s LEAD_%zu tags_%zu", i ? " |" : "", i, i);
    }
    for (size_t i = 0; i < json_len(triggers); i++) {
        buf_printf(out, "\nLEAD_%zu: FREE ", i);
        json_quote(out, json_str(json_at(triggers, i)));
    }
}

/* The tags behind trigger t; one that no tag begins with can only be followed by what cannot be. */
static bool put_tags(const struct json *structures, const struct json *triggers, size_t t, struct buf *out)
{
    bool any = false;
    buf_printf(out, "\ntags_%zu:", t);
    for (size_t i = 0; i < json_len(structures); i++) {
        struct str begin = json_str(json_get(json_at(structures, i), "begin"));
        if (trigger_of(triggers, begin) == t) {
            buf_printf(out, "%s tag_%zu", any ? " |" : "", i);
            any = true;
        }
    }
    return any;
}

bool structural_tag_grammar(const struct json *tag, const struct structural_tag_schemas *schemas, const char *field,
                            struct buf *out, struct error *err)
{
    const struct json *structures = json_get(tag, "structures"), *triggers = json_get(tag, "triggers");
    if (!structural_tag_check(tag, field, err)) {
        return false;
    }
    put_text(triggers, out);
    for (size_t t = 0; t < json_len(triggers); t++) {
        if (!put_tags(structures, triggers, t, out)) {
            return bad(field, "has a trigger that none of its structures begins with", err);
        }
    }
    for (size_t i = 0; i < json_len(structures); i++) {
        const struct json *structure = json_at(structures, i);
        struct str begin = json_str(json_get(structure, "begin"));
        struct str trigger = json_str(json_at(triggers, trigger_of(triggers, begin)));
        buf_printf(out, "\ntag_%zu: ", i);
        json_quote(out, str_slice(begin, trigger.len, begin.len));
        buf_printf(out, " body_%zu ", i);
        json_quote(out, json_str(json_get(structure, "end")));
        buf_printf(out, "\nbody_%zu: %%json ", i);
        if (!schemas->put(schemas->arg, json_get(structure, "schema"), out)) {
            return false;
        }
    }
    buf_puts(out, "\n");
    return true;
}
