/* When rows are begun: behind everybody else, and the batches in turn. */
#include "api/batch/batch_internal.h"

#include "base/clock.h"
#include "pipeline/load.h"

static size_t most_begun(const struct batch_set *set)
{
    size_t most = set->app->options.batch_max_running;
    for (size_t i = 0; most == 0 && i < gateway_n_models(set->app->gateway); i++) {
        const struct engine_info *info = served_model_info(gateway_model_at(set->app->gateway, i));
        most = info ? (info->max_sequences + 1) / 2 : 0;
    }
    return most ? most : 1;
}

/* Of all models, without rows. Nobody has asked for one that is not open. */
static struct pipeline_load load_of_others(const struct batch_set *set)
{
    struct pipeline_load sum = {0};
    for (size_t i = 0; i < gateway_n_models(set->app->gateway); i++) {
        struct served_model *m = gateway_model_at(set->app->gateway, i);
        if (served_model_is_open(m)) {
            struct pipeline_load load = pipeline_load(served_model_pipeline(m), 0, 0);
            sum.jobs_waiting += load.jobs_waiting;
            sum.sequences_running += load.sequences_running;
        }
    }
    return sum;
}

bool batch__others_run(const struct batch_set *set)
{
    struct pipeline_load load = load_of_others(set);
    return load.jobs_waiting || load.sequences_running;
}

/* A model that is loaded on demand is ready to be, also after it has failed. */
static bool is_ready(const struct batch_set *set)
{
    for (size_t i = 0; i < gateway_n_models(set->app->gateway); i++) {
        const struct served_model *m = gateway_model_at(set->app->gateway, i);
        enum model_state state = served_model_state(m);
        bool on_demand = served_model_options(m)->on_demand;
        if (state == MODEL_READY || state == MODEL_UNLOADED || (state == MODEL_FAILED && on_demand)) {
            return true;
        }
    }
    return false;
}

/* Rows write to the journal, which nothing of theirs is refused by. */
static const char *what_journal_hinders(const struct batch_set *set)
{
    struct error ignored;
    struct journal_stats stats = journal_stats(set->journal);
    uint64_t most = set->app->options.max_files;
    return journal_failing(set->journal, &ignored)         ? "the journal cannot be written"
           : most && stats.all_file_size >= most           ? "files take all that they may (--files-max-mb)"
           : stats.max_size && stats.size > stats.max_size ? "the journal is full (--journal-max-mb)"
                                                           : NULL;
}

static const char *what_hinders(const struct batch_set *set)
{
    return set->stopping || !gateway_accepting(set->app->gateway) ? "the server is shutting down"
           : gateway_pressure(set->app->gateway) != PRESSURE_NONE ? "memory is short"
           : !is_ready(set)                                       ? "no model is ready"
           : load_of_others(set).jobs_waiting                     ? "other requests wait"
                                                                  : what_journal_hinders(set);
}

/* Batches take turns: no large one keeps the others waiting. */
static struct batch_run *next_run(struct batch_set *set)
{
    struct batch_run *best = NULL;
    int64_t now = clock_ms();
    for (struct batch_run *run = set->first; run; run = run->next) {
        bool may = run->phase == BATCH_ROWS && run->end == BATCH_IN_PROGRESS && run->rows_retry_ms <= now &&
                   run->n_waiting && run->n_done < BATCH_UNSAVED_MAX;
        if (may && (!best || run->turn < best->turn)) {
            best = run;
        }
    }
    return best;
}

static struct batch_row *next_row(struct batch_set *set)
{
    struct batch_run *run = next_run(set);
    struct batch_row *row = run ? run->first : NULL;
    while (row && row->phase != ROW_WAITING) {
        row = row->next;
    }
    return row;
}

void batch__pump(struct batch_set *set)
{
    size_t most = most_begun(set);
    set->now.waits_for = what_hinders(set);
    struct batch_row *row;
    while (!set->now.waits_for && set->n_begun < most && (row = next_row(set))) {
        struct batch_run *run = row->run;
        run->turn = ++set->n_turns;
        batch__row_begin(row);
        if (run->n_waiting == 0) {
            batch__read_more(run);
        }
    }
}
