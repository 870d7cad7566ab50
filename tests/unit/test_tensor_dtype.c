#include "tensor/dtype.h"

#include "tests/support/vector_file.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
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

/* Bit for bit, except that any NaN equals any other: the reference leaves their payload to its hardware. */
static void assert_same_floats(const float *a, const float *b, size_t n, const char *what)
{
    for (size_t i = 0; i < n; i++) {
        if (bits_of(a[i]) != bits_of(b[i]) && !(isnan(a[i]) && isnan(b[i])))
            fail_msg("%s: element %zu is %a (%08x) instead of %a (%08x)", what, i, (double)a[i], bits_of(a[i]),
                     (double)b[i], bits_of(b[i]));
    }
}

static void check_dequantize(enum dtype type, const struct vector_file *v)
{
    size_t block_bytes, value_bytes;
    uint8_t *blocks = vector_file_bytes(v, 1, &block_bytes);
    float *expected = vector_file_bytes(v, 2, &value_bytes);
    size_t n = value_bytes / sizeof(float), size;
    assert_true(dtype_size(type, n, &size));
    assert_int_equal(size, block_bytes);
    uint8_t *unaligned = malloc(size + 1);
    float *got = calloc(n, sizeof(*got));
    assert_true(unaligned && got);
    memcpy(unaligned + 1, blocks, size);
    dtype_to_f32(type, unaligned + 1, n, got);
    assert_same_floats(got, expected, n, v->path);
    free(got);
    free(unaligned);
    free(expected);
    free(blocks);
}

static void check_quantize(enum dtype type, const struct vector_file *v)
{
    size_t block_bytes, value_bytes;
    float *values = vector_file_bytes(v, 1, &value_bytes);
    uint8_t *expected = vector_file_bytes(v, 2, &block_bytes);
    uint8_t *got = calloc(1, block_bytes);
    assert_non_null(got);
    assert_true(dtype_from_f32(type, values, value_bytes / sizeof(float), got));
    assert_memory_equal(got, expected, block_bytes);
    free(got);
    free(expected);
    free(values);
}

static void check_vectors(enum dtype type, int min_dequantize, int min_quantize)
{
    char path[512];
    snprintf(path, sizeof(path), TEST_DATA_DIR "/dtype/%s.vec", dtype_info(type)->name);
    struct vector_file v;
    vector_file_open(&v, path);
    int n_dequantize = 0, n_quantize = 0;
    while (vector_file_next(&v)) {
        assert_int_equal(v.n_fields, 3);
        if (str_eq(v.fields[0], STR("d"))) {
            check_dequantize(type, &v);
            n_dequantize++;
        } else {
            check_quantize(type, &v);
            n_quantize++;
        }
    }
    vector_file_close(&v);
    assert_true(n_dequantize >= min_dequantize && n_quantize >= min_quantize);
}

static void vectors_of_every_format(void **state)
{
    (void)state;
    static const enum dtype both[] = {DTYPE_F16,  DTYPE_BF16, DTYPE_Q4_0, DTYPE_Q4_1,
                                      DTYPE_Q5_0, DTYPE_Q5_1, DTYPE_Q8_0, DTYPE_MXFP4};
    static const enum dtype one_way[] = {DTYPE_Q2_K, DTYPE_Q3_K, DTYPE_Q4_K,   DTYPE_Q5_K,
                                         DTYPE_Q6_K, DTYPE_Q8_K, DTYPE_IQ4_NL, DTYPE_IQ4_XS};
    for (size_t i = 0; i < sizeof(both) / sizeof(both[0]); i++)
        check_vectors(both[i], 8, 7);
    for (size_t i = 0; i < sizeof(one_way) / sizeof(one_way[0]); i++)
        check_vectors(one_way[i], 4, 0);
}

