/* What a tools/call result says, as text for a model. Pure. Any thread. */
#ifndef TANDEM_MCP_CONTENT_H
#define TANDEM_MCP_CONTENT_H

#include "base/json.h"

/* Appends the text of a result's parts, joined by LF: text as it is, the text of embedded resources, links as
 * "name: uri"; of what is no text (images, sound, other bytes) a note that says what it is and how large. A result with
 * structured content and no parts is that JSON. What is beyond max bytes is cut off, and a note says so. PROTOCOL: it
 * is no such result (and input_required, which only a client that can ask its user may answer). */
NODISCARD bool content_text(const struct json *result, size_t max, struct buf *out, struct error *err);
bool content_is_error(const struct json *result);

#endif
