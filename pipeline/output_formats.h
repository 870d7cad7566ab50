/* The formats in which a model writes tool calls and reasoning: found once from its chat template, or named by the
 * options. Const. */
#ifndef TANDEM_PIPELINE_OUTPUT_FORMATS_H
#define TANDEM_PIPELINE_OUTPUT_FORMATS_H

#include "chat/chat_template.h"
#include "chat/reasoning_format.h"
#include "chat/tool_format.h"

struct output_formats { /* NULL: the model has none */
    const struct tool_format *tools;
    const struct reasoning_format *reasoning;
};

/* tools, reasoning: "auto" (by the template; none without one), "none", or a format's name; NULL: auto. INVALID names
 * the option and lists the formats. */
NODISCARD bool output_formats_choose(const char *tools, const char *reasoning, const struct chat_template *chat,
                                     struct output_formats *out, struct error *err);

/* For status and help; NULL: none. */
const char *output_formats_tools(const struct output_formats *f);
const char *output_formats_reasoning(const struct output_formats *f);
/* Appends "auto, none, hermes, ...": what the options --tool-format and --reasoning-format take. */
void output_formats_list_tools(struct buf *out);
void output_formats_list_reasoning(struct buf *out);

/* The id of a marker that is a control token, which no text gives; -1: it is none. */
int32_t output_formats_marker_id(const struct tokenizer *t, const char *marker);

/* Ids of a tokenizer's control tokens that are markers of the formats: those of the reasoning first, [0, n_reasoning),
 * those of tool calls up to n. Owned: marker_ids_release. */
struct marker_ids {
    int32_t *ids;
    size_t n_reasoning, n;
};
NODISCARD bool marker_ids_init(struct marker_ids *m, const struct output_formats *f, const struct tokenizer *t,
                               struct error *err);
void marker_ids_release(struct marker_ids *m);

#endif
