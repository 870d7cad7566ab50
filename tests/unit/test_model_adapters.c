/* Adapters of models. Against peft, in both containers, on models in both, on the cpu and the mlx backend; batches of
 * rows with and without adapters, which have the bits they have alone; and what is refused. */
#include "model/adapter.h"
#include "tests/support/emulated.h"
#include "tests/support/model_adapter.h"
#include "tests/support/model_vectors.h"
#include "tests/support/random_model.h"
#include "tests/support/temp_dir.h"

#include "base/array.h"
#include "base/limits.h"
#include "base/sys_file.h"
#include "tensor/safetensors_writer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TOLERANCE 1e-3 /* standard deviations of the logits */
#define ROUNDED                                                                                          \
    4e-3 /* the same where the cpu backend rounds values of f32 to f16: here adapters outweigh the model \
          */

/* ---- models ---- */

struct base {
    struct model_vectors v; /* with the adapter */
    struct buf bytes;       /* of a GGUF file */
    struct random_folder *folder;
    struct model_file *file;
};

static void open_base(struct base *b, const char *name, bool folder)
{
    char with_adapter[64];
    snprintf(with_adapter, sizeof(with_adapter), "adapter-%s", name);
    *b = (struct base){0};
    model_vectors_load(&b->v, with_adapter);
    if (folder)
        b->file = model_vectors_folder(&b->v, NULL, false, &b->folder);
    else
        b->file = model_vectors_file(&b->v, &b->bytes);
}

static void close_base(struct base *b)
{
    model_file_close(b->file);
    if (b->folder)
        random_folder_free(b->folder);
    else
        buf_release(&b->bytes);
    model_vectors_release(&b->v);
}

static bool open_driver(struct model_driver *d, const struct base *b, enum cpu_kernels kernels, bool mlx)
{
    struct error err = {0};
    struct model_driver_options o = {.file = b->file,
                                     .mlx = mlx,
                                     .kernels = kernels,
                                     .kv_type = KV_F32,
                                     .n_threads = 2,
                                     .n_positions = model_vectors_max_positions(&b->v),
                                     .n_seqs = 4};
    bool ok = model_driver_open(d, &o, &err);
    if (!ok && err.code != ERR_UNSUPPORTED)
        fail_msg("%s", err.msg);
    return ok;
}

static const struct {
    const char *name, *arch;
    bool f32; /* the adapter's values */
} cases[] = {{"llama-linear", "llama", false},
             {"qwen3", "qwen3", true},
             {"phi3-long", "phi3", false},
             {"qwen2-tied", "qwen2", false},
             {"qwen3next", "qwen3next", false}};

/* ---- parity ---- */

static void check_parity(const struct base *b, struct model_driver *d, const char *arch, bool gguf, double tolerance)
{
    struct error err = {0};
    struct random_adapter a;
    random_adapter_make(&a, b->v.name, 0, arch);
    struct adapter_file *f = random_adapter_open(&a, gguf);
    if (!model_adapter_load(d->model, f, 7, &err))
        fail_msg("%s", err.msg);
    adapter_file_close(f);
    random_adapter_release(&a);
    d->adapter = 7;
    double with = model_vectors_deviation(&b->v, d, 7);
    assert_true(model_vectors_greedy(&b->v, d, 7) == b->v.n_greedy || emulated());
    model_adapter_drop(d->model, 7);
    double without = model_vectors_deviation(&b->v, d, b->v.n_text);
    print_message("%s, %s, %s adapter: max deviation %.2e std, without %.2e\n", b->v.name,
                  b->folder ? "folder" : "GGUF", gguf ? "GGUF" : "PEFT", with, without);
    assert_true(with < tolerance);
    assert_true(without > 0.1);
}

static void check_backend(bool mlx, enum cpu_kernels kernels)
{
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        for (int folder = 0; folder < 2; folder++) {
            struct base b;
            struct model_driver d;
            open_base(&b, cases[i].name, folder);
            if (open_driver(&d, &b, kernels, mlx)) {
                double tolerance = cases[i].f32 && !mlx ? ROUNDED : TOLERANCE;
                check_parity(&b, &d, cases[i].arch, false, tolerance);
                check_parity(&b, &d, cases[i].arch, true, tolerance);
                model_driver_close(&d);
            }
            close_base(&b);
        }
    }
}

