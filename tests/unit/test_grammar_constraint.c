/* Masks, ends, reasoning, lazy grammars: on a small vocabulary that has every byte. */
#include "tests/support/grammar_vocab.h"

#include "base/array.h"
#include "base/limits.h"
#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static struct grammar_vocab vocab;

static struct constraint_state *start(struct constraint *c)
{
    struct error err = {0};
    struct constraint_state *s = constraint_state_create(c, &err);
    assert_non_null(s);
    constraint_release(c); /* the state has its own hold */
    return s;
}

static void take(struct constraint_state *s, int32_t id)
{
    struct error err = {0};
    assert_true(grammar_allows(s, &vocab, id));
    if (!constraint_state_accept(s, id, &err)) {
        fail_msg("%s", err.msg);
    }
}

static void take_piece(struct constraint_state *s, const char *piece)
{
    take(s, grammar_vocab_id(&vocab, piece));
}

static bool allows(struct constraint_state *s, const char *piece)
{
    return grammar_allows(s, &vocab, grammar_vocab_id(&vocab, piece));
}

static int mask_of(struct constraint_state *s, uint32_t *mask)
{
    struct error err = {0};
    return constraint_state_mask(s, mask, &err);
}

/* ---- grammars ---- */

static void tokens_are_allowed_when_their_text_fits(void **state)
{
    (void)state;
    struct constraint_state *s = start(grammar_compile(&vocab, CONSTRAINT_REGEX, "ab(c|1)?"));
    assert_true(allows(s, "a") && allows(s, "ab") && allows(s, "abc"));
    assert_false(allows(s, "b") || allows(s, "c") || allows(s, "12"));
    assert_true(grammar_allows(s, &vocab, grammar_vocab_byte(&vocab, 'a')));
    assert_false(grammar_allows(s, &vocab, vocab.end));
    assert_false(constraint_state_can_stop(s));
    take_piece(s, "ab");
    assert_true(allows(s, "c") && allows(s, "1") && grammar_allows(s, &vocab, vocab.end));
    assert_true(grammar_allows(s, &vocab, vocab.turn_end));
    assert_false(allows(s, "12") || allows(s, "abc"));
    assert_true(constraint_state_can_stop(s) && !constraint_state_done(s));
    take_piece(s, "c");
    assert_true(constraint_state_done(s) && constraint_state_can_stop(s));
    assert_true(grammar_allows(s, &vocab, vocab.turn_end));
    assert_false(allows(s, "c"));
    take(s, vocab.end);
    constraint_state_free(s);
}

static void special_tokens_are_no_text(void **state)
{
    (void)state;
    struct constraint_state *s = start(grammar_compile(&vocab, CONSTRAINT_REGEX, "(?s:.*)"));
    assert_true(allows(s, "a") && allows(s, "<tool_call>{"));
    assert_false(allows(s, "<think>") || allows(s, "<pad>") || allows(s, "<s>") || allows(s, "<unk>"));
    constraint_state_free(s);
    s = start(grammar_compile(&vocab, CONSTRAINT_LARK, "start: <think> \"a\""));
    assert_true(allows(s, "<think>"));
    assert_false(allows(s, "a") || allows(s, "<"));
    take_piece(s, "<think>");
    assert_true(allows(s, "a"));
    constraint_state_free(s);
}

static void accepts_each(enum constraint_kind kind, const char *grammar, const char *const *yes, const char *const *no)
{
    struct constraint *c = grammar_compile(&vocab, kind, grammar);
    for (; *yes; yes++) {
        if (!grammar_accepts(c, &vocab, str_of(*yes))) {
            fail_msg("%s must accept '%s'", grammar, *yes);
        }
    }
    for (; *no; no++) {
        if (grammar_accepts(c, &vocab, str_of(*no))) {
            fail_msg("%s must not accept '%s'", grammar, *no);
        }
    }
    constraint_release(c);
}

#define LIST(...) ((const char *const[]){__VA_ARGS__, NULL})

