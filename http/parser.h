/* One HTTP/1.1 request out of bytes (RFC 9112), strictly: what two readers of the same bytes could understand in two
 * ways is refused. No sockets, no clock. However the bytes are split, the request, the concatenated body pieces, the
 * error and (without an error) the number of bytes consumed are the same.
 *
 *     struct http_parser p;
 *     http_parser_init(&p, max_body);
 *     for each piece of input:
 *         while (!over) switch (http_parser_next(&p, &input, &piece, &err)) {
 *         case HTTP_PARSE_MORE:  over for this piece: bring more bytes
 *         case HTTP_PARSE_HEAD:  p.request is complete; go on
 *         case HTTP_PARSE_BODY:  piece is the next part of the body, a view into input
 *         case HTTP_PARSE_END:   the request is complete; what is left in input belongs to the next one
 *         case HTTP_PARSE_ERROR: *err says why; the connection cannot be used further
 *         }
 *     http_parser_release(&p);
 *
 * Refused besides what the grammar forbids: a bare CR or LF, obsolete line folding, blanks before a colon, several
 * Content-Length fields (equal ones too), Content-Length beside Transfer-Encoding, any transfer coding but one
 * "chunked", Transfer-Encoding in HTTP/1.0, either of them as a trailer, a Host that is missing, repeated or malformed,
 * user information in a target, fragments, invalid escapes, and escapes of control characters in the path. Owned by one
 * thread at a time. */
#ifndef TANDEM_HTTP_PARSER_H
#define TANDEM_HTTP_PARSER_H

#include "http/message.h"

enum http_parse {
    HTTP_PARSE_MORE,
    HTTP_PARSE_HEAD,
    HTTP_PARSE_BODY,
    HTTP_PARSE_END,
    HTTP_PARSE_ERROR,
    HTTP_PARSE_GO_ON /* inside the parser only; never returned by http_parser_next */
};

enum http_parser_state {
    HTTP_PARSER_REQUEST_LINE,
    HTTP_PARSER_FIELDS,
    HTTP_PARSER_SIZED_BODY,
    HTTP_PARSER_CHUNK_SIZE,
    HTTP_PARSER_CHUNK_DATA,
    HTTP_PARSER_CHUNK_END,
    HTTP_PARSER_TRAILERS,
    HTTP_PARSER_COMPLETE,
    HTTP_PARSER_FAILED
};

struct http_field_at; /* where a field line lies in the head's bytes */

struct http_parser {
    struct http_request request; /* complete after HTTP_PARSE_HEAD; views into the parser, valid until its release */
    bool has_head;               /* the request may be read; also after an error that came later than the head */

    /* private */
    enum http_parser_state state;
    struct buf line; /* the line being read, without its CR LF */
    bool line_cr;    /* its CR has come */
    struct buf text; /* request line and field lines, one after the other */
    struct buf path;
    size_t request_line_len, fields_size;
    struct http_field_at *fields; /* [n_fields] */
    struct http_header *headers;  /* [n_fields], made when the head is complete */
    size_t n_fields, fields_cap;
    int n_blank_lines;                /* before the request line */
    uint64_t max_body, body_size;     /* body_size: of all chunks announced so far */
    uint64_t body_left;               /* of the sized body or of the current chunk */
    size_t extensions_size;           /* of all chunk lines */
    size_t trailers_size, n_trailers; /* dropped, but bounded */
};

void http_parser_init(struct http_parser *p, uint64_t max_body);
void http_parser_release(struct http_parser *p);

/* Takes bytes off the front of *input up to the next event. A body larger than max_body is TOO_LARGE as soon as it is
 * announced: with the head, or with the chunk that exceeds it. Otherwise the code of an error is the answer's status:
 * INVALID 400, URI_TOO_LONG 414, EXPECTATION 417, HEADERS_TOO_LARGE 431, NOT_IMPLEMENTED 501, HTTP_VERSION 505,
 * NO_MEMORY 500. After HTTP_PARSE_END or an error it may not be called again. */
NODISCARD enum http_parse http_parser_next(struct http_parser *p, struct str *input, struct str *piece,
                                           struct error *err);

/* Another limit of the body, between HTTP_PARSE_HEAD and what comes after it; not above the one of init. False: more is
 * announced, which is TOO_LARGE. */
NODISCARD bool http_parser_limit(struct http_parser *p, uint64_t max_body, struct error *err);

bool http_parser_started(const struct http_parser *p); /* a byte of the request line has come */

#endif
