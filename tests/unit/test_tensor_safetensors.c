/* safetensors files, written and read: round trips of every type, and headers that lie. */
#include "tensor/safetensors_writer.h"

#include "base/json.h"
#include "base/limits.h"
#include "base/sys_file.h"
#include "tensor/model_folder.h"
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

/* The file as the only one with tensors of a folder. */
static struct model_file *open_bytes(struct str bytes, struct error *err)
{
    const struct model_folder_file files[] = {{"config.json", STR("{}")}, {"model.safetensors", bytes}};
    *err = (struct error){0};
    return model_folder_open_memory(files, 2, err);
}

static struct str view_of(const struct buf *b)
{
    assert_false(b->failed);
    return buf_view(b);
}

/* ---- round trips ---- */

static const uint8_t pattern[256] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22};

static const struct {
    const char *name, *type_name;
    enum dtype type;
} every_type[] = {
    {"f64", "F64", DTYPE_F64},    {"f32", "F32", DTYPE_F32},        {"f16", "F16", DTYPE_F16},
    {"bf16", "BF16", DTYPE_BF16}, {"f8", "F8_E4M3", DTYPE_F8_E4M3}, {"i64", "I64", DTYPE_I64},
    {"i32", "I32", DTYPE_I32},    {"i16", "I16", DTYPE_I16},        {"i8", "I8", DTYPE_I8},
    {"u64", "U64", DTYPE_U64},    {"u32", "U32", DTYPE_U32},        {"u16", "U16", DTYPE_U16},
    {"u8", "U8", DTYPE_U8},       {"bool", "BOOL", DTYPE_BOOL},
};

#define N_TYPES (sizeof(every_type) / sizeof(every_type[0]))

static void add_every_type(struct safetensors_writer *w)
{
    safetensors_put_metadata(w, "format", "pt");
    safetensors_put_metadata(w, "note", "\"quoted\"\n");
    for (size_t i = 0; i < N_TYPES; i++)
        safetensors_add_tensor(w, &(struct gguf_tensor){.name = every_type[i].name,
                                                        .type = every_type[i].type,
                                                        .n_dims = 2,
                                                        .shape = {3, 2},
                                                        .data = pattern + i});
    safetensors_add_tensor(
        w,
        &(struct gguf_tensor){.name = "deep", .type = DTYPE_U8, .n_dims = 4, .shape = {2, 1, 3, 5}, .data = pattern});
}

static struct buf write_every_type(void)
{
    struct error err = {0};
    struct buf out;
    struct safetensors_writer *w = safetensors_writer_create();
    assert_non_null(w);
    add_every_type(w);
    buf_init(&out, MIB(1));
    assert_true(safetensors_write_buf(w, &out, &err));
    safetensors_writer_free(w);
    return out;
}

static void check_every_type(const struct model_file *f)
{
    char type[64];
    assert_int_equal(model_file_n_tensors(f), N_TYPES + 1);
    for (size_t i = 0; i < N_TYPES; i++) {
        const struct tensor_view *t = model_file_tensor(f, every_type[i].name);
        assert_non_null(t);
        assert_ptr_equal(t, model_file_tensor_at(f, i));
        assert_int_equal(t->type, every_type[i].type);
        assert_string_equal(tensor_type_name(t, type, sizeof(type)), every_type[i].type_name);
        assert_int_equal(t->n_dims, 2);
        assert_true(t->shape[0] == 3 && t->shape[1] == 2 && t->shape[2] == 1 && t->shape[3] == 1);
        assert_int_equal(t->size, 6 * (size_t)dtype_info(t->type)->block_size);
        assert_memory_equal(t->data, pattern + i, t->size);
    }
    const struct tensor_view *deep = model_file_tensor(f, "deep");
    assert_true(deep && deep->n_dims == 4 && deep->shape[0] == 2 && deep->shape[3] == 5 && deep->size == 30);
    assert_null(model_file_tensor(f, "__metadata__"));
}

static void what_is_written_is_read(void **state)
{
    (void)state;
    struct error err;
    struct buf bytes = write_every_type();
    struct model_file *f = open_bytes(view_of(&bytes), &err);
    assert_non_null(f);
    check_every_type(f);
    assert_int_equal(model_file_size(f), bytes.len);
    assert_int_equal(model_file_version(f), 0);
    model_file_close(f);
    buf_release(&bytes);
}