static void all_kinds_mean_what_they_say(void **state)
{
    (void)state;
    accepts_each(CONSTRAINT_CHOICE, "[\"a\",\"ab\",\"abc d\",\"\\u00e9\\n\\\"\"]",
                 LIST("a", "ab", "abc d", "\xC3\xA9\n\""), LIST("", "abc", "b", "abc d "));
    accepts_each(CONSTRAINT_REGEX, "", LIST(""), LIST("a"));
    accepts_each(CONSTRAINT_REGEX, "^a/b\n$", LIST("a/b\n"), LIST("a/b", "xa/b\n"));
    accepts_each(CONSTRAINT_REGEX, "\\d{2,3}\\\\", LIST("12\\", "123\\"), LIST("1\\", "12"));
    accepts_each(CONSTRAINT_JSON_SCHEMA,
                 "{\"type\":\"object\",\"properties\":{\"b\":{\"type\":\"integer\"},\"a\":{}},"
                 "\"required\":[\"b\"],\"additionalProperties\":false}",
                 LIST("{\"b\":1}", "{\"b\": -12, \"a\": [true, {\"x\": null}]}"),
                 LIST("{}", "{\"a\":1,\"b\":1}", "{\"b\":1.5}", "{\"b\":1,\"c\":1}", " {\"b\":1}"));
    accepts_each(CONSTRAINT_LARK, "start: \"(\" start \")\" | \"x\"", LIST("x", "((x))"), LIST("", "(x", "(x))"));
}

/* ---- errors ---- */

static void refuse(enum constraint_kind kind, const char *grammar, const char *field, enum error_code code,
                   const char *words)
{
    struct error err = {0};
    struct constraint_spec spec = constraint_spec_none();
    spec.kind = kind;
    spec.grammar = str_of(grammar);
    assert_null(constraint_compile(vocab.vocab, &spec, field, &err));
    if (err.code != code || str_find(str_of(err.msg), str_of(words)) == STR_NPOS) {
        fail_msg("%s: '%s' has no '%s' (code %d)", grammar, err.msg, words, err.code);
    }
    assert_string_equal(err.param, field ? field : "");
    assert_true(!field || str_starts(str_of(err.msg), str_of(field)));
    assert_true(str_find_char(str_of(err.msg), '\n') == STR_NPOS);
}

static void errors_say_what_is_wrong(void **state)
{
    (void)state;
    refuse(CONSTRAINT_LARK, "start: \"a\"\n  | other_rule", "guided_grammar", ERR_INVALID, "other_rule");
    refuse(CONSTRAINT_LARK, "start: \"a\n", NULL, ERR_INVALID, "line 1, column");
    refuse(CONSTRAINT_LARK, "begin: \"a\"", NULL, ERR_INVALID, "start");
    refuse(CONSTRAINT_LARK, "", NULL, ERR_INVALID, "empty");
    refuse(CONSTRAINT_REGEX, "a(b", "guided_regex", ERR_INVALID, "regex");
    refuse(CONSTRAINT_REGEX, "a\\", NULL, ERR_INVALID, "backslash");
    refuse(CONSTRAINT_REGEX, "a(?=b)", NULL, ERR_INVALID, "look");
    refuse(CONSTRAINT_JSON_SCHEMA, "{\"type\":\"obj\"}", "response_format", ERR_INVALID, "obj");
    refuse(CONSTRAINT_JSON_SCHEMA, "{\"not\":{}}", NULL, ERR_INVALID, "not");
    refuse(CONSTRAINT_JSON_SCHEMA, "false", NULL, ERR_INVALID, "nsatisfiable");
    refuse(CONSTRAINT_JSON_SCHEMA, "{", NULL, ERR_INVALID, "");
    refuse(CONSTRAINT_CHOICE, "[]", NULL, ERR_INVALID, "texts");
    refuse(CONSTRAINT_CHOICE, "[1]", NULL, ERR_INVALID, "texts");
    refuse(CONSTRAINT_CHOICE, "{\"a\":1}", NULL, ERR_INVALID, "texts");
    refuse(CONSTRAINT_CHOICE, "[\"a\"", NULL, ERR_INVALID, "");
}

/* More symbols than a grammar may have, and rules that lead to rules deeper than any stack of a thread is by default.
 */
