/* The exporter is in one of these states:
 *
 *     empty --a span--> gathering --delay, or enough spans--> sending --success--> empty or gathering
 *                                                              |  ^
 *                                            429, 503, no reply |  | backoff
 *                                                              v  |
 *                                                             waiting
 *
 * While it is sending or waiting, `batch` holds what is sent, and the queue goes on filling. Closing runs through the
 * same states without the delay. */
#include "gateway/otlp.h"

#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/rng.h"
#include "gateway/otlp_internal.h"

#include <stdlib.h>

#define BATCH_SPANS        512
#define BATCH_BYTES        MIB(1)
#define DEFAULT_MAX_SPANS  8192
#define DEFAULT_MAX_BYTES  MIB(16)
#define DEFAULT_DELAY_MS   1000
#define DEFAULT_RETRY_MS   1000
#define DEFAULT_TRIES      8
#define RETRY_MAX_FACTOR   30
#define RETRY_AFTER_MAX_MS 300000 /* a collector may ask for no more patience than this */
#define CONNECT_TIMEOUT_MS 5000
#define SEND_TIMEOUT_MS    10000 /* OpenTelemetry's default */
#define REPLY_MAX          KIB(64)
#define SPAN_MAX           KIB(64)
#define WARN_INTERVAL_MS   60000

struct item { /* the spans of one request, waiting */
    struct item *next;
    size_t n_spans, len;
    char json[]; /* [len] objects separated by commas */
};

struct otlp {
    struct otlp_options options; /* its strings are copies */
    struct http_client *client;
    struct loop_timer *timer;  /* the delay, the backoff */
    struct loop_timer *closer; /* the end of closing */
    bool delaying;             /* the timer is the delay */
    struct buf url;
    struct otlp_headers headers;
    struct item *first, *last;
    size_t n_queued, queued_size; /* of spans; of their JSON */
    struct buf batch;
    size_t n_batch; /* spans in it; 0: none */
    struct http_call *call;
    int n_tries;
    int64_t warned_ms; /* 0: never; a success forgets it */
    struct otlp_stats stats;
    bool closing, finishing;
    void (*on_closed)(void *arg);
    void *on_closed_arg;
};

static void advance(struct otlp *o);

/* ---- life ---- */

static void free_queue(struct otlp *o)
{
    for (struct item *i = o->first, *next; i; i = next) {
        next = i->next;
        free(i);
    }
    o->first = o->last = NULL;
}

static void otlp_free(struct otlp *o)
{
    http_client_free(o->client);
    loop_timer_free(o->timer);
    loop_timer_free(o->closer);
    free_queue(o);
    arena_free(o->headers.arena);
    buf_release(&o->url);
    buf_release(&o->batch);
    free(o);
}

static void finish(void *arg)
{
    struct otlp *o = arg;
    void (*on_closed)(void *) = o->on_closed;
    void *on_closed_arg = o->on_closed_arg;
    size_t n_lost = o->n_queued + o->n_batch;
    if (n_lost) {
        LOG_WARN("spans were not sent before the end", "spans=%zu", n_lost);
    }
    otlp_free(o);
    on_closed(on_closed_arg);
}

/* Not at once: the client may be the caller. */
static void finish_soon(void *arg)
{
    struct otlp *o = arg;
    if (!o->finishing) {
        o->finishing = true;
        loop_timer_stop(o->timer);
        loop_timer_stop(o->closer);
        loop_defer(o->options.loop, finish, o);
    }
}

/* ---- the queue ---- */

static struct item *item_create(const struct otlp_span *spans, size_t n)
{
    struct buf json;
    buf_init(&json, SPAN_MAX * n);
    for (size_t i = 0; i < n; i++) {
        buf_puts(&json, i ? "," : "");
        otlp_write_span(&json, &spans[i]);
    }
    struct item *item = json.failed ? NULL : malloc(sizeof *item + json.len);
    if (item) {
        *item = (struct item){.n_spans = n, .len = json.len};
        memcpy(item->json, json.data, json.len);
    }
    buf_release(&json);
    return item;
}

void otlp_add(struct otlp *o, const struct otlp_span *spans, size_t n)
{
    if (n == 0) {
        return;
    }
    struct item *item = o->n_queued + n > o->options.max_spans || o->closing ? NULL : item_create(spans, n);
    if (!item || item->len > o->options.max_bytes - o->queued_size) {
        free(item);
        o->stats.dropped += n;
        return;
    }
    *(o->last ? &o->last->next : &o->first) = item;
    o->last = item;
    o->n_queued += n;
    o->queued_size += item->len;
    advance(o);
}

