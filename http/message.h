/* HTTP/1.1 request head: parsing (RFC 9112, strict) and access. No sockets here; the parser is incremental and gives
 * the same result however its input is split. Any thread; a request is read-only once it is parsed. */
#ifndef TANDEM_HTTP_MESSAGE_H
#define TANDEM_HTTP_MESSAGE_H

#include "base/buf.h"
#include "base/limits.h"

struct http_header {
    struct str name, value; /* value without surrounding blanks; no control characters but tabs */
};

struct http_request {
    struct str method, target;         /* "POST", "/v1/models?x=1", as they came */
    struct str path, query;            /* path percent-decoded (UTF-8, no control characters) and without dot segments;
                                        * query raw, without '?'; path "*" for OPTIONS in asterisk form */
    int minor_version;                 /* HTTP/1.0 or 1.1 */
    const struct http_header *headers; /* [n_headers] */
    size_t n_headers;
    bool keep_alive, chunked, expect_continue, is_head;
    uint64_t content_length; /* 0 when absent or chunked */
};

/* First header of that name (case-insensitive), or {NULL, 0}; the view lives as long as the request. */
struct str http_header_get(const struct http_request *r, const char *name);

/* Value of the first query parameter of that name, decoded as a form has it (percent escapes, '+' is a blank), appended
 * to out; false when absent, and out is untouched then. */
bool http_query_get(const struct http_request *r, const char *name, struct buf *out);

const char *http_status_text(int status); /* "Not Found"; "Unknown" for a status outside the table */

#endif
