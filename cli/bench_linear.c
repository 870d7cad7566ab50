/* Products with weights: every format, the shapes of the models we measure by, and --shape ROWSxCOLUMNS. */
#include "cli/bench_kernels_internal.h"

#include "base/array.h"
#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_PARTS   3
#define MAX_COPIES  4096
#define OUTPUT_SIZE ((size_t)64 << 20) /* of a step's results: what loops of one step may fill */
#define DRAWN_ROWS  32 /* rows that are drawn; the others repeat them: the numbers change no kernel's speed */

/* ---- formats ---- */

struct weight_format {
    const char *name;
    enum dtype type;
    bool usual;             /* measured without --type: what the two models' files and llama.cpp's default hold */
    enum cpu_limit compute; /* int4: codes of at most 4 bits, which are not looked up */
    struct group_quant quant;
};

#define GROUPED(name, compute, of_mode, n_bits, size, scales)                         \
    {                                                                                 \
        name, DTYPE_GROUPED, false, compute,                                          \
        {                                                                             \
            .mode = of_mode, .bits = n_bits, .group_size = size, .scale_type = scales \
        }                                                                             \
    }

static const struct weight_format formats[] = {
    {"Q4_0", DTYPE_Q4_0, true, CPU_LIMIT_INT4, {0}},
    {"Q4_1", DTYPE_Q4_1, true, CPU_LIMIT_INT4, {0}},
    {"Q5_0", DTYPE_Q5_0, true, CPU_LIMIT_INT8, {0}},
    {"Q5_1", DTYPE_Q5_1, false, CPU_LIMIT_INT8, {0}},
    {"Q8_0", DTYPE_Q8_0, true, CPU_LIMIT_INT8, {0}},
    {"Q2_K", DTYPE_Q2_K, false, CPU_LIMIT_INT4, {0}},
    {"Q3_K", DTYPE_Q3_K, false, CPU_LIMIT_INT4, {0}},
    {"Q4_K", DTYPE_Q4_K, true, CPU_LIMIT_INT4, {0}},
    {"Q5_K", DTYPE_Q5_K, false, CPU_LIMIT_INT8, {0}},
    {"Q6_K", DTYPE_Q6_K, true, CPU_LIMIT_INT8, {0}},
    {"IQ4_NL", DTYPE_IQ4_NL, false, CPU_LIMIT_INT8, {0}},
    {"IQ4_XS", DTYPE_IQ4_XS, false, CPU_LIMIT_INT8, {0}},
    {"MXFP4", DTYPE_MXFP4, false, CPU_LIMIT_INT8, {0}},
    {"F16", DTYPE_F16, false, CPU_LIMIT_F32, {0}},
    {"BF16", DTYPE_BF16, false, CPU_LIMIT_F32, {0}},
    {"F32", DTYPE_F32, false, CPU_LIMIT_F32, {0}},
    GROUPED("affine2", CPU_LIMIT_INT4, GROUP_AFFINE, 2, 64, DTYPE_F16),
    GROUPED("affine3", CPU_LIMIT_INT4, GROUP_AFFINE, 3, 64, DTYPE_F16),
    GROUPED("affine4", CPU_LIMIT_INT4, GROUP_AFFINE, 4, 64, DTYPE_F16),
    GROUPED("affine5", CPU_LIMIT_INT8, GROUP_AFFINE, 5, 64, DTYPE_F16),
    GROUPED("affine6", CPU_LIMIT_INT8, GROUP_AFFINE, 6, 64, DTYPE_F16),
    GROUPED("affine8", CPU_LIMIT_INT8, GROUP_AFFINE, 8, 64, DTYPE_F16),
    GROUPED("mlx-mxfp4", CPU_LIMIT_INT8, GROUP_MXFP4, 4, 32, DTYPE_U8),
    GROUPED("mxfp8", CPU_LIMIT_F32, GROUP_MXFP8, 8, 32, DTYPE_U8),
    GROUPED("nvfp4", CPU_LIMIT_INT8, GROUP_NVFP4, 4, 16, DTYPE_U8),
};

