/* Listeners, and the end of a server with all that still runs. */
#include "base/array.h"
#include "base/clock.h"
#include "base/sys_memory.h"
#include "base/sys_proc.h"
#include "http/listener.h"
#include "tests/support/http_server.h"
#include "tests/support/temp_dir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define HOST "Host: x\r\n"

/* ---- listeners ---- */

static void test_unix_socket(void **state)
{
    (void)state;
    struct fixture f, other;
    struct raw_client c;
    struct temp_dir dir;
    struct stat info;
    char address[300];
    temp_dir_make(&dir);
    char *path = temp_dir_file(&dir, "s"), *file = temp_dir_file(&dir, "file");
    snprintf(address, sizeof address, "unix:%s", path);
    const char *const listen[] = {address, "127.0.0.1:0"};
    const struct http_server_options options = {.listen = listen, .n_listen = 2};
    server_start(&f, options);
    assert_int_equal(f.port, 0);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    assert_true(client_connect_unix(&c, path));
    client_send_text(&c, "GET /stream?n=2&size=1 HTTP/1.1\r\n" HOST "\r\n");
    client_expect(&c, 200, "ba(end)");
    client_close(&c);
    server_try_start(&other, options); /* somebody listens there */
    assert_true(other.failed);
    assert_non_null(strstr(other.err.msg, "another process listens"));
    server_join(&other);
    server_stop(&f);
    assert_int_not_equal(stat(path, &info), 0); /* unlinked */

    int fd = socket(AF_UNIX, SOCK_STREAM, 0); /* a stale one */
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    snprintf(name.sun_path, sizeof name.sun_path, "%s", path);
    assert_int_equal(bind(fd, (struct sockaddr *)&name, sizeof name), 0);
    close(fd);
    server_start(&f, options);
    assert_true(client_connect_unix(&c, path));
    client_close(&c);
    server_stop(&f);

    close(open(file, O_CREAT | O_WRONLY, 0600)); /* no socket at all: stays */
    snprintf(address, sizeof address, "unix:%s", file);
    server_try_start(&f, options);
    assert_true(f.failed);
    assert_non_null(strstr(f.err.msg, "no socket"));
    server_join(&f);
    assert_int_equal(stat(file, &info), 0);
    free(path);
    free(file);
    temp_dir_remove(&dir);
}

static void test_ipv6(void **state)
{
    (void)state;
    struct fixture f;
    struct raw_client c;
    static const char *const listen[] = {"[::1]:0"};
    server_try_start(&f, (struct http_server_options){.listen = listen, .n_listen = 1});
    if (f.failed) {
        server_join(&f);
        print_message("skip: no IPv6 here (%s)\n", f.err.msg);
        skip();
    }
    assert_true(client_connect_ipv6(&c, f.port));
    client_send_text(&c, "GET /six HTTP/1.1\r\n" HOST "\r\n");
    client_expect(&c, 200, "GET /six ");
    client_close(&c);
    server_stop(&f);
}

/* A service manager opens the sockets; they are its own also after the server has closed its copies. */
static void test_handed_over(void **state)
{
    (void)state;
    struct fixture f;
    struct raw_client c;
    struct temp_dir dir;
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    struct sockaddr_in any = {.sin_family = AF_INET};
    char addresses[2][32], where[160], expected[160];
    temp_dir_make(&dir);
    char *path = temp_dir_file(&dir, "s");
    snprintf(name.sun_path, sizeof name.sun_path, "%s", path);
    any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int tcp = socket(AF_INET, SOCK_STREAM, 0), local = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(tcp, (struct sockaddr *)&any, sizeof any), 0);
    assert_int_equal(bind(local, (struct sockaddr *)&name, sizeof name), 0);
    assert_false(listener_describe(tcp, where, sizeof where)); /* not yet */
    assert_int_equal(listen(tcp, 5) | listen(local, 5), 0);
    int copies[2] = {dup(tcp), dup(local)};
    snprintf(addresses[0], sizeof addresses[0], "fd:%d", copies[0]);
    snprintf(addresses[1], sizeof addresses[1], "fd:%d", copies[1]);
    const char *const listen_to[] = {addresses[0], addresses[1]};
    server_start(&f, (struct http_server_options){.listen = listen_to, .n_listen = 2});
    assert_true(f.port > 0);
    assert_true(listener_describe(tcp, where, sizeof where));
    snprintf(expected, sizeof expected, "127.0.0.1:%d", f.port);
    assert_string_equal(where, expected);
    assert_true(listener_describe(local, where, sizeof where));
    snprintf(expected, sizeof expected, "unix:%s", path);
    assert_string_equal(where, expected);
    client_connect(&c, f.port);
    client_send_text(&c, "GET / HTTP/1.1\r\n" HOST "\r\n");
    client_expect(&c, 200, NULL);
    client_close(&c);
    assert_true(client_connect_unix(&c, path));
    client_send_text(&c, "GET / HTTP/1.1\r\n" HOST "\r\n");
    client_expect(&c, 200, NULL);
    client_close(&c);
    server_stop(&f);
    assert_true(listener_describe(tcp, where, sizeof where));
    assert_int_equal(access(path, F_OK), 0); /* not unlinked */
    close(tcp);
    close(local);
    free(path);
    temp_dir_remove(&dir);
}

