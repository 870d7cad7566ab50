/* /v1/requests: what has become of requests that are kept. A request of another key is as if it were not there. */
#include "api/asking.h"
#include "base/array.h"
#include "http/percent.h"
#include "pipeline/generation_kept.h"

#include <stdio.h>
#include <stdlib.h>

#define AFTER_MAX    (LIMIT_PROMPTS * LIMIT_CHOICES) /* numbers of `after`: one per choice */
#define LIST_DEFAULT 20
#define LIST_MAX     100
#define OBJECT_MAX   (LIMIT_HTTP_REPLY)

/* ---- queries ---- */

static bool parse_after(struct asking *q, struct str text, struct error *err)
{
    q->after = calloc(AFTER_MAX, sizeof *q->after);
    if (!q->after) {
        return error_set(err, ERR_NO_MEMORY, "no memory for a request.");
    }
    if (!gen_places_read(text, q->after, AFTER_MAX, &q->n_after)) {
        return error_set_param(err, ERR_INVALID, "after",
                               "Invalid value for 'after': expected a number of tokens from 0 to %u, or one for "
                               "each choice, separated by commas; or an event's id.",
                               LIMIT_CONTEXT);
    }
    if (q->n_after == 0) {
        q->n_after = 1; /* from the beginning */
    }
    return true;
}

/* `after`, or what a browser's EventSource sends when it comes back. */
static bool read_after(struct asking *q, const struct http_request *head, struct error *err)
{
    struct buf value;
    bool given = asking__query_str(head, "after", &value);
    bool ok = parse_after(q, given ? buf_view(&value) : http_header_get(head, "last-event-id"), err);
    buf_release(&value);
    return ok;
}

/* ---- objects ---- */

static void put_fingerprint(struct json_writer *w, const char *key, struct str fingerprint)
{
    char text[32];
    snprintf(text, sizeof text, "fp_" STR_FMT, STR_ARG(str_slice(fingerprint, 0, 24)));
    json_member_cstr(w, key, fingerprint.len ? text : NULL);
}

static void put_error(struct json_writer *w, const struct journal_meta *m)
{
    struct buf error;
    buf_init(&error, KIB(16));
    json_key(w, "error");
    if (m->state == JOURNAL_FAILED) {
        api__write_error(&error, &m->error);
        /* {"error": {...}}: what is inside */
        json_put_raw(w, str_slice(buf_view(&error), strlen("{\"error\":"), error.len - 1));
    } else {
        json_put_null(w);
    }
    buf_release(&error);
}

static void put_request(struct json_writer *w, const struct journal_meta *m)
{
    json_member_cstr(w, "object", "request");
    json_member_str_or_null(w, "id", m->id);
    json_member_cstr(w, "status", journal_state_name(m->state));
    json_member_str_or_null(w, "reason", m->reason);
    json_member_str_or_null(w, "route", m->route);
    json_member_str_or_null(w, "model", m->model);
    json_member_bool(w, "background", m->background);
    asking__put_time(w, "created", m->created_s);
    asking__put_time(w, "finished", m->finished_s);
    asking__put_time(w, "expires", m->expires_s);
    json_member_uint(w, "generated_tokens", m->n_tokens);
    json_member_uint(w, "size", m->size);
    put_fingerprint(w, "system_fingerprint", m->fingerprint);
    put_fingerprint(w, "resumed_from_fingerprint", m->resumed_from);
    put_error(w, m);
}

/* ---- one of them ---- */

static void on_read(void *arg, struct journal_answer *answer)
{
    struct asking *q = arg;
    struct buf out;
    if (!answer->ok) {
        asking__fail(q, &answer->error);
        return;
    }
    const struct journal_record *r = &answer->records[0];
    struct error damaged = {0};
    if (r->damaged) {
        error_set(&damaged, ERR_IO, "The journal's copy of this result is damaged.");
        asking__fail(q, &damaged);
        return;
    }
    buf_init(&out, OBJECT_MAX);
    struct json_writer w = json_writer(&out);
    json_begin_object(&w);
    put_request(&w, &r->meta);
    json_key(&w, "result");
    if (r->result.len) {
        json_put_raw(&w, r->result);
    } else {
        json_put_null(&w);
    }
    json_end_object(&w);
    asking__reply(q, &out);
}

/* ---- its events ---- */