static bool format_wanted(const struct kernel_bench *k, const struct weight_format *f)
{
    const char *wanted = k->options->type;
    return wanted ? strcmp(wanted, "all") == 0 || bench_words_match(wanted, f->name) : f->usual;
}

static bool format_fits(const struct weight_format *f, int n_in)
{
    int block = f->type == DTYPE_GROUPED ? f->quant.group_size : dtype_info(f->type)->block_len;
    return n_in % block == 0;
}

/* ---- shapes ---- */

struct linear_shape {
    const char *name;
    const char *op;
    int n_out[MAX_PARTS]; /* of the matrices of one op; 0 at the end */
    int n_in;
    bool head; /* rows of it are computed for sampled tokens only */
};

static const struct linear_shape shapes[] = {
    {"smollm2-135m.qkv", "linear", {576, 192, 192}, 576, false},
    {"smollm2-135m.out", "linear", {576}, 576, false},
    {"smollm2-135m.gate", "linear", {1536}, 576, false},
    {"smollm2-135m.down", "linear", {576}, 1536, false},
    {"smollm2-135m.mlp", "mlp_gated", {1536, 1536, 576}, 576, false},
    {"smollm2-135m.head", "linear", {49152}, 576, true},
    {"qwen2.5-0.5b.qkv", "linear", {896, 128, 128}, 896, false},
    {"qwen2.5-0.5b.out", "linear", {896}, 896, false},
    {"qwen2.5-0.5b.gate", "linear", {4864}, 896, false},
    {"qwen2.5-0.5b.down", "linear", {896}, 4864, false},
    {"qwen2.5-0.5b.mlp", "mlp_gated", {4864, 4864, 896}, 896, false},
    {"qwen2.5-0.5b.head", "linear", {151936}, 896, true},
    {"llama-8b.gate", "linear", {14336}, 4096, false},
    {"llama-8b.down", "linear", {4096}, 14336, false},
};
#define HEAD_MAX_TOKENS 64

static bool is_mlp(const struct linear_shape *s)
{
    return strcmp(s->op, "mlp_gated") == 0;
}

static int n_parts(const struct linear_shape *s)
{
    int n = 0;
    while (n < MAX_PARTS && s->n_out[n] > 0) {
        n++;
    }
    return n;
}

/* Columns of a part: an MLP's last matrix reads what its first ones made. */
static int part_n_in(const struct linear_shape *s, int part)
{
    return is_mlp(s) && part == 2 ? s->n_out[0] : s->n_in;
}

static double shape_products(const struct linear_shape *s)
{
    double sum = 0;
    for (int i = 0; i < n_parts(s); i++) {
        sum += (double)s->n_out[i] * part_n_in(s, i);
    }
    return sum;
}

/* ---- matrices ---- */

/* Bytes of a matrix as a file stores it, in front scales and biases of a grouped one. */
static size_t scales_size(const struct weight_format *f, size_t n_out, size_t n_in)
{
    struct group_quant q = f->quant;
    return f->type == DTYPE_GROUPED ? group_scales_size(&q, n_out, n_in) : 0;
}

static size_t codes_size(const struct weight_format *f, size_t n_out, size_t n_in)
{
    size_t row = 0;
    if (f->type == DTYPE_GROUPED) {
        row = grouped_row_size(f->quant.bits, n_in);
    } else if (!dtype_size(f->type, n_in, &row)) {
        row = 0;
    }
    return n_out * row;
}

static size_t matrix_size(const struct weight_format *f, size_t n_out, size_t n_in)
{
    bool affine = f->quant.mode == GROUP_AFFINE; /* its biases take as much as its scales */
    size_t size = codes_size(f, n_out, n_in) + scales_size(f, n_out, n_in) * (affine ? 2 : 1);
    return (size + 63) / 64 * 64;
}

