/* The request parser: what it reads, what it refuses with which status, and that no split of the input changes
 * anything. */
#include "http/parser.h"

#include "base/array.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define MAX_BODY 1000

/* All that can be seen of a parse, as text, so that two parses can be compared. */
static void describe(struct buf *out, const struct http_request *r)
{
    buf_printf(out, "%.*s|%.*s|%.*s|%.*s|1.%d|keep=%d chunked=%d expect=%d head=%d length=%llu\n", STR_ARG(r->method),
               STR_ARG(r->target), STR_ARG(r->path), STR_ARG(r->query), r->minor_version, r->keep_alive, r->chunked,
               r->expect_continue, r->is_head, (unsigned long long)r->content_length);
    for (size_t i = 0; i < r->n_headers; i++) {
        buf_printf(out, "[%.*s]=[%.*s]\n", STR_ARG(r->headers[i].name), STR_ARG(r->headers[i].value));
    }
}

struct outcome {
    struct buf text; /* head, body and error */
    int status;      /* 200: complete; 0: more is needed; else the error's */
    size_t used;     /* bytes, when there was no error */
};

static void release(struct outcome *o)
{
    buf_release(&o->text);
}

/* piece: bytes fed at a time; when piece is 0, two pieces: up to `cut` and the rest. */
static struct outcome parse(struct str input, size_t piece, size_t cut)
{
    struct http_parser p;
    struct outcome o = {0};
    struct buf body;
    struct error err = {0};
    size_t at = 0, left = 0;
    buf_init(&o.text, SIZE_MAX);
    buf_init(&body, SIZE_MAX);
    http_parser_init(&p, MAX_BODY);
    while (o.status == 0 && at < input.len) {
        size_t end = piece ? at + piece : at < cut ? cut : input.len;
        struct str part = str_slice(input, at, end), view;
        at += part.len;
        /* A copy of exactly this size: reading past a piece, or keeping a view into it, is seen by the sanitizers. */
        char *copy = malloc(part.len);
        memcpy(copy, part.ptr, part.len);
        part.ptr = copy;
        for (bool over = false; !over;) {
            switch (http_parser_next(&p, &part, &view, &err)) {
            case HTTP_PARSE_HEAD:
                describe(&o.text, &p.request);
                break;
            case HTTP_PARSE_BODY:
                assert_true(view.len > 0);
                buf_append(&body, view);
                break;
            case HTTP_PARSE_END:
                o.status = 200;
                left = part.len;
                over = true;
                break;
            case HTTP_PARSE_ERROR:
                o.status = error_info(err.code)->http_status;
                buf_printf(&o.text, "error %d %s", o.status, err.msg);
                over = true;
                break;
            default:
                assert_int_equal(part.len, 0);
                over = true;
            }
        }
        free(copy);
    }
    o.used = o.status == 200 ? at - left : 0;
    buf_puts(&o.text, "body:");
    buf_append(&o.text, buf_view(&body));
    buf_release(&body);
    http_parser_release(&p);
    return o;
}

static void assert_same(const struct outcome *a, const struct outcome *b, struct str input, size_t piece, size_t cut)
{
    if (a->status != b->status || a->used != b->used || !str_eq(buf_view(&a->text), buf_view(&b->text))) {
        fail_msg("pieces of %zu, cut at %zu of '%.*s':\n%d %zu %s\ninstead of\n%d %zu %s", piece, cut, STR_ARG(input),
                 b->status, b->used, b->text.data, a->status, a->used, a->text.data);
    }
}

/* Every cut into two, and pieces of 1, 2, 3 and 7 bytes, give what the whole gives. */
static void check_splits(struct str input)
{
    static const size_t pieces[] = {1, 2, 3, 7};
    struct outcome whole = parse(input, input.len, 0);
    for (size_t cut = 1; cut < input.len; cut++) {
        struct outcome o = parse(input, 0, cut);
        assert_same(&whole, &o, input, 0, cut);
        release(&o);
    }
    for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
        struct outcome o = parse(input, pieces[i], 0);
        assert_same(&whole, &o, input, pieces[i], 0);
        release(&o);
    }
    release(&whole);
}

