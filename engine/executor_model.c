#include "engine/executor.h"

#include <stdlib.h>

struct model_executor {
    struct executor base;
    struct backend *be;
    struct model *model;
};

/* What the executor says of itself besides its results. */
static void note_costs(struct model_executor *m)
{
    if (m->be->ops->scratch_size) {
        m->base.scratch_size = m->be->ops->scratch_size(m->be);
    }
    if (m->be->ops->eval_ns) {
        m->base.eval_ns = m->be->ops->eval_ns(m->be);
    }
}

static bool run_step(struct executor *x, const struct executor_step *step, struct tensor **ids, struct error *err)
{
    struct model_executor *m = (struct model_executor *)x;
    *ids = NULL;
    if (!m->be->ops->step_begin(m->be, step->batch, err)) {
        return false;
    }
    struct tensor *logits = model_forward(m->model, step->batch);
    if (step->n_samples > 0) {
        *ids = m->be->ops->sample(m->be, logits, step->rows, step->n_samples);
    }
    bool ok = m->be->ops->step_end(m->be, err);
    note_costs(m);
    return ok;
}

static bool read_step(struct executor *x, const struct executor_step *step, struct tensor *ids,
                      struct sample_result *results, struct error *err)
{
    struct model_executor *m = (struct model_executor *)x;
    bool ok = step->n_samples == 0 || m->be->ops->read_samples(m->be, ids, results, err);
    note_costs(m);
    return ok;
}

static void copy_page(struct executor *x, int group, uint32_t src, uint32_t dst, int n_tokens)
{
    struct model_executor *m = (struct model_executor *)x;
    m->be->ops->kv_copy_page(m->be, group, src, dst, n_tokens);
}

static void free_page(struct executor *x, int group, uint32_t page)
{
    struct model_executor *m = (struct model_executor *)x;
    if (m->be->ops->kv_free_page) {
        m->be->ops->kv_free_page(m->be, group, page);
    }
}

static void *page_data(struct executor *x, int group, uint32_t page)
{
    struct model_executor *m = (struct model_executor *)x;
    return m->be->ops->kv_page(m->be, group, page);
}

static bool load_adapter(struct executor *x, const struct adapter_file *file, int number, struct error *err)
{
    struct model_executor *m = (struct model_executor *)x;
    return model_adapter_load(m->model, file, number, err);
}

static void drop_adapter(struct executor *x, int number)
{
    struct model_executor *m = (struct model_executor *)x;
    model_adapter_drop(m->model, number);
}

static void free_executor(struct executor *x)
{
    free(x);
}

static const struct executor_ops ops = {.step = run_step,
                                        .read = read_step,
                                        .copy_page = copy_page,
                                        .free = free_executor,
                                        .free_page = free_page,
                                        .page_data = page_data,
                                        .load_adapter = load_adapter,
                                        .drop_adapter = drop_adapter};

struct executor *executor_model_create(struct backend *be, struct model *m, struct error *err)
{
    struct model_executor *x = calloc(1, sizeof *x);
    if (!x) {
        error_set(err, ERR_NO_MEMORY, "There is no memory for the engine's executor.");
        return NULL;
    }
    *x = (struct model_executor){.base = {.ops = &ops,
                                          .no_guesses = be->ops->lazy,
                                          .lazy = be->ops->lazy,
                                          .kv_private = be->ops->kv_private,
                                          .timed = be->ops->eval_ns},
                                 .be = be,
                                 .model = m};
    return &x->base;
}
