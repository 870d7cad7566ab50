/* Server-sent events: what a payload with line ends becomes. */
#include "http/sse.h"

#include "base/array.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void test_data(void **state)
{
    (void)state;
    static const struct {
        struct str payload;
        const char *expected;
    } cases[] = {
        {STR("x"), "data: x\n\n"},
        {STR(""), "data: \n\n"},
        {STR("{\"a\": 1}"), "data: {\"a\": 1}\n\n"},
        {STR("a\nb"), "data: a\ndata: b\n\n"},
        {STR("a\r\nb\rc\n"), "data: a\ndata: b\ndata: c\ndata: \n\n"},
        {STR("\n\n"), "data: \ndata: \ndata: \n\n"},
        {STR("a\n\revent: x"), "data: a\ndata: \ndata: event: x\n\n"},
        {STR("a\r"), "data: a\ndata: \n\n"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf out;
        buf_init(&out, 1000);
        sse_data(&out, cases[i].payload);
        assert_string_equal(out.data, cases[i].expected);
        buf_release(&out);
    }
}

static void test_event_and_comment(void **state)
{
    (void)state;
    struct buf out;
    buf_init(&out, 1000);
    sse_event(&out, "message_stop", STR("{}"));
    sse_event(&out, NULL, STR("x"));
    sse_comment(&out, STR("keep\nalive"));
    assert_string_equal(out.data, "event: message_stop\ndata: {}\n\ndata: x\n\n: keep\n: alive\n\n");
    buf_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_data),
        cmocka_unit_test(test_event_and_comment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
