/* tokenizer.json read alone and in a folder: both forms of merges, ids that nobody has, flags of added tokens, special
 * tokens by the other JSON files, and what is refused with which words. tests/parity/check_tokenizer_json.py compares
 * whole tokenizers with the `tokenizers` package. */
#include "text/tokenizer_json.h"

#include "base/array.h"
#include "base/limits.h"
#include "tensor/model_folder.h"
#include "text/tokenizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* ---- building ---- */

#define BYTE_LEVEL "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}"
#define VOCAB                                                                         \
    "\"vocab\":{\"a\":0,\"b\":1,\"c\":2,\"\xC4\xA0\":3,\"ab\":4,\"abc\":5,\"\xC4\xA0" \
    "a\":6}"
#define MERGES "\"merges\":[[\"a\",\"b\"],[\"ab\",\"c\"],[\"\xC4\xA0\",\"a\"]]"
#define BPE    "\"model\":{\"type\":\"BPE\"," VOCAB "," MERGES "}"

#define SAFETENSORS_HEADER "{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}"

static struct tokenizer *translated(const char *json, const struct model_file *hints, struct error *err)
{
    struct buf bytes;
    struct tokenizer *t = NULL;
    buf_init(&bytes, tokenizer_json_max(strlen(json)));
    if (tokenizer_json_translate(str_of(json), hints, &bytes, err)) {
        struct model_file *file = model_file_open_memory(bytes.data, bytes.len, err);
        assert_non_null(file);
        t = tokenizer_from_model_file(file, err);
        model_file_close(file);
    }
    buf_release(&bytes);
    return t;
}

static struct tokenizer *make(const char *json)
{
    struct error err = {0};
    struct tokenizer *t = translated(json, NULL, &err);
    if (!t)
        fail_msg("%s", err.msg);
    return t;
}

static void assert_ids(const struct tokenizer *t, const char *text, const char *want)
{
    struct error err = {0};
    struct token_list ids = {0};
    char got[256] = "";
    size_t at = 0;
    assert_true(tokenizer_encode(t, str_of(text), (struct encode_options){.parse_special = true}, &ids, &err));
    for (size_t i = 0; i < ids.n; i++)
        at += (size_t)snprintf(got + at, sizeof got - at, i ? " %d" : "%d", ids.ids[i]);
    token_list_release(&ids);
    if (strcmp(got, want) != 0)
        fail_msg("'%s' gives %s instead of %s", text, got, want);
}

/* ---- what is read ---- */

static void test_merges_in_both_forms(void **state)
{
    (void)state;
    const char *const forms[] = {
        "{" BYTE_LEVEL "," BPE "}",
        "{" BYTE_LEVEL ",\"model\":{\"type\":\"BPE\"," VOCAB ",\"merges\":[\"a b\",\"ab c\",\"\xC4\xA0 a\"]}}",
        "{" BYTE_LEVEL ",\"model\":{" VOCAB "," MERGES "}}", /* old files do not name the type */
    };
    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        struct tokenizer *t = make(forms[i]);
        assert_ids(t, "abcab ab a", "5 4 3 4 6"); /* the first merge comes first */
        assert_string_equal(tokenizer_model_name(t), "gpt2");
        tokenizer_free(t);
    }
}

static void test_ids_that_nobody_has(void **state)
{
    (void)state;
    struct tokenizer *t =
        make("{" BYTE_LEVEL "," BPE ",\"added_tokens\":[{\"id\":12,\"content\":\"<x>\",\"special\":true},"
             "{\"id\":9,\"content\":\"<y>\",\"special\":false}]}");
    assert_int_equal(tokenizer_n_vocab(t), 13);
    assert_int_equal(tokenizer_kind(t, 7), TOKEN_UNUSED);
    assert_int_equal(tokenizer_kind(t, 11), TOKEN_UNUSED);
    assert_int_equal(tokenizer_kind(t, 12), TOKEN_CONTROL);
    assert_int_equal(tokenizer_kind(t, 9), TOKEN_USER_DEFINED);
    assert_ids(t, "a<x>b<y>c", "0 12 1 9 2");
    tokenizer_free(t);
}

