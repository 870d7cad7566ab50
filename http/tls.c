/* A session reads and writes through a BIO of our own, which takes from the view of what arrived and appends to `out`.
 * So nothing is copied on the way in, what waits for its rest lies in OpenSSL's record buffer alone, and an idle
 * session holds no buffer at all (SSL_MODE_RELEASE_BUFFERS). */
#include "http/tls.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <sys/stat.h>

/* Forward secrecy and authenticated encryption. TLS 1.3 has no others. */
#define CIPHERS_1_2 "ECDHE+AESGCM:ECDHE+CHACHA20"
/* No finite-field groups: their exponentiations cost a server far more than a client. */
#define GROUPS "X25519:P-256:P-384"

#define SECURITY_LEVEL 2 /* 112 bits: RSA keys of 2048 bits and more, no SHA-1 */
#define DAY_S          86400

struct tls_context {
    SSL_CTX *ssl;
    BIO_METHOD *bio; /* of its sessions: lives as long as the last of them */
    int64_t expires_s;
    int n_users; /* the owner and the sessions */
};

struct tls {
    struct tls_context *context;
    SSL *ssl;
    struct str arrived; /* not taken yet */
    struct buf out;
    bool broken;
};

/* ---- files ---- */

/* The first entry of OpenSSL's queue is where it began. */
static const char *openssl_reason(void)
{
    unsigned long code = ERR_peek_error();
    const char *reason = ERR_SYSTEM_ERROR(code) ? strerror((int)ERR_GET_REASON(code)) : ERR_reason_error_string(code);
    return reason ? reason : "OpenSSL does not say why";
}

static bool file_error(struct error *err, const char *option, const char *path, const char *reason)
{
    return error_set(err, ERR_INVALID, "%s '%.100s': %s.", option, path, reason);
}

/* Instead of OpenSSL's question on the terminal. */
static int on_passphrase(char *out, int size, int writing, void *arg)
{
    bool *asked = arg;
    (void)out;
    (void)size;
    (void)writing;
    *asked = true;
    return -1;
}

static bool load_certificate(SSL_CTX *ssl, const struct tls_files *files, struct error *err)
{
    ERR_clear_error();
    return SSL_CTX_use_certificate_chain_file(ssl, files->cert_path) == 1 ||
           file_error(err, "--tls-cert", files->cert_path, openssl_reason());
}

static bool load_key(SSL_CTX *ssl, const struct tls_files *files, struct error *err)
{
    bool asked = false;
    ERR_clear_error();
    SSL_CTX_set_default_passwd_cb(ssl, on_passphrase);
    SSL_CTX_set_default_passwd_cb_userdata(ssl, &asked);
    /* It also compares the key with the certificate that is there. */
    bool ok =
        SSL_CTX_use_PrivateKey_file(ssl, files->key_path, SSL_FILETYPE_PEM) == 1 && SSL_CTX_check_private_key(ssl) == 1;
    SSL_CTX_set_default_passwd_cb_userdata(ssl, NULL);
    return ok ||
           file_error(err, "--tls-key", files->key_path,
                      asked ? "the key is encrypted, and nobody can be asked for its passphrase" : openssl_reason());
}

static void warn_of_open_key(const char *path)
{
    struct stat info;
    if (stat(path, &info) == 0 && info.st_mode & S_IROTH) {
        LOG_WARN("everybody on this machine may read the TLS key", "file=%s mode=%03o", path,
                 (unsigned)info.st_mode & 0777);
    }
}

static int64_t certificate_end(const SSL_CTX *ssl)
{
    int days = 0, seconds = 0;
    const X509 *certificate = SSL_CTX_get0_certificate(ssl);
    if (!certificate || ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(certificate)) != 1) {
        return 0;
    }
    return clock_wall_s() + (int64_t)days * DAY_S + seconds;
}

/* ---- what is spoken ---- */

