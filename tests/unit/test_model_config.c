/* Metadata to decoder configuration: what each family says, and what hostile values get. */
#include "model/family.h"
#include "tensor/gguf_writer.h"

#include "base/array.h"
#include "base/limits.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

struct made {
    struct buf bytes;
    struct model_file *file;
};

static void put_int(struct gguf_writer *w, const char *arch, const char *key, int64_t v)
{
    char name[96];
    snprintf(name, sizeof(name), "%s.%s", arch, key);
    gguf_put_int(w, name, GGUF_U32, v);
}

static void put_float(struct gguf_writer *w, const char *arch, const char *key, double v)
{
    char name[96];
    snprintf(name, sizeof(name), "%s.%s", arch, key);
    gguf_put_float(w, name, GGUF_F32, v);
}

static const float zeros[64 * 48];

static void add_tensor(struct gguf_writer *w, const char *name, uint64_t rows, uint64_t cols)
{
    gguf_add_tensor(w, &(struct gguf_tensor){.name = name,
                                             .type = DTYPE_F32,
                                             .n_dims = rows ? 2 : 1,
                                             .shape = {rows ? rows : cols, rows ? cols : 1},
                                             .data = zeros});
}

/* The keys that every family needs: 12 layers, 64 wide, 4 heads, 2 of keys and values. */
static struct gguf_writer *writer(const char *arch)
{
    struct gguf_writer *w = gguf_writer_create();
    assert_non_null(w);
    gguf_put_str(w, "general.architecture", str_of(arch));
    put_int(w, arch, "block_count", 12);
    put_int(w, arch, "context_length", 4096);
    put_int(w, arch, "embedding_length", 64);
    put_int(w, arch, "feed_forward_length", 96);
    put_int(w, arch, "attention.head_count", 4);
    put_int(w, arch, "attention.head_count_kv", 2);
    put_float(w, arch, "attention.layer_norm_rms_epsilon", 1e-6);
    return w;
}

static struct made finish(struct gguf_writer *w)
{
    struct made m;
    struct error err = {0};
    buf_init(&m.bytes, MIB(4));
    add_tensor(w, "token_embd.weight", 48, 64);
    if (!gguf_write_buf(w, &m.bytes, &err) || !(m.file = model_file_open_memory(m.bytes.data, m.bytes.len, &err)))
        fail_msg("%s", err.msg);
    gguf_writer_free(w);
    return m;
}

static void drop(struct made *m)
{
    model_file_close(m->file);
    buf_release(&m->bytes);
}

static struct decoder_config read_config(const struct made *m)
{
    struct decoder_config c;
    struct error err = {0};
    if (!decoder_config_read(m->file, &c, &err))
        fail_msg("%s", err.msg);
    return c;
}

static void assert_refused(struct gguf_writer *w, enum error_code code, const char *needle)
{
    struct made m = finish(w);
    struct decoder_config c;
    struct error err = {0};
    assert_false(decoder_config_read(m.file, &c, &err));
    if (err.code != code || !strstr(err.msg, needle))
        fail_msg("%d %s", err.code, err.msg);
    drop(&m);
}

static void assert_near(double a, double b)
{
    if (!(fabs(a - b) <= 1e-6 * fmax(fabs(a), fabs(b))))
        fail_msg("%.9g is not %.9g", a, b);
}

/* ---- families ---- */

static void llama(void **state)
{
    (void)state;
    struct gguf_writer *w = writer("llama");
    add_tensor(w, "output.weight", 48, 64);
    struct made m = finish(w);
    struct decoder_config c = read_config(&m);
    assert_string_equal(c.arch, "llama");
    assert_true(c.n_layers == 12 && c.n_embd == 64 && c.n_vocab == 48 && c.n_context == 4096 && c.n_ff == 96);
    assert_true(c.n_heads == 4 && c.n_kv_heads == 2 && c.k_dim == 16 && c.v_dim == 16 && c.rot_dim == 16);
    assert_true(c.norm_kind == NORM_RMS && c.norm_weight_offset == 0 && c.pre_norm && !c.post_norm && !c.qk_norm);
    assert_near(c.norm_eps, 1e-6f);
    assert_true(c.rope_kind == ROPE_NORM && c.rope.base == 10000 && c.rope.scaling.kind == ROPE_SCALING_NONE);
    assert_true(!c.has_rope_local && !c.rope_freq_factors && !c.qkv_bias && !c.out_bias && !c.mlp_bias);
    assert_near(c.attn_scale, 0.25);
    assert_true(c.attn_softcap == 0 && c.final_softcap == 0 && c.window == 0 && c.layer_windowed[0] == 0);
    assert_true(c.act == ACT_SILU && c.mlp_gated && c.embd_scale == 1 && c.residual_scale == 1 && c.logit_scale == 1);
    assert_false(c.tied_embeddings);
    drop(&m);
}

static void qwen(void **state)
{
    (void)state;
    struct gguf_writer *w = writer("qwen2");
    add_tensor(w, "blk.0.attn_q.bias", 0, 64);
    put_float(w, "qwen2", "rope.freq_base", 1000000);
    struct made m = finish(w);
    struct decoder_config c = read_config(&m);
    assert_true(c.rope_kind == ROPE_NEOX && c.qkv_bias && !c.qk_norm && c.tied_embeddings && c.rope.base == 1000000);
    drop(&m);
    w = writer("qwen3");
    put_int(w, "qwen3", "attention.key_length", 32);
    put_int(w, "qwen3", "attention.value_length", 24);
    m = finish(w);
    c = read_config(&m);
    assert_true(c.qk_norm && !c.qkv_bias && c.k_dim == 32 && c.v_dim == 24 && c.rot_dim == 32);
    assert_near(c.attn_scale, 1 / sqrt(32));
    drop(&m);
}

