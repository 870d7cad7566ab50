/* Metadata to decoder configuration over arbitrary GGUF files and, where the input begins as JSON does, over arbitrary
 * config.json: what is taken has to be within the bounds that the decoder and the backends rely on. */
#include "model/config_internal.h"
#include "tensor/model_folder.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
    if (!ok)
        abort();
}

static void check_shape(const struct decoder_config *c)
{
    require(c->n_layers >= 1 && c->n_layers <= MODEL_MAX_LAYERS && c->n_embd >= 1 && c->n_ff >= 1 && c->n_vocab >= 1);
    require(c->n_heads >= 1 && c->n_kv_heads >= 1 && c->n_heads % c->n_kv_heads == 0);
    require(c->k_dim >= 2 && c->v_dim >= 1 && c->rot_dim >= 2 && c->rot_dim % 2 == 0 && c->rot_dim <= c->k_dim);
    require((int64_t)c->n_heads * c->k_dim <= INT32_MAX && (int64_t)c->n_heads * c->v_dim <= INT32_MAX);
    require(c->n_context >= 1 && c->window >= 0);
    require(c->n_experts >= 0 && c->n_experts <= MODEL_MAX_EXPERTS);
    if (c->n_experts > 0) {
        require(c->n_experts_used >= 1 && c->n_experts_used <= c->n_experts && c->n_ff_expert >= 1);
        require((int64_t)c->n_experts * c->n_ff_expert <= INT32_MAX);
        require((int64_t)c->n_experts * c->n_embd <= INT32_MAX);
    }
}

static void check_convs(const struct decoder_config *c)
{
    int n_attending = 0;
    for (int i = 0; i < c->n_layers; i++) {
        n_attending += !c->layer_conv[i] && !c->layer_delta[i];
        require(!c->layer_conv[i] || (c->n_conv_taps >= 2 && c->n_conv_taps <= MAX_CONV_TAPS));
    }
    require(n_attending > 0);
}

static void check_deltas(const struct decoder_config *c)
{
    const struct delta_params *p = &c->delta;
    bool any = false;
    for (int i = 0; i < c->n_layers; i++)
        any = any || c->layer_delta[i];
    require(any == (p->n_taps > 0));
    if (!any)
        return;
    require(p->n_taps >= 2 && p->n_taps <= MAX_CONV_TAPS && p->n_k_heads >= 1 && p->n_v_heads % p->n_k_heads == 0);
    require(p->k_dim >= 1 && p->v_dim >= 1 && delta_state_size(p) > 0);
    require(2 * (int64_t)p->n_k_heads * p->k_dim + (int64_t)p->n_v_heads * p->v_dim <= INT32_MAX);
}

static void check_latent(const struct decoder_config *c)
{
    require(c->n_kv_heads == 1 && c->v_dim == c->n_latent && c->k_dim == c->n_latent + c->rot_dim);
    require(c->n_latent >= 1 && c->nope_dim >= 1 && c->head_v_dim >= 1 && c->n_q_latent >= 0);
    require((int64_t)c->n_heads * (c->nope_dim + c->rot_dim) <= INT32_MAX);
    require(c->q_latent == (c->n_q_latent > 0) && c->n_extra_layers >= 0);
}

static void check_streams(const struct decoder_config *c)
{
    struct kv_group_spec groups[KV_MAX_GROUPS];
    uint8_t group[MODEL_MAX_LAYERS];
    uint16_t index[MODEL_MAX_LAYERS];
    int n_groups = decoder_kv_groups(c, KV_F16, groups, group, index);
    require(c->n_kv_shared >= 0 && c->n_kv_shared < c->n_layers);
    for (int i = 0; i < c->n_layers; i++)
        require(group[i] < n_groups && index[i] < groups[group[i]].n_layers && isfinite(c->sparsity[i]));
    if (c->n_streams == 0)
        return;
    require(c->n_streams >= 2 && c->n_streams <= MAX_STREAMS && c->active_stream < c->n_streams);
    require(c->active_stream >= 0 && c->laurel_rank >= 1 && c->n_layer_input >= 1 && c->n_layer_vocab >= 1);
    require((int64_t)c->n_layers * c->n_layer_input <= INT32_MAX && (int64_t)c->n_streams * c->n_embd <= INT32_MAX);
}

