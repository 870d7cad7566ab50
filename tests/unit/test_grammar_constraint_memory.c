/* Constraints when memory fails, as far as the allocations are ours (llguidance ends the process when it gets none): an
 * error, and nothing lost. And the tokens of what a grammar forces, on a trained vocabulary. */
#include "tests/support/failing_memory.h"
#include "tests/support/grammar_vocab.h"
#include "tests/support/vocab_file.h"

#include "base/array.h"
#include "grammar/trigger_scan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static struct grammar_vocab vocab;

static struct constraint *budget(struct error *err)
{
    struct constraint_spec spec = constraint_spec_none();
    spec.think_start = (struct constraint_ids){&vocab.think, 1};
    spec.think_end = (struct constraint_ids){&vocab.unthink, 1};
    spec.think_budget = 7;
    return constraint_compile(vocab.vocab, &spec, NULL, err);
}

static void constraints_without_memory_are_errors(void **state)
{
    (void)state;
    struct constraint *c = NULL;
    struct constraint_state *s = NULL;
    for (long n = 0; CAN_FAIL && !s && n < 100; n++) {
        struct error err = {0};
        n_allocations = 0;
        fail_at = n;
        c = budget(&err);
        s = c ? constraint_state_create(c, &err) : NULL;
        fail_at = -1;
        assert_true(s || err.code == ERR_NO_MEMORY);
        constraint_release(c);
    }
    assert_true(s || !CAN_FAIL);
    constraint_state_free(s);
}

static void grammars_without_memory_are_errors(void **state)
{
    (void)state;
    struct constraint *c = grammar_compile(&vocab, CONSTRAINT_REGEX, "a");
    for (long n = 0; CAN_FAIL && n < 4; n++) { /* the next is llguidance's */
        struct error err = {0};
        struct constraint_spec spec = constraint_spec_none();
        spec.kind = CONSTRAINT_REGEX;
        spec.grammar = STR("ab");
        n_allocations = 0;
        fail_at = n;
        struct constraint *none = constraint_compile(vocab.vocab, &spec, NULL, &err);
        fail_at = -1;
        assert_null(none);
        assert_int_equal(err.code, ERR_NO_MEMORY);
    }
    if (CAN_FAIL) {
        struct error err = {0};
        n_allocations = 0;
        fail_at = 0;
        struct constraint_state *s = constraint_state_create(c, &err);
        fail_at = -1;
        assert_null(s);
        assert_int_equal(err.code, ERR_NO_MEMORY);
    }
    constraint_release(c);
}

static void vocabularies_and_triggers_without_memory_are_errors(void **state)
{
    (void)state;
    const struct str texts[] = {STR("<tool_call>"), STR("[")};
    struct trigger_scan *s = NULL;
    for (long n = 0; CAN_FAIL && !s && n < 20; n++) {
        struct error err = {0};
        n_allocations = 0;
        fail_at = n;
        s = trigger_scan_create(texts, 2, &err);
        fail_at = -1;
        assert_true(s || err.code == ERR_NO_MEMORY);
    }
    assert_true(s || !CAN_FAIL);
    trigger_scan_free(s);
    for (long n = 0; CAN_FAIL && n < 7; n++) { /* the struct, three masks, the gate, lengths, bytes */
        struct error err = {0};
        n_allocations = 0;
        fail_at = n;
        struct constraint_vocab *v =
            constraint_vocab_create(vocab.tokenizer, &(struct constraint_vocab_options){0}, &err);
        fail_at = -1;
        assert_null(v);
        assert_int_equal(err.code, ERR_NO_MEMORY);
    }
}

static size_t count(const uint32_t *mask, size_t n_words)
{
    size_t n = 0;
    for (size_t i = 0; i < n_words * 32; i++) {
        n += mask[i / 32] >> (i % 32) & 1;
    }
    return n;
}

/* With canonical tokens, what a grammar forces is what the tokenizer would have written. */
static void forced_text_has_the_tokenizers_tokens(void **state)
{
    (void)state;
    static const char text[] = "The quick brown fox, 12 of them: na\xC3\xAFve \xF0\x9F\x98\x80!\n\tend";
    struct error err = {0};
    struct vocab_file file;
    struct token_list want = {0};
    assert_true(vocab_file_open(&file, TEST_DATA_DIR "/tokenizer/smollm.vec"));
    struct tokenizer *t = tokenizer_from_model_file(file.file, &err);
    struct constraint_vocab *v =
        constraint_vocab_create(t, &(struct constraint_vocab_options){.canonical = true}, &err);
    assert_non_null(v);
    assert_true(tokenizer_encode(t, str_of(text), (struct encode_options){0}, &want, &err));
    struct constraint_spec spec = constraint_spec_none();
    spec.kind = CONSTRAINT_LARK;
    spec.grammar = STR("start: \"The quick brown fox, 12 of them: na\xC3\xAFve \xF0\x9F\x98\x80!\\n\\tend\"");
    struct constraint *c = constraint_compile(v, &spec, NULL, &err);
    assert_non_null(c);
    struct constraint_state *s = constraint_state_create(c, &err);
    uint32_t *mask = calloc(constraint_vocab_mask_words(v), sizeof *mask);
    for (size_t i = 0; i < want.n; i++) {
        assert_int_equal(constraint_state_mask(s, mask, &err), 1);
        if (!(mask[want.ids[i] / 32] >> (want.ids[i] % 32) & 1)) {
            fail_msg("token %zu of %zu, %d, is not allowed", i, want.n, (int)want.ids[i]);
        }
        assert_int_equal(count(mask, constraint_vocab_mask_words(v)), 1);
        assert_true(constraint_state_accept(s, want.ids[i], &err));
    }
    assert_true(constraint_state_can_stop(s));
    free(mask);
    constraint_state_free(s);
    constraint_release(c);
    constraint_vocab_free(v);
    tokenizer_free(t);
    token_list_release(&want);
    vocab_file_close(&file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(constraints_without_memory_are_errors),
        cmocka_unit_test(grammars_without_memory_are_errors),
        cmocka_unit_test(vocabularies_and_triggers_without_memory_are_errors),
        cmocka_unit_test(forced_text_has_the_tokenizers_tokens),
    };
    grammar_vocab_open(&vocab, NULL);
    int n_failed = cmocka_run_group_tests(tests, NULL, NULL);
    grammar_vocab_close(&vocab);
    return n_failed;
}