static void gemma2(void **state)
{
    (void)state;
    struct made m = finish(writer("gemma2"));
    struct decoder_config c = read_config(&m);
    assert_true(c.pre_norm && c.post_norm && !c.qk_norm && c.act == ACT_GELU_TANH && c.embd_scale == 8);
    assert_true(c.attn_softcap == 50 && c.final_softcap == 30 && c.window == 4096 && !c.has_rope_local);
    for (int i = 0; i < 12; i++)
        assert_int_equal(c.layer_windowed[i], i % 2 == 0);
    struct error err = {0};
    assert_true(model_file_override(m.file, "gemma2.block_count=int:46", &err)); /* 27B: by n_embd / n_heads */
    assert_true(model_file_override(m.file, "gemma2.attention.key_length=int:32", &err));
    c = read_config(&m);
    assert_near(c.attn_scale, 0.25);
    assert_true(model_file_override(m.file, "gemma2.attention.scale=float:0.125", &err));
    c = read_config(&m);
    assert_near(c.attn_scale, 0.125);
    drop(&m);
}

static void gemma3(void **state)
{
    (void)state;
    struct gguf_writer *w = writer("gemma3");
    put_int(w, "gemma3", "attention.sliding_window", 512);
    put_float(w, "gemma3", "rope.freq_base", 1000000);
    gguf_put_str(w, "gemma3.rope.scaling.type", STR("linear"));
    put_float(w, "gemma3", "rope.scaling.factor", 8);
    struct made m = finish(w);
    struct decoder_config c = read_config(&m);
    assert_true(c.qk_norm && c.post_norm && c.attn_softcap == 0 && c.final_softcap == 0 && c.window == 512);
    assert_true(c.has_rope_local && c.rope_local.base == 10000 && c.rope_local.scaling.kind == ROPE_SCALING_NONE);
    assert_true(c.rope.base == 1000000 && c.rope.scaling.kind == ROPE_SCALING_LINEAR && c.rope.scaling.factor == 8);
    for (int i = 0; i < 12; i++)
        assert_int_equal(c.layer_windowed[i], i % 6 != 5);
    struct error err = {0};
    assert_true(model_file_override(m.file, "gemma3.attention.sliding_window_pattern=int:3", &err));
    c = read_config(&m);
    for (int i = 0; i < 12; i++)
        assert_int_equal(c.layer_windowed[i], i % 3 != 2);
    assert_true(model_file_override(m.file, "gemma3.attention.sliding_window=int:0", &err)); /* all layers see all */
    c = read_config(&m);
    assert_true(c.window == 0 && !c.layer_windowed[0] && !c.has_rope_local);
    drop(&m);
}

static void llama4(void **state)
{
    (void)state;
    struct gguf_writer *w = writer("llama4");
    put_int(w, "llama4", "expert_count", 4);
    put_int(w, "llama4", "expert_used_count", 1);
    struct made m = finish(w);
    struct decoder_config c = read_config(&m);
    assert_true(c.window == 8192 && c.window_chunked && c.qk_norm_plain && c.temper_scale == 0.1f);
    for (int i = 0; i < 12; i++)
        assert_true(c.layer_nope[i] == (i % 4 == 3) && c.layer_windowed[i] == (i % 4 != 3));
    drop(&m);
    /* as the converter writes it of models whose layers all see all, and rotate */
    w = writer("llama4");
    put_int(w, "llama4", "attention.sliding_window", 0);
    m = finish(w);
    c = read_config(&m);
    assert_true(c.window == 0 && c.qk_norm_plain && c.temper_scale == 0);
    for (int i = 0; i < 12; i++)
        assert_true(!c.layer_nope[i] && !c.layer_windowed[i]);
    drop(&m);
}

static struct gguf_writer *gemma3n_writer(float shared)
{
    struct gguf_writer *w = writer("gemma3n");
    put_float(w, "gemma3n", "attention.shared_kv_layers", (double)shared); /* a float in some files */
    put_int(w, "gemma3n", "embedding_length_per_layer_input", 4);
    add_tensor(w, "per_layer_token_embd.weight", 40, 48);
    add_tensor(w, "blk.0.laurel_l.weight", 6, 64);
    return w;
}

