/* A call waits until its model is read, which may have to be made, or brought, first: minutes, or hours. Its limits of
 * time hold meanwhile, who leaves is forgotten, and a stream begins with comments that say what it waits for. */
#include "api/generate.h"

#include "base/array.h"
#include "base/clock.h"
#include "pipeline/deadlines.h"

#include <stdio.h>
#include <stdlib.h>

struct opening {
    struct app *app;
    struct call *call; /* NULL: it has its answer, or nobody wants one */
    struct loop_timer *timer;
    int64_t since_ms;
    void (*fn)(void *arg, const struct error *err);
};

static void free_opening(struct opening *o)
{
    struct app *a = o->app;
    loop_timer_free(o->timer);
    free(o);
    api__release(a);
}

/* ---- the limits ---- */

/* As generation_deadline_ms, before there is one; *limit_ms: how much the limit is. */
static int64_t deadline_ms(const struct call *c, enum gen_limit *which, int64_t *limit_ms)
{
    const struct gen_request *r = &c->request;
    const struct served_model_options *o = served_model_options(c->model);
    bool waits = !r->background;
    const int64_t limits[GEN_LIMIT_COUNT] = {
        [GEN_LIMIT_QUEUE] = waits ? o->queue_timeout_ms : 0,
        [GEN_LIMIT_FIRST_TOKEN] = waits ? o->first_token_timeout_ms : 0,
        [GEN_LIMIT_TOTAL] = r->timeout_ms > 0 ? r->timeout_ms : o->default_timeout_ms,
    };
    *which = GEN_LIMIT_TOTAL;
    int64_t at = c->route->encoder ? gen_limits_deadline_ms(limits, c->received_us, which) : INT64_MAX;
    *limit_ms = limits[*which];
    return at;
}

/* ---- a stream that begins before its generation ---- */

/* As a reply whose generation has failed. */
static void put_error(struct call *c, struct buf *out)
{
    const struct gen_encoder *encoder = c->route->encoder;
    struct gen_reply *r = api__reply_create(c, encoder);
    if (r) {
        encoder->stream_error(r, &c->error, out);
        api__reply_discard(r);
    }
    buf_puts(out, encoder->stream_end);
}

static enum http_pull pull(void *arg, struct buf *out)
{
    struct call *c = arg;
    if (!c->stream_fails) {
        return HTTP_PULL_WAIT;
    }
    put_error(c, out);
    api__call_free(c);
    return HTTP_PULL_END;
}

static void write_keepalive(void *arg, struct buf *out)
{
    struct call *c = arg;
    if (c->route->encoder->keepalive[0] == ':') {
        api__put_load_comment(c->model, out);
    }
}

static bool may_begin(const struct call *c)
{
    const struct gen_encoder *e = c->route->encoder;
    return e && e->keepalive && c->request.stream && !c->streams && !c->request.background && !c->request.detach;
}

static void begin_stream(struct call *c)
{
    c->streams = true;
    api__call_headers(c);
    api__stream_start(c->x, c->route->encoder,
                      &(struct http_source){.pull = pull,
                                            .arg = c,
                                            .keepalive_ms = c->app->options.keepalive_ms,
                                            .keepalive = str_of(c->route->encoder->keepalive),
                                            .write_keepalive = write_keepalive});
}

static void free_call(void *arg)
{
    api__call_free(arg);
}

bool api__early_error(struct call *c, const struct error *err)
{
    if (!c->streams || !c->x) {
        return false;
    }
    c->error = *err;
    c->stream_fails = true;
    api__record_error(c->x, err->code);
    http_on_gone(c->x, free_call, c);
    http_stream_wake(c->x);
    return true;
}

/* ---- waiting ---- */

static void opened(void *arg, const struct error *err)
{
    struct opening *o = arg;
    struct call *c = o->call;
    if (c) {
        if (c->x) {
            http_on_gone(c->x, api__call_gone, c);
        }
        o->fn(c, err);
    }
    free_opening(o);
}

static void left(void *arg)
{
    struct opening *o = arg;
    struct call *c = o->call;
    o->call = NULL;
    loop_timer_stop(o->timer);
    api__call_gone(c);
    api__call_free(c);
}

static void start_timer(struct opening *o)
{
    enum gen_limit which;
    int64_t ignored, now = clock_ms(), at = deadline_ms(o->call, &which, &ignored);
    if (may_begin(o->call)) {
        int64_t begin = o->since_ms + API_STREAM_BEGIN_MS;
        at = begin < at ? begin : at;
    }
    if (at != INT64_MAX) {
        loop_timer_start(o->timer, at > now ? at - now : 1, 0);
    }
}

static void on_timer(void *arg)
{
    struct opening *o = arg;
    struct call *c = o->call;
    enum gen_limit which;
    int64_t limit, now = clock_ms();
    if (deadline_ms(c, &which, &limit) <= now) {
        struct error late = {0};
        gen_limit_error(which, limit, &late);
        o->call = NULL;
        http_on_gone(c->x, NULL, NULL);
        api__refuse(c, &late);
        return;
    }
    if (may_begin(c) && now >= o->since_ms + API_STREAM_BEGIN_MS) {
        begin_stream(c);
    }
    start_timer(o);
}

void api__open_model(struct call *c, void (*fn)(void *arg, const struct error *err))
{
    struct error err = {0};
    if (served_model_is_open(c->model)) {
        fn(c, NULL);
        return;
    }
    struct opening *o = calloc(1, sizeof *o);
    if (!o || !(o->timer = loop_timer_create(c->app->loop, on_timer, o))) {
        free(o);
        error_set(&err, ERR_NO_MEMORY, "no memory to wait for a model.");
        fn(c, &err);
        return;
    }
    api__hold(c->app);
    o->app = c->app;
    o->call = c;
    o->fn = fn;
    o->since_ms = clock_ms();
    http_on_gone(c->x, left, o);
    start_timer(o);
    gateway_open(c->model, opened, o);
}
