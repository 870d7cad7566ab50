/* TLS beneath the server: what is spoken and what is refused, ends of streams, reloading, bad files. */
#include "base/array.h"
#include "base/clock.h"
#include "base/sys_proc.h"
#include "tests/support/certificate.h"
#include "tests/support/http_server.h"
#include "tests/support/http_tls.h"
#include "tests/support/temp_dir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define HOST "Host: x\r\n"
#define HTTP "\x08http/1.1"

static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

/* A server with a certificate of its own. */
struct secure {
    struct fixture f;
    struct temp_dir dir;
    char *cert, *key;
};

static void make_certificate(const struct secure *s, const char *name)
{
    assert_true(
        certificate_write(&(struct certificate){.cert_path = s->cert, .key_path = s->key, .name = name, .days = 2}));
}

static void start(struct secure *s, struct http_server_options options)
{
    temp_dir_make(&s->dir);
    s->cert = temp_dir_file(&s->dir, "cert.pem");
    s->key = temp_dir_file(&s->dir, "key.pem");
    make_certificate(s, "localhost");
    options.tls = (struct tls_files){s->cert, s->key};
    server_start(&s->f, options);
}

static void stop(struct secure *s)
{
    server_stop(&s->f);
    temp_dir_remove(&s->dir);
    free(s->cert);
    free(s->key);
}

static void join(struct secure *s, struct tls_client *t, int version)
{
    tls_connect(t, s->f.port, &(struct tls_settings){.trusted = s->cert, .min_version = version, .version = version});
}

static void get(struct tls_client *t, const char *path, const char *expected)
{
    client_send_text(&t->raw, "GET ");
    client_send_text(&t->raw, path);
    client_send_text(&t->raw, " HTTP/1.1\r\n" HOST "\r\n");
    client_expect(&t->raw, 200, expected);
}

/* ---- what is spoken ---- */

static void test_versions(void **state)
{
    (void)state;
    struct secure s;
    start(&s, (struct http_server_options){0});
    for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
        struct tls_client t;
        const unsigned char *alpn;
        unsigned alpn_len;
        tls_connect(&t, s.f.port,
                    &(struct tls_settings){.trusted = s.cert,
                                           .min_version = versions[i],
                                           .version = versions[i],
                                           .alpn = "\x02h2\x08http/1.0" HTTP});
        SSL_get0_alpn_selected(t.ssl, &alpn, &alpn_len);
        assert_true(str_eq((struct str){(const char *)alpn, alpn_len}, STR("http/1.1")));
        assert_int_equal(SSL_version(t.ssl), versions[i]);
        assert_null(SSL_get_current_compression(t.ssl));
        get(&t, "/1?a", "GET /1 a");
        get(&t, "/2?b", "GET /2 b");
        client_send_text(&t.raw, "GET /3 HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n");
        client_expect(&t.raw, 200, "GET /3 ");
        client_expect_end(&t.raw);
        assert_true(t.complete);
        tls_close(&t);
    }
    stop(&s);
    assert_int_equal(s.f.tls_failures, 0);
}

static bool is_spoken(struct secure *s, struct tls_settings settings)
{
    struct tls_client t;
    bool ok = tls_try_connect(&t, s->f.port, &settings);
    if (ok) { /* of TLS 1.3 the client is ready before the server has looked at its last message */
        client_send_text(&t.raw, "GET / HTTP/1.1\r\n" HOST "\r\n");
        ok = client_wait_for(&t.raw, "200 OK");
        tls_close(&t);
    }
    return ok;
}

