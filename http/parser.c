/* The states of a request. Everything but body bytes is read as lines of a bounded buffer, so that a rule never sees
 * half a line and the result cannot depend on how the input was split; body bytes are handed on as they lie in the
 * input. */
#include "http/parser.h"

#include "base/array.h"
#include "http/parser_internal.h"
#include "http/percent.h"

#include <stdlib.h>

#define MAX_BLANK_LINES         4       /* before a request line: some clients send one too many after a body */
#define MAX_CHUNK_LINE          512     /* size and extensions of one chunk */
#define MAX_EXTENSIONS          KIB(16) /* of all chunks together: tiny chunks with long extensions are an attack */
#define MAX_TRAILERS            KIB(8)  /* dropped, so small */
#define FIRST_BYTE_OF_TLS_HELLO 22      /* the record type: somebody speaks https to a plain port */

void http_parser_init(struct http_parser *p, uint64_t max_body)
{
    *p = (struct http_parser){.max_body = max_body};
    buf_init(&p->line, LIMIT_HTTP_HEADERS);
    buf_init(&p->text, LIMIT_HTTP_LINE + LIMIT_HTTP_HEADERS);
    buf_init(&p->path, LIMIT_HTTP_LINE);
}

void http_parser_release(struct http_parser *p)
{
    buf_release(&p->line);
    buf_release(&p->text);
    buf_release(&p->path);
    free(p->fields);
    free(p->headers);
    p->fields = NULL;
    p->headers = NULL;
}

bool http_parser_started(const struct http_parser *p)
{
    return p->state != HTTP_PARSER_REQUEST_LINE || p->line.len > 0;
}

static enum http_parse fail(struct http_parser *p)
{
    p->state = HTTP_PARSER_FAILED;
    return HTTP_PARSE_ERROR;
}

static void take(struct str *input, size_t n)
{
    *input = str_slice(*input, n, input->len);
}

/* ---- lines ---- */

enum line { LINE_MORE, LINE_COMPLETE, LINE_TOO_LONG, LINE_ERROR };

static size_t plain_run(struct str s) /* bytes before the first CR or LF */
{
    size_t lf = str_find_char(s, '\n');
    s = str_slice(s, 0, lf);
    size_t cr = str_find_char(s, '\r');
    return cr == STR_NPOS ? s.len : cr;
}

/* Adds to p->line until its CR LF. max: bytes of the line without them. */
static enum line read_line(struct http_parser *p, struct str *input, size_t max, struct error *err)
{
    while (input->len) {
        if (p->line_cr) {
            if (input->ptr[0] != '\n') {
                error_set(err, ERR_INVALID, "A carriage return must be followed by a line feed.");
                return LINE_ERROR;
            }
            take(input, 1);
            p->line_cr = false;
            return LINE_COMPLETE;
        }
        size_t n = plain_run(*input);
        if (n > max - p->line.len) {
            return LINE_TOO_LONG;
        }
        buf_append(&p->line, str_slice(*input, 0, n));
        if (!buf_ok(&p->line, "a line of the request", err)) {
            return LINE_ERROR;
        }
        take(input, n);
        if (input->len) {
            if (input->ptr[0] == '\n') {
                error_set(err, ERR_INVALID, "A line must end with CR LF, not with LF alone.");
                return LINE_ERROR;
            }
            take(input, 1);
            p->line_cr = true;
        }
    }
    return LINE_MORE;
}

/* ---- request line ---- */

static bool check_first_byte(struct http_parser *p, struct str input, struct error *err)
{
    if (p->line.len || p->line_cr || input.len == 0 || input.ptr[0] == '\r' || input.ptr[0] == '\n' ||
        is_token_char(input.ptr[0])) {
        return true; /* nothing to say yet, or a method begins */
    }
    if (input.ptr[0] == FIRST_BYTE_OF_TLS_HELLO) {
        return error_set(err, ERR_INVALID, "This port speaks plain HTTP, and a TLS handshake came.");
    }
    return error_set(err, ERR_INVALID, "A request must begin with a method, not with the byte 0x%02x.",
                     (unsigned char)input.ptr[0]);
}

static enum http_parse next_request_line(struct http_parser *p, struct str *input, struct error *err)
{
    for (;;) {
        if (!check_first_byte(p, *input, err)) {
            return fail(p);
        }
        switch (read_line(p, input, LIMIT_HTTP_LINE, err)) {
        case LINE_MORE:
            return HTTP_PARSE_MORE;
        case LINE_TOO_LONG:
            error_set(err, ERR_URI_TOO_LONG, "The request line must have at most %zu bytes.", LIMIT_HTTP_LINE);
            return fail(p);
        case LINE_ERROR:
            return fail(p);
        case LINE_COMPLETE:
            break;
        }
        if (p->line.len) {
            break;
        }
        if (++p->n_blank_lines > MAX_BLANK_LINES) {
            error_set(err, ERR_INVALID, "At most %d empty lines may precede a request.", MAX_BLANK_LINES);
            return fail(p);
        }
    }
    buf_append(&p->text, buf_view(&p->line));
    p->request_line_len = p->line.len;
    buf_clear(&p->line);
    if (!buf_ok(&p->text, "the request's head", err) || !parser__request_line(p, err)) {
        return fail(p);
    }
    p->state = HTTP_PARSER_FIELDS;
    return HTTP_PARSE_GO_ON;
}

