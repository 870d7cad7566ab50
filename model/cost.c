#include "model/cost.h"

#include "model/model_internal.h"

#include <math.h>
#include <string.h>

/* ---- weights ---- */

static double stored_bytes(const struct tensor_view *t)
{
    struct tensor_view matrix = tensor_as_matrix(t);
    double size = (double)t->size;
    if (t->type == DTYPE_GROUPED)
        size += (double)group_scales_size(&t->quant, matrix.shape[0], matrix.shape[1]);
    return size;
}

static double products(const struct tensor_view *t)
{
    double n = 1;
    if (t->n_dims < 2)
        return 0;
    for (int i = 0; i < t->n_dims; i++)
        n *= (double)t->shape[i];
    return n;
}

static bool is_float(const struct tensor_view *t)
{
    enum dtype type = t->type;
    return type == DTYPE_F32 || type == DTYPE_F16 || type == DTYPE_BF16 || type == DTYPE_F8_E4M3 ||
           (type == DTYPE_GROUPED && t->quant.mode == GROUP_MXFP8);
}

static void add_products(struct macs *m, const struct tensor_view *t, double share)
{
    double n = share * products(t);
    m->all += n;
    m->floats += is_float(t) ? n : 0;
}

static void add_macs(struct macs *m, const struct macs *other, double times)
{
    m->all += times * other->all;
    m->floats += times * other->floats;
}

static bool is_expert(enum model_part part)
{
    return part >= PART_EXPERT_GATE && part <= PART_EXPERT_DOWN_BIAS;
}

/* Behind the attention of its layer. */
static bool is_tail(enum model_part part)
{
    return part >= PART_ATTN_OUT;
}

static void add_head(struct decoder_cost *cost, const struct tensor_view *t)
{
    cost->head_bytes += stored_bytes(t);
    add_products(&cost->head, t, 1);
}

/* Of the products of a row's tensor, how many are behind the attention: of K and V of the latent in one, those of V;
 * of Q with its gate, or what the delta rule takes with what gates its output, those of the gate. */
static double tail_share(const struct decoder_config *c, const struct weight_row *row)
{
    if (row->parts[0] == PART_K_OF_LATENT && row->parts[1] == PART_V_OF_LATENT)
        return (double)c->head_v_dim / (c->head_v_dim + c->nope_dim);
    if (row->parts[0] == PART_STREAMS_OUT)
        return 1;
    double all = 0, tail = 0;
    for (int i = 0; i < WEIGHT_ROW_PARTS && row->parts[i] != PART_NONE; i++) {
        double rows = (double)weights__part_rows(c, row->parts[i]);
        all += rows;
        tail += is_tail(row->parts[i]) ? rows : 0;
    }
    return tail / all;
}

static void add_layer_tensor(struct decoder_cost *cost, const struct decoder_config *c, const struct tensor_view *t,
                             const struct weight_row *row, bool last)
{
    enum model_part part = row->parts[0];
    bool expert = is_expert(part);
    double share = expert ? (double)cost->n_experts_used / cost->n_experts : 1;
    double tail = last ? tail_share(c, row) : 0;
    *(expert ? &cost->expert_bytes : &cost->layer_bytes) += stored_bytes(t);
    if (weights__is_vector(part) || weights__part_rows(c, part) == 1 || weights__is_taps(part))
        return; /* vectors, some of which have two axes in files; taps count by the positions that they meet */
    add_products(&cost->tail, t, share * tail);
    add_products(&cost->row, t, share * (1 - tail));
}

void decoder_cost_read(const struct model_file *file, const struct decoder_config *c, struct decoder_cost *out)
{
    const struct decoder_family *family = decoder_family_find(str_of(c->arch));
    struct weight_names names = weight_names_of(family, file);
    *out = (struct decoder_cost){.n_experts = c->n_experts, .n_experts_used = c->n_experts_used};
    for (size_t i = 0; i < model_file_n_tensors(file); i++) {
        const struct tensor_view *t = model_file_tensor_at(file, i);
        int layer, expert;
        const struct weight_row *row = weight_name_parse(&names, t->name, &layer, &expert);
        enum model_part part = row ? row->parts[0] : PART_NONE;
        if (part == PART_NONE || layer >= c->n_layers || !weights__has_part(c, part, layer))
            continue; /* not one of the model's weights */
        if (part == PART_OUTPUT || (part == PART_EMBD && c->tied_embeddings))
            add_head(out, t);
        else if (part == PART_EMBD)
            out->embd_row_bytes += stored_bytes(t) / c->n_vocab;
        else if (part == PART_LAYER_EMBD)
            out->embd_row_bytes += stored_bytes(t) / c->n_layer_vocab;
        else
            add_layer_tensor(out, c, t, row, layer == c->n_layers - 1 || part == PART_STREAMS_OUT);
    }
}