static void test_bad_addresses(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",          "8000",         ":8000", "127.0.0.1",    "127.0.0.1:", "1.2.3.4:x", "::1:8000", "127.0.0.1:65536",
        "[::1]",     "unix:",        "[]:1",  "127.0.0.1:-1", "fd:",        "fd:-1",     "fd:x",     "fd:0",
        "fd:987654", "fd:4294967299"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct fixture f;
        server_try_start(&f, (struct http_server_options){.listen = &bad[i], .n_listen = 1});
        assert_true(f.failed);
        assert_int_equal(f.err.code, ERR_INVALID);
        server_join(&f);
    }
    struct fixture first, second;
    char address[64];
    const char *const taken[] = {"127.0.0.1:0", address};
    server_start(&first, (struct http_server_options){0});
    snprintf(address, sizeof address, "127.0.0.1:%d", first.port);
    server_try_start(&second, (struct http_server_options){.listen = taken, .n_listen = 2});
    assert_true(second.failed);
    assert_int_equal(second.err.code, ERR_IO);
    assert_non_null(strstr(second.err.msg, address));
    server_join(&second);
    server_stop(&first);
}

/* ---- end of a server ---- */

static void test_stop_accepting(void **state)
{
    (void)state;
    struct fixture f;
    struct raw_client idle, running, late;
    struct http_answer a;
    server_start(&f, (struct http_server_options){0});
    client_connect(&idle, f.port);
    client_send_text(&idle, "GET / HTTP/1.1\r\n" HOST "\r\n");
    client_expect(&idle, 200, NULL);
    client_connect(&running, f.port);
    client_send_text(&running, "GET /later?ms=100 HTTP/1.1\r\n" HOST "\r\nGET /dropped HTTP/1.1\r\n" HOST "\r\n");
    assert_true(count_reaches(&f.requests, 2));
    server_command(&f, COMMAND_STOP_ACCEPTING);
    client_expect_end(&idle);
    client_answer(&running, false, &a);
    assert_int_equal(a.status, 200);
    assert_true(answer_has(&a, "Connection: close"));
    answer_release(&a);
    client_expect_end(&running);
    assert_false(client_try_connect(&late, f.port));
    client_close(&idle);
    client_close(&running);
    assert_true(server_connections_become(&f, 0));
    server_stop(&f);
    assert_int_equal(f.requests, 2);
}

static void test_close_with_running_exchanges(void **state)
{
    (void)state;
    struct fixture f;
    struct raw_client clients[6];
    static const char *const requests[] = {
        "GET /never HTTP/1.1\r\n" HOST "\r\n",
        "GET /stream?n=1000&ms=100 HTTP/1.1\r\n" HOST "\r\n",
        "GET /stream?n=10000&size=100000&ms=0 HTTP/1.1\r\n" HOST "\r\n", /* blocked by its reader */
        "GET /half",
        "POST / HTTP/1.1\r\n" HOST "Content-Length: 9\r\n\r\nhalf",
        "",
    };
    server_start(&f, (struct http_server_options){0});
    for (size_t i = 0; i < ARRAY_LEN(clients); i++) {
        client_connect(&clients[i], f.port);
        client_send_text(&clients[i], requests[i]);
    }
    assert_true(count_reaches(&f.requests, 3));
    assert_true(server_connections_become(&f, 6));
    clock_sleep_ms(50);
    server_stop(&f);
    assert_int_equal(f.gone, 3);
    for (size_t i = 0; i < ARRAY_LEN(clients); i++) {
        client_close(&clients[i]);
    }
}

/* 1,000 connections of every kind leave no descriptor behind. */
static void test_no_leaks(void **state)
{
    (void)state;
    struct fixture f;
    static const char *const requests[] = {
        "GET / HTTP/1.1\r\n" HOST "\r\n",
        "GET /stream?n=20&size=1000&ms=0 HTTP/1.1\r\n" HOST "\r\n",
        "GET /never HTTP/1.1\r\n" HOST "\r\n",
        "nonsense\r\n\r\n",
        "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 100\r\n\r\nhalf",
        "GET /big?n=100000 HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n",
        "",
    };
    server_start(&f, (struct http_server_options){0});
    struct raw_client first; /* the loop keeps a descriptor of its own from the first connection on */
    client_connect(&first, f.port);
    assert_true(server_connections_become(&f, 1));
    client_close(&first);
    assert_true(server_connections_become(&f, 0));
    clock_sleep_ms(20);
    server_command(&f, COMMAND_NONE);
    int before = sys_open_descriptors();
    for (int round = 0; round < 50; round++) {
        struct raw_client clients[20];
        for (size_t i = 0; i < ARRAY_LEN(clients); i++) {
            client_connect(&clients[i], f.port);
            client_send_text(&clients[i], requests[(i + (size_t)round) % ARRAY_LEN(requests)]);
        }
        for (size_t i = 0; i < ARRAY_LEN(clients); i++) {
            if (i % 3) {
                client_close(&clients[i]);
            } else {
                client_reset(&clients[i]);
            }
        }
    }
    assert_true(server_connections_become(&f, 0));
    clock_sleep_ms(20); /* the last close is done in the loop's closing phase */
    server_command(&f, COMMAND_NONE);
    assert_int_equal(sys_open_descriptors(), before);
    server_stop(&f);
}

int main(void)
{
    sys_ignore_sigpipe();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unix_socket),    cmocka_unit_test(test_ipv6),
        cmocka_unit_test(test_handed_over),    cmocka_unit_test(test_bad_addresses),
        cmocka_unit_test(test_stop_accepting), cmocka_unit_test(test_close_with_running_exchanges),
        cmocka_unit_test(test_no_leaks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
