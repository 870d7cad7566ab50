/* The cpu backend through its interface: ops against sums in f64, and batch invariance bit for bit: a row alone and
 * among others, 1 thread and 3, prefill whole and in chunks, other pages. A pattern as argument chooses tests. */
#include "backend/cpu/cpu_internal.h"
#include "base/array.h"
#include "base/sys_cpu.h"
#include "tests/support/emulated.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint64_t random_state = 7;

static float random_float(float scale)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return ((float)(random_state >> 40) / (float)(1 << 23) - 1) * scale;
}

static float *random_floats(size_t n, float scale)
{
    float *x = malloc(n * sizeof(float) + 1);
    assert_non_null(x);
    for (size_t i = 0; i < n; i++)
        x[i] = random_float(scale);
    return x;
}

static struct backend *open_backend(enum cpu_kernels kernels, int n_threads)
{
    struct error err = {0};
    struct cpu_backend_options o = {.kernels = kernels, .n_threads = n_threads, .spin_us = -1};
    struct backend *be = cpu_backend_create(&o, &err);
    if (!be && err.code == ERR_UNSUPPORTED && !kernels_required(kernels))
        return NULL;
    if (!be)
        fail_msg("%s", err.msg);
    return be;
}

/* ---- weights ---- */

struct matrix {
    struct weight *w;
    struct tensor_view view;
    void *data;
};

static struct matrix make_matrix(struct backend *be, enum dtype type, const float *values, size_t n_out, size_t n_in)
{
    struct error err = {0};
    struct matrix m = {.view = {.name = STR("test.weight"),
                                .type = type,
                                .n_dims = n_out == 1 ? 1 : 2,
                                .shape = {n_out == 1 ? n_in : n_out, n_out == 1 ? 1 : n_in, 1, 1}}};
    assert_true(dtype_size(type, n_out * n_in, &m.view.size));
    m.data = malloc(m.view.size);
    assert_non_null(m.data);
    assert_true(dtype_from_f32(type, values, n_out * n_in, m.data));
    m.view.data = m.data;
    const struct tensor_view *views[1] = {&m.view};
    m.w = be->ops->weight_create(be, views, 1, &err);
    if (!m.w)
        fail_msg("%s", err.msg);
    return m;
}

static struct matrix random_matrix(struct backend *be, enum dtype type, size_t n_out, size_t n_in)
{
    float *values = random_floats(n_out * n_in, 1.0f / sqrtf((float)n_in));
    struct matrix m = make_matrix(be, type, values, n_out, n_in);
    free(values);
    return m;
}

static void drop_matrix(struct backend *be, struct matrix *m)
{
    be->ops->weight_free(be, m->w);
    free(m->data);
}

/* ---- a cache and steps ---- */

#define POSITIONS 1152 /* more than two stretches of attention */

struct cache {
    struct backend *be;
    struct kv_group_spec spec;
    uint8_t *pool;
    uint32_t pages[POSITIONS]; /* more than enough */
    int n_pages;
};

/* reversed: the sequence's pages lie in the pool in another order */
static struct cache open_cache(struct backend *be, struct kv_group_spec spec, bool reversed)
{
    struct error err = {0};
    int page_tokens = be->ops->kv_page_tokens(be);
    struct cache c = {.be = be, .spec = spec, .n_pages = (POSITIONS + page_tokens - 1) / page_tokens};
    size_t size = be->ops->kv_page_size(be, &spec) * (size_t)c.n_pages;
    size = (size + 63) / 64 * 64;
    c.pool = aligned_alloc(64, size);
    assert_non_null(c.pool);
    memset(c.pool, 0xff, size); /* NaN in both types: reading what was not written shows */
    assert_true(be->ops->kv_bind(be, &spec, 1, c.pool, size, &err));
    for (int i = 0; i < c.n_pages; i++)
        c.pages[i] = (uint32_t)(reversed ? c.n_pages - 1 - i : i);
    return c;
}

static int32_t numbers[POSITIONS * 2];

static struct batch batch_of(struct batch_seq *seq, const struct cache *c, int start, int n)
{
    for (int i = 0; i < POSITIONS * 2; i++)
        numbers[i] = i;
    *seq = (struct batch_seq){.n_rows = n, .start = start, .n_pages = c ? c->n_pages : POSITIONS};
    if (c)
        seq->pages[0] = c->pages;
    return (struct batch){.n_rows = n,
                          .ids = numbers + start,
                          .positions = numbers + start,
                          .n_seqs = 1,
                          .seqs = seq,
                          .n_out = n,
                          .out_rows = numbers};
}

static void begin(struct backend *be, const struct batch *batch)
{
    struct error err = {0};
    if (!be->ops->step_begin(be, batch, &err))
        fail_msg("%s", err.msg);
}

static void end(struct backend *be, struct tensor *t, float *dst, size_t n)
{
    struct error err = {0};
    if (!be->ops->step_end(be, &err))
        fail_msg("%s", err.msg);
    if (t)
        assert_true(be->ops->read_f32(be, t, dst, n, &err));
}

/* The rows of a table as a tensor of the step: an embedding of f32 is exact. */
static struct tensor *rows_of(struct backend *be, const struct matrix *table)
{
    return op_embed(be, table->w, 1);
}

/* ---- attention ---- */

struct attention_case {
    int n_heads, n_kv_heads, k_dim, v_dim, window;
    float softcap;
    bool causal, sinks, chunked;
    float temper_scale;
};