/* The smallest of ordinary scales of each type. */
static void fill_scales(const struct weight_format *f, uint8_t *scales, size_t size)
{
    uint16_t half = f32_to_f16(0x1p-6f);
    for (size_t i = 0; i < size; i++) {
        scales[i] = f->quant.scale_type == DTYPE_U8 ? (f->quant.mode == GROUP_NVFP4 ? 0x10 : 120)
                                                    : (uint8_t)(i % 2 ? half >> 8 : half & 255);
    }
}

/* DRAWN_ROWS rows of random codes at dst. False: the type cannot be written. */
static bool draw_rows(const struct weight_format *f, size_t n_rows, size_t n_in, uint8_t *dst)
{
    uint64_t state = 11;
    float *values = malloc(n_in * sizeof *values);
    size_t row = codes_size(f, 1, n_in);
    bool ok = values != NULL;
    for (size_t r = 0; ok && r < n_rows; r++) {
        for (size_t i = 0; i < n_in; i++) {
            values[i] = kernels__random(&state) * 0.05f;
        }
        for (size_t i = 0; f->type == DTYPE_GROUPED && i < row; i++) {
            dst[r * row + i] = (uint8_t)((uint32_t)(kernels__random(&state) * 1e6f) & 0x77); /* no E4M3 NaN */
        }
        ok = f->type == DTYPE_GROUPED || dtype_from_f32(f->type, values, n_in, dst + r * row);
    }
    free(values);
    return ok;
}

static bool fill_matrix(const struct weight_format *f, size_t n_out, size_t n_in, uint8_t *data)
{
    size_t row = codes_size(f, 1, n_in), drawn = n_out < DRAWN_ROWS ? n_out : DRAWN_ROWS;
    size_t codes = codes_size(f, n_out, n_in);
    if (!draw_rows(f, drawn, n_in, data)) {
        return false;
    }
    for (size_t r = drawn; r < n_out; r++) {
        memcpy(data + r * row, data + r % drawn * row, row);
    }
    fill_scales(f, data + codes, matrix_size(f, n_out, n_in) - codes);
    return true;
}

static struct weight *make_weight(struct backend *be, const struct weight_format *f, size_t n_out, size_t n_in,
                                  const uint8_t *data, struct error *err)
{
    size_t codes = codes_size(f, n_out, n_in);
    struct tensor_view view = {.name = STR("matrix"),
                               .type = f->type,
                               .n_dims = 2,
                               .shape = {n_out, n_in, 1, 1},
                               .data = data,
                               .size = codes,
                               .quant = f->quant};
    if (f->type == DTYPE_GROUPED) {
        view.quant.scales = data + codes;
        view.quant.biases = f->quant.mode == GROUP_AFFINE ? data + codes + scales_size(f, n_out, n_in) : NULL;
    }
    return be->ops->weight_create(be, &(const struct tensor_view *){&view}, 1, err);
}

/* ---- one shape in one format ---- */

struct linear_work {
    struct backend *be;
    const struct linear_shape *shape;
    const struct weight_format *format;
    struct kernel_input input;
    uint8_t *data;                                 /* what the weights were made of, and may still lie in */
    struct weight *weights[MAX_COPIES][MAX_PARTS]; /* [n_copies][n_parts] */
    struct weight *small;                          /* of the same format: its product quantizes the input */
    int n_copies, next;
    struct kernel_batch batch;
};

static double stored_size(const struct linear_work *w)
{
    double sum = 0;
    for (int i = 0; i < n_parts(w->shape); i++) {
        sum += (double)matrix_size(w->format, (size_t)w->shape->n_out[i], (size_t)part_n_in(w->shape, i));
    }
    return sum;
}

static void release_work(struct linear_work *w)
{
    for (int c = 0; c < w->n_copies; c++) {
        for (int i = 0; i < MAX_PARTS; i++) {
            if (w->weights[c][i]) {
                w->be->ops->weight_free(w->be, w->weights[c][i]);
            }
        }
    }
    if (w->small) {
        w->be->ops->weight_free(w->be, w->small);
    }
    kernels__input_release(&w->input, w->be);
    w->be->ops->free(w->be);
    free(w->data);
    free(w);
}

