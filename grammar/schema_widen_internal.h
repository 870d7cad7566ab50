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

/* Why a pattern, beside the other keywords for strings of its schema, cannot be enforced; NULL: it can. */
const char *schema__pattern_problem(const struct constraint_vocab *v, const struct json *schema, struct str pattern);
const char *schema__pattern_map_problem(const struct constraint_vocab *v, const struct json *map);

#endif
