/* /v1/batches, and what the other form has of it, which is told by the route. A batch of another key is as if it were
 * not there. */
#include "api/batch/batch_internal.h"

#include "base/array.h"
#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>

#define OBJECT_MAX     MIB(2)
#define LIST_DEFAULT   20
#define METADATA_PAIRS 16
#define METADATA_KEY   64
#define METADATA_VALUE 512
#define WINDOW_MAX_H   720

/* ---- what all of them need ---- */

bool batch__has_journal(const struct app *a, struct error *err)
{
    return a->batches || error_set(err, ERR_NOT_IMPLEMENTED,
                                   "Files and batches need --journal DIR, and this server was started without it.");
}

struct asking *batch__ask(struct app *a, struct http_exchange *x, struct str id)
{
    struct error err = {0};
    if (!batch__has_journal(a, &err)) {
        api__reply_error(x, &err);
        return NULL;
    }
    return asking__create(a, x, id);
}

/* As the route that was asked says. */
static const struct batch_form *form_asked(struct http_exchange *x)
{
    return str_starts(http_request_of(x)->path, STR(MESSAGE_BATCHES_ROUTE)) ? &batch__anthropic : &batch__openai;
}

struct asking *batch__ask_for(struct app *a, struct http_exchange *x, struct str id)
{
    struct error err = {0};
    struct asking *q = batch__ask(a, x, id);
    if (q && !str_starts(id, str_of(form_asked(x)->prefix))) {
        error_set(&err, ERR_NOT_FOUND, "There is no batch with the id '%s'.", q->id);
        asking__fail(q, &err);
        return NULL;
    }
    return q;
}

static const struct {
    const char *path;
    const struct batch_form *form;
} endpoints[] = {{"/v1/chat/completions", &batch__openai},
                 {"/v1/completions", &batch__openai},
                 {"/v1/responses", &batch__openai},
                 {"/v1/messages", &batch__anthropic}};

const struct route *batch__route(struct str endpoint, const struct batch_form *form)
{
    for (size_t i = 0; i < ARRAY_LEN(endpoints); i++) {
        if (endpoints[i].form != form || !str_eq(endpoint, str_of(endpoints[i].path))) {
            continue;
        }
        for (int k = 0; k < api__n_routes; k++) {
            if (str_eq(str_of(api__routes[k].path), endpoint) && api__routes[k].encoder) {
                return &api__routes[k];
            }
        }
    }
    return NULL;
}

/* ---- create ---- */

struct creation {
    struct str input, endpoint, window;
    const struct json *metadata;
    int64_t keep_s, window_s;
    struct call *call;
    char id[48], output[48], failed[48];
    struct journal_batch batch;
};

static bool parse_metadata(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    struct json_iter it = json_members(v);
    if (json_type(v) != JSON_OBJECT || json_len(v) > METADATA_PAIRS) {
        return error_set_param(err, ERR_INVALID, name, "'%s' must be an object of at most %d strings.", name,
                               METADATA_PAIRS);
    }
    while (json_next(&it)) {
        if (json_type(it.value) != JSON_STRING || it.key.len > METADATA_KEY ||
            json_str(it.value).len > METADATA_VALUE) {
            return error_set_param(err, ERR_INVALID, name,
                                   "'%s' must have names of at most %d bytes and strings of at most %d.", name,
                                   METADATA_KEY, METADATA_VALUE);
        }
    }
    ((struct creation *)d->target)->metadata = v;
    return true;
}

static bool parse_keep(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    const struct json *seconds = json_get(v, "seconds");
    int64_t s = json_int(seconds);
    if (json_type(v) != JSON_OBJECT || !str_eq(json_str(json_get(v, "anchor")), STR("created_at"))) {
        return error_set_param(err, ERR_INVALID, name, "'%s' must be an object whose 'anchor' is \"created_at\".",
                               name);
    }
    if (json_type(seconds) != JSON_INT || s < BATCH_KEEP_LEAST_S || s > BATCH_KEEP_S) {
        return error_set_param(err, ERR_INVALID, "output_expires_after.seconds",
                               "'output_expires_after.seconds' must be an integer from %d to %d.", BATCH_KEEP_LEAST_S,
                               BATCH_KEEP_S);
    }
    ((struct creation *)d->target)->keep_s = s;
    return true;
}