/* The first copy is drawn, the others are copies of it. */
static bool make_copies(struct linear_work *w, struct error *err)
{
    const struct linear_shape *s = w->shape;
    size_t size = (size_t)stored_size(w), n = BENCH_COLD_SIZE / size + 1;
    n = n < MAX_COPIES ? n : MAX_COPIES;
    w->data = aligned_alloc(64, n * size);
    if (!w->data) {
        return error_set(err, ERR_NO_MEMORY, "There is no memory for %zu bytes of weights.", n * size);
    }
    for (size_t c = 0; c < n; c++) {
        uint8_t *data = w->data + c * size;
        w->n_copies++;
        for (int i = 0; i < n_parts(s); i++) {
            size_t n_out = (size_t)s->n_out[i], n_in = (size_t)part_n_in(s, i),
                   bytes = matrix_size(w->format, n_out, n_in);
            if (c > 0) {
                memcpy(data, data - size, bytes);
            } else if (!fill_matrix(w->format, n_out, n_in, data)) {
                return error_set(err, ERR_UNSUPPORTED, "Weights of type %s cannot be made.", w->format->name);
            }
            w->weights[c][i] = make_weight(w->be, w->format, n_out, n_in, data, err);
            if (!w->weights[c][i]) {
                return false;
            }
            data += bytes;
        }
    }
    size_t n_out = (size_t)s->n_out[0] < DRAWN_ROWS ? (size_t)s->n_out[0] : DRAWN_ROWS;
    bool alone = w->format->type != DTYPE_GROUPED; /* else scales lie behind all of the codes */
    w->small = alone ? make_weight(w->be, w->format, n_out, (size_t)s->n_in, w->data, err) : NULL;
    return w->small || !alone;
}

static struct linear_work *make_work(const struct kernel_bench *k, const struct linear_shape *shape,
                                     const struct weight_format *format, struct error *err)
{
    struct linear_work *w = calloc(1, sizeof *w);
    if (!w) {
        error_set(err, ERR_NO_MEMORY, "There is no memory for a benchmark.");
        return NULL;
    }
    w->shape = shape;
    w->format = format;
    w->be = cpu_backend_create(&k->cpu, err);
    if (!w->be) {
        free(w);
        return NULL;
    }
    if (make_copies(w, err) && kernels__input_init(&w->input, w->be, shape->n_in, kernels__random, err)) {
        return w;
    }
    release_work(w);
    return NULL;
}

static void call_op(struct linear_work *w, struct tensor *x)
{
    const struct backend_ops *ops = w->be->ops;
    struct weight **weights = w->weights[w->next];
    struct tensor *outs[MAX_PARTS];
    w->next = (w->next + 1) % w->n_copies;
    if (is_mlp(w->shape)) {
        ops->mlp_gated(w->be, x, weights[0], weights[1], weights[2], ACT_SILU);
    } else {
        ops->linear(w->be, x, n_parts(w->shape), weights, NULL, outs);
    }
}

static bool sample_linear(void *arg, int loops, int64_t *ns, struct error *err)
{
    struct linear_work *w = arg;
    const struct backend_ops *ops = w->be->ops;
    if (!ops->step_begin(w->be, &w->batch.batch, err)) {
        return false;
    }
    struct tensor *x = op_embed(w->be, w->input.table, 1);
    if (w->small) {
        op_linear(w->be, x, w->small, NULL);
    }
    int64_t start = clock_ns();
    for (int i = 0; i < loops; i++) {
        call_op(w, x);
    }
    *ns = clock_ns() - start;
    return ops->step_end(w->be, err);
}

