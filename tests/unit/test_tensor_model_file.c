#include "tensor/model_file.h"

#include "base/limits.h"
#include "base/sys_file.h"
#include "tensor/gguf_writer.h"
#include "tests/support/random_model.h"
#include "tests/support/temp_dir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* ---- a file with one of everything ---- */

static const float norm[8] = {1, 2, 3, 4, 5, 6, 7, 8};
static uint8_t q8_blocks[4 * 2 * 34]; /* [4, 64] */

static void add_everything(struct gguf_writer *w)
{
    static const int32_t windows[] = {-1, 4096, 7};
    static const float scales[] = {0.5f, 1.5f};
    static const uint8_t flags[] = {1, 0, 1};
    static const uint64_t wide[] = {0, INT64_MAX};
    const struct str tokens[] = {STR("<s>"), STR(""), STR("h\xc3\xa9")};
    gguf_put_str(w, "general.architecture", STR("llama"));
    gguf_put_int(w, "t.u8", GGUF_U8, 255);
    gguf_put_int(w, "t.i8", GGUF_I8, -128);
    gguf_put_int(w, "t.u16", GGUF_U16, 65535);
    gguf_put_int(w, "t.i16", GGUF_I16, -32768);
    gguf_put_int(w, "t.u32", GGUF_U32, UINT32_MAX);
    gguf_put_int(w, "t.i32", GGUF_I32, INT32_MIN);
    gguf_put_int(w, "t.u64", GGUF_U64, INT64_MAX);
    gguf_put_int(w, "t.i64", GGUF_I64, INT64_MIN);
    gguf_put_float(w, "t.f32", GGUF_F32, 0.1);
    gguf_put_float(w, "t.f64", GGUF_F64, 0.1);
    gguf_put_bool(w, "t.yes", true);
    gguf_put_bool(w, "t.no", false);
    gguf_put_array(w, "t.windows", GGUF_I32, windows, 3);
    gguf_put_array(w, "t.scales", GGUF_F32, scales, 2);
    gguf_put_array(w, "t.flags", GGUF_BOOL, flags, 3);
    gguf_put_array(w, "t.wide", GGUF_U64, wide, 2);
    gguf_put_str_array(w, "tokenizer.ggml.tokens", tokens, 3);
    gguf_put_str_array(w, "tokenizer.ggml.merges", NULL, 0);
    for (size_t i = 0; i < sizeof(q8_blocks); i++)
        q8_blocks[i] = (uint8_t)(i * 7);
    gguf_add_tensor(w, &(struct gguf_tensor){"norm", DTYPE_F32, 1, {8}, norm, NULL, NULL});
    gguf_add_tensor(w, &(struct gguf_tensor){"matrix", DTYPE_Q8_0, 2, {4, 64}, q8_blocks, NULL, NULL});
    gguf_add_tensor(w, &(struct gguf_tensor){"cube", DTYPE_F32, 4, {2, 1, 2, 2}, norm, NULL, NULL});
}

static struct buf everything(void)
{
    struct error err = {0};
    struct buf out;
    struct gguf_writer *w = gguf_writer_create();
    assert_non_null(w);
    add_everything(w);
    buf_init(&out, MIB(1));
    assert_true(gguf_write_buf(w, &out, &err));
    gguf_writer_free(w);
    return out;
}

static void check_everything(const struct model_file *f)
{
    struct error err = {0};
    struct str s;
    static const struct {
        const char *key;
        int64_t value;
    } integers[] = {{"t.u8", 255},         {"t.i8", -128},       {"t.u16", 65535},     {"t.i16", -32768},
                    {"t.u32", UINT32_MAX}, {"t.i32", INT32_MIN}, {"t.u64", INT64_MAX}, {"t.i64", INT64_MIN}};
    assert_int_equal(model_file_n_meta(f), 19);
    for (size_t i = 0; i < sizeof(integers) / sizeof(integers[0]); i++) {
        struct meta_value v = meta_get(f, integers[i].key);
        assert_int_equal(v.type, META_INT);
        assert_true(v.i == integers[i].value);
    }
    assert_true(meta_get(f, "t.f32").f == (double)0.1f && meta_get(f, "t.f64").f == 0.1);
    assert_true(meta_get(f, "t.yes").b && !meta_get(f, "t.no").b);
    assert_int_equal(meta_get(f, "t.no").type, META_BOOL);
    assert_true(meta_str(f, "general.architecture", &s, &err) && str_eq(s, STR("llama")));
    assert_true(str_eq(model_file_meta_key(f, 0), STR("general.architecture")));
    assert_int_equal(meta_get(f, "absent").type, META_NONE);
}

