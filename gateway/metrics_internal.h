/* Shared by the files of the metrics only:
 *
 *     metrics.c        what is counted, and by whom
 *     metrics_table.c  the table: names, kinds, labels, help, and where the value lies
 *     metrics_text.c   the table as text
 */
#ifndef TANDEM_GATEWAY_METRICS_INTERNAL_H
#define TANDEM_GATEWAY_METRICS_INTERNAL_H

#include "gateway/api_keys.h"
#include "gateway/engine_loss.h"
#include "gateway/histogram.h"
#include "gateway/metrics.h"
#include "pipeline/mcp/mcp_host.h"

/* X(id, bounds, what it counts) */
#define METRICS_HISTOGRAM_TABLE(X)                                   \
    X(TTFT, ttft_bounds, "seconds to the first token")               \
    X(INTER_TOKEN, token_bounds, "seconds between tokens")           \
    X(E2E, request_bounds, "seconds of a request")                   \
    X(QUEUE, request_bounds, "of them waiting for the engine")       \
    X(PREFILL, request_bounds, "of them prefilling")                 \
    X(DECODE, request_bounds, "of them decoding")                    \
    X(INFERENCE, request_bounds, "of them both")                     \
    X(PER_TOKEN, token_bounds, "seconds per token of a request")     \
    X(PROMPT, count_bounds, "prompt tokens of a request")            \
    X(COMPUTED, count_bounds, "of them computed")                    \
    X(GENERATED, count_bounds, "tokens generated for a request")     \
    X(LONGEST, count_bounds, "tokens of a request's longest choice") \
    X(MAX_TOKENS, count_bounds, "max_tokens of a request")           \
    X(CHOICES, choice_bounds, "n of a request")                      \
    X(RECOVERY, request_bounds, "seconds from a loss to the next token")
enum metrics_histogram {
#define X(id, bounds, what) HISTOGRAM_##id,
    METRICS_HISTOGRAM_TABLE(X)
#undef X
        HISTOGRAM_COUNT
};

struct model_metrics {
    char name[256];
    struct histogram histograms[HISTOGRAM_COUNT];
    struct percentiles latencies[METRICS_LATENCY_COUNT];
    uint64_t started, finished[FINISH_ERROR + 1], prompt_tokens, cached_tokens, generated_tokens, restarts;
    uint64_t losses[LOSS_COUNT], resumed, quarantined;
    struct metrics_model_now now;
    struct engine_stats live; /* of the present engine, as last received */
    struct engine_stats gone; /* counts of those before it */
    /* Made of the others by metrics__refresh. */
    uint64_t in_progress, running, waiting, ready, computed_tokens, kv_referenced_size, kv_cached_size;
    double kv_usage; /* share of the pages that sequences hold */
};

struct metrics_server { /* what no model has */
    struct metrics_http_now http;
    struct metrics_access_now access;
    struct metrics_memory_now memory;
    struct otlp_stats otlp;
    struct journal_stats journal; /* zeros: there is none */
    struct metrics_batches_now batches;
    uint64_t cpu_ns, start_ns, resident_size, open_descriptors, pressure, mcp_turns;
};

struct metrics {
    struct model_metrics models[METRICS_MAX_MODELS];
    int n_models;
    struct metrics_server server;
    const struct api_keys *keys;
    const struct mcp_host *mcp;
};

void metrics__refresh(struct metrics *m);

/* ---- the table ---- */

enum metrics_kind { METRICS_COUNTER, METRICS_GAUGE, METRICS_HISTOGRAM };

enum metrics_labels {
    LABELS_MODEL, /* model */
    LABELS_VLLM,  /* model_name, and engine, always "0" */
    LABELS_NONE,
    LABELS_KEY, /* key: the name of an API key */
    LABELS_MCP  /* server: the name of an MCP server */
};

enum metrics_form {               /* what lies at a member's place */
                    FORM_COUNT,   /* uint64_t */
                    FORM_SECONDS, /* uint64_t of nanoseconds */
                    FORM_DOUBLE,
                    FORM_HISTOGRAM, /* its index */
                    FORM_ROWS, /* offset of [ENGINE_ROWS_BUCKETS] in struct engine_stats; its sum is that of the other
                                  members */
                    FORM_INFO  /* always 1: what it says is in its labels, which write_labels writes */
};

struct metrics_member {
    const char *value; /* of the family's own label */
    const char *field; /* a field of the engine's statistics; NULL: `at` counts */
    size_t at;         /* offset in struct model_metrics or, without a model, struct metrics_server or, of a key, struct
                          api_key_usage, of an MCP server, struct mcp_usage; or as the form says */
};

struct metrics_family {
    const char *name;
    enum metrics_kind kind;
    enum metrics_labels labels;
    enum metrics_form form;
    const struct metrics_member *members; /* [n_members] */
    int n_members;
    const char *label;                                                    /* its own, or NULL */
    const char *help;                                                     /* a sentence */
    void (*write_labels)(struct buf *out, const struct model_metrics *m); /* FORM_INFO: ,name="value" and so on */
};
extern const struct metrics_family metrics__families[];
extern const int metrics__n_families;

/* The engine's statistics: those that no family of our own names get one each. */
struct metrics_field {
    const char *name, *help;
    size_t at; /* in struct engine_stats */
};
extern const struct metrics_field metrics__fields[];
extern const int metrics__n_fields;
const struct metrics_field *metrics__field(const char *name); /* NULL: this build's engines do not count that */
bool metrics__is_gauge(const struct metrics_field *f);

/* Of all of the model's engines so far; a gauge is the present one's. */
uint64_t metrics__engine_value(const struct model_metrics *m, const struct metrics_field *f);

void metrics__label_value(struct buf *out, const char *value); /* escaped, without the quotes */

#endif
