/* /v1/messages/batches: batches whose requests come in one body, and go into the journal as the lines that a file would
 * have. All that becomes of them lies in one output, which is the results. */
#include "api/batch/batch_internal.h"

#include "base/array.h"
#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>

#define ENDPOINT      "/v1/messages"
#define WINDOW_S      86400
#define CUSTOM_ID_MAX 64

/* ---- create ---- */

struct creation {
    struct call *call;
    const struct json *requests;
    struct buf lines; /* freed with the call's arena */
    struct batch_checker *ids;
    struct journal_batch_input input;
    char id[48], input_id[48], output_id[48];
    struct journal_batch batch;
};

static bool parse_requests(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    ((struct creation *)d->target)->requests = v;
    return json_type(v) == JSON_ARRAY ||
           error_set_param(err, ERR_INVALID, name, "'%s' must be an array of objects, not %s.", name,
                           json_type_name(json_type(v)));
}

const struct field api__message_batch_fields[] = {
    {"requests", FIELD_CUSTOM, 0, 0, 0, parse_requests, NULL, "array",
     "objects {\"custom_id\": 1 to 64 letters, digits, _ and -, each once; \"params\": the body of a request to "
     "/v1/messages}; at most --batch-max-rows of them, within --max-body bytes"},
    {0},
};

static bool is_id(struct str id)
{
    bool ok = id.len >= 1 && id.len <= CUSTOM_ID_MAX;
    for (size_t i = 0; ok && i < id.len; i++) {
        char c = id.ptr[i];
        ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
    }
    return ok;
}

/* One of the requests: what its fields are, and that no other has its id. */
static bool check_request(struct creation *n, size_t i, const struct json *v, struct error *err)
{
    char where[40], name[64];
    uint64_t earlier;
    const struct json *id = json_get(v, "custom_id"), *params = json_get(v, "params");
    snprintf(where, sizeof where, "requests.%zu", i);
    if (json_type(v) != JSON_OBJECT) {
        return error_set_param(err, ERR_INVALID, where, "'%s' must be an object, not %s.", where,
                               json_type_name(json_type(v)));
    }
    snprintf(name, sizeof name, "%s.%s", where, id ? "params" : "custom_id");
    if (!id || !params) {
        return field_missing_error(err, name);
    }
    if (json_type(params) != JSON_OBJECT) {
        return error_set_param(err, ERR_INVALID, name, "'%s' must be an object, not %s.", name,
                               json_type_name(json_type(params)));
    }
    snprintf(name, sizeof name, "%s.custom_id", where);
    if (json_type(id) != JSON_STRING || !is_id(json_str(id))) {
        return error_set_param(err, ERR_INVALID, name, "'%s' must be a string of 1 to %d letters, digits, '_' and '-'.",
                               name, CUSTOM_ID_MAX);
    }
    if (!batch_checker_take_id(n->ids, i + 1, json_str(id), &earlier)) {
        return error_set(err, ERR_NO_MEMORY, "no memory for a batch.");
    }
    return earlier == 0 || error_set_param(err, ERR_INVALID, name, "'%s' is that of 'requests.%llu' too.", name,
                                           (unsigned long long)earlier - 1);
}

static bool put_line(struct creation *n, size_t i, const struct json *v, struct error *err)
{
    char where[40];
    size_t before = n->lines.len, most = api__max_body(n->call->app);
    struct json_writer w = json_writer(&n->lines);
    json_begin_object(&w);
    json_member_str(&w, "custom_id", json_str(json_get(v, "custom_id")));
    json_member_cstr(&w, "method", "POST");
    json_member_cstr(&w, "url", ENDPOINT);
    json_member_json(&w, "body", json_get(v, "params"));
    json_end_object(&w);
    size_t size = n->lines.len - before;
    buf_putc(&n->lines, '\n');
    if (size > most) {
        snprintf(where, sizeof where, "requests.%zu", i);
        return error_set_param(err, ERR_TOO_LARGE, where, "'%s' must have at most %zu bytes (--max-body), and has %zu.",
                               where, most, size);
    }
    return buf_ok(&n->lines, "the requests", err);
}

static bool read_requests(struct creation *n, struct error *err)
{
    size_t count = json_len(n->requests);
    uint64_t most = n->call->app->options.batch_max_rows;
    if (count == 0 || count > most) {
        return error_set_param(err, ERR_INVALID, "requests",
                               "'requests' must have 1 to %llu items (--batch-max-rows), and has %zu.",
                               (unsigned long long)most, count);
    }
    for (size_t i = 0; i < count; i++) {
        const struct json *v = json_at(n->requests, i);
        if (!check_request(n, i, v, err) || !put_line(n, i, v, err)) {
            return false;
        }
    }
    n->batch.n_total = count;
    return true;
}

/* The lines in pieces as those of uploads. */
static bool cut(struct creation *n, struct error *err)
{
    size_t count = (n->lines.len + BATCH_READ_SIZE - 1) / BATCH_READ_SIZE;
    struct journal_piece *pieces = arena_alloc_array(n->call->arena, count, sizeof *pieces);
    if (!pieces) {
        return arena_full(n->call->arena, "the request", err);
    }
    for (size_t i = 0; i < count; i++) {
        size_t from = i * BATCH_READ_SIZE;
        pieces[i] = (struct journal_piece){i, str_slice(buf_view(&n->lines), from, from + BATCH_READ_SIZE)};
    }
    n->input = (struct journal_batch_input){pieces, count, n->call->app->options.max_files};
    return true;
}

static bool begin(struct call *c);

static void release_lines(void *arg)
{
    buf_release(arg);
}