static void test_flags_of_added_tokens(void **state)
{
    (void)state;
    static const struct {
        const char *flags, *text, *want;
    } cases[] = {
        {"\"lstrip\":true", "a  <x> a", "0 7 6"},
        {"\"rstrip\":true", "a <x>  a", "0 3 7 0"},
        {"\"lstrip\":true,\"rstrip\":true", " \t<x>\xE3\x80\x80<x> ", "7 7"},
        {"\"rstrip\":true", "<x>   ", "7"},
        {"\"lstrip\":true", "  ", "3 3"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char json[512];
        snprintf(json, sizeof json, "{" BYTE_LEVEL "," BPE ",\"added_tokens\":[{\"id\":7,\"content\":\"<x>\",%s}]}",
                 cases[i].flags);
        struct tokenizer *t = make(json);
        assert_ids(t, cases[i].text, cases[i].want);
        tokenizer_free(t);
    }
    struct tokenizer *word =
        make("{" BYTE_LEVEL "," BPE ",\"added_tokens\":[{\"id\":7,\"content\":\"cab\",\"single_word\":true}]}");
    assert_ids(word, "cab", "7");
    assert_ids(word, "a cab", "0 3 7");
    assert_ids(word, "acab", "0 2 4");
    assert_ids(word, "caba", "2 4 0");
    assert_ids(word, "b cab\xCC\x81", "1 3 2 4"); /* the mark belongs to the word, and has no token here */
    tokenizer_free(word);
}

static struct model_file *folder(const char *tokenizer, const char *tokenizer_config, const char *generation_config)
{
    static char tensors[8 + 64 + 4];
    memset(tensors, ' ', sizeof tensors);
    memcpy(tensors, "\x40\0\0\0\0\0\0\0", 8);
    memcpy(tensors + 8, SAFETENSORS_HEADER, strlen(SAFETENSORS_HEADER));
    struct model_folder_file files[] = {
        {"config.json", STR("{\"model_type\":\"llama\",\"bos_token_id\":0,\"eos_token_id\":[1,2]}")},
        {"tokenizer.json", str_of(tokenizer)},
        {"tokenizer_config.json", str_of(tokenizer_config)},
        {"generation_config.json", str_of(generation_config)},
        {"model.safetensors", {tensors, sizeof tensors}},
    };
    struct error err = {0};
    struct model_file *file = model_folder_open_memory(files, ARRAY_LEN(files), &err);
    if (!file)
        fail_msg("%s", err.msg);
    return file;
}

static void test_special_tokens_of_other_files(void **state)
{
    (void)state;
    struct error err = {0};
    struct model_file *file = folder("{" BYTE_LEVEL "," BPE "}",
                                     "{\"bos_token\":{\"content\":\"ab\"},\"eos_token\":\"abc\",\"pad_token\":null}",
                                     "{\"eos_token_id\":[5,4]}");
    struct tokenizer *t = tokenizer_from_model_file(file, &err);
    assert_non_null(t);
    const struct special_tokens *s = tokenizer_special(t);
    assert_int_equal(s->bos, 4); /* tokenizer_config.json speaks before config.json */
    assert_int_equal(s->eos, 5);
    assert_int_equal(s->pad, -1);
    assert_false(s->add_bos);
    for (int32_t id = 0; id < 7; id++)
        assert_int_equal(tokenizer_is_eog(t, id), id == 1 || id == 2 || id == 4 || id == 5);
    tokenizer_free(t);
    model_file_close(file);
}

static void test_template_frames_texts(void **state)
{
    (void)state;
    struct tokenizer *t =
        make("{" BYTE_LEVEL "," BPE ",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":["
             "{\"SpecialToken\":{\"id\":\"c\"}},{\"Sequence\":{\"id\":\"A\"}},"
             "{\"SpecialToken\":{\"id\":\"b\"}}]}}");
    assert_int_equal(tokenizer_special(t)->bos, 2);
    assert_int_equal(tokenizer_special(t)->eos, 1);
    assert_true(tokenizer_special(t)->add_bos && tokenizer_special(t)->add_eos);
    tokenizer_free(t);
}

/* ---- what is refused ---- */

static void test_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        enum error_code code;
        const char *says;
    } cases[] = {
        {"", ERR_FORMAT, "tokenizer.json"},
        {"[]", ERR_FORMAT, "no model"},
        {"{\"model\":3}", ERR_FORMAT, "no model"},
        {"{\"model\":{\"type\":\"BPE\"}}", ERR_FORMAT, "no model.vocab"},
        {"{\"model\":{\"vocab\":{\"a\":-1}}}", ERR_FORMAT, "the id -1 of 'a'"},
        {"{\"model\":{\"vocab\":{\"a\":99999999999}}}", ERR_FORMAT, "the id 99999999999 of 'a'"},
        {"{\"model\":{\"vocab\":{\"a\":0.5}}}", ERR_FORMAT, "to integers"},
        {"{\"model\":{\"vocab\":[[\"a\"]]}}", ERR_FORMAT, "entry 0 of model.vocab"},
        {"{\"model\":{\"type\":\"Unigram\",\"unk_id\":7,\"vocab\":[[\"a\",0]]}}", ERR_FORMAT, "model.unk_id"},
        {"{\"model\":{\"type\":\"WordLevel\",\"vocab\":{\"a\":0}}}", ERR_UNSUPPORTED, "'WordLevel'"},
        {"{" BYTE_LEVEL "," BPE ",\"added_tokens\":[{\"content\":\"<x>\"}]}", ERR_FORMAT, "added token 0"},
        {"{" BYTE_LEVEL "," BPE ",\"added_tokens\":[{\"id\":8,\"content\":\"\"}]}", ERR_FORMAT, "added token 0"},
        {"{" BYTE_LEVEL ",\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"ab\"]}}", ERR_FORMAT,
         "merge 0"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1},\"merges\":[\"a b\"]}}", ERR_FORMAT,
         "merge 0 makes no token"},
        {"{" BYTE_LEVEL ",\"model\":{\"type\":\"BPE\",\"continuing_subword_prefix\":\"##\",\"vocab\":{\"a\":0}}}",
         ERR_UNSUPPORTED, "prefixes or suffixes"},
        {"{" BYTE_LEVEL "," BPE ",\"normalizer\":{\"type\":\"Lowercase\"}}", ERR_UNSUPPORTED, "'Lowercase'"},
        {"{" BYTE_LEVEL "," BPE ",\"post_processor\":{\"type\":\"Other\"}}", ERR_UNSUPPORTED, "'Other'"},
        {"{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"x+\"},\"behavior\":\"Isolated\"},"
         "\"decoder\":{\"type\":\"ByteLevel\"}," BPE "}",
         ERR_UNSUPPORTED, "'Split'"},
        {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"a\":0}}}", ERR_UNSUPPORTED, "without a pre-tokenizer"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct error err = {0};
        struct tokenizer *t = translated(cases[i].json, NULL, &err);
        if (t)
            fail_msg("accepted: %s", cases[i].json);
        if (err.code != cases[i].code || !strstr(err.msg, cases[i].says))
            fail_msg("%s: code %d, '%s' instead of %s", cases[i].json, err.code, err.msg, cases[i].says);
    }
}

static void test_folder_without_tokenizer_json(void **state)
{
    (void)state;
    struct error err = {0};
    struct model_file *file = folder("", "{}", "{}");
    assert_null(tokenizer_from_model_file(file, &err));
    assert_int_equal(err.code, ERR_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "no tokenizer.json"));
    model_file_close(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_merges_in_both_forms),          cmocka_unit_test(test_ids_that_nobody_has),
        cmocka_unit_test(test_flags_of_added_tokens),         cmocka_unit_test(test_special_tokens_of_other_files),
        cmocka_unit_test(test_template_frames_texts),         cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_folder_without_tokenizer_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