static void the_header_is_padded_json(void **state)
{
    (void)state;
    struct error err = {0};
    struct buf bytes = write_every_type();
    uint64_t len = 0;
    memcpy(&len, bytes.data, sizeof(len));
    assert_true(len % 8 == 0 && len < bytes.len);
    struct json *header = json_parse((struct str){bytes.data + 8, (size_t)len}, 0, &err);
    assert_non_null(header);
    const struct json *metadata = json_get(header, "__metadata__");
    assert_true(str_eq(json_str(json_get(metadata, "format")), STR("pt")));
    assert_true(str_eq(json_str(json_get(metadata, "note")), STR("\"quoted\"\n")));
    const struct json *deep = json_get(header, "deep");
    assert_true(str_eq(json_str(json_get(deep, "dtype")), STR("U8")));
    assert_int_equal(json_int(json_at(json_get(deep, "data_offsets"), 1)), bytes.len - 8 - len);
    json_free(header);
    buf_release(&bytes);
}

/* MLX writes its header without padding: data at any address. */
static void data_may_lie_anywhere(void **state)
{
    (void)state;
    const char *header = "{\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}";
    const float values[2] = {1.5f, -2};
    for (size_t pad = 0; pad < 8; pad++) {
        struct error err;
        struct buf b;
        float row[2];
        uint64_t len = strlen(header) + pad;
        buf_init(&b, 4096);
        buf_append_bytes(&b, &len, sizeof(len));
        buf_puts(&b, header);
        for (size_t i = 0; i < pad; i++)
            buf_putc(&b, i % 2 ? '\n' : ' ');
        buf_append_bytes(&b, values, sizeof(values));
        struct model_file *f = open_bytes(view_of(&b), &err);
        assert_non_null(f);
        tensor_row_to_f32(model_file_tensor(f, "x"), 0, row);
        assert_memory_equal(row, values, sizeof(values));
        model_file_close(f);
        buf_release(&b);
    }
}

struct counter {
    uint64_t next;
    size_t n_calls;
    bool fail;
};

static bool fill(void *user, uint64_t first, uint64_t n, void *dst, struct error *err)
{
    struct counter *c = user;
    if (c->fail)
        return error_set(err, ERR_IO, "No more.");
    assert_int_equal(first, c->next);
    c->next += n;
    c->n_calls++;
    for (uint64_t i = 0; i < n * 1000; i++)
        ((float *)dst)[i] = (float)(first * 1000 + i);
    return true;
}

static void rows_come_from_a_callback(void **state)
{
    (void)state;
    struct error err = {0};
    struct temp_dir dir;
    struct counter c = {0};
    temp_dir_make(&dir);
    char *path = temp_dir_file(&dir, "model.safetensors"), *config = temp_dir_file(&dir, "config.json"),
         *part = temp_dir_file(&dir, "model.safetensors.part");
    struct safetensors_writer *w = safetensors_writer_create();
    assert_non_null(w);
    safetensors_add_tensor(
        w, &(struct gguf_tensor){
               .name = "big", .type = DTYPE_F32, .n_dims = 3, .shape = {2, 150, 1000}, .fill = fill, .user = &c});
    c.fail = true;
    assert_false(safetensors_write_file(w, path, &err));
    assert_string_equal(err.msg, "No more.");
    assert_false(file_exists(path) || file_exists(part));
    c.fail = false;
    assert_true(safetensors_write_file(w, path, &err));
    assert_true(c.next == 300 && c.n_calls > 1 && !file_exists(part));
    safetensors_writer_free(w);
    assert_true(file_write_atomic(config, STR("{}"), &err));
    struct model_file *f = model_file_open(dir.path, &err);
    assert_non_null(f);
    float row[1000];
    struct tensor_view m = tensor_as_matrix(model_file_tensor(f, "big"));
    tensor_row_to_f32(&m, 299, row);
    assert_true(row[0] == 299000 && row[999] == 299999);
    model_file_close(f);
    temp_dir_remove(&dir);
    free(path);
    free(config);
    free(part);
}

