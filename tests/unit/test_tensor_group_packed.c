/* Folders of AutoAWQ, AutoGPTQ and compressed-tensors: values equal to those that their own code makes
 * (tests/data/packed.vec, made by tools/parity/packed_vectors.py), bit for bit; and what is refused, with the field or
 * the tensor in the message. */
#include "tensor/group_packed.h"

#include "base/array.h"
#include "base/limits.h"
#include "tensor/model_folder.h"
#include "tensor/safetensors_writer.h"
#include "tests/support/vector_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint32_t bits_of(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof(bits));
    return bits;
}

/* ---- folders in memory ---- */

struct piece {
    const char *name;
    enum dtype type;
    uint64_t shape[TENSOR_MAX_DIMS]; /* up to the first zero */
    const void *data;
};

static void write_shard(const struct piece *pieces, size_t n, struct buf *out)
{
    struct error err = {0};
    struct safetensors_writer *w = safetensors_writer_create();
    assert_non_null(w);
    for (size_t i = 0; i < n; i++) {
        struct gguf_tensor t = {.name = pieces[i].name, .type = pieces[i].type, .data = pieces[i].data};
        for (; t.n_dims < TENSOR_MAX_DIMS && pieces[i].shape[t.n_dims]; t.n_dims++)
            t.shape[t.n_dims] = pieces[i].shape[t.n_dims];
        if (pieces[i].data)
            safetensors_add_tensor(w, &t);
    }
    buf_init(out, MIB(1));
    assert_true(safetensors_write_buf(w, out, &err));
    safetensors_writer_free(w);
}

static struct model_file *open_folder(const char *config, const struct buf *shard, struct error *err)
{
    const struct model_folder_file files[] = {{"config.json", str_of(config)}, {"model.safetensors", buf_view(shard)}};
    return model_folder_open_memory(files, ARRAY_LEN(files), err);
}

/* ---- the vectors ---- */

enum { METHOD, FORMAT, BITS, GROUP_SIZE, ROWS, COLUMNS, SCALE_TYPE, CODES, SCALES, ZEROS, G_IDX, VALUES };

struct vector_case {
    const struct vector_file *v;
    uint64_t n, k, size;
    int bits;
    void *codes, *scales, *zeros, *g_idx; /* NULL: there are none */
    float *values;
};

static uint64_t number(const struct vector_file *v, size_t i)
{
    int64_t n;
    assert_true(str_to_i64(v->fields[i], &n));
    return (uint64_t)n;
}

static void *bytes_or_null(const struct vector_file *v, size_t i)
{
    return str_eq(v->fields[i], STR("-")) ? NULL : vector_file_bytes(v, i, NULL);
}

static void read_case(struct vector_case *c, const struct vector_file *v)
{
    *c = (struct vector_case){.v = v, .n = number(v, ROWS), .k = number(v, COLUMNS), .bits = (int)number(v, BITS)};
    c->size = str_eq(v->fields[GROUP_SIZE], STR("-1")) ? c->k : number(v, GROUP_SIZE);
    c->codes = bytes_or_null(v, CODES);
    c->scales = bytes_or_null(v, SCALES);
    c->zeros = bytes_or_null(v, ZEROS);
    c->g_idx = bytes_or_null(v, G_IDX);
    c->values = vector_file_bytes(v, VALUES, NULL);
}

static void free_case(struct vector_case *c)
{
    free(c->codes);
    free(c->scales);
    free(c->zeros);
    free(c->g_idx);
    free(c->values);
}

