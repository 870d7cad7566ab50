/* Metrics: one table of names, kinds and help; counters, gauges and histograms with a `model` label; Prometheus text
 * format 0.0.4. The loop's thread owns it. */
#ifndef TANDEM_GATEWAY_METRICS_H
#define TANDEM_GATEWAY_METRICS_H

#include "base/buf.h"
#include "pipeline/pipeline.h"

struct metrics;

struct metrics *metrics_create(void);
void metrics_free(struct metrics *m);

/* A model's own series; model outlives the metrics. Returns its index. */
int metrics_add_model(struct metrics *m, const char *model);
/* Feeds the series of that model from its pipeline. */
struct pipeline_observer metrics_observer(struct metrics *m, int model);

void metrics_engine_restart(struct metrics *m, int model);

/* Percentiles for /v1/status, in microseconds; -1 when nothing was observed. */
struct metrics_latency {
    int64_t p50, p95, p99;
};
struct metrics_latency metrics_ttft(const struct metrics *m, int model);
struct metrics_latency metrics_inter_token(const struct metrics *m, int model);

/* What the gateway knows of a model at this moment; given before metrics_write. */
struct metrics_model_now {
    uint64_t requests; /* accepted and not finished */
    bool ready;
    const struct engine_stats *stats;
};
void metrics_set_model(struct metrics *m, int model, const struct metrics_model_now *now);

/* What the HTTP server knows; given before metrics_write. */
struct metrics_http_now {
    uint64_t connections_open, connections, requests, bytes_in, bytes_out, parse_errors, timeouts;
    uint64_t replies[10]; /* by the first digit of their status */
};
void metrics_set_http(struct metrics *m, const struct metrics_http_now *now);

/* Appends everything in Prometheus text format, the process's own memory and descriptors included. */
void metrics_write(const struct metrics *m, struct buf *out);

#endif