static void check_routing(const struct decoder_config *c)
{
    require(!c->shared_expert || c->n_ff_shared >= 1);
    if (c->expert_groups == 0)
        return;
    int size = c->n_experts / c->expert_groups;
    require(c->n_experts % c->expert_groups == 0 && c->expert_group_top >= 1 && c->expert_group_top <= size);
    require(c->expert_groups_used >= 1 && c->expert_groups_used < c->expert_groups);
    require(c->n_experts_used <= c->expert_groups_used * size);
}

static void check_numbers(const struct decoder_config *c)
{
    require(isfinite(c->temper_scale) && c->temper_scale >= 0 && (c->temper_scale == 0 || c->temper_length >= 1));
    require(isfinite(c->norm_eps) && c->norm_eps >= 0 && isfinite(c->attn_scale));
    require(isfinite(c->embd_scale) && isfinite(c->residual_scale) && isfinite(c->logit_scale));
    require(c->n_experts == 0 || (isfinite(c->expert_scale) && c->expert_scale > 0));
    require(isfinite(c->attn_softcap) && c->attn_softcap >= 0 && isfinite(c->final_softcap) && c->final_softcap >= 0);
}

static void check_angles(const struct decoder_config *c, const struct rope_config *rope, const float *divisors)
{
    float *out = malloc((size_t)c->rot_dim / 2 * sizeof(*out));
    require(out != NULL);
    require(isfinite(rope_inv_freq(rope, c->rot_dim, c->n_context, divisors, out)));
    for (int i = 0; i < c->rot_dim / 2; i++)
        require(out[i] >= 0 && (divisors || isfinite(out[i])));
    free(out);
}

static void check_global_angles(const struct decoder_config *c, const struct model_file *f)
{
    struct error err = {0};
    float *divisors = malloc((size_t)c->rot_dim / 2 * sizeof(*divisors));
    int n;
    require(divisors != NULL);
    if (rope_divisors(c, f, 0, divisors, &n, &err))
        check_angles(c, &c->rope, n > 0 ? divisors : NULL);
    free(divisors);
}

static void check_groups(const struct decoder_config *c)
{
    struct kv_group_spec groups[KV_MAX_GROUPS];
    uint8_t group[MODEL_MAX_LAYERS];
    uint16_t index[MODEL_MAX_LAYERS];
    int n = decoder_kv_groups(c, KV_F16, groups, group, index), layers = 0;
    require(n >= 1 && n <= KV_MAX_GROUPS);
    for (int i = 0; i < n; i++)
        layers += groups[i].n_layers;
    require(layers == c->n_layers - c->n_kv_shared);
}

/* A folder with this config.json and an embedding of 320 rows. */
static struct model_file *open_config(const uint8_t *data, size_t size, char weights[512])
{
    static const char header[] = "{\"model.embed_tokens.weight\":{\"dtype\":\"U8\",\"shape\":[320,1],"
                                 "\"data_offsets\":[0,320]}}";
    struct error err = {0};
    uint64_t n = sizeof(header) - 1;
    memset(weights, 0, 512);
    memcpy(weights, &n, 8);
    memcpy(weights + 8, header, n);
    struct model_folder_file files[] = {{"config.json", {(const char *)data, size}},
                                        {"model.safetensors", {weights, 8 + n + 320}}};
    return model_folder_open_memory(files, 2, &err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const specs[] = {"none", "linear:2", "llama3:8", "yarn:4:64"};
    struct error err = {0};
    struct decoder_config c;
    char weights[512];
    bool json = size > 0 && data[0] == '{';
    struct model_file *f = json ? open_config(data, size, weights) : model_file_open_memory(data, size, &err);
    if (!f)
        return 0;
    if (decoder_config_read(f, &c, &err)) {
        check_shape(&c);
        check_streams(&c);
        check_convs(&c);
        check_deltas(&c);
        check_routing(&c);
        if (c.latent)
            check_latent(&c);
        check_numbers(&c);
        check_groups(&c);
        check_global_angles(&c, f);
        if (c.has_rope_local)
            check_angles(&c, &c.rope_local, NULL);
        if (decoder_config_rope_scaling(&c, specs[size % 4], &err))
            check_angles(&c, &c.rope, NULL);
    }
    model_file_close(f);
    return 0;
}
