/* TLS 1.2 and 1.3 for a server's connections (OpenSSL): a certificate with its key as a context, and sessions that make
 * records of bytes and bytes of records. No sockets: http/transport gives it what came and sends what it has written.
 * The loop's thread only.
 *
 *     struct tls_context *context = tls_context_create(&files, err);
 *     struct tls *t = tls_create(context);
 *     tls_arrived(t, records);                            a view; taken whole by the reads that follow
 *     while (tls_read(t, room, size, &n) == TLS_BYTES) {} until it wants more, or the stream ends
 *     send(tls_out(t));                                   after each read: the handshake's answers are there too
 *     tls_write(t, bytes), tls_end(t); send(tls_out(t));  once tls_ready
 *     tls_free(t);
 *     tls_context_free(context);
 *
 * What is spoken: ECDHE with AES-GCM or ChaCha20-Poly1305; ALPN "http/1.1", and a client that offers only other
 * protocols is refused (RFC 7301); no renegotiation, no compression, no early data; session tickets, whose keys live
 * as long as their context. Messages name the options --tls-cert and --tls-key, which is where paths come from. */
#ifndef TANDEM_HTTP_TLS_H
#define TANDEM_HTTP_TLS_H

#include "base/buf.h"

struct tls_files {
    const char *cert_path; /* PEM: the certificate, then those that lead to its root */
    const char *key_path;  /* PEM, without a passphrase */
};

struct tls_context;
struct tls; /* a session */

/* Reads both files and checks that they belong together. Warns in the log when others may read the key, and when the
 * certificate has expired. INVALID names the option, the file and what OpenSSL says of it. */
NODISCARD struct tls_context *tls_context_create(const struct tls_files *files, struct error *err);
void tls_context_free(struct tls_context *c);               /* its sessions live on; NULL is fine */
int64_t tls_context_expires_s(const struct tls_context *c); /* Unix time of the certificate's end */
NODISCARD struct tls *tls_create(struct tls_context *c);    /* NULL: memory */
void tls_free(struct tls *t);                               /* NULL is fine */

enum tls_result {
    TLS_BYTES,
    TLS_MORE, /* all that arrived is taken */
    TLS_END,  /* the peer's close_notify: its stream is complete */
    TLS_BROKEN
};

void tls_arrived(struct tls *t, struct str records); /* a view that lives until tls_read says something but BYTES */
enum tls_result tls_read(struct tls *t, void *room, size_t size, size_t *n); /* at most size bytes */
bool tls_ready(const struct tls *t);                                         /* the handshake is complete */
NODISCARD bool tls_write(struct tls *t, struct str bytes); /* all of them; ready ones only; false: memory, or broken */
void tls_end(struct tls *t);        /* close_notify; nothing before the handshake is complete or when it is broken */
struct buf *tls_out(struct tls *t); /* records to be sent; the caller takes them out */

#endif
