/* The teeth of the parity tests: every field of struct decoder_config is changed, one at a time, in every random model,
 * and parity must break: the load is refused, or a logit moves beyond the tolerance. Where a field cannot matter to a
 * model, the table says so, and the logits must then stay as they are. */
#include "tests/support/model_vectors.h"

#include "base/array.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define TOLERANCE 1e-3
#define BY_OPTION "llama-llama3 by option"

struct mutation {
    const char *field;
    void (*apply)(struct decoder_config *c);
    bool (*matters)(const struct decoder_config *c); /* NULL: to every model */
};

/* ---- when a field matters ---- */

static bool has_windows(const struct decoder_config *c)
{
    return c->window > 0;
}

static bool has_local_rope(const struct decoder_config *c)
{
    return c->has_rope_local;
}

static bool is_scaled(const struct decoder_config *c)
{
    return c->rope.scaling.kind != ROPE_SCALING_NONE;
}

static bool scales_global_alone(const struct decoder_config *c)
{
    return c->has_rope_local && is_scaled(c);
}

static bool is_llama3(const struct decoder_config *c)
{
    return c->rope.scaling.kind == ROPE_SCALING_LLAMA3;
}

static bool is_yarn(const struct decoder_config *c)
{
    return c->rope.scaling.kind == ROPE_SCALING_YARN;
}

static bool is_longrope(const struct decoder_config *c)
{
    return c->rope.scaling.kind == ROPE_SCALING_LONGROPE;
}

static bool no_longrope(const struct decoder_config *c)
{
    return !is_longrope(c);
}

static bool has_factor(const struct decoder_config *c)
{
    return is_scaled(c) && !is_longrope(c);
}

static bool has_attn_factor(const struct decoder_config *c)
{
    return is_yarn(c) || is_longrope(c);
}

static bool has_qk_norm(const struct decoder_config *c)
{
    return c->qk_norm;
}

static bool norms_heads(const struct decoder_config *c)
{
    return c->qk_norm && !c->qk_norm_row;
}

static bool has_experts(const struct decoder_config *c)
{
    return c->n_experts > 0;
}

static bool has_shared_expert(const struct decoder_config *c)
{
    return c->shared_expert;
}

static bool has_groups(const struct decoder_config *c)
{
    return c->expert_groups > 1;
}

static bool has_latent(const struct decoder_config *c)
{
    return c->latent;
}

static bool no_latent(const struct decoder_config *c)
{
    return !c->latent;
}

static bool has_nope(const struct decoder_config *c)
{
    for (int i = 0; i < c->n_layers; i++) {
        if (c->layer_nope[i])
            return true;
    }
    return false;
}

static bool has_convs(const struct decoder_config *c)
{
    return c->n_conv_taps > 0;
}

static bool has_deltas(const struct decoder_config *c)
{
    return c->delta.n_taps > 0;
}

static bool attends(const struct decoder_config *c, int layer)
{
    return !c->layer_conv[layer] && !c->layer_delta[layer];
}

/* What is changed of attention has no effect on a layer of another kind. */
static bool first_attends(const struct decoder_config *c)
{
    return attends(c, 0);
}

static bool second_attends(const struct decoder_config *c)
{
    return attends(c, 1);
}

static bool fourth_attends(const struct decoder_config *c)
{
    return attends(c, 3);
}

static bool last_attends(const struct decoder_config *c)
{
    return attends(c, c->n_layers - 1);
}

static bool has_q_latent(const struct decoder_config *c)
{
    return c->q_latent;
}

static bool is_tempered(const struct decoder_config *c)
{
    return c->temper_scale != 0;
}

static bool has_streams(const struct decoder_config *c)
{
    return c->n_streams > 0;
}

static bool has_gated_first(const struct decoder_config *c)
{
    return !c->layer_experts[0];
}

static bool has_gated_second(const struct decoder_config *c)
{
    return !c->layer_experts[1];
}

/* Norms of the chosen experts' scores: those of a softmax over them are normed already. */
static bool has_own_scores(const struct decoder_config *c)
{
    return c->n_experts > 0 && c->expert_score != MOE_SOFTMAX_CHOSEN;
}

static bool has_dense_layers(const struct decoder_config *c)
{
    int n = 0;
    for (int i = 0; i < c->n_layers; i++)
        n += !c->layer_experts[i];
    return n > 0;
}

