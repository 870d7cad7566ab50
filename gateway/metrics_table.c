/* The table of all metrics but those of the engine's statistics that nothing here names: they are written under names
 * of their own (metrics_text.c), so that a new one needs no row. */
#include "gateway/metrics_internal.h"

#include "base/array.h"

#include <stddef.h>

#define OWN(member)    NULL, offsetof(struct model_metrics, member)
#define ENGINE(field)  field, 0
#define SERVER(member) NULL, offsetof(struct metrics_server, member)
#define KEY(member)    NULL, offsetof(struct api_key_usage, member)
#define MCP(member)    NULL, offsetof(struct mcp_usage, member)
#define INDEX(i)       NULL, i

#define MEMBERS(...)                                         \
    .members = (const struct metrics_member[]){__VA_ARGS__}, \
    .n_members = (int)ARRAY_LEN(((const struct metrics_member[]){__VA_ARGS__}))

/* Rows by form. A value alone has no label of its own. */
#define VALUE(name_, kind_, labels_, source, help_)                                                                 \
    {                                                                                                               \
        .name = name_, .kind = kind_, .labels = labels_, .form = FORM_COUNT, .help = help_, MEMBERS({NULL, source}) \
    }
#define DOUBLE(name_, labels_, source, help_)                                                        \
    {                                                                                                \
        .name = name_, .kind = METRICS_GAUGE, .labels = labels_, .form = FORM_DOUBLE, .help = help_, \
        MEMBERS({NULL, source})                                                                      \
    }
