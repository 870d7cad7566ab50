/* Folders as models: metadata from JSON files, templates and their precedence, shards with an index, grouped tensors
 * with what config.json says of them, on disk and in memory. */
#include "tensor/model_folder.h"

#include "base/limits.h"
#include "base/sys_file.h"
#include "tensor/safetensors_writer.h"
#include "tests/support/temp_dir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <unistd.h>

/* ---- building folders ---- */

#define MAX_FILES 80

struct folder_of { /* a folder in memory */
    struct model_folder_file files[MAX_FILES];
    size_t n;
    struct buf owned[8]; /* safetensors files */
    size_t n_owned;
    struct error err;
};

static void put(struct folder_of *d, const char *name, const char *text)
{
    for (size_t i = 0; i < d->n; i++) {
        if (strcmp(d->files[i].name, name) == 0) {
            d->files[i].content = str_of(text);
            return;
        }
    }
    assert_true(d->n < MAX_FILES);
    d->files[d->n++] = (struct model_folder_file){name, str_of(text)};
}

static const uint8_t bytes[4096] = {7, 1, 2, 3, 4, 5, 0x3c, 0x3f, 0x40};

struct piece { /* one tensor of a file; its bytes are those of `bytes` */
    const char *name;
    enum dtype type;
    uint64_t shape[TENSOR_MAX_DIMS]; /* up to the first zero */
};

static struct buf make_safetensors(const struct piece *pieces, size_t n)
{
    struct error err = {0};
    struct buf out;
    struct safetensors_writer *w = safetensors_writer_create();
    assert_non_null(w);
    for (size_t i = 0; i < n; i++) {
        struct gguf_tensor t = {.name = pieces[i].name, .type = pieces[i].type, .data = bytes};
        for (; t.n_dims < TENSOR_MAX_DIMS && pieces[i].shape[t.n_dims]; t.n_dims++)
            t.shape[t.n_dims] = pieces[i].shape[t.n_dims];
        safetensors_add_tensor(w, &t);
    }
    buf_init(&out, MIB(1));
    assert_true(safetensors_write_buf(w, &out, &err));
    safetensors_writer_free(w);
    return out;
}

static void put_tensors(struct folder_of *d, const char *name, const struct piece *pieces, size_t n)
{
    struct buf *b = &d->owned[d->n_owned++];
    *b = make_safetensors(pieces, n);
    put(d, name, "");
    d->files[d->n - 1].content = buf_view(b);
}

static const struct piece norm = {"norm.weight", DTYPE_F32, {8}};

static int setup(void **state)
{
    struct folder_of *d = calloc(1, sizeof(*d));
    assert_non_null(d);
    put(d, "config.json", "{}");
    *state = d;
    return 0;
}

static int teardown(void **state)
{
    struct folder_of *d = *state;
    for (size_t i = 0; i < d->n_owned; i++)
        buf_release(&d->owned[i]);
    free(d);
    return 0;
}

static struct model_file *must_open(struct folder_of *d)
{
    d->err = (struct error){0};
    struct model_file *f = model_folder_open_memory(d->files, d->n, &d->err);
    if (!f)
        fail_msg("%s", d->err.msg);
    return f;
}

static void must_fail(struct folder_of *d, enum error_code code, const char *mention)
{
    d->err = (struct error){0};
    struct model_file *f = model_folder_open_memory(d->files, d->n, &d->err);
    if (f)
        fail_msg("opened, although: %s", mention);
    if (d->err.code != code || !strstr(d->err.msg, mention))
        fail_msg("\"%s\" (%s) is not a %s that mentions \"%s\"", d->err.msg, error_info(d->err.code)->name,
                 error_info(code)->name, mention);
}

static void must_be_str(const struct model_file *f, const char *key, const char *expected)
{
    struct meta_value v = meta_get(f, key);
    if (v.type != META_STRING || !str_eq(v.s, str_of(expected)))
        fail_msg("%s is '" STR_FMT "' instead of '%s'", key, STR_ARG(v.s), expected);
}

/* ---- metadata ---- */

