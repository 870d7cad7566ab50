/* Names of tensors. GGUF standardizes them for all families; folders have those of the classes of transformers, of
 * older checkpoints of the same model, and of mlx-lm, which stacks experts under switch_mlp. */
#include "model/family.h"

#include "base/array.h"
#include "base/limits.h"

#include <stdio.h>

static const struct weight_row gguf_rows[] = {
    {"token_embd.weight", {PART_EMBD}},
    {"output_norm.weight", {PART_OUTPUT_NORM}},
    {"output_norm.bias", {PART_OUTPUT_NORM_BIAS}},
    {"output.weight", {PART_OUTPUT}},
    {"attn_norm.weight", {PART_ATTN_NORM}},
    {"attn_norm.bias", {PART_ATTN_NORM_BIAS}},
    {"shortconv.in_proj.weight", {PART_CONV_IN}},
    {"shortconv.conv.weight", {PART_CONV_TAPS}},
    {"shortconv.out_proj.weight", {PART_CONV_OUT}},
    {"attn_q.weight", {PART_Q}},
    {"attn_k.weight", {PART_K}},
    {"attn_v.weight", {PART_V}},
    {"attn_qkv.weight", {PART_Q, PART_K, PART_V}},
    {"ssm_ba.weight", {PART_DELTA_GATES}},
    {"ssm_conv1d.weight", {PART_DELTA_TAPS}},
    {"ssm_a", {PART_DELTA_RATE}},
    {"ssm_dt.bias", {PART_DELTA_BIAS}},
    {"ssm_norm.weight", {PART_DELTA_NORM}},
    {"ssm_out.weight", {PART_DELTA_OUT}},
    {"attn_q.bias", {PART_Q_BIAS}},
    {"attn_k.bias", {PART_K_BIAS}},
    {"attn_v.bias", {PART_V_BIAS}},
    {"attn_qkv.bias", {PART_Q_BIAS, PART_K_BIAS, PART_V_BIAS}},
    {"attn_q_norm.weight", {PART_Q_NORM}},
    {"attn_k_norm.weight", {PART_K_NORM}},
    {"attn_sinks.weight", {PART_SINKS}},
    {"attn_q_a.weight", {PART_Q_LATENT}},
    {"attn_q_a_norm.weight", {PART_Q_LATENT_NORM}},
    {"attn_q_b.weight", {PART_Q_OF_LATENT}},
    {"attn_kv_a_mqa.weight", {PART_KV_LATENT}},
    {"attn_kv_a_norm.weight", {PART_KV_LATENT_NORM}},
    {"attn_k_b.weight", {PART_K_OF_LATENT}},
    {"attn_v_b.weight", {PART_V_OF_LATENT}},
    {"attn_kv_b.weight", {PART_K_OF_LATENT, PART_V_OF_LATENT}},
    {"attn_output.weight", {PART_ATTN_OUT}},
    {"attn_output.bias", {PART_ATTN_OUT_BIAS}},
    {"post_attention_norm.weight", {PART_ATTN_POST_NORM}},
    {"ffn_norm.weight", {PART_MLP_NORM}},
    {"ffn_norm.bias", {PART_MLP_NORM_BIAS}},
    {"ffn_gate.weight", {PART_GATE}},
    {"ffn_up.weight", {PART_UP}},
    {"ffn_up.bias", {PART_UP_BIAS}},
    {"ffn_down.weight", {PART_DOWN}},
    {"ffn_down.bias", {PART_DOWN_BIAS}},
    {"post_ffw_norm.weight", {PART_MLP_POST_NORM}},
    {"ffn_gate_inp.weight", {PART_ROUTER}},
    {"ffn_gate_inp.bias", {PART_ROUTER_BIAS}},
    {"exp_probs_b.bias", {PART_CHOICE_BIAS}},
    {"ffn_gate_exps.weight", {PART_EXPERT_GATE}},
    {"ffn_up_exps.weight", {PART_EXPERT_UP}},
    {"ffn_gate_up_exps.weight", {PART_EXPERT_GATE, PART_EXPERT_UP}},
    {"ffn_down_exps.weight", {PART_EXPERT_DOWN}},
    {"ffn_gate_exps.bias", {PART_EXPERT_GATE_BIAS}},
    {"ffn_up_exps.bias", {PART_EXPERT_UP_BIAS}},
    {"ffn_down_exps.bias", {PART_EXPERT_DOWN_BIAS}},
    {"ffn_gate_shexp.weight", {PART_SHARED_GATE}},
    {"ffn_up_shexp.weight", {PART_SHARED_UP}},
    {"ffn_down_shexp.weight", {PART_SHARED_DOWN}},
    {"ffn_gate_inp_shexp.weight", {PART_SHARED_ROUTER}},
    {"per_layer_token_embd.weight", {PART_LAYER_EMBD}},
    {"per_layer_model_proj.weight", {PART_LAYER_PROJ}},
    {"per_layer_proj_norm.weight", {PART_LAYER_PROJ_NORM}},
    {"altup_proj.weight", {PART_STREAMS_IN}},
    {"altup_unembd_proj.weight", {PART_STREAMS_OUT}},
    {"altup_router.weight", {PART_STREAM_ROUTER}},
    {"altup_router_norm.weight", {PART_STREAM_ROUTER_NORM}},
    {"altup_predict_coef.weight", {PART_STREAM_PREDICT}},
    {"altup_correct_coef.weight", {PART_STREAM_CORRECT}},
    {"altup_correct_scale.weight", {PART_STREAM_SCALE}},
    {"laurel_l.weight", {PART_LAUREL_LEFT}},
    {"laurel_r.weight", {PART_LAUREL_RIGHT}},
    {"laurel_post_norm.weight", {PART_LAUREL_NORM}},
    {"inp_gate.weight", {PART_INPUT_GATE}},
    {"proj.weight", {PART_INPUT_PROJ}},
    {"post_norm.weight", {PART_INPUT_NORM}},
    {"ffn_gate.*.weight", {PART_EXPERT_GATE}}, /* the first conversions of Mixtral */
    {"ffn_up.*.weight", {PART_EXPERT_UP}},
    {"ffn_down.*.weight", {PART_EXPERT_DOWN}},
};

