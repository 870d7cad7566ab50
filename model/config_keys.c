/* Names of the configuration's keys in both containers, and typed access to them. */
#include "model/config_internal.h"

#include <stdio.h>

#define MAX_ALIASES 5

/* gguf: what follows "<arch>.". folder: names in config.json, the first that is there counts. With rope, names are
 * looked for in the objects that hold RoPE's parameters first: rope_parameters since transformers 5 (by kind of layer
 * in models whose kinds differ), rope_scaling before. */
static const struct key_row {
    const char *gguf;
    const char *folder[MAX_ALIASES];
    bool rope;
} keys[KEY_COUNT] = {
    [KEY_LAYERS] = {"block_count", {"num_hidden_layers"}},
    [KEY_EMBD] = {"embedding_length", {"hidden_size"}},
    [KEY_FF] = {"feed_forward_length", {"intermediate_size_mlp", "block_ff_dim", "intermediate_size"}},
    [KEY_HEADS] = {"attention.head_count", {"num_attention_heads"}},
    [KEY_KV_HEADS] = {"attention.head_count_kv", {"num_key_value_heads"}},
    [KEY_K_DIM] = {"attention.key_length", {"head_dim"}},
    [KEY_V_DIM] = {"attention.value_length", {"head_dim"}},
    [KEY_CONTEXT] = {"context_length", {"max_position_embeddings"}},
    [KEY_MAX_LENGTH] = {NULL, {"model_max_length"}},
    [KEY_VOCAB] = {NULL, {"vocab_size"}},
    [KEY_NORM_EPS] = {"attention.layer_norm_rms_epsilon", {"rms_norm_eps", "norm_eps"}},
    [KEY_LAYER_NORM_EPS] = {"attention.layer_norm_epsilon", {"layer_norm_eps", "norm_eps"}},
    [KEY_QK_NORM] = {NULL, {"use_qk_norm", "qk_layernorm"}},
    [KEY_PARALLEL] = {NULL, {"use_parallel_residual"}},
    [KEY_CAUSAL] = {"attention.causal", {"is_causal"}},
    [KEY_BIDIRECTIONAL] = {NULL, {"use_bidirectional_attention"}},
    [KEY_ATTN_SCALE] = {"attention.scale", {"attention_multiplier"}},
    [KEY_ATTN_Q_SCALAR] = {NULL, {"query_pre_attn_scalar"}},
    [KEY_ATTN_SOFTCAP] = {"attn_logit_softcapping", {"attn_logit_softcapping"}},
    [KEY_FINAL_SOFTCAP] = {"final_logit_softcapping", {"final_logit_softcapping"}},
    [KEY_ATTN_BIAS] = {NULL, {"attention_bias", "use_qkv_bias", "qkv_bias", "use_bias", "bias"}},
    [KEY_OUT_BIAS] = {NULL, {"attention_out_bias"}},
    [KEY_MLP_BIAS] = {NULL, {"mlp_bias", "use_bias"}},
    [KEY_TIED] = {NULL, {"tie_embedding", "tie_word_embeddings"}},
    [KEY_ACT] = {NULL, {"hidden_activation", "hidden_act"}},
    [KEY_WINDOW] = {"attention.sliding_window", {"sliding_window", "attention_chunk_size"}},
    [KEY_WINDOW_PERIOD] = {"attention.sliding_window_pattern", {"sliding_window_pattern", "_sliding_window_pattern"}},
    [KEY_WINDOW_USED] = {NULL, {"use_sliding_window"}},
    [KEY_WINDOW_FROM] = {NULL, {"max_window_layers"}},
    [KEY_LAYER_TYPES] = {NULL, {"layer_types"}},
    [KEY_ROPE_LAYERS] = {NULL, {"no_rope_layers"}},
    [KEY_NOPE_PERIOD] = {NULL, {"no_rope_layer_interval"}},
    [KEY_EMBD_SCALE] = {"embedding_scale", {"embedding_multiplier", "scale_emb"}},
    [KEY_RESIDUAL_SCALE] = {"residual_scale", {"residual_multiplier"}},
    [KEY_LOGIT_DIVISOR] = {"logit_scale", {"logits_scaling"}},
    [KEY_LOGIT_FACTOR] = {"logit_scale", {"logit_scale"}},
    [KEY_DEPTH_SCALE] = {NULL, {"scale_depth"}},
    [KEY_BASE_EMBD] = {NULL, {"dim_model_base"}},
    [KEY_EXPERTS] = {"expert_count", {"num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"}},
    [KEY_EXPERTS_USED] = {"expert_used_count", {"num_experts_per_tok", "moe_k"}},
    [KEY_EXPERT_FF] = {"expert_feed_forward_length", {"moe_intermediate_size", "intermediate_size"}},
    [KEY_EXPERT_NORM] = {"expert_weights_norm", {"norm_topk_prob"}},
    [KEY_EXPERT_SCALE] = {"expert_weights_scale", {"routed_scaling_factor"}},
    [KEY_EXPERT_GATING] = {"expert_gating_func", {NULL}},
    [KEY_EXPERT_STEP] = {NULL, {"decoder_sparse_step"}},
    [KEY_DENSE_LAYERS] = {NULL, {"mlp_only_layers"}},
    [KEY_EXPERT_GROUPS] = {"expert_group_count", {"n_group"}},
    [KEY_EXPERT_GROUPS_USED] = {"expert_group_used_count", {"topk_group"}},
    [KEY_EXPERT_METHOD] = {NULL, {"topk_method"}},
    [KEY_EXPERT_SCORING] = {NULL, {"scoring_func"}},
    [KEY_SWIGLU_ALPHA] = {NULL, {"swiglu_alpha"}},
    [KEY_SWIGLU_LIMIT] = {NULL, {"swiglu_limit"}},
    [KEY_EXTRA_LAYERS] = {NULL, {"num_nextn_predict_layers"}},
    [KEY_CONV_TAPS] = {"shortconv.l_cache", {"conv_L_cache"}},
    [KEY_CONV_BIAS] = {NULL, {"conv_bias"}},
    [KEY_CONV_ATTENDING] = {NULL, {"full_attn_idxs"}},
    [KEY_FULL_PERIOD] = {"full_attention_interval", {"full_attention_interval"}},
    [KEY_DELTA_K_HEADS] = {"ssm.group_count", {"linear_num_key_heads"}},
    [KEY_DELTA_V_HEADS] = {"ssm.time_step_rank", {"linear_num_value_heads"}},
    [KEY_DELTA_K_DIM] = {"ssm.state_size", {"linear_key_head_dim"}},
    [KEY_DELTA_V_DIM] = {NULL, {"linear_value_head_dim"}},
    [KEY_DELTA_VALUES] = {"ssm.inner_size", {NULL}},
    [KEY_DELTA_TAPS] = {"ssm.conv_kernel", {"linear_conv_kernel_dim"}},
    [KEY_SHARED_FF] = {"expert_shared_feed_forward_length", {"shared_expert_intermediate_size"}},
    [KEY_FF_ADJUSTED] = {NULL, {"block_auto_adjust_ff_dim"}},
    [KEY_FF_FACTOR] = {NULL, {"block_ffn_dim_multiplier"}},
    [KEY_FF_MULTIPLE] = {NULL, {"block_multiple_of"}},
    [KEY_LATENT] = {"attention.kv_lora_rank", {"kv_lora_rank"}},
    [KEY_Q_LATENT] = {"attention.q_lora_rank", {"q_lora_rank"}},
    [KEY_HEAD_ROPE] = {"rope.dimension_count", {"qk_rope_head_dim"}},
    [KEY_HEAD_NOPE] = {NULL, {"qk_nope_head_dim"}},
    [KEY_HEAD_K] = {"attention.key_length_mla", {NULL}},
    [KEY_HEAD_V] = {"attention.value_length_mla", {"v_head_dim"}},
    [KEY_KV_SHARED] = {"attention.shared_kv_layers", {"num_kv_shared_layers"}},
    [KEY_STREAMS] = {"altup.num_inputs", {"altup_num_inputs"}},
    [KEY_STREAM_ACTIVE] = {"altup.active_idx", {"altup_active_idx"}},
    [KEY_STREAM_SCALED] = {NULL, {"altup_correct_scale"}},
    [KEY_LAUREL_RANK] = {NULL, {"laurel_rank"}},
    [KEY_LAYER_INPUT] = {"embedding_length_per_layer_input", {"hidden_size_per_layer_input"}},
    [KEY_LAYER_VOCAB] = {NULL, {"vocab_size_per_layer_input"}},
    [KEY_SPARSITY] = {"activation_sparsity_scale", {"activation_sparsity_pattern"}},
    [KEY_TEMPERED] = {NULL, {"attn_temperature_tuning"}},
    [KEY_TEMPER_SCALE] = {"attention.temperature_scale", {"attn_scale"}},
    [KEY_TEMPER_LENGTH] = {"attention.temperature_length", {"floor_scale"}},
    [KEY_ROPE_PAIRS] = {NULL, {"rope_interleave"}},
    [KEY_ROT_DIM] = {"rope.dimension_count", {NULL}},
    [KEY_ROT_SHARE] = {NULL, {"partial_rotary_factor"}, true},
    [KEY_ROPE_BASE] = {"rope.freq_base", {"rope_theta"}, true},
    [KEY_ROPE_LOCAL_BASE] = {"rope.freq_base_swa",
                             {"rope_parameters.sliding_attention.rope_theta", "rope_local_base_freq"}},
    [KEY_ROPE_LOCAL_TYPE] = {NULL,
                             {"rope_parameters.sliding_attention.rope_type", "rope_parameters.sliding_attention.type"}},
    [KEY_ROPE_TYPE] = {"rope.scaling.type", {"rope_type", "type"}, true},
    [KEY_ROPE_FACTOR] = {"rope.scaling.factor", {"factor"}, true},
    [KEY_ROPE_FACTOR_LEGACY] = {"rope.scale_linear", {NULL}},
    [KEY_ROPE_ORIGINAL] = {"rope.scaling.original_context_length",
                           {"original_max_position_embeddings",
                            "rope_parameters.full_attention.original_max_position_embeddings",
                            "rope_parameters.original_max_position_embeddings",
                            "rope_scaling.original_max_position_embeddings"}},
    [KEY_ROPE_LOW_FREQ] = {NULL, {"low_freq_factor"}, true},
    [KEY_ROPE_HIGH_FREQ] = {NULL, {"high_freq_factor"}, true},
    [KEY_YARN_FAST] = {"rope.scaling.yarn_beta_fast", {"beta_fast"}, true},
    [KEY_YARN_SLOW] = {"rope.scaling.yarn_beta_slow", {"beta_slow"}, true},
    [KEY_YARN_EXT] = {"rope.scaling.yarn_ext_factor", {NULL}},
    [KEY_YARN_MSCALE] = {NULL, {"mscale"}, true},
    [KEY_YARN_MSCALE_ALL] = {"rope.scaling.yarn_log_multiplier", {"mscale_all_dim"}, true},
    [KEY_YARN_ATTN_FACTOR] = {"rope.scaling.yarn_attn_factor", {"attention_factor"}, true},
    [KEY_YARN_TRUNCATE] = {NULL, {"truncate"}, true},
    [KEY_LONGROPE_ATTN_FACTOR] = {"rope.scaling.attn_factor", {"attention_factor"}, true},
    [KEY_LONGROPE_LONG] = {NULL, {"long_factor"}, true},
    [KEY_LONGROPE_SHORT] = {NULL, {"short_factor"}, true},
};

