/* Metadata to decoder configuration over arbitrary files: what is taken has to be within the bounds that the decoder
 * and the backends rely on. */
#include "model/model.h"

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
}

static void check_numbers(const struct decoder_config *c)
{
    require(isfinite(c->norm_eps) && c->norm_eps >= 0 && isfinite(c->attn_scale));
    require(isfinite(c->attn_softcap) && c->attn_softcap >= 0 && isfinite(c->final_softcap) && c->final_softcap >= 0);
}

static void check_angles(const struct decoder_config *c, const struct rope_config *rope)
{
    float *out = malloc((size_t)c->rot_dim / 2 * sizeof(*out));
    require(out != NULL);
    require(isfinite(rope_inv_freq(rope, c->rot_dim, c->n_context, NULL, out)));
    for (int i = 0; i < c->rot_dim / 2; i++)
        require(isfinite(out[i]) && out[i] >= 0);
    free(out);
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
    require(layers == c->n_layers);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const specs[] = {"none", "linear:2", "llama3:8", "yarn:4:64"};
    struct error err = {0};
    struct decoder_config c;
    struct model_file *f = model_file_open_memory(data, size, &err);
    if (!f)
        return 0;
    if (decoder_config_read(f, &c, &err)) {
        check_shape(&c);
        check_numbers(&c);
        check_groups(&c);
        check_angles(&c, &c.rope);
        if (c.has_rope_local)
            check_angles(&c, &c.rope_local);
        if (decoder_config_rope_scaling(&c, specs[size % 4], &err))
            check_angles(&c, &c.rope);
    }
    model_file_close(f);
    return 0;
}
