/* Shared by chat_template.c (lifetime, variables, rendering), chat_messages.c and chat_calls.c (adaptation of messages
 * and of tool calls) and chat_probe.c (what a template can take). */
#ifndef TANDEM_CHAT_CHAT_TEMPLATE_INTERNAL_H
#define TANDEM_CHAT_CHAT_TEMPLATE_INTERNAL_H

#include "chat/chat_template.h"

/* What content in parts becomes. */
enum chat_parts {
    CHAT_PARTS_JOINED,
    CHAT_PARTS_KEPT,
    CHAT_PARTS_ONLY, /* a string does not show: it becomes one part */
};

/* Content that is null, absent or empty beside tool calls. */
enum chat_empty {
    CHAT_EMPTY_ABSENT,
    CHAT_EMPTY_NULL,
    CHAT_EMPTY_STRING,
};

enum chat_ids {
    CHAT_IDS_GIVEN,
    CHAT_IDS_NINE, /* the template refuses ids that are not nine letters or digits */
    CHAT_IDS_OWN, /* it shows functions.NAME:INDEX for a call, whatever its id, and the id that is given for a result */
};

enum chat_role { CHAT_SYSTEM, CHAT_USER, CHAT_ASSISTANT, CHAT_TOOL, N_CHAT_ROLES };

struct chat_template {
    struct jinja_template *jinja;
    struct str source;              /* owned */
    struct json *special;           /* variables of the special tokens; owned */
    struct chat_template *tool_use; /* what renders requests with tools; NULL: this one. Owned */
    struct chat_caps caps;
    enum chat_parts parts[N_CHAT_ROLES];
    enum chat_empty empty;
    enum chat_ids ids;
    bool thinking_parts;   /* reasoning shows as a part {"type": "thinking"} of the content alone */
    bool whole_tools;      /* a tool without description, parameters or properties fails: it gets empty ones */
    bool arguments_string; /* arguments of tool calls have to be a string: an object fails */
};

/* What the results of tool calls refer to: the calls of the last message that has some. */
struct chat_calls {
    const struct json *calls;
    size_t next; /* the call whose result is expected */
};

#define CHAT_MAX_CONTEXT ((size_t)512 << 20) /* bytes of the variables as JSON */

/* What transformers puts behind the text to continue, to find where it ended up. */
#define CHAT_CONTINUE_TAG "CONTINUE_FINAL_MESSAGE_TAG "

/* limits: NULL for the defaults. */
NODISCARD bool chat__render(const struct chat_template *t, const struct chat_render *r,
                            const struct jinja_limits *limits, struct buf *out, struct error *err);

/* Writes the messages as the template takes them; with continue_final_message the last one carries the tag. */
NODISCARD bool chat__put_messages(const struct chat_template *t, const struct chat_render *r, struct json_writer *w,
                                  struct error *err);

/* The array of tools of a request. */
void chat__put_tools(const struct chat_template *t, const struct json *tools, struct json_writer *w);

/* The array of tool_calls of a message. */
void chat__put_calls(const struct chat_template *t, const struct json *calls, struct json_writer *w);

/* An id as the template takes it; call (NULL: unknown) is the one it names, index its place in its message. */
void chat__put_id(const struct chat_template *t, const struct json *id, const struct json *call, size_t index,
                  struct json_writer *w);

/* The call that a result belongs to and its place in its message; NULL when there is none. */
const struct json *chat__called(struct chat_calls *c, const struct json *id, size_t *index);

/* The text that continue_final_message goes on with. INVALID when the last message has none. */
NODISCARD bool chat__final_text(const struct chat_template *t, const struct chat_render *r, struct buf *out,
                                struct error *err);

/* Fills in caps and the flags below it. A template that fails on every probe has no capabilities. */
void chat__probe(struct chat_template *t);

#endif