static void gemma3n(void **state)
{
    (void)state;
    struct gguf_writer *w = gemma3n_writer(5);
    float sparsity[12] = {1.5f, -INFINITY, -0.5f};
    for (int i = 3; i < 12; i++)
        sparsity[i] = -INFINITY;
    gguf_put_array(w, "gemma3n.activation_sparsity_scale", GGUF_F32, sparsity, 12);
    struct made m = finish(w);
    struct decoder_config c = read_config(&m);
    assert_true(c.n_streams == 4 && c.active_stream == 0 && c.stream_scaled && c.v_norm && c.qk_norm);
    assert_true(c.laurel && c.laurel_rank == 6 && c.layer_inputs && c.n_layer_input == 4 && c.n_layer_vocab == 40);
    assert_true(c.attn_scale == 1 && c.final_softcap == 30 && c.window == 512 && c.n_kv_shared == 5);
    assert_true(c.has_rope_local && c.rope_local.base == 10000 && c.rope.base == 1000000 && c.tied_embeddings);
    assert_true(c.layer_sparse[0] && !c.layer_sparse[1] && c.layer_sparse[2] && !c.layer_sparse[11]);
    assert_true(c.sparsity[0] == 1.5f && c.sparsity[2] == -0.5f);
    /* the last layers have the pages of the last ones of their kind that have some: 4 of all positions, 6 */
    struct kv_group_spec groups[KV_MAX_GROUPS];
    uint8_t group[MODEL_MAX_LAYERS];
    uint16_t index[MODEL_MAX_LAYERS];
    assert_int_equal(decoder_kv_groups(&c, KV_F16, groups, group, index), 2);
    assert_true(groups[group[0]].n_layers == 6 && groups[group[4]].n_layers == 1);
    for (int i = 0; i < 12; i++)
        assert_true(decoder_layer_keeps(&c, i) == (i < 7) && c.layer_windowed[i] == (i % 5 < 4));
    assert_true(index[6] == 5 && index[7] == 5 && index[8] == 5 && index[9] == 0 && index[4] == 0 && index[11] == 5);
    drop(&m);
    w = gemma3n_writer(0); /* which layers are sparse is no key of the first files */
    m = finish(w);
    c = read_config(&m);
    for (int i = 0; i < 12; i++)
        assert_true(c.layer_sparse[i] == (i < 10));
    assert_near((double)c.sparsity[0], 1.6448536269514722);
    drop(&m);
    assert_refused(writer("gemma3n"), ERR_FORMAT, "shared_kv_layers is missing");
    assert_refused(gemma3n_writer(8), ERR_FORMAT, "Layer 4 has to share");
    assert_refused(gemma3n_writer(12), ERR_FORMAT, "shared_kv_layers");
    assert_refused(gemma3n_writer(2.5f), ERR_FORMAT, "shared_kv_layers");
    w = gemma3n_writer(1);
    put_int(w, "gemma3n", "altup.num_inputs", 9);
    assert_refused(w, ERR_FORMAT, "altup.num_inputs");
    w = gemma3n_writer(1);
    put_int(w, "gemma3n", "altup.active_idx", 4);
    assert_refused(w, ERR_FORMAT, "altup.active_idx");
    w = gemma3n_writer(1);
    sparsity[4] = NAN;
    gguf_put_array(w, "gemma3n.activation_sparsity_scale", GGUF_F32, sparsity, 12);
    assert_refused(w, ERR_FORMAT, "activation_sparsity_scale");
    w = gemma3n_writer(1);
    gguf_put_array(w, "gemma3n.activation_sparsity_scale", GGUF_F32, sparsity, 11);
    assert_refused(w, ERR_FORMAT, "an array of 12 numbers");
}

/* 4 layers of LFM2; heads: of keys and values in each. */
static struct gguf_writer *hybrid_writer(const int32_t heads[4], size_t n)
{
    struct gguf_writer *w = gguf_writer_create();
    assert_non_null(w);
    gguf_put_str(w, "general.architecture", STR("lfm2"));
    put_int(w, "lfm2", "block_count", 4);
    put_int(w, "lfm2", "context_length", 4096);
    put_int(w, "lfm2", "embedding_length", 64);
    put_int(w, "lfm2", "feed_forward_length", 96);
    put_int(w, "lfm2", "attention.head_count", 4);
    put_float(w, "lfm2", "attention.layer_norm_rms_epsilon", 1e-5);
    gguf_put_array(w, "lfm2.attention.head_count_kv", GGUF_I32, heads, n);
    return w;
}

/* Layers without heads of keys and values convolve, and keep what they need in a group of their own. */
static void convolutions(void **state)
{
    (void)state;
    struct gguf_writer *w = hybrid_writer((const int32_t[]){0, 2, 0, 0}, 4);
    put_int(w, "lfm2", "shortconv.l_cache", 5);
    struct made m = finish(w);
    struct decoder_config c = read_config(&m);
    struct kv_group_spec groups[KV_MAX_GROUPS];
    uint8_t group[MODEL_MAX_LAYERS];
    uint16_t index[MODEL_MAX_LAYERS];
    assert_true(c.n_kv_heads == 2 && c.n_conv_taps == 5 && c.qk_norm && c.tied_embeddings && c.n_ff == 96);
    assert_true(c.layer_conv[0] && !c.layer_conv[1] && c.layer_conv[2] && c.layer_conv[3]);
    for (int type = 0; type < KV_TYPE_COUNT; type++) {
        assert_int_equal(decoder_kv_groups(&c, (enum kv_type)type, groups, group, index), 2);
        assert_true(groups[0].n_layers == 3 && groups[0].n_kv_heads == 1 && groups[0].k_dim == 0);
        assert_true(groups[0].v_dim == 64 && groups[0].type == KV_F32 && groups[0].window == 5);
        assert_true(groups[1].n_layers == 1 && groups[1].type == (enum kv_type)type && groups[1].window == 0);
        assert_true(group[3] == 0 && index[3] == 2 && group[1] == 1 && index[1] == 0);
    }
    drop(&m);
    m = finish(hybrid_writer((const int32_t[]){2, 2, 2, 2}, 4));
    c = read_config(&m);
    assert_true(c.n_conv_taps == 0 && decoder_kv_groups(&c, KV_F16, groups, group, index) == 1);
    drop(&m);
    assert_refused(hybrid_writer((const int32_t[]){0, 2, 0, 0}, 3), ERR_FORMAT, "3 entries for 4 layers");
    assert_refused(hybrid_writer((const int32_t[]){0, -1, 0, 2}, 4), ERR_FORMAT, "head_count_kv");
    assert_refused(hybrid_writer((const int32_t[]){0, 5000, 0, 2}, 4), ERR_FORMAT, "4096");
    assert_refused(hybrid_writer((const int32_t[]){0, 4, 0, 2}, 4), ERR_UNSUPPORTED, "with 4 and with 2");
    assert_refused(hybrid_writer((const int32_t[]){0, 0, 0, 0}, 4), ERR_UNSUPPORTED, "None of the model's layers");
    w = hybrid_writer((const int32_t[]){0, 2, 0, 0}, 4);
    put_int(w, "lfm2", "shortconv.l_cache", 1);
    assert_refused(w, ERR_FORMAT, "shortconv.l_cache");
}