static void what_costs_too_much_is_refused(void **state)
{
    (void)state;
    struct buf text;
    buf_init(&text, LIMIT_GRAMMAR_SIZE);
    buf_puts(&text, "start:");
    for (int i = 0; i < 30000; i++) {
        buf_puts(&text, " \"a\"");
    }
    refuse(CONSTRAINT_LARK, text.data, NULL, ERR_UNSUPPORTED, "too big");
    buf_clear(&text);
    buf_puts(&text, "start: r0\n");
    for (int i = 0; i < 20000; i++) {
        buf_printf(&text, "r%d: \"a\" r%d\n", i, i + 1);
    }
    buf_puts(&text, "r20000: \"b\"");
    refuse(CONSTRAINT_LARK, text.data, NULL, ERR_UNSUPPORTED, ""); /* by its size, or with a sanitizer by its time */
    buf_release(&text);
}

/* What takes too long is left to itself; freeing the vocabulary waits for it. */
static void what_takes_too_long_is_refused(void **state)
{
    (void)state;
    struct grammar_vocab hasty;
    struct error err = {0};
    struct buf text;
    struct constraint_spec spec = constraint_spec_none();
    buf_init(&text, LIMIT_GRAMMAR_SIZE);
    buf_puts(&text, "start: \"b\"");
    for (int i = 0; i < 8000; i++) {
        buf_printf(&text, " | \"a%d\"", i);
    }
    grammar_vocab_open(&hasty, &(struct constraint_vocab_options){.limits = {.compile_ms = 1}});
    spec.kind = CONSTRAINT_LARK;
    spec.grammar = buf_view(&text);
    assert_null(constraint_compile(hasty.vocab, &spec, "guided_grammar", &err));
    assert_int_equal(err.code, ERR_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "time limit"));
    assert_string_equal(err.param, "guided_grammar");
    grammar_vocab_close(&hasty);
    buf_release(&text);
}

/* Out of fuel while decoding: the state fails, and stays so. */
static void running_out_of_fuel_is_an_error(void **state)
{
    (void)state;
    struct grammar_vocab small;
    struct error err = {0};
    uint32_t mask[64];
    grammar_vocab_open(&small, &(struct constraint_vocab_options){.limits = {.mask_items = 60}});
    struct constraint *c =
        grammar_compile(&small, CONSTRAINT_LARK,
                        "start: \"a\" many\nmany: (x y z)*\nx: \"a\" | \"b\" x |\ny: \"a\" | \"c\" y "
                        "|\nz: \"b\" | \"a\" z |");
    struct constraint_state *s = start(c);
    int applies = 1;
    for (int i = 0; i < 100 && applies == 1; i++) {
        applies = constraint_state_mask(s, mask, &err);
        if (applies == 1 && !constraint_state_accept(s, grammar_vocab_byte(&small, 'a'), &err)) {
            applies = -1;
        }
    }
    assert_int_equal(applies, -1);
    assert_int_equal(err.code, ERR_UNSUPPORTED);
    struct error again = {0};
    assert_int_equal(constraint_state_mask(s, mask, &again), -1);
    assert_string_equal(again.msg, err.msg);
    assert_false(constraint_state_accept(s, grammar_vocab_byte(&small, 'a'), &again));
    constraint_state_free(s);
    grammar_vocab_close(&small);
}

static void a_token_that_is_not_allowed_fails_the_state(void **state)
{
    (void)state;
    struct error err = {0};
    struct constraint_state *s = start(grammar_compile(&vocab, CONSTRAINT_REGEX, "ab"));
    assert_false(constraint_state_accept(s, constraint_vocab_size(vocab.vocab), &err));
    assert_false(constraint_state_accept(s, -1, &err));
    assert_true(allows(s, "a"));
    assert_false(constraint_state_accept(s, grammar_vocab_id(&vocab, "12"), &err));
    assert_int_equal(err.code, ERR_INTERNAL);
    assert_int_equal(mask_of(s, (uint32_t[64]){0}), -1);
    constraint_state_free(s);
}

/* ---- reasoning ---- */

static struct constraint_spec thinking(enum constraint_kind kind, const char *grammar, int32_t budget)
{
    struct constraint_spec spec = constraint_spec_none();
    spec.kind = kind;
    spec.grammar = str_of(grammar);
    spec.think_start = (struct constraint_ids){&vocab.think, 1};
    spec.think_end = (struct constraint_ids){&vocab.unthink, 1};
    spec.think_budget = budget;
    return spec;
}

