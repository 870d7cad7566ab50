/* The parsers of traceparent, tracestate and X-Request-Id against tables of the specification's rules. */
#include "http/trace_context.h"

#include "base/array.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define TRACE  "4bf92f3577b34da6a3ce929d0e0e4736"
#define PARENT "00f067aa0ba902b7"

static const struct {
    const char *text;
    bool valid, sampled;
} parents[] = {
    {"00-" TRACE "-" PARENT "-01", true, true},
    {"00-" TRACE "-" PARENT "-00", true, false},
    {"00-" TRACE "-" PARENT "-09", true, true}, /* bits that this version does not know */
    {"00-" TRACE "-" PARENT "-fe", true, false},
    {"01-" TRACE "-" PARENT "-01", true, true},
    {"cc-" TRACE "-" PARENT "-01-what-the-future-brings", true, true},
    {"cc-" TRACE "-" PARENT "-01-", true, true},
    {"cc-" TRACE "-" PARENT "-01.x", false, false},
    {"cc-" TRACE "-" PARENT "-0", false, false},
    {"ff-" TRACE "-" PARENT "-01", false, false},
    {"00-" TRACE "-" PARENT "-01-x", false, false}, /* version 00 has an end */
    {"00-" TRACE "-" PARENT "-01-", false, false},
    {"00-" TRACE "-" PARENT "-0", false, false},
    {"00-" TRACE "-" PARENT "", false, false},
    {"00-" TRACE "-" PARENT "-0x", false, false},
    {"00-" TRACE "-" PARENT "-0A", false, false}, /* lower case only */
    {"0G-" TRACE "-" PARENT "-01", false, false},
    {"0-" TRACE "-" PARENT "-01", false, false},
    {"00-4BF92F3577B34DA6A3CE929D0E0E4736-" PARENT "-01", false, false},
    {"00-00000000000000000000000000000000-" PARENT "-01", false, false},
    {"00-" TRACE "-0000000000000000-01", false, false},
    {"00-4bf92f3577b34da6a3ce929d0e0e473-" PARENT "-01", false, false},
    {"00-4bf92f3577b34da6a3ce929d0e0e47361-" PARENT "-01", false, false},
    {"00_" TRACE "-" PARENT "-01", false, false},
    {"00-" TRACE "_" PARENT "-01", false, false},
    {"00-" TRACE "-" PARENT "_01", false, false},
    {" 00-" TRACE "-" PARENT "-01", false, false},
    {"00-" TRACE "-" PARENT "-01 ", false, false},
    {"00-" TRACE "-" PARENT "-01,00-" TRACE "-" PARENT "-01", false, false},
    {"", false, false},
    {"-------------------------------------------------------", false, false},
};

static void traceparents(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(parents); i++) {
        struct trace_context c, untouched;
        char again[TRACEPARENT_LEN + 1];
        memset(&c, 0x5a, sizeof c);
        memcpy(&untouched, &c, sizeof c);
        if (traceparent_parse(str_of(parents[i].text), &c) != parents[i].valid) {
            fail_msg("'%s' is %s", parents[i].text, parents[i].valid ? "valid" : "invalid");
        }
        if (!parents[i].valid) {
            assert_memory_equal(&c, &untouched, sizeof c);
            continue;
        }
        assert_int_equal(c.sampled, parents[i].sampled);
        traceparent_write(&c, again);
        assert_string_equal(again, parents[i].sampled ? "00-" TRACE "-" PARENT "-01" : "00-" TRACE "-" PARENT "-00");
    }
}

static const struct {
    const char *text, *kept; /* NULL: invalid or empty */
} states[] = {
    {"rojo=00f067aa0ba902b7", "rojo=00f067aa0ba902b7"},
    {"rojo=1,congo=t61rcWkgMzE", "rojo=1,congo=t61rcWkgMzE"},
    {" rojo=1 , congo=2\t", "rojo=1,congo=2"},
    {"rojo=1,,congo=2,", "rojo=1,congo=2"},
    {"fw529a3039@dt=FfhgN-_*/@ x", "fw529a3039@dt=FfhgN-_*/@ x"},
    {"1a=b", "1a=b"},
    {"a= b", "a= b"},
    {"", NULL},
    {" , ,", NULL},
    {"a", NULL},
    {"a=", NULL},
    {"=a", NULL},
    {"A=1", NULL},
    {"@a=1", NULL},
    {"a b=1", NULL},
    {"a=b=c", NULL},
    {"a=1,a=2", NULL},
    {"a=\xc3\xa9", NULL},
    {"a=\x7f", NULL},
    {"a=1;b=2\x01", NULL},
};

