/* What a step has to read and to multiply, against counts made by hand from the shapes of random models, in files and
 * in folders. */
#include "model/cost.h"
#include "tensor/gguf_writer.h"
#include "tests/support/model_vectors.h"

#include "base/array.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

struct fixture {
    struct model_vectors vectors;
    struct buf bytes;
    struct model_file *file;
    struct random_folder *folder;
    struct decoder_config config;
    struct decoder_cost cost;
    struct cost_kv kv;
};

static void read_costs(struct fixture *f, enum kv_type type)
{
    struct error err = {0};
    struct cpu_backend_options o = {.kernels = CPU_KERNELS_REFERENCE, .n_threads = 1};
    struct backend *be = cpu_backend_create(&o, &err);
    assert_non_null(be);
    if (!decoder_config_read(f->file, &f->config, &err))
        fail_msg("%s", err.msg);
    decoder_cost_read(f->file, &f->config, &f->cost);
    cost_kv_read(&f->config, type, be, &f->kv);
    be->ops->free(be);
}

static void open_gguf(struct fixture *f, const char *name, enum kv_type type)
{
    *f = (struct fixture){0};
    model_vectors_load(&f->vectors, name);
    f->file = model_vectors_file(&f->vectors, &f->bytes);
    read_costs(f, type);
}

static void close_model(struct fixture *f)
{
    model_file_close(f->file);
    random_folder_free(f->folder);
    buf_release(&f->bytes);
    model_vectors_release(&f->vectors);
}

static struct step_work cost_of(const struct fixture *f, int n_seqs, int start, int n_rows, int n_out)
{
    struct cost_step step = {n_seqs, start, n_rows, n_out};
    return decoder_step_work(&f->cost, &f->config, &f->kv, &step);
}

static void equal(double got, double wanted, const char *what)
{
    if (!(fabs(got - wanted) <= 1e-9 * fabs(wanted)))
        fail_msg("%s: %.17g, should be %.17g", what, got, wanted);
}

/* Products of a layer's two halves: attention's own matrices but the last, and that one with the MLP. */
static double first_half(const struct decoder_config *c)
{
    return (double)c->n_embd * (c->n_heads * c->k_dim + c->n_kv_heads * (c->k_dim + c->v_dim));
}

static double second_half(const struct decoder_config *c, double mlp)
{
    return (double)c->n_embd * c->n_heads * c->v_dim + mlp;
}

static void test_dense(void **state)
{
    struct fixture f;
    (void)state;
    open_gguf(&f, "llama-plain", KV_F16);
    const struct decoder_config *c = &f.config;
    double layer = first_half(c) + second_half(c, 3.0 * c->n_embd * c->n_ff);
    double head = (double)c->n_vocab * c->n_embd;
    struct step_work one = cost_of(&f, 1, 0, 1, 1), none = cost_of(&f, 1, 0, 1, 0), many = cost_of(&f, 4, 0, 8, 1);
    equal(one.weight_macs.all, c->n_layers * layer + head, "products of a token");
    equal(none.weight_macs.all, one.weight_macs.all - head - second_half(c, 3.0 * c->n_embd * c->n_ff),
          "without logits");
    equal(many.weight_macs.all, 4 * one.weight_macs.all + 28 * none.weight_macs.all, "of 4 sequences of 8 rows");
    assert_false(c->tied_embeddings);
    equal(one.weight_macs.floats, one.weight_macs.all, "products with floats");
    /* all weights are f32; the embedding is read by rows */
    double all = 0;
    for (size_t i = 0; i < model_file_n_tensors(f.file); i++)
        all += (double)model_file_tensor_at(f.file, i)->size;
    equal(one.weight_bytes, all - head * 4 + c->n_embd * 4, "bytes of a token");
    equal(many.weight_bytes, all - head * 4 + 32.0 * c->n_embd * 4, "bytes of 32 tokens");
    equal(none.weight_bytes, one.weight_bytes - head * 4, "bytes without the head");
    close_model(&f);
}

static void test_tied(void **state)
{
    struct fixture f;
    (void)state;
    open_gguf(&f, "qwen2-tied", KV_F16);
    const struct decoder_config *c = &f.config;
    assert_true(c->tied_embeddings);
    double all = 0;
    for (size_t i = 0; i < model_file_n_tensors(f.file); i++)
        all += (double)model_file_tensor_at(f.file, i)->size;
    equal(cost_of(&f, 1, 0, 1, 1).weight_bytes, all, "every weight once");
    close_model(&f);
}

