/* config.json to decoder configuration: what the configurations on the Hub look like, and what hostile values get. */
#include "model/family.h"
#include "tensor/model_folder.h"
#include "tensor/safetensors_writer.h"

#include "base/array.h"
#include "base/limits.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

struct made {
    struct buf config, weights;
    struct model_folder_file files[2];
    struct model_file *file;
};

static const float zeros[64 * 48];

static void add_tensor(struct safetensors_writer *w, const char *name, uint64_t rows, uint64_t cols)
{
    safetensors_add_tensor(w, &(struct gguf_tensor){.name = name,
                                                    .type = DTYPE_F32,
                                                    .n_dims = rows ? 2 : 1,
                                                    .shape = {rows ? rows : cols, rows ? cols : 1},
                                                    .data = zeros});
}

/* A folder with this config.json, an embedding of 48 by 64, and one tensor more (64 numbers) unless it is NULL. */
static struct made make(const char *config, const char *prefix, const char *tensor)
{
    struct made m;
    struct error err = {0};
    char name[96];
    struct safetensors_writer *w = safetensors_writer_create();
    buf_init(&m.config, MIB(1));
    buf_init(&m.weights, MIB(1));
    buf_puts(&m.config, config);
    snprintf(name, sizeof(name), "%sembed_tokens.weight", prefix);
    add_tensor(w, name, 48, 64);
    if (tensor)
        add_tensor(w, tensor, 0, 64);
    if (!safetensors_write_buf(w, &m.weights, &err))
        fail_msg("%s", err.msg);
    safetensors_writer_free(w);
    m.files[0] = (struct model_folder_file){"config.json", buf_view(&m.config)};
    m.files[1] = (struct model_folder_file){"model.safetensors", buf_view(&m.weights)};
    m.file = model_folder_open_memory(m.files, 2, &err);
    if (!m.file)
        fail_msg("%s: %s", config, err.msg);
    return m;
}

static void drop(struct made *m)
{
    model_file_close(m->file);
    buf_release(&m->config);
    buf_release(&m->weights);
}

static struct decoder_config read_made(struct made *m)
{
    struct decoder_config c;
    struct error err = {0};
    if (!decoder_config_read(m->file, &c, &err))
        fail_msg("%s", err.msg);
    drop(m);
    return c;
}

/* 8 layers, 64 wide, 4 heads; `more`: further members, each with a comma before it. */
static void text_of(char *out, size_t size, const char *type, const char *more)
{
    snprintf(out, size,
             "{\"model_type\":\"%s\",\"num_hidden_layers\":8,\"hidden_size\":64,\"intermediate_size\":96,"
             "\"num_attention_heads\":4,\"max_position_embeddings\":4096,\"vocab_size\":48%s}",
             type, more);
}

static struct decoder_config read_type(const char *type, const char *more)
{
    char text[4096];
    text_of(text, sizeof(text), type, more);
    struct made m = make(text, "model.", NULL);
    return read_made(&m);
}

static void assert_near(double a, double b)
{
    if (!(fabs(a - b) <= 1e-6 * fmax(fabs(a), fabs(b))))
        fail_msg("%.9g is not %.9g", a, b);
}

static void assert_layers(const uint8_t *flags, const char *expected)
{
    for (int i = 0; i < 8; i++) {
        if (flags[i] != (expected[i] == '1'))
            fail_msg("layer %d of %s is %d", i, expected, flags[i]);
    }
}

/* ---- families ---- */

static void llama(void **state)
{
    (void)state;
    struct decoder_config c = read_type("llama", ",\"rope_scaling\":null,\"head_dim\":null,\"hidden_act\":\"silu\"");
    assert_string_equal(c.arch, "llama");
    assert_true(c.n_layers == 8 && c.n_embd == 64 && c.n_vocab == 48 && c.n_context == 4096 && c.n_ff == 96);
    assert_true(c.n_heads == 4 && c.n_kv_heads == 4 && c.k_dim == 16 && c.v_dim == 16 && c.rot_dim == 16);
    assert_true(c.rope_kind == ROPE_NEOX && c.rope.base == 10000 && c.rope.scaling.kind == ROPE_SCALING_NONE);
    assert_true(c.norm_weight_offset == 0 && c.pre_norm && !c.post_norm && !c.qk_norm && c.act == ACT_SILU);
    assert_true(!c.qkv_bias && !c.out_bias && !c.mlp_bias && c.window == 0 && c.n_experts == 0 && !c.has_rope_local);
    assert_true(c.tied_embeddings); /* there is no head */
    assert_near(c.norm_eps, 1e-6);
    assert_near(c.attn_scale, 0.25);
    c = read_type("llama", ",\"attention_bias\":true,\"head_dim\":32,\"num_key_value_heads\":2,\"rms_norm_eps\":1e-5,"
                           "\"tie_word_embeddings\":false,\"sliding_window\":128");
    assert_true(c.qkv_bias && c.out_bias && c.k_dim == 32 && c.n_kv_heads == 2 && !c.tied_embeddings && c.window == 0);
    assert_near(c.norm_eps, 1e-5);
}

static void llama_is_found_by_its_class(void **state)
{
    (void)state;
    struct made m = make("{\"architectures\":[\"LlamaForCausalLM\"],\"num_hidden_layers\":8,\"hidden_size\":64,"
                         "\"intermediate_size\":96,\"num_attention_heads\":4,\"max_position_embeddings\":4096}",
                         "model.", "lm_head.weight");
    struct decoder_config c = read_made(&m);
    assert_string_equal(c.arch, "llama");
    assert_false(c.tied_embeddings);
}

static void llama3_scaling(void **state)
{
    (void)state;
    static const char *const forms[] = {
        ",\"rope_theta\":500000.0,\"rope_scaling\":{\"factor\":8.0,\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,"
        "\"original_max_position_embeddings\":512,\"rope_type\":\"llama3\"}",
        ",\"rope_parameters\":{\"factor\":8.0,\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,\"rope_theta\":500000,"
        "\"original_max_position_embeddings\":512,\"rope_type\":\"llama3\"}"};
    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        struct decoder_config c = read_type("llama", forms[i]);
        const struct rope_scaling *s = &c.rope.scaling;
        assert_true(s->kind == ROPE_SCALING_LLAMA3 && s->factor == 8 && s->original_context == 512);
        assert_true(s->low_freq_factor == 1 && s->high_freq_factor == 4 && c.rope.base == 500000);
        assert_true(c.n_context == 4096 && !c.rope_freq_factors);
    }
}

