/* Stored responses: read, followed, ended, removed. What the journal has no result of is made of its request. */
#include "api/asking.h"
#include "api/responses/responses.h"
#include "base/array.h"
#include "http/percent.h"

#include <stdio.h>
#include <stdlib.h>

#define LIST_DEFAULT 20
#define LIST_MAX     100

static void not_found(struct error *err, const char *id)
{
    error_set(err, ERR_NOT_FOUND, "Response with id '%s' not found.", id);
}

/* Not every kept request is a response. NULL: it is answered. */
static struct asking *ask(struct app *a, struct http_exchange *x, struct str id)
{
    struct error err = {0};
    struct asking *q = asking__create(a, x, id);
    if (q && !str_starts(id, STR("resp_"))) {
        not_found(&err, q->id);
        asking__fail(q, &err);
        q = NULL;
    }
    return q;
}

static bool read_parts(struct asking *q, int parts, void (*on_read)(void *arg, struct journal_answer *answer))
{
    struct error err = {0};
    struct journal_done done = {on_read, q};
    if (!journal_read(q->app->options.journal, str_of(q->id), str_of(q->key_name), parts, done, &err)) {
        asking__fail(q, &err);
        return false;
    }
    return true;
}

/* False: it is answered. */
static bool found(struct asking *q, const struct journal_answer *answer)
{
    struct error err = answer->error;
    bool ok = answer->ok && str_eq(answer->records[0].meta.route, STR(RESPONSES_ROUTE));
    if (ok && answer->records[0].damaged) {
        ok = error_set(&err, ERR_IO, "The journal's copy of this response is damaged.");
    } else if (!ok && (answer->ok || err.code == ERR_NOT_FOUND)) {
        not_found(&err, q->id);
    }
    if (!ok) {
        asking__fail(q, &err);
    }
    return ok;
}

/* ---- what is made of a stored request ---- */

struct remaking {
    struct asking *asking;
    struct arena *arena; /* of the record */
    const struct journal_record *record;
    struct call *call;
    bool (*write)(struct remaking *m, struct error *err); /* worker: to call->reply */
};

static void remake(void *arg)
{
    struct remaking *m = arg;
    struct call *c = m->call;
    c->text = m->record->body;
    c->rebuilt = true;
    api__call_decode(c);
    if (c->ok) {
        snprintf(c->request.id, sizeof c->request.id, STR_FMT, STR_ARG(m->record->meta.id));
        c->request.created_s = m->record->meta.created_s;
        c->ok = m->write(m, &c->error);
    }
}

static void remade(void *arg)
{
    struct remaking *m = arg;
    struct asking *q = m->asking;
    struct call *c = m->call;
    if (!c->ok) {
        asking__fail(q, &c->error);
    } else {
        if (q->x) {
            api__reply_json(q->x, &c->reply);
        }
        asking__free(q);
    }
    c->text = (struct str){0};
    arena_free(m->arena);
    free(m);
    api__call_free(c); /* last: it holds the app */
}

static const struct route *route_of_responses(void)
{
    for (int i = 0; i < api__n_routes; i++) {
        if (api__routes[i].encoder == &api__responses_encoder) {
            return &api__routes[i];
        }
    }
    return NULL;
}

static void begin_remaking(struct asking *q, struct journal_answer *answer,
                           bool (*write)(struct remaking *m, struct error *err))
{
    struct error err = {0};
    struct remaking *m = calloc(1, sizeof *m);
    struct call *c = m ? api__call_create(q->app, route_of_responses(), NULL) : NULL;
    if (!c) {
        free(m);
        error_set(&err, ERR_NO_MEMORY, "no memory for a response.");
        asking__fail(q, &err);
        return;
    }
    *m = (struct remaking){.asking = q, .arena = answer->arena, .record = answer->records, .call = c, .write = write};
    answer->arena = NULL;
    loop_work(q->app->loop, remake, remade, m);
}

static const char *status_of(const struct journal_meta *m)
{
    static const char *const names[JOURNAL_STATE_COUNT] = {[JOURNAL_RUNNING] = "in_progress",
                                                           [JOURNAL_COMPLETED] = "completed",
                                                           [JOURNAL_FAILED] = "failed",
                                                           [JOURNAL_CANCELLED] = "cancelled"};
    return names[m->state] ? names[m->state] : m->background ? "queued" : "in_progress";
}

