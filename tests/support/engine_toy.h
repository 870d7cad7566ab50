/* A toy model for scheduler tests. Its K and V are hashes: what a position writes depends on its token, its position
 * and everything it sees through the block tables, and a sampled id depends on that, on the history and on the uniform.
 * So one wrong page, position, window or random number changes the tokens. Groups of states are hashes of all rows
 * before, and it aborts where their contract (backend.h) is broken. And a log that collects events. */
#ifndef TANDEM_TESTS_SUPPORT_ENGINE_TOY_H
#define TANDEM_TESTS_SUPPORT_ENGINE_TOY_H

#include "engine/engine_internal.h"

#include <stdatomic.h>

/* How the toy behaves as an executor. A blind one does not look at the history when it samples, as rows that are
 * sampled ahead of it cannot. */
struct toy_mode {
    bool lazy, kv_private, blind;
};

/* Samples of one step; the handle of a lazy toy's step. They live until the end of the step after. */
struct toy_samples {
    struct sample_result *results; /* [n] */
    int n, cap;
    uint64_t step;
};

struct toy {
    struct executor base;
    bool blind;
    struct toy_samples samples[2]; /* alternate from step to step */
    const struct engine_config *config;
    uint64_t *kv;                    /* the pool, pages of all groups in it as kv.h says */
    uint64_t *states;                /* [rows] of the step */
    uint64_t running[KV_MAX_GROUPS]; /* states of the sequence that is being computed */
    const struct kv_pool *pages;     /* the scheduler's books: what is written is nobody else's; NULL: not looked at */
    /* What it does wrong on purpose. */
    enum error_code fail_next; /* the next step fails with it */
    uint64_t bad_job;          /* its logits are not finite; 0: none */
    int delay_ms;              /* of every step */
    int32_t bad_id;            /* logits of rows of this token are not finite; 0: none are bad */
    uint32_t wrong_one_in;     /* of so many samples one is another token than that of other toys; 0: none */
    /* What a step takes, as time that passes in eval_ns only; NULL: the clock's. Set before the first step. */
    uint64_t (*cost)(const struct executor_step *step);
    /* What it saw. */
    uint64_t n_steps, n_rows, n_copies, n_states; /* states written */
    uint32_t max_rows, max_seqs;
};

/* Two groups, one of them with a window, unless changed: fill a config, then toy_init. */
struct engine_config toy_config(size_t pool_pages);                  /* pages of the larger group */
void toy_add_states(struct engine_config *config, size_t page_size); /* one more group: of states (backend.h) */
void toy_init(struct toy *t, const struct engine_config *config);
void toy_init_mode(struct toy *t, const struct engine_config *config, struct toy_mode mode);
void toy_release(struct toy *t);
/* What seals ask of positions (kv_seal.h); toy: a struct toy, whose pages have a word for each. */
uint64_t toy_sum(void *toy, int group, uint32_t page, uint32_t from, uint32_t to, uint64_t seed, bool written);

/* ---- log ---- */

#define TOY_MAX_JOBS    1200
#define TOY_MAX_CHOICES 8

struct toy_choice {
    int32_t *ids; /* [n] */
    float *logprobs;
    uint64_t *digests;
    uint32_t n, cap;
    enum finish_reason finish;
    int32_t stop_id;
    uint64_t finish_seq; /* order in which choices finished */
};
struct toy_job {
    struct toy_choice choices[TOY_MAX_CHOICES];
    uint32_t n_choices; /* set by the test that waits for the end of jobs; else 0 */
    uint32_t n_started, n_cached, n_done, n_scored, n_ended, n_preempted, n_replayed;
    char fingerprint[17]; /* of whoever replayed it */
    uint64_t queue_us;
    float score_sum;
    enum error_code failed;
    struct error error; /* of it */
    uint64_t start_seq; /* order in which jobs started */
};
struct toy_log {
    struct toy_job jobs[TOY_MAX_JOBS]; /* by job id */
    uint64_t n_events, n_finished, seq;
    struct engine_stats stats;
    uint32_t n_stats;
    atomic_uint n_jobs_ended; /* of those with n_choices; written last, so that others may read the jobs then */
    const char *wrong;        /* the first event that made no sense */
};

void toy_log_init(struct toy_log *log);
void toy_log_release(struct toy_log *log);
void toy_sink(void *log, const struct engine_event *events, size_t n);
/* Same tokens, logprobs, digests and ends of n_choices choices. */
bool toy_same(const struct toy_job *a, const struct toy_job *b, uint32_t n_choices);

#endif
