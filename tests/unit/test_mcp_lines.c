/* Lines: the same ones however the bytes are split; bounded; and with the n-th allocation failing. */
#include "mcp/lines.h"

#include "base/array.h"
#include "tests/support/failing_memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define MAX_LINE 8

/* "line|" for each, "!" for one that is too long, and what is left at the end. */
static void read_all(struct str s, size_t piece, struct buf *out)
{
    struct lines l;
    struct str line;
    lines_init(&l, MAX_LINE);
    for (size_t from = 0; from < s.len; from += piece) {
        struct str input = str_slice(s, from, from + piece);
        enum lines_read what;
        while ((what = lines_next(&l, &input, &line)) != LINES_MORE) {
            if (what == LINES_LINE) {
                buf_append(out, line);
                buf_putc(out, '|');
            } else {
                assert_int_equal(what, LINES_TOO_LONG);
                buf_putc(out, '!');
            }
        }
        assert_int_equal(input.len, 0);
    }
    buf_append(out, lines_rest(&l));
    lines_release(&l);
}

static void lines_however_split(void **state)
{
    (void)state;
    static const struct {
        struct str text;
        const char *lines;
    } cases[] = {
        {STR("a\nbc\n"), "a|bc|"},
        {STR("a\r\nb\r\r\n\r\n\n"), "a|b\r|"},
        {STR("\n\n\na"), "a"},
        {STR("12345678\n1\n"), "12345678|1|"},
        {STR("1234567\r\n1\n"), "1234567|1|"},
        {STR("123456789\n1\n"), "!1|"},
        {STR("0123456789012345678901234567890\n\nab\n0123456789\n"), "!ab|!"},
        {STR("a\rb\n\"\xff\n"), "a\rb|\"\xff|"},
        {STR(""), ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        for (size_t piece = 1; piece <= cases[i].text.len + 1; piece++) {
            struct buf out;
            buf_init(&out, 1000);
            read_all(cases[i].text, piece, &out);
            if (!str_eq(buf_view(&out), str_of(cases[i].lines))) {
                fail_msg("case %zu in pieces of %zu: '%s'", i, piece, out.data ? out.data : "");
            }
            buf_release(&out);
        }
    }
}

static bool read_once(long n)
{
    static const char text[] = "short\n0123456789012345678901234567890123456789012345678901234567890123456789\nlast\n";
    struct lines l;
    struct str input = {text, sizeof text - 1}, line = {NULL, 0};
    enum lines_read what;
    int n_lines = 0, n_failed = 0;
    n_allocations = 0;
    fail_at = n;
    lines_init(&l, 1000);
    while ((what = lines_next(&l, &input, &line)) != LINES_MORE) {
        n_lines += what == LINES_LINE;
        n_failed += what == LINES_NO_MEMORY;
        assert_int_not_equal(what, LINES_TOO_LONG);
    }
    fail_at = -1;
    assert_int_equal(n_lines + n_failed, 3);
    assert_true(n_failed <= 1);
    lines_release(&l);
    return n_allocations <= n;
}

static void every_allocation(void **state)
{
    (void)state;
    long n = 0;
    if (!CAN_FAIL) {
        skip();
    }
    while (!read_once(n)) {
        n++;
    }
    assert_in_range(n, 1, 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(lines_however_split), cmocka_unit_test(every_allocation)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
