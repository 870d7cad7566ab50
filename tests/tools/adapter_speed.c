/* adapter_speed MODEL [RANK [ROUNDS]]: what adapters cost. Steps without and with them in turns, on the cpu backend
 * with all threads and f16 KV: decode of 4 and of 16 sequences, a quarter of them without an adapter and the others
 * with three; prefill of 512 tokens of one sequence with one, and of four of 128 tokens, mixed likewise. The adapters
 * change all linear layers, by random values. Prints medians and how much of the speed is left; bench/adapters.py runs
 * it. */
#include "base/clock.h"
#include "base/limits.h"
#include "model/adapter.h"
#include "model/model_internal.h"
#include "tensor/safetensors_writer.h"
#include "tests/support/model_driver.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_SEQS   16
#define MAX_ROUNDS 101
#define N_PROMPT   128
#define N_LONG     512
#define N_STEPS    8 /* of a round of decoding */
#define MAX_RANK   64

/* ---- adapters ---- */

struct made {
    struct safetensors_writer *w;
    const struct decoder_config *config;
    const float *values; /* of any tensor */
    uint64_t rank;
};

static void add(const struct made *m, int layer, const char *name, enum model_part part)
{
    char full[160];
    uint64_t n_out = weights__part_rows(m->config, part), n_in = weights__part_cols(m->config, part);
    struct gguf_tensor t = {.name = full, .type = DTYPE_F32, .n_dims = 2, .shape = {m->rank, n_in}, .data = m->values};
    snprintf(full, sizeof(full), "base_model.model.model.layers.%d.%s.lora_A.weight", layer, name);
    safetensors_add_tensor(m->w, &t);
    t.shape[0] = n_out;
    t.shape[1] = m->rank;
    snprintf(full, sizeof(full), "base_model.model.model.layers.%d.%s.lora_B.weight", layer, name);
    safetensors_add_tensor(m->w, &t);
}

static bool load_adapters(struct model_driver *d, int rank, struct error *err)
{
    static const struct {
        const char *name;
        enum model_part part;
    } parts[] = {{"self_attn.q_proj", PART_Q},        {"self_attn.k_proj", PART_K}, {"self_attn.v_proj", PART_V},
                 {"self_attn.o_proj", PART_ATTN_OUT}, {"mlp.gate_proj", PART_GATE}, {"mlp.up_proj", PART_UP},
                 {"mlp.down_proj", PART_DOWN}};
    size_t n = (size_t)(d->config.n_ff + d->config.n_embd + d->config.n_heads * d->config.k_dim) * MAX_RANK;
    float *values = malloc(n * sizeof(*values));
    uint64_t state = 1;
    for (size_t i = 0; values && i < n; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        values[i] = ((float)(state >> 40) / (float)(1 << 23) - 1) * 0.01f;
    }
    struct made m = {.w = safetensors_writer_create(), .config = &d->config, .values = values, .rank = (uint64_t)rank};
    for (int layer = 0; layer < d->config.n_layers; layer++) {
        for (size_t i = 0; i < ARRAY_LEN(parts); i++)
            add(&m, layer, parts[i].name, parts[i].part);
    }
    struct buf bytes;
    char config[128];
    buf_init(&bytes, GIB(2));
    snprintf(config, sizeof(config), "{\"peft_type\":\"LORA\",\"r\":%d,\"lora_alpha\":%d}", rank, rank);
    bool ok = safetensors_write_buf(m.w, &bytes, err);
    struct adapter_file *f = ok ? adapter_file_open_memory(str_of(config), bytes.data, bytes.len, err) : NULL;
    ok = f != NULL;
    for (int k = 1; ok && k <= 3; k++)
        ok = model_adapter_load(d->model, f, k, err);
    adapter_file_close(f);
    buf_release(&bytes);
    safetensors_writer_free(m.w);
    free(values);
    return ok;
}

/* ---- steps ---- */

