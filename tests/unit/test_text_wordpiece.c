/* WordPiece: ids and texts equal those of the `tokenizers` package (tests/data/wordpiece.vec, which says what its lines
 * are); what broken metadata and hostile vocabularies do. */
#include "base/array.h"
#include "base/limits.h"
#include "tensor/gguf_writer.h"
#include "tests/support/vector_file.h"
#include "text/detokenizer.h"
#include "text/tokenizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define VECTORS    TEST_DATA_DIR "/wordpiece.vec"
#define MAX_TOKENS 1024

struct words { /* a vocabulary; texts owned */
    struct str pieces[MAX_TOKENS];
    int32_t types[MAX_TOKENS];
    size_t n;
    struct str prefix;
};

struct options {
    int64_t lowercase, strip_accents, clean_text, chinese_chars, max_chars;
};
static const struct options plain_options = {1, 1, 1, 1, 100};

static void put_words(struct gguf_writer *w, const struct words *words, const struct options *options)
{
    gguf_put_str(w, "tokenizer.ggml.model", STR("wordpiece"));
    gguf_put_str_array(w, "tokenizer.ggml.tokens", words->pieces, words->n);
    gguf_put_array(w, "tokenizer.ggml.token_type", GGUF_I32, words->types, words->n);
    gguf_put_str(w, "tokenizer.wordpiece.prefix", words->prefix);
    gguf_put_bool(w, "tokenizer.wordpiece.lowercase", options->lowercase);
    gguf_put_bool(w, "tokenizer.wordpiece.strip_accents", options->strip_accents);
    gguf_put_bool(w, "tokenizer.wordpiece.clean_text", options->clean_text);
    gguf_put_bool(w, "tokenizer.wordpiece.chinese_chars", options->chinese_chars);
    gguf_put_int(w, "tokenizer.wordpiece.max_chars", GGUF_I64, options->max_chars);
}

static int32_t find(const struct words *words, struct str piece)
{
    for (size_t i = 0; i < words->n; i++)
        if (str_eq(words->pieces[i], piece))
            return (int32_t)i;
    return -1;
}

/* NULL and the error, or a tokenizer; writer is freed. */
static struct tokenizer *finish(struct gguf_writer *w, struct error *err)
{
    struct buf bytes;
    buf_init(&bytes, MIB(16));
    assert_true(gguf_write_buf(w, &bytes, err));
    gguf_writer_free(w);
    struct model_file *file = model_file_open_memory(bytes.data, bytes.len, err);
    assert_non_null(file);
    struct tokenizer *t = tokenizer_from_model_file(file, err);
    model_file_close(file);
    buf_release(&bytes);
    return t;
}

static struct tokenizer *make(const struct words *words, const struct options *options)
{
    struct error err = {0};
    struct gguf_writer *w = gguf_writer_create();
    assert_non_null(w);
    put_words(w, words, options);
    int32_t cls = find(words, STR("[CLS]")), sep = find(words, STR("[SEP]"));
    gguf_put_int(w, "tokenizer.ggml.unknown_token_id", GGUF_I64, find(words, STR("[UNK]")));
    gguf_put_int(w, "tokenizer.ggml.bos_token_id", GGUF_I64, cls);
    gguf_put_int(w, "tokenizer.ggml.eos_token_id", GGUF_I64, sep);
    gguf_put_bool(w, "tokenizer.ggml.add_bos_token", cls >= 0);
    gguf_put_bool(w, "tokenizer.ggml.add_eos_token", sep >= 0);
    struct tokenizer *t = finish(w, &err);
    if (!t)
        fail_msg("%s", err.msg);
    return t;
}

static void encode(const struct tokenizer *t, struct str text, struct encode_options options, struct token_list *out)
{
    struct error err = {0};
    if (!tokenizer_encode(t, text, options, out, &err))
        fail_msg("%s", err.msg);
}

/* ---- vectors ---- */

