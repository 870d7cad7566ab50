/* The HTTP request parser over arbitrary bytes: whatever the pieces, the same requests, bodies, errors and ends.
 * The input is a stream of requests, in the form of pieces.h. */
#include "http/parser.h"
#include "tests/fuzz/pieces.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAX_BODY     4096
#define MAX_REQUESTS 8

static bool has_dot_segment(struct str path)
{
    struct str segment;
    while (str_split(&path, '/', &segment)) {
        if (str_eq(segment, STR(".")) || str_eq(segment, STR(".."))) {
            return true;
        }
    }
    return false;
}

/* What may be relied on in every request that is accepted, and its text for the comparison. */
static void describe(const struct http_request *r, struct buf *out)
{
    check(r->method.len > 0 && r->path.len > 0);
    check(r->path.ptr[0] == '/' || str_eq(r->path, STR("*")));
    check(str_find_char(r->path, '\0') == STR_NPOS && !has_dot_segment(r->path));
    check(!(r->chunked && r->content_length) && r->content_length <= MAX_BODY);
    buf_printf(out, "%d %d %d %d %llu ", r->minor_version, r->keep_alive, r->chunked, r->expect_continue,
               (unsigned long long)r->content_length);
    buf_append(out, r->method);
    buf_append(out, r->target);
    buf_append(out, r->path);
    buf_append(out, r->query);
    for (size_t i = 0; i < r->n_headers; i++) {
        check(r->headers[i].name.len > 0 && str_find_char(r->headers[i].value, '\n') == STR_NPOS);
        buf_append(out, r->headers[i].name);
        buf_puts(out, ": ");
        buf_append(out, r->headers[i].value);
    }
    (void)http_query_get(r, "q", out);
}

/* One request from the front of *rest; false when there is no complete one. */
static bool parse_one(struct str *rest, struct pieces *pieces, struct buf *out)
{
    struct http_parser p;
    struct error err = {0};
    struct str piece, input = {rest->ptr, 0};
    uint64_t body = 0;
    enum http_parse what = HTTP_PARSE_MORE;
    http_parser_init(&p, MAX_BODY);
    while (what != HTTP_PARSE_END && what != HTTP_PARSE_ERROR) {
        what = http_parser_next(&p, &input, &piece, &err);
        if (what == HTTP_PARSE_HEAD) {
            describe(&p.request, out);
        } else if (what == HTTP_PARSE_BODY) {
            check(piece.len > 0);
            body += piece.len;
            buf_append(out, piece);
        } else if (what == HTTP_PARSE_MORE) {
            check(input.len == 0);
            if (rest->len == 0) {
                break;
            }
            input = next_piece(pieces, rest);
        }
    }
    check(body <= MAX_BODY);
    check(what != HTTP_PARSE_END || p.request.chunked || body == p.request.content_length);
    buf_printf(out, " %d %d %s\n", what, err.code, err.msg);
    if (what == HTTP_PARSE_END) { /* what is left of the piece comes first */
        *rest = (struct str){input.ptr, input.len + rest->len};
    }
    http_parser_release(&p);
    return what == HTTP_PARSE_END;
}

static void parse_all(struct str input, struct pieces *pieces, struct buf *out)
{
    for (int n = 0; n < MAX_REQUESTS && parse_one(&input, pieces, out); n++) {
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return whole_and_in_pieces(data, size, parse_all);
}