static void reference_equals_peft(void **state)
{
    (void)state;
    check_backend(false, CPU_KERNELS_REFERENCE);
}

static void best_kernels_equal_peft(void **state)
{
    (void)state;
    check_backend(false, CPU_KERNELS_AUTO);
}

static void mlx_equals_peft(void **state)
{
    struct error why = {0};
    (void)state;
    if (!mlx_backend_available(&why))
        skip();
    check_backend(true, CPU_KERNELS_AUTO);
}

/* ---- batches ---- */

#define N_SEQS   4
#define N_PROMPT 40
#define N_DECODE 6

static void load_three(struct model_driver *d)
{
    for (int k = 1; k < N_SEQS; k++) {
        struct error err = {0};
        struct random_adapter a;
        random_adapter_make(&a, "llama-linear", k, "llama");
        struct adapter_file *f = random_adapter_open(&a, k == 2);
        if (!model_adapter_load(d->model, f, k, &err))
            fail_msg("%s", err.msg);
        adapter_file_close(f);
        random_adapter_release(&a);
    }
}

/* The logits of each position of sequence s, with adapter number s; some sequences at once. */
struct texts {
    const int32_t *ids;
    float *logits[N_SEQS]; /* [N_PROMPT + N_DECODE, n_vocab] */
};

static void run_step(struct model_driver *d, const struct texts *t, const int *seqs, int n_seqs, int start, int n)
{
    static const int32_t out[N_PROMPT] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13,
                                          14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27,
                                          28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39};
    struct driver_rows rows[N_SEQS];
    size_t n_vocab = (size_t)d->config.n_vocab;
    float *logits = malloc((size_t)(n_seqs * n) * n_vocab * sizeof(*logits));
    assert_non_null(logits);
    for (int i = 0; i < n_seqs; i++)
        rows[i] = (struct driver_rows){.seq = seqs[i],
                                       .start = start,
                                       .n = n,
                                       .ids = t->ids + start + seqs[i],
                                       .n_out = n,
                                       .out = out,
                                       .adapter = seqs[i]};
    model_driver_step(d, rows, n_seqs, logits);
    for (int i = 0; i < n_seqs; i++)
        memcpy(t->logits[seqs[i]] + (size_t)start * n_vocab, logits + (size_t)(i * n) * n_vocab,
               (size_t)n * n_vocab * sizeof(*logits));
    free(logits);
}

static void run_texts(struct model_driver *d, const struct texts *t, const int *seqs, int n_seqs, int chunk)
{
    for (int at = 0; at < N_PROMPT; at += chunk)
        run_step(d, t, seqs, n_seqs, at, N_PROMPT - at < chunk ? N_PROMPT - at : chunk);
    for (int at = N_PROMPT; at < N_PROMPT + N_DECODE; at++)
        run_step(d, t, seqs, n_seqs, at, 1);
}

static void check_mixed(struct model_driver *d, const int32_t *ids)
{
    static const int order[N_SEQS] = {2, 0, 3, 1};
    size_t size = (size_t)(N_PROMPT + N_DECODE) * (size_t)d->config.n_vocab * sizeof(float);
    struct texts mixed = {.ids = ids}, alone = {.ids = ids};
    for (int s = 0; s < N_SEQS; s++) {
        mixed.logits[s] = malloc(size);
        alone.logits[s] = malloc(size);
        assert_true(mixed.logits[s] && alone.logits[s]);
    }
    run_texts(d, &alone, &(int){0}, 1, N_PROMPT); /* before there is any */
    load_three(d);
    run_texts(d, &mixed, order, N_SEQS, 13);
    assert_memory_equal(mixed.logits[0], alone.logits[0], size);
    for (int s = 0; s < N_SEQS; s++) {
        run_texts(d, &alone, &s, 1, s % 2 ? N_PROMPT : 7);
        assert_memory_equal(mixed.logits[s], alone.logits[s], size);
        for (int other = 0; other < s; other++)
            assert_memory_not_equal(mixed.logits[s], mixed.logits[other], size);
    }
    for (int s = 0; s < N_SEQS; s++) {
        free(mixed.logits[s]);
        free(alone.logits[s]);
    }
}

