/* Hosts: what is a name, an address, loopback, and what is nothing of them. */
#include "http/host.h"

#include "base/array.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum kind { NOTHING, NAME, ADDRESS, LOOPBACK_NAME, LOOPBACK_ADDRESS };

static const struct {
    const char *text, *name;
    int port;
    enum kind kind;
} hosts[] = {
    {"localhost", "localhost", -1, LOOPBACK_NAME},
    {"LocalHost:8000", "LocalHost", 8000, LOOPBACK_NAME},
    {"localhost.:80", "localhost", 80, LOOPBACK_NAME},
    {"a.b.localhost", "a.b.localhost", -1, LOOPBACK_NAME},
    {".localhost", ".localhost", -1, NAME},
    {"notlocalhost", "notlocalhost", -1, NAME},
    {"localhost.example.com", "localhost.example.com", -1, NAME},
    {"127.0.0.1", "127.0.0.1", -1, LOOPBACK_ADDRESS},
    {"127.0.0.1:", "127.0.0.1", -1, LOOPBACK_ADDRESS},
    {"127.200.3.4:65535", "127.200.3.4", 65535, LOOPBACK_ADDRESS},
    {"127.evil.example:1", "127.evil.example", 1, NAME},
    {"127.0.0.1.evil.example", "127.0.0.1.evil.example", -1, NAME},
    {"127.1", "127.1", -1, NAME},
    {"0x7f.0.0.1", "0x7f.0.0.1", -1, NAME},
    {"2130706433", "2130706433", -1, NAME},
    {"192.168.0.7:8000", "192.168.0.7", 8000, ADDRESS},
    {"0.0.0.0", "0.0.0.0", -1, ADDRESS},
    {"[::1]:8000", "::1", 8000, LOOPBACK_ADDRESS},
    {"[::ffff:127.0.0.1]", "::ffff:127.0.0.1", -1, LOOPBACK_ADDRESS},
    {"[::ffff:10.0.0.1]", "::ffff:10.0.0.1", -1, ADDRESS},
    {"[fe80::1]", "fe80::1", -1, ADDRESS},
    {"[::]:1", "::", 1, ADDRESS},
    {"[evil]", "evil", -1, NAME},
    {"", NULL, 0, NOTHING},
    {":80", NULL, 0, NOTHING},
    {".", NULL, 0, NOTHING},
    {"[]:1", NULL, 0, NOTHING},
    {"[::1", NULL, 0, NOTHING},
    {"[::1]8000", NULL, 0, NOTHING},
    {"a:65536", NULL, 0, NOTHING},
    {"a:-1", NULL, 0, NOTHING},
    {"a:b", NULL, 0, NOTHING},
    {"::1", NULL, 0, NOTHING},
};

static void test_hosts(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
        struct http_host h;
        enum kind kind = hosts[i].kind;
        bool ok = http_host_parse(str_of(hosts[i].text), &h);
        if (ok != (kind != NOTHING)) {
            fail_msg("'%s': %s", hosts[i].text, ok ? "taken" : "refused");
        }
        if (!ok) {
            continue;
        }
        assert_true(str_eq(h.name, str_of(hosts[i].name)));
        assert_int_equal(h.port, hosts[i].port);
        if (http_host_is_address(&h) != (kind == ADDRESS || kind == LOOPBACK_ADDRESS) ||
            http_host_is_loopback(&h) != (kind == LOOPBACK_NAME || kind == LOOPBACK_ADDRESS)) {
            fail_msg("'%s': address %d, loopback %d", hosts[i].text, http_host_is_address(&h),
                     http_host_is_loopback(&h));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_hosts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
