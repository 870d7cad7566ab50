/* JSON Schema, drafts 2020-12 and 7: is a value what a schema describes? It owns the compiled schema; it does not own
 * values, and it fetches nothing: a $ref leads into the schema itself, into the metaschemas of both drafts, which are
 * built in, or into a document that the options name.
 *
 *     struct json_schema *s = json_schema_compile(schema, NULL, err);      once
 *     struct json_schema_problem why;
 *     if (!json_schema_validate(s, arguments, &why)) ... why.msg           often, by any thread
 *     json_schema_free(s);
 *
 * All assertions and applicators of both drafts are implemented. What differs from other implementations:
 *   - `$schema` chooses the draft (2020-12 without one); any other is refused, as are keywords with values of a
 *     wrong kind, and null. Unknown keywords are ignored.
 *   - In draft 7 the siblings of `$ref` are ignored, as it says. 2020-12 takes `definitions` and `dependencies`, too.
 *   - Numbers are compared exactly, as decimals, whatever their length; multipleOf takes at most 18 digits.
 *   - `pattern` is ECMA-262 as far as PCRE2 gives it: \d and \w are ASCII, \s has Unicode's spaces, $ is the end of the
 *     text. Escapes and groups that only PCRE2 knows are refused; inline modifiers such as (?i) are let through.
 *   - `format` says nothing unless the options ask for it; then unknown formats still say nothing.
 *   - Work is bounded, in compilation and in validation, by the LIMIT_SCHEMA_* of base/limits.h.
 *
 * https://json-schema.org/draft/2020-12/json-schema-core, ...-validation; https://json-schema.org/draft-07 */
#ifndef TANDEM_GRAMMAR_JSON_SCHEMA_H
#define TANDEM_GRAMMAR_JSON_SCHEMA_H

#include "base/json.h"

struct json_schema;

struct json_schema_document { /* something that a $ref may name */
    struct str uri;           /* absolute, without a fragment */
    const struct json *schema;
};

struct json_schema_options { /* all zero is the default */
    bool assert_format;      /* `format` is checked: date-time, date, time, duration, email, hostname, ipv4, ipv6, uri,
                              * uri-reference, uuid, json-pointer, relative-json-pointer, regex */
    uint64_t max_steps;      /* of one validation; 0: LIMIT_SCHEMA_STEPS */
    const struct json_schema_document *documents; /* at most LIMIT_SCHEMA_DOCUMENTS; only read while compiling */
    size_t n_documents;
};

/* Copies what it needs: the trees may be freed afterwards, but are written to (json_number_text) while it runs. NULL o:
 * the defaults. INVALID or UNSUPPORTED names the place in the schema as a JSON Pointer and the keyword; TOO_LARGE what
 * is too large; NO_MEMORY. The result does not change: any thread may validate with it, several at once. */
NODISCARD struct json_schema *json_schema_compile(const struct json *schema, const struct json_schema_options *o,
                                                  struct error *err);
void json_schema_free(struct json_schema *s); /* NULL is fine */

struct json_schema_problem {
    enum error_code code; /* INVALID: the value is not what the schema wants. TOO_LARGE: validation was given up, after
                           * its steps or nesting; NO_MEMORY: memory failed: the value may be valid or not */
    char at[256];         /* JSON Pointer to the part of the value that is wrong, "" for all of it; cut to fit */
    char keyword[32];     /* that failed: "type", "required", or "false", the schema; "" when validation was given up */
    char msg[400];        /* a complete sentence for whoever wrote the value, with its place; valid UTF-8 */
};

/* Whether value is what s describes. *why is zeroed when it is; else it is about one problem: the first, or the
 * deepest one when no alternative of anyOf or oneOf fits. why may be NULL. One thread at a time per value, whose tree
 * caches its numbers' texts; the stack it needs is bounded by LIMIT_SCHEMA_NESTED (less than 400 KiB). */
NODISCARD bool json_schema_validate(const struct json_schema *s, const struct json *value,
                                    struct json_schema_problem *why);

#endif