/* 8 layers of Qwen3-Next, `more` in place of one of its numbers, or without it where that is below 0. */
static struct gguf_writer *delta_writer(const char *key, int64_t more)
{
    static const struct {
        const char *key;
        int64_t v;
    } numbers[] = {{"block_count", 8},           {"context_length", 4096},
                   {"embedding_length", 64},     {"feed_forward_length", 96},
                   {"attention.head_count", 4},  {"attention.head_count_kv", 2},
                   {"attention.key_length", 32}, {"attention.value_length", 32},
                   {"rope.dimension_count", 8},  {"full_attention_interval", 4},
                   {"ssm.conv_kernel", 4},       {"ssm.state_size", 24},
                   {"ssm.group_count", 2},       {"ssm.time_step_rank", 6},
                   {"ssm.inner_size", 120}};
    struct gguf_writer *w = gguf_writer_create();
    assert_non_null(w);
    gguf_put_str(w, "general.architecture", STR("qwen3next"));
    put_float(w, "qwen3next", "attention.layer_norm_rms_epsilon", 1e-5);
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        bool other = strcmp(numbers[i].key, key) == 0;
        if (!other || more >= 0)
            put_int(w, "qwen3next", numbers[i].key, other ? more : numbers[i].v);
    }
    return w;
}

/* Layers of the delta rule keep a state, all in one group. */
static void states(void **state)
{
    (void)state;
    struct made m = finish(delta_writer("", 0));
    struct decoder_config c = read_config(&m);
    struct kv_group_spec groups[KV_MAX_GROUPS];
    uint8_t group[MODEL_MAX_LAYERS];
    uint16_t index[MODEL_MAX_LAYERS];
    assert_true(c.delta.n_k_heads == 2 && c.delta.n_v_heads == 6 && c.delta.k_dim == 24 && c.delta.v_dim == 20);
    assert_true(c.delta.n_taps == 4 && c.qk_norm && c.attn_gated && c.rot_dim == 8 && c.norm_weight_offset == 0);
    for (int i = 0; i < 8; i++)
        assert_true(c.layer_delta[i] == (i % 4 != 3));
    assert_int_equal(decoder_kv_groups(&c, KV_Q8, groups, group, index), 2);
    assert_true(groups[0].n_layers == 6 && groups[0].window == 2 && groups[0].type == KV_F32);
    assert_true(groups[0].n_kv_heads == 0 && groups[0].k_dim == 0 && groups[0].v_dim == 0);
    assert_int_equal(groups[0].state_size, 4 * (6 * 24 * 20 + 3 * (2 * 48 + 120)));
    assert_true(groups[1].n_layers == 2 && groups[1].type == KV_Q8 && groups[1].window == 0);
    assert_true(groups[1].state_size == 0 && group[6] == 0 && index[6] == 5 && group[7] == 1 && index[7] == 1);
    drop(&m);
    m = finish(delta_writer("full_attention_interval", -1)); /* older files */
    c = read_config(&m);
    assert_true(c.layer_delta[2] && !c.layer_delta[3] && !c.layer_delta[7]);
    drop(&m);
    m = finish(delta_writer("full_attention_interval", 1));
    c = read_config(&m);
    assert_true(c.delta.n_taps == 0 && decoder_kv_groups(&c, KV_F16, groups, group, index) == 1);
    drop(&m);
    assert_refused(delta_writer("full_attention_interval", 9), ERR_UNSUPPORTED, "None of the model's layers");
    assert_refused(delta_writer("full_attention_interval", 0), ERR_FORMAT, "full_attention_interval");
    assert_refused(delta_writer("ssm.conv_kernel", 1), ERR_FORMAT, "ssm.conv_kernel");
    assert_refused(delta_writer("ssm.conv_kernel", 65), ERR_FORMAT, "ssm.conv_kernel");
    assert_refused(delta_writer("ssm.state_size", -1), ERR_FORMAT, "ssm.state_size");
    assert_refused(delta_writer("ssm.state_size", 5000), ERR_FORMAT, "4096");
    assert_refused(delta_writer("ssm.group_count", 4), ERR_FORMAT, "multiple of its 4 key heads");
    assert_refused(delta_writer("ssm.group_count", 0), ERR_FORMAT, "ssm.group_count");
    assert_refused(delta_writer("ssm.time_step_rank", 1 << 20), ERR_FORMAT, "ssm.time_step_rank");
    assert_refused(delta_writer("ssm.inner_size", 121), ERR_FORMAT, "no values of 6 heads");
    assert_refused(delta_writer("ssm.inner_size", 5000 * 6), ERR_FORMAT, "no values of 6 heads");
}