static bool write_object(struct remaking *m, struct error *err)
{
    const struct journal_meta *meta = &m->record->meta;
    const struct gen_request *request = &m->call->request;
    bool named = request->model.len && !str_eq(request->model, STR("default"));
    char fingerprint[24], resumed_from[24];
    snprintf(fingerprint, sizeof fingerprint, STR_FMT, STR_ARG(meta->fingerprint));
    snprintf(resumed_from, sizeof resumed_from, STR_FMT, STR_ARG(meta->resumed_from));
    struct responses_view v = {.call = m->call,
                               .status = status_of(meta),
                               .model = named ? request->model.ptr : meta->model.ptr,
                               .fingerprint = fingerprint,
                               .resumed_from = resumed_from,
                               .error = meta->state == JOURNAL_FAILED ? &meta->error : NULL};
    struct json_writer w = json_writer(&m->call->reply);
    responses_put_object(&w, &v);
    return buf_ok(&m->call->reply, "the response", err);
}

/* ---- one of them ---- */

static void on_object(void *arg, struct journal_answer *answer)
{
    struct asking *q = arg;
    if (!found(q, answer)) {
        return;
    }
    const struct journal_record *r = &answer->records[0];
    if (!r->result.len) {
        begin_remaking(q, answer, write_object);
        return;
    }
    if (q->x) {
        http_reply(q->x, 200, "application/json", r->result);
    }
    asking__free(q);
}

static bool read_start(struct asking *q, const struct http_request *head, bool streams, struct error *err)
{
    struct buf value;
    uint64_t number = 0;
    bool given = asking__query_str(head, "starting_after", &value);
    bool ok = !given || (streams && str_to_u64(buf_view(&value), &number) && number < INT64_MAX);
    buf_release(&value);
    q->first_event = given ? number + 1 : 0;
    q->after = calloc(1, sizeof *q->after);
    q->n_after = 1;
    if (!q->after) {
        return error_set(err, ERR_NO_MEMORY, "no memory for a request.");
    }
    return ok || error_set_param(err, ERR_INVALID, "starting_after",
                                 "Invalid value for 'starting_after': expected a sequence number, with stream=true.");
}

void api__response_get(struct app *a, struct http_exchange *x, struct str rest)
{
    static const char *const known[] = {"stream", "starting_after", "include", "include_obfuscation"};
    const struct http_request *head = http_request_of(x);
    struct error err = {0};
    bool streams = false, obfuscates = false;
    struct asking *q = ask(a, x, rest);
    if (!q) {
        return;
    }
    bool ok = asking__check_query(head, known, ARRAY_LEN(known), &err) &&
              asking__query_bool(head, "stream", &streams, &err) &&
              asking__query_bool(head, "include_obfuscation", &obfuscates, &err) && read_start(q, head, streams, &err);
    if (ok && obfuscates) {
        ok = error_set_param(&err, ERR_UNSUPPORTED, "include_obfuscation",
                             "Unsupported value for 'include_obfuscation': this server supports only false.");
    }
    if (!ok) {
        asking__fail(q, &err);
    } else if (streams) {
        asking__stream(q);
    } else {
        (void)read_parts(q, JOURNAL_BODY | JOURNAL_RESULT, on_object);
    }
}

/* ---- ending and removing ---- */

/* What has ended already is as it is: ending it again changes nothing. */
static void on_cancelled(void *arg, bool ok, const struct error *err)
{
    struct asking *q = arg;
    if (ok) {
        (void)read_parts(q, JOURNAL_BODY | JOURNAL_RESULT, on_object);
    } else {
        asking__fail(q, err);
    }
}

void api__response_cancel(struct app *a, struct http_exchange *x, struct str rest)
{
    struct asking *q = ask(a, x, rest);
    struct kept *k = q ? api__kept_find(a->kept, str_of(q->id), str_of(q->key_name)) : NULL;
    if (k) {
        api__kept_cancel(k, on_cancelled, q);
    } else if (q) {
        (void)read_parts(q, JOURNAL_BODY | JOURNAL_RESULT, on_object);
    }
}

