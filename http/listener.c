#include "http/listener.h"

#include "base/str.h"
#include "base/sys_proc.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 511 /* the usual choice; the system may lower it */

static bool io_error(struct error *err, const char *address, const char *doing)
{
    return error_set(err, ERR_IO, "cannot listen on '%.100s': %s: %s.", address, doing, strerror(errno));
}

/* A descriptor for the socket that does not block and is not inherited; -1 with errno. */
static int make_socket(int family)
{
    int fd = socket(family, SOCK_STREAM, 0);
    if (fd >= 0 && (!sys_close_on_exec(fd, true) || fcntl(fd, F_SETFL, O_NONBLOCK) != 0)) {
        close(fd);
        return -1;
    }
    return fd;
}

/* ---- TCP ---- */

static bool is_bare_host(struct str s) /* an IPv6 address needs its brackets */
{
    return str_find_char(s, ':') == STR_NPOS && str_find_char(s, '[') == STR_NPOS && str_find_char(s, ']') == STR_NPOS;
}

/* "[host]:port" or "host:port", NUL-terminated copies. */
static bool split_address(struct str s, char host[256], char port[8], struct error *err)
{
    size_t colon = s.len;
    while (colon > 0 && s.ptr[colon - 1] != ':') {
        colon--;
    }
    struct str h = str_slice(s, 0, colon ? colon - 1 : 0), p = str_slice(s, colon, s.len);
    bool bracketed = h.len > 2 && h.ptr[0] == '[' && h.ptr[h.len - 1] == ']';
    h = bracketed ? str_slice(h, 1, h.len - 1) : h;
    uint64_t number;
    if (h.len == 0 || h.len > 255 || !str_to_u64(p, &number) || number > 65535 || (!bracketed && !is_bare_host(h))) {
        return error_set(err, ERR_INVALID,
                         "'" STR_FMT
                         "' is no address to listen on; expected 'host:port', '[ipv6]:port', 'unix:PATH' or 'fd:N'.",
                         STR_ARG(s));
    }
    memcpy(host, h.ptr, h.len);
    host[h.len] = '\0';
    snprintf(port, 8, "%u", (unsigned)number);
    return true;
}

static int port_of(const struct sockaddr_storage *name)
{
    return ntohs(name->ss_family == AF_INET6 ? ((const struct sockaddr_in6 *)name)->sin6_port
                                             : ((const struct sockaddr_in *)name)->sin_port);
}

static bool bind_tcp(struct listener *l, const struct addrinfo *a, const char *address, struct error *err)
{
    int on = 1;
    struct sockaddr_storage bound;
    socklen_t size = sizeof bound;
    l->fd = make_socket(a->ai_family);
    if (l->fd < 0) {
        return io_error(err, address, "socket");
    }
    if (setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        (a->ai_family == AF_INET6 && setsockopt(l->fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) != 0)) {
        return io_error(err, address, "socket options");
    }
    if (bind(l->fd, a->ai_addr, a->ai_addrlen) != 0) {
        return io_error(err, address, "bind");
    }
    if (listen(l->fd, BACKLOG) != 0 || getsockname(l->fd, (struct sockaddr *)&bound, &size) != 0) {
        return io_error(err, address, "listen");
    }
    l->port = port_of(&bound);
    return true;
}

static bool open_tcp(struct listener *l, uv_loop_t *loop, const char *address, struct error *err)
{
    char host[256], port[8];
    uv_getaddrinfo_t request;
    struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    if (!split_address(str_of(address), host, port, err)) {
        return false;
    }
    int status = uv_getaddrinfo(loop, &request, NULL, host, port, &hints);
    if (status != 0) {
        return error_set(err, ERR_IO, "cannot listen on '%.100s': %s.", address, uv_strerror(status));
    }
    l->is_tcp = true;
    bool ok = bind_tcp(l, request.addrinfo, address, err);
    uv_freeaddrinfo(request.addrinfo);
    return ok;
}

/* ---- unix ---- */