/* Of the family that is arch deepseek2, in the form of older files. */
static struct gguf_writer *latent_writer(void)
{
    struct gguf_writer *w = writer("deepseek2");
    put_int(w, "deepseek2", "attention.kv_lora_rank", 32);
    put_int(w, "deepseek2", "attention.key_length", 24);
    put_int(w, "deepseek2", "attention.value_length", 16);
    put_int(w, "deepseek2", "rope.dimension_count", 8);
    put_int(w, "deepseek2", "expert_count", 8);
    put_int(w, "deepseek2", "expert_used_count", 2);
    put_int(w, "deepseek2", "expert_feed_forward_length", 32);
    add_tensor(w, "blk.1.ffn_gate_inp.weight", 8, 64);
    return w;
}

/* What of DeepSeek's architecture follows from no key. */
static void deepseek2(void **state)
{
    (void)state;
    struct made m = finish(latent_writer());
    struct decoder_config c = read_config(&m);
    assert_true(c.latent && c.nope_dim == 16 && c.head_v_dim == 16 && c.expert_score == MOE_SOFTMAX);
    drop(&m);
    struct gguf_writer *w = latent_writer();
    add_tensor(w, "blk.1.exp_probs_b.bias", 0, 8);
    m = finish(w);
    c = read_config(&m);
    assert_true(c.expert_choice_bias && c.expert_score == MOE_SIGMOID);
    drop(&m);
    w = latent_writer();
    put_float(w, "deepseek2", "attention.temperature_scale", 0.1);
    assert_refused(w, ERR_UNSUPPORTED, "tempered (deepseek2.attention.temperature_scale)");
}

/* Files of qwen2moe without a key for it have the width of experts in their tensors. */
static void width_of_experts(void **state)
{
    (void)state;
    for (int stated = 0; stated < 2; stated++) {
        struct gguf_writer *w = writer("qwen2moe");
        put_int(w, "qwen2moe", "expert_count", 2);
        put_int(w, "qwen2moe", "expert_used_count", 1);
        if (stated)
            put_int(w, "qwen2moe", "expert_feed_forward_length", 40);
        add_tensor(w, "blk.0.ffn_gate_inp.weight", 2, 64);
        add_tensor(w, "blk.0.ffn_down.0.weight", 64, 24);
        struct made m = finish(w);
        struct decoder_config c = read_config(&m);
        assert_true(c.n_ff == 96 && c.n_ff_expert == (stated ? 40 : 24));
        drop(&m);
    }
}

static void window_flags_per_layer(void **state)
{
    (void)state;
    static const uint8_t flags[12] = {1, 1, 0, 1, 0, 0, 1, 1, 1, 1, 1, 0};
    struct gguf_writer *w = writer("gemma3");
    put_int(w, "gemma3", "attention.sliding_window", 512);
    gguf_put_array(w, "gemma3.attention.sliding_window_pattern", GGUF_BOOL, flags, 12);
    struct made m = finish(w);
    struct decoder_config c = read_config(&m);
    assert_memory_equal(c.layer_windowed, flags, 12);
    drop(&m);
}

static void yarn_keys(void **state)
{
    (void)state;
    struct error err = {0};
    struct gguf_writer *w = writer("qwen2");
    gguf_put_str(w, "qwen2.rope.scaling.type", STR("yarn"));
    put_float(w, "qwen2", "rope.scaling.factor", 4);
    put_int(w, "qwen2", "rope.scaling.original_context_length", 1024);
    struct made m = finish(w);
    struct rope_scaling s = read_config(&m).rope.scaling;
    assert_true(s.kind == ROPE_SCALING_YARN && s.factor == 4 && s.original_context == 1024);
    assert_true(s.beta_fast == 32 && s.beta_slow == 1 && s.ext_factor == 1);
    assert_near(s.attn_factor, 0.1 * log(4) + 1);
    assert_true(model_file_override(m.file, "qwen2.rope.scaling.yarn_log_multiplier=float:1.0", &err));
    assert_near(read_config(&m).rope.scaling.attn_factor, 1);
    assert_true(model_file_override(m.file, "qwen2.rope.scaling.yarn_attn_factor=float:1.5", &err));
    assert_near(read_config(&m).rope.scaling.attn_factor, 1.5);
    drop(&m);
}

/* ---- what is refused ---- */