/* Attention and MLP side by side; norms with a row for each head multiply nothing. */
static void test_parallel(void **state)
{
    struct fixture f;
    (void)state;
    open_gguf(&f, "cohere-qk-norm", KV_F16);
    const struct decoder_config *c = &f.config;
    double layer = first_half(c) + second_half(c, 3.0 * c->n_embd * c->n_ff);
    assert_true(c->parallel && c->qk_norm_heads);
    equal(cost_of(&f, 1, 0, 1, 1).weight_macs.all, c->n_layers * layer + (double)c->n_vocab * c->n_embd, "products");
    close_model(&f);
}

static void test_mixture(void **state)
{
    struct fixture f;
    (void)state;
    open_gguf(&f, "mixtral", KV_F16);
    const struct decoder_config *c = &f.config;
    double expert = 3.0 * c->n_embd * c->n_ff_expert, router = (double)c->n_experts * c->n_embd;
    double layer = first_half(c) + second_half(c, router + c->n_experts_used * expert);
    equal(cost_of(&f, 1, 0, 1, 1).weight_macs.all, c->n_layers * layer + (double)c->n_vocab * c->n_embd, "products");
    /* one row reads the experts it uses; many rows read them all */
    double experts = c->n_layers * c->n_experts * expert * 4;
    double one = cost_of(&f, 1, 0, 1, 1).weight_bytes, rest = one - experts * c->n_experts_used / c->n_experts;
    assert_true(rest > 0);
    equal(f.cost.expert_bytes, experts, "bytes of all experts");
    equal(cost_of(&f, 1, 0, 1000, 1).weight_bytes, rest + experts + 999.0 * c->n_embd * 4, "with many rows");
    close_model(&f);
}

/* Experts that all rows take are read and multiplied whatever the router says; biases are read only. */
static void test_shared_experts(void **state)
{
    struct fixture f;
    (void)state;
    open_gguf(&f, "qwen2moe", KV_F16);
    const struct decoder_config *c = &f.config;
    double expert = 3.0 * c->n_embd * c->n_ff_expert, shared = 3.0 * c->n_embd * c->n_ff_shared;
    double mixture = c->n_experts_used * expert + (double)c->n_experts * c->n_embd + shared; /* its gate is a vector */
    double halves = c->n_layers * (first_half(c) + second_half(c, 0));
    equal(cost_of(&f, 1, 0, 1, 1).weight_macs.all,
          halves + 3 * mixture + 3.0 * c->n_embd * c->n_ff + (double)c->n_vocab * c->n_embd, "products");
    equal(f.cost.expert_bytes, 3.0 * c->n_experts * expert * 4, "bytes of experts");
    close_model(&f);
    open_gguf(&f, "gpt-oss", KV_F16);
    c = &f.config;
    expert = 3.0 * c->n_embd * c->n_ff_expert;
    mixture = c->n_experts_used * expert + (double)c->n_experts * c->n_embd;
    equal(cost_of(&f, 1, 0, 1, 1).weight_macs.all,
          c->n_layers * (first_half(c) + second_half(c, mixture)) + (double)c->n_vocab * c->n_embd, "with biases");
    double biases = (double)c->n_experts * (2 * c->n_ff_expert + c->n_embd);
    equal(f.cost.expert_bytes, c->n_layers * (c->n_experts * expert + biases) * 4, "bytes of experts and biases");
    close_model(&f);
}

/* Q, the latent, and what turns them for each head; V of the latent is behind the attention, which is as wide as the
 * latent. */
static void test_latents(void **state)
{
    static const char *const names[] = {"deepseek2", "deepseek3"}; /* K and V of the latent in one tensor, in two */
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct fixture f;
        open_gguf(&f, names[i], KV_F16);
        const struct decoder_config *c = &f.config;
        double q = (double)c->n_heads * (c->nope_dim + c->rot_dim), e = c->n_embd;
        double first = (c->q_latent ? c->n_q_latent * (e + q) : e * q) + e * (c->n_latent + c->rot_dim) +
                       (double)c->n_heads * c->n_latent * c->nope_dim;
        double last = (double)c->n_heads * c->head_v_dim * (c->n_latent + e);
        double mixture = 3.0 * e * (c->n_experts_used * c->n_ff_expert + c->n_ff_shared) + c->n_experts * e;
        double layers = c->n_layers * (first + last) + (c->n_layers - 1) * mixture + 3 * e * c->n_ff;
        struct step_work one = cost_of(&f, 1, 0, 1, 1), none = cost_of(&f, 1, 0, 1, 0);
        equal(one.weight_macs.all, layers + c->n_vocab * e, names[i]);
        equal(none.weight_macs.all, layers - last - mixture, "without logits");
        equal(one.attention_macs, (double)c->n_layers * c->n_heads * (2 * c->n_latent + c->rot_dim), "attention");
        equal(f.kv.position_bytes[0], c->n_layers * (2.0 * c->n_latent + c->rot_dim) * 2, "bytes of a position");
        close_model(&f);
    }
}

