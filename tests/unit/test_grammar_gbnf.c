/* GBNF against its meaning: texts that a grammar allows and texts that it does not, decoded under the translation's
 * masks. Errors with their place; a failing allocation is an error. */
#include "tests/support/failing_memory.h"
#include "tests/support/grammar_vocab.h"

#include "base/array.h"
#include "base/limits.h"
#include "grammar/gbnf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static struct grammar_vocab vocab;

#define JSON_GRAMMAR                                                                                                  \
    "root   ::= object\n"                                                                                             \
    "value  ::= object | array | string | number | (\"true\" | \"false\" | \"null\") ws\n"                            \
    "object ::=\n  \"{\" ws (\n            string \":\" ws value\n    (\",\" ws string \":\" ws value)*\n  )? \"}\" " \
    "ws\n"                                                                                                            \
    "array  ::=\n  \"[\" ws (\n            value\n    (\",\" ws value)*\n  )? \"]\" ws\n"                             \
    "string ::=\n  \"\\\"\" (\n    [^\"\\\\\\x7F\\x00-\\x1F] |\n    \"\\\\\" ([\"\\\\bfnrt] | \"u\" [0-9a-fA-F]{4}) " \
    "# escapes\n"                                                                                                     \
    "  )* \"\\\"\" ws\n"                                                                                              \
    "number ::= (\"-\"? ([0-9] | [1-9] [0-9]{0,15})) (\".\" [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws\n"            \
    "# Optional space: by convention, applied in this grammar after literal chars when allowed\n"                     \
    "ws ::= | \" \" | \"\\n\" [ \\t]{0,20}\n"

static const struct {
    const char *grammar, *yes[6], *no[6];
} examples[] = {
    {"root ::= \"a\" | \"bc\" | \"\"", {"a", "bc", ""}, {"b", "abc", "ab"}},
    {"root ::= [a-c]+ \"b\"", {"ab", "bb", "abcb"}, {"b", "a", "abc"}}, /* no lexeme may swallow the b */
    {"root ::= [^a\\n] .", {"b\n", "\xC3\xA9z", "\xE2\x82\xAC\xF0\x9F\x98\x80"}, {"ab", "\nb", "b"}},
    {"root ::= [a^] [\\]x]{2}", {"a]]", "^xx", "ax]"}, {"bxx", "a]"}},
    {"root ::= [a-]\n", {"a", "-"}, {"b", ""}},
    {"root ::= \"\\x41\\u00e9\\U0001F600\\t\\\\\\\"\"", {"A\xC3\xA9\xF0\x9F\x98\x80\t\\\""}, {"A"}},
    {"root ::= \"a\"{2} \"b\"{1,2} \"c\"{2,} \"d\"{0} \"e\"?",
     {"aabcc", "aabbccccce"},
     {"abcc", "aabbbcc", "aabc", "aabccd"}},
    {"root ::= (\"a\" | \"b\" \"c\")* end\nend ::= \".\" # the end\n", {".", "abca."}, {"b.", "a"}},
    {"root ::= x-1 X_2\nx-1 ::= \"a\"\nX_2 ::= \"b\"", {"ab"}, {"a"}},
    {"# only a comment\n\nroot ::= # here too\n  \"a\" |\n  \"b\"\n\n", {"a", "b"}, {"", "ab"}},
    {"root ::= \"(\" root \")\" | \"x\"", {"x", "((x))"}, {"(x", "x)", ""}},
    {"root ::= root \"+\" term | term\nterm ::= [0-9]+", {"1", "12+3+45"}, {"+", "1+", "1++2"}}, /* left recursion */
    {"root ::= \"a\" root \"b\" | [ab]*",
     {"", "aab", "aabb", "ba"},
     {"c"}}, /* lexemes would change it: by characters */
    {"root ::= \"a\" (\"b\" root)? | \"ab\" \"c\"", {"a", "aba", "abc", "ababc"}, {"ab", "abcc"}},
    {"root ::= (\"[\" root* \"]\"){1,2}", {"[]", "[][]", "[[][]]"}, {"", "[][][]x", "["}},
    {"root ::= (((\"a\")?)*)+ tail\ntail ::= \"(\" tail? \")\"", {"()", "a(())", "aaa()"}, {"a", "(()"}},
    {JSON_GRAMMAR,
     {"{}", "{\"a\": [1, -2.5e3, true,null], \"\\u00e9\\n\": {\"x\":\"y\"} }", "{\"a\":{\"b\":[[]]}}",
      "{\n  \"a\":\n  12}"},
     {"[]", "{\"a\":01}", "{\"a\":\"\n\"}", "{a:1}", "{\"a\":1,}"}},
};

static struct constraint *translate(const char *grammar)
{
    struct error err = {0};
    struct buf lark;
    buf_init(&lark, LIMIT_GRAMMAR_SIZE);
    if (!gbnf_to_lark(str_of(grammar), &lark, &err)) {
        fail_msg("%s: %s", grammar, err.msg);
    }
    struct constraint *c = grammar_compile(&vocab, CONSTRAINT_LARK, lark.data);
    buf_release(&lark);
    return c;
}

static void translations_mean_the_same(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(examples); i++) {
        struct constraint *c = translate(examples[i].grammar);
        for (size_t j = 0; j < 6 && examples[i].yes[j]; j++) {
            if (!grammar_accepts(c, &vocab, str_of(examples[i].yes[j]))) {
                fail_msg("%s\nmust accept '%s'", examples[i].grammar, examples[i].yes[j]);
            }
        }
        for (size_t j = 0; j < 6 && examples[i].no[j]; j++) {
            if (grammar_accepts(c, &vocab, str_of(examples[i].no[j]))) {
                fail_msg("%s\nmust not accept '%s'", examples[i].grammar, examples[i].no[j]);
            }
        }
        constraint_release(c);
    }
}