/* The file's matrices quantized, so that packed weights and codes of activations are multiplied. */
static struct model_file *quantized_file(const struct model_file *plain, enum dtype type, struct buf *bytes)
{
    struct error err = {0};
    struct gguf_writer *w = gguf_writer_create();
    void *memory[256];
    size_t n = 0;
    assert_non_null(w);
    copy_meta(w, plain, "");
    for (size_t i = 0; i < model_file_n_tensors(plain); i++) {
        const struct tensor_view *t = model_file_tensor_at(plain, i);
        char name[256];
        snprintf(name, sizeof(name), STR_FMT, STR_ARG(t->name));
        struct gguf_tensor out = {.name = name, .type = t->type, .n_dims = t->n_dims, .data = t->data};
        memcpy(out.shape, t->shape, sizeof(out.shape));
        if (t->n_dims == 2) {
            assert_true(n < ARRAY_LEN(memory));
            out.data = memory[n] = malloc(t->size);
            out.type = type;
            assert_true(memory[n] && dtype_from_f32(type, t->data, t->size / sizeof(float), memory[n]));
            n++;
        }
        gguf_add_tensor(w, &out);
    }
    buf_init(bytes, MIB(16));
    if (!gguf_write_buf(w, bytes, &err))
        fail_msg("%s", err.msg);
    gguf_writer_free(w);
    while (n > 0)
        free(memory[--n]);
    struct model_file *file = model_file_open_memory(bytes->data, bytes->len, &err);
    if (!file)
        fail_msg("%s", err.msg);
    return file;
}

static void mixed_batches_have_the_bits_of_each_alone(void **state)
{
    static const enum dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_Q8_0, DTYPE_Q4_0};
    (void)state;
    struct base b;
    open_base(&b, "llama-linear", false);
    for (enum cpu_kernels k = CPU_KERNELS_REFERENCE; k < CPU_KERNELS_COUNT; k++) {
        for (size_t i = 0; kernels_wanted(k) && i < ARRAY_LEN(types); i++) {
            struct base q = b;
            struct model_driver d;
            q.file = quantized_file(b.file, types[i], &q.bytes);
            if (open_driver(&d, &q, k, false)) {
                check_mixed(&d, b.v.text);
                print_message("%s, %s\n", d.be->ops->describe(d.be), dtype_info(types[i])->name);
                model_driver_close(&d);
            }
            model_file_close(q.file);
            buf_release(&q.bytes);
        }
    }
    close_base(&b);
}

/* ---- fused by KV head ---- */

