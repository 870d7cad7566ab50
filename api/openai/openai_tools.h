/* Fields of OpenAI's chat that say which tools a model may call, how it reasons, what its answer looks like. Each
 * parser is a row's of the field table (fields.h); what several fields say together is looked at by openai_check_tools.
 */
#ifndef TANDEM_API_OPENAI_TOOLS_H
#define TANDEM_API_OPENAI_TOOLS_H

#include "api/fields.h"
#include "pipeline/gen_request.h"

bool openai_parse_tools(struct decoding *d, const struct json *v, const char *name, struct error *err);
bool openai_parse_functions(struct decoding *d, const struct json *v, const char *name, struct error *err);
bool openai_parse_tool_choice(struct decoding *d, const struct json *v, const char *name, struct error *err);
bool openai_parse_function_call(struct decoding *d, const struct json *v, const char *name, struct error *err);
/* openai_fields.c: strings that end the answer. */
bool openai_parse_stop(struct decoding *d, const struct json *v, const char *name, struct error *err);
bool openai_parse_effort(struct decoding *d, const struct json *v, const char *name, struct error *err);
bool openai_parse_thinking(struct decoding *d, const struct json *v, const char *name, struct error *err);
/* openai_formats.c: what the answer has to look like. A request has one of these. */
bool openai_parse_guided(struct decoding *d, const struct json *v, const char *name, struct error *err);
bool openai_parse_structured(struct decoding *d, const struct json *v, const char *name, struct error *err);
bool openai_parse_response_format(struct decoding *d, const struct json *v, const char *name, struct error *err);
/* The members "name", "schema" and "strict" of a format of the type json_schema. where: what they are members of. */
bool openai_take_json_schema(struct gen_answer_format *format, const struct json *v, const char *where,
                             struct error *err);

/* A message, a tool and a call as chat completions have them, which is what chat templates take. */
void openai_put_message(struct json_writer *w, struct str role, struct str content);
struct openai_tool {
    struct str name, description;  /* description {NULL,0}: none */
    const struct json *parameters; /* NULL: an object without properties */
    bool strict;
};
void openai_put_tool(struct json_writer *w, const struct openai_tool *t);
void openai_put_call(struct json_writer *w, struct str id, struct str name, struct str arguments);

/* Once all fields of body are decoded into r: a choice names tools that there are, and no more of them than are allowed
 * are left. What it makes lives in the arena. */
NODISCARD bool openai_check_tools(struct gen_request *r, const struct json *body, struct error *err);

#endif
