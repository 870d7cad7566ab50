/* A folder's configuration as GGUF's metadata, by the names that config_keys.c reads. What a family's reader takes for
 * granted is not written, so that llama.cpp, which takes the same for granted, sees nothing new. */
#include "model/export_internal.h"

#include <math.h>
#include <stdio.h>

struct meta_out {
    struct gguf_writer *w;
    const struct decoder_config *c;
    const struct decoder_family *family;
};

static const char *name_of(const struct meta_out *m, enum config_key key, char *buf, size_t size)
{
    snprintf(buf, size, "%s.%s", m->family->gguf, config_key_gguf(key));
    return buf;
}

static void put_int(const struct meta_out *m, enum config_key key, int64_t v)
{
    char name[128];
    gguf_put_int(m->w, name_of(m, key, name, sizeof(name)), GGUF_U32, v);
}

static void put_float(const struct meta_out *m, enum config_key key, double v)
{
    char name[128];
    gguf_put_float(m->w, name_of(m, key, name, sizeof(name)), GGUF_F32, v);
}

static void put_float_unless(const struct meta_out *m, enum config_key key, double v, double usual)
{
    if ((float)v != (float)usual)
        put_float(m, key, v);
}

/* Of layers that convolve: 0. */
static void put_kv_heads(const struct meta_out *m)
{
    const struct decoder_config *c = m->c;
    int32_t heads[MODEL_MAX_LAYERS];
    char name[128];
    if (!m->family->convs) {
        put_int(m, KEY_KV_HEADS, c->n_kv_heads);
        return;
    }
    for (int i = 0; i < c->n_layers; i++)
        heads[i] = c->layer_conv[i] ? 0 : c->n_kv_heads;
    gguf_put_array(m->w, name_of(m, KEY_KV_HEADS, name, sizeof(name)), GGUF_I32, heads, (size_t)c->n_layers);
    if (c->n_conv_taps > 0)
        put_int(m, KEY_CONV_TAPS, c->n_conv_taps);
}

static void put_shape(const struct meta_out *m)
{
    const struct decoder_config *c = m->c;
    char name[128];
    put_int(m, KEY_LAYERS, c->n_layers);
    put_int(m, KEY_CONTEXT, c->n_context);
    put_int(m, KEY_EMBD, c->n_embd);
    put_int(m, KEY_FF, c->n_ff);
    put_int(m, KEY_HEADS, c->n_heads);
    put_kv_heads(m);
    put_int(m, KEY_K_DIM, c->k_dim);
    put_int(m, KEY_V_DIM, c->v_dim);
    put_float(m, c->norm_kind == NORM_LAYER ? KEY_LAYER_NORM_EPS : KEY_NORM_EPS, (double)c->norm_eps);
    snprintf(name, sizeof(name), "%s.vocab_size", m->family->gguf);
    gguf_put_int(m->w, name, GGUF_U32, c->n_vocab);
}

static void put_attention(const struct meta_out *m)
{
    const struct decoder_config *c = m->c;
    const struct decoder_family *f = m->family;
    double divisor = c->n_layers == f->attn_scale_embd_layers ? (double)c->n_embd / c->n_heads : c->k_dim;
    put_float_unless(m, KEY_ATTN_SCALE, (double)c->attn_scale, f->attn_unscaled ? 1 : 1 / sqrt(divisor));
    put_float_unless(m, KEY_ATTN_SOFTCAP, (double)c->attn_softcap, (double)f->attn_softcap);
    put_float_unless(m, KEY_FINAL_SOFTCAP, (double)c->final_softcap, (double)f->final_softcap);
    if (f->logit_factor)
        put_float(m, KEY_LOGIT_FACTOR, (double)c->logit_scale);
    if (f->multipliers || f->depth_scales) {
        put_float(m, KEY_EMBD_SCALE, (double)c->embd_scale);
        put_float(m, KEY_RESIDUAL_SCALE, (double)c->residual_scale);
        put_float(m, KEY_LOGIT_DIVISOR, 1 / (double)c->logit_scale);
    }
}

