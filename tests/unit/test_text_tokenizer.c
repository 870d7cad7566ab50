/* Token ids equal those of the `tokenizers` and `sentencepiece` packages (tests/data/tokenizer). */
#include "text/tokenizer.h"

#include "base/array.h"
#include "base/limits.h"
#include "tests/support/vector_file.h"
#include "tests/support/vocab_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define DATA(name) TEST_DATA_DIR "/tokenizer/" name

static struct tokenizer *make(const struct vocab_file *v)
{
    struct error err = {0};
    struct tokenizer *t = tokenizer_from_model_file(v->file, &err);
    if (!t)
        print_error("%s\n", err.msg);
    assert_non_null(t);
    return t;
}

static void parse_ids(struct str field, struct token_list *out)
{
    struct error err = {0};
    struct str part;
    int64_t id;
    out->n = 0;
    while (!str_eq(field, STR("-")) && str_split(&field, ',', &part)) {
        assert_true(str_to_i64(part, &id));
        assert_true(array_reserve(&out->ids, &out->cap, out->n + 1, LIMIT_CONTEXT, "ids", &err));
        out->ids[out->n++] = (int32_t)id;
    }
}

static bool same_ids(const struct token_list *a, const struct token_list *b)
{
    return a->n == b->n && (a->n == 0 || memcmp(a->ids, b->ids, a->n * sizeof *a->ids) == 0);
}

static void check_encode(const struct tokenizer *t, struct str text, bool parse_special, const struct token_list *want)
{
    struct error err = {0};
    struct token_list got = {0};
    bool ok = tokenizer_encode(t, text, (struct encode_options){.parse_special = parse_special}, &got, &err);
    if (!ok || !same_ids(&got, want)) {
        print_error("text '" STR_FMT "'\n", STR_ARG(text));
        for (size_t i = 0; i < got.n || i < want->n; i++)
            print_error("  %d want %d\n", i < got.n ? (int)got.ids[i] : -1, i < want->n ? (int)want->ids[i] : -1);
        fail_msg("ids differ");
    }
    token_list_release(&got);
}

static void check_decode(const struct tokenizer *t, struct str text, const struct token_list *ids)
{
    struct buf out;
    buf_init(&out, MIB(1));
    tokenizer_decode(t, ids->ids, ids->n, true, &out);
    if (!str_eq(buf_view(&out), text))
        fail_msg("decoded '" STR_FMT "', want '" STR_FMT "'", STR_ARG(buf_view(&out)), STR_ARG(text));
    buf_release(&out);
}

/* Checks every case of the file; how many there were. */
static size_t check_cases(const struct tokenizer *t, const char *path)
{
    struct vector_file v;
    struct token_list ids = {0};
    size_t n = 0;
    vector_file_open(&v, path);
    while (vector_file_next(&v)) {
        bool plain = str_eq(v.fields[0], STR("plain")), special = str_eq(v.fields[0], STR("special"));
        if (!plain && !special && !str_eq(v.fields[0], STR("decode")))
            continue;
        size_t size = 0;
        char *bytes = str_eq(v.fields[1], STR("-")) ? NULL : vector_file_bytes(&v, 1, &size);
        struct str text = {bytes, size};
        parse_ids(v.fields[2], &ids);
        if (plain || special)
            check_encode(t, text, special, &ids);
        else
            check_decode(t, text, &ids);
        free(bytes);
        n++;
    }
    token_list_release(&ids);
    vector_file_close(&v);
    return n;
}

static const char *const families[] = {
    DATA("gpt-2.vec"),          DATA("smollm.vec"),
    DATA("llama-bpe.vec"),      DATA("qwen2.vec"),
    DATA("qwen35.vec"),         DATA("seed-coder.vec"),
    DATA("minicpm5.vec"),       DATA("tekken.vec"),
    DATA("gpt-4o.vec"),         DATA("deepseek-llm.vec"),
    DATA("deepseek-coder.vec"), DATA("deepseek-v3.vec"),
    DATA("falcon.vec"),         DATA("spm.vec"),
    DATA("spm-gemma.vec"),      DATA("spm-no-bytes.vec"),
    DATA("unigram.vec"),        DATA("unigram-charsmap.vec"),
};

static void test_families(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(families); i++) {
        struct vocab_file v;
        assert_true(vocab_file_open(&v, families[i]));
        struct tokenizer *t = make(&v);
        size_t n = check_cases(t, families[i]);
        print_message("%s: %zu cases\n", families[i] + sizeof DATA("") - 1, n);
        assert_true(n >= 80);
        tokenizer_free(t);
        vocab_file_close(&v);
    }
}

static void check_real(const char *path, void (*check_special)(const struct tokenizer *))
{
    struct vocab_file v;
    if (!vocab_file_open(&v, path))
        skip();
    struct tokenizer *t = make(&v);
    vocab_file_close(&v); /* the tokenizer keeps nothing of it */
    assert_true(check_cases(t, path) >= 200);
    check_special(t);
    tokenizer_free(t);
}