const struct field api__batch_fields[] = {
    {"input_file_id", FIELD_STR, offsetof(struct creation, input), 1, 40, NULL, NULL, NULL,
     "an uploaded file with purpose \"batch\": a line of JSON for each request"},
    {"endpoint", FIELD_STR, offsetof(struct creation, endpoint), 1, 100, NULL, NULL, NULL,
     "/v1/chat/completions, /v1/completions or /v1/responses"},
    {"completion_window", FIELD_STR, offsetof(struct creation, window), 1, 10, NULL, NULL, NULL,
     "24h, or any other number of hours up to 720h; what is not done by then is given up"},
    {"metadata", FIELD_CUSTOM, 0, 0, 0, parse_metadata, NULL, "object of strings", "up to 16 pairs; come back with it"},
    {"output_expires_after", FIELD_CUSTOM, 0, 0, 0, parse_keep, NULL, "object",
     "{\"anchor\": \"created_at\", \"seconds\": 3600 to 2592000}: how long its files are kept; without: 30 days"},
    {0},
};

static bool check_window(struct creation *c, struct error *err)
{
    int64_t hours = 0;
    struct str digits = str_slice(c->window, 0, c->window.len ? c->window.len - 1 : 0);
    if (!str_ends(c->window, STR("h")) || !str_to_i64(digits, &hours) || hours < 1 || hours > WINDOW_MAX_H) {
        return error_set_param(err, ERR_INVALID, "completion_window",
                               "'completion_window' must be \"24h\", or another number of hours from 1h to %dh.",
                               WINDOW_MAX_H);
    }
    c->window_s = hours * 3600;
    return true;
}

static bool print_metadata(struct call *c, struct creation *n, struct error *err)
{
    struct buf text;
    buf_init(&text, MIB(1));
    if (n->metadata) {
        json_print(&text, n->metadata);
    }
    n->batch.metadata = text.len ? arena_str(c->arena, buf_view(&text)) : (struct str){0};
    bool ok = (buf_ok(&text, "the metadata", err)) &&
              (text.len == 0 || n->batch.metadata.ptr || arena_full(c->arena, "the request", err));
    buf_release(&text);
    return ok;
}

static bool begin(struct call *c);

bool api__decode_batch(struct call *c, struct error *err)
{
    struct creation *n = arena_alloc(c->arena, sizeof *n);
    if (!n) {
        return arena_full(c->arena, "the request", err);
    }
    *n = (struct creation){.keep_s = BATCH_KEEP_S, .call = c};
    struct decoding d = api__decoding(c, n);
    c->extra = n;
    if (!api__decode_body(c, &d, c->body, err)) {
        return false;
    }
    const char *missing = !n->input.ptr      ? "input_file_id"
                          : !n->endpoint.ptr ? "endpoint"
                          : !n->window.ptr   ? "completion_window"
                                             : NULL;
    if (missing) {
        return field_missing_error(err, missing);
    }
    if (!batch__route(n->endpoint, &batch__openai)) {
        return error_set_param(
            err, ERR_UNSUPPORTED, "endpoint",
            "'endpoint' must be /v1/chat/completions, /v1/completions or /v1/responses, not '" STR_FMT "'.",
            STR_ARG(n->endpoint));
    }
    c->fetch = begin;
    return check_window(n, err) && batch__has_journal(c->app, err) && print_metadata(c, n, err);
}

void batch__reply(struct http_exchange *x, const struct journal_batch *b)
{
    struct buf out;
    buf_init(&out, OBJECT_MAX);
    struct json_writer w = json_writer(&out);
    batch__form_of(b->id)->put(&w, b, x);
    api__reply_json(x, &out);
}

static void on_inserted(void *arg, struct journal_answer *answer)
{
    struct creation *n = arg;
    struct call *c = n->call;
    if (!answer->ok) {
        if (answer->error.code == ERR_NOT_FOUND) {
            snprintf(answer->error.param, sizeof answer->error.param, "input_file_id");
        }
        api__refuse(c, &answer->error);
        return;
    }
    batch__start(c->app->batches, &n->batch);
    if (c->x) {
        api__call_headers(c);
        batch__reply(c->x, &n->batch);
    }
    api__call_free(c);
}

bool batch__has_place(const struct batch_set *set, struct error *err)
{
    size_t n = 0;
    for (const struct batch_run *run = set->first; run; run = run->next) {
        n++;
    }
    return n < BATCH_UNFINISHED_MAX ||
           error_set(err, ERR_OVERLOADED, "%zu batches have not ended, which is all that may. Try again later.", n);
}

/* It is for no model: none is looked for. */
static bool begin(struct call *c)
{
    struct creation *n = (struct creation *)(uintptr_t)c->extra;
    struct error err = {0};
    batch__make_id(batch__openai.prefix, n->id, sizeof n->id);
    batch__make_id("file-", n->output, sizeof n->output);
    batch__make_id("file-", n->failed, sizeof n->failed);
    struct journal_batch *b = &n->batch;
    b->id = str_of(n->id);
    b->key_name = str_of(c->key_name);
    b->endpoint = n->endpoint;
    b->window = n->window;
    b->input = n->input;
    b->output = str_of(n->output);
    b->failed = str_of(n->failed);
    b->state = BATCH_VALIDATING;
    b->created_s = clock_wall_s();
    b->expires_s = b->created_s + n->window_s;
    b->keep_s = n->keep_s;
    if (!batch__has_place(c->app->batches, &err) ||
        !journal_batch_insert(c->app->options.journal, b, (struct journal_done){on_inserted, n}, &err)) {
        api__refuse(c, &err);
    }
    return true;
}