static void put_windows(const struct meta_out *m)
{
    const struct decoder_config *c = m->c;
    uint8_t flags[MODEL_MAX_LAYERS];
    bool usual = true;
    int period = m->family->window_period;
    char name[128];
    if (c->window == 0)
        return;
    put_int(m, KEY_WINDOW, c->window);
    for (int i = 0; i < c->n_layers; i++) {
        flags[i] = c->layer_windowed[i] != 0;
        usual = usual && (flags[i] != 0) == (period == 0 || i % period < period - 1);
    }
    if (!usual)
        gguf_put_array(m->w, name_of(m, KEY_WINDOW_PERIOD, name, sizeof(name)), GGUF_BOOL, flags, (size_t)c->n_layers);
}

static void put_streams(const struct meta_out *m)
{
    const struct decoder_config *c = m->c;
    float sparsity[MODEL_MAX_LAYERS];
    char name[128];
    if (!m->family->streams)
        return;
    for (int i = 0; i < c->n_layers; i++)
        sparsity[i] = c->layer_sparse[i] ? c->sparsity[i] : -INFINITY;
    put_int(m, KEY_STREAMS, c->n_streams);
    put_int(m, KEY_STREAM_ACTIVE, c->active_stream);
    put_int(m, KEY_LAYER_INPUT, c->n_layer_input);
    put_int(m, KEY_KV_SHARED, c->n_kv_shared);
    gguf_put_array(m->w, name_of(m, KEY_SPARSITY, name, sizeof(name)), GGUF_F32, sparsity, (size_t)c->n_layers);
}

int export__full_period(const struct decoder_config *c)
{
    int period = 1;
    while (period < c->n_layers && c->layer_delta[period - 1])
        period++;
    return period;
}

/* GGUF has no word for layers that attend in another order. */
static bool is_periodic(const struct decoder_config *c)
{
    int period = export__full_period(c);
    for (int i = 0; i < c->n_layers; i++) {
        if ((c->layer_delta[i] != 0) != (i % period != period - 1))
            return false;
    }
    return true;
}

static void put_deltas(const struct meta_out *m)
{
    const struct decoder_config *c = m->c;
    const struct delta_params *p = &c->delta;
    if (!m->family->deltas)
        return;
    put_int(m, KEY_FULL_PERIOD, export__full_period(c));
    if (c->n_ff_shared > 0)
        put_int(m, KEY_SHARED_FF, c->n_ff_shared);
    if (p->n_taps == 0)
        return;
    put_int(m, KEY_DELTA_TAPS, p->n_taps);
    put_int(m, KEY_DELTA_K_DIM, p->k_dim);
    put_int(m, KEY_DELTA_K_HEADS, p->n_k_heads);
    put_int(m, KEY_DELTA_V_HEADS, p->n_v_heads);
    put_int(m, KEY_DELTA_VALUES, p->n_v_heads * p->v_dim);
}

/* Those that come before the first with experts, which llama.cpp goes by. */
static void put_dense_layers(const struct meta_out *m)
{
    char name[128];
    int dense = 0;
    while (dense < m->c->n_layers && !m->c->layer_experts[dense])
        dense++;
    snprintf(name, sizeof(name), "%s.leading_dense_block_count", m->family->gguf);
    if (m->family->convs)
        gguf_put_int(m->w, name, GGUF_U32, dense);
}

static void put_experts(const struct meta_out *m)
{
    const struct decoder_config *c = m->c;
    char name[128];
    if (c->n_experts == 0)
        return;
    put_int(m, KEY_EXPERTS, c->n_experts);
    put_int(m, KEY_EXPERTS_USED, c->n_experts_used);
    if (c->n_ff_expert != c->n_ff || m->family->experts_norm_asked)
        put_int(m, KEY_EXPERT_FF, c->n_ff_expert);
    if (m->family->experts_norm_asked)
        gguf_put_bool(m->w, name_of(m, KEY_EXPERT_NORM, name, sizeof(name)), c->expert_norm_weights);
    put_float_unless(m, KEY_EXPERT_SCALE, (double)c->expert_scale, 1);
    if (c->expert_score == MOE_SIGMOID)
        put_int(m, KEY_EXPERT_GATING, 2);
    put_dense_layers(m);
}