static void test_what_is_refused(void **state)
{
    (void)state;
    struct secure s;
    static const struct tls_settings bad[] = {
        {.min_version = TLS1_VERSION, .version = TLS1_1_VERSION},
        {.version = TLS1_2_VERSION, .ciphers = "AES128-SHA:AES256-GCM-SHA384:DHE-RSA-AES128-GCM-SHA256"},
        {.version = TLS1_2_VERSION, .ciphers = "ECDHE-ECDSA-AES128-SHA256"},
        {.version = TLS1_2_VERSION, .alpn = "\x02h2"},
        {.version = TLS1_3_VERSION, .alpn = "\x02h2\x08spdy/3.1"},
    };
    static const struct tls_settings good[] = {
        {.version = TLS1_2_VERSION, .ciphers = "ECDHE-ECDSA-CHACHA20-POLY1305"},
        {.version = TLS1_2_VERSION, .ciphers = "ECDHE-ECDSA-AES256-GCM-SHA384"},
        {.version = TLS1_3_VERSION, .alpn = "\x08http/1.0"},
    };
    start(&s, (struct http_server_options){0});
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_false(is_spoken(&s, bad[i]));
    }
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_true(is_spoken(&s, good[i]));
    }
    assert_true(server_connections_become(&s.f, 0));
    assert_int_equal(s.f.tls_failures, ARRAY_LEN(bad));
    stop(&s);
}

static void test_resumption(void **state)
{
    (void)state;
    struct secure s;
    start(&s, (struct http_server_options){0});
    for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
        struct tls_client t, again;
        join(&s, &t, versions[i]);
        get(&t, "/1", "GET /1 ");
        SSL_SESSION *session = SSL_get1_session(t.ssl);
        assert_non_null(session);
        tls_connect(&again, s.f.port,
                    &(struct tls_settings){.trusted = s.cert, .version = versions[i], .session = session});
        assert_true(SSL_session_reused(again.ssl));
        get(&again, "/2", "GET /2 ");
        SSL_SESSION_free(session);
        tls_close(&t);
        tls_close(&again);
    }
    stop(&s);
}

static void test_renegotiation_and_new_keys(void **state)
{
    (void)state;
    struct secure s;
    struct tls_client t;
    start(&s, (struct http_server_options){0});
    join(&s, &t, TLS1_2_VERSION);
    assert_int_equal(SSL_renegotiate(t.ssl), 1);
    bool renegotiated = SSL_do_handshake(t.ssl) == 1 && !SSL_renegotiate_pending(t.ssl) &&
                        client_try_send(&t.raw, STR("GET / HTTP/1.1\r\n" HOST "\r\n")) &&
                        client_wait_for(&t.raw, "200 OK") && SSL_num_renegotiations(t.ssl) > 0;
    assert_false(renegotiated);
    tls_close(&t);

    join(&s, &t, TLS1_3_VERSION);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(SSL_key_update(t.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
        get(&t, "/1", "GET /1 ");
    }
    tls_close(&t);
    stop(&s);
}

/* ---- bytes ---- */

static void test_bytes_in_any_pieces(void **state)
{
    (void)state;
    struct secure s;
    struct tls_client t;
    struct http_answer a;
    struct buf body;
    start(&s, (struct http_server_options){0});
    buf_init(&body, SIZE_MAX);
    memset(buf_extend(&body, MIB(3)), 'b', MIB(3));
    for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
        join(&s, &t, versions[i]);
        static const char one[] = "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello";
        for (size_t k = 0; k < sizeof one - 1; k++) { /* a record each */
            client_send(&t.raw, (struct str){one + k, 1});
        }
        client_expect(&t.raw, 200, "hello");

        client_send_text(&t.raw, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 3145728\r\n\r\n");
        client_send(&t.raw, buf_view(&body));
        client_answer(&t.raw, false, &a);
        assert_true(a.status == 200 && str_eq(buf_view(&a.body), buf_view(&body)));
        answer_release(&a);

        client_send_text(&t.raw, "GET /stream?n=2000&size=3000&ms=0 HTTP/1.1\r\n" HOST "\r\n");
        client_answer(&t.raw, false, &a);
        assert_true(a.complete);
        assert_int_equal(a.body.len, 2000 * 3000 + 5);
        answer_release(&a);
        tls_close(&t);
    }
    buf_release(&body);
    stop(&s);
}

/* A handshake and a request in segments of one byte: records come in pieces. */
static void test_records_in_pieces(void **state)
{
    (void)state;
    struct secure s;
    start(&s, (struct http_server_options){0});
    for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
        struct raw_client c;
        SSL_CTX *context = SSL_CTX_new(TLS_client_method());
        SSL_CTX_set_max_proto_version(context, versions[i]);
        SSL *ssl = SSL_new(context);
        BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
        BIO_set_mem_eof_return(in, -1);
        SSL_set_bio(ssl, in, out);
        SSL_set_connect_state(ssl);
        client_connect(&c, s.f.port);
        static const char request[] = "GET /1 HTTP/1.1\r\n" HOST "\r\n";
        char answer[4096] = "", bytes[4096];
        for (size_t sent = 0, got = 0; !strstr(answer, "GET /1 ");) {
            size_t n;
            if (!sent && SSL_do_handshake(ssl) == 1) {
                assert_int_equal(SSL_write_ex(ssl, request, sizeof request - 1, &sent), 1);
            }
            int waiting = BIO_read(out, bytes, sizeof bytes);
            for (int k = 0; k < waiting; k++) {
                client_send(&c, (struct str){bytes + k, 1});
            }
            ssize_t came = waiting > 0 && !SSL_is_init_finished(ssl) ? recv(c.fd, bytes, sizeof bytes, 0)
                                                                     : recv(c.fd, bytes, 1, 0);
            assert_true(came > 0);
            assert_int_equal(BIO_write(in, bytes, (int)came), came);
            if (sent && SSL_read_ex(ssl, answer + got, sizeof answer - 1 - got, &n) == 1) {
                got += n;
            }
        }
        client_close(&c);
        SSL_free(ssl);
        SSL_CTX_free(context);
    }
    stop(&s);
}