static void halves_convert_exactly(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float f = f16_to_f32((uint16_t)h);
        int exponent = (int)(h >> 10 & 31), mantissa = (int)(h & 1023);
        float sign = h & 0x8000 ? -1.0f : 1.0f;
        if (exponent == 31) {
            assert_true(mantissa ? isnan(f) : isinf(f) && (f < 0) == (sign < 0));
        } else {
            float expected = exponent ? ldexpf((float)(1024 + mantissa), exponent - 25) : ldexpf((float)mantissa, -24);
            assert_int_equal(bits_of(f), bits_of(sign * expected));
            assert_int_equal(f32_to_f16(f), h);
        }
    }
}

/* Between two neighbouring halves the nearer wins, and the even one at the middle. */
static void halves_round_to_nearest_even(void **state)
{
    (void)state;
    for (uint16_t h = 0; h < 0x7bff; h++) {
        float low = f16_to_f32(h), high = f16_to_f32((uint16_t)(h + 1)), middle = low + (high - low) / 2;
        assert_int_equal(f32_to_f16(middle), h + (h & 1));
        assert_int_equal(f32_to_f16(nextafterf(middle, 0.0f)), h);
        assert_int_equal(f32_to_f16(nextafterf(middle, INFINITY)), h + 1);
        assert_int_equal(f32_to_f16(-nextafterf(middle, INFINITY)), (h + 1) | 0x8000);
    }
    assert_int_equal(f32_to_f16(65520.0f), 0x7c00);
    assert_int_equal(f32_to_f16(65519.996f), 0x7bff);
    assert_int_equal(f32_to_f16(1e-30f), 0);
    assert_true(isnan(f16_to_f32(f32_to_f16(NAN))));
    assert_true(isnan(bf16_to_f32(f32_to_bf16(NAN))));
    assert_int_equal(f32_to_bf16(1.00390625f), 0x3f80); /* half way, to even */
    assert_int_equal(f32_to_bf16(3.4028235e38f), 0x7f80);
}

static void integers_convert_by_value(void **state)
{
    (void)state;
    const int8_t i8[] = {-128, 127};
    const int16_t i16[] = {-32768, 12};
    const int32_t i32[] = {INT32_MIN, 16777217};
    const int64_t i64[] = {INT64_MIN, 3};
    const double f64[] = {1e300, 0.1};
    const uint8_t u8[] = {255, 128}, flags[] = {1, 0};
    const uint16_t u16[] = {65535, 32768};
    const uint32_t u32[] = {UINT32_MAX, 16777217};
    const uint64_t u64[] = {UINT64_MAX, 3};
    float out[2];
    dtype_to_f32(DTYPE_I8, i8, 2, out);
    assert_true(out[0] == -128.0f && out[1] == 127.0f);
    dtype_to_f32(DTYPE_I16, i16, 2, out);
    assert_true(out[0] == -32768.0f && out[1] == 12.0f);
    dtype_to_f32(DTYPE_I32, i32, 2, out);
    assert_true(out[0] == -0x1p31f && out[1] == 16777216.0f);
    dtype_to_f32(DTYPE_I64, i64, 2, out);
    assert_true(out[0] == -0x1p63f && out[1] == 3.0f);
    dtype_to_f32(DTYPE_F64, f64, 2, out);
    assert_true(isinf(out[0]) && out[1] == 0.1f);
    dtype_to_f32(DTYPE_U8, u8, 2, out);
    assert_true(out[0] == 255.0f && out[1] == 128.0f);
    dtype_to_f32(DTYPE_U16, u16, 2, out);
    assert_true(out[0] == 65535.0f && out[1] == 32768.0f);
    dtype_to_f32(DTYPE_U32, u32, 2, out);
    assert_true(out[0] == 0x1p32f && out[1] == 16777216.0f);
    dtype_to_f32(DTYPE_U64, u64, 2, out);
    assert_true(out[0] == 0x1p64f && out[1] == 3.0f);
    dtype_to_f32(DTYPE_BOOL, flags, 2, out);
    assert_true(out[0] == 1.0f && out[1] == 0.0f);
}