static bool has_original_context(const struct decoder_config *c)
{
    return is_yarn(c) || is_llama3(c);
}

static bool looks_at_original(const struct decoder_config *c)
{
    return has_original_context(c) || is_longrope(c);
}

/* Only scaling without an original context of its own looks at it, and the engine. */
static bool never(const struct decoder_config *c)
{
    (void)c;
    return false;
}

/* ---- the changes ---- */

#define CHANGE(name, statement)                \
    static void name(struct decoder_config *c) \
    {                                          \
        statement;                             \
    }

CHANGE(fewer_layers, c->n_layers--)
CHANGE(narrower, c->n_embd /= 2)
CHANGE(smaller_vocab, c->n_vocab--)
CHANGE(shorter_context, c->n_context /= 2)
CHANGE(fewer_heads, c->n_heads /= 2)
CHANGE(fewer_kv_heads, c->n_kv_heads /= 2)
CHANGE(smaller_k, c->k_dim /= 2; c->rot_dim /= 2)
CHANGE(smaller_v, c->v_dim /= 2)
CHANGE(smaller_ff, c->n_ff /= 2)
CHANGE(other_norm, c->norm_kind = c->norm_kind == NORM_RMS ? NORM_LAYER : NORM_RMS)
CHANGE(double_eps, c->norm_eps *= 2)
CHANGE(offset_norm, c->norm_weight_offset += 1)
CHANGE(flip_norm_bias, c->norm_bias = !c->norm_bias)
CHANGE(flip_parallel, c->parallel = !c->parallel)
CHANGE(flip_qk_norm_heads, c->qk_norm_heads = !c->qk_norm_heads)
CHANGE(flip_pre_norm, c->pre_norm = !c->pre_norm)
CHANGE(flip_post_norm, c->post_norm = !c->post_norm)
CHANGE(flip_qk_norm, c->qk_norm = !c->qk_norm)
CHANGE(flip_qk_norm_row, c->qk_norm_row = !c->qk_norm_row)
CHANGE(flip_qkv_bias, c->qkv_bias = !c->qkv_bias)
CHANGE(flip_out_bias, c->out_bias = !c->out_bias)
CHANGE(flip_mlp_bias, c->mlp_bias = !c->mlp_bias)
CHANGE(other_pairs, c->rope_kind = c->rope_kind == ROPE_NORM ? ROPE_NEOX : ROPE_NORM)
CHANGE(half_rotation, c->rot_dim /= 2)
CHANGE(other_base, c->rope.base *= 1.5)
CHANGE(no_scaling, c->rope.scaling.kind = ROPE_SCALING_NONE)
CHANGE(other_factor, c->rope.scaling.factor *= 1.25)
CHANGE(other_original, c->rope.scaling.original_context *= 2)
CHANGE(other_low, c->rope.scaling.low_freq_factor *= 1.5)
CHANGE(other_high, c->rope.scaling.high_freq_factor *= 1.5)
CHANGE(other_fast, c->rope.scaling.beta_fast /= 16)
CHANGE(other_slow, c->rope.scaling.beta_slow /= 4)
CHANGE(other_ext, c->rope.scaling.ext_factor = 0.5)
CHANGE(other_attn_factor, c->rope.scaling.attn_factor *= 1.05)
CHANGE(other_local_base, c->rope_local.base *= 1.5)
CHANGE(scaled_local, c->rope_local.scaling = c->rope.scaling)
CHANGE(no_local_rope, c->has_rope_local = false)
CHANGE(flip_factors, c->rope_freq_factors = !c->rope_freq_factors)
CHANGE(other_attn_scale, c->attn_scale *= 1.05f)
CHANGE(other_attn_cap, c->attn_softcap = c->attn_softcap != 0 ? c->attn_softcap * 1.2f : 5)
CHANGE(no_attn_cap, c->attn_softcap = 0)
CHANGE(other_final_cap, c->final_softcap = c->final_softcap != 0 ? c->final_softcap * 1.2f : 8)
CHANGE(no_final_cap, c->final_softcap = 0)
CHANGE(wider_window, c->window++)
CHANGE(tighter_window, c->window--)
CHANGE(no_window, c->window = 0)
CHANGE(flip_first_window, c->layer_windowed[0] = !c->layer_windowed[0]; c->window = c->window ? c->window : 24)
CHANGE(flip_second_window, c->layer_windowed[1] = !c->layer_windowed[1]; c->window = c->window ? c->window : 24)
CHANGE(flip_last_window, uint8_t *last = &c->layer_windowed[c->n_layers - 1]; *last = !*last;
       c->window = c->window ? c->window : 24)
