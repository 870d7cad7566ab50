/* The streaming detokenizer: whole characters only, the same bytes whatever the chunking, Python's U+FFFD. */
#include "text/detokenizer.h"

#include "base/array.h"
#include "base/limits.h"
#include "base/utf8.h"
#include "tests/support/vocab_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static struct vocab_file files[2];
static struct tokenizer *gpt2, *spm;

static int open_both(void **state)
{
    (void)state;
    struct error err = {0};
    assert_true(vocab_file_open(&files[0], TEST_DATA_DIR "/tokenizer/gpt-2.vec"));
    assert_true(vocab_file_open(&files[1], TEST_DATA_DIR "/tokenizer/spm.vec"));
    gpt2 = tokenizer_from_model_file(files[0].file, &err);
    spm = tokenizer_from_model_file(files[1].file, &err);
    assert_non_null(gpt2);
    assert_non_null(spm);
    return 0;
}

static int close_both(void **state)
{
    (void)state;
    tokenizer_free(gpt2);
    tokenizer_free(spm);
    vocab_file_close(&files[0]);
    vocab_file_close(&files[1]);
    return 0;
}

/* The ids of single bytes: every byte string can be had from a byte-level vocabulary. */
static int32_t byte_id(uint8_t byte)
{
    for (int32_t id = 0; id < tokenizer_n_vocab(gpt2); id++) {
        struct str bytes = tokenizer_bytes(gpt2, id);
        if (bytes.len == 1 && (uint8_t)bytes.ptr[0] == byte)
            return id;
    }
    fail_msg("no token for byte %u", byte);
    return -1;
}

static void check_bytes(struct str bytes, struct str want)
{
    struct detokenizer d;
    struct buf out;
    buf_init(&out, KIB(4));
    detokenizer_init(&d, gpt2, true, false);
    for (size_t i = 0; i < bytes.len; i++) {
        size_t before = out.len;
        detokenizer_feed(&d, byte_id((uint8_t)bytes.ptr[i]), &out);
        struct str fresh = str_slice(buf_view(&out), before, out.len);
        assert_true(utf8_valid(fresh)); /* never a part of a character */
    }
    detokenizer_finish(&d, &out);
    if (!str_eq(buf_view(&out), want))
        fail_msg("got '" STR_FMT "', want '" STR_FMT "'", STR_ARG(buf_view(&out)), STR_ARG(want));
    buf_release(&out);
}

#define R "\xEF\xBF\xBD"

static void test_bytes(void **state)
{
    (void)state;
    check_bytes(STR("abc"), STR("abc"));
    check_bytes(STR("\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80!"), STR("\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80!"));
    /* as bytes.decode("utf-8", errors="replace") */
    check_bytes(STR("\xFF"), STR(R));
    check_bytes(STR("\xC3"), STR(R));
    check_bytes(STR("\xE2\x82"), STR(R));
    check_bytes(STR("\xF0\x9F\x98"), STR(R));
    check_bytes(STR("\xF0\x9F\x98x"), STR(R "x"));
    check_bytes(STR("\xF0\x9F\xC3\xA9"), STR(R "\xC3\xA9"));
    check_bytes(STR("\xE2\x28\xA1"), STR(R "(" R));
    check_bytes(STR("\x80\x81"), STR(R R));
    check_bytes(STR("\xC0\x80"), STR(R R));
    check_bytes(STR("\xED\xA0\x80"), STR(R R R));
    check_bytes(STR("\xF4\x90\x80\x80"), STR(R R R R));
    check_bytes(STR("\xE2\xE2\x82\xAC"), STR(R "\xE2\x82\xAC"));
    check_bytes(STR("\xF0\x9F\xF0\x9F\x98\x80"), STR(R "\xF0\x9F\x98\x80"));
}

