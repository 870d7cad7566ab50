#include "tests/support/model_packed.h"

#include "base/array.h"
#include "base/limits.h"
#include "tensor/safetensors_writer.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* One matrix, quantized. */
struct matrix {
    const struct packed_folder_options *o;
    size_t n, k, size, n_groups;
    uint8_t *codes;   /* [n, k] */
    uint8_t *zeros;   /* [n, n_groups] */
    uint16_t *scales; /* [n, n_groups] f16 */
    int32_t *g_idx;   /* [k] */
};

static void *room(size_t n, size_t size)
{
    void *p = calloc(n + 1, size);
    assert_non_null(p);
    return p;
}

/* ---- quantization ---- */

/* Columns in an order that no pattern has: k is a multiple of 32, the step is odd and prime. */
static void number_groups(struct matrix *m)
{
    for (size_t i = 0; i < m->k; i++)
        m->g_idx[i] = (int32_t)((m->o->shuffled ? (i * 7919 + 13) % m->k : i) / m->size);
}

static void quantize_group(struct matrix *m, const float *row, size_t r, int32_t group)
{
    float low = 0, high = 0, most = (float)((1 << m->o->bits) - 1);
    for (size_t i = 0; i < m->k; i++) {
        low = m->g_idx[i] == group ? fminf(low, row[i]) : low;
        high = m->g_idx[i] == group ? fmaxf(high, row[i]) : high;
    }
    if (m->o->symmetric) {
        high = fmaxf(high, -low);
        low = -high;
    }
    size_t at = r * m->n_groups + (size_t)group;
    m->scales[at] = f32_to_f16((high - low) / most + 1e-6f);
    float scale = f16_to_f32(m->scales[at]);
    float zero = m->o->symmetric ? (most + 1) / 2 : fmaxf(1, fminf(most, rintf(-low / scale)));
    m->zeros[at] = (uint8_t)zero;
    for (size_t i = 0; i < m->k; i++) {
        if (m->g_idx[i] == group)
            m->codes[r * m->k + i] = (uint8_t)fmaxf(0, fminf(most, rintf(row[i] / scale) + zero));
    }
}

static void quantize(struct matrix *m, const struct tensor_view *t, const struct packed_folder_options *o)
{
    *m = (struct matrix){.o = o, .n = (size_t)t->shape[0], .k = (size_t)t->shape[1]};
    m->size = o->group_size < 0 ? m->k : (size_t)o->group_size;
    m->n_groups = m->k / m->size;
    assert_true(m->k % m->size == 0 && m->n % 8 == 0);
    m->codes = room(m->n * m->k, 1);
    m->zeros = room(m->n * m->n_groups, 1);
    m->scales = room(m->n * m->n_groups, sizeof(*m->scales));
    m->g_idx = room(m->k, sizeof(*m->g_idx));
    float *row = room(m->k, sizeof(*row));
    number_groups(m);
    for (size_t r = 0; r < m->n; r++) {
        tensor_row_to_f32(t, r, row);
        for (size_t g = 0; g < m->n_groups; g++)
            quantize_group(m, row, r, (int32_t)g);
    }
    free(row);
}

static void release(struct matrix *m)
{
    free(m->codes);
    free(m->zeros);
    free(m->scales);
    free(m->g_idx);
}

/* ---- packing ---- */

struct grid { /* numbers of `bits` bits */
    const uint8_t *items;
    size_t rows, cols;
    int bits;
};

static uint32_t item(const struct grid *g, size_t row, size_t col)
{
    return g->items[row * g->cols + col];
}

/* Words along columns. order: of the columns in a word, NULL: their own. */
static uint32_t *pack_along(const struct grid *g, const int *order)
{
    size_t per_word = 32 / (size_t)g->bits, n_words = g->cols / per_word;
    uint32_t *words = room(g->rows * n_words, sizeof(*words));
    for (size_t i = 0; i < g->rows * g->cols; i++) {
        size_t row = i / g->cols, col = i % g->cols, place = col % per_word;
        size_t from = col - place + (order ? (size_t)order[place] : place);
        words[row * n_words + col / per_word] |= item(g, row, from) << (place * (size_t)g->bits);
    }
    return words;
}