/* Layers that share K and V have no products of them, whatever the file holds, but read them; of the table of per-layer
 * inputs a row is read. */
static void test_streams(void **state)
{
    struct fixture f;
    (void)state;
    open_gguf(&f, "gemma3n", KV_F16);
    const struct decoder_config *c = &f.config;
    double e = c->n_embd, kv = e * c->n_kv_heads * (c->k_dim + c->v_dim), inputs = c->n_layers * c->n_layer_input;
    double tail = second_half(c, 3 * e * c->n_ff) + 2 * e * (c->laurel_rank + c->n_layer_input);
    double layers = c->n_layers * (first_half(c) + tail + c->n_streams * e) - c->n_kv_shared * kv;
    double maps = (c->n_streams - 1) * e * e, head = (double)c->n_vocab * e;
    struct step_work one = cost_of(&f, 1, 0, 1, 1), none = cost_of(&f, 1, 0, 1, 0);
    equal(one.weight_macs.all, layers + 2 * maps + inputs * e + head, "products of a token");
    equal(none.weight_macs.all, one.weight_macs.all - head - maps - tail, "without logits");
    double all = 0;
    for (size_t i = 0; i < model_file_n_tensors(f.file); i++)
        all += (double)model_file_tensor_at(f.file, i)->size;
    double unused = c->n_kv_shared * (kv + c->k_dim) * 4;
    equal(one.weight_bytes, all - unused - (c->n_layer_vocab - 1) * inputs * 4, "bytes of a token");
    equal(one.attention_macs, (double)c->n_layers * c->n_heads * (c->k_dim + c->v_dim), "attention");
    equal(one.kv_bytes, c->n_layers * (double)c->n_kv_heads * (c->k_dim + c->v_dim) * 2, "bytes of a position");
    assert_true(f.kv.n_groups == 2 && f.kv.groups[0].n_layers == 2 && f.kv.n_readers[0] == 3);
    close_model(&f);
}

/* Layers that convolve multiply each column with their taps, and no more. */
static void test_convolutions(void **state)
{
    struct fixture f;
    (void)state;
    open_gguf(&f, "lfm2", KV_F16);
    const struct decoder_config *c = &f.config;
    double e = c->n_embd, mlp = 3 * e * c->n_ff, conv = 4 * e * e;
    int n_conv = 0;
    for (int i = 0; i < c->n_layers; i++)
        n_conv += c->layer_conv[i];
    double attending = (double)(c->n_layers - n_conv) * (first_half(c) + second_half(c, mlp));
    struct step_work one = cost_of(&f, 1, 9, 1, 1), none = cost_of(&f, 1, 9, 1, 0);
    equal(one.weight_macs.all, attending + n_conv * (conv + mlp) + c->n_vocab * e, "products of a token");
    assert_true(c->layer_conv[c->n_layers - 1]);
    equal(none.weight_macs.all, one.weight_macs.all - c->n_vocab * e - e * e - mlp, "without logits");
    double seen = 10.0 * c->n_heads * 2 * c->k_dim * (c->n_layers - n_conv);
    equal(one.attention_macs, seen + n_conv * e * c->n_conv_taps, "products with positions");
    double bytes = 10.0 * c->n_kv_heads * 2 * c->k_dim * 2 * (c->n_layers - n_conv);
    equal(one.kv_bytes, bytes + n_conv * e * 4 * c->n_conv_taps, "bytes of positions");
    close_model(&f);
}