/* More than the server keeps for a connection whose request runs: it stops reading, and goes on later. */
static void test_long_pipeline(void **state)
{
    (void)state;
    struct secure s;
    struct tls_client t;
    struct buf requests;
    char text[64];
    int n = 4000;
    start(&s, (struct http_server_options){0});
    buf_init(&requests, SIZE_MAX);
    buf_puts(&requests, "GET /later?ms=200 HTTP/1.1\r\n" HOST "\r\n");
    for (int i = 0; i < n; i++) {
        buf_printf(&requests, "GET /%d HTTP/1.1\r\n" HOST "\r\n", i);
    }
    join(&s, &t, TLS1_3_VERSION);
    client_send(&t.raw, buf_view(&requests));
    client_expect(&t.raw, 200, "ms=200");
    for (int i = 0; i < n; i++) {
        snprintf(text, sizeof text, "GET /%d ", i);
        client_expect(&t.raw, 200, text);
    }
    tls_close(&t);
    buf_release(&requests);
    stop(&s);
}

static void test_slow_reader(void **state)
{
    (void)state;
    struct secure s;
    struct tls_client t;
    struct http_answer a;
    start(&s, (struct http_server_options){.limits.stall_timeout_ms = 1500});
    join(&s, &t, TLS1_3_VERSION);
    client_send_text(&t.raw, "GET /stream?n=100000&size=1000&ms=0 HTTP/1.1\r\n" HOST "\r\n");
    assert_true(count_reaches(&s.f.pulls, 100));
    long long pulled; /* it takes nothing: the source is not pulled on and on */
    do {
        pulled = s.f.pulled;
        assert_true(pulled < 30000000);
        clock_sleep_ms(100);
    } while (s.f.pulled != pulled);
    client_answer(&t.raw, false, &a);
    assert_int_equal(a.body.len, 100000 * 1000 + 5);
    answer_release(&a);

    client_send_text(&t.raw, "GET /stream?n=100000&size=1000&ms=0 HTTP/1.1\r\n" HOST "\r\n");
    assert_true(count_reaches(&s.f.gone, 1)); /* stalled for good */
    server_command(&s.f, COMMAND_NONE);
    assert_int_equal(s.f.timeouts, 1);
    tls_close(&t);
    stop(&s);
}

