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

/* Others that wait are waited for, but not without end: after the batches' patience one row is begun. */
static bool others_hinder(struct batch_set *set)
{
    int64_t now = clock_ms();
    bool rows_wait = false;
    for (const struct batch_run *run = set->first; run; run = run->next) {
        rows_wait = rows_wait || (run->phase == BATCH_ROWS && run->n_waiting);
    }
    bool others_wait = load_of_others(set).jobs_waiting;
    if (!others_wait || !rows_wait) {
        set->let_ms = now;
    }
    return others_wait && now - set->let_ms < set->app->options.batch_patience_ms;
}

static const char *what_hinders(struct batch_set *set)
{
    return set->stopping || !gateway_accepting(set->app->gateway) ? "the server is shutting down"
           : gateway_pressure(set->app->gateway) != PRESSURE_NONE ? "memory is short"
           : !is_ready(set)                                       ? "no model is ready"
           : others_hinder(set)                                   ? "other requests wait"
                                                                  : what_journal_hinders(set);
}

/* Which models are loaded. Returns how many rows wait for theirs, and so for nothing that others could use. */
static size_t look_at_models(struct batch_set *set)
{
    size_t apart = 0;
    for (struct batch_run *run = set->first; run; run = run->next) {
        run->models[0].ready = true;
        for (size_t i = 1; i < run->n_models; i++) {
            struct served_model *m = gateway_model_find(set->app->gateway, run->models[i].name, NULL);
            run->models[i].ready = !m || served_model_state(m) == MODEL_READY;
            apart += run->models[i].ready ? 0 : run->models[i].n_begun;
        }
    }
    return apart;
}

/* The first row of a batch for a model that is loaded, or for one that is not and that none of its rows waits for. */
static struct batch_row *first_row(struct batch_run *run, bool ready, int64_t now)
{
    struct batch_row *row = run->first;
    for (; row; row = row->next) {
        const struct batch_model *m = &run->models[row->model];
        if (row->phase == ROW_WAITING && m->ready == ready && m->retry_ms <= now && (ready || m->n_begun == 0)) {
            break;
        }
    }
    return row;
}

/* Batches take turns: no large one keeps the others waiting. */
static struct batch_row *next_row(struct batch_set *set, bool ready)
{
    struct batch_row *best = NULL;
    int64_t now = clock_ms();
    for (struct batch_run *run = set->first; run; run = run->next) {
        bool may = run->phase == BATCH_ROWS && run->end == BATCH_IN_PROGRESS && run->rows_retry_ms <= now &&
                   run->n_waiting && run->n_done < BATCH_UNSAVED_MAX;
        struct batch_row *row = may && (!best || run->turn < best->run->turn) ? first_row(run, ready, now) : NULL;
        best = row ? row : best;
    }
    return best;
}

/* Rows for what is loaded come first; those that wait for a model take no place of theirs. */
static struct batch_row *choose_row(struct batch_set *set, size_t most, size_t *apart)
{
    struct batch_row *row = set->n_begun < most + *apart ? next_row(set, true) : NULL;
    if (!row && *apart < BATCH_APART_MAX) {
        row = next_row(set, false);
        *apart += row != NULL;
    }
    return row;
}

void batch__pump(struct batch_set *set)
{
    size_t most = most_begun(set), apart = look_at_models(set);
    set->now.waits_for = what_hinders(set);
    struct batch_row *row;
    while (!set->now.waits_for && (row = choose_row(set, most, &apart))) {
        struct batch_run *run = row->run;
        run->turn = ++set->n_turns;
        set->let_ms = clock_ms();
        batch__row_begin(row);
        if (run->n_waiting == 0) {
            batch__read_more(run);
        }
        set->now.waits_for = others_hinder(set) ? "other requests wait" : NULL;
    }
}