bool api__decode_message_batch(struct call *c, struct error *err)
{
    struct creation *n = arena_alloc(c->arena, sizeof *n);
    if (!n) {
        return arena_full(c->arena, "the request", err);
    }
    *n = (struct creation){.call = c};
    buf_init(&n->lines, LIMIT_REQUEST_ARENA);
    if (!arena_defer(c->arena, release_lines, &n->lines)) {
        return arena_full(c->arena, "the request", err);
    }
    struct decoding d = api__decoding(c, n);
    c->extra = n;
    c->fetch = begin;
    if (!api__decode_body(c, &d, c->body, err)) {
        return false;
    }
    if (!n->requests) {
        return field_missing_error(err, "requests");
    }
    n->ids = batch_checker_create(UINT64_MAX, 0);
    bool ok = n->ids || error_set(err, ERR_NO_MEMORY, "no memory for a batch.");
    ok = ok && read_requests(n, err) && cut(n, err) && batch__has_journal(c->app, err);
    batch_checker_free(n->ids);
    n->ids = NULL;
    return ok;
}

static void on_created(void *arg, struct journal_answer *answer)
{
    struct creation *n = arg;
    struct call *c = n->call;
    if (!answer->ok) {
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

static bool begin(struct call *c)
{
    struct creation *n = (struct creation *)(uintptr_t)c->extra;
    struct error err = {0};
    batch__make_id(batch__anthropic.prefix, n->id, sizeof n->id);
    batch__make_id("file-", n->input_id, sizeof n->input_id);
    batch__make_id("file-", n->output_id, sizeof n->output_id);
    struct journal_batch *b = &n->batch;
    b->id = str_of(n->id);
    b->key_name = str_of(c->key_name);
    b->endpoint = STR(ENDPOINT);
    b->input = str_of(n->input_id);
    b->output = b->failed = str_of(n->output_id);
    b->own_files = true;
    b->state = BATCH_IN_PROGRESS;
    b->created_s = b->in_progress_s = clock_wall_s();
    b->expires_s = b->created_s + WINDOW_S;
    if (!batch__has_place(c->app->batches, &err) ||
        !journal_batch_create(c->app->options.journal, b, &n->input, (struct journal_done){on_created, n}, &err)) {
        api__refuse(c, &err);
    }
    return true;
}

/* ---- one of them ---- */

static void on_removed(void *arg, struct journal_answer *answer)
{
    struct asking *q = arg;
    struct buf out;
    if (!answer->ok) {
        asking__fail(q, &answer->error);
        return;
    }
    buf_init(&out, KIB(1));
    struct json_writer w = json_writer(&out);
    json_begin_object(&w);
    json_member_cstr(&w, "id", q->id);
    json_member_cstr(&w, "type", "message_batch_deleted");
    json_end_object(&w);
    asking__reply(q, &out);
}

void api__message_batch_delete(struct app *a, struct http_exchange *x, struct str rest)
{
    struct error err = {0};
    struct asking *q = batch__ask_for(a, x, rest);
    if (q && !journal_batch_remove(a->options.journal, str_of(q->id), str_of(q->key_name),
                                   (struct journal_done){on_removed, q}, &err)) {
        asking__fail(q, &err);
    }
}

static void on_read_for_results(void *arg, struct journal_answer *answer)
{
    struct asking *q = arg;
    struct error err = answer->error;
    if (answer->ok && !batch_state_ended(answer->batches[0].state)) {
        error_set(&err, ERR_INVALID, "The batch '%s' has no results yet: it has not ended.", q->id);
        answer->ok = false;
    }
    if (!answer->ok || !q->x) {
        asking__fail(q, &err);
        return;
    }
    batch__reply_file(q, answer->batches[0].output, "application/x-jsonl");
}

void api__message_batch_results(struct app *a, struct http_exchange *x, struct str rest)
{
    struct error err = {0};
    struct asking *q = batch__ask_for(a, x, rest);
    if (q && !journal_batch_read(a->options.journal, str_of(q->id), str_of(q->key_name),
                                 (struct journal_done){on_read_for_results, q}, &err)) {
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
    buf_init(&out, LIMIT_HTTP_REPLY);
    struct json_writer w = json_writer(&out);
    json_begin_object(&w);
    json_key(&w, "data");
    json_begin_array(&w);
    for (size_t i = 0; i < answer->n; i++) {
        batch__anthropic.put(&w, &answer->batches[i], q->x);
    }
    json_end_array(&w);
    json_member_bool(&w, "has_more", answer->more);
    json_member_str_or_null(&w, "first_id", answer->n ? answer->batches[0].id : (struct str){0});
    json_member_str_or_null(&w, "last_id", answer->n ? answer->batches[answer->n - 1].id : (struct str){0});
    json_end_object(&w);
    asking__reply(q, &out);
}

void api__message_batch_list(struct app *a, struct http_exchange *x, struct str rest)
{
    static const char *const known[] = {"limit", "after_id", "before_id"};
    const struct http_request *head = http_request_of(x);
    struct error err = {0};
    struct buf after, before;
    (void)rest;
    struct asking *q = batch__ask(a, x, STR(""));
    if (!q) {
        return;
    }
    bool has_after = asking__query_str(head, "after_id", &after);
    bool has_before = asking__query_str(head, "before_id", &before);
    snprintf(q->last, sizeof q->last, STR_FMT, STR_ARG(buf_view(has_before ? &before : &after)));
    buf_release(&after);
    buf_release(&before);
    if (has_after && has_before) {
        error_set_param(&err, ERR_INVALID, "before_id", "'before_id' and 'after_id' cannot be used together.");
    } else if (asking__check_query(head, known, ARRAY_LEN(known), &err)) {
        batch__list(q, &batch__anthropic, has_before, on_list);
        return;
    }
    asking__fail(q, &err);
}