/* Words along rows: [rows / n, cols]. */
static uint32_t *pack_across(const struct grid *g)
{
    size_t per_word = 32 / (size_t)g->bits;
    uint32_t *words = room(g->rows / per_word * g->cols, sizeof(*words));
    for (size_t i = 0; i < g->rows * g->cols; i++) {
        size_t row = i / g->cols, col = i % g->cols;
        words[row / per_word * g->cols + col] |= item(g, row, col) << (row % per_word * (size_t)g->bits);
    }
    return words;
}

static uint8_t *turned(const uint8_t *items, size_t rows, size_t cols, int less)
{
    uint8_t *out = room(rows * cols, 1);
    for (size_t i = 0; i < rows * cols; i++)
        out[i % cols * rows + i / cols] = (uint8_t)(items[i] - less);
    return out;
}

static const int awq_order[8] = {0, 2, 4, 6, 1, 3, 5, 7};

struct out { /* of a folder that is being made */
    struct safetensors_writer *w;
    const struct packed_folder_options *o;
    void *owned[4096];
    size_t n_owned;
};

static void *own(struct out *out, void *p)
{
    assert_true(out->n_owned < ARRAY_LEN(out->owned));
    out->owned[out->n_owned++] = p;
    return p;
}

static void add(struct out *out, struct str module, const char *suffix, struct gguf_tensor tensor)
{
    char *name = own(out, room(module.len + strlen(suffix), 1));
    snprintf(name, module.len + strlen(suffix) + 1, STR_FMT "%s", STR_ARG(module), suffix);
    tensor.name = name;
    tensor.n_dims = tensor.shape[1] ? 2 : 1;
    tensor.data = own(out, (void *)tensor.data);
    safetensors_add_tensor(out->w, &tensor);
}

/* AWQ and GPTQ: [k, n] and [groups, n]. */
static void add_columns(struct out *out, struct str module, const struct matrix *m)
{
    const struct packed_folder_options *o = out->o;
    bool awq = o->order == PACKED_AWQ;
    size_t words = m->n * (size_t)o->bits / 32;
    uint8_t *codes = turned(m->codes, m->n, m->k, 0), *zeros = turned(m->zeros, m->n, m->n_groups, !awq && !o->v2);
    uint16_t *scales = room(m->n * m->n_groups, sizeof(*scales));
    for (size_t i = 0; i < m->n * m->n_groups; i++)
        scales[i % m->n_groups * m->n + i / m->n_groups] = m->scales[i];
    struct grid of_codes = {codes, m->k, m->n, o->bits}, of_zeros = {zeros, m->n_groups, m->n, o->bits};
    if (awq)
        add(out, module, ".qweight",
            (struct gguf_tensor){.type = DTYPE_I32, .shape = {m->k, words}, .data = pack_along(&of_codes, awq_order)});
    else
        add(out, module, ".qweight",
            (struct gguf_tensor){
                .type = DTYPE_I32, .shape = {m->k * (size_t)o->bits / 32, m->n}, .data = pack_across(&of_codes)});
    add(out, module, ".qzeros",
        (struct gguf_tensor){
            .type = DTYPE_I32, .shape = {m->n_groups, words}, .data = pack_along(&of_zeros, awq ? awq_order : NULL)});
    add(out, module, ".scales", (struct gguf_tensor){.type = DTYPE_F16, .shape = {m->n_groups, m->n}, .data = scales});
    free(codes);
    free(zeros);
}

