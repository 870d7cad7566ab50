/* Texts of MCP over HTTP: addresses, and values of header fields. Pure. Any thread. */
#ifndef TANDEM_MCP_HTTP_TEXT_H
#define TANDEM_MCP_HTTP_TEXT_H

#include "base/buf.h"

/* "https://host:1" of "https://host:1/a?b"; an empty view when it is no such URL. */
struct str http_text_origin(struct str url);

/* What an `endpoint` event of the older transport names, seen from the URL of its stream: appended to out. FORBIDDEN
 * when that is another origin, to which headers with secrets would go; INVALID. */
NODISCARD bool http_text_join(struct str base, struct str reference, struct buf *out, struct error *err);

/* A value as 2026-07-28 has it in Mcp-Name and Mcp-Param-*: as it is where it is plain ASCII, else
 * "=?base64?...?=". */
void http_text_value(struct str value, struct buf *out);

/* A session's id: 1 to 1024 visible ASCII characters. */
bool http_text_is_session(struct str id);

/* "text/event-stream" of "Text/Event-Stream; charset=utf-8"? */
bool http_text_is_type(struct str content_type, struct str type);

#endif