static const struct attention_case attention_cases[] = {
    {9, 3, 64, 64, 0, 0, true, false, false, 0},    {14, 2, 64, 64, 0, 0, true, false, false, 0},
    {4, 4, 128, 128, 0, 50, true, false, false, 0}, {8, 4, 256, 256, 40, 30, true, false, false, 0},
    {3, 1, 20, 12, 7, 0, true, false, false, 0},    {2, 1, 8, 4, 0, 0, false, false, false, 0},
    {4, 2, 80, 96, 33, 0, true, true, false, 0},    {5, 5, 16, 24, 1, 0, true, true, false, 0},
    {4, 2, 32, 32, 20, 0, false, false, false, 0},  {1, 1, 1, 1, 0, 0, true, false, false, 0},
    {4, 2, 32, 32, 40, 0, true, true, true, 0},     {4, 1, 72, 64, 0, 0, true, false, false, 0},
    {4, 2, 32, 32, 0, 0, true, false, false, 0.3f},
};
#define TEMPER_LENGTH 9

struct attention_data {
    const struct attention_case *c;
    int n;
    float *q, *k, *v, *sinks;
    double *stored_k, *stored_v; /* as the cache keeps them */
};

/* n vectors of dim elements */
static double *as_stored(enum kv_type type, const float *x, size_t n, size_t dim)
{
    double *out = malloc(n * dim * sizeof(double));
    assert_non_null(out);
    for (size_t i = 0; i < n * dim; i++) {
        size_t first = i / dim * dim + i % dim / KV_GROUP * KV_GROUP, end = (i / dim + 1) * dim;
        float top = 0;
        for (size_t k = first; k < end && k < first + KV_GROUP; k++)
            top = fabsf(x[k]) > top ? fabsf(x[k]) : top;
        float d = f16_to_f32(f32_to_f16(top / 127)), code = rintf(x[i] * (d > 0 ? 1 / d : 0));
        code = code > 127 ? 127 : code < -127 ? -127 : code;
        out[i] = type == KV_F32   ? (double)x[i]
                 : type == KV_F16 ? (double)f16_to_f32(f32_to_f16(x[i]))
                                  : (double)d * (double)code;
    }
    return out;
}

/* The transform is its own inverse. */
static void rotate(double *x, size_t n)
{
    size_t block = n & (~n + 1);
    for (size_t half = 1; half < block; half *= 2) {
        for (size_t i = 0; i < n; i++) {
            double a = x[i], b = x[i ^ half];
            if (!(i & half)) {
                x[i] = a + b;
                x[i ^ half] = a - b;
            }
        }
    }
    for (size_t i = 0; i < n; i++)
        x[i] /= sqrt((double)block);
}

/* Keys of q8 lie rotated, and less the first of their page: what is read is what is rotated back. */
static double *stored_keys(enum kv_type type, const float *k, size_t n_positions, size_t n_heads, size_t dim)
{
    size_t n = n_positions * n_heads;
    if (type != KV_Q8)
        return as_stored(type, k, n, dim);
    float *rotated = malloc(n * dim * sizeof(float));
    assert_non_null(rotated);
    memcpy(rotated, k, n * dim * sizeof(float));
    for (size_t i = 0; i < n; i++)
        cpu__kv_rotate(rotated + i * dim, (int)dim);
    float *offsets = malloc(n * dim * sizeof(float));
    assert_non_null(offsets);
    for (size_t i = 0; i < n * dim; i++) {
        size_t position = i / (n_heads * dim), first = position / KV_OFFSET_TOKENS * KV_OFFSET_TOKENS;
        offsets[i] = f16_to_f32(f32_to_f16(rotated[i - (position - first) * n_heads * dim]));
    }
    for (size_t i = 0; i < n * dim; i++)
        rotated[i] -= offsets[i];
    double *out = as_stored(type, rotated, n, dim);
    for (size_t i = 0; i < n * dim; i++)
        out[i] += (double)offsets[i];
    for (size_t i = 0; i < n; i++)
        rotate(out + i * dim, dim);
    free(rotated);
    free(offsets);
    return out;
}

/* Bits below those of f16: Bochs 2.7 rounds what is halfway between two of them away from zero. */
static float *not_halfway(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof(bits));
        bits |= 1;
        memcpy(&x[i], &bits, sizeof(bits));
    }
    return x;
}

static struct attention_data make_attention(const struct attention_case *c, enum kv_type type, int n)
{
    struct attention_data a = {.c = c, .n = n};
    a.q = random_floats((size_t)(n * c->n_heads * c->k_dim), 2);
    size_t k_size = (size_t)(n * c->n_kv_heads * c->k_dim), v_size = (size_t)(n * c->n_kv_heads * c->v_dim);
    a.k = not_halfway(random_floats(k_size, 2), k_size);
    a.v = not_halfway(random_floats(v_size, 2), v_size);
    a.sinks = random_floats((size_t)c->n_heads, 2);
    a.stored_k = stored_keys(type, a.k, (size_t)n, (size_t)c->n_kv_heads, (size_t)c->k_dim);
    a.stored_v = as_stored(type, a.v, (size_t)(n * c->n_kv_heads), (size_t)c->v_dim);
    return a;
}

static void free_attention(struct attention_data *a)
{
    free(a->q);
    free(a->k);
    free(a->v);
    free(a->sinks);
    free(a->stored_k);
    free(a->stored_v);
}

static bool sees(const struct attention_case *c, int position, int key)
{
    if (c->causal && key > position)
        return false;
    if (c->chunked)
        return key / c->window == position / c->window;
    return c->window == 0 || (key > position - c->window && key < position + c->window);
}