static const char *const gguf_unused[] = {
    "rope_freqs.weight",          /* read apart from the weights, see rope_divisors */
    "rope_factors_long.weight",   /* likewise */
    "rope_factors_short.weight",  /* likewise */
    "blk.*.rope_freqs.weight",    /* older files repeat it in each layer */
    "blk.*.attn_rot_embd.weight", /* inverse frequencies of old conversions, equal to the computed ones */
    "blk.*.attn.rotary_emb.inv_freq",
    "blk.*.attn_kv_b.weight", /* beside its two halves */
    NULL,
};

/* Norms are not here: one name means different norms in different families. */
static const struct weight_row folder_rows[] = {
    {"embed_tokens.weight", {PART_EMBD}},
    {"norm.weight", {PART_OUTPUT_NORM}},
    {"norm.bias", {PART_OUTPUT_NORM_BIAS}},
    {"lm_head.weight", {PART_OUTPUT}},
    {"input_layernorm.weight", {PART_ATTN_NORM}},
    {"input_layernorm.bias", {PART_ATTN_NORM_BIAS}},
    {"self_attn.q_proj.weight", {PART_Q}},
    {"self_attn.k_proj.weight", {PART_K}},
    {"self_attn.v_proj.weight", {PART_V}},
    {"self_attn.qkv_proj.weight", {PART_Q, PART_K, PART_V}},
    {"self_attn.q_proj.bias", {PART_Q_BIAS}},
    {"self_attn.k_proj.bias", {PART_K_BIAS}},
    {"self_attn.v_proj.bias", {PART_V_BIAS}},
    {"self_attn.q_norm.weight", {PART_Q_NORM}},
    {"self_attn.k_norm.weight", {PART_K_NORM}},
    {"self_attn.sinks", {PART_SINKS}},
    {"self_attn.q_a_proj.weight", {PART_Q_LATENT}},
    {"self_attn.q_a_layernorm.weight", {PART_Q_LATENT_NORM}},
    {"self_attn.q_b_proj.weight", {PART_Q_OF_LATENT}},
    {"self_attn.kv_a_proj_with_mqa.weight", {PART_KV_LATENT}},
    {"self_attn.kv_a_layernorm.weight", {PART_KV_LATENT_NORM}},
    {"self_attn.kv_b_proj.weight", {PART_K_OF_LATENT, PART_V_OF_LATENT}},
    {"self_attn.embed_q.weight", {PART_K_OF_LATENT}}, /* mlx-lm */
    {"self_attn.unembed_out.weight", {PART_V_OF_LATENT}},
    {"self_attn.o_proj.weight", {PART_ATTN_OUT}},
    {"self_attn.o_proj.bias", {PART_ATTN_OUT_BIAS}},
    {"mlp.gate_proj.weight", {PART_GATE}},
    {"mlp.up_proj.weight", {PART_UP}},
    {"mlp.gate_up_proj.weight", {PART_GATE, PART_UP}},
    {"mlp.up_proj.bias", {PART_UP_BIAS}},
    {"mlp.down_proj.weight", {PART_DOWN}},
    {"mlp.down_proj.bias", {PART_DOWN_BIAS}},
    {"mlp.gate.weight", {PART_ROUTER}},
    {"mlp.gate.e_score_correction_bias", {PART_CHOICE_BIAS}},
    {"mlp.e_score_correction_bias", {PART_CHOICE_BIAS}}, /* mlx-lm */
    {"mlp.shared_expert.gate_proj.weight", {PART_SHARED_GATE}},
    {"mlp.shared_expert.up_proj.weight", {PART_SHARED_UP}},
    {"mlp.shared_expert.down_proj.weight", {PART_SHARED_DOWN}},
    {"mlp.shared_expert_gate.weight", {PART_SHARED_ROUTER}},
    {"mlp.experts.*.gate_proj.weight", {PART_EXPERT_GATE}},
    {"mlp.experts.*.up_proj.weight", {PART_EXPERT_UP}},
    {"mlp.experts.*.down_proj.weight", {PART_EXPERT_DOWN}},
    {"mlp.experts.gate_up_proj", {PART_EXPERT_GATE, PART_EXPERT_UP}}, /* transformers 5 */
    {"mlp.experts.down_proj", {PART_EXPERT_DOWN}},
    {"mlp.switch_mlp.gate_proj.weight", {PART_EXPERT_GATE}}, /* mlx-lm */
    {"mlp.switch_mlp.up_proj.weight", {PART_EXPERT_UP}},
    {"mlp.switch_mlp.down_proj.weight", {PART_EXPERT_DOWN}},
    {"block_sparse_moe.gate.weight", {PART_ROUTER}}, /* Mixtral */
    {"block_sparse_moe.experts.*.w1.weight", {PART_EXPERT_GATE}},
    {"block_sparse_moe.experts.*.w3.weight", {PART_EXPERT_UP}},
    {"block_sparse_moe.experts.*.w2.weight", {PART_EXPERT_DOWN}},
    {"block_sparse_moe.switch_mlp.gate_proj.weight", {PART_EXPERT_GATE}},
    {"block_sparse_moe.switch_mlp.up_proj.weight", {PART_EXPERT_UP}},
    {"block_sparse_moe.switch_mlp.down_proj.weight", {PART_EXPERT_DOWN}},
};

