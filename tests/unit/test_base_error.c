/* Sentences are cut and wrapped without losing the cause or cutting a character; the table is consistent. */
#include "base/error.h"
#include "base/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void set_formats_and_clears_param(void **state)
{
    (void)state;
    struct error err;
    assert_false(error_set_param(&err, ERR_INVALID, "messages[2].content", "got %d.", 7));
    assert_int_equal(err.code, ERR_INVALID);
    assert_string_equal(err.param, "messages[2].content");
    assert_string_equal(err.msg, "got 7.");
    assert_false(error_set(&err, ERR_IO, "after '%s'", err.msg)); /* an argument inside the error itself */
    assert_string_equal(err.msg, "after 'got 7.'");
    assert_string_equal(err.param, "");
}

static void long_sentences_are_cut_between_characters(void **state)
{
    (void)state;
    char text[1024];
    for (size_t offset = 0; offset < 4; offset++) {
        struct error err;
        memset(text, 'x', sizeof text);
        for (size_t i = offset; i + 4 < sizeof text; i += 4) {
            memcpy(text + i, "\xF0\x9F\x98\x80", 4);
        }
        text[1020] = '\0';
        error_set_param(&err, ERR_INVALID, text, "%s", text);
        assert_true(utf8_valid(str_of(err.msg)));
        assert_true(utf8_valid(str_of(err.param)));
        assert_true(str_ends(str_of(err.msg), STR("...")));
        assert_true(strlen(err.msg) >= sizeof err.msg - 5);
        error_wrap(&err, "%s", text);
        assert_true(utf8_valid(str_of(err.msg)));
    }
}

static void terminals_find_no_commands_in_them(void **state)
{
    (void)state;
    struct error err;
    error_set(&err, ERR_FORMAT, "a %s", "\x1b]0;x\x07\xc2\x9bJ\xff");
    assert_string_equal(err.msg, "a ?]0;x???J?");
    error_wrap(&err, "%s", "\x1b[2J");
    assert_string_equal(err.msg, "?[2J: a ?]0;x???J?");
}

static void exact_fit_is_not_cut(void **state)
{
    (void)state;
    struct error err;
    char text[sizeof err.msg + 1];
    memset(text, 'x', sizeof text);
    text[sizeof err.msg - 1] = '\0';
    error_set(&err, ERR_IO, "%s", text);
    assert_string_equal(err.msg, text);
    text[sizeof err.msg - 1] = 'x';
    text[sizeof err.msg] = '\0';
    error_set(&err, ERR_IO, "%s", text);
    assert_true(str_ends(str_of(err.msg), STR("...")));
}

static void invalid_bytes_are_replaced(void **state)
{
    (void)state;
    struct error err;
    error_set_param(&err, ERR_IO, "a\xFF", "file '%s'.", "a\xC3(\xE2\x82");
    assert_string_equal(err.msg, "file 'a?(?"
                                 "?'.");
    assert_string_equal(err.param, "a?");
}

static void wrap_keeps_the_cause(void **state)
{
    (void)state;
    struct error err;
    char context[ERROR_MSG_SIZE];
    error_set_param(&err, ERR_FORMAT, "p", "the cause.");
    assert_false(error_wrap(&err, "model '%s'", "m"));
    assert_string_equal(err.msg, "model 'm': the cause.");
    assert_int_equal(err.code, ERR_FORMAT);
    assert_string_equal(err.param, "p");
    memset(context, 'c', sizeof context);
    context[sizeof context - 1] = '\0';
    error_wrap(&err, "%s", context);
    assert_true(str_ends(str_of(err.msg), STR("...: model 'm': the cause.")));
    for (int i = 0; i < 10; i++) {
        error_wrap(&err, "level %d", i);
    }
    assert_true(strlen(err.msg) < sizeof err.msg);
    assert_true(str_starts(str_of(err.msg), STR("level 9: level 8: ")));
}

static void wrap_of_a_long_cause_keeps_some_context(void **state)
{
    (void)state;
    struct error err;
    char cause[ERROR_MSG_SIZE];
    memset(cause, 'c', sizeof cause);
    cause[sizeof cause - 1] = '\0';
    error_set(&err, ERR_IO, "%s", cause);
    error_wrap(&err, "model '%s'", "m");
    assert_true(str_starts(str_of(err.msg), STR("model 'm': ccc")));
    assert_int_equal(strlen(err.msg), sizeof err.msg - 1);
}

static void table_rows(void **state)
{
    (void)state;
    assert_int_equal(error_info(ERR_CONTEXT_EXCEEDED)->http_status, 400);
    assert_string_equal(error_info(ERR_CONTEXT_EXCEEDED)->openai_code, "context_length_exceeded");
    assert_true(error_info(ERR_OVERLOADED)->retryable);
    assert_ptr_equal(error_info((enum error_code) - 1), error_info(ERR_INTERNAL));
    assert_ptr_equal(error_info(ERR_COUNT), error_info(ERR_INTERNAL));
    for (int i = 0; i < ERR_COUNT; i++) {
        const struct error_info *info = error_info((enum error_code)i);
        assert_int_equal(error_code_of(info->name), i);
        assert_true(i == ERR_NONE || (info->http_status >= 400 && info->http_status < 600 && info->exit_status > 0));
        assert_true(i == ERR_NONE || (info->openai_type[0] && info->anthropic_type[0]));
    }
    assert_int_equal(error_code_of("NO_SUCH"), ERR_INTERNAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(set_formats_and_clears_param),
        cmocka_unit_test(long_sentences_are_cut_between_characters),
        cmocka_unit_test(terminals_find_no_commands_in_them),
        cmocka_unit_test(exact_fit_is_not_cut),
        cmocka_unit_test(invalid_bytes_are_replaced),
        cmocka_unit_test(wrap_keeps_the_cause),
        cmocka_unit_test(wrap_of_a_long_cause_keeps_some_context),
        cmocka_unit_test(table_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
