/* Bounded buffer: exact bounds, sticky failure, formatting, ownership. */
#include "base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void grows_to_its_maximum_exactly(void **state)
{
    (void)state;
    struct buf b;
    struct error err;
    buf_init(&b, 1000);
    for (int i = 0; i < 1000; i++) {
        buf_putc(&b, (char)('a' + i % 26));
        assert_int_equal(b.data[b.len], '\0');
    }
    assert_true(buf_ok(&b, "reply", &err));
    assert_true(b.cap <= 1001);
    buf_putc(&b, 'x');
    assert_false(buf_ok(&b, "reply", &err));
    assert_int_equal(err.code, ERR_TOO_LARGE);
    assert_non_null(strstr(err.msg, "reply"));
    assert_non_null(strstr(err.msg, "1000"));
    assert_int_equal(b.len, 1000);
    buf_truncate(&b, 10);
    buf_puts(&b, "later"); /* a failed buffer stays failed, even with room */
    assert_int_equal(b.len, 10);
    buf_clear(&b);
    buf_puts(&b, "again");
    assert_true(buf_ok(&b, "reply", &err) && str_eq(buf_view(&b), STR("again")));
    buf_release(&b);
    assert_null(b.data);
}

static void huge_sizes_do_not_wrap(void **state)
{
    (void)state;
    struct buf b;
    struct error err;
    buf_init(&b, SIZE_MAX);
    buf_puts(&b, "abc");
    assert_null(buf_extend(&b, SIZE_MAX));
    buf_clear(&b);
    buf_puts(&b, "abc");
    assert_null(buf_extend(&b, SIZE_MAX - 3)); /* one more than the maximum leaves, and no room for the NUL */
    assert_false(buf_ok(&b, "x", &err));
    buf_release(&b);
    buf_init(&b, 0);
    assert_non_null(buf_extend(&b, 0));
    assert_null(buf_extend(&b, 1));
    buf_release(&b);
}

static void numbers_have_all_their_digits(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 100);
    buf_put_uint(&b, 0);
    buf_putc(&b, ' ');
    buf_put_uint(&b, 1000203);
    buf_putc(&b, ' ');
    buf_put_uint(&b, UINT64_MAX);
    assert_string_equal(b.data, "0 1000203 18446744073709551615");
    buf_release(&b);
    buf_init(&b, 3);
    buf_put_uint(&b, 1234); /* all of it or nothing */
    assert_true(b.failed);
    assert_int_equal(b.len, 0);
    buf_release(&b);
}

static void printf_of_any_length(void **state)
{
    (void)state;
    char text[400];
    struct buf b;
    struct error err;
    memset(text, 'y', sizeof text);
    buf_init(&b, 100000);
    size_t expected = 0;
    for (int n = 0; n < 400; n++) {
        buf_printf(&b, "%.*s|", n, text);
        expected += (size_t)n + 1;
        assert_int_equal(b.len, expected);
        assert_int_equal(b.data[b.len - 1], '|');
    }
    assert_true(buf_ok(&b, "x", &err));
    buf_release(&b);
    buf_init(&b, 4);
    buf_printf(&b, "%d", 12345);
    assert_true(b.failed);
    assert_int_equal(b.len, 0);
    buf_release(&b);
}

static void front_and_take(void **state)
{
    (void)state;
    struct buf b;
    size_t len = 7;
    buf_init(&b, 100);
    assert_null(buf_take(&b, &len));
    assert_int_equal(len, 0);
    buf_drop_front(&b, 5);
    buf_append(&b, STR("a\0bcd"));
    buf_append(&b, (struct str){NULL, 0});
    buf_drop_front(&b, 1);
    assert_true(str_eq(buf_view(&b), STR("\0bcd")));
    buf_truncate(&b, 99);
    char *taken = buf_take(&b, &len);
    assert_int_equal(len, 4);
    assert_memory_equal(taken, "\0bcd", 5);
    free(taken);
    assert_int_equal(b.len, 0);
    assert_int_equal(b.max, 100);
    buf_puts(&b, "x");
    buf_drop_front(&b, 1);
    assert_null(buf_take(&b, &len)); /* empty, though it has memory */
    buf_append_bytes(&b, "0123456789", 10);
    (void)buf_extend(&b, 1000);
    assert_null(buf_take(&b, &len)); /* failed */
    buf_puts(&b, "usable");
    assert_false(b.failed);
    buf_release(&b);
    buf_release(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grows_to_its_maximum_exactly),
        cmocka_unit_test(huge_sizes_do_not_wrap),
        cmocka_unit_test(numbers_have_all_their_digits),
        cmocka_unit_test(printf_of_any_length),
        cmocka_unit_test(front_and_take),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