static void what_cannot_be_written_is_said(void **state)
{
    (void)state;
    static const struct {
        struct gguf_tensor tensor;
        const char *mention;
    } cases[] = {
        {{"q", DTYPE_Q4_0, 1, {32}, pattern, NULL, NULL}, "type Q4_0"},
        {{"g", DTYPE_GROUPED, 1, {32}, pattern, NULL, NULL}, "type GROUPED"},
        {{"z", DTYPE_F32, 2, {0, 4}, pattern, NULL, NULL}, "shape of the tensor 'z'"},
        {{"d", DTYPE_F32, 5, {1}, pattern, NULL, NULL}, "shape of the tensor 'd'"},
        {{"o", DTYPE_U8, 2, {UINT32_MAX, UINT64_MAX / 2}, pattern, NULL, NULL}, "shape of the tensor 'o'"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct error err = {0};
        struct buf out;
        struct safetensors_writer *w = safetensors_writer_create();
        assert_non_null(w);
        buf_init(&out, 4096);
        safetensors_add_tensor(w, &cases[i].tensor);
        assert_false(safetensors_write_buf(w, &out, &err));
        assert_int_equal(err.code, ERR_INVALID);
        assert_non_null(strstr(err.msg, cases[i].mention));
        safetensors_writer_free(w);
        buf_release(&out);
    }
}

/* ---- hostile files ---- */

/* Opens a copy that ends where the data ends, so that the sanitizers see any read past it. */
static bool opens(struct str bytes, struct error *err)
{
    char *exact = malloc(bytes.len ? bytes.len : 1);
    assert_non_null(exact);
    if (bytes.len)
        memcpy(exact, bytes.ptr, bytes.len);
    struct model_file *f = open_bytes((struct str){exact, bytes.len}, err);
    for (size_t i = 0; f && i < model_file_n_tensors(f); i++) {
        struct tensor_view m = tensor_as_matrix(model_file_tensor_at(f, i));
        float *row = calloc((size_t)m.shape[1], sizeof(*row));
        assert_non_null(row);
        tensor_row_to_f32(&m, m.shape[0] - 1, row);
        free(row);
    }
    bool ok = f != NULL;
    assert_true(ok || (err->code != ERR_NONE && err->msg[0] != 0));
    model_file_close(f);
    free(exact);
    return ok;
}

static void raw_file(struct buf *b, uint64_t len, const char *header, size_t data_size)
{
    buf_clear(b);
    buf_append_bytes(b, &len, sizeof(len));
    buf_puts(b, header);
    for (size_t i = 0; i < data_size; i++)
        buf_putc(b, 1);
}

#define X(type, shape, offsets) "\"x\":{\"dtype\":\"" type "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static const struct {
    const char *header;
    size_t data_size;
    enum error_code code;
    const char *mention;
} refused[] = {
    {"", 0, ERR_FORMAT, "header: the JSON is invalid"},
    {"{", 0, ERR_FORMAT, "invalid at line 1"},
    {"[]", 0, ERR_FORMAT, "array instead of an object"},
    {"null", 0, ERR_FORMAT, "null instead of an object"},
    {"{}x", 0, ERR_FORMAT, "nothing may follow"},
    {"{\"a\xff\":{}}", 0, ERR_FORMAT, "not valid UTF-8"},
    {"{\"x\":{\"shape\":[[[[[1]]]]]}}", 0, ERR_FORMAT, "nested deeper"},
    {"{" X("U8", "[1]", "[0,1]") "," X("U8", "[1]", "[1,2]") "}", 2, ERR_FORMAT, "duplicate key 'x'"},
    {"{\"x\":{\"dtype\":\"U8\",\"dtype\":\"F32\"}}", 4, ERR_FORMAT, "duplicate key 'dtype'"},
    {"{\"\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, ERR_FORMAT, "empty"},
    {"{\"a\\nb\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, ERR_FORMAT, "not printable"},
    {"{\"x\":1}", 0, ERR_FORMAT, "'x' is integer instead of an object"},
    {"{\"x\":{}}", 0, ERR_FORMAT, "type of the tensor 'x' is null"},
    {"{" X("Q4_0", "[32]", "[0,18]") "}", 18, ERR_UNSUPPORTED, "type Q4_0 of the tensor 'x'"},
    {"{" X("F8_E5M2", "[1]", "[0,1]") "}", 1, ERR_UNSUPPORTED, "type F8_E5M2 of the tensor 'x'"},
    {"{" X("F4", "[2]", "[0,1]") "}", 1, ERR_UNSUPPORTED, "type F4 "},
    {"{" X("C64", "[1]", "[0,8]") "}", 8, ERR_UNSUPPORTED, "type C64 "},
    {"{" X("GROUPED", "[1]", "[0,1]") "}", 1, ERR_UNSUPPORTED, "type GROUPED "},
    {"{" X("F32\\u0000", "[1]", "[0,4]") "}", 4, ERR_UNSUPPORTED, "type F32"},
    {"{" X("U8", "1", "[0,1]") "}", 1, ERR_FORMAT, "shape of the tensor 'x' is integer"},
    {"{" X("U8", "[-1]", "[0,1]") "}", 1, ERR_FORMAT, "no size"},
    {"{" X("U8", "[1.0]", "[0,1]") "}", 1, ERR_FORMAT, "no size"},
    {"{" X("U8", "[\"1\"]", "[0,1]") "}", 1, ERR_FORMAT, "no size"},
    {"{" X("U8", "[9223372036854775808]", "[0,1]") "}", 1, ERR_FORMAT, "no size"},
    {"{" X("U8", "[4294967296,4294967296]", "[0,0]") "}", 0, ERR_FORMAT, "too many elements"},
    {"{" X("F64", "[9223372036854775807]", "[0,0]") "}", 0, ERR_FORMAT, "too many elements"},
    {"{" X("U8", "[9223372036854775807]", "[0,9223372036854775807]") "}", 8, ERR_FORMAT,
     "needs 9223372036854775807 bytes at offset 0, but the file has 8"},
    {"{" X("U8", "[2]", "[9223372036854775805,9223372036854775807]") "}", 8, ERR_FORMAT, "needs 2 bytes at offset"},
    {"{" X("U8", "[0]", "[0,0]") "}", 0, ERR_UNSUPPORTED, "without elements"},
    {"{" X("U8", "[1,1,1,1,1]", "[0,1]") "}", 1, ERR_UNSUPPORTED, "more than 4 axes"},
    {"{" X("U8", "[1]", "[0]") "}", 1, ERR_FORMAT, "not a begin and an end"},
    {"{" X("U8", "[1]", "[0,1,2]") "}", 1, ERR_FORMAT, "not a begin and an end"},
    {"{" X("U8", "[1]", "[1,0]") "}", 1, ERR_FORMAT, "not a begin and an end"},
    {"{" X("U8", "[1]", "[-1,0]") "}", 1, ERR_FORMAT, "not a begin and an end"},
    {"{" X("U8", "[1]", "[0.0,1]") "}", 1, ERR_FORMAT, "not a begin and an end"},
    {"{" X("U8", "[1]", "{}") "}", 1, ERR_FORMAT, "not a begin and an end"},
    {"{" X("F32", "[2]", "[0,4]") "}", 4, ERR_FORMAT, "needs 8 bytes, but its data_offsets span 4"},
    {"{" X("U8", "[2]", "[0,2]") "}", 1, ERR_FORMAT, "the file has 1 bytes of data"},
    {"{" X("U8", "[2]", "[0,2]") "}", 3, ERR_FORMAT, "1 bytes at offset 2 of the data belong to no tensor"},
    {"{" X("U8", "[2]", "[1,3]") "}", 3, ERR_FORMAT, "1 bytes at offset 0 of the data belong to no tensor"},
    {"{" X("U8", "[2]", "[0,2]") ",\"y\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[3,5]}}", 5, ERR_FORMAT,
     "1 bytes at offset 2 of the data belong to no tensor"},
    {"{" X("U8", "[2]", "[0,2]") ",\"y\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}", 3, ERR_FORMAT,
     "overlaps another"},
    {"{\"__metadata__\":1}", 0, ERR_FORMAT, "object of strings"},
    {"{\"__metadata__\":{\"format\":1}}", 0, ERR_FORMAT, "object of strings"},
    {"{\"__metadata__\":{\"format\":null}}", 0, ERR_FORMAT, "object of strings"},
};

static void lying_headers_are_refused(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, MIB(1));
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        struct error err;
        raw_file(&b, strlen(refused[i].header), refused[i].header, refused[i].data_size);
        if (opens(view_of(&b), &err))
            fail_msg("opened: %s", refused[i].header);
        if (err.code != refused[i].code || !strstr(err.msg, refused[i].mention))
            fail_msg("%s: \"%s\" is not a %s that mentions \"%s\"", refused[i].header, err.msg,
                     error_info(refused[i].code)->name, refused[i].mention);
    }
    buf_release(&b);
}

