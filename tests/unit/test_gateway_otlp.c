/* The exporter of spans: the JSON of a span and of a batch; and against a collector on the same loop that answers by a
 * script: batches, retries, Retry-After, what is given up, the bounds of the queue, the flush at the end. */
#include "gateway/otlp.h"

#include "base/array.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/sys_proc.h"
#include "http/server.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- JSON ---- */

static struct otlp_span example(void)
{
    static const struct otlp_attribute attributes[] = {
        {.key = "s", .type = OTLP_STR, .text = {"quo\"te\n\xff", 8}},
        {.key = "i", .type = OTLP_INT, .number = INT64_MAX},
        {.key = "d", .type = OTLP_DOUBLE, .real = 0.25},
        {.key = "b", .type = OTLP_BOOL, .number = 1},
        {.key = "a", .type = OTLP_STR_ARRAY, .text = {"stop", 4}},
    };
    struct otlp_span s = {.name = "POST /x",
                          .kind = OTLP_SPAN_SERVER,
                          .start_ns = 1700000000123456789,
                          .end_ns = 1700000001000000000,
                          .attributes = attributes,
                          .n_attributes = ARRAY_LEN(attributes)};
    memset(s.trace_id, 0xab, sizeof s.trace_id);
    memset(s.span_id, 0x0c, sizeof s.span_id);
    return s;
}

static void span_json(void **state)
{
    (void)state;
    struct otlp_span s = example();
    struct buf out;
    buf_init(&out, KIB(8));
    otlp_write_span(&out, &s);
    assert_string_equal(
        out.data,
        "{\"traceId\":\"abababababababababababababababab\",\"spanId\":\"0c0c0c0c0c0c0c0c\",\"flags\":257,"
        "\"name\":\"POST /x\",\"kind\":2,\"startTimeUnixNano\":\"1700000000123456789\","
        "\"endTimeUnixNano\":\"1700000001000000000\",\"attributes\":["
        "{\"key\":\"s\",\"value\":{\"stringValue\":\"quo\\\"te\\n\xef\xbf\xbd\"}},"
        "{\"key\":\"i\",\"value\":{\"intValue\":\"9223372036854775807\"}},"
        "{\"key\":\"d\",\"value\":{\"doubleValue\":0.25}},{\"key\":\"b\",\"value\":{\"boolValue\":true}},"
        "{\"key\":\"a\",\"value\":{\"arrayValue\":{\"values\":[{\"stringValue\":\"stop\"}]}}}],\"status\":{}}");
    buf_clear(&out);
    memset(s.parent_id, 0x11, sizeof s.parent_id);
    s.parent_is_remote = s.failed = true;
    s.trace_state = STR("a=1");
    s.end_ns = s.start_ns - 5; /* a span does not end before it begins */
    s.n_attributes = 0;
    otlp_write_span(&out, &s);
    assert_string_equal(
        out.data,
        "{\"traceId\":\"abababababababababababababababab\",\"spanId\":\"0c0c0c0c0c0c0c0c\",\"traceState\":\"a=1\","
        "\"parentSpanId\":\"1111111111111111\",\"flags\":769,\"name\":\"POST /x\",\"kind\":2,"
        "\"startTimeUnixNano\":\"1700000000123456789\",\"endTimeUnixNano\":\"1700000000123456789\",\"attributes\":[],"
        "\"status\":{\"code\":2}}");
    buf_release(&out);
}

