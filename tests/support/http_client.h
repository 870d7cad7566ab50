/* A client of raw sockets for tests of the HTTP server: sends exactly the bytes given and reads replies strictly. Every
 * wait ends after 20 seconds with a failed assertion. */
#ifndef TANDEM_TESTS_HTTP_CLIENT_H
#define TANDEM_TESTS_HTTP_CLIENT_H

#include "base/buf.h"

#include <sys/types.h>

struct raw_client {
    int fd;
    struct buf in; /* what came and was not taken */
    /* Instead of recv and send (http_tls.h); NULL: the socket's own. */
    ssize_t (*receive)(void *arg, void *bytes, size_t n);
    ssize_t (*transmit)(void *arg, const void *bytes, size_t n);
    void *arg;
};

struct http_answer {
    int status;
    struct buf head; /* status line and fields, without the empty line */
    struct buf body;
    bool complete; /* false: the stream ended inside the body */
};

void client_connect(struct raw_client *c, int port);              /* 127.0.0.1 */
bool client_try_connect(struct raw_client *c, int port);          /* false: refused */
bool client_connect_ipv6(struct raw_client *c, int port);         /* ::1; false: this machine has no IPv6 */
bool client_connect_unix(struct raw_client *c, const char *path); /* false: refused */
void client_socket(struct raw_client *c);                         /* only the descriptor */
void client_connect_socket(struct raw_client *c, int port);
void client_close(struct raw_client *c);
void client_reset(struct raw_client *c);    /* closes so that the server gets a reset */
void client_shutdown(struct raw_client *c); /* ends our direction */
void client_receive_buffer(struct raw_client *c, int bytes);

void client_send(struct raw_client *c, struct str bytes);
bool client_try_send(struct raw_client *c, struct str bytes); /* false: the server has closed */

/* Takes one reply. no_body: it answers HEAD. A reply without a length is read to the end of the stream. */
void client_answer(struct raw_client *c, bool no_body, struct http_answer *out);
void answer_release(struct http_answer *a);

/* Takes one reply and asserts its status and, unless NULL, that its body is this text. */
void client_expect(struct raw_client *c, int status, const char *body);

bool client_wait_for(struct raw_client *c,
                     const char *text);       /* reads until text is in c->in; false: the stream ended */
void client_expect_end(struct raw_client *c); /* the server ends the stream, with no further byte */
bool client_was_reset(struct raw_client *c);  /* drops what comes; true: a reset ended it, not an end of stream */

#endif