static void hostile_values_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *override;
        enum error_code code;
        const char *needle;
    } cases[] = {
        {"general.architecture=str:mamba", ERR_UNSUPPORTED,
         "known are: llama, qwen2, qwen3, qwen3moe, gemma, gemma2, gemma3, gemma3n, smollm3"},
        {"general.architecture=str:", ERR_UNSUPPORTED, "command-r"},
        {"llama.block_count=int:0", ERR_FORMAT, "llama.block_count"},
        {"llama.block_count=int:513", ERR_FORMAT, "llama.block_count"},
        {"llama.block_count=int:-1", ERR_FORMAT, "llama.block_count"},
        {"llama.embedding_length=int:0", ERR_FORMAT, "llama.embedding_length"},
        {"llama.embedding_length=int:9223372036854775807", ERR_FORMAT, "llama.embedding_length"},
        {"llama.embedding_length=int:66", ERR_FORMAT, "multiple"},
        {"llama.feed_forward_length=int:0", ERR_FORMAT, "llama.feed_forward_length"},
        {"llama.feed_forward_length=int:99999999999", ERR_FORMAT, "llama.feed_forward_length"},
        {"llama.attention.head_count=int:0", ERR_FORMAT, "llama.attention.head_count"},
        {"llama.attention.head_count=int:100000", ERR_FORMAT, "llama.attention.head_count"},
        {"llama.attention.head_count_kv=int:0", ERR_FORMAT, "llama.attention.head_count_kv"},
        {"llama.attention.head_count_kv=int:3", ERR_FORMAT, "multiple"},
        {"llama.attention.head_count_kv=int:8", ERR_FORMAT, "multiple"},
        {"llama.attention.key_length=int:0", ERR_FORMAT, "llama.attention.key_length"},
        {"llama.attention.key_length=int:1000000", ERR_FORMAT, "llama.attention.key_length"},
        {"llama.attention.key_length=int:15", ERR_FORMAT, "odd"},
        {"llama.attention.value_length=int:0", ERR_FORMAT, "llama.attention.value_length"},
        {"llama.attention.layer_norm_rms_epsilon=float:-0.5", ERR_FORMAT, "epsilon"},
        {"llama.attention.layer_norm_rms_epsilon=float:2", ERR_FORMAT, "epsilon"},
        {"llama.attention.scale=str:x", ERR_FORMAT, "llama.attention.scale"},
        {"llama.attention.scale=float:-1", ERR_FORMAT, "llama.attention.scale"},
        {"llama.attention.causal=bool:false", ERR_UNSUPPORTED, "causal"},
        {"llama.attention.sliding_window=int:-4", ERR_FORMAT, "llama.attention.sliding_window"},
        {"llama.context_length=int:0", ERR_FORMAT, "llama.context_length"},
        {"llama.expert_count=int:8", ERR_FORMAT, "llama.expert_used_count"},
        {"llama.expert_count=int:1025", ERR_UNSUPPORTED, "1025 experts"},
        {"llama.expert_count=int:-8", ERR_FORMAT, "llama.expert_count"},
        {"llama.rope.dimension_count=int:7", ERR_FORMAT, "odd"},
        {"llama.rope.dimension_count=int:0", ERR_FORMAT, "llama.rope.dimension_count"},
        {"llama.rope.dimension_count=int:18", ERR_FORMAT, "llama.rope.dimension_count"},
        {"llama.rope.freq_base=float:0", ERR_FORMAT, "llama.rope.freq_base"},
        {"llama.rope.freq_base=float:1", ERR_FORMAT, "llama.rope.freq_base"},
        {"llama.rope.freq_base=float:-10000", ERR_FORMAT, "llama.rope.freq_base"},
        {"llama.rope.freq_base_swa=float:0", ERR_FORMAT, "llama.rope.freq_base_swa"},
        {"llama.rope.scaling.type=str:longrope", ERR_FORMAT, "factors is missing"},
        {"llama.rope.scaling.type=str:llama3", ERR_UNSUPPORTED, "llama3"},
        {"llama.rope.scaling.type=str:dynamic", ERR_UNSUPPORTED, "dynamic"},
        {"llama.rope.scaling.type=int:1", ERR_FORMAT, "llama.rope.scaling.type"},
        {"llama.rope.scaling.type=str:magic", ERR_UNSUPPORTED, "magic"},
        {"llama.rope.scaling.factor=float:-2", ERR_FORMAT, "llama.rope.scaling.factor"},
        {"llama.rope.scaling.factor=float:1e-300", ERR_FORMAT, "llama.rope.scaling.factor"},
        {"llama.rope.scale_linear=float:-2", ERR_FORMAT, "llama.rope.scale_linear"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct made m = finish(writer("llama"));
        struct decoder_config c;
        struct error err = {0};
        if (!model_file_override(m.file, cases[i].override, &err))
            fail_msg("%s: %s", cases[i].override, err.msg);
        if (decoder_config_read(m.file, &c, &err))
            fail_msg("taken: %s", cases[i].override);
        if (err.code != cases[i].code || !strstr(err.msg, cases[i].needle))
            fail_msg("%s: %d %s", cases[i].override, err.code, err.msg);
        drop(&m);
    }
}

/* Also with a name that is as long as a name is written there. */
static void all_architectures_are_listed(void **state)
{
    (void)state;
    struct made m = finish(writer("llama"));
    struct decoder_config c;
    struct error err = {0};
    const char *name = "general.architecture=str:mistral-and-a-name-that-is-longer-than-any";
    assert_true(model_file_override(m.file, name, &err));
    assert_false(decoder_config_read(m.file, &c, &err));
    for (size_t i = 0; i < decoder_n_families(); i++) {
        const char *gguf = decoder_family_at(i)->gguf;
        assert_true(!gguf || strstr(err.msg, gguf));
    }
    assert_true(str_ends(str_of(err.msg), STR(".")));
    drop(&m);
}

static void yarn_hostile_values_are_refused(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "rope.scaling.yarn_beta_fast=float:0",   "rope.scaling.yarn_beta_slow=float:-1",
        "rope.scaling.yarn_ext_factor=float:2",  "rope.scaling.original_context_length=int:0",
        "rope.scaling.yarn_attn_factor=float:0", "rope.scaling.yarn_log_multiplier=float:-1",
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct gguf_writer *w = writer("llama");
        char spec[128];
        struct decoder_config c;
        struct error err = {0};
        gguf_put_str(w, "llama.rope.scaling.type", STR("yarn"));
        put_float(w, "llama", "rope.scaling.factor", 4);
        struct made m = finish(w);
        snprintf(spec, sizeof(spec), "llama.%s", cases[i]);
        assert_true(model_file_override(m.file, spec, &err));
        if (decoder_config_read(m.file, &c, &err) || err.code != ERR_FORMAT)
            fail_msg("taken: %s", cases[i]);
        drop(&m);
    }
}