static void a_binding_grammar_waits_for_the_reasoning(void **state)
{
    (void)state;
    struct constraint_spec spec = thinking(CONSTRAINT_REGEX, "ab", -1);
    struct constraint_state *s = start(grammar_compile_spec(&vocab, &spec));
    assert_true(allows(s, "<think>") && allows(s, "a"));
    assert_false(allows(s, "12") || allows(s, "</think>") || grammar_allows(s, &vocab, vocab.end));
    take_piece(s, "<think>");
    assert_true(constraint_state_thinking(s));
    assert_true(allows(s, "12") && allows(s, "<pad>"));
    assert_false(grammar_allows(s, &vocab, vocab.end) || constraint_state_can_stop(s));
    take_piece(s, "12");
    take_piece(s, "</think>");
    assert_false(constraint_state_thinking(s));
    assert_true(allows(s, "\n\n") && allows(s, "a"));
    assert_false(allows(s, "12") || grammar_allows(s, &vocab, vocab.end));
    take_piece(s, "\n");
    take_piece(s, "\n");
    assert_false(allows(s, "\n"));
    take_piece(s, "ab");
    assert_true(constraint_state_done(s));
    constraint_state_free(s);

    s = start(grammar_compile_spec(&vocab, &spec)); /* no reasoning at all */
    take_piece(s, "a");
    assert_false(allows(s, "<think>"));
    constraint_state_free(s);
}

static void white_space_of_the_grammar_is_the_grammars(void **state)
{
    (void)state;
    struct constraint_spec spec = thinking(CONSTRAINT_REGEX, "\n\na", -1);
    spec.think_open = true;
    struct constraint_state *s = start(grammar_compile_spec(&vocab, &spec));
    assert_true(constraint_state_thinking(s));
    take_piece(s, "</think>");
    take_piece(s, "\n");
    take_piece(s, "\n");
    assert_false(allows(s, "\n"));
    take_piece(s, "a");
    assert_true(constraint_state_done(s));
    constraint_state_free(s);
}

static void the_budget_ends_the_reasoning(void **state)
{
    (void)state;
    int32_t end[] = {grammar_vocab_id(&vocab, "\n"), vocab.unthink};
    for (int32_t budget = 0; budget < 4; budget++) {
        struct constraint_spec spec = thinking(CONSTRAINT_REGEX, "ab", budget);
        spec.forced_end = (struct constraint_ids){end, 2};
        struct constraint_state *s = start(grammar_compile_spec(&vocab, &spec));
        take_piece(s, "<think>");
        for (int32_t i = 0; i < budget; i++) {
            assert_int_equal(constraint_state_forced(s), -1);
            take_piece(s, "12");
        }
        for (size_t i = 0; i < 2; i++) {
            assert_int_equal(constraint_state_forced(s), end[i]);
            assert_false(allows(s, "12") || grammar_allows(s, &vocab, vocab.end) || constraint_state_can_stop(s));
            take(s, end[i]);
        }
        assert_int_equal(constraint_state_forced(s), -1);
        assert_true(allows(s, "a"));
        take_piece(s, "ab");
        assert_true(constraint_state_done(s));
        constraint_state_free(s);
    }
}

static void a_budget_needs_no_grammar(void **state)
{
    (void)state;
    struct constraint_spec spec = thinking(CONSTRAINT_NONE, "", 3);
    uint32_t mask[64];
    struct constraint_state *s = start(grammar_compile_spec(&vocab, &spec));
    assert_int_equal(mask_of(s, mask), 0);
    take_piece(s, "a");
    take_piece(s, "<think>"); /* anywhere */
    take_piece(s, "a");
    take_piece(s, "a");
    assert_int_equal(mask_of(s, mask), 0);
    take_piece(s, "a");
    assert_int_equal(constraint_state_forced(s), vocab.unthink); /* no words of its own */
    take_piece(s, "</think>");
    assert_int_equal(mask_of(s, mask), 0);
    assert_true(constraint_state_can_stop(s));
    take_piece(s, "<think>"); /* what is used up stays used up */
    assert_int_equal(constraint_state_forced(s), vocab.unthink);
    constraint_state_free(s);
}

