/* A file of text as a model's tokens. */
#ifndef TANDEM_CLI_TEXT_IDS_H
#define TANDEM_CLI_TEXT_IDS_H

#include "text/tokenizer.h"

#define TEXT_IDS_MAX ((size_t)1 << 26) /* tokens of a text */

/* Without special tokens; *bos (may be NULL) is the id that the model wants before a text, or -1. ids is released by
 * the caller, also on failure. */
NODISCARD bool text_ids_read(const struct model_file *file, const char *path, struct token_list *ids, int32_t *bos,
                             struct error *err);

#endif