static const char *const rope_objects[] = {"rope_parameters.full_attention.", "rope_parameters.", "rope_scaling.", ""};

static struct meta_value get_at(struct config_reader *r, const char *prefix, const char *object, const char *name)
{
    snprintf(r->key, sizeof(r->key), "%s.%s%s", prefix, object, name);
    return meta_get(r->file, r->key);
}

/* Beneath config or config.text_config. */
static struct meta_value get_in(struct config_reader *r, const struct key_row *row, const char *prefix)
{
    size_t n_objects = sizeof(rope_objects) / sizeof(rope_objects[0]);
    for (size_t o = row->rope ? 0 : n_objects - 1; o < n_objects; o++) {
        for (int i = 0; i < MAX_ALIASES && row->folder[i]; i++) {
            struct meta_value v = get_at(r, prefix, rope_objects[o], row->folder[i]);
            if (v.type != META_NONE)
                return v;
        }
    }
    return (struct meta_value){0};
}

struct meta_value config_get(struct config_reader *r, enum config_key key)
{
    const struct key_row *row = &keys[key];
    struct meta_value v = {0};
    r->key[0] = '\0';
    if (!r->folder)
        return row->gguf ? get_at(r, r->family->gguf, "", row->gguf) : v;
    if (!row->folder[0])
        return v;
    if (r->nested)
        v = get_in(r, row, "config.text_config");
    if (v.type == META_NONE)
        v = get_in(r, row, "config");
    if (v.type == META_NONE) /* for messages: where it should be */
        get_at(r, r->nested ? "config.text_config" : "config", "", row->folder[0]);
    return v;
}