CHANGE(flip_first_conv, c->layer_conv[0] = !c->layer_conv[0]; c->n_conv_taps = c->n_conv_taps ? c->n_conv_taps : 3)
CHANGE(flip_last_conv, uint8_t *last = &c->layer_conv[c->n_layers - 1]; *last = !*last;
       c->n_conv_taps = c->n_conv_taps ? c->n_conv_taps : 3)
CHANGE(flip_first_delta, c->layer_delta[0] = !c->layer_delta[0])
CHANGE(flip_last_delta, uint8_t *last = &c->layer_delta[c->n_layers - 1]; *last = !*last)
CHANGE(half_key_heads, c->delta.n_k_heads /= 2)
CHANGE(half_value_heads, c->delta.n_v_heads /= 2)
CHANGE(other_key_dim, c->delta.k_dim--)
CHANGE(other_value_dim, c->delta.v_dim--)
CHANGE(more_delta_taps, c->delta.n_taps++)
CHANGE(fewer_delta_taps, c->delta.n_taps--)
CHANGE(flip_attn_gated, c->attn_gated = !c->attn_gated)
CHANGE(more_taps, c->n_conv_taps++)
CHANGE(fewer_taps, c->n_conv_taps--)
CHANGE(other_activation, c->act = c->act == ACT_SILU ? ACT_GELU_TANH : ACT_SILU)
CHANGE(other_gelu, c->act = c->act == ACT_GELU_TANH ? ACT_GELU : ACT_RELU)
CHANGE(no_gate, c->mlp_gated = !c->mlp_gated)
CHANGE(fewer_experts, c->n_experts--)
CHANGE(no_experts, c->n_experts = 0; memset(c->layer_experts, 0, sizeof(c->layer_experts)))
CHANGE(more_used, c->n_experts_used++)
CHANGE(fewer_used, c->n_experts_used--)
CHANGE(smaller_expert_ff, c->n_ff_expert /= 2)
CHANGE(flip_expert_layer, c->layer_experts[1] = !c->layer_experts[1])
CHANGE(flip_expert_norm, c->expert_norm_weights = !c->expert_norm_weights)
CHANGE(other_expert_scale, c->expert_scale *= 1.02f)
CHANGE(other_score, c->expert_score = c->expert_score == MOE_SIGMOID ? MOE_SOFTMAX : MOE_SIGMOID)
CHANGE(no_groups, c->expert_groups = 0)
CHANGE(fewer_groups, c->expert_groups /= 2; c->expert_groups_used = 1)
CHANGE(other_groups_used, c->expert_groups_used++)
CHANGE(other_group_top, c->expert_group_top = c->expert_group_top == 1 ? 2 : 1)
CHANGE(flip_weigh_input, c->expert_weigh_input = !c->expert_weigh_input)
CHANGE(flip_router_bias, c->expert_router_bias = !c->expert_router_bias)
CHANGE(flip_choice_bias, c->expert_choice_bias = !c->expert_choice_bias)
CHANGE(flip_expert_bias, c->expert_bias = !c->expert_bias)
CHANGE(smaller_shared, c->n_ff_shared /= 2)
CHANGE(flip_shared, c->shared_expert = !c->shared_expert)
CHANGE(flip_shared_gated, c->shared_gated = !c->shared_gated)
CHANGE(flip_plain_norm, c->qk_norm_plain = !c->qk_norm_plain)
CHANGE(flip_sinks, c->attn_sinks = !c->attn_sinks)
CHANGE(flip_latent, c->latent = !c->latent)
CHANGE(flip_q_latent, c->q_latent = !c->q_latent)
CHANGE(smaller_latent, c->n_latent /= 2)
CHANGE(smaller_q_latent, c->n_q_latent /= 2)
CHANGE(smaller_nope, c->nope_dim /= 2)
CHANGE(smaller_head_v, c->head_v_dim /= 2)
CHANGE(flip_chunked, c->window_chunked = !c->window_chunked)
CHANGE(other_temper_scale, c->temper_scale = c->temper_scale != 0 ? c->temper_scale * 1.1f : 0.1f;
       c->temper_length = c->temper_length ? c->temper_length : 8)
