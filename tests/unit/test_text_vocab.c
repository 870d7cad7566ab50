/* Vocabularies that are not as they should be: an error that names what is wrong, never a crash. And what metadata keys
 * and names say about special tokens. */
#include "text/tokenizer.h"

#include "base/array.h"
#include "base/limits.h"
#include "tensor/gguf_writer.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define KEY(name) "tokenizer.ggml." name

struct recipe { /* what a test changes of a small, sound file */
    const char *model, *pre;
    const struct str *tokens, *merges;
    size_t n_tokens, n_merges;
    const int32_t *types;
    const float *scores;
    size_t n_types, n_scores;
    const char *int_key; /* one more key */
    int64_t int_value;
    const char *bool_key;
    const uint8_t *charsmap;
    size_t charsmap_size;
};

static const struct str sound_tokens[] = {STR("a"),
                                          STR("b"),
                                          STR("ab"),
                                          STR("\xC4\xA0"),
                                          STR("\xC4\xA0"
                                              "ab"),
                                          STR("c"),
                                          STR("</s>"),
                                          STR("<|im_end|>"),
                                          STR("<|eot_id|>"),
                                          STR("<t>")};
static const struct str sound_merges[] = {STR("a b"), STR("\xC4\xA0 ab")};
static const int32_t sound_types[] = {1, 1, 1, 1, 1, 1, 1, 3, 1, 4};

static const struct recipe sound = {
    .model = "gpt2",
    .pre = "gpt-2",
    .tokens = sound_tokens,
    .n_tokens = ARRAY_LEN(sound_tokens),
    .merges = sound_merges,
    .n_merges = ARRAY_LEN(sound_merges),
    .types = sound_types,
    .n_types = ARRAY_LEN(sound_types),
};

struct made {
    struct buf bytes;
    struct model_file *file;
    struct tokenizer *tokenizer; /* NULL when refused */
    struct error err;
};

static void put(struct gguf_writer *w, const struct recipe *r)
{
    if (r->model)
        gguf_put_str(w, KEY("model"), str_of(r->model));
    if (r->pre)
        gguf_put_str(w, KEY("pre"), str_of(r->pre));
    if (r->tokens)
        gguf_put_str_array(w, KEY("tokens"), r->tokens, r->n_tokens);
    if (r->merges)
        gguf_put_str_array(w, KEY("merges"), r->merges, r->n_merges);
    if (r->types)
        gguf_put_array(w, KEY("token_type"), GGUF_I32, r->types, r->n_types);
    if (r->scores)
        gguf_put_array(w, KEY("scores"), GGUF_F32, r->scores, r->n_scores);
    if (r->int_key)
        gguf_put_int(w, r->int_key, GGUF_I64, r->int_value);
    if (r->bool_key)
        gguf_put_bool(w, r->bool_key, true);
    if (r->charsmap)
        gguf_put_array(w, KEY("precompiled_charsmap"), GGUF_U8, r->charsmap, r->charsmap_size);
}

static struct made make(const struct recipe *r)
{
    struct made m = {0};
    struct gguf_writer *w = gguf_writer_create();
    assert_non_null(w);
    gguf_put_str(w, "general.architecture", STR("llama"));
    put(w, r);
    buf_init(&m.bytes, MIB(16));
    assert_true(gguf_write_buf(w, &m.bytes, &m.err));
    gguf_writer_free(w);
    m.file = model_file_open_memory(m.bytes.data, m.bytes.len, &m.err);
    assert_non_null(m.file);
    m.tokenizer = tokenizer_from_model_file(m.file, &m.err);
    return m;
}

static void release(struct made *m)
{
    tokenizer_free(m->tokenizer);
    model_file_close(m->file);
    buf_release(&m->bytes);
}

static void check_refused(const struct recipe *r, enum error_code code, const char *word)
{
    struct made m = make(r);
    assert_null(m.tokenizer);
    if (m.err.code != code || str_find(str_of(m.err.msg), str_of(word)) == STR_NPOS)
        fail_msg("error %d '%s' does not say '%s'", (int)m.err.code, m.err.msg, word);
    release(&m);
}

