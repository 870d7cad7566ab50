/* What has become of a batch, into the journal: one transaction at a time; rows that are done meanwhile go with the
 * next. Rows and counts are of one transaction, so they agree whenever the program ends. */
#include "api/batch/batch_internal.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdlib.h>

static void on_saved(void *arg, struct journal_answer *answer);

/* Rows that are done, those of the output first. False: no memory. */
static bool gather(struct batch_run *run)
{
    struct journal_batch_update *u = &run->update;
    size_t at = 0;
    run->pieces = run->n_done ? calloc(run->n_done, sizeof *run->pieces) : NULL;
    if (run->n_done && !run->pieces) {
        return false;
    }
    for (int ok = 1; ok >= 0; ok--) {
        size_t first = at;
        for (struct batch_row *row = run->first; row; row = row->next) {
            if (row->phase == ROW_DONE && row->ok == (ok == 1)) {
                row->saving = true;
                run->saving_given_up += row->given_up;
                run->pieces[at++] = (struct journal_piece){row->number, buf_view(&row->line)};
            }
        }
        *(ok ? &u->completed : &u->failed) = run->pieces + first;
        *(ok ? &u->n_completed : &u->n_failed) = at - first;
    }
    return true;
}

static void forget(struct batch_run *run)
{
    free(run->pieces);
    run->pieces = NULL;
    run->saving = false;
}

static void on_refused(void *arg)
{
    struct batch_run *run = arg;
    struct journal_answer answer = {.error = run->refused};
    on_saved(run, &answer);
}

void batch__save(struct batch_run *run)
{
    struct batch_set *set = run->set;
    if (run->saving || (!run->dirty && run->n_done == 0) || clock_ms() < run->retry_ms) {
        return;
    }
    run->update = (struct journal_batch_update){0};
    run->saving_given_up = 0;
    if (!gather(run)) {
        run->retry_ms = clock_ms() + BATCH_RETRY_MS;
        return;
    }
    run->b.n_completed += run->update.n_completed;
    run->b.n_failed += run->update.n_failed;
    run->b.n_given_up += run->saving_given_up;
    run->update.batch = run->b;
    run->dirty = false;
    run->saving = true;
    api__hold(set->app);
    if (!journal_batch_update(set->journal, &run->update, (struct journal_done){on_saved, run}, &run->refused)) {
        loop_defer(set->app->loop, on_refused, run); /* not from inside whoever called */
    }
}

static void count_rows(struct batch_run *run)
{
    run->set->now.completed += run->update.n_completed;
    run->set->now.failed += run->update.n_failed;
}

static void drop_saved(struct batch_run *run)
{
    for (struct batch_row *row = run->first, *next; row; row = next) {
        next = row->next;
        if (row->saving) {
            batch__row_drop(row);
        }
    }
}

static void take_back(struct batch_run *run, const struct error *why)
{
    LOG_WARN("a batch cannot be saved, it is tried again", "id=" STR_FMT " error=\"%s\"", STR_ARG(run->b.id), why->msg);
    run->b.n_completed -= run->update.n_completed;
    run->b.n_failed -= run->update.n_failed;
    run->b.n_given_up -= run->saving_given_up;
    run->dirty = true;
    run->retry_ms = clock_ms() + BATCH_RETRY_MS;
    for (struct batch_row *row = run->first; row; row = row->next) {
        row->saving = false;
    }
}

static void tell_cancelled(struct batch_run *run)
{
    void (*done)(void *, const struct journal_batch *, const struct error *) = run->on_cancelled;
    if (done && run->update.batch.cancelling_s) {
        run->on_cancelled = NULL;
        done(run->on_cancelled_arg, &run->update.batch, NULL);
    }
}

static void note_end(struct batch_run *run)
{
    const struct journal_batch *b = &run->b;
    run->phase = BATCH_OVER;
    LOG_INFO("batch ended", "id=" STR_FMT " status=%s rows=%llu completed=%llu failed=%llu seconds=%lld",
             STR_ARG(b->id), batch_state_name(b->state), (unsigned long long)b->n_total,
             (unsigned long long)b->n_completed, (unsigned long long)b->n_failed,
             (long long)(b->ended_s - b->created_s));
}

static void on_saved(void *arg, struct journal_answer *answer)
{
    struct batch_run *run = arg;
    struct app *a = run->set->app;
    if (answer->ok) {
        count_rows(run);
        drop_saved(run);
        tell_cancelled(run);
    } else {
        take_back(run, &answer->error);
    }
    forget(run);
    if (answer->ok && batch_state_ended(run->update.batch.state)) {
        note_end(run);
    }
    batch__advance(run);
    api__release(a);
}