static void json_becomes_metadata(void **state)
{
    struct folder_of *d = *state;
    struct error err = {0};
    put_tensors(d, "model.safetensors", &norm, 1);
    put(d, "config.json",
        "{\"hidden_size\":64,\"eps\":1e-5,\"tie\":false,\"model_type\":\"llama\",\"nothing\":null,"
        "\"rope_scaling\":{\"factor\":8.0,\"long\":[1,1.5,2],\"deep\":{\"er\":-3}},\"layer_types\":[\"a\",\"b\"],"
        "\"windows\":[1,2,3],\"flags\":[true,false],\"none\":[],\"mixed\":[1,\"a\"],\"nulls\":[null],"
        "\"objects\":[{\"x\":1},2,{\"x\":\"two\"}],\"nested\":[[1,2],[],[[\"z\"]]],"
        "\"wide\":1000000000000000019884624838656,\"a key\":\"\"}");
    put(d, "generation_config.json", "{\"eos_token_id\":[1,2]}");
    put(d, "tokenizer_config.json", "{\"bos_token\":{\"content\":\"<s>\"}}");
    struct model_file *f = must_open(d);
    int64_t i;
    double x;
    bool yes;
    struct str s;
    assert_true(model_file_is_folder(f) && model_file_version(f) == 0);
    assert_true(meta_int(f, "config.hidden_size", 1, 100, &i, &err) && i == 64);
    assert_true(meta_float_or(f, "config.eps", 0, &x, &err) && x == 1e-5);
    assert_true(meta_float_or(f, "config.wide", 0, &x, &err) && x == 1000000000000000019884624838656.0);
    assert_true(meta_bool_or(f, "config.tie", true, &yes, &err) && !yes);
    must_be_str(f, "config.model_type", "llama");
    must_be_str(f, "config.a key", "");
    assert_true(meta_float_or(f, "config.rope_scaling.factor", 0, &x, &err) && x == 8);
    assert_true(meta_int(f, "config.rope_scaling.deep.er", -9, 9, &i, &err) && i == -3);
    assert_true(meta_int(f, "config.objects.0.x", 0, 9, &i, &err) && i == 1);
    must_be_str(f, "config.objects.2.x", "two");
    must_be_str(f, "tokenizer_config.bos_token.content", "<s>");
    struct meta_value v = meta_get(f, "config.layer_types");
    assert_true(v.type == META_ARRAY && v.item_type == META_STRING && v.n == 2);
    assert_true(meta_array_str(&v, 1, &s) && str_eq(s, STR("b")) && !meta_array_int(&v, 0, &i));
    v = meta_get(f, "config.windows");
    assert_true(v.n == 3 && meta_array_int(&v, 2, &i) && i == 3 && !meta_array_float(&v, 0, &x));
    v = meta_get(f, "config.rope_scaling.long");
    assert_true(v.n == 3 && meta_array_float(&v, 0, &x) && x == 1 && meta_array_float(&v, 1, &x) && x == 1.5);
    v = meta_get(f, "config.flags");
    assert_true(v.n == 2 && meta_array_bool(&v, 0, &yes) && yes && meta_array_bool(&v, 1, &yes) && !yes);
    v = meta_get(f, "config.nested.0");
    assert_true(v.n == 2 && meta_array_int(&v, 1, &i) && i == 2);
    v = meta_get(f, "config.nested.2.0");
    assert_true(v.n == 1 && meta_array_str(&v, 0, &s) && str_eq(s, STR("z")));
    v = meta_get(f, "generation_config.eos_token_id");
    assert_true(v.n == 2 && meta_array_int(&v, 1, &i) && i == 2);
    static const char *const absent[] = {"config.nothing", "config.none",     "config.mixed",        "config.nulls",
                                         "config.objects", "config.nested",   "config.rope_scaling", "config",
                                         "hidden_size",    "config.nested.1", "config.objects.1"};
    for (size_t k = 0; k < sizeof(absent) / sizeof(absent[0]); k++)
        assert_int_equal(meta_get(f, absent[k]).type, META_NONE);
    assert_int_equal(model_file_n_meta(f), 18);
    model_file_close(f);
}

static void json_that_is_not_sound_is_refused(void **state)
{
    struct folder_of *d = *state;
    static const struct {
        const char *text, *mention;
    } cases[] = {
        {"", "config.json: the JSON is invalid"},
        {"[1]", "config.json: The JSON is array instead of an object"},
        {"{\"a\":1,}", "config.json: the JSON is invalid at line 1, column 8"},
        {"{\"a\":1,\"a\":2}", "duplicate key 'a'"},
        {"{\"a\":NaN}", "config.json: the JSON is invalid"},
        {"{\"a\":\"\xff\"}", "not valid UTF-8"},
        {"{\"a\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}", "nested deeper than 32"},
        {"{\"a\":{\"b\":1},\"a.b\":2}", "the metadata key 'config.a.b' twice"},
    };
    put_tensors(d, "model.safetensors", &norm, 1);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        put(d, "config.json", cases[i].text);
        must_fail(d, ERR_FORMAT, cases[i].mention);
    }
    put(d, "config.json", "{}");
    put(d, "tokenizer_config.json", "{\"a\":}");
    must_fail(d, ERR_FORMAT, "tokenizer_config.json: the JSON is invalid");
    put(d, "tokenizer_config.json", "{}");
    put(d, "generation_config.json", "null");
    must_fail(d, ERR_FORMAT, "generation_config.json: The JSON is null");
}

/* Long paths of many members would need memory in the square of the file. */
static void paths_are_bounded(void **state)
{
    struct folder_of *d = *state;
    struct buf text;
    put_tensors(d, "model.safetensors", &norm, 1);
    buf_init(&text, MIB(1));
    buf_puts(&text, "{\"");
    for (int i = 0; i < 5000; i++)
        buf_putc(&text, 'k');
    buf_puts(&text, "\":1}");
    put(d, "config.json", text.data);
    must_fail(d, ERR_TOO_LARGE, "path of a metadata key");
    buf_release(&text);
}

static void documents_are_there_as_they_are(void **state)
{
    struct folder_of *d = *state;
    put_tensors(d, "model.safetensors", &norm, 1);
    put(d, "tokenizer.json", "this is not read here");
    struct model_file *f = must_open(d);
    assert_true(str_eq(model_file_document(f, "tokenizer.json"), STR("this is not read here")));
    assert_true(str_eq(model_file_document(f, "config.json"), STR("{}")));
    assert_int_equal(model_file_document(f, "generation_config.json").len, 0);
    assert_int_equal(model_file_document(f, "model.safetensors").len, 0);
    model_file_close(f);
}

