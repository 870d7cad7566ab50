#include "api/generate.h"

#include "api/kept/kept.h"
#include "base/array.h"
#include "base/clock.h"
#include "pipeline/generation_kept.h"

#include <stdlib.h>

#define PULL_SIZE KIB(64) /* enough to fill a socket; the rest stays tokens */

const struct gen_request *reply_request(const struct gen_reply *r)
{
    return r->generation ? generation_request(r->generation) : &r->call->request;
}

/* ---- life of a reply ---- */

static void release_choice(struct reply_choice *c)
{
    buf_release(&c->text);
    buf_release(&c->logprobs);
    buf_release(&c->ids);
    buf_release(&c->digests);
    buf_release(&c->prompt_logprobs);
    buf_release(&c->reasoning);
    buf_release(&c->calls);
    buf_release(&c->arguments);
    buf_release(&c->mcp_calls);
    for (size_t i = 0; i < 4; i++) {
        buf_release(&c->columns[i]);
    }
}

static void init_choice(struct reply_choice *c)
{
    *c = (struct reply_choice){.stop_id = -1};
    struct buf *all[] = {&c->text,       &c->logprobs,   &c->ids,       &c->digests,   &c->prompt_logprobs,
                         &c->reasoning,  &c->calls,      &c->arguments, &c->mcp_calls, &c->columns[0],
                         &c->columns[1], &c->columns[2], &c->columns[3]};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        buf_init(all[i], LIMIT_HTTP_REPLY);
    }
}

void api__reply_discard(struct gen_reply *r)
{
    for (size_t i = 0; i < r->n_choices; i++) {
        release_choice(&r->choices[i]);
    }
    if (r->encoder->release && r->state) {
        r->encoder->release(r->state);
    }
    free(r->state);
    free(r->choices);
    loop_timer_free(r->timer);
    buf_release(&r->head);
    free(r);
}

static void reply_free(struct gen_reply *r)
{
    struct call *c = r->call;
    generation_free(r->generation);
    if (r->kept) {
        api__kept_leave(r->kept, r);
    }
    api__reply_discard(r);
    api__call_free(c);
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
        api__record_event(r, &e);
        if (e.kind == GEN_DONE || e.kind == GEN_ERROR) {
            finish_body(r, &e);
            return;
        }
        r->encoder->gather(r, &e);
    }
}

/* ---- a stream ---- */

/* Puts the place after an event into the last of what was just written: who has that has all before it. */
static void put_place(const struct gen_reply *r, const struct gen_event *e, size_t start, struct buf *out)
{
    bool moves = e->kind >= GEN_DELTA && e->kind <= GEN_FINISH && !e->echo;
    size_t end = out->len;
    if (!r->placed || !moves || end == start) {
        return;
    }
    buf_truncate(out, end - 1);
    buf_append(out, STR("id: "));
    if (generation_position(r->generation, out)) {
        buf_append(out, STR("\n\n"));
    } else {
        buf_truncate(out, end - 1);
        buf_putc(out, '\n');
    }
}