static const char *const folder_unused[] = {
    "*.rotary_emb.inv_freq", /* inverse frequencies of old checkpoints, equal to the computed ones */
    "lm_head.weight",        /* beside tied embeddings: a copy of them, or what was there before they were tied */
    "language_model.lm_head.weight",
    "vision_tower.*", /* what makes a text model a multimodal one */
    "model.vision_tower.*",
    "vision_model.*",
    "multi_modal_projector.*",
    "model.multi_modal_projector.*",
    "audio_tower.*", /* Gemma 3n */
    "model.audio_tower.*",
    "embed_audio.*",
    "model.embed_audio.*",
    "embed_vision.*",
    "model.embed_vision.*",
    "model.mtp_*", /* ERNIE's guesses of more than one token */
    "mtp.*",       /* Qwen3-Next's */
    NULL,
};

static const struct layout_row common_layouts[] = {
    {"attn_kv_b.weight", LAYOUT_FIRST_TURNED}, {"self_attn.kv_b_proj.weight", LAYOUT_FIRST_TURNED},
    {"shortconv.conv.weight", LAYOUT_COLUMNS}, {"conv.conv.weight", LAYOUT_COLUMNS},
    {"ssm_conv1d.weight", LAYOUT_COLUMNS},     {"linear_attn.conv1d.weight", LAYOUT_COLUMNS},
    {"linear_attn.A_log", LAYOUT_LOGS},        {NULL, LAYOUT_ROWS},
};

