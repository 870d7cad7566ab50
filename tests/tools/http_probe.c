/* http_probe: what the request parser makes of each line of standard input (a request in hexadecimal digits), one line
 * each, for tests/parity/check_http.py. Fields in hexadecimal digits, "-" when empty.
 *
 *     ok USED METHOD TARGET MINOR KEEP_ALIVE BODY [NAME:VALUE ...]     USED: bytes of the request
 *     more                                                             no end of the request
 *     error STATUS SENTENCE                                            */
#include "http/parser.h"

#include <stdio.h>
#include <stdlib.h>

#define MAX_LINE MIB(1)

static int digit(int c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The bytes of the next line; false at the end of the input. */
static bool read_request(struct buf *out)
{
    int high, low;
    buf_clear(out);
    while ((high = getchar()) != EOF && high != '\n') {
        low = getchar();
        if (digit(high) < 0 || digit(low) < 0) {
            fprintf(stderr, "http_probe: the input is not hexadecimal\n");
            exit(2);
        }
        buf_putc(out, (char)(digit(high) * 16 + digit(low)));
    }
    return high != EOF;
}

static void put_hex(struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        printf("%02x", (unsigned char)s.ptr[i]);
    }
    if (s.len == 0) {
        putchar('-');
    }
}

static void put_request(const struct http_request *r, size_t used, struct str body)
{
    printf("ok %zu ", used);
    put_hex(r->method);
    putchar(' ');
    put_hex(r->target);
    printf(" %d %d ", r->minor_version, r->keep_alive);
    put_hex(body);
    for (size_t i = 0; i < r->n_headers; i++) {
        putchar(' ');
        put_hex(r->headers[i].name);
        putchar(':');
        put_hex(r->headers[i].value);
    }
    putchar('\n');
}

static void probe(struct str all)
{
    struct http_parser p;
    struct buf body;
    struct error err = {0};
    struct str input = all, piece;
    http_parser_init(&p, MAX_LINE);
    buf_init(&body, MAX_LINE);
    for (bool over = false; !over;) {
        enum http_parse what = http_parser_next(&p, &input, &piece, &err);
        over = what != HTTP_PARSE_HEAD && what != HTTP_PARSE_BODY;
        if (what == HTTP_PARSE_BODY) {
            buf_append(&body, piece);
        } else if (what == HTTP_PARSE_END) {
            put_request(&p.request, all.len - input.len, buf_view(&body));
        } else if (what == HTTP_PARSE_ERROR) {
            printf("error %d %s\n", error_info(err.code)->http_status, err.msg);
        } else if (what == HTTP_PARSE_MORE) {
            printf("more\n");
        }
    }
    buf_release(&body);
    http_parser_release(&p);
}

int main(void)
{
    struct buf request;
    buf_init(&request, MAX_LINE);
    while (read_request(&request)) {
        probe(buf_view(&request));
    }
    buf_release(&request);
    return 0;
}