static void yarn_scaling(void **state)
{
    (void)state;
    struct decoder_config c = read_type("qwen2", ",\"rope_scaling\":{\"factor\":4.0,\"type\":\"yarn\"}");
    assert_true(c.rope.scaling.kind == ROPE_SCALING_YARN && c.rope.scaling.original_context == 4096);
    assert_true(c.rope.scaling.beta_fast == 32 && c.rope.scaling.beta_slow == 1 && c.rope.scaling.ext_factor == 1);
    assert_int_equal(c.n_context, 16384); /* the factor makes it longer than it was trained */
    assert_near(c.rope.scaling.attn_factor, 0.1 * log(4) + 1);
    c = read_type("qwen2", ",\"rope_scaling\":{\"factor\":4.0,\"type\":\"yarn\",\"mscale\":2.0,\"mscale_all_dim\":0.5,"
                           "\"original_max_position_embeddings\":512}");
    assert_near(c.rope.scaling.attn_factor, (0.2 * log(4) + 1) / (0.05 * log(4) + 1));
    assert_int_equal(c.n_context, 4096);
    c = read_type("qwen2", ",\"rope_scaling\":{\"factor\":4.0,\"type\":\"yarn\",\"mscale\":2.0}");
    assert_near(c.rope.scaling.attn_factor, 0.1 * log(4) + 1);
    c = read_type("qwen2", ",\"rope_scaling\":{\"factor\":4.0,\"type\":\"yarn\",\"attention_factor\":1.5}");
    assert_near(c.rope.scaling.attn_factor, 1.5);
}

static void linear_scaling(void **state)
{
    (void)state;
    struct decoder_config c = read_type("llama", ",\"rope_scaling\":{\"factor\":2,\"type\":\"linear\"}");
    assert_true(c.rope.scaling.kind == ROPE_SCALING_LINEAR && c.rope.scaling.factor == 2);
    c = read_type("llama", ",\"rope_scaling\":{\"rope_type\":\"default\"}");
    assert_int_equal(c.rope.scaling.kind, ROPE_SCALING_NONE);
}

static void mistral(void **state)
{
    (void)state;
    struct decoder_config c = read_type("mistral", ",\"sliding_window\":512,\"num_key_value_heads\":2");
    assert_true(c.window == 512);
    assert_layers(c.layer_windowed, "11111111");
    c = read_type("mistral", ",\"sliding_window\":null");
    assert_int_equal(c.window, 0);
    struct made m =
        make("{\"model_type\":\"mistral3\",\"vision_config\":{\"model_type\":\"pixtral\",\"hidden_size\":9},"
             "\"text_config\":{\"model_type\":\"mistral\",\"num_hidden_layers\":8,\"hidden_size\":64,"
             "\"intermediate_size\":96,\"num_attention_heads\":4,\"head_dim\":32,"
             "\"max_position_embeddings\":4096,\"rope_theta\":1000000000.0}}",
             "language_model.model.", "language_model.lm_head.weight");
    c = read_made(&m);
    assert_string_equal(c.arch, "mistral");
    assert_true(c.k_dim == 32 && c.rope.base == 1e9 && !c.tied_embeddings && c.n_embd == 64);
}

static void qwen(void **state)
{
    (void)state;
    const char *window = ",\"use_sliding_window\":false,\"sliding_window\":512,\"max_window_layers\":6";
    struct decoder_config c = read_type("qwen2", window);
    assert_true(c.qkv_bias && !c.out_bias && c.window == 0);
    c = read_type("qwen2", ",\"use_sliding_window\":true,\"sliding_window\":512,\"max_window_layers\":6");
    assert_int_equal(c.window, 512);
    assert_layers(c.layer_windowed, "00000011");
    c = read_type("qwen3",
                  ",\"use_sliding_window\":true,\"sliding_window\":512,\"layer_types\":[\"full_attention\","
                  "\"sliding_attention\",\"full_attention\",\"full_attention\",\"full_attention\",\"full_attention\","
                  "\"full_attention\",\"sliding_attention\"]");
    assert_layers(c.layer_windowed, "01000001");
    assert_true(c.qk_norm && !c.qk_norm_row && c.k_dim == 128 && !c.qkv_bias);
}

static void gemma2(void **state)
{
    (void)state;
    struct decoder_config c =
        read_type("gemma2", ",\"hidden_act\":\"gelu_pytorch_tanh\",\"hidden_activation\":\"gelu_pytorch_tanh\","
                            "\"query_pre_attn_scalar\":144,\"sliding_window\":512,\"attn_logit_softcapping\":50.0,"
                            "\"final_logit_softcapping\":30.0");
    assert_true(c.norm_weight_offset == 1 && c.pre_norm && c.post_norm && c.act == ACT_GELU_TANH && c.embd_scale == 8);
    assert_true(c.attn_softcap == 50 && c.final_softcap == 30 && c.k_dim == 256 && c.n_kv_heads == 4 &&
                c.window == 512);
    assert_near(c.attn_scale, 1.0 / 12);
    assert_layers(c.layer_windowed, "10101010");
    assert_true(c.tied_embeddings && !c.has_rope_local);
}

/* As google/gemma-3-4b-it has it: most of the text model is left to the class. */
static void gemma3(void **state)
{
    (void)state;
    struct made m = make("{\"architectures\":[\"Gemma3ForConditionalGeneration\"],\"model_type\":\"gemma3\","
                         "\"text_config\":{\"hidden_size\":64,\"intermediate_size\":96,\"model_type\":\"gemma3_text\","
                         "\"num_hidden_layers\":8,\"rope_scaling\":{\"factor\":8.0,\"rope_type\":\"linear\"},"
                         "\"sliding_window\":1024},\"vision_config\":{\"hidden_size\":1152}}",
                         "language_model.model.", "vision_tower.x");
    struct decoder_config c = read_made(&m);
    assert_string_equal(c.arch, "gemma3");
    assert_true(c.n_heads == 8 && c.n_kv_heads == 4 && c.k_dim == 256 && c.n_context == 131072 && c.n_vocab == 48);
    assert_true(c.qk_norm && c.norm_weight_offset == 1 && c.tied_embeddings && c.attn_softcap == 0);
    assert_true(c.rope.base == 1e6 && c.rope.scaling.kind == ROPE_SCALING_LINEAR && c.rope.scaling.factor == 8);
    assert_true(c.has_rope_local && c.rope_local.base == 10000 && c.window == 1024);
    assert_near(c.attn_scale, 1.0 / 16);
    assert_near(c.norm_eps, 1e-6);
    assert_layers(c.layer_windowed, "11111011");
    c = read_type("gemma3_text", ",\"sliding_window\":512,\"sliding_window_pattern\":3,\"rope_local_base_freq\":5000");
    assert_layers(c.layer_windowed, "11011011");
    assert_true(c.rope_local.base == 5000);
    c = read_type("gemma3_text",
                  ",\"sliding_window\":512,\"rope_parameters\":{\"full_attention\":{\"factor\":2.0,\"rope_type\":"
                  "\"linear\",\"rope_theta\":77000},\"sliding_attention\":{\"rope_type\":\"default\","
                  "\"rope_theta\":6000}}");
    assert_true(c.rope.base == 77000 && c.rope.scaling.factor == 2 && c.rope_local.base == 6000);
}

static void smollm3(void **state)
{
    (void)state;
    struct decoder_config c = read_type("smollm3", ",\"no_rope_layers\":[1,1,0,1,1,1,0,0],\"sliding_window\":null");
    assert_layers(c.layer_nope, "00100011");
    assert_true(c.window == 0 && c.tied_embeddings);
    c = read_type("smollm3", ",\"no_rope_layer_interval\":3");
    assert_layers(c.layer_nope, "00100100");
    c = read_type("smollm3", ",\"use_sliding_window\":true,\"sliding_window\":256");
    assert_layers(c.layer_nope, "00010001");
    assert_layers(c.layer_windowed, "00010001");
}

