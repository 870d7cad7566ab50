#include "tests/support/model_adapter.h"

#include "base/json.h"
#include "base/limits.h"
#include "base/sys_file.h"
#include "tensor/safetensors_writer.h"
#include "tests/support/random_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MAX_TENSORS 512

struct maker {
    const struct json *root;
    uint64_t seed;
    enum dtype type;
    struct safetensors_writer *peft;
    struct gguf_writer *gguf;
    void *memory[MAX_TENSORS]; /* until everything is written */
    int n;
};

static uint64_t number(const struct json *part, const char *key)
{
    return (uint64_t)json_int(json_get(part, key));
}

/* [rows, cols] of the type, kept until the end. */
static void *values_of(struct maker *m, const char *name, double std, size_t n)
{
    float *values = malloc(n * sizeof(*values));
    void *packed = malloc(n * sizeof(*values));
    assert_true(values && packed && m->n < MAX_TENSORS);
    random_tensor_values(&(struct random_tensor){m->seed, name, std, 0}, 0, n, values);
    assert_true(dtype_from_f32(m->type, values, n, packed));
    free(values);
    m->memory[m->n++] = packed;
    return packed;
}

/* GGUF has one alpha for all parts and no other way to scale by the rank: what differs is in b. */
static double factor_of(const struct maker *m, const struct json *part)
{
    double alpha = json_double(json_get(json_get(m->root, "config"), "lora_alpha"));
    return json_double(json_get(part, "scale")) / (alpha / (double)number(part, "rank"));
}

static float *scaled(struct maker *m, const void *data, size_t n, double factor)
{
    float *out = malloc(n * sizeof(*out));
    assert_true(out && m->n < MAX_TENSORS);
    dtype_to_f32(m->type, data, n, out);
    for (size_t i = 0; i < n; i++)
        out[i] = (float)(out[i] * factor);
    m->memory[m->n++] = out;
    return out;
}

/* As converters permute rows of Q and K: halves of each head become pairs. */
static void *permuted(struct maker *m, const void *rows, size_t n_rows, size_t row_size, size_t n_heads)
{
    uint8_t *out = malloc(n_rows * row_size);
    size_t dim = n_rows / n_heads;
    assert_true(out && m->n < MAX_TENSORS);
    for (size_t i = 0; i < n_rows; i++) {
        size_t head = i / dim, within = i % dim;
        size_t from = head * dim + within % 2 * (dim / 2) + within / 2;
        memcpy(out + i * row_size, (const uint8_t *)rows + from * row_size, row_size);
    }
    m->memory[m->n++] = out;
    return out;
}

static void add_half(struct maker *m, const struct json *part, bool is_a)
{
    char peft[256], gguf[256];
    uint64_t rank = number(part, "rank"), n_heads = number(part, "permute"), rows, cols;
    rows = is_a ? rank : number(part, "n_out");
    cols = is_a ? number(part, "n_in") : rank;
    snprintf(peft, sizeof(peft), "base_model.model.%s.lora_%s.weight", json_str(json_get(part, "module")).ptr,
             is_a ? "A" : "B");
    snprintf(gguf, sizeof(gguf), "%s.lora_%s", json_str(json_get(part, "gguf")).ptr, is_a ? "a" : "b");
    void *data = values_of(m, peft, json_double(json_get(part, "std")), (size_t)(rows * cols));
    struct gguf_tensor t = {.name = peft, .type = m->type, .n_dims = 2, .shape = {rows, cols}, .data = data};
    safetensors_add_tensor(m->peft, &t);
    t.name = gguf;
    if (!is_a) {
        t.type = DTYPE_F32;
        t.data = scaled(m, data, (size_t)(rows * cols), factor_of(m, part));
    }
    if (!is_a && n_heads > 0)
        t.data = permuted(m, t.data, (size_t)rows, (size_t)cols * sizeof(float), (size_t)n_heads);
    gguf_add_tensor(m->gguf, &t);
}

