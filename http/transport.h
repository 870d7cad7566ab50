/* The byte stream beneath a connection: one connected socket on the loop, plain or with TLS. Everything above it sees
 * only bytes that came, bytes that go out and the stream's end. It owns the descriptor, the TLS session and the write
 * in flight; it knows nothing of HTTP. The loop's thread only.
 *
 *     transport_init(&t, loop, is_tcp, scratch, &events, owner);
 *     transport_secure(&t, context)  where TLS is to be spoken
 *     if (!transport_open(&t, fd)) { close(fd); transport_close(&t); }     `closed` comes in any case
 *     transport_read(&t, true);
 *     transport_write(&t, &out);     takes what it can; `written` says when the rest is out
 *     transport_close(&t);           nothing but `closed` comes after it
 *
 * No event is raised from inside a call into the transport.
 *
 * With TLS, `ended` is clean only after the peer's close_notify: a stream that just stops may have been cut by anybody.
 * What does not even begin a handshake, but looks like a request in plain text, makes the stream plain: see
 * transport_is_misdirected. */
#ifndef TANDEM_HTTP_TRANSPORT_H
#define TANDEM_HTTP_TRANSPORT_H

#include "http/tls.h"

#include <uv.h>

struct transport_events {
    void (*received)(void *owner, struct str bytes); /* a view, valid during the call */
    void (*ended)(void *owner, bool broken);         /* no more bytes: the peer's end of stream, or an error */
    void (*written)(void *owner, bool ok);           /* the write in flight, or the handshake, is over */
    void (*closed)(void *owner);                     /* the memory may be reused */
};

struct transport { /* private */
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } uv;
    uv_write_t write;
    uv_shutdown_t shutdown;
    struct buf busy; /* bytes of the write in flight */
    struct tls *tls; /* NULL: plain */
    bool is_tcp, reading, writing, closing;
    bool has_spoken;    /* a byte has come */
    bool misdirected;   /* plain text where TLS was expected */
    uint64_t submitted; /* bytes given to the system or waiting in the write in flight */
    struct str scratch; /* where bytes arrive; shared by all transports of a loop */
    const struct transport_events *events;
    void *owner;
};

/* scratch: memory for arriving bytes, which outlives the transport; it may be shared, since nothing stays in it. */
void transport_init(struct transport *t, uv_loop_t *loop, bool is_tcp, struct str scratch,
                    const struct transport_events *events, void *owner);
NODISCARD bool transport_secure(struct transport *t, struct tls_context *context); /* before open; false: memory */
NODISCARD bool transport_open(struct transport *t, int fd);                        /* takes fd when true */
void transport_close(struct transport *t);                                         /* once; what is unsent is dropped */
void transport_reset(struct transport *t); /* the same, so that the peer sees an error (TCP) */

void transport_read(struct transport *t, bool on); /* pauses or resumes; free when nothing changes */

/* Writes *out, unless a write or the handshake is in flight: then it leaves *out alone, and `written` says when to call
 * again. *out is empty after it, or becomes the write in flight. False: the stream is broken. */
NODISCARD bool transport_write(struct transport *t, struct buf *out);
void transport_shutdown(struct transport *t); /* end of stream after what was written; the peer can still send */

size_t transport_unsent(const struct transport *t);  /* bytes that wait for the system to take them */
uint64_t transport_taken(const struct transport *t); /* bytes that the system has taken, ever */

bool transport_is_handshaking(const struct transport *t); /* TLS, and the handshake is not complete */

/* Plain text came where a TLS handshake was expected. The stream is plain now, and what came is not to be trusted with
 * anything but an answer that says so. */
bool transport_is_misdirected(const struct transport *t);

/* The peer has closed both ways or reset. Needed only while reading is paused; an end of stream alone is not seen then.
 */
bool transport_hung_up(const struct transport *t);

#endif