#define HISTOGRAM(name_, labels_, id, help_)                                                                \
    {                                                                                                       \
        .name = name_, .kind = METRICS_HISTOGRAM, .labels = labels_, .form = FORM_HISTOGRAM, .help = help_, \
        MEMBERS({NULL, INDEX(HISTOGRAM_##id)})                                                              \
    }
/* Members: where the buckets are, then the fields whose sum the histogram's is. */
#define ROWS(name_, labels_, array, help_, ...)                                                        \
    {                                                                                                  \
        .name = name_, .kind = METRICS_HISTOGRAM, .labels = labels_, .form = FORM_ROWS, .help = help_, \
        MEMBERS({NULL, NULL, offsetof(struct engine_stats, array)}, __VA_ARGS__)                       \
    }
#define BY(name_, kind_, labels_, form_, label_, help_, ...)                                            \
    {                                                                                                   \
        .name = name_, .kind = kind_, .labels = labels_, .form = form_, .label = label_, .help = help_, \
        MEMBERS(__VA_ARGS__)                                                                            \
    }
#define INFO(name_, labels_, write, help_)                                                         \
    {                                                                                              \
        .name = name_, .kind = METRICS_GAUGE, .labels = labels_, .form = FORM_INFO, .help = help_, \
        .write_labels = write, MEMBERS({NULL, NULL, 0})                                            \
    }

#define COUNTER METRICS_COUNTER
#define GAUGE   METRICS_GAUGE
#define TANDEM  LABELS_MODEL
#define VLLM    LABELS_VLLM
#define NO      LABELS_NONE
#define BY_KEY  LABELS_KEY
#define BY_MCP  LABELS_MCP

/* ---- labels of what is always 1 ---- */

static void put(struct buf *out, const char *name, const char *value)
{
    buf_printf(out, ",%s=\"", name);
    metrics__label_value(out, value ? value : "");
    buf_putc(out, '"');
}

static void model_info(struct buf *out, const struct model_metrics *m)
{
    const struct engine_info *info = m->now.info;
    put(out, "architecture", m->now.architecture);
    put(out, "backend", info ? info->backend : NULL);
    put(out, "kv_type", m->now.kv_type);
    put(out, "fingerprint", info ? info->fingerprint : NULL);
    put(out, "build", info ? info->build : NULL);
}

/* The names are vLLM's, whatever the pages lie in. */
static void cache_config(struct buf *out, const struct model_metrics *m)
{
    buf_printf(out, ",block_size=\"%u\",num_gpu_blocks=\"%llu\"", m->now.info ? m->now.info->page_tokens : 0,
               (unsigned long long)m->live.pages_total);
    put(out, "cache_dtype", m->now.kv_type);
    put(out, "enable_prefix_caching", m->now.prefix_cache ? "True" : "False");
}

/* ---- the table ---- */

#define X(id, name, resumed, shrinks) {name, OWN(losses[LOSS_##id])},
#define LOSS_MEMBERS                  ENGINE_LOSS_TABLE(X)

const struct metrics_family metrics__families[] = {
    /* Requests. */
    VALUE("tandem_requests_total", COUNTER, TANDEM, OWN(started), "Requests accepted."),
    VALUE("tandem_requests_in_progress", GAUGE, TANDEM, OWN(in_progress), "Requests accepted and not finished."),
    BY("tandem_requests", GAUGE, TANDEM, FORM_COUNT, "state", "Requests by where they are.",
       {"queued", OWN(now.phases[GEN_QUEUED])}, {"prefill", OWN(now.phases[GEN_PREFILL])},
       {"decode", OWN(now.phases[GEN_DECODE])}, {"calling", OWN(now.phases[GEN_CALLING])},
       {"preempted", OWN(now.phases[GEN_PREEMPTED])}, {"recovering", OWN(now.phases[GEN_RECOVERING])}),
    BY("tandem_requests_finished_total", COUNTER, TANDEM, FORM_COUNT, "reason", "Requests finished, by reason.",
       {"stop", OWN(finished[FINISH_STOP])}, {"length", OWN(finished[FINISH_LENGTH])},
       {"cancelled", OWN(finished[FINISH_CANCELLED])}, {"error", OWN(finished[FINISH_ERROR])}),
    BY("tandem_requests_refused_total", COUNTER, TANDEM, FORM_COUNT, "reason",
       "Requests answered with 429: the queue was full, or the wait would have been longer than the request's time.",
       {"queue_full", OWN(now.n_refused_full)}, {"wait", OWN(now.n_refused_late)}),
    BY("tandem_requests_late_total", COUNTER, TANDEM, FORM_COUNT, "limit",
       "Requests that ended because their time was over, by which.", {"queue", OWN(now.n_late[GEN_LIMIT_QUEUE])},
       {"first_token", OWN(now.n_late[GEN_LIMIT_FIRST_TOKEN])}, {"total", OWN(now.n_late[GEN_LIMIT_TOTAL])}),
    VALUE("tandem_adapter_requests_total", COUNTER, TANDEM, OWN(now.adapters.requests),
          "Requests that named an adapter of the model."),
    VALUE("tandem_adapters", GAUGE, TANDEM, OWN(now.adapters.n), "Adapters that requests may name."),
    BY("tandem_adapter_memory_bytes", GAUGE, TANDEM, FORM_COUNT, "kind",
       "Memory of the model's adapters: what they take, and what --lora-memory allows.",
       {"used", OWN(now.adapters.size)}, {"limit", OWN(now.adapters.limit)}),
    BY("tandem_adapter_changes_total", COUNTER, TANDEM, FORM_COUNT, "what",
       "Adapters that engines have loaded, again after a loss too, could not load, or dropped.",
       {"loaded", OWN(now.adapters.loads)}, {"failed", OWN(now.adapters.failed_loads)},
       {"dropped", OWN(now.adapters.drops)}),
    DOUBLE("tandem_predicted_wait_seconds", TANDEM, OWN(now.wait_s),
           "Until a request that comes now would be begun; 0 also while nothing is known."),
    VALUE("tandem_prompt_tokens_total", COUNTER, TANDEM, OWN(prompt_tokens), "Prompt tokens of admitted requests."),
    VALUE("tandem_cached_prompt_tokens_total", COUNTER, TANDEM, OWN(cached_tokens),
          "Of them, taken from the prefix cache instead of being computed."),
    VALUE("tandem_generated_tokens_total", COUNTER, TANDEM, OWN(generated_tokens), "Tokens generated."),
    HISTOGRAM("tandem_time_to_first_token_seconds", TANDEM, TTFT, "From a request's last byte to its first token."),
    HISTOGRAM("tandem_inter_token_seconds", TANDEM, INTER_TOKEN, "Between the tokens of a choice."),
    HISTOGRAM("tandem_request_seconds", TANDEM, E2E, "From a request's last byte to its last token."),
    HISTOGRAM("tandem_queue_seconds", TANDEM, QUEUE,
              "Waiting for the engine, its loading included, until it admitted the request."),
    HISTOGRAM("tandem_prefill_seconds", TANDEM, PREFILL, "From admission to the first token."),
    HISTOGRAM("tandem_decode_seconds", TANDEM, DECODE, "From the first token to the last."),
    HISTOGRAM("tandem_request_prompt_tokens", TANDEM, PROMPT, "Prompt tokens of a request."),
    HISTOGRAM("tandem_request_computed_prompt_tokens", TANDEM, COMPUTED,
              "Prompt tokens of a request that were not in the prefix cache."),
    HISTOGRAM("tandem_request_generated_tokens", TANDEM, GENERATED, "Tokens generated for a request, all choices."),

    /* The model and its engine. */
    INFO("tandem_model_info", TANDEM, model_info, "What is served; always 1."),
    VALUE("tandem_model_ready", GAUGE, TANDEM, OWN(ready), "1 when the model's engine answers."),
    VALUE("tandem_engine_restarts_total", COUNTER, TANDEM, OWN(restarts), "Engine processes lost."),
    BY("tandem_engine_losses_total", COUNTER, TANDEM, FORM_COUNT, "loss", "Engine processes lost, by how.",
       LOSS_MEMBERS),
    VALUE("tandem_requests_resumed_total", COUNTER, TANDEM, OWN(resumed),
          "Times that a request went on in another engine after its own was lost."),
    HISTOGRAM("tandem_recovery_seconds", TANDEM, RECOVERY,
              "From the moment a loss was noticed to the next token of a request that was in the lost engine."),
    VALUE("tandem_requests_quarantined_total", COUNTER, TANDEM, OWN(quarantined),
          "Requests that were refused because their prompt ends engines."),
    BY("tandem_memory_bytes", GAUGE, TANDEM, FORM_COUNT, "kind",
       "Memory of the model: weights; kv_pool, of which kv_usable was not given back under memory pressure, "
       "kv_referenced is held by running sequences and kv_cached kept "
       "for "
       "prefix hits; scratch of a step; engine_resident, of the engine's process, mapped weights and used KV included.",
       {"weights", ENGINE("weights_size")}, {"kv_pool", ENGINE("kv_size")}, {"kv_usable", ENGINE("kv_usable_size")},
       {"kv_referenced", OWN(kv_referenced_size)}, {"kv_cached", OWN(kv_cached_size)},
       {"scratch", ENGINE("scratch_size")}, {"engine_resident", ENGINE("resident_size")}),
    BY("tandem_engine_steps_total", COUNTER, TANDEM, FORM_COUNT, "phase", "Forward passes, by what they held.",
       {"decode", ENGINE("steps_decode")}, {"prefill", ENGINE("steps_prefill")}, {"mixed", ENGINE("steps_mixed")}),
    BY("tandem_engine_step_seconds_total", COUNTER, TANDEM, FORM_SECONDS, "phase", "Time in steps, by what they held.",
       {"decode", ENGINE("step_decode_ns")}, {"prefill", ENGINE("step_prefill_ns")},
       {"mixed", ENGINE("step_mixed_ns")}),
    ROWS("tandem_rows_per_step", TANDEM, rows_per_step, "Rows of a forward pass.", {NULL, ENGINE("rows_decode")},
         {NULL, ENGINE("rows_prefill")}),
    ROWS("tandem_sampled_rows_per_step", TANDEM, seqs_per_step, "Sequences that got a token in a step.",
         {NULL, ENGINE("generated_tokens")}),

    /* The names and meanings of vLLM's engine, for dashboards and gateways that look for them. */
    VALUE("vllm:num_requests_running", GAUGE, VLLM, OWN(running), "Requests that the engine works on."),
    VALUE("vllm:num_requests_waiting", GAUGE, VLLM, OWN(waiting),
          "Requests that wait for the engine, preempted ones too."),
    DOUBLE("vllm:kv_cache_usage_perc", VLLM, OWN(kv_usage),
           "Share of the KV pages that running sequences hold, 0 to 1."),
    VALUE("vllm:prefix_cache_queries_total", COUNTER, VLLM, ENGINE("queried_tokens"),
          "Prompt tokens looked up in the prefix cache."),
    VALUE("vllm:prefix_cache_hits_total", COUNTER, VLLM, ENGINE("cached_tokens"), "Of them, found."),
    VALUE("vllm:num_preemptions_total", COUNTER, VLLM, ENGINE("preemptions"), "Sequences preempted."),
    VALUE("vllm:prompt_tokens_total", COUNTER, VLLM, OWN(prompt_tokens), "Prompt tokens, cached ones included."),
    VALUE("vllm:prompt_tokens_cached_total", COUNTER, VLLM, OWN(cached_tokens), "Prompt tokens from the prefix cache."),
    BY("vllm:prompt_tokens_by_source_total", COUNTER, VLLM, FORM_COUNT, "source",
       "Prompt tokens by where they came from.", {"local_compute", OWN(computed_tokens)},
       {"local_cache_hit", OWN(cached_tokens)}),
    VALUE("vllm:generation_tokens_total", COUNTER, VLLM, OWN(generated_tokens), "Tokens generated."),
    BY("vllm:request_success_total", COUNTER, VLLM, FORM_COUNT, "finished_reason", "Requests finished, by reason.",
       {"stop", OWN(finished[FINISH_STOP])}, {"length", OWN(finished[FINISH_LENGTH])},
       {"abort", OWN(finished[FINISH_CANCELLED])}, {"error", OWN(finished[FINISH_ERROR])}),
    ROWS("vllm:iteration_tokens_total", VLLM, rows_per_step, "Tokens of an engine step.", {NULL, ENGINE("rows_decode")},
         {NULL, ENGINE("rows_prefill")}),
    HISTOGRAM("vllm:request_prompt_tokens", VLLM, PROMPT, "Prompt tokens of a request."),
    HISTOGRAM("vllm:request_prefill_kv_computed_tokens", VLLM, COMPUTED,
              "Prompt tokens of a request that were computed."),
    HISTOGRAM("vllm:request_generation_tokens", VLLM, GENERATED, "Tokens generated for a request."),
    HISTOGRAM("vllm:request_max_num_generation_tokens", VLLM, LONGEST, "Tokens of a request's longest choice."),
    HISTOGRAM("vllm:request_params_n", VLLM, CHOICES, "The parameter n of requests."),
    HISTOGRAM("vllm:request_params_max_tokens", VLLM, MAX_TOKENS, "The parameter max_tokens of requests that gave it."),
    HISTOGRAM("vllm:time_to_first_token_seconds", VLLM, TTFT, "Time to the first token."),
    HISTOGRAM("vllm:inter_token_latency_seconds", VLLM, INTER_TOKEN, "Time between tokens."),
    HISTOGRAM("vllm:request_time_per_output_token_seconds", VLLM, PER_TOKEN, "Mean time per token of a request."),
    HISTOGRAM("vllm:e2e_request_latency_seconds", VLLM, E2E, "Time of a request from its arrival to its end."),
    HISTOGRAM("vllm:request_queue_time_seconds", VLLM, QUEUE, "Time of a request in the queue."),
    HISTOGRAM("vllm:request_inference_time_seconds", VLLM, INFERENCE,
              "Time of a request from admission to its last token."),
    HISTOGRAM("vllm:request_prefill_time_seconds", VLLM, PREFILL,
              "Time of a request from admission to its first token."),
    HISTOGRAM("vllm:request_decode_time_seconds", VLLM, DECODE, "Time of a request from its first token to its last."),
    VALUE("vllm:spec_decode_num_drafts_total", COUNTER, VLLM, ENGINE("spec_drafts"), "Drafts made."),
    VALUE("vllm:spec_decode_num_draft_tokens_total", COUNTER, VLLM, ENGINE("spec_draft_tokens"), "Tokens drafted."),
    VALUE("vllm:spec_decode_num_accepted_tokens_total", COUNTER, VLLM, ENGINE("spec_accepted_tokens"),
          "Drafted tokens that the model agreed with."),
    INFO("vllm:cache_config_info", VLLM, cache_config, "Size and kind of the KV cache; always 1."),

    /* Models that come and go. */
    VALUE("tandem_models_memory_budget_bytes", GAUGE, NO, SERVER(memory.budget),
          "Memory that all engines together may take (--memory); 0: no limit."),
    VALUE("tandem_models_memory_used_bytes", GAUGE, NO, SERVER(memory.used),
          "Of it, what is planned for engines that are there, come or go."),
    VALUE("tandem_models_waiting", GAUGE, NO, SERVER(memory.waiting), "Models that wait to be loaded."),
    VALUE("tandem_model_loads_total", COUNTER, NO, SERVER(memory.loads), "Loads begun."),
    VALUE("tandem_model_loads_failed_total", COUNTER, NO, SERVER(memory.failed_loads), "Loads that failed."),
    BY("tandem_model_load_seconds_total", COUNTER, NO, FORM_SECONDS, NULL, "Time of the loads that succeeded.",
       {NULL, SERVER(memory.load_ns)}),
    BY("tandem_model_unloads_total", COUNTER, NO, FORM_COUNT, "reason",
       "Models unloaded because others needed the memory, or because nobody had used them for their keep-alive.",
       {"evicted", SERVER(memory.evictions)}, {"idle", SERVER(memory.idle_unloads)}),

    /* API keys. */
    VALUE("tandem_key_requests_total", COUNTER, BY_KEY, KEY(n_requests), "Requests begun: those that limits count."),
    VALUE("tandem_key_requests_in_progress", GAUGE, BY_KEY, KEY(n_running), "Of them, those that are not over."),
    BY("tandem_key_requests_refused_total", COUNTER, BY_KEY, FORM_COUNT, "limit", "Requests refused by a limit.",
       {"requests_per_minute", KEY(n_refused[API_KEY_REQUESTS])}, {"tokens_per_minute", KEY(n_refused[API_KEY_TOKENS])},
       {"max_concurrent", KEY(n_refused[API_KEY_CONCURRENT])}),
    BY("tandem_key_tokens_total", COUNTER, BY_KEY, FORM_COUNT, "kind", "Tokens of prompts and answers.",
       {"prompt", KEY(n_prompt_tokens)}, {"generated", KEY(n_generated_tokens)}),

    /* MCP servers. */
    BY("tandem_mcp_calls_total", COUNTER, BY_MCP, FORM_COUNT, "outcome",
       "Calls of tools by what became of them: answered; the tool said that it failed; arguments that are not what its "
       "schema wants; no answer in time; the server was not there or its answer no use; the request ended before it.",
       {"ok", MCP(calls[MCP_CALL_OK])}, {"tool_error", MCP(calls[MCP_CALL_TOOL_ERROR])},
       {"invalid", MCP(calls[MCP_CALL_INVALID])}, {"timeout", MCP(calls[MCP_CALL_TIMEOUT])},
       {"failed", MCP(calls[MCP_CALL_FAILED])}, {"cancelled", MCP(calls[MCP_CALL_CANCELLED])}),
    BY("tandem_mcp_call_seconds_total", COUNTER, BY_MCP, FORM_SECONDS, NULL, "Time of these calls, waiting included.",
       {NULL, MCP(call_ns)}),
    VALUE("tandem_mcp_turns_total", COUNTER, NO, SERVER(mcp_turns),
          "Turns of models that ended with calls of MCP tools."),

    /* The HTTP server and the gateway's process. */
    BY("tandem_access_refused_total", COUNTER, NO, FORM_COUNT, "reason",
       "Requests not let in: without a key, with a wrong one, by an unknown Host, from a page of another origin.",
       {"no_key", SERVER(access.no_key)}, {"bad_key", SERVER(access.bad_key)}, {"host", SERVER(access.bad_host)},
       {"origin", SERVER(access.bad_origin)}),
    BY("tandem_reloads_total", COUNTER, NO, FORM_COUNT, "result", "Reloads by SIGHUP; failed: in a part.",
       {"ok", SERVER(access.reloads)}, {"failed", SERVER(access.failed_reloads)}),
    VALUE("tandem_volatile_lines_dropped_total", COUNTER, NO, SERVER(access.volatile_lines),
          "Lines that change with each request, left out of system prompts (--drop-volatile-lines)."),
    VALUE("tandem_http_connections_open", GAUGE, NO, SERVER(http.connections_open), "Connections open now."),
    VALUE("tandem_http_connections_total", COUNTER, NO, SERVER(http.connections), "Connections accepted."),
    VALUE("tandem_http_requests_total", COUNTER, NO, SERVER(http.requests), "HTTP requests read."),
    BY("tandem_http_replies_total", COUNTER, NO, FORM_COUNT, "status",
       "HTTP replies, by the first digit of their status.", {"2xx", SERVER(http.replies[2])},
       {"3xx", SERVER(http.replies[3])}, {"4xx", SERVER(http.replies[4])}, {"5xx", SERVER(http.replies[5])}),
    VALUE("tandem_http_received_bytes_total", COUNTER, NO, SERVER(http.bytes_in), "Bytes read."),
    VALUE("tandem_http_sent_bytes_total", COUNTER, NO, SERVER(http.bytes_out), "Bytes written."),
    VALUE("tandem_http_parse_errors_total", COUNTER, NO, SERVER(http.parse_errors),
          "Requests refused by the HTTP parser."),
    VALUE("tandem_http_timeouts_total", COUNTER, NO, SERVER(http.timeouts), "Connections closed by a time-out."),
    VALUE("tandem_memory_pressure", GAUGE, NO, SERVER(pressure),
          "How short the memory of the system or of the control group is: 0 not, 1 caches give way, 2 what runs too."),
    BY("tandem_otlp_spans_total", COUNTER, NO, FORM_COUNT, "result",
       "Spans by what became of them: taken by the collector, dropped because the queue was full, or refused or given "
       "up.",
       {"exported", SERVER(otlp.exported)}, {"dropped", SERVER(otlp.dropped)}, {"failed", SERVER(otlp.failed)}),
    VALUE("tandem_otlp_spans_queued", GAUGE, NO, SERVER(otlp.queued), "Spans that wait to be sent."),
    VALUE("tandem_http_refused_connections_total", COUNTER, NO, SERVER(http.refused),
          "Connections over the limit of all or of one client's address."),
    VALUE("tandem_tls_handshake_failures_total", COUNTER, NO, SERVER(http.tls_failures),
          "TLS handshakes that failed, were broken off or took too long."),
    VALUE("tandem_tls_certificate_expires_seconds", GAUGE, NO, SERVER(http.tls_expires_s),
          "When the TLS certificate ends, in seconds since 1970; 0 without TLS."),
    VALUE("tandem_journal_failing", GAUGE, NO, SERVER(journal.failing),
          "1 while the journal cannot be written; 0 otherwise, and without a journal."),
    VALUE("tandem_journal_bytes", GAUGE, NO, SERVER(journal.size), "Bytes in use in the journal's database."),
    VALUE("tandem_journal_limit_bytes", GAUGE, NO, SERVER(journal.max_size),
          "Bytes that it may use; 0: no limit, or no journal."),
    BY("tandem_journal_requests", GAUGE, NO, FORM_COUNT, "state", "Requests in the journal.",
       {"queued", SERVER(journal.requests[JOURNAL_QUEUED])}, {"running", SERVER(journal.requests[JOURNAL_RUNNING])},
       {"completed", SERVER(journal.requests[JOURNAL_COMPLETED])}, {"failed", SERVER(journal.requests[JOURNAL_FAILED])},
       {"cancelled", SERVER(journal.requests[JOURNAL_CANCELLED])}),
    VALUE("tandem_journal_commits_total", COUNTER, NO, SERVER(journal.commits), "Transactions committed."),
    VALUE("tandem_journal_errors_total", COUNTER, NO, SERVER(journal.errors), "Transactions that failed."),
    VALUE("tandem_journal_refused_total", COUNTER, NO, SERVER(journal.refused),
          "Requests refused because the journal could not take them."),
    VALUE("tandem_journal_dropped_total", COUNTER, NO, SERVER(journal.dropped),
          "Finished requests dropped because they were too old or others needed the room."),
    VALUE("tandem_journal_damaged_total", COUNTER, NO, SERVER(journal.damaged),
          "Entries whose checksum was wrong and that were not given out."),
    BY("tandem_batches", GAUGE, NO, FORM_COUNT, "state", "Batches in the journal.",
       {"validating", SERVER(journal.batches[BATCH_VALIDATING])},
       {"in_progress", SERVER(journal.batches[BATCH_IN_PROGRESS])},
       {"finalizing", SERVER(journal.batches[BATCH_FINALIZING])},
       {"cancelling", SERVER(journal.batches[BATCH_CANCELLING])},
       {"completed", SERVER(journal.batches[BATCH_COMPLETED])}, {"failed", SERVER(journal.batches[BATCH_FAILED])},
       {"expired", SERVER(journal.batches[BATCH_EXPIRED])}, {"cancelled", SERVER(journal.batches[BATCH_CANCELLED])}),
    VALUE("tandem_batch_rows_running", GAUGE, NO, SERVER(batches.running), "Rows of batches under way."),
    BY("tandem_batch_rows_total", COUNTER, NO, FORM_COUNT, "outcome",
       "Rows of batches that have ended and are saved; given_up: were begun in vain, and run again unless their batch "
       "has ended.",
       {"completed", SERVER(batches.completed)}, {"failed", SERVER(batches.failed)},
       {"given_up", SERVER(batches.given_up)}),
    VALUE("tandem_files", GAUGE, NO, SERVER(journal.files), "Files of /v1/files."),
    VALUE("tandem_file_bytes", GAUGE, NO, SERVER(journal.file_size), "Bytes in them."),
    BY("process_cpu_seconds_total", COUNTER, NO, FORM_SECONDS, NULL, "Processor time of the gateway.",
       {NULL, SERVER(cpu_ns)}),
    BY("process_start_time_seconds", GAUGE, NO, FORM_SECONDS, NULL, "When the gateway started, in seconds since 1970.",
       {NULL, SERVER(start_ns)}),
    VALUE("process_resident_memory_bytes", GAUGE, NO, SERVER(resident_size), "Resident memory of the gateway."),
    VALUE("process_open_fds", GAUGE, NO, SERVER(open_descriptors), "Open descriptors of the gateway."),
};
#undef X
const int metrics__n_families = (int)ARRAY_LEN(metrics__families);

/* ---- the engine's statistics ---- */

static const size_t gauges[] = {
#define X(name) offsetof(struct engine_stats, name),
    ENGINE_STATS_GAUGES(X)
#undef X
};

const struct metrics_field metrics__fields[] = {
#define X(name, help) {#name, help ".", offsetof(struct engine_stats, name)},
    ENGINE_STATS_TABLE(X)
#undef X
};
const int metrics__n_fields = (int)ARRAY_LEN(metrics__fields);

const struct metrics_field *metrics__field(const char *name)
{
    for (int i = 0; i < metrics__n_fields; i++) {
        if (strcmp(metrics__fields[i].name, name) == 0) {
            return &metrics__fields[i];
        }
    }
    return NULL;
}

bool metrics__is_gauge(const struct metrics_field *f)
{
    for (size_t i = 0; i < ARRAY_LEN(gauges); i++) {
        if (gauges[i] == f->at) {
            return true;
        }
    }
    return false;
}
