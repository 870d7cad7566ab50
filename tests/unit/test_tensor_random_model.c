/* The random test models themselves: the same weights as tools/parity/random_model.py, and files that open. */
#include "tests/support/random_model.h"

#include "base/limits.h"
#include "tests/support/vector_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void weights_equal_the_generators(void **state)
{
    (void)state;
    struct vector_file v;
    int n_lines = 0;
    vector_file_open(&v, TEST_DATA_DIR "/random_model.vec");
    for (; vector_file_next(&v); n_lines++) {
        uint64_t seed = 0, first = 0;
        double std = 0, offset = 0;
        char name[64] = {0};
        size_t size;
        assert_int_equal(v.n_fields, 6);
        assert_true(str_to_u64(v.fields[0], &seed) && v.fields[1].len < sizeof(name) && str_to_f64(v.fields[2], &std) &&
                    str_to_f64(v.fields[3], &offset) && str_to_u64(v.fields[4], &first));
        memcpy(name, v.fields[1].ptr, v.fields[1].len);
        float *expected = vector_file_bytes(&v, 5, &size), got[8];
        assert_int_equal(size, sizeof(got));
        struct random_tensor t = {seed, name, std, offset};
        random_tensor_values(&t, first, 8, got);
        assert_memory_equal(got, expected, sizeof(got));
        free(expected);
    }
    vector_file_close(&v);
    assert_int_equal(n_lines, 5);
}

static const char config[] =
    "{\"seed\": 7, \"vocab_size\": 264,"
    " \"metadata\": {\"general.architecture\": [\"str\", \"llama\"], \"llama.block_count\": [\"u32\", 2],"
    "  \"llama.eps\": [\"f32\", 1e-5], \"x.windows\": [\"i16[]\", [1, -2]], \"x.names\": [\"str[]\", [\"a\", \"b\"]],"
    "  \"x.on\": [\"bool\", true]},"
    " \"tensors\": [{\"name\": \"plain\", \"shape\": [3, 64], \"std\": 0.5, \"offset\": 1},"
    "  {\"name\": \"packed\", \"shape\": [2, 256], \"dtype\": \"Q4_K\", \"std\": 0.1}]}";

static struct model_file *make(const char *json, const struct model_file *from, struct buf *bytes, struct error *err)
{
    buf_init(bytes, MIB(4));
    struct random_model *m = random_model_create(str_of(json), from, err);
    bool ok = m && gguf_write_buf(random_model_writer(m), bytes, err);
    random_model_free(m);
    return ok ? model_file_open_memory(bytes->data, bytes->len, err) : NULL;
}

static void check_tokenizer(const struct model_file *f)
{
    struct str s;
    struct meta_value tokens = meta_get(f, "tokenizer.ggml.tokens"), types = meta_get(f, "tokenizer.ggml.token_type");
    int64_t type = 0;
    assert_true(tokens.n == 264 && types.n == 264);
    assert_true(meta_array_str(&tokens, 'A', &s) && str_eq(s, STR("A")));
    assert_true(meta_array_str(&tokens, ' ', &s) && str_eq(s, STR("\xc4\xa0"))); /* U+0120 */
    assert_true(meta_array_str(&tokens, 173, &s) && str_eq(s, STR("\xc5\x83"))); /* U+0143, the last of the 68 */
    assert_true(meta_array_str(&tokens, 257, &s) && str_eq(s, STR("<|im_start|>")));
    assert_true(meta_array_str(&tokens, 263, &s) && str_eq(s, STR("<|unused_263|>")));
    assert_true(meta_array_int(&types, 255, &type) && type == 1);
    assert_true(meta_array_int(&types, 256, &type) && type == 3);
}

static void models_follow_their_description(void **state)
{
    (void)state;
    struct error err = {0};
    struct buf bytes;
    struct model_file *f = make(config, NULL, &bytes, &err);
    if (!f)
        fail_msg("%s", err.msg);
    check_tokenizer(f);
    int64_t i = 0;
    struct meta_value windows = meta_get(f, "x.windows");
    assert_true(windows.n == 2 && meta_array_int(&windows, 1, &i) && i == -2);
    assert_true(meta_get(f, "x.names").n == 2 && meta_get(f, "x.on").b && meta_get(f, "llama.block_count").i == 2);
    const struct tensor_view *plain = model_file_tensor(f, "plain"), *packed = model_file_tensor(f, "packed");
    float expected[512], got[512];
    random_tensor_values(&(struct random_tensor){7, "plain", 0.5, 1}, 0, 192, expected);
    assert_true(plain->shape[0] == 3 && plain->shape[1] == 64);
    assert_memory_equal(plain->data, expected, 192 * sizeof(float));
    random_tensor_values(&(struct random_tensor){7, "packed", 0.1, 0}, 0, 512, expected);
    dtype_to_f32(packed->type, packed->data, 512, got);
    for (int k = 0; k < 512; k++)
        assert_true(got[k] - expected[k] < 0.02f && expected[k] - got[k] < 0.02f);

    struct buf bytes2; /* the tokenizer copied, although the description has no vocab_size */
    struct model_file *copy = make("{\"tensors\": []}", f, &bytes2, &err);
    assert_non_null(copy);
    check_tokenizer(copy);
    model_file_close(copy);
    buf_release(&bytes2);
    model_file_close(f);
    buf_release(&bytes);
}

static void bad_descriptions_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "[",
        "{\"vocab_size\": 3}",
        "{\"metadata\": {\"a\": 3}}",
        "{\"metadata\": {\"a\": [\"u33\", 3]}}",
        "{\"metadata\": {\"a\": [\"u32\", \"x\"]}}",
        "{\"metadata\": {\"a\": [\"u32[]\", [1, \"x\"]]}}",
        "{\"tensors\": [{\"name\": \"a\"}]}",
        "{\"tensors\": [{\"shape\": [4]}]}",
        "{\"tensors\": [{\"name\": \"a\", \"shape\": [0]}]}",
        "{\"tensors\": [{\"name\": \"a\", \"shape\": [4], \"dtype\": \"Q4_K\"}]}",
        "{\"tensors\": [{\"name\": \"a\", \"shape\": [4], \"dtype\": \"I8\"}]}",
        "{\"tensors\": [{\"name\": \"a\", \"shape\": [4], \"dtype\": \"none\"}]}",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct error err = {0};
        struct buf bytes;
        if (make(bad[i], NULL, &bytes, &err))
            fail_msg("taken: %s", bad[i]);
        assert_true(err.code != ERR_NONE);
        buf_release(&bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_equal_the_generators),
        cmocka_unit_test(models_follow_their_description),
        cmocka_unit_test(bad_descriptions_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
