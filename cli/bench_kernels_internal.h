/* What the parts of `tandem bench-kernels` share: the run, cases, and how one is measured. Private to cli/bench_*.c.
 *
 * Ops are called through the public interface (backend/backend.h), a step at a time, as a model does. A case says how
 * many bytes it must read from memory and how many multiply-adds it must do, and the limits say how long that takes at
 * least. Operands that a model reads once per step (weights, K and V) are rotated through more memory than caches hold;
 * what lies in caches there (activations) does here. */
#ifndef TANDEM_CLI_BENCH_KERNELS_INTERNAL_H
#define TANDEM_CLI_BENCH_KERNELS_INTERNAL_H

#include "cli/bench_limits.h"
#include "cli/bench_report.h"

/* Of rotating operands: three times the last-level cache that a core usually sees. */
#define BENCH_COLD_SIZE ((size_t)96 << 20)

struct kernel_bench {
    const struct options *options;
    struct bench_list tokens;
    int repeat;
    struct cpu_backend_options cpu; /* n_threads: of the running round */
    const struct cpu_limits *limits;
    struct report *report;
    int n_cases; /* measured so far */
};

struct kernel_case {
    const char *op, *shape, *type; /* type: of the weights or of K and V; NULL: f32 */
    int tokens, context;           /* context: 0: none */
    double macs, bytes;            /* 0: no bound is known */
    enum cpu_limit compute;        /* what limits the multiply-adds */
};

/* One step with `loops` calls of the op; the time of the calls alone. */
typedef bool kernel_sample(void *arg, int loops, int64_t *ns, struct error *err);

/* Measures the case, unless its op is not asked for, and adds a row. max_loops: that memory of a step allows. */
NODISCARD bool kernels__measure(struct kernel_bench *k, const struct kernel_case *c, kernel_sample *sample, void *arg,
                                int max_loops, struct error *err);

/* By --op and --shape; NULL: any shape. */
bool kernels__wanted(const struct kernel_bench *k, const char *op, const char *shape);

/* A batch of n rows of one sequence from its start, without pages; ids go round in BENCH_INPUT_ROWS. */
#define BENCH_MAX_TOKENS 8192
#define BENCH_INPUT_ROWS 16
struct kernel_batch {
    struct batch batch;
    struct batch_seq seq;
    int32_t ids[BENCH_MAX_TOKENS], positions[BENCH_MAX_TOKENS], out_row;
};
void kernels__batch_init(struct kernel_batch *b, int n_rows);

/* Uniform in [-1, 1]. */
float kernels__random(uint64_t *state);
/* As logits are: half of them below 1.4 in magnitude, the largest of 100,000 at about 23. */
float kernels__random_logit(uint64_t *state);

/* A matrix of BENCH_INPUT_ROWS rows of random numbers, from which op_embed makes a step's input. */
struct kernel_input {
    float *values;
    struct weight *table;
};
NODISCARD bool kernels__input_init(struct kernel_input *in, struct backend *be, int n_cols,
                                   float (*draw)(uint64_t *state), struct error *err);
void kernels__input_release(struct kernel_input *in, struct backend *be);

/* ---- the groups of ops ---- */

enum kernel_name { KERNEL_OP, KERNEL_SHAPE, KERNEL_TYPE, KERNEL_KV_TYPE };

struct kernel_group {
    const char *(*name)(enum kernel_name kind, size_t i); /* the i-th name; NULL behind the last */
    /* Every case that is wanted, at the run's number of threads. */
    bool (*run)(struct kernel_bench *k, struct error *err);
};

extern const struct kernel_group kernels__linear;    /* linear, mlp_gated */
extern const struct kernel_group kernels__attention; /* attention, kv_write */
extern const struct kernel_group kernels__row_ops;   /* norm, rope, sample ... */

bool kernels__is_matrix(struct str word); /* "14336x4096", a shape of linear */

#endif