static void urls(void **state)
{
    (void)state;
    static const struct {
        const char *given, *url; /* NULL: refused */
    } rows[] = {
        {"http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"},
        {"http://127.0.0.1:4318/", "http://127.0.0.1:4318/v1/traces"},
        {"https://x.example/otlp/v1/traces", "https://x.example/otlp/v1/traces"},
        {"https://x.example/a", "https://x.example/a"},
        {"127.0.0.1:4318", NULL},
        {"grpc://127.0.0.1:4317", NULL},
        {"http://", NULL},
        {"http:///v1/traces", NULL},
        {"", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = {0};
        struct buf out;
        buf_init(&out, KIB(1));
        assert_int_equal(otlp_url(rows[i].given, &out, &err), rows[i].url != NULL);
        assert_string_equal(rows[i].url ? out.data : "", rows[i].url ? rows[i].url : "");
        assert_int_equal(err.code, rows[i].url ? ERR_NONE : ERR_INVALID);
        buf_release(&out);
    }
}

/* ---- a collector ---- */

#define MAX_CALLS 64

struct bench {
    struct loop *loop;
    struct http_server *server;
    struct otlp *otlp;
    struct loop_timer *watch;
    bool (*until)(const struct bench *b);
    int64_t give_up_ms;
    int statuses[MAX_CALLS]; /* of the answers, in turn; 0: 200 */
    const char *reply, *retry_after;
    bool silent; /* no answer at all */
    int n_calls;
    size_t n_spans[MAX_CALLS];
    int64_t at_ms[MAX_CALLS];
    char header[64], type[64], path[64];
    struct otlp_stats stats; /* the last before it was closed */
    bool closed, server_closed;
};

static void on_gone(void *arg)
{
    (void)arg;
}

static size_t count_spans(struct str body)
{
    struct error err = {0};
    struct json *root = json_parse(body, 0, &err);
    assert_non_null(root);
    const struct json *resource = json_at(json_get(root, "resourceSpans"), 0);
    const struct json *attribute = json_at(json_get(json_get(resource, "resource"), "attributes"), 0);
    assert_true(str_eq(json_str(json_get(attribute, "key")), STR("service.name")));
    assert_true(str_eq(json_str(json_get(json_get(attribute, "value"), "stringValue")), STR("unit")));
    const struct json *scope = json_at(json_get(resource, "scopeSpans"), 0);
    size_t n = json_len(json_get(scope, "spans"));
    json_free(root);
    return n;
}

static void collect(struct http_exchange *x, void *arg)
{
    struct bench *b = arg;
    const struct http_request *r = http_request_of(x);
    assert_true(b->n_calls < MAX_CALLS);
    int status = b->statuses[b->n_calls];
    b->n_spans[b->n_calls] = count_spans(http_body(x));
    b->at_ms[b->n_calls++] = clock_ms();
    snprintf(b->header, sizeof b->header, STR_FMT, STR_ARG(http_header_get(r, "x-secret")));
    snprintf(b->type, sizeof b->type, STR_FMT, STR_ARG(http_header_get(r, "content-type")));
    snprintf(b->path, sizeof b->path, STR_FMT, STR_ARG(r->path));
    if (b->silent) {
        http_on_gone(x, on_gone, NULL);
        return;
    }
    if (b->retry_after && status) {
        http_add_header(x, "Retry-After", str_of(b->retry_after));
    }
    http_reply(x, status ? status : 200, "application/json", str_of(b->reply ? b->reply : "{}"));
}

static void on_watch(void *arg)
{
    struct bench *b = arg;
    if (b->until(b)) {
        loop_stop(b->loop);
    } else if (clock_ms() > b->give_up_ms) {
        fail_msg("%d calls, %llu exported", b->n_calls,
                 (unsigned long long)(b->otlp ? otlp_stats(b->otlp).exported : 0));
    }
}

static void run_until(struct bench *b, bool (*until)(const struct bench *b))
{
    b->until = until;
    b->give_up_ms = clock_ms() + 20000;
    loop_timer_start(b->watch, 0, 1);
    loop_run(b->loop);
    loop_timer_stop(b->watch);
}

static void start(struct bench *b, struct otlp_options options)
{
    static const char *const listen[] = {"127.0.0.1:0"};
    static char endpoint[64];
    struct error err = {0};
    b->loop = loop_create(1, &err);
    assert_non_null(b->loop);
    b->server = http_server_create(
        loop_uv(b->loop), &(struct http_server_options){.listen = listen, .n_listen = 1, .handler = collect, .arg = b},
        &err);
    assert_non_null(b->server);
    b->watch = loop_timer_create(b->loop, on_watch, b);
    snprintf(endpoint, sizeof endpoint, "http://127.0.0.1:%d", http_server_port(b->server, 0));
    options.loop = b->loop;
    options.endpoint = options.endpoint ? options.endpoint : endpoint;
    options.service_name = "unit";
    options.retry_initial_ms = options.retry_initial_ms ? options.retry_initial_ms : 10;
    b->otlp = otlp_create(&options, &err);
    assert_string_equal(err.msg, "");
    assert_non_null(b->otlp);
}

static void on_closed(void *arg)
{
    struct bench *b = arg;
    b->closed = true;
}

static void on_server_closed(void *arg)
{
    struct bench *b = arg;
    b->server_closed = true;
}

static bool is_closed(const struct bench *b)
{
    return b->closed;
}

static bool server_is_closed(const struct bench *b)
{
    return b->server_closed;
}

/* Returns how long closing took. */
static int64_t stop(struct bench *b, int64_t timeout_ms)
{
    int64_t before = clock_ms();
    b->stats = otlp_stats(b->otlp);
    otlp_close(b->otlp, timeout_ms, on_closed, b);
    b->otlp = NULL;
    run_until(b, is_closed);
    int64_t took = clock_ms() - before;
    http_server_close(b->server, on_server_closed, b);
    run_until(b, server_is_closed);
    loop_timer_free(b->watch);
    loop_free(b->loop);
    return took;
}

static void add(struct bench *b, size_t n)
{
    struct otlp_span spans[4] = {example(), example(), example(), example()};
    assert_true(n <= ARRAY_LEN(spans));
    otlp_add(b->otlp, spans, n);
}

static bool all_sent(const struct bench *b)
{
    return otlp_stats(b->otlp).queued == 0;
}

static void expect(const struct bench *b, uint64_t exported, uint64_t dropped, uint64_t failed)
{
    struct otlp_stats s = b->otlp ? otlp_stats(b->otlp) : b->stats;
    assert_int_equal(s.exported, exported);
    assert_int_equal(s.dropped, dropped);
    assert_int_equal(s.failed, failed);
}

/* ---- against it ---- */

static void batches(void **state)
{
    (void)state;
    struct bench b = {0};
    start(&b, (struct otlp_options){.headers = "X-Secret=a%20b%2Cc , x-other=2", .delay_ms = 30});
    for (int i = 0; i < 10; i++) {
        add(&b, 4);
    }
    assert_int_equal(otlp_stats(b.otlp).queued, 40);
    run_until(&b, all_sent);
    assert_int_equal(b.n_calls, 1); /* together */
    assert_int_equal(b.n_spans[0], 40);
    assert_string_equal(b.header, "a b,c");
    assert_string_equal(b.type, "application/json");
    assert_string_equal(b.path, "/v1/traces");
    for (int i = 0; i < 300; i++) { /* more than a batch: not a moment's delay */
        add(&b, 4);
    }
    run_until(&b, all_sent);
    assert_true(b.n_calls >= 3);
    for (int i = 0; i < b.n_calls; i++) {
        assert_true(b.n_spans[i] <= 512);
    }
    expect(&b, 1240, 0, 0);
    stop(&b, 2000);
}

static void retries(void **state)
{
    (void)state;
    struct bench b = {.statuses = {503, 429, 502, 504, 0}};
    start(&b, (struct otlp_options){.delay_ms = 1});
    add(&b, 2);
    run_until(&b, all_sent);
    assert_int_equal(b.n_calls, 5);
    assert_int_equal(b.n_spans[4], 2); /* the same batch */
    expect(&b, 2, 0, 0);
    stop(&b, 2000);
}

static void retry_after(void **state)
{
    (void)state;
    struct bench b = {.statuses = {503, 0}, .retry_after = "1"};
    start(&b, (struct otlp_options){.delay_ms = 1, .retry_initial_ms = 1});
    add(&b, 1);
    run_until(&b, all_sent);
    assert_int_equal(b.n_calls, 2);
    assert_true(b.at_ms[1] - b.at_ms[0] >= 990);
    stop(&b, 2000);
}

static void given_up(void **state)
{
    (void)state;
    struct bench b = {.statuses = {400, 0, 500, 503, 503, 503, 0}};
    start(&b, (struct otlp_options){.delay_ms = 1, .max_tries = 3});
    for (int i = 0; i < 4; i++) { /* refused, taken, broken, three times overloaded */
        add(&b, 1);
        run_until(&b, all_sent);
    }
    assert_int_equal(b.n_calls, 6);
    expect(&b, 1, 0, 3);
    add(&b, 1);
    run_until(&b, all_sent);
    expect(&b, 2, 0, 3);
    stop(&b, 2000);
}

static void partial_success(void **state)
{
    (void)state;
    struct bench b = {.reply = "{\"partialSuccess\":{\"rejectedSpans\":\"3\",\"errorMessage\":\"no\"}}"};
    start(&b, (struct otlp_options){.delay_ms = 1});
    add(&b, 4);
    run_until(&b, all_sent);
    expect(&b, 1, 0, 3);
    b.reply = "{\"partialSuccess\":{\"rejectedSpans\":100}}";
    add(&b, 2);
    run_until(&b, all_sent);
    expect(&b, 1, 0, 5);
    b.reply = "not JSON";
    add(&b, 2);
    run_until(&b, all_sent);
    expect(&b, 3, 0, 5);
    stop(&b, 2000);
}

static void bounds(void **state)
{
    (void)state;
    struct bench b = {0};
    start(&b, (struct otlp_options){.delay_ms = 60000, .max_spans = 10});
    for (int i = 0; i < 3; i++) {
        add(&b, 4);
    }
    assert_int_equal(otlp_stats(b.otlp).queued, 8); /* all spans of a request, or none */
    expect(&b, 0, 4, 0);
    add(&b, 2);
    assert_int_equal(otlp_stats(b.otlp).queued, 10);
    stop(&b, 2000); /* the rest goes out at the end */
    assert_int_equal(b.n_calls, 1);
    assert_int_equal(b.n_spans[0], 10);
    struct bench c = {0};
    start(&c, (struct otlp_options){.delay_ms = 60000, .max_bytes = 1500});
    for (int i = 0; i < 5; i++) {
        add(&c, 1);
    }
    assert_in_range(otlp_stats(c.otlp).queued, 1, 4);
    assert_int_equal(otlp_stats(c.otlp).queued + otlp_stats(c.otlp).dropped, 5);
    stop(&c, 2000);
}

static bool one_call(const struct bench *b)
{
    return b->n_calls == 1;
}

static void flush_has_an_end(void **state)
{
    (void)state;
    struct bench b = {.silent = true};
    start(&b, (struct otlp_options){.delay_ms = 1});
    add(&b, 1);
    run_until(&b, one_call);
    int64_t took = stop(&b, 200); /* a collector that says nothing */
    assert_in_range(took, 190, 5000);
    struct bench c = {0};
    start(&c, (struct otlp_options){.endpoint = "http://127.0.0.1:1", .delay_ms = 60000});
    add(&c, 1);
    took = stop(&c, 10000); /* one that is not there is not waited for */
    assert_in_range(took, 0, 5000);
    struct bench d = {0};
    start(&d, (struct otlp_options){.delay_ms = 60000});
    took = stop(&d, 10000); /* nothing to send */
    assert_in_range(took, 0, 2000);
}

static void bad_options(void **state)
{
    (void)state;
    static const struct {
        const char *endpoint, *headers, *says;
    } rows[] = {
        {"127.0.0.1", NULL, "http://"},
        {"http://user:secret@127.0.0.1", NULL, "user name"},
        {"http://127.0.0.1:99999", NULL, "is no URL"},
        {"http://127.0.0.1", "novalue-secret", "item 1"},
        {"http://127.0.0.1", "a=1,b c=secret", "item 2"},
        {"http://127.0.0.1", "a=secret%0d%0aX: y", "item 1"},
    };
    struct error err = {0};
    struct loop *loop = loop_create(1, &err);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct otlp_options o = {.loop = loop, .endpoint = rows[i].endpoint, .headers = rows[i].headers};
        err = (struct error){0};
        assert_null(otlp_create(&o, &err));
        assert_int_equal(err.code, ERR_INVALID);
        if (!strstr(err.msg, rows[i].says) || strstr(err.msg, "secret")) {
            fail_msg("%s", err.msg);
        }
    }
    loop_free(loop);
}