static void overrides_take_the_place_of_metadata(void **state)
{
    struct folder_of *d = *state;
    struct error err = {0};
    int64_t i;
    double x;
    uint8_t before[32], after[32];
    put_tensors(d, "model.safetensors", &norm, 1);
    put(d, "config.json", "{\"rope_theta\":10000,\"n\":3,\"name\":\"x\"}");
    struct model_file *f = must_open(d);
    model_file_digest(f, before);
    assert_true(model_file_override(f, "config.n=int:4", &err));
    assert_true(model_file_override(f, "config.rope_theta=float:5e5", &err)); /* JSON wrote it without a point */
    assert_true(model_file_override(f, "config.new=str:y", &err));
    assert_true(meta_int(f, "config.n", 0, 9, &i, &err) && i == 4);
    assert_true(meta_float_or(f, "config.rope_theta", 0, &x, &err) && x == 5e5);
    must_be_str(f, "config.new", "y");
    model_file_digest(f, after);
    assert_memory_not_equal(before, after, 32);
    assert_false(model_file_override(f, "config.name=int:4", &err));
    assert_false(model_file_override(f, "config.quantization.bits=int:4", &err));
    assert_non_null(strstr(err.msg, "cannot be overridden"));
    model_file_close(f);
}

static void the_digest_knows_every_part(void **state)
{
    struct folder_of *d = *state;
    uint8_t first[32], other[32];
    static const char *const changes[][2] = {
        {"config.json", "{ }"}, {"tokenizer.json", "y"}, {"chat_template.jinja", "z"}};
    put_tensors(d, "model.safetensors", &norm, 1);
    put(d, "tokenizer.json", "x");
    struct model_file *f = must_open(d);
    model_file_digest(f, first);
    model_file_close(f);
    for (size_t i = 0; i < 3; i++) {
        put(d, changes[i][0], changes[i][1]);
        f = must_open(d);
        model_file_digest(f, other);
        model_file_close(f);
        assert_memory_not_equal(first, other, 32);
        memcpy(first, other, 32);
    }
    d->owned[0].data[d->owned[0].len - 1] ^= 1;
    f = must_open(d);
    model_file_digest(f, other);
    model_file_close(f);
    assert_memory_not_equal(first, other, 32);
}

/* ---- templates ---- */

static void templates_have_one_place(void **state)
{
    struct folder_of *d = *state;
    put_tensors(d, "model.safetensors", &norm, 1);
    struct model_file *f = must_open(d);
    assert_int_equal(meta_get(f, "tokenizer.chat_template").type, META_NONE);
    model_file_close(f);

    put(d, "tokenizer_config.json", "{\"chat_template\":\"from tokenizer_config\"}");
    f = must_open(d);
    must_be_str(f, "tokenizer.chat_template", "from tokenizer_config");
    must_be_str(f, "tokenizer_config.chat_template", "from tokenizer_config");
    model_file_close(f);

    put(d, "tokenizer_config.json",
        "{\"chat_template\":[{\"name\":\"rag\",\"template\":\"R\"},{\"name\":\"default\",\"template\":\"D\"}]}");
    f = must_open(d);
    must_be_str(f, "tokenizer.chat_template", "D");
    must_be_str(f, "tokenizer.chat_template.rag", "R");
    model_file_close(f);

    put(d, "chat_template.json", "{\"chat_template\":\"from chat_template.json\"}");
    f = must_open(d);
    must_be_str(f, "tokenizer.chat_template", "from chat_template.json");
    assert_int_equal(meta_get(f, "tokenizer.chat_template.rag").type, META_NONE);
    model_file_close(f);

    put(d, "chat_template.jinja", "from chat_template.jinja");
    put(d, "additional_chat_templates/tool_use.jinja", "T");
    put(d, "additional_chat_templates/.hidden.jinja", "H");
    put(d, "additional_chat_templates/notes.txt", "N");
    put(d, "additional_chat_templates/deep/er.jinja", "E");
    f = must_open(d);
    must_be_str(f, "tokenizer.chat_template", "from chat_template.jinja");
    must_be_str(f, "tokenizer.chat_template.tool_use", "T");
    must_be_str(f, "tokenizer_config.chat_template.0.name", "rag");
    assert_int_equal(model_file_document(f, "additional_chat_templates/notes.txt").len, 0);
    assert_int_equal(model_file_n_meta(f), 6);
    model_file_close(f);
}

