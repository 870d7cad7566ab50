/* Listening sockets: TCP over IPv4 and IPv6, and unix sockets. No callbacks: the server polls and accepts. */
#ifndef TANDEM_HTTP_LISTENER_H
#define TANDEM_HTTP_LISTENER_H

#include "base/error.h"

#include <uv.h>

struct listener {
    int fd;
    bool is_tcp;
    int port;                          /* TCP: the bound one */
    char path[108];                    /* unix: to be unlinked, or "" */
    uint64_t path_device, path_number; /* which file that was: another's is not unlinked */
};

/* address: "127.0.0.1:8000", "[::1]:8000", "localhost:8000" (its first address), "unix:PATH"; port 0: any free one;
 * "fd:N": a descriptor that listens already, taken over (its file, of a unix socket, belongs to whoever made it). An
 * IPv6 listener takes IPv6 only, so that both may be given. A unix socket gets mode 0600; a socket file that nobody
 * listens on is replaced. IO names the address and the reason. May block on a name's resolution: at start only. */
NODISCARD bool listener_open(struct listener *l, uv_loop_t *loop, const char *address, struct error *err);
void listener_close(struct listener *l); /* unlinks a unix socket; fine when closed already (fd -1) */

/* Where a descriptor listens, in the form above: "127.0.0.1:8000", "[::]:8000", "unix:PATH". False: it does not listen.
 */
NODISCARD bool listener_describe(int fd, char *out, size_t size);
/* The descriptor of an address "fd:N"; false when it is another kind of address. */
bool listener_fd_of(const char *address, int *fd);

/* Whom connections are counted for. Of IPv6 it is the network of 64 bits: who has one address there has them all. */
struct client {
    bool is_unix, is_loopback; /* unix: nobody in particular */
    uint64_t network;          /* the IPv4 address, or the first half of the IPv6 address */
    bool is_ipv6;
};
bool client_equal(const struct client *a, const struct client *b);

enum accept_result {
    ACCEPT_OK,
    ACCEPT_NONE, /* nobody is waiting */
    ACCEPT_SKIP, /* that client has left: go on */
    ACCEPT_FULL  /* out of descriptors or memory: *why has the system's error; try again later */
};
/* *fd: close-on-exec. */
enum accept_result listener_accept(const struct listener *l, int *fd, struct client *who, int *why);

#endif