static void add_rows(struct out *out, struct str module, const struct matrix *m)
{
    const struct packed_folder_options *o = out->o;
    struct grid of_codes = {m->codes, m->n, m->k, o->bits}, of_zeros = {m->zeros, m->n, m->n_groups, o->bits};
    uint16_t *scales = room(m->n * m->n_groups, sizeof(*scales));
    memcpy(scales, m->scales, m->n * m->n_groups * sizeof(*scales));
    add(out, module, ".weight_packed",
        (struct gguf_tensor){
            .type = DTYPE_I32, .shape = {m->n, m->k * (size_t)o->bits / 32}, .data = pack_along(&of_codes, NULL)});
    add(out, module, ".weight_scale",
        (struct gguf_tensor){.type = DTYPE_F16, .shape = {m->n, m->n_groups}, .data = scales});
    add(out, module, ".weight_shape",
        (struct gguf_tensor){.type = DTYPE_I64, .shape = {2}, .data = room(2, sizeof(int64_t))});
    if (!o->symmetric)
        add(out, module, ".weight_zero_point",
            (struct gguf_tensor){.type = DTYPE_I32,
                                 .shape = {m->n * (size_t)o->bits / 32, m->n_groups},
                                 .data = pack_across(&of_zeros)});
}

static void add_packed(struct out *out, struct str module, const struct matrix *m)
{
    bool rows = out->o->order == PACKED_ROWS;
    if (out->o->order == PACKED_GPTQ && str_find(module, STR(".mlp.down")) != STR_NPOS) /* as AutoGPTQ has had it */
        add(out, module, ".bias",
            (struct gguf_tensor){.type = DTYPE_F16, .shape = {m->n}, .data = room(m->n, sizeof(uint16_t))});
    if (rows)
        add_rows(out, module, m);
    else
        add_columns(out, module, m);
    if (out->o->shuffled || out->o->order == PACKED_GPTQ) {
        int32_t *g_idx = room(m->k, sizeof(*g_idx));
        memcpy(g_idx, m->g_idx, m->k * sizeof(*g_idx));
        add(out, module, rows ? ".weight_g_idx" : ".g_idx",
            (struct gguf_tensor){.type = DTYPE_I32, .shape = {m->k}, .data = g_idx});
    }
}

static void add_dense(struct out *out, struct str module, const struct matrix *m)
{
    float *values = room(m->n * m->k, sizeof(*values));
    for (size_t i = 0; i < m->n * m->k; i++) {
        size_t at = i / m->k * m->n_groups + (size_t)m->g_idx[i % m->k];
        values[i] = (float)(m->codes[i] - m->zeros[at]) * f16_to_f32(m->scales[at]);
    }
    add(out, module, ".weight", (struct gguf_tensor){.type = DTYPE_F32, .shape = {m->n, m->k}, .data = values});
}

static void add_mlx(struct out *out, struct str module, const struct matrix *m)
{
    size_t n_groups = m->k / 32; /* the smallest, whatever the group */
    float *scales = room(m->n * n_groups, sizeof(*scales)), *biases = room(m->n * n_groups, sizeof(*biases));
    struct grid of_codes = {m->codes, m->n, m->k, out->o->bits};
    for (size_t i = 0; i < m->n * n_groups; i++) {
        size_t at = i / n_groups * m->n_groups + i % n_groups * 32 / m->size;
        scales[i] = f16_to_f32(m->scales[at]);
        biases[i] = -(scales[i] * (float)m->zeros[at]);
    }
    add(out, module, ".weight",
        (struct gguf_tensor){
            .type = DTYPE_U32, .shape = {m->n, m->k * (size_t)out->o->bits / 32}, .data = pack_along(&of_codes, NULL)});
    add(out, module, ".scales", (struct gguf_tensor){.type = DTYPE_F32, .shape = {m->n, n_groups}, .data = scales});
    add(out, module, ".biases", (struct gguf_tensor){.type = DTYPE_F32, .shape = {m->n, n_groups}, .data = biases});
}

/* ---- the folder ---- */