static void bad_templates_are_refused(void **state)
{
    struct folder_of *d = *state;
    static const struct {
        const char *text, *mention;
    } cases[] = {
        {"{\"chat_template\":1}", "integer instead of a string or a list"},
        {"{\"chat_template\":[\"x\"]}", "not an object with name and template"},
        {"{\"chat_template\":[{\"name\":\"a\"}]}", "not an object with name and template"},
        {"{\"chat_template\":[{\"name\":\"a\",\"template\":\"\"},{\"name\":\"a\",\"template\":\"\"}]}", "twice"},
        {"{\"chat_template\":{\"a\":1}}", "'a' is integer"},
        {"{\"chat_template\":[{\"name\":\"a\\u0000b\",\"template\":\"\"}]}", "not valid text"},
    };
    char name[MAX_FILES][64];
    put_tensors(d, "model.safetensors", &norm, 1);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        put(d, "tokenizer_config.json", cases[i].text);
        must_fail(d, ERR_FORMAT, cases[i].mention);
    }
    put(d, "chat_template.jinja", "\xff");
    must_fail(d, ERR_FORMAT, "not valid text");
    for (int i = 0; i < 65; i++) {
        snprintf(name[i], sizeof(name[i]), "additional_chat_templates/%d.jinja", i);
        put(d, name[i], "x");
    }
    must_fail(d, ERR_TOO_LARGE, "more than 64 files *.jinja");
}

/* ---- files with tensors ---- */

static void tensors_come_from_one_file_or_from_shards(void **state)
{
    struct folder_of *d = *state;
    static const struct piece a[] = {{"a", DTYPE_F32, {2}}, {"b", DTYPE_U8, {3}}}, c = {"c", DTYPE_F16, {2, 2}};
    must_fail(d, ERR_NOT_FOUND, "no *.safetensors");
    put_tensors(d, "weights.safetensors", &norm, 1);
    struct model_file *f = must_open(d);
    assert_non_null(model_file_tensor(f, "norm.weight"));
    model_file_close(f);

    put_tensors(d, "more.safetensors", &c, 1);
    must_fail(d, ERR_FORMAT, "2 *.safetensors files, but no model.safetensors.index.json");

    put_tensors(d, "m-00002-of-00002.safetensors", &c, 1);
    put_tensors(d, "m-00001-of-00002.safetensors", a, 2);
    put(d, "model.safetensors.index.json",
        "{\"metadata\":{\"total_size\":1},\"weight_map\":{\"c\":\"m-00002-of-00002.safetensors\","
        "\"a\":\"m-00001-of-00002.safetensors\",\"b\":\"m-00001-of-00002.safetensors\"}}");
    f = must_open(d);
    assert_int_equal(model_file_n_tensors(f), 3);
    assert_true(str_eq(model_file_tensor_at(f, 0)->name, STR("a"))); /* shards by name */
    assert_int_equal(model_file_tensor(f, "c")->shape[1], 2);
    assert_int_equal(model_file_size(f), d->owned[2].len + d->owned[3].len);
    model_file_close(f);

    put_tensors(d, "model.safetensors", &norm, 1); /* comes before an index */
    f = must_open(d);
    assert_int_equal(model_file_n_tensors(f), 1);
    model_file_close(f);
}

static void a_wrong_index_is_refused(void **state)
{
    struct folder_of *d = *state;
    static const struct piece a[] = {{"a", DTYPE_F32, {2}}, {"b", DTYPE_U8, {3}}}, c = {"c", DTYPE_F16, {2, 2}};
    static const struct {
        const char *text;
        enum error_code code;
        const char *mention;
    } cases[] = {
        {"{", ERR_FORMAT, "model.safetensors.index.json: the JSON is invalid"},
        {"{}", ERR_FORMAT, "weight_map is null"},
        {"{\"weight_map\":[]}", ERR_FORMAT, "weight_map is array"},
        {"{\"weight_map\":{}}", ERR_FORMAT, "weight_map is empty"},
        {"{\"weight_map\":{\"a\":1}}", ERR_FORMAT, "'a' is given no valid file name"},
        {"{\"weight_map\":{\"a\":\"../x.safetensors\"}}", ERR_FORMAT, "no valid file name"},
        {"{\"weight_map\":{\"a\":\"/x.safetensors\"}}", ERR_FORMAT, "no valid file name"},
        {"{\"weight_map\":{\"a\":\"x\\\\y.safetensors\"}}", ERR_FORMAT, "no valid file name"},
        {"{\"weight_map\":{\"a\":\"x\\u0000.safetensors\"}}", ERR_FORMAT, "no valid file name"},
        {"{\"weight_map\":{\"a\":\".safetensors\"}}", ERR_FORMAT, "no valid file name"},
        {"{\"weight_map\":{\"a\":\"config.json\"}}", ERR_FORMAT, "no valid file name"},
        {"{\"weight_map\":{\"a\":\"none.safetensors\"}}", ERR_NOT_FOUND, "none.safetensors"},
        {"{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"1.safetensors\",\"c\":\"1.safetensors\"}}", ERR_FORMAT,
         "has 3 tensors, but the shards have 2"},
        {"{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"2.safetensors\",\"c\":\"2.safetensors\"}}", ERR_FORMAT,
         "tensor 'b' in '2.safetensors', but that file does not hold it"},
        {"{\"weight_map\":{\"a\":\"1.safetensors\",\"d\":\"1.safetensors\",\"c\":\"2.safetensors\"}}", ERR_FORMAT,
         "tensor 'd' in '1.safetensors'"},
        {"{\"weight_map\":{\"a\":\"1.safetensors\",\"c\":\"2.safetensors\"}}", ERR_FORMAT, "has 2 tensors"},
        {"{\"weight_map\":{\"a\":\"1.safetensors\",\"c\":\"3.safetensors\"}}", ERR_FORMAT, "'a' twice"},
    };
    put_tensors(d, "1.safetensors", a, 2);
    put_tensors(d, "2.safetensors", &c, 1);
    put_tensors(d, "3.safetensors", a, 1);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        put(d, "model.safetensors.index.json", cases[i].text);
        must_fail(d, cases[i].code, cases[i].mention);
    }
    d->owned[1].data[0] = 127;
    put(d, "model.safetensors.index.json", "{\"weight_map\":{\"c\":\"2.safetensors\"}}");
    must_fail(d, ERR_FORMAT, "2.safetensors: ");
}

