/* config.json of a folder that is made of a GGUF file, as the classes of transformers of before version 5 have it,
 * which all readers know; or a folder's own, with the quantization noted. */
#include "model/export_internal.h"

#include "base/array.h"
#include "base/json.h"
#include "base/limits.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define CONFIG_DEPTH 32

struct config_out {
    struct json_writer w;
    const struct decoder_config *c;
    const struct decoder_family *f;
    const struct model_file *file;
};

/* A float as its shortest text: 1e-05, not what it is in binary. */
static void put_f32(struct config_out *o, const char *key, double v)
{
    char text[40];
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(text, sizeof(text), "%.*g", digits, v);
        if ((float)strtod(text, NULL) == (float)v)
            break;
    }
    json_member_raw(&o->w, key, str_of(text));
}

/* The same, never as an integer: where the classes of transformers want a float, they take no other number. */
static void put_real(struct config_out *o, const char *key, double v)
{
    char text[40];
    if (v == floor(v) && fabs(v) < 1e6)
        snprintf(text, sizeof(text), "%.1f", v);
    else
        snprintf(text, sizeof(text), "%.9g", v);
    json_member_raw(&o->w, key, str_of(text));
}

#define MAX_ENDS 32

struct ends {
    int64_t ids[MAX_ENDS];
    size_t n;
};

static void add_end(struct ends *e, int64_t id, int n_vocab)
{
    bool known = id < 0 || id >= n_vocab || e->n == MAX_ENDS;
    for (size_t i = 0; i < e->n; i++)
        known = known || e->ids[i] == id;
    if (!known)
        e->ids[e->n++] = id;
}

static int64_t id_of(const struct config_out *o, const char *key)
{
    struct meta_value v = meta_get(o->file, key);
    return v.type == META_INT && v.i < o->c->n_vocab ? v.i : -1;
}

/* All that end a text: readers of folders know no others. */
static void put_ends(struct config_out *o)
{
    static const char *const keys[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    struct meta_value more = meta_get(o->file, "tokenizer.json.end_ids");
    struct ends e = {.n = 0};
    int64_t id;
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        add_end(&e, id_of(o, keys[i]), o->c->n_vocab);
    for (size_t i = 0; more.type == META_ARRAY && i < more.n; i++) {
        if (meta_array_int(&more, i, &id))
            add_end(&e, id, o->c->n_vocab);
    }
    if (e.n == 1)
        json_member_int(&o->w, "eos_token_id", e.ids[0]);
    if (e.n <= 1)
        return;
    json_key(&o->w, "eos_token_id");
    json_begin_array(&o->w);
    for (size_t i = 0; i < e.n; i++)
        json_put_int(&o->w, e.ids[i]);
    json_end_array(&o->w);
}

static void put_ids(struct config_out *o)
{
    static const char *const keys[][2] = {{"bos_token_id", "tokenizer.ggml.bos_token_id"},
                                          {"pad_token_id", "tokenizer.ggml.padding_token_id"}};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        int64_t id = id_of(o, keys[i][1]);
        if (id >= 0)
            json_member_int(&o->w, keys[i][0], id);
    }
    put_ends(o);
}

static const char *activation_name(enum activation act)
{
    switch (act) {
    case ACT_SILU:
        return "silu";
    case ACT_GELU:
        return "gelu";
    case ACT_GELU_TANH:
        return "gelu_pytorch_tanh";
    case ACT_RELU:
        return "relu";
    case ACT_RELU2:
        return "relu2";
    case ACT_CLAMPED_SWIGLU: /* as gpt-oss says it */
        break;
    }
    return "silu";
}