static void test_sound(void **state)
{
    (void)state;
    struct made m = make(&sound);
    struct error err = {0};
    struct token_list list = {0};
    assert_non_null(m.tokenizer);
    assert_true(tokenizer_encode(m.tokenizer, STR("ab ab<t>x"), (struct encode_options){0}, &list, &err));
    assert_int_equal(list.n, 3); /* a byte without a token ("x") is dropped */
    assert_int_equal(list.ids[0], 2);
    assert_int_equal(list.ids[1], 4);
    assert_int_equal(list.ids[2], 9);
    token_list_release(&list);
    release(&m);
}

static void test_models_and_arrays(void **state)
{
    (void)state;
    struct recipe r = sound;
    r.model = NULL;
    check_refused(&r, ERR_FORMAT, "tokenizer.ggml.model");
    r.model = "bert";
    check_refused(&r, ERR_UNSUPPORTED, "'bert'");
    r = sound;
    r.pre = "something-new";
    check_refused(&r, ERR_UNSUPPORTED, "'something-new'");
    r = sound;
    r.tokens = NULL;
    check_refused(&r, ERR_FORMAT, "tokens");
    r = sound;
    r.n_tokens = 0;
    check_refused(&r, ERR_FORMAT, "tokens");
    r = sound;
    r.merges = NULL;
    check_refused(&r, ERR_FORMAT, "merges");
    r = sound;
    r.n_types = 3;
    check_refused(&r, ERR_FORMAT, "token_type");
    static const int32_t odd_types[] = {1, 1, 1, 1, 1, 1, 1, 3, 1, 99};
    r = sound;
    r.types = odd_types;
    check_refused(&r, ERR_FORMAT, "token 9");
}

static void test_pieces(void **state)
{
    (void)state;
    struct str tokens[ARRAY_LEN(sound_tokens)];
    struct recipe r = sound;
    memcpy(tokens, sound_tokens, sizeof tokens);
    r.tokens = tokens;
    tokens[5] = STR("");
    check_refused(&r, ERR_FORMAT, "token 5");
    tokens[5] = STR("b");
    check_refused(&r, ERR_FORMAT, "tokens 1 and 5");
    char *longest = malloc(5000);
    assert_non_null(longest);
    memset(longest, 'x', 5000);
    memcpy(tokens, sound_tokens, sizeof tokens);
    tokens[9] = (struct str){longest, 5000}; /* user-defined: matched against text */
    check_refused(&r, ERR_FORMAT, "added token 9");
    tokens[9] = STR("<t>");
    tokens[5] = (struct str){longest, 5000}; /* ordinary: fine */
    struct made m = make(&r);
    assert_non_null(m.tokenizer);
    release(&m);
    free(longest);
}

static void test_merges(void **state)
{
    (void)state;
    static const struct str broken[] = {STR(""),    STR("a"),   STR("ab"),  STR("a "),    STR(" b"),     STR("   "),
                                        STR("a z"), STR("z b"), STR("b a"), STR("a b c"), STR("a\xFF b")};
    for (size_t i = 0; i < ARRAY_LEN(broken); i++) {
        struct str merges[] = {STR("a b"), broken[i]};
        struct recipe r = sound;
        r.merges = merges;
        check_refused(&r, ERR_FORMAT, "merge 1");
    }
}

static void test_special_ids(void **state)
{
    (void)state;
    struct recipe r = sound;
    r.int_key = KEY("eos_token_id");
    r.int_value = 10;
    check_refused(&r, ERR_FORMAT, "eos_token_id");
    r.int_value = -2;
    check_refused(&r, ERR_FORMAT, "eos_token_id");
    r.int_value = UINT32_MAX; /* "none" as some writers put it */
    struct made m = make(&r);
    assert_non_null(m.tokenizer);
    assert_int_equal(tokenizer_special(m.tokenizer)->eos, -1);
    release(&m);
    r.int_value = 5;
    r.bool_key = KEY("add_eos_token");
    m = make(&r);
    assert_non_null(m.tokenizer);
    assert_int_equal(tokenizer_special(m.tokenizer)->eos, 5);
    assert_true(tokenizer_special(m.tokenizer)->add_eos);
    assert_true(tokenizer_is_eog(m.tokenizer, 5));
    assert_true(tokenizer_is_eog(m.tokenizer, 7));
    assert_true(tokenizer_is_eog(m.tokenizer, 8)); /* by its name, though the file calls it ordinary */
    assert_int_equal(tokenizer_kind(m.tokenizer, 8), TOKEN_CONTROL);
    assert_false(tokenizer_is_eog(m.tokenizer, 6)); /* an ordinary "</s>" may be a tag of HTML */
    assert_int_equal(tokenizer_special(m.tokenizer)->eot, 8);
    release(&m);
}

