/* What a service manager gives and gets: a parent that plays systemd. */
#include "base/clock.h"
#include "base/sys_service.h"
#include "tests/support/temp_dir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* A bound datagram socket by that name, '@' for an abstract one; NOTIFY_SOCKET names it. */
static int manager(const char *where)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    size_t len = strlen(where);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    memcpy(name.sun_path, where, len);
    if (where[0] == '@') {
        name.sun_path[0] = '\0';
    }
    assert_int_equal(bind(fd, (struct sockaddr *)&name, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)), 0);
    setenv("NOTIFY_SOCKET", where, 1);
    return fd;
}

static const char *received(int fd)
{
    static char text[1024];
    ssize_t n = recv(fd, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

static void messages(void **state)
{
    (void)state;
    struct temp_dir dir;
    struct service s;
    char abstract[64];
    temp_dir_make(&dir);
    char *path = temp_dir_file(&dir, "notify");
    snprintf(abstract, sizeof abstract, "@tandem-test-notify-%d", (int)getpid());
    const char *const places[] = {path, abstract};
    for (int i = 0; i < 2; i++) {
        int fd = manager(places[i]);
        setenv("WATCHDOG_USEC", "30000000", 1);
        service_init(&s);
        assert_null(getenv("NOTIFY_SOCKET"));
        assert_null(getenv("WATCHDOG_USEC"));
        assert_true(service_is_managed(&s));
        assert_int_equal(s.watchdog_ms, 30000);
        service_notify(&s, SERVICE_READY, "serving x");
        assert_string_equal(received(fd), "READY=1\nSTATUS=serving x");
        service_notify(&s, SERVICE_ALIVE, NULL);
        assert_string_equal(received(fd), "WATCHDOG=1\n");
        service_notify(&s, SERVICE_STOPPING, "bye");
        assert_string_equal(received(fd), "STOPPING=1\nSTATUS=bye");
        service_notify(&s, SERVICE_STATUS, "hm");
        assert_string_equal(received(fd), "STATUS=hm");
        service_notify(&s, SERVICE_LOADING, "loading");
        assert_string_equal(received(fd), "EXTEND_TIMEOUT_USEC=60000000\nSTATUS=loading");
        int64_t before = clock_ns() / 1000;
        service_notify(&s, SERVICE_RELOADING, NULL);
        const char *text = received(fd), *at = strstr(text, "MONOTONIC_USEC=");
        assert_memory_equal(text, "RELOADING=1\n", 12);
        assert_non_null(at);
        long long us = strtoll(at + strlen("MONOTONIC_USEC="), NULL, 10);
        assert_true(us >= before && us <= clock_ns() / 1000);
        close(fd);
        service_notify(&s, SERVICE_ALIVE, NULL); /* nobody is there: nothing happens */
    }
    temp_dir_remove(&dir);
    free(path);
}

static void without_a_manager(void **state)
{
    (void)state;
    struct service s;
    int fds[SERVICE_MAX_SOCKETS];
    const char *const none[] = {NULL, "", "relative", "vsock:2:1234"};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        if (none[i]) {
            setenv("NOTIFY_SOCKET", none[i], 1);
        }
        setenv("WATCHDOG_USEC", "1000", 1);
        service_init(&s);
        assert_false(service_is_managed(&s));
        assert_int_equal(s.watchdog_ms, 0);
        service_notify(&s, SERVICE_READY, NULL);
    }
    assert_int_equal(service_sockets(fds), 0);
}

static void watchdog_of_another_process(void **state)
{
    (void)state;
    struct service s;
    char name[64];
    snprintf(name, sizeof name, "@tandem-test-watchdog-%d", (int)getpid());
    int fd = manager(name);
    setenv("WATCHDOG_USEC", "1000000", 1);
    setenv("WATCHDOG_PID", "1", 1);
    service_init(&s);
    assert_int_equal(s.watchdog_ms, 0);
    close(fd);
}

/* 0: all is as it should be. */
static int take_sockets(int offset)
{
    char pid[32];
    int fds[SERVICE_MAX_SOCKETS];
    snprintf(pid, sizeof pid, "%d", (int)getpid() + offset);
    setenv("LISTEN_PID", pid, 1);
    setenv("LISTEN_FDS", "2", 1);
    setenv("LISTEN_FDNAMES", "a:b", 1);
    dup2(2, 3);
    dup2(2, 4);
    int n = service_sockets(fds);
    if (getenv("LISTEN_PID") || getenv("LISTEN_FDS") || getenv("LISTEN_FDNAMES")) {
        return 1;
    }
    if (offset) {
        return n == 0 ? 0 : 2;
    }
    return n == 2 && fds[0] == 3 && fds[1] == 4 && fcntl(3, F_GETFD) == FD_CLOEXEC && fcntl(4, F_GETFD) == FD_CLOEXEC
               ? 0
               : 3;
}

static void sockets_are_for_one_process(void **state)
{
    (void)state;
    for (int offset = 0; offset < 2; offset++) {
        int status;
        pid_t child = fork();
        if (child == 0) {
            _exit(take_sockets(offset));
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages),
        cmocka_unit_test(without_a_manager),
        cmocka_unit_test(watchdog_of_another_process),
        cmocka_unit_test(sockets_are_for_one_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