static void put_shape(struct config_out *o)
{
    const struct decoder_config *c = o->c;
    struct json_writer *w = &o->w;
    char class_name[64];
    json_key(w, "architectures");
    json_begin_array(w);
    snprintf(class_name, sizeof(class_name), "%sForCausalLM", o->f->hf_class);
    json_put_cstr(w, class_name);
    json_end_array(w);
    json_member_cstr(w, "model_type", o->f->model_types[0]);
    json_member_int(w, "vocab_size", c->n_vocab);
    json_member_int(w, "hidden_size", c->n_embd);
    json_member_int(w, "intermediate_size", c->n_ff);
    json_member_int(w, "num_hidden_layers", c->n_layers);
    json_member_int(w, "num_attention_heads", c->n_heads);
    json_member_int(w, "num_key_value_heads", c->n_kv_heads);
    json_member_int(w, "head_dim", c->k_dim);
    json_member_int(w, "max_position_embeddings", c->n_context);
    put_f32(o, c->norm_kind == NORM_LAYER ? "layer_norm_eps" : "rms_norm_eps", (double)c->norm_eps);
    json_member_bool(w, "tie_word_embeddings", c->tied_embeddings);
    json_member_cstr(w, "hidden_act", activation_name(c->act));
    if (c->act == ACT_GELU_TANH)
        json_member_cstr(w, "hidden_activation", activation_name(c->act));
    json_member_bool(w, "attention_bias", o->f->qkv_bias ? c->out_bias : c->qkv_bias || c->out_bias);
    json_member_bool(w, "mlp_bias", c->mlp_bias);
    if (o->f->qk_norm_asked) {
        json_member_bool(w, "use_qk_norm", c->qk_norm);
        json_member_bool(w, "qk_layernorm", c->qk_norm);
    }
    if (o->f->parallel_asked)
        json_member_bool(w, "use_parallel_residual", c->parallel);
}

/* is_special: [n_layers]; the others attend to all. */
static void put_layer_types(struct config_out *o, const uint8_t *is_special, const char *special)
{
    json_key(&o->w, "layer_types");
    json_begin_array(&o->w);
    for (int i = 0; i < o->c->n_layers; i++)
        json_put_cstr(&o->w, is_special[i] ? special : "full_attention");
    json_end_array(&o->w);
}

static void put_windows(struct config_out *o)
{
    const struct decoder_config *c = o->c;
    struct json_writer *w = &o->w;
    int full = 0;
    if (o->f->window_optional)
        json_member_bool(w, "use_sliding_window", c->window > 0);
    if (c->window == 0) {
        if (o->f->window > 0 || o->f->window_rule == WINDOW_ALL)
            json_member_null(w, "sliding_window");
        return;
    }
    json_member_int(w, "sliding_window", c->window);
    while (full < c->n_layers && !c->layer_windowed[full])
        full++;
    if (o->f->window_rule == WINDOW_FROM)
        json_member_int(w, "max_window_layers", full);
    if (o->f->window_rule == WINDOW_ALL)
        return;
    put_layer_types(o, c->layer_windowed, "sliding_attention");
    if (o->f->window_rule == WINDOW_PERIOD && o->f->window_period)
        json_member_int(w, "sliding_window_pattern", o->f->window_period);
}

/* The width is that of the MLP; mlx-lm wants all the members that a width may be made of. */
static void put_convs(struct config_out *o)
{
    const struct decoder_config *c = o->c;
    struct json_writer *w = &o->w;
    if (!o->f->convs)
        return;
    put_f32(o, "norm_eps", (double)c->norm_eps);
    json_member_int(w, "conv_L_cache", c->n_conv_taps > 0 ? c->n_conv_taps : 3);
    json_member_bool(w, "conv_bias", false);
    json_member_int(w, "block_dim", c->n_embd);
    json_member_int(w, "block_ff_dim", c->n_ff);
    json_member_bool(w, "block_auto_adjust_ff_dim", false);
    json_member_int(w, "block_ffn_dim_multiplier", 1);
    json_member_int(w, "block_multiple_of", 1);
    put_layer_types(o, c->layer_conv, "conv");
}

static void put_deltas(struct config_out *o)
{
    const struct decoder_config *c = o->c;
    const struct delta_params *p = &c->delta;
    struct json_writer *w = &o->w;
    if (!o->f->deltas)
        return;
    json_member_int(w, "full_attention_interval", export__full_period(c));
    put_layer_types(o, c->layer_delta, "linear_attention");
    json_member_int(w, "shared_expert_intermediate_size", c->n_ff_shared);
    if (p->n_taps == 0)
        return;
    json_member_int(w, "linear_conv_kernel_dim", p->n_taps);
    json_member_int(w, "linear_key_head_dim", p->k_dim);
    json_member_int(w, "linear_num_key_heads", p->n_k_heads);
    json_member_int(w, "linear_num_value_heads", p->n_v_heads);
    json_member_int(w, "linear_value_head_dim", p->v_dim);
}

