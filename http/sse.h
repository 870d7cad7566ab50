/* Server-sent events (WHATWG HTML, section 9.2): the text of one event, appended to a buffer. A payload of several
 * lines becomes several `data:` lines, whatever ends its lines (LF, CR LF or CR), so that no payload can end an event
 * early or forge a field. Any thread. */
#ifndef TANDEM_HTTP_SSE_H
#define TANDEM_HTTP_SSE_H

#include "base/buf.h"

void sse_data(struct buf *out, struct str payload); /* "data: ...\n\n" */

/* The same around a payload that is appended between the two and has no line ends, such as JSON. */
void sse_begin(struct buf *out);
void sse_end(struct buf *out);

/* The same after an "event: NAME\n" line; name holds no line end. NULL: none. */
void sse_event(struct buf *out, const char *name, struct str payload);

void sse_comment(struct buf *out, struct str text); /* ": ...\n\n"; readers skip it */

#endif