static void tokens_are_passed_on(void **state)
{
    (void)state;
    struct error err = {0};
    struct constraint *c = translate("root ::= <think> !<[5]> </think> \"a\"");
    struct constraint_state *s = constraint_state_create(c, &err);
    assert_true(grammar_allows(s, &vocab, vocab.think) && !grammar_allows(s, &vocab, 7));
    assert_true(constraint_state_accept(s, vocab.think, &err));
    assert_true(grammar_allows(s, &vocab, 7) && !grammar_allows(s, &vocab, vocab.unthink));
    assert_true(constraint_state_accept(s, 7, &err));
    assert_true(constraint_state_accept(s, vocab.unthink, &err));
    assert_int_equal(grammar_feed(s, &vocab, STR("a")), 1);
    constraint_state_free(s);
    constraint_release(c);
}

/* ---- errors ---- */

static void refuse(const char *grammar, const char *words)
{
    struct error err = {0};
    struct buf out;
    buf_init(&out, MIB(1));
    assert_false(gbnf_to_lark(str_of(grammar), &out, &err));
    assert_int_equal(err.code, ERR_INVALID);
    if (str_find(str_of(err.msg), str_of(words)) == STR_NPOS) {
        fail_msg("%s: '%s' has no '%s'", grammar, err.msg, words);
    }
    buf_release(&out);
}

static void errors_have_a_place(void **state)
{
    (void)state;
    refuse("", "no rule 'root'");
    refuse("a ::= \"x\"", "no rule 'root'");
    refuse("root ::= other", "line 1, column 10: there is no rule");
    refuse("root ::= \"\xC3\xA9\" \"x", "line 1, column 16: the literal has no end");
    refuse("root ::= \"a\"\n\n  b = 1", "line 3, column 5: '::='");
    refuse("root ::= \"a\"\nroot ::= \"b\"", "line 2, column 1: there is a rule of this name");
    refuse("root ::= (\"a\"", "column 14: a ')'");
    refuse("root ::= \"a\")", "column 13: this belongs to no rule");
    refuse("root ::= [a", "the class of characters has no end");
    refuse("root ::= []", "column 10: the class has no characters");
    refuse("root ::= [z-a]", "column 11: the range");
    refuse("root ::= \"\\q\"", "column 11: there is no such escape");
    refuse("root ::= \"\\x4\"", "column 14: a hexadecimal digit");
    refuse("root ::= \"\\uD800\"", "column 11: the escape is no character");
    refuse("root ::= \"a\"{", "a number of repetitions");
    refuse("root ::= \"a\"{3,2}", "column 13: the repetition ends before");
    refuse("root ::= \"a\"{3", "column 13: the repetition has no '}'");
    refuse("root ::= \"a\"{70000}", "column 14: a number");
    refuse("root ::= * \"a\"", "column 10: this belongs to no rule");
    refuse("root ::= <a b>", "column 10: the token has no end");
    refuse("root ::= !<a>", "column 10: only a token with its id");
    refuse("root ::= !\"a\"", "column 10: a token");
    refuse("::= \"a\"", "column 1: the name of a rule");
}

static void nesting_is_bounded(void **state)
{
    (void)state;
    struct buf text;
    buf_init(&text, MIB(1));
    buf_puts(&text, "root ::= ");
    for (int i = 0; i < GBNF_MAX_DEPTH; i++) {
        buf_putc(&text, '(');
    }
    buf_puts(&text, "\"a\"");
    for (int i = 0; i < GBNF_MAX_DEPTH; i++) {
        buf_putc(&text, ')');
    }
    struct constraint *c = translate(text.data);
    assert_true(grammar_accepts(c, &vocab, STR("a")));
    constraint_release(c);
    buf_clear(&text);
    buf_puts(&text, "root ::= ");
    for (int i = 0; i <= GBNF_MAX_DEPTH; i++) {
        buf_putc(&text, '(');
    }
    refuse(text.data, "too many groups");
    buf_clear(&text);
    buf_puts(&text, "root ::= \"a\"");
    for (int i = 0; i <= GBNF_MAX_DEPTH; i++) {
        buf_putc(&text, '*');
    }
    refuse(text.data, "too many repetitions");
    buf_release(&text);
}

static void failing_allocations_are_errors(void **state)
{
    (void)state;
    struct error err = {0};
    bool ok = false;
    for (long n = 0; CAN_FAIL && !ok && n < 200; n++) {
        struct buf out;
        buf_init(&out, MIB(1));
        n_allocations = 0;
        fail_at = n;
        ok = gbnf_to_lark(STR(JSON_GRAMMAR), &out, &err);
        fail_at = -1;
        assert_true(ok || err.code == ERR_NO_MEMORY);
        buf_release(&out);
    }
    assert_true(ok || !CAN_FAIL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(translations_mean_the_same),
        cmocka_unit_test(tokens_are_passed_on),
        cmocka_unit_test(errors_have_a_place),
        cmocka_unit_test(nesting_is_bounded),
        cmocka_unit_test(failing_allocations_are_errors),
    };
    grammar_vocab_open(&vocab, NULL);
    int n_failed = cmocka_run_group_tests(tests, NULL, NULL);
    grammar_vocab_close(&vocab);
    return n_failed;
}