/* The call of a reader that waits: from here on its own exchange. */
static struct call *reader_call(struct asking *q)
{
    struct call *c = q->x ? api__call_create(q->app, NULL, q->x) : NULL;
    if (c) {
        c->first_event = q->first_event;
    }
    return c;
}

static void begin_replay(struct asking *q, struct rebuilt *r)
{
    struct call *c = r->call;
    struct error err = {0};
    struct gen_reply *reply = api__reply_create(c, c->route->encoder);
    struct generation *g = NULL;
    c->x = q->x;
    if (reply) {
        g = generation_replay(served_model_pipeline(c->model), &c->request, r->saved, api__reply_ready, reply, &err);
    } else {
        error_set(&err, ERR_NO_MEMORY, "no memory for a reply.");
    }
    c->arena = g ? NULL : c->arena; /* the generation's now */
    if (!g || !generation_skip(g, q->after, q->n_after, &err)) {
        if (reply) {
            api__reply_discard(reply);
        }
        api__call_headers(c);
        api__reply_error(c->x, &err);
        generation_free(g); /* the request's memory goes with it, and the request lies in the call */
        api__call_free(c);
        return;
    }
    reply->stream = reply->again = true;
    reply->placed = !reply->encoder->numbered;
    c->first_event = q->first_event;
    for (size_t i = 0; i < reply->n_choices; i++) {
        reply->choices[i].started = !gen_place_is_start(q->after[q->n_after == 1 ? 0 : i]);
    }
    api__reply_begin(reply, g);
    api__reply_ready(reply);
}

static void on_rebuilt(void *arg, struct rebuilt *r)
{
    struct asking *q = arg;
    if (r->ok && r->damaged) {
        r->ok = false;
        error_set(&r->error, ERR_IO, "The journal's copy of this answer is damaged.");
    }
    if (r->ok && q->x) {
        begin_replay(q, r);
        asking__free(q);
        return;
    }
    if (r->call) {
        api__call_free(r->call);
    }
    asking__fail(q, &r->error);
}

struct replay { /* who asks, and what the journal knows that a rebuilt request does not */
    struct asking *asking;
    char fingerprint[17], resumed_from[17];
};

static void on_replay_rebuilt(void *arg, struct rebuilt *r)
{
    struct replay *p = arg;
    struct asking *q = p->asking;
    if (r->call) {
        memcpy(r->call->fingerprint, p->fingerprint, sizeof p->fingerprint);
        memcpy(r->call->resumed_from, p->resumed_from, sizeof p->resumed_from);
    }
    free(p);
    on_rebuilt(q, r);
}

static void on_read_ended(void *arg, struct journal_answer *answer)
{
    struct asking *q = arg;
    struct error err = answer->error;
    struct replay *p = NULL;
    bool ok = answer->ok;
    if (ok && !journal_state_ended(answer->records[0].meta.state)) {
        ok = error_set(&err, ERR_UNAVAILABLE, "The request is queued; its events can be read once it runs.");
    }
    if (ok && !(p = calloc(1, sizeof *p))) {
        ok = error_set(&err, ERR_NO_MEMORY, "no memory for a request.");
    }
    if (ok) {
        const struct journal_meta *m = &answer->records[0].meta;
        p->asking = q;
        snprintf(p->fingerprint, sizeof p->fingerprint, STR_FMT, STR_ARG(m->fingerprint));
        snprintf(p->resumed_from, sizeof p->resumed_from, STR_FMT, STR_ARG(m->resumed_from));
        ok = api__rebuild(q->app, answer, NULL, on_replay_rebuilt, p, &err);
    }
    if (!ok) {
        free(p);
        asking__fail(q, &err);
    }
}

/* A running one is followed; what has ended is read again; what waits is to be asked for later. */
void asking__stream(struct asking *q)
{
    struct error err = {0};
    struct kept *k = api__kept_find(q->app->kept, str_of(q->id), str_of(q->key_name));
    if (k && api__kept_readable(k)) {
        struct call *c = reader_call(q);
        if (!c || !api__kept_read(k, c, q->after, q->n_after, &err)) {
            if (c) {
                c->x = NULL;
                api__call_free(c);
            } else {
                error_set(&err, ERR_NO_MEMORY, "no memory for a request.");
            }
            asking__fail(q, &err);
            return;
        }
        asking__free(q);
        return;
    }
    struct journal_done done = {on_read_ended, q};
    if (!journal_read(q->app->options.journal, str_of(q->id), str_of(q->key_name), JOURNAL_BODY | JOURNAL_TOKENS, done,
                      &err)) {
        asking__fail(q, &err);
    }
}