static void what_is_not_written_is_said(void **state)
{
    (void)state;
    static const enum dtype types[] = {DTYPE_I8,  DTYPE_I16, DTYPE_I32, DTYPE_I64,  DTYPE_F64,     DTYPE_U8,
                                       DTYPE_U16, DTYPE_U32, DTYPE_U64, DTYPE_BOOL, DTYPE_F8_E4M3, DTYPE_GROUPED};
    const float in[2] = {1, 2};
    uint8_t sink[16];
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
        assert_false(dtype_from_f32(types[i], in, 2, sink));
}

/* OCP 8-bit floating point, E4M3: all 256 of them by the formula; two NaNs, no infinities. */
static void f8_converts_exactly(void **state)
{
    (void)state;
    uint8_t all[256];
    float out[256];
    for (int b = 0; b < 256; b++)
        all[b] = (uint8_t)b;
    dtype_to_f32(DTYPE_F8_E4M3, all, 256, out);
    for (int b = 0; b < 256; b++) {
        int exponent = b >> 3 & 15, mantissa = b & 7;
        float sign = b & 0x80 ? -1.0f : 1.0f;
        float expected = exponent ? ldexpf((float)(8 + mantissa), exponent - 10) : ldexpf((float)mantissa, -9);
        if ((b & 0x7f) == 0x7f)
            assert_true(isnan(out[b]));
        else
            assert_int_equal(bits_of(out[b]), bits_of(sign * expected));
        assert_true(isnan(out[b]) == isnan(f8_e4m3_to_f32((uint8_t)b)));
        if (!isnan(out[b]))
            assert_int_equal(bits_of(f8_e4m3_to_f32((uint8_t)b)), bits_of(out[b]));
    }
    assert_true(out[0x7e] == 448.0f && out[0x38] == 1.0f && out[1] == 0x1p-9f && out[0xc0] == -2.0f);
    assert_true(signbit(out[0x80]) && out[0x80] == 0);
}

/* Largest error of a quantized value, in units of the group's largest magnitude: half a step of the grid, and a little
 * for scales that are quantized themselves. */
static void quantizers_stay_close(void **state)
{
    (void)state;
    static const struct {
        enum dtype type;
        double bound;
    } cases[] = {
        {DTYPE_F32, 0},       {DTYPE_F16, 0.0005}, {DTYPE_BF16, 0.004}, {DTYPE_Q4_0, 0.13},  {DTYPE_Q4_1, 0.07},
        {DTYPE_Q5_0, 0.07},   {DTYPE_Q5_1, 0.035}, {DTYPE_Q8_0, 0.005}, {DTYPE_Q2_K, 0.40},  {DTYPE_Q3_K, 0.27},
        {DTYPE_Q4_K, 0.09},   {DTYPE_Q5_K, 0.05},  {DTYPE_Q6_K, 0.04},  {DTYPE_Q8_K, 0.005}, {DTYPE_IQ4_NL, 0.12},
        {DTYPE_IQ4_XS, 0.14}, {DTYPE_MXFP4, 0.26},
    };
    float x[512], y[512];
    uint32_t lcg = 12345;
    for (int i = 0; i < 512; i++) {
        lcg = lcg * 1664525u + 1013904223u;
        x[i] = (float)(int32_t)lcg / 2147483648.0f * 0.75f;
    }
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        size_t size;
        assert_true(dtype_size(cases[c].type, 512, &size));
        uint8_t *blocks = malloc(size);
        assert_non_null(blocks);
        assert_true(dtype_from_f32(cases[c].type, x, 512, blocks));
        dtype_to_f32(cases[c].type, blocks, 512, y);
        free(blocks);
        double worst = 0;
        for (int i = 0; i < 512; i++) { /* not fmax: gcc 12 for arm64 fails to vectorize it, with an internal error */
            double error = fabs((double)x[i] - (double)y[i]) / 0.75;
            worst = error <= worst ? worst : error;
        }
        if (worst > cases[c].bound)
            fail_msg("%s: error %g beyond %g", dtype_info(cases[c].type)->name, worst, cases[c].bound);
    }
}