/* Values that the writer makes and no override can. */
static void bad_files_are_refused(void **state)
{
    (void)state;
    static const double bad_eps[] = {NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < 3; i++) {
        struct gguf_writer *w = gguf_writer_create();
        gguf_put_str(w, "general.architecture", STR("llama"));
        static const char *const keys[] = {"block_count", "context_length", "embedding_length", "feed_forward_length",
                                           "attention.head_count"};
        for (size_t k = 0; k < ARRAY_LEN(keys); k++)
            put_int(w, "llama", keys[k], 4);
        put_float(w, "llama", "attention.layer_norm_rms_epsilon", bad_eps[i]);
        struct made m = finish(w);
        struct decoder_config c;
        struct error err = {0};
        assert_false(decoder_config_read(m.file, &c, &err));
        assert_int_equal(err.code, ERR_FORMAT);
        drop(&m);
    }
}

static void arrays_are_checked(void **state)
{
    (void)state;
    static const uint8_t flags[11];
    static const float floats[12];
    static const struct str two[] = {STR("a"), STR("b")};
    struct gguf_writer *w = writer("gemma2"); /* 12 layers */
    gguf_put_array(w, "gemma2.attention.sliding_window_pattern", GGUF_BOOL, flags, 11);
    assert_refused(w, ERR_FORMAT, "11 entries for 12 layers");
    w = writer("gemma2");
    gguf_put_array(w, "gemma2.attention.sliding_window_pattern", GGUF_F32, floats, 12);
    assert_refused(w, ERR_FORMAT, "booleans");
    w = writer("llama");
    gguf_put_str_array(w, "tokenizer.ggml.tokens", two, 2);
    assert_refused(w, ERR_FORMAT, "2 tokens");
}

/* ---- RoPE ---- */

static void rope_scaling_option(void **state)
{
    (void)state;
    struct made m = finish(writer("llama"));
    struct error err = {0};
    struct decoder_config c = read_config(&m);
    c.rope_freq_factors = true;
    assert_true(decoder_config_rope_scaling(&c, "linear:2.5", &err));
    assert_true(c.rope.scaling.kind == ROPE_SCALING_LINEAR && c.rope.scaling.factor == 2.5 && c.n_context == 10240);
    assert_false(c.rope_freq_factors);
    assert_true(decoder_config_rope_scaling(&c, "llama3:8", &err)); /* from the trained context, not from 10240 */
    assert_true(c.rope.scaling.kind == ROPE_SCALING_LLAMA3 && c.rope.scaling.original_context == 4096);
    assert_true(c.n_context == 32768 && c.rope.scaling.high_freq_factor == 4);
    assert_true(decoder_config_rope_scaling(&c, "yarn:4:1000", &err));
    assert_true(c.rope.scaling.kind == ROPE_SCALING_YARN && c.rope.scaling.original_context == 1000);
    assert_true(c.n_context == 4000 && c.rope.scaling.beta_fast == 32);
    assert_near(c.rope.scaling.attn_factor, 0.1 * log(4) + 1);
    assert_true(decoder_config_rope_scaling(&c, "none", &err));
    assert_true(c.rope.scaling.kind == ROPE_SCALING_NONE && c.n_context == 1000);
    static const char *const bad[] = {"",           "linear",           "linear:",     "linear:0",  "linear:0.5",
                                      "linear:nan", "linear:2:",        "linear:2:99", "none:2",    "yarn:4:0",
                                      "yarn:4:-1",  "yarn:4:x",         "yarn:4:1:",   "dynamic:2", "linear:1e9",
                                      "LINEAR:2",   "yarn:1000:4000000"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct decoder_config before = c;
        err = (struct error){0};
        if (decoder_config_rope_scaling(&c, bad[i], &err) || err.code != ERR_INVALID)
            fail_msg("taken: %s", bad[i]);
        assert_true(c.n_context == before.n_context && c.rope.scaling.kind == before.rope.scaling.kind);
    }
    drop(&m);
}

/* Numbers of transformers are in the parity vectors; here are the properties of each scaling. */
static void angles(void **state)
{
    (void)state;
    float plain[32], scaled[32];
    struct rope_config rope = {.base = 10000};
    assert_true(rope_inv_freq(&rope, 64, 4096, NULL, plain) == 1);
    assert_true(plain[0] == 1);
    assert_near(plain[31], pow(10000, -62.0 / 64));
    rope.scaling = (struct rope_scaling){.kind = ROPE_SCALING_LINEAR, .factor = 4};
    assert_true(rope_inv_freq(&rope, 64, 4096, NULL, scaled) == 1);
    for (int i = 0; i < 32; i++)
        assert_true(scaled[i] == plain[i] / 4);
    rope.scaling = (struct rope_scaling){
        .kind = ROPE_SCALING_LLAMA3, .factor = 8, .original_context = 512, .low_freq_factor = 1, .high_freq_factor = 4};
    assert_true(rope_inv_freq(&rope, 64, 4096, NULL, scaled) == 1);
    assert_true(scaled[0] == plain[0] && scaled[31] == plain[31] / 8);
    for (int i = 0; i < 32; i++)
        assert_true(scaled[i] <= plain[i] && scaled[i] >= plain[i] / 8);
    rope.scaling.low_freq_factor = rope.scaling.high_freq_factor = 512 / (double)(6.2831853071795864769f / plain[16]);
    assert_true(rope_inv_freq(&rope, 64, 4096, NULL, scaled) == 1);
    for (int i = 0; i < 32; i++)
        assert_true(scaled[i] == plain[i] || scaled[i] == plain[i] / 8);
    rope.scaling = (struct rope_scaling){
        .kind = ROPE_SCALING_YARN, .factor = 4, .beta_fast = 32, .beta_slow = 1, .ext_factor = 1, .attn_factor = 1.125};
    assert_true(rope_inv_freq(&rope, 64, 2048, NULL, scaled) == 1.125f);
    assert_true(scaled[0] == plain[0]);
    assert_near(scaled[31], plain[31] / 4);
    float divisors[32];
    for (int i = 0; i < 32; i++)
        divisors[i] = (float)(1 + i);
    rope.scaling = (struct rope_scaling){0};
    assert_true(rope_inv_freq(&rope, 64, 4096, divisors, scaled) == 1);
    for (int i = 0; i < 32; i++)
        assert_true(scaled[i] == plain[i] / divisors[i]);
    rope.scaling = (struct rope_scaling){.kind = ROPE_SCALING_LONGROPE, .original_context = 512, .attn_factor = 1.25};
    assert_true(rope_inv_freq(&rope, 64, 4096, divisors, scaled) == 1.25f);
    for (int i = 0; i < 32; i++)
        assert_near(scaled[i], plain[i] / divisors[i]);
}

