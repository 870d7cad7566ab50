/* The life of batches. Lines are read a piece of the input at a time, the next when the rows of the one before are
 * begun: what lies in memory of a batch is bounded, whatever its size. */
#include "api/batch/batch_internal.h"

#include "base/array.h"
#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- the set ---- */

static void tick(void *arg)
{
    struct batch_set *set = arg;
    for (struct batch_run *run = set->first, *next; run; run = next) {
        next = run->next; /* only run itself may go */
        batch__advance(run);
    }
    if (!set->first) {
        set->ticking = false;
        loop_timer_stop(set->timer);
    }
}

struct batch_set *api__batch_create_set(struct app *a)
{
    struct batch_set *set = calloc(1, sizeof *set);
    if (!set) {
        return NULL;
    }
    set->app = a;
    set->journal = a->options.journal;
    set->timer = loop_timer_create(a->loop, tick, set);
    if (!set->timer) {
        free(set);
        return NULL;
    }
    return set;
}

static void free_run(struct batch_run *run)
{
    struct batch_set *set = run->set;
    *(run->prev ? &run->prev->next : &set->first) = run->next;
    *(run->next ? &run->next->prev : &set->last) = run->prev;
    while (run->first) {
        batch__row_drop(run->first);
    }
    batch_lines_release(&run->lines);
    batch_checker_free(run->checker);
    arena_free(run->arena);
    free(run->done);
    free(run);
}

void api__batch_free_set(struct batch_set *set)
{
    if (set) {
        while (set->first) {
            free_run(set->first);
        }
        loop_timer_free(set->timer);
        free(set);
    }
}

struct batch_run *batch__find(struct batch_set *set, struct str id, struct str key_name)
{
    for (struct batch_run *run = set->first; run; run = run->next) {
        if (str_eq(run->b.id, id) && str_eq(run->b.key_name, key_name) && run->phase != BATCH_OVER) {
            return run;
        }
    }
    return NULL;
}

struct batch_now api__batch_now(const struct batch_set *set)
{
    struct batch_now now = set ? set->now : (struct batch_now){0};
    now.running = set ? set->n_begun : 0;
    return now;
}

/* ---- one that is new here ---- */

static bool copy_strings(struct batch_run *run)
{
    struct journal_batch *b = &run->b;
    struct str *texts[] = {&b->id,       &b->key_name, &b->endpoint, &b->model,  &b->window,
                           &b->metadata, &b->errors,   &b->input,    &b->output, &b->failed};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        *texts[i] = arena_str(run->arena, texts[i]->len ? *texts[i] : STR(""));
        if (!texts[i]->ptr) {
            return false;
        }
    }
    return true;
}

static struct batch_run *create(struct batch_set *set, const struct journal_batch *b)
{
    struct batch_run *run = calloc(1, sizeof *run);
    if (!run || !(run->arena = arena_create(MIB(4)))) {
        free(run);
        return NULL;
    }
    run->set = set;
    run->b = *b;
    run->end = BATCH_IN_PROGRESS;
    run->n_models = 1;
    run->form = batch__form_of(b->id);
    run->route = batch__route(b->endpoint, run->form);
    batch__rewind(run);
    run->checker = batch_checker_create(set->app->options.batch_max_rows, BATCH_ERRORS_MAX);
    if (!run->checker || !copy_strings(run)) {
        batch_checker_free(run->checker);
        arena_free(run->arena);
        free(run);
        return NULL;
    }
    run->prev = set->last;
    *(set->last ? &set->last->next : &set->first) = run;
    set->last = run;
    if (!set->ticking) {
        set->ticking = true;
        loop_timer_start(set->timer, BATCH_TICK_MS, BATCH_TICK_MS);
    }
    return run;
}

/* ---- its end ---- */

static void close_run(struct batch_run *run, enum batch_state state)
{
    run->phase = BATCH_CLOSING;
    run->b.state = state;
    run->b.ended_s = clock_wall_s();
    run->b.finalizing_s = state == BATCH_FAILED ? 0 : run->b.ended_s;
    run->dirty = true;
    batch__save(run);
}

static void set_text(struct batch_run *run, struct str *text, struct str value)
{
    struct str copy = arena_str(run->arena, value);
    *text = copy.ptr ? copy : STR("");
}

/* What is not begun or not finished will not be. */
static void drop_unfinished(struct batch_run *run)
{
    for (struct batch_row *row = run->first, *next; row; row = next) {
        next = row->next;
        if (row->phase != ROW_DONE) {
            batch__row_drop(row);
        }
    }
}

/* The whole of it: nothing that a row could be told. */
void batch__fail(struct batch_run *run, const char *code, const char *message)
{
    struct buf out;
    if (run->phase == BATCH_CLOSING || run->phase == BATCH_OVER) {
        return;
    }
    buf_init(&out, KIB(4));
    struct json_writer w = json_writer(&out);
    json_begin_array(&w);
    json_begin_object(&w);
    json_member_cstr(&w, "code", code);
    json_member_null(&w, "line");
    json_member_cstr(&w, "message", message);
    json_member_null(&w, "param");
    json_end_object(&w);
    json_end_array(&w);
    set_text(run, &run->b.errors, buf_view(&out));
    buf_release(&out);
    run->end = BATCH_FAILED;
    drop_unfinished(run);
}