CHANGE(other_temper_length, c->temper_length *= 2)
CHANGE(flip_v_norm, c->v_norm = !c->v_norm)
CHANGE(more_shared, c->n_kv_shared++)
CHANGE(fewer_shared, c->n_kv_shared = c->n_kv_shared > 0 ? c->n_kv_shared - 1 : 0)
CHANGE(more_streams, c->n_streams = c->n_streams ? c->n_streams + 1 : 4)
CHANGE(no_streams, c->n_streams = 0)
CHANGE(other_active, c->active_stream++)
CHANGE(flip_stream_scaled, c->stream_scaled = !c->stream_scaled)
CHANGE(flip_laurel, c->laurel = !c->laurel)
CHANGE(smaller_laurel, c->laurel_rank /= 2)
CHANGE(flip_layer_inputs, c->layer_inputs = !c->layer_inputs)
CHANGE(smaller_layer_input, c->n_layer_input /= 2)
CHANGE(smaller_layer_vocab, c->n_layer_vocab--)
CHANGE(flip_sparse, c->layer_sparse[0] = !c->layer_sparse[0])
CHANGE(flip_second_sparse, c->layer_sparse[1] = !c->layer_sparse[1])
CHANGE(other_sparsity, c->sparsity[0] += 0.1f)
CHANGE(more_extra_layers, c->n_extra_layers++)
CHANGE(flip_unrounded, c->rope.scaling.unrounded = !c->rope.scaling.unrounded)
CHANGE(flip_first_nope, c->layer_nope[0] = !c->layer_nope[0])
CHANGE(flip_fourth_nope, c->layer_nope[3] = !c->layer_nope[3])
CHANGE(other_divisors, int *n = &c->rope.scaling.original_context; *n = *n > 200 ? 1 : 1 << 20)
CHANGE(other_embd_scale, c->embd_scale *= 1.02f)
CHANGE(other_residual_scale, c->residual_scale = 0.98f)
CHANGE(other_logit_scale, c->logit_scale = 0.99f)
CHANGE(flip_tied, c->tied_embeddings = !c->tied_embeddings)

static bool has_attn_cap(const struct decoder_config *c)
{
    return c->attn_softcap != 0;
}

static bool has_final_cap(const struct decoder_config *c)
{
    return c->final_softcap != 0;
}