/* ---- groups and names ---- */

static void kv_groups(void **state)
{
    (void)state;
    struct gguf_writer *w = writer("gemma3");
    put_int(w, "gemma3", "attention.sliding_window", 512);
    struct made m = finish(w);
    struct decoder_config c = read_config(&m);
    struct kv_group_spec groups[KV_MAX_GROUPS];
    uint8_t group[MODEL_MAX_LAYERS];
    uint16_t index[MODEL_MAX_LAYERS];
    assert_int_equal(decoder_kv_groups(&c, KV_F16, groups, group, index), 2);
    assert_true(groups[0].n_layers == 10 && groups[0].window == 512 && groups[0].type == KV_F16);
    assert_true(groups[1].n_layers == 2 && groups[1].window == 0);
    assert_true(groups[0].n_kv_heads == 2 && groups[0].k_dim == 16 && groups[0].v_dim == 16);
    assert_true(group[5] == 1 && index[5] == 0 && group[11] == 1 && index[11] == 1 && group[6] == 0 && index[6] == 5);
    c.window = 0;
    assert_int_equal(decoder_kv_groups(&c, KV_F32, groups, group, index), 1);
    assert_true(groups[0].n_layers == 12 && groups[0].window == 0 && index[11] == 11);
    drop(&m);
}

static void names_of_weights(void **state)
{
    (void)state;
    struct made m = finish(writer("gemma3"));
    struct weight_names names = weight_names_of(decoder_family_find(STR("gemma3")), m.file);
    for (int p = PART_EMBD; p < PART_COUNT; p++) {
        const struct weight_row *row;
        for (size_t i = 0; (row = weight_row(&names, (enum model_part)p, i)) != NULL; i++) {
            char name[64];
            int layer = 0, expert = 0, expected = p < PART_FIRST_OF_LAYER ? -1 : 17;
            weight_name(&names, row, 17, 5, name, sizeof(name));
            assert_ptr_equal(weight_name_parse(&names, str_of(name), &layer, &expert), row);
            assert_true(layer == expected && expert == (weight_row_per_expert(row) ? 5 : -1));
        }
        bool own = p == PART_ATTN_GATE || p == PART_DELTA_GATE || (p >= PART_DELTA_Q && p <= PART_DELTA_V);
        assert_true(own == !weight_row(&names, (enum model_part)p, 0)); /* of Qwen3-Next alone */
    }
    static const char *const bad[] = {"",
                                      "blk.",
                                      "blk.1.",
                                      "blk.x.attn_q.weight",
                                      "blk.-1.attn_q.weight",
                                      "blk.01.attn_q.weight",
                                      "blk.512.attn_q.weight",
                                      "blk.0.token_embd.weight",
                                      "attn_q.weight",
                                      "blk.0.attn_q.weight.x",
                                      "blk.0.ffn_up..weight",
                                      "blk.0.ffn_up.00.weight",
                                      "blk.0.ffn_up.-1.weight",
                                      "blk.0.ffn_up.1024.weight",
                                      "blk.0.ffn_up.*.weight"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        int layer, expert;
        if (weight_name_parse(&names, str_of(bad[i]), &layer, &expert))
            fail_msg("taken: %s", bad[i]);
    }
    for (size_t i = 0; i < decoder_n_families(); i++)
        assert_non_null(decoder_family_find(str_of(decoder_family_name(i))));
    drop(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(llama),
        cmocka_unit_test(qwen),
        cmocka_unit_test(gemma2),
        cmocka_unit_test(gemma3),
        cmocka_unit_test(llama4),
        cmocka_unit_test(gemma3n),
        cmocka_unit_test(deepseek2),
        cmocka_unit_test(convolutions),
        cmocka_unit_test(states),
        cmocka_unit_test(width_of_experts),
        cmocka_unit_test(window_flags_per_layer),
        cmocka_unit_test(yarn_keys),
        cmocka_unit_test(hostile_values_are_refused),
        cmocka_unit_test(yarn_hostile_values_are_refused),
        cmocka_unit_test(all_architectures_are_listed),
        cmocka_unit_test(bad_files_are_refused),
        cmocka_unit_test(arrays_are_checked),
        cmocka_unit_test(rope_scaling_option),
        cmocka_unit_test(angles),
        cmocka_unit_test(kv_groups),
        cmocka_unit_test(names_of_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
