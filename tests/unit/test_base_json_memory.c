/* The JSON reader with its n-th allocation failing, for every n: NO_MEMORY or the right value, never half of one. The
 * allocator is replaced for the whole program, json-c included; with sanitizers, which bring their own, it is skipped.
 *
 * Whole documents have no objects here: json-c 0.16 does not check the copy it makes of a key and crashes when that
 * fails. For objects only the scan, which is all of the reader that is not json-c's, is run so. */
#include "base/json.h"
#include "base/json_scan.h"
#include "tests/support/failing_memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *const documents[] = {
    "null",
    "1",
    "\"a string that is longer than what json-c keeps inside of its objects\"",
    "[[1,2.5,null,\"x\",[true]],\"a longer string, so that it lies on the heap of its own, as it would in a "
    "prompt\",1e5]",
    "[null,null]",
    "[null,99999999999999999999,0.1234567890123456789012345678901234567890123456789]",
    "[[[[[[[[[[]]]]]]]]]]",
    "[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32,33,34,35,36,37,38,39,"
    "40]",
};

static const char *const scanned[] = {
    "{\"a\":{\"b\":99999999999999999999,\"c\":1e5},\"d\":[{}]}",
    "{\"0\":0,\"1\":0,\"2\":0,\"3\":0,\"4\":0,\"5\":0,\"6\":0,\"7\":0,\"8\":0,\"9\":0,\"10\":0,\"11\":0,\"12\":0,"
    "\"13\":0,"
    "\"14\":0,\"15\":0,\"16\":0,\"17\":0,\"18\":0,\"19\":0,\"20\":0,\"21\":0,\"22\":0,\"23\":0,\"24\":0,\"25\":0,"
    "\"26\":0,"
    "\"27\":0,\"28\":0,\"29\":0,\"30\":0,\"31\":0,\"32\":0,\"33\":0,\"34\":0,\"35\":0,\"36\":0,\"37\":0,\"38\":0,"
    "\"39\":0}",
};

/* True when no allocation was left to fail. */
static bool parse_once(const char *text, long n)
{
    struct error err = {0};
    n_allocations = 0;
    fail_at = n;
    struct json *root = json_parse(str_of(text), 0, &err);
    fail_at = -1;
    bool all_done = n_allocations <= n;
    if (!root) {
        assert_int_equal(err.code, ERR_NO_MEMORY);
        assert_false(all_done);
        return false;
    }
    struct buf out;
    buf_init(&out, 10000);
    json_print(&out, root);
    assert_string_equal(out.data, text);
    buf_release(&out);
    json_free(root);
    return all_done;
}

static bool scan_once(const char *text, long n)
{
    struct error err = {0};
    struct json_scan scan;
    n_allocations = 0;
    fail_at = n;
    bool ok = json_scan(str_of(text), 32, SIZE_MAX, &scan, &err);
    fail_at = -1;
    bool all_done = n_allocations <= n;
    assert_true(ok == all_done);
    assert_true(ok || err.code == ERR_NO_MEMORY);
    json_scan_release(&scan);
    return all_done;
}

static void until_all_succeed(bool (*once)(const char *, long), const char *text, long at_least)
{
    long n = 0;
    while (!once(text, n)) {
        n++;
    }
    assert_true(n >= at_least);
}

static void nth_allocation_of_a_document_fails(void **state)
{
    (void)state;
    if (!CAN_FAIL) {
        skip();
    }
    for (size_t i = 0; i < sizeof documents / sizeof *documents; i++) {
        until_all_succeed(parse_once, documents[i], 1);
    }
}

static void nth_allocation_of_the_scan_fails(void **state)
{
    (void)state;
    if (!CAN_FAIL) {
        skip();
    }
    for (size_t i = 0; i < sizeof scanned / sizeof *scanned; i++) {
        until_all_succeed(scan_once, scanned[i], 2);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nth_allocation_of_a_document_fails),
        cmocka_unit_test(nth_allocation_of_the_scan_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