static void config_of(const struct vector_case *c, char *out, size_t size)
{
    const struct str *f = c->v->fields;
    if (str_eq(f[METHOD], STR("awq")))
        snprintf(out, size,
                 "{\"quantization_config\":{\"quant_method\":\"awq\",\"version\":\"" STR_FMT "\",\"bits\":" STR_FMT
                 ",\"group_size\":" STR_FMT ",\"zero_point\":true,\"modules_to_not_convert\":[\"lm_head\"]}}",
                 STR_ARG(f[FORMAT]), STR_ARG(f[BITS]), STR_ARG(f[GROUP_SIZE]));
    else if (str_eq(f[METHOD], STR("gptq")))
        snprintf(out, size,
                 "{\"quantization_config\":{\"quant_method\":\"gptq\",\"checkpoint_format\":\"" STR_FMT
                 "\",\"bits\":" STR_FMT ",\"group_size\":" STR_FMT ",\"desc_act\":true,\"sym\":false}}",
                 STR_ARG(f[FORMAT]), STR_ARG(f[BITS]), STR_ARG(f[GROUP_SIZE]));
    else
        snprintf(out, size,
                 "{\"quantization_config\":{\"quant_method\":\"compressed-tensors\",\"format\":\"" STR_FMT
                 "\",\"config_groups\":{\"group_0\":{\"targets\":[\"Linear\"],\"input_activations\":null,\"weights\":{"
                 "\"num_bits\":" STR_FMT
                 ",\"type\":\"int\",\"symmetric\":%s,\"strategy\":\"%s\",\"group_size\":" STR_FMT "}}}}}",
                 STR_ARG(f[FORMAT]), STR_ARG(f[BITS]), c->zeros ? "false" : "true",
                 c->size == c->k ? "channel" : "group", STR_ARG(f[GROUP_SIZE]));
}

static struct model_file *open_case(const struct vector_case *c, struct buf *shard)
{
    static const uint64_t weight_shape[2];
    struct error err = {0};
    char config[640];
    uint64_t n = c->n, k = c->k, groups = k / c->size, bits = (uint64_t)c->bits;
    bool rows = str_eq(c->v->fields[METHOD], STR("compressed-tensors")), awq = str_eq(c->v->fields[METHOD], STR("awq"));
    enum dtype type = str_eq(c->v->fields[SCALE_TYPE], STR("f16")) ? DTYPE_F16 : DTYPE_BF16;
    const struct piece packed[] = {
        {"m.qweight", DTYPE_I32, {awq ? k : k * bits / 32, awq ? n / 8 : n}, c->codes},
        {"m.qzeros", DTYPE_I32, {groups, n * bits / 32}, c->zeros},
        {"m.scales", type, {groups, n}, c->scales},
        {"m.g_idx", DTYPE_I32, {k}, c->g_idx},
    };
    const struct piece by_rows[] = {
        {"m.weight_packed", DTYPE_I32, {n, k * bits / 32}, c->codes},
        {"m.weight_zero_point", DTYPE_I32, {n * bits / 32, groups}, c->zeros},
        {"m.weight_scale", type, {n, groups}, c->scales},
        {"m.weight_g_idx", DTYPE_I32, {k}, c->g_idx},
        {"m.weight_shape", DTYPE_I64, {2}, weight_shape},
    };
    write_shard(rows ? by_rows : packed, rows ? ARRAY_LEN(by_rows) : ARRAY_LEN(packed), shard);
    config_of(c, config, sizeof(config));
    struct model_file *f = open_folder(config, shard, &err);
    if (!f)
        fail_msg("%s: %s", config, err.msg);
    return f;
}

static void same_row(const struct tensor_view *t, uint64_t row, const float *expected)
{
    float got[256];
    assert_true(t->shape[1] <= ARRAY_LEN(got));
    tensor_row_to_f32(t, row, got);
    for (uint64_t i = 0; i < t->shape[1]; i++) {
        if (bits_of(got[i]) != bits_of(expected[i]))
            fail_msg("row %d, column %d is %a instead of %a", (int)row, (int)i, (double)got[i], (double)expected[i]);
    }
}

/* Sorted columns are the same values in another order, in whole groups. */
static void sorts(const struct tensor_view *t, const float *expected)
{
    uint32_t columns[256];
    float sorted[256];
    struct tensor_view view = *t;
    assert_true(packed_can_sort(&t->quant) && packed_sort_columns(&t->quant, columns));
    view.quant.columns = columns;
    assert_true(packed_in_order(&view.quant));
    for (uint64_t i = 0; i < t->shape[1]; i++)
        sorted[i] = expected[columns[i]];
    same_row(&view, 0, sorted);
}