/* The base model's head, which peft saves where the head has an adapter. */
static void add_base_head(struct maker *m)
{
    static const float head[320 * 64];
    safetensors_add_tensor(m->peft, &(struct gguf_tensor){.name = "base_model.model.lm_head.base_layer.weight",
                                                          .type = DTYPE_F32,
                                                          .n_dims = 2,
                                                          .shape = {320, 64},
                                                          .data = head});
}

static void write_all(struct maker *m, struct random_adapter *a, const char *arch)
{
    struct error err = {0};
    const struct json *config = json_get(m->root, "config");
    json_print(&a->config, config);
    safetensors_put_metadata(m->peft, "format", "pt");
    gguf_put_str(m->gguf, "general.type", STR("adapter"));
    gguf_put_str(m->gguf, "general.architecture", str_of(arch));
    gguf_put_str(m->gguf, "adapter.type", STR("lora"));
    gguf_put_float(m->gguf, "adapter.lora.alpha", GGUF_F32, json_double(json_get(config, "lora_alpha")));
    const struct json *parts = json_get(m->root, "parts");
    for (size_t i = 0; i < json_len(parts); i++) {
        add_half(m, json_at(parts, i), true);
        add_half(m, json_at(parts, i), false);
        if (str_eq(json_str(json_get(json_at(parts, i), "module")), STR("lm_head")))
            add_base_head(m);
    }
    if (!safetensors_write_buf(m->peft, &a->peft, &err) || !gguf_write_buf(m->gguf, &a->gguf, &err))
        fail_msg("%s", err.msg);
}

void random_adapter_make(struct random_adapter *a, const char *name, int seed_more, const char *arch)
{
    struct error err = {0};
    struct buf text;
    char path[512];
    snprintf(path, sizeof(path), "%s/parity/adapter-%s.json", TEST_DATA_DIR, name);
    if (!file_read(path, MIB(1), &text, &err))
        fail_msg("%s", err.msg);
    struct json *root = json_parse(buf_view(&text), 0, &err);
    if (!root)
        fail_msg("%s: %s", path, err.msg);
    struct maker m = {.root = root, .seed = number(root, "seed") + (uint64_t)seed_more};
    assert_true(dtype_from_name(json_str(json_get(root, "dtype")).ptr, &m.type));
    m.peft = safetensors_writer_create();
    m.gguf = gguf_writer_create();
    assert_true(m.peft && m.gguf);
    buf_init(&a->config, MIB(1));
    buf_init(&a->peft, MIB(16));
    buf_init(&a->gguf, MIB(16));
    write_all(&m, a, arch);
    safetensors_writer_free(m.peft);
    gguf_writer_free(m.gguf);
    for (int i = 0; i < m.n; i++)
        free(m.memory[i]);
    json_free(root);
    buf_release(&text);
}

void random_adapter_release(struct random_adapter *a)
{
    buf_release(&a->config);
    buf_release(&a->peft);
    buf_release(&a->gguf);
}

struct sha256 random_adapter_write(const char *name, int seed_more, const char *path)
{
    struct random_adapter a;
    random_adapter_make(&a, name, seed_more, "llama");
    struct adapter_file *file = random_adapter_open(&a, true);
    struct sha256 digest = adapter_file_facts(file)->digest;
    adapter_file_close(file);
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(a.gguf.data, 1, a.gguf.len, out), a.gguf.len);
    assert_int_equal(fclose(out), 0);
    random_adapter_release(&a);
    return digest;
}

struct adapter_file *random_adapter_open(const struct random_adapter *a, bool gguf)
{
    struct error err = {0};
    const struct buf *data = gguf ? &a->gguf : &a->peft;
    struct adapter_file *f =
        adapter_file_open_memory(gguf ? STR("") : buf_view(&a->config), data->data, data->len, &err);
    if (!f)
        fail_msg("%s", err.msg);
    return f;
}