/* Random ids fed one by one, in two halves, and at once. */
static void test_chunking(void **state)
{
    (void)state;
    struct tokenizer *const both[] = {gpt2, spm};
    uint32_t x = 3;
    for (int round = 0; round < 2000; round++) {
        const struct tokenizer *t = both[round % 2];
        int32_t ids[12];
        struct buf whole, pieces;
        struct detokenizer d;
        for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
            x = x * 1664525u + 1013904223u;
            ids[i] = (int32_t)((x >> 8) % (uint32_t)((round & 4) ? 260 : tokenizer_n_vocab(t)));
        }
        buf_init(&whole, KIB(64));
        buf_init(&pieces, KIB(64));
        tokenizer_decode(t, ids, ARRAY_LEN(ids), round & 1, &whole);
        detokenizer_init(&d, t, round & 1, false);
        for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
            struct buf out;
            buf_init(&out, KIB(64));
            detokenizer_feed(&d, ids[i], &out);
            assert_true(utf8_valid(buf_view(&out)));
            buf_append(&pieces, buf_view(&out));
            buf_release(&out);
        }
        detokenizer_finish(&d, &pieces);
        assert_true(str_eq(buf_view(&whole), buf_view(&pieces)));
        buf_release(&whole);
        buf_release(&pieces);
    }
}

static void test_control_tokens(void **state)
{
    (void)state;
    int32_t ids[] = {tokenizer_find(gpt2, STR("<|im_start|>")), tokenizer_find(gpt2, STR("a")),
                     tokenizer_find(gpt2, STR("<tool_call>")), -5, 1 << 30};
    struct buf out;
    buf_init(&out, KIB(4));
    tokenizer_decode(gpt2, ids, ARRAY_LEN(ids), true, &out);
    assert_true(str_eq(buf_view(&out), STR("a<tool_call>")));
    buf_clear(&out);
    tokenizer_decode(gpt2, ids, ARRAY_LEN(ids), false, &out);
    assert_true(str_eq(buf_view(&out), STR("<|im_start|>a<tool_call>")));
    buf_release(&out);
}

/* Some of them may be shown all the same. */
static void test_shown_control_tokens(void **state)
{
    (void)state;
    const int32_t start = tokenizer_find(gpt2, STR("<|im_start|>")), end = tokenizer_find(gpt2, STR("<|im_end|>"));
    const int32_t shown[] = {-1, end}, ids[] = {start, tokenizer_find(gpt2, STR("a")), end};
    struct detokenizer d;
    struct buf out;
    buf_init(&out, KIB(4));
    for (size_t n = 0; n <= ARRAY_LEN(shown); n++) {
        buf_clear(&out);
        detokenizer_init(&d, gpt2, true, true);
        detokenizer_show(&d, shown, n);
        for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
            detokenizer_feed(&d, ids[i], &out);
        }
        detokenizer_finish(&d, &out);
        assert_true(str_eq(buf_view(&out), n == ARRAY_LEN(shown) ? STR("a<|im_end|>") : STR("a")));
    }
    buf_release(&out);
}

static void test_leading_space(void **state)
{
    (void)state;
    struct error err = {0};
    struct token_list list = {0};
    struct detokenizer d;
    struct buf out;
    buf_init(&out, KIB(4));
    assert_true(tokenizer_encode(spm, STR("hello world"), (struct encode_options){.add_special = true}, &list, &err));
    tokenizer_decode(spm, list.ids, list.n, true, &out);
    assert_true(str_eq(buf_view(&out), STR("hello world"))); /* the prefix is gone */
    buf_clear(&out);
    detokenizer_init(&d, spm, true, true);
    for (size_t i = 0; i < list.n; i++)
        detokenizer_feed(&d, list.ids[i], &out);
    detokenizer_finish(&d, &out);
    assert_true(str_eq(buf_view(&out), STR(" hello world"))); /* behind a prompt it is text */
    token_list_release(&list);
    buf_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes),          cmocka_unit_test(test_chunking),
        cmocka_unit_test(test_control_tokens), cmocka_unit_test(test_shown_control_tokens),
        cmocka_unit_test(test_leading_space),
    };
    return cmocka_run_group_tests(tests, open_both, close_both);
}
