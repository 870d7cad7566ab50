/* Shared by grammar/schema_widen*.c: what can be said about schemas without walking on. */
#ifndef TANDEM_GRAMMAR_SCHEMA_WIDEN_INTERNAL_H
#define TANDEM_GRAMMAR_SCHEMA_WIDEN_INTERNAL_H

#include "grammar/schema_widen.h"

#include <stdio.h>

/* Where a "#..." reference leads; NULL: nowhere in this schema. */
const struct json *schema__resolve(const struct json *root, struct str ref);

/* No value can obey two of these schemas, as far as types, constants and required properties show it. */
bool schema__exclusive(const struct json *root, const struct json *list);

/* minProperties and maxProperties of this schema are of the kind that llguidance enforces. */
bool schema__counts_enforced(const struct json *schema);

/* Appends a pattern of ECMA-262 as llguidance reads it; NULL, or why that cannot be, in a few words. */
const char *schema__rewrite_pattern(struct str pattern, struct buf *out);

/* Why a pattern, beside the other keywords for strings of its schema, cannot be enforced; NULL: it can, and out has got
 * it as llguidance reads it. */
const char *schema__pattern_problem(const struct constraint_vocab *v, const struct json *schema, struct str pattern,
                                    struct buf *out);
const char *schema__pattern_map_problem(const struct constraint_vocab *v, const struct json *map);

const char *schema__format_pattern(struct str format); /* of a format that is better enforced as one; NULL: it is not */

/* A number in a value that cannot be written again digit by digit. */
bool schema__has_long_number(const struct json *value);

/* Where a bound has more digits than a double, one a little inside of it that has not. False: it is to be left as
 * it is. */
bool schema__inner_bound(const struct json *value, bool lower, int64_t *out);

#endif
