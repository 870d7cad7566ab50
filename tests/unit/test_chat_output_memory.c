/* Outputs taken apart with the n-th allocation failing, for every n: NO_MEMORY or the whole result, never part of one.
 * The allocator is replaced for the whole program; with sanitizers, which bring their own, it is skipped. */
#include "base/array.h"
#include "chat/reasoning_format.h"
#include "chat/tool_format.h"
#include "tests/support/failing_memory.h"
#include "tests/support/output_log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define LONG  "0123456789abcdef0123456789abcdef0123456789\\nabcdef0123456789abcdef0123456789abcdef"
#define LONGS LONG LONG LONG LONG LONG LONG LONG LONG LONG LONG LONG LONG

static const struct {
    const char *format, *text, *log;
} rows[] = {
    {"hermes",
     "<think>" LONGS "</think>" LONGS "<tool_call>{\"arguments\": {\"a\": \"" LONGS "\"}, \"name\": \"f\"}</tool_call>"
     "<tool_call>{\"name\": \"g\", \"arguments\": \"{\\\"b\\\": \\\"" LONGS "\\\"}\"}</tool_call>",
     "R " LONGS "|T " LONGS "|C f|A {\"a\": \"" LONGS "\"}|E ok|C g|A {\"b\": \""},
    {"qwen3-coder",
     "<tool_call><function=f><parameter=a>" LONGS "</parameter><parameter=b>[1]</parameter></function></tool_call>",
     "C f|A {\"a\":\""},
    {"kimi-k2",
     "<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{\"a\": 1}"
     "<|tool_call_end|>",
     "C f#functions.f:0|A {\"a\": 1}|E ok"},
    {"llama4", "[f(a=\"" LONGS "\", b=[True])]", "C f|A {\"a\":\""},
    {"harmony",
     "<|channel|>analysis<|message|>" LONGS "<|end|><|start|>assistant<|channel|>commentary "
     "to=functions.f<|message|>{}<|call|>",
     "R " LONGS "|C f|A {}|E ok"},
};

/* True when nothing was left to fail. The log's own memory is given before. */
static bool run_once(const struct output_options *o, size_t row, long n)
{
    struct output_log log = {.ordered = true};
    struct error err = {0};
    struct str text = str_of(rows[row].text);
    buf_init(&log.text, 1 << 20);
    buf_extend(&log.text, 100000);
    buf_clear(&log.text);
    n_allocations = 0;
    fail_at = n;
    struct output_parser *p = output_parser_create(o, &err);
    bool ok = p != NULL;
    for (size_t at = 0; ok && at < text.len; at += 100) {
        ok = output_parser_feed(p, str_slice(text, at, at + 100), &err);
        if (ok) {
            output_log_drain(&log, p);
        }
    }
    ok = ok && output_parser_end(p, &err);
    fail_at = -1;
    bool all_done = n_allocations <= n;
    if (ok) {
        output_log_drain(&log, p);
        if (!str_starts(buf_view(&log.text), str_of(rows[row].log))) {
            fail_msg("want %s\n  got  " STR_FMT, rows[row].log, STR_ARG(buf_view(&log.text)));
        }
        assert_true(str_ends(buf_view(&log.text), STR("ok")));
    } else {
        struct error again = {0};
        assert_int_equal(err.code, ERR_NO_MEMORY);
        assert_false(all_done);
        assert_false(p && output_parser_feed(p, STR("x"), &again)); /* it stays failed */
    }
    output_parser_free(p);
    buf_release(&log.text);
    return all_done;
}

static void every_allocation(void **state)
{
    (void)state;
    struct error err = {0};
    if (!CAN_FAIL) {
        skip();
    }
    struct json *definitions = json_parse(STR("[{\"function\":{\"name\":\"f\"}}]"), 0, &err);
    for (size_t row = 0; row < ARRAY_LEN(rows); row++) {
        struct output_options o = {.definitions = definitions};
        long n = 0;
        o.tools = tool_format_find(str_of(rows[row].format));
        o.reasoning = reasoning_format_find(row == 4 ? STR("harmony") : STR("think"));
        while (!run_once(&o, row, n)) {
            n++;
        }
        assert_in_range(n, 4, 10000);
    }
    json_free(definitions);
}

/* A grammar's buffer is the caller's; its writer needs nothing else. */
static void grammar(void **state)
{
    (void)state;
    struct error err = {0};
    struct json *definitions = json_parse(
        STR("[{\"function\":{\"name\":\"f\",\"parameters\":{\"properties\":{\"a\":{\"type\":\"string\"}}}}}]"), 0,
        &err);
    struct tool_grammar g = {.definitions = definitions};
    for (size_t i = 0; CAN_FAIL && i < tool_format_count(); i++) {
        for (fail_at = 0;; fail_at++) {
            struct buf out;
            long n = fail_at;
            buf_init(&out, 1 << 20);
            n_allocations = 0;
            bool ok = tool_format_grammar(tool_format_at(i), &g, &out, &err);
            assert_true(ok || err.code == ERR_NO_MEMORY);
            buf_release(&out);
            if (n_allocations <= n) {
                assert_true(ok);
                break;
            }
        }
        fail_at = -1;
    }
    json_free(definitions);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_allocation), cmocka_unit_test(grammar)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