static void end_rows(struct batch_run *run)
{
    for (struct batch_row *row = run->first; row; row = row->next) {
        if (row->phase == ROW_WAITING) {
            batch__row_end(row);
        }
    }
}

static void give_up_running(struct batch_run *run)
{
    for (struct batch_row *row = run->first; row; row = row->next) {
        if (row->phase == ROW_RUNNING) {
            batch__row_give_up(row);
        }
    }
}

bool batch__goes_on(const struct batch_run *run)
{
    return run->end == BATCH_IN_PROGRESS || run->end == BATCH_EXPIRED ||
           (run->end == BATCH_CANCELLED && run->form->tells_cancelled);
}

/* ---- checking ---- */

static bool take_counts(struct batch_run *run)
{
    free(run->done);
    run->done = calloc((size_t)run->b.n_total / 8 + 1, 1);
    return run->done != NULL;
}

static void end_check(struct batch_run *run)
{
    struct buf errors;
    buf_init(&errors, MIB(2));
    if (!batch_checker_end(run->checker, &errors)) {
        set_text(run, &run->b.errors, buf_view(&errors));
        run->end = BATCH_FAILED;
    } else {
        run->b.n_total = batch_checker_n(run->checker);
        set_text(run, &run->b.model, batch_checker_model(run->checker));
        run->b.state = BATCH_IN_PROGRESS;
        run->b.in_progress_s = clock_wall_s();
        run->phase = BATCH_ROWS;
        run->dirty = true;
        batch__rewind(run);
        if (!take_counts(run)) {
            batch__fail(run, "out_of_memory", "The server has no memory for the batch.");
        }
        LOG_INFO("batch in progress", "id=" STR_FMT " rows=%llu", STR_ARG(run->b.id),
                 (unsigned long long)run->b.n_total);
    }
    buf_release(&errors);
    batch_checker_free(run->checker);
    run->checker = NULL;
}

/* ---- rows of another process ---- */

static void on_rows(void *arg, struct journal_answer *answer)
{
    struct batch_run *run = arg;
    struct app *a = run->set->app;
    if (!answer->ok || !take_counts(run)) {
        run->reading = false;
        run->retry_ms = clock_ms() + BATCH_RETRY_MS;
        if (answer->error.code == ERR_IO) {
            batch__fail(run, "invalid_file", answer->error.msg);
        }
        api__release(a);
        return;
    }
    for (size_t i = 0; i < answer->n; i++) {
        if (answer->numbers[i] < run->b.n_total) {
            run->done[answer->numbers[i] / 8] |= (uint8_t)(1u << answer->numbers[i] % 8);
        }
    }
    run->reading = false;
    run->phase = BATCH_ROWS;
    LOG_INFO("batch goes on", "id=" STR_FMT " rows=%llu done=%zu", STR_ARG(run->b.id),
             (unsigned long long)run->b.n_total, answer->n);
    batch__advance(run);
    api__release(a);
}

static void load_rows(struct batch_run *run)
{
    struct error err = {0};
    struct batch_set *set = run->set;
    if (run->reading || clock_ms() < run->retry_ms || set->stopping) {
        return;
    }
    run->reading = true;
    api__hold(set->app);
    if (!journal_batch_rows(set->journal, run->b.id, (struct journal_done){on_rows, run}, &err)) {
        run->reading = false;
        run->retry_ms = clock_ms() + BATCH_RETRY_MS;
        api__release(set->app);
    }
}

/* ---- going on ---- */

static void check_time(struct batch_run *run)
{
    if (run->end == BATCH_IN_PROGRESS && clock_wall_s() >= run->b.expires_s) {
        run->end = BATCH_EXPIRED;
        LOG_INFO("batch expires", "id=" STR_FMT, STR_ARG(run->b.id));
        give_up_running(run);
    }
}

static void advance_rows(struct batch_run *run)
{
    check_time(run);
    bool goes_on = batch__goes_on(run);
    if (goes_on && run->end != BATCH_IN_PROGRESS) {
        end_rows(run);
    }
    if (goes_on && run->n_waiting == 0 && run->n_done < BATCH_UNSAVED_MAX) {
        batch__read_more(run);
    }
    bool all_read = run->at_end || !goes_on;
    if (all_read && !run->reading && !run->first && !run->saving) {
        close_run(run, run->end == BATCH_IN_PROGRESS ? BATCH_COMPLETED : run->end);
    }
}

/* One after the other: a line that is not complete lies in memory. */
static bool check_is_next(const struct batch_run *run)
{
    const struct batch_run *before = run->prev;
    while (before && before->phase != BATCH_CHECKING) {
        before = before->prev;
    }
    return !before;
}