void api__request_get(struct app *a, struct http_exchange *x, struct str rest)
{
    static const char *const known[] = {"stream", "after"};
    const struct http_request *head = http_request_of(x);
    struct error err = {0};
    bool streams;
    struct asking *q = asking__create(a, x, rest);
    if (!q) {
        return;
    }
    if (!asking__check_query(head, known, ARRAY_LEN(known), &err) ||
        !asking__query_bool(head, "stream", &streams, &err) || !read_after(q, head, &err)) {
        asking__fail(q, &err);
        return;
    }
    if (streams && str_starts(rest, STR("resp_")) && !gen_place_is_start(q->after[0])) {
        error_set_param(&err, ERR_INVALID, "after",
                        "The events of a response have numbers: use /v1/responses/{id} and 'starting_after'.");
        asking__fail(q, &err);
        return;
    }
    if (streams) {
        asking__stream(q);
        return;
    }
    struct journal_done done = {on_read, q};
    if (!journal_read(a->options.journal, str_of(q->id), str_of(q->key_name), JOURNAL_RESULT, done, &err)) {
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
        json_begin_object(&w);
        put_request(&w, &answer->records[i].meta);
        json_end_object(&w);
    }
    asking__reply_list(q, &w, answer->n ? answer->records[0].meta.id : (struct str){0},
                       answer->n ? answer->records[answer->n - 1].meta.id : (struct str){0}, answer->more);
}

void api__request_list(struct app *a, struct http_exchange *x, struct str rest)
{
    static const char *const known[] = {"limit", "after"};
    const struct http_request *head = http_request_of(x);
    struct error err = {0};
    struct buf after;
    (void)rest;
    struct asking *q = asking__create(a, x, STR(""));
    if (!q) {
        return;
    }
    (void)asking__query_str(head, "after", &after);
    snprintf(q->id, sizeof q->id, STR_FMT, STR_ARG(buf_view(&after)));
    buf_release(&after);
    struct journal_done done = {on_list, q};
    if (!asking__check_query(head, known, ARRAY_LEN(known), &err) ||
        !asking__query_limit(head, LIST_DEFAULT, LIST_MAX, &q->limit, &err) ||
        !journal_list(a->options.journal, str_of(q->key_name), str_of(q->id), q->limit, done, &err)) {
        asking__fail(q, &err);
    }
}

/* ---- cancelling and removing ---- */

static void answer_end(struct asking *q, bool deleted)
{
    struct buf out;
    buf_init(&out, KIB(1));
    struct json_writer w = json_writer(&out);
    json_begin_object(&w);
    json_member_cstr(&w, "id", q->id);
    json_member_cstr(&w, "object", "request");
    json_member_bool(&w, "cancelled", !deleted);
    json_member_bool(&w, "deleted", deleted);
    json_end_object(&w);
    asking__reply(q, &out);
}

static void on_cancelled(void *arg, bool ok, const struct error *err)
{
    struct asking *q = arg;
    if (ok) {
        answer_end(q, false);
    } else {
        asking__fail(q, err);
    }
}

static void on_removed(void *arg, struct journal_answer *answer)
{
    struct asking *q = arg;
    if (answer->ok) {
        answer_end(q, true);
    } else {
        asking__fail(q, &answer->error);
    }
}

bool api__cancel_kept(struct app *a, struct http_exchange *x, struct str id)
{
    struct kept *k = a->kept ? api__kept_find(a->kept, id, api__exchange_key(a, x)) : NULL;
    struct asking *q = k ? asking__create(a, x, id) : NULL;
    if (q) {
        api__kept_cancel(k, on_cancelled, q);
    }
    return k != NULL;
}

void api__request_delete(struct app *a, struct http_exchange *x, struct str rest)
{
    struct error err = {0};
    if (api__cancel_kept(a, x, rest)) {
        return;
    }
    struct asking *q = asking__create(a, x, rest);
    struct journal_done done = {on_removed, q};
    if (q && !journal_remove(a->options.journal, str_of(q->id), str_of(q->key_name), done, &err)) {
        asking__fail(q, &err);
    }
}