/* Removes a socket file that no process listens on any more; any other file stays. */
static bool remove_stale(const struct sockaddr_un *name, const char *address, struct error *err)
{
    struct stat info;
    if (lstat(name->sun_path, &info) != 0) {
        return errno == ENOENT || io_error(err, address, "stat");
    }
    if (!S_ISSOCK(info.st_mode)) {
        return error_set(err, ERR_IO, "cannot listen on '%.100s': a file that is no socket lies there.", address);
    }
    int fd = make_socket(AF_UNIX);
    if (fd < 0) {
        return io_error(err, address, "socket");
    }
    bool refused = connect(fd, (const struct sockaddr *)name, sizeof *name) != 0 && errno == ECONNREFUSED;
    close(fd);
    if (!refused) {
        return error_set(err, ERR_IO, "cannot listen on '%.100s': another process listens there.", address);
    }
    return unlink(name->sun_path) == 0 || io_error(err, address, "unlink");
}

static bool open_unix(struct listener *l, const char *address, struct error *err)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    struct str path = str_of(address + strlen("unix:"));
    struct stat info;
    if (path.len == 0 || path.len >= sizeof name.sun_path || path.len >= sizeof l->path) {
        return error_set(err, ERR_INVALID, "cannot listen on '%.100s': the path must have 1 to %zu bytes.", address,
                         sizeof name.sun_path - 1);
    }
    memcpy(name.sun_path, path.ptr, path.len);
    if (!remove_stale(&name, address, err)) {
        return false;
    }
    l->fd = make_socket(AF_UNIX);
    if (l->fd < 0) {
        return io_error(err, address, "socket");
    }
    if (bind(l->fd, (const struct sockaddr *)&name, sizeof name) != 0) {
        return io_error(err, address, "bind");
    }
    memcpy(l->path, name.sun_path, path.len + 1);
    /* Nobody can connect before listen: no moment in which the mode is wider. */
    if (lstat(l->path, &info) != 0) {
        return io_error(err, address, "stat");
    }
    l->path_device = (uint64_t)info.st_dev;
    l->path_number = (uint64_t)info.st_ino;
    return (chmod(l->path, 0600) == 0 && listen(l->fd, BACKLOG) == 0) || io_error(err, address, "listen");
}

/* ---- descriptors that somebody else opened ---- */

bool listener_fd_of(const char *address, int *fd)
{
    uint64_t n;
    struct str text = str_of(address);
    if (!str_starts(text, STR("fd:")) || !str_to_u64(str_slice(text, 3, text.len), &n) || n > INT_MAX) {
        return false;
    }
    *fd = (int)n;
    return true;
}

static int option_of(int fd, int option)
{
    int value = 0;
    socklen_t size = sizeof value;
    return getsockopt(fd, SOL_SOCKET, option, &value, &size) == 0 ? value : 0;
}

static bool describe(const struct sockaddr_storage *name, char *out, size_t size)
{
    char host[INET6_ADDRSTRLEN] = "";
    if (name->ss_family == AF_UNIX) {
        snprintf(out, size, "unix:%.*s", (int)sizeof((struct sockaddr_un *)0)->sun_path,
                 ((const struct sockaddr_un *)name)->sun_path);
        return true;
    }
    if (name->ss_family == AF_INET6) {
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)name)->sin6_addr, host, sizeof host);
        snprintf(out, size, "[%s]:%d", host, port_of(name));
        return true;
    }
    inet_ntop(AF_INET, &((const struct sockaddr_in *)name)->sin_addr, host, sizeof host);
    snprintf(out, size, "%s:%d", host, port_of(name));
    return name->ss_family == AF_INET;
}

bool listener_describe(int fd, char *out, size_t size)
{
    struct sockaddr_storage name = {0};
    socklen_t name_size = sizeof name;
    return option_of(fd, SO_ACCEPTCONN) && option_of(fd, SO_TYPE) == SOCK_STREAM &&
           getsockname(fd, (struct sockaddr *)&name, &name_size) == 0 && describe(&name, out, size);
}

