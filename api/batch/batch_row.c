/* One row: decoded and prepared by workers as a request with its body would be, then a generation of the lowest
 * priority, then a line of the output. */
#include "api/batch/batch_internal.h"

#include "api/generate.h"
#include "base/array.h"
#include "base/clock.h"
#include "base/hash.h"
#include "pipeline/generation_kept.h"

#include <stdio.h>
#include <stdlib.h>

#define LINE_OVERHEAD KIB(8) /* bytes of a line besides the reply's, at most: a custom_id of escapes, and names */

struct batch_row *batch__row_create(struct batch_run *run, uint64_t number, struct str custom_id,
                                    const struct json *body)
{
    struct buf text;
    buf_init(&text, LIMIT_REQUEST_ARENA);
    json_print(&text, body);
    struct str model = json_str(json_get(body, "model"));
    struct batch_row *row = text.failed ? NULL : malloc(sizeof *row + custom_id.len + text.len + model.len + 1);
    if (row) {
        char *bytes = (char *)(row + 1);
        *row = (struct batch_row){.run = run, .number = number};
        memcpy(bytes, custom_id.ptr, custom_id.len);
        memcpy(bytes + custom_id.len, text.data, text.len);
        row->custom_id = (struct str){bytes, custom_id.len};
        row->body = (struct str){bytes + custom_id.len, text.len};
        row->model_name = (struct str){bytes + custom_id.len + text.len, model.len};
        memcpy(bytes + custom_id.len + text.len, model.len ? model.ptr : "", model.len);
        buf_init(&row->line, LIMIT_HTTP_REPLY); /* it is sent in one piece when its file is read */
    }
    buf_release(&text);
    return row;
}

void batch__row_free(struct batch_row *row)
{
    struct call *c = row->call;
    generation_free(row->generation);
    buf_release(&row->line);
    free(row);
    if (c) {
        api__call_free(c); /* last: it may be what the app's end waits for */
    }
}

static void append(struct batch_row *row)
{
    struct batch_run *run = row->run;
    row->prev = run->last;
    row->next = NULL;
    *(run->last ? &run->last->next : &run->first) = row;
    run->last = row;
}

/* Its place among the models of its batch; 0: it has none of its own. */
static size_t index_of(struct batch_run *run, struct str name)
{
    for (size_t i = 1; i < run->n_models; i++) {
        if (str_eq(run->models[i].name, name)) {
            return i;
        }
    }
    struct str copy = run->n_models < BATCH_MODELS_MAX ? arena_str(run->arena, name) : (struct str){0};
    if (!copy.ptr) {
        return 0;
    }
    run->models[run->n_models] = (struct batch_model){.name = copy};
    return run->n_models++;
}

void batch__row_add(struct batch_row *row)
{
    append(row);
    row->model = index_of(row->run, row->model_name);
    row->run->n_waiting++;
}

static void take_out(struct batch_row *row)
{
    struct batch_run *run = row->run;
    *(row->prev ? &row->prev->next : &run->first) = row->next;
    *(row->next ? &row->next->prev : &run->last) = row->prev;
}

static bool is_begun(const struct batch_row *row)
{
    return row->phase == ROW_WORKING || row->phase == ROW_RUNNING;
}

static void count_begun(struct batch_row *row, bool more)
{
    struct batch_run *run = row->run;
    size_t *counts[] = {&run->n_begun, &run->set->n_begun, &run->models[row->model].n_begun};
    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
        *counts[i] += more ? 1 : (size_t)-1;
    }
}

static void move(struct batch_row *row, enum row_phase phase)
{
    struct batch_run *run = row->run;
    bool begun = is_begun(row);
    run->n_waiting -= row->phase == ROW_WAITING;
    run->n_done -= row->phase == ROW_DONE;
    row->phase = phase;
    run->n_waiting += phase == ROW_WAITING;
    run->n_done += phase == ROW_DONE;
    if (begun != is_begun(row)) {
        count_begun(row, !begun);
    }
}

void batch__row_drop(struct batch_row *row)
{
    struct batch_run *run = row->run;
    if (row->phase == ROW_WORKING) { /* its worker is waited for */
        row->dropped = true;
        return;
    }
    run->set->now.given_up += row->phase == ROW_RUNNING;
    run->n_waiting -= row->phase == ROW_WAITING;
    run->n_done -= row->phase == ROW_DONE;
    if (is_begun(row)) {
        count_begun(row, false);
    }
    take_out(row);
    batch__row_free(row);
}