/* Non-finite and extreme values: no undefined behaviour on the way there and back (the sanitizers look on). */
static void quantizers_survive_odd_input(void **state)
{
    (void)state;
    float x[256];
    uint8_t block[4096];
    const float odd[] = {INFINITY, -INFINITY, NAN, 3.4e38f, -3.4e38f, 1e-45f, 0.0f, -0.0f};
    for (int type = 0; type < DTYPE_COUNT; type++) {
        for (size_t k = 0; k < sizeof(odd) / sizeof(odd[0]); k++) {
            for (int i = 0; i < 256; i++)
                x[i] = i % 3 ? odd[k] : (float)i;
            if (dtype_from_f32((enum dtype)type, x, 256, block))
                dtype_to_f32((enum dtype)type, block, 256, x);
        }
    }
}

static void q8_k_sums_match(void **state)
{
    (void)state;
    float x[256];
    for (int i = 0; i < 256; i++)
        x[i] = sinf((float)i);
    uint8_t block[292];
    assert_true(dtype_from_f32(DTYPE_Q8_K, x, 256, block));
    for (int g = 0; g < 16; g++) {
        int16_t stored;
        int sum = 0;
        memcpy(&stored, block + 260 + 2 * g, sizeof(stored));
        for (int l = 0; l < 16; l++)
            sum += (int8_t)block[4 + 16 * g + l];
        assert_int_equal(stored, sum);
    }
}

static void sizes_are_checked(void **state)
{
    (void)state;
    size_t size = 7;
    assert_true(dtype_size(DTYPE_Q4_K, 512, &size));
    assert_int_equal(size, 288);
    assert_false(dtype_size(DTYPE_GROUPED, 512, &size)); /* its bits are the tensor's own */
    assert_false(dtype_size(DTYPE_Q4_K, 500, &size));
    assert_false(dtype_size(DTYPE_F32, UINT64_MAX / 2, &size));
    assert_false(dtype_size(DTYPE_I64, (UINT64_MAX >> 3) + 1, &size));
    assert_int_equal(size, 288);
    assert_true(dtype_size(DTYPE_MXFP4, 0, &size));
    assert_int_equal(size, 0);
}

static void type_numbers(void **state)
{
    (void)state;
    static const struct {
        uint32_t id;
        const char *mention;
    } refused[] = {{4, "Q4_2"},
                   {5, "Q4_3"},
                   {9, "Q8_1"},
                   {16, "IQ2_XXS"},
                   {19, "IQ1_S"},
                   {22, "IQ2_S"},
                   {29, "IQ1_M"},
                   {34, "TQ1_0"},
                   {35, "TQ2_0"},
                   {31, "Q4_0_4_4"},
                   {40, "NVFP4"},
                   {42, "42"},
                   {UINT32_MAX, "4294967295"}};
    enum dtype type;
    int n_without = 0;
    for (int i = 0; i < DTYPE_COUNT; i++) {
        struct error err = {0};
        int id = dtype_info((enum dtype)i)->gguf_id;
        n_without += id < 0;
        assert_true(id < 0 || dtype_from_gguf((uint32_t)id, &type, &err));
        assert_true(id < 0 || (int)type == i);
        assert_true(dtype_from_name(dtype_info((enum dtype)i)->name, &type));
        assert_int_equal(type, i);
    }
    assert_int_equal(n_without, DTYPE_COUNT - DTYPE_U8); /* those of safetensors files */
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        struct error err = {0};
        assert_false(dtype_from_gguf(refused[i].id, &type, &err));
        assert_int_equal(err.code, ERR_UNSUPPORTED);
        assert_non_null(strstr(err.msg, refused[i].mention));
    }
    assert_false(dtype_from_name("Q9_K", &type));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_of_every_format),
        cmocka_unit_test(halves_convert_exactly),
        cmocka_unit_test(halves_round_to_nearest_even),
        cmocka_unit_test(integers_convert_by_value),
        cmocka_unit_test(what_is_not_written_is_said),
        cmocka_unit_test(f8_converts_exactly),
        cmocka_unit_test(quantizers_stay_close),
        cmocka_unit_test(quantizers_survive_odd_input),
        cmocka_unit_test(q8_k_sums_match),
        cmocka_unit_test(sizes_are_checked),
        cmocka_unit_test(type_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