static void phi3(void **state)
{
    (void)state;
    static const char *const types[] = {"longrope", "su", "yarn"};
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        char more[512];
        snprintf(more, sizeof(more),
                 ",\"partial_rotary_factor\":0.5,\"original_max_position_embeddings\":512,\"rope_scaling\":{"
                 "\"long_factor\":[1.0,2,3,4],\"short_factor\":[1,1,1,1],\"type\":\"%s\"},\"sliding_window\":2047",
                 types[i]);
        struct decoder_config c = read_type("phi3", more);
        assert_true(c.rot_dim == 8 && c.k_dim == 16 && c.window == 2047 && c.n_context == 4096);
        assert_true(c.rope.scaling.kind == ROPE_SCALING_LONGROPE && c.rope.scaling.original_context == 512);
        assert_near(c.rope.scaling.attn_factor, sqrt(1 + log(8) / log(512)));
        assert_layers(c.layer_windowed, "11111111");
        assert_true(decoder_config_long_angles(&c, 0) && decoder_config_long_angles(&c, 513));
        assert_false(decoder_config_long_angles(&c, 512));
        struct error err = {0};
        assert_true(decoder_config_rope_scaling(&c, "none", &err));
        assert_true(c.n_context == 512 && !decoder_config_long_angles(&c, 4096));
    }
}

static void granite(void **state)
{
    (void)state;
    struct decoder_config c = read_type("granite", ",\"embedding_multiplier\":12.0,\"attention_multiplier\":0.015625,"
                                                   "\"residual_multiplier\":0.22,\"logits_scaling\":8.0");
    assert_true(c.embd_scale == 12 && c.attn_scale == 0.015625f && c.residual_scale == 0.22f &&
                c.logit_scale == 0.125f);
    c = read_type("granite", "");
    assert_true(c.embd_scale == 1 && c.attn_scale == 1 && c.residual_scale == 1 && c.logit_scale == 1);
    c = read_type("llama", ",\"embedding_multiplier\":12.0");
    assert_true(c.embd_scale == 1);
}

static void gemma(void **state)
{
    (void)state;
    struct decoder_config c =
        read_type("gemma", ",\"num_key_value_heads\":1,\"hidden_act\":\"gelu\",\"hidden_activation\":null");
    assert_true(c.norm_weight_offset == 1 && c.pre_norm && !c.post_norm && c.act == ACT_GELU_TANH && c.embd_scale == 8);
    assert_true(c.k_dim == 256 && c.n_kv_heads == 1 && c.tied_embeddings && c.attn_softcap == 0);
    c = read_type("llama", ",\"hidden_act\":\"gelu\"");
    assert_int_equal(c.act, ACT_GELU);
}

static void minicpm(void **state)
{
    (void)state;
    struct decoder_config c = read_type("minicpm", ",\"scale_emb\":12,\"scale_depth\":1.4,\"dim_model_base\":256");
    assert_near(c.residual_scale, 1.4f / sqrtf(8));
    assert_true(c.embd_scale == 12 && c.logit_scale == 4 && c.attn_scale == 0.25f);
}

static void cohere(void **state)
{
    (void)state;
    struct decoder_config c = read_type("cohere", ",\"model_max_length\":100000,\"layer_norm_eps\":1e-4");
    assert_true(c.norm_kind == NORM_LAYER && !c.norm_bias && c.parallel && !c.qk_norm && c.tied_embeddings);
    assert_true(c.logit_scale == 0.0625f && c.rope_kind == ROPE_NORM && c.n_context == 100000 && c.norm_eps == 1e-4f);
    c = read_type("cohere", ",\"use_qk_norm\":true,\"logit_scale\":0.25,\"attention_bias\":true");
    assert_true(c.qk_norm && c.qk_norm_heads && c.logit_scale == 0.25f && c.qkv_bias && c.out_bias);
    c = read_type("cohere2", ",\"model_max_length\":100000");
    assert_true(c.window == 4096 && c.parallel && c.n_context == 4096 && c.rope_kind == ROPE_NORM);
    assert_layers(c.layer_windowed, "11101110");
    assert_layers(c.layer_nope, "00010001");
    c = read_type("cohere2", ",\"sliding_window\":512,\"sliding_window_pattern\":3");
    assert_layers(c.layer_nope, "00100100");
}

static void stablelm(void **state)
{
    (void)state;
    struct made m = make("{\"model_type\":\"stablelm\",\"num_hidden_layers\":8,\"hidden_size\":64,"
                         "\"intermediate_size\":96,\"num_attention_heads\":4,\"num_key_value_heads\":4}",
                         "model.", "lm_head.weight");
    struct decoder_config c = read_made(&m);
    assert_true(c.norm_kind == NORM_LAYER && c.norm_bias && !c.parallel && !c.qk_norm && !c.tied_embeddings);
    assert_true(c.rot_dim == 4 && c.rope_kind == ROPE_NEOX && !c.qkv_bias);
    c = read_type("stablelm", ",\"num_key_value_heads\":4,\"use_parallel_residual\":true,\"qk_layernorm\":true,"
                              "\"use_qkv_bias\":true,\"partial_rotary_factor\":0.5,\"norm_eps\":1e-4");
    assert_true(c.parallel && c.qk_norm && c.qk_norm_heads && c.qkv_bias && !c.out_bias && c.rot_dim == 8);
    assert_near(c.norm_eps, 1e-4f);
}

static void glm(void **state)
{
    (void)state;
    struct decoder_config c = read_type("glm", "");
    assert_true(c.rope_kind == ROPE_NORM && c.k_dim == 128 && c.rot_dim == 64 && c.n_kv_heads == 2);
    assert_true(c.qkv_bias && !c.out_bias && !c.post_norm);
    c = read_type("glm4", ",\"attention_bias\":false,\"head_dim\":32,\"partial_rotary_factor\":0.25");
    assert_true(c.rope_kind == ROPE_NORM && c.k_dim == 32 && c.rot_dim == 8);
    assert_true(!c.qkv_bias && !c.out_bias && c.pre_norm && c.post_norm);
}

static void biases_by_name(void **state)
{
    (void)state;
    struct decoder_config c = read_type("seed_oss", ",\"num_key_value_heads\":2,\"attention_out_bias\":true");
    assert_true(c.qkv_bias && c.out_bias && c.k_dim == 128);
    c = read_type("seed_oss", ",\"num_key_value_heads\":2,\"attention_bias\":false");
    assert_true(!c.qkv_bias && !c.out_bias);
    c = read_type("ernie4_5", ",\"use_bias\":true");
    assert_true(c.qkv_bias && c.out_bias && c.mlp_bias && c.rope_kind == ROPE_NORM && c.rope.base == 500000);
    c = read_type("internlm3", ",\"qkv_bias\":false,\"bias\":false");
    assert_true(!c.qkv_bias && !c.out_bias && c.n_kv_heads == 2 && c.rope_kind == ROPE_NEOX);
    c = read_type("internlm3", ",\"rope_scaling\":{\"rope_type\":\"dynamic\",\"factor\":6.0}");
    assert_true(c.rope.scaling.kind == ROPE_SCALING_NONE && c.n_context == 4096); /* none within the trained context */
}

