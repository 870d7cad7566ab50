/* The quantizer: never worse than rounding to nearest, told by importance, defined for whatever comes. */
#include "tensor/quantize.h"

#include "base/array.h"
#include "base/rng.h"
#include "tensor/model_file.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define N_ROWS 24
#define K      1024

static const enum dtype types[] = {DTYPE_Q4_0, DTYPE_Q4_1, DTYPE_Q5_0, DTYPE_Q5_1,
                                   DTYPE_Q8_0, DTYPE_Q4_K, DTYPE_Q5_K, DTYPE_Q6_K};

/* Heavy tails: a normal divided by the root of an even rarer one's square. */
static void fill(float *x, size_t n, uint64_t seed)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t words[4];
        philox4x32_10((uint32_t[4]){(uint32_t)i, 0, 0, 0}, (uint32_t[2]){(uint32_t)seed, 0}, words);
        double u = (words[0] + 0.5) / 4294967296.0, v = (words[1] + 0.5) / 4294967296.0;
        double w = (words[2] + 0.5) / 4294967296.0;
        x[i] = (float)(0.02 * sqrt(-2 * log(u)) * cos(6.283185307 * v) / sqrt(w + 0.05));
    }
}

static double error_of(const float *x, const float *y, const float *importance)
{
    double sum = 0;
    for (size_t i = 0; i < K; i++) {
        double d = (double)x[i] - (double)y[i];
        sum += (importance ? (double)importance[i] : 1) * d * d;
    }
    return sum;
}

static double searched(enum dtype type, const float *x, const float *importance, const float *judge)
{
    uint8_t blocks[K * 2];
    float y[K];
    quantize_row(type, x, K, importance, blocks);
    dtype_to_f32(type, blocks, K, y);
    return error_of(x, y, judge);
}

static double rounded(enum dtype type, const float *x, const float *judge)
{
    uint8_t blocks[K * 2];
    float y[K];
    assert_true(dtype_from_f32(type, x, K, blocks));
    dtype_to_f32(type, blocks, K, y);
    return error_of(x, y, judge);
}

static void better_than_rounding(void **state)
{
    (void)state;
    float x[K], w[K];
    for (int i = 0; i < K; i++)
        w[i] = expf(2 * sinf((float)i * 1.7f));
    for (size_t t = 0; t < ARRAY_LEN(types); t++) {
        double plain = 0, told = 0, untold = 0, round = 0;
        for (uint64_t r = 0; r < N_ROWS; r++) {
            fill(x, K, 100 + r);
            plain += searched(types[t], x, NULL, NULL);
            round += rounded(types[t], x, NULL);
            told += searched(types[t], x, w, w);
            untold += searched(types[t], x, NULL, w);
        }
        assert_true(quantize_type_known(types[t]));
        if (!(plain < 0.96 * round) || !(told < 0.99 * untold))
            fail_msg("%s: %g searched, %g rounded; %g told, %g untold", dtype_info(types[t])->name, plain, round, told,
                     untold);
    }
    assert_false(quantize_type_known(DTYPE_F16) || quantize_type_known(DTYPE_Q2_K));
}

static double affine_error(const struct group_quant *q, const float *x, const float *importance, const float *judge)
{
    uint8_t codes[K], scales[K * 4 / 32], biases[K * 4 / 32];
    struct group_quant made = *q;
    float y[K];
    quantize_affine_row(q, x, K, importance, codes, scales, biases);
    made.scales = scales;
    made.biases = biases;
    grouped_row_to_f32(&made, codes, 0, K, y);
    return error_of(x, y, judge);
}

/* Of as many evenly spaced levels from the least to the greatest: in theory a twelfth of the step's square each. */
static double spaced_error(const float *x, int bits, int size)
{
    double sum = 0;
    for (int g = 0; g < K; g += size) {
        double min = (double)x[g], max = (double)x[g];
        for (int i = g; i < g + size; i++) {
            min = fmin(min, (double)x[i]);
            max = fmax(max, (double)x[i]);
        }
        double step = (max - min) / ((1 << bits) - 1);
        for (int i = g; i < g + size; i++) {
            double d = (double)x[i] - (min + step * round(((double)x[i] - min) / step));
            sum += d * d;
        }
    }
    return sum;
}

