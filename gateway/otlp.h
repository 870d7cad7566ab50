/* Spans to an OpenTelemetry collector: OTLP over HTTP in its JSON encoding
 * (https://opentelemetry.io/docs/specs/otlp/#otlphttp). Spans wait in a bounded queue and go out in batches, one
 * request at a time; a queue that is full drops what comes, and counts it. Nothing here blocks, and no request waits
 * for it.
 *
 *     o = otlp_create(&(struct otlp_options){.loop = loop, .endpoint = "http://127.0.0.1:4318", .sample = 1}, err);
 *     otlp_add(o, spans, n);                    all spans of one request
 *     otlp_close(o, 2000, on_closed, arg);      what is left goes out, for so long; o is freed before on_closed
 *
 * Answers 429, 502, 503, 504 and lost connections are tried again, with exponential backoff and full jitter, or after
 * what Retry-After says; any other answer but success drops the batch. Everything on the loop's thread. */
#ifndef TANDEM_GATEWAY_OTLP_H
#define TANDEM_GATEWAY_OTLP_H

#include "base/json.h"
#include "base/loop.h"
#include "http/trace_context.h"

struct otlp;

struct otlp_options {         /* copied; 0: the default */
    struct loop *loop;        /* outlives the exporter */
    const char *endpoint;     /* http:// or https://; /v1/traces is appended where it has no path */
    const char *headers;      /* OTEL_EXPORTER_OTLP_HEADERS: "key=value,key2=value2", percent-encoded; NULL: none */
    const char *service_name; /* OTEL_SERVICE_NAME; NULL or "": "tandem" */
    const char *version;      /* of the program; NULL: none */
    double sample;            /* share of the traces that begin here, 0 to 1 */
    size_t max_spans;         /* waiting ones; default 8192 */
    size_t max_bytes;         /* of them, as JSON; default 16 MiB */
    int64_t delay_ms;         /* how long spans wait for others; default 1000 */
    int64_t retry_initial_ms; /* first backoff, doubled up to 30 times it; default 1000 */
    int max_tries;            /* of one batch; default 8 */
};

/* INVALID names what is wrong with the endpoint, or which header it is (never its value). */
NODISCARD struct otlp *otlp_create(const struct otlp_options *options, struct error *err);
/* Sends what waits for at most timeout_ms, a collector that cannot be reached not at all; then frees everything and
 * calls on_closed from the loop. Once; nothing may be added after it. */
void otlp_close(struct otlp *o, int64_t timeout_ms, void (*on_closed)(void *arg), void *arg);

/* Is a trace that begins here to be recorded? Decided by the id alone, so that others who sample the same share decide
 * the same. */
bool otlp_samples(const struct otlp *o, const uint8_t trace_id[TRACE_ID_SIZE]);

enum otlp_type { OTLP_STR, OTLP_INT, OTLP_DOUBLE, OTLP_BOOL, OTLP_STR_ARRAY /* of one item: text */ };

struct otlp_attribute {
    const char *key;
    enum otlp_type type;
    struct str text;
    int64_t number;
    double real; /* finite */
};

enum otlp_span_kind { OTLP_SPAN_INTERNAL = 1, OTLP_SPAN_SERVER = 2 }; /* the protocol's numbers */

struct otlp_span {
    uint8_t trace_id[TRACE_ID_SIZE], span_id[SPAN_ID_SIZE];
    uint8_t parent_id[SPAN_ID_SIZE]; /* all 0: none */
    bool parent_is_remote;
    struct str trace_state; /* {NULL, 0}: none */
    const char *name;
    enum otlp_span_kind kind;
    int64_t start_ns, end_ns; /* since 1970 */
    const struct otlp_attribute *attributes;
    size_t n_attributes;
    bool failed; /* its status is an error */
};

void otlp_add(struct otlp *o, const struct otlp_span *spans, size_t n); /* copied; all of them or none */

struct otlp_stats { /* spans since the start; queued: now, those on their way included */
    uint64_t exported, dropped, failed, queued;
};
struct otlp_stats otlp_stats(const struct otlp *o);

/* ---- its parts, for tests ---- */

void otlp_write_span(struct buf *out, const struct otlp_span *span);               /* the JSON object */
NODISCARD bool otlp_url(const char *endpoint, struct buf *out, struct error *err); /* with the path */

#endif
