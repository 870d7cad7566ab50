/* Tokenizers of GGUF files written as tokenizer.json, and read from there: they pass the vectors of the originals. */
#include "text/tokenizer.h"
#include "text/tokenizer_export.h"
#include "text/tokenizer_json.h"

#include "base/array.h"
#include "base/limits.h"
#include "tests/support/vector_file.h"
#include "tests/support/vocab_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define DATA(name) TEST_DATA_DIR "/tokenizer/" name

static void parse_ids(struct str field, struct token_list *out)
{
    struct error err = {0};
    struct str part;
    out->n = 0;
    while (field.len && !str_eq(field, STR("-")) && str_split(&field, ',', &part)) {
        uint64_t id;
        assert_true(str_to_u64(part, &id));
        assert_true(array_reserve(&out->ids, &out->cap, out->n + 1, LIMIT_CONTEXT, "ids", &err));
        out->ids[out->n++] = (int32_t)id;
    }
}

static void check_case(const struct tokenizer *t, const struct vector_file *v, struct str text, const char *path)
{
    struct error err = {0};
    struct token_list want = {0}, got = {0};
    struct buf out;
    parse_ids(v->fields[2], &want);
    if (str_eq(v->fields[0], STR("decode"))) {
        buf_init(&out, MIB(1));
        tokenizer_decode(t, want.ids, want.n, true, &out);
        if (!str_eq(buf_view(&out), text))
            fail_msg("%s: '" STR_FMT "' is decoded to another text", path, STR_ARG(text));
        buf_release(&out);
    } else {
        struct encode_options o = {.parse_special = str_eq(v->fields[0], STR("special"))};
        assert_true(tokenizer_encode(t, text, o, &got, &err));
        if (got.n != want.n || (want.n && memcmp(got.ids, want.ids, want.n * sizeof(*want.ids)) != 0))
            fail_msg("%s: '" STR_FMT "' has %zu tokens, or others; expected are %zu", path, STR_ARG(text), got.n,
                     want.n);
    }
    token_list_release(&want);
    token_list_release(&got);
}

static size_t check_cases(const struct tokenizer *t, const char *path)
{
    struct vector_file v;
    size_t n = 0;
    vector_file_open(&v, path);
    while (vector_file_next(&v)) {
        size_t size = 0;
        if (!str_eq(v.fields[0], STR("plain")) && !str_eq(v.fields[0], STR("special")) &&
            !str_eq(v.fields[0], STR("decode")))
            continue;
        char *bytes = str_eq(v.fields[1], STR("-")) ? NULL : vector_file_bytes(&v, 1, &size);
        check_case(t, &v, (struct str){bytes, size}, path);
        free(bytes);
        n++;
    }
    vector_file_close(&v);
    return n;
}

struct written {
    struct buf json, config, translated;
    struct model_file *file;
    struct tokenizer *tokenizer;
};

static bool write_and_read(const struct model_file *gguf, struct written *w, struct error *err)
{
    *w = (struct written){0};
    buf_init(&w->json, MIB(64));
    buf_init(&w->config, MIB(1));
    if (!tokenizer_export_json(gguf, &w->json, &w->config, err))
        return false;
    buf_init(&w->translated, tokenizer_json_max(w->json.len));
    w->file = tokenizer_json_translate(buf_view(&w->json), NULL, &w->translated, err)
                  ? model_file_open_memory(w->translated.data, w->translated.len, err)
                  : NULL;
    w->tokenizer = w->file ? tokenizer_from_model_file(w->file, err) : NULL;
    if (!w->tokenizer)
        fail_msg("what was written is not read: %s", err->msg);
    return true;
}

static void release(struct written *w)
{
    tokenizer_free(w->tokenizer);
    model_file_close(w->file);
    buf_release(&w->json);
    buf_release(&w->config);
    if (w->translated.max)
        buf_release(&w->translated);
}

