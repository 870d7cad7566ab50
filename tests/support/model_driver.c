#include "tests/support/model_driver.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void *xalloc(size_t n, size_t size)
{
    void *p = calloc(n ? n : 1, size);
    if (!p)
        fail_msg("no memory for %zu x %zu", n, size);
    return p;
}

/* ---- opening ---- */

static bool bind_pages(struct model_driver *d, struct error *err)
{
    const struct backend_ops *ops = d->be->ops;
    size_t n_pages = (size_t)d->n_seqs * (size_t)d->n_pages, pool_size = 0;
    for (int g = 0; g < d->n_groups; g++) {
        d->groups[g].base = pool_size;
        pool_size += (ops->kv_page_size(d->be, &d->groups[g]) * n_pages + 63) / 64 * 64;
        d->tables[g] = xalloc(n_pages, sizeof(uint32_t));
        for (size_t i = 0; i < n_pages; i++)
            d->tables[g][i] = (uint32_t)i;
    }
    d->pool = aligned_alloc(64, pool_size);
    if (!d->pool)
        fail_msg("no memory for %zu bytes of pages", pool_size);
    memset(d->pool, 0xff, pool_size); /* NaNs: nothing may be read that was not written */
    return ops->kv_bind(d->be, d->groups, d->n_groups, d->pool, pool_size, err);
}

static struct backend *create_backend(const struct model_driver_options *o, struct error *err)
{
    struct cpu_backend_options cpu = {.kernels = o->kernels, .n_threads = o->n_threads, .spin_us = -1};
    struct mlx_backend_options mlx = {.device = MLX_DEVICE_CPU, .type = MLX_TYPE_F32};
    return o->mlx ? mlx_backend_create(&mlx, err) : cpu_backend_create(&cpu, err);
}

bool model_driver_open(struct model_driver *d, const struct model_driver_options *o, struct error *err)
{
    uint8_t layer_group[MODEL_MAX_LAYERS];
    uint16_t layer_index[MODEL_MAX_LAYERS];
    *d = (struct model_driver){.n_seqs = o->n_seqs};
    d->be = create_backend(o, err);
    if (!d->be)
        return false;
    if (o->config)
        d->config = *o->config;
    else if (!decoder_config_read(o->file, &d->config, err))
        goto failed;
    struct model_load_options load = {.config = &d->config, .kv_type = o->kv_type, .n_served = o->n_positions};
    d->model = model_load(d->be, o->file, &load, err);
    if (!d->model)
        goto failed;
    d->n_groups = decoder_kv_groups(&d->config, o->kv_type, d->groups, layer_group, layer_index);
    d->page_tokens = d->be->ops->kv_page_tokens(d->be);
    d->n_pages = (o->n_positions + d->page_tokens - 1) / d->page_tokens;
    if (bind_pages(d, err))
        return true;
failed:
    model_driver_close(d);
    return false;
}

void model_driver_close(struct model_driver *d)
{
    model_free(d->model);
    if (d->be)
        d->be->ops->free(d->be);
    for (int g = 0; g < d->n_groups; g++)
        free(d->tables[g]);
    free(d->pool);
    *d = (struct model_driver){0};
}

/* ---- steps ---- */

struct step {
    struct batch batch;
    int32_t *ids, *positions, *out_rows;
    struct batch_seq *seqs;
    uint32_t *tables; /* copies in which pages that have left the window are gone */
};

/* The block table of one group for rows from `start` on. */
static uint32_t *seq_table(const struct model_driver *d, int g, const struct driver_rows *r, uint32_t *copy)
{
    int window = d->groups[g].window;
    memcpy(copy, d->tables[g] + (size_t)r->seq * (size_t)d->n_pages, (size_t)d->n_pages * sizeof(*copy));
    for (int i = 0; window > 0 && (i + 1) * d->page_tokens <= r->start - window + 1; i++)
        copy[i] = KV_PAGE_NONE;
    return copy;
}

static void add_rows(struct step *s, const struct model_driver *d, const struct driver_rows *r)
{
    struct batch *b = &s->batch;
    struct batch_seq *seq = &s->seqs[b->n_seqs];
    *seq = (struct batch_seq){.first_row = b->n_rows, .n_rows = r->n, .start = r->start, .adapter = r->adapter};
    seq->n_pages = (r->start + r->n + d->page_tokens - 1) / d->page_tokens;
    assert_true(seq->n_pages <= d->n_pages && r->seq < d->n_seqs);
    for (int g = 0; g < d->n_groups; g++)
        seq->pages[g] = seq_table(d, g, r, s->tables + (size_t)(b->n_seqs * d->n_groups + g) * (size_t)d->n_pages);
    for (int i = 0; i < r->n_out; i++)
        s->out_rows[b->n_out++] = b->n_rows + r->out[i];
    for (int i = 0; i < r->n; i++) {
        s->ids[b->n_rows] = r->ids[i];
        s->positions[b->n_rows++] = r->start + i;
    }
    b->n_seqs++;
}