static void take_item(struct otlp *o)
{
    struct item *item = o->first;
    buf_puts(&o->batch, o->n_batch ? "," : "");
    buf_append_bytes(&o->batch, item->json, item->len);
    o->first = item->next;
    o->last = o->first ? o->last : NULL;
    o->n_queued -= item->n_spans;
    o->queued_size -= item->len;
    o->n_batch += item->n_spans;
    free(item);
}

static void fill_batch(struct otlp *o)
{
    buf_clear(&o->batch);
    otlp__begin_batch(&o->batch, &o->options);
    while (o->first && (o->n_batch == 0 || (o->n_batch + o->first->n_spans <= BATCH_SPANS &&
                                            o->batch.len + o->first->len <= BATCH_BYTES))) {
        take_item(o);
    }
    otlp__end_batch(&o->batch);
    o->n_tries = 0;
}

/* ---- sending ---- */

static void drop_batch(struct otlp *o)
{
    o->n_batch = 0;
    buf_release(&o->batch);
}

static void warn(struct otlp *o, int status, const struct error *err, bool given_up)
{
    int64_t now = clock_ms();
    if (o->warned_ms && now - o->warned_ms < WARN_INTERVAL_MS && !given_up) {
        return;
    }
    o->warned_ms = now;
    LOG_WARN("spans are not accepted by the collector", "status=%d error=\"%s\" given_up=%s spans=%zu", status,
             err ? err->msg : "", given_up ? "true" : "false", o->n_batch);
}

static bool may_retry(int status, const struct error *err)
{
    if (err) {
        return err->code == ERR_UNAVAILABLE || err->code == ERR_DEADLINE || err->code == ERR_PROTOCOL;
    }
    return status == 429 || status == 502 || status == 503 || status == 504;
}

/* Retry-After in seconds; -1: none, or a date. */
static int64_t retry_after_ms(const struct http_reply *reply)
{
    uint64_t seconds;
    struct str value = http_reply_header(reply, "retry-after");
    if (reply->status == 0 || !str_to_u64(value, &seconds)) {
        return -1;
    }
    return seconds > RETRY_AFTER_MAX_MS / 1000 ? RETRY_AFTER_MAX_MS : (int64_t)seconds * 1000;
}

static int64_t backoff_ms(const struct otlp *o)
{
    int64_t initial = o->options.retry_initial_ms, most = initial;
    for (int i = 1; i < o->n_tries && most < initial * RETRY_MAX_FACTOR; i++) {
        most *= 2;
    }
    most = most < initial * RETRY_MAX_FACTOR ? most : initial * RETRY_MAX_FACTOR;
    return (int64_t)(rng_entropy64() % (uint64_t)(most + 1));
}

static void take_failure(struct otlp *o, const struct http_reply *reply, const struct error *err)
{
    int64_t asked_ms = retry_after_ms(reply), wait_ms = asked_ms >= 0 ? asked_ms : backoff_ms(o);
    bool unreachable = o->closing && err && err->code == ERR_UNAVAILABLE;
    bool again = may_retry(reply->status, err) && o->n_tries < o->options.max_tries && !unreachable;
    warn(o, reply->status, err, !again);
    if (again) {
        loop_timer_start(o->timer, wait_ms, 0);
        return;
    }
    o->stats.failed += o->n_batch;
    drop_batch(o);
    if (unreachable) {
        finish_soon(o);
    } else {
        advance(o);
    }
}

static void on_done(void *arg, const struct http_reply *reply, const struct error *err)
{
    struct otlp *o = arg;
    o->call = NULL;
    if (err || reply->status < 200 || reply->status > 299) {
        take_failure(o, reply, err);
        return;
    }
    uint64_t rejected = otlp__rejected(reply->body);
    rejected = rejected < o->n_batch ? rejected : o->n_batch;
    o->stats.failed += rejected;
    o->stats.exported += o->n_batch - rejected;
    if (rejected) {
        warn(o, reply->status, NULL, true);
    } else if (o->warned_ms) {
        LOG_INFO("spans are accepted by the collector", NULL);
        o->warned_ms = 0;
    }
    drop_batch(o);
    advance(o);
}

static void send_batch(struct otlp *o)
{
    struct error err = {0};
    struct http_reply none = {0};
    struct http_call_options call = {
        .method = "POST",
        .url = o->url.data,
        .headers = o->headers.items,
        .n_headers = o->headers.n,
        .body = buf_view(&o->batch),
        .connect_timeout_ms = CONNECT_TIMEOUT_MS,
        .timeout_ms = SEND_TIMEOUT_MS,
        .max_reply = REPLY_MAX,
        .events = {.on_done = on_done, .arg = o},
    };
    o->n_tries++;
    o->call = o->batch.failed ? NULL : http_call_start(o->client, &call, &err);
    if (!o->call) {
        take_failure(o, &none, err.code ? &err : NULL);
    }
}