/* ---- grouped tensors ---- */

struct grouping {
    const char *config; /* of "quantization" */
    struct piece pieces[3];
    int n;
    enum group_mode mode; /* what comes out ... */
    int bits, group_size;
    uint64_t k;
    const char *mention; /* ... or of the refusal */
    enum error_code code;
};

#define CODES(cols)            \
    {                          \
        "m.weight", DTYPE_U32, \
        {                      \
            2, cols            \
        }                      \
    }
#define SCALES(type, cols)        \
    {                             \
        "m.scales", DTYPE_##type, \
        {                         \
            2, cols               \
        }                         \
    }
#define BIASES(type, cols)        \
    {                             \
        "m.biases", DTYPE_##type, \
        {                         \
            2, cols               \
        }                         \
    }
#define AFFINE(codes, n) {CODES(codes), SCALES(F16, n), BIASES(F16, n)}, 3
#define FLOAT(codes, n)  {CODES(codes), SCALES(U8, n)}, 2
#define FORMAT(mention)  0, 0, 0, 0, mention, ERR_FORMAT

/* k is 128 wherever it can be: 4 * bits codes. */
static const struct grouping groupings[] = {
    {"{\"group_size\":64,\"bits\":4}", AFFINE(16, 2), GROUP_AFFINE, 4, 64, 128, NULL, 0},
    {"{\"group_size\":32,\"bits\":4,\"mode\":\"affine\"}", AFFINE(16, 4), GROUP_AFFINE, 4, 32, 128, NULL, 0},
    {"{\"group_size\":128,\"bits\":4}", AFFINE(16, 1), GROUP_AFFINE, 4, 128, 128, NULL, 0},
    {"{\"group_size\":64,\"bits\":2}", AFFINE(8, 2), GROUP_AFFINE, 2, 64, 128, NULL, 0},
    {"{\"group_size\":64,\"bits\":3}", AFFINE(12, 2), GROUP_AFFINE, 3, 64, 128, NULL, 0},
    {"{\"group_size\":64,\"bits\":5}", AFFINE(20, 2), GROUP_AFFINE, 5, 64, 128, NULL, 0},
    {"{\"group_size\":64,\"bits\":6}", AFFINE(24, 2), GROUP_AFFINE, 6, 64, 128, NULL, 0},
    {"{\"group_size\":64,\"bits\":8}", AFFINE(32, 2), GROUP_AFFINE, 8, 64, 128, NULL, 0},
    {"{\"group_size\":32,\"bits\":4,\"mode\":\"mxfp4\"}", FLOAT(16, 4), GROUP_MXFP4, 4, 32, 128, NULL, 0},
    {"{\"group_size\":32,\"bits\":8,\"mode\":\"mxfp8\"}", FLOAT(32, 4), GROUP_MXFP8, 8, 32, 128, NULL, 0},
    {"{\"group_size\":16,\"bits\":4,\"mode\":\"nvfp4\"}", FLOAT(16, 8), GROUP_NVFP4, 4, 16, 128, NULL, 0},
    {"{\"mode\":\"nvfp4\"}", FLOAT(16, 8), GROUP_NVFP4, 4, 16, 128, NULL, 0},
    /* The defaults do not suit: other bits, then other groups; U8 scales need nothing said. */
    {"{\"group_size\":64,\"bits\":4}", AFFINE(32, 2), GROUP_AFFINE, 8, 64, 128, NULL, 0},
    {"{\"group_size\":32,\"bits\":6}", AFFINE(24, 1), GROUP_AFFINE, 6, 128, 128, NULL, 0},
    {"{\"group_size\":64,\"bits\":4}", FLOAT(16, 8), GROUP_NVFP4, 4, 16, 128, NULL, 0},
    {"null", FLOAT(32, 4), GROUP_MXFP8, 8, 32, 128, NULL, 0},
    {"null", AFFINE(20, 2), GROUP_AFFINE, 5, 64, 128, NULL, 0}, /* the only one with this product */
    {"null", AFFINE(16, 2), FORMAT("'m.weight' fit no bits and group size, or several")},
    {"{\"group_size\":64,\"bits\":4}", AFFINE(14, 2), FORMAT("fit no bits")},
    {"{\"group_size\":64,\"bits\":4}", AFFINE(16, 3), FORMAT("fit no bits")},
    {"{\"group_size\":64,\"bits\":4}", FLOAT(16, 1), FORMAT("fit no bits")},
    /* A module's own entry is binding. */
    {"{\"group_size\":64,\"bits\":4,\"m\":{\"group_size\":32,\"bits\":8}}", AFFINE(32, 4), GROUP_AFFINE, 8, 32, 128,
     NULL, 0},
    {"{\"group_size\":64,\"bits\":2,\"m\":{\"group_size\":128,\"bits\":8}}", AFFINE(32, 1), GROUP_AFFINE, 8, 128, 128,
     NULL, 0},
    {"{\"group_size\":64,\"bits\":4,\"m\":{\"group_size\":32,\"bits\":4,\"mode\":\"mxfp4\"}}", FLOAT(16, 4),
     GROUP_MXFP4, 4, 32, 128, NULL, 0},
    {"{\"group_size\":64,\"bits\":4,\"m\":true}", AFFINE(16, 2), GROUP_AFFINE, 4, 64, 128, NULL, 0},
    {"{\"group_size\":64,\"bits\":4,\"m\":{\"group_size\":64,\"bits\":8}}", AFFINE(16, 2),
     FORMAT("says affine 8 bits in groups of 64, but the codes and scales of the tensor 'm.weight'")},
    {"{\"group_size\":64,\"bits\":4,\"m\":{\"group_size\":64,\"bits\":7}}", AFFINE(28, 2), FORMAT("affine 7 bits")},
    {"{\"group_size\":64,\"bits\":4,\"m\":{\"group_size\":32,\"bits\":4,\"mode\":\"mxfp4\"}}", AFFINE(16, 4),
     FORMAT("says mxfp4 4 bits")},
    {"{\"group_size\":64,\"bits\":4,\"m\":true}", AFFINE(32, 2), FORMAT("says affine 4 bits")},
    {"{\"group_size\":64,\"bits\":4,\"m\":false}", AFFINE(16, 2),
     FORMAT("'m.weight' is not quantized, but it has scales")},
    {"{\"group_size\":64,\"bits\":4,\"m\":1}", AFFINE(16, 2), FORMAT("quantization of m is integer")},
    {"{\"group_size\":64,\"bits\":4,\"m\":{\"mode\":\"q\"}}", AFFINE(16, 2), 0, 0, 0, 0, "mode 'q' of m is unknown",
     ERR_UNSUPPORTED},
    {"{\"group_size\":64,\"bits\":-4}", AFFINE(16, 2), FORMAT("bits of the quantization of the model is no sensible")},
    {"{\"group_size\":\"64\",\"bits\":4}", AFFINE(16, 2), FORMAT("group_size of the quantization")},
    {"{\"mode\":4}", AFFINE(16, 2), 0, 0, 0, 0, "mode 'integer'", ERR_UNSUPPORTED},
    {"[]", AFFINE(16, 2), FORMAT("quantization is array")},
    {"{\"quant_method\":\"bitsandbytes\",\"bits\":4}", AFFINE(16, 2), 0, 0, 0, 0, "method 'bitsandbytes'",
     ERR_UNSUPPORTED},
    /* Parts that do not fit each other. */
    {"{\"group_size\":64,\"bits\":4}",
     {CODES(16), SCALES(F16, 2)},
     2,
     FORMAT("Biases are missing of the tensor 'm.weight'")},
    {"{\"group_size\":32,\"bits\":4}",
     {CODES(16), SCALES(U8, 4), BIASES(U8, 4)},
     3,
     FORMAT("Biases lie beside the tensor 'm.weight', whose mode is mxfp4")},
    {"{\"group_size\":64,\"bits\":4}", {CODES(16), SCALES(F16, 2), BIASES(F32, 2)}, 3, FORMAT("biases of the tensor")},
    {"{\"group_size\":64,\"bits\":4}", {CODES(16), SCALES(F16, 2), BIASES(F16, 1)}, 3, FORMAT("biases of the tensor")},
    {"{\"group_size\":64,\"bits\":4}",
     {CODES(16), SCALES(F16, 2), {"m.biases", DTYPE_F16, {4}}},
     3,
     FORMAT("biases of the tensor")},
    {"{\"group_size\":64,\"bits\":4}",
     {CODES(16), {"m.scales", DTYPE_F16, {3, 2}}, BIASES(F16, 2)},
     3,
     FORMAT("scales of the tensor 'm.weight' have other rows")},
    {"{\"group_size\":64,\"bits\":4}",
     {CODES(16), {"m.scales", DTYPE_F16, {2}}, BIASES(F16, 2)},
     3,
     FORMAT("scales of the tensor 'm.weight' have other rows")},
    {"{\"group_size\":64,\"bits\":4}",
     {{"m.weight", DTYPE_U32, {16}}, {"m.scales", DTYPE_F16, {2}}, {"m.biases", DTYPE_F16, {2}}},
     3,
     FORMAT("have other rows")},
    {"{\"group_size\":64,\"bits\":4}", {CODES(16), SCALES(F64, 2), BIASES(F64, 2)}, 3, FORMAT("fit no bits")},
    {"{\"mode\":\"nvfp4\"}", FLOAT(2, 1), 0, 0, 0, 0, "16 elements, not a multiple of 32", ERR_UNSUPPORTED},
    {"{\"mode\":\"nvfp4\"}",
     {CODES(16), SCALES(U8, 8), {"m.global_scale", DTYPE_F32, {1}}},
     3,
     0,
     0,
     0,
     0,
     "global_scale",
     ERR_UNSUPPORTED},
};