static const char *const accepted[] = {
    "{}",
    " {} ",
    "{\"__metadata__\":{}}",
    "{\"__metadata__\":null}",
    "{\"__metadata__\":{\"format\":\"mlx\",\"\":\"\"}}",
};

static void odd_headers_are_taken(void **state)
{
    (void)state;
    struct buf b;
    struct error err;
    buf_init(&b, MIB(1));
    for (size_t i = 0; i < sizeof(accepted) / sizeof(accepted[0]); i++) {
        raw_file(&b, strlen(accepted[i]), accepted[i], 0);
        assert_true(opens(view_of(&b), &err));
    }
    /* Members in another order, one that is unknown, and a shape of no axes, which is one element. */
    const char *scalar = "{\"x\":{\"more\":1,\"data_offsets\":[0,4],\"shape\":[],\"dtype\":\"F32\"}}";
    raw_file(&b, strlen(scalar), scalar, 4);
    struct model_file *f = open_bytes(view_of(&b), &err);
    assert_non_null(f);
    const struct tensor_view *t = model_file_tensor(f, "x");
    assert_true(t && t->n_dims == 1 && t->shape[0] == 1 && t->size == 4);
    model_file_close(f);
    buf_release(&b);
}

static void lengths_are_bounded(void **state)
{
    (void)state;
    static const uint64_t lengths[] = {3, 1000, 100000000, 100000001, UINT64_MAX, UINT64_MAX - 8, 1ull << 63};
    struct error err;
    struct buf b;
    buf_init(&b, MIB(1));
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        raw_file(&b, lengths[i], "{}", 0);
        assert_false(opens(view_of(&b), &err));
        assert_int_equal(err.code, ERR_FORMAT);
        assert_non_null(strstr(err.msg, lengths[i] > 100000000 ? "more than the maximum of 100000000" : "cut off"));
    }
    for (size_t size = 0; size < 8; size++) {
        assert_false(opens((struct str){b.data, size}, &err));
        assert_non_null(strstr(err.msg, "not a safetensors file"));
    }
    buf_release(&b);
}