static void check_arrays(const struct model_file *f)
{
    int64_t i;
    double d;
    bool b;
    struct str s;
    struct meta_value v = meta_get(f, "t.windows");
    assert_true(v.type == META_ARRAY && v.item_type == META_INT && v.n == 3);
    assert_true(meta_array_int(&v, 0, &i) && i == -1);
    assert_true(meta_array_int(&v, 2, &i) && i == 7);
    assert_false(meta_array_str(&v, 0, &s) || meta_array_float(&v, 0, &d) || meta_array_bool(&v, 0, &b));
    v = meta_get(f, "t.scales");
    assert_true(v.n == 2 && meta_array_float(&v, 1, &d) && d == 1.5);
    v = meta_get(f, "t.flags");
    assert_true(v.n == 3 && meta_array_bool(&v, 0, &b) && b && meta_array_bool(&v, 1, &b) && !b);
    v = meta_get(f, "t.wide");
    assert_true(v.n == 2 && meta_array_int(&v, 1, &i) && i == INT64_MAX);
    v = meta_get(f, "tokenizer.ggml.tokens");
    assert_true(v.n == 3 && meta_array_str(&v, 1, &s) && s.len == 0);
    assert_true(meta_array_str(&v, 2, &s) && str_eq(s, STR("h\xc3\xa9")));
    v = meta_get(f, "tokenizer.ggml.merges");
    assert_true(v.type == META_ARRAY && v.item_type == META_STRING && v.n == 0);
}

static void check_tensors(const struct model_file *f)
{
    assert_int_equal(model_file_n_tensors(f), 3);
    const struct tensor_view *t = model_file_tensor(f, "matrix");
    assert_ptr_equal(t, model_file_tensor_at(f, 1));
    assert_true(t->type == DTYPE_Q8_0 && t->n_dims == 2 && t->size == sizeof(q8_blocks));
    assert_true(t->shape[0] == 4 && t->shape[1] == 64 && t->shape[2] == 1 && t->shape[3] == 1);
    assert_memory_equal(t->data, q8_blocks, sizeof(q8_blocks));
    t = model_file_tensor(f, "cube");
    assert_true(t->n_dims == 4 && t->shape[0] == 2 && t->shape[1] == 1 && t->shape[2] == 2 && t->shape[3] == 2);
    assert_memory_equal(model_file_tensor(f, "norm")->data, norm, sizeof(norm));
    assert_null(model_file_tensor(f, "nor"));
    assert_null(model_file_tensor(f, ""));
}

static void written_files_read_back(void **state)
{
    (void)state;
    struct error err = {0};
    struct buf bytes = everything();
    struct model_file *f = model_file_open_memory(bytes.data, bytes.len, &err);
    if (!f)
        fail_msg("%s", err.msg);
    assert_int_equal(model_file_version(f), 3);
    assert_int_equal(model_file_size(f), bytes.len);
    check_everything(f);
    check_arrays(f);
    check_tensors(f);
    model_file_close(f);
    buf_release(&bytes);
}

/* A copy with every value taken over from the view has the same bytes: widths are kept. */
static void values_copy_in_their_width(void **state)
{
    (void)state;
    struct error err = {0};
    struct buf bytes = everything(), copy;
    struct model_file *f = model_file_open_memory(bytes.data, bytes.len, &err);
    struct gguf_writer *w = gguf_writer_create();
    assert_true(f && w);
    copy_meta(w, f, "");
    for (size_t i = 0; i < model_file_n_tensors(f); i++) {
        const struct tensor_view *t = model_file_tensor_at(f, i);
        char name[32];
        snprintf(name, sizeof(name), STR_FMT, STR_ARG(t->name));
        struct gguf_tensor spec = {.name = name, .type = t->type, .n_dims = t->n_dims, .data = t->data};
        memcpy(spec.shape, t->shape, sizeof(spec.shape));
        gguf_add_tensor(w, &spec);
    }
    buf_init(&copy, MIB(1));
    assert_true(gguf_write_buf(w, &copy, &err));
    assert_int_equal(copy.len, bytes.len);
    assert_memory_equal(copy.data, bytes.data, bytes.len);
    buf_release(&copy);
    gguf_writer_free(w);
    model_file_close(f);
    buf_release(&bytes);
}