/* InternLM2's wqkv has the rows of Q, K and V by KV head; a GGUF file has each by itself. Both are the same adapter. */
static void rows_by_kv_head_are_put_apart(void **state)
{
    (void)state;
    enum { EMBD = 64, HEAD = 16, Q = 64, KV = 32, RANK = 4 };
    struct model_vectors v;
    struct buf bytes[2], data[2];
    struct random_folder *folder;
    struct error err = {0};
    float a[RANK * EMBD], whole[(Q + 2 * KV) * RANK], q[Q * RANK], k[KV * RANK], val[KV * RANK];
    random_tensor_values(&(struct random_tensor){1, "a", 0.2, 0}, 0, ARRAY_LEN(a), a);
    random_tensor_values(&(struct random_tensor){1, "b", 0.2, 0}, 0, ARRAY_LEN(whole), whole);
    for (int row = 0; row < Q + 2 * KV; row++) { /* of each KV head: two heads of Q, one of K, one of V */
        int group = row / (4 * HEAD), kind = row / HEAD % 4, within = row % HEAD;
        int pair = kind < 3 ? within % (HEAD / 2) * 2 + within / (HEAD / 2) : within;
        float *to = kind < 2 ? q + ((group * 2 + kind) * HEAD + pair) * RANK
                             : (kind == 2 ? k : val) + (group * HEAD + pair) * RANK;
        memcpy(to, whole + row * RANK, RANK * sizeof(float));
    }
    struct safetensors_writer *s = safetensors_writer_create();
    struct gguf_writer *g = gguf_writer_create();
    gguf_put_str(g, "general.type", STR("adapter"));
    gguf_put_str(g, "general.architecture", STR("internlm2"));
    gguf_put_str(g, "adapter.type", STR("lora"));
    gguf_put_float(g, "adapter.lora.alpha", GGUF_F32, 4);
#define F32_MATRIX(n, r, c, d) \
    &(struct gguf_tensor){.name = n, .type = DTYPE_F32, .n_dims = 2, .shape = {r, c}, .data = d}
    safetensors_add_tensor(s,
                           F32_MATRIX("base_model.model.model.layers.1.attention.wqkv.lora_A.weight", RANK, EMBD, a));
    safetensors_add_tensor(
        s, F32_MATRIX("base_model.model.model.layers.1.attention.wqkv.lora_B.weight", Q + 2 * KV, RANK, whole));
    gguf_add_tensor(g, F32_MATRIX("blk.1.attn_q.weight.lora_a", RANK, EMBD, a));
    gguf_add_tensor(g, F32_MATRIX("blk.1.attn_q.weight.lora_b", Q, RANK, q));
    gguf_add_tensor(g, F32_MATRIX("blk.1.attn_k.weight.lora_a", RANK, EMBD, a));
    gguf_add_tensor(g, F32_MATRIX("blk.1.attn_k.weight.lora_b", KV, RANK, k));
    gguf_add_tensor(g, F32_MATRIX("blk.1.attn_v.weight.lora_a", RANK, EMBD, a));
    gguf_add_tensor(g, F32_MATRIX("blk.1.attn_v.weight.lora_b", KV, RANK, val));
#undef F32_MATRIX
    buf_init(&data[0], MIB(1));
    buf_init(&data[1], MIB(1));
    assert_true(safetensors_write_buf(s, &data[0], &err) && gguf_write_buf(g, &data[1], &err));
    safetensors_writer_free(s);
    gguf_writer_free(g);

    model_vectors_load(&v, "internlm2");
    struct model_file *files[2] = {model_vectors_file(&v, &bytes[0]), model_vectors_folder(&v, NULL, false, &folder)};
    static float logits[4][64 * 320];
    for (int i = 0; i < 4; i++) {
        struct base b = {.v = v, .file = files[i / 2]};
        struct model_driver d;
        int32_t positions[64];
        for (int p = 0; p < 64; p++)
            positions[p] = p;
        assert_true(open_driver(&d, &b, CPU_KERNELS_REFERENCE, false));
        struct str config = STR("{\"peft_type\":\"LORA\",\"r\":4,\"lora_alpha\":4}");
        struct adapter_file *f =
            adapter_file_open_memory(i % 2 ? STR("") : config, data[i % 2].data, data[i % 2].len, &err);
        if (!f || !model_adapter_load(d.model, f, 1, &err))
            fail_msg("%s", err.msg);
        adapter_file_close(f);
        d.adapter = 1;
        model_driver_text(&d, v.text, 64, 64, positions, 64, logits[i]);
        model_driver_close(&d);
    }
    double worst[4] = {0};
    for (int i = 1; i < 4; i++) {
        for (size_t j = 0; j < ARRAY_LEN(logits[0]); j++) {
            double by = (double)logits[i][j] - (double)logits[0][j];
            worst[i] = by < 0 ? (-by > worst[i] ? -by : worst[i]) : by > worst[i] ? by : worst[i];
        }
        assert_true(worst[i] / v.std < TOLERANCE);
    }
    for (int i = 0; i < 2; i++) {
        model_file_close(files[i]);
        buf_release(&data[i]);
    }
    buf_release(&bytes[0]);
    random_folder_free(folder);
    model_vectors_release(&v);
}

/* ---- what is refused ---- */

/* One pair of [2, n_in] and [n_out, 2] of ones. */
static struct buf pair_file(const char *a, const char *b, uint64_t n_in, uint64_t n_out)
{
    struct error err = {0};
    struct buf out;
    float *ones = malloc((n_in + n_out) * 2 * sizeof(*ones));
    struct safetensors_writer *w = safetensors_writer_create();
    assert_true(ones && w);
    for (size_t i = 0; i < (n_in + n_out) * 2; i++)
        ones[i] = 1;
    struct gguf_tensor t = {.name = a, .type = DTYPE_F32, .n_dims = 2, .shape = {2, n_in}, .data = ones};
    safetensors_add_tensor(w, &t);
    t = (struct gguf_tensor){.name = b, .type = DTYPE_F32, .n_dims = 2, .shape = {n_out, 2}, .data = ones};
    if (b)
        safetensors_add_tensor(w, &t);
    buf_init(&out, MIB(1));
    if (!safetensors_write_buf(w, &out, &err))
        fail_msg("%s", err.msg);
    safetensors_writer_free(w);
    free(ones);
    return out;
}