static void check_grouping(struct folder_of *d, const struct grouping *c)
{
    struct model_file *f = must_open(d);
    const struct tensor_view *t = model_file_tensor(f, "m.weight");
    float row[128];
    assert_int_equal(model_file_n_tensors(f), 1);
    assert_null(model_file_tensor(f, "m.scales"));
    assert_null(model_file_tensor(f, "m.biases"));
    assert_true(t && t->type == DTYPE_GROUPED && t->n_dims == 2 && t->shape[0] == 2 && t->shape[1] == c->k);
    assert_true(t->quant.mode == c->mode && t->quant.bits == c->bits && t->quant.group_size == c->group_size);
    assert_true(t->quant.scale_type == c->pieces[1].type && t->quant.scales);
    assert_true((t->quant.biases != NULL) == (c->mode == GROUP_AFFINE));
    assert_int_equal(t->size, 2 * grouped_row_size(c->bits, c->k));
    tensor_row_to_f32(t, 1, row);
    model_file_close(f);
}

static void codes_and_scales_make_one_tensor(void **state)
{
    struct folder_of *d = *state;
    char config[256];
    for (size_t i = 0; i < sizeof(groupings) / sizeof(groupings[0]); i++) {
        const struct grouping *c = &groupings[i];
        d->n = 0;
        snprintf(config, sizeof(config), "{\"quantization%s\":%s}", i % 2 ? "_config" : "", c->config);
        put(d, "config.json", config);
        put_tensors(d, "model.safetensors", c->pieces, (size_t)c->n);
        if (c->mention)
            must_fail(d, c->code, c->mention);
        else
            check_grouping(d, c);
        buf_release(&d->owned[--d->n_owned]);
    }
}