/* ---- hostile files ---- */

/* Opens a copy that ends where the data ends, so that the sanitizers see any read past it. NULL or a walked file. */
static bool opens(const void *data, size_t size, struct error *err)
{
    void *exact = malloc(size ? size : 1);
    assert_non_null(exact);
    memcpy(exact, data, size);
    *err = (struct error){0};
    struct model_file *f = model_file_open_memory(exact, size, err);
    float block[256];
    for (size_t i = 0; f && i < model_file_n_tensors(f); i++) {
        const struct tensor_view *t = model_file_tensor_at(f, i);
        size_t block_size = (size_t)dtype_info(t->type)->block_size;
        dtype_to_f32(t->type, (const uint8_t *)t->data + t->size - block_size, (size_t)dtype_info(t->type)->block_len,
                     block);
    }
    bool ok = f != NULL;
    assert_true(ok || (err->code != ERR_NONE && err->msg[0] != 0));
    model_file_close(f);
    free(exact);
    return ok;
}

static void truncation_anywhere_is_an_error(void **state)
{
    (void)state;
    struct error err;
    struct buf bytes = everything();
    assert_true(opens(bytes.data, bytes.len, &err)); /* the last tensor has 32 bytes: no padding behind it */
    for (size_t size = 0; size < bytes.len; size++) {
        if (opens(bytes.data, size, &err))
            fail_msg("a file cut to %zu of %zu bytes was opened", size, bytes.len);
    }
    buf_release(&bytes);
}

static void mutations_never_crash(void **state)
{
    (void)state;
    static const uint8_t values[] = {0x00, 0x01, 0x7f, 0x80, 0xff, 0x09, 0x20};
    struct error err;
    struct buf bytes = everything();
    size_t n_refused = 0;
    for (size_t i = 0; i < bytes.len; i++) {
        char old = bytes.data[i];
        for (size_t k = 0; k < sizeof(values); k++) {
            bytes.data[i] = (char)values[k];
            n_refused += !opens(bytes.data, bytes.len, &err);
        }
        bytes.data[i] = old;
    }
    assert_true(n_refused > bytes.len);
    buf_release(&bytes);
}

/* Raw pieces, for what the writer would not write. */
static void raw_u32(struct buf *b, uint32_t v)
{
    buf_append_bytes(b, &v, sizeof(v));
}

static void raw_u64(struct buf *b, uint64_t v)
{
    buf_append_bytes(b, &v, sizeof(v));
}

static void raw_str(struct buf *b, const char *s)
{
    raw_u64(b, strlen(s));
    buf_puts(b, s);
}

static void raw_header(struct buf *b, uint32_t version, uint64_t n_tensors, uint64_t n_keys)
{
    buf_clear(b);
    buf_puts(b, "GGUF");
    raw_u32(b, version);
    raw_u64(b, n_tensors);
    raw_u64(b, n_keys);
}

static void raw_key(struct buf *b, const char *key, uint32_t type)
{
    raw_str(b, key);
    raw_u32(b, type);
}

static void raw_tensor(struct buf *b, const char *name, uint64_t inner, uint64_t outer, uint32_t type, uint64_t offset)
{
    raw_str(b, name);
    raw_u32(b, 2);
    raw_u64(b, inner);
    raw_u64(b, outer);
    raw_u32(b, type);
    raw_u64(b, offset);
}

static void raw_data(struct buf *b, size_t size)
{
    while (b->len % 32 != 0)
        buf_putc(b, 0);
    for (size_t i = 0; i < size; i++)
        buf_putc(b, 1);
}

