/* Clients that speak TLS with a server on 127.0.0.1, for tests of the HTTP server; the functions of http_client.h take
 * their `raw`. They trust nothing but the certificate given. */
#ifndef TANDEM_TESTS_HTTP_TLS_H
#define TANDEM_TESTS_HTTP_TLS_H

#include "tests/support/http_client.h"

#include <openssl/ssl.h>

struct tls_settings {
    const char *trusted;      /* PEM file */
    int min_version, version; /* TLS1_2_VERSION ...; version: the newest; 0: any */
    const char *ciphers;      /* of TLS 1.2; NULL: the usual */
    const char *alpn;         /* "\x08http/1.1"; NULL: none */
    SSL_SESSION *session;     /* to be resumed; NULL: none */
};

struct tls_client {
    struct raw_client raw;
    SSL_CTX *context;
    SSL *ssl;
    bool complete; /* the server has said that its stream is complete */
};

/* False: the handshake failed; there is nothing to close then. */
bool tls_try_connect(struct tls_client *t, int port, const struct tls_settings *settings);
void tls_connect(struct tls_client *t, int port, const struct tls_settings *settings);
void tls_say_end(struct tls_client *t); /* close_notify */
void tls_close(struct tls_client *t);   /* without it */

#endif