static void put_yarn(const struct meta_out *m, const struct rope_scaling *s)
{
    double usual = s->factor <= 1 ? 1 : 0.1 * log(s->factor) + 1;
    put_float_unless(m, KEY_YARN_FAST, s->beta_fast, 32);
    put_float_unless(m, KEY_YARN_SLOW, s->beta_slow, 1);
    put_float_unless(m, KEY_YARN_EXT, s->ext_factor, 1);
    put_float_unless(m, KEY_YARN_ATTN_FACTOR, s->attn_factor, usual);
}

/* Llama 3's scaling is a tensor of divisors; LongRoPE's kind shows in its tensors. */
static void put_rope(const struct meta_out *m)
{
    const struct decoder_config *c = m->c;
    const struct rope_scaling *s = &c->rope.scaling;
    char name[128];
    const char *type = s->kind == ROPE_SCALING_LINEAR ? "linear" : s->kind == ROPE_SCALING_YARN ? "yarn" : NULL;
    put_int(m, KEY_ROT_DIM, c->rot_dim);
    put_float(m, KEY_ROPE_BASE, c->rope.base);
    if (c->has_rope_local)
        put_float_unless(m, KEY_ROPE_LOCAL_BASE, c->rope_local.base, m->family->rope_local_base);
    if (type) {
        gguf_put_str(m->w, name_of(m, KEY_ROPE_TYPE, name, sizeof(name)), str_of(type));
        put_float(m, KEY_ROPE_FACTOR, s->factor);
    }
    if (s->kind == ROPE_SCALING_YARN || s->kind == ROPE_SCALING_LONGROPE)
        put_int(m, KEY_ROPE_ORIGINAL, s->original_context);
    if (s->kind == ROPE_SCALING_YARN)
        put_yarn(m, s);
    if (s->kind == ROPE_SCALING_LONGROPE)
        put_float(m, KEY_LONGROPE_ATTN_FACTOR, s->attn_factor);
}

static struct str model_name(const struct model_file *file)
{
    struct str path = str_of(model_file_path(file)), name = meta_str_or(file, "config._name_or_path", STR(""));
    size_t at;
    name = name.len ? name : path;
    while (name.len > 1 && name.ptr[name.len - 1] == '/')
        name.len--;
    while ((at = str_find_char(name, '/')) != STR_NPOS && at + 1 < name.len)
        name = str_slice(name, at + 1, name.len);
    return name;
}

bool export__gguf_metadata(const struct model_file *file, const struct decoder_config *c,
                           const struct decoder_family *family, struct gguf_writer *w, struct error *err)
{
    struct meta_out m = {w, c, family};
    if (c->rope.scaling.kind == ROPE_SCALING_LLAMA3 && c->rot_dim / 2 > EXPORT_MAX_DIVISORS)
        return error_set(err, ERR_UNSUPPORTED, "RoPE over %d dimensions is not written.", c->rot_dim);
    if (family->streams && !c->stream_scaled)
        return error_set(err, ERR_UNSUPPORTED, "GGUF has no word for streams that are not scaled.");
    if (family->deltas && !is_periodic(c))
        return error_set(err, ERR_UNSUPPORTED, "GGUF has no word for layers that attend, but not by a period.");
    gguf_put_str(w, "general.architecture", str_of(family->gguf));
    gguf_put_str(w, "general.name", model_name(file));
    put_shape(&m);
    put_attention(&m);
    put_windows(&m);
    put_streams(&m);
    put_deltas(&m);
    put_experts(&m);
    put_rope(&m);
    return true;
}

/* As the converter of GGUF files works them out, in f64. */
void export__llama3_divisors(const struct rope_config *rope, int rot_dim, float *out)
{
    const struct rope_scaling *s = &rope->scaling;
    double low = s->original_context / s->low_freq_factor, high = s->original_context / s->high_freq_factor;
    for (int i = 0; i < rot_dim / 2; i++) {
        double freq = 1 / pow(rope->base, 2.0 * i / rot_dim), length = 2 * 3.14159265358979323846 / freq;
        double smooth =
            (s->original_context / length - s->low_freq_factor) / (s->high_freq_factor - s->low_freq_factor);
        out[i] = length < high ? 1 : length > low ? (float)s->factor : (float)(1 / ((1 - smooth) / s->factor + smooth));
    }
}