static void exaone4(void **state)
{
    (void)state;
    struct decoder_config c = read_type("exaone4", ",\"sliding_window\":512,\"sliding_window_pattern\":\"LLLG\"");
    assert_true(!c.pre_norm && c.post_norm && c.qk_norm && c.window == 512);
    assert_layers(c.layer_windowed, "11101110");
    assert_layers(c.layer_nope, "00010001");
    c = read_type("exaone4", ",\"sliding_window\":null,\"sliding_window_pattern\":null");
    assert_true(c.window == 0);
    assert_layers(c.layer_nope, "00000000");
}

static void olmo2(void **state)
{
    (void)state;
    struct decoder_config c = read_type("olmo2", "");
    assert_true(!c.pre_norm && c.post_norm && c.qk_norm && c.qk_norm_row);
}

static void mixtures(void **state)
{
    (void)state;
    struct decoder_config c =
        read_type("qwen3_moe", ",\"num_experts\":16,\"num_experts_per_tok\":4,\"moe_intermediate_size\":32,"
                               "\"norm_topk_prob\":true,\"mlp_only_layers\":[5],\"decoder_sparse_step\":2");
    assert_string_equal(c.arch, "qwen3moe");
    assert_true(c.n_experts == 16 && c.n_experts_used == 4 && c.n_ff_expert == 32 && c.n_ff == 96);
    assert_true(c.expert_norm_weights && c.expert_scale == 1);
    assert_layers(c.layer_experts, "01010001");
    c = read_type("qwen3_moe", ",\"num_experts\":16,\"num_experts_per_tok\":4,\"mlp_only_layers\":[]");
    assert_false(c.expert_norm_weights);
    assert_layers(c.layer_experts, "11111111");
    c = read_type("mixtral", ",\"num_local_experts\":8,\"num_experts_per_tok\":2,\"sliding_window\":null");
    assert_true(c.n_experts == 8 && c.n_ff_expert == 96 && c.expert_norm_weights && c.rope.base == 1e6);
}

#define HEADS  ",\"kv_lora_rank\":32,\"qk_rope_head_dim\":8,\"qk_nope_head_dim\":16,\"v_head_dim\":24"
#define ROUTED ",\"n_routed_experts\":16,\"num_experts_per_tok\":4,\"moe_intermediate_size\":32"
#define LATENT HEADS ROUTED ",\"n_group\":4,\"topk_group\":2"

static void latents(void **state)
{
    (void)state;
    struct decoder_config c = read_type("deepseek_v2", LATENT ",\"q_lora_rank\":null,\"topk_method\":\"greedy\"");
    assert_true(c.latent && !c.q_latent && c.n_latent == 32 && c.rot_dim == 8 && c.nope_dim == 16 &&
                c.head_v_dim == 24);
    assert_true(c.n_kv_heads == 1 && c.k_dim == 40 && c.v_dim == 32 && c.rope_kind == ROPE_NORM);
    assert_true(c.attn_scale == (float)(1 / sqrt(24)) && c.expert_groups == 0 && !c.expert_norm_weights);
    assert_true(c.expert_score == MOE_SOFTMAX && c.n_experts == 16 && c.expert_scale == 1);
    c = read_type("deepseek_v2", LATENT ",\"topk_method\":\"group_limited_greedy\",\"routed_scaling_factor\":16");
    assert_true(c.expert_groups == 4 && c.expert_groups_used == 2 && c.expert_group_top == 1 && c.expert_scale == 16);
    c = read_type("deepseek_v3", LATENT ",\"q_lora_rank\":48,\"rope_interleave\":false,\"num_nextn_predict_layers\":1,"
                                        "\"rope_scaling\":{\"type\":\"yarn\",\"factor\":40,\"mscale\":1,"
                                        "\"mscale_all_dim\":1,\"original_max_position_embeddings\":16}");
    assert_true(c.q_latent && c.n_q_latent == 48 && c.rope_kind == ROPE_NEOX && c.n_extra_layers == 1);
    assert_true(c.expert_score == MOE_SIGMOID && c.expert_group_top == 2 && c.expert_norm_weights);
    double mscale = 0.1 * log(40) + 1;
    assert_true(fabs((double)c.attn_scale - mscale * mscale / sqrt(24)) < 1e-6 && c.rope.scaling.attn_factor == 1);
}

static void gpt_oss(void **state)
{
    (void)state;
    struct decoder_config c = read_type(
        "gpt_oss", ",\"num_local_experts\":32,\"num_experts_per_tok\":4,\"sliding_window\":128,\"hidden_act\":\"silu\","
                   "\"swiglu_limit\":7.0,\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":32,\"truncate\":false,"
                   "\"original_max_position_embeddings\":4096}");
    assert_true(c.attn_sinks && c.act == ACT_CLAMPED_SWIGLU && c.expert_score == MOE_SOFTMAX_CHOSEN);
    assert_true(c.window == 128 && c.k_dim == 64 && c.n_ff_expert == 96 && c.rope.scaling.unrounded);
    assert_layers(c.layer_windowed, "10101010");
}

static void llama4(void **state)
{
    (void)state;
    struct decoder_config c = read_type("llama4_text", ",\"attention_chunk_size\":64,\"num_local_experts\":4,"
                                                       "\"num_experts_per_tok\":1,\"no_rope_layers\":[],"
                                                       "\"intermediate_size_mlp\":192,\"attn_temperature_tuning\":4,"
                                                       "\"floor_scale\":128,\"attn_scale\":0.25");
    assert_true(c.window == 64 && c.window_chunked && c.qk_norm_plain && c.rope_kind == ROPE_NORM);
    assert_layers(c.layer_nope, "00010001");
    assert_layers(c.layer_windowed, "11101110");
    assert_true(c.temper_scale == 0.25f && c.temper_length == 128 && c.n_ff == 192 && c.n_ff_expert == 96);
    assert_true(c.expert_score == MOE_SIGMOID && c.expert_weigh_input && !c.expert_norm_weights);
    c = read_type("llama4_text",
                  ",\"attention_chunk_size\":64,\"attn_temperature_tuning\":false,\"use_qk_norm\":false");
    assert_true(c.temper_scale == 0 && !c.qk_norm_plain && c.n_experts == 0);
}

