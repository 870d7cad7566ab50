/* What names a request beyond this process: the W3C's trace context (traceparent and tracestate, Recommendation of
 * 2021, https://www.w3.org/TR/trace-context-1/), and X-Request-Id. Both come from clients and go into logs, headers and
 * spans, so both are read strictly: what breaks the rules counts as absent, and the request gets names of its own. No
 * sockets, no clock, no randomness. Any thread. */
#ifndef TANDEM_HTTP_TRACE_CONTEXT_H
#define TANDEM_HTTP_TRACE_CONTEXT_H

#include "http/message.h"

#define TRACE_ID_SIZE      16
#define SPAN_ID_SIZE       8
#define TRACEPARENT_LEN    55
#define TRACESTATE_MAX     512 /* bytes that are kept; what is longer loses whole members, as the specification says */
#define TRACESTATE_MEMBERS 32
#define REQUEST_ID_MAX     128

struct trace_context {
    uint8_t trace_id[TRACE_ID_SIZE]; /* never all 0 */
    uint8_t span_id[SPAN_ID_SIZE];   /* of the sender; never all 0 */
    bool sampled;
};

/* "00-<32 hex>-<16 hex>-<2 hex>" in lower case. A higher version may go on behind another '-'; version ff and ids of
 * zeros are invalid. False leaves *out untouched. */
NODISCARD bool traceparent_parse(struct str value, struct trace_context *out);
void traceparent_write(const struct trace_context *c, char out[TRACEPARENT_LEN + 1]); /* version 00 */

/* The value of a tracestate field (several fields joined by commas) as it is passed on: without empty members and
 * blanks around members, at most TRACESTATE_MAX bytes, appended to out. False, and out untouched: it is invalid (a
 * malformed member, more than TRACESTATE_MEMBERS, a key twice) or empty. */
NODISCARD bool tracestate_parse(struct str value, struct buf *out);

/* Both fields of a request. False: no valid traceparent (several of them are none); *state is untouched then. */
NODISCARD bool trace_context_of(const struct http_request *r, struct trace_context *out, struct buf *state);

/* 1 to REQUEST_ID_MAX letters, digits and "-_.:+=@~", the first a letter or a digit: safe in a header, a path, a log.
 */
bool request_id_valid(struct str id);

/* The request's only field of that name, or {NULL, 0}. */
struct str http_header_only(const struct http_request *r, const char *name);

void hex_write(const uint8_t *bytes, size_t n, char *out); /* out: 2 * n + 1, lower case */

#endif
