/* The file of --warm-prompts: a JSON array of prompts, or one prompt per line. Each is
 *
 *     {"messages": [...], "tools": [...], "chat_template_kwargs": {...}}     the last two may be left out
 *     {"prompt": "..."}
 */
#ifndef TANDEM_API_WARM_FILE_H
#define TANDEM_API_WARM_FILE_H

#include "gateway/warm.h"

/* INVALID, UNKNOWN_FIELD and TOO_LARGE name the line; IO and NOT_FOUND the file. */
NODISCARD bool warm_file_read(const char *path, struct warm_list *out, struct error *err);
NODISCARD bool warm_file_parse(struct str text, struct warm_list *out, struct error *err); /* the same of its text */

#endif