static void put_attention(struct config_out *o)
{
    const struct decoder_config *c = o->c;
    if (o->f->folder.q_scalar > 0 || (!o->f->attn_unscaled && o->f->act == ACT_GELU_TANH && o->f->embd_scale_sqrt))
        put_f32(o, "query_pre_attn_scalar", round(1 / ((double)c->attn_scale * (double)c->attn_scale) * 1024) / 1024);
    if (o->f->attn_softcap != 0.0f || c->attn_softcap != 0.0f)
        put_real(o, "attn_logit_softcapping", (double)c->attn_softcap);
    if (o->f->final_softcap != 0.0f || c->final_softcap != 0.0f)
        put_real(o, "final_logit_softcapping", (double)c->final_softcap);
    if (o->f->logit_factor)
        put_f32(o, "logit_scale", (double)c->logit_scale);
    if (!o->f->multipliers)
        return;
    put_f32(o, "attention_multiplier", (double)c->attn_scale);
    put_f32(o, "embedding_multiplier", (double)c->embd_scale);
    put_f32(o, "residual_multiplier", (double)c->residual_scale);
    put_f32(o, "logits_scaling", 1 / (double)c->logit_scale);
}

static void put_experts(struct config_out *o)
{
    const struct decoder_config *c = o->c;
    struct json_writer *w = &o->w;
    if (c->n_experts == 0)
        return;
    json_member_int(w, o->f->experts_norm_asked ? "num_experts" : "num_local_experts", c->n_experts);
    json_member_int(w, "num_experts_per_tok", c->n_experts_used);
    if (!o->f->experts_norm_asked)
        return;
    json_member_int(w, "moe_intermediate_size", c->n_ff_expert);
    json_member_bool(w, "norm_topk_prob", c->expert_norm_weights);
    json_member_int(w, "decoder_sparse_step", 1);
    json_key(w, "mlp_only_layers");
    json_begin_array(w);
    for (int i = 0; i < c->n_layers; i++) {
        if (!c->layer_experts[i])
            json_put_int(w, i);
    }
    json_end_array(w);
}

static void put_streams(struct config_out *o)
{
    const struct decoder_config *c = o->c;
    struct json_writer *w = &o->w;
    if (!o->f->streams)
        return;
    json_member_int(w, "altup_num_inputs", c->n_streams);
    json_member_int(w, "altup_active_idx", c->active_stream);
    json_member_bool(w, "altup_correct_scale", c->stream_scaled);
    json_member_int(w, "laurel_rank", c->laurel_rank);
    json_member_int(w, "hidden_size_per_layer_input", c->n_layer_input);
    json_member_int(w, "vocab_size_per_layer_input", c->n_layer_vocab);
    json_member_int(w, "num_kv_shared_layers", c->n_kv_shared);
    json_key(w, "activation_sparsity_pattern"); /* shares: what of a normal distribution is below */
    json_begin_array(w);
    for (int i = 0; i < c->n_layers; i++)
        json_put_double(w, c->layer_sparse[i] ? 0.5 * erfc(-(double)c->sparsity[i] / sqrt(2)) : 0);
    json_end_array(w);
}

static void put_factors(struct config_out *o, const char *key, const char *tensor)
{
    const struct tensor_view *t = model_file_tensor(o->file, tensor);
    float values[EXPORT_MAX_DIVISORS];
    json_key(&o->w, key);
    json_begin_array(&o->w);
    if (t && t->n_dims == 1 && t->shape[0] <= EXPORT_MAX_DIVISORS)
        tensor_row_to_f32(t, 0, values);
    for (uint64_t i = 0; t && t->n_dims == 1 && t->shape[0] <= EXPORT_MAX_DIVISORS && i < t->shape[0]; i++)
        json_put_double(&o->w, (double)values[i]);
    json_end_array(&o->w);
}

