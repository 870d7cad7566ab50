/* The table of keywords. Its order is the order of the checks: first what is cheap and says most about a wrong value,
 * at the end what looks at what the others have evaluated. */
#include "grammar/json_schema_compile_internal.h"
#include "grammar/json_schema_run_internal.h"

#define C(name) json_schema__compile_##name
#define K(name) json_schema__check_##name

const struct keyword json_schema__keywords[] = {
    {"type", DRAFT_BOTH, TYPE_ANY, false, C(type), K(type)},
    {"const", DRAFT_BOTH, TYPE_ANY, false, C(enum), K(enum)},
    {"enum", DRAFT_BOTH, TYPE_ANY, false, C(enum), K(enum)},
    {"multipleOf", DRAFT_BOTH, TYPE_NUMBER, false, C(number), K(multiple)},
    {"minimum", DRAFT_BOTH, TYPE_NUMBER, false, C(number), K(bound)},
    {"maximum", DRAFT_BOTH, TYPE_NUMBER, false, C(number), K(bound)},
    {"exclusiveMinimum", DRAFT_BOTH, TYPE_NUMBER, false, C(number), K(bound)},
    {"exclusiveMaximum", DRAFT_BOTH, TYPE_NUMBER, false, C(number), K(bound)},
    {"minLength", DRAFT_BOTH, TYPE_STRING, false, C(count), K(size)},
    {"maxLength", DRAFT_BOTH, TYPE_STRING, false, C(count), K(size)},
    {"pattern", DRAFT_BOTH, TYPE_STRING, false, C(pattern), K(pattern)},
    {"format", DRAFT_BOTH, TYPE_STRING, false, C(format), K(format)},
    {"required", DRAFT_BOTH, TYPE_OBJECT, false, C(required), K(required)},
    {"minProperties", DRAFT_BOTH, TYPE_OBJECT, false, C(count), K(size)},
    {"maxProperties", DRAFT_BOTH, TYPE_OBJECT, false, C(count), K(size)},
    {"minItems", DRAFT_BOTH, TYPE_ARRAY, false, C(count), K(size)},
    {"maxItems", DRAFT_BOTH, TYPE_ARRAY, false, C(count), K(size)},
    {"properties", DRAFT_BOTH, TYPE_OBJECT, true, C(members), K(members)},
    {"patternProperties", DRAFT_BOTH, TYPE_OBJECT, true, C(members), K(members)},
    {"additionalProperties", DRAFT_BOTH, TYPE_OBJECT, true, C(members), K(members)},
    {"propertyNames", DRAFT_BOTH, TYPE_OBJECT, false, C(node), K(names)},
    {"dependentRequired", DRAFT_2020, TYPE_OBJECT, false, C(dependents), K(dependents)},
    {"dependentSchemas", DRAFT_2020, TYPE_OBJECT, false, C(dependents), K(dependents)},
    {"dependencies", DRAFT_BOTH, TYPE_OBJECT, false, C(dependents), K(dependents)},
    {"prefixItems", DRAFT_2020, TYPE_ARRAY, true, C(items), K(items)},
    {"items", DRAFT_BOTH, TYPE_ARRAY, true, C(items), K(items)},
    {"additionalItems", DRAFT_7, TYPE_ARRAY, true, C(items), K(items)},
    {"contains", DRAFT_BOTH, TYPE_ARRAY, false, C(contains), K(contains)},
    {"minContains", DRAFT_2020, TYPE_ANY, false, C(count), NULL}, /* contains reads them */
    {"maxContains", DRAFT_2020, TYPE_ANY, false, C(count), NULL},
    {"uniqueItems", DRAFT_BOTH, TYPE_ARRAY, false, C(flag), K(unique)},
    {"$ref", DRAFT_BOTH, TYPE_ANY, false, C(reference), K(reference)},
    {"$dynamicRef", DRAFT_2020, TYPE_ANY, false, C(reference), K(reference)},
    {"allOf", DRAFT_BOTH, TYPE_ANY, false, C(nodes), K(all)},
    {"anyOf", DRAFT_BOTH, TYPE_ANY, false, C(nodes), K(any)},
    {"oneOf", DRAFT_BOTH, TYPE_ANY, false, C(nodes), K(one)},
    {"not", DRAFT_BOTH, TYPE_ANY, false, C(node), K(not )},
    {"if", DRAFT_BOTH, TYPE_ANY, false, C(if), K(if)},
    {"then", DRAFT_BOTH, TYPE_ANY, false, C(node), NULL}, /* says nothing alone, but may be referred to */
    {"else", DRAFT_BOTH, TYPE_ANY, false, C(node), NULL},
    {"unevaluatedItems", DRAFT_2020, TYPE_ARRAY, false, C(unevaluated), K(unevaluated_items)},
    {"unevaluatedProperties", DRAFT_2020, TYPE_OBJECT, false, C(unevaluated), K(unevaluated_members)},
    {"$defs", DRAFT_2020, TYPE_ANY, false, C(definitions), NULL},
    {"definitions", DRAFT_BOTH, TYPE_ANY, false, C(definitions), NULL},
};
const size_t json_schema__n_keywords = ARRAY_LEN(json_schema__keywords);