/* As gpt-oss has its experts: mxfp4 in the order of MLX's, with an axis more. */
static void blocks_and_scales_make_one_tensor(void **state)
{
    static const struct piece good[] = {{"m_blocks", DTYPE_U8, {3, 4, 2, 16}},
                                        {"m_scales", DTYPE_U8, {3, 4, 2}},
                                        {"n_blocks", DTYPE_U8, {4}},
                                        {"o_scales", DTYPE_U8, {4}}};
    static const struct piece bad[][2] = {
        {{"m_blocks", DTYPE_U8, {3, 4, 2, 8}}, {"m_scales", DTYPE_U8, {3, 4, 2}}},
        {{"m_blocks", DTYPE_U8, {3, 4, 2, 16}}, {"m_scales", DTYPE_U8, {3, 5, 2}}},
        {{"m_blocks", DTYPE_U8, {3, 4, 2, 16}}, {"m_scales", DTYPE_U8, {3, 4, 3}}},
        {{"m_blocks", DTYPE_U8, {3, 4, 2, 16}}, {"m_scales", DTYPE_F16, {3, 4, 2}}},
        {{"m_blocks", DTYPE_U8, {4, 16}}, {"m_scales", DTYPE_U8, {4}}},
        {{"m_blocks", DTYPE_U8, {3, 4, 16}}, {"m_scales", DTYPE_U8, {3, 4, 2}}},
    };
    struct folder_of *d = *state;
    put(d, "config.json", "{\"quantization_config\":{\"quant_method\":\"mxfp4\"}}");
    put_tensors(d, "model.safetensors", good, 4);
    struct model_file *f = must_open(d);
    const struct tensor_view *t = model_file_tensor(f, "m_blocks");
    float row[64];
    assert_int_equal(model_file_n_tensors(f), 3); /* what only looks like it stays */
    assert_true(t && t->type == DTYPE_GROUPED && t->n_dims == 3);
    assert_true(t->shape[0] == 3 && t->shape[1] == 4 && t->shape[2] == 64 && t->shape[3] == 1);
    assert_true(t->quant.mode == GROUP_MXFP4 && t->quant.bits == 4 && t->quant.group_size == 32 && t->quant.scales);
    tensor_row_to_f32(t, 11, row);
    model_file_close(f);
    buf_release(&d->owned[--d->n_owned]);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        d->n = 0;
        put(d, "config.json", "{}");
        put_tensors(d, "model.safetensors", bad[i], 2);
        must_fail(d, ERR_FORMAT, "blocks of the tensor 'm_blocks'");
        buf_release(&d->owned[--d->n_owned]);
    }
}