static void advance_check(struct batch_run *run)
{
    if (run->reading) {
        return;
    }
    if (run->end == BATCH_CANCELLED || run->end == BATCH_FAILED) {
        close_run(run, run->end);
    } else if (run->at_end) {
        end_check(run);
        if (run->end == BATCH_FAILED) {
            close_run(run, BATCH_FAILED);
        }
    } else if (check_is_next(run)) {
        batch__read_more(run);
    }
}

void batch__release(struct batch_run *run)
{
    if (run->phase == BATCH_OVER && !run->saving && !run->reading && !run->first) {
        free_run(run);
    }
}

void batch__advance(struct batch_run *run)
{
    struct batch_set *set = run->set;
    if (set->stopping) {
        return; /* what is under way ends; the journal has the rest */
    }
    if (run->phase == BATCH_LOADING && !batch__goes_on(run) && !run->reading) {
        run->phase = BATCH_ROWS; /* none of them is begun: it does not matter which are done */
    }
    if (run->phase == BATCH_LOADING) {
        load_rows(run);
    }
    if (run->phase == BATCH_CHECKING) {
        advance_check(run);
    }
    if (run->phase == BATCH_ROWS) {
        advance_rows(run);
    }
    batch__save(run);
    batch__release(run);
    batch__pump(set);
}

/* ---- beginning ---- */

static void begin(struct batch_run *run)
{
    if (!run->route) {
        run->phase = BATCH_CHECKING;
        batch__fail(run, "invalid_endpoint", "This server has no such endpoint any more.");
    } else if (run->b.state == BATCH_CANCELLING) {
        run->end = BATCH_CANCELLED;
        run->phase = run->b.n_total ? BATCH_LOADING : BATCH_CHECKING;
    } else {
        run->phase = run->b.state == BATCH_VALIDATING ? BATCH_CHECKING : BATCH_LOADING;
    }
    batch__advance(run);
}

void batch__start(struct batch_set *set, const struct journal_batch *b)
{
    struct batch_run *run = create(set, b);
    if (!run) {
        LOG_ERROR("no memory for a batch; it goes on when the program is started again", "id=" STR_FMT, STR_ARG(b->id));
        return;
    }
    LOG_INFO("batch begins", "id=" STR_FMT " endpoint=" STR_FMT, STR_ARG(b->id), STR_ARG(b->endpoint));
    begin(run);
}

static void on_unfinished(void *arg, struct journal_answer *answer)
{
    struct batch_set *set = arg;
    struct app *a = set->app;
    for (size_t i = 0; i < answer->n && !set->stopping; i++) {
        const struct journal_batch *b = &answer->batches[i];
        if (!batch__find(set, b->id, b->key_name)) { /* else it came after the start */
            batch__start(set, b);
        }
    }
    if (!answer->ok) {
        LOG_ERROR("the journal's batches cannot be read", "error=\"%s\"", answer->error.msg);
    }
    api__release(a);
}

void api__batch_resume(struct batch_set *set)
{
    struct error err = {0};
    api__hold(set->app);
    if (!journal_batch_unfinished(set->journal, (struct journal_done){on_unfinished, set}, &err)) {
        LOG_ERROR("the journal's batches cannot be read", "error=\"%s\"", err.msg);
        api__release(set->app);
    }
}

/* ---- ending early ---- */

void batch__cancel(struct batch_run *run,
                   void (*done)(void *arg, const struct journal_batch *b, const struct error *err), void *arg)
{
    struct error err = {0};
    bool ends = run->end == BATCH_EXPIRED || run->end == BATCH_FAILED || run->phase == BATCH_CLOSING;
    if (run->on_cancelled || ends || run->set->stopping) { /* nothing is saved any more when it stops */
        error_set(&err, ERR_UNAVAILABLE, "The batch is about to end; try again in a moment.");
        done(arg, NULL, &err);
        return;
    }
    run->on_cancelled = done;
    run->on_cancelled_arg = arg;
    if (run->end == BATCH_IN_PROGRESS) {
        run->end = BATCH_CANCELLED;
    }
    if (run->b.cancelling_s == 0) {
        run->b.cancelling_s = clock_wall_s();
    }
    run->b.state = BATCH_CANCELLING;
    run->dirty = true;
    if (batch__goes_on(run)) {
        give_up_running(run); /* they are told in the output */
    } else {
        drop_unfinished(run);
    }
    batch__save(run);
    batch__advance(run);
}

void api__batch_stop(struct batch_set *set)
{
    struct error stopping = {0};
    error_set(&stopping, ERR_UNAVAILABLE, "the server is shutting down.");
    if (set->stopping) {
        return;
    }
    set->stopping = true;
    loop_timer_stop(set->timer);
    for (struct batch_run *run = set->first; run; run = run->next) {
        drop_unfinished(run);
        if (run->on_cancelled) {
            void (*done)(void *, const struct journal_batch *, const struct error *) = run->on_cancelled;
            run->on_cancelled = NULL;
            done(run->on_cancelled_arg, NULL, &stopping);
        }
    }
}
