/* Server-sent events out of bytes (WHATWG HTML, section 9.2.6 "interpreting an event stream"). No sockets, no clock.
 * However the bytes are split, the events are the same, and each comes with the byte that completes it.
 *
 *     struct sse_reader r;
 *     sse_reader_init(&r, max_event);
 *     for each piece of input:
 *         while (!over) switch (sse_reader_next(&r, &input, &event, &err)) {
 *         case SSE_READ_MORE:   over for this piece: bring more bytes
 *         case SSE_READ_EVENT:  event is complete; go on
 *         case SSE_READ_ERROR:  *err says why; the reader cannot be used further
 *         }
 *     sse_reader_release(&r);          what is incomplete at the stream's end is no event, says the standard
 *
 * Bytes are handed on as they are: that they are UTF-8 is for the payload's parser to check. Owned by one thread at a
 * time. */
#ifndef TANDEM_HTTP_SSE_READER_H
#define TANDEM_HTTP_SSE_READER_H

#include "base/buf.h"

enum sse_read { SSE_READ_MORE, SSE_READ_EVENT, SSE_READ_ERROR };

struct sse_incoming { /* views into the reader, valid until its next call */
    struct str name;  /* of the `event` field; "message" without one */
    struct str data;  /* lines of the `data` fields, joined by LF */
    struct str id;    /* the last `id` of the stream so far; may be empty */
};

struct sse_reader {
    int64_t retry_ms; /* the last `retry` of the stream; -1: none came */

    /* private */
    struct buf line, name, data, id;
    size_t max_event;
    bool dispatched; /* the last call returned an event, whose data is still here */
    bool skip_lf;    /* the line before ended with CR: an LF now is its second half */
    int mark;        /* bytes of a byte-order mark seen at the start, or -1: past it */
};

/* max_event bounds the bytes of one event's fields, and of one line. */
void sse_reader_init(struct sse_reader *r, size_t max_event);
void sse_reader_release(struct sse_reader *r);

/* Takes bytes off the front of *input up to the end of the next event. TOO_LARGE: the event or a line of it is larger
 * than max_event; NO_MEMORY. */
NODISCARD enum sse_read sse_reader_next(struct sse_reader *r, struct str *input, struct sse_incoming *event,
                                        struct error *err);

#endif