static const int32_t first = 0, last = N_LONG - 1, last_of_prompt = N_PROMPT - 1;
static int32_t ids[N_LONG];

/* Decodes N_STEPS tokens of n sequences behind their prompts. */
static void decode(struct model_driver *d, int n, bool adapters)
{
    struct driver_rows rows[MAX_SEQS];
    for (int step = 0; step < N_STEPS; step++) {
        for (int i = 0; i < n; i++)
            rows[i] = (struct driver_rows){.seq = i,
                                           .start = N_PROMPT + step,
                                           .n = 1,
                                           .ids = ids + step + i,
                                           .n_out = 1,
                                           .out = &first,
                                           .adapter = adapters ? i % 4 : 0};
        model_driver_step(d, rows, n, NULL);
    }
}

static void prefill(struct model_driver *d, int n, bool adapters)
{
    struct driver_rows rows[MAX_SEQS];
    for (int i = 0; i < n; i++)
        rows[i] = (struct driver_rows){.seq = i,
                                       .n = n == 1 ? N_LONG : N_PROMPT,
                                       .ids = ids,
                                       .n_out = 1,
                                       .out = n == 1 ? &last : &last_of_prompt,
                                       .adapter = !adapters ? 0
                                                  : n == 1  ? 1
                                                            : i % 4};
    model_driver_step(d, rows, n, NULL);
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double timed(struct model_driver *d, void (*run)(struct model_driver *, int, bool), int n, bool adapters)
{
    int64_t begun = clock_ns();
    run(d, n, adapters);
    return (double)(clock_ns() - begun) / 1e6;
}

/* In turns, so that what else the machine does meets both. */
static void compare(struct model_driver *d, const char *what, void (*run)(struct model_driver *, int, bool), int n,
                    int rounds)
{
    static double times[2][MAX_ROUNDS];
    run(d, n, false);
    run(d, n, true);
    for (int i = 0; i < rounds; i++) {
        times[0][i] = timed(d, run, n, false);
        times[1][i] = timed(d, run, n, true);
    }
    for (int k = 0; k < 2; k++)
        qsort(times[k], (size_t)rounds, sizeof(times[k][0]), by_size);
    double without = times[0][rounds / 2], with = times[1][rounds / 2];
    printf("%s,%d,%.3f,%.3f,%.3f\n", what, n, without, with, without / with);
}

int main(int argc, char **argv)
{
    struct error err = {0};
    struct model_driver d = {0};
    int rank = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 16, rounds = argc > 3 ? (int)strtol(argv[3], NULL, 10) : 9;
    struct model_file *file = argc > 1 ? model_file_open(argv[1], &err) : NULL;
    struct model_driver_options o = {
        .file = file, .kv_type = KV_F16, .n_positions = N_LONG + N_STEPS, .n_seqs = MAX_SEQS};
    if (argc < 2 || rank < 1 || rank > MAX_RANK || rounds < 1 || rounds > MAX_ROUNDS) {
        fprintf(stderr, "usage: adapter_speed MODEL [RANK (1 to %d) [ROUNDS (1 to %d)]]\n", MAX_RANK, MAX_ROUNDS);
        return 2;
    }
    for (int i = 0; i < N_LONG; i++)
        ids[i] = 100 + i;
    if (!file || !model_driver_open(&d, &o, &err) || !load_adapters(&d, rank, &err)) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    for (int i = 0; i < MAX_SEQS; i++)
        model_driver_step(&d, &(struct driver_rows){.seq = i, .n = N_PROMPT, .ids = ids, .adapter = i % 4}, 1, NULL);
    printf("what,sequences,ms_without,ms_with,speed_left\n");
    compare(&d, "decode", decode, 4, rounds);
    compare(&d, "decode", decode, 16, rounds);
    compare(&d, "prefill", prefill, 1, rounds);
    compare(&d, "prefill", prefill, 4, rounds);
    model_driver_close(&d);
    model_file_close(file);
    return 0;
}