/* Where a folder's decoder is: alone, or inside a multimodal model, as older and as newer checkpoints have it. */
static const struct {
    const char *prefix, *head_prefix;
} folder_prefixes[] = {
    {"model.", ""},
    {"language_model.model.", "language_model."},
    {"model.language_model.", ""},
};

struct weight_names weight_names_for(const struct decoder_family *family, bool of_folder)
{
    struct weight_names gguf = {.layer_prefix = "blk.",
                                .prefix = "",
                                .head_prefix = "",
                                .sets = {family->gguf_rows, {gguf_rows, ARRAY_LEN(gguf_rows)}},
                                .layouts = {family->gguf_layouts, common_layouts},
                                .unused = gguf_unused};
    struct weight_names folder = {.layer_prefix = "layers.",
                                  .prefix = folder_prefixes[0].prefix,
                                  .head_prefix = folder_prefixes[0].head_prefix,
                                  .sets = {family->folder_rows, {folder_rows, ARRAY_LEN(folder_rows)}},
                                  .layouts = {family->folder_layouts, common_layouts},
                                  .unused = folder_unused,
                                  .qkv_by_kv_head = family->folder_qkv_by_kv_head};
    return of_folder ? folder : gguf;
}

struct weight_names weight_names_of(const struct decoder_family *family, const struct model_file *file)
{
    struct weight_names folder = weight_names_for(family, true);
    if (!model_file_is_folder(file))
        return weight_names_for(family, false);
    for (size_t i = 0; weight_names_within(&folder, i); i++) {
        if (weight_find(&folder, file, PART_EMBD, -1))
            return folder;
    }
    (void)weight_names_within(&folder, 0); /* for messages */
    return folder;
}

bool weight_names_within(struct weight_names *folder, size_t i)
{
    if (i >= ARRAY_LEN(folder_prefixes))
        return false;
    folder->prefix = folder_prefixes[i].prefix;
    folder->head_prefix = folder_prefixes[i].head_prefix;
    return true;
}

static bool row_holds(const struct weight_row *row, enum model_part part)
{
    for (int i = 0; i < WEIGHT_ROW_PARTS && row->parts[i] != PART_NONE; i++) {
        if (row->parts[i] == part)
            return true;
    }
    return false;
}

const struct weight_row *weight_row(const struct weight_names *names, enum model_part part, size_t i)
{
    for (size_t s = 0; s < ARRAY_LEN(names->sets); s++) {
        for (size_t k = 0; k < names->sets[s].n; k++) {
            if (row_holds(&names->sets[s].rows[k], part) && i-- == 0)
                return &names->sets[s].rows[k];
        }
    }
    return NULL;
}

bool weight_row_per_expert(const struct weight_row *row)
{
    return strchr(row->name, '*') != NULL;
}

enum weight_layout weight_row_layout(const struct weight_names *names, const struct weight_row *row)
{
    for (size_t i = 0; i < ARRAY_LEN(names->layouts); i++) {
        for (const struct layout_row *l = names->layouts[i]; l && l->name; l++) {
            if (strcmp(l->name, row->name) == 0)
                return l->layout;
        }
    }
    return LAYOUT_ROWS;
}

const char *weight_name(const struct weight_names *names, const struct weight_row *row, int layer, int expert,
                        char *buf, size_t size)
{
    const char *star = strchr(row->name, '*');
    char name[96];
    if (star)
        snprintf(name, sizeof(name), "%.*s%d%s", (int)(star - row->name), row->name, expert, star + 1);
    else
        snprintf(name, sizeof(name), "%s", row->name);
    if (row->parts[0] >= PART_FIRST_OF_LAYER)
        snprintf(buf, size, "%s%s%d.%s", names->prefix, names->layer_prefix, layer, name);
    else
        snprintf(buf, size, "%s%s", row->parts[0] == PART_OUTPUT ? names->head_prefix : names->prefix, name);
    return buf;
}