static void sampling(void **state)
{
    (void)state;
    struct bench b = {0};
    uint8_t id[TRACE_ID_SIZE] = {0};
    int n = 0;
    start(&b, (struct otlp_options){.sample = 0.25});
    for (int i = 0; i < 256; i++) {
        id[TRACE_ID_SIZE - 7] = (uint8_t)i; /* the most significant of the random bytes */
        n += otlp_samples(b.otlp, id);
    }
    assert_int_equal(n, 64);
    stop(&b, 100);
    static const double all[] = {0, 1};
    for (int k = 0; k < 2; k++) {
        struct bench c = {0};
        start(&c, (struct otlp_options){.sample = all[k]});
        memset(id, 0xff, sizeof id);
        assert_int_equal(otlp_samples(c.otlp, id), k);
        memset(id, 0, sizeof id);
        assert_int_equal(otlp_samples(c.otlp, id), k);
        stop(&c, 100);
    }
}

int main(void)
{
    sys_ignore_sigpipe();
    log_init(&(struct log_options){.level = LOG_LEVEL_ERROR, .fd = 2, .process = "test"});
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(span_json),       cmocka_unit_test(urls),        cmocka_unit_test(batches),
        cmocka_unit_test(retries),         cmocka_unit_test(retry_after), cmocka_unit_test(given_up),
        cmocka_unit_test(partial_success), cmocka_unit_test(bounds),      cmocka_unit_test(flush_has_an_end),
        cmocka_unit_test(bad_options),     cmocka_unit_test(sampling),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