#define PLAIN_CONFIG "{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4}"
#define PREFIX       "base_model.model."

static const struct {
    const char *module;
    uint64_t n_in, n_out;
    enum error_code code;
    const char *needle;
} misfits[] = {
    {"model.layers.0.self_attn.q_proj", 64, 64, ERR_NONE, NULL},
    {"model.language_model.layers.3.mlp.down_proj", 96, 64, ERR_NONE, NULL},
    {"model.layers.0.self_attn.q_proj", 64, 63, ERR_FORMAT, "changes a matrix of 63 by 64; the model's is 64 by 64"},
    {"model.layers.0.self_attn.q_proj", 65, 64, ERR_FORMAT, "64 by 65"},
    {"model.layers.4.self_attn.q_proj", 64, 64, ERR_FORMAT, "has no place in this llama model of 4 layers"},
    {"model.layers.00.self_attn.q_proj", 64, 64, ERR_FORMAT, "has no place"},
    {"model.layers.0.self_attn.z_proj", 64, 64, ERR_FORMAT, "'model.layers.0.self_attn.z_proj' has no place"},
    {"model.embed_tokens", 64, 320, ERR_UNSUPPORTED, "embeddings"},
    {"model.layers.0.input_layernorm", 64, 64, ERR_UNSUPPORTED, "takes no adapter"},
    {"model.layers.0.mlp.experts.0.gate_proj", 64, 96, ERR_UNSUPPORTED, "experts"},
    {"model.layers.0.mlp.gate", 64, 8, ERR_FORMAT, "has no place in this model"}, /* a router */
};

static void parts_without_a_place_are_refused(void **state)
{
    (void)state;
    struct base b;
    struct model_driver d;
    open_base(&b, "llama-linear", false);
    assert_true(open_driver(&d, &b, CPU_KERNELS_REFERENCE, false));
    for (size_t i = 0; i < ARRAY_LEN(misfits); i++) {
        char a_name[128], b_name[128];
        struct error err = {0};
        snprintf(a_name, sizeof(a_name), PREFIX "%s.lora_A.weight", misfits[i].module);
        snprintf(b_name, sizeof(b_name), PREFIX "%s.lora_B.weight", misfits[i].module);
        struct buf data = pair_file(a_name, b_name, misfits[i].n_in, misfits[i].n_out);
        struct adapter_file *f = adapter_file_open_memory(STR(PLAIN_CONFIG), data.data, data.len, &err);
        assert_non_null(f);
        assert_int_equal(adapter_file_facts(f)->rank, 2);
        bool ok = model_adapter_load(d.model, f, 1, &err);
        if (ok != (misfits[i].code == ERR_NONE) || err.code != misfits[i].code ||
            (!ok && !strstr(err.msg, misfits[i].needle)))
            fail_msg("%s: %d %s", misfits[i].module, err.code, err.msg);
        adapter_file_close(f);
        buf_release(&data);
    }
    struct random_adapter r;
    struct error err = {0};
    random_adapter_make(&r, "llama-linear", 0, "qwen2");
    struct adapter_file *f = random_adapter_open(&r, true);
    assert_false(model_adapter_load(d.model, f, 1, &err));
    assert_non_null(strstr(err.msg, "architecture 'qwen2', the model is llama"));
    assert_false(model_adapter_load(d.model, f, 65, &err));
    adapter_file_close(f);
    random_adapter_release(&r);
    model_driver_close(&d);
    close_base(&b);
}