static void assert_refused(const struct buf *b, const char *mention)
{
    struct error err;
    assert_false(b->failed);
    if (opens(b->data, b->len, &err))
        fail_msg("opened, although: %s", mention);
    if (!strstr(err.msg, mention))
        fail_msg("the message \"%s\" does not mention \"%s\"", err.msg, mention);
}

static void bad_headers_are_refused(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, MIB(1));
    raw_header(&b, 3, 0, 0);
    struct error err;
    assert_true(opens(b.data, b.len, &err));
    raw_header(&b, 2, 0, 0);
    assert_true(opens(b.data, b.len, &err));
    b.data[0] = 'g';
    assert_refused(&b, "not a GGUF file");
    raw_header(&b, 1, 0, 0);
    assert_refused(&b, "version 1");
    raw_header(&b, 4, 0, 0);
    assert_refused(&b, "version 4");
    raw_header(&b, 0x03000000, 0, 0);
    assert_refused(&b, "Big-endian");
    raw_header(&b, 3, 0, UINT64_MAX);
    assert_refused(&b, "18446744073709551615 metadata keys");
    raw_header(&b, 3, UINT64_MAX, 0);
    assert_refused(&b, "18446744073709551615 tensors");
    raw_header(&b, 3, 1u << 20, 0);
    raw_data(&b, 4096);
    assert_refused(&b, "1048576 tensors");
    buf_release(&b);
}

static void bad_metadata_is_refused(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {UINT64_MAX, UINT64_MAX / 4, 1000};
    struct buf b;
    buf_init(&b, MIB(1));
    raw_header(&b, 3, 0, 1);
    raw_key(&b, "", GGUF_U32);
    raw_data(&b, 8);
    assert_refused(&b, "empty or not printable");
    raw_header(&b, 3, 0, 1);
    raw_key(&b, "two words", GGUF_U32);
    raw_data(&b, 8);
    assert_refused(&b, "empty or not printable");
    raw_header(&b, 3, 0, 2);
    for (int i = 0; i < 2; i++) {
        raw_key(&b, "twin", GGUF_U32);
        raw_u32(&b, 1);
    }
    raw_data(&b, 8);
    assert_refused(&b, "'twin' twice");
    raw_header(&b, 3, 0, 1);
    raw_key(&b, "odd", 13);
    raw_data(&b, 8);
    assert_refused(&b, "type 13 of the metadata key 'odd'");
    raw_header(&b, 3, 0, 1);
    raw_key(&b, "flag", GGUF_BOOL);
    buf_putc(&b, 2);
    assert_refused(&b, "'flag' is 2");
    raw_header(&b, 3, 0, 1);
    raw_key(&b, "wide", GGUF_U64);
    raw_u64(&b, (uint64_t)INT64_MAX + 1);
    assert_refused(&b, "beyond 63 bits");
    raw_header(&b, 3, 0, 1);
    raw_key(&b, "nested", GGUF_ARRAY);
    raw_u32(&b, GGUF_ARRAY);
    raw_u64(&b, 1);
    assert_refused(&b, "array of arrays");
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        for (uint32_t type = 0; type < GGUF_TYPE_COUNT; type++) {
            raw_header(&b, 3, 0, 1);
            raw_key(&b, "long", type == GGUF_ARRAY ? GGUF_STRING : GGUF_ARRAY);
            if (type != GGUF_ARRAY)
                raw_u32(&b, type);
            raw_u64(&b, sizes[i]);
            assert_refused(&b, "cut off");
        }
    }
    buf_release(&b);
}

static void bad_alignments_are_refused(void **state)
{
    (void)state;
    static const uint32_t bad[] = {0, 3, 48, UINT32_MAX};
    struct buf b;
    buf_init(&b, MIB(1));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        raw_header(&b, 3, 0, 1);
        raw_key(&b, GGUF_KEY_ALIGNMENT, GGUF_U32);
        raw_u32(&b, bad[i]);
        assert_refused(&b, GGUF_KEY_ALIGNMENT);
    }
    raw_header(&b, 3, 0, 1);
    raw_key(&b, GGUF_KEY_ALIGNMENT, GGUF_STRING);
    raw_str(&b, "32");
    assert_refused(&b, "a string instead of an integer");
    buf_release(&b);
}

