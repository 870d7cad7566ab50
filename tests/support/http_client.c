#include "tests/support/http_client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define CLIENT_WAIT_S 20

static void open_socket(struct raw_client *c, int family)
{
    struct timeval wait = {.tv_sec = CLIENT_WAIT_S};
    *c = (struct raw_client){0};
    buf_init(&c->in, (size_t)1 << 30);
    c->fd = socket(family, SOCK_STREAM, 0);
    assert_true(c->fd >= 0);
    assert_int_equal(setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait), 0);
    assert_int_equal(setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait), 0);
}

void client_socket(struct raw_client *c)
{
    open_socket(c, AF_INET);
}

static bool try_connect(struct raw_client *c, int port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return connect(c->fd, (struct sockaddr *)&a, sizeof a) == 0;
}

void client_connect_socket(struct raw_client *c, int port)
{
    assert_true(try_connect(c, port));
}

bool client_try_connect(struct raw_client *c, int port)
{
    client_socket(c);
    if (!try_connect(c, port)) {
        client_close(c);
        return false;
    }
    return true;
}

void client_connect(struct raw_client *c, int port)
{
    client_socket(c);
    client_connect_socket(c, port);
}

bool client_connect_ipv6(struct raw_client *c, int port)
{
    struct sockaddr_in6 a = {
        .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port), .sin6_addr = in6addr_loopback};
    open_socket(c, AF_INET6);
    if (connect(c->fd, (struct sockaddr *)&a, sizeof a) != 0) {
        client_close(c);
        return false;
    }
    return true;
}

bool client_connect_unix(struct raw_client *c, const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    open_socket(c, AF_UNIX);
    if (connect(c->fd, (struct sockaddr *)&a, sizeof a) != 0) {
        client_close(c);
        return false;
    }
    return true;
}

void client_close(struct raw_client *c)
{
    close(c->fd);
    buf_release(&c->in);
}

void client_reset(struct raw_client *c)
{
    struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    assert_int_equal(setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once), 0);
    client_close(c);
}

void client_shutdown(struct raw_client *c)
{
    assert_int_equal(shutdown(c->fd, SHUT_WR), 0);
}

void client_receive_buffer(struct raw_client *c, int bytes)
{
    assert_int_equal(setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes), 0);
}

bool client_try_send(struct raw_client *c, struct str bytes)
{
    while (bytes.len) {
        ssize_t n =
            c->transmit ? c->transmit(c->arg, bytes.ptr, bytes.len) : send(c->fd, bytes.ptr, bytes.len, MSG_NOSIGNAL);
        if (n <= 0) {
            return false;
        }
        bytes = str_slice(bytes, (size_t)n, bytes.len);
    }
    return true;
}

void client_send(struct raw_client *c, struct str bytes)
{
    assert_true(client_try_send(c, bytes));
}

/* More bytes; false at the end of the stream or when it was reset. */
static bool read_more(struct raw_client *c)
{
    char bytes[16384];
    ssize_t n = c->receive ? c->receive(c->arg, bytes, sizeof bytes) : recv(c->fd, bytes, sizeof bytes, 0);
    if (n < 0 && errno != ECONNRESET) {
        fail_msg("no byte from the server in %d s; so far: '%.200s'", CLIENT_WAIT_S, c->in.data ? c->in.data : "");
    }
    if (n > 0) {
        buf_append_bytes(&c->in, bytes, (size_t)n);
    }
    return n > 0;
}

bool client_wait_for(struct raw_client *c, const char *text)
{
    while (str_find(buf_view(&c->in), str_of(text)) == STR_NPOS) {
        if (!read_more(c)) {
            return false;
        }
    }
    return true;
}

void client_expect_end(struct raw_client *c)
{
    while (read_more(c)) {
    }
    if (c->in.len) {
        fail_msg("expected the end of the stream, got '%.200s'", c->in.data);
    }
}

bool client_was_reset(struct raw_client *c)
{
    char bytes[16384];
    for (;;) {
        ssize_t n = recv(c->fd, bytes, sizeof bytes, 0);
        if (n <= 0) {
            return n < 0 && errno == ECONNRESET;
        }
    }
}

/* ---- replies ---- */

static bool take(struct raw_client *c, size_t n, struct buf *out)
{
    while (c->in.len < n) {
        if (!read_more(c)) {
            buf_append(out, buf_view(&c->in));
            buf_clear(&c->in);
            return false;
        }
    }
    buf_append(out, str_slice(buf_view(&c->in), 0, n));
    buf_drop_front(&c->in, n);
    return true;
}

/* A line without its CR LF; false at the end of the stream. */
static bool take_line(struct raw_client *c, struct buf *line)
{
    buf_clear(line);
    if (!client_wait_for(c, "\r\n")) {
        return false;
    }
    assert_true(take(c, str_find(buf_view(&c->in), STR("\r\n")), line));
    buf_drop_front(&c->in, 2);
    return true;
}

static bool take_chunked(struct raw_client *c, struct buf *body)
{
    struct buf line;
    bool ok = false;
    buf_init(&line, 4096);
    while (take_line(c, &line)) {
        unsigned long n = strtoul(line.data, NULL, 16);
        if (!(n ? take(c, n, body) : true) || !take_line(c, &line)) {
            break;
        }
        assert_int_equal(line.len, 0);
        if (n == 0) {
            ok = true;
            break;
        }
    }
    buf_release(&line);
    return ok;
}

void client_answer(struct raw_client *c, bool no_body, struct http_answer *out)
{
    *out = (struct http_answer){.complete = true};
    buf_init(&out->head, 1 << 20);
    buf_init(&out->body, (size_t)1 << 30);
    if (!client_wait_for(c, "\r\n\r\n")) {
        fail_msg("the stream ended before a reply's head; '%.200s'", c->in.data ? c->in.data : "");
    }
    assert_true(take(c, str_find(buf_view(&c->in), STR("\r\n\r\n")), &out->head));
    buf_drop_front(&c->in, 4);
    assert_true(str_starts(buf_view(&out->head), STR("HTTP/1.1 ")));
    out->status = (int)strtoul(out->head.data + 9, NULL, 10);
    size_t at = str_find(buf_view(&out->head), STR("\r\nContent-Length: "));
    if (no_body || out->status == 100 || out->status == 204 || out->status == 304) {
        return;
    }
    if (str_find(buf_view(&out->head), STR("\r\nTransfer-Encoding: chunked")) != STR_NPOS) {
        assert_true(at == STR_NPOS);
        out->complete = take_chunked(c, &out->body);
    } else if (at != STR_NPOS) {
        out->complete = take(c, strtoul(out->head.data + at + 18, NULL, 10), &out->body);
    } else {
        (void)take(c, SIZE_MAX, &out->body);
    }
}

void answer_release(struct http_answer *a)
{
    buf_release(&a->head);
    buf_release(&a->body);
}

void client_expect(struct raw_client *c, int status, const char *body)
{
    struct http_answer a;
    client_answer(c, false, &a);
    if (a.status != status || !a.complete || (body && !str_eq(buf_view(&a.body), str_of(body)))) {
        fail_msg("expected %d '%s', got (complete: %d) %s\n\n%.400s", status, body ? body : "", a.complete, a.head.data,
                 a.body.data ? a.body.data : "");
    }
    answer_release(&a);
}