static void markers_may_be_several_tokens(void **state)
{
    (void)state;
    int32_t a = grammar_vocab_id(&vocab, "a"), b = grammar_vocab_id(&vocab, "b");
    int32_t open[] = {vocab.think, a}, close[] = {a, a, b};
    struct constraint_spec spec = thinking(CONSTRAINT_REGEX, "12", -1);
    spec.think_start = (struct constraint_ids){open, 2};
    spec.think_end = (struct constraint_ids){close, 3};
    struct constraint_state *s = start(grammar_compile_spec(&vocab, &spec));
    take(s, vocab.think);
    assert_int_equal(constraint_state_forced(s), a);
    assert_false(allows(s, "12"));
    take(s, a);
    take(s, a);
    take(s, a);
    take(s, a); /* a a a b ends with a a b */
    assert_true(constraint_state_thinking(s));
    take(s, b);
    assert_false(constraint_state_thinking(s));
    take_piece(s, "12");
    assert_true(constraint_state_done(s));
    constraint_state_free(s);
}

/* "<" begins both: what comes next decides. */
static void a_beginning_that_is_the_grammars_too(void **state)
{
    (void)state;
    int32_t open[] = {grammar_vocab_id(&vocab, "<"), grammar_vocab_id(&vocab, "a"), grammar_vocab_id(&vocab, ">")};
    struct constraint_spec spec = thinking(CONSTRAINT_REGEX, "<(b|ab)12", -1);
    struct error err = {0};
    spec.think_start = (struct constraint_ids){open, 3};
    struct constraint *c = grammar_compile_spec(&vocab, &spec);
    const char *const of_grammar[] = {"<", "a", "b", "12"};
    struct constraint_state *s = start(constraint_retain(c));
    take_piece(s, "<");
    assert_int_equal(constraint_state_forced(s), -1);
    assert_true(allows(s, "b") && allows(s, "a") && allows(s, "ab") && !allows(s, ">"));
    take_piece(s, "b");
    take_piece(s, "12");
    assert_true(constraint_state_done(s));
    constraint_state_free(s);
    s = start(constraint_retain(c));
    for (size_t i = 0; i < 4; i++) {
        take_piece(s, of_grammar[i]);
    }
    assert_true(constraint_state_done(s));
    constraint_state_free(s);
    s = start(c);
    assert_true(constraint_state_replay(s, open, 3, &err));
    assert_true(constraint_state_thinking(s));
    take_piece(s, "</think>");
    take_piece(s, "<");
    take_piece(s, "b");
    take_piece(s, "12");
    assert_true(constraint_state_done(s));
    constraint_state_free(s);
}

/* ---- lazy grammars ---- */

static const struct str trigger[] = {STR("<tool_call>"), STR("[call]")};

static struct constraint_spec lazy(const char *grammar)
{
    struct constraint_spec spec = constraint_spec_none();
    spec.kind = CONSTRAINT_LARK;
    spec.grammar = str_of(grammar);
    spec.triggers = trigger;
    spec.n_triggers = 2;
    return spec;
}

#define CALL_GRAMMAR "start: \"{\" /\"[a-z]*\"/ \"}\""

static void a_grammar_begins_behind_its_trigger(void **state)
{
    (void)state;
    struct constraint_spec spec = lazy(CALL_GRAMMAR);
    struct constraint_state *s = start(grammar_compile_spec(&vocab, &spec));
    uint32_t mask[64];
    assert_int_equal(mask_of(s, mask), 1); /* one token is a trigger and more than may follow it */
    assert_false(allows(s, "<tool_call>x"));
    assert_true(allows(s, "<tool_call>{") && allows(s, "a") && grammar_allows(s, &vocab, vocab.end));
    take_piece(s, "a");
    take_piece(s, "<tool");
    assert_true(allows(s, ">") && allows(s, ">\n")); /* "<tool>" is none */
    take_piece(s, "_call");
    assert_true(allows(s, ">") && allows(s, ">{") && allows(s, ">{\"") && allows(s, "a"));
    assert_false(allows(s, ">\n") || allows(s, ">}"));
    take_piece(s, ">");
    assert_false(allows(s, "a") || grammar_allows(s, &vocab, vocab.end));
    assert_false(constraint_state_can_stop(s));
    take_piece(s, "{\"");
    take_piece(s, "abc");
    take_piece(s, "\"}");
    assert_true(constraint_state_done(s));
    constraint_state_free(s);
}