static void tracestates(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(states); i++) {
        struct buf out;
        buf_init(&out, TRACESTATE_MAX);
        if (tracestate_parse(str_of(states[i].text), &out) != (states[i].kept != NULL)) {
            fail_msg("'%s'", states[i].text);
        }
        assert_string_equal(out.len ? out.data : "", states[i].kept ? states[i].kept : "");
        buf_release(&out);
    }
}

static void many_members(struct buf *text, int n, int value_len)
{
    buf_init(text, KIB(64));
    for (int i = 0; i < n; i++) {
        buf_printf(text, "%sk%d=%0*d", i ? "," : "", i, value_len, i);
    }
}

static void tracestate_limits(void **state)
{
    (void)state;
    struct buf text, out;
    buf_init(&out, TRACESTATE_MAX);
    many_members(&text, TRACESTATE_MEMBERS, 2);
    assert_true(tracestate_parse(buf_view(&text), &out));
    assert_true(str_eq(buf_view(&text), buf_view(&out)));
    buf_release(&text);
    buf_clear(&out);
    many_members(&text, TRACESTATE_MEMBERS + 1, 2);
    assert_false(tracestate_parse(buf_view(&text), &out));
    buf_release(&text);
    many_members(&text, 30, 30); /* too long together: the last go */
    assert_true(tracestate_parse(buf_view(&text), &out));
    assert_true(out.len <= TRACESTATE_MAX && out.len > TRACESTATE_MAX - 40);
    assert_true(str_starts(buf_view(&text), buf_view(&out)) && text.data[out.len] == ',');
    buf_release(&text);
    buf_clear(&out);
    many_members(&text, 1, 200); /* large members go first */
    buf_puts(&text, ",small=1");
    for (int i = 0; i < 3; i++) {
        buf_printf(&text, ",big%d=%0200d", i, i);
    }
    assert_true(tracestate_parse(buf_view(&text), &out));
    assert_non_null(strstr(out.data, "small=1"));
    assert_non_null(strstr(out.data, "k0="));
    assert_null(strstr(out.data, "big2="));
    buf_release(&text);
    buf_clear(&out);
    buf_init(&text, KIB(4));
    buf_printf(&text, "a=%0257d", 1);
    assert_false(tracestate_parse(buf_view(&text), &out));
    buf_release(&text);
    buf_release(&out);
}

static void of_requests(void **state)
{
    (void)state;
    struct http_header h[] = {{STR("TraceParent"), STR("00-" TRACE "-" PARENT "-01")},
                              {STR("tracestate"), STR("a=1")},
                              {STR("TRACESTATE"), STR("b=2")},
                              {STR("traceparent"), STR("00-" TRACE "-" PARENT "-01")}};
    struct http_request r = {.headers = h, .n_headers = 3};
    struct trace_context c = {.sampled = false};
    struct buf out;
    buf_init(&out, TRACESTATE_MAX);
    assert_true(trace_context_of(&r, &c, &out));
    assert_true(c.sampled && str_eq(buf_view(&out), STR("a=1,b=2")));
    buf_clear(&out);
    r.n_headers = 4; /* two of them are none */
    assert_false(trace_context_of(&r, &c, &out));
    assert_int_equal(out.len, 0);
    r.n_headers = 2;
    h[1].value = STR("a");
    assert_true(trace_context_of(&r, &c, &out)); /* an invalid state is left behind */
    assert_int_equal(out.len, 0);
    buf_release(&out);
}

static void request_ids(void **state)
{
    (void)state;
    static const char *const good[] = {"a", "7", "req_1", "0195b2c1-6f2e-7b3a-9c65-27a3c24ab9ff", "a.b:c+d=e@f~g"};
    static const char *const bad[] = {"",    "-a",        ".",    "..",  "a b", "a/b", "a\n",
                                      "a\"", "a\xc3\xa9", "a%41", "a;b", "a,b", "a\\"};
    char longest[REQUEST_ID_MAX + 2];
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_true(request_id_valid(str_of(good[i])));
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_false(request_id_valid(str_of(bad[i])));
    }
    assert_false(request_id_valid((struct str){"a\0b", 3}));
    memset(longest, 'x', sizeof longest);
    assert_true(request_id_valid((struct str){longest, REQUEST_ID_MAX}));
    assert_false(request_id_valid((struct str){longest, REQUEST_ID_MAX + 1}));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(traceparents), cmocka_unit_test(tracestates), cmocka_unit_test(tracestate_limits),
        cmocka_unit_test(of_requests),  cmocka_unit_test(request_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