/* The client's list: a byte of length before each name. */
static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
                   unsigned in_len, void *arg)
{
    static const struct str ours[] = {{"http/1.1", 8}, {"http/1.0", 8}};
    (void)ssl;
    (void)arg;
    for (size_t k = 0; k < sizeof ours / sizeof ours[0]; k++) {
        for (unsigned i = 0; i < in_len && in_len - i > in[i]; i += 1u + in[i]) {
            if (str_eq((struct str){(const char *)in + i + 1, in[i]}, ours[k])) {
                *out = in + i + 1;
                *out_len = in[i];
                return SSL_TLSEXT_ERR_OK;
            }
        }
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static bool set_up(SSL_CTX *ssl)
{
    static const unsigned char name[] = "tandem";
    SSL_CTX_set_security_level(ssl, SECURITY_LEVEL);
    SSL_CTX_set_options(ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE |
                                 SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF); /* tickets keep sessions with the clients */
    SSL_CTX_set_num_tickets(ssl, 1);
    SSL_CTX_set_alpn_select_cb(ssl, on_alpn, NULL);
    return SSL_CTX_set_min_proto_version(ssl, TLS1_2_VERSION) == 1 && SSL_CTX_set_cipher_list(ssl, CIPHERS_1_2) == 1 &&
           SSL_CTX_set1_groups_list(ssl, GROUPS) == 1 &&
           SSL_CTX_set_session_id_context(ssl, name, sizeof name - 1) == 1;
}

/* ---- the BIO ---- */

static int on_bio_read(BIO *bio, char *out, int size)
{
    struct tls *t = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (t->arrived.len == 0 || size <= 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    struct str piece = str_slice(t->arrived, 0, (size_t)size);
    memcpy(out, piece.ptr, piece.len);
    t->arrived = str_slice(t->arrived, piece.len, t->arrived.len);
    return (int)piece.len;
}

static int on_bio_write(BIO *bio, const char *bytes, int n)
{
    struct tls *t = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (n > 0) {
        buf_append_bytes(&t->out, bytes, (size_t)n);
    }
    return t->out.failed ? -1 : n;
}

static long on_bio_control(BIO *bio, int what, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return what == BIO_CTRL_FLUSH; /* whoever reads `out` does */
}

static BIO_METHOD *make_bio_method(void)
{
    BIO_METHOD *m = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "records");
    if (m && (BIO_meth_set_read(m, on_bio_read) != 1 || BIO_meth_set_write(m, on_bio_write) != 1 ||
              BIO_meth_set_ctrl(m, on_bio_control) != 1)) {
        BIO_meth_free(m);
        return NULL;
    }
    return m;
}

/* ---- contexts ---- */

void tls_context_free(struct tls_context *c)
{
    if (c && --c->n_users == 0) {
        SSL_CTX_free(c->ssl);
        BIO_meth_free(c->bio);
        free(c);
    }
}

struct tls_context *tls_context_create(const struct tls_files *files, struct error *err)
{
    struct tls_context *c = calloc(1, sizeof *c);
    if (!c) {
        error_set(err, ERR_NO_MEMORY, "no memory for TLS.");
        return NULL;
    }
    c->n_users = 1;
    ERR_clear_error();
    c->ssl = SSL_CTX_new(TLS_server_method());
    c->bio = make_bio_method();
    if (!c->ssl || !c->bio || !set_up(c->ssl)) {
        error_set(err, ERR_INTERNAL, "OpenSSL cannot be set up for TLS: %s.", openssl_reason());
    } else if (load_certificate(c->ssl, files, err) && load_key(c->ssl, files, err)) {
        c->expires_s = certificate_end(c->ssl);
        warn_of_open_key(files->key_path);
        if (c->expires_s <= clock_wall_s()) {
            LOG_WARN("the TLS certificate has expired", "file=%s", files->cert_path);
        }
        return c;
    }
    tls_context_free(c);
    return NULL;
}

int64_t tls_context_expires_s(const struct tls_context *c)
{
    return c->expires_s;
}

/* ---- sessions ---- */

struct tls *tls_create(struct tls_context *c)
{
    struct tls *t = calloc(1, sizeof *t);
    BIO *bio = BIO_new(c->bio);
    if (!t || !bio || !(t->ssl = SSL_new(c->ssl))) {
        free(t);
        BIO_free(bio);
        return NULL;
    }
    t->context = c;
    c->n_users++;
    buf_init(&t->out, SIZE_MAX); /* what its owner writes, which is bounded there */
    BIO_set_data(bio, t);
    BIO_set_init(bio, 1);
    SSL_set_bio(t->ssl, bio, bio);
    SSL_set_accept_state(t->ssl);
    return t;
}

void tls_free(struct tls *t)
{
    if (t) {
        SSL_free(t->ssl); /* and the BIO */
        tls_context_free(t->context);
        buf_release(&t->out);
        free(t);
    }
}

void tls_arrived(struct tls *t, struct str records)
{
    t->arrived = records;
}

bool tls_ready(const struct tls *t)
{
    return SSL_is_init_finished(t->ssl);
}

static enum tls_result broken(struct tls *t)
{
    t->broken = true;
    LOG_DEBUG("TLS: a connection broke", "reason=\"%s\" handshake=%s", openssl_reason(),
              tls_ready(t) ? "complete" : "incomplete");
    return TLS_BROKEN;
}

enum tls_result tls_read(struct tls *t, void *room, size_t size, size_t *n)
{
    ERR_clear_error(); /* SSL_get_error looks at the thread's queue, which others fill too */
    if (SSL_read_ex(t->ssl, room, size, n) == 1) {
        return TLS_BYTES;
    }
    t->arrived = (struct str){0};
    switch (SSL_get_error(t->ssl, 0)) {
    case SSL_ERROR_WANT_READ:
        return TLS_MORE;
    case SSL_ERROR_ZERO_RETURN:
        return TLS_END;
    default:
        return broken(t);
    }
}

bool tls_write(struct tls *t, struct str bytes)
{
    size_t n;
    ERR_clear_error();
    if (t->broken || (bytes.len && SSL_write_ex(t->ssl, bytes.ptr, bytes.len, &n) != 1)) {
        t->broken = true;
        return false;
    }
    return true;
}

void tls_end(struct tls *t)
{
    if (!t->broken && tls_ready(t) && !(SSL_get_shutdown(t->ssl) & SSL_SENT_SHUTDOWN)) {
        ERR_clear_error();
        (void)SSL_shutdown(t->ssl); /* its result speaks of the peer's answer, which is not waited for */
    }
}

struct buf *tls_out(struct tls *t)
{
    return &t->out;
}