const struct weight_row *weight_find(const struct weight_names *names, const struct model_file *file,
                                     enum model_part part, int layer)
{
    const struct weight_row *row;
    for (size_t i = 0; (row = weight_row(names, part, i)) != NULL; i++) {
        char name[192];
        if (model_file_tensor(file, weight_name(names, row, layer, 0, name, sizeof(name))))
            return row;
    }
    return NULL;
}

const struct tensor_view *weight_tensor(const struct weight_names *names, const struct model_file *file,
                                        enum model_part part, int layer)
{
    const struct weight_row *row = weight_find(names, file, part, layer);
    char name[192];
    return row ? model_file_tensor(file, weight_name(names, row, layer, 0, name, sizeof(name))) : NULL;
}

/* ---- names to parts ---- */

/* A number as it is written into names: no sign, no leading zero, below max. */
static bool parse_number(struct str text, int max, int *out)
{
    uint64_t n;
    if (text.len == 0 || (text.len > 1 && text.ptr[0] == '0') || !str_to_u64(text, &n) || n >= (uint64_t)max)
        return false;
    *out = (int)n;
    return true;
}

static bool match_name(const char *pattern, struct str name, int *expert)
{
    const char *star = strchr(pattern, '*');
    if (!star)
        return str_eq(name, str_of(pattern));
    struct str head = {pattern, (size_t)(star - pattern)}, tail = str_of(star + 1);
    return str_starts(name, head) && str_ends(name, tail) && name.len > head.len + tail.len &&
           parse_number(str_slice(name, head.len, name.len - tail.len), MODEL_MAX_EXPERTS, expert);
}

static const struct weight_row *match_rows(const struct weight_names *names, struct str name, bool in_layer, bool head,
                                           int *expert)
{
    for (size_t s = 0; s < ARRAY_LEN(names->sets); s++) {
        for (size_t k = 0; k < names->sets[s].n; k++) {
            const struct weight_row *row = &names->sets[s].rows[k];
            bool fits = in_layer ? row->parts[0] >= PART_FIRST_OF_LAYER
                                 : row->parts[0] < PART_FIRST_OF_LAYER && (row->parts[0] == PART_OUTPUT) == head;
            if (fits && match_name(row->name, name, expert))
                return row;
        }
    }
    return NULL;
}

static bool cut_prefix(struct str *s, const char *prefix)
{
    if (!str_starts(*s, str_of(prefix)))
        return false;
    *s = str_slice(*s, strlen(prefix), s->len);
    return true;
}

const struct weight_row *weight_name_parse(const struct weight_names *names, struct str name, int *layer, int *expert)
{
    struct str rest = name, head = name, number;
    const struct weight_row *row = NULL;
    *layer = *expert = -1;
    if (cut_prefix(&head, names->head_prefix) && (row = match_rows(names, head, false, true, expert)) != NULL)
        return row;
    if (!cut_prefix(&rest, names->prefix))
        return NULL;
    row = match_rows(names, rest, false, false, expert);
    if (row || !cut_prefix(&rest, names->layer_prefix))
        return row;
    if (!str_split(&rest, '.', &number) || !parse_number(number, MODEL_MAX_LAYERS, layer))
        return NULL; /* "blk.00." is not the name that is looked up */
    return match_rows(names, rest, true, false, expert);
}

bool decoder_tensor_is_table(const struct model_file *file, const struct decoder_config *c, struct str name)
{
    struct weight_names names = weight_names_of(decoder_family_find(str_of(c->arch)), file);
    int layer, expert;
    const struct weight_row *row = weight_name_parse(&names, name, &layer, &expert);
    return row && row->parts[0] == PART_LAYER_EMBD;
}

bool weight_is_idle_bias(const struct model_file *file, const struct tensor_view *t)
{
    char name[LIMIT_GGUF_NAME + 16];
    const uint8_t *data = t->data;
    if (!str_ends(t->name, STR(".bias")))
        return false;
    snprintf(name, sizeof(name), STR_FMT ".weight", STR_ARG(str_slice(t->name, 0, t->name.len - strlen(".bias"))));
    const struct tensor_view *weight = model_file_tensor(file, name);
    bool idle = weight && weight->type == DTYPE_GROUPED && weight->quant.packing;
    for (size_t i = 0; idle && i < t->size; i++)
        idle = data[i] == 0;
    return idle;
}
