/* Lines of JSON, however they are split; what a line of a batch may say; all of them together. */
#include "api/batch/batch_lines.h"

#include "base/limits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* "number:line|" for each, "number!|" for one that is too long. */
static void read_lines(struct str input, size_t step, size_t max, struct buf *out)
{
    struct batch_lines l;
    struct str line;
    enum batch_line what;
    batch_lines_init(&l, max);
    for (size_t from = 0; from < input.len; from += step) {
        struct str piece = str_slice(input, from, from + step);
        while ((what = batch_lines_next(&l, &piece, &line)) != BATCH_LINE_NONE) {
            buf_printf(out, "%llu%s", (unsigned long long)l.number, what == BATCH_LINE ? ":" : "!");
            buf_append(out, what == BATCH_LINE ? line : STR(""));
            buf_puts(out, "|");
        }
        assert_int_equal(piece.len, 0);
    }
    while ((what = batch_lines_end(&l, &line)) != BATCH_LINE_NONE) {
        buf_printf(out, "%llu%s", (unsigned long long)l.number, what == BATCH_LINE ? ":" : "!");
        buf_append(out, what == BATCH_LINE ? line : STR(""));
        buf_puts(out, "$");
    }
    batch_lines_release(&l);
}

static void expect_lines(const char *input, const char *expected)
{
    struct str text = str_of(input);
    for (size_t step = text.len ? text.len : 1; step >= 1; step--) {
        struct buf out;
        buf_init(&out, MIB(1));
        buf_puts(&out, "");
        read_lines(text, step, 8, &out);
        assert_string_equal(out.data ? out.data : "", expected);
        buf_release(&out);
    }
}

static void test_lines(void **state)
{
    (void)state;
    expect_lines("", "");
    expect_lines("a", "1:a$");
    expect_lines("a\n", "1:a|");
    expect_lines("\n\r\n \na\r\n\nb b", "4:a|6:b b$");
    expect_lines("12345678\n123456789\nx\n", "1:12345678|2!|3:x|");
    expect_lines("x\n1234567890123456789", "1:x|2!$");
    expect_lines("1234567890\n1234567890\n\n", "1!|2!|");
}

/* ---- what lines say ---- */

static const char *fault_of(const char *line)
{
    static struct batch_fault fault;
    struct batch_line_view view;
    fault = (struct batch_fault){0};
    if (batch_line_read(str_of(line), STR("/v1/completions"), &view, &fault)) {
        assert_int_equal(json_type(view.body), JSON_OBJECT);
        json_free(view.root);
        assert_null(fault.code);
        return "";
    }
    assert_null(view.root);
    assert_true(fault.code && fault.message[0]);
    return fault.code;
}

#define ROW(id, method, url, body) \
    "{\"custom_id\":" id ",\"method\":" method ",\"url\":" url ",\"body\":" body ",\"more\":1}"

static void test_what_a_line_says(void **state)
{
    (void)state;
    assert_string_equal(fault_of(ROW("\"a\"", "\"POST\"", "\"/v1/completions\"", "{}")), "");
    assert_string_equal(fault_of(ROW("\"\"", "\"POST\"", "\"/v1/completions\"", "{}")), "invalid_custom_id");
    assert_string_equal(fault_of(ROW("7", "\"POST\"", "\"/v1/completions\"", "{}")), "invalid_type");
    assert_string_equal(fault_of(ROW("\"a\"", "\"post\"", "\"/v1/completions\"", "{}")), "invalid_method");
    assert_string_equal(fault_of(ROW("\"a\"", "\"POST\"", "\"/v1/chat\"", "{}")), "mismatched_url");
    assert_string_equal(fault_of(ROW("\"a\"", "\"POST\"", "\"/v1/completions\"", "[]")), "invalid_type");
    assert_string_equal(fault_of(ROW("\"a\"", "\"POST\"", "\"/v1/completions\"", "null")),
                        "missing_required_parameter");
    assert_string_equal(fault_of("[]"), "invalid_json_line");
    assert_string_equal(fault_of("{\"a\":1,\"a\":2}"), "invalid_json_line");
    assert_string_equal(fault_of("{}{}"), "invalid_json_line");
}

/* ---- all of them ---- */

static void row_of(int i, char out[200])
{
    snprintf(out, 200, ROW("\"id %d\"", "\"POST\"", "\"/v1/completions\"", "{\"model\":\"m\"}"), i);
}

static void test_all_of_them(void **state)
{
    (void)state;
    struct batch_checker *c = batch_checker_create(3000, 4);
    struct buf out;
    char line[200];
    assert_non_null(c);
    buf_init(&out, MIB(1));
    for (int i = 0; i < 3000; i++) {
        row_of(i, line);
        assert_true(batch_checker_add(c, (uint64_t)i + 1, str_of(line), STR("/v1/completions")));
    }
    assert_true(batch_checker_end(c, &out));
    assert_int_equal(batch_checker_n(c), 3000);
    assert_true(out.len == 0 && str_eq(batch_checker_model(c), STR("m")));
    batch_checker_free(c);

    c = batch_checker_create(6, 4);
    for (int i = 0; i < 10; i++) {
        row_of(i % 2, line);
        assert_true(batch_checker_add(c, (uint64_t)i + 1, str_of(line), STR("/v1/completions")));
    }
    assert_false(batch_checker_end(c, &out));
    struct error err = {0};
    struct json *errors = json_parse(buf_view(&out), 0, &err);
    assert_non_null(errors);
    assert_int_equal(json_len(errors), 4); /* those that are told: rows 3 to 6; the seventh is one too many */
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(json_int(json_get(json_at(errors, i), "line")), 3 + (int)i);
        assert_true(str_eq(json_str(json_get(json_at(errors, i), "code")), STR("duplicate_custom_id")));
    }
    json_free(errors);
    batch_checker_free(c);

    buf_clear(&out);
    c = batch_checker_create(6, 4);
    batch_checker_too_long(c, 1, 99);
    row_of(1, line);
    assert_true(batch_checker_add(c, 2, str_of(line), STR("/v1/completions")));
    assert_false(batch_checker_end(c, &out));
    assert_non_null(strstr(out.data, "line_too_long"));
    batch_checker_free(c);

    buf_clear(&out);
    c = batch_checker_create(6, 4);
    assert_false(batch_checker_end(c, &out));
    assert_non_null(strstr(out.data, "empty_file"));
    batch_checker_free(c);
    buf_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_what_a_line_says),
        cmocka_unit_test(test_all_of_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