/* ---- its line ---- */

/* The same for a row that is run again. */
static void put_ids(const struct batch_row *row, char id[32])
{
    const char *batch = row->run->b.id.ptr;
    uint64_t hash = xxh3(batch, row->run->b.id.len, row->number);
    snprintf(id, 32, "%016llx", (unsigned long long)hash);
}

/* id: of the row's request */
static struct json_writer begin_line(struct batch_row *row, char id[64])
{
    const struct batch_form *form = row->run->form;
    char hash[32], text[64];
    put_ids(row, hash);
    snprintf(id, 64, "req_%s", hash);
    buf_clear(&row->line);
    struct json_writer w = json_writer(&row->line);
    json_begin_object(&w);
    if (form->row_prefix) {
        snprintf(text, sizeof text, "%s%s", form->row_prefix, hash);
        json_member_cstr(&w, "id", text);
    }
    json_member_str(&w, "custom_id", row->custom_id);
    return w;
}

/* Behind the others: its model may be one that never comes. */
static void wait_again(struct batch_row *row)
{
    take_out(row);
    append(row);
    row->run->set->now.given_up++;
    row->run->models[row->model].retry_ms = clock_ms() + BATCH_RETRY_MS;
    move(row, ROW_WAITING);
}

/* A line that memory failed for is never given out: its row runs again. */
static void end_line(struct batch_row *row, struct json_writer *w, bool ok)
{
    json_end_object(w);
    buf_putc(&row->line, '\n');
    row->ok = ok;
    if (row->line.failed) {
        wait_again(row);
    } else {
        move(row, ROW_DONE);
    }
    batch__advance(row->run);
}

static void fail_row(struct batch_row *row, const struct error *why)
{
    char id[64];
    struct json_writer w = begin_line(row, id);
    row->run->form->put_failure(&w, id, why);
    end_line(row, &w, false);
}

void batch__row_end(struct batch_row *row)
{
    char id[64];
    struct json_writer w = begin_line(row, id);
    row->run->form->put_given_up(&w, row->run->end);
    json_end_object(&w);
    buf_putc(&row->line, '\n');
    row->ok = false;
    row->given_up = true;
    if (!row->line.failed) { /* else it is told later */
        move(row, ROW_DONE);
    }
}

/* ---- its generation ---- */

static void free_call(struct batch_row *row)
{
    struct call *c = row->call;
    generation_free(row->generation);
    row->generation = NULL;
    row->call = NULL;
    if (c) {
        api__call_free(c);
    }
}

/* What is refused for now waits again; anything else is the row's answer. */
static void give_up(struct batch_row *row, const struct error *why)
{
    struct batch_run *run = row->run;
    struct error err = *why;
    free_call(row);
    if (err.code == ERR_OVERLOADED || err.code == ERR_UNAVAILABLE) {
        wait_again(row);
        batch__advance(run);
        return;
    }
    fail_row(row, &err);
}

void batch__row_give_up(struct batch_row *row)
{
    free_call(row);
    row->run->set->now.given_up++;
    move(row, ROW_WAITING);
}

static void add_usage(struct batch_row *row)
{
    struct gen_usage usage = {0};
    struct gen_timings ignored;
    generation_timings(row->generation, clock_us(), &ignored, &usage);
    struct journal_batch *b = &row->run->b;
    b->input_tokens += usage.prompt_tokens;
    b->cached_tokens += usage.cached_tokens;
    b->output_tokens += usage.completion_tokens;
    b->reasoning_tokens += usage.n_reasoning;
}

static void complete(struct batch_row *row)
{
    struct error err = {0};
    struct buf body;
    buf_init(&body, LIMIT_HTTP_REPLY - LINE_OVERHEAD);
    if (!api__reply_body(row->call, row->generation, &body, &err)) {
        buf_release(&body);
        free_call(row);
        fail_row(row, &err);
        return;
    }
    char id[64];
    struct json_writer w = begin_line(row, id);
    row->run->form->put_reply(&w, id, buf_view(&body));
    buf_release(&body);
    add_usage(row);
    free_call(row);
    end_line(row, &w, true);
}

static void on_ready(void *arg)
{
    struct batch_row *row = arg;
    struct error why = {0};
    if (generation_failed(row->generation, &why)) {
        give_up(row, &why);
    } else if (generation_complete(row->generation)) {
        complete(row);
    }
}

/* ---- its call ---- */

