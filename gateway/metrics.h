/* Metrics: counters, gauges and histograms, most of them by model; Prometheus text format 0.0.4. One table
 * (metrics_table.c) names them all, for the text and for docs/METRICS.md; where vLLM has a metric of the same meaning,
 * it is there under that name too. Counters only grow, also across restarts of an engine, whose own counts begin anew
 * with each process. The loop's thread owns it.
 *
 *     m = metrics_create();
 *     i = metrics_add_model(m, "name");
 *     metrics_observer(m, i), metrics_engine_stats(m, i, ...)     feed it
 *     metrics_set_model(m, i, &now), metrics_set_http(m, &now)    what is read off at the moment
 *     metrics_write(m, &out);
 */
#ifndef TANDEM_GATEWAY_METRICS_H
#define TANDEM_GATEWAY_METRICS_H

#include "base/buf.h"
#include "gateway/engine_loss.h"
#include "gateway/journal.h"
#include "gateway/otlp.h"
#include "gateway/percentiles.h"
#include "pipeline/deadlines.h"

struct metrics;

struct metrics *metrics_create(void); /* NULL when memory fails */
void metrics_free(struct metrics *m);

/* Series have a bound, however many models come and go: 31 that were read first have their own, under their names, for
 * as long as the program runs; what is counted of requests to all others goes to one row. */
#define METRICS_MAX_MODELS   32
#define METRICS_OTHER_MODELS "(others)"

/* The index of a model's series, made when there are none of this name yet. */
int metrics_add_model(struct metrics *m, const char *model);
/* Feeds the series of that model from its pipeline. */
struct pipeline_observer metrics_observer(struct metrics *m, int model);

void metrics_engine_stats(struct metrics *m, int model, const struct engine_stats *stats); /* as the engine sent them */
/* Its counts are kept, the next one's are added. */
void metrics_engine_lost(struct metrics *m, int model, enum engine_loss loss);
void metrics_engine_ended(struct metrics *m, int model); /* likewise; it was told to */

/* Counts of all of the model's engines so far; gauges of the present one. */
void metrics_engine_totals(const struct metrics *m, int model, struct engine_stats *out);
/* Bytes of so many KV pages. */
uint64_t metrics_page_bytes(const struct engine_stats *stats, uint64_t n_pages);

/* Latencies of which percentiles are kept. X(id, name, what) */
#define METRICS_LATENCY_TABLE(X)                                \
    X(TTFT, "ttft", "received to first token")                  \
    X(INTER_TOKEN, "inter_token", "between tokens of a choice") \
    X(E2E, "e2e", "received to its end")                        \
    X(QUEUE, "queue", "waiting for the engine")
enum metrics_latency {
#define X(id, name, what) METRICS_LATENCY_##id,
    METRICS_LATENCY_TABLE(X)
#undef X
        METRICS_LATENCY_COUNT
};
const char *metrics_latency_name(enum metrics_latency which);
struct quantiles metrics_latency_all(const struct metrics *m, int model, enum metrics_latency which);
struct quantiles metrics_latency_recent(const struct metrics *m, int model, enum metrics_latency which, int64_t now_ms);

/* What the gateway knows of a model at this moment; given before metrics_write. Strings live until then. */
struct metrics_model_now {
    uint64_t phases[GEN_PHASE_COUNT]; /* requests by phase */
    bool ready, prefix_cache;
    const char *architecture, *kv_type;
    const struct engine_info *info; /* NULL until an engine has loaded */
    uint64_t n_refused_full, n_refused_late, n_late[GEN_LIMIT_COUNT];
    double wait_s; /* predicted */
    struct {       /* pipeline/adapter_set.h */
        uint64_t n, size, limit, loads, failed_loads, drops, requests;
    } adapters;
};
void metrics_set_model(struct metrics *m, int model, const struct metrics_model_now *now);

/* What the HTTP server knows; given before metrics_write. */
struct metrics_http_now {
    uint64_t connections_open, connections, requests, bytes_in, bytes_out, parse_errors, timeouts, refused,
        tls_failures;
    uint64_t tls_expires_s; /* Unix time; 0: no TLS */
    uint64_t replies[10];   /* by the first digit of their status */
};
void metrics_set_http(struct metrics *m, const struct metrics_http_now *now);

void metrics_set_pressure(struct metrics *m, int level); /* enum pressure_level */

/* Memory of all engines as it is planned, and models that come and go (gateway_memory_plan). */
struct metrics_memory_now {
    uint64_t budget, used, loads, failed_loads, evictions, idle_unloads, waiting, load_ns;
};
void metrics_set_memory(struct metrics *m, const struct metrics_memory_now *now);

/* Who was not let in, what SIGHUP has done, and what was left out of requests; given before metrics_write. */
struct metrics_access_now {
    uint64_t no_key, bad_key, bad_host, bad_origin; /* requests refused */
    uint64_t reloads, failed_reloads;
    uint64_t volatile_lines;
};
void metrics_set_access(struct metrics *m, const struct metrics_access_now *now);

/* API keys, whose series are made of what they have counted; NULL: none. They outlive the metrics. */
struct api_keys;
void metrics_set_keys(struct metrics *m, const struct api_keys *keys);

/* MCP servers, likewise. */
struct mcp_host;
void metrics_set_mcp(struct metrics *m, const struct mcp_host *mcp);

/* What the exporter of spans has done; given before metrics_write, zeros without one. */
void metrics_set_otlp(struct metrics *m, const struct otlp_stats *stats);
void metrics_set_journal(struct metrics *m, const struct journal_stats *now); /* likewise */
struct metrics_batches_now {
    uint64_t running, completed, failed, given_up; /* rows */
};
void metrics_set_batches(struct metrics *m, const struct metrics_batches_now *now); /* likewise */

/* Appends everything in Prometheus text format, the process's own time, memory and descriptors included. */
void metrics_write(struct metrics *m, struct buf *out);

/* docs/METRICS.md, from the table. */
void metrics_write_docs(struct buf *out);

#endif