/* One head of one position, in f64. */
static void exact_attention(const struct attention_data *a, int t, int head, double *out)
{
    const struct attention_case *c = a->c;
    int kv = head / (c->n_heads / c->n_kv_heads);
    double s[POSITIONS], top = c->sinks ? (double)a->sinks[head] : -INFINITY, total = 0;
    for (int j = 0; j < a->n; j++) {
        double dot = 0;
        for (int d = 0; d < c->k_dim && sees(c, t, j); d++)
            dot += (double)a->q[(t * c->n_heads + head) * c->k_dim + d] *
                   a->stored_k[(j * c->n_kv_heads + kv) * c->k_dim + d];
        dot *= 1 / sqrt((double)c->k_dim);
        dot *= 1 + (double)c->temper_scale * log(1 + floor((t + 1) / (double)TEMPER_LENGTH));
        s[j] = c->softcap > 0 ? (double)c->softcap * tanh(dot / (double)c->softcap) : dot;
        if (sees(c, t, j) && s[j] > top)
            top = s[j];
    }
    if (c->sinks)
        total = exp((double)a->sinks[head] - top);
    memset(out, 0, (size_t)c->v_dim * sizeof(*out));
    for (int j = 0; j < a->n; j++) {
        double p = sees(c, t, j) ? exp(s[j] - top) : 0;
        total += p;
        for (int d = 0; d < c->v_dim && p > 0; d++)
            out[d] += p * a->stored_v[(j * c->n_kv_heads + kv) * c->v_dim + d];
    }
    for (int d = 0; d < c->v_dim; d++)
        out[d] /= total;
}

/* All rows, `chunk` a step; a chunk sees only the keys written so far, so a non-causal case wants one chunk. */
static float *run_attention(struct backend *be, const struct attention_data *a, enum kv_type type, int chunk,
                            bool reversed)
{
    const struct attention_case *c = a->c;
    struct kv_group_spec spec = {.n_layers = 2,
                                 .n_kv_heads = c->n_kv_heads,
                                 .k_dim = c->k_dim,
                                 .v_dim = c->v_dim,
                                 .type = type,
                                 .window = c->window};
    struct cache cache = open_cache(be, spec, reversed);
    size_t q_cols = (size_t)(c->n_heads * c->k_dim), k_cols = (size_t)(c->n_kv_heads * c->k_dim);
    size_t v_cols = (size_t)(c->n_kv_heads * c->v_dim), o_cols = (size_t)(c->n_heads * c->v_dim);
    float *out = malloc((size_t)a->n * o_cols * sizeof(float));
    size_t n = (size_t)a->n;
    /* one row more: a table of one row would be a vector */
    float *q_rows = calloc((n + 1) * q_cols, sizeof(float)), *k_rows = calloc((n + 1) * k_cols, sizeof(float)),
          *v_rows = calloc((n + 1) * v_cols, sizeof(float));
    memcpy(q_rows, a->q, n * q_cols * sizeof(float));
    memcpy(k_rows, a->k, n * k_cols * sizeof(float));
    memcpy(v_rows, a->v, n * v_cols * sizeof(float));
    struct matrix q = make_matrix(be, DTYPE_F32, q_rows, n + 1, q_cols);
    struct matrix k = make_matrix(be, DTYPE_F32, k_rows, n + 1, k_cols);
    struct matrix v = make_matrix(be, DTYPE_F32, v_rows, n + 1, v_cols);
    struct attention_params p = {.n_heads = c->n_heads,
                                 .n_kv_heads = c->n_kv_heads,
                                 .k_dim = c->k_dim,
                                 .v_dim = c->v_dim,
                                 .scale = (float)(1 / sqrt((double)c->k_dim)),
                                 .softcap = c->softcap,
                                 .window = c->window,
                                 .causal = c->causal,
                                 .chunked = c->chunked,
                                 .temper_scale = c->temper_scale,
                                 .temper_length = TEMPER_LENGTH};
    struct matrix sinks = {0};
    if (c->sinks) {
        sinks = make_matrix(be, DTYPE_F32, a->sinks, 1, (size_t)c->n_heads);
        p.sinks = sinks.w;
    }
    for (int start = 0; start < a->n; start += chunk) {
        struct batch_seq seq;
        int rows = a->n - start < chunk ? a->n - start : chunk;
        struct batch batch = batch_of(&seq, &cache, start, rows);
        begin(be, &batch);
        be->ops->kv_write(be, 0, 1, rows_of(be, &k), rows_of(be, &v));
        struct tensor *o = be->ops->attention(be, 0, 1, rows_of(be, &q), &p);
        end(be, o, out + (size_t)start * o_cols, (size_t)rows * o_cols);
    }
    drop_matrix(be, &q);
    drop_matrix(be, &k);
    drop_matrix(be, &v);
    if (c->sinks)
        drop_matrix(be, &sinks);
    free(q_rows);
    free(k_rows);
    free(v_rows);
    free(cache.pool);
    return out;
}

/* q8: queries are rounded to 16 bits too; and Bochs 2.7 rounds a scale that is halfway between two of f16 the other
 * way. */
static double error_bound(enum kv_type type)
{
    return type != KV_Q8 ? 2e-5 : emulated() ? 5e-3 : 3e-4;
}