static void smollm2_special(const struct tokenizer *t)
{
    const struct special_tokens *s = tokenizer_special(t);
    assert_string_equal(tokenizer_pre_name(t), "smollm");
    assert_int_equal(tokenizer_n_vocab(t), 49152);
    assert_int_equal(s->bos, 1);
    assert_int_equal(s->eos, 2);
    assert_int_equal(s->eot, 2);
    assert_int_equal(s->unk, 0);
    assert_int_equal(s->pad, 2);
    assert_false(s->add_bos);
    assert_true(tokenizer_is_eog(t, 0)); /* <|endoftext|> */
    assert_true(tokenizer_is_eog(t, 2)); /* <|im_end|> */
    assert_false(tokenizer_is_eog(t, 1));
}

static void qwen25_special(const struct tokenizer *t)
{
    const struct special_tokens *s = tokenizer_special(t);
    assert_string_equal(tokenizer_pre_name(t), "qwen2");
    assert_int_equal(s->bos, 151643);
    assert_int_equal(s->eos, 151645);
    assert_int_equal(s->eot, 151645);
    assert_int_equal(s->fim_prefix, 151659);
    assert_int_equal(s->fim_middle, 151660);
    assert_int_equal(s->fim_suffix, 151661);
    assert_int_equal(s->fim_pad, 151662);
    assert_int_equal(s->fim_rep, 151663);
    assert_int_equal(s->fim_sep, 151664);
    assert_int_equal(s->eom, -1);
    assert_false(s->add_bos);
    assert_true(tokenizer_is_eog(t, 151643));
    assert_true(tokenizer_is_eog(t, 151645));
    assert_false(tokenizer_is_eog(t, 151644));
    assert_int_equal(tokenizer_kind(t, 151659), TOKEN_CONTROL);
}

static void test_smollm2(void **state)
{
    (void)state;
    check_real(DATA("smollm2.vec"), smollm2_special);
}

static void test_qwen25(void **state)
{
    (void)state;
    check_real(DATA("qwen2.5.vec"), qwen25_special);
}

/* ---- what the vectors do not say ---- */

static struct vocab_file gpt2_file, spm_file;
static struct tokenizer *gpt2, *spm;

static int open_small(void **state)
{
    (void)state;
    assert_true(vocab_file_open(&gpt2_file, DATA("gpt-2.vec")));
    assert_true(vocab_file_open(&spm_file, DATA("spm.vec")));
    gpt2 = make(&gpt2_file);
    spm = make(&spm_file);
    return 0;
}

static int close_small(void **state)
{
    (void)state;
    tokenizer_free(gpt2);
    tokenizer_free(spm);
    vocab_file_close(&gpt2_file);
    vocab_file_close(&spm_file);
    return 0;
}

static struct token_list encode(const struct tokenizer *t, struct str text, struct encode_options options)
{
    struct error err = {0};
    struct token_list list = {0};
    assert_true(tokenizer_encode(t, text, options, &list, &err));
    return list;
}

static void check_round_trip(const struct tokenizer *t, struct str text)
{
    struct token_list list = encode(t, text, (struct encode_options){0});
    check_decode(t, text, &list);
    token_list_release(&list);
}

static void test_invalid_utf8(void **state)
{
    (void)state;
    static const struct {
        struct str bytes, text;
    } cases[] = {
        {STR("a\xFFz"), STR("a\xEF\xBF\xBDz")},
        {STR("\xE2\x82"), STR("\xEF\xBF\xBD")},
        {STR("\xE2\x82x\xF0\x9F\x98"), STR("\xEF\xBF\xBDx\xEF\xBF\xBD")},
        {STR("\xED\xA0\x80"), STR("\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD")},
        {STR("\xC0\xAF"), STR("\xEF\xBF\xBD\xEF\xBF\xBD")},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct token_list got = encode(gpt2, cases[i].bytes, (struct encode_options){0});
        check_encode(gpt2, cases[i].text, false, &got);
        check_decode(gpt2, cases[i].text, &got);
        token_list_release(&got);
    }
}

/* A long run without a cut: the heap's path, whose cost must not be quadratic (a minute at this size). */
static void test_long_words(void **state)
{
    (void)state;
    const size_t n = MIB(1);
    char *text = malloc(n);
    assert_non_null(text);
    memset(text, 'a', n);
    check_round_trip(gpt2, (struct str){text, n});
    check_round_trip(spm, (struct str){text, n});
    uint32_t x = 1;
    for (size_t i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        text[i] = (char)('a' + (x >> 24) % 26);
    }
    check_round_trip(gpt2, (struct str){text, n});
    check_round_trip(spm, (struct str){text, n});
    memset(text, ' ', n);
    check_round_trip(gpt2, (struct str){text, n});
    check_round_trip(spm, (struct str){text, n});
    free(text);
}

