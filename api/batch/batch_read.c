/* The input of a batch, read from the journal in pieces and split into lines on a worker: to be checked before it
 * begins, and again as rows. */
#include "api/batch/batch_internal.h"

#include "base/clock.h"

#include <stdio.h>

static void split_check(struct batch_chunk *chunk, enum batch_line what, struct str line)
{
    struct batch_run *run = chunk->run;
    if (what == BATCH_LINE_TOO_LONG) {
        batch_checker_too_long(run->checker, run->lines.number, run->lines.max);
    } else if (!batch_checker_add(run->checker, run->lines.number, line, run->b.endpoint)) {
        chunk->no_memory = true;
    }
}

/* Its lines were found sound when it began; one that is not any more (--max-body may be another by now) has no answer
 * that could be told under its custom_id. */
static void split_row(struct batch_chunk *chunk, enum batch_line what, struct str line)
{
    struct batch_run *run = chunk->run;
    struct batch_line_view view;
    struct batch_fault fault;
    uint64_t number = run->n_rows++;
    bool done = number >= run->b.n_total || (run->done[number / 8] >> number % 8 & 1);
    if (done) {
        return;
    }
    if (what != BATCH_LINE || !batch_line_read(line, run->b.endpoint, &view, &fault)) {
        chunk->unsound = chunk->unsound ? chunk->unsound : run->lines.number;
        return;
    }
    struct batch_row *row = batch__row_create(run, number, view.custom_id, view.body);
    json_free(view.root);
    if (!row) {
        chunk->no_memory = true;
        return;
    }
    *chunk->end = row;
    chunk->end = &row->next;
}

/* On a worker. */
static void split(void *arg)
{
    struct batch_run *run = arg;
    struct batch_chunk *chunk = &run->chunk;
    void (*take)(struct batch_chunk *, enum batch_line, struct str) =
        run->phase == BATCH_CHECKING ? split_check : split_row;
    enum batch_line what;
    struct str line;
    for (size_t i = 0; i < chunk->n; i++) {
        struct str input = chunk->pieces[i].data;
        while ((what = batch_lines_next(&run->lines, &input, &line)) != BATCH_LINE_NONE) {
            take(chunk, what, line);
        }
    }
    if (chunk->last && (what = batch_lines_end(&run->lines, &line)) != BATCH_LINE_NONE) {
        take(chunk, what, line);
    }
}

/* Rows that came of it; of one that ends meanwhile they are dropped. */
static void take_rows(struct batch_run *run)
{
    struct batch_row *next;
    for (struct batch_row *row = run->chunk.first; row; row = next) {
        next = row->next;
        row->next = NULL;
        if (batch__goes_on(run) && !run->set->stopping) {
            batch__row_add(row);
        } else {
            batch__row_free(row);
        }
    }
    run->chunk.first = NULL;
}

static void on_split(void *arg)
{
    struct batch_run *run = arg;
    struct app *a = run->set->app;
    struct batch_chunk *chunk = &run->chunk;
    arena_free(chunk->arena);
    run->reading = false;
    run->at_end = chunk->last;
    take_rows(run);
    if (chunk->no_memory) {
        batch__fail(run, "out_of_memory", "The server has no memory for the batch.");
    } else if (chunk->unsound) {
        char message[160];
        snprintf(message, sizeof message, "Line %llu was sound when the batch was checked, and cannot be read now.",
                 (unsigned long long)chunk->unsound);
        batch__fail(run, "unreadable_line", message);
    }
    batch__advance(run);
    api__release(a);
}

static void on_pieces(void *arg, struct journal_answer *answer)
{
    struct batch_run *run = arg;
    struct app *a = run->set->app;
    if (!answer->ok) {
        run->reading = false;
        if (answer->error.code == ERR_NOT_FOUND || answer->error.code == ERR_IO) {
            batch__fail(run, "invalid_file", answer->error.msg);
        } else {
            run->retry_ms = clock_ms() + BATCH_RETRY_MS;
        }
        batch__advance(run);
        api__release(a);
        return;
    }
    run->chunk = (struct batch_chunk){
        .run = run, .arena = answer->arena, .pieces = answer->pieces, .n = answer->n, .last = !answer->more};
    run->chunk.end = &run->chunk.first;
    answer->arena = NULL;
    run->next_piece = answer->n ? answer->pieces[answer->n - 1].at + 1 : run->next_piece;
    loop_work(a->loop, split, on_split, run);
}

void batch__read_more(struct batch_run *run)
{
    struct error err = {0};
    struct batch_set *set = run->set;
    if (run->reading || run->at_end || clock_ms() < run->retry_ms || set->stopping) {
        return;
    }
    run->reading = true;
    api__hold(set->app);
    if (!journal_file_pieces(set->journal, run->b.input, run->b.key_name, run->next_piece, BATCH_READ_SIZE,
                             (struct journal_done){on_pieces, run}, &err)) {
        run->reading = false;
        run->retry_ms = clock_ms() + BATCH_RETRY_MS;
        api__release(set->app);
    }
}

void batch__rewind(struct batch_run *run)
{
    batch_lines_release(&run->lines);
    batch_lines_init(&run->lines, api__max_body(run->set->app));
    run->next_piece = run->n_rows = 0;
    run->at_end = false;
}
