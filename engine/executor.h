/* What computes a step for the scheduler: the model on its backend (executor_model.c) or, in test builds, a script
 * (script.h). Pages, batches, sampling parameters and events are the scheduler's and the same for both. The engine's
 * thread calls everything. */
#ifndef TANDEM_ENGINE_EXECUTOR_H
#define TANDEM_ENGINE_EXECUTOR_H

#include "backend/backend.h"
#include "model/adapter.h"
#include "model/model.h"

struct executor;

struct executor_owner { /* whom a sampled row belongs to; for scripts and logs, never for numbers */
    uint64_t job;
    uint32_t choice;
};

struct executor_step {
    const struct batch *batch;
    const struct sample_row *rows;       /* [n_samples] logits_row counts the batch's out_rows */
    const struct executor_owner *owners; /* [n_samples] */
    int n_samples;
};

struct executor_ops {
    /* Forward and sample, enqueued or done; *ids is what read wants. NO_MEMORY: a smaller step may succeed. */
    bool (*step)(struct executor *x, const struct executor_step *step, struct tensor **ids, struct error *err);
    bool (*read)(struct executor *x, const struct executor_step *step, struct tensor *ids,
                 struct sample_result *results, struct error *err); /* [n_samples] */
    void (*copy_page)(struct executor *x, int group, uint32_t src, uint32_t dst, int n_tokens);
    void (*free)(struct executor *x);
    void (*free_page)(struct executor *x, int group, uint32_t page); /* nobody needs it any more; may be NULL */
    /* Where the page's bytes lie, all of them and nothing else; NULL: pages are not memory of the host (backend.h) */
    void *(*page_data)(struct executor *x, int group, uint32_t page);
    /* Between two steps. The weights of rows of this adapter (batch_seq.adapter) from now on, all of them or, on
     * failure, none; NULL: there are no weights. */
    bool (*load_adapter)(struct executor *x, const struct adapter_file *file, int number, struct error *err);
    void (*drop_adapter)(struct executor *x, int number);
};

struct executor { /* first member of every implementation */
    const struct executor_ops *ops;
    bool lazy; /* step only enqueues: the next one may be enqueued before this one is read (backend.h) */
    bool
        no_guesses; /* tokens are guessed only where that is forced: it runs ahead, or a script says when tokens come */
    bool timed;     /* eval_ns is kept: what its calls take is then not asked of the clock */
    uint64_t eval_ns;      /* time spent in evaluation and in waiting for it, in all */
    bool kv_private;       /* pages are not shared between sequences: a hit copies them (backend.h) */
    uint64_t scratch_size; /* bytes of step memory after the last read; 0: not known */
};

/* Runs `m` on `be`; owns neither. */
NODISCARD struct executor *executor_model_create(struct backend *be, struct model *m, struct error *err);

#endif