static void put_scaling(struct config_out *o)
{
    const struct rope_scaling *s = &o->c->rope.scaling;
    struct json_writer *w = &o->w;
    if (s->kind == ROPE_SCALING_NONE)
        return;
    if (s->kind == ROPE_SCALING_LONGROPE)
        json_member_int(w, "original_max_position_embeddings", s->original_context);
    json_key(w, "rope_scaling");
    json_begin_object(w);
    const char *type = s->kind == ROPE_SCALING_LINEAR ? "linear" : s->kind == ROPE_SCALING_YARN ? "yarn" : "longrope";
    json_member_cstr(w, "rope_type", type);
    json_member_cstr(w, "type", type);
    if (s->kind == ROPE_SCALING_LONGROPE) {
        put_factors(o, "long_factor", ROPE_LONG_TENSOR);
        put_factors(o, "short_factor", ROPE_SHORT_TENSOR);
        put_f32(o, "attention_factor", s->attn_factor);
    } else {
        put_f32(o, "factor", s->factor);
    }
    if (s->kind == ROPE_SCALING_YARN) {
        json_member_int(w, "original_max_position_embeddings", s->original_context);
        put_f32(o, "beta_fast", s->beta_fast);
        put_f32(o, "beta_slow", s->beta_slow);
        put_f32(o, "attention_factor", s->attn_factor);
    }
    json_end_object(w);
}

static void put_rope(struct config_out *o)
{
    const struct decoder_config *c = o->c;
    struct json_writer *w = &o->w;
    put_f32(o, "rope_theta", c->rope.base);
    if (c->has_rope_local && o->f->rope_local_base != 0 && o->f->rope_local_base != c->rope.base)
        put_f32(o, "rope_local_base_freq", c->rope_local.base);
    if (c->rot_dim != c->k_dim)
        put_f32(o, "partial_rotary_factor", (double)c->rot_dim / c->k_dim);
    if (o->f->nope_period) {
        json_key(w, "no_rope_layers");
        json_begin_array(w);
        for (int i = 0; i < c->n_layers; i++)
            json_put_int(w, !c->layer_nope[i]);
        json_end_array(w);
    }
    put_scaling(o);
}

static void put_quantization(struct json_writer *w, const char *key, const struct export_module *modules, size_t n)
{
    const struct export_module *usual = &modules[0];
    for (size_t i = 1; i < n; i++)
        usual = modules[i].bits < usual->bits ? &modules[i] : usual;
    json_key(w, key);
    json_begin_object(w);
    json_member_int(w, "group_size", usual->group_size);
    json_member_int(w, "bits", usual->bits);
    json_member_cstr(w, "mode", "affine");
    for (size_t i = 0; i < n; i++) {
        if (modules[i].bits == usual->bits && modules[i].group_size == usual->group_size)
            continue;
        json_key(w, modules[i].name);
        json_begin_object(w);
        json_member_int(w, "group_size", modules[i].group_size);
        json_member_int(w, "bits", modules[i].bits);
        json_end_object(w);
    }
    json_end_object(w);
}

static const char *torch_type(enum dtype type)
{
    return type == DTYPE_F32 ? "float32" : type == DTYPE_BF16 ? "bfloat16" : "float16";
}

/* The folder's own members, but for those that are written anew. */
static bool put_own(struct config_out *o, struct error *err)
{
    static const char *const anew[] = {"quantization", "quantization_config", "torch_dtype", "dtype"};
    struct json *root = json_parse(model_file_document(o->file, "config.json"), CONFIG_DEPTH, err);
    if (!root)
        return error_wrap(err, "config.json");
    struct json_iter it = json_members(root);
    while (json_next(&it)) {
        bool skip = false;
        for (size_t i = 0; i < sizeof(anew) / sizeof(anew[0]); i++)
            skip = skip || str_eq(it.key, str_of(anew[i]));
        if (!skip)
            json_member_json(&o->w, it.key.ptr, it.value);
    }
    json_free(root);
    return true;
}

bool export__config_json(const struct model_file *file, const struct decoder_config *c,
                         const struct decoder_family *family, enum dtype floats, const struct export_module *modules,
                         size_t n, struct buf *out, struct error *err)
{
    struct config_out o = {json_writer(out), c, family, file};
    json_begin_object(&o.w);
    if (model_file_is_folder(file)) {
        if (!put_own(&o, err))
            return false;
    } else {
        put_shape(&o);
        put_attention(&o);
        put_windows(&o);
        put_streams(&o);
        put_convs(&o);
        put_deltas(&o);
        put_experts(&o);
        put_rope(&o);
        put_ids(&o);
    }
    json_member_cstr(&o.w, "torch_dtype", torch_type(floats));
    if (n > 0) { /* MLX writes both */
        put_quantization(&o.w, "quantization", modules, n);
        put_quantization(&o.w, "quantization_config", modules, n);
    }
    json_end_object(&o.w);
    return buf_ok(out, "config.json", err);
}
