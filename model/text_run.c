#include "model/text_run.h"

#include "model/calibrate.h"

#include <stdlib.h>

struct text_run {
    struct backend *be;
    struct calibration *calibration;
    struct model *model;
    struct decoder_config config;
    int n_groups, n_pages, page_tokens;
    struct kv_group_spec groups[KV_MAX_GROUPS];
    uint32_t *tables[KV_MAX_GROUPS]; /* [n_pages] of each group */
    uint8_t *pool;
};

static bool bind_pages(struct text_run *r, struct error *err)
{
    const struct backend_ops *ops = r->be->ops;
    size_t size = 0;
    for (int g = 0; g < r->n_groups; g++) {
        r->groups[g].base = size;
        size += (ops->kv_page_size(r->be, &r->groups[g]) * (size_t)r->n_pages + 63) / 64 * 64;
        r->tables[g] = calloc((size_t)r->n_pages, sizeof(*r->tables[g]));
        if (!r->tables[g])
            return error_set(err, ERR_NO_MEMORY, "There is no memory for %d KV pages.", r->n_pages);
    }
    r->pool = aligned_alloc(64, size ? size : 64);
    if (!r->pool)
        return error_set(err, ERR_NO_MEMORY, "There is no memory for %zu bytes of KV.", size);
    return ops->kv_bind(r->be, r->groups, r->n_groups, r->pool, size, err);
}

struct text_run *text_run_create(const struct text_run_options *o, struct error *err)
{
    uint8_t layer_group[MODEL_MAX_LAYERS];
    uint16_t layer_index[MODEL_MAX_LAYERS];
    struct text_run *r = calloc(1, sizeof(*r));
    if (!r) {
        error_set(err, ERR_NO_MEMORY, "There is no memory to run a model.");
        return NULL;
    }
    struct model_load_options load = {.config = &r->config, .kv_type = o->kv_type, .n_served = o->n_positions};
    bool ok = decoder_config_read(o->file, &r->config, err);
    if (ok && (o->n_positions < 1 || o->n_positions > r->config.n_context))
        ok = error_set(err, ERR_INVALID, "The model takes 1 to %d tokens at once, not %d.", r->config.n_context,
                       o->n_positions);
    ok = ok && (r->be = backend_create(&o->backend, err)) != NULL;
    if (ok && o->importance)
        ok = (r->calibration = calibration_attach(r->be, o->file, o->importance, err)) != NULL;
    ok = ok && (r->model = model_load(r->be, o->file, &load, err)) != NULL;
    if (ok) {
        r->n_groups = decoder_kv_groups(&r->config, o->kv_type, r->groups, layer_group, layer_index);
        r->page_tokens = r->be->ops->kv_page_tokens(r->be);
        r->n_pages = (o->n_positions + r->page_tokens - 1) / r->page_tokens;
        ok = bind_pages(r, err);
    }
    if (ok)
        return r;
    text_run_free(r);
    return NULL;
}

void text_run_free(struct text_run *r)
{
    if (!r)
        return;
    model_free(r->model);
    calibration_detach(r->calibration);
    if (r->be)
        r->be->ops->free(r->be);
    for (int g = 0; g < KV_MAX_GROUPS; g++)
        free(r->tables[g]);
    free(r->pool);
    free(r);
}

const struct decoder_config *text_run_config(const struct text_run *r)
{
    return &r->config;
}

/* Pages in order; those that a window has left are gone. */
static void fill_table(const struct text_run *r, int g, int start)
{
    int window = r->groups[g].window;
    for (int i = 0; i < r->n_pages; i++) {
        bool gone = window > 0 && (i + 1) * r->page_tokens <= start - window + 1;
        r->tables[g][i] = gone ? KV_PAGE_NONE : (uint32_t)i;
    }
}

static bool step(struct text_run *r, const struct batch *batch, float *logits, struct error *err)
{
    const struct backend_ops *ops = r->be->ops;
    if (!ops->step_begin(r->be, batch, err))
        return false;
    struct tensor *out = model_forward(r->model, batch);
    bool ok =
        batch->n_out == 0 || ops->read_f32(r->be, out, logits, (size_t)batch->n_out * (size_t)r->config.n_vocab, err);
    struct error end = {0};
    if (ops->step_end(r->be, &end))
        return ok && (!r->calibration || calibration_check(r->calibration, err));
    *err = end; /* the step's own failure, not that of reading what it did not make */
    return false;
}

bool text_run_rows(struct text_run *r, const int32_t *ids, int start, int n, int n_out, float *logits,
                   struct error *err)
{
    int32_t positions[TEXT_RUN_ROWS], out_rows[TEXT_RUN_ROWS];
    struct batch_seq seq = {.n_rows = n, .start = start};
    if (n < 1 || n > TEXT_RUN_ROWS || start < 0 || start + n > r->n_pages * r->page_tokens)
        return error_set(err, ERR_INVALID, "%d rows from position %d are more than there is room for.", n, start);
    for (int i = 0; i < n; i++) {
        positions[i] = start + i;
        out_rows[i] = n - n_out + i;
    }
    seq.n_pages = (start + n + r->page_tokens - 1) / r->page_tokens;
    for (int g = 0; g < r->n_groups; g++) {
        fill_table(r, g, start);
        seq.pages[g] = r->tables[g];
    }
    struct batch batch = {.n_rows = n,
                          .ids = ids,
                          .positions = positions,
                          .n_seqs = 1,
                          .seqs = &seq,
                          .n_out = n_out,
                          .out_rows = out_rows};
    return step(r, &batch, logits, err);
}
