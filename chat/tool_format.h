/* How models write tool calls: one table. A row says how a format is recognised in a chat template, what its markers
 * are, which of them are tokens of their own, and how its text is taken apart (chat/output.h runs it). Const. */
#ifndef TANDEM_CHAT_TOOL_FORMAT_H
#define TANDEM_CHAT_TOOL_FORMAT_H

#include "base/json.h"

struct tool_format;

const struct tool_format *tool_format_find(struct str name); /* by --tool-format; NULL: unknown */
/* The format that a template's source writes, by the table's order; the generic one when it has tools and none fits. */
const struct tool_format *tool_format_detect(struct str template_source);
const char *tool_format_name(const struct tool_format *f);
size_t tool_format_count(void);
const struct tool_format *tool_format_at(size_t i); /* for --help, docs and tests */
/* Texts that may be special tokens and still have to reach the parser: [*n], static. */
const char *const *tool_format_markers(const struct tool_format *f, size_t *n);
/* Texts after which nothing but a call comes: where an automatic constraint starts (lazy grammar). [*n], static; none
 * for formats whose calls begin without a marker. */
const char *const *tool_format_triggers(const struct tool_format *f, size_t *n);

/* A marker that is one token of the model. */
struct tool_token {
    const char *marker;
    int32_t id;
};

/* A grammar in llguidance's Lark for calls in this format, schemas as %json. */
struct tool_grammar {
    const struct json *definitions; /* OpenAI's tool objects: those that may be called */
    bool text_first;                /* free text may come before the first call; not where calls have no marker */
    bool parallel;                  /* more than one */
    bool after_trigger;             /* it starts behind a trigger that the model wrote (lazy) */
    const char *rule;               /* the rule that is all of it, when somebody else writes "start"; NULL: "start" */
    /* Those of the format's markers that are special tokens here: the grammar says <[id]>, as text it would not match
     * them. [n_tokens], may be NULL. */
    const struct tool_token *tokens;
    size_t n_tokens;
};
/* UNSUPPORTED where the format's calls cannot be described: no tools, names that it cannot write. TOO_LARGE by out's
 * maximum. Reasoning is not part of it. */
NODISCARD bool tool_format_grammar(const struct tool_format *f, const struct tool_grammar *g, struct buf *out,
                                   struct error *err);

#endif