/* All rows against the sums in f64, then in chunks and on several threads, which has to give the same bits. */
static void check_rows(struct backend *const be[2], const struct attention_case *c, enum kv_type type, int n_rows,
                       const int *chunks, size_t n_chunks)
{
    struct attention_data a = make_attention(c, type, n_rows);
    float *out = run_attention(be[0], &a, type, a.n, false);
    double wanted[256], bound = error_bound(type);
    for (int t = 0; t < a.n; t++) {
        for (int h = 0; h < c->n_heads; h++) {
            exact_attention(&a, t, h, wanted);
            for (int d = 0; d < c->v_dim; d++) {
                double got = (double)out[(t * c->n_heads + h) * c->v_dim + d];
                if (!(fabs(got - wanted[d]) < bound))
                    fail_msg("%s, %s, %d heads of %d, %d rows: row %d head %d element %d is %.9g, should be %.9g",
                             be[0]->ops->describe(be[0]), kv_type_name(type), c->n_heads, c->k_dim, a.n, t, h, d, got,
                             wanted[d]);
            }
        }
    }
    size_t size = (size_t)(a.n * c->n_heads * c->v_dim) * sizeof(float);
    for (size_t i = 0; i < n_chunks; i++) {
        int chunk = c->causal ? chunks[i] : a.n;
        float *again = run_attention(be[1 - i % 2], &a, type, chunk < a.n ? chunk : a.n, i > 0);
        if (memcmp(out, again, size) != 0)
            fail_msg("%s, %s, %d heads of %d: %d rows in chunks of %d differ from the whole",
                     be[0]->ops->describe(be[0]), kv_type_name(type), c->n_heads, c->k_dim, a.n, chunk);
        free(again);
    }
    free(out);
    free_attention(&a);
}

static bool is_possible(const struct attention_case *c, enum kv_type type)
{
    return type != KV_Q8 || c->k_dim % 2 == 0; /* int8 lies in pairs */
}

/* Longer than two stretches, which threads then share; a window that leaves the first behind. */
static const struct attention_case long_cases[] = {{4, 2, 16, 24, 0, 0, true, false, false, 0},
                                                   {3, 1, 32, 16, 600, 0, true, true, false, 0},
                                                   {2, 2, 16, 16, 0, 0, false, false, false, 0}};

static void check_attention(enum cpu_kernels kernels)
{
    static const int lengths[] = {5, 70, 1, 31, 32, 33, 100}, chunks[] = {7, 1, 32, 33, 1000};
    struct backend *be[2] = {kernels_wanted(kernels) ? open_backend(kernels, 1) : NULL, NULL};
    be[1] = be[0] ? open_backend(kernels, 3) : NULL;
    if (!be[0])
        return;
    for (int type = 0; type < KV_TYPE_COUNT; type++) {
        for (size_t i = 0; i < ARRAY_LEN(attention_cases); i++) {
            for (size_t l = 0;
                 l < (emulated() ? 2 : ARRAY_LEN(lengths)) && is_possible(&attention_cases[i], (enum kv_type)type); l++)
                check_rows(be, &attention_cases[i], (enum kv_type)type, lengths[l], chunks,
                           emulated() ? 1 : ARRAY_LEN(chunks));
        }
        for (size_t i = 0; i < ARRAY_LEN(long_cases) && !emulated(); i++)
            check_rows(be, &long_cases[i], (enum kv_type)type, 1100, chunks, ARRAY_LEN(chunks));
    }
    be[0]->ops->free(be[0]);
    be[1]->ops->free(be[1]);
}

static void test_odd_q8_is_refused(void **state)
{
    (void)state;
    struct error err = {0};
    struct backend *be = open_backend(CPU_KERNELS_REFERENCE, 1);
    struct kv_group_spec spec = {.n_layers = 1, .n_kv_heads = 1, .k_dim = 7, .v_dim = 8, .type = KV_Q8};
    uint8_t *pool = aligned_alloc(64, 4096);
    assert_non_null(pool);
    assert_false(be->ops->kv_bind(be, &spec, 1, pool, 4096, &err));
    assert_int_equal(err.code, ERR_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "not 7"));
    free(pool);
    be->ops->free(be);
}

static void test_attention_reference(void **state)
{
    (void)state;
    check_attention(CPU_KERNELS_REFERENCE);
}

static void test_attention_avx2(void **state)
{
    (void)state;
    check_attention(CPU_KERNELS_AVX2);
}

static void test_attention_avx512(void **state)
{
    (void)state;
    check_attention(CPU_KERNELS_AVX512);
}

static void test_attention_neon(void **state)
{
    (void)state;
    check_attention(CPU_KERNELS_NEON);
}

static void test_attention_i8mm(void **state)
{
    (void)state;
    check_attention(CPU_KERNELS_I8MM);
}

/* ---- a layer: everything but attention ---- */

struct layer {
    struct matrix table, gain, q, k, bias, gate, up, down;
};

#define N_EMBD   256
#define N_HIDDEN 544

static struct layer make_layer(struct backend *be, enum dtype type)
{
    bool blocks = dtype_info(type)->block_len == 256;
    size_t n_hidden = blocks ? 512 : N_HIDDEN;
    random_state = 99;
    return (struct layer){
        .table = random_matrix(be, type, POSITIONS, N_EMBD),
        .gain = random_matrix(be, DTYPE_F32, 1, N_EMBD),
        .q = random_matrix(be, type, 200, N_EMBD),
        .k = random_matrix(be, DTYPE_Q8_0, 37, N_EMBD),
        .bias = random_matrix(be, DTYPE_F32, 1, 200),
        .gate = random_matrix(be, type, n_hidden, N_EMBD),
        .up = random_matrix(be, type, n_hidden, N_EMBD),
        .down = random_matrix(be, DTYPE_Q5_0, N_EMBD, n_hidden),
    };
}