static void check_case(const struct vector_case *c)
{
    struct error err = {0};
    struct buf shard;
    char name[64];
    struct model_file *f = open_case(c, &shard);
    const struct tensor_view *t = model_file_tensor(f, "m.weight");
    assert_int_equal(model_file_n_tensors(f), 1);
    assert_true(t && t->type == DTYPE_GROUPED && t->n_dims == 2 && t->shape[0] == c->n && t->shape[1] == c->k);
    assert_true(packed_check_groups(&t->quant, t->name, &err));
    for (uint64_t row = 0; row < c->n; row++) {
        struct tensor_view one = tensor_rows(t, row, 1);
        same_row(t, row, c->values + row * c->k);
        same_row(&one, 0, c->values + row * c->k);
        assert_int_equal(one.size * c->n, t->size);
    }
    if (!packed_in_order(&t->quant))
        sorts(t, c->values);
    assert_non_null(strstr(tensor_type_name(t, name, sizeof(name)), c->bits == 4 ? " 4 bits in groups" : " 8 bits in"));
    size_t stored = c->n * (c->k / c->size);
    assert_int_equal(group_scales_size(&t->quant, c->n, c->k),
                     2 * stored + (c->zeros ? stored * (size_t)c->bits / 8 : 0));
    model_file_close(f);
    buf_release(&shard);
}

static void values_are_the_packers_own(void **state)
{
    struct vector_file v;
    int n = 0, n_sorted = 0;
    (void)state;
    vector_file_open(&v, TEST_DATA_DIR "/packed.vec");
    for (; vector_file_next(&v); n++) {
        struct vector_case c;
        read_case(&c, &v);
        check_case(&c);
        n_sorted += c.g_idx != NULL;
        free_case(&c);
    }
    vector_file_close(&v);
    assert_true(n == 11 && n_sorted >= 5);
}

/* ---- what is refused ---- */

static const uint32_t words[1024]; /* zeros: of g_idx, every column in the first group */

#define AWQ  "\"quant_method\":\"awq\",\"group_size\":32"
#define GPTQ "\"quant_method\":\"gptq\",\"group_size\":32"
#define GROUPS \
    "\"quant_method\":\"compressed-tensors\",\"config_groups\":{\"g\":{\"weights\":{\"num_bits\":4,\"group_size\":32"

struct refusal {
    const char *config; /* of quantization_config */
    struct piece pieces[4];
    enum error_code code;
    const char *mention;
};

#define AWQ_CODES                              \
    {                                          \
        "m.qweight", DTYPE_I32, {64, 2}, words \
    }
#define AWQ_ZEROS                            \
    {                                        \
        "m.qzeros", DTYPE_I32, {2, 2}, words \
    }
#define GPTQ_CODES                             \
    {                                          \
        "m.qweight", DTYPE_I32, {8, 16}, words \
    }
#define SCALES_16                             \
    {                                         \
        "m.scales", DTYPE_F16, {2, 16}, words \
    }
#define PACKED_CODES                                \
    {                                               \
        "m.weight_packed", DTYPE_I32, {8, 8}, words \
    }
#define PACKED_SCALE                               \
    {                                              \
        "m.weight_scale", DTYPE_F16, {8, 2}, words \
    }