/* As google/gemma-3n-E2B-it has it, but for the sizes. */
static void gemma3n(void **state)
{
    (void)state;
    struct made m = make("{\"architectures\":[\"Gemma3nForConditionalGeneration\"],\"model_type\":\"gemma3n\","
                         "\"audio_config\":{\"hidden_size\":1536},\"text_config\":{\"activation_sparsity_pattern\":"
                         "[0.95,0.5,0.0,0.0,0.0,0.0,0.0,0.0],\"altup_active_idx\":0,\"altup_coef_clip\":120.0,"
                         "\"altup_correct_scale\":true,\"altup_num_inputs\":4,\"final_logit_softcapping\":30.0,"
                         "\"head_dim\":16,\"hidden_activation\":\"gelu_pytorch_tanh\",\"hidden_size\":64,"
                         "\"hidden_size_per_layer_input\":8,\"intermediate_size\":[96,96,96,96,96,96,96,96],"
                         "\"laurel_rank\":12,\"layer_types\":[\"sliding_attention\",\"sliding_attention\","
                         "\"full_attention\",\"sliding_attention\",\"full_attention\",\"sliding_attention\","
                         "\"sliding_attention\",\"full_attention\"],\"max_position_embeddings\":32768,"
                         "\"model_type\":\"gemma3n_text\",\"num_attention_heads\":4,\"num_hidden_layers\":8,"
                         "\"num_key_value_heads\":2,\"num_kv_shared_layers\":3,\"rms_norm_eps\":1e-06,"
                         "\"rope_local_base_freq\":10000.0,\"rope_scaling\":null,\"rope_theta\":1000000.0,"
                         "\"sliding_window\":512,\"vocab_size\":48,\"vocab_size_per_layer_input\":40},"
                         "\"vision_config\":{\"hidden_size\":2048}}",
                         "model.language_model.", "model.audio_tower.x");
    struct decoder_config c = read_made(&m);
    assert_true(c.n_streams == 4 && c.stream_scaled && c.laurel_rank == 12 && c.n_layer_input == 8);
    assert_true(c.n_layer_vocab == 40 && c.n_kv_shared == 3 && c.n_ff == 96 && c.attn_scale == 1 && c.window == 512);
    assert_true(c.final_softcap == 30 && c.tied_embeddings && c.norm_weight_offset == 0 && c.act == ACT_GELU_TANH);
    assert_true(c.has_rope_local && c.rope_local.base == 10000 && c.rope.base == 1000000);
    assert_layers(c.layer_windowed, "11010110");
    assert_layers(c.layer_sparse, "11000000");
    assert_true(fabs((double)c.sparsity[0] - 1.6448536269514722) < 1e-6 && fabs((double)c.sparsity[1]) < 1e-6);
    c = read_type("gemma3n_text", ",\"num_kv_shared_layers\":2,\"altup_correct_scale\":false");
    assert_true(!c.stream_scaled && c.laurel_rank == 64 && c.n_layer_input == 256 && c.n_kv_shared == 2);
    assert_layers(c.layer_windowed, "11110111");
    assert_layers(c.layer_sparse, "00000000");
}

/* As meta-llama/Llama-4-Scout-17B-16E-Instruct has it, but for the sizes: lists that are empty are none, and the two
 * bounds of its scaling are one. */
static void llama4_scout(void **state)
{
    (void)state;
    struct made m = make("{\"architectures\":[\"Llama4ForConditionalGeneration\"],\"model_type\":\"llama4\","
                         "\"text_config\":{\"attention_bias\":false,\"attention_chunk_size\":8192,\"head_dim\":16,"
                         "\"hidden_act\":\"silu\",\"hidden_size\":64,\"interleave_moe_layer_step\":1,"
                         "\"intermediate_size\":96,\"intermediate_size_mlp\":192,\"max_position_embeddings\":10485760,"
                         "\"model_type\":\"llama4_text\",\"no_rope_layers\":[],\"num_attention_heads\":4,"
                         "\"num_experts_per_tok\":1,\"num_hidden_layers\":8,\"num_key_value_heads\":2,"
                         "\"num_local_experts\":16,\"rms_norm_eps\":1e-05,\"rope_scaling\":{\"factor\":16.0,"
                         "\"high_freq_factor\":1.0,\"low_freq_factor\":1.0,"
                         "\"original_max_position_embeddings\":8192,\"rope_type\":\"llama3\"},"
                         "\"rope_theta\":500000.0,\"use_qk_norm\":true,\"vocab_size\":48},"
                         "\"tie_word_embeddings\":false,\"vision_config\":{\"hidden_size\":1408}}",
                         "language_model.model.", "vision_model.x");
    struct decoder_config c = read_made(&m);
    const struct rope_scaling *s = &c.rope.scaling;
    assert_true(s->kind == ROPE_SCALING_LLAMA3 && s->factor == 16 && s->low_freq_factor == s->high_freq_factor);
    assert_true(s->original_context == 8192 && c.rope.base == 500000 && c.window == 8192 && c.window_chunked);
    assert_true(c.n_experts == 16 && c.n_experts_used == 1 && c.n_ff_expert == 96 && c.n_ff == 192);
    assert_true(c.temper_scale == 0.1f && c.temper_length == 8192 && c.qk_norm_plain && !c.tied_embeddings);
    assert_layers(c.layer_nope, "00010001");
    assert_layers(c.layer_windowed, "11101110");
}

static void more_mixtures(void **state)
{
    (void)state;
    struct decoder_config c =
        read_type("ernie4_5_moe", ",\"moe_num_experts\":8,\"moe_k\":3,\"moe_intermediate_size\":32");
    assert_true(c.n_experts == 8 && c.n_experts_used == 3 && c.n_ff_expert == 32 && c.expert_norm_weights);
    assert_true(c.rope_kind == ROPE_NORM && c.expert_score == MOE_SOFTMAX);
    c = read_type("qwen2_moe", ",\"num_experts\":8,\"num_experts_per_tok\":2");
    assert_true(c.qkv_bias && !c.out_bias && !c.expert_norm_weights && c.window == 0);
}

/* Heads, 4 of 4 by the class's default 8, are given in both. */
#define TYPES(list) ",\"num_key_value_heads\":2,\"layer_types\":[" list "]"
#define CONV        "\"conv\","
#define FULL        "\"full_attention\""

static void convolutions(void **state)
{
    (void)state;
    struct decoder_config c = read_type(
        "lfm2", TYPES(CONV CONV FULL "," CONV FULL "," CONV CONV FULL) ",\"conv_L_cache\":4,\"norm_eps\":1e-3");
    assert_layers(c.layer_conv, "11010110");
    assert_true(c.n_conv_taps == 4 && c.norm_eps == 1e-3f && c.qk_norm && c.tied_embeddings);
    assert_int_equal(c.n_ff, 256); /* two thirds of 96, rounded up */
    c = read_type("lfm2", ",\"num_key_value_heads\":2,\"full_attn_idxs\":[2,7],\"block_ff_dim\":6656,"
                          "\"block_ffn_dim_multiplier\":1.1,\"block_multiple_of\":128,\"tie_embedding\":false");
    assert_layers(c.layer_conv, "11011110");
    assert_true(c.n_conv_taps == 3 && c.n_ff == 4992 && !c.tied_embeddings && c.rope.base == 1e6);
    c = read_type("lfm2", ",\"num_key_value_heads\":2,\"block_auto_adjust_ff_dim\":false");
    assert_layers(c.layer_conv, "00000000");
    assert_true(c.n_conv_taps == 0 && c.n_ff == 96);
    c = read_type("lfm2_moe",
                  TYPES(CONV CONV FULL "," CONV FULL
                                       "," CONV CONV FULL) ",\"num_experts\":8,"
                                                           "\"num_experts_per_tok\":2,\"moe_intermediate_size\":32");
    assert_true(c.n_ff == 96 && c.n_ff_expert == 32 && c.expert_score == MOE_SIGMOID && c.expert_norm_weights);
    struct made m = make("{\"model_type\":\"lfm2_vl\",\"text_config\":{\"model_type\":\"lfm2\",\"num_hidden_layers\":8,"
                         "\"hidden_size\":64,\"block_ff_dim\":768,\"num_attention_heads\":4,\"num_key_value_heads\":2,"
                         "\"full_attn_idxs\":[2,5]},\"vision_config\":{\"hidden_size\":768}}",
                         "model.language_model.", "model.vision_tower.vision_model.x");
    c = read_made(&m);
    assert_layers(c.layer_conv, "11011011");
    assert_true(c.n_ff == 512 && strcmp(c.arch, "lfm2") == 0);
}