static void drop_layer(struct backend *be, struct layer *l)
{
    struct matrix *all[] = {&l->table, &l->gain, &l->q, &l->k, &l->bias, &l->gate, &l->up, &l->down};
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        drop_matrix(be, all[i]);
}

#define LAYER_COLS (200 + 37 + N_EMBD)

/* Rows [start, start + n) of the table through norms, products and MLPs: [n, LAYER_COLS]. */
static void run_layer(struct backend *be, const struct layer *l, int start, int n, float *out)
{
    struct batch_seq seq;
    struct batch batch = batch_of(&seq, NULL, start, n);
    struct norm_params norm = {.kind = NORM_RMS, .eps = 1e-5f, .n_groups = 1};
    struct weight *weights[2] = {l->q.w, l->k.w}, *biases[2] = {l->bias.w, NULL};
    struct tensor *outs[2], *parts[3];
    struct error err = {0};
    begin(be, &batch);
    struct tensor *x = op_embed(be, l->table.w, 3);
    struct tensor *h = op_norm(be, x, l->gain.w, NULL, &norm);
    be->ops->linear(be, h, 2, weights, biases, outs);
    struct tensor *m = be->ops->mlp_gated(be, h, l->gate.w, l->up.w, l->down.w, ACT_SILU);
    struct tensor *m2 = be->ops->mlp(be, h, l->up.w, NULL, l->down.w, NULL, ACT_GELU_TANH);
    x = op_scale(be, op_add(be, op_add(be, x, m), m2), 0.5f);
    parts[0] = outs[0];
    parts[1] = outs[1];
    parts[2] = op_softcap(be, x, 20);
    if (!be->ops->step_end(be, &err))
        fail_msg("%s", err.msg);
    static const int cols[3] = {200, 37, N_EMBD};
    for (int i = 0, at = 0; i < 3; at += cols[i], i++) {
        float *part = malloc((size_t)(n * cols[i]) * sizeof(float));
        assert_true(be->ops->read_f32(be, parts[i], part, (size_t)(n * cols[i]), &err));
        for (int t = 0; t < n; t++)
            memcpy(out + t * LAYER_COLS + at, part + t * cols[i], (size_t)cols[i] * sizeof(float));
        free(part);
    }
}

static void check_layer(enum cpu_kernels kernels, enum dtype type)
{
    struct backend *one = open_backend(kernels, 1), *three = open_backend(kernels, 3);
    if (!one)
        return;
    struct layer l1 = make_layer(one, type), l3 = make_layer(three, type);
    int n = emulated() ? 28 : 80;
    float *alone = malloc((size_t)(n * LAYER_COLS) * sizeof(float));
    float *together = malloc((size_t)(n * LAYER_COLS) * sizeof(float));
    for (int t = 0; t < n; t++)
        run_layer(one, &l1, t, 1, alone + t * LAYER_COLS);
    for (int i = 0; i < n * LAYER_COLS; i++)
        assert_true(isfinite(alone[i]));
    for (int size = 1; size <= n; size += size < 8 || (size < 40 && !emulated()) ? 1 : 20) {
        bool odd = size % 2 == 1;
        int start = size < 10 ? 5 : 0;
        run_layer(odd ? three : one, odd ? &l3 : &l1, start, size, together);
        if (memcmp(together, alone + start * LAYER_COLS, (size_t)(size * LAYER_COLS) * sizeof(float)) != 0)
            fail_msg("%s, %s: %d rows together differ from each alone", one->ops->describe(one), dtype_info(type)->name,
                     size);
    }
    free(alone);
    free(together);
    drop_layer(one, &l1);
    drop_layer(three, &l3);
    one->ops->free(one);
    three->ops->free(three);
}

static void check_layers(enum cpu_kernels kernels)
{
    static const enum dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_Q4_1, DTYPE_Q8_0, DTYPE_Q4_K, DTYPE_Q6_K};
    for (size_t i = 0; i < ARRAY_LEN(types) && kernels_wanted(kernels); i++)
        check_layer(kernels, types[i]);
}

static void test_layer_reference(void **state)
{
    (void)state;
    check_layers(CPU_KERNELS_REFERENCE);
}

static void test_layer_avx2(void **state)
{
    (void)state;
    check_layers(CPU_KERNELS_AVX2);
}

static void test_layer_avx512(void **state)
{
    (void)state;
    check_layers(CPU_KERNELS_AVX512);
}

static void test_layer_neon(void **state)
{
    (void)state;
    check_layers(CPU_KERNELS_NEON);
}

static void test_layer_i8mm(void **state)
{
    (void)state;
    check_layers(CPU_KERNELS_I8MM);
}