/* Products of the delta rule, and its state, which a step reads and writes once. What gates an output is behind it. */
static void test_states(void **state)
{
    struct fixture f;
    (void)state;
    open_gguf(&f, "qwen3next", KV_F16);
    const struct decoder_config *c = &f.config;
    const struct delta_params *p = &c->delta;
    double e = c->n_embd, keys = p->n_k_heads * p->k_dim, values = p->n_v_heads * p->v_dim;
    double shared = 3.0 * e * c->n_ff_shared, mixture = 3 * e * c->n_experts_used * c->n_ff_expert + c->n_experts * e;
    double tail = 2 * e * values, delta = e * (2 * keys + values + 2 * p->n_v_heads) + tail;
    double attending = first_half(c) + second_half(c, 0) + e * c->n_heads * c->v_dim;
    double mlps = 4 * (mixture + shared) + 3 * e * c->n_ff;
    struct step_work one = cost_of(&f, 1, 9, 1, 1), none = cost_of(&f, 1, 9, 1, 0);
    equal(one.weight_macs.all, 4 * delta + attending + mlps + c->n_vocab * e, "products of a token");
    equal(none.weight_macs.all, one.weight_macs.all - c->n_vocab * e - tail - mixture - shared, "without logits");
    double rule = 4 * (3.0 * values * p->k_dim + p->n_taps * (2 * keys + values));
    double pair = (double)c->n_heads * (c->k_dim + c->v_dim),
           position = (double)c->n_kv_heads * (c->k_dim + c->v_dim) * 2;
    equal(one.attention_macs, rule + 10 * pair, "products with a state and with positions");
    double page = (double)kv_state_page_size(&f.kv.groups[0]);
    assert_true(f.kv.groups[0].state_size > 0 && page >= 4.0 * (double)f.kv.groups[0].state_size);
    equal(one.kv_bytes, 2 * page + 10 * position, "bytes of a state and of positions");
    equal(cost_of(&f, 3, 0, 7, 1).kv_bytes, 3 * (page + 7 * position), "bytes of prompts");
    equal(cost_of(&f, 1, 0, 7, 1).attention_macs, 7 * rule + 28 * pair, "products of a prompt");
    close_model(&f);
}

/* Whatever the container calls its tensors, and however it stacks experts, the work is the same. */
static void check_folders(const char *name)
{
    static const char *const layouts[] = {"each", "fused", "switch"};
    struct fixture file;
    open_gguf(&file, name, KV_F16);
    struct step_work wanted = cost_of(&file, 2, 3, 5, 2);
    for (int i = 0; i < 3; i++) {
        struct fixture f = {0};
        model_vectors_load(&f.vectors, name);
        f.file = model_vectors_folder(&f.vectors, layouts[i], i == 1 && strcmp(name, "mixtral") == 0, &f.folder);
        read_costs(&f, KV_F16);
        struct step_work got = cost_of(&f, 2, 3, 5, 2);
        equal(got.weight_macs.all, wanted.weight_macs.all, layouts[i]);
        equal(got.weight_bytes, wanted.weight_bytes, layouts[i]);
        close_model(&f);
    }
    close_model(&file);
}

static void test_folders(void **state)
{
    (void)state;
    check_folders("mixtral");
    check_folders("deepseek3");
    check_folders("gpt-oss");
    check_folders("llama4");
    check_folders("gemma3n");
    check_folders("lfm2moe");
    check_folders("qwen3next");
}

/* ---- attention ---- */

static void test_full_attention(void **state)
{
    struct fixture f;
    (void)state;
    open_gguf(&f, "llama-plain", KV_F32);
    const struct decoder_config *c = &f.config;
    double pair = (double)c->n_layers * c->n_heads * (c->k_dim + c->v_dim);
    double position = (double)c->n_layers * c->n_kv_heads * (c->k_dim + c->v_dim) * 4;
    equal(cost_of(&f, 1, 99, 1, 1).attention_macs, 100 * pair, "one row");
    equal(cost_of(&f, 1, 0, 100, 1).attention_macs, 5050 * pair, "a prompt");
    equal(cost_of(&f, 3, 10, 4, 1).attention_macs, 3 * (11 + 12 + 13 + 14) * pair, "chunks");
    equal(cost_of(&f, 1, 99, 1, 1).kv_bytes, 100 * position, "bytes of one row");
    equal(cost_of(&f, 2, 50, 50, 1).kv_bytes, 2 * 100 * position, "bytes of chunks");
    close_model(&f);
}

/* Counted row by row. */
static double seen_by_rows(int start, int n, int window)
{
    double sum = 0;
    for (int p = start; p < start + n; p++)
        sum += window > 0 && p + 1 > window ? window : p + 1;
    return sum;
}

