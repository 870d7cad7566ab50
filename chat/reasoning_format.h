/* How models mark their reasoning: one table (chat/output.h takes it apart). Const. */
#ifndef TANDEM_CHAT_REASONING_FORMAT_H
#define TANDEM_CHAT_REASONING_FORMAT_H

#include "base/json.h"

struct reasoning_format;

const struct reasoning_format *reasoning_format_find(struct str name); /* by --reasoning-format; NULL: unknown */
const struct reasoning_format *reasoning_format_detect(struct str template_source); /* NULL: its models do not reason */
const char *reasoning_format_name(const struct reasoning_format *f);
size_t reasoning_format_count(void);
const struct reasoning_format *reasoning_format_at(size_t i);
/* Texts that may be special tokens and still have to reach the parser: [*n], static. */
const char *const *reasoning_format_markers(const struct reasoning_format *f, size_t *n);
/* What begins and ends it; "" where only channels do. */
const char *reasoning_format_start(const struct reasoning_format *f);
const char *reasoning_format_end(const struct reasoning_format *f);
/* Does a rendered prompt leave the reasoning open, so that the answer begins inside it? */
bool reasoning_format_is_open(const struct reasoning_format *f, struct str rendered);

#endif