/* The fast kernels against the reference: int8 activations cost about a percent. */
static void test_kernels_agree(void **state)
{
    static const enum cpu_kernels fast[] = {CPU_KERNELS_AVX2, CPU_KERNELS_AVX512, CPU_KERNELS_NEON, CPU_KERNELS_I8MM};
    int n = 8, size = n * LAYER_COLS;
    float *a = malloc((size_t)size * sizeof(float)), *b = malloc((size_t)size * sizeof(float));
    (void)state;
    struct backend *be = open_backend(CPU_KERNELS_REFERENCE, 1);
    struct layer l = make_layer(be, DTYPE_Q4_K);
    run_layer(be, &l, 3, n, a);
    drop_layer(be, &l);
    be->ops->free(be);
    for (size_t i = 0; i < ARRAY_LEN(fast); i++) {
        be = kernels_wanted(fast[i]) ? open_backend(fast[i], 2) : NULL;
        if (!be)
            continue;
        l = make_layer(be, DTYPE_Q4_K);
        run_layer(be, &l, 3, n, b);
        double error = 0, power = 0;
        for (int j = 0; j < size; j++) {
            error += ((double)a[j] - (double)b[j]) * ((double)a[j] - (double)b[j]);
            power += (double)a[j] * (double)a[j];
        }
        assert_true(error < 1e-4 * power);
        drop_layer(be, &l);
        be->ops->free(be);
    }
    free(a);
    free(b);
}

/* Every name is known everywhere; a set of another processor is refused, and what there is named. */
static void test_kernel_sets(void **state)
{
    static const char *const names[] = {"auto", "reference", "avx2", "avx512", "neon", "i8mm"};
    int n_refused = 0;
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct cpu_backend_options o = {.n_threads = 1};
        struct error err = {0};
        assert_true(cpu_kernels_parse(names[i], &o.kernels, &err));
        struct backend *be = cpu_backend_create(&o, &err);
        if (be) {
            be->ops->free(be);
            continue;
        }
        n_refused++;
        assert_true(i >= 2);
        assert_int_equal(err.code, ERR_UNSUPPORTED);
        assert_non_null(strstr(err.msg, names[i]));
        assert_non_null(strstr(err.msg, "reference"));
    }
    assert_true(n_refused >= 2);
    struct error err = {0};
    enum cpu_kernels none;
    assert_false(cpu_kernels_parse("sse", &none, &err));
    assert_int_equal(err.code, ERR_INVALID);
}

/* The set that the environment names is what this processor gets by itself. */
static void test_kernel_choice(void **state)
{
    (void)state;
    for (int kernels = CPU_KERNELS_REFERENCE; kernels < CPU_KERNELS_COUNT; kernels++) {
        if (!kernels_required((enum cpu_kernels)kernels))
            continue;
        struct backend *chosen = open_backend(CPU_KERNELS_AUTO, 1), *named = open_backend((enum cpu_kernels)kernels, 1);
        assert_string_equal(chosen->ops->describe(chosen), named->ops->describe(named));
        chosen->ops->free(chosen);
        named->ops->free(named);
    }
}

/* ---- rope, embedding, rows ---- */

static void test_rope_angles(void **state)
{
    (void)state;
    struct backend *be = open_backend(CPU_KERNELS_AUTO, 2);
    float inv_freq[8], out[100 * 32];
    struct matrix table = random_matrix(be, DTYPE_F32, POSITIONS, 32);
    const float *values = table.data;
    struct batch_seq seq;
    struct batch batch = batch_of(&seq, NULL, 20, 100);
    for (int i = 0; i < 8; i++)
        inv_freq[i] = powf(10000, -(float)i / 8);
    struct rope_params p = {
        .kind = ROPE_NEOX, .n_heads = 2, .head_dim = 16, .rot_dim = 16, .inv_freq = inv_freq, .attn_factor = 1.5f};
    begin(be, &batch);
    end(be, op_rope(be, rows_of(be, &table), &p), out, ARRAY_LEN(out));
    for (int t = 0; t < 100; t++) {
        for (int i = 0; i < 32; i++) {
            int pair = i % 8, other = i % 16 < 8 ? i + 8 : i - 8;
            double angle = (double)((float)(t + 20) * inv_freq[pair]), sign = i % 16 < 8 ? -1 : 1;
            const float *x = values + (t + 20) * 32;
            double wanted = 1.5 * ((double)x[i] * cos(angle) + sign * (double)x[other] * sin(angle));
            assert_true(fabs((double)out[t * 32 + i] - wanted) < 1e-6);
        }
    }
    drop_matrix(be, &table);
    be->ops->free(be);
}

static void test_embedding_is_exact(void **state)
{
    static const enum cpu_kernels kinds[] = {CPU_KERNELS_REFERENCE, CPU_KERNELS_AVX2, CPU_KERNELS_AVX512,
                                             CPU_KERNELS_NEON, CPU_KERNELS_I8MM};
    float out[POSITIONS * 256], wanted[POSITIONS * 256];
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        struct backend *be = kernels_wanted(kinds[i]) ? open_backend(kinds[i], 2) : NULL;
        for (int type = 0; be && type < DTYPE_COUNT; type++) {
            if (!dtype_info((enum dtype)type)->quantized && type != DTYPE_F16 && type != DTYPE_BF16)
                continue;
            struct matrix table = random_matrix(be, (enum dtype)type, POSITIONS, 256);
            dtype_to_f32((enum dtype)type, table.data, ARRAY_LEN(wanted), wanted);
            struct batch_seq seq;
            struct batch batch = batch_of(&seq, NULL, 0, POSITIONS);
            begin(be, &batch);
            end(be, rows_of(be, &table), out, ARRAY_LEN(out));
            assert_memory_equal(out, wanted, sizeof(out));
            drop_matrix(be, &table);
        }
        if (be)
            be->ops->free(be);
    }
}