static const struct refusal refusals[] = {
    {AWQ ",\"version\":\"gemv\"", {AWQ_CODES}, ERR_UNSUPPORTED, "version 'gemv'"},
    {AWQ ",\"backend\":\"llm-awq\"", {AWQ_CODES}, ERR_UNSUPPORTED, "backend 'llm-awq'"},
    {AWQ ",\"zero_point\":false", {AWQ_CODES}, ERR_UNSUPPORTED, "zero_point"},
    {AWQ ",\"zero_point\":1", {AWQ_CODES}, ERR_FORMAT, "zero_point is"},
    {AWQ ",\"bits\":8", {AWQ_CODES}, ERR_UNSUPPORTED, "bits 8"},
    {AWQ ",\"bits\":4.5", {AWQ_CODES}, ERR_FORMAT, "bits"},
    {"\"quant_method\":\"awq\",\"group_size\":48", {AWQ_CODES}, ERR_UNSUPPORTED, "group_size 48"},
    {"\"quant_method\":\"awq\",\"group_size\":0", {AWQ_CODES}, ERR_UNSUPPORTED, "group_size 0"},
    {"\"quant_method\":\"awq\",\"group_size\":128", {AWQ_CODES}, ERR_FORMAT, "'m.qweight' has 16 rows of 64 columns"},
    {AWQ, {AWQ_CODES, AWQ_ZEROS}, ERR_FORMAT, "'m.scales' is missing"},
    {AWQ, {AWQ_CODES, SCALES_16}, ERR_FORMAT, "'m.qzeros' is missing"},
    {AWQ, {{"m.qweight", DTYPE_F32, {64, 2}, words}}, ERR_FORMAT, "'m.qweight' is of the type F32"},
    {AWQ, {{"m.qweight", DTYPE_I32, {64}, words}}, ERR_FORMAT, "'m.qweight' has 1 axes"},
    {AWQ, {{"m.qweight", DTYPE_I32, {48, 2}, words}}, ERR_FORMAT, "'m.qweight' has 16 rows of 48"},
    {AWQ, {AWQ_CODES, AWQ_ZEROS, {"m.scales", DTYPE_F32, {2, 16}, words}}, ERR_FORMAT, "'m.scales' is of the type F32"},
    {AWQ, {AWQ_CODES, AWQ_ZEROS, {"m.scales", DTYPE_F16, {4, 8}, words}}, ERR_FORMAT, "'m.scales' has 2 axes"},
    {AWQ, {AWQ_CODES, {"m.qzeros", DTYPE_I32, {2, 1}, words}, SCALES_16}, ERR_FORMAT, "'m.qzeros' has 2 axes"},
    {AWQ, {AWQ_CODES, AWQ_ZEROS, SCALES_16, {"m.weight", DTYPE_F16, {2}, words}}, ERR_FORMAT, "'m.weight' twice"},
    {GPTQ ",\"bits\":3", {GPTQ_CODES}, ERR_UNSUPPORTED, "bits 3"},
    {GPTQ ",\"checkpoint_format\":\"marlin\"", {GPTQ_CODES}, ERR_UNSUPPORTED, "checkpoint_format 'marlin'"},
    {GPTQ ",\"format\":\"bitblas\"", {GPTQ_CODES}, ERR_UNSUPPORTED, "format 'bitblas'"},
    {GPTQ ",\"is_marlin_format\":true", {GPTQ_CODES}, ERR_UNSUPPORTED, "is_marlin_format"},
    {GPTQ ",\"pack_dtype\":\"int16\"", {GPTQ_CODES}, ERR_UNSUPPORTED, "pack_dtype 'int16'"},
    {GPTQ ",\"dynamic\":{\"+:.*\":{\"bits\":8}}", {GPTQ_CODES}, ERR_UNSUPPORTED, "dynamic"},
    {GPTQ ",\"desc_act\":true",
     {GPTQ_CODES, {"m.qzeros", DTYPE_I32, {2, 2}, words}, SCALES_16},
     ERR_FORMAT,
     "'m.g_idx' is missing"},
    {GPTQ,
     {GPTQ_CODES, {"m.qzeros", DTYPE_I32, {2, 2}, words}, SCALES_16, {"m.g_idx", DTYPE_I32, {32}, words}},
     ERR_FORMAT,
     "'m.g_idx' has 1 axes"},
    {GPTQ,
     {GPTQ_CODES, {"m.qzeros", DTYPE_I32, {2, 2}, words}, SCALES_16, {"m.g_idx", DTYPE_I64, {64}, words}},
     ERR_FORMAT,
     "'m.g_idx' is of the type I64"},
    {GROUPS "}}},\"format\":\"marlin-24\"", {PACKED_CODES}, ERR_UNSUPPORTED, "format 'marlin-24'"},
    {GROUPS ",\"type\":\"float\"}}}", {PACKED_CODES}, ERR_UNSUPPORTED, "type 'float'"},
    {GROUPS ",\"strategy\":\"tensor\"}}}", {PACKED_CODES}, ERR_UNSUPPORTED, "strategy 'tensor'"},
    {GROUPS "},\"input_activations\":{\"num_bits\":8}}}", {PACKED_CODES}, ERR_UNSUPPORTED, "input_activations"},
    {GROUPS "}},\"h\":{}}", {PACKED_CODES}, ERR_UNSUPPORTED, "config_groups"},
    {"\"quant_method\":\"compressed-tensors\"", {PACKED_CODES}, ERR_UNSUPPORTED, "config_groups"},
    {GROUPS ",\"symmetric\":false}}}", {PACKED_CODES, PACKED_SCALE}, ERR_FORMAT, "'m.weight_zero_point' is missing"},
    {GROUPS "}}}", {PACKED_CODES}, ERR_FORMAT, "'m.weight_scale' is missing"},
};