static void on_timer(void *arg)
{
    struct otlp *o = arg;
    o->delaying = false;
    if (o->n_batch == 0) {
        fill_batch(o);
    }
    send_batch(o);
}

/* Nothing is being sent: begins the next batch, now or when it may have grown. */
static void advance(struct otlp *o)
{
    if (o->n_batch || o->finishing) {
        return;
    }
    if (!o->first) {
        if (o->closing) {
            finish_soon(o);
        }
        return;
    }
    bool now = o->closing || o->n_queued >= BATCH_SPANS;
    if (now || !o->delaying) {
        o->delaying = true;
        loop_timer_start(o->timer, now ? 0 : o->options.delay_ms, 0);
    }
}

/* ---- public ---- */

static void set_defaults(struct otlp_options *o)
{
    o->max_spans = o->max_spans ? o->max_spans : DEFAULT_MAX_SPANS;
    o->max_bytes = o->max_bytes ? o->max_bytes : DEFAULT_MAX_BYTES;
    o->delay_ms = o->delay_ms ? o->delay_ms : DEFAULT_DELAY_MS;
    o->retry_initial_ms = o->retry_initial_ms ? o->retry_initial_ms : DEFAULT_RETRY_MS;
    o->max_tries = o->max_tries ? o->max_tries : DEFAULT_TRIES;
}

/* What only a call would find wrong (a port, a user name) is found now. */
static bool check_call(struct otlp *o, struct error *err)
{
    struct http_call_options call = {.method = "POST",
                                     .url = o->url.data,
                                     .headers = o->headers.items,
                                     .n_headers = o->headers.n,
                                     .events = {.on_done = on_done, .arg = o}};
    struct http_call *probe = http_call_start(o->client, &call, err);
    if (probe) {
        http_call_cancel(probe); /* nothing has left yet */
    }
    return probe != NULL;
}

static bool set_up(struct otlp *o, const struct otlp_options *options, struct error *err)
{
    struct http_client_options client = {.user_agent = "tandem"};
    buf_init(&o->url, KIB(4));
    buf_init(&o->batch, DEFAULT_MAX_BYTES + BATCH_BYTES);
    if (!otlp_url(options->endpoint, &o->url, err) || !otlp__read_headers(&o->headers, options->headers, err) ||
        !(o->client = http_client_create(loop_uv(options->loop), &client, err))) {
        return false;
    }
    o->timer = loop_timer_create(options->loop, on_timer, o);
    o->closer = loop_timer_create(options->loop, finish_soon, o);
    o->options.service_name =
        options->service_name ? arena_strdup(o->headers.arena, str_of(options->service_name)) : NULL;
    o->options.version = options->version ? arena_strdup(o->headers.arena, str_of(options->version)) : NULL;
    o->options.endpoint = o->options.headers = NULL; /* read */
    bool ok = o->timer && o->closer;
    return ok ? check_call(o, err) : error_set(err, ERR_NO_MEMORY, "no memory for the exporter of spans.");
}

struct otlp *otlp_create(const struct otlp_options *options, struct error *err)
{
    struct otlp *o = calloc(1, sizeof *o);
    if (!o) {
        error_set(err, ERR_NO_MEMORY, "no memory for the exporter of spans.");
        return NULL;
    }
    o->options = *options;
    set_defaults(&o->options);
    if (!set_up(o, options, err)) {
        otlp_free(o);
        return NULL;
    }
    return o;
}

void otlp_close(struct otlp *o, int64_t timeout_ms, void (*on_closed)(void *arg), void *arg)
{
    o->closing = true;
    o->on_closed = on_closed;
    o->on_closed_arg = arg;
    loop_timer_start(o->closer, timeout_ms, 0);
    if (o->n_batch && !o->call) {
        loop_timer_start(o->timer, 0, 0); /* it waits for its next try, and has it now */
    } else if (!o->n_batch) {
        advance(o);
    }
}

bool otlp_samples(const struct otlp *o, const uint8_t trace_id[TRACE_ID_SIZE])
{
    uint64_t random = 0; /* the 56 bits that the Trace Context specification, level 2, wants to be random */
    for (size_t i = TRACE_ID_SIZE - 7; i < TRACE_ID_SIZE; i++) {
        random = random << 8 | trace_id[i];
    }
    return (double)(random >> 3) >= (1 - o->options.sample) * 0x1p53; /* what a double holds exactly */
}

struct otlp_stats otlp_stats(const struct otlp *o)
{
    struct otlp_stats s = o->stats;
    s.queued = o->n_queued + o->n_batch;
    return s;
}
