/* From the JSON Schema that a client sent to one that llguidance enforces to the letter: CONSTRAINT_JSON_SCHEMA's text,
 * and what a Lark grammar has behind %json.
 *
 * What llguidance cannot enforce is either refused (a binding schema: the first such place is named) or left out, so
 * that the schema allows more (and what was left out is listed, for whoever checks the answer with the validator).
 * Nothing that is left out makes it allow less. Places are JSON Pointers into the client's schema.
 *
 * Left out or refused:
 *   - not, if, contains, uniqueItems, propertyNames, dependencies, dependentRequired, dependentSchemas,
 *     unevaluatedItems, unevaluatedProperties, $dynamicRef, $recursiveRef;
 *   - $ref to another document or an anchor;
 *   - oneOf whose options are not seen to exclude each other (left out: it becomes anyOf);
 *   - formats of the specification that llguidance does not know;
 *   - patterns with look-around, back references or word boundaries, or that do not compile;
 *   - patternProperties whose patterns overlap (left out together with additionalProperties);
 *   - minProperties and maxProperties beside optional properties.
 *   - const, enum and multipleOf with whole numbers of 2^53 and more.
 * Made plain:
 *   - references become "#/$defs/rN", one definition per place;
 *   - oneOf whose options exclude each other becomes anyOf, in allOf where there is an anyOf already;
 *   - patterns of ECMA-262 become Rust's (grammar/schema_pattern.c).
 * Made narrower, so that whoever checks the answer agrees: \s, \S, \d, \D, \w and \W where dialects differ; dates and
 * times are those of RFC 3339 from the year 1 and without leap seconds; bounds beyond 2^53 by up to 1,024.
 * No constraint: annotations, unknown keywords, and formats that no specification knows ("int32", "password").
 *
 * White space between tokens of JSON is bounded in what comes out: a model cannot write spaces for ever. */
#ifndef TANDEM_GRAMMAR_SCHEMA_WIDEN_H
#define TANDEM_GRAMMAR_SCHEMA_WIDEN_H

#include "base/arena.h"
#include "base/json.h"

struct constraint_vocab; /* grammar/constraint.h */

struct schema_widen_options {
    bool binding;      /* refuse what cannot be enforced */
    const char *field; /* of the request, for the error's param and text; NULL: none */
    /* Patterns are tried out with it; without one only their syntax is looked at, and compiling may refuse them. */
    const struct constraint_vocab *vocab;
};

struct schema_drops {
    const struct str *pointers; /* [n] in the arena, each once, in the order of the walk */
    size_t n;
    size_t n_more; /* past LIMIT_SCHEMA_DROPS */
};

/* Appends the schema to out, which bounds it. UNSUPPORTED: binding, and something cannot be enforced. INVALID: it is no
 * schema. TOO_LARGE, NO_MEMORY. drops may be NULL when binding. Any thread. */
NODISCARD bool schema_widen(const struct json *schema, const struct schema_widen_options *options, struct arena *arena,
                            struct buf *out, struct schema_drops *drops, struct error *err);

#endif
