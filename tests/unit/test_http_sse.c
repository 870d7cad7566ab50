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

/* Around a payload without line ends it is the same event. */
static void test_around_a_payload(void **state)
{
    (void)state;
    struct buf pieces, whole;
    buf_init(&pieces, 1000);
    buf_init(&whole, 1000);
    sse_begin(&pieces);
    buf_puts(&pieces, "{\"a\":");
    buf_puts(&pieces, "1}");
    sse_end(&pieces);
    sse_data(&whole, STR("{\"a\":1}"));
    assert_string_equal(pieces.data, whole.data);
    buf_release(&pieces);
    buf_release(&whole);
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
        cmocka_unit_test(test_around_a_payload),
        cmocka_unit_test(test_event_and_comment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