#define LINEAR "\"linear_attention\","

/* The class of transformers has defaults for all of it. */
static void states(void **state)
{
    (void)state;
    struct decoder_config c = read_type("qwen3_next", "");
    const struct delta_params *p = &c.delta;
    assert_layers(c.layer_delta, "11101110");
    assert_true(p->n_k_heads == 16 && p->n_v_heads == 32 && p->k_dim == 128 && p->v_dim == 128 && p->n_taps == 4);
    assert_true(c.n_kv_heads == 2 && c.k_dim == 256 && c.rot_dim == 64 && c.norm_weight_offset == 1 && c.qk_norm);
    assert_true(c.attn_gated && c.n_experts == 0 && !c.tied_embeddings == !!c.n_experts);
    c = read_type(
        "qwen3_next",
        ",\"full_attention_interval\":2,\"head_dim\":32,\"linear_num_key_heads\":3,\"linear_num_value_heads\":6,"
        "\"linear_key_head_dim\":20,\"linear_value_head_dim\":24,\"linear_conv_kernel_dim\":3,"
        "\"partial_rotary_factor\":0.5,\"num_experts\":8,\"num_experts_per_tok\":2,"
        "\"moe_intermediate_size\":32,\"mlp_only_layers\":[1],\"decoder_sparse_step\":2");
    assert_layers(c.layer_delta, "10101010");
    assert_layers(c.layer_experts, "00010101");
    assert_true(p->n_k_heads == 3 && p->n_v_heads == 6 && p->k_dim == 20 && p->v_dim == 24 && p->n_taps == 3);
    assert_true(c.rot_dim == 16 && c.expert_norm_weights && c.n_ff_expert == 32);
    c = read_type("qwen3_next",
                  TYPES(FULL "," LINEAR LINEAR FULL "," LINEAR LINEAR LINEAR FULL) ",\"full_attention_interval\":2");
    assert_layers(c.layer_delta, "01101110");
}

/* ---- what is refused ---- */

struct refusal {
    const char *type, *more;
    enum error_code code;
    const char *needle;
};

static void assert_refused(const struct refusal *r)
{
    char text[4096];
    struct decoder_config c;
    struct error err = {0};
    text_of(text, sizeof(text), r->type, r->more);
    struct made m = make(text, "model.", NULL);
    if (decoder_config_read(m.file, &c, &err))
        fail_msg("taken: %s%s", r->type, r->more);
    if (err.code != r->code || !strstr(err.msg, r->needle))
        fail_msg("%s%s: %d %s", r->type, r->more, err.code, err.msg);
    drop(&m);
}