static bool is_packed(const struct tensor_view *t)
{
    bool projection = str_find(t->name, STR("_proj.")) != STR_NPOS || str_find(t->name, STR(".experts.")) != STR_NPOS;
    return projection && t->n_dims == 2 && str_ends(t->name, STR(".weight"));
}

static void add_tensor(struct out *out, const struct tensor_view *t)
{
    static void (*const adders[])(struct out *, struct str, const struct matrix *) = {add_packed, add_dense, add_mlx};
    struct gguf_tensor plain = {.type = t->type, .n_dims = t->n_dims, .data = t->data};
    if (is_packed(t)) {
        struct matrix m;
        quantize(&m, t, out->o);
        adders[out->o->form](out, str_slice(t->name, 0, t->name.len - strlen(".weight")), &m);
        release(&m);
        return;
    }
    char *name = own(out, room(t->name.len, 1));
    memcpy(name, t->name.ptr, t->name.len);
    plain.name = name;
    memcpy(plain.shape, t->shape, sizeof(plain.shape));
    safetensors_add_tensor(out->w, &plain);
}

static void put_scheme(struct buf *b, const struct packed_folder_options *o)
{
    if (o->form == PACKED_FORM_MLX)
        buf_printf(b, "\"quantization\":{\"bits\":%d,\"group_size\":32},", o->bits);
    if (o->form != PACKED_FORM_PACKED)
        return;
    if (o->order == PACKED_ROWS)
        buf_printf(b,
                   "\"quantization_config\":{\"quant_method\":\"compressed-tensors\",\"format\":\"pack-quantized\","
                   "\"config_groups\":{\"group_0\":{\"weights\":{\"num_bits\":%d,\"type\":\"int\",\"symmetric\":%s,"
                   "\"strategy\":\"%s\",\"group_size\":%d}}}},",
                   o->bits, o->symmetric ? "true" : "false", o->group_size < 0 ? "channel" : "group", o->group_size);
    else
        buf_printf(b, "\"quantization_config\":{\"quant_method\":\"%s\",\"bits\":%d,\"group_size\":%d%s},",
                   o->order == PACKED_AWQ ? "awq" : "gptq", o->bits, o->group_size,
                   o->v2 ? ",\"checkpoint_format\":\"gptq_v2\"" : "");
}

void packed_folder_make(struct packed_folder *f, const struct model_folder_file *floats, size_t n,
                        const struct packed_folder_options *o)
{
    struct error err = {0};
    struct out *out = room(1, sizeof(*out));
    struct model_file *file = model_folder_open_memory(floats, n, &err);
    *f = (struct packed_folder){0};
    buf_init(&f->config, MIB(1));
    buf_init(&f->shard, MIB(64));
    out->w = safetensors_writer_create();
    out->o = o;
    assert_true(file && out->w && n <= ARRAY_LEN(f->files));
    for (size_t i = 0; i < model_file_n_tensors(file); i++)
        add_tensor(out, model_file_tensor_at(file, i));
    if (!safetensors_write_buf(out->w, &f->shard, &err))
        fail_msg("%s", err.msg);
    struct str config = model_file_document(file, "config.json");
    buf_puts(&f->config, "{");
    put_scheme(&f->config, o);
    buf_append(&f->config, str_slice(config, 1, config.len));
    for (size_t i = 0; i < n; i++) {
        struct model_folder_file *to = &f->files[f->n_files++];
        *to = floats[i];
        if (strcmp(to->name, "config.json") == 0)
            to->content = buf_view(&f->config);
        if (strcmp(to->name, "model.safetensors") == 0)
            to->content = buf_view(&f->shard);
    }
    model_file_close(file);
    safetensors_writer_free(out->w);
    for (size_t i = 0; i < out->n_owned; i++)
        free(out->owned[i]);
    free(out);
}

void packed_folder_release(struct packed_folder *f)
{
    buf_release(&f->config);
    buf_release(&f->shard);
}