/* ---- the table ---- */

#define H "Host: x\r\n"

static const struct {
    int status; /* 200 complete, 0 incomplete, else the error's */
    struct str input;
    const char *contains; /* of the description, or NULL */
} cases[] = {
    /* request lines */
    {200, STR("GET / HTTP/1.1\r\n" H "\r\n"), "GET|/|/||1.1|keep=1 chunked=0 expect=0 head=0 length=0"},
    {200, STR("GET / HTTP/1.0\r\n\r\n"), "1.0|keep=0"},
    {200, STR("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"), "1.0|keep=1"},
    {505, STR("GET / HTTP/1.2\r\n" H "\r\n"), "HTTP/1.2"},
    {200, STR("HEAD /a?b=c HTTP/1.1\r\n" H "\r\n"), "HEAD|/a?b=c|/a|b=c|1.1|keep=1 chunked=0 expect=0 head=1"},
    {200, STR("M-SEARCH!#$%&'*+.^_`|~9 / HTTP/1.1\r\n" H "\r\n"), NULL},
    {200, STR("\r\n\r\nGET / HTTP/1.1\r\n" H "\r\n"), "GET|/"},
    {400, STR("\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\n" H "\r\n"), "At most 4 empty lines"},
    {400, STR("GET  / HTTP/1.1\r\n" H "\r\n"), "one blank"},
    {400, STR("GET /  HTTP/1.1\r\n" H "\r\n"), "one blank"},
    {400, STR("GET / HTTP/1.1 \r\n" H "\r\n"), "one blank"},
    {400, STR(" GET / HTTP/1.1\r\n" H "\r\n"), "must begin with a method"},
    {400, STR("\tGET / HTTP/1.1\r\n" H "\r\n"), NULL},
    {400, STR("GET\t/ HTTP/1.1\r\n" H "\r\n"), NULL},
    {400, STR("GET /\r\n"), "one blank"},
    {400, STR("GET\r\n"), NULL},
    {400, STR("G@T / HTTP/1.1\r\n" H "\r\n"), "method"},
    {400, STR("G\0T / HTTP/1.1\r\n" H "\r\n"), "method"},
    {400, STR("\x16\x03\x01\x02\x00\x01"), "TLS"},
    {400, STR("{\"a\":1}"), "0x7b"},
    {400, STR("GET / HTTP/1.1\n" H "\n"), "LF alone"},
    {400, STR("GET / HTTP/1.1\r" H "\r\n"), "carriage return"},
    {400, STR("GET / HTTP/1.1\r\r\n" H "\r\n"), "carriage return"},
    {400, STR("GET / http/1.1\r\n" H "\r\n"), "HTTP/1.1"},
    {400, STR("GET / HTTP/1\r\n" H "\r\n"), NULL},
    {400, STR("GET / HTTP/1.10\r\n" H "\r\n"), NULL},
    {400, STR("GET / HTTP/11.1\r\n" H "\r\n"), NULL},
    {400, STR("GET / HTTP/x.1\r\n" H "\r\n"), NULL},
    {505, STR("GET / HTTP/2.0\r\n" H "\r\n"), "HTTP/2.0"},
    {505, STR("GET / HTTP/0.9\r\n\r\n"), NULL},
    {505, STR("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), NULL},
    /* targets */
    {200, STR("GET http://example.com:80/a/b?c HTTP/1.1\r\n" H "\r\n"), "|/a/b|c|"},
    {200, STR("GET HTTPS://example.com HTTP/1.1\r\n" H "\r\n"), "|HTTPS://example.com|/||"},
    {200, STR("GET http://[::1]:80?q HTTP/1.1\r\n" H "\r\n"), "|/|q|"},
    {200, STR("OPTIONS * HTTP/1.1\r\n" H "\r\n"), "OPTIONS|*|*||"},
    {200, STR("GET /a%20b/%C3%A9%2f%25 HTTP/1.1\r\n" H "\r\n"), "|/a b/\xc3\xa9/%|"},
    {200, STR("GET /a/./b/../c HTTP/1.1\r\n" H "\r\n"), "|/a/c|"},
    {200, STR("GET /../../x/.. HTTP/1.1\r\n" H "\r\n"), "|/../../x/..|/||"},
    {200, STR("GET /a/%2e%2e/%2E/b/. HTTP/1.1\r\n" H "\r\n"), "|/b/|"},
    {200, STR("GET /a/..%2fetc HTTP/1.1\r\n" H "\r\n"), "|/etc|"},
    {200, STR("GET /a//b/.../..c HTTP/1.1\r\n" H "\r\n"), "|/a//b/.../..c|"},
    {200, STR("GET /a? HTTP/1.1\r\n" H "\r\n"), "|/a?|/a||"},
    {200, STR("GET /a?b?c=%20+/.. HTTP/1.1\r\n" H "\r\n"), "|/a|b?c=%20+/..|"},
    {400, STR("GET * HTTP/1.1\r\n" H "\r\n"), NULL},
    {400, STR("OPTIONS *a HTTP/1.1\r\n" H "\r\n"), NULL},
    {400, STR("GET a HTTP/1.1\r\n" H "\r\n"), "must begin with"},
    {400, STR("GET ftp://x/ HTTP/1.1\r\n" H "\r\n"), NULL},
    {400, STR("GET http:///a HTTP/1.1\r\n" H "\r\n"), "host"},
    {400, STR("GET http://u:p@x/a HTTP/1.1\r\n" H "\r\n"), "without a user"},
    {400, STR("GET http://x:8a/ HTTP/1.1\r\n" H "\r\n"), NULL},
    {501, STR("CONNECT x:80 HTTP/1.1\r\n" H "\r\n"), "CONNECT"},
    {400, STR("GET /a%0 HTTP/1.1\r\n" H "\r\n"), "escape"},
    {400, STR("GET /a%zz HTTP/1.1\r\n" H "\r\n"), "escape"},
    {400, STR("GET /a?b=% HTTP/1.1\r\n" H "\r\n"), "escape"},
    {400, STR("GET /a%00 HTTP/1.1\r\n" H "\r\n"), "0x00"},
    {400, STR("GET /a%0d%0ab HTTP/1.1\r\n" H "\r\n"), "0x0d"},
    {400, STR("GET /%ff HTTP/1.1\r\n" H "\r\n"), "UTF-8"},
    {400, STR("GET /%c0%af HTTP/1.1\r\n" H "\r\n"), "UTF-8"},
    {400, STR("GET /\xc3\xa9 HTTP/1.1\r\n" H "\r\n"), "0xc3"},
    {400, STR("GET /a#b HTTP/1.1\r\n" H "\r\n"), "0x23"},
    {400, STR("GET /a\x7f HTTP/1.1\r\n" H "\r\n"), NULL},
    /* fields */
    {200, STR("GET / HTTP/1.1\r\nhOsT:x\r\nA:\r\nB: \t v w \t \r\nC:\xe9\tz\r\n\r\n"),
     "[A]=[]\n[B]=[v w]\n[C]=[\xe9\tz]"},
    {200, STR("GET / HTTP/1.1\r\n" H "A: 1\r\na: 2\r\n\r\n"), "[A]=[1]\n[a]=[2]"},
    {400, STR("GET / HTTP/1.1\r\n" H "A : 1\r\n\r\n"), "before its colon"},
    {400, STR("GET / HTTP/1.1\r\n" H "A\t: 1\r\n\r\n"), "before its colon"},
    {400, STR("GET / HTTP/1.1\r\n" H "A: 1\r\n 2\r\n\r\n"), "folded"},
    {400, STR("GET / HTTP/1.1\r\n " H "\r\n"), "folded"},
    {400, STR("GET / HTTP/1.1\r\n" H "A\r\n\r\n"), "no colon"},
    {400, STR("GET / HTTP/1.1\r\n" H ": 1\r\n\r\n"), "name"},
    {400, STR("GET / HTTP/1.1\r\n" H "A(b): 1\r\n\r\n"), "name"},
    {400, STR("GET / HTTP/1.1\r\n" H "\xc3\xa9: 1\r\n\r\n"), "name"},
    {400,
     STR("GET / HTTP/1.1\r\n" H "A: 1\0"
         "2\r\n\r\n"),
     "0x00"},
    {400, STR("GET / HTTP/1.1\r\n" H "A: 1\x01\r\n\r\n"), "0x01"},
    {400, STR("GET / HTTP/1.1\r\n" H "A: 1\x7f\r\n\r\n"), "0x7f"},
    {400, STR("GET / HTTP/1.1\r\n" H "A: 1\n\r\n"), "LF alone"},
    {400, STR("GET / HTTP/1.1\r\n" H "A: 1\rB: 2\r\n\r\n"), "carriage return"},
    {400, STR("GET / HTTP/1.1\r\n" H "\n"), "LF alone"},
    /* Host */
    {200, STR("GET / HTTP/1.1\r\nHost:\r\n\r\n"), "[Host]=[]"},
    {200, STR("GET / HTTP/1.1\r\nHost: [2001:db8::1]:8000\r\n\r\n"), NULL},
    {200, STR("GET / HTTP/1.1\r\nHost: a-b.example:8000\r\n\r\n"), NULL},
    {400, STR("GET / HTTP/1.1\r\n\r\n"), "exactly one Host"},
    {400, STR("GET / HTTP/1.1\r\n" H H "\r\n"), "2 came"},
    {400, STR("GET / HTTP/1.0\r\n" H H "\r\n"), "2 came"},
    {400, STR("GET / HTTP/1.1\r\nHost: a b\r\n\r\n"), "Host"},
    {400, STR("GET / HTTP/1.1\r\nHost: a@b\r\n\r\n"), "Host"},
    {400, STR("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"), "Host"},
    {400, STR("GET / HTTP/1.1\r\nHost: a:b\r\n\r\n"), "Host"},
    {400, STR("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n"), "Host"},
    {400, STR("GET / HTTP/1.1\r\nHost: []\r\n\r\n"), "Host"},
    /* persistence and expectation */
    {200, STR("GET / HTTP/1.1\r\n" H "Connection: close\r\n\r\n"), "keep=0"},
    {200, STR("GET / HTTP/1.1\r\n" H "Connection: x, , CLOSE\r\n\r\n"), "keep=0"},
    {200, STR("GET / HTTP/1.1\r\n" H "Connection: x\r\nConnection: close\r\n\r\n"), "keep=0"},
    {200, STR("GET / HTTP/1.1\r\n" H "Connection: closed\r\n\r\n"), "keep=1"},
    {200, STR("POST / HTTP/1.1\r\n" H "Expect: 100-Continue\r\nContent-Length: 1\r\n\r\nx"), "expect=1"},
    {200, STR("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx"), "expect=0"},
    {417, STR("POST / HTTP/1.1\r\n" H "Expect: 200-ok\r\n\r\n"), "100-continue"},
    {417, STR("POST / HTTP/1.1\r\n" H "Expect: 100-continue, b\r\n\r\n"), NULL},
    /* sized bodies */
    {200, STR("POST / HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nhelloGET"), "body:hello"},
    {200, STR("POST / HTTP/1.1\r\n" H "Content-Length: 0005\r\n\r\nhello"), "length=5"},
    {200, STR("POST / HTTP/1.1\r\n" H "Content-Length: 0\r\n\r\n"), "length=0"},
    {0, STR("POST / HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nhell"), "body:hell"},
    {400, STR("POST / HTTP/1.1\r\n" H "Content-Length:\r\n\r\n"), "decimal"},
    {400, STR("POST / HTTP/1.1\r\n" H "Content-Length: +5\r\n\r\nhello"), "decimal"},
    {400, STR("POST / HTTP/1.1\r\n" H "Content-Length: -5\r\n\r\nhello"), "decimal"},
    {400, STR("POST / HTTP/1.1\r\n" H "Content-Length: 0x5\r\n\r\nhello"), "decimal"},
    {400, STR("POST / HTTP/1.1\r\n" H "Content-Length: 5 5\r\n\r\nhello"), "decimal"},
    {400, STR("POST / HTTP/1.1\r\n" H "Content-Length: 5, 5\r\n\r\nhello"), "decimal"},
    {400, STR("POST / HTTP/1.1\r\n" H "Content-Length: 5,6\r\n\r\nhello"), "decimal"},
    {400, STR("POST / HTTP/1.1\r\n" H "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"), "at most one"},
    {400, STR("POST / HTTP/1.1\r\n" H "Content-Length: 5\r\ncontent-length: 5\r\n\r\nhello"), "at most one"},
    {400, STR("POST / HTTP/1.1\r\n" H "Content-Length : 5\r\n\r\nhello"), NULL},
    {413, STR("POST / HTTP/1.1\r\n" H "Content-Length: 1001\r\n\r\n"), "1000 bytes"},
    {413, STR("POST / HTTP/1.1\r\n" H "Content-Length: 18446744073709551615\r\n\r\n"), NULL},
    {413, STR("POST / HTTP/1.1\r\n" H "Content-Length: 18446744073709551616\r\n\r\n"), "2^64"},
    /* chunked bodies */
    {200, STR("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"), "chunked=1"},
    {200, STR("POST / HTTP/1.1\r\n" H "Transfer-Encoding: Chunked\r\n\r\n00A\r\n0123456789\r\n1\r\n-\r\n000\r\n\r\nX"),
     "body:0123456789-"},
    {200, STR("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n2;a;b=c;d=\"e\\\"\t;\"\r\nhi\r\n0;x\r\n\r\n"),
     "body:hi"},
    {200, STR("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\nC: \r\n\r\n"), "body:"},
    {0, STR("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n"), "body:hello"},
    {400, STR("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n5\r\nhelloX\r\n"), "CR LF"},
    {400, STR("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\n0\r\n\r\n"), NULL},
    {400, STR("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n"), NULL},
    {400, STR("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n"), "extensions"},
    {400, STR("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n 5\r\nhello\r\n0\r\n\r\n"), "hexadecimal"},
    {400, STR("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n"), NULL},
    {400, STR("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n"), NULL},
    {400, STR("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n\r\n"), "hexadecimal"},
    {400, STR("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n5;\r\nhello\r\n"), NULL},
    {400, STR("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n5;a=\"b\r\nhello\r\n"), NULL},
    {400, STR("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n5;a=\"b\\\r\nhello\r\n"), NULL},
    {400, STR("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\nA : b\r\n\r\n"), "trailer field 1"},
    {400, STR("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 5\r\n\r\n"), "length"},
    {400, STR("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\n\n"), NULL},
    {413, STR("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n3e9\r\n"), "1000 bytes"},
    {413, STR("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n3e8\r\n"), NULL},
    {413, STR("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n"), NULL},
    {413, STR("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n10000000000000005\r\nhello\r\n"), "2^64"},
    /* framing that two readers could understand in two ways */
    {400, STR("POST / HTTP/1.1\r\n" H "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), "both"},
    {400, STR("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"), "both"},
    {400, STR("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"), "last and only"},
    {400, STR("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n"), NULL},
    {400, STR("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked,\r\n\r\n0\r\n\r\n"), NULL},
    {400, STR("POST / HTTP/1.1\r\n" H "Transfer-Encoding:\r\n\r\n0\r\n\r\n"), NULL},
    {400, STR("POST / HTTP/1.0\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), "HTTP/1.0"},
    {501, STR("POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip\r\n\r\n"), "chunked"},
    {501, STR("POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n\r\n"), NULL},
    {501, STR("POST / HTTP/1.1\r\n" H "Transfer-Encoding: identity\r\n\r\n"), NULL},
    {501, STR("POST / HTTP/1.1\r\n" H "Transfer-Encoding: xchunked\r\n\r\n"), NULL},
    {501, STR("POST / HTTP/1.1\r\n" H "Transfer-Encoding: \"chunked\"\r\n\r\n"), NULL},
    {501, STR("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked;q=1\r\n\r\n"), NULL},
    {400, STR("POST / HTTP/1.1\r\n" H "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"), "before its colon"},
    {400,
     STR("POST / HTTP/1.1\r\n" H "Transfer-Encoding:\x0b"
         "chunked\r\n\r\n0\r\n\r\n"),
     "0x0b"},
    /* incomplete */
    {0, STR("\r\n"), NULL},
    {0, STR("GET"), NULL},
    {0, STR("GET / HTTP/1.1\r\n" H), NULL},
    {0, STR("GET / HTTP/1.1\r\n" H "\r"), NULL},
};

static void test_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct outcome o = parse(cases[i].input, cases[i].input.len, 0);
        if (o.status != cases[i].status ||
            (cases[i].contains && str_find(buf_view(&o.text), str_of(cases[i].contains)) == STR_NPOS)) {
            fail_msg("case %zu '%.*s' gives %d\n%s\nexpected %d with '%s'", i, STR_ARG(cases[i].input), o.status,
                     o.text.data, cases[i].status, cases[i].contains ? cases[i].contains : "");
        }
        release(&o);
    }
}

static void test_splits(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        check_splits(cases[i].input);
    }
}

/* Bytes behind a request are left for the next one. */
static void test_pipelined(void **state)
{
    (void)state;
    struct str input = STR("POST /1 HTTP/1.1\r\n" H "Content-Length: 2\r\n\r\nab"
                           "POST /2 HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n1\r\nc\r\n0\r\n\r\n"
                           "GET /3 HTTP/1.1\r\n" H "\r\n");
    const char *const expected[] = {"|/1|/1|", "|/2|/2|", "|/3|/3|"};
    const char *const bodies[] = {"body:ab", "body:c", "body:"};
    for (size_t i = 0; i < ARRAY_LEN(expected); i++) {
        struct outcome o = parse(input, input.len, 0);
        assert_int_equal(o.status, 200);
        assert_true(str_find(buf_view(&o.text), str_of(expected[i])) != STR_NPOS);
        assert_true(str_ends(buf_view(&o.text), str_of(bodies[i])));
        input = str_slice(input, o.used, input.len);
        release(&o);
    }
    assert_int_equal(input.len, 0);
}

/* ---- limits: the last that passes, and the first that does not ---- */

static int status_of(const struct buf *b)
{
    struct outcome whole = parse(buf_view(b), b->len, 0), pieces = parse(buf_view(b), 1000, 0);
    assert_same(&whole, &pieces, STR("(long)"), 1000, 0);
    int status = whole.status;
    release(&whole);
    release(&pieces);
    return status;
}

static void fill(struct buf *b, char c, size_t n)
{
    char *at = buf_extend(b, n);
    assert_non_null(at);
    memset(at, c, n);
}

static void start(struct buf *b, const char *text)
{
    buf_init(b, SIZE_MAX);
    buf_puts(b, text);
}

static int long_line(size_t len)
{
    struct buf b;
    start(&b, "GET /");
    fill(&b, 'a', len - strlen("GET / HTTP/1.1"));
    buf_puts(&b, " HTTP/1.1\r\nHost: x\r\n\r\n");
    int status = status_of(&b);
    buf_release(&b);
    return status;
}

static int many_fields(size_t n)
{
    struct buf b;
    start(&b, "GET / HTTP/1.1\r\nHost: x\r\n");
    for (size_t i = 1; i < n; i++) {
        buf_puts(&b, "A: b\r\n");
    }
    buf_puts(&b, "\r\n");
    int status = status_of(&b);
    buf_release(&b);
    return status;
}

static int long_fields(size_t size) /* of all lines with CR LF, without the empty one */
{
    struct buf b;
    start(&b, "GET / HTTP/1.1\r\nHost: x\r\nA: ");
    fill(&b, 'a', size - strlen("Host: x\r\nA: \r\n"));
    buf_puts(&b, "\r\n\r\n");
    int status = status_of(&b);
    buf_release(&b);
    return status;
}

static int long_trailers(size_t size)
{
    struct buf b;
    start(&b, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: ");
    fill(&b, 'a', size - strlen("A: \r\n"));
    buf_puts(&b, "\r\n\r\n");
    int status = status_of(&b);
    buf_release(&b);
    return status;
}

static int long_extensions(size_t n_chunks, size_t len)
{
    struct buf b;
    start(&b, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (size_t i = 0; i < n_chunks; i++) {
        buf_puts(&b, "1;");
        fill(&b, 'a', len - 1);
        buf_puts(&b, "\r\nx\r\n");
    }
    buf_puts(&b, "0\r\n\r\n");
    int status = status_of(&b);
    buf_release(&b);
    return status;
}

static void test_limits(void **state)
{
    (void)state;
    assert_int_equal(long_line(LIMIT_HTTP_LINE), 200);
    assert_int_equal(long_line(LIMIT_HTTP_LINE + 1), 414);
    assert_int_equal(many_fields(LIMIT_HTTP_HEADER_COUNT), 200);
    assert_int_equal(many_fields(LIMIT_HTTP_HEADER_COUNT + 1), 431);
    assert_int_equal(long_fields(LIMIT_HTTP_HEADERS), 200);
    assert_int_equal(long_fields(LIMIT_HTTP_HEADERS + 1), 431);
    assert_int_equal(long_fields(LIMIT_HTTP_HEADERS + 1000), 431);
    assert_int_equal(long_trailers(KIB(8)), 200);
    assert_int_equal(long_trailers(KIB(8) + 1), 431);
    assert_int_equal(long_trailers(KIB(9)), 431);
    assert_int_equal(long_extensions(1, 511), 200);
    assert_int_equal(long_extensions(1, 512), 400);
    assert_int_equal(long_extensions(64, 256), 200);
    assert_int_equal(long_extensions(65, 256), 400);
}

/* A line without end is refused when it exceeds the limit, not when its end comes. */
static void test_endless_line(void **state)
{
    (void)state;
    struct buf b;
    start(&b, "GET /");
    fill(&b, 'a', LIMIT_HTTP_LINE);
    assert_int_equal(status_of(&b), 414);
    buf_release(&b);
    start(&b, "GET / HTTP/1.1\r\nA: ");
    fill(&b, 'a', LIMIT_HTTP_HEADERS);
    assert_int_equal(status_of(&b), 431);
    buf_release(&b);
}

static void test_started(void **state)
{
    (void)state;
    struct http_parser p;
    struct error err = {0};
    struct str input = STR("\r\n\r\n"), piece;
    http_parser_init(&p, MAX_BODY);
    assert_int_equal(http_parser_next(&p, &input, &piece, &err), HTTP_PARSE_MORE);
    assert_false(http_parser_started(&p));
    input = STR("G");
    assert_int_equal(http_parser_next(&p, &input, &piece, &err), HTTP_PARSE_MORE);
    assert_true(http_parser_started(&p));
    assert_false(p.has_head);
    http_parser_release(&p);
}

static void test_access(void **state)
{
    (void)state;
    static const struct http_header headers[] = {{STR("Content-Type"), STR("a")}, {STR("content-type"), STR("b")}};
    struct http_request r = {.headers = headers, .n_headers = 2, .query = STR("a=1&b%3D=x+y%2B%zz&c&a=2&=e&a%00=z")};
    struct buf out;
    buf_init(&out, 100);
    assert_true(str_eq(http_header_get(&r, "CONTENT-TYPE"), STR("a")));
    assert_null(http_header_get(&r, "content").ptr);
    assert_true(http_query_get(&r, "a", &out));
    assert_string_equal(out.data, "1");
    assert_true(http_query_get(&r, "b=", &out));
    assert_string_equal(out.data, "1x y+%zz");
    assert_true(http_query_get(&r, "c", &out));
    assert_true(http_query_get(&r, "", &out));
    assert_string_equal(out.data, "1x y+%zze");
    assert_false(http_query_get(&r, "d", &out));
    assert_false(http_query_get(&r, "A", &out));
    r.query = (struct str){NULL, 0};
    assert_false(http_query_get(&r, "a", &out));
    buf_release(&out);
    assert_string_equal(http_status_text(404), "Not Found");
    assert_string_equal(http_status_text(299), "Unknown");
    for (int code = ERR_INVALID; code < ERR_COUNT; code++) {
        assert_string_not_equal(http_status_text(error_info((enum error_code)code)->http_status), "Unknown");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),  cmocka_unit_test(test_splits),       cmocka_unit_test(test_pipelined),
        cmocka_unit_test(test_limits), cmocka_unit_test(test_endless_line), cmocka_unit_test(test_started),
        cmocka_unit_test(test_access),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