static bool open_fd(struct listener *l, int fd, const char *address, struct error *err)
{
    struct sockaddr_storage name = {0};
    socklen_t size = sizeof name;
    char where[160];
    if (!listener_describe(fd, where, sizeof where) || getsockname(fd, (struct sockaddr *)&name, &size) != 0) {
        return error_set(err, ERR_INVALID, "cannot listen on '%.100s': no listening TCP or unix socket is open there.",
                         address);
    }
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 || !sys_close_on_exec(fd, true)) {
        return io_error(err, address, "fcntl");
    }
    l->fd = fd;
    l->is_tcp = name.ss_family != AF_UNIX;
    l->port = l->is_tcp ? port_of(&name) : 0;
    return true;
}

/* ---- life ---- */

static bool open_any(struct listener *l, uv_loop_t *loop, const char *address, struct error *err)
{
    int fd;
    if (listener_fd_of(address, &fd)) {
        return open_fd(l, fd, address, err);
    }
    return str_starts(str_of(address), STR("unix:")) ? open_unix(l, address, err) : open_tcp(l, loop, address, err);
}

bool listener_open(struct listener *l, uv_loop_t *loop, const char *address, struct error *err)
{
    *l = (struct listener){.fd = -1};
    bool ok = open_any(l, loop, address, err);
    if (!ok) {
        listener_close(l);
    }
    return ok;
}

void listener_close(struct listener *l)
{
    struct stat info;
    if (l->path[0] && lstat(l->path, &info) == 0 && (uint64_t)info.st_dev == l->path_device &&
        (uint64_t)info.st_ino == l->path_number) {
        unlink(l->path);
    }
    l->path[0] = '\0';
    if (l->fd >= 0) {
        close(l->fd);
        l->fd = -1;
    }
}

/* ---- clients ---- */

static uint64_t number_of(const uint8_t *bytes, size_t n)
{
    uint64_t number = 0;
    for (size_t i = 0; i < n; i++) {
        number = number << 8 | bytes[i];
    }
    return number;
}

/* An IPv4 address, also one that is written as an IPv6 address. */
static struct client ipv4_client(const uint8_t bytes[4])
{
    return (struct client){.network = number_of(bytes, 4), .is_loopback = bytes[0] == 127};
}

static struct client client_of(const struct sockaddr_storage *address)
{
    if (address->ss_family == AF_INET) {
        return ipv4_client((const uint8_t *)&((const struct sockaddr_in *)address)->sin_addr);
    }
    if (address->ss_family != AF_INET6) {
        return (struct client){.is_unix = true};
    }
    const struct in6_addr *a = &((const struct sockaddr_in6 *)address)->sin6_addr;
    return IN6_IS_ADDR_V4MAPPED(a) ? ipv4_client(a->s6_addr + 12)
                                   : (struct client){.network = number_of(a->s6_addr, 8),
                                                     .is_ipv6 = true,
                                                     .is_loopback = IN6_IS_ADDR_LOOPBACK(a)};
}

bool client_equal(const struct client *a, const struct client *b)
{
    return a->is_unix == b->is_unix && a->is_ipv6 == b->is_ipv6 && a->is_loopback == b->is_loopback &&
           a->network == b->network;
}

enum accept_result listener_accept(const struct listener *l, int *fd, struct client *who, int *why)
{
    struct sockaddr_storage address = {0};
    socklen_t size = sizeof address;
    *fd = accept(l->fd, (struct sockaddr *)&address, &size);
    if (*fd >= 0) {
        *who = l->is_tcp ? client_of(&address) : (struct client){.is_unix = true};
        sys_close_on_exec(*fd, true);
        return ACCEPT_OK;
    }
    *why = errno;
    switch (errno) {
    case EAGAIN:
        return ACCEPT_NONE;
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
        return ACCEPT_FULL;
    default: /* ECONNABORTED, EINTR, errors of the new socket (accept(2)): all about one client */
        return ACCEPT_SKIP;
    }
}