/* ---- fields ---- */

static bool fields_too_large(struct error *err)
{
    return error_set(err, ERR_HEADERS_TOO_LARGE, "The header fields must have at most %zu bytes in %d fields.",
                     LIMIT_HTTP_HEADERS, LIMIT_HTTP_HEADER_COUNT);
}

static bool add_field(struct http_parser *p, struct error *err)
{
    struct http_header h;
    p->fields_size += p->line.len + 2;
    if (p->fields_size > LIMIT_HTTP_HEADERS || p->n_fields == LIMIT_HTTP_HEADER_COUNT) {
        return fields_too_large(err);
    }
    if (!parser__field(buf_view(&p->line), "header field", p->n_fields + 1, &h, err) ||
        !array_reserve(&p->fields, &p->fields_cap, p->n_fields + 1, LIMIT_HTTP_HEADER_COUNT, "header fields", err)) {
        return false;
    }
    p->fields[p->n_fields++] = (struct http_field_at){.name = p->text.len + (size_t)(h.name.ptr - p->line.data),
                                                      .name_len = h.name.len,
                                                      .value = p->text.len + (size_t)(h.value.ptr - p->line.data),
                                                      .value_len = h.value.len};
    buf_append(&p->text, buf_view(&p->line));
    buf_clear(&p->line);
    return buf_ok(&p->text, "the request's head", err);
}

/* The head's text has stopped moving: views can be made. */
static bool make_views(struct http_parser *p, struct error *err)
{
    p->headers = calloc(p->n_fields ? p->n_fields : 1, sizeof p->headers[0]);
    if (!p->headers) {
        return error_set(err, ERR_NO_MEMORY, "No memory for the header fields of a request.");
    }
    for (size_t i = 0; i < p->n_fields; i++) {
        const struct http_field_at *at = &p->fields[i];
        p->headers[i].name = (struct str){p->text.data + at->name, at->name_len};
        p->headers[i].value = (struct str){p->text.data + at->value, at->value_len};
    }
    p->request.headers = p->headers;
    p->request.n_headers = p->n_fields;
    return parser__request_line(p, err); /* again: its views point to where the text was before */
}

static bool too_large(const struct http_parser *p, struct error *err)
{
    return error_set(err, ERR_TOO_LARGE, "The body must have at most %llu bytes.", (unsigned long long)p->max_body);
}

bool http_parser_limit(struct http_parser *p, uint64_t max_body, struct error *err)
{
    p->max_body = max_body;
    if (p->request.content_length <= max_body) {
        return true;
    }
    p->state = HTTP_PARSER_FAILED;
    return too_large(p, err);
}

static enum http_parse complete_head(struct http_parser *p, struct error *err)
{
    struct http_request *r = &p->request;
    if (!make_views(p, err) || !parser__meaning(r, err)) {
        return fail(p);
    }
    p->has_head = true;
    if (r->content_length > p->max_body) {
        too_large(p, err);
        return fail(p);
    }
    p->body_left = r->content_length;
    p->state = r->chunked ? HTTP_PARSER_CHUNK_SIZE : r->content_length ? HTTP_PARSER_SIZED_BODY : HTTP_PARSER_COMPLETE;
    return HTTP_PARSE_HEAD;
}

static enum http_parse next_fields(struct http_parser *p, struct str *input, struct error *err)
{
    for (;;) {
        switch (read_line(p, input, LIMIT_HTTP_HEADERS - p->fields_size, err)) {
        case LINE_MORE:
            return HTTP_PARSE_MORE;
        case LINE_TOO_LONG:
            fields_too_large(err);
            return fail(p);
        case LINE_ERROR:
            return fail(p);
        case LINE_COMPLETE:
            break;
        }
        if (p->line.len == 0) {
            return complete_head(p, err);
        }
        if (!add_field(p, err)) {
            return fail(p);
        }
    }
}

/* ---- body ---- */

static bool take_body(struct http_parser *p, struct str *input, struct str *piece)
{
    *piece = str_slice(*input, 0, p->body_left < input->len ? (size_t)p->body_left : input->len);
    take(input, piece->len);
    p->body_left -= piece->len;
    return piece->len > 0;
}

static enum http_parse next_sized(struct http_parser *p, struct str *input, struct str *piece)
{
    if (!take_body(p, input, piece)) {
        return HTTP_PARSE_MORE;
    }
    if (p->body_left == 0) {
        p->state = HTTP_PARSER_COMPLETE;
    }
    return HTTP_PARSE_BODY;
}

