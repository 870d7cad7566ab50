/* What the parser's files share. */
#ifndef TANDEM_HTTP_PARSER_INTERNAL_H
#define TANDEM_HTTP_PARSER_INTERNAL_H

#include "http/parser.h"

struct http_field_at { /* offsets into http_parser.text, which moves while it grows */
    size_t name, name_len, value, value_len;
};

/* Splits a field line and checks its name and value; views into line. what: "header field" or "trailer field". */
NODISCARD bool parser__field(struct str line, const char *what, size_t index, struct http_header *out,
                             struct error *err);

/* The request line in p->text, into p->request: method, target, version, path and query. */
NODISCARD bool parser__request_line(struct http_parser *p, struct error *err);

/* "host", "host:port", "[v6]:port" (RFC 3986, section 3.2) without user information. */
bool parser__valid_authority(struct str s);

/* Fills path (decoded, into *path) and query of *r from its method and target. */
NODISCARD bool parser__target(struct http_request *r, struct buf *path, struct error *err);

/* What the fields of the complete head mean for the message: framing, persistence, expectation, Host. */
NODISCARD bool parser__meaning(struct http_request *r, struct error *err);

/* A chunk's first line: its size; extensions are checked and dropped. */
NODISCARD bool parser__chunk_size(struct str line, uint64_t *size, struct error *err);

#endif