static void test_rows(void **state)
{
    (void)state;
    struct backend *be = open_backend(CPU_KERNELS_AUTO, 1);
    struct matrix table = random_matrix(be, DTYPE_F32, POSITIONS, 6);
    const float *values = table.data;
    static const int32_t wanted[] = {0, 3, 9};
    float out[3 * 6];
    struct batch_seq seq;
    struct batch batch = batch_of(&seq, NULL, 0, 10);
    batch.n_out = 3;
    batch.out_rows = wanted;
    begin(be, &batch);
    end(be, op_rows(be, rows_of(be, &table)), out, ARRAY_LEN(out));
    for (int i = 0; i < 3; i++)
        assert_memory_equal(out + 6 * i, values + 6 * wanted[i], 6 * sizeof(float));
    drop_matrix(be, &table);
    be->ops->free(be);
}

/* What keep leaves and what it takes back. */
static void test_keep(void **state)
{
    (void)state;
    struct backend *be = open_backend(CPU_KERNELS_AUTO, 1);
    struct matrix table = random_matrix(be, DTYPE_F32, POSITIONS, 64);
    const float *values = table.data;
    float out[4 * 64];
    struct batch_seq seq;
    struct batch batch = batch_of(&seq, NULL, 0, 4);
    begin(be, &batch);
    struct tensor *x = rows_of(be, &table), *first = NULL;
    for (int i = 0; i < 8; i++) {
        struct tensor *y = rows_of(be, &table);
        assert_true(i == 0 || y == first); /* the same memory each time */
        first = y;
        x = op_add(be, x, y);
        op_keep(be, x);
    }
    end(be, x, out, ARRAY_LEN(out));
    for (int i = 0; i < 4 * 64; i++)
        assert_true(fabsf(out[i] - 9 * values[i]) < 1e-4f);
    drop_matrix(be, &table);
    be->ops->free(be);
}

/* ---- pages ---- */

static void check_copy_page(enum kv_type type)
{
    struct backend *be = open_backend(CPU_KERNELS_AUTO, 1);
    struct kv_group_spec spec = {.n_layers = 3, .n_kv_heads = 2, .k_dim = 32, .v_dim = 48, .type = type};
    struct cache cache = open_cache(be, spec, false);
    struct matrix k = random_matrix(be, DTYPE_F32, POSITIONS, 64), v = random_matrix(be, DTYPE_F32, POSITIONS, 96);
    struct matrix q = random_matrix(be, DTYPE_F32, POSITIONS, 128);
    struct attention_params p = {
        .n_heads = 4, .n_kv_heads = 2, .k_dim = 32, .v_dim = 48, .scale = 0.2f, .causal = true};
    float before[192], after[192];
    struct batch_seq seq;
    struct batch batch = batch_of(&seq, &cache, 0, 20);
    begin(be, &batch);
    for (int layer = 0; layer < 3; layer++)
        be->ops->kv_write(be, 0, layer, rows_of(be, &k), rows_of(be, &v));
    end(be, NULL, NULL, 0);
    be->ops->kv_copy_page(be, 0, 0, 2, 20);
    for (int layer = 0; layer < 3; layer++) {
        float *outs[2] = {before, after};
        for (uint32_t i = 0; i < 2; i++) {
            cache.pages[0] = 2 * i;
            batch = batch_of(&seq, &cache, 19, 1);
            begin(be, &batch);
            end(be, be->ops->attention(be, 0, layer, rows_of(be, &q), &p), outs[i], 192);
        }
        assert_memory_equal(before, after, sizeof(before));
        assert_true(isfinite(before[0]));
    }
    drop_matrix(be, &k);
    drop_matrix(be, &v);
    drop_matrix(be, &q);
    free(cache.pool);
    be->ops->free(be);
}

static void test_copy_page(void **state)
{
    (void)state;
    for (int type = 0; type < KV_TYPE_COUNT; type++)
        check_copy_page((enum kv_type)type);
}

/* ---- errors ---- */

static void test_bad_batches_are_refused(void **state)
{
    (void)state;
    struct error err = {0};
    struct backend *be = open_backend(CPU_KERNELS_AUTO, 1);
    struct kv_group_spec spec = {.n_layers = 1, .n_kv_heads = 1, .k_dim = 8, .v_dim = 8, .type = KV_F32};
    struct cache cache = open_cache(be, spec, false);
    struct batch_seq seq;
    struct batch batch = batch_of(&seq, &cache, 0, 10);
    cache.pages[0] = 1000;
    assert_false(be->ops->step_begin(be, &batch, &err));
    cache.pages[0] = KV_PAGE_NONE;
    assert_false(be->ops->step_begin(be, &batch, &err));
    cache.pages[0] = 0;
    seq.n_pages = 0;
    assert_false(be->ops->step_begin(be, &batch, &err));
    batch = batch_of(&seq, &cache, 0, 10);
    batch.n_rows = 11;
    assert_false(be->ops->step_begin(be, &batch, &err));
    assert_int_equal(err.code, ERR_INTERNAL);
    free(cache.pool);
    be->ops->free(be);
}

/* Groups of a row, with weights that all share and with weights of their own, which come as one vector or as a piece
 * for each group. */