static void parse_ids(struct str field, struct token_list *out)
{
    struct error err = {0};
    struct str part;
    int64_t id = 0;
    out->n = 0;
    while (!str_eq(field, STR("-")) && str_split(&field, ',', &part)) {
        assert_true(str_to_i64(part, &id));
        assert_true(array_reserve(&out->ids, &out->cap, out->n + 1, LIMIT_CONTEXT, "ids", &err));
        out->ids[out->n++] = (int32_t)id;
    }
}

static void check_encode(const struct tokenizer *t, struct str text, struct encode_options options,
                         const struct token_list *want)
{
    struct token_list got = {0};
    encode(t, text, options, &got);
    bool same = got.n == want->n;
    for (size_t i = 0; i < got.n || i < want->n; i++) {
        same = same && got.ids[i] == want->ids[i];
        if (!same)
            print_error("  %d want %d\n", i < got.n ? (int)got.ids[i] : -1, i < want->n ? (int)want->ids[i] : -1);
    }
    if (!same)
        fail_msg("ids of '" STR_FMT "' differ", STR_ARG(text));
    token_list_release(&got);
}

/* At once, and token by token into buffers of their own. */
static void check_decode(const struct tokenizer *t, struct str text, bool skip, const struct token_list *ids)
{
    struct buf whole, streamed, part;
    struct detokenizer d;
    buf_init(&whole, MIB(1));
    buf_init(&streamed, MIB(1));
    buf_init(&part, MIB(1));
    tokenizer_decode(t, ids->ids, ids->n, skip, &whole);
    if (!str_eq(buf_view(&whole), text))
        fail_msg("decoded '" STR_FMT "', want '" STR_FMT "'", STR_ARG(buf_view(&whole)), STR_ARG(text));
    detokenizer_init(&d, t, skip, false);
    for (size_t i = 0; i < ids->n; i++) {
        buf_clear(&part);
        detokenizer_feed(&d, ids->ids[i], &part);
        buf_append(&streamed, buf_view(&part));
    }
    detokenizer_finish(&d, &streamed);
    assert_true(str_eq(buf_view(&streamed), text));
    buf_release(&whole);
    buf_release(&streamed);
    buf_release(&part);
}

struct run {
    struct vector_file v;
    struct words words;
    struct tokenizer *t;
    size_t n_encoded, n_decoded, n_tokenizers;
};

static char *text_of(const struct vector_file *v, size_t field, struct str *out)
{
    size_t size = 0;
    char *bytes = str_eq(v->fields[field], STR("-")) ? NULL : vector_file_bytes(v, field, &size);
    *out = bytes ? (struct str){bytes, size} : STR("");
    return bytes;
}

static void forget_words(struct words *words)
{
    for (size_t i = 0; i < words->n; i++)
        free((char *)words->pieces[i].ptr);
    words->n = 0;
}

static void add_word(struct run *r)
{
    struct words *words = &r->words;
    int64_t type = 0;
    assert_true(words->n < MAX_TOKENS && str_to_i64(r->v.fields[1], &type));
    words->types[words->n] = (int32_t)type;
    (void)text_of(&r->v, 2, &words->pieces[words->n++]);
}

static void change_tokenizer(struct run *r)
{
    struct options o;
    int64_t *const slots[] = {&o.lowercase, &o.strip_accents, &o.clean_text, &o.chinese_chars, &o.max_chars};
    for (size_t i = 0; i < ARRAY_LEN(slots); i++)
        assert_true(str_to_i64(r->v.fields[i + 1], slots[i]));
    tokenizer_free(r->t);
    r->t = make(&r->words, &o);
    r->n_tokenizers++;
}

