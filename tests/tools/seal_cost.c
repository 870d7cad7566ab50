/* seal_cost MODEL [TOKENS [ROUNDS [THREADS]]]: what sealing KV pages (engine/kv_seal.h) costs a prompt token and a
 * decode step of one and of many sequences, an engine with seals and one without taking turns; and what it saves: the
 * same prompt in an engine that adopts its pages. */
#include "base/array.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/rng.h"
#include "base/sys_shm.h"
#include "engine/engine.h"
#include "engine/kv_seal.h"
#include "model/model.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_ROUNDS 64
#define N_DECODE   96
#define N_MANY     32 /* sequences ... */
#define N_SHORT    64 /* ... of prompts of so many tokens */

struct side {
    struct engine *engine;
    struct shm pool, seals;
    atomic_uint n_done;
    double prefill_us[MAX_ROUNDS], decode_us[MAX_ROUNDS]; /* of a token, of a step */
    double many_us[MAX_ROUNDS];                           /* of a step of many */
};

struct cost {
    struct engine_options options;
    int32_t *prompt; /* [n_prompt + N_MANY] */
    uint32_t n_prompt, n_jobs;
};

static void sink(void *arg, const struct engine_event *events, size_t n)
{
    struct side *s = arg;
    for (size_t i = 0; i < n; i++) {
        if (events[i].kind == ENGINE_FAILED || (events[i].kind == ENGINE_TOKENS && events[i].finish != FINISH_NONE)) {
            atomic_fetch_add(&s->n_done, 1);
        }
    }
}

static bool open_side(const struct cost *c, struct side *s, bool seals, struct error *err)
{
    struct engine_options o = c->options;
    if (!s->pool.data &&
        (!shm_create(o.pool_size, "pool", &s->pool, err) || !shm_create(MIB(1), "seals", &s->seals, err))) {
        return false;
    }
    o.pool = s->pool.data;
    o.seals = seals ? s->seals.data : NULL;
    o.seals_size = s->seals.size;
    s->engine = engine_create(&o, err);
    return s->engine && engine_start(s->engine, sink, s, err);
}

/* n_jobs at once, whose prompts have no beginning in common. */
static bool run(struct cost *c, struct side *s, uint32_t n_jobs, uint32_t n_prompt, uint32_t max_tokens,
                struct error *err)
{
    unsigned end = atomic_load(&s->n_done) + n_jobs;
    for (uint32_t i = 0; i < n_jobs; i++) {
        struct job job = {.id = ++c->n_jobs,
                          .n_choices = 1,
                          .prompt = c->prompt + i,
                          .n_prompt = n_prompt,
                          .max_tokens = max_tokens,
                          .flags = JOB_IGNORE_EOS,
                          .speculation = SPECULATION_OFF,
                          .sampling = sampling_default()};
        if (!engine_submit(s->engine, &job, err)) {
            return false;
        }
    }
    while (atomic_load(&s->n_done) != end) {
        clock_sleep_ms(1);
    }
    return true;
}

static void new_prompt(struct cost *c, uint32_t round)
{
    for (uint32_t i = 0; i < c->n_prompt + N_MANY; i++) {
        c->prompt[i] = (int32_t)(100 + rng_uniform(round, i, 0, 0, RNG_SAMPLE) * 20000);
    }
}