static void refusals_name_what_is_wrong(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(refusals); i++) {
        const struct refusal *r = &refusals[i];
        struct error err = {0};
        struct buf shard;
        char config[512];
        snprintf(config, sizeof(config), "{\"quantization_config\":{%s}}", r->config);
        write_shard(r->pieces, ARRAY_LEN(r->pieces), &shard);
        struct model_file *f = open_folder(config, &shard, &err);
        if (f || err.code != r->code || !strstr(err.msg, r->mention))
            fail_msg("case %zu, %s: %s (%d)", i, config, f ? "opened" : err.msg, (int)err.code);
        buf_release(&shard);
    }
}

/* ---- group numbers ---- */

static struct model_file *open_gptq(const int32_t *g_idx, struct buf *shard)
{
    struct error err = {0};
    const struct piece pieces[] = {GPTQ_CODES,
                                   {"m.qzeros", DTYPE_I32, {2, 2}, words},
                                   SCALES_16,
                                   {"m.g_idx", DTYPE_I32, {64}, g_idx},
                                   {"m.bias", DTYPE_F16, {16}, words},
                                   {"lm_head.weight", DTYPE_F16, {16, 64}, words}};
    write_shard(pieces, ARRAY_LEN(pieces), shard);
    struct model_file *f = open_folder("{\"quantization_config\":{" GPTQ "}}", shard, &err);
    if (!f)
        fail_msg("%s", err.msg);
    return f;
}

static void group_numbers_are_checked(void **state)
{
    static const int32_t outside[] = {2, -1, INT32_MAX, INT32_MIN};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(outside); i++) {
        struct error err = {0};
        struct buf shard;
        int32_t g_idx[64] = {0};
        float row[64];
        g_idx[63] = outside[i];
        struct model_file *f = open_gptq(g_idx, &shard);
        const struct tensor_view *t = model_file_tensor(f, "m.weight");
        assert_false(packed_check_groups(&t->quant, t->name, &err));
        assert_non_null(strstr(err.msg, "g_idx of the tensor 'm.weight' puts column 63 into group"));
        assert_false(packed_can_sort(&t->quant));
        tensor_row_to_f32(t, 15, row); /* of something that there is */
        model_file_close(f);
        buf_release(&shard);
    }
}

static void groups_of_unequal_size_are_not_sorted(void **state)
{
    struct error err = {0};
    struct buf shard;
    int32_t g_idx[64] = {0};
    (void)state;
    g_idx[0] = 1; /* one column in the second group */
    struct model_file *f = open_gptq(g_idx, &shard);
    const struct tensor_view *t = model_file_tensor(f, "m.weight");
    assert_true(packed_check_groups(&t->quant, t->name, &err));
    assert_false(packed_in_order(&t->quant) || packed_can_sort(&t->quant));
    assert_int_equal(model_file_n_tensors(f), 3);
    assert_int_equal(model_file_tensor(f, "lm_head.weight")->type, DTYPE_F16);
    assert_non_null(model_file_tensor(f, "m.bias"));
    model_file_close(f);
    buf_release(&shard);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_the_packers_own),
        cmocka_unit_test(refusals_name_what_is_wrong),
        cmocka_unit_test(group_numbers_are_checked),
        cmocka_unit_test(groups_of_unequal_size_are_not_sorted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