static enum http_parse next_chunk_size(struct http_parser *p, struct str *input, struct error *err)
{
    uint64_t size;
    switch (read_line(p, input, MAX_CHUNK_LINE, err)) {
    case LINE_MORE:
        return HTTP_PARSE_MORE;
    case LINE_TOO_LONG:
        error_set(err, ERR_INVALID, "A chunk's size and extensions must have at most %d bytes.", MAX_CHUNK_LINE);
        return fail(p);
    case LINE_ERROR:
        return fail(p);
    case LINE_COMPLETE:
        break;
    }
    if (!parser__chunk_size(buf_view(&p->line), &size, err)) {
        return fail(p);
    }
    size_t extensions = str_find_char(buf_view(&p->line), ';');
    p->extensions_size += extensions == STR_NPOS ? 0 : p->line.len - extensions;
    if (p->extensions_size > MAX_EXTENSIONS) {
        error_set(err, ERR_INVALID, "All chunk extensions together must have at most %zu bytes.", MAX_EXTENSIONS);
        return fail(p);
    }
    if (size > p->max_body - p->body_size) {
        too_large(p, err);
        return fail(p);
    }
    buf_clear(&p->line);
    p->body_size += size;
    p->body_left = size;
    p->state = size ? HTTP_PARSER_CHUNK_DATA : HTTP_PARSER_TRAILERS;
    return HTTP_PARSE_GO_ON;
}

static enum http_parse next_chunk_data(struct http_parser *p, struct str *input, struct str *piece)
{
    if (!take_body(p, input, piece)) {
        return HTTP_PARSE_MORE;
    }
    if (p->body_left == 0) {
        p->state = HTTP_PARSER_CHUNK_END;
    }
    return HTTP_PARSE_BODY;
}

static enum http_parse next_chunk_end(struct http_parser *p, struct str *input, struct error *err)
{
    switch (read_line(p, input, 0, err)) {
    case LINE_MORE:
        return HTTP_PARSE_MORE;
    case LINE_COMPLETE:
        p->state = HTTP_PARSER_CHUNK_SIZE;
        return HTTP_PARSE_GO_ON;
    case LINE_TOO_LONG:
        error_set(err, ERR_INVALID, "The data of a chunk must be followed by CR LF.");
        return fail(p);
    default:
        return fail(p);
    }
}

static bool check_trailer(struct http_parser *p, struct error *err)
{
    struct http_header h;
    p->trailers_size += p->line.len + 2;
    if (p->trailers_size > MAX_TRAILERS || p->n_trailers == LIMIT_HTTP_HEADER_COUNT) {
        return error_set(err, ERR_HEADERS_TOO_LARGE, "The trailer fields must have at most %zu bytes in %d fields.",
                         MAX_TRAILERS, LIMIT_HTTP_HEADER_COUNT);
    }
    if (!parser__field(buf_view(&p->line), "trailer field", ++p->n_trailers, &h, err)) {
        return false;
    }
    if (str_eq_nocase(h.name, STR("content-length")) || str_eq_nocase(h.name, STR("transfer-encoding"))) {
        return error_set(err, ERR_INVALID, "A trailer field may not say anything about the body's length.");
    }
    return true;
}

static enum http_parse next_trailers(struct http_parser *p, struct str *input, struct error *err)
{
    switch (read_line(p, input, MAX_TRAILERS, err)) {
    case LINE_MORE:
        return HTTP_PARSE_MORE;
    case LINE_TOO_LONG:
        error_set(err, ERR_HEADERS_TOO_LARGE, "The trailer fields must have at most %zu bytes.", MAX_TRAILERS);
        return fail(p);
    case LINE_ERROR:
        return fail(p);
    case LINE_COMPLETE:
        break;
    }
    if (p->line.len == 0) {
        p->state = HTTP_PARSER_COMPLETE;
    } else if (!check_trailer(p, err)) {
        return fail(p);
    }
    buf_clear(&p->line);
    return HTTP_PARSE_GO_ON;
}

static enum http_parse step(struct http_parser *p, struct str *input, struct str *piece, struct error *err)
{
    switch (p->state) {
    case HTTP_PARSER_REQUEST_LINE:
        return next_request_line(p, input, err);
    case HTTP_PARSER_FIELDS:
        return next_fields(p, input, err);
    case HTTP_PARSER_SIZED_BODY:
        return next_sized(p, input, piece);
    case HTTP_PARSER_CHUNK_SIZE:
        return next_chunk_size(p, input, err);
    case HTTP_PARSER_CHUNK_DATA:
        return next_chunk_data(p, input, piece);
    case HTTP_PARSER_CHUNK_END:
        return next_chunk_end(p, input, err);
    case HTTP_PARSER_TRAILERS:
        return next_trailers(p, input, err);
    case HTTP_PARSER_COMPLETE:
        return HTTP_PARSE_END;
    case HTTP_PARSER_FAILED:
        break;
    }
    error_set(err, ERR_INTERNAL, "A parser that has failed was called again.");
    return HTTP_PARSE_ERROR;
}

enum http_parse http_parser_next(struct http_parser *p, struct str *input, struct str *piece, struct error *err)
{
    enum http_parse result;
    do {
        result = step(p, input, piece, err);
    } while (result == HTTP_PARSE_GO_ON);
    return result;
}