static void families(void **state)
{
    (void)state;
    static const char *const paths[] = {
        DATA("gpt-2.vec"),  DATA("smollm.vec"),      DATA("llama-bpe.vec"),      DATA("qwen2.vec"),
        DATA("qwen35.vec"), DATA("seed-coder.vec"),  DATA("minicpm5.vec"),       DATA("tekken.vec"),
        DATA("gpt-4o.vec"), DATA("deepseek-v3.vec"), DATA("deepseek-coder.vec"), DATA("falcon.vec"),
        DATA("spm.vec"),    DATA("spm-gemma.vec"),   DATA("spm-no-bytes.vec"),
    };
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        struct vocab_file v;
        struct written w;
        struct error err = {0};
        assert_true(vocab_file_open(&v, paths[i]));
        if (!write_and_read(v.file, &w, &err))
            fail_msg("%s: %s", paths[i], err.msg);
        assert_true(check_cases(w.tokenizer, paths[i]) >= 80);
        release(&w);
        vocab_file_close(&v);
    }
}

/* What is put around a text stays: one token before it, one behind it, both. */
static void around_a_text(void **state)
{
    (void)state;
    static const char *const given[][2] = {{"true", "false"}, {"false", "true"}, {"true", "true"}, {"false", "false"}};
    for (size_t i = 0; i < ARRAY_LEN(given); i++) {
        struct vocab_file v;
        struct written w;
        struct error err = {0};
        char spec[96];
        assert_true(vocab_file_open(&v, DATA("spm.vec")));
        for (int k = 0; k < 2; k++) {
            snprintf(spec, sizeof(spec), "tokenizer.ggml.add_%s_token=bool:%s", k ? "eos" : "bos", given[i][k]);
            assert_true(model_file_override(v.file, spec, &err));
        }
        struct tokenizer *before = tokenizer_from_model_file(v.file, &err);
        assert_true(before && write_and_read(v.file, &w, &err));
        struct token_list want = {0}, got = {0};
        struct encode_options o = {.add_special = true};
        assert_true(tokenizer_encode(before, STR("Hello there"), o, &want, &err));
        assert_true(tokenizer_encode(w.tokenizer, STR("Hello there"), o, &got, &err));
        assert_int_equal(got.n, want.n);
        assert_memory_equal(got.ids, want.ids, want.n * sizeof(*want.ids));
        token_list_release(&want);
        token_list_release(&got);
        tokenizer_free(before);
        release(&w);
        vocab_file_close(&v);
    }
}

static void chat_templates(void **state)
{
    (void)state;
    static const struct {
        const char *given, *written;
    } cases[] = {
        {"tokenizer.chat_template=str:one", "\"chat_template\":\"one\""},
        {"tokenizer.chat_template.tool_use=str:two", "\"chat_template\":[{\"name\":\"default\",\"template\":\"one\"},"
                                                     "{\"name\":\"tool_use\",\"template\":\"two\"}]"},
    };
    struct vocab_file v;
    struct written w;
    struct error err = {0};
    assert_true(vocab_file_open(&v, DATA("spm.vec")));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) { /* one after the other */
        assert_true(model_file_override(v.file, cases[i].given, &err));
        assert_true(write_and_read(v.file, &w, &err));
        if (!strstr(w.config.data, cases[i].written))
            fail_msg("%s: " STR_FMT, cases[i].given, STR_ARG(buf_view(&w.config)));
        release(&w);
    }
    vocab_file_close(&v);
}

static void refusals(void **state)
{
    (void)state;
    static const char *const paths[] = {DATA("unigram.vec"), DATA("deepseek-llm.vec")};
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        struct vocab_file v;
        struct written w;
        struct error err = {0};
        assert_true(vocab_file_open(&v, paths[i]));
        assert_false(write_and_read(v.file, &w, &err));
        assert_int_equal(err.code, ERR_UNSUPPORTED);
        release(&w);
        vocab_file_close(&v);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(families), cmocka_unit_test(around_a_text),
                                       cmocka_unit_test(chat_templates), cmocka_unit_test(refusals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