/* ---- one of them ---- */

static void on_read(void *arg, struct journal_answer *answer)
{
    struct asking *q = arg;
    if (!answer->ok) {
        asking__fail(q, &answer->error);
        return;
    }
    if (q->x) {
        batch__reply(q->x, &answer->batches[0]);
    }
    asking__free(q);
}

void api__batch_get(struct app *a, struct http_exchange *x, struct str rest)
{
    struct error err = {0};
    struct asking *q = batch__ask_for(a, x, rest);
    if (q && (!asking__check_query(http_request_of(x), NULL, 0, &err) ||
              !journal_batch_read(a->options.journal, str_of(q->id), str_of(q->key_name),
                                  (struct journal_done){on_read, q}, &err))) {
        asking__fail(q, &err);
    }
}

/* ---- all of them ---- */

static void on_list(void *arg, struct journal_answer *answer)
{
    struct asking *q = arg;
    struct buf out;
    if (!answer->ok) {
        asking__fail(q, &answer->error);
        return;
    }
    struct json_writer w = asking__begin_list(&out);
    for (size_t i = 0; i < answer->n; i++) {
        batch__openai.put(&w, &answer->batches[i], q->x);
    }
    asking__reply_list(q, &w, answer->n ? answer->batches[0].id : STR(""),
                       answer->n ? answer->batches[answer->n - 1].id : STR(""), answer->more);
}

void api__batch_list(struct app *a, struct http_exchange *x, struct str rest)
{
    static const char *const known[] = {"limit", "after"};
    const struct http_request *head = http_request_of(x);
    struct error err = {0};
    struct buf after;
    (void)rest;
    struct asking *q = batch__ask(a, x, STR(""));
    if (!q) {
        return;
    }
    (void)asking__query_str(head, "after", &after);
    snprintf(q->last, sizeof q->last, STR_FMT, STR_ARG(buf_view(&after)));
    buf_release(&after);
    if (!asking__check_query(head, known, ARRAY_LEN(known), &err)) {
        asking__fail(q, &err);
        return;
    }
    batch__list(q, &batch__openai, false, on_list);
}

void batch__list(struct asking *q, const struct batch_form *form, bool before,
                 void (*done)(void *arg, struct journal_answer *answer))
{
    struct error err = {0};
    struct journal_batch_query *query = &q->batches;
    if (!asking__query_limit(http_request_of(q->x), LIST_DEFAULT, form->list_max, &q->limit, &err)) {
        asking__fail(q, &err);
        return;
    }
    *query = (struct journal_batch_query){.key_name = str_of(q->key_name),
                                          .from = str_of(q->last),
                                          .limit = q->limit,
                                          .own_files = form->own_files,
                                          .before = before};
    if (!journal_batch_list(q->app->options.journal, query, (struct journal_done){done, q}, &err)) {
        asking__fail(q, &err);
    }
}

/* ---- cancelling ---- */

static void on_cancelled(void *arg, const struct journal_batch *b, const struct error *err)
{
    struct asking *q = arg;
    if (!b) {
        asking__fail(q, err);
        return;
    }
    if (q->x) {
        batch__reply(q->x, b);
    }
    asking__free(q);
}

static void on_read_ended(void *arg, struct journal_answer *answer)
{
    struct asking *q = arg;
    struct error err = answer->error;
    if (answer->ok && batch_state_ended(answer->batches[0].state)) {
        error_set(&err, ERR_INVALID, "The batch '%s' cannot be cancelled: it is %s.", q->id,
                  batch_state_name(answer->batches[0].state));
    } else if (answer->ok) {
        error_set(&err, ERR_UNAVAILABLE, "The batch is about to begin or to end; try again in a moment.");
    }
    asking__fail(q, &err);
}

void api__batch_cancel(struct app *a, struct http_exchange *x, struct str rest)
{
    struct error err = {0};
    struct asking *q = batch__ask_for(a, x, rest);
    struct batch_run *run = q ? batch__find(a->batches, str_of(q->id), str_of(q->key_name)) : NULL;
    if (run) {
        batch__cancel(run, on_cancelled, q);
    } else if (q && !journal_batch_read(a->options.journal, str_of(q->id), str_of(q->key_name),
                                        (struct journal_done){on_read_ended, q}, &err)) {
        asking__fail(q, &err);
    }
}