static void bad_tensors_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint64_t inner, outer;
        uint32_t type;
        uint64_t offset;
        const char *mention;
    } cases[] = {
        {"", 4, 2, 0, 0, "empty or not printable"},
        {"a\nb", 4, 2, 0, 0, "empty or not printable"},
        {"a\xff", 4, 2, 0, 0, "empty or not printable"},
        {"t", 0, 2, 0, 0, "a dimension of zero"},
        {"t", 4, 0, 0, 0, "a dimension of zero"},
        {"t", UINT64_MAX, 2, 0, 0, "too many elements"},
        {"t", UINT64_C(1) << 32, UINT64_C(1) << 32, 0, 0, "too many elements"},
        {"t", UINT64_C(1) << 31, UINT64_C(1) << 31, 28, 0, "too many elements"}, /* more bytes than 64 bits count */
        {"t", 4, 2, 16, 0, "IQ2_XXS"},
        {"t", 4, 2, 4, 0, "Q4_2"},
        {"t", 4, 2, 99, 0, "99"},
        {"t", 48, 2, 8, 0, "whole blocks of Q8_0"},
        {"t", 16, 2, 8, 0, "whole blocks of Q8_0"}, /* two rows make one block, but no row does */
        {"t", 4, 2, 0, 8, "multiple of 32"},
        {"t", 4, 2, 0, 256, "needs 32 bytes at offset 256"},
        {"t", 4, 2, 0, UINT64_MAX - 31, "needs 32 bytes"},
        {"t", 64, 2, 0, 0, "needs 512 bytes"},
    };
    struct buf b;
    buf_init(&b, MIB(1));
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        raw_header(&b, 3, 1, 0);
        raw_tensor(&b, cases[i].name, cases[i].inner, cases[i].outer, cases[i].type, cases[i].offset);
        raw_data(&b, 256);
        assert_refused(&b, cases[i].mention);
    }
    buf_release(&b);
}

static void bad_directories_are_refused(void **state)
{
    (void)state;
    struct error err;
    struct buf b;
    buf_init(&b, MIB(1));
    raw_header(&b, 3, 2, 0);
    raw_tensor(&b, "a", 16, 1, 0, 0);
    raw_tensor(&b, "b", 4, 1, 0, 32);
    raw_data(&b, 256);
    assert_refused(&b, "'b' overlaps");
    raw_header(&b, 3, 2, 0);
    raw_tensor(&b, "a", 16, 1, 0, 64); /* any order is fine */
    raw_tensor(&b, "b", 16, 1, 0, 0);
    raw_data(&b, 256);
    assert_true(opens(b.data, b.len, &err));
    raw_header(&b, 3, 2, 0);
    raw_tensor(&b, "same", 4, 1, 0, 0);
    raw_tensor(&b, "same", 4, 1, 0, 32);
    raw_data(&b, 256);
    assert_refused(&b, "'same' twice");
    for (uint32_t n_dims = 0; n_dims <= 5; n_dims += 5) {
        raw_header(&b, 3, 1, 0);
        raw_str(&b, "t");
        raw_u32(&b, n_dims);
        raw_data(&b, 256);
        assert_refused(&b, "dimensions instead of 1 to 4");
    }
    buf_release(&b);
}

/* ---- typed access and overrides ---- */