static bool measure_tokens(struct kernel_bench *k, struct linear_work *w, int n_tokens, struct error *err)
{
    double products = shape_products(w->shape);
    size_t out_size = 0;
    for (int i = 0; i < n_parts(w->shape); i++) {
        out_size += (size_t)w->shape->n_out[i] * (size_t)n_tokens * sizeof(float);
    }
    struct kernel_case c = {.op = w->shape->op,
                            .shape = w->shape->name,
                            .type = w->format->name,
                            .tokens = n_tokens,
                            .macs = products * n_tokens,
                            .bytes = stored_size(w),
                            .compute = w->format->compute};
    kernels__batch_init(&w->batch, n_tokens);
    return kernels__measure(k, &c, sample_linear, w, (int)(OUTPUT_SIZE / out_size) + 1, err);
}

static bool measure_shape(struct kernel_bench *k, const struct linear_shape *shape, const struct weight_format *format,
                          struct error *err)
{
    if (!format_fits(format, shape->n_in) || (is_mlp(shape) && !format_fits(format, shape->n_out[0]))) {
        return true;
    }
    struct linear_work *w = make_work(k, shape, format, err);
    bool ok = w != NULL;
    for (int i = 0; ok && i < k->tokens.n; i++) {
        if (!shape->head || k->tokens.items[i] <= HEAD_MAX_TOKENS) {
            ok = measure_tokens(k, w, k->tokens.items[i], err);
        }
    }
    if (w) {
        release_work(w);
    }
    return ok;
}

/* ---- all of them ---- */

/* "14336x4096": rows by columns. */
static bool parse_shape(struct str word, struct linear_shape *out)
{
    int64_t n_out, n_in;
    size_t x = str_find_char(word, 'x');
    if (x == STR_NPOS || !str_to_i64(str_slice(word, 0, x), &n_out) ||
        !str_to_i64(str_slice(word, x + 1, word.len), &n_in) || n_out < 1 || n_in < 32 || n_out > 1 << 20 ||
        n_in > 1 << 20) {
        return false;
    }
    *out = (struct linear_shape){.op = "linear", .n_out = {(int)n_out}, .n_in = (int)n_in};
    return true;
}

bool kernels__is_matrix(struct str word)
{
    struct linear_shape ignored;
    return parse_shape(word, &ignored);
}

static bool measure_format(struct kernel_bench *k, const struct weight_format *format, struct error *err)
{
    struct str rest = str_of(k->options->shape), word;
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
        if (kernels__wanted(k, shapes[i].op, shapes[i].name) && !measure_shape(k, &shapes[i], format, err)) {
            return false;
        }
    }
    while (str_split(&rest, ',', &word)) {
        struct linear_shape shape;
        char name[48];
        snprintf(name, sizeof name, STR_FMT, STR_ARG(word));
        if (kernels__wanted(k, "linear", NULL) && parse_shape(word, &shape)) {
            shape.name = name;
            if (!measure_shape(k, &shape, format, err)) {
                return false;
            }
        }
    }
    return true;
}

static bool run_linear(struct kernel_bench *k, struct error *err)
{
    if (!kernels__wanted(k, "linear", NULL) && !kernels__wanted(k, "mlp_gated", NULL)) {
        return true;
    }
    for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
        if (format_wanted(k, &formats[i]) && !measure_format(k, &formats[i], err)) {
            return false;
        }
    }
    return true;
}

static const char *linear_name(enum kernel_name kind, size_t i)
{
    static const char *const ops[] = {"linear", "mlp_gated"};
    switch (kind) {
    case KERNEL_OP:
        return i < ARRAY_LEN(ops) ? ops[i] : NULL;
    case KERNEL_SHAPE:
        return i < ARRAY_LEN(shapes) ? shapes[i].name : NULL;
    case KERNEL_TYPE:
        return i < ARRAY_LEN(formats) ? formats[i].name : NULL;
    case KERNEL_KV_TYPE:
        break;
    }
    return NULL;
}

const struct kernel_group kernels__linear = {linear_name, run_linear};