static const struct mutation mutations[] = {
    {"n_layers", fewer_layers, NULL},
    {"n_embd", narrower, NULL},
    {"n_vocab", smaller_vocab, NULL},
    {"n_context", shorter_context, never},
    {"n_heads", fewer_heads, NULL},
    {"n_kv_heads", fewer_kv_heads, NULL},
    {"k_dim", smaller_k, NULL},
    {"v_dim", smaller_v, NULL},
    {"n_ff", smaller_ff, has_dense_layers},
    {"n_experts", fewer_experts, has_experts},
    {"n_experts 0", no_experts, has_experts},
    {"n_experts_used + 1", more_used, has_experts},
    {"n_experts_used - 1", fewer_used, has_experts},
    {"n_ff_expert", smaller_expert_ff, has_experts},
    {"layer_experts", flip_expert_layer, NULL},
    {"expert_norm_weights", flip_expert_norm, has_own_scores},
    {"expert_score", other_score, has_experts},
    {"expert_groups 0", no_groups, has_groups},
    {"expert_groups / 2", fewer_groups, has_groups},
    {"expert_groups_used", other_groups_used, has_groups},
    {"expert_group_top", other_group_top, has_groups},
    {"expert_weigh_input", flip_weigh_input, has_experts},
    {"expert_router_bias", flip_router_bias, has_experts},
    {"expert_choice_bias", flip_choice_bias, has_experts},
    {"expert_bias", flip_expert_bias, has_experts},
    {"n_ff_shared", smaller_shared, has_shared_expert},
    {"shared_expert", flip_shared, has_experts},
    {"shared_gated", flip_shared_gated, has_experts},
    {"expert_scale", other_expert_scale, has_experts},
    {"norm_kind", other_norm, NULL},
    {"norm_eps", double_eps, NULL},
    {"norm_weight_offset", offset_norm, NULL},
    {"norm_bias", flip_norm_bias, NULL},
    {"pre_norm", flip_pre_norm, NULL},
    {"post_norm", flip_post_norm, NULL},
    {"parallel", flip_parallel, NULL},
    {"qk_norm", flip_qk_norm, NULL},
    {"qk_norm_row", flip_qk_norm_row, has_qk_norm},
    {"qk_norm_plain", flip_plain_norm, no_latent},
    {"attn_sinks", flip_sinks, NULL},
    {"latent", flip_latent, NULL},
    {"q_latent", flip_q_latent, NULL},
    {"n_latent", smaller_latent, has_latent},
    {"n_q_latent", smaller_q_latent, has_q_latent},
    {"nope_dim", smaller_nope, has_latent},
    {"head_v_dim", smaller_head_v, has_latent},
    {"qk_norm_heads", flip_qk_norm_heads, norms_heads},
    {"qkv_bias", flip_qkv_bias, NULL},
    {"out_bias", flip_out_bias, NULL},
    {"mlp_bias", flip_mlp_bias, NULL},
    {"rope_kind", other_pairs, NULL},
    {"rot_dim", half_rotation, NULL},
    {"layer_nope, first", flip_first_nope, first_attends},
    {"layer_nope, fourth", flip_fourth_nope, fourth_attends},
    {"rope.base", other_base, NULL},
    {"rope.scaling.kind", no_scaling, is_scaled},
    {"rope.scaling.factor", other_factor, has_factor},
    {"rope.scaling.original_context", other_original, has_original_context},
    {"rope.scaling.original_context, far", other_divisors, looks_at_original},
    {"rope.scaling.low_freq_factor", other_low, is_llama3},
    {"rope.scaling.high_freq_factor", other_high, is_llama3},
    {"rope.scaling.beta_fast", other_fast, is_yarn},
    {"rope.scaling.beta_slow", other_slow, is_yarn},
    {"rope.scaling.ext_factor", other_ext, is_yarn},
    {"rope.scaling.unrounded", flip_unrounded, is_yarn},
    {"rope.scaling.attn_factor", other_attn_factor, has_attn_factor},
    {"rope_local.base", other_local_base, has_local_rope},
    {"rope_local.scaling", scaled_local, scales_global_alone},
    {"has_rope_local", no_local_rope, has_local_rope},
    {"rope_freq_factors", flip_factors, no_longrope},
    {"attn_scale", other_attn_scale, NULL},
    {"attn_softcap", other_attn_cap, NULL},
    {"attn_softcap 0", no_attn_cap, has_attn_cap},
    {"final_softcap", other_final_cap, NULL},
    {"final_softcap 0", no_final_cap, has_final_cap},
    {"window + 1", wider_window, has_windows},
    {"window - 1", tighter_window, has_windows},
    {"window 0", no_window, has_windows},
    {"window_chunked", flip_chunked, has_windows},
    {"temper_scale", other_temper_scale, has_nope},
    {"temper_length", other_temper_length, is_tempered},
    {"n_extra_layers", more_extra_layers, never},
    {"v_norm", flip_v_norm, no_latent},
    {"n_kv_shared + 1", more_shared, no_latent},
    {"n_kv_shared - 1", fewer_shared, has_streams},
    {"n_streams + 1", more_streams, NULL},
    {"n_streams 0", no_streams, has_streams},
    {"active_stream", other_active, has_streams},
    {"stream_scaled", flip_stream_scaled, NULL},
    {"laurel", flip_laurel, NULL},
    {"laurel_rank", smaller_laurel, has_streams},
    {"layer_inputs", flip_layer_inputs, NULL},
    {"n_layer_input", smaller_layer_input, has_streams},
    {"n_layer_vocab", smaller_layer_vocab, has_streams},
    {"layer_sparse, first", flip_sparse, has_gated_first},
    {"layer_sparse, second", flip_second_sparse, has_gated_second},
    {"sparsity", other_sparsity, has_streams},
    {"layer_windowed, first", flip_first_window, first_attends},
    {"layer_windowed, second", flip_second_window, second_attends},
    {"layer_windowed, last", flip_last_window, last_attends},
    {"layer_conv, first", flip_first_conv, NULL},
    {"layer_conv, last", flip_last_conv, NULL},
    {"layer_delta, first", flip_first_delta, NULL},
    {"layer_delta, last", flip_last_delta, NULL},
    {"delta.n_k_heads", half_key_heads, has_deltas},
    {"delta.n_v_heads", half_value_heads, has_deltas},
    {"delta.k_dim", other_key_dim, has_deltas},
    {"delta.v_dim", other_value_dim, has_deltas},
    {"delta.n_taps + 1", more_delta_taps, has_deltas},
    {"delta.n_taps - 1", fewer_delta_taps, has_deltas},
    {"attn_gated", flip_attn_gated, NULL},
    {"n_conv_taps + 1", more_taps, has_convs},
    {"n_conv_taps - 1", fewer_taps, has_convs},
    {"act", other_activation, NULL},
    {"act, kind of GELU", other_gelu, NULL},
    {"mlp_gated", no_gate, has_dense_layers},
    {"embd_scale", other_embd_scale, NULL},
    {"residual_scale", other_residual_scale, NULL},
    {"logit_scale", other_logit_scale, NULL},
    {"tied_embeddings", flip_tied, NULL},
};