static void check_case(struct run *r)
{
    struct str kind = r->v.fields[0], text;
    struct token_list ids = {0};
    bool framed = str_eq(kind, STR("framed")), special = framed || str_eq(kind, STR("special"));
    assert_non_null(r->t);
    char *bytes = text_of(&r->v, 1, &text);
    parse_ids(r->v.fields[2], &ids);
    if (special || str_eq(kind, STR("plain"))) {
        check_encode(r->t, text, (struct encode_options){.add_special = framed, .parse_special = special}, &ids);
        r->n_encoded++;
    } else {
        bool skip = str_eq(kind, STR("skip"));
        assert_true(skip || str_eq(kind, STR("decode")));
        check_decode(r->t, text, skip, &ids);
        r->n_decoded++;
    }
    token_list_release(&ids);
    free(bytes);
}

static void test_vectors(void **state)
{
    (void)state;
    static struct run r;
    char prefix[32];
    vector_file_open(&r.v, VECTORS);
    while (vector_file_next(&r.v)) {
        struct str kind = r.v.fields[0];
        if (str_eq(kind, STR("vocab"))) {
            forget_words(&r.words);
            struct str given = str_eq(r.v.fields[1], STR("-")) ? STR("") : r.v.fields[1];
            assert_true(given.len <= sizeof prefix);
            memcpy(prefix, given.ptr, given.len);
            r.words.prefix = (struct str){prefix, given.len};
        } else if (str_eq(kind, STR("token"))) {
            add_word(&r);
        } else if (str_eq(kind, STR("options"))) {
            change_tokenizer(&r);
        } else {
            check_case(&r);
        }
    }
    print_message("%zu tokenizers, %zu texts, %zu decoded\n", r.n_tokenizers, r.n_encoded, r.n_decoded);
    assert_true(r.n_tokenizers == 7 && r.n_encoded >= 300 && r.n_decoded >= 150);
    tokenizer_free(r.t);
    forget_words(&r.words);
    vector_file_close(&r.v);
}

/* ---- by hand ---- */

static const struct words small = {.pieces = {{"[UNK]", 5}, {"a", 1}, {"##a", 3}, {"##b", 3}, {"[CLS]", 5}},
                                   .types = {2, 1, 1, 1, 3},
                                   .n = 5,
                                   .prefix = {"##", 2}};

static void test_questions(void **state)
{
    (void)state;
    struct tokenizer *t = make(&small, &plain_options);
    const struct special_tokens *s = tokenizer_special(t);
    assert_string_equal(tokenizer_model_name(t), "wordpiece");
    assert_string_equal(tokenizer_pre_name(t), "default");
    assert_int_equal(s->unk, 0);
    assert_int_equal(s->bos, 4);
    assert_int_equal(s->eos, -1);
    assert_int_equal(s->pad, -1);
    assert_true(s->add_bos);
    assert_false(s->add_eos);
    assert_true(str_eq(tokenizer_piece(t, 2), STR("##a")));
    assert_true(str_eq(tokenizer_bytes(t, 2), STR("a")));
    assert_true(str_eq(tokenizer_bytes(t, 1), STR(" a")));
    tokenizer_free(t);
}

/* Without keys: lower case, no accents, words of 100 characters, the unknown token by its type, nothing around. */
static void test_defaults(void **state)
{
    (void)state;
    struct error err = {0};
    struct token_list ids = {0};
    struct gguf_writer *w = gguf_writer_create();
    gguf_put_str(w, "tokenizer.ggml.model", STR("wordpiece"));
    gguf_put_str_array(w, "tokenizer.ggml.tokens", small.pieces, small.n);
    gguf_put_array(w, "tokenizer.ggml.token_type", GGUF_I32, small.types, small.n);
    struct tokenizer *t = finish(w, &err);
    assert_non_null(t);
    assert_int_equal(tokenizer_special(t)->eos, -1);
    encode(t,
           STR("\xC3\x80"
               "B c"),
           (struct encode_options){.add_special = true}, &ids);
    assert_int_equal(ids.n, 3);
    assert_int_equal(ids.ids[0], 1);
    assert_int_equal(ids.ids[1], 3);
    assert_int_equal(ids.ids[2], 0);
    token_list_release(&ids);
    tokenizer_free(t);
}