/* The word cache, which only longer texts use, changes nothing. */
static void test_cache(void **state)
{
    (void)state;
    static const char *const words[] = {"hello",       " world", " 123", "\n", "  x", " \xC3\xA9t\xC3\xA9",
                                        "<tool_call>", " a"};
    struct buf text;
    struct token_list want = {0};
    buf_init(&text, MIB(1));
    uint32_t x = 7;
    for (int i = 0; i < 4000; i++) {
        x = x * 1664525u + 1013904223u;
        buf_puts(&text, words[(x >> 24) % ARRAY_LEN(words)]);
        buf_puts(&text, (x >> 20) % 3 ? " the" : ",");
    }
    struct token_list all = encode(gpt2, buf_view(&text), (struct encode_options){0});
    struct str rest = buf_view(&text);
    while (rest.len) { /* piecewise, cut where "," ends a word for good */
        struct error err = {0};
        size_t cut = str_find_char(rest, ',');
        cut = cut == STR_NPOS ? rest.len : cut;
        size_t from = cut;
        while (cut < rest.len && rest.ptr[cut] == ',')
            cut++;
        if (cut < rest.len && cut - from == 1 && rest.ptr[cut] != ' ') /* "," may stick to what follows */
            cut = rest.len;
        else if (cut < rest.len && rest.ptr[cut] != ' ')
            cut = rest.len;
        assert_true(tokenizer_encode(gpt2, str_slice(rest, 0, cut), (struct encode_options){0}, &want, &err));
        rest = str_slice(rest, cut, rest.len);
    }
    assert_true(same_ids(&all, &want));
    token_list_release(&all);
    token_list_release(&want);
    buf_release(&text);
}

static void test_limits(void **state)
{
    (void)state;
    struct error err = {0};
    struct token_list list = {.max = 3};
    assert_true(tokenizer_encode(gpt2, STR("!!"), (struct encode_options){0}, &list, &err));
    size_t before = list.n;
    assert_false(tokenizer_encode(gpt2, STR("1 2 3 4 5 6"), (struct encode_options){0}, &list, &err));
    assert_int_equal(err.code, ERR_TOO_LARGE);
    assert_int_equal(list.n, before); /* as it was */
    token_list_release(&list);
}

static void test_ids_and_names(void **state)
{
    (void)state;
    int32_t end = tokenizer_find(gpt2, STR("<|im_end|>"));
    const struct special_tokens *s = tokenizer_special(gpt2);
    assert_true(end > 0);
    assert_int_equal(s->eot, end); /* by name: no keys in this file */
    assert_int_equal(s->bos, -1);
    assert_int_equal(s->eos, -1);
    assert_int_equal(s->fim_prefix, tokenizer_find(gpt2, STR("<|fim_prefix|>")));
    assert_int_equal(s->fim_suffix, -1);
    assert_true(tokenizer_is_eog(gpt2, end));
    assert_false(tokenizer_is_eog(gpt2, 0));
    assert_false(tokenizer_is_eog(gpt2, -1));
    assert_int_equal(tokenizer_kind(gpt2, end), TOKEN_CONTROL);
    assert_int_equal(tokenizer_kind(gpt2, tokenizer_find(gpt2, STR("<tool_call>"))), TOKEN_USER_DEFINED);
    assert_true(str_eq(tokenizer_bytes(gpt2, end), STR("<|im_end|>")));
    assert_true(str_eq(tokenizer_bytes(gpt2, tokenizer_find(gpt2, STR("\xC4\xA0the"))), STR(" the")));
    assert_int_equal(tokenizer_bytes(gpt2, tokenizer_n_vocab(gpt2)).len, 0);
    assert_int_equal(tokenizer_bytes(gpt2, -1).len, 0);
    assert_int_equal(tokenizer_piece(gpt2, INT32_MAX).len, 0);
    assert_int_equal(tokenizer_find(gpt2, STR("no such piece")), -1);
    assert_string_equal(tokenizer_model_name(gpt2), "gpt2");
    assert_string_equal(tokenizer_pre_name(gpt2), "gpt-2");
    assert_string_equal(tokenizer_model_name(spm), "llama");
    int32_t ids[2];
    assert_int_equal(tokenizer_eog_ids(gpt2, ids, 2), 2); /* <|im_end|> and <|end|> */
    assert_int_equal(ids[0], end);
}

static void test_add_special(void **state)
{
    (void)state;
    struct token_list with = encode(spm, STR("hello"), (struct encode_options){.add_special = true});
    struct token_list without = encode(spm, STR("hello"), (struct encode_options){0});
    assert_int_equal(with.n, without.n + 1);
    assert_int_equal(with.ids[0], tokenizer_special(spm)->bos);
    token_list_release(&with);
    with = encode(spm, STR(""), (struct encode_options){.add_special = true});
    assert_int_equal(with.n, 1);
    token_list_release(&with);
    token_list_release(&without);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_families),     cmocka_unit_test(test_smollm2),       cmocka_unit_test(test_qwen25),
        cmocka_unit_test(test_invalid_utf8), cmocka_unit_test(test_long_words),    cmocka_unit_test(test_cache),
        cmocka_unit_test(test_limits),       cmocka_unit_test(test_ids_and_names), cmocka_unit_test(test_add_special),
    };
    return cmocka_run_group_tests(tests, open_small, close_small);
}