/* False: the row is not wanted any more, and gone; or it has failed. */
static bool came_back(struct batch_row *row)
{
    struct batch_run *run = row->run;
    struct app *a = run->set->app;
    if (row->dropped) {
        api__hold(a); /* its call may be the last that the app's end waits for */
        move(row, ROW_RUNNING);
        batch__row_drop(row);
        batch__advance(run);
        api__release(a);
        return false;
    }
    if (run->end != BATCH_IN_PROGRESS) {
        batch__row_give_up(row);
        batch__advance(run);
        return false;
    }
    if (!row->call->ok) {
        give_up(row, &row->call->error);
        return false;
    }
    return true;
}

static bool refuse(struct error *err, const char *name)
{
    return error_set_param(err, ERR_UNSUPPORTED, name, "'%s' is not available in a batch.", name);
}

/* What has no meaning without a client that waits. */
static bool check(struct call *c, struct error *err)
{
    const struct gen_request *r = &c->request;
    if (r->stream) {
        return refuse(err, "stream");
    }
    if (r->background || r->detach) {
        return refuse(err, r->background ? "background" : "detach");
    }
    if (r->priority) {
        return refuse(err, "priority");
    }
    return !r->mcp.wanted || refuse(err, gen_mcp_field(&r->mcp));
}

static void decode(void *arg)
{
    struct batch_row *row = arg;
    struct call *c = row->call;
    api__call_decode(c);
    c->ok = c->ok && check(c, &c->error);
}

/* It has as much time as its batch, unless it says otherwise; nobody waits for its first token. */
static void work(void *arg)
{
    struct batch_row *row = arg;
    struct gen_request *r = &row->call->request;
    bool own_time = r->timeout_ms > 0;
    row->call->ok = row->call->route->work(row->call, &row->call->error);
    r->queue_timeout_ms = r->first_token_timeout_ms = 0;
    if (row->call->ok && !own_time) {
        r->timeout_ms = 0;
        for (size_t i = 0; i < r->n_jobs; i++) {
            r->jobs[i].timeout_ms = 0;
        }
    }
}

static void worked(void *arg)
{
    struct batch_row *row = arg;
    struct error err = {0};
    if (!came_back(row)) {
        return;
    }
    struct call *c = row->call;
    move(row, ROW_RUNNING);
    row->generation = generation_start(served_model_pipeline(c->model), &c->request, on_ready, row, &err);
    if (!row->generation) {
        give_up(row, &err);
        return;
    }
    c->arena = NULL; /* the generation's now */
}

static void take_key(struct call *c)
{
    const struct app_options *o = &c->app->options;
    c->request.api_key = c->key_name[0] ? api_keys_named(o->keys, c->key_name) : 0;
    if (c->key_name[0] && o->cache_salt_per_key) {
        c->request.cache_salt = api_keys_salt_of_name(o->keys, str_of(c->key_name), c->request.cache_salt);
    }
}

static void opened(void *arg, const struct error *why)
{
    struct batch_row *row = arg;
    struct call *c = row->call;
    if (why) {
        c->ok = false;
        c->error = *why;
    }
    c->ok = c->ok && api__call_take_adapter(c, &c->error);
    if (came_back(row)) {
        take_key(c);
        loop_work(c->app->loop, work, worked, row);
    }
}

static void decoded(void *arg)
{
    struct batch_row *row = arg;
    struct error err = {0};
    if (!came_back(row)) {
        return;
    }
    struct call *c = row->call;
    char id[32];
    put_ids(row, id);
    struct served_model *m = api__find_model(c);
    if (!m) {
        (void)gateway_model_missing(c->app->gateway, c->request.model, &err);
        give_up(row, &err);
        return;
    }
    snprintf(c->request.request_id, sizeof c->request.request_id, "req_%s", id);
    c->request.priority = JOB_PRIORITY_IDLE;
    api__call_set_model(c, m);
    gateway_open(m, opened, row);
}

void batch__row_begin(struct batch_row *row)
{
    struct batch_run *run = row->run;
    struct call *c = api__call_create(run->set->app, run->route, NULL);
    if (!c) {
        run->rows_retry_ms = clock_ms() + BATCH_RETRY_MS;
        return;
    }
    row->call = c;
    c->text = row->body;
    c->in_batch = true;
    snprintf(c->key_name, sizeof c->key_name, STR_FMT, STR_ARG(run->b.key_name));
    move(row, ROW_WORKING);
    loop_work(run->set->app->loop, decode, decoded, row);
}