static void on_removed(void *arg, struct journal_answer *answer)
{
    struct asking *q = arg;
    struct error err = answer->error;
    if (answer->ok) {
        asking__reply_deleted(q, "response");
        return;
    }
    if (err.code == ERR_NOT_FOUND) {
        not_found(&err, q->id);
    }
    asking__fail(q, &err);
}

static void remove_ended(void *arg, bool ok, const struct error *why)
{
    struct asking *q = arg;
    struct error err = {0};
    struct journal_done done = {on_removed, q};
    if (!ok) {
        asking__fail(q, why);
    } else if (!journal_remove(q->app->options.journal, str_of(q->id), str_of(q->key_name), done, &err)) {
        asking__fail(q, &err);
    }
}

void api__response_delete(struct app *a, struct http_exchange *x, struct str rest)
{
    struct asking *q = ask(a, x, rest);
    struct kept *k = q ? api__kept_find(a->kept, str_of(q->id), str_of(q->key_name)) : NULL;
    if (k) {
        api__kept_cancel(k, remove_ended, q);
    } else if (q) {
        remove_ended(q, true, NULL);
    }
}

/* ---- what it was asked ---- */

static size_t index_after(const struct call *c, const char *last, size_t n)
{
    char room[64];
    for (size_t i = 0; last[0] && i < n; i++) {
        if (str_eq(responses_item_id(c, i, room, sizeof room), str_of(last))) {
            return i;
        }
    }
    return n;
}

static void put_id(struct json_writer *w, const char *key, const struct call *c, size_t i)
{
    char room[64];
    json_member_str(w, key, i < responses_n_items(c) ? responses_item_id(c, i, room, sizeof room) : STR(""));
}

static bool write_input(struct remaking *m, struct error *err)
{
    const struct asking *q = m->asking;
    const struct call *c = m->call;
    size_t n = responses_n_items(c), last = index_after(c, q->last, n), begin = 0, end = n;
    if (q->last[0] && last == n) {
        return error_set_param(err, ERR_INVALID, "after", "There is no item with the id '%s'.", q->last);
    }
    begin = q->last[0] && !q->newest_first ? last + 1 : 0;
    end = q->last[0] && q->newest_first ? last : n;
    size_t count = end - begin, shown = count < q->limit ? count : q->limit;
    size_t first = q->newest_first ? end - 1 : begin;
    size_t final = q->newest_first ? end - shown : begin + shown - 1;
    struct json_writer w = json_writer(&m->call->reply);
    json_begin_object(&w);
    json_member_cstr(&w, "object", "list");
    json_key(&w, "data");
    json_begin_array(&w);
    for (size_t i = 0; i < shown; i++) {
        responses_put_item(&w, c, q->newest_first ? end - 1 - i : begin + i);
    }
    json_end_array(&w);
    put_id(&w, "first_id", c, shown ? first : n);
    put_id(&w, "last_id", c, shown ? final : n);
    json_member_bool(&w, "has_more", shown < count);
    json_end_object(&w);
    return buf_ok(&m->call->reply, "the list", err);
}

static void on_input(void *arg, struct journal_answer *answer)
{
    struct asking *q = arg;
    if (found(q, answer)) {
        begin_remaking(q, answer, write_input);
    }
}

static bool read_page(struct asking *q, const struct http_request *head, struct error *err)
{
    struct buf value;
    bool ascends;
    if (!asking__query_limit(head, LIST_DEFAULT, LIST_MAX, &q->limit, err) ||
        !asking__query_order(head, &ascends, err)) {
        return false;
    }
    q->newest_first = !ascends;
    if (asking__query_str(head, "after", &value)) {
        snprintf(q->last, sizeof q->last, STR_FMT, STR_ARG(buf_view(&value)));
    }
    buf_release(&value);
    return true;
}

void api__response_input(struct app *a, struct http_exchange *x, struct str rest)
{
    static const char *const known[] = {"limit", "order", "after", "include"};
    const struct http_request *head = http_request_of(x);
    struct error err = {0};
    struct asking *q = ask(a, x, rest);
    if (!q) {
        return;
    }
    if (!asking__check_query(head, known, ARRAY_LEN(known), &err) || !read_page(q, head, &err)) {
        asking__fail(q, &err);
    } else {
        (void)read_parts(q, JOURNAL_BODY, on_input);
    }
}