static void test_windows(void **state)
{
    static const int starts[] = {0, 1, 5, 30, 31, 32, 33, 100}, lengths[] = {1, 2, 7, 31, 32, 33, 90};
    struct fixture f;
    (void)state;
    open_gguf(&f, "gemma2", KV_F16);
    assert_int_equal(f.kv.n_groups, 2);
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++) {
        for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
            int start = starts[i], n = lengths[k];
            double macs = 0, bytes = 0;
            for (int g = 0; g < f.kv.n_groups; g++) {
                const struct kv_group_spec *s = &f.kv.groups[g];
                int last = start + n, oldest = s->window > 0 && start + 1 > s->window ? start + 1 - s->window : 0;
                macs += seen_by_rows(start, n, s->window) * f.config.n_heads * (s->k_dim + s->v_dim) * s->n_layers;
                bytes += (last - oldest) * f.kv.position_bytes[g];
            }
            struct step_work cost = cost_of(&f, 1, start, n, 1);
            equal(cost.attention_macs, macs, "multiply-adds in a window");
            equal(cost.kv_bytes, bytes, "bytes in a window");
        }
    }
    close_model(&f);
}

static void add_tensor(struct gguf_writer *w, const char *name, enum dtype type, uint64_t rows)
{
    static const uint8_t zeros[64 * 32 * 4];
    gguf_add_tensor(w, &(struct gguf_tensor){.name = name,
                                             .type = type,
                                             .n_dims = rows > 1 ? 2 : 1,
                                             .shape = {rows > 1 ? rows : 32, rows > 1 ? 32 : 1},
                                             .data = zeros});
}

/* One layer of Q8_0, 32 wide, under a tied head of f32. */
static struct gguf_writer *mixed_model(void)
{
    static const char *const matrices[] = {"attn_q",   "attn_k", "attn_v",  "attn_output",
                                           "ffn_gate", "ffn_up", "ffn_down"};
    static const char *const norms[] = {"output_norm.weight", "blk.0.attn_norm.weight", "blk.0.ffn_norm.weight"};
    struct gguf_writer *w = gguf_writer_create();
    assert_non_null(w);
    gguf_put_str(w, "general.architecture", STR("llama"));
    gguf_put_int(w, "llama.block_count", GGUF_U32, 1);
    gguf_put_int(w, "llama.context_length", GGUF_U32, 64);
    gguf_put_int(w, "llama.embedding_length", GGUF_U32, 32);
    gguf_put_int(w, "llama.feed_forward_length", GGUF_U32, 32);
    gguf_put_int(w, "llama.attention.head_count", GGUF_U32, 2);
    gguf_put_float(w, "llama.attention.layer_norm_rms_epsilon", GGUF_F32, 1e-5);
    add_tensor(w, "token_embd.weight", DTYPE_F32, 64);
    for (size_t i = 0; i < ARRAY_LEN(norms); i++)
        add_tensor(w, norms[i], DTYPE_F32, 1);
    for (size_t i = 0; i < ARRAY_LEN(matrices); i++) {
        char name[48];
        snprintf(name, sizeof name, "blk.0.%s.weight", matrices[i]);
        add_tensor(w, name, DTYPE_Q8_0, 32);
    }
    return w;
}

static void test_types(void **state)
{
    struct fixture f = {0};
    struct error err = {0};
    (void)state;
    struct gguf_writer *w = mixed_model();
    buf_init(&f.bytes, 1 << 20);
    if (!gguf_write_buf(w, &f.bytes, &err) || !(f.file = model_file_open_memory(f.bytes.data, f.bytes.len, &err)))
        fail_msg("%s", err.msg);
    gguf_writer_free(w);
    read_costs(&f, KV_F16);
    struct step_work one = cost_of(&f, 1, 0, 1, 1);
    equal(one.weight_macs.all, 7 * 32 * 32 + 64 * 32, "products");
    equal(one.weight_macs.floats, 64 * 32, "products with floats");
    equal(one.weight_bytes, 7 * 32 * 34 + (64 + 3) * 32 * 4, "bytes");
    model_file_close(f.file);
    buf_release(&f.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dense),          cmocka_unit_test(test_tied),           cmocka_unit_test(test_parallel),
        cmocka_unit_test(test_mixture),        cmocka_unit_test(test_shared_experts), cmocka_unit_test(test_latents),
        cmocka_unit_test(test_convolutions),   cmocka_unit_test(test_states),         cmocka_unit_test(test_folders),
        cmocka_unit_test(test_full_attention), cmocka_unit_test(test_windows),        cmocka_unit_test(test_types),
        cmocka_unit_test(test_streams),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
