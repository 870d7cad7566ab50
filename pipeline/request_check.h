/* Messages, tools and schemas in OpenAI's shapes, checked before templates and grammars see them: what the APIs and the
 * library take alike. Errors name the field, by its place ("messages[2].content"). Pure; any thread. */
#ifndef TANDEM_PIPELINE_REQUEST_CHECK_H
#define TANDEM_PIPELINE_REQUEST_CHECK_H

#include "base/json.h"

#define REQUEST_NAME_MAX 64 /* bytes of the name of a tool or schema */

/* "expected an integer from 1 to 64, got a string": the one wording of type errors. */
bool field_type_error(struct error *err, const char *name, const char *expected, const struct json *got);
bool field_missing_error(struct error *err, const char *name);
const char *field_type_name(const struct json *v); /* "a string"; "null" */

/* An array of message objects; the field is called "messages". */
NODISCARD bool request_check_messages(const struct json *messages, struct error *err);

/* An array of tool objects of type function, no two of one name. name: of the field. */
NODISCARD bool request_check_tools(const struct json *tools, const char *name, struct error *err);
/* Its parts. function: {"name", "description", "parameters", "strict"}, found at `where`. */
NODISCARD bool request_check_function(const struct json *function, const char *where, struct error *err);
NODISCARD bool request_check_tool_count(const char *name, size_t n, struct error *err);
NODISCARD bool request_check_tool_names(const struct json *tools, const char *name, struct error *err);

bool request_is_name(struct str name, size_t max); /* 1 to max letters, digits, '_' and '-' */
/* Of a tool or a schema. */
NODISCARD bool request_check_name(const struct json *v, const char *param, struct error *err);
NODISCARD bool request_check_schema(const struct json *v, const char *param, struct error *err); /* null is fine */

#endif
