/* What the parts of `tandem bench` share: the run, and its tests. Private to cli/bench*.c. */
#ifndef TANDEM_CLI_BENCH_INTERNAL_H
#define TANDEM_CLI_BENCH_INTERNAL_H

#include "cli/bench_engine.h"
#include "cli/bench_limits.h"
#include "cli/bench_report.h"
#include "cli/model_path.h"
#include "model/cost.h"

#define BENCH_MAX_REPEATS 1000
#define BENCH_MAX_GAPS    ((size_t)1 << 20) /* times between tokens of one row that percentiles are taken of */

enum bench_test { TEST_PREFILL, TEST_DECODE, TEST_BATCH, TEST_COUNT };
extern const char *const bench__test_names[TEST_COUNT];

struct model_bench {
    const struct options *options;
    char path[MODEL_PATH_MAX];
    bool tests[TEST_COUNT];
    struct bench_list prompts, contexts, streams, batch_prompts, threads;
    int gen, repeat;

    struct engine_options engine_options;
    struct decoder_config config;
    struct decoder_cost cost;
    struct cost_kv kv;
    bool is_cpu; /* else neither limits nor the times of ops are known */
    struct bench_limits limits;
    struct report *report;
    struct op_times times;

    struct bench_engine *engine; /* of the running round */
    const struct cpu_limits *limit;
    double *gaps; /* [BENCH_MAX_GAPS] */
};

/* A report with the columns of the tests' rows. */
NODISCARD struct report *bench__report(const struct report_files *files, struct error *err);

/* All tests that are asked for, with the running round's engine: a row of the report for each combination. */
NODISCARD bool bench__run(struct model_bench *m, int n_threads, struct error *err);

#endif