static void test_norm_of_groups(void **state)
{
    enum { N_GROUPS = 4, N = 16, N_COLS = N_GROUPS * N, N_ROWS = 5 };
    (void)state;
    struct error err = {0};
    struct backend *be = open_backend(CPU_KERNELS_REFERENCE, 1);
    struct matrix table = random_matrix(be, DTYPE_F32, N_ROWS, N_COLS), own = random_matrix(be, DTYPE_F32, 1, N_COLS);
    const float *x = (const float *)table.data, *w = (const float *)own.data;
    struct tensor_view pieces[N_GROUPS];
    const struct tensor_view *views[N_GROUPS];
    for (int g = 0; g < N_GROUPS; g++) {
        pieces[g] = (struct tensor_view){
            .type = DTYPE_F32, .n_dims = 1, .shape = {N, 1, 1, 1}, .data = w + g * N, .size = N * 4};
        views[g] = &pieces[g];
    }
    struct weight *joined = be->ops->weight_create(be, views, N_GROUPS, &err);
    struct weight *shared = be->ops->weight_create(be, views, 1, &err);
    assert_true(joined && shared);
    assert_true(be->ops->weight_info(joined).n_out == 1 && be->ops->weight_info(joined).n_in == N_COLS);
    struct weight *const weights[] = {own.w, joined, shared};
    for (size_t i = 0; i < ARRAY_LEN(weights); i++) {
        struct batch_seq seq;
        struct batch batch = batch_of(&seq, NULL, 0, N_ROWS);
        struct norm_params p = {.kind = NORM_LAYER, .eps = 1e-5f, .n_groups = N_GROUPS};
        float out[N_ROWS * N_COLS];
        begin(be, &batch);
        end(be, op_norm(be, rows_of(be, &table), weights[i], NULL, &p), out, ARRAY_LEN(out));
        for (int t = 0; t < N_ROWS * N_GROUPS; t++) {
            double mean = 0, variance = 0;
            for (int k = 0; k < N; k++)
                mean += x[t * N + k] / N;
            for (int k = 0; k < N; k++)
                variance += (x[t * N + k] - mean) * (x[t * N + k] - mean) / N;
            for (int k = 0; k < N; k++) {
                double by = w[(weights[i] == shared ? 0 : t % N_GROUPS) * N + k];
                double wanted = (x[t * N + k] - mean) / sqrt(variance + 1e-5) * by;
                assert_true(fabs(out[t * N + k] - wanted) < 1e-5);
            }
        }
    }
    be->ops->weight_free(be, joined);
    be->ops->weight_free(be, shared);
    drop_matrix(be, &own);
    drop_matrix(be, &table);
    be->ops->free(be);
}

static void test_failed_step(void **state)
{
    (void)state;
    struct error err = {0};
    struct backend *be = open_backend(CPU_KERNELS_AUTO, 1);
    struct matrix table = random_matrix(be, DTYPE_F32, 5, 64), other = random_matrix(be, DTYPE_F32, 5, 32);
    struct batch_seq seq;
    struct batch batch = batch_of(&seq, NULL, 0, 5);
    struct norm_params norm = {.kind = NORM_RMS, .eps = 1e-5f, .n_groups = 1};
    begin(be, &batch);
    struct tensor *x = op_linear(be, rows_of(be, &table), other.w, NULL);
    assert_null(x);
    assert_null(op_norm(be, x, NULL, NULL, &norm));
    assert_false(be->ops->step_end(be, &err));
    assert_int_equal(err.code, ERR_INTERNAL);
    batch = batch_of(&seq, NULL, 0, 6); /* an id that the table has not */
    begin(be, &batch);
    assert_null(rows_of(be, &table));
    assert_false(be->ops->step_end(be, &err));
    batch = batch_of(&seq, NULL, 0, 5); /* the next step is sound again */
    begin(be, &batch);
    float out[5 * 64];
    end(be, rows_of(be, &table), out, ARRAY_LEN(out));
    drop_matrix(be, &table);
    drop_matrix(be, &other);
    be->ops->free(be);
}

static void test_bad_weights_are_refused(void **state)
{
    (void)state;
    struct error err = {0};
    struct backend *be = open_backend(CPU_KERNELS_AUTO, 1);
    uint8_t data[256] = {0};
    struct tensor_view v = {
        .name = STR("blk.0.x"), .type = DTYPE_I32, .n_dims = 2, .shape = {4, 8, 1, 1}, .data = data, .size = 128};
    const struct tensor_view *views[1] = {&v};
    assert_null(be->ops->weight_create(be, views, 1, &err));
    assert_int_equal(err.code, ERR_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "blk.0.x"));
    v.type = DTYPE_F32;
    v.size = 127;
    assert_null(be->ops->weight_create(be, views, 1, &err));
    assert_int_equal(err.code, ERR_FORMAT);
    v.n_dims = 3;
    assert_null(be->ops->weight_create(be, views, 1, &err));
    be->ops->free(be);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_odd_q8_is_refused),
        cmocka_unit_test(test_attention_reference),
        cmocka_unit_test(test_attention_avx2),
        cmocka_unit_test(test_attention_avx512),
        cmocka_unit_test(test_attention_neon),
        cmocka_unit_test(test_attention_i8mm),
        cmocka_unit_test(test_layer_reference),
        cmocka_unit_test(test_layer_avx2),
        cmocka_unit_test(test_layer_avx512),
        cmocka_unit_test(test_layer_neon),
        cmocka_unit_test(test_layer_i8mm),
        cmocka_unit_test(test_kernels_agree),
        cmocka_unit_test(test_kernel_sets),
        cmocka_unit_test(test_kernel_choice),
        cmocka_unit_test(test_rope_angles),
        cmocka_unit_test(test_embedding_is_exact),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_keep),
        cmocka_unit_test(test_copy_page),
        cmocka_unit_test(test_bad_batches_are_refused),
        cmocka_unit_test(test_norm_of_groups),
        cmocka_unit_test(test_failed_step),
        cmocka_unit_test(test_bad_weights_are_refused),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