static void make_step(struct step *s, const struct model_driver *d, const struct driver_rows *rows, int n_rows)
{
    size_t n = 0, n_out = 0;
    for (int i = 0; i < n_rows; i++) {
        n += (size_t)rows[i].n;
        n_out += (size_t)rows[i].n_out;
    }
    *s = (struct step){.ids = xalloc(n, sizeof(int32_t)),
                       .positions = xalloc(n, sizeof(int32_t)),
                       .out_rows = xalloc(n_out, sizeof(int32_t)),
                       .seqs = xalloc((size_t)n_rows, sizeof(struct batch_seq)),
                       .tables = xalloc((size_t)(n_rows * d->n_groups * d->n_pages), sizeof(uint32_t))};
    for (int i = 0; i < n_rows; i++)
        add_rows(s, d, &rows[i]);
    s->batch.ids = s->ids;
    s->batch.positions = s->positions;
    s->batch.out_rows = s->out_rows;
    s->batch.seqs = s->seqs;
}

static void free_step(struct step *s)
{
    free(s->ids);
    free(s->positions);
    free(s->out_rows);
    free(s->seqs);
    free(s->tables);
}

void model_driver_step(struct model_driver *d, const struct driver_rows *rows, int n_rows, float *logits)
{
    const struct backend_ops *ops = d->be->ops;
    struct step s;
    struct error err = {0};
    make_step(&s, d, rows, n_rows);
    bool ok = ops->step_begin(d->be, &s.batch, &err);
    struct tensor *out = ok ? model_forward(d->model, &s.batch) : NULL;
    if (ok && logits && s.batch.n_out > 0)
        ok = ops->read_f32(d->be, out, logits, (size_t)s.batch.n_out * (size_t)d->config.n_vocab, &err);
    if (!ok || !ops->step_end(d->be, &err))
        fail_msg("step: %s", err.msg);
    free_step(&s);
}

void model_driver_text(struct model_driver *d, const int32_t *ids, int n, int chunk, const int32_t *positions,
                       int n_positions, float *logits)
{
    int32_t *out = xalloc((size_t)chunk, sizeof(*out));
    for (int at = 0, p = 0; at < n; at += chunk) {
        struct driver_rows r = {
            .start = at, .n = n - at < chunk ? n - at : chunk, .ids = ids + at, .out = out, .adapter = d->adapter};
        float *dst = logits + (size_t)p * (size_t)d->config.n_vocab;
        for (; p < n_positions && positions[p] < at + r.n; p++)
            out[r.n_out++] = positions[p] - at;
        model_driver_step(d, &r, 1, dst);
    }
    free(out);
}

/* ---- greedy decoding ---- */

static int32_t argmax(const float *logits, int n)
{
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++) {
        if (logits[i] > logits[best])
            best = i;
    }
    return best;
}

static int32_t prefill(struct model_driver *d, int seq, const struct driver_prompt *p, int chunk, float *logits)
{
    for (int at = 0; at < p->n; at += chunk) {
        int n = p->n - at < chunk ? p->n - at : chunk;
        int32_t last = n - 1;
        struct driver_rows r = {.seq = seq,
                                .start = at,
                                .n = n,
                                .ids = p->ids + at,
                                .out = &last,
                                .n_out = at + n == p->n ? 1 : 0,
                                .adapter = d->adapter};
        model_driver_step(d, &r, 1, logits);
    }
    return argmax(logits, d->config.n_vocab);
}

void model_driver_greedy(struct model_driver *d, const struct driver_prompt *prompts, int n_prompts, int n_output,
                         int chunk)
{
    static const int32_t first_row = 0;
    size_t n_vocab = (size_t)d->config.n_vocab;
    float *logits = xalloc((size_t)n_prompts * n_vocab, sizeof(*logits));
    struct driver_rows *rows = xalloc((size_t)n_prompts, sizeof(*rows));
    for (int i = 0; i < n_prompts; i++)
        prompts[i].output[0] = prefill(d, i, &prompts[i], chunk, logits);
    for (int t = 1; t < n_output; t++) {
        for (int i = 0; i < n_prompts; i++)
            rows[i] = (struct driver_rows){.seq = i,
                                           .start = prompts[i].n + t - 1,
                                           .n = 1,
                                           .ids = &prompts[i].output[t - 1],
                                           .out = &first_row,
                                           .n_out = 1,
                                           .adapter = d->adapter};
        model_driver_step(d, rows, n_prompts, logits);
        for (int i = 0; i < n_prompts; i++)
            prompts[i].output[t] = argmax(logits + (size_t)i * n_vocab, d->config.n_vocab);
    }
    free(logits);
    free(rows);
}