/* ---- ends ---- */

enum leaving { LEAVE_CLOSE, LEAVE_RESET, LEAVE_END, LEAVE_HALF_CLOSE, LEAVE_COUNT };

static void leave(struct tls_client *t, enum leaving how)
{
    if (how == LEAVE_RESET) {
        struct linger at_once = {.l_onoff = 1, .l_linger = 0};
        assert_int_equal(setsockopt(t->raw.fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once), 0);
    } else if (how == LEAVE_END) {
        tls_say_end(t);
        return;
    } else if (how == LEAVE_HALF_CLOSE) {
        client_shutdown(&t->raw);
        return;
    }
    tls_close(t);
}

/* With a close_notify or without, to the end of its direction or of both: the client has left. */
static void test_client_leaves(void **state)
{
    (void)state;
    struct secure s;
    int n = 0;
    start(&s, (struct http_server_options){0});
    for (int how = 0; how < LEAVE_COUNT; how++) {
        static const char *const requests[] = {"GET /never HTTP/1.1\r\n" HOST "\r\n",
                                               "GET /stream?n=100&ms=1000 HTTP/1.1\r\n" HOST "\r\n"};
        for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
            struct tls_client t;
            join(&s, &t, versions[n % 2]);
            client_send_text(&t.raw, requests[i]);
            assert_true(count_reaches(&s.f.requests, n + 1));
            int64_t left_at = clock_ms();
            leave(&t, how);
            assert_true(count_reaches(&s.f.gone, ++n));
            assert_true(clock_ms() - left_at < 1000);
            if (how == LEAVE_END || how == LEAVE_HALF_CLOSE) {
                tls_close(&t);
            }
        }
    }
    assert_true(server_connections_become(&s.f, 0));
    stop(&s);
    assert_int_equal(s.f.gone, n);
}

/* A client that says close_notify after a complete reply still gets all of it, and the server's close_notify. */
static void test_end_behind_a_reply(void **state)
{
    (void)state;
    struct secure s;
    struct tls_client t;
    struct http_answer a;
    start(&s, (struct http_server_options){0});
    join(&s, &t, TLS1_3_VERSION);
    client_send_text(&t.raw, "GET /big?n=30000000 HTTP/1.1\r\n" HOST "\r\n");
    assert_true(client_wait_for(&t.raw, "\r\n\r\n"));
    tls_say_end(&t);
    client_answer(&t.raw, false, &a);
    assert_true(a.complete);
    assert_int_equal(a.body.len, 30000000);
    client_expect_end(&t.raw);
    assert_true(t.complete);
    answer_release(&a);
    tls_close(&t);
    stop(&s);
}

static void test_close_of_idle_connections(void **state)
{
    (void)state;
    struct secure s;
    struct tls_client t;
    start(&s, (struct http_server_options){.limits.idle_timeout_ms = 200});
    join(&s, &t, TLS1_3_VERSION);
    get(&t, "/1", "GET /1 ");
    client_expect_end(&t.raw);
    assert_true(t.complete);
    tls_close(&t);
    stop(&s);
}

/* ---- what is no TLS, or never becomes it ---- */

static void test_plain_text(void **state)
{
    (void)state;
    struct secure s;
    struct raw_client c;
    start(&s, (struct http_server_options){0});
    client_connect(&c, s.f.port);
    client_send_text(&c, "GET / HTTP/1.1\r\n" HOST "\r\nGET / HTTP/1.1\r\n" HOST "\r\n");
    client_expect(&c, 400, "This port speaks TLS, and plain HTTP came; use https.\n");
    client_expect_end(&c);
    client_close(&c);
    stop(&s);
    assert_int_equal(s.f.requests, 0);
}

