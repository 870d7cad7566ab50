/* The beginning of a kept request: into the journal, then its client is answered and it runs. */
#include "api/kept/kept_internal.h"
#include "api/mcp/mcp_api.h"

#include <stdio.h>

static void add_place(struct http_exchange *x, const char *header, const struct call *c)
{
    char where[80];
    const char *folder = c->route->encoder->accepted ? c->route->path : "/v1/requests";
    snprintf(where, sizeof where, "%.24s/%s", folder, c->request.id);
    http_add_header(x, header, str_of(where));
}

static void put_accepted(const struct call *c, struct buf *out)
{
    struct json_writer w = json_writer(out);
    json_begin_object(&w);
    json_member_cstr(&w, "id", c->request.id);
    json_member_cstr(&w, "object", "request");
    json_member_cstr(&w, "status", journal_state_name(JOURNAL_QUEUED));
    json_member_int(&w, "created", c->request.created_s);
    json_member_cstr(&w, "model", api__call_served_name(c));
    json_member_cstr(&w, "route", c->route->path);
    json_end_object(&w);
}

static void reply_accepted(struct call *c)
{
    const struct gen_encoder *e = c->route->encoder;
    struct http_exchange *x = c->x;
    struct buf out;
    buf_init(&out, LIMIT_HTTP_REPLY);
    (e->accepted ? e->accepted : put_accepted)(c, &out);
    api__call_headers(c);
    add_place(x, "Location", c);
    c->x = NULL;
    http_reply(x, e->accepted ? 200 : 202, "application/json", buf_view(&out));
    buf_release(&out);
}

static void wait_in_journal(struct kept *k)
{
    struct call *c = k->call;
    k->call = NULL;
    k->phase = KEPT_WAITING;
    k->set->n_waiting++;
    api__call_free(c);
}

static void start_background(struct kept *k)
{
    struct call *c = k->call;
    struct error err = {0};
    if (k->set->n_running >= KEPT_RUNNING_MAX || k->set->stopping) {
        wait_in_journal(k);
    } else if (!kept__run(k, c, NULL, &err)) {
        kept__fail(k, &err);
    }
}

/* The client is answered as if nothing were kept. */
static void start_detached(struct kept *k)
{
    struct call *c = k->call, *own;
    struct error err = {0};
    const struct gen_place from_start[] = {{0, 0}};
    const struct kept_reading how = {.live = true, .stream = c->request.stream, .after = from_start, .n_after = 1};
    struct http_exchange *x = c->x;
    if (!kept__run(k, c, NULL, &err)) {
        k->call = NULL;
        api__refuse(c, &err);
        k->error = err;
        kept__end(k, JOURNAL_FAILED);
        return;
    }
    if (!x) {
        kept__abandon(k);
        return;
    }
    c->x = NULL;
    add_place(x, "Content-Location", c);
    own = api__call_create(k->set->app, c->route, x);
    if (own) {
        buf_append(&own->ignored, buf_view(&c->ignored));
        buf_append(&own->widened, buf_view(&c->widened));
    }
    if (!own || !kept__add_reader(k, own, &how, &err)) {
        error_set(&err, ERR_NO_MEMORY, "no memory for a reply.");
        http_on_gone(x, NULL, NULL);
        api__reply_error(x, &err);
        if (own) {
            api__call_free(own);
        }
    }
}

/* The journal does not have it: it never was. */
static void refuse(struct kept *k, const struct error *err)
{
    struct call *c = k->call;
    k->call = NULL;
    k->phase = KEPT_DONE;
    kept__release(k);
    api__refuse(c, err);
}

static void on_inserted(void *arg, struct journal_answer *answer)
{
    struct kept *k = arg;
    struct call *c = k->call;
    if (!answer->ok) {
        refuse(k, &answer->error);
        return;
    }
    if (!k->background || (c->x && c->request.stream && c->route->encoder->accepted)) {
        start_detached(k);
        return;
    }
    if (c->x) {
        reply_accepted(c);
    }
    start_background(k);
}

void api__kept_start(struct call *c)
{
    struct kept_set *set = c->app->kept;
    struct error err = {0};
    const char *model = api__call_served_name(c);
    struct kept *k = kept__create(set, str_of(c->request.id), str_of(c->key_name), str_of(model));
    if (!k) {
        error_set(&err, ERR_NO_MEMORY, "no memory for a request.");
        api__refuse(c, &err);
        return;
    }
    k->call = c;
    k->background = c->request.background;
    if (!api__keep_mcp(c, &err)) {
        refuse(k, &err);
        return;
    }
    api__put_details(&k->details, &c->request, NULL);
    struct journal_meta meta = {
        .id = str_of(k->id),
        .route = str_of(c->route->path),
        .key_name = str_of(k->key_name),
        .model = str_of(model),
        .details = buf_view(&k->details),
        .background = k->background,
        .created_s = c->request.created_s,
        .seed = c->request.seed,
    };
    if (!journal_insert(set->journal, &meta, c->text, (struct journal_done){on_inserted, k}, &err)) {
        refuse(k, &err);
    }
}
