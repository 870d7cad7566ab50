/* Where the pre-tokenizers cut. The vectors compare whole tokenizers; this shows the pieces. */
#include "text/pretokenizer.h"

#include "base/array.h"
#include "base/buf.h"
#include "base/limits.h"
#include "text/unicode.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void check(const char *pre, const char *text, const char *want) /* pieces joined by '|' */
{
    struct buf got;
    struct str piece;
    const struct pretokenizer *row = pretokenizer_find(str_of(pre));
    assert_non_null(row);
    buf_init(&got, KIB(64));
    struct pre_walk walk = pre_walk_start(row, str_of(text));
    while (pre_walk_next(&walk, &piece)) {
        assert_true(piece.len > 0);
        if (got.len)
            buf_putc(&got, '|');
        buf_append(&got, piece);
    }
    if (!str_eq(buf_view(&got), str_of(want)))
        fail_msg("%s: got '" STR_FMT "', want '%s'", pre, STR_ARG(buf_view(&got)), want);
    buf_release(&got);
}

static void test_pieces(void **state)
{
    (void)state;
    check("gpt-2", "", "");
    check("gpt-2", "Hello world's  end 123 !? \n x", "Hello| world|'s| | end| 123| !?| \n| x");
    check("gpt-2", "DON'T don't", "DON|'|T| don|'t");
    check("smollm", "x 123", "x| |1|2|3");
    check("llama-bpe", "it'S 12345 a\n\n  b (c)\n", "it|'S| |123|45| a|\n\n| | b| (|c|)\n");
    check("qwen2", "12 \t b", "1|2| \t| b");
    check("qwen2", "'\xC5\xBFx", "'\xC5\xBF|x"); /* the long s folds to s */
    check("seed-coder", "a!\nb", "a|!|\n|b");
    check("tekken", "HTTPServer camelCase ABC/\n", "HTTPServer| camel|Case| ABC|/\n");
    check("gpt-4o", "HELLO's THE'LL", "HELLO's| THE'LL");
    check("deepseek-llm", "caf\xC3\xA9 12\n\xE4\xB8\xAD x", "caf|\xC3\xA9| |1|2|\n|\xE4\xB8\xAD| x");
    check("deepseek-coder", "a.b  c1", "a|.|b| | c|1");
    check("deepseek-v3", ".hello 1234 x", ".hello| |123|4| x");
    check("falcon", "a==b 12345", "a|==|b| |123|45");
}

static void test_names(void **state)
{
    (void)state;
    assert_string_equal(pretokenizer_find(STR("llama3"))->name, "llama-bpe");
    assert_string_equal(pretokenizer_find(STR("deepseek-r1-qwen"))->name, "qwen2");
    assert_string_equal(pretokenizer_find(STR("default"))->name, "gpt-2");
    assert_null(pretokenizer_find(STR("")));
    assert_null(pretokenizer_find(STR("llama3 llama-v3")));
    assert_null(pretokenizer_find(STR("nonsense")));
}

static void test_classes(void **state)
{
    (void)state;
    assert_int_equal(unicode_class('A') & 0x3FF, UC_LU);
    assert_int_equal(unicode_class('7') & (UC_N | UC_NUMERIC), UC_N | UC_NUMERIC);
    assert_int_equal(unicode_class(0x3000) & 0x3FF, UC_SPACE);
    assert_int_equal(unicode_class(0x301) & 0x3FF, UC_M);
    assert_int_equal(unicode_class('$') & 0xFFF, UC_S | UC_PUNCT); /* ASCII symbols are Punctuation there */
    assert_int_equal(unicode_class(0x20AC) & 0xFFF, UC_S);
    assert_int_equal(unicode_class(0x1C89) & 0x3FF, UC_LU); /* of Unicode 16 */
    assert_int_equal(unicode_class(0x10FFFF) & 0x3FF, 0);
    assert_int_equal(unicode_class(0) & 0x3FF, 0);
}

static void test_nfc(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to;
    } cases[] = {
        {"e\xCC\x81", "\xC3\xA9"},
        {"xe\xCC\x81y \xC3\xA9", "x\xC3\xA9y \xC3\xA9"},
        {"q\xCC\x87\xCC\xA3", "q\xCC\xA3\xCC\x87"},               /* marks in order */
        {"\xE1\xBF\x8C\xCC\x81", "\xCE\x89\xCD\x85"},             /* a mark moves before one inside */
        {"\xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB", "\xED\x95\x9C"}, /* Hangul */
        {"\xEA\xB0\x80\xE1\x86\xA8", "\xEA\xB0\x81"},
        {"\xE2\x84\xAB", "\xC3\x85"}, /* Angstrom */
        {"plain ASCII", "plain ASCII"},
        {"\xE1\x85\xA1", "\xE1\x85\xA1"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf out;
        buf_init(&out, KIB(4));
        unicode_nfc(str_of(cases[i].from), &out);
        assert_true(str_eq(buf_view(&out), str_of(cases[i].to)));
        assert_true(unicode_nfc_needed(str_of(cases[i].from)) || strcmp(cases[i].from, cases[i].to) == 0);
        buf_release(&out);
    }
    assert_false(unicode_nfc_needed(STR("plain \xC3\xA9 \xE4\xB8\xAD \xF0\x9F\x98\x80")));
}

/* Two kinds of marks in turn, half a million on one letter: ordering them must not be quadratic (an hour at this size).
 */
static void test_nfc_many_marks(void **state)
{
    (void)state;
    struct buf text, out;
    const size_t n = 250000;
    buf_init(&text, MIB(4));
    buf_init(&out, MIB(4));
    buf_puts(&text, "x");
    for (size_t i = 0; i < n; i++)
        buf_puts(&text, "\xCC\x81\xCC\x96"); /* U+0301 goes above (230), U+0316 below (220) */
    unicode_nfc(buf_view(&text), &out);
    assert_int_equal(out.len, text.len);
    for (size_t i = 0; i < 2 * n; i++)
        assert_true((uint8_t)out.data[1 + 2 * i + 1] == (i < n ? 0x96 : 0x81));
    buf_release(&text);
    buf_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces), cmocka_unit_test(test_names),          cmocka_unit_test(test_classes),
        cmocka_unit_test(test_nfc),    cmocka_unit_test(test_nfc_many_marks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
