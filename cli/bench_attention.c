/* Attention over pages: decoding (streams of one row at some context) and prefilling (a prompt in the chunks that the
 * engine cuts), with the head counts of the models we measure by; and the write of K and V. */
#include "cli/bench_kernels_internal.h"

#include "base/array.h"
#include "base/clock.h"
#include "engine/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_LAYERS 256
#define CHUNK      ENGINE_DEFAULT_BATCH_TOKENS
#define MAX_OUTPUT ((size_t)64 << 20) /* of a step's results */

struct heads {
    const char *name;
    int n_heads, n_kv_heads, dim;
};

static const struct heads all_heads[] = {
    {"smollm2-135m.9/3x64", 9, 3, 64},
    {"qwen2.5-0.5b.14/2x64", 14, 2, 64},
    {"llama-8b.32/8x128", 32, 8, 128},
};

static const int decode_contexts[] = {128, 1024, 4096, 8192};
static const int decode_streams[] = {1, 16};
static const int prefill_tokens[] = {512, 4096};

struct attention_work {
    const struct kernel_bench *k;
    const struct heads *heads;
    enum kv_type kv_type;
    struct backend *be;
    struct kernel_input q, kv;
    uint8_t *pool;
    int n_streams, context, n_pages; /* n_pages: of each stream */
    int n_layers, next;
    uint32_t *tables; /* [n_streams, n_pages] */
    struct batch_seq *seqs;
    int32_t *ids, *positions; /* [max(CHUNK, n_streams)] */
    int32_t out_row;
    double position_bytes; /* of K and V in one layer */
};

/* ---- making it ---- */

static bool make_pages(struct attention_work *w, struct error *err)
{
    const struct backend_ops *ops = w->be->ops;
    struct kv_group_spec spec = {.n_layers = 1,
                                 .n_kv_heads = w->heads->n_kv_heads,
                                 .k_dim = w->heads->dim,
                                 .v_dim = w->heads->dim,
                                 .type = w->kv_type};
    int page_tokens = ops->kv_page_tokens(w->be);
    size_t page = ops->kv_page_size(w->be, &spec);
    w->n_pages = (w->context + page_tokens - 1) / page_tokens;
    size_t n_pages = (size_t)w->n_streams * (size_t)w->n_pages;
    size_t layers = BENCH_COLD_SIZE / (n_pages * page) + 1;
    w->n_layers = spec.n_layers = layers < MAX_LAYERS ? (int)layers : MAX_LAYERS;
    w->position_bytes = (double)page / page_tokens;
    size_t size = (n_pages * ops->kv_page_size(w->be, &spec) + 63) / 64 * 64;
    w->pool = aligned_alloc(64, size);
    w->tables = malloc(n_pages * sizeof *w->tables);
    if (!w->pool || !w->tables) {
        return error_set(err, ERR_NO_MEMORY, "There is no memory for %zu bytes of K and V.", size);
    }
    for (size_t i = 0; i < n_pages; i++) {
        w->tables[i] = (uint32_t)i;
    }
    return ops->kv_bind(w->be, &spec, 1, w->pool, size, err);
}

/* Rows [start, start + n) of one stream. */
static void plan_rows(struct attention_work *w, int stream, int start, int n, struct batch *out)
{
    for (int i = 0; i < n; i++) {
        w->ids[i] = (start + i * 7 + stream) % BENCH_INPUT_ROWS;
        w->positions[i] = start + i;
    }
    w->seqs[0] = (struct batch_seq){.n_rows = n, .start = start, .n_pages = w->n_pages};
    w->seqs[0].pages[0] = w->tables + (size_t)stream * (size_t)w->n_pages;
    w->out_row = n - 1;
    *out = (struct batch){.n_rows = n,
                          .ids = w->ids,
                          .positions = w->positions,
                          .n_seqs = 1,
                          .seqs = w->seqs,
                          .n_out = 1,
                          .out_rows = &w->out_row};
}

/* The last row of every stream. */
static void plan_decode(struct attention_work *w, struct batch *out)
{
    for (int s = 0; s < w->n_streams; s++) {
        w->ids[s] = s % BENCH_INPUT_ROWS;
        w->positions[s] = w->context - 1;
        w->seqs[s] = (struct batch_seq){.first_row = s, .n_rows = 1, .start = w->context - 1, .n_pages = w->n_pages};
        w->seqs[s].pages[0] = w->tables + (size_t)s * (size_t)w->n_pages;
    }
    w->out_row = w->n_streams - 1;
    *out = (struct batch){.n_rows = w->n_streams,
                          .ids = w->ids,
                          .positions = w->positions,
                          .n_seqs = w->n_streams,
                          .seqs = w->seqs,
                          .n_out = 1,
                          .out_rows = &w->out_row};
}