static const struct {
    const char *config;
    enum error_code code;
    const char *needle;
} configs[] = {
    {"{", ERR_FORMAT, "adapter_config.json"},
    {"[]", ERR_FORMAT, "array instead of an object"},
    {"{}", ERR_UNSUPPORTED, "peft_type"},
    {"{\"peft_type\":\"LOHA\",\"r\":2,\"lora_alpha\":4}", ERR_UNSUPPORTED, "'LOHA'"},
    {"{\"peft_type\":\"LORA\",\"lora_alpha\":4}", ERR_FORMAT, "r has to be a number from 1 to 512"},
    {"{\"peft_type\":\"LORA\",\"r\":513,\"lora_alpha\":4}", ERR_FORMAT, "512"},
    {"{\"peft_type\":\"LORA\",\"r\":2}", ERR_FORMAT, "lora_alpha"},
    {"{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":\"4\"}", ERR_FORMAT, "lora_alpha"},
    {"{\"peft_type\":\"LORA\",\"r\":3,\"lora_alpha\":4}", ERR_FORMAT, "is of rank 2, but adapter_config.json says 3"},
    {"{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4,\"use_rslora\":1}", ERR_FORMAT, "use_rslora"},
    {"{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4,\"use_dora\":true}", ERR_UNSUPPORTED, "DoRA"},
    {"{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4,\"bias\":\"all\"}", ERR_UNSUPPORTED, "bias"},
    {"{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4,\"modules_to_save\":[\"x\"]}", ERR_UNSUPPORTED,
     "modules_to_save"},
    {"{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4,\"init_lora_weights\":\"pissa_niter_4\"}", ERR_UNSUPPORTED,
     "pissa"},
    {"{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4,\"init_lora_weights\":\"other\"}", ERR_UNSUPPORTED,
     "'other' may change the base model"},
    {"{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4,\"init_lora_weights\":1}", ERR_UNSUPPORTED, "init_lora_weights"},
    {"{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4,\"kasa_config\":{\"beta\":1e-4}}", ERR_UNSUPPORTED, "KaSA"},
    {"{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4,\"context_length\":32768}", ERR_UNSUPPORTED,
     "'context_length' is not known"},
    {"{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4,\"R\":8}", ERR_UNSUPPORTED, "'R' is not known"},
    {"{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4,\"x\":null,\"y\":false,\"z\":{},\"w\":\"\"}", ERR_NONE, NULL},
    {"{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4,\"alpha_pattern\":{\"a|b\":1}}", ERR_UNSUPPORTED, "'a|b'"},
    {"{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4,\"alpha_pattern\":{\"a\":\"1\"}}", ERR_FORMAT, "alpha_pattern"},
    {"{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4,\"rank_pattern\":[1]}", ERR_FORMAT, "rank_pattern"},
    {"{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4,\"fan_in_fan_out\":true,\"bias\":\"none\",\"modules_to_save\":"
     "null,"
     "\"rank_pattern\":{},\"init_lora_weights\":\"gaussian\",\"lora_dropout\":0.1}",
     ERR_NONE, NULL},
    {"{\"peft_type\":\"LORA\",\"r\":8,\"lora_alpha\":4,\"rank_pattern\":{\"self_attn\\\\.q_proj\":2}}", ERR_NONE, NULL},
};

/* As PEFT 0.18 writes it, with all that has no effect on what is computed said. */
static const char full_config[] =
    "{\"alora_invocation_tokens\":null,\"alpha_pattern\":{},\"arrow_config\":null,\"auto_mapping\":{\"a\":\"b\"},"
    "\"base_model_name_or_path\":\"a/b\",\"bias\":\"none\",\"corda_config\":null,\"ensure_weight_tying\":false,"
    "\"eva_config\":{\"rho\":2.0},\"exclude_modules\":[\"lm_head\"],\"fan_in_fan_out\":false,\"inference_mode\":true,"
    "\"init_lora_weights\":\"eva\",\"layer_replication\":null,\"layers_pattern\":\"layers\",\"loftq_config\":{},"
    "\"layers_to_transform\":[0],\"lora_alpha\":4,\"lora_bias\":false,\"lora_dropout\":0.1,\"megatron_config\":null,"
    "\"megatron_core\":\"megatron.core\",\"modules_to_save\":null,\"peft_type\":\"LORA\",\"peft_version\":\"0.18.1\","
    "\"qalora_group_size\":16,\"r\":2,\"rank_pattern\":{},\"revision\":\"main\",\"target_modules\":[\"q_proj\"],"
    "\"target_parameters\":null,\"task_type\":\"CAUSAL_LM\",\"trainable_token_indices\":null,\"use_dora\":false,"
    "\"use_qalora\":false,\"use_rslora\":false}";