static void access_is_typed(void **state)
{
    (void)state;
    struct error err = {0};
    struct buf bytes = everything();
    struct model_file *f = model_file_open_memory(bytes.data, bytes.len, &err);
    int64_t i = 0;
    double d = 0;
    bool b = false;
    struct str s;
    assert_true(meta_int(f, "t.u8", 255, 255, &i, &err) && i == 255);
    assert_false(meta_int(f, "t.u8", 0, 254, &i, &err));
    assert_non_null(strstr(err.msg, "'t.u8' is 255"));
    assert_int_equal(err.code, ERR_FORMAT);
    assert_false(meta_int(f, "absent", 0, 254, &i, &err));
    assert_non_null(strstr(err.msg, "'absent'"));
    assert_false(meta_int(f, "t.f32", 0, 254, &i, &err));
    assert_true(meta_int_or(f, "absent", 0, 254, -7, &i, &err) && i == -7);
    assert_false(meta_int_or(f, "t.yes", 0, 254, -7, &i, &err));
    assert_true(meta_float_or(f, "t.f64", 9, &d, &err) && d == 0.1);
    assert_true(meta_float_or(f, "t.i8", 9, &d, &err) && d == -128);
    assert_true(meta_float_or(f, "absent", 9, &d, &err) && d == 9);
    assert_false(meta_float_or(f, "t.yes", 9, &d, &err));
    assert_true(meta_bool_or(f, "t.yes", false, &b, &err) && b);
    assert_true(meta_bool_or(f, "absent", true, &b, &err) && b);
    assert_false(meta_bool_or(f, "t.u8", true, &b, &err));
    assert_false(meta_str(f, "absent", &s, &err));
    assert_false(meta_str(f, "t.u8", &s, &err));
    assert_true(str_eq(meta_str_or(f, "t.u8", STR("x")), STR("x")));
    assert_true(str_eq(meta_str_or(f, "general.architecture", STR("x")), STR("llama")));
    model_file_close(f);
    buf_release(&bytes);
}

static void overrides_replace_and_add(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "t.u8",
                                      "t.u8=",
                                      "t.u8=int",
                                      "=int:3",
                                      "t.u8=int:x",
                                      "t.u8=int:1x",
                                      "t.yes=bool:1",
                                      "t.u8=u8:1",
                                      "t.u8=str:x",
                                      "t.f32=float:nan",
                                      "split.no=int:0",
                                      "general.alignment=int:64"};
    struct error err = {0};
    struct buf bytes = everything();
    struct model_file *f = model_file_open_memory(bytes.data, bytes.len, &err);
    uint8_t before[32], after[32];
    model_file_digest(f, before);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        err = (struct error){0};
        if (model_file_override(f, bad[i], &err))
            fail_msg("'%s' was taken", bad[i]);
        assert_int_equal(err.code, ERR_INVALID);
    }
    model_file_digest(f, after);
    assert_memory_equal(before, after, sizeof(before));
    assert_true(model_file_override(f, "t.u8=int:-3", &err));
    assert_true(model_file_override(f, "t.f32=int:10000", &err));
    assert_true(model_file_override(f, "t.yes=bool:false", &err));
    assert_true(model_file_override(f, "general.architecture=str:a=b:c", &err));
    assert_true(model_file_override(f, "new.key=float:1e-6", &err));
    double d = 0;
    assert_true(meta_get(f, "t.u8").i == -3 && !meta_get(f, "t.yes").b && meta_get(f, "new.key").f == 1e-6);
    assert_true(meta_float_or(f, "t.f32", 0, &d, &err) && d == 10000);
    assert_true(str_eq(meta_get(f, "general.architecture").s, STR("a=b:c")));
    assert_int_equal(model_file_n_meta(f), 20);
    model_file_digest(f, after);
    assert_memory_not_equal(before, after, sizeof(before));
    bool full = false;
    for (int i = 0; i <= LIMIT_GGUF_OVERRIDES && !full; i++) {
        char spec[32];
        snprintf(spec, sizeof(spec), "k%d=int:1", i);
        full = !model_file_override(f, spec, &err);
    }
    assert_true(full);
    model_file_close(f);
    buf_release(&bytes);
}

static void digest_follows_the_weights(void **state)
{
    (void)state;
    struct error err = {0};
    struct buf bytes = everything();
    uint8_t digests[3][32];
    for (int i = 0; i < 3; i++) {
        if (i == 2)
            bytes.data[bytes.len - 1] ^= 1; /* in the last tensor */
        struct model_file *f = model_file_open_memory(bytes.data, bytes.len, &err);
        assert_non_null(f);
        model_file_digest(f, digests[i]);
        model_file_close(f);
    }
    assert_memory_equal(digests[0], digests[1], 32);
    assert_memory_not_equal(digests[0], digests[2], 32);
    buf_release(&bytes);
}

/* ---- files ---- */

static bool fill_ramp(void *user, uint64_t first, uint64_t n, void *dst, struct error *err)
{
    (void)err;
    const uint64_t *row_len = user;
    float *out = dst;
    for (uint64_t i = 0; i < n * *row_len; i++)
        out[i] = (float)(first * *row_len + i);
    return true;
}

