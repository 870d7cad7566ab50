#include "tests/support/http_tls.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <openssl/err.h>

static ssize_t receive(void *arg, void *bytes, size_t size)
{
    struct tls_client *t = arg;
    size_t n;
    ERR_clear_error();
    if (SSL_read_ex(t->ssl, bytes, size, &n) == 1) {
        return (ssize_t)n;
    }
    bool clean = SSL_get_error(t->ssl, 0) == SSL_ERROR_ZERO_RETURN;
    t->complete |= clean;
    if (!clean && errno != EAGAIN) { /* cut off: no time-out */
        errno = ECONNRESET;
    }
    return clean ? 0 : -1;
}

static ssize_t transmit(void *arg, const void *bytes, size_t size)
{
    struct tls_client *t = arg;
    size_t n;
    ERR_clear_error();
    return SSL_write_ex(t->ssl, bytes, size, &n) == 1 ? (ssize_t)n : -1;
}

static void set_up(struct tls_client *t, const struct tls_settings *s)
{
    t->context = SSL_CTX_new(TLS_client_method());
    assert_non_null(t->context);
    SSL_CTX_set_security_level(t->context, 0); /* what is too weak is for the server to refuse */
    SSL_CTX_set_min_proto_version(t->context, s->min_version);
    SSL_CTX_set_max_proto_version(t->context, s->version);
    if (s->ciphers) {
        assert_int_equal(SSL_CTX_set_cipher_list(t->context, s->ciphers), 1);
    }
    if (s->trusted) {
        SSL_CTX_set_verify(t->context, SSL_VERIFY_PEER, NULL);
        assert_int_equal(SSL_CTX_load_verify_locations(t->context, s->trusted, NULL), 1);
    }
    t->ssl = SSL_new(t->context);
    assert_non_null(t->ssl);
    SSL_set1_host(t->ssl, "localhost");
    if (s->alpn) {
        SSL_set_alpn_protos(t->ssl, (const unsigned char *)s->alpn, (unsigned)strlen(s->alpn));
    }
    if (s->session) {
        SSL_set_session(t->ssl, s->session);
    }
}

bool tls_try_connect(struct tls_client *t, int port, const struct tls_settings *settings)
{
    *t = (struct tls_client){0};
    client_connect(&t->raw, port);
    set_up(t, settings);
    SSL_set_fd(t->ssl, t->raw.fd);
    t->raw.receive = receive;
    t->raw.transmit = transmit;
    t->raw.arg = t;
    if (SSL_connect(t->ssl) != 1) {
        tls_close(t);
        return false;
    }
    return true;
}

void tls_connect(struct tls_client *t, int port, const struct tls_settings *settings)
{
    if (!tls_try_connect(t, port, settings)) {
        fail_msg("the TLS handshake failed: %s", ERR_reason_error_string(ERR_peek_last_error()));
    }
}

void tls_say_end(struct tls_client *t)
{
    assert_true(SSL_shutdown(t->ssl) >= 0);
}

void tls_close(struct tls_client *t)
{
    SSL_free(t->ssl);
    SSL_CTX_free(t->context);
    client_close(&t->raw);
}
