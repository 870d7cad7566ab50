/* The kernel table: every kernel of every instruction set that this machine has, against sums in f64 over the same
 * numbers. Products with quantized weights are compared on the quantized activations, so that the bounds are those of
 * f32 sums. The same results are compared bit for bit between one token and many. */
#include "backend/cpu/cpu_kernels.h"
#include "backend/cpu/cpu_pack.h"
#include "base/array.h"
#include "tests/support/emulated.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint64_t seed = 1;

static uint64_t random_bits(void)
{
    seed += 0x9e3779b97f4a7c15u;
    uint64_t z = (seed ^ (seed >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static float random_float(float scale) /* in (-scale, scale) */
{
    return ((float)(random_bits() >> 40) / (float)(1 << 23) - 1) * scale;
}

static void *buffer(size_t size)
{
    void *p = aligned_alloc(64, (size + 127) / 64 * 64);
    assert_non_null(p);
    memset(p, 0xff, (size + 127) / 64 * 64); /* NaN: what is not written shows */
    return p;
}

/* ---- random weights: any codes, sane scales ---- */

struct scale_fields {
    int f16[2]; /* offsets in a block; -1: none */
};

static const struct scale_fields scale_fields[DTYPE_COUNT] = {
    [DTYPE_Q4_0] = {{0, -1}},   [DTYPE_Q4_1] = {{0, 2}},    [DTYPE_Q5_0] = {{0, -1}},   [DTYPE_Q5_1] = {{0, 2}},
    [DTYPE_Q8_0] = {{0, -1}},   [DTYPE_Q2_K] = {{80, 82}},  [DTYPE_Q3_K] = {{108, -1}}, [DTYPE_Q4_K] = {{0, 2}},
    [DTYPE_Q5_K] = {{0, 2}},    [DTYPE_Q6_K] = {{208, -1}}, [DTYPE_Q8_K] = {{-1, -1}},  [DTYPE_IQ4_NL] = {{0, -1}},
    [DTYPE_IQ4_XS] = {{0, -1}}, [DTYPE_MXFP4] = {{-1, -1}},
};

/* fill: the byte of all codes, or -1 for random ones */
static void make_block(enum dtype type, int fill, uint8_t *block)
{
    for (int i = 0; i < dtype_info(type)->block_size; i++)
        block[i] = fill >= 0 ? (uint8_t)fill : (uint8_t)random_bits();
    for (int i = 0; i < 2 && dtype_info(type)->quantized; i++) {
        uint16_t h = f32_to_f16(random_float(0.05f));
        if (scale_fields[type].f16[i] >= 0)
            memcpy(block + scale_fields[type].f16[i], &h, 2);
    }
    float d = random_float(0.05f);
    if (type == DTYPE_Q8_K || type == DTYPE_F32)
        memcpy(block, &d, 4);
    if (type == DTYPE_MXFP4)
        block[0] = (uint8_t)(120 + random_bits() % 10);
    uint16_t h = type == DTYPE_F16 ? f32_to_f16(d) : f32_to_bf16(d);
    if (type == DTYPE_F16 || type == DTYPE_BF16)
        memcpy(block, &h, 2);
}

/* What is tested of a type: shape and data come with a matrix. */
static struct tensor_view plain_type(enum dtype type)
{
    return (struct tensor_view){.type = type, .n_dims = 2, .shape = {0, 0, 1, 1}};
}

static struct tensor_view grouped_type(enum group_mode mode, int bits, int group_size, enum dtype scale_type)
{
    struct tensor_view t = plain_type(DTYPE_GROUPED);
    t.quant = (struct group_quant){.mode = mode, .bits = bits, .group_size = group_size, .scale_type = scale_type};
    return t;
}

static int block_len_of(const struct tensor_view *t)
{
    if (t->type != DTYPE_GROUPED)
        return dtype_info(t->type)->block_len;
    return t->quant.group_size > 32 ? t->quant.group_size : 32;
}

/* A scale or a bias; numbers of e4m3 of both signs and all sizes. */
static void make_scale(const struct group_quant *q, float range, uint8_t *dst)
{
    float value = random_float(range);
    if (q->mode == GROUP_AFFINE)
        assert_true(dtype_from_f32(q->scale_type, &value, 1, dst));
    else if (q->mode == GROUP_NVFP4)
        *dst = (uint8_t)((random_bits() & 0x80) | random_bits() % 0x7f);
    else
        *dst = (uint8_t)(120 + random_bits() % 10);
}

static void *make_scales(const struct group_quant *q, size_t n, float range)
{
    size_t size = (size_t)dtype_info(q->scale_type)->block_size;
    uint8_t *scales = buffer(n * size);
    for (size_t i = 0; i < n; i++)
        make_scale(q, range, scales + i * size);
    return scales;
}

struct matrix {
    struct tensor_view view; /* as in a model file */
    struct pack_format pack; /* super_len 0: the table takes it as it is */
    size_t n_out;
    int n_in;
    char name[48];
    uint8_t *file, *scales, *biases;
    float *values;   /* [n_out, n_in] */
    uint8_t *kernel; /* as the table wants it */
};

static void make_grouped(struct matrix *m, int fill)
{
    struct group_quant *q = &m->view.quant;
    size_t n_groups = m->n_out * (size_t)(m->n_in / q->group_size);
    m->view.size = m->n_out * grouped_row_size(q->bits, (uint64_t)m->n_in);
    m->file = buffer(m->view.size);
    for (size_t i = 0; i < m->view.size; i++)
        m->file[i] = fill >= 0 ? (uint8_t)fill : (uint8_t)random_bits();
    q->scales = m->scales = make_scales(q, n_groups, 0.05f);
    q->biases = m->biases = q->mode == GROUP_AFFINE ? make_scales(q, n_groups, 0.5f) : NULL;
}

static void make_blocks(struct matrix *m, int fill)
{
    const struct dtype_info *info = dtype_info(m->view.type);
    size_t n_blocks = m->n_out * (size_t)(m->n_in / info->block_len);
    m->view.size = n_blocks * (size_t)info->block_size;
    m->file = buffer(m->view.size);
    for (size_t i = 0; i < n_blocks; i++)
        make_block(m->view.type, fill, m->file + i * (size_t)info->block_size);
}

/* Values and panels of what the file holds. */
static void read_matrix(const struct cpu_kernel_table *table, struct matrix *m)
{
    size_t rows = (size_t)table->pack_rows,
           panel = m->kernel == m->file ? 0 : pack_panel_size(&m->pack, (int)rows, m->n_in);
    for (size_t row = 0; row < m->n_out; row++)
        tensor_row_to_f32(&m->view, row, m->values + row * (size_t)m->n_in);
    for (size_t i = 0; panel && i * rows < m->n_out; i++)
        pack_panel(&m->pack, &m->view, i * rows, table->pack_rows, m->kernel + i * panel);
}

static struct matrix make_matrix(const struct cpu_kernel_table *table, const struct tensor_view *type, size_t n_out,
                                 int n_in, int fill)
{
    struct matrix m = {.view = *type, .n_out = n_out, .n_in = n_in};
    m.view.shape[0] = n_out;
    m.view.shape[1] = (uint64_t)n_in;
    tensor_type_name(type, m.name, sizeof(m.name));
    if (type->type == DTYPE_GROUPED)
        make_grouped(&m, fill);
    else
        make_blocks(&m, fill);
    m.view.data = m.kernel = m.file;
    m.values = buffer(n_out * (size_t)n_in * sizeof(float));
    if (table->pack_rows && pack_format_of(&m.view, &m.pack)) {
        size_t rows = (size_t)table->pack_rows;
        m.kernel = buffer((n_out + rows - 1) / rows * pack_panel_size(&m.pack, table->pack_rows, n_in));
    }
    read_matrix(table, &m);
    return m;
}

static void free_matrix(struct matrix *m)
{
    if (m->kernel != m->file)
        free(m->kernel);
    free(m->file);
    free(m->scales);
    free(m->biases);
    free(m->values);
}

/* ---- products ---- */

struct input {
    int n_t, n_in;
    float *x;             /* [n_t, n_in] */
    struct act_group *q8; /* NULL when n_in is no multiple of 32 */
    float *quantized;     /* what q8 stands for */
};

static struct input make_input(const struct cpu_kernel_table *table, int n_t, int n_in, bool extreme)
{
    struct input in = {.n_t = n_t, .n_in = n_in};
    size_t n = (size_t)n_t * (size_t)n_in;
    in.x = buffer(n * sizeof(float));
    for (size_t i = 0; i < n; i++)
        in.x[i] = extreme ? 1.0f : random_float(3);
    if (n_in % 32 != 0)
        return in;
    in.q8 = buffer(n / 32 * sizeof(*in.q8));
    in.quantized = buffer(n * sizeof(float));
    table->quantize(in.x, (int)n, in.q8);
    for (size_t i = 0; i < n; i++)
        in.quantized[i] = in.q8[i / 32].d * (float)in.q8[i / 32].q[i % 32];
    return in;
}

static void free_input(struct input *in)
{
    free(in->x);
    free(in->q8);
    free(in->quantized);
}

/* Tokens [first, first + n_t), rows [first_row, first_row + n_rows) to out of n_out columns. */
static void product(const struct cpu_kernel_table *table, const struct matrix *m, const struct input *in, int first,
                    int n_t, float *out)
{
    bool quantized = m->pack.super_len > 0;
    float *scratch = buffer((size_t)m->n_in * sizeof(float));
    struct linear_tile tile = {
        .type = m->view.type,
        .pack = quantized ? &m->pack : NULL,
        .weights = m->kernel,
        .n_in = m->n_in,
        .n_rows = (int)m->n_out,
        .q8 = quantized ? in->q8 + (size_t)first * (size_t)(m->n_in / 32) : NULL,
        .x = quantized ? NULL : in->x + (size_t)first * (size_t)m->n_in,
        .n_t = n_t,
        .out = out,
        .out_stride = m->n_out,
        .scratch = scratch,
    };
    (quantized ? table->packed[m->pack.kind] : table->linear[m->view.type])(&tile);
    free(scratch);
}

static void check_product(const struct cpu_kernel_table *table, const struct tensor_view *type, size_t n_out, int n_in,
                          int n_t, int fill)
{
    struct matrix m = make_matrix(table, type, n_out, n_in, fill);
    struct input in = make_input(table, n_t, n_in, fill >= 0);
    const float *x = m.pack.super_len > 0 ? in.quantized : in.x;
    float *out = buffer((size_t)n_t * n_out * sizeof(float)), *alone = buffer(n_out * sizeof(float));
    product(table, &m, &in, 0, n_t, out);
    for (int t = 0; t < n_t; t++) {
        for (size_t n = 0; n < n_out; n++) {
            double sum = 0, magnitude = 0;
            for (int k = 0; k < n_in; k++) {
                double p = (double)m.values[n * (size_t)n_in + (size_t)k] * (double)x[t * n_in + k];
                sum += p;
                magnitude += fabs(p);
            }
            double got = (double)out[(size_t)t * n_out + n];
            if (!(fabs(got - sum) <= 1e-5 * magnitude + 1e-12))
                fail_msg("%s %s [%zu, %d] x %d: row %zu of token %d is %.9g, should be %.9g", table->name, m.name,
                         n_out, n_in, n_t, n, t, got, sum);
        }
    }
    for (int t = 0; t < n_t; t++) {
        product(table, &m, &in, t, 1, alone);
        if (memcmp(alone, out + (size_t)t * n_out, n_out * sizeof(float)) != 0)
            fail_msg("%s %s [%zu, %d]: token %d of %d differs from itself alone", table->name, m.name, n_out, n_in, t,
                     n_t);
    }
    free(out);
    free(alone);
    free_matrix(&m);
    free_input(&in);
}

static void check_type(const struct cpu_kernel_table *table, const struct tensor_view *type)
{
    static const int tokens[] = {1, 2, 3, 5, 6, 7, 8, 13, 40, 70};
    static const size_t rows[] = {1, 7, 16, 33, 70};
    int block = block_len_of(type), max = block == 1 ? 133 : 2 * block > 96 ? 2 * block : 96;
    for (size_t i = 0; i < ARRAY_LEN(tokens); i++)
        check_product(table, type, rows[i % ARRAY_LEN(rows)], max, tokens[i], -1);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        check_product(table, type, rows[i], block, tokens[i], -1);
    for (int k = 1; block == 1 && k < 40; k++)
        check_product(table, type, 5, k, 3, -1);
    if (block > 1) {
        check_product(table, type, 40, max, 9, 0x00); /* extreme codes against activations of 127 */
        check_product(table, type, 40, max, 9, 0x7f);
        check_product(table, type, 40, max, 9, 0x80);
        check_product(table, type, 40, max, 9, 0xff);
    }
}

static void each_table(void (*check)(const struct cpu_kernel_table *table))
{
    struct cpu_features features = sys_cpu_features();
    for (int i = 0; cpu__tables[i]; i++) {
        const struct cpu_kernel_table *table = cpu__tables[i];
        if (!kernels_wanted(table->kind))
            continue;
        if (table->usable(&features))
            check(table);
        else if (kernels_required(table->kind))
            fail_msg("this processor has no %s", table->name);
        else
            printf("skip: this processor has no %s\n", table->name);
    }
}

#define N_AFFINE 54
/* Every number of bits, group and type of scales. */
static struct tensor_view affine_type(int i)
{
    static const int bits[] = {2, 3, 4, 5, 6, 8}, groups[] = {32, 64, 128};
    static const enum dtype scales[] = {DTYPE_F16, DTYPE_BF16, DTYPE_F32};
    return grouped_type(GROUP_AFFINE, bits[i / 9], groups[i / 3 % 3], scales[i % 3]);
}

static void check_products(const struct cpu_kernel_table *table)
{
    for (int type = 0; type < DTYPE_COUNT; type++) {
        struct tensor_view t = plain_type((enum dtype)type);
        struct pack_format ignored;
        if (table->linear[type] || (table->pack_rows && type != DTYPE_GROUPED && pack_format_of(&t, &ignored)))
            check_type(table, &t);
    }
}

/* Each two of bits, group and type of scales are there together; on an emulated processor each bits with one. */
static void check_grouped_products(const struct cpu_kernel_table *table)
{
    struct tensor_view others[] = {grouped_type(GROUP_MXFP4, 4, 32, DTYPE_U8),
                                   grouped_type(GROUP_NVFP4, 4, 16, DTYPE_U8)};
    if (!table->pack_rows)
        return;
    for (int i = 0; i < N_AFFINE; i++) {
        struct tensor_view t = affine_type(i);
        int bits = i / 9, group = i / 3 % 3, scales = i % 3;
        if ((bits + group + scales) % 3 == 0 && (!emulated() || group == bits % 3))
            check_type(table, &t);
    }
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        check_type(table, &others[i]);
}

/* A scale that is no number makes all products of its row none, those of no other row. */
static void check_nan_scales(const struct cpu_kernel_table *table)
{
    struct tensor_view types[] = {affine_type(0), affine_type(31), affine_type(53),
                                  grouped_type(GROUP_NVFP4, 4, 16, DTYPE_U8)};
    for (size_t i = 0; table->pack_rows && i < ARRAY_LEN(types); i++) {
        struct matrix m = make_matrix(table, &types[i], 18, 128, -1);
        struct input in = make_input(table, 9, 128, false);
        float out[9 * 18];
        size_t size = (size_t)dtype_info(m.view.quant.scale_type)->block_size;
        memset(m.scales + 17 * (size_t)(128 / types[i].quant.group_size) * size, 0xff, size);
        read_matrix(table, &m);
        product(table, &m, &in, 0, 9, out);
        for (int k = 0; k < 9 * 18; k++)
            assert_true(!isnan(out[k]) == (k % 18 != 17));
        free_matrix(&m);
        free_input(&in);
    }
}

/* Row i has scale i, and of its codes one alone is not zero: its product with 1 is its value, exactly. */
static void check_scales_of_a_byte(const struct cpu_kernel_table *table)
{
    struct tensor_view types[] = {plain_type(DTYPE_MXFP4), grouped_type(GROUP_NVFP4, 4, 16, DTYPE_U8)};
    for (size_t i = 0; table->pack_rows && i < ARRAY_LEN(types); i++) {
        bool blocks = types[i].type == DTYPE_MXFP4;
        struct matrix m = make_matrix(table, &types[i], 256, 32, 0);
        struct input in = make_input(table, 1, 32, true);
        float out[256];
        for (int row = 0; row < 256; row++) {
            *(blocks ? m.file + 17 * row : m.scales + 2 * row) = (uint8_t)row;
            *(blocks ? m.file + 17 * row + 1 : m.file + 16 * row) = 1;
        }
        read_matrix(table, &m);
        in.x[1] = 127;
        table->quantize(in.x, 32, in.q8);
        product(table, &m, &in, 0, 1, out);
        for (int row = 0; row < 256; row++) {
            float want = m.values[32 * row];
            if (isnan(want) ? !isnan(out[row]) : out[row] != want)
                fail_msg("%s: a scale of %d makes %.9g, should make %.9g", m.name, row, (double)out[row], (double)want);
        }
        free_matrix(&m);
        free_input(&in);
    }
}

static void test_products(void **state)
{
    (void)state;
    each_table(check_products);
}

static void test_grouped_products(void **state)
{
    (void)state;
    each_table(check_grouped_products);
    each_table(check_nan_scales);
    each_table(check_scales_of_a_byte);
}

static void test_all_types_have_products(void **state)
{
    (void)state;
    for (int i = 0; cpu__tables[i]; i++) {
        const struct cpu_kernel_table *table = cpu__tables[i];
        for (int type = 0; type < DTYPE_COUNT; type++) {
            bool floats = type == DTYPE_F32 || type == DTYPE_F16 || type == DTYPE_BF16;
            bool blocks = !table->pack_rows && dtype_info((enum dtype)type)->quantized;
            assert_int_equal(table->linear[type] != NULL, floats || blocks);
        }
        for (int kind = 0; kind < PACK_KINDS; kind++)
            assert_int_equal(table->packed[kind] != NULL, table->pack_rows != 0);
    }
}

/* ---- packing ---- */

/* The same bits as in the file, and hardly more bytes. */
static void check_panels(const struct tensor_view *type)
{
    static const struct cpu_kernel_table tables[] = {{.pack_rows = 4}, {.pack_rows = 8}, {.pack_rows = 16}};
    for (size_t i = 0; i < ARRAY_LEN(tables); i++) {
        int rows = tables[i].pack_rows, n_in = 512;
        struct matrix m = make_matrix(&tables[i], type, 21, n_in, -1);
        size_t panel = pack_panel_size(&m.pack, rows, n_in);
        float *row = buffer((size_t)n_in * sizeof(float));
        assert_true(m.pack.super_len > 0);
        for (size_t r = 0; r < m.n_out; r++) {
            pack_unpack_row(&m.pack, m.kernel + r / (size_t)rows * panel, rows, (int)(r % (size_t)rows), n_in, row);
            if (memcmp(row, m.values + r * (size_t)n_in, (size_t)n_in * sizeof(float)) != 0)
                fail_msg("%s in panels of %d rows: row %zu is not that of the file", m.name, rows, r);
        }
        free(row);
        size_t scales = m.scales ? group_scales_size(&m.view.quant, m.n_out, (uint64_t)n_in) : 0;
        assert_true((double)panel <= 1.05 * (double)(m.view.size + scales) * rows / (double)m.n_out);
        free_matrix(&m);
    }
}

static void test_panels_keep_values(void **state)
{
    (void)state;
    for (int type = 0; type < DTYPE_COUNT; type++) {
        struct tensor_view t = plain_type((enum dtype)type);
        if (dtype_info((enum dtype)type)->quantized)
            check_panels(&t);
    }
}

static void test_panels_keep_grouped_values(void **state)
{
    struct tensor_view mxfp4 = grouped_type(GROUP_MXFP4, 4, 32, DTYPE_U8);
    struct tensor_view nvfp4 = grouped_type(GROUP_NVFP4, 4, 16, DTYPE_U8);
    (void)state;
    for (int i = 0; i < N_AFFINE; i++) {
        struct tensor_view t = affine_type(i);
        check_panels(&t);
    }
    check_panels(&mxfp4);
    check_panels(&nvfp4);
}

/* What is not packed: plain numbers, and codes that are numbers of 8 bits. */
static void test_other_types_are_not_packed(void **state)
{
    struct tensor_view mxfp8 = grouped_type(GROUP_MXFP8, 8, 32, DTYPE_U8);
    struct pack_format format;
    (void)state;
    for (int type = 0; type < DTYPE_COUNT; type++) {
        struct tensor_view t = plain_type((enum dtype)type);
        if (type != DTYPE_GROUPED)
            assert_int_equal(pack_format_of(&t, &format), dtype_info((enum dtype)type)->quantized);
    }
    assert_false(pack_format_of(&mxfp8, &format));
}

/* ---- quantization ---- */

static void check_quantize(const struct cpu_kernel_table *table)
{
    float x[96];
    struct act_group mine[3], reference[3];
    for (int round = 0; round < 200; round++) {
        for (int i = 0; i < 96; i++)
            x[i] = random_float(round % 3 == 0 ? 1e-3f : 100);
        x[40] = round == 1 ? NAN : round == 2 ? INFINITY : round == 3 ? -INFINITY : x[40];
        if (round == 4)
            memset(x, 0, 32 * sizeof(float));
        x[70] = round == 5 ? 1e-38f : x[70];
        table->quantize(x, 96, mine);
        cpu__reference_table.quantize(x, 96, reference);
        bool broken = round >= 1 && round <= 3;
        assert_memory_equal(&mine[0], &reference[0], sizeof(mine[0]));
        assert_memory_equal(&mine[2], &reference[2], sizeof(mine[2]));
        if (broken)
            assert_true(isnan(mine[1].d) && isnan(mine[1].sum) && isnan(mine[1].sum16[0]) && isnan(mine[1].sum16[1]));
        else
            assert_memory_equal(&mine[1], &reference[1], sizeof(mine[1]));
    }
}

static void test_quantize(void **state)
{
    (void)state;
    each_table(check_quantize);
}

/* ---- norms and elementwise ---- */

static void close_to(const char *what, int n, double got, double wanted, double bound)
{
    if (!(fabs(got - wanted) <= bound))
        fail_msg("%s of %d: %.9g, should be %.9g", what, n, got, wanted);
}

static void check_norm(const struct cpu_kernel_table *table)
{
    float x[600], w[600], b[600], y[600];
    for (int n = 1; n <= 600; n = n < 40 ? n + 1 : n + 93) {
        for (int i = 0; i < n; i++) {
            x[i] = random_float(4) + 1;
            w[i] = random_float(2);
            b[i] = random_float(2);
        }
        for (int kind = NORM_RMS; kind <= NORM_LAYER; kind++) {
            struct norm_params p = {.kind = (enum norm_kind)kind, .eps = 1e-5f, .weight_offset = 1, .n_groups = 1};
            double mean = 0, squares = 0;
            for (int i = 0; kind == NORM_LAYER && i < n; i++)
                mean += (double)x[i] / n;
            for (int i = 0; i < n; i++)
                squares += ((double)x[i] - mean) * ((double)x[i] - mean) / n;
            table->norm(x, n, &p, w, kind == NORM_LAYER ? b : NULL, y);
            for (int i = 0; i < n; i++) {
                double wanted = ((double)x[i] - mean) / sqrt(squares + 1e-5) * ((double)w[i] + 1);
                double offset = kind == NORM_LAYER ? (double)b[i] : 0;
                /* one value alone: a difference of equal numbers over the root of eps */
                close_to("norm", n, (double)y[i], wanted + offset, n < 3 && kind == NORM_LAYER ? 1e-3 : 2e-5);
            }
        }
    }
}

static double exact_activation(enum activation act, double x)
{
    switch (act) {
    case ACT_SILU:
        return x / (1 + exp(-x));
    case ACT_GELU:
        return 0.5 * x * (1 + erf(x / sqrt(2)));
    case ACT_GELU_TANH:
        return 0.5 * x * (1 + tanh(sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
    case ACT_RELU:
        return x > 0 ? x : 0;
    case ACT_RELU2:
        return x > 0 ? x * x : 0;
    case ACT_CLAMPED_SWIGLU:
        break;
    }
    return NAN;
}

static void check_activations(const struct cpu_kernel_table *table)
{
    float x[1000], y[1000], up[1000], one[1];
    for (int act = ACT_SILU; act <= ACT_RELU2; act++) {
        for (int i = 0; i < 1000; i++) {
            x[i] = y[i] = i < 990 ? random_float(i < 500 ? 8 : 120) : 0;
            up[i] = random_float(3);
        }
        table->activate(y, (enum activation)act, 997);
        for (int i = 0; i < 997; i++) {
            double wanted = exact_activation((enum activation)act, (double)x[i]);
            close_to("activation", act, (double)y[i], wanted, 4e-7 * (1 + fabs(wanted) + fabs((double)x[i])));
            one[0] = x[i]; /* alone: the same bits */
            table->activate(one, (enum activation)act, 1);
            assert_memory_equal(one, &y[i], sizeof(float));
        }
        assert_memory_equal(&x[997], &y[997], 3 * sizeof(float));
        memcpy(y, x, sizeof(y));
        table->activate_mul(y, up, (enum activation)act, 997);
        for (int i = 0; i < 997; i++) {
            double wanted = exact_activation((enum activation)act, (double)x[i]) * (double)up[i];
            close_to("gate", act, (double)y[i], wanted, 1e-6 * (1 + fabs(wanted) + 3 * fabs((double)x[i])));
        }
        float bad[3] = {NAN, -NAN, 1};
        table->activate(bad, (enum activation)act, 3);
        assert_true(isnan(bad[0]) && isnan(bad[1]) && !isnan(bad[2]));
    }
}

static void check_clamped_swiglu(const struct cpu_kernel_table *table)
{
    float x[1000], y[1000], up[1000], one[1];
    for (int i = 0; i < 1000; i++) {
        x[i] = y[i] = random_float(i < 500 ? 8 : 120);
        up[i] = random_float(i % 2 ? 4 : 20);
    }
    table->activate_mul(y, up, ACT_CLAMPED_SWIGLU, 997);
    for (int i = 0; i < 997; i++) {
        double g = fmin((double)x[i], 7), u = fmax(fmin((double)up[i], 7), -7);
        double wanted = g / (1 + exp(-1.702 * g)) * (u + 1);
        close_to("clamped swiglu", i, (double)y[i], wanted, 1e-6 * (1 + fabs(wanted) + 8 * fabs(g)));
        one[0] = x[i]; /* alone: the same bits */
        table->activate_mul(one, &up[i], ACT_CLAMPED_SWIGLU, 1);
        assert_memory_equal(one, &y[i], sizeof(float));
    }
    assert_memory_equal(&x[997], &y[997], 3 * sizeof(float));
    float bad[4] = {NAN, 1, -NAN, 1}, beside[4] = {1, NAN, 1, 1};
    table->activate_mul(bad, beside, ACT_CLAMPED_SWIGLU, 4);
    assert_true(isnan(bad[0]) && isnan(bad[1]) && isnan(bad[2]) && !isnan(bad[3]));
}

static void check_elementwise(const struct cpu_kernel_table *table)
{
    float a[77], b[77], y[77];
    for (int i = 0; i < 77; i++) {
        a[i] = y[i] = random_float(100);
        b[i] = random_float(100);
    }
    table->add(y, b, 75);
    for (int i = 0; i < 77; i++)
        assert_true(y[i] == (i < 75 ? a[i] + b[i] : a[i]));
    memcpy(y, a, sizeof(y));
    table->mul(y, a, b, 75);
    for (int i = 0; i < 77; i++)
        assert_true(y[i] == (i < 75 ? a[i] * b[i] : a[i]));
    memcpy(y, a, sizeof(y));
    table->scale(y, 0.3f, 75);
    for (int i = 0; i < 77; i++)
        assert_true(y[i] == (i < 75 ? a[i] * 0.3f : a[i]));
    memcpy(y, a, sizeof(y));
    table->softcap(y, 30, 75);
    for (int i = 0; i < 75; i++)
        close_to("softcap", i, (double)y[i], 30 * tanh((double)a[i] / 30), 1e-5);
}

/* A position that is not there counts as zeros. */
static void check_convolve(const struct cpu_kernel_table *table)
{
    enum { N = 45, TAPS = 3 };
    float x[TAPS][N], taps[TAPS][N], gate[N], y[N + 1];
    const float *seen[TAPS] = {NULL, x[1], x[2]};
    struct conv_row row = {.n_taps = TAPS, .x = seen, .taps = taps[0], .taps_stride = N, .gate = gate, .y = y, .n = N};
    for (int i = 0; i < N; i++) {
        gate[i] = random_float(10);
        for (int j = 0; j < TAPS; j++) {
            x[j][i] = random_float(10);
            taps[j][i] = random_float(1);
        }
    }
    for (int n_seen = 2; n_seen <= TAPS; n_seen++) {
        seen[0] = n_seen == TAPS ? x[0] : NULL;
        y[N] = 7;
        table->convolve(&row);
        assert_true(y[N] == 7);
        for (int i = 0; i < N; i++) {
            double sum = 0, size = 0;
            for (int j = TAPS - n_seen; j < TAPS; j++) {
                sum += (double)taps[j][i] * (double)x[j][i];
                size += fabs((double)taps[j][i] * (double)x[j][i]);
            }
            double by = row.gate ? (double)gate[i] : 1;
            close_to("convolve", i, (double)y[i], sum * by, 1e-6 * size * fabs(by));
        }
        row.gate = NULL; /* the last time */
    }
}

/* A head of so many columns over three positions, at strides; the columns beside it stay. */
static void check_delta_of(const struct cpu_kernel_table *table, int k_dim, int width, bool in_place)
{
    enum { N = 3, DIM = 70, STRIDE = DIM + 3 };
    static float q[N][STRIDE], k[N][STRIDE], v[N][STRIDE], out[N][STRIDE], gates[N][4];
    static float before[DIM * DELTA_COLUMNS + 1], after[DIM * DELTA_COLUMNS + 1];
    static double s[DIM * DELTA_COLUMNS];
    int size = k_dim * width;
    for (int i = 0; i < size; i++)
        s[i] = (double)(before[i] = random_float(1));
    before[size] = after[size] = 7;
    for (int t = 0; t < N; t++) {
        for (int i = 0; i < STRIDE; i++) {
            q[t][i] = random_float(0.3f);
            k[t][i] = random_float(0.3f);
            v[t][i] = random_float(3);
            out[t][i] = 7;
        }
        gates[t][0] = 0.3f + (float)t * 0.2f;
        gates[t][2] = 0.9f - (float)t * 0.3f;
    }
    struct delta_columns c = {.n = N,
                              .k_dim = k_dim,
                              .width = width,
                              .q = q[0],
                              .k = k[0],
                              .v = v[0],
                              .q_stride = STRIDE,
                              .v_stride = STRIDE,
                              .decay = gates[0],
                              .beta = gates[0] + 2,
                              .gate_stride = 4,
                              .from = before,
                              .to = in_place ? before : after,
                              .out = out[0],
                              .out_stride = STRIDE};
    table->delta(&c);
    for (int t = 0; t < N; t++) {
        for (int j = 0; j < width; j++) {
            double known = 0, sum = 0, decay = (double)gates[t][0];
            for (int i = 0; i < k_dim; i++)
                known += decay * s[i * width + j] * (double)k[t][i];
            double by = (double)gates[t][2] * ((double)v[t][j] - known);
            for (int i = 0; i < k_dim; i++) {
                s[i * width + j] = decay * s[i * width + j] + (double)k[t][i] * by;
                sum += s[i * width + j] * (double)q[t][i];
            }
            close_to("delta", j, (double)out[t][j], sum, 1e-5);
        }
        assert_true(out[t][width] == 7);
    }
    for (int i = 0; i < size; i++)
        close_to("delta's state", i, (double)c.to[i], s[i], 1e-5);
    assert_true(c.to[size] == 7);
}

static void check_delta(const struct cpu_kernel_table *table)
{
    for (int width = 1; width <= DELTA_COLUMNS; width += 5) {
        check_delta_of(table, 67, width, width == 6);
        check_delta_of(table, 3, width, width == 11);
    }
}

static void check_rope(const struct cpu_kernel_table *table)
{
    float x[80], y[80], cosines[40], sines[40];
    for (int rot_dim = 2; rot_dim <= 80; rot_dim += 2) {
        for (int kind = ROPE_NORM; kind <= ROPE_NEOX; kind++) {
            int half = rot_dim / 2;
            for (int i = 0; i < 80; i++)
                x[i] = y[i] = random_float(2);
            for (int i = 0; i < half; i++) {
                double angle = (double)random_float(3);
                cosines[i] = (float)cos(angle);
                sines[i] = (float)sin(angle);
            }
            table->rope(y, cosines, sines, (enum rope_kind)kind, rot_dim);
            for (int i = 0; i < half; i++) {
                int p = kind == ROPE_NEOX ? i : 2 * i, q = kind == ROPE_NEOX ? i + half : 2 * i + 1;
                double c = (double)cosines[i], s = (double)sines[i];
                close_to("rope", rot_dim, (double)y[p], (double)x[p] * c - (double)x[q] * s, 1e-6);
                close_to("rope", rot_dim, (double)y[q], (double)x[q] * c + (double)x[p] * s, 1e-6);
            }
            assert_memory_equal(x + rot_dim, y + rot_dim, (size_t)(80 - rot_dim) * sizeof(float));
        }
    }
}

/* ---- K and V ---- */

/* Numbers of every size, what rounds to infinity, what f16 has not; and halfway between two numbers of f16. */
static float odd_value(int i)
{
    static const float scales[] = {3, 1e-5f, 1e-7f, 1e5f, 1e30f};
    static const float special[] = {0, -0.0f, INFINITY, -INFINITY, NAN, 65504, 65520.5f, 6e-8f};
    float x = i % 3 == 2 ? special[(size_t)(i / 3) % ARRAY_LEN(special)] : random_float(scales[i % 5]);
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    if (i % 3 == 1)
        bits = (bits & ~0x1fffu) | 0x1000;
    if (i % 3 == 1 && emulated()) /* Bochs 2.7 rounds these away from zero */
        bits |= 1;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

static void check_kv_store(const struct cpu_kernel_table *table)
{
    float x[40], full[40 * 32];
    uint16_t half[40 * 32];
    for (int n = 1; n <= 40; n++) {
        int stride = n % 2 == 0 ? 32 : 1;
        for (int i = 0; i < n; i++)
            x[i] = odd_value(n + i);
        memset(half, 0x55, sizeof(half));
        memset(full, 0x55, sizeof(full));
        table->kv_store(KV_F16, x, n, half, stride, 1, NULL);
        table->kv_store(KV_F32, x, n, full, stride, 1, NULL);
        for (int i = 0; i < 40 * stride; i++) {
            bool written = i % stride == 0 && i / stride < n;
            uint16_t want = written ? f32_to_f16(x[i / stride]) : 0x5555;
            bool nan = written && isnan(x[i / stride]);
            if (nan ? !isnan(f16_to_f32(half[i])) : half[i] != want)
                fail_msg("%s: %.9g is stored as %04x, should be %04x", table->name, (double)x[i / stride], half[i],
                         want);
            uint32_t bits = 0x55555555;
            if (written)
                memcpy(&bits, &x[i / stride], sizeof(bits));
            assert_memory_equal(&full[i], &bits, sizeof(bits));
        }
    }
}

/* Where kv_store puts them. */
struct places {
    int stride, run;
};

static int place(const struct places *p, int i)
{
    return i / p->run * p->stride + i % p->run;
}

static bool is_place(const struct places *p, int at, int n)
{
    int i = at / p->stride * p->run + at % p->stride;
    return at % p->stride < p->run && i < n;
}

/* A group's codes are its numbers over the scale that is stored, rounded. */
static void check_kv_codes(const struct cpu_kernel_table *table, const float *x, int n, const struct places *p)
{
    int8_t codes[101 * 32];
    uint16_t scales[4 * CPU_PAGE_TOKENS];
    memset(codes, 0x55, sizeof(codes));
    memset(scales, 0x55, sizeof(scales));
    table->kv_store(KV_Q8, x, n, codes, p->stride, p->run, scales);
    for (int i = 0; i < n; i++) {
        int group = i / KV_GROUP;
        float top = 0, d = f16_to_f32(scales[group * CPU_PAGE_TOKENS]);
        for (int k = group * KV_GROUP; k < n && k < (group + 1) * KV_GROUP; k++)
            top = fabsf(x[k]) > top ? fabsf(x[k]) : top;
        float error = fabsf((float)codes[place(p, i)] * d - x[i]);
        if (scales[group * CPU_PAGE_TOKENS] != f32_to_f16(top / 127) ||
            !(error <= d * 0.5001f + top * 1e-6f + 127 * 0x1p-25f)) /* the scale's rounding */
            fail_msg("%s: %.9g of a group up to %.9g is stored as %d times %.9g", table->name, (double)x[i],
                     (double)top, codes[place(p, i)], (double)d);
    }
    for (int i = 0; i < (int)sizeof(codes); i++)
        assert_true(is_place(p, i, n) || codes[i] == 0x55);
    for (int i = 0; i < 4 * CPU_PAGE_TOKENS; i++)
        assert_true((i % CPU_PAGE_TOKENS == 0 && i / CPU_PAGE_TOKENS * KV_GROUP < n) || scales[i] == 0x5555);
}

static void check_kv_quantize(const struct cpu_kernel_table *table)
{
    static const float scales[] = {1, 0, 300, 1e-3f, 1e5f};
    static const struct places places[] = {{1, 1}, {32, 1}, {64, 2}, {2, 1}}; /* K in pairs is the third, V the last */
    float x[100], bad[3] = {NAN, INFINITY, 1e30f};
    int8_t codes[KV_GROUP];
    uint16_t scale[CPU_PAGE_TOKENS];
    for (int n = 1; n <= 100; n++) {
        for (int i = 0; i < n; i++) {
            x[i] = random_float(scales[n % 5]);
            uint32_t bits;
            memcpy(&bits, &x[i], sizeof(bits));
            bits |= x[i] != 0; /* no scale halfway between two of f16 */
            memcpy(&x[i], &bits, sizeof(bits));
        }
        check_kv_codes(table, x, n, &places[(size_t)n % ARRAY_LEN(places)]);
    }
    for (int i = 0; i < 3; i++) {
        x[7] = bad[i];
        table->kv_store(KV_Q8, x, KV_GROUP, codes, 1, 1, scale);
        assert_false(isfinite(f16_to_f32(scale[0])));
    }
}

static void test_norm(void **state)
{
    (void)state;
    each_table(check_norm);
}

static void test_activations(void **state)
{
    (void)state;
    each_table(check_activations);
    each_table(check_clamped_swiglu);
}

static void test_elementwise(void **state)
{
    (void)state;
    each_table(check_elementwise);
    each_table(check_convolve);
    each_table(check_delta);
}

static void test_rope(void **state)
{
    (void)state;
    each_table(check_rope);
}

static void test_kv_store(void **state)
{
    (void)state;
    each_table(check_kv_store);
}

static void test_kv_quantize(void **state)
{
    (void)state;
    each_table(check_kv_quantize);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_types_have_products),
        cmocka_unit_test(test_panels_keep_values),
        cmocka_unit_test(test_panels_keep_grouped_values),
        cmocka_unit_test(test_other_types_are_not_packed),
        cmocka_unit_test(test_quantize),
        cmocka_unit_test(test_products),
        cmocka_unit_test(test_grouped_products),
        cmocka_unit_test(test_norm),
        cmocka_unit_test(test_activations),
        cmocka_unit_test(test_elementwise),
        cmocka_unit_test(test_rope),
        cmocka_unit_test(test_kv_store),
        cmocka_unit_test(test_kv_quantize),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
