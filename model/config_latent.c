/* Multi-head latent attention. Files say the shapes of heads and latents; K and V, as they are kept, follow from them.
 *
 * GGUF files come in two kinds: older ones state K and V of each head (attention.key_length, value_length) and have
 * attn_kv_b; newer ones state there what is kept, the heads' own in key_length_mla and value_length_mla, and have
 * attn_kv_b in two halves. */
#include "model/config_internal.h"

static bool read_heads(struct config_reader *r, struct decoder_config *c)
{
    int k;
    if (!config_int(r, KEY_HEAD_ROPE, CONFIG_MAX_HEAD_DIM, &c->rot_dim))
        return false;
    if (r->folder)
        return config_int(r, KEY_HEAD_NOPE, CONFIG_MAX_HEAD_DIM, &c->nope_dim) &&
               config_int(r, KEY_HEAD_V, CONFIG_MAX_HEAD_DIM, &c->head_v_dim);
    bool newer = config_has(r, KEY_HEAD_K);
    if (!config_int(r, newer ? KEY_HEAD_K : KEY_K_DIM, CONFIG_MAX_HEAD_DIM, &k))
        return false;
    if (k <= c->rot_dim)
        return error_set(r->err, ERR_FORMAT, "The metadata %s is %d; it has to be more than the %d that rotate.",
                         r->key, k, c->rot_dim);
    c->nope_dim = k - c->rot_dim;
    return config_int(r, newer ? KEY_HEAD_V : KEY_V_DIM, CONFIG_MAX_HEAD_DIM, &c->head_v_dim);
}

bool config_latent(struct config_reader *r, struct decoder_config *c)
{
    if (!read_heads(r, c) || !config_int(r, KEY_LATENT, CONFIG_MAX_HEAD_DIM, &c->n_latent) ||
        !config_int_or(r, KEY_Q_LATENT, 0, CONFIG_MAX_EMBD, 0, &c->n_q_latent) ||
        !config_int_or(r, KEY_EXTRA_LAYERS, 0, MODEL_MAX_LAYERS, 0, &c->n_extra_layers))
        return false;
    if (c->rot_dim % 2 != 0)
        return error_set(r->err, ERR_FORMAT, "RoPE rotates pairs, but the number of dimensions, %d, is odd.",
                         c->rot_dim);
    c->latent = true;
    c->q_latent = c->n_q_latent > 0;
    c->n_kv_heads = 1;
    c->k_dim = c->n_latent + c->rot_dim;
    c->v_dim = c->n_latent;
    return true;
}
