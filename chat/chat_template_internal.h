/* Shared by chat_template.c (lifetime, variables, rendering), chat_messages.c (adaptation of messages) and chat_probe.c
 * (what a template can take). */
#ifndef TANDEM_CHAT_CHAT_TEMPLATE_INTERNAL_H
#define TANDEM_CHAT_CHAT_TEMPLATE_INTERNAL_H

#include "chat/chat_template.h"

struct chat_template {
    struct jinja_template *jinja;
    struct str source;    /* owned */
    struct json *special; /* variables of the special tokens; owned */
    struct chat_caps caps;
    bool parts_only;       /* content has to be a list of parts: a string does not show */
    bool arguments_string; /* arguments of tool calls have to be a string: an object fails */
    bool null_content;     /* content null beside tool calls is understood */
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

/* The text that continue_final_message goes on with. INVALID when the last message has none. */
NODISCARD bool chat__final_text(const struct chat_template *t, const struct chat_render *r, struct buf *out,
                                struct error *err);

/* Fills in caps and the flags below it. A template that fails on every probe has no capabilities. */
void chat__probe(struct chat_template *t);

#endif
