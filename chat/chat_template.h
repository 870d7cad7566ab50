/* A model's chat template: messages (OpenAI's message objects) to the text that the model reads.
 * Const after creation; many threads may render at once. */
#ifndef TANDEM_CHAT_CHAT_TEMPLATE_H
#define TANDEM_CHAT_CHAT_TEMPLATE_H

#include "chat/jinja.h"
#include "text/tokenizer.h"

struct chat_template;

/* source: the Jinja text. bos and eos pieces come from the tokenizer. INVALID as jinja_compile. */
NODISCARD struct chat_template *chat_template_create(struct str source, const struct tokenizer *tokenizer,
                                                     struct error *err);

/* The template of a model file (tokenizer.chat_template); NOT_FOUND when it has none. Where the file has one named
 * tool_use too, that one renders requests with tools, as in transformers. */
NODISCARD struct chat_template *chat_template_from_model_file(const struct model_file *file,
                                                              const struct tokenizer *tokenizer, struct error *err);
void chat_template_free(struct chat_template *t);
struct str chat_template_source(const struct chat_template *t);

struct chat_render {
    const struct json *messages; /* array of OpenAI message objects, already validated */
    const struct json *tools;    /* array or NULL */
    const struct json *kwargs;   /* chat_template_kwargs: object or NULL; its members become variables */
    bool add_generation_prompt;
    bool continue_final_message; /* the last message stays open, as transformers does it; excludes the former */
    int64_t now_s;
};

/* What the template can take, found by rendering probes when it is created. Messages are adapted to it, from the shape
 * in which APIs bring them to the one that models document for transformers (docs/TEMPLATES.md):
 * - members that are null and empty lists of tool calls are left out; reasoning comes under each of its names, and as a
 *   part of type thinking where the template shows it only there;
 * - arguments of tool calls, JSON in a string, become the object; where the template only takes text they stay;
 * - content beside tool calls that is null, absent or "" is absent, null or "": the first that shows the calls.
 * Elsewhere null is "";
 * - content parts of text are joined to a string, by line feeds, for a role whose parts the template does not show as
 * it shows a string, or not all of them; a string becomes a part where only parts show;
 * - role developer becomes system where the template does not know it;
 * - a tool result without a name gets that of the function that was called;
 * - ids that are not nine letters or digits become the first nine hexadecimal digits of their SHA-256 where the
 * template refuses them, in calls and results alike; where a template shows functions.NAME:INDEX for a call, results
 * get that;
 * - tools without description, parameters or properties get empty ones where the template fails on them. */
struct chat_caps {
    bool system_role; /* a system message does not raise and shows in the output */
    bool late_system; /* also behind a user's */
    bool developer_role;
    bool content_parts; /* content as a list of {"type":"text"} parts is understood */
    bool tools, tool_calls, tool_role;
    bool reasoning; /* reasoning_content shows in the output, at least where thinking is enabled */
};
struct chat_caps chat_template_caps(const struct chat_template *t);

NODISCARD bool chat_template_render(const struct chat_template *t, const struct chat_render *r, struct buf *out,
                                    struct error *err);

#endif