static void test_without_unknown_token(void **state)
{
    (void)state;
    struct words words = small;
    struct token_list ids = {0};
    words.pieces[0] = STR("c");
    words.types[0] = 1;
    struct tokenizer *t = make(&words, &plain_options);
    encode(t, STR("ab xyz a axb"), (struct encode_options){0}, &ids);
    assert_int_equal(ids.n, 3); /* what has no pieces is dropped */
    assert_int_equal(ids.ids[0], 1);
    assert_int_equal(ids.ids[1], 3);
    assert_int_equal(ids.ids[2], 1);
    token_list_release(&ids);
    tokenizer_free(t);
}

static void test_broken_metadata(void **state)
{
    (void)state;
    static const struct {
        struct options options;
        size_t prefix;
        enum error_code code;
    } cases[] = {{{1, 1, 1, 1, 0}, 2, ERR_FORMAT},
                 {{1, 1, 1, 1, -1}, 2, ERR_FORMAT},
                 {{1, 1, 1, 1, 1000001}, 2, ERR_FORMAT},
                 {{1, 1, 1, 1, 100}, 33, ERR_UNSUPPORTED}};
    static const char hashes[] = "#################################";
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct error err = {0};
        struct words words = small;
        struct gguf_writer *w = gguf_writer_create();
        words.prefix = (struct str){hashes, cases[i].prefix};
        put_words(w, &words, &cases[i].options);
        assert_null(finish(w, &err));
        assert_int_equal(err.code, cases[i].code);
        assert_true(err.msg[0] != 0);
    }
}

static void test_too_many_tokens_leave_the_list(void **state)
{
    (void)state;
    struct tokenizer *t = make(&small, &plain_options);
    struct token_list ids = {.max = 4};
    struct error err = {0};
    encode(t, STR("a"), (struct encode_options){0}, &ids);
    assert_false(tokenizer_encode(t, STR("a a abab"), (struct encode_options){0}, &ids, &err));
    assert_int_equal(err.code, ERR_TOO_LARGE);
    assert_int_equal(ids.n, 1);
    token_list_release(&ids);
    tokenizer_free(t);
}

static void test_invalid_utf8(void **state)
{
    (void)state;
    struct tokenizer *t = make(&small, &plain_options);
    struct token_list ids = {0};
    encode(t, STR("a\xFF\xC3 \xF0\x9F"), (struct encode_options){0}, &ids);
    assert_int_equal(ids.n, 1); /* U+FFFD is cleaned away */
    assert_int_equal(ids.ids[0], 1);
    token_list_release(&ids);
    tokenizer_free(t);
}

/* One word of a hundred thousand characters over pieces that share all but their last byte: each place tries the
 * longest. */
static void test_long_word(void **state)
{
    (void)state;
    enum { CHARS = 100000, LONG = 1024 };
    static char text[CHARS], piece[LONG + 2];
    struct words words = small;
    struct token_list ids = {.max = CHARS};
    const struct options options = {0, 0, 0, 0, CHARS};
    memset(text, 'a', sizeof text);
    memset(piece, 'a', sizeof piece);
    memcpy(piece, "##", 2);
    piece[LONG - 1] = 'b';
    words.pieces[words.n] = (struct str){piece, LONG};
    words.types[words.n++] = 1;
    struct tokenizer *t = make(&words, &options);
    encode(t, (struct str){text, CHARS}, (struct encode_options){0}, &ids);
    assert_int_equal(ids.n, CHARS);
    assert_int_equal(ids.ids[0], 1);
    assert_int_equal(ids.ids[CHARS - 1], 2);
    token_list_release(&ids);
    tokenizer_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),         cmocka_unit_test(test_questions),
        cmocka_unit_test(test_defaults),        cmocka_unit_test(test_without_unknown_token),
        cmocka_unit_test(test_broken_metadata), cmocka_unit_test(test_too_many_tokens_leave_the_list),
        cmocka_unit_test(test_invalid_utf8),    cmocka_unit_test(test_long_word),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