static bool fill_fails(void *user, uint64_t first, uint64_t n, void *dst, struct error *err)
{
    (void)user, (void)n, (void)dst;
    return first == 0 && error_set(err, ERR_IO, "No more rows.");
}

static void large_tensors_are_filled_in_pieces(void **state)
{
    (void)state;
    struct error err = {0};
    struct temp_dir dir;
    temp_dir_make(&dir);
    char *path = temp_dir_file(&dir, "ramp.gguf");
    uint64_t row_len = 100;
    struct gguf_writer *w = gguf_writer_create();
    gguf_set_alignment(w, 4096);
    struct gguf_tensor spec = {"ramp", DTYPE_F32, 3, {3, 700, 100}, NULL, fill_ramp, &row_len};
    gguf_add_tensor(w, &spec);
    assert_true(gguf_write_file(w, path, &err));
    struct model_file *f = model_file_open(path, &err);
    assert_non_null(f);
    assert_string_equal(model_file_path(f), path);
    const struct tensor_view *t = model_file_tensor(f, "ramp");
    const float *values = t->data;
    assert_int_equal((uintptr_t)values % 4096, 0);
    assert_int_equal(t->size, 3 * 700 * 100 * sizeof(float));
    for (size_t i = 0; i < 3 * 700 * 100; i++)
        assert_true(values[i] == (float)i);
    model_file_prefetch(f, t);
    model_file_drop(f, t);
    assert_true(values[1000] == 1000.0f);
    model_file_close(f);
    spec.name = "broken";
    spec.fill = fill_fails;
    gguf_add_tensor(w, &spec);
    assert_false(gguf_write_file(w, path, &err));
    assert_string_equal(err.msg, "No more rows.");
    spec.shape[1] = 0;
    spec.name = "empty";
    gguf_add_tensor(w, &spec);
    assert_false(gguf_write_file(w, path, &err));
    assert_non_null(strstr(err.msg, "'empty'"));
    gguf_writer_free(w);
    free(path);
    temp_dir_remove(&dir);
}

struct shard_case {
    int no, count, n_tensors; /* as metadata; count 0: no split keys */
    const char *tensor;
};

static void write_shard(const struct temp_dir *dir, const char *name, const struct shard_case *c)
{
    struct error err = {0};
    char *path = temp_dir_file(dir, name);
    struct gguf_writer *w = gguf_writer_create();
    if (c->no == 0)
        gguf_put_str(w, "general.architecture", STR("llama"));
    if (c->count > 0) {
        gguf_put_int(w, GGUF_KEY_SPLIT_NO, GGUF_U16, c->no);
        gguf_put_int(w, GGUF_KEY_SPLIT_COUNT, GGUF_U16, c->count);
        gguf_put_int(w, GGUF_KEY_SPLIT_TENSORS, GGUF_I32, c->n_tensors);
    }
    if (c->tensor) {
        float values[8];
        for (int i = 0; i < 8; i++)
            values[i] = (float)(100 * c->no + i);
        gguf_add_tensor(w, &(struct gguf_tensor){c->tensor, DTYPE_F32, 1, {8}, values, NULL, NULL});
        assert_true(gguf_write_file(w, path, &err));
    } else {
        assert_true(gguf_write_file(w, path, &err));
    }
    gguf_writer_free(w);
    free(path);
}

static void assert_open_fails(const struct temp_dir *dir, const char *name, const char *mention)
{
    struct error err = {0};
    char *path = temp_dir_file(dir, name);
    struct model_file *f = model_file_open(path, &err);
    if (f)
        fail_msg("%s was opened, although: %s", name, mention);
    if (!strstr(err.msg, mention))
        fail_msg("the message \"%s\" does not mention \"%s\"", err.msg, mention);
    free(path);
}