static void test_broken_handshakes(void **state)
{
    (void)state;
    struct secure s;
    static const struct str junk[] = {
        {"\0", 1},
        {"\x80\x2e\x01\x00\x02", 5},                          /* SSL 2 */
        {"\x16\x03\x01\x00\x05hello", 10},                    /* no message of a handshake */
        {"\x16\x03\x01\xff\xff", 5},                          /* a record that is too long */
        {"\x16\x03\x01\x00\x00\x16\x03\x01\x00\x00", 10},     /* empty ones */
        {"\x15\x03\x01\x00\x02\x02\x28", 7},                  /* an alert */
        {"\x17\x03\x03\x00\x05hello", 10},                    /* data first */
        {"\x16\x03\x01\x00\x06\x01\x00\xff\xff\x03\x03", 11}, /* the beginning of a long one */
    };
    start(&s, (struct http_server_options){0});
    for (size_t i = 0; i < ARRAY_LEN(junk); i++) {
        struct raw_client c;
        client_connect(&c, s.f.port);
        client_send(&c, junk[i]);
        client_shutdown(&c);
        (void)client_was_reset(&c); /* it ends, with an alert or without */
        client_close(&c);
        struct tls_client t;
        join(&s, &t, TLS1_3_VERSION);
        get(&t, "/1", "GET /1 ");
        tls_close(&t);
    }
    assert_true(server_connections_become(&s.f, 0));
    assert_int_equal(s.f.tls_failures, ARRAY_LEN(junk));
    stop(&s);
}

/* The time for a handshake is that for a head, however many bytes still come. */
static void test_handshake_timeout(void **state)
{
    (void)state;
    struct secure s;
    struct raw_client silent, slow, refused;
    struct tls_client t;
    start(&s, (struct http_server_options){.limits.header_timeout_ms = 1000, .limits.max_connections = 3});
    int64_t began = clock_ms();
    join(&s, &t, TLS1_3_VERSION);
    client_connect(&silent, s.f.port);
    client_connect(&slow, s.f.port);
    assert_true(server_connections_become(&s.f, 3));
    client_connect(&refused, s.f.port); /* nobody can be told so without a handshake */
    client_send_text(&slow, "\x16\x03\x01\x02");
    while (client_try_send(&slow, STR("\x01")) && clock_ms() - began < 5000) {
        clock_sleep_ms(20);
    }
    assert_in_range(clock_ms() - began, 990, 5000);
    client_expect_end(&silent);
    client_expect_end(&refused);
    client_close(&silent);
    client_close(&slow);
    client_close(&refused);
    assert_true(server_connections_become(&s.f, 1));
    assert_int_equal(s.f.timeouts, 3);
    assert_int_equal(s.f.tls_failures, 3);
    assert_int_equal(s.f.refused, 1);
    get(&t, "/1", "GET /1 ");
    tls_close(&t);
    stop(&s);
}

static void test_one_connection_too_many(void **state)
{
    (void)state;
    struct secure s;
    struct tls_client first, second;
    start(&s, (struct http_server_options){.limits.max_client_connections = 1});
    join(&s, &first, TLS1_3_VERSION);
    get(&first, "/1", "GET /1 ");
    join(&s, &second, TLS1_3_VERSION);
    client_expect(&second.raw, 429,
                  "This client's address has too many connections, at most 1; close some, or use them again.\n");
    client_expect_end(&second.raw);
    assert_true(second.complete);
    tls_close(&second);
    tls_close(&first);
    stop(&s);
}

/* ---- files ---- */