static void affine_groups(void **state)
{
    (void)state;
    static const enum dtype scale_types[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    static const int bits[] = {2, 3, 4, 5, 6, 8};
    float x[K];
    for (size_t b = 0; b < ARRAY_LEN(bits); b++) {
        for (int size = 32; size <= 128; size *= 2) {
            for (size_t s = 0; s < ARRAY_LEN(scale_types); s++) {
                struct group_quant q = {
                    .mode = GROUP_AFFINE, .bits = bits[b], .group_size = size, .scale_type = scale_types[s]};
                double got = 0, spaced = 0;
                for (uint64_t r = 0; r < 4; r++) {
                    fill(x, K, 200 + r);
                    got += affine_error(&q, x, NULL, NULL);
                    spaced += spaced_error(x, bits[b], size);
                }
                /* 8 bits with scales of 8 bits cannot do as well as with exact ones */
                double most = scale_types[s] == DTYPE_BF16 && bits[b] == 8 ? 1.6 : 1.0;
                if (!(got <= most * spaced))
                    fail_msg("%d bits, groups of %d, scales %s: %g, evenly spaced %g", bits[b], size,
                             dtype_info(scale_types[s])->name, got, spaced);
            }
        }
    }
}

/* Values on the 16 levels that a type has are kept. */
static void exact_where_possible(void **state)
{
    (void)state;
    float x[K], y[K];
    uint8_t blocks[K * 2];
    for (int i = 0; i < K; i++)
        x[i] = 0.25f * (float)(i % 16 - 8);
    for (size_t t = 0; t < ARRAY_LEN(types); t++) {
        quantize_row(types[t], x, K, NULL, blocks);
        dtype_to_f32(types[t], blocks, K, y);
        bool coarse = types[t] != DTYPE_Q4_0 && types[t] != DTYPE_Q4_1;
        for (int i = 0; i < K; i++) { /* what has scales of few bits, or more levels than these 16, is near */
            if (fabsf(x[i] - y[i]) > (coarse ? 0.0626f : 0.0f))
                fail_msg("%s: %g became %g", dtype_info(types[t])->name, (double)x[i], (double)y[i]);
        }
    }
    memset(x, 0, sizeof x);
    for (size_t t = 0; t < ARRAY_LEN(types); t++)
        assert_true(searched(types[t], x, NULL, NULL) == 0);
}

/* Infinities, NaNs, the largest and the smallest numbers; importance that says nothing. */
static void anything_is_defined(void **state)
{
    (void)state;
    static const float odd[] = {INFINITY, -INFINITY, NAN, 3.4e38f, -3.4e38f, 1e-45f, 0, -0.0f, 65520, 1e-8f};
    float x[K], y[K], w[K];
    uint8_t blocks[K * 2], codes[K], scales[K], biases[K];
    for (unsigned pass = 0; pass < 4; pass++) {
        for (unsigned i = 0; i < K; i++) {
            x[i] = pass < 2 ? odd[(i * (pass + 1) + i / 32) % ARRAY_LEN(odd)] : odd[pass + 1];
            w[i] = pass % 2 ? 0 : odd[i % 3];
        }
        for (size_t t = 0; t < ARRAY_LEN(types); t++) {
            quantize_row(types[t], x, K, w, blocks);
            dtype_to_f32(types[t], blocks, K, y);
        }
        struct group_quant q = {.mode = GROUP_AFFINE, .bits = 4, .group_size = 64, .scale_type = DTYPE_F16};
        quantize_affine_row(&q, x, K, w, codes, scales, biases);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(better_than_rounding),
        cmocka_unit_test(affine_groups),
        cmocka_unit_test(exact_where_possible),
        cmocka_unit_test(anything_is_defined),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
