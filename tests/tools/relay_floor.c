/* What the system alone takes for one token on its way: a bare loop that waits in poll, reads 51 bytes from a socket
 * pair and writes 280 to a TCP connection on loopback, a thousand times a second, between two other processes as they
 * are around a gateway. bench/overhead.py sets the gateway's processor time beside it.
 *
 *     relay_floor SECONDS     prints microseconds of processor time per message */
#include "base/clock.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define PACE_MS  1
#define IN_SIZE  51  /* an EVENTS frame of one token */
#define OUT_SIZE 280 /* its chunk */

static void die(const char *what)
{
    perror(what);
    exit(1);
}

/* The engine: one message after another. */
static _Noreturn void send_messages(int fd, int64_t until_ms)
{
    char message[IN_SIZE] = {0};
    while (clock_ms() < until_ms) {
        clock_sleep_ms(PACE_MS);
        if (write(fd, message, sizeof message) != (ssize_t)sizeof message) {
            break;
        }
    }
    _exit(0);
}

/* The client: waits, then takes what has come. */
static _Noreturn void take_messages(const struct sockaddr_in *where)
{
    char bytes[65536];
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct pollfd p = {.fd = fd, .events = POLLIN};
    if (fd < 0 || connect(fd, (const struct sockaddr *)where, sizeof *where) != 0) {
        die("connect");
    }
    while (poll(&p, 1, -1) > 0 && read(fd, bytes, sizeof bytes) > 0) {
    }
    _exit(0);
}

static int listen_anywhere(struct sockaddr_in *where)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    socklen_t size = sizeof *where;
    *where = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (fd < 0 || bind(fd, (struct sockaddr *)where, sizeof *where) != 0 || listen(fd, 1) != 0 ||
        getsockname(fd, (struct sockaddr *)where, &size) != 0) {
        die("listen");
    }
    return fd;
}

/* Until the engine has ended. Returns how many messages there were. */
static long relay(int from, int to)
{
    static const char out[OUT_SIZE];
    char in[4096];
    struct pollfd p = {.fd = from, .events = POLLIN};
    long n = 0;
    while (poll(&p, 1, -1) > 0 && read(from, in, sizeof in) > 0) {
        if (write(to, out, sizeof out) < 0) {
            die("write");
        }
        n++;
    }
    return n;
}

int main(int argc, char **argv)
{
    struct sockaddr_in where;
    int pair[2], one = 1, listener = listen_anywhere(&where);
    int64_t until_ms = clock_ms() + (int64_t)(1000 * (argc > 1 ? strtod(argv[1], NULL) : 2));
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) {
        die("socketpair");
    }
    if (fork() == 0) {
        close(pair[0]);
        send_messages(pair[1], until_ms);
    }
    close(pair[1]);
    if (fork() == 0) {
        close(pair[0]);
        take_messages(&where);
    }
    int client = accept(listener, NULL, NULL);
    if (client < 0) {
        die("accept");
    }
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    int64_t before = clock_cpu_ns();
    long n = relay(pair[0], client);
    int64_t spent = clock_cpu_ns() - before;
    close(client);
    while (wait(NULL) > 0) {
    }
    printf("%.2f\n", n ? (double)spent / 1000 / (double)n : 0.0);
    return n == 0;
}
