#include "api/generate.h"

#include "base/clock.h"
#include "http/sse.h"

#include <stdlib.h>

#define STREAM_BEGIN_MS 500 /* a stream without an event begins after this, so that proxies and clients see it live */
#define PULL_SIZE       KIB(64) /* enough to fill a socket; the rest stays tokens */

const struct gen_request *reply_request(const struct gen_reply *r)
{
    return generation_request(r->generation);
}

/* ---- life of a reply ---- */

static void release_choice(struct reply_choice *c)
{
    buf_release(&c->text);
    buf_release(&c->logprobs);
    buf_release(&c->ids);
    buf_release(&c->digests);
    buf_release(&c->prompt_logprobs);
    for (size_t i = 0; i < 4; i++) {
        buf_release(&c->columns[i]);
    }
}

static void init_choice(struct reply_choice *c)
{
    *c = (struct reply_choice){.stop_id = -1};
    struct buf *all[] = {&c->text,       &c->logprobs,   &c->ids,        &c->digests,   &c->prompt_logprobs,
                         &c->columns[0], &c->columns[1], &c->columns[2], &c->columns[3]};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        buf_init(all[i], LIMIT_HTTP_REPLY);
    }
}

static void reply_free(struct gen_reply *r)
{
    generation_free(r->generation);
    for (size_t i = 0; i < r->n_choices; i++) {
        release_choice(&r->choices[i]);
    }
    free(r->choices);
    loop_timer_free(r->timer);
    buf_release(&r->head);
    api__call_free(r->call);
    free(r);
}

static void on_gone(void *arg)
{
    api__record_generation(arg);
    reply_free(arg); /* cancels what still runs */
}

/* ---- one body ---- */

static void finish_body(struct gen_reply *r, const struct gen_event *last)
{
    struct http_exchange *x = r->call->x;
    struct buf body;
    api__call_headers(r->call);
    api__record_generation(r);
    if (last->kind == GEN_ERROR) {
        api__reply_error(x, &last->error);
    } else {
        r->usage = last->usage;
        buf_init(&body, LIMIT_HTTP_REPLY);
        r->encoder->body(r, &body);
        api__reply_json(x, &body);
    }
    reply_free(r);
}

static void gather(struct gen_reply *r)
{
    struct gen_event e;
    while (generation_next(r->generation, clock_ms(), &e)) {
        if (e.kind == GEN_DONE || e.kind == GEN_ERROR) {
            finish_body(r, &e);
            return;
        }
        r->encoder->gather(r, &e);
    }
}

/* ---- a stream ---- */

static void send_error(struct buf *out, const struct error *err)
{
    struct buf json;
    buf_init(&json, KIB(16));
    api__write_error(&json, err);
    sse_data(out, buf_view(&json));
    buf_release(&json);
}

static void send_event(struct gen_reply *r, const struct gen_event *e, struct buf *out)
{
    if (e->kind == GEN_ERROR) {
        send_error(out, &e->error);
    } else {
        r->encoder->stream_event(r, e, out);
    }
    if (e->kind == GEN_DONE || e->kind == GEN_ERROR) {
        sse_data(out, STR("[DONE]"));
        r->ended = true;
    }
}

static enum http_pull pull(void *arg, struct buf *out)
{
    struct gen_reply *r = arg;
    struct gen_event e;
    size_t start = out->len;
    bool more = true;
    while (!r->ended && more && out->len - start < PULL_SIZE) {
        more = generation_next(r->generation, clock_ms(), &e);
        if (more) {
            send_event(r, &e, out);
        }
    }
    if (r->ended) {
        api__record_generation(r);
        reply_free(r);
        return HTTP_PULL_END;
    }
    if (more) {
        return HTTP_PULL_MORE;
    }
    int64_t due = generation_next_due(r->generation, clock_ms());
    if (due >= 0) {
        loop_timer_start(r->timer, due < 1 ? 1 : due, 0);
    }
    return HTTP_PULL_WAIT;
}

static void begin_stream(struct gen_reply *r)
{
    struct http_source source = {.pull = pull,
                                 .arg = r,
                                 .keepalive_ms = r->call->app->options.keepalive_ms,
                                 .keepalive = STR(": keep-alive\n\n")};
    r->streaming = true;
    loop_timer_stop(r->timer);
    api__call_headers(r->call);
    http_add_header(r->call->x, "Cache-Control", STR("no-cache"));
    http_add_header(r->call->x, "X-Accel-Buffering", STR("no"));
    http_stream_start(r->call->x, 200, "text/event-stream; charset=utf-8", &source);
}

static void on_timer(void *arg)
{
    struct gen_reply *r = arg;
    if (r->streaming) {
        http_stream_wake(r->call->x);
    } else {
        begin_stream(r);
    }
}

static void on_ready(void *arg)
{
    struct gen_reply *r = arg;
    if (!reply_request(r)->stream) {
        gather(r);
        return;
    }
    if (r->streaming) {
        http_stream_wake(r->call->x);
        return;
    }
    struct error why;
    if (generation_failed(r->generation, &why)) { /* before a byte was sent: an error reply like any other */
        struct http_exchange *x = r->call->x;
        api__call_headers(r->call);
        api__record_generation(r);
        api__reply_error(x, &why);
        reply_free(r);
        return;
    }
    begin_stream(r);
}

/* ---- start ---- */

static struct gen_reply *reply_create(struct call *c)
{
    struct gen_reply *r = calloc(1, sizeof *r);
    if (!r) {
        return NULL;
    }
    r->call = c;
    r->encoder = c->request.input == GEN_CHAT ? &api__chat_encoder : &api__completion_encoder;
    r->n_choices = c->request.n_jobs * c->request.n;
    r->choices = calloc(r->n_choices, sizeof r->choices[0]);
    r->timer = loop_timer_create(c->app->loop, on_timer, r);
    if (!r->choices || !r->timer) {
        free(r->choices);
        loop_timer_free(r->timer);
        free(r);
        return NULL;
    }
    for (size_t i = 0; i < r->n_choices; i++) {
        init_choice(&r->choices[i]);
    }
    buf_init(&r->head, LIMIT_HTTP_HEADERS);
    return r;
}

static void refuse(struct call *c, const struct error *err)
{
    api__call_headers(c);
    api__reply_error(c->x, err);
    api__call_free(c);
}

void api__generate(struct call *c)
{
    struct error err = {0};
    struct gen_reply *r = reply_create(c);
    if (!r) {
        error_set(&err, ERR_NO_MEMORY, "no memory for a reply.");
        refuse(c, &err);
        return;
    }
    r->generation = generation_start(served_model_pipeline(c->model), &c->request, on_ready, r, &err);
    api__leave_places(c);
    if (!r->generation) {
        r->call = NULL;
        for (size_t i = 0; i < r->n_choices; i++) {
            release_choice(&r->choices[i]);
        }
        free(r->choices);
        loop_timer_free(r->timer);
        free(r);
        refuse(c, &err);
        return;
    }
    c->arena = NULL; /* the generation's now; the request itself lies in the call, which outlives it */
    http_on_gone(c->x, on_gone, r);
    if (c->request.stream) {
        loop_timer_start(r->timer, STREAM_BEGIN_MS, 0);
    }
}

bool api__prepare(struct call *c, struct error *err)
{
    return pipeline_prepare(served_model_pipeline(c->model), &c->request, err);
}