/* One chunk of a stream's K and V, in every layer; the time of the writes. */
static bool write_chunk(struct attention_work *w, int stream, int start, int n, int64_t *ns, struct error *err)
{
    struct batch batch;
    plan_rows(w, stream, start, n, &batch);
    if (!w->be->ops->step_begin(w->be, &batch, err)) {
        return false;
    }
    struct tensor *kv = op_embed(w->be, w->kv.table, 1);
    int64_t begun = clock_ns();
    for (int layer = 0; layer < w->n_layers; layer++) {
        w->be->ops->kv_write(w->be, 0, layer, kv, kv);
    }
    *ns += clock_ns() - begun;
    return w->be->ops->step_end(w->be, err);
}

static bool fill_pages(struct attention_work *w, int64_t *ns, struct error *err)
{
    for (int s = 0; s < w->n_streams; s++) {
        for (int at = 0; at < w->context; at += CHUNK) {
            int n = w->context - at < CHUNK ? w->context - at : CHUNK;
            if (!write_chunk(w, s, at, n, ns, err)) {
                return false;
            }
        }
    }
    return true;
}

static void release_work(struct attention_work *w)
{
    if (w->be) {
        kernels__input_release(&w->q, w->be);
        kernels__input_release(&w->kv, w->be);
        w->be->ops->free(w->be);
    }
    free(w->pool);
    free(w->tables);
    free(w->seqs);
    free(w->ids);
    free(w->positions);
}

static bool make_work(struct attention_work *w, struct error *err)
{
    size_t n_rows = (size_t)(w->n_streams > CHUNK ? w->n_streams : CHUNK);
    const struct heads *h = w->heads;
    int64_t ns = 0;
    w->seqs = calloc(n_rows, sizeof *w->seqs);
    w->ids = calloc(n_rows, sizeof *w->ids);
    w->positions = calloc(n_rows, sizeof *w->positions);
    if (!w->seqs || !w->ids || !w->positions) {
        return error_set(err, ERR_NO_MEMORY, "There is no memory for a batch of %zu rows.", n_rows);
    }
    w->be = cpu_backend_create(&w->k->cpu, err);
    return w->be && make_pages(w, err) &&
           kernels__input_init(&w->q, w->be, h->n_heads * h->dim, kernels__random, err) &&
           kernels__input_init(&w->kv, w->be, h->n_kv_heads * h->dim, kernels__random, err) && fill_pages(w, &ns, err);
}

/* ---- samples ---- */

static void attend(struct attention_work *w, struct tensor *q)
{
    const struct heads *h = w->heads;
    struct attention_params p = {.n_heads = h->n_heads,
                                 .n_kv_heads = h->n_kv_heads,
                                 .k_dim = h->dim,
                                 .v_dim = h->dim,
                                 .scale = 0.125f,
                                 .causal = true};
    w->be->ops->attention(w->be, 0, w->next, q, &p);
    w->next = (w->next + 1) % w->n_layers;
}

static bool sample_step(struct attention_work *w, const struct batch *batch, int loops, int64_t *ns, struct error *err)
{
    if (!w->be->ops->step_begin(w->be, batch, err)) {
        return false;
    }
    struct tensor *q = op_embed(w->be, w->q.table, 1);
    int64_t start = clock_ns();
    for (int i = 0; i < loops; i++) {
        attend(w, q);
    }
    *ns += clock_ns() - start;
    return w->be->ops->step_end(w->be, err);
}

static bool sample_decode(void *arg, int loops, int64_t *ns, struct error *err)
{
    struct attention_work *w = arg;
    struct batch batch;
    plan_decode(w, &batch);
    *ns = 0;
    return sample_step(w, &batch, loops, ns, err);
}

/* All chunks of a prompt; loops is 1. */
static bool sample_prefill(void *arg, int loops, int64_t *ns, struct error *err)
{
    struct attention_work *w = arg;
    *ns = 0;
    for (int at = 0; at < w->context; at += CHUNK) {
        struct batch batch;
        int layer = w->next, n = w->context - at < CHUNK ? w->context - at : CHUNK;
        plan_rows(w, 0, at, n, &batch);
        if (!sample_step(w, &batch, loops, ns, err)) {
            return false;
        }
        w->next = layer; /* a layer attends to the whole prompt before the next one does */
    }
    w->next = (w->next + 1) % w->n_layers;
    return true;
}