static void test_reload(void **state)
{
    (void)state;
    struct secure s;
    struct tls_client old, fresh;
    char *first = NULL;
    start(&s, (struct http_server_options){0});
    first = temp_dir_file(&s.dir, "first.pem");
    assert_int_equal(rename(s.cert, first), 0);
    server_command(&s.f, COMMAND_RELOAD_TLS); /* the file is gone */
    assert_false(s.f.reloaded);
    assert_non_null(strstr(s.f.err.msg, "--tls-cert"));
    assert_non_null(strstr(s.f.err.msg, "No such file"));
    const struct tls_settings trusts_first = {.trusted = first};
    tls_connect(&old, s.f.port, &trusts_first);
    get(&old, "/1", "GET /1 ");

    make_certificate(&s, "localhost");
    server_command(&s.f, COMMAND_RELOAD_TLS);
    assert_true(s.f.reloaded);
    join(&s, &fresh, TLS1_3_VERSION);
    get(&fresh, "/2", "GET /2 ");
    assert_false(tls_try_connect(&(struct tls_client){0}, s.f.port, &trusts_first));
    get(&old, "/3", "GET /3 "); /* as it began */
    tls_close(&old);
    tls_close(&fresh);
    free(first);
    stop(&s);

    struct fixture plain;
    server_start(&plain, (struct http_server_options){0});
    server_command(&plain, COMMAND_RELOAD_TLS);
    assert_false(plain.reloaded);
    server_stop(&plain);
}

static void expect_start_error(const char *cert, const char *key, const char *option, const char *reason)
{
    struct fixture f;
    server_try_start(&f, (struct http_server_options){.tls = {cert, key}});
    assert_true(f.failed);
    server_join(&f);
    if (!strstr(f.err.msg, option) || !strstr(f.err.msg, reason)) {
        fail_msg("expected '%s' and '%s' in: %s", option, reason, f.err.msg);
    }
}

static void test_bad_files(void **state)
{
    (void)state;
    struct secure s, other;
    temp_dir_make(&s.dir);
    s.cert = temp_dir_file(&s.dir, "cert.pem");
    s.key = temp_dir_file(&s.dir, "key.pem");
    other.cert = temp_dir_file(&s.dir, "other.pem");
    other.key = temp_dir_file(&s.dir, "other_key.pem");
    make_certificate(&s, "localhost");
    assert_true(certificate_write(&(struct certificate){
        .cert_path = other.cert, .key_path = other.key, .name = "x", .days = 1, .passphrase = "secret"}));
    expect_start_error(s.cert, NULL, "--tls-key", "certificate and its key");
    expect_start_error(NULL, s.key, "--tls-cert", "certificate and its key");
    expect_start_error("/nowhere/cert.pem", s.key, "--tls-cert '/nowhere/cert.pem'", "No such file");
    expect_start_error(s.cert, "/nowhere/key.pem", "--tls-key '/nowhere/key.pem'", "No such file");
    expect_start_error(s.key, s.key, "--tls-cert", "no start line");
    expect_start_error(s.cert, s.cert, "--tls-key", "");
    expect_start_error(s.cert, other.key, "--tls-key", "passphrase");
    make_certificate(&other, "localhost");
    expect_start_error(s.cert, other.key, "--tls-key", "mismatch");
    free(other.cert);
    free(other.key);
    free(s.cert);
    free(s.key);
    temp_dir_remove(&s.dir);
}

int main(void)
{
    sys_ignore_sigpipe();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_versions),
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_resumption),
        cmocka_unit_test(test_renegotiation_and_new_keys),
        cmocka_unit_test(test_bytes_in_any_pieces),
        cmocka_unit_test(test_records_in_pieces),
        cmocka_unit_test(test_long_pipeline),
        cmocka_unit_test(test_slow_reader),
        cmocka_unit_test(test_client_leaves),
        cmocka_unit_test(test_end_behind_a_reply),
        cmocka_unit_test(test_close_of_idle_connections),
        cmocka_unit_test(test_plain_text),
        cmocka_unit_test(test_broken_handshakes),
        cmocka_unit_test(test_handshake_timeout),
        cmocka_unit_test(test_one_connection_too_many),
        cmocka_unit_test(test_reload),
        cmocka_unit_test(test_bad_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