const char *config_key_gguf(enum config_key key)
{
    return keys[key].gguf;
}

bool config_has(struct config_reader *r, enum config_key key)
{
    return config_get(r, key).type != META_NONE;
}

bool config_int(struct config_reader *r, enum config_key key, int max, int *out)
{
    int64_t v;
    config_get(r, key);
    if (!meta_int(r->file, r->key, 1, max, &v, r->err))
        return false;
    *out = (int)v;
    return true;
}

bool config_int_or(struct config_reader *r, enum config_key key, int min, int max, int fallback, int *out)
{
    int64_t v;
    config_get(r, key);
    if (!meta_int_or(r->file, r->key, min, max, fallback, &v, r->err))
        return false;
    *out = (int)v;
    return true;
}

bool config_float_or(struct config_reader *r, enum config_key key, double min, double max, double fallback, double *out)
{
    double v;
    if (!config_has(r, key)) {
        *out = fallback;
        return true;
    }
    if (!meta_float_or(r->file, r->key, fallback, &v, r->err))
        return false;
    if (v < min || v > max)
        return error_set(r->err, ERR_FORMAT, "The metadata %s is %g; it has to be from %g to %g.", r->key, v, min, max);
    *out = v;
    return true;
}

bool config_f32_or(struct config_reader *r, enum config_key key, double max, double fallback, float *out)
{
    double v = fallback;
    if (!config_float_or(r, key, 0, max, fallback, &v))
        return false;
    *out = (float)v;
    return true;
}

bool config_bool_or(struct config_reader *r, enum config_key key, bool fallback, bool *out)
{
    config_get(r, key);
    return meta_bool_or(r->file, r->key, fallback, out, r->err);
}

bool config_str_or(struct config_reader *r, enum config_key key, struct str fallback, struct str *out)
{
    struct meta_value v = config_get(r, key);
    *out = v.type == META_STRING ? v.s : fallback;
    return v.type == META_STRING || v.type == META_NONE ||
           error_set(r->err, ERR_FORMAT, "The metadata %s has to be a string.", r->key);
}