static bool sample_write(void *arg, int loops, int64_t *ns, struct error *err)
{
    struct attention_work *w = arg;
    *ns = 0;
    for (int i = 0; i < loops; i++) {
        if (!fill_pages(w, ns, err)) {
            return false;
        }
    }
    *ns /= w->n_layers;
    return true;
}

/* ---- cases ---- */

static double pair_products(const struct heads *h)
{
    return 2.0 * h->n_heads * h->dim; /* of one query and one key: scores and values */
}

static bool measure_decode(struct kernel_bench *k, const struct attention_work *what, int n_streams, int context,
                           struct error *err)
{
    struct attention_work w = *what;
    const struct heads *heads = w.heads;
    w.n_streams = n_streams;
    w.context = context;
    size_t out_size = (size_t)n_streams * (size_t)(heads->n_heads * heads->dim) * sizeof(float);
    bool ok = make_work(&w, err);
    struct kernel_case c = {.op = "attention",
                            .shape = heads->name,
                            .type = kv_type_name(w.kv_type),
                            .tokens = n_streams,
                            .context = context,
                            .macs = pair_products(heads) * n_streams * context,
                            .bytes = w.position_bytes * n_streams * context,
                            .compute = CPU_LIMIT_F32};
    ok = ok && kernels__measure(k, &c, sample_decode, &w, (int)(MAX_OUTPUT / out_size) + 1, err);
    release_work(&w);
    return ok;
}

static bool measure_prefill(struct kernel_bench *k, const struct attention_work *what, int n_tokens, struct error *err)
{
    struct attention_work w = *what;
    const struct heads *heads = w.heads;
    w.n_streams = 1;
    w.context = n_tokens;
    bool ok = make_work(&w, err);
    struct kernel_case c = {.op = "attention",
                            .shape = heads->name,
                            .type = kv_type_name(w.kv_type),
                            .tokens = n_tokens,
                            .context = n_tokens,
                            .macs = pair_products(heads) * n_tokens * (n_tokens + 1) / 2,
                            .bytes = w.position_bytes * n_tokens,
                            .compute = CPU_LIMIT_F32};
    ok = ok && kernels__measure(k, &c, sample_prefill, &w, 1, err);
    c.op = "kv_write";
    c.macs = 0;
    ok = ok && kernels__measure(k, &c, sample_write, &w, 1, err);
    release_work(&w);
    return ok;
}

/* --tokens chooses among the streams of decoding and among the prompts' lengths; without it all are measured. */
static bool is_listed(const struct kernel_bench *k, int n)
{
    bool listed = !k->options->tokens;
    for (int i = 0; i < k->tokens.n; i++) {
        listed = listed || k->tokens.items[i] == n;
    }
    return listed;
}

static bool measure_heads(struct kernel_bench *k, const struct attention_work *what, struct error *err)
{
    bool ok = true, decode = kernels__wanted(k, "attention", NULL);
    for (size_t s = 0; decode && s < ARRAY_LEN(decode_streams); s++) {
        for (size_t i = 0; ok && i < ARRAY_LEN(decode_contexts) && is_listed(k, decode_streams[s]); i++) {
            ok = measure_decode(k, what, decode_streams[s], decode_contexts[i], err);
        }
    }
    for (size_t i = 0; ok && i < ARRAY_LEN(prefill_tokens); i++) {
        ok = !is_listed(k, prefill_tokens[i]) || measure_prefill(k, what, prefill_tokens[i], err);
    }
    return ok;
}

static bool run_attention(struct kernel_bench *k, struct error *err)
{
    if (!kernels__wanted(k, "attention", NULL) && !kernels__wanted(k, "kv_write", NULL)) {
        return true;
    }
    for (size_t i = 0; i < ARRAY_LEN(all_heads); i++) {
        for (int t = 0; t < KV_TYPE_COUNT && bench_words_match(k->options->shape, all_heads[i].name); t++) {
            struct attention_work what = {.k = k, .heads = &all_heads[i], .kv_type = (enum kv_type)t};
            if (bench_words_match(k->options->kv_types, kv_type_name(what.kv_type)) && !measure_heads(k, &what, err)) {
                return false;
            }
        }
    }
    return true;
}

static const char *attention_name(enum kernel_name kind, size_t i)
{
    static const char *const ops[] = {"attention", "kv_write"};
    if (kind == KERNEL_OP) {
        return i < ARRAY_LEN(ops) ? ops[i] : NULL;
    }
    if (kind == KERNEL_KV_TYPE) {
        return i < KV_TYPE_COUNT ? kv_type_name((enum kv_type)i) : NULL;
    }
    return kind == KERNEL_SHAPE && i < ARRAY_LEN(all_heads) ? all_heads[i].name : NULL;
}

const struct kernel_group kernels__attention = {attention_name, run_attention};