static void hostile_values_are_refused(void **state)
{
    (void)state;
#define ROPE(members)    ",\"rope_scaling\":{" members "}"
#define EXPERTS(n, used) ",\"num_experts\":" n ",\"num_experts_per_tok\":" used
    static const struct refusal cases[] = {
        {"mamba", "", ERR_UNSUPPORTED, "llama, mistral, mixtral, qwen2"},
        {"", "", ERR_UNSUPPORTED, "cohere"},
        {"qwen2_vl", ",\"text_config\":{\"model_type\":\"qwen2\"}", ERR_UNSUPPORTED, "qwen2_vl"},
        {"llama", ",\"num_key_value_heads\":3", ERR_FORMAT, "multiple"},
        {"exaone4", ",\"sliding_window\":9,\"sliding_window_pattern\":\"LLLS\"", ERR_FORMAT, "letters"},
        {"exaone4", ",\"sliding_window\":9,\"sliding_window_pattern\":\"\"", ERR_FORMAT, "letters"},
        {"stablelm", ",\"num_key_value_heads\":4,\"qk_layernorm\":1", ERR_FORMAT, "config.qk_layernorm"},
        {"stablelm", ",\"num_key_value_heads\":4,\"use_parallel_residual\":2", ERR_FORMAT, "use_parallel_residual"},
        {"cohere", ",\"logit_scale\":-1", ERR_FORMAT, "config.logit_scale"},
        {"cohere", ",\"layer_norm_eps\":2", ERR_FORMAT, "config.layer_norm_eps"},
        {"minicpm", ",\"dim_model_base\":0", ERR_FORMAT, "config.dim_model_base"},
        {"llama", ",\"num_key_value_heads\":0", ERR_FORMAT, "config.num_key_value_heads"},
        {"llama", ",\"head_dim\":0", ERR_FORMAT, "config.head_dim"},
        {"llama", ",\"head_dim\":15", ERR_FORMAT, "odd"},
        {"llama", ",\"head_dim\":1e300", ERR_FORMAT, "config.head_dim"},
        {"llama", ",\"head_dim\":1000000", ERR_FORMAT, "config.head_dim"},
        {"llama", ",\"rms_norm_eps\":-1", ERR_FORMAT, "config.rms_norm_eps"},
        {"llama", ",\"rms_norm_eps\":\"x\"", ERR_FORMAT, "config.rms_norm_eps"},
        {"llama", ",\"rope_theta\":0", ERR_FORMAT, "config.rope_theta"},
        {"llama", ",\"rope_theta\":1e300", ERR_FORMAT, "config.rope_theta"},
        {"llama", ",\"partial_rotary_factor\":1.5", ERR_FORMAT, "config.partial_rotary_factor"},
        {"llama", ",\"partial_rotary_factor\":0.01", ERR_FORMAT, "less than two"},
        {"llama", ",\"hidden_act\":\"tanh\"", ERR_UNSUPPORTED, "tanh"},
        {"llama", ",\"hidden_act\":7", ERR_FORMAT, "config.hidden_act"},
        {"llama", ",\"is_causal\":false", ERR_UNSUPPORTED, "causal"},
        {"llama", ",\"attention_bias\":1", ERR_FORMAT, "config.attention_bias"},
        {"llama", ",\"tie_word_embeddings\":1", ERR_FORMAT, "config.tie_word_embeddings"},
        {"llama", ",\"num_local_experts\":1025,\"num_experts_per_tok\":2", ERR_UNSUPPORTED, "1025 experts"},
        {"llama", ROPE("\"type\":\"mrope\""), ERR_UNSUPPORTED, "mrope"},
        {"llama", ROPE("\"type\":7"), ERR_FORMAT, "rope_scaling.type"},
        {"llama", ROPE("\"type\":\"linear\",\"factor\":-1"), ERR_FORMAT, "rope_scaling.factor"},
        {"llama", ROPE("\"type\":\"linear\",\"factor\":1e-9"), ERR_FORMAT, "rope_scaling.factor"},
        {"llama", ROPE("\"type\":\"longrope\",\"factor\":2"), ERR_FORMAT, "lists of factors"},
        {"llama", ROPE("\"type\":\"yarn\",\"factor\":2,\"truncate\":1"), ERR_FORMAT, "truncate"},
        {"llama", ROPE("\"type\":\"yarn\",\"factor\":2,\"beta_fast\":0"), ERR_FORMAT, "beta_fast"},
        {"llama", ROPE("\"type\":\"llama3\",\"factor\":2,\"high_freq_factor\":0.5"), ERR_FORMAT, "high_freq_factor"},
        {"llama", ROPE("\"type\":\"llama3\",\"factor\":2,\"original_max_position_embeddings\":0"), ERR_FORMAT,
         "original_max_position_embeddings"},
        {"mistral", ",\"sliding_window\":-1", ERR_FORMAT, "config.sliding_window"},
        {"gemma2", ",\"query_pre_attn_scalar\":0", ERR_FORMAT, "config.query_pre_attn_scalar"},
        {"gemma3_text", ",\"use_bidirectional_attention\":true", ERR_UNSUPPORTED, "causal"},
        {"gemma3_text", ",\"sliding_window\":4,\"sliding_window_pattern\":0", ERR_FORMAT, "sliding_window_pattern"},
        {"gemma3_text", ",\"sliding_window\":4,\"layer_types\":[\"full_attention\"]", ERR_FORMAT, "layer_types"},
        {"gemma3_text",
         ",\"sliding_window\":4,\"layer_types\":[\"chunked_attention\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\"]",
         ERR_UNSUPPORTED, "chunked_attention"},
        {"gemma3_text",
         ",\"sliding_window\":4,\"rope_parameters\":{\"sliding_attention\":{\"rope_type\":\"yarn\",\"factor\":2}}",
         ERR_UNSUPPORTED, "only default"},
        {"smollm3", ",\"no_rope_layers\":[1]", ERR_FORMAT, "no_rope_layers"},
        {"smollm3", ",\"no_rope_layers\":[1,1,1,1,1,1,1,0.5]", ERR_FORMAT, "no_rope_layers"},
        {"smollm3", ",\"no_rope_layer_interval\":0", ERR_FORMAT, "no_rope_layer_interval"},
        {"granite", ",\"logits_scaling\":0", ERR_FORMAT, "config.logits_scaling"},
        {"granite", ",\"embedding_multiplier\":-1", ERR_FORMAT, "config.embedding_multiplier"},
        {"qwen3_moe", EXPERTS("8", "9"), ERR_FORMAT, "config.num_experts_per_tok"},
        {"qwen3_moe", EXPERTS("8", "0"), ERR_FORMAT, "config.num_experts_per_tok"},
        {"qwen3_moe", EXPERTS("-8", "1"), ERR_FORMAT, "config.num_experts"},
        {"qwen3_moe", EXPERTS("8", "2") ",\"moe_intermediate_size\":0", ERR_FORMAT, "moe_intermediate_size"},
        {"qwen3_moe", EXPERTS("1024", "2") ",\"moe_intermediate_size\":4000000", ERR_FORMAT, "too much"},
        {"qwen3_moe", EXPERTS("8", "2") ",\"decoder_sparse_step\":0", ERR_FORMAT, "decoder_sparse_step"},
        {"qwen3_moe", EXPERTS("8", "2") ",\"mlp_only_layers\":[8]", ERR_FORMAT, "mlp_only_layers"},
        {"qwen3_moe", EXPERTS("8", "2") ",\"mlp_only_layers\":3", ERR_FORMAT, "mlp_only_layers"},
        {"deepseek_v2", ",\"qk_rope_head_dim\":8,\"qk_nope_head_dim\":16,\"v_head_dim\":8,\"kv_lora_rank\":0",
         ERR_FORMAT, "config.kv_lora_rank"},
        {"deepseek_v2", "", ERR_FORMAT, "config.qk_rope_head_dim"},
        {"deepseek_v2", ",\"qk_rope_head_dim\":7,\"qk_nope_head_dim\":16,\"v_head_dim\":8,\"kv_lora_rank\":8",
         ERR_FORMAT, "odd"},
        {"deepseek_v3", LATENT ",\"scoring_func\":\"softmax\"", ERR_UNSUPPORTED, "sigmoid"},
        {"deepseek_v3", HEADS ROUTED ",\"n_group\":5,\"topk_group\":2", ERR_FORMAT, "from 2 of 5 groups"},
        {"deepseek_v3", HEADS ROUTED ",\"n_group\":16,\"topk_group\":2", ERR_FORMAT, "from 2 of 16 groups"},
        {"deepseek_v3", HEADS ROUTED ",\"n_group\":8,\"topk_group\":1", ERR_FORMAT, "4 of 16 experts"},
        {"deepseek_v3", LATENT ",\"num_nextn_predict_layers\":-1", ERR_FORMAT, "num_nextn_predict_layers"},
        {"gpt_oss", EXPERTS("8", "2") ",\"swiglu_limit\":5", ERR_UNSUPPORTED, "limit 5"},
        {"gemma3n_text", ",\"num_kv_shared_layers\":8", ERR_FORMAT, "num_kv_shared_layers"},
        {"gemma3n_text", ",\"num_kv_shared_layers\":4", ERR_FORMAT, "Layer 4 has to share"},
        {"gemma3n_text", ",\"num_kv_shared_layers\":1,\"altup_num_inputs\":1", ERR_FORMAT, "altup_num_inputs"},
        {"gemma3n_text", ",\"num_kv_shared_layers\":1,\"activation_sparsity_pattern\":[1,0,0,0,0,0,0,0]", ERR_FORMAT,
         "activation_sparsity_pattern"},
        {"llama4_text", EXPERTS("8", "1") ",\"floor_scale\":0", ERR_FORMAT, "floor_scale"},
        {"qwen2", EXPERTS("8", "2"), ERR_UNSUPPORTED, "8 experts"},
        {"qwen3_next", TYPES(FULL), ERR_FORMAT, "8 strings"},
        {"qwen3_next", TYPES(LINEAR LINEAR LINEAR LINEAR LINEAR LINEAR LINEAR "\"conv\""), ERR_UNSUPPORTED, "'conv'"},
        {"qwen3_next", ",\"full_attention_interval\":9", ERR_UNSUPPORTED, "None of the model's layers"},
        {"qwen3_next", ",\"full_attention_interval\":0", ERR_FORMAT, "full_attention_interval"},
        {"qwen3_next", ",\"linear_conv_kernel_dim\":1", ERR_FORMAT, "linear_conv_kernel_dim"},
        {"qwen3_next", ",\"linear_num_value_heads\":40", ERR_FORMAT, "multiple of its 16 key heads"},
        {"qwen3_next", ",\"linear_num_value_heads\":\"x\"", ERR_FORMAT, "linear_num_value_heads"},
        {"qwen3_next", ",\"linear_key_head_dim\":4097", ERR_FORMAT, "linear_key_head_dim"},
        {"qwen3_next", ",\"linear_num_value_heads\":4096,\"linear_key_head_dim\":4096,\"linear_value_head_dim\":4096",
         ERR_UNSUPPORTED, "is larger than"},
        {"lfm2", TYPES(FULL), ERR_FORMAT, "8 strings"},
        {"lfm2", TYPES(CONV CONV CONV CONV CONV CONV CONV "\"conv\""), ERR_UNSUPPORTED, "None of the model's layers"},
        {"lfm2", TYPES(CONV CONV CONV CONV CONV CONV CONV "\"mamba\""), ERR_UNSUPPORTED, "'mamba'"},
        {"lfm2", ",\"num_key_value_heads\":2,\"full_attn_idxs\":[8]", ERR_FORMAT, "below 8"},
        {"lfm2", ",\"num_key_value_heads\":2,\"full_attn_idxs\":2", ERR_FORMAT, "full_attn_idxs has to be an array"},
        {"lfm2", ",\"num_key_value_heads\":2,\"full_attn_idxs\":[0],\"conv_L_cache\":1", ERR_FORMAT, "conv_L_cache"},
        {"lfm2", ",\"num_key_value_heads\":2,\"full_attn_idxs\":[0],\"conv_L_cache\":65", ERR_FORMAT, "conv_L_cache"},
        {"lfm2", ",\"num_key_value_heads\":2,\"full_attn_idxs\":[0],\"conv_bias\":true", ERR_UNSUPPORTED, "conv_bias"},
        {"lfm2", ",\"num_key_value_heads\":2,\"block_multiple_of\":0", ERR_FORMAT, "block_multiple_of"},
        {"lfm2", ",\"num_key_value_heads\":2,\"block_ffn_dim_multiplier\":1e9", ERR_FORMAT, "block_ffn_dim_multiplier"},
        {"lfm2", ",\"num_key_value_heads\":2,\"block_ff_dim\":4000000,\"block_ffn_dim_multiplier\":9", ERR_FORMAT,
         "The MLP would be"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_refused(&cases[i]);
}

/* Also with a name that is as long as a name is written there. */
static void all_types_are_listed(void **state)
{
    (void)state;
    char text[4096];
    text_of(text, sizeof(text), "mistral-and-a-name-that-is-longer-than-any", "");
    struct made m = make(text, "model.", NULL);
    struct decoder_config c;
    struct error err = {0};
    assert_false(decoder_config_read(m.file, &c, &err));
    for (size_t i = 0; i < decoder_n_families(); i++) {
        const char *type = decoder_family_at(i)->model_types[0];
        assert_true(!type || strstr(err.msg, type));
    }
    assert_true(str_ends(str_of(err.msg), STR(".")));
    drop(&m);
}

static void bad_folders_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *config, *needle;
    } cases[] = {
        {"{\"model_type\":\"llama\"}", "config.num_hidden_layers"},
        {"{\"model_type\":\"llama\",\"num_hidden_layers\":513}", "config.num_hidden_layers"},
        {"{\"model_type\":\"gemma3\",\"text_config\":{\"num_hidden_layers\":0}}",
         "config.text_config.num_hidden_layers"},
        {"{\"model_type\":\"llama\",\"num_hidden_layers\":8,\"hidden_size\":64,\"intermediate_size\":96,"
         "\"num_attention_heads\":4,\"max_position_embeddings\":4096,\"vocab_size\":49}",
         "config.vocab_size is 49"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct decoder_config c;
        struct error err = {0};
        struct made m = make(cases[i].config, "model.", NULL);
        assert_false(decoder_config_read(m.file, &c, &err));
        if (err.code != ERR_FORMAT || !strstr(err.msg, cases[i].needle))
            fail_msg("%s: %d %s", cases[i].config, err.code, err.msg);
        drop(&m);
    }
    char text[1024];
    struct decoder_config c;
    struct error err = {0};
    text_of(text, sizeof(text), "llama", "");
    struct made m = make(text, "transformer.", NULL);
    assert_false(decoder_config_read(m.file, &c, &err));
    assert_non_null(strstr(err.msg, "model.embed_tokens.weight is missing"));
    drop(&m);
}

/* ---- names ---- */

static void check_names(const struct model_file *file, const struct decoder_family *family)
{
    struct weight_names names = weight_names_of(family, file);
    for (int p = PART_EMBD; p < PART_COUNT; p++) {
        const struct weight_row *row;
        for (size_t i = 0; (row = weight_row(&names, (enum model_part)p, i)) != NULL; i++) {
            char name[128];
            int layer = 0, expert = 0, expected = p < PART_FIRST_OF_LAYER ? -1 : 17;
            weight_name(&names, row, 17, 5, name, sizeof(name));
            const struct weight_row *found = weight_name_parse(&names, str_of(name), &layer, &expert);
            /* a family's own row stands before the container's of the same name */
            if (!found || (found != row && (i == 0 || strcmp(found->name, row->name) != 0)))
                fail_msg("%s: %s", family->name, name);
            assert_true(layer == expected && expert == (weight_row_per_expert(row) ? 5 : -1));
        }
    }
}

static void names_of_weights(void **state)
{
    (void)state;
    static const char *const prefixes[] = {"model.", "language_model.model.", "model.language_model."};
    for (size_t k = 0; k < ARRAY_LEN(prefixes); k++) {
        struct made m = make("{}", prefixes[k], NULL);
        for (size_t i = 0; i < decoder_n_families(); i++)
            check_names(m.file, decoder_family_at(i));
        struct weight_names names = weight_names_of(decoder_family_at(0), m.file);
        char name[128];
        assert_string_equal(names.prefix, prefixes[k]);
        weight_name(&names, weight_row(&names, PART_OUTPUT, 0), -1, -1, name, sizeof(name));
        assert_string_equal(name, k == 1 ? "language_model.lm_head.weight" : "lm_head.weight");
        drop(&m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(llama),
        cmocka_unit_test(llama_is_found_by_its_class),
        cmocka_unit_test(llama3_scaling),
        cmocka_unit_test(yarn_scaling),
        cmocka_unit_test(linear_scaling),
        cmocka_unit_test(mistral),
        cmocka_unit_test(qwen),
        cmocka_unit_test(gemma2),
        cmocka_unit_test(gemma3),
        cmocka_unit_test(smollm3),
        cmocka_unit_test(phi3),
        cmocka_unit_test(granite),
        cmocka_unit_test(olmo2),
        cmocka_unit_test(gemma),
        cmocka_unit_test(minicpm),
        cmocka_unit_test(cohere),
        cmocka_unit_test(stablelm),
        cmocka_unit_test(glm),
        cmocka_unit_test(biases_by_name),
        cmocka_unit_test(exaone4),
        cmocka_unit_test(mixtures),
        cmocka_unit_test(latents),
        cmocka_unit_test(gpt_oss),
        cmocka_unit_test(llama4),
        cmocka_unit_test(llama4_scout),
        cmocka_unit_test(gemma3n),
        cmocka_unit_test(more_mixtures),
        cmocka_unit_test(convolutions),
        cmocka_unit_test(states),
        cmocka_unit_test(hostile_values_are_refused),
        cmocka_unit_test(bad_folders_are_refused),
        cmocka_unit_test(all_types_are_listed),
        cmocka_unit_test(names_of_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
