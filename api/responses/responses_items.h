/* Items of a response's input, for those who look into them: what they are. All of them have been checked
 * (responses_check_items, responses_check_earlier). */
#ifndef TANDEM_API_RESPONSES_ITEMS_H
#define TANDEM_API_RESPONSES_ITEMS_H

#include "api/responses/responses.h"

enum responses_kind {
    RESPONSES_MESSAGE,
    RESPONSES_CALL,
    RESPONSES_OUTPUT,
    RESPONSES_REASONING,
    RESPONSES_MCP_CALL,
    RESPONSES_MCP_LIST,
    RESPONSES_REFERENCE,
    RESPONSES_KINDS,
    RESPONSES_UNKNOWN
};

/* A member; "": it is not there, or no string. */
static inline struct str responses_str(const struct json *object, const char *name)
{
    return json_str(json_get(object, name));
}

enum responses_kind responses_kind(const struct json *item);
bool responses_has_role(const struct json *item, const char *role); /* it is a message of that; item NULL: false */
struct str responses_part_text(const struct json *part);            /* of a part of its content; "": it has none */

size_t responses_n_context(const struct call *c); /* the first ones are the context's */
/* NULL: the input, which is a string. References are what they mean, as far as that is known. */
const struct json *responses_item_at(const struct call *c, size_t i);

#endif