static void check_open(const char *config, const struct buf *data, enum error_code code, const char *needle)
{
    struct error err = {0};
    struct adapter_file *f = adapter_file_open_memory(str_of(config), data->data, data->len, &err);
    if ((f != NULL) != (code == ERR_NONE) || err.code != code || (!f && !strstr(err.msg, needle)))
        fail_msg("%s: %d %s", config, err.code, err.msg);
    adapter_file_close(f);
}

static void configs_are_checked(void **state)
{
    (void)state;
    struct buf data = pair_file(PREFIX "model.layers.0.self_attn.q_proj.lora_A.weight",
                                PREFIX "model.layers.0.self_attn.q_proj.lora_B.weight", 64, 64);
    for (size_t i = 0; i < ARRAY_LEN(configs); i++)
        check_open(configs[i].config, &data, configs[i].code, configs[i].needle);
    check_open(full_config, &data, ERR_NONE, NULL);
    buf_release(&data);
}

static void other_tensors_are_refused(void **state)
{
    static const struct {
        const char *a, *b;
        enum error_code code;
        const char *needle;
    } names[] = {
        {PREFIX "x.lora_A.weight", NULL, ERR_FORMAT, "lacks its other half"},
        {PREFIX "x.lora_B.weight", NULL, ERR_FORMAT, "lacks its other half"},
        {PREFIX "x.lora_A.weight", PREFIX "x.lora_magnitude_vector", ERR_FORMAT, "lacks"},
        {PREFIX "x.lora_embedding_A", PREFIX "x.lora_embedding_B", ERR_UNSUPPORTED, "trained embedding"},
        {PREFIX "x.lora_B.bias", NULL, ERR_UNSUPPORTED, "a bias"},
        {PREFIX "model.norm.weight", NULL, ERR_UNSUPPORTED, "no half of a low-rank change"},
        {"x.lora_A.weight", "x.lora_B.weight", ERR_UNSUPPORTED, "no half"},
        {PREFIX "x.base_layer.weight", NULL, ERR_FORMAT, "holds no tensors"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct buf data = pair_file(names[i].a, names[i].b, 8, 8);
        check_open(PLAIN_CONFIG, &data, names[i].code, names[i].needle);
        buf_release(&data);
    }
}

static void gguf_metadata_is_checked(void **state)
{
    static const struct {
        const char *type, *kind, *extra, *needle;
        double alpha;
    } files[] = {
        {"model", "lora", NULL, "general.type is 'model'", 1},
        {"adapter", "control_vector", NULL, "'control_vector' is not supported", 1},
        {"adapter", "lora", "adapter.alora.invocation_tokens", "aLoRA", 1},
        {"adapter", "lora", NULL, "adapter.lora.alpha", 1e7},
        {"adapter", "lora", NULL, "holds no tensors", 1},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        struct error err = {0};
        struct buf out;
        struct gguf_writer *w = gguf_writer_create();
        assert_non_null(w);
        gguf_put_str(w, "general.type", str_of(files[i].type));
        gguf_put_str(w, "general.architecture", STR("llama"));
        gguf_put_str(w, "adapter.type", str_of(files[i].kind));
        gguf_put_float(w, "adapter.lora.alpha", GGUF_F32, files[i].alpha);
        if (files[i].extra)
            gguf_put_array(w, files[i].extra, GGUF_U32, (uint32_t[]){1, 2}, 2);
        buf_init(&out, MIB(1));
        assert_true(gguf_write_buf(w, &out, &err));
        gguf_writer_free(w);
        struct adapter_file *f = adapter_file_open_memory(STR(""), out.data, out.len, &err);
        if (f || !strstr(err.msg, files[i].needle))
            fail_msg("%s: %s", files[i].needle, err.msg);
        buf_release(&out);
    }
}

/* Other values, other scales, other names: other digests; the same contents, the same. */
static void digests_tell_adapters_apart(void **state)
{
    (void)state;
    struct random_adapter a, other;
    struct sha256 digests[5];
    struct adapter_file *f;
    random_adapter_make(&a, "qwen3", 0, "qwen3");
    random_adapter_make(&other, "qwen3", 1, "qwen3");
    for (int i = 0; i < 5; i++) {
        f = i == 4 ? random_adapter_open(&other, false) : random_adapter_open(&a, i % 2);
        digests[i] = adapter_file_facts(f)->digest;
        assert_int_equal(adapter_file_facts(f)->rank, 6);
        adapter_file_close(f);
    }
    assert_true(sha256_equal(&digests[0], &digests[2]) && sha256_equal(&digests[1], &digests[3]));
    assert_false(sha256_equal(&digests[0], &digests[1]));
    assert_false(sha256_equal(&digests[0], &digests[4]));
    a.peft.data[a.peft.len - 1] ^= 1;
    f = random_adapter_open(&a, false);
    assert_false(sha256_equal(&adapter_file_facts(f)->digest, &digests[0]));
    adapter_file_close(f);
    random_adapter_release(&a);
    random_adapter_release(&other);
}

static void write_file(const struct temp_dir *dir, const char *name, const struct buf *content)
{
    struct error err = {0};
    char *path = temp_dir_file(dir, name);
    if (!file_write_atomic(path, buf_view(content), &err))
        fail_msg("%s", err.msg);
    free(path);
}

struct paths {
    char names[4][32]; /* without folders */
    size_t n;
};

static void take_path(void *arg, const char *path)
{
    struct paths *p = arg;
    assert_true(p->n < ARRAY_LEN(p->names));
    snprintf(p->names[p->n++], sizeof(p->names[0]), "%s", strrchr(path, '/') + 1);
}

static void files_to_open_are_named(void **state)
{
    (void)state;
    struct temp_dir dir;
    struct paths folder = {0}, file = {0}, shards = {0};
    temp_dir_make(&dir);
    adapter_paths_each(dir.path, take_path, &folder);
    adapter_paths_each("/there/is/none.gguf", take_path, &file);
    adapter_paths_each("/there/is/none-00001-of-00002.gguf", take_path, &shards);
    assert_int_equal(folder.n, 2);
    assert_string_equal(folder.names[0], "adapter_config.json");
    assert_string_equal(folder.names[1], "adapter_model.safetensors");
    assert_int_equal(file.n, 1);
    assert_string_equal(file.names[0], "none.gguf");
    assert_string_equal(shards.names[shards.n - 1], "none-00002-of-00002.gguf");
    temp_dir_remove(&dir);
}

static void folders_and_files_are_opened(void **state)
{
    (void)state;
    struct temp_dir dir;
    struct error err = {0};
    struct random_adapter a;
    temp_dir_make(&dir);
    random_adapter_make(&a, "qwen3", 0, "qwen3");
    assert_null(adapter_file_open(dir.path, &err));
    assert_int_equal(err.code, ERR_NOT_FOUND);
    write_file(&dir, "adapter_config.json", &a.config);
    assert_null(adapter_file_open(dir.path, &err));
    assert_non_null(strstr(err.msg, "adapter_model.safetensors"));
    write_file(&dir, "adapter_model.safetensors", &a.peft);
    struct adapter_file *f = adapter_file_open(dir.path, &err);
    assert_true(f && adapter_file_facts(f)->rslora && !adapter_file_facts(f)->gguf);
    assert_int_equal(adapter_file_facts(f)->n_parts, 12);
    adapter_file_close(f);
    write_file(&dir, "a.gguf", &a.gguf);
    char *path = temp_dir_file(&dir, "a.gguf");
    f = adapter_file_open(path, &err);
    assert_true(f && adapter_file_facts(f)->gguf);
    adapter_file_close(f);
    free(path);
    path = temp_dir_file(&dir, "b.gguf");
    assert_null(adapter_file_open(path, &err));
    free(path);
    random_adapter_release(&a);
    temp_dir_remove(&dir);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference_equals_peft),
        cmocka_unit_test(best_kernels_equal_peft),
        cmocka_unit_test(mlx_equals_peft),
        cmocka_unit_test(mixed_batches_have_the_bits_of_each_alone),
        cmocka_unit_test(rows_by_kv_head_are_put_apart),
        cmocka_unit_test(parts_without_a_place_are_refused),
        cmocka_unit_test(configs_are_checked),
        cmocka_unit_test(other_tensors_are_refused),
        cmocka_unit_test(gguf_metadata_is_checked),
        cmocka_unit_test(digests_tell_adapters_apart),
        cmocka_unit_test(files_to_open_are_named),
        cmocka_unit_test(folders_and_files_are_opened),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