/* ---- K and V ---- */

void cost_kv_read(const struct decoder_config *c, enum kv_type type, const struct backend *be, struct cost_kv *out)
{
    uint8_t layer_group[MODEL_MAX_LAYERS];
    uint16_t layer_index[MODEL_MAX_LAYERS];
    out->n_groups = decoder_kv_groups(c, type, out->groups, layer_group, layer_index);
    for (int g = 0; g < out->n_groups; g++) {
        double page = (double)be->ops->kv_page_size(be, &out->groups[g]);
        bool states = out->groups[g].state_size > 0;
        out->position_bytes[g] = states ? 0 : page / (double)be->ops->kv_page_tokens(be);
        out->state_bytes[g] = states ? page : 0;
    }
    memset(out->n_readers, 0, sizeof(out->n_readers));
    for (int i = 0; i < c->n_layers; i++)
        out->n_readers[layer_group[i]]++;
}

/* Positions that the rows [start, start + n) see, added up over the rows. */
static double seen(int start, int n, int window)
{
    double first = (double)start + 1, last = (double)start + n, full;
    if (window <= 0 || last <= window)
        return (first + last) / 2 * n;
    if (first >= window)
        return (double)window * n;
    full = last - window; /* rows that see the whole window */
    return (first + window) / 2 * (n - full) + full * window;
}

/* Positions that some of the rows see. */
static double touched(int start, int n, int window)
{
    int all = start + n;
    return window > 0 && all > window + n - 1 ? window + n - 1 : all;
}

/* ---- a step ---- */

static double touched_experts(const struct decoder_cost *cost, double n_rows)
{
    double used = (double)cost->n_experts_used / cost->n_experts;
    return 1 - pow(1 - used, n_rows);
}

/* A state is read once, where there is one, and written once, whatever the number of rows; each of them multiplies all
 * of it by k, by what is added along k, and by q. */
static void add_states(const struct cost_kv *kv, int group, const struct delta_params *p, const struct cost_step *step,
                       struct step_work *out)
{
    double state = (double)p->n_v_heads * p->k_dim * p->v_dim;
    double taps = p->n_taps * (2.0 * p->n_k_heads * p->k_dim + (double)p->n_v_heads * p->v_dim);
    out->kv_bytes += step->n_seqs * kv->state_bytes[group] * (step->start > 0 ? 2 : 1);
    out->attention_macs += (double)step->n_seqs * step->n_rows * (3 * state + taps) * kv->n_readers[group];
}

struct step_work decoder_step_work(const struct decoder_cost *cost, const struct decoder_config *c,
                                   const struct cost_kv *kv, const struct cost_step *step)
{
    double n_rows = (double)step->n_seqs * step->n_rows, n_out = (double)step->n_seqs * step->n_out;
    struct step_work out = {.weight_bytes = cost->layer_bytes + n_rows * cost->embd_row_bytes};
    add_macs(&out.weight_macs, &cost->row, n_rows);
    add_macs(&out.weight_macs, &cost->tail, n_out);
    add_macs(&out.weight_macs, &cost->head, n_out);
    if (step->n_out > 0)
        out.weight_bytes += cost->head_bytes;
    if (cost->n_experts > 0)
        out.weight_bytes += cost->expert_bytes * touched_experts(cost, n_rows);
    for (int g = 0; g < kv->n_groups; g++) {
        const struct kv_group_spec *spec = &kv->groups[g];
        if (spec->state_size > 0) {
            add_states(kv, g, &c->delta, step, &out);
            continue;
        }
        int heads = spec->k_dim > 0 ? c->n_heads : 1; /* without K it is a convolution's: a product for each column */
        double products_of_pair = (double)heads * (spec->k_dim + spec->v_dim) * kv->n_readers[g];
        double bytes = kv->position_bytes[g] * kv->n_readers[g] / spec->n_layers;
        out.kv_bytes += step->n_seqs * bytes * touched(step->start, step->n_rows, spec->window);
        out.attention_macs += step->n_seqs * products_of_pair * seen(step->start, step->n_rows, spec->window);
    }
    return out;
}