static void test_add_bos_without_bos(void **state)
{
    (void)state;
    struct recipe r = sound;
    r.bool_key = KEY("add_bos_token");
    struct made m = make(&r);
    struct error err = {0};
    struct token_list list = {0};
    assert_non_null(m.tokenizer);
    assert_false(tokenizer_special(m.tokenizer)->add_bos);
    assert_true(tokenizer_encode(m.tokenizer, STR("a"), (struct encode_options){.add_special = true}, &list, &err));
    assert_int_equal(list.n, 1);
    token_list_release(&list);
    release(&m);
}

static void test_scores(void **state)
{
    (void)state;
    float scores[ARRAY_LEN(sound_tokens)] = {0};
    struct recipe r = sound;
    r.model = "llama";
    check_refused(&r, ERR_FORMAT, "scores");
    r.scores = scores;
    r.n_scores = 2;
    check_refused(&r, ERR_FORMAT, "scores");
    r.n_scores = ARRAY_LEN(scores);
    scores[4] = NAN;
    check_refused(&r, ERR_FORMAT, "score");
    scores[4] = -INFINITY;
    check_refused(&r, ERR_FORMAT, "score");
    scores[4] = 0;
    struct made m = make(&r);
    assert_non_null(m.tokenizer);
    release(&m);
}

/* Damaged maps are refused, or lead nowhere: every unit is bounded. */
static void test_charsmap(void **state)
{
    (void)state;
    float scores[ARRAY_LEN(sound_tokens)] = {0};
    struct recipe r = sound;
    r.model = "t5";
    r.scores = scores;
    r.n_scores = ARRAY_LEN(scores);
    static const uint8_t too_short[] = {0, 0, 0}, too_big[] = {255, 255, 255, 255, 0, 0},
                         odd[] = {3, 0, 0, 0, 1, 2, 3, 0}, no_end[] = {4, 0, 0, 0, 0, 0, 0, 0, 'x'},
                         not_utf8[] = {4, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0};
    const struct str damaged[] = {
        {(const char *)too_short, sizeof too_short},
        {(const char *)too_big, sizeof too_big},
        {(const char *)odd, sizeof odd},
        {(const char *)no_end, sizeof no_end},
        {(const char *)not_utf8, sizeof not_utf8},
    };
    for (size_t i = 0; i < ARRAY_LEN(damaged); i++) {
        r.charsmap = (const uint8_t *)damaged[i].ptr;
        r.charsmap_size = damaged[i].len;
        check_refused(&r, ERR_FORMAT, "charsmap");
    }
    uint8_t wild[4 + 4 * 256 + 8] = {0, 4};
    uint32_t x = 5;
    for (int round = 0; round < 300; round++) {
        struct error err = {0};
        struct token_list list = {0};
        for (size_t i = 4; i < sizeof wild - 8; i++) {
            x = x * 1664525u + 1013904223u;
            wild[i] = (uint8_t)(x >> 24) & (i % 4 ? 0x03 : 0xFF);
        }
        memcpy(wild + sizeof wild - 8, "ab\0\xC3\xA9\0x", 8);
        r.charsmap = wild;
        r.charsmap_size = sizeof wild;
        struct made m = make(&r);
        assert_non_null(m.tokenizer);
        assert_true(tokenizer_encode(m.tokenizer, STR("ab \xC3\xA9 \x01\x02\x03 xyz"), (struct encode_options){0},
                                     &list, &err));
        token_list_release(&list);
        release(&m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sound),       cmocka_unit_test(test_models_and_arrays),
        cmocka_unit_test(test_pieces),      cmocka_unit_test(test_merges),
        cmocka_unit_test(test_special_ids), cmocka_unit_test(test_add_bos_without_bos),
        cmocka_unit_test(test_scores),      cmocka_unit_test(test_charsmap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