/* ---- running them ---- */

#define REFUSED 1e9

/* In standard deviations; REFUSED when the model does not load. */
static double deviation_of(const struct model_vectors *v, const struct model_file *file, const struct decoder_config *c)
{
    struct model_driver d;
    struct error err = {0};
    struct model_driver_options o = {.file = file,
                                     .config = c,
                                     .kernels = CPU_KERNELS_REFERENCE,
                                     .kv_type = KV_F32,
                                     .n_threads = 1,
                                     .n_positions = v->n_text,
                                     .n_seqs = 1};
    if (!model_driver_open(&d, &o, &err))
        return REFUSED;
    double deviation = model_vectors_deviation(v, &d, v->n_text);
    model_driver_close(&d);
    return deviation;
}

struct counts {
    int refused, moved, without_effect, failed;
    double least; /* deviation of those that moved */
};

static void run_mutation(const struct model_vectors *v, const struct model_file *file,
                         const struct decoder_config *right, const struct mutation *m, struct counts *n)
{
    struct decoder_config c = *right;
    bool matters = !m->matters || m->matters(right);
    m->apply(&c);
    double deviation = deviation_of(v, file, &c);
    if (deviation == REFUSED) {
        n->refused++;
        return;
    }
    if (matters == (deviation > TOLERANCE)) {
        n->moved += matters;
        n->without_effect += !matters;
        if (matters && deviation < n->least)
            n->least = deviation;
        return;
    }
    print_message("%s, %s: deviation %.2e std\n", v->name, m->field, deviation);
    n->failed++;
}

static void every_field_matters(void **state)
{
    struct model_vectors v;
    struct buf bytes;
    struct decoder_config right;
    struct error err = {0};
    struct counts n = {.least = REFUSED};
    const char *name = *state;
    bool by_option = strcmp(name, BY_OPTION) == 0;
    model_vectors_load(&v, by_option ? "llama-llama3" : name);
    struct model_file *file = model_vectors_file(&v, &bytes);
    if (!decoder_config_read(file, &right, &err))
        fail_msg("%s", err.msg);
    if (by_option) {
        right.n_context /= 8;
        assert_true(decoder_config_rope_scaling(&right, v.rope_scaling, &err));
    }
    assert_true(deviation_of(&v, file, &right) < TOLERANCE);
    for (size_t i = 0; i < ARRAY_LEN(mutations); i++)
        run_mutation(&v, file, &right, &mutations[i], &n);
    print_message("%s: %d refused, %d moved (by %.2e std at least), %d without effect\n", name, n.refused, n.moved,
                  n.least, n.without_effect);
    assert_int_equal(n.failed, 0);
    model_file_close(file);
    buf_release(&bytes);
    model_vectors_release(&v);
}

int main(void)
{
    struct CMUnitTest tests[MODEL_VECTORS_MAX_RANDOM + 1];
    size_t n = 0;
    for (const char *name; (name = model_vectors_random(n)) != NULL; n++)
        tests[n] = (struct CMUnitTest){name, every_field_matters, NULL, NULL, (void *)(uintptr_t)name};
    tests[n++] = (struct CMUnitTest){"by option", every_field_matters, NULL, NULL, (void *)(uintptr_t)BY_OPTION};
    return _cmocka_run_group_tests("mutations", tests, n, NULL, NULL);
}
