#define _GNU_SOURCE
#include "base/sys_service.h"

#include "base/clock.h"
#include "base/str.h"
#include "base/sys_proc.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define FIRST_SOCKET 3 /* SD_LISTEN_FDS_START */
#define MORE_TIME_US 60000000

static uint64_t number_of(const char *name)
{
    const char *text = getenv(name);
    uint64_t value = 0;
    return text && str_to_u64(str_of(text), &value) ? value : 0;
}

/* A variable PID says for whom its fellows are; one that is absent says for everybody. */
static bool is_for_us(const char *name)
{
    return !getenv(name) || number_of(name) == (uint64_t)getpid();
}

void service_init(struct service *s)
{
    const char *where = getenv("NOTIFY_SOCKET");
    *s = (struct service){0};
    if (where && (where[0] == '/' || where[0] == '@') && strlen(where) < sizeof s->socket) {
        snprintf(s->socket, sizeof s->socket, "%s", where);
        s->watchdog_ms = is_for_us("WATCHDOG_PID") ? (int64_t)(number_of("WATCHDOG_USEC") / 1000) : 0;
    }
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
}

bool service_is_managed(const struct service *s)
{
    return s->socket[0] != '\0';
}

static void send_to(const struct service *s, const char *message)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    size_t len = strlen(s->socket);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return;
    }
    memcpy(name.sun_path, s->socket, len);
    if (name.sun_path[0] == '@') {
        name.sun_path[0] = '\0';
    }
    ssize_t n = sendto(fd, message, strlen(message), MSG_NOSIGNAL, (const struct sockaddr *)&name,
                       (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + (s->socket[0] == '/')));
    (void)n; /* news only */
    close(fd);
}

void service_notify(const struct service *s, enum service_event event, const char *status)
{
    static const char *const lines[] = {
        [SERVICE_STATUS] = "",
        [SERVICE_READY] = "READY=1\n",
        [SERVICE_RELOADING] = "RELOADING=1\n",
        [SERVICE_STOPPING] = "STOPPING=1\n",
        [SERVICE_ALIVE] = "WATCHDOG=1\n",
        [SERVICE_LOADING] = "",
    };
    char message[512], time[64] = "";
    if (!service_is_managed(s)) {
        return;
    }
    if (event == SERVICE_RELOADING) { /* what Type=notify-reload tells the old state from the new by */
        snprintf(time, sizeof time, "MONOTONIC_USEC=%" PRId64 "\n", clock_us());
    } else if (event == SERVICE_LOADING) {
        snprintf(time, sizeof time, "EXTEND_TIMEOUT_USEC=%d\n", MORE_TIME_US);
    }
    snprintf(message, sizeof message, "%s%s%s%s", lines[event], time, status ? "STATUS=" : "", status ? status : "");
    send_to(s, message);
}

int service_sockets(int fds[SERVICE_MAX_SOCKETS])
{
    uint64_t n = getenv("LISTEN_PID") && is_for_us("LISTEN_PID") ? number_of("LISTEN_FDS") : 0;
    int taken = 0;
    for (uint64_t i = 0; i < n && i < 1024; i++) {
        int fd = FIRST_SOCKET + (int)i;
        if (sys_close_on_exec(fd, true)) {
            if (taken < SERVICE_MAX_SOCKETS) {
                fds[taken++] = fd;
            } else {
                close(fd);
            }
        }
    }
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    return taken;
}