static void send_event(struct gen_reply *r, const struct gen_event *e, struct buf *out)
{
    size_t start = out->len;
    api__record_event(r, e);
    if (e->kind == GEN_ERROR) {
        r->encoder->stream_error(r, &e->error, out);
    } else {
        r->encoder->stream_event(r, e, out);
        put_place(r, e, start, out);
    }
    if (e->kind == GEN_DONE || e->kind == GEN_ERROR) {
        buf_puts(out, r->encoder->stream_end);
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

/* While it waits for its model, a comment says so; APIs whose streams have none send what they always do. */
static void write_keepalive(void *arg, struct buf *out)
{
    struct gen_reply *r = arg;
    if (r->encoder->keepalive[0] == ':' && r->call->model) {
        api__put_load_comment(r->call->model, out);
    }
}

void api__stream_start(struct http_exchange *x, const struct gen_encoder *encoder, const struct http_source *source)
{
    const char *type = encoder->content_type;
    http_add_header(x, "Cache-Control", STR("no-cache"));
    http_add_header(x, "X-Accel-Buffering", STR("no"));
    http_stream_start(x, 200, type ? type : "text/event-stream; charset=utf-8", source);
}

static void begin_stream(struct gen_reply *r)
{
    struct http_source source = {.pull = pull,
                                 .arg = r,
                                 .keepalive_ms = r->encoder->keepalive ? r->call->app->options.keepalive_ms : 0,
                                 .keepalive = str_of(r->encoder->keepalive),
                                 .write_keepalive = write_keepalive};
    r->streaming = true;
    loop_timer_stop(r->timer);
    if (r->call->streams) { /* since before its generation */
        http_stream_source(r->call->x, &source);
        return;
    }
    api__call_headers(r->call);
    api__stream_start(r->call->x, r->encoder, &source);
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

/* Who reads again what has failed gets the events that there are, then the error. */
static bool has_events(const struct gen_reply *r)
{
    struct gen_timings ignored;
    struct gen_usage usage = {0};
    if (r->again && r->encoder->numbered) {
        return true;
    }
    if (r->placed) {
        generation_timings(r->generation, 0, &ignored, &usage);
    }
    return usage.completion_tokens > 0;
}

void api__reply_ready(void *arg)
{
    struct gen_reply *r = arg;
    if (!r->stream) {
        gather(r);
        return;
    }
    if (r->streaming) {
        http_stream_wake(r->call->x);
        return;
    }
    struct error why;
    if (!has_events(r) &&
        generation_failed(r->generation, &why)) { /* before a byte was sent: an error reply like any other */
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

struct gen_reply *api__reply_create(struct call *c, const struct gen_encoder *encoder)
{
    struct gen_reply *r = calloc(1, sizeof *r);
    if (!r) {
        return NULL;
    }
    r->call = c;
    r->origin = c;
    r->stream = c->request.stream;
    r->encoder = encoder;
    r->state = calloc(1, encoder->state_size ? encoder->state_size : 1);
    r->n_choices = c->request.n_jobs * c->request.n;
    r->choices = calloc(r->n_choices ? r->n_choices : 1, sizeof r->choices[0]);
    r->timer = loop_timer_create(c->app->loop, on_timer, r);
    if (!r->choices || !r->timer || !r->state) {
        free(r->choices);
        free(r->state);
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

void api__reply_begin(struct gen_reply *r, struct generation *g)
{
    r->generation = g;
    http_on_gone(r->call->x, on_gone, r);
    if (r->call->streams) {
        begin_stream(r);
    } else if (r->stream) {
        loop_timer_start(r->timer, API_STREAM_BEGIN_MS, 0);
    }
}

bool api__reply_body(struct call *c, struct generation *g, struct buf *out, struct error *err)
{
    struct gen_reply *r = api__reply_create(c, c->route->encoder);
    struct gen_event e = {.kind = GEN_FINISH};
    if (!r) {
        return error_set(err, ERR_NO_MEMORY, "no memory for a reply.");
    }
    r->generation = g;
    while (e.kind != GEN_DONE && e.kind != GEN_ERROR && generation_next(g, clock_ms(), &e)) {
        r->encoder->gather(r, &e);
    }
    if (e.kind == GEN_DONE) {
        r->usage = e.usage;
        r->encoder->body(r, out);
    }
    api__reply_discard(r);
    return e.kind == GEN_DONE ? buf_ok(out, "the reply", err) : error_set(err, ERR_INTERNAL, "the answer has no end.");
}

static void generate(struct call *c)
{
    struct error err = {0};
    struct gen_reply *r = api__reply_create(c, c->route->encoder);
    if (!r) {
        error_set(&err, ERR_NO_MEMORY, "no memory for a reply.");
        api__refuse(c, &err);
        return;
    }
    struct generation *g = generation_start(served_model_pipeline(c->model), &c->request, api__reply_ready, r, &err);
    api__leave_places(c);
    if (!g) {
        api__reply_discard(r);
        api__refuse(c, &err);
        return;
    }
    c->arena = NULL; /* the generation's now; the request itself lies in the call, which outlives it */
    api__reply_begin(r, g);
}

/* Its work has found the answer already. */
static void reply_at_once(struct call *c)
{
    struct http_exchange *x = c->x;
    api__call_headers(c);
    api__reply_json(x, &c->reply);
    api__call_free(c);
}

void api__generate(struct call *c)
{
    if (c->reply.len && c->load_only) {
        api__reply_when_loaded(c);
        return;
    }
    if (c->reply.len) {
        reply_at_once(c);
        return;
    }
    if (!api__key_take_tokens(c)) {
        return;
    }
    if (c->request.background || c->request.detach) {
        api__kept_start(c);
    } else {
        generate(c);
    }
}

/* For a header: as much of it as that may hold, in the characters that it may have. */
static void note_widened(struct call *c)
{
    struct str text = c->request.widened;
    for (size_t i = 0; i < text.len && c->widened.len + 4 < c->widened.max; i++) {
        unsigned char b = (unsigned char)text.ptr[i];
        buf_putc(&c->widened, b >= 0x20 && b < 0x7F ? text.ptr[i] : '?');
    }
    if (text.len > c->widened.len) {
        buf_puts(&c->widened, "...");
    }
}

bool api__prepare(struct call *c, struct error *err)
{
    bool ok = pipeline_prepare(served_model_pipeline(c->model), &c->request, err);
    note_widened(c);
    return ok;
}