static void split_files_open_as_one(void **state)
{
    (void)state;
    struct error err = {0};
    struct temp_dir dir;
    temp_dir_make(&dir);
    write_shard(&dir, "m-00001-of-00003.gguf", &(struct shard_case){0, 3, 2, NULL});
    write_shard(&dir, "m-00002-of-00003.gguf", &(struct shard_case){1, 3, 2, "a"});
    write_shard(&dir, "m-00003-of-00003.gguf", &(struct shard_case){2, 3, 2, "b"});
    char *path = temp_dir_file(&dir, "m-00001-of-00003.gguf");
    struct model_file *f = model_file_open(path, &err);
    if (!f)
        fail_msg("%s", err.msg);
    assert_int_equal(model_file_n_tensors(f), 2);
    assert_true(((const float *)model_file_tensor(f, "a")->data)[0] == 100.0f);
    assert_true(((const float *)model_file_tensor(f, "b")->data)[7] == 207.0f);
    assert_true(str_eq(meta_str_or(f, "general.architecture", STR("")), STR("llama")));
    model_file_drop(f, model_file_tensor(f, "b"));
    model_file_close(f);
    free(path);
    assert_open_fails(&dir, "m-00002-of-00003.gguf", "m-00001-of-00003.gguf");
    temp_dir_remove(&dir);
}

static void broken_splits_are_refused(void **state)
{
    (void)state;
    static const struct {
        struct shard_case first, second;
        const char *mention;
    } cases[] = {
        {{0, 2, 2, "a"}, {1, 2, 2, "a"}, "'a' twice"},
        {{0, 3, 2, "a"}, {1, 2, 2, "b"}, "Shard 1 says that the model has 3 shards"},
        {{0, 2, 2, "a"}, {1, 4, 2, "b"}, "Shard 2 says that the model has 4 shards"},
        {{0, 2, 2, "a"}, {0, 2, 2, "b"}, "Shard 2 says that it is number 1"},
        {{0, 2, 2, "a"}, {1, 2, 3, "b"}, "Shard 2 says that the model has 3 tensors"},
        {{0, 0, 0, "a"}, {1, 2, 2, "b"}, "Shard 1 says that the model has 1 shards"},
    };
    struct temp_dir dir;
    temp_dir_make(&dir);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        write_shard(&dir, "m-00001-of-00002.gguf", &cases[i].first);
        write_shard(&dir, "m-00002-of-00002.gguf", &cases[i].second);
        assert_open_fails(&dir, "m-00001-of-00002.gguf", cases[i].mention);
    }
    write_shard(&dir, "n-00001-of-00002.gguf", &cases[0].first);
    assert_open_fails(&dir, "n-00001-of-00002.gguf", "n-00002-of-00002.gguf");
    write_shard(&dir, "renamed.gguf", &cases[0].first);
    assert_open_fails(&dir, "renamed.gguf", "shard 1 of 2");
    assert_open_fails(&dir, "m-00000-of-00002.gguf", "impossible shard");
    assert_open_fails(&dir, "m-00003-of-00002.gguf", "impossible shard");
    assert_open_fails(&dir, "m-00001-of-99999.gguf", "impossible shard");
    assert_open_fails(&dir, "absent.gguf", "absent.gguf");
    write_shard(&dir, "one-00001-of-00001.gguf", &(struct shard_case){0, 0, 0, "a"});
    struct error err = {0};
    char *path = temp_dir_file(&dir, "one-00001-of-00001.gguf");
    struct model_file *f = model_file_open(path, &err);
    assert_non_null(f);
    model_file_close(f);
    free(path);
    temp_dir_remove(&dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(written_files_read_back),
        cmocka_unit_test(values_copy_in_their_width),
        cmocka_unit_test(truncation_anywhere_is_an_error),
        cmocka_unit_test(mutations_never_crash),
        cmocka_unit_test(bad_headers_are_refused),
        cmocka_unit_test(bad_metadata_is_refused),
        cmocka_unit_test(bad_alignments_are_refused),
        cmocka_unit_test(bad_tensors_are_refused),
        cmocka_unit_test(bad_directories_are_refused),
        cmocka_unit_test(access_is_typed),
        cmocka_unit_test(overrides_replace_and_add),
        cmocka_unit_test(digest_follows_the_weights),
        cmocka_unit_test(large_tensors_are_filled_in_pieces),
        cmocka_unit_test(split_files_open_as_one),
        cmocka_unit_test(broken_splits_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