/* "ab<tool_call>{"a"}" cut into tokens in every way that the vocabulary knows: the same in the end. */
static size_t cut_on(struct constraint *c, const int32_t *ids, size_t n, struct str rest)
{
    size_t ways = 0;
    struct error err = {0};
    if (rest.len == 0) {
        struct constraint_state *s = constraint_state_create(c, &err);
        assert_non_null(s);
        for (size_t i = 0; i < n; i++) {
            take(s, ids[i]);
        }
        assert_true(constraint_state_done(s));
        constraint_state_free(s);
        return 1;
    }
    for (int32_t id = 7; id < 48 + 256; id++) { /* behind the special tokens */
        struct str text = tokenizer_bytes(vocab.tokenizer, id);
        if (text.len && str_starts(rest, text) && tokenizer_kind(vocab.tokenizer, id) != TOKEN_BYTE) {
            int32_t more[40];
            memcpy(more, ids, n * sizeof *ids);
            more[n] = id;
            ways += cut_on(c, more, n + 1, str_slice(rest, text.len, rest.len));
        }
    }
    if (ways == 0) { /* no piece begins so: the byte */
        int32_t more[40];
        memcpy(more, ids, n * sizeof *ids);
        more[n] = grammar_vocab_byte(&vocab, (uint8_t)rest.ptr[0]);
        ways = cut_on(c, more, n + 1, str_slice(rest, 1, rest.len));
    }
    return ways;
}

static void triggers_are_found_however_they_are_cut(void **state)
{
    (void)state;
    struct constraint_spec spec = lazy(CALL_GRAMMAR);
    struct constraint *c = grammar_compile_spec(&vocab, &spec);
    assert_true(cut_on(c, (int32_t[1]){0}, 0, STR("ab<tool_call>{\"a\"}")) > 30);
    assert_true(cut_on(c, (int32_t[1]){0}, 0, STR("[[call]{\"\"}")) >= 1);
    assert_true(cut_on(c, (int32_t[1]){0}, 0, STR("<tool<tool_call>{\"ab\"}")) > 30);
    constraint_release(c);
}

static void a_special_token_may_be_a_trigger(void **state)
{
    (void)state;
    static const struct str name[] = {STR("<pad>")};
    struct constraint_spec spec = lazy(CALL_GRAMMAR);
    spec.triggers = name;
    spec.n_triggers = 1;
    struct constraint_state *s = start(grammar_compile_spec(&vocab, &spec));
    take_piece(s, "a");
    take_piece(s, "<pad>");
    assert_true(allows(s, "{") && allows(s, "{\"") && !allows(s, "a"));
    constraint_state_free(s);
}

static void a_trigger_in_the_reasoning_is_none(void **state)
{
    (void)state;
    struct constraint_spec spec = lazy(CALL_GRAMMAR);
    uint32_t mask[64];
    spec.think_start = (struct constraint_ids){&vocab.think, 1};
    spec.think_end = (struct constraint_ids){&vocab.unthink, 1};
    struct constraint_state *s = start(grammar_compile_spec(&vocab, &spec));
    take_piece(s, "<think>");
    assert_int_equal(mask_of(s, mask), 0);
    take_piece(s, "<tool_call>x");
    assert_true(constraint_state_thinking(s));
    take_piece(s, "</think>");
    take_piece(s, "a");
    take_piece(s, "<tool_call>{");
    assert_true(allows(s, "\"") && !allows(s, "a"));
    constraint_state_free(s);
}

/* ---- replay ---- */

static void random_allowed(struct constraint_state *s, uint64_t seed, uint32_t step, int32_t *id)
{
    uint32_t mask[64];
    int32_t n = constraint_vocab_size(vocab.vocab);
    int applies = mask_of(s, mask);
    assert_true(applies >= 0);
    int32_t at = (int32_t)(rng_uniform(seed, step, 0, 0, RNG_SAMPLE) * n);
    for (int32_t i = 0; i < n; i++, at = (at + 1) % n) {
        if (applies == 0 || (mask[at / 32] >> (at % 32) & 1)) {
            *id = at;
            return;
        }
    }
    fail_msg("no token is allowed");
}