static bool one_round(struct cost *c, struct side *s, uint32_t round, struct error *err)
{
    struct engine_stats a, b;
    engine_stats(s->engine, &a);
    if (!run(c, s, 1, c->n_prompt, N_DECODE, err)) {
        return false;
    }
    clock_sleep_ms(20); /* the last step is published behind its events */
    engine_stats(s->engine, &b);
    s->prefill_us[round] =
        (double)(b.step_prefill_ns - a.step_prefill_ns) / 1e3 / (double)(b.rows_prefill - a.rows_prefill);
    s->decode_us[round] =
        (double)(b.step_decode_ns - a.step_decode_ns) / 1e3 / (double)(b.steps_decode - a.steps_decode);
    if (!run(c, s, N_MANY, N_SHORT, N_DECODE, err)) {
        return false;
    }
    clock_sleep_ms(20);
    engine_stats(s->engine, &a);
    s->many_us[round] = (double)(a.step_decode_ns - b.step_decode_ns) / 1e3 / (double)(a.steps_decode - b.steps_decode);
    return true;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(const double *values, uint32_t n)
{
    double sorted[MAX_ROUNDS];
    memcpy(sorted, values, n * sizeof *values);
    qsort(sorted, n, sizeof *sorted, by_value);
    return sorted[n / 2];
}

static void report(const char *what, const double *plain, const double *sealed, uint32_t n)
{
    double a = median(plain, n), b = median(sealed, n);
    printf("%-14s %9.1f us without, %9.1f us with seals: %+.2f %%\n", what, a, b, 100 * (b - a) / a);
}

/* The engine with seals goes; one that follows it gets its last prompt. */
static bool adopt(struct cost *c, struct side *s, struct error *err)
{
    struct engine_stats stats;
    engine_free(s->engine);
    s->engine = NULL;
    if (!open_side(c, s, true, err)) {
        return false;
    }
    int64_t start_ns = clock_ns();
    if (!run(c, s, 1, c->n_prompt, 1, err)) {
        return false;
    }
    double ms = (double)(clock_ns() - start_ns) / 1e6;
    clock_sleep_ms(20);
    engine_stats(s->engine, &stats);
    printf("adopted        %llu blocks; a prompt of %u tokens answers after %.1f ms, %llu tokens of it adopted\n",
           (unsigned long long)stats.adopted_blocks, c->n_prompt, ms, (unsigned long long)stats.adopted_tokens);
    return true;
}

#define PUTS 200

/* One page at a time, each another one, as they come out of the caches when they were just computed or long ago. */
static bool time_seals(const struct cost *c, struct side *s, struct error *err)
{
    struct engine_stats stats;
    engine_stats(s->engine, &stats);
    struct kv_seal_options o = {.memory = calloc(1, MIB(1)),
                                .size = MIB(1),
                                .pool = s->pool.data,
                                .pool_size = s->pool.size,
                                .n_groups = 1,
                                .page_size = {s->pool.size / stats.pages_total}};
    struct kv_seals *seals = o.memory ? kv_seals_open(&o, err) : NULL;
    struct sha256 key = {{1}};
    if (!seals) {
        free(o.memory);
        return false;
    }
    uint32_t n_pages = c->n_prompt / 32; /* that were written */
    int64_t ns[3] = {clock_ns()};
    for (uint32_t i = 0; i < PUTS; i++) {
        kv_seal_put(seals, 0, i % n_pages, &key, i);
    }
    ns[1] = clock_ns();
    for (uint32_t i = 0; i < PUTS; i++) {
        (void)kv_seal_holds(seals, 0, i % n_pages, &key);
    }
    ns[2] = clock_ns();
    printf("a page of %zu KiB: sealed in %.1f us, checked in %.1f us\n", o.page_size[0] >> 10,
           (double)(ns[1] - ns[0]) / 1e3 / PUTS, (double)(ns[2] - ns[1]) / 1e3 / PUTS);
    kv_seals_close(seals);
    free(o.memory);
    return true;
}

/* ---- a block that is being filled ---- */

#define BLOCK 32

/* Pages of N_MANY sequences, of the first group of the model. */
struct filling {
    struct backend *be;
    struct kv_group_spec spec;
    struct weight *k, *v;
    float *values;
    uint8_t *pool, *table;
    size_t pool_size;
    uint32_t pages[N_MANY];
};

static struct weight *random_rows(struct filling *f, int n_cols, struct error *err)
{
    struct tensor_view view = {.name = STR("rows"),
                               .type = DTYPE_F32,
                               .n_dims = 2,
                               .shape = {N_MANY, (uint64_t)n_cols, 1, 1},
                               .data = (const uint8_t *)f->values,
                               .size = N_MANY * (size_t)n_cols * sizeof(float)};
    const struct tensor_view *views[] = {&view};
    return f->be->ops->weight_create(f->be, views, 1, err);
}

static bool open_filling(struct filling *f, const char *path, struct error *err)
{
    struct model_file *file = model_file_open(path, err);
    struct decoder_config config;
    struct kv_group_spec groups[KV_MAX_GROUPS];
    uint8_t layer_group[MODEL_MAX_LAYERS];
    uint16_t layer_index[MODEL_MAX_LAYERS];
    struct cpu_backend_options o = {.n_threads = 1, .spin_us = -1};
    bool ok = file && decoder_config_read(file, &config, err) && (f->be = cpu_backend_create(&o, err));
    if (ok) {
        (void)decoder_kv_groups(&config, KV_F16, groups, layer_group, layer_index);
        f->spec = groups[0];
        int k_cols = f->spec.n_kv_heads * f->spec.k_dim, v_cols = f->spec.n_kv_heads * f->spec.v_dim;
        size_t n_values = N_MANY * (size_t)(k_cols > v_cols ? k_cols : v_cols);
        f->pool_size = N_MANY * f->be->ops->kv_page_size(f->be, &f->spec);
        f->pool = aligned_alloc(4096, (f->pool_size + 4095) / 4096 * 4096);
        f->table = calloc(1, KIB(4));
        f->values = malloc(n_values * sizeof(float));
        for (size_t i = 0; f->values && i < n_values; i++) {
            f->values[i] = (float)rng_uniform(1, i, 0, 0, RNG_SAMPLE);
        }
        ok = f->pool && f->table && f->values && f->be->ops->kv_bind(f->be, &f->spec, 1, f->pool, f->pool_size, err) &&
             (f->k = random_rows(f, k_cols, err)) && (f->v = random_rows(f, v_cols, err));
    }
    model_file_close(file);
    return ok;
}

static void close_filling(struct filling *f)
{
    if (f->be) {
        f->be->ops->weight_free(f->be, f->k);
        f->be->ops->weight_free(f->be, f->v);
        f->be->ops->free(f->be);
    }
    free(f->pool);
    free(f->table);
    free(f->values);
}

/* One position of each; what it takes to write K and V of all layers. */
static int64_t write_position(struct filling *f, int position, struct error *err)
{
    struct batch_seq seqs[N_MANY];
    int32_t ids[N_MANY], positions[N_MANY];
    for (int i = 0; i < N_MANY; i++) {
        f->pages[i] = (uint32_t)i;
        ids[i] = i;
        positions[i] = position;
        seqs[i] =
            (struct batch_seq){.first_row = i, .n_rows = 1, .start = position, .pages = {&f->pages[i]}, .n_pages = 1};
    }
    struct batch batch = {.n_rows = N_MANY, .ids = ids, .positions = positions, .n_seqs = N_MANY, .seqs = seqs};
    if (!f->be->ops->step_begin(f->be, &batch, err)) {
        return -1;
    }
    struct tensor *k = f->be->ops->embed(f->be, f->k, 1), *v = f->be->ops->embed(f->be, f->v, 1);
    int64_t start_ns = clock_ns();
    for (int layer = 0; layer < f->spec.n_layers; layer++) {
        f->be->ops->kv_write(f->be, 0, layer, k, v);
    }
    int64_t ns = clock_ns() - start_ns;
    return f->be->ops->step_end(f->be, err) ? ns : -1;
}

static uint64_t sum_of(void *arg, int group, uint32_t page, uint32_t from, uint32_t to, uint64_t seed, bool written)
{
    struct backend *be = arg;
    return be->ops->kv_sum(be, group, page, (int)from, (int)to, seed, written);
}

/* Behind the step: the keys of all, and their seals. */
static int64_t seal_position(struct kv_seals *seals, struct sha256_ctx *sha, uint32_t position, uint32_t round)
{
    int64_t start_ns = clock_ns();
    for (uint32_t i = 0; i < N_MANY; i++) {
        uint32_t ids[BLOCK] = {round, i};
        struct sha256 parent = {{1}};
        sha256_start(sha);
        sha256_update(sha, &parent, sizeof parent);
        sha256_update(sha, ids, (position + 1) * sizeof *ids);
        struct sha256 key = sha256_finish(sha);
        kv_seal_put_part(seals, 0, i, &key, 0, position + 1);
    }
    return clock_ns() - start_ns;
}

/* The least of all steps of a block, for each sequence: [0] without sums that are kept, [1] with. */
struct filling_cost {
    double write_us[2], seal_us[2];
};

static void note(double *us, int64_t ns)
{
    double each = (double)ns / 1e3 / N_MANY;
    *us = *us == 0 || each < *us ? each : *us;
}

static bool time_filling(struct filling *f, struct kv_seals *seals, struct filling_cost *cost, struct error *err)
{
    struct sha256_ctx *sha = sha256_create();
    bool ok = true;
    for (uint32_t round = 0; ok && round < 8; round++) {
        int kept = round % 2;
        ok = kept ? f->be->ops->kv_keep_sums(f->be, err)
                  : f->be->ops->kv_bind(f->be, &f->spec, 1, f->pool, f->pool_size, err);
        for (int i = 0; ok && i < BLOCK - 1; i++) {
            int64_t ns = write_position(f, i, err);
            ok = ns >= 0;
            note(&cost->write_us[kept], ns);
            note(&cost->seal_us[kept], seal_position(seals, sha, (uint32_t)i, round));
        }
    }
    sha256_free(sha);
    return ok;
}

/* one_us, many_us: what a decode step of one sequence takes, and one of N_MANY. */
static bool measure_filling(const char *path, double one_us, double many_us, struct error *err)
{
    struct filling f = {0};
    struct filling_cost cost = {0};
    bool ok = open_filling(&f, path, err);
    struct kv_seal_options o = {.memory = f.table,
                                .size = KIB(4),
                                .pool = f.pool,
                                .pool_size = f.pool_size,
                                .page_tokens = BLOCK,
                                .n_groups = 1,
                                .page_size = {f.pool_size / N_MANY},
                                .sum = sum_of,
                                .sum_arg = f.be};
    struct kv_seals *seals = ok ? kv_seals_open(&o, err) : NULL;
    ok = seals && time_filling(&f, seals, &cost, err);
    if (ok) {
        double more = cost.write_us[1] - cost.write_us[0] + cost.seal_us[1];
        printf("a position of %zu KiB: written in %.2f us, in %.2f us with its checksum, and sealed in %.2f us: %.3f "
               "%% of "
               "a step of one, %.3f %% of one of %d\n",
               f.pool_size / N_MANY / BLOCK >> 10, cost.write_us[0], cost.write_us[1], cost.seal_us[1],
               100 * more / one_us, 100 * more * N_MANY / many_us, N_MANY);
        printf("(sealed in %.2f us where its checksum was not kept)\n", cost.seal_us[0]);
    }
    kv_seals_close(seals);
    close_filling(&f);
    return ok;
}

static bool measure(struct cost *c, struct side sides[2], uint32_t n_rounds, struct error *err)
{
    for (int i = 0; i < 2; i++) {
        if (!open_side(c, &sides[i], i == 1, err)) {
            return false;
        }
    }
    for (uint32_t round = 0; round < n_rounds; round++) {
        new_prompt(c, round);
        for (int i = 0; i < 2; i++) {
            if (!one_round(c, &sides[(i + (int)round) % 2], round, err)) {
                return false;
            }
        }
    }
    report("prompt token", sides[0].prefill_us, sides[1].prefill_us, n_rounds);
    report("decode step", sides[0].decode_us, sides[1].decode_us, n_rounds);
    report("decode of 32", sides[0].many_us, sides[1].many_us, n_rounds);
    double one_us = median(sides[0].decode_us, n_rounds), many_us = median(sides[0].many_us, n_rounds);
    return time_seals(c, &sides[1], err) && measure_filling(c->options.model_path, one_us, many_us, err) &&
           adopt(c, &sides[1], err);
}

int main(int argc, char **argv)
{
    struct error err = {0};
    struct side sides[2] = {{.pool = {.fd = -1}, .seals = {.fd = -1}}, {.pool = {.fd = -1}, .seals = {.fd = -1}}};
    struct cost c = {.options = engine_options_default()};
    if (argc < 2) {
        fprintf(stderr, "usage: seal_cost MODEL [TOKENS [ROUNDS [THREADS]]]\n");
        return 2;
    }
    c.n_prompt = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 2048;
    c.n_prompt = c.n_prompt < 64 ? 64 : c.n_prompt;
    uint32_t n_rounds = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : 5;
    n_rounds = n_rounds < 1 ? 1 : n_rounds > MAX_ROUNDS ? MAX_ROUNDS : n_rounds;
    c.options.model_path = argv[1];
    c.options.pool_size = MIB(512);
    c.options.backend.cpu.n_threads = argc > 4 ? (int)strtol(argv[4], NULL, 10) : 0;
    c.options.max_sequences = N_MANY;
    c.prompt = calloc(c.n_prompt + N_MANY, sizeof *c.prompt);
    bool ok = c.prompt && measure(&c, sides, n_rounds, &err);
    if (!ok) {
        fprintf(stderr, "%s\n", err.msg);
    }
    for (int i = 0; i < 2; i++) {
        engine_free(sides[i].engine);
        shm_release(&sides[i].pool);
        shm_release(&sides[i].seals);
    }
    free(c.prompt);
    return ok ? 0 : 1;
}