/* A header within its limit of bytes may not become a tree many times as large. */
static void values_are_bounded(void **state)
{
    (void)state;
    struct error err;
    struct buf b;
    size_t n = 3000000;
    buf_init(&b, MIB(16));
    raw_file(&b, 2 + 3 * n + 2 + 4, "{\"x\":[", 0);
    for (size_t i = 0; i < n; i++)
        buf_puts(&b, i ? ",[]" : " []");
    buf_puts(&b, "]}");
    assert_false(opens(view_of(&b), &err));
    assert_int_equal(err.code, ERR_FORMAT);
    assert_non_null(strstr(err.msg, "too many values"));
    buf_release(&b);
}

static void truncation_anywhere_is_an_error(void **state)
{
    (void)state;
    struct error err;
    struct buf bytes = write_every_type();
    assert_true(opens(view_of(&bytes), &err));
    for (size_t size = 0; size < bytes.len; size++) {
        if (opens((struct str){bytes.data, size}, &err))
            fail_msg("a file cut to %zu of %zu bytes was opened", size, bytes.len);
        assert_int_equal(err.code, ERR_FORMAT);
    }
    buf_putc(&bytes, 0);
    assert_false(opens(view_of(&bytes), &err));
    buf_release(&bytes);
}

static void mutations_never_crash(void **state)
{
    (void)state;
    static const uint8_t values[] = {0x00, 0x7f, 0xff, '"', '9', ']', ' '};
    struct error err;
    struct buf bytes = write_every_type();
    size_t n_refused = 0;
    for (size_t i = 0; i < bytes.len; i++) {
        char old = bytes.data[i];
        for (size_t k = 0; k < sizeof(values); k++) {
            bytes.data[i] = (char)values[k];
            n_refused += !opens(view_of(&bytes), &err);
        }
        bytes.data[i] = old;
    }
    assert_true(n_refused > bytes.len);
    buf_release(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(the_header_is_padded_json),
        cmocka_unit_test(data_may_lie_anywhere),
        cmocka_unit_test(rows_come_from_a_callback),
        cmocka_unit_test(what_cannot_be_written_is_said),
        cmocka_unit_test(lying_headers_are_refused),
        cmocka_unit_test(odd_headers_are_taken),
        cmocka_unit_test(lengths_are_bounded),
        cmocka_unit_test(values_are_bounded),
        cmocka_unit_test(truncation_anywhere_is_an_error),
        cmocka_unit_test(mutations_never_crash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