static void replay_gives_the_same_state(void **state)
{
    (void)state;
    struct constraint_spec specs[] = {lazy(CALL_GRAMMAR), thinking(CONSTRAINT_REGEX, "(ab|c1*){3}", 5),
                                      thinking(CONSTRAINT_JSON_SCHEMA, "{\"type\":\"array\"}", -1)};
    specs[0].think_start = specs[0].think_end = (struct constraint_ids){&vocab.think, 1};
    specs[0].think_budget = 4;
    for (size_t i = 0; i < ARRAY_LEN(specs); i++) {
        for (uint64_t seed = 0; seed < 12; seed++) {
            struct error err = {0};
            int32_t ids[24];
            struct constraint *c = grammar_compile_spec(&vocab, &specs[i]);
            struct constraint_state *s = constraint_state_create(c, &err);
            for (uint32_t n = 0; n < ARRAY_LEN(ids) && !constraint_state_done(s); n++) {
                uint32_t want[64] = {0}, got[64] = {0};
                struct constraint_state *again = constraint_state_create(c, &err);
                assert_true(constraint_state_replay(again, ids, n, &err));
                assert_int_equal(mask_of(again, got), mask_of(s, want));
                assert_memory_equal(got, want, sizeof want);
                assert_int_equal(constraint_state_can_stop(again), constraint_state_can_stop(s));
                assert_int_equal(constraint_state_forced(again), constraint_state_forced(s));
                assert_int_equal(constraint_state_thinking(again), constraint_state_thinking(s));
                constraint_state_free(again);
                random_allowed(s, seed, n, &ids[n]);
                assert_true(constraint_state_accept(s, ids[n], &err));
            }
            constraint_state_free(s);
            constraint_release(c);
        }
    }
}

/* ---- widths ---- */

static void logits_may_be_wider_than_the_vocabulary(void **state)
{
    (void)state;
    struct grammar_vocab wide;
    struct error err = {0};
    int32_t n = constraint_vocab_size(vocab.vocab);
    grammar_vocab_open(&wide, &(struct constraint_vocab_options){.n_vocab = n + 40});
    assert_int_equal(constraint_vocab_mask_words(wide.vocab), (size_t)(n + 40 + 31) / 32);
    struct constraint_state *s = start(grammar_compile(&wide, CONSTRAINT_REGEX, "(?s:.*)"));
    for (int32_t id = n; id < n + 40; id++) {
        assert_false(grammar_allows(s, &wide, id));
    }
    constraint_state_free(s);
    grammar_vocab_close(&wide);
    assert_null(constraint_vocab_create(vocab.tokenizer, &(struct constraint_vocab_options){.n_vocab = n - 1}, &err));
    assert_int_equal(err.code, ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_are_allowed_when_their_text_fits),
        cmocka_unit_test(special_tokens_are_no_text),
        cmocka_unit_test(all_kinds_mean_what_they_say),
        cmocka_unit_test(errors_say_what_is_wrong),
        cmocka_unit_test(what_costs_too_much_is_refused),
        cmocka_unit_test(what_takes_too_long_is_refused),
        cmocka_unit_test(running_out_of_fuel_is_an_error),
        cmocka_unit_test(a_token_that_is_not_allowed_fails_the_state),
        cmocka_unit_test(a_binding_grammar_waits_for_the_reasoning),
        cmocka_unit_test(white_space_of_the_grammar_is_the_grammars),
        cmocka_unit_test(the_budget_ends_the_reasoning),
        cmocka_unit_test(a_budget_needs_no_grammar),
        cmocka_unit_test(markers_may_be_several_tokens),
        cmocka_unit_test(a_beginning_that_is_the_grammars_too),
        cmocka_unit_test(a_grammar_begins_behind_its_trigger),
        cmocka_unit_test(triggers_are_found_however_they_are_cut),
        cmocka_unit_test(a_special_token_may_be_a_trigger),
        cmocka_unit_test(a_trigger_in_the_reasoning_is_none),
        cmocka_unit_test(replay_gives_the_same_state),
        cmocka_unit_test(logits_may_be_wider_than_the_vocabulary),
    };
    grammar_vocab_open(&vocab, NULL);
    int n_failed = cmocka_run_group_tests(tests, NULL, NULL);
    grammar_vocab_close(&vocab);
    return n_failed;
}