/* In other files than their codes, of embeddings and of stacks of experts; what only looks like it stays as it is. */
static void parts_may_lie_apart(void **state)
{
    struct folder_of *d = *state;
    static const struct piece first[] = {{"e.weight", DTYPE_U32, {3, 5, 16}}, {"e.bias", DTYPE_F32, {2}},
                                         {"lone.scales", DTYPE_F16, {2}},     {"plain.weight", DTYPE_BF16, {2, 32}},
                                         {"plain.scales", DTYPE_F16, {2, 2}}, {"ids.weight", DTYPE_U32, {2, 2}},
                                         {"scales", DTYPE_F32, {1}}},
                              second[] = {{"e.biases", DTYPE_BF16, {3, 5, 2}}, {"e.scales", DTYPE_BF16, {3, 5, 2}}};
    put(d, "config.json", "{\"quantization\":{\"group_size\":64,\"bits\":4,\"e\":{\"group_size\":64,\"bits\":4}}}");
    put_tensors(d, "1.safetensors", first, 7);
    put_tensors(d, "2.safetensors", second, 2);
    put(d, "model.safetensors.index.json",
        "{\"weight_map\":{\"e.weight\":\"1.safetensors\",\"e.bias\":\"1.safetensors\",\"lone.scales\":\"1."
        "safetensors\","
        "\"plain.weight\":\"1.safetensors\",\"plain.scales\":\"1.safetensors\",\"ids.weight\":\"1.safetensors\","
        "\"scales\":\"1.safetensors\",\"e.biases\":\"2.safetensors\",\"e.scales\":\"2.safetensors\"}}");
    struct model_file *f = must_open(d);
    assert_int_equal(model_file_n_tensors(f), 7);
    const struct tensor_view *t = model_file_tensor(f, "e.weight");
    assert_true(t && t->type == DTYPE_GROUPED && t->n_dims == 3 && t->shape[1] == 5 && t->shape[2] == 128);
    assert_int_equal(t->quant.scale_type, DTYPE_BF16);
    float a[128], b[128];
    struct tensor_view expert = tensor_rows(t, 2, 1), matrix = tensor_as_matrix(t);
    expert = tensor_as_matrix(&expert);
    assert_int_equal(expert.shape[0], 5);
    tensor_row_to_f32(&expert, 4, a);
    tensor_row_to_f32(&matrix, 14, b);
    assert_memory_equal(a, b, sizeof(a));
    assert_int_equal(model_file_tensor(f, "ids.weight")->type, DTYPE_U32);
    assert_non_null(model_file_tensor(f, "plain.scales"));
    assert_non_null(model_file_tensor(f, "lone.scales"));
    model_file_close(f);
}

/* ---- on disk ---- */

static void write_file(const char *folder, const char *name, struct str content)
{
    struct error err = {0};
    char path[600];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    if (!file_write_atomic(path, content, &err))
        fail_msg("%s", err.msg);
}

static void move_behind_link(const char *folder, const char *name, const char *elsewhere)
{
    char from[600], to[600];
    snprintf(from, sizeof(from), "%s/%s", folder, name);
    snprintf(to, sizeof(to), "%s/%s", elsewhere, name);
    assert_int_equal(rename(from, to), 0);
    assert_int_equal(symlink(to, from), 0);
}

static void folders_on_disk(void **state)
{
    struct folder_of *d = *state;
    struct temp_dir dir, blobs;
    struct error err = {0};
    char templates[600], path[700];
    temp_dir_make(&dir);
    temp_dir_make(&blobs);
    assert_null(model_file_open(dir.path, &err));
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_non_null(strstr(err.msg, "holds no config.json"));
    put_tensors(d, "model.safetensors", &norm, 1);
    write_file(dir.path, "config.json", STR("{\"n\":1}"));
    write_file(dir.path, "model.safetensors", buf_view(&d->owned[0]));
    snprintf(templates, sizeof(templates), "%s/additional_chat_templates", dir.path);
    assert_true(dir_make(templates, &err));
    write_file(templates, "b.jinja", STR("B"));
    write_file(templates, "a.jinja", STR(""));
    /* As in the Hub's cache: names that are links to blobs. */
    move_behind_link(dir.path, "config.json", blobs.path);
    move_behind_link(dir.path, "model.safetensors", blobs.path);
    snprintf(path, sizeof(path), "%s//", dir.path);
    struct model_file *f = model_file_open(path, &err);
    if (!f)
        fail_msg("%s", err.msg);
    assert_string_equal(model_file_path(f), path);
    must_be_str(f, "tokenizer.chat_template.b", "B");
    must_be_str(f, "tokenizer.chat_template.a", "");
    const struct tensor_view *t = model_file_tensor(f, "norm.weight");
    assert_memory_equal(t->data, bytes, 32);
    model_file_prefetch(f, t);
    model_file_drop(f, t);
    assert_memory_equal(t->data, bytes, 32);
    model_file_close(f);
    write_file(blobs.path, "model.safetensors", STR("short"));
    assert_null(model_file_open(dir.path, &err));
    assert_non_null(strstr(err.msg, "model.safetensors: This is not a safetensors file"));
    assert_non_null(strstr(err.msg, "model folder '"));
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof(path), "%s/%s", templates, i ? "a.jinja" : "b.jinja");
        assert_int_equal(unlink(path), 0);
    }
    assert_int_equal(rmdir(templates), 0);
    temp_dir_remove(&dir);
    temp_dir_remove(&blobs);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(json_becomes_metadata),
        TEST(json_that_is_not_sound_is_refused),
        TEST(paths_are_bounded),
        TEST(documents_are_there_as_they_are),
        TEST(overrides_take_the_place_of_metadata),
        TEST(the_digest_knows_every_part),
        TEST(templates_have_one_place),
        TEST(bad_templates_are_refused),
        TEST(tensors_come_from_one_file_or_from_shards),
        TEST(a_wrong_index_is_refused),
        TEST(codes_and_scales_make_one_tensor),
        TEST(blocks_and_scales_make_one_tensor),
        TEST(parts_may_lie_apart),
        TEST(folders_on_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
